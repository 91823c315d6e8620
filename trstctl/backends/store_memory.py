# SPDX-License-Identifier: MIT
"""
The store in memory: for tests, and for trying things out.

It keeps the whole contract but durability, and passes the same contract
suite as the others.  Every Deferred has fired when it is returned.  Each
write checks everything before it changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, execute, fail, succeed
from zope.interface import implementer

from trstctl.audit import GENESIS, link
from trstctl.backends.burns import Burn, Burns, burnt, decided, with_burns
from trstctl.backends.records import (
    COMPROMISED,
    MAX_TRANSACTIONS,
    NOT_ALONE,
    STORE_ACTOR,
    TRANSACTION_TAKEN,
    UNDER_WAY,
    abandoned_facts,
    advanced,
    confirmed,
    credential_facts,
    generation_facts,
    issued_facts,
    opened_facts,
    published_facts,
    released,
    released_facts,
    request_facts,
    require_vacated,
    revoked,
    revoked_facts,
    search_terms,
    secret_facts,
    superseded,
    superseded_facts,
    too_many_dialogues,
)
from trstctl.errors import (
    ChallengeRejected,
    Conflict,
    SerialTaken,
    Stale,
    Unavailable,
    UnknownCertificate,
    UnsupportedAlgorithm,
)
from trstctl.interfaces import IStore
from trstctl.model import (
    SYSTEM_TENANT,
    AuditEvent,
    AuditRecord,
    CertificateQuery,
    CertificateRecord,
    CertificateStatus,
    CredentialRecord,
    Dialogue,
    Generation,
    Intent,
    NewRequest,
    OneTimeSecret,
    Opened,
    Outstanding,
    Phase,
    RequestKey,
    RequestState,
    RevocationQuery,
    SecretState,
    SerialStatus,
    StoredCRL,
    StoredRequest,
)

#: How far the clock may run behind the tenant's last audit record.
CLOCK_TOLERANCE = timedelta(seconds=60)

_RETRIABLE = {RequestState.APPROVED, RequestState.ABANDONED}
_WAITING = {RequestState.HELD, RequestState.APPROVED}
_LASTING = {RequestState.OPEN, RequestState.APPROVED}


@frozen
class _Promise:
    """
    An intent, the request row that it belongs to, and what became of it.

    :ivar at: when it was made.
    :ivar status: what is true of its serial.
    :ivar changed_at: when that changed; grows with each in an authority.
    """

    intent: Intent
    number: int
    request_id: str
    at: datetime
    status: SerialStatus
    state: str = "open"
    changed_at: datetime | None = None


@implementer(IStore)
class MemoryStore:
    """The store in memory."""

    def __init__(self) -> None:
        self._requests: dict[str, StoredRequest] = {}
        self._keys: dict[RequestKey, str] = {}
        self._ever_held: set[str] = set()
        self._promises: dict[tuple[str, str], _Promise] = {}
        self._certificates: dict[tuple[str, str], CertificateRecord] = {}
        self._credentials: dict[tuple[str, str, str], CredentialRecord] = {}
        self._secrets: dict[tuple[str, str], OneTimeSecret] = {}
        self._burns: dict[tuple[str, str], Burns] = {}
        self._chains: dict[str, list[AuditRecord]] = {}
        self._latest: dict[str, datetime] = {}
        self._leases: dict[str, datetime] = {}
        self._changed: dict[str, datetime] = {}
        self._crls: dict[tuple[str, str], StoredCRL] = {}
        self._crl_numbers: dict[str, int] = {}
        self._dialogues: dict[tuple[str, ...], Dialogue] = {}
        self._generations: dict[str, Generation] = {}

    def _audit(self, event: AuditEvent) -> None:
        """Append to the tenant's chain."""
        tenant_id = event.tenant_id
        chain = self._chains.setdefault(tenant_id, [])
        previous = chain[-1].hash if chain else GENESIS
        chain.append(link(event, len(chain) + 1, previous))
        latest = self._latest.get(tenant_id, event.at)
        self._latest[tenant_id] = max(latest, event.at)

    # --- requests -----------------------------------------------------------

    def _holder(self, key: RequestKey, now: datetime) -> StoredRequest | None:
        """Return the request that holds the key."""
        found = self._requests.get(self._keys.get(key, ""))
        if found is None:
            return None
        if found.key_expires <= now and found.state is not RequestState.OPEN:
            return None
        return found

    def _same(
        self, request: NewRequest, now: datetime
    ) -> StoredRequest | None:
        """Return the holder of the key, unless it is another request."""
        found = self._holder(request.key, now)
        if found is not None and found.fingerprint != request.fingerprint:
            raise Conflict
        return found

    def _put(
        self, request: NewRequest, state: RequestState, now: datetime
    ) -> StoredRequest:
        """Write a new row and give it the key."""
        stored = StoredRequest(
            id=request.id,
            key=request.key,
            fingerprint=request.fingerprint,
            state=state,
            endpoint=request.endpoint,
            operation=request.operation,
            profile=request.profile,
            subject=request.subject,
            names=request.names,
            public_key_fingerprint=request.public_key_fingerprint,
            created_at=now,
            key_expires=request.key_expires,
            csr=request.csr,
            transaction=request.transaction,
            secret_id=request.secret_id,
            revocation_verifier=request.revocation_verifier,
        )
        self._requests[request.id] = stored
        self._keys[request.key] = request.id
        return stored

    def _again(
        self, found: StoredRequest, request: NewRequest, state: RequestState
    ) -> StoredRequest:
        """Take an earlier request up again."""
        stored = self._requests[found.id] = evolve(
            found,
            state=state,
            key_expires=max(found.key_expires, request.key_expires),
            profile=request.profile,
            subject=request.subject,
            names=request.names,
            public_key_fingerprint=request.public_key_fingerprint,
            csr=request.csr,
            transaction=request.transaction,
            secret_id=request.secret_id,
            revocation_verifier=request.revocation_verifier,
        )
        return stored

    def _check_transaction(self, request: NewRequest, now: datetime) -> None:
        """Refuse a second request in a transaction that is not finished."""
        for row in self._requests.values():
            if (
                request.transaction
                and row.transaction == request.transaction
                and evolve(row.key, key="") == evolve(request.key, key="")
                and row.endpoint == request.endpoint
                and row.fingerprint != request.fingerprint
                and (
                    row.state is RequestState.OPEN
                    or (row.state in _WAITING and now < row.key_expires)
                )
            ):
                raise Conflict(TRANSACTION_TAKEN)

    def find_transactions(
        self,
        tenant_id: str,
        protocol: str,
        endpoint: str,
        transaction: str,
        now: datetime,
        *,
        principals: Collection[str],
        fingerprint: str = "",
    ) -> Deferred[Sequence[StoredRequest]]:
        """Return the requests with a transactionID, newest first."""
        found = [
            row
            for row in self._requests.values()
            if transaction != ""
            and (row.key.tenant_id, row.key.protocol) == (tenant_id, protocol)
            and (row.endpoint, row.transaction) == (endpoint, transaction)
            and (
                row.key.principal in principals
                or row.public_key_fingerprint == (fingerprint or None)
            )
            and (now < row.key_expires or row.state in _LASTING)
        ]
        return succeed(found[: -MAX_TRANSACTIONS - 1 : -1])

    def find_request(
        self, key: RequestKey, now: datetime, lapsed: bool = False
    ) -> Deferred[StoredRequest | None]:
        """Return the request that holds the key, unless it has expired."""
        if lapsed:
            return succeed(self._requests.get(self._keys.get(key, "")))
        return succeed(self._holder(key, now))

    def hold(
        self, request: NewRequest, now: datetime
    ) -> Deferred[StoredRequest]:
        """Keep a request for a person to decide."""
        return execute(self._hold, request, now)

    def _hold(self, request: NewRequest, now: datetime) -> StoredRequest:
        """Keep a request, or find the one that is kept already."""
        found = self._same(request, now)
        if found is not None and found.state is not RequestState.ABANDONED:
            return found
        self._check_transaction(request, now)
        waiting = None if found else self._waiting(request, now)
        self._reserve(request, waiting, now)
        event = "request.held"
        if found is not None:
            stored = self._again(
                evolve(found, decided_by="", decided_at=None, reason=""),
                request,
                RequestState.HELD,
            )
        elif waiting is not None:
            stored = self._adopt(waiting, request)
            event = "request.adopted"
        else:
            stored = self._put(request, RequestState.HELD, now)
        self._ever_held.add(stored.id)
        self._audit(
            AuditEvent(
                request.key.tenant_id,
                now,
                event,
                request.key.principal,
                request_facts(request, stored.id),
            )
        )
        return stored

    def _reserve(
        self,
        request: NewRequest,
        waiting: StoredRequest | None,
        now: datetime,
    ) -> None:
        """Reserve the secret that pays for the request, if one does."""
        if request.secret_id is None:
            return
        until: datetime | None = request.key_expires
        adopted = ""
        if waiting is not None:
            adopted = waiting.fingerprint
            until = max(request.key_expires, waiting.key_expires)
            if waiting.state is RequestState.APPROVED:
                until = None
        self._burn(
            request.key.tenant_id,
            request.secret_id,
            Burn(
                request.burnt_for,
                request.fingerprint,
                held=True,
                until=until,
            ),
            now,
            adopted,
        )

    def _waiting(
        self, request: NewRequest, now: datetime
    ) -> StoredRequest | None:
        """Return the row that waits for the same certificate."""
        for row in self._requests.values():
            if row.state not in _WAITING or (
                row.state is RequestState.APPROVED and row.key_expires <= now
            ):
                continue
            if evolve(row.key, key="") == evolve(request.key, key="") and (
                row.endpoint,
                row.operation,
                row.profile,
                row.subject,
                row.names,
                row.public_key_fingerprint,
            ) == (
                request.endpoint,
                request.operation,
                request.profile,
                request.subject,
                request.names,
                request.public_key_fingerprint,
            ):
                return row
        return None

    def _adopt(self, row: StoredRequest, request: NewRequest) -> StoredRequest:
        """Put a waiting row under the key of its client's new request."""
        if self._keys.get(row.key) == row.id:
            del self._keys[row.key]
        self._keys[request.key] = row.id
        stored = self._requests[row.id] = evolve(
            row,
            key=request.key,
            fingerprint=request.fingerprint,
            csr=request.csr,
            key_expires=max(row.key_expires, request.key_expires),
            transaction=request.transaction,
            revocation_verifier=request.revocation_verifier,
        )
        return stored

    def list_requests(
        self, tenant_id: str, state: RequestState | None, limit: int
    ) -> Deferred[Sequence[StoredRequest]]:
        """Return requests, oldest first."""
        found = [
            row
            for row in self._requests.values()
            if row.key.tenant_id == tenant_id and state in {None, row.state}
        ]
        return succeed(found[:limit])

    def decide_request(
        self,
        tenant_id: str,
        request_id: str,
        approve: bool,
        actor: str,
        reason: str,
        now: datetime,
        key_expires: datetime,
    ) -> Deferred[StoredRequest]:
        """Approve or deny a held request."""

        def decide() -> StoredRequest:
            row = self._requests.get(request_id)
            if (
                row is None
                or row.key.tenant_id != tenant_id
                or request_id not in self._ever_held
            ):
                raise UnknownCertificate("no such request was ever held")
            if row.state is not RequestState.HELD:
                raise Stale(
                    f"the request is no longer held, but {row.state.value}"
                )
            decision = (
                RequestState.APPROVED if approve else RequestState.DENIED
            )
            stored = self._requests[request_id] = evolve(
                row,
                state=decision,
                decided_by=actor,
                decided_at=now,
                reason=reason,
                key_expires=key_expires,
            )
            place = (tenant_id, row.secret_id or "")
            if place in self._secrets:
                burns = decided(
                    self._burns.get(place, ()),
                    row.public_key_fingerprint,
                    row.fingerprint,
                    approve,
                )
                self._keep_burns(self._secrets[place], burns, now)
            self._audit(
                AuditEvent(
                    tenant_id,
                    now,
                    f"request.{decision.value}",
                    actor,
                    {
                        "request": request_id,
                        "principal": row.key.principal,
                        "reason": reason,
                    },
                )
            )
            return stored

        return execute(decide)

    # --- intents ------------------------------------------------------------

    def open_intent(
        self, intent: Intent, now: datetime
    ) -> Deferred[Opened | StoredRequest]:
        """Commit the intent to sign."""
        return execute(self._open, intent, now)

    def _open(self, intent: Intent, now: datetime) -> Opened | StoredRequest:
        """Write the intent, or return the row that answers instead."""
        request = intent.request
        tenant_id = request.key.tenant_id
        latest = self._latest.get(tenant_id, now)
        if now < latest - CLOCK_TOLERANCE:
            raise Unavailable("the clock of the service is wrong")
        found = self._same(request, now)
        if found is not None and found.state not in _RETRIABLE:
            return found
        for record in self._certificates.values():
            if (
                record.tenant_id == tenant_id
                and record.revocation_reason == "keyCompromise"
                and record.public_key_fingerprint
                == request.public_key_fingerprint
            ):
                raise UnsupportedAlgorithm(COMPROMISED)
        self._check_transaction(request, now)
        if (intent.authority, intent.serial) in self._promises:
            raise SerialTaken(intent.serial)
        if intent.secret_id is not None:
            self._burn(
                tenant_id,
                intent.secret_id,
                Burn(
                    request.burnt_for,
                    request.fingerprint,
                    intent.authority,
                    intent.serial,
                ),
                now,
            )
        if found is None:
            stored = self._put(request, RequestState.OPEN, now)
        else:
            stored = self._again(found, request, RequestState.OPEN)
        self._promises[intent.authority, intent.serial] = _Promise(
            intent,
            len(self._promises),
            stored.id,
            now,
            SerialStatus(intent.serial, intent.not_after),
        )
        self._audit(
            AuditEvent(
                tenant_id,
                now,
                "intent.opened",
                request.key.principal,
                opened_facts(intent, stored.id),
            )
        )
        return Opened(stored.id)

    def _burn(
        self,
        tenant_id: str,
        secret_id: str,
        wanted: Burn,
        now: datetime,
        adopted: str = "",
    ) -> None:
        """Take a use of the secret."""
        place = (tenant_id, secret_id)
        secret = self._secrets.get(place)
        if secret is None:
            raise ChallengeRejected
        burns = burnt(
            secret,
            self._burns.get(place, ()),
            wanted,
            max(now, self._latest.get(tenant_id, now)),
            self._is_buying,
            adopted,
        )
        self._keep_burns(secret, burns, now)

    def _is_buying(self, burn: Burn) -> bool:
        """Tell whether the intent of a use is open or issued."""
        promise = self._promises.get((burn.authority, burn.serial))
        return promise is not None and promise.state != "abandoned"

    def _keep_burns(
        self, secret: OneTimeSecret, burns: Burns, now: datetime
    ) -> None:
        """Write what was taken of a secret."""
        place = (secret.tenant_id, secret.id)
        self._burns[place] = burns
        self._secrets[place] = with_burns(secret, burns, now)

    def _promise(self, intent: Intent) -> _Promise | None:
        """Return the intent, if it is open."""
        found = self._promises.get((intent.authority, intent.serial))
        if found is None or found.state != "open":
            return None
        return found if found.intent.id == intent.id else None

    def _end(self, promise: _Promise, state: str) -> None:
        """Close an open intent."""
        intent = promise.intent
        self._promises[intent.authority, intent.serial] = evolve(
            promise, state=state
        )

    def record_certificate(
        self, intent: Intent, certificate: bytes, now: datetime
    ) -> Deferred[CertificateRecord]:
        """Commit the signed certificate."""
        return execute(self._record, intent, certificate, now)

    def _record(
        self, intent: Intent, certificate: bytes, now: datetime
    ) -> CertificateRecord:
        """End an open intent with its certificate."""
        promise = self._promise(intent)
        if promise is None:
            raise Stale("the issuance was given up before it was completed")
        request, key = intent.request, intent.request.key
        record = CertificateRecord(
            tenant_id=key.tenant_id,
            authority=intent.authority,
            serial=intent.serial,
            subject=request.subject,
            names=request.names,
            profile=request.profile,
            protocol=key.protocol,
            principal=key.principal,
            public_key_fingerprint=request.public_key_fingerprint,
            not_before=intent.not_before,
            not_after=intent.not_after,
            status=CertificateStatus.VALID,
            issued_at=now,
            der=certificate,
            confirm_by=intent.confirm_by,
            revocation_verifier=request.revocation_verifier,
        )
        self._end(promise, "issued")
        self._certificates[key.tenant_id, intent.serial] = record
        self._requests[promise.request_id] = evolve(
            self._requests[promise.request_id],
            state=RequestState.ISSUED,
            certificate=certificate,
            authority=intent.authority,
            serial=intent.serial,
            not_after=intent.not_after,
        )
        self._audit(
            AuditEvent(
                key.tenant_id,
                now,
                "certificate.issued",
                key.principal,
                issued_facts(intent, certificate, promise.request_id),
            )
        )
        return record

    def abandon_intent(
        self, intent: Intent, reason: str, now: datetime
    ) -> Deferred[None]:
        """Retire an open intent."""
        promise = self._promise(intent)
        if promise is not None:
            self._abandon(promise, reason, now)
        return succeed(None)

    def _abandon(self, promise: _Promise, reason: str, now: datetime) -> None:
        """Retire the intent and free its request."""
        intent = promise.intent
        self._end(promise, "abandoned")
        self._change(intent.authority, intent.serial, now, promise.at, "")
        self._requests[promise.request_id] = evolve(
            self._requests[promise.request_id], state=RequestState.ABANDONED
        )
        self._audit(
            AuditEvent(
                intent.request.key.tenant_id,
                now,
                "intent.abandoned",
                STORE_ACTOR,
                abandoned_facts(
                    promise.request_id,
                    intent.authority,
                    intent.serial,
                    intent.owner,
                    reason,
                ),
            )
        )

    def retire_orphans(self, now: datetime) -> Deferred[int]:
        """Retire each open intent whose owner has no lease (any more)."""
        orphans = [
            promise
            for promise in self._promises.values()
            if promise.state == "open"
            and self._leases.get(promise.intent.owner, now) <= now
        ]
        for promise in orphans:
            self._abandon(promise, "its owner is gone", now)
        return succeed(len(orphans))

    def renew_lease(self, owner: str, until: datetime) -> Deferred[None]:
        """Declare that the owner lives until then."""
        self._leases[owner] = until
        return succeed(None)

    def release_lease(self, owner: str) -> Deferred[None]:
        """Declare that the owner has ended."""
        self._leases.pop(owner, None)
        return succeed(None)

    # --- inventory ----------------------------------------------------------

    def find_certificate(
        self, tenant_id: str, serial: str
    ) -> Deferred[CertificateRecord | None]:
        """Return one certificate, with its DER."""
        return succeed(self._certificates.get((tenant_id, serial)))

    def list_certificates(
        self, query: CertificateQuery
    ) -> Deferred[Sequence[CertificateRecord]]:
        """Return certificates without DER."""
        return execute(self._list, query)

    def _list(self, query: CertificateQuery) -> Sequence[CertificateRecord]:
        """Return a page of a listing."""
        order = self._order(query.expiring_before is not None)
        found = sorted(
            (
                record
                for record in self._certificates.values()
                if _matches(record, query)
            ),
            key=order,
        )
        if query.after is not None:
            last = self._certificates.get((query.tenant_id, query.after))
            if last is None:
                raise UnknownCertificate
            found = [row for row in found if order(row) > order(last)]
        return [
            evolve(row, der=b"", revocation_verifier="")
            for row in found[: query.limit]
        ]

    def _order(
        self, by_expiry: bool
    ) -> Callable[[CertificateRecord], tuple[float, int]]:
        """Return the sort key of a listing."""

        def order(record: CertificateRecord) -> tuple[float, int]:
            number = self._promises[record.authority, record.serial].number
            if by_expiry:
                return record.not_after.timestamp(), number
            return -record.issued_at.timestamp(), -number

        return order

    def revoke_certificate(
        self,
        tenant_id: str,
        serial: str,
        reason: str,
        actor: str,
        now: datetime,
    ) -> Deferred[CertificateRecord]:
        """Revoke."""
        return execute(self._revoke, tenant_id, serial, reason, actor, now)

    def _revoke(
        self,
        tenant_id: str,
        serial: str,
        reason: str,
        actor: str,
        now: datetime,
    ) -> CertificateRecord:
        """Revoke, unless that has been done."""
        record = self._certificates.get((tenant_id, serial))
        if record is None:
            raise UnknownCertificate
        changed = revoked(record, reason, now)
        if changed is not record:
            self._replace(changed, now)
            facts = revoked_facts(changed)
            self._audit(
                AuditEvent(tenant_id, now, "certificate.revoked", actor, facts)
            )
        return changed

    def release_certificate(
        self, tenant_id: str, serial: str, actor: str, now: datetime
    ) -> Deferred[CertificateRecord]:
        """Take a certificate off hold."""

        def release() -> CertificateRecord:
            record = self._certificates.get((tenant_id, serial))
            if record is None:
                raise UnknownCertificate
            changed = released(record)
            if changed is not record:
                self._replace(changed, now)
                event = "certificate.released"
                facts = released_facts(changed)
                self._audit(AuditEvent(tenant_id, now, event, actor, facts))
            return changed

        return execute(release)

    def supersede_certificate(
        self, tenant_id: str, serial: str, by: str, actor: str, now: datetime
    ) -> Deferred[CertificateRecord]:
        """Record that another certificate has taken its place."""

        def supersede() -> CertificateRecord:
            record = self._certificates.get((tenant_id, serial))
            if record is None or (tenant_id, by) not in self._certificates:
                raise UnknownCertificate
            changed = superseded(record, by)
            if changed is not record:
                self._certificates[tenant_id, serial] = changed
                event = "certificate.superseded"
                facts = superseded_facts(changed)
                self._audit(AuditEvent(tenant_id, now, event, actor, facts))
            return changed

        return execute(supersede)

    def _replace(self, record: CertificateRecord, now: datetime) -> None:
        """Write a certificate that was revoked or released."""
        self._certificates[record.tenant_id, record.serial] = record
        promise = self._change(
            record.authority,
            record.serial,
            now,
            record.revoked_at,
            record.revocation_reason,
        )
        self._requests[promise.request_id] = evolve(
            self._requests[promise.request_id],
            revoked=record.status is CertificateStatus.REVOKED,
        )

    def confirm_certificate(
        self, tenant_id: str, serial: str, actor: str, now: datetime
    ) -> Deferred[CertificateRecord]:
        """Record that the client takes the certificate."""

        def confirm() -> CertificateRecord:
            record = self._certificates.get((tenant_id, serial))
            if record is None:
                raise UnknownCertificate
            changed = confirmed(record)
            if changed is not record:
                self._certificates[tenant_id, serial] = changed
                event = "certificate.confirmed"
                facts = released_facts(changed)
                self._audit(AuditEvent(tenant_id, now, event, actor, facts))
            return changed

        return execute(confirm)

    def list_unconfirmed(
        self, before: datetime, limit: int
    ) -> Deferred[Sequence[CertificateRecord]]:
        """Return what should have been confirmed, of all tenants."""
        found = [
            (
                record.confirm_by,
                evolve(record, der=b"", revocation_verifier=""),
            )
            for record in self._certificates.values()
            if record.confirm_by is not None and record.confirm_by <= before
        ]
        found.sort(key=itemgetter(0))
        return succeed([record for _, record in found[:limit]])

    # --- transactions of several messages -----------------------------------

    def find_dialogue(
        self,
        tenant_id: str,
        protocol: str,
        endpoint: str,
        transaction: str,
        now: datetime,
    ) -> Deferred[Dialogue | None]:
        """Return a dialogue that has not expired."""
        found = self._dialogues.get(
            (tenant_id, protocol, endpoint, transaction)
        )
        if found is not None and found.expires_at <= now:
            found = None
        return succeed(found)

    def open_dialogue(
        self, dialogue: Dialogue, now: datetime, limit: int | None = None
    ) -> Deferred[None]:
        """Keep a new dialogue."""
        found = self._dialogues.get(_place(dialogue))
        charged = (
            dialogue.tenant_id,
            dialogue.protocol,
            dialogue.charged_to,
        )
        if limit is not None and self._charged(*charged) >= limit:
            return fail(too_many_dialogues())
        if found is not None and found.expires_at > now:
            return fail(Conflict("this transaction has been begun before"))
        self._dialogues[_place(dialogue)] = dialogue
        return succeed(None)

    def count_dialogues(
        self, tenant_id: str, protocol: str, charged_to: str
    ) -> Deferred[int]:
        """Return how many dialogues are charged to somebody."""
        return succeed(self._charged(tenant_id, protocol, charged_to))

    def _charged(self, *charged: str) -> int:
        """Count what is charged to a tenant's party of a protocol."""
        return sum(
            (one.tenant_id, one.protocol, one.charged_to) == charged
            for one in self._dialogues.values()
        )

    def advance_dialogue(self, dialogue: Dialogue) -> Deferred[None]:
        """Put a dialogue in place of the one with the same version."""
        found = self._dialogues.get(_place(dialogue))
        if found is None or found.version != dialogue.version:
            return fail(Stale("this transaction has gone on since"))
        self._dialogues[_place(dialogue)] = evolve(
            dialogue,
            version=dialogue.version + 1,
            charged_to=found.charged_to,
        )
        return succeed(None)

    def purge_dialogues(self, now: datetime) -> Deferred[None]:
        """Forget what has expired, of all tenants."""
        self._dialogues = {
            place: dialogue
            for place, dialogue in self._dialogues.items()
            if dialogue.expires_at > now
        }
        return succeed(None)

    def count_certificates(
        self, tenant_id: str, now: datetime
    ) -> Deferred[Mapping[str, int]]:
        """Return counts."""
        rows = [
            row
            for row in self._certificates.values()
            if row.tenant_id == tenant_id
        ]
        left = [
            row.not_after - now
            for row in rows
            if row.status is CertificateStatus.VALID
        ]
        none = timedelta()
        return succeed(
            {
                "valid": sum(none < rest for rest in left),
                "revoked": sum(
                    row.status is CertificateStatus.REVOKED for row in rows
                ),
                "expired": sum(rest <= none for rest in left),
                "expiring_7d": sum(
                    none < rest <= timedelta(days=7) for rest in left
                ),
                "expiring_30d": sum(
                    none < rest <= timedelta(days=30) for rest in left
                ),
                "held_requests": sum(
                    row.key.tenant_id == tenant_id
                    and row.state is RequestState.HELD
                    for row in self._requests.values()
                ),
            }
        )

    # --- an authority's revocations, in all tenants -------------------------

    def _change(
        self,
        authority: str,
        serial: str,
        now: datetime,
        revoked_at: datetime | None,
        reason: str,
    ) -> _Promise:
        """Change what is true of a serial, later than all changes before."""
        at = now
        if (last := self._changed.get(authority)) is not None:
            at = max(now, last + timedelta(microseconds=1))
        promise = self._promises[authority, serial]
        former = promise.status
        promise = evolve(
            promise,
            status=SerialStatus(
                serial,
                former.not_after,
                revoked_at,
                reason,
                former.released_at if revoked_at is not None else now,
            ),
            changed_at=at,
        )
        self._changed[authority] = at
        self._promises[authority, serial] = promise
        return promise

    def find_status(
        self, authority: str, serial: str
    ) -> Deferred[SerialStatus | None]:
        """Return the status of a serial."""
        promise = self._promises.get((authority, serial))
        return succeed(None if promise is None else promise.status)

    def list_revoked(
        self, query: RevocationQuery
    ) -> Deferred[Sequence[SerialStatus]]:
        """Return revoked serials, the least first."""
        since = query.changed_since
        found = [
            promise.status
            for (authority, serial), promise in sorted(self._promises.items())
            if authority == query.authority
            and query.first <= serial < query.end
            and promise.status.not_after > query.not_after
            and promise.changed_at is not None
            and (
                promise.status.revoked_at is not None
                if since is None
                else promise.changed_at >= since
            )
        ]
        return succeed(found[: query.limit])

    def last_revocation(self, authority: str) -> Deferred[datetime | None]:
        """Return when a serial was last revoked, abandoned or released."""
        return succeed(self._changed.get(authority))

    def next_crl_number(self, authority: str) -> Deferred[int]:
        """Return a CRLNumber that nobody got before."""
        number = self._crl_numbers.get(authority, 0) + 1
        self._crl_numbers[authority] = number
        return succeed(number)

    def save_crl(self, crl: StoredCRL, actor: str) -> Deferred[None]:
        """Keep a CRL in place of its scope's last one."""

        def save() -> None:
            place = (crl.authority, crl.scope)
            former = self._crls.get(place)
            if former is not None and former.number >= crl.number:
                raise Stale("a newer CRL has been published")
            self._crls[place] = crl
            self._crl_numbers[crl.authority] = max(
                crl.number, self._crl_numbers.get(crl.authority, 0)
            )
            self._audit(
                AuditEvent(
                    SYSTEM_TENANT,
                    crl.this_update,
                    "crl.published",
                    actor,
                    published_facts(crl),
                )
            )

        return execute(save)

    def find_crl(
        self, authority: str, scope: str, unless: int
    ) -> Deferred[StoredCRL | None]:
        """Return the CRL of a scope, unless its number is known."""
        crl = self._crls.get((authority, scope))
        return succeed(None if crl is None or crl.number == unless else crl)

    def crl_scopes(self, authority: str) -> Deferred[Sequence[str]]:
        """Return every scope that was ever published."""
        return succeed(
            sorted(scope for name, scope in self._crls if name == authority)
        )

    # --- generations of an authority ----------------------------------------

    def list_generations(self) -> Deferred[Sequence[Generation]]:
        """Return the generations of all authorities."""
        return succeed(
            sorted(
                self._generations.values(),
                key=lambda one: (one.authority, one.number),
            )
        )

    def add_generation(
        self, generation: Generation, actor: str
    ) -> Deferred[None]:
        """Add a generation that is prepared."""

        def add() -> None:
            if any(
                one.name == generation.name
                or (
                    one.authority == generation.authority
                    and (
                        one.number == generation.number
                        or one.phase in UNDER_WAY
                    )
                )
                for one in self._generations.values()
            ):
                raise Conflict(NOT_ALONE)
            self._generations[generation.name] = generation
            self._audit(
                AuditEvent(
                    SYSTEM_TENANT,
                    generation.prepared_at,
                    "generation.prepared",
                    actor,
                    generation_facts(generation),
                )
            )

        return execute(add)

    def advance_generation(
        self,
        name: str,
        expected: Phase,
        phase: Phase,
        actor: str,
        now: datetime,
        vacated: str = "",
    ) -> Deferred[Generation]:
        """Take a generation to another phase."""

        def advance() -> Generation:
            changed, event = advanced(
                self._generations.get(name), expected, phase, now
            )
            if vacated:
                require_vacated(vacated, self._outstanding(vacated, now))
            self._generations[name] = changed
            self._audit(
                AuditEvent(
                    SYSTEM_TENANT,
                    now,
                    event,
                    actor,
                    generation_facts(changed),
                )
            )
            return changed

        return execute(advance)

    def outstanding(
        self, authority: str, now: datetime
    ) -> Deferred[Outstanding]:
        """Return what a generation has issued that has not expired."""
        return succeed(self._outstanding(authority, now))

    def _outstanding(self, authority: str, now: datetime) -> Outstanding:
        """Count certificates, and what is being signed."""
        found = [
            (one.not_after, one.status is CertificateStatus.VALID)
            for one in self._certificates.values()
            if one.authority == authority
            and one.tenant_id != SYSTEM_TENANT
            and one.not_after > now
        ]
        found += [
            (one.intent.not_after, True)
            for (name, _), one in self._promises.items()
            if name == authority
            and one.state == "open"
            and one.intent.request.key.tenant_id != SYSTEM_TENANT
            and one.intent.not_after > now
        ]
        return Outstanding(
            sum(valid for _, valid in found),
            max((end for end, _ in found), default=None),
        )

    # --- credentials --------------------------------------------------------

    def find_credential(
        self, tenant_id: str, kind: str, name: str
    ) -> Deferred[CredentialRecord | None]:
        """Return one standing credential, also a revoked one."""
        return succeed(self._credentials.get((tenant_id, kind, name)))

    def add_credential(
        self, record: CredentialRecord, actor: str
    ) -> Deferred[None]:
        """Add, or replace a revoked one."""

        def add() -> None:
            place = (record.tenant_id, record.kind, record.name)
            former = self._credentials.get(place)
            if former is not None and former.revoked_at is None:
                raise Conflict("a credential of this kind and name exists")
            self._credentials[place] = record
            self._audit(
                AuditEvent(
                    record.tenant_id,
                    record.created_at,
                    "credential.added",
                    actor,
                    credential_facts(record),
                )
            )

        return execute(add)

    def list_credentials(
        self, tenant_id: str
    ) -> Deferred[Sequence[CredentialRecord]]:
        """Return all standing credentials, by kind and name."""
        return succeed(
            [
                record
                for place, record in sorted(self._credentials.items())
                if place[0] == tenant_id
            ]
        )

    def revoke_credential(
        self, tenant_id: str, kind: str, name: str, actor: str, now: datetime
    ) -> Deferred[None]:
        """Revoke."""

        def revoke() -> None:
            record = self._credentials.get((tenant_id, kind, name))
            if record is None:
                raise UnknownCertificate("no such credential")
            if record.revoked_at is not None:
                return
            self._credentials[tenant_id, kind, name] = evolve(
                record, revoked_at=now
            )
            self._audit(
                AuditEvent(
                    tenant_id,
                    now,
                    "credential.revoked",
                    actor,
                    {"kind": kind, "name": name},
                )
            )

        return execute(revoke)

    def find_secret(
        self, tenant_id: str, digest: str
    ) -> Deferred[OneTimeSecret | None]:
        """Return the single-use secret with this SHA-256."""
        for secret in self._secrets.values():
            if (secret.tenant_id, secret.digest) == (tenant_id, digest):
                return succeed(secret)
        return succeed(None)

    def find_secret_by_id(
        self, tenant_id: str, secret_id: str
    ) -> Deferred[OneTimeSecret | None]:
        """Return the single-use secret with this public id."""
        return succeed(self._secrets.get((tenant_id, secret_id)))

    def add_secrets(
        self, secrets: Sequence[OneTimeSecret], actor: str
    ) -> Deferred[None]:
        """Add all or none."""

        def add() -> None:
            ids = set(self._secrets)
            digests = {(s.tenant_id, s.digest) for s in self._secrets.values()}
            for secret in secrets:
                place = (secret.tenant_id, secret.id)
                mark = (secret.tenant_id, secret.digest)
                if place in ids or mark in digests:
                    raise Conflict("a secret with this id or value exists")
                ids.add(place)
                digests.add(mark)
            for secret in secrets:
                self._secrets[secret.tenant_id, secret.id] = secret
                self._audit(
                    AuditEvent(
                        secret.tenant_id,
                        secret.created_at,
                        "secret.added",
                        actor,
                        secret_facts(secret),
                    )
                )

        return execute(add)

    def list_secrets(
        self,
        tenant_id: str,
        state: SecretState | None,
        now: datetime,
        after: str,
        limit: int,
    ) -> Deferred[Sequence[OneTimeSecret]]:
        """Return single-use secrets by id."""
        found = [
            secret
            for place, secret in sorted(self._secrets.items())
            if place[0] == tenant_id
            and secret.id > after
            and state in {None, secret.state(now)}
        ]
        return succeed(found[:limit])

    def revoke_secret(
        self, tenant_id: str, secret_id: str, actor: str, now: datetime
    ) -> Deferred[OneTimeSecret]:
        """Revoke."""

        def revoke() -> OneTimeSecret:
            secret = self._secrets.get((tenant_id, secret_id))
            if secret is None:
                raise UnknownCertificate("no such single-use secret")
            if secret.revoked_at is not None:
                return secret
            revoked = evolve(secret, revoked_at=now)
            self._secrets[tenant_id, secret_id] = revoked
            facts = {"secret": secret_id}
            self._audit(
                AuditEvent(tenant_id, now, "secret.revoked", actor, facts)
            )
            return revoked

        return execute(revoke)

    # --- audit and life -----------------------------------------------------

    def append_audit(self, events: Sequence[AuditEvent]) -> Deferred[None]:
        """Append to the tenants' chains."""
        for event in events:
            self._audit(event)
        return succeed(None)

    def audit_records(
        self, tenant_id: str, after: int, limit: int
    ) -> Deferred[Sequence[AuditRecord]]:
        """Return records with a greater sequence than ``after``."""
        chain = self._chains.get(tenant_id, [])
        return succeed(chain[after : after + limit])

    def audit_tenants(self) -> Deferred[Sequence[str]]:
        """Return every tenant that has a chain."""
        return succeed(sorted(self._chains))

    def check(self) -> Deferred[None]:
        """Memory can always be written."""
        return succeed(None)

    def close(self) -> Deferred[None]:
        """Nothing is left to be done."""
        return succeed(None)


def _place(dialogue: Dialogue) -> tuple[str, ...]:
    """Return what there is one dialogue of."""
    return (
        dialogue.tenant_id,
        dialogue.protocol,
        dialogue.endpoint,
        dialogue.transaction,
    )


def _matches(record: CertificateRecord, query: CertificateQuery) -> bool:
    """Tell whether the certificate meets every condition of the query."""
    if query.expiring_before is not None and (
        record.status is not CertificateStatus.VALID
        or record.not_after >= query.expiring_before
        or (
            query.expiring_after is not None
            and record.not_after < query.expiring_after
        )
    ):
        return False
    if query.name is not None and query.name not in search_terms(
        record.subject, record.names
    ):
        return False
    return record.tenant_id == query.tenant_id and all(
        wanted is None or wanted == actual
        for wanted, actual in (
            (query.status, record.status),
            (query.profile, record.profile),
            (query.protocol, record.protocol),
            (query.principal, record.principal),
            (query.public_key_fingerprint, record.public_key_fingerprint),
        )
    )
