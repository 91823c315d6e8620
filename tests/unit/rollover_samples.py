# SPDX-License-Identifier: MIT
"""An authority with two keys, in each phase of the change."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from attrs import evolve, frozen

from trstctl.ca.authority import Authority
from trstctl.ca.ceremony import generate_key, make_issuing, make_root
from trstctl.ca.rollover import link_roots, renew_issuing, renew_root
from trstctl.ca.succession import succession_of
from trstctl.model import Generation, Phase, Succession
from trstctl.testing import EPOCH, DeterministicBytes, FakeSigner

#: How long devices of the first generation have to renew.
SPREAD = timedelta(days=30)


@frozen
class Lineage:
    """
    The authority ``issuing``, and its second generation.

    :ivar authorities: both, by name.
    :ivar second: the row of the second, prepared.
    """

    authorities: dict[str, Any]
    second: Generation

    def at(self, phase: Phase) -> Generation:
        """Return the row in a phase."""
        return evolve(self.second, phase=phase)

    def succession(self, phase: Phase) -> Succession:
        """Return what the authority is in a phase."""
        chains = {name: one.chain for name, one in self.authorities.items()}
        return succession_of(
            "issuing",
            (self.at(phase),),
            chains,
            self.authorities,
            SPREAD,
        )

    def put(self, ra: Any, phase: Phase) -> None:
        """Have a registration authority work in a phase."""
        ra.rules = evolve(
            ra.rules, successions={"issuing": self.succession(phase)}
        )


def lineage(*, new_root: bool = True) -> Lineage:
    """Return an authority with two keys, below one root or two."""
    random_bytes = DeterministicBytes("lineage")
    root_key, signers = generate_key(), (FakeSigner(), FakeSigner())
    root = make_root(root_key, "Example Root", EPOCH, random_bytes)
    first = make_issuing(
        root_key,
        root,
        signers[0].public_key(),
        "Example CA",
        EPOCH,
        random_bytes,
    )
    next_root, next_key = root, root_key
    links = (b"", b"")
    if new_root:
        next_key = generate_key()
        next_root = renew_root(root, next_key, EPOCH, random_bytes)
        links = link_roots(root, root_key, next_root, next_key, random_bytes)
    second = renew_issuing(
        first,
        signers[1].public_key(),
        next_root,
        next_key,
        EPOCH,
        random_bytes,
    )
    chains = {"issuing": (first, root), "issuing-2": (second, next_root)}
    return Lineage(
        {
            name: Authority(name, chain[0], chain, signer)
            for (name, chain), signer in zip(
                chains.items(), signers, strict=True
            )
        },
        Generation(
            authority="issuing",
            number=2,
            name="issuing-2",
            phase=Phase.PREPARED,
            chain=chains["issuing-2"],
            old_with_new=links[0],
            new_with_old=links[1],
            key="file:ca/issuing-2.key",
            prepared_at=EPOCH,
        ),
    )
