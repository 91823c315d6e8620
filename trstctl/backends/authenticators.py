# SPDX-License-Identifier: MIT
"""
The built-in authenticator: credentials of the store, certificates of the CA.

Theory of operation
===================

A-1  *Unknown equals wrong.*  An unknown name costs the same slow hash as a
     wrong password, and gets the same error.
A-2  *Slow only once.*  A password that was right is remembered for a few
     minutes as an HMAC under a key of this process, bound to the verifier
     it matched.  The credential's row is read every time, so a revocation
     counts at the next request.
A-3  *Guessing is throttled* by name and by address, before the slow hash
     and once more after it, so that guesses made at once gain nothing; who
     leaves meanwhile is counted all the same.  A password that was right from
     this very address passes the throttle by name, and a right token, which
     nobody can guess, passes it all: guessing at somebody's name does not
     lock out who knows the secret.
A-4  *Certificates are judged here*, not in the handshake; how, says
     :mod:`trstctl.backends.client_certificates`.
A-5  *Handing out secrets is a right of its own.*  A registrar's token is a
     credential of another kind than a device's; each is unknown where the
     other is asked for.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Protocol, assert_never

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from trstctl.asked import gates_of
from trstctl.backends.client_certificates import ClientCertificates
from trstctl.backends.passwords import (
    DECOY,
    TOKEN_DECOY,
    check_password,
    check_token,
    secret_digest,
)
from trstctl.backends.throttle import Throttle
from trstctl.errors import (
    ChallengeRejected,
    NotAuthenticated,
    Throttled,
)
from trstctl.http.site import holder
from trstctl.interfaces import (
    IAuthenticator,
    IAuthority,
    IChallengeTokens,
    IStore,
)
from trstctl.minting import BOOTSTRAP, check_secret, principal_of
from trstctl.model import (
    BearerToken,
    Challenge,
    ClientCertificate,
    Credential,
    CredentialRecord,
    Endpoint,
    EnrollmentRequest,
    OneTimeToken,
    Operation,
    Password,
    PollRequest,
    Principal,
    RegistrarCall,
)
from trstctl.shield import to_its_end

#: Seconds for which a right password is remembered, and how many are.
_REMEMBERED_SECONDS = 600.0
_REMEMBERED = 10_000

#: Whose certificate speaks before a password, and so on; a renewal's
#: certificate speaks before all of them.
_PRECEDENCE = {
    "token": 0,
    "mdm": 0,
    "anonymous": 0,
    "bearer": 1,
    "basic": 2,
    "certificate": 3,
    "ra": 3,
    "idevid": 3,
}

#: Longest name and secret that are looked at, in characters.
_LONGEST = 256


class RunSlowly(Protocol):
    """Runs a blocking function off the reactor thread."""

    def __call__(
        self,
        check: Callable[[str, str], bool],
        secret: str,
        verifier: str,
        /,
    ) -> Awaitable[bool]:
        """Return what the check returns."""


@implementer(IAuthenticator)
class StoreAuthenticator:
    """
    Proves passwords, tokens and client certificates.

    :param authorities: returns the authorities of this moment, by name.
    :param clock: the monotonic clock.
    :param run_slowly: where the password hash runs.
    :param random_bytes: makes the key of the remembered passwords.
    :param failures: wrong credentials allowed a minute, by name and address.
    """

    def __init__(
        self,
        store: IStore,
        authorities: Callable[[], Mapping[str, IAuthority]],
        clock: IReactorTime,
        run_slowly: RunSlowly,
        random_bytes: Callable[[int], bytes],
        failures: int = 10,
    ) -> None:
        self._store = store
        self._clock = clock
        self._run_slowly = run_slowly
        self._throttle = Throttle(clock, failures)
        self._remembered: OrderedDict[tuple[bytes, str], float] = OrderedDict()
        self._memory_key = random_bytes(32)
        self._hashing: dict[bytes, list[Deferred[bool]]] = {}
        self._certificates = ClientCertificates(store, authorities)

    def authenticate(
        self, request: EnrollmentRequest, now: datetime
    ) -> Deferred[Principal]:
        """Prove the request's credentials; see the interface."""
        return Deferred.fromCoroutine(self._authenticate(request, now))

    async def _authenticate(
        self, request: EnrollmentRequest, now: datetime
    ) -> Principal:
        """Prove each credential, and say which one speaks."""
        proven: list[Principal] = []
        for credential in request.credentials:
            principal = await self._prove(request, credential, now)
            if principal is not None:
                proven.append(principal)
        if not proven:
            raise NotAuthenticated
        renewing = request.operation is Operation.RENEW
        return min(
            proven,
            key=lambda one: (
                not (renewing and one.kind in ("certificate", "ra")),
                _PRECEDENCE[one.kind],
            ),
        )

    async def _prove(
        self,
        request: EnrollmentRequest,
        credential: Credential,
        now: datetime,
    ) -> Principal | None:
        """Prove one credential; ``None``: it counts as not presented."""
        match credential:
            case ClientCertificate():
                return await self._certificates.judge(request, credential, now)
            case Password(username, password):
                return await self._password(request, username, password, now)
            case BearerToken(token):
                return await self._bearer(request, "bearer", token, now)
            case OneTimeToken(token):
                return await self._one_time(request, token, now)
            case Challenge(text, gate):
                if gate not in gates_of(request):
                    if IChallengeTokens.providedBy(gate):
                        await gate.check_renewal(request, text)
                    return None  # the certificate speaks
                principal: Principal = await gate.admit(request, text, now)
                return principal
            case _:
                assert_never(credential)

    def authenticate_asker(
        self, request: PollRequest, now: datetime
    ) -> Deferred[Principal | None]:
        """Prove a question's password or token; see the interface."""

        async def prove() -> Principal | None:
            found: Principal | None = None
            for credential in request.credentials:
                match credential:
                    case BearerToken(token):
                        found = await self._bearer(
                            request, "bearer", token, now
                        )
                    case Password(name, password):
                        named = await self._password(
                            request, name, password, now
                        )
                        found = found or named
            return found

        return Deferred.fromCoroutine(prove())

    # --- passwords ----------------------------------------------------------

    async def _password(
        self,
        request: EnrollmentRequest | PollRequest,
        username: str,
        password: str,
        now: datetime,
    ) -> Principal:
        """Prove a name and password (A-1, A-2, A-3)."""
        tenant = request.endpoint.tenant_id
        record = await self._live(tenant, "basic", username, now)
        verifier = record.verifier if record else DECOY
        memory = self._memory_of(tenant, username, password, verifier)
        buckets = self._buckets(request, username)
        if record is not None and self._remembers(memory, ""):
            known_here = self._remembers(memory, request.peer)
            self._admit(buckets[:1] if known_here else buckets)
            if not known_here:
                self._remember(memory, request.peer)
            return _principal(record)
        self._admit(buckets)
        await to_its_end(self._judged(memory, password, verifier, buckets))
        assert record is not None  # else the decoy was hashed
        self._remember(memory, "")
        self._remember(memory, request.peer)
        return _principal(record)

    async def _judged(
        self,
        memory: bytes,
        password: str,
        verifier: str,
        buckets: tuple[str, ...],
    ) -> None:
        """Hash slowly, and count a wrong password (A-1, A-3)."""
        right = len(password) <= _LONGEST and await self._hashed(
            memory, password, verifier
        )
        self._admit(buckets)
        if verifier == DECOY or not right:
            self._throttle.failed(*buckets)
            raise NotAuthenticated

    def _hashed(
        self, memory: bytes, password: str, verifier: str
    ) -> Deferred[bool]:
        """
        Hash slowly, once for all who ask the same at the same time.

        A fleet with one password that comes back after a restart would keep
        the processor busy for minutes otherwise.  Who leaves meanwhile does
        not stop it for the others.
        """
        turn: Deferred[bool] = Deferred()
        waiting = self._hashing.setdefault(memory, [])
        waiting.append(turn)
        if len(waiting) == 1:

            async def hash_it() -> bool:
                return await self._run_slowly(
                    check_password, password, verifier
                )

            def tell(result: Any) -> None:
                for one in self._hashing.pop(memory):
                    one.callback(result)  # a Failure makes it an errback

            Deferred.fromCoroutine(hash_it()).addBoth(tell)
        return turn

    def _memory_of(self, *parts: str) -> bytes:
        """Return the HMAC under which a right password is remembered."""
        octets = [part.encode("utf-8") for part in parts]
        framed = b"".join(b"%d:%s" % (len(one), one) for one in octets)
        return hmac.digest(self._memory_key, framed, "sha256")

    def _remembers(self, memory: bytes, peer: str) -> bool:
        """
        Tell whether a password was right a short time ago.

        :param peer: from this address; empty: from any.
        """
        until = self._remembered.get((memory, peer))
        return until is not None and self._clock.seconds() < until

    def _remember(self, memory: bytes, peer: str) -> None:
        """Remember a right password; forget the oldest beyond the limit."""
        until = self._clock.seconds() + _REMEMBERED_SECONDS
        self._remembered[memory, peer] = until
        self._remembered.move_to_end((memory, peer))
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)

    # --- tokens -------------------------------------------------------------

    def authenticate_registrar(
        self, call: RegistrarCall, now: datetime
    ) -> Deferred[Principal]:
        """Prove who wants to hand out secrets; see the interface (A-5)."""

        async def prove() -> Principal:
            for credential in call.credentials:
                if isinstance(credential, BearerToken):
                    return await self._bearer(
                        call, "registrar", credential.token, now
                    )
            raise NotAuthenticated

        return Deferred.fromCoroutine(prove())

    async def _bearer(
        self,
        request: EnrollmentRequest | PollRequest | RegistrarCall,
        kind: str,
        token: str,
        now: datetime,
    ) -> Principal:
        """Prove ``<name>.<secret>``, or its base64 as libest sends it."""
        name, dot, _ = token.partition(".")
        if not dot:
            token = _unwrapped(token)
            name, _, _ = token.partition(".")
        tenant = request.endpoint.tenant_id
        record = await self._live(tenant, kind, name, now)
        verifier = record.verifier if record else TOKEN_DECOY
        right = check_token(token[: _LONGEST + 1], verifier)
        if record is None or not right:
            self._failed(*self._buckets(request, name))
            raise NotAuthenticated
        return _principal(record)

    async def _one_time(
        self, request: EnrollmentRequest, token: str, now: datetime
    ) -> Principal:
        """
        Prove a single-use secret; the store burns it with the intent.

        What can be seen to be hopeless is refused here.  The decision is
        the store's, in the transaction, so that of all who ask at once one
        gets it, and a retry of the request it was burnt for passes.
        """
        endpoint = request.endpoint
        secret = await self._store.find_secret(
            endpoint.tenant_id, secret_digest(token)
        )
        if (
            secret is None
            or secret.revoked_at is not None
            # A token is for whoever takes tokens.  What is for one protocol
            # is a challenge, whose row nobody has compared with its MAC here.
            or secret.protocol != BOOTSTRAP
        ):
            self._failed(self._buckets(request, "")[0])
            raise ChallengeRejected
        check_secret(secret, request.wanted.public_key.fingerprint, now)
        return principal_of(secret)

    # --- certificates -------------------------------------------------------

    def identify(
        self,
        endpoint: Endpoint,
        certificate: bytes,
        now: datetime,
        chain: tuple[bytes, ...] | None = None,
    ) -> Deferred[Principal]:
        """Judge a certificate that asks a question; see the interface."""
        return Deferred.fromCoroutine(
            self._certificates.identify(endpoint, certificate, now, chain)
        )

    # --- what they share ----------------------------------------------------

    async def _live(
        self, tenant_id: str, kind: str, name: str, now: datetime
    ) -> CredentialRecord | None:
        """Return the credential unless it is unknown, revoked or expired."""
        if not name.isprintable() or len(name) > _LONGEST:
            return None
        record = await self._store.find_credential(tenant_id, kind, name)
        if record is None or record.revoked_at is not None:
            return None
        if record.expires_at is not None and record.expires_at <= now:
            return None
        return record

    def _buckets(
        self,
        request: EnrollmentRequest | PollRequest | RegistrarCall,
        name: str,
    ) -> tuple[str, ...]:
        """
        Return the throttle's keys: who holds the address (all of an IPv6
        /64 is one), and the canonical name.
        """
        canonical = name.strip().casefold()[:_LONGEST]
        return (
            f"peer {holder(request.peer)}",
            f"name {request.endpoint.tenant_id} {canonical}",
        )

    def _failed(self, *buckets: str) -> None:
        """Count a wrong token, unless there were too many already."""
        self._admit(buckets)
        self._throttle.failed(*buckets)

    def _admit(self, buckets: tuple[str, ...]) -> None:
        """Refuse whoever has failed too often (A-3)."""
        wait = self._throttle.wait(*buckets)
        if wait:
            raise Throttled(wait)


def _principal(record: CredentialRecord) -> Principal:
    """Return who a standing credential stands for."""
    return Principal(
        kind=record.kind,
        name=record.name,
        tenant_id=record.tenant_id,
        names=record.names,
        profiles=record.profiles,
    )


def _unwrapped(token: str) -> str:
    """Return a token that libest has wrapped in base64, or the token."""
    try:
        octets = base64.b64decode(token, validate=True)
        return octets.decode("ascii")
    except (binascii.Error, ValueError):
        return token
