# SPDX-License-Identifier: MIT
"""
One transaction of the SQLite store, and the audit chains that grow in it.

Several writes share a transaction.  The head of each chain is read once and
kept while the transaction runs (its lock keeps other processes out), and the
records are written in one go when it ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime

from trstctl.audit import GENESIS, canonical_body, chain_hash
from trstctl.backends.sqlite_rows import micros

_READ_HEAD = """
SELECT sequence, hash, at FROM audit_heads WHERE tenant_id = ?
"""

_WRITE_HEAD = """
INSERT INTO audit_heads (tenant_id, sequence, hash, at) VALUES (?, ?, ?, ?)
ON CONFLICT (tenant_id) DO UPDATE SET
    sequence = excluded.sequence, hash = excluded.hash, at = excluded.at
"""

_WRITE_RECORD = """
INSERT INTO audit (tenant_id, sequence, body, previous, hash)
VALUES (?, ?, ?, ?, ?)
"""

#: Where a chain ends: sequence, hash, and the latest time in it.
_Head = tuple[int, str, int]

#: A place to go back to: see :meth:`Transaction.mark`.
Mark = tuple[int, dict[str, _Head]]


class Transaction:
    """
    What a write function gets to work with.

    :ivar execute: the connection's own.
    :ivar executemany: the connection's own.
    """

    __slots__ = ("_heads", "_records", "execute", "executemany")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.execute = connection.execute
        self.executemany = connection.executemany
        self._heads: dict[str, _Head] = {}
        self._records: list[tuple[str, int, str, str, str]] = []

    def latest(self, tenant_id: str) -> int:
        """Return the latest time in the tenant's chain, or 0."""
        return self._head(tenant_id)[2]

    def audit(
        self,
        tenant_id: str,
        at: datetime,
        event: str,
        actor: str,
        fields: Mapping[str, str],
    ) -> None:
        """Append to the tenant's chain."""
        sequence, previous, latest = self._head(tenant_id)
        sequence += 1
        body = canonical_body(at, event, actor, fields)
        this = chain_hash(tenant_id, sequence, previous, body)
        self._records.append((tenant_id, sequence, body, previous, this))
        self._heads[tenant_id] = (sequence, this, max(latest, micros(at)))

    def _head(self, tenant_id: str) -> _Head:
        """Return where the chain ends now."""
        head = self._heads.get(tenant_id)
        if head is None:
            row = self.execute(_READ_HEAD, (tenant_id,)).fetchone()
            head = self._heads[tenant_id] = row or (0, GENESIS, 0)
        return head

    def mark(self) -> Mark:
        """Return the state of the chains, for :meth:`rewind`."""
        return len(self._records), dict(self._heads)

    def rewind(self, mark: Mark) -> None:
        """Forget the audit records since the mark."""
        length, self._heads = mark
        del self._records[length:]

    def flush(self) -> None:
        """Write the audit records and heads; the last act before COMMIT."""
        if self._records:
            self.executemany(_WRITE_RECORD, self._records)
            grown = {record[0] for record in self._records}
            self.executemany(
                _WRITE_HEAD,
                [(tenant, *self._heads[tenant]) for tenant in grown],
            )
