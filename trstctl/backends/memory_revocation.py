# SPDX-License-Identifier: MIT
"""
The memory store's revocations, by certificate and by serial, and the CRLs.

See :mod:`trstctl.backends.memory_tables` for how the functions work.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import evolve

from trstctl.backends.memory_tables import Promise, Tables
from trstctl.backends.records import (
    published_facts,
    released,
    released_facts,
    revoked,
    revoked_facts,
    superseded,
    superseded_facts,
)
from trstctl.errors import (
    Stale,
    UnknownCertificate,
)
from trstctl.model import (
    SYSTEM_TENANT,
    CertificateRecord,
    CertificateStatus,
    RevocationQuery,
    SerialStatus,
    StoredCRL,
)


def revoke_certificate(
    tables: Tables,
    tenant_id: str,
    serial: str,
    reason: str,
    actor: str,
    now: datetime,
) -> CertificateRecord:
    """Revoke, unless that has been done."""
    record = tables.certificates.get((tenant_id, serial))
    if record is None:
        raise UnknownCertificate
    changed = revoked(record, reason, now)
    if changed is not record:
        _replace(tables, changed, now)
        facts = revoked_facts(changed)
        tables.audit(tenant_id, now, "certificate.revoked", actor, facts)
    return changed


def release_certificate(
    tables: Tables, tenant_id: str, serial: str, actor: str, now: datetime
) -> CertificateRecord:
    """Take a certificate off hold."""
    record = tables.certificates.get((tenant_id, serial))
    if record is None:
        raise UnknownCertificate
    changed = released(record)
    if changed is not record:
        _replace(tables, changed, now)
        event = "certificate.released"
        facts = released_facts(changed)
        tables.audit(tenant_id, now, event, actor, facts)
    return changed


def supersede_certificate(
    tables: Tables,
    tenant_id: str,
    serial: str,
    by: str,
    actor: str,
    now: datetime,
) -> CertificateRecord:
    """Record that another certificate has taken its place."""
    record = tables.certificates.get((tenant_id, serial))
    if record is None or (tenant_id, by) not in tables.certificates:
        raise UnknownCertificate
    changed = superseded(record, by)
    if changed is not record:
        tables.certificates[tenant_id, serial] = changed
        event = "certificate.superseded"
        facts = superseded_facts(changed)
        tables.audit(tenant_id, now, event, actor, facts)
    return changed


def _replace(tables: Tables, record: CertificateRecord, now: datetime) -> None:
    """Write a certificate that was revoked or released."""
    tables.certificates[record.tenant_id, record.serial] = record
    promise = change_status(
        tables,
        record.authority,
        record.serial,
        now,
        record.revoked_at,
        record.revocation_reason,
    )
    tables.requests[promise.request_id] = evolve(
        tables.requests[promise.request_id],
        revoked=record.status is CertificateStatus.REVOKED,
    )


def change_status(
    tables: Tables,
    authority: str,
    serial: str,
    now: datetime,
    revoked_at: datetime | None,
    reason: str,
) -> Promise:
    """Change what is true of a serial, later than all changes before."""
    at = now
    if (last := tables.changed.get(authority)) is not None:
        at = max(now, last + timedelta(microseconds=1))
    promise = tables.promises[authority, serial]
    former = promise.status
    promise = evolve(
        promise,
        status=SerialStatus(
            serial,
            former.not_after,
            revoked_at,
            reason,
            former.released_at if revoked_at is not None else now,
        ),
        changed_at=at,
    )
    tables.changed[authority] = at
    tables.promises[authority, serial] = promise
    return promise


def last_revocation(tables: Tables, authority: str) -> datetime | None:
    """Return when a serial was last revoked, abandoned or released."""
    return tables.changed.get(authority)


def find_status(
    tables: Tables, authority: str, serial: str
) -> SerialStatus | None:
    """Return the status of a serial."""
    promise = tables.promises.get((authority, serial))
    return None if promise is None else promise.status


def list_revoked(
    tables: Tables, query: RevocationQuery
) -> Sequence[SerialStatus]:
    """Return revoked serials, the least first."""
    since = query.changed_since
    found = [
        promise.status
        for (authority, serial), promise in sorted(tables.promises.items())
        if authority == query.authority
        and query.first <= serial < query.end
        and promise.status.not_after > query.not_after
        and promise.changed_at is not None
        and (
            promise.status.revoked_at is not None
            if since is None
            else promise.changed_at >= since
        )
    ]
    return found[: query.limit]


def next_crl_number(tables: Tables, authority: str) -> int:
    """Return a CRLNumber that nobody got before."""
    number = tables.crl_numbers.get(authority, 0) + 1
    tables.crl_numbers[authority] = number
    return number


def save_crl(tables: Tables, crl: StoredCRL, actor: str) -> None:
    """Keep a CRL in place of its scope's last one."""
    place = (crl.authority, crl.scope)
    former = tables.crls.get(place)
    if former is not None and former.number >= crl.number:
        raise Stale("a newer CRL has been published")
    tables.crls[place] = crl
    tables.crl_numbers[crl.authority] = max(
        crl.number, tables.crl_numbers.get(crl.authority, 0)
    )
    tables.audit(
        SYSTEM_TENANT,
        crl.this_update,
        "crl.published",
        actor,
        published_facts(crl),
    )


def find_crl(
    tables: Tables, authority: str, scope: str, unless: int
) -> StoredCRL | None:
    """Return the CRL of a scope, unless its number is known."""
    crl = tables.crls.get((authority, scope))
    return None if crl is None or crl.number == unless else crl


def crl_scopes(tables: Tables, authority: str) -> Sequence[str]:
    """Return every scope that was ever published."""
    return sorted(scope for name, scope in tables.crls if name == authority)
