# SPDX-License-Identifier: MIT
"""The signed webhook: what it sends, what it takes for a yes."""

from __future__ import annotations

import base64
import hmac
from typing import Any

import pytest
from mdm_samples import asking, content_of, issued_as, reply
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from zope.interface.verify import verifyObject

from trstctl.backends.attempts import Attempts
from trstctl.errors import (
    ChallengeRejected,
    PolicyViolation,
    Throttled,
    Unavailable,
)
from trstctl.interfaces import IChallengeGate
from trstctl.model import OutboundReply, Principal
from trstctl.protocols.scep.gate_settings import WebhookSettings
from trstctl.protocols.scep.webhook import WebhookGate
from trstctl.testing import EPOCH, TENANT, FakeOutbound, result_of
from trstctl.testing.outbound import nobody

KEY = b"0123456789abcdef"
YES = {"allow": True, "device": "phone-1"}


class Bench:
    """A gate, and whoever answers it."""

    def __init__(self, answer: Any = YES, notify: str = "none") -> None:
        self.outbound = FakeOutbound(lambda _: reply(answer))
        self.clock = Clock()
        attempts: Any = Attempts(self.clock)
        settings = WebhookSettings.model_validate(
            {
                "url": "https://hook.example/scep",
                "key": "env:HOOK_KEY",
                "key_id": "2026",
                "notify": notify,
            }
        )
        self.gate: Any = WebhookGate(
            settings,
            KEY,
            self.outbound,
            lambda: EPOCH,  # type: ignore[arg-type]
            attempts,
        )

    def admit(self, challenge: str = "secret") -> Principal:
        """Ask."""
        principal: Principal = result_of(
            self.gate.admit(asking(names=("dns:a.example",)), challenge, EPOCH)
        )
        return principal

    def issued(self) -> None:
        """Tell of a certificate."""
        principal = Principal("mdm", "webhook:phone-1", TENANT)
        result_of(self.gate.issued(asking(), principal, issued_as(b"DER")))

    def refused(self) -> None:
        """Tell of a refusal."""
        error = PolicyViolation("device", "keys", "no")
        result_of(self.gate.refused(asking(), error))


class RequestTests:
    """What is sent."""

    def test_provides_the_interface(self) -> None:
        """It is a gate."""
        assert verifyObject(IChallengeGate, Bench().gate)

    def test_everything_is_said(self) -> None:
        """Whoever decides gets all that is known."""
        bench = Bench()
        bench.admit()
        (call,) = bench.outbound.calls
        content = content_of(call)
        csr = base64.b64decode(content.pop("csr"))
        assert csr.startswith(b"\x30")
        assert {
            "event": "request",
            "timestamp": "2026-06-01T12:00:00Z",
            "tenant": TENANT,
            "endpoint": "phones",
            "profile": "device",
            "transaction_id": "T1",
            "subject": "CN=phone-1",
            "names": ["dns:a.example"],
            "peer": "192.0.2.1",
            "request_id": "request-1",
            "challenge": "secret",
        } == content
        assert "https://hook.example/scep" == call.url
        assert 1 == call.tries

    def test_body_is_signed_as_it_is(self) -> None:
        """The HMAC is over the exact octets, under the key that is named."""
        bench = Bench()
        bench.admit()
        (call,) = bench.outbound.calls
        assert call.body is not None
        mac = hmac.new(KEY, call.body, "sha256").hexdigest()
        assert f"sha256={mac}" == call.headers["Trstctl-Signature"]
        assert "2026" == call.headers["Trstctl-Key-Id"]
        assert "secret" not in repr(call)


class BoundTests:
    """How often it is asked."""

    def test_denied_ones_wait(self) -> None:
        """Ten a minute from one address; then nobody is asked."""
        bench = Bench({"allow": False})
        for _ in range(10):
            with pytest.raises(ChallengeRejected):
                bench.admit()
        with pytest.raises(Throttled):
            bench.admit()
        assert 10 == len(bench.outbound.calls)
        bench.clock.advance(6)
        with pytest.raises(ChallengeRejected):
            bench.admit()


class AnswerTests:
    """What is taken for a yes, and nothing else."""

    def test_yes_names_the_device(self) -> None:
        """A device that is allowed has a name, and is bound to nothing."""
        assert (
            Principal("mdm", "webhook:phone-1", TENANT, profiles=("device",))
            == Bench().admit()
        )

    def test_yes_may_bind(self) -> None:
        """Subject and names of an answer are what may be certified."""
        answer = {**YES, "subject": "CN=phone-1", "names": ["dns:a.example"]}
        principal = Bench(answer).admit()
        assert "CN=phone-1" == principal.subject
        assert ("dns:a.example",) == principal.alternative_names
        none = Bench({**YES, "names": []}).admit()
        assert () == none.alternative_names

    def test_no_is_no(self) -> None:
        """Whoever is not allowed is refused; the reason is logged."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        with pytest.raises(ChallengeRejected):
            Bench({"allow": False, "reason": "stolen"}).admit()
        globalLogPublisher.removeObserver(events.append)
        assert "stolen" == events[0]["reason"]
        assert "webhook.refused" == events[0]["event"]

    @pytest.mark.parametrize(
        "answer",
        [
            {},
            [],
            "yes",
            {"allow": "true", "device": "a"},
            {"allow": 1, "device": "a"},
            {"allow": None, "device": "a"},
            {"allow": True},
            {"allow": True, "device": ""},
            {"allow": True, "device": 7},
            {"allow": True, "device": "a\nb"},
            {"allow": True, "device": "x" * 129},
            {**YES, "subject": "no name"},
            {**YES, "subject": ["CN=a"]},
            {**YES, "names": "dns:a"},
            {**YES, "names": [1]},
            {**YES, "names": ["dns:a"] * 33},
            {**YES, "reason": {"a": 1}},
            {**YES, "role": "admin"},
        ],
    )
    def test_anything_else_lets_nobody_pass(self, answer: object) -> None:
        """An answer that is none makes the gate unavailable."""
        with pytest.raises(Unavailable):
            Bench(answer).admit()

    @pytest.mark.parametrize(
        "answer",
        [
            reply(YES, 201),
            reply(YES, 302),
            reply(YES, 403),
            reply(YES, 500),
            OutboundReply(204, b""),
            OutboundReply(200, b""),
            OutboundReply(200, b"allow"),
            OutboundReply(200, b'{"allow":false,"allow":true,"device":"a"}'),
            OutboundReply(200, b"\xff"),
        ],
    )
    def test_other_statuses_and_bodies(self, answer: OutboundReply) -> None:
        """So does another status, and what is no JSON."""
        bench = Bench()
        bench.outbound.answer = lambda _: answer
        with pytest.raises(Unavailable):
            bench.admit()

    def test_nobody_answers(self) -> None:
        """So does silence."""
        bench = Bench()
        bench.outbound.answer = nobody
        with pytest.raises(Unavailable):
            bench.admit()


class NotificationTests:
    """What came of a request."""

    def test_nobody_is_told_by_default(self) -> None:
        """Who did not ask hears nothing."""
        bench = Bench()
        bench.issued()
        bench.refused()
        assert [] == bench.outbound.calls

    def test_certificate_is_told(self) -> None:
        """A certificate is told with its serial number."""
        bench = Bench(notify="best-effort")
        bench.issued()
        content = content_of(bench.outbound.calls[0])
        assert ("issued", "phone-1", "REVS", "0a1b") == (
            content["event"],
            content["device"],
            content["certificate"],
            content["serial"],
        )
        assert "challenge" not in content

    def test_refusal_is_told(self) -> None:
        """A refusal is told with what the device was told."""
        bench = Bench(notify="required")
        bench.refused()
        content = content_of(bench.outbound.calls[0])
        assert "refused" == content["event"]
        assert "profile device, rule keys: no" == content["reason"]

    def test_empty_answer_will_do(self) -> None:
        """Nothing has to be said to a notification."""
        bench = Bench(notify="required")
        bench.outbound.answer = lambda _: OutboundReply(204, b"")
        bench.issued()

    @pytest.mark.parametrize("answer", [reply({}, 500), None])
    def test_best_effort_is_no_more(self, answer: Any) -> None:
        """A notification that fails changes nothing."""
        bench = Bench(notify="best-effort")
        bench.outbound.answer = (lambda _: answer) if answer else nobody
        bench.issued()
        bench.refused()

    def test_required_must_be_taken(self) -> None:
        """If it must be told and cannot, nothing is handed out."""
        bench = Bench(notify="required")
        bench.outbound.answer = nobody
        with pytest.raises(Unavailable):
            bench.issued()
        bench.refused()  # never fails
