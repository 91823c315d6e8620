# SPDX-License-Identifier: MIT
"""
BER (X.690) to DER: what clients send that is no DER, put into DER.

Devices and toolkits that write CMS as a stream use indefinite lengths and
cut octet strings into pieces.  :func:`to_der` gives every value a definite
length in its shortest form and joins the pieces; nothing else changes.  In
particular the elements of a SET OF stay in the order they were sent in: a
signature over signed attributes is over their DER encoding, which the
signer has computed and sent, and sorting again could only hide that it has
not.

Pieces of an implicitly tagged string ([0] of encryptedContent) cannot be
told from an explicitly tagged one without the schema, so that their reader
joins them; they may come in definite lengths as well.

Refused: tags of more than one octet, lengths of more than four, pieces that
are no octet strings, more than one value.  Strings of other types in pieces
are left alone, and :func:`trstctl.pkix.der.check` refuses them.
"""

from __future__ import annotations

from trstctl.errors import Malformed, TooLarge
from trstctl.pkix import der

_CONSTRUCTED = 0x20
_OCTET_STRING_IN_PIECES = der.OCTET_STRING | _CONSTRUCTED
_INDEFINITE = 0x80


def as_der(
    data: bytes,
    *,
    max_bytes: int = 65536,
    max_depth: int = 32,
    max_nodes: int = 4096,
) -> bytes:
    """
    Return DER that passes :func:`trstctl.pkix.der.check`: ``data`` itself,
    or what :func:`to_der` makes of it.

    :raises TooLarge: too many octets.
    :raises Malformed: neither is well-formed and moderately sized.
    """
    try:
        der.check(
            data,
            max_bytes=max_bytes,
            max_depth=max_depth,
            max_nodes=max_nodes,
        )
    except Malformed:
        data = to_der(
            data,
            max_bytes=max_bytes,
            max_depth=max_depth,
            max_nodes=max_nodes,
        )
        der.check(
            data,
            max_bytes=max_bytes,
            max_depth=max_depth,
            max_nodes=max_nodes,
        )
    return data


class _Open:
    """A constructed value whose end has not been reached."""

    __slots__ = ("end", "indefinite", "parts", "tag")

    def __init__(self, tag: int, end: int, *, indefinite: bool) -> None:
        self.tag = tag
        # Where it ends or, if that is not known, what it cannot outlast.
        self.end = end
        self.indefinite = indefinite
        self.parts: list[bytes] = []

    def put(self, tag: int, content: bytes) -> None:
        """Take the next of its values."""
        if self.tag != _OCTET_STRING_IN_PIECES:
            self.parts.append(der.tlv(tag, content))
        elif tag == der.OCTET_STRING:
            self.parts.append(content)
        else:
            # X.690, section 8.7.3.2: the pieces are octet strings.
            raise Malformed("not BER: a piece that is no octet string")

    def close_into(self, outer: _Open) -> None:
        """Hand the whole to the value around it."""
        tag = self.tag
        if tag == _OCTET_STRING_IN_PIECES:
            tag = der.OCTET_STRING
        outer.put(tag, b"".join(self.parts))


def to_der(
    data: bytes,
    *,
    max_bytes: int = 65536,
    max_depth: int = 32,
    max_nodes: int = 4096,
) -> bytes:
    """
    Return ``data`` with definite lengths and whole octet strings.

    DER comes back unchanged.

    :param max_depth: constructed values inside one another.
    :param max_nodes: values in all, ends of contents included.
    :raises TooLarge: too many octets.
    :raises Malformed: it is not one value in BER, as far as we read that.
    """
    if len(data) > max_bytes:
        raise TooLarge
    try:
        return _walk(data, max_depth, max_nodes)
    except IndexError:
        raise Malformed("not BER: truncated") from None


def _walk(data: bytes, max_depth: int, max_nodes: int) -> bytes:
    """Do the work of :func:`to_der`; may fail with an ``IndexError``."""
    outermost = innermost = _Open(0, len(data), indefinite=False)
    around: list[_Open] = []
    at = 0
    for _ in range(max_nodes):
        tag, start, length = _head(data, at)
        end = innermost.end if length < 0 else start + length
        if start > innermost.end or end > innermost.end:
            raise Malformed("not BER: a value ends after its container")
        if not tag:
            # X.690, section 8.1.5: the end-of-contents octets.
            if length or not innermost.indefinite:
                raise Malformed("not BER: an end of contents out of place")
            innermost.close_into(around[-1])
            innermost = around.pop()
            at = start
        elif tag & _CONSTRUCTED:
            around.append(innermost)
            if len(around) > max_depth:
                raise Malformed("not BER: nested too deeply")
            innermost = _Open(tag, end, indefinite=length < 0)
            at = start
        else:
            innermost.put(tag, data[start:end])
            at = end
        while at == innermost.end and not innermost.indefinite and around:
            innermost.close_into(around[-1])
            innermost = around.pop()
        if innermost is outermost:
            if at != len(data):
                raise Malformed("not BER: trailing octets")
            return outermost.parts[0]
    raise Malformed("not BER: too many values")


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """Read tag and length: the tag, where the contents start, the length."""
    tag = data[at]
    if tag & 0x1F == 0x1F:
        raise Malformed("not BER: a tag that nothing here uses")
    length = data[at + 1]
    start = at + 2
    if length == _INDEFINITE:
        # X.690, section 8.1.3.2: primitive values have definite lengths.
        if not tag & _CONSTRUCTED:
            raise Malformed("not BER: a primitive value of indefinite length")
        return tag, start, -1
    if length > _INDEFINITE:
        octets = length & 0x7F
        if octets > 4:
            raise Malformed("not BER: a length of more than four octets")
        start += octets
        length = int.from_bytes(data[at + 2 : start], "big")
        if start > len(data):
            raise Malformed("not BER: truncated")
    return tag, start, length
