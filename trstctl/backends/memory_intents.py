# SPDX-License-Identifier: MIT
"""
The memory store's issuance: an intent, and how it ends.

See :mod:`trstctl.backends.memory_tables` for how the functions work.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from attrs import evolve

from trstctl.backends.burns import Burn
from trstctl.backends.memory_burns import burn
from trstctl.backends.memory_requests import (
    check_transaction,
    holder_of_key,
    put_again,
    put_request,
)
from trstctl.backends.memory_revocation import change_status
from trstctl.backends.memory_tables import Promise, Tables
from trstctl.backends.records import (
    COMPROMISED,
    STORE_ACTOR,
    abandoned_facts,
    issued_facts,
    issued_record,
    opened_facts,
)
from trstctl.errors import (
    SerialTaken,
    Stale,
    Unavailable,
    UnsupportedAlgorithm,
)
from trstctl.model import (
    CertificateRecord,
    Intent,
    Opened,
    RequestState,
    SerialStatus,
    StoredRequest,
)

#: How far the clock may run behind the tenant's last audit record.
CLOCK_TOLERANCE = timedelta(seconds=60)

_RETRIABLE = {RequestState.APPROVED, RequestState.ABANDONED}


def open_intent(
    tables: Tables, intent: Intent, now: datetime
) -> Opened | StoredRequest:
    """Write the intent, or return the row that answers instead."""
    request = intent.request
    tenant_id = request.key.tenant_id
    latest = tables.latest.get(tenant_id, now)
    if now < latest - CLOCK_TOLERANCE:
        raise Unavailable("the clock of the service is wrong")
    found = holder_of_key(tables, request, now)
    if found is not None and found.state not in _RETRIABLE:
        return found
    for record in tables.certificates.values():
        if (
            record.tenant_id == tenant_id
            and record.revocation_reason == "keyCompromise"
            and record.public_key_fingerprint == request.public_key_fingerprint
        ):
            raise UnsupportedAlgorithm(COMPROMISED)
    check_transaction(tables, request, now)
    if (intent.authority, intent.serial) in tables.promises:
        raise SerialTaken(intent.serial)
    if intent.secret_id is not None:
        burn(
            tables,
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
        stored = put_request(tables, request, RequestState.OPEN, now)
    else:
        stored = put_again(tables, found, request, RequestState.OPEN)
    tables.promises[intent.authority, intent.serial] = Promise(
        intent,
        len(tables.promises),
        stored.id,
        now,
        SerialStatus(intent.serial, intent.not_after),
    )
    tables.audit(
        tenant_id,
        now,
        "intent.opened",
        request.key.principal,
        opened_facts(intent, stored.id),
    )
    return Opened(stored.id)


def record_certificate(
    tables: Tables, intent: Intent, certificate: bytes, now: datetime
) -> CertificateRecord:
    """End an open intent with its certificate."""
    promise = _promise(tables, intent)
    if promise is None:
        raise Stale("the issuance was given up before it was completed")
    key = intent.request.key
    record = issued_record(intent, certificate, now)
    _end(tables, promise, "issued")
    tables.certificates[key.tenant_id, intent.serial] = record
    tables.requests[promise.request_id] = evolve(
        tables.requests[promise.request_id],
        state=RequestState.ISSUED,
        certificate=certificate,
        authority=intent.authority,
        serial=intent.serial,
        not_after=intent.not_after,
    )
    tables.audit(
        key.tenant_id,
        now,
        "certificate.issued",
        key.principal,
        issued_facts(intent, certificate, promise.request_id),
    )
    return record


def abandon_intent(
    tables: Tables, intent: Intent, reason: str, now: datetime
) -> None:
    """Retire an open intent."""
    promise = _promise(tables, intent)
    if promise is not None:
        _abandon(tables, promise, reason, now)


def _abandon(
    tables: Tables, promise: Promise, reason: str, now: datetime
) -> None:
    """Retire the intent and free its request."""
    intent = promise.intent
    _end(tables, promise, "abandoned")
    change_status(tables, intent.authority, intent.serial, now, promise.at, "")
    tables.requests[promise.request_id] = evolve(
        tables.requests[promise.request_id], state=RequestState.ABANDONED
    )
    tables.audit(
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


def _promise(tables: Tables, intent: Intent) -> Promise | None:
    """Return the intent, if it is open."""
    found = tables.promises.get((intent.authority, intent.serial))
    if found is None or found.state != "open":
        return None
    return found if found.intent.id == intent.id else None


def _end(tables: Tables, promise: Promise, state: str) -> None:
    """Close an open intent."""
    intent = promise.intent
    tables.promises[intent.authority, intent.serial] = evolve(
        promise, state=state
    )


def retire_orphans(tables: Tables, now: datetime) -> int:
    """Retire each open intent whose owner has no lease (any more)."""
    orphans = [
        promise
        for promise in tables.promises.values()
        if promise.state == "open"
        and tables.leases.get(promise.intent.owner, now) <= now
    ]
    for promise in orphans:
        _abandon(tables, promise, "its owner is gone", now)
    return len(orphans)


def renew_lease(tables: Tables, owner: str, until: datetime) -> None:
    """Declare that the owner lives until then."""
    tables.leases[owner] = until


def release_lease(tables: Tables, owner: str) -> None:
    """Declare that the owner has ended."""
    tables.leases.pop(owner, None)
