# SPDX-License-Identifier: MIT
"""The line of each exchange: where the gateway writes it, and its count."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from twisted.logger import globalLogPublisher

from trstctl.config.model import LogSettings
from trstctl.metrics import Metrics
from trstctl.serving.reports import Reports

FACTS = {
    "event": "request",
    "protocol": "est",
    "operation": "simpleenroll",
    "status": 200,
    "decision": "issued",
    "profile": "device",
    "duration_ms": 1.5,
}


@pytest.fixture
def metrics() -> Metrics:
    """Return counters at zero."""
    return Metrics()


@pytest.fixture
def reports(tmp_path: Path, metrics: Metrics) -> Reports:
    """Return what writes its log into a file."""
    return Reports(
        LogSettings(file=tmp_path / "log"),
        metrics,
        lambda: datetime(2026, 1, 2, tzinfo=UTC),
    )


class ExchangeLineTests:
    """One line for each exchange, wherever the log goes."""

    def test_line_goes_straight_into_its_own_log(
        self, reports: Reports, tmp_path: Path
    ) -> None:
        """Twisted's publisher does not get it a second time."""
        reports.log_observer()({})
        elsewhere: list[Any] = []

        globalLogPublisher.addObserver(elsewhere.append)
        reports.exchange(FACTS)
        globalLogPublisher.removeObserver(elsewhere.append)

        line = (tmp_path / "log").read_text("ascii").splitlines()[-1]
        head = {"ts": "2026-01-02T00:00:00.000Z", "level": "info"}
        assert {**head, **FACTS} == json.loads(line)
        assert [] == elsewhere

    @pytest.mark.parametrize("made", [False, True])
    def test_line_goes_where_twistd_was_told(
        self, reports: Reports, tmp_path: Path, made: bool
    ) -> None:
        """With ``twistd --logger`` the gateway's own log is not in use."""
        if made:
            reports.log_observer()
        elsewhere: list[Any] = []

        globalLogPublisher.addObserver(elsewhere.append)
        reports.exchange(FACTS)
        globalLogPublisher.removeObserver(elsewhere.append)

        (event,) = elsewhere
        assert FACTS == {name: event[name] for name in FACTS}
        assert "info" == event["log_level"].name
        assert not made or "" == (tmp_path / "log").read_text("ascii")

    @pytest.mark.parametrize("used", [False, True])
    def test_exchange_is_counted(
        self, reports: Reports, metrics: Metrics, used: bool
    ) -> None:
        """Once, whichever log is in use."""
        if used:
            reports.log_observer()({})

        reports.exchange(FACTS)

        told = metrics.exposition().decode("ascii")
        assert (
            'trstctl_certificates_issued_total{profile="device"} 1.0' in told
        )

    def test_old_algorithms_are_counted(
        self, reports: Reports, metrics: Metrics
    ) -> None:
        """So is a refusal, by its kind; and who has no protocol is none."""
        reports.exchange(
            {
                **FACTS,
                "tenant": "",
                "protocol": "",
                "operation": "",
                "peer": "192.0.2.1",
                "decision": "refused",
                "error": "Malformed",
                "legacy": "sha1 3des",
            }
        )
        told = metrics.exposition().decode("ascii")
        for algorithm in ("sha1", "3des"):
            assert f'algorithm="{algorithm}",protocol="none"' in told
        assert (
            'trstctl_refusals_total{protocol="none",reason="Malformed"} 1.0'
            in told
        )
        assert "trstctl_certificates_issued_total{" not in told

    @pytest.mark.parametrize("error", [{}, {"error": "Malformed"}])
    def test_only_an_error_is_a_refusal(
        self, reports: Reports, metrics: Metrics, error: dict[str, str]
    ) -> None:
        """What was only asked for is neither issued nor refused."""
        facts = {**FACTS, "tenant": "", "peer": "192.0.2.1"}
        reports.exchange({**facts, "decision": "answered", **error})
        told = metrics.exposition().decode("ascii")
        assert bool(error) is ("trstctl_refusals_total{" in told)


class LogFileTests:
    """The file that the log goes to."""

    def test_file_that_was_moved(
        self, reports: Reports, tmp_path: Path
    ) -> None:
        """The log goes on in a new one, once that is asked for."""
        reports.reopen()
        reports.log_observer()({})
        log = tmp_path / "log"
        log.rename(tmp_path / "log.1")
        reports.exchange(FACTS)
        assert not log.exists()
        reports.reopen()
        reports.exchange(FACTS)
        assert 1 == len(log.read_text("ascii").splitlines())

    def test_standard_error(self, metrics: Metrics) -> None:
        """Without a file there is nothing to reopen."""
        reports = Reports(
            LogSettings(), metrics, lambda: datetime(2026, 1, 2, tzinfo=UTC)
        )
        assert reports.log_observer() is not None
        reports.reopen()


class FloodTests:
    """Refusals of strangers: bounded in the log, and each one counted."""

    REFUSED: ClassVar[dict[str, Any]] = {
        **FACTS,
        "tenant": "",
        "protocol": "",
        "status": 404,
        "decision": "refused",
        "peer": "192.0.2.1",
    }

    def lines(self, path: Path) -> list[Any]:
        """Return what is in the log."""
        return [json.loads(one) for one in path.read_text().splitlines()]

    def test_one_line_and_a_count(
        self, reports: Reports, metrics: Metrics, tmp_path: Path
    ) -> None:
        """The metrics know of all of them."""
        observer: Any = reports.log_observer()
        observer({"event": "begin"})
        globalLogPublisher.addObserver(observer)
        for _ in range(30):
            reports.exchange(self.REFUSED)
        reports.tell_repeats()
        reports.tell_repeats()
        globalLogPublisher.removeObserver(observer)

        _, line, more = self.lines(tmp_path / "log")
        assert ("request", 404) == (line["event"], line["status"])
        told = [more[key] for key in ("event", "of", "count", "peer")]
        assert ["request.more", "request", 29, "192.0.2.1"] == told
        counted = metrics.exposition().decode("ascii")
        assert 'status="404"} 30.0' in counted

    @pytest.mark.parametrize(
        "name", ["request.forgiven", "scep.legacy", "scep.unopened"]
    )
    def test_lines_beside_the_exchange(
        self, reports: Reports, tmp_path: Path, name: str
    ) -> None:
        """What is logged before it is known who asks is bounded, too."""
        observer: Any = reports.log_observer()
        event = {
            "event": name,
            "tenant": "a",
            "protocol": "scep",
            "peer": "192.0.2.1",
        }
        for _ in range(150):
            observer(event)
        assert 100 == len(self.lines(tmp_path / "log"))
        observer({"event": "other"})
        assert 101 == len(self.lines(tmp_path / "log"))
