# SPDX-License-Identifier: MIT
"""Keys for devices that cannot make their own: invariants K-1 and K-2."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
)
from twisted.internet.defer import CancelledError, Deferred, execute
from zope.interface.verify import verifyObject

from trstctl.errors import Unavailable, UnsupportedAlgorithm
from trstctl.interfaces import IKeyMaker
from trstctl.key_maker import KeyMaker, make_key, wished_key
from trstctl.model import CSRWishes, MadeKey, PublicKey
from trstctl.testing import result_of

EVERY = CSRWishes(
    algorithms=("ml-dsa-44", "p-384", "rsa", "p-256", "ed25519"),
    rsa_bits=(2048, 4096),
)


def asked(algorithm: str, bits: int = 0) -> PublicKey:
    """Return a key as a device asks for one."""
    return PublicKey(b"spki", algorithm, bits, "f")


class MakeKeyTests:
    """A key pair, here and now."""

    @pytest.mark.parametrize(
        ("algorithm", "bits"),
        [
            ("p-256", 256),
            ("p-384", 384),
            ("p-521", 521),
            ("ed25519", 0),
            ("ed448", 0),
            ("rsa", 2048),
        ],
    )
    def test_pair(self, algorithm: str, bits: int) -> None:
        """RFC 5208: a PrivateKeyInfo, and the public key that is its own."""
        made = make_key(algorithm, bits)
        key: Any = load_der_private_key(made.private_key, None)
        spki = key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        assert spki == made.public_key.spki
        assert (algorithm, bits) == (
            made.public_key.algorithm,
            made.public_key.bits,
        )

    def test_another_each_time(self) -> None:
        """Nobody gets a key that another has."""
        first, second = make_key("p-256", 0), make_key("p-256", 0)
        assert first.public_key != second.public_key

    def test_never_shown(self) -> None:
        """The private key is left out of what a log could show."""
        made = make_key("ed25519", 0)
        assert "private_key" not in repr(made)

    @pytest.mark.parametrize(
        ("algorithm", "bits"),
        [
            ("rsa", 0),
            ("rsa", 1024),
            ("rsa", 2049),
            ("rsa", 8192),
            ("ml-dsa-44", 0),
            ("other:1.2.3", 0),
            ("", 0),
        ],
    )
    def test_no_such_key(self, algorithm: str, bits: int) -> None:
        """Only listed types and sizes."""
        with pytest.raises(UnsupportedAlgorithm):
            make_key(algorithm, bits)


class WishedKeyTests:
    """Which key to make."""

    @pytest.mark.parametrize(
        ("algorithm", "bits"),
        [
            ("rsa", 2048),
            ("rsa", 3072),
            ("rsa", 4096),
            ("p-256", 256),
            ("p-384", 384),
            ("ed25519", 0),
        ],
    )
    def test_as_the_device_asks(self, algorithm: str, bits: int) -> None:
        """Its type and size, where the profile allows them."""
        found = wished_key(EVERY, asked(algorithm, bits))
        assert PublicKey(b"", algorithm, bits, "") == found

    @pytest.mark.parametrize(
        "key",
        [
            None,
            asked("p-521", 521),
            asked("rsa", 1024),
            asked("rsa", 2056),
            asked("ml-dsa-44"),
            asked("other:dsa"),
        ],
    )
    def test_as_the_profile_has_it(self, key: PublicKey | None) -> None:
        """Else the first that the profile has and that can be made."""
        assert "p-384" == wished_key(EVERY, key).algorithm

    @pytest.mark.parametrize(
        ("bounds", "bits"),
        [((2048, 8192), 2048), ((2049, 4096), 3072), ((4096, 8192), 4096)],
    )
    def test_smallest_rsa(self, bounds: tuple[int, int], bits: int) -> None:
        """As small as the profile allows."""
        wishes = CSRWishes(algorithms=("rsa",), rsa_bits=bounds)
        assert ("rsa", bits) == (
            wished_key(wishes, asked("p-256", 256)).algorithm,
            wished_key(wishes, asked("p-256", 256)).bits,
        )

    def test_one_size(self) -> None:
        """A profile names its one size with the algorithm."""
        wishes = CSRWishes(algorithms=("rsa-3072",), rsa_bits=(3072, 3072))
        assert 3072 == wished_key(wishes, asked("rsa", 2048)).bits

    @pytest.mark.parametrize(
        "wishes",
        [
            CSRWishes(),
            CSRWishes(algorithms=("ml-dsa-65",)),
            CSRWishes(algorithms=("rsa",), rsa_bits=(5000, 8192)),
        ],
    )
    def test_none(self, wishes: CSRWishes) -> None:
        """A profile with no key that is made here."""
        with pytest.raises(UnsupportedAlgorithm, match="made here"):
            wished_key(wishes, asked("p-256", 256))


class KeyMakerTests:
    """In threads, and bounded."""

    def test_interface(self) -> None:
        """It makes what the seam promises."""
        maker: Any = KeyMaker(execute)
        assert verifyObject(IKeyMaker, maker)
        made = result_of(maker.make("p-256"))
        assert isinstance(made, MadeKey)

    def test_elsewhere(self) -> None:
        """K-1: in another thread, one at a time."""
        begun: list[tuple[Any, ...]] = []
        waiting: list[Deferred[Any]] = []

        def elsewhere(*args: Any) -> Any:
            begun.append(args)
            waiting.append(Deferred())
            return waiting[-1]

        maker = KeyMaker(elsewhere)
        first, second = maker.make("rsa", 2048), maker.make("p-256")
        assert [(make_key, "rsa", 2048)] == begun
        waiting[0].callback("a key")
        assert "a key" == result_of(first)
        assert (make_key, "p-256", 0) == begun[1]
        waiting[1].callback("another")
        assert "another" == result_of(second)

    def test_failing(self) -> None:
        """A failure is told, and frees the place."""
        maker = KeyMaker(execute)
        with pytest.raises(UnsupportedAlgorithm):
            result_of(maker.make("dsa"))
        assert result_of(maker.make("ed25519"))

    def test_left(self) -> None:
        """K-2: no thread can be stopped, so that who leaves keeps the place
        until the key is made; else coming and going would take them all."""
        begun: list[Deferred[Any]] = []

        def elsewhere(*_: Any) -> Any:
            begun.append(Deferred())
            return begun[-1]

        maker = KeyMaker(elsewhere)
        first, second = maker.make("rsa", 4096), maker.make("p-256")
        first.addErrback(lambda reason: reason.trap(CancelledError))
        first.cancel()
        assert 1 == len(begun)
        begun[0].errback(ValueError("nobody is told"))
        assert 2 == len(begun)
        begun[1].callback("a key")
        assert "a key" == result_of(second)

    def test_fair(self) -> None:
        """K-2: no tenant takes the places of all others; who leaves the line
        makes room."""
        waiting: list[Deferred[Any]] = []

        def elsewhere(*_: Any) -> Any:
            waiting.append(Deferred())
            return waiting[-1]

        maker = KeyMaker(elsewhere)
        begun = [maker.make("rsa", 4096, "a") for _ in range(9)]
        with pytest.raises(Unavailable):
            result_of(maker.make("p-256", 0, "a"))
        begun.append(maker.make("p-256", 0, "b"))
        begun[5].addErrback(lambda _: None)
        begun[5].cancel()
        begun.append(maker.make("p-256", 0, "a"))
        while waiting:
            waiting.pop(0).callback("a key")
        assert ["a key"] * 10 == [
            result_of(one) for at, one in enumerate(begun) if at != 5
        ]

    def test_bounded(self) -> None:
        """K-2: who comes when too many wait is told to come back."""
        waiting: list[Deferred[Any]] = []

        def elsewhere(*_: Any) -> Any:
            waiting.append(Deferred())
            return waiting[-1]

        maker = KeyMaker(elsewhere)
        begun = [maker.make("p-256", 0, f"{at % 9}") for at in range(33)]
        with pytest.raises(Unavailable):
            result_of(maker.make("p-256"))
        begun[5].addErrback(lambda _: None)
        begun[5].cancel()
        begun.append(maker.make("p-256"))
        while waiting:
            waiting.pop(0).callback("a key")
        assert ["a key"] * 33 == [
            result_of(one) for at, one in enumerate(begun) if at != 5
        ]
