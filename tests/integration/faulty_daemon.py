# SPDX-License-Identifier: MIT
"""
The gateway as ``twistd`` runs it, but killed at a named failure point.

Usage: faulty_daemon.py CONFIG [POINT]

This is the only place where failure points do anything: what is shipped
passes them without a look.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.logger import globalLogBeginner

from trstctl.tap import build


def main() -> None:
    """Run until killed, by somebody else or by oneself."""
    point = sys.argv[2] if len(sys.argv) > 2 else ""

    def reached(name: str) -> None:
        if name == point and not armed:
            return
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    # The gateway's own certificate must not be its last.
    armed: list[bool] = []
    gateway = build(Path(sys.argv[1]), reached)
    globalLogBeginner.beginLoggingTo(
        [gateway.log_observer()], redirectStandardIO=False
    )
    gateway.startService()
    reactor.addSystemEventTrigger("before", "shutdown", gateway.stopService)

    def arm_when_listening() -> None:
        if hasattr(gateway, "readiness"):
            armed.append(True)
        else:
            reactor.callLater(0.01, arm_when_listening)

    reactor.callLater(0, arm_when_listening)
    reactor.run()


if __name__ == "__main__":
    main()
