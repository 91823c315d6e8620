# SPDX-License-Identifier: MIT
"""
What every store must do with transactions of several messages, and with
certificates that a client has to confirm: as tests.
"""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from contracts.store_contract import StoreContract
from contracts.store_samples import (
    DER,
    MINUTE,
    NOW,
    OTHER,
    TENANT,
    digest,
    new_intent,
)

from trstctl.errors import Conflict, Stale, UnknownCertificate
from trstctl.model import CertificateRecord, CertificateStatus, Dialogue

BEGUN = Dialogue(
    tenant_id=TENANT,
    protocol="cmp",
    endpoint="",
    transaction="00" * 16,
    party="somebody",
    state="unconfirmed",
    request=digest("first"),
    answer=b"an answer",
    notes={"serial": "01"},
    expires_at=NOW + MINUTE,
)


class DialogueContract(StoreContract):
    """The tests."""

    def found(self, dialogue: Dialogue, now: Any = NOW) -> Dialogue | None:
        """Look for a dialogue."""
        found: Dialogue | None = self.wait(
            self.store.find_dialogue(
                dialogue.tenant_id,
                dialogue.protocol,
                dialogue.endpoint,
                dialogue.transaction,
                now,
            )
        )
        return found

    def issue_unconfirmed(self, **changes: Any) -> CertificateRecord:
        """Issue what a client has to confirm within a minute."""
        intent = new_intent(confirm_by=NOW + MINUTE, **changes)
        self.wait(self.store.renew_lease("owner-1", NOW + 60 * MINUTE))
        self.wait(self.store.open_intent(intent, NOW))
        record: CertificateRecord = self.wait(
            self.store.record_certificate(intent, DER, NOW)
        )
        return record

    def test_a_dialogue_is_found_as_it_was_begun(self) -> None:
        """In its tenant, protocol and endpoint, and nowhere else."""
        self.wait(self.store.open_dialogue(BEGUN, NOW))
        assert BEGUN == self.found(BEGUN)
        for other in (
            evolve(BEGUN, tenant_id=OTHER),
            evolve(BEGUN, protocol="other"),
            evolve(BEGUN, endpoint="other"),
            evolve(BEGUN, transaction="01" * 16),
        ):
            assert self.found(other) is None

    def test_a_dialogue_is_begun_once(self) -> None:
        """Until it has expired; then it is no dialogue any more."""
        self.wait(self.store.open_dialogue(BEGUN, NOW))
        other = evolve(
            BEGUN, party="another", expires_at=NOW + 2 * MINUTE, answer=b"2"
        )
        with pytest.raises(Conflict):
            self.wait(self.store.open_dialogue(other, NOW))
        assert self.found(BEGUN, NOW + MINUTE) is None
        self.wait(self.store.open_dialogue(other, NOW + MINUTE))
        assert other == self.found(BEGUN, NOW + MINUTE)

    def test_a_dialogue_goes_on_from_where_it_is(self) -> None:
        """Of two who answer at once, one does."""
        self.wait(self.store.open_dialogue(BEGUN, NOW))
        ended = evolve(
            BEGUN, state="ended", request=digest("2"), answer=b"2", notes={}
        )
        self.wait(self.store.advance_dialogue(ended))
        assert evolve(ended, version=2) == self.found(BEGUN)
        with pytest.raises(Stale):
            self.wait(self.store.advance_dialogue(ended))
        with pytest.raises(Stale):
            self.wait(
                self.store.advance_dialogue(evolve(ended, endpoint="other"))
            )

    def test_what_has_expired_is_forgotten(self) -> None:
        """And nothing else."""
        self.wait(self.store.open_dialogue(BEGUN, NOW))
        lasting = evolve(BEGUN, endpoint="other", expires_at=NOW + 2 * MINUTE)
        self.wait(self.store.open_dialogue(lasting, NOW))
        self.wait(self.store.purge_dialogues(NOW + MINUTE))
        with pytest.raises(Stale):
            self.wait(self.store.advance_dialogue(BEGUN))
        self.wait(self.store.advance_dialogue(lasting))

    def test_an_unconfirmed_certificate_is_listed_once_it_is_overdue(
        self,
    ) -> None:
        """The longest ago first; a confirmed one never."""
        first = self.issue_unconfirmed()
        self.issue_unconfirmed(csr="two", key="2")
        assert NOW + MINUTE == first.confirm_by
        assert [] == self.wait(self.store.list_unconfirmed(NOW, 9))
        assert [first.serial] == [
            each.serial
            for each in self.wait(self.store.list_unconfirmed(NOW + MINUTE, 1))
        ]

    def test_a_certificate_is_confirmed_once(self) -> None:
        """With an audit record; whoever confirms again changes nothing."""
        issued = self.issue_unconfirmed()
        for _ in range(2):
            record = self.wait(
                self.store.confirm_certificate(
                    TENANT, issued.serial, "cmp", NOW
                )
            )
            assert record.confirm_by is None
        assert CertificateStatus.VALID is record.status
        assert [] == self.wait(self.store.list_unconfirmed(NOW + MINUTE, 9))
        records = self.wait(self.store.audit_records(TENANT, 0, 100))
        assert 1 == sum("certificate.confirmed" in one.body for one in records)

    def test_what_is_revoked_cannot_be_confirmed(self) -> None:
        """Nobody waits for it any more, either."""
        issued = self.issue_unconfirmed()
        revoked = self.wait(
            self.store.revoke_certificate(
                TENANT, issued.serial, "cessationOfOperation", "me", NOW
            )
        )
        assert revoked.confirm_by is None
        assert [] == self.wait(self.store.list_unconfirmed(NOW + MINUTE, 9))
        with pytest.raises(Stale):
            self.wait(
                self.store.confirm_certificate(
                    TENANT, issued.serial, "cmp", NOW
                )
            )

    def test_another_tenants_certificate_is_unknown(self) -> None:
        """Nobody confirms it."""
        issued = self.issue_unconfirmed()
        with pytest.raises(UnknownCertificate):
            self.wait(
                self.store.confirm_certificate(
                    OTHER, issued.serial, "cmp", NOW
                )
            )
