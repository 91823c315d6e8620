# SPDX-License-Identifier: MIT
"""
What requests for certificates say, case by case: templates, extensions, keys,
proofs and identifiers (RFC 9483, section 4.1; RFC 4211), in both modes.

What is told in another way in ``interop`` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from cmp_client import (
    IMPLICIT,
    Signer,
    Site,
    asks,
    cert_conf,
    cert_req,
    cn,
    make_ra_site,
    make_site,
    new_key,
    pkcs10,
    protected_by_secret,
    signed,
    spki,
)
from twisted.internet.defer import Deferred

from trstctl.model import CertificateStatus, Extension
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp import PKIBody, read_message
from trstctl.pkix.cmp_header import party
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.protocols.cmp.parties import SignerParty
from trstctl.protocols.cmp.updating import why_over
from trstctl.testing import EPOCH, result_of

MODES = ["interop", "strict"]

KEY_USAGE = "2.5.29.15"
SAN = "2.5.29.17"
CONSTRAINTS = "2.5.29.19"
EXTENDED = "2.5.29.37"
NULL = b"\x05\x00"


@pytest.fixture(params=MODES)
def site(request: pytest.FixtureRequest) -> Site:
    """A gateway, in either mode."""
    return make_site(mode=request.param)


@pytest.fixture
def device(site: Site) -> Signer:
    """A device that the gateway knows."""
    return site.enrolled()


def asked(
    kind: str = "cr",
    key: Any = None,
    *,
    proof: bytes | None = None,
    number: int = 0,
    information: bytes = b"",
    controls: bytes = b"",
    **fields: Any,
) -> PKIBody:
    """Return a request with this template, properly signed."""
    key = key or new_key()
    template = CertTemplate(
        **{"subject": cn("device"), "public_key": spki(key), **fields}
    )
    one = cert_req(
        template, key, number=number, proof=proof, controls=controls
    )
    if information:
        parts = der.content(one, der.SEQUENCE)
        one = der.sequence(parts, der.sequence(information))
    return PKIBody(kind, der.sequence(one))


def with_extension(oid: str, value: bytes, *, critical: bool = True) -> Any:
    """Return a template's extensions."""
    return {"extensions": (Extension(oid, critical, value),)}


def public_key(oid: str, parameters: bytes, key: bytes) -> dict[str, bytes]:
    """Return a template's key of whatever kind."""
    algorithm = der.sequence(der.oid(oid), parameters)
    return {"public_key": der.sequence(algorithm, der.bit_string(key))}


def rsa_of(bits: int) -> dict[str, bytes]:
    """Return a template's RSA key of this size, which nobody has."""
    key = der.sequence(der.integer((1 << (bits - 1)) | 1), der.integer(65537))
    return public_key("1.2.840.113549.1.1.1", NULL, key)


class TemplateTests:
    """Told in the body of the answer; the failInfo is exactly one."""

    @pytest.mark.parametrize(
        "fields",
        [
            # Nothing that is an extension, or is one twice.
            with_extension("1.2.840.113549.1.1.1", bytes(range(16))),
            with_extension("1.2.3.4", NULL),
            with_extension("1.2.3.4", NULL, critical=False),
            with_extension(KEY_USAGE, bytes(range(16))),
            with_extension(KEY_USAGE, der.integer(5)),
            with_extension(EXTENDED, der.integer(5)),
            with_extension(CONSTRAINTS, der.integer(5)),
            with_extension(SAN, der.integer(5)),
            with_extension(SAN, der.sequence()),
            {"extensions": (Extension(CONSTRAINTS, True, b"\x30\x00"),) * 2},
            # No CA, but as if it were one (RFC 5280, section 4.2.1.9).
            with_extension(
                CONSTRAINTS, der.sequence(der.boolean(False), der.integer(5))
            ),
            with_extension(KEY_USAGE, b"\x03\x02\x02\x84"),  # keyCertSign
            # Keys that nobody certifies.
            rsa_of(512),
            rsa_of(9000),
            rsa_of(18000),
            public_key(
                "1.2.840.113549.1.3.1",  # Diffie-Hellman
                der.sequence(der.integer((1 << 511) | 1), der.integer(2)),
                der.integer(5),
            ),
            public_key(
                "1.2.840.10045.2.1", der.oid("1.2.840.10045.3.1.7"), b"\x04abc"
            ),
            # Neither subject nor alternative names.
            {"subject": ()},
            {"subject": None},
            {"version": 0},
            {"serial": "5"},
            {"public_key": None},
        ],
    )
    def test_a_template_that_will_not_do(
        self, site: Site, device: Signer, fields: dict[str, Any]
    ) -> None:
        """badCertTemplate, also for what of it cannot be read."""
        before = len(site.store.tables.certificates)
        reply = site.send(signed(device, asked(**fields)))
        assert ("cp", "rejection", "badCertTemplate") == (
            reply.type,
            reply.pki_status,
            reply.failure,
        )
        assert before == len(site.store.tables.certificates)

    @pytest.mark.parametrize(
        ("proof", "failure"),
        [
            (b"", "badPOP"),
            (b"\xa1\x02\x05\x00", "badPOP"),
            (b"\xa5\x02\x05\x00", "badPOP"),
            (b"\xa3\x03\x81\x01\x01", "badPOP"),  # challengeResp
            (b"\xa3\x02\xa3\x00", "badPOP"),  # agreeMAC
            (b"\xa2\x02\xa4\x00", "badPOP"),  # encryptedKey
            (b"\x80\x00", "notAuthorized"),  # raVerified
        ],
    )
    def test_a_proof_that_will_not_do(
        self, site: Site, device: Signer, proof: bytes, failure: str
    ) -> None:
        """Also one that cannot be read, or is not served: badPOP."""
        for kind, answer in (("ir", "ip"), ("cr", "cp"), ("kur", "kup")):
            reply = site.send(signed(device, asked(kind, proof=proof)))
            assert (answer, failure) == (reply.type, reply.failure)

    def test_what_cannot_be_read_has_its_cert_req_id(
        self, site: Site, device: Signer
    ) -> None:
        """RFC 9810, section 5.3.4: to find the request by."""
        fields = with_extension(KEY_USAGE, b"no DER")
        reply = site.send(signed(device, asked(number=7, **fields)))
        assert ("badCertTemplate", 7) == (reply.failure, reply.cert_req_id)

    @pytest.mark.parametrize("kind", ["ir", "cr", "kur"])
    def test_minus_one_is_for_p10cr(
        self, site: Site, device: Signer, kind: str
    ) -> None:
        """RFC 9810, section 5.3.4: badRequest."""
        reply = site.send(signed(device, asked(kind, number=-1)))
        assert ("badRequest", -1) == (reply.failure, reply.cert_req_id)

    @pytest.mark.parametrize("version", [1, 0xFF])
    def test_a_csr_of_another_version(
        self, site: Site, device: Signer, version: int
    ) -> None:
        """RFC 2986, section 4.1: badCertTemplate."""
        value = bytearray(pkcs10().value)
        value[value.index(b"\x02\x01\x00") + 2] = version
        reply = site.send(signed(device, PKIBody("p10cr", bytes(value))))
        assert ("cp", "badCertTemplate") == (reply.type, reply.failure)

    def test_names_only_beside_the_subject(self, site: Site) -> None:
        """RFC 9483, section 4.1.1: the NULL-DN with alternative names."""
        secret = site.secret()
        name = secret.record.names[0].removeprefix("dns:*").encode()
        names = der.sequence(der.tlv(0x82, b"device" + name))
        body = asked("ir", subject=(), **with_extension(SAN, names))
        reply = site.send(protected_by_secret(secret, body, **IMPLICIT))
        assert ("ip", "accepted") == (reply.type, reply.pki_status)
        assert () == read_certificate(reply.certificate).subject

    @pytest.mark.parametrize(
        "fields",
        [
            with_extension(KEY_USAGE, b"\x03\x02\x07\x80"),
            with_extension(CONSTRAINTS, der.sequence()),
            with_extension("2.5.29.14", der.octet_string(bytes(20))),
            {"version": 2, "issuer": cn("issuing CA")},
        ],
    )
    def test_what_may_be_asked_for(
        self, site: Site, device: Signer, fields: dict[str, Any]
    ) -> None:
        """Within what is issued, critical or not."""
        reply = site.send(signed(device, asked(**fields), **IMPLICIT))
        assert ("cp", "accepted") == (reply.type, reply.pki_status)


class UpdateTests:
    """kur (RFC 9483, section 4.1.3)."""

    def test_an_update_for_nobody(self, site: Site, device: Signer) -> None:
        """The NULL-DN without alternative names: badCertTemplate."""
        reply = site.send(signed(device, asked("kur", subject=())))
        assert ("kup", "badCertTemplate") == (reply.type, reply.failure)

    @pytest.mark.parametrize(
        ("mode", "failure"), [("strict", "badCertTemplate"), ("interop", "")]
    )
    def test_an_update_without_a_subject(
        self, mode: str, failure: str
    ) -> None:
        """By the letter it has one; older clients mean that of before."""
        site = make_site(mode=mode)
        reply = site.send(
            signed(site.enrolled(), asked("kur", subject=None), **IMPLICIT)
        )
        assert ("kup", failure) == (reply.type, reply.failure)

    def test_one_at_a_time(self, site: Site, device: Signer) -> None:
        """Nothing has been revoked yet: badRequest."""
        first = site.send(signed(device, asks("kur")))
        second = site.send(signed(device, asks("kur")))
        assert ("kup", "badRequest", "update-unconfirmed") == (
            second.type,
            second.failure,
            second.code,
        )
        conf = cert_conf(first.certificate)
        going_on = {
            "transaction_id": first.header.transaction_id,
            "recip_nonce": first.header.sender_nonce,
        }
        assert "pkiconf" == site.send(signed(device, conf, **going_on)).type
        third = site.send(signed(device, asks("kur")))
        assert ("certRevoked", "signer-updated") == (third.failure, third.code)

    def test_what_nobody_confirms_is_no_update(self) -> None:
        """After the time for it another may be asked for."""
        site = make_site(confirm_timeout="60s")
        device = site.enrolled()
        first = site.send(signed(device, asks("kur")))
        site.clock.advance(61)
        second = site.send(signed(device, asks("kur")))
        assert "accepted" == second.pki_status
        result_of(site.ra.tend())
        status = site.record(first.certificate).status
        assert CertificateStatus.REVOKED is status
        status = site.record(device.certificate).status
        assert CertificateStatus.VALID is status

    def test_a_signer_that_is_revoked_meanwhile(self, site: Site) -> None:
        """RFC 9483, section 3.6: certRevoked, and not that it is too early."""
        device = site.enrolled()
        facts = read_certificate(device.certificate)
        endpoint = site.resource.endpoint
        result_of(
            site.ra.revoke(
                endpoint.tenant_id, facts.serial, "keyCompromise", "me"
            )
        )
        why = why_over(site.ra, endpoint, SignerParty(facts, ()))
        assert ("certRevoked", "signer-revoked") == result_of(
            Deferred.fromCoroutine(why)
        )

    def test_what_is_confirmed_too_late(self) -> None:
        """RFC 9810, section 5.1.1.2: it replaces nothing any more."""
        site = make_site(confirm_timeout="60s")
        device = site.enrolled()
        first = site.send(signed(device, asks("kur")))
        site.clock.advance(60)
        second = site.send(signed(device, asks("kur")))
        for reply, told in ((second, "pkiconf"), (first, "error")):
            going_on = {
                "transaction_id": reply.header.transaction_id,
                "recip_nonce": reply.header.sender_nonce,
            }
            conf = cert_conf(reply.certificate)
            done = site.send(signed(device, conf, **going_on))
            assert told == done.type
        assert ("certRevoked", "revoked-since") == (done.failure, done.code)
        status = site.record(first.certificate).status
        assert CertificateStatus.REVOKED is status
        status = site.record(second.certificate).status
        assert CertificateStatus.VALID is status
        replaced = site.record(device.certificate).superseded_by
        assert site.record(second.certificate).serial == replaced


class SignerTests:
    """Who has a certificate of this CA (RFC 9483, section 4.1.1)."""

    def test_it_may_begin_with_ir(self, site: Site, device: Signer) -> None:
        """It gets what cr brings: no trust anchor comes along."""
        reply = site.send(signed(device, asked("ir"), **IMPLICIT))
        assert ("ip", "accepted") == (reply.type, reply.pki_status)
        body = read_message(reply.octets).body.value
        parts = der.children(der.content(body, der.SEQUENCE))
        assert [der.SEQUENCE] == [part[0] for part in parts]  # no caPubs


class RegInfoTests:
    """id-regInfo-certReq: another template (RFC 4211, section 7.2)."""

    def information(self, template: CertTemplate) -> bytes:
        """Return what an RA puts beside a request."""
        request = der.sequence(der.integer(0), template.der())
        return der.sequence(der.oid("1.3.6.1.5.5.7.5.2.2"), request)

    def test_it_counts(self) -> None:
        """The template that the proof is over is ignored."""
        site, authority = make_ra_site()
        key = new_key()
        changed = CertTemplate(subject=cn("branch-7"), public_key=spki(key))
        body = asked(
            "cr",
            key,
            subject=cn("somebody else"),
            information=self.information(changed),
        )
        reply = site.send(signed(authority, body, **IMPLICIT))
        assert ("cp", "accepted") == (reply.type, reply.pki_status)
        assert "CN=branch-7" == site.record(reply.certificate).subject

    @pytest.mark.parametrize(
        ("changes", "failure"),
        [
            ({"public_key": spki(new_key())}, "badCertTemplate"),
            ({"public_key": None}, "badCertTemplate"),
            ({"subject": ()}, "badCertTemplate"),
            ({"subject": cn("branch-8"), "serial": "5"}, "badCertTemplate"),
        ],
    )
    def test_it_is_judged(self, changes: dict[str, Any], failure: str) -> None:
        """As any template; its key is that of the other."""
        site, authority = make_ra_site()
        key = new_key()
        changed = CertTemplate(subject=cn("branch-7"), public_key=spki(key))
        body = asked(
            "cr",
            key,
            subject=cn("branch-7"),
            information=self.information(evolve(changed, **changes)),
        )
        reply = site.send(signed(authority, body))
        assert ("cp", failure) == (reply.type, reply.failure)

    def test_it_widens_nothing(self, site: Site, device: Signer) -> None:
        """Whoever asks, the names are what the sender may have."""
        key = new_key()
        changed = CertTemplate(subject=cn("another"), public_key=spki(key))
        body = asked("cr", key, information=self.information(changed))
        reply = site.send(signed(device, body))
        assert ("cp", "badCertTemplate") == (reply.type, reply.failure)


class HeaderTests:
    """Headers that are odd, and right."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"recipient": party(())},
            {"recip_kid": b"CN=CA"},
            {"free_text": ("hello",)},
            {"pvno": 3},
        ],
    )
    def test_a_header(self, site: Site, changes: dict[str, Any]) -> None:
        """RFC 9810, section 5.1.1."""
        reply = site.send(
            protected_by_secret(site.secret(), asks(), **IMPLICIT, **changes)
        )
        assert "accepted" == reply.pki_status
        assert changes.get("pvno", 2) == reply.header.pvno
        assert EPOCH == reply.header.message_time

    @pytest.mark.parametrize(
        "changes",
        [
            {"sender_nonce": None},
            {"transaction_id": b""},
            {"recip_nonce": b"n" * 16},
            {"pvno": 1},
            {"pvno": 4},
        ],
    )
    def test_what_is_wrong_is_told_under_the_secret(
        self, site: Site, changes: dict[str, Any]
    ) -> None:
        """RFC 9483, section 3.2: who has no anchor reads nothing else."""
        secret = site.secret()
        reply = site.send(protected_by_secret(secret, asks(), **changes))
        assert "error" == reply.type
        assert reply.is_mac_of(secret)
        # It has not been used up.
        again = site.send(protected_by_secret(secret, asks(), **IMPLICIT))
        assert "accepted" == again.pki_status

    def test_who_is_not_known_is_told_by_a_signature(
        self, site: Site, device: Signer
    ) -> None:
        """As is who signs; the nonce is wrong for each."""
        wrong: dict[str, Any] = {"sender_nonce": None}
        unreadable = der.sequence(der.oid("1.2.840.113533.7.66.13"))
        for octets in (
            protected_by_secret(site.secret(), asks(), text="x", **wrong),
            protected_by_secret(
                site.secret(), asks(), protection_alg=unreadable, **wrong
            ),
            signed(device, asks("cr"), **wrong),
        ):
            reply = site.send(octets)
            assert ("error", "badSenderNonce") == (reply.type, reply.failure)
            assert reply.is_signed()

    @pytest.mark.parametrize(
        ("kid", "failure"),
        [
            (lambda reference: f"CN={reference}", ""),
            (lambda reference: f"CN={reference}x", "badMessageCheck"),
            (lambda reference: f"DN={reference}", "badMessageCheck"),
            (lambda reference: f"CN=CN={reference}", "badMessageCheck"),
        ],
    )
    def test_the_reference_written_as_a_name(
        self, site: Site, kid: Callable[[str], str], failure: str
    ) -> None:
        """As some clients write the common name that it is."""
        secret = site.secret()
        octets = kid(secret.record.id).encode()
        reply = site.send(
            protected_by_secret(secret, asks(), sender_kid=octets)
        )
        assert failure == reply.failure
