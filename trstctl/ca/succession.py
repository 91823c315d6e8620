# SPDX-License-Identifier: MIT
"""
Which generation of an authority issues, and what is told of the others.

While the key of an authority changes, two generations of it are *under way*:

=========  ========  ==================  ===========================
phase      who       whose certificates  told, in this order
           signs     count
=========  ========  ==================  ===========================
prepared   the old   both                old chain, new chain, links
active     the new   both                new chain, old chain, links
finished   the new   the new             new chain
=========  ========  ==================  ===========================

So nobody depends on when which process hears of a step: as long as they are
at most one phase apart, each accepts what another has issued, and tells all
that is needed to verify it.

The *links* join two roots (RFC 9810, section 4.4): OldWithNew leads who knows
only the new root to what is below the old one, and NewWithOld the reverse.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta

from trstctl.model import (
    Generation,
    Phase,
    RenewalWindow,
    RootUpdate,
    Succession,
)


def base_of(authority: str, generations: Iterable[Generation]) -> str:
    """Return the generation that the last finished change has led to."""
    name = authority
    for one in generations:
        if one.authority == authority and one.phase is Phase.FINISHED:
            name = one.name
    return name


def under_way(
    authority: str, generations: Iterable[Generation]
) -> Generation | None:
    """Return the generation that is prepared or active, if one is."""
    for one in generations:
        if one.authority == authority and one.phase in {
            Phase.PREPARED,
            Phase.ACTIVE,
        }:
            return one
    return None


def retired(
    authority: str, generations: Sequence[Generation]
) -> tuple[str, ...]:
    """Return the generations that neither issue nor will, by number."""
    base = base_of(authority, generations)
    coming = under_way(authority, generations)
    names = [authority]
    names += [one.name for one in generations if one.authority == authority]
    return tuple(
        name
        for name in names
        if name != base and (coming is None or name != coming.name)
    )


def succession_of(
    authority: str,
    generations: Sequence[Generation],
    chains: Mapping[str, tuple[bytes, ...]],
    at_hand: Collection[str],
    renewal_spread: timedelta,
) -> Succession:
    """
    Return what an authority is now.

    A generation that is active, and whose key is not at hand, is not
    followed: the one before goes on, as if the new one were prepared.

    :param generations: all there are, by number.
    :param chains: the DER chain of each by its name, the first included.
    :param at_hand: those whose keys this process can use.
    :param renewal_spread: how long devices of the one before have to renew.
    """
    base = base_of(authority, generations)
    coming = under_way(authority, generations)
    if coming is None:
        return Succession(base, chains[base])
    old, new = chains[base], coming.chain
    ready = coming.name in at_hand
    update = None
    links: tuple[bytes, ...] = ()
    if coming.new_with_old:
        links = (coming.old_with_new, coming.new_with_old)
        update = RootUpdate(old[-1], new[-1], *links)
    if coming.phase is Phase.ACTIVE and ready:
        return Succession(
            coming.name,
            _once(new, old, links),
            accepted=(base,),
            keyed=(base,) if base in at_hand else (),
            bridge=links[1:],
            update=update,
            renewals=_renewals(coming, renewal_spread),
        )
    return Succession(
        base,
        _once(old, new, links),
        accepted=(coming.name,),
        keyed=(coming.name,) if ready else (),
        following=coming.name if ready else "",
        ahead=links[:1],
        update=update,
    )


def _renewals(active: Generation, spread: timedelta) -> RenewalWindow:
    """Return when devices of the generation before are to renew."""
    start = active.activated_at or active.prepared_at
    return RenewalWindow(start, start + spread)


def _once(*chains: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return certificates in order, each once."""
    return tuple(dict.fromkeys(each for chain in chains for each in chain))
