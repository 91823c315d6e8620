# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.serving.threads`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from trstctl.backends.signers import InlineSigner
from trstctl.ca.ceremony import make_root
from trstctl.serving.threads import Threads
from trstctl.testing import EPOCH, DeterministicBytes, result_of


class Pool:
    """A pool whose one thread is this one."""

    pools: list[Pool]

    def __init__(self, least: int, most: int, name: str) -> None:
        self.least, self.most, self.name = least, most, name
        self.started = False
        self.calls: list[str] = []
        self.turns: list[Callable[[], None]] = []
        self.busy = False
        self.pools.append(self)

    def start(self) -> None:
        """Begin."""
        self.started = True

    def stop(self) -> None:
        """End."""
        assert self.started
        self.started = False

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], None], act: Any, *args: Any
    ) -> None:
        """Do it, and tell what came of it."""
        self.calls.append(act.__name__)

        def turn() -> None:
            try:
                result = act(*args)
            except Exception:  # noqa: BLE001 (as a thread does)
                done(False, Failure())
            else:
                done(True, result)

        self.turns.append(turn)
        if not self.busy:
            turn()


class Reactor:
    """A reactor for which every thread is its own."""

    def callFromThread(self, function: Any, *args: Any) -> None:
        """Call it."""
        function(*args)


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[Pool]:
    """Return the pools that are made, in order."""
    made: list[Pool] = []
    monkeypatch.setattr(Pool, "pools", made, raising=False)
    monkeypatch.setattr("trstctl.serving.threads.ThreadPool", Pool)
    return made


class ThreadsTests:
    """Who guesses passwords does not hold up signatures."""

    def test_two_pools(self, pools: list[Pool]) -> None:
        """Passwords have their own."""
        threads = Threads(Reactor())
        hashing, signing = pools
        threads.start()

        def check(secret: str, verifier: str) -> bool:
            return secret == verifier

        def work(number: int) -> int:
            return number + 1

        assert result_of(threads.hash_password(check, "a", "a"))
        assert 2 == result_of(threads.run(work, 1))
        assert (1, ["work"]) == (len(hashing.calls), signing.calls)
        assert 2 == hashing.most
        threads.stop()
        assert (False, False) == (hashing.started, signing.started)

    def test_hash_that_nobody_waits_for(self, pools: list[Pool]) -> None:
        """It is not begun, and holds up nobody; one that fails says so."""
        threads = Threads(Reactor())
        hashing, _ = pools
        hashing.busy = True
        begun: list[str] = []

        def check(secret: str) -> bool:
            begun.append(secret)
            if secret == "wrong":
                raise ValueError
            return True

        works = [
            threads.hash_password(check, secret)
            for secret in ("left", "right", "wrong")
        ]
        works[0].addErrback(lambda _: None).cancel()
        for turn in hashing.turns[:3]:
            turn()
        assert ["right", "wrong"] == begun
        assert result_of(works[1])
        with pytest.raises(ValueError, match=r"^$"):
            result_of(works[2])

    def test_leaves_while_it_is_hashed(self, pools: list[Pool]) -> None:
        """What comes of it then is nobody's."""
        threads = Threads(Reactor())
        hashing, _ = pools
        hashing.busy = True
        told: list[type[BaseException]] = []

        def check() -> bool:
            work.cancel()
            return True

        work = threads.hash_password(check)
        work.addErrback(lambda failure: told.append(failure.type))
        hashing.turns[0]()
        assert [CancelledError] == told

    def test_stop_before_the_start(self, pools: list[Pool]) -> None:
        """What never began need not end: a pool would not."""
        Threads(Reactor()).stop()
        assert 2 == len(pools)

    def test_keys(self, pools: list[Pool]) -> None:
        """A key that signs fast does it at once; a slow one in the pool."""
        threads = Threads(Reactor())
        fast = ec.generate_private_key(ec.SECP256R1())
        slow = rsa.generate_private_key(65537, 2048)
        assert isinstance(threads.signer(fast), InlineSigner)
        assert not isinstance(threads.signer(slow), InlineSigner)
        root = make_root(slow, "root", EPOCH, DeterministicBytes("threads"))
        assert (root,) == threads.credential(slow, (root,)).chain
