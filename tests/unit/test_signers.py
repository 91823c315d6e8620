# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.backends.signers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from trstctl.backends.signers import (
    LARGE,
    InlineSigner,
    ThreadSigner,
    make_signer,
)
from trstctl.ca.ceremony import KEY_ALGORITHMS, generate_key
from trstctl.errors import Unavailable
from trstctl.interfaces import ISigner
from trstctl.pkix.algorithms import (
    algorithm_for,
    describe_public_key,
    verify,
)


class HeldPool:
    """A thread pool without threads: work waits until it is told to run."""

    def __init__(self) -> None:
        self.joined = False
        self.waiting: list[Callable[[], None]] = []

    def callInThreadWithCallback(
        self, on_result: Any, function: Any, *args: Any, **kwargs: Any
    ) -> None:
        def work() -> None:
            try:
                result = function(*args, **kwargs)
            except BaseException:  # noqa: BLE001 (as the real pool does)
                on_result(False, Failure())
            else:
                on_result(True, result)

        self.waiting.append(work)

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class SameThreadReactor:
    """Delivers at once what a thread hands over."""

    def callFromThread(self, function: Any, *args: Any) -> None:
        function(*args)


class Panic(BaseException):
    """What a panic in compiled code looks like: not an Exception."""


class FaultyKey(ec.EllipticCurvePrivateKey):
    """A key that fails when it signs, with its secret in the text."""

    SECRET = "5ec4e7d00d"

    def __init__(self, fault: type[BaseException]) -> None:
        self.real = ec.generate_private_key(ec.SECP256R1())
        self.fault = fault

    def sign(self, data, signature_algorithm):
        raise self.fault(f"private value {self.SECRET}")

    def public_key(self):
        return self.real.public_key()

    @property
    def curve(self):
        return self.real.curve

    @property
    def key_size(self):
        return 256

    def exchange(self, algorithm, peer_public_key):
        raise NotImplementedError

    def private_numbers(self):
        raise NotImplementedError

    def private_bytes(self, *args):
        raise NotImplementedError

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self


@pytest.fixture
def logged():
    """The events that were logged."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    """One RSA key for all tests: making one is slow."""
    return rsa.generate_private_key(65537, 2048)


def outcome(deferred: Deferred[bytes]) -> Any:
    """Return what a Deferred has fired with, and take its failure."""
    fired: list[Any] = []
    deferred.addBoth(fired.append)
    return fired[0] if fired else None


class MakeSignerTests:
    """The key decides where it signs."""

    @pytest.mark.parametrize("algorithm", KEY_ALGORITHMS)
    def test_each_algorithm_signs_what_verifies(self, algorithm) -> None:
        """Every key that can be generated signs, through its signer."""
        pool = HeldPool()
        key = generate_key(algorithm)
        signer = make_signer(key, pool, SameThreadReactor())
        verifyObject(ISigner, signer)
        spki = key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        assert spki == signer.public_key()
        name = algorithm_for(describe_public_key(spki))
        signing = signer.sign(b"tbs", name)
        pool.run()
        assert verify(spki, name, outcome(signing), b"tbs")

    def test_only_slow_keys_go_to_the_pool(self) -> None:
        """Curves sign at once; RSA and ML-DSA do not hold up the reactor."""
        expected = {
            "p-256": InlineSigner,
            "p-384": InlineSigner,
            "ed25519": InlineSigner,
            "rsa-2048": ThreadSigner,
            "ml-dsa-65": ThreadSigner,
        }
        assert expected == {
            algorithm: type(
                make_signer(
                    generate_key(algorithm), HeldPool(), SameThreadReactor()
                )
            )
            for algorithm in expected
        }


class FaultTests:
    """Whatever goes wrong is one error, and the log tells no secret."""

    @pytest.mark.parametrize("fault", [ValueError, MemoryError, Panic])
    @pytest.mark.parametrize("threaded", [False, True])
    def test_fault_is_unavailable(self, fault, threaded, logged) -> None:
        """A failing key is ``Unavailable``, logged by its kind (R-14)."""
        pool = HeldPool()
        key = FaultyKey(fault)
        signer = (
            ThreadSigner(key, pool, SameThreadReactor())
            if threaded
            else InlineSigner(key)
        )
        signing = signer.sign(b"tbs", "ecdsa-with-sha256")
        pool.run()
        failure = outcome(signing)
        assert Unavailable is failure.type
        assert None is failure.value.__context__
        (event,) = logged
        assert fault.__name__ in event["fault"]
        assert FaultyKey.SECRET not in repr(logged)
        assert FaultyKey.SECRET not in failure.getTraceback()

    @pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit])
    def test_a_call_to_stop_is_not_swallowed(self, fault) -> None:
        """In the reactor's thread, an interrupt goes through."""
        with pytest.raises(fault):
            InlineSigner(FaultyKey(fault)).sign(b"tbs", "ecdsa-with-sha256")

    def test_wrong_algorithm_is_unavailable(self, logged) -> None:
        """An algorithm of another key makes no signature."""
        signer = InlineSigner(generate_key())
        failure = outcome(signer.sign(b"tbs", "sha256-with-rsa"))
        assert Unavailable is failure.type
        assert 1 == len(logged)

    def test_repr_shows_no_key(self, rsa_key) -> None:
        """Not even the signer's own text holds the key."""
        secret = rsa_key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ).splitlines()[5]
        signer = make_signer(rsa_key, HeldPool(), SameThreadReactor())
        assert secret.decode() not in repr(signer) + repr(vars(signer))


class ThreadSignerTests:
    """The pool is bounded, and a stopped one is not waited for."""

    def test_saturated_is_unavailable(self, rsa_key) -> None:
        """At the limit a signature is refused at once (R-12)."""
        pool = HeldPool()
        signer = make_signer(rsa_key, pool, SameThreadReactor(), limit=2)
        taken = [signer.sign(b"tbs", "sha256-with-rsa") for _ in range(2)]
        refused = outcome(signer.sign(b"tbs", "sha256-with-rsa"))
        assert Unavailable is refused.type
        assert 2 == len(pool.waiting)
        pool.run()
        assert all(outcome(one) for one in taken)

    @pytest.mark.parametrize("algorithm", ["sha256-with-rsa", "ed25519"])
    def test_done_makes_room(self, rsa_key, algorithm, logged) -> None:
        """Success and failure both give their place back."""
        pool = HeldPool()
        signer = make_signer(rsa_key, pool, SameThreadReactor(), limit=1)
        outcome(signer.sign(b"tbs", algorithm))
        pool.run()
        again = signer.sign(b"tbs", "sha256-with-rsa")
        pool.run()
        assert isinstance(outcome(again), bytes)

    def test_cancelled_work_still_counts(self, rsa_key) -> None:
        """A thread that nobody waits for is busy all the same (R-12)."""
        pool = HeldPool()
        signer = make_signer(rsa_key, pool, SameThreadReactor(), limit=1)
        abandoned = signer.sign(b"tbs", "sha256-with-rsa")
        abandoned.cancel()
        outcome(abandoned)
        refused = outcome(signer.sign(b"tbs", "sha256-with-rsa"))
        assert Unavailable is refused.type
        pool.run()
        again = signer.sign(b"tbs", "sha256-with-rsa")
        pool.run()
        assert isinstance(outcome(again), bytes)

    def test_stopped_pool_is_unavailable(self, rsa_key) -> None:
        """A pool that was stopped would never answer."""
        pool = HeldPool()
        signer = make_signer(rsa_key, pool, SameThreadReactor())
        pool.joined = True
        refused = outcome(signer.sign(b"tbs", "sha256-with-rsa"))
        assert Unavailable is refused.type
        assert [] == pool.waiting


class LargeTests:
    """What is long is signed in the pool, whatever the key."""

    @pytest.mark.parametrize("more", [0, 1])
    def test_by_size(self, more: int) -> None:
        """Up to 64 KiB at once, beyond in a thread."""
        key = generate_key("p-256")
        pool = HeldPool()
        signer = make_signer(key, pool, SameThreadReactor())  # type: ignore[arg-type]
        tbs = bytes(LARGE + more)

        signatures: list[bytes] = []
        signer.sign(tbs, "ecdsa-with-sha256").addCallback(signatures.append)

        assert more == len(pool.waiting)
        pool.run()
        (signature,) = signatures
        assert verify(signer.public_key(), "ecdsa-with-sha256", signature, tbs)

    def test_without_a_pool(self) -> None:
        """A signer that has none signs everything at once."""
        signer = InlineSigner(generate_key("p-256"))
        signed = signer.sign(bytes(LARGE + 1), "ecdsa-with-sha256")
        assert signed.called
