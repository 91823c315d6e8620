# SPDX-License-Identifier: MIT
"""What the daemon does to its own process before it reads a key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from running import ENVIRONMENT, EST, Gateway

#: Builds the gateway as twistd does, and tells what has become of the process.
PROGRAM = """\
import ctypes, json, os, resource, sys, time
from pathlib import Path
from trstctl.tap import build

build(Path(sys.argv[1]))
from twisted.internet import reactor

mask = os.umask(0)
json.dump({
    "monotonic": reactor.seconds is time.monotonic,
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
    "umask": mask,
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return what a process says of itself."""
    gateway = Gateway(tmp_path_factory.mktemp("hardening") / "state")
    gateway.configure(EST)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(Path(gateway.config))],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=60,
        check=True,
    )
    told: dict[str, object] = json.loads(done.stdout)
    return told


class HardeningTests:
    """Clocks, core dumps and modes, in a process of its own."""

    def test_timers_are_monotonic(self, process: dict[str, object]) -> None:
        """R-13: no timer waits because somebody set the clock back."""
        assert process["monotonic"] is True

    def test_no_core_dumps(self, process: dict[str, object]) -> None:
        """R-14: no key in a dump, also where dumps are piped elsewhere."""
        assert process["core"] == [0, 0]

    @pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
    def test_memory_is_hidden(self, process: dict[str, object]) -> None:
        """R-14: another process of the same user reads no memory."""
        assert process["dumpable"] == 0

    def test_files_are_private(self, process: dict[str, object]) -> None:
        """R-14: whatever is created is for its owner only."""
        assert process["umask"] == 0o077
