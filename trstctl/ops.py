# SPDX-License-Identifier: MIT
"""
The ops listener: is it alive, is it ready, what has it done.

``/healthz`` answers while the reactor turns.  ``/readyz`` tries what an
enrollment needs (a durable write, a signature of each authority) and looks
at what will expire; its JSON lists every check, and its status is 503 if one
fails.  It tells, too, if a CRL has run out, which keeps nobody from
enrolling.  ``/metrics`` is Prometheus text.  The listener is for the operator's
own network: it is bound to loopback unless the configuration says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.pages import notFound
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from trstctl.interfaces import IAuthority, IStore
from trstctl.metrics import Metrics

#: Seconds for which one round of checks answers everybody who asks.
_FRESH = 1.0

#: Seconds that a check may take before it counts as failed.
_PATIENCE = 5.0

#: An expiry closer than this is told; only what has expired fails.
_WARN = timedelta(days=30)


@frozen
class Check:
    """One line of the readiness report."""

    name: str
    ok: bool
    detail: str


class Readiness:
    """
    Runs the checks, at most one round a second.

    :param authorities: returns the authorities of this moment.
    :param server_not_after: returns the end of the TLS server certificate.
    :param crl_ends: returns when the first CRL of each authority runs out;
        ``None``: it has none.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        store: IStore,
        authorities: Callable[[], Mapping[str, IAuthority]],
        server_not_after: Callable[[], datetime | None],
        crl_ends: Callable[[], Mapping[str, datetime | None]],
        clock: IReactorTime,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._authorities = authorities
        self._server_not_after = server_not_after
        self._crl_ends = crl_ends
        self._clock = clock
        self._now = now
        self._checks: tuple[Check, ...] = ()
        self._until = -1.0
        self._waiting: list[Deferred[None]] | None = None
        self.draining = False

    async def checks(self) -> tuple[Check, ...]:
        """Return one line for each thing that an enrollment needs."""
        while self._clock.seconds() >= self._until:
            if self._waiting is None:
                await self._refresh()
            else:
                turn: Deferred[None] = Deferred()
                self._waiting.append(turn)
                await turn
        return (
            *self._checks,
            Check(
                "accepting",
                not self.draining,
                "shutting down" if self.draining else "open",
            ),
        )

    async def _refresh(self) -> None:
        """Run one round, for everybody who asks meanwhile."""
        self._waiting = []
        try:
            self._checks = await self._round()
            self._until = self._clock.seconds() + _FRESH
        finally:
            waiting, self._waiting = self._waiting, None
            for turn in waiting:
                turn.callback(None)

    async def _round(self) -> tuple[Check, ...]:
        """Run every check, one after the other."""
        found = [await self._try("store", self._store.check, "writes")]
        for name, authority in self._authorities().items():
            found.append(
                await self._try(f"signer:{name}", authority.check, "signs")
            )
            found.append(
                self._expiry(f"authority:{name}", authority.not_after)
            )
        server = self._server_not_after()
        if server is not None:
            found.append(self._expiry("tls", server))
        for name, end in self._crl_ends().items():
            found.append(self._crl(f"crl:{name}", end))
        return tuple(found)

    async def _try(
        self, name: str, attempt: Callable[[], Awaitable[object]], good: str
    ) -> Check:
        """Run one attempt; any error is a failed check, and logged."""

        async def tried() -> object:
            return await attempt()

        try:
            await Deferred.fromCoroutine(tried()).addTimeout(
                _PATIENCE, self._clock
            )
        except Exception as error:  # noqa: BLE001 - a probe must not fail
            self._log.error(
                "readiness check {name} failed: {reason}",
                event="readiness.failed",
                name=name,
                reason=str(error),
            )
            return Check(name, ok=False, detail=type(error).__name__)
        return Check(name, ok=True, detail=good)

    def _expiry(self, name: str, not_after: datetime) -> Check:
        """Judge when something ends."""
        left = not_after - self._now()
        if left <= timedelta(0):
            return Check(name, ok=False, detail="expired")
        word = "expires soon" if left < _WARN else "valid"
        return Check(name, ok=True, detail=f"{word}, {left.days} days left")

    def _crl(self, name: str, end: datetime | None) -> Check:
        """
        Tell whether an authority's CRLs are in force.

        Never a failed check: enrollment goes on, and what takes a gateway
        out of service takes away its OCSP, too.
        """
        if end is None:
            return Check(name, ok=True, detail="none is signed yet")
        if end <= self._now():
            return Check(name, ok=True, detail="one has run out")
        return Check(name, ok=True, detail="in force")


class _Page(Resource):
    """A leaf that answers GET with text made by a coroutine."""

    isLeaf = True
    _log = Logger()

    def __init__(
        self, page: Callable[[], Awaitable[tuple[int, str, bytes]]]
    ) -> None:
        super().__init__()
        self._page = page

    def render(self, request: Request) -> object:
        """Answer GET and HEAD."""
        if request.method in {b"GET", b"HEAD"}:
            return self.render_GET(request)
        request.setResponseCode(405)
        request.setHeader("Allow", "GET, HEAD")
        return b""

    def render_GET(self, request: Request) -> object:
        """Write the page as soon as it is made."""
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        async def write() -> None:
            status, content_type, body = await self._page()
            if gone:
                return
            request.setResponseCode(status)
            request.setHeader("Content-Type", content_type)
            request.setHeader("Content-Length", str(len(body)))
            request.setHeader("Cache-Control", "no-store")
            request.write(body)
            request.finish()

        Deferred.fromCoroutine(write()).addErrback(self._failed, request, gone)
        return NOT_DONE_YET

    def _failed(
        self, failure: Failure, request: Request, gone: list[object]
    ) -> None:
        """Log why there is no page, and say that there is none."""
        self._log.failure(
            "an ops page failed", failure=failure, event="ops.failed"
        )
        if not gone:
            request.setResponseCode(500)
            request.setHeader("Content-Length", "0")
            request.finish()


class _Root(Resource):
    """The root: nothing but its children."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        """Return what answers 404."""
        return self

    def render(self, request: Request) -> object:
        """Answer 404."""
        return notFound().render(request)


def make_ops_root(
    readiness: Readiness,
    metrics: Metrics,
    refresh: Callable[[], Awaitable[None]],
) -> Resource:
    """
    Return the root resource of the ops listener.

    :param refresh: brings gauges up to date before they are read.
    """

    async def healthy() -> tuple[int, str, bytes]:
        return 200, "text/plain", b"ok\n"

    async def ready() -> tuple[int, str, bytes]:
        checks = await readiness.checks()
        good = all(check.ok for check in checks)
        report = {
            "ready": good,
            "checks": [
                {"name": one.name, "ok": one.ok, "detail": one.detail}
                for one in checks
            ],
        }
        body = json.dumps(report, indent=1).encode() + b"\n"
        return (200 if good else 503), "application/json", body

    async def measured() -> tuple[int, str, bytes]:
        await refresh()
        return 200, "text/plain; version=0.0.4", metrics.exposition()

    root = _Root()
    root.putChild(b"healthz", _Page(healthy))
    root.putChild(b"readyz", _Page(ready))
    root.putChild(b"metrics", _Page(measured))
    return root
