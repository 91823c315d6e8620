# SPDX-License-Identifier: MIT
"""
The one thread that writes to the SQLite database, with group commit.

Theory of operation
===================

A durable commit costs a millisecond of waiting for the disk and some
microseconds of everything else.  So the thread takes what is queued, up to a
limit, does it all in one transaction, and commits once; while it waits for
the disk, the next batch gathers.  The reactor thread is woken once for each
batch.

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
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar, TypeVarTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trstctl.backends.sqlite_transaction import Transaction
from trstctl.errors import Internal, SerialTaken, TrstctlError, Unavailable

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

#: Called with the result of a write whose Deferred was cancelled too late.
_Undo = Callable[[Any], None] | None

#: Function, positional arguments, who waits for the result, and see above.
_Write = tuple[Callable[..., Any], tuple[Any, ...], Deferred[Any], _Undo]

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


class GroupCommitWriter:
    """
    Writes, one batch after the other.

    :param connection: in autocommit mode; the writer's from now on.
    :param deliver: such as ``reactor.callFromThread``.
    :param batch: at most this many writes in a transaction.
    :param backlog: at most this many writes in the queue.
    """

    _log = Logger()

    def __init__(
        self,
        connection: sqlite3.Connection,
        deliver: Deliver,
        *,
        batch: int = 100,
        backlog: int = 10_000,
    ) -> None:
        self._connection = connection
        self._deliver = deliver
        self._batch = batch
        self._backlog = backlog
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._closing = False
        self._ended: Deferred[None] = Deferred()
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
    ) -> Deferred[_T]:
        """
        Queue a write.

        :param function: raises an error of :mod:`trstctl.errors` for what
            it refuses; may be called again, after a rollback.
        :param undo: called with the result of a write that was committed,
            but whose Deferred had been cancelled meanwhile.
        :returns: fires with what the function returned, once committed.
        """
        waiting: Deferred[_T] = Deferred()
        if self._closing or self._queue.qsize() >= self._backlog:
            waiting.errback(Unavailable())
        else:
            self._queue.put((function, args, waiting, undo))
        return waiting

    def close(self) -> Deferred[None]:
        """Do what was queued, then end; to be called once."""
        self._closing = True
        self._queue.put(None)
        return self._ended

    def _fire(self, outcomes: list[_Outcome]) -> None:
        """Hand a batch's results to those who still wait for them."""
        for waiting, outcome, undo in outcomes:
            failed = isinstance(outcome, Exception)
            if waiting.called:
                if undo is not None and not failed:
                    undo(outcome)
            elif failed:
                waiting.errback(outcome)
            else:
                waiting.callback(outcome)

    # --- called in the writer's thread --------------------------------------

    def _run(self) -> None:
        """Write batches until :meth:`close`."""
        queue, ended = self._queue, False
        while not ended:
            batch: list[_Write] = []
            write = queue.get()
            try:
                while write is not None:
                    batch.append(write)
                    if len(batch) >= self._batch:
                        break
                    write = queue.get_nowait()
                else:
                    ended = True
            except Empty:
                pass
            if batch:
                self._deliver(self._fire, self._commit(batch))
        self._connection.close()
        self._deliver(self._finish)

    def _finish(self) -> None:
        """Tell who closed the writer that it has ended."""
        self._thread.join()
        self._ended.callback(None)

    def _commit(self, batch: list[_Write]) -> list[_Outcome]:
        """Do a batch of writes in one transaction (W-1, W-4)."""
        batch = [write for write in batch if not write[2].called]  # W-7
        try:
            try:
                return self._attempt(batch, self._bare)
            except _HalfDone:
                return self._attempt(batch, self._in_savepoint)
        except (_DatabaseFailed, sqlite3.Error) as error:
            reason = f"{type(error).__name__}: {error}"
            self._log.error(
                "the database cannot be written: {reason}",
                event="store.failed",
                reason=reason,
                writes=len(batch),
            )
            return [(write[2], Unavailable(), None) for write in batch]
        except Exception:  # noqa: BLE001 - the thread must live on
            self._log.failure("a batch failed", event="store.batch.failed")
            return [(write[2], Internal(), None) for write in batch]

    def _attempt(
        self,
        batch: list[_Write],
        perform: Callable[[Transaction, _Write], Any],
    ) -> list[_Outcome]:
        """Perform the writes in one transaction, or none of them."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            transaction = Transaction(self._connection)
            outcomes = [
                (write[2], perform(transaction, write), write[3])
                for write in batch
            ]
            transaction.flush()
            execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors.
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        return outcomes

    def _bare(self, transaction: Transaction, write: _Write) -> Any:
        """Perform a write that must not fail half done (W-3)."""
        connection = self._connection
        changes = connection.total_changes
        mark = transaction.mark()
        function, args = write[0], write[1]
        try:
            return function(transaction, *args)
        except Exception as error:
            outcome = self._judge(error)
            if connection.total_changes != changes:
                raise _HalfDone from error
        transaction.rewind(mark)
        return outcome

    def _in_savepoint(self, transaction: Transaction, write: _Write) -> Any:
        """Perform a write, and take it back alone if it fails (W-3)."""
        execute = self._connection.execute
        mark = transaction.mark()
        function, args = write[0], write[1]
        execute("SAVEPOINT one")
        try:
            outcome = function(transaction, *args)
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
