# SPDX-License-Identifier: MIT
"""Requests, intents and certificates that the stores' tests share."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import evolve

from trstctl.model import (
    CredentialRecord,
    GeneralName,
    Intent,
    NewRequest,
    OneTimeSecret,
    RequestKey,
    StoredCRL,
)

TENANT = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
DER = b"a certificate"

_numbers = itertools.count(1)


def digest(text: str) -> str:
    """Return something that looks like a fingerprint."""
    return hashlib.sha256(text.encode()).hexdigest()


def new_request(
    device: str = "one",
    tenant_id: str = TENANT,
    key: str = "k",
    **changes: Any,
) -> NewRequest:
    """Return a request with an id of its own."""
    request = NewRequest(
        id=f"request-{next(_numbers)}",
        key=RequestKey(tenant_id, "est", "basic:device", key),
        fingerprint=digest(device),
        key_expires=NOW + 15 * MINUTE,
        endpoint="",
        operation="enroll",
        profile="device",
        profile_version="v1",
        subject=f"CN={device}.example.com,O=Example\\, Inc.",
        names=(
            GeneralName("dns", f"{device}.example.com"),
            GeneralName("ip", "192.0.2.1"),
        ),
        public_key_fingerprint=digest(f"key of {device}"),
        csr=device.encode(),
        request_id="exchange-1",
        peer="192.0.2.7:50000",
    )
    return evolve(request, **changes)


def new_intent(
    csr: str = "one",
    *,
    request: NewRequest | None = None,
    serial: str | None = None,
    owner: str = "owner-1",
    authority: str = "issuing",
    secret_id: str | None = None,
    not_after: datetime = NOW + 90 * DAY,
    confirm_by: datetime | None = None,
    **changes: Any,
) -> Intent:
    """Return an intent with a serial of its own."""
    number = next(_numbers)
    return Intent(
        id=f"intent-{number}",
        request=request or new_request(csr, **changes),
        owner=owner,
        authority=authority,
        serial=serial or f"{number:040x}",
        tbs=f"tbs {csr}".encode(),
        not_before=NOW - MINUTE,
        not_after=not_after,
        secret_id=secret_id,
        confirm_by=confirm_by,
    )


def new_secret(name: str = "token", **changes: Any) -> OneTimeSecret:
    """Return a secret that lives for an hour."""
    secret = OneTimeSecret(
        tenant_id=TENANT,
        id=name,
        digest=digest(name),
        profile="device",
        names=("dns:*.example.com",),
        created_at=NOW,
        expires_at=NOW + 60 * MINUTE,
    )
    return evolve(secret, **changes)


def new_credential(name: str = "device", **changes: Any) -> CredentialRecord:
    """Return a password that does not expire."""
    record = CredentialRecord(
        tenant_id=TENANT,
        kind="basic",
        name=name,
        verifier="scrypt$...",
        names=("cn:*", "dns:*.example.com"),
        profiles=("device",),
        created_at=NOW,
    )
    return evolve(record, **changes)


def new_crl(scope: str = "", number: int = 1, **changes: Any) -> StoredCRL:
    """Return a CRL that is in force for a day."""
    crl = StoredCRL(
        authority="issuing",
        scope=scope,
        number=number,
        base=0,
        this_update=NOW,
        next_update=NOW + DAY,
        entries=3,
        der=f"CRL {number}".encode(),
    )
    return evolve(crl, **changes)
