# SPDX-License-Identifier: MIT
"""
Transactions, polls and gates: invariants I-11 and I-12, and what of the
others they touch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AttributeOID, NameOID
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from zope.interface import implementer
from zope.interface.verify import verifyObject

from trstctl.asked import gates_of
from trstctl.errors import (
    ChallengeRejected,
    Conflict,
    NotAuthenticated,
    NotAuthorized,
    PolicyViolation,
    RequestError,
    Stale,
    Throttled,
    Unavailable,
    UnknownCertificate,
)
from trstctl.interfaces import IChallengeGate
from trstctl.model import (
    BearerToken,
    CertificateQuery,
    CertificateStatus,
    Challenge,
    ClientCertificate,
    Endpoint,
    EnrollmentRequest,
    Issued,
    Operation,
    Password,
    Pending,
    PollRequest,
    Principal,
    RequestState,
)
from trstctl.pkix.csr import read_csr
from trstctl.policy.profile import builtin_profiles
from trstctl.renewals import WITHDRAWN
from trstctl.testing import (
    TENANT,
    FakeSigner,
    MemoryStore,
    WallClock,
    add_challenge,
    add_password,
    add_token,
    make_authority,
    make_ra,
    make_request,
    result_of,
)

ENDPOINT = Endpoint("scep", "", TENANT, "device", "issuing")
APPROVAL = evolve(builtin_profiles()["device"], approval="always")


@implementer(IChallengeGate)
class _Gate:
    """
    A gate that lets everybody in, as one device, and notes what it hears.

    :ivar errors: what to fail with, by step; a Deferred: what to wait for.
    """

    renewals = False

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.errors: dict[str, Any] = {}

    def _hear(self, step: str, what: Any, answer: Any = None) -> Deferred[Any]:
        """Note a step; fail, or wait, if the test wants it."""
        self.heard.append((step, what))
        error = self.errors.get(step)
        if isinstance(error, Deferred):
            return error
        return succeed(answer) if error is None else fail(error)

    def admit(
        self, request: Any, challenge: str, now: Any
    ) -> Deferred[Principal]:
        """Let everybody in."""
        return self._hear(
            "admit", challenge, Principal("mdm", "phone-1", TENANT)
        )

    def issued(
        self, request: Any, principal: Any, outcome: Any
    ) -> Deferred[None]:
        """Hear of a certificate."""
        return self._hear("issued", (principal.id, outcome.serial))

    def refused(self, request: Any, error: Any) -> Deferred[None]:
        """Hear of a refusal."""
        return self._hear("refused", type(error))

    @property
    def steps(self) -> list[str]:
        """What was heard, without what it was of."""
        return [step for step, _ in self.heard]


class _Killed(BaseException):
    """The process ends here: nothing that comes after it runs."""


class _Bench:
    """A registration authority behind a gate."""

    def __init__(self, *, held: bool = False) -> None:
        self.clock = Clock()
        self.now = WallClock(self.clock)
        self.stored = MemoryStore()
        self.store: Any = self.stored
        self.signer = FakeSigner()
        self.authority: Any = make_authority(signer=self.signer)
        self.gate = _Gate()
        self.kill_at = ""
        self.profiles: dict[str, Any] = {"device": APPROVAL} if held else {}
        self.ra = self.process("first")
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.wanted = make_request(key=self.key)

    def reached(self, point: str) -> None:
        """End the process at a failure point."""
        if point == self.kill_at:
            raise _Killed

    def process(self, owner: str) -> Any:
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

    def request(self, **other: Any) -> EnrollmentRequest:
        """Return a request in the transaction ``t``."""
        facts: dict[str, Any] = {
            "endpoint": ENDPOINT,
            "operation": Operation.ENROLL,
            "wanted": self.wanted,
            "credentials": (Challenge("secret", self.gate),),
            "request_id": "rid",
            "peer": "192.0.2.1",
            "transaction": "t",
            **other,
        }
        return EnrollmentRequest(**facts)

    def enroll(self, **other: Any) -> Any:
        """Enroll."""
        return result_of(self.ra.enroll(self.request(**other)))

    def renewal(self, issued: Issued, **other: Any) -> dict[str, Any]:
        """Return what makes a request the renewal of a certificate."""
        return {
            "operation": Operation.RENEW,
            "credentials": (ClientCertificate(issued.certificate),),
            **other,
        }

    def question(self, **other: Any) -> PollRequest:
        """Return the question for what became of the request."""
        facts: dict[str, Any] = {
            "endpoint": ENDPOINT,
            "transaction": "t",
            "public_key_fingerprint": self.wanted.public_key.fingerprint,
            "credentials": (),
            "request_id": "poll",
            "peer": "192.0.2.1",
            **other,
        }
        return PollRequest(**facts)

    def poll(self, **other: Any) -> Any:
        """Ask."""
        return result_of(self.ra.poll(self.question(**other)))

    def decide(self, reference: str, approve: bool = True) -> None:
        """Let a person decide."""
        end = self.now() + timedelta(days=7)
        result_of(
            self.store.decide_request(
                *(TENANT, reference, approve, "ann", "no", self.now(), end)
            )
        )

    def certificates(self) -> list[Any]:
        """Return the inventory."""
        query = CertificateQuery(TENANT)
        return list(result_of(self.store.list_certificates(query)))

    def records(self) -> list[Any]:
        """Return what was audited."""
        records = result_of(self.store.audit_records(TENANT, 0, 1000))
        return [json.loads(one.body) for one in records]

    def events(self) -> list[str]:
        """Return the names of what was audited."""
        return [one["event"] for one in self.records()]


def with_password(key: Any, password: str) -> Any:
    """Return a request of the usual device that has a challenge in it."""
    name = x509.NameAttribute(NameOID.COMMON_NAME, "device.example")
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([name]))
        .add_attribute(
            AttributeOID.CHALLENGE_PASSWORD, password.encode("ascii")
        )
        .sign(key, hashes.SHA256())
    )
    return read_csr(csr.public_bytes(serialization.Encoding.DER))


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """Return what is logged."""
    seen: list[Any] = []
    globalLogPublisher.addObserver(seen.append)
    yield seen
    globalLogPublisher.removeObserver(seen.append)


class TransactionTests:
    """I-11: a transactionID has one request at a time."""

    def test_same_again(self) -> None:
        """The same request gets the same certificate, while it is new."""
        bench = _Bench()
        first, again = bench.enroll(), bench.enroll()
        assert (first.certificate, True) == (again.certificate, again.replayed)

    def test_same_again_much_later(self) -> None:
        """A device that never changes its transactionID renews."""
        bench = _Bench()
        first = bench.enroll()
        bench.clock.advance(bench.ra.windows.retry.total_seconds())
        second = bench.enroll()
        assert first.serial != second.serial

    def test_other_transactions(self) -> None:
        """The same request under another one is another request."""
        bench = _Bench()
        one, two = bench.enroll(), bench.enroll(transaction="u")
        assert one.serial != two.serial

    def test_own_key_counts_more(self) -> None:
        """A client's own idempotency key is its own."""
        bench = _Bench()
        one = bench.enroll(idempotency_key="k")
        two = bench.enroll(idempotency_key="k", transaction="u")
        assert one.serial == two.serial

    def test_another_request_after_the_first(self) -> None:
        """A reused transactionID with another key, once it is finished."""
        bench = _Bench()
        one = bench.enroll()
        two = bench.enroll(wanted=make_request())
        assert one.serial != two.serial

    def test_another_request_while_it_is_signed(self) -> None:
        """Refused; the first one gets its certificate."""
        bench = _Bench()
        bench.signer.paused = True
        outcomes: list[Any] = []
        bench.ra.enroll(bench.request()).addBoth(outcomes.append)
        with pytest.raises(Conflict):
            bench.enroll(wanted=make_request())
        bench.signer.release()
        assert [Issued] == [type(one) for one in outcomes]
        assert 1 == len(bench.certificates())

    def test_another_request_while_it_is_held(self) -> None:
        """Refused until a person has decided, and collected it was."""
        bench = _Bench(held=True)
        held = bench.enroll()
        other = make_request()
        with pytest.raises(Conflict):
            bench.enroll(wanted=other)
        bench.decide(held.reference)
        with pytest.raises(Conflict):
            bench.enroll(wanted=other)
        assert isinstance(bench.enroll(), Issued)
        assert isinstance(bench.enroll(wanted=other), Pending)

    def test_secret_is_the_key(self) -> None:
        """I-10: with a secret, the transactionID is recorded only."""
        bench = _Bench()
        text = add_challenge(bench.store, device="device.example").secret
        own = (Challenge(text, bench.ra.challenges),)
        one = bench.enroll(credentials=own)
        two = bench.enroll(credentials=own, transaction="u")
        assert one.serial == two.serial
        (row,) = result_of(bench.store.list_requests(TENANT, None, 10))
        assert "t" == row.transaction
        assert row.key.key.startswith("csr:")


class PollTests:
    """What became of a request."""

    def test_nothing(self) -> None:
        """No such transaction, or of another key, place or name."""
        bench = _Bench(held=True)
        bench.enroll()
        for change in (
            {"transaction": "u"},
            {"transaction": ""},
            {"public_key_fingerprint": "ab" * 32},
            {"endpoint": evolve(ENDPOINT, name="other")},
            {"endpoint": evolve(ENDPOINT, protocol="cmp")},
        ):
            with pytest.raises(UnknownCertificate, match="no such request"):
                bench.poll(**change)
        refused = bench.records()[-1]
        assert "request.refused" == refused["event"]
        assert "poll" == refused["fields"]["operation"]

    def test_held_approved_issued(self) -> None:
        """As if the request came again, whatever process is asked."""
        bench = _Bench(held=True)
        held = bench.enroll()
        assert held == bench.poll()
        bench.decide(held.reference)
        bench.ra = bench.process("second")
        issued = bench.poll()
        assert isinstance(issued, Issued)
        assert not issued.replayed
        again = bench.poll()
        assert (issued.certificate, True) == (
            again.certificate,
            again.replayed,
        )
        assert issued.certificate == bench.enroll().certificate
        assert 1 == len(bench.certificates())

    def test_denied(self) -> None:
        """With the reason."""
        bench = _Bench(held=True)
        bench.decide(bench.enroll().reference, approve=False)
        with pytest.raises(NotAuthorized, match="was denied: no") as caught:
            bench.poll()
        assert "mdm:phone-1" == caught.value.facts["principal"]

    def test_in_flight(self) -> None:
        """While it is signed elsewhere: a bounded wait, then pending."""
        bench = _Bench(held=True)
        bench.decide(bench.enroll().reference)
        bench.signer.paused = True
        outcomes: list[Any] = []
        for _ in range(2):
            bench.ra.poll(bench.question()).addBoth(outcomes.append)
        bench.clock.pump([0.25] * 42)
        (pending,) = outcomes
        assert pending.in_flight
        bench.signer.release()
        assert isinstance(outcomes[1], Issued)
        assert 1 == len(bench.signer.signed)

    def test_abandoned(self) -> None:
        """What came to nothing is tried again, without another approval."""
        bench = _Bench(held=True)
        bench.decide(bench.enroll().reference)
        bench.signer.error = Unavailable()
        with pytest.raises(Unavailable):
            bench.poll()
        bench.signer.error = None
        assert isinstance(bench.poll(), Issued)

    def test_abandoned_without_its_challenge(self) -> None:
        """
        What is kept has no challenge in it, from the first row on; the proof
        that is gone with it was verified before.
        """
        bench = _Bench(held=True)
        bench.wanted = with_password(bench.key, "SECRET-OF-DEVICE")
        held = bench.enroll()
        (row,) = result_of(bench.store.list_requests(TENANT, None, 10))
        assert b"SECRET" in bench.wanted.der
        assert b"SECRET" not in row.csr
        assert held == bench.enroll() == bench.poll()
        bench.decide(held.reference)
        bench.signer.error = Unavailable()
        with pytest.raises(Unavailable):
            bench.poll()
        bench.signer.error = None
        issued = bench.poll()
        assert issued.serial == bench.enroll().serial

    def test_where_nobody_waits(self) -> None:
        """Nobody was told to come back: there is nothing to ask for."""
        bench = _Bench()
        impatient = evolve(ENDPOINT, may_wait=False)
        bench.enroll(endpoint=impatient)
        with pytest.raises(UnknownCertificate, match="no such request"):
            bench.poll(endpoint=impatient)

    def test_many_at_once(self) -> None:
        """I-4: who asks in many ways at once gets one certificate."""
        bench = _Bench(held=True)
        bench.decide(bench.enroll().reference)
        outcomes: list[Any] = []
        other = bench.process("second")
        for number in range(20):
            ra = other if number % 2 else bench.ra
            ra.poll(bench.question()).addBoth(outcomes.append)
            ra.enroll(bench.request()).addBoth(outcomes.append)
        assert 40 == len(outcomes)
        assert 1 == len({one.certificate for one in outcomes})
        assert 1 == len(bench.certificates())

    def test_newest_counts(self) -> None:
        """Of several finished ones of a key, the last one."""
        bench = _Bench()
        bench.enroll()
        second = bench.enroll(
            wanted=make_request("other.example", key=bench.key)
        )
        assert second.certificate == bench.poll().certificate

    def test_challenge(self) -> None:
        """The secret is reserved, and found again by its id."""
        bench = _Bench(held=True)
        made = add_challenge(
            bench.store, device="device.example", life=timedelta(hours=1)
        )
        own = (Challenge(made.secret, bench.ra.challenges),)
        held = bench.enroll(credentials=own)
        with pytest.raises(ChallengeRejected):
            bench.enroll(credentials=own, wanted=make_request())
        bench.clock.advance(3 * 3600)
        assert held == bench.poll() == bench.enroll(credentials=own)
        bench.decide(held.reference)
        issued = bench.poll()
        assert isinstance(issued, Issued)
        assert f"token:{made.record.id}" == issued.principal
        assert issued.certificate == bench.enroll(credentials=own).certificate

    def test_challenge_that_was_revoked(self) -> None:
        """Meanwhile: nothing is issued for it any more."""
        bench = _Bench(held=True)
        made = add_challenge(bench.store, device="device.example")
        own = (Challenge(made.secret, bench.ra.challenges),)
        bench.decide(bench.enroll(credentials=own).reference)
        result_of(
            bench.store.revoke_secret(
                TENANT, made.record.id, "ann", bench.now()
            )
        )
        with pytest.raises(ChallengeRejected):
            bench.poll()
        bench.stored.tables.secrets.clear()
        with pytest.raises(ChallengeRejected):
            bench.poll()
        assert [] == bench.certificates()

    def test_what_its_name_was_bound_to(self) -> None:
        """What binds a challenge is judged again."""
        bench = _Bench(held=True)
        made = add_challenge(bench.store, device="device.example")
        own = (Challenge(made.secret, bench.ra.challenges),)
        bench.decide(bench.enroll(credentials=own).reference)
        place = (TENANT, made.record.id)
        bench.stored.tables.secrets[place] = evolve(
            bench.stored.tables.secrets[place], device="other"
        )
        with pytest.raises(PolicyViolation, match="principal-device"):
            bench.poll()

    @pytest.mark.parametrize("principal", ["basic:a", "idevid:ab"])
    def test_principal_that_cannot_be_known_again(
        self, principal: str
    ) -> None:
        """A password's request is collected with the password."""
        bench = _Bench(held=True)
        held = bench.enroll()
        row = bench.stored.tables.requests[held.reference]
        bench.stored.tables.requests[held.reference] = evolve(
            row, key=evolve(row.key, principal=principal)
        )
        with pytest.raises(UnknownCertificate):
            bench.poll()

    def test_password(self) -> None:
        """A password's request is collected with that password."""
        bench = _Bench(held=True)
        for name in ("a", "b"):
            add_password(bench.stored, name, "pw")
        own = (Password("a", "pw"),)
        bench.decide(bench.enroll(credentials=own).reference)
        with pytest.raises(UnknownCertificate):
            bench.poll()
        assert isinstance(bench.poll(credentials=own), Issued)

    @pytest.mark.parametrize("transaction", ["t", "none-such"])
    def test_another_password(self, transaction: str) -> None:
        """A wrong one is wrong, and another's has no such request, whether
        there is one or not."""
        bench = _Bench(held=True)
        for name in ("a", "b"):
            add_password(bench.stored, name, "pw")
        token = add_token(bench.stored, "a")
        bench.enroll(credentials=(Password("a", "pw"),))
        for wrong in (Password("a", "wrong"), Password("c", "pw")):
            with pytest.raises(NotAuthenticated):
                bench.poll(transaction=transaction, credentials=(wrong,))
        for others in (
            (Password("b", "pw"),),
            (BearerToken(token),),
            (Password("a", "pw"), BearerToken(token)),
            (),
        ):
            with pytest.raises(UnknownCertificate, match="no such request"):
                bench.poll(transaction=transaction, credentials=others)

    def test_guesses_are_throttled(self) -> None:
        """As an enrollment's, whether there is such a request or not."""
        bench = _Bench(held=True)
        for number in range(10):
            wrong = (Password("a", str(number)),)
            with pytest.raises(NotAuthenticated):
                bench.poll(transaction="none-such", credentials=wrong)
        with pytest.raises(Throttled):
            bench.poll(credentials=(Password("a", "again"),))

    def test_bearer_token(self) -> None:
        """So is a bearer token's."""
        bench = _Bench(held=True)
        own = (BearerToken(add_token(bench.stored, "t")),)
        bench.decide(bench.enroll(credentials=own).reference)
        assert isinstance(bench.poll(credentials=own), Issued)


class WaitingTests:
    """Requests that wait for a person."""

    def test_so_many_wait_for_one(self) -> None:
        """R-12: nobody fills the store with what nobody has decided; what
        waits goes on to be answered."""
        bench = _Bench(held=True)
        bench.ra.windows = evolve(bench.ra.windows, waiting=1)
        first = bench.enroll()
        assert isinstance(first, Pending)
        another = make_request(key=ec.generate_private_key(ec.SECP256R1()))
        with pytest.raises(Throttled):
            bench.enroll(wanted=another, transaction="u")
        assert first.reference == bench.enroll().reference
        bench.decide(first.reference)
        assert isinstance(bench.enroll(), Issued)
        assert isinstance(
            bench.enroll(wanted=another, transaction="u"), Pending
        )


class RenewalPollTests:
    """A held renewal is controlled by either key."""

    def held(self) -> tuple[_Bench, Issued, Pending]:
        """Return a renewal with a new key that waits for a person."""
        bench = _Bench()
        first = bench.enroll()
        bench.profiles["device"] = APPROVAL
        bench.ra = bench.process("second")
        bench.wanted = make_request()
        held = bench.enroll(**bench.renewal(first, transaction="r"))
        return bench, first, held

    def old(self, issued: Issued) -> dict[str, Any]:
        """Return what a poll has that the old certificate signs."""
        return {
            "transaction": "r",
            "public_key_fingerprint": "ab" * 32,
            "credentials": (ClientCertificate(issued.certificate),),
        }

    def test_by_the_old_key(self) -> None:
        """RFC 8894, section 3.3.3: by who has signed the request."""
        bench, first, held = self.held()
        assert held == bench.poll(**self.old(first))
        bench.decide(held.reference)
        assert isinstance(bench.poll(**self.old(first)), Issued)

    def test_by_the_new_key(self) -> None:
        """Or by the key that is to be certified."""
        bench, _, held = self.held()
        assert held == bench.poll(transaction="r")
        bench.decide(held.reference)
        assert isinstance(bench.poll(transaction="r"), Issued)

    def test_by_another_certificate(self) -> None:
        """Another device's is none of both; a stranger's is none at all."""
        bench, _, _ = self.held()
        bench.profiles.clear()
        bench.ra = bench.process("third")
        other = bench.enroll(wanted=make_request(), transaction="o")
        with pytest.raises(UnknownCertificate):
            bench.poll(**self.old(other))
        mixed = {
            **self.old(other),
            "public_key_fingerprint": bench.wanted.public_key.fingerprint,
        }
        with pytest.raises(UnknownCertificate, match="no such request"):
            bench.poll(**mixed)
        result_of(
            bench.ra.revoke(TENANT, other.serial, "keyCompromise", "ann")
        )
        with pytest.raises(UnknownCertificate, match="no such request"):
            bench.poll(**mixed)
        stranger = _Bench().enroll()
        mixed["credentials"] = (ClientCertificate(stranger.certificate),)
        with pytest.raises(UnknownCertificate, match="no such request"):
            bench.poll(**mixed)

    @pytest.mark.parametrize("transaction", ["r", "none-such"])
    def test_by_an_imitation(self, transaction: str) -> None:
        """A certificate of somebody's own making, with the serial number of
        the one that has signed, is told nothing."""
        bench, first, _ = self.held()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])
        key = ec.generate_private_key(ec.SECP256R1())
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(int(first.serial, 16))
            .not_valid_before(bench.now() - timedelta(days=1))
            .not_valid_after(bench.now() + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        der = made.public_bytes(serialization.Encoding.DER)
        with pytest.raises(UnknownCertificate, match="no such request"):
            bench.poll(
                transaction=transaction,
                public_key_fingerprint="ab" * 32,
                credentials=(ClientCertificate(der),),
            )

    def test_no_registration_authority_any_more(self) -> None:
        """Who was one asked for another; now it speaks for itself only."""
        bench, first, held = self.held()
        row = bench.stored.tables.requests[held.reference]
        name = f"ra:issuing:{first.serial}"
        bench.stored.tables.requests[held.reference] = evolve(
            row, key=evolve(row.key, principal=name)
        )
        with pytest.raises(UnknownCertificate, match="no such request"):
            bench.poll(**self.old(first))

    def test_revoked_meanwhile(self) -> None:
        """Whichever key asks."""
        bench, first, held = self.held()
        bench.decide(held.reference)
        result_of(
            bench.ra.revoke(TENANT, first.serial, "keyCompromise", "ann")
        )
        for change in (self.old(first), {"transaction": "r"}):
            with pytest.raises(NotAuthorized, match="revoked"):
                bench.poll(**change)

    def test_gone_from_the_inventory(self) -> None:
        """A restored backup does not know the certificate."""
        bench, first, _ = self.held()
        del bench.stored.tables.certificates[TENANT, first.serial]
        with pytest.raises(UnknownCertificate):
            bench.poll(transaction="r")


class GateTests:
    """I-12: who has let a request in hears what comes of it."""

    def test_fake_keeps_the_contract(self) -> None:
        """The gate of these tests is one."""
        assert verifyObject(IChallengeGate, _Gate())

    def test_issued(self) -> None:
        """Of each time that the certificate is handed out."""
        bench = _Bench()
        issued = bench.enroll()
        heard = ("issued", ("mdm:phone-1", issued.serial))
        assert [("admit", "secret"), heard] == bench.gate.heard
        bench.enroll()
        assert heard == bench.gate.heard[-1]
        assert 4 == len(bench.gate.heard)

    def test_not_before_the_commit(self) -> None:
        """I-3: the certificate is in the inventory then."""
        bench = _Bench()
        bench.gate.errors["issued"] = Deferred()
        outcomes: list[Any] = []
        bench.ra.enroll(bench.request()).addBoth(outcomes.append)
        assert ([], 1) == (outcomes, len(bench.certificates()))
        bench.gate.errors["issued"].callback(None)
        assert isinstance(outcomes[0], Issued)

    @pytest.mark.parametrize("error", [Unavailable(), OSError("away")])
    def test_certificate_that_it_cannot_hear_of(
        self, error: Exception, events: list[Any]
    ) -> None:
        """It is not handed out, and revoked."""
        bench = _Bench()
        bench.gate.errors["issued"] = error
        with pytest.raises(Unavailable):
            bench.enroll()
        (record,) = bench.certificates()
        assert CertificateStatus.REVOKED is record.status
        assert WITHDRAWN == record.revocation_reason
        assert ("certificate.revoked", "gateway") == (
            bench.records()[-1]["event"],
            bench.records()[-1]["actor"],
        )
        (event,) = events
        assert "issuance.withdrawn" == event["event"]
        assert (record.serial, "rid") == (event["serial"], event["request_id"])
        bench.gate.errors.clear()
        with pytest.raises(Stale):
            bench.enroll()

    def test_replay_that_it_cannot_hear_of(self, events: list[Any]) -> None:
        """Neither is one that was handed out before."""
        bench = _Bench()
        bench.enroll()
        bench.gate.errors["issued"] = Unavailable()
        with pytest.raises(Unavailable):
            bench.enroll()
        (record,) = bench.certificates()
        assert CertificateStatus.REVOKED is record.status

    def test_revocation_that_fails(self, events: list[Any]) -> None:
        """Nothing is handed out; the next try comes to the gate again."""
        bench = _Bench()
        bench.gate.errors["issued"] = OSError("away")
        revoke = bench.stored.revoke_certificate
        bench.store.revoke_certificate = lambda *_: fail(Unavailable())
        with pytest.raises(Unavailable):
            bench.enroll()
        with pytest.raises(Unavailable):
            bench.enroll()
        bench.store.revoke_certificate = revoke
        with pytest.raises(Unavailable):
            bench.enroll()
        (record,) = bench.certificates()
        assert CertificateStatus.REVOKED is record.status

    def test_killed_before_it_could_hear(self) -> None:
        """I-8: the retry tells it, whichever process it comes to."""
        bench = _Bench()
        bench.kill_at = "after-commit"
        with pytest.raises(_Killed):
            bench.enroll()
        assert ["admit"] == bench.gate.steps
        bench.kill_at = ""
        bench.ra = bench.process("second")
        assert bench.enroll().replayed
        assert ["admit", "admit", "issued"] == bench.gate.steps

    @pytest.mark.parametrize(
        "point",
        ["before-intent", "after-intent", "after-sign", "after-commit"],
    )
    @pytest.mark.parametrize("poll", [True, False])
    def test_killed_after_the_approval(self, point: str, poll: bool) -> None:
        """I-8: one certificate for a reserved secret, by poll or retry."""
        bench = _Bench(held=True)
        made = add_challenge(bench.store, device="device.example")
        own = (Challenge(made.secret, bench.ra.challenges),)
        bench.decide(bench.enroll(credentials=own).reference)
        bench.kill_at = point
        with pytest.raises(_Killed):
            bench.poll()
        bench.kill_at = ""
        bench.clock.advance(120)
        bench.ra = bench.process("second")
        again = bench.poll() if poll else bench.enroll(credentials=own)
        assert isinstance(again, Issued)
        assert [again.serial] == [one.serial for one in bench.certificates()]

    def test_client_that_leaves(self) -> None:
        """I-7: what the gate is to hear, it hears."""
        bench = _Bench()
        bench.signer.paused = True
        leaving = bench.ra.enroll(bench.request())
        leaving.addErrback(lambda _: None).cancel()
        bench.signer.release()
        assert ["admit", "issued"] == bench.gate.steps

    def test_client_that_leaves_while_it_is_told(
        self, events: list[Any], logged: Any
    ) -> None:
        """I-7: and if it cannot hear it, the certificate is revoked."""
        bench = _Bench()
        waiting = bench.gate.errors["issued"] = Deferred()
        leaving = bench.ra.enroll(bench.request())
        leaving.addErrback(lambda _: None).cancel()
        waiting.errback(OSError("away"))
        logged.flush(Unavailable)
        (record,) = bench.certificates()
        assert CertificateStatus.REVOKED is record.status
        names = [one.get("event") for one in events]
        assert ["issuance.withdrawn", "issuance.failed"] == names

    def test_refused_by_the_profile(self) -> None:
        """After it was let in."""
        bench = _Bench()
        with pytest.raises(PolicyViolation):
            bench.enroll(wanted=make_request("\x00"))
        assert ("refused", PolicyViolation) == bench.gate.heard[-1]

    def test_refused_by_itself(self) -> None:
        """What a gate has refused it knows."""
        bench = _Bench()
        bench.gate.errors["admit"] = ChallengeRejected()
        with pytest.raises(ChallengeRejected):
            bench.enroll()
        assert ["admit"] == bench.gate.steps
        assert "request.refused" == bench.events()[-1]

    def test_refusal_that_it_cannot_hear_of(
        self, events: list[Any], logged: Any
    ) -> None:
        """The refusal stays what it is; the log has the rest."""
        bench = _Bench()
        bench.gate.errors["refused"] = OSError("away")
        with pytest.raises(PolicyViolation):
            bench.enroll(wanted=make_request("\x00"))
        assert ["gate.failed"] == [one["event"] for one in events]
        assert "request.refused" == bench.events()[-1]
        logged.flush(OSError)

    def test_held_and_polled(self) -> None:
        """A gate that comes with the question hears of the certificate."""
        bench = _Bench(held=True)
        held = bench.enroll()
        assert ["admit"] == bench.gate.steps
        bench.decide(held.reference)
        bench.poll(credentials=(Challenge("", bench.gate),))
        assert ["admit", "issued"] == bench.gate.steps

    @pytest.mark.parametrize("renewals", [True, False])
    @pytest.mark.parametrize("by_old", [True, False])
    def test_held_renewal_and_polled(
        self, renewals: bool, by_old: bool
    ) -> None:
        """It is not asked once more, and hears of what it has judged."""
        bench = _Bench(held=True)
        held = bench.enroll()
        bench.decide(held.reference)
        renewal = bench.renewal(bench.poll(), transaction="u")
        own = renewal["credentials"]
        bench.gate.renewals = renewals
        gated = (Challenge("secret", bench.gate),)
        bench.gate.heard.clear()
        held = bench.enroll(**{**renewal, "credentials": own + gated})
        bench.decide(held.reference)
        asked = (*(own if by_old else ()), Challenge("", bench.gate))
        assert isinstance(
            bench.poll(transaction="u", credentials=asked), Issued
        )
        assert ["admit", "issued"] * renewals == bench.gate.steps

    def test_renewal(self) -> None:
        """The certificate speaks; the gate is not asked, and not told."""
        bench = _Bench()
        first = bench.enroll()
        bench.gate.heard.clear()
        renewal = bench.renewal(first)
        renewal["credentials"] += (Challenge("", bench.gate),)
        assert isinstance(bench.enroll(**renewal), Issued)
        assert [] == bench.gate.heard

    def test_renewal_without_a_certificate(self) -> None:
        """A challenge renews nothing."""
        bench = _Bench()
        with pytest.raises(NotAuthorized):
            bench.enroll(operation=Operation.RENEW)
        assert ["admit", "refused"] == bench.gate.steps

    def test_draining(self) -> None:
        """What could not be told any more is not begun."""
        bench = _Bench()
        bench.enroll()
        drained: list[Any] = []
        Deferred.fromCoroutine(bench.ra.drain()).addCallback(drained.append)
        assert [None] == drained
        with pytest.raises(Unavailable):
            bench.enroll()
        assert 1 == bench.gate.steps.count("issued")

    def test_gates_of(self) -> None:
        """None, one or several."""
        bench = _Bench()
        other = _Gate()
        both = (Challenge("", bench.gate), Challenge("", other))
        certificate = ClientCertificate(b"")
        for operation, credentials, gates in (
            (Operation.ENROLL, (), ()),
            (Operation.ENROLL, both, (bench.gate, other)),
            (Operation.ENROLL, (certificate, both[0]), (bench.gate,)),
            (Operation.RENEW, (certificate, both[0]), ()),
            (Operation.RENEW, both, (bench.gate, other)),
        ):
            request = bench.request(
                operation=operation, credentials=credentials
            )
            assert gates == gates_of(request)

    def test_requests_without_a_state(self) -> None:
        """Nothing is left open behind any of it."""
        bench = _Bench()
        bench.gate.errors["issued"] = RequestError()
        with pytest.raises(Unavailable):
            bench.enroll()
        rows = result_of(bench.store.list_requests(TENANT, None, 10))
        assert [RequestState.ISSUED] == [row.state for row in rows]
