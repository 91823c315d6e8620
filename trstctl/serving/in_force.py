# SPDX-License-Identifier: MIT
"""
What is in force: one configuration, its authorities and their rules.

All of it is made anew for a start, for a reload, and for each step of a
key's rollover, and is replaced as one value.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve, frozen

from trstctl.authorities import (
    AuthorityFault,
    AuthorityLoader,
    Loaded,
    key_place,
)
from trstctl.ca.edition import Issuer
from trstctl.config.model import Configuration
from trstctl.config.places import issuer_of, over_tls, places_of
from trstctl.founding import CA_DIRECTORY
from trstctl.model import Generation
from trstctl.pkix.certificate import read_certificate
from trstctl.policy.profile import Profile
from trstctl.policy.settings import GATEWAY_PROFILE, gateway_profiles
from trstctl.rules import Rules
from trstctl.serving.faults import StartFault


@frozen
class InForce:
    """
    What a gateway works by.

    :ivar generations: the authorities' keys, as the store has them.
    :ivar loaded: the authorities on this host.
    :ivar rules: what every request sees of them.
    """

    config: Configuration
    generations: tuple[Generation, ...]
    loaded: Loaded
    rules: Rules

    @classmethod
    def made_of(
        cls,
        loader: AuthorityLoader,
        config: Configuration,
        generations: Sequence[Generation] | None,
        former: Loaded | None = None,
    ) -> InForce:
        """
        Load the authorities, and make the rules.

        :param generations: ``None``: nobody has looked into the store yet.
        :param former: authorities of the same configuration, kept where
            nothing has changed.
        :raises StartFault: naming the file and the remedy.
        """
        loaded = _load(loader, config, generations, former)
        return cls(
            config,
            tuple(generations or ()),
            loaded,
            _rules_of(config, loaded),
        )

    def issuers(self) -> dict[str, Issuer]:
        """Return the authorities with what is published of them."""
        return {
            name: issuer_of(
                self.config, authority, self.loaded.configured[name]
            )
            for name, authority in self.loaded.publishing.items()
        }

    def require_keys(self) -> None:
        """
        Require the keys of a rollover that this host has to have.

        :raises StartFault: one is missing.
        """
        for one in self.generations:
            if one.name in self.loaded.absent and (
                one.name in self.loaded.needed
            ):
                _, _, place = key_place(one.key, self.config.state).partition(
                    ":"
                )
                raise StartFault(
                    f"{place} is missing, and {one.name} is to sign; copy it "
                    "from the host that has prepared it"
                )


def _load(
    loader: AuthorityLoader,
    config: Configuration,
    generations: Sequence[Generation] | None,
    former: Loaded | None,
) -> Loaded:
    """Load the authorities, or say what would mend it."""
    try:
        return loader.load(config, generations, former)
    except AuthorityFault as error:
        remedy = ""
        if not (config.state / CA_DIRECTORY).exists():
            # Not for a key that is merely unreadable: there is a CA.
            remedy = (
                f" (a new one is made by: trstctl init --state {config.state})"
            )
        raise StartFault(f"{error}{remedy}") from error


def _rules_of(config: Configuration, loaded: Loaded) -> Rules:
    """Return authorities and profiles, as every request sees them."""
    blocked = frozenset(
        read_certificate(authority.certificate).public_key.fingerprint
        for authority in loaded.authorities.values()
    )
    own = gateway_profiles()
    # The first authority certifies the gateway.  RFC 5280, section 8: the
    # certificate of a server that pointers lead to over TLS MUST be fit to
    # be checked without them.
    if over_tls(places_of(config, next(iter(config.authorities)))):
        own[GATEWAY_PROFILE] = evolve(own[GATEWAY_PROFILE], pointers=())
    profiles = {
        name: Profile(name, settings, blocked)
        for name, settings in {**config.profiles, **own}.items()
    }
    return Rules(
        authorities=loaded.authorities,
        profiles=profiles,
        successions=loaded.successions,
    )
