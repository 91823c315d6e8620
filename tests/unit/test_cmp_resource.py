# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.protocols.cmp`: the straight path."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from attrs import evolve
from cmp_client import (
    IMPLICIT,
    Reply,
    Site,
    asks,
    cert_conf,
    make_site,
    new_key,
    pbmac1,
    pkcs10,
    poll_req,
    protected_by_secret,
    signed,
)
from cryptography import x509

from trstctl.model import CertificateStatus, Purpose, RequestState
from trstctl.pkix import der
from trstctl.pkix.cmp import PKIBody
from trstctl.policy.profile import ProfileSettings
from trstctl.policy.settings import AllowSettings, builtin_profiles
from trstctl.testing import TENANT, Connection, result_of

APPROVED = ProfileSettings(
    subject={"CN": ProfileSettings().subject["CN"]}, approval="always"
)
FROM_DEVICES = evolve(
    APPROVED,
    allow=AllowSettings(
        certificate_profiles=("device",), principals=("certificate",)
    ),
)


@pytest.fixture
def site() -> Site:
    """A gateway."""
    return make_site()


def going_on(reply: Reply, **changes: object) -> dict[str, object]:
    """Return what the header of the next message says."""
    return {
        "transaction_id": reply.header.transaction_id,
        "recip_nonce": reply.header.sender_nonce,
        **changes,
    }


class EnrollmentTests:
    """ir, cr, kur and p10cr (RFC 9483, section 4.1)."""

    def test_ir_with_a_secret_is_answered_under_it(self, site: Site) -> None:
        """RFC 9483, section 3.2: as the request, so the answer."""
        secret = site.secret()
        message = protected_by_secret(secret, asks(), **IMPLICIT)
        reply = site.send(message)
        assert (200, "application/pkixcmp") == (reply.status, reply.media_type)
        assert ("ip", "accepted", 0) == (
            reply.type,
            reply.pki_status,
            reply.cert_req_id,
        )
        assert reply.is_mac_of(secret)
        assert reply.header.general_info.implicit_confirm
        assert secret.record.id.encode() == reply.header.sender_kid
        record = site.record(reply.certificate)
        assert f"token:{secret.record.id}" == record.principal
        assert record.confirm_by is None

    def test_an_answer_under_a_secret_brings_chain_and_trust_anchor(
        self, site: Site
    ) -> None:
        """RFC 9483, section 3.3: the issuers of the new certificate, too."""
        reply = site.send(
            protected_by_secret(site.secret(), asks(), **IMPLICIT)
        )
        issuing, root = site.ra.ca_certificates(site.resource.endpoint)
        assert (issuing,) == reply.extra_certs
        assert root in reply.octets

    def test_pbmac1_is_answered_with_pbmac1(self, site: Site) -> None:
        """RFC 9481, section 6.1.2."""
        secret = site.secret()
        reply = site.send(
            protected_by_secret(secret, asks(), mac=pbmac1(), **IMPLICIT)
        )
        assert "accepted" == reply.pki_status
        assert reply.is_mac_of(secret)

    def test_a_secret_buys_one_certificate(self, site: Site) -> None:
        """I-10, told to who knows the secret."""
        secret = site.secret()
        site.send(protected_by_secret(secret, asks(), **IMPLICIT))
        reply = site.send(protected_by_secret(secret, asks(), **IMPLICIT))
        assert ("ip", "notAuthorized", "secret-used-up") == (
            reply.type,
            reply.failure,
            reply.code,
        )
        result_of_tend(site)
        events = [
            json.loads(record.body)["event"]
            for record in result_of(site.store.audit_records(TENANT, 0, 99))
        ]
        assert 1 == events.count("secret.reused")
        assert "request.refused" not in events

    def test_cr_is_signed_and_so_is_its_answer(self, site: Site) -> None:
        """RFC 9483, section 1.5: by a CMP signer, never by the CA's key."""
        device = site.enrolled()
        reply = site.send(signed(device, asks("cr"), **IMPLICIT))
        assert ("cp", "accepted") == (reply.type, reply.pki_status)
        assert reply.is_signed()
        credential = result_of(site.ra.credentials.get("issuing", Purpose.CMP))
        assert credential.certificate == reply.extra_certs[0]

    def test_p10cr_has_no_cert_req_id(self, site: Site) -> None:
        """RFC 9483, section 4.1.4: certReqId is -1."""
        secret = site.secret()
        reply = site.send(protected_by_secret(secret, pkcs10(), **IMPLICIT))
        assert ("cp", "accepted", -1) == (
            reply.type,
            reply.pki_status,
            reply.cert_req_id,
        )

    def test_kur_supersedes_once_confirmed(self, site: Site) -> None:
        """I-14: the old certificate is replaced by certConf, not before."""
        device = site.enrolled()
        reply = site.send(signed(device, asks("kur")))
        assert ("kup", "accepted") == (reply.type, reply.pki_status)
        new = site.record(reply.certificate)
        assert new.confirm_by is not None
        old = site.record(device.certificate)
        assert CertificateStatus.VALID is old.status
        done = site.send(
            signed(device, cert_conf(reply.certificate), **going_on(reply))
        )
        assert "pkiconf" == done.type
        old = site.record(device.certificate)
        assert (CertificateStatus.SUPERSEDED, new.serial) == (
            old.status,
            old.superseded_by,
        )

    def test_a_profile_revokes_what_an_update_replaces(self) -> None:
        """revoke_on_reenroll counts from the confirmation on, too."""
        rules = evolve(builtin_profiles()["device"], revoke_on_reenroll=True)
        site = make_site({"device": rules})
        device = site.enrolled()
        reply = site.send(signed(device, asks("kur")))
        site.send(
            signed(device, cert_conf(reply.certificate), **going_on(reply))
        )
        record = site.record(device.certificate)
        assert (CertificateStatus.REVOKED, "superseded") == (
            record.status,
            record.revocation_reason,
        )

    def test_kur_with_implicit_confirmation_supersedes_at_once(
        self, site: Site
    ) -> None:
        """I-13."""
        device = site.enrolled()
        site.send(signed(device, asks("kur"), **IMPLICIT))
        status = site.record(device.certificate).status
        assert CertificateStatus.SUPERSEDED is status

    def test_what_the_client_wishes_of_validity_is_the_profiles(
        self, site: Site
    ) -> None:
        """RFC 9810, section 5.2.3: grantedWithMods."""
        from cmp_client import cert_req, cn, spki

        from trstctl.pkix.crmf_template import CertTemplate
        from trstctl.testing import EPOCH

        key = new_key()
        template = CertTemplate(
            subject=cn("device"), public_key=spki(key), not_after=EPOCH
        )
        body = PKIBody("ir", der.sequence(cert_req(template, key)))
        reply = site.send(protected_by_secret(site.secret(), body, **IMPLICIT))
        assert "grantedWithMods" == reply.pki_status

    def test_old_clients_name_no_sender(self, site: Site) -> None:
        """OpenSSL 3.0 sends p10cr from the NULL-DN, and no time is needed."""
        from trstctl.pkix.cmp_header import party

        reply = site.send(
            protected_by_secret(
                site.secret(),
                pkcs10(),
                sender=party(()),
                message_time=None,
                **IMPLICIT,
            )
        )
        assert "accepted" == reply.pki_status


class ConfirmationTests:
    """certConf (RFC 9810, section 5.3.18)."""

    def test_who_does_not_ask_must_confirm_in_time(self, site: Site) -> None:
        """RFC 9810, section 5.1.1.2: confirmWaitTime says by when."""
        secret = site.secret()
        reply = site.send(protected_by_secret(secret, asks()))
        information = reply.header.general_info
        assert not information.implicit_confirm
        assert information.confirm_wait_time is not None
        assert site.record(reply.certificate).confirm_by is not None

    def test_it_is_confirmed(self, site: Site) -> None:
        """By pkiconf, protected with the same secret."""
        secret = site.secret()
        reply = site.send(protected_by_secret(secret, asks()))
        done = site.send(
            protected_by_secret(
                secret, cert_conf(reply.certificate), **going_on(reply)
            )
        )
        assert "pkiconf" == done.type
        assert done.is_mac_of(secret)
        assert site.record(reply.certificate).confirm_by is None

    def test_what_is_not_confirmed_in_time_is_revoked(
        self, site: Site
    ) -> None:
        """RFC 9810, section 5.1.1.2, and I-14."""
        reply = site.send(protected_by_secret(site.secret(), asks()))
        site.clock.advance(299)
        result_of_tend(site)
        status = site.record(reply.certificate).status
        assert CertificateStatus.VALID is status
        site.clock.advance(2)
        result_of_tend(site)
        record = site.record(reply.certificate)
        assert (CertificateStatus.REVOKED, "cessationOfOperation") == (
            record.status,
            record.revocation_reason,
        )

    def test_a_rejected_certificate_is_revoked(self, site: Site) -> None:
        """RFC 9483, section 4.1.1: the answer is pkiconf all the same."""
        secret = site.secret()
        reply = site.send(protected_by_secret(secret, asks()))
        rejection = der.sequence(der.integer(2))
        done = site.send(
            protected_by_secret(
                secret,
                cert_conf(reply.certificate, status=rejection),
                **going_on(reply),
            )
        )
        assert "pkiconf" == done.type
        status = site.record(reply.certificate).status
        assert CertificateStatus.REVOKED is status

    def test_an_empty_cert_conf_rejects(self, site: Site) -> None:
        """RFC 9810, section 5.3.18."""
        secret = site.secret()
        reply = site.send(protected_by_secret(secret, asks()))
        empty = PKIBody("certConf", der.sequence())
        done = site.send(protected_by_secret(secret, empty, **going_on(reply)))
        assert "pkiconf" == done.type
        status = site.record(reply.certificate).status
        assert CertificateStatus.REVOKED is status

    def test_a_client_that_gives_up_is_heard(self, site: Site) -> None:
        """RFC 9810, section 5.3.21: error is answered by pkiconf."""
        secret = site.secret()
        reply = site.send(protected_by_secret(secret, asks()))
        error = PKIBody("error", der.sequence(der.sequence(der.integer(2))))
        done = site.send(protected_by_secret(secret, error, **going_on(reply)))
        assert "pkiconf" == done.type
        status = site.record(reply.certificate).status
        assert CertificateStatus.REVOKED is status

    def test_implicit_confirmation_can_be_forbidden(self) -> None:
        """RFC 9810, section 5.1.1.1: then the client confirms."""
        site = make_site(implicit_confirm=False)
        reply = site.send(
            protected_by_secret(site.secret(), asks(), **IMPLICIT)
        )
        assert not reply.header.general_info.implicit_confirm


def result_of_tend(site: Site) -> None:
    """Do the rounds."""
    from twisted.internet.defer import Deferred

    result_of(Deferred.fromCoroutine(site.ra.tend()))


class TransactionTests:
    """M-4 and M-5."""

    def test_the_same_octets_get_the_same_octets(self, site: Site) -> None:
        """A retry over a lossy network, whenever it comes."""
        secret = site.secret()
        message = protected_by_secret(secret, asks())
        reply = site.send(message)
        assert reply == site.send(message)
        confirm = protected_by_secret(
            secret, cert_conf(reply.certificate), **going_on(reply)
        )
        done = site.send(confirm)
        assert done == site.send(confirm)
        assert 1 == len(site.store.tables.certificates)

    @pytest.mark.parametrize("extra", [{}, IMPLICIT])
    def test_a_transaction_id_is_used_once(
        self, site: Site, extra: dict[str, object]
    ) -> None:
        """Also after the transaction has ended."""
        first = site.send(
            protected_by_secret(
                site.secret(), asks(), transaction_id=bytes(16), **extra
            )
        )
        assert "accepted" == first.pki_status
        second = site.send(
            protected_by_secret(
                site.secret(), asks(), transaction_id=bytes(16), **extra
            )
        )
        assert ("error", "transactionIdInUse") == (
            second.type,
            second.failure,
        )

    def test_another_process_goes_on(self) -> None:
        """M-5: nothing of a transaction is in memory."""
        site, secret = make_site(), None
        secret = site.secret()
        reply = site.send(protected_by_secret(secret, asks()))
        site.resource = type(site.resource)(
            "cmp", site.ra, site.resource.settings
        )
        done = site.send(
            protected_by_secret(
                secret, cert_conf(reply.certificate), **going_on(reply)
            )
        )
        assert "pkiconf" == done.type

    def test_a_lost_dialogue_brings_the_same_certificate(
        self, site: Site
    ) -> None:
        """A crash between issuance and answer: never a second one."""
        message = protected_by_secret(site.secret(), asks())
        reply = site.send(message)
        site.store.tables.dialogues.clear()
        assert reply.certificate == site.send(message).certificate


class PollingTests:
    """RFC 9483, section 4.4."""

    def test_a_held_request_is_polled_for(self) -> None:
        """Waiting, then pollRep until somebody decides, then the answer."""
        site = make_site({"guarded": APPROVED}, profile="guarded")
        secret = site.secret(profile="guarded")
        waiting = site.send(protected_by_secret(secret, asks(), **IMPLICIT))
        assert ("ip", "waiting") == (waiting.type, waiting.pki_status)
        assert not waiting.header.general_info.implicit_confirm
        later = site.send(
            protected_by_secret(secret, poll_req(), **going_on(waiting))
        )
        assert "pollRep" == later.type
        decide(site, approve=True)
        done = site.send(
            protected_by_secret(secret, poll_req(), **going_on(later))
        )
        assert ("ip", "accepted") == (done.type, done.pki_status)
        assert done.header.general_info.implicit_confirm

    def test_a_signer_polls_with_its_certificate(self) -> None:
        """And whoever is refused is told so in the body of the request."""
        site = make_site(
            {"guarded": FROM_DEVICES},
            labels={"guarded": {"profile": "guarded"}},
        )
        device = site.enrolled()
        path = "/.well-known/cmp/p/guarded"
        waiting = site.send(signed(device, asks("cr")), path)
        assert "waiting" == waiting.pki_status
        decide(site, approve=False)
        done = site.send(signed(device, poll_req(), **going_on(waiting)), path)
        assert ("cp", "rejection", "notAuthorized") == (
            done.type,
            done.pki_status,
            done.failure,
        )

    def test_a_client_that_waits_gives_up(self) -> None:
        """RFC 9810, section 5.3.21: nothing is to be revoked then."""
        site = make_site({"guarded": APPROVED}, profile="guarded")
        secret = site.secret(profile="guarded")
        waiting = site.send(protected_by_secret(secret, asks()))
        error = PKIBody("error", der.sequence(der.sequence(der.integer(2))))
        done = site.send(
            protected_by_secret(secret, error, **going_on(waiting))
        )
        assert "pkiconf" == done.type

    def test_only_the_request_is_polled_for(self) -> None:
        """Another certReqId is another request."""
        site = make_site({"guarded": APPROVED}, profile="guarded")
        secret = site.secret(profile="guarded")
        waiting = site.send(protected_by_secret(secret, asks()))
        reply = site.send(
            protected_by_secret(secret, poll_req(1), **going_on(waiting))
        )
        assert "badRequest" == reply.failure


def decide(site: Site, *, approve: bool) -> None:
    """Decide the one held request."""
    (held,) = result_of(site.store.list_requests(TENANT, RequestState.HELD, 9))
    now = site.ra.now()
    result_of(
        site.store.decide_request(
            TENANT, held.id, approve, "me", "", now, now + timedelta(days=1)
        )
    )


class PathTests:
    """RFC 9811, section 3.4."""

    @pytest.mark.parametrize(
        "path",
        [
            "/cmp",
            "/cmp/initialization",
            "/.well-known/cmp",
            "/.well-known/cmp/initialization",
            "/.well-known/cmp/p/other",
            "/.well-known/cmp/p/other/initialization",
        ],
    )
    def test_a_path_is_served(self, path: str) -> None:
        """With the operation's label, or without."""
        site = make_site(labels={"other": {}})
        reply = site.send(
            protected_by_secret(site.secret(), asks(), **IMPLICIT), path
        )
        assert "accepted" == reply.pki_status

    def test_a_label_is_for_its_messages(self, site: Site) -> None:
        """An ir does not come where rr belongs."""
        reply = site.send(
            protected_by_secret(site.secret(), asks()), "/cmp/revocation"
        )
        assert ("badRequest", "label") == (reply.failure, reply.code)

    @pytest.mark.parametrize(
        "path", ["/cmp/p/nobody", "/cmp/no", "/cmp/a/b", "/cmp/p"]
    )
    def test_other_paths_are_not_found(self, site: Site, path: str) -> None:
        """404."""
        assert 404 == site.send(b"", path).status

    def test_what_is_no_message_is_400(self, site: Site) -> None:
        """HTTP says so where no PKIMessage can."""
        assert 400 == site.send(b"nonsense").status

    def test_another_media_type_is_415(self, site: Site) -> None:
        """RFC 9811, section 3.3."""
        reply = site.send(b"", **{"Content-Type": "text/plain"})
        assert 415 == reply.status

    def test_only_post_is_served(self, site: Site) -> None:
        """405."""
        connection = Connection(site.resource)
        connection.send(b"GET /cmp HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"405" in connection.received().split(b"\r\n")[0]

    def test_http_1_0_can_stay_connected(self, site: Site) -> None:
        """OpenSSL's -keep_alive 2: two messages on one connection."""
        secret = site.secret()
        connection = Connection(site.resource, clock=site.clock)
        bodies = protected_by_secret(secret, asks())
        head = (
            "POST /cmp HTTP/1.0\r\nConnection: keep-alive\r\n"
            "Content-Type: application/pkixcmp\r\n"
            f"Content-Length: {len(bodies)}\r\n\r\n"
        )
        for _ in range(2):
            connection.send(head.encode() + bodies)
            answer = connection.received()
            assert answer.startswith(b"HTTP/1.0 200"), answer[:80]
            assert b"Connection: keep-alive" in answer


def test_certificates_are_whole() -> None:
    """What the client reads is what the inventory has."""
    site = make_site()
    device = site.enrolled("whole")
    found = x509.load_der_x509_certificate(device.certificate)
    assert "CN=whole" == found.subject.rfc4514_string()
    assert evolve(device).certificate == site.record(device.certificate).der
