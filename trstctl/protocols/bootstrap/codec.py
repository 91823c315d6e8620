# SPDX-License-Identifier: MIT
"""
The bootstrap's bodies: JSON to values and back, without I/O.

Implemented: ``{"token": "...", "csr": "..."}`` and ``{"csr": "..."}``, where
``csr`` is a PKCS #10 request as base64 of its DER, in lines or not, or in
PEM.  Refused: whatever is not one flat object of exactly these texts, with
each key once (RFC 8259, section 4: what a repeated key means is anybody's
guess).

The clients are shell scripts, which put a file's text between two quotes.  So
line breaks may stand in a text as they are, although RFC 8259, section 7,
wants them escaped.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Collection, Mapping, Sequence
from typing import NoReturn

from trstctl.errors import Malformed
from trstctl.pkix.csr import pem_or_der

#: Octets of a body.
MAX_BODY = 65_536

#: Characters of a token; ours have 32.
MAX_TOKEN = 256

_LINE = 64
_WHITE_SPACE = b" \t\r\n"


def decode_bootstrap(body: bytes) -> tuple[str, bytes]:
    """
    Read ``{"token": "...", "csr": "..."}``.

    :returns: the token, and what should be the DER of a request.
    :raises Malformed: it is anything else.
    """
    found = _flat_object(body, ("token", "csr"))
    token = found["token"]
    if not (token.isascii() and token.isprintable() and token) or (
        len(token) > MAX_TOKEN
    ):
        raise Malformed(
            f"the token is not 1 to {MAX_TOKEN} printable ASCII characters"
        )
    return token, _request_in(found["csr"])


def decode_renewal(body: bytes) -> bytes:
    """
    Read ``{"csr": "..."}``.

    :returns: what should be the DER of a request.
    :raises Malformed: it is anything else.
    """
    return _request_in(_flat_object(body, ("csr",))["csr"])


# --- JSON -------------------------------------------------------------------


def _no_constant(_name: str) -> NoReturn:
    """Refuse NaN and the infinities, which JSON does not have."""
    raise Malformed("the body is not JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the object, unless a key occurs twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("a key of the body occurs twice")
    return found


_decode = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, strict=False
).decode


def _flat_object(body: bytes, keys: Collection[str]) -> Mapping[str, str]:
    """Return an object of exactly these keys, each with a text."""
    if len(body) > MAX_BODY:
        raise Malformed(f"the body has more than {MAX_BODY} octets")
    # Before the parser, which would follow them down: neither a token nor a
    # request has braces or brackets in it, so that one pair is all.
    if body.count(b"{") > 1 or b"[" in body:
        raise Malformed("the body is not one flat JSON object")
    try:
        found = _decode(body.decode("utf-8"))
    except Malformed:
        raise
    except (ValueError, RecursionError):
        raise Malformed("the body is not JSON") from None
    if not isinstance(found, dict):
        raise Malformed("the body is not a JSON object")
    if found.keys() != set(keys):
        raise Malformed(
            "the body's keys must be " + " and ".join(f'"{k}"' for k in keys)
        )
    for key, value in found.items():
        if not isinstance(value, str):
            raise Malformed(f'the value of "{key}" must be a text')
    return found


def _request_in(text: str) -> bytes:
    """Return the DER of a request in base64 or PEM."""
    try:
        data = text.encode("ascii")
        if b"-----BEGIN " in data:
            return pem_or_der(data)
        compact = data.translate(None, _WHITE_SPACE)
        if compact:
            return binascii.a2b_base64(compact, strict_mode=True)
    except ValueError:  # UnicodeEncodeError and binascii.Error are such
        pass
    raise Malformed(
        "the csr is neither the base64 of a DER certification request nor PEM"
    )


# --- answers ----------------------------------------------------------------


def encode_pem(certificates: Sequence[bytes]) -> str:
    """Return certificates in PEM (RFC 7468, section 5)."""
    lines = []
    for der in certificates:
        text = binascii.b2a_base64(der, newline=False).decode("ascii")
        lines.append("-----BEGIN CERTIFICATE-----")
        lines += [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
        lines.append("-----END CERTIFICATE-----")
    lines.append("")
    return "\n".join(lines)


def encode_object(content: Mapping[str, object]) -> bytes:
    """Return JSON in ASCII, on one line that ends."""
    return json.dumps(content).encode("ascii") + b"\n"
