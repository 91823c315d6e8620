# SPDX-License-Identifier: MIT
"""
What the store in memory keeps, and its audit log.

The modules ``memory_*`` have a function for each method of the store, as the
modules ``sqlite_*`` have, under the same names.  A function checks everything
before it changes anything: nothing can be taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from attrs import define, field, frozen

from trstctl.audit import GENESIS, link
from trstctl.backends.burns import Burns
from trstctl.model import (
    AuditEvent,
    AuditRecord,
    CertificateRecord,
    CredentialRecord,
    Dialogue,
    Generation,
    Intent,
    OneTimeSecret,
    RequestKey,
    SerialStatus,
    StoredCRL,
    StoredRequest,
)


@frozen
class Promise:
    """
    An intent, the request row that it belongs to, and what became of it.

    :ivar number: grows with each.
    :ivar at: when it was made.
    :ivar status: what is true of its serial.
    :ivar changed_at: when that changed; grows with each in an authority.
    """

    intent: Intent
    number: int
    request_id: str
    at: datetime
    status: SerialStatus
    state: str = "open"
    changed_at: datetime | None = None


@define(eq=False)
class Tables:
    """
    The rows, by their keys.

    :ivar requests: by id, oldest first.
    :ivar keys: the id of the request that has each key.
    :ivar ever_held: ids of requests that a person had to decide.
    :ivar promises: by authority and serial, oldest first.
    :ivar certificates: by tenant and serial.
    :ivar credentials: by tenant, kind and name.
    :ivar secrets: by tenant and id; ``burns`` likewise.
    :ivar chains: the audit log of each tenant.
    :ivar latest: when its latest event was.
    :ivar leases: until when each owner of intents lives.
    :ivar changed: when a serial of an authority last changed.
    :ivar crls: by authority and scope.
    :ivar crl_numbers: the last of each authority.
    :ivar dialogues: by tenant, protocol, endpoint and transaction.
    :ivar generations: by name.
    """

    requests: dict[str, StoredRequest] = field(factory=dict)
    keys: dict[RequestKey, str] = field(factory=dict)
    ever_held: set[str] = field(factory=set)
    promises: dict[tuple[str, str], Promise] = field(factory=dict)
    certificates: dict[tuple[str, str], CertificateRecord] = field(
        factory=dict
    )
    credentials: dict[tuple[str, str, str], CredentialRecord] = field(
        factory=dict
    )
    secrets: dict[tuple[str, str], OneTimeSecret] = field(factory=dict)
    burns: dict[tuple[str, str], Burns] = field(factory=dict)
    chains: dict[str, list[AuditRecord]] = field(factory=dict)
    latest: dict[str, datetime] = field(factory=dict)
    leases: dict[str, datetime] = field(factory=dict)
    changed: dict[str, datetime] = field(factory=dict)
    crls: dict[tuple[str, str], StoredCRL] = field(factory=dict)
    crl_numbers: dict[str, int] = field(factory=dict)
    dialogues: dict[tuple[str, ...], Dialogue] = field(factory=dict)
    generations: dict[str, Generation] = field(factory=dict)

    def audit(
        self,
        tenant_id: str,
        at: datetime,
        event: str,
        actor: str,
        fields: Mapping[str, str],
    ) -> None:
        """Append to the tenant's chain."""
        chain = self.chains.setdefault(tenant_id, [])
        previous = chain[-1].hash if chain else GENESIS
        added = AuditEvent(tenant_id, at, event, actor, fields)
        chain.append(link(added, len(chain) + 1, previous))
        self.latest[tenant_id] = max(at, self.latest.get(tenant_id, at))
