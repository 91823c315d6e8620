# SPDX-License-Identifier: MIT
"""What every store must do about transactions and what secrets buy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from contracts.revocation_contract import RevocationContract
from contracts.store_samples import (
    DER,
    MINUTE,
    NOW,
    OTHER,
    TENANT,
    digest,
    new_intent,
    new_request,
    new_secret,
)
from twisted.python.failure import Failure

from trstctl.errors import ChallengeRejected, Conflict
from trstctl.model import NewRequest, Opened, RequestState, SecretState

HOUR = timedelta(hours=1)


class ChallengeContract(RevocationContract):
    """The tests."""

    # --- transactions -------------------------------------------------------

    def asked(self, csr: str = "one", **changes: Any) -> NewRequest:
        """A request in a transaction."""
        changes = {"transaction": "t", "key": f"tid:t:{csr}", **changes}
        return new_request(csr, **changes)

    def transaction(self, **changes: Any) -> list[str]:
        """The ids of the requests in a transaction."""
        arguments = {
            "tenant_id": TENANT,
            "protocol": "est",
            "endpoint": "",
            "transaction": "t",
            "now": NOW,
            "principals": ("basic:device",),
            **changes,
        }
        found = self.wait(self.store.find_transactions(**arguments))
        return [row.id for row in found]

    def finish(self, request: NewRequest, now: Any = NOW) -> None:
        """Issue its certificate."""
        intent = new_intent(request=request)
        assert isinstance(self.open(intent, now), Opened)
        self.wait(self.store.record_certificate(intent, DER, now))

    def test_transaction_is_kept(self) -> None:
        """The transactionID is the row's, from hold to certificate."""
        request = self.asked()
        held = self.hold(request)
        assert ("t", None) == (held.transaction, held.secret_id)
        assert "t" == self.facts()["transaction"]
        assert "secret" not in self.facts()
        self.decide(held.id)
        self.finish(request)
        found = self.find(request)
        assert ("t", RequestState.ISSUED) == (found.transaction, found.state)
        assert [held.id] == self.transaction()

    def test_transactions_by_place(self) -> None:
        """Of one tenant, protocol and endpoint; none for no transactionID."""
        request = self.asked()
        self.hold(request)
        self.hold(new_request("plain", key="plain"))
        assert [request.id] == self.transaction()
        for change in (
            {"tenant_id": OTHER},
            {"protocol": "scep"},
            {"endpoint": "printers"},
            {"transaction": "u"},
            {"transaction": ""},
        ):
            assert [] == self.transaction(**change)

    def test_transactions_newest_first(self) -> None:
        """At most 16, the newest first."""
        ids = []
        for number in range(18):
            request = self.asked(str(number))
            ids.append(request.id)
            self.finish(request)
        assert ids[:1:-1] == self.transaction()

    def test_transaction_of_others(self) -> None:
        """Whoever names the transactionID of another hides nothing: only
        what is of the principals, or for the key, is found."""
        request = self.asked()
        self.hold(request)
        for number in range(17):
            other = self.asked(f"other {number}")
            key = evolve(other.key, principal="basic:other")
            self.finish(evolve(other, key=key, public_key_fingerprint="other"))
        assert [request.id] == self.transaction()
        assert [request.id] == self.transaction(
            principals=(), fingerprint=request.public_key_fingerprint
        )
        assert 16 == len(self.transaction(fingerprint="other"))
        assert [] == self.transaction(principals=("basic:nobody",))
        assert [] == self.transaction(principals=())

    def test_transaction_that_expired(self) -> None:
        """What is over is not found; what is open or approved is."""
        late = NOW + 16 * MINUTE
        self.finish(self.asked("issued"))
        self.hold(self.asked("held", transaction="h"))
        self.open(new_intent(request=self.asked("open", transaction="o")))
        held = self.hold(self.asked("approved", transaction="a"))
        self.decide(held.id, key_expires=NOW + MINUTE)
        assert 1 == len(self.transaction())
        for transaction, count in (("t", 0), ("h", 0), ("o", 1), ("a", 1)):
            found = self.transaction(transaction=transaction, now=late)
            assert count == len(found)

    def test_transaction_of_a_retry(self) -> None:
        """A request that is taken up again is one request."""
        request = self.asked()
        first = new_intent(request=request)
        self.open(first)
        self.wait(self.store.abandon_intent(first, "why", NOW))
        again = new_intent(request=self.asked(transaction="u"))
        assert isinstance(self.open(again), Opened)
        assert [] == self.transaction()
        assert [request.id] == self.transaction(transaction="u")

    def test_transaction_of_an_adopted_request(self) -> None:
        """Who builds a request anew polls with the new transactionID."""
        held = self.hold(self.asked())
        anew = self.asked(transaction="u", key="tid:u:one", fingerprint="f")
        assert held.id == self.hold(anew).id
        assert [] == self.transaction()
        assert [held.id] == self.transaction(transaction="u")

    def test_transaction_held_again(self) -> None:
        """So does who repeats a request that came to nothing."""
        first = new_intent(request=self.asked())
        self.open(first)
        self.wait(self.store.abandon_intent(first, "why", NOW))
        held = self.hold(self.asked(transaction="u"))
        assert [held.id] == self.transaction(transaction="u")

    @pytest.mark.parametrize("state", ["open", "held", "approved"])
    def test_other_request_in_a_transaction(self, state: str) -> None:
        """Another request has to wait until the first is finished."""
        if state == "open":
            self.open(new_intent(request=self.asked()))
        else:
            held = self.hold(self.asked())
            if state == "approved":
                self.decide(held.id)
        before = self.events()
        for anew in (
            self.asked("two"),
            self.asked(key="tid:t:anew", fingerprint="anew"),
        ):
            with pytest.raises(Conflict, match="transaction"):
                self.open(new_intent(request=anew))
            with pytest.raises(Conflict, match="transaction"):
                self.hold(anew)
        assert before == self.events()

    def test_other_request_elsewhere(self) -> None:
        """Only of the same tenant, protocol, endpoint and principal."""
        self.open(new_intent(request=self.asked()))
        key = self.asked("two").key
        for change in (
            {"key": evolve(key, tenant_id=OTHER)},
            {"key": evolve(key, protocol="scep")},
            {"key": evolve(key, principal="basic:b")},
            {"endpoint": "printers", "key": evolve(key, key="k")},
            {"transaction": "u"},
        ):
            other = evolve(self.asked("two"), **change)
            assert isinstance(self.open(new_intent(request=other)), Opened)

    def test_finished_transaction_is_free(self) -> None:
        """Issued, denied, abandoned or out of time: another may begin."""
        self.finish(self.asked("issued"))
        self.decide(self.hold(self.asked("denied")).id, approve=False)
        intent = new_intent(request=self.asked("abandoned"))
        self.open(intent)
        self.wait(self.store.abandon_intent(intent, "why", NOW))
        self.hold(self.asked("forgotten"))
        late = NOW + 15 * MINUTE
        another = new_intent(request=self.asked("another"))
        assert isinstance(self.open(another, late), Opened)

    # --- secrets ------------------------------------------------------------

    def burn(self, csr: str, now: Any = NOW, **changes: Any) -> Any:
        """Open an intent that the secret pays for."""
        changes = {"key": f"csr:{csr}", **changes}
        intent = new_intent(csr, secret_id="token", **changes)
        self.open(intent, now)
        return intent

    def refused(self, csr: str, now: Any = NOW, **changes: Any) -> bool:
        """Open one in vain; return whether that is an alarm."""
        with pytest.raises(ChallengeRejected) as caught:
            self.burn(csr, now, **changes)
        return bool(caught.value.reused)

    def state(self, now: Any = NOW) -> SecretState:
        """The state of the secret; the listing says the same."""
        secret = self.secret()
        state: SecretState = secret.state(now)
        found = self.wait(self.store.list_secrets(TENANT, state, now, "", 100))
        assert secret in found
        return state

    def test_secret_is_kept(self) -> None:
        """What it is for is in its row, and in the audit log."""
        secret = new_secret(
            protocol="scep",
            uses=3,
            device="router-1",
            subject="CN=router-1",
            alternative_names=("dns:a.example.com", "ip:192.0.2.1"),
        )
        self.wait(self.store.add_secrets((secret,), "ann"))
        assert secret == self.secret()
        facts = self.facts()
        assert "scep 3 router-1 CN=router-1" == " ".join(
            facts[name] for name in ("protocol", "uses", "device", "subject")
        )
        told = "dns:a.example.com ip:192.0.2.1"
        assert told == facts["alternative_names"]

    def test_no_names_and_any_names(self) -> None:
        """A secret for no alternative name is not one for any."""
        self.add_secret(alternative_names=())
        assert () == self.secret().alternative_names
        assert "" == self.facts()["alternative_names"]
        self.add_secret(name="any")
        assert self.secret("any").alternative_names is None
        assert "any" == self.facts()["alternative_names"]

    def test_secret_by_id(self) -> None:
        """By its public id, in its tenant."""
        self.add_secret()

        def find(tenant_id: str, secret_id: str) -> Any:
            return self.wait(
                self.store.find_secret_by_id(tenant_id, secret_id)
            )

        assert new_secret() == find(TENANT, "token")
        assert find(OTHER, "token") is None
        assert find(TENANT, "other") is None

    @pytest.mark.parametrize("uses", [1, 3])
    def test_64_at_once(self, uses: int) -> None:
        """Exactly so many certificates, whoever asks at once."""
        self.add_secret(uses=uses)
        outcomes: list[Any] = []
        pending = [
            self.store.open_intent(
                new_intent(f"d{n}", key=f"csr:d{n}", secret_id="token"), NOW
            ).addBoth(outcomes.append)
            for n in range(64)
        ]
        for one in pending:
            self.wait(one)
        assert 64 == len(outcomes)
        opened = [one for one in outcomes if isinstance(one, Opened)]
        errors = [one.value for one in outcomes if isinstance(one, Failure)]
        assert uses == len(opened)
        assert {ChallengeRejected} == {type(error) for error in errors}
        assert all(error.reused for error in errors)
        assert uses == self.events().count("intent.opened")

    def test_several_uses(self) -> None:
        """Each for a key of its own; beyond them it is an alarm."""
        self.add_secret(uses=2)
        one = self.burn("one")
        assert SecretState.UNUSED is self.state()
        secret = self.secret()
        assert secret.burnt_at is None
        assert one.request.public_key_fingerprint == secret.burnt_for
        # The same key again buys nothing more, and is no alarm.
        assert not self.refused("one", key="other", fingerprint="other")
        assert not self.refused("one", key="other")
        later = NOW + MINUTE
        two = self.burn("two", later)
        secret = self.secret()
        assert SecretState.BURNT is self.state()
        assert later == secret.burnt_at
        assert (
            one.request.public_key_fingerprint,
            two.request.public_key_fingerprint,
        ) == secret.burnt_keys
        assert two.request.fingerprint == secret.burnt_request
        assert self.refused("three")

    def test_use_that_came_to_nothing(self) -> None:
        """It serves its own key and request again, and nobody else."""
        self.add_secret(uses=2)
        one, _ = self.burn("one"), self.burn("two")
        self.wait(self.store.abandon_intent(one, "why", NOW))
        assert self.refused("three")
        assert not self.refused("two", key="other")
        later = NOW + MINUTE
        self.burn("one", later)
        assert NOW == self.secret().burnt_at
        assert SecretState.BURNT is self.state(later)

    def test_several_uses_have_the_same_bounds(self) -> None:
        """Expired, revoked, for another key: as with one use."""
        self.add_secret(uses=2)
        self.burn("one")
        assert not self.refused("two", NOW + HOUR)
        self.add_secret(name="bound", uses=2, key_fingerprint="ab" * 32)
        self.wait(self.store.revoke_secret(TENANT, "token", "ann", NOW))
        assert not self.refused("two")
        with pytest.raises(ChallengeRejected):
            self.open(new_intent("two", key="k", secret_id="bound"))

    # --- reserved secrets ---------------------------------------------------

    def reserve(self, csr: str = "one", now: Any = NOW, **changes: Any) -> Any:
        """Hold a request that the secret pays for."""
        changes = {"key": f"csr:{csr}", "secret_id": "token", **changes}
        return self.hold(new_request(csr, **changes), now)

    def test_reserved(self) -> None:
        """A held request reserves its secret: for itself only."""
        self.add_secret()
        held = self.reserve()
        assert "token" == held.secret_id == self.facts()["secret"]
        assert "transaction" not in self.facts()
        secret = self.secret()
        assert NOW == secret.burnt_at
        assert digest("key of one") == secret.burnt_for
        assert held.fingerprint == secret.burnt_request
        assert held.key_expires == secret.reserved_until
        assert SecretState.BURNT is self.state()
        assert self.refused("two")
        with pytest.raises(ChallengeRejected) as caught:
            self.reserve("two")
        assert caught.value.reused
        assert ["secret.added", "request.held"] == self.events()

    def test_reserved_and_approved(self) -> None:
        """However long the decision takes, the secret serves it."""
        self.add_secret()
        end = NOW + 2 * HOUR
        held = self.reserve(key_expires=end)
        self.decide(held.id, now=NOW + HOUR, key_expires=end + HOUR)
        assert self.secret().reserved_until is None
        intent = self.burn("one", end)
        assert SecretState.BURNT is self.state(end)
        # What came to nothing is tried again, the secret's end or not.
        self.wait(self.store.abandon_intent(intent, "why", end))
        again = self.burn("one", end)
        self.wait(self.store.record_certificate(again, DER, end))
        late = end + 2 * HOUR
        assert not self.refused("one", late)
        assert self.refused("two", late)

    def test_reserved_and_denied(self) -> None:
        """What was denied gives its secret back."""
        self.add_secret()
        held = self.reserve()
        self.decide(held.id, approve=False)
        assert new_secret() == self.secret()
        assert SecretState.UNUSED is self.state()
        self.burn("two")

    def test_reserved_and_forgotten(self) -> None:
        """So does what nobody decides; then it is out of date, or not."""
        self.add_secret()
        held = self.reserve()
        end = held.key_expires
        assert SecretState.UNUSED is self.state(end)
        self.burn("two", end)
        assert end == self.secret().burnt_at
        assert SecretState.BURNT is self.state(end)
        # An approval that comes too late has nothing to pay with.
        self.decide(held.id, now=end, key_expires=end + HOUR)
        assert self.refused("one", end)

    def test_reserved_and_decided_late(self) -> None:
        """A late approval counts while nobody else has the secret."""
        self.add_secret()
        held = self.reserve()
        late = NOW + 2 * HOUR
        self.decide(held.id, now=late, key_expires=late + HOUR)
        assert SecretState.BURNT is self.state(late)
        self.burn("one", late)

    def test_forgotten_and_expired(self) -> None:
        """A reservation that ran out keeps no secret in date."""
        self.add_secret()
        self.reserve()
        assert not self.refused("one", NOW + HOUR)
        assert SecretState.EXPIRED is self.state(NOW + HOUR)

    def test_reserved_by_an_adopted_request(self) -> None:
        """Who builds a held request anew keeps what it has reserved."""
        self.add_secret()
        held = self.reserve()
        end = NOW + 2 * HOUR
        anew = {"key": "csr:anew", "fingerprint": "anew"}
        adopted = self.reserve(**anew, key_expires=end)
        assert held.id == adopted.id
        secret = self.secret()
        assert ("anew", end) == (secret.burnt_request, secret.reserved_until)
        self.decide(held.id, key_expires=end)
        self.reserve(key="csr:third", fingerprint="third")
        assert self.secret().reserved_until is None
        self.burn("one", end - MINUTE, key="csr:third", fingerprint="third")

    def test_reserved_by_what_was_abandoned(self) -> None:
        """A request that now needs a person keeps its secret."""
        self.add_secret()
        intent = self.burn("one")
        self.wait(self.store.abandon_intent(intent, "why", NOW))
        held = self.reserve()
        assert ("token", "held") == (held.secret_id, held.state.value)
        self.decide(held.id, key_expires=NOW + 3 * HOUR)
        self.burn("one", NOW + 2 * HOUR)

    @pytest.mark.parametrize("approve", [True, False])
    def test_several_uses_reserved(self, approve: bool) -> None:
        """A reservation is one use; given back, it is free again."""
        self.add_secret(uses=2)
        held = self.reserve()
        assert SecretState.UNUSED is self.state()
        self.burn("two")
        assert SecretState.BURNT is self.state()
        assert held.key_expires == self.secret().reserved_until
        assert self.refused("three")
        self.decide(held.id, approve=approve)
        if approve:
            assert self.refused("three")
            self.burn("one")
        else:
            self.burn("three")
        assert SecretState.BURNT is self.state()

    def test_hopeless_reservation(self) -> None:
        """Unknown, expired or revoked: nothing is held."""
        self.add_secret(revoked_at=NOW)
        for changes in ({}, {"secret_id": "absent"}, {"tenant_id": OTHER}):
            with pytest.raises(ChallengeRejected):
                self.reserve(**changes)
        assert ["secret.added"] == self.events()

    def test_secret_that_is_gone(self) -> None:
        """A request can be decided, whatever became of its secret."""
        self.add_secret()
        held = self.reserve()
        self.wait(self.store.revoke_secret(TENANT, "token", "ann", NOW))
        assert RequestState.APPROVED is self.decide(held.id).state
        assert not self.refused("one")
