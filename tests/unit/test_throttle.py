# SPDX-License-Identifier: MIT
"""Failures are counted by key, forgiven with time, and bounded in memory."""

from __future__ import annotations

from twisted.internet.task import Clock

from trstctl.backends.throttle import Throttle


class ThrottleTests:
    """A bucket for each key (security: at most 10 wrong guesses a minute)."""

    def test_allows_a_burst_then_waits(self) -> None:
        """The allowed failures pass; the next one waits for its share."""
        throttle = Throttle(Clock(), failures=10)
        for _ in range(10):
            assert 0 == throttle.wait("a")
            throttle.failed("a")
        assert 6 == throttle.wait("a")

    def test_forgives_at_the_rate(self) -> None:
        """After the announced wait there is one more try, and only one."""
        clock = Clock()
        throttle = Throttle(clock, failures=10)
        for _ in range(10):
            throttle.failed("a")
        clock.advance(throttle.wait("a"))
        assert 0 == throttle.wait("a")
        throttle.failed("a")
        assert throttle.wait("a")

    def test_wait_is_never_announced_too_short(self) -> None:
        """Who comes back after the announced time is looked at."""
        clock = Clock()
        throttle = Throttle(clock, failures=7)
        for _ in range(7):
            throttle.failed("a")
        clock.advance(0.3)
        clock.advance(throttle.wait("a"))
        assert 0 == throttle.wait("a")

    def test_forgives_everything_in_the_end(self) -> None:
        """A minute later the whole burst is there again."""
        clock = Clock()
        throttle = Throttle(clock, failures=3)
        for _ in range(3):
            throttle.failed("a")
        clock.advance(120)
        for _ in range(3):
            assert 0 == throttle.wait("a")
            throttle.failed("a")
        assert throttle.wait("a")

    def test_does_not_count_without_end(self) -> None:
        """Many failures at once cost no more than the burst: no lockout."""
        clock = Clock()
        throttle = Throttle(clock, failures=10)
        for _ in range(1000):
            throttle.failed("a")
        assert 6 == throttle.wait("a")

    def test_takes_back_what_was_no_failure(self) -> None:
        """One for each key, never more than was counted."""
        clock = Clock()
        throttle = Throttle(clock, failures=2)
        throttle.forgive("a", "b")
        assert 0 == len(throttle)
        for _ in range(2):
            throttle.failed("a")
        throttle.forgive("a")
        assert 0 == throttle.wait("a")
        throttle.failed("a")
        clock.advance(45)
        assert 0.5 == throttle.spent("a")
        throttle.forgive("a")
        assert 0.0 == throttle.spent("a")

    def test_the_most_burdened_key_decides(self) -> None:
        """A known address does not help an attacked name, nor vice versa."""
        throttle = Throttle(Clock(), failures=1)
        throttle.failed("peer")
        assert 0 == throttle.wait("name")
        assert 60 == throttle.wait("name", "peer")

    def test_memory_is_bounded(self) -> None:
        """A million names take no more than the limit."""
        throttle = Throttle(Clock(), failures=1, keys=100)
        throttle.failed("victim")
        for number in range(99):
            throttle.failed(f"name {number}")
        assert 100 == len(throttle)
        assert throttle.wait("victim")
        throttle.failed("one more")
        assert 100 == len(throttle)
        assert 0 == throttle.wait("victim")

    def test_who_goes_on_failing_is_not_forgotten(self) -> None:
        """The key that is forgotten is the longest untouched one."""
        throttle = Throttle(Clock(), failures=1, keys=2)
        throttle.failed("a")
        throttle.failed("b")
        throttle.failed("a")
        throttle.failed("c")
        assert throttle.wait("a")
        assert 0 == throttle.wait("b")
