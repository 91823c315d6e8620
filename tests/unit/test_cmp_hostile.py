# SPDX-License-Identifier: MIT
"""
What somebody would try who wants more of CMP than is his: what he has
recorded, what is another's, and more work than his message is worth.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from cmp_client import (
    IMPLICIT,
    Signer,
    asks,
    cert_conf,
    cn,
    header_of,
    make_ra_site,
    make_site,
    new_key,
    pbm,
    pkcs10,
    poll_req,
    protected_by_secret,
    rev_req,
    signed,
)
from twisted.internet.defer import fail

from trstctl.errors import Unavailable
from trstctl.model import CertificateStatus, RequestState
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp import PKIBody, prepare, read_message
from trstctl.pkix.cmp_bodies import read_nested
from trstctl.pkix.cmp_header import GeneralInfo, party
from trstctl.pkix.cmp_itav import INFO_TYPES
from trstctl.pkix.cmp_protection import MAX_ITERATIONS
from trstctl.pkix.crmf_template import CertId, CertTemplate
from trstctl.policy.profile import AllowSettings, ProfileSettings
from trstctl.protocols.cmp.header import ANNOUNCEMENTS, MAX_SENDER
from trstctl.protocols.cmp.nesting import MAX_BATCH
from trstctl.testing import TENANT, result_of

GENM = PKIBody("genm", der.sequence())
LASTING = ProfileSettings(
    subject={"CN": ProfileSettings().subject["CN"]},
    validity_default=timedelta(days=900),
    validity_maximum=timedelta(days=900),
)
HELD = evolve(
    LASTING,
    approval="always",
    allow=AllowSettings(
        certificate_profiles=("device",), principals=("certificate",)
    ),
)
DAYS = timedelta(days=1).total_seconds()


def named(device: Signer) -> CertTemplate:
    """Return what names a certificate."""
    facts = read_certificate(device.certificate)
    return CertTemplate(issuer=facts.issuer, serial=facts.serial)


def going_on(reply: Any) -> dict[str, Any]:
    """Return what the header of the next message says."""
    return {
        "transaction_id": reply.header.transaction_id,
        "recip_nonce": reply.header.sender_nonce,
    }


class ReplayTests:
    """What was recorded is worth nothing."""

    def test_a_release_is_not_repeated_later(self) -> None:
        """However long ago: it would take off hold what was put on anew."""
        site, ra = make_ra_site()
        device = site.enrolled("branch-1")
        site.send(signed(ra, rev_req(named(device), 6)))
        release = signed(ra, rev_req(named(device), 8))
        done = site.send(release)
        assert "accepted" == done.pki_status
        serial = site.record(device.certificate).serial
        result_of(site.ra.revoke(TENANT, serial, "certificateHold", "me"))
        for _ in range(3):
            site.clock.advance(10 * DAYS)
            assert done == site.send(release)
            status = site.record(device.certificate).status
            assert CertificateStatus.REVOKED is status

    @pytest.mark.parametrize("days", [0, 2, 20])
    def test_a_request_at_another_endpoint(self, days: int) -> None:
        """Its secret is for the profile of one; and is used up there."""
        site = make_site(
            labels={"other": {}, "servers": {"profile": "tls-server"}}
        )
        secret = site.secret(life=timedelta(days=30))
        message = protected_by_secret(secret, asks(), **IMPLICIT)
        assert "accepted" == site.send(message).pki_status
        site.clock.advance(days * DAYS)
        for path in ("/cmp/p/other", "/cmp/p/servers"):
            reply = site.send(message, path)
            assert "rejection" == reply.pki_status
        assert 1 == len(site.store.tables.certificates)

    @pytest.mark.parametrize("days", [0, 2, 400])
    @pytest.mark.parametrize("kind", ["cr", "kur", "p10cr"])
    def test_a_signed_request_at_another_endpoint(
        self, kind: str, days: int
    ) -> None:
        """What protects it says nothing of the path: transactionIdInUse,
        now and however much later."""
        site = make_site(
            {"device": LASTING, "long": LASTING},
            labels={"other": {}, "long": {"profile": "long"}},
        )
        device = site.enrolled()
        body = pkcs10() if kind == "p10cr" else asks(kind)
        message = signed(device, body, message_time=None, **IMPLICIT)
        assert "accepted" == site.send(message).pki_status
        site.clock.advance(days * DAYS)
        for path in ("/cmp/p/other", "/cmp/p/long"):
            reply = site.send(message, path)
            assert (
                "certRevoked"
                if kind == "kur" and days
                else "transactionIdInUse"
            ) == reply.failure
        assert 2 == len(site.store.tables.certificates)

    @pytest.mark.parametrize("kind", ["ir", "cr", "p10cr"])
    def test_a_signed_request_much_later(self, kind: str) -> None:
        """It enrolls once, without messageTime and however long ago; who
        begins anew with the same key enrolls again."""
        site = make_site(
            {"device": LASTING},
            allow={"certificate": ("ir", "cr", "p10cr", "kur")},
        )
        device, key = site.enrolled(), new_key()
        body = pkcs10(key=key) if kind == "p10cr" else asks(kind, key=key)
        message = signed(device, body, message_time=None, **IMPLICIT)
        first = site.send(message)
        site.clock.advance(0.9 * DAYS)
        assert first == site.send(message)
        for days in (1, 7, 30, 300):
            site.clock.advance(days * DAYS)
            result_of(site.store.purge_dialogues(site.ra.now()))
            again = site.send(message)
            assert ("transactionIdInUse", "transaction-id-used") == (
                again.failure,
                again.code,
            )
        assert 2 == len(site.store.tables.certificates)
        anew = site.send(signed(device, body, message_time=None, **IMPLICIT))
        assert "accepted" == anew.pki_status
        assert first.certificate != anew.certificate

    def test_a_request_without_a_transaction_id_much_later(self) -> None:
        """The octets name it, then too."""
        site = make_site({"device": LASTING})
        device = site.enrolled()
        message = signed(
            device,
            asks("cr"),
            message_time=None,
            transaction_id=None,
            **IMPLICIT,
        )
        assert "accepted" == site.send(message).pki_status
        site.clock.advance(2 * DAYS)
        assert "transactionIdInUse" == site.send(message).failure
        assert 2 == len(site.store.tables.certificates)

    def test_an_update_that_was_rejected(self) -> None:
        """Its message brings nothing more, though the certificate that has
        signed it is in service yet."""
        site = make_site({"device": LASTING})
        device = site.enrolled()
        message = signed(device, asks("kur"), message_time=None)
        reply = site.send(message)
        status = der.sequence(der.integer(2))
        site.send(
            signed(
                device,
                cert_conf(reply.certificate, status=status),
                **going_on(reply),
            )
        )
        site.clock.advance(2 * DAYS)
        assert "transactionIdInUse" == site.send(message).failure
        assert 2 == len(site.store.tables.certificates)
        anew = site.send(signed(device, asks("kur"), **IMPLICIT))
        assert "accepted" == anew.pki_status

    def test_what_came_to_nothing(self) -> None:
        """Nothing was answered: the same message may yet enroll."""
        site = make_site({"device": LASTING})
        device = site.enrolled()
        message = signed(device, asks("cr"), message_time=None, **IMPLICIT)
        sign = site.ra.rules.authorities["issuing"].sign

        def failing(_: bytes) -> Any:
            return fail(Unavailable())

        authority: Any = site.ra.rules.authorities["issuing"]
        authority.sign = failing
        assert "systemUnavail" == site.send(message).failure
        authority.sign = sign
        site.clock.advance(2 * DAYS)
        assert "accepted" == site.send(message).pki_status
        site.clock.advance(2 * DAYS)
        assert "transactionIdInUse" == site.send(message).failure

    def test_what_a_person_has_denied(self) -> None:
        """Nobody is asked again because somebody has recorded it."""
        site = make_site(
            {"device": LASTING, "held": HELD},
            labels={"held": {"profile": "held"}},
        )
        device = site.enrolled()
        message = signed(device, asks("cr"), message_time=None)
        reply = site.send(message, "/cmp/p/held")
        assert "waiting" == reply.pki_status
        (held,) = result_of(
            site.store.list_requests(TENANT, RequestState.HELD, 9)
        )
        now = site.ra.now()
        result_of(
            site.store.decide_request(
                TENANT, held.id, False, "me", "", now, now + timedelta(days=7)
            )
        )
        site.clock.advance(20 * DAYS)
        again = site.send(message, "/cmp/p/held")
        assert "transactionIdInUse" == again.failure
        assert [] == result_of(
            site.store.list_requests(TENANT, RequestState.HELD, 9)
        )

    def test_a_release_at_another_endpoint(self) -> None:
        """Nor is a revocation repeated there."""
        site, ra = make_ra_site()
        device = site.enrolled("branch-1")
        site.send(signed(ra, rev_req(named(device), 6)))
        release = signed(ra, rev_req(named(device), 8), message_time=None)
        assert "accepted" == site.send(release).pki_status
        serial = site.record(device.certificate).serial
        result_of(site.ra.revoke(TENANT, serial, "certificateHold", "me"))
        for _ in range(2):
            refused = site.send(release, "/cmp/p/ra")
            assert "transactionIdInUse" == refused.failure
            site.clock.advance(10 * DAYS)
        status = site.record(device.certificate).status
        assert CertificateStatus.REVOKED is status

    def test_a_transaction_of_another_endpoint(self) -> None:
        """Its transactionID is unknown there."""
        site = make_site(labels={"other": {}})
        secret = site.secret()
        reply = site.send(protected_by_secret(secret, asks()))
        refused = site.send(
            protected_by_secret(
                secret, cert_conf(reply.certificate), **going_on(reply)
            ),
            "/cmp/p/other",
        )
        assert ("badRequest", "transaction-unknown") == (
            refused.failure,
            refused.code,
        )

    def test_a_transaction_id_after_its_end(self) -> None:
        """What is forgotten is not another's: the secret stays used up."""
        site = make_site()
        secret = site.secret(life=timedelta(days=30))
        message = protected_by_secret(secret, asks(), **IMPLICIT)
        first = site.send(message)
        site.clock.advance(2 * DAYS)
        again = site.send(message)
        assert first.certificate == again.certificate
        other = protected_by_secret(
            secret,
            asks(),
            transaction_id=read_message(message).header.transaction_id,
        )
        assert "transactionIdInUse" == site.send(other).failure
        assert 1 == len(site.store.tables.certificates)

    def test_without_a_transaction_id(self) -> None:
        """It has one all the same: the octets say which."""
        site = make_site()
        device = site.enrolled()
        message = signed(device, asks("cr"), transaction_id=None, **IMPLICIT)
        first = site.send(message)
        assert "accepted" == first.pki_status
        assert first == site.send(message)
        assert 2 == len(site.store.tables.certificates)


class OthersTests:
    """What is another's stays his."""

    def test_nobody_else_confirms(self) -> None:
        """Another device, another secret: wrongAuthority, and it can yet be
        confirmed by who asked."""
        site = make_site()
        device, other = site.enrolled("a"), site.enrolled("b")
        reply = site.send(signed(device, asks("cr", "a")))
        body = cert_conf(reply.certificate)
        refused = site.send(signed(other, body, **going_on(reply)))
        assert "wrongAuthority" == refused.failure
        done = site.send(signed(device, body, **going_on(reply)))
        assert "pkiconf" == done.type
        secret = site.secret()
        reply = site.send(protected_by_secret(secret, asks()))
        refused = site.send(
            protected_by_secret(
                site.secret(), cert_conf(reply.certificate), **going_on(reply)
            )
        )
        assert "wrongAuthority" == refused.failure

    def test_nobody_else_ends_it(self) -> None:
        """Neither by a rejection nor by an error."""
        site = make_site()
        secret = site.secret()
        reply = site.send(protected_by_secret(secret, asks()))
        status = der.sequence(der.integer(2))
        for body in (
            PKIBody("error", der.sequence(status)),
            cert_conf(reply.certificate, status=status),
            PKIBody("certConf", der.sequence()),
            poll_req(-1),
        ):
            refused = site.send(
                protected_by_secret(site.secret(), body, **going_on(reply))
            )
            assert "wrongAuthority" == refused.failure
        record = site.record(reply.certificate)
        assert CertificateStatus.VALID is record.status

    def test_nobody_else_learns_what_waits(self) -> None:
        """A transaction that a person has to decide is unknown to all but who
        has begun it, by whatever message and protection they ask."""
        site = make_site(
            {"guarded": ProfileSettings(approval="always")},
            profile="guarded",
        )
        waiting = site.send(
            protected_by_secret(site.secret(profile="guarded"), asks())
        )
        assert "waiting" == waiting.pki_status
        unknown = {**going_on(waiting), "transaction_id": bytes(16)}
        for body in (poll_req(0), poll_req(-1), cert_conf(b"")):
            for header in (going_on(waiting), unknown):
                refused = site.send(
                    protected_by_secret(
                        site.secret(profile="guarded"), body, **header
                    )
                )
                assert ("badRequest", "transaction-unknown") == (
                    refused.failure,
                    refused.code,
                )

    @pytest.mark.parametrize("implicit", [True, False])
    @pytest.mark.parametrize("kind", ["certConf", "error"])
    def test_nobody_rejects_what_is_in_service(
        self, kind: str, implicit: bool
    ) -> None:
        """Whoever has learnt a secret that is used up gets a certificate
        that everybody may see, and cannot have it revoked."""
        site = make_site()
        secret, body = site.secret(), asks()
        how = IMPLICIT if implicit else {}
        first = site.send(protected_by_secret(secret, body, **how))
        if not implicit:
            taken = cert_conf(first.certificate)
            site.send(protected_by_secret(secret, taken, **going_on(first)))
        again = site.send(protected_by_secret(secret, body))
        assert first.certificate == again.certificate
        rejection = der.sequence(der.integer(2))
        refused = PKIBody("error", der.sequence(rejection))
        if kind == "certConf":
            refused = cert_conf(first.certificate, status=rejection)
        reply = site.send(
            protected_by_secret(secret, refused, **going_on(again))
        )
        if kind == "certConf":
            assert ("certConfirmed", "confirmed-before") == (
                reply.failure,
                reply.code,
            )
        else:
            assert "pkiconf" == reply.type
        status = site.record(first.certificate).status
        assert CertificateStatus.VALID is status

    def test_nobody_updates_anothers(self) -> None:
        """Not by another subject in his own update."""
        site = make_site()
        device, other = site.enrolled("a"), site.enrolled("b")
        reply = site.send(signed(device, asks("kur", "b"), **IMPLICIT))
        assert "rejection" == reply.pki_status
        status = site.record(other.certificate).status
        assert CertificateStatus.VALID is status

    @pytest.mark.parametrize("kind", ["ir", "cr", "kur"])
    def test_no_authority_makes_another(self, kind: str) -> None:
        """RFC 9810, section 8.10: it would outlive its own revocation."""
        site, ra = make_ra_site()
        other = site.send(
            protected_by_secret(
                site.secret(profile="ra"), asks(name="branch-ra"), **IMPLICIT
            ),
            "/cmp/p/ra",
        )
        assert "accepted" == other.pki_status
        refused = site.send(
            signed(ra, asks(kind, "branch-ra"), **IMPLICIT), "/cmp/p/ra"
        )
        assert "badCertTemplate" == refused.failure
        own = site.send(signed(ra, asks("kur", "RA"), **IMPLICIT), "/cmp/p/ra")
        assert "accepted" == own.pki_status

    @pytest.mark.parametrize("replacing", [True, False])
    def test_who_was_revoked_confirms_nothing(self, replacing: bool) -> None:
        """Whoever has stolen a key must not get past its revocation."""
        profile = ProfileSettings(
            subject={"CN": ProfileSettings().subject["CN"]},
            revoke_on_reenroll=replacing,
        )
        site = make_site({"device": profile})
        device = site.enrolled()
        reply = site.send(signed(device, asks("kur")))
        serial = site.record(device.certificate).serial
        result_of(site.ra.revoke(TENANT, serial, "keyCompromise", "me"))
        taken = cert_conf(reply.certificate)
        refused = site.send(signed(device, taken, **going_on(reply)))
        assert ("certRevoked", "signer-revoked") == (
            refused.failure,
            refused.code,
        )
        assert site.record(reply.certificate).confirm_by is not None

    def test_an_authority_names_what_it_updates(self) -> None:
        """RFC 9483, section 4.1.3: badCertId, if it is another device's."""
        site, ra = make_ra_site()
        one, other = site.enrolled("branch-1"), site.enrolled("branch-2")
        for device, issuer, expected in (
            (other, None, "badCertId"),
            (one, cn("other"), "badCertId"),
            (None, None, "badCertId"),
            (one, None, ""),
        ):
            facts = read_certificate((device or one).certificate)
            named = CertId(
                issuer or facts.issuer,
                f"{int(facts.serial, 16):x}" if device else "77",
            )
            control = der.sequence(der.oid("1.3.6.1.5.5.7.5.1.5"), named.der())
            body = asks("kur", "branch-1", controls=der.sequence(control))
            reply = site.send(signed(ra, body, **IMPLICIT))
            assert ("kup", expected) == (reply.type, reply.failure)
        assert site.record(one.certificate).superseded_by
        assert not site.record(other.certificate).superseded_by

    def test_a_refused_party_leaves_no_trace(self) -> None:
        """A transaction is begun by what is accepted only."""
        site = make_site()
        device = site.enrolled()
        before = len(site.store.tables.dialogues)
        for octets in (
            prepare(header_of(), asks()).finish(None),
            protected_by_secret(site.secret(), asks(), text="wrong"),
            protected_by_secret(site.secret(), asks(proof=b"")),
            protected_by_secret(site.secret(), GENM),
            signed(device, rev_req(CertTemplate())),
        ):
            site.send(octets)
        assert before == len(site.store.tables.dialogues)


class WorkTests:
    """Nobody has more done for him than his message is worth."""

    @pytest.mark.parametrize("count", [0, -1, 99, MAX_ITERATIONS + 1, 1 << 31])
    def test_iterations(self, count: int) -> None:
        """Judged before any key is derived: badAlg."""
        site = make_site()
        elsewhere: list[Any] = []
        site.ra._elsewhere = lambda *work: elsewhere.append(work)
        algorithm = evolve(pbm(), iterations=count).der()
        header = header_of(
            protection_alg=algorithm,
            sender_kid=site.secret().record.id.encode(),
        )
        reply = site.send(prepare(header, asks()).finish(bytes(20)))
        assert ("error", "badAlg") == (reply.type, reply.failure)
        assert [] == elsewhere

    def test_a_batch_is_bounded(self) -> None:
        """Before any of it is looked at."""
        site, ra = make_ra_site()
        messages = [
            protected_by_secret(site.secret(), GENM)
            for _ in range(MAX_BATCH + 1)
        ]
        for count, answer in ((MAX_BATCH, "nested"), (MAX_BATCH + 1, "error")):
            body = PKIBody("nested", der.sequence(*messages[:count]))
            assert answer == site.send(signed(ra, body)).type

    def test_nested_once(self) -> None:
        """A nested message is not nested, by itself or in a batch."""
        site, ra = make_ra_site()
        message = protected_by_secret(site.secret(), GENM)
        inner = signed(ra, PKIBody("nested", der.sequence(message)))
        for inside in ((inner,), (message, inner)):
            body = PKIBody("nested", der.sequence(*inside))
            header = read_message(inner).header
            reply = site.send(
                signed(
                    ra,
                    body,
                    transaction_id=header.transaction_id,
                    sender_nonce=header.sender_nonce,
                )
            )
            assert ("error", "badRequest", "nested-type") == (
                reply.type,
                reply.failure,
                reply.code,
            )

    @pytest.mark.parametrize("kind", sorted(ANNOUNCEMENTS))
    def test_nothing_of_a_batch_is_done_for_an_announcement(
        self, kind: str
    ) -> None:
        """It is refused before what is beside it is acted on."""
        site, ra = make_ra_site()
        before = len(site.store.tables.certificates)
        body = PKIBody(
            "nested",
            der.sequence(
                protected_by_secret(site.secret(), asks(), **IMPLICIT),
                protected_by_secret(
                    site.secret(), PKIBody(kind, der.sequence())
                ),
            ),
        )
        reply = site.send(signed(ra, body))
        assert ("error", "nested-type") == (reply.type, reply.code)
        assert before == len(site.store.tables.certificates)

    def test_the_same_is_told_once(self) -> None:
        """A CRL may have megabytes; algorithms have a few octets."""
        site = make_site()
        device = site.enrolled()
        crl = der.sequence(der.oid(INFO_TYPES["currentCRL"]))
        refused = site.send(
            signed(device, PKIBody("genm", der.sequence(crl, crl)))
        )
        assert ("error", "badRequest", "info-twice") == (
            refused.type,
            refused.failure,
            refused.code,
        )
        curves = [
            der.sequence(der.oid(INFO_TYPES["keyPairParamReq"]), der.oid(oid))
            for oid in ("1.2.840.10045.2.1", "1.2.840.113549.1.1.1")
        ]
        told = site.send(
            signed(device, PKIBody("genm", der.sequence(*curves)))
        )
        assert "genp" == told.type

    def test_a_sender_is_bounded(self) -> None:
        """Every answer repeats it, also those that are kept."""
        site = make_site()
        secret = site.secret()
        reply = site.send(
            protected_by_secret(
                secret, asks(), sender=party(cn("n" * MAX_SENDER))
            )
        )
        assert ("error", "badRequest", "sender-length") == (
            reply.type,
            reply.failure,
            reply.code,
        )

    def test_originals_are_bounded(self) -> None:
        """One, whatever their number is."""
        site, ra = make_ra_site()
        proofs: list[Any] = []
        site.ra.challenges.prove = lambda *work, **how: proofs.append(work)
        key = new_key()
        original = protected_by_secret(site.secret(), asks(key=key))
        info = GeneralInfo(orig_messages=64 * (original,))
        reply = site.send(
            signed(
                ra,
                asks("cr", "branch-1", key, proof=b"\x80\x00"),
                general_info=info,
            )
        )
        assert "orig-message-count" == reply.code
        assert [] == proofs


class ForgetfulTests:
    """Who leaves out what was sent before is not refused for it."""

    def test_a_batch_of_confirmations(self) -> None:
        """RFC 9483, section 3.3: the signer is known in a transaction."""
        site, ra = make_ra_site()
        device = site.enrolled()
        reply = site.send(signed(device, asks("cr")))
        confirm = signed(
            device, cert_conf(reply.certificate), extra=(), **going_on(reply)
        )
        question = protected_by_secret(site.secret(), GENM)
        body = PKIBody("nested", der.sequence(confirm, question))
        answer = site.send(signed(ra, body))
        assert "nested" == answer.type
        inside = read_nested(read_message(answer.octets).body.value)
        kinds = [read_message(one).body.type for one in inside]
        assert ["pkiconf", "genp"] == kinds

    def test_a_confirmation_of_nothing(self) -> None:
        """Without a transaction there is nobody to remember."""
        site, ra = make_ra_site()
        device = site.enrolled()
        messages = [
            signed(
                device,
                cert_conf(b"x"),
                extra=(),
                transaction_id=transaction,
            )
            for transaction in (bytes(16), None)
        ]
        question = protected_by_secret(site.secret(), GENM)
        for message, code in zip(
            messages, ("signer-missing", "transaction-id-missing"), strict=True
        ):
            body = PKIBody("nested", der.sequence(message, question))
            reply = site.send(signed(ra, body))
            assert code == reply.code
