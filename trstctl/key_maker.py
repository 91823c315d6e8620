# SPDX-License-Identifier: MIT
"""
Keys for devices that cannot make their own.

A key exists here from the moment it is made until the answer that carries it
is written: it is kept nowhere, and nothing logs it.

K-1  *Never in the reactor's thread.*  An RSA key takes from tenths of a
     second to several.
K-2  *Bounded.*  So many are made at once, so many wait, no more than a few of
     one tenant; whoever comes then is
     told to come back, before anything was issued.  Who leaves keeps his
     place until his key is made: nothing stops a thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from twisted.internet.defer import Deferred, DeferredSemaphore, fail
from zope.interface import implementer

from trstctl.errors import Unavailable, UnsupportedAlgorithm
from trstctl.interfaces import IKeyMaker
from trstctl.model import CSRWishes, MadeKey, PublicKey
from trstctl.pkix.algorithms import describe_public_key

#: Keys that are made at once: the threads are those that sign.
_AT_ONCE = 1

#: Requests that wait for one; and those of one tenant.
_WAITING = 32
_OF_ONE = 8

#: Sizes of RSA moduli, in bits; beyond, one key takes half a minute.
RSA_BITS = (2048, 3072, 4096)

_MAKERS: dict[str, Callable[[], Any]] = {
    "p-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
}


def makeable(
    algorithms: Iterable[str], rsa_bits: tuple[int, int]
) -> list[tuple[str, int]]:
    """
    Return the keys that can be made, of those that a profile allows.

    :param algorithms: as in :class:`~trstctl.model.CSRWishes`.
    :param rsa_bits: the least and the most of an RSA modulus.
    :returns: type and bits of each, in the order of the profile.
    """
    low, high = rsa_bits
    possible: list[tuple[str, int]] = []
    for name in algorithms:
        if name.startswith("rsa"):
            possible += [
                ("rsa", bits) for bits in RSA_BITS if low <= bits <= high
            ]
        elif name in _MAKERS:
            possible.append((name, 0))
    return possible


def wished_key(wishes: CSRWishes, asked: PublicKey | None) -> PublicKey:
    """
    Return which key to make: type and size, and nothing else.

    :param wishes: what the profile says.
    :param asked: of the type and size that the device asks for.
    :returns: as it asks, if the profile allows that and it can be made; else
        of the first type that the profile allows and that can be made, as
        small as it allows.
    :raises UnsupportedAlgorithm: there is none.
    """
    possible = makeable(wishes.algorithms, wishes.rsa_bits)
    for algorithm, bits in possible:
        if (
            asked is not None
            and asked.algorithm == algorithm
            and (bits in {0, asked.bits} or not asked.bits)
        ):
            return PublicKey(b"", algorithm, asked.bits or bits, "")
    if not possible:
        raise UnsupportedAlgorithm(
            "no key that the profile allows is made here"
        )
    algorithm, bits = possible[0]
    return PublicKey(b"", algorithm, bits, "")


def as_asked(wishes: CSRWishes, asked: PublicKey) -> PublicKey:
    """
    Return the key to make for who wants nothing else than what he asks for.

    :param wishes: what the profile says; it decides what is not asked for.
    :raises UnsupportedAlgorithm: no such key can be made.
    """
    if not asked.algorithm:
        wish = wished_key(wishes, None)
        return evolve(wish, fingerprint=asked.fingerprint)
    if asked.algorithm == "rsa" and not asked.bits:
        low, high = wishes.rsa_bits
        sizes = (bits for bits in RSA_BITS if low <= bits <= high)
        asked = evolve(asked, bits=next(sizes, 0))
    if asked.algorithm not in _MAKERS and asked.bits not in RSA_BITS:
        raise UnsupportedAlgorithm("no key of this kind is made here")
    return asked


def make_key(algorithm: str, bits: int) -> MadeKey:
    """
    Make a key pair, here and now.

    :param algorithm: as in :class:`~trstctl.model.PublicKey`.
    :param bits: one of :data:`RSA_BITS`, for ``rsa``.
    :raises UnsupportedAlgorithm: no such key can be made.
    """
    if algorithm == "rsa" and bits in RSA_BITS:
        key: Any = rsa.generate_private_key(65537, bits)
    elif algorithm in _MAKERS:
        key = _MAKERS[algorithm]()
    else:
        raise UnsupportedAlgorithm("no key of this kind is made here")
    spki = key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    private = key.private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    return MadeKey(private, describe_public_key(spki))


@implementer(IKeyMaker)
class KeyMaker:
    """
    Makes keys in threads.

    :param elsewhere: runs a function in a thread.
    """

    def __init__(self, elsewhere: Callable[..., Awaitable[MadeKey]]) -> None:
        self._elsewhere = elsewhere
        self._places = DeferredSemaphore(_AT_ONCE)
        self._waiting: Counter[str] = Counter()

    def make(
        self, algorithm: str, bits: int = 0, tenant_id: str = ""
    ) -> Deferred[MadeKey]:
        """See :meth:`trstctl.interfaces.IKeyMaker.make`."""
        if (
            self._waiting.total() >= _WAITING
            or self._waiting[tenant_id] >= _OF_ONE
        ):
            return fail(Unavailable("too many keys are being made"))
        return Deferred.fromCoroutine(self._make(algorithm, bits, tenant_id))

    async def _make(
        self, algorithm: str, bits: int, tenant_id: str
    ) -> MadeKey:
        """Make a key, in its turn."""
        self._waiting[tenant_id] += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= Counter((tenant_id,))
        told: Deferred[MadeKey] = Deferred()

        def ended(result: Any) -> None:
            self._places.release()
            told.callback(result)  # a Failure makes it an errback

        # Who leaves cancels the waiting only: the thread goes on.
        Deferred.fromCoroutine(self._run(algorithm, bits)).addBoth(ended)
        return await told

    async def _run(self, algorithm: str, bits: int) -> MadeKey:
        """Make a key in a thread."""
        return await self._elsewhere(make_key, algorithm, bits)
