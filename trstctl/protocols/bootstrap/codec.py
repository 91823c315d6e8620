# SPDX-License-Identifier: MIT
"""
The bootstrap's bodies: JSON to values and back, without I/O.

Implemented: ``{"token": "...", "csr": "..."}`` and ``{"csr": "..."}``, where
``csr`` is a PKCS #10 request as base64 of its DER, in lines or not, or in
PEM; and ``{"cms": "..."}``, a signed request in the same forms.  Refused: whatever is not one flat object of exactly these texts, with
each key once (RFC 8259, section 4: what a repeated key means is anybody's
guess).

The registrars' orders are objects, too, which hold more than texts; their
listings are asked for by a query.

The clients are shell scripts, which put a file's text between two quotes.  So
line breaks may stand in a text as they are, although RFC 8259, section 7,
wants them escaped.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NoReturn
from urllib.parse import parse_qsl

from trstctl.errors import Malformed
from trstctl.model import (
    MintedSecret,
    OneTimeSecret,
    SecretOrder,
    SecretState,
)
from trstctl.pkix.csr import pem_or_der

#: Octets of a body.
MAX_BODY = 65_536

#: Characters of a token; ours have 32.
MAX_TOKEN = 256

#: Seconds that a new token lives if the registrar does not say.
DEFAULT_LIFE = 86_400

#: Greatest numbers that an order may have: what they mean is judged later.
_MAX_NUMBER = 2**31

#: Tokens on a page of a listing.
MAX_PAGE = 100

_MAX_ID = 64

_LINE = 64
_WHITE_SPACE = b" \t\r\n"

# RFC 7468, section 9, and what older software writes.
_CMS = re.compile(r"\s*-----BEGIN (CMS|PKCS7)-----([^-]*)-----END \1-----\s*")


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


def decode_renewal(body: bytes) -> tuple[bytes, bool]:
    """
    Read ``{"csr": "..."}`` or ``{"cms": "..."}``.

    :returns: what should be the DER of a request, or of a signed one; and
        whether it is said to be signed.
    :raises Malformed: it is anything else.
    """
    found = _flat_object(body, ("csr",), ("cms",))
    if "cms" in found:
        return _message_in(found["cms"]), True
    return _request_in(found["csr"]), False


# --- what registrars ask ----------------------------------------------------

_ORDER = ("profile", "names", "key", "expires_in", "count")


def decode_order(body: bytes, profile: str) -> SecretOrder:
    """
    Read ``{"profile": "...", "names": ["..."], "key": "...", "expires_in":
    86400, "count": 1}``, of which each may be left out.

    :param profile: if the order names none.
    :raises Malformed: it is anything else.
    """
    found = _object(body)
    unknown = found.keys() - set(_ORDER)
    if unknown:
        raise Malformed(
            "the body's keys can be " + ", ".join(f'"{k}"' for k in _ORDER)
        )
    names = found.get("names", [])
    if not isinstance(names, list) or not all(
        isinstance(one, str) for one in names
    ):
        raise Malformed('the value of "names" must be a list of texts')
    key = "" if found.get("key") is None else _text(found, "key")
    return SecretOrder(
        profile=_text(found, "profile") if "profile" in found else profile,
        names=tuple(names),
        key_fingerprint=key.replace(":", "").lower(),
        life=timedelta(seconds=_number(found, "expires_in", DEFAULT_LIFE)),
        count=_number(found, "count", 1),
    )


def decode_page(query: bytes) -> tuple[SecretState | None, str, int]:
    """
    Read ``state=unused&after=ID&limit=100``, of which each may be left out.

    :returns: the state, the id, and how many.
    :raises Malformed: it is anything else.
    """
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            max_num_fields=3,
        )
        found = _unique([*pairs])
        state = found.pop("state", None)
        after = str(found.pop("after", ""))
        limit = int(str(found.pop("limit", MAX_PAGE)))
        if (
            not found
            and after.isascii()
            and after.isprintable()
            and len(after) <= _MAX_ID
            and 1 <= limit <= MAX_PAGE
        ):
            return SecretState(state) if state else None, after, limit
    except (ValueError, Malformed):
        pass
    states = ", ".join(state.value for state in SecretState)
    raise Malformed(
        f"the query can have state (one of {states}), after (an id) and limit "
        f"(1 to {MAX_PAGE}), each once"
    )


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


def _flat_object(body: bytes, *choices: Collection[str]) -> Mapping[str, str]:
    """Return an object of exactly these keys (or those), each with a text."""
    # Before the parser, which would follow them down: neither a token nor a
    # request has braces or brackets in it, so that one pair is all.
    if body.count(b"{") > 1 or b"[" in body:
        raise Malformed("the body is not one flat JSON object")
    found = _object(body)
    if all(found.keys() != set(keys) for keys in choices):
        raise Malformed(
            "the body's keys must be "
            + ", or ".join(
                " and ".join(f'"{key}"' for key in keys) for keys in choices
            )
        )
    return {key: _text(found, key) for key in found}


def _object(body: bytes) -> Mapping[str, object]:
    """Return an object."""
    if len(body) > MAX_BODY:
        raise Malformed(f"the body has more than {MAX_BODY} octets")
    try:
        found = _decode(body.decode("utf-8"))
    except Malformed:
        raise
    except (ValueError, RecursionError):
        raise Malformed("the body is not JSON") from None
    if not isinstance(found, dict):
        raise Malformed("the body is not a JSON object")
    return found


def _text(found: Mapping[str, object], key: str) -> str:
    """Return a value that is a text."""
    value = found[key]
    if not isinstance(value, str):
        raise Malformed(f'the value of "{key}" must be a text')
    return value


def _number(found: Mapping[str, object], key: str, default: int) -> int:
    """Return a value that is a whole number, greater than zero."""
    value = found.get(key, default)
    # To Python, true is a number.
    if type(value) is not int or not 0 < value <= _MAX_NUMBER:
        raise Malformed(f'the value of "{key}" must be a whole number above 0')
    return value


def _request_in(text: str) -> bytes:
    """Return the DER of a request in base64 or PEM."""
    try:
        data = text.encode("ascii")
        if b"-----BEGIN " in data:
            return pem_or_der(data)
        return _base64(data)
    except ValueError:  # UnicodeEncodeError and binascii.Error are such
        raise Malformed(
            "the csr is neither the base64 of a DER certification request nor "
            "PEM"
        ) from None


def _message_in(text: str) -> bytes:
    """Return the DER of a signed message in base64 or PEM."""
    try:
        armoured = _CMS.fullmatch(text)
        return _base64((armoured[2] if armoured else text).encode("ascii"))
    except ValueError:
        raise Malformed(
            "the cms is neither the base64 of a DER signed message nor PEM"
        ) from None


def _base64(data: bytes) -> bytes:
    """Decode base64 in lines or not; ValueError if it is none, or empty."""
    compact = data.translate(None, _WHITE_SPACE)
    if not compact:
        raise ValueError
    return binascii.a2b_base64(compact, strict_mode=True)


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


def minted_object(made: MintedSecret) -> dict[str, object]:
    """Return a new token, with its secret."""
    record = made.record
    return {
        "id": record.id,
        "token": made.secret,
        "profile": record.profile,
        "names": record.names,
        "expires_at": _moment(record.expires_at),
    }


def secret_object(record: OneTimeSecret, now: datetime) -> dict[str, object]:
    """
    Return what is known of a token.

    :param now: its state is of this moment.
    """
    return {
        "id": record.id,
        "state": record.state(now).value,
        "profile": record.profile,
        "names": record.names,
        "key": record.burnt_for or record.key_fingerprint or None,
        "created_at": _moment(record.created_at),
        "expires_at": _moment(record.expires_at),
        "used_at": record.burnt_at and _moment(record.burnt_at),
    }


def _moment(at: datetime) -> str:
    """Return a moment as RFC 3339 has it, in UTC."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def encode_object(content: Mapping[str, object]) -> bytes:
    """Return JSON in ASCII, on one line that ends."""
    return json.dumps(content).encode("ascii") + b"\n"
