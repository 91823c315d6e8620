# SPDX-License-Identifier: MIT
"""The promises of ``conftest.py`` are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

_CASES = """
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure


def test_logs_a_failure():
    Logger().failure("it broke", Failure(ValueError("one")))


def test_loses_a_deferred():
    cycle = [Deferred()]
    cycle.append(cycle)
    cycle[0].errback(ValueError("two"))


def test_leaves_a_call():
    from twisted.internet import reactor
    reactor.callLater(60, print)


def test_flushes(logged):
    Logger().failure("it broke", Failure(ValueError("three")))
    assert logged.flush(KeyError) == []
    assert len(logged.flush(ValueError)) == 1


def test_is_clean():
    pass
"""


class PromisesTests:
    """Each promise, kept and broken, in a run of its own."""

    @pytest.mark.slow
    def test_broken_promises_fail(self, pytester: pytest.Pytester) -> None:
        """
        A logged failure, a lost Deferred and a left call fail their test.
        """
        conftest = Path(__file__).parent.parent / "conftest.py"
        pytester.makeconftest(conftest.read_text("utf-8"))
        folder = pytester.mkdir("unit")
        (folder / "test_cases.py").write_text(_CASES, "utf-8")

        result = pytester.runpytest_subprocess(
            "-p", "no:cacheprovider", "-p", "no:randomly", "-v"
        )

        result.assert_outcomes(passed=5, errors=3)
        result.stdout.fnmatch_lines(
            [
                "*ERROR at teardown of test_logs_a_failure*",
                "*ValueError: one*",
                "*ERROR at teardown of test_loses_a_deferred*",
                "*ValueError: two*",
                "*ERROR at teardown of test_leaves_a_call*",
                "*calls were left in the reactor*",
            ]
        )
