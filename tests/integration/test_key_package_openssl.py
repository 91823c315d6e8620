# SPDX-License-Identifier: MIT
"""What is wrapped for a key's owner, opened by ``openssl cms``."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID
from running import require_client

from trstctl.pkix.agreement import envelope_by_agreement
from trstctl.pkix.algorithms import sign
from trstctl.pkix.cms import SIGNED_DATA
from trstctl.pkix.enveloping import envelope
from trstctl.pkix.key_package import (
    asymmetric_key_package,
    prepare_key_package,
    signed_data,
)

pytestmark = pytest.mark.interop


def certificate(key: Any, *, key_identifier: bool = True) -> bytes:
    """Return a self-signed certificate."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "owner")])
    builder = x509.CertificateBuilder(
        name,
        name,
        key.public_key(),
        77,
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2046, 1, 1, tzinfo=UTC),
    )
    if key_identifier:
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
            critical=False,
        )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def pem(path: Path, octets: bytes) -> Path:
    """Write a certificate in PEM."""
    loaded = x509.load_der_x509_certificate(octets)
    path.write_bytes(loaded.public_bytes(Encoding.PEM))
    return path


def openssl(directory: Path, message: bytes, *arguments: str | Path) -> bytes:
    """Return what ``openssl cms`` makes of a message; fail if it fails."""
    (directory / "message").write_bytes(message)
    done = subprocess.run(
        [
            *("openssl", "cms", "-inform", "DER", "-binary"),
            *("-in", directory / "message", "-out", directory / "content"),
            *arguments,
        ],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert 0 == done.returncode, done.stderr
    return (directory / "content").read_bytes()


def key_package() -> tuple[bytes, bytes, bytes]:
    """Return a package, the same signed, and the signer's certificate."""
    key, signer = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    package = asymmetric_key_package(
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        ),
    )
    issued = certificate(signer)
    prepared = prepare_key_package(
        package,
        certificate=issued,
        algorithm="ecdsa-with-sha256",
        certificates=[issued],
    )
    signature = sign(signer, prepared.algorithm, prepared.to_sign)
    return package, prepared.finish(signature), issued


class OwnerTests:
    """``openssl cms`` in the place of the owner."""

    def test_signed_package(self, tmp_path: Path) -> None:
        """The signature of a key package verifies (RFC 9483, 4.1.6)."""
        require_client("openssl")
        package, signed, signer = key_package()
        found = openssl(
            tmp_path,
            signed,
            *("-verify", "-purpose", "any"),
            *("-CAfile", pem(tmp_path / "signer.pem", signer)),
        )
        assert package == found

    @pytest.mark.parametrize("key_identifier", [True, False])
    @pytest.mark.parametrize(
        "key",
        [
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP384R1()),
            ec.generate_private_key(ec.SECP521R1()),
            rsa.generate_private_key(65537, 2048),
        ],
        ids=["p-256", "p-384", "p-521", "rsa"],
    )
    def test_encrypted_package(
        self, tmp_path: Path, key: Any, key_identifier: bool
    ) -> None:
        """Whoever has the key opens the package (RFC 5753, RFC 5652)."""
        require_client("openssl")
        content = signed_data(key_package()[1])
        owner = certificate(key, key_identifier=key_identifier)
        wrap = (
            envelope
            if isinstance(key, rsa.RSAPrivateKey)
            else envelope_by_agreement
        )
        message = wrap(
            content,
            owner,
            cipher="aes-256-cbc",
            random_bytes=os.urandom,
            content_type=SIGNED_DATA,
            by_key=True,
        )
        secret = tmp_path / "owner.key"
        secret.write_bytes(
            key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
        )
        found = openssl(
            tmp_path,
            message,
            *("-decrypt", "-inkey", secret),
            *("-recip", pem(tmp_path / "owner.pem", owner)),
        )
        assert content == found
