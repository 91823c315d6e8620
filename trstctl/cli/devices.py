# SPDX-License-Identifier: MIT
"""The devices of a CSV file, and the names that a token is bound to."""

from __future__ import annotations

import csv
from pathlib import Path

import click

from trstctl.cli.output import escaped
from trstctl.policy.patterns import split_pattern


def check_pattern(pattern: str, place: str) -> None:
    """
    Refuse a pattern that matches nothing, since it is none.

    :raises click.UsageError: naming the place.
    """
    try:
        split_pattern(pattern)
    except ValueError as error:
        raise click.UsageError(f"{place}: {error}") from None


def read_devices(path: Path) -> list[tuple[str, ...]]:
    """
    Return the patterns of each device: its common name's, then the others.

    :raises click.UsageError: naming the first line with a fault.
    """
    found: dict[str, tuple[str, ...]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            for cells in lines:
                name, *more = [cell.strip() for cell in cells] or [""]
                if not any((name, *more)) or (name, lines.line_num) == (
                    "name",
                    1,
                ):
                    continue
                place = f"{path}, line {lines.line_num}"
                if not name or "*" in name or name.startswith("re:"):
                    raise click.UsageError(
                        f"{place}: begin with the common name of one device"
                    )
                if name in found:
                    raise click.UsageError(
                        f"{place}: {escaped(name)} occurs twice"
                    )
                names = (f"cn:{name}", *filter(None, more))
                for pattern in names:
                    check_pattern(pattern, place)
                found[name] = names
        except (csv.Error, UnicodeDecodeError) as error:
            raise click.UsageError(
                f"{path}: it is not a CSV file in UTF-8: {error}"
            ) from None
    if not found:
        raise click.UsageError(f"{path}: there is no device in it")
    return list(found.values())
