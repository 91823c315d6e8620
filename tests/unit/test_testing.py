# SPDX-License-Identifier: MIT
"""What plugin authors test with: the fakes, and the contract suite itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from trstctl import testing
from trstctl.errors import (
    Malformed,
    TooLarge,
    TrstctlError,
    Unavailable,
    UnknownCertificate,
)
from trstctl.interfaces import (
    IAuthority,
    IRegistrationAuthority,
    ISigner,
    IStore,
)
from trstctl.model import (
    CSRWishes,
    Endpoint,
    EnrollmentRequest,
    GeneralName,
    Issued,
    Operation,
    Password,
    Pending,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.csr import read_csr, verify_proof
from trstctl.plugin import ProtocolPlugin
from trstctl.policy.profile import Profile, ProfileSettings
from trstctl.protocols.est.codec import encode_base64
from trstctl.testing import (
    EPOCH,
    TENANT,
    Connection,
    DeterministicBytes,
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
    make_request,
    read_response,
    request_octets,
    result_of,
    settings_for,
)
from trstctl.web import HTTPRequest, HTTPResponse, ProtocolResource

EST = ProtocolPlugin("est", "trstctl.protocols.est.resource.ESTResource")
PLAIN = ProtocolPlugin("plain", f"{__name__}.Plain")
ENDPOINT = Endpoint("est", "", TENANT, "device", "issuing")


class Plain(ProtocolResource):
    """DER in, DER out: the smallest protocol that is whole."""

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Enroll."""
        outcome = await self.ra.enroll(
            EnrollmentRequest(
                endpoint=self.endpoint,
                operation=Operation.ENROLL,
                wanted=read_csr(request.body),
                credentials=request.credentials,
                request_id=request.request_id,
                peer=request.peer,
            )
        )
        if isinstance(outcome, Issued):
            return HTTPResponse(200, "application/pkix-cert", b"ok")
        return HTTPResponse(202)


class Silent(Plain):
    """A protocol that tells every error with status 200."""

    def explain(
        self, error: TrstctlError, request: HTTPRequest
    ) -> HTTPResponse:
        """Say no more than that it failed, once the message is read."""
        if isinstance(error, TooLarge):
            return super().explain(error, request)
        return HTTPResponse(200, "text/plain", b"failed")


class _Forgiving(ProtocolContract):
    """The contract, where logged errors fail a test."""

    @pytest.fixture(autouse=True)
    def _logged(self, logged: Any) -> None:
        self.logged = logged

    def forgive(self, kind: type[Exception]) -> None:
        """Take the expected failure out of the log."""
        assert 1 == len(self.logged.flush(kind))


class ESTContractTests(_Forgiving):
    """EST keeps the contract that third parties' protocols keep."""

    unknown_paths = (
        "/.well-known/est/nowhere",
        "/.well-known/est/nowhere/cacerts",
        "/.well-known/est",
    )

    def make_plugin(self) -> Any:
        """Return EST."""
        return EST

    def make_example(self, csr: bytes) -> Example:
        """Return a simpleenroll."""
        return Example(
            "/.well-known/est/simpleenroll",
            encode_base64(csr, single_line=False),
            headers={"Content-Type": "application/pkcs10"},
        )

    def settings(self) -> Mapping[str, object]:
        """Return a setting of EST's own."""
        return {"realm": "devices"}


class PlainContractTests(_Forgiving):
    """A protocol of a dozen lines keeps it, too."""

    def make_plugin(self) -> Any:
        """Return the smallest protocol."""
        return PLAIN

    def make_example(self, csr: bytes) -> Example:
        """Return the DER itself."""
        return Example("/plain", csr)


class SilentContractTests(PlainContractTests):
    """So does one that tells errors in its own messages."""

    tells_errors_by_status = False

    def make_plugin(self) -> Any:
        """Return the protocol of few words."""
        return ProtocolPlugin("plain", f"{__name__}.Silent")


class ContractTests:
    """The contract suite itself can fail."""

    def test_needs_a_plugin_and_an_example(self) -> None:
        """What a subclass has to say has no default."""
        contract = ProtocolContract()
        with pytest.raises(NotImplementedError):
            contract.make_plugin()
        with pytest.raises(NotImplementedError):
            contract.make_example(b"")
        assert {} == contract.settings()
        contract.forgive(ValueError)

    def test_notices_a_setting_that_is_ignored(self) -> None:
        """A schema that swallows unknown keys fails the suite."""

        class Loose:
            @staticmethod
            def model_validate(values: object) -> None:
                """Accept anything."""

        class Plugin:
            @staticmethod
            def settings_schema() -> type:
                return Loose

        class Contract(ProtocolContract):
            def make_plugin(self) -> Any:
                return Plugin()

        with pytest.raises(AssertionError, match="unknown setting"):
            Contract().test_unknown_settings_are_refused()

    def test_every_name_is_public(self) -> None:
        """What the documentation names can be imported."""
        for name in testing.__all__:
            assert getattr(testing, name) is not None


class WallClockTests:
    """A wall clock that goes with a monotonic one, unless it is stepped."""

    def test_goes_with_the_clock(self) -> None:
        """Advancing the clock advances it."""
        clock = Clock()
        wall = WallClock(clock)
        clock.advance(90)
        assert EPOCH + timedelta(seconds=90) == wall()

    def test_is_stepped_alone(self) -> None:
        """An administrator sets it back; the timers do not notice."""
        wall = WallClock()
        wall.step(timedelta(hours=-1))
        assert EPOCH - timedelta(hours=1) == wall()


class DeterministicBytesTests:
    """Chance that is the same in each run."""

    def test_is_the_same_for_one_seed(self) -> None:
        """Two sources with one seed agree, with two they do not."""
        first, second = DeterministicBytes("a"), DeterministicBytes("a")
        assert first(20) == second(20)
        assert DeterministicBytes("b")(20) != DeterministicBytes("a")(20)

    def test_never_repeats(self) -> None:
        """Each draw is another."""
        source = DeterministicBytes()
        assert 100 == len({source(16) for _ in range(100)})


class ResultOfTests:
    """The result of what has one."""

    def test_returns_or_raises(self) -> None:
        """A value is returned, an error raised."""
        assert 1 == result_of(succeed(1))
        with pytest.raises(Malformed):
            result_of(fail(Malformed()))

    def test_takes_a_coroutine(self) -> None:
        """A coroutine that waits for nothing has a result."""

        async def two() -> int:
            return 2

        assert 2 == result_of(two())

    def test_refuses_what_has_none(self) -> None:
        """A test must not go on with what has not happened."""
        with pytest.raises(AssertionError, match="no result"):
            result_of(Deferred())


class FakeSignerTests:
    """A key that does what the test wants."""

    def test_provides_the_interface(self) -> None:
        """It stands in for every signer."""
        assert verifyObject(ISigner, FakeSigner())

    def test_waits_until_it_is_released(self) -> None:
        """A paused signer answers later, and not to who has left."""
        signer = FakeSigner()
        signer.paused = True
        authority = make_authority(signer=signer)
        first, second = (
            signer.sign(b"1", authority.algorithm),
            signer.sign(b"2", authority.algorithm),
        )
        second.addErrback(lambda _: None).cancel()
        assert not first.called
        signer.release()
        assert first.called
        assert [b"1", b"2"] == signer.signed

    def test_fails(self) -> None:
        """A broken signer fails with the error that the test gave it."""
        signer = FakeSigner()
        signer.error = Unavailable()
        with pytest.raises(Unavailable):
            result_of(signer.sign(b"", "ecdsa-with-sha256"))

    def test_forges(self) -> None:
        """A forging signer's certificate gets past no authority."""
        signer = FakeSigner()
        signer.forging = True
        with pytest.raises(Exception, match="internal error"):
            result_of(make_authority(signer=signer).sign(b"\x30\x00"))


class RequestTests:
    """Requests made for tests are real ones."""

    def test_request_is_signed_and_named(self) -> None:
        """Every kind of name that a profile can allow can be made."""
        wanted = make_request(
            "d.example",
            ("dns:d.example", "ip:192.0.2.1", "email:a@b.c", "uri:urn:x"),
        )
        verify_proof(wanted)
        assert (
            GeneralName("dns", "d.example"),
            GeneralName("ip", "192.0.2.1"),
            GeneralName("email", "a@b.c"),
            GeneralName("uri", "urn:x"),
        ) == wanted.names

    def test_subject_may_be_empty(self) -> None:
        """An empty common name is no common name."""
        assert () == make_request("").subject


class AuthorityTests:
    """The registration authority that tests use is the real one."""

    def enroll(self, ra: Any, *credentials: Any, **other: Any) -> Any:
        """Enroll, and return the outcome."""
        return result_of(
            ra.enroll(
                EnrollmentRequest(
                    endpoint=ENDPOINT,
                    operation=Operation.ENROLL,
                    wanted=make_request(),
                    credentials=credentials,
                    request_id="r",
                    peer="192.0.2.1",
                    **other,
                )
            )
        )

    def test_provides_the_interfaces(self) -> None:
        """Everything stands where the interfaces say."""
        assert verifyObject(IRegistrationAuthority, make_ra())
        assert verifyObject(IRegistrationAuthority, StubAuthority())
        assert verifyObject(IAuthority, make_authority())
        assert verifyObject(IStore, MemoryStore())

    def test_revocations_show(self) -> None:
        """What the store knows, whoever asks for a status is told."""
        store: Any = MemoryStore()
        ra = make_ra(store)
        add_password(store, "a", "b")
        serial = self.enroll(ra, Password("a", "b")).serial
        status = result_of(ra.revocation.status("issuing", serial))
        assert status.revoked_at is None
        result_of(ra.revoke(TENANT, serial, "superseded", "test"))
        status = result_of(ra.revocation.status("issuing", serial))
        assert "superseded" == status.reason
        crl = result_of(ra.revocation.crl("issuing", ""))
        assert 1 == crl.entries

    def test_each_kind_of_credential_enrolls(self) -> None:
        """Password, bearer token and one-time token are all provable."""
        from trstctl.model import BearerToken, OneTimeToken

        store: Any = MemoryStore()
        ra = make_ra(store)
        add_password(store, "a", "b")
        token = add_token(store, "t")
        once = add_one_time_token(store, "once")
        for credential in (
            Password("a", "b"),
            BearerToken(token),
            OneTimeToken(once),
        ):
            issued = self.enroll(ra, credential)
            assert EPOCH < read_certificate(issued.certificate).not_after

    def test_profiles_may_be_settings_or_compiled(self) -> None:
        """A profile is given either way, and replaces a built-in one."""
        settings = ProfileSettings()
        compiled: Any = Profile("mine", settings)
        ra = make_ra(profiles={"mine": compiled, "device": settings})
        assert compiled is ra.rules.profiles["mine"]
        assert compiled.version == ra.rules.profiles["device"].version
        assert "tls-server" in ra.rules.profiles


class StubAuthorityTests:
    """The stub answers what the test says."""

    def test_answers_the_outcome(self) -> None:
        """A value is answered, an error raised, by each method."""
        pending = Pending(1, "r", "p", "device")
        stub: Any = StubAuthority(pending, (b"c",), CSRWishes())
        assert pending is result_of(stub.find(TENANT, "1"))
        assert pending is result_of(stub.revoke(TENANT, "1", "x", "y"))
        assert (b"c",) == stub.ca_certificates(ENDPOINT)
        assert CSRWishes() == stub.csr_attributes(ENDPOINT)
        stub.outcome = UnknownCertificate()
        for call in (stub.ca_certificates, stub.csr_attributes):
            with pytest.raises(UnknownCertificate):
                call(ENDPOINT)
        with pytest.raises(UnknownCertificate):
            result_of(stub.find(TENANT, "1"))


class ExchangeTests:
    """HTTP without a network."""

    def test_waits_for_an_answer_that_takes_time(self) -> None:
        """The clock is advanced until there is an answer."""
        clock = Clock()
        waiting: Deferred[Any] = Deferred()
        clock.callLater(5, waiting.callback, Pending(1, "r", "p", "device"))
        resource: Any = PLAIN.make_resource(
            StubAuthority(waiting), settings_for(PLAIN)
        )
        answer = exchange(resource, "POST", "/plain", make_csr(), clock=clock)
        assert 202 == answer.status

    def test_gives_up(self) -> None:
        """What is never answered fails the test rather than hanging it."""
        resource: Any = PLAIN.make_resource(
            StubAuthority(Deferred()), settings_for(PLAIN)
        )
        with pytest.raises(AssertionError, match="no whole answer"):
            exchange(resource, "POST", "/plain", make_csr())

    def test_client_certificate_counts_only_under_tls(self) -> None:
        """Without TLS there is no handshake that proves anything."""
        for secure in (True, False):
            stub = StubAuthority(Pending(1, "r", "p", "device"))
            resource: Any = PLAIN.make_resource(stub, settings_for(PLAIN))
            connection = Connection(
                resource, client_certificate=b"der", secure=secure
            )
            connection.send(request_octets("POST", "/plain", make_csr()))
            assert 202 == read_response(connection.received()).status
            connection.lose()
            (request,) = stub.requests
            assert secure == bool(request.credentials)

    def test_repeated_headers_are_kept(self) -> None:
        """A header that comes twice is a tuple, both ways."""
        answer = read_response(
            b"HTTP/1.1 401 Unauthorized\r\nA: 1\r\nA: 2\r\nB: 3\r\n\r\n"
        )
        assert {"A": ("1", "2"), "B": "3"} == answer.headers
        assert b"A: 1\r\nA: 2\r\n" in request_octets(
            "GET", "/", headers=(("A", "1"), ("A", "2"))
        )

    def test_headers_of_credentials(self) -> None:
        """They are those of RFC 7617 and RFC 6750."""
        assert {"Authorization": "Basic YTpi"} == basic("a", "b")
        assert {"Authorization": "Bearer t"} == bearer("t")
