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
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from attrs import evolve, field, frozen
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from trstctl.ca.authority import new_serial
from trstctl.enquiries import Enquiries
from trstctl.errors import (
    ChallengeRejected,
    Conflict,
    Internal,
    Malformed,
    NotAuthenticated,
    NotAuthorized,
    PolicyViolation,
    RequestError,
    SerialTaken,
    Stale,
    Unavailable,
    UnknownCertificate,
)
from trstctl.interfaces import (
    IAuthenticator,
    IAuthority,
    IChallengeGate,
    IChallengeTokens,
    ICredentials,
    IDeviceSecrets,
    IDialogues,
    IEnquiries,
    IKeyMaker,
    IOutbound,
    IProfilePolicy,
    IRegistrar,
    IRegistrationAuthority,
    IRevocation,
    IStore,
)
from trstctl.key_maker import as_asked
from trstctl.minting import Registrar, principal_of
from trstctl.model import (
    SUPERSEDED,
    Approved,
    CertificateQuery,
    CertificateRecord,
    CertificateRequest,
    CertificateStatus,
    Challenge,
    ClientCertificate,
    CSRWishes,
    Endpoint,
    EnrollmentRequest,
    Held,
    Intent,
    Issued,
    NewRequest,
    Opened,
    Operation,
    Pending,
    PollRequest,
    Principal,
    PublicKey,
    RegistrarCall,
    RequestKey,
    RequestState,
    StoredRequest,
    Succession,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.crmf import certificate_request, read_cert_req_messages
from trstctl.pkix.csr import read_csr, verify_proof, without_challenge
from trstctl.pkix.der import sequence
from trstctl.pkix.names import name_text
from trstctl.pkix.signing import prepare_signed
from trstctl.policy.registration import check_linking
from trstctl.refusals import RefusalAudit
from trstctl.shield import Shield

#: Why a certificate is revoked that its gate could not hear of: nobody has
#: it, and nothing is known against its key.
WITHDRAWN = "cessationOfOperation"

#: What the key of a request begins with whose own key is made here: no row
#: of such a request answers another.
_ANEW = "anew:"

#: Unconfirmed certificates that one round revokes.
_OVERDUE = 100

#: How often expired dialogues are forgotten.
_PURGE = timedelta(minutes=10)

#: How often a taken serial is replaced before something must be wrong.
_SERIAL_TRIES = 3

#: How often a request that others move about is looked at again.
_ROUNDS = 5


@frozen
class Windows:
    """
    For how long things are remembered or waited for.

    :ivar retry: life of a derived idempotency key; a renewal with the same
        CSR after it is a new certificate.
    :ivar retention: life of a client's own idempotency key.
    :ivar held: life of a request that waits for a person.
    :ivar in_flight: seconds that a repeated request waits for the first.
    :ivar sign: seconds that a signature may take.
    :ivar lease: life of a silent owner's claim on its open intents.
    """

    retry: timedelta = timedelta(minutes=15)
    retention: timedelta = timedelta(days=7)
    held: timedelta = timedelta(days=7)
    in_flight: float = 10.0
    sign: float = 30.0
    lease: timedelta = timedelta(seconds=60)


_AnyRequest = TypeVar("_AnyRequest", EnrollmentRequest, PollRequest)

#: Endpoints whose present form is kept.
_SERVING = 256


@frozen
class Rules:
    """
    What a reload replaces, as one value: no request sees half of it.

    :ivar authorities: by name; each generation is one.
    :ivar profiles: by name.
    :ivar successions: of those authorities that have had several keys.
    """

    authorities: Mapping[str, IAuthority]
    profiles: Mapping[str, IProfilePolicy]
    successions: Mapping[str, Succession] = field(factory=dict)
    # By identity: endpoints are made once, with the resources.
    _serving: dict[int, tuple[Endpoint, Endpoint]] = field(
        factory=dict, init=False, repr=False, eq=False
    )

    def succession(self, authority: str) -> Succession:
        """Return what an authority is now."""
        found = self.successions.get(authority)
        if found is not None:
            return found
        return Succession(authority, tuple(self.authorities[authority].chain))

    def serving(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint as it is now; itself, if nothing changes."""
        if not self.successions:
            return endpoint
        known = self._serving.get(id(endpoint))
        if known is not None and known[0] is endpoint:
            return known[1]
        found = self._as_now(endpoint)
        if len(self._serving) >= _SERVING:
            self._serving.clear()
        self._serving[id(endpoint)] = endpoint, found
        return found

    def _as_now(self, endpoint: Endpoint) -> Endpoint:
        """Put the generations in the places of the authorities."""
        names = [
            name
            for authority in (endpoint.authority, *endpoint.issuers)
            for name in self._generations(authority)
        ]
        issuing, *others = dict.fromkeys(names)
        if (issuing, *others) == (endpoint.authority, *endpoint.issuers):
            return endpoint
        return evolve(endpoint, authority=issuing, issuers=tuple(others))

    def _generations(self, authority: str) -> tuple[str, ...]:
        """Return the generation that issues, and the others that count."""
        found = self.successions.get(authority)
        if found is None:
            return (authority,)
        return (found.authority, *found.accepted)


@frozen
class _Asked:
    """
    One request with everything that was found out before judging it.

    :ivar authorities: all of this moment, for what an earlier one issued.
    :ivar key_life: for how long its idempotency key is remembered.
    :ivar gates: what has admitted it, and is to hear what comes of it.
    :ivar former: the certificate that a renewal is to replace.
    :ivar proven: whether it comes from the store, which keeps no request
        that was not proven.
    """

    request: EnrollmentRequest
    principal: Principal
    policy: IProfilePolicy
    authority: IAuthority
    authorities: Mapping[str, IAuthority] = field(repr=False)
    key: RequestKey
    key_life: timedelta
    fingerprint: str = field(repr=False)
    gates: tuple[IChallengeGate, ...] = ()
    former: CertificateRecord | None = None
    proven: bool = False

    @property
    def replaces(self) -> CertificateRecord | None:
        """What the new certificate replaces at once (I-14)."""
        if self.request.confirm_within is not None:
            return None
        return self.former


def unmarked(point: str) -> None:
    """Pass a failure point; what a drill puts here kills the process."""


def fingerprint_of(
    request: EnrollmentRequest, content: bytes | None = None
) -> str:
    """
    Return what two requests must share to be the same request.

    SHA-256 over operation, endpoint and DER, so that a key that is reused
    for another operation or endpoint is a conflict, not an answer.

    :param content: takes the place of the DER.
    """
    digest = hashlib.sha256()
    endpoint = request.endpoint
    for part in (request.operation.value, endpoint.protocol, endpoint.name):
        digest.update(b"%d:%s" % (len(part), part.encode()))
    digest.update(request.wanted.der if content is None else content)
    return digest.hexdigest()


def read_kept(der: bytes) -> CertificateRequest:
    """
    Read a request that the store has kept: PKCS#10 or CRMF.

    What was forgiven when it came in is forgiven now, and what proof was
    accepted then, which was before it was kept, is accepted now.

    :raises Malformed: it is neither.
    """
    try:
        return read_csr(der, lenient=True)
    except Malformed:
        (message,) = read_cert_req_messages(sequence(der))
        wanted = certificate_request(message, lenient=True)
        proof = evolve(wanted.proof, accepted=wanted.proof.kind != "signature")
        return evolve(wanted, proof=proof)


def gates_of(request: EnrollmentRequest) -> tuple[IChallengeGate, ...]:
    """
    Return the gates that a request has to pass.

    If it renews by certificate, only those that judge renewals, too.
    """
    renewing = request.operation is Operation.RENEW and any(
        isinstance(each, ClientCertificate) for each in request.credentials
    )
    return tuple(
        each.gate
        for each in request.credentials
        if isinstance(each, Challenge) and (each.gate.renewals or not renewing)
    )


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
    outbound: IOutbound
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
        self._shield: Shield[Issued | None] = Shield()
        self._unsettled: dict[str, Intent] = {}
        self._elsewhere = elsewhere or _here
        self._purge_at = now()

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
                protocol=request.endpoint.protocol,
                profile=request.endpoint.profile,
                faults=" ".join(request.wanted.forgiven),
            )
        try:
            request = self._as_now(request)
            principal = await self._authenticator.authenticate(
                request, self.now()
            )
            check_linking(request, principal)
            asked = self._asked(request, principal, self.rules)
            if request.anew and request.generate is not None:
                asked = await self._with_key(asked, request.generate)
            return await self._answer(asked)
        except RequestError as error:
            who = principal.id if principal else ""
            await self._refuse(request, request.operation.value, who, error)
            gates = gates_of(request)
            if gates and principal is not None:
                await self._shield.run(
                    self._tell_refused(gates, request, error)
                )
            raise

    def _as_now(self, request: _AnyRequest) -> _AnyRequest:
        """Take a request to the generation that issues now (I-17)."""
        endpoint = request.endpoint
        serving = self.rules.serving(endpoint)
        if serving is endpoint:
            return request
        return evolve(request, endpoint=serving)

    async def enroll_own(
        self, request: EnrollmentRequest, rules: Rules | None = None
    ) -> Issued | Pending:
        """
        Issue to the gateway itself: as :meth:`enroll`, but nobody to prove.

        Not part of the interface that protocols get.

        :param rules: those that a reload is about to put in place.
        """
        gateway = Principal("system", "gateway", request.endpoint.tenant_id)
        asked = self._asked(request, gateway, rules or self.rules)
        return await self._answer(asked)

    async def _with_key(
        self,
        asked: _Asked,
        generate: Callable[[], Awaitable[CertificateRequest]],
    ) -> _Asked:
        """Let the key be made, once the profile allows the rest (I-15)."""
        rules = self.rules
        self._decide(asked)
        wanted = await generate()
        if not wanted.public_key.spki:
            raise Internal("there is still no key")
        request = evolve(asked.request, wanted=wanted, generate=None)
        return self._asked(request, asked.principal, rules)

    async def _answer(self, asked: _Asked) -> Issued | Pending:
        """
        Answer from what the store knows, or decide and issue.

        Goes round again only when another process moved the request.
        """
        request = asked.request
        patience = self._clock.seconds() + self.windows.in_flight
        pause, rounds = 0.02, 0
        while rounds < _ROUNDS:
            earlier = await self._earlier(asked)
            settled = self._settled(asked, earlier)
            if settled is not None:
                if not settled_in_flight(settled):
                    if asked.gates and isinstance(settled, Issued):
                        await self._shielded(self._told(asked, settled))
                    if asked.replaces and isinstance(settled, Issued):
                        await self._replace(asked, asked.replaces, settled)
                    return settled
                if self._clock.seconds() >= patience:
                    return settled
                await deferLater(self._clock, pause)
                pause = min(pause * 2, 0.25)
                continue
            rounds += 1
            _refuse_revoked(asked.former)
            await self._refuse_unconfirmed(asked)
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
            outcome = await self._shielded(self._issue(asked, decision))
            if outcome is not None:
                return outcome
        raise Unavailable

    def _decide(
        self, asked: _Asked, earlier: StoredRequest | None = None
    ) -> Approved | Held:
        """Let the profile decide; what is made anew cannot be held."""
        decision = asked.policy.decide(
            asked.request,
            asked.principal,
            self.now(),
            asked.authority.not_after,
            approved=_is_approved(earlier),
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
        self, asked: _Asked, decision: Approved
    ) -> Approved:
        """Let the key be made that the profile has approved (I-16)."""
        if asked.request.generate is None:
            raise Internal("there is no key, and nobody makes one")
        wanted = await asked.request.generate()
        return evolve(decision, public_key=wanted.public_key)

    async def _earlier(self, asked: _Asked) -> StoredRequest | None:
        """
        Return the row that the request has, if it was here before.

        Where its key was made for it, it was not; then the row that it has
        to wait for (I-15).
        """
        if not asked.request.anew:
            return await self._store.find_request(asked.key, self.now())
        for row in await self._transactions(asked):
            if row.state is RequestState.OPEN:
                return row
        return None

    async def _transactions(self, asked: _Asked) -> list[StoredRequest]:
        """Return the principal's rows of the transaction, newest first."""
        endpoint = asked.request.endpoint
        rows = await self._store.find_transactions(
            endpoint.tenant_id,
            endpoint.protocol,
            endpoint.name,
            asked.request.transaction,
            self.now(),
        )
        return [
            row for row in rows if row.key.principal == asked.key.principal
        ]

    async def _refuse_unconfirmed(self, asked: _Asked) -> None:
        """Let a client confirm one renewal before it asks for the next."""
        if asked.former is None or asked.replaces is not None:
            return
        for record in await self._store.list_certificates(
            CertificateQuery(
                asked.key.tenant_id, principal=asked.principal.id, limit=1
            )
        ):
            if record.confirm_by is not None:
                raise Stale("the last certificate has not been confirmed yet")

    def _shielded(
        self, work: Coroutine[Any, Any, Issued | None]
    ) -> Deferred[Issued | None]:
        """Run what a client that leaves must not stop (I-7)."""
        if self._shield.closed:
            # The lease is being given up: nothing could be promised.
            work.close()
            raise Unavailable
        return self._shield.run(work)

    async def _issue(self, asked: _Asked, approved: Approved) -> Issued | None:
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
            return await self._told(asked, issued)
        raise Internal("no free serial number was found")

    async def _sign(self, asked: _Asked, intent: Intent) -> Issued:
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
            await self._replace(asked, asked.replaces, issued)
        return issued

    async def _revoke_earlier(self, asked: _Asked, issued: Issued) -> None:
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

    async def _replace(
        self, asked: _Asked, former: CertificateRecord, issued: Issued
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
            former = await self.find(tenant_id, former.serial)
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
        own = await self.find(former.tenant_id, issued.serial)
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
                former.tenant_id, serial, by, actor, self.now()
            )
            if policy is not None and policy.revoke_on_reenroll:
                await self._store.revoke_certificate(
                    former.tenant_id, serial, SUPERSEDED, actor, self.now()
                )

    def confirm(
        self, tenant_id: str, serial: str, former: str, actor: str
    ) -> Deferred[CertificateRecord]:
        """Hear that the client takes a certificate (I-14)."""

        async def confirm() -> CertificateRecord:
            self._reached("before-confirm")
            record = await self._store.confirm_certificate(
                tenant_id, serial, actor, self.now()
            )
            replaced = await self._store.find_certificate(tenant_id, former)
            if replaced is not None:
                policy = self.rules.profiles.get(record.profile)
                await self._supersede(replaced, serial, policy, actor)
            self._reached("after-confirm")
            return record

        return Deferred.fromCoroutine(confirm())

    # --- the gate -----------------------------------------------------------

    async def _told(self, asked: _Asked, issued: Issued) -> Issued:
        """Let each gate hear of the certificate, or revoke it (I-12)."""
        for gate in asked.gates:
            try:
                await gate.issued(asked.request, asked.principal, issued)
            except Exception as error:
                await self._withdraw(asked, issued, error)
                raise Unavailable from error
        return issued

    async def _withdraw(
        self, asked: _Asked, issued: Issued, error: Exception
    ) -> None:
        """
        Revoke a certificate that may not be handed out.

        If that fails, too, the next try to hand it out comes here again.
        """
        tenant_id = asked.key.tenant_id
        self._log.error(
            "a gate could not be told of a certificate: {reason}",
            event="issuance.withdrawn",
            request_id=asked.request.request_id,
            tenant=tenant_id,
            principal=asked.principal.id,
            serial=issued.serial,
            reason=f"{type(error).__name__}: {error}",
        )
        await self._store.revoke_certificate(
            tenant_id, issued.serial, WITHDRAWN, "gateway", self.now()
        )

    async def _tell_refused(
        self,
        gates: tuple[IChallengeGate, ...],
        request: EnrollmentRequest,
        error: RequestError,
    ) -> None:
        """Let each gate hear that the request was refused after all."""
        for gate in gates:
            try:
                await gate.refused(request, error)
            except Exception:  # noqa: BLE001 (the refusal stays what it is)
                self._log.failure(
                    "a gate could not be told of a refusal",
                    event="gate.failed",
                    request_id=request.request_id,
                    tenant=request.endpoint.tenant_id,
                )

    # --- what became of it --------------------------------------------------

    def poll(self, request: PollRequest) -> Deferred[Issued | Pending]:
        """Tell what became of a request; see the interface."""
        return Deferred.fromCoroutine(self._poll(request))

    async def _poll(self, request: PollRequest) -> Issued | Pending:
        """Find the request, take it up again, and answer as to itself."""
        who = ""
        try:
            request = self._as_now(request)
            row = await self._polled(request)
            who = row.key.principal
            return await self._answer(await self._taken_up(request, row))
        except RequestError as error:
            await self._refuse(request, "poll", who, error)
            raise

    async def _polled(self, request: PollRequest) -> StoredRequest:
        """Return the newest request of the transaction and the signer."""
        endpoint = request.endpoint
        if not endpoint.may_wait:
            # Nobody was told to come back, and the gate wants to hear of the
            # request itself (I-12).
            raise UnknownCertificate("there is no such request")
        rows = await self._store.find_transactions(
            endpoint.tenant_id,
            endpoint.protocol,
            endpoint.name,
            request.transaction,
            self.now(),
        )
        # Whether it is ours is proven before anything is told.
        signers = set()
        for one in request.credentials:
            if isinstance(one, ClientCertificate):
                serial = read_certificate(one.der).serial
                digest = hashlib.sha256(one.der).hexdigest()
                signers.add(f"idevid:{digest}")
                signers.update(
                    f"{kind}:{authority}:{serial}"
                    for kind in ("certificate", "ra")
                    for authority in (endpoint.authority, *endpoint.issuers)
                )
        for row in rows:
            if row.key.key.startswith(_ANEW):
                continue  # its key was handed out, or is gone
            if (
                row.public_key_fingerprint == request.public_key_fingerprint
                or row.key.principal in signers
            ):
                return row
        raise UnknownCertificate("there is no such request")

    async def _taken_up(
        self, request: PollRequest, row: StoredRequest
    ) -> _Asked:
        """Return the request as it was, of whoever it was, if he still is."""
        wanted, generate = read_kept(row.csr), request.generate
        policy = self.rules.profiles.get(request.endpoint.profile)
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
        )
        principal = await self._principal_of(again, row)
        asked = self._asked(again, principal, self.rules)
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
        self, request: EnrollmentRequest, row: StoredRequest
    ) -> Principal:
        """
        Return who made a request, as the store knows him now.

        :raises RequestError: his credential was revoked since.
        """
        tenant_id = row.key.tenant_id
        kind, _, name = row.key.principal.partition(":")
        if kind == "certificate" or (
            kind in {"ra", "idevid"} and request.credentials
        ):
            return await self._certified(request, row.key.principal)
        if kind in {"basic", "bearer"} and request.credentials:
            principal = await self._authenticator.authenticate(
                request, self.now()
            )
            if principal.id != row.key.principal:
                raise NotAuthenticated
            return principal
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
        raise UnknownCertificate("there is no such request")

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
                raise UnknownCertificate
            own = (ClientCertificate(record.der),)
        # The gate has judged the request itself; a question it cannot.
        request = evolve(request, credentials=own)
        principal = await self._authenticator.authenticate(request, self.now())
        if principal.id != principal_id:
            raise NotAuthenticated
        return principal

    # --- its steps ----------------------------------------------------------

    def _asked(
        self, request: EnrollmentRequest, principal: Principal, rules: Rules
    ) -> _Asked:
        """Pin the rules of this moment, and derive key and fingerprint."""
        endpoint = request.endpoint
        renewing = request.operation is Operation.RENEW
        if renewing and principal.record is None:
            raise NotAuthorized(
                "a renewal needs the current certificate as TLS client "
                "certificate"
            )
        own, key_life = request.idempotency_key, self.windows.retention
        if request.anew:
            _refuse_repeatable(request)
            # The key is another each time, and so is all of the request.
            content = request.content or request.wanted.der
            fingerprint = fingerprint_of(
                request, content + request.wanted.public_key.spki
            )
            key_life = self.windows.retry
            key = f"{_ANEW}{fingerprint}"
        elif principal.secret_id is not None:
            # The secret is an idempotency key already.  A device that lost
            # the answer may sign its request anew, which changes the bytes
            # (an ECDSA signature is random), and name any key of its own:
            # it still asks for the one certificate that the secret buys.
            fingerprint = fingerprint_of(
                request, request.content or request.wanted.proof.signed
            )
            key = f"csr:{fingerprint}"
        else:
            fingerprint = fingerprint_of(request, request.content)
            if own is not None:
                key = f"key:{own}"
            else:
                key_life = self.windows.retry
                key = f"csr:{fingerprint}"
                if request.transaction:  # I-11
                    key = f"tid:{request.transaction}:{fingerprint}"
        policy = rules.profiles.get(endpoint.profile)
        authority = rules.authorities.get(endpoint.authority)
        if policy is None or authority is None:
            # A reload took them away while this request was on its way in.
            raise Unavailable
        return _Asked(
            request=request,
            principal=principal,
            policy=policy,
            authority=authority,
            authorities=rules.authorities,
            key=RequestKey(
                endpoint.tenant_id, endpoint.protocol, principal.id, key
            ),
            key_life=key_life,
            fingerprint=fingerprint,
            gates=gates_of(request),
            former=principal.record if renewing else None,
        )

    def _settled(
        self, asked: _Asked, stored: StoredRequest | None
    ) -> Issued | Pending | None:
        """Return the answer that the store already holds, if any (I-4)."""
        if stored is None:
            return None
        if asked.request.anew:
            return self._pending(asked, stored, in_flight=True)
        if stored.fingerprint != asked.fingerprint:
            raise Conflict
        if stored.csr != asked.request.wanted.der:
            # Signed anew; the key is the one that was judged before.
            verify_proof(asked.request.wanted)
        match stored.state:
            case RequestState.ISSUED:
                return self._replay(asked, stored)
            case RequestState.DENIED:
                raise NotAuthorized(
                    f"request {stored.id} was denied: "
                    f"{stored.reason or 'no reason given'}"
                )
            case RequestState.HELD:
                return self._pending(asked, stored)
            case RequestState.OPEN:
                return self._pending(asked, stored, in_flight=True)
        return None  # approved or abandoned: to be signed

    def _replay(self, asked: _Asked, stored: StoredRequest) -> Issued:
        """Answer with the certificate of the earlier request, if it lives."""
        if stored.certificate is None or stored.serial is None:
            raise Internal
        if stored.revoked:
            raise Stale("the certificate of this request has been revoked")
        if stored.not_after is None or stored.not_after <= self.now():
            raise Stale("the certificate of this request has expired")
        # I-17: who issued it may be the generation before.
        issuer = asked.authorities.get(stored.authority, asked.authority)
        return Issued(
            certificate=stored.certificate,
            chain=tuple(issuer.chain),
            serial=stored.serial,
            profile=stored.profile,
            principal=asked.principal.id,
            replayed=True,
            former=asked.former.serial if asked.former else "",
        )

    def _pending(
        self, asked: _Asked, stored: StoredRequest, *, in_flight: bool = False
    ) -> Pending:
        """Ask the client to come back."""
        return Pending(
            retry_after=2 if in_flight else asked.policy.retry_after,
            reference=stored.id,
            principal=asked.principal.id,
            profile=stored.profile,
            in_flight=in_flight,
        )

    async def _hold(self, asked: _Asked, held: Held) -> None:
        """Keep the request for a person; the next look finds it."""
        now = self.now()
        row = self._row(asked, held.approved, now + self.windows.held)
        await self._store.hold(row, now)

    def _intent(self, asked: _Asked, approved: Approved) -> Intent:
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
        self, asked: _Asked, approved: Approved, key_expires: datetime
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
            wish=_wish(request.wanted.public_key),
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

        async def find() -> CertificateRecord:
            record = await self._store.find_certificate(tenant_id, serial)
            if record is None:
                raise UnknownCertificate
            return record

        return Deferred.fromCoroutine(find())

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
        await self._withdraw_unconfirmed(now)
        if now >= self._purge_at:
            await self._store.purge_dialogues(now)
            self._purge_at = now + _PURGE
        await self._refusals.flush()

    async def _withdraw_unconfirmed(self, now: datetime) -> None:
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


def _is_approved(stored: StoredRequest | None) -> bool:
    """
    Tell whether a person has approved this very request.

    What came to nothing afterwards needs no second approval.
    """
    return stored is not None and (
        stored.state is RequestState.APPROVED
        or (stored.state is RequestState.ABANDONED and stored.decided_by != "")
    )


def _wish(key: PublicKey) -> str:
    """Return what stands for a key that is yet to be made."""
    return "" if key.spki else key.fingerprint


def _refuse_repeatable(request: EnrollmentRequest) -> None:
    """Let nobody rely on the same answer where the key is new (I-15)."""
    if request.idempotency_key is not None:
        raise Malformed(
            "a key that is made here is handed out once, so that a repeated "
            "request gets another; leave the idempotency key out"
        )
    if not request.transaction:
        raise Internal("a request for a new key is without a transaction")


def _refuse_revoked(former: CertificateRecord | None) -> None:
    """Let nothing new take the place of a revoked certificate."""
    if former is not None and former.status is CertificateStatus.REVOKED:
        raise NotAuthorized("the client certificate has been revoked")


def settled_in_flight(outcome: Issued | Pending) -> bool:
    """Tell whether the answer may still become a better one by waiting."""
    return isinstance(outcome, Pending) and outcome.in_flight
