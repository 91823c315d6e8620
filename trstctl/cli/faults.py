# SPDX-License-Identifier: MIT
"""Which errors a command tells in a line, and with which exit status."""

from __future__ import annotations

from collections.abc import Sequence

import click
from attrs import frozen

from trstctl.authorities import AuthorityFault
from trstctl.backends.keyfiles import KeyFileError
from trstctl.backends.migrate import SchemaError
from trstctl.ca.chain import UnfitAuthority
from trstctl.cli.output import escaped
from trstctl.config.reader import ConfigurationError
from trstctl.config.secrets import SecretError
from trstctl.discovery import DiscoveryError
from trstctl.errors import TrstctlError
from trstctl.serving.faults import StartFault
from trstctl.tap import EXIT_CONFIGURATION

_CONFIGURATION = (ConfigurationError, DiscoveryError, StartFault)
_REFUSED = (
    AuthorityFault,
    KeyFileError,
    SchemaError,
    SecretError,
    TrstctlError,
    UnfitAuthority,
)


class Refused(click.ClickException):
    """
    The command will not do it.  The text is one line with the remedy.

    :ivar status: the exit status.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """What click calls the status."""
        return self.status

    def show(self, file: object = None) -> None:
        """Print the text on standard error."""
        click.echo(f"trstctl: {escaped(self.message)}", err=True)


@frozen
class Told:
    """
    An error as the operator sees it.

    :ivar status: the exit status.
    """

    lines: Sequence[str]
    status: int


def told(error: Exception) -> Told | None:
    """Return how to tell an error; ``None`` for a fault of this program."""
    if isinstance(error, BrokenPipeError):
        return None  # the reader has seen enough; click ends quietly
    if isinstance(error, _CONFIGURATION):
        faults: Sequence[object] = getattr(error, "faults", ()) or (error,)
        return Told(
            [escaped(str(fault)) for fault in faults], EXIT_CONFIGURATION
        )
    if isinstance(error, TrstctlError):
        return Told([f"trstctl: {escaped(error.detail)}"], 1)
    if isinstance(error, _REFUSED):
        return Told([f"trstctl: {escaped(str(error))}"], 1)
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return Told([f"trstctl: {escaped(place + error.strerror)}"], 1)
    return None
