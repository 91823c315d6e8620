# SPDX-License-Identifier: MIT
"""Counts failures by key, and says who has to wait; bounded in memory."""

from __future__ import annotations

from collections import OrderedDict
from math import ceil

from twisted.internet.interfaces import IReactorTime


class Throttle:
    """
    A bucket of allowed failures for each key, refilled at a steady rate.

    :param clock: the monotonic clock.
    :param failures: allowed in a burst, and then each minute.
    :param keys: how many keys are remembered; the longest untouched is
        forgotten first.
    """

    def __init__(
        self, clock: IReactorTime, failures: int = 10, keys: int = 20_000
    ) -> None:
        self._clock = clock
        self._failures = float(failures)
        self._keys = keys
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, *keys: str) -> int:
        """Return how many seconds the most burdened key has to wait."""
        spent = max(self.spent(key) for key in keys)
        over = spent - self._failures + 1.0
        if over <= 0:
            return 0
        return ceil(over * 60.0 / self._failures)

    def failed(self, *keys: str) -> None:
        """Count one failure for each key."""
        seconds = self._clock.seconds()
        for key in keys:
            spent = min(self.spent(key) + 1.0, self._failures)
            self._spent[key] = (spent, seconds)
            self._spent.move_to_end(key)
        while len(self._spent) > self._keys:
            self._spent.popitem(last=False)

    def forgive(self, *keys: str) -> None:
        """Take back one failure for each key: it was none."""
        seconds = self._clock.seconds()
        for key in keys:
            if key in self._spent:
                spent = max(0.0, self.spent(key) - 1.0)
                self._spent[key] = (spent, seconds)

    def spent(self, key: str) -> float:
        """Return what the key has spent, less what it has earned back."""
        spent, since = self._spent.get(key, (0.0, 0.0))
        if not spent:
            return 0.0
        earned = (self._clock.seconds() - since) * self._failures / 60.0
        return max(0.0, spent - earned)

    def __len__(self) -> int:
        return len(self._spent)
