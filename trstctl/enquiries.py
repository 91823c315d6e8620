# SPDX-License-Identifier: MIT
"""
What may be asked of the inventory without enrolling: when to renew, and what
certificates others have.

When to renew is told to anybody, as a CRL is, and only of certificates of the
endpoint's own tenant and authorities; others are unknown.  It costs one
lookup by key.

The window (draft-ietf-lamps-est-renewal-info; RFC 9773 for ACME) lies in the
first two thirds of the time in which the profile lets a certificate be
renewed; the rest is for trying again.  It is a quarter as long as those, at a
place that depends on the certificate's name alone: a fleet that was enrolled
in one hour does not come back in one, and whoever asks twice is told the
same.

If another key has taken over from the one that signed the certificate, the
window lies in the same way in the first two thirds of the time from then to
the end that the operator has set for such renewals, or to the certificate's
own if that comes first; and is the usual one, if that begins earlier.

Who must not wait has a window in the past: whoever was revoked, was replaced,
or is of another authority, which the endpoint goes on accepting.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Protocol

from twisted.internet.defer import Deferred
from zope.interface import implementer

from trstctl.ca.pointers import key_identifier
from trstctl.errors import UnknownCertificate
from trstctl.interfaces import (
    IAuthority,
    IEnquiries,
    IProfilePolicy,
    IStore,
)
from trstctl.model import (
    CertificateQuery,
    CertificateRecord,
    CertificateStatus,
    Endpoint,
    RenewalWindow,
    Succession,
)

#: Certificates of one name that are told.
_OF_A_NAME = 4

#: A window that is over: whoever reads it renews now.
_AT_ONCE = timedelta(seconds=1)

_identifier = lru_cache(maxsize=64)(key_identifier)


class CurrentRules(Protocol):
    """The rules of this moment, as far as they matter here."""

    @property
    def authorities(self) -> Mapping[str, IAuthority]:
        """By name."""

    @property
    def profiles(self) -> Mapping[str, IProfilePolicy]:
        """By name."""

    @property
    def successions(self) -> Mapping[str, Succession]:
        """Of those authorities that have had several keys."""

    def serving(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint with the authorities of this moment."""


@implementer(IEnquiries)
class Enquiries:
    """
    Answers from the inventory.

    :param rules: returns the rules of this moment.
    :param now: the wall clock, UTC.
    """

    def __init__(
        self,
        store: IStore,
        rules: Callable[[], CurrentRules],
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._rules = rules
        self._now = now

    def renewal(
        self, endpoint: Endpoint, key_identifier: bytes, serial: str
    ) -> Deferred[RenewalWindow]:
        """Return when a certificate should be renewed."""
        return Deferred.fromCoroutine(
            self._renewal(endpoint, key_identifier, serial)
        )

    async def _renewal(
        self, endpoint: Endpoint, identifier: bytes, serial: str
    ) -> RenewalWindow:
        """Look it up, if one of the authorities may have issued it."""
        rules = self._rules()
        configured, endpoint = endpoint, rules.serving(endpoint)
        issuers = {
            name
            for name in (endpoint.authority, *endpoint.issuers)
            if name in rules.authorities
            and _identifier(rules.authorities[name].certificate) == identifier
        }
        if not issuers:
            raise UnknownCertificate
        record = await self._store.find_certificate(endpoint.tenant_id, serial)
        if record is None or record.authority not in issuers:
            raise UnknownCertificate
        at_once = RenewalWindow(
            record.not_before, record.not_before + _AT_ONCE
        )
        if record.status is not CertificateStatus.VALID:
            return at_once
        policy = rules.profiles.get(record.profile)
        seed = identifier + bytes.fromhex(serial.zfill(40))
        usual = suggested_window(
            record, None if policy is None else policy.renewal_window, seed
        )
        if record.authority == endpoint.authority:
            return usual
        succession = _succession(rules, configured, record.authority)
        if succession is None:
            return at_once
        if succession.renewals is None:
            return usual  # its key will sign, or has done so, and may again
        return min(
            usual,
            takeover_window(record, succession.renewals, seed),
            key=lambda window: window.start,
        )

    def current(
        self, endpoint: Endpoint, names: Sequence[str]
    ) -> Deferred[tuple[bytes, ...]]:
        """Return the certificates that some names have now."""
        return Deferred.fromCoroutine(self._current(endpoint, names))

    async def _current(
        self, endpoint: Endpoint, names: Sequence[str]
    ) -> tuple[bytes, ...]:
        """Return them in the order of the names, each once."""
        endpoint = self._rules().serving(endpoint)
        issuers = (endpoint.authority, *endpoint.issuers)
        now = self._now()
        found: dict[str, bytes] = {}
        for name in names:
            query = CertificateQuery(
                endpoint.tenant_id,
                status=CertificateStatus.VALID,
                name=name,
                limit=_OF_A_NAME,
            )
            for row in await self._store.list_certificates(query):
                if (
                    row.authority not in issuers
                    # RFC 9810, section 5.2.8.3.2: whoever can tell what is
                    # in a certificate may prove a key by that.
                    or row.confirm_by is not None
                    or not row.not_before <= now < row.not_after
                ):
                    continue
                record = await self._store.find_certificate(
                    endpoint.tenant_id, row.serial
                )
                assert record is not None  # none is ever removed
                found[row.serial] = record.der
        return tuple(found.values())


def suggested_window(
    record: CertificateRecord, before_end: timedelta | None, seed: bytes
) -> RenewalWindow:
    """
    Return when a certificate should be renewed, if nothing happens to it.

    :param before_end: how long before its end it can be renewed, of which
        half its life is the most that counts; ``None``: at any time, and the
        last third of its life will do.
    :param seed: what names the certificate.
    """
    life = record.not_after - record.not_before
    if before_end is None:
        before_end = life / 3
    before_end = min(before_end, life / 2)
    return _placed(record.not_after - before_end, before_end, seed)


def takeover_window(
    record: CertificateRecord, renewals: RenewalWindow, seed: bytes
) -> RenewalWindow:
    """
    Return when a certificate should be renewed whose key has a successor.

    :param renewals: from when that signs, until when all are to have renewed.
    :param seed: what names the certificate.
    """
    # A host that has not heard of the step may have signed it since.
    start = max(renewals.start, record.not_before)
    end = min(renewals.end, record.not_after)
    return _placed(start, max(end - start, timedelta(0)), seed)


def _succession(
    rules: CurrentRules, endpoint: Endpoint, authority: str
) -> Succession | None:
    """Return the rollover in which a generation counts, if there is one."""
    for name in (endpoint.authority, *endpoint.issuers):
        found = rules.successions.get(name)
        if found is not None and authority in found.accepted:
            return found
    return None


def _placed(start: datetime, usable: timedelta, seed: bytes) -> RenewalWindow:
    """Return a window at its own place in the first two thirds of a time."""
    usable = usable * 2 / 3
    length = usable / 4
    digest = hashlib.sha256(seed).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    start += (usable - length) * share
    # Not before the window of the profile opens, which is a whole second.
    start = start.replace(microsecond=0)
    return RenewalWindow(
        start, start + timedelta(seconds=1 + length // timedelta(seconds=1))
    )
