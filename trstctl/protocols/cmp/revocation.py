# SPDX-License-Identifier: MIT
"""
rr and rp: revoking a certificate, and taking it off hold (RFC 9483, 4.2).

Who has a certificate may revoke that one.  A registration authority may
revoke those whose names are within its scope, and only it may take one off
hold: whoever was put on hold must not lift that himself.
"""

from __future__ import annotations

from typing import cast

from trstctl.errors import Stale, TrstctlError, UnknownCertificate
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    CERTIFICATE_HOLD,
    KEY_COMPROMISE,
    REVOCATION_REASONS,
    CertificateFacts,
    CertificateRecord,
    CertificateStatus,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp_bodies import RevDetails, read_rev_req
from trstctl.pkix.cmp_responses import rev_rep
from trstctl.pkix.cmp_status import PKIStatusInfo
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.pkix.names import names_match
from trstctl.policy.registration import scope_of, within_scope
from trstctl.protocols.cmp.exchange import FINISHED, Exchange, Reply
from trstctl.protocols.cmp.parties import SignerParty
from trstctl.protocols.cmp.refusals import refuse, restate
from trstctl.protocols.cmp.settings import Served

_RELEASE = "removeFromCRL"

#: What is told of what was done, by whether it was a release.
_DONE = ("the certificate is revoked", "the certificate is revived")

_VERSION_3 = 2


class Revocation:
    """Answers revocation requests, at one endpoint."""

    def __init__(self, ra: IRegistrationAuthority, served: Served) -> None:
        self._ra = ra
        self._endpoint = served.endpoint

    async def revoke(self, asked: Exchange) -> Reply:
        """Do what an rr asks for."""
        all_details = read_rev_req(asked.message.body.value)
        if len(all_details) != 1:
            raise refuse(
                "badRequest",
                "one-revocation",
                "a message must name exactly one certificate",
            )
        (details,) = all_details
        reason = _reason(details)
        record = await self._named(details.template)
        facts = read_certificate(record.der)
        # SIGNED_ONLY: no secret gets here.
        party = cast("SignerParty", asked.known)
        self._check_right(party, record, facts, reason)
        if reason == _RELEASE:
            await self._release(record, party.actor)
        else:
            await self._revoke(record, reason, party.actor)
        return Reply(
            rev_rep(
                (PKIStatusInfo("accepted", (_DONE[reason == _RELEASE],)),)
            ),
            facts={
                "decision": "released" if reason == _RELEASE else "revoked",
                "principal": party.actor,
                "serial": record.serial,
            },
            state=FINISHED,
            # Whoever has recorded it could put a certificate on hold with
            # it, or take it off, whenever the message is forgotten.
            until=facts.not_after,
        )

    # --- which --------------------------------------------------------------

    async def _named(self, template: CertTemplate) -> CertificateRecord:
        """Return the certificate that a template names."""
        if template.issuer is None or template.serial is None:
            raise refuse(
                "addInfoNotAvailable",
                "issuer-and-serial",
                "issuer and serialNumber must name the certificate",
            )
        # RFC 4211, section 5: MUST be 2 if supplied.
        if template.version not in {None, _VERSION_3}:
            raise refuse("badRequest", "version", "only version 3 is issued")
        if template.serial.startswith("-"):
            raise _unknown()
        try:
            record = await self._ra.find(
                self._endpoint.tenant_id, _as_kept(template.serial)
            )
        except UnknownCertificate:
            raise _unknown() from None
        facts = read_certificate(record.der)
        serving = self._ra.serving(self._endpoint)
        if (
            record.authority not in (serving.authority, *serving.issuers)
            or not names_match(template.issuer, facts.issuer)
            or not _agrees(template, facts)
        ):
            raise _unknown()
        return record

    # --- who ----------------------------------------------------------------

    def _check_right(
        self,
        party: SignerParty,
        record: CertificateRecord,
        facts: CertificateFacts,
        reason: str,
    ) -> None:
        """Let nobody revoke what is another's, nor lift his own hold."""
        if record.der == party.certificate.der:
            if reason != _RELEASE:
                return
            _require_held(record)
        if party.kind == "ra" and self._in_scope(party, facts, record.profile):
            return
        raise refuse(
            "notAuthorized",
            "not-yours",
            "this certificate is not for you to revoke or to release",
        )

    def _in_scope(
        self, party: SignerParty, facts: CertificateFacts, profile: str
    ) -> bool:
        """Tell whether a certificate is within an RA's scope."""
        own = party.principal
        assert own is not None  # who is an RA has been identified,
        assert own.record is not None  # by a certificate of ours
        return within_scope(
            scope_of(self._endpoint.scopes, party.certificate, own.record),
            facts,
            profile,
        )

    # --- what ---------------------------------------------------------------

    async def _revoke(
        self, record: CertificateRecord, reason: str, actor: str
    ) -> None:
        """Revoke, once (RFC 9483, section 4.2)."""
        if record.status is CertificateStatus.REVOKED and (
            reason in (CERTIFICATE_HOLD, record.revocation_reason)
            # That a key is compromised can turn out later.
            or (
                reason != KEY_COMPROMISE
                and record.revocation_reason != CERTIFICATE_HOLD
            )
        ):
            raise refuse(
                "certRevoked",
                "revoked-before",
                "the certificate has been revoked before",
            )
        await self._ra.revoke(record.tenant_id, record.serial, reason, actor)

    async def _release(self, record: CertificateRecord, actor: str) -> None:
        """Take a certificate off hold."""
        _require_held(record)
        try:
            await self._ra.release(record.tenant_id, record.serial, actor)
        except Stale as error:
            raise restate(error, "certRevoked", "revoked-for-good") from None


def _unknown() -> TrstctlError:
    """Return one refusal for whatever is not ours."""
    return refuse(
        "badCertId", "no-such-certificate", "there is no such certificate here"
    )


def _require_held(record: CertificateRecord) -> None:
    """Refuse to release what is not revoked at all."""
    if record.status is not CertificateStatus.REVOKED:
        raise refuse(
            "badCertId", "not-on-hold", "the certificate is not on hold"
        )


def _as_kept(serial: str) -> str:
    """Return a serial as the inventory has it."""
    return f"{int(serial, 16):x}"


def _agrees(template: CertTemplate, facts: CertificateFacts) -> bool:
    """Tell whether what else a template says is the certificate's."""
    if template.subject and not names_match(template.subject, facts.subject):
        return False
    if template.public_key not in {None, facts.public_key.spki}:
        return False
    if template.not_before not in {None, facts.not_before}:
        return False
    if template.not_after not in {None, facts.not_after}:
        return False
    own = {each.oid: each for each in facts.extensions}
    return all(own.get(each.oid) == each for each in template.extensions or ())


def _reason(details: RevDetails) -> str:
    """Return the reason, the one that there may be."""
    if len(details.reasons) > 1:
        raise refuse(
            "badRequest", "one-reason", "there can be only one reason"
        )
    reason = details.reasons[0] if details.reasons else "unspecified"
    if reason != _RELEASE and reason not in REVOCATION_REASONS:
        raise refuse(
            "badDataFormat", "unknown-reason", "there is no such reason"
        )
    return reason
