# SPDX-License-Identifier: MIT
"""The thread signer on Twisted's own thread pool."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest
from twisted.python.threadpool import ThreadPool

from trstctl.backends.signers import ThreadSigner
from trstctl.ca.ceremony import generate_key
from trstctl.errors import Unavailable
from trstctl.pkix.algorithms import verify


class QueueReactor:
    """Keeps what threads hand over, for the test's thread to run."""

    def __init__(self) -> None:
        self.handed: queue.Queue[Any] = queue.Queue()

    def callFromThread(self, function: Any, *args: Any) -> None:
        self.handed.put((function, args, threading.current_thread()))

    def run(self, count: int) -> set[threading.Thread]:
        """Run so many calls; return the threads that they came from."""
        threads = set()
        for _ in range(count):
            function, args, thread = self.handed.get(timeout=30)
            threads.add(thread)
            function(*args)
        return threads


@pytest.fixture
def pool():
    """A started pool of two threads."""
    made = ThreadPool(2, 2, name="signing")
    made.start()
    yield made
    if not made.joined:
        made.stop()


class ThreadSignerOnThreadPoolTests:
    """What the fake pool of the unit tests promises, the real one keeps."""

    def test_signs_in_the_pools_threads(self, pool) -> None:
        """Signatures are made elsewhere, and arrive where they are awaited."""
        reactor = QueueReactor()
        signer = ThreadSigner(generate_key("rsa-2048"), pool, reactor)
        made: list[bytes] = []
        for number in range(20):
            signer.sign(b"%d" % number, "sha256-with-rsa").addCallback(
                made.append
            )
        threads = reactor.run(20)
        assert threading.current_thread() not in threads
        assert 20 == len(made)
        for number in range(20):
            assert 1 == sum(
                verify(
                    signer.public_key(), "sha256-with-rsa", one, b"%d" % number
                )
                for one in made
            )

    def test_fault_in_a_thread_is_unavailable(self, pool) -> None:
        """A fault crosses over as the one error, and frees its place."""
        reactor = QueueReactor()
        key = generate_key("rsa-2048")
        signer = ThreadSigner(key, pool, reactor, limit=1)
        failures: list[Any] = []
        signer.sign(b"tbs", "ed25519").addErrback(failures.append)
        reactor.run(1)
        assert [Unavailable] == [one.type for one in failures]
        made: list[bytes] = []
        signer.sign(b"tbs", "sha256-with-rsa").addCallback(made.append)
        reactor.run(1)
        assert 1 == len(made)

    def test_stopped_pool_is_unavailable(self, pool) -> None:
        """After the stop nothing waits for ever."""
        signer = ThreadSigner(generate_key("rsa-2048"), pool, QueueReactor())
        pool.stop()
        failures: list[Any] = []
        signer.sign(b"tbs", "sha256-with-rsa").addErrback(failures.append)
        assert [Unavailable] == [one.type for one in failures]
