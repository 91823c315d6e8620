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

from trstctl.backends.records import confirmed, released_facts
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
    answer, notes, expires_at, version
FROM dialogues WHERE tenant_id = ? AND protocol = ? AND endpoint = ?
    AND transaction_id = ? AND expires_at > ?
"""

# Over what has expired, as if it had been purged.
_OPEN = """
INSERT INTO dialogues (tenant_id, protocol, endpoint, transaction_id, party,
    state, request, answer, notes, expires_at, version)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant_id, protocol, endpoint, transaction_id) DO UPDATE SET
    party = excluded.party, state = excluded.state,
    request = excluded.request, answer = excluded.answer,
    notes = excluded.notes, expires_at = excluded.expires_at,
    version = excluded.version
WHERE expires_at <= ?
"""

_ADVANCE = """
UPDATE dialogues SET party = ?, state = ?, request = ?, answer = ?, notes = ?,
    expires_at = ?, version = version + 1
WHERE tenant_id = ? AND protocol = ? AND endpoint = ? AND transaction_id = ?
    AND version = ?
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
    )


def open_dialogue(
    transaction: Transaction, dialogue: Dialogue, now: datetime
) -> None:
    """Keep a new dialogue."""
    written = transaction.execute(
        _OPEN,
        (
            dialogue.tenant_id,
            dialogue.protocol,
            dialogue.endpoint,
            dialogue.transaction,
            dialogue.party,
            dialogue.state,
            dialogue.request,
            dialogue.answer,
            json.dumps(dict(dialogue.notes)),
            micros(dialogue.expires_at),
            dialogue.version,
            micros(now),
        ),
    )
    if written.rowcount != 1:
        raise Conflict("this transaction has been begun before")


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
    transaction.execute(_PURGE, (micros(now),))


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
