# SPDX-License-Identifier: MIT
"""
The command ``trstctl``: what every sub-command shares.

A command's module is imported when the command is used, so that completion
and ``--version`` answer at once.  Errors are lines on standard error and an
exit status: 1 for what is refused or wrong, 2 for how the command was
written, 78 for the configuration.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import click
from attrs import frozen

from trstctl import __version__

#: Where each command is; ``init`` is not alone in its module's name.
_MODULES: Mapping[str, str] = {
    "audit": "trstctl.cli.audit",
    "ca": "trstctl.cli.ca",
    "cert": "trstctl.cli.cert",
    "challenge": "trstctl.cli.challenge",
    "config": "trstctl.cli.config",
    "credential": "trstctl.cli.credential",
    "crl": "trstctl.cli.crl",
    "db": "trstctl.cli.db",
    "init": "trstctl.cli.init",
    "plugin": "trstctl.cli.plugin",
    "profile": "trstctl.cli.profile",
    "quickstart": "trstctl.cli.quickstart",
    "request": "trstctl.cli.request",
    "token": "trstctl.cli.token",
}


@frozen
class Surroundings:
    """
    What a command takes from outside.

    :ivar now: the wall clock, UTC.
    :ivar random_bytes: a cryptographically secure source.
    :ivar actor: what the audit log calls whoever runs the command.
    """

    now: Callable[[], datetime]
    random_bytes: Callable[[int], bytes]
    actor: str


class _Commands(click.Group):
    """Imports a command when it is asked for, and tells its errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, without importing anything."""
        return sorted(_MODULES)

    def get_command(
        self, ctx: click.Context, cmd_name: str
    ) -> click.Command | None:
        """Import a command."""
        module = _MODULES.get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest one, since click has not seen them."""
        name = args[0]
        if name not in _MODULES and not name.startswith("-"):
            close = difflib.get_close_matches(name, _MODULES, 1)
            hint = f"  Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error that we know is told without a trace."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from trstctl.cli.faults import told

            known = told(error)
            if known is None:
                raise
            for line in known.lines:
                click.echo(line, err=True)
            ctx.exit(known.status)


@click.group(
    cls=_Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(
    __version__, prog_name="trstctl", message="%(prog)s %(version)s"
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """
    Manage a certificate-enrollment gateway.

    Begin with "trstctl quickstart" to try it, or with "trstctl init" to set
    it up; "twistd -n trstctl --config FILE" serves.
    """
    # Whatever a command writes may hold keys or personal names.
    os.umask(0o077)
    if ctx.obj is None:
        ctx.obj = _real()


def _real() -> Surroundings:
    """Return the surroundings of a real command."""
    from trstctl.cli.context import unix_user
    from trstctl.tap import wall_clock

    return Surroundings(wall_clock, os.urandom, f"operator:{unix_user()}")


if __name__ == "__main__":
    main()
