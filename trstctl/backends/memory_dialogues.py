# SPDX-License-Identifier: MIT
"""
The memory store's transactions of several messages.

See :mod:`trstctl.backends.memory_tables` for how the functions work.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter

from attrs import evolve

from trstctl.backends.memory_tables import Tables
from trstctl.backends.records import (
    confirmed,
    released_facts,
    too_many_dialogues,
)
from trstctl.errors import (
    Conflict,
    Stale,
    UnknownCertificate,
)
from trstctl.model import (
    CertificateRecord,
    Dialogue,
)


def find_dialogue(
    tables: Tables,
    tenant_id: str,
    protocol: str,
    endpoint: str,
    transaction: str,
    now: datetime,
) -> Dialogue | None:
    """Return a dialogue that has not expired."""
    found = tables.dialogues.get((tenant_id, protocol, endpoint, transaction))
    if found is not None and found.expires_at <= now:
        found = None
    return found


def count_dialogues(
    tables: Tables, tenant_id: str, protocol: str, charged_to: str
) -> int:
    """Return how many dialogues are charged to somebody."""
    return sum(
        (one.tenant_id, one.protocol, one.charged_to)
        == (tenant_id, protocol, charged_to)
        for one in tables.dialogues.values()
    )


def open_dialogue(
    tables: Tables,
    dialogue: Dialogue,
    now: datetime,
    limit: int | None = None,
) -> None:
    """Keep a new dialogue, over what has expired, as if that was purged."""
    found = tables.dialogues.get(_place(dialogue))
    charged = dialogue.tenant_id, dialogue.protocol, dialogue.charged_to
    if limit is not None and count_dialogues(tables, *charged) >= limit:
        raise too_many_dialogues()
    if found is not None and found.expires_at > now:
        raise Conflict("this transaction has been begun before")
    tables.dialogues[_place(dialogue)] = dialogue


def advance_dialogue(tables: Tables, dialogue: Dialogue) -> None:
    """Put a dialogue in place of the one with the same version."""
    found = tables.dialogues.get(_place(dialogue))
    if found is None or found.version != dialogue.version:
        raise Stale("this transaction has gone on since")
    tables.dialogues[_place(dialogue)] = evolve(
        dialogue,
        version=dialogue.version + 1,
        charged_to=found.charged_to,
    )


def purge_dialogues(tables: Tables, now: datetime) -> None:
    """Forget what has expired, of all tenants."""
    tables.dialogues = {
        place: dialogue
        for place, dialogue in tables.dialogues.items()
        if dialogue.expires_at > now
    }


def confirm_certificate(
    tables: Tables, tenant_id: str, serial: str, actor: str, now: datetime
) -> CertificateRecord:
    """Record that the client takes the certificate."""
    record = tables.certificates.get((tenant_id, serial))
    if record is None:
        raise UnknownCertificate
    changed = confirmed(record)
    if changed is not record:
        tables.certificates[tenant_id, serial] = changed
        event = "certificate.confirmed"
        facts = released_facts(changed)
        tables.audit(tenant_id, now, event, actor, facts)
    return changed


def list_unconfirmed(
    tables: Tables, before: datetime, limit: int
) -> Sequence[CertificateRecord]:
    """Return what should have been confirmed, of all tenants."""
    found = [
        (record.confirm_by, evolve(record, der=b"", revocation_verifier=""))
        for record in tables.certificates.values()
        if record.confirm_by is not None and record.confirm_by <= before
    ]
    found.sort(key=itemgetter(0))
    return [record for _, record in found[:limit]]


def _place(dialogue: Dialogue) -> tuple[str, ...]:
    """Return what there is one dialogue of."""
    return (
        dialogue.tenant_id,
        dialogue.protocol,
        dialogue.endpoint,
        dialogue.transaction,
    )
