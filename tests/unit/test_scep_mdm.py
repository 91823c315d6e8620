# SPDX-License-Identifier: MIT
"""``/mdm``: challenges for registrars and for Jamf; the gates' settings."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mdm_samples import EC_KEY, ENDPOINT, asking, public_pem
from pydantic import ValidationError
from twisted.internet.task import Clock

from trstctl.backends.keyfiles import to_pem
from trstctl.config.reader import ConfigurationError, load
from trstctl.config.secrets import SecretError
from trstctl.discovery import discover
from trstctl.errors import (
    ChallengeRejected,
    PolicyViolation,
    Stale,
    TrstctlError,
    Unavailable,
    leaves,
)
from trstctl.model import (
    Challenge,
    EnrollmentRequest,
    Issued,
    SecretState,
)
from trstctl.plugin import ProtocolPlugin
from trstctl.protocols.scep.gate_settings import PlatformSection
from trstctl.protocols.scep.gates import OpenGate, make_gate
from trstctl.protocols.scep.intune import IntuneGate
from trstctl.protocols.scep.jamf import SHORTEST_SECRET, read_device
from trstctl.protocols.scep.jws import JWSGate
from trstctl.protocols.scep.mdm import MDMResource, MDMSettings
from trstctl.protocols.scep.settings import SCEPSettings, all_served
from trstctl.protocols.scep.webhook import WebhookGate
from trstctl.testing import (
    EPOCH,
    OTHER_TENANT,
    TENANT,
    FakeOutbound,
    MemoryStore,
    StubAuthority,
    add_token,
    basic,
    bearer,
    exchange,
    make_authority,
    make_ra,
    result_of,
    settings_for,
)
from trstctl.web import HTTPResponse

PLUGIN: Any = ProtocolPlugin("mdm", "trstctl.protocols.scep.mdm.MDMResource")
PASSWORD = "a password of Jamf"
EVENT = {
    "webhook": {
        "id": 7,
        "name": "SCEP",
        "webhookEvent": "SCEPChallenge",
        "eventTimestamp": 1553550275590,
    },
    "event": {
        "targetDevice": {
            "serialNumber": "C02XYZ",
            "udid": "55900BDC-347C-58B1-D249-F32244B11D30",
            "deviceName": "Mary's iPad",
        },
        "payloadIdentifier": "com.example.scep",
        "payloadTypes": ["com.apple.security.scep"],
    },
}
JAMF = {
    "main": {
        "authentication": {
            "basic": {"username": "jamf", "password": "env:JAMF_PASSWORD"}
        }
    },
    "header": {
        "authentication": {
            "header": {"name": "X-Hook", "value": "env:JAMF_PASSWORD"}
        },
        "device": "udid",
        "life": "10m",
    },
}


class Bench:
    """The resource over a registration authority."""

    def __init__(self, **settings: object) -> None:
        self.store: Any = MemoryStore()
        self.clock = Clock()
        self.ra = make_ra(self.store, clock=self.clock)
        made = settings_for(PLUGIN, **{"jamf": JAMF, **settings})
        self.resource: Any = PLUGIN.make_resource(self.ra, made)
        self.token = add_token(self.store, "mdm", kind="registrar")

    def ask(
        self,
        path: str,
        content: object,
        headers: dict[str, str] | None = None,
        method: str = "POST",
    ) -> HTTPResponse:
        """Send JSON."""
        body = (
            content
            if isinstance(content, bytes)
            else (json.dumps(content).encode())
        )
        return exchange(self.resource, method, path, body, headers or {})

    def order(
        self, content: object, path: str = "/mdm/challenges"
    ) -> tuple[int, Any]:
        """Order as a registrar."""
        answer = self.ask(path, content, bearer(self.token))
        return answer.status, json.loads(answer.body)

    def jamf(
        self, hook: str = "main", content: object = EVENT
    ) -> HTTPResponse:
        """Ask as Jamf."""
        headers = (
            basic("jamf", PASSWORD) if hook == "main" else {"X-Hook": PASSWORD}
        )
        return self.ask(f"/mdm/jamf/{hook}", content, headers)

    def secrets(self, state: SecretState | None = None) -> list[Any]:
        """Return the secrets of the tenant."""
        return list(
            result_of(self.store.list_secrets(TENANT, state, EPOCH, "", 1000))
        )

    def enroll(self, challenge: str, device: str, **wanted: Any) -> Issued:
        """Use a challenge."""
        request = asking(device, **wanted)
        outcome = result_of(
            self.ra.enroll(
                EnrollmentRequest(
                    ENDPOINT,
                    request.operation,
                    request.wanted,
                    (Challenge(challenge, self.ra.challenges),),
                    "r",
                    "192.0.2.1",
                    transaction="T",
                )
            )
        )
        assert isinstance(outcome, Issued)
        return outcome


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the secrets where the settings say."""
    monkeypatch.setenv("JAMF_PASSWORD", PASSWORD)


@pytest.fixture
def bench() -> Bench:
    """Return the resource."""
    return Bench()


class RegistrarTests:
    """``POST /mdm/challenges``."""

    def test_makes_challenges(self, bench: Bench) -> None:
        """Everything of the order is in the answer, and binds."""
        status, content = bench.order(
            {
                "profile": "device",
                "device": "phone-1",
                "subject": "CN=phone-1",
                "san": ["dns:A.example"],
                "expires_in": 60,
                "uses": 2,
            }
        )
        assert 201 == status
        (made,) = content["challenges"]
        assert 55 == len(made.pop("challenge"))
        assert bench.secrets()[0].id == made.pop("id")
        assert {
            "profile": "device",
            "device": "phone-1",
            "subject": "CN=phone-1",
            "san": ["dns:a.example"],
            "uses": 2,
            "expires_at": "2026-06-01T12:01:00Z",
        } == made

    def test_challenge_enrolls_its_device(self, bench: Bench) -> None:
        """The device gets its certificate by SCEP; no other does."""
        _, content = bench.order({"device": "phone-1", "count": 2})
        one, other = (each["challenge"] for each in content["challenges"])
        assert "device" == bench.enroll(one, "phone-1").profile
        with pytest.raises(PolicyViolation):
            bench.enroll(other, "phone-2")

    def test_what_is_left_out_is_default(self, bench: Bench) -> None:
        """An hour, once, of the endpoint's profile, and any names."""
        _, content = bench.order({"device": "phone-1"})
        (made,) = content["challenges"]
        assert "2026-06-01T13:00:00Z" == made["expires_at"]
        assert (1, "device", None, None) == (
            made["uses"],
            made["profile"],
            made["subject"],
            made["san"],
        )

    def test_retry_brings_the_same(self, bench: Bench) -> None:
        """An order under an idempotency key is one order."""
        headers = {**bearer(bench.token), "Idempotency-Key": '"k1"'}
        answers = [
            bench.ask("/mdm/challenges", {"device": "a"}, headers)
            for _ in range(2)
        ]
        assert answers[0].body == answers[1].body
        assert 1 == len(bench.secrets())

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"[]",
            b'{"device":"a","device":"b"}',
            b"\xff",
            {"device": "a", "names": []},
            {"device": 7},
            {"device": "a\nb"},
            {"device": "a" * 2000},
            {"device": "a", "san": "dns:a"},
            {"device": "a", "san": [None]},
            {"device": "a", "san": [7]},
            {"device": "a", "san": ["no kind"]},
            {"device": "a", "subject": "nobody"},
            {"device": "a", "expires_in": 0},
            {"device": "a", "expires_in": True},
            {"device": "a", "expires_in": 1.5},
            {"device": "a", "expires_in": 2**40},
            {"device": "a", "uses": 0},
            {"device": "a", "uses": 101},
            {"device": "a", "count": 101},
            {},
        ],
    )
    def test_malformed_order(self, bench: Bench, content: object) -> None:
        """What is no order makes nothing, and is told in JSON."""
        status, told = bench.order(content)
        assert (400, "malformed") == (status, told["error"])
        assert told["reason"]
        assert told["request_id"]
        assert [] == bench.secrets()

    def test_profile_must_be_offered(self, bench: Bench) -> None:
        """A challenge for what is not offered is refused."""
        status, told = bench.order({"device": "a", "profile": "tls-server"})
        assert (403, "not-authorized") == (status, told["error"])

    def test_only_registrars(self, bench: Bench) -> None:
        """A device's credential makes no challenges, nor does none."""
        device = add_token(bench.store, "device")
        for headers in ({}, bearer(device), bearer("x.y")):
            answer = bench.ask("/mdm/challenges", {"device": "a"}, headers)
            assert 401 == answer.status
            assert 'Bearer realm="mdm"' == answer.headers["WWW-Authenticate"]
            assert "not-authenticated" == json.loads(answer.body)["error"]
        assert [] == bench.secrets()

    def test_label_is_another_endpoint(self) -> None:
        """A label has a tenant and profile of its own."""
        bench = Bench(
            labels={"b": {"tenant_id": OTHER_TENANT, "profile": "tls-client"}}
        )
        other = add_token(
            bench.store, "b", kind="registrar", tenant_id=OTHER_TENANT
        )
        answer = bench.ask("/mdm/b/challenges", {"device": "a"}, bearer(other))
        assert 201 == answer.status
        (made,) = json.loads(answer.body)["challenges"]
        assert "tls-client" == made["profile"]
        status, _ = bench.order({"device": "a"}, "/mdm/b/challenges")
        assert 401 == status


class JamfTests:
    """``POST /mdm/jamf/<hook>``."""

    def test_answer_is_the_challenge(self, bench: Bench) -> None:
        """Nothing but the challenge, as plain text."""
        answer = bench.jamf()
        assert (200, "text/plain") == (answer.status, answer.content_type)
        assert 55 == len(answer.body)
        (secret,) = bench.secrets()
        assert ("C02XYZ", "device", "scep") == (
            secret.device,
            secret.profile,
            secret.protocol,
        )
        assert EPOCH + timedelta(hours=1) == secret.expires_at

    def test_challenge_enrolls_its_device(self, bench: Bench) -> None:
        """The device that Jamf named gets its certificate; no other does."""
        challenge = bench.jamf().body.decode()
        with pytest.raises(PolicyViolation):
            bench.enroll(challenge, "C02ABC")
        assert "device" == bench.enroll(challenge, "C02XYZ").profile

    def test_header_and_other_settings(self, bench: Bench) -> None:
        """A header will do; the device may be named by its UDID."""
        assert 200 == bench.jamf("header").status
        (secret,) = bench.secrets()
        assert "55900BDC-347C-58B1-D249-F32244B11D30" == secret.device
        assert EPOCH + timedelta(minutes=10) == secret.expires_at

    def test_device_has_one_challenge_at_a_time(self, bench: Bench) -> None:
        """A new one ends the unused one before."""
        first = bench.jamf().body.decode()
        second = bench.jamf().body.decode()
        with pytest.raises(ChallengeRejected):
            bench.enroll(first, "C02XYZ")
        bench.enroll(second, "C02XYZ")
        bench.jamf()
        states = [one.state(EPOCH) for one in bench.secrets()]
        assert {
            SecretState.REVOKED: 1,
            SecretState.BURNT: 1,
            SecretState.UNUSED: 1,
        } == {state: states.count(state) for state in states}

    def test_other_devices_keep_theirs(self, bench: Bench) -> None:
        """One device's challenge is not another's; nor another hook's."""
        bench.jamf()
        bench.jamf(
            content={
                **EVENT,
                "event": {"targetDevice": {"serialNumber": "C02ABC"}},
            }
        )
        bench.jamf("header")
        assert 3 == len(bench.secrets(SecretState.UNUSED))

    @pytest.mark.parametrize(
        ("hook", "headers"),
        [
            ("main", {}),
            ("main", basic("jamf", "wrong")),
            ("main", basic("other", PASSWORD)),
            ("main", basic("jamf", "")),
            ("main", bearer("mdm.secret")),
            ("main", {"X-Hook": PASSWORD}),
            ("header", {}),
            ("header", {"X-Hook": ""}),
            ("header", {"X-Hook": PASSWORD + "x"}),
            ("header", basic("jamf", PASSWORD)),
        ],
    )
    def test_only_jamf(
        self, bench: Bench, hook: str, headers: dict[str, str]
    ) -> None:
        """Whoever does not prove to be Jamf gets nothing."""
        answer = bench.ask(f"/mdm/jamf/{hook}", EVENT, headers)
        assert 401 == answer.status
        assert 'Basic realm="mdm"' == answer.headers["WWW-Authenticate"]
        assert [] == bench.secrets()

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"[]",
            {},
            {"webhook": "SCEPChallenge", "event": {}},
            {**EVENT, "webhook": {"webhookEvent": "ComputerAdded"}},
            {**EVENT, "webhook": {}},
            {**EVENT, "event": {}},
            {**EVENT, "event": []},
            {**EVENT, "event": {"targetDevice": {"udid": "x"}}},
            {**EVENT, "event": {"targetDevice": {"serialNumber": ""}}},
            {**EVENT, "event": {"targetDevice": {"serialNumber": 7}}},
            {**EVENT, "event": {"targetDevice": {"serialNumber": "a\nb"}}},
            {**EVENT, "event": {"targetDevice": {"serialNumber": "x" * 65}}},
        ],
    )
    def test_other_events(self, bench: Bench, content: object) -> None:
        """What asks for no challenge, or for no device, gets none."""
        assert 400 == bench.jamf(content=content).status
        assert [] == bench.secrets()

    @pytest.mark.parametrize(
        ("event", "kind", "device"),
        [
            ({"targetDevice": {"serial_number": " C1 "}}, "serial", "C1"),
            ({"serialNumber": "C2", "targetDevice": {}}, "serial", "C2"),
            ({"serial": "C3"}, "serial", "C3"),
            ({"targetDevice": {"UDID": "U1"}}, "udid", "U1"),
            ({"targetDevice": {"deviceName": "N1"}}, "name", "N1"),
            ({"name": "N2", "targetDevice": "odd"}, "name", "N2"),
        ],
    )
    def test_versions_differ(
        self, event: object, kind: str, device: str
    ) -> None:
        """Names and places of a device that other versions use are read."""
        body = json.dumps({**EVENT, "event": event}).encode()
        assert device == read_device(body, kind)


class ResourceTests:
    """Paths, methods, errors."""

    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [
            ("POST", "/mdm", 404, "not-found"),
            ("POST", "/mdm/", 404, "not-found"),
            ("POST", "/mdm/jamf", 404, "not-found"),
            ("POST", "/mdm/jamf/other", 404, "not-found"),
            ("POST", "/mdm/other/challenges", 404, "not-found"),
            ("POST", "/mdm/challenges/x/y", 404, "not-found"),
            ("GET", "/mdm/challenges", 405, "method-not-allowed"),
            ("GET", "/mdm/jamf/main", 405, "method-not-allowed"),
        ],
    )
    def test_other_paths_and_methods(
        self, bench: Bench, method: str, path: str, status: int, code: str
    ) -> None:
        """Nothing else is here, and that is told in JSON."""
        answer = bench.ask(path, b"", method=method)
        assert status == answer.status
        assert code == json.loads(answer.body)["error"]

    def test_never_without_tls(self) -> None:
        """What is handed out here must not be seen (scep is served plain)."""
        assert not PLUGIN.plain_http()
        assert ("/mdm",) == tuple(PLUGIN.paths(settings_for(PLUGIN)))

    @pytest.mark.parametrize("kind", leaves(TrstctlError))
    def test_every_error_has_a_word(self, kind: type[TrstctlError]) -> None:
        """Each leaf of the tree is told; what is wrong with a challenge is
        told as any wrong credential."""
        arguments = {
            "Throttled": (7,),
            "PolicyViolation": ("p", "r", "d"),
        }.get(kind.__name__, ())
        stub: Any = StubAuthority(kind(*arguments))
        resource: Any = MDMResource("mdm", stub, settings_for(PLUGIN))  # type: ignore[arg-type]
        answer = exchange(
            resource,
            "POST",
            "/mdm/challenges",
            b'{"device":"a"}',
            bearer("x.y"),
        )
        assert answer.status >= 400
        code = json.loads(answer.body)["error"]
        assert code == code.lower()
        assert "challenge" not in code

    def test_store_that_fails_is_told_jamf(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Jamf sees that there is no challenge, rather than a wrong one."""

        def fails(*_: object) -> Any:
            raise Unavailable

        monkeypatch.setattr(bench.store, "add_secrets", fails)
        answer = bench.jamf()
        assert 503 == answer.status
        assert "Retry-After" in answer.headers


# --- settings ---------------------------------------------------------------

INTUNE = {
    "tenant": "contoso.onmicrosoft.com",
    "client_id": "6731de76-14a6-49ae-97bc-6eba6914391e",
    "secret": "env:JAMF_PASSWORD",
}
WEBHOOK = {"url": "https://hook.example/", "key": "env:JAMF_PASSWORD"}


class MDMSettingsTests:
    """The section ``protocols.mdm``."""

    @pytest.mark.parametrize(
        "hook",
        [
            {},
            {"authentication": None},
            {"authentication": {}},
            {"authentication": "none"},
            {
                "authentication": {
                    "basic": {"username": "a", "password": "env:A"},
                    "header": {"name": "X-A", "value": "env:A"},
                }
            },
            {"authentication": {"basic": {"username": "a"}}},
            {
                "authentication": {
                    "basic": {"username": "a:b", "password": "env:A"}
                }
            },
            {
                "authentication": {
                    "basic": {"username": "a", "password": "plain"}
                }
            },
            {
                "authentication": {
                    "header": {"name": "Authorization", "value": "env:A"}
                }
            },
            {"authentication": {"header": {"name": "a b", "value": "env:A"}}},
            {**JAMF["main"], "life": "1s"},
            {**JAMF["main"], "life": "8d"},
            {**JAMF["main"], "device": "imei"},
            {**JAMF["main"], "open": True},
        ],
    )
    def test_hook_must_prove_itself(self, hook: object) -> None:
        """There is no hook that anybody may call."""
        with pytest.raises(ValidationError):
            MDMSettings.model_validate({"jamf": {"main": hook}})

    @pytest.mark.parametrize("label", ["challenges", "jamf"])
    def test_labels_are_no_paths(self, label: str) -> None:
        """A label must not hide what is there."""
        with pytest.raises(ValidationError, match="is a path here"):
            MDMSettings.model_validate({"labels": {label: {}}})

    def test_short_secret_is_a_fault(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A secret that could be guessed stops the start."""
        monkeypatch.setenv("JAMF_PASSWORD", "x" * (SHORTEST_SECRET - 1))
        with pytest.raises(ValueError, match="at least 16"):
            Bench()
        monkeypatch.delenv("JAMF_PASSWORD")
        with pytest.raises(SecretError):
            Bench()

    def test_paths_are_made_absolute(self, tmp_path: Path) -> None:
        """A secret's file is relative to the state directory."""
        hooks = {
            "a": {
                "authentication": {
                    "basic": {"username": "a", "password": "file:p"}
                }
            },
            "b": {
                "authentication": {
                    "header": {"name": "X-A", "value": "file:h"}
                }
            },
        }
        made = MDMSettings.model_validate({"jamf": hooks}).located(tmp_path)
        one, other = (made.jamf[n].authentication for n in ("a", "b"))
        assert one.basic is not None
        assert f"file:{tmp_path}/p" == one.basic.password
        assert other.header is not None
        assert f"file:{tmp_path}/h" == other.header.value


class GateSettingsTests:
    """The key ``challenge``."""

    def scep(self, challenge: object, **more: object) -> SCEPSettings:
        """Return settings."""
        return SCEPSettings.model_validate(
            {
                "enabled": True,
                "tenant_id": TENANT,
                "challenge": challenge,
                **more,
            }
        )

    @pytest.mark.parametrize(
        "challenge",
        [
            "",
            "static",
            7,
            {},
            {"intune": None},
            {"intune": INTUNE, "webhook": WEBHOOK},
            {"jamf": {}},
            {"intune": {**INTUNE, "tenant": "a/b"}},
            {"intune": {**INTUNE, "client_id": "trstctl"}},
            {"intune": {**INTUNE, "secret": "plain"}},
            {"intune": {**INTUNE, "login_url": "http://login.example"}},
            {"intune": {**INTUNE, "timeout": 0.5}},
            {"intune": {**INTUNE, "timeout": 61.0}},
            {"intune": {**INTUNE, "verify": False}},
            {"jws": {"keys": (), "issuer": "a", "audience": "b"}},
            {"jws": {"keys": (Path("k"),), "issuer": "", "audience": "b"}},
            {"jws": {"keys": (Path("k"),), "issuer": "a"}},
            {"jws": {"keys": ("",), "issuer": "a", "audience": "b"}},
            {"webhook": {**WEBHOOK, "url": "https://"}},
            {"webhook": {**WEBHOOK, "url": "https://u:p@hook.example/"}},
            {"webhook": {**WEBHOOK, "url": "https://hook.example/?a=b"}},
            {"webhook": {**WEBHOOK, "url": "https://hook.example/a b"}},
            {"webhook": {**WEBHOOK, "key_id": "a b"}},
            {"webhook": {**WEBHOOK, "notify": "always"}},
        ],
    )
    def test_refused(self, challenge: object) -> None:
        """What is none of the gates, or half of one, is a fault."""
        with pytest.raises(ValidationError):
            self.scep(challenge)

    def test_label_may_have_its_own(self) -> None:
        """Each label has the section's gate, or another."""
        settings = self.scep(
            {"intune": INTUNE},
            labels={"a": {}, "b": {"challenge": {"webhook": WEBHOOK}}},
        )
        served = all_served("scep", settings)
        gates: dict[str, Any] = {
            label: one.challenge for label, one in served.items()
        }
        assert gates[""].intune == gates["a"].intune is not None
        assert gates["b"].webhook is not None
        assert [False, False, True] == [
            one.endpoint.may_wait for one in served.values()
        ]
        assert all(one.endpoint.gated for one in served.values())

    def test_paths_are_made_absolute(self, tmp_path: Path) -> None:
        """Files are relative to the state directory, in labels, too."""
        settings = self.scep(
            {"jws": {"keys": (Path("k"),), "issuer": "a", "audience": "b"}},
            labels={
                "i": {
                    "challenge": {
                        "intune": {
                            **INTUNE,
                            "secret": "file:s",
                            "trust": Path("ca.pem"),
                        }
                    }
                },
                "w": {"challenge": {"webhook": {**WEBHOOK, "key": "file:k"}}},
                "t": {"challenge": "token"},
                "n": {},
            },
        ).located(tmp_path)
        gate = settings.challenge
        assert isinstance(gate, PlatformSection)
        assert gate.jws is not None
        assert (tmp_path / "k",) == gate.jws.keys
        own: Any = settings.labels["i"].challenge
        assert f"file:{tmp_path}/s" == own.intune.secret
        assert tmp_path / "ca.pem" == own.intune.trust
        hook: Any = settings.labels["w"].challenge
        assert f"file:{tmp_path}/k" == hook.webhook.key
        assert None is hook.webhook.trust
        assert "token" == settings.labels["t"].challenge
        assert None is settings.labels["n"].challenge

    def test_gate_of_each(self, tmp_path: Path) -> None:
        """Each setting has its gate."""
        key = tmp_path / "key.pem"
        key.write_bytes(public_pem(EC_KEY))
        ra: Any = make_ra()
        environment = {"JAMF_PASSWORD": PASSWORD}

        def gate(challenge: object) -> Any:
            made = self.scep(challenge).challenge
            return make_gate(made, ENDPOINT, ra, environment)

        assert ra.challenges is gate("token")
        assert isinstance(gate("none"), OpenGate)
        assert isinstance(gate({"intune": INTUNE}), IntuneGate)
        assert isinstance(gate({"webhook": WEBHOOK}), WebhookGate)
        jws = {"keys": (key,), "issuer": "a", "audience": "b"}
        assert isinstance(gate({"jws": jws}), JWSGate)
        environment["JAMF_PASSWORD"] = "short"
        with pytest.raises(ValueError, match="at least 16"):
            gate({"webhook": WEBHOOK})
        with pytest.raises(OSError, match=r"key\.pem"):
            gate({"jws": {**jws, "keys": (tmp_path / "no" / "key.pem",)}})

    def test_trust_is_named_in_each_call(self, tmp_path: Path) -> None:
        """A file of CAs takes the place of the system's."""
        ra: Any = make_ra()
        ra.outbound = outbound = FakeOutbound()
        trust = tmp_path / "cas.pem"
        trust.write_bytes(to_pem(make_authority().chain))
        for challenge in (
            {"intune": {**INTUNE, "trust": trust}},
            {"webhook": {**WEBHOOK, "trust": trust}},
        ):
            gate = make_gate(
                self.scep(challenge).challenge,
                ENDPOINT,
                ra,
                {"JAMF_PASSWORD": PASSWORD},
            )
            with pytest.raises(Unavailable):
                result_of(gate.admit(asking(), "x", EPOCH))
        assert [str(trust)] * 2 == [c.trust for c in outbound.calls]

    def test_open_gate_lets_everybody_wait(self) -> None:
        """Where a person approves, nobody has to show anything."""
        gate: Any = OpenGate()
        request = asking()
        principal = result_of(gate.admit(request, "", EPOCH))
        fingerprint = request.wanted.public_key.fingerprint
        assert ("anonymous", fingerprint) == (principal.kind, principal.name)
        outcome = Issued(b"", (), "1", "device", "x")
        assert None is result_of(gate.issued(request, principal, outcome))
        assert None is result_of(gate.refused(request, Stale()))


class ConfigurationTests:
    """The whole file."""

    def load(self, tmp_path: Path, challenge: str, profile: str) -> Any:
        """Read a file with one profile that a person approves."""
        file = tmp_path / "trstctl.yaml"
        file.write_text(
            "profiles: {held: {approval: always}}\n"
            f'protocols: {{scep: {{enabled: true, tenant_id: "{TENANT}",\n'
            f"  profile: {profile}, challenge: {challenge}}}}}\n"
        )
        return load(file, discover().protocols)

    def test_intune_cannot_wait(self, tmp_path: Path) -> None:
        """Intune takes no answer but the certificate: no approval there."""
        intune = json.dumps({"intune": {**INTUNE, "secret": "file:s"}})
        found = self.load(tmp_path, intune, "device")
        made = found.protocols["scep"].challenge
        assert f"file:{tmp_path}/s" == made.intune.secret
        with pytest.raises(ConfigurationError) as caught:
            self.load(tmp_path, intune, "held")
        assert "cannot wait for an approval" in str(caught.value.faults[0])

    def test_others_can(self, tmp_path: Path) -> None:
        """Everybody else may be told to come back."""
        hook = json.dumps({"webhook": WEBHOOK})
        for challenge in (hook, "token", "none"):
            assert self.load(tmp_path, challenge, "held").protocols

    def test_unknown_keys_are_told(self, tmp_path: Path) -> None:
        """A mistyped key is told with its place."""
        wrong = json.dumps({"intune": {**INTUNE, "client": "x"}})
        with pytest.raises(ConfigurationError) as caught:
            self.load(tmp_path, wrong, "device")
        assert "protocols.scep.challenge.intune.client" in str(
            caught.value.faults[0]
        )
