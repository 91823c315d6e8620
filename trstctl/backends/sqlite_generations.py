# SPDX-License-Identifier: MIT
"""
The SQLite store's generations of authorities.

See :mod:`trstctl.backends.sqlite_requests` for how the functions work.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from trstctl.backends.records import (
    NOT_ALONE,
    advanced,
    generation_facts,
    require_vacated,
)
from trstctl.backends.sqlite_rows import (
    generation as generation_of,
)
from trstctl.backends.sqlite_rows import (
    micros,
    micros_or_none,
    moment_or_none,
)
from trstctl.backends.sqlite_transaction import Transaction
from trstctl.errors import Conflict
from trstctl.model import SYSTEM_TENANT, Generation, Outstanding, Phase

_LIST = """
SELECT authority, number, name, phase, chain, old_with_new, new_with_old, key,
    prepared_at, activated_at, stepped_at
FROM generations ORDER BY authority, number
"""

_FIND = """
SELECT authority, number, name, phase, chain, old_with_new, new_with_old, key,
    prepared_at, activated_at, stepped_at
FROM generations WHERE name = ?
"""

# Nothing, where a constraint stands against it.
_ADD = """
INSERT INTO generations (authority, number, name, phase, chain, old_with_new,
    new_with_old, key, prepared_at, activated_at, stepped_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""

_ADVANCE = """
UPDATE generations SET phase = ?, activated_at = ?, stepped_at = ?
WHERE name = ?
"""

# Of all tenants but one: an authority may serve several.
_OUTSTANDING = """
SELECT count(*) FILTER (WHERE status = 'valid' OR state = 'open'),
    max(not_after)
FROM requests
WHERE authority = ? AND (status IS NOT NULL OR state = 'open')
    AND not_after > ? AND tenant_id <> ?
"""


def list_generations(connection: sqlite3.Connection) -> Sequence[Generation]:
    """Return the generations of all authorities, by name and number."""
    return [generation_of(row) for row in connection.execute(_LIST)]


def add_generation(
    transaction: Transaction, generation: Generation, actor: str
) -> None:
    """Add a generation that is prepared."""
    added = transaction.execute(
        _ADD,
        (
            generation.authority,
            generation.number,
            generation.name,
            generation.phase.value,
            b"".join(generation.chain),
            generation.old_with_new,
            generation.new_with_old,
            generation.key,
            micros(generation.prepared_at),
            micros_or_none(generation.activated_at),
            micros_or_none(generation.stepped_at),
        ),
    )
    if added.rowcount != 1:
        raise Conflict(NOT_ALONE)
    transaction.audit(
        SYSTEM_TENANT,
        generation.prepared_at,
        "generation.prepared",
        actor,
        generation_facts(generation),
    )


def advance_generation(
    transaction: Transaction,
    name: str,
    expected: Phase,
    phase: Phase,
    actor: str,
    now: datetime,
    vacated: str,
) -> Generation:
    """Take a generation to another phase."""
    row = transaction.execute(_FIND, (name,)).fetchone()
    found = None if row is None else generation_of(row)
    changed, event = advanced(found, expected, phase, now)
    if vacated:
        require_vacated(vacated, outstanding(transaction, vacated, now))
    transaction.execute(
        _ADVANCE,
        (
            phase.value,
            micros_or_none(changed.activated_at),
            micros_or_none(changed.stepped_at),
            name,
        ),
    )
    transaction.audit(
        SYSTEM_TENANT, now, event, actor, generation_facts(changed)
    )
    return changed


def outstanding(
    connection: sqlite3.Connection | Transaction,
    authority: str,
    now: datetime,
) -> Outstanding:
    """Return what a generation has issued that has not expired."""
    valid, last = connection.execute(
        _OUTSTANDING, (authority, micros(now), SYSTEM_TENANT)
    ).fetchone()
    return Outstanding(valid, moment_or_none(last))
