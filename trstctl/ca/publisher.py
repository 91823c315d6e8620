# SPDX-License-Identifier: MIT
"""
Keeps the CRLs of each authority signed ahead of time.

Theory of operation
===================

An authority has one *full* CRL; a *delta* CRL beside it, if wanted; and, if
its certificates are divided, a CRL for each *partition*.  Each is a scope,
named ``""``, ``delta`` and ``<n>/<i>``.  Every few seconds a round looks at
each scope, takes over what another process has published, and signs what is
due.  Answers come from memory.

Invariants, which tests name:

P-1  *Published once, published for ever.*  A scope that was ever published
     stays so: certificates point to it for as long as they live, even if new
     ones are divided differently by now.
P-2  *Signed ahead.*  A scope is due when its interval has passed, when a
     third of its life is left, when it is from the future (a clock was set
     back), when a start or a reload brings other URLs than it names, and
     when a revocation is not in it yet.  In the last case not
     sooner than a pause after the one before; the pause grows with the
     number of entries.  A large full CRL leaves that to the delta.
P-3  *Nothing falls through.*  Whether a CRL lacks a revocation is told by the
     time of the last change, which the store keeps strictly increasing: read
     before the entries are.  Where only the CRL's own date is known, what
     was revoked up to shortly before it counts as lacking, and a delta begins
     some minutes before its base.
P-4  *An expired certificate stays* until it was on one CRL that was issued
     after its end (RFC 5280, section 3.3).
P-5  *One sequence of numbers* for all scopes of an authority.  A delta that
     is published with a full CRL has its number and says the same; its base
     is a full CRL that was published (RFC 5280, sections 5.2.3 and 5.2.4).
P-6  *Whoever is first publishes.*  Any number of processes run this on one
     store, which refuses an older number; who comes too late takes over what
     is there.
P-7  *A failure changes nothing.*  What was published is served until it
     runs out, and the next round tries again.
P-8  *The reactor never waits.*  Entries are read and encoded page by page;
     encoding, signing and verifying of what is large happen elsewhere.
P-9  *Nobody returns at once.*  A CRL's life is shortened by up to a tenth,
     at random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import evolve
from twisted.internet.defer import (
    Deferred,
    DeferredLock,
    fail,
    maybeDeferred,
    succeed,
)
from twisted.logger import Logger
from zope.interface import implementer

from trstctl.ca.crl import ListWriter, points_to
from trstctl.ca.edition import (
    BACKDATE,
    DELTA,
    FULL,
    OVERLAP,
    PAGE,
    Edition,
    Issuer,
    Press,
)
from trstctl.ca.pointers import bounds
from trstctl.errors import Stale, Unavailable, UnknownCertificate
from trstctl.interfaces import IRevocation, IStore
from trstctl.model import RevocationQuery, SerialStatus, StoredCRL

#: A CRL of at most so many entries is signed anew after each revocation.
SMALL = 10_000

#: The share of its life after which a CRL is signed anew in any case.
_USED = 2 / 3

#: How long an authority is left alone after a failure.
_RETRY = timedelta(seconds=10)


def _ignore(_: object) -> None:
    """Tell nobody."""


def _is_signed(issuer: Issuer, scope: str) -> bool:
    """Tell whether a scope that was published is kept up to date (P-1)."""
    # Without its URL, a partition's would claim to be of all certificates.
    return "/" not in scope or bool(issuer.places.partition)


@implementer(IRevocation)
class Publisher:
    """
    The CRLs of all authorities; see the module's text.

    :param now: the wall clock, UTC.
    :param random_fraction: returns a float in [0, 1).
    :param elsewhere: calls a function with its arguments outside of the
        reactor's thread.
    :param actor: whom the audit log names.
    :param published: called with each CRL that is in force from now on.
    :param failed: called with an authority's name after a failure.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        issuers: Mapping[str, Issuer],
        *,
        now: Callable[[], datetime],
        random_fraction: Callable[[], float],
        elsewhere: Callable[..., Deferred[Any]] = maybeDeferred,
        actor: str = "gateway",
        published: Callable[[StoredCRL], None] = _ignore,
        failed: Callable[[str], None] = _ignore,
    ) -> None:
        self._store = store
        self._now = now
        self._press = Press(store, now, random_fraction, elsewhere, actor)
        self._published = published
        self._failed = failed
        self._kept: dict[tuple[str, str], Edition] = {}
        self._failures: dict[str, datetime] = {}
        self._lock = DeferredLock()
        self.replace(issuers)

    def replace(self, issuers: Mapping[str, Issuer]) -> None:
        """Work by these from now on, and serve nothing of another CA."""
        self._issuers = dict(issuers)
        self._kept = {
            place: kept
            for place, kept in self._kept.items()
            if self._is_own(kept.crl)
        }
        self._compare()

    def _compare(self) -> None:
        """
        Note which CRLs name other places than the configuration does now.

        At a start and a reload only: two processes that are configured
        differently must not sign against each other for ever.
        """
        self._outdated = {
            (name, scope)
            for (name, scope), kept in self._kept.items()
            if not points_to(
                kept.crl.der, *self._issuers[name].pointers(scope)
            )
        }

    def _is_own(self, crl: StoredCRL) -> bool:
        """Tell whether the authority of this moment has signed it."""
        issuer = self._issuers.get(crl.authority)
        # RFC 5280, section 6.3.3: who checks a CRL wants cRLSign.
        if issuer is None or not issuer.authority.signs_crls:
            return False
        authority = issuer.authority
        writer = ListWriter(authority.certificate, authority.algorithm)
        return writer.wrote(crl.der)

    # --- IRevocation --------------------------------------------------------

    def chains(self) -> Mapping[str, tuple[bytes, ...]]:
        """See :meth:`trstctl.interfaces.IRevocation.chains`."""
        return {
            name: issuer.authority.chain
            for name, issuer in self._issuers.items()
        }

    def status(
        self, authority: str, serial: str
    ) -> Deferred[SerialStatus | None]:
        """See :meth:`trstctl.interfaces.IRevocation.status`."""
        return self._store.find_status(authority, serial)

    def crl(self, authority: str, scope: str) -> Deferred[StoredCRL]:
        """See :meth:`trstctl.interfaces.IRevocation.crl`."""
        kept = self._kept.get((authority, scope))
        if kept is not None and self._now() < kept.crl.next_update:
            return succeed(kept.crl)
        issuer = self._issuers.get(authority)
        # A peer names the scope: only what is known is looked for.
        if issuer is None or (
            kept is None and scope not in self._wanted(issuer)
        ):
            return fail(UnknownCertificate("no such CRL"))
        return self._alone(self._in_force, issuer, scope)

    def ends(self) -> Mapping[str, datetime | None]:
        """
        Return for each authority that signs CRLs when the first of them runs
        out; ``None``: it has not signed any.
        """
        return {
            name: min(
                (
                    kept.crl.next_update
                    for (owner, scope), kept in self._kept.items()
                    if owner == name and _is_signed(issuer, scope)
                ),
                default=None,
            )
            for name, issuer in self._issuers.items()
            if self._wanted(issuer)
        }

    async def _in_force(self, issuer: Issuer, scope: str) -> StoredCRL:
        """Return a CRL that is not in memory, or has run out there."""
        name = issuer.authority.name
        await self._take_over(name, (scope,))
        if self._fresh(name, scope) is None:
            # Anybody can ask for it: what cannot be signed is no failure,
            # or it would keep the rounds from what can.
            if self._rests(name) or not self._can_sign(issuer, scope):
                raise Unavailable("the CRL cannot be signed now")
            try:
                await self._signed(issuer, scope)
            except Exception as error:
                self._report(name, error)
                raise
        crl = self._fresh(name, scope)
        if crl is None:  # a reload was quicker
            raise Unavailable("the CRL is not signed yet")
        return crl

    def _fresh(self, name: str, scope: str) -> StoredCRL | None:
        """Return the CRL that is in memory, unless it has run out."""
        crl = self._crl(name, scope)
        return crl if crl and self._now() < crl.next_update else None

    def _can_sign(self, issuer: Issuer, scope: str) -> bool:
        """Tell whether there can be another CRL of a scope at all."""
        return issuer.authority.not_after > self._now() and _is_signed(
            issuer, scope
        )

    # --- rounds -------------------------------------------------------------

    async def load(self) -> None:
        """Take over everything that was published; sign nothing."""
        for name in self._issuers:
            await self._take_over(name, await self._store.crl_scopes(name))
        self._compare()

    async def round(self) -> None:
        """
        Take over what others published, and sign what is due.

        Never fails (P-7).
        """
        for name in list(self._issuers):
            await self._alone(self._tend, name)

    async def publish(self, name: str) -> Sequence[StoredCRL]:
        """
        Sign every CRL of an authority now, due or not.

        :raises UnknownCertificate: no such authority, or it signs none.
        :raises Unavailable: one cannot be signed.
        """
        issuer = self._issuers.get(name)
        if issuer is None or not self._wanted(issuer):
            raise UnknownCertificate("no such authority signs CRLs")
        if not self._can_sign(issuer, FULL):
            raise Unavailable(f"the certificate of {name} has expired")
        published: Sequence[StoredCRL] = await self._alone(self._all, issuer)
        return published

    async def _all(self, issuer: Issuer) -> Sequence[StoredCRL]:
        """Sign every CRL of an authority."""
        name = issuer.authority.name
        scopes = await self._scopes(issuer)
        await self._take_over(name, scopes)
        for scope in scopes:
            if scope != DELTA:  # it comes with the full one
                await self._signed(issuer, scope)
        return [crl for scope in scopes if (crl := self._crl(name, scope))]

    async def stop(self) -> None:
        """Give up what is being signed, and wait until that is done."""
        self._press.stopping = True
        await self._lock.run(lambda: None)

    def _alone(self, act: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Act while nothing else is looked for or signed."""
        return self._lock.run(lambda: Deferred.fromCoroutine(act(*args)))

    async def _tend(self, name: str) -> None:
        """Look at each scope of an authority."""
        issuer = self._issuers.get(name)
        if (
            issuer is None
            or not self._wanted(issuer)
            or not self._can_sign(issuer, FULL)
            or self._press.stopping
            or self._rests(name)
        ):
            return
        try:
            scopes = await self._scopes(issuer)
            await self._take_over(name, scopes)
            await self._settle(issuer, scopes)
            for scope in scopes:
                if await self._due(issuer, scope):
                    await self._signed(issuer, scope)
        except Exception as error:  # noqa: BLE001 - the next round tries again
            self._report(name, error)

    def _report(self, name: str, error: Exception) -> None:
        """Log and count a failure, unless it is the stop's."""
        if self._press.stopping:
            return
        self._failures[name] = self._now()
        self._failed(name)
        self._log.error(
            "the CRLs of {authority} are not up to date: {reason}",
            event="crl.failed",
            authority=name,
            reason=str(error) or type(error).__name__,
        )

    def _rests(self, name: str) -> bool:
        """Tell whether an authority has failed just now."""
        failure = self._failures.get(name)
        return failure is not None and (
            failure <= self._now() < failure + _RETRY
        )

    def _wanted(self, issuer: Issuer) -> tuple[str, ...]:
        """Return the scopes that the configuration asks for."""
        # RFC 5280, section 4.2.1.3: cRLSign.
        if not issuer.authority.signs_crls:
            return ()
        delta = (DELTA,) if issuer.schedule.delta_interval else ()
        return (FULL, *delta, *issuer.places.scopes)

    async def _scopes(self, issuer: Issuer) -> list[str]:
        """Return the wanted scopes and those ever published (P-1)."""
        published = await self._store.crl_scopes(issuer.authority.name)
        wanted = self._wanted(issuer)
        former = [one for one in published if one not in wanted]
        return [*wanted, *(one for one in former if _is_signed(issuer, one))]

    async def _take_over(self, name: str, scopes: Iterable[str]) -> None:
        """Take over what others published (P-6)."""
        for scope in scopes:
            kept = self._kept.get((name, scope))
            found = await self._store.find_crl(
                name, scope, kept.crl.number if kept else 0
            )
            if found is not None:
                self._keep(Edition(found))

    def _keep(self, kept: Edition) -> None:
        """Serve a CRL from now on, unless its CA went with a reload."""
        if not self._is_own(kept.crl):
            return
        place = (kept.crl.authority, kept.crl.scope)
        self._kept[place] = kept
        self._outdated.discard(place)
        self._published(kept.crl)

    # --- what is due --------------------------------------------------------

    async def _settle(self, issuer: Issuer, scopes: Iterable[str]) -> None:
        """Note which partitions the last revocations do not concern."""
        name = issuer.authority.name
        last = await self._store.last_revocation(name)
        lacking = {
            scope: kept
            for scope in scopes
            if "/" in scope
            and (kept := self._kept.get((name, scope))) is not None
            and kept.lacks(last)
        }
        if not lacking:
            return
        rows = await self._store.list_revoked(
            RevocationQuery(
                name,
                *bounds(FULL),
                min(kept.crl.this_update for kept in lacking.values())
                - OVERLAP,
                min(kept.since() for kept in lacking.values()),
                PAGE,
            )
        )
        if len(rows) == PAGE:
            return  # so many that any may be concerned
        for scope, kept in lacking.items():
            first, end = bounds(scope)
            if self._kept.get((name, scope)) is kept and not any(
                first <= row.serial < end for row in rows
            ):
                self._kept[name, scope] = evolve(kept, covered=last)

    async def _due(self, issuer: Issuer, scope: str) -> bool:
        """Tell whether a scope is to be signed anew (P-2)."""
        name, schedule = issuer.authority.name, issuer.schedule
        kept = self._kept.get((name, scope))
        if kept is None or (name, scope) in self._outdated:
            return True
        crl, now = kept.crl, self._now()
        full = self._kept.get((name, FULL))
        if scope == DELTA and full and full.crl.number > crl.number:
            return True  # a process ended between the two
        interval, _ = schedule.of(scope)
        life = crl.next_update - crl.this_update
        if (
            now < crl.this_update
            or now >= crl.this_update + BACKDATE + interval
            or now >= crl.this_update + life * _USED
        ):
            return True
        large = crl.entries > SMALL
        if scope == FULL and large and schedule.delta_interval:
            return False
        pause = schedule.pause * max(1, crl.entries // SMALL)
        if now < crl.this_update + BACKDATE + pause:
            return False
        return kept.lacks(await self._store.last_revocation(name))

    # --- signing ------------------------------------------------------------

    async def _signed(self, issuer: Issuer, scope: str) -> None:
        """
        Publish a CRL; with a full one, its delta.

        Afterwards one is served, unless an error is raised.

        :raises TrstctlError: it cannot be done now.
        """
        name = issuer.authority.name
        full = self._kept.get((name, FULL))
        try:
            if scope == DELTA and full is not None:
                self._keep(await self._press.delta(issuer, full))
            elif scope in (FULL, DELTA):
                former = self._crl(name, FULL)
                edition = await self._press.complete(issuer, FULL, former)
                self._keep(edition)
                if issuer.schedule.delta_interval or self._crl(name, DELTA):
                    self._keep(await self._press.beside(issuer, edition, full))
            else:
                former = self._crl(name, scope)
                self._keep(await self._press.complete(issuer, scope, former))
        except Stale:
            await self._take_over(name, (FULL, scope))

    def _crl(self, name: str, scope: str) -> StoredCRL | None:
        """Return what is served."""
        kept = self._kept.get((name, scope))
        return kept.crl if kept is not None else None
