# SPDX-License-Identifier: MIT
"""``trstctl config``: check the configuration, show it, describe it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from trstctl.backends.migrate import SchemaBehind
from trstctl.cli.context import at_desk, configuration_option, found_path
from trstctl.config.reader import effective, json_schema
from trstctl.discovery import discover
from trstctl.errors import Unavailable
from trstctl.gateway import Gateway
from trstctl.interfaces import IStore
from trstctl.model import Generation
from trstctl.tap import build, new_reactor


@click.group("config")
def command() -> None:
    """Check, show and describe the configuration."""


@command.command("check")
@configuration_option
def check(path: Path | None) -> None:
    """
    Check the file, and everything that it names.

    Opens each key and matches it with its certificate, opens the store and
    compares its schema, and imports each plugin.  Status 78 and a line for
    each fault, if there is one; status 1 if the store cannot be used.
    """
    found = found_path(path)
    gateway = build(found, reactor=new_reactor())
    gateway.check()
    config = gateway.config
    _check_store(found, gateway)
    click.echo(f"{found}: the configuration is good")
    for name, settings in config.protocols.items():
        whose = f"tenant {settings.tenant_id}" if settings.tenant_id else "all"
        click.echo(f"  {name}: {whose}")


def _check_store(path: Path, gateway: Gateway) -> None:
    """Open the store, if there is one yet, and the keys that it names."""
    kind, _, place = gateway.config.store.partition(":")
    if kind == "sqlite" and not Path(place).exists():
        return

    async def act(store: IStore) -> Sequence[Generation]:
        """Return what the store knows of the authorities' keys."""
        return tuple(await store.list_generations())

    try:
        generations = at_desk(path).with_store(act)
    except Unavailable as error:
        if not isinstance(error.__cause__, SchemaBehind):
            raise
        # After an upgrade, say: no reason not to start.
        click.echo(
            "the store is of an older version; the start brings it up to date"
        )
        return
    gateway.check_generations(generations)


@command.command("schema")
def schema() -> None:
    """Print the JSON schema of the file, for editors."""
    click.echo(json.dumps(json_schema(discover().protocols), indent=2))


@command.command("show")
@click.option(
    "--effective",
    "whole",
    is_flag=True,
    help="With every default, and each path absolute.",
)
@click.option(
    "--output",
    "-o",
    "form",
    type=click.Choice(("yaml", "json")),
    default="yaml",
    show_default=True,
    help="How to print.",
)
@configuration_option
def show(whole: bool, form: str, path: Path | None) -> None:
    """Show the configuration; secrets are never in it."""
    config = at_desk(path).config
    shown: object = effective(config)
    if not whole:
        given = config.document.model_dump(
            mode="json", exclude_none=True, exclude_unset=True
        )
        shown = _same_keys(shown, given)
    if form == "json":
        click.echo(json.dumps(shown, indent=2))
    else:
        from ruamel.yaml import YAML

        yaml = YAML(typ="safe")
        yaml.default_flow_style = False
        yaml.dump(shown, sys.stdout)


def _same_keys(shown: object, given: object) -> object:
    """Return of what is shown only the keys that the file has."""
    if isinstance(shown, dict) and isinstance(given, dict):
        return {
            key: _same_keys(value, given[key])
            for key, value in shown.items()
            if key in given
        }
    return shown
