# SPDX-License-Identifier: MIT
"""
The same faults of header and protection in every kind of message: each is
told by the failInfo that it has in an ``ir``, whatever it would have asked
for (RFC 9483, sections 3.1, 3.2 and 3.5).

``rr`` is answered by ``rp`` (section 4.2), everything else by ``error``.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from attrs import evolve, frozen
from cmp_client import (
    Reply,
    Signer,
    Site,
    asks,
    cn,
    header_of,
    make_ra_site,
    make_site,
    new_key,
    pbm,
    pkcs10,
    protected_by_secret,
    rev_req,
    signed,
)

from trstctl.model import MintedSecret
from trstctl.pkix import algorithms, der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp import PKIBody, prepare, read_message
from trstctl.pkix.cmp_header import party
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.testing import EPOCH

HOUR = timedelta(hours=1)
GENM = PKIBody("genm", der.sequence())
RSA = algorithms.algorithm_identifier("sha256-with-rsa")

#: Whom nothing here needs.
STRANGER = Signer(b"", None)

#: Every kind of message that begins a transaction.
KINDS = ("ir", "cr", "p10cr", "kur", "rr", "genm", "ccr", "nested", "batch")

#: Those that a shared secret can protect.
MAC_KINDS = ("ir", "cr", "p10cr", "genm")


@frozen
class Place:
    """A gateway, a device of it, and who passes on for others."""

    site: Site
    device: Signer
    ra: Signer
    secret: MintedSecret

    def body(self, kind: str) -> PKIBody:
        """Return a body of a kind, with nothing wrong in it."""
        if kind == "rr":
            facts = read_certificate(self.device.certificate)
            return rev_req(
                CertTemplate(issuer=facts.issuer, serial=facts.serial), 1
            )
        if kind in {"nested", "batch"}:
            inside = [
                protected_by_secret(self.secret, GENM)
                for _ in range(1 if kind == "nested" else 2)
            ]
            return PKIBody("nested", der.sequence(*inside))
        if kind == "p10cr":
            return pkcs10()
        return GENM if kind == "genm" else asks(kind)

    def signer(self, kind: str) -> Signer:
        """Return who may send it."""
        return self.ra if kind in {"nested", "batch"} else self.device

    def header(self, kind: str, body: PKIBody) -> dict[str, Any]:
        """Return what its header must say besides."""
        if kind != "nested":
            return {}
        ((_, _, inside),) = der.children(der.content(body.value, der.SEQUENCE))
        header = read_message(inside).header
        return {
            "transaction_id": header.transaction_id,
            "sender_nonce": header.sender_nonce,
        }

    def send(self, kind: str, **changes: Any) -> Reply:
        """Send a signed message that has been changed."""
        body = self.body(kind)
        return self.site.send(
            signed(
                self.signer(kind),
                body,
                **{**self.header(kind, body), **changes},
            )
        )


@cache
def place(mode: str) -> Place:
    """Return one gateway of a mode: nothing here changes anything in it."""
    site, ra = make_ra_site(
        mode=mode,
        allow={"certificate": ("ir", "cr", "p10cr", "kur", "rr", "genm")},
    )
    return Place(site, site.enrolled(), ra, site.secret())


def told(reply: Reply, kind: str) -> str:
    """Return the failInfo; the body must be the right one."""
    expected = ("rp" if kind == "rr" else "error", "rejection")
    assert expected == (reply.type, reply.pki_status)
    assert reply.is_signed()
    return reply.failure


@pytest.mark.parametrize("kind", KINDS)
class SignedTests:
    """Whatever is signed."""

    @pytest.mark.parametrize("mode", ["interop", "strict"])
    @pytest.mark.parametrize(
        ("changes", "failure"),
        [
            ({"sender_nonce": None}, "badSenderNonce"),
            ({"sender_nonce": bytes(8)}, "badSenderNonce"),
            ({"sender_nonce": bytes(100)}, "badSenderNonce"),
            ({"transaction_id": bytes(100)}, "badRequest"),
            ({"recip_nonce": b"n" * 16}, "badRecipientNonce"),
            ({"sender": party(cn("another"))}, "badMessageCheck"),
            ({"sender": party(cn("issuing CA"))}, "badMessageCheck"),
            ({"extra": ()}, "badMessageCheck"),
            # an algorithm that is not one of the signer's key
            ({"protection_alg": RSA}, "badMessageCheck"),
        ],
    )
    def test_a_fault(
        self, kind: str, mode: str, changes: dict[str, Any], failure: str
    ) -> None:
        """In both modes."""
        assert failure == told(place(mode).send(kind, **changes), kind)

    @pytest.mark.parametrize(
        ("changes", "failure"),
        [
            ({"transaction_id": None}, "badDataFormat"),
            ({"transaction_id": bytes(8)}, "badRequest"),
            ({"recip_nonce": bytes(16)}, "badRecipientNonce"),
            ({"message_time": None}, "badTime"),
            ({"message_time": EPOCH - 5 * HOUR}, "badTime"),
            ({"message_time": EPOCH + 5 * HOUR}, "badTime"),
            ({"sender_kid": None}, "badMessageCheck"),
            ({"sender_kid": bytes(20)}, "badMessageCheck"),
        ],
    )
    def test_a_fault_that_a_strict_endpoint_minds(
        self, kind: str, changes: dict[str, Any], failure: str
    ) -> None:
        """In ``strict`` mode only."""
        assert failure == told(place("strict").send(kind, **changes), kind)

    @pytest.mark.parametrize("mode", ["interop", "strict"])
    def test_half_a_protection(self, kind: str, mode: str) -> None:
        """Algorithm or value alone, or neither: badMessageCheck."""
        here = place(mode)
        body = here.body(kind)
        names = here.header(kind, body)
        for algorithm, value in ((RSA, None), (None, bytes(32)), (None, None)):
            header = header_of(protection_alg=algorithm, **names)
            reply = here.site.send(prepare(header, body).finish(value))
            assert "badMessageCheck" == told(reply, kind)

    @pytest.mark.parametrize("mode", ["interop", "strict"])
    def test_a_wrong_signature(self, kind: str, mode: str) -> None:
        """Of another key: badMessageCheck."""
        here = place(mode)
        stranger = Signer(here.signer(kind).certificate, new_key())
        body = here.body(kind)
        reply = here.site.send(
            signed(stranger, body, **here.header(kind, body))
        )
        assert "badMessageCheck" == told(reply, kind)

    @pytest.mark.parametrize("mode", ["interop", "strict"])
    def test_the_signer_comes_first(self, kind: str, mode: str) -> None:
        """RFC 9483, section 3.3: not behind its issuer."""
        here = place(mode)
        signer = here.signer(kind)
        chain = here.site.ra.ca_certificates(here.site.resource.endpoint)
        reply = here.send(kind, extra=(*chain, signer.certificate))
        assert "badMessageCheck" == told(reply, kind)

    def test_an_answer_is_addressed(self, kind: str) -> None:
        """Header of a refusal: of this transaction, for this sender."""
        here = place("strict")
        body = here.body(kind)
        octets = signed(
            here.signer(kind),
            body,
            **{**here.header(kind, body), "message_time": None},
        )
        asked, answer = read_message(octets).header, here.site.send(octets)
        found = answer.header
        assert (
            asked.transaction_id,
            asked.sender_nonce,
            asked.sender.der,
        ) == (
            found.transaction_id,
            found.recip_nonce,
            found.recipient.der,
        )
        assert found.sender_nonce != asked.sender_nonce
        assert 16 == len(found.sender_nonce or b"")
        own = read_certificate(answer.extra_certs[0])
        assert (own.subject, EPOCH) == (found.sender.name, found.message_time)


@pytest.mark.parametrize("mode", ["interop", "strict"])
@pytest.mark.parametrize("kind", MAC_KINDS)
class SecretTests:
    """Whatever a shared secret protects: the refusal is signed, as nobody is
    known to have sent it."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"text": "wrong"},
            {"sender": party(cn("nobody")), "sender_kid": b"nobody"},
            {"sender": party(()), "sender_kid": None},
        ],
    )
    def test_a_fault(
        self, kind: str, mode: str, changes: dict[str, Any]
    ) -> None:
        """A wrong MAC, and a reference that nobody knows or none at all:
        badMessageCheck."""
        site = make_site(mode=mode)
        here = Place(site, STRANGER, STRANGER, site.secret())
        octets = protected_by_secret(here.secret, here.body(kind), **changes)
        assert "badMessageCheck" == told(site.send(octets), kind)

    @pytest.mark.parametrize(
        "algorithm",
        [
            "1.2.840.113533.7.66.30",  # DHBasedMac
            "1.2.840.113533.7.66.16",  # KemBasedMac
            "1.2.840.113549.2.9",  # HMAC without derivation
            "2.16.840.1.101.3.4.2.19",  # KMAC
            "2.16.840.1.101.3.4.1.9",  # GMAC
        ],
    )
    def test_no_password_based_mac(
        self, kind: str, mode: str, algorithm: str
    ) -> None:
        """RFC 9481, section 6.1, lists two: badAlg."""
        site = make_site(mode=mode)
        here = Place(site, STRANGER, STRANGER, site.secret())
        reference = here.secret.record.id
        header = header_of(
            sender=party(cn(reference)),
            sender_kid=reference.encode(),
            protection_alg=der.sequence(der.oid(algorithm)),
        )
        octets = prepare(header, here.body(kind)).finish(bytes(32))
        assert "badAlg" == told(site.send(octets), kind)

    @pytest.mark.parametrize("salt", [b"", bytes(129)])
    def test_salts(self, kind: str, mode: str, salt: bytes) -> None:
        """None, or one that is too long: badAlg."""
        site = make_site(mode=mode)
        here = Place(site, STRANGER, STRANGER, site.secret())
        octets = protected_by_secret(
            here.secret, here.body(kind), mac=evolve(pbm(), salt=salt)
        )
        assert "badAlg" == told(site.send(octets), kind)
