# SPDX-License-Identifier: MIT
"""Refusals are audited one by one in peace, and counted in a flood."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from trstctl.errors import (
    ChallengeRejected,
    Malformed,
    NotAuthenticated,
    Unavailable,
)
from trstctl.model import Endpoint
from trstctl.refusals import RefusalAudit
from trstctl.testing import (
    EPOCH,
    OTHER_TENANT,
    TENANT,
    MemoryStore,
    WallClock,
    result_of,
)

ENDPOINT = Endpoint("est", "label", TENANT, "device", "issuing")


class Brittle(MemoryStore):
    """A store whose audit log can be broken."""

    error: Exception | None = None
    slow: Deferred[None] | None = None

    def append_audit(self, events: Any) -> Deferred[None]:
        """Append, or fail, or take a while."""
        if self.slow is not None:
            return self.slow
        if self.error is not None:
            return fail(self.error)
        return super().append_audit(events)


class _Bench:
    """A refusal audit with everything around it."""

    def __init__(self, rate: float = 20.0, burst: int = 1000) -> None:
        self.store = Brittle()
        self.clock = Clock()
        store: Any = self.store
        self.audit = RefusalAudit(
            store, self.clock, WallClock(self.clock), rate, burst
        )

    def refuse(
        self,
        error: Exception | None = None,
        endpoint: Endpoint = ENDPOINT,
        principal: str = "",
    ) -> None:
        """Record one refusal."""
        result_of(
            self.audit.record(
                endpoint,
                "enroll",
                error or Malformed(),
                "rid",
                "192.0.2.1",
                principal,
            )
        )

    def events(self, tenant_id: str = TENANT) -> list[dict[str, Any]]:
        """Return the tenant's audit records."""
        records = result_of(self.store.audit_records(tenant_id, 0, 5000))
        return [json.loads(one.body) for one in records]


class RefusalAuditTests:
    """The audit of what was refused."""

    def test_writes_one_record_with_its_facts(self) -> None:
        """I-6: what was refused leaves an audit record that says it all."""
        bench = _Bench()
        bench.refuse(Malformed("bad"))
        (event,) = bench.events()
        assert {
            "actor": "unknown",
            "at": EPOCH.isoformat(timespec="microseconds"),
            "event": "request.refused",
            "fields": {
                "protocol": "est",
                "endpoint": "label",
                "operation": "enroll",
                "error": "Malformed",
                "reason": "bad",
                "request_id": "rid",
                "peer": "192.0.2.1",
            },
        } == event

    def test_names_the_principal(self) -> None:
        """Who was proven before it was refused is the record's actor."""
        bench = _Bench()
        bench.refuse(principal="basic:a")
        assert "basic:a" == bench.events()[0]["actor"]

    def test_caps_what_the_peer_may_write(self) -> None:
        """No field grows with the peer's wish (security, 3.1: 256)."""
        bench = _Bench()
        bench.refuse(Malformed("x" * 10_000))
        assert 256 == len(bench.events()[0]["fields"]["reason"])

    def test_peer_that_leaves(self) -> None:
        """I-6: nobody avoids his record by leaving before it is made."""
        bench = _Bench()
        slow = bench.store.slow = Deferred()
        waiting = bench.audit.record(ENDPOINT, "enroll", Malformed(), "r", "p")
        ended: list[Failure] = []
        waiting.addErrback(ended.append)
        waiting.cancel()
        assert ended[0].check(CancelledError)
        assert not slow.called
        slow.callback(None)
        bench.store.slow = None
        result_of(bench.audit.flush())
        assert [] == bench.events()  # it was not counted besides

    def test_flood_is_counted(self) -> None:
        """What exceeds the rate becomes one record for each kind."""
        bench = _Bench(rate=1.0, burst=2)
        for _ in range(5):
            bench.refuse(Malformed())
        for _ in range(3):
            bench.refuse(NotAuthenticated())
        assert 2 == len(bench.events())
        result_of(bench.audit.flush())
        counted = [(one["event"], one["fields"]) for one in bench.events()[2:]]
        assert [
            (
                "request.refused.more",
                {"protocol": "est", "error": "Malformed", "count": "3"},
            ),
            (
                "request.refused.more",
                {"protocol": "est", "error": "NotAuthenticated", "count": "3"},
            ),
        ] == counted

    def test_flood_hides_no_alarm(self) -> None:
        """A copied secret is told, whatever else is refused meanwhile."""
        bench = _Bench(rate=1.0, burst=2)
        for _ in range(5):
            bench.refuse(ChallengeRejected())
        for _ in range(3):
            bench.refuse(ChallengeRejected(reused=True), principal="token:a")
        alarms = [e for e in bench.events() if e["event"] == "secret.reused"]
        assert ["token:a"] * 2 == [alarm["actor"] for alarm in alarms]
        result_of(bench.audit.flush())
        assert {"ChallengeRejected": "3", "secret.reused": "1"} == {
            one["fields"]["error"]: one["fields"]["count"]
            for one in bench.events()
            if one["event"] == "request.refused.more"
        }

    def test_counts_stay_with_their_tenant(self) -> None:
        """A flood on one tenant is not told in another's chain (R-10)."""
        bench = _Bench(burst=0)
        other = Endpoint("est", "", OTHER_TENANT, "device", "issuing")
        bench.refuse()
        bench.refuse(endpoint=other)
        result_of(bench.audit.flush())
        for tenant in (TENANT, OTHER_TENANT):
            (event,) = bench.events(tenant)
            assert "1" == event["fields"]["count"]

    def test_credit_comes_back(self) -> None:
        """After the flood each refusal has its record again."""
        bench = _Bench(rate=1.0, burst=2)
        for _ in range(3):
            bench.refuse()
        bench.clock.advance(1.0)
        bench.refuse()
        assert 3 == len(bench.events())

    def test_credit_is_bounded(self) -> None:
        """A quiet year does not save up for a flood."""
        bench = _Bench(rate=1.0, burst=2)
        bench.clock.advance(1e7)
        for _ in range(5):
            bench.refuse()
        assert 2 == len(bench.events())

    def test_flush_writes_nothing_twice(self) -> None:
        """A count that was written is forgotten."""
        bench = _Bench(burst=0)
        bench.refuse()
        result_of(bench.audit.flush())
        result_of(bench.audit.flush())
        assert 1 == len(bench.events())

    def test_never_fails(self) -> None:
        """A refusal stays a refusal if the audit log is away."""
        for error in (Unavailable(), ZeroDivisionError()):
            bench = _Bench()
            bench.store.error = error
            bench.refuse()
            result_of(bench.audit.flush())

    def test_what_could_not_be_written_is_told_later(self) -> None:
        """Nothing is lost but detail: the count waits for the store."""
        bench = _Bench(burst=1)
        bench.store.error = Unavailable()
        bench.refuse()
        bench.refuse()
        result_of(bench.audit.flush())
        assert [] == bench.events()
        bench.store.error = None
        result_of(bench.audit.flush())
        (event,) = bench.events()
        assert "2" == event["fields"]["count"]
