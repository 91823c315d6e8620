# SPDX-License-Identifier: MIT
"""
The audit log's hash chain: its canonical form and how to verify it.

Each tenant has a chain of its own.  A record's body is one line of JSON with
sorted keys (``at``, ``event``, ``actor`` and the event's fields below
``fields``).  Its hash is SHA-256 over the tenant, the sequence number, the
hash before and the body, each preceded by its length, so that no two
different records hash the same bytes.  Deleting, inserting, editing or
swapping records breaks the chain; cutting its tail shows against a head that
was exported earlier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from json.encoder import encode_basestring_ascii as _quote

from attrs import frozen

from trstctl.model import AuditEvent, AuditRecord

#: What the first record of a chain has as the hash before.
GENESIS = "0" * 64


def canonical_body(
    at: datetime, event: str, actor: str, fields: Mapping[str, str]
) -> str:
    """
    Return the canonical JSON of an event: sorted keys, ASCII, one line.

    Put together by hand: each certificate has two records, and a general
    encoder takes three times as long.

    :raises TypeError: a field is not text.
    """
    pairs = [f"{_quote(key)}:{_quote(fields[key])}" for key in sorted(fields)]
    return (
        f'{{"actor":{_quote(actor)},'
        f'"at":"{at.isoformat(timespec="microseconds")}",'
        f'"event":{_quote(event)},"fields":{{{",".join(pairs)}}}}}'
    )


def body_of(event: AuditEvent) -> str:
    """Return the canonical JSON of an event; see :func:`canonical_body`."""
    return canonical_body(event.at, event.event, event.actor, event.fields)


def chain_hash(tenant_id: str, sequence: int, previous: str, body: str) -> str:
    """Return the hexadecimal hash of a record in its place."""
    tenant, number = tenant_id.encode(), b"%d" % sequence
    before, text = previous.encode(), body.encode()
    return hashlib.sha256(
        b"%d:%s%d:%s%d:%s%d:%s"
        % (
            len(tenant),
            tenant,
            len(number),
            number,
            len(before),
            before,
            len(text),
            text,
        )
    ).hexdigest()


def link(event: AuditEvent, sequence: int, previous: str) -> AuditRecord:
    """Return the event as record ``sequence`` of its tenant's chain."""
    body = body_of(event)
    return AuditRecord(
        tenant_id=event.tenant_id,
        sequence=sequence,
        body=body,
        previous=previous,
        hash=chain_hash(event.tenant_id, sequence, previous, body),
    )


@frozen
class ChainFault:
    """
    Where a chain is broken.

    :ivar sequence: the first record that is wrong or missing.
    :ivar problem: plain text for the operator.
    """

    sequence: int
    problem: str


@frozen
class ChainHead:
    """The last record's place and hash: what an export pins."""

    sequence: int = 0
    hash: str = GENESIS


def verify_records(
    tenant_id: str, records: Iterable[AuditRecord], head: ChainHead
) -> ChainHead | ChainFault:
    """
    Continue the verification of a chain.

    :param head: where the records before ended.
    :returns: the new head, or the first fault.
    """
    for record in records:
        expected = head.sequence + 1
        if record.sequence != expected:
            return ChainFault(expected, "the record is missing")
        if record.tenant_id != tenant_id:
            return ChainFault(expected, "the record is another tenant's")
        if record.previous != head.hash:
            return ChainFault(
                expected, "the record does not continue the one before"
            )
        computed = chain_hash(
            tenant_id, record.sequence, record.previous, record.body
        )
        if computed != record.hash:
            return ChainFault(expected, "the record was changed")
        head = ChainHead(record.sequence, record.hash)
    return head
