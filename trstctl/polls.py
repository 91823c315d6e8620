# SPDX-License-Identifier: MIT
"""
What became of a request: finds it again, and takes it up as it was.

Who asks for another's request hears what he would hear if there were none:
the same error, after the same work.  So everything that is shown is proven
before the store is asked, and whatever it proves of others is not told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import partial

from attrs import evolve

from trstctl.asked import ANEW, Asked, ask, read_kept
from trstctl.errors import ChallengeRejected, UnknownCertificate
from trstctl.interfaces import IAuthenticator, IStore
from trstctl.key_maker import as_asked
from trstctl.minting import principal_of
from trstctl.model import (
    ClientCertificate,
    Endpoint,
    EnrollmentRequest,
    Operation,
    PollRequest,
    Principal,
    StoredRequest,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.names import name_text
from trstctl.rules import Rules, Windows


class Polls:
    """
    Finds the request that a client asks for.

    :param now: the wall clock, UTC.
    """

    def __init__(
        self,
        store: IStore,
        authenticator: IAuthenticator,
        windows: Windows,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._authenticator = authenticator
        self._windows = windows
        self._now = now

    async def asker(self, request: PollRequest) -> Principal | None:
        """
        Return whose password or bearer token came with a question, if one
        did.

        :raises NotAuthenticated: it is wrong.
        :raises Throttled: too many were.
        """
        if not request.endpoint.may_wait:
            return None  # there is nothing that he could be told
        found: Principal | None = await self._authenticator.authenticate_asker(
            request, self._now()
        )
        return found

    async def find(self, request: PollRequest) -> StoredRequest:
        """
        Return the newest request of the transaction and the signer.

        :raises UnknownCertificate: there is none.
        """
        endpoint = request.endpoint
        if not endpoint.may_wait:
            # Nobody was told to come back, and the gate wants to hear of the
            # request itself (I-12).
            raise _none()
        signers: set[str] = set()
        for one in request.credentials:
            if isinstance(one, ClientCertificate):
                signers |= await self._spoken_for(endpoint, one.der)
        rows = await self._store.find_transactions(
            endpoint.tenant_id,
            endpoint.protocol,
            endpoint.name,
            request.transaction,
            self._now(),
            principals=signers,
            fingerprint=request.public_key_fingerprint,
        )
        for row in rows:
            if row.key.key.startswith(ANEW):
                continue  # its key was handed out, or is gone
            if request.principal in {"", row.key.principal}:
                return row
        raise _none()

    async def _spoken_for(self, endpoint: Endpoint, der: bytes) -> set[str]:
        """
        Return the principals that a certificate can be.

        Its signer has proven the key that is in it, and nothing else: anybody
        can make a certificate with another's serial number.
        """
        found = {f"idevid:{hashlib.sha256(der).hexdigest()}"}
        serial = read_certificate(der).serial
        record = await self._store.find_certificate(endpoint.tenant_id, serial)
        if record is not None and record.der == der:
            found.update(
                f"{kind}:{authority}:{serial}"
                for kind in ("certificate", "ra")
                for authority in (endpoint.authority, *endpoint.issuers)
            )
        return found

    async def taken_up(
        self,
        request: PollRequest,
        row: StoredRequest,
        rules: Rules,
        asker: Principal | None,
    ) -> Asked:
        """
        Return the request as it was, of whoever it was, if he still is.

        :param asker: from :meth:`asker`.
        :raises UnknownCertificate: it is somebody else who asks.
        :raises RequestError: his credential was revoked since.
        """
        wanted, generate = read_kept(row.csr), request.generate
        policy = rules.profiles.get(request.endpoint.profile)
        if not wanted.public_key.spki and policy is not None:
            key = as_asked(policy.wishes(), wanted.public_key)
            wanted = evolve(wanted, public_key=key)
        again = EnrollmentRequest(
            endpoint=request.endpoint,
            operation=Operation(row.operation),
            wanted=wanted,
            credentials=request.credentials,
            request_id=request.request_id,
            peer=request.peer,
            transaction=request.transaction,
            confirm_within=request.confirm_within,
            generate=generate and partial(generate, wanted),
            revocation_verifier=row.revocation_verifier,
        )
        principal = await self._principal_of(again, row, asker)
        again = _named(again, row, principal)
        asked = ask(again, principal, rules, self._windows)
        renewing = again.operation is Operation.RENEW
        return evolve(
            asked,
            key=row.key,
            fingerprint=row.fingerprint,
            gates=tuple(
                one for one in asked.gates if one.renewals or not renewing
            ),
            # Without its challenge, its signature proves nothing any more.
            proven=True,
        )

    async def _principal_of(
        self,
        request: EnrollmentRequest,
        row: StoredRequest,
        asker: Principal | None,
    ) -> Principal:
        """
        Return who made a request, as the store knows him now.

        :raises UnknownCertificate: it is somebody else who asks.
        :raises RequestError: his credential was revoked since.
        """
        tenant_id = row.key.tenant_id
        kind, _, name = row.key.principal.partition(":")
        if kind == "certificate" or (
            kind in {"ra", "idevid"} and request.credentials
        ):
            return await self._certified(request, row.key.principal)
        if kind in {"basic", "bearer"}:
            if asker is None or asker.id != row.key.principal:
                raise _none()
            return asker
        if row.secret_id is not None:
            secret = await self._store.find_secret_by_id(
                tenant_id, row.secret_id
            )
            if secret is None or secret.revoked_at is not None:
                raise ChallengeRejected
            return evolve(principal_of(secret), kind=kind, name=name)
        if kind in {"mdm", "anonymous"}:
            # What bound it was judged with this very request.
            return Principal(kind, name, tenant_id)
        raise _none()

    async def _certified(
        self, request: EnrollmentRequest, principal_id: str
    ) -> Principal:
        """Return the principal of the certificate that made a request."""
        own = tuple(
            one
            for one in request.credentials
            if isinstance(one, ClientCertificate)
        )
        if not own:
            # The new key has signed: it may ask, while the old one is good.
            record = await self._store.find_certificate(
                request.endpoint.tenant_id, principal_id.rpartition(":")[2]
            )
            if record is None:
                raise _none()
            own = (ClientCertificate(record.der),)
        else:
            endpoint = request.endpoint
            own = tuple(
                [
                    one
                    for one in own
                    if principal_id
                    in await self._spoken_for(endpoint, one.der)
                ]
            )
            if not own:
                raise _none()
        # The gate has judged the request itself; a question it cannot.
        request = evolve(request, credentials=own)
        principal = await self._authenticator.authenticate(
            request, self._now()
        )
        if principal.id != principal_id:
            raise _none()
        return principal


def _named(
    request: EnrollmentRequest, row: StoredRequest, principal: Principal
) -> EnrollmentRequest:
    """Name a request that was for the subject of what it renews."""
    former = principal.certificate
    if (
        request.wanted.subject
        or former is None
        or row.subject != name_text(former.subject)
    ):
        return request
    wanted = evolve(request.wanted, subject=former.subject)
    return evolve(request, wanted=wanted)


def _none() -> UnknownCertificate:
    """Return what all are told but whose request it is."""
    return UnknownCertificate("there is no such request")
