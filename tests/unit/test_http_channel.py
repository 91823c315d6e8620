# SPDX-License-Identifier: MIT
"""Tests of connections: framing, order, deadlines and caps (R-12)."""

from __future__ import annotations

import pytest
from attrs import evolve
from test_http_head import BAD
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from web_samples import Bench, Client, get, observed, parse, post

from trstctl.http.answer import LARGE
from trstctl.http.channel import State
from trstctl.web import HTTPRequest, HTTPResponse, Limits

CHUNKED = (
    b"POST /sample HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Later:
    """An answer that a test gives when it likes."""

    def __init__(self, bench: Bench) -> None:
        self.answers: list[Deferred[HTTPResponse]] = []
        self.cancelled = 0
        bench.sample.act = self.act

    async def act(self, request: HTTPRequest) -> HTTPResponse:
        """Wait."""
        answer: Deferred[HTTPResponse] = Deferred(self._cancel)
        self.answers.append(answer)
        return await answer

    def _cancel(self, _answer: Deferred[HTTPResponse]) -> None:
        self.cancelled += 1

    def give(self, body: bytes = b"late") -> None:
        """Answer the oldest."""
        self.answers.pop(0).callback(HTTPResponse(200, "text/plain", body))


class FramingTests:
    """What is answered, and what is left on the connection."""

    @pytest.mark.parametrize(("received", "status"), BAD.values(), ids=BAD)
    def test_malformed(self, received: bytes, status: int) -> None:
        """
        One answer, then close; what follows is never taken for a request.
        """
        client = Bench().client()
        answer = client.send(received, get())
        assert status == parse(answer)[0]
        assert client.closed
        assert b"" == client.send(get())

    def test_refusal(self) -> None:
        """A refusal is one line of plain text with the request's id."""
        answer = Bench().client().send(b"GET / HTTP/1.1\r\n\r\n")
        status, headers, body = parse(answer)
        assert 400 == status
        assert "text/plain; charset=utf-8" == headers["Content-Type"]
        assert "close" == headers["Connection"]
        assert headers["X-Request-Id"] in body.decode()
        assert 1 == body.count(b"\n")
        assert b"HTTP/1.1 400 Bad Request\r\n" == answer[:26]

    def test_refusal_in_kind(self) -> None:
        """A refusal is told in the request's version."""
        answer = Bench().client().send(b"BREW / HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.0 501 ")

    def test_refusals_are_logged(self) -> None:
        """What never becomes a request has its log line, too."""
        with observed() as observer:
            Bench().client().send(b"GET / HTTP/1.1\r\n\r\n")
        (event,) = [e for e in observer if e.get("event") == "request"]
        assert (400, "refused", "192.0.2.1") == (
            event["status"],
            event["decision"],
            event["peer"],
        )

    def test_keep_alive(self) -> None:
        """Requests follow one another; none sees another's octets."""
        client = Bench().client()
        for body in (b"one", b"", b"three"):
            assert b"POST/" + body == parse(client.send(post(body)))[2]
        assert not client.closed

    def test_any_pieces(self) -> None:
        """It does not matter how the octets arrive."""
        whole = post(b"12345")
        for cut in range(1, len(whole)):
            client = Bench().client()
            assert b"" == client.send(whole[:cut])
            assert b"POST/12345" == parse(client.send(whole[cut:]))[2]
        client = Bench().client()
        single = [whole[at : at + 1] for at in range(len(whole))]
        assert b"POST/12345" == parse(client.send(*single))[2]

    def test_stray_line_ends(self) -> None:
        """libest 3.2.0 sends CRLF after a body, and after a GET."""
        client = Bench().client()
        for request in (post(), get(), post(b"x")):
            assert 200 == parse(client.send(request + b"\r\n"))[0]
        assert 200 == parse(client.send(b"\r", b"\n" + get()))[0]
        assert 400 == parse(client.send(b"\r\n\r\n\r\n"))[0]

    def test_stray_line_ends_do_not_start_a_head(self) -> None:
        """An empty line leaves the connection idle."""
        bench = Bench()
        client = bench.client()
        client.send(get(), b"\r\n")
        bench.pass_time(50)
        assert not client.closed

    def test_chunked(self) -> None:
        """Chunks are joined."""
        client = Bench().client()
        answer = client.send(CHUNKED + b"3\r\nabc\r\n", b"1\r\nd\r\n0\r\n\r\n")
        assert b"POST/abcd" == parse(answer)[2]
        answer = client.send(CHUNKED, b"0\r\n\r\n" + post(b"next"))
        assert b"POST/" in answer
        assert answer.endswith(b"POST/next")

    @pytest.mark.parametrize(
        "chunk", [b"x\r\n", b"0\r\nTrailer: 1\r\n\r\n", b"3\nabc"]
    )
    def test_bad_chunks(self, chunk: bytes) -> None:
        """Broken framing: one answer, and nothing more is read."""
        bench = Bench()
        client = bench.client()
        assert 400 == parse(client.send(CHUNKED + chunk, post()))[0]
        bench.pass_time(3)
        assert client.closed
        assert [] == bench.sample.requests
        assert "Malformed" == type(bench.ra.refusals[0][2]).__name__

    def test_continue(self) -> None:
        """100 Continue only once the head is acceptable, and if needed."""
        whole = post(b"12345", extra=b"Expect: 100-continue\r\n")
        client = Bench().client()
        go_on = client.send(whole[:-5])
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == go_on
        assert b"POST/12345" == parse(client.send(whole[-5:]))[2]
        assert b"POST/12345" == parse(client.send(whole))[2]
        large = whole.replace(b"Length: 5", b"Length: 5000")
        assert 413 == parse(client.send(large[:-5]))[0]

    def test_pipelining(self) -> None:
        """Answers come in order, each with its own body."""
        bench = Bench()
        later = Later(bench)
        client = bench.client()
        assert b"" == client.send(post(b"1") + post(b"2") + post(b"3"))
        assert 1 == len(later.answers)
        later.give(b"first")
        assert b"first" == parse(client.read())[2]
        later.give(b"second")
        assert b"second" == parse(client.read())[2]
        later.give(b"third")
        assert b"third" == parse(client.read())[2]

    def test_deep_pipelining(self) -> None:
        """Many requests at once are no recursion."""
        client = Bench(Limits(header=65_536)).client()
        answer = client.send(get() * 2000)
        assert 2000 == answer.count(b"HTTP/1.1 200 OK\r\n")

    def test_reading_ahead_is_bounded(self) -> None:
        """While a request is answered, little more is read."""
        bench = Bench()
        later = Later(bench)
        client = bench.client()
        client.send(post())
        client.send(b"x" * 16_384)
        assert "producing" == client.transport.producerState
        client.send(b"x")
        assert "paused" == client.transport.producerState
        client.protocol.pauseProducing()
        client.protocol.resumeProducing()
        later.give()
        assert "producing" == client.transport.producerState
        assert b"HTTP/1.1 414 " in client.read()


class BodyLimitTests:
    """No more is read than the resource takes (R-12)."""

    def test_announced(self) -> None:
        """413 from Content-Length, before any of the body."""
        bench = Bench()
        client = bench.client()
        assert b"" == client.send(post(b"x" * 1000)[:-1])
        client = bench.client()
        status, headers, _ = parse(client.send(post(b"x" * 1001)[:-1001]))
        assert 413 == status
        assert "close" == headers["Connection"]
        assert "TooLarge" == type(bench.ra.refusals[0][2]).__name__

    def test_counted(self) -> None:
        """413 as soon as the chunks announce too much."""
        client = Bench().client()
        assert b"" == client.send(CHUNKED + b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        assert 413 == parse(client.send(b"1\r\n"))[0]

    def test_huge_number(self) -> None:
        """A length of many digits is too large, not a fault."""
        head = (
            b"POST /sample HTTP/1.1\r\nHost: a\r\nContent-Length: %b\r\n\r\n"
        )
        client = Bench().client()
        assert 413 == parse(client.send(head % (b"9" * 5000)))[0]

    def test_lingering(self) -> None:
        """
        A refused body is thrown away for a moment before the close, which
        would otherwise reset the connection and destroy the answer.
        """
        bench = Bench()
        client = bench.client()
        request = post(b"x" * 5000)
        assert 413 == parse(client.send(request[:200]))[0]
        assert not client.closed
        assert b"" == client.send(request[200:], post())
        bench.pass_time(2.25)
        assert client.closed

    def test_no_lingering(self) -> None:
        """If the body has arrived, the connection closes at once."""
        client = Bench().client()
        assert 413 == parse(client.send(post(b"x" * 1001)))[0]
        assert client.closed


class DeadlineTests:
    """Absolute deadlines: octets that trickle in move none of them."""

    LIMITS = Limits()

    def trickle(self, bench: Bench, client: Client, octets: bytes) -> float:
        """Send an octet a second; return when the connection closes."""
        start = bench.clock.seconds()
        for at in range(len(octets)):
            client.send(octets[at : at + 1])
            bench.pass_time(1)
            if client.closed:
                return bench.clock.seconds() - start
        raise AssertionError("never closed")

    def test_slow_head(self) -> None:
        """10 seconds for a head; then 408."""
        bench = Bench()
        client = bench.client()
        assert 10.0 <= self.trickle(bench, client, get() * 2) <= 11.0

    def test_slow_head_is_told(self) -> None:
        """The peer learns that it was too slow."""
        bench = Bench()
        client = bench.client()
        client.send(b"GET /")
        bench.pass_time(10.25)
        assert 408 == parse(client.read())[0]
        assert client.closed

    def test_slow_second_head(self) -> None:
        """The same on a connection that was kept."""
        bench = Bench()
        client = bench.client()
        client.send(get())
        bench.pass_time(55)
        assert 10.0 <= self.trickle(bench, client, get() * 2) <= 11.0

    def test_silence_at_first(self) -> None:
        """A new connection has 10 seconds to say something."""
        bench = Bench()
        client = bench.client()
        bench.pass_time(9.75)
        assert not client.closed
        bench.pass_time(0.5)
        assert client.closed
        assert b"" == client.read()

    def test_slow_body(self) -> None:
        """30 seconds for a body; then 408."""
        bench = Bench()
        client = bench.client()
        request = post(b"x" * 500)
        client.send(request[:-500])
        for _ in range(29):
            assert b"" == client.send(b"x")
            bench.pass_time(1)
        assert b"" == client.read()
        bench.pass_time(1)
        assert 408 == parse(client.read())[0]
        bench.pass_time(2.25)
        assert client.closed
        assert [] == bench.sample.requests

    def test_idle(self) -> None:
        """A kept connection may be silent for 60 seconds."""
        bench = Bench()
        client = bench.client()
        client.send(get())
        bench.pass_time(59)
        client.send(get())
        bench.pass_time(59.75)
        assert not client.closed
        bench.pass_time(0.5)
        assert client.closed

    def test_own_time(self) -> None:
        """How long an answer takes is no fault of the peer's."""
        bench = Bench()
        later = Later(bench)
        client = bench.client()
        client.send(post())
        bench.pass_time(300)
        assert not client.closed
        later.give()
        assert 200 == parse(client.read())[0]

    def test_peer_that_does_not_read(self) -> None:
        """30 seconds for the peer to take what it asked for."""
        bench = Bench()
        client = bench.client()
        client.send(get())
        client.protocol.pauseProducing()
        assert "paused" == client.transport.producerState
        client.send(get())
        assert b"" == client.read().partition(b"GET/")[2].strip()
        bench.pass_time(29.75)
        assert not client.transport.aborted
        bench.pass_time(0.5)
        assert client.transport.aborted

    @pytest.mark.parametrize("request_", [get(), post(b"x" * 1001)[:-1]])
    def test_stall_by_the_answer(self, request_: bytes) -> None:
        """The same if the answer itself is what the peer does not take."""
        bench = Bench()
        client = bench.client()
        writing = client.transport.write

        def write(octets: bytes) -> None:
            writing(octets)
            client.protocol.pauseProducing()

        client.transport.write = write  # type: ignore[method-assign]
        client.send(request_)
        bench.pass_time(29.75)
        assert not client.closed
        bench.pass_time(0.5)
        assert client.transport.aborted

    def test_body_within_a_stall(self) -> None:
        """What still arrives takes away no deadline."""
        bench = Bench()
        Later(bench)
        client = bench.client()
        client.send(post()[:-1])
        client.protocol.pauseProducing()
        client.send(post()[-1:])
        bench.pass_time(30.25)
        assert client.transport.aborted

    def test_body_after_a_stall(self) -> None:
        """A body has its 30 seconds, not those of an idle connection."""
        bench = Bench()
        client = bench.client()
        client.send(post()[:-1])
        client.protocol.pauseProducing()
        client.protocol.resumeProducing()
        bench.pass_time(30.25)
        assert 408 == parse(client.read())[0]

    def test_peer_that_reads_again(self) -> None:
        """Then what it has sent meanwhile is answered."""
        bench = Bench()
        client = bench.client()
        client.protocol.pauseProducing()
        assert b"" == client.send(get())
        bench.pass_time(20)
        client.protocol.resumeProducing()
        assert 200 == parse(client.read())[0]
        assert "producing" == client.transport.producerState

    def test_stall_while_answering(self) -> None:
        """A stall that ends before the answer leaves no deadline behind."""
        bench = Bench()
        later = Later(bench)
        client = bench.client()
        client.send(post())
        client.protocol.pauseProducing()
        bench.pass_time(20)
        client.protocol.resumeProducing()
        bench.pass_time(100)
        client.protocol.pauseProducing()
        later.give()
        client.read()
        assert "paused" == client.transport.producerState
        client.protocol.resumeProducing()
        client.protocol.stopProducing()
        assert not client.closed

    def test_stall_while_lingering(self) -> None:
        """Lingering begins anew when the peer has taken the answer."""
        bench = Bench()
        client = bench.client()
        client.send(post(b"x" * 5000)[:200])
        client.protocol.pauseProducing()
        bench.pass_time(20)
        client.protocol.resumeProducing()
        assert not client.closed
        bench.pass_time(2.25)
        assert client.closed

    def test_close_is_bounded(self) -> None:
        """A close that the peer delays is forced after 30 seconds."""
        bench = Bench()
        client = bench.client()
        client.send(get(extra=b"Connection: close\r\n"))
        assert client.closed
        bench.pass_time(29.75)
        assert not client.transport.aborted
        bench.pass_time(0.5)
        assert client.transport.aborted

    def test_one_timer(self) -> None:
        """A connection has one timer, and requests leave it alone."""
        bench = Bench()
        client = bench.client()
        (before,) = bench.clock.getDelayedCalls()
        for _ in range(10):
            client.send(post())
        assert [before] == bench.clock.getDelayedCalls()
        client.protocol.connectionLost(Failure(ConnectionDone()))
        assert [] == bench.clock.getDelayedCalls()


class LargeAnswerTests:
    """Answers of megabytes, taken slice by slice."""

    BODY = b"".join(bytes((number,)) * LARGE for number in range(5)) + b"end"

    def begin(self, request_: bytes) -> tuple[Bench, Client, list[bytes]]:
        """Ask for one over a connection that takes a slice at a time."""
        bench = Bench()
        client = bench.client()
        taken: list[bytes] = []

        def write(octets: bytes) -> None:
            taken.append(octets)
            if len(octets) >= LARGE:
                client.protocol.pauseProducing()

        async def act(_: HTTPRequest) -> HTTPResponse:
            return HTTPResponse(200, "text/plain", self.BODY)

        bench.sample.act = act
        client.transport.write = write  # type: ignore[method-assign]
        client.protocol.dataReceived(request_)
        return bench, client, taken

    @pytest.mark.parametrize(
        ("extra", "closes"), [(b"", False), (b"Connection: close\r\n", True)]
    )
    def test_as_fast_as_the_peer_takes_it(
        self, extra: bytes, closes: bool
    ) -> None:
        """Each slice has its own time, and the transport only one."""
        bench, client, taken = self.begin(get(extra=extra))
        for slices in range(1, 6):
            assert 1 + slices == len(taken)
            assert not client.transport.disconnecting
            bench.pass_time(29)
            client.protocol.resumeProducing()
        assert self.BODY == parse(b"".join(taken))[2]
        assert closes is client.closed
        assert not client.transport.aborted

    def test_the_next_request_waits(self) -> None:
        """Answers do not get mixed up."""
        _, client, taken = self.begin(get())
        client.protocol.dataReceived(get(b"/nowhere"))
        for _ in range(5):
            assert b"404" not in taken[-1]
            client.protocol.resumeProducing()
        assert taken[-1].startswith(b"HTTP/1.1 404 ")

    def test_a_peer_that_takes_no_more(self) -> None:
        """Its time ends, and of the answer nothing is kept."""
        bench, client, _ = self.begin(get())
        bench.pass_time(30.25)
        assert client.transport.aborted
        client.protocol.connectionLost(Failure(ConnectionDone()))
        assert 0 == len(client.protocol._rest)
        assert [] == bench.clock.getDelayedCalls()

    def test_drain(self) -> None:
        """A stop waits for it, and for no request after it."""
        bench, client, taken = self.begin(get())
        drained: list[object] = []
        bench.site.drain().addCallback(drained.append)
        for _ in range(5):
            assert not client.transport.disconnecting
            client.protocol.resumeProducing()
        assert client.closed
        assert taken[-1] == b"end"

    def test_without_its_body(self) -> None:
        """HEAD has the length alone."""
        _, client, taken = self.begin(get().replace(b"GET", b"HEAD"))
        (head,) = taken
        assert b"Content-Length: %d\r\n" % len(self.BODY) in head
        assert head.endswith(b"\r\n\r\n")
        assert not client.closed


class CapTests:
    """Connections are counted (R-12)."""

    def test_per_address(self) -> None:
        """One address has so many, and gets its places back."""
        bench = Bench(Limits(connections_per_address=2))
        first, second = bench.client(), bench.client()
        third = bench.client()
        assert third.transport.aborted
        assert not bench.client("192.0.2.2").closed
        first.protocol.connectionLost(Failure(ConnectionDone()))
        assert not bench.client().closed
        assert bench.client().transport.aborted
        second.protocol.connectionLost(Failure(ConnectionDone()))
        assert 2 == bench.site.connections()

    def test_per_network(self) -> None:
        """The addresses of one IPv6 /64 are one; those mapped are IPv4's."""
        bench = Bench(Limits(connections_per_address=1))
        first = bench.client("2001:db8::1")
        assert bench.client("2001:db8::2").transport.aborted
        assert not bench.client("2001:db8:0:1::1").closed
        assert not bench.client("fe80::1%eth0").closed
        assert not bench.client("::ffff:192.0.2.1").closed
        assert bench.client("192.0.2.1").transport.aborted
        assert not bench.client("::ffff:192.0.2.2").closed
        first.protocol.connectionLost(Failure(ConnectionDone()))
        assert not bench.client("2001:db8::3").closed

    def test_in_all(self) -> None:
        """All addresses together have so many."""
        bench = Bench(Limits(connections=2))
        clients = [bench.client(f"192.0.2.{n}") for n in range(3)]
        assert [False, False, True] == [c.transport.aborted for c in clients]

    def test_log_is_bounded(self) -> None:
        """A flood of connections is a trickle of log lines."""
        with observed() as observer:
            bench = Bench(Limits(connections=0))
            for _ in range(3):
                bench.client()
            bench.clock.advance(11)
            bench.client()
        lines = [e for e in observer if e.get("event") == "connection.refused"]
        assert [1, 4] == [line["refused"] for line in lines]

    def test_no_address(self) -> None:
        """A UNIX socket has no address; its connections are counted as one."""
        bench = Bench()
        assert "unix" == bench.site.buildProtocol(None).peer


class LifeTests:
    """The peer leaves; the gateway reloads or stops."""

    def test_peer_leaves(self) -> None:
        """What works for a peer that has left is cancelled."""
        bench = Bench()
        later = Later(bench)
        client = bench.client()
        client.send(post())
        client.protocol.connectionLost(Failure(ConnectionDone()))
        assert 1 == later.cancelled
        assert b"" == client.read()
        assert [] == bench.ra.refusals

    def test_peer_leaves_late(self) -> None:
        """No timer runs while the peer waits for us; none is stopped."""
        bench = Bench()
        later = Later(bench)
        client = bench.client()
        client.send(post())
        bench.pass_time(300)
        assert [] == bench.clock.getDelayedCalls()
        client.protocol.connectionLost(Failure(ConnectionDone()))
        assert 1 == later.cancelled

    def test_peer_leaves_early(self) -> None:
        """Nothing is wrong with a peer that leaves in mid-request."""
        for octets in (b"", b"GET", post()[:-1], CHUNKED):
            client = Bench().client()
            client.send(octets)
            client.protocol.connectionLost(Failure(ConnectionDone()))
            assert State.CLOSED is client.protocol.state

    def test_reload(self) -> None:
        """Another tree serves the next request, on open connections too."""
        bench, other = Bench(), Bench()
        later = Later(bench)
        client, second = bench.client(), bench.client()
        client.send(post(b"old"))
        bench.site.resource = other.site.resource
        assert b"POST/new" == parse(second.send(post(b"new")))[2]
        later.give(b"old")
        assert b"old" == parse(client.read())[2]
        assert b"POST/new" == parse(client.send(post(b"new")))[2]

    def test_drain(self) -> None:
        """What is under way is finished; nothing new is taken."""
        bench = Bench()
        later = Later(bench)
        busy, idle, reading = bench.client(), bench.client(), bench.client()
        busy.send(post())
        reading.send(b"GET ")
        done: list[object] = []
        bench.site.drain().addCallback(done.append)
        assert idle.closed
        assert not busy.closed
        assert bench.client().transport.aborted
        later.give()
        assert "close" == parse(busy.read())[1]["Connection"]
        reading.send(b"/sample HTTP/1.1\r\nHost: a\r\n\r\n")
        later.give()
        assert busy.closed
        assert reading.closed
        assert [] == done
        for client in (busy, idle, reading):
            client.protocol.connectionLost(Failure(ConnectionDone()))
        assert [None] == done

    def test_drain_of_nothing(self) -> None:
        """A site without connections is drained at once."""
        done: list[object] = []
        Bench().site.drain().addCallback(done.append)
        assert [None] == done

    def test_transport_without_tcp(self) -> None:
        """A transport that is no TCP transport is served."""
        bench = Bench()
        channel = bench.site.buildProtocol(None)
        transport = PlainTransport()
        channel.makeConnection(transport)
        channel.dataReceived(get())
        assert 200 == parse(transport.value())[0]

    def test_limits_are_values(self) -> None:
        """Limits can be varied, not changed."""
        assert 5 == evolve(Limits(), connections=5).connections


class PlainTransport(StringTransport):
    """As it is: no address, no TCP."""
