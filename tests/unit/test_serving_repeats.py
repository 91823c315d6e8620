# SPDX-License-Identifier: MIT
"""Floods of refusals: the first line, how many more, and no more lines."""

from __future__ import annotations

from typing import Any

from trstctl.model import SYSTEM_TENANT
from trstctl.serving.repeats import Repeats
from trstctl.testing import TENANT

FACTS: dict[str, Any] = {
    "event": "request",
    "request_id": "r",
    "tenant": SYSTEM_TENANT,
    "protocol": "revocation",
    "operation": "ocsp",
    "status": 200,
    "decision": "refused",
    "reason": "the request is malformed",
    "error": "Malformed",
    "duration_ms": 0.1,
    "peer": "192.0.2.1",
}


def written(repeats: Repeats, times: int = 1, **changes: Any) -> int:
    """Report the same so often; return how many lines are written."""
    facts = {**FACTS, **changes}
    return sum(repeats.admits(facts) for _ in range(times))


class RepeatTests:
    """What is written whole, and what is only counted."""

    def test_first_line_and_a_count(self) -> None:
        """Of what is nobody's: one line, and once how many more."""
        repeats = Repeats()
        assert 1 == written(repeats, 1000)
        (told,) = repeats.counted()
        assert {
            "of": "request",
            "tenant": SYSTEM_TENANT,
            "protocol": "revocation",
            "decision": "refused",
            "status": 200,
            "error": "Malformed",
            "peer": "192.0.2.1",
            "count": 999,
        } == told
        assert [] == list(repeats.counted())
        assert 1 == written(repeats)
        assert [] == list(repeats.counted())

    def test_no_refusal_is_lost(self) -> None:
        """Lines and counts together are all that was refused."""
        repeats = Repeats()
        lines = sum(
            written(repeats, peer=f"10.{number % 3}.0.1", tenant=tenant)
            for number in range(3000)
            for tenant in ("", TENANT)
        )
        counts = [one["count"] for one in repeats.counted()]
        assert 6000 == lines + sum(map(int, map(str, counts)))
        assert 3 + 3 * 100 == lines

    def test_each_kind_by_itself(self) -> None:
        """Address, tenant, protocol, status and error tell kinds apart."""
        repeats = Repeats()
        changes: tuple[dict[str, Any], ...] = (
            {},
            {"peer": "192.0.2.2"},
            {"tenant": ""},
            {"protocol": "est"},
            {"status": 404},
            {"error": "NotAuthorized"},
            {"event": "scep.unopened"},
        )
        for change in changes:
            assert 1 == written(repeats, 5, **change)

    def test_what_a_peer_writes_makes_no_kind(self) -> None:
        """Neither path nor reason; nor is a network of IPv6 many peers."""
        repeats = Repeats()
        assert 1 == sum(
            written(
                repeats,
                operation=f"p{number}",
                reason=f"r{number}",
                peer=f"2001:db8::{number:x}",
            )
            for number in range(100)
        )
        (told,) = repeats.counted()
        assert ("2001:db8::", 99) == (told["peer"], told["count"])

    def test_what_is_answered_is_written(self) -> None:
        """Every line of what was granted, or found out."""
        repeats = Repeats()
        for decision in ("issued", "answered", "good", "unknown", "pending"):
            assert 50 == written(repeats, 50, decision=decision)
        assert [] == list(repeats.counted())

    def test_a_fleet_in_trouble(self) -> None:
        """Of a tenant's refusals, a hundred from one address are whole."""
        repeats = Repeats()
        assert 100 == written(repeats, 250, tenant=TENANT, decision="failed")
        (told,) = repeats.counted()
        assert 150 == told["count"]

    def test_memory_is_bounded(self) -> None:
        """Whoever has many addresses fills neither memory nor log."""
        repeats = Repeats()
        lines = sum(
            written(repeats, peer=f"10.{number >> 8}.{number & 255}.1")
            for number in range(5000)
        )
        assert 1001 == lines
        (rest,) = repeats.counted()
        assert ("", 3999) == (rest["peer"], rest["count"])
