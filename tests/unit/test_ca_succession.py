# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.ca.succession`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from attrs import evolve

from trstctl.ca.succession import (
    base_of,
    retired,
    succession_of,
    under_way,
)
from trstctl.model import (
    Generation,
    Phase,
    RenewalWindow,
    RootUpdate,
    Succession,
)
from trstctl.testing.time import EPOCH

OLD = (b"old issuing", b"old root")
NEW = (b"new issuing", b"new root")
LINKS = (b"old with new", b"new with old")

SECOND = Generation(
    authority="issuing",
    number=2,
    name="issuing-2",
    phase=Phase.PREPARED,
    chain=NEW,
    old_with_new=LINKS[0],
    new_with_old=LINKS[1],
    key="file:ca/issuing-2.key",
    prepared_at=EPOCH,
)
THIRD = evolve(
    SECOND, number=3, name="issuing-3", chain=(b"third", b"third root")
)
BOTH = ("issuing", "issuing-2")
UPDATE = RootUpdate(b"old root", b"new root", *LINKS)


def now(*generations: Generation, at_hand: Any = BOTH) -> Succession:
    """Return what the authority is."""
    chains = {"issuing": OLD} | {one.name: one.chain for one in generations}
    return succession_of(
        "issuing", generations, chains, at_hand, timedelta(days=30)
    )


def made(phase: Phase, one: Generation = SECOND) -> Generation:
    """Return a generation in a phase."""
    return evolve(one, phase=phase)


class SuccessionTests:
    """Which generation issues, and what is told of the others."""

    def test_before(self) -> None:
        """Nothing but the old one."""
        assert Succession("issuing", OLD) == now()

    def test_prepared(self) -> None:
        """
        RFC 7030, section 4.1.3: all four certificates of the roots are told;
        the old one still signs, and its chain comes first.
        """
        assert Succession(
            "issuing",
            (*OLD, *NEW, *LINKS),
            accepted=("issuing-2",),
            keyed=("issuing-2",),
            following="issuing-2",
            ahead=LINKS[:1],
            update=UPDATE,
        ) == now(SECOND)

    def test_prepared_elsewhere(self) -> None:
        """Without its key it is told of, and is no one's recipient."""
        found = now(SECOND, at_hand=("issuing",))
        assert ("issuing-2",) == found.accepted
        assert ((), "") == (found.keyed, found.following)
        assert (*OLD, *NEW, *LINKS) == found.certificates

    def test_active(self) -> None:
        """RFC 7030, section 4.1.3: the new chain first, then the others."""
        assert Succession(
            "issuing-2",
            (*NEW, *OLD, *LINKS),
            accepted=("issuing",),
            keyed=("issuing",),
            bridge=LINKS[1:],
            update=UPDATE,
            renewals=RenewalWindow(EPOCH, EPOCH + timedelta(days=30)),
        ) == now(made(Phase.ACTIVE))

    def test_renewals_begin_with_the_takeover(self) -> None:
        """Not when it was prepared."""
        start = EPOCH + timedelta(days=7)
        active = evolve(made(Phase.ACTIVE), activated_at=start)
        expected = RenewalWindow(start, start + timedelta(days=30))
        assert expected == now(active).renewals
        for one in (SECOND, made(Phase.FINISHED)):
            assert now(one).renewals is None

    def test_active_without_the_old_key(self) -> None:
        """Its certificates count; nothing can be decrypted with it."""
        found = now(made(Phase.ACTIVE), at_hand=("issuing-2",))
        assert (("issuing",), ()) == (found.accepted, found.keyed)

    def test_active_without_its_key(self) -> None:
        """It is not followed: the old one goes on."""
        found = now(made(Phase.ACTIVE), at_hand=("issuing",))
        assert now(SECOND, at_hand=("issuing",)) == found
        assert "issuing" == found.authority

    def test_finished(self) -> None:
        """Old certificates and links are told of no more."""
        assert Succession("issuing-2", NEW) == now(made(Phase.FINISHED))

    def test_dropped(self) -> None:
        """As if it had never been."""
        assert Succession("issuing", OLD) == now(made(Phase.DROPPED))

    def test_same_root(self) -> None:
        """Nothing is linked, and nothing is told twice."""
        chain = (b"new issuing", b"old root")
        second = evolve(
            SECOND, chain=chain, old_with_new=b"", new_with_old=b""
        )
        found = now(second)
        assert (*OLD, b"new issuing") == found.certificates
        assert ((), None) == (found.bridge, found.update)
        found = now(made(Phase.ACTIVE, second))
        assert (*chain, b"old issuing") == found.certificates
        assert ((), None) == (found.bridge, found.update)

    def test_links_of_messages(self) -> None:
        """To the other root, whichever is the root of now."""
        assert LINKS[:1] == now(SECOND).links
        assert LINKS[1:] == now(made(Phase.ACTIVE)).links
        assert () == now().links == now(made(Phase.FINISHED)).links

    def test_the_next_one(self) -> None:
        """A second rollover begins where the first has led."""
        found = now(made(Phase.FINISHED), THIRD)
        assert ("issuing-2", ("issuing-3",)) == (
            found.authority,
            found.accepted,
        )
        assert (*NEW, *THIRD.chain, *LINKS) == found.certificates


class NameTests:
    """Which generation is which."""

    def test_base(self) -> None:
        """The last that was finished, or the configured one."""
        other = made(Phase.FINISHED, evolve(THIRD, authority="other"))
        for found in ((), (SECOND,), (made(Phase.DROPPED),), (other,)):
            assert "issuing" == base_of("issuing", found)
        finished = made(Phase.FINISHED)
        assert "issuing-2" == base_of("issuing", (finished, THIRD))

    def test_under_way(self) -> None:
        """Prepared or active."""
        assert SECOND == under_way("issuing", (SECOND,))
        active = made(Phase.ACTIVE, THIRD)
        assert active == under_way("issuing", (made(Phase.FINISHED), active))
        assert under_way("other", (SECOND,)) is None
        for phase in (Phase.FINISHED, Phase.DROPPED):
            assert under_way("issuing", (made(phase),)) is None

    def test_retired(self) -> None:
        """Neither the base nor what is under way."""
        assert () == retired("issuing", ())
        assert () == retired("issuing", (SECOND,))
        assert ("issuing",) == retired("issuing", (made(Phase.FINISHED),))
        dropped = made(Phase.DROPPED)
        assert ("issuing-2",) == retired("issuing", (dropped, THIRD))
        assert BOTH == retired(
            "issuing", (made(Phase.FINISHED), made(Phase.FINISHED, THIRD))
        )
