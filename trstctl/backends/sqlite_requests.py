# SPDX-License-Identifier: MIT
"""
The SQLite store's requests: who holds a key, who waits for a person.

A write takes a :class:`~trstctl.backends.sqlite_transaction.Transaction`, a
read a connection.  A write raises before it writes, where it can: the writer
then need not roll anything back.

A key is *taken* while its request's ``key_expires`` lies ahead, or while the
request is open: what is being signed right now never loses its key, else the
same request could be signed twice.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime

from trstctl.backends.burns import Burn
from trstctl.backends.records import (
    MAX_TRANSACTIONS,
    TRANSACTION_TAKEN,
    held_together,
    request_facts,
    too_many_held,
)
from trstctl.backends.sqlite_burns import burn, decide_burn
from trstctl.backends.sqlite_rows import (
    micros,
    moment,
    names_text,
    request_values,
    stored_request,
)
from trstctl.backends.sqlite_transaction import Transaction
from trstctl.errors import Conflict, Stale, UnknownCertificate
from trstctl.model import (
    NewRequest,
    RequestKey,
    RequestState,
    StoredRequest,
)

# --- reading requests -------------------------------------------------------

_REQUEST_BY_KEY = """
SELECT id, tenant_id, protocol, principal, request_key, fingerprint, state,
    endpoint, operation, profile, subject, names, public_key_fingerprint,
    created_at, key_expires, csr, decided_by, decided_at, reason,
    der, serial, not_after, status, transaction_id, secret_id, authority,
    revocation_verifier
FROM requests
WHERE tenant_id = ? AND protocol = ? AND principal = ? AND request_key = ?
    AND holds_key = 1 AND (key_expires > ? OR state = 'open' OR ?)
"""

_REQUEST_BY_NUMBER = """
SELECT id, tenant_id, protocol, principal, request_key, fingerprint, state,
    endpoint, operation, profile, subject, names, public_key_fingerprint,
    created_at, key_expires, csr, decided_by, decided_at, reason,
    der, serial, not_after, status, transaction_id, secret_id, authority,
    revocation_verifier
FROM requests
WHERE tenant_id = ? AND number = ?
"""

_LIST_ALL = """
SELECT id, tenant_id, protocol, principal, request_key, fingerprint, state,
    endpoint, operation, profile, subject, names, public_key_fingerprint,
    created_at, key_expires, csr, decided_by, decided_at, reason,
    der, serial, not_after, status, transaction_id, secret_id, authority,
    revocation_verifier
FROM requests
WHERE tenant_id = ? AND state <> 'retried' ORDER BY number LIMIT ?
"""

_LIST_ISSUED = """
SELECT id, tenant_id, protocol, principal, request_key, fingerprint, state,
    endpoint, operation, profile, subject, names, public_key_fingerprint,
    created_at, key_expires, csr, decided_by, decided_at, reason,
    der, serial, not_after, status, transaction_id, secret_id, authority,
    revocation_verifier
FROM requests
WHERE tenant_id = ? AND state = 'issued' ORDER BY number LIMIT ?
"""

_LIST_UNSETTLED = """
SELECT id, tenant_id, protocol, principal, request_key, fingerprint, state,
    endpoint, operation, profile, subject, names, public_key_fingerprint,
    created_at, key_expires, csr, decided_by, decided_at, reason,
    der, serial, not_after, status, transaction_id, secret_id, authority,
    revocation_verifier
FROM requests
WHERE tenant_id = ? AND state = ? AND state NOT IN ('open', 'issued')
ORDER BY number LIMIT ?
"""

_LIST_OPEN = """
SELECT id, tenant_id, protocol, principal, request_key, fingerprint, state,
    endpoint, operation, profile, subject, names, public_key_fingerprint,
    created_at, key_expires, csr, decided_by, decided_at, reason,
    der, serial, not_after, status, transaction_id, secret_id, authority,
    revocation_verifier
FROM requests INDEXED BY requests_open
WHERE tenant_id = ? AND state = 'open' ORDER BY number LIMIT ?
"""

_FIND_TRANSACTIONS = """
SELECT id, tenant_id, protocol, principal, request_key, fingerprint, state,
    endpoint, operation, profile, subject, names, public_key_fingerprint,
    created_at, key_expires, csr, decided_by, decided_at, reason,
    der, serial, not_after, status, transaction_id, secret_id, authority,
    revocation_verifier
FROM requests INDEXED BY requests_by_transaction
WHERE tenant_id = ? AND transaction_id = ? AND transaction_id <> ''
    AND protocol = ? AND endpoint = ? AND state <> 'retried'
    AND (key_expires > ? OR state = 'open' OR state = 'approved')
    AND (public_key_fingerprint = ?
        OR principal IN (SELECT value FROM json_each(?)))
ORDER BY number DESC LIMIT ?
"""


def find_request(
    connection: sqlite3.Connection,
    key: RequestKey,
    now: datetime,
    lapsed: bool,
) -> StoredRequest | None:
    """Return the request that holds the key, unless it has expired."""
    row = connection.execute(
        _REQUEST_BY_KEY,
        (
            key.tenant_id,
            key.protocol,
            key.principal,
            key.key,
            micros(now),
            lapsed,
        ),
    ).fetchone()
    return None if row is None else stored_request(row)


def find_transactions(
    connection: sqlite3.Connection,
    tenant_id: str,
    protocol: str,
    endpoint: str,
    transaction: str,
    now: datetime,
    principals: Sequence[str],
    fingerprint: str,
) -> Sequence[StoredRequest]:
    """Return the requests with a transactionID, newest first."""
    rows = connection.execute(
        _FIND_TRANSACTIONS,
        (
            tenant_id,
            transaction,
            protocol,
            endpoint,
            micros(now),
            fingerprint or None,
            json.dumps(principals),
            MAX_TRANSACTIONS,
        ),
    )
    return [stored_request(row) for row in rows]


def list_requests(
    connection: sqlite3.Connection,
    tenant_id: str,
    state: RequestState | None,
    limit: int,
) -> Sequence[StoredRequest]:
    """Return requests, oldest first."""
    if state is None:
        rows = connection.execute(_LIST_ALL, (tenant_id, limit))
    elif state is RequestState.ISSUED:
        rows = connection.execute(_LIST_ISSUED, (tenant_id, limit))
    elif state is RequestState.OPEN:
        rows = connection.execute(_LIST_OPEN, (tenant_id, limit))
    else:
        rows = connection.execute(
            _LIST_UNSETTLED, (tenant_id, state.value, limit)
        )
    return [stored_request(row) for row in rows]


def request_by_number(
    transaction: Transaction, tenant_id: str, number: int
) -> StoredRequest:
    """Return a request that exists."""
    row = transaction.execute(
        _REQUEST_BY_NUMBER, (tenant_id, number)
    ).fetchone()
    return stored_request(row)


# --- taking the key ---------------------------------------------------------

_WHO_HOLDS_KEY = """
SELECT number, id, fingerprint, state, serial,
    key_expires > ? OR state = 'open'
FROM requests
WHERE tenant_id = ? AND protocol = ? AND principal = ? AND request_key = ?
    AND holds_key = 1
"""

_LEAVE_KEY = """
UPDATE requests SET holds_key = 0 WHERE tenant_id = ? AND number = ?
"""

#: Number, fingerprint, state and end of the key.
Waiting = tuple[int, str, str, int]

#: Number, id, state, and the serial of the last intent.
Holder = tuple[int, str, str, str | None]


def holder_of_key(
    transaction: Transaction, request: NewRequest, now: int
) -> Holder | int | None:
    """
    Return the request that holds the key.

    :returns: only its number, if its time is over; see :func:`free_key`.
    :raises Conflict: it is another request.
    """
    key = request.key
    row = transaction.execute(
        _WHO_HOLDS_KEY,
        (now, key.tenant_id, key.protocol, key.principal, key.key),
    ).fetchone()
    if row is None:
        return None
    number, request_id, fingerprint, state, serial, live = row
    if not live:
        return int(number)
    if fingerprint != request.fingerprint:
        raise Conflict
    return number, request_id, state, serial


def free_key(
    transaction: Transaction, tenant_id: str, former: int | None
) -> None:
    """Take the key from the request that held it too long, if one did."""
    if former is not None:
        transaction.execute(_LEAVE_KEY, (tenant_id, former))


# --- transactions -----------------------------------------------------------

_OTHER_IN_TRANSACTION = """
SELECT 1 FROM requests INDEXED BY requests_by_transaction
WHERE tenant_id = ? AND transaction_id = ? AND transaction_id <> ''
    AND protocol = ? AND endpoint = ? AND principal = ? AND fingerprint <> ?
    AND (state = 'open'
        OR ((state = 'held' OR state = 'approved') AND key_expires > ?))
LIMIT 1
"""


def check_transaction(
    transaction: Transaction, request: NewRequest, now: int
) -> None:
    """
    Refuse a second request in a transaction that is not finished.

    :raises Conflict: there is one.
    """
    if not request.transaction:
        return
    key = request.key
    other = transaction.execute(
        _OTHER_IN_TRANSACTION,
        (
            key.tenant_id,
            request.transaction,
            key.protocol,
            request.endpoint,
            key.principal,
            request.fingerprint,
            now,
        ),
    ).fetchone()
    if other is not None:
        raise Conflict(TRANSACTION_TAKEN)


# --- held requests ----------------------------------------------------------

_ADD_HELD = """
INSERT INTO requests (tenant_id, id, protocol, principal, request_key,
    fingerprint, key_expires, endpoint, operation, profile, profile_version,
    subject, names, public_key_fingerprint, csr, request_id, peer,
    transaction_id, revocation_verifier, created_at, secret_id, state,
    was_held)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
    'held', 1)
"""

_LAST_HELD = """
SELECT 1 FROM requests INDEXED BY requests_held_by_principal
WHERE tenant_id = ? AND state = 'held' AND principal BETWEEN ? AND ?
    AND key_expires > ?
LIMIT 1 OFFSET ?
"""

_FIND_WAITING = """
SELECT number, fingerprint, state, key_expires FROM requests
WHERE tenant_id = :tenant_id AND public_key_fingerprint = :public_key
    AND state IN ('held', 'approved')
    AND (state = 'held' OR key_expires > :now)
    AND protocol = :protocol AND endpoint = :endpoint
    AND operation = :operation AND principal = :principal
    AND profile = :profile AND subject = :subject AND names = :names
ORDER BY number LIMIT 1
"""

_ADOPT = """
UPDATE requests SET request_key = ?, holds_key = 1, fingerprint = ?, csr = ?,
    key_expires = max(key_expires, ?), request_id = ?, peer = ?,
    transaction_id = ?, revocation_verifier = ?
WHERE tenant_id = ? AND number = ?
RETURNING id
"""

_HOLD_AGAIN = """
UPDATE requests SET state = 'held', was_held = 1,
    key_expires = max(key_expires, ?),
    profile = ?, profile_version = ?, subject = ?, names = ?, csr = ?,
    public_key_fingerprint = ?, request_id = ?, peer = ?, transaction_id = ?,
    secret_id = ?, revocation_verifier = ?,
    decided_by = '', decided_at = NULL, reason = ''
WHERE tenant_id = ? AND number = ?
"""

_FIND_BY_ID = """
SELECT number, state, principal, secret_id, public_key_fingerprint, fingerprint
FROM requests WHERE tenant_id = ? AND id = ? AND was_held = 1 AND state <> 'retried'
"""

_DECIDE = """
UPDATE requests SET state = ?, decided_by = ?, decided_at = ?, reason = ?,
    key_expires = ?
WHERE tenant_id = ? AND number = ?
"""


def hold(
    transaction: Transaction,
    request: NewRequest,
    now: datetime,
    limit: int | None,
) -> StoredRequest:
    """Keep a request for a person, or find the one that is kept already."""
    at, tenant_id = micros(now), request.key.tenant_id
    held = holder_of_key(transaction, request, at)
    if isinstance(held, tuple) and held[2] != "abandoned":
        return request_by_number(transaction, tenant_id, held[0])
    check_transaction(transaction, request, at)
    waiting = None
    if not isinstance(held, tuple):
        waiting = _waiting(transaction, request, at)
        if waiting is None and limit is not None:
            _check_held(transaction, request.key, at, limit)
    _reserve(transaction, request, waiting, at)
    event = "request.held"
    if isinstance(held, tuple):
        number, request_id, _, _ = held
        _hold_again(transaction, request, number)
    else:
        free_key(transaction, tenant_id, held)
        if waiting is not None:
            number = waiting[0]
            request_id = _adopt(transaction, request, number)
            event = "request.adopted"
        else:
            added = transaction.execute(
                _ADD_HELD, (*request_values(request, at), request.secret_id)
            )
            number, request_id = added.lastrowid or 0, request.id
    facts = request_facts(request, request_id)
    transaction.audit(tenant_id, now, event, request.key.principal, facts)
    return request_by_number(transaction, tenant_id, number)


def _check_held(
    transaction: Transaction, key: RequestKey, now: int, limit: int
) -> None:
    """Refuse one more than may wait for a principal."""
    last = transaction.execute(
        _LAST_HELD,
        (key.tenant_id, *held_together(key.principal), now, limit - 1),
    ).fetchone()
    if last is not None:
        raise too_many_held()


def _reserve(
    transaction: Transaction,
    request: NewRequest,
    waiting: Waiting | None,
    at: int,
) -> None:
    """Reserve the secret that pays for the request, if one does."""
    if request.secret_id is None:
        return
    until, adopted, state = micros(request.key_expires), "", "held"
    if waiting is not None:
        _, adopted, state, key_expires = waiting
        until = max(until, key_expires)
    burn(
        transaction,
        request.key.tenant_id,
        request.secret_id,
        Burn(
            request.burnt_for,
            request.fingerprint,
            held=True,
            until=moment(until) if state == "held" else None,
        ),
        at,
        adopted,
    )


def _hold_again(
    transaction: Transaction, request: NewRequest, number: int
) -> None:
    """Let an abandoned request wait for a person."""
    transaction.execute(
        _HOLD_AGAIN,
        (
            micros(request.key_expires),
            request.profile,
            request.profile_version,
            request.subject,
            names_text(request.names),
            request.csr,
            request.public_key_fingerprint,
            request.request_id,
            request.peer,
            request.transaction,
            request.secret_id,
            request.revocation_verifier,
            request.key.tenant_id,
            number,
        ),
    )


def _waiting(
    transaction: Transaction, request: NewRequest, now: int
) -> Waiting | None:
    """Return the row that waits for the same certificate."""
    key = request.key
    row: Waiting | None = transaction.execute(
        _FIND_WAITING,
        {
            "tenant_id": key.tenant_id,
            "public_key": request.public_key_fingerprint,
            "now": now,
            "protocol": key.protocol,
            "endpoint": request.endpoint,
            "operation": request.operation,
            "principal": key.principal,
            "profile": request.profile,
            "subject": request.subject,
            "names": names_text(request.names),
        },
    ).fetchone()
    return row


def _adopt(transaction: Transaction, request: NewRequest, number: int) -> str:
    """Put a waiting row under the new key; return its id."""
    key = request.key
    ((request_id,),) = transaction.execute(
        _ADOPT,
        (
            key.key,
            request.fingerprint,
            request.csr,
            micros(request.key_expires),
            request.request_id,
            request.peer,
            request.transaction,
            request.revocation_verifier,
            key.tenant_id,
            number,
        ),
    ).fetchall()
    return str(request_id)


def decide_request(
    transaction: Transaction,
    tenant_id: str,
    request_id: str,
    approve: bool,
    actor: str,
    reason: str,
    now: datetime,
    key_expires: datetime,
) -> StoredRequest:
    """Approve or deny a held request."""
    row = transaction.execute(_FIND_BY_ID, (tenant_id, request_id)).fetchone()
    if row is None:
        raise UnknownCertificate("no such request was ever held")
    number, state, principal, secret_id, public_key, fingerprint = row
    if state != "held":
        raise Stale(f"the request is no longer held, but {state}")
    decision = "approved" if approve else "denied"
    transaction.execute(
        _DECIDE,
        (
            decision,
            actor,
            micros(now),
            reason,
            micros(key_expires),
            tenant_id,
            number,
        ),
    )
    if secret_id is not None:
        decide_burn(
            transaction,
            tenant_id,
            secret_id,
            (public_key, fingerprint),
            approve,
            micros(now),
        )
    transaction.audit(
        tenant_id,
        now,
        "request.approved" if approve else "request.denied",
        actor,
        {"request": request_id, "principal": principal, "reason": reason},
    )
    return request_by_number(transaction, tenant_id, number)
