# SPDX-License-Identifier: MIT
"""Connections in any order of events: none is ever left alone (R-12)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from web_samples import Bench, Client, get, post

from trstctl.http.answer import LARGE
from trstctl.http.channel import State
from trstctl.web import HTTPRequest, HTTPResponse, Limits

LIMITS = Limits(header=300, body=400)

LONGEST = {
    State.IDLE: LIMITS.idle_seconds,
    State.HEAD: LIMITS.header_seconds,
    State.BODY: LIMITS.body_seconds,
}

PIECES = st.sampled_from(
    [
        get(),
        get() * 4,
        get()[:20],
        get()[20:],
        get(extra=b"Connection: close\r\n"),
        get(b"/nowhere"),
        post(),
        post()[:-2],
        post()[-2:],
        post(b"x" * 1001)[:-1],
        post(extra=b"Expect: 100-continue\r\n")[:-4],
        b"POST /sample HTTP/1.1\r\nHost: a\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"2\r\nab\r\n",
        b"0\r\n\r\n",
        b"\r\n",
        b"GET\n",
        b"x" * 301,
    ]
)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), PIECES),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 3.0, 15.0, 29.0])),
        st.tuples(
            st.sampled_from(["pause", "resume", "give", "large", "drain"]),
            st.none(),
        ),
    ),
    max_size=25,
)


class Story:
    """One connection whose answers come later."""

    def __init__(self) -> None:
        self.bench = Bench(LIMITS)
        self.bench.sample.act = self.act
        self.answers: list[Deferred[HTTPResponse]] = []
        self.client = Client(self.bench.site)
        self.stalled = False
        self.write = self.client.transport.write
        self.client.transport.write = self.take  # type: ignore[method-assign]

    async def act(self, request: HTTPRequest) -> HTTPResponse:
        """Wait until the story has the answer given."""
        answer: Deferred[HTTPResponse] = Deferred(lambda _: None)
        self.answers.append(answer)
        return await answer

    def take(self, octets: bytes) -> None:
        """Take octets; of many, only these for now."""
        self.write(octets)
        registered = self.client.transport.producer is not None
        if len(octets) >= LARGE and registered and not self.stalled:
            self.stalled = True
            self.client.protocol.pauseProducing()

    @property
    def state(self) -> State:
        """What the connection waits for."""
        state: State = self.client.protocol.state
        return state

    def happen(self, event: str, value: bytes | float | None) -> None:
        """Let one thing happen, as a transport would."""
        if self.client.transport.aborted:
            return
        channel = self.client.protocol
        producing = "producing" == self.client.transport.producerState
        registered = self.client.transport.producer is not None
        if isinstance(value, bytes):
            if producing:
                channel.dataReceived(value)
        elif isinstance(value, float):
            self.bench.clock.advance(value)
        elif event == "give" and self.answers:
            self.answers.pop(0).callback(HTTPResponse(200))
        elif event == "large" and self.answers:
            large = HTTPResponse(200, "text/plain", bytes(2 * LARGE + 1))
            self.answers.pop(0).callback(large)
        elif event == "drain":
            self.bench.site.drain()
        elif event == "pause" and registered and not self.stalled:
            self.stalled = True
            channel.pauseProducing()
        elif event == "resume" and registered and self.stalled:
            self.stalled = False
            channel.resumeProducing()

    def deadline(self) -> float | None:
        """Return in how many seconds the wait ends, if it does."""
        calls = self.bench.clock.getDelayedCalls()
        assert len(calls) <= 1
        deadline: float | None = self.client.protocol._deadline
        if deadline is None:
            return None
        assert calls[0].getTime() <= deadline
        return deadline - self.bench.clock.seconds()


class StateTests:
    """What holds after each event."""

    @given(EVENTS)
    @settings(derandomize=True, deadline=None, max_examples=400, database=None)
    def test_any_order(
        self, events: list[tuple[str, bytes | float | None]]
    ) -> None:
        """
        Whoever is waited for has a deadline, and what he sent a bound; in
        the end the connection closes, and nothing of it is left.
        """
        story = Story()
        site, client = story.bench.site, story.client
        for event in events:
            story.happen(*event)
            left = story.deadline()
            if story.state is State.ANSWER and not story.stalled:
                assert left is None
            elif not client.transport.aborted:
                assert left is not None
                assert left <= (
                    LIMITS.write_seconds
                    if story.stalled
                    else LONGEST.get(story.state, LIMITS.write_seconds)
                )
            assert len(client.protocol._buffer) <= 300 + 400 + 1200
        assert 1 == site.connections()
        for _ in range(60):
            story.happen("give", None)
            story.bench.clock.advance(61)
        assert client.closed
        client.protocol.connectionLost(Failure(ConnectionDone()))
        assert 0 == site.connections()
        assert {} == site._per_address
        assert [] == story.bench.clock.getDelayedCalls()

    def test_requests_sent_ahead(self) -> None:
        """
        Answers that take their time do not let the buffer grow: one head's
        limit and one read, however much the peer would send.
        """
        story = Story()
        ahead = get() * 20
        answered = 0
        for _ in range(200):
            story.happen("send", ahead)
            assert len(story.client.protocol._buffer) <= 300 + len(ahead)
            story.happen("give", None)
            answered += story.client.read().count(b"HTTP/1.1 200 OK")
        assert 200 == answered

    def test_reading_goes_on(self) -> None:
        """What was held back is read once there is room for it."""
        story = Story()
        story.happen("send", get() * 20)
        assert "paused" == story.client.transport.producerState
        for _ in range(19):
            story.happen("give", None)
        assert State.ANSWER is story.state
        assert "producing" == story.client.transport.producerState

    @given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=60))
    @settings(derandomize=True, deadline=None, max_examples=100, database=None)
    def test_churn(self, events: list[tuple[int, bool]]) -> None:
        """Places are counted right, however connections come and go."""
        bench = Bench(Limits(connections=4, connections_per_address=2))
        held: dict[str, list[Client]] = {}
        for number, comes in events:
            host = f"192.0.2.{number}"
            mine = held.setdefault(host, [])
            full = len(mine) == 2 or sum(map(len, held.values())) == 4
            if comes:
                client = bench.client(host)
                assert full is client.transport.aborted
                if full:
                    client.protocol.connectionLost(Failure(ConnectionDone()))
                else:
                    mine.append(client)
            elif mine:
                mine.pop().protocol.connectionLost(Failure(ConnectionDone()))
            assert sum(map(len, held.values())) == bench.site.connections()
        for client in [each for mine in held.values() for each in mine]:
            client.protocol.connectionLost(Failure(ConnectionDone()))
        assert {} == bench.site._per_address
