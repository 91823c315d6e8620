# SPDX-License-Identifier: MIT
"""
DER: the walk that comes before every parser, a small reader and writers.

:func:`check` bounds what a peer's bytes can make any ASN.1 library do: it
sees every tag and length once, recurses nowhere and builds nothing.  It
walks into constructed values only.  What an OCTET STRING or BIT STRING
holds is opaque to it; who reads that as DER calls :func:`check` on it.

The rules are those of X.690, sections 8 and 10, and RFC 2986's and
RFC 5652's use of them: definite lengths in their shortest form, one octet
tags, primitive strings.
"""

from __future__ import annotations

import re
from functools import lru_cache

from trstctl.errors import Malformed, TooLarge

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OBJECT_IDENTIFIER = 0x06
SEQUENCE = 0x30
SET = 0x31

#: An RSA modulus of 8192 bits and some margin.
MAX_INTEGER_OCTETS = 1100
MAX_OID_OCTETS = 64

_REFUSED = 9
_CONSTRUCTED = 8
_ANY_CONTENT = 0

# Shortest-form arcs of at most five octets each (X.690, section 8.19.2).
_ARCS = re.compile(rb"(?:[\x00-\x7f]|[\x81-\xff][\x80-\xff]{0,3}[\x00-\x7f])+")


def _kind(tag: int) -> int:
    """Say what :func:`check` does with a tag octet."""
    number = tag & 0x1F
    constructed = bool(tag & 0x20)
    if number == 0x1F:
        return _REFUSED
    if tag >= 0x40:
        return _CONSTRUCTED if constructed else _ANY_CONTENT
    if tag in {SEQUENCE, SET}:
        return _CONSTRUCTED
    if constructed:
        return _REFUSED
    if tag == 0x0A:  # ENUMERATED is encoded as INTEGER is
        return INTEGER
    if tag in {BOOLEAN, INTEGER, BIT_STRING, NULL, OBJECT_IDENTIFIER}:
        return tag
    # Strings and times.  EXTERNAL, REAL, EMBEDDED PDV, RELATIVE-OID, the
    # reserved tags and the end-of-contents mark occur in nothing we read.
    if tag in {OCTET_STRING, 0x0C} or 0x12 <= number <= 0x1E:
        return _ANY_CONTENT
    return _REFUSED


_KINDS = bytes(_kind(tag) for tag in range(256))


def check(
    data: bytes,
    *,
    max_bytes: int = 65536,
    max_depth: int = 32,
    max_nodes: int = 4096,
) -> None:
    """
    Refuse bytes that are not one well-formed, moderately sized DER value.

    :param max_depth: constructed values inside one another.
    :param max_nodes: values in all.
    :raises TooLarge: too many octets.
    :raises Malformed: anything else.
    """
    size = len(data)
    if size > max_bytes:
        raise TooLarge
    enclosing: list[int] = []
    limit = size
    at = 0
    kinds = _KINDS
    try:
        for _ in range(max_nodes):
            kind = kinds[data[at]]
            length = data[at + 1]
            at += 2
            if length > 0x7F:
                length, at = _long_length(data, at, length & 0x7F)
            end = at + length
            if end > limit:
                raise Malformed("not DER: a value ends after its container")
            if kind == _CONSTRUCTED:
                if length:
                    enclosing.append(limit)
                    if len(enclosing) > max_depth:
                        raise Malformed("not DER: nested too deeply")
                    limit = end
                    continue
            elif kind:
                _check_primitive(kind, data, at, end)
            at = end
            while at == limit:
                if not enclosing:
                    return
                limit = enclosing.pop()
            if not enclosing:  # the outermost value has no sibling
                raise Malformed("not DER: trailing octets")
    except IndexError:
        raise Malformed("not DER: truncated") from None
    raise Malformed("not DER: too many values")


def _long_length(data: bytes, at: int, octets: int) -> tuple[int, int]:
    """Read the long form of a length: the length, and where it ends."""
    if octets == 2:  # most of those that are long at all
        length = data[at] << 8 | data[at + 1]
        if length > 0xFF:
            return length, at + 2
    if not octets:
        raise Malformed("not DER: indefinite length")
    if octets > 4:
        raise Malformed("not DER: a length of more than four octets")
    length = data[at]
    for position in range(at + 1, at + octets):
        length = length << 8 | data[position]
    # X.690, section 10.1: the fewest octets.
    if length < 0x80 or not length >> 8 * (octets - 1):
        raise Malformed("not DER: a length is not in its shortest form")
    return length, at + octets


def _check_primitive(kind: int, data: bytes, at: int, end: int) -> None:
    """Check the content octets of a universal primitive value."""
    length = end - at
    if kind == _REFUSED:
        raise Malformed("not DER: a tag that nothing here uses")
    if kind == OBJECT_IDENTIFIER:
        if length > MAX_OID_OCTETS or _ARCS.fullmatch(data, at, end) is None:
            raise Malformed("not DER: a bad or huge object identifier")
    elif kind == INTEGER:
        if not 0 < length <= MAX_INTEGER_OCTETS:
            raise Malformed("not DER: an empty or huge integer")
        # X.690, section 8.3.2: the first nine bits are not all alike.
        if length > 1 and (
            (data[at] == 0 and data[at + 1] < 0x80)
            or (data[at] == 0xFF and data[at + 1] >= 0x80)
        ):
            raise Malformed("not DER: an integer is not in its shortest form")
    elif kind == BIT_STRING:
        unused = data[at] if length else 8
        # X.690, section 11.2.1: the unused bits are zero.
        if unused > 7 or (
            unused and (length == 1 or data[end - 1] & ((1 << unused) - 1))
        ):
            raise Malformed("not DER: a bad bit string")
    elif kind == BOOLEAN:
        if length != 1 or data[at] not in {0x00, 0xFF}:
            raise Malformed("not DER: a bad boolean")
    elif length:
        raise Malformed("not DER: a null that is not empty")


# --- reading ----------------------------------------------------------------


def children(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """
    Return the values that follow one another in ``data``, one level deep.

    :param data: content octets of a constructed value, or one or more whole
        values; already seen by :func:`check`.
    :returns: for each its tag octet, its content and the whole of it.
    :raises Malformed: lengths and octets do not fit together.
    """
    found = []
    at, size = 0, len(data)
    try:
        while at < size:
            length = data[at + 1]
            start = at + 2
            if length > 0x7F:
                length, start = _long_length(data, start, length & 0x7F)
            end = start + length
            if end > size:
                raise Malformed("not DER: truncated")
            found.append((data[at], data[start:end], data[at:end]))
            at = end
    except IndexError:
        raise Malformed("not DER: truncated") from None
    return found


def end_of(data: bytes, at: int) -> int:
    """
    Return where the value ends that begins at ``at``.

    For whoever must count values, or give up, before he has them all.

    :raises Malformed: no whole value begins there.
    """
    try:
        length, start = data[at + 1], at + 2
        if length > 0x7F:
            length, start = _long_length(data, start, length & 0x7F)
    except IndexError:
        raise Malformed("not DER: truncated") from None
    if start + length > len(data):
        raise Malformed("not DER: truncated")
    return start + length


def fields(
    parts: list[tuple[int, bytes, bytes]], tags: bytes
) -> dict[int, bytes]:
    """
    Return the content of optional fields by their tags.

    :param parts: some of :func:`children`.
    :param tags: those that may occur, in the order in which they may.
    :raises Malformed: a tag that may not occur, not there or not again.
    """
    found: dict[int, bytes] = {}
    last = -1
    for tag, value, _ in parts:
        place = tags.find(tag)
        if place <= last:
            raise Malformed("a field is unknown or out of place")
        last = place
        found[tag] = value
    return found


def content(data: bytes, tag: int) -> bytes:
    """
    Return the content octets of the one value in ``data``.

    :raises Malformed: there is not exactly one, or its tag is another.
    """
    try:
        length, start = data[1], 2
        if length > 0x7F:
            length, start = _long_length(data, 2, length & 0x7F)
    except IndexError:
        raise Malformed("not DER: truncated") from None
    if data[0] != tag or start + length != len(data):
        raise Malformed("a value is not of the expected type")
    return data[start:]


@lru_cache(maxsize=1024)
def oid_text(octets: bytes) -> str:
    """
    Return the dotted form of an object identifier's content octets.

    :raises Malformed: they do not encode one.
    """
    if not octets or octets[-1] > 0x7F:
        raise Malformed("not DER: a bad or huge object identifier")
    arcs = []
    arc = 0
    for octet in octets:
        arc = arc << 7 | octet & 0x7F
        if octet < 0x80:
            arcs.append(arc)
            arc = 0
    # X.690, section 8.19.4: the first two arcs share one number.
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


# --- writing ----------------------------------------------------------------


def tlv(tag: int, value: bytes) -> bytes:
    """Return one value: its tag octet, its length and its content."""
    length = len(value)
    if length < 0x80:
        return bytes((tag, length)) + value
    octets = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | octets)) + length.to_bytes(octets, "big") + value


def sequence(*parts: bytes) -> bytes:
    """Return a SEQUENCE of encoded values."""
    return tlv(SEQUENCE, b"".join(parts))


def set_of(*parts: bytes) -> bytes:
    """Return a SET OF encoded values, in the order that DER demands."""
    return tlv(SET, b"".join(sorted(parts)))


def explicit(number: int, value: bytes) -> bytes:
    """Return an encoded value under a context-specific explicit tag."""
    return tlv(0xA0 | number, value)


def integer(number: int) -> bytes:
    """Return an INTEGER."""
    # One bit more than the magnitude, for the sign.
    bits = (number if number >= 0 else ~number).bit_length() + 1
    octets = number.to_bytes((bits + 7) // 8, "big", signed=True)
    return tlv(INTEGER, octets)


def boolean(value: bool) -> bytes:
    """Return a BOOLEAN."""
    return b"\x01\x01\xff" if value else b"\x01\x01\x00"


def bit_string(value: bytes) -> bytes:
    """Return a BIT STRING of whole octets."""
    return tlv(BIT_STRING, b"\x00" + value)


def octet_string(value: bytes) -> bytes:
    """Return an OCTET STRING."""
    return tlv(OCTET_STRING, value)


@lru_cache(maxsize=1024)
def oid(dotted: str) -> bytes:
    """
    Return an OBJECT IDENTIFIER.

    :raises ValueError: the text is not a dotted object identifier.
    """
    first, second, *rest = (_arc(text) for text in dotted.split("."))
    if first > 2 or (first < 2 and second > 39):
        raise ValueError("the first two arcs are out of range")
    octets = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | arc & 0x7F)
        octets += bytes(reversed(groups))
    return tlv(OBJECT_IDENTIFIER, bytes(octets))


def _arc(text: str) -> int:
    """Return one arc; the dotted form has no signs, spaces or zeros."""
    arc = int(text)
    if str(arc) != text or arc < 0:
        raise ValueError("an arc is not a decimal number")
    return arc
