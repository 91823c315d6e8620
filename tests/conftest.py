# SPDX-License-Identifier: MIT
"""
Promises that hold for every test.

A test fails if Twisted's log saw a failure that the test did not flush (the
fixture ``logged`` does that), if a Deferred with an unhandled failure was
thrown away, or, for a unit test, if it left a call in the global reactor.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest
from attrs import define, field
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

pytest_plugins = ("pytester",)


@define
class LoggedFailures:
    """The failures that were logged during one test."""

    failures: list[Failure] = field(factory=list)

    def observe(self, event: LogEvent) -> None:
        """Keep the failure of an event that has one."""
        failure = event.get("log_failure")
        if failure is not None:
            self.failures.append(failure)

    def flush(self, *types: type[BaseException]) -> list[Failure]:
        """Take out the failures of these types; of any, if none is given."""
        gc.collect()
        wanted = types or (BaseException,)
        taken = [one for one in self.failures if one.check(*wanted)]
        self.failures = [one for one in self.failures if one not in taken]
        return taken


def pytest_collection_finish() -> None:
    """Leave what the imports made out of each test's collection."""
    gc.collect()
    gc.freeze()


def _delayed_calls() -> set[object]:
    """Return what the global reactor will call, if there is one."""
    reactor = sys.modules.get("twisted.internet.reactor")
    calls = getattr(reactor, "getDelayedCalls", list)
    return set(calls())


@pytest.fixture(autouse=True)
def logged(request: pytest.FixtureRequest) -> Iterator[LoggedFailures]:
    """Collect logged failures; those that stay fail the test."""
    seen = LoggedFailures()
    before = _delayed_calls()
    globalLogPublisher.addObserver(seen.observe)
    try:
        yield seen
        # An unhandled failure is logged when its Deferred is collected.
        gc.collect()
    finally:
        globalLogPublisher.removeObserver(seen.observe)
    if seen.failures:
        texts = "\n".join(one.getTraceback() for one in seen.failures)
        pytest.fail(f"logged and not flushed:\n{texts}", pytrace=False)
    if "unit" in request.path.parts:
        left = _delayed_calls() - before
        assert not left, f"calls were left in the reactor: {left}"
