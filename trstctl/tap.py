# SPDX-License-Identifier: MIT
"""
``twistd trstctl``: the only module that names the reactor and the clocks.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import globalLogBeginner
from twisted.python import usage
from twisted.python.failure import Failure

from trstctl.config.model import Configuration
from trstctl.config.reader import ConfigurationError, load
from trstctl.discovery import DiscoveryError, discover, require
from trstctl.gateway import Gateway
from trstctl.ra import unmarked
from trstctl.serving.faults import StartFault
from trstctl.serving.process import take_reload_signal

#: EX_CONFIG of sysexits.h: something was found in an unconfigured or
#: misconfigured state.
EXIT_CONFIGURATION = 78

#: Of prctl(2).
_PR_SET_DUMPABLE = 4

_T = TypeVar("_T")


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
        gateway.check()
        if gateway.config.log.file is None and _becomes_daemon(options):
            sys.stderr.write(
                f"{path}: log.file is not set, and a daemon has no standard "
                "error: nobody will see the log, nor why a start fails; name "
                "a file, or add --nodaemon\n"
            )
        if options["check-config"]:
            sys.stdout.write(f"{path}: the configuration is good\n")
            sys.exit(0)
    except (ConfigurationError, DiscoveryError, StartFault) as error:
        refuse(error)
    return gateway


def _becomes_daemon(options: Options) -> bool:
    """Tell whether twistd will go on without a terminal."""
    twistd: Any = options.parent
    return (
        twistd is not None
        and not twistd.get("nodaemon", True)
        and not options["check-config"]
    )


def build(
    path: Path,
    reached: Callable[[str], None] = unmarked,
    *,
    reactor: Any = None,
    adjust: Callable[[Configuration], Configuration] | None = None,
) -> Gateway:
    """
    Return the gateway that a configuration file describes.

    :param reached: called with the name of each failure point.
    :param reactor: the one to run on, instead of the process's own.
    :param adjust: changes the configuration each time that it is read.
    :raises ConfigurationError: the file has faults.
    :raises DiscoveryError: a plugin is missing or unsound.
    """
    if reactor is None:
        from twisted.internet import reactor

        run_on_monotonic_clock(reactor)
        harden_process()
    discovery = discover()
    # First of all: of a plugin that fails, the file's reader would only say
    # that its protocol is unknown.
    require(discovery, ())

    def read() -> Configuration:
        found = load(path, discovery.protocols)
        require(discovery, found.protocols)
        return found if adjust is None else adjust(found)

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
    _hide_memory()
    os.umask(0o077)
    # A thread that wants the interpreter waits this long for it at most; at
    # the default of 5 ms a signature of 0.05 ms can take 0.6 ms.
    sys.setswitchinterval(0.001)


def _hide_memory() -> None:
    """
    Have Linux show this process's memory to nobody but root.

    Its limit on core dumps does not bind a program that they are piped to
    (core(5)), nor does it keep others of the same user from reading keys.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def new_reactor() -> Any:
    """Return a reactor of one's own: a command may run several in a row."""
    reactor = SelectReactor()
    run_on_monotonic_clock(reactor)
    return reactor


def run(main: Callable[[Any], Awaitable[_T]]) -> _T:
    """
    Run a coroutine function of the command line on a reactor of its own.

    :param main: gets the reactor.
    :returns: what it returns; what it raises is raised.
    :raises KeyboardInterrupt: a signal came first.
    """
    reactor = new_reactor()
    outcome: list[_T | Failure] = []

    async def act() -> _T:
        return await main(reactor)

    def end(result: _T | Failure) -> None:
        outcome.append(result)
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(act()).addBoth(end))
    with _signals_kept():
        reactor.run()
    # There is no public way to close the pipe that wakes a reactor.
    for reader in list(reactor._internalReaders):  # noqa: SLF001
        reactor.removeReader(reader)
        reader.connectionLost(None)
    if not outcome:
        raise KeyboardInterrupt
    (result,) = outcome
    if isinstance(result, Failure):
        result.raiseException()
    return result


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Put the signals back to what they were: a reactor leaves its own."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in numbers}
    descriptor = signal.set_wakeup_fd(-1)
    # A reactor takes Ctrl-C only from Python itself.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, called in before.items():
            signal.signal(number, called)
        signal.set_wakeup_fd(descriptor)


def _at_terminal() -> bool:
    """Tell whether there is a terminal to type into."""
    return sys.__stdin__ is not None and sys.__stdin__.isatty()


def serve(gateway: Gateway, ready: Callable[[], Awaitable[None]]) -> None:
    """
    Serve in the foreground until a signal comes, then drain.

    SIGHUP reloads, unless it says that the terminal is gone.

    :param gateway: from :func:`build`, on the process's own reactor.
    :param ready: called once, when everything listens.
    :raises Exception: what kept it from starting.
    """
    from twisted.internet import reactor as _reactor

    reactor: Any = _reactor
    at_terminal = _at_terminal()

    def reload() -> None:
        if at_terminal and not _at_terminal():
            reactor.stop()
        else:
            gateway.reload()

    failed: list[Failure] = []

    async def begin() -> None:
        await gateway.start()
        await ready()

    def give_up(failure: Failure) -> None:
        failed.append(failure)
        # Ctrl-C while starting: it is being stopped already.
        with contextlib.suppress(ReactorNotRunning):
            reactor.stop()

    globalLogBeginner.beginLoggingTo(
        [gateway.log_observer()], redirectStandardIO=False
    )
    take_reload_signal(reactor, reload)
    reactor.addSystemEventTrigger("before", "shutdown", gateway.stopService)
    reactor.callWhenRunning(
        lambda: Deferred.fromCoroutine(begin()).addErrback(give_up)
    )
    reactor.run()
    if failed:
        failed[0].raiseException()
