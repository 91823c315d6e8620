# SPDX-License-Identifier: MIT
"""The ops listener: alive, ready, measured."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from trstctl.errors import Unavailable
from trstctl.metrics import Metrics
from trstctl.ops import Check, Readiness, make_ops_root
from trstctl.testing import (
    FakeSigner,
    MemoryStore,
    WallClock,
    make_authority,
    read_response,
    request_octets,
    result_of,
)
from trstctl.web import HTTPResponse, Limits, make_site

DAY = timedelta(days=1)


class _Store(MemoryStore):
    """A store whose check can fail, or take its time."""

    def __init__(self) -> None:
        super().__init__()
        self.result: Any = None
        self.checked = 0

    def check(self) -> Deferred[None]:
        """Answer as the test wants."""
        self.checked += 1
        if isinstance(self.result, Exception):
            return fail(self.result)
        return succeed(None) if self.result is None else self.result


class _Bench:
    """Readiness, and the listener before it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.now = WallClock(self.clock)
        self.store = _Store()
        self.signer = FakeSigner()
        self.authority: Any = make_authority(signer=self.signer)
        self.server_end: datetime | None = self.now() + 90 * DAY
        self.crl_end: datetime | None = self.now() + DAY
        store: Any = self.store
        self.readiness = Readiness(
            store=store,
            authorities=lambda: {"issuing": self.authority},
            server_not_after=lambda: self.server_end,
            crl_ends=lambda: {"issuing": self.crl_end},
            clock=self.clock,
            now=self.now,
        )
        self.refreshed: Any = None
        self.site = make_site(
            make_ops_root(self.readiness, Metrics(), self.refresh),
            Limits(),
            self.clock,
            lambda: "0123456789abcdef",
        )

    async def refresh(self) -> None:
        """Bring the gauges up to date, or fail."""
        if self.refreshed is not None:
            raise self.refreshed

    def checks(self) -> dict[str, tuple[bool, str]]:
        """Return the report by name."""
        found = result_of(self.readiness.checks())
        return {one.name: (one.ok, one.detail) for one in found}

    def connect(self, path: str, method: str = "GET") -> Any:
        """Send a request; return connection and transport."""
        protocol: Any = self.site.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(request_octets(method, path))
        return protocol, transport

    def get(self, path: str, method: str = "GET") -> HTTPResponse:
        """Send a request, and return the answer."""
        protocol, transport = self.connect(path, method)
        answer = read_response(transport.value())
        protocol.connectionLost()
        return answer


class ReadinessTests:
    """Whether an enrollment would succeed now."""

    def test_everything_is_well(self) -> None:
        """Each thing that an enrollment needs has a line."""
        bench = _Bench()
        assert {
            "store": (True, "writes"),
            "signer:issuing": (True, "signs"),
            "authority:issuing": (
                True,
                f"valid, {(bench.authority.not_after - bench.now()).days} "
                "days left",
            ),
            "tls": (True, "valid, 90 days left"),
            "crl:issuing": (True, "in force"),
            "accepting": (True, "open"),
        } == bench.checks()

    def test_crl(self) -> None:
        """One that has run out is told; devices enroll all the same."""
        bench = _Bench()
        bench.crl_end = bench.now()
        assert (True, "one has run out") == bench.checks()["crl:issuing"]
        bench.clock.advance(1)
        bench.crl_end = None
        assert (True, "none is signed yet") == bench.checks()["crl:issuing"]
        assert 200 == bench.get("/readyz").status

    def test_store_that_cannot_write(self) -> None:
        """A store that cannot write is not ready; the others are told."""
        bench = _Bench()
        bench.store.result = Unavailable()
        checks = bench.checks()
        assert (False, "Unavailable") == checks["store"]
        assert (True, "signs") == checks["signer:issuing"]

    def test_signer_that_is_gone(self) -> None:
        """A key that does not sign is not ready, nor one that lies."""
        bench = _Bench()
        bench.signer.error = Unavailable()
        assert (False, "Unavailable") == bench.checks()["signer:issuing"]
        bench.clock.advance(1)
        bench.signer.error = None
        bench.signer.forging = True
        assert not bench.checks()["signer:issuing"][0]

    def test_text_of_an_error_stays_inside(self) -> None:
        """The report names the kind of a fault, not its text."""
        bench = _Bench()
        bench.store.result = ZeroDivisionError("/secret/path")
        assert (False, "ZeroDivisionError") == bench.checks()["store"]

    def test_what_expires(self) -> None:
        """A month ahead it is told; once it has expired, it fails."""
        for left, expected in (
            (30 * DAY, (True, "valid, 30 days left")),
            (29 * DAY, (True, "expires soon, 29 days left")),
            (timedelta(seconds=1), (True, "expires soon, 0 days left")),
            (timedelta(0), (False, "expired")),
            (-DAY, (False, "expired")),
        ):
            bench = _Bench()
            bench.server_end = bench.now() + left
            assert expected == bench.checks()["tls"]

    def test_no_server_certificate(self) -> None:
        """Behind a proxy that ends TLS there is none to look at."""
        bench = _Bench()
        bench.server_end = None
        assert "tls" not in bench.checks()

    def test_draining(self) -> None:
        """A load balancer learns of a shutdown at once."""
        bench = _Bench()
        bench.checks()
        bench.readiness.draining = True
        assert (False, "shutting down") == bench.checks()["accepting"]

    def test_one_round_a_second(self) -> None:
        """Probes cost one write a second, however many there are."""
        bench = _Bench()
        for _ in range(10):
            bench.checks()
        assert 1 == bench.store.checked
        bench.clock.advance(1)
        bench.checks()
        assert 2 == bench.store.checked

    def test_nobody_is_answered_before_the_first_round(self) -> None:
        """Who asks during a round waits for its result."""
        bench = _Bench()
        bench.store.result = waiting = Deferred()
        answers: list[tuple[Check, ...]] = []
        for _ in range(3):
            Deferred.fromCoroutine(bench.readiness.checks()).addCallback(
                answers.append
            )
        assert [] == answers
        waiting.errback(Unavailable())
        assert 3 == len(answers)
        assert all(not one[0].ok for one in answers)
        assert 1 == bench.store.checked

    def test_check_that_hangs(self) -> None:
        """A store that does not answer in five seconds has failed."""
        bench = _Bench()
        bench.store.result = Deferred()
        answers: list[tuple[Check, ...]] = []
        Deferred.fromCoroutine(bench.readiness.checks()).addCallback(
            answers.append
        )
        bench.clock.advance(5)
        assert Check("store", False, "TimeoutError") == answers[0][0]

    def test_waiter_goes_on_if_the_first_leaves(self) -> None:
        """A round that is broken off is taken up by who waits for it."""
        bench = _Bench()
        bench.store.result = Deferred()
        answers: list[tuple[Check, ...]] = []

        authorities = bench.readiness._authorities

        def broken_once() -> Any:
            bench.readiness._authorities = authorities
            raise SystemExit

        bench.readiness._authorities = broken_once
        first = Deferred.fromCoroutine(bench.readiness.checks())
        first.addErrback(lambda failure: failure.trap(SystemExit))
        Deferred.fromCoroutine(bench.readiness.checks()).addCallback(
            answers.append
        )
        hanging, bench.store.result = bench.store.result, None
        hanging.callback(None)
        assert first.called
        assert all(one.ok for one in answers[0])


class ListenerTests:
    """The three pages."""

    def test_healthz(self) -> None:
        """It answers while the reactor turns, whatever the store does."""
        bench = _Bench()
        bench.store.result = Unavailable()
        answer = bench.get("/healthz")
        assert (200, b"ok\n") == (answer.status, answer.body)
        assert "text/plain" == answer.content_type
        assert "no-store" == answer.headers["Cache-Control"]

    def test_readyz(self) -> None:
        """200 with every check, or 503 with every check."""
        bench = _Bench()
        answer = bench.get("/readyz")
        report = json.loads(answer.body)
        assert 200 == answer.status
        assert "application/json" == answer.content_type
        assert report["ready"]
        assert {"name": "store", "ok": True, "detail": "writes"} in report[
            "checks"
        ]
        bench.clock.advance(1)
        bench.store.result = Unavailable()
        answer = bench.get("/readyz")
        assert 503 == answer.status
        assert not json.loads(answer.body)["ready"]

    def test_metrics(self) -> None:
        """Prometheus text, after the gauges were refreshed."""
        answer = _Bench().get("/metrics")
        assert 200 == answer.status
        assert "text/plain; version=0.0.4" == answer.content_type
        assert b"# HELP" in answer.body

    def test_page_that_fails(self, logged: Any) -> None:
        """500, empty, and in the log: nobody is left waiting."""
        bench = _Bench()
        bench.refreshed = ZeroDivisionError("secret")
        answer = bench.get("/metrics")
        assert (500, b"") == (answer.status, answer.body)
        assert 1 == len(logged.flush(ZeroDivisionError))

    def test_probe_that_leaves(self, logged: Any) -> None:
        """Who does not wait for the answer breaks nothing."""
        for result in (None, SystemExit()):
            bench = _Bench()
            waiting: Deferred[None] = Deferred()
            bench.store.result = waiting
            protocol, transport = bench.connect("/readyz")
            protocol.connectionLost()
            if result is None:
                waiting.callback(None)
            else:
                waiting.errback(result)
            assert b"" == transport.value()
        assert 1 == len(logged.flush(SystemExit))

    def test_nothing_else(self) -> None:
        """Any other path is 404, and any other method is refused."""
        bench = _Bench()
        for path in ("/", "/nowhere"):
            assert 404 == bench.get(path).status
        answer = bench.get("/healthz", "POST")
        assert (405, "GET, HEAD") == (answer.status, answer.headers["Allow"])
        assert b"" == bench.get("/healthz", "HEAD").body
