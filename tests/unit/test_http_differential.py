# SPDX-License-Identifier: MIT
"""
Our connection against Twisted's, request by request (RFC 9112).

What two parsers understand differently smuggles requests.  So whatever this
one takes for requests, Twisted's must take for the very same ones, however
the octets are cut into pieces on their way.
"""

from __future__ import annotations

from io import BytesIO

from attrs import frozen
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.http import HTTPChannel, HTTPFactory, Request
from web_samples import Client

from trstctl.http.exchange import BoundedResource, HTTPExchange, Outcome
from trstctl.http.site import Site
from trstctl.web import HTTPResponse, Limits

Message = tuple[bytes, bytes, bytes, bytes]

LIMITS = Limits(target=200, header=400, body=40)

PROFILE = settings(
    derandomize=True, deadline=None, max_examples=300, database=None
)


class Everything(BoundedResource):
    """Answers each request at once, and keeps what it was."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Message] = []

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """Allow what has a meaning here."""
        return ("DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT")

    def render(self, request: HTTPExchange) -> int:
        """Keep the request and answer."""
        head = request.head
        self.messages.append(
            (
                head.method.encode(),
                head.target,
                head.version.encode(),
                request.body,
            )
        )
        request.answer(HTTPResponse(200), Outcome())
        return 1


@frozen
class Seen:
    """What a server made of the octets."""

    messages: list[Message]
    statuses: list[bytes]
    closed: bool


def ours(*pieces: bytes) -> Seen:
    """Let our connection read the pieces."""
    resource = Everything()
    client = Client(Site(resource, LIMITS, Clock(), lambda: "id"))
    answered = b"".join(
        client.send(piece) for piece in pieces if not client.closed
    )
    statuses = [
        part[:3] for part in answered.split(b"HTTP/1.")[1:] if part[2:6]
    ]
    return Seen(
        resource.messages, [part[-3:] for part in statuses], client.closed
    )


def twisteds(octets: bytes) -> list[Message]:
    """Return what Twisted reads in the octets."""
    messages: list[Message] = []

    class Recorded(Request):
        """Keeps itself and answers."""

        def gotLength(self, length: int | None) -> None:
            """Keep the body in memory."""
            self.content = BytesIO()

        def process(self) -> None:
            """Keep method, target, version and body."""
            messages.append(
                (
                    self.method,
                    # Ours keeps what follows the authority.
                    self.uri.removeprefix(b"http://other"),
                    self.clientproto,
                    self.content.read(),
                )
            )
            self.setHeader(b"Content-Length", b"0")
            self.finish()

    factory = HTTPFactory(reactor=Clock())
    channel = HTTPChannel()
    channel.factory = factory
    channel.site = factory
    channel.requestFactory = Recorded
    channel.timeOut = None
    channel.makeConnection(StringTransport())
    channel.dataReceived(octets)
    return messages


# --- what peers send --------------------------------------------------------

METHODS = st.sampled_from(
    [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"get", b"FOO"]
)
TARGETS = st.sampled_from(
    [
        b"/",
        b"/a",
        b"/a/b?c=%00&d",
        b"/%2e%2e/",
        b"*",
        b"http://other/a",
        b"/\xff",
        b"/a b",
        b"/a#b",
        b"/" + b"a" * 199,
        b"",
    ]
)
VERSIONS = st.sampled_from(
    [b"HTTP/1.1"] * 6
    + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/1.10"]
)
LENGTHS = st.sampled_from(
    [
        b"0",
        b"3",
        b"5",
        b"05",
        b"+5",
        b"-5",
        b"5 ",
        b"\t5",
        b"5\x0b",
        b"5\x00",
        b"5,5",
        b"5, 5",
        b"0x5",
        b"1_0",
        b"5.0",
        b"",
        b"\xb2",
        b"40",
        b"41",
        b"0" * 19 + b"5",
        b"0" * 40 + b"5",
        b"1" + b"0" * 19,
        b"9" * 60,
    ]
)
CODINGS = st.sampled_from(
    [
        b"chunked",
        b"Chunked",
        b" chunked ",
        b"\tchunked",
        b"\x0bchunked",
        b"xchunked",
        b"chunked, chunked",
        b"gzip, chunked",
        b"identity",
        b"chunked;q=1",
        b'"chunked"',
        b"",
    ]
)
FIELDS = st.one_of(
    LENGTHS.map(lambda value: b"Content-Length: %b\r\n" % value),
    CODINGS.map(lambda value: b"Transfer-Encoding: %b\r\n" % value),
    st.sampled_from(
        [
            b"Host: b\r\n",
            b"Host : b\r\n",
            b"content-LENGTH:5\r\n",
            b"Content-Length : 5\r\n",
            b"Content_Length: 5\r\n",
            b"Content-Length\x00: 5\r\n",
            b"Transfer-Encoding:\r\n chunked\r\n",
            b"X: a\r\n Content-Length: 5\r\n",
            b"X: a\r\n\tTransfer-Encoding: chunked\r\n",
            b"X: a\nContent-Length: 5\r\n",
            b"X: a\rContent-Length: 5\r\n",
            b"X: \xff\x80\r\n",
            b"X: \x7f\r\n",
            b": x\r\n",
            b"X\r\n",
            b"\r\n",
            b"Connection: close\r\n",
            b"Connection: keep-alive\r\n",
            b"Connection: upgrade, keep-alive\r\n",
            b"Connection: Content-Length\r\n",
            b"Upgrade: h2c\r\n",
            b"Expect: 100-continue\r\n",
            b"Expect: nothing\r\n",
            b"Trailer: X\r\n",
            b"Content-Encoding: gzip\r\n",
            b"X: " + b"y" * 390 + b"\r\n",
        ]
    ),
)
CHUNKS = st.sampled_from(
    [
        b"3\r\nabc\r\n",
        b"003\r\nabc\r\n",
        b"3;x=y\r\nabc\r\n",
        b'3;x="\xff"\r\nabc\r\n',
        b"3;\nx\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"+3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b"3\nabc\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc",
        b"A\r\n0\r\n\r\n0\r\n\r\r\n",
        b"00000003\r\nabc\r\n",
        b"000000003\r\nabc\r\n",
        b"ffffffffffffffff3\r\nabc\r\n",
        b"\r\n",
    ]
)
LAST_CHUNKS = st.sampled_from(
    [
        b"0\r\n\r\n",
        b"00\r\n\r\n",
        b"0;x\r\n\r\n",
        b"0\r\nX: y\r\n\r\n",
        b"0\r\n\n",
        b"-0\r\n\r\n",
        b"0\r\n",
        b"",
    ]
)
BODIES = st.one_of(
    st.just(b""),
    st.just(b"abcde"),
    st.builds(
        lambda chunks, last: b"".join(chunks) + last,
        st.lists(CHUNKS, max_size=3),
        LAST_CHUNKS,
    ),
    st.binary(max_size=50),
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw one request, mostly a little wrong."""
    fields = draw(st.lists(FIELDS, max_size=3))
    if draw(st.integers(0, 7)):
        fields.insert(0, b"Host: a\r\n")
    return b"%b%b %b %b\r\n%b\r\n%b" % (
        draw(st.sampled_from([b""] * 8 + [b"\r\n", b"\r\n\r\n\r\n", b"\n"])),
        draw(METHODS),
        draw(TARGETS),
        draw(VERSIONS),
        b"".join(fields),
        draw(BODIES),
    )


STREAMS = st.lists(requests(), min_size=1, max_size=3).map(b"".join)


@st.composite
def good_requests(draw: st.DrawFn) -> bytes:
    """Draw one request that nothing is wrong with."""
    head = b"%b /a HTTP/1.1\r\nHost: a\r\n"
    if draw(st.booleans()):
        return head % draw(st.sampled_from([b"GET", b"HEAD"])) + b"\r\n"
    method = head % draw(st.sampled_from([b"POST", b"PUT", b"DELETE"]))
    pieces = draw(st.lists(st.binary(min_size=1, max_size=9), max_size=4))
    if draw(st.booleans()):
        body = b"".join(pieces)
        return b"%bContent-Length: %d\r\n\r\n%b" % (method, len(body), body)
    chunks = b"".join(b"%x;e\r\n%b\r\n" % (len(p), p) for p in pieces)
    return b"%bTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % (
        method,
        chunks,
    )


class DifferentialTests:
    """Two parsers, one meaning."""

    @example(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %b5\r\n\r\n"
        b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n" % (b"0" * 19)
    )
    @given(STREAMS)
    @PROFILE
    def test_same_requests(self, octets: bytes) -> None:
        """RFC 9112, section 11.2: what we take, Twisted takes as well."""
        taken = ours(octets).messages
        assert taken == twisteds(octets)[: len(taken)]

    @given(st.lists(good_requests(), min_size=1, max_size=4))
    @PROFILE
    def test_pipelined(self, sent: list[bytes]) -> None:
        """RFC 9112, section 9.3.2: each is answered once, in order."""
        octets = b"".join(sent)
        seen = ours(octets)
        assert twisteds(octets) == seen.messages
        assert len(sent) == len(seen.messages)
        assert not seen.closed

    @given(STREAMS)
    @PROFILE
    def test_one_octet_at_a_time(self, octets: bytes) -> None:
        """The same requests, and an end or none, octet by octet."""
        whole = ours(octets)
        pieces = ours(*(octets[at : at + 1] for at in range(len(octets))))
        assert whole.messages == pieces.messages
        assert whole.closed == pieces.closed

    @given(st.lists(good_requests(), min_size=1, max_size=2), st.data())
    @PROFILE
    def test_two_pieces(self, sent: list[bytes], data: st.DataObject) -> None:
        """Wherever they are cut, good requests stay what they are."""
        octets = b"".join(sent)
        at = data.draw(st.integers(0, len(octets)))
        assert ours(octets) == ours(octets[:at], octets[at:])
