# SPDX-License-Identifier: MIT
"""
Tests for :mod:`trstctl.protocols.cmp.original`: origPKIMessage (RFC 9810,
section 5.1.1.3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from cmp_client import (
    IMPLICIT,
    Reply,
    Signer,
    Site,
    asks,
    cert_conf,
    cert_req,
    cn,
    header_of,
    make_ra_site,
    new_key,
    pkcs10,
    protected_by_secret,
    rev_req,
    self_signed,
    signed,
    spki,
)

from trstctl.model import CertificateStatus
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp import PKIBody, prepare, read_message
from trstctl.pkix.cmp_header import GeneralInfo
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.testing import TENANT, result_of

RA_VERIFIED = b"\x80\x00"


def bringing(*originals: bytes, **changes: Any) -> dict[str, Any]:
    """Return the header of a message that replaces the first original."""
    header = read_message(originals[0]).header
    return {
        "transaction_id": header.transaction_id,
        "general_info": GeneralInfo(
            implicit_confirm=True, orig_messages=originals
        ),
        **changes,
    }


def vouched(kind: str, key: Any, name: str = "branch-1") -> PKIBody:
    """Return a request for which a registration authority vouches."""
    return asks(kind, name, key, proof=RA_VERIFIED)


def generated(kind: str) -> PKIBody:
    """Return a request that leaves the key to others."""
    template = CertTemplate(subject=cn("branch-1"))
    one = cert_req(template, new_key(), proof=b"")
    return PKIBody(kind, der.sequence(one))


class OriginalTests:
    """What a registration authority says that it got."""

    def site(self) -> tuple[Site, Signer]:
        """Return a gateway, and an RA for branch-*."""
        return make_ra_site()

    def refused(self, reply: Reply) -> tuple[str, str, str]:
        """Return how a message was refused."""
        return reply.type, reply.failure, reply.code

    def test_under_a_secret(self) -> None:
        """Verified, and not used up: the certificate is the RA's to ask."""
        site, ra = self.site()
        key, secret = new_key(), site.secret()
        original = protected_by_secret(secret, asks("ir", "other", key))
        reply = site.send(signed(ra, vouched("cr", key), **bringing(original)))
        assert ("cp", "accepted") == (reply.type, reply.pki_status)
        record = site.record(reply.certificate)
        assert "CN=branch-1" == record.subject
        assert record.principal.startswith("ra:")
        again = site.send(protected_by_secret(secret, asks(), **IMPLICIT))
        assert "accepted" == again.pki_status

    @pytest.mark.parametrize("kind", ["cr", "p10cr"])
    def test_signed_by_a_device(self, kind: str) -> None:
        """By a certificate of ours; the kind of request may change."""
        site, ra = self.site()
        key, device = new_key(), site.enrolled()
        body = pkcs10("branch-1", key) if kind == "p10cr" else asks(key=key)
        original = signed(device, body)
        reply = site.send(signed(ra, vouched("cr", key), **bringing(original)))
        assert "accepted" == reply.pki_status

    def test_a_manufacturer_that_only_the_ra_knows(self) -> None:
        """Its signature must verify; the RA answers for who it is."""
        site, ra = self.site()
        key, own = new_key(), new_key()
        stranger = Signer(self_signed(own), own)
        original = signed(stranger, asks("ir", key=key))
        reply = site.send(signed(ra, vouched("ir", key), **bringing(original)))
        assert "accepted" == reply.pki_status

    def test_a_revoked_device(self) -> None:
        """Whom we know better than the RA does."""
        site, ra = self.site()
        key, device = new_key(), site.enrolled()
        serial = site.record(device.certificate).serial
        result_of(site.ra.revoke(TENANT, serial, "keyCompromise", "me"))
        original = signed(device, asks("cr", key=key))
        reply = site.send(signed(ra, vouched("cr", key), **bringing(original)))
        assert ("error", "certRevoked", "signer-revoked") == self.refused(
            reply
        )

    @pytest.mark.parametrize(
        "original",
        [
            lambda site, key: protected_by_secret(
                site.secret(), asks(key=key), text="wrong"
            ),
            lambda site, key: protected_by_secret(
                evolve(
                    site.secret(),
                    record=evolve(site.secret().record, id="ff" * 12),
                ),
                asks(key=key),
            ),
            lambda site, key: signed(
                evolve(site.enrolled(), key=new_key()), asks("cr", key=key)
            ),
            lambda site, key: signed(
                site.enrolled(), asks("cr", key=key), extra=()
            ),
            lambda _, key: prepare(header_of(), asks(key=key)).finish(None),
            lambda site, key: protected_by_secret(
                site.secret(), asks(key=key), pvno=1
            ),
        ],
    )
    def test_a_protection_that_does_not_verify(
        self, original: Callable[[Site, Any], bytes]
    ) -> None:
        """badMessageCheck, whatever the reason is; nothing is issued."""
        site, ra = self.site()
        key = new_key()
        octets = original(site, key)
        before = len(site.store.tables.certificates)
        reply = site.send(signed(ra, vouched("cr", key), **bringing(octets)))
        assert (
            "error",
            "badMessageCheck",
            "orig-message-protection",
        ) == self.refused(reply)
        assert before == len(site.store.tables.certificates)

    def test_guesses_are_throttled(self) -> None:
        """A registration authority is no way round the lock-out."""
        site, ra = self.site()
        key, secret = new_key(), site.secret()
        for _ in range(10):
            original = protected_by_secret(secret, asks(key=key), text="no")
            site.send(signed(ra, vouched("cr", key), **bringing(original)))
        original = protected_by_secret(secret, asks(key=key), text="no")
        reply = site.send(signed(ra, vouched("cr", key), **bringing(original)))
        assert "systemUnavail" == reply.failure

    @pytest.mark.parametrize(
        ("body", "changes"),
        [
            (vouched("cr", new_key()), {}),  # another key
            (pkcs10("branch-1"), {}),
            (generated("cr"), {}),
            (PKIBody("genm", der.sequence()), {}),
            (None, {"transaction_id": bytes(16)}),
        ],
    )
    def test_the_original_of_another_message(
        self, body: PKIBody | None, changes: dict[str, Any]
    ) -> None:
        """Another key, kind or transaction: badMessageCheck."""
        site, ra = self.site()
        key = new_key()
        original = protected_by_secret(site.secret(), asks(key=key))
        reply = site.send(
            signed(
                ra,
                body or vouched("cr", key),
                **bringing(original, **changes),
            )
        )
        assert (
            "error",
            "badMessageCheck",
            "orig-message-other",
        ) == self.refused(reply)

    def test_the_original_proof_counts(self) -> None:
        """RFC 9810, section 5.2.8.1: that is what it is for."""
        site, ra = self.site()
        key = new_key()
        template = CertTemplate(subject=cn("device"), public_key=spki(key))
        body = PKIBody("ir", der.sequence(cert_req(template, new_key())))
        original = protected_by_secret(site.secret(), body)
        reply = site.send(signed(ra, vouched("ir", key), **bringing(original)))
        assert ("error", "badPOP") == (reply.type, reply.failure)

    def test_an_original_without_a_proof(self) -> None:
        """The RA has found out by other means, and says so."""
        site, ra = self.site()
        key = new_key()
        original = protected_by_secret(site.secret(), asks(key=key, proof=b""))
        reply = site.send(signed(ra, vouched("ir", key), **bringing(original)))
        assert "accepted" == reply.pki_status

    def test_a_key_that_is_yet_to_be_made(self) -> None:
        """Both leave it out: the same, though it may not be had here."""
        site, ra = self.site()
        original = protected_by_secret(site.secret(), generated("ir"))
        reply = site.send(signed(ra, generated("ir"), **bringing(original)))
        assert "ip" == reply.type

    @pytest.mark.parametrize(
        "body",
        [
            PKIBody("ir", der.sequence(der.integer(1))),
            PKIBody("p10cr", der.sequence(der.integer(1))),
        ],
    )
    def test_an_original_that_does_not_decode(self, body: PKIBody) -> None:
        """badDataFormat."""
        site, ra = self.site()
        original = protected_by_secret(site.secret(), body)
        reply = site.send(
            signed(ra, vouched("ir", new_key()), **bringing(original))
        )
        assert (
            "error",
            "badDataFormat",
            "orig-message-malformed",
        ) == self.refused(reply)

    def test_two_requests_in_an_original(self) -> None:
        """It is one request that was changed."""
        site, ra = self.site()
        key = new_key()
        template = CertTemplate(subject=cn("a"), public_key=spki(key))
        one = cert_req(template, key)
        body = PKIBody("ir", der.sequence(one, one))
        original = protected_by_secret(site.secret(), body)
        reply = site.send(signed(ra, vouched("ir", key), **bringing(original)))
        assert "orig-message-malformed" == reply.code

    def test_octets_that_are_no_message(self) -> None:
        """badDataFormat."""
        site, ra = self.site()
        info = GeneralInfo(orig_messages=(b"\x30\x00",))
        reply = site.send(
            signed(ra, vouched("ir", new_key()), general_info=info)
        )
        assert (
            "error",
            "badDataFormat",
            "orig-message-malformed",
        ) == self.refused(reply)

    def test_exactly_one(self) -> None:
        """RFC 9810, section 5.1.1.3: badRequest."""
        site, ra = self.site()
        key = new_key()
        original = protected_by_secret(site.secret(), asks(key=key))
        reply = site.send(
            signed(ra, vouched("ir", key), **bringing(original, original))
        )
        assert ("error", "badRequest", "orig-message-count") == self.refused(
            reply
        )

    def test_nobody_else_brings_one(self) -> None:
        """O-1: neither a device nor who knows a secret."""
        site, _ = self.site()
        key, device = new_key(), site.enrolled()
        original = protected_by_secret(site.secret(), asks(key=key))
        for octets in (
            signed(device, asks("cr", key=key), **bringing(original)),
            protected_by_secret(
                site.secret(), asks(key=key), **bringing(original)
            ),
        ):
            assert ("error", "notAuthorized", "orig-message") == self.refused(
                site.send(octets)
            )

    def test_a_revocation(self) -> None:
        """Of the same certificate; else badMessageCheck, told by rp."""
        site, ra = self.site()
        device, other = site.enrolled("branch-1"), site.enrolled("branch-2")
        templates = []
        for one in (device, other):
            facts = read_certificate(one.certificate)
            templates.append(
                CertTemplate(issuer=facts.issuer, serial=facts.serial)
            )
        original = signed(device, rev_req(templates[0], 1))
        reply = site.send(
            signed(ra, rev_req(templates[1], 1), **bringing(original))
        )
        assert (
            "rp",
            "badMessageCheck",
            "orig-message-other",
        ) == self.refused(reply)
        done = site.send(
            signed(ra, rev_req(templates[0], 4), **bringing(original))
        )
        assert ("rp", "accepted") == (done.type, done.pki_status)
        status = site.record(device.certificate).status
        assert CertificateStatus.REVOKED is status

    def test_a_question(self) -> None:
        """genm: the very same body."""
        site, ra = self.site()
        genm = PKIBody("genm", der.sequence())
        original = signed(site.enrolled(), genm)
        reply = site.send(signed(ra, genm, **bringing(original)))
        assert "genp" == reply.type

    def test_a_message_that_goes_on(self) -> None:
        """Nothing depends on it there: it is not looked at."""
        site, ra = self.site()
        reply = site.send(signed(ra, asks("cr", "branch-1")))
        info = GeneralInfo(orig_messages=(b"\x30\x00",))
        done = site.send(
            signed(
                ra,
                cert_conf(reply.certificate),
                transaction_id=reply.header.transaction_id,
                recip_nonce=reply.header.sender_nonce,
                general_info=info,
            )
        )
        assert "pkiconf" == done.type


class NestedTests:
    """One original for each message inside, in order."""

    def test_one_inside(self) -> None:
        """Beside the message that it has become."""
        site, ra = make_ra_site()
        key = new_key()
        original = protected_by_secret(site.secret(), asks(key=key))
        header = read_message(original).header
        copied = {
            "transaction_id": header.transaction_id,
            "sender_nonce": header.sender_nonce,
        }
        inner = signed(ra, vouched("ir", key), **IMPLICIT, **copied)
        for originals, kind, code in (
            ((original,), "ip", ""),
            ((original, original), "error", "orig-message-count"),
        ):
            info = GeneralInfo(orig_messages=originals)
            body = PKIBody("nested", der.sequence(inner))
            reply = site.send(signed(ra, body, general_info=info, **copied))
            assert kind == reply.type
            if code:
                assert code == reply.code

    def test_a_batch(self) -> None:
        """In the same order: RFC 9810, section 5.1.1.3."""
        site, ra = make_ra_site()
        keys = [new_key(), new_key()]
        originals = [
            protected_by_secret(site.secret(), asks(key=key)) for key in keys
        ]
        inside = [
            signed(
                ra,
                vouched("ir", key, f"branch-{number}"),
                transaction_id=read_message(original).header.transaction_id,
            )
            for number, (key, original) in enumerate(
                zip(keys, originals, strict=True)
            )
        ]
        body = PKIBody("nested", der.sequence(*inside))
        for order, answer in (
            (originals[::-1], "error"),
            (originals, "nested"),
        ):
            info = GeneralInfo(orig_messages=tuple(order))
            reply = site.send(signed(ra, body, general_info=info))
            assert answer == reply.type
