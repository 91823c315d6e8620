# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.audit`."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from trstctl.audit import (
    GENESIS,
    ChainFault,
    ChainHead,
    body_of,
    canonical_body,
    chain_hash,
    link,
    verify_records,
)
from trstctl.model import AuditEvent, AuditRecord

TENANT = "11111111-1111-1111-1111-111111111111"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def chain(length: int) -> list[AuditRecord]:
    """Return a chain that verifies."""
    records: list[AuditRecord] = []
    previous = GENESIS
    for number in range(1, length + 1):
        event = AuditEvent(TENANT, NOW, f"event.{number}", "ann")
        records.append(link(event, number, previous))
        previous = records[-1].hash
    return records


class BodyTests:
    """The canonical form of an event."""

    def test_form(self) -> None:
        """One line of ASCII with sorted keys, and microseconds always."""
        event = AuditEvent(
            TENANT, NOW, "certificate.issued", "b\u00e9", {"z": '"', "a": "\n"}
        )
        assert body_of(event) == (
            '{"actor":"b\\u00e9","at":"2026-03-01T12:00:00.000000+00:00",'
            '"event":"certificate.issued","fields":{"a":"\\n","z":"\\""}}'
        )

    @given(
        fields=st.dictionaries(st.text(), st.text()),
        actor=st.text(),
        event=st.text(),
        at=st.datetimes(
            timezones=st.sampled_from([UTC, timezone(timedelta(hours=5))])
        ),
    )
    def test_is_json(
        self, fields: dict[str, str], actor: str, event: str, at: datetime
    ) -> None:
        """The text is what the standard encoder makes of it."""
        expected = json.dumps(
            {
                "actor": actor,
                "at": at.isoformat(timespec="microseconds"),
                "event": event,
                "fields": fields,
            },
            sort_keys=True,
            separators=(",", ":"),
        )
        assert expected == canonical_body(at, event, actor, fields)

    def test_only_text(self) -> None:
        """A field that is not text is a fault of the program."""
        fields: Any = {"count": 1}
        with pytest.raises(TypeError):
            canonical_body(NOW, "event", "ann", fields)


class HashTests:
    """The hash of a record in its place."""

    def test_definition(self) -> None:
        """SHA-256 over the four parts, each preceded by its length."""
        expected = hashlib.sha256(b"1:t2:104:prev5:b\xc3\xa4dy").hexdigest()
        assert expected == chain_hash("t", 10, "prev", "b\u00e4dy")

    def test_parts_do_not_run_together(self) -> None:
        """No two different records hash the same bytes."""
        assert chain_hash("t", 1, "ab", "c") != chain_hash("t", 1, "a", "bc")
        assert chain_hash("t1", 2, "a", "b") != chain_hash("t", 12, "a", "b")


class VerificationTests:
    """R-11: each way to change a chain is found, at the first bad record."""

    def verify(
        self, records: list[AuditRecord], head: ChainHead | None = None
    ) -> ChainHead | ChainFault:
        return verify_records(TENANT, records, head or ChainHead())

    def test_good(self) -> None:
        """A chain verifies at once or in parts."""
        records = chain(5)
        head = ChainHead(5, records[-1].hash)
        assert head == self.verify(records)
        middle = self.verify(records[:2])
        assert isinstance(middle, ChainHead)
        assert head == self.verify(records[2:], middle)

    def test_empty(self) -> None:
        """An empty chain ends where it began."""
        assert self.verify([]) == ChainHead(0, GENESIS)

    @pytest.mark.parametrize("place", [0, 2, 4])
    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"body": "{}"}, "was changed"),
            ({"hash": "f" * 64}, "was changed"),
            ({"previous": "f" * 64}, "does not continue"),
            ({"tenant_id": "other"}, "another tenant's"),
            ({"sequence": 77}, "missing"),
        ],
    )
    def test_edited(
        self, place: int, change: dict[str, Any], problem: str
    ) -> None:
        """An edited record is named, wherever it is."""
        records = chain(5)
        records[place] = evolve(records[place], **change)
        fault = self.verify(records)
        assert isinstance(fault, ChainFault)
        assert fault.sequence == place + 1
        assert problem in fault.problem

    def test_rehashed(self) -> None:
        """An edited record with a hash that fits breaks the next one."""
        records = chain(3)
        event = AuditEvent(TENANT, NOW, "forged", "ann")
        records[1] = link(event, 2, records[0].hash)
        fault = self.verify(records)
        assert isinstance(fault, ChainFault)
        assert fault.sequence == 3

    @pytest.mark.parametrize("place", [0, 2])
    def test_deleted(self, place: int) -> None:
        """A missing record is named."""
        records = chain(5)
        del records[place]
        fault = self.verify(records)
        assert fault == ChainFault(place + 1, "the record is missing")

    @pytest.mark.parametrize("place", [0, 2, 5])
    def test_inserted(self, place: int) -> None:
        """A record that was put in is named, also at the end."""
        records = chain(5)
        records.insert(
            place, link(AuditEvent(TENANT, NOW, "x", "a"), place + 1, GENESIS)
        )
        fault = self.verify(records)
        assert isinstance(fault, ChainFault)
        assert fault.sequence in {place + 1, place + 2}

    def test_swapped(self) -> None:
        """Records that changed places are named."""
        records = chain(5)
        records[1], records[3] = (
            evolve(records[3], sequence=2),
            evolve(records[1], sequence=4),
        )
        fault = self.verify(records)
        assert isinstance(fault, ChainFault)
        assert fault.sequence == 2

    def test_truncated(self) -> None:
        """A tail that was cut shows against the exported head."""
        records = chain(5)
        exported = self.verify(records)
        cut = self.verify(records[:3])
        assert isinstance(exported, ChainHead)
        assert isinstance(cut, ChainHead)
        assert cut.sequence < exported.sequence
        fault = self.verify([], exported)
        assert fault == exported
