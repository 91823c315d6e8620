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

from trstctl.errors import Conflict, Stale, Throttled, UnknownCertificate
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

    def charged(self, dialogue: Dialogue) -> int:
        """Return how many dialogues are charged to the same."""
        count: int = self.wait(
            self.store.count_dialogues(
                dialogue.tenant_id, dialogue.protocol, dialogue.charged_to
            )
        )
        return count

    def test_dialogues_are_counted_for_whom_they_are_charged_to(self) -> None:
        """In his tenant and protocol, at every endpoint, until they are
        forgotten; going on changes nothing."""
        mine = evolve(BEGUN, charged_to="me")
        for dialogue in (
            mine,
            evolve(mine, endpoint="other", expires_at=NOW + 2 * MINUTE),
            evolve(mine, tenant_id=OTHER),
            evolve(mine, protocol="other"),
            evolve(BEGUN, transaction="01" * 16, charged_to="other"),
            evolve(BEGUN, transaction="02" * 16),
        ):
            self.wait(self.store.open_dialogue(dialogue, NOW))
        assert 2 == self.charged(mine)
        assert 1 == self.charged(evolve(mine, tenant_id=OTHER))
        self.wait(
            self.store.advance_dialogue(evolve(mine, charged_to="other"))
        )
        found = self.found(mine)
        assert found is not None
        assert "me" == found.charged_to
        assert 2 == self.charged(mine)
        self.wait(self.store.purge_dialogues(NOW + MINUTE))
        assert 1 == self.charged(mine)
        assert 0 == self.charged(evolve(mine, charged_to="other"))
        self.wait(self.store.purge_dialogues(NOW + 2 * MINUTE))
        assert 0 == self.charged(mine)

    def test_so_many_dialogues_are_charged_to_one(self) -> None:
        """One more is refused, in the transaction that would keep it; who
        has fewer, or is charged nothing, is not."""
        for number in range(4):
            dialogue = evolve(
                BEGUN, transaction=f"{number:032x}", charged_to="me"
            )
            opened = self.store.open_dialogue(dialogue, NOW, 3)
            if number < 3:
                self.wait(opened)
                continue
            with pytest.raises(Throttled):
                self.wait(opened)
            assert self.found(dialogue) is None
        assert 3 == self.charged(dialogue)
        other = evolve(dialogue, charged_to="other")
        self.wait(self.store.open_dialogue(other, NOW, 1))
        self.wait(
            self.store.open_dialogue(
                evolve(dialogue, transaction="ff", charged_to=""), NOW
            )
        )

    def test_what_is_begun_over_an_expired_one_counts_once(self) -> None:
        """As if that had been purged; a dialogue that goes on is kept."""
        mine = evolve(BEGUN, charged_to="me")
        self.wait(self.store.open_dialogue(mine, NOW, 9))
        with pytest.raises(Conflict):
            self.wait(self.store.open_dialogue(mine, NOW, 9))
        assert 1 == self.charged(mine)
        later = NOW + MINUTE
        other = evolve(mine, charged_to="other", expires_at=later + 2 * MINUTE)
        self.wait(self.store.open_dialogue(other, later, 9))
        assert (0, 1) == (self.charged(mine), self.charged(other))
        self.wait(self.store.purge_dialogues(later))
        assert 1 == self.charged(other)

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
