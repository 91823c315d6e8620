# SPDX-License-Identifier: MIT
"""The registration authority while an authority gets another key (I-16)."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from cmp_client import new_key
from cryptography import x509
from rollover_samples import Lineage, lineage

from trstctl.ca.pointers import key_identifier
from trstctl.errors import (
    NotAuthenticated,
    PolicyViolation,
    UnknownCertificate,
)
from trstctl.model import (
    ClientCertificate,
    Credential,
    Endpoint,
    EnrollmentRequest,
    Issued,
    Operation,
    Password,
    Phase,
    PollRequest,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.policy.profile import builtin_profiles
from trstctl.testing import (
    TENANT,
    MemoryStore,
    add_password,
    make_ra,
    make_request,
    result_of,
)

ENDPOINT = Endpoint("est", "", TENANT, "device", "issuing")
PASSWORD = Password("device", "a password")
ALL = [Phase.PREPARED, Phase.ACTIVE, Phase.FINISHED]


class Bench:
    """A registration authority over an authority with two keys."""

    def __init__(self, profiles: Any = None) -> None:
        self.lineage: Lineage = lineage()
        self.store: Any = MemoryStore()
        self.ra: Any = make_ra(
            self.store,
            authorities=self.lineage.authorities,
            profiles=profiles,
        )
        add_password(self.store, "device", "a password")

    def put(self, phase: Phase) -> None:
        """Go to a phase."""
        self.lineage.put(self.ra, phase)

    def ask(
        self,
        wanted: Any = None,
        credential: Credential = PASSWORD,
        operation: Operation = Operation.ENROLL,
        **more: Any,
    ) -> Issued:
        """Enroll."""
        outcome = result_of(
            self.ra.enroll(
                EnrollmentRequest(
                    endpoint=ENDPOINT,
                    operation=operation,
                    wanted=wanted or make_request("device"),
                    credentials=(credential,),
                    request_id="r",
                    peer="192.0.2.1",
                    **more,
                )
            )
        )
        assert isinstance(outcome, Issued)
        return outcome

    def renew(self, former: Issued, key: Any = None) -> Issued:
        """Renew."""
        return self.ask(
            make_request("device", key=key),
            ClientCertificate(former.certificate),
            Operation.RENEW,
        )

    def issuer(self, issued: Issued) -> str:
        """Return which key has signed, and see that the chain is its."""
        facts = read_certificate(issued.certificate)
        (name,) = [
            name
            for name, one in self.lineage.authorities.items()
            if one.issued(facts)
        ]
        assert self.lineage.authorities[name].chain == issued.chain
        chain = (issued.certificate, *issued.chain)
        read = [x509.load_der_x509_certificate(one) for one in chain]
        for below, above in itertools.pairwise(read):
            below.verify_directly_issued_by(above)
        return name


@pytest.fixture
def bench() -> Bench:
    """Return a bench."""
    return Bench()


class IssuingTests:
    """One generation issues."""

    def test_who_signs(self, bench: Bench) -> None:
        """The old key until the new one is active."""
        assert "issuing" == bench.issuer(bench.ask())
        for phase, name in zip(
            ALL, ("issuing", "issuing-2", "issuing-2"), strict=True
        ):
            bench.put(phase)
            assert name == bench.issuer(bench.ask(make_request(phase.value)))

    def test_inventory_knows_the_generation(self, bench: Bench) -> None:
        """Revocation is told by the key that has signed."""
        bench.put(Phase.ACTIVE)
        issued = bench.ask()
        record = result_of(bench.ra.find(TENANT, issued.serial))
        assert "issuing-2" == record.authority
        for name, known in (("issuing-2", True), ("issuing", False)):
            status = result_of(bench.store.find_status(name, issued.serial))
            assert known == (status is not None)

    @pytest.mark.parametrize("phase", [Phase.PREPARED, Phase.ACTIVE])
    def test_both_renew(self, bench: Bench, phase: Phase) -> None:
        """A certificate of either key brings one of the key that signs."""
        old = bench.ask()
        bench.put(Phase.ACTIVE)
        new = bench.ask(make_request("other"))
        bench.put(phase)
        signs = bench.lineage.succession(phase).authority
        assert signs == bench.issuer(bench.renew(old))
        renewed = bench.ask(
            make_request("other"),
            ClientCertificate(new.certificate),
            Operation.RENEW,
        )
        assert signs == bench.issuer(renewed)
        found = result_of(bench.ra.find(TENANT, old.serial))
        assert "superseded" == found.status.value

    def test_finished(self, bench: Bench) -> None:
        """What the old key has issued counts no more."""
        old = bench.ask()
        bench.put(Phase.ACTIVE)
        new = bench.renew(old)
        bench.put(Phase.FINISHED)
        with pytest.raises(NotAuthenticated):
            bench.renew(old)
        with pytest.raises(NotAuthenticated):
            result_of(bench.ra.identify(ENDPOINT, old.certificate))
        assert "issuing-2" == bench.issuer(bench.renew(new, new_key()))
        result_of(bench.ra.identify(ENDPOINT, new.certificate))

    def test_before_it_is_prepared(self, bench: Bench) -> None:
        """A key that nobody has told of issues nothing that counts."""
        bench.put(Phase.ACTIVE)
        new = bench.ask()
        bench.ra.rules = evolve(bench.ra.rules, successions={})
        with pytest.raises(NotAuthenticated):
            bench.renew(new)

    @pytest.mark.parametrize("own", [None, "a key"])
    def test_repeated_across_the_change(
        self, bench: Bench, own: str | None
    ) -> None:
        """I-4: byte for byte what it was, with the chain of its issuer."""
        wanted = make_request("device")
        first = bench.ask(wanted, idempotency_key=own)
        for phase in ALL:
            bench.put(phase)
            again = bench.ask(wanted, idempotency_key=own)
            assert again.replayed
            assert (first.certificate, first.chain) == (
                again.certificate,
                again.chain,
            )

    def test_repeated_after_the_key_was_destroyed(self, bench: Bench) -> None:
        """What is left of the old key is its certificates."""
        wanted = make_request("device")
        first = bench.ask(wanted)
        bench.put(Phase.FINISHED)
        left = {"issuing-2": bench.lineage.authorities["issuing-2"]}
        bench.ra.rules = evolve(bench.ra.rules, authorities=left)
        assert first.certificate == bench.ask(wanted).certificate

    def test_renewal_repeated_across_the_change(self, bench: Bench) -> None:
        """The answer that got lost is found again."""
        old = bench.ask()
        bench.put(Phase.ACTIVE)
        wanted = make_request("device")
        given = (wanted, ClientCertificate(old.certificate), Operation.RENEW)
        new = bench.ask(*given)
        assert new.certificate == bench.ask(*given).certificate

    def test_the_gateways_own_are_of_the_named_one(self, bench: Bench) -> None:
        """A responder of the old key is certified by the old key."""
        bench.put(Phase.ACTIVE)
        for name in bench.lineage.authorities:
            request = EnrollmentRequest(
                endpoint=Endpoint("gateway", "", TENANT, "device", name),
                operation=Operation.ENROLL,
                wanted=make_request(f"responder of {name}"),
                credentials=(),
                request_id="r",
                peer="",
            )
            issued = result_of(bench.ra.enroll_own(request))
            assert name == bench.issuer(issued)

    def test_poll(self, bench: Bench) -> None:
        """A renewal of an old certificate is found after the change."""
        old = bench.ask()
        key = new_key()
        bench.ask(
            make_request("device", key=key),
            ClientCertificate(old.certificate),
            Operation.RENEW,
            transaction="ab",
        )
        bench.put(Phase.ACTIVE)
        old_key = read_certificate(old.certificate).public_key.fingerprint
        question = PollRequest(
            endpoint=ENDPOINT,
            transaction="ab",
            public_key_fingerprint=old_key,
            credentials=(ClientCertificate(old.certificate),),
            request_id="r",
            peer="",
        )
        found = result_of(bench.ra.poll(question))
        assert isinstance(found, Issued)
        bench.put(Phase.FINISHED)
        with pytest.raises(UnknownCertificate):
            result_of(bench.ra.poll(question))


class EarlyTests:
    """Who has a certificate of the old key need not wait."""

    def bench(self) -> Bench:
        """Return a bench whose profile lets nobody renew early."""
        settings = evolve(
            builtin_profiles()["device"], renewal_window=timedelta(days=1)
        )
        return Bench({"device": settings})

    def test_renewal_window(self) -> None:
        """The profile's window is for certificates of the key that signs."""
        bench = self.bench()
        old = bench.ask()
        bench.put(Phase.PREPARED)
        with pytest.raises(PolicyViolation, match="can be renewed from"):
            bench.renew(old)
        bench.put(Phase.ACTIVE)
        new = bench.renew(old)
        with pytest.raises(PolicyViolation, match="can be renewed from"):
            bench.renew(new)

    def test_suggested_window(self) -> None:
        """
        draft-ietf-lamps-est-renewal-info: a window in the past tells to renew
        now; of a key that is retired, nothing is known any more.
        """
        bench = self.bench()
        old = bench.ask()

        def ended(phase: Phase) -> bool:
            bench.put(phase)
            identifier = key_identifier(
                bench.lineage.authorities["issuing"].certificate
            )
            found = result_of(
                bench.ra.enquiries.renewal(ENDPOINT, identifier, old.serial)
            )
            return bool(found.end < bench.ra.now() + timedelta(days=30))

        assert not ended(Phase.PREPARED)
        assert ended(Phase.ACTIVE)
        with pytest.raises(UnknownCertificate):
            ended(Phase.FINISHED)

    def test_peers(self) -> None:
        """The certificates of peers are of whichever key still counts."""
        bench = self.bench()
        old = bench.ask()
        for phase, found in (
            (Phase.PREPARED, (old.certificate,)),
            (Phase.ACTIVE, (old.certificate,)),
            (Phase.FINISHED, ()),
        ):
            bench.put(phase)
            assert found == result_of(
                bench.ra.enquiries.current(ENDPOINT, ("device",))
            )


class TellingTests:
    """What protocols are told."""

    def test_certificates(self, bench: Bench) -> None:
        """As the succession has them."""
        for phase in ALL:
            bench.put(phase)
            found = bench.lineage.succession(phase)
            assert found == bench.ra.succession(ENDPOINT)
            assert found.certificates == bench.ra.ca_certificates(ENDPOINT)

    def test_nothing_changes(self, bench: Bench) -> None:
        """Without generations, an endpoint is itself."""
        assert ENDPOINT is bench.ra.serving(ENDPOINT)
        assert "issuing" == bench.ra.succession(ENDPOINT).authority

    def test_endpoint_of_another_authority(self, bench: Bench) -> None:
        """It is itself, too; one that only accepts ours accepts both."""
        bench.put(Phase.ACTIVE)
        other = evolve(ENDPOINT, authority="other")
        assert other is bench.ra.serving(other)
        accepting = evolve(other, issuers=("issuing",))
        assert ("other", ("issuing-2", "issuing")) == (
            bench.ra.serving(accepting).authority,
            bench.ra.serving(accepting).issuers,
        )

    def test_endpoint_is_resolved_once(self, bench: Bench) -> None:
        """An endpoint is one object; so is what it is now."""
        bench.put(Phase.ACTIVE)
        found = bench.ra.serving(ENDPOINT)
        assert ("issuing-2", ("issuing",)) == (found.authority, found.issuers)
        assert found is bench.ra.serving(ENDPOINT)
        # However many there are, memory is bounded.
        others = [evolve(ENDPOINT, name=str(each)) for each in range(600)]
        for each in others:
            assert "issuing-2" == bench.ra.serving(each).authority
        assert found == bench.ra.serving(ENDPOINT)

    def test_message_is_signed_by_who_issues(self, bench: Bench) -> None:
        """RFC 8894, section 4.7.1: the present CA vouches for the next."""
        for phase in ALL:
            bench.put(phase)
            issuing = bench.lineage.succession(phase).authority
            before = {
                name: len(one._signer.signed)
                for name, one in bench.lineage.authorities.items()
            }
            result_of(bench.ra.sign_message(ENDPOINT, b"content"))
            after = {
                name: len(one._signer.signed)
                for name, one in bench.lineage.authorities.items()
            }
            assert [issuing] == [
                name for name in before if after[name] > before[name]
            ]
