# SPDX-License-Identifier: MIT
"""
What a strict checker of RFC 9483 looks for, condition by condition, in both
modes: the failInfo of each is exactly one.

What is told in another way in ``interop`` says so in its row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
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
    pbmac1,
    pkcs10,
    protected_by_secret,
    rev_req,
    self_signed,
    signed,
    spki,
)
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from trstctl.model import Extension, MintedSecret
from trstctl.pkix import algorithms, der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp import PKIBody, prepare, read_message
from trstctl.pkix.cmp_header import Party
from trstctl.pkix.crmf_template import CertId, CertTemplate

DNS_NAME = Party(b"\x82\x07unknown", None)
EMAIL = Party(b"\x81\x03a@b", None)


@pytest.fixture(params=["interop", "strict"])
def site(request: pytest.FixtureRequest) -> Site:
    """A gateway, in either mode."""
    return make_site(mode=request.param)


def asked(
    key: Any = None, kind: str = "ir", signer: Any = None, **fields: Any
) -> PKIBody:
    """Return a request with this template."""
    key = key or new_key()
    template = CertTemplate(
        **{"subject": cn("device"), "public_key": spki(key), **fields}
    )
    one = cert_req(template, signer or key, number=fields.pop("number", 0))
    return PKIBody(kind, der.sequence(one))


def extension(oid: str, value: bytes) -> Extension:
    """Return an extension."""
    return Extension(oid, False, value)


class HeaderTests:
    """Header and protection of a first message: told by ``error``."""

    @pytest.mark.parametrize(
        ("changes", "failure"),
        [
            ({"sender_nonce": None}, "badSenderNonce"),
            ({"sender_nonce": bytes(8)}, "badSenderNonce"),
            ({"sender_nonce": bytes(100)}, "badSenderNonce"),
            ({"transaction_id": b""}, "badRequest"),
            ({"transaction_id": bytes(100)}, "badRequest"),
            ({"recip_nonce": b"n" * 16}, "badRecipientNonce"),
            ({"pvno": 1}, "unsupportedVersion"),
        ],
    )
    def test_fields(
        self, site: Site, changes: dict[str, Any], failure: str
    ) -> None:
        """In both modes; what only strict minds is in test_cmp_refusals."""
        for octets in (
            protected_by_secret(site.secret(), asks(), **changes),
            signed(site.enrolled(), asks("cr"), **changes),
        ):
            reply = site.send(octets)
            assert ("error", failure) == (reply.type, reply.failure)

    @pytest.mark.parametrize("sender", [DNS_NAME, EMAIL])
    def test_a_sender_that_is_no_directory_name(self, sender: Party) -> None:
        """With a secret, in strict mode: badMessageCheck."""
        for mode, failure in (("strict", "badMessageCheck"), ("interop", "")):
            site = make_site(mode=mode)
            reply = site.send(
                protected_by_secret(site.secret(), asks(), sender=sender)
            )
            assert failure == reply.failure

    @pytest.mark.parametrize("sender", [DNS_NAME, EMAIL])
    def test_a_signer_without_a_name(self, site: Site, sender: Party) -> None:
        """The sender is the signer's subject: badMessageCheck."""
        reply = site.send(signed(site.enrolled(), asks("cr"), sender=sender))
        assert ("error", "badMessageCheck") == (reply.type, reply.failure)

    def test_half_a_protection(self, site: Site) -> None:
        """Either without the other, or neither: badMessageCheck."""
        algorithm = pbmac1().der()
        for header, protection in (
            (header_of(protection_alg=algorithm), None),
            (header_of(), bytes(32)),
            (header_of(), None),
        ):
            reply = site.send(prepare(header, asks()).finish(protection))
            assert ("error", "badMessageCheck") == (reply.type, reply.failure)

    def test_a_wrong_protection(self, site: Site) -> None:
        """MAC or signature: badMessageCheck."""
        device = site.enrolled()
        stranger = Signer(device.certificate, new_key())
        for octets in (
            protected_by_secret(site.secret(), asks(), text="wrong"),
            signed(stranger, asks("cr")),
            signed(device, asks("cr"), extra=()),
        ):
            reply = site.send(octets)
            assert ("error", "badMessageCheck") == (reply.type, reply.failure)

    def test_a_foreign_root(self, site: Site) -> None:
        """Or none at all: signerNotTrusted."""
        key = new_key()
        reply = site.send(signed(Signer(self_signed(key), key), asks("cr")))
        assert ("error", "signerNotTrusted") == (reply.type, reply.failure)

    @pytest.mark.parametrize("kind", ["kur", "rr", "ccr", "nested"])
    def test_what_must_be_signed(self, site: Site, kind: str) -> None:
        """wrongIntegrity; rr is told so by rp."""
        bodies = {
            "kur": asks("kur"),
            "rr": rev_req(CertTemplate(issuer=cn("x"), serial="1")),
            "ccr": asks("ccr"),
            "nested": PKIBody("nested", der.sequence(der.sequence())),
        }
        reply = site.send(protected_by_secret(site.secret(), bodies[kind]))
        assert ("rp" if kind == "rr" else "error", "wrongIntegrity") == (
            reply.type,
            reply.failure,
        )

    @pytest.mark.parametrize(
        "oid", ["1.2.3.4", "1.2.840.10040.4.3", "2.16.840.1.101.3.4.3.2"]
    )
    def test_an_algorithm_that_is_not_on_the_list(
        self, site: Site, oid: str
    ) -> None:
        """Unknown, or DSA: badAlg."""
        reply = site.send(
            signed(
                site.enrolled(),
                asks("cr"),
                protection_alg=der.sequence(der.oid(oid)),
            )
        )
        assert ("error", "badAlg") == (reply.type, reply.failure)


class RequestTests:
    """What a request says: told in the body of its answer."""

    def failure(self, site: Site, body: PKIBody) -> str:
        """Return what a request under a secret is refused with."""
        reply = site.send(protected_by_secret(site.secret(), body))
        assert ("cp" if body.type == "p10cr" else "ip") == reply.type
        return reply.failure

    @pytest.mark.parametrize(
        ("body", "failure"),
        [
            # proof of possession
            (lambda: asks(proof=b""), "badPOP"),
            (lambda: asked(signer=new_key()), "badPOP"),
            (lambda: asks(proof=b"\x80\x00"), "notAuthorized"),
            (
                lambda: asks(
                    proof=der.tlv(
                        0xA1,
                        der.sequence(der.oid("1.2.3.4"))
                        + der.bit_string(b"x"),
                    )
                ),
                "badAlg",
            ),
            # names
            (lambda: asked(subject=()), "badCertTemplate"),
            (lambda: asked(subject=None), "badCertTemplate"),
            (lambda: pkcs10(""), "badCertTemplate"),
            # keys
            (
                lambda: asked(ec.generate_private_key(ec.SECP192R1())),
                "badCertTemplate",
            ),
            # fields that are the CA's
            (lambda: asked(version=1), "badCertTemplate"),
            (lambda: asked(serial="5"), "badCertTemplate"),
            (
                lambda: asked(
                    extensions=(
                        # pathLenConstraint without cA
                        extension("2.5.29.19", der.sequence(der.integer(1))),
                    )
                ),
                "badCertTemplate",
            ),
            # to be more than a device
            (
                lambda: asked(
                    extensions=(
                        extension(
                            "2.5.29.19", der.sequence(der.boolean(True))
                        ),
                    )
                ),
                "notAuthorized",
            ),
            (
                lambda: asked(
                    extensions=(
                        extension(
                            "2.5.29.37",
                            der.sequence(der.oid("1.3.6.1.5.5.7.3.27")),
                        ),
                    )
                ),
                "notAuthorized",
            ),
        ],
    )
    def test_a_request(
        self, site: Site, body: Callable[[], PKIBody], failure: str
    ) -> None:
        """Exactly one failInfo, and nothing is issued."""
        before = len(site.store.tables.certificates)
        assert failure == self.failure(site, body())
        assert before == len(site.store.tables.certificates)

    def test_an_rsa_key_of_1024_bits(self, site: Site) -> None:
        """badCertTemplate."""
        key = rsa.generate_private_key(65537, 1024)
        template = CertTemplate(subject=cn("device"), public_key=spki(key))
        request = der.sequence(der.integer(0), template.der())
        proof = algorithms.algorithm_identifier(
            "sha256-with-rsa"
        ) + der.bit_string(algorithms.sign(key, "sha256-with-rsa", request))
        one = der.sequence(request, der.tlv(0xA1, proof))
        body = PKIBody("ir", der.sequence(one))
        assert "badCertTemplate" == self.failure(site, body)

    def test_two_requests(self, site: Site) -> None:
        """badRequest: RFC 9483, section 4.1.1, has exactly one."""
        key = new_key()
        one = cert_req(
            CertTemplate(subject=cn("device"), public_key=spki(key)), key
        )
        body = PKIBody("ir", der.sequence(one, one))
        assert "badRequest" == self.failure(site, body)

    def test_a_csr_of_another_version(self, site: Site) -> None:
        """badCertTemplate."""
        value = pkcs10().value
        at = value.index(b"\x02\x01\x00") + 2
        changed = value[:at] + b"\x01" + value[at + 1 :]
        body = PKIBody("p10cr", changed)
        assert "badCertTemplate" == self.failure(site, body)

    def test_cross_certification(self, site: Site) -> None:
        """Whoever asks: notAuthorized."""
        reply = site.send(signed(site.enrolled(), asks("ccr")))
        assert ("error", "notAuthorized") == (reply.type, reply.failure)

    def test_an_update_of_something_else(self, site: Site) -> None:
        """oldCertId is another certificate: badCertId."""
        device = site.enrolled()
        control = der.sequence(
            der.oid("1.3.6.1.5.5.7.5.1.5"),
            CertId(read_certificate(device.certificate).issuer, "77").der(),
        )
        body = asks("kur", controls=der.sequence(control))
        reply = site.send(signed(device, body))
        assert ("kup", "badCertId") == (reply.type, reply.failure)

    def test_what_was_updated(self, site: Site) -> None:
        """certRevoked."""
        device = site.enrolled()
        site.send(signed(device, asks("kur"), **IMPLICIT))
        reply = site.send(signed(device, asks("kur")))
        assert "certRevoked" == reply.failure


class ConfirmationTests:
    """certConf: told by ``error``; it can be sent again, correctly."""

    def begun(self, site: Site) -> tuple[MintedSecret, Reply]:
        """Return a secret, and the ip that is to be confirmed."""
        secret = site.secret()
        return secret, site.send(protected_by_secret(secret, asks()))

    def going_on(self, reply: Reply, **changes: Any) -> dict[str, Any]:
        """Return the header of the next message."""
        return {
            "transaction_id": reply.header.transaction_id,
            "recip_nonce": reply.header.sender_nonce,
            **changes,
        }

    @pytest.mark.parametrize(
        ("changes", "failure"),
        [
            ({"transaction_id": None}, "badRequest"),
            ({"transaction_id": bytes(16)}, "badRequest"),
            ({"recip_nonce": None}, "badRecipientNonce"),
            ({"recip_nonce": b"n" * 16}, "badRecipientNonce"),
            ({"mac": pbmac1()}, "badMessageCheck"),
            ({"text": "wrong"}, "badMessageCheck"),
        ],
    )
    def test_a_header(
        self, site: Site, changes: dict[str, Any], failure: str
    ) -> None:
        """Another transaction, nonce or technique."""
        secret, reply = self.begun(site)
        body = cert_conf(reply.certificate)
        refused = site.send(
            protected_by_secret(
                secret, body, **self.going_on(reply, **changes)
            )
        )
        assert ("error", failure) == (refused.type, refused.failure)
        done = site.send(
            protected_by_secret(secret, body, **self.going_on(reply))
        )
        assert "pkiconf" == done.type

    def test_without_protection(self, site: Site) -> None:
        """badMessageCheck."""
        _, reply = self.begun(site)
        header = header_of(**self.going_on(reply))
        body = cert_conf(reply.certificate)
        refused = site.send(prepare(header, body).finish(None))
        assert ("error", "badMessageCheck") == (refused.type, refused.failure)

    @pytest.mark.parametrize(
        ("how", "failure"),
        [
            ({"number": 1}, "badRequest"),
            ({"number": -1}, "badRequest"),
            ({"digest": bytes(32)}, "badCertId"),
            (
                {
                    "status": der.sequence(
                        der.integer(0), der.tlv(3, b"\x07\x80")
                    )
                },
                "badRequest",
            ),
            (
                {
                    "more": der.explicit(
                        0, der.sequence(der.oid("2.16.840.1.101.3.4.2.1"))
                    )
                },
                "badCertId",
            ),
        ],
    )
    def test_a_status(
        self, site: Site, how: dict[str, Any], failure: str
    ) -> None:
        """Another certificate, or what contradicts itself."""
        secret, reply = self.begun(site)
        refused = site.send(
            protected_by_secret(
                secret,
                cert_conf(reply.certificate, **how),
                **self.going_on(reply),
            )
        )
        assert ("error", failure) == (refused.type, refused.failure)

    def test_twice(self, site: Site) -> None:
        """certConfirmed."""
        secret, reply = self.begun(site)
        body = cert_conf(reply.certificate)
        done = site.send(
            protected_by_secret(secret, body, **self.going_on(reply))
        )
        again = site.send(
            protected_by_secret(secret, body, **self.going_on(done))
        )
        assert ("error", "certConfirmed") == (again.type, again.failure)

    def test_a_transaction_is_begun_once(self, site: Site) -> None:
        """Running or finished: transactionIdInUse."""
        for more in ({}, IMPLICIT):
            device = site.enrolled()
            first = site.send(signed(device, asks("cr"), **more))
            again = site.send(
                signed(
                    device,
                    asks("cr"),
                    transaction_id=first.header.transaction_id,
                )
            )
            assert ("error", "transactionIdInUse") == (
                again.type,
                again.failure,
            )


class RevocationTests:
    """rr: always told by rp."""

    @pytest.mark.parametrize(
        ("changes", "reasons", "failure"),
        [
            ({"issuer": None}, (1,), "addInfoNotAvailable"),
            ({"serial": None}, (1,), "addInfoNotAvailable"),
            ({"issuer": cn("another")}, (1,), "badCertId"),
            ({"serial": "77"}, (1,), "badCertId"),
            ({"subject": cn("another")}, (1,), "badCertId"),
            ({}, (7,), "badDataFormat"),
            ({}, (1, 4), "badRequest"),
        ],
    )
    def test_a_request(
        self,
        site: Site,
        changes: dict[str, Any],
        reasons: tuple[int, ...],
        failure: str,
    ) -> None:
        """What is missing, unknown or too much."""
        device = site.enrolled()
        facts = read_certificate(device.certificate)
        named = {"issuer": facts.issuer, "serial": facts.serial, **changes}
        body = rev_req(CertTemplate(**named), *reasons)
        reply = site.send(signed(device, body))
        assert ("rp", failure) == (reply.type, reply.failure)

    def test_what_is_revoked(self, site: Site) -> None:
        """Also by its own certificate: certRevoked."""
        device = site.enrolled()
        facts = read_certificate(device.certificate)
        template = CertTemplate(issuer=facts.issuer, serial=facts.serial)
        done = site.send(signed(device, rev_req(template, 1)))
        assert "accepted" == done.pki_status
        again = site.send(signed(device, rev_req(template, 1)))
        assert ("rp", "certRevoked") == (again.type, again.failure)


class GeneralTests:
    """genm: told by error."""

    @pytest.mark.parametrize(
        ("number", "value"),
        [
            (17, b"\x05\x00"),  # caCerts has none
            (19, b"\x05\x00"),  # certReqTemplate has none
            (22, b""),  # crlStatusList has one
            (22, b"\x02\x01\x00"),
        ],
    )
    def test_a_value(self, site: Site, number: int, value: bytes) -> None:
        """Where none may be, none where one must be, or another: badRequest."""
        oid = der.oid(f"1.3.6.1.5.5.7.4.{number}")
        body = PKIBody("genm", der.sequence(der.sequence(oid, value)))
        reply = site.send(protected_by_secret(site.secret(), body))
        assert ("error", "badRequest") == (reply.type, reply.failure)


class NestedTests:
    """nested: told by error, and nothing inside is done."""

    @pytest.mark.parametrize("mode", ["interop", "strict"])
    @pytest.mark.parametrize(
        ("changes", "failure"),
        [
            ({"transaction_id": b"t" * 16}, "badRequest"),
            ({"sender_nonce": b"n" * 16}, "badSenderNonce"),
        ],
    )
    def test_added_protection(
        self, mode: str, changes: dict[str, Any], failure: str
    ) -> None:
        """What is not copied from the message inside."""
        site, ra = make_ra_site(mode=mode)
        message = protected_by_secret(site.secret(), asks())
        header = read_message(message).header
        copied = {
            "transaction_id": header.transaction_id,
            "sender_nonce": header.sender_nonce,
        }
        body = PKIBody("nested", der.sequence(message))
        reply = site.send(signed(ra, body, **{**copied, **changes}))
        assert ("error", failure) == (reply.type, reply.failure)

    @pytest.mark.parametrize("mode", ["interop", "strict"])
    @pytest.mark.parametrize(
        ("changes", "failure"),
        [
            ({"transaction_id": b"t" * 16}, "badRequest"),
            ({"sender_nonce": b"n" * 16}, "badSenderNonce"),
            ({"text": "wrong"}, "badMessageCheck"),
        ],
    )
    def test_a_batch(
        self, mode: str, changes: dict[str, Any], failure: str
    ) -> None:
        """What occurs twice, or is not protected."""
        site, ra = make_ra_site(mode=mode)
        before = len(site.store.tables.certificates)
        messages = [
            protected_by_secret(site.secret(), asks(), **changes)
            for _ in range(2)
        ]
        body = PKIBody("nested", der.sequence(*messages))
        reply = site.send(signed(ra, body))
        assert ("error", failure) == (reply.type, reply.failure)
        assert before == len(site.store.tables.certificates)
