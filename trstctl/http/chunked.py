# SPDX-License-Identifier: MIT
"""The chunked transfer coding, as bytes, without I/O (RFC 9112)."""

from __future__ import annotations

import re

from trstctl.errors import Malformed, TooLarge

#: Octets of the line with a chunk's size.
MAX_CHUNK_LINE = 256


_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t\x20-\x7e\x80-\xff]*)?")


class ChunkedBody:
    """
    Reads the chunked transfer coding (RFC 9112, section 7.1).

    Chunk extensions are ignored; trailers are refused, because nothing
    here needs one and a proxy may merge them into the header.

    :param limit: octets that the body may have.
    :param framing_limit: octets that all chunk lines together may have.
    """

    def __init__(self, limit: int, framing_limit: int) -> None:
        self._limit = limit
        self._framing_limit = framing_limit
        self._pieces: list[bytes] = []
        self._size = 0
        self._left = 0
        self._pending = b""
        self._after_data = False

    def body(self) -> bytes:
        """Return what has been read."""
        return b"".join(self._pieces)

    def feed(self, data: bytes) -> bytes | None:
        """
        Read on.

        :returns: what follows the body, or ``None`` if more is needed.
        :raises TooLarge: as soon as a chunk's size exceeds the limit.
        :raises Malformed: the coding is broken.
        """
        pending = self._pending + data
        at = 0
        while True:
            if self._left:
                piece = pending[at : at + self._left]
                self._pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
                if self._left:
                    break
                self._after_data = True
            line_end = pending.find(b"\r\n", at)
            if line_end < 0:
                self._judge_line(len(pending) - at, b"\n" in pending[at:])
                break
            line = pending[at:line_end]
            if self._after_data:
                if line:
                    raise Malformed("a chunk does not end in CR LF")
                self._after_data = False
                at = line_end + 2
                continue
            size = self._chunk_size(line)
            if size:
                self._left = size
                at = line_end + 2
                continue
            closing = pending[line_end + 2 : line_end + 4]
            if closing == b"\r\n":
                return pending[line_end + 4 :]
            if len(closing) == 2 or closing[:1] not in (b"", b"\r"):
                raise Malformed("trailers are not accepted")
            break
        self._pending = pending[at:]
        return None

    def _chunk_size(self, line: bytes) -> int:
        """Return the size that a chunk line announces, and count it."""
        self._judge_line(len(line), False)
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise Malformed("a chunk size is malformed")
        size = int(match[1], 16)
        self._size += size
        if self._size > self._limit:
            raise TooLarge
        self._framing_limit -= len(line) + 4 if size else 0
        if self._framing_limit < 0:
            raise Malformed("the content is in too many chunks")
        return size

    def _judge_line(self, length: int, bare: bool) -> None:
        """Refuse a chunk line that is too long, or broken by LF alone."""
        limit = 1 if self._after_data else MAX_CHUNK_LINE
        if length > limit or bare:
            raise Malformed("a chunk line is malformed")
