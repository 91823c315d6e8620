# SPDX-License-Identifier: MIT
"""
Bounds what challenges cost that somebody else judges.

Theory of operation
===================

T-1  *Wrong ones wait.*  They are counted by address (all of an IPv6 /64 is
     one), by the device that the request names and by its transaction.
T-2  *Nobody is locked out by others.*  Failures of other addresses count only
     for whoever has failed more than a few times himself: an honest device is
     looked at whatever is guessed in its name.  What has been let in is known
     for a while, and asked for again without waiting.
T-3  *So many questions, and no more.*  Each question to somebody else is
     counted by address before it is put, whatever becomes of it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from trstctl.backends.throttle import Throttle
from trstctl.errors import ChallengeRejected, Throttled
from trstctl.http.site import holder
from trstctl.interfaces import IAttempts
from trstctl.model import EnrollmentRequest
from trstctl.pkix.names import COMMON_NAME, SERIAL_NUMBER, attribute_values

#: Failures of one's own from which on others' count, too (T-2).
_FEW = 3.0

#: Seconds for which what was let in is known, and how many are.
_KNOWN_SECONDS = 600.0
_KNOWN = 10_000

#: Characters of a device or a transaction that are told apart.
_LONGEST = 128


def peer_bucket(peer: str) -> str:
    """Return under which key an address is counted."""
    return f"peer {holder(peer)}"


def device_buckets(request: EnrollmentRequest) -> list[str]:
    """Return under which keys the device is counted that a request names."""
    tenant = request.endpoint.tenant_id
    return [
        f"device {tenant} {value.casefold()[:_LONGEST]}"
        for oid in (COMMON_NAME, SERIAL_NUMBER)
        for value in attribute_values(request.wanted.subject, oid)[:1]
    ]


@implementer(IAttempts)
class Attempts:
    """
    Counts wrong challenges, and questions to others.

    :param clock: the monotonic clock.
    :param failures: wrong challenges allowed a minute.
    :param calls: questions allowed a minute, for one address.
    """

    def __init__(
        self, clock: IReactorTime, failures: int = 10, calls: int = 600
    ) -> None:
        self._clock = clock
        self._failures = Throttle(clock, failures)
        self._calls = Throttle(clock, calls)
        self._known: OrderedDict[bytes, float] = OrderedDict()

    def failed(self, request: EnrollmentRequest) -> None:
        """Count a wrong challenge; see the interface."""
        peer, others = _buckets(request)
        self._admit(peer, others)
        self._failures.failed(peer, *others)

    def ask(self, peer: str) -> None:
        """Count a question to somebody else; see the interface."""
        bucket = peer_bucket(peer)
        wait = self._calls.wait(bucket)
        if wait:
            raise Throttled(wait)
        self._calls.failed(bucket)

    @contextmanager
    def judging(
        self, request: EnrollmentRequest, challenge: str
    ) -> Iterator[None]:
        """Count what somebody else judges; see the interface."""
        peer, others = _buckets(request)
        memory = _memory_of(request, challenge)
        if self._known.get(memory, 0.0) <= self._clock.seconds():
            self._admit(peer, others)
        self.ask(request.peer)
        try:
            yield
        except ChallengeRejected:
            self._known.pop(memory, None)
            self._failures.failed(peer, *others)
            raise
        self._known[memory] = self._clock.seconds() + _KNOWN_SECONDS
        self._known.move_to_end(memory)
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    def _admit(self, peer: str, others: list[str]) -> None:
        """Refuse whoever has failed too often (T-1, T-2)."""
        wait = self._failures.wait(peer)
        if self._failures.spent(peer) >= _FEW:
            wait = max(wait, self._failures.wait(peer, *others))
        if wait:
            raise Throttled(wait)


def _buckets(request: EnrollmentRequest) -> tuple[str, list[str]]:
    """Return under which keys a request is counted: its address's first."""
    others = device_buckets(request)
    if request.transaction:
        tenant, name = request.endpoint.tenant_id, request.transaction
        others.append(f"transaction {tenant} {name[:_LONGEST]}")
    return peer_bucket(request.peer), others


def _memory_of(request: EnrollmentRequest, challenge: str) -> bytes:
    """Return a digest of what one device asks again with."""
    endpoint = request.endpoint
    digest = hashlib.sha256()
    for part in (
        endpoint.tenant_id,
        endpoint.protocol,
        endpoint.name,
        request.wanted.public_key.fingerprint,
        challenge,
    ):
        octets = part.encode("utf-8")
        digest.update(b"%d:%s" % (len(octets), octets))
    return digest.digest()
