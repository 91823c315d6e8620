# SPDX-License-Identifier: MIT
"""
Work that goes on when nobody waits for it any more.

A client that leaves cancels what runs for it.  From a certain point on, work
must not be cancelled but come to its end: it runs behind the shield, and only
the waiting for it can be cancelled.  Who stops the process can wait for all
that is behind the shield.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

_T = TypeVar("_T")


def to_its_end(coroutine: Coroutine[Any, Any, _T]) -> Deferred[_T]:
    """
    Run what must not be cut short and may well fail, such as a proof.

    :returns: fires with what comes of it; to cancel it stops the waiting
        only, and nobody hears of what comes of it then.
    """
    waiting: Deferred[_T] = Deferred()
    Deferred.fromCoroutine(coroutine).addBoth(waiting.callback)
    return waiting


class Shield(Generic[_T]):
    """
    Keeps what runs behind it from being cancelled.

    :ivar closed: whether nothing new should begin; for the caller to ask.
    """

    _log = Logger()

    def __init__(self) -> None:
        self.closed = False
        self._running: set[Deferred[_T]] = set()
        self._drained: list[Deferred[None]] = []

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> Deferred[_T]:
        """
        Run the coroutine to its end.

        :returns: fires with what comes of it; to cancel it stops the
            waiting only.  A failure that nobody waits for is logged.
        """
        work: Deferred[_T] = Deferred.fromCoroutine(coroutine)
        self._running.add(work)
        waiting: Deferred[_T] = Deferred()

        def finished(result: Any) -> None:
            self._running.discard(work)
            if not self._running:
                for drained in self._drained:
                    drained.callback(None)
                self._drained.clear()
            if waiting.called and isinstance(result, Failure):
                self._log.failure(
                    "an issuance failed after its client had left",
                    failure=result,
                    event="issuance.failed",
                )
            waiting.callback(result)  # a Failure makes it an errback

        work.addBoth(finished)
        return waiting

    async def close(self) -> None:
        """Let nothing new begin, and wait until nothing runs."""
        self.closed = True
        if self._running:
            drained: Deferred[None] = Deferred()
            self._drained.append(drained)
            await drained
