# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.serving.rounds`."""

from __future__ import annotations

from conftest import LoggedFailures
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from trstctl.serving.rounds import Rounds


class RoundsTests:
    """What is done again and again."""

    def test_interval(self) -> None:
        """An act has its round after each interval, at once if asked to."""
        clock, acts = Clock(), list[str]()
        rounds = Rounds(clock)

        async def act() -> None:
            acts.append("act")

        rounds.repeat(5.0, act)
        assert [] == acts
        rounds.repeat(7.0, act, at_once=True)
        assert 1 == len(acts)
        clock.advance(5.0)
        assert 2 == len(acts)
        clock.advance(2.0)
        assert 3 == len(acts)
        rounds.stop()
        clock.advance(60.0)
        assert 3 == len(acts)

    def test_one_at_a_time(self) -> None:
        """A round that lasts is not overtaken by the next."""
        clock, waits = Clock(), list[Deferred[None]]()

        async def act() -> None:
            waits.append(Deferred())
            await waits[-1]

        rounds = Rounds(clock)
        rounds.repeat(1.0, act)
        clock.pump([1.0] * 3)
        assert 1 == len(waits)
        waits[0].callback(None)
        clock.advance(1.0)
        assert 2 == len(waits)
        rounds.stop()
        waits[1].callback(None)

    def test_round_that_fails(self, logged: LoggedFailures) -> None:
        """The next one is made all the same, and the log has the error."""
        clock = Clock()
        rounds = Rounds(clock)

        async def act() -> None:
            raise KeyError

        rounds.repeat(1.0, act)
        clock.pump([1.0, 1.0])
        assert 2 == len(logged.flush(KeyError))
        rounds.stop()
