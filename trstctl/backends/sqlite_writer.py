# SPDX-License-Identifier: MIT
"""
The one connection that writes to the SQLite database, with group commit.

Theory of operation
===================

A durable commit is a millisecond of waiting for the disk; the statements
before it are some ten microseconds each, in memory.  The two are kept apart:

* The *statements* of a batch run in the reactor's thread.  In a thread of
  their own they would cost several times as much: sqlite3 lets go of the
  interpreter's lock at each of them, and has to win it back from a busy
  reactor thread each time (measured under load: 350 microseconds of CPU and
  six context switches for a certificate, instead of 130 and less than one).
* The *COMMIT* runs in the writer's thread, without the interpreter's lock.

While a commit is under way, writes gather.  When it has returned, its
results are told first, and then the next batch begins, with what those who
were told have submitted.  If there were several, the reactor gets a turn in
between, for whoever is ready to join in: at eight connections that saves a
tenth of the commits.  A write that finds nothing under way begins at once:
it does not wait for company.

The reactor must not wait (S-6).  So a batch begins there without patience
for another process's lock, and ends after two milliseconds, whatever is
still queued.  A batch runs wholly in the writer's thread, patiently, if

* another process holds the lock, or anything fails that is not a plain
  refusal;
* a write says of itself that it is long;
* the disk was slow: a batch took more than ten milliseconds.  The batches
  that follow go to the thread, first four, then twice as many each time that
  the disk is still slow when it is tried again.  (Few at first: it may have
  been another process that had the processor.)

Whoever has the connection uses it: it is handed to the thread with a batch,
and comes back with its results.  No one else can reach it meanwhile.

Invariants, which tests name:

W-1  *Durable.*  A Deferred fires with success after the COMMIT has returned,
     with ``synchronous=FULL``, never before.
W-2  *All or nothing.*  A write that fails leaves nothing behind, and its
     audit records neither.
W-3  *Its own fault only.*  A write that fails does not hurt the others of
     its batch.  Nearly all failures come before the write has changed
     anything; there is nothing to undo then.  If it has, the batch is rolled
     back and done again with a savepoint around each write.  (A savepoint
     around every write would cost all of them some microseconds more.)
W-4  *No false success.*  If the database fails at BEGIN, in between or at
     COMMIT, every write of the batch fails with ``Unavailable``.
W-5  *Bounded.*  More queued writes than the limit fail with ``Unavailable``
     at once.
W-6  *In order.*  Writes happen in the order in which they were submitted.
W-7  *Cancelled in time is not done.*  A write whose Deferred was cancelled
     before its batch began does not happen.  One that was cancelled later is
     committed; whoever submitted it may name what undoes it.
W-8  *One user.*  The connection is never used by two threads at once.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar, TypeVarTuple

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from trstctl.backends.sqlite_transaction import Transaction
from trstctl.errors import Internal, SerialTaken, TrstctlError, Unavailable

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

#: Called with the result of a write whose Deferred was cancelled too late.
_Undo = Callable[[Any], None] | None

#: Function, positional arguments, who waits for the result, see above, and
#: whether the write is long.
_Write = tuple[Callable[..., Any], tuple[Any, ...], Deferred[Any], _Undo, bool]

#: Who waits, the result or the error, and see above.
_Outcome = tuple[Deferred[Any], Any, _Undo]

#: Calls a function in the reactor thread, as ``reactor.callFromThread``.
Deliver = Callable[..., None]

#: Errors of a statement, which are its own fault; all others of sqlite3 are
#: the database's.
_OWN_FAULT = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
    sqlite3.NotSupportedError,
)


class _DatabaseFailed(Exception):
    """The database cannot be written now: the whole batch fails."""


class _HalfDone(Exception):
    """A write failed after it had changed something."""


@frozen
class Bounds:
    """
    What the writer keeps within.

    :ivar batch: at most this many writes in a transaction.
    :ivar backlog: at most this many writes in the queue.
    :ivar turn: a batch in the reactor's thread takes no further write after
        this; seconds.
    :ivar slow: a batch that took longer there shows that the disk is slow;
        seconds.
    :ivar detour: how many batches then go to the writer's thread.
    :ivar longest_detour: how many at most, if it is slow again and again.
    """

    batch: int = 100
    backlog: int = 10_000
    turn: float = 0.002
    slow: float = 0.010
    detour: int = 4
    longest_detour: int = 1024


class GroupCommitWriter:
    """
    Writes, one batch after the other.

    All public methods are to be called in the reactor's thread.

    :param connection: in autocommit mode, without patience for locks, fit
        for several threads; the writer's from now on.
    :param deliver: such as ``reactor.callFromThread``.
    :param busy_seconds: for how long a batch in the thread waits for another
        process's lock.
    :param monotonic: the clock that ``bounds`` are judged by.
    """

    _log = Logger()

    def __init__(
        self,
        connection: sqlite3.Connection,
        deliver: Deliver,
        *,
        busy_seconds: float,
        bounds: Bounds,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        # None while the thread has it (W-8).
        self._connection: sqlite3.Connection | None = connection
        self._deliver = deliver
        self._patience = int(busy_seconds * 1000)
        self._bounds = bounds
        self._monotonic = monotonic
        self._queue: deque[_Write] = deque()
        self._detour = 0
        self._next_detour = bounds.detour
        self._closing = False
        self._ended: Deferred[None] = Deferred()
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(
            target=self._run, name="sqlite-writer", daemon=True
        )

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    # --- called in the reactor thread ---------------------------------------

    def submit(
        self,
        function: Callable[[Transaction, *_Ts], _T],
        *args: *_Ts,
        undo: Callable[[_T], None] | None = None,
        long: bool = False,
    ) -> Deferred[_T]:
        """
        Write as soon as the writes before are committed.

        :param function: raises an error of :mod:`trstctl.errors` for what
            it refuses; may be called again, after a rollback, and in
            another thread.
        :param undo: called with the result of a write that was committed,
            but whose Deferred had been cancelled meanwhile.
        :param long: the write may take longer than the reactor may be kept.
        :returns: fires with what the function returned, once committed.
        """
        waiting: Deferred[_T] = Deferred()
        queue = self._queue
        if self._closing or len(queue) >= self._bounds.backlog:
            waiting.errback(Unavailable())
            return waiting
        queue.append((function, args, waiting, undo, long))
        self._proceed()
        return waiting

    def close(self) -> Deferred[None]:
        """Do what was queued, then end; to be called once."""
        self._closing = True
        self._proceed()
        return self._ended

    def _proceed(self) -> None:
        """Begin the next batch, unless one is under way."""
        connection = self._connection
        if connection is None:
            return
        if self._queue:
            self._connection = None
            batch: list[_Write] = []
            if self._detour:
                self._detour -= 1
            elif (outcomes := self._at_once(connection, batch)) is not None:
                self._work.put(lambda: self._commit(connection, outcomes))
                return
            self._fill(batch)
            self._work.put(lambda: self._do_all(connection, batch))
        elif self._closing:
            self._connection = None
            self._work.put(connection.close)
            self._work.put(None)

    def _fill(self, batch: list[_Write]) -> None:
        """Take writes off the queue until the batch is full."""
        queue, limit = self._queue, self._bounds.batch
        while queue and len(batch) < limit:
            batch.append(queue.popleft())

    def _at_once(
        self, connection: sqlite3.Connection, batch: list[_Write]
    ) -> list[_Outcome] | None:
        """
        Perform a batch, but for its COMMIT, in the reactor's thread.

        :param batch: gets what was taken off the queue.
        :returns: ``None`` if the writer's thread must do it all over again.
        """
        queue, bounds, clock = self._queue, self._bounds, self._monotonic
        if queue[0][4]:
            return None
        outcomes: list[_Outcome] = []
        began = clock()
        try:
            connection.execute("BEGIN IMMEDIATE")
            transaction = Transaction(connection)
            while queue and len(batch) < bounds.batch and not queue[0][4]:
                write = queue.popleft()
                batch.append(write)
                if not write[2].called:  # W-7
                    outcome = self._bare(connection, transaction, write)
                    outcomes.append((write[2], outcome, write[3]))
                if clock() - began > bounds.turn:
                    break
            transaction.flush()
        except Exception:  # noqa: BLE001 - if it is one, the thread meets it
            return None
        if clock() - began > bounds.slow:
            self._detour = self._next_detour
            self._next_detour = min(2 * self._detour, bounds.longest_detour)
        else:
            self._next_detour = bounds.detour
        return outcomes

    def _tell(
        self, connection: sqlite3.Connection, outcomes: list[_Outcome]
    ) -> None:
        """Hand a batch's results to those who still wait for them."""
        for waiting, outcome, undo in outcomes:
            failed = isinstance(outcome, Exception)
            if not waiting.called:
                if failed:
                    waiting.errback(outcome)
                else:
                    waiting.callback(outcome)
            elif undo is not None and not failed:
                try:
                    undo(outcome)
                except Exception:  # noqa: BLE001 - the others wait, too
                    self._log.failure("undoing failed", event="store.undo")
        if len(outcomes) > 1:
            # Where there is company, whoever is ready now may join in.
            self._deliver(self._take_back, connection)
        else:
            self._take_back(connection)

    def _take_back(self, connection: sqlite3.Connection) -> None:
        """Have the connection again, and go on (W-8)."""
        self._connection = connection
        self._proceed()

    def _finish(self) -> None:
        """Tell who closed the writer that it has ended."""
        self._thread.join()
        self._ended.callback(None)

    # --- called in the writer's thread --------------------------------------

    def _run(self) -> None:
        """Do the reactor's work until there is no more."""
        while (work := self._work.get()) is not None:
            work()
        self._deliver(self._finish)

    def _commit(
        self, connection: sqlite3.Connection, outcomes: list[_Outcome]
    ) -> None:
        """Commit what the reactor's thread has done (W-1, W-4)."""
        try:
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - the thread must live on
            told = [each[0] for each in outcomes]
            outcomes = self._failed(connection, told, error)
        self._deliver(self._tell, connection, outcomes)

    def _do_all(
        self, connection: sqlite3.Connection, batch: list[_Write]
    ) -> None:
        """Do a batch of writes in one transaction, patiently (W-1, W-4)."""
        batch = [write for write in batch if not write[2].called]  # W-7
        try:
            _roll_back(connection)
            connection.execute(f"PRAGMA busy_timeout = {self._patience}")
            try:
                outcomes = self._attempt(connection, batch, self._bare)
            except _HalfDone:
                _roll_back(connection)
                outcomes = self._attempt(connection, batch, self._in_savepoint)
        except Exception as error:  # noqa: BLE001 - the thread must live on
            told = [write[2] for write in batch]
            outcomes = self._failed(connection, told, error)
        connection.execute("PRAGMA busy_timeout = 0")  # touches no file
        self._deliver(self._tell, connection, outcomes)

    def _failed(
        self,
        connection: sqlite3.Connection,
        waiting: list[Deferred[Any]],
        error: Exception,
    ) -> list[_Outcome]:
        """Take a batch back, log why, and fail it all (W-4)."""
        # What cannot be taken back now is at the next batch.
        with suppress(sqlite3.Error):
            _roll_back(connection)
        if isinstance(error, _DatabaseFailed | sqlite3.Error):
            self._log.error(
                "the database cannot be written: {reason}",
                event="store.failed",
                reason=f"{type(error).__name__}: {error}",
                writes=len(waiting),
            )
            return [(each, Unavailable(), None) for each in waiting]
        self._log.failure(
            "a batch failed", Failure(error), event="store.batch.failed"
        )
        return [(each, Internal(), None) for each in waiting]

    def _attempt(
        self,
        connection: sqlite3.Connection,
        batch: list[_Write],
        perform: Callable[[sqlite3.Connection, Transaction, _Write], Any],
    ) -> list[_Outcome]:
        """Perform the writes in one transaction, or none of them."""
        connection.execute("BEGIN IMMEDIATE")
        transaction = Transaction(connection)
        outcomes = [
            (write[2], perform(connection, transaction, write), write[3])
            for write in batch
        ]
        transaction.flush()
        connection.execute("COMMIT")
        return outcomes

    # --- called in either ---------------------------------------------------

    def _bare(
        self,
        connection: sqlite3.Connection,
        transaction: Transaction,
        write: _Write,
    ) -> Any:
        """Perform a write that must not fail half done (W-3)."""
        changes = connection.total_changes
        mark = transaction.mark()
        try:
            return write[0](transaction, *write[1])
        except Exception as error:
            outcome = self._judge(error)
            if connection.total_changes != changes:
                raise _HalfDone from error
        transaction.rewind(mark)
        return outcome

    def _in_savepoint(
        self,
        connection: sqlite3.Connection,
        transaction: Transaction,
        write: _Write,
    ) -> Any:
        """Perform a write, and take it back alone if it fails (W-3)."""
        execute = connection.execute
        mark = transaction.mark()
        execute("SAVEPOINT one")
        try:
            outcome = write[0](transaction, *write[1])
        except Exception as error:  # noqa: BLE001 - _judge logs or raises
            outcome = self._judge(error)
            execute("ROLLBACK TO one")
            transaction.rewind(mark)
        execute("RELEASE one")
        return outcome

    def _judge(self, error: Exception) -> Exception:
        """
        Return the error that the one who asked for the write is to see.

        :raises _DatabaseFailed: it is nobody's own.
        """
        if isinstance(error, TrstctlError | SerialTaken):
            # The traceback would keep this batch's values alive.
            return error.with_traceback(None)
        if isinstance(error, sqlite3.Error) and not isinstance(
            error, _OWN_FAULT
        ):
            raise _DatabaseFailed(str(error)) from error
        self._log.failure("a write failed", event="store.write.failed")
        return Internal()


def _roll_back(connection: sqlite3.Connection) -> None:
    """Take back what is not committed; SQLite may have done so already."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
