# SPDX-License-Identifier: MIT
"""
What changes while a gateway serves: reloads, rollovers, its certificate.

Theory of operation
===================

C-1  *One swap.*  A change builds authorities, profiles, resources and TLS
     context anew, and only when all of them stand are they put in place.
     What is wrong leaves the old ones at work.  Requests under way keep what
     they began with.
C-2  *One at a time.*  What was asked for last is what stays.
C-3  A step of a key's rollover, which the store tells of, is put in place in
     the same way.
C-4  *Nobody waits for a key.*  To read one of RSA-4096 takes 0.4 s, and one
     with a passphrase 0.1 s; while it lacks, that is tried every other
     second.  So the authorities are loaded in a thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
)
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from trstctl.authorities import AuthorityLoader, Loaded
from trstctl.ca.publisher import Publisher
from trstctl.config.model import Configuration
from trstctl.config.places import doubt_about
from trstctl.errors import Unavailable
from trstctl.interfaces import IStore
from trstctl.metrics import Metrics
from trstctl.ra import RegistrationAuthority
from trstctl.server_certificate import ServerCertificate
from trstctl.serving.faults import REFUSALS
from trstctl.serving.in_force import InForce
from trstctl.serving.listeners import Listeners
from trstctl.serving.served import Served
from trstctl.tls import ServerTLS, make_context

_log = Logger(namespace="trstctl.gateway")


@define(kw_only=True, eq=False)
class Changes:
    """
    Puts in place what has changed.

    :ivar in_force: what the gateway works by.
    :ivar certificate: the server certificate of it.
    :ivar turn: held by whoever changes something, the start included (C-2).
    :ivar elsewhere: calls a function in a thread.
    :ivar read_again: reads the configuration file again.
    :ivar certify: returns what finds or makes the server certificate.
    :ivar serve: makes the protocols' resources.
    :ivar recorded: notes an act of the gateway in its audit log.
    :ivar over: whether the gateway stops, and follows nothing any more.
    """

    in_force: InForce
    certificate: ServerCertificate
    turn: DeferredLock
    store: IStore
    ra: RegistrationAuthority
    publisher: Publisher
    metrics: Metrics
    tls: ServerTLS
    listeners: Listeners
    loader: AuthorityLoader
    elsewhere: Callable[..., Awaitable[Any]]
    read_again: Callable[[], Configuration]
    certify: Callable[[InForce], ServerCertificate]
    serve: Callable[[Configuration], Served]
    recorded: Callable[[str], Awaitable[None]]
    over: bool = False
    # Why the last step could not be followed: said once.
    _unfollowed: str = field(default="", init=False)

    # --- reload -------------------------------------------------------------

    async def reload(self) -> bool:
        """
        Read the configuration again and put it in place (C-1).

        For who has the turn.

        :returns: whether the new one is in place; a bad one is logged, fault
            by fault, and changes nothing.
        """
        old = self.in_force.config
        try:
            config = self.read_again()
            coming = await self._made_of(config)
            if self.over:
                return False
            certificate = self.certify(coming)
            served = self.serve(config)
            chain, key = await certificate.current()
            make_context(chain, key)
            # The last that can fail: what nobody can record does not happen.
            await self.recorded("gateway.reloaded")
        except REFUSALS as error:
            for fault in getattr(error, "faults", None) or (error,):
                _log.error(
                    "the configuration was not reloaded: {reason}",
                    event="reload.refused",
                    reason=str(fault),
                )
            return False
        self._put_in_place(coming, certificate, chain, key)
        self.listeners.replace(config, served)
        _say_what_needs_a_restart(old, config)
        _log.info("the configuration was reloaded", event="reload.done")
        _tell_absent(coming.loaded)
        _doubt_pointers(config)
        return True

    async def _made_of(
        self, config: Configuration, former: Loaded | None = None
    ) -> InForce:
        """Load the authorities, and make the rules (C-4)."""
        generations = await self.store.list_generations()
        made: InForce = await self.elsewhere(
            InForce.made_of, self.loader, config, generations, former
        )
        return made

    def _put_in_place(
        self,
        coming: InForce,
        certificate: ServerCertificate,
        chain: tuple[bytes, ...],
        key: CertificateIssuerPrivateKeyTypes,
    ) -> None:
        """Work by these from now on."""
        self.tls.swap(chain, key)
        self.ra.rules = coming.rules
        self.publisher.replace(coming.issuers())
        self.metrics.keep_authorities(coming.loaded.publishing)
        self.in_force, self.certificate = coming, certificate

    # --- the rollover of a key ----------------------------------------------

    async def follow(self) -> None:
        """Put in place what the store says of the authorities' keys (C-3)."""
        try:
            generations = tuple(await self.store.list_generations())
        except Unavailable:
            return  # the store is away, as the readiness report says
        if (
            generations != self.in_force.generations
            or self.in_force.loaded.moved
        ):
            await self.turn.run(
                lambda: Deferred.fromCoroutine(self._followed())
            )

    async def _followed(self) -> None:
        """Load the generations anew, and swap them in at the end."""
        try:
            coming = await self._made_of(
                self.in_force.config, self.in_force.loaded
            )
            if self.over:
                return
            certificate = self.certify(coming)
            chain, key = await certificate.current()
            make_context(chain, key)
        except REFUSALS as error:
            if self.over:
                return  # it is the stop that refuses
            if str(error) != self._unfollowed:
                _log.error(
                    "a step of a rollover was not followed: {reason}",
                    event="rollover.unfollowed",
                    reason=str(error),
                )
            self._unfollowed = str(error)
            return
        self._unfollowed = ""
        self._put_in_place(coming, certificate, chain, key)
        _tell_generations(coming.loaded)

    # --- the server certificate ---------------------------------------------

    async def renew_certificate(self) -> None:
        """Renew the server certificate in time, for new connections."""
        await self.turn.run(
            lambda: Deferred.fromCoroutine(self._renew_if_due())
        )

    async def _renew_if_due(self) -> None:
        """Show another chain, if there is a newer one."""
        chain, key = await self.certificate.current()
        if chain != self.tls.chain:
            self.tls.swap(chain, key)
            _log.info(
                "the server certificate was renewed", event="tls.renewed"
            )

    # --- what an operator should know ---------------------------------------

    def tell(self) -> None:
        """Say with which keys the gateway begins, and what is doubtful."""
        _tell_generations(self.in_force.loaded)
        _doubt_pointers(self.in_force.config)


def _tell_generations(loaded: Loaded) -> None:
    """Say which generations issue, and which cannot be followed."""
    for name, now in loaded.successions.items():
        _log.info(
            "{authority} issues with the key of {generation}",
            event="rollover.followed",
            authority=name,
            generation=now.authority,
            following=now.following,
        )
    _tell_absent(loaded)


def _tell_absent(loaded: Loaded) -> None:
    """Say whose key is not on this host."""
    for name in sorted(loaded.absent):
        _log.error(
            "the key of {generation} is not on this host; copy its file",
            event="rollover.keyless",
            authority=loaded.configured[name],
            generation=name,
        )


def _doubt_pointers(config: Configuration) -> None:
    """Warn of pointers that certificates would carry in vain."""
    for name in config.authorities:
        reason = doubt_about(config, name)
        if reason:
            _log.warn(
                "set authorities.{authority}.public_url: what it issues "
                "points to where others may not look ({reason})",
                event="pointers.doubtful",
                authority=name,
                reason=reason,
            )


def _say_what_needs_a_restart(old: Configuration, new: Configuration) -> None:
    """Warn of changes that a reload cannot put in place."""
    changed = [
        section
        for section in ("state", "store", "limits", "log")
        if getattr(old, section) != getattr(new, section)
    ]
    if _places(old) != _places(new):
        changed.append("listeners")
    for section in changed:
        _log.warn(
            "a change of {section} needs a restart",
            event="reload.partial",
            section=section,
        )


def _places(config: Configuration) -> list[tuple[int, str]]:
    """Return where a configuration listens."""
    listeners = config.listeners
    plain = (listeners.http,) if listeners.http.enabled else ()
    return [
        (each.port, each.interface)
        for each in (listeners.https, listeners.ops, *plain)
    ]
