# SPDX-License-Identifier: MIT
"""What every store must do with generations of authorities: as tests."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from contracts.store_contract import StoreContract
from contracts.store_samples import (
    DAY,
    MINUTE,
    NOW,
    TENANT,
    new_intent,
    new_request,
)

from trstctl.errors import Conflict, Stale, UnknownCertificate
from trstctl.model import SYSTEM_TENANT, Generation, Outstanding, Phase

#: Chains are split by what DER says of their lengths.
SECOND = Generation(
    authority="issuing",
    number=2,
    name="issuing-2",
    phase=Phase.PREPARED,
    chain=(b"\x30\x03one", b"\x30\x03two"),
    old_with_new=b"old with new",
    new_with_old=b"new with old",
    key="file:ca/issuing-2.key",
    prepared_at=NOW,
)

#: Every step that there is, with the event that it is audited by.
STEPS = {
    (Phase.PREPARED, Phase.ACTIVE): "generation.activated",
    (Phase.PREPARED, Phase.DROPPED): "generation.dropped",
    (Phase.ACTIVE, Phase.PREPARED): "generation.deactivated",
    (Phase.ACTIVE, Phase.FINISHED): "generation.finished",
}


class GenerationContract(StoreContract):
    """The tests."""

    def add(self, **changes: Any) -> Generation:
        """Add a generation."""
        made = evolve(SECOND, **changes)
        self.wait(self.store.add_generation(made, "operator:ann"))
        return made

    def advance(self, expected: Phase, phase: Phase, **changes: Any) -> Any:
        """Take the second generation to another phase."""
        arguments = {"name": "issuing-2", "actor": "operator:ann", "now": NOW}
        return self.wait(
            self.store.advance_generation(
                expected=expected, phase=phase, **{**arguments, **changes}
            )
        )

    def generations(self) -> list[Generation]:
        """Return all."""
        return list(self.wait(self.store.list_generations()))

    def put(self, phase: Phase) -> None:
        """Have the second generation in a phase."""
        self.add()
        if phase in {Phase.ACTIVE, Phase.FINISHED}:
            self.advance(Phase.PREPARED, Phase.ACTIVE)
        if phase is Phase.FINISHED:
            self.advance(Phase.ACTIVE, Phase.FINISHED)
        if phase is Phase.DROPPED:
            self.advance(Phase.PREPARED, Phase.DROPPED)

    def test_generations_are_listed(self) -> None:
        """By authority and number, as they were added."""
        assert [] == self.generations()
        other = self.add(authority="other", name="other-2", old_with_new=b"")
        self.put(Phase.FINISHED)
        third = self.add(number=3, name="issuing-3", chain=(b"\x30\x00",))
        second = evolve(
            SECOND, phase=Phase.FINISHED, activated_at=NOW, stepped_at=NOW
        )
        assert [second, third, other] == self.generations()

    def test_prepared_is_audited(self) -> None:
        """In the gateway's own tenant, with the certificate's digest."""
        self.add()
        assert ["generation.prepared"] == self.events(SYSTEM_TENANT)
        facts = self.facts(SYSTEM_TENANT)
        assert ("issuing", "issuing-2") == (
            facts["authority"],
            facts["generation"],
        )
        assert 64 == len(facts["sha256"])

    @pytest.mark.parametrize("phase", [Phase.PREPARED, Phase.ACTIVE])
    def test_one_at_a_time(self, phase: Phase) -> None:
        """While one is under way, there is no other of this authority."""
        self.put(phase)
        with pytest.raises(Conflict):
            self.add(number=3, name="issuing-3")
        self.add(authority="other", name="other-2")

    @pytest.mark.parametrize("phase", [Phase.FINISHED, Phase.DROPPED])
    def test_number_and_name_are_taken_for_ever(self, phase: Phase) -> None:
        """What was issued under a name stays under it."""
        self.put(phase)
        with pytest.raises(Conflict):
            self.add(name="issuing-x")
        with pytest.raises(Conflict):
            self.add(number=3)
        with pytest.raises(Conflict):
            self.add(authority="other")
        assert 1 == len(self.generations())
        self.add(number=3, name="issuing-3")

    @pytest.mark.parametrize("expected", list(Phase))
    @pytest.mark.parametrize("phase", list(Phase))
    def test_steps(self, expected: Phase, phase: Phase) -> None:
        """Only those that there are, each audited."""
        self.put(expected)
        before = self.generations()
        at = NOW + MINUTE
        event = STEPS.get((expected, phase))
        if event is None:
            with pytest.raises(Stale):
                self.advance(expected, phase, now=at)
            assert before == self.generations()
            return
        changed = self.advance(expected, phase, now=at)
        assert [changed] == self.generations()
        assert phase is changed.phase
        times = {
            Phase.ACTIVE: (at, at),
            Phase.PREPARED: (None, at),
            Phase.DROPPED: (None, at),
            Phase.FINISHED: (NOW, at),
        }
        assert times[phase] == (changed.activated_at, changed.stepped_at)
        assert event == self.events(SYSTEM_TENANT)[-1]

    def test_of_two_one_advances(self) -> None:
        """Who comes second finds another phase than he expects."""
        self.add()
        self.advance(Phase.PREPARED, Phase.ACTIVE)
        with pytest.raises(Stale):
            self.advance(Phase.PREPARED, Phase.ACTIVE)
        with pytest.raises(Stale):
            self.advance(Phase.PREPARED, Phase.DROPPED)

    def test_unknown_generation(self) -> None:
        """There is nothing to advance."""
        with pytest.raises(UnknownCertificate):
            self.advance(Phase.PREPARED, Phase.ACTIVE)

    def test_outstanding(self) -> None:
        """Valid ones are counted; revoked ones have an end, too."""
        end = NOW + 90 * DAY
        assert Outstanding(0, None) == self.wait(
            self.store.outstanding("issuing", NOW)
        )
        first = self.issue("one")
        second = self.issue("two", not_after=end + DAY)
        third = self.issue("three")
        self.issue("four", authority="issuing-2", not_after=end + 2 * DAY)
        self.issue(
            "five",
            not_after=end + 3 * DAY,
            request=new_request("five", SYSTEM_TENANT),
        )
        assert Outstanding(3, end + DAY) == self.wait(
            self.store.outstanding("issuing", NOW)
        )
        for act in (
            self.store.revoke_certificate(
                TENANT, second.serial, "superseded", "ann", NOW
            ),
            self.store.supersede_certificate(
                TENANT, third.serial, first.serial, "ann", NOW
            ),
        ):
            self.wait(act)
        assert Outstanding(1, end + DAY) == self.wait(
            self.store.outstanding("issuing", NOW)
        )
        assert Outstanding(0, end + DAY) == self.wait(
            self.store.outstanding("issuing", end)
        )

    def test_being_signed_is_outstanding(self) -> None:
        """What has been promised will be valid, unless it is abandoned."""
        intent = new_intent("one")
        self.open(intent)
        assert Outstanding(1, intent.not_after) == self.wait(
            self.store.outstanding("issuing", NOW)
        )
        assert Outstanding(0, None) == self.wait(
            self.store.outstanding("issuing", intent.not_after)
        )
        self.wait(self.store.abandon_intent(intent, "over", NOW))
        assert Outstanding(0, None) == self.wait(
            self.store.outstanding("issuing", NOW)
        )

    @pytest.mark.parametrize(
        ("expected", "phase", "vacated"),
        [
            (Phase.ACTIVE, Phase.FINISHED, "issuing"),
            (Phase.PREPARED, Phase.DROPPED, "issuing-2"),
        ],
    )
    def test_valid_certificates_stand_against_a_step(
        self, expected: Phase, phase: Phase, vacated: str
    ) -> None:
        """They are counted in its transaction; nothing changes."""
        self.put(expected)
        before = self.generations()
        events = self.events(SYSTEM_TENANT)
        signed = self.issue("one", authority=vacated)
        self.issue("two", authority="another")
        with pytest.raises(Conflict, match=f"1 certificates of {vacated} are"):
            self.advance(expected, phase, vacated=vacated)
        assert before == self.generations()
        assert events == self.events(SYSTEM_TENANT)
        self.wait(
            self.store.revoke_certificate(
                TENANT, signed.serial, "superseded", "ann", NOW
            )
        )
        assert phase is self.advance(expected, phase, vacated=vacated).phase

    def test_step_whatever_is_valid(self) -> None:
        """If nobody asks for the count, it does not matter."""
        self.put(Phase.ACTIVE)
        self.issue("one")
        self.advance(Phase.ACTIVE, Phase.FINISHED)
        (found,) = self.generations()
        assert Phase.FINISHED is found.phase

    def test_who_issued_is_remembered(self) -> None:
        """A request says which authority issued its certificate."""
        request = new_request("six")
        self.issue("six", request=request, authority="issuing-2")
        assert "issuing-2" == self.find(request).authority
        held = new_request("seven", key="seven")
        assert "" == self.wait(self.store.hold(held, NOW)).authority
