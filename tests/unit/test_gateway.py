# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.gateway`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from trstctl.config.model import Limits, LogSettings
from trstctl.config.secrets import SecretError
from trstctl.gateway import Gateway
from trstctl.serving.faults import StartFault
from trstctl.testing import EPOCH


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
        log=LogSettings(),
        limits=Limits(),
        path=Path("trstctl.yaml"),
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
            gateway._listen(None)
        assert "trstctl.yaml" in str(caught.value)
        assert str(error) in str(caught.value)
