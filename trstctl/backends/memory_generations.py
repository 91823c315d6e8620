# SPDX-License-Identifier: MIT
"""
The memory store's generations of authorities.

See :mod:`trstctl.backends.memory_tables` for how the functions work.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from trstctl.backends.memory_tables import Tables
from trstctl.backends.records import (
    NOT_ALONE,
    UNDER_WAY,
    advanced,
    generation_facts,
    require_vacated,
)
from trstctl.errors import (
    Conflict,
)
from trstctl.model import (
    SYSTEM_TENANT,
    CertificateStatus,
    Generation,
    Outstanding,
    Phase,
)


def list_generations(tables: Tables) -> Sequence[Generation]:
    """Return the generations of all authorities."""
    return sorted(
        tables.generations.values(),
        key=lambda one: (one.authority, one.number),
    )


def add_generation(tables: Tables, generation: Generation, actor: str) -> None:
    """Add a generation that is prepared."""
    if any(
        one.name == generation.name
        or (
            one.authority == generation.authority
            and (one.number == generation.number or one.phase in UNDER_WAY)
        )
        for one in tables.generations.values()
    ):
        raise Conflict(NOT_ALONE)
    tables.generations[generation.name] = generation
    tables.audit(
        SYSTEM_TENANT,
        generation.prepared_at,
        "generation.prepared",
        actor,
        generation_facts(generation),
    )


def advance_generation(
    tables: Tables,
    name: str,
    expected: Phase,
    phase: Phase,
    actor: str,
    now: datetime,
    vacated: str = "",
) -> Generation:
    """Take a generation to another phase."""
    changed, event = advanced(
        tables.generations.get(name), expected, phase, now
    )
    if vacated:
        require_vacated(vacated, outstanding(tables, vacated, now))
    tables.generations[name] = changed
    tables.audit(
        SYSTEM_TENANT,
        now,
        event,
        actor,
        generation_facts(changed),
    )
    return changed


def outstanding(tables: Tables, authority: str, now: datetime) -> Outstanding:
    """Count certificates, and what is being signed."""
    found = [
        (one.not_after, one.status is CertificateStatus.VALID)
        for one in tables.certificates.values()
        if one.authority == authority
        and one.tenant_id != SYSTEM_TENANT
        and one.not_after > now
    ]
    found += [
        (one.intent.not_after, True)
        for (name, _), one in tables.promises.items()
        if name == authority
        and one.state == "open"
        and one.intent.request.key.tenant_id != SYSTEM_TENANT
        and one.intent.not_after > now
    ]
    return Outstanding(
        sum(valid for _, valid in found),
        max((end for end, _ in found), default=None),
    )
