# SPDX-License-Identifier: MIT
"""What protocols do every few minutes, and what stops a start."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher

from trstctl.config.secrets import SecretError
from trstctl.errors import Unavailable
from trstctl.gateway import Gateway, StartFault
from trstctl.testing import EPOCH, result_of


class Protocol:
    """A protocol with rounds of its own."""

    name = "sample"

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.rounds = 0

    async def tend(self) -> None:
        """Do the rounds, or fail."""
        self.rounds += 1
        if self.error is not None:
            raise self.error


class Plugin:
    """A plugin whose resource cannot be made."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def make_resource(self, *_: object) -> Any:
        """Fail."""
        raise self.error


@pytest.fixture
def gateway() -> Any:
    """Return a gateway that is not started."""
    settings: Any = SimpleNamespace(
        log=SimpleNamespace(file=None, level="info"),
        path=Path("trstctl.yaml"),
        listeners=None,
        protocols={"sample": None},
    )
    made = Gateway(
        settings,
        read_again=lambda: settings,
        discovery=SimpleNamespace(protocols={}),  # type: ignore[arg-type]
        reactor=MemoryReactorClock(),
        now=lambda: EPOCH,
        random_bytes=bytes,
    )
    made.ra = None  # type: ignore[assignment]
    return made


class RoundsTests:
    """One protocol's rounds are not another's."""

    def test_everybody_has_a_turn(self, gateway: Any) -> None:
        """One that is unavailable is logged, and the next goes on."""
        events: list[Any] = []
        one, other = Protocol(Unavailable()), Protocol()
        gateway._served = [one, object(), other]
        globalLogPublisher.addObserver(events.append)
        result_of(gateway._tend_protocols())
        globalLogPublisher.removeObserver(events.append)
        assert (1, 1) == (one.rounds, other.rounds)
        (event,) = events
        assert ("round.unavailable", "sample") == (
            event["event"],
            event["protocol"],
        )


class StartTests:
    """A protocol that cannot be made stops the start, with a remedy."""

    @pytest.mark.parametrize(
        "error",
        [
            SecretError("env:A: the secret is empty"),
            ValueError("env:A: too short"),
            FileNotFoundError(2, "No such file", "key.pem"),
        ],
    )
    def test_fault_is_told(self, gateway: Any, error: Exception) -> None:
        """The line names the file of the configuration and the reason."""
        gateway._discovery.protocols["sample"] = Plugin(error)
        with pytest.raises(StartFault) as caught:
            gateway._listen()
        assert "trstctl.yaml" in str(caught.value)
        assert str(error) in str(caught.value)
