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

#: From how many certificates on a principal's are rather found by walking
#: through all than by sorting its own.
FEW = 5000

_BY_ISSUE = """
SELECT r.tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x'', superseded_by,
    confirm_by
FROM requests r INDEXED BY certificates_by_issue
WHERE r.tenant_id = :tenant_id AND status IS NOT NULL
    AND (:profile IS NULL OR profile = :profile)
    AND (:protocol IS NULL OR protocol = :protocol)
    AND (:principal IS NULL OR principal = :principal)
    AND (:status IS NULL OR status = :status)
    AND (issued_at, r.number) < (:at, :number)
ORDER BY issued_at DESC, r.number DESC LIMIT :limit
"""

_BY_PROFILE = """
SELECT r.tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x'', superseded_by,
    confirm_by
FROM requests r INDEXED BY certificates_by_profile
WHERE r.tenant_id = :tenant_id AND status IS NOT NULL
    AND profile = :profile
    AND (:status IS NULL OR status = :status)
    AND (issued_at, r.number) < (:at, :number)
ORDER BY issued_at DESC, r.number DESC LIMIT :limit
"""

_BY_PROTOCOL = """
SELECT r.tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x'', superseded_by,
    confirm_by
FROM requests r INDEXED BY certificates_by_protocol
WHERE r.tenant_id = :tenant_id AND status IS NOT NULL
    AND protocol = :protocol
    AND (:profile IS NULL OR profile = :profile)
    AND (:status IS NULL OR status = :status)
    AND (issued_at, r.number) < (:at, :number)
ORDER BY issued_at DESC, r.number DESC LIMIT :limit
"""

_BY_STATUS = """
SELECT r.tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x'', superseded_by,
    confirm_by
FROM requests r INDEXED BY certificates_by_status
WHERE r.tenant_id = :tenant_id AND status IS NOT NULL
    AND status = :status AND status <> 'valid'
    AND (:profile IS NULL OR profile = :profile)
    AND (:protocol IS NULL OR protocol = :protocol)
    AND (:principal IS NULL OR principal = :principal)
    AND (issued_at, r.number) < (:at, :number)
ORDER BY issued_at DESC, r.number DESC LIMIT :limit
"""

_BY_PRINCIPAL = """
SELECT r.tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x'', superseded_by,
    confirm_by
FROM (
    SELECT number FROM requests INDEXED BY requests_by_key
    WHERE tenant_id = :tenant_id AND principal = :principal AND holds_key = 1
    UNION ALL
    SELECT number FROM requests INDEXED BY requests_without_key
    WHERE tenant_id = :tenant_id AND principal = :principal AND holds_key = 0
) own CROSS JOIN requests r ON r.number = own.number
WHERE r.tenant_id = :tenant_id AND status IS NOT NULL
    AND (:status IS NULL OR status = :status)
    AND (:profile IS NULL OR profile = :profile)
    AND (:protocol IS NULL OR protocol = :protocol)
    AND (issued_at, r.number) < (:at, :number)
ORDER BY issued_at DESC, r.number DESC LIMIT :limit
"""

# The plus keeps SQLite from putting the value into the expression above it,
# which would then no longer be the index's.
_BY_KEY = """
SELECT r.tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x'', superseded_by,
    confirm_by
FROM requests r INDEXED BY certificates_by_key
WHERE r.tenant_id = :tenant_id AND status IS NOT NULL
    AND substr(public_key_fingerprint, 1, 8) = substr(:public_key, 1, 8)
    AND +public_key_fingerprint = :public_key
    AND (:status IS NULL OR status = :status)
    AND (:profile IS NULL OR profile = :profile)
    AND (:protocol IS NULL OR protocol = :protocol)
    AND (:principal IS NULL OR principal = :principal)
    AND (issued_at, r.number) < (:at, :number)
ORDER BY issued_at DESC, r.number DESC LIMIT :limit
"""

_BY_NAME = """
SELECT r.tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x'', superseded_by,
    confirm_by
FROM certificate_names n CROSS JOIN requests r ON r.number = n.certificate
WHERE r.tenant_id = :tenant_id AND status IS NOT NULL
    AND n.tenant_id = :tenant_id AND n.value = :name
    AND (:public_key IS NULL
        OR public_key_fingerprint = :public_key)
    AND (:status IS NULL OR status = :status)
    AND (:profile IS NULL OR profile = :profile)
    AND (:protocol IS NULL OR protocol = :protocol)
    AND (:principal IS NULL OR principal = :principal)
    AND (issued_at, r.number) < (:at, :number)
ORDER BY issued_at DESC, r.number DESC LIMIT :limit
"""

_EXPIRING = """
SELECT r.tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x'', superseded_by,
    confirm_by
FROM requests r INDEXED BY certificates_by_expiry
WHERE r.tenant_id = :tenant_id AND status = 'valid'
    AND (:profile IS NULL OR profile = :profile)
    AND (:protocol IS NULL OR protocol = :protocol)
    AND (:principal IS NULL OR principal = :principal)
    AND not_after < :before AND not_after >= :since
    AND (not_after, r.number) > (:at, :number)
ORDER BY not_after, r.number LIMIT :limit
"""

_EXPIRING_BY_PRINCIPAL = """
SELECT r.tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x'', superseded_by,
    confirm_by
FROM (
    SELECT number FROM requests INDEXED BY requests_by_key
    WHERE tenant_id = :tenant_id AND principal = :principal AND holds_key = 1
    UNION ALL
    SELECT number FROM requests INDEXED BY requests_without_key
    WHERE tenant_id = :tenant_id AND principal = :principal AND holds_key = 0
) own CROSS JOIN requests r ON r.number = own.number
WHERE r.tenant_id = :tenant_id AND status = 'valid' AND status IS NOT NULL
    AND (:profile IS NULL OR profile = :profile)
    AND (:protocol IS NULL OR protocol = :protocol)
    AND not_after < :before AND not_after >= :since
    AND (not_after, r.number) > (:at, :number)
ORDER BY not_after, r.number LIMIT :limit
"""

_EXPIRING_BY_KEY = """
SELECT r.tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x'', superseded_by,
    confirm_by
FROM requests r INDEXED BY certificates_by_key
WHERE r.tenant_id = :tenant_id AND status = 'valid' AND status IS NOT NULL
    AND substr(public_key_fingerprint, 1, 8) = substr(:public_key, 1, 8)
    AND +public_key_fingerprint = :public_key
    AND (:profile IS NULL OR profile = :profile)
    AND (:protocol IS NULL OR protocol = :protocol)
    AND (:principal IS NULL OR principal = :principal)
    AND not_after < :before AND not_after >= :since
    AND (not_after, r.number) > (:at, :number)
ORDER BY not_after, r.number LIMIT :limit
"""

_EXPIRING_BY_NAME = """
SELECT r.tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, x'', superseded_by,
    confirm_by
FROM certificate_names n CROSS JOIN requests r ON r.number = n.certificate
WHERE r.tenant_id = :tenant_id AND status = 'valid' AND status IS NOT NULL
    AND n.tenant_id = :tenant_id AND n.value = :name
    AND (:public_key IS NULL
        OR public_key_fingerprint = :public_key)
    AND (:profile IS NULL OR profile = :profile)
    AND (:protocol IS NULL OR protocol = :protocol)
    AND (:principal IS NULL OR principal = :principal)
    AND not_after < :before AND not_after >= :since
    AND (not_after, r.number) > (:at, :number)
ORDER BY not_after, r.number LIMIT :limit
"""

_COUNT_OF_PRINCIPAL = """
SELECT count(*) FROM (
    SELECT 1 FROM requests INDEXED BY requests_by_key
    WHERE tenant_id = :tenant_id AND principal = :principal AND holds_key = 1
    UNION ALL
    SELECT 1 FROM requests INDEXED BY requests_without_key
    WHERE tenant_id = :tenant_id AND principal = :principal AND holds_key = 0
    LIMIT :limit
)
"""

_POSITION = """
SELECT issued_at, not_after, number
FROM requests INDEXED BY requests_by_serial
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


def _statement(connection: sqlite3.Connection, query: CertificateQuery) -> str:
    """Return the statement whose index leaves the fewest rows to filter."""
    by_expiry = query.expiring_before is not None
    if query.name is not None:
        return _EXPIRING_BY_NAME if by_expiry else _BY_NAME
    if query.public_key_fingerprint is not None:
        return _EXPIRING_BY_KEY if by_expiry else _BY_KEY
    if _has_few(connection, query):
        return _EXPIRING_BY_PRINCIPAL if by_expiry else _BY_PRINCIPAL
    if by_expiry:
        return _EXPIRING
    if query.status not in {None, CertificateStatus.VALID}:
        return _BY_STATUS
    if query.principal is not None:
        return _BY_ISSUE
    if query.protocol is not None:
        return _BY_PROTOCOL
    return _BY_ISSUE if query.profile is None else _BY_PROFILE


def _has_few(connection: sqlite3.Connection, query: CertificateQuery) -> bool:
    """Tell whether a principal has so few that all may be looked at."""
    if query.principal is None:
        return False
    values = {
        "tenant_id": query.tenant_id,
        "principal": query.principal,
        "limit": FEW,
    }
    ((count,),) = connection.execute(_COUNT_OF_PRINCIPAL, values)
    return int(count) < FEW


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
    if by_expiry and query.status not in {None, CertificateStatus.VALID}:
        return []
    since = query.expiring_after
    rows = connection.execute(
        _statement(connection, query),
        {
            "tenant_id": query.tenant_id,
            "status": query.status and query.status.value,
            "profile": query.profile,
            "protocol": query.protocol,
            "principal": query.principal,
            "public_key": query.public_key_fingerprint,
            "name": query.name,
            "before": micros_or_none(query.expiring_before),
            "since": -_LATEST if since is None else micros(since),
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
