# SPDX-License-Identifier: MIT
"""MDM platforms from end to end: a SCEP message, a gate, a CertRep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mdm_samples import (
    AUDIENCE,
    EC_KEY,
    ISSUER,
    claims,
    content_of,
    jws,
    public_pem,
    reply,
)
from scep_bench import Bench
from scep_samples import FAIL_INFO_TEXT, csr, rsa_key
from twisted.internet.task import Clock

from trstctl.backends.attempts import Attempts
from trstctl.errors import Unavailable
from trstctl.model import OutboundCall, OutboundReply
from trstctl.testing import TENANT, result_of

#: pkiStatus, and failInfo: badRequest.
SUCCESS, FAILURE = "0", "2/2"
KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the secrets where the settings say."""
    monkeypatch.setenv("PLATFORM_SECRET", KEY)


Answer = Callable[[OutboundCall], OutboundReply]


def intune(**answers: object) -> Answer:
    """Return what Intune answers: ``Success``, or as the test says."""

    def answer(call: OutboundCall) -> OutboundReply:
        if call.service == "intune.token":
            return reply({"access_token": "t", "expires_in": 3599})
        if call.service == "intune.discovery":
            name = "ScepRequestValidationFEService"
            uri = "https://intune.example"
            return reply({"value": [{"providerName": name, "uri": uri}]})
        said = answers.get(call.url.rpartition("/")[2], "Success")
        if isinstance(said, Exception):
            raise said
        return reply({"code": said})

    return answer


def bench_with(
    challenge: dict[str, Any], answer: Answer | None = None
) -> Bench:
    """Return a gateway with a gate."""
    bench = Bench(challenge=challenge)
    if answer is not None:
        bench.ra.outbound.answer = answer
    return bench


def with_intune(**answers: object) -> Bench:
    """Return a gateway with Intune."""
    return bench_with(
        {
            "intune": {
                "tenant": "contoso.onmicrosoft.com",
                "client_id": "6731de76-14a6-49ae-97bc-6eba6914391e",
                "secret": "env:PLATFORM_SECRET",
            }
        },
        intune(**answers),
    )


class IntuneTests:
    """Intune validates, and hears of it."""

    def test_phone_enrolls(self) -> None:
        """Validated with the phone's own transactionID and request."""
        bench = with_intune()
        content = csr(challenge="blob")
        certificate = bench.enrolled(bench.message(content=content))
        assert certificate
        told = [content_of(c) for c in bench.ra.outbound.calls[-2:]]
        assert "0123456789ABCDEF" == told[0]["request"]["transactionId"]
        assert (
            told[0]["request"]["certificateRequest"]
            == told[1]["notification"]["certificateRequest"]
        )

    def test_refusal_is_generic(self) -> None:
        """The phone does not hear what Intune said."""
        bench = with_intune(validateRequest="ChallengeExpired")
        answer = bench.ask(bench.message(content=csr(challenge="blob")))
        assert FAILURE == answer.status
        assert "Expired" not in str(answer.text(FAIL_INFO_TEXT))
        assert 0 == bench.count()

    @pytest.mark.parametrize(
        "action", ["validateRequest", "successNotification"]
    )
    def test_silence_is_unavailable(self, action: str) -> None:
        """503, and no certificate that would be good."""
        bench = with_intune(**{action: Unavailable()})
        answer = bench.post(bench.message(content=csr(challenge="blob")))
        assert 503 == answer.status
        assert "Retry-After" in answer.headers
        assert 0 == bench.count()


class JWSTests:
    """What a pinned key has signed buys one certificate."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Bench:
        """Return a gateway that pins a key."""
        key = tmp_path / "key.pem"
        key.write_bytes(public_pem(EC_KEY))
        return bench_with(
            {"jws": {"keys": (key,), "issuer": ISSUER, "audience": AUDIENCE}}
        )

    def ask(
        self, bench: Bench, text: str, key: Any = None, **csr_: Any
    ) -> Any:
        """Send a request with a challenge, in a string that can hold it."""
        key = key or rsa_key()
        content = csr(key, challenge=text, tag=0x0C, **csr_)
        return bench.ask(bench.message(content=content, key=key))

    def test_once(self, bench: Bench) -> None:
        """The same request again is answered; another key is refused."""
        text = jws(claims(device_name="device"))
        assert SUCCESS == self.ask(bench, text).status
        assert SUCCESS == self.ask(bench, text).status
        assert FAILURE == self.ask(bench, text, rsa_key(1)).status
        assert 1 == bench.count()
        (secret,) = result_of(
            bench.store.list_secrets(TENANT, None, bench.ra.now(), "", 10)
        )
        assert secret.burnt_at is not None

    def test_bound(self, bench: Bench) -> None:
        """Another name, or one more, is refused; nothing is burnt."""
        text = jws(claims(device_name="device", san_dns=["a.example"]))
        for wishes in (
            {"names": ("b.example",)},
            {"names": ("a.example", "b.example")},
            {"names": ()},
            {"names": ("a.example",), "common_name": "other"},
        ):
            assert FAILURE == self.ask(bench, text, **wishes).status
        good = self.ask(bench, text, names=("a.example",))
        assert SUCCESS == good.status


class WebhookTests:
    """Whoever has a web server decides."""

    def ask(self, said: object) -> tuple[Bench, Any]:
        """Enroll while the web server says something."""
        bench = bench_with(
            {
                "webhook": {
                    "url": "https://hook.example",
                    "key": "env:PLATFORM_SECRET",
                }
            },
            lambda _: reply(said),
        )
        return bench, bench.ask(bench.message(content=csr(challenge="word")))

    def test_allowed(self) -> None:
        """The web server sees the challenge, and the device enrolls."""
        bench, answer = self.ask({"allow": True, "device": "device-7"})
        assert SUCCESS == answer.status
        (call,) = bench.ra.outbound.calls
        assert "word" == content_of(call)["challenge"]

    def test_polls_are_bounded(self) -> None:
        """A certificate is told of each time that it is handed out; who asks
        for it over and over is answered 429."""
        bench, answer = self.ask({"allow": True, "device": "device-7"})
        assert SUCCESS == answer.status
        bench.ra.attempts = Attempts(Clock(), calls=2)
        poll = bench.message(content=csr(challenge="word")).but(
            message_type="20"
        )
        statuses = [bench.post(poll).status for _ in range(3)]
        assert [200, 200, 429] == statuses

    @pytest.mark.parametrize(
        "said",
        [
            {"allow": False},
            {"allow": True, "device": "a", "subject": "CN=other"},
            {"allow": True, "device": "a", "names": ["dns:a.example"]},
        ],
    )
    def test_denied(self, said: object) -> None:
        """Denied, or allowed for something else: no certificate."""
        bench, answer = self.ask(said)
        assert FAILURE == answer.status
        assert 0 == bench.count()
