# SPDX-License-Identifier: MIT
"""
The SQLite store's revocations and CRLs.

See :mod:`trstctl.backends.sqlite_requests` for how the functions work.

A serial belongs to an authority, and so does its revocation: an authority may
serve several tenants, and its CRL lists what each of them has revoked.  So the
statements that read for a CRL or an OCSP response name the authority instead
of the tenant.  What revokes a certificate names its tenant, as every write
does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from trstctl.backends.records import (
    published_facts,
    released,
    released_facts,
    revoked,
    revoked_facts,
    superseded,
    superseded_facts,
)
from trstctl.backends.sqlite_inventory import find_certificate
from trstctl.backends.sqlite_rows import (
    micros,
    micros_or_none,
    moment_or_none,
    serial_status,
    stored_crl,
)
from trstctl.backends.sqlite_transaction import Transaction
from trstctl.errors import Stale, UnknownCertificate
from trstctl.model import (
    SYSTEM_TENANT,
    CertificateRecord,
    RevocationQuery,
    SerialStatus,
    StoredCRL,
)

# --- a certificate, of one tenant -------------------------------------------

_REVOKE = """
UPDATE requests SET status = 'revoked', revoked_at = ?,
    revocation_reason = ?, changed_at = ?, confirm_by = NULL
WHERE serial = ? AND authority = ? AND tenant_id = ? AND status IS NOT NULL
"""

_SUPERSEDE = """
UPDATE requests SET status = ?, superseded_by = ?
WHERE serial = ? AND authority = ? AND tenant_id = ? AND status IS NOT NULL
"""

_RELEASE = """
UPDATE requests SET status = ?, revoked_at = NULL,
    revocation_reason = '', released_at = ?, changed_at = ?
WHERE serial = ? AND authority = ? AND tenant_id = ? AND status IS NOT NULL
"""


def revoke_certificate(
    transaction: Transaction,
    tenant_id: str,
    serial: str,
    reason: str,
    actor: str,
    now: datetime,
) -> CertificateRecord:
    """Revoke, by the rules of :func:`~trstctl.backends.records.revoked`."""
    record = find_certificate(transaction, tenant_id, serial)
    if record is None:
        raise UnknownCertificate
    changed = revoked(record, reason, now)
    if changed is not record:
        transaction.execute(
            _REVOKE,
            (
                micros_or_none(changed.revoked_at),
                reason,
                next_change(transaction, record.authority, now),
                serial,
                record.authority,
                tenant_id,
            ),
        )
        facts = revoked_facts(changed)
        transaction.audit(tenant_id, now, "certificate.revoked", actor, facts)
    return changed


def release_certificate(
    transaction: Transaction,
    tenant_id: str,
    serial: str,
    actor: str,
    now: datetime,
) -> CertificateRecord:
    """Release, by the rules of :func:`~trstctl.backends.records.released`."""
    record = find_certificate(transaction, tenant_id, serial)
    if record is None:
        raise UnknownCertificate
    changed = released(record)
    if changed is not record:
        transaction.execute(
            _RELEASE,
            (
                changed.status.value,
                micros(now),
                next_change(transaction, record.authority, now),
                serial,
                record.authority,
                tenant_id,
            ),
        )
        facts = released_facts(changed)
        transaction.audit(tenant_id, now, "certificate.released", actor, facts)
    return changed


def supersede_certificate(
    transaction: Transaction,
    tenant_id: str,
    serial: str,
    by: str,
    actor: str,
    now: datetime,
) -> CertificateRecord:
    """Supersede, by :func:`~trstctl.backends.records.superseded`."""
    record = find_certificate(transaction, tenant_id, serial)
    if record is None or find_certificate(transaction, tenant_id, by) is None:
        raise UnknownCertificate
    changed = superseded(record, by)
    if changed is not record:
        transaction.execute(
            _SUPERSEDE,
            (changed.status.value, by, serial, record.authority, tenant_id),
        )
        transaction.audit(
            tenant_id,
            now,
            "certificate.superseded",
            actor,
            superseded_facts(changed),
        )
    return changed


# --- an authority's serials, in all tenants ---------------------------------

_LAST_CHANGE = """
SELECT max(changed_at) FROM requests
WHERE authority = ? AND changed_at IS NOT NULL
"""

_STATUS = """
SELECT serial, not_after, revoked_at, revocation_reason, released_at
FROM requests WHERE serial = ? AND authority = ?
"""

_LIST_REVOKED = """
SELECT serial, not_after, revoked_at, revocation_reason, released_at
FROM requests INDEXED BY requests_revoked
WHERE authority = ? AND serial >= ? AND serial < ? AND not_after > ?
    AND revoked_at IS NOT NULL
ORDER BY serial LIMIT ?
"""

_LIST_CHANGED = """
SELECT serial, not_after, revoked_at, revocation_reason, released_at
FROM requests INDEXED BY requests_changed
WHERE authority = ? AND serial >= ? AND serial < ? AND not_after > ?
    AND changed_at >= ? AND changed_at IS NOT NULL
ORDER BY serial LIMIT ?
"""


def next_change(
    transaction: Transaction, authority: str, now: datetime
) -> int:
    """
    Return the time of a change that is about to be written.

    Later than every change before it: a process whose clock is behind, or
    whose commit was late, must not slip in where a CRL has looked already.
    """
    (last,) = transaction.execute(_LAST_CHANGE, (authority,)).fetchone()
    return micros(now) if last is None else max(micros(now), last + 1)


def last_revocation(
    connection: sqlite3.Connection, authority: str
) -> datetime | None:
    """Return when a serial was last revoked, abandoned or released."""
    (last,) = connection.execute(_LAST_CHANGE, (authority,)).fetchone()
    return moment_or_none(last)


def find_status(
    connection: sqlite3.Connection, authority: str, serial: str
) -> SerialStatus | None:
    """Return the status of a serial."""
    row = connection.execute(_STATUS, (serial, authority)).fetchone()
    return None if row is None else serial_status(row)


def list_revoked(
    connection: sqlite3.Connection, query: RevocationQuery
) -> Sequence[SerialStatus]:
    """Return revoked serials, the least first."""
    span = (query.authority, query.first, query.end, micros(query.not_after))
    if query.changed_since is None:
        rows = connection.execute(_LIST_REVOKED, (*span, query.limit))
    else:
        since = micros(query.changed_since)
        rows = connection.execute(_LIST_CHANGED, (*span, since, query.limit))
    return [serial_status(row) for row in rows]


# --- CRLs: of authorities, hence of no tenant -------------------------------

_NEXT_NUMBER = """
INSERT INTO crl_numbers (authority, last) VALUES (?, 1)
ON CONFLICT (authority) DO UPDATE SET last = last + 1
RETURNING last
"""

_NO_LESS_THAN = """
INSERT INTO crl_numbers (authority, last) VALUES (?, ?)
ON CONFLICT (authority) DO UPDATE SET last = max(last, excluded.last)
"""

_SAVE = """
INSERT INTO crls (authority, scope, number, base, this_update, next_update,
    entries, der)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (authority, scope) DO UPDATE SET
    number = excluded.number, base = excluded.base,
    this_update = excluded.this_update, next_update = excluded.next_update,
    entries = excluded.entries, der = excluded.der
WHERE crls.number < excluded.number
"""

_FIND = """
SELECT authority, scope, number, base, this_update, next_update, entries, der
FROM crls WHERE authority = ? AND scope = ? AND number <> ?
"""

_SCOPES = "SELECT scope FROM crls WHERE authority = ? ORDER BY scope"


def next_crl_number(transaction: Transaction, authority: str) -> int:
    """Return a CRLNumber that nobody got before."""
    ((number,),) = transaction.execute(_NEXT_NUMBER, (authority,)).fetchall()
    return int(number)


def save_crl(transaction: Transaction, crl: StoredCRL, actor: str) -> None:
    """Keep a CRL in place of its scope's last one."""
    saved = transaction.execute(
        _SAVE,
        (
            crl.authority,
            crl.scope,
            crl.number,
            crl.base,
            micros(crl.this_update),
            micros(crl.next_update),
            crl.entries,
            crl.der,
        ),
    )
    if saved.rowcount != 1:
        raise Stale("a newer CRL has been published")
    transaction.execute(_NO_LESS_THAN, (crl.authority, crl.number))
    transaction.audit(
        SYSTEM_TENANT,
        crl.this_update,
        "crl.published",
        actor,
        published_facts(crl),
    )


def find_crl(
    connection: sqlite3.Connection, authority: str, scope: str, unless: int
) -> StoredCRL | None:
    """Return the CRL of a scope, unless its number is known."""
    row = connection.execute(_FIND, (authority, scope, unless)).fetchone()
    return None if row is None else stored_crl(row)


def crl_scopes(
    connection: sqlite3.Connection, authority: str
) -> Sequence[str]:
    """Return every scope that was ever published."""
    return [row[0] for row in connection.execute(_SCOPES, (authority,))]
