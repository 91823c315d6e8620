# SPDX-License-Identifier: MIT
"""
The store in an SQLite database: for one machine, with any number of worker
processes.

Theory of operation
===================

The database is in WAL mode: readers and the one writer do not wait for each
other.

* Writes are performed in the reactor thread, in short batches, and committed
  in a thread of their own: see :mod:`trstctl.backends.sqlite_writer` and its
  invariants.
* What every request asks for by a unique key (a request, a credential, a
  secret, a certificate) is read at once, in the reactor thread, on a
  connection of its own.  A WAL reader takes no lock that a writer holds, and
  such a read is some ten microseconds, mostly from memory; handing it to a
  thread and back costs several times that.  If the database is busy all the
  same (another process recovers it after a crash), the read goes to a
  thread, where it may wait.
* Listings may be long.  They run in two reader threads.

What a certificate costs is decided by the pages that it changes: each is six
microseconds at the COMMIT, more than a statement.  So the request, the intent
and the certificate are one row, written once and updated once; of the intent's
TBSCertificate there is only the digest, since nobody signs it after a crash;
and there is an index only for what is looked for all the time, or stands in
the order of time.  That leaves eight pages, of which half are the serial, the
key and the names, which are spread at random.

Invariants, which tests name; those of the writer hold, too:

S-1  *One owner of a key.*  A key that is taken has one request, and a
     request has at most one open intent: the unique index
     ``requests_by_key`` decides, inside the transaction, whoever races.
S-2  *A serial is promised once* in an authority, in all tenants and for
     ever: the unique index ``requests_by_serial``.
S-3  *A certificate has an open intent* in the moment of its commit; an
     intent that was retired never gets one.
S-4  *No write without its audit record*, and the reverse.
S-5  *Read your writes.*  What was written is seen by every read that begins
     after its Deferred has fired.
S-6  *The reactor never waits* for a lock or for a listing.
S-7  *Nobody's intents stay open.*  An owner holds a lock file while its
     process lives, besides its lease; if both are gone or the process has
     ended, its intents are retired.
S-8  *A tenant is in every statement*, but in those that answer for an
     authority, which may serve several.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar, TypeVarTuple

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from trstctl.backends import (
    migrate,
    sqlite_dialogues,
    sqlite_generations,
    sqlite_intents,
    sqlite_inventory,
    sqlite_listing,
    sqlite_requests,
    sqlite_revocation,
)
from trstctl.backends.owners import OwnerLocks
from trstctl.backends.sqlite_writer import Bounds, Deliver, GroupCommitWriter
from trstctl.errors import TrstctlError, Unavailable
from trstctl.interfaces import IStore
from trstctl.model import (
    AuditEvent,
    AuditRecord,
    CertificateQuery,
    CertificateRecord,
    CredentialRecord,
    Dialogue,
    Generation,
    Intent,
    NewRequest,
    OneTimeSecret,
    Opened,
    Outstanding,
    Phase,
    RequestKey,
    RequestState,
    RevocationQuery,
    SecretState,
    SerialStatus,
    StoredCRL,
    StoredRequest,
)

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_READERS = 2


def connect(path: Path, *, busy_seconds: float) -> sqlite3.Connection:
    """
    Open a connection in autocommit mode.

    :param busy_seconds: for how long it waits for a lock.
    """
    return sqlite3.connect(
        path,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )


@implementer(IStore)
class SQLiteStore:
    """
    The store in an SQLite database.

    All methods are to be called in the reactor thread.

    :param path: the database file; not on a network file system.
    :param deliver: calls a function in the reactor thread, such as
        ``reactor.callFromThread``.
    :param busy_seconds: for how long a write waits for another process's
        lock before it is ``Unavailable``.
    :param bounds: what the writer keeps within.
    :param monotonic: the clock that they are judged by.
    """

    _log = Logger()

    def __init__(
        self,
        path: str | Path,
        *,
        deliver: Deliver,
        busy_seconds: float = 5.0,
        bounds: Bounds | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = Path(path)
        self._deliver = deliver
        self._busy_seconds = busy_seconds
        self._bounds = bounds or Bounds()
        self._monotonic = monotonic
        self._owners = OwnerLocks(
            self._path.with_name(self._path.name + ".owners")
        )
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._pool = ThreadPool(0, _READERS, "sqlite-readers")
        self._closed: Deferred[None] | None = None
        self._forsaken: dict[str, Intent] = {}

    # --- life ---------------------------------------------------------------

    def open(self, *, migrate_schema: bool = True) -> None:
        """
        Open the database, and make it if it does not exist.

        Waits for the disk: to be called before the reactor runs.

        :param migrate_schema: bring an older schema up to date.
        :raises SchemaError: the schema is newer, foreign or, without
            ``migrate_schema``, older.
        :raises sqlite3.Error: the file cannot be used.
        :raises OSError: the file cannot be made.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its other files the mode of the first.
        self._path.touch(mode=0o600)
        connection = connect(self._path, busy_seconds=self._busy_seconds)
        try:
            _prepare(connection, migrate_schema=migrate_schema)
        except BaseException:
            connection.close()
            raise
        connection.execute("PRAGMA busy_timeout = 0")
        self._writer = GroupCommitWriter(
            connection,
            self._deliver,
            busy_seconds=self._busy_seconds,
            bounds=self._bounds,
            monotonic=self._monotonic,
        )
        self._inline = self._reader(busy_seconds=0)
        for _ in range(_READERS):
            self._idle.put(self._reader(busy_seconds=self._busy_seconds))
        self._pool.start()
        self._writer.start()

    def _reader(self, *, busy_seconds: float) -> sqlite3.Connection:
        """Open a connection that cannot write."""
        connection = connect(self._path, busy_seconds=busy_seconds)
        connection.execute("PRAGMA query_only = ON")
        return connection

    def check(self) -> Deferred[None]:
        """Write something durably, and take it back."""
        return self._writer.submit(sqlite_intents.check)

    def close(self) -> Deferred[None]:
        """Finish what was queued, then close; idempotent."""
        if self._closed is None:
            self._closed = self._writer.close()
            self._closed.addCallback(self._close_readers)
        closed: Deferred[None] = Deferred()
        self._closed.chainDeferred(closed)
        return closed

    def _close_readers(self, _ended: None) -> None:
        """Close what is left when the writer has ended."""
        self._pool.stop()
        self._inline.close()
        for _ in range(_READERS):
            self._idle.get().close()
        self._owners.close()

    # --- ways to read -------------------------------------------------------

    def _read(
        self,
        function: Callable[[sqlite3.Connection, *_Ts], _T],
        *args: *_Ts,
    ) -> Deferred[_T]:
        """Read by a unique key, at once."""
        try:
            return defer.succeed(function(self._inline, *args))
        except sqlite3.OperationalError:
            return self._list(function, *args)
        except sqlite3.Error as error:
            return defer.fail(self._unavailable(error))
        except Exception:  # noqa: BLE001 - the Deferred carries it on
            return defer.fail()

    def _list(
        self,
        function: Callable[[sqlite3.Connection, *_Ts], _T],
        *args: *_Ts,
    ) -> Deferred[_T]:
        """Read in a thread."""
        waiting: Deferred[_T] = Deferred()

        def work() -> _T:
            connection = self._idle.get()
            try:
                return function(connection, *args)
            finally:
                self._idle.put(connection)

        def done(_: bool, result: _T | Failure) -> None:
            self._deliver(self._fire, waiting, result)

        if self._closed is None:
            self._pool.callInThreadWithCallback(done, work)
        else:
            waiting.errback(Unavailable())
        return waiting

    def _fire(self, waiting: Deferred[Any], result: Any) -> None:
        """Hand over what a reader thread has read."""
        if isinstance(result, Failure) and isinstance(
            result.value, sqlite3.Error
        ):
            result = Failure(self._unavailable(result.value))
        if not waiting.called:
            waiting.callback(result)  # a Failure makes it an errback

    def _unavailable(self, error: Exception) -> TrstctlError:
        """Log what happened and return what the caller may know."""
        self._log.error(
            "the database cannot be read: {reason}",
            event="store.failed",
            reason=f"{type(error).__name__}: {error}",
        )
        return Unavailable()

    # --- issuance -----------------------------------------------------------

    def find_request(
        self, key: RequestKey, now: datetime, lapsed: bool = False
    ) -> Deferred[StoredRequest | None]:
        """Return the request that holds the key, unless it has expired."""
        return self._read(sqlite_requests.find_request, key, now, lapsed)

    def find_transactions(
        self,
        tenant_id: str,
        protocol: str,
        endpoint: str,
        transaction: str,
        now: datetime,
        *,
        principals: Collection[str],
        fingerprint: str = "",
    ) -> Deferred[Sequence[StoredRequest]]:
        """Return the requests with a transactionID, newest first."""
        return self._list(
            sqlite_requests.find_transactions,
            tenant_id,
            protocol,
            endpoint,
            transaction,
            now,
            tuple(principals),
            fingerprint,
        )

    def hold(
        self, request: NewRequest, now: datetime, limit: int | None = None
    ) -> Deferred[StoredRequest]:
        """Keep a request for a person to decide."""
        return self._writer.submit(sqlite_requests.hold, request, now, limit)

    def open_intent(
        self, intent: Intent, now: datetime
    ) -> Deferred[Opened | StoredRequest]:
        """
        Commit the intent to sign.

        If the Deferred is cancelled while the commit is under way, the
        intent is retired: nobody is left to sign it.
        """
        if intent.owner not in self._owners:
            try:
                self._owners.take(intent.owner)
            except Unavailable as error:
                return defer.fail(error)

        def forsake(outcome: Opened | StoredRequest) -> None:
            if isinstance(outcome, Opened):
                self._forsaken[intent.id] = intent
                self._abandon_forsaken(now)

        return self._writer.submit(
            sqlite_intents.open_intent, intent, now, undo=forsake
        )

    def _abandon_forsaken(self, now: datetime) -> None:
        """Retire the intents whose requests were cancelled at the commit."""
        for intent in self._forsaken.values():

            def forget(_abandoned: None, intent_id: str = intent.id) -> None:
                self._forsaken.pop(intent_id, None)

            self.abandon_intent(intent, "cancelled", now).addCallback(
                forget
            ).addErrback(Failure.trap, Unavailable)

    def record_certificate(
        self, intent: Intent, certificate: bytes, now: datetime
    ) -> Deferred[CertificateRecord]:
        """Commit the signed certificate."""
        return self._writer.submit(
            sqlite_intents.record_certificate, intent, certificate, now
        )

    def abandon_intent(
        self, intent: Intent, reason: str, now: datetime
    ) -> Deferred[None]:
        """Retire an open intent."""
        return self._writer.submit(
            sqlite_intents.abandon_intent, intent, reason, now
        )

    def retire_orphans(self, now: datetime) -> Deferred[int]:
        """Retire each open intent whose owner is gone, in all tenants."""

        def sweep(count: int) -> int:
            self._owners.sweep()
            return count

        self._abandon_forsaken(now)
        return self._writer.submit(
            sqlite_intents.retire_orphans,
            now,
            self._owners.has_ended,
            long=True,
        ).addCallback(sweep)

    def renew_lease(self, owner: str, until: datetime) -> Deferred[None]:
        """Declare that the owner lives until then."""
        try:
            self._owners.take(owner)
        except Unavailable as error:
            return defer.fail(error)
        return self._writer.submit(sqlite_intents.renew_lease, owner, until)

    def release_lease(self, owner: str) -> Deferred[None]:
        """Declare that the owner has ended."""

        def release(_: None) -> None:
            self._owners.release(owner)

        return self._writer.submit(
            sqlite_intents.release_lease, owner
        ).addCallback(release)

    # --- held requests ------------------------------------------------------

    def list_requests(
        self, tenant_id: str, state: RequestState | None, limit: int
    ) -> Deferred[Sequence[StoredRequest]]:
        """Return requests, oldest first."""
        return self._list(
            sqlite_requests.list_requests, tenant_id, state, limit
        )

    def decide_request(
        self,
        tenant_id: str,
        request_id: str,
        approve: bool,
        actor: str,
        reason: str,
        now: datetime,
        key_expires: datetime,
    ) -> Deferred[StoredRequest]:
        """Approve or deny a held request."""
        return self._writer.submit(
            sqlite_requests.decide_request,
            tenant_id,
            request_id,
            approve,
            actor,
            reason,
            now,
            key_expires,
        )

    # --- inventory ----------------------------------------------------------

    def find_certificate(
        self, tenant_id: str, serial: str
    ) -> Deferred[CertificateRecord | None]:
        """Return one certificate, with its DER."""
        return self._read(sqlite_inventory.find_certificate, tenant_id, serial)

    def list_certificates(
        self, query: CertificateQuery
    ) -> Deferred[Sequence[CertificateRecord]]:
        """Return certificates without DER."""
        return self._list(sqlite_listing.list_certificates, query)

    def revoke_certificate(
        self,
        tenant_id: str,
        serial: str,
        reason: str,
        actor: str,
        now: datetime,
    ) -> Deferred[CertificateRecord]:
        """Revoke."""
        return self._writer.submit(
            sqlite_revocation.revoke_certificate,
            tenant_id,
            serial,
            reason,
            actor,
            now,
        )

    def release_certificate(
        self, tenant_id: str, serial: str, actor: str, now: datetime
    ) -> Deferred[CertificateRecord]:
        """Take a certificate off hold."""
        return self._writer.submit(
            sqlite_revocation.release_certificate,
            tenant_id,
            serial,
            actor,
            now,
        )

    def supersede_certificate(
        self, tenant_id: str, serial: str, by: str, actor: str, now: datetime
    ) -> Deferred[CertificateRecord]:
        """Record that another certificate has taken its place."""
        return self._writer.submit(
            sqlite_revocation.supersede_certificate,
            tenant_id,
            serial,
            by,
            actor,
            now,
        )

    def confirm_certificate(
        self, tenant_id: str, serial: str, actor: str, now: datetime
    ) -> Deferred[CertificateRecord]:
        """Record that the client takes the certificate."""
        return self._writer.submit(
            sqlite_dialogues.confirm_certificate,
            tenant_id,
            serial,
            actor,
            now,
        )

    def list_unconfirmed(
        self, before: datetime, limit: int
    ) -> Deferred[Sequence[CertificateRecord]]:
        """Return what should have been confirmed, of all tenants."""
        return self._list(sqlite_dialogues.list_unconfirmed, before, limit)

    # --- transactions of several messages -----------------------------------

    def find_dialogue(
        self,
        tenant_id: str,
        protocol: str,
        endpoint: str,
        transaction: str,
        now: datetime,
    ) -> Deferred[Dialogue | None]:
        """Return a dialogue that has not expired."""
        return self._read(
            sqlite_dialogues.find_dialogue,
            tenant_id,
            protocol,
            endpoint,
            transaction,
            now,
        )

    def open_dialogue(
        self, dialogue: Dialogue, now: datetime, limit: int | None = None
    ) -> Deferred[None]:
        """Keep a new dialogue."""
        return self._writer.submit(
            sqlite_dialogues.open_dialogue, dialogue, now, limit
        )

    def count_dialogues(
        self, tenant_id: str, protocol: str, charged_to: str
    ) -> Deferred[int]:
        """Return how many dialogues are charged to somebody."""
        return self._read(
            sqlite_dialogues.count_dialogues, tenant_id, protocol, charged_to
        )

    def advance_dialogue(self, dialogue: Dialogue) -> Deferred[None]:
        """Put a dialogue in place of the one with the same version."""
        return self._writer.submit(sqlite_dialogues.advance_dialogue, dialogue)

    def purge_dialogues(self, now: datetime) -> Deferred[None]:
        """Forget what has expired, of all tenants."""
        return self._writer.submit(
            sqlite_dialogues.purge_dialogues, now, long=True
        )

    def count_certificates(
        self, tenant_id: str, now: datetime
    ) -> Deferred[Mapping[str, int]]:
        """Return counts."""
        return self._list(sqlite_listing.count_certificates, tenant_id, now)

    # --- an authority's revocations, in all tenants -------------------------

    def find_status(
        self, authority: str, serial: str
    ) -> Deferred[SerialStatus | None]:
        """Return the status of a serial."""
        return self._read(sqlite_revocation.find_status, authority, serial)

    def list_revoked(
        self, query: RevocationQuery
    ) -> Deferred[Sequence[SerialStatus]]:
        """Return revoked serials, the least first."""
        return self._list(sqlite_revocation.list_revoked, query)

    def last_revocation(self, authority: str) -> Deferred[datetime | None]:
        """Return when a serial was last revoked, abandoned or released."""
        return self._read(sqlite_revocation.last_revocation, authority)

    def next_crl_number(self, authority: str) -> Deferred[int]:
        """Return a CRLNumber that nobody got before."""
        return self._writer.submit(
            sqlite_revocation.next_crl_number, authority
        )

    def save_crl(self, crl: StoredCRL, actor: str) -> Deferred[None]:
        """Keep a CRL, which may be of many megabytes."""
        return self._writer.submit(
            sqlite_revocation.save_crl, crl, actor, long=True
        )

    def find_crl(
        self, authority: str, scope: str, unless: int
    ) -> Deferred[StoredCRL | None]:
        """Return the CRL of a scope, unless its number is known."""
        return self._list(sqlite_revocation.find_crl, authority, scope, unless)

    def crl_scopes(self, authority: str) -> Deferred[Sequence[str]]:
        """Return every scope that was ever published."""
        return self._list(sqlite_revocation.crl_scopes, authority)

    # --- generations of an authority ----------------------------------------

    def list_generations(self) -> Deferred[Sequence[Generation]]:
        """Return the generations of all authorities."""
        return self._list(sqlite_generations.list_generations)

    def add_generation(
        self, generation: Generation, actor: str
    ) -> Deferred[None]:
        """Add a generation that is prepared."""
        return self._writer.submit(
            sqlite_generations.add_generation, generation, actor
        )

    def advance_generation(
        self,
        name: str,
        expected: Phase,
        phase: Phase,
        actor: str,
        now: datetime,
        vacated: str = "",
    ) -> Deferred[Generation]:
        """Take a generation to another phase."""
        return self._writer.submit(
            sqlite_generations.advance_generation,
            name,
            expected,
            phase,
            actor,
            now,
            vacated,
        )

    def outstanding(
        self, authority: str, now: datetime
    ) -> Deferred[Outstanding]:
        """Return what a generation has issued that has not expired."""
        return self._list(sqlite_generations.outstanding, authority, now)

    # --- credentials --------------------------------------------------------

    def find_credential(
        self, tenant_id: str, kind: str, name: str
    ) -> Deferred[CredentialRecord | None]:
        """Return one standing credential, also a revoked one."""
        return self._read(
            sqlite_inventory.find_credential, tenant_id, kind, name
        )

    def add_credential(
        self, record: CredentialRecord, actor: str
    ) -> Deferred[None]:
        """Add, or replace a revoked one."""
        return self._writer.submit(
            sqlite_inventory.add_credential, record, actor
        )

    def list_credentials(
        self, tenant_id: str
    ) -> Deferred[Sequence[CredentialRecord]]:
        """Return all standing credentials, by kind and name."""
        return self._list(sqlite_inventory.list_credentials, tenant_id)

    def revoke_credential(
        self, tenant_id: str, kind: str, name: str, actor: str, now: datetime
    ) -> Deferred[None]:
        """Revoke."""
        return self._writer.submit(
            sqlite_inventory.revoke_credential,
            tenant_id,
            kind,
            name,
            actor,
            now,
        )

    def find_secret(
        self, tenant_id: str, digest: str
    ) -> Deferred[OneTimeSecret | None]:
        """Return the single-use secret with this SHA-256."""
        return self._read(sqlite_inventory.find_secret, tenant_id, digest)

    def find_secret_by_id(
        self, tenant_id: str, secret_id: str
    ) -> Deferred[OneTimeSecret | None]:
        """Return the single-use secret with this public id."""
        return self._read(
            sqlite_inventory.find_secret_by_id, tenant_id, secret_id
        )

    def add_secrets(
        self, secrets: Sequence[OneTimeSecret], actor: str
    ) -> Deferred[None]:
        """Add all or none."""
        return self._writer.submit(
            sqlite_inventory.add_secrets, secrets, actor, long=True
        )

    def list_secrets(
        self,
        tenant_id: str,
        state: SecretState | None,
        now: datetime,
        after: str,
        limit: int,
    ) -> Deferred[Sequence[OneTimeSecret]]:
        """Return single-use secrets by id."""
        return self._list(
            sqlite_inventory.list_secrets, tenant_id, state, now, after, limit
        )

    def revoke_secret(
        self, tenant_id: str, secret_id: str, actor: str, now: datetime
    ) -> Deferred[OneTimeSecret]:
        """Revoke."""
        return self._writer.submit(
            sqlite_inventory.revoke_secret, tenant_id, secret_id, actor, now
        )

    # --- audit --------------------------------------------------------------

    def append_audit(self, events: Sequence[AuditEvent]) -> Deferred[None]:
        """Append to the tenants' chains."""
        return self._writer.submit(sqlite_inventory.append_audit, events)

    def audit_records(
        self, tenant_id: str, after: int, limit: int
    ) -> Deferred[Sequence[AuditRecord]]:
        """Return records with a greater sequence than ``after``."""
        return self._list(
            sqlite_inventory.audit_records, tenant_id, after, limit
        )

    def audit_tenants(self) -> Deferred[Sequence[str]]:
        """Return every tenant that has a chain."""
        return self._list(sqlite_inventory.audit_tenants)


def _prepare(connection: sqlite3.Connection, *, migrate_schema: bool) -> None:
    """Set the connection up for durable writes, and see to the schema."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -65536")  # KiB
    # A WAL of 40 MiB: one checkpoint for some thousand certificates.
    connection.execute("PRAGMA wal_autocheckpoint = 10000")
    migrations = migrate.available()
    if migrate_schema:
        migrate.apply(connection, migrations)
    elif lacking := migrate.pending(connection, migrations):
        raise migrate.SchemaBehind(
            f"the database lacks {len(lacking)} migration(s), from "
            f"{lacking[0].version} ({lacking[0].name}) on; run "
            f"'trstctl db migrate'"
        )
