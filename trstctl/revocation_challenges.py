# SPDX-License-Identifier: MIT
"""
Passwords that revoke a certificate: what a revocationChallenge of RFC 7894,
section 3.2, is kept as, and how one is proven (RFC 5272, section 6.11).

Theory of operation
===================

RC-1 *Kept as passwords are*: scrypt, salted.  The salt is a digest of the
     tenant and of what the request is beside the challenge: another for each
     request, and the same for a repetition, so that the hash can stand for
     the challenge where requests are compared.
RC-2 *Unknown equals wrong.*  No certificate, none of this tenant, one without
     a challenge and a wrong secret take the same hash and end alike.
RC-3 *Guessing is throttled* by certificate and by address.  A secret counts
     as wrong before it is hashed, and no more once it was right: guesses made
     at once gain nothing, whoever leaves without his answer has guessed all
     the same, and no more are hashed at once than may be wrong.  While
     somebody guesses, the right secret waits, too: else the throttle would
     stop nobody.  The operator can revoke at any time.
RC-4 *Octet for octet*: the text in UTF-8, letter case and all
     (caseExactMatch).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from trstctl.backends.attempts import peer_bucket
from trstctl.backends.passwords import (
    LOG2_N,
    check_password,
    decoy,
    scrypt_verifier,
)
from trstctl.backends.throttle import Throttle
from trstctl.errors import ChallengeRejected, Throttled
from trstctl.interfaces import IRevocationChallenges

_PURPOSE = b"trstctl revocation challenge 1"
_SALT = 16

#: Hexadecimal digits of a serial that the throttle tells apart (RFC 5280,
#: section 4.1.2.2: 20 octets).
_SERIAL = 48


@implementer(IRevocationChallenges)
class RevocationChallenges:
    """
    Hashes revocation challenges, and proves secrets by them.

    :param clock: the monotonic clock.
    :param run_slowly: calls a function with its arguments off the reactor's
        thread.
    :param failures: wrong secrets allowed a minute, by certificate and by
        address.
    :param log2_n: the cost; less than the default is for tests only.
    """

    def __init__(
        self,
        clock: IReactorTime,
        run_slowly: Callable[..., Awaitable[Any]],
        failures: int = 10,
        log2_n: int = LOG2_N,
    ) -> None:
        self._run_slowly = run_slowly
        self._throttle = Throttle(clock, failures)
        self._log2_n = log2_n
        self._decoy = decoy(log2_n)

    def verifier(
        self, challenge: str, tenant_id: str, request: bytes
    ) -> Deferred[str]:
        """Return what is kept of a challenge; see the interface (RC-1)."""
        parts = (_PURPOSE, tenant_id.encode("ascii"), request)
        framed = b"".join(b"%d:%s" % (len(part), part) for part in parts)
        salt = hashlib.sha256(framed).digest()[:_SALT]

        async def hashed() -> str:
            made: str = await self._run_slowly(
                scrypt_verifier, challenge, lambda _: salt, self._log2_n
            )
            return made

        return Deferred.fromCoroutine(hashed())

    def prove(
        self,
        tenant_id: str,
        serial: str,
        verifier: str,
        secret: bytes,
        peer: str,
    ) -> Deferred[None]:
        """Prove a secret; see the interface."""
        buckets = (
            peer_bucket(peer),
            f"certificate {tenant_id} {serial[:_SERIAL]}",
        )
        return Deferred.fromCoroutine(self._prove(verifier, secret, buckets))

    async def _prove(
        self, verifier: str, secret: bytes, buckets: tuple[str, ...]
    ) -> None:
        """Compare a secret with what was kept, or with nothing (RC-2)."""
        wait = self._throttle.wait(*buckets)
        if wait:
            raise Throttled(wait)
        self._throttle.failed(*buckets)
        right = await self._run_slowly(
            check_password, _text(secret), verifier or self._decoy
        )
        if not (verifier and right):
            raise ChallengeRejected
        self._throttle.forgive(*buckets)


def _text(secret: bytes) -> str:
    """Return a secret as text; empty, as no challenge is, if it is none."""
    try:
        return secret.decode("utf-8")
    except UnicodeDecodeError:
        return ""
