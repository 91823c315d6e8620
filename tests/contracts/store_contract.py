# SPDX-License-Identifier: MIT
"""
What every store must do: the contract of :class:`IStore`, as tests.

A subclass makes the store and waits for its Deferreds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from contracts.store_samples import (
    DAY,
    DER,
    MINUTE,
    NOW,
    OTHER,
    TENANT,
    digest,
    new_credential,
    new_intent,
    new_request,
    new_secret,
)
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from trstctl.audit import ChainFault, ChainHead, verify_records
from trstctl.errors import (
    ChallengeRejected,
    Conflict,
    SerialTaken,
    Stale,
    Throttled,
    Unavailable,
    UnknownCertificate,
    UnsupportedAlgorithm,
)
from trstctl.interfaces import IStore
from trstctl.model import (
    AuditEvent,
    AuditRecord,
    CertificateQuery,
    CertificateRecord,
    CertificateStatus,
    Intent,
    NewRequest,
    Opened,
    RequestState,
    SecretState,
)


class StoreContract:
    """The tests.  After each, both tenants' audit chains must verify."""

    store: Any

    @pytest.fixture(autouse=True)
    def _store(self) -> Iterator[None]:
        self.store = self.make_store()
        yield
        try:
            for tenant_id in self.wait(self.store.audit_tenants()):
                records = self.audit(tenant_id)
                assert isinstance(
                    verify_records(tenant_id, records, ChainHead()), ChainHead
                )
        finally:
            self.wait(self.store.close())

    def make_store(self) -> Any:
        """Return an empty store."""
        raise NotImplementedError

    def wait(self, deferred: Deferred[Any]) -> Any:
        """Return the Deferred's result, or raise its error."""
        raise NotImplementedError

    # what the tests say in one line

    def audit(self, tenant_id: str = TENANT) -> list[AuditRecord]:
        return list(self.wait(self.store.audit_records(tenant_id, 0, 10_000)))

    def events(self, tenant_id: str = TENANT) -> list[str]:
        return [json.loads(r.body)["event"] for r in self.audit(tenant_id)]

    def facts(self, tenant_id: str = TENANT) -> dict[str, str]:
        """The fields of the last audit record."""
        fields: dict[str, str]
        fields = json.loads(self.audit(tenant_id)[-1].body)["fields"]
        return fields

    def open(self, intent: Intent, now: Any = NOW) -> Any:
        return self.wait(self.store.open_intent(intent, now))

    def issue(
        self, csr: str = "one", now: Any = NOW, **kwargs: Any
    ) -> CertificateRecord:
        intent = new_intent(csr, **{"key": f"key-{csr}", **kwargs})
        assert isinstance(self.open(intent, now), Opened)
        record: CertificateRecord = self.wait(
            self.store.record_certificate(intent, DER, now)
        )
        return record

    def find(self, request: Any, now: Any = NOW) -> Any:
        return self.wait(self.store.find_request(request.key, now))

    def decide(self, request_id: str, approve: bool = True, **kw: Any) -> Any:
        arguments = {
            "tenant_id": TENANT,
            "request_id": request_id,
            "approve": approve,
            "actor": "operator:ann",
            "reason": "as agreed",
            "now": NOW,
            "key_expires": NOW + 7 * DAY,
        }
        return self.wait(self.store.decide_request(**{**arguments, **kw}))

    def query(self, tenant_id: str = TENANT, **kwargs: Any) -> list[str]:
        """The serials that a listing returns."""
        query = CertificateQuery(tenant_id, **kwargs)
        found = self.wait(self.store.list_certificates(query))
        assert all(record.der == b"" for record in found)
        return [record.serial for record in found]

    # --- the interface ------------------------------------------------------

    def test_interface(self) -> None:
        """The store provides every method of the interface."""
        assert verifyObject(IStore, self.store)

    def test_check(self) -> None:
        """Checking writes and leaves nothing."""
        assert self.wait(self.store.check()) is None
        assert self.wait(self.store.audit_tenants()) == []

    # --- from a key to a certificate ----------------------------------------

    def test_free_key(self) -> None:
        """A key that nobody used belongs to no request."""
        assert self.find(new_request()) is None

    def test_open(self) -> None:
        """R-1: an intent is committed with its request and audit record."""
        intent = new_intent()
        assert self.open(intent) == Opened(intent.request.id)
        found = self.find(intent.request)
        request = intent.request
        assert found.state is RequestState.OPEN
        assert (found.id, found.key) == (request.id, request.key)
        assert found.fingerprint == request.fingerprint
        assert (found.names, found.subject) == (request.names, request.subject)
        assert found.public_key_fingerprint == request.public_key_fingerprint
        assert (found.csr, found.created_at) == (request.csr, NOW)
        assert found.key_expires == request.key_expires
        assert (found.certificate, found.serial) == (None, None)
        assert self.events() == ["intent.opened"]
        assert self.facts()["serial"] == intent.serial
        assert self.facts()["request"] == request.id

    def test_record(self) -> None:
        """R-1: the certificate, its request and its audit record agree."""
        intent = new_intent()
        self.open(intent)
        later = NOW + timedelta(seconds=1)
        record = self.wait(self.store.record_certificate(intent, DER, later))
        request = intent.request
        assert record == CertificateRecord(
            tenant_id=TENANT,
            authority="issuing",
            serial=intent.serial,
            subject=request.subject,
            names=request.names,
            profile="device",
            protocol="est",
            principal="basic:device",
            public_key_fingerprint=request.public_key_fingerprint,
            not_before=intent.not_before,
            not_after=intent.not_after,
            status=CertificateStatus.VALID,
            issued_at=later,
            der=DER,
        )
        kept = self.wait(self.store.find_certificate(TENANT, intent.serial))
        assert record == kept
        found = self.find(request)
        assert found.state is RequestState.ISSUED
        assert (found.certificate, found.serial) == (DER, intent.serial)
        assert (found.not_after, found.revoked) == (intent.not_after, False)
        assert self.events() == ["intent.opened", "certificate.issued"]
        assert self.facts()["serial"] == intent.serial

    def test_other_fingerprint(self) -> None:
        """R-2: the same key with another request is refused, unwritten."""
        self.open(new_intent("one"))
        with pytest.raises(Conflict):
            self.open(new_intent("two"))
        with pytest.raises(Conflict):
            self.wait(self.store.hold(new_request("two"), NOW))
        assert self.events() == ["intent.opened"]

    def test_retry_in_flight(self) -> None:
        """R-2: a retry of what is being signed gets the open row."""
        first = new_intent()
        self.open(first)
        answer = self.open(new_intent())
        assert answer.state is RequestState.OPEN
        assert answer.id == first.request.id
        assert self.events() == ["intent.opened"]

    def test_retry_issued(self) -> None:
        """R-2: a retry of what was issued gets the issued row."""
        record = self.issue(key="k")
        answer = self.open(new_intent())
        assert answer.state is RequestState.ISSUED
        assert (answer.certificate, answer.serial) == (DER, record.serial)

    def test_retry_abandoned(self) -> None:
        """A retry after an abandoned intent opens a fresh one, same row."""
        first, second = new_intent(), new_intent()
        self.open(first)
        self.wait(self.store.abandon_intent(first, "signer away", NOW))
        assert self.find(first.request).state is RequestState.ABANDONED
        assert self.open(second) == Opened(first.request.id)
        self.wait(self.store.record_certificate(second, DER, NOW))
        found = self.find(first.request)
        assert (found.id, found.serial) == (first.request.id, second.serial)
        assert self.events() == [
            "intent.opened",
            "intent.abandoned",
            "intent.opened",
            "certificate.issued",
        ]

    def test_retried_request_is_one_request(self) -> None:
        """A held request that is tried again keeps its id and decision."""
        held = self.wait(self.store.hold(new_request(), NOW))
        self.decide(held.id)
        first, second = new_intent(serial="ab"), new_intent()
        for intent in (first, second):
            assert self.open(intent) == Opened(held.id)
            self.wait(self.store.abandon_intent(intent, "why", NOW))
        listed = self.wait(self.store.list_requests(TENANT, None, 9))
        assert [row.id for row in listed] == [held.id]
        assert listed[0].state is RequestState.ABANDONED
        assert listed[0].decided_by == "operator:ann"
        with pytest.raises(Stale):
            self.decide(held.id)
        with pytest.raises(SerialTaken):
            self.open(new_intent(serial="ab"))
        with pytest.raises(Stale):
            self.wait(self.store.record_certificate(first, DER, NOW))
        again = self.wait(self.store.hold(new_request(), NOW))
        assert (again.id, again.state) == (held.id, RequestState.HELD)
        self.decide(held.id)
        last = new_intent()
        assert self.open(last) == Opened(held.id)
        self.wait(self.store.record_certificate(last, DER, NOW))
        assert self.query() == [last.serial]
        listed = self.wait(self.store.list_requests(TENANT, None, 9))
        assert [row.state for row in listed] == [RequestState.ISSUED]

    def test_key_expires(self) -> None:
        """After its life a key is free; a renewal is a new certificate."""
        record = self.issue(key="k")
        end = NOW + 15 * MINUTE
        request = new_request(key_expires=end + 15 * MINUTE)
        assert self.find(request, end - timedelta(microseconds=1)) is not None
        assert self.find(request, end) is None
        again = new_intent(request=request)
        assert self.open(again, end) == Opened(request.id)
        self.wait(self.store.record_certificate(again, DER, end))
        assert self.query() == [again.serial, record.serial]
        assert self.find(request, end).serial == again.serial

    def test_expired_key_serves_another_request(self) -> None:
        """An expired key no longer conflicts with another request."""
        self.issue(key="k")
        end = NOW + 15 * MINUTE
        other = new_intent("two", key_expires=end + MINUTE)
        assert isinstance(self.open(other, end), Opened)

    def test_whoever_had_a_key_last_is_found(self) -> None:
        """Until it is taken by another; with whatever became of it."""
        record = self.issue(key="k")
        request = new_request()
        late = NOW + 365 * DAY
        assert self.find(request, late) is None
        found = self.wait(self.store.find_request(request.key, late, True))
        assert (record.serial, RequestState.ISSUED) == (
            found.serial,
            found.state,
        )
        for other in (
            evolve(request.key, key="other"),
            evolve(request.key, tenant_id=OTHER),
            evolve(request.key, principal="other"),
            evolve(request.key, protocol="other"),
        ):
            assert (
                self.wait(self.store.find_request(other, late, True)) is None
            )
        again = new_intent(request=new_request(key_expires=late + MINUTE))
        self.open(again, late)
        found = self.wait(self.store.find_request(request.key, late, True))
        assert RequestState.OPEN is found.state

    def test_open_never_expires(self) -> None:
        """A key is not free while its request is being signed."""
        self.open(new_intent())
        late = NOW + 60 * MINUTE
        assert self.open(new_intent(), late).state is RequestState.OPEN
        assert self.find(new_request(), late).state is RequestState.OPEN
        with pytest.raises(Conflict):
            self.open(new_intent("two"), late)

    def test_serial_taken(self) -> None:
        """A serial is promised once in an authority, in all tenants."""
        self.open(new_intent(serial="ab"))
        clash = new_intent("two", serial="ab", tenant_id=OTHER)
        with pytest.raises(SerialTaken):
            self.open(clash)
        assert self.find(clash.request) is None
        assert self.events(OTHER) == []
        self.open(
            new_intent("two", serial="ab", tenant_id=OTHER, authority="b")
        )

    def test_serial_of_abandoned(self) -> None:
        """The serial of an abandoned intent is never promised again."""
        intent = new_intent(serial="ab")
        self.open(intent)
        self.wait(self.store.abandon_intent(intent, "why", NOW))
        with pytest.raises(SerialTaken):
            self.open(new_intent(serial="ab"))

    def test_record_after_abandon(self) -> None:
        """A retired intent gets no certificate, and nothing is written."""
        intent = new_intent()
        self.open(intent)
        self.wait(self.store.abandon_intent(intent, "too slow", NOW))
        before = self.audit()
        with pytest.raises(Stale):
            self.wait(self.store.record_certificate(intent, DER, NOW))
        assert self.query() == []
        assert self.find(intent.request).state is RequestState.ABANDONED
        assert before == self.audit()

    def test_record_twice(self) -> None:
        """An intent gets one certificate."""
        intent = new_intent()
        self.open(intent)
        self.wait(self.store.record_certificate(intent, DER, NOW))
        with pytest.raises(Stale):
            self.wait(self.store.record_certificate(intent, b"other", NOW))
        found = self.wait(self.store.find_certificate(TENANT, intent.serial))
        assert found.der == DER

    def test_record_foreign_intent(self) -> None:
        """An intent with the serial of another one is not open."""
        intent = new_intent()
        self.open(intent)
        with pytest.raises(Stale):
            self.wait(
                self.store.record_certificate(
                    evolve(intent, id="intent-x"), DER, NOW
                )
            )

    def test_abandon(self) -> None:
        """Abandoning is idempotent, audited once, with the serial."""
        intent = new_intent()
        self.open(intent)
        for _ in range(2):
            self.wait(self.store.abandon_intent(intent, "why", NOW))
        assert self.events() == ["intent.opened", "intent.abandoned"]
        assert self.facts()["serial"] == intent.serial
        assert self.facts()["reason"] == "why"

    def test_abandon_issued(self) -> None:
        """An issued intent stays issued; an unknown one is no error."""
        intent = new_intent()
        self.open(intent)
        self.wait(self.store.record_certificate(intent, DER, NOW))
        self.wait(self.store.abandon_intent(intent, "late", NOW))
        self.wait(self.store.abandon_intent(new_intent(), "unknown", NOW))
        assert self.find(intent.request).state is RequestState.ISSUED
        assert self.events() == ["intent.opened", "certificate.issued"]

    def test_clock_set_back(self) -> None:
        """R-13: more than 60 s before the last record, nothing is opened."""
        self.issue()
        with pytest.raises(Unavailable):
            self.open(new_intent("two", key="2"), NOW - timedelta(seconds=61))
        late = new_intent("two", key="2")
        assert self.open(late, NOW - MINUTE) == Opened(late.request.id)
        # It was the latest record that counts, not the last.
        with pytest.raises(Unavailable):
            self.open(new_intent("3", key="3"), NOW - timedelta(seconds=61))
        other = new_intent("two", tenant_id=OTHER)
        assert isinstance(self.open(other, NOW - DAY), Opened)

    # --- single-use secrets -------------------------------------------------

    def add_secret(self, **changes: Any) -> None:
        self.wait(
            self.store.add_secrets((new_secret(**changes),), "operator:ann")
        )

    def secret(self, name: str = "token") -> Any:
        return self.wait(self.store.find_secret(TENANT, digest(name)))

    def test_burn(self) -> None:
        """R-3: the secret burns with the intent, for its key and request."""
        self.add_secret()
        assert self.secret() == new_secret()
        intent = new_intent(secret_id="token")
        self.open(intent)
        burnt = self.secret()
        assert burnt.burnt_at == NOW
        assert burnt.burnt_for == intent.request.public_key_fingerprint
        assert burnt.burnt_request == intent.request.fingerprint
        assert self.facts()["secret"] == "token"

    def test_burn_race(self) -> None:
        """R-3: of two requests with one secret, one gets a certificate."""
        self.add_secret()
        self.open(new_intent("one", key="1", secret_id="token"))
        loser = new_intent("two", key="2", secret_id="token")
        with pytest.raises(ChallengeRejected) as refused:
            self.open(loser)
        assert refused.value.reused
        # refused means that nothing happened.
        assert self.find(loser.request) is None
        assert self.events() == ["secret.added", "intent.opened"]

    def test_burn_race_same_request(self) -> None:
        """One secret, one request, two keys at once: one certificate."""
        self.add_secret()
        self.open(new_intent(key="1", secret_id="token"))
        with pytest.raises(ChallengeRejected) as refused:
            self.open(new_intent(key="2", secret_id="token"))
        assert not refused.value.reused

    def test_secret_of_one_key(self) -> None:
        """A secret that is bound to a public key is for no other."""
        own = new_intent(secret_id="token")
        self.add_secret(key_fingerprint=own.request.public_key_fingerprint)
        with pytest.raises(ChallengeRejected) as refused:
            self.open(new_intent("two", key="2", secret_id="token"))
        assert not refused.value.reused
        assert self.secret().burnt_at is None
        assert isinstance(self.open(own), Opened)
        key = own.request.public_key_fingerprint
        assert self.secret().key_fingerprint == key

    def test_burnt_serves_retry_after_abandon(self) -> None:
        """A secret whose intent came to nothing serves the same request."""
        self.add_secret()
        first = new_intent(secret_id="token")
        self.open(first)
        self.wait(self.store.abandon_intent(first, "why", NOW))
        later = NOW + MINUTE
        with pytest.raises(ChallengeRejected):
            self.open(new_intent("two", key="2", secret_id="token"), later)
        retry = new_intent(secret_id="token")
        assert isinstance(self.open(retry, later), Opened)
        assert self.secret().burnt_at == NOW

    def test_burnt_and_issued(self) -> None:
        """A secret buys one certificate, even when its key has expired."""
        self.add_secret()
        self.issue(key="k", secret_id="token")
        late = NOW + 20 * MINUTE
        with pytest.raises(ChallengeRejected):
            self.open(new_intent(secret_id="token"), late)

    def test_burnt_and_revoked(self) -> None:
        """Revoking the certificate does not give the secret back."""
        self.add_secret()
        record = self.issue(key="k", secret_id="token")
        self.wait(
            self.store.revoke_certificate(
                TENANT, record.serial, "superseded", "ann", NOW
            )
        )
        with pytest.raises(ChallengeRejected):
            self.open(new_intent(key="2", secret_id="token"))

    def test_secret_refused(self) -> None:
        """Expired, revoked, unknown or another tenant's: all the same."""
        self.add_secret()
        self.add_secret(name="revoked", revoked_at=NOW)
        end = NOW + 60 * MINUTE
        for intent, now in (
            (new_intent(secret_id="token"), end),
            (new_intent(secret_id="absent"), NOW),
            (new_intent(secret_id="token", tenant_id=OTHER), NOW),
        ):
            with pytest.raises(ChallengeRejected):
                self.open(intent, now)
            assert self.find(intent.request, now) is None

    def test_compromised_key_is_never_certified_again(self) -> None:
        """R-7: once a key is compromised, no request with it is opened."""
        record = self.issue("stolen")
        key = record.public_key_fingerprint

        def again(**changes: Any) -> Any:
            request = evolve(
                new_request("again", **changes), public_key_fingerprint=key
            )
            return self.open(new_intent(request=request))

        def revoke(reason: str) -> None:
            self.wait(
                self.store.revoke_certificate(
                    TENANT, record.serial, reason, "ann", NOW
                )
            )

        revoke("keyCompromise")
        before = self.events()
        with pytest.raises(UnsupportedAlgorithm):
            again(key="another")
        assert before == self.events()
        assert isinstance(again(key="another", tenant_id=OTHER), Opened)

    def test_other_reasons_leave_the_key_alone(self) -> None:
        """A superseded certificate says nothing of its key."""
        record = self.issue("replaced")
        self.wait(
            self.store.revoke_certificate(
                TENANT, record.serial, "superseded", "ann", NOW
            )
        )
        request = evolve(
            new_request("again", key="another"),
            public_key_fingerprint=record.public_key_fingerprint,
        )
        assert isinstance(self.open(new_intent(request=request)), Opened)

    def test_revoked_secret(self) -> None:
        """A revoked secret buys nothing."""
        self.add_secret(revoked_at=NOW)
        with pytest.raises(ChallengeRejected):
            self.open(new_intent(secret_id="token"))

    def test_secret_expiry_ignores_clock_set_back(self) -> None:
        """R-13: an expired secret stays expired if the clock goes back."""
        self.add_secret()
        end = NOW + 60 * MINUTE
        event = AuditEvent(TENANT, end, "gateway.started", "system:test")
        self.wait(self.store.append_audit((event,)))
        with pytest.raises(ChallengeRejected):
            self.open(new_intent(secret_id="token"), end - MINUTE)

    def test_secrets_all_or_none(self) -> None:
        """One secret that exists keeps all others of the call out."""
        self.add_secret()
        for clash in (
            new_secret(),
            new_secret("other", digest=digest("token")),
        ):
            with pytest.raises(Conflict):
                self.wait(
                    self.store.add_secrets((new_secret("new"), clash), "ann")
                )
            assert self.secret("new") is None
        assert self.events() == ["secret.added"]
        self.wait(
            self.store.add_secrets((new_secret("a"), new_secret("b")), "ann")
        )
        assert self.events() == ["secret.added"] * 3
        assert digest("a") not in str(self.audit())

    def list_secrets(
        self, state: Any = None, after: str = "", limit: int = 100
    ) -> list[str]:
        found = self.wait(
            self.store.list_secrets(TENANT, state, NOW, after, limit)
        )
        return [secret.id for secret in found]

    def test_list_secrets(self) -> None:
        """By id, by state, by page, and of one tenant."""
        self.wait(
            self.store.add_secrets(
                (
                    new_secret("used"),
                    new_secret("ended", expires_at=NOW),
                    new_secret("fresh"),
                    new_secret("taken", revoked_at=NOW, expires_at=NOW),
                    new_secret("theirs", tenant_id=OTHER),
                ),
                "ann",
            )
        )
        self.open(new_intent(secret_id="used"))
        assert self.list_secrets() == ["ended", "fresh", "taken", "used"]
        assert self.list_secrets(after="ended", limit=2) == ["fresh", "taken"]
        for state, name in (
            (SecretState.UNUSED, "fresh"),
            (SecretState.EXPIRED, "ended"),
            (SecretState.REVOKED, "taken"),
            (SecretState.BURNT, "used"),
        ):
            assert self.list_secrets(state) == [name]
            assert self.secret(name).state(NOW) is state

    def test_revoke_secret(self) -> None:
        """It buys nothing any more; again, and nothing changes."""
        self.add_secret()
        revoked = self.wait(
            self.store.revoke_secret(TENANT, "token", "ann", NOW)
        )
        assert revoked == self.secret()
        assert revoked.revoked_at == NOW
        again = self.wait(
            self.store.revoke_secret(TENANT, "token", "bob", NOW + MINUTE)
        )
        assert again == revoked
        assert self.events() == ["secret.added", "secret.revoked"]
        with pytest.raises(ChallengeRejected):
            self.open(new_intent(secret_id="token"))

    def test_revoke_unknown_secret(self) -> None:
        """Of another tenant is as unknown as none."""
        self.add_secret()
        for tenant_id, name in ((OTHER, "token"), (TENANT, "none")):
            with pytest.raises(UnknownCertificate):
                self.wait(
                    self.store.revoke_secret(tenant_id, name, "ann", NOW)
                )
        assert self.secret().revoked_at is None

    # --- held requests ------------------------------------------------------

    def hold(self, request: Any, now: Any = NOW) -> Any:
        return self.wait(self.store.hold(request, now))

    def test_so_many_of_one_principal_wait(self) -> None:
        """One more is refused, without a trace; repeating one that waits is
        not, nor is it once one is decided or has expired."""

        def ask(
            number: int,
            now: Any = NOW,
            tenant_id: str = TENANT,
            principal: str = "basic:device",
        ) -> Any:
            """Hold a request of its own."""
            one = asked_by(
                principal,
                f"one {number}",
                tenant_id,
                key=f"k{number}",
                key_expires=now + MINUTE,
            )
            return self.wait(self.store.hold(one, now, 2))

        first = ask(1)
        ask(2)
        with pytest.raises(Throttled):
            ask(3)
        assert first == ask(1)
        held = self.wait(
            self.store.list_requests(TENANT, RequestState.HELD, 9)
        )
        assert 2 == len(held)
        ask(4, principal="basic:another")
        ask(5, tenant_id=OTHER)
        self.decide(first.id, key_expires=NOW + MINUTE)
        ask(6)
        with pytest.raises(Throttled):
            ask(7)
        ask(8, NOW + MINUTE)

    def test_whoever_is_anonymous_is_one(self) -> None:
        """He is called by his key, and can make as many as he likes."""
        for number in range(3):
            one = asked_by(f"anonymous:{number}", f"one {number}")
            held = self.store.hold(one, NOW, 2)
            if number < 2:
                self.wait(held)
                continue
            with pytest.raises(Throttled):
                self.wait(held)
        other = asked_by("anonymou:0", "another")
        self.wait(self.store.hold(other, NOW, 2))

    def test_held_request(self) -> None:
        """A held request waits, under its key, audited once."""
        request = new_request()
        held = self.hold(request)
        assert held.state is RequestState.HELD
        assert held == self.find(request) == self.hold(new_request())
        assert self.open(new_intent()) == held
        assert self.events() == ["request.held"]

    def test_approve(self) -> None:
        """An approved request may be signed once; its key lives on."""
        held = self.hold(new_request())
        approved = self.decide(held.id)
        assert approved.state is RequestState.APPROVED
        assert approved.decided_by == "operator:ann"
        assert approved.decided_at == NOW
        assert approved.key_expires == NOW + 7 * DAY
        intent = new_intent()
        assert self.open(intent, NOW + DAY) == Opened(held.id)
        self.wait(self.store.record_certificate(intent, DER, NOW + DAY))
        issued = self.find(new_request(), NOW + 6 * DAY)
        assert issued.state is RequestState.ISSUED
        assert self.events() == [
            "request.held",
            "request.approved",
            "intent.opened",
            "certificate.issued",
        ]

    def test_the_key_is_made_once_it_is_approved(self) -> None:
        """RA I-16: the secret is burnt for the wish, the row has the key."""
        self.add_secret()
        wish: dict[str, Any] = {"secret_id": "token", "wish": "a" * 64}
        request = new_request(public_key_fingerprint="a" * 64, **wish)
        self.decide(self.hold(request).id)
        for made in ("b" * 64, "c" * 64):
            intent = new_intent(
                serial=made[:16], public_key_fingerprint=made, **wish
            )
            assert isinstance(self.open(intent), Opened)
            if made[0] == "b":
                self.wait(self.store.abandon_intent(intent, "lost", NOW))
        self.wait(self.store.record_certificate(intent, DER, NOW))
        assert "c" * 64 == self.find(request).public_key_fingerprint
        assert [intent.serial] == self.query(public_key_fingerprint="c" * 64)
        assert "a" * 64 == self.secret().burnt_for
        other = new_intent("two", key="2", secret_id="token")
        with pytest.raises(ChallengeRejected):
            self.open(other)

    def test_held_again_after_its_key_was_made(self) -> None:
        """The row has what is wished for again: that key is gone."""
        request = new_request(public_key_fingerprint="a" * 64)
        self.decide(self.hold(request).id)
        intent = new_intent(public_key_fingerprint="b" * 64)
        assert isinstance(self.open(intent), Opened)
        self.wait(self.store.abandon_intent(intent, "lost", NOW))
        assert "b" * 64 == self.find(request).public_key_fingerprint
        assert "a" * 64 == self.hold(request).public_key_fingerprint

    def test_deny(self) -> None:
        """A denied request answers its retries, with the reason."""
        held = self.hold(new_request())
        denied = self.decide(held.id, approve=False)
        assert denied.state is RequestState.DENIED
        assert denied.reason == "as agreed"
        assert denied == self.open(new_intent())
        assert self.events()[-1] == "request.denied"

    def test_decide_refused(self) -> None:
        """Only what is held, in this tenant, can be decided."""
        held = self.hold(new_request())
        with pytest.raises(UnknownCertificate):
            self.decide("absent")
        with pytest.raises(UnknownCertificate):
            self.decide(held.id, tenant_id=OTHER)
        self.decide(held.id)
        with pytest.raises(Stale):
            self.decide(held.id, approve=False)
        assert self.events() == ["request.held", "request.approved"]

    def test_decide_what_was_never_held(self) -> None:
        """A request that went straight through cannot be decided."""
        intent = new_intent()
        self.open(intent)
        with pytest.raises(UnknownCertificate):
            self.decide(intent.request.id)

    def test_adopt(self) -> None:
        """A client that builds its request anew finds its held row."""
        held = self.hold(new_request("one", key="1"))
        anew = new_request("one", key="2", fingerprint="f2", csr=b"anew")
        adopted = self.hold(anew)
        assert adopted.id == held.id
        assert adopted.key == anew.key
        assert (adopted.fingerprint, adopted.csr) == ("f2", b"anew")
        assert self.find(new_request("one", key="1")) is None
        assert self.find(anew) == adopted
        assert self.events() == ["request.held", "request.adopted"]

    def test_adopt_approved(self) -> None:
        """An approved row is found too, while its approval lives."""
        held = self.hold(new_request("one", key="1"))
        self.decide(held.id, key_expires=NOW + MINUTE)
        anew = new_request("one", key="2", fingerprint="f2")
        late = self.hold(
            new_request("one", key="3", fingerprint="f3"), NOW + MINUTE
        )
        assert (late.state, late.id != held.id) == (RequestState.HELD, True)
        adopted = self.hold(anew)
        assert adopted.id == held.id
        assert adopted.state is RequestState.APPROVED

    @pytest.mark.parametrize(
        "change",
        [
            {"tenant_id": OTHER},
            {"endpoint": "printers"},
            {"operation": "renew"},
            {"profile": "server"},
            {"subject": "CN=other"},
            {"names": ()},
            {"public_key_fingerprint": "other"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_adopt_only_the_same(self, change: dict[str, Any]) -> None:
        """A request that differs in anything is held on its own."""
        held = self.hold(new_request("one", key="1"))
        anew = new_request("one", **{"key": "2", **change})
        assert self.hold(anew).id == anew.id != held.id

    def test_adopt_only_of_the_same_principal(self) -> None:
        """Nobody adopts the request of another principal or protocol."""
        held = self.hold(new_request("one", key="1"))
        for change in ({"principal": "basic:b"}, {"protocol": "scep"}):
            anew = new_request("one", key="2")
            anew = evolve(anew, key=evolve(anew.key, **change))
            assert self.hold(anew).id == anew.id != held.id

    def test_adopted_key_that_was_replaced(self) -> None:
        """Adoption leaves a key alone that another request has taken."""
        held = self.hold(new_request("one", key="1"))
        late = NOW + 15 * MINUTE
        other = new_intent("two", key="1", key_expires=late + MINUTE)
        self.open(other, late)
        anew = new_request("one", key="2", key_expires=late + MINUTE)
        assert self.hold(anew, late).id == held.id
        assert self.find(other.request, late).id == other.request.id

    def test_hold_abandoned(self) -> None:
        """An abandoned request whose profile now wants approval is held."""
        held = self.hold(new_request())
        self.decide(held.id)
        intent = new_intent()
        self.open(intent)
        self.wait(self.store.abandon_intent(intent, "why", NOW))
        again = self.hold(new_request())
        assert (again.id, again.state) == (held.id, RequestState.HELD)
        assert (again.decided_by, again.decided_at) == ("", None)
        assert again == self.find(new_request())
        assert self.decide(held.id).state is RequestState.APPROVED

    def test_list_requests(self) -> None:
        """Requests are listed by state, oldest first, in their tenant."""
        ids: dict[RequestState, str] = {}
        for state in (RequestState.HELD, RequestState.DENIED):
            ids[state] = self.hold(
                new_request(state.value, key=state.value)
            ).id
        self.decide(ids[RequestState.DENIED], approve=False)
        for state in (
            RequestState.OPEN,
            RequestState.ISSUED,
            RequestState.ABANDONED,
        ):
            intent = new_intent(state.value, key=state.value)
            self.open(intent)
            ids[state] = intent.request.id
            if state is RequestState.ISSUED:
                self.wait(self.store.record_certificate(intent, DER, NOW))
            if state is RequestState.ABANDONED:
                self.wait(self.store.abandon_intent(intent, "", NOW))
        self.hold(new_request("other", OTHER))

        def listed(state: RequestState | None, limit: int = 10) -> list[str]:
            rows = self.wait(self.store.list_requests(TENANT, state, limit))
            return [row.id for row in rows]

        for state, request_id in ids.items():
            assert listed(state) == [request_id]
        assert listed(None) == list(ids.values())
        assert listed(None, 2) == list(ids.values())[:2]
        assert listed(RequestState.APPROVED) == []
        (issued,) = self.wait(
            self.store.list_requests(TENANT, RequestState.ISSUED, 10)
        )
        assert issued.certificate == DER

    # --- orphans ------------------------------------------------------------

    def retire(self, now: Any = NOW) -> int:
        count: int = self.wait(self.store.retire_orphans(now))
        return count

    def test_lease_keeps_intents(self) -> None:
        """R-1: while its lease runs, an owner's intents stay open."""
        self.wait(self.store.renew_lease("owner-1", NOW + MINUTE))
        intent = new_intent()
        self.open(intent)
        assert self.retire() == 0
        assert self.find(intent.request).state is RequestState.OPEN

    def test_lease_runs_out(self) -> None:
        """When the lease has run out, its owner's intents are retired."""
        self.wait(self.store.renew_lease("owner-1", NOW + MINUTE))
        self.wait(self.store.renew_lease("owner-2", NOW + 3 * MINUTE))
        first = new_intent("one", key="1")
        other = new_intent("two", tenant_id=OTHER)
        alive = new_intent("three", key="3", owner="owner-2")
        for intent in (first, other, alive):
            self.open(intent)
        assert self.retire(NOW + MINUTE) == 2
        assert self.retire(NOW + MINUTE) == 0
        assert self.find(first.request).state is RequestState.ABANDONED
        assert self.find(other.request).state is RequestState.ABANDONED
        assert self.find(alive.request).state is RequestState.OPEN
        assert self.events(OTHER) == ["intent.opened", "intent.abandoned"]
        assert self.facts(OTHER)["serial"] == other.serial
        with pytest.raises(Stale):
            self.wait(self.store.record_certificate(first, DER, NOW))

    def test_lease_released(self) -> None:
        """An owner that has ended leaves no intent open."""
        self.wait(self.store.renew_lease("owner-1", NOW + MINUTE))
        self.open(new_intent())
        self.wait(self.store.release_lease("owner-1"))
        self.wait(self.store.release_lease("owner-1"))
        assert self.retire() == 1

    # --- inventory ----------------------------------------------------------

    def test_no_certificate(self) -> None:
        """Unknown serials are none, not errors."""
        assert self.wait(self.store.find_certificate(TENANT, "ab")) is None

    def test_revoke(self) -> None:
        """Revoking keeps the first time and reason, and is audited once."""
        record = self.issue()
        first = self.wait(
            self.store.revoke_certificate(
                TENANT, record.serial, "keyCompromise", "operator:ann", NOW
            )
        )
        assert first == evolve(
            record,
            status=CertificateStatus.REVOKED,
            revoked_at=NOW,
            revocation_reason="keyCompromise",
        )
        again = self.wait(
            self.store.revoke_certificate(
                TENANT, record.serial, "superseded", "operator:bob", NOW + DAY
            )
        )
        assert first == again
        kept = self.wait(self.store.find_certificate(TENANT, record.serial))
        assert first == kept
        assert self.find(new_request(key="key-one")).revoked
        assert self.events()[2:] == ["certificate.revoked"]

    def test_revoke_unknown(self) -> None:
        """What does not exist in the tenant cannot be revoked."""
        record = self.issue()
        with pytest.raises(UnknownCertificate):
            self.wait(
                self.store.revoke_certificate(
                    OTHER, record.serial, "superseded", "ann", NOW
                )
            )
        assert self.events(OTHER) == []

    def inventory(self) -> dict[str, str]:
        """Issue four certificates, the third revoked; serials by name."""
        serials: dict[str, str] = {}
        for number, (csr, changes) in enumerate(
            {
                "a": {"profile": "server"},
                "b": {"key": "b2"},
                "c": {},
                "d": {"names": (), "subject": "O=X,CN=d.example.com+OU=y"},
            }.items()
        ):
            serials[csr] = self.issue(
                csr,
                NOW + number * MINUTE,
                not_after=NOW + (40 - 10 * number) * DAY,
                **changes,
            ).serial
        self.wait(
            self.store.revoke_certificate(
                TENANT, serials["c"], "superseded", "ann", NOW + 3 * MINUTE
            )
        )
        self.issue("a", tenant_id=OTHER, now=NOW + DAY)
        return serials

    def test_list(self) -> None:
        """Certificates are listed by issue time, newest first."""
        serials = self.inventory()
        assert self.query() == [serials[name] for name in "dcba"]
        assert len(self.query(OTHER)) == 1

    def test_filters(self) -> None:
        """Each condition of a query counts, and all of them together."""
        serials = self.inventory()
        a, b, c, d = (serials[name] for name in "abcd")
        status = CertificateStatus
        assert self.query(status=status.VALID) == [d, b, a]
        assert self.query(status=status.REVOKED) == [c]
        assert self.query(status=status.SUPERSEDED) == []
        assert self.query(profile="server") == [a]
        assert self.query(protocol="est") == [d, c, b, a]
        assert self.query(protocol="scep") == []
        assert self.query(principal="basic:device") == [d, c, b, a]
        assert self.query(principal="basic:other") == []
        key = digest("key of b")
        assert self.query(public_key_fingerprint=key) == [b]
        assert self.query(public_key_fingerprint=key, profile="server") == []
        assert self.query(name="a.example.com") == [a]
        assert self.query(name="192.0.2.1") == [c, b, a]
        assert self.query(name="192.0.2.1", status=status.REVOKED) == [c]
        assert self.query(name="d.example.com") == [d]
        assert self.query(name="example.com") == []
        assert self.query(name="192.0.2.1", profile="server") == [a]
        assert self.query(principal="basic:device", name="b.example.com") == [
            b
        ]

    def test_expiring(self) -> None:
        """Expiring certificates: the valid ones, soonest first."""
        serials = self.inventory()
        a, b, d = (serials[name] for name in "abd")
        assert self.query(expiring_before=NOW + 50 * DAY) == [d, b, a]
        assert self.query(expiring_before=NOW + 40 * DAY) == [d, b]
        found = self.query(expiring_before=NOW + 50 * DAY, profile="server")
        assert found == [a]
        revoked = CertificateStatus.REVOKED
        assert self.query(expiring_before=NOW + 50 * DAY, status=revoked) == []

    @pytest.mark.parametrize(
        ("conditions", "expected"),
        [
            ({}, "dba"),
            ({"expiring_after": NOW + 30 * DAY}, "ba"),
            ({"expiring_after": NOW + 31 * DAY}, "a"),
            ({"status": CertificateStatus.VALID}, "dba"),
            ({"protocol": "est"}, "dba"),
            ({"protocol": "scep"}, ""),
            ({"principal": "basic:device"}, "dba"),
            ({"principal": "basic:device", "profile": "server"}, "a"),
            ({"principal": "basic:device", "protocol": "scep"}, ""),
            ({"principal": "basic:other"}, ""),
            ({"public_key_fingerprint": digest("key of b")}, "b"),
            ({"public_key_fingerprint": digest("key of c")}, ""),
            ({"name": "192.0.2.1"}, "ba"),
            ({"name": "192.0.2.1", "profile": "server"}, "a"),
            ({"name": "192.0.2.1", "expiring_after": NOW + 31 * DAY}, "a"),
        ],
    )
    def test_expiring_and_more(
        self, conditions: dict[str, Any], expected: str
    ) -> None:
        """The other conditions count among the expiring, too."""
        serials = self.inventory()
        found = self.query(expiring_before=NOW + 50 * DAY, **conditions)
        assert [serials[name] for name in expected] == found

    def test_key_that_begins_alike(self) -> None:
        """A key is found by all of its fingerprint."""
        fingerprints = [f"{'0' * 62}{number:02x}" for number in range(3)]
        serials = [
            self.issue(fingerprint, public_key_fingerprint=fingerprint).serial
            for fingerprint in fingerprints
        ]
        for serial, fingerprint in zip(serials, fingerprints, strict=True):
            found = self.query(public_key_fingerprint=fingerprint)
            assert [serial] == found

    def test_principal_with_a_key_that_was_taken_over(self) -> None:
        """A certificate is its principal's also when its key is another's."""
        first = self.issue("one", key="k")
        late = NOW + 15 * MINUTE
        second = self.issue(
            "two", late, key="k", key_expires=late + 15 * MINUTE
        )
        found = self.query(principal="basic:device")
        assert [second.serial, first.serial] == found

    @pytest.mark.parametrize(
        "conditions",
        [
            {},
            {"expiring_before": NOW + 400 * DAY},
            {
                "expiring_before": NOW + 400 * DAY,
                "principal": "basic:device",
            },
            {"expiring_before": NOW + 400 * DAY, "name": "192.0.2.1"},
            {"protocol": "est"},
            {"name": "192.0.2.1"},
            {"principal": "basic:device"},
            {"profile": "device"},
        ],
        ids=lambda conditions: "-".join(conditions) or "all",
    )
    def test_pages(self, conditions: dict[str, Any]) -> None:
        """Pages follow one another without gap or overlap."""
        for number in range(7):
            # Two each share the times.
            now = NOW + number // 2 * MINUTE
            self.issue(f"p{number}", now, not_after=now + DAY)
        everything = self.query(**conditions)
        assert len(everything) == 7
        pages: list[str] = []
        while page := self.query(
            **conditions, after=pages[-1] if pages else None, limit=3
        ):
            assert len(page) <= 3
            pages += page
        assert everything == pages

    def test_page_after_unknown(self) -> None:
        """A page cannot begin behind a certificate that does not exist."""
        record = self.issue(tenant_id=OTHER)
        with pytest.raises(UnknownCertificate):
            self.query(after=record.serial)

    def test_counts(self) -> None:
        """The counts of the overview, at the edges of their windows."""
        for number, days in enumerate((0, 1, 7, 8, 30, 31)):
            self.issue(f"c{number}", not_after=NOW + days * DAY)
        revoked = self.issue("r")
        self.wait(
            self.store.revoke_certificate(
                TENANT, revoked.serial, "superseded", "ann", NOW
            )
        )
        self.hold(new_request("h"))
        self.issue("x", tenant_id=OTHER)
        assert self.wait(self.store.count_certificates(TENANT, NOW)) == {
            "valid": 5,
            "revoked": 1,
            "expired": 1,
            "expiring_7d": 2,
            "expiring_30d": 4,
            "held_requests": 1,
        }
        counts = self.wait(self.store.count_certificates(OTHER, NOW))
        assert (counts["valid"], counts["held_requests"]) == (1, 0)

    # --- credentials --------------------------------------------------------

    def test_credential(self) -> None:
        """A credential is found by kind and name."""
        record = new_credential(expires_at=NOW + DAY)
        self.wait(self.store.add_credential(record, "operator:ann"))
        find = self.store.find_credential
        assert record == self.wait(find(TENANT, "basic", "device"))
        assert self.wait(find(TENANT, "bearer", "device")) is None
        assert self.events() == ["credential.added"]
        assert "scrypt" not in str(self.audit())

    def test_credential_exists(self) -> None:
        """A live credential is not replaced; a revoked one is."""
        self.wait(self.store.add_credential(new_credential(), "ann"))
        with pytest.raises(Conflict):
            self.wait(self.store.add_credential(new_credential(), "ann"))
        revoke = self.store.revoke_credential
        for now in (NOW, NOW + DAY):
            self.wait(revoke(TENANT, "basic", "device", "ann", now))
        find = self.store.find_credential
        assert self.wait(find(TENANT, "basic", "device")).revoked_at == NOW
        fresh = new_credential(verifier="scrypt$new")
        self.wait(self.store.add_credential(fresh, "ann"))
        assert fresh == self.wait(find(TENANT, "basic", "device"))
        assert self.events() == [
            "credential.added",
            "credential.revoked",
            "credential.added",
        ]

    def test_credentials_listed(self) -> None:
        """Credentials are listed by kind and name."""
        records = [
            new_credential("a"),
            new_credential("b"),
            new_credential("a", kind="bearer"),
        ]
        for record in reversed(records):
            self.wait(self.store.add_credential(record, "ann"))
        assert records == list(self.wait(self.store.list_credentials(TENANT)))

    def test_credential_unknown(self) -> None:
        """What does not exist in the tenant cannot be revoked."""
        self.wait(self.store.add_credential(new_credential(), "ann"))
        with pytest.raises(UnknownCertificate):
            self.wait(
                self.store.revoke_credential(
                    OTHER, "basic", "device", "ann", NOW
                )
            )

    # --- tenants ------------------------------------------------------------

    def test_tenants_do_not_meet(self) -> None:
        """R-10: same keys, names and secrets in two tenants, nothing shared."""
        for tenant_id in (TENANT, OTHER):
            self.wait(
                self.store.add_credential(
                    new_credential(tenant_id=tenant_id), tenant_id
                )
            )
            self.wait(
                self.store.add_secrets(
                    (new_secret(tenant_id=tenant_id),), tenant_id
                )
            )
        mine = new_intent(secret_id="token")
        theirs = new_intent(secret_id="token", tenant_id=OTHER)
        assert isinstance(self.open(mine), Opened)
        assert self.find(theirs.request) is None
        assert isinstance(self.open(theirs), Opened)
        self.wait(self.store.record_certificate(mine, DER, NOW))
        self.wait(self.store.record_certificate(theirs, b"theirs", NOW))
        find = self.store.find_certificate
        assert self.wait(find(TENANT, theirs.serial)) is None
        assert self.wait(find(OTHER, mine.serial)) is None
        assert self.find(mine.request).certificate == DER
        assert self.find(theirs.request).certificate == b"theirs"
        self.wait(
            self.store.revoke_credential(OTHER, "basic", "device", "ann", NOW)
        )
        credential = self.wait(
            self.store.find_credential(TENANT, "basic", "device")
        )
        assert (credential.tenant_id, credential.revoked_at) == (TENANT, None)
        for tenant_id in (TENANT, OTHER):
            assert len(self.query(tenant_id, name="one.example.com")) == 1
            listed = self.wait(self.store.list_requests(tenant_id, None, 9))
            assert [row.key.tenant_id for row in listed] == [tenant_id]
            assert len(self.wait(self.store.list_credentials(tenant_id))) == 1
            assert all(r.tenant_id == tenant_id for r in self.audit(tenant_id))

    def test_foreign_intent(self) -> None:
        """R-10: an intent cannot be ended through another tenant."""
        intent = new_intent()
        self.open(intent)
        foreign = evolve(
            intent,
            id="intent-x",
            request=evolve(
                intent.request, key=evolve(intent.request.key, tenant_id=OTHER)
            ),
        )
        self.wait(self.store.abandon_intent(foreign, "why", NOW))
        with pytest.raises(Stale):
            self.wait(self.store.record_certificate(foreign, DER, NOW))
        assert self.find(intent.request).state is RequestState.OPEN
        assert self.events(OTHER) == []

    # --- audit --------------------------------------------------------------

    def test_append(self) -> None:
        """Events go to their tenants' chains, in order."""
        events = [
            AuditEvent(tenant, NOW, f"event.{n}", "ann", {"n": "\u00fc\n"})
            for n, tenant in enumerate((TENANT, OTHER, TENANT))
        ]
        self.wait(self.store.append_audit(events))
        assert self.events() == ["event.0", "event.2"]
        assert self.events(OTHER) == ["event.1"]
        assert self.wait(self.store.audit_tenants()) == [TENANT, OTHER]
        assert [r.sequence for r in self.audit()] == [1, 2]

    def test_audit_pages(self) -> None:
        """Records are read after a sequence, up to a limit."""
        event = AuditEvent(TENANT, NOW, "event", "ann")
        self.wait(self.store.append_audit([event] * 5))
        page = self.wait(self.store.audit_records(TENANT, 1, 2))
        assert [record.sequence for record in page] == [2, 3]
        assert self.wait(self.store.audit_records(TENANT, 5, 2)) == []

    def test_head_shows_truncation(self) -> None:
        """R-11: a tail that was cut shows against an exported head."""
        self.issue()
        records = self.audit()
        head = verify_records(TENANT, records, ChainHead())
        assert head == ChainHead(2, records[-1].hash)
        cut = verify_records(TENANT, records[:1], ChainHead())
        assert isinstance(cut, ChainHead)
        assert cut.sequence < head.sequence
        assert isinstance(
            verify_records(TENANT, records[1:], ChainHead()), ChainFault
        )


def asked_by(principal: str, *what: str, **how: Any) -> NewRequest:
    """Return a request of a principal."""
    request = new_request(*what, **how)
    return evolve(request, key=evolve(request.key, principal=principal))
