# SPDX-License-Identifier: MIT
"""
Rows of the SQLite database, from and to the frozen values of the model.

Each function that reads a row names the columns in the order in which its
statements select them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring_ascii as _quote
from typing import Any

from trstctl.backends.burns import Burn, Burns
from trstctl.model import (
    AuditRecord,
    CertificateRecord,
    CertificateStatus,
    CredentialRecord,
    GeneralName,
    Generation,
    NewRequest,
    OneTimeSecret,
    Phase,
    RequestKey,
    RequestState,
    SerialStatus,
    StoredCRL,
    StoredRequest,
)
from trstctl.pkix import der

#: A row, as sqlite3 returns it.
Row = tuple[Any, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = json.JSONEncoder(separators=(",", ":")).encode


def micros(at: datetime) -> int:
    """Return a time as microseconds since 1970, exactly."""
    since = at - _EPOCH
    return (
        since.days * 86_400_000_000
        + since.seconds * 1_000_000
        + since.microseconds
    )


def moment(at: int) -> datetime:
    """Return the time that :func:`micros` made a number of."""
    return _EPOCH + timedelta(microseconds=at)


def micros_or_none(at: datetime | None) -> int | None:
    """Return :func:`micros`, if there is a time."""
    return None if at is None else micros(at)


def moment_or_none(at: int | None) -> datetime | None:
    """Return :func:`moment`, if there is a time."""
    return None if at is None else moment(at)


def names_text(names: Sequence[GeneralName]) -> str:
    """Return names as JSON, in order; put together by hand for speed."""
    pairs = [f"[{_quote(n.kind)},{_quote(n.value)}]" for n in names]
    return f"[{','.join(pairs)}]"


def names_from(text: str) -> tuple[GeneralName, ...]:
    """Return the names that :func:`names_text` wrote."""
    return tuple(GeneralName(kind, value) for kind, value in json.loads(text))


def list_text(values: Sequence[str]) -> str:
    """Return texts as JSON, in order."""
    return _encode(list(values))


def list_from(text: str) -> tuple[str, ...]:
    """Return the texts that :func:`list_text` wrote."""
    return () if text == "[]" else tuple(json.loads(text))


def request_values(request: NewRequest, now: int) -> Row:
    """
    Return what a new row of ``requests`` begins with.

    Columns: tenant_id, id, protocol, principal, request_key, fingerprint,
    key_expires, endpoint, operation, profile, profile_version, subject,
    names, public_key_fingerprint, csr, request_id, peer, transaction_id,
    revocation_verifier, created_at.
    """
    key = request.key
    return (
        key.tenant_id,
        request.id,
        key.protocol,
        key.principal,
        key.key,
        request.fingerprint,
        micros(request.key_expires),
        request.endpoint,
        request.operation,
        request.profile,
        request.profile_version,
        request.subject,
        names_text(request.names),
        request.public_key_fingerprint,
        request.csr,
        request.request_id,
        request.peer,
        request.transaction,
        request.revocation_verifier,
        now,
    )


def stored_request(row: Row) -> StoredRequest:
    """
    Return a request.

    Columns: id, tenant_id, protocol, principal, request_key, fingerprint,
    state, endpoint, operation, profile, subject, names,
    public_key_fingerprint, created_at, key_expires, csr, decided_by,
    decided_at, reason, der, serial, not_after, status, transaction_id,
    secret_id, authority, revocation_verifier; the four from der on, and
    authority, count if there is a certificate.
    """
    issued = row[22] is not None
    return StoredRequest(
        id=row[0],
        key=RequestKey(row[1], row[2], row[3], row[4]),
        fingerprint=row[5],
        state=RequestState(row[6]),
        endpoint=row[7],
        operation=row[8],
        profile=row[9],
        subject=row[10],
        names=names_from(row[11]),
        public_key_fingerprint=row[12],
        created_at=moment(row[13]),
        key_expires=moment(row[14]),
        csr=row[15],
        decided_by=row[16],
        decided_at=moment_or_none(row[17]),
        reason=row[18],
        certificate=row[19],
        serial=row[20] if issued else None,
        not_after=moment(row[21]) if issued else None,
        revoked=row[22] == CertificateStatus.REVOKED.value,
        transaction=row[23],
        secret_id=row[24],
        authority=row[25] if issued else "",
        revocation_verifier=row[26],
    )


def certificate_record(row: Row) -> CertificateRecord:
    """
    Return a certificate.

    Columns: tenant_id, authority, serial, subject, names, profile, protocol,
    principal, public_key_fingerprint, not_before, not_after, status,
    issued_at, revoked_at, revocation_reason, der, superseded_by, confirm_by;
    revocation_verifier too, where der is.
    """
    return CertificateRecord(
        tenant_id=row[0],
        authority=row[1],
        serial=row[2],
        subject=row[3],
        names=names_from(row[4]),
        profile=row[5],
        protocol=row[6],
        principal=row[7],
        public_key_fingerprint=row[8],
        not_before=moment(row[9]),
        not_after=moment(row[10]),
        status=CertificateStatus(row[11]),
        issued_at=moment(row[12]),
        revoked_at=moment_or_none(row[13]),
        revocation_reason=row[14],
        der=row[15],
        superseded_by=row[16],
        confirm_by=moment_or_none(row[17]),
        revocation_verifier=row[18] if len(row) > 18 else "",
    )


def serial_status(row: Row) -> SerialStatus:
    """
    Return what is true of a serial.

    Columns: serial, not_after, revoked_at, revocation_reason, released_at.
    """
    return SerialStatus(
        serial=row[0],
        not_after=moment(row[1]),
        revoked_at=moment_or_none(row[2]),
        reason=row[3],
        released_at=moment_or_none(row[4]),
    )


def stored_crl(row: Row) -> StoredCRL:
    """
    Return a CRL.

    Columns: authority, scope, number, base, this_update, next_update,
    entries, der.
    """
    return StoredCRL(
        authority=row[0],
        scope=row[1],
        number=row[2],
        base=row[3],
        this_update=moment(row[4]),
        next_update=moment(row[5]),
        entries=row[6],
        der=row[7],
    )


def generation(row: Row) -> Generation:
    """
    Return a generation of an authority.

    Columns: authority, number, name, phase, chain, old_with_new,
    new_with_old, key, prepared_at, activated_at, stepped_at.
    """
    return Generation(
        authority=row[0],
        number=row[1],
        name=row[2],
        phase=Phase(row[3]),
        chain=tuple(each for _, _, each in der.children(row[4])),
        old_with_new=row[5],
        new_with_old=row[6],
        key=row[7],
        prepared_at=moment(row[8]),
        activated_at=moment_or_none(row[9]),
        stepped_at=moment_or_none(row[10]),
    )


def credential_record(row: Row) -> CredentialRecord:
    """
    Return a standing credential.

    Columns: tenant_id, kind, name, verifier, names, profiles, created_at,
    expires_at, revoked_at.
    """
    return CredentialRecord(
        tenant_id=row[0],
        kind=row[1],
        name=row[2],
        verifier=row[3],
        names=list_from(row[4]),
        profiles=list_from(row[5]),
        created_at=moment(row[6]),
        expires_at=moment_or_none(row[7]),
        revoked_at=moment_or_none(row[8]),
    )


def one_time_secret(row: Row) -> OneTimeSecret:
    """
    Return a single-use secret.

    Columns: tenant_id, id, digest, profile, names, created_at, expires_at,
    burnt_at, burns, reserved_until, revoked_at, key_fingerprint, protocol,
    uses, device, subject, alternative_names.
    """
    burns = burns_from(row[8])
    return OneTimeSecret(
        tenant_id=row[0],
        id=row[1],
        digest=row[2],
        profile=row[3],
        names=list_from(row[4]),
        created_at=moment(row[5]),
        expires_at=moment(row[6]),
        burnt_at=moment_or_none(row[7]),
        burnt_for=burns[-1].public_key if burns else "",
        burnt_request=burns[-1].request if burns else "",
        burnt_keys=tuple(one.public_key for one in burns),
        reserved_until=moment_or_none(row[9]),
        revoked_at=moment_or_none(row[10]),
        key_fingerprint=row[11],
        protocol=row[12],
        uses=row[13],
        device=row[14],
        subject=row[15],
        alternative_names=None if row[16] is None else list_from(row[16]),
    )


def burns_text(burns: Burns) -> str:
    """Return the uses of a secret as JSON, in order; empty for none."""
    if not burns:
        return ""
    return _encode(
        [
            (
                one.public_key,
                one.request,
                one.authority,
                one.serial,
                one.held,
                micros_or_none(one.until),
            )
            for one in burns
        ]
    )


def burns_from(text: str) -> Burns:
    """Return the uses that :func:`burns_text` wrote."""
    if not text:
        return ()
    return tuple(
        Burn(key, request, authority, serial, held, moment_or_none(until))
        for key, request, authority, serial, held, until in json.loads(text)
    )


def audit_record(row: Row) -> AuditRecord:
    """
    Return an audit record.

    Columns: tenant_id, sequence, body, previous, hash.
    """
    return AuditRecord(*row)
