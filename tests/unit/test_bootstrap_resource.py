# SPDX-License-Identifier: MIT
"""Bootstrap and renewal through the real web layer."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from trstctl import errors
from trstctl.errors import PolicyViolation, Throttled, TrstctlError, leaves
from trstctl.interfaces import IEnrollmentProtocol
from trstctl.model import (
    CertificateQuery,
    Endpoint,
    Issued,
    OneTimeToken,
    Operation,
    Pending,
)
from trstctl.pkix.algorithms import sign
from trstctl.pkix.cms import ENVELOPED_DATA
from trstctl.pkix.csr import read_csr
from trstctl.pkix.signing import PreparedSignedData, prepare_signed
from trstctl.policy.profile import builtin_profiles
from trstctl.protocols.bootstrap.resource import CODES, BootstrapResource
from trstctl.protocols.bootstrap.settings import BootstrapSettings
from trstctl.rules import Windows
from trstctl.testing import (
    EPOCH,
    OTHER_TENANT,
    TENANT,
    Example,
    FakeSigner,
    MemoryStore,
    ProtocolContract,
    StubAuthority,
    WallClock,
    add_one_time_token,
    add_password,
    add_token,
    basic,
    bearer,
    exchange,
    make_authority,
    make_csr,
    make_ra,
    result_of,
    settings_for,
)
from trstctl.web import STATUS, HTTPRequest, HTTPResponse
from twisted.plugins.trstctl_bootstrap import bootstrap

PLUGIN: Any = bootstrap
ENROLL = "/enroll/bootstrap"
RENEW = "/enroll/renewal"
CSR = make_csr()
#: What curl says of ``-d``, whatever it sends.
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
RSA = rsa.generate_private_key(65537, 2048)
ISSUED = Issued(b"leaf", (b"issuer", b"root"), "1a", "device", "token:t")


def content(csr: bytes = CSR, token: str | None = "t") -> bytes:
    """Return a body."""
    fields = {"csr": base64.b64encode(csr).decode()}
    if token is not None:
        fields["token"] = token
    return json.dumps(fields).encode()


def post(
    ra: Any,
    body: bytes | None = None,
    headers: Any = FORM,
    path: str = ENROLL,
    *,
    certificate: bytes | None = None,
    clock: Clock | None = None,
    **settings: object,
) -> HTTPResponse:
    """Send a request for a certificate."""
    if body is None:
        body = content(token="t" if path.endswith("bootstrap") else None)
    return exchange(
        PLUGIN.make_resource(ra, settings_for(PLUGIN, **settings)),
        "POST",
        path,
        body,
        headers,
        client_certificate=certificate,
        clock=clock,
    )


def told(answer: HTTPResponse, status: int, code: str) -> Any:
    """Return the JSON of an error, which is whole."""
    assert status == answer.status, answer.body
    assert "application/json" == answer.content_type
    found = json.loads(answer.body)
    assert {"error", "reason", "request_id"} == set(found)
    assert code == found["error"]
    assert found["request_id"] == answer.headers["X-Request-Id"]
    return found["reason"]


def chain_of(answer: HTTPResponse) -> list[bytes]:
    """Return the DER certificates of a good answer."""
    assert 200 == answer.status, answer.body
    assert "application/json" == answer.content_type
    found = json.loads(answer.body)
    assert {"certificate"} == set(found)
    return [
        one.public_bytes(Encoding.DER)
        for one in x509.load_pem_x509_certificates(
            found["certificate"].encode()
        )
    ]


class BootstrapContractTests(ProtocolContract):
    """What every protocol owes its users."""

    unknown_paths = ("/enroll", "/enroll/", "/enroll/x", "/enroll/x/renewal")

    @pytest.fixture(autouse=True)
    def _logged(self, logged: Any) -> None:
        self.logged = logged

    def forgive(self, kind: type[Exception]) -> None:
        """Take an error that was logged on purpose out of the log."""
        self.logged.flush(kind)

    def make_plugin(self) -> IEnrollmentProtocol:
        """Return the bootstrap."""
        found: IEnrollmentProtocol = PLUGIN
        return found

    def make_example(self, csr: bytes) -> Example:
        """Return what a device sends."""
        return Example(ENROLL, content(csr), headers=FORM)

    def test_enrolls(self) -> None:
        """Here it takes a token; a right password beside it is judged."""
        store: Any = MemoryStore()
        add_password(store, "contract", "secret")
        token = add_one_time_token(store, "once")
        ra = make_ra(store)
        for password, status in (("wrong", 401), ("secret", 200)):
            answer = post(
                ra,
                content(token=token),
                {**FORM, **basic("contract", password)},
            )
            assert status == answer.status


# --- settings and paths -----------------------------------------------------


LABELS = {
    "all": {"tenant_id": OTHER_TENANT, "profile": "p1", "authority": "a1"},
    "none": {},
}


class SettingsTests:
    """The section ``protocols.bootstrap``."""

    def test_fragment_of_the_documentation(self) -> None:
        """``bootstrap: {enabled: true, tenant_id: ...}`` is enough."""
        settings = BootstrapSettings(enabled=True, tenant_id=TENANT)
        assert verifyObject(IEnrollmentProtocol, PLUGIN)
        assert ("/enroll",) == PLUGIN.paths(settings)
        assert (
            Endpoint("bootstrap", "", TENANT, "device", "issuing"),
        ) == PLUGIN.endpoints(settings)

    def test_https_only(self) -> None:
        """A token in the clear would be anybody's."""
        assert not PLUGIN.plain_http()

    def test_labels_inherit(self) -> None:
        """What a label leaves out is as in the protocol's own section."""
        settings = settings_for(
            PLUGIN, profile="p0", authority="a0", labels=LABELS
        )
        assert (
            Endpoint("bootstrap", "", TENANT, "p0", "a0"),
            Endpoint("bootstrap", "all", OTHER_TENANT, "p1", "a1"),
            Endpoint("bootstrap", "none", TENANT, "p0", "a0"),
        ) == PLUGIN.endpoints(settings)

    @pytest.mark.parametrize(
        "settings",
        [
            {"labels": {"bootstrap": {}}},
            {"labels": {"renewal": {}}},
            {"labels": {"tokens": {}}},
            {"labels": {"Upper": {}}},
            {"labels": {"a": {"x": 1}}},
            {"labels": {"a": {"signed_renewal": "yes"}}},
            {"signed_renewal": 1},
            {"no_such_key": 1},
        ],
    )
    def test_faults(self, settings: Mapping[str, object]) -> None:
        """What cannot be meant is refused at the start."""
        with pytest.raises(ValidationError):
            settings_for(PLUGIN, **settings)

    def test_signed_renewals(self) -> None:
        """On, unless it is turned off, for all or for a label."""
        labels = {"a": {}, "b": {"signed_renewal": False}}
        settings: Any = settings_for(PLUGIN, labels=labels)
        assert {"", "a"} == settings.signed_labels()
        labels = {"a": {}, "b": {"signed_renewal": True}}
        settings = settings_for(PLUGIN, labels=labels, signed_renewal=False)
        assert {"b"} == settings.signed_labels()

    def test_needs_a_tenant(self) -> None:
        """An enabled protocol binds to a tenant."""
        with pytest.raises(ValueError, match="no tenant_id"):
            PLUGIN.endpoints(BootstrapSettings(enabled=True))


class PathTests:
    """The path, and nothing else, decides endpoint and operation."""

    @pytest.mark.parametrize("label", ["", "all/", "none/"])
    @pytest.mark.parametrize(
        ("operation", "expected"),
        [("bootstrap", Operation.ENROLL), ("renewal", Operation.RENEW)],
    )
    def test_reaches_the_authority(
        self, label: str, operation: str, expected: Operation
    ) -> None:
        """With and without a label."""
        stub = StubAuthority(ISSUED)
        path = f"/enroll/{label}{operation}"
        assert 200 == post(stub, path=path, labels=LABELS).status
        (request,) = stub.requests
        assert expected is request.operation
        assert label.rstrip("/") == request.endpoint.name
        tenant = OTHER_TENANT if label == "all/" else TENANT
        assert tenant == request.endpoint.tenant_id

    @pytest.mark.parametrize(
        "path",
        [
            "/enroll",
            "/enroll/",
            "/enroll/all",
            "/enroll/nothing",
            "/enroll/nowhere/bootstrap",
            "/enroll/all/all/bootstrap",
            "/enroll/bootstrap/bootstrap",
            "/enroll/All/renewal",
            "/enroll/tokens/a/b",
            "/enroll/all/tokens/a/b",
            "/enroll/nowhere/tokens",
            "/enroll/renewal/tokens",
        ],
    )
    def test_no_such_path(self, path: str) -> None:
        """404, in JSON."""
        stub = StubAuthority(ISSUED)
        told(post(stub, path=path, labels=LABELS), 404, "not-found")
        assert 1 == len(stub.refusals)

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
    @pytest.mark.parametrize("path", [ENROLL, RENEW])
    def test_wrong_method(self, method: str, path: str) -> None:
        """405 with Allow, in JSON."""
        resource = PLUGIN.make_resource(
            StubAuthority(ISSUED), settings_for(PLUGIN)
        )
        answer = exchange(resource, method, path)
        told(answer, 405, "method-not-allowed")
        assert "POST" == answer.headers["Allow"]

    @pytest.mark.parametrize(
        ("path", "allowed"),
        [
            ("/enroll/tokens", "GET, POST, HEAD"),
            ("/enroll/all/tokens", "GET, POST, HEAD"),
            ("/enroll/tokens/0f", "DELETE"),
            ("/enroll/all/tokens/0f", "DELETE"),
            ("/enroll/tokens/tokens", "DELETE"),
        ],
    )
    def test_methods_of_tokens(self, path: str, allowed: str) -> None:
        """405 with Allow for any other method."""
        resource = PLUGIN.make_resource(
            StubAuthority(ISSUED), settings_for(PLUGIN, labels=LABELS)
        )
        answer = exchange(resource, "PUT", path)
        told(answer, 405, "method-not-allowed")
        assert allowed == answer.headers["Allow"]

    def test_ids_are_no_operations(self) -> None:
        """Else everybody could make metrics of his own."""
        resource = PLUGIN.make_resource(
            StubAuthority(ISSUED), settings_for(PLUGIN, labels=LABELS)
        )
        for path, operation in {
            ("tokens", "0f"): "tokens",
            ("all", "tokens", "0f"): "tokens",
            ("all", "renewal"): "renewal",
            ("nowhere", "x"): "",
            (): "",
        }.items():
            assert operation == resource.operation(HTTPRequest("GET", path))


# --- bodies and labels ------------------------------------------------------


class BodyTests:
    """What a device may send."""

    @pytest.mark.parametrize(
        "label",
        [
            None,
            "",
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/x-www-form-urlencoded",
            "text/plain",
        ],
    )
    def test_media_type(self, label: str | None) -> None:
        """JSON, what ``curl -d`` says, plain text, and nothing at all."""
        headers = {} if label is None else {"Content-Type": label}
        for path in (ENROLL, RENEW):
            answer = post(StubAuthority(ISSUED), headers=headers, path=path)
            assert 200 == answer.status

    @pytest.mark.parametrize("origin", ["https://page.example", "null"])
    def test_pages_in_a_browser(self, origin: str) -> None:
        """403: the browser's user has not asked for it (CSRF)."""
        stub = StubAuthority(ISSUED)
        for path in (ENROLL, RENEW, "/enroll/tokens"):
            answer = post(stub, headers={**FORM, "Origin": origin}, path=path)
            assert "browser" in told(answer, 403, "not-authorized")
        assert 3 == len(stub.refusals)
        assert [] == stub.requests

    @pytest.mark.parametrize(
        "label",
        [
            "application/pkcs10",
            "multipart/form-data; boundary=x",
            "application/jsonx",
            "text/html",
            "*/*",
        ],
    )
    def test_other_media_types(self, label: str) -> None:
        """415, audited."""
        stub = StubAuthority(ISSUED)
        for path in (ENROLL, RENEW):
            answer = post(stub, headers={"Content-Type": label}, path=path)
            told(answer, 415, "unsupported-media-type")
        assert 2 == len(stub.refusals)
        assert [] == stub.requests

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            (ENROLL, b""),
            (ENROLL, b"token=t&csr=x"),
            (ENROLL, content(token=None)),
            (ENROLL, content(b"no request")),
            (ENROLL, content(CSR + b"\0")),
            (RENEW, content()),
            (RENEW, b"[]"),
        ],
    )
    def test_malformed(self, path: str, body: bytes) -> None:
        """400, audited, and nothing is asked of the authority."""
        stub = StubAuthority(ISSUED)
        told(post(stub, body, path=path), 400, "malformed")
        assert [] == stub.requests
        assert 1 == len(stub.refusals)

    def test_too_large(self) -> None:
        """413 beyond 64 KiB, before it is read."""
        answer = post(StubAuthority(ISSUED), b" " * 65_537)
        told(answer, 413, "too-large")

    def test_compressed(self) -> None:
        """A coding is a way past every limit."""
        headers = {**FORM, "Content-Encoding": "gzip"}
        answer = post(StubAuthority(ISSUED), headers=headers)
        told(answer, 415, "unsupported-media-type")

    def test_what_reaches_the_authority(self) -> None:
        """Token, request, key, and all other credentials."""
        stub = StubAuthority(ISSUED)
        headers = {**FORM, **basic("a", "b"), "Idempotency-Key": '"k"'}
        post(stub, headers=headers, certificate=b"der")
        post(stub, headers=headers, path=RENEW, certificate=b"der")
        first, second = stub.requests
        assert OneTimeToken("t") == first.credentials[0]
        assert first.credentials[1:] == second.credentials
        assert 2 == len(second.credentials)
        for request in stub.requests:
            assert read_csr(CSR) == request.wanted
            assert "k" == request.idempotency_key

    def test_wrong_idempotency_key(self) -> None:
        """400 for what could be understood in two ways."""
        headers = [*FORM.items(), ("Idempotency-Key", "a b")]
        told(post(StubAuthority(), headers=headers), 400, "malformed")


# --- answers ----------------------------------------------------------------


def an_error(leaf: type[TrstctlError]) -> TrstctlError:
    """Return an error of the class, whatever its arguments are."""
    arguments: Mapping[type[TrstctlError], tuple[Any, ...]] = {
        PolicyViolation: ("device", "key-type", "not allowed"),
        Throttled: (30,),
    }
    return leaf(*arguments.get(leaf, ()))


class AnswerTests:
    """What a device gets."""

    def test_chain_without_root(self) -> None:
        """The certificate first, its issuers after it, and no root."""
        authority: Any = make_authority()
        leaf = make_authority().certificate
        resource = PLUGIN.make_resource(
            StubAuthority(
                evolve(ISSUED, certificate=leaf, chain=authority.chain)
            ),
            settings_for(PLUGIN),
        )
        for _ in range(2):
            answer = exchange(resource, "POST", ENROLL, content(), FORM)
            assert [leaf, authority.certificate] == chain_of(answer)

    def test_issuer_that_is_its_own_root(self) -> None:
        """Then there is nothing to send but the certificate."""
        authority: Any = make_authority()
        stub = StubAuthority(
            evolve(
                ISSUED,
                certificate=authority.certificate,
                chain=authority.chain[1:],
            )
        )
        assert [authority.certificate] == chain_of(post(stub))

    def test_table_is_total(self) -> None:
        """Each leaf of the tree has its row, and no row is another's."""
        assert set(leaves()) == set(CODES)

    @pytest.mark.parametrize("path", [ENROLL, RENEW])
    @pytest.mark.parametrize("leaf", leaves())
    def test_every_error(self, leaf: type[TrstctlError], path: str) -> None:
        """JSON with code, reason and id, and the status of HTTP's table."""
        error = an_error(leaf)
        answer = post(StubAuthority(error), path=path)
        reason = told(answer, STATUS[leaf], CODES[leaf])
        assert error.detail == reason

    def test_wrong_credentials_are_all_alike(self) -> None:
        """401 with a challenge; one text, whatever was wrong."""
        reasons = set()
        for error in (
            errors.NotAuthenticated(),
            errors.ChallengeRejected(),
            errors.ChallengeRejected(reused=True),
        ):
            answer = post(StubAuthority(error))
            reasons.add(told(answer, 401, "not-authenticated"))
            challenge = answer.headers["WWW-Authenticate"]
            assert 'Bearer realm="bootstrap"' == challenge
        assert {"authentication is required"} == reasons

    def test_retry_after(self) -> None:
        """429 says how long; 503 adds a jitter."""
        answer = post(StubAuthority(Throttled(6)))
        assert "6" == answer.headers["Retry-After"]
        answer = post(StubAuthority(errors.Unavailable()))
        assert 5 <= int(str(answer.headers["Retry-After"])) <= 10

    def test_long_reason(self) -> None:
        """What a peer wrote comes back cut, and as JSON."""
        answer = post(StubAuthority(errors.Malformed('"\r\n\xe4' * 1000)))
        assert 400 == len(told(answer, 400, "malformed"))

    def test_held(self) -> None:
        """202 with Retry-After and the reference that an operator sees."""
        answer = post(StubAuthority(Pending(60, "ref", "p", "device")))
        assert 202 == answer.status
        assert "60" == answer.headers["Retry-After"]
        assert {
            "status": "pending",
            "reference": "ref",
            "request_id": answer.headers["X-Request-Id"],
        } == json.loads(answer.body)

    def test_in_flight(self) -> None:
        """409 with Retry-After."""
        answer = post(
            StubAuthority(Pending(2, "ref", "p", "device", in_flight=True))
        )
        told(answer, 409, "in-flight")
        assert "2" == answer.headers["Retry-After"]


# --- end to end -------------------------------------------------------------


class _Bench:
    """A registration authority for two tenants, and the bootstrap."""

    def __init__(self, **profile: object) -> None:
        self.clock = Clock()
        self.store: Any = MemoryStore()
        self.signer = FakeSigner()
        settings: Any = evolve(builtin_profiles()["device"], **profile)
        self.ra = make_ra(
            self.store,
            authorities={"issuing": make_authority(signer=self.signer)},  # type: ignore[dict-item]
            profiles={"device": settings},
            clock=self.clock,
            now=WallClock(self.clock),
        )
        labels = {
            "b": {"tenant_id": OTHER_TENANT},
            "client": {"profile": "tls-client"},
            "tls": {"signed_renewal": False},
            "twin": {},
        }
        self.resource: BootstrapResource = PLUGIN.make_resource(
            self.ra, settings_for(PLUGIN, labels=labels)
        )
        self.key = ec.generate_private_key(ec.SECP256R1())

    def token(self, name: str = "once", **more: Any) -> str:
        """Return a new token."""
        return add_one_time_token(self.store, name, **more)

    def csr(
        self, common_name: str = "d.example", names: tuple[str, ...] = ()
    ) -> bytes:
        """Return a request, signed anew."""
        return make_csr(common_name, names, self.key)

    def post(
        self,
        token: str | None,
        csr: bytes | None = None,
        path: str = ENROLL,
        certificate: bytes | None = None,
        **headers: str,
    ) -> HTTPResponse:
        """Send a request."""
        return exchange(
            self.resource,
            "POST",
            path,
            content(csr or self.csr(), token),
            {**FORM, **headers},
            client_certificate=certificate,
            clock=self.clock,
        )

    def revoke(self, name: str) -> None:
        """Revoke a token."""
        result_of(self.store.revoke_secret(TENANT, name, "ann", EPOCH))

    def count(self, tenant_id: str = TENANT) -> int:
        """Return how many certificates the tenant has."""
        query = CertificateQuery(tenant_id)
        return len(result_of(self.store.list_certificates(query)))

    def burnt(self, name: str = "once") -> bool:
        """Tell whether the token is burnt."""
        return self.store.tables.secrets[TENANT, name].burnt_at is not None

    def events(self, tenant_id: str = TENANT) -> list[str]:
        """Return the tenant's audit events."""
        records = result_of(self.store.audit_records(tenant_id, 0, 1000))
        return [json.loads(one.body)["event"] for one in records]


class TokenTests:
    """A token buys one certificate, for one key, once."""

    def test_retry_with_the_same_key(self) -> None:
        """Signed anew, with or without a key of its own: the same bytes."""
        bench = _Bench()
        token = bench.token()
        first = bench.post(token)
        for headers in ({}, {"Idempotency-Key": "a"}, {}):
            again = bench.post(token, **headers)
            assert chain_of(first) == chain_of(again)
        assert 1 == bench.count() == len(bench.signer.signed)

    def test_another_key(self) -> None:
        """401, and an alarm in the audit log."""
        bench = _Bench()
        token = bench.token()
        bench.post(token)
        told(bench.post(token, make_csr()), 401, "not-authenticated")
        assert "secret.reused" == bench.events()[-1]
        assert 1 == bench.count()

    @pytest.mark.parametrize(
        ("csr", "status", "code"),
        [
            (make_csr("d", ("dns:bad..name",)), 403, "policy-violation"),
            (make_csr("d", ("dns:other.example",)), 403, "policy-violation"),
            (CSR[:-1] + bytes([CSR[-1] ^ 1]), 403, "policy-violation"),
            (b"0", 400, "malformed"),
        ],
    )
    def test_refused_requests_burn_nothing(
        self, csr: bytes, status: int, code: str
    ) -> None:
        """R-3: the token still serves a good request."""
        bench = _Bench()
        token = bench.token(names=("cn:d.example",))
        told(bench.post(token, csr), status, code)
        assert not bench.burnt()
        assert 200 == bench.post(token).status

    def test_bad_proof_burns_nothing(self) -> None:
        """Nor does a request that its key has not signed."""
        bench = _Bench()
        token, csr = bench.token(), bench.csr()
        forged = csr[:-1] + bytes([csr[-1] ^ 1])
        answer = bench.post(token, forged)
        assert 400 == answer.status
        assert not bench.burnt()

    @pytest.mark.parametrize("path", [ENROLL, "/enroll/client/bootstrap"])
    @pytest.mark.parametrize("profile", ["device", "tls-client"])
    def test_bound_to_its_profile(self, path: str, profile: str) -> None:
        """403 where another profile is offered."""
        bench = _Bench()
        answer = bench.post(bench.token(profile=profile), path=path)
        if ("client" in path) == (profile == "tls-client"):
            assert 200 == answer.status
        else:
            reason = told(answer, 403, "policy-violation")
            assert "principal-allowed" in reason
            assert not bench.burnt()

    def test_bound_to_its_names(self) -> None:
        """403 for any other; the rule is named."""
        bench = _Bench()
        token = bench.token(names=("cn:device-1",))
        reason = told(bench.post(token), 403, "policy-violation")
        assert "principal-names" in reason
        assert 200 == bench.post(token, bench.csr("device-1")).status

    def test_bound_to_its_key(self) -> None:
        """401 for any other key, and the right one is not hurt."""
        bench = _Bench()
        csr = bench.csr()
        key = read_csr(csr).public_key.fingerprint
        token = bench.token(key_fingerprint=key)
        told(bench.post(token, make_csr()), 401, "not-authenticated")
        assert "request.refused" == bench.events()[-1]
        assert 200 == bench.post(token, csr).status

    def test_bound_to_its_tenant(self) -> None:
        """At another tenant's endpoint it is unknown."""
        bench = _Bench()
        mine = bench.token()
        theirs = bench.token(tenant_id=OTHER_TENANT)
        for token, path in (
            (mine, "/enroll/b/bootstrap"),
            (theirs, ENROLL),
        ):
            told(bench.post(token, path=path), 401, "not-authenticated")
        assert 0 == bench.count() == bench.count(OTHER_TENANT)
        assert 200 == bench.post(theirs, path="/enroll/b/bootstrap").status
        assert (0, 1) == (bench.count(), bench.count(OTHER_TENANT))

    def test_wrong_tokens_are_all_alike(self) -> None:
        """Unknown, expired, revoked, burnt: the same answer but its id."""
        bench = _Bench()
        ended = bench.token("ended", life=timedelta(seconds=1))
        taken = bench.token("taken")
        bench.revoke("taken")
        used = bench.token("used")
        bench.post(used, make_csr())
        bench.clock.advance(1)
        reasons = {
            told(bench.post(token), 401, "not-authenticated")
            for token in ("guess", ended, taken, used)
        }
        assert 1 == len(reasons)

    def test_guesses_are_throttled(self) -> None:
        """429, while a right token still passes."""
        bench = _Bench()
        token = bench.token()
        answers = [bench.post(f"guess-{n}").status for n in range(11)]
        assert [401] * 10 + [429] == answers
        assert 200 == bench.post(token).status

    def test_held(self) -> None:
        """A held request reserves its token: for its own key only."""
        bench = _Bench(approval="always")
        token, csr = bench.token(), bench.csr()
        answer = bench.post(token, csr)
        assert 202 == answer.status
        assert 401 == bench.post(token, make_csr("d.example")).status
        reference = json.loads(answer.body)["reference"]
        result_of(
            bench.store.decide_request(
                *(TENANT, reference, True, "ann", "", EPOCH),
                EPOCH + timedelta(days=1),
            )
        )
        # Signed anew, as a device does that starts again.
        assert 200 == bench.post(token).status
        assert bench.burnt()


class RenewalTests:
    """The current certificate buys the next one."""

    def first(self, bench: _Bench, path: str = ENROLL) -> bytes:
        """Return a certificate that a token bought."""
        tenant = OTHER_TENANT if "/b/" in path else TENANT
        token = bench.token(f"for {path}", tenant_id=tenant)
        return chain_of(bench.post(token, path=path))[0]

    def renew(
        self, bench: _Bench, certificate: bytes | None, **more: Any
    ) -> HTTPResponse:
        """Renew."""
        more.setdefault("path", RENEW)
        return bench.post(None, certificate=certificate, **more)

    def test_renews(self) -> None:
        """With the same key or another one; each buys the next."""
        bench = _Bench()
        certificate = self.first(bench)
        for key in (bench.key, ec.generate_private_key(ec.SECP256R1())):
            bench.clock.advance(60)
            csr = make_csr("d.example", key=key)
            renewed = chain_of(self.renew(bench, certificate, csr=csr))[0]
            assert certificate != renewed
            certificate = renewed
        assert 3 == bench.count()

    def test_same_request_same_certificate(self) -> None:
        """Within the retry window, as over EST."""
        bench = _Bench()
        certificate, csr = self.first(bench), bench.csr()
        one, two = (
            chain_of(self.renew(bench, certificate, csr=csr)) for _ in "12"
        )
        assert one == two

    def test_idempotency_key(self) -> None:
        """422 for another request under the same key."""
        bench = _Bench()
        certificate = self.first(bench)
        key = {"Idempotency-Key": "k"}
        assert 200 == self.renew(bench, certificate, **key).status
        told(self.renew(bench, certificate, **key), 422, "conflict")

    def test_nobody(self) -> None:
        """401 without a certificate."""
        told(self.renew(_Bench(), None), 401, "not-authenticated")

    def test_password_is_no_certificate(self) -> None:
        """403: a renewal needs the certificate."""
        bench = _Bench()
        add_password(bench.store, "a", "b")
        answer = self.renew(bench, None, **basic("a", "b"))
        told(answer, 403, "not-authorized")

    def test_other_subject(self) -> None:
        """403: subject and names are those of the certificate."""
        bench = _Bench()
        certificate = self.first(bench)
        answer = self.renew(bench, certificate, csr=bench.csr("e.example"))
        assert "renewal-subject" in told(answer, 403, "policy-violation")

    def test_other_profile(self) -> None:
        """403 at an endpoint of another profile."""
        bench = _Bench()
        answer = self.renew(
            bench, self.first(bench), path="/enroll/client/renewal"
        )
        assert "renewal-profile" in told(answer, 403, "policy-violation")

    def test_other_tenant(self) -> None:
        """401: unknown there."""
        bench = _Bench()
        answer = self.renew(bench, self.first(bench), path="/enroll/b/renewal")
        told(answer, 401, "not-authenticated")
        theirs = self.first(bench, "/enroll/b/bootstrap")
        told(self.renew(bench, theirs), 401, "not-authenticated")

    def test_revoked(self) -> None:
        """403 from the next request on."""
        bench = _Bench()
        certificate = self.first(bench)
        serial = x509.load_der_x509_certificate(certificate).serial_number
        result_of(bench.ra.revoke(TENANT, f"{serial:x}", "superseded", "ann"))
        told(self.renew(bench, certificate), 403, "not-authorized")

    def test_too_early(self) -> None:
        """403 before the profile's window."""
        bench = _Bench(renewal_window=timedelta(days=30))
        answer = self.renew(bench, self.first(bench))
        assert "renewal-window" in told(answer, 403, "policy-violation")

    def test_expired(self) -> None:
        """403 after its end, but for the profile's grace."""
        for grace, status in ((0, 403), (2, 200)):
            bench = _Bench(
                validity_default=timedelta(days=2),
                renewal_grace=timedelta(days=grace),
            )
            certificate = self.first(bench)
            bench.clock.advance(3 * 86_400)
            assert status == self.renew(bench, certificate).status


class SignedRenewalTests:
    """A signature over the request, where TLS ends in front of us."""

    def first(self, bench: _Bench, path: str = ENROLL) -> bytes:
        """Return a certificate that a token bought."""
        tenant = OTHER_TENANT if "/b/" in path else TENANT
        token = bench.token(f"for {path}", tenant_id=tenant)
        return chain_of(bench.post(token, path=path))[0]

    def message(
        self, bench: _Bench, certificate: bytes, **more: Any
    ) -> PreparedSignedData:
        """Return what is to be signed."""
        given: dict[str, Any] = {
            "content": bench.csr(),
            "certificate": certificate,
            "algorithm": "ecdsa-with-sha256",
            "attributes": {},
            "signing_time": bench.ra.now(),
            **more,
        }
        return prepare_signed(given.pop("content"), **given)

    def signed(
        self,
        bench: _Bench,
        certificate: bytes,
        key: Any = None,
        **more: Any,
    ) -> bytes:
        """Return a signed request."""
        prepared = self.message(bench, certificate, **more)
        return prepared.finish(
            sign(
                key or bench.key,
                prepared.algorithm,
                prepared.to_sign,
                legacy=True,
            )
        )

    def renew(
        self,
        bench: _Bench,
        cms: bytes,
        path: str = RENEW,
        certificate: bytes | None = None,
        **headers: str,
    ) -> HTTPResponse:
        """Send a signed request."""
        return exchange(
            bench.resource,
            "POST",
            path,
            json.dumps({"cms": base64.b64encode(cms).decode()}).encode(),
            {**FORM, **headers},
            client_certificate=certificate,
            clock=bench.clock,
        )

    def test_renews(self) -> None:
        """Each certificate buys the next, with another key."""
        bench = _Bench()
        certificate, key = self.first(bench), bench.key
        for _ in range(2):
            bench.clock.advance(3600)
            bench.key = ec.generate_private_key(ec.SECP256R1())
            cms = self.signed(bench, certificate, key)
            renewed = chain_of(self.renew(bench, cms))[0]
            assert certificate != renewed
            certificate, key = renewed, bench.key
        assert 3 == bench.count()

    def test_rules_of_a_renewal(self) -> None:
        """Subject and names are those of the certificate."""
        bench = _Bench()
        cms = self.signed(
            bench, self.first(bench), content=bench.csr("e.example")
        )
        reason = told(self.renew(bench, cms), 403, "policy-violation")
        assert "renewal-subject" in reason

    def test_copies(self) -> None:
        """Who repeats it gets the same certificate, and later nothing."""
        bench = _Bench()
        cms = self.signed(bench, self.first(bench))
        one = self.renew(bench, cms)
        bench.clock.advance(299)
        two = self.renew(bench, cms)
        three = self.renew(bench, cms, **{"Idempotency-Key": "copy"})
        assert chain_of(one) == chain_of(two) == chain_of(three)
        bench.clock.advance(2)
        told(self.renew(bench, cms), 401, "not-authenticated")
        assert 2 == bench.count()

    def test_copies_at_another_label(self) -> None:
        """It is good for one certificate, not for one at each endpoint."""
        bench = _Bench()
        cms = self.signed(bench, self.first(bench))
        assert 200 == self.renew(bench, cms).status
        answer = self.renew(bench, cms, "/enroll/twin/renewal")
        told(answer, 422, "conflict")
        assert 2 == bench.count()

    def test_short_retry_window(self) -> None:
        """A copy counts for nothing, however soon requests are forgotten."""
        bench = _Bench()
        bench.ra.windows = Windows(retry=timedelta(seconds=1))
        cms = self.signed(bench, self.first(bench))
        one = chain_of(self.renew(bench, cms))
        bench.clock.advance(60)
        assert one == chain_of(self.renew(bench, cms))

    @pytest.mark.parametrize(
        ("seconds", "status"),
        [(-301, 401), (-300, 200), (300, 200), (301, 401)],
    )
    def test_fresh(self, seconds: int, status: int) -> None:
        """Five minutes from our clock, either way; the reason says so."""
        bench = _Bench()
        certificate = self.first(bench)
        bench.clock.advance(3600)
        at = bench.ra.now() + timedelta(seconds=seconds)
        answer = self.renew(
            bench, self.signed(bench, certificate, signing_time=at)
        )
        assert status == answer.status
        assert (status == 401) == (b"set the clock" in answer.body)

    def test_another_key(self) -> None:
        """400, whatever its age: only who has the key is told of it."""
        bench = _Bench()
        certificate = self.first(bench)
        thief = ec.generate_private_key(ec.SECP256R1())
        for at in (bench.ra.now(), EPOCH - timedelta(days=9)):
            cms = self.signed(bench, certificate, thief, signing_time=at)
            told(self.renew(bench, cms), 400, "message-check-failed")
        record = result_of(bench.store.audit_records(TENANT, 0, 100))[-1]
        assert "request.refused" == json.loads(record.body)["event"]

    def test_other_content(self) -> None:
        """A signature is for one request only."""
        bench = _Bench()
        csr = bench.csr()
        cms = self.signed(bench, self.first(bench), content=csr)
        place = cms.index(csr)
        damaged = bytearray(cms)
        damaged[place + len(csr) - 1] ^= 1
        answer = self.renew(bench, bytes(damaged))
        told(answer, 400, "message-check-failed")

    def test_every_octet_counts(self) -> None:
        """One octet changed: an error in JSON, and no certificate."""
        bench = _Bench()
        cms = self.signed(bench, self.first(bench))
        for place in range(len(cms)):
            damaged = bytearray(cms)
            damaged[place] ^= 0x11
            answer = self.renew(bench, bytes(damaged))
            assert answer.status in {400, 401, 413}, place
        assert 1 == bench.count()

    def test_unknown_certificates(self) -> None:
        """401 for a foreign one, and for one that only looks like ours."""
        bench = _Bench()
        certificate = self.first(bench)
        foreign = _Bench()
        theirs = self.first(foreign)
        cms = self.signed(bench, theirs, foreign.key)
        one = told(self.renew(bench, cms), 401, "not-authenticated")
        like = certificate[:-1] + bytes([certificate[-1] ^ 1])
        cms = self.signed(bench, like)
        two = told(self.renew(bench, cms), 401, "not-authenticated")
        assert "authentication is required" == one == two

    def test_other_tenant(self) -> None:
        """R-10: unknown there."""
        bench = _Bench()
        cms = self.signed(bench, self.first(bench))
        answer = self.renew(bench, cms, "/enroll/b/renewal")
        told(answer, 401, "not-authenticated")
        cms = self.signed(bench, self.first(bench, "/enroll/b/bootstrap"))
        told(self.renew(bench, cms), 401, "not-authenticated")
        assert 200 == self.renew(bench, cms, "/enroll/b/renewal").status

    def test_revoked(self) -> None:
        """403 from the next request on, even for a repeated one."""
        bench = _Bench()
        certificate = self.first(bench)
        cms = self.signed(bench, certificate)
        assert 200 == self.renew(bench, cms).status
        serial = x509.load_der_x509_certificate(certificate).serial_number
        result_of(bench.ra.revoke(TENANT, f"{serial:x}", "unspecified", "ann"))
        told(self.renew(bench, cms), 403, "not-authorized")

    def test_turned_off(self) -> None:
        """403 where only TLS counts."""
        bench = _Bench()
        cms = self.signed(bench, self.first(bench))
        answer = self.renew(bench, cms, "/enroll/tls/renewal")
        assert "not accepted" in told(answer, 403, "not-authorized")

    def test_before_a_certificate_of_the_connection(self) -> None:
        """The signer renews, not what ends TLS in front of us."""
        bench = _Bench()
        certificate, key = self.first(bench), bench.key
        bench.key = ec.generate_private_key(ec.SECP256R1())
        proxy = chain_of(
            bench.post(bench.token("proxy"), bench.csr("proxy.example"))
        )[0]
        bench.key = key
        cms = self.signed(bench, certificate)
        assert 200 == self.renew(bench, cms, certificate=proxy).status

    def test_wrong_password_beside_it(self) -> None:
        """Each credential that is presented must be right."""
        bench = _Bench()
        cms = self.signed(bench, self.first(bench))
        answer = self.renew(bench, cms, **basic("a", "b"))
        told(answer, 401, "not-authenticated")

    def test_incomplete(self) -> None:
        """RFC 5652, sections 5.2 and 11.3: content, signer, signing time."""
        bench = _Bench()
        certificate = self.first(bench)
        for more, text in (
            ({"content": None}, "-nodetach"),
            ({"content_type": ENVELOPED_DATA}, "-nodetach"),
            ({"certificates": ()}, "signer's certificate"),
            ({"signing_time": None}, "signing time"),
            ({"content": b"no request"}, "DER"),
        ):
            cms = self.signed(bench, certificate, **more)
            reason = told(self.renew(bench, cms), 400, "malformed")
            assert text in reason

    @pytest.mark.parametrize(
        ("key", "algorithm", "status"),
        [
            (RSA, "sha1-with-rsa", 400),
            (RSA, "sha256-with-rsa", 200),
            (RSA, "rsassa-pss-with-sha256", 200),
            (ed25519.Ed25519PrivateKey.generate(), "ed25519", 200),
            (
                ec.generate_private_key(ec.SECP384R1()),
                "ecdsa-with-sha384",
                200,
            ),
        ],
        ids=["SHA-1", "RSA", "PSS", "Ed25519", "ECDSA"],
    )
    def test_algorithms(self, key: Any, algorithm: str, status: int) -> None:
        """SHA-256 or better; SHA-1 is refused before it is computed."""
        bench = _Bench()
        digest = None if algorithm == "ed25519" else hashes.SHA384()
        csr = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.load_der_x509_csr(CSR).subject)
            .sign(key, digest)
            .public_bytes(Encoding.DER)
        )
        certificate = chain_of(bench.post(bench.token(), csr))[0]
        cms = self.signed(
            bench, certificate, key, content=csr, algorithm=algorithm
        )
        answer = self.renew(bench, cms)
        assert status == answer.status, answer.body
        if status == 400:
            told(answer, 400, "unsupported-algorithm")


class RegistrarTests:
    """Tokens over the network, for who has that right."""

    PATH = "/enroll/tokens"

    def ask(
        self,
        bench: _Bench,
        registrar: str | None,
        method: str = "GET",
        path: str = PATH,
        body: object = None,
        **headers: str,
    ) -> HTTPResponse:
        """Ask as a registrar."""
        return exchange(
            bench.resource,
            method,
            path,
            b"" if body is None else json.dumps(body).encode(),
            {**(bearer(registrar) if registrar else {}), **headers},
            clock=bench.clock,
        )

    def mint(
        self, bench: _Bench, registrar: str | None, **order: object
    ) -> HTTPResponse:
        """Order tokens."""
        return self.ask(bench, registrar, "POST", body=order)

    def mdm(self, bench: _Bench, **limits: Any) -> str:
        """Return the token of a registrar."""
        return add_token(bench.store, "mdm", kind="registrar", **limits)

    def tokens(self, answer: HTTPResponse, status: int = 201) -> list[Any]:
        """Return what was minted or listed; no cache may keep it."""
        assert status == answer.status, answer.body
        assert "application/json" == answer.content_type
        assert "no-store" == answer.headers["Cache-Control"]
        found: list[Any] = json.loads(answer.body)["tokens"]
        return found

    def test_mints(self) -> None:
        """201; each token buys a certificate within its names."""
        bench = _Bench()
        answer = self.mint(
            bench,
            self.mdm(bench),
            names=["cn:d.example"],
            expires_in=60,
            count=2,
        )
        made = self.tokens(answer)
        assert 2 == len({one["token"] for one in made})
        for one in made:
            assert {"id", "token", "profile", "names", "expires_at"} == set(
                one
            )
            assert "device" == one["profile"]
            assert "2026-06-01T12:01:00Z" == one["expires_at"]
            other = bench.post(one["token"], make_csr("e.example"))
            assert "principal-names" in told(other, 403, "policy-violation")
            assert 200 == bench.post(one["token"]).status

    def test_labels(self) -> None:
        """A label's tokens are of its tenant and profile."""
        bench = _Bench()
        theirs = add_token(
            bench.store, "mdm", kind="registrar", tenant_id=OTHER_TENANT
        )
        told(self.mint(bench, theirs), 401, "not-authenticated")
        path = "/enroll/b/tokens"
        answer = self.ask(bench, theirs, "POST", path, {})
        (made,) = self.tokens(answer)
        told(bench.post(made["token"]), 401, "not-authenticated")
        answer = bench.post(made["token"], path="/enroll/b/bootstrap")
        assert 200 == answer.status
        mine = self.mdm(bench)
        answer = self.ask(bench, mine, "POST", "/enroll/client/tokens", {})
        assert "tls-client" == self.tokens(answer)[0]["profile"]
        (made,) = self.tokens(self.mint(bench, mine, profile="tls-client"))
        answer = bench.post(made["token"], path="/enroll/client/bootstrap")
        assert 200 == answer.status
        answer = self.ask(bench, theirs, "POST", path, {"profile": "x"})
        told(answer, 403, "not-authorized")
        # Another tenant's label offers it, this one's does not.
        answer = self.ask(
            bench, theirs, "POST", path, {"profile": "tls-client"}
        )
        told(answer, 403, "not-authorized")

    def test_devices_cannot_mint(self) -> None:
        """R-1: whoever may enroll may not let others in."""
        bench = _Bench()
        device = add_token(bench.store, "mdm")
        add_password(bench.store, "mdm", "pw")
        token = bench.token()
        certificate = chain_of(bench.post(token))[0]
        reasons = {
            told(answer, 401, "not-authenticated")
            for answer in (
                self.mint(bench, device),
                self.mint(bench, None),
                self.mint(bench, token),
                self.mint(bench, "mdm.guess"),
                self.ask(bench, None, "POST", body={}, **basic("mdm", "pw")),
                exchange(
                    bench.resource,
                    "POST",
                    self.PATH,
                    b"{}",
                    client_certificate=certificate,
                    clock=bench.clock,
                ),
            )
        }
        assert 1 == len(reasons)
        assert {"once"} == {name for _, name in bench.store.tables.secrets}

    def test_registrars_cannot_enroll(self) -> None:
        """The right to let others in is no right to come in."""
        bench = _Bench()
        registrar = self.mdm(bench)
        token = bench.token()
        answer = bench.post(token, **bearer(registrar))
        told(answer, 401, "not-authenticated")
        answer = bench.post(None, path=RENEW, **bearer(registrar))
        told(answer, 401, "not-authenticated")
        told(bench.post(registrar), 401, "not-authenticated")
        assert 0 == bench.count()

    def test_limits(self) -> None:
        """M-2, and the audit log names who tried."""
        bench = _Bench()
        registrar = self.mdm(bench, names=("cn:router-*",))
        self.tokens(self.mint(bench, registrar, names=["cn:router-1"]))
        answer = self.mint(bench, registrar, names=["cn:*"])
        assert "cn:*" in told(answer, 403, "not-authorized")
        record = result_of(bench.store.audit_records(TENANT, 0, 100))[-1]
        event = json.loads(record.body)
        assert ("request.refused", "registrar:mdm", "tokens") == (
            event["event"],
            event["actor"],
            event["fields"]["operation"],
        )

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", PATH, b"[]"),
            ("POST", PATH, b'{"count": 101}'),
            ("POST", PATH, b'{"names": ["a"]}'),
            ("POST", PATH, b'{"names": ["cn:\\ud800"]}'),
            ("GET", PATH + "?x=1", b""),
        ],
    )
    def test_malformed(self, method: str, path: str, body: bytes) -> None:
        """400 for what cannot be read."""
        bench = _Bench()
        headers = bearer(self.mdm(bench))
        answer = exchange(
            bench.resource, method, path, body, headers, clock=bench.clock
        )
        told(answer, 400, "malformed")

    def test_media_type(self) -> None:
        """415 for what says that it is no JSON."""
        bench = _Bench()
        answer = self.ask(
            bench,
            self.mdm(bench),
            "POST",
            body={},
            **{"Content-Type": "text/html"},
        )
        told(answer, 415, "unsupported-media-type")

    def test_retry(self) -> None:
        """M-3: under one key the same tokens; 422 for another order."""
        bench = _Bench()
        registrar = self.mdm(bench)
        key = {"Idempotency-Key": "k"}
        one, two = (
            self.ask(bench, registrar, "POST", body={"count": 2}, **key)
            for _ in "12"
        )
        assert self.tokens(one) == self.tokens(two)
        answer = self.ask(bench, registrar, "POST", body={}, **key)
        told(answer, 422, "conflict")

    def test_lists(self) -> None:
        """By page and state, without secrets."""
        bench = _Bench()
        registrar = self.mdm(bench)
        made = self.tokens(self.mint(bench, registrar, count=3))
        bench.post(made[0]["token"])
        ids = sorted(one["id"] for one in made)
        answer = self.ask(bench, registrar, path=f"{self.PATH}?limit=2")
        assert ids[:2] == [one["id"] for one in self.tokens(answer, 200)]
        assert ids[1] == json.loads(answer.body)["next"]
        path = f"{self.PATH}?limit=2&after={ids[1]}"
        answer = self.ask(bench, registrar, path=path)
        assert ids[2:] == [one["id"] for one in self.tokens(answer, 200)]
        assert None is json.loads(answer.body)["next"]
        for one in made:
            assert one["token"].encode() not in answer.body
        answer = self.ask(bench, registrar, path=f"{self.PATH}?state=burnt")
        (burnt,) = self.tokens(answer, 200)
        assert (made[0]["id"], "burnt") == (burnt["id"], burnt["state"])
        told(self.ask(bench, "mdm.x"), 401, "not-authenticated")

    def test_revokes(self) -> None:
        """The token is refused from the next request on."""
        bench = _Bench()
        registrar = self.mdm(bench)
        (made,) = self.tokens(self.mint(bench, registrar))
        path = f"{self.PATH}/{made['id']}"
        told(self.ask(bench, None, "DELETE", path), 401, "not-authenticated")
        for _ in range(2):
            answer = self.ask(bench, registrar, "DELETE", path)
            assert 200 == answer.status
            assert "no-store" == answer.headers["Cache-Control"]
            found = json.loads(answer.body)
            assert (made["id"], "revoked") == (found["id"], found["state"])
        told(bench.post(made["token"]), 401, "not-authenticated")
        answer = self.ask(bench, registrar, "DELETE", f"{self.PATH}/nosuch")
        told(answer, 404, "unknown-certificate")
