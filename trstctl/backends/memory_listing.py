# SPDX-License-Identifier: MIT
"""
The memory store's listing of certificates, and their count.

See :mod:`trstctl.backends.memory_tables` for how the functions work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from attrs import evolve

from trstctl.backends.memory_tables import Tables
from trstctl.backends.records import (
    search_terms,
)
from trstctl.errors import (
    UnknownCertificate,
)
from trstctl.model import (
    CertificateQuery,
    CertificateRecord,
    CertificateStatus,
    RequestState,
)


def list_certificates(
    tables: Tables, query: CertificateQuery
) -> Sequence[CertificateRecord]:
    """Return a page of a listing."""
    order = _order(tables, query.expiring_before is not None)
    found = sorted(
        (
            record
            for record in tables.certificates.values()
            if _matches(record, query)
        ),
        key=order,
    )
    if query.after is not None:
        last = tables.certificates.get((query.tenant_id, query.after))
        if last is None:
            raise UnknownCertificate
        found = [row for row in found if order(row) > order(last)]
    return [
        evolve(row, der=b"", revocation_verifier="")
        for row in found[: query.limit]
    ]


def _order(
    tables: Tables, by_expiry: bool
) -> Callable[[CertificateRecord], tuple[float, int]]:
    """Return the sort key of a listing."""

    def order(record: CertificateRecord) -> tuple[float, int]:
        number = tables.promises[record.authority, record.serial].number
        if by_expiry:
            return record.not_after.timestamp(), number
        return -record.issued_at.timestamp(), -number

    return order


def count_certificates(
    tables: Tables, tenant_id: str, now: datetime
) -> Mapping[str, int]:
    """Return counts."""
    rows = [
        row
        for row in tables.certificates.values()
        if row.tenant_id == tenant_id
    ]
    left = [
        row.not_after - now
        for row in rows
        if row.status is CertificateStatus.VALID
    ]
    none = timedelta()
    return {
        "valid": sum(none < rest for rest in left),
        "revoked": sum(
            row.status is CertificateStatus.REVOKED for row in rows
        ),
        "expired": sum(rest <= none for rest in left),
        "expiring_7d": sum(none < rest <= timedelta(days=7) for rest in left),
        "expiring_30d": sum(
            none < rest <= timedelta(days=30) for rest in left
        ),
        "held_requests": sum(
            row.key.tenant_id == tenant_id and row.state is RequestState.HELD
            for row in tables.requests.values()
        ),
    }


def _matches(record: CertificateRecord, query: CertificateQuery) -> bool:
    """Tell whether the certificate meets every condition of the query."""
    if query.expiring_before is not None and (
        record.status is not CertificateStatus.VALID
        or record.not_after >= query.expiring_before
        or (
            query.expiring_after is not None
            and record.not_after < query.expiring_after
        )
    ):
        return False
    if query.name is not None and query.name not in search_terms(
        record.subject, record.names
    ):
        return False
    return record.tenant_id == query.tenant_id and all(
        wanted is None or wanted == actual
        for wanted, actual in (
            (query.status, record.status),
            (query.profile, record.profile),
            (query.protocol, record.protocol),
            (query.principal, record.principal),
            (query.public_key_fingerprint, record.public_key_fingerprint),
        )
    )
