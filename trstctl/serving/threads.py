# SPDX-License-Identifier: MIT
"""The threads for what would hold up the reactor: passwords, signatures."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from trstctl.backends.credentials import KeyCredential
from trstctl.backends.signers import make_signer
from trstctl.interfaces import ISigner

_HASHING_THREADS = 2
_SIGNING_THREADS = max(2, os.cpu_count() or 2)


class Threads:
    """
    Two pools: who guesses passwords does not hold up signatures.

    :param reactor: fires the results.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._hashing = ThreadPool(0, _HASHING_THREADS, "hashing")
        self._signing = ThreadPool(0, _SIGNING_THREADS, "signing")

    def start(self) -> None:
        """Take work; a thread begins with the first."""
        self._hashing.start()
        self._signing.start()

    def stop(self) -> None:
        """End all threads, once each has done what it has begun."""
        for pool in (self._hashing, self._signing):
            # A thread that is not told to end keeps the process alive.
            if pool.started:
                pool.stop()

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run what takes long, beside the signatures."""
        return deferToThreadPool(self._reactor, self._signing, function, *args)

    def hash_password(self, function: Callable[..., Any], *args: Any) -> Any:
        """
        Run what hashes a password.

        A hash that nobody waits for any more is not begun: else who asks and
        leaves, again and again, would keep everybody else waiting.
        """
        left = False

        def leave(_: Deferred[Any]) -> None:
            nonlocal left
            left = True

        def turn() -> Any:
            if left:
                raise CancelledError
            return function(*args)

        def tell(result: Any) -> None:
            if not left:
                waiting.callback(result)  # a Failure makes it an errback

        waiting: Deferred[Any] = Deferred(leave)
        deferToThreadPool(self._reactor, self._hashing, turn).addBoth(tell)
        return waiting

    def signer(self, key: CertificateIssuerPrivateKeyTypes) -> ISigner:
        """Return what signs with an authority's key."""
        return make_signer(key, self._signing, self._reactor)

    def credential(
        self,
        key: CertificateIssuerPrivateKeyTypes,
        chain: tuple[bytes, ...],
    ) -> KeyCredential:
        """Return a key of the gateway's own, ready for use."""
        return KeyCredential(key, chain, self._signing, self._reactor)
