# SPDX-License-Identifier: MIT
"""Keys that the gateway makes, fetched by curl and opened by OpenSSL."""

from __future__ import annotations

import base64
import email
from collections.abc import Iterator
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
from est_clients import run, verify
from running import TENANT, Gateway, require_client

from trstctl.pkix import der
from trstctl.pkix.cms import content_info, read_certs_only

pytestmark = pytest.mark.interop

SECRET = "0123456789abcdef" * 4
LABELS = """\
    labels:
      keys:
        serverkeygen: true
        profile: small
        decrypt_keys: {line-7: "file:line-7.key"}
        decrypt_certificates: [OWNERS]
      large: {serverkeygen: true, profile: large}
profiles:
  small: {key_types: [p-256], server_key_generation: true}
  large: {key_types: [rsa], rsa_bits_min: 3072, server_key_generation: true}
"""
#: id-kp-cmKGA (RFC 9480, section 2.2).
_KGA = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.32")
_DECRYPT = "1.2.840.113549.1.9.16.2.37"
_ASYMMETRIC = "1.2.840.113549.1.9.16.2.54"
_CAPABILITY_LIST = "1.2.840.113549.1.9.15"
_CAPABILITIES = der.sequence(
    der.sequence(der.oid("2.16.840.1.101.3.4.1.42")),
    der.sequence(der.oid("2.16.840.1.101.3.4.1.2")),
)


class Owner:
    """A key that others can be encrypted to, with its certificate."""

    def __init__(self, folder: Path, name: str, key: Any) -> None:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        identifier = x509.SubjectKeyIdentifier.from_public_key(
            key.public_key()
        )
        certificate = (
            x509.CertificateBuilder(
                subject,
                subject,
                key.public_key(),
                7,
                datetime(2026, 1, 1, tzinfo=UTC),
                datetime(2046, 1, 1, tzinfo=UTC),
            )
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(Encoding.PEM)
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(self.pem)
        self.key = folder / f"{name}.key"
        self.key.write_bytes(
            key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where everything is."""
    return tmp_path_factory.mktemp("serverkeygen")


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Gateway]:
    """Return one gateway for all of it."""
    found = Gateway(folder / "state")
    found.configure("")
    owners = folder / "owners.pem"
    made = (
        Owner(folder, "rsa", rsa.generate_private_key(65537, 2048)),
        Owner(folder, "ec", ec.generate_private_key(ec.SECP256R1())),
    )
    owners.write_bytes(b"".join(one.pem for one in made))
    secret = found.config.parent / "line-7.key"
    secret.touch(0o600)
    secret.write_text(f"{SECRET}\n")
    labels = LABELS.replace("OWNERS", str(owners))
    text = found.config.read_text().replace("protocols: {}\n", "")
    found.config.write_text(
        f"{text}protocols:\n  est:\n    enabled: true\n"
        f"    tenant_id: {TENANT}\n{labels}"
    )
    found.start()
    try:
        found.add_password("device")
        yield found
    finally:
        found.end()


class Made:
    """What an answer is made of, in files: the key's part, and the PEM."""

    def __init__(self, folder: Path) -> None:
        head, _, body = (folder / "answer").read_bytes().partition(b"\r\n\r\n")
        _, _, fields = head.partition(b"\r\n")
        message = email.message_from_bytes(fields + b"\r\n\r\n" + body)
        first, second = message.get_payload()
        self.kind = first["Content-Type"]
        self.octets: bytes = first.get_payload(decode=True)
        (certificate,) = read_certs_only(second.get_payload(decode=True))
        loaded = x509.load_der_x509_certificate(certificate)
        self.serial = f"{loaded.serial_number:x}"
        self.certificate = folder / "made.pem"
        self.certificate.write_bytes(loaded.public_bytes(Encoding.PEM))


def request_for(name: str, attribute: tuple[str, bytes] | None) -> bytes:
    """Return a DER request, which may name a key to encrypt with."""
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = b""
    if attribute is not None:
        oid, identifier = attribute
        attributes = b"".join(
            sorted(
                der.sequence(der.oid(kind), der.set_of(value))
                for kind, value in (
                    (_CAPABILITY_LIST, _CAPABILITIES),
                    (oid, der.octet_string(identifier)),
                )
            )
        )
    information = der.sequence(
        der.integer(0),
        x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        ).public_bytes(),
        key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        ),
        der.tlv(0xA0, attributes),
    )
    return der.sequence(
        information,
        der.sequence(der.oid("1.2.840.10045.4.3.2")),
        der.bit_string(key.sign(information, ec.ECDSA(hashes.SHA256()))),
    )


class KeyTests:
    """Each form of a key is opened, and is the certificate's."""

    def fetch(
        self,
        gateway: Gateway,
        folder: Path,
        label: str = "keys",
        attribute: tuple[str, bytes] | None = None,
    ) -> Made:
        """Ask for a key as an operator types it."""
        require_client("curl", "openssl")
        csr = request_for("sensor", attribute)
        (folder / "request.b64").write_bytes(base64.encodebytes(csr))
        run(
            *("curl", "-fsSi", "--cacert", gateway.root),
            *("-u", "device:device-password"),
            *("-H", "Content-Type: application/pkcs10"),
            *("--data-binary", "@request.b64", "-o", "answer"),
            f"https://localhost:{gateway.https_port}"
            f"/.well-known/est/{label}/serverkeygen",
            folder=folder,
        )
        return Made(folder)

    def fits(self, made: Made, folder: Path, private: bytes) -> None:
        """Let OpenSSL compare a private key with the certificate."""
        (folder / "made.der").write_bytes(private)
        own = run(
            *("openssl", "pkey", "-inform", "DER", "-in", "made.der"),
            "-pubout",
            folder=folder,
        )
        certified = run(
            *("openssl", "x509", "-in", made.certificate),
            *("-noout", "-pubkey"),
            folder=folder,
        )
        assert own == certified

    def opened(
        self, gateway: Gateway, folder: Path, made: Made, *how: str | Path
    ) -> None:
        """Decrypt and verify a key by ``openssl cms``."""
        assert made.kind.endswith("smime-type=server-generated-key")
        (folder / "sealed").write_bytes(made.octets)
        run(
            *("openssl", "cms", "-decrypt", "-inform", "DER", "-binary"),
            *("-in", "sealed", "-out", "content", *how),
            folder=folder,
        )
        signed = content_info(
            "1.2.840.113549.1.7.2", (folder / "content").read_bytes()
        )
        (folder / "signed").write_bytes(signed)
        run(
            *("openssl", "cms", "-verify", "-inform", "DER", "-binary"),
            *("-in", "signed", "-out", "package", "-purpose", "any"),
            *("-CAfile", gateway.root, "-signer", "signer.pem"),
            folder=folder,
        )
        signer = x509.load_pem_x509_certificate(
            (folder / "signer.pem").read_bytes()
        )
        usage = signer.extensions.get_extension_for_class(
            x509.ExtendedKeyUsage
        )
        assert _KGA in usage.value
        package = (folder / "package").read_bytes()
        told = run(
            *("openssl", "asn1parse", "-inform", "DER", "-in", "package"),
            folder=folder,
        )
        assert "id-ecPublicKey" in told
        (one,) = der.children(der.content(package, der.SEQUENCE))
        _, algorithm, private, *_ = der.children(one[1])
        self.fits(
            made,
            folder,
            der.sequence(der.integer(0), algorithm[2], private[2]),
        )

    @pytest.mark.parametrize(
        ("label", "told"), [("keys", "256 bit"), ("large", "3072 bit")]
    )
    def test_bare(
        self, gateway: Gateway, tmp_path: Path, label: str, told: str
    ) -> None:
        """PKCS #8, of the type and size that the profile has."""
        made = self.fetch(gateway, tmp_path, label)
        assert made.kind == "application/pkcs8"
        (tmp_path / "key.der").write_bytes(made.octets)
        shown = run(
            *("openssl", "pkcs8", "-inform", "DER", "-nocrypt"),
            *("-in", "key.der", "-out", "key.pem"),
            folder=tmp_path,
        ) + run(
            *("openssl", "pkey", "-in", "key.pem", "-noout", "-text"),
            folder=tmp_path,
        )
        assert told in shown
        self.fits(made, tmp_path, made.octets)
        verify(gateway, made.certificate)

    def test_symmetric(self, gateway: Gateway, tmp_path: Path) -> None:
        """``openssl cms -decrypt -secretkey`` (kekri)."""
        made = self.fetch(gateway, tmp_path, attribute=(_DECRYPT, b"line-7"))
        self.opened(
            *(gateway, tmp_path, made, "-secretkey", SECRET),
            *("-secretkeyid", b"line-7".hex()),
        )

    @pytest.mark.parametrize("name", ["rsa", "ec"])
    def test_asymmetric(
        self, gateway: Gateway, folder: Path, tmp_path: Path, name: str
    ) -> None:
        """``openssl cms -decrypt -recip`` (ktri and kari)."""
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        identifier = loaded.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        )
        made = self.fetch(
            gateway,
            tmp_path,
            attribute=(_ASYMMETRIC, identifier.value.digest),
        )
        self.opened(
            *(gateway, tmp_path, made),
            *("-recip", certificate, "-inkey", key),
        )

    def test_again(self, gateway: Gateway, tmp_path: Path) -> None:
        """
        The answer is lost, and lost again as the gateway is killed, and the
        device asks on: another key each time, and every certificate but the
        last is revoked (I-15).
        """
        first = self.fetch(gateway, tmp_path, "large")
        gateway.stop()
        gateway.start("after-commit")
        with pytest.raises(AssertionError):
            self.fetch(gateway, tmp_path, "large")
        gateway.wait()
        gateway.start()
        last = self.fetch(gateway, tmp_path, "large")
        assert first.octets != last.octets
        events = gateway.audit_events()
        serials = {
            kind: [
                self.serial(event)
                for event in events
                if event["event"] == kind
            ]
            for kind in ("certificate.issued", "certificate.revoked")
        }
        *others, own = serials["certificate.issued"][-3:]
        assert [first.serial, last.serial] == [others[0], own]
        assert others == serials["certificate.revoked"][-2:][::-1]
        assert own not in serials["certificate.revoked"]

    @staticmethod
    def serial(event: Any) -> str:
        """Return the serial number that an audit record is of."""
        serial: str = event["fields"]["serial"]
        return serial
