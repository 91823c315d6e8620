# SPDX-License-Identifier: MIT
"""
Exactly one certificate for one request, whatever happens to the process.

``TRSTCTL_DRILL_ROUNDS`` makes the drills longer.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running import EST, Device, Gateway, running

ROUNDS = int(os.environ.get("TRSTCTL_DRILL_ROUNDS", "1"))

#: Where a process can die, and how many intents it leaves without a
#: certificate.
POINTS = {
    "before-intent": 0,
    "after-intent": 1,
    "inside-sign": 1,
    "after-sign": 1,
    "after-commit": 0,
}


def abandoned(gateway: Gateway) -> int:
    """Return how many serials the audit log calls abandoned."""
    events = gateway.audit_events()
    return sum(event["event"] == "intent.abandoned" for event in events)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """Return a gateway that does not run yet, and leave none behind."""
    found = Gateway(tmp_path / "state")
    yield found
    found.end()


@pytest.mark.drill
class KillTests:
    """``kill -9`` at each failure point, restart, retry (R-1, R-2)."""

    @pytest.mark.parametrize("point", POINTS)
    def test_retry_gets_the_one_certificate(
        self, point: str, gateway: Gateway
    ) -> None:
        """I-1 to I-4, I-8: one certificate, one row, a whole chain."""
        gateway.configure(EST)
        gateway.start()
        gateway.add_password("device")
        gateway.stop()
        known: list[str] = []
        for number in range(ROUNDS):
            body = Device(f"device-{number}").request()
            gateway.start(fail_at=point)
            with contextlib.suppress(OSError):
                answer = gateway.enroll(body)
                pytest.fail(f"answered {answer.status}, not killed")
            assert gateway.wait() == -signal.SIGKILL
            gateway.start()
            first = gateway.enroll(body)
            assert first.status == 200, first
            gateway.stop(signal.SIGKILL)
            gateway.start()
            again = gateway.enroll(body)
            assert (again.status, again.body) == (200, first.body)
            serials = gateway.serials()
            assert len(serials) == len(known) + 1
            known = serials
            gateway.verify_audit()
            assert abandoned(gateway) == POINTS[point] * (number + 1)
            gateway.stop()


class RaceTests:
    """The same request, many times at once."""

    @pytest.mark.parametrize("own_key", [False, True])
    def test_fifty_at_once_get_the_same(
        self, own_key: bool, tmp_path: Path
    ) -> None:
        """I-4: one certificate, byte for byte, and one row."""
        with running(tmp_path / "state") as gateway:
            body = Device("racer").request("racer.example")
            headers = {"Idempotency-Key": "race-1"} if own_key else {}

            def enroll(_: int) -> bytes:
                answer = gateway.enroll(body, headers=headers)
                assert answer.status == 200, answer
                return answer.body

            with ThreadPoolExecutor(50) as pool:
                answers = set(pool.map(enroll, range(50)))
            assert len(answers) == 1
            assert len(gateway.serials()) == 1
            gateway.verify_audit()

    def test_same_key_for_another_request_is_refused(
        self, tmp_path: Path
    ) -> None:
        """I-5: 422, and never another's certificate."""
        with running(tmp_path / "state") as gateway:
            headers = {"Idempotency-Key": "one-key"}
            first = gateway.enroll(Device("a").request(), headers=headers)
            other = gateway.enroll(Device("b").request(), headers=headers)
            assert (first.status, other.status) == (200, 422)
            assert b"BEGIN" not in other.body
            assert len(gateway.serials()) == 1

    def test_restart_keeps_the_answer(self, tmp_path: Path) -> None:
        """I-4 across a clean restart."""
        with running(tmp_path / "state") as gateway:
            body = Device("restarted").request()
            first = gateway.enroll(body)
            assert gateway.stop() == 0
            gateway.start()
            assert gateway.enroll(body).body == first.body
