# SPDX-License-Identifier: MIT
"""
One edition of a CRL: its entries read, written, signed and saved.

When that is due is for :mod:`trstctl.ca.publisher`, whose invariants are
meant by the numbers here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trstctl.ca.crl import Draft, ListWriter, encode_entries
from trstctl.ca.pointers import Places, bounds
from trstctl.errors import Unavailable
from trstctl.interfaces import IAuthority, IStore
from trstctl.model import RevocationQuery, StoredCRL

#: The scopes that every authority may have.
FULL = ""
DELTA = "delta"

#: Revocations that are read and encoded at once.
PAGE = 1000

#: How far before now a CRL begins, for clients whose clock is late.
BACKDATE = timedelta(minutes=1)

#: How far back a CRL looks where it has only a date to go by (P-3).
OVERLAP = timedelta(minutes=10)

_SETTLED = timedelta(minutes=1)

#: The share of its life by which a CRL's may be shortened (P-9).
_JITTER = 0.1

_TICK = timedelta(microseconds=1)

#: Before anything was ever revoked.
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

#: Pages of encoded entries, and how many entries they have.
_Entries = tuple[Sequence[bytes], int]

_NONE: _Entries = ((), 0)


@frozen
class Schedule:
    """
    When CRLs are signed.

    :ivar lifetime: from thisUpdate to nextUpdate, at most.
    :ivar interval: how often the full and the partitions' are signed anew.
    :ivar delta_interval: likewise of the delta; zero: there is none.
    :ivar pause: at least so long between two of one scope.
    """

    lifetime: timedelta = timedelta(days=7)
    interval: timedelta = timedelta(days=1)
    delta_interval: timedelta = timedelta(0)
    pause: timedelta = timedelta(minutes=1)

    def of(self, scope: str) -> tuple[timedelta, timedelta]:
        """Return interval and lifetime; a delta's are in proportion."""
        if scope == DELTA and self.delta_interval:
            share = self.delta_interval / self.interval
            return self.delta_interval, self.lifetime * share
        return self.interval, self.lifetime


@frozen
class Issuer:
    """An authority, when it publishes, and where."""

    authority: IAuthority
    schedule: Schedule = field(factory=Schedule)
    places: Places = field(factory=Places)

    def pointers(self, scope: str) -> tuple[Sequence[str], Sequence[str]]:
        """Return the URLs of a scope that its CRL names, and the delta's."""
        if "/" in scope:
            return self.places.of_partition(scope), ()
        if scope == FULL and self.schedule.delta_interval:
            return (), self.places.delta
        return (), ()


@frozen
class Edition:
    """
    A CRL that was published, and what is known of it.

    :ivar covered: the last change that is known to be in it, or ``None``.
    """

    crl: StoredCRL
    covered: datetime | None = None

    def since(self) -> datetime:
        """Return the earliest time of a change that it may lack."""
        if self.covered is not None:
            return self.covered + _TICK
        return self.crl.this_update - OVERLAP

    def lacks(self, last: datetime | None) -> bool:
        """Tell whether it may lack the last change (P-3)."""
        if last is None:
            return False
        if self.covered is not None:
            return last > self.covered
        return last > self.crl.this_update - _SETTLED


class Press:
    """
    Reads, writes, signs and saves.

    :param now: the wall clock, UTC.
    :param random_fraction: returns a float in [0, 1).
    :param elsewhere: calls a function with its arguments outside of the
        reactor's thread.
    :param actor: whom the audit log names.
    :ivar stopping: give up at the next page.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        now: Callable[[], datetime],
        random_fraction: Callable[[], float],
        elsewhere: Callable[..., Deferred[Any]],
        actor: str,
    ) -> None:
        self._store = store
        self._now = now
        self._random_fraction = random_fraction
        self._elsewhere = elsewhere
        self._actor = actor
        self.stopping = False

    async def complete(
        self, issuer: Issuer, scope: str, former: StoredCRL | None
    ) -> Edition:
        """
        Publish the full CRL or that of a partition.

        :param former: the last one of this scope.
        :raises Stale: another process has published a newer one.
        :raises Unavailable: it cannot be done now.
        """
        draft, last = await self._begin(issuer, scope)
        ended = draft.this_update
        if former is not None:
            # P-4: what ended since the last one is still on this one; that
            # may be from the future, if the clock was set back.
            ended = min(ended, former.this_update)
        entries = await self._read(issuer, scope, ended - OVERLAP, None)
        return await self._publish(issuer, scope, draft, entries, last)

    async def delta(self, issuer: Issuer, base: Edition) -> Edition:
        """Publish a delta over a full CRL; see :meth:`complete`."""
        draft, last = await self._begin(issuer, DELTA)
        return await self._publish(
            issuer,
            DELTA,
            evolve(draft, base=base.crl.number),
            await self._changes(issuer, base),
            last,
        )

    async def beside(
        self, issuer: Issuer, full: Edition, former: Edition | None
    ) -> Edition:
        """
        Publish the delta that goes with a full CRL (P-5).

        :param former: the full CRL before it, which becomes the base.
        """
        crl = full.crl
        draft = self._draft(issuer, DELTA, crl.number, crl.this_update)
        draft, entries = evolve(draft, base=crl.number), _NONE
        if former is not None:
            changes = await self._changes(issuer, former)
            # If something was revoked meanwhile, the two might differ: then
            # it is one without entries over the full CRL itself.
            if full.covered == await self._last(issuer):
                draft = evolve(draft, base=former.crl.number)
                entries = changes
        return await self._publish(issuer, DELTA, draft, entries, full.covered)

    async def _begin(
        self, issuer: Issuer, scope: str
    ) -> tuple[Draft, datetime]:
        """Take number and date, and note the last change, before reading."""
        last = await self._last(issuer)
        number = await self._store.next_crl_number(issuer.authority.name)
        this_update = self._now().replace(microsecond=0) - BACKDATE
        return self._draft(issuer, scope, number, this_update), last

    async def _last(self, issuer: Issuer) -> datetime:
        """Return when something was last revoked or released, if ever."""
        last = await self._store.last_revocation(issuer.authority.name)
        return last or _BEGINNING

    def _draft(
        self, issuer: Issuer, scope: str, number: int, this_update: datetime
    ) -> Draft:
        """Return what a CRL of the scope says of itself."""
        urls, freshest = issuer.pointers(scope)
        if "/" in scope and not urls:
            # Without it, it would claim to be of all certificates.
            raise Unavailable(f"the partition {scope} has no URL")
        _, lifetime = issuer.schedule.of(scope)
        life = lifetime * (1 - _JITTER * self._random_fraction())
        end = min(this_update + life, issuer.authority.not_after)
        return Draft(
            number=number,
            this_update=this_update,
            next_update=end.replace(microsecond=0),
            urls=urls,
            freshest=freshest,
        )

    async def _changes(self, issuer: Issuer, base: Edition) -> _Entries:
        """Return the entries of a delta over a full CRL."""
        ended = base.crl.this_update - OVERLAP
        # Changes that are dated by a clock that is behind are in it, too.
        since = min(ended, base.since())
        return await self._read(issuer, DELTA, ended, since)

    async def _read(
        self,
        issuer: Issuer,
        scope: str,
        not_after: datetime,
        changed_since: datetime | None,
    ) -> _Entries:
        """Return the entries, page by page (P-8)."""
        first, end = bounds(scope)
        pages: list[bytes] = []
        count = 0
        while True:
            if self.stopping:
                raise Unavailable("the gateway is stopping")
            rows = await self._store.list_revoked(
                RevocationQuery(
                    issuer.authority.name,
                    first,
                    end,
                    not_after,
                    changed_since,
                    PAGE,
                )
            )
            if rows:
                pages.append(await self._elsewhere(encode_entries, rows))
                count += len(rows)
            if len(rows) < PAGE:
                return pages, count
            # The least text that is greater: serials are of one length.
            first = rows[-1].serial + "0"

    async def _publish(
        self,
        issuer: Issuer,
        scope: str,
        draft: Draft,
        entries: _Entries,
        last: datetime | None,
    ) -> Edition:
        """Write, sign and save."""
        authority = issuer.authority
        writer = ListWriter(authority.certificate, authority.algorithm)
        pages, count = entries
        tbs = await self._elsewhere(writer.write, draft, pages)
        der = await authority.sign_crl(tbs)
        crl = StoredCRL(
            authority=authority.name,
            scope=scope,
            number=draft.number,
            base=draft.base,
            this_update=draft.this_update,
            next_update=draft.next_update,
            entries=count,
            der=der,
        )
        await self._store.save_crl(crl, self._actor)
        self._log.info(
            "a CRL of {authority} was published",
            event="crl.published",
            authority=authority.name,
            scope=scope or "full",
            number=crl.number,
            entries=count,
            octets=len(der),
        )
        return Edition(crl, last)
