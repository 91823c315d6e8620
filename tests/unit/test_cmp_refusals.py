# SPDX-License-Identifier: MIT
"""
Tests for :mod:`trstctl.protocols.cmp`: what is refused, and how (RFC 9483,
section 3.6; RFC 9810, section 5.2.3).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
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
    make_site,
    new_key,
    pbm,
    pbmac1,
    pkcs10,
    poll_req,
    protected_by_secret,
    rev_req,
    self_signed,
    signed,
    spki,
)
from cryptography.hazmat.primitives.asymmetric import ec

from trstctl import errors
from trstctl.model import (
    CertificateStatus,
    Extension,
    NameAttribute,
)
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp import BODY_TYPES, PKIBody, prepare
from trstctl.pkix.cmp_header import GeneralInfo, party
from trstctl.pkix.cmp_itav import INFO_TYPES, InfoTypeAndValue
from trstctl.pkix.crmf_template import CertId, CertTemplate
from trstctl.policy.profile import ProfileSettings
from trstctl.protocols.cmp.header import ANNOUNCEMENTS, CONTINUING
from trstctl.protocols.cmp.messages import REQUESTS
from trstctl.protocols.cmp.refusals import FAIL_INFO, WRONG_MAC, status_of
from trstctl.testing import EPOCH, TENANT, result_of

HOUR = timedelta(hours=1)


@pytest.fixture
def site() -> Site:
    """A gateway, as it is configured by default."""
    return make_site()


@pytest.fixture
def strict() -> Site:
    """A gateway that follows RFC 9483 by the letter."""
    return make_site(mode="strict")


def going_on(reply: Reply, **changes: Any) -> dict[str, Any]:
    """Return what the header of the next message says."""
    return {
        "transaction_id": reply.header.transaction_id,
        "recip_nonce": reply.header.sender_nonce,
        **changes,
    }


def raw_info(name: str, value: bytes) -> GeneralInfo:
    """Return a generalInfo with whatever value."""
    item = InfoTypeAndValue(INFO_TYPES[name], value)
    return GeneralInfo(others=(item,))


class HeaderTests:
    """What a header must have; told by an error message."""

    @pytest.mark.parametrize(
        ("changes", "failure"),
        [
            ({"sender_nonce": None}, "badSenderNonce"),
            ({"sender_nonce": bytes(8)}, "badSenderNonce"),
            ({"sender_nonce": bytes(100)}, "badSenderNonce"),
            ({"transaction_id": None}, "badDataFormat"),
            ({"transaction_id": bytes(8)}, "badRequest"),
            ({"transaction_id": bytes(100)}, "badRequest"),
            ({"recip_nonce": bytes(range(16))}, "badRecipientNonce"),
            ({"recip_nonce": bytes(16)}, "badRecipientNonce"),
            ({"message_time": None}, "badTime"),
            ({"message_time": EPOCH - HOUR}, "badTime"),
            ({"message_time": EPOCH + HOUR}, "badTime"),
            ({"pvno": 1}, "unsupportedVersion"),
            ({"pvno": 4}, "unsupportedVersion"),
            (
                {"general_info": raw_info("implicitConfirm", b"\x02\x01\x00")},
                "badRequest",
            ),
            (
                {
                    "general_info": raw_info(
                        "confirmWaitTime", der.tlv(0x17, b"260101000000Z")
                    )
                },
                "badDataFormat",
            ),
            (
                {
                    "general_info": GeneralInfo(
                        implicit_confirm=True, confirm_wait_time=EPOCH
                    )
                },
                "badRequest",
            ),
            (
                {"general_info": GeneralInfo(cert_profiles=("a", "b"))},
                "badRequest",
            ),
        ],
    )
    def test_a_strict_endpoint_says_what_is_wrong(
        self, strict: Site, changes: dict[str, Any], failure: str
    ) -> None:
        """RFC 9483, section 3.5; nothing is issued, nothing is used up."""
        secret = strict.secret()
        reply = strict.send(protected_by_secret(secret, asks(), **changes))
        assert ("error", "rejection", failure) == (
            reply.type,
            reply.pki_status,
            reply.failure,
        )
        assert 200 == reply.status
        good = protected_by_secret(secret, asks(), **IMPLICIT)
        assert "accepted" == strict.send(good).pki_status

    @pytest.mark.parametrize(
        "info",
        [
            GeneralInfo(implicit_confirm=True),
            GeneralInfo(cert_profiles=("device",)),
            GeneralInfo(confirm_wait_time=EPOCH),
        ],
    )
    def test_what_belongs_to_other_messages(self, info: GeneralInfo) -> None:
        """RFC 9483, section 3.1: badRequest, where it is read strictly."""
        for mode, answer in (("strict", "error"), ("interop", "pkiconf")):
            site = make_site(mode=mode)
            secret = site.secret()
            reply = site.send(protected_by_secret(secret, asks()))
            done = site.send(
                protected_by_secret(
                    secret,
                    cert_conf(reply.certificate),
                    **going_on(reply, general_info=info),
                )
            )
            assert answer == done.type

    def test_a_profile_for_a_question(self, strict: Site) -> None:
        """RFC 9483, section 3.1: certProfile may be in genm, too."""
        info = GeneralInfo(cert_profiles=("device",))
        genm = PKIBody("genm", der.sequence())
        reply = strict.send(
            protected_by_secret(strict.secret(), genm, general_info=info)
        )
        assert "genp" == reply.type

    @pytest.mark.parametrize(
        "changes",
        [
            {"message_time": None},
            {"message_time": EPOCH - HOUR},
            {"transaction_id": bytes(20)},
            {"transaction_id": None},
            {"recip_nonce": bytes(16)},
            {"sender": party(())},
            {"sender": party(cn("device"))},
        ],
    )
    def test_interop_takes_what_older_clients_send(
        self, site: Site, changes: dict[str, Any]
    ) -> None:
        """And answers in a transaction that the client can find."""
        reply = site.send(
            protected_by_secret(site.secret(), asks(), **IMPLICIT, **changes)
        )
        assert "accepted" == reply.pki_status
        assert reply.header.transaction_id

    @pytest.mark.parametrize(("pvno", "answer"), [(1, 2), (4, 3), (99, 3)])
    def test_an_unsupported_version_is_answered_in_the_nearest(
        self, site: Site, pvno: int, answer: int
    ) -> None:
        """RFC 9810, section 7."""
        reply = site.send(
            protected_by_secret(site.secret(), asks(), pvno=pvno)
        )
        assert answer == reply.header.pvno

    def test_version_3_is_answered_in_version_3(self, site: Site) -> None:
        """RFC 9810, section 7."""
        reply = site.send(
            protected_by_secret(site.secret(), asks(), pvno=3, **IMPLICIT)
        )
        assert (3, "accepted") == (reply.header.pvno, reply.pki_status)

    def test_unknown_general_information_is_ignored(self, site: Site) -> None:
        """RFC 9810, section 5.1.1."""
        info = GeneralInfo(
            implicit_confirm=True,
            others=(InfoTypeAndValue("1.2.3", b"\x02\x01\x07"),),
        )
        reply = site.send(
            protected_by_secret(site.secret(), asks(), general_info=info)
        )
        assert "accepted" == reply.pki_status

    def test_another_profile_is_refused(self, site: Site) -> None:
        """RFC 9810, section 5.1.1.4; the endpoint's own is fine."""
        for name, failure in (("other", "badRequest"), ("device", "")):
            info = GeneralInfo(implicit_confirm=True, cert_profiles=(name,))
            reply = site.send(
                protected_by_secret(site.secret(), asks(), general_info=info)
            )
            assert failure == reply.failure

    def test_what_does_not_decode_is_still_answered_in_its_transaction(
        self, site: Site
    ) -> None:
        """A client discards an error without transactionID and nonce."""
        header = header_of(transaction_id=bytes(range(16)))
        body = PKIBody("ir", b"\x30\x03\x02\x05\x00")
        reply = site.send(prepare(header, body).finish(None))
        assert ("error", "badDataFormat") == (reply.type, reply.failure)
        assert bytes(range(16)) == reply.header.transaction_id
        assert header.sender_nonce == reply.header.recip_nonce
        assert reply.is_signed()


class ProtectionTests:
    """Who is let in; told by an error message."""

    def refused(self, site: Site, octets: bytes) -> tuple[str, str]:
        """Return type and failInfo of an answer."""
        reply = site.send(octets)
        assert 200 == reply.status
        return reply.type, reply.failure

    def test_an_unprotected_message(self, site: Site) -> None:
        """RFC 9483, section 3.2."""
        octets = prepare(header_of(), asks()).finish(None)
        assert ("error", "badMessageCheck") == self.refused(site, octets)

    @pytest.mark.parametrize("kind", ["ir", "cr", "kur"])
    def test_a_key_that_is_not_for_signatures(self, kind: str) -> None:
        """RFC 5280, section 4.2.1.3: whoever else has an encryption key, such
        as an archive, is not the device."""
        usages = ProfileSettings(
            key_types=("p-256",), key_usage=("keyAgreement",)
        )
        site = make_site({"device": usages})
        device = site.enrolled()
        reply = site.send(signed(device, asks(kind), **IMPLICIT))
        assert ("error", "badMessageCheck", "signer-usage") == (
            reply.type,
            reply.failure,
            reply.code,
        )

    def test_what_does_not_decode_in_another_version(self, site: Site) -> None:
        """unsupportedVersion says more than badDataFormat."""
        body = PKIBody("ir", b"\x30\x03\x02\x05\x00")
        octets = prepare(header_of(pvno=1), body).finish(None)
        assert ("error", "unsupportedVersion") == self.refused(site, octets)

    @pytest.mark.parametrize("half", ["algorithm", "protection"])
    def test_half_a_protection(self, site: Site, half: str) -> None:
        """RFC 9810, section 5.1.1: both or neither."""
        if half == "algorithm":
            header = header_of(protection_alg=pbm().der())
            octets = prepare(header, asks()).finish(None)
        else:
            octets = prepare(header_of(), asks()).finish(b"1234")
        assert ("error", "badMessageCheck") == self.refused(site, octets)

    def test_unknown_and_wrong_are_told_alike(self, site: Site) -> None:
        """No oracle: the same text, the same failInfo, signed."""
        known = site.secret()
        unknown = evolve(known, record=evolve(known.record, id="ff" * 12))
        replies = [
            site.send(protected_by_secret(known, asks(), text="wrong")),
            site.send(protected_by_secret(unknown, asks())),
        ]
        for reply in replies:
            assert "badMessageCheck" == reply.failure
            assert reply.is_signed()
            assert WRONG_MAC.encode() in reply.octets
            assert "challenge-rejected" == reply.code
        assert len(replies[0].octets) - len(replies[1].octets) in range(-3, 4)

    @pytest.mark.parametrize(
        "wishes", [{"protocol": "scep"}, {"profile": "tls-client"}]
    )
    def test_a_secret_for_something_else_is_unknown(
        self, site: Site, wishes: dict[str, Any]
    ) -> None:
        """C-1: a secret is for one protocol and profile."""
        from trstctl.testing import add_challenge

        secret = add_challenge(
            site.store, **{"protocol": "cmp", "device": "x", **wishes}
        )
        reply = site.send(protected_by_secret(secret, asks()))
        assert "badMessageCheck" == reply.failure

    def test_a_revoked_secret_is_unknown(self, site: Site) -> None:
        """As one that never was."""
        secret = site.secret()
        result_of(
            site.store.revoke_secret(
                TENANT, secret.record.id, "me", site.ra.now()
            )
        )
        reply = site.send(protected_by_secret(secret, asks()))
        assert "badMessageCheck" == reply.failure

    def test_guessing_is_throttled_and_other_secrets_pass(
        self, site: Site
    ) -> None:
        """C-4: who fails has to wait, and nobody else at his address."""
        secret, other = site.secret(), site.secret()
        for _ in range(10):
            site.send(protected_by_secret(secret, asks(), text="wrong"))
        reply = site.send(protected_by_secret(secret, asks(), text="wrong"))
        assert "systemUnavail" == reply.failure
        right = protected_by_secret(other, asks(), **IMPLICIT)
        assert "accepted" == site.send(right).pki_status
        site.clock.advance(6)
        right = protected_by_secret(secret, asks(), **IMPLICIT)
        assert "accepted" == site.send(right).pki_status

    def test_costly_work_is_not_done_for_who_guesses(self, site: Site) -> None:
        """Nobody has keys derived for him as often as he likes."""
        secret, guessed = site.secret(), site.secret()
        for _ in range(10):
            site.send(protected_by_secret(guessed, asks(), text="wrong"))
        costly = protected_by_secret(
            secret, asks(), mac=pbm(5_001), **IMPLICIT
        )
        assert "systemUnavail" == site.send(costly).failure
        site.clock.advance(60)
        assert "accepted" == site.send(costly).pki_status

    def test_a_self_signed_signer_never_enrolls(self, site: Site) -> None:
        """P-2."""
        key = new_key()
        stranger = Signer(self_signed(key), key)
        for body in (asks("ir"), asks("cr"), pkcs10(), asks("kur")):
            assert ("error", "signerNotTrusted") == self.refused(
                site, signed(stranger, body)
            )
        genm = PKIBody("genm", der.sequence())
        assert ("error", "signerNotTrusted") == self.refused(
            site, signed(stranger, genm)
        )

    def test_a_wrong_signature(self, site: Site) -> None:
        """The certificate of another proves nothing."""
        device = evolve(site.enrolled(), key=new_key())
        assert ("error", "badMessageCheck") == self.refused(
            site, signed(device, asks("cr"))
        )

    def test_a_changed_message(self, site: Site) -> None:
        """The protection is over header and body, as received."""
        message = protected_by_secret(site.secret(), asks(name="devicf"))
        assert ("error", "badMessageCheck") == self.refused(
            site, message.replace(b"devicf", b"devicg")
        )

    @pytest.mark.parametrize(
        "changes",
        [
            {"sender": party(cn("issuing CA"))},
            {"sender": party(cn("another"))},
        ],
    )
    def test_nobody_signs_in_anothers_name(
        self, site: Site, changes: dict[str, Any]
    ) -> None:
        """RFC 9483, section 3.1."""
        device = site.enrolled()
        assert ("error", "badMessageCheck") == self.refused(
            site, signed(device, asks("cr"), **changes)
        )

    @pytest.mark.parametrize("kid", [None, bytes(20)])
    def test_a_strict_endpoint_compares_sender_kid(
        self, strict: Site, kid: bytes | None
    ) -> None:
        """RFC 9483, section 3.1."""
        device = strict.enrolled()
        assert ("error", "badMessageCheck") == self.refused(
            strict, signed(device, asks("cr"), sender_kid=kid)
        )

    def test_a_strict_endpoint_compares_sender_and_reference(
        self, strict: Site
    ) -> None:
        """RFC 9483, section 3.1."""
        secret = strict.secret()
        for changes in (
            {"sender": party(cn("device"))},
            {"sender": party(())},
            {"sender_kid": None},
        ):
            assert ("error", "badMessageCheck") == self.refused(
                strict, protected_by_secret(secret, asks(), **changes)
            )

    def test_without_any_reference(self, site: Site) -> None:
        """Nothing says whose secret it is."""
        message = protected_by_secret(
            site.secret(), asks(), sender_kid=None, sender=party(())
        )
        assert ("error", "badMessageCheck") == self.refused(site, message)

    def test_the_reference_may_be_the_senders_name(self, site: Site) -> None:
        """As some older clients do."""
        message = protected_by_secret(
            site.secret(), asks(), sender_kid=None, **IMPLICIT
        )
        assert "accepted" == site.send(message).pki_status

    def test_a_signer_that_is_not_there(self, site: Site) -> None:
        """RFC 9483, section 3.3: extraCerts begin with it."""
        device = site.enrolled()
        for extra in ((), (b"\x30\x00",)):
            assert ("error", "badMessageCheck") == self.refused(
                site, signed(device, asks("cr"), extra=extra)
            )

    def test_a_revoked_signer(self, site: Site) -> None:
        """RFC 9483, section 3.6: certRevoked."""
        device = site.enrolled()
        serial = site.record(device.certificate).serial
        result_of(site.ra.revoke(TENANT, serial, "keyCompromise", "me"))
        for kind in ("cr", "kur"):
            assert ("error", "certRevoked") == self.refused(
                site, signed(device, asks(kind))
            )

    def test_an_expired_signer(self, site: Site) -> None:
        """It is not trusted any more."""
        device = site.enrolled()
        site.clock.advance(timedelta(days=400).total_seconds())
        assert ("error", "signerNotTrusted") == self.refused(
            site, signed(device, asks("cr"))
        )

    @pytest.mark.parametrize(
        "body",
        [
            asks("kur"),
            PKIBody("nested", der.sequence(der.sequence())),
            PKIBody("ccr", der.sequence()),
        ],
    )
    def test_some_messages_must_be_signed(
        self, site: Site, body: PKIBody
    ) -> None:
        """RFC 9483, sections 4.1.3 and 5.2."""
        assert ("error", "wrongIntegrity") == self.refused(
            site, protected_by_secret(site.secret(), body)
        )

    def test_rr_must_be_signed_and_is_answered_by_rp(self, site: Site) -> None:
        """RFC 9483, section 4.2."""
        body = rev_req(CertTemplate(issuer=cn("x"), serial="1"))
        assert ("rp", "wrongIntegrity") == self.refused(
            site, protected_by_secret(site.secret(), body)
        )

    @pytest.mark.parametrize(
        "algorithm",
        [
            der.sequence(der.oid("1.2.840.10040.4.3")),  # DSA with SHA-1
            der.sequence(der.oid("1.2.3.4")),
            der.sequence(der.oid("1.2.840.113549.2.9")),  # bare HMAC
            evolve(pbm(), iterations=100_001).der(),
            evolve(pbm(), iterations=1).der(),
        ],
    )
    def test_an_unsupported_protection(
        self, site: Site, algorithm: bytes
    ) -> None:
        """badAlg, before any work."""
        header = header_of(
            protection_alg=algorithm,
            sender_kid=site.secret().record.id.encode(),
        )
        octets = prepare(header, asks()).finish(bytes(32))
        assert ("error", "badAlg") == self.refused(site, octets)

    def test_malformed_parameters(self, site: Site) -> None:
        """A PasswordBasedMac without any."""
        algorithm = der.sequence(der.oid("1.2.840.113533.7.66.13"))
        header = header_of(protection_alg=algorithm)
        octets = prepare(header, asks()).finish(bytes(32))
        assert ("error", "badMessageCheck") == self.refused(site, octets)


class AuthorizationTests:
    """M-3: who may begin what."""

    def test_what_is_not_listed_is_refused(self) -> None:
        """An endpoint for renewals only."""
        site = make_site(
            allow={"secret": ("genm",), "certificate": ("kur",)},
            labels={"open": {"allow": {"secret": ("ir",)}}},
        )
        key = new_key()
        opened = site.send(
            protected_by_secret(site.secret(), asks(key=key), **IMPLICIT),
            "/cmp/p/open",
        )
        device = Signer(opened.certificate, key)
        for octets in (
            protected_by_secret(site.secret(), asks()),
            signed(device, asks("cr")),
        ):
            reply = site.send(octets)
            assert ("notAuthorized", "body-not-allowed") == (
                reply.failure,
                reply.code,
            )
        assert "accepted" == site.send(signed(device, asks("kur"))).pki_status

    def test_nobody_is_cross_certified(self, site: Site) -> None:
        """RFC 9483, section 3.6: notAuthorized."""
        body = PKIBody("ccr", der.sequence())
        reply = site.send(signed(site.enrolled(), body))
        assert ("error", "notAuthorized") == (reply.type, reply.failure)

    @pytest.mark.parametrize(
        "kind",
        sorted({*BODY_TYPES} - REQUESTS - CONTINUING - ANNOUNCEMENTS),
    )
    def test_what_nobody_serves_is_refused(
        self, site: Site, kind: str
    ) -> None:
        """Answers are no requests; key recovery and challenges not served."""
        body = PKIBody(kind, der.sequence())
        reply = site.send(protected_by_secret(site.secret(), body))
        assert ("error", "badRequest") == (reply.type, reply.failure)


class RequestTests:
    """What a request must be; told in the body of its answer."""

    def refused(
        self, site: Site, body: PKIBody, answer: str = "ip"
    ) -> tuple[str, str]:
        """Return failInfo and code of an answer under a secret."""
        reply = site.send(protected_by_secret(site.secret(), body))
        assert (answer, "rejection") == (reply.type, reply.pki_status)
        return reply.failure, reply.code

    def test_a_strict_endpoint_wants_cert_req_id_0(self, strict: Site) -> None:
        """RFC 9483, section 4.1.1; the answer repeats what was sent."""
        reply = strict.send(
            protected_by_secret(strict.secret(), asks(number=1))
        )
        assert ("badRequest", 1) == (reply.failure, reply.cert_req_id)

    def test_interop_takes_any_cert_req_id(self, site: Site) -> None:
        """RFC 9810, section 5.3.1: the client's to choose."""
        reply = site.send(
            protected_by_secret(site.secret(), asks(number=7), **IMPLICIT)
        )
        assert ("accepted", 7) == (reply.pki_status, reply.cert_req_id)

    def test_one_request_in_a_message(self, site: Site) -> None:
        """RFC 9483, section 4.1.1."""
        key = new_key()
        template = CertTemplate(subject=cn("device"), public_key=spki(key))
        one = cert_req(template, key)
        body = PKIBody("ir", der.sequence(one, one))
        assert ("badRequest", "one-request") == self.refused(site, body)

    @pytest.mark.parametrize(
        ("changes", "failure"),
        [
            ({"subject": ()}, "badCertTemplate"),
            ({"subject": None}, "badCertTemplate"),
            ({"version": 1}, "badCertTemplate"),
            ({"serial": "5"}, "badCertTemplate"),
            ({"public_key": None}, "badCertTemplate"),
            ({"issuer": cn("another CA")}, "wrongAuthority"),
        ],
    )
    def test_a_bad_template(
        self, site: Site, changes: dict[str, Any], failure: str
    ) -> None:
        """RFC 9483, section 4.1.1."""
        key = new_key()
        template = CertTemplate(subject=cn("device"), public_key=spki(key))
        body = PKIBody(
            "ir", der.sequence(cert_req(evolve(template, **changes), key))
        )
        assert failure == self.refused(site, body)[0]

    def test_a_key_that_will_not_do(self, site: Site) -> None:
        """badCertTemplate; an unknown algorithm of the proof is badAlg."""
        small = ec.generate_private_key(ec.SECP224R1())
        template = CertTemplate(subject=cn("device"), public_key=spki(small))
        body = PKIBody("ir", der.sequence(cert_req(template, new_key())))
        assert ("badCertTemplate", "key") == self.refused(site, body)
        unknown = der.sequence(der.oid("1.2.3.4")) + der.bit_string(b"x")
        body = asks(proof=der.tlv(0xA1, unknown))
        assert "badAlg" == self.refused(site, body)[0]

    def test_a_profile_refuses(self, site: Site) -> None:
        """A subject that the profile does not allow."""
        key = new_key()
        subject = ((NameAttribute("1.2.3.4", "x"),), *cn("device"))
        template = CertTemplate(subject=subject, public_key=spki(key))
        body = PKIBody("ir", der.sequence(cert_req(template, key)))
        assert ("badCertTemplate", "policy-violation") == self.refused(
            site, body
        )

    @pytest.mark.parametrize(
        ("proof", "failure"),
        [
            (b"", "badPOP"),  # none at all
            (b"\x80\x00", "notAuthorized"),  # raVerified
            (b"\xa2\x03\x81\x01\x00", "badPOP"),  # encrCert
        ],
    )
    def test_a_proof_that_is_no_signature(
        self, site: Site, proof: bytes, failure: str
    ) -> None:
        """RFC 9483, sections 4.1.1 and 5.2.3."""
        body = asks(proof=proof)
        assert failure == self.refused(site, body)[0]

    def test_a_proof_with_another_key(self, site: Site) -> None:
        """RFC 4211, section 4.1."""
        key = new_key()
        template = CertTemplate(subject=cn("device"), public_key=spki(key))
        body = PKIBody("ir", der.sequence(cert_req(template, new_key())))
        assert "badPOP" == self.refused(site, body)[0]

    @pytest.mark.parametrize("kind", ["ir", "p10cr"])
    def test_a_request_that_does_not_decode(
        self, site: Site, kind: str
    ) -> None:
        """The message does: it is answered as a request."""
        body = PKIBody(kind, der.sequence(der.integer(1)))
        failure = "badDataFormat" if kind == "ir" else "badCertTemplate"
        answer = "ip" if kind == "ir" else "cp"
        assert failure == self.refused(site, body, answer)[0]

    def test_kur_with_an_expired_certificate(self, site: Site) -> None:
        """The profile decides, which by default refuses."""
        device = site.enrolled()
        site.clock.advance(timedelta(days=400).total_seconds())
        reply = site.send(signed(device, asks("kur")))
        assert ("kup", "rejection") == (reply.type, reply.pki_status)

    def test_a_csr_that_proves_nothing(self, site: Site) -> None:
        """RFC 9483, section 4.1.4: its signature is the proof."""
        body = pkcs10()
        broken = bytearray(body.value)
        broken[-1] ^= 1
        assert (
            "badPOP"
            == self.refused(site, PKIBody("p10cr", bytes(broken)), "cp")[0]
        )

    def test_a_csr_of_another_version(self, site: Site) -> None:
        """RFC 2986, section 4.1: version is 0."""
        body = pkcs10()
        at = body.value.index(b"\x02\x01\x00")
        changed = body.value[: at + 2] + b"\x01" + body.value[at + 3 :]
        assert (
            "badCertTemplate"
            == self.refused(site, PKIBody("p10cr", changed), "cp")[0]
        )

    def test_a_csr_without_a_name(self, site: Site) -> None:
        """A certificate without a name is nobody's."""
        assert ("badCertTemplate", "no-subject") == self.refused(
            site, pkcs10(""), "cp"
        )

    def test_a_usage_that_anybody_may_have(self, site: Site) -> None:
        """clientAuth, which the profile issues."""
        key = new_key()
        usage = Extension(
            "2.5.29.37", False, der.sequence(der.oid("1.3.6.1.5.5.7.3.2"))
        )
        template = CertTemplate(
            subject=cn("device"), public_key=spki(key), extensions=(usage,)
        )
        body = PKIBody("ir", der.sequence(cert_req(template, key)))
        reply = site.send(protected_by_secret(site.secret(), body))
        assert "accepted" == reply.pki_status

    @pytest.mark.parametrize("arc", [27, 28, 32])
    def test_nobody_makes_himself_an_ra(self, site: Site, arc: int) -> None:
        """RFC 9810, section 8.10: cmcCA, cmcRA and cmKGA."""
        key = new_key()
        usage = Extension(
            "2.5.29.37", False, der.sequence(der.oid(f"1.3.6.1.5.5.7.3.{arc}"))
        )
        template = CertTemplate(
            subject=cn("device"), public_key=spki(key), extensions=(usage,)
        )
        body = PKIBody("ir", der.sequence(cert_req(template, key)))
        assert ("notAuthorized", "privileged-usage") == self.refused(
            site, body
        )

    @pytest.mark.parametrize(
        "named", [CertId(cn("issuing CA"), "77"), CertId(cn("other"), "")]
    )
    def test_kur_of_another_certificate(
        self, site: Site, named: CertId
    ) -> None:
        """RFC 9483, section 4.1.3: oldCertId is the signer's."""
        device = site.enrolled()
        if not named.serial:
            serial = site.record(device.certificate).serial
            named = evolve(named, serial=serial)
        control = der.sequence(der.oid("1.3.6.1.5.5.7.5.1.5"), named.der())
        body = asks("kur", controls=der.sequence(control))
        reply = site.send(signed(device, body))
        assert ("kup", "badCertId") == (reply.type, reply.failure)

    def test_kur_of_what_was_updated(self, site: Site) -> None:
        """RFC 9483, section 3.6: certRevoked."""
        device = site.enrolled()
        site.send(signed(device, asks("kur"), **IMPLICIT))
        reply = site.send(signed(device, asks("kur")))
        assert ("certRevoked", "signer-updated") == (
            reply.failure,
            reply.code,
        )

    def test_kur_before_the_last_is_confirmed(self, site: Site) -> None:
        """RFC 9483, section 3.6: one update at a time."""
        device = site.enrolled()
        first = site.send(signed(device, asks("kur")))
        assert "accepted" == first.pki_status
        second = site.send(signed(device, asks("kur")))
        assert ("kup", "badRequest") == (second.type, second.failure)
        site.send(
            signed(device, cert_conf(first.certificate), **going_on(first))
        )
        third = site.send(signed(device, asks("kur")))
        assert "signer-updated" == third.code

    def test_kur_needs_no_subject(self, site: Site) -> None:
        """It is the old one (RFC 9483, section 4.1.3)."""
        device, key = site.enrolled(), new_key()
        control = der.sequence(
            der.oid("1.3.6.1.5.5.7.5.1.5"),
            CertId(
                read_certificate(device.certificate).issuer,
                site.record(device.certificate).serial,
            ).der(),
        )
        body = PKIBody(
            "kur",
            der.sequence(
                cert_req(
                    CertTemplate(public_key=spki(key)),
                    key,
                    controls=der.sequence(control),
                )
            ),
        )
        reply = site.send(signed(device, body))
        assert ("kup", "accepted") == (reply.type, reply.pki_status)
        assert "CN=device" == site.record(reply.certificate).subject


class ConfirmationTests:
    """What a certConf must be; told by an error message."""

    def begun(self, site: Site, **how: Any) -> tuple[Any, Reply]:
        """Return a secret, and the ip that is to be confirmed."""
        secret = site.secret()
        return secret, site.send(protected_by_secret(secret, asks(), **how))

    def failure(
        self, site: Site, body: Callable[[Reply], PKIBody], **changes: Any
    ) -> str:
        """Return the failInfo of a certConf, after which nothing changed."""
        secret, reply = self.begun(site)
        refused = site.send(
            protected_by_secret(
                secret, body(reply), **going_on(reply, **changes)
            )
        )
        assert "error" == refused.type
        assert site.record(reply.certificate).confirm_by is not None
        return refused.failure

    @pytest.mark.parametrize(
        ("changes", "failure"),
        [
            ({"transaction_id": None}, "badRequest"),
            ({"transaction_id": bytes(16)}, "badRequest"),
            ({"recip_nonce": None}, "badRecipientNonce"),
            ({"recip_nonce": bytes(16)}, "badRecipientNonce"),
        ],
    )
    def test_it_must_go_on_with_a_transaction(
        self, site: Site, changes: dict[str, Any], failure: str
    ) -> None:
        """RFC 9483, section 3.1."""
        assert failure == self.failure(
            site, lambda reply: cert_conf(reply.certificate), **changes
        )

    def test_a_nonce_is_used_once(self, site: Site) -> None:
        """RFC 9483, section 3.1: fresh in each message."""
        secret = site.secret()
        reply = site.send(
            protected_by_secret(secret, asks(), sender_nonce=b"n" * 16)
        )
        refused = site.send(
            protected_by_secret(
                secret,
                cert_conf(reply.certificate),
                **going_on(reply, sender_nonce=b"n" * 16),
            )
        )
        assert "badSenderNonce" == refused.failure

    @pytest.mark.parametrize(
        ("how", "failure"),
        [
            ({"number": 1}, "badRequest"),
            ({"digest": bytes(32)}, "badCertId"),
            (
                {
                    "more": der.explicit(
                        0, der.sequence(der.oid("2.16.840.1.101.3.4.2.1"))
                    )
                },
                "badCertId",
            ),
            (
                {
                    "status": der.sequence(
                        der.integer(0), der.tlv(3, b"\x07\x80")
                    )
                },
                "badRequest",
            ),
            ({"status": der.sequence(der.integer(3))}, "badRequest"),
        ],
    )
    def test_it_must_be_of_this_certificate(
        self, site: Site, how: dict[str, Any], failure: str
    ) -> None:
        """RFC 9483, section 4.1.1; hashAlg needs version 3."""
        assert failure == self.failure(
            site, lambda reply: cert_conf(reply.certificate, **how)
        )

    def test_hash_alg_in_version_3(self, site: Site) -> None:
        """RFC 9810, section 5.3.18."""
        secret, reply = self.begun(site, pvno=3)
        algorithm = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"))
        done = site.send(
            protected_by_secret(
                secret,
                cert_conf(reply.certificate, more=der.explicit(0, algorithm)),
                **going_on(reply, pvno=3),
            )
        )
        assert "pkiconf" == done.type

    @pytest.mark.parametrize(
        ("mode", "number", "answer"),
        [
            ("strict", -1, "pkiconf"),
            ("interop", -1, "pkiconf"),
            ("interop", 0, "pkiconf"),
            ("strict", 0, "pkiconf"),
            ("strict", 1, "error"),
            ("interop", 1, "error"),
        ],
    )
    def test_what_p10cr_brought_has_no_cert_req_id(
        self, mode: str, number: int, answer: str
    ) -> None:
        """RFC 9483, section 4.1.4: -1; or 0, as in section 4.1.1."""
        site = make_site(mode=mode)
        secret = site.secret()
        reply = site.send(protected_by_secret(secret, pkcs10()))
        done = site.send(
            protected_by_secret(
                secret,
                cert_conf(reply.certificate, number=number),
                **going_on(reply),
            )
        )
        assert answer == done.type

    def test_one_certificate_is_confirmed(self, site: Site) -> None:
        """RFC 9483, section 4.1.1: exactly one CertStatus."""

        def twice(reply: Reply) -> PKIBody:
            one = cert_conf(reply.certificate).value
            (status,) = der.children(der.content(one, der.SEQUENCE))
            return PKIBody("certConf", der.sequence(status[2], status[2]))

        assert "badRequest" == self.failure(site, twice)

    def test_it_is_confirmed_once(self, site: Site) -> None:
        """RFC 9810, section 5.2.3: certConfirmed."""
        secret, reply = self.begun(site)
        body = cert_conf(reply.certificate)
        done = site.send(protected_by_secret(secret, body, **going_on(reply)))
        again = site.send(protected_by_secret(secret, body, **going_on(done)))
        assert ("error", "certConfirmed") == (again.type, again.failure)

    def test_what_needs_no_confirmation(self, site: Site) -> None:
        """Nothing is waited for."""
        secret, reply = self.begun(site, **IMPLICIT)
        for body in (cert_conf(reply.certificate), poll_req()):
            refused = site.send(
                protected_by_secret(secret, body, **going_on(reply))
            )
            assert "badRequest" == refused.failure

    def test_pkiconf_is_not_for_clients(self, site: Site) -> None:
        """They send certConf (RFC 9483, section 4.1.1)."""
        body = PKIBody("pkiconf", b"\x05\x00")
        assert "badRequest" == self.failure(site, lambda _: body)

    def test_the_technique_stays(self, site: Site) -> None:
        """RFC 9483, section 3.2: PBM, then PBMAC1."""
        secret, reply = self.begun(site)
        refused = site.send(
            protected_by_secret(
                secret,
                cert_conf(reply.certificate),
                mac=pbmac1(),
                **going_on(reply),
            )
        )
        assert "badMessageCheck" == refused.failure

    def test_a_signed_request_is_not_confirmed_by_a_mac(
        self, site: Site
    ) -> None:
        """RFC 9483, section 3.2: wrongIntegrity."""
        reply = site.send(signed(site.enrolled(), asks("cr")))
        refused = site.send(
            protected_by_secret(
                site.secret(), cert_conf(reply.certificate), **going_on(reply)
            )
        )
        assert "wrongIntegrity" == refused.failure

    def test_the_new_certificate_confirms_nothing(self, site: Site) -> None:
        """RFC 9483, section 4.1.1: who asked confirms."""
        key = new_key()
        reply = site.send(signed(site.enrolled(), asks("cr", key=key)))
        refused = site.send(
            signed(
                Signer(reply.certificate, key),
                cert_conf(reply.certificate),
                **going_on(reply),
            )
        )
        assert "wrongAuthority" == refused.failure

    def test_the_signer_need_not_be_sent_again(self, site: Site) -> None:
        """RFC 9483, section 3.3: it is known in the transaction."""
        device = site.enrolled()
        reply = site.send(signed(device, asks("cr")))
        done = site.send(
            signed(
                device,
                cert_conf(reply.certificate),
                extra=(),
                **going_on(reply),
            )
        )
        assert "pkiconf" == done.type

    def test_what_was_revoked_meanwhile(self, site: Site) -> None:
        """It cannot be confirmed any more."""
        secret, reply = self.begun(site)
        serial = site.record(reply.certificate).serial
        result_of(site.ra.revoke(TENANT, serial, "superseded", "me"))
        refused = site.send(
            protected_by_secret(
                secret, cert_conf(reply.certificate), **going_on(reply)
            )
        )
        assert "certRevoked" == refused.failure


class RevocationTests:
    """rr and rp (RFC 9483, section 4.2)."""

    def template(self, site: Site, of: Signer, **changes: Any) -> CertTemplate:
        """Return what names a certificate."""
        facts = read_certificate(of.certificate)
        return evolve(
            CertTemplate(issuer=facts.issuer, serial=facts.serial), **changes
        )

    def revoked(
        self, site: Site, by: Signer, template: CertTemplate, *reasons: int
    ) -> Reply:
        """Return the rp."""
        reply = site.send(signed(by, rev_req(template, *reasons)))
        assert "rp" == reply.type
        return reply

    @pytest.mark.parametrize(
        ("reason", "name"),
        [
            ((), "unspecified"),
            ((0,), "unspecified"),
            ((1,), "keyCompromise"),
            ((2,), "cACompromise"),
            ((3,), "affiliationChanged"),
            ((4,), "superseded"),
            ((5,), "cessationOfOperation"),
            ((6,), "certificateHold"),
            ((9,), "privilegeWithdrawn"),
            ((10,), "aACompromise"),
        ],
    )
    def test_a_device_revokes_its_own(
        self, site: Site, reason: tuple[int, ...], name: str
    ) -> None:
        """For each reason of RFC 5280, section 5.3.1."""
        device = site.enrolled()
        reply = self.revoked(
            site, device, self.template(site, device), *reason
        )
        assert "accepted" == reply.pki_status
        record = site.record(device.certificate)
        assert (CertificateStatus.REVOKED, name) == (
            record.status,
            record.revocation_reason,
        )

    def test_the_same_octets_get_the_same_answer(self, site: Site) -> None:
        """M-4."""
        device = site.enrolled()
        message = signed(device, rev_req(self.template(site, device)))
        assert site.send(message) == site.send(message)

    def test_nobody_revokes_anothers(self, site: Site) -> None:
        """Nor takes it off hold."""
        device, other = site.enrolled("a"), site.enrolled("b")
        for reason in (1, 8):
            reply = self.revoked(
                site, device, self.template(site, other), reason
            )
            assert "notAuthorized" == reply.failure
        own = self.revoked(site, device, self.template(site, device), 8)
        assert ("badCertId", "not-on-hold") == (own.failure, own.code)

    def test_a_strict_reading_of_what_is_named(self, site: Site) -> None:
        """RFC 9483, section 4.2: issuer and serial, and all of it ours."""
        device = site.enrolled()
        found = [
            self.revoked(site, device, self.template(site, device, **changes))
            for changes in (
                {"issuer": None},
                {"serial": None},
                {"issuer": cn("another")},
                {"serial": "77"},
                {"serial": "-7"},
                {"subject": cn("another")},
                {"public_key": spki(new_key())},
                {"extensions": (Extension("2.5.29.14", False, b"\x04\x01a"),)},
            )
        ]
        assert ["addInfoNotAvailable"] * 2 + ["badCertId"] * 6 == [
            reply.failure for reply in found
        ]
        status = site.record(device.certificate).status
        assert CertificateStatus.VALID is status

    @pytest.mark.parametrize(
        ("reasons", "failure"),
        [((7,), "badDataFormat"), ((1, 4), "badRequest")],
    )
    def test_reasons_that_are_none(
        self, site: Site, reasons: tuple[int, ...], failure: str
    ) -> None:
        """One, and one that there is."""
        device = site.enrolled()
        reply = self.revoked(
            site, device, self.template(site, device), *reasons
        )
        assert failure == reply.failure

    def test_one_certificate_at_a_time(self, site: Site) -> None:
        """RFC 9483, section 4.2."""
        device = site.enrolled()
        one = rev_req(self.template(site, device)).value
        (details,) = der.children(der.content(one, der.SEQUENCE))
        body = PKIBody("rr", der.sequence(details[2], details[2]))
        reply = site.send(signed(device, body))
        assert ("rp", "badRequest") == (reply.type, reply.failure)


class RegistrationAuthorityTests:
    """Who may speak for others (RFC 9483, section 5)."""

    def site(self) -> tuple[Site, Signer]:
        """Return a gateway, and an RA for branch-*."""
        return make_ra_site()

    def test_it_vouches_for_devices(self) -> None:
        """raVerified, within its scope and not beyond."""
        site, ra = self.site()
        for name, failure in (("branch-1", ""), ("router", "notAuthorized")):
            reply = site.send(
                signed(ra, asks("cr", name, proof=b"\x80\x00"), **IMPLICIT)
            )
            assert failure == reply.failure

    def test_it_renews_for_devices(self) -> None:
        """What is replaced is the device's, once the RA has confirmed."""
        site, ra = self.site()
        device = site.enrolled("branch-1")
        reply = site.send(signed(ra, asks("kur", "branch-1")))
        assert "accepted" == reply.pki_status
        valid = site.record(device.certificate).status
        assert CertificateStatus.VALID is valid
        site.send(signed(ra, cert_conf(reply.certificate), **going_on(reply)))
        after = site.record(device.certificate).status
        assert CertificateStatus.SUPERSEDED is after

    def test_its_word_is_not_enough_for_an_update(self) -> None:
        """RFC 9483, section 5.2.3: never raVerified in kur."""
        site, ra = self.site()
        site.enrolled("branch-1")
        body = asks("kur", "branch-1", proof=b"\x80\x00")
        reply = site.send(signed(ra, body))
        assert ("kup", "notAuthorized") == (reply.type, reply.failure)

    def test_it_revokes_and_revives(self) -> None:
        """removeFromCRL is for who did not put it on hold himself."""
        site, ra = self.site()
        device = site.enrolled("branch-1")
        facts = read_certificate(device.certificate)
        template = CertTemplate(issuer=facts.issuer, serial=facts.serial)
        states = []
        for reason in (8, 6, 6, 8, 1, 8):
            reply = site.send(signed(ra, rev_req(template, reason)))
            states.append(
                (reply.failure, site.record(device.certificate).status.value)
            )
        assert [
            ("badCertId", "valid"),
            ("", "revoked"),
            ("certRevoked", "revoked"),
            ("", "valid"),
            ("", "revoked"),
            ("certRevoked", "revoked"),
        ] == states

    def test_it_raises_to_key_compromise(self) -> None:
        """What turns out after a revocation is told as what is known."""
        site, ra = self.site()
        device = site.enrolled("branch-1")
        facts = read_certificate(device.certificate)
        template = CertTemplate(issuer=facts.issuer, serial=facts.serial)
        states = []
        for reason in (4, 4, 5, 6, 1, 1, 4):
            reply = site.send(signed(ra, rev_req(template, reason)))
            record = site.record(device.certificate)
            states.append((reply.failure, record.revocation_reason))
        assert [
            ("", "superseded"),
            ("certRevoked", "superseded"),
            ("certRevoked", "superseded"),
            ("certRevoked", "superseded"),
            ("", "keyCompromise"),
            ("certRevoked", "keyCompromise"),
            ("certRevoked", "keyCompromise"),
        ] == states

    def test_it_may_make_others_of_its_kind(self) -> None:
        """cmcRA is the profile's to allow then."""
        site, ra = make_ra_site()
        key = new_key()
        for arc, failure in ((28, "badCertTemplate"), (2, "")):
            usage = Extension(
                "2.5.29.37",
                False,
                der.sequence(der.oid(f"1.3.6.1.5.5.7.3.{arc}")),
            )
            template = CertTemplate(
                subject=cn("branch-2"),
                public_key=spki(key),
                extensions=(usage,),
            )
            body = PKIBody("cr", der.sequence(cert_req(template, key)))
            assert failure == site.send(signed(ra, body)).failure

    def test_it_revokes_nobody_elses(self) -> None:
        """What is beyond its scope is not its business."""
        site, ra = self.site()
        device = site.enrolled("router")
        facts = read_certificate(device.certificate)
        template = CertTemplate(issuer=facts.issuer, serial=facts.serial)
        reply = site.send(signed(ra, rev_req(template, 1)))
        assert "notAuthorized" == reply.failure


class TableTests:
    """How what others raise is told."""

    @pytest.mark.parametrize("kind", errors.leaves())
    def test_every_error_has_a_row(self, kind: Any) -> None:
        """A new leaf of the tree must say what failInfo it is."""
        assert kind in FAIL_INFO

    @pytest.mark.parametrize("kind", errors.leaves())
    def test_every_status_can_be_written(self, kind: Any) -> None:
        """With a text and a code of lower-case words."""
        made: Any = {
            errors.Throttled: lambda: errors.Throttled(5),
            errors.PolicyViolation: lambda: errors.PolicyViolation(
                "p", "r", "d"
            ),
        }.get(kind, kind)
        status = status_of(made())
        assert status.der()
        (text,) = status.text
        assert (
            text.rpartition("[")[2]
            .removesuffix("]")
            .replace("-", "")
            .islower()
        )
