# SPDX-License-Identifier: MIT
"""
Tests for :mod:`trstctl.backends.sqlite_writer`: which thread does what.

They use a real database and the writer's real thread, but no reactor, and a
clock that only the tests move.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from threading import get_ident
from typing import Any

import pytest
from store_driver import Driver
from twisted.internet.defer import CancelledError, Deferred

from trstctl.backends.sqlite_transaction import Transaction
from trstctl.backends.sqlite_writer import Bounds, GroupCommitWriter
from trstctl.backends.store_sqlite import connect
from trstctl.errors import Stale, Unavailable


class _Clock:
    """
    A clock that stands still, but for what a write adds.

    :ivar now: seconds.
    """

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _Traced:
    """
    A connection that notes which thread it is used in.

    :ivar here: statements of the reactor's thread, in order.
    :ivar there: those of the writer's.
    :ivar failing: statements that fail, each once.
    """

    def __init__(self, real: sqlite3.Connection) -> None:
        self._real = real
        self._home = get_ident()
        self.here: list[str] = []
        self.there: list[str] = []
        self.failing: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, text: str, *args: Any) -> sqlite3.Cursor:
        at_home = get_ident() == self._home
        (self.here if at_home else self.there).append(text)
        if text in self.failing:
            self.failing.remove(text)
            raise sqlite3.OperationalError("disk I/O error")
        return self._real.execute(text, *args)


class GroupCommitWriterTests:
    """Statements at once, commits in the thread, nobody waits for long."""

    @pytest.fixture(autouse=True)
    def _writer(self, tmp_path: Path) -> Iterator[None]:
        self.path = tmp_path / "w.db"
        real = connect(self.path, busy_seconds=0)
        real.execute("PRAGMA journal_mode = WAL")
        real.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, a TEXT)")
        self.connection = _Traced(real)
        self.clock, self.driver = _Clock(), Driver()
        self.closed = False
        self.writer = GroupCommitWriter(
            self.connection,  # type: ignore[arg-type]
            self.driver.deliver,
            busy_seconds=10,
            bounds=Bounds(detour=2, longest_detour=4),
            monotonic=self.clock,
        )
        self.writer.start()
        yield
        if not self.closed:
            self.driver.wait(self.writer.close())

    def write(self, text: str, **kwargs: Any) -> Deferred[int]:
        """Submit a write that returns the thread it was performed in."""
        return self.writer.submit(_add, text, **kwargs)

    def rows(self) -> list[str]:
        """What another process sees."""
        connection = connect(self.path, busy_seconds=5)
        try:
            found = connection.execute("SELECT a FROM t ORDER BY n")
            return [text for (text,) in found]
        finally:
            connection.close()

    def many(self, texts: str) -> list[Deferred[int]]:
        """Submit a write for each letter, as one batch."""
        connection = self.writer._connection
        self.writer._connection = None
        waiting = [self.write(text) for text in texts]
        assert connection is not None
        self.writer._take_back(connection)
        return waiting

    def threads(self, waiting: list[Deferred[int]]) -> list[bool]:
        """Whether each write was performed in the reactor's thread."""
        return [self.driver.wait(each) == get_ident() for each in waiting]

    def commits(self) -> int:
        return self.connection.there.count("COMMIT")

    # --- who does what ------------------------------------------------------

    def test_only_the_commit_is_in_the_thread(self) -> None:
        """A write is performed at once, and committed elsewhere."""
        waiting = self.write("a")
        assert self.connection.here[-2:] == ["BEGIN IMMEDIATE", _ADD]
        assert self.driver.wait(waiting) == get_ident()
        assert self.connection.there == ["COMMIT"]

    def test_not_before_the_commit(self) -> None:
        """W-1: the Deferred fires after the COMMIT has returned."""
        waiting = self.write("a")
        assert not waiting.called
        function, args = self.driver._inbox.get(timeout=30)
        assert self.rows() == ["a"]
        assert not waiting.called
        function(*args)
        assert waiting.called

    def test_handed_over(self) -> None:
        """W-8: while the thread has the connection, nobody else has."""
        waiting = self.write("a")
        assert self.writer._connection is None
        statements = len(self.connection.here)
        other = self.write("b")
        assert len(self.connection.here) == statements
        self.driver.wait(waiting)
        self.driver.wait(other)
        assert self.rows() == ["a", "b"]

    def test_one_delivery_for_each_lone_write(self) -> None:
        """A lone write waits for nothing but its commit."""
        for text in "abc":
            waiting = self.write(text)
            self.driver.run_one()
            assert waiting.called
        assert self.commits() == 3

    # --- batches ------------------------------------------------------------

    def test_gathers(self) -> None:
        """W-6: what comes during a commit is the next batch, in order."""
        first = self.write("a")
        rest = [self.write(text) for text in "bcd"]
        assert all(self.threads([first, *rest]))
        assert self.commits() == 2
        assert self.rows() == list("abcd")

    def test_submitted_by_who_was_told(self) -> None:
        """Results are told first; what they bring about goes together."""
        second: list[Deferred[int]] = []

        def follow(_: int) -> None:
            second.append(self.write("x"))

        first = [each.addCallback(follow) for each in self.many("abc")]
        for each in first:
            self.driver.wait(each)
        # A turn of the reactor, in which another one joins.
        joining = self.write("y")
        assert all(self.threads([*second, joining]))
        assert self.commits() == 2
        assert self.rows() == [*"abcxxxy"]

    def test_turn(self) -> None:
        """S-6: a batch takes nothing more after two milliseconds."""

        def slow(transaction: Transaction) -> int:
            self.clock.now += 0.0015
            return _add(transaction, "s")

        connection = self.writer._connection
        self.writer._connection = None
        waiting = [self.writer.submit(slow) for _ in range(5)]
        assert connection is not None
        self.writer._take_back(connection)
        assert all(self.threads(waiting))
        assert self.commits() == 3

    def test_batch_limit(self) -> None:
        """A batch in the thread has a limit, too."""
        self.writer._detour = 2
        waiting = self.many("a" * 150)
        assert not any(self.threads(waiting))
        assert self.commits() == 2

    def test_cancelled(self) -> None:
        """W-7: cancelled in the queue is not done, in either thread."""
        for detour in (0, 1):
            first = self.write("a")
            second = self.write("b")
            second.cancel()
            self.writer._detour = detour
            self.driver.wait(first)
            with pytest.raises(CancelledError):
                self.driver.wait(second)
            self.driver.run_one()
        assert self.rows() == ["a", "a"]

    # --- what goes to the thread --------------------------------------------

    def test_long(self) -> None:
        """S-6, W-6: a long write goes to the thread, in its place."""
        first = self.write("a")
        rest = [self.write("b"), self.write("c", long=True), self.write("d")]
        # The thread takes along what is queued behind it.
        assert self.threads([first, *rest]) == [True, True, False, False]
        assert self.rows() == list("abcd")

    def test_lock_of_another_process(self) -> None:
        """S-6: nobody waits for a lock in the reactor's thread."""
        other = connect(self.path, busy_seconds=5)
        other.execute("BEGIN IMMEDIATE")
        waiting = self.write("a")
        assert self.connection.here[-1] == "BEGIN IMMEDIATE"
        other.execute("COMMIT")
        other.close()
        assert self.threads([waiting]) == [False]
        # The next one has no lock in its way.
        assert self.threads([self.write("b")]) == [True]

    def test_impatient_again(self) -> None:
        """S-6: no patience is left behind, whatever happened."""
        for failing in ([], ["COMMIT"]):
            self.connection.failing = failing
            waiting = self.write("a", long=True)
            if failing:
                with pytest.raises(Unavailable):
                    self.driver.wait(waiting)
            else:
                self.driver.wait(waiting)
            read = self.connection._real.execute
            assert read("PRAGMA busy_timeout").fetchone() == (0,)

    def test_slow_disk(self) -> None:
        """S-6: while the disk is slow, batches go to the thread."""

        def performed(seconds: float) -> bool:
            def take(transaction: Transaction) -> int:
                self.clock.now += seconds
                return _add(transaction, "s")

            return self.threads([self.writer.submit(take)]) == [True]

        def detours() -> int:
            count = 0
            while not performed(0.011):
                count += 1
            return count

        assert performed(0.011)
        # Tried again and again, each time later, up to a limit.
        assert [detours() for _ in range(3)] == [2, 4, 4]
        for _ in range(4):
            assert not performed(0)
        # It is fast again: forgotten.
        assert performed(0)
        assert performed(0.011)
        assert detours() == 2

    # --- failures -----------------------------------------------------------

    def test_refused(self) -> None:
        """W-3: a plain refusal costs the others nothing."""
        first = self.write("a")
        good, bad = self.write("b"), self.writer.submit(_refuse)
        assert all(self.threads([first, good]))
        with pytest.raises(Stale):
            self.driver.wait(bad)
        assert self.commits() == 2

    def test_half_done(self) -> None:
        """W-2, W-3: half done is taken back, and the others done again."""
        first = self.write("a")
        good = self.write("b")
        bad = self.writer.submit(_refuse_half_done)
        last = self.write("c")
        assert self.threads([first, good, last]) == [True, False, False]
        with pytest.raises(Stale):
            self.driver.wait(bad)
        assert self.rows() == list("abc")

    def test_done_again(self) -> None:
        """A failure of the database in passing is not even noticed."""
        self.connection.failing = [_ADD]
        assert self.threads([self.write("a")]) == [False]
        assert self.rows() == ["a"]

    def test_lasting_failure(self) -> None:
        """W-4: every write of the batch fails; the lock is let go of."""
        self.connection.failing = [_ADD, _ADD]
        for waiting in self.many("abc"):
            with pytest.raises(Unavailable):
                self.driver.wait(waiting)
        self.other_process_writes()

    def test_commit_fails(self) -> None:
        """W-4: no COMMIT, no success; nothing stays, no lock, either."""
        self.connection.failing = ["COMMIT"]
        for waiting in self.many("abc"):
            with pytest.raises(Unavailable):
                self.driver.wait(waiting)
        self.other_process_writes()

    def test_roll_back_fails(self) -> None:
        """What cannot be rolled back at once is before the next batch."""
        self.connection.failing = ["COMMIT", "ROLLBACK"]
        with pytest.raises(Unavailable):
            self.driver.wait(self.write("a"))
        assert self.threads([self.write("b")]) == [False]
        assert self.rows() == ["b"]

    def other_process_writes(self) -> None:
        """Show that nothing was written, nor is anything locked."""
        assert self.rows() == []
        other = connect(self.path, busy_seconds=0)
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
        other.close()
        assert self.threads([self.write("z")]) == [True]
        assert self.rows() == ["z"]

    def test_undo_fails(self, logged: Any) -> None:
        """Who fails to undo a write does not keep the others waiting."""

        def fail(_: int) -> None:
            raise ZeroDivisionError

        first = self.write("a", undo=fail)
        second = self.write("b")
        function, args = self.driver._inbox.get(timeout=30)
        first.cancel()
        function(*args)
        with pytest.raises(CancelledError):
            self.driver.wait(first)
        self.driver.wait(second)
        assert logged.flush(ZeroDivisionError)

    # --- the end ------------------------------------------------------------

    def test_close(self) -> None:
        """Closing finishes what is under way and what is queued."""
        waiting = [self.write(text) for text in "abc"]
        closed = self.writer.close()
        refused = self.write("d")
        with pytest.raises(Unavailable):
            self.driver.wait(refused)
        self.driver.wait(closed)
        self.closed = True
        assert all(self.threads(waiting))
        assert self.rows() == list("abc")
        with pytest.raises(sqlite3.ProgrammingError):
            self.connection.execute("SELECT 1")

    def test_backlog(self) -> None:
        """W-5: what the queue cannot hold is refused at once."""
        connection = self.writer._connection
        self.writer._connection = None
        waiting = [self.write("a") for _ in range(10_000)]
        with pytest.raises(Unavailable):
            self.driver.wait(self.write("b"))
        for each in waiting[1:]:
            each.cancel()
            each.addErrback(lambda failure: failure.trap(CancelledError))
        assert connection is not None
        self.writer._take_back(connection)
        self.driver.wait(waiting[0])
        assert self.rows() == ["a"]


_ADD = "INSERT INTO t (a) VALUES (?)"


def _add(transaction: Transaction, text: str) -> int:
    """Write a row."""
    transaction.execute(_ADD, (text,))
    return get_ident()


def _refuse(_: Transaction) -> None:
    raise Stale


def _refuse_half_done(transaction: Transaction) -> None:
    transaction.execute(_ADD, ("x",))
    raise Stale
