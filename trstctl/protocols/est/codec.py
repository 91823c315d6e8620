# SPDX-License-Identifier: MIT
"""
EST's bodies: bytes to values and back, without I/O.

Implemented: the ``application/pkcs10`` request body, the certs-only answer
and the CSR attributes of RFC 7030 as RFC 8951 clarifies them.  Refused:
whatever is not base64 of exactly one certification request; in lenient mode,
PEM armour and bare DER pass, too.

Clients differ in the base64 that they can read.  strongSwan before 5.9.11
only takes one unbroken line; libest only takes lines of 64 characters
(cisco/libest issue 120).  So the form of the answer follows the client.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence

from trstctl.errors import Malformed
from trstctl.model import CSRWishes
from trstctl.pkix.cms import certs_only
from trstctl.pkix.csr import pem_or_der
from trstctl.pkix.der import integer, oid, sequence, tlv

#: Characters that a body may hold between those of base64 (RFC 8951, 3.1).
_WHITE_SPACE = b" \t\r\n"

_LINE = 64

_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_EC_PUBLIC_KEY = "1.2.840.10045.2.1"
_RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
_CURVES = {
    "p-256": "1.2.840.10045.3.1.7",
    "p-384": "1.3.132.0.34",
    "p-521": "1.3.132.0.35",
}
_OTHER_KEYS = {
    "ed25519": "1.3.101.112",
    "ed448": "1.3.101.113",
    "ml-dsa-44": "2.16.840.1.101.3.4.3.17",
    "ml-dsa-65": "2.16.840.1.101.3.4.3.18",
    "ml-dsa-87": "2.16.840.1.101.3.4.3.19",
}
_ECDSA_WITH = {
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
    "sha512": "1.2.840.10045.4.3.4",
}
_RSA_WITH = {
    "sha256": "1.2.840.113549.1.1.11",
    "sha384": "1.2.840.113549.1.1.12",
    "sha512": "1.2.840.113549.1.1.13",
}


def decode_request_body(body: bytes, *, lenient: bool) -> bytes:
    """
    Return the DER certification request that a body carries.

    Any Content-Transfer-Encoding header is meaningless and ignored
    (RFC 8951, section 3).

    :param lenient: also take PEM armour and bare DER, as other CAs do.
    :raises Malformed: the body is neither.
    """
    compact = body.translate(None, _WHITE_SPACE)
    if not compact:
        raise Malformed("the body is empty")
    if lenient and (body[:1] == b"\x30" or b"-----BEGIN" in body):
        # 0x30 begins a DER SEQUENCE; in base64 it is "0", and the first
        # character of a base64 SEQUENCE is always "M".
        return pem_or_der(body)
    try:
        return binascii.a2b_base64(compact, strict_mode=True)
    except binascii.Error:
        raise Malformed(
            "the body is not the base64 of a certification request"
        ) from None


def encode_base64(der: bytes, *, single_line: bool) -> bytes:
    """
    Return base64 as the client reads it.

    :param single_line: one line without an end; otherwise lines of 64
        characters, each ended by LF.
    """
    text = binascii.b2a_base64(der, newline=False)
    if single_line:
        return text
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    lines.append(b"")
    return b"\n".join(lines)


def encode_certificates(
    certificates: Sequence[bytes], *, single_line: bool
) -> bytes:
    """Return a certs-only CMS message in base64 (RFC 7030, section 4.1.3)."""
    return encode_base64(certs_only(certificates), single_line=single_line)


def encode_csr_attributes(wishes: CSRWishes) -> bytes:
    """
    Return the DER CsrAttrs (RFC 7030, section 4.5.2), empty for no wishes.

    Only what every request must have is asked for: a key type or a hash is
    named if the profile accepts no other.
    """
    attributes = [oid(wanted) for wanted in wishes.subject_attributes]
    if wishes.extensions:
        attributes.append(oid(_EXTENSION_REQUEST))
    if len(wishes.algorithms) == 1:
        attributes += _key_wishes(wishes.algorithms[0], wishes.digests)
    return sequence(*attributes) if attributes else b""


def _key_wishes(algorithm: str, digests: Sequence[str]) -> list[bytes]:
    """Return the key type and, if there is one choice, the signature."""
    if algorithm in _CURVES:
        key = _attribute(_EC_PUBLIC_KEY, oid(_CURVES[algorithm]))
        signatures = _ECDSA_WITH
    elif algorithm == "rsa":
        key, signatures = oid(_RSA_ENCRYPTION), _RSA_WITH
    elif algorithm.startswith("rsa-"):
        size = integer(int(algorithm[4:]))
        key, signatures = _attribute(_RSA_ENCRYPTION, size), _RSA_WITH
    else:
        # A plugin's policy may know keys that have no one OID.
        known = _OTHER_KEYS.get(algorithm)
        return [oid(known)] if known else []
    if len(digests) == 1 and digests[0] in signatures:
        return [key, oid(signatures[digests[0]])]
    return [key]


def _attribute(kind: str, value: bytes) -> bytes:
    """Return an Attribute with one value."""
    return sequence(oid(kind), tlv(0x31, value))
