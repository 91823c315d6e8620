# SPDX-License-Identifier: MIT
"""Calls of others: bounds, tries, and hosts that are left alone."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from treq.testing import RequestTraversalAgent, StringStubbingResource
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers
from zope.interface.verify import verifyObject

from trstctl.ca.ceremony import make_root
from trstctl.errors import Unavailable
from trstctl.interfaces import IOutbound
from trstctl.model import OutboundCall, OutboundReply
from trstctl.outbound import (
    FAILURES,
    MAX_ANSWER,
    PAUSE,
    Connections,
    Outbound,
)
from trstctl.testing import EPOCH, DeterministicBytes, result_of

URL = "https://hook.example/path?key=hidden"
CALL = OutboundCall("webhook.request", URL, b"{}", {"X-Own": "1"})

Answer = tuple[int, Mapping[bytes, bytes], bytes]


class Others:
    """
    Whoever is called, and everything that was heard of it.

    :ivar answer: status, headers and body of each answer; an exception is
        what the connection fails with; a Deferred is waited for.
    """

    def __init__(self, answer: Any = (200, {}, b"hello")) -> None:
        self.answer = answer
        self.heard: list[tuple[bytes, str, dict[bytes, Any], bytes]] = []
        self.trusted: list[str | None] = []
        self.reports: list[tuple[str, str]] = []
        self.clock = Clock()
        self._agent = RequestTraversalAgent(
            StringStubbingResource(self._serve)
        )
        outbound: Any = Outbound(
            self._agent_for,
            self.clock,
            lambda: 0.5,
            lambda *report: self.reports.append(report),
        )
        self.outbound: Outbound = outbound

    def _agent_for(self, trust: str | None) -> Any:
        self.trusted.append(trust)
        return self

    def request(self, *arguments: Any) -> Any:
        """Connect, or fail."""
        if isinstance(self.answer, Exception):
            self.heard.append((b"", "", {}, b""))
            return fail(self.answer)
        if isinstance(self.answer, Deferred):
            return self.answer
        return self._agent.request(*arguments)

    def _serve(
        self,
        method: bytes,
        url: str,
        params: Any,
        headers: dict[bytes, Any],
        data: bytes,
    ) -> Any:
        self.heard.append((method, url, headers, data))
        answer = self.answer
        return answer(len(self.heard)) if callable(answer) else answer

    def call(self, call: OutboundCall = CALL) -> OutboundReply:
        """Call, and let time pass until there is an answer."""
        waiting = self.outbound.call(call)
        for _ in range(100):
            if waiting.called:
                break
            self.clock.advance(0.1)
        return result_of(waiting)

    def fails(self, call: OutboundCall = CALL) -> None:
        """Call in vain."""
        with pytest.raises(Unavailable):
            self.call(call)


@pytest.fixture
def logged_events() -> Any:
    """Collect what is logged."""
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


class CallTests:
    """One call."""

    def test_provides_the_interface(self) -> None:
        """What protocols get is what the interface says."""
        assert verifyObject(IOutbound, Others().outbound)

    def test_body_is_posted_as_it_is(self) -> None:
        """A call with a body is a POST of exactly these octets."""
        others = Others()
        assert OutboundReply(200, b"hello") == others.call()
        (method, url, headers, data) = others.heard[0]
        assert (b"POST", URL.partition("?")[0], b"{}") == (method, url, data)
        assert ["1"] == [v.decode() for v in headers[b"X-Own"]]
        assert [("webhook.request", "answered")] == others.reports

    def test_without_a_body_it_is_a_get(self) -> None:
        """A call without a body is a GET."""
        others = Others()
        others.call(OutboundCall("x", "https://hook.example/"))
        assert b"GET" == others.heard[0][0]

    def test_trust_is_passed_on(self) -> None:
        """Each call is made with the CAs that it names."""
        others = Others()
        others.call(OutboundCall("x", URL, trust="/ca.pem"))
        assert ["/ca.pem"] == others.trusted

    def test_other_statuses_are_answers(self) -> None:
        """What a status means is for the caller to say."""
        assert 404 == Others((404, {}, b"")).call().status

    def test_redirects_are_not_followed(self) -> None:
        """A call goes to the place that was named, and to no other (O-3)."""
        others = Others((307, {b"location": b"https://evil.example/"}, b""))
        assert 307 == others.call().status
        assert 1 == len(others.heard)

    def test_cookies_are_not_kept(self) -> None:
        """What one call was given, the next does not show (O-3)."""
        others = Others((200, {b"set-cookie": b"a=b"}, b""))
        others.call()
        others.call()
        assert b"Cookie" not in others.heard[1][2]

    def test_nothing_is_decompressed(self) -> None:
        """A small answer cannot become a large one (O-1)."""
        packed = gzip.compress(b"0" * 100)
        others = Others((200, {b"content-encoding": b"gzip"}, packed))
        assert packed == others.call().body
        assert b"Accept-Encoding" not in others.heard[0][2]

    @pytest.mark.parametrize(
        "url",
        ["http://hook.example/", "file:///etc/passwd", "hook", "https://["],
    )
    def test_only_https(self, url: str) -> None:
        """Nobody is called without TLS (O-2)."""
        others = Others()
        others.fails(OutboundCall("x", url))
        assert [] == others.heard

    def test_size_is_bounded(self) -> None:
        """An answer that is too large is none (O-1)."""
        assert MAX_ANSWER == len(
            Others((200, {}, b"0" * MAX_ANSWER)).call().body
        )
        others = Others((200, {}, b"0" * (MAX_ANSWER + 1)))
        others.fails()
        assert [("webhook.request", "failed")] == others.reports

    def test_time_is_bounded(self) -> None:
        """A call that is not answered in time is given up (O-1)."""
        cancelled: list[object] = []
        others = Others(Deferred(cancelled.append))
        waiting = others.outbound.call(CALL)
        others.clock.advance(9.9)
        assert not waiting.called
        others.clock.advance(0.2)
        with pytest.raises(Unavailable):
            result_of(waiting)
        assert 1 == len(cancelled)

    def test_whoever_leaves_stops_the_call(self) -> None:
        """A call that nobody waits for any more is not finished."""
        cancelled: list[object] = []
        others = Others(Deferred(cancelled.append))
        waiting = others.outbound.call(CALL)
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        assert 1 == len(cancelled)
        assert [] == others.clock.getDelayedCalls()

    def test_no_try_is_no_answer(self) -> None:
        """Whoever allows no try gets nothing."""
        others = Others()
        others.fails(OutboundCall("x", URL, tries=0))
        assert [] == others.heard

    def test_failure_tells_no_secret(self, logged_events: Any) -> None:
        """The log names service, host and reason, nothing else (O-5)."""
        others = Others(RefusedError("no"))
        others.fails()
        (event,) = [e for e in logged_events if "event" in e]
        assert "outbound.failed" == event["event"]
        assert "hook.example" == event["host"]
        assert "ConnectionRefusedError" in event["reason"]
        assert "hidden" not in str(event)

    def test_reason_is_the_innermost(self, logged_events: Any) -> None:
        """A failure that wraps another is told by that."""
        inner = Failure(ValueError("verify failed"))
        Others(ResponseFailed([inner])).fails()
        (event,) = [e for e in logged_events if "event" in e]
        assert "ValueError: verify failed" == event["reason"]


class Response:
    """An answer whose body comes as the test says."""

    code = 200

    def __init__(self) -> None:
        self.headers = Headers()
        self.hung_up = False
        self.protocol: Any

    def deliverBody(self, protocol: Any) -> None:
        """Take whoever reads."""
        self.protocol = protocol
        protocol.makeConnection(self)

    def loseConnection(self) -> None:
        """Hear that nobody reads any more."""
        self.hung_up = True


class BodyTests:
    """The body of an answer."""

    def begin(self) -> tuple[Response, Others, Deferred[OutboundReply]]:
        """Have a head answered, and no body yet."""
        response = Response()
        others = Others(succeed(response))
        return response, others, others.outbound.call(CALL)

    def test_body_that_breaks_off_is_none(self) -> None:
        """Half an answer is no answer."""
        response, _, waiting = self.begin()
        response.protocol.dataReceived(b"{}")
        response.protocol.connectionLost(Failure(ValueError("broke off")))
        with pytest.raises(Unavailable):
            result_of(waiting)

    def test_whole_body_is_the_answer(self) -> None:
        """The parts are put together."""
        response, _, waiting = self.begin()
        for part in (b"a", b"b"):
            response.protocol.dataReceived(part)
        response.protocol.connectionLost(Failure(ResponseDone()))
        assert b"ab" == result_of(waiting).body

    def test_too_large_a_body_is_hung_up_on(self) -> None:
        """What comes after the limit is not waited for, nor kept."""
        response, _, waiting = self.begin()
        for _ in range(3):
            response.protocol.dataReceived(b"0" * MAX_ANSWER)
        with pytest.raises(Unavailable):
            result_of(waiting)
        assert response.hung_up
        response.protocol.connectionLost(Failure(ResponseDone()))

    def test_deadline_is_the_body_s_too(self) -> None:
        """A body that drips is hung up on in time (O-1)."""
        response, others, waiting = self.begin()
        for _ in range(11):
            response.protocol.dataReceived(b"0")
            others.clock.advance(1)
        with pytest.raises(Unavailable):
            result_of(waiting)
        assert response.hung_up


class TriesTests:
    """Calls that may be sent again."""

    def test_once_by_default(self) -> None:
        """What may do harm twice is sent once."""
        others = Others((503, {}, b""))
        assert 503 == others.call().status
        assert 1 == len(others.heard)

    def test_tries_until_it_works(self) -> None:
        """Trouble is waited out, as often as the caller allows."""
        others = Others(lambda count: (503 if count < 3 else 200, {}, b""))
        assert 200 == others.call(OutboundCall("x", URL, tries=3)).status
        assert 3 == len(others.heard)
        assert [("x", "answered")] == others.reports

    def test_tries_are_bounded(self) -> None:
        """Then it is over."""
        others = Others(RefusedError())
        others.fails(OutboundCall("x", URL, tries=3))
        assert 3 == len(others.heard)
        assert [("x", "failed")] == others.reports

    def test_refusals_are_not_tried_again(self) -> None:
        """An answer that says no is an answer."""
        others = Others((403, {}, b""))
        assert 403 == others.call(OutboundCall("x", URL, tries=3)).status
        assert 1 == len(others.heard)

    def test_pauses_double_and_are_jittered(self) -> None:
        """Several who failed together do not come back together."""
        others = Others(RefusedError())
        waiting = others.outbound.call(OutboundCall("x", URL, tries=3))
        pauses = []
        while not waiting.called:
            (next_one,) = [
                c.getTime() - others.clock.seconds()
                for c in others.clock.getDelayedCalls()
                if c.getTime() - others.clock.seconds() < 5
            ]
            pauses.append(next_one)
            others.clock.advance(next_one)
        with pytest.raises(Unavailable):
            result_of(waiting)
        # 0.2 and 0.4, times 0.5 to 1.5; the fraction is 0.5.
        assert [0.2, 0.4] == [round(pause, 6) for pause in pauses]


class CircuitTests:
    """Hosts that fail (O-4)."""

    def opened(self) -> Others:
        """Fail until the host is left alone."""
        others = Others(RefusedError())
        for _ in range(FAILURES):
            others.fails()
        return others

    def test_host_is_left_alone(self, logged_events: Any) -> None:
        """After some failures in a row nobody waits for it any more."""
        others = self.opened()
        assert 1 == others.outbound.open_circuits()
        heard = len(others.heard)
        others.fails()
        assert heard == len(others.heard)
        assert ("webhook.request", "skipped") == others.reports[-1]
        opened = [e["event"] for e in logged_events if "event" in e]
        assert 1 == opened.count("outbound.opened")

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_trouble_counts_as_a_failure(self, status: int) -> None:
        """So does an answer that says that the host is in trouble."""
        others = Others((status, {}, b""))
        for _ in range(FAILURES):
            assert status == others.call().status
        others.fails()

    def test_answer_forgives(self) -> None:
        """Only failures in a row count."""
        others = Others()
        for _ in range(FAILURES):
            others.answer = RefusedError()
            others.fails()
            others.answer = (400, {}, b"")
            others.call()
        assert 0 == others.outbound.open_circuits()

    def test_other_hosts_are_called(self) -> None:
        """One host's failures are not another's."""
        others = self.opened()
        others.answer = (200, {}, b"")
        assert (
            200
            == others.call(OutboundCall("x", "https://other.example/")).status
        )

    def test_one_tries_it_after_a_while(self, logged_events: Any) -> None:
        """Then one call goes through; if it is answered, all do."""
        others = self.opened()
        others.clock.advance(PAUSE)
        others.answer = first = Deferred()
        waiting = others.outbound.call(CALL)
        others.fails()  # while that one is under way
        response = Response()
        first.callback(response)
        response.protocol.connectionLost(Failure(ResponseDone()))
        assert 200 == result_of(waiting).status
        assert 0 == others.outbound.open_circuits()
        others.answer = (200, {}, b"")
        assert 200 == others.call().status
        events = [e["event"] for e in logged_events if "event" in e]
        assert 1 == events.count("outbound.closed")

    def test_try_in_vain_leaves_it_alone_again(self) -> None:
        """If the one call fails, the pause begins anew."""
        others = self.opened()
        others.clock.advance(PAUSE)
        heard = len(others.heard)
        others.fails()
        assert heard + 1 == len(others.heard)
        others.clock.advance(PAUSE - 1)
        others.fails()
        assert heard + 1 == len(others.heard)

    def test_try_that_is_given_up_is_not_the_last(self) -> None:
        """If whoever tries it leaves, the next one tries it."""
        others = self.opened()
        others.clock.advance(PAUSE)
        others.answer = Deferred(lambda _: None)
        waiting = others.outbound.call(CALL)
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        others.answer = (200, {}, b"")
        assert 200 == others.call().status

    def test_hosts_are_bounded(self) -> None:
        """Discovery cannot fill the memory with hosts."""
        others = Others()
        for number in range(300):
            others.call(OutboundCall("x", f"https://h{number}.example/"))
        assert 256 == len(others.outbound._circuits)


class ConnectionsTests:
    """Where connections come from."""

    def test_one_agent_for_each_trust(self, tmp_path: Path) -> None:
        """Connections are kept, apart by the CAs that they trust."""
        key = ec.generate_private_key(ec.SECP256R1())
        root = make_root(key, "root", EPOCH, DeterministicBytes("root"))
        pem = x509.load_der_x509_certificate(root).public_bytes(Encoding.PEM)
        file = tmp_path / "ca.pem"
        file.write_bytes(pem)
        connections = Connections(MemoryReactorClock())
        assert connections(None) is connections(None)
        assert connections(str(file)) is connections(str(file))
        assert connections(str(file)) is not connections(None)
        assert [None, None] == result_of(connections.close())

    def test_missing_file_fails_the_call(self, tmp_path: Path) -> None:
        """A CA file that is not there lets nobody be trusted."""
        outbound: Any = Outbound(
            Connections(MemoryReactorClock()),
            Clock(),
            lambda: 0.0,
            lambda *_: None,
        )
        call = OutboundCall("x", URL, trust=str(tmp_path / "none.pem"))
        with pytest.raises(Unavailable):
            result_of(outbound.call(call))
