# SPDX-License-Identifier: MIT
"""
The SQLite store's transactions of several messages, and what they leave
unfinished.

See :mod:`trstctl.backends.sqlite_requests` for how the functions work.  A
dialogue has no audit record of its own: what comes of it has.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime

from trstctl.backends.records import (
    confirmed,
    released_facts,
    too_many_dialogues,
)
from trstctl.backends.sqlite_inventory import find_certificate
from trstctl.backends.sqlite_rows import (
    Row,
    certificate_record,
    micros,
    moment,
)
from trstctl.backends.sqlite_transaction import Transaction
from trstctl.errors import Conflict, Stale, UnknownCertificate
from trstctl.model import CertificateRecord, Dialogue

# --- dialogues --------------------------------------------------------------

_FIND = """
SELECT tenant_id, protocol, endpoint, transaction_id, party, state, request,
    answer, notes, expires_at, version, charged_to
FROM dialogues WHERE tenant_id = ? AND protocol = ? AND endpoint = ?
    AND transaction_id = ? AND expires_at > ?
"""

_OPEN = """
INSERT INTO dialogues (tenant_id, protocol, endpoint, transaction_id, party,
    state, request, answer, notes, expires_at, version, charged_to)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant_id, protocol, endpoint, transaction_id) DO NOTHING
"""

_FORGET = """
DELETE FROM dialogues WHERE tenant_id = ? AND protocol = ? AND endpoint = ?
    AND transaction_id = ? AND expires_at <= ?
RETURNING tenant_id, protocol, charged_to, 1
"""

_COUNT = """
SELECT count FROM dialogue_counts
WHERE tenant_id = ? AND protocol = ? AND charged_to = ?
"""

_CHARGE = """
INSERT INTO dialogue_counts (tenant_id, protocol, charged_to, count)
VALUES (?, ?, ?, 1)
ON CONFLICT (tenant_id, protocol, charged_to) DO UPDATE SET count = count + 1
"""

_DISCHARGE = """
UPDATE dialogue_counts SET count = count - ?
WHERE tenant_id = ? AND protocol = ? AND charged_to = ?
RETURNING count
"""

_DROP_COUNT = """
DELETE FROM dialogue_counts
WHERE tenant_id = ? AND protocol = ? AND charged_to = ?
"""

_ADVANCE = """
UPDATE dialogues SET party = ?, state = ?, request = ?, answer = ?, notes = ?,
    expires_at = ?, version = version + 1
WHERE tenant_id = ? AND protocol = ? AND endpoint = ? AND transaction_id = ?
    AND version = ?
"""

_EXPIRED = """
SELECT tenant_id, protocol, charged_to, count(*) FROM dialogues
WHERE expires_at <= ? AND charged_to <> ''
GROUP BY tenant_id, protocol, charged_to
"""

_PURGE = "DELETE FROM dialogues WHERE expires_at <= ?"


def find_dialogue(
    connection: sqlite3.Connection,
    tenant_id: str,
    protocol: str,
    endpoint: str,
    transaction: str,
    now: datetime,
) -> Dialogue | None:
    """Return a dialogue that has not expired."""
    row = connection.execute(
        _FIND, (tenant_id, protocol, endpoint, transaction, micros(now))
    ).fetchone()
    return None if row is None else _dialogue(row)


def _dialogue(row: Row) -> Dialogue:
    """Return a dialogue; its columns are those of the table, in order."""
    return Dialogue(
        tenant_id=row[0],
        protocol=row[1],
        endpoint=row[2],
        transaction=row[3],
        party=row[4],
        state=row[5],
        request=row[6],
        answer=row[7],
        notes=json.loads(row[8]),
        expires_at=moment(row[9]),
        version=row[10],
        charged_to=row[11],
    )


def count_dialogues(
    connection: sqlite3.Connection | Transaction,
    tenant_id: str,
    protocol: str,
    charged_to: str,
) -> int:
    """Return how many dialogues are charged to somebody."""
    row = connection.execute(
        _COUNT, (tenant_id, protocol, charged_to)
    ).fetchone()
    return 0 if row is None else int(row[0])


def open_dialogue(
    transaction: Transaction,
    dialogue: Dialogue,
    now: datetime,
    limit: int | None,
) -> None:
    """Keep a new dialogue, over what has expired, as if that was purged."""
    place = (
        dialogue.tenant_id,
        dialogue.protocol,
        dialogue.endpoint,
        dialogue.transaction,
    )
    values = (
        *place,
        dialogue.party,
        dialogue.state,
        dialogue.request,
        dialogue.answer,
        json.dumps(dict(dialogue.notes)),
        micros(dialogue.expires_at),
        dialogue.version,
        dialogue.charged_to,
    )
    charged = (*place[:2], dialogue.charged_to)
    if limit is not None and count_dialogues(transaction, *charged) >= limit:
        raise too_many_dialogues()
    if transaction.execute(_OPEN, values).rowcount != 1:
        expired = transaction.execute(
            _FORGET, (*place, micros(now))
        ).fetchall()
        if not expired:
            raise Conflict("this transaction has been begun before")
        _discharge(transaction, expired)
        transaction.execute(_OPEN, values)
    if dialogue.charged_to:
        transaction.execute(_CHARGE, charged)


def _discharge(transaction: Transaction, forgotten: Sequence[Row]) -> None:
    """Count what is forgotten: tenant, protocol, whom, and how many."""
    for tenant_id, protocol, charged_to, count in forgotten:
        party = (tenant_id, protocol, charged_to)
        left = transaction.execute(_DISCHARGE, (count, *party)).fetchall()
        if left and left[0][0] <= 0:
            transaction.execute(_DROP_COUNT, party)


def advance_dialogue(transaction: Transaction, dialogue: Dialogue) -> None:
    """Put a dialogue in place of the one with the same version."""
    written = transaction.execute(
        _ADVANCE,
        (
            dialogue.party,
            dialogue.state,
            dialogue.request,
            dialogue.answer,
            json.dumps(dict(dialogue.notes)),
            micros(dialogue.expires_at),
            dialogue.tenant_id,
            dialogue.protocol,
            dialogue.endpoint,
            dialogue.transaction,
            dialogue.version,
        ),
    )
    if written.rowcount != 1:
        raise Stale("this transaction has gone on since")


def purge_dialogues(transaction: Transaction, now: datetime) -> None:
    """Forget what has expired, of all tenants."""
    at = (micros(now),)
    _discharge(transaction, transaction.execute(_EXPIRED, at).fetchall())
    transaction.execute(_PURGE, at)


# --- certificates that nobody has confirmed ---------------------------------

_CONFIRM = """
UPDATE requests SET confirm_by = NULL
WHERE serial = ? AND authority = ? AND tenant_id = ? AND status IS NOT NULL
"""

_UNCONFIRMED = """
SELECT tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x'', superseded_by, confirm_by
FROM requests WHERE confirm_by <= ? AND confirm_by IS NOT NULL
ORDER BY confirm_by LIMIT ?
"""


def confirm_certificate(
    transaction: Transaction,
    tenant_id: str,
    serial: str,
    actor: str,
    now: datetime,
) -> CertificateRecord:
    """Confirm, by :func:`~trstctl.backends.records.confirmed`."""
    record = find_certificate(transaction, tenant_id, serial)
    if record is None:
        raise UnknownCertificate
    changed = confirmed(record)
    if changed is not record:
        transaction.execute(_CONFIRM, (serial, record.authority, tenant_id))
        facts = released_facts(changed)
        transaction.audit(
            tenant_id, now, "certificate.confirmed", actor, facts
        )
    return changed


def list_unconfirmed(
    connection: sqlite3.Connection, before: datetime, limit: int
) -> Sequence[CertificateRecord]:
    """Return what should have been confirmed, the longest ago first."""
    rows = connection.execute(_UNCONFIRMED, (micros(before), limit))
    return [certificate_record(row) for row in rows]
