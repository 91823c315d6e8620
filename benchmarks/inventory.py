# SPDX-License-Identifier: MIT
"""
What listings, searches and revocations cost in a large inventory.

Makes a database of as many certificates as asked for, every tenth revoked,
straight through its schema, and measures the store on it.  The audit log is
left out: no listing looks into it.

Usage: python benchmarks/inventory.py [--certificates N] [--path FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from twisted.internet.defer import Deferred

from trstctl.backends import migrate
from trstctl.backends.sqlite_rows import micros
from trstctl.backends.store_sqlite import SQLiteStore, connect
from trstctl.model import (
    CertificateQuery,
    CertificateStatus,
    GeneralName,
    Intent,
    NewRequest,
    RequestKey,
    RevocationQuery,
)

_TENANT = "11111111-1111-1111-1111-111111111111"
_NOW = datetime(2026, 11, 1, tzinfo=UTC)
_DAY = timedelta(days=1)

#: Half of the certificates belong to one principal, the others to one each;
#: five are of a profile, and five of a protocol, that is hardly used.
_FILL = """
WITH RECURSIVE counter (n) AS (
    VALUES (1) UNION ALL SELECT n + 1 FROM counter WHERE n < :count
)
INSERT INTO requests (number, tenant_id, id, protocol, principal, request_key,
    fingerprint, key_expires, endpoint, operation, profile, profile_version,
    subject, names, public_key_fingerprint, csr, request_id, peer, state,
    created_at, intent, authority, serial, owner, tbs_sha256, not_before,
    not_after, promised_at, status, issued_at, revoked_at, revocation_reason,
    changed_at, der)
SELECT n, :tenant_id, 'request-' || n,
    CASE WHEN n % :fifth = 0 THEN 'rare' WHEN n % 3 = 0 THEN 'scep'
        ELSE 'est' END,
    CASE n % 2 WHEN 0 THEN 'basic:fleet' ELSE 'certificate:device-' || n END,
    lower(hex(randomblob(32))), lower(hex(randomblob(32))),
    :start + n * :step + 900000000, '', 'enroll',
    CASE WHEN n % :fifth = 1 THEN 'rare' ELSE 'device' END,
    lower(hex(randomblob(32))),
    'CN=device-' || n || '.example.com',
    '[["dns","device-' || n || '.example.com"]]',
    lower(hex(randomblob(32))), randomblob(400), lower(hex(randomblob(8))),
    '192.0.2.7:50000', 'issued', :start + n * :step,
    lower(hex(randomblob(8))), 'issuing',
    substr('4567', 1 + abs(random()) % 4, 1)
        || substr(lower(hex(randomblob(20))), 2),
    'owner', randomblob(32), :start + n * :step,
    :start + n * :step + :lifetime, :start + n * :step,
    CASE n % 10 WHEN 0 THEN 'revoked' ELSE 'valid' END,
    :start + n * :step,
    CASE n % 10 WHEN 0 THEN :start + n * :step + 1000 END,
    CASE n % 10 WHEN 0 THEN 'superseded' ELSE '' END,
    CASE n % 10 WHEN 0 THEN :start + n * :step + 1000 END,
    randomblob(700)
FROM counter
"""

_FILL_NAMES = """
INSERT INTO certificate_names (tenant_id, value, certificate)
SELECT tenant_id, 'device-' || number || '.example.com', number
FROM requests WHERE tenant_id = :tenant_id ORDER BY 2
"""

_INDEXES = """
SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL
"""


def fill(path: Path, count: int) -> None:
    """Make the database; its indexes last, which is quicker."""
    connection = connect(path, busy_seconds=5)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -400000")
    migrate.apply(connection, migrate.available())
    indexes = connection.execute(_INDEXES).fetchall()
    lifetime = 365 * _DAY
    span = 330 * _DAY
    connection.execute("BEGIN")
    for name, _ in indexes:
        connection.execute(f'DROP INDEX "{name}"')
    values = {
        "count": count,
        "tenant_id": _TENANT,
        "fifth": count // 5,
        "start": micros(_NOW - span - 20 * _DAY),
        "step": int(span.total_seconds() * 1e6) // count,
        "lifetime": int(lifetime.total_seconds() * 1e6),
    }
    connection.execute(_FILL, values)
    for _, sql in indexes:
        connection.execute(sql)
    connection.execute(_FILL_NAMES, values)
    connection.execute("COMMIT")
    connection.close()


class Desk:
    """A store without a reactor, and a stopwatch."""

    def __init__(self, path: Path) -> None:
        self._inbox: SimpleQueue[tuple[Callable[..., Any], Any]] = (
            SimpleQueue()
        )
        self.store = SQLiteStore(path, deliver=self._deliver)

    def _deliver(self, function: Callable[..., Any], *args: Any) -> None:
        self._inbox.put((function, args))

    def wait(self, deferred: Deferred[Any]) -> Any:
        """Return what the Deferred fires with."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        while not results:
            function, args = self._inbox.get(timeout=600)
            function(*args)
        if isinstance(results[0], BaseException) or hasattr(
            results[0], "raiseException"
        ):
            results[0].raiseException()
        return results[0]

    def time(self, what: str, ask: Callable[[], Deferred[Any]]) -> Any:
        """Print the median of five, and what the first one took."""
        seconds = []
        for _ in range(5):
            begin = time.perf_counter()
            result = self.wait(ask())
            seconds.append(time.perf_counter() - begin)
        found = len(result) if isinstance(result, list) else ""
        print(
            f"{what:44}{statistics.median(seconds) * 1000:9.2f} ms"
            f"{seconds[0] * 1000:9.2f} ms  {found}"
        )
        return result


def forget(path: Path) -> None:
    """Let the operating system drop what it has read of the file."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def listings(desk: Desk, facts: dict[str, str], count: int) -> None:
    """Measure each filter, and some together."""
    revoked, valid = CertificateStatus.REVOKED, CertificateStatus.VALID
    soon, late = _NOW + 30 * _DAY, _NOW + 400 * _DAY
    owned = f"certificate:device-{count // 2 | 1}"
    queries: dict[str, dict[str, Any]] = {
        "all": {},
        "all, from the middle": {"after": facts["serial"]},
        "valid": {"status": valid},
        "revoked": {"status": revoked},
        "superseded (none)": {"status": CertificateStatus.SUPERSEDED},
        "profile": {"profile": "device"},
        "profile, rare": {"profile": "rare"},
        "profile, none": {"profile": "none"},
        "protocol": {"protocol": "scep"},
        "protocol, rare": {"protocol": "rare"},
        "protocol, none": {"protocol": "none"},
        "principal": {"principal": "basic:fleet"},
        "principal, of one": {"principal": owned},
        "principal, none": {"principal": "basic:none"},
        "public key": {"public_key_fingerprint": facts["key"]},
        "public key, none": {"public_key_fingerprint": "0" * 64},
        "name": {"name": facts["name"]},
        "name, none": {"name": "none.example.com"},
        "expiring in 30 days": {"expiring_before": soon},
        "expiring, all": {"expiring_before": late},
        "expiring, profile, rare": {
            "expiring_before": soon,
            "profile": "rare",
        },
        "expiring, principal of one": {
            "expiring_before": soon,
            "principal": owned,
        },
        "expiring, name": {"expiring_before": soon, "name": facts["name"]},
        "expiring, public key": {
            "expiring_before": late,
            "public_key_fingerprint": facts["key"],
        },
        "expiring, all, profile, rare": {
            "expiring_before": late,
            "profile": "rare",
        },
        "revoked, profile, rare": {"status": revoked, "profile": "rare"},
        "revoked, protocol, none": {"status": revoked, "protocol": "none"},
        "profile and protocol, none": {"profile": "rare", "protocol": "rare"},
        "principal and protocol, rare": {
            "principal": "basic:fleet",
            "protocol": "rare",
        },
    }
    for what, conditions in queries.items():
        query = CertificateQuery(_TENANT, **conditions)

        def ask(query: CertificateQuery = query) -> Deferred[Any]:
            return desk.store.list_certificates(query)

        desk.time(what, ask)
    desk.time("counts", lambda: desk.store.count_certificates(_TENANT, _NOW))


def revocations(desk: Desk, facts: dict[str, str]) -> None:
    """Measure what a CRL and an OCSP response ask for."""
    store, name = desk.store, "issuing"
    desk.time("find_status", lambda: store.find_status(name, facts["serial"]))
    desk.time("last_revocation", lambda: store.last_revocation(name))
    last = desk.wait(store.last_revocation(name))
    for what, since in (
        ("page of revoked", None),
        ("page of changed, of a day", last - _DAY),
        ("page of changed, of 30 days", last - 30 * _DAY),
    ):
        query = RevocationQuery(name, "60", "g", _NOW, since)

        def ask(query: RevocationQuery = query) -> Deferred[Any]:
            return store.list_revoked(query)

        desk.time(what, ask)
    begin, first, found = time.perf_counter(), "", 0
    while True:
        query = RevocationQuery(name, first, "g", _NOW - 400 * _DAY)
        page = desk.wait(store.list_revoked(query))
        found += len(page)
        if len(page) < query.limit:
            break
        first = page[-1].serial + "0"
    seconds = time.perf_counter() - begin
    print(f"all revoked, in pages of 1000{seconds * 1000:24.2f} ms  {found}")


def _intent() -> Intent:
    """Return what a device of its own asks for."""
    name = f"{uuid.uuid4()}.example.com"
    digest = hashlib.sha256(name.encode()).hexdigest()
    request = NewRequest(
        id=name,
        key=RequestKey(_TENANT, "est", f"certificate:{name}", digest),
        fingerprint=digest,
        key_expires=_NOW + _DAY,
        endpoint="",
        operation="enroll",
        profile="device",
        profile_version=digest,
        subject=f"CN={name}",
        names=(GeneralName("dns", name),),
        public_key_fingerprint=hashlib.sha256(digest.encode()).hexdigest(),
        csr=bytes(400),
        request_id=digest[:16],
        peer="192.0.2.7:50000",
    )
    return Intent(
        id=digest[:32],
        request=request,
        owner="benchmark",
        authority="issuing",
        serial=hashlib.sha1(digest.encode()).hexdigest(),
        tbs=bytes(400),
        not_before=_NOW,
        not_after=_NOW + 365 * _DAY,
    )


def issuance(desk: Desk, rounds: int, together: int) -> None:
    """Measure what the store adds to a certificate, several at a time."""
    batches = [[_intent() for _ in range(together)] for _ in range(rounds)]
    used, begin = time.process_time(), time.perf_counter()
    for batch in batches:
        for each in [desk.store.open_intent(i, _NOW) for i in batch]:
            desk.wait(each)
        for each in [
            desk.store.record_certificate(i, bytes(700), _NOW) for i in batch
        ]:
            desk.wait(each)
    count = rounds * together
    seconds = time.perf_counter() - begin
    used = time.process_time() - used
    print(
        f"an issuance, {together:2} at a time{'':17}"
        f"{seconds / count * 1e6:9.0f} us{used / count * 1e6:9.0f} us of CPU"
    )


def measure(path: Path, count: int) -> None:
    """Open the store and ask it everything."""
    connection = sqlite3.connect(path)
    row = connection.execute(
        "SELECT serial, public_key_fingerprint, subject FROM requests"
        " WHERE tenant_id = ? AND number = ?",
        (_TENANT, count // 2 | 1),
    ).fetchone()
    connection.close()
    facts = {"serial": row[0], "key": row[1], "name": row[2][3:]}
    forget(path)
    begin = time.perf_counter()
    desk = Desk(path)
    desk.store.open()
    desk.wait(desk.store.retire_orphans(_NOW))
    print(f"open{(time.perf_counter() - begin) * 1000:49.2f} ms")
    print(f"{'':44}{'median':>12}{'first':>12}  found")
    listings(desk, facts, count)
    revocations(desk, facts)
    for together in (1, 32):
        issuance(desk, 3200 // together, together)
    desk.wait(desk.store.close())


def main() -> None:
    """Make the database, unless it is there, and measure."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--certificates", type=int, default=1_000_000)
    options.add_argument("--path", type=Path, help="keep the database here")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = chosen.path or Path(directory, "inventory.db")
        if not path.exists():
            begin = time.perf_counter()
            fill(path, chosen.certificates)
            print(f"made in {time.perf_counter() - begin:.0f} s")
        print(f"{path.stat().st_size / 1e6:.0f} MB")
        measure(path, chosen.certificates)


if __name__ == "__main__":
    main()
