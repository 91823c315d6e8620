# SPDX-License-Identifier: MIT
"""
Client certificates, whose keys TLS has proven: who presents them, and for
whom.

Theory of operation
===================

C-1  *Ours are known.*  Issued by this endpoint's authority, in this tenant's
     inventory byte for byte, not revoked, not from the future.
C-2  *A renewal must not bring back who was revoked.*  What has replaced a
     certificate must not be revoked either.  One that was revoked for being
     replaced still gets the answer of that renewal, and nothing else.
C-3  *A factory certificate* counts by the anchors of its endpoint, which
     vouch for none of ours; and it never renews.
C-4  *A registration authority*, whose certificate is ours and has
     id-kp-cmcRA, speaks for others within the scopes of its endpoint.
     Without a scope, id-kp-cmcRA means nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime

from attrs import evolve

from trstctl.backends.devices import current_certificate
from trstctl.backends.factory_certificates import (
    FactoryAnchors,
    Stranger,
    Unfit,
)
from trstctl.errors import (
    Malformed,
    NotAuthenticated,
    NotAuthorized,
    TooLarge,
    UnknownCertificate,
)
from trstctl.interfaces import IAuthority, IStore
from trstctl.model import (
    SUPERSEDED,
    CertificateFacts,
    CertificateRecord,
    CertificateStatus,
    ClientCertificate,
    Endpoint,
    EnrollmentRequest,
    Operation,
    Principal,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.policy.factory import factory_refusal
from trstctl.policy.registration import (
    asks_for_itself,
    scope_of,
    scope_refusal,
)

#: How often a certificate may have been replaced in its life.
_SUCCESSORS = 16

#: Sets of anchors that are kept in OpenSSL's form.
_ANCHORS = 64


class ClientCertificates:
    """
    Judges client certificates.

    :param authorities: returns the authorities of this moment, by name.
    """

    def __init__(
        self,
        store: IStore,
        authorities: Callable[[], Mapping[str, IAuthority]],
    ) -> None:
        self._store = store
        self._authorities = authorities
        self._anchors: dict[tuple[bytes, ...], FactoryAnchors] = {}

    async def judge(
        self,
        request: EnrollmentRequest,
        presented: ClientCertificate,
        now: datetime,
    ) -> Principal | None:
        """
        Return who presents it; ``None``: it counts as not presented.

        See :meth:`trstctl.interfaces.IAuthenticator.authenticate`.
        """
        endpoint = request.endpoint
        try:
            facts = read_certificate(presented.der)
        except (Malformed, TooLarge):
            return None
        issuer = self._issuer(endpoint, facts)
        if issuer is None:
            return self._factory_certificate(
                endpoint, request.operation, presented, facts, now
            )
        principal, record = await self._own(
            endpoint, issuer, presented.der, facts, now
        )
        renewing = request.operation is Operation.RENEW
        if record.status is CertificateStatus.REVOKED and not (
            renewing and _was_replaced(record)
        ):
            raise _known(principal, "the client certificate has been revoked")
        if facts.not_after < now and not renewing:
            raise _known(principal, "the client certificate has expired")
        if record.superseded_by:
            await self._check_successors(principal, record)
        if endpoint.scopes:
            return await self._registration(request, principal, now)
        return principal

    async def identify(
        self,
        endpoint: Endpoint,
        certificate: bytes,
        now: datetime,
        chain: tuple[bytes, ...] | None = None,
    ) -> Principal:
        """
        Return for whom a certificate of ours speaks.

        See :meth:`trstctl.interfaces.IRegistrationAuthority.identify`.
        """
        try:
            facts = read_certificate(certificate)
        except (Malformed, TooLarge):
            raise NotAuthenticated from None
        issuer = self._issuer(endpoint, facts)
        if issuer is None:
            made = None
            if chain is not None:
                presented = ClientCertificate(certificate, chain)
                made = self._factory_certificate(
                    endpoint, Operation.ENROLL, presented, facts, now
                )
            if made is None:
                raise NotAuthenticated
            return made
        principal, record = await self._own(
            endpoint, issuer, certificate, facts, now
        )
        if record.status is CertificateStatus.REVOKED:
            raise _known(principal, "the client certificate has been revoked")
        if facts.not_after < now:
            raise _known(principal, "the client certificate has expired")
        if record.superseded_by:
            await self._check_successors(principal, record)
        return principal

    def _issuer(
        self, endpoint: Endpoint, facts: CertificateFacts
    ) -> str | None:
        """Return which of the endpoint's authorities issued it, if any."""
        authorities = self._authorities()
        for name in (endpoint.authority, *endpoint.issuers):
            authority = authorities.get(name)
            if authority is not None and authority.issued(facts):
                return name
        return None

    async def _own(
        self,
        endpoint: Endpoint,
        issuer: str,
        der: bytes,
        facts: CertificateFacts,
        now: datetime,
    ) -> tuple[Principal, CertificateRecord]:
        """Return whose it is, if the inventory has it byte for byte."""
        record = await self._store.find_certificate(
            endpoint.tenant_id, facts.serial
        )
        if (
            record is None
            or record.authority != issuer
            or record.der != der
            or facts.not_before > now
        ):
            raise NotAuthenticated
        principal = Principal(
            kind="certificate",
            name=f"{issuer}:{facts.serial}",
            tenant_id=endpoint.tenant_id,
            certificate=facts,
            record=record,
        )
        return principal, record

    async def _check_successors(
        self, principal: Principal, record: CertificateRecord
    ) -> None:
        """
        Refuse a certificate whose successor has been revoked.

        Whoever revokes a device revokes the certificate that it has now;
        the ones that it had before must not bring it back.
        """
        for _ in range(_SUCCESSORS):
            if not record.superseded_by:
                return
            found = await self._store.find_certificate(
                record.tenant_id, record.superseded_by
            )
            assert found is not None  # none is ever removed
            record = found
            if record.status is CertificateStatus.REVOKED and (
                not _was_replaced(record)
            ):
                raise _known(
                    principal,
                    "the certificate that replaced the client certificate "
                    "has been revoked",
                )
        raise _known(principal, "the client certificate has been replaced")

    async def _registration(
        self, request: EnrollmentRequest, own: Principal, now: datetime
    ) -> Principal:
        """
        Let a registration authority speak for others (C-4).

        :param own: whose its certificate is.
        """
        certificate, record = own.certificate, own.record
        assert certificate is not None
        assert record is not None
        wanted, operation = request.wanted, request.operation
        scope = scope_of(request.endpoint.scopes, certificate, record)
        if scope is None or asks_for_itself(wanted, certificate):
            return own
        speaking = evolve(
            own,
            kind="ra",
            names=scope.names,
            profiles=scope.profiles,
            certificate=None,
            record=None,
        )
        if record.status is CertificateStatus.REVOKED:
            raise _known(speaking, "the client certificate has been revoked")
        if certificate.not_after < now:
            raise _known(speaking, "the client certificate has expired")
        refusal = scope_refusal(scope, wanted, operation)
        if refusal is not None:
            raise _known(speaking, refusal)
        if operation is not Operation.RENEW:
            return speaking
        try:
            device = await current_certificate(self._store, request)
        except (NotAuthorized, UnknownCertificate) as error:
            error.facts["principal"] = speaking.id
            raise
        return evolve(
            speaking, certificate=read_certificate(device.der), record=device
        )

    def _factory_certificate(
        self,
        endpoint: Endpoint,
        operation: Operation,
        presented: ClientCertificate,
        facts: CertificateFacts,
        now: datetime,
    ) -> Principal | None:
        """Judge a certificate that the authority did not issue (C-3)."""
        trust = endpoint.factory
        if trust is None or any(
            one.issued(facts) for one in self._authorities().values()
        ):
            return None
        anchors = self._anchors.get(trust.anchors)
        if anchors is None:
            if len(self._anchors) == _ANCHORS:
                self._anchors.clear()
            anchors = FactoryAnchors(trust.anchors)
            self._anchors[trust.anchors] = anchors
        principal = Principal(
            kind="idevid",
            name=hashlib.sha256(presented.der).hexdigest(),
            tenant_id=endpoint.tenant_id,
            certificate=facts,
        )
        try:
            anchors.judge(presented, facts, now)
        except Stranger:
            return None
        except Unfit as error:
            raise _known(principal, str(error)) from error
        refusal = factory_refusal(trust, facts)
        if principal.name in trust.refused:
            refusal = "this factory certificate is refused here"
        if refusal is None and operation is Operation.RENEW:
            refusal = (
                "a factory certificate is not renewed here: enroll with it, "
                "and renew what you get"
            )
        if refusal is not None:
            raise _known(principal, refusal)
        return principal


def _was_replaced(record: CertificateRecord) -> bool:
    """Tell whether a certificate was revoked because it was renewed."""
    return record.revocation_reason == SUPERSEDED and bool(
        record.superseded_by
    )


def _known(principal: Principal, detail: str) -> NotAuthorized:
    """Return the refusal of one who is known; log and audit name him."""
    error = NotAuthorized(detail)
    error.facts["principal"] = principal.id
    return error
