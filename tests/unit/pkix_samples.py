# SPDX-License-Identifier: MIT
"""Keys and requests that the tests of ``trstctl.pkix`` share."""

from __future__ import annotations

import ipaddress
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID

from trstctl.errors import RequestError
from trstctl.pkix import der

ECDSA_WITH_SHA256 = der.sequence(der.oid("1.2.840.10045.4.3.2"))
P256 = ec.derive_private_key(0x5EED, ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """Return one RSA key for the whole run."""
    return rsa.generate_private_key(65537, 2048)


def spki(key: Any) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a private key."""
    public: bytes = key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return public


def attribute(oid: str, *values: bytes) -> bytes:
    """Return an Attribute."""
    return der.sequence(der.oid(oid), der.set_of(*values))


def extension(
    oid: str, value: bytes, *, critical: bool | None = None
) -> bytes:
    """Return an Extension; the flag is written as it is given."""
    flag = b"" if critical is None else der.boolean(critical)
    return der.sequence(der.oid(oid), flag, der.octet_string(value))


def common_name(tag: int, value: bytes) -> bytes:
    """Return a Name of one common name, of any type."""
    kind = der.oid("2.5.4.3")
    return der.sequence(der.set_of(der.sequence(kind, der.tlv(tag, value))))


def raw_csr(
    *,
    subject: bytes = der.sequence(),
    attributes: bytes = b"",
    version: bytes = der.integer(0),
    key: bytes | None = None,
    identifier: bytes = ECDSA_WITH_SHA256,
    signature: bytes | None = None,
) -> bytes:
    """
    Return a request of any content, signed by the P-256 key.

    :param signature: takes the place of that one.
    """
    signed = der.sequence(
        version,
        subject,
        key or spki(P256),
        der.tlv(0xA0, attributes),
    )
    if signature is None:
        signature = P256.sign(signed, ec.ECDSA(hashes.SHA256()))
    return der.sequence(signed, identifier, der.bit_string(signature))


def _name(*values: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(*value) for value in values])


@cache
def p256_csr() -> bytes:
    """Return a P-256 request with a subject alternative name."""
    return (
        x509.CertificateSigningRequestBuilder(
            _name(
                (NameOID.ORGANIZATION_NAME, "Example"),
                (NameOID.COMMON_NAME, "device-1"),
            )
        )
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("device-1.example.com")]
            ),
            critical=False,
        )
        .sign(P256, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


@cache
def rsa_csr() -> bytes:
    """Return an RSA-2048 request with many extensions and attributes."""
    upn = x509.OtherName(
        x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"),
        der.tlv(12, b"user@example.com"),
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateSigningRequestBuilder(
            _name(
                (NameOID.COUNTRY_NAME, "CH"),
                (NameOID.STATE_OR_PROVINCE_NAME, "Zürich"),
                (NameOID.SERIAL_NUMBER, "0815"),
                (NameOID.COMMON_NAME, "printer-2"),
            )
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [
                    ExtendedKeyUsageOID.SERVER_AUTH,
                    ExtendedKeyUsageOID.CLIENT_AUTH,
                ]
            ),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName("printer-2.example.com"),
                    x509.RFC822Name("printer@example.com"),
                    x509.UniformResourceIdentifier("urn:example:2"),
                    x509.IPAddress(ipaddress.ip_address("192.0.2.7")),
                    x509.IPAddress(ipaddress.ip_address("2001:db8::7")),
                    x509.DirectoryName(_name((NameOID.COMMON_NAME, "x"))),
                    x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
                    upn,
                ]
            ),
            critical=False,
        )
        .add_extension(
            x509.SubjectKeyIdentifier(bytes(range(20))), critical=False
        )
        .add_attribute(AttributeOID.UNSTRUCTURED_NAME, b"2nd floor")
        .add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"correct horse")
        .sign(rsa_key(), hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


@cache
def ed25519_csr() -> bytes:
    """Return an Ed25519 request with an empty subject."""
    return (
        x509.CertificateSigningRequestBuilder(x509.Name([]))
        .sign(ED25519, None)
        .public_bytes(Encoding.DER)
    )


def refusal(function: Any, *arguments: Any, **options: Any) -> str | None:
    """
    Return the name of the ``RequestError`` that a call raises, or ``None``.

    Any other exception reaches the test, and fails it.
    """
    try:
        function(*arguments, **options)
    except RequestError as error:
        return type(error).__name__
    return None


def corruptions(data: bytes) -> list[bytes]:
    """Return every prefix, each bit flipped and telling values in each octet."""
    found = [data[:length] for length in range(len(data))]
    for position, octet in enumerate(data):
        others = {octet ^ 1 << bit for bit in range(8)}
        others |= {0x00, 0x30, 0x7F, 0x80, 0x84, 0xA0, 0xFF} - {octet}
        found += [
            data[:position] + bytes((other,)) + data[position + 1 :]
            for other in sorted(others)
        ]
    return found
