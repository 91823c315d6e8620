# SPDX-License-Identifier: MIT
"""
What is told exactly, in both modes, of messages that are formed well and
protected rightly: certConf, rr, genm, nested, and what registration
authorities send (RFC 9483, sections 4.1.1, 4.2, 4.3 and 5.2).
"""

from __future__ import annotations

import hashlib
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
    cn,
    make_ra_site,
    make_site,
    new_key,
    pkcs10,
    poll_req,
    protected_by_secret,
    rev_req,
    signed,
    spki,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred

from trstctl.model import CertificateStatus, Extension
from trstctl.pkix import algorithms, der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp import PKIBody, prepare, read_message
from trstctl.pkix.cmp_bodies import read_nested
from trstctl.pkix.cmp_header import GeneralInfo
from trstctl.pkix.cmp_itav import INFO_TYPES
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.policy.profile import ProfileSettings
from trstctl.testing import result_of

MODES = pytest.mark.parametrize("mode", ["interop", "strict"])
GENM = PKIBody("genm", der.sequence())
DAY = timedelta(days=1)
ANY_KEY = ProfileSettings(
    subject={"CN": ProfileSettings().subject["CN"]},
    key_types=("rsa", "p-256", "ed25519", "ed448"),
)


def going_on(reply: Reply, **changes: Any) -> dict[str, Any]:
    """Return what the header of the next message says."""
    return {
        "transaction_id": reply.header.transaction_id,
        "recip_nonce": reply.header.sender_nonce,
        **changes,
    }


def inside(reply: Reply) -> list[Reply]:
    """Return the answers in a batch."""
    body = read_message(reply.octets).body
    return [
        Reply(200, "application/pkixcmp", each)
        for each in read_nested(body.value)
    ]


def nested(*messages: bytes) -> PKIBody:
    """Return a body with these messages."""
    return PKIBody("nested", der.sequence(*messages))


def copied(message: bytes) -> dict[str, Any]:
    """Return what the outer header has of the message inside."""
    header = read_message(message).header
    return {
        "transaction_id": header.transaction_id,
        "sender_nonce": header.sender_nonce,
    }


@MODES
class SignatureTests:
    """RFC 9481, section 3: what a device can sign with."""

    @pytest.mark.parametrize(
        ("make", "name"),
        [
            (lambda: rsa.generate_private_key(65537, 2048), name)
            for name in (
                "sha256-with-rsa",
                "sha384-with-rsa",
                "sha512-with-rsa",
                "rsassa-pss-with-sha256",
                "rsassa-pss-with-sha512",
            )
        ]
        + [
            (new_key, f"ecdsa-with-{digest}")
            for digest in ("sha256", "sha384", "sha512")
        ]
        + [
            (ed25519.Ed25519PrivateKey.generate, "ed25519"),
            (ed448.Ed448PrivateKey.generate, "ed448"),
        ],
    )
    def test_what_a_device_signs_with(
        self, mode: str, make: Any, name: str
    ) -> None:
        """Accepted; and a signature that was changed is badMessageCheck."""
        site = make_site({"any": ANY_KEY}, profile="any", mode=mode)
        device = enrolled_with(site, make(), name)
        for damage, told in ((b"", "genp"), (b"\x01", "error")):
            octets = signed_with(device, name, damage)
            reply = site.send(octets)
            assert told == reply.type
        assert "badMessageCheck" == reply.failure


def enrolled_with(site: Site, key: Any, name: str) -> Signer:
    """Return a device with a key of any kind."""
    template = CertTemplate(subject=cn("device"), public_key=spki(key))
    request = der.sequence(der.integer(0), template.der())
    proof = algorithms.algorithm_identifier(name) + der.bit_string(
        algorithms.sign(key, name, request)
    )
    one = der.sequence(request, der.tlv(0xA1, proof))
    reply = site.send(
        protected_by_secret(
            site.secret(profile="any"),
            PKIBody("ir", der.sequence(one)),
            **IMPLICIT,
        )
    )
    return Signer(reply.certificate, key)


def signed_with(device: Signer, name: str, damage: bytes) -> bytes:
    """Return a question, signed with any algorithm."""
    algorithm = algorithms.algorithm_identifier(name)
    draft = read_message(
        signed(Signer(device.certificate, new_key()), GENM)
    ).header
    prepared = prepare(evolve(draft, protection_alg=algorithm), GENM)
    signature = algorithms.sign(device.key, name, prepared.protected_part)
    if damage:
        signature = signature[:-1] + bytes((signature[-1] ^ damage[0],))
    return prepared.finish(signature, (device.certificate,))


def status_of(cert_hash: bytes) -> PKIBody:
    """Return a certConf with whatever hash."""
    status = der.sequence(cert_hash, der.integer(0))
    return PKIBody("certConf", der.sequence(status))


@MODES
class ConfirmationTests:
    """certConf (RFC 9483, section 4.1.1)."""

    def begun(self, mode: str, **how: Any) -> tuple[Site, Signer, Reply]:
        """Return a gateway, a device, and the ip to be confirmed."""
        site = make_site(
            mode=mode, allow={"certificate": ("ir", "cr", "genm")}
        )
        device = site.enrolled()
        return site, device, site.send(signed(device, asks("ir"), **how))

    def test_a_device_rejects(self, mode: str) -> None:
        """With failInfo and text: pkiconf all the same, and a repetition
        changes nothing."""
        site, device, reply = self.begun(mode)
        rejection = der.sequence(
            der.integer(2),
            der.sequence(der.tlv(0x0C, b"not what was asked for")),
            der.tlv(3, b"\x04\x00\x00\x10"),
        )
        body = cert_conf(reply.certificate, status=rejection)
        done = site.send(signed(device, body, **going_on(reply)))
        assert ("pkiconf", CertificateStatus.REVOKED) == (
            done.type,
            site.record(reply.certificate).status,
        )
        again = site.send(signed(device, body, **going_on(done)))
        assert ("error", "badRequest") == (again.type, again.failure)

    @pytest.mark.parametrize(
        ("pvno", "digest", "answer"),
        [(3, "sha512", "pkiconf"), (2, "sha512", "badCertId")],
    )
    def test_another_hash(
        self, mode: str, pvno: int, digest: str, answer: str
    ) -> None:
        """RFC 9810, section 5.3.18: with hashAlg, in version 3; whichever
        version the request had."""
        site, device, reply = self.begun(mode)
        algorithm = der.sequence(der.oid("2.16.840.1.101.3.4.2.3"))
        body = cert_conf(
            reply.certificate,
            digest=hashlib.new(digest, reply.certificate).digest(),
            more=der.explicit(0, algorithm),
        )
        done = site.send(signed(device, body, **going_on(reply, pvno=pvno)))
        assert answer == (done.failure if done.type == "error" else done.type)

    @pytest.mark.parametrize(
        ("body", "failure"),
        [
            # no hash, or the right one by an algorithm that is not named
            (lambda _: status_of(der.octet_string(b"")), "badCertId"),
            (
                lambda one: cert_conf(
                    one, digest=hashlib.sha512(one).digest()
                ),
                "badCertId",
            ),
            (lambda _: status_of(b""), "badDataFormat"),
        ],
    )
    def test_a_hash_that_is_none(
        self, mode: str, body: Any, failure: str
    ) -> None:
        """Told by error, and the certificate waits on."""
        site, device, reply = self.begun(mode)
        told = site.send(
            signed(device, body(reply.certificate), **going_on(reply))
        )
        assert ("error", failure) == (told.type, told.failure)
        assert site.record(reply.certificate).confirm_by is not None

    def test_too_late(self, mode: str) -> None:
        """What has been revoked meanwhile: certRevoked."""
        site, device, reply = self.begun(mode)
        site.clock.advance(301)
        result_of(Deferred.fromCoroutine(site.ra.tend()))
        now = site.ra.now()
        told = site.send(
            signed(
                device,
                cert_conf(reply.certificate),
                **going_on(reply, message_time=now),
            )
        )
        assert ("error", "certRevoked") == (told.type, told.failure)

    def test_no_ca_pubs_for_who_has_a_certificate(self, mode: str) -> None:
        """caPubs are for who comes new to the PKI (section 4.1.1)."""
        _, _, reply = self.begun(mode)
        assert not reply._decoded["body"]["ip"]["caPubs"].isValue

    def test_polling_for_nothing(self, mode: str) -> None:
        """What waits for nobody, and a transaction that there is not:
        badRequest."""
        site, device, reply = self.begun(mode)
        for names in (going_on(reply), {}):
            told = site.send(signed(device, poll_req(), **names))
            assert "badRequest" == told.failure
            assert told.type == ("ip" if names else "error")


@MODES
class RevocationTests:
    """rr (RFC 9483, section 4.2), answered by rp whatever it is."""

    def named(self, device: Signer, **changes: Any) -> CertTemplate:
        """Return what names a certificate."""
        facts = read_certificate(device.certificate)
        return evolve(
            CertTemplate(issuer=facts.issuer, serial=facts.serial), **changes
        )

    def told(self, site: Site, signer: Signer, body: PKIBody) -> Reply:
        """Return the rp."""
        reply = site.send(signed(signer, body))
        assert "rp" == reply.type
        return reply

    def test_everything_that_is_right(self, mode: str) -> None:
        """A template may repeat all that the certificate says."""
        site = make_site(mode=mode)
        device = site.enrolled()
        facts = read_certificate(device.certificate)
        template = self.named(
            device,
            version=2,
            subject=facts.subject,
            public_key=facts.public_key.spki,
            not_before=facts.not_before,
            not_after=facts.not_after,
        )
        reply = self.told(site, device, rev_req(template, 4))
        assert "accepted" == reply.pki_status
        (text,) = reply._info["statusString"]
        assert "the certificate is revoked" == str(text)

    @pytest.mark.parametrize(
        ("changes", "failure"),
        [
            ({"version": 0}, "badRequest"),
            ({"version": 1}, "badRequest"),
            ({"public_key": spki(new_key())}, "badCertId"),
            (
                {"extensions": (Extension("1.2.3", False, b"\x05\x00"),)},
                "badCertId",
            ),
        ],
    )
    def test_something_that_is_wrong(
        self, mode: str, changes: dict[str, Any], failure: str
    ) -> None:
        """RFC 4211, section 5, has version 3 only; all else is to be that of
        the certificate."""
        site = make_site(mode=mode)
        device = site.enrolled()
        reply = self.told(
            site, device, rev_req(self.named(device, **changes), 1)
        )
        assert failure == reply.failure

    @pytest.mark.parametrize("field", ["not_before", "not_after"])
    def test_another_validity(self, mode: str, field: str) -> None:
        """badCertId."""
        site = make_site(mode=mode)
        device = site.enrolled()
        when = getattr(read_certificate(device.certificate), field) + DAY
        template = self.named(device, **{field: when})
        reply = self.told(site, device, rev_req(template, 1))
        assert "badCertId" == reply.failure

    @pytest.mark.parametrize(
        ("reasons", "failure"),
        [((0, 8), "badRequest"), ((11,), "badDataFormat")],
    )
    def test_reasons(
        self, mode: str, reasons: tuple[int, ...], failure: str
    ) -> None:
        """To revoke and to revive; and one that there is not."""
        site = make_site(mode=mode)
        device = site.enrolled()
        body = rev_req(self.named(device), *reasons)
        assert failure == self.told(site, device, body).failure

    @pytest.mark.parametrize(
        "value", [b"\x02\x01\x01", b"\x0a\x00", b"\x30\x00", b"keyCompromise"]
    )
    def test_a_reason_that_does_not_decode(
        self, mode: str, value: bytes
    ) -> None:
        """badDataFormat."""
        site = make_site(mode=mode)
        device = site.enrolled()
        reason = der.sequence(der.oid("2.5.29.21"), der.octet_string(value))
        body = PKIBody(
            "rr",
            der.sequence(
                der.sequence(self.named(device).der(), der.sequence(reason))
            ),
        )
        assert "badDataFormat" == self.told(site, device, body).failure

    def test_reviving(self, mode: str) -> None:
        """What is valid is not on hold: badCertId, for its owner and for an
        authority; and who was put on hold cannot sign: certRevoked."""
        site, ra = make_ra_site(mode=mode)
        device = site.enrolled("branch-1")
        revive = rev_req(self.named(device), 8)
        for signer in (device, ra):
            assert "badCertId" == self.told(site, signer, revive).failure
        held = self.told(site, device, rev_req(self.named(device), 6))
        assert "accepted" == held.pki_status
        assert "certRevoked" == self.told(site, device, revive).failure
        done = self.told(site, ra, revive)
        (text,) = done._info["statusString"]
        assert ("accepted", "the certificate is revived") == (
            done.pki_status,
            str(text),
        )

    @pytest.mark.parametrize("changes", [{"issuer": cn("x")}, {"serial": "5"}])
    def test_reviving_something_else(
        self, mode: str, changes: dict[str, Any]
    ) -> None:
        """badCertId, also for an authority."""
        site, ra = make_ra_site(mode=mode)
        device = site.enrolled("branch-1")
        self.told(site, ra, rev_req(self.named(device), 6))
        body = rev_req(self.named(device, **changes), 8)
        assert "badCertId" == self.told(site, ra, body).failure

    @pytest.mark.parametrize("kind", ["ir", "cr", "p10cr", "kur", "genm"])
    def test_who_is_revoked_asks_for_nothing(
        self, mode: str, kind: str
    ) -> None:
        """RFC 9483, section 3.5: certRevoked."""
        site = make_site(
            mode=mode,
            allow={"certificate": ("ir", "cr", "p10cr", "kur", "rr", "genm")},
        )
        device = site.enrolled()
        self.told(site, device, rev_req(self.named(device), 1))
        body = {"p10cr": pkcs10(), "genm": GENM}.get(kind) or asks(kind)
        reply = site.send(signed(device, body))
        assert ("error", "certRevoked") == (reply.type, reply.failure)


@MODES
class GeneralTests:
    """genm (RFC 9483, section 4.3; RFC 9810, section 5.3.19)."""

    @pytest.mark.parametrize(
        "name",
        [
            "caProtEncCert",
            "signKeyPairTypes",
            "encKeyPairTypes",
            "preferredSymmAlg",
            "currentCRL",
            "caCerts",
            "certReqTemplate",
        ],
    )
    def test_a_value_where_none_may_be(self, mode: str, name: str) -> None:
        """badRequest; the same without one is answered."""
        site = make_site(mode=mode)
        device = site.enrolled()
        for value, told in ((b"\x04\x02ab", "error"), (b"", "genp")):
            if name == "currentCRL" and not value:
                continue  # there is none yet
            item = der.sequence(der.oid(INFO_TYPES[name]), value)
            reply = site.send(
                signed(device, PKIBody("genm", der.sequence(item)))
            )
            assert told == reply.type
            assert told == "genp" or "badRequest" == reply.failure

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("crlStatusList", b""),
            ("keyPairParamReq", b""),
            ("rootCaCert", b"\x04\x02ab"),
            ("crlStatusList", b"\x30\x00"),
            ("suppLangTags", b"\x30\x00"),
            ("suppLangTags", b"\x30\x04\x0c\x02de"),
        ],
    )
    def test_another_value(self, mode: str, name: str, value: bytes) -> None:
        """None where one must be, none of its type, or of no use:
        badRequest."""
        site = make_site(mode=mode)
        item = der.sequence(der.oid(INFO_TYPES[name]), value)
        reply = site.send(
            protected_by_secret(
                site.secret(), PKIBody("genm", der.sequence(item))
            )
        )
        assert ("error", "badRequest") == (reply.type, reply.failure)

    @pytest.mark.parametrize(
        ("names", "profiles", "code"),
        [
            (("certReqTemplate",), ("device",), ""),
            (("certReqTemplate",), ("",), ""),
            (("certReqTemplate",), ("other",), "cert-profile"),
            ((), ("device",), ""),
            ((), ("other",), "cert-profile"),
            (("caCerts",), ("other",), ""),
            (("caCerts", "certReqTemplate"), ("", "other"), "cert-profile"),
            (("caCerts", "certReqTemplate"), ("other", "device"), ""),
            (("certReqTemplate",), ("device", ""), "cert-profile-count"),
        ],
    )
    def test_a_profile(
        self,
        mode: str,
        names: tuple[str, ...],
        profiles: tuple[str, ...],
        code: str,
    ) -> None:
        """RFC 9810, section 5.1.1.4: one for each type, in their order; it
        counts for a template, and is badRequest if it is not offered."""
        site = make_site(mode=mode)
        device = site.enrolled()
        if not names:
            result_of(Deferred.fromCoroutine(site.ra.revocation.load()))
        items = [der.sequence(der.oid(INFO_TYPES[name])) for name in names]
        reply = site.send(
            signed(
                device,
                PKIBody("genm", der.sequence(*items)),
                general_info=GeneralInfo(cert_profiles=profiles),
            )
        )
        if not code:
            assert "genp" == reply.type
        else:
            assert ("error", "badRequest", code) == (
                reply.type,
                reply.failure,
                reply.code,
            )


@MODES
class NestedTests:
    """What a registration authority passes on (RFC 9483, section 5.2.2)."""

    @pytest.mark.parametrize("outer", ["own", "none", "another"])
    def test_a_recip_nonce(self, mode: str, outer: str) -> None:
        """Around what goes on, the outer one is the same or absent; around
        what begins, it is absent: badRecipientNonce."""
        site, ra = make_ra_site(mode=mode)
        secret = site.secret()
        first = protected_by_secret(secret, asks())
        names = copied(first)
        if outer == "another":
            told = site.send(
                signed(ra, nested(first), recip_nonce=b"n" * 16, **names)
            )
            assert ("error", "badRecipientNonce") == (told.type, told.failure)
        reply = site.send(signed(ra, nested(first), **names))
        confirm = protected_by_secret(
            secret, cert_conf(reply.certificate), **going_on(reply)
        )
        nonce = {
            "own": reply.header.sender_nonce,
            "none": None,
            "another": b"n" * 16,
        }[outer]
        done = site.send(
            signed(ra, nested(confirm), recip_nonce=nonce, **copied(confirm))
        )
        if outer == "another":
            assert ("error", "badRecipientNonce") == (done.type, done.failure)
        else:
            assert "pkiconf" == done.type

    def test_a_header_that_was_copied_whole(self, mode: str) -> None:
        """generalInfo, too, as some registration authorities do."""
        site, ra = make_ra_site(mode=mode)
        message = protected_by_secret(site.secret(), asks(), **IMPLICIT)
        reply = site.send(
            signed(ra, nested(message), **copied(message), **IMPLICIT)
        )
        assert ("ip", "accepted") == (reply.type, reply.pki_status)
        assert reply.header.general_info.implicit_confirm

    @pytest.mark.parametrize(
        ("changes", "failure"),
        [
            ({"sender_nonce": None}, "badSenderNonce"),
            ({"sender_nonce": bytes(8)}, "badSenderNonce"),
            ({"transaction_id": bytes(100)}, "badRequest"),
            ({"recip_nonce": b"n" * 16}, "badRecipientNonce"),
            ({"text": "wrong"}, "badMessageCheck"),
            ({"pvno": 1}, "unsupportedVersion"),
        ],
    )
    def test_a_fault_inside(
        self, mode: str, changes: dict[str, Any], failure: str
    ) -> None:
        """Alone or in a batch: told as what it is, and in a batch with the
        number of the message; nothing is issued."""
        site, ra = make_ra_site(mode=mode)
        before = len(site.store.tables.certificates)
        good = protected_by_secret(site.secret(), asks())
        bad = protected_by_secret(site.secret(), asks(), **changes)
        alone = site.send(signed(ra, nested(bad), **copied(bad)))
        batch = site.send(signed(ra, nested(good, bad)))
        for reply in (alone, batch):
            assert ("error", failure) == (reply.type, reply.failure)
        (text,) = batch._info["statusString"]
        assert str(text).startswith("message 2 inside") or "text" in changes
        assert before == len(site.store.tables.certificates)

    def test_a_secret_where_a_signature_must_be(self, mode: str) -> None:
        """A kur inside: wrongIntegrity, alone or in a batch."""
        site, ra = make_ra_site(mode=mode)
        bad = protected_by_secret(site.secret(), asks("kur"))
        good = protected_by_secret(site.secret(), GENM)
        for body, names in (
            (nested(bad), copied(bad)),
            (nested(good, bad), {}),
        ):
            reply = site.send(signed(ra, body, **names))
            assert ("error", "wrongIntegrity") == (reply.type, reply.failure)

    def test_a_batch_in_two_versions(self, mode: str) -> None:
        """Each answer has the version of its own request, its transactionID
        and its nonce (RFC 9810, section 7; RFC 9483, section 5.2.2.2)."""
        site, ra = make_ra_site(mode=mode)
        device = site.enrolled()
        messages = [
            signed(device, asks("cr"), pvno=pvno, **IMPLICIT)
            for pvno in (2, 3, 2)
        ]
        batch = signed(ra, nested(*messages), pvno=3)
        reply = site.send(batch)
        assert ("nested", 3) == (reply.type, reply.header.pvno)
        for sent, answer in zip(
            (batch, *messages), (reply, *inside(reply)), strict=True
        ):
            asked, told = read_message(sent).header, answer.header
            assert (asked.pvno, asked.transaction_id, asked.sender_nonce) == (
                told.pvno,
                told.transaction_id,
                told.recip_nonce,
            )
            assert answer.is_signed()

    def test_nobody_is_cross_certified(self, mode: str) -> None:
        """Whoever adds protection: notAuthorized, alone and in a batch."""
        site, ra = make_ra_site(mode=mode)
        device = site.enrolled()
        bad = signed(device, asks("ccr"))
        alone = site.send(signed(ra, nested(bad), **copied(bad)))
        assert ("error", "notAuthorized") == (alone.type, alone.failure)
        question = signed(device, GENM)
        batch = site.send(signed(ra, nested(question, bad)))
        assert ["genp", "error"] == [each.type for each in inside(batch)]


@MODES
class VouchingTests:
    """raVerified (RFC 9483, section 5.2.3.2)."""

    @pytest.mark.parametrize("kind", ["ir", "cr"])
    def test_by_an_authority(self, mode: str, kind: str) -> None:
        """Accepted."""
        site, ra = make_ra_site(mode=mode)
        body = asks(kind, "branch-1", proof=b"\x80\x00")
        reply = site.send(signed(ra, body))
        assert "accepted" == reply.pki_status

    def test_by_a_device(self, mode: str) -> None:
        """notAuthorized, also under the protection that an authority adds:
        what is inside counts by its own."""
        site, ra = make_ra_site(mode=mode)
        device = site.enrolled("branch-1")
        message = signed(device, asks("cr", "branch-1", proof=b"\x80\x00"))
        for octets in (
            message,
            signed(ra, nested(message), **copied(message)),
        ):
            reply = site.send(octets)
            assert ("cp", "notAuthorized") == (reply.type, reply.failure)

    def test_a_certificate_that_only_says_so(self, mode: str) -> None:
        """cmcRA of another CA makes nobody an authority."""
        site, _ = make_ra_site(mode=mode)
        key = new_key()
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "RA")])
        now = site.ra.now()
        made = (
            x509.CertificateBuilder(
                name, name, key.public_key(), 9, now - DAY, now + DAY
            )
            .add_extension(
                x509.ExtendedKeyUsage(
                    [x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")]
                ),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        foreign = Signer(made.public_bytes(Encoding.DER), key)
        body = asks("cr", "branch-1", proof=b"\x80\x00")
        reply = site.send(signed(foreign, body))
        assert ("error", "signerNotTrusted") == (reply.type, reply.failure)


class FormTests:
    """Octets that are no DER, or more than a message (RFC 9811)."""

    @pytest.mark.parametrize(
        "change",
        [
            lambda one: one + b"\x00",
            lambda one: one + b"\x05\x00",
            # a length in more octets than it needs
            lambda one: b"\x30\x83\x00" + one[2:],
            # an indefinite length
            lambda one: b"\x30\x80" + one[4:] + b"\x00\x00",
        ],
    )
    def test_what_is_no_der(self, change: Any) -> None:
        """badDataFormat in its transaction, or 400 where not even that can
        be read; never an answer to what it may have meant."""
        site = make_site()
        message = protected_by_secret(site.secret(), asks(), **IMPLICIT)
        assert b"\x30\x82" == message[:2]
        before = len(site.store.tables.certificates)
        reply = site.send(change(message))
        assert reply.status in {200, 400}
        if reply.status == 200:
            assert ("error", "badDataFormat") == (reply.type, reply.failure)
            asked = read_message(message).header
            assert (asked.transaction_id, asked.sender_nonce) == (
                reply.header.transaction_id,
                reply.header.recip_nonce,
            )
        assert before == len(site.store.tables.certificates)

    @pytest.mark.parametrize("pvno", [-1, 0, 1, 4, 255, 256, 1 << 40])
    def test_other_versions(self, pvno: int) -> None:
        """unsupportedVersion, whatever number it is."""
        site = make_site()
        reply = site.send(
            protected_by_secret(site.secret(), asks(), pvno=pvno)
        )
        assert ("error", "unsupportedVersion") == (reply.type, reply.failure)
