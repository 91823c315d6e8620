# SPDX-License-Identifier: MIT
"""What a gateway does to its process: signals, exit status, collector."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def take_reload_signal(reactor: Any, act: Callable[[], object]) -> None:
    """
    Take SIGHUP for a reload; while starting, for one thereafter.

    Left alone until then, it would end the process.
    """
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(act))


def take_stop_signals(reactor: Any, act: Callable[[], object]) -> None:
    """Let a second signal hurry the stop; Twisted's would only fail."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: reactor.callFromThread(act))


def fail(reason: str) -> None:
    """
    Say why in one line, and have the process end with status 1.

    twistd has no way to hand over an exit status; this comes after it has
    removed its PID file.
    """
    output: Any = sys.__stderr__
    output.write(f"{reason}\n")
    output.flush()
    atexit.register(os._exit, 1)


def spare_the_collector() -> None:
    """
    Keep the garbage collector from what lives as long as the process.

    A full collection of all modules and classes took 38 ms, in which nobody
    is answered; requests leave few cycles behind.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)
