# SPDX-License-Identifier: MIT
"""Keys that the gateway makes for others: invariants I-15 and I-16."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from trstctl.asked import read_kept
from trstctl.errors import (
    ChallengeRejected,
    Conflict,
    Internal,
    Malformed,
    NotAuthenticated,
    PolicyViolation,
    ProofOfPossessionFailed,
    Unavailable,
    UnknownCertificate,
    UnsupportedAlgorithm,
)
from trstctl.key_maker import make_key
from trstctl.model import (
    CertificateQuery,
    CertificateStatus,
    Endpoint,
    EnrollmentRequest,
    Issued,
    OneTimeToken,
    Operation,
    Password,
    Pending,
    PollRequest,
    PublicKey,
    RequestState,
    SignatureProof,
)
from trstctl.policy.profile import ProfileSettings, builtin_profiles
from trstctl.ra import RegistrationAuthority
from trstctl.testing import (
    OTHER_TENANT,
    TENANT,
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
PASSWORD = (Password("device", "password"),)
OTHER = (Password("other", "password"),)
DEVICE = evolve(builtin_profiles()["device"], server_key_generation=True)
APPROVAL = evolve(DEVICE, approval="always")
#: The device's request, and the key in it that counts for nothing.
CSR = make_request()
GENERATED = SignatureProof(
    "", "", CSR.proof.signed, b"", kind="generated", accepted=True
)


class _Killed(BaseException):
    """The process ends here: nothing that comes after it runs."""


class _Bench:
    """A registration authority, and a protocol that has keys made."""

    def __init__(self, **profiles: ProfileSettings) -> None:
        self.clock = Clock()
        self.now = WallClock(self.clock)
        self.store: Any = MemoryStore()
        for name in ("device", "other"):
            add_password(self.store, name, "password")
        self.signer = FakeSigner()
        self.authority: Any = make_authority(signer=self.signer)
        self.profiles: Any = {
            name: evolve(each, server_key_generation=True)
            for name, each in {"device": DEVICE, **profiles}.items()
        }
        self.kill_at = ""
        self.ra = self.process("first")
        self.made: list[Any] = []
        self.wish = PublicKey(b"", "p-256", 256, "")

    def process(self, owner: str) -> RegistrationAuthority:
        """Start a process on the store."""
        ra = make_ra(
            self.store,
            authorities={"issuing": self.authority},
            profiles=self.profiles,
            clock=self.clock,
            now=self.now,
            owner=owner,
            reached=self.reached,
        )
        result_of(ra.tend())
        return ra

    def reached(self, point: str) -> None:
        """End the process at a failure point."""
        if point == self.kill_at:
            raise _Killed

    def request(self, **other: Any) -> EnrollmentRequest:
        """Return a request for a key, in the transaction ``t``."""
        wanted = evolve(CSR, public_key=self.wish, proof=GENERATED)

        async def generate() -> Any:
            key = make_key("p-256", 0).public_key
            self.made.append(key)
            return evolve(wanted, public_key=key)

        facts: dict[str, Any] = {
            "endpoint": ENDPOINT,
            "operation": Operation.ENROLL,
            "wanted": wanted,
            "credentials": PASSWORD,
            "request_id": "rid",
            "peer": "192.0.2.1",
            "transaction": "t",
            "anew": True,
            "generate": generate,
            **other,
        }
        return EnrollmentRequest(**facts)

    def enroll(self, **other: Any) -> Any:
        """Enroll."""
        return result_of(self.ra.enroll(self.request(**other)))

    def begin(self, **other: Any) -> list[Any]:
        """Begin to enroll; return where the outcome will be."""
        outcomes: list[Any] = []
        self.ra.enroll(self.request(**other)).addBoth(outcomes.append)
        return outcomes

    def revoked(self) -> dict[str, str]:
        """Return the reasons of all revoked certificates, by serial."""
        return {
            one.serial: one.revocation_reason
            for one in self.certificates()
            if one.status is CertificateStatus.REVOKED
        }

    def certificates(self) -> list[Any]:
        """Return the inventory."""
        query = CertificateQuery(TENANT)
        return list(result_of(self.store.list_certificates(query)))

    def rows(self) -> list[Any]:
        """Return every request."""
        return list(result_of(self.store.list_requests(TENANT, None, 100)))

    def events(self) -> list[str]:
        """Return the names of what was audited."""
        records = result_of(self.store.audit_records(TENANT, 0, 1000))
        return [json.loads(one.body)["event"] for one in records]


class GeneratedKeyTests:
    """I-15: a key that is made here is handed out once."""

    def test_the_key_that_was_made_is_certified(self) -> None:
        """The device's own key counts for nothing."""
        bench = _Bench()
        issued = bench.enroll()
        (key,) = bench.made
        (record,) = bench.certificates()
        assert key.fingerprint == record.public_key_fingerprint
        assert (issued.serial, False) == (record.serial, issued.replayed)

    def test_again(self) -> None:
        """I-15: another certificate; the one before is revoked."""
        bench = _Bench()
        first, second = bench.enroll(), bench.enroll()
        assert first.serial != second.serial
        assert {first.serial: "superseded"} == bench.revoked()
        assert not second.replayed
        third = bench.enroll()
        assert {first.serial, second.serial} == set(bench.revoked())
        assert third.serial not in bench.revoked()

    def test_key_that_is_made_already(self) -> None:
        """Who makes it himself has the same, by the key alone."""
        bench = _Bench()
        outcomes = [
            bench.enroll(
                generate=None,
                wanted=evolve(
                    CSR,
                    public_key=make_key("p-256", 0).public_key,
                    proof=GENERATED,
                ),
                content=b"the same",
            )
            for _ in range(2)
        ]
        assert {outcomes[0].serial: "superseded"} == bench.revoked()

    def test_revoked_before_it_is_answered(self) -> None:
        """I-15: no answer while the one before is valid."""
        bench = _Bench()
        first = bench.enroll()
        revoke = bench.store.revoke_certificate
        bench.store.revoke_certificate = lambda *_: fail(Unavailable())
        with pytest.raises(Unavailable):
            bench.enroll()
        bench.store.revoke_certificate = revoke
        assert {} == bench.revoked()
        third = bench.enroll()
        assert 2 == len(bench.revoked())
        assert first.serial in bench.revoked()
        assert third.serial not in bench.revoked()

    @pytest.mark.parametrize("point", ["after-intent", "after-commit"])
    def test_killed(self, point: str) -> None:
        """I-15: the next repetition makes up for what was not done."""
        bench = _Bench()
        first = bench.enroll()
        bench.kill_at = point
        with pytest.raises(_Killed):
            bench.enroll()
        assert {} == bench.revoked()
        bench.kill_at = ""
        bench.clock.advance(120)
        bench.ra = bench.process("second")
        last = bench.enroll()
        others = {one.serial for one in bench.certificates()} - {last.serial}
        assert first.serial in others
        assert others == set(bench.revoked())

    def test_revoked_for_another_reason(self) -> None:
        """What is revoked already keeps its reason."""
        bench = _Bench()
        first = bench.enroll()
        result_of(
            bench.ra.revoke(TENANT, first.serial, "keyCompromise", "ann")
        )
        bench.enroll()
        assert {first.serial: "keyCompromise"} == bench.revoked()

    @pytest.mark.parametrize(
        "other",
        [
            {"transaction": "u"},
            {"credentials": OTHER},
            {"endpoint": evolve(ENDPOINT, name="other")},
            {"endpoint": evolve(ENDPOINT, protocol="cmp")},
        ],
    )
    def test_others(self, other: dict[str, Any]) -> None:
        """I-15: another transaction, principal or place revokes nothing."""
        bench = _Bench()
        bench.enroll()
        bench.enroll(**other)
        assert {} == bench.revoked()

    def test_much_later(self) -> None:
        """I-15, as I-11: the same again, much later, is a renewal."""
        bench = _Bench()
        bench.enroll()
        bench.clock.advance(bench.ra.windows.retry.total_seconds())
        bench.enroll()
        assert {} == bench.revoked()

    def test_what_came_after_stays(self) -> None:
        """Of two processes, the later one's certificate is the one."""
        bench = _Bench()
        other = bench.process("second")
        revoke, revoked = bench.store.revoke_certificate, []
        waiting: Deferred[Any] = Deferred()

        def slow(*args: Any) -> Any:
            if not revoked:
                revoked.append(args)
                return waiting.addCallback(lambda _: revoke(*args))
            return revoke(*args)

        bench.enroll()
        bench.store.revoke_certificate = slow
        outcomes = bench.begin()
        last = result_of(other.enroll(bench.request()))
        waiting.callback(None)
        assert [Issued] == [type(one) for one in outcomes]
        assert last.serial not in bench.revoked()
        assert 2 == len(bench.revoked())

    def test_nothing_is_held(self) -> None:
        """I-15: what a person would approve is a key that is gone by then."""
        bench = _Bench(device=APPROVAL)
        with pytest.raises(PolicyViolation) as caught:
            bench.enroll()
        assert "approval" == caught.value.rule
        assert [] == bench.made
        assert [] == bench.rows()

    def test_kept_request_is_the_device_s(self) -> None:
        """What the store keeps reads back, and has no private key in it."""
        bench = _Bench()
        bench.enroll()
        (row,) = bench.rows()
        assert CSR.der == row.csr == read_kept(row.csr).der
        assert bench.made[0].fingerprint == row.public_key_fingerprint

    @pytest.mark.parametrize("kill_at", ["after-intent", ""])
    def test_no_poll(self, kill_at: str) -> None:
        """I-15: a question for it gets neither it nor one for another key."""
        bench = _Bench()
        bench.kill_at = kill_at
        if kill_at:
            with pytest.raises(_Killed):
                bench.enroll()
            bench.clock.advance(120)
            bench.ra = bench.process("second")
            assert RequestState.ABANDONED is bench.rows()[0].state
        else:
            bench.enroll()
        question = PollRequest(
            ENDPOINT, "t", bench.made[0].fingerprint, (), "rid", "192.0.2.1"
        )
        with pytest.raises(UnknownCertificate):
            result_of(bench.ra.poll(question))


class OneAfterTheOtherTests:
    """I-15: one at a time in a transaction."""

    def test_in_flight(self) -> None:
        """The second waits, and is told to come back."""
        bench = _Bench()
        bench.signer.paused = True
        first, second = bench.begin(), bench.begin()
        bench.clock.pump([1] * 12)
        (pending,) = second
        assert isinstance(pending, Pending)
        assert pending.in_flight
        bench.signer.release()
        (issued,) = first
        assert isinstance(issued, Issued)
        assert {} == bench.revoked()

    def test_waits_for_the_first(self) -> None:
        """The second gets its own once the first is done, and revokes it."""
        bench = _Bench()
        bench.signer.paused = True
        first, second = bench.begin(), bench.begin()
        bench.signer.paused = False
        bench.signer.release()
        bench.clock.pump([0.25] * 4)
        assert {first[0].serial: "superseded"} == bench.revoked()
        assert isinstance(second[0], Issued)

    def test_of_another(self) -> None:
        """Another principal's is none of its business."""
        bench = _Bench()
        bench.signer.paused = True
        bench.begin(credentials=OTHER)
        second = bench.begin()
        bench.signer.release()
        assert isinstance(second[0], Issued)

    def test_opened_meanwhile(self) -> None:
        """The store decides the race: the loser looks again."""
        bench = _Bench()
        opening, refused = bench.store.open_intent, []

        def conflicting(*args: Any) -> Any:
            if not refused:
                refused.append(args)
                return fail(Conflict())
            return opening(*args)

        bench.store.open_intent = conflicting
        assert isinstance(bench.enroll(), Issued)
        assert refused

    def test_conflict_of_others(self) -> None:
        """I-5: where no key is made, a conflict stays one."""
        bench = _Bench()
        bench.store.open_intent = lambda *_: fail(Conflict())
        with pytest.raises(Conflict):
            bench.enroll(anew=False, generate=None, wanted=CSR)


class RefusedBeforeTests:
    """No key is made for whoever does not get a certificate."""

    @pytest.mark.parametrize(
        ("other", "error"),
        [
            ({"credentials": ()}, NotAuthenticated),
            ({"credentials": (Password("device", "no"),)}, NotAuthenticated),
            ({"idempotency_key": "k"}, Malformed),
            ({"transaction": ""}, Internal),
            (
                {
                    "wanted": evolve(
                        CSR, public_key=PublicKey(b"", "dsa", 0, "")
                    )
                },
                PolicyViolation,
            ),
            (
                {
                    "wanted": evolve(
                        CSR, public_key=PublicKey(b"", "rsa", 1024, "")
                    )
                },
                PolicyViolation,
            ),
            (
                {"endpoint": evolve(ENDPOINT, tenant_id=OTHER_TENANT)},
                NotAuthenticated,
            ),
        ],
    )
    def test_refused(self, other: dict[str, Any], error: Any) -> None:
        """I-9: who asks and what he asks for comes first."""
        bench = _Bench()
        with pytest.raises(error):
            bench.enroll(**other)
        assert [] == bench.made
        assert [] == bench.certificates()

    def test_idempotency_key(self) -> None:
        """No stored certificate without its key; and the text says why."""
        bench = _Bench()
        bench.enroll(
            anew=False, generate=None, wanted=CSR, idempotency_key="k"
        )
        with pytest.raises(Malformed, match="idempotency key"):
            bench.enroll(idempotency_key="k")

    def test_no_key(self) -> None:
        """Nothing is certified without a key."""

        async def generate() -> Any:
            return evolve(CSR, public_key=bench.wish, proof=GENERATED)

        bench = _Bench()
        with pytest.raises(Internal):
            bench.enroll(generate=generate)
        assert [] == bench.rows()

    def test_key_that_the_profile_does_not_allow(self) -> None:
        """The profile judges the key that was made, too."""

        async def generate() -> Any:
            key = make_key("ed448", 0).public_key
            return evolve(CSR, public_key=key, proof=GENERATED)

        bench = _Bench(device=evolve(DEVICE, key_types=("p-256",)))
        with pytest.raises(PolicyViolation) as caught:
            bench.enroll(generate=generate)
        assert "key-type" == caught.value.rule

    def test_proof_that_nobody_accepts(self) -> None:
        """A protocol must have said that it makes the key."""
        bench = _Bench()
        key = make_key("p-256", 0).public_key
        proof = evolve(GENERATED, accepted=False)
        with pytest.raises(ProofOfPossessionFailed):
            bench.enroll(
                generate=None,
                wanted=evolve(CSR, public_key=key, proof=proof),
            )

    def test_failing_to_make_it(self) -> None:
        """What goes wrong then is told, and nothing was promised."""

        async def generate() -> Any:
            raise Unavailable("too many keys are being made")

        bench = _Bench()
        with pytest.raises(Unavailable):
            bench.enroll(generate=generate)
        assert [] == bench.rows()

    def test_refused_while_it_is_made(self) -> None:
        """A refusal by who makes it is audited as any."""

        async def generate() -> Any:
            raise UnsupportedAlgorithm("no such recipient")

        bench = _Bench()
        with pytest.raises(UnsupportedAlgorithm):
            bench.enroll(generate=generate)
        assert "request.refused" in bench.events()


class SecretTests:
    """I-10: a single-use secret buys one certificate, and one key."""

    def token(self, bench: _Bench, **other: Any) -> Any:
        """Return a credential that is good once."""
        text = add_one_time_token(bench.store, "tok")
        for place, secret in bench.store.tables.secrets.items():
            bench.store.tables.secrets[place] = evolve(secret, **other)
        return (OneTimeToken(text),)

    def test_used_up(self) -> None:
        """I-15: it is used up by the first, before another key is made."""
        bench = _Bench()
        own = self.token(bench)
        first = bench.enroll(credentials=own)
        with pytest.raises(ChallengeRejected):
            bench.enroll(credentials=own)
        assert 1 == len(bench.made)
        assert [first.serial] == [one.serial for one in bench.certificates()]
        assert {} == bench.revoked()

    def test_several_uses(self) -> None:
        """I-15: one that is good for several pays for a repetition."""
        bench = _Bench()
        own = self.token(bench, uses=2)
        first, _ = bench.enroll(credentials=own), bench.enroll(credentials=own)
        assert {first.serial: "superseded"} == bench.revoked()
        with pytest.raises(ChallengeRejected):
            bench.enroll(credentials=own)


class KeptAnswerTests:
    """I-16: a key for a protocol that keeps its answers."""

    def test_somebody_must_make_the_key(self) -> None:
        """A request without a key, and nobody to make it, is a fault."""
        bench = _Bench()
        with pytest.raises(Internal):
            bench.enroll(anew=False, generate=None)
        assert not bench.certificates()
