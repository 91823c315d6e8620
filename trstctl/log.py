# SPDX-License-Identifier: MIT
"""
The operator's log: one JSON object a line.

A log call names its event and gives flat facts::

    self._log.info("certificate issued", event="certificate.issued",
                   request_id=request_id, serial=serial)

The fields of :data:`FIELDS` come first, in this order, then the other
scalar facts.  What a peer wrote is escaped to ASCII and cut to 256
characters, so that a line is one line whatever it holds.  A fact whose name
says that it is a secret is masked; a traceback shows no local variables.
An event without ``event=`` (Twisted's own) carries its rendered text as
``message``.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as _quote
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    formatEvent,
)
from twisted.python.failure import Failure
from zope.interface import implementer

#: The facts that come first in each line, after ``ts`` and ``level``.
FIELDS = (
    "event",
    "request_id",
    "tenant",
    "protocol",
    "operation",
    "principal",
    "profile",
    "serial",
    "decision",
    "reason",
    "duration_ms",
    "peer",
)

#: The same, with each name as a line of JSON has it.
_STARTS = tuple((name, f',"{name}":') for name in FIELDS)
_PLACED = frozenset(FIELDS)

#: The levels, by the names that the configuration uses.
LEVELS: Mapping[str, Any] = {
    level.name: level for level in LogLevel.iterconstants()
}

#: What stands in the place of a secret.
MASK = "***"

#: Characters of one text, and of one traceback.
TEXT_LIMIT = 256
TRACEBACK_LIMIT = 8192

#: What the old API of Twisted's log adds to each of its events, and the
#: fields that are ours to fill.
_SKIPPED = frozenset(
    (
        "failure",
        "format",
        "isError",
        "level",
        "logger",
        "message",
        "system",
        "time",
        "traceback",
        "ts",
        "why",
    )
)

_SECRET_WORDS = frozenset(
    (
        "authorization",
        "bearer",
        "challenge",
        "cookie",
        "credential",
        "key",
        "passphrase",
        "passwd",
        "password",
        "pin",
        "private",
        "secret",
        "token",
        "verifier",
    )
)

#: A name that ends so tells something about a secret, not the secret.
_HARMLESS_ENDS = frozenset(
    (
        "algorithm",
        "bits",
        "count",
        "failures",
        "fingerprint",
        "id",
        "kind",
        "retention",
        "type",
        "types",
        "usage",
    )
)

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_ELISION = "..."


def is_secret(name: str) -> bool:
    """Tell whether a fact of this name must not be shown."""
    words = [word.lower() for word in _WORD.findall(name)]
    return bool(
        words
        and words[-1] not in _HARMLESS_ENDS
        and any(
            word in _SECRET_WORDS or word.removesuffix("s") in _SECRET_WORDS
            for word in words
        )
    )


class Output(Protocol):
    """Where lines go: a text stream, or a :class:`LogFile`."""

    def write(self, text: str, /) -> object:
        """Write one line, its line feed included."""


class LogFile:
    """
    A file that several processes may append to.

    Each line is one ``write(2)`` to a descriptor in append mode, so lines
    of different processes never mix.

    :ivar path: the file; created with mode 0640 if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = self._open()

    def _open(self) -> int:
        """Open the file for appending."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self.path, flags, 0o640)

    def write(self, text: str) -> None:
        """Append one line of ASCII."""
        os.write(self._descriptor, text.encode("ascii"))

    def reopen(self) -> None:
        """
        Open the path anew, after a rotation; keep the old file if it fails.

        :raises OSError: the path cannot be opened.
        """
        fresh = self._open()
        os.close(self._descriptor)
        self._descriptor = fresh

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class _Shown(dict[str, bool | None]):
    """Whether facts of a name are shown, or masked; ``None``: left out."""

    def __missing__(self, name: str) -> bool | None:
        left_out = name.startswith("log_") or name in _SKIPPED
        show = None if left_out else not is_secret(name)
        if len(self) < 1024:
            self[name] = show
        return show


@implementer(ILogObserver)
class JSONLogObserver:
    """
    Writes each event of the level or above as one line of JSON.

    Never raises: an event that cannot be told is replaced by one that says
    so, and a line that cannot be written is counted in ``lost``.

    :param output: takes one ``write`` per line.
    :param level: the lowest level that is written, a key of ``LEVELS``.
    :ivar heard: whether Twisted's log has it among its observers.
    """

    def __init__(self, output: Output, level: str = "info") -> None:
        self.lost = 0
        self.heard = False
        self._write = output.write
        lowest = LEVELS[level]
        self._levels = {
            each: each.name for each in LEVELS.values() if each >= lowest
        }
        self._encode = json.JSONEncoder(
            ensure_ascii=True,
            check_circular=False,
            allow_nan=False,
            separators=(",", ":"),
        ).encode
        self._shown = _Shown()
        self._second = -1
        self._prefix = ""

    def __call__(self, event: LogEvent) -> None:
        """Write the event, if it is of the level or above."""
        self.heard = True
        level = self._levels.get(event.get("log_level", LogLevel.info))
        if level is None:
            return
        try:
            text = self._encode(self._line(event, level))
        except Exception as error:  # noqa: BLE001 - a log must not fail
            text = self._unprintable(error)
        self._put(text)

    def report(self, facts: Mapping[str, object], at: float) -> None:
        """
        Write facts as a line of level ``info``, past Twisted's log.

        The line is the one that the same facts get as an event, put together
        by hand: there is one for each request, and Twisted's way to it costs
        more than the line.

        :param facts: the event's name among them; no failure.
        :param at: seconds since 1970.
        """
        if LogLevel.info not in self._levels:
            return
        try:
            parts = [f'{{"ts":"{self._timestamp(at)}","level":"info"']
            for name, start in _STARTS:
                told = _told(facts.get(name))
                if told is not None:
                    parts.append(start + _json(told))
            for name, value in facts.items():
                if name in _PLACED or (show := self._shown[name]) is None:
                    continue
                told = _told(value)
                if told is not None:
                    told = told if show else MASK
                    parts.append(f",{_quote(name)}:{_json(told)}")
            text = "".join(parts) + "}"
        except Exception as error:  # noqa: BLE001 - a log must not fail
            text = self._unprintable(error)
        self._put(text)

    def _put(self, text: str) -> None:
        """Write a line, or count that it was lost."""
        try:
            self._write(text + "\n")
        except (OSError, ValueError):
            self.lost += 1

    def _unprintable(self, error: Exception) -> str:
        """Return the line that stands for one that cannot be told."""
        return self._encode(
            {
                "ts": None,
                "level": "error",
                "event": "log.unprintable",
                "error": type(error).__name__,
            }
        )

    def _line(self, event: LogEvent, level: str) -> dict[str, object]:
        """Return what the line says, in its order."""
        line: dict[str, object] = {
            "ts": self._timestamp(event.get("log_time")),
            "level": level,
        }
        for name in FIELDS:
            if name in event:
                line[name] = None  # keeps the place
        if "event" not in line:
            line["logger"] = event.get("log_namespace")
            line["message"] = _capped(self._rendered(event))
        shown = self._shown
        for name, value in event.items():
            if (show := shown[name]) is None:
                continue
            told = _told(value)
            if told is not None:
                line[name] = told if show else MASK
            elif name in line:
                del line[name]
        failure = event.get("log_failure")
        if isinstance(failure, Failure):
            _tell_failure(line, failure, level)
        return line

    def _rendered(self, event: LogEvent) -> str:
        """Return the text of an event that has no name."""
        return formatEvent(
            {
                name: MASK if is_secret(name) else value
                for name, value in event.items()
            }
        )

    def _timestamp(self, seconds: float | None) -> str | None:
        """Return the time in UTC, RFC 3339, with milliseconds."""
        if seconds is None:
            return None
        whole = int(seconds)
        if whole != self._second:
            # Most events share their second with the one before.
            moment = datetime.fromtimestamp(whole, UTC)
            self._prefix = moment.strftime("%Y-%m-%dT%H:%M:%S.")
            self._second = whole
        return f"{self._prefix}{int((seconds - whole) * 1000):03d}Z"


def _capped(text: str) -> str:
    """Return the text, cut to the limit."""
    if len(text) <= TEXT_LIMIT:
        return text
    return text[: TEXT_LIMIT - len(_ELISION)] + _ELISION


def _told(value: object) -> str | int | float | None:
    """Return what a line may hold of a fact; ``None`` for what is no scalar."""
    if isinstance(value, str):
        return value if len(value) <= TEXT_LIMIT else _capped(value)
    if isinstance(value, int):
        # More than 64 bits: JSON readers lose digits, and decimal is slow.
        if -(1 << 63) <= value < 1 << 63:
            return value
        return _capped(f"{value:x}")
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    return None


def _json(told: str | float) -> str:
    """Return what a line may hold as JSON, as the encoder has it."""
    if isinstance(told, str):
        return _quote(told)
    if isinstance(told, bool):
        return "true" if told else "false"
    # Of an enumeration, its value.
    return (
        int.__repr__(told) if isinstance(told, int) else float.__repr__(told)
    )


def _tell_failure(
    line: dict[str, object], failure: Failure, level: str
) -> None:
    """Add the failure's type and text; for errors, where it happened."""
    kind = getattr(failure.type, "__name__", str(failure.type))
    line["error"] = _capped(f"{kind}: {failure.getErrorMessage()}")
    if level in ("error", "critical"):
        # The default detail shows source lines and no local variables.
        text = failure.getTraceback()
        line["traceback"] = text[-TRACEBACK_LIMIT:]


def json_observer() -> ILogObserver:
    """
    Return an observer on standard error.

    For ``twistd --logger=trstctl.log.json_observer``, which takes a factory
    without arguments.  It keeps the real stream, since Twisted replaces
    ``sys.stderr`` by one that writes into the log.
    """
    observer: ILogObserver = JSONLogObserver(sys.__stderr__ or sys.stderr)
    return observer
