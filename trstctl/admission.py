# SPDX-License-Identifier: MIT
"""
Admission: how many requests of one kind run at once, and how many may wait.

Each key, in practice a protocol and a tenant, has places of its own, so that
a storm on one leaves the others alone.  Who finds no place waits in line, in
order, for a bounded time; who finds the line full, or waits too long, is
told to come back after a pause.  The web layer jitters it, so that a fleet
that was turned away together does not return together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from trstctl.errors import Unavailable

_T = TypeVar("_T")


@define
class _Line:
    """The places of one key: how many are taken, and who waits."""

    running: int = 0
    waiting: deque[Deferred[None]] = field(factory=deque)
    serving: bool = False


def _settled(result: _T, timer: IDelayedCall) -> _T:
    """Stop the clock of one who waits no longer."""
    if timer.active():
        timer.cancel()
    return result


class Admission:
    """
    Bounded places and bounded lines, by key.

    :param clock: times the waiting.
    :param running: places of each key.
    :param waiting: how many may wait for each key.
    :param wait_seconds: how long one may wait.
    :param retry_after: the pause, in seconds.
    """

    def __init__(
        self,
        clock: IReactorTime,
        running: int,
        waiting: int,
        wait_seconds: float,
        retry_after: int = 5,
    ) -> None:
        self._clock = clock
        self._running = running
        self._waiting = waiting
        self._wait_seconds = wait_seconds
        self._retry_after = retry_after
        self._lines: dict[Hashable, _Line] = {}

    def acquire(self, key: Hashable) -> Deferred[None] | None:
        """
        Take a place.

        :returns: ``None`` if the place is taken at once, which is the usual
            case and must be cheap; else a Deferred that fires when it is.
            A Deferred that is cancelled leaves the line.
        :raises Unavailable: the line is full; the Deferred fails with it
            after too long a wait.
        """
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        if line.running < self._running and not line.waiting:
            line.running += 1
            return None
        if len(line.waiting) >= self._waiting:
            raise self._unavailable()
        return self._join(line)

    def release(self, key: Hashable) -> None:
        """Give a place back: to who waits longest, if anyone waits."""
        line = self._lines[key]
        line.running -= 1
        if line.serving:
            # Whoever got a place was done with it at once; the loop below
            # goes on.  A call from here would nest as deep as the line is
            # long.
            return
        line.serving = True
        while line.waiting and line.running < self._running:
            line.running += 1
            line.waiting.popleft().callback(None)
        line.serving = False
        if not line.running:
            del self._lines[key]

    def running(self) -> int:
        """Return how many run, in all lines."""
        return sum(line.running for line in self._lines.values())

    def load(self, key: Hashable) -> tuple[int, int]:
        """Return how many run and how many wait."""
        line = self._lines.get(key)
        return (line.running, len(line.waiting)) if line else (0, 0)

    def _join(self, line: _Line) -> Deferred[None]:
        """Return a Deferred at the end of the line."""
        waiter: Deferred[None] = Deferred(line.waiting.remove)
        line.waiting.append(waiter)
        timer = self._clock.callLater(
            self._wait_seconds, self._give_up, line, waiter
        )

        return waiter.addBoth(_settled, timer)

    def _give_up(self, line: _Line, waiter: Deferred[None]) -> None:
        """Turn away who has waited too long."""
        line.waiting.remove(waiter)
        waiter.errback(self._unavailable())

    def _unavailable(self) -> Unavailable:
        """Return the refusal."""
        return Unavailable(retry_after=self._retry_after)
