# SPDX-License-Identifier: MIT
"""
CMS (RFC 5652): the degenerate SignedData that carries certificates and CRLs.
"""

from __future__ import annotations

from collections.abc import Sequence

from trstctl.errors import Malformed
from trstctl.pkix import der

_SIGNED_DATA = der.oid("1.2.840.113549.1.7.2")
_DATA = der.sequence(der.oid("1.2.840.113549.1.7.1"))
_EMPTY_SET = der.set_of()
_VERSION_1 = der.integer(1)
_CERTIFICATES_TAG = 0xA0
_CRLS_TAG = 0xA1
_EXPLICIT_TAG = 0xA0


def certs_only(
    certificates: Sequence[bytes], crls: Sequence[bytes] = ()
) -> bytes:
    """
    Return a certs-only message in DER (RFC 5652, section 5; RFC 8551, 3.8).

    The certificates stay in the order given: clients take the first for
    their own.  CertificateSet is a SET OF, which DER would sort; RFC 5652
    asks for DER only where something is signed.  OpenSSL and pyasn1 keep
    this order; ``cryptography`` keeps it, too, with a warning.
    """
    parts = [_VERSION_1, _EMPTY_SET, _DATA]
    if certificates:
        parts.append(der.tlv(_CERTIFICATES_TAG, b"".join(certificates)))
    if crls:
        parts.append(der.tlv(_CRLS_TAG, b"".join(crls)))
    signed_data = der.sequence(*parts, _EMPTY_SET)
    return der.sequence(_SIGNED_DATA, der.explicit(0, signed_data))


def read_certs_only(
    data: bytes, *, max_bytes: int = 1 << 20, max_nodes: int = 16384
) -> tuple[bytes, ...]:
    """
    Return the certificates of a certs-only message, in their order.

    :raises TooLarge: more octets than the limit.
    :raises Malformed: it is no certs-only message in DER.
    """
    der.check(data, max_bytes=max_bytes, max_nodes=max_nodes)
    message = der.children(der.content(data, der.SEQUENCE))
    if (
        len(message) != 2
        or message[0][2] != _SIGNED_DATA
        or message[1][0] != _EXPLICIT_TAG
    ):
        raise Malformed("not a certs-only message")
    fields = der.children(der.content(message[1][1], der.SEQUENCE))
    # Version 1, no digest algorithms, no content and no signers.
    if [part[2] for part in (*fields[:3], *fields[-1:])] != [
        _VERSION_1,
        _EMPTY_SET,
        _DATA,
        _EMPTY_SET,
    ]:
        raise Malformed("not a certs-only message")
    optional = [part[0] for part in fields[3:-1]]
    if optional not in (
        [],
        [_CERTIFICATES_TAG],
        [_CRLS_TAG],
        [_CERTIFICATES_TAG, _CRLS_TAG],
    ):
        raise Malformed("not a certs-only message")
    if _CERTIFICATES_TAG not in optional:
        return ()
    certificates = der.children(fields[3][1])
    if any(certificate[0] != der.SEQUENCE for certificate in certificates):
        raise Malformed("not a certs-only message")
    return tuple(certificate[2] for certificate in certificates)
