# SPDX-License-Identifier: MIT
"""
What every store must do about revocation: more of the contract of
:class:`IStore`, as tests.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from contracts.store_contract import StoreContract
from contracts.store_samples import (
    DAY,
    DER,
    MINUTE,
    NOW,
    OTHER,
    TENANT,
    new_crl,
    new_intent,
    new_request,
)

from trstctl.errors import (
    Malformed,
    Stale,
    UnknownCertificate,
    UnsupportedAlgorithm,
)
from trstctl.model import (
    CERTIFICATE_HOLD,
    REVOCATION_REASONS,
    SYSTEM_TENANT,
    CertificateQuery,
    CertificateRecord,
    CertificateStatus,
    RequestState,
    RevocationQuery,
    SerialStatus,
)

_TICK = timedelta(microseconds=1)
_END = NOW + 90 * DAY


class RevocationContract(StoreContract):
    """The tests, after those of the rest."""

    def revoke(
        self,
        serial: str,
        reason: str = "superseded",
        now: datetime = NOW,
        tenant_id: str = TENANT,
    ) -> CertificateRecord:
        record: CertificateRecord = self.wait(
            self.store.revoke_certificate(
                tenant_id, serial, reason, "operator:ann", now
            )
        )
        return record

    def release(
        self, serial: str, now: datetime = NOW, tenant_id: str = TENANT
    ) -> CertificateRecord:
        record: CertificateRecord = self.wait(
            self.store.release_certificate(
                tenant_id, serial, "operator:bob", now
            )
        )
        return record

    # --- passwords that revoke ----------------------------------------------

    def verifier(self, serial: str, tenant_id: str = TENANT) -> str | None:
        """Return what is kept of a certificate's password."""
        record = self.wait(self.store.find_certificate(tenant_id, serial))
        return None if record is None else str(record.revocation_verifier)

    def test_verifier(self) -> None:
        """RFC 7894, section 3.2: what is kept of a password comes with the
        intent, is the certificate's from its commit on, and stays with it;
        of no other tenant, in no listing and in no audit record."""
        intent = new_intent(revocation_verifier="scrypt$v")
        self.open(intent)
        assert self.verifier(intent.serial) is None
        record = self.wait(self.store.record_certificate(intent, DER, NOW))
        assert "scrypt$v" == record.revocation_verifier
        assert "scrypt$v" == self.verifier(intent.serial)
        assert self.verifier(intent.serial, OTHER) is None
        assert "scrypt$v" == self.find(intent.request).revocation_verifier
        (listed,) = self.wait(
            self.store.list_certificates(CertificateQuery(TENANT))
        )
        assert ("", b"") == (listed.revocation_verifier, listed.der)
        revoked = self.revoke(intent.serial)
        assert "scrypt$v" == revoked.revocation_verifier
        assert "scrypt$v" == self.verifier(intent.serial)
        assert "scrypt$v" not in "".join(one.body for one in self.audit())

    def test_no_verifier(self) -> None:
        """A request without a password leaves none."""
        assert "" == self.verifier(self.issue().serial)

    def test_verifier_of_a_retry(self) -> None:
        """What came to nothing is signed for the password of the retry."""
        first = new_intent(revocation_verifier="scrypt$1")
        self.open(first)
        self.wait(self.store.abandon_intent(first, "why", NOW))
        again = new_intent(revocation_verifier="scrypt$2")
        self.open(again)
        self.wait(self.store.record_certificate(again, DER, NOW))
        assert "scrypt$2" == self.verifier(again.serial)
        assert self.verifier(first.serial) is None

    def test_verifier_of_a_held_request(self) -> None:
        """It waits with its request, and changes with it: held, adopted by
        one that was built anew, held again after it came to nothing."""
        request = new_request(revocation_verifier="scrypt$1")
        assert "scrypt$1" == self.hold(request).revocation_verifier
        anew = new_request(
            key="2", fingerprint="f2", revocation_verifier="scrypt$2"
        )
        adopted = self.hold(anew)
        assert "scrypt$2" == adopted.revocation_verifier
        approved = self.decide(adopted.id)
        assert "scrypt$2" == approved.revocation_verifier
        intent = new_intent(request=evolve(anew, id="again"))
        self.open(intent)
        self.wait(self.store.abandon_intent(intent, "why", NOW))
        held = self.hold(evolve(anew, revocation_verifier="scrypt$3"))
        assert "scrypt$3" == held.revocation_verifier
        found = self.wait(self.store.list_requests(TENANT, None, 10))
        assert ["scrypt$3"] == [one.revocation_verifier for one in found]

    def test_verifier_of_an_unconfirmed_certificate(self) -> None:
        """Who waits for a confirmation needs no verifier."""
        self.issue(confirm_by=NOW, revocation_verifier="scrypt$v")
        (found,) = self.wait(self.store.list_unconfirmed(NOW + MINUTE, 10))
        assert "" == found.revocation_verifier

    def status(
        self, serial: str, authority: str = "issuing"
    ) -> SerialStatus | None:
        status: SerialStatus | None = self.wait(
            self.store.find_status(authority, serial)
        )
        return status

    def revoked(self, **changes: Any) -> list[SerialStatus]:
        query = RevocationQuery("issuing", "", "g", NOW)
        return list(
            self.wait(self.store.list_revoked(evolve(query, **changes)))
        )

    def last(self, authority: str = "issuing") -> datetime | None:
        last: datetime | None = self.wait(
            self.store.last_revocation(authority)
        )
        return last

    # --- reasons and holds --------------------------------------------------

    @pytest.mark.parametrize("reason", REVOCATION_REASONS)
    def test_reason(self, reason: str) -> None:
        """RFC 5280, section 5.3.1: each reason is kept as it was given."""
        serial = self.issue().serial
        self.revoke(serial, reason)
        assert self.status(serial) == SerialStatus(serial, _END, NOW, reason)

    @pytest.mark.parametrize(
        "reason", ["", "removeFromCRL", "keycompromise", "holdOn"]
    )
    def test_no_reason(self, reason: str) -> None:
        """RFC 5280, section 5.3.1: there are no others."""
        serial = self.issue().serial
        with pytest.raises(Malformed):
            self.revoke(serial, reason)
        assert self.status(serial) == SerialStatus(serial, _END)
        assert self.events()[2:] == []

    def test_certificate_on_hold(self) -> None:
        """A certificate on hold is revoked; holding it again is nothing."""
        record = self.issue()
        held = self.revoke(record.serial, CERTIFICATE_HOLD)
        assert held == evolve(
            record,
            status=CertificateStatus.REVOKED,
            revoked_at=NOW,
            revocation_reason=CERTIFICATE_HOLD,
        )
        assert held == self.revoke(record.serial, CERTIFICATE_HOLD, NOW + DAY)
        assert self.events()[2:] == ["certificate.revoked"]
        assert self.last() == NOW

    def test_hold_becomes_final(self) -> None:
        """A hold takes another reason and keeps its time; audited anew."""
        serial = self.issue().serial
        self.revoke(serial, CERTIFICATE_HOLD)
        final = self.revoke(serial, "keyCompromise", NOW + DAY)
        assert final.revoked_at == NOW
        assert final.revocation_reason == "keyCompromise"
        found = self.wait(self.store.find_certificate(TENANT, serial))
        assert final == found
        assert self.events()[2:] == ["certificate.revoked"] * 2
        assert self.facts()["reason"] == "keyCompromise"
        assert self.last() == NOW + DAY
        # The key is blocked as if it had been said at once.
        with pytest.raises(UnsupportedAlgorithm):
            self.open(new_intent("one", key="again"), NOW + DAY)

    def test_key_on_hold_is_not_compromised(self) -> None:
        """Only keyCompromise blocks a key."""
        serial = self.issue().serial
        self.revoke(serial, CERTIFICATE_HOLD)
        self.open(new_intent("one", key="again"))

    def test_final_is_final(self) -> None:
        """What is revoked for good is not put on hold, nor renamed."""
        serial = self.issue().serial
        final = self.revoke(serial, "superseded")
        assert final == self.revoke(serial, CERTIFICATE_HOLD, NOW + DAY)
        assert final == self.revoke(serial, "unspecified", NOW + DAY)
        assert self.last() == NOW
        self.open(new_intent("one", key="again"))

    @pytest.mark.parametrize(
        "reason", sorted({*REVOCATION_REASONS} - {"keyCompromise"})
    )
    def test_key_is_found_to_be_compromised(self, reason: str) -> None:
        """
        Whatever it was revoked for, a key can turn out to be compromised:
        the time stays, and the next CRL says it (RFC 5280, section 5.3.1).
        """
        serial = self.issue().serial
        self.revoke(serial, reason)
        raised = self.revoke(serial, "keyCompromise", NOW + DAY)
        assert raised.revoked_at == NOW
        assert raised.revocation_reason == "keyCompromise"
        found = self.wait(self.store.find_certificate(TENANT, serial))
        assert raised == found
        assert self.events()[2:] == ["certificate.revoked"] * 2
        assert self.facts()["reason"] == "keyCompromise"
        (listed,) = self.revoked(changed_since=NOW + DAY)
        assert (listed.reason, listed.revoked_at) == ("keyCompromise", NOW)
        # That is the end of it.
        assert raised == self.revoke(serial, reason, NOW + 2 * DAY)
        assert raised == self.revoke(serial, "keyCompromise", NOW + 2 * DAY)
        assert self.last() == NOW + DAY
        with pytest.raises(UnsupportedAlgorithm):
            self.open(new_intent("one", key="again"), NOW + DAY)

    def test_release(self) -> None:
        """Off hold, a certificate is what it was; audited once."""
        record = self.issue()
        self.revoke(record.serial, CERTIFICATE_HOLD)
        assert self.find(new_request(key="key-one")).revoked
        for now in (NOW + MINUTE, NOW + DAY):
            assert self.release(record.serial, now) == evolve(record)
        find = self.store.find_certificate
        assert record == self.wait(find(TENANT, record.serial))
        assert not self.find(new_request(key="key-one")).revoked
        assert self.status(record.serial) == SerialStatus(
            record.serial, _END, released_at=NOW + MINUTE
        )
        assert self.query(status=CertificateStatus.VALID) == [record.serial]
        assert self.query(status=CertificateStatus.REVOKED) == []
        assert self.events()[2:] == [
            "certificate.revoked",
            "certificate.released",
        ]
        assert self.facts() == {
            "authority": "issuing",
            "serial": record.serial,
            "subject": record.subject,
        }
        assert self.last() == NOW + MINUTE

    def test_revoked_after_release(self) -> None:
        """Once released, it can be revoked again, from then on."""
        serial = self.issue().serial
        self.revoke(serial, CERTIFICATE_HOLD)
        self.release(serial, NOW + MINUTE)
        again = self.revoke(serial, "superseded", NOW + DAY)
        assert again.revoked_at == NOW + DAY
        assert self.status(serial) == SerialStatus(
            serial, _END, NOW + DAY, "superseded", NOW + MINUTE
        )
        with pytest.raises(Stale):
            self.release(serial)

    def test_release_refused(self) -> None:
        """What is revoked for good stays so, and so does the valid one."""
        final, valid = self.issue("one"), self.issue("two")
        self.revoke(final.serial, "unspecified")
        with pytest.raises(Stale):
            self.release(final.serial)
        assert self.release(valid.serial) == valid
        assert self.events()[4:] == ["certificate.revoked"]

    def test_release_unknown(self) -> None:
        """R-10: nobody releases what another tenant has put on hold."""
        serial = self.issue().serial
        self.revoke(serial, CERTIFICATE_HOLD)
        for tenant_id, other in ((OTHER, serial), (TENANT, "ab")):
            with pytest.raises(UnknownCertificate):
                self.release(other, tenant_id=tenant_id)
        assert self.events(OTHER) == []

    # --- certificates that a renewal has replaced ---------------------------

    def supersede(
        self, serial: str, by: str, tenant_id: str = TENANT
    ) -> CertificateRecord:
        record: CertificateRecord = self.wait(
            self.store.supersede_certificate(
                tenant_id, serial, by, "certificate:issuing:01", NOW
            )
        )
        return record

    def test_superseded(self) -> None:
        """It is replaced, not revoked; audited once, in every listing."""
        old, new = self.issue("old"), self.issue("new")
        for _ in range(2):
            found = self.supersede(old.serial, new.serial)
            assert found == evolve(
                old,
                status=CertificateStatus.SUPERSEDED,
                superseded_by=new.serial,
            )
        find = self.store.find_certificate
        assert found == self.wait(find(TENANT, old.serial))
        assert new == self.wait(find(TENANT, new.serial))
        superseded = CertificateStatus.SUPERSEDED
        assert self.query(status=superseded) == [old.serial]
        assert self.query(status=CertificateStatus.VALID) == [new.serial]
        assert self.status(old.serial) == SerialStatus(old.serial, _END)
        assert self.revoked() == []
        assert self.last() is None
        assert self.events()[4:] == ["certificate.superseded"]
        assert self.facts() == {
            "authority": "issuing",
            "serial": old.serial,
            "subject": old.subject,
            "by": new.serial,
        }

    def test_superseded_again(self) -> None:
        """The last one counts; nothing takes its own place."""
        old, first, second = map(self.issue, ("old", "first", "second"))
        self.supersede(old.serial, first.serial)
        found = self.supersede(old.serial, second.serial)
        assert found.superseded_by == second.serial
        assert first == self.supersede(first.serial, first.serial)
        assert self.events()[6:] == ["certificate.superseded"] * 2

    def test_superseded_on_hold(self) -> None:
        """Once off hold, it is superseded, and not valid again."""
        old, new = self.issue("old"), self.issue("new")
        self.supersede(old.serial, new.serial)
        held = self.revoke(old.serial, CERTIFICATE_HOLD)
        assert held.superseded_by == new.serial
        freed = self.release(old.serial, NOW + MINUTE)
        assert freed.status is CertificateStatus.SUPERSEDED
        assert freed.revoked_at is None
        with pytest.raises(Stale):
            self.release(old.serial, NOW + DAY)
        status = self.status(old.serial)
        assert status is not None
        assert status.revoked_at is None

    def test_superseded_while_revoked(self) -> None:
        """What is revoked stays so; a hold ends in superseded."""
        old, held, new = map(self.issue, ("old", "held", "new"))
        revoked = self.revoke(old.serial, "keyCompromise")
        found = self.supersede(old.serial, new.serial)
        assert found == evolve(revoked, superseded_by=new.serial)
        self.revoke(held.serial, CERTIFICATE_HOLD)
        on_hold = self.supersede(held.serial, new.serial)
        assert on_hold.status is CertificateStatus.REVOKED
        freed = self.release(held.serial)
        assert freed.status is CertificateStatus.SUPERSEDED

    def test_supersede_unknown(self) -> None:
        """R-10: neither of the two is another tenant's."""
        old, new = self.issue("old"), self.issue("new")
        for tenant_id, serial, by in (
            (OTHER, old.serial, new.serial),
            (TENANT, "ab", new.serial),
            (TENANT, old.serial, "ab"),
        ):
            with pytest.raises(UnknownCertificate):
                self.supersede(serial, by, tenant_id)
        assert self.query(status=CertificateStatus.SUPERSEDED) == []

    # --- the status of a serial ---------------------------------------------

    def test_status(self) -> None:
        """RFC 6960, section 2.2: good, revoked, or never promised."""
        intent = new_intent()
        assert self.status(intent.serial) is None
        self.open(intent)
        good = SerialStatus(intent.serial, _END)
        assert good == self.status(intent.serial)
        self.wait(self.store.record_certificate(intent, DER, NOW))
        assert good == self.status(intent.serial)
        assert self.status(intent.serial, "another") is None
        self.revoke(intent.serial, "superseded", NOW + DAY)
        assert self.status(intent.serial) == SerialStatus(
            intent.serial, _END, NOW + DAY, "superseded"
        )

    def test_abandoned_counts_as_revoked(self) -> None:
        """A serial that came to nothing is revoked since its promise."""
        intent = new_intent()
        self.open(intent)
        assert self.last() is None
        self.wait(self.store.abandon_intent(intent, "why", NOW + MINUTE))
        revoked = SerialStatus(intent.serial, _END, NOW)
        assert revoked == self.status(intent.serial)
        assert self.revoked() == [revoked]
        assert self.last() == NOW + MINUTE
        # A CRL that was made between the two did not list it.
        assert self.revoked(changed_since=NOW + _TICK) == [revoked]

    def test_every_abandoned_serial_counts(self) -> None:
        """Retried, held again or done: each serial stays revoked."""
        held = self.wait(self.store.hold(new_request(), NOW))
        self.decide(held.id)
        serials = []
        for number in range(1, 4):
            intent = new_intent()
            at = NOW + number * MINUTE
            self.open(intent, at)
            self.wait(self.store.abandon_intent(intent, "why", at))
            serials.append(SerialStatus(intent.serial, _END, at))
        again = self.wait(self.store.hold(new_request(), NOW + 4 * MINUTE))
        assert again.state is RequestState.HELD
        assert serials == self.revoked()
        self.decide(held.id)
        last = self.issue(key="k", now=NOW + 5 * MINUTE)
        assert serials == self.revoked()
        assert self.status(last.serial) == SerialStatus(last.serial, _END)

    def test_orphans_count_as_revoked(self) -> None:
        """So does what an ended process has left behind."""
        self.wait(self.store.renew_lease("owner-1", NOW))
        intent = new_intent()
        self.open(intent)
        self.wait(self.store.release_lease("owner-1"))
        self.wait(self.store.retire_orphans(NOW + MINUTE))
        assert self.revoked() == [SerialStatus(intent.serial, _END, NOW)]

    # --- what a CRL lists ---------------------------------------------------

    def test_list_revoked(self) -> None:
        """By serial, of one authority, of all its tenants, good ones not."""
        for serial, tenant_id, authority in (
            ("c3", TENANT, "issuing"),
            ("a1", OTHER, "issuing"),
            ("b2", TENANT, "issuing"),
            ("b0", TENANT, "another"),
        ):
            self.issue(
                serial,
                serial=serial,
                tenant_id=tenant_id,
                authority=authority,
            )
            self.revoke(serial, "superseded", tenant_id=tenant_id)
        self.issue("good", serial="b1")
        self.open(new_intent("open", key="open", serial="b3"))
        found = self.revoked()
        assert [one.serial for one in found] == ["a1", "b2", "c3"]
        assert found[0] == SerialStatus("a1", _END, NOW, "superseded")

    def test_list_revoked_pages(self) -> None:
        """From the first serial, which is in, to the end, which is not."""
        for serial in ("a1", "a2", "a3", "b1"):
            self.issue(serial, serial=serial)
            self.revoke(serial)

        def listed(**changes: Any) -> list[str]:
            return [one.serial for one in self.revoked(**changes)]

        assert listed(limit=2) == ["a1", "a2"]
        assert listed(first="a20", limit=2) == ["a3", "b1"]
        assert listed(first="a2", end="b1") == ["a2", "a3"]
        since = {"changed_since": NOW}
        assert listed(**since, limit=2) == ["a1", "a2"]
        assert listed(**since, first="a2", end="b1") == ["a2", "a3"]

    def test_list_revoked_that_live(self) -> None:
        """RFC 5280, section 3.3: an expired certificate leaves the CRL."""
        for serial, days in (("a1", 1), ("a2", 2)):
            self.issue(serial, serial=serial, not_after=NOW + days * DAY)
            self.revoke(serial)
        for changes in ({}, {"changed_since": NOW}):
            found = self.revoked(not_after=NOW + DAY, **changes)
            assert [one.serial for one in found] == ["a2"]

    def test_list_changed(self) -> None:
        """RFC 5280, section 5.2.4: a delta CRL tells also who was released."""
        for serial in ("a1", "a2", "a3", "a4"):
            self.issue(serial, serial=serial)
        self.revoke("a1", "superseded", NOW)
        self.revoke("a2", CERTIFICATE_HOLD, NOW)
        self.revoke("a3", CERTIFICATE_HOLD, NOW)
        base = NOW + MINUTE
        assert self.revoked(changed_since=base) == []
        self.release("a2", base)
        self.revoke("a3", "keyCompromise", base + MINUTE)
        assert self.revoked(changed_since=base) == [
            SerialStatus("a2", _END, None, "", base),
            SerialStatus("a3", _END, NOW, "keyCompromise"),
        ]
        assert [one.serial for one in self.revoked()] == ["a1", "a3"]
        assert len(self.revoked(changed_since=NOW)) == 3
        found = self.revoked(changed_since=base + MINUTE)
        assert [one.serial for one in found] == ["a3"]

    def test_changes_grow(self) -> None:
        """No change slips in where a CRL has looked, whatever the clock."""
        for serial in ("a1", "a2", "a3"):
            self.issue(serial, serial=serial)
        self.revoke("a1", "superseded", NOW + MINUTE)
        seen = self.last()
        assert seen == NOW + MINUTE
        # Another process, whose clock is behind.
        behind = self.revoke("a2", CERTIFICATE_HOLD, NOW)
        assert behind.revoked_at == NOW
        assert self.last() == seen + _TICK
        found = self.revoked(changed_since=seen + _TICK)
        assert [one.serial for one in found] == ["a2"]
        self.release("a2", NOW)
        assert self.last() == seen + 2 * _TICK
        intent = new_intent("x", key="x")
        self.open(intent)
        self.wait(self.store.abandon_intent(intent, "why", NOW))
        assert self.last() == seen + 3 * _TICK
        assert self.last("another") is None

    # --- CRLs ---------------------------------------------------------------

    def number(self, authority: str = "issuing") -> int:
        number: int = self.wait(self.store.next_crl_number(authority))
        return number

    def crl(
        self, scope: str = "", unless: int = 0, authority: str = "issuing"
    ) -> Any:
        return self.wait(self.store.find_crl(authority, scope, unless))

    def test_crl_numbers(self) -> None:
        """RFC 5280, section 5.2.3: numbers grow, in each authority."""
        assert [self.number() for _ in range(3)] == [1, 2, 3]
        assert self.number("another") == 1

    def test_crl_numbers_follow_what_was_saved(self) -> None:
        """A number is greater than that of any CRL there is."""
        self.wait(self.store.save_crl(new_crl(number=7), "gateway"))
        assert self.number() == 8
        self.wait(self.store.save_crl(new_crl("delta", number=3), "gateway"))
        assert self.number() == 9

    def test_save_crl(self) -> None:
        """A CRL replaces its scope's last one; audited in the system's."""
        assert self.crl() is None
        first = new_crl(number=1)
        self.wait(self.store.save_crl(first, "gateway"))
        assert first == self.crl()
        later = new_crl(number=2, base=1, entries=5, der=b"later")
        later = evolve(later, this_update=NOW + DAY, next_update=NOW + 2 * DAY)
        self.wait(self.store.save_crl(later, "gateway"))
        assert later == self.crl() == self.crl(unless=1)
        assert self.crl(unless=2) is None
        assert self.events(SYSTEM_TENANT) == ["crl.published"] * 2
        assert self.events() == []
        body = json.loads(self.audit(SYSTEM_TENANT)[-1].body)
        assert body["actor"] == "gateway"
        assert body["fields"] == {
            "authority": "issuing",
            "scope": "",
            "number": "2",
            "entries": "5",
        }

    def test_save_old_crl(self) -> None:
        """RFC 5280, section 5.2.3: no CRL gives way to an older one."""
        kept = new_crl(number=5)
        self.wait(self.store.save_crl(kept, "gateway"))
        for number in (4, 5):
            with pytest.raises(Stale):
                self.wait(
                    self.store.save_crl(
                        new_crl(number=number, der=b"old"), "gateway"
                    )
                )
        assert kept == self.crl()
        assert self.events(SYSTEM_TENANT) == ["crl.published"]

    def test_scopes(self) -> None:
        """Scopes and authorities do not meet."""
        crls = [
            new_crl("", number=4),
            new_crl("delta", number=2),
            new_crl("8/3", number=3),
            new_crl("", number=1, authority="another"),
        ]
        for crl in crls:
            self.wait(self.store.save_crl(crl, "gateway"))
        for crl in crls:
            assert crl == self.crl(crl.scope, authority=crl.authority)
        scopes = self.store.crl_scopes
        assert self.wait(scopes("issuing")) == ["", "8/3", "delta"]
        assert self.wait(scopes("another")) == [""]
        assert self.wait(scopes("none")) == []
        assert self.crl("delta", authority="another") is None
