# SPDX-License-Identifier: MIT
"""What authorities say of their certificates, as a test wants it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from trstctl.errors import UnknownCertificate
from trstctl.interfaces import IRevocation
from trstctl.model import CERTIFICATE_HOLD, SerialStatus, StoredCRL
from trstctl.testing.time import EPOCH


@implementer(IRevocation)
class FakeRevocation:
    """
    Statuses and CRLs that the test has put there.

    :param chains: DER chain of each authority, issuer first, by name.
    :ivar asked: the serials that somebody asked for, in order.
    :ivar error: fail with this; ``None``: answer.
    """

    def __init__(self, chains: Mapping[str, tuple[bytes, ...]]) -> None:
        self.asked: list[str] = []
        self.error: Exception | None = None
        self._chains = chains
        self._statuses: dict[tuple[str, str], SerialStatus] = {}
        self._crls: dict[tuple[str, str], StoredCRL] = {}

    # --- what a test says ---------------------------------------------------

    def issue(
        self,
        serial: str,
        *,
        authority: str = "issuing",
        not_after: datetime = EPOCH + timedelta(days=90),
    ) -> None:
        """Let a serial be good."""
        self._statuses[authority, serial] = SerialStatus(serial, not_after)

    def revoke(
        self,
        serial: str,
        reason: str = "",
        *,
        authority: str = "issuing",
        at: datetime = EPOCH,
    ) -> None:
        """Let a serial that was issued be revoked, or on hold."""
        known = self._statuses[authority, serial]
        self._statuses[authority, serial] = evolve(
            known, revoked_at=at, reason=reason
        )

    def release(
        self, serial: str, *, authority: str = "issuing", at: datetime = EPOCH
    ) -> None:
        """Take a serial off hold."""
        known = self._statuses[authority, serial]
        if known.reason != CERTIFICATE_HOLD:
            raise AssertionError(f"{serial} is not on hold")
        self._statuses[authority, serial] = evolve(
            known, revoked_at=None, reason="", released_at=at
        )

    def publish(self, crl: StoredCRL) -> None:
        """Put a CRL in force."""
        self._crls[crl.authority, crl.scope] = crl

    # --- what is asked ------------------------------------------------------

    def chains(self) -> Mapping[str, tuple[bytes, ...]]:
        """Return the chains."""
        return self._chains

    def status(
        self, authority: str, serial: str
    ) -> Deferred[SerialStatus | None]:
        """Return the status, or fail."""
        self.asked.append(serial)
        if self.error is not None:
            return fail(self.error)
        return succeed(self._statuses.get((authority, serial)))

    def crl(self, authority: str, scope: str) -> Deferred[StoredCRL]:
        """Return the CRL, or fail."""
        found = self._crls.get((authority, scope))
        if self.error is not None:
            return fail(self.error)
        return fail(UnknownCertificate()) if found is None else succeed(found)
