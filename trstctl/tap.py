# SPDX-License-Identifier: MIT
"""
``twistd trstctl``: the only module that names the reactor and the clocks.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.python import usage

from trstctl.config.reader import ConfigurationError, load
from trstctl.discovery import DiscoveryError, discover, require
from trstctl.gateway import Gateway, StartFault
from trstctl.ra import unmarked

#: EX_CONFIG of sysexits.h: something was found in an unconfigured or
#: misconfigured state.
EXIT_CONFIGURATION = 78


def wall_clock() -> datetime:
    """Return the time of day, for validity and for records only."""
    return datetime.now(UTC)


class Options(usage.Options):
    """The options of ``twistd trstctl``."""

    longdesc = "Serve certificate enrollment; see trstctl --help for the rest."
    optParameters = (
        ("config", "c", "trstctl.yaml", "the configuration file"),
    )
    optFlags = (
        ("check-config", None, "only check the configuration, and exit"),
    )


def makeService(options: Options) -> IService:
    """
    Return the gateway as a service, or exit with status 78.

    Reads and checks everything that needs no thread, since twistd may fork
    after this.
    """
    path = Path(options["config"]).absolute()
    try:
        gateway = build(path)
        if options["check-config"]:
            gateway.check()
            sys.stdout.write(f"{path}: the configuration is good\n")
            sys.exit(0)
    except (ConfigurationError, DiscoveryError, StartFault) as error:
        refuse(error)
    return gateway


def build(path: Path, reached: Callable[[str], None] = unmarked) -> Gateway:
    """
    Return the gateway that a configuration file describes.

    :param reached: called with the name of each failure point.
    :raises ConfigurationError: the file has faults.
    :raises DiscoveryError: a plugin is missing or unsound.
    """
    from twisted.internet import reactor

    run_on_monotonic_clock(reactor)
    harden_process()
    discovery = discover()

    def read() -> Any:
        found = load(path, discovery.protocols)
        require(discovery, found.protocols)
        return found

    return Gateway(
        read(),
        read_again=read,
        discovery=discovery,
        reactor=reactor,
        now=wall_clock,
        random_bytes=os.urandom,
        reached=reached,
    )


def refuse(error: Exception) -> NoReturn:
    """Print each fault on a line of its own, and exit with status 78."""
    faults: Sequence[object] = getattr(error, "faults", None) or (error,)
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    sys.exit(EXIT_CONFIGURATION)


def run_on_monotonic_clock(reactor: Any) -> None:
    """
    Run timers on a clock that nobody sets back.

    Twisted's default is the wall clock: when it steps back by an hour, every
    timeout waits an hour longer.
    """
    reactor.seconds = time.monotonic


def harden_process() -> None:
    """
    Keep keys out of core dumps, new files private, and threads responsive.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    # A thread that wants the interpreter waits this long for it at most; at
    # the default of 5 ms a signature of 0.05 ms can take 0.6 ms.
    sys.setswitchinterval(0.001)


def run(main: Callable[[Any], Awaitable[None]]) -> NoReturn:
    """
    Run a coroutine function of the command line on the reactor, and exit.

    :param main: gets the reactor.
    """

    def start(reactor: Any) -> Deferred[None]:
        run_on_monotonic_clock(reactor)
        return Deferred.fromCoroutine(_as_coroutine(main(reactor)))

    react(start, ())
    sys.exit(0)


async def _as_coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable
