# SPDX-License-Identifier: MIT
"""
EST's bodies: bytes to values and back, without I/O.

Implemented: the ``application/pkcs10`` request body, the certs-only answer,
and the ``multipart/mixed`` one with a key, of RFC 7030 as RFC 8951 clarifies
them.  Refused:
whatever is not base64 of exactly one certification request; in lenient mode,
PEM armour and bare DER pass, too.

Clients differ in the base64 that they can read.  strongSwan before 5.9.11
only takes one unbroken line; libest only takes lines of 64 characters
(cisco/libest issue 120).  So the form of the answer follows the client.  Azure
IoT Edge cannot be told from strongSwan, and puts what it gets between two
lines of PEM armour: so the line that is meant for either has an end.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence

from trstctl.errors import Malformed
from trstctl.pkix.cms import certs_only
from trstctl.pkix.csr import pem_or_der

#: Characters that a body may hold between those of base64 (RFC 8951, 3.1).
_WHITE_SPACE = b" \t\r\n"

_LINE = 64

#: The media type of a certificate; libest compares the whole of this text.
CERTS_ONLY = "application/pkcs7-mime; smime-type=certs-only"


def decode_request_body(body: bytes, *, lenient: bool) -> bytes:
    """
    Return the DER certification request that a body carries.

    Any Content-Transfer-Encoding header is meaningless and ignored
    (RFC 8951, section 3).

    :param lenient: also take PEM armour and bare DER, as other CAs do.
    :raises Malformed: the body is neither.
    """
    if lenient and (body[:1] == b"\x30" or b"-----BEGIN" in body):
        # 0x30 begins a DER SEQUENCE; in base64 it is "0", and the first
        # character of a base64 SEQUENCE is always "M".
        return pem_or_der(body)
    return _decode_base64(body, "a certification request")


def decode_message_body(body: bytes, *, lenient: bool) -> bytes:
    """
    Return the Full PKI Request that a body carries (RFC 7030, 4.3.1).

    :param lenient: also take it without base64, as RFC 5273 has it.
    :raises Malformed: the body is neither.
    """
    if lenient and body[:1] == b"\x30":
        return body
    return _decode_base64(body, "a Full PKI Request")


def _decode_base64(body: bytes, what: str) -> bytes:
    """Return what a body is the base64 of."""
    compact = body.translate(None, _WHITE_SPACE)
    if not compact:
        raise Malformed("the body is empty")
    try:
        return binascii.a2b_base64(compact, strict_mode=True)
    except binascii.Error:
        raise Malformed(f"the body is not the base64 of {what}") from None


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


def encode_generated_key(
    key: bytes,
    media_type: str,
    certificate: bytes,
    boundary: str,
    *,
    single_line: bool,
) -> bytes:
    """
    Return a key and its certificate as ``multipart/mixed`` (RFC 7030, section
    4.4.2).

    :param key: what the media type says; secret.
    :param certificate: DER of the certificate.
    :param boundary: 1 to 70 characters that cannot be in base64 after two
        hyphens, which none can.
    """
    lines = []
    for kind, body in (
        (media_type, encode_base64(key, single_line=single_line)),
        (
            CERTS_ONLY,
            encode_certificates((certificate,), single_line=single_line),
        ),
    ):
        lines += [
            f"--{boundary}".encode("ascii"),
            f"Content-Type: {kind}".encode("ascii"),
            # libest and BouncyCastle look for it in each part.
            b"Content-Transfer-Encoding: base64",
            b"",
            body,
        ]
    return b"\r\n".join((*lines, f"--{boundary}--".encode("ascii"), b""))
