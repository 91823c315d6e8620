# SPDX-License-Identifier: MIT
"""What protocols do every few minutes."""

from __future__ import annotations

from typing import Any

from twisted.logger import globalLogPublisher

from trstctl.errors import Unavailable
from trstctl.serving.served import Served
from trstctl.testing import result_of
from trstctl.web import make_root


class Protocol:
    """A protocol with rounds of its own."""

    name = "sample"

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.rounds = 0

    async def tend(self) -> None:
        """Do the rounds, or fail."""
        self.rounds += 1
        if self.error is not None:
            raise self.error


class RoundsTests:
    """One protocol's rounds are not another's."""

    def test_everybody_has_a_turn(self) -> None:
        """One that is unavailable is logged, and the next goes on."""
        events: list[Any] = []
        one, other = Protocol(Unavailable()), Protocol()
        served = Served(make_root({}), make_root({}), (one, object(), other))
        globalLogPublisher.addObserver(events.append)
        result_of(served.tend())
        globalLogPublisher.removeObserver(events.append)
        assert (1, 1) == (one.rounds, other.rounds)
        (event,) = events
        assert ("round.unavailable", "sample") == (
            event["event"],
            event["protocol"],
        )
