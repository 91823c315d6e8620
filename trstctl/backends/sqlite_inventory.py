# SPDX-License-Identifier: MIT
"""
The SQLite store's single certificates, credentials, secrets and audit.

See :mod:`trstctl.backends.sqlite_requests` for how the functions work.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from attrs import evolve

from trstctl.backends.records import credential_facts, secret_facts
from trstctl.backends.sqlite_rows import (
    audit_record,
    certificate_record,
    credential_record,
    list_text,
    micros,
    micros_or_none,
    one_time_secret,
)
from trstctl.backends.sqlite_transaction import Transaction
from trstctl.errors import Conflict, UnknownCertificate
from trstctl.model import (
    AuditEvent,
    AuditRecord,
    CertificateRecord,
    CredentialRecord,
    OneTimeSecret,
    SecretState,
)

# --- certificates -----------------------------------------------------------

_FIND_CERTIFICATE = """
SELECT tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, der, superseded_by, confirm_by,
    revocation_verifier
FROM requests INDEXED BY requests_by_serial
WHERE serial = ? AND tenant_id = ? AND status IS NOT NULL
"""


def find_certificate(
    connection: sqlite3.Connection | Transaction, tenant_id: str, serial: str
) -> CertificateRecord | None:
    """Return one certificate, with its DER."""
    row = connection.execute(_FIND_CERTIFICATE, (serial, tenant_id)).fetchone()
    return None if row is None else certificate_record(row)


# --- standing credentials ---------------------------------------------------

_FIND_CREDENTIAL = """
SELECT tenant_id, kind, name, verifier, names, profiles, created_at,
    expires_at, revoked_at
FROM credentials WHERE tenant_id = ? AND kind = ? AND name = ?
"""

_LIST_CREDENTIALS = """
SELECT tenant_id, kind, name, verifier, names, profiles, created_at,
    expires_at, revoked_at
FROM credentials WHERE tenant_id = ? ORDER BY kind, name
"""

_PUT_CREDENTIAL = """
INSERT OR REPLACE INTO credentials (tenant_id, kind, name, verifier, names,
    profiles, created_at, expires_at, revoked_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_REVOKE_CREDENTIAL = """
UPDATE credentials SET revoked_at = ?
WHERE tenant_id = ? AND kind = ? AND name = ?
"""


def find_credential(
    connection: sqlite3.Connection | Transaction,
    tenant_id: str,
    kind: str,
    name: str,
) -> CredentialRecord | None:
    """Return one standing credential, also a revoked one."""
    row = connection.execute(
        _FIND_CREDENTIAL, (tenant_id, kind, name)
    ).fetchone()
    return None if row is None else credential_record(row)


def list_credentials(
    connection: sqlite3.Connection, tenant_id: str
) -> Sequence[CredentialRecord]:
    """Return all standing credentials, by kind and name."""
    rows = connection.execute(_LIST_CREDENTIALS, (tenant_id,))
    return [credential_record(row) for row in rows]


def add_credential(
    transaction: Transaction, record: CredentialRecord, actor: str
) -> None:
    """Add, or replace a revoked one."""
    tenant_id = record.tenant_id
    former = find_credential(transaction, tenant_id, record.kind, record.name)
    if former is not None and former.revoked_at is None:
        raise Conflict("a credential of this kind and name exists")
    transaction.execute(
        _PUT_CREDENTIAL,
        (
            tenant_id,
            record.kind,
            record.name,
            record.verifier,
            list_text(record.names),
            list_text(record.profiles),
            micros(record.created_at),
            micros_or_none(record.expires_at),
            micros_or_none(record.revoked_at),
        ),
    )
    transaction.audit(
        tenant_id,
        record.created_at,
        "credential.added",
        actor,
        credential_facts(record),
    )


def revoke_credential(
    transaction: Transaction,
    tenant_id: str,
    kind: str,
    name: str,
    actor: str,
    now: datetime,
) -> None:
    """Revoke; a credential that is revoked keeps its time."""
    record = find_credential(transaction, tenant_id, kind, name)
    if record is None:
        raise UnknownCertificate("no such credential")
    if record.revoked_at is not None:
        return
    transaction.execute(
        _REVOKE_CREDENTIAL, (micros(now), tenant_id, kind, name)
    )
    transaction.audit(
        tenant_id,
        now,
        "credential.revoked",
        actor,
        {"kind": kind, "name": name},
    )


# --- single-use secrets -----------------------------------------------------

_FIND_ONE_TIME = """
SELECT tenant_id, id, digest, profile, names, created_at, expires_at,
    burnt_at, burns, reserved_until, revoked_at, key_fingerprint, protocol,
    uses, device, subject, alternative_names
FROM secrets WHERE tenant_id = ? AND digest = ?
"""

_FIND_ONE_TIME_BY_ID = """
SELECT tenant_id, id, digest, profile, names, created_at, expires_at,
    burnt_at, burns, reserved_until, revoked_at, key_fingerprint, protocol,
    uses, device, subject, alternative_names
FROM secrets WHERE tenant_id = ? AND id = ?
"""

# The states in the order of OneTimeSecret.state.
_LIST_ONE_TIME = """
SELECT tenant_id, id, digest, profile, names, created_at, expires_at,
    burnt_at, burns, reserved_until, revoked_at, key_fingerprint, protocol,
    uses, device, subject, alternative_names
FROM secrets
WHERE tenant_id = :tenant_id AND id > :after
    AND (:state IS NULL OR :state = CASE
        WHEN revoked_at IS NOT NULL THEN 'revoked'
        WHEN burnt_at IS NOT NULL
            AND (reserved_until IS NULL OR reserved_until > :now) THEN 'burnt'
        WHEN expires_at <= :now THEN 'expired'
        ELSE 'unused'
    END)
ORDER BY id LIMIT :limit
"""

_REVOKE_ONE_TIME = """
UPDATE secrets SET revoked_at = ? WHERE tenant_id = ? AND id = ?
"""

_ADD_ONE_TIME = """
INSERT OR IGNORE INTO secrets (tenant_id, id, digest, profile, names,
    created_at, expires_at, revoked_at, key_fingerprint, protocol, uses,
    device, subject, alternative_names)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def find_secret(
    connection: sqlite3.Connection, tenant_id: str, digest: str
) -> OneTimeSecret | None:
    """Return the single-use secret with this SHA-256."""
    row = connection.execute(_FIND_ONE_TIME, (tenant_id, digest)).fetchone()
    return None if row is None else one_time_secret(row)


def find_secret_by_id(
    connection: sqlite3.Connection | Transaction,
    tenant_id: str,
    secret_id: str,
) -> OneTimeSecret | None:
    """Return the single-use secret with this public id."""
    row = connection.execute(
        _FIND_ONE_TIME_BY_ID, (tenant_id, secret_id)
    ).fetchone()
    return None if row is None else one_time_secret(row)


def add_secrets(
    transaction: Transaction, secrets: Sequence[OneTimeSecret], actor: str
) -> None:
    """Add all, or raise: what was written then is rolled back."""
    for secret in secrets:
        added = transaction.execute(
            _ADD_ONE_TIME,
            (
                secret.tenant_id,
                secret.id,
                secret.digest,
                secret.profile,
                list_text(secret.names),
                micros(secret.created_at),
                micros(secret.expires_at),
                micros_or_none(secret.revoked_at),
                secret.key_fingerprint,
                secret.protocol,
                secret.uses,
                secret.device,
                secret.subject,
                None
                if secret.alternative_names is None
                else list_text(secret.alternative_names),
            ),
        )
        if added.rowcount != 1:
            raise Conflict("a secret with this id or value exists")
        transaction.audit(
            secret.tenant_id,
            secret.created_at,
            "secret.added",
            actor,
            secret_facts(secret),
        )


def list_secrets(
    connection: sqlite3.Connection,
    tenant_id: str,
    state: SecretState | None,
    now: datetime,
    after: str,
    limit: int,
) -> Sequence[OneTimeSecret]:
    """Return single-use secrets by id."""
    rows = connection.execute(
        _LIST_ONE_TIME,
        {
            "tenant_id": tenant_id,
            "state": state and state.value,
            "now": micros(now),
            "after": after,
            "limit": limit,
        },
    )
    return [one_time_secret(row) for row in rows]


def revoke_secret(
    transaction: Transaction,
    tenant_id: str,
    secret_id: str,
    actor: str,
    now: datetime,
) -> OneTimeSecret:
    """Revoke; a secret that is revoked keeps its time."""
    secret = find_secret_by_id(transaction, tenant_id, secret_id)
    if secret is None:
        raise UnknownCertificate("no such single-use secret")
    if secret.revoked_at is not None:
        return secret
    transaction.execute(_REVOKE_ONE_TIME, (micros(now), tenant_id, secret_id))
    transaction.audit(
        tenant_id, now, "secret.revoked", actor, {"secret": secret_id}
    )
    return evolve(secret, revoked_at=now)


# --- audit ------------------------------------------------------------------

_AUDIT_RECORDS = """
SELECT tenant_id, sequence, body, previous, hash FROM audit
WHERE tenant_id = ? AND sequence > ? ORDER BY sequence LIMIT ?
"""

_AUDIT_TENANTS = "SELECT tenant_id FROM audit_heads ORDER BY tenant_id"


def append_audit(
    transaction: Transaction, events: Sequence[AuditEvent]
) -> None:
    """Append to the tenants' chains."""
    for event in events:
        transaction.audit(
            event.tenant_id, event.at, event.event, event.actor, event.fields
        )


def audit_records(
    connection: sqlite3.Connection, tenant_id: str, after: int, limit: int
) -> Sequence[AuditRecord]:
    """Return records with a greater sequence than ``after``."""
    rows = connection.execute(_AUDIT_RECORDS, (tenant_id, after, limit))
    return [audit_record(row) for row in rows]


def audit_tenants(connection: sqlite3.Connection) -> Sequence[str]:
    """Return every tenant that has a chain."""
    return [row[0] for row in connection.execute(_AUDIT_TENANTS)]
