# SPDX-License-Identifier: MIT
"""
The memory store's single certificates, credentials, secrets and audit.

See :mod:`trstctl.backends.memory_tables` for how the functions work.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attrs import evolve

from trstctl.backends.memory_tables import Tables
from trstctl.backends.records import (
    credential_facts,
    secret_facts,
)
from trstctl.errors import (
    Conflict,
    UnknownCertificate,
)
from trstctl.model import (
    AuditEvent,
    AuditRecord,
    CertificateRecord,
    CredentialRecord,
    OneTimeSecret,
    SecretState,
)


def find_certificate(
    tables: Tables, tenant_id: str, serial: str
) -> CertificateRecord | None:
    """Return one certificate, with its DER."""
    return tables.certificates.get((tenant_id, serial))


def find_credential(
    tables: Tables, tenant_id: str, kind: str, name: str
) -> CredentialRecord | None:
    """Return one standing credential, also a revoked one."""
    return tables.credentials.get((tenant_id, kind, name))


def list_credentials(
    tables: Tables, tenant_id: str
) -> Sequence[CredentialRecord]:
    """Return all standing credentials, by kind and name."""
    return [
        record
        for place, record in sorted(tables.credentials.items())
        if place[0] == tenant_id
    ]


def add_credential(
    tables: Tables, record: CredentialRecord, actor: str
) -> None:
    """Add, or replace a revoked one."""
    place = (record.tenant_id, record.kind, record.name)
    former = tables.credentials.get(place)
    if former is not None and former.revoked_at is None:
        raise Conflict("a credential of this kind and name exists")
    tables.credentials[place] = record
    tables.audit(
        record.tenant_id,
        record.created_at,
        "credential.added",
        actor,
        credential_facts(record),
    )


def revoke_credential(
    tables: Tables,
    tenant_id: str,
    kind: str,
    name: str,
    actor: str,
    now: datetime,
) -> None:
    """Revoke."""
    record = tables.credentials.get((tenant_id, kind, name))
    if record is None:
        raise UnknownCertificate("no such credential")
    if record.revoked_at is not None:
        return
    tables.credentials[tenant_id, kind, name] = evolve(record, revoked_at=now)
    tables.audit(
        tenant_id,
        now,
        "credential.revoked",
        actor,
        {"kind": kind, "name": name},
    )


def find_secret(
    tables: Tables, tenant_id: str, digest: str
) -> OneTimeSecret | None:
    """Return the single-use secret with this SHA-256."""
    return next(
        (
            secret
            for secret in tables.secrets.values()
            if (secret.tenant_id, secret.digest) == (tenant_id, digest)
        ),
        None,
    )


def find_secret_by_id(
    tables: Tables, tenant_id: str, secret_id: str
) -> OneTimeSecret | None:
    """Return the single-use secret with this public id."""
    return tables.secrets.get((tenant_id, secret_id))


def add_secrets(
    tables: Tables, secrets: Sequence[OneTimeSecret], actor: str
) -> None:
    """Add all or none."""
    ids = set(tables.secrets)
    digests = {(s.tenant_id, s.digest) for s in tables.secrets.values()}
    for secret in secrets:
        place = (secret.tenant_id, secret.id)
        mark = (secret.tenant_id, secret.digest)
        if place in ids or mark in digests:
            raise Conflict("a secret with this id or value exists")
        ids.add(place)
        digests.add(mark)
    for secret in secrets:
        tables.secrets[secret.tenant_id, secret.id] = secret
        tables.audit(
            secret.tenant_id,
            secret.created_at,
            "secret.added",
            actor,
            secret_facts(secret),
        )


def list_secrets(
    tables: Tables,
    tenant_id: str,
    state: SecretState | None,
    now: datetime,
    after: str,
    limit: int,
) -> Sequence[OneTimeSecret]:
    """Return single-use secrets by id."""
    found = [
        secret
        for place, secret in sorted(tables.secrets.items())
        if place[0] == tenant_id
        and secret.id > after
        and state in {None, secret.state(now)}
    ]
    return found[:limit]


def revoke_secret(
    tables: Tables, tenant_id: str, secret_id: str, actor: str, now: datetime
) -> OneTimeSecret:
    """Revoke."""
    secret = tables.secrets.get((tenant_id, secret_id))
    if secret is None:
        raise UnknownCertificate("no such single-use secret")
    if secret.revoked_at is not None:
        return secret
    revoked = evolve(secret, revoked_at=now)
    tables.secrets[tenant_id, secret_id] = revoked
    facts = {"secret": secret_id}
    tables.audit(tenant_id, now, "secret.revoked", actor, facts)
    return revoked


def append_audit(tables: Tables, events: Sequence[AuditEvent]) -> None:
    """Append to the tenants' chains."""
    for event in events:
        tables.audit(
            event.tenant_id, event.at, event.event, event.actor, event.fields
        )


def audit_records(
    tables: Tables, tenant_id: str, after: int, limit: int
) -> Sequence[AuditRecord]:
    """Return records with a greater sequence than ``after``."""
    chain = tables.chains.get(tenant_id, [])
    return chain[after : after + limit]


def audit_tenants(tables: Tables) -> Sequence[str]:
    """Return every tenant that has a chain."""
    return sorted(tables.chains)
