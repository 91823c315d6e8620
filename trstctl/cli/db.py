# SPDX-License-Identifier: MIT
"""``trstctl db``: the store's schema."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import click

from trstctl.backends import migrate
from trstctl.backends.store_sqlite import connect
from trstctl.cli.context import at_desk, configuration_option
from trstctl.cli.faults import Refused
from trstctl.cli.output import Row, output_option, print_listing

#: Seconds that a migration waits for who uses the database.
_BUSY_SECONDS = 5.0


@click.group("db")
def command() -> None:
    """Show the state of the store's schema, and bring it up to date."""


@command.command("status")
@configuration_option
@output_option
@click.pass_context
def status(ctx: click.Context, path: Path | None, form: str) -> None:
    """List the schema's migrations; status 1 if one is pending."""
    with _database(path) as connection:
        known = migrate.available()
        lacking = migrate.pending(connection, known)
    rows: list[Row] = [
        {
            "version": each.version,
            "name": each.name,
            "state": "pending" if each in lacking else "applied",
        }
        for each in known
    ]
    print_listing(("version", "name", "state"), rows, form)
    if lacking:
        ctx.exit(1)


@command.command("migrate")
@configuration_option
def migrate_(path: Path | None) -> None:
    """Apply what is pending; stop the gateways of an older version first."""
    with _database(path) as connection:
        known = migrate.available()
        count = migrate.apply(connection, known)
    click.echo(
        f"Applied {count} migrations; the schema has version {len(known)}."
    )


@contextlib.contextmanager
def _database(path: Path | None) -> Iterator[sqlite3.Connection]:
    """Open the database of the configuration, which must exist."""
    config = at_desk(path).config
    kind, _, place = config.store.partition(":")
    if kind != "sqlite":
        raise Refused(f"the store {kind} looks after its schema itself")
    if not Path(place).exists():
        raise Refused(
            f"{place}: there is no database yet; the gateway makes it"
        )
    try:
        with contextlib.closing(
            connect(Path(place), busy_seconds=_BUSY_SECONDS)
        ) as connection:
            yield connection
    except sqlite3.Error as error:
        raise Refused(f"{place}: {error}") from error
