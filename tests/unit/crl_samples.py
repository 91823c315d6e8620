# SPDX-License-Identifier: MIT
"""Revocations without certificates, and CRLs read by others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import define, evolve, field
from cryptography import x509
from twisted.internet.defer import Deferred, fail, succeed

from trstctl.backends.store_memory import MemoryStore
from trstctl.model import RevocationQuery, SerialStatus, StoredCRL
from trstctl.testing.time import EPOCH

YEAR = timedelta(days=365)


def serial_of(number: int, top: int = 0x40) -> str:
    """Return a serial as the authorities make them."""
    return f"{top:02x}{number:038x}"


@define
class Ledger:
    """
    The part of a store that the publisher uses.

    CRLs are kept by a real one.  Several publishers on one ledger are
    several processes.

    :ivar rows: the serials with when each last changed.
    :ivar error: fail everything with this.
    :ivar meanwhile: called before the entries are read.
    :ivar calls: the names of what was called, in order.
    """

    rows: dict[str, tuple[datetime, SerialStatus]] = field(factory=dict)
    error: Exception | None = None
    meanwhile: Any = None
    calls: list[str] = field(factory=list)
    crls: MemoryStore = field(factory=MemoryStore)

    def revoke(
        self,
        serial: str,
        at: datetime = EPOCH,
        reason: str = "keyCompromise",
        not_after: datetime = EPOCH + YEAR,
    ) -> None:
        """Revoke a serial."""
        self._change(
            at, SerialStatus(serial, not_after, at, reason, released_at=None)
        )

    def release(self, serial: str, at: datetime) -> None:
        """Take a serial off hold."""
        _, former = self.rows[serial]
        self._change(
            at, evolve(former, revoked_at=None, reason="", released_at=at)
        )

    def _change(self, at: datetime, status: SerialStatus) -> None:
        """Write a change, later than each before it."""
        changes = [changed for changed, _ in self.rows.values()]
        if changes:
            at = max(at, max(changes) + timedelta(microseconds=1))
        self.rows[status.serial] = (at, status)

    # --- IStore -------------------------------------------------------------

    def _answer(self, name: str, value: Any) -> Deferred[Any]:
        """Answer, or fail."""
        self.calls.append(name)
        return succeed(value) if self.error is None else fail(self.error)

    def find_status(
        self, authority: str, serial: str
    ) -> Deferred[SerialStatus | None]:
        """Return the status of a serial."""
        row = self.rows.get(serial)
        return self._answer("find_status", row and row[1])

    def list_revoked(
        self, query: RevocationQuery
    ) -> Deferred[Sequence[SerialStatus]]:
        """Return revoked serials, the least first."""
        if self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            act()
        since = query.changed_since
        found = [
            status
            for serial, (changed, status) in sorted(self.rows.items())
            if query.first <= serial < query.end
            and status.not_after > query.not_after
            and (
                status.revoked_at is not None
                if since is None
                else changed >= since
            )
        ]
        return self._answer("list_revoked", found[: query.limit])

    def last_revocation(self, authority: str) -> Deferred[datetime | None]:
        """Return when a serial last changed."""
        changes = [changed for changed, _ in self.rows.values()]
        return self._answer("last_revocation", max(changes, default=None))

    def next_crl_number(self, authority: str) -> Deferred[int]:
        """Return a number that nobody got before."""
        if self.error is not None:
            return fail(self.error)
        self.calls.append("next_crl_number")
        return self.crls.next_crl_number(authority)

    def save_crl(self, crl: StoredCRL, actor: str) -> Deferred[None]:
        """Keep a CRL."""
        self.calls.append(f"save_crl {crl.scope or 'full'}")
        return self.crls.save_crl(crl, actor)

    def find_crl(
        self, authority: str, scope: str, unless: int
    ) -> Deferred[StoredCRL | None]:
        """Return a CRL."""
        if self.error is not None:
            return fail(self.error)
        return self.crls.find_crl(authority, scope, unless)

    def crl_scopes(self, authority: str) -> Deferred[Sequence[str]]:
        """Return what was ever published."""
        if self.error is not None:
            return fail(self.error)
        return self.crls.crl_scopes(authority)


def read_crl(der: bytes) -> x509.CertificateRevocationList:
    """Return a CRL as the library reads it."""
    return x509.load_der_x509_crl(der)


def reasons_of(der: bytes) -> dict[str, str]:
    """Return the reason of each serial on a CRL; empty: none is given."""
    found = {}
    for entry in read_crl(der):
        extensions = list(entry.extensions)
        reason = ""
        if extensions:
            value = extensions[0].value
            assert isinstance(value, x509.CRLReason)
            reason = value.reason.value
        found[f"{entry.serial_number:x}"] = reason
    return found
