# SPDX-License-Identifier: MIT
"""What is done again and again while a gateway serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger


class Rounds:
    """
    Acts at intervals; no round of an act begins before its last has ended.

    :param clock: the monotonic clock.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._loops: list[LoopingCall] = []

    def repeat(
        self,
        seconds: float,
        act: Callable[[], Awaitable[None]],
        *,
        at_once: bool = False,
    ) -> None:
        """Act every so many seconds; an error is logged, the next one runs."""

        async def safely() -> None:
            try:
                await act()
            except Exception:  # noqa: BLE001 - the rounds must go on
                self._log.failure("a round failed", event="round.failed")

        loop = LoopingCall(lambda: Deferred.fromCoroutine(safely()))
        loop.clock = self._clock
        loop.start(seconds, now=at_once)
        self._loops.append(loop)

    def stop(self) -> None:
        """Begin no other round."""
        for loop in self._loops:
            loop.stop()
