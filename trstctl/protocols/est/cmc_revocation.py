# SPDX-License-Identifier: MIT
"""
The Revocation Request control (RFC 5272, section 6.11).

Who has a certificate may revoke that one.  A registration authority may
revoke those whose names are within its scope, and only it may take one off
hold: whoever was put on hold must not lift that himself.

A message that says itself that it is fresh acts once: whoever has recorded
one could put a certificate on hold with it, or take it off, once more.  Sent
again it gets the same answer, as long as that is still true.

Who has lost the key may know the revocationChallenge that the request for the
certificate came with (RFC 7894, section 3.2): where the label takes such, it
stands in sharedSecret, and the message need not be signed.  Then nothing else
speaks, neither a signature nor what came by TLS and HTTP.  It revokes for
good: a secret is used once, and may be known to anybody afterwards, so that
it neither puts on hold nor takes off, and changes nothing of what is revoked.

Without effect: invalidityDate and comment, which are the CA's to use at its
discretion.  The secret stands in no log.
"""

from __future__ import annotations

from trstctl.errors import (
    Malformed,
    NotAuthorized,
    Replayed,
    Stale,
    UnknownCertificate,
)
from trstctl.http.request import HTTPRequest
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    CERTIFICATE_HOLD,
    REVOCATION_REASONS,
    CertificateRecord,
    CertificateStatus,
    Principal,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmc import StatusInfo
from trstctl.pkix.cmc_controls import RevokeRequest
from trstctl.pkix.names import names_match
from trstctl.policy.registration import scope_of, within_scope
from trstctl.protocols.est.cmc_exchange import (
    Asked,
    Outcome,
    identified,
    seen_before,
)
from trstctl.protocols.est.cmc_parties import check_fresh
from trstctl.protocols.est.cmc_refusals import concerning, unsupported
from trstctl.protocols.est.settings import Served

_RELEASE = "removeFromCRL"

#: Reasons from which there is no way back.
_FOR_GOOD = frozenset(REVOCATION_REASONS) - {CERTIFICATE_HOLD}

#: What log and audit log call whoever knows what a certificate came with.
WHO_KNOWS = "challenge:revocation"


class Revocation:
    """Answers revocation requests, at one label."""

    def __init__(self, ra: IRegistrationAuthority, served: Served) -> None:
        self._ra = ra
        self._endpoint = served.endpoint
        self._takes_secrets = served.revocation_challenge != "off"

    async def revoke(self, asked: Asked, wanted: RevokeRequest) -> Outcome:
        """
        Do what is asked for; once more is not wrong.

        :raises Refusal: it is not for the signer to ask, or there is no such
            certificate.
        """
        part = asked.wish.body_part
        if wanted.secret is not None:
            return await self.revoke_by_secret(
                asked.http, part, wanted, wanted.secret
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
        return _done(part, wanted.reason, own.id, record.serial)

    async def revoke_by_secret(
        self,
        http: HTTPRequest,
        part: int,
        wanted: RevokeRequest,
        secret: bytes,
    ) -> Outcome:
        """
        Revoke for who knows the certificate's secret; once more is not wrong.

        :param part: the body part of the request.
        :raises Refusal: the secret is wrong, there is none, or there is no
            such certificate, all of which look alike.
        """
        if not self._takes_secrets:
            raise unsupported(
                "nothing is revoked by a shared secret here; leave it out and "
                "sign",
                part,
            )
        with concerning(part):
            if wanted.reason not in _FOR_GOOD:
                raise Malformed("a shared secret revokes for good")
            try:
                record = await self._named(wanted)
            except UnknownCertificate:
                record = None
            await self._ra.revocation_challenges.prove(
                self._endpoint.tenant_id,
                wanted.serial,
                "" if record is None else record.revocation_verifier,
                secret,
                http.peer,
            )
            assert record is not None  # else nothing was kept
            if not _stands(record, wanted.reason):
                await self._act(record, wanted.reason, WHO_KNOWS)
        return _done(part, wanted.reason, WHO_KNOWS, record.serial)

    async def _named(self, wanted: RevokeRequest) -> CertificateRecord:
        """
        Return the certificate that a request names.

        Where there is none, one of ours is read in its place: unknown takes
        what wrong takes.
        """
        endpoint = self._ra.serving(self._endpoint)
        record: CertificateRecord | None = None
        read = self._ra.ca_certificates(endpoint)[0]
        try:
            record = await self._ra.find(endpoint.tenant_id, wanted.serial)
            read = record.der
        except UnknownCertificate:
            pass
        named = names_match(wanted.issuer, read_certificate(read).issuer)
        accepted = {endpoint.authority, *endpoint.issuers}
        if record is None or record.authority not in accepted or not named:
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
        seen = await seen_before(
            self._ra, self._endpoint, asked, own.id, {"acted": "revocation"}
        )
        return seen is None

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


def _done(part: int, reason: str, actor: str, serial: str) -> Outcome:
    """Return what is told of a certificate that is as it should be."""
    return Outcome(
        StatusInfo("success", (part,)),
        {
            "decision": "released" if reason == _RELEASE else "revoked",
            "principal": actor,
            "serial": serial,
        },
    )
