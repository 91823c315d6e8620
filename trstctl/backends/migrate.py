# SPDX-License-Identifier: MIT
"""
Numbered migrations of the database schema.

A migration is a file ``migrations/NNN_name.<dialect>.sql`` of this package.
Each is applied once, in order, in a transaction of its own that also writes
its checksum; a migration that was applied never changes again.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from importlib import resources

from attrs import frozen

_FIND_TABLES = """
SELECT count(*), coalesce(sum(name = 'schema_migrations'), 0)
FROM sqlite_schema WHERE type = 'table'
"""

_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TEXT NOT NULL
) STRICT
"""

_APPLIED = "SELECT version, checksum FROM schema_migrations ORDER BY version"

_ADD = """
INSERT INTO schema_migrations (version, name, checksum, applied_at)
VALUES (?, ?, ?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
"""


class SchemaError(Exception):
    """The database's schema is not one that this program can work with."""


class SchemaBehind(SchemaError):
    """It is older: a start, or ``trstctl db migrate``, brings it up to date."""


@frozen
class Migration:
    """
    One step of the schema.

    :ivar version: 1, 2, 3, ... without gaps.
    :ivar text: the SQL.
    """

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Hexadecimal SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self) -> Iterator[str]:
        """Yield the statements, one after the other."""
        collected = ""
        for line in self.text.splitlines(keepends=True):
            collected += line
            if sqlite3.complete_statement(collected):
                yield collected
                collected = ""


def available(dialect: str = "sqlite") -> tuple[Migration, ...]:
    """Return the migrations that this program ships, in order."""
    suffix = f".{dialect}.sql"
    found = [
        Migration(
            version=int(entry.name.partition("_")[0]),
            name=entry.name.removesuffix(suffix).partition("_")[2],
            text=entry.read_text(encoding="utf-8"),
        )
        for entry in resources.files("trstctl.backends")
        .joinpath("migrations")
        .iterdir()
        if entry.name.endswith(suffix)
    ]
    return tuple(sorted(found, key=lambda migration: migration.version))


def pending(
    connection: sqlite3.Connection, migrations: Sequence[Migration]
) -> tuple[Migration, ...]:
    """
    Return the migrations that the database still lacks, in order.

    :raises SchemaError: it is newer than this program, an applied migration
        differs from ours, or it is some other program's database.
    """
    tables, ours = connection.execute(_FIND_TABLES).fetchone()
    if not ours:
        if tables:
            raise SchemaError(
                "the database belongs to another program: it has tables, but "
                "no schema_migrations"
            )
        return tuple(migrations)
    applied = connection.execute(_APPLIED).fetchall()
    if len(applied) > len(migrations):
        raise SchemaError(
            f"the database has schema version {applied[-1][0]}, which is "
            f"newer than version {len(migrations)} of this program; install "
            f"the newer program"
        )
    for migration, row in zip(migrations, applied, strict=False):
        if row != (migration.version, migration.checksum):
            raise SchemaError(
                f"migration {migration.version} ({migration.name}) was "
                f"applied to the database in another form than this program "
                f"has; restore the program or the database"
            )
    return tuple(migrations[len(applied) :])


def apply(
    connection: sqlite3.Connection, migrations: Sequence[Migration]
) -> int:
    """
    Bring the database up to date.

    Each migration runs in one transaction under an exclusive lock, so that
    of several processes that start at once, one migrates.

    :param connection: in autocommit mode.
    :returns: how many migrations were applied.
    :raises SchemaError: see :func:`pending`.
    :raises sqlite3.Error: a migration failed, and left nothing behind.
    """
    count = 0
    while pending(connection, migrations):
        connection.execute("BEGIN EXCLUSIVE")
        try:
            # Another process may have been first.
            lacking = pending(connection, migrations)
            if lacking:
                _apply_one(connection, lacking[0])
                count += 1
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return count


def _apply_one(connection: sqlite3.Connection, migration: Migration) -> None:
    """Run a migration's statements and note its checksum."""
    connection.execute(_CREATE_TABLE)
    for statement in migration.statements():
        connection.execute(statement)
    connection.execute(
        _ADD, (migration.version, migration.name, migration.checksum)
    )
