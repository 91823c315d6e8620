# SPDX-License-Identifier: MIT
"""
The SQLite store's intents: from the promise to sign to the certificate, or
to nothing.

See :mod:`trstctl.backends.sqlite_requests` for how the functions work.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256

from trstctl.backends.burns import Burn
from trstctl.backends.records import (
    COMPROMISED,
    STORE_ACTOR,
    abandoned_facts,
    issued_facts,
    issued_record,
    opened_facts,
    search_terms,
)
from trstctl.backends.sqlite_burns import burn
from trstctl.backends.sqlite_requests import (
    Holder,
    check_transaction,
    free_key,
    holder_of_key,
    request_by_number,
)
from trstctl.backends.sqlite_revocation import next_change
from trstctl.backends.sqlite_rows import (
    Row,
    micros,
    micros_or_none,
    names_text,
    request_values,
)
from trstctl.backends.sqlite_transaction import Transaction
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
    StoredRequest,
)

#: How far the clock may run behind the tenant's last audit record.
CLOCK_TOLERANCE = 60_000_000  # microseconds

# --- intents ----------------------------------------------------------------

_ADD_OPEN = """
INSERT INTO requests (tenant_id, id, protocol, principal, request_key,
    fingerprint, key_expires, endpoint, operation, profile, profile_version,
    subject, names, public_key_fingerprint, csr, request_id, peer,
    transaction_id, revocation_verifier, created_at, state, intent, authority,
    serial, owner, tbs_sha256, secret_id, not_before, not_after, promised_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open',
    ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_REOPEN = """
UPDATE requests SET key_expires = max(key_expires, ?), profile = ?,
    profile_version = ?, subject = ?, names = ?, csr = ?,
    public_key_fingerprint = ?, request_id = ?,
    peer = ?, transaction_id = ?, revocation_verifier = ?, state = 'open',
    intent = ?, authority = ?, serial = ?,
    owner = ?, tbs_sha256 = ?, secret_id = ?, not_before = ?, not_after = ?,
    promised_at = ?
WHERE tenant_id = ? AND number = ?
"""

_PUT_ASIDE = """
UPDATE requests SET state = 'retried', holds_key = 0
WHERE tenant_id = ? AND number = ?
"""

_CONTINUE = """
INSERT INTO requests (tenant_id, id, protocol, principal, request_key,
    fingerprint, key_expires, endpoint, operation, profile, profile_version,
    subject, names, public_key_fingerprint, csr, request_id, peer,
    transaction_id, state, was_held, decided_by, decided_at, reason, created_at)
SELECT tenant_id, id, protocol, principal, request_key,
    fingerprint, key_expires, endpoint, operation, profile, profile_version,
    subject, names, public_key_fingerprint, csr, request_id, peer,
    transaction_id, 'abandoned', was_held, decided_by, decided_at, reason, created_at
FROM requests WHERE tenant_id = ? AND number = ?
"""

_IS_COMPROMISED = """
SELECT 1 FROM requests WHERE tenant_id = ? AND public_key_fingerprint = ?
    AND revocation_reason = 'keyCompromise' LIMIT 1
"""


def open_intent(
    transaction: Transaction, intent: Intent, now: datetime
) -> Opened | StoredRequest:
    """Commit the intent to sign, or return the row that answers instead."""
    request, at = intent.request, micros(now)
    tenant_id = request.key.tenant_id
    latest = transaction.latest(tenant_id)
    if at < latest - CLOCK_TOLERANCE:
        raise Unavailable("the clock of the service is wrong")
    held = holder_of_key(transaction, request, at)
    if isinstance(held, tuple) and held[2] not in {"approved", "abandoned"}:
        return request_by_number(transaction, tenant_id, held[0])
    key = (tenant_id, request.public_key_fingerprint)
    if transaction.execute(_IS_COMPROMISED, key).fetchone() is not None:
        raise UnsupportedAlgorithm(COMPROMISED)
    check_transaction(transaction, request, at)
    if intent.secret_id is not None:
        burn(
            transaction,
            tenant_id,
            intent.secret_id,
            Burn(
                request.burnt_for,
                request.fingerprint,
                intent.authority,
                intent.serial,
            ),
            at,
        )
    try:
        if isinstance(held, tuple):
            request_id = held[1]
            _reopen(transaction, intent, at, held)
        else:
            request_id = request.id
            free_key(transaction, tenant_id, held)
            transaction.execute(
                _ADD_OPEN,
                (*request_values(request, at), *_intent_values(intent, at)),
            )
    except sqlite3.IntegrityError as error:
        if "requests.serial" in str(error):
            raise SerialTaken(intent.serial) from error
        raise
    transaction.audit(
        tenant_id,
        now,
        "intent.opened",
        request.key.principal,
        opened_facts(intent, request_id),
    )
    return Opened(request_id)


def _reopen(
    transaction: Transaction, intent: Intent, at: int, held: Holder
) -> None:
    """Let an approved or abandoned request be signed."""
    request = intent.request
    tenant_id = request.key.tenant_id
    number, _, _, former_serial = held
    if former_serial is not None:
        # The row keeps the serial; a new one goes on with the request.
        transaction.execute(_PUT_ASIDE, (tenant_id, number))
        continued = transaction.execute(_CONTINUE, (tenant_id, number))
        number = continued.lastrowid or 0
    transaction.execute(
        _REOPEN,
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
            request.revocation_verifier,
            *_intent_values(intent, at),
            tenant_id,
            number,
        ),
    )


def _intent_values(intent: Intent, at: int) -> Row:
    """
    Return what the row of an open request says of the intent.

    Of the TBSCertificate, its digest: nobody signs it after a crash.
    """
    return (
        intent.id,
        intent.authority,
        intent.serial,
        intent.owner,
        sha256(intent.tbs).digest(),
        intent.secret_id,
        micros(intent.not_before),
        micros(intent.not_after),
        at,
    )


# --- certificates -----------------------------------------------------------

_ISSUE = """
UPDATE requests SET state = 'issued', status = 'valid', issued_at = ?,
    der = ?, confirm_by = ?
WHERE serial = ? AND authority = ? AND tenant_id = ? AND intent = ?
    AND state = 'open'
RETURNING number, id
"""

_ADD_NAME = """
INSERT INTO certificate_names (tenant_id, value, certificate)
VALUES (?, ?, ?)
"""


def record_certificate(
    transaction: Transaction,
    intent: Intent,
    certificate: bytes,
    now: datetime,
) -> CertificateRecord:
    """Commit the signed certificate."""
    request, at = intent.request, micros(now)
    key = request.key
    tenant_id = key.tenant_id
    issued = transaction.execute(
        _ISSUE,
        (
            at,
            certificate,
            micros_or_none(intent.confirm_by),
            intent.serial,
            intent.authority,
            tenant_id,
            intent.id,
        ),
    ).fetchall()
    if not issued:
        raise Stale("the issuance was given up before it was completed")
    ((number, request_id),) = issued
    for term in search_terms(request.subject, request.names):
        transaction.execute(_ADD_NAME, (tenant_id, term, number))
    transaction.audit(
        tenant_id,
        now,
        "certificate.issued",
        key.principal,
        issued_facts(intent, certificate, request_id),
    )
    return issued_record(intent, certificate, now)


# --- intents that come to nothing -------------------------------------------

_ABANDON = """
UPDATE requests SET state = 'abandoned', revoked_at = promised_at,
    changed_at = ?
WHERE serial = ? AND authority = ? AND tenant_id = ? AND intent = ?
    AND state = 'open'
RETURNING id, owner
"""

# The two statements that look into all tenants: they retire what an ended
# process has left behind, in whichever tenant.
_OWNERS_OF_OPEN = "SELECT DISTINCT owner FROM requests WHERE state = 'open'"

_OPEN_OF_OWNER = """
SELECT tenant_id, intent, authority, serial
FROM requests INDEXED BY requests_open
WHERE state = 'open' AND owner = ? ORDER BY number
"""


def abandon_intent(
    transaction: Transaction, intent: Intent, reason: str, now: datetime
) -> None:
    """Retire an open intent; whatever else it is, it stays."""
    _abandon(
        transaction,
        intent.request.key.tenant_id,
        intent.id,
        intent.authority,
        intent.serial,
        reason,
        now,
    )


def _abandon(
    transaction: Transaction,
    tenant_id: str,
    intent_id: str,
    authority: str,
    serial: str,
    reason: str,
    now: datetime,
) -> None:
    """Retire the intent, if it is open, and free its request."""
    changed_at = next_change(transaction, authority, now)
    ended = transaction.execute(
        _ABANDON, (changed_at, serial, authority, tenant_id, intent_id)
    ).fetchall()
    for request_id, owner in ended:
        transaction.audit(
            tenant_id,
            now,
            "intent.abandoned",
            STORE_ACTOR,
            abandoned_facts(request_id, authority, serial, owner, reason),
        )


def retire_orphans(
    transaction: Transaction,
    now: datetime,
    has_ended: Callable[[str], bool | None],
) -> int:
    """
    Retire every open intent whose owner is gone.

    :param has_ended: whether the owner's process has ended, or ``None`` if
        that cannot be seen.
    """
    count = 0
    owners = transaction.execute(_OWNERS_OF_OPEN).fetchall()
    for (owner,) in owners:
        if not _is_gone(transaction, owner, micros(now), has_ended(owner)):
            continue
        rows = transaction.execute(_OPEN_OF_OWNER, (owner,)).fetchall()
        for tenant_id, intent_id, authority, serial in rows:
            _abandon(
                transaction,
                tenant_id,
                intent_id,
                authority,
                serial,
                "its owner is gone",
                now,
            )
        count += len(rows)
    transaction.execute(_DROP_LEASES, (micros(now),))
    return count


def _is_gone(
    transaction: Transaction, owner: str, now: int, ended: bool | None
) -> bool:
    """Judge by lease and process; without either, nobody lives there."""
    lease = transaction.execute(_READ_LEASE, (owner,)).fetchone()
    if lease is None:
        return ended is not False
    return lease[0] <= now or ended is True


# --- leases: of processes, hence of no tenant -------------------------------

_READ_LEASE = "SELECT until FROM leases WHERE owner = ?"
_DROP_LEASES = "DELETE FROM leases WHERE until <= ?"
_DROP_LEASE = "DELETE FROM leases WHERE owner = ?"
_RENEW_LEASE = """
INSERT INTO leases (owner, until) VALUES (?, ?)
ON CONFLICT (owner) DO UPDATE SET until = excluded.until
"""


def renew_lease(transaction: Transaction, owner: str, until: datetime) -> None:
    """Declare that the owner lives until then."""
    transaction.execute(_RENEW_LEASE, (owner, micros(until)))


def release_lease(transaction: Transaction, owner: str) -> None:
    """Declare that the owner has ended."""
    transaction.execute(_DROP_LEASE, (owner,))


def check(transaction: Transaction) -> None:
    """Write something, and take it back."""
    transaction.execute(_RENEW_LEASE, ("", 0))
    transaction.execute(_DROP_LEASE, ("",))
