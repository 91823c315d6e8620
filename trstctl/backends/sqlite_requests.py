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

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from trstctl.backends.records import request_facts
from trstctl.backends.sqlite_rows import (
    micros,
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
SELECT r.id, r.tenant_id, r.protocol, r.principal, r.request_key,
    r.fingerprint, r.state, r.endpoint, r.operation, r.profile, r.subject,
    r.names, r.public_key_fingerprint, r.created_at, r.key_expires, r.csr,
    r.decided_by, r.decided_at, r.reason,
    c.der, c.serial, c.not_after, c.status
FROM request_keys k
JOIN requests r ON r.number = k.request AND r.tenant_id = k.tenant_id
LEFT JOIN certificates c
    ON c.number = r.certificate AND c.tenant_id = r.tenant_id
WHERE k.tenant_id = ? AND k.protocol = ? AND k.principal = ?
    AND k.request_key = ? AND (r.key_expires > ? OR r.state = 'open')
"""

_REQUEST_BY_NUMBER = """
SELECT r.id, r.tenant_id, r.protocol, r.principal, r.request_key,
    r.fingerprint, r.state, r.endpoint, r.operation, r.profile, r.subject,
    r.names, r.public_key_fingerprint, r.created_at, r.key_expires, r.csr,
    r.decided_by, r.decided_at, r.reason,
    c.der, c.serial, c.not_after, c.status
FROM requests r
LEFT JOIN certificates c
    ON c.number = r.certificate AND c.tenant_id = r.tenant_id
WHERE r.tenant_id = ? AND r.number = ?
"""

_LIST_ALL = """
SELECT r.id, r.tenant_id, r.protocol, r.principal, r.request_key,
    r.fingerprint, r.state, r.endpoint, r.operation, r.profile, r.subject,
    r.names, r.public_key_fingerprint, r.created_at, r.key_expires, r.csr,
    r.decided_by, r.decided_at, r.reason,
    c.der, c.serial, c.not_after, c.status
FROM requests r
LEFT JOIN certificates c
    ON c.number = r.certificate AND c.tenant_id = r.tenant_id
WHERE r.tenant_id = ? ORDER BY r.number LIMIT ?
"""

_LIST_ISSUED = """
SELECT r.id, r.tenant_id, r.protocol, r.principal, r.request_key,
    r.fingerprint, r.state, r.endpoint, r.operation, r.profile, r.subject,
    r.names, r.public_key_fingerprint, r.created_at, r.key_expires, r.csr,
    r.decided_by, r.decided_at, r.reason,
    c.der, c.serial, c.not_after, c.status
FROM requests r
JOIN certificates c
    ON c.number = r.certificate AND c.tenant_id = r.tenant_id
WHERE r.tenant_id = ? AND r.state = 'issued' ORDER BY r.number LIMIT ?
"""

_LIST_UNSETTLED = """
SELECT r.id, r.tenant_id, r.protocol, r.principal, r.request_key,
    r.fingerprint, r.state, r.endpoint, r.operation, r.profile, r.subject,
    r.names, r.public_key_fingerprint, r.created_at, r.key_expires, r.csr,
    r.decided_by, r.decided_at, r.reason, NULL, NULL, NULL, NULL
FROM requests r
WHERE r.tenant_id = ? AND r.state = ? AND r.state NOT IN ('open', 'issued')
ORDER BY r.number LIMIT ?
"""

_LIST_OPEN = """
SELECT r.id, r.tenant_id, r.protocol, r.principal, r.request_key,
    r.fingerprint, r.state, r.endpoint, r.operation, r.profile, r.subject,
    r.names, r.public_key_fingerprint, r.created_at, r.key_expires, r.csr,
    r.decided_by, r.decided_at, r.reason, NULL, NULL, NULL, NULL
FROM intents i
JOIN requests r ON r.number = i.request AND r.tenant_id = i.tenant_id
WHERE i.tenant_id = ? AND i.state = 'open' ORDER BY r.number LIMIT ?
"""


def find_request(
    connection: sqlite3.Connection, key: RequestKey, now: datetime
) -> StoredRequest | None:
    """Return the request that holds the key, unless it has expired."""
    row = connection.execute(
        _REQUEST_BY_KEY,
        (key.tenant_id, key.protocol, key.principal, key.key, micros(now)),
    ).fetchone()
    return None if row is None else stored_request(row)


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
SELECT r.number, r.id, r.fingerprint, r.state
FROM request_keys k
JOIN requests r ON r.number = k.request AND r.tenant_id = k.tenant_id
WHERE k.tenant_id = ? AND k.protocol = ? AND k.principal = ?
    AND k.request_key = ? AND (r.key_expires > ? OR r.state = 'open')
"""

_TAKE_KEY = """
INSERT OR REPLACE INTO request_keys
    (tenant_id, protocol, principal, request_key, request)
VALUES (?, ?, ?, ?, ?)
"""

_ADD_REQUEST = """
INSERT INTO requests (tenant_id, id, protocol, principal, request_key,
    fingerprint, key_expires, endpoint, operation, profile, profile_version,
    subject, names, public_key_fingerprint, csr, request_id, peer, state,
    was_held, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def holder_of_key(
    transaction: Transaction, request: NewRequest, now: int
) -> tuple[int, str, str] | None:
    """
    Return number, id and state of the request that holds the key.

    :raises Conflict: it is another request.
    """
    key = request.key
    row = transaction.execute(
        _WHO_HOLDS_KEY,
        (key.tenant_id, key.protocol, key.principal, key.key, now),
    ).fetchone()
    if row is None:
        return None
    number, request_id, fingerprint, state = row
    if fingerprint != request.fingerprint:
        raise Conflict
    return number, request_id, state


def add_request(
    transaction: Transaction, request: NewRequest, state: str, now: int
) -> int:
    """Write a new row, give it the key, and return its number."""
    key = request.key
    number = transaction.execute(
        _ADD_REQUEST, request_values(request, state, now)
    ).lastrowid
    transaction.execute(
        _TAKE_KEY,
        (key.tenant_id, key.protocol, key.principal, key.key, number),
    )
    return number or 0


# --- held requests ----------------------------------------------------------

_FIND_WAITING = """
SELECT number, protocol, principal, request_key FROM requests
WHERE tenant_id = :tenant_id AND public_key_fingerprint = :public_key
    AND state IN ('held', 'approved')
    AND (state = 'held' OR key_expires > :now)
    AND protocol = :protocol AND endpoint = :endpoint
    AND operation = :operation AND principal = :principal
    AND profile = :profile AND subject = :subject AND names = :names
ORDER BY number LIMIT 1
"""

_ADOPT = """
UPDATE requests SET request_key = ?, fingerprint = ?, csr = ?,
    key_expires = max(key_expires, ?), request_id = ?, peer = ?
WHERE tenant_id = ? AND number = ?
RETURNING id
"""

_LEAVE_KEY = """
DELETE FROM request_keys
WHERE tenant_id = ? AND protocol = ? AND principal = ? AND request_key = ?
    AND request = ?
"""

_HOLD_AGAIN = """
UPDATE requests SET state = 'held', was_held = 1,
    key_expires = max(key_expires, ?),
    profile = ?, profile_version = ?, subject = ?, names = ?, csr = ?,
    request_id = ?, peer = ?, decided_by = '', decided_at = NULL, reason = ''
WHERE tenant_id = ? AND number = ?
"""

_FIND_BY_ID = """
SELECT number, state, principal FROM requests
WHERE tenant_id = ? AND id = ? AND was_held = 1
"""

_DECIDE = """
UPDATE requests SET state = ?, decided_by = ?, decided_at = ?, reason = ?,
    key_expires = ?
WHERE tenant_id = ? AND number = ?
"""


def hold(
    transaction: Transaction, request: NewRequest, now: datetime
) -> StoredRequest:
    """Keep a request for a person, or find the one that is kept already."""
    at, tenant_id = micros(now), request.key.tenant_id
    held = holder_of_key(transaction, request, at)
    event = "request.held"
    if held is not None:
        number, request_id, state = held
        if state != "abandoned":
            return request_by_number(transaction, tenant_id, number)
        _hold_again(transaction, request, number)
    elif (waiting := _adopt(transaction, request, at)) is not None:
        number, request_id = waiting
        event = "request.adopted"
    else:
        number = add_request(transaction, request, "held", at)
        request_id = request.id
    facts = request_facts(request, request_id)
    transaction.audit(tenant_id, now, event, request.key.principal, facts)
    return request_by_number(transaction, tenant_id, number)


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
            request.request_id,
            request.peer,
            request.key.tenant_id,
            number,
        ),
    )


def _adopt(
    transaction: Transaction, request: NewRequest, now: int
) -> tuple[int, str] | None:
    """Put the waiting row for the same certificate under the new key."""
    key = request.key
    row = transaction.execute(
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
    if row is None:
        return None
    number, protocol, principal, former_key = row
    transaction.execute(
        _LEAVE_KEY, (key.tenant_id, protocol, principal, former_key, number)
    )
    transaction.execute(
        _TAKE_KEY,
        (key.tenant_id, key.protocol, key.principal, key.key, number),
    )
    ((request_id,),) = transaction.execute(
        _ADOPT,
        (
            key.key,
            request.fingerprint,
            request.csr,
            micros(request.key_expires),
            request.request_id,
            request.peer,
            key.tenant_id,
            number,
        ),
    ).fetchall()
    return number, request_id


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
    number, state, principal = row
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
    transaction.audit(
        tenant_id,
        now,
        "request.approved" if approve else "request.denied",
        actor,
        {"request": request_id, "principal": principal, "reason": reason},
    )
    return request_by_number(transaction, tenant_id, number)
