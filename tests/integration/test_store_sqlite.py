# SPDX-License-Identifier: MIT
"""
Tests for :mod:`trstctl.backends.store_sqlite` and what it is made of.

They use real files, threads and processes, but no reactor.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from contracts.challenge_contract import ChallengeContract
from contracts.dialogue_contract import DialogueContract
from contracts.generation_contract import GenerationContract
from contracts.store_samples import (
    DAY,
    MINUTE,
    NOW,
    TENANT,
    new_crl,
    new_intent,
    new_request,
    new_secret,
)
from store_driver import Driver, open_store
from twisted.internet.defer import CancelledError, Deferred

from trstctl.audit import ChainFault, ChainHead, verify_records
from trstctl.backends import migrate, sqlite_listing
from trstctl.backends.owners import OwnerLocks
from trstctl.backends.sqlite_writer import Bounds
from trstctl.backends.store_sqlite import SQLiteStore, connect
from trstctl.errors import (
    ChallengeRejected,
    Conflict,
    Internal,
    SerialTaken,
    Stale,
    Unavailable,
)
from trstctl.model import (
    AuditEvent,
    CertificateStatus,
    Opened,
    RequestKey,
    RequestState,
)

_HERE = Path(__file__).parent
_ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(
        [str(_HERE.parent.parent), str(_HERE.parent), str(_HERE)]
    ),
}


def _program(*args: str) -> subprocess.Popen[str]:
    """Start a process that uses the store."""
    return subprocess.Popen(
        [sys.executable, str(_HERE / "store_driver.py"), *args],
        env=_ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


class SQLiteStoreTests(
    DialogueContract, GenerationContract, ChallengeContract
):
    """The SQLite store keeps the contract of every store."""

    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path, _store: None) -> None:
        """Only here so that the base's fixture sees ``tmp_path``."""

    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> Iterator[None]:
        self.path = tmp_path / "state" / "trstctl.db"
        yield from ChallengeContract._store.__wrapped__(self)

    def make_store(self) -> SQLiteStore:
        self.driver, store = open_store(self.path)
        return store

    def wait(self, deferred: Deferred[Any]) -> Any:
        return self.driver.wait(deferred)

    def sql(self, statement: str, *args: object) -> list[Any]:
        """Do something behind the store's back."""
        connection = connect(self.path, busy_seconds=5)
        try:
            return connection.execute(statement, args).fetchall()
        finally:
            connection.close()

    # --- life ---------------------------------------------------------------

    def test_modes(self) -> None:
        """R-14: nobody else can read the files."""
        self.wait(self.store.renew_lease("owner-1", NOW))
        self.issue()
        assert self.path.parent.stat().st_mode & 0o777 == 0o700
        names = {path.name for path in self.path.parent.iterdir()}
        assert {"trstctl.db", "trstctl.db-wal", "trstctl.db.owners"} <= names
        for path in self.path.parent.iterdir():
            assert path.stat().st_mode & 0o077 == 0

    def test_reopened(self) -> None:
        """What was committed is there after a restart."""
        record = self.issue()
        self.wait(self.store.close())
        self.store = self.make_store()
        found = self.wait(self.store.find_certificate(TENANT, record.serial))
        assert record == found

    def test_closed(self) -> None:
        """Closing finishes what was queued; afterwards nothing works."""
        intent = new_intent()
        opened = self.store.open_intent(intent, NOW)
        closed = self.store.close()
        assert self.wait(opened) == Opened(intent.request.id)
        self.wait(closed)
        self.wait(self.store.close())
        for deferred in (
            self.store.check(),
            self.store.find_request(intent.request.key, NOW),
            self.store.list_credentials(TENANT),
        ):
            with pytest.raises(Unavailable):
                self.wait(deferred)
        self.store = self.make_store()

    def test_settings(self) -> None:
        """W-1: write-ahead log, and a disk flush at every commit."""
        connection = self.store._writer._connection
        read = connection.execute
        assert read("PRAGMA journal_mode").fetchone() == ("wal",)
        assert read("PRAGMA synchronous").fetchone() == (2,)

    def test_readers_cannot_write(self) -> None:
        """A connection that reads refuses to write."""
        with pytest.raises(sqlite3.OperationalError):
            self.store._inline.execute("DELETE FROM leases")

    # --- the writer ---------------------------------------------------------

    def test_groups(self) -> None:
        """W-6: what is queued is written in order, in few transactions."""
        connection = self.store._writer._connection
        commits: list[str] = []
        connection.set_trace_callback(
            lambda text: commits.append(text) if text == "COMMIT" else None
        )
        with self.stalled():
            waiting = [
                self.store.append_audit(
                    [AuditEvent(TENANT, NOW, f"event.{n}", "ann")]
                )
                for n in range(250)
            ]
        for deferred in waiting:
            self.wait(deferred)
        assert self.events() == [f"event.{n}" for n in range(250)]
        assert len(commits) <= 4
        connection.set_trace_callback(None)

    def stalled(self) -> _Stalled:
        """Keep the writer busy, so that a batch gathers behind it."""
        return _Stalled(self.store)

    def test_failure_before_writing(self) -> None:
        """W-3: a refused write leaves the others of its batch alone."""
        self.open(new_intent("one", key="1"))
        with self.stalled():
            outcomes = [
                self.store.open_intent(new_intent(csr, key=key), NOW)
                for csr, key in (("2", "2"), ("clash", "1"), ("3", "3"))
            ]
        assert isinstance(self.wait(outcomes[0]), Opened)
        with pytest.raises(Conflict):
            self.wait(outcomes[1])
        assert isinstance(self.wait(outcomes[2]), Opened)
        assert self.events() == ["intent.opened"] * 3

    def test_failure_half_done(self) -> None:
        """W-2, W-3: a write that fails half way is taken back, alone."""
        self.open(new_intent("one", key="1", serial="ab"))
        clash = new_intent("x", key="x", serial="ab")
        with self.stalled():
            before = self.store.open_intent(new_intent("2", key="2"), NOW)
            failed = self.store.open_intent(clash, NOW)
            after = self.store.open_intent(new_intent("3", key="3"), NOW)
        assert isinstance(self.wait(before), Opened)
        with pytest.raises(SerialTaken):
            self.wait(failed)
        assert isinstance(self.wait(after), Opened)
        assert self.find(clash.request) is None
        assert self.events() == ["intent.opened"] * 3

    def test_half_done_secrets(self) -> None:
        """W-2: the first of two secrets is taken back with the second."""
        with self.stalled():
            failed = self.store.add_secrets(
                (new_secret("a"), new_secret("a")), "ann"
            )
            good = self.store.add_secrets((new_secret("b"),), "ann")
        with pytest.raises(Conflict):
            self.wait(failed)
        self.wait(good)
        assert self.secret("a") is None
        assert self.secret("b") is not None
        assert self.events() == ["secret.added"]

    def test_fault_of_one(self, logged: Any) -> None:
        """W-3: a fault of the program fails one write, and is logged."""
        broken = new_intent("x", key="x", authority=None)  # type: ignore[arg-type]
        with self.stalled():
            failed = self.store.open_intent(broken, NOW)
            good = self.store.open_intent(new_intent(), NOW)
        with pytest.raises(Internal):
            self.wait(failed)
        assert isinstance(self.wait(good), Opened)
        assert logged.flush(sqlite3.IntegrityError)
        assert self.find(broken.request) is None

    def test_fault_of_the_batch(self, logged: Any) -> None:
        """W-4: a fault that is nobody's own fails all, and is survived."""

        def break_chain(transaction: Any) -> None:
            transaction.audit(TENANT, NOW, "event", "ann", {})
            transaction._heads.clear()

        with pytest.raises(Internal):
            self.wait(self.store._writer.submit(break_chain))
        assert logged.flush(KeyError)
        self.issue()

    def test_broken_chain_stops_issuance(self) -> None:
        """R-11: where the audit log cannot be continued, nothing is issued."""
        self.issue()
        self.sql("DELETE FROM audit_heads")
        intent = new_intent("two", key="2")
        with pytest.raises(Unavailable):
            self.open(intent)
        assert self.find(intent.request) is None

    def test_unreadable_argument(self) -> None:
        """A key that SQLite cannot even ask for fails its Deferred."""
        key = RequestKey(TENANT, "est", "basic:\udc80", "k")
        with pytest.raises(UnicodeEncodeError):
            self.wait(self.store.find_request(key, NOW))

    def test_commit_fails(self) -> None:
        """W-4: if COMMIT fails, every write of the batch fails."""
        self.check_failing_at("COMMIT")

    def test_begin_fails(self) -> None:
        """W-4: if BEGIN fails, every write of the batch fails."""
        self.check_failing_at("BEGIN IMMEDIATE")

    def check_failing_at(self, statement: str) -> None:
        writer = self.store._writer
        real = writer._connection
        intents = [new_intent(n, key=n) for n in "abc"]
        writer._connection = None
        waiting = [self.store.open_intent(i, NOW) for i in intents]
        writer._connection = _Failing(real, statement)
        writer._proceed()
        for deferred in waiting:
            with pytest.raises(Unavailable):
                self.wait(deferred)
        self.driver.run_one()
        writer._connection = real
        assert all(self.find(i.request) is None for i in intents)
        assert self.audit() == []
        assert isinstance(self.open(intents[0]), Opened)

    def test_backlog(self, tmp_path: Path) -> None:
        """W-5: more than the queue takes is refused at once."""
        driver, store = open_store(tmp_path / "b.db", bounds=Bounds(backlog=2))
        with _Stalled(store):
            kept = [store.check(), store.check()]
            with pytest.raises(Unavailable):
                driver.wait(store.check())
        for deferred in kept:
            driver.wait(deferred)
        driver.wait(store.close())

    def test_cancelled_in_the_queue(self) -> None:
        """W-7: a write that was cancelled in the queue does not happen."""
        intent = new_intent()
        with self.stalled():
            opened = self.store.open_intent(intent, NOW)
            opened.cancel()
        with pytest.raises(CancelledError):
            self.wait(opened)
        self.wait(self.store.check())
        assert self.find(intent.request) is None

    def test_cancelled_at_the_commit(self) -> None:
        """An intent whose request was cancelled too late is retired."""
        intent = new_intent()
        opened = self.store.open_intent(intent, NOW)
        # Written, but not yet delivered.
        function, args = self.driver._inbox.get(timeout=30)
        opened.cancel()
        function(*args)
        with pytest.raises(CancelledError):
            self.wait(opened)
        self.wait(self.store.check())
        assert self.find(intent.request).state is RequestState.ABANDONED
        assert self.store._forsaken == {}

    def test_cancelled_and_refused(self) -> None:
        """A write that was cancelled and failed leaves nothing to undo."""
        self.open(new_intent())
        answer = self.store.open_intent(new_intent("two"), NOW)
        function, args = self.driver._inbox.get(timeout=30)
        answer.cancel()
        function(*args)
        with pytest.raises(CancelledError):
            self.wait(answer)
        assert self.store._forsaken == {}

    def test_cancelled_retry(self) -> None:
        """A cancelled retry does not touch the intent of the first."""
        first = new_intent()
        self.open(first)
        answer = self.store.open_intent(new_intent(), NOW)
        function, args = self.driver._inbox.get(timeout=30)
        answer.cancel()
        function(*args)
        with pytest.raises(CancelledError):
            self.wait(answer)
        assert self.find(first.request).state is RequestState.OPEN

    # --- trouble with the database ------------------------------------------

    def test_disk_full(self) -> None:
        """R-15: a full disk is unavailability; nothing is lost or torn."""
        record = self.issue()
        connection = self.store._writer._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        intents = [
            new_intent(
                n, key=n, request=new_request(n, key=n, csr=bytes(9999))
            )
            for n in "abc"
        ]
        for intent in intents:
            with pytest.raises(Unavailable):
                self.open(intent)
        assert self.find(intents[0].request) is None
        assert self.query() == [record.serial]
        connection.execute("PRAGMA max_page_count = 1000000")
        assert isinstance(self.open(intents[0]), Opened)
        assert self.sql("PRAGMA integrity_check") == [("ok",)]

    def test_locked(self, tmp_path: Path) -> None:
        """Another process's lock delays a write, up to the limit."""
        path = tmp_path / "l.db"
        driver, store = open_store(path, busy_seconds=0.2)
        holder = connect(path, busy_seconds=5)
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable):
            driver.wait(store.check())
        # S-6: readers go on meanwhile.
        assert driver.wait(store.find_secret(TENANT, "ab")) is None
        holder.execute("ROLLBACK")
        driver.wait(store.check())
        holder.close()
        driver.wait(store.close())

    def test_busy_reader(self) -> None:
        """S-6: a read that would have to wait goes to a thread."""
        record = self.issue()
        real = self.store._inline
        self.store._inline = _Failing(real, "SELECT")
        find = self.store.find_certificate(TENANT, record.serial)
        assert not find.called
        assert record == self.wait(find)
        self.store._inline = real

    def test_reader_fails(self) -> None:
        """A database that cannot be read is unavailability."""
        connection = self.store._idle.get()
        self.store._idle.get().close()
        connection.close()
        for _ in range(2):
            self.store._idle.put(connection)
        with pytest.raises(Unavailable):
            self.wait(self.store.audit_tenants())
        self.store._idle.get()
        self.store._idle.put(self.store._reader(busy_seconds=1))
        self.store._idle.get()
        self.store._idle.put(self.store._reader(busy_seconds=1))

    def test_cancelled_listing(self) -> None:
        """A listing that nobody waits for any more is dropped."""
        listing = self.store.list_credentials(TENANT)
        listing.cancel()
        with pytest.raises(CancelledError):
            self.wait(listing)
        self.driver.run_one()

    # --- audit --------------------------------------------------------------

    @pytest.mark.parametrize(
        ("statement", "sequence"),
        [
            ("UPDATE audit SET body = '{}' WHERE sequence = 3", 3),
            ("UPDATE audit SET hash = previous WHERE sequence = 1", 1),
            ("DELETE FROM audit WHERE sequence = 1", 1),
            ("DELETE FROM audit WHERE sequence = 4", 4),
            ("swap", 3),
            ("UPDATE audit SET tenant_id = '2' WHERE sequence = 2", 2),
            (
                """INSERT INTO audit (tenant_id, sequence, body, previous, hash)
                SELECT tenant_id, 7, body, previous, hash
                FROM audit WHERE sequence = 6""",
                7,
            ),
        ],
    )
    def test_tampering(self, statement: str, sequence: int) -> None:
        """R-11: edit, delete, swap, insert: verify names the first one."""
        for name in "abc":
            self.issue(name)
        if statement == "swap":
            for step in ("-3 WHERE sequence = 3", "3 WHERE sequence = 5"):
                self.sql(f"UPDATE audit SET sequence = {step}")
            self.sql("UPDATE audit SET sequence = 5 WHERE sequence = -3")
        else:
            self.sql(statement)
        fault = verify_records(TENANT, self.audit(), ChainHead())
        assert isinstance(fault, ChainFault)
        assert fault.sequence == sequence
        self.sql("DELETE FROM audit")
        self.sql("DELETE FROM audit_heads")

    # --- owners -------------------------------------------------------------

    def test_live_sibling(self) -> None:
        """S-7: the intents of a process that lives stay, lease or not."""
        driver, sibling = open_store(self.path)
        intent = new_intent(owner="sibling")
        driver.wait(sibling.open_intent(intent, NOW))
        assert self.retire() == 0
        driver.wait(sibling.close())
        assert self.retire() == 1

    def test_ended_predecessor(self) -> None:
        """S-7: a restart retires its predecessor's intents at once."""
        driver, former = open_store(self.path)
        driver.wait(former.renew_lease("former", NOW + DAY))
        intent = new_intent(owner="former")
        driver.wait(former.open_intent(intent, NOW))
        assert self.retire() == 0
        driver.wait(former.close())  # leaves lease and file, as a kill does
        assert self.retire() == 1
        assert list(Path(f"{self.path}.owners").iterdir()) == []

    def test_lease_without_process(self) -> None:
        """S-7: a lease whose process cannot be seen counts until its end."""
        self.wait(self.store.renew_lease("owner-1", NOW + MINUTE))
        self.open(new_intent())
        self.store._owners.release("owner-1")
        assert self.retire() == 0
        assert self.retire(NOW + MINUTE) == 1

    def test_name_is_taken(self) -> None:
        """Two live processes cannot be one owner."""
        self.wait(self.store.renew_lease("owner-1", NOW + MINUTE))
        driver, sibling = open_store(self.path)
        for deferred in (
            sibling.renew_lease("owner-1", NOW + MINUTE),
            sibling.open_intent(new_intent(), NOW),
        ):
            with pytest.raises(Unavailable):
                driver.wait(deferred)
        driver.wait(sibling.close())

    # --- several processes --------------------------------------------------

    def test_threads_race(self) -> None:
        """S-1: 16 stores that race for one key open one intent."""
        barrier = Barrier(16)
        outcomes: list[str] = []

        def race(name: str) -> None:
            driver, store = open_store(self.path)
            barrier.wait(30)
            intent = new_intent(serial=name, owner=name)
            outcome = driver.wait(store.open_intent(intent, NOW))
            outcomes.append(type(outcome).__name__)
            barrier.wait(30)
            driver.wait(store.close())

        threads = [Thread(target=race, args=(f"r{n}",)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["Opened"] + ["StoredRequest"] * 15
        assert self.sql("SELECT count(*) FROM requests") == [(1,)]

    def test_secret_that_was_deleted(self) -> None:
        """A request can be decided, whatever became of its secret."""
        self.add_secret()
        held = self.reserve()
        connection = sqlite3.connect(self.path)
        with connection:
            connection.execute("DELETE FROM secrets")
        connection.close()
        assert self.decide(held.id).state is RequestState.APPROVED

    @pytest.mark.parametrize("uses", [1, 3])
    def test_threads_race_for_a_secret(self, uses: int) -> None:
        """I-10: 8 stores, 64 keys, one secret: as many as it has uses."""
        barrier = Barrier(8)
        outcomes: list[bool] = []
        self.add_secret(uses=uses)

        def race(name: str) -> None:
            driver, store = open_store(self.path)
            barrier.wait(30)
            for number in range(8):
                device = f"{name}-{number}"
                intent = new_intent(
                    device, owner=name, key=device, secret_id="token"
                )
                try:
                    driver.wait(store.open_intent(intent, NOW))
                except ChallengeRejected as error:
                    outcomes.append(error.reused)
            barrier.wait(30)
            driver.wait(store.close())

        threads = [Thread(target=race, args=(f"r{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes == [True] * (64 - uses)
        assert self.sql("SELECT count(*) FROM requests") == [(uses,)]

    @pytest.mark.slow
    def test_processes_race(self) -> None:
        """S-1: processes that race for one key open one intent."""
        outcomes = self.race(
            [_program("race", str(self.path), f"p{n}") for n in range(4)]
        )
        assert sorted(outcomes) == ["Opened"] + ["StoredRequest"] * 3

    def race(self, racers: list[subprocess.Popen[str]]) -> list[str]:
        """Let the processes begin at once; return what each says."""
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        outcomes = [racer.stdout.readline().strip() for racer in racers]  # type: ignore[union-attr]
        for racer in racers:
            racer.communicate("end\n", timeout=30)
        return outcomes

    @pytest.mark.slow
    def test_processes_number_crls(self) -> None:
        """RFC 5280, section 5.2.3: two processes never share a number."""
        outcomes = self.race(
            [_program("number", str(self.path), "issuing") for _ in range(2)]
        )
        numbers = [[int(n) for n in line.split()] for line in outcomes]
        assert sorted(numbers[0] + numbers[1]) == list(range(1, 101))
        assert all(sorted(mine) == mine for mine in numbers)

    def test_processes_save_crls(self) -> None:
        """Of two processes' CRLs the one with the greater number stays."""
        driver, sibling = open_store(self.path)
        older = new_crl(number=self.number())
        newer = new_crl(number=driver.wait(sibling.next_crl_number("issuing")))
        assert older.number < newer.number
        driver.wait(sibling.save_crl(newer, "sibling"))
        with pytest.raises(Stale):
            self.wait(self.store.save_crl(older, "late"))
        assert newer == self.crl()
        driver.wait(sibling.close())

    @pytest.mark.slow
    @pytest.mark.drill
    def test_kill(self) -> None:
        """R-1: kill -9 loses no certificate that was acknowledged."""
        acknowledged: set[str] = set()
        for life in range(5):
            program = _program("issue", str(self.path), f"life{life}")
            assert program.stdout is not None
            for _ in range(20 + life):
                acknowledged.add(program.stdout.readline().strip())
            program.kill()
            rest, _ = program.communicate(timeout=30)
            acknowledged.update(rest.split())
            self.retire()
            # S-7: nothing of a killed process stays open.
            assert self.sql(
                "SELECT count(*) FROM requests WHERE state = 'open'"
            ) == [(0,)]
        stored = set(self.query(limit=100_000))
        assert acknowledged <= stored
        assert len(stored - acknowledged) <= 5
        assert self.sql("PRAGMA integrity_check") == [("ok",)]

    # --- indexes ------------------------------------------------------------

    @pytest.mark.parametrize("few", [5, 4])
    def test_principal_of_many(
        self, few: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whether a principal has few certificates or many: the same ones."""
        serials = self.inventory()
        monkeypatch.setattr(sqlite_listing, "FEW", few)
        principal = {"principal": "basic:device"}
        assert self.query(**principal) == [serials[name] for name in "dcba"]
        assert self.query(**principal, profile="server") == [serials["a"]]
        assert self.query(**principal, protocol="scep") == []
        revoked = CertificateStatus.REVOKED
        assert self.query(**principal, status=revoked) == [serials["c"]]
        found = self.query(**principal, expiring_before=NOW + 40 * DAY)
        assert found == [serials["d"], serials["b"]]

    def test_every_statement_uses_an_index(self) -> None:
        """No statement of the store reads a whole table."""
        scans: list[str] = []
        for text in _statements():
            if not text.lstrip().startswith(("SELECT", "UPDATE", "DELETE")):
                continue
            scans += [
                f"{line}: {text}"
                for line in self.explain(text)
                if line.startswith("SCAN")
                and "USING" not in line
                and line not in self.small_tables
            ]
        assert scans == []

    #: One row for each tenant or process, or none; what a SEARCH found; or a
    #: list among the arguments.
    small_tables = (
        "SCAN audit_heads",
        "SCAN leases",
        "SCAN CONSTANT ROW",
        "SCAN own",
        "SCAN (subquery-2)",
        "SCAN json_each VIRTUAL TABLE INDEX 1:",
    )

    @pytest.mark.parametrize(
        ("column", "plan"),
        [
            (r"WHERE serial = \?", "requests_by_serial (serial=?"),
            (r"= substr\(:public_key", "certificates_by_key (<expr>=?)"),
            (r"profile = :profile\n    AND \(", "(tenant_id=? AND profile=?"),
            (r" principal = :principal AND", "(tenant_id=? AND principal=?)"),
            (r"value = :name", "(tenant_id=? AND value=?)"),
        ],
    )
    def test_what_is_looked_for_has_its_index(
        self, column: str, plan: str
    ) -> None:
        """A lookup never goes through all of a tenant's certificates."""
        texts = [text for text in _statements() if re.search(column, text)]
        assert texts
        for text in texts:
            lines = self.explain(text)
            assert any(plan in line for line in lines), (text, lines)
            assert not any("(tenant_id=?)" in line for line in lines), text

    def explain(self, text: str) -> list[str]:
        """Return how SQLite would execute a statement."""
        connection = connect(self.path, busy_seconds=5)
        try:
            arguments: Any = (
                _Anything()
                if ":tenant_id" in text
                else (None,) * text.count("?")
            )
            rows = connection.execute(
                f"EXPLAIN QUERY PLAN {text}", arguments
            ).fetchall()
        finally:
            connection.close()
        return [row[3] for row in rows]


class _Anything(dict[str, None]):
    """Has a value for every parameter."""

    def __missing__(self, key: str) -> None:
        return None


def _statements() -> list[str]:
    """Return the statements of the store's modules."""
    from trstctl.backends import (
        sqlite_burns,
        sqlite_intents,
        sqlite_inventory,
        sqlite_listing,
        sqlite_requests,
        sqlite_revocation,
        sqlite_transaction,
    )

    return [
        value
        for module in (
            sqlite_burns,
            sqlite_intents,
            sqlite_inventory,
            sqlite_listing,
            sqlite_requests,
            sqlite_revocation,
            sqlite_transaction,
        )
        for name, value in vars(module).items()
        if name.startswith("_") and name.isupper() and isinstance(value, str)
    ]


class _Stalled:
    """While it lasts, the writer's thread waits, and a batch gathers."""

    def __init__(self, store: SQLiteStore) -> None:
        self._entered, self._release = Barrier(2), Barrier(2)
        self._store = store

    def __enter__(self) -> None:
        def stall(_transaction: object) -> None:
            self._entered.wait(30)
            self._release.wait(30)

        self._store._writer.submit(stall, long=True).addErrback(lambda _: None)
        self._entered.wait(30)

    def __exit__(self, *_: object) -> None:
        self._release.wait(30)


class _Failing:
    """A connection that fails at the statements that begin so."""

    def __init__(self, real: sqlite3.Connection, statement: str) -> None:
        self._real = real
        self._statement = statement

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, text: str, *args: Any) -> sqlite3.Cursor:
        if text.lstrip().startswith(self._statement):
            raise sqlite3.OperationalError("disk I/O error")
        return self._real.execute(text, *args)


class _Vanishing(type(Path())):  # type: ignore[misc]
    """A path whose file is gone when it is looked at."""

    def stat(self, **_: Any) -> os.stat_result:
        raise FileNotFoundError(self)


class MigrationTests:
    """Migrations run once, in order, or not at all."""

    @pytest.fixture(autouse=True)
    def _connection(self, tmp_path: Path) -> Iterator[None]:
        self.path = tmp_path / "m.db"
        self.connection = connect(self.path, busy_seconds=5)
        yield
        self.connection.close()

    first = migrate.Migration(1, "first", "-- c;\nCREATE TABLE a (b);\n")
    second = migrate.Migration(
        2, "second", "CREATE TABLE c (d);\nINSERT INTO c VALUES ('x;y');\n"
    )

    def test_shipped(self) -> None:
        """The shipped migrations are numbered without gaps."""
        shipped = migrate.available()
        assert [m.version for m in shipped] == list(range(1, len(shipped) + 1))
        assert shipped[0].name == "initial"

    def test_apply(self) -> None:
        """What is lacking is applied, once."""
        assert migrate.apply(self.connection, [self.first]) == 1
        both = [self.first, self.second]
        assert migrate.pending(self.connection, both) == (self.second,)
        assert migrate.apply(self.connection, both) == 1
        assert migrate.apply(self.connection, both) == 0
        rows = self.connection.execute("SELECT d FROM c").fetchall()
        assert rows == [("x;y",)]

    def test_newer(self) -> None:
        """A database of a newer program is refused."""
        migrate.apply(self.connection, [self.first, self.second])
        with pytest.raises(migrate.SchemaError, match="newer"):
            migrate.apply(self.connection, [self.first])

    def test_changed(self) -> None:
        """A migration that changed after it was applied is refused."""
        migrate.apply(self.connection, [self.first])
        changed = migrate.Migration(1, "first", "CREATE TABLE z (b);")
        with pytest.raises(migrate.SchemaError, match="another form"):
            migrate.apply(self.connection, [changed, self.second])

    def test_foreign(self) -> None:
        """Another program's database is refused."""
        self.connection.execute("CREATE TABLE theirs (a)")
        with pytest.raises(migrate.SchemaError, match="another program"):
            migrate.apply(self.connection, [self.first])

    def test_failing(self) -> None:
        """A migration that fails leaves nothing behind."""
        bad = migrate.Migration(
            2, "bad", "CREATE TABLE e (f);\nCREATE TABLE a (b);\n"
        )
        with pytest.raises(sqlite3.OperationalError):
            migrate.apply(self.connection, [self.first, bad])
        lacking = migrate.pending(self.connection, [self.first, bad])
        assert lacking == (bad,)
        assert self.connection.execute(
            "SELECT count(*) FROM sqlite_schema WHERE name = 'e'"
        ).fetchone() == (0,)

    def test_commit_fails(self) -> None:
        """A commit that fails, and was rolled back by SQLite, is told."""

        class Full(_Failing):
            def execute(self, text: str, *args: Any) -> sqlite3.Cursor:
                if text == "COMMIT":
                    self._real.execute("ROLLBACK")
                    raise sqlite3.OperationalError("disk is full")
                return self._real.execute(text, *args)

        full: Any = Full(self.connection, "")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            migrate.apply(full, [self.first])
        lacking = migrate.pending(self.connection, [self.first])
        assert lacking == (self.first,)

    def test_two_at_once(self) -> None:
        """Of two processes that migrate at once, one does."""
        counts: list[int] = []

        def work() -> None:
            connection = connect(self.path, busy_seconds=30)
            counts.append(migrate.apply(connection, [self.first, self.second]))
            connection.close()

        threads = [Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(counts) == 2

    def test_another_was_first(self) -> None:
        """What another process has applied meanwhile is not done twice."""
        other = connect(self.path, busy_seconds=5)
        real, first = self.connection, self.first

        class Late(_Failing):
            def execute(self, text: str, *args: Any) -> sqlite3.Cursor:
                if text == "BEGIN EXCLUSIVE":
                    migrate.apply(other, [first])
                return self._real.execute(text, *args)

        late: Any = Late(real, "")
        assert migrate.apply(late, [first]) == 0
        other.close()

    def test_up_to_date(self, tmp_path: Path) -> None:
        """Without leave to migrate, a schema that is complete will do."""
        driver, store = open_store(tmp_path / "u.db")
        driver.wait(store.close())
        again = SQLiteStore(tmp_path / "u.db", deliver=driver.deliver)
        again.open(migrate_schema=False)
        driver.wait(again.check())
        driver.wait(again.close())

    def test_outdated(self, tmp_path: Path) -> None:
        """Without leave to migrate, an older schema is refused."""
        store = SQLiteStore(tmp_path / "o.db", deliver=Driver().deliver)
        with pytest.raises(migrate.SchemaError, match="trstctl db migrate"):
            store.open(migrate_schema=False)


class OwnerLocksTests:
    """A lock file tells whether a process lives."""

    def test_life(self, tmp_path: Path) -> None:
        """A lock is seen by others until it is released or its end."""
        mine = OwnerLocks(tmp_path / "o")
        others = OwnerLocks(tmp_path / "o")
        assert others.has_ended("me") is None
        mine.take("me")
        mine.take("me")
        assert "me" in mine
        assert mine.has_ended("me") is False
        assert others.has_ended("me") is False
        others.sweep()
        assert others.has_ended("me") is False
        mine.close()
        assert others.has_ended("me") is True
        others.sweep()
        assert others.has_ended("me") is None

    def test_release(self, tmp_path: Path) -> None:
        """Releasing removes the file; releasing nothing is no error."""
        locks = OwnerLocks(tmp_path / "o")
        locks.take("me")
        locks.release("me")
        locks.release("me")
        assert list((tmp_path / "o").iterdir()) == []

    def test_file_that_was_swept(self, tmp_path: Path) -> None:
        """A lock on a file that is no longer there is no lock."""
        locks = OwnerLocks(tmp_path / "o")

        class Swept(OwnerLocks):
            def _path(self, owner: str) -> Path:
                path = super()._path(owner)
                return _Vanishing(path)

        with pytest.raises(Unavailable):
            Swept(tmp_path / "o").take("me")
        assert locks.has_ended("me") is not False

    def test_sweep_of_a_released_file(self, tmp_path: Path) -> None:
        """A file that its owner has just removed needs no sweeping."""
        (tmp_path / "gone.lock").symlink_to(tmp_path / "nowhere")
        OwnerLocks(tmp_path).sweep()

    def test_hostile_name(self, tmp_path: Path) -> None:
        """No name leads out of the directory."""
        locks = OwnerLocks(tmp_path / "o")
        for name in ("../x", "..", "a/b"):
            locks.take(name)
        assert len(list((tmp_path / "o").iterdir())) == 3
        assert [path.name for path in tmp_path.iterdir()] == ["o"]
        locks.close()

    def test_unwritable(self, tmp_path: Path) -> None:
        """Without its directory no lock can be taken."""
        (tmp_path / "o").write_text("a file")
        with pytest.raises(Unavailable):
            OwnerLocks(tmp_path / "o").take("me")
