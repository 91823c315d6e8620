# SPDX-License-Identifier: MIT
"""Challenges that others judge: who has to wait, and who never does."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from mdm_samples import asking
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from trstctl.backends import attempts as module
from trstctl.backends.attempts import Attempts
from trstctl.errors import ChallengeRejected, Throttled, Unavailable
from trstctl.interfaces import IAttempts
from trstctl.model import EnrollmentRequest


class Bench:
    """
    Somebody who judges, behind the bounds.

    :ivar asked: how often he was.
    """

    def __init__(self, failures: int = 10, calls: int = 600) -> None:
        self.clock = Clock()
        self.attempts: Any = Attempts(self.clock, failures, calls)
        self.asked = 0

    def ask(
        self,
        challenge: str = "right",
        peer: str = "192.0.2.1",
        error: Exception | None = None,
        **request: Any,
    ) -> None:
        """Bring a challenge; only ``right`` is."""
        wanted = self.request(peer, **request)
        with self.attempts.judging(wanted, challenge):
            self.asked += 1
            if error is not None:
                raise error
            if challenge != "right":
                raise ChallengeRejected

    @staticmethod
    def request(
        peer: str, device: str = "phone-1", transaction: str = "T1"
    ) -> EnrollmentRequest:
        """Return a request, each with a key of its own."""
        return evolve(asking(device, transaction=transaction), peer=peer)

    def guess(self, times: int, **request: Any) -> None:
        """Bring wrong challenges that are judged."""
        for _ in range(times):
            with pytest.raises(ChallengeRejected):
                self.ask("wrong", **request)

    def waits(self, challenge: str = "right", **request: Any) -> int:
        """Bring one that nobody is asked about; return for how long."""
        before = self.asked
        with pytest.raises(Throttled) as caught:
            self.ask(challenge, **request)
        assert before == self.asked
        return caught.value.retry_after


class WrongTests:
    """T-1: wrong ones are counted."""

    def test_provides_the_interface(self) -> None:
        """As protocols are promised it."""
        assert verifyObject(IAttempts, Bench().attempts)

    def test_from_one_address(self) -> None:
        """Ten a minute, whatever device they name; then nobody is asked."""
        bench = Bench()
        for number in range(10):
            bench.guess(1, device=f"d{number}", transaction=f"t{number}")
        assert 6 == bench.waits("wrong", device="d", transaction="t")
        bench.clock.advance(6)
        bench.guess(1, device="d", transaction="t")

    def test_from_one_network(self) -> None:
        """Whoever has one address of an IPv6 /64 has all of it."""
        bench = Bench()
        for number in range(10):
            bench.guess(1, peer=f"2001:db8::{number:x}", device=f"d{number}")
        bench.waits("wrong", peer="2001:db8::ffff", device="d")
        bench.guess(1, peer="2001:db8:0:1::1", device="d", transaction="t")

    @pytest.mark.parametrize(
        "same", [{"device": "phone-1"}, {"transaction": "T1"}]
    )
    def test_for_one_device(self, same: dict[str, str]) -> None:
        """From several addresses, for one device or transaction: once an
        address has failed itself, others' failures count, too."""
        bench = Bench()
        for number in range(4):
            for again in range(3):
                own = {"device": f"d{number}{again}", "transaction": ""}
                name = f"192.0.2.{number}"
                with pytest.raises((ChallengeRejected, Throttled)):
                    bench.ask("wrong", peer=name, **{**own, **same})
        assert 10 <= bench.asked <= 12
        bench.waits("wrong", peer="192.0.2.3", **{"device": "x", **same})

    def test_judged_here(self) -> None:
        """What is known to be wrong without asking counts as well."""
        bench = Bench(failures=2)
        request = bench.request("192.0.2.1")
        bench.attempts.failed(request)
        bench.attempts.failed(request)
        with pytest.raises(Throttled):
            bench.attempts.failed(request)
        bench.waits()

    def test_nobody_answers(self) -> None:
        """That says nothing about the challenge."""
        bench = Bench(failures=1)
        for _ in range(3):
            with pytest.raises(Unavailable):
                bench.ask(error=Unavailable())
        bench.ask()


class HonestTests:
    """T-2: nobody is locked out by what others do."""

    def test_guesses_in_its_name(self) -> None:
        """From elsewhere: the device itself is looked at."""
        bench = Bench()
        for number in range(20):
            with pytest.raises(ChallengeRejected):
                bench.ask("wrong", peer=f"198.51.100.{number}")
        bench.guess(2, peer="192.0.2.1")
        bench.ask(peer="192.0.2.1")

    def test_again_from_a_burdened_address(self) -> None:
        """Who was let in, and lost the answer, is let in again."""
        bench = Bench()
        request = bench.request("192.0.2.1")
        with bench.attempts.judging(request, "right"):
            pass
        bench.guess(10)
        bench.waits()
        for _ in range(2):
            with bench.attempts.judging(request, "right"):
                pass

    def test_known_for_a_while(self) -> None:
        """Then it waits as others do; so does another key or challenge."""
        bench = Bench(failures=1)
        request = bench.request("192.0.2.1")
        with bench.attempts.judging(request, "right"):
            pass
        bench.guess(1, peer="192.0.2.1")
        bench.waits()
        with pytest.raises(Throttled):
            bench.attempts.judging(request, "other").__enter__()
        bench.clock.advance(600)
        bench.guess(1, peer="192.0.2.1")
        with pytest.raises(Throttled):
            bench.attempts.judging(request, "right").__enter__()

    def test_no_longer_let_in(self) -> None:
        """What is refused now is known no more."""
        bench = Bench(failures=1)
        request = bench.request("192.0.2.1")
        with bench.attempts.judging(request, "right"):
            pass
        with (
            pytest.raises(ChallengeRejected),
            bench.attempts.judging(request, "right"),
        ):
            raise ChallengeRejected
        with pytest.raises(Throttled):
            bench.attempts.judging(request, "right").__enter__()

    def test_memory_is_bounded(self, monkeypatch: Any) -> None:
        """The oldest is forgotten first."""
        monkeypatch.setattr(module, "_KNOWN", 2)
        bench = Bench()
        for _ in range(3):
            bench.ask()
        assert 2 == len(bench.attempts._known)


class QuestionTests:
    """T-3: so many questions for one address in a time."""

    def test_right_ones_count(self) -> None:
        """A fleet behind one address waits, and no other one."""
        bench = Bench(calls=5)
        for _ in range(5):
            bench.ask()
        assert 12 == bench.waits()
        bench.ask(peer="192.0.2.2")
        bench.clock.advance(12)
        bench.ask()

    def test_whatever_is_tried(self) -> None:
        """In ten minutes no more than the burst and ten times the rate."""
        bench = Bench(calls=20)
        for number in range(6000):
            with pytest.raises((ChallengeRejected, Throttled, Unavailable)):
                bench.ask(
                    "wrong",
                    device=f"d{number % 7}",
                    error=Unavailable() if number % 2 else None,
                )
            bench.clock.advance(0.1)
        assert bench.asked <= 20 + 10 * 20

    def test_without_a_challenge(self) -> None:
        """Other questions count, too."""
        bench = Bench(calls=1)
        bench.attempts.ask("192.0.2.1")
        with pytest.raises(Throttled):
            bench.attempts.ask("192.0.2.1")
        bench.waits()
