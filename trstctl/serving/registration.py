# SPDX-License-Identifier: MIT
"""Joins the registration authority with all that it works with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from trstctl.backends.attempts import Attempts
from trstctl.backends.authenticators import StoreAuthenticator
from trstctl.challenges import ChallengeTokens, key_ring
from trstctl.config.model import Configuration
from trstctl.interfaces import IStore
from trstctl.key_maker import KeyMaker
from trstctl.metrics import Metrics
from trstctl.outbound import Connections, Outbound
from trstctl.ra import RegistrationAuthority
from trstctl.revocation_challenges import RevocationChallenges
from trstctl.rules import Rules, Windows
from trstctl.serving.threads import Threads
from trstctl.vouching import DeviceSecrets


def make_ra(
    config: Configuration,
    rules: Rules,
    *,
    store: IStore,
    threads: Threads,
    metrics: Metrics,
    reactor: Any,
    now: Callable[[], datetime],
    random_bytes: Callable[[int], bytes],
    reached: Callable[[str], None],
) -> RegistrationAuthority:
    """
    Return the registration authority of a gateway.

    But for what has rounds of its own: its credentials and the publisher.

    :param rules: those that it begins with.
    :param now: the wall clock, UTC.
    :param reached: called with the name of each failure point.
    """
    limits = config.limits
    ra = RegistrationAuthority(
        store=store,
        rules=rules,
        authenticator=StoreAuthenticator(
            store,
            lambda: ra.rules.authorities,
            reactor,
            threads.hash_password,
            random_bytes,
            limits.password_failures,
        ),
        clock=reactor,
        now=now,
        random_bytes=random_bytes,
        owner=str(UUID(bytes=random_bytes(16), version=4)),
        windows=Windows(
            retry=timedelta(seconds=limits.retry_window),
            retention=timedelta(seconds=limits.key_retention),
            held=timedelta(seconds=limits.hold_timeout),
            waiting=limits.held_requests,
        ),
        reached=reached,
        elsewhere=threads.run,
    )
    ra.outbound = outbound = Outbound(
        Connections(reactor),
        reactor,
        lambda: fraction(random_bytes),
        metrics.called,
    )
    metrics.observe(
        "trstctl_outbound_open_circuits",
        "Hosts that are left alone because they failed.",
        outbound.open_circuits,
    )
    ra.challenges = challenges = ChallengeTokens(
        store,
        key_ring(config.state, random_bytes).keys,
        reactor,
        limits.password_failures,
    )
    ra.device_secrets = DeviceSecrets(store, challenges, now, random_bytes)
    attempts: Any = Attempts(
        reactor, limits.password_failures, limits.outbound_calls
    )
    ra.attempts = attempts
    ra.revocation_challenges = RevocationChallenges(
        reactor, threads.hash_password, limits.password_failures
    )
    ra.key_maker = KeyMaker(threads.run)
    return ra


def fraction(random_bytes: Callable[[int], bytes]) -> float:
    """Return a random float in [0, 1)."""
    return int.from_bytes(random_bytes(4), "big") / 2**32
