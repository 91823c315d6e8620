# SPDX-License-Identifier: MIT
"""Time, chance and results, as tests want them."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

#: The tenant of examples, and one that must never meet it.
TENANT = "11111111-1111-1111-1111-111111111111"
OTHER_TENANT = "22222222-2222-2222-2222-222222222222"

#: When every test begins.
EPOCH = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)

_T = TypeVar("_T")


class WallClock:
    """
    A wall clock that goes with a :class:`~twisted.internet.task.Clock`.

    Call it for the time.  Advancing the clock advances it, too; only
    :meth:`step` makes the two differ, as an administrator or NTP does.

    :param clock: what it goes with; by default it stands still.
    :param start: aware UTC time when ``clock`` shows zero.
    """

    def __init__(
        self, clock: Clock | None = None, start: datetime = EPOCH
    ) -> None:
        self._clock = clock or Clock()
        self._start = start

    def __call__(self) -> datetime:
        """Return the time, aware and in UTC."""
        return self._start + timedelta(seconds=self._clock.seconds())

    def step(self, by: timedelta) -> None:
        """Move the wall clock alone, in either direction."""
        self._start += by


class DeterministicBytes:
    """
    Random bytes that are the same in each run, and never repeat.

    :param seed: two sources with different seeds give different bytes.
    """

    def __init__(self, seed: str = "") -> None:
        self._seed = seed
        self._drawn = 0

    def __call__(self, count: int) -> bytes:
        """Return so many bytes."""
        self._drawn += 1
        text = f"{self._drawn} {self._seed}".encode()
        return hashlib.shake_128(text).digest(count)


def result_of(awaitable: Awaitable[_T]) -> _T:
    """
    Return the result of what has one already, or raise its error.

    :param awaitable: a Deferred that has fired, or a coroutine that waits
        for nothing that has not.
    :raises AssertionError: there is no result yet.
    """

    async def wait() -> _T:
        return await awaitable

    results: list[_T | Failure] = []
    Deferred.fromCoroutine(wait()).addBoth(results.append)
    if not results:
        raise AssertionError("there is no result yet")
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result
