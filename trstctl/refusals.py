# SPDX-License-Identifier: MIT
"""
The audit of refused requests: complete in peace, counted in a flood.

Anybody who can reach a listener can be refused, as often as he likes.  So
each refusal gets its audit record up to a rate; what exceeds it is counted
by tenant, protocol and error, and the counts are written as one record each
when :meth:`RefusalAudit.flush` next runs.  Nothing is lost but detail, and
neither disk nor memory is the peer's to fill.

One refusal is an alarm: a single-use secret that was burnt for another key.
Two have it, and one of them should not; ``secret.reused`` is its record, and
a warning in the log.  Alarms have a rate and a count of their own: who has
copied a secret cannot hide that in a flood of other refusals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trstctl.errors import ChallengeRejected
from trstctl.interfaces import IStore
from trstctl.model import AuditEvent, Endpoint

#: Longest text that a refusal record keeps of any one field, in characters.
_FIELD_LIMIT = 256


class _Allowance:
    """How many records may be written: a burst, then a steady rate."""

    def __init__(self, clock: IReactorTime, rate: float, burst: int) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = float(burst)
        self._credit = float(burst)
        self._refilled = clock.seconds()

    def take(self) -> bool:
        """Take one record's worth of credit, if there is any."""
        seconds = self._clock.seconds()
        earned = (seconds - self._refilled) * self._rate
        self._refilled = seconds
        self._credit = min(self._burst, self._credit + earned)
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True


class RefusalAudit:
    """
    Writes refusals to the audit log at a bounded rate.

    :param clock: the monotonic clock.
    :param now: the wall clock, UTC.
    :param rate: records a second, in the long run; alarms have as many.
    :param burst: records that may be written at once.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        clock: IReactorTime,
        now: Callable[[], datetime],
        rate: float = 20.0,
        burst: int = 1000,
    ) -> None:
        self._store = store
        self._now = now
        self._ordinary = _Allowance(clock, rate, burst)
        self._alarms = _Allowance(clock, rate, burst)
        self._counted: Counter[tuple[str, str, str]] = Counter()

    def record(
        self,
        endpoint: Endpoint,
        operation: str,
        error: Exception,
        request_id: str,
        peer: str,
        principal: str = "",
    ) -> Deferred[None]:
        """
        Audit one refusal, or count it; never fail.

        A peer that leaves ends the waiting only: the record is made.
        """
        waiting: Deferred[None] = Deferred()
        Deferred.fromCoroutine(
            self._record(
                endpoint, operation, error, request_id, peer, principal
            )
        ).addBoth(waiting.callback)
        return waiting

    async def _record(
        self,
        endpoint: Endpoint,
        operation: str,
        error: Exception,
        request_id: str,
        peer: str,
        principal: str,
    ) -> None:
        """Audit one refusal, or count it."""
        kind, name = type(error).__name__, "request.refused"
        counted, allowance = kind, self._ordinary
        reused = isinstance(error, ChallengeRejected) and error.reused
        if reused:
            name = counted = "secret.reused"
            allowance = self._alarms
            self._log.warn(
                "a single-use secret was used by a second key",
                event="secret.reused",
                request_id=request_id,
                tenant=endpoint.tenant_id,
                protocol=endpoint.protocol,
                principal=principal,
                peer=peer,
            )
        elif isinstance(error, ChallengeRejected) and error.misused:
            name = counted = "secret.misused"
            allowance = self._alarms
            self._log.warn(
                "a renewal brought the challenge of somebody else",
                event="secret.misused",
                request_id=request_id,
                tenant=endpoint.tenant_id,
                protocol=endpoint.protocol,
                principal=principal,
                peer=peer,
            )
        if not allowance.take():
            self._counted[endpoint.tenant_id, endpoint.protocol, counted] += 1
            return
        event = AuditEvent(
            tenant_id=endpoint.tenant_id,
            at=self._now(),
            event=name,
            actor=principal or "unknown",
            fields={
                "protocol": endpoint.protocol,
                "endpoint": endpoint.name,
                "operation": operation,
                "error": kind,
                "reason": str(error)[:_FIELD_LIMIT],
                "request_id": request_id,
                "peer": peer,
            },
        )
        if not await self._append(event):
            self._counted[endpoint.tenant_id, endpoint.protocol, counted] += 1

    async def flush(self) -> None:
        """Write what was only counted, one record for each kind."""
        counted, self._counted = self._counted, Counter()
        for (tenant_id, protocol, kind), count in counted.items():
            event = AuditEvent(
                tenant_id=tenant_id,
                at=self._now(),
                event="request.refused.more",
                actor="unknown",
                fields={
                    "protocol": protocol,
                    "error": kind,
                    "count": str(count),
                },
            )
            if not await self._append(event):
                self._counted[tenant_id, protocol, kind] += count

    async def _append(self, event: AuditEvent) -> bool:
        """Append, and tell whether that worked."""
        try:
            await self._store.append_audit((event,))
        except Exception as error:  # noqa: BLE001 (a refusal stays one)
            self._log.error(
                "a refusal could not be audited: {reason}",
                event="audit.refusal.delayed",
                tenant=event.tenant_id,
                reason=f"{type(error).__name__}: {error}",
            )
            return False
        return True
