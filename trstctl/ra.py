# SPDX-License-Identifier: MIT
"""
The registration authority: the one straight path of every enrollment.

Theory of operation
===================

A request is authenticated, judged by its profile, and proven to hold its
key; then the *intent* to sign exactly these bytes under exactly this serial
is committed, the signature made and verified, and the certificate committed
together with its audit record.  Only then is it answered.  The store's
unique constraints decide every race; memory decides none, so any number of
processes and nodes may run this path on one store.

Invariants, which tests name:

I-1  *Write-ahead.*  No signature without a committed intent.
I-2  *One signature for a serial.*  An intent is signed at most once, by the
     process that opened it; what fails after the intent is retired, never
     signed again.
I-3  *No answer before the commit* of the certificate and its audit record.
I-4  *Exactly one certificate.*  Requests with one key and one fingerprint
     get one certificate, byte for byte, however often, wherever and whenever
     they are repeated while the key lives.
I-5  *Never another's.*  The same key with another fingerprint is refused.
     The key holds tenant, protocol and principal, so nobody can meet
     anybody else's.
I-6  *Refused means nothing happened.*  What is refused before the intent
     leaves no serial, no row and no burnt secret; only an audit record.
I-7  *Shielded.*  Until the intent is asked for, a client that leaves stops
     its request; after that, nothing does.
I-8  *Orphans are retired.*  The intents of an owner that is gone are
     abandoned, at start and by lease; their serials count as revoked, and a
     retry opens a fresh intent.
I-9  *Cheap refusals first.*  The key policy runs before any signature of
     the request is checked.
I-10 *A secret buys one certificate.*  A single-use secret is the idempotency
     key of its request, and what counts of that is its signed part: whoever
     has the same key and asks for the same, signed anew, gets that
     certificate, byte for byte; any other key is refused, and is an alarm.
I-11 *One request in a transaction.*  Where a protocol has a transactionID and
     no secret pays, the key is made of it and the fingerprint, for a short
     time: the same again, much later, is a renewal.  Another request has to
     wait until the first is finished.
I-12 *The gate hears of it first.*  Where a gate has admitted the request, no
     certificate is handed out that the gate did not hear of; one that it
     cannot hear of is revoked.
I-13 *Replaced by what exists.*  A renewal supersedes the old certificate once
     the new one is committed, never before.  If it is not recorded then, the
     new one stands all the same, and its next replay makes up for it.
I-14 *Confirmed in time, or revoked.*  Where a client is to confirm what it
     got, the certificate replaces no other until it does; what nobody has
     confirmed in time is revoked.
I-15 *A key that is made here is handed out once.*  It is made when it is known
     who asks and that he may, and is kept nowhere.  So no repetition gets a
     certificate a second time: it gets another, for another key, one after
     the other, and never before those of the same transaction and principal
     are revoked, for a short time as in I-11.  Where the process ended
     before that, the next repetition makes up for it.
I-16 *Or to who keeps the answer.*  A protocol that gives the same answer to
     the same message, the key in it, need not ask anew: there a repetition
     gets the certificate of before, as everywhere.  Its key is made when
     nothing but the intent is left to do: after the approval, if there is
     one to wait for.
I-17 *One generation issues.*  Where an authority has had several keys, a
     request goes to the one that issues when it comes in, whatever certificate
     it is made with; what is handed out again has the chain of its issuer.
I-18 *Sent again is not begun anew.*  Where a protocol's messages name their
    transactions, the same request under the same one is refused for good
    once I-4 is over, at every endpoint of protocol and tenant: its row, which
    is kept as its certificate is, still has the key.
I-19 *A password that revokes is kept as a slow hash* only, from the request's
     row to the certificate's.  The hash stands for it in the fingerprint, so
     that with another password it is another request, and nothing that is kept
     tells a guess any faster.  It is made for who is proven.  Where a protocol
     keeps none, a request with one is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

from attrs import evolve
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from trstctl.asked import (
    ONCE,
    Asked,
    ask,
    gates_of,
    has_lapsed,
    is_approved,
    refuse_ended,
    refuse_replaced,
    refuse_revoked,
    settled,
    settled_in_flight,
    wish,
)
from trstctl.ca.authority import new_serial
from trstctl.enquiries import Enquiries
from trstctl.errors import (
    Conflict,
    Internal,
    PolicyViolation,
    RequestError,
    SerialTaken,
    Stale,
    Unavailable,
)
from trstctl.gates import Gates
from trstctl.interfaces import (
    IAttempts,
    IAuthenticator,
    IChallengeTokens,
    ICredentials,
    IDeviceSecrets,
    IDialogues,
    IEnquiries,
    IKeyMaker,
    IOutbound,
    IRegistrar,
    IRegistrationAuthority,
    IRevocation,
    IRevocationChallenges,
    IStore,
)
from trstctl.minting import Registrar
from trstctl.model import (
    SUPERSEDED,
    Approved,
    CertificateRecord,
    CertificateRequest,
    CSRWishes,
    Endpoint,
    EnrollmentRequest,
    Held,
    Intent,
    Issued,
    NewRequest,
    Opened,
    Pending,
    PollRequest,
    Principal,
    RegistrarCall,
    RequestState,
    StoredRequest,
    Succession,
)
from trstctl.pkix.csr import verify_proof, without_challenge
from trstctl.pkix.names import name_text
from trstctl.pkix.signing import prepare_signed
from trstctl.policy.registration import check_linking
from trstctl.polls import Polls
from trstctl.refusals import RefusalAudit
from trstctl.renewals import Renewals, find_certificate
from trstctl.rules import Rules, Windows
from trstctl.shield import Shield

#: How often expired dialogues are forgotten.
_PURGE = timedelta(minutes=10)

#: How often a taken serial is replaced before something must be wrong.
_SERIAL_TRIES = 3

#: How often a request that others move about is looked at again.
_ROUNDS = 5

_AnyRequest = TypeVar("_AnyRequest", EnrollmentRequest, PollRequest)


def unmarked(point: str) -> None:
    """Pass a failure point; what a drill puts here kills the process."""


@implementer(IRegistrationAuthority)
class RegistrationAuthority:
    """
    The one call that every protocol makes.

    :param clock: the monotonic clock.
    :param now: the wall clock, UTC.
    :param random_bytes: the source of serials and identifiers.
    :param owner: names this process among those that share the store.
    :param reached: called with the name of each failure point; drills kill
        the process there.
    :param elsewhere: runs a function in a thread; by default here and now.
    :ivar credentials: the gateway's own keys; set before anything listens.
    :ivar challenges: the gate of our own tokens; likewise.
    :ivar revocation: what the authorities say of what they signed; likewise.
    """

    _log = Logger()
    credentials: ICredentials
    challenges: IChallengeTokens
    revocation: IRevocation
    device_secrets: IDeviceSecrets
    revocation_challenges: IRevocationChallenges
    outbound: IOutbound
    attempts: IAttempts
    key_maker: IKeyMaker

    def __init__(
        self,
        *,
        store: IStore,
        rules: Rules,
        authenticator: IAuthenticator,
        clock: IReactorTime,
        now: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        owner: str,
        windows: Windows | None = None,
        reached: Callable[[str], None] = unmarked,
        elsewhere: Callable[..., Awaitable[Any]] | None = None,
    ) -> None:
        self._store = store
        self.dialogues: IDialogues = store
        self.rules = rules
        self.enquiries: IEnquiries = Enquiries(store, lambda: self.rules, now)
        self._authenticator = authenticator
        self._clock = clock
        self.now = now
        self.random_bytes = random_bytes
        self._owner = owner
        self.windows = windows or Windows()
        self._reached = reached
        self._refusals = RefusalAudit(store, clock, now)
        self._shield: Shield[Any] = Shield()
        self._unsettled: dict[str, Intent] = {}
        self._elsewhere = elsewhere or _here
        self._purge_at = now()
        self._renewals = Renewals(store, now, reached)
        self._gates = Gates(store, now)
        self._polls = Polls(store, authenticator, self.windows, now)

    # --- the heart ----------------------------------------------------------

    def enroll(self, request: EnrollmentRequest) -> Deferred[Issued | Pending]:
        """Take one request all the way; see the interface."""
        return Deferred.fromCoroutine(self._enroll(request))

    async def _enroll(self, request: EnrollmentRequest) -> Issued | Pending:
        """Authenticate and answer; audit a refusal."""
        principal: Principal | None = None
        if request.wanted.forgiven:
            self._log.info(
                "a request has small faults: {faults}",
                event="request.forgiven",
                request_id=request.request_id,
                tenant=request.endpoint.tenant_id,
                protocol=request.endpoint.protocol,
                profile=request.endpoint.profile,
                faults=" ".join(request.wanted.forgiven),
                peer=request.peer,
            )
        try:
            request = self._as_now(request)
            principal = await self._authenticator.authenticate(
                request, self.now()
            )
            check_linking(request, principal)
            if request.revocation_challenge:
                request = await self._hashed(request)
            asked = ask(request, principal, self.rules, self.windows)
            if request.anew and request.generate is not None:
                asked = await self._with_key(asked, request.generate)
            return await self._answer(asked)
        except RequestError as error:
            who = principal.id if principal else ""
            await self._refuse(request, request.operation.value, who, error)
            gates = gates_of(request)
            if gates and principal is not None:
                await self._shield.run(
                    self._gates.tell_refused(gates, request, error)
                )
            raise

    def _as_now(self, request: _AnyRequest) -> _AnyRequest:
        """Take a request to the generation that issues now (I-17)."""
        endpoint = request.endpoint
        serving = self.rules.serving(endpoint)
        if serving is endpoint:
            return request
        return evolve(request, endpoint=serving)

    async def _hashed(self, request: EnrollmentRequest) -> EnrollmentRequest:
        """Put a slow hash in the place of a revocation challenge (I-19)."""
        content = request.content
        if content is None:
            raise Internal("a revocation challenge would be part of a digest")
        verifier = await self.revocation_challenges.verifier(
            request.revocation_challenge,
            request.endpoint.tenant_id,
            content,
        )
        return evolve(
            request,
            content=content + verifier.encode("ascii"),
            revocation_challenge="",
            revocation_verifier=verifier,
        )

    async def enroll_own(
        self, request: EnrollmentRequest, rules: Rules | None = None
    ) -> Issued | Pending:
        """
        Issue to the gateway itself: as :meth:`enroll`, but nobody to prove.

        Not part of the interface that protocols get.

        :param rules: those that a reload is about to put in place.
        """
        gateway = Principal("system", "gateway", request.endpoint.tenant_id)
        asked = ask(request, gateway, rules or self.rules, self.windows)
        return await self._answer(asked)

    async def _with_key(
        self,
        asked: Asked,
        generate: Callable[[], Awaitable[CertificateRequest]],
    ) -> Asked:
        """Let the key be made, once the profile allows the rest (I-15)."""
        rules = self.rules
        self._decide(asked)
        wanted = await generate()
        if not wanted.public_key.spki:
            raise Internal("there is still no key")
        request = evolve(asked.request, wanted=wanted, generate=None)
        return ask(request, asked.principal, rules, self.windows)

    async def _answer(self, asked: Asked) -> Issued | Pending:
        """
        Answer from what the store knows, or decide and issue.

        Goes round again only when another process moved the request.
        """
        request = asked.request
        patience = self._clock.seconds() + self.windows.in_flight
        pause, rounds = 0.02, 0
        while rounds < _ROUNDS:
            earlier = await self._earlier(asked)
            lapsed: StoredRequest | None = None
            if earlier is not None and has_lapsed(earlier, self.now()):
                earlier, lapsed = None, earlier
            answer = settled(asked, earlier, self.now())
            if answer is not None:
                if not settled_in_flight(answer):
                    if asked.gates and isinstance(answer, Issued):
                        await self.shielded(self._gates.told(asked, answer))
                    if asked.replaces and isinstance(answer, Issued):
                        await self._renewals.replace(
                            asked, asked.replaces, answer
                        )
                    return answer
                if self._clock.seconds() >= patience:
                    return answer
                await deferLater(self._clock, pause)
                pause = min(pause * 2, 0.25)
                continue
            rounds += 1
            refuse_replaced(asked)
            refuse_revoked(asked.former)
            await self._renewals.refuse_unconfirmed(asked)
            if lapsed is not None:
                refuse_ended(lapsed)
            decision = self._decide(asked, earlier)
            if not asked.proven:
                verify_proof(request.wanted)
            if isinstance(decision, Held):
                await self._hold(asked, decision)
                continue
            if not decision.public_key.spki:
                # Not before a person has approved it, if one has to (I-16).
                decision = await self._with_made_key(asked, decision)
            self._reached("before-intent")
            outcome: Issued | None = await self.shielded(
                self._issue(asked, decision)
            )
            if outcome is not None:
                return outcome
        raise Unavailable

    def _decide(
        self, asked: Asked, earlier: StoredRequest | None = None
    ) -> Approved | Held:
        """Let the profile decide; what is made anew cannot be held."""
        decision = asked.policy.decide(
            asked.request,
            asked.principal,
            self.now(),
            asked.authority.not_after,
            approved=is_approved(earlier),
        )
        if asked.request.anew and isinstance(decision, Held):
            # What a person approves is a key, and it would be gone by then.
            raise PolicyViolation(
                asked.policy.name,
                "approval",
                "a key that is made here cannot wait for an approval",
            )
        return decision

    async def _with_made_key(
        self, asked: Asked, decision: Approved
    ) -> Approved:
        """Let the key be made that the profile has approved (I-16)."""
        if asked.request.generate is None:
            raise Internal("there is no key, and nobody makes one")
        wanted = await asked.request.generate()
        return evolve(decision, public_key=wanted.public_key)

    async def _earlier(self, asked: Asked) -> StoredRequest | None:
        """
        Return the row that the request has, if it was here before.

        Where its key was made for it, it was not; then the row that it has
        to wait for (I-15).
        """
        if not asked.request.anew:
            return await self._store.find_request(
                asked.key, self.now(), asked.key.key.startswith(ONCE)
            )
        for row in await self._transactions(asked):
            if row.state is RequestState.OPEN:
                return row
        return None

    async def _transactions(self, asked: Asked) -> list[StoredRequest]:
        """Return the principal's rows of the transaction, newest first."""
        endpoint = asked.request.endpoint
        return list(
            await self._store.find_transactions(
                endpoint.tenant_id,
                endpoint.protocol,
                endpoint.name,
                asked.request.transaction,
                self.now(),
                principals=(asked.key.principal,),
            )
        )

    def shielded(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run what a client that leaves must not stop (I-7)."""
        if self._shield.closed:
            # The lease is being given up: nothing could be promised.
            work.close()
            raise Unavailable
        return self._shield.run(work)

    async def _issue(self, asked: Asked, approved: Approved) -> Issued | None:
        """
        Commit the intent, then sign; to be run behind the shield.

        :returns: ``None`` if another request with the same key was first.
        """
        for _ in range(_SERIAL_TRIES):
            intent = self._intent(asked, approved)
            try:
                opened = await self._store.open_intent(intent, self.now())
            except SerialTaken:
                continue
            except Conflict:
                if asked.request.anew:
                    return None  # one of its transaction is being signed
                raise
            if not isinstance(opened, Opened):
                return None
            issued = await self._sign(asked, intent)
            if asked.request.anew:
                await self._revoke_earlier(asked, issued)
            return await self._gates.told(asked, issued)
        raise Internal("no free serial number was found")

    async def _sign(self, asked: Asked, intent: Intent) -> Issued:
        """Sign an open intent once, and commit what came of it."""
        try:
            self._reached("after-intent")
            signing = asked.authority.sign(intent.tbs)
            if not signing.called:
                signing.addTimeout(self.windows.sign, self._clock)
            certificate = await signing
            self._reached("after-sign")
            await self._store.record_certificate(
                intent, certificate, self.now()
            )
        except Exception as error:
            await self._abandon(intent, type(error).__name__)
            if isinstance(error, Stale | defer.TimeoutError):
                raise Unavailable from error
            raise
        self._reached("after-commit")
        issued = Issued(
            certificate=certificate,
            chain=asked.authority.chain,
            serial=intent.serial,
            profile=asked.policy.name,
            principal=asked.principal.id,
            former=asked.former.serial if asked.former else "",
        )
        if asked.replaces is not None:
            await self._renewals.replace(asked, asked.replaces, issued)
        return issued

    async def _revoke_earlier(self, asked: Asked, issued: Issued) -> None:
        """
        Revoke what the transaction has brought before (I-15).

        What came after, in another process, has been answered already.
        """
        rows = iter(await self._transactions(asked))
        for row in rows:
            if row.serial == issued.serial:
                break
        for row in rows:
            if row.serial is not None and not row.revoked:
                await self._store.revoke_certificate(
                    row.key.tenant_id,
                    row.serial,
                    SUPERSEDED,
                    asked.principal.id,
                    self.now(),
                )

    # --- the gate -----------------------------------------------------------

    # --- what became of it --------------------------------------------------

    def poll(self, request: PollRequest) -> Deferred[Issued | Pending]:
        """Tell what became of a request; see the interface."""
        return Deferred.fromCoroutine(self._poll(request))

    async def _poll(self, request: PollRequest) -> Issued | Pending:
        """Find the request, take it up again, and answer as to itself."""
        who = ""
        try:
            request = self._as_now(request)
            asker = await self._polls.asker(request)
            row = await self._polls.find(request)
            who = row.key.principal
            return await self._answer(
                await self._polls.taken_up(request, row, self.rules, asker)
            )
        except RequestError as error:
            await self._refuse(request, "poll", who, error)
            raise

    # --- its steps ----------------------------------------------------------

    async def _hold(self, asked: Asked, held: Held) -> None:
        """Keep the request for a person; the next look finds it."""
        now = self.now()
        row = self._row(asked, held.approved, now + self.windows.held)
        await self._store.hold(row, now, self.windows.waiting)

    def _intent(self, asked: Asked, approved: Approved) -> Intent:
        """Build the bytes to sign, under a fresh serial."""
        serial = new_serial(self.random_bytes)
        within = asked.request.confirm_within
        return Intent(
            id=self._new_id(),
            request=self._row(asked, approved, self.now() + asked.key_life),
            owner=self._owner,
            authority=asked.authority.name,
            serial=serial,
            tbs=asked.authority.prepare(approved, serial),
            not_before=approved.not_before,
            not_after=approved.not_after,
            secret_id=asked.principal.secret_id,
            confirm_by=None if within is None else self.now() + within,
        )

    def _row(
        self, asked: Asked, approved: Approved, key_expires: datetime
    ) -> NewRequest:
        """Return what the store keeps of the request."""
        request = asked.request
        return NewRequest(
            id=self._new_id(),
            key=asked.key,
            fingerprint=asked.fingerprint,
            key_expires=key_expires,
            endpoint=request.endpoint.name,
            operation=request.operation.value,
            profile=approved.profile,
            profile_version=approved.profile_version,
            subject=name_text(approved.subject),
            names=approved.names,
            public_key_fingerprint=approved.public_key.fingerprint,
            # It is proven; from now on nobody needs the secret in it.
            csr=without_challenge(request.wanted),
            request_id=request.request_id,
            peer=request.peer,
            transaction=request.transaction,
            secret_id=asked.principal.secret_id,
            wish=wish(request.wanted.public_key),
            revocation_verifier=request.revocation_verifier,
        )

    def _new_id(self) -> str:
        """Return a fresh opaque identifier."""
        return self.random_bytes(16).hex()

    async def _abandon(self, intent: Intent, reason: str) -> None:
        """Retire an intent now or, if the store is away, by and by (I-2)."""
        try:
            await self._store.abandon_intent(intent, reason, self.now())
        except Exception:  # noqa: BLE001 (whatever it was, it stays open)
            self._unsettled[intent.id] = intent
            self._log.warn(
                "an intent will be retired later",
                event="intent.unsettled",
                tenant=intent.request.key.tenant_id,
                serial=intent.serial,
            )

    async def _refuse(
        self,
        request: EnrollmentRequest | PollRequest,
        operation: str,
        principal_id: str,
        error: RequestError,
    ) -> None:
        """Audit a refusal once, and leave its facts on the error (I-6)."""
        who = error.facts.setdefault("principal", principal_id)
        error.facts.setdefault("profile", request.endpoint.profile)
        error.recorded = True
        await self._refusals.record(
            request.endpoint,
            operation,
            error,
            request.request_id,
            request.peer,
            who,
        )

    # --- what else a protocol may ask ---------------------------------------

    def ca_certificates(self, endpoint: Endpoint) -> tuple[bytes, ...]:
        """Return the DER chain of the endpoint's authority, issuer first."""
        return self.rules.succession(endpoint.authority).certificates

    def succession(self, endpoint: Endpoint) -> Succession:
        """Return what the endpoint's authority is at this moment."""
        return self.rules.succession(endpoint.authority)

    def serving(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint with the generation that issues now."""
        return self.rules.serving(endpoint)

    def is_lenient(self, endpoint: Endpoint) -> bool:
        """Tell whether the endpoint's profile forgives small faults."""
        policy = self.rules.profiles.get(endpoint.profile)
        return policy is not None and bool(policy.lenient)

    def csr_attributes(self, endpoint: Endpoint) -> CSRWishes:
        """Return what the endpoint's profile wishes to see in a request."""
        return self.rules.profiles[endpoint.profile].wishes()

    def record_refusal(
        self,
        endpoint: Endpoint,
        operation: str,
        error: Exception,
        request_id: str,
        peer: str,
    ) -> Deferred[None]:
        """Audit a request that was refused before it got here."""
        known = getattr(error, "facts", {}).get("principal", "")
        return self._refusals.record(
            endpoint, operation, error, request_id, peer, known
        )

    def elsewhere(
        self, function: Callable[..., Any], *args: object
    ) -> Awaitable[Any]:
        """Run what takes long in a thread."""
        return self._elsewhere(function, *args)

    def identify(
        self,
        endpoint: Endpoint,
        certificate: bytes,
        chain: tuple[bytes, ...] | None = None,
    ) -> Deferred[Principal]:
        """Return for whom a certificate speaks."""
        return self._authenticator.identify(
            self.rules.serving(endpoint), certificate, self.now(), chain
        )

    def sign_message(
        self, endpoint: Endpoint, content: bytes
    ) -> Deferred[bytes]:
        """Return a message that the authority itself has signed."""
        rules = self.rules
        issuing = rules.succession(endpoint.authority).authority
        authority = rules.authorities[issuing]
        prepared = prepare_signed(
            content,
            certificate=authority.certificate,
            algorithm=authority.algorithm,
            attributes={},
            certificates=authority.chain,
        )
        signing = authority.sign_message(prepared.to_sign)
        return signing.addCallback(prepared.finish)

    def find(self, tenant_id: str, serial: str) -> Deferred[CertificateRecord]:
        """Return a certificate of the tenant."""
        return Deferred.fromCoroutine(
            find_certificate(self._store, tenant_id, serial)
        )

    def confirm(
        self, tenant_id: str, serial: str, former: str, actor: str
    ) -> Deferred[CertificateRecord]:
        """Hear that the client takes a certificate (I-14)."""
        return Deferred.fromCoroutine(
            self._renewals.confirm(
                tenant_id, serial, former, actor, self.rules
            )
        )

    def revoke(
        self, tenant_id: str, serial: str, reason: str, actor: str
    ) -> Deferred[CertificateRecord]:
        """Revoke a certificate, durably, with its audit record."""
        return self._store.revoke_certificate(
            tenant_id, serial, reason, actor, self.now()
        )

    def release(
        self, tenant_id: str, serial: str, actor: str
    ) -> Deferred[CertificateRecord]:
        """Take a certificate off hold."""
        return self._store.release_certificate(
            tenant_id, serial, actor, self.now()
        )

    def registrar(self, call: RegistrarCall) -> Deferred[IRegistrar]:
        """Let somebody in who hands out single-use secrets."""

        async def admit() -> IRegistrar:
            principal = await self._authenticator.authenticate_registrar(
                call, self.now()
            )
            return Registrar(
                principal,
                call,
                self._store,
                self.now,
                self.random_bytes,
                self.challenges,
            )

        return Deferred.fromCoroutine(admit())

    # --- the life of the process --------------------------------------------

    async def tend(self) -> None:
        """
        Do the rounds: renew the lease, retire orphans and unsettled intents.

        To be run at start, before anything listens (I-8), and then several
        times in the life of a lease.
        """
        now = self.now()
        await self._store.renew_lease(self._owner, now + self.windows.lease)
        for intent in list(self._unsettled.values()):
            await self._store.abandon_intent(intent, "unsettled", now)
            del self._unsettled[intent.id]
        retired = await self._store.retire_orphans(now)
        if retired:
            self._log.warn(
                "intents of a process that ended were retired",
                event="intent.retired",
                count=retired,
            )
        await self._renewals.withdraw_unconfirmed(now)
        if now >= self._purge_at:
            await self._store.purge_dialogues(now)
            self._purge_at = now + _PURGE
        await self._refusals.flush()

    async def drain(self) -> None:
        """
        Begin no issuance any more, wait for those under way, then give up
        the lease.
        """
        await self._shield.close()
        await self._refusals.flush()
        await self._store.release_lease(self._owner)


def _here(function: Callable[..., Any], *args: object) -> Awaitable[Any]:
    """Run a function here and now."""
    return defer.execute(function, *args)
