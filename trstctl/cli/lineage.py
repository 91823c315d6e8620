# SPDX-License-Identifier: MIT
"""What the steps of a rollover share: which authority, and what to say."""

from __future__ import annotations

import click

from trstctl.ca.ceremony import fingerprint
from trstctl.cli.context import Desk
from trstctl.cli.faults import Refused
from trstctl.cli.output import Row, print_one
from trstctl.model import Generation
from trstctl.pkix.certificate import read_certificate

#: The argument of each step.
authority_argument = click.argument("authority", required=False)


def known(desk: Desk, name: str) -> str:
    """Return the name of an authority of the configuration."""
    names = desk.config.authorities
    if name not in names:
        raise Refused(
            f"no authority is called {name}; use one of {', '.join(names)}"
        )
    return name


def chosen(desk: Desk, name: str | None) -> str:
    """Return the authority that is meant, or the only one."""
    if name is not None:
        return known(desk, name)
    names = list(desk.config.authorities)
    if len(names) > 1:
        raise Refused(f"name the authority: one of {', '.join(names)}")
    return names[0]


def print_generation(generation: Generation, form: str) -> None:
    """Print a generation as it is now."""
    facts = read_certificate(generation.chain[0])
    row: Row = {
        "authority": generation.authority,
        "generation": generation.name,
        "phase": generation.phase.value,
        "new_root": bool(generation.new_with_old),
        "not_after": facts.not_after,
        "sha256": fingerprint(generation.chain[0]),
        "root_sha256": fingerprint(generation.chain[-1]),
    }
    print_one(row, form)


def say_next(desk: Desk, *steps: str) -> None:
    """Say what comes next."""
    click.echo("Next:", err=True)
    for step in steps:
        click.echo(
            f"  trstctl ca rollover {step} --config {desk.config.path}",
            err=True,
        )
