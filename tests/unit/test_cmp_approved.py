# SPDX-License-Identifier: MIT
"""
What a person has approved in CMP, or a shared secret has bought, is what was
asked for, and not what has the same proof of possession.
"""

from __future__ import annotations

from typing import Any

import pytest
from cmp_client import (
    ECDSA,
    IMPLICIT,
    Key,
    Reply,
    Site,
    asks,
    cert_req,
    cn,
    make_site,
    new_key,
    poll_req,
    protected_by_secret,
    spki,
)

from trstctl.model import Extension, MintedSecret, RequestState
from trstctl.pkix import algorithms, der
from trstctl.pkix.cmp import PKIBody
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.pkix.names import encode_name
from trstctl.policy.profile import ProfileSettings
from trstctl.testing import TENANT, result_of

SAN = "2.5.29.17"
GUARDED = ProfileSettings(names={"dns": ("*",)}, approval="always")
OPEN = ProfileSettings(names={"dns": ("*",)})


def with_alternate(key: Key, name: str, alternate: str) -> PKIBody:
    """Return an ir whose proof is over one name, with another in regInfo
    (RFC 4211, section 7.2)."""
    template = CertTemplate(subject=cn(alternate), public_key=spki(key))
    request = der.sequence(der.integer(0), template.der())
    information = der.sequence(der.oid("1.3.6.1.5.5.7.5.2.2"), request)
    (one,) = der.children(der.content(asks(name=name, key=key).value, 0x30))
    return PKIBody(
        "ir", der.sequence(der.sequence(one[1], der.sequence(information)))
    )


def with_input(key: Key, secret: MintedSecret, name: str) -> PKIBody:
    """Return an ir without a subject, whose proof is over poposkInput, which
    has the key only (RFC 4211, section 4.1)."""
    suffix = secret.record.names[0].removeprefix("dns:*")
    names = der.sequence(der.tlv(0x82, f"{name}{suffix}".encode()))
    template = CertTemplate(
        public_key=spki(key), extensions=(Extension(SAN, False, names),)
    )
    sender = der.tlv(0xA0, der.tlv(0xA4, encode_name(cn("sender"))))
    signed = der.sequence(sender, spki(key))
    proof = der.tlv(
        0xA1,
        der.tlv(0xA0, sender + spki(key))
        + algorithms.algorithm_identifier(ECDSA)
        + der.bit_string(algorithms.sign(key, ECDSA, signed)),
    )
    return PKIBody("ir", der.sequence(cert_req(template, key, proof=proof)))


def approve(site: Site) -> None:
    """Approve the one held request."""
    (held,) = result_of(site.store.list_requests(TENANT, RequestState.HELD, 9))
    now = site.ra.now()
    result_of(
        site.store.decide_request(
            TENANT, held.id, True, "me", "", now, now.replace(year=2030)
        )
    )


@pytest.fixture(params=["regInfo", "poposkInput"])
def way(request: pytest.FixtureRequest) -> str:
    """How a proof is over less than what is asked for."""
    return str(request.param)


class OtherNameTests:
    """Another name is another request, whatever the proof is over."""

    def ask(
        self,
        site: Site,
        way: str,
        key: Key,
        secret: MintedSecret,
        name: str,
        **header: Any,
    ) -> Reply:
        """Ask for a name."""
        body = with_input(key, secret, name)
        if way == "regInfo":
            body = with_alternate(key, "device", name)
        return site.send(protected_by_secret(secret, body, **header))

    @pytest.mark.parametrize("mode", ["interop", "strict"])
    def test_what_was_approved(self, way: str, mode: str) -> None:
        """An approval is for the names that the person has seen."""
        site = make_site({"device": GUARDED}, mode=mode)
        key, secret = new_key(), site.secret()
        waiting = self.ask(site, way, key, secret, "seen")
        assert "waiting" == waiting.pki_status
        approve(site)
        other = self.ask(site, way, key, secret, "unseen", **IMPLICIT)
        assert ("notAuthorized", "secret-used-up") == (
            other.failure,
            other.code,
        )
        assert not site.store.tables.certificates
        again = self.ask(site, way, key, secret, "seen", **IMPLICIT)
        assert "accepted" == again.pki_status
        record = site.record(again.certificate)
        assert "seen" in f"{record.subject} {record.names}"

    def test_what_is_polled_for(self, way: str) -> None:
        """It is what was seen, when it is read again from the store."""
        site = make_site({"device": GUARDED})
        key, secret = new_key(), site.secret()
        waiting = self.ask(site, way, key, secret, "seen", **IMPLICIT)
        approve(site)
        going_on = {
            "transaction_id": waiting.header.transaction_id,
            "recip_nonce": waiting.header.sender_nonce,
        }
        done = site.send(protected_by_secret(secret, poll_req(), **going_on))
        assert ("ip", "accepted") == (done.type, done.pki_status)
        record = site.record(done.certificate)
        assert "seen" in f"{record.subject} {record.names}"

    def test_what_was_bought(self, way: str) -> None:
        """Nobody gets another certificate than he has asked for; signed
        anew, the same request is the same."""
        site = make_site({"device": OPEN})
        key, secret = new_key(), site.secret()
        first = self.ask(site, way, key, secret, "one", **IMPLICIT)
        assert "accepted" == first.pki_status
        other = self.ask(site, way, key, secret, "two", **IMPLICIT)
        assert ("notAuthorized", "secret-used-up") == (
            other.failure,
            other.code,
        )
        again = self.ask(site, way, key, secret, "one", **IMPLICIT)
        assert first.certificate == again.certificate
