# SPDX-License-Identifier: MIT
"""
What CMP does for who does not know the secret: C-3 and C-4 of
:mod:`trstctl.challenges`.
"""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from cmp_client import (
    IMPLICIT,
    Reply,
    Site,
    asks,
    make_site,
    pbm,
    pbmac1,
    protected_by_secret,
)

from trstctl.testing import Connection, read_response, request_octets

FAILURES = 10
MEDIA = {"Content-Type": "application/pkixcmp"}
LOCKED = ("error", "systemUnavail", "throttled")
WRONG = ("error", "badMessageCheck", "challenge-rejected")


class Bench:
    """A gateway that counts what it does."""

    def __init__(self) -> None:
        self.site: Site = make_site()
        self.derived = 0
        self.looked_up = 0
        elsewhere, found = self.site.ra.elsewhere, self.site.store

        def derive(function: Any, *args: object) -> Any:
            self.derived += 1
            return elsewhere(function, *args)

        find = found.find_secret_by_id

        def look_up(*args: str) -> Any:
            self.looked_up += 1
            return find(*args)

        ra: Any = self.site.ra
        ra.elsewhere = derive
        found.find_secret_by_id = look_up

    def send(self, octets: bytes, peer: str = "192.0.2.1") -> Reply:
        """Send a message from an address."""
        connection = Connection(
            self.site.resource, clock=self.site.clock, peer=peer
        )
        connection.send(request_octets("POST", "/cmp", octets, MEDIA))
        answer = read_response(connection.received())
        connection.lose()
        return Reply(answer.status, answer.content_type, answer.body)

    def told(self, octets: bytes, peer: str = "192.0.2.1") -> tuple[str, ...]:
        """Return what is told of a message, after the work for it."""
        before = self.derived, self.looked_up
        reply = self.send(octets, peer)
        work = self.derived - before[0], self.looked_up - before[1]
        assert reply.type == "error"
        locked = reply.failure == "systemUnavail"
        assert ((0, 0) if locked else (1, 1)) == work
        return reply.type, reply.failure, reply.code


@pytest.fixture
def bench() -> Bench:
    """Return a gateway."""
    return Bench()


def unknown(number: int = 0) -> Any:
    """Return a secret that nobody has made."""
    made = make_site().secret()
    return evolve(
        made, record=evolve(made.record, id=f"{number:024x}"), secret="A" * 55
    )


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("mac", [pbm, pbmac1])
class ReferenceTests:
    """Who fails with one reference."""

    def test_nothing_is_derived_for_it_any_more(
        self, bench: Bench, mac: Any, exists: bool
    ) -> None:
        """C-4: nor is it looked up, whether or not there is such a secret;
        a minute later it is, ten times."""
        secret = bench.site.secret() if exists else unknown()
        message = protected_by_secret(secret, asks(), text="no", mac=mac())
        for _ in range(2):
            told = [bench.told(message) for _ in range(FAILURES + 3)]
            assert [WRONG] * FAILURES + [LOCKED] * 3 == told
            bench.site.clock.advance(60)

    def test_nobody_else_is_locked_out(
        self, bench: Bench, mac: Any, exists: bool
    ) -> None:
        """Not the others behind the address, nor the reference elsewhere."""
        own, other = bench.site.secret(), bench.site.secret()
        wrong = own if exists else unknown()
        for _ in range(FAILURES + 3):
            bench.told(protected_by_secret(wrong, asks(), text="no"))
        right = protected_by_secret(other, asks(), mac=mac(), **IMPLICIT)
        assert "accepted" == bench.send(right).pki_status
        message = protected_by_secret(own, asks(), mac=mac(), **IMPLICIT)
        if exists:
            assert LOCKED == bench.told(message)
        assert "accepted" == bench.send(message, "192.0.2.2").pki_status


class AddressTests:
    """Who fails with ever new references."""

    def test_nothing_is_derived_for_the_address_any_more(
        self, bench: Bench
    ) -> None:
        """C-4: neither for a reference that exists nor for another; the
        answers have the same length and text."""
        known, never = bench.site.secret(), unknown(999)
        for number in range(10 * FAILURES):
            reply = bench.send(protected_by_secret(unknown(number), asks()))
            assert reply.failure in {"badMessageCheck", "systemUnavail"}
        assert 10 * FAILURES == bench.derived
        body = asks()
        replies = [
            bench.send(protected_by_secret(secret, body))
            for secret in (known, never)
        ]
        assert {LOCKED} == {(r.type, r.failure, r.code) for r in replies}
        assert all(reply.is_signed() for reply in replies)
        first, second = (len(reply.octets) for reply in replies)
        assert abs(first - second) < 4  # ECDSA signatures
        assert 10 * FAILURES == bench.derived
        right = protected_by_secret(known, asks(), **IMPLICIT)
        assert "accepted" == bench.send(right, "192.0.2.2").pki_status
        bench.site.clock.advance(60)
        right = protected_by_secret(bench.site.secret(), asks(), **IMPLICIT)
        assert "accepted" == bench.send(right).pki_status

    def test_costly_work_ends_sooner(self, bench: Bench) -> None:
        """After ten failures with whatever references; the cheap one of
        somebody else is done all the same."""
        for number in range(FAILURES):
            bench.told(protected_by_secret(unknown(number), asks()))
        secret = bench.site.secret()
        for reference in (secret, unknown(999)):
            costly = protected_by_secret(reference, asks(), mac=pbm(5_001))
            assert LOCKED == bench.told(costly)
        cheap = protected_by_secret(secret, asks(), mac=pbm(5_000), **IMPLICIT)
        assert "accepted" == bench.send(cheap).pki_status
