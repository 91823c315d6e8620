# SPDX-License-Identifier: MIT
"""What the authority and its ceremony make, judged by ``openssl``."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from trstctl.backends.keyfiles import write_private_key
from trstctl.ca.authority import Authority, new_serial
from trstctl.ca.ceremony import (
    fingerprint,
    generate_key,
    issuing_csr,
    make_issuing,
    make_root,
    public_octets,
)
from trstctl.ca.pointers import NOWHERE, Places
from trstctl.interfaces import ISigner
from trstctl.model import Approved, Extension, GeneralName, NameAttribute
from trstctl.pkix.algorithms import describe_public_key, sign
from trstctl.pkix.names import encode_general_names

#: ``openssl verify`` is told this time, too.
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

#: What OpenSSL 3.0 knows; it has no ML-DSA.
KNOWN = ["p-256", "p-384", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519"]


@implementer(ISigner)
class KeySigner:
    """Signs at once with any key."""

    def __init__(self, key: Any) -> None:
        self.key = key

    def public_key(self) -> bytes:
        return public_octets(self.key)

    def sign(self, tbs: bytes, algorithm: str) -> Deferred[bytes]:
        return succeed(sign(self.key, algorithm, tbs))


def openssl(*arguments: str | Path) -> str:
    """Run ``openssl`` and return what it says; fail if it fails."""
    done = subprocess.run(
        ["openssl", *map(str, arguments)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def write_pem(path: Path, certificate: bytes) -> Path:
    path.write_bytes(
        x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
    )
    return path


def wanted(device_key: Any, name: str, not_after: datetime) -> Approved:
    return Approved(
        profile="tls-server",
        profile_version="00",
        subject=(
            (NameAttribute("2.5.4.6", "CH", 19),),
            (NameAttribute("2.5.4.10", "Exämple AG"),),
            (
                NameAttribute("2.5.4.3", name),
                NameAttribute("2.5.4.5", "SN-1", 19),
            ),
        ),
        names=(GeneralName("dns", name),),
        public_key=describe_public_key(public_octets(device_key)),
        not_before=NOW - timedelta(minutes=5),
        not_after=not_after,
        extensions=(
            Extension("2.5.29.19", True, b"\x30\x00"),
            Extension("2.5.29.15", True, b"\x03\x02\x07\x80"),
            Extension(
                "2.5.29.37", False, bytes.fromhex("300a06082b06010505070301")
            ),
            Extension(
                "2.5.29.17",
                False,
                encode_general_names(
                    [GeneralName("dns", name), GeneralName("ip", "10.0.0.7")]
                ),
            ),
        ),
    )


class OpenSSLTests:
    """``openssl verify`` and ``openssl x509`` find nothing wrong."""

    @pytest.mark.parametrize(
        ("root_algorithm", "algorithm"),
        [*((one, one) for one in KNOWN), ("rsa-4096", "p-256")],
    )
    @pytest.mark.parametrize("urls", [False, True])
    def test_chain_verifies(
        self, tmp_path, root_algorithm, algorithm, urls
    ) -> None:
        """Root, issuing CA and leaf verify, strictly (RFC 5280)."""
        root_key, key = generate_key(root_algorithm), generate_key(algorithm)
        root = make_root(root_key, "Example Root", NOW, os.urandom)
        issuing = make_issuing(
            root_key, root, public_octets(key), "Example CA", NOW, os.urandom
        )
        places = Places(
            crl=("http://ca.example/crl",),
            ocsp=("http://ocsp.example",),
            issuer=("http://ca.example/cer",),
        )
        authority = Authority(
            "a",
            issuing,
            (issuing, root),
            KeySigner(key),
            places=places if urls else NOWHERE,
        )
        device_key = generate_key()
        serial = new_serial(os.urandom)
        leaf: list[bytes] = []
        authority.sign(
            authority.prepare(
                wanted(device_key, "a.example.com", NOW + timedelta(days=90)),
                serial,
            )
        ).addCallback(leaf.append)
        paths = [
            write_pem(tmp_path / name, certificate)
            for name, certificate in (
                ("leaf.pem", leaf[0]),
                ("issuing.pem", issuing),
                ("root.pem", root),
            )
        ]
        said = openssl(
            "verify",
            "-x509_strict",
            "-policy_check",
            "-attime",
            str(int(NOW.timestamp())),
            "-purpose",
            "sslserver",
            "-verify_hostname",
            "a.example.com",
            "-CAfile",
            paths[2],
            "-untrusted",
            paths[1],
            paths[0],
        )
        assert said.endswith(": OK\n")
        text = openssl(
            "x509", "-in", paths[0], "-noout", "-serial", "-ext",
            "subjectAltName,basicConstraints",
        )  # fmt: skip
        assert f"serial={serial.upper()}" in text
        assert "DNS:a.example.com, IP Address:10.0.0.7" in text
        assert "CA:FALSE" in text
        # Our writer's octets survive another's reading and writing.
        openssl(
            "x509", "-in", paths[0], "-outform", "DER",
            "-out", tmp_path / "again.der",
        )  # fmt: skip
        assert leaf[0] == (tmp_path / "again.der").read_bytes()

    def test_validity_across_2050(self, tmp_path) -> None:
        """RFC 5280, section 4.1.2.5: both forms of time are understood."""
        key = generate_key()
        root = make_root(key, "Long Root", NOW, os.urandom, 40)
        authority = Authority("a", root, (root,), KeySigner(key))
        leaf: list[bytes] = []
        authority.sign(
            authority.prepare(
                wanted(key, "b.example.com", datetime(2051, 2, 3, tzinfo=UTC)),
                "1",
            )
        ).addCallback(leaf.append)
        path = write_pem(tmp_path / "leaf.pem", leaf[0])
        assert "notAfter=Feb  3 00:00:00 2051 GMT\n" == openssl(
            "x509", "-in", path, "-noout", "-enddate"
        )

    def test_fingerprint(self, tmp_path) -> None:
        """The fingerprint reads as ``openssl`` prints it."""
        root = make_root(generate_key(), "Root", NOW, os.urandom)
        path = write_pem(tmp_path / "root.pem", root)
        said = openssl(
            "x509", "-in", path, "-noout", "-fingerprint", "-sha256"
        )
        assert fingerprint(root) == said.strip().split("=")[1]

    @pytest.mark.parametrize("algorithm", KNOWN)
    def test_request_for_an_offline_root(self, tmp_path, algorithm) -> None:
        """``openssl`` as the offline root signs what it is asked for."""
        path = tmp_path / "issuing.csr"
        path.write_bytes(issuing_csr(generate_key(algorithm), "Example CA"))
        openssl("req", "-in", path, "-verify", "-noout")
        text = openssl("req", "-in", path, "-noout", "-text")
        assert "CA:TRUE, pathlen:0" in text
        assert "Certificate Sign, CRL Sign" in text

    @pytest.mark.parametrize("algorithm", ["p-256", "rsa-2048", "ed25519"])
    @pytest.mark.parametrize("passphrase", [None, b"correct horse"])
    def test_key_file(self, tmp_path, algorithm, passphrase) -> None:
        """Key files, encrypted or not, are plain PKCS#8 for ``openssl``."""
        tmp_path.chmod(0o700)
        path = tmp_path / "ca.key"
        write_private_key(path, generate_key(algorithm), passphrase)
        said = openssl(
            "pkey", "-in", path, "-passin", "pass:correct horse",
            "-check", "-noout",
        )  # fmt: skip
        assert "valid" in said
