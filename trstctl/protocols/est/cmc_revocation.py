# SPDX-License-Identifier: MIT
"""
The Revocation Request control (RFC 5272, section 6.11).

Who has a certificate may revoke that one.  A registration authority may
revoke those whose names are within its scope, and only it may take one off
hold: whoever was put on hold must not lift that himself.

A message that says itself that it is fresh acts once: whoever has recorded
one could put a certificate on hold with it, or take it off, once more.  Sent
again it gets the same answer, as long as that is still true.

Refused: the shared secret, since nobody can have registered one.  It stands
in no log.  Without effect: invalidityDate and comment, which are the CA's to
use at its discretion.
"""

from __future__ import annotations

from trstctl.errors import (
    Conflict,
    Malformed,
    NotAuthorized,
    Replayed,
    Stale,
    UnknownCertificate,
)
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    CERTIFICATE_HOLD,
    REVOCATION_REASONS,
    CertificateRecord,
    CertificateStatus,
    Dialogue,
    Principal,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmc import StatusInfo
from trstctl.pkix.cmc_controls import RevokeRequest
from trstctl.pkix.names import names_match
from trstctl.policy.registration import scope_of, within_scope
from trstctl.protocols.est.cmc_exchange import Asked, Outcome, identified
from trstctl.protocols.est.cmc_parties import (
    REPEATABLE,
    check_fresh,
    is_in_session,
)
from trstctl.protocols.est.cmc_refusals import concerning, unsupported
from trstctl.protocols.est.settings import Served

_RELEASE = "removeFromCRL"


class Revocation:
    """Answers revocation requests, at one label."""

    def __init__(self, ra: IRegistrationAuthority, served: Served) -> None:
        self._ra = ra
        self._endpoint = served.endpoint

    async def revoke(self, asked: Asked, wanted: RevokeRequest) -> Outcome:
        """
        Do what is asked for; once more is not wrong.

        :raises Refusal: it is not for the signer to ask, or there is no such
            certificate.
        """
        part = asked.wish.body_part
        if wanted.has_secret:
            raise unsupported(
                "nothing is revoked by a shared secret; leave it out and sign",
                part,
            )
        check_fresh(asked.signer, asked.presented, self._ra.now())
        with concerning(part):
            own = await identified(self._ra, self._endpoint, asked.signer)
            if wanted.reason not in {*REVOCATION_REASONS, _RELEASE}:
                raise Malformed("there is no such reason")
            record = await self._named(wanted)
            self._check_right(own, record, wanted.reason)
            if await self._is_first(asked, own):
                await self._act(record, wanted.reason, own.id)
            elif not _stands(record, wanted.reason):
                raise Replayed(
                    "this message was here before, and what it asked for is "
                    "not so now; sign another"
                )
        released = wanted.reason == _RELEASE
        return Outcome(
            StatusInfo("success", (part,)),
            {
                "decision": "released" if released else "revoked",
                "principal": own.id,
                "serial": record.serial,
            },
        )

    async def _named(self, wanted: RevokeRequest) -> CertificateRecord:
        """Return the certificate that a request names."""
        endpoint = self._ra.serving(self._endpoint)
        record: CertificateRecord = await self._ra.find(
            endpoint.tenant_id, wanted.serial
        )
        issuer = read_certificate(record.der).issuer
        if record.authority not in {
            endpoint.authority,
            *endpoint.issuers,
        } or not names_match(wanted.issuer, issuer):
            raise UnknownCertificate
        return record

    def _check_right(
        self, own: Principal, record: CertificateRecord, reason: str
    ) -> None:
        """Let nobody revoke what is another's."""
        facts = own.certificate
        if facts is not None and own.record is not None:
            if record.der == facts.der and reason != _RELEASE:
                return
            scope = scope_of(self._endpoint.scopes, facts, own.record)
            known = read_certificate(record.der)
            if within_scope(scope, known, record.profile):
                return
        raise NotAuthorized(
            "this certificate is not for you to revoke or to release"
        )

    async def _is_first(self, asked: Asked, own: Principal) -> bool:
        """Tell whether a message was not here before, at any label."""
        signer, now = asked.signer, self._ra.now()
        if is_in_session(signer, asked.presented):
            return True  # nobody else can send it
        try:
            await self._ra.dialogues.open_dialogue(
                Dialogue(
                    tenant_id=self._endpoint.tenant_id,
                    protocol=self._endpoint.protocol,
                    endpoint="",
                    transaction=f"message-{signer.message}",
                    party=own.id,
                    state="acted",
                    request=signer.message,
                    answer=b"",
                    notes={},
                    expires_at=now + REPEATABLE,
                ),
                now,
            )
        except Conflict:
            return False
        return True

    async def _act(
        self, record: CertificateRecord, reason: str, actor: str
    ) -> None:
        """Revoke a certificate, or take it off hold."""
        if reason != _RELEASE:
            await self._ra.revoke(
                record.tenant_id, record.serial, reason, actor
            )
            return
        if record.status is not CertificateStatus.REVOKED:
            raise Stale("the certificate is not on hold")
        await self._ra.release(record.tenant_id, record.serial, actor)


def _stands(record: CertificateRecord, reason: str) -> bool:
    """Tell whether a certificate is what a message made of it."""
    revoked = record.status is CertificateStatus.REVOKED
    if reason == _RELEASE:
        return not revoked
    return revoked and (
        reason == CERTIFICATE_HOLD
        or record.revocation_reason != CERTIFICATE_HOLD
    )
