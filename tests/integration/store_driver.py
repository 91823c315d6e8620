# SPDX-License-Identifier: MIT
"""An SQLite store without a reactor; also a program for the drills."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from contracts.store_samples import DER, NOW, new_intent
from twisted.internet.defer import Deferred

from trstctl.backends.store_sqlite import SQLiteStore


class Driver:
    """Runs in its own thread what a store delivers to the reactor's."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[tuple[Callable[..., Any], Any]] = (
            SimpleQueue()
        )

    def deliver(self, function: Callable[..., Any], *args: Any) -> None:
        """Stand in for ``reactor.callFromThread``."""
        self._inbox.put((function, args))

    def wait(self, deferred: Deferred[Any]) -> Any:
        """Run deliveries until the Deferred fires; return or raise."""
        results: list[Any] = []
        errors: list[BaseException] = []
        deferred.addCallbacks(
            results.append, lambda failure: errors.append(failure.value)
        )
        while not results and not errors:
            self.run_one()
        if errors:
            raise errors[0]
        return results[0]

    def run_one(self) -> None:
        """Wait for a delivery, for at most half a minute, and run it."""
        function, args = self._inbox.get(timeout=30)
        function(*args)


def open_store(path: Path, **kwargs: Any) -> tuple[Driver, SQLiteStore]:
    """Return a driver and an open store."""
    driver = Driver()
    store = SQLiteStore(path, deliver=driver.deliver, **kwargs)
    store.open()
    return driver, store


def _issue_for_ever(path: Path, name: str) -> None:
    """Issue, and say each serial once it is committed; until killed."""
    driver, store = open_store(path)
    number = 0
    while True:
        number += 1
        device = f"{name}-{number}"
        intent = new_intent(
            device, key=device, serial=device, owner=f"owner-{name}"
        )
        driver.wait(store.open_intent(intent, NOW))
        driver.wait(store.record_certificate(intent, DER, NOW))
        sys.stdout.write(f"{device}\n")
        sys.stdout.flush()


def _race(path: Path, name: str) -> None:
    """Open an intent for the key that all racers use; say who got it."""
    driver, store = open_store(path)
    intent = new_intent("one", serial=name, owner=name)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    outcome = driver.wait(store.open_intent(intent, NOW))
    sys.stdout.write(f"{type(outcome).__name__}\n")
    sys.stdout.flush()
    sys.stdin.readline()


def _number(path: Path, authority: str) -> None:
    """Take CRL numbers of an authority; say them all."""
    driver, store = open_store(path)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    numbers = [
        driver.wait(store.next_crl_number(authority)) for _ in range(50)
    ]
    sys.stdout.write(f"{' '.join(map(str, numbers))}\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    {"issue": _issue_for_ever, "number": _number, "race": _race}[sys.argv[1]](
        Path(sys.argv[2]), sys.argv[3]
    )
