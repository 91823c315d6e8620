# SPDX-License-Identifier: MIT
"""
JSON that others wrote: objects whose members are what we expect.

Refused: whatever is no object, a key that occurs twice (RFC 8259, section 4:
what it means is anybody's guess), NaN and the infinities.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from trstctl.errors import Malformed

Object = Mapping[str, Any]


def _no_constant(_name: str) -> NoReturn:
    """Refuse what JSON does not have."""
    raise ValueError


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the object, unless a key occurs twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


_decode = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant
).decode


def read_object(octets: bytes) -> Object:
    """
    Return an object.

    :raises Malformed: it is anything else.
    """
    try:
        found = _decode(octets.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Malformed("the body is not JSON") from None
    if not isinstance(found, dict):
        raise Malformed("the body is not a JSON object")
    return found


def text_of(found: Object, key: str, longest: int, default: str = "") -> str:
    """
    Return a member that is a text on one line.

    :param longest: characters.
    :param default: if there is no such member, or it is null.
    :raises Malformed: it is anything else.
    """
    value = found.get(key)
    if value is None:
        return default
    if (
        not isinstance(value, str)
        or len(value) > longest
        or not value.isprintable()
    ):
        raise Malformed(f'the value of "{key}" must be a text on one line')
    return value


def texts_of(
    found: Object, key: str, longest: int, most: int
) -> tuple[str, ...] | None:
    """
    Return a member that is a list of texts; ``None`` if there is none.

    :param longest: characters of each.
    :param most: how many there may be.
    :raises Malformed: it is anything else.
    """
    value = found.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > most:
        raise Malformed(f'the value of "{key}" must be a list of texts')
    if any(one is None for one in value):
        raise Malformed(f'the value of "{key}" must be a list of texts')
    return tuple(text_of({key: one}, key, longest) for one in value)


def number_of(found: Object, key: str, default: int, most: int) -> int:
    """
    Return a member that is a whole number, from 1 to ``most``.

    :raises Malformed: it is anything else.
    """
    value = found.get(key, default)
    # To Python, true is a number.
    if type(value) is not int or not 0 < value <= most:
        raise Malformed(f'the value of "{key}" must be a whole number above 0')
    return value


def encode_object(content: Object) -> bytes:
    """Return JSON in ASCII."""
    return json.dumps(content, separators=(",", ":")).encode("ascii")
