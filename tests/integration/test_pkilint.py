# SPDX-License-Identifier: MIT
"""Everything that the CA signs, as pkilint judges it."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from running import TENANT, Device, Gateway, free_port, trstctl

PROGRAM = Path(__file__).with_name("clients") / "pkilint_run.py"

#: A Python that has pkilint.
_PYTHON = os.environ.get("TRSTCTL_PKILINT", "")

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not _PYTHON and "TRSTCTL_REQUIRE_CLIENTS" not in os.environ,
        reason="TRSTCTL_PKILINT does not name a Python with pkilint",
    ),
]

_LABELS = (
    "labels: {server: {profile: tls-server}, client: {profile: tls-client}, "
    "many: {profile: many}}"
)
_PROTOCOLS = (
    f'est: {{enabled: true, tenant_id: "{TENANT}", {_LABELS}}}, '
    f'scep: {{enabled: true, tenant_id: "{TENANT}"}}, '
    "revocation: {enabled: true}"
)
#: Everything that a profile can put into a certificate.
_MORE = """\
profiles:
  many:
    subject: {CN: {}, O: {}, C: {}, serialNumber: {}}
    names: {dns: ["*"], ip: ["*"], uri: ["*"], email: ["*"]}
    certificate_policies: [2.5.29.32.0]
    key_types: [p-256, p-384, p-521, ed25519, rsa]
"""
_AUTHORITY = """\
authorities:
  issuing:
    public_url: http://pki.example.com
    crl: {pause: 1s, delta_interval: 1m, partitions: 4}
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return a gateway with partitions, deltas and names for the world."""
    found = Gateway(
        tmp_path_factory.mktemp("pkilint") / "state", http_port=free_port()
    )
    found.configure(_PROTOCOLS, _MORE)
    found.start()
    assert found.stop() == 0
    found.config.write_text(found.config.read_text() + _AUTHORITY)
    found.start()
    try:
        found.add_password("device")
        yield found
    finally:
        found.end()


def lint(*documents: str) -> dict[str, list[str]]:
    """Return what pkilint finds in each document of ``KIND:FILE``."""
    done = subprocess.run(
        [_PYTHON, str(PROGRAM), *documents],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: Mapping[str, Any] = json.loads(done.stdout)
    return {
        file: [
            f"{result['node_path']}: {one['code']} {one['message']}"
            for result in found["results"]
            for one in result["finding_descriptions"]
        ]
        for file, found in told.items()
    }


def fetch(gateway: Gateway, path: str, body: bytes | None = None) -> bytes:
    """Fetch something over plain HTTP."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{gateway.http_port}{path}",
        body,
        {"Content-Type": "application/ocsp-request"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: bytes = answer.read()
        return found


def requests() -> Iterator[tuple[str, bytes]]:
    """Return labels and requests of many kinds."""
    yield "", Device("plain").request()
    yield "", Device("named").request("named.example.com")
    yield "server", Device("s.example.com").request("s.example.com")
    yield "client", Device("c.example.com").request("c.example.com")
    subject = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "CH"),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Example"),
            x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, "SN-1"),
        ]
    )
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("many.example.com"),
            x509.IPAddress(ip_address("192.0.2.1")),
            x509.IPAddress(ip_address("2001:db8::1")),
            x509.UniformResourceIdentifier("https://many.example.com/1"),
            x509.RFC822Name("device@example.com"),
        ]
    )
    for key in (
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ):
        digest = None
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            digest = hashes.SHA256()
        for of in (subject, x509.Name([])):
            csr = (
                x509.CertificateSigningRequestBuilder(of)
                .add_extension(names, critical=not of.rdns)
                .sign(key, digest)
            )
            yield "many", base64.encodebytes(csr.public_bytes(Encoding.DER))


def statuses(gateway: Gateway, certificate: bytes) -> Iterator[bytes]:
    """Return OCSP responses about a certificate and one that is not."""
    issuer = x509.load_pem_x509_certificate(
        (gateway.folder / "ca" / "issuing.pem").read_bytes()
    )
    parsed = x509.load_der_x509_certificate(certificate)
    for builder in (
        ocsp.OCSPRequestBuilder().add_certificate(
            parsed, issuer, hashes.SHA256()
        ),
        ocsp.OCSPRequestBuilder()
        .add_certificate(parsed, issuer, hashes.SHA1())
        .add_extension(x509.OCSPNonce(b"n" * 32), critical=False),
    ):
        asked = builder.build().public_bytes(Encoding.DER)
        yield fetch(gateway, "/ocsp/issuing", asked)


class PkilintTests:
    """RFC 5280 and RFC 6960, as somebody else reads them."""

    def test_everything_that_is_signed(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """No finding, down to notices: certificates, CRLs, OCSP."""
        issued = []
        for label, request in requests():
            answer = gateway.enroll(request, label=label)
            assert answer.status == 200, answer.body
            issued.append(answer.certificate)
        fetch(gateway, "/scep?operation=GetCACert")
        serials = [
            f"{x509.load_der_x509_certificate(each).serial_number:x}"
            for each in issued
        ]
        before = self.full_crl(gateway)
        for serial, how in (
            (serials[0], ("--reason", "keyCompromise")),
            (serials[1], ("--hold",)),
        ):
            trstctl(
                *("cert", "revoke", "--yes", *how, serial),
                config=gateway.config,
            )
        documents = [
            ("ocsp", answer)
            for each in issued[:3]
            for answer in statuses(gateway, each)
        ]
        deadline = time.monotonic() + 30
        while before == self.full_crl(gateway) or 2 != len(
            x509.load_der_x509_crl(self.full_crl(gateway))
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        documents += [
            ("crl", fetch(gateway, f"/crl/{name}.crl"))
            for name in (
                *("issuing", "issuing/delta"),
                *(f"issuing/4/{part}" for part in range(4)),
            )
        ]
        documents += self.certificates(gateway)
        assert len(documents) >= 6 + 6 + len(issued) + 4
        found = lint(*written(tmp_path, documents))
        assert len(documents) == len(found)
        # The server's own certificate is for this host, at its first start.
        noticed = [
            text
            for texts in found.values()
            for text in texts
            if "localhost" not in text
        ]
        assert noticed == []

    def test_linter_finds_something(self, tmp_path: Path) -> None:
        """What a linter never says is worth nothing."""
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
        key = ec.generate_private_key(ec.SECP256R1())
        bad = x509.CertificateBuilder(
            issuer_name=name,
            subject_name=name,
            public_key=key.public_key(),
            serial_number=1,
            not_valid_before=datetime(2026, 1, 1, tzinfo=UTC),
            not_valid_after=datetime(2027, 1, 1, tzinfo=UTC),
        ).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=False
        )
        der = bad.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
        (texts,) = lint(*written(tmp_path, [("certificate", der)])).values()
        assert any("skid_ca_missing" in text for text in texts)

    def full_crl(self, gateway: Gateway) -> bytes:
        """Return the full CRL of this moment."""
        return fetch(gateway, "/crl/issuing.crl")

    def certificates(self, gateway: Gateway) -> list[tuple[str, bytes]]:
        """
        Return the CA's, those of its next key and root with the links
        between them, and each of the inventory, its own keys' too.
        """
        trstctl(
            *("ca", "rollover", "prepare", "issuing", "--new-root"),
            config=gateway.config,
        )
        folder = gateway.folder / "ca"
        assert (folder / "issuing-2-links.pem").exists()
        chain = [
            each.public_bytes(Encoding.DER)
            for path in sorted(folder.glob("*.pem"))
            for each in x509.load_pem_x509_certificates(path.read_bytes())
        ]
        with sqlite3.connect(gateway.folder / "trstctl.db") as store:
            rows = store.execute(
                "SELECT der FROM requests WHERE der IS NOT NULL"
            )
            chain += [der for (der,) in rows]
        return [("certificate", der) for der in chain]


def written(folder: Path, documents: list[tuple[str, bytes]]) -> list[str]:
    """Write documents, and return them as pkilint's program takes them."""
    found = []
    for number, (kind, der) in enumerate(documents):
        path = folder / f"{number}.der"
        path.write_bytes(der)
        found.append(f"{kind}:{path}")
    return found
