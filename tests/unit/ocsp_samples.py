# SPDX-License-Identifier: MIT
"""OCSP requests that pyasn1 has written, for the tests of OCSP."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from pyasn1.codec.der.decoder import decode
from pyasn1.codec.der.encoder import encode
from pyasn1.type import univ
from pyasn1_modules import rfc2459, rfc6960

NONCE = "1.3.6.1.5.5.7.48.1.2"
HASHES = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}


def cert_id(
    issuer: bytes, serial: int, digest: str = "sha1", *, null: bool = True
) -> Any:
    """Return a CertID that names the certificate of a CA."""
    ca = x509.load_der_x509_certificate(issuer)
    spki, _ = decode(
        ca.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        ),
        asn1Spec=rfc2459.SubjectPublicKeyInfo(),
    )
    key = spki["subjectPublicKey"].asOctets()
    made = rfc6960.CertID()
    made["hashAlgorithm"]["algorithm"] = HASHES[digest]
    if null:
        made["hashAlgorithm"]["parameters"] = univ.Any(b"\x05\x00")
    made["issuerNameHash"] = hashlib.new(
        digest, ca.subject.public_bytes()
    ).digest()
    made["issuerKeyHash"] = hashlib.new(digest, key).digest()
    made["serialNumber"] = serial
    return made


def octets(value: bytes) -> bytes:
    """Return an OCTET STRING."""
    found: bytes = encode(univ.OctetString(value))
    return found


def extension(oid: str, value: bytes, *, critical: bool = False) -> Any:
    """Return an extension."""
    made = rfc2459.Extension()
    made["extnID"] = oid
    if critical:
        made["critical"] = True
    # The old schema takes the value's encoding as an ANY.
    made["extnValue"] = univ.OctetString(value)
    return made


def request(
    cert_ids: Sequence[Any],
    nonce: bytes | None = None,
    extensions: Sequence[Any] = (),
    single: Sequence[Any] = (),
    *,
    requestor: bool = False,
    signed: bool = False,
) -> bytes:
    """Return an OCSPRequest."""
    made = rfc6960.OCSPRequest()
    tbs = made["tbsRequest"]
    if requestor:
        tbs["requestorName"]["dNSName"] = "client.example"
    for number, each in enumerate(cert_ids):
        tbs["requestList"][number]["reqCert"] = each
        for place, one in enumerate(single):
            tbs["requestList"][number]["singleRequestExtensions"][place] = one
    wanted = [*extensions]
    if nonce is not None:
        wanted.append(extension(NONCE, octets(nonce)))
    for place, one in enumerate(wanted):
        tbs["requestExtensions"][place] = one
    if signed:
        signature = made["optionalSignature"]
        signature["signatureAlgorithm"]["algorithm"] = "1.2.840.10045.4.3.2"
        signature["signature"] = univ.BitString.fromOctetString(b"never seen")
    encoded: bytes = encode(made)
    return encoded
