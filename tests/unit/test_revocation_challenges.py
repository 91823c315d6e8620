# SPDX-License-Identifier: MIT
"""Passwords that revoke a certificate (RFC 7894, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from trstctl.backends.passwords import DECOY, check_password
from trstctl.errors import ChallengeRejected, Throttled, TrstctlError
from trstctl.interfaces import IRevocationChallenges
from trstctl.revocation_challenges import RevocationChallenges
from trstctl.testing import OTHER_TENANT, TENANT, result_of

PEER = "192.0.2.1"

_Error = TypeVar("_Error", bound=TrstctlError)


def failure_of(deferred: Deferred[Any], kind: type[_Error]) -> _Error:
    """Return the error that a Deferred has failed with."""
    with pytest.raises(kind) as caught:
        result_of(deferred)
    return caught.value


class Bench:
    """Revocation challenges at little cost, and what they had hashed."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.hashed: list[tuple[str, ...]] = []
        self.challenges = RevocationChallenges(
            self.clock, self.run, **{"log2_n": 1, **options}
        )

    def run(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Run it here and now, and remember what it was."""
        self.hashed.append((function.__name__, *map(str, args)))
        return execute(function, *args)

    def kept(
        self, challenge: str = "s3cret", tenant_id: str = TENANT, **how: Any
    ) -> str:
        """Return what is kept of a challenge."""
        request = how.get("request", b"request")
        verifier: str = result_of(
            self.challenges.verifier(challenge, tenant_id, request)
        )
        return verifier

    def prove(
        self,
        verifier: str,
        secret: bytes = b"s3cret",
        serial: str = "7",
        peer: str = PEER,
        tenant_id: str = TENANT,
    ) -> Deferred[None]:
        """Prove a secret."""
        return self.challenges.prove(tenant_id, serial, verifier, secret, peer)


@pytest.fixture(name="bench")
def _bench() -> Bench:
    """Return a bench."""
    return Bench()


class VerifierTests:
    """What is kept."""

    def test_interface(self, bench: Bench) -> None:
        """All that the interface demands is there."""
        assert verifyObject(IRevocationChallenges, bench.challenges)

    def test_slow_and_salted(self) -> None:
        """RC-1: scrypt, at the cost of a password, elsewhere."""
        bench = Bench(log2_n=15)
        kept = bench.kept("s3cret")
        assert kept.startswith("scrypt$15$")
        assert "s3cret" not in kept
        assert check_password("s3cret", kept)
        assert ["scrypt_verifier"] == [one[0] for one in bench.hashed]

    def test_salt(self, bench: Bench) -> None:
        """RC-1: another for each request and tenant; a repetition makes the
        same."""
        kept = bench.kept()
        assert kept == bench.kept()
        salts = {
            one.split("$")[2]
            for one in (
                kept,
                bench.kept(request=b"other"),
                bench.kept(tenant_id=OTHER_TENANT),
            )
        }
        assert 3 == len(salts)
        assert kept != bench.kept("S3cret")


class ProveTests:
    """Whether a secret is right."""

    @pytest.mark.parametrize("challenge", ["s3cret", "\xfc 1", "x" * 255])
    def test_right(self, bench: Bench, challenge: str) -> None:
        """RC-4: the octets are the text's, in UTF-8; as often as it likes."""
        kept = bench.kept(challenge)
        for _ in range(20):
            result_of(bench.prove(kept, challenge.encode()))

    @pytest.mark.parametrize(
        "secret", [b"", b"S3cret", b"s3cret ", b"s3cret\xff", b"s3cre"]
    )
    def test_wrong(self, bench: Bench, secret: bytes) -> None:
        """RC-4: caseExactMatch; what is no text is wrong."""
        kept = bench.kept()
        failure_of(bench.prove(kept, secret), ChallengeRejected)

    def test_unknown_equals_wrong(self, bench: Bench) -> None:
        """RC-2: where nothing was kept, the same is hashed, at the same
        cost."""
        kept = bench.kept()
        bench.hashed.clear()
        wrong = failure_of(bench.prove(kept, b"wrong"), ChallengeRejected)
        unknown = failure_of(bench.prove("", b"wrong"), ChallengeRejected)
        assert (wrong.detail, wrong.facts) == (unknown.detail, unknown.facts)
        (first, *_), (second, _, decoy) = bench.hashed
        assert first == second == "check_password"
        assert kept.split("$")[:2] == decoy.split("$")[:2]
        assert len(kept) == len(decoy)

    def test_nothing_is_right(self, bench: Bench) -> None:
        """RC-2: not even what would hash to the decoy."""
        kept = bench.kept()
        bench.challenges._run_slowly = lambda *_: succeed(True)
        result_of(bench.prove(kept))
        failure_of(bench.prove(""), ChallengeRejected)

    def test_decoy_costs_what_a_password_does(self) -> None:
        """RC-2: by default, too."""
        bench = Bench()
        challenges = RevocationChallenges(bench.clock, bench.run)
        failure_of(
            challenges.prove(TENANT, "7", "", b"x", PEER), ChallengeRejected
        )
        assert DECOY == bench.hashed[0][2]


class ThrottleTests:
    """RC-3: guessing."""

    def guess(self, bench: Bench, **how: Any) -> None:
        """Guess ten times."""
        for _ in range(10):
            failure_of(bench.prove("", b"x", **how), ChallengeRejected)

    def test_by_address(self, bench: Bench) -> None:
        """Whoever failed too often waits, whatever the certificate; nothing
        is hashed for him."""
        for number in range(10):
            failure_of(
                bench.prove("", b"x", serial=f"{number}"), ChallengeRejected
            )
        bench.hashed.clear()
        error = failure_of(bench.prove("", b"x", serial="99"), Throttled)
        assert 0 < error.retry_after <= 60
        assert [] == bench.hashed
        result_of(bench.prove(bench.kept(), peer="198.51.100.1"))
        bench.clock.advance(60)
        failure_of(bench.prove("", b"x"), ChallengeRejected)

    def test_by_certificate(self, bench: Bench) -> None:
        """From many addresses, too; the right one has to wait, and a
        certificate of another tenant or serial has not."""
        for number in range(10):
            failure_of(
                bench.prove("", b"x", peer=f"192.0.2.{number}"),
                ChallengeRejected,
            )
        kept = bench.kept()
        failure_of(bench.prove(kept, peer="198.51.100.1"), Throttled)
        result_of(bench.prove(kept, peer="198.51.100.1", serial="8"))
        result_of(
            bench.prove(kept, peer="198.51.100.1", tenant_id=OTHER_TENANT)
        )

    def test_long_serial(self, bench: Bench) -> None:
        """What the throttle keeps of a serial is bounded."""
        self.guess(bench, serial="7" * 30_000)
        kept = max(map(len, bench.challenges._throttle._spent))
        assert kept < 200

    def test_at_once(self, bench: Bench) -> None:
        """Guesses made at once gain nothing: the right one among them is
        looked at only while there were few wrong ones."""
        kept = bench.kept()
        waiting = self.begun(bench)
        wrong = [bench.prove(kept, b"%d" % one) for one in range(10)]
        right = bench.prove(kept)
        for turn in waiting:
            turn.callback(None)
        for one in wrong:
            failure_of(one, ChallengeRejected)
        failure_of(right, Throttled)

    def begun(self, bench: Bench) -> list[Deferred[Any]]:
        """Let hashes wait, and return those that were begun."""
        waiting: list[Deferred[Any]] = []

        def later(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
            turn: Deferred[Any] = Deferred()
            waiting.append(turn)
            return turn.addCallback(lambda _: function(*args))

        bench.challenges._run_slowly = later
        return waiting

    def test_hashed_at_once(self, bench: Bench) -> None:
        """No more than may be wrong are hashed at once, and the right ones
        among them are not held against anybody."""
        kept = bench.kept()
        waiting = self.begun(bench)
        proofs = [bench.prove(kept) for _ in range(50)]
        assert 10 == len(waiting)
        for one in proofs[10:]:
            failure_of(one, Throttled)
        for turn in waiting[:]:
            turn.callback(None)
        for one in proofs[:10]:
            result_of(one)
        assert 0 == bench.challenges._throttle.wait(f"peer {PEER}")
        again = [bench.prove(kept) for _ in range(10)]
        assert 20 == len(waiting)
        assert not any(one.called for one in again)

    def test_left(self, bench: Bench) -> None:
        """Whoever leaves without his answer has guessed all the same: else
        guesses would keep the processor busy, and none would count."""
        kept = bench.kept()
        waiting = self.begun(bench)
        for _ in range(10):
            proof = bench.prove(kept, b"x")
            proof.addErrback(lambda _: None)
            proof.cancel()
        assert 10 == len(waiting)
        failure_of(bench.prove(kept, b"x"), Throttled)
        assert 10 == len(waiting)

    def test_allowed_failures(self) -> None:
        """How many is a setting."""
        bench = Bench(failures=1)
        failure_of(bench.prove("", b"x"), ChallengeRejected)
        failure_of(bench.prove("", b"x"), Throttled)
