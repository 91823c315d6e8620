# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.serving.process`."""

from __future__ import annotations

import atexit
import gc
import io
import os
import signal
import sys
from typing import Any

import pytest

from trstctl.serving import process


class Reactor:
    """Notes what is handed over to its thread."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def callFromThread(self, function: Any) -> None:
        """Note it."""
        self.calls.append(function)


class SignalTests:
    """A signal is handed to the reactor's thread."""

    def test_signals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """SIGHUP reloads; SIGTERM and SIGINT hurry."""
        caught: dict[int, Any] = {}
        monkeypatch.setattr(signal, "signal", caught.__setitem__)
        reactor = Reactor()
        process.take_reload_signal(reactor, self.test_signals)
        process.take_stop_signals(reactor, self.test_exit_status)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            caught[number](number, None)
        assert [
            self.test_signals,
            self.test_exit_status,
            self.test_exit_status,
        ] == reactor.calls

    def test_exit_status(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The reason is one line, and the status 1 comes last of all."""
        last: list[Any] = []
        monkeypatch.setattr(
            atexit, "register", lambda *call: last.append(call)
        )
        output = io.StringIO()
        monkeypatch.setattr(sys, "__stderr__", output)
        process.fail("no key")
        assert "no key\n" == output.getvalue()
        assert [(os._exit, 1)] == last


class CollectorTests:
    """The garbage collector in a process that lasts."""

    def test_what_stays_is_left_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What lives is frozen once what is dead has been collected."""
        calls: list[Any] = []
        for name in ("collect", "freeze", "set_threshold"):
            monkeypatch.setattr(
                gc, name, lambda *args, name=name: calls.append((name, *args))
            )
        process.spare_the_collector()
        assert [
            ("collect",),
            ("freeze",),
            ("set_threshold", 10_000, 50, 50),
        ] == calls
