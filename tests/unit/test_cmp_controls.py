# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.protocols.cmp.controls` (RFC 4211, section 6)."""

from __future__ import annotations

import pytest
from cmp_client import (
    IMPLICIT,
    Reply,
    Site,
    asks,
    cert_conf,
    make_site,
    new_key,
    poll_req,
    protected_by_secret,
    signed,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID

from trstctl.model import RequestState
from trstctl.pkix import der
from trstctl.pkix.cmp import PKIBody
from trstctl.pkix.crmf import CONTROLS
from trstctl.policy.profile import ProfileSettings
from trstctl.testing import TENANT, add_challenge, result_of

NULL = b"\x05\x00"


def text(value: str) -> bytes:
    """Return a UTF8String."""
    return der.tlv(0x0C, value.encode())


def controls(**values: bytes) -> bytes:
    """Return controls by their wire names."""
    return der.sequence(
        *(
            der.sequence(der.oid(CONTROLS[name]), value)
            for name, value in values.items()
        )
    )


class RegTokenTests:
    """regToken (RFC 4211, section 6.1)."""

    def told(self, reply: Reply) -> tuple[str, str, str]:
        """Return how a request was refused."""
        assert "rejection" == reply.pki_status
        return reply.type, reply.failure, reply.code

    @pytest.mark.parametrize("name", ["regToken", "authenticator"])
    def test_what_nobody_judges_is_refused(self, name: str) -> None:
        """Whoever sent it would think that it counts."""
        site = make_site()
        body = asks("cr", controls=controls(**{name: text("secret")}))
        reply = site.send(signed(site.enrolled(), body))
        code = "reg-token" if name == "regToken" else "authenticator"
        assert ("cp", "badRequest", code) == self.told(reply)
        assert b"secret" not in reply.octets

    def test_it_can_be_ignored(self) -> None:
        """By an endpoint whose clients always send one."""
        site = make_site(reg_token="ignore")
        found = controls(regToken=text("a"), authenticator=text("b"))
        body = asks("cr", controls=found)
        reply = site.send(signed(site.enrolled(), body, **IMPLICIT))
        assert "accepted" == reply.pki_status

    def challenging(self) -> Site:
        """Return a gateway that judges them."""
        return make_site(reg_token="challenge")

    def test_a_right_one_is_used_up(self) -> None:
        """It buys one certificate; the token is who asked."""
        site = self.challenging()
        device, token = site.enrolled(), site.secret()
        found = controls(regToken=text(token.secret))
        reply = site.send(signed(device, asks("cr", controls=found)))
        assert "accepted" == reply.pki_status
        record = site.record(reply.certificate)
        assert f"token:{token.record.id}" == record.principal
        again = site.send(signed(device, asks("cr", controls=found)))
        assert ("cp", "notAuthorized", "reg-token") == self.told(again)

    def test_wrong_ones_are_told_alike(self) -> None:
        """Unknown, of another protocol, and what is none."""
        site = self.challenging()
        device = site.enrolled()
        foreign = add_challenge(site.store, protocol="scep", device="device")
        answers = [
            site.send(
                signed(
                    device, asks("cr", controls=controls(regToken=text(token)))
                )
            )
            for token in ("", "x" * 55, "A" * 55, foreign.secret)
        ]
        expected = ("cp", "notAuthorized", "reg-token")
        assert [expected] * 4 == [self.told(reply) for reply in answers]
        sizes = {len(reply.octets) for reply in answers}
        assert max(sizes) - min(sizes) < 4  # ECDSA signatures

    def test_guessing_is_throttled(self) -> None:
        """C-4."""
        site = self.challenging()
        device = site.enrolled()
        found = controls(regToken=text("A" * 55))
        failures = {
            site.send(signed(device, asks("cr", controls=found))).failure
            for _ in range(12)
        }
        assert {"notAuthorized", "systemUnavail"} == failures

    def test_the_certificate_must_be_right_all_the_same(self) -> None:
        """A token is no way round the signature."""
        site = self.challenging()
        device = site.enrolled()
        serial = site.record(device.certificate).serial
        result_of(site.ra.revoke(TENANT, serial, "keyCompromise", "me"))
        found = controls(regToken=text(site.secret().secret))
        reply = site.send(signed(device, asks("cr", controls=found)))
        assert "certRevoked" == reply.failure

    def test_under_a_secret_it_is_the_secret(self) -> None:
        """One token is enough; another one is a mistake."""
        site = self.challenging()
        secret = site.secret()
        for token, failure in (
            (site.secret().secret, "badRequest"),
            (secret.secret, ""),
        ):
            body = asks(controls=controls(regToken=text(token)))
            reply = site.send(protected_by_secret(secret, body))
            assert failure == reply.failure

    def test_an_authenticator_is_no_token(self) -> None:
        """It is for long, and nobody here knows it."""
        site = self.challenging()
        found = controls(authenticator=text(site.secret().secret))
        reply = site.send(signed(site.enrolled(), asks("cr", controls=found)))
        assert ("cp", "badRequest", "authenticator") == self.told(reply)

    def test_an_update_needs_none(self) -> None:
        """C-6: it is not used up, and that of another is an alarm."""
        site = self.challenging()
        device, own = site.enrolled(), site.secret(device="device")
        other = site.secret(device="another")
        for token, failure in ((other, "notAuthorized"), (own, "")):
            found = controls(regToken=text(token.secret))
            reply = site.send(
                signed(device, asks("kur", controls=found), **IMPLICIT)
            )
            assert failure == reply.failure

    def test_it_is_not_kept(self) -> None:
        """What the store has of a held request has no secret in it."""
        guarded = ProfileSettings(
            subject={"CN": ProfileSettings().subject["CN"]}, approval="always"
        )
        site = make_site(
            {"guarded": guarded},
            labels={
                "guarded": {"profile": "guarded", "reg_token": "challenge"}
            },
        )
        device, token = site.enrolled(), site.secret(profile="guarded")
        found = controls(regToken=text(token.secret))
        key = new_key()
        waiting = site.send(
            signed(device, asks("cr", key=key, controls=found)),
            "/cmp/p/guarded",
        )
        assert "waiting" == waiting.pki_status
        (held,) = result_of(
            site.store.list_requests(TENANT, RequestState.HELD, 9)
        )
        assert token.secret.encode() not in held.csr
        assert b"x" * len(token.secret) in held.csr
        now = site.ra.now()
        result_of(
            site.store.decide_request(
                TENANT, held.id, True, "me", "", now, now.replace(year=2030)
            )
        )
        done = site.send(
            signed(
                device,
                poll_req(),
                transaction_id=waiting.header.transaction_id,
                recip_nonce=waiting.header.sender_nonce,
            ),
            "/cmp/p/guarded",
        )
        assert "accepted" == done.pki_status
        last = site.send(
            signed(
                device,
                cert_conf(done.certificate),
                transaction_id=done.header.transaction_id,
                recip_nonce=done.header.sender_nonce,
            ),
            "/cmp/p/guarded",
        )
        assert "pkiconf" == last.type


class OtherControlTests:
    """What else there may be."""

    @pytest.mark.parametrize("name", ["pkiArchiveOptions", "altCertTemplate"])
    def test_what_is_never_served(self, name: str) -> None:
        """Whatever becomes of tokens: no private key is archived."""
        site = make_site(reg_token="ignore")
        body = asks("cr", controls=controls(**{name: NULL}))
        reply = site.send(signed(site.enrolled(), body))
        assert ("cp", "badRequest", "control") == (
            reply.type,
            reply.failure,
            reply.code,
        )

    def test_what_is_advice(self) -> None:
        """RFC 4211, section 6.3: it may be ignored."""
        site = make_site()
        dont = der.sequence(der.integer(0))
        body = asks("cr", controls=controls(pkiPublicationInfo=dont))
        reply = site.send(signed(site.enrolled(), body))
        assert "accepted" == reply.pki_status

    def test_a_challenge_password(self) -> None:
        """Not a control, but the same in PKCS #10: ignored, and not kept."""
        site = make_site()
        name = x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")
        csr = (
            x509.CertificateSigningRequestBuilder(x509.Name([name]))
            .add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"challenge me")
            .sign(new_key(), hashes.SHA256())
            .public_bytes(Encoding.DER)
        )
        reply = site.send(
            protected_by_secret(site.secret(), PKIBody("p10cr", csr))
        )
        assert "accepted" == reply.pki_status
        kept = [row.csr for row in site.store.tables.requests.values()]
        assert kept
        assert not any(b"challenge me" in each for each in kept)
