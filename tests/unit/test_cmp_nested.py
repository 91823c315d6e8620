# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.protocols.cmp.nesting`."""

from __future__ import annotations

from typing import Any

import pytest
from cmp_client import (
    IMPLICIT,
    Reply,
    asks,
    cert_conf,
    make_ra_site,
    protected_by_secret,
    signed,
)

from trstctl.pkix import der
from trstctl.pkix.cmp import PKIBody, read_message
from trstctl.pkix.cmp_bodies import read_nested


def nested(*messages: bytes) -> PKIBody:
    """Return a body with these messages."""
    return PKIBody("nested", der.sequence(*messages))


def copied(message: bytes, **changes: Any) -> dict[str, Any]:
    """Return what the outer header has of the message inside."""
    header = read_message(message).header
    return {
        "transaction_id": header.transaction_id,
        "sender_nonce": header.sender_nonce,
        **changes,
    }


class NestedTests:
    """Messages that a registration authority passes on (RFC 9483, 5.2.2)."""

    def test_one_message_is_answered_as_itself(self) -> None:
        """Section 5.2.2.1: under its own protection, to the end."""
        site, ra = make_ra_site()
        secret = site.secret()
        message = protected_by_secret(secret, asks())
        reply = site.send(signed(ra, nested(message), **copied(message)))
        assert ("ip", "accepted") == (reply.type, reply.pki_status)
        assert reply.is_mac_of(secret)
        confirm = protected_by_secret(
            secret,
            cert_conf(reply.certificate),
            transaction_id=reply.header.transaction_id,
            recip_nonce=reply.header.sender_nonce,
        )
        done = site.send(signed(ra, nested(confirm), **copied(confirm)))
        assert "pkiconf" == done.type

    def test_what_is_inside_counts_by_its_own_protection(self) -> None:
        """Whoever signs outside adds nothing to it."""
        site, ra = make_ra_site()
        message = protected_by_secret(site.secret(), asks(), text="wrong")
        reply = site.send(signed(ra, nested(message), **copied(message)))
        assert ("error", "badMessageCheck") == (reply.type, reply.failure)

    @pytest.mark.parametrize(
        ("changes", "failure"),
        [
            ({"transaction_id": bytes(16)}, "badRequest"),
            ({"sender_nonce": bytes(16)}, "badSenderNonce"),
            ({"transaction_id": None}, "badRequest"),
        ],
    )
    def test_transaction_and_nonce_are_copied(
        self, changes: dict[str, Any], failure: str
    ) -> None:
        """Section 5.2.2.1."""
        site, ra = make_ra_site()
        message = protected_by_secret(site.secret(), asks())
        reply = site.send(
            signed(ra, nested(message), **copied(message, **changes))
        )
        assert ("error", failure) == (reply.type, reply.failure)

    def test_a_batch_is_answered_in_order(self) -> None:
        """Section 5.2.2.2: each as itself, also who is refused."""
        site, ra = make_ra_site()
        secrets = [site.secret(), site.secret(), site.secret()]
        proofs: list[bytes | None] = [None, b"", None]
        # The last is refused where the audit log hears of it: used up.
        site.send(protected_by_secret(secrets[2], asks(), **IMPLICIT))
        reply = site.send(
            signed(
                ra,
                nested(
                    *(
                        protected_by_secret(
                            secret, asks(proof=proof), **IMPLICIT
                        )
                        for secret, proof in zip(secrets, proofs, strict=True)
                    )
                ),
            )
        )
        assert "nested" == reply.type
        assert reply.is_signed()
        body = read_message(reply.octets).body
        answers = [Reply(200, "", each) for each in read_nested(body.value)]
        assert ["", "badPOP", "notAuthorized"] == [
            each.failure for each in answers
        ]
        for answer, secret in zip(answers, secrets, strict=True):
            assert answer.is_mac_of(secret)

    def test_a_batch_is_refused_for_one_of_its_parts(self) -> None:
        """Section 5.2.2.2; nothing is issued then."""
        site, ra = make_ra_site()
        before = len(site.store.tables.certificates)
        good = protected_by_secret(site.secret(), asks())
        own = read_message(good).header
        for bad, failure in (
            (
                protected_by_secret(site.secret(), asks(), text="wrong"),
                "badMessageCheck",
            ),
            (
                protected_by_secret(
                    site.secret(), asks(), transaction_id=own.transaction_id
                ),
                "badRequest",
            ),
            (
                protected_by_secret(
                    site.secret(), asks(), sender_nonce=own.sender_nonce
                ),
                "badSenderNonce",
            ),
            (signed(ra, nested(good)), "badRequest"),
            (b"\x30\x00", "badDataFormat"),
        ):
            reply = site.send(signed(ra, nested(good, bad)))
            assert ("error", failure) == (reply.type, reply.failure)
        many = site.send(signed(ra, nested(*[good] * 17)))
        assert "badRequest" == many.failure
        assert before == len(site.store.tables.certificates)

    def test_only_a_registration_authority_passes_on(self) -> None:
        """M-3."""
        site, _ = make_ra_site()
        message = protected_by_secret(site.secret(), asks())
        reply = site.send(
            signed(site.enrolled(), nested(message), **copied(message))
        )
        assert ("error", "notAuthorized") == (reply.type, reply.failure)
