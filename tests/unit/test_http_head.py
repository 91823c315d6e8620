# SPDX-License-Identifier: MIT
"""Tests of reading heads and chunks (RFC 9112)."""

from __future__ import annotations

import pytest

from trstctl.errors import Malformed, TooLarge
from trstctl.http.chunked import MAX_CHUNK_LINE, ChunkedBody
from trstctl.http.head import (
    CHUNKED,
    MAX_FIELDS,
    Head,
    Headers,
    Refused,
    read_head,
    split_path,
)

LIMIT = 16_384


def read(received: bytes) -> Head:
    """Return the head of a request that is whole."""
    found = read_head(received, LIMIT, LIMIT)
    assert found is not None
    return found[0]


def refusal(received: bytes) -> int:
    """Return the status that refuses what was received."""
    with pytest.raises(Refused) as caught:
        read_head(received, LIMIT, LIMIT)
    return caught.value.status


#: Each of these is refused: what was received, and with which status.
BAD = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "two hosts on 1.0": (b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "bad host": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "host with path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "obs-fold": (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400),
    "obs-fold with tab": (
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\t2\r\n\r\n",
        400,
    ),
    "fold first": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "identity": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        400,
    ),
    "xchunked": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        400,
    ),
    "chunked twice": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        400,
    ),
    "two codings": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "gzip, chunked": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        400,
    ),
    "coding on 1.0": (
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "coding and length": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "two lengths": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
        400,
    ),
    "list of lengths": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n",
        400,
    ),
    "signed length": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n",
        400,
    ),
    "negative length": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n",
        400,
    ),
    "hexadecimal length": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n",
        400,
    ),
    "empty length": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        400,
    ),
    "superscript length": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xb2\r\n\r\n",
        400,
    ),
    "body on GET": (
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        400,
    ),
    "body on HEAD": (
        b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        400,
    ),
    "chunks on GET": (
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "space before colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
    "empty name": (b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
    "vertical tab": (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x0b\r\n\r\n", 400),
    "NUL": (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
    "CR in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
    "LF in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nb\r\n\r\n", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare LF at the end": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    "bare LF in the line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "absolute form of another scheme": (
        b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
    ),
    "absolute form without authority": (
        b"GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
    ),
    "absolute form with a user": (
        b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
    ),
    "absolute form with a fragment": (
        b"GET http://a/#b HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
    ),
    "absolute form, no host": (b"GET http://a/ HTTP/1.1\r\n\r\n", 400),
    "authority form": (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "asterisk form": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no version": (b"GET /\r\nHost: a\r\n\r\n", 400),
    "target with a control": (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "lower-case protocol": (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    "version 9.9": (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
    "version 1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "unknown method": (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "lower-case method": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "expectation": (
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n",
        417,
    ),
    "long target": (
        b"GET /" + b"a" * LIMIT + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        414,
    ),
    "long target, unfinished": (b"GET /" + b"a" * LIMIT, 414),
    "large fields": (
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * LIMIT + b"\r\n\r\n",
        431,
    ),
    "large fields, unfinished": (
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * LIMIT,
        431,
    ),
    "many fields": (
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * MAX_FIELDS + b"\r\n",
        431,
    ),
}


class ReadHeadTests:
    """What is a request, and what is refused."""

    @pytest.mark.parametrize(("received", "status"), BAD.values(), ids=BAD)
    def test_bad_heads_are_refused(self, received: bytes, status: int) -> None:
        """Two parsers could read these differently: each is refused."""
        assert status == refusal(received)

    def test_more_is_needed(self) -> None:
        """Every prefix of a good head waits for the rest."""
        whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        for length in range(1, len(whole)):
            assert read_head(whole[:length], LIMIT, LIMIT) is None

    def test_prefixes_at_the_limits(self) -> None:
        """What is allowed whole is allowed in any two pieces."""
        whole = b"GET /abc HTTP/1.1\r\nHost: abcdef\r\n\r\n"
        assert read_head(whole, 17, 14) is not None
        for length in range(1, len(whole)):
            assert read_head(whole[:length], 17, 14) is None

    def test_good_head(self) -> None:
        """All parts of a head are read; the rest is handed back."""
        found = read_head(
            b"POST /a?b=c+d HTTP/1.1\r\nhOsT: a:80\r\nX:  y \t\r\n"
            b"Content-Length: 3\r\n\r\nabcGET",
            LIMIT,
            LIMIT,
        )
        assert found is not None
        head, rest = found
        assert b"abcGET" == rest
        assert ("POST", b"/a?b=c+d", "HTTP/1.1", 3) == (
            head.method,
            head.target,
            head.version,
            head.length,
        )
        assert "y" == head.headers.get("x")

    @pytest.mark.parametrize(
        ("target", "expected"),
        [
            (b"http://a/b?c", b"/b?c"),
            (b"HTTPS://A:8443/b", b"/b"),
            (b"http://a", b"/"),
            (b"http://[::1]?c=/d", b"/?c=/d"),
            (b"http://a//b", b"//b"),
            (b"http://a/http://b/c", b"/http://b/c"),
        ],
    )
    def test_absolute_form(self, target: bytes, expected: bytes) -> None:
        """RFC 9112, section 3.2.2: a server MUST take it."""
        head = b"GET %b HTTP/1.1\r\nHost: other\r\n\r\n" % target
        assert expected == read(head).target

    def test_large_get_is_served(self) -> None:
        """A SCEP GET carries its message of 10 kB in the target."""
        target = b"/scep?message=" + b"A" * 10_000
        assert target == read(b"GET %b HTTP/1.0\r\n\r\n" % target).target

    @pytest.mark.parametrize(
        ("version", "connection", "expected"),
        [
            ("1.1", "", True),
            ("1.1", "Connection: close\r\n", False),
            ("1.1", "Connection: x, CLOSE\r\n", False),
            ("1.1", "Connection: x\r\nConnection: close\r\n", False),
            ("1.1", "Connection: keep-alive\r\n", True),
            ("1.0", "", False),
            ("1.0", "Connection: Keep-Alive\r\n", True),
            ("1.0", "Connection: upgrade\r\n", False),
            ("1.0", "Connection: keep-alive, close\r\n", False),
        ],
    )
    def test_persistence(
        self, version: str, connection: str, expected: bool
    ) -> None:
        """RFC 9112, section 9.3."""
        head = f"GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n"
        assert expected is read(head.encode()).keep_alive

    @pytest.mark.parametrize(
        ("version", "length", "expected"),
        [("1.1", 3, True), ("1.1", 0, False), ("1.0", 3, False)],
    )
    def test_expectation(
        self, version: str, length: int, expected: bool
    ) -> None:
        """RFC 9110, section 10.1.1: ignored on 1.0 and without content."""
        head = (
            f"POST / HTTP/{version}\r\nHost: a\r\nExpect: 100-Continue\r\n"
            f"Content-Length: {length}\r\n\r\n"
        )
        assert expected is read(head.encode()).expects

    def test_length(self) -> None:
        """A length of many digits is large, and cheap to find large."""
        start = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: "
        assert 10**18 <= read(start + b"9" * 10_000 + b"\r\n\r\n").length
        assert 7 == read(start + b"0000007\r\n\r\n").length
        assert 7 == read(start + b"0" * 30 + b"7\r\n\r\n").length
        assert 0 == read(start + b"0" * 30 + b"\r\n\r\n").length
        assert (
            10**18 <= read(start + b"0" * 9 + b"1" * 30 + b"\r\n\r\n").length
        )

    def test_chunked(self) -> None:
        """The name of the transfer coding has no case."""
        head = (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
        )
        assert CHUNKED == read(head).length

    def test_version_of_a_refusal(self) -> None:
        """A refusal is told in the request's version."""
        with pytest.raises(Refused) as caught:
            read(b"BREW / HTTP/1.0\r\n\r\n")
        assert "HTTP/1.0" == caught.value.version


class HeadersTests:
    """Fields without case."""

    def test_values(self) -> None:
        """The first value, or all of them."""
        headers = Headers.of([("Accept", "a"), ("ACCEPT", "\xe9")])
        assert "a" == headers.get("accept")
        assert ("a", "\xe9") == headers.all("Accept")
        assert headers.get("Host") is None
        assert () == headers.all("Host")

    def test_repeated_fields(self) -> None:
        """Repeated fields keep their order."""
        head = read(b"GET / HTTP/1.0\r\nA: 1\r\nB: 2\r\na: 3 \r\n\r\n")
        assert ("1", "3") == head.headers.all("A")
        assert ("2",) == head.headers.all("B")


class SplitPathTests:
    """Paths become names, or 404."""

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            (b"/", ()),
            (b"/a", ("a",)),
            (b"/a/", ("a",)),
            (b"/.well-known/est", (".well-known", "est")),
            (b"/scep/pkiclient.exe", ("scep", "pkiclient.exe")),
            (b"/%61-%7E", ("a-~",)),
        ],
    )
    def test_names(self, path: bytes, expected: tuple[str, ...]) -> None:
        """Unreserved characters, encoded or not."""
        assert expected == split_path(path)

    @pytest.mark.parametrize(
        "path",
        [
            b"//",
            b"//a",
            b"/a//b",
            b"/a//",
            b"/.",
            b"/..",
            b"/a/../b",
            b"/a/%2e%2e/b",
            b"/%2E",
            b"/a%2fb",
            b"/a%00",
            b"/a%",
            b"/a%2",
            b"/a%252f",
            b"/a;b",
            b"/a#b",
            b"/a%E2%88%95b",
            b"/a%0a",
            b"/a\\b",
        ],
    )
    def test_others(self, path: bytes) -> None:
        """Anything that could mean another place."""
        with pytest.raises(Refused) as caught:
            split_path(path)
        assert 404 == caught.value.status


def chunks(
    *pieces: bytes, limit: int = 100, framing: int = 1000
) -> tuple[bytes, bytes | None]:
    """Return the body in chunks and what follows it."""
    body = ChunkedBody(limit, framing)
    rest = None
    for piece in pieces:
        rest = body.feed(piece)
    return body.body(), rest


class ChunkedBodyTests:
    """The chunked transfer coding (RFC 9112, section 7.1)."""

    WHOLE = b'3\r\nabc\r\nA;x="y"\r\n0123456789\r\n0\r\n\r\n'

    def test_whole(self) -> None:
        """Chunks are joined; what follows is handed back."""
        assert (b"abc0123456789", b"GET") == chunks(self.WHOLE + b"GET")

    def test_any_pieces(self) -> None:
        """It does not matter how the octets arrive."""
        expected = (b"abc0123456789", b"")
        for cut in range(1, len(self.WHOLE)):
            assert expected == chunks(self.WHOLE[:cut], self.WHOLE[cut:])
        single = [self.WHOLE[at : at + 1] for at in range(len(self.WHOLE))]
        assert expected == chunks(*single)

    def test_too_large(self) -> None:
        """A size beyond the limit is refused before its data is read."""
        assert b"x" * 100 == chunks(b"64\r\n" + b"x" * 100)[0]
        for sizes in (
            b"65\r\n",
            b"FFFFFFFF\r\n",
            b"60\r\n" + b"x" * 96 + b"\r\n5\r\n",
        ):
            with pytest.raises(TooLarge):
                chunks(sizes)

    @pytest.mark.parametrize(
        "data",
        [
            b"x\r\n",
            b"\r\n",
            b"+3\r\n",
            b"0x3\r\n",
            b" 3\r\n",
            b"3 \r\n",
            b"-3\r\n",
            b"100000000\r\n",
            b"3;\n\r\n",
            b"3;\x00\r\n",
            b"3\nabc",
            b"3\r\nabcX\r\n",
            b"3\r\nabcdef",
            b"3\r\nabc\n",
            b"0\r\nX: y\r\n\r\n",
            b"0\r\nX",
            b"0\r\n\rX",
            b"a" * (MAX_CHUNK_LINE + 1),
            b"1;" + b"a" * MAX_CHUNK_LINE + b"\r\n",
        ],
    )
    def test_malformed(self, data: bytes) -> None:
        """Bad sizes, missing ends, trailers and endless lines."""
        with pytest.raises(Malformed):
            chunks(data)

    def test_framing_is_bounded(self) -> None:
        """A body of crumbs costs more than it is worth."""
        with pytest.raises(Malformed):
            chunks(b"1\r\nx\r\n" * 50, framing=100)
