# SPDX-License-Identifier: MIT
"""
The registration authority's straight path; its invariants are I-1 to I-9.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from zope.interface.verify import verifyObject

from trstctl import ra as ra_module
from trstctl.asked import fingerprint_of
from trstctl.audit import ChainHead, verify_records
from trstctl.errors import (
    ChallengeRejected,
    Conflict,
    Internal,
    NotAuthenticated,
    NotAuthorized,
    PolicyViolation,
    ProofOfPossessionFailed,
    Stale,
    Unavailable,
    UnknownCertificate,
    UnsupportedAlgorithm,
)
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    CertificateQuery,
    CertificateRequest,
    CertificateStatus,
    ClientCertificate,
    Credential,
    Endpoint,
    EnrollmentRequest,
    Held,
    Issued,
    OneTimeToken,
    Operation,
    Password,
    Pending,
    Principal,
    RequestState,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.csr import read_csr
from trstctl.policy.profile import Profile, builtin_profiles
from trstctl.ra import RegistrationAuthority, unmarked
from trstctl.rules import Rules, Windows
from trstctl.testing import (
    EPOCH,
    OTHER_TENANT,
    TENANT,
    DeterministicBytes,
    FakeSigner,
    MemoryStore,
    WallClock,
    add_one_time_token,
    add_password,
    make_authority,
    make_ra,
    make_request,
    result_of,
)

ENDPOINT = Endpoint("est", "", TENANT, "device", "issuing")
APPROVAL = evolve(builtin_profiles()["device"], approval="always")


class Killed(BaseException):
    """The process ends here: nothing that comes after it runs."""


class _Store(MemoryStore):
    """A store that notes each call, and fails or waits as a test wants."""

    def __init__(self, calls: list[str] | None = None) -> None:
        super().__init__()
        self.calls = [] if calls is None else calls
        self.errors: dict[str, Exception] = {}
        self.gates: dict[str, list[Callable[[], None]]] = {}

    def _step(self, name: str, act: Callable[[], Deferred[Any]]) -> Any:
        """Note the call; act, fail, or keep the answer back."""
        self.calls.append(name)
        if name in self.errors:
            return fail(self.errors[name])
        if name not in self.gates:
            return act()
        answer = act()
        waiting: Deferred[Any] = Deferred(lambda _: None)

        def go_on() -> None:
            if not waiting.called:
                answer.chainDeferred(waiting)

        self.gates[name].append(go_on)
        return waiting

    def open_gate(self, name: str) -> None:
        """Give the answers that were kept back."""
        for go_on in self.gates.pop(name):
            go_on()


def _noted(name: str) -> Callable[..., Any]:
    """Return a method of the store that notes its calls."""

    def method(self: _Store, *arguments: Any) -> Any:
        plain = getattr(MemoryStore, name)
        return self._step(name, lambda: plain(self, *arguments))

    return method


for _name in (
    "find_request",
    "hold",
    "open_intent",
    "record_certificate",
    "abandon_intent",
    "append_audit",
    "renew_lease",
    "retire_orphans",
    "release_lease",
):
    setattr(_Store, _name, _noted(_name))


class _Bench:
    """One store, one clock, one CA, and any number of processes."""

    def __init__(self, windows: Windows | None = None) -> None:
        self.calls: list[str] = []
        self.clock = Clock()
        self.now = WallClock(self.clock)
        self.stored = _Store(self.calls)
        self.store: Any = self.stored
        self.signer = FakeSigner()
        self.kill_at = ""
        self.authority: Any = make_authority(
            signer=self.signer, reached=self.reached
        )
        self.windows = windows
        self.processes = 0
        self.profiles: dict[str, Any] = {}
        for tenant_id in (TENANT, OTHER_TENANT):
            add_password(self.store, "a", "pw", tenant_id=tenant_id)
            add_password(self.store, "b", "pw", tenant_id=tenant_id)
        self.ra = self.process()
        self.wanted = make_request()

    def reached(self, point: str) -> None:
        """End the process at a failure point."""
        if point == self.kill_at:
            self.kill_at = ""
            raise Killed

    def process(self, **other: Any) -> RegistrationAuthority:
        """Start another process on the store."""
        self.processes += 1
        ra = make_ra(
            self.store,
            **{
                "authorities": {"issuing": self.authority},
                "profiles": self.profiles,
                "clock": self.clock,
                "now": self.now,
                "owner": f"process {self.processes}",
                "windows": self.windows,
                "reached": self.reached,
                **other,
            },
        )
        result_of(ra.tend())
        self.calls.clear()
        return ra

    def request(self, **other: Any) -> EnrollmentRequest:
        """Return a request."""
        facts: dict[str, Any] = {
            "endpoint": ENDPOINT,
            "operation": Operation.ENROLL,
            "wanted": self.wanted,
            "credentials": (Password("a", "pw"),),
            "request_id": "rid",
            "peer": "192.0.2.1",
            **other,
        }
        return EnrollmentRequest(**facts)

    def enroll(
        self, ra: RegistrationAuthority | None = None, **other: Any
    ) -> Any:
        """Enroll, and return the outcome."""
        return result_of((ra or self.ra).enroll(self.request(**other)))

    def start(
        self, ra: RegistrationAuthority | None = None, **other: Any
    ) -> tuple[Deferred[Any], list[Any]]:
        """Begin to enroll; return the Deferred and where its result goes."""
        results: list[Any] = []
        begun: Any = (ra or self.ra).enroll(self.request(**other))
        begun.addBoth(results.append)
        return begun, results

    def certificates(self, tenant_id: str = TENANT) -> list[Any]:
        """Return the inventory."""
        return list(
            result_of(
                self.store.list_certificates(CertificateQuery(tenant_id))
            )
        )

    def requests(self, state: RequestState | None = None) -> list[Any]:
        """Return the request rows."""
        return list(result_of(self.store.list_requests(TENANT, state, 1000)))

    def events(self, tenant_id: str = TENANT) -> list[str]:
        """Return the names of the audited events; the chain is whole."""
        records = result_of(self.store.audit_records(tenant_id, 0, 10_000))
        assert isinstance(
            verify_records(tenant_id, records, ChainHead()), ChainHead
        )
        names = [json.loads(one.body)["event"] for one in records]
        return [one for one in names if one != "credential.added"]

    def decide(self, approve: bool, reference: str, reason: str = "") -> None:
        """Let a person decide."""
        result_of(
            self.store.decide_request(
                TENANT,
                reference,
                approve,
                "operator",
                reason,
                self.now(),
                self.now() + timedelta(days=7),
            )
        )

    def settle(self) -> None:
        """Let everybody who waits in flight look again."""
        self.clock.pump([0.05] * 10)

    def signed_once(self) -> None:
        """I-1, I-2: each signature has an intent, and no serial has two."""
        signed = self.signer.signed
        intents = self.stored.tables.promises.values()
        promised = [one.intent.tbs for one in intents]
        assert len(set(signed)) == len(signed)
        assert set(signed) <= set(promised)


def another_request() -> CertificateRequest:
    """Return a request for another key."""
    return make_request()


# --- the steps --------------------------------------------------------------


class _Steps:
    """The path with every collaborator noting its calls in one list."""

    def __init__(self, monkeypatch: Any) -> None:
        self.calls: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.store: Any = _Store(self.calls)
        self.store.errors = self.errors
        self.signer = FakeSigner()
        self.inner: Any = make_authority(signer=self.signer)
        self.profile: Any = Profile("device", builtin_profiles()["device"])
        self.name, self.chain = "issuing", self.inner.chain
        self.not_after = self.inner.not_after
        self.version, self.retry_after = self.profile.version, 60
        self.held = False
        monkeypatch.setattr(
            ra_module, "verify_proof", lambda _: self.note("proof")
        )
        this: Any = self
        clock = Clock()
        self.ra = RegistrationAuthority(
            store=self.store,
            rules=Rules({"issuing": this}, {"device": this}),
            authenticator=this,
            clock=clock,
            now=WallClock(clock),
            random_bytes=DeterministicBytes("steps"),
            owner="steps",
        )

    def note(self, name: str) -> None:
        """Note a step, and fail if the test wants it."""
        self.calls.append(name)
        if name in self.errors:
            raise self.errors[name]

    def authenticate(self, request: Any, now: Any) -> Deferred[Principal]:
        """The authenticator's step."""
        try:
            self.note("authenticate")
        except NotAuthenticated as error:
            return fail(error)
        return succeed(Principal("basic", "a", TENANT))

    def decide(self, *arguments: Any, **named: Any) -> Any:
        """The profile's step."""
        self.note("decide")
        decision = self.profile.decide(*arguments, **named)
        return Held(decision, 60) if self.held else decision

    def prepare(self, approved: Any, serial: str) -> bytes:
        """The authority's first step."""
        self.note("prepare")
        tbs: bytes = self.inner.prepare(approved, serial)
        return tbs

    def sign(self, tbs: bytes) -> Deferred[bytes]:
        """The authority's second step."""
        self.note("sign")
        signing: Deferred[bytes] = self.inner.sign(tbs)
        return signing

    def enroll(self, wanted: CertificateRequest | None = None) -> Any:
        """Take a request along the path."""
        return result_of(
            self.ra.enroll(
                EnrollmentRequest(
                    endpoint=ENDPOINT,
                    operation=Operation.ENROLL,
                    wanted=wanted or make_request(),
                    credentials=(),
                    request_id="rid",
                    peer="192.0.2.1",
                )
            )
        )


PATH = [
    "authenticate",
    "find_request",
    "decide",
    "proof",
    "prepare",
    "open_intent",
    "sign",
    "record_certificate",
]


class StepTests:
    """One straight path: what fails at a step stops all later ones."""

    def test_the_whole_path(self, monkeypatch: Any) -> None:
        """I-1, I-3, I-9: every step once, and in this order."""
        steps = _Steps(monkeypatch)
        assert isinstance(steps.enroll(), Issued)
        assert PATH == steps.calls

    @pytest.mark.parametrize(
        ("step", "error", "after"),
        [
            ("authenticate", NotAuthenticated(), ["append_audit"]),
            ("find_request", Unavailable(), []),
            (
                "decide",
                PolicyViolation("device", "key-type", "no"),
                ["append_audit"],
            ),
            ("decide", UnsupportedAlgorithm(), ["append_audit"]),
            ("proof", ProofOfPossessionFailed(), ["append_audit"]),
            ("prepare", Internal(), []),
            ("open_intent", Conflict(), ["append_audit"]),
            ("open_intent", ChallengeRejected(), ["append_audit"]),
            ("open_intent", Unavailable(), []),
            ("sign", Unavailable(), ["abandon_intent"]),
            ("sign", Internal(), ["abandon_intent"]),
            ("record_certificate", Unavailable(), ["abandon_intent"]),
            ("record_certificate", ZeroDivisionError(), ["abandon_intent"]),
        ],
    )
    def test_failing_step_is_the_last(
        self,
        monkeypatch: Any,
        step: str,
        error: Exception,
        after: list[str],
    ) -> None:
        """I-3, I-6: no later step runs; a refusal is audited once."""
        steps = _Steps(monkeypatch)
        steps.errors[step] = error
        with pytest.raises(type(error)) as caught:
            steps.enroll()
        assert PATH[: PATH.index(step) + 1] + after == steps.calls
        recorded = getattr(caught.value, "recorded", False)
        assert (after == ["append_audit"]) == recorded

    def test_failing_hold(self, monkeypatch: Any) -> None:
        """I-6: what cannot be held is neither signed nor kept."""
        steps = _Steps(monkeypatch)
        steps.held = True
        steps.errors["hold"] = Unavailable()
        with pytest.raises(Unavailable):
            steps.enroll()
        assert [*PATH[:4], "hold"] == steps.calls

    def test_policy_before_signature(self, monkeypatch: Any) -> None:
        """I-9: a weak key is refused before its signature is checked."""
        steps = _Steps(monkeypatch)
        weak = make_request(key=ec.generate_private_key(ec.SECP256K1()))
        with pytest.raises(UnsupportedAlgorithm):
            steps.enroll(weak)
        assert "proof" not in steps.calls

    def test_refusal_carries_its_facts(self, monkeypatch: Any) -> None:
        """What the log line says of a refusal is on the error."""
        steps = _Steps(monkeypatch)
        steps.errors["decide"] = PolicyViolation("device", "key-type", "no")
        with pytest.raises(PolicyViolation) as caught:
            steps.enroll()
        assert {
            "principal": "basic:a",
            "profile": "device",
            "rule": "key-type",
        } == caught.value.facts

    def test_refusal_names_who_was_known(self, monkeypatch: Any) -> None:
        """Whom the authenticator knew and refused, the audit record names."""
        steps = _Steps(monkeypatch)
        error = NotAuthenticated()
        error.facts["principal"] = "certificate:issuing:1a"
        steps.errors["authenticate"] = error
        with pytest.raises(NotAuthenticated):
            steps.enroll()
        (record,) = result_of(steps.store.audit_records(TENANT, 0, 9))
        assert "certificate:issuing:1a" == json.loads(record.body)["actor"]

    def test_store_that_contradicts_itself(self, monkeypatch: Any) -> None:
        """A request that others move about for ever is given up."""
        steps = _Steps(monkeypatch)
        steps.held = True
        forgetful: Any = lambda *_: succeed(None)  # noqa: E731
        monkeypatch.setattr(steps.store, "find_request", forgetful)
        with pytest.raises(Unavailable):
            steps.enroll()
        assert 5 == steps.calls.count("decide")


class IssuingTests:
    """A request that is in order."""

    def test_provides_the_interface(self) -> None:
        """It is all that a protocol can reach."""
        assert verifyObject(IRegistrationAuthority, _Bench().ra)

    def test_certificate_is_the_recorded_one(self) -> None:
        """I-3: what is answered is in the inventory, and audited."""
        bench = _Bench()
        issued = bench.enroll()
        (row,) = bench.certificates()
        record = result_of(bench.ra.find(TENANT, issued.serial))
        assert record.der == issued.certificate
        assert issued.serial == row.serial
        assert ["intent.opened", "certificate.issued"] == bench.events()
        facts = read_certificate(issued.certificate)
        assert bench.wanted.public_key == facts.public_key
        assert bench.authority.chain == issued.chain
        assert ("device", "basic:a") == (issued.profile, issued.principal)
        assert not issued.replayed

    def test_failure_points_are_passed_in_order(self) -> None:
        """Drills can stop the process between any two steps."""
        bench = _Bench()
        points: list[str] = []
        ra = bench.process(reached=points.append)
        bench.enroll(ra)
        unmarked("nothing happens here")
        assert [
            "before-intent",
            "after-intent",
            "after-sign",
            "after-commit",
        ] == points

    def test_the_gateways_own_certificate(self) -> None:
        """The gateway takes the same path; there is nobody to prove."""
        bench = _Bench()
        issued = result_of(bench.ra.enroll_own(bench.request()))
        assert isinstance(issued, Issued)
        assert "system:gateway" == issued.principal
        assert 1 == len(bench.certificates())

    def test_rules_are_pinned_for_a_request(self) -> None:
        """A reload while a request is under way does not mix two rules."""
        bench = _Bench()
        bench.store.gates["find_request"] = []
        _, results = bench.start()
        bench.ra.rules = Rules({}, {})
        bench.store.open_gate("find_request")
        assert isinstance(results[0], Issued)

    @pytest.mark.parametrize("gone", ["authorities", "profiles"])
    def test_rules_that_are_gone(self, gone: str) -> None:
        """An endpoint whose rules a reload took away is told to wait."""
        bench = _Bench()
        bench.ra.rules = evolve(bench.ra.rules, **{gone: {}})
        with pytest.raises(Unavailable):
            bench.enroll()

    def test_what_a_protocol_may_ask_beside(self) -> None:
        """Chain and wishes are the endpoint's; unknown serials are none."""
        bench = _Bench()
        assert bench.authority.chain == bench.ra.ca_certificates(ENDPOINT)
        wishes = bench.ra.csr_attributes(ENDPOINT)
        assert "p-256" in wishes.algorithms
        with pytest.raises(UnknownCertificate):
            result_of(bench.ra.find(TENANT, "00"))

    def test_early_refusals_are_audited(self) -> None:
        """A refusal before the path is audited as one on it."""
        bench = _Bench()
        result_of(
            bench.ra.record_refusal(
                ENDPOINT, "enroll", Stale(), "rid", "192.0.2.1"
            )
        )
        assert ["request.refused"] == bench.events()


# --- exactly one certificate ------------------------------------------------


class RepetitionTests:
    """Exactly one certificate (I-4), and never another's (I-5)."""

    def test_repeated_request_gets_the_same_certificate(self) -> None:
        """I-4: byte for byte, from any process, and one row."""
        bench = _Bench()
        first = bench.enroll()
        for ra in (bench.ra, bench.process()):
            again = bench.enroll(ra)
            assert again.replayed
            assert first.certificate == again.certificate
            assert first.serial == again.serial
            assert first.chain == again.chain
        assert 1 == len(bench.certificates()) == len(bench.requests())

    def test_fifty_at_once(self) -> None:
        """I-4: 50 identical requests at once: one certificate, one row."""
        bench = _Bench()
        bench.signer.paused = True
        everybody = [bench.start()[1] for _ in range(50)]
        assert 1 == len(bench.signer.signed)
        bench.signer.release()
        bench.settle()
        outcomes = [results[0] for results in everybody]
        assert 1 == len({one.certificate for one in outcomes})
        assert 49 == sum(one.replayed for one in outcomes)
        assert 1 == len(bench.certificates()) == len(bench.requests())

    @pytest.mark.parametrize("own", [None, "key"])
    def test_two_processes_race(self, own: str | None) -> None:
        """I-4: the store's constraint decides between two processes."""
        bench = _Bench()
        processes = [bench.process() for _ in range(2)]
        bench.store.gates["find_request"] = []
        racers = [
            bench.start(ra, idempotency_key=own)[1] for ra in processes * 5
        ]
        bench.signer.paused = True
        bench.store.open_gate("find_request")
        assert 10 == bench.calls.count("open_intent")
        bench.signer.release()
        bench.settle()
        assert 1 == len({results[0].certificate for results in racers})
        assert 1 == len(bench.certificates()) == len(bench.requests())
        bench.signed_once()

    def test_waiting_for_the_first_is_bounded(self) -> None:
        """A repeated request waits its ten seconds, then comes back."""
        bench = _Bench()
        bench.signer.paused = True
        _, first = bench.start()
        _, second = bench.start(bench.process())
        bench.clock.pump([0.25] * 39)
        assert [] == second
        bench.clock.pump([0.25] * 3)
        (row,) = bench.requests()
        assert [
            Pending(2, row.id, "basic:a", "device", in_flight=True)
        ] == second
        bench.signer.release()
        assert isinstance(first[0], Issued)

    def test_same_key_for_another_request(self) -> None:
        """I-5: never another's certificate: another request is refused."""
        bench = _Bench()
        bench.enroll(idempotency_key="k")
        for other in (
            {"wanted": another_request()},
            {"endpoint": evolve(ENDPOINT, name="label")},
        ):
            with pytest.raises(Conflict):
                bench.enroll(idempotency_key="k", **other)
        assert 1 == len(bench.certificates())
        assert 2 == bench.events().count("request.refused")

    def test_same_key_while_the_first_is_in_flight(self) -> None:
        """I-5: nor does the other request get to wait for it."""
        bench = _Bench()
        bench.signer.paused = True
        bench.start(idempotency_key="k")
        with pytest.raises(Conflict):
            bench.enroll(idempotency_key="k", wanted=another_request())
        bench.signer.release()

    def test_key_that_is_taken_at_the_last_moment(self) -> None:
        """I-5: between the look and the intent, the store refuses."""
        bench = _Bench()
        bench.store.gates["find_request"] = []
        _, first = bench.start(idempotency_key="k")
        _, second = bench.start(idempotency_key="k", wanted=another_request())
        bench.store.open_gate("find_request")
        assert isinstance(first[0], Issued)
        assert Conflict is second[0].type
        assert 1 == len(bench.certificates())

    def test_others_cannot_meet(self) -> None:
        """I-5: principal, protocol and tenant each have their own keys."""
        bench = _Bench()
        keys = {"idempotency_key": "k"}
        serials = {
            bench.enroll(**keys, **other).serial
            for other in (
                {},
                {"credentials": (Password("b", "pw"),)},
                {"endpoint": evolve(ENDPOINT, protocol="scep")},
                {"endpoint": evolve(ENDPOINT, tenant_id=OTHER_TENANT)},
            )
        }
        assert 4 == len(serials)
        assert 3 == len(bench.certificates())
        assert 1 == len(bench.certificates(OTHER_TENANT))

    def test_own_and_derived_keys_are_two_worlds(self) -> None:
        """I-5: a client cannot name the derived key of a request."""
        bench = _Bench()
        derived = bench.enroll()
        name = f"csr:{fingerprint_of(bench.request())}"
        assert derived.serial != bench.enroll(idempotency_key=name).serial

    def test_derived_key_lives_for_the_retry_window(self) -> None:
        """A later renewal with the same CSR is a new certificate."""
        bench = _Bench()
        first = bench.enroll()
        bench.clock.advance(15 * 60 - 1)
        assert first.serial == bench.enroll().serial
        bench.clock.advance(1)
        assert first.serial != bench.enroll().serial

    def test_own_key_lives_for_the_retention(self) -> None:
        """A client's own key is kept for a week."""
        bench = _Bench()
        first = bench.enroll(idempotency_key="k")
        bench.clock.advance(7 * 86_400 - 1)
        assert first.serial == bench.enroll(idempotency_key="k").serial
        bench.clock.advance(1)
        assert first.serial != bench.enroll(idempotency_key="k").serial

    def test_revoked_certificate_is_not_replayed(self) -> None:
        """A repeated request does not bring a revoked certificate back."""
        bench = _Bench()
        issued = bench.enroll()
        record = result_of(
            bench.ra.revoke(TENANT, issued.serial, "keyCompromise", "op")
        )
        assert CertificateStatus.REVOKED is record.status
        with pytest.raises(Stale, match="revoked"):
            bench.enroll()

    def test_expired_certificate_is_not_replayed(self) -> None:
        """Nor an expired one, however long its key lives."""
        bench = _Bench(Windows(retention=timedelta(days=3650)))
        issued = bench.enroll(idempotency_key="k")
        end = read_certificate(issued.certificate).not_after
        bench.now.step(end - bench.now() - timedelta(seconds=1))
        assert bench.enroll(idempotency_key="k").replayed
        bench.now.step(timedelta(seconds=1))
        with pytest.raises(Stale, match="expired"):
            bench.enroll(idempotency_key="k")

    def test_row_without_its_certificate_is_a_fault(self) -> None:
        """A store that lost a certificate is not covered up."""
        bench = _Bench()
        bench.enroll()
        ((row_id, row),) = bench.stored.tables.requests.items()
        bench.stored.tables.requests[row_id] = evolve(row, certificate=None)
        with pytest.raises(Internal):
            bench.enroll()

    def test_fingerprint_tells_requests_apart(self) -> None:
        """Operation, protocol, endpoint and DER each count."""
        bench = _Bench()
        requests = [
            bench.request(),
            bench.request(operation=Operation.RENEW),
            bench.request(endpoint=evolve(ENDPOINT, protocol="scep")),
            bench.request(endpoint=evolve(ENDPOINT, name="x")),
            bench.request(wanted=another_request()),
        ]
        assert 5 == len(set(map(fingerprint_of, requests)))
        other_peer = bench.request(peer="x", request_id="y")
        assert fingerprint_of(requests[0]) == fingerprint_of(other_peer)


# --- refused ----------------------------------------------------------------


class RefusalTests:
    """Refused means nothing happened (I-6)."""

    @pytest.mark.parametrize(
        ("error", "other"),
        [
            (NotAuthenticated, {"credentials": ()}),
            (NotAuthenticated, {"credentials": (Password("a", "no"),)}),
            (NotAuthorized, {"operation": Operation.RENEW}),
            (
                PolicyViolation,
                {"wanted": make_request("x", ["dns:bad..name"])},
            ),
            (
                ProofOfPossessionFailed,
                {"wanted": evolve(make_request(), proof=make_request().proof)},
            ),
        ],
    )
    def test_nothing_but_an_audit_record(
        self, error: type[Exception], other: dict[str, Any]
    ) -> None:
        """I-6: no serial, no row, and no signature."""
        bench = _Bench()
        with pytest.raises(error):
            bench.enroll(**other)
        assert [] == bench.certificates()
        assert [] == bench.requests()
        assert [] == bench.signer.signed
        assert {} == bench.stored.tables.promises
        assert ["request.refused"] == bench.events()

    def test_forgiven_of_a_stranger(self) -> None:
        """What is logged of a request before anybody is proven says whose it
        is, so that a flood of it can be counted."""
        bench, events = _Bench(), list[Any]()
        globalLogPublisher.addObserver(events.append)
        try:
            with pytest.raises(NotAuthenticated):
                bench.enroll(
                    credentials=(),
                    wanted=evolve(make_request(), forgiven=("version",)),
                )
        finally:
            globalLogPublisher.removeObserver(events.append)
        (event,) = [
            one for one in events if one.get("event") == "request.forgiven"
        ]
        assert (TENANT, "192.0.2.1", "version") == (
            event["tenant"],
            event["peer"],
            event["faults"],
        )

    def test_refusal_stays_one_without_the_audit_log(self) -> None:
        """A refusal that cannot be audited now is told all the same."""
        bench = _Bench()
        bench.store.errors["append_audit"] = Unavailable()
        with pytest.raises(NotAuthenticated):
            bench.enroll(credentials=())
        bench.store.errors.clear()
        result_of(bench.ra.tend())
        assert ["request.refused.more"] == bench.events()


# --- single-use secrets -----------------------------------------------------


class SecretTests:
    """A single-use secret buys one certificate (security, 3.6)."""

    def bench(self) -> tuple[_Bench, tuple[Credential, ...]]:
        """Return a bench and the credential."""
        bench = _Bench()
        secret = add_one_time_token(bench.store, "once")
        return bench, (OneTimeToken(secret),)

    def burnt(self, bench: _Bench) -> bool:
        """Tell whether the secret is burnt."""
        secret = bench.stored.tables.secrets[TENANT, "once"]
        return secret.burnt_at is not None

    def test_refused_request_burns_nothing(self) -> None:
        """I-6: who was refused tries again with the same secret."""
        bench, once = self.bench()
        with pytest.raises(PolicyViolation):
            bench.enroll(
                credentials=once, wanted=make_request("x", ["dns:bad..name"])
            )
        assert not self.burnt(bench)
        assert isinstance(bench.enroll(credentials=once), Issued)
        assert self.burnt(bench)

    def test_one_of_many_wins(self) -> None:
        """64 devices at once with one secret: exactly one certificate."""
        bench, once = self.bench()
        bench.store.gates["find_request"] = []
        wanted = [make_request() for _ in range(64)]
        racers = [
            bench.start(credentials=once, wanted=one)[1] for one in wanted
        ]
        bench.store.open_gate("find_request")
        won = [one[0] for one in racers if isinstance(one[0], Issued)]
        lost = [one[0].type for one in racers if one[0] not in won]
        assert 1 == len(won) == len(bench.certificates())
        assert [ChallengeRejected] * 63 == lost

    def test_winner_repeats_and_others_are_refused(self) -> None:
        """I-4: the winner gets its certificate again; another key none."""
        bench, once = self.bench()
        first = bench.enroll(credentials=once)
        again = bench.enroll(bench.process(), credentials=once)
        assert first.certificate == again.certificate
        for other in (
            {"wanted": another_request()},
            {"endpoint": evolve(ENDPOINT, protocol="bootstrap")},
        ):
            with pytest.raises(ChallengeRejected):
                bench.enroll(credentials=once, **other)
        assert 1 == len(bench.certificates())

    def test_whatever_the_idempotency_key(self) -> None:
        """I-10: the secret itself is the key; no other one keeps the winner
        from its certificate, or brings another one about."""
        bench, once = self.bench()
        first = bench.enroll(credentials=once, idempotency_key="a")
        for own in ("a", "b", None):
            again = bench.enroll(credentials=once, idempotency_key=own)
            assert first.certificate == again.certificate
        with pytest.raises(ChallengeRejected):
            bench.enroll(
                credentials=once,
                idempotency_key="a",
                wanted=another_request(),
            )

    def test_signed_anew(self) -> None:
        """I-10: a request built again with the same key is the same."""
        bench, once = self.bench()
        key = ec.generate_private_key(ec.SECP256R1())
        one, two = (make_request("d.example", key=key) for _ in range(2))
        assert one.der != two.der
        first = bench.enroll(credentials=once, wanted=one)
        again = bench.enroll(credentials=once, wanted=two)
        assert first.certificate == again.certificate
        assert again.replayed
        other = make_request("other.example", key=key)
        with pytest.raises(ChallengeRejected) as refused:
            bench.enroll(credentials=once, wanted=other)
        assert not refused.value.reused

    def test_signed_anew_must_be_signed(self) -> None:
        """Who has the secret and sees the key does not have the key."""
        bench, once = self.bench()
        wanted = make_request()
        bench.enroll(credentials=once, wanted=wanted)
        forged = read_csr(wanted.der[:-1] + bytes([wanted.der[-1] ^ 1]))
        with pytest.raises(ProofOfPossessionFailed):
            bench.enroll(credentials=once, wanted=forged)

    def test_second_key_is_an_alarm(self) -> None:
        """I-10: a copied secret shows in the audit log."""
        bench, once = self.bench()
        bench.enroll(credentials=once)
        with pytest.raises(ChallengeRejected) as refused:
            bench.enroll(credentials=once, wanted=another_request())
        assert refused.value.reused
        assert "secret.reused" == bench.events()[-1]
        assert ChallengeRejected.detail == str(refused.value)
        *_, record = result_of(bench.stored.audit_records(TENANT, 0, 99))
        assert '"actor":"token:once"' in record.body

    def test_secret_is_not_for_two_certificates_in_a_row(self) -> None:
        """Nor does it buy a second one when the key is free again."""
        bench, once = self.bench()
        first = bench.enroll(credentials=once)
        bench.clock.advance(6 * 86_400)
        again = bench.enroll(credentials=once)
        assert first.certificate == again.certificate
        bench.clock.advance(86_400)
        with pytest.raises(ChallengeRejected):
            bench.enroll(credentials=once)

    @pytest.mark.parametrize(
        "point", ["after-intent", "inside-sign", "after-sign", "after-commit"]
    )
    def test_burnt_and_killed(self, point: str) -> None:
        """The secret serves the same request after a crash (step-ca)."""
        bench, once = self.bench()
        bench.kill_at = point
        with pytest.raises(Killed):
            bench.enroll(credentials=once)
        assert self.burnt(bench)
        bench.clock.advance(61)
        ra = bench.process()
        with pytest.raises(ChallengeRejected):
            bench.enroll(ra, credentials=once, wanted=another_request())
        bench.enroll(ra, credentials=once)
        assert 1 == len(bench.certificates())

    def test_expired_secret(self) -> None:
        """After its time a secret buys nothing, not even by a clock set
        back."""
        bench, once = self.bench()
        bench.clock.advance(86_401)
        bench.enroll()
        bench.now.step(timedelta(seconds=-30))
        with pytest.raises(ChallengeRejected):
            bench.enroll(credentials=once, wanted=another_request())


# --- held requests ----------------------------------------------------------


class HeldTests:
    """A request that a person approves."""

    def bench(self) -> _Bench:
        """Return a bench whose profile wants approval."""
        bench = _Bench()
        bench.profiles["device"] = APPROVAL
        bench.ra = bench.process()
        return bench

    def test_held_approved_issued(self) -> None:
        """Nothing is signed before the approval; then, once."""
        bench = self.bench()
        held = bench.enroll()
        assert held == Pending(60, held.reference, "basic:a", "device")
        assert held == bench.enroll()
        assert [] == bench.signer.signed
        bench.decide(True, held.reference)
        issued = bench.enroll()
        assert issued.certificate == bench.enroll().certificate
        assert 1 == len(bench.certificates()) == len(bench.requests())
        assert [
            "request.held",
            "request.approved",
            "intent.opened",
            "certificate.issued",
        ] == bench.events()

    def test_denied(self) -> None:
        """A denial is final for this request, and says why."""
        bench = self.bench()
        held = bench.enroll()
        bench.decide(False, held.reference, "not ours")
        with pytest.raises(NotAuthorized, match="denied: not ours"):
            bench.enroll()
        assert [] == bench.certificates()

    def test_denied_without_a_reason(self) -> None:
        """The text has no hole where no reason was given."""
        bench = self.bench()
        held = bench.enroll()
        bench.decide(False, held.reference)
        with pytest.raises(NotAuthorized, match="no reason given"):
            bench.enroll()

    def test_approval_is_not_for_what_became_forbidden(self) -> None:
        """The profile judges anew at the time of issue."""
        bench = self.bench()
        held = bench.enroll()
        bench.decide(True, held.reference)
        bench.profiles["device"] = evolve(APPROVAL, key_types=("p-384",))
        with pytest.raises(PolicyViolation):
            bench.enroll(bench.process())

    def test_rebuilt_request_is_adopted(self) -> None:
        """A client that signs its request anew keeps its place in line."""
        bench = self.bench()
        key = ec.generate_private_key(ec.SECP256R1())
        first, second = make_request(key=key), make_request(key=key)
        assert first.der != second.der
        held = bench.enroll(wanted=first)
        assert held.reference == bench.enroll(wanted=second).reference
        assert 1 == len(bench.requests())
        bench.decide(True, held.reference)
        third = make_request(key=key)
        issued = bench.enroll(wanted=third)
        assert isinstance(issued, Issued)
        assert 1 == len(bench.certificates()) == len(bench.requests())

    def test_another_key_is_not_adopted(self) -> None:
        """Another key is another request, with an approval of its own."""
        bench = self.bench()
        held = bench.enroll()
        bench.decide(True, held.reference)
        other = bench.enroll(wanted=another_request())
        assert isinstance(other, Pending)
        assert held.reference != other.reference

    def test_signer_that_fails_costs_no_second_approval(self) -> None:
        """What a person approved stays so when the signer was away."""
        bench = self.bench()
        bench.decide(True, bench.enroll().reference)
        bench.signer.error = Unavailable()
        with pytest.raises(Unavailable):
            bench.enroll()
        assert 1 == len(bench.requests(RequestState.ABANDONED))
        bench.signer.error = None
        assert isinstance(bench.enroll(), Issued)

    def test_abandoned_request_that_now_needs_approval(self) -> None:
        """One that nobody approved is held when it is tried again."""
        bench = _Bench()
        bench.signer.error = Unavailable()
        with pytest.raises(Unavailable):
            bench.enroll()
        bench.signer.error = None
        bench.profiles["device"] = APPROVAL
        held = bench.enroll(bench.process())
        assert isinstance(held, Pending)
        assert 1 == len(bench.requests(RequestState.HELD))

    def test_two_held_at_once(self) -> None:
        """Two processes that hold one request hold one row."""
        bench = self.bench()
        bench.store.gates["find_request"] = []
        racers = [bench.start(ra)[1] for ra in (bench.ra, bench.process())]
        bench.store.open_gate("find_request")
        assert racers[0] == racers[1]
        assert 1 == len(bench.requests())


# --- crashes, clients that leave, stores that fail --------------------------


class CrashTests:
    """The process ends anywhere; the device gets exactly one certificate."""

    @pytest.mark.parametrize("own", [None, "key"])
    @pytest.mark.parametrize(
        ("point", "rows"),
        [
            ("before-intent", 0),
            ("after-intent", 0),
            ("inside-sign", 0),
            ("after-sign", 0),
            ("after-commit", 1),
        ],
    )
    def test_killed_and_retried(
        self, point: str, rows: int, own: str | None
    ) -> None:
        """I-1, I-2, I-8: the orphan is retired, its serial never signed
        again, and the retry gets one certificate."""
        bench = _Bench()
        bench.kill_at = point
        with pytest.raises(Killed):
            bench.enroll(idempotency_key=own)
        assert rows == len(bench.certificates())
        first = list(bench.stored.tables.promises.values())
        bench.clock.advance(61)
        ra = bench.process()
        issued = bench.enroll(ra, idempotency_key=own)
        assert (
            issued.certificate
            == bench.enroll(ra, idempotency_key=own).certificate
        )
        assert 1 == len(bench.certificates()) == len(bench.requests())
        if first and not rows:
            assert issued.serial != first[0].intent.serial
            assert 1 == bench.events().count("intent.abandoned")
        bench.signed_once()

    def test_lease_keeps_a_living_owners_intents(self) -> None:
        """I-8: who renews its lease keeps what it is signing."""
        bench = _Bench()
        bench.signer.paused = True
        _, results = bench.start()
        other = bench.process()
        for _ in range(5):
            bench.clock.advance(5)
            result_of(bench.ra.tend())
            result_of(other.tend())
        bench.signer.release()
        assert isinstance(results[0], Issued)

    def test_retired_while_it_was_signing(self) -> None:
        """I-2: a process that was taken for dead throws its result away."""
        bench = _Bench(Windows(sign=1000.0))
        bench.signer.paused = True
        _, results = bench.start()
        bench.clock.advance(61)
        bench.process()
        bench.signer.release()
        assert Unavailable is results[0].type
        assert [] == bench.certificates()
        assert isinstance(bench.enroll(), Issued)
        assert 1 == len(bench.certificates())

    def test_retired_intents_are_told(self) -> None:
        """I-8: the operator learns of what a dead process left behind."""
        bench = _Bench()
        bench.kill_at = "after-intent"
        with pytest.raises(Killed):
            bench.enroll()
        bench.clock.advance(61)
        bench.process()
        assert ["intent.opened", "intent.abandoned"] == bench.events()
        assert 1 == len(bench.requests(RequestState.ABANDONED))


class LeavingTests:
    """A client that leaves (I-7)."""

    @pytest.mark.parametrize("gate", ["find_request"])
    def test_before_the_intent(self, gate: str) -> None:
        """I-7: its request stops, and nothing has happened."""
        bench = _Bench()
        bench.store.gates[gate] = []
        begun, results = bench.start()
        begun.cancel()
        bench.store.open_gate(gate)
        assert CancelledError is results[0].type
        assert [] == bench.requests()
        assert [] == bench.signer.signed

    def test_while_it_waits_in_flight(self) -> None:
        """I-7: who only waits for another leaves it alone."""
        bench = _Bench()
        bench.signer.paused = True
        _, first = bench.start()
        begun, second = bench.start()
        begun.cancel()
        assert CancelledError is second[0].type
        bench.signer.release()
        assert isinstance(first[0], Issued)
        assert [] == bench.clock.getDelayedCalls()

    def test_while_the_intent_is_committed(self) -> None:
        """I-7: what the store may have committed is carried through."""
        bench = _Bench()
        bench.store.gates["open_intent"] = []
        begun, results = bench.start()
        begun.cancel()
        assert CancelledError is results[0].type
        bench.store.open_gate("open_intent")
        assert 1 == len(bench.certificates())

    def test_after_the_intent(self) -> None:
        """I-7: the issuance goes on, and the retry gets its result."""
        bench = _Bench()
        bench.signer.paused = True
        begun, results = bench.start()
        begun.cancel()
        assert CancelledError is results[0].type
        bench.signer.release()
        (row,) = bench.certificates()
        again = bench.enroll()
        assert again.replayed
        assert row.serial == again.serial

    def test_and_then_it_fails(self, logged: Any) -> None:
        """I-7: a failure that nobody waits for is logged, not lost."""
        bench = _Bench()
        bench.signer.paused = True
        bench.signer.forging = True
        begun, results = bench.start()
        begun.cancel()
        bench.signer.release()
        assert CancelledError is results[0].type
        assert 1 == len(logged.flush(Internal))
        assert 1 == len(bench.requests(RequestState.ABANDONED))


class FailureTests:
    """Signer and store fail; nothing is half done."""

    def test_signature_that_does_not_verify(self) -> None:
        """I-2: it is thrown away, and so is its serial."""
        bench = _Bench()
        bench.signer.forging = True
        with pytest.raises(Internal):
            bench.enroll()
        assert [] == bench.certificates()
        assert ["intent.opened", "intent.abandoned"] == bench.events()
        bench.signer.forging = False
        assert isinstance(bench.enroll(), Issued)
        bench.signed_once()

    def test_signer_that_takes_too_long(self) -> None:
        """A signature has 30 seconds; a late one is thrown away."""
        bench = _Bench()
        bench.signer.paused = True
        _, results = bench.start()
        bench.clock.pump([10, 10, 10])
        assert Unavailable is results[0].type
        bench.signer.release()
        assert [] == bench.certificates()
        assert 1 == len(bench.requests(RequestState.ABANDONED))

    @pytest.mark.parametrize(
        "away",
        [
            {"find_request"},
            {"open_intent"},
            {"record_certificate"},
            {"record_certificate", "abandon_intent"},
        ],
    )
    @pytest.mark.parametrize("error", [Unavailable(), ZeroDivisionError()])
    def test_store_that_is_away(
        self, away: set[str], error: Exception
    ) -> None:
        """I-3: no answer without a commit; tend() settles the rest."""
        bench = _Bench()
        bench.store.errors = dict.fromkeys(away, error)
        with pytest.raises(type(error)):
            bench.enroll()
        assert [] == bench.certificates()
        bench.store.errors.clear()
        result_of(bench.ra.tend())
        assert [] == bench.requests(RequestState.OPEN)
        assert isinstance(bench.enroll(), Issued)
        assert 1 == len(bench.certificates())
        bench.signed_once()

    def test_store_that_stays_away(self) -> None:
        """What could not be settled is tried at each round."""
        bench = _Bench()
        bench.store.errors = dict.fromkeys(
            ("record_certificate", "abandon_intent"), Unavailable()
        )
        with pytest.raises(Unavailable):
            bench.enroll()
        with pytest.raises(Unavailable):
            result_of(bench.ra.tend())
        bench.store.errors.clear()
        result_of(bench.ra.tend())
        bench.calls.clear()
        result_of(bench.ra.tend())
        assert "abandon_intent" not in bench.calls

    def test_certificate_that_was_committed_after_all(self) -> None:
        """I-4: an unsure commit is answered by what the store holds."""
        bench = _Bench()
        record = bench.store.record_certificate

        def unsure(*arguments: Any) -> Deferred[Any]:
            record(*arguments)
            return fail(Unavailable())

        bench.store.record_certificate = unsure
        with pytest.raises(Unavailable):
            bench.enroll()
        (row,) = bench.certificates()
        assert row.serial == bench.enroll().serial

    def test_clock_that_cannot_be_trusted(self) -> None:
        """Nothing is issued behind the last audit record's time."""
        bench = _Bench()
        bench.enroll()
        bench.now.step(timedelta(seconds=-61))
        with pytest.raises(Unavailable):
            bench.enroll(wanted=another_request())


class SerialTests:
    """One signature for a serial (I-2)."""

    class Repeating:
        """A source of randomness that repeats its first serials."""

        def __init__(self, times: int) -> None:
            self.times = times
            self.source = DeterministicBytes("serials")

        def __call__(self, count: int) -> bytes:
            if count == 20 and self.times:
                self.times -= 1
                return b"\x55" * 20
            return self.source(count)

    def test_taken_serial_is_replaced(self) -> None:
        """I-2: a collision is neither an error nor a duplicate."""
        bench = _Bench()
        ra = bench.process(random_bytes=self.Repeating(3))
        first = bench.enroll(ra)
        second = bench.enroll(ra, wanted=another_request())
        assert "55" * 20 == first.serial
        assert first.serial != second.serial
        assert 2 == len(bench.certificates())

    def test_serials_that_never_come_free(self) -> None:
        """A source that only repeats itself stops issuance."""
        bench = _Bench()
        ra = bench.process(random_bytes=self.Repeating(100))
        bench.enroll(ra)
        with pytest.raises(Internal):
            bench.enroll(ra, wanted=another_request())
        assert 1 == len(bench.certificates())

    def test_serial_of_an_abandoned_intent_stays_taken(self) -> None:
        """I-2: it is never signed again."""
        bench = _Bench()
        ra = bench.process(random_bytes=self.Repeating(2))
        bench.signer.error = Unavailable()
        with pytest.raises(Unavailable):
            bench.enroll(ra)
        bench.signer.error = None
        assert "55" * 20 != bench.enroll(ra).serial


# --- renewal, life ----------------------------------------------------------


class RenewalTests:
    """A renewal stands on its certificate."""

    def test_renewal_is_a_new_certificate(self) -> None:
        """The old certificate is the principal; the key is derived."""
        bench = _Bench()
        old = bench.enroll()
        renew = {
            "operation": Operation.RENEW,
            "credentials": (ClientCertificate(old.certificate),),
        }
        new = bench.enroll(**renew)
        assert old.serial != new.serial
        assert new.certificate == bench.enroll(**renew).certificate
        assert f"certificate:issuing:{old.serial}" == new.principal

    def test_password_does_not_renew(self) -> None:
        """RFC 7030, section 4.2.2: the current certificate is needed."""
        bench = _Bench()
        bench.enroll()
        with pytest.raises(NotAuthorized, match="client certificate"):
            bench.enroll(operation=Operation.RENEW)


class LifeTests:
    """The process starts, lives and ends."""

    def test_tend_renews_the_lease_and_retires_orphans(self) -> None:
        """I-8: each round, in this order."""
        bench = _Bench()
        result_of(bench.ra.tend())
        assert ["renew_lease", "retire_orphans"] == bench.calls
        until = EPOCH + timedelta(seconds=60)
        assert until == bench.stored.tables.leases["process 1"]

    def test_drain_without_work(self) -> None:
        """An idle process gives up its lease at once."""
        bench = _Bench()
        result_of(bench.ra.drain())
        assert {} == bench.stored.tables.leases

    def test_drain_waits_for_what_is_signed(self) -> None:
        """I-7: SIGTERM loses no issuance that is under way."""
        bench = _Bench()
        bench.signer.paused = True
        begun = [
            bench.start()[1],
            bench.start(wanted=another_request())[1],
        ]
        drained: list[object] = []
        for _ in range(2):
            Deferred.fromCoroutine(bench.ra.drain()).addBoth(drained.append)
        assert [] == drained
        assert "release_lease" not in bench.calls
        bench.signer.release()
        assert [None, None] == drained
        assert all(isinstance(one[0], Issued) for one in begun)
        assert {} == bench.stored.tables.leases

    def test_drain_waits_for_an_intent_that_is_committed(self) -> None:
        """I-7: an intent on its way to the disk counts as under way."""
        bench = _Bench()
        bench.store.gates["open_intent"] = []
        _, results = bench.start()
        drained: list[object] = []
        Deferred.fromCoroutine(bench.ra.drain()).addBoth(drained.append)
        assert [] == drained
        bench.store.open_gate("open_intent")
        assert [None] == drained
        assert isinstance(results[0], Issued)

    def test_nothing_is_promised_after_the_drain(self) -> None:
        """I-8: who has given up the lease opens no intent."""
        bench = _Bench()
        issued = bench.enroll()
        result_of(bench.ra.drain())
        with pytest.raises(Unavailable):
            bench.enroll(wanted=make_request("late"))
        assert 1 == len(bench.requests())
        # What is there already is still answered.
        assert issued.certificate == bench.enroll().certificate

    def test_drain_writes_what_was_counted(self) -> None:
        """Refusals that were only counted are audited before the end."""
        bench = _Bench()
        bench.store.errors["append_audit"] = Unavailable()
        with pytest.raises(NotAuthenticated):
            bench.enroll(credentials=())
        bench.store.errors.clear()
        result_of(bench.ra.drain())
        assert ["request.refused.more"] == bench.events()
