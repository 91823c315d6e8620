# SPDX-License-Identifier: MIT
"""Tests of admission: bounded places, bounded lines, fair between keys."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from trstctl.admission import Admission
from trstctl.errors import Unavailable

A, B = ("est", "tenant a"), ("est", "tenant b")


def waits(place: Deferred[None] | None) -> list[object]:
    """Return the list that what happens to a waiter is put into."""
    assert place is not None
    happened: list[object] = []
    place.addCallbacks(
        lambda _: happened.append("in"),
        lambda failure: happened.append(failure.value),
    )
    return happened


class AdmissionTests:
    """Two places and two seats for each key."""

    def setup_method(self) -> None:
        """Make one."""
        self.clock = Clock()
        self.admission = Admission(self.clock, 2, 2, 5.0, 10)

    def test_free_place(self) -> None:
        """A free place is taken at once, without a Deferred or timer."""
        assert self.admission.acquire(A) is None
        assert self.admission.acquire(A) is None
        assert (2, 0) == self.admission.load(A)
        assert [] == self.clock.getDelayedCalls()

    def test_line(self) -> None:
        """Who comes first is served first."""
        self.admission.acquire(A)
        self.admission.acquire(A)
        first = waits(self.admission.acquire(A))
        second = waits(self.admission.acquire(A))
        assert ([], []) == (first, second)
        self.admission.release(A)
        assert (["in"], []) == (first, second)
        self.admission.release(A)
        assert (["in"], ["in"]) == (first, second)
        assert [] == self.clock.getDelayedCalls()
        assert (2, 0) == self.admission.load(A)

    def test_long_line_of_short_requests(self) -> None:
        """A line is not as deep a stack as it is long (R-5)."""
        admission = Admission(self.clock, 1, 2000, 5.0)
        served: list[int] = []

        async def request(number: int) -> None:
            place = admission.acquire(A)
            assert place is not None
            await place
            served.append(number)
            admission.release(A)

        admission.acquire(A)
        for number in range(2000):
            Deferred.fromCoroutine(request(number))
        admission.release(A)
        assert list(range(2000)) == served
        assert (0, 0) == admission.load(A)

    def test_who_comes_while_the_line_moves(self) -> None:
        """Nobody overtakes those who wait."""
        admission = Admission(self.clock, 1, 9, 5.0)
        admission.acquire(A)
        first, second = admission.acquire(A), admission.acquire(A)
        assert first is not None
        late: list[Deferred[None] | None] = []

        def leave_and_come_back(_: None) -> None:
            admission.release(A)
            late.append(admission.acquire(A))

        first.addCallback(leave_and_come_back)
        happened = waits(second)
        admission.release(A)
        assert ["in"] == happened
        came_back = waits(late[0])
        assert [] == came_back
        admission.release(A)
        assert ["in"] == came_back

    def test_full(self) -> None:
        """A full line refuses with the pause that the web layer jitters (R-12)."""
        for _ in range(4):
            self.admission.acquire(A)
        with pytest.raises(Unavailable) as caught:
            self.admission.acquire(A)
        assert 10 == caught.value.retry_after

    def test_wait_is_bounded(self) -> None:
        """Who waits too long is refused, and its seat is free."""
        self.admission.acquire(A)
        self.admission.acquire(A)
        first = waits(self.admission.acquire(A))
        self.clock.advance(4)
        second = waits(self.admission.acquire(A))
        self.clock.advance(1)
        assert isinstance(first[0], Unavailable)
        assert 10 == first[0].retry_after
        assert [] == second
        assert (2, 1) == self.admission.load(A)
        self.admission.release(A)
        assert ["in"] == second

    def test_cancelled(self) -> None:
        """Who is cancelled leaves the line, and no timer behind."""
        self.admission.acquire(A)
        self.admission.acquire(A)
        gone = self.admission.acquire(A)
        stays = waits(self.admission.acquire(A))
        assert gone is not None
        gone.addErrback(lambda _: None)
        gone.cancel()
        assert 1 == len(self.clock.getDelayedCalls())
        self.admission.release(A)
        assert ["in"] == stays
        assert [] == self.clock.getDelayedCalls()

    def test_storm(self) -> None:
        """A storm on one key leaves the others alone."""
        for _ in range(4):
            self.admission.acquire(A)
        with pytest.raises(Unavailable):
            self.admission.acquire(A)
        assert self.admission.acquire(B) is None

    def test_nothing_is_kept(self) -> None:
        """A key without anyone running costs nothing."""
        for _ in range(3):
            self.admission.acquire(A)
            self.admission.acquire(A)
            self.admission.release(A)
            self.admission.release(A)
        assert (0, 0) == self.admission.load(A)
        assert {} == self.admission._lines
