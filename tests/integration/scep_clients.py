# SPDX-License-Identifier: MIT
"""Runs SCEP clients that others wrote: strongSwan, certmonger, PyScep."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import require_client

CERTMONGER = Path("/usr/lib/certmonger")

#: Without it, strongSwan speaks no SCEP.
CURL_PLUGIN = "/usr/lib/ipsec/plugins/libstrongswan-curl.so"


def wait_for(happened: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run(
    *command: str | Path, folder: Path, status: int = 0, **variables: str
) -> str:
    """Run a client and return what it prints."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        timeout=120,
        check=False,
    )
    told = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert status == done.returncode, told
    return told


def enroll_by_pki(
    folder: Path, name: str, *options: str | Path, status: int = 0
) -> str:
    """Make a key, and ask for a certificate, with strongSwan."""
    script = (
        f"pki --gen --type rsa --size 2048 > {name}.key 2>/dev/null; "
        f'exec pki --scep --in {name}.key "$@" > {name}.pem'
    )
    return run(
        *("bash", "-c", script, "-", *options), folder=folder, status=status
    )


@contextlib.contextmanager
def certmonger(folder: Path) -> Iterator[Callable[..., str]]:
    """Run certmonger without a bus; yield how to command it."""
    require_client("getcert", str(CERTMONGER / "certmonger-session"))
    socket = folder / "socket"
    home = folder / "home"
    home.mkdir()

    def command(*arguments: str | Path) -> str:
        return run(
            *("getcert", *arguments),
            folder=folder,
            CERTMONGER_PVT_ADDRESS=f"unix:path={socket}",
        )

    with (folder / "certmonger.log").open("wb") as log:
        daemon = subprocess.Popen(
            [CERTMONGER / "certmonger-session", "-n", "-L", "-P", socket],
            cwd=folder,
            env={**os.environ, "HOME": str(home)},
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(socket.exists)
        yield command
    finally:
        daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(10)
        daemon.kill()
        daemon.wait()


def require_pyscep() -> str:
    """Return a Python with PyScep, or skip; in CI, fail."""
    python = os.environ.get("TRSTCTL_PYSCEP", "")
    if not python and not os.environ.get("TRSTCTL_REQUIRE_CLIENTS"):
        pytest.skip("TRSTCTL_PYSCEP does not name a Python with PyScep")
    require_client(python)
    return python
