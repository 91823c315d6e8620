# SPDX-License-Identifier: MIT
"""
Loads the authorities: those of the configuration, and their generations.

A generation whose key is not on this host still counts for what it has
issued; it signs nothing here.  One that is retired goes on with its CRL and
OCSP responder while its key is there, and is forgotten once the key has been
destroyed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
)
from twisted.internet.defer import maybeDeferred

from trstctl.backends.keyfiles import KeyFileError
from trstctl.backends.signers import AbsentSigner
from trstctl.ca.authority import Authority
from trstctl.ca.chain import UnfitAuthority
from trstctl.ca.succession import retired, succession_of, under_way
from trstctl.config.model import Configuration
from trstctl.config.places import places_of
from trstctl.config.secrets import SecretError
from trstctl.founding import CA_DIRECTORY, load_chain, load_key
from trstctl.interfaces import IAuthority, ISigner
from trstctl.model import Generation, Phase, Succession
from trstctl.pkix.certificate import read_certificate
from trstctl.ra import unmarked


class AuthorityFault(Exception):
    """
    An authority cannot be loaded.

    The text names it, and what is wrong.
    """


def key_place(reference: str, state: Path) -> str:
    """Return the reference to a generation's key, with an absolute path."""
    kind, _, place = reference.partition(":")
    return f"file:{state / place}" if kind == "file" else reference


def is_at_hand(reference: str) -> bool:
    """Tell whether there is something at a key's place."""
    kind, _, place = reference.partition(":")
    return kind != "file" or Path(place).exists()


@frozen
class Loaded:
    """
    The authorities of one moment.

    :ivar authorities: by name; each generation is one.
    :ivar configured: the authority of the configuration that each is of.
    :ivar successions: of those that have had several keys.
    :ivar absent: generations whose keys are not on this host.
    :ivar refused: those of them that are active, and not followed here.
    :ivar retired: those that only say what is revoked of theirs.
    :ivar keys: reference to the key of each.
    """

    authorities: dict[str, IAuthority] = field(factory=dict)
    configured: dict[str, str] = field(factory=dict)
    successions: dict[str, Succession] = field(factory=dict)
    absent: set[str] = field(factory=set)
    refused: set[str] = field(factory=set)
    retired: set[str] = field(factory=set)
    keys: dict[str, str] = field(factory=dict)

    @property
    def moved(self) -> bool:
        """Whether a key has come that lacked, or a retired one has gone."""
        return any(
            is_at_hand(self.keys[name]) for name in self.absent
        ) or not all(is_at_hand(self.keys[name]) for name in self.retired)

    @property
    def publishing(self) -> Mapping[str, IAuthority]:
        """Those that can sign CRLs here."""
        return self._but(self.absent)

    @property
    def needed(self) -> Mapping[str, IAuthority]:
        """Those without which this host is not ready."""
        return self._but(self.retired | (self.absent - self.refused))

    def _but(self, names: Collection[str]) -> Mapping[str, IAuthority]:
        """Return all but some."""
        return {
            name: authority
            for name, authority in self.authorities.items()
            if name not in names
        }


class AuthorityLoader:
    """
    Loads authorities.

    :param make_signer: makes a signer of a private key.
    :param reached: called with the name of each failure point.
    :param elsewhere: calls a function in a thread.
    """

    def __init__(
        self,
        make_signer: Callable[[CertificateIssuerPrivateKeyTypes], ISigner],
        reached: Callable[[str], None] = unmarked,
        elsewhere: Callable[..., Any] = maybeDeferred,
    ) -> None:
        self._make_signer = make_signer
        self._reached = reached
        self._elsewhere = elsewhere

    def load(
        self,
        config: Configuration,
        generations: Sequence[Generation] | None,
        former: Loaded | None = None,
    ) -> Loaded:
        """
        Load all authorities.

        :param generations: as the store has them; ``None``: nobody has
            looked yet, and a key that may have been destroyed may lack.
        :param former: those of the same configuration, kept where nothing
            has changed.
        :raises AuthorityFault: a key or certificate is missing or unfit.
        """
        loaded = Loaded()
        former = former or Loaded()
        for name in config.authorities:
            chains = self._configured(
                config, name, generations, loaded, former
            )
            line = [one for one in generations or () if one.authority == name]
            for one in line:
                self._generation(config, one, line, loaded, former)
                chains[one.name] = one.chain
            if line:
                spread = config.authorities[name].renewal_spread
                _settle(name, line, chains, timedelta(seconds=spread), loaded)
        return loaded

    def _configured(
        self,
        config: Configuration,
        name: str,
        generations: Sequence[Generation] | None,
        loaded: Loaded,
        former: Loaded,
    ) -> dict[str, tuple[bytes, ...]]:
        """Load the first generation; return its chain by its name."""
        settings = config.authorities[name]
        if not is_at_hand(settings.key) and (
            _has_successor(config, name)
            if generations is None
            else name in retired(name, generations)
        ):
            return {}  # its key has been destroyed
        try:
            chain = load_chain(settings)
        except (KeyFileError, OSError) as error:
            raise AuthorityFault(f"authority {name}: {error}") from error
        self._add(config, name, name, settings.key, chain, loaded, former)
        return {name: chain}

    def _generation(
        self,
        config: Configuration,
        one: Generation,
        line: Sequence[Generation],
        loaded: Loaded,
        former: Loaded,
    ) -> None:
        """Load a later generation, unless its key has been destroyed."""
        if one.name in config.authorities:
            raise AuthorityFault(
                f"authority {one.name}: this is a generation of "
                f"{one.authority}; give the authority another name"
            )
        reference = key_place(one.key, config.state)
        if not is_at_hand(reference):
            if one.name in retired(one.authority, line):
                return
            loaded.absent.add(one.name)
        self._add(
            config,
            one.authority,
            one.name,
            reference,
            one.chain,
            loaded,
            former,
        )

    def _add(
        self,
        config: Configuration,
        configured: str,
        name: str,
        reference: str,
        chain: tuple[bytes, ...],
        loaded: Loaded,
        former: Loaded,
    ) -> None:
        """Load one generation; its key must fit its certificate."""
        loaded.configured[name] = configured
        loaded.keys[name] = reference
        absent = name in loaded.absent
        kept = former.authorities.get(name)
        if kept is not None and (tuple(kept.chain), absent) == (
            chain,
            name in former.absent,
        ):
            loaded.authorities[name] = kept
            return
        try:
            signer: Any
            if absent:
                facts = read_certificate(chain[0])
                signer = AbsentSigner(facts.public_key.spki)
            else:
                passphrase = config.authorities[configured].passphrase
                signer = self._make_signer(
                    load_key(reference, passphrase, os.environ)
                )
            authority: Any = Authority(
                name,
                chain[0],
                chain,
                signer,
                reached=self._reached,
                places=places_of(config, configured, name),
                elsewhere=self._elsewhere,
            )
        except (KeyFileError, SecretError, UnfitAuthority, OSError) as error:
            raise AuthorityFault(f"authority {name}: {error}") from error
        loaded.authorities[name] = authority


def _settle(
    name: str,
    line: Sequence[Generation],
    chains: Mapping[str, tuple[bytes, ...]],
    renewal_spread: timedelta,
    loaded: Loaded,
) -> None:
    """Note what an authority with several generations is now."""
    over = retired(name, line)
    loaded.retired.update(each for each in over if each in loaded.authorities)
    at_hand = loaded.authorities.keys() - loaded.absent
    loaded.successions[name] = succession_of(
        name, line, chains, at_hand, renewal_spread
    )
    coming = under_way(name, line)
    if (
        coming is not None
        and coming.phase is Phase.ACTIVE
        and coming.name in loaded.absent
    ):
        loaded.refused.add(coming.name)


def _has_successor(config: Configuration, name: str) -> bool:
    """Tell whether keys of later generations are on this host."""
    return any((config.state / CA_DIRECTORY).glob(f"{name}-*.key"))
