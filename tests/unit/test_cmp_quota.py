# SPDX-License-Identifier: MIT
"""How many transactions of CMP are remembered for one party."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cmp_client import (
    IMPLICIT,
    Reply,
    Site,
    asks,
    cert_conf,
    make_ra_site,
    make_site,
    new_key,
    pbmac1,
    pkcs10,
    protected_by_secret,
    rev_req,
    signed,
)
from twisted.internet.defer import succeed

from trstctl.model import CertificateStatus
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp import PKIBody
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.testing import result_of

DAY = timedelta(days=1).total_seconds()
GENM = PKIBody("genm", der.sequence())


def is_full(reply: Reply) -> bool:
    """Tell whether a party is told that it has too many."""
    return ("error", "systemUnavail", "too-many-transactions") == (
        reply.type,
        reply.failure,
        reply.code,
    )


def forget(site: Site) -> None:
    """Let a day pass, and what has expired be forgotten."""
    site.clock.advance(DAY + 1)
    result_of(site.store.purge_dialogues(site.ra.now()))


class SecretTests:
    """A shared secret, also one that is used up."""

    def test_a_used_secret_begins_so_many(self) -> None:
        """One for each use, and the quota; no other secret suffers."""
        site = make_site(quota={"secret": 2})
        secret = site.secret(life=timedelta(days=30))
        body = asks()
        for _ in range(3):
            reply = site.send(protected_by_secret(secret, body, **IMPLICIT))
            assert "accepted" == reply.pki_status
        before = dict(site.store.tables.dialogues)
        for mac in (None, pbmac1()):
            refused = site.send(protected_by_secret(secret, body, mac=mac))
            assert is_full(refused)
            assert refused.is_mac_of(secret)
        assert before == site.store.tables.dialogues
        assert site.enrolled("another").certificate
        forget(site)
        again = site.send(protected_by_secret(secret, body))
        assert reply.certificate == again.certificate

    def test_a_refused_request_counts_nothing(self) -> None:
        """Nothing of it is remembered."""
        site = make_site(quota={"secret": 1})
        secret = site.secret()
        for _ in range(5):
            reply = site.send(protected_by_secret(secret, asks(proof=b"")))
            assert "badPOP" == reply.failure
        reply = site.send(protected_by_secret(secret, asks()))
        assert "accepted" == reply.pki_status


class SignerTests:
    """Certificates, and registration authorities."""

    def test_a_device(self) -> None:
        """Nothing is issued that could not be remembered."""
        site = make_site(quota={"certificate": 3})
        device = site.enrolled()
        messages = [
            signed(device, body, **IMPLICIT)
            for body in (asks("cr"), pkcs10(), asks("cr"))
        ]
        replies = [site.send(message) for message in messages]
        before = len(site.store.tables.certificates)
        for body in (asks("cr"), pkcs10(), asks("kur")):
            assert is_full(site.send(signed(device, body, **IMPLICIT)))
        assert before == len(site.store.tables.certificates)
        # What was answered before is answered again.
        assert replies == [site.send(message) for message in messages]

    def test_what_was_begun_goes_on(self) -> None:
        """A full quota keeps nobody from confirming."""
        site = make_site(quota={"certificate": 1})
        device = site.enrolled()
        reply = site.send(signed(device, asks("cr")))
        assert is_full(site.send(signed(device, asks("cr"))))
        done = site.send(
            signed(
                device,
                cert_conf(reply.certificate),
                transaction_id=reply.header.transaction_id,
                recip_nonce=reply.header.sender_nonce,
            )
        )
        assert "pkiconf" == done.type
        assert is_full(site.send(signed(device, asks("cr"))))

    def test_nobody_is_kept_from_revoking(self) -> None:
        """Nor from asking; neither is charged to anybody."""
        site = make_site(quota={"certificate": 1})
        device = site.enrolled()
        site.send(signed(device, asks("cr"), **IMPLICIT))
        assert "genp" == site.send(signed(device, GENM)).type
        facts = read_certificate(device.certificate)
        named = CertTemplate(issuer=facts.issuer, serial=facts.serial)
        assert (
            "accepted" == site.send(signed(device, rev_req(named))).pki_status
        )

    def test_an_authority_has_its_own(self) -> None:
        """It speaks for many."""
        site, ra = make_ra_site(quota={"certificate": 1, "ra": 3})
        for number in range(4):
            body = asks("cr", f"branch-{number}")
            reply = site.send(signed(ra, body, **IMPLICIT))
            assert (number == 3) == is_full_or_issued(reply)

    def test_a_label_has_its_own_limit(self) -> None:
        """What counts is all that the party has at any of them."""
        site = make_site(
            quota={"certificate": 1},
            labels={"more": {"quota": {"certificate": 2}}},
        )
        device = site.enrolled()
        for path, full in (
            ("/cmp", False),
            ("/cmp", True),
            ("/cmp/p/more", False),
            ("/cmp/p/more", True),
        ):
            reply = site.send(signed(device, asks("cr"), **IMPLICIT), path)
            assert full == is_full_or_issued(reply)


class RaceTests:
    """Several processes."""

    @pytest.mark.parametrize("implicit", [True, False])
    def test_the_store_has_the_last_word(self, implicit: bool) -> None:
        """Whoever came too late gets nothing, and what was issued for it is
        revoked."""
        site = make_site(quota={"certificate": 1})
        how = IMPLICIT if implicit else {}
        device = site.enrolled()
        site.send(signed(device, asks("cr"), **how))
        known = set(site.store.tables.certificates)

        def unaware(*_: str) -> Any:
            """Count before the other process has kept its answer."""
            return succeed(0)

        site.store.count_dialogues = unaware
        message = signed(device, asks("cr", key=new_key()), **how)
        assert "systemUnavail" == site.send(message).failure
        (added,) = set(site.store.tables.certificates) - known
        record = site.store.tables.certificates[added]
        assert CertificateStatus.REVOKED is record.status
        assert 1 == sum(
            one.charged_to != "" and "certificate" in one.charged_to
            for one in site.store.tables.dialogues.values()
        )


def is_full_or_issued(reply: Reply) -> bool:
    """Tell whether a party has too many, where else it was served."""
    if reply.type == "error":
        assert is_full(reply)
        return True
    assert "accepted" == reply.pki_status
    return False
