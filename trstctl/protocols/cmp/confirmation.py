# SPDX-License-Identifier: MIT
"""
What follows a new certificate: certConf and error (RFC 9483, section 4.1.1;
RFC 9810, sections 5.3.18 and 5.3.21).

Theory of operation
===================

F-1  *Who was not granted implicit confirmation confirms.*  Until he does, the
     certificate replaces no other; what is rejected, or not confirmed in time,
     is revoked.
F-2  *Confirming can be repeated* until the answer to it is kept.
F-3  *What is in service is not rejected any more.*  Who asks again in another
     transaction gets the same certificate, for which a secret that has been
     used up is enough; it must not be enough to revoke it.
F-4  *Who has been revoked meanwhile confirms nothing.*
"""

from __future__ import annotations

import hmac

from trstctl.errors import Stale
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import CertificateRecord, CertificateStatus, Dialogue
from trstctl.pkix.cmp_bodies import CertStatus, read_cert_conf, read_error
from trstctl.pkix.cmp_hash import cert_hash, signature_hash
from trstctl.pkix.cmp_responses import pkiconf
from trstctl.protocols.cmp.exchange import (
    CONFIRMED,
    FINISHED,
    UNCONFIRMED,
    Exchange,
    Reply,
)
from trstctl.protocols.cmp.parties import check_unrevoked
from trstctl.protocols.cmp.refusals import refuse, restate
from trstctl.protocols.cmp.settings import Served
from trstctl.protocols.cmp.wishes import NO_ID

#: Why what nobody takes is revoked: nothing is known against its key.
NOT_TAKEN = "cessationOfOperation"

_ACCEPTED = frozenset({"accepted", "grantedWithMods"})
_V2021 = 3


class Confirmation:
    """Hears what becomes of a new certificate, at one endpoint."""

    def __init__(self, ra: IRegistrationAuthority, served: Served) -> None:
        self._ra = ra
        self._served = served

    # --- certConf -----------------------------------------------------------

    async def confirm(self, asked: Exchange) -> Reply:
        """Hear whether the client takes its certificate (4.1.1)."""
        dialogue = asked.begun
        if dialogue.state == CONFIRMED:
            raise refuse(
                "certConfirmed",
                "confirmed-before",
                "the certificate has been confirmed before",
            )
        if dialogue.state != UNCONFIRMED:
            raise refuse(
                "badRequest",
                "nothing-to-confirm",
                "nothing is to be confirmed",
            )
        tenant_id, serial = dialogue.tenant_id, dialogue.notes["serial"]
        record = await self._ra.find(tenant_id, serial)
        statuses = read_cert_conf(asked.message.body.value)
        taken = bool(statuses) and self._takes(asked, statuses, record)
        actor = dialogue.notes["actor"]
        if taken and record.confirm_by and record.confirm_by <= self._ra.now():
            # Another update may have been begun meanwhile.
            await self._withdrawn(dialogue)
            raise refuse(
                "certRevoked",
                "revoked-since",
                "the certificate has not been confirmed in time",
            )
        if taken:
            await check_unrevoked(self._ra, self._served.endpoint, asked.known)
            try:
                await self._ra.confirm(
                    tenant_id, serial, dialogue.notes["renewed"], actor
                )
            except Stale as error:
                raise restate(error, "certRevoked", "revoked-since") from None
        elif not await self._withdrawn(dialogue):
            raise refuse(
                "certConfirmed",
                "confirmed-before",
                "the certificate has been confirmed before",
            )
        return Reply(
            pkiconf(),
            facts={
                "decision": "confirmed" if taken else "rejected",
                "principal": actor,
                "serial": serial,
            },
            state=CONFIRMED if taken else FINISHED,
            notes=dialogue.notes,
        )

    async def _withdrawn(self, dialogue: Dialogue) -> bool:
        """Revoke what is not taken, if that can still be said (F-3)."""
        tenant_id, serial = dialogue.tenant_id, dialogue.notes["serial"]
        record = await self._ra.find(tenant_id, serial)
        if record.status is CertificateStatus.REVOKED:
            return True
        if record.confirm_by is None:
            return False
        await self._ra.revoke(
            tenant_id, serial, NOT_TAKEN, dialogue.notes["actor"]
        )
        return True

    def _takes(
        self,
        asked: Exchange,
        statuses: tuple[CertStatus, ...],
        record: CertificateRecord,
    ) -> bool:
        """Judge a CertStatus; tell whether it accepts."""
        if len(statuses) != 1:
            raise refuse(
                "badRequest",
                "one-status",
                "one certificate is to be confirmed",
            )
        (status,) = statuses
        expected = {int(asked.begun.notes["id"])}
        if NO_ID in expected:
            # RFC 9483, section 4.1.1, has 0 in every certConf, and nothing
            # else for p10cr; older clients follow it.
            expected.add(0)
        if status.cert_req_id not in expected:
            raise refuse(
                "badRequest",
                "cert-req-id",
                "certReqId is not that of the request",
            )
        self._check_hash(asked, status, record)
        told = status.status
        if told is None:
            return True
        if told.status in _ACCEPTED and told.failures:
            raise refuse(
                "badRequest",
                "accepted-and-failed",
                "failInfo is for what is rejected",
            )
        if told.status not in {*_ACCEPTED, "rejection"}:
            raise refuse(
                "badRequest",
                "status",
                "a certificate is accepted or rejected",
            )
        return told.status in _ACCEPTED

    def _check_hash(
        self, asked: Exchange, status: CertStatus, record: CertificateRecord
    ) -> None:
        """Refuse the hash of another certificate (RFC 9810, 5.3.18)."""
        digest = signature_hash(record.der)
        if status.hash_alg is not None:
            # hashAlg came with cmp2021.
            if asked.message.header.pvno < _V2021:
                raise refuse(
                    "badCertId", "hash-alg", "hashAlg needs version 3"
                )
            digest = status.hash_alg
        if not digest or not hmac.compare_digest(
            cert_hash(record.der, digest), status.cert_hash
        ):
            raise refuse(
                "badCertId",
                "cert-hash",
                "certHash is not that of the certificate",
            )

    # --- error --------------------------------------------------------------

    async def give_up(self, asked: Exchange) -> Reply:
        """Hear that the client has given up (RFC 9810, section 5.3.21)."""
        told, dialogue = read_error(asked.message.body.value), asked.begun
        if dialogue.state == UNCONFIRMED:
            await self._withdrawn(dialogue)
        return Reply(
            pkiconf(),
            facts={
                "decision": "rejected",
                "principal": dialogue.notes["actor"],
                "reason": " ".join((*told.status.text, *told.details))[:200],
            },
            state=FINISHED,
            notes=dialogue.notes,
        )
