# SPDX-License-Identifier: MIT
"""
Listings: as a table for people, as JSON or CSV for programs.

Names, subjects and reasons are what a peer wrote.  In a table and in CSV,
every character that does not print (control characters, and those that turn
the direction of writing) is escaped; JSON is ASCII.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

#: What a cell may hold.
Cell = str | int | bool | datetime | None | Sequence[str]
Row = Mapping[str, Cell]

_Command = TypeVar("_Command", bound=Callable[..., Any])

FORMS = ("table", "json", "csv")


def output_option(command: _Command) -> _Command:
    """Give a listing its option ``--output``."""
    option = click.option(
        "--output",
        "-o",
        "form",
        type=click.Choice(FORMS),
        default="table",
        show_default=True,
        help="How to print.",
    )
    return option(command)


def escaped(text: str) -> str:
    """Return the text with what does not print made visible."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escape(one) for one in text)


def _escape(character: str) -> str:
    """Return the number of one character, with a backslash before it."""
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def moment(when: datetime) -> str:
    """Return a time in UTC to the second (RFC 3339)."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Listing:
    """
    Prints rows in the form that was asked for.

    JSON and CSV are printed row by row, however many there are; a table
    waits for its end, since its columns are as wide as their content.

    :param columns: keys of a row, in order; other keys are not printed.
    """

    def __init__(self, columns: Sequence[str], form: str) -> None:
        self._columns = columns
        self._form = form
        self._rows: list[list[str]] = []
        self._count = 0
        if form == "csv":
            self._csv = csv.writer(sys.stdout, lineterminator="\n")
            self._csv.writerow(columns)

    def add(self, row: Row) -> None:
        """Print a row, or keep it for the table."""
        if self._form == "json":
            click.echo("," if self._count else "[")
            click.echo(
                _json({key: row[key] for key in self._columns}), nl=False
            )
        else:
            texts = [escaped(_text(row[key])) for key in self._columns]
            if self._form == "csv":
                self._csv.writerow(texts)
            else:
                self._rows.append(texts)
        self._count += 1

    def close(self) -> None:
        """Print what is left."""
        if self._form == "json":
            click.echo("\n]" if self._count else "[]")
        elif self._form == "table":
            headings = [key.replace("_", " ").upper() for key in self._columns]
            if sys.stdout.isatty():
                _print_rich(headings, self._rows)
            else:
                _print_plain([headings, *self._rows])


def print_listing(
    columns: Sequence[str], rows: Sequence[Row], form: str
) -> None:
    """Print rows that are all at hand."""
    listing = Listing(columns, form)
    for row in rows:
        listing.add(row)
    listing.close()


def print_one(row: Row, form: str) -> None:
    """Print one thing: a line for each of its facts, or one object."""
    if form == "json":
        click.echo(_json(row, indent=2))
    elif form == "csv":
        print_listing(list(row), [row], form)
    else:
        width = max(map(len, row)) + 2
        for key, value in row.items():
            label = f"{key.replace('_', ' ')}:"
            click.echo(f"{label:{width}}{escaped(_text(value))}".rstrip())


def _text(value: Cell) -> str:
    """Return a cell as text."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return moment(value)
        case str() | int():
            return str(value)
        case _:
            return ", ".join(value)


def _json(row: Row, indent: int | None = None) -> str:
    """Return a row as a JSON object in ASCII."""
    return json.dumps(row, default=moment, indent=indent)


def _print_plain(table: Sequence[Sequence[str]]) -> None:
    """Print columns that are aligned by blanks."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def _print_rich(
    headings: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """Print a table that fits the terminal; long cells are folded."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        # Text, not markup: "[red]" in a name is a name.
        table.add_row(*map(Text, row))
    Console(file=sys.stdout).print(table)
