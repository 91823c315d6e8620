# SPDX-License-Identifier: MIT
"""What the tests of the gates share: requests, certificates, signed claims."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from attrs import evolve
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)

from trstctl.model import (
    Endpoint,
    EnrollmentRequest,
    GeneralName,
    Issued,
    Operation,
    OutboundCall,
    OutboundReply,
)
from trstctl.testing import EPOCH, TENANT, make_request

ENDPOINT = Endpoint("scep", "phones", TENANT, "device", "issuing")

ISSUER, AUDIENCE = "https://mdm.example", "trstctl"
DEVICE = "phone-1"

#: A key of each kind, made once: RSA takes a while.
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def asking(
    device: str = DEVICE,
    names: tuple[str, ...] = (),
    *,
    upn: str = "",
    key: Any = None,
    transaction: str = "T1",
    endpoint: Endpoint = ENDPOINT,
) -> EnrollmentRequest:
    """Return a request of a device."""
    wanted = make_request(device, names, key)
    if upn:
        more = (*wanted.names, GeneralName("upn", upn))
        wanted = evolve(wanted, names=more)
    return EnrollmentRequest(
        endpoint=endpoint,
        operation=Operation.ENROLL,
        wanted=wanted,
        credentials=(),
        request_id="request-1",
        peer="192.0.2.1",
        transaction=transaction,
    )


def issued_as(certificate: bytes, serial: str = "0a1b") -> Issued:
    """Return a certificate that was issued."""
    return Issued(certificate, (certificate,), serial, "device", "mdm:x")


def content_of(call: OutboundCall) -> Any:
    """Return the JSON of a call."""
    assert call.body is not None
    return json.loads(call.body)


def reply(content: object, status: int = 200) -> OutboundReply:
    """Return an answer in JSON."""
    return OutboundReply(status, json.dumps(content).encode())


# --- signed claims ----------------------------------------------------------


def public_pem(key: Any) -> bytes:
    """Return a public key in PEM."""
    pem: bytes = key.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def claims(**changes: object) -> dict[str, object]:
    """Return claims for :data:`DEVICE`; ``None`` leaves one out."""
    now = int(EPOCH.timestamp())
    found: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 3600,
        "jti": "one",
        "device_name": DEVICE,
        "san_dns": [],
        **changes,
    }
    return {key: value for key, value in found.items() if value is not None}


def encoded(octets: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def jws(
    content: Mapping[str, object] | bytes,
    key: Any = EC_KEY,
    header: Mapping[str, object] | None = None,
) -> str:
    """Return a compact JWS; what its header says is not checked."""
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    head = header or {"alg": "RS256" if is_rsa else "ES256", "typ": "JWT"}
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    signed = f"{encoded(json.dumps(head).encode())}.{encoded(content)}"
    octets = signed.encode()
    if is_rsa:
        signature = key.sign(octets, padding.PKCS1v15(), hashes.SHA256())
    else:
        size = (key.key_size + 7) // 8
        pair = decode_dss_signature(
            key.sign(octets, ec.ECDSA(hashes.SHA256()))
        )
        signature = b"".join(one.to_bytes(size, "big") for one in pair)
    return f"{signed}.{encoded(signature)}"
