# SPDX-License-Identifier: MIT
"""
What a new certificate does to the one before it: invariants I-13 and I-14 of
:mod:`trstctl.ra`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from twisted.logger import Logger

from trstctl.asked import Asked
from trstctl.errors import Stale, UnknownCertificate
from trstctl.interfaces import IProfilePolicy, IStore
from trstctl.model import (
    SUPERSEDED,
    CertificateQuery,
    CertificateRecord,
    Issued,
)
from trstctl.rules import Rules

#: Why a certificate is revoked that nobody has, or nobody takes: nothing is
#: known against its key.
WITHDRAWN = "cessationOfOperation"

#: Unconfirmed certificates that one round revokes.
_OVERDUE = 100


async def find_certificate(
    store: IStore, tenant_id: str, serial: str
) -> CertificateRecord:
    """
    Return a certificate of the tenant.

    :raises UnknownCertificate: there is none with this serial.
    """
    record = await store.find_certificate(tenant_id, serial)
    if record is None:
        raise UnknownCertificate
    return record


class Renewals:
    """
    Puts certificates in the places of others.

    :param now: the wall clock, UTC.
    :param reached: called with the name of each failure point.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        now: Callable[[], datetime],
        reached: Callable[[str], None],
    ) -> None:
        self._store = store
        self._now = now
        self._reached = reached

    async def replace(
        self, asked: Asked, former: CertificateRecord, issued: Issued
    ) -> None:
        """
        Record what a renewal has replaced (I-13).

        Who renews a replaced certificate once more never got the one that
        replaced it: both are replaced then.  The replay of an older renewal
        replaces nothing.
        """
        tenant_id = former.tenant_id
        try:
            # Another renewal may have come to its end since it was read.
            former = await find_certificate(
                self._store, tenant_id, former.serial
            )
            if issued.replayed and (
                former.superseded_by not in {"", issued.serial}
                or await self._is_older(issued, former)
            ):
                return
            await self._supersede(
                former, issued.serial, asked.policy, asked.principal.id
            )
        except Exception:  # noqa: BLE001 (the certificate is issued)
            self._log.failure(
                "what a renewal replaced was not recorded",
                event="renewal.unrecorded",
                tenant=tenant_id,
                serial=former.serial,
            )

    async def _is_older(
        self, issued: Issued, former: CertificateRecord
    ) -> bool:
        """
        Tell whether what is handed out again is itself what was replaced.

        A registration authority renews what its device has now, which may be
        newer than the answer that it asks for once more.
        """
        own = await find_certificate(
            self._store, former.tenant_id, issued.serial
        )
        return (
            own.superseded_by == former.serial
            or own.issued_at < former.issued_at
        )

    async def _supersede(
        self,
        former: CertificateRecord,
        by: str,
        policy: IProfilePolicy | None,
        actor: str,
    ) -> None:
        """Put a certificate in the place of another, and of its last."""
        for serial in (former.serial, former.superseded_by):
            if serial in {"", by}:
                continue
            await self._store.supersede_certificate(
                former.tenant_id, serial, by, actor, self._now()
            )
            if policy is not None and policy.revoke_on_reenroll:
                await self._store.revoke_certificate(
                    former.tenant_id, serial, SUPERSEDED, actor, self._now()
                )

    async def confirm(
        self,
        tenant_id: str,
        serial: str,
        former: str,
        actor: str,
        rules: Rules,
    ) -> CertificateRecord:
        """Hear that the client takes a certificate (I-14)."""
        self._reached("before-confirm")
        record = await self._store.confirm_certificate(
            tenant_id, serial, actor, self._now()
        )
        replaced = await self._store.find_certificate(tenant_id, former)
        if replaced is not None:
            policy = rules.profiles.get(record.profile)
            await self._supersede(replaced, serial, policy, actor)
        self._reached("after-confirm")
        return record

    async def refuse_unconfirmed(self, asked: Asked) -> None:
        """Let a client confirm one renewal before it asks for the next."""
        if asked.former is None or asked.replaces is not None:
            return
        for record in await self._store.list_certificates(
            CertificateQuery(
                asked.key.tenant_id, principal=asked.principal.id, limit=1
            )
        ):
            # What is overdue is about to be withdrawn.
            if record.confirm_by is not None and (
                self._now() < record.confirm_by
            ):
                raise Stale("the last certificate has not been confirmed yet")

    async def withdraw_unconfirmed(self, now: datetime) -> None:
        """Revoke what nobody has confirmed in time (I-14)."""
        for record in await self._store.list_unconfirmed(now, _OVERDUE):
            self._log.warn(
                "a certificate was not confirmed in time",
                event="certificate.overdue",
                tenant=record.tenant_id,
                serial=record.serial,
            )
            await self._store.revoke_certificate(
                record.tenant_id, record.serial, WITHDRAWN, "gateway", now
            )
