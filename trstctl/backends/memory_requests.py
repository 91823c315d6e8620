# SPDX-License-Identifier: MIT
"""
The memory store's requests: who holds a key, what waits for a person.

See :mod:`trstctl.backends.memory_tables` for how the functions work.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from attrs import evolve

from trstctl.backends.burns import Burn
from trstctl.backends.memory_burns import burn, decide_burn
from trstctl.backends.memory_tables import Tables
from trstctl.backends.records import (
    MAX_TRANSACTIONS,
    TRANSACTION_TAKEN,
    held_together,
    request_facts,
    too_many_held,
)
from trstctl.errors import (
    Conflict,
    Stale,
    UnknownCertificate,
)
from trstctl.model import (
    NewRequest,
    RequestKey,
    RequestState,
    StoredRequest,
)

#: States in which a request waits for a person, or for its client.
_WAITING = {RequestState.HELD, RequestState.APPROVED}

#: Those in which a request is found by its transaction after its key's time.
_LASTING = {RequestState.OPEN, RequestState.APPROVED}


def find_request(
    tables: Tables, key: RequestKey, now: datetime, lapsed: bool = False
) -> StoredRequest | None:
    """Return the request that holds the key, unless it has expired."""
    found = tables.requests.get(tables.keys.get(key, ""))
    if found is None or lapsed:
        return found
    if found.key_expires <= now and found.state is not RequestState.OPEN:
        return None
    return found


def find_transactions(
    tables: Tables,
    tenant_id: str,
    protocol: str,
    endpoint: str,
    transaction: str,
    now: datetime,
    *,
    principals: Collection[str],
    fingerprint: str = "",
) -> Sequence[StoredRequest]:
    """Return the requests with a transactionID, newest first."""
    found = [
        row
        for row in tables.requests.values()
        if transaction != ""
        and (row.key.tenant_id, row.key.protocol) == (tenant_id, protocol)
        and (row.endpoint, row.transaction) == (endpoint, transaction)
        and (
            row.key.principal in principals
            or row.public_key_fingerprint == (fingerprint or None)
        )
        and (now < row.key_expires or row.state in _LASTING)
    ]
    return found[: -MAX_TRANSACTIONS - 1 : -1]


def list_requests(
    tables: Tables, tenant_id: str, state: RequestState | None, limit: int
) -> Sequence[StoredRequest]:
    """Return requests, oldest first."""
    found = [
        row
        for row in tables.requests.values()
        if row.key.tenant_id == tenant_id and state in {None, row.state}
    ]
    return found[:limit]


def holder_of_key(
    tables: Tables, request: NewRequest, now: datetime
) -> StoredRequest | None:
    """Return the holder of the key, unless it is another request."""
    found = find_request(tables, request.key, now)
    if found is not None and found.fingerprint != request.fingerprint:
        raise Conflict
    return found


def put_request(
    tables: Tables, request: NewRequest, state: RequestState, now: datetime
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
    tables.requests[request.id] = stored
    tables.keys[request.key] = request.id
    return stored


def put_again(
    tables: Tables,
    found: StoredRequest,
    request: NewRequest,
    state: RequestState,
) -> StoredRequest:
    """Take an earlier request up again."""
    stored = tables.requests[found.id] = evolve(
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


def check_transaction(
    tables: Tables, request: NewRequest, now: datetime
) -> None:
    """Refuse a second request in a transaction that is not finished."""
    for row in tables.requests.values():
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


def hold(
    tables: Tables,
    request: NewRequest,
    now: datetime,
    limit: int | None = None,
) -> StoredRequest:
    """Keep a request, or find the one that is kept already."""
    found = holder_of_key(tables, request, now)
    if found is not None and found.state is not RequestState.ABANDONED:
        return found
    check_transaction(tables, request, now)
    waiting = None if found else _waiting(tables, request, now)
    if found is None and waiting is None and limit is not None:
        _check_held(tables, request, now, limit)
    _reserve(tables, request, waiting, now)
    event = "request.held"
    if found is not None:
        stored = put_again(
            tables,
            evolve(found, decided_by="", decided_at=None, reason=""),
            request,
            RequestState.HELD,
        )
    elif waiting is not None:
        stored = _adopt(tables, waiting, request)
        event = "request.adopted"
    else:
        stored = put_request(tables, request, RequestState.HELD, now)
    tables.ever_held.add(stored.id)
    tables.audit(
        request.key.tenant_id,
        now,
        event,
        request.key.principal,
        request_facts(request, stored.id),
    )
    return stored


def _check_held(
    tables: Tables, request: NewRequest, now: datetime, limit: int
) -> None:
    """Refuse one more than may wait for a principal."""
    first, last = held_together(request.key.principal)
    count = sum(
        row.state is RequestState.HELD
        and row.key.tenant_id == request.key.tenant_id
        and first <= row.key.principal <= last
        and now < row.key_expires
        for row in tables.requests.values()
    )
    if count >= limit:
        raise too_many_held()


def _reserve(
    tables: Tables,
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
    burn(
        tables,
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
    tables: Tables, request: NewRequest, now: datetime
) -> StoredRequest | None:
    """Return the row that waits for the same certificate."""
    for row in tables.requests.values():
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


def _adopt(
    tables: Tables, row: StoredRequest, request: NewRequest
) -> StoredRequest:
    """Put a waiting row under the key of its client's new request."""
    if tables.keys.get(row.key) == row.id:
        del tables.keys[row.key]
    tables.keys[request.key] = row.id
    stored = tables.requests[row.id] = evolve(
        row,
        key=request.key,
        fingerprint=request.fingerprint,
        csr=request.csr,
        key_expires=max(row.key_expires, request.key_expires),
        transaction=request.transaction,
        revocation_verifier=request.revocation_verifier,
    )
    return stored


def decide_request(
    tables: Tables,
    tenant_id: str,
    request_id: str,
    approve: bool,
    actor: str,
    reason: str,
    now: datetime,
    key_expires: datetime,
) -> StoredRequest:
    """Approve or deny a held request."""
    row = tables.requests.get(request_id)
    if (
        row is None
        or row.key.tenant_id != tenant_id
        or request_id not in tables.ever_held
    ):
        raise UnknownCertificate("no such request was ever held")
    if row.state is not RequestState.HELD:
        raise Stale(f"the request is no longer held, but {row.state.value}")
    decision = RequestState.APPROVED if approve else RequestState.DENIED
    stored = tables.requests[request_id] = evolve(
        row,
        state=decision,
        decided_by=actor,
        decided_at=now,
        reason=reason,
        key_expires=key_expires,
    )
    if row.secret_id is not None:
        decide_burn(
            tables,
            tenant_id,
            row.secret_id,
            (row.public_key_fingerprint, row.fingerprint),
            approve,
            now,
        )
    tables.audit(
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
    return stored
