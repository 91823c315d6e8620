# SPDX-License-Identifier: MIT
"""The line of each exchange: where the gateway writes it, and its count."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher

from trstctl.gateway import Gateway

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
def gateway(tmp_path: Path) -> Gateway:
    """Return a gateway that is not started, with its log in a file."""
    settings: Any = SimpleNamespace(
        log=SimpleNamespace(file=tmp_path / "log", level="info")
    )
    discovery: Any = None
    return Gateway(
        settings,
        read_again=lambda: settings,
        discovery=discovery,
        reactor=MemoryReactorClock(),
        now=lambda: datetime(2026, 1, 2, tzinfo=UTC),
        random_bytes=bytes,
    )


class ExchangeLineTests:
    """One line for each exchange, wherever the log goes."""

    def test_line_goes_straight_into_its_own_log(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """Twisted's publisher does not get it a second time."""
        gateway.log_observer()({})
        elsewhere: list[Any] = []

        globalLogPublisher.addObserver(elsewhere.append)
        gateway._report(FACTS)
        globalLogPublisher.removeObserver(elsewhere.append)

        line = (tmp_path / "log").read_text("ascii").splitlines()[-1]
        head = {"ts": "2026-01-02T00:00:00.000Z", "level": "info"}
        assert {**head, **FACTS} == json.loads(line)
        assert [] == elsewhere

    @pytest.mark.parametrize("made", [False, True])
    def test_line_goes_where_twistd_was_told(
        self, gateway: Gateway, tmp_path: Path, made: bool
    ) -> None:
        """With ``twistd --logger`` the gateway's own log is not in use."""
        if made:
            gateway.log_observer()
        elsewhere: list[Any] = []

        globalLogPublisher.addObserver(elsewhere.append)
        gateway._report(FACTS)
        globalLogPublisher.removeObserver(elsewhere.append)

        (event,) = elsewhere
        assert FACTS == {name: event[name] for name in FACTS}
        assert "info" == event["log_level"].name
        assert not made or "" == (tmp_path / "log").read_text("ascii")

    @pytest.mark.parametrize("used", [False, True])
    def test_exchange_is_counted(self, gateway: Gateway, used: bool) -> None:
        """Once, whichever log is in use."""
        if used:
            gateway.log_observer()({})

        gateway._report(FACTS)

        told = gateway.metrics.exposition().decode("ascii")
        assert (
            'trstctl_certificates_issued_total{profile="device"} 1.0' in told
        )
