# SPDX-License-Identifier: MIT
"""Intune online: Microsoft's own matrix, every code, every failure."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from mdm_samples import ENDPOINT, asking, issued_as
from treq.testing import RequestTraversalAgent, StringStubbingResource
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from zope.interface.verify import verifyObject

from trstctl.errors import (
    ChallengeRejected,
    Conflict,
    Internal,
    NotAuthorized,
    PolicyViolation,
    Stale,
    Throttled,
    Unavailable,
    UnsupportedAlgorithm,
)
from trstctl.interfaces import IChallengeGate
from trstctl.model import (
    CertificateStatus,
    Challenge,
    EnrollmentRequest,
    Issued,
    Operation,
    Principal,
)
from trstctl.outbound import Outbound
from trstctl.pkix.certificate import read_certificate
from trstctl.protocols.scep.gate_settings import IntuneSettings
from trstctl.protocols.scep.intune import CODES, MOST, IntuneGate
from trstctl.protocols.scep.intune_service import IntuneService
from trstctl.testing import (
    EPOCH,
    TENANT,
    DeterministicBytes,
    MemoryStore,
    WallClock,
    make_ra,
    result_of,
)

SECRET = "the application's secret"
CLIENT = "6731de76-14a6-49ae-97bc-6eba6914391e"
PLACE = "https://fef.msub01.manage.microsoft.com/RACerts/StatelessScep"
PKI = "https://fef.msub01.manage.microsoft.com/PkiConnector"
SCOPES = {
    "graph": "https://graph.microsoft.com/.default",
    "intune": "https://api.manage.microsoft.com//.default",
}
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f-]{17}")


class Microsoft:
    """
    The three services, as they are documented, over a wire in memory.

    :ivar answers: what an action is answered with instead: a status, a pair
        of status and content, or an exception.
    :ivar heard: the actions, in order, with what they were asked with.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.heard: list[tuple[str, Any, dict[bytes, Any]]] = []
        self.clock = Clock()
        self.now = WallClock(self.clock)
        agent = RequestTraversalAgent(StringStubbingResource(self._serve))
        outbound: Any = Outbound(
            lambda _: agent, self.clock, lambda: 0.5, lambda *_: None
        )
        self.store: Any = MemoryStore()
        self.ra = make_ra(self.store, clock=self.clock)
        settings = IntuneSettings.model_validate(
            {
                "tenant": "contoso.onmicrosoft.com",
                "client_id": CLIENT,
                "secret": "env:INTUNE",
                "caller": "trstctl 1",
            }
        )
        self.service = IntuneService(
            settings, SECRET, outbound, self.now, DeterministicBytes("x")
        )
        self.gate: Any = self.make_gate()

    def make_gate(self, *, revokes: bool = True) -> Any:
        """Return a gate."""
        return IntuneGate(
            ENDPOINT, self.service, self.ra, "trstctl 1", revokes=revokes
        )

    def _serve(
        self, method: bytes, url: str, _: Any, headers: Any, data: bytes
    ) -> Any:
        action, usual = self._action(method, url, data)
        content = (
            json.loads(data) if data[:1] == b"{" else parse_qs(data.decode())
        )
        self.heard.append((action, content, headers))
        answer = self.answers.get(action, usual)
        if callable(answer):
            answer = answer(content)
        if isinstance(answer, int):
            return answer, {}, b"<html>no</html>"
        if isinstance(answer, bytes):
            return 200, {}, answer
        return 200, {}, json.dumps(answer).encode()

    def _action(self, method: bytes, url: str, data: bytes) -> Any:
        host, path = urlsplit(url)[1:3]
        if host == "login.microsoftonline.com":
            assert b"POST" == method
            assert "/contoso.onmicrosoft.com/oauth2/v2.0/token" == path
            scope = parse_qs(data.decode())["scope"][0]
            kind = next(k for k, v in SCOPES.items() if v == scope)
            return f"token {kind}", {
                "token_type": "Bearer",
                "expires_in": 3599,
                "ext_expires_in": 3599,
                "access_token": f"{kind}.token.{len(self.heard)}",
            }
        if host == "graph.microsoft.com":
            assert b"GET" == method
            assert (
                "/v1.0/servicePrincipals/appId=0000000a-0000-0000-c000-"
                "000000000000/endpoints"
            ) == path
            return "discovery", {
                "value": [
                    "odd",
                    {"providerName": None, "uri": 7},
                    {"providerName": "Other", "uri": "https://other.example"},
                    {
                        "providerName": "SCEPRequestValidationFEService",
                        "uri": PLACE,
                    },
                    {"serviceName": "PkiConnectorFEService", "uri": PKI + "/"},
                ]
            }
        assert b"POST" == method
        action = path.rpartition("/")[2]
        usual: Any = {"code": "Success", "errorDescription": ""}
        if action == "downloadRevocationRequests":
            usual = {"value": []}
        if action == "uploadRevocationResults":
            usual = {"value": True}
        return action, usual

    def actions(self) -> list[str]:
        """Return what was asked, in order."""
        return [action for action, _, _ in self.heard]

    def last(self, action: str) -> Any:
        """Return what an action was last asked with."""
        return next(c for a, c, _ in reversed(self.heard) if a == action)

    def run(self, waiting: Any) -> Any:
        """Let time pass until there is a result."""
        waiting = (
            waiting
            if isinstance(waiting, Deferred)
            else Deferred.fromCoroutine(waiting)
        )
        for _ in range(300):
            if waiting.called:
                break
            self.clock.advance(0.1)
        return result_of(waiting)

    def admit(self, request: EnrollmentRequest | None = None) -> Principal:
        """Have a request validated."""
        principal: Principal = self.run(
            self.gate.admit(request or asking(), "blob", EPOCH)
        )
        return principal

    def enroll(self, key: Any = None, transaction: str = "T1") -> Issued:
        """Take a request all the way, through the registration authority."""
        request = asking(key=key, transaction=transaction)
        issued = self.run(
            self.ra.enroll(
                EnrollmentRequest(
                    ENDPOINT,
                    Operation.ENROLL,
                    request.wanted,
                    (Challenge("blob", self.gate),),
                    "request-1",
                    "192.0.2.1",
                    transaction=transaction,
                )
            )
        )
        assert isinstance(issued, Issued)
        return issued

    def records(self) -> list[Any]:
        """Return the inventory."""
        from trstctl.model import CertificateQuery

        return list(
            result_of(self.store.list_certificates(CertificateQuery(TENANT)))
        )


@pytest.fixture
def microsoft() -> Microsoft:
    """Return the services."""
    return Microsoft()


BAD = [400, 401, 404, 302, 500, 503, b"", b"<html/>", b"[]", b"null", {}]


class ValidationTests:
    """Only ``Success`` lets a request pass (N-1)."""

    def test_provides_the_interface(self, microsoft: Microsoft) -> None:
        """It is a gate."""
        assert verifyObject(IChallengeGate, microsoft.gate)

    def test_messages_are_as_documented(self, microsoft: Microsoft) -> None:
        """Token, discovery, validation: to the letter."""
        request = asking()
        principal = microsoft.admit(request)
        assert ("mdm", ("device",)) == (principal.kind, principal.profiles)
        assert [
            "token graph",
            "discovery",
            "token intune",
            "validateRequest",
        ] == microsoft.actions()
        assert {
            "grant_type": ["client_credentials"],
            "client_id": [CLIENT],
            "client_secret": [SECRET],
            "scope": ["https://api.manage.microsoft.com//.default"],
        } == microsoft.last("token intune")
        _, content, headers = microsoft.heard[-1]
        assert {
            "request": {
                "transactionId": "T1",
                "certificateRequest": base64.b64encode(
                    request.wanted.der
                ).decode(),
                "callerInfo": "trstctl 1",
            }
        } == content
        assert [b"Bearer intune.token.2"] == headers[b"Authorization"]
        assert [b"2018-02-20"] == headers[b"Api-Version"]
        assert [b"application/json"] == headers[b"Content-Type"]
        assert GUID.fullmatch(headers[b"Client-Request-Id"][0].decode())
        discovery = microsoft.heard[1][2]
        assert [b"Bearer graph.token.0"] == discovery[b"Authorization"]

    def test_call_has_an_id_of_its_own(self, microsoft: Microsoft) -> None:
        """Microsoft can find each call in its logs."""
        microsoft.admit()
        microsoft.admit()
        ids = [h[b"Client-Request-Id"][0] for _, _, h in microsoft.heard]
        assert len(ids) == len(set(ids))

    @pytest.mark.parametrize("code", sorted(CODES - {"Success"}))
    def test_every_other_code_refuses(
        self, microsoft: Microsoft, code: str
    ) -> None:
        """Each documented code is a refusal, and is logged."""
        microsoft.answers["validateRequest"] = {
            "code": code,
            "errorDescription": "because",
        }
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        with pytest.raises(ChallengeRejected) as caught:
            microsoft.admit()
        globalLogPublisher.removeObserver(events.append)
        assert ChallengeRejected.detail == caught.value.detail
        (event,) = events
        assert ("intune.refused", code, "because") == (
            event["event"],
            event["code"],
            event["reason"],
        )

    @pytest.mark.parametrize("code", ["success", "SUCCESS", "Success ", "New"])
    def test_unknown_code_refuses(
        self, microsoft: Microsoft, code: str
    ) -> None:
        """A code that nobody knows is no success."""
        microsoft.answers["validateRequest"] = {"code": code}
        with pytest.raises(ChallengeRejected):
            microsoft.admit()

    @pytest.mark.parametrize(
        "answer",
        [
            *BAD,
            {"code": None},
            {"code": ""},
            {"code": 0},
            {"code": ["Success"]},
            b'{"code":"Unknown","code":"Success"}',
        ],
    )
    def test_no_code_is_no_answer(
        self, microsoft: Microsoft, answer: object
    ) -> None:
        """Anything that is no code makes the gate unavailable."""
        microsoft.answers["validateRequest"] = answer
        with pytest.raises(Unavailable):
            microsoft.admit()

    def test_no_challenge_asks_nobody(self, microsoft: Microsoft) -> None:
        """A request without a challenge is refused at once."""
        with pytest.raises(ChallengeRejected):
            microsoft.run(microsoft.gate.admit(asking(), "", EPOCH))
        assert [] == microsoft.heard

    def test_guesses_are_bounded(self, microsoft: Microsoft) -> None:
        """Ten a minute from one address reach Intune, with a challenge or
        without; then nobody is asked, and nothing logged (N-4)."""
        microsoft.answers["validateRequest"] = {"code": "ChallengeExpired"}
        with pytest.raises(ChallengeRejected):
            microsoft.run(microsoft.gate.admit(asking(), "", EPOCH))
        for _ in range(9):
            with pytest.raises(ChallengeRejected):
                result_of(microsoft.gate.admit(asking(), "blob", EPOCH))
        before = len(microsoft.heard)
        for challenge in ("blob", ""):
            with pytest.raises(Throttled):
                result_of(microsoft.gate.admit(asking(), challenge, EPOCH))
        assert before == len(microsoft.heard)
        assert 9 == microsoft.actions().count("validateRequest")

    def test_honest_retry_passes(self, microsoft: Microsoft) -> None:
        """Who was let in, and lost the answer, is let in again, whatever
        others of the same address have guessed meanwhile."""
        request = asking()
        microsoft.admit(request)
        microsoft.answers["validateRequest"] = {"code": "ChallengeExpired"}
        for _ in range(10):
            with pytest.raises(ChallengeRejected):
                result_of(microsoft.gate.admit(asking(), "blob", EPOCH))
        del microsoft.answers["validateRequest"]
        assert "mdm" == microsoft.admit(request).kind

    def test_trouble_is_tried_once_more(self, microsoft: Microsoft) -> None:
        """To validate twice does no harm."""
        answers = iter([503, {"code": "Success"}])
        microsoft.answers["validateRequest"] = lambda _: next(answers)
        microsoft.admit()
        assert 2 == microsoft.actions().count("validateRequest")


class TokenTests:
    """Access tokens and places are kept for a while."""

    def test_both_are_kept(self, microsoft: Microsoft) -> None:
        """A second request asks for neither."""
        microsoft.admit()
        microsoft.admit()
        assert 5 == len(microsoft.heard)

    def test_token_is_replaced_before_its_end(
        self, microsoft: Microsoft
    ) -> None:
        """It is not used in its last five minutes."""
        microsoft.admit()
        microsoft.clock.advance(3599 - 300 - 1)
        microsoft.admit()
        assert 1 == microsoft.actions().count("token intune")
        microsoft.clock.advance(2)
        microsoft.admit()
        assert 2 == microsoft.actions().count("token intune")

    @pytest.mark.parametrize("answer", [401, 404, 500, b"no"])
    def test_failure_forgets_them(
        self, microsoft: Microsoft, answer: object
    ) -> None:
        """After a failed call everything is asked anew."""
        microsoft.admit()
        microsoft.answers["successNotification"] = answer
        with pytest.raises(Unavailable):
            microsoft.run(
                microsoft.gate.issued(
                    asking(),
                    Principal("mdm", "x", TENANT),
                    issued_as(
                        microsoft.ra.rules.authorities["issuing"].chain[0]
                    ),
                )
            )
        microsoft.admit()
        assert 2 == microsoft.actions().count("discovery")
        assert 2 == microsoft.actions().count("token intune")

    @pytest.mark.parametrize("answer", [400, 413, 422, 429])
    def test_bad_request_keeps_them(
        self, microsoft: Microsoft, answer: int
    ) -> None:
        """What a device has sent must not have us ask the directory."""
        microsoft.admit()
        before = len(microsoft.heard)
        microsoft.answers["validateRequest"] = answer
        with pytest.raises(Unavailable):
            microsoft.admit()
        del microsoft.answers["validateRequest"]
        microsoft.admit()
        assert {"validateRequest"} == set(microsoft.actions()[before:])

    @pytest.mark.parametrize(
        "answer",
        [
            *BAD,
            {"access_token": "", "expires_in": 3599},
            {"access_token": "a b", "expires_in": 3599},
            {"access_token": "a\nb", "expires_in": 3599},
            {"access_token": "\u00e9", "expires_in": 3599},
            {"access_token": ["a"], "expires_in": 3599},
            {"access_token": "a" * 20_000, "expires_in": 3599},
            {"access_token": "a"},
            {"access_token": "a", "expires_in": "3599"},
            {"access_token": "a", "expires_in": True},
            {"access_token": "a", "expires_in": -1},
            {"error": "invalid_client"},
        ],
    )
    @pytest.mark.parametrize("kind", ["graph", "intune"])
    def test_bad_token(
        self, microsoft: Microsoft, kind: str, answer: object
    ) -> None:
        """Without a token nothing is asked, and nothing passes."""
        microsoft.answers[f"token {kind}"] = answer
        with pytest.raises(Unavailable):
            microsoft.admit()
        assert "validateRequest" not in microsoft.actions()

    @pytest.mark.parametrize(
        "answer",
        [
            *BAD,
            {"value": None},
            {"value": []},
            {"value": [{"providerName": "Other", "uri": PLACE}]},
            *(
                {
                    "value": [
                        {
                            "providerName": "ScepRequestValidationFEService",
                            "uri": uri,
                        }
                    ]
                }
                for uri in (
                    None,
                    "",
                    7,
                    "http://plain.example",
                    "https://[",
                    "https://a\nb",
                    "https://\u00e9.example",
                    "https://a/" + "b" * 1000,
                )
            ),
        ],
    )
    def test_bad_discovery(self, microsoft: Microsoft, answer: object) -> None:
        """A service that is nowhere is not asked."""
        microsoft.answers["discovery"] = answer
        with pytest.raises(Unavailable):
            microsoft.admit()
        assert "validateRequest" not in microsoft.actions()
        microsoft.answers.clear()
        microsoft.clock.advance(60)
        microsoft.admit()

    def test_those_who_find_nothing_ask_once(
        self, microsoft: Microsoft
    ) -> None:
        """Many phones that come at once cost one token."""
        waiting = [
            microsoft.gate.admit(asking(), "blob", EPOCH) for _ in range(10)
        ]
        for one in waiting:
            microsoft.run(one)
        assert 1 == microsoft.actions().count("token graph")
        assert 1 == microsoft.actions().count("discovery")


class NotificationTests:
    """Told before it is handed out (N-2)."""

    def test_success_is_as_documented(self, microsoft: Microsoft) -> None:
        """All of it, to the letter."""
        issued = microsoft.enroll()
        content = microsoft.last("successNotification")["notification"]
        assert base64.b64decode(content.pop("certificateRequest"))
        facts = read_certificate(issued.certificate)
        thumbprint = hashlib.sha1(
            issued.certificate, usedforsecurity=False
        ).hexdigest()
        assert {
            "transactionId": "T1",
            "callerInfo": "trstctl 1",
            "certificateThumbprint": thumbprint.upper(),
            "certificateSerialNumber": issued.serial,
            "certificateExpirationDateUtc": facts.not_after.strftime(
                "%Y-%m-%dT%H:%M:%S.000Z"
            ),
            "issuingCertificateAuthority": "CN=issuing CA",
            "caConfiguration": "issuing",
            "certificateAuthority": "CN=issuing CA",
        } == content

    @pytest.mark.parametrize(
        "answer", [*BAD, {"code": "Unknown"}, {"code": "ChallengeExpired"}]
    )
    def test_failed_success_fails(
        self, microsoft: Microsoft, answer: object
    ) -> None:
        """Whatever is no success fails, so that nothing is handed out."""
        microsoft.answers["successNotification"] = answer
        with pytest.raises(Unavailable):
            microsoft.enroll()

    @pytest.mark.parametrize(
        ("error", "result"),
        [
            (NotAuthorized("no"), -2147024891),
            (PolicyViolation("p", "r", "x" * 300), -2146877420),
            (UnsupportedAlgorithm("no"), -2146893816),
            (Conflict("no"), -2147467259),
        ],
    )
    def test_failure_is_as_documented(
        self, microsoft: Microsoft, error: Any, result: int
    ) -> None:
        """A refusal has a 32-bit code, and a bounded text."""
        microsoft.run(microsoft.gate.refused(asking(), error))
        content = microsoft.last("failureNotification")["notification"]
        assert result == content["hResult"]
        assert -(2**31) <= content["hResult"] < 0
        assert error.detail[:255] == content["errorDescription"]
        assert {"transactionId", "certificateRequest", "callerInfo"} < set(
            content
        )

    @pytest.mark.parametrize("answer", [500, b"", {"code": "Unknown"}])
    def test_failed_failure_is_no_more(
        self, microsoft: Microsoft, answer: object
    ) -> None:
        """Whether it can be told changes nothing for the device."""
        microsoft.answers["failureNotification"] = answer
        microsoft.run(microsoft.gate.refused(asking(), Conflict()))
        assert 1 == microsoft.actions().count("failureNotification")


class MatrixTests:
    """What Microsoft wants a certification authority to be tested for."""

    def test_enrollment(self, microsoft: Microsoft) -> None:
        """Validated, issued, told, handed out."""
        issued = microsoft.enroll()
        (record,) = microsoft.records()
        assert record.serial == issued.serial
        assert record.principal.startswith("mdm:intune:")
        assert ["validateRequest", "successNotification"] == (
            microsoft.actions()[-2:]
        )

    def test_repeated_request_is_told_again(
        self, microsoft: Microsoft
    ) -> None:
        """A phone that lost the answer gets it, once Intune has heard."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = asking(key=key)

        def ask() -> Issued:
            issued: Issued = microsoft.run(
                microsoft.ra.enroll(
                    EnrollmentRequest(
                        ENDPOINT,
                        Operation.ENROLL,
                        request.wanted,
                        (Challenge("blob", microsoft.gate),),
                        "r",
                        "192.0.2.1",
                        transaction="T1",
                    )
                )
            )
            return issued

        assert ask().certificate == ask().certificate
        assert 2 == microsoft.actions().count("successNotification")
        assert 1 == len(microsoft.records())

    def test_renewal_is_validated_again(self, microsoft: Microsoft) -> None:
        """A new challenge is validated, and its certificate told."""
        microsoft.enroll()
        microsoft.enroll(transaction="T2")
        assert 2 == microsoft.actions().count("validateRequest")
        assert 2 == microsoft.actions().count("successNotification")

    def test_challenge_authentication_failure(
        self, microsoft: Microsoft
    ) -> None:
        """A challenge that Intune refuses gets no certificate."""
        microsoft.answers["validateRequest"] = {"code": "ChallengeExpired"}
        with pytest.raises(ChallengeRejected):
            microsoft.enroll()
        assert [] == microsoft.records()

    def test_challenge_authentication_failure_2(
        self, microsoft: Microsoft
    ) -> None:
        """A 500 to the validation gets none, either."""
        microsoft.answers["validateRequest"] = 500
        with pytest.raises(Unavailable):
            microsoft.enroll()
        assert [] == microsoft.records()

    def test_success_notification_failure(self, microsoft: Microsoft) -> None:
        """A 500 to the notification: not handed out, and revoked."""
        microsoft.answers["successNotification"] = 500
        with pytest.raises(Unavailable):
            microsoft.enroll()
        (record,) = microsoft.records()
        assert CertificateStatus.REVOKED == record.status
        assert 3 == microsoft.actions().count("successNotification")

    @pytest.mark.parametrize("answer", [400, 401])
    def test_communication_failure(
        self, microsoft: Microsoft, answer: int
    ) -> None:
        """Without authentication to the directory nothing is issued."""
        microsoft.answers["token graph"] = answer
        with pytest.raises(Unavailable):
            microsoft.enroll()
        assert [] == microsoft.records()


class RevocationTests:
    """Asked to revoke, and does (N-3)."""

    def wants(self, microsoft: Microsoft, *serials: object) -> None:
        """Have Intune ask for revocations, once."""
        lists = iter(
            [
                {
                    "value": [
                        {"requestContext": f"c{n}", "serialNumber": serial}
                        for n, serial in enumerate(serials)
                    ]
                }
            ]
        )
        microsoft.answers["downloadRevocationRequests"] = lambda _: next(
            lists, {"value": []}
        )

    def results(self, microsoft: Microsoft) -> list[Any]:
        """Do the rounds, and return what Intune was told."""
        microsoft.run(microsoft.gate.tend())
        found: list[Any] = microsoft.last("uploadRevocationResults")["results"]
        return found

    def test_messages_are_as_documented(self, microsoft: Microsoft) -> None:
        """What is fetched, and what is told, to the letter."""
        issued = microsoft.enroll()
        self.wants(microsoft, issued.serial)
        assert [
            {
                "requestContext": "c0",
                "succeeded": True,
                "errorCode": 0,
                "errorMessage": "",
            }
        ] == self.results(microsoft)
        assert {
            "downloadParameters": {
                "maxRequests": 500,
                "issuerName": "CN=issuing CA",
            }
        } == microsoft.last("downloadRevocationRequests")
        _, _, headers = microsoft.heard[-1]
        assert [b"5019-05-05"] == headers[b"Api-Version"]
        (record,) = microsoft.records()
        assert CertificateStatus.REVOKED == record.status
        assert "cessationOfOperation" == record.revocation_reason

    def test_nothing_to_do(self, microsoft: Microsoft) -> None:
        """Where nothing is asked, nothing is told."""
        microsoft.run(microsoft.gate.tend())
        assert "uploadRevocationResults" not in microsoft.actions()

    def test_only_where_it_is_wanted(self, microsoft: Microsoft) -> None:
        """An operator may keep revocation to himself."""
        microsoft.run(microsoft.make_gate(revokes=False).tend())
        assert [] == microsoft.heard

    def test_twice_is_once(self, microsoft: Microsoft) -> None:
        """What is revoked already has been done."""
        issued = microsoft.enroll()
        self.wants(microsoft, issued.serial, issued.serial.upper())
        assert [0, 0] == [r["errorCode"] for r in self.results(microsoft)]

    def test_separators_do_not_count(self, microsoft: Microsoft) -> None:
        """A serial number may be written in pairs."""
        serial = microsoft.enroll().serial
        pairs = [serial[at : at + 2] for at in range(0, len(serial), 2)]
        self.wants(microsoft, ":".join(pairs)[:64], " ".join(pairs)[:64])
        results = self.results(microsoft)
        assert all(r["errorCode"] in {0, 4004} for r in results)

    def test_unknown_certificate(self, microsoft: Microsoft) -> None:
        """4004: there is no such certificate."""
        self.wants(microsoft, "00ff")
        (result,) = self.results(microsoft)
        assert (False, 4004) == (result["succeeded"], result["errorCode"])
        assert result["errorMessage"]

    def test_others_certificates_are_unknown(
        self, microsoft: Microsoft
    ) -> None:
        """Intune cannot revoke what came by another protocol."""
        from trstctl.model import Endpoint, Password
        from trstctl.testing import add_password

        add_password(microsoft.store, "router", "secret")
        issued = result_of(
            microsoft.ra.enroll(
                EnrollmentRequest(
                    Endpoint("est", "", TENANT, "device", "issuing"),
                    Operation.ENROLL,
                    asking("router").wanted,
                    (Password("router", "secret"),),
                    "r",
                    "192.0.2.1",
                )
            )
        )
        assert isinstance(issued, Issued)
        self.wants(microsoft, issued.serial)
        (result,) = self.results(microsoft)
        assert 4004 == result["errorCode"]

    @pytest.mark.parametrize("serial", [None, 7, ["a"], "a" * 65])
    def test_invalid_parameter(
        self, microsoft: Microsoft, serial: object
    ) -> None:
        """4002: this can be no serial number."""
        self.wants(microsoft, serial)
        (result,) = self.results(microsoft)
        assert (False, 4002) == (result["succeeded"], result["errorCode"])

    @pytest.mark.parametrize(
        ("error", "code"),
        [(Unavailable(), 4101), (Internal(), 4100), (Stale(), 4000)],
    )
    def test_revocation_that_fails(
        self,
        microsoft: Microsoft,
        error: Exception,
        code: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """4101 and 4100: Intune is to ask again; 4000: it is not."""
        issued = microsoft.enroll()
        self.wants(microsoft, issued.serial)

        def fails(*_: object) -> Any:
            raise error

        monkeypatch.setattr(microsoft.ra, "revoke", fails)
        (result,) = self.results(microsoft)
        assert (False, code) == (result["succeeded"], result["errorCode"])

    def test_full_lists_are_fetched_on(self, microsoft: Microsoft) -> None:
        """A full list is not the last; how many are fetched is bounded."""
        full = {
            "value": [{"requestContext": "c", "serialNumber": None}] * MOST
        }
        microsoft.answers["downloadRevocationRequests"] = full
        microsoft.run(microsoft.gate.tend())
        assert 4 == microsoft.actions().count("downloadRevocationRequests")

    @pytest.mark.parametrize(
        "answer",
        [
            *BAD,
            {"value": None},
            {"value": {}},
            {"value": ["odd"]},
            {"value": [{"requestContext": 7}]},
            {"value": [{}] * (MOST + 1)},
        ],
    )
    def test_bad_list(self, microsoft: Microsoft, answer: object) -> None:
        """A list that is none revokes nothing."""
        microsoft.answers["downloadRevocationRequests"] = answer
        with pytest.raises(Unavailable):
            microsoft.run(microsoft.gate.tend())

    @pytest.mark.parametrize(
        "answer", [*BAD, {"value": False}, {"value": "true"}]
    )
    def test_results_that_are_not_taken(
        self, microsoft: Microsoft, answer: object
    ) -> None:
        """What Intune does not take is told again in the next round."""
        self.wants(microsoft, "00ff")
        microsoft.answers["uploadRevocationResults"] = answer
        with pytest.raises(Unavailable):
            microsoft.run(microsoft.gate.tend())
