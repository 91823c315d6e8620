# SPDX-License-Identifier: MIT
"""What commands stand on: the configuration, the store, the tenant."""

from __future__ import annotations

import os
import pwd
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from attrs import frozen
from pydantic import TypeAdapter, ValidationError

from trstctl.cli.faults import Refused
from trstctl.config.model import Configuration
from trstctl.config.reader import load
from trstctl.discovery import Discovery, discover
from trstctl.founding import is_untouched
from trstctl.interfaces import IStore
from trstctl.settings import TenantID
from trstctl.tap import EXIT_CONFIGURATION, run

_T = TypeVar("_T")
_Command = TypeVar("_Command", bound=Callable[..., Any])

#: The names of the state directory and the file that commands look for.
STATE = Path("trstctl-state")
FILE = Path("trstctl.yaml")

_PLACES = (FILE, STATE / FILE, Path("/etc/trstctl") / FILE)


class Checked(click.ParamType[Any]):
    """An option that is checked as a value of the configuration is."""

    def __init__(self, name: str, kind: Any) -> None:
        self.name = name
        self._adapter = TypeAdapter[Any](kind)

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """Return the value, or refuse the command line."""
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            self.fail(f"{value!r}: {reason}", param, ctx)


TENANT = Checked("uuid", TenantID)


def configuration_option(command: _Command) -> _Command:
    """Give a command its option ``--config``."""
    option = click.option(
        "--config",
        "-c",
        "path",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="TRSTCTL_CONFIG",
        show_envvar=True,
        help="The configuration file; else the first that exists of "
        + ", ".join(f"./{place}" for place in _PLACES[:2])
        + f" and {_PLACES[2]}.",
    )
    return option(command)


def tenant_option(command: _Command) -> _Command:
    """Give a command its option ``--tenant``."""
    option = click.option(
        "--tenant",
        type=TENANT,
        help="The tenant; needed if the configuration has several.",
    )
    return option(command)


def yes_option(command: _Command) -> _Command:
    """Give a destructive command its option ``--yes``."""
    option = click.option(
        "--yes", "-y", is_flag=True, help="Do it without asking."
    )
    return option(command)


def confirm(question: str, yes: bool) -> None:
    """
    Ask, unless told not to.

    :raises Refused: there is nobody to ask, or the answer is no.
    """
    if yes:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        raise Refused("nobody answered; add --yes to go ahead") from None
    if not agreed:
        raise Refused("nothing was done")


def unix_user() -> str:
    """Return the name of the user who runs the command."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def found_path(path: Path | None) -> Path:
    """
    Return the configuration file to use.

    :raises Refused: none was named, and none is in the usual places.
    """
    if path is not None:
        return path.absolute()
    for place in _PLACES:
        if place.exists():
            return place.absolute()
    raise Refused(
        "no configuration file; name one by --config or $TRSTCTL_CONFIG, or "
        "make one by: trstctl init",
        EXIT_CONFIGURATION,
    )


@frozen
class Desk:
    """
    What a command works with.

    :ivar discovery: the plugins.
    """

    config: Configuration
    discovery: Discovery

    def tenants(self, given: str | None) -> Sequence[str]:
        """Return the tenant that was given, or all, for a listing."""
        return (given,) if given else sorted(self.config.tenants)

    def tenant(self, given: str | None) -> str:
        """
        Return the tenant that was given, or the only one.

        :raises Refused: there are several, or none.
        """
        if given is not None:
            return given
        known = sorted(self.config.tenants)
        if len(known) == 1:
            return known[0]
        if known:
            raise Refused(
                f"name the tenant by --tenant: one of {', '.join(known)}"
            )
        raise Refused(
            f"{self.config.path} has no tenant; enable a protocol with a "
            "tenant_id, or name one by --tenant"
        )

    def with_store(self, act: Callable[[IStore], Awaitable[_T]]) -> _T:
        """
        Open the store, act, and close it.

        A store of an older schema is refused rather than migrated: another
        process may still use it.

        :raises Refused: the gateway is yet to be founded, or the backend is
            not installed.
        :raises Unavailable: the store cannot be opened.
        """
        config = self.config
        untouched = is_untouched(config.state, config.store)
        if untouched and not config.names_authorities:
            # A database without a CA would keep the first start from
            # making one.
            raise Refused(
                f"{config.state} is empty; start the gateway once, or make "
                "its CA by: trstctl init"
            )
        kind, _, place = config.store.partition(":")
        factory = self.discovery.backends.get(kind)
        if factory is None:
            raise Refused(
                f"no backend is called {kind}; see: trstctl plugin list"
            )
        fresh = kind == "sqlite" and not Path(place).exists()

        async def main(reactor: Any) -> _T:
            store: Any = factory.make(
                config.store, reactor=reactor, migrate_schema=fresh
            )
            try:
                return await act(store)
            finally:
                await store.close()

        return run(main)


def at_desk(path: Path | None) -> Desk:
    """
    Read the configuration.

    :raises ConfigurationError: it has faults.
    """
    discovery = discover()
    return Desk(load(found_path(path), discovery.protocols), discovery)
