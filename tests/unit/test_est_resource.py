# SPDX-License-Identifier: MIT
"""EST through the real web layer: paths, forms, statuses, tenants."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization.pkcs7 import (
    load_pem_pkcs7_certificates,
)
from pydantic import ValidationError
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from trstctl import errors
from trstctl.errors import (
    Conflict,
    Malformed,
    NotAuthenticated,
    NotAuthorized,
    PolicyViolation,
    Stale,
    Throttled,
    TrstctlError,
    Unavailable,
)
from trstctl.interfaces import IEnrollmentProtocol
from trstctl.model import (
    BearerToken,
    CertificateQuery,
    CSRWishes,
    Endpoint,
    Issued,
    Operation,
    Password,
    Pending,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cms import read_certs_only
from trstctl.plugin import ProtocolPlugin
from trstctl.policy.profile import ProfileSettings, builtin_profiles
from trstctl.protocols.est.codec import encode_base64
from trstctl.protocols.est.resource import ESTResource
from trstctl.protocols.est.settings import ESTSettings
from trstctl.testing import (
    OTHER_TENANT,
    TENANT,
    Connection,
    FakeSigner,
    MemoryStore,
    StubAuthority,
    WallClock,
    add_password,
    add_token,
    basic,
    bearer,
    exchange,
    make_authority,
    make_csr,
    make_ra,
    request_octets,
    result_of,
    settings_for,
)
from trstctl.web import HTTPResponse

PLUGIN: Any = ProtocolPlugin(
    "est", "trstctl.protocols.est.resource.ESTResource"
)
ROOT = "/.well-known/est"
ENROLLING = ("simpleenroll", "simplereenroll")
READING = ("cacerts", "csrattrs")
CSR = make_csr()
BODY = base64.b64encode(CSR)
PKCS10 = {"Content-Type": "application/pkcs10"}
#: A client that names itself, as curl and libest do.
AGENT = {**PKCS10, "User-Agent": "libest", "Accept": "*/*"}
ISSUED = Issued(b"certificate", (b"issuer", b"root"), "1a", "device", "p")


def make_est(ra: Any, **settings: object) -> Any:
    """Return EST's resource."""
    return PLUGIN.make_resource(ra, settings_for(PLUGIN, **settings))


def post(
    ra: Any,
    body: bytes = BODY,
    headers: Any = AGENT,
    operation: str = "simpleenroll",
    *,
    label: str = "",
    client_certificate: bytes | None = None,
    clock: Clock | None = None,
    **settings: object,
) -> HTTPResponse:
    """Send a request for a certificate."""
    return exchange(
        make_est(ra, **settings),
        "POST",
        f"{ROOT}/{label}/{operation}" if label else f"{ROOT}/{operation}",
        body,
        headers,
        client_certificate=client_certificate,
        clock=clock,
    )


def get(ra: Any, path: str, method: str = "GET", **settings: Any) -> Any:
    """Send a request without a body."""
    headers = settings.pop("headers", {"User-Agent": "curl"})
    return exchange(
        make_est(ra, **settings), method, ROOT + path, headers=headers
    )


# --- settings ---------------------------------------------------------------


class SettingsTests:
    """The section ``protocols.est``."""

    def test_fragment_of_the_documentation(self) -> None:
        """``est: {enabled: true, tenant_id: ...}`` works as it stands."""
        settings = ESTSettings(enabled=True, tenant_id=TENANT)
        assert verifyObject(IEnrollmentProtocol, PLUGIN)
        assert ("/.well-known/est",) == ESTResource.paths_for("est", settings)
        assert (
            Endpoint("est", "", TENANT, "device", "issuing"),
        ) == ESTResource.endpoints_for("est", settings)
        assert not ESTResource.plain_http

    def test_labels_inherit(self) -> None:
        """What a label leaves out is as in the protocol's own section."""
        settings: Any = settings_for(
            PLUGIN,
            profile="p0",
            authority="a0",
            labels={
                "all": {
                    "tenant_id": OTHER_TENANT,
                    "profile": "p1",
                    "authority": "a1",
                },
                "none": {},
                "some": {"profile": "p2"},
            },
        )
        assert (
            Endpoint("est", "", TENANT, "p0", "a0"),
            Endpoint("est", "all", OTHER_TENANT, "p1", "a1"),
            Endpoint("est", "none", TENANT, "p0", "a0"),
            Endpoint("est", "some", TENANT, "p2", "a0"),
        ) == ESTResource.endpoints_for("est", settings)

    @pytest.mark.parametrize(
        "label",
        [*ENROLLING, *READING, "serverkeygen", "fullcmc", "crls", "eecerts"],
    )
    def test_label_named_like_an_operation(self, label: str) -> None:
        """RFC 7030, section 3.2.2: a label MUST NOT be an operation."""
        with pytest.raises(ValidationError, match="choose another"):
            settings_for(PLUGIN, labels={label: {}})

    @pytest.mark.parametrize(
        "settings",
        [
            {"labels": {"Upper": {}}},
            {"labels": {"a/b": {}}},
            {"labels": {"": {}}},
            {"labels": {"a": {"realm": "x"}}},
            {"labels": {"a": {"line_mode": "double"}}},
            {"line_mode": "double"},
            {"lenient": "yes"},
            {"realm": 'a"b'},
            {"realm": "a\r\nb"},
            {"realm": ""},
            {"no_such_key": 1},
        ],
    )
    def test_faults(self, settings: Mapping[str, object]) -> None:
        """What cannot be meant is refused at the start."""
        with pytest.raises(ValidationError):
            settings_for(PLUGIN, **settings)

    def test_needs_a_tenant(self) -> None:
        """An enabled protocol binds to a tenant."""
        with pytest.raises(ValueError, match="needs a tenant_id"):
            ESTResource.endpoints_for("est", ESTSettings(enabled=True))


# --- paths and methods ------------------------------------------------------


class PathTests:
    """RFC 7030, section 3.2.2."""

    @pytest.mark.parametrize("label", ["", "/label"])
    @pytest.mark.parametrize(
        ("operation", "method", "allow"),
        [
            *(
                (one, method, "GET, HEAD")
                for one in READING
                for method in ("POST", "PUT", "DELETE")
            ),
            *(
                (one, method, "POST")
                for one in ENROLLING
                for method in ("GET", "HEAD", "PUT", "DELETE")
            ),
        ],
    )
    def test_wrong_method(
        self, label: str, operation: str, method: str, allow: str
    ) -> None:
        """A wrong verb is answered 405 with Allow."""
        stub = StubAuthority(ISSUED)
        answer = get(
            stub, f"{label}/{operation}", method, labels={"label": {}}
        )
        assert 405 == answer.status
        assert allow == answer.headers["Allow"]
        assert [] == stub.requests

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "/",
            "/label",
            "/nowhere/cacerts",
            "/Label/cacerts",
            "/label/label/cacerts",
            "/label/nothing",
            "/serverkeygen",
            "/fullcmc",
            "/cacerts/cacerts",
            "/cacerts/label",
            "/../est/cacerts",
            "/%2e%2e/cacerts",
            "/label%2fcacerts",
            "/label;x/cacerts",
        ],
    )
    def test_no_such_path(self, path: str) -> None:
        """An unknown label or operation is answered 404 or 400."""
        answer = get(StubAuthority(ISSUED), path, labels={"label": {}})
        assert answer.status in {400, 404}

    def test_operations_not_offered(self) -> None:
        """RFC 7030, section 4.3.2: 404 for what is not offered."""
        for operation in ("serverkeygen", "fullcmc"):
            answer = post(StubAuthority(ISSUED), operation=operation)
            assert 404 == answer.status

    @pytest.mark.parametrize("label", ["", "label"])
    @pytest.mark.parametrize(
        ("operation", "expected"),
        [
            ("simpleenroll", Operation.ENROLL),
            ("simplereenroll", Operation.RENEW),
        ],
    )
    def test_label_and_operation_reach_the_authority(
        self, label: str, operation: str, expected: Operation
    ) -> None:
        """The path, and nothing else, decides endpoint and operation."""
        stub = StubAuthority(ISSUED)
        answer = post(
            stub,
            operation=operation,
            label=label,
            labels={"label": {"tenant_id": OTHER_TENANT, "profile": "p"}},
        )
        assert 200 == answer.status
        (request,) = stub.requests
        assert expected is request.operation
        assert (
            Endpoint("est", "label", OTHER_TENANT, "p", "issuing")
            if label
            else Endpoint("est", "", TENANT, "device", "issuing")
        ) == request.endpoint


# --- reading ----------------------------------------------------------------


class CACertificatesTests:
    """GET cacerts (RFC 7030, section 4.1)."""

    def test_chain_to_the_root_in_order(self) -> None:
        """The issuer first and the root with it; the exact media type."""
        authority: Any = make_authority()
        ra = make_ra(authorities={"issuing": authority})
        answer = get(ra, "/cacerts")
        assert 200 == answer.status
        # Older BouncyCastle compares the type for equality.
        assert "application/pkcs7-mime" == answer.content_type
        assert "base64" == answer.headers["Content-Transfer-Encoding"]
        assert authority.chain == read_certs_only(
            base64.b64decode(answer.body)
        )

    def test_needs_no_credential_and_no_store(self) -> None:
        """RFC 7030, section 4.1.2: anybody may ask, as often as it likes."""
        stub = StubAuthority(chain=make_authority().chain)
        resource = make_est(stub)
        answers = [
            exchange(resource, "GET", ROOT + "/cacerts", headers=headers)
            for headers in ({"Accept": "*/*"}, {"Accept": "*/*"}, {}, {})
        ]
        assert answers[0].body == answers[1].body
        assert answers[2].body == answers[3].body
        assert 1 < answers[0].body.count(b"\n")
        assert 1 == answers[2].body.count(b"\n")

    def test_follows_a_reload(self) -> None:
        """A new chain is answered at once."""
        stub = StubAuthority(chain=make_authority().chain)
        resource = make_est(stub)
        path = ROOT + "/cacerts"
        before = exchange(resource, "GET", path).body
        stub.chain = make_authority().chain
        assert before != exchange(resource, "GET", path).body

    def test_head(self) -> None:
        """HEAD is GET without its body."""
        ra = make_ra()
        got, head = get(ra, "/cacerts"), get(ra, "/cacerts", "HEAD")
        assert 200 == head.status
        assert b"" == head.body
        assert got.headers["Content-Length"] == head.headers["Content-Length"]

    def test_each_label_has_its_own_authority(self) -> None:
        """A label's chain is that of its authority."""
        authorities: Any = {
            name: make_authority(name) for name in ("issuing", "other")
        }
        ra = make_ra(authorities=authorities)
        answer = get(
            ra, "/label/cacerts", labels={"label": {"authority": "other"}}
        )
        assert authorities["other"].chain == read_certs_only(
            base64.b64decode(answer.body)
        )


class CSRAttributesTests:
    """GET csrattrs (RFC 7030, section 4.5)."""

    def test_from_the_profile(self) -> None:
        """What the profile demands is asked for."""
        ra = make_ra(
            profiles={
                "device": ProfileSettings(
                    key_types=("p-384",), digests=("sha384",)
                )
            }
        )
        answer = get(ra, "/csrattrs")
        assert 200 == answer.status
        assert "application/csrattrs" == answer.content_type
        assert "base64" == answer.headers["Content-Transfer-Encoding"]
        assert bytes.fromhex(
            "301e 3012 06072a8648ce3d0201 3107 06052b81040022"
            "06082a8648ce3d040303"
        ) == base64.b64decode(answer.body)

    def test_needs_no_credential(self) -> None:
        """RFC 7030, section 4.5: asked of anybody, told to anybody."""
        stub = StubAuthority(wishes=CSRWishes(algorithms=("p-384",)))
        resource = make_est(stub)
        path = ROOT + "/csrattrs"
        answers = [
            exchange(resource, "GET", path, headers=headers)
            for headers in ({}, basic("nobody", "wrong"), bearer("x.y"))
        ]
        assert {200} == {answer.status for answer in answers}
        assert 1 == len({base64.b64decode(each.body) for each in answers})
        assert [] == stub.requests
        assert [] == stub.refusals

    def test_nothing_to_wish(self) -> None:
        """204, and empty, where the profile wishes nothing."""
        answer = get(StubAuthority(wishes=CSRWishes()), "/csrattrs")
        assert (204, b"", "") == (
            answer.status,
            answer.body,
            answer.content_type,
        )

    def test_refusal_has_no_body(self) -> None:
        """BouncyCastle fails on a refused csrattrs with a body."""
        answer = get(StubAuthority(NotAuthorized()), "/csrattrs")
        assert (403, b"") == (answer.status, answer.body)
        answer = get(StubAuthority(Unavailable()), "/csrattrs")
        assert 503 == answer.status
        assert answer.body

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_unknown_label_has_no_body(self, method: str) -> None:
        """Nor does it read the 404 of an unknown label with one."""
        answer = get(StubAuthority(), "/nope/csrattrs", method)
        assert (404, b"") == (answer.status, answer.body)
        assert "0" == answer.headers["Content-Length"]

    def test_wrong_method_has_no_body(self) -> None:
        """All refusals of csrattrs are alike."""
        answer = get(StubAuthority(), "/csrattrs", "DELETE")
        assert (405, b"") == (answer.status, answer.body)
        assert "GET, HEAD" == answer.headers["Allow"]


# --- enrolling --------------------------------------------------------------


class BodyTests:
    """What a client may send."""

    @pytest.mark.parametrize(
        "content_type",
        [
            "application/pkcs10",
            "Application/PKCS10",
            "application/pkcs10; charset=utf-8",
            "application/pkcs10 ;x=y",
        ],
    )
    def test_media_type(self, content_type: str) -> None:
        """In any letter case and with parameters, as libest does not."""
        headers = {**AGENT, "Content-Type": content_type}
        assert 200 == post(StubAuthority(ISSUED), headers=headers).status

    @pytest.mark.parametrize(
        "content_type",
        [
            None,
            "",
            "application/x-www-form-urlencoded",
            "application/pkcs7-mime",
            "text/plain",
            "application/pkcs10x",
        ],
    )
    def test_other_media_types(self, content_type: str | None) -> None:
        """415, audited."""
        stub = StubAuthority(ISSUED)
        headers = {"Accept": "*/*"}
        if content_type is not None:
            headers["Content-Type"] = content_type
        assert 415 == post(stub, headers=headers).status
        assert 1 == len(stub.refusals)
        assert [] == stub.requests

    def test_transfer_encoding_is_meaningless(self) -> None:
        """RFC 8951, section 3: its value is ignored."""
        for value in ("base64", "binary", "8bit", "quoted-printable"):
            headers = {**AGENT, "Content-Transfer-Encoding": value}
            assert 200 == post(StubAuthority(ISSUED), headers=headers).status

    def test_lenient(self) -> None:
        """PEM and DER pass by default, and a label may refuse them."""
        for lenient, label, status in (
            (True, "", 200),
            (True, "strict", 400),
            (False, "", 400),
            (False, "open", 200),
        ):
            stub = StubAuthority(ISSUED)
            answer = post(
                stub,
                CSR,
                label=label,
                lenient=lenient,
                labels={
                    "strict": {"lenient": False},
                    "open": {"lenient": True},
                },
            )
            assert status == answer.status
            assert (status == 200) == bool(stub.requests)

    @pytest.mark.parametrize(
        "body", [b"", b"AAAA", base64.b64encode(CSR + b"\x00"), b"\x30\x80"]
    )
    def test_malformed(self, body: bytes) -> None:
        """400, audited, and nothing is asked of the authority."""
        stub = StubAuthority(ISSUED)
        answer = post(stub, body)
        assert 400 == answer.status
        assert [] == stub.requests
        assert 1 == len(stub.refusals)

    def test_too_large(self) -> None:
        """413, audited."""
        stub = StubAuthority(ISSUED)
        assert 413 == post(stub, b"A" * 65_537).status
        assert 1 == len(stub.refusals)

    def test_credentials(self) -> None:
        """All that is presented is handed on."""
        stub = StubAuthority(ISSUED)
        post(stub, headers={**AGENT, **basic("a", "b")})
        post(stub, headers={**AGENT, **bearer("x.y")})
        post(stub, client_certificate=b"der")
        assert [
            (Password("a", "b"),),
            (BearerToken("x.y"),),
        ] == [one.credentials for one in stub.requests[:2]]
        assert 1 == len(stub.requests[2].credentials)

    def test_unreadable_credentials(self) -> None:
        """What is no Basic header is malformed; unknown schemes are 401."""
        for value, status in (("Basic !", 400), ("Digest x", 401)):
            headers = {**AGENT, "Authorization": value}
            assert status == post(StubAuthority(), headers=headers).status


class KeyTests:
    """Idempotency-Key."""

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (None, None),
            ("k", "k"),
            ('"k"', "k"),
            (" k ", "k"),
            ("8e03978e-40d5-43dd-bc93-6894a57f9324",) * 2,
            ("!#$%&'()*+,-./:;<=>?@[]^_`{|}~",) * 2,
            ("x" * 255,) * 2,
        ],
    )
    def test_forms(self, given: str | None, expected: str | None) -> None:
        """Quoted or not, it is the same key."""
        stub = StubAuthority(ISSUED)
        headers = dict(AGENT)
        if given is not None:
            headers["Idempotency-Key"] = given
        assert 200 == post(stub, headers=headers).status
        assert expected == stub.requests[0].idempotency_key

    @pytest.mark.parametrize(
        "given",
        ["", '""', '"', '"k', 'k"', "a b", "x" * 256, "a\\b", "\xe4", "a\tb"],
    )
    def test_wrong_forms(self, given: str) -> None:
        """What could be understood in two ways is malformed."""
        stub = StubAuthority(ISSUED)
        headers = {**AGENT, "Idempotency-Key": given}
        assert 400 == post(stub, headers=headers).status
        assert [] == stub.requests

    def test_two_keys(self) -> None:
        """Two keys are none."""
        headers = [
            *AGENT.items(),
            ("Idempotency-Key", "a"),
            ("Idempotency-Key", "a"),
        ]
        assert 400 == post(StubAuthority(ISSUED), headers=headers).status


class AnswerTests:
    """What a client can read."""

    def test_only_the_certificate(self) -> None:
        """RFC 7030, section 4.2.3: only the issued certificate."""
        der = make_authority().certificate
        answer = post(StubAuthority(evolve(ISSUED, certificate=der)))
        # libest compares the whole of this text.
        assert (
            "application/pkcs7-mime; smime-type=certs-only"
            == answer.content_type
        )
        assert "base64" == answer.headers["Content-Transfer-Encoding"]
        assert (der,) == read_certs_only(base64.b64decode(answer.body))

    @pytest.mark.parametrize(
        ("mode", "headers", "ends"),
        [
            ("auto", {}, 1),
            ("auto", {"User-Agent": "libest"}, 10),
            ("auto", {"Accept": "*/*"}, 10),
            ("auto", {"Connection": "close"}, 10),
            ("wrapped", {}, 10),
            ("single", {}, 0),
            ("single", {"User-Agent": "libest"}, 0),
        ],
    )
    @pytest.mark.parametrize("by_label", [True, False])
    def test_line_mode(
        self,
        mode: str,
        headers: Mapping[str, str],
        ends: int,
        by_label: bool,
    ) -> None:
        """strongSwan, which sends none of three headers, gets one line."""
        certificate = bytes(400)
        settings: dict[str, object] = {"line_mode": mode}
        if by_label:
            settings = {"labels": {"x": {"line_mode": mode}}}
        answer = post(
            StubAuthority(evolve(ISSUED, certificate=certificate)),
            headers={**PKCS10, **headers},
            label="x" if by_label else "",
            **settings,
        )
        assert ends == answer.body.count(b"\n")
        assert (ends > 0) == answer.body.endswith(b"\n")

    @pytest.mark.parametrize("operation", ["cacerts", "simpleenroll"])
    def test_armour(self, operation: str) -> None:
        """Azure IoT Edge puts a body between PEM's lines, as it is."""
        chain = make_authority().chain[:1]
        issued = evolve(ISSUED, certificate=chain[0])
        stub = StubAuthority(issued, chain=chain)
        if operation == "cacerts":
            answer = get(stub, f"/{operation}", headers={})
        else:
            answer = post(stub, headers=PKCS10)
        found = load_pem_pkcs7_certificates(
            b"-----BEGIN PKCS7-----\n%b-----END PKCS7-----\n" % answer.body
        )
        assert found

    def test_held(self) -> None:
        """RFC 7030, section 4.2.3: 202 with Retry-After, and empty."""
        answer = post(StubAuthority(Pending(60, "ref", "p", "device")))
        assert (202, b"", "") == (
            answer.status,
            answer.body,
            answer.content_type,
        )
        assert "60" == answer.headers["Retry-After"]

    def test_in_flight(self) -> None:
        """409 with Retry-After and the request's id."""
        answer = post(
            StubAuthority(Pending(2, "ref", "p", "device", in_flight=True))
        )
        assert 409 == answer.status
        assert "2" == answer.headers["Retry-After"]
        assert answer.headers["X-Request-Id"].encode() in answer.body  # type: ignore[union-attr]

    def test_unauthenticated(self) -> None:
        """401: empty, Basic first, and with the configured realm."""
        for error in (NotAuthenticated(), errors.ChallengeRejected()):
            answer = post(StubAuthority(error), realm="my devices")
            assert (401, b"") == (answer.status, answer.body)
            assert (
                'Basic realm="my devices"',
                'Bearer realm="my devices"',
            ) == answer.headers["WWW-Authenticate"]

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (Malformed(), 400),
            (errors.ProofOfPossessionFailed(), 400),
            (errors.UnsupportedAlgorithm(), 400),
            (NotAuthorized(), 403),
            (PolicyViolation("device", "names-types", "no"), 403),
            (errors.UnknownCertificate(), 404),
            (Stale(), 409),
            (errors.TooLarge(), 413),
            (Conflict(), 422),
            (Throttled(6), 429),
            (errors.Internal(), 500),
            (Unavailable(), 503),
        ],
    )
    def test_errors(self, error: TrstctlError, status: int) -> None:
        """Each with one line of plain text and the request's id."""
        answer = post(StubAuthority(error))
        assert status == answer.status
        assert answer.content_type.startswith("text/plain")
        request_id = answer.headers["X-Request-Id"]
        line = f"{error.detail} (request {request_id})\n"
        assert line.encode() == answer.body

    def test_policy_names_profile_and_rule(self) -> None:
        """A refusal says which rule of which profile it was."""
        answer = post(
            StubAuthority(PolicyViolation("device", "names-types", "no"))
        )
        assert b"profile device, rule names-types: no" in answer.body

    def test_retry_after(self) -> None:
        """429 says how long; 503 adds a jitter."""
        assert "6" == post(StubAuthority(Throttled(6))).headers["Retry-After"]
        pause: Any = post(StubAuthority(Unavailable())).headers["Retry-After"]
        assert 5 <= int(pause) <= 10


# --- end to end -------------------------------------------------------------


class _Bench:
    """A registration authority for two tenants, and EST before it."""

    def __init__(self, **profile: object) -> None:
        self.clock = Clock()
        self.now = WallClock(self.clock)
        self.store: Any = MemoryStore()
        self.signer = FakeSigner()
        self.authorities: Any = {
            "issuing": make_authority(signer=self.signer),
            "other": make_authority("other"),
        }
        settings: Any = evolve(builtin_profiles()["device"], **profile)
        self.ra = make_ra(
            self.store,
            authorities=self.authorities,
            profiles={"device": settings},
            clock=self.clock,
            now=self.now,
        )
        self.labels = {
            "second": {},
            "other": {"authority": "other"},
            "b": {"tenant_id": OTHER_TENANT},
            "b2": {"tenant_id": OTHER_TENANT, "profile": "tls-client"},
        }
        self.resource = make_est(self.ra, labels=self.labels)
        self.key = ec.generate_private_key(ec.SECP256R1())
        for tenant_id in (TENANT, OTHER_TENANT):
            add_password(
                self.store, "a", self.secret(tenant_id), tenant_id=tenant_id
            )

    def secret(self, tenant_id: str) -> str:
        """Return the tenant's password."""
        return f"pw of {tenant_id}"

    def password(self, tenant_id: str = TENANT) -> dict[str, str]:
        """Return the tenant's credential."""
        return basic("a", self.secret(tenant_id))

    def post(
        self,
        csr: bytes,
        operation: str = "simpleenroll",
        label: str = "",
        certificate: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:
        """Send a request for a certificate."""
        path = (
            f"{ROOT}/{label}/{operation}" if label else (f"{ROOT}/{operation}")
        )
        return exchange(
            self.resource,
            "POST",
            path,
            encode_base64(csr, single_line=False),
            {**AGENT, **(headers or {})},
            client_certificate=certificate,
            clock=self.clock,
        )

    def csr(
        self, common_name: str = "d.example", names: tuple[str, ...] = ()
    ) -> bytes:
        """Return a request for the device's key."""
        return make_csr(common_name, names, self.key)

    def enroll(self, csr: bytes, label: str = "", **headers: str) -> bytes:
        """Enroll with the password, and return the certificate."""
        tenant = OTHER_TENANT if label.startswith("b") else TENANT
        answer = self.post(
            csr,
            label=label,
            headers={**self.password(tenant), **headers},
        )
        assert 200 == answer.status, answer.body
        (certificate,) = read_certs_only(base64.b64decode(answer.body))
        return certificate

    def census(self) -> list[Any]:
        """Return everything that an enrollment would leave behind."""
        found: list[Any] = []
        for tenant_id in (TENANT, OTHER_TENANT):
            found += result_of(
                self.store.list_certificates(CertificateQuery(tenant_id))
            )
            found += result_of(
                self.store.list_requests(tenant_id, None, 10_000)
            )
        return [*found, len(self.signer.signed)]


class EnrollmentTests:
    """A device's life with EST."""

    def test_enroll_and_reenroll(self) -> None:
        """A password brings the first certificate; it brings the next."""
        bench = _Bench()
        names = ("dns:d.example", "ip:192.0.2.1")
        first = bench.enroll(bench.csr(names=names))
        answer = bench.post(
            bench.csr(names=names[::-1]), "simplereenroll", certificate=first
        )
        assert 200 == answer.status
        (second,) = read_certs_only(base64.b64decode(answer.body))
        old, new = read_certificate(first), read_certificate(second)
        assert old.serial != new.serial
        assert (old.subject, set(old.names)) == (new.subject, set(new.names))

    def test_retry(self) -> None:
        """The same request again gets the same bytes."""
        bench = _Bench()
        csr = bench.csr()
        answers = [bench.post(csr, headers=bench.password()) for _ in range(3)]
        assert 1 == len({one.body for one in answers})

    def test_approval(self) -> None:
        """202 until a person approves; the same POST then succeeds."""
        bench = _Bench(approval="always")
        csr = bench.csr()
        assert 202 == bench.post(csr, headers=bench.password()).status
        (row,) = result_of(bench.store.list_requests(TENANT, None, 10))
        result_of(
            bench.store.decide_request(
                TENANT,
                row.id,
                True,
                "op",
                "",
                bench.now(),
                bench.now() + timedelta(days=1),
            )
        )
        assert 200 == bench.post(csr, headers=bench.password()).status

    def test_conflict(self) -> None:
        """The same Idempotency-Key with another CSR is 422."""
        bench = _Bench()
        key = {"Idempotency-Key": "k"}
        bench.enroll(bench.csr(), **key)
        answer = bench.post(
            bench.csr("e.example"), headers={**bench.password(), **key}
        )
        assert 422 == answer.status

    def test_in_flight(self) -> None:
        """A request that is being answered elsewhere is 409 in the end."""
        bench = _Bench()
        bench.signer.paused = True
        csr = bench.csr()
        connection = Connection(bench.resource, clock=bench.clock)
        connection.send(
            request_octets(
                "POST",
                ROOT + "/simpleenroll",
                encode_base64(csr, single_line=False),
                {**AGENT, **bench.password()},
            )
        )
        answer = bench.post(csr, headers=bench.password())
        assert 409 == answer.status
        bench.signer.release()
        assert connection.received().startswith(b"HTTP/1.1 200")
        connection.lose()


class ReenrollmentTests:
    """Whose certificate, and for what (security, 3.3)."""

    NAMES = ("dns:d.example", "dns:e.example")

    def renew(
        self,
        bench: _Bench,
        certificate: bytes | None,
        common_name: str = "d.example",
        names: tuple[str, ...] = NAMES,
        label: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Re-enroll; a refusal leaves nothing behind."""
        before = bench.census()
        answer = bench.post(
            bench.csr(common_name, names),
            "simplereenroll",
            label,
            certificate,
            headers,
        )
        assert (answer.status == 200) == (before != bench.census())
        return answer.status

    def bench(self, **profile: object) -> tuple[_Bench, bytes]:
        """Return a bench and a certificate of its."""
        bench = _Bench(**profile)
        return bench, bench.enroll(bench.csr(names=self.NAMES))

    def test_its_own_names(self) -> None:
        """RFC 7030, section 4.2.2: the names as a set, in any order."""
        bench, certificate = self.bench()
        assert 200 == self.renew(
            bench, certificate, "D.EXAMPLE", self.NAMES[::-1]
        )

    @pytest.mark.parametrize(
        ("common_name", "names"),
        [
            ("other.example", NAMES),
            ("", NAMES),
            ("d.example", (*NAMES, "dns:f.example")),
            ("d.example", NAMES[:1]),
            ("d.example", ()),
            ("d.example", ("dns:d.example", "ip:192.0.2.1")),
        ],
    )
    def test_other_names(
        self, common_name: str, names: tuple[str, ...]
    ) -> None:
        """Another subject, a name added, removed or replaced: 403."""
        bench, certificate = self.bench()
        assert 403 == self.renew(bench, certificate, common_name, names)

    def test_revoked(self) -> None:
        """A revoked certificate renews nothing, from then on."""
        bench, certificate = self.bench()
        serial = read_certificate(certificate).serial
        result_of(bench.ra.revoke(TENANT, serial, "superseded", "op"))
        assert 403 == self.renew(bench, certificate)

    def test_expired(self) -> None:
        """One second after its end it is refused, and the grace helps."""
        for grace, late, status in (
            (0, 0, 200),
            (0, 1, 403),
            (86_400, 86_400, 200),
            (86_400, 86_401, 403),
        ):
            bench, certificate = self.bench(
                renewal_grace=timedelta(seconds=grace)
            )
            end = read_certificate(certificate).not_after
            bench.now.step(end - bench.now() + timedelta(seconds=late))
            assert status == self.renew(bench, certificate), (grace, late)

    def test_from_the_future(self) -> None:
        """A certificate that does not yet exist renews nothing."""
        bench, certificate = self.bench(renewal_grace=timedelta(days=30))
        bench.now.step(timedelta(seconds=-90))
        assert 401 == self.renew(bench, certificate)

    def test_too_early(self) -> None:
        """Before the renewal window opens: 403."""
        bench, certificate = self.bench(renewal_window=timedelta(days=30))
        assert 403 == self.renew(bench, certificate)

    def test_other_authority(self) -> None:
        """A certificate of another CA counts as not presented."""
        bench, certificate = self.bench()
        assert 401 == self.renew(bench, certificate, label="other")
        assert 401 == self.renew(_Bench(), certificate)

    def test_other_tenant(self) -> None:
        """Nor does another tenant's, of the same CA."""
        bench, certificate = self.bench()
        assert 401 == self.renew(bench, certificate, label="b")

    def test_another_label_of_the_tenant(self) -> None:
        """Labels of one tenant, CA and profile may share a device."""
        bench, certificate = self.bench()
        assert 200 == self.renew(bench, certificate, label="second")

    def test_no_certificate(self) -> None:
        """Without one there is nothing to renew."""
        bench, _ = self.bench()
        assert 401 == self.renew(bench, None)
        assert 403 == self.renew(bench, None, headers=bench.password())


# --- two tenants ------------------------------------------------------------


def _matrix() -> list[tuple[Endpoint, str]]:
    """Return every endpoint with every operation that it allows."""
    resource = _Bench().resource
    settings = resource.settings
    found = []
    for endpoint in ESTResource.endpoints_for("est", settings):
        prefix = (endpoint.name,) if endpoint.name else ()
        for operation in (*ENROLLING, *READING, "serverkeygen", "fullcmc"):
            methods = resource.allowed_methods((*prefix, operation))
            if methods is not None:
                found.append((endpoint, operation))
    return found


MATRIX = _matrix()


class TenantTests:
    """Tenants cannot meet (R-10), whatever the endpoint."""

    def test_matrix_is_complete(self) -> None:
        """Five endpoints, both tenants, four operations each."""
        assert 20 == len(MATRIX)
        assert {TENANT, OTHER_TENANT} == {one[0].tenant_id for one in MATRIX}

    @pytest.mark.parametrize("kind", ["password", "bearer", "certificate"])
    @pytest.mark.parametrize(
        ("endpoint", "operation"),
        MATRIX,
        ids=[f"{one[0].name or 'default'}-{one[1]}" for one in MATRIX],
    )
    def test_credential_of_the_other_tenant(
        self, endpoint: Endpoint, operation: str, kind: str
    ) -> None:
        """R-10: it has no effect: no answer, no row, no signature."""
        bench = _Bench()
        mine = endpoint.tenant_id
        other = OTHER_TENANT if mine == TENANT else TENANT
        csr = bench.csr()
        headers: dict[str, str] = {}
        certificate = None
        if kind == "password":
            headers = bench.password(other)
        elif kind == "bearer":
            headers = bearer(add_token(bench.store, "t", tenant_id=other))
        else:
            certificate = bench.enroll(
                csr, "b" if other == OTHER_TENANT else ""
            )
        before = bench.census()
        if operation in READING:
            prefix = f"/{endpoint.name}" if endpoint.name else ""
            answer = exchange(
                bench.resource,
                "GET",
                f"{ROOT}{prefix}/{operation}",
                headers=headers,
                client_certificate=certificate,
            )
            assert answer.status in {200, 204}
        else:
            answer = bench.post(
                csr, operation, endpoint.name, certificate, headers
            )
            assert 401 == answer.status
        assert before == bench.census()

    def test_own_credentials_of_each_kind_work(self) -> None:
        """The matrix above refuses because of the tenant, not the rest."""
        bench = _Bench()
        for label, tenant in (("", TENANT), ("b", OTHER_TENANT)):
            csr = bench.csr()
            certificate = bench.enroll(csr, label)
            token = add_token(bench.store, "t", tenant_id=tenant)
            for headers, client, operation in (
                (bearer(token), None, "simpleenroll"),
                ({}, certificate, "simpleenroll"),
                ({}, certificate, "simplereenroll"),
            ):
                answer = bench.post(csr, operation, label, client, headers)
                assert 200 == answer.status, answer.body

    def test_idempotency_keys(self) -> None:
        """R-10: one key in two tenants is two keys."""
        bench = _Bench()
        key = {"Idempotency-Key": "k"}
        one, two = bench.csr("one.example"), bench.csr("two.example")
        first = bench.enroll(one, **key)
        second = bench.enroll(two, "b", **key)
        assert first != second
        assert first == bench.enroll(one, **key)
        assert second == bench.enroll(two, "b", **key)

    def test_revocation(self) -> None:
        """R-10: nobody revokes, or finds, another's certificate."""
        bench = _Bench()
        serial = read_certificate(bench.enroll(bench.csr())).serial
        with pytest.raises(errors.UnknownCertificate):
            result_of(bench.ra.find(OTHER_TENANT, serial))
        with pytest.raises(errors.UnknownCertificate):
            result_of(
                bench.ra.revoke(OTHER_TENANT, serial, "superseded", "op")
            )
        assert result_of(bench.ra.find(TENANT, serial))

    def test_guesses_in_one_tenant_do_not_lock_the_other(self) -> None:
        """A-3: the throttle by name is the tenant's own."""
        bench = _Bench()
        for number in range(9):
            headers = basic("a", f"guess {number}")
            answer = bench.post(bench.csr(), label="b", headers=headers)
            assert 401 == answer.status
        assert 200 == bench.post(bench.csr(), headers=bench.password()).status
