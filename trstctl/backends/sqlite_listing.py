# SPDX-License-Identifier: MIT
"""
The SQLite store's listings of certificates, and their counts.

There is one statement for each index; the other conditions filter what comes
out of it, most of them without a look at the row.  All page by position, not
by offset: a page begins behind the certificate that the last one ended with.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from trstctl.backends.sqlite_rows import (
    certificate_record,
    micros,
    micros_or_none,
)
from trstctl.errors import UnknownCertificate
from trstctl.model import (
    CertificateQuery,
    CertificateRecord,
    CertificateStatus,
)

_LATEST = 2**63 - 1

_BY_ISSUE = """
SELECT tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x''
FROM requests
WHERE tenant_id = :tenant_id AND status IS NOT NULL
    AND (:status IS NULL OR status = :status)
    AND (:profile IS NULL OR profile = :profile)
    AND (:protocol IS NULL OR protocol = :protocol)
    AND (:principal IS NULL OR principal = :principal)
    AND (:public_key IS NULL
        OR public_key_fingerprint = :public_key)
    AND (:name IS NULL OR EXISTS (
        SELECT 1 FROM certificate_names n
        WHERE n.tenant_id = requests.tenant_id AND n.value = :name
            AND n.certificate = requests.number
    ))
    AND (issued_at, number) < (:at, :number)
ORDER BY issued_at DESC, number DESC LIMIT :limit
"""

_BY_EXPIRY = """
SELECT tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x''
FROM requests
WHERE tenant_id = :tenant_id AND status IS NOT NULL
    AND status = 'valid' AND not_after < :before
    AND (:status IS NULL OR status = :status)
    AND (:profile IS NULL OR profile = :profile)
    AND (:protocol IS NULL OR protocol = :protocol)
    AND (:principal IS NULL OR principal = :principal)
    AND (:public_key IS NULL
        OR public_key_fingerprint = :public_key)
    AND (:name IS NULL OR EXISTS (
        SELECT 1 FROM certificate_names n
        WHERE n.tenant_id = requests.tenant_id AND n.value = :name
            AND n.certificate = requests.number
    ))
    AND (not_after, number) > (:at, :number)
ORDER BY not_after, number LIMIT :limit
"""

_BY_STATUS = """
SELECT tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x''
FROM requests
WHERE tenant_id = :tenant_id AND status IS NOT NULL
    AND status = :status AND status <> 'valid'
    AND (:profile IS NULL OR profile = :profile)
    AND (:protocol IS NULL OR protocol = :protocol)
    AND (:principal IS NULL OR principal = :principal)
    AND (:public_key IS NULL
        OR public_key_fingerprint = :public_key)
    AND (:name IS NULL OR EXISTS (
        SELECT 1 FROM certificate_names n
        WHERE n.tenant_id = requests.tenant_id AND n.value = :name
            AND n.certificate = requests.number
    ))
    AND (issued_at, number) < (:at, :number)
ORDER BY issued_at DESC, number DESC LIMIT :limit
"""

_BY_NAME = """
SELECT tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x''
FROM requests
WHERE tenant_id = :tenant_id AND status IS NOT NULL
    AND number IN (
        SELECT n.certificate FROM certificate_names n
        WHERE n.tenant_id = :tenant_id AND n.value = :name
    )
    AND (:status IS NULL OR status = :status)
    AND (:profile IS NULL OR profile = :profile)
    AND (:protocol IS NULL OR protocol = :protocol)
    AND (:principal IS NULL OR principal = :principal)
    AND (:public_key IS NULL
        OR public_key_fingerprint = :public_key)
    AND (issued_at, number) < (:at, :number)
ORDER BY issued_at DESC, number DESC LIMIT :limit
"""


_POSITION = """
SELECT issued_at, not_after, number FROM requests
WHERE serial = ? AND tenant_id = ? AND status IS NOT NULL
"""

_COUNTS = """
SELECT
    (SELECT count(*) FROM requests
     WHERE tenant_id = :tenant_id AND status = 'valid' AND not_after > :now),
    (SELECT count(*) FROM requests
     WHERE tenant_id = :tenant_id AND status = 'revoked'
        AND status <> 'valid'),
    (SELECT count(*) FROM requests
     WHERE tenant_id = :tenant_id AND status = 'valid' AND not_after <= :now),
    (SELECT count(*) FROM requests
     WHERE tenant_id = :tenant_id AND status = 'valid' AND not_after > :now
        AND not_after <= :in_7d),
    (SELECT count(*) FROM requests
     WHERE tenant_id = :tenant_id AND status = 'valid' AND not_after > :now
        AND not_after <= :in_30d),
    (SELECT count(*) FROM requests
     WHERE tenant_id = :tenant_id AND state = 'held'
        AND state NOT IN ('open', 'issued'))
"""


def _statement(query: CertificateQuery) -> str:
    """Return the statement whose index leaves the fewest rows to filter."""
    if query.expiring_before is not None:
        return _BY_EXPIRY
    if query.name is not None:
        return _BY_NAME
    if query.status not in {None, CertificateStatus.VALID}:
        return _BY_STATUS
    return _BY_ISSUE


def list_certificates(
    connection: sqlite3.Connection, query: CertificateQuery
) -> Sequence[CertificateRecord]:
    """Return certificates without DER, in the order of the statement."""
    by_expiry = query.expiring_before is not None
    at, number = (-_LATEST, 0) if by_expiry else (_LATEST, _LATEST)
    if query.after is not None:
        row = connection.execute(
            _POSITION, (query.after, query.tenant_id)
        ).fetchone()
        if row is None:
            raise UnknownCertificate
        issued_at, not_after, number = row
        at = not_after if by_expiry else issued_at
    rows = connection.execute(
        _statement(query),
        {
            "tenant_id": query.tenant_id,
            "status": query.status and query.status.value,
            "profile": query.profile,
            "protocol": query.protocol,
            "principal": query.principal,
            "public_key": query.public_key_fingerprint,
            "name": query.name,
            "before": micros_or_none(query.expiring_before),
            "at": at,
            "number": number,
            "limit": query.limit,
        },
    )
    return [certificate_record(row) for row in rows]


def count_certificates(
    connection: sqlite3.Connection, tenant_id: str, now: datetime
) -> Mapping[str, int]:
    """Return the counts that the interface names."""
    row = connection.execute(
        _COUNTS,
        {
            "tenant_id": tenant_id,
            "now": micros(now),
            "in_7d": micros(now + timedelta(days=7)),
            "in_30d": micros(now + timedelta(days=30)),
        },
    ).fetchone()
    names = (
        "valid",
        "revoked",
        "expired",
        "expiring_7d",
        "expiring_30d",
        "held_requests",
    )
    return dict(zip(names, row, strict=True))
