# SPDX-License-Identifier: MIT
"""The log: one JSON object a line, whatever a peer or a plugin does."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python import log as legacy
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from trstctl.log import (
    FIELDS,
    MASK,
    JSONLogObserver,
    LogFile,
    is_secret,
    json_observer,
)


class _Log:
    """A logger, and the lines that it wrote."""

    def __init__(self, level: str = "info") -> None:
        self.output = io.StringIO()
        self.observer = JSONLogObserver(self.output, level)
        self.logger = Logger("tests", observer=self.observer)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All lines, parsed."""
        return [
            json.loads(line) for line in self.output.getvalue().splitlines()
        ]

    @property
    def line(self) -> dict[str, Any]:
        """The only line."""
        (line,) = self.lines
        return line


class LineTests:
    """What a line holds."""

    def test_observer_keeps_its_interface(self) -> None:
        """Twisted may use it as an observer."""
        verifyObject(ILogObserver, _Log().observer)

    def test_fields_come_first_and_in_order(self) -> None:
        """A reader finds the same field at the same place in each line."""
        log = _Log()
        facts = {name: f"a {name}" for name in reversed(FIELDS)}

        log.logger.info("done", extra=1, **facts)

        assert ["ts", "level", *FIELDS, "extra"] == list(log.line)

    def test_event_name_is_not_rendered(self) -> None:
        """A named event has no ``message`` and no ``log_`` field."""
        log = _Log()

        log.logger.info("issued to {peer}", event="issued", peer="192.0.2.1")

        line = log.line
        del line["ts"]
        assert {
            "level": "info",
            "event": "issued",
            "peer": "192.0.2.1",
        } == line

    def test_time_is_rfc_3339_with_milliseconds(self) -> None:
        """Times are UTC, also for a second event of the same second."""
        log = _Log()

        for seconds in (1.25, 1.5, 61.0):
            log.observer({"log_time": seconds, "event": "x"})
        log.observer({"event": "x"})

        assert [
            "1970-01-01T00:00:01.250Z",
            "1970-01-01T00:00:01.500Z",
            "1970-01-01T00:01:01.000Z",
            None,
        ] == [line["ts"] for line in log.lines]

    def test_unnamed_event_has_its_text(self) -> None:
        """Twisted's own events are rendered."""
        log = _Log()

        log.logger.info("starting {what}", what="Site")

        assert "starting Site" == log.line["message"]
        assert "tests" == log.line["logger"]
        assert "Site" == log.line["what"]

    def test_legacy_event_has_its_text_only(self) -> None:
        """What came through ``twisted.python.log`` keeps no clutter."""
        log = _Log()
        observer = legacy.LogPublisher(publishPublisher=log.observer)

        observer.msg("old words", system="-")

        assert "old words" == log.line["message"]
        assert {"ts", "level", "logger", "message"} >= set(log.line)

    def test_only_scalars_are_told(self) -> None:
        """Objects, bytes and ``None`` stay out; an empty place is no field."""
        log = _Log()

        log.logger.info(
            "x", event="x", peer=None, a=[1], b=b"x", c=True, d=1.5, e=object()
        )

        assert {"ts", "level", "event", "c", "d"} == set(log.line)
        assert log.line["c"] is True

    def test_numbers_stay_valid_json(self) -> None:
        """Infinity, NaN and huge integers become text."""
        log = _Log()

        log.logger.info(
            "x", event="x", a=float("inf"), b=1 << 80, c=-(1 << 63), d=9**9999
        )

        line = log.line
        assert "inf" == line["a"]
        assert "1" + "0" * 20 == line["b"]
        assert -(1 << 63) == line["c"]
        assert 256 == len(line["d"])

    def test_own_fields_cannot_be_forged(self) -> None:
        """A fact named ``ts`` or ``level`` does not replace ours."""
        log = _Log()

        log.observer({"event": "x", "ts": "never", "level": "debug"})

        assert "info" == log.line["level"]
        assert "never" != log.line["ts"]


class ReportTests:
    """Facts that go into the log past Twisted's."""

    @pytest.mark.parametrize(
        "facts",
        [
            {name: f"a {name}" for name in reversed(FIELDS)},
            {"event": "request", "status": 200, "duration_ms": 0.125},
            {"event": '\r\n\x1b\u202e\ud800"\\', 'a"\n': "b", "pin": 1},
            {"event": "e", "reason": "r" * 300, "password": "x", "token": ()},
            {"event": "e", "yes": True, "big": 1 << 80, "inf": float("inf")},
            {"event": "e", "status": HTTPStatus.OK, "peer": None, "o": b""},
            {"event": "e", "ts": "1", "level": "2", "log_a": "3", "why": "4"},
            {"event": "e", "decision": object(), **dict.fromkeys("abc", 1)},
        ],
    )
    def test_line_is_that_of_the_event(self, facts: dict[str, Any]) -> None:
        """Escaped, capped, masked and placed alike, character by character."""
        log = _Log()

        log.observer({**facts, "log_time": 1.5})
        log.observer.report(facts, 1.5)

        written = log.output.getvalue().splitlines(keepends=True)
        assert 2 == len(written)
        assert written[0] == written[1]

    @pytest.mark.parametrize(("level", "count"), [("info", 1), ("warn", 0)])
    def test_level_is_info(self, level: str, count: int) -> None:
        """A log that is less talkative does not get it."""
        log = _Log(level)

        log.observer.report({"event": "request"}, 0.0)

        assert count == len(log.lines)

    def test_unprintable_report_is_told(self) -> None:
        """It never raises."""
        log = _Log()

        log.observer.report({"event": "request"}, float("nan"))

        assert ("log.unprintable", "ValueError") == (
            log.line["event"],
            log.line["error"],
        )

    def test_observer_knows_whether_it_is_one(self) -> None:
        """What goes past Twisted's log does not count as heard there."""
        log = _Log("error")
        log.observer.report({"event": "request"}, 0.0)
        before = log.observer.heard

        log.logger.debug("anything")

        assert (False, True) == (before, log.observer.heard)


class HostileTextTests:
    """A peer's text cannot leave its field (R-11)."""

    @pytest.mark.parametrize(
        "text",
        [
            'a\r\n{"event":"issued"}',
            "a\u2028b\u2029c\x85d",
            '"},{"',
            "\x1b[31m\x00\x7f",
            "\ud800",
        ],
    )
    def test_text_is_escaped(self, text: str) -> None:
        """One event is one line of ASCII, and parses to the same text."""
        log = _Log()

        log.logger.info("x", event="x", peer=text)

        written = log.output.getvalue()
        assert 1 == written.count("\n")
        assert written.isascii()
        assert text == log.line["peer"]

    def test_long_text_is_cut(self) -> None:
        """256 characters pass; more are cut to 256, the last an ellipsis."""
        log = _Log()

        log.logger.info("x", event="x", peer="a" * 256, reason="b" * 257)

        assert "a" * 256 == log.line["peer"]
        assert "b" * 253 + "..." == log.line["reason"]

    def test_long_message_is_cut(self) -> None:
        """Also the rendered text of an unnamed event."""
        log = _Log()

        log.logger.info("{text}", text="a" * 999)

        assert 256 == len(log.line["message"])


class SecretTests:
    """Secrets never appear."""

    @pytest.mark.parametrize(
        "name",
        [
            "password",
            "Authorization",
            "bearer_token",
            "tokens",
            "private_key",
            "privateKey",
            "pin",
            "PIN",
            "challengePassword",
            "client_secret",
            "key",
            "idempotency_key",
        ],
    )
    def test_secret_is_masked(self, name: str) -> None:
        """By the name of the fact, in the field and in the message."""
        log = _Log()

        log.observer({"log_format": f"got {{{name}}}", name: "hunter2"})

        assert MASK == log.line[name]
        assert f"got {MASK}" == log.line["message"]

    @pytest.mark.parametrize(
        "name",
        [
            "token_id",
            "key_type",
            "public_key_fingerprint",
            "password_failures",
            "mapping",
            "monkey",
            "spinning",
            "_",
        ],
    )
    def test_harmless_name_is_shown(self, name: str) -> None:
        """What only tells something about a secret is no secret."""
        assert not is_secret(name)

    def test_names_are_remembered_within_bounds(self) -> None:
        """Invented names do not fill the memory; they are masked still."""
        log = _Log()

        for number in range(1100):
            log.logger.info("x", event="x", **{f"token{number}": "hunter2"})

        assert "hunter2" not in log.output.getvalue()
        assert 1024 >= len(log.observer._shown)


class FailureTests:
    """What went wrong, for the operator."""

    def _failure(self) -> Failure:
        try:
            int("no\nway")
        except ValueError:
            return Failure()

    def test_critical_failure_has_its_traceback(self) -> None:
        """Type, text and where; one line, and no local variables."""
        log = _Log()

        log.logger.failure("it broke", self._failure())

        assert log.line["error"].startswith("ValueError: invalid literal")
        assert "_failure" in log.line["traceback"]
        assert 1 == log.output.getvalue().count("\n")

    def test_traceback_shows_no_values(self) -> None:
        """Values of local variables stay out of a traceback."""
        log = _Log()
        namespace = {"value": "hunter2"}
        try:
            exec("held = value\nraise ValueError('x')", namespace)
        except ValueError:
            failure = Failure()

        log.logger.failure("it broke", failure)

        assert "hunter2" not in log.output.getvalue()

    def test_warning_has_no_traceback(self) -> None:
        """A failure below the level ``error`` is told in short."""
        log = _Log()

        log.logger.emit(LogLevel.warn, "x", log_failure=self._failure())

        assert log.line["error"].startswith("ValueError: invalid literal")
        assert "traceback" not in log.line

    def test_long_traceback_keeps_its_end(self) -> None:
        """The place of the error is at the end."""
        log = _Log()

        def deep(level: int) -> None:
            if level:
                deep(level - 1)
            raise ValueError("the end " + "x" * 200)

        try:
            deep(200)
        except ValueError:
            log.logger.failure("it broke")

        assert 8192 == len(log.line["traceback"])
        assert log.line["traceback"].strip().endswith("x")


class RobustnessTests:
    """The log never fails its caller."""

    def test_unprintable_event_is_told(self) -> None:
        """An event that raises while it is told becomes one that says so."""
        log = _Log()

        class Hostile(str):
            __slots__ = ()

            def __len__(self) -> int:
                raise RuntimeError("no")

        log.observer({"event": "x", "peer": Hostile("x")})

        assert {
            "ts": None,
            "level": "error",
            "event": "log.unprintable",
            "error": "RuntimeError",
        } == log.line

    @pytest.mark.parametrize("error", [OSError("full"), ValueError("closed")])
    def test_failing_output_is_counted(self, error: Exception) -> None:
        """A full disk or a closed file loses lines, not requests."""

        class Full:
            def write(self, text: str) -> None:
                raise error

        observer = JSONLogObserver(Full())

        observer({"event": "x"})

        assert 1 == observer.lost

    def test_event_without_level_is_told(self) -> None:
        """An event that was not made by a Logger counts as ``info``."""
        log = _Log()

        log.observer({"event": "x"})

        assert "info" == log.line["level"]


class LevelTests:
    """The level filter."""

    @pytest.mark.parametrize(
        ("level", "expected"),
        [
            ("debug", ["debug", "info", "warn", "error", "critical"]),
            ("warn", ["warn", "error", "critical"]),
            ("critical", ["critical"]),
        ],
    )
    def test_lower_levels_are_dropped(
        self, level: str, expected: list[str]
    ) -> None:
        """Only events of the level and above are written."""
        log = _Log(level)

        for each in LogLevel.iterconstants():
            log.logger.emit(each, "x", event="x")

        assert expected == [line["level"] for line in log.lines]


class OutputTests:
    """Where lines go."""

    def test_one_write_a_line(self) -> None:
        """Each event is exactly one write, its line feed included."""
        writes: list[str] = []

        class Output:
            def write(self, text: str) -> None:
                writes.append(text)

        observer = JSONLogObserver(Output())
        observer({"event": "a"})
        observer({"event": "b"})

        assert 2 == len(writes)
        assert all(text.endswith("}\n") for text in writes)

    def test_file_is_reopened(self, tmp_path: Path) -> None:
        """After a rotation new lines go to the new file."""
        path = tmp_path / "log"
        output = LogFile(path)
        observer = JSONLogObserver(output)

        observer({"event": "before"})
        path.rename(tmp_path / "log.1")
        observer({"event": "between"})
        output.reopen()
        observer({"event": "after"})
        output.close()

        assert 2 == (tmp_path / "log.1").read_text().count("\n")
        assert "after" == json.loads(path.read_text())["event"]

    def test_file_is_kept_if_reopening_fails(self, tmp_path: Path) -> None:
        """A directory that is gone does not silence the log."""
        folder = tmp_path / "logs"
        folder.mkdir()
        output = LogFile(folder / "log")
        folder.rename(tmp_path / "moved")

        with pytest.raises(OSError):
            output.reopen()
        output.write("still here\n")
        output.close()

        assert "still here\n" == (tmp_path / "moved" / "log").read_text()

    def test_file_is_not_for_the_world(self, tmp_path: Path) -> None:
        """A new log file has mode 0640 at most."""
        old = os.umask(0)
        try:
            LogFile(tmp_path / "log").close()
        finally:
            os.umask(old)

        mode = stat.S_IMODE((tmp_path / "log").stat().st_mode)
        assert 0o640 == mode

    def test_factory_writes_to_standard_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """``twistd --logger`` gets the real stream, not Twisted's stand-in."""
        real, stand_in = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "__stderr__", real)
        monkeypatch.setattr(sys, "stderr", stand_in)

        json_observer()({"event": "x"})

        assert "x" == json.loads(real.getvalue())["event"]
        assert "" == stand_in.getvalue()
