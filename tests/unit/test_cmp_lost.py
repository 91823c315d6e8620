# SPDX-License-Identifier: MIT
"""
Answers of CMP that got lost between the certificate and the store's record
of the answer: the process ended there, or the client went away.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from attrs import define
from cmp_client import (
    IMPLICIT,
    Signer,
    Site,
    asks,
    cert_conf,
    make_site,
    new_key,
    protected_by_secret,
    signed,
)

from trstctl.errors import Unavailable
from trstctl.model import CertificateStatus
from trstctl.pkix import der
from trstctl.policy.profile import ProfileSettings
from trstctl.testing import TENANT, result_of

REPLACING = ProfileSettings(
    subject={"CN": ProfileSettings().subject["CN"]}, revoke_on_reenroll=True
)


@define
class Forgetful:
    """Dialogues, none of which can be kept."""

    dialogues: Any

    def __getattr__(self, name: str) -> Any:
        """Return what is not about keeping one."""
        return getattr(self.dialogues, name)

    def open_dialogue(self, *_: object) -> Any:
        """Fail, as the store of a process that ends."""
        raise Unavailable

    advance_dialogue = open_dialogue


@contextmanager
def forgetting(site: Site) -> Iterator[None]:
    """Lose every answer."""
    kept = site.ra.dialogues
    site.ra.dialogues = Forgetful(kept)
    yield
    site.ra.dialogues = kept


class AnotherTransactionTests:
    """Who begins anew with a used-up secret gets the same certificate, which
    another transaction waits for."""

    def test_it_is_confirmed_implicitly(self) -> None:
        """RFC 9810, section 5.1.1.1: granted to the second, it counts."""
        site = make_site(confirm_timeout="60s")
        secret, body = site.secret(), asks()
        first = site.send(protected_by_secret(secret, body))
        second = site.send(protected_by_secret(secret, body, **IMPLICIT))
        assert second.header.general_info.implicit_confirm
        assert first.certificate == second.certificate
        site.clock.advance(61)
        result_of(site.ra.tend())
        record = site.record(second.certificate)
        assert CertificateStatus.VALID is record.status

    def test_it_is_waited_for_as_long_as_before(self) -> None:
        """RFC 9810, section 5.1.1.2: confirmWaitTime is when it is revoked,
        and not when it would be if it were new."""
        site = make_site(confirm_timeout="60s")
        secret, body = site.secret(), asks()
        first = site.send(protected_by_secret(secret, body))
        site.clock.advance(50)
        second = site.send(protected_by_secret(secret, body))
        until = first.header.general_info.confirm_wait_time
        assert until is not None
        assert until == second.header.general_info.confirm_wait_time


class RenewalTests:
    """What has been updated is not updated again, but for its own answer."""

    @pytest.mark.parametrize("replacing", [False, True])
    def test_a_lost_answer(self, replacing: bool) -> None:
        """RFC 9483, section 4.1.3: the device has no other way back, as the
        certificate that it signs with has been replaced meanwhile."""
        site = make_site({"r": REPLACING}, profile="r")
        if not replacing:
            site = make_site()
        key = new_key()
        device = enrolled(site)
        message = signed(device, asks("kur", key=key), **IMPLICIT)
        with forgetting(site):
            assert "systemUnavail" == site.send(message).failure
        old = site.record(device.certificate)
        assert old.superseded_by
        assert replacing == (old.status is CertificateStatus.REVOKED)
        again = site.send(message)
        assert "accepted" == again.pki_status
        new = site.record(again.certificate)
        assert old.superseded_by == new.serial
        assert 2 == len(site.store.tables.certificates)
        assert again == site.send(message)

    @pytest.mark.parametrize("replacing", [False, True])
    def test_another_update(self, replacing: bool) -> None:
        """RFC 9483, section 3.6: certRevoked, whatever was lost."""
        site = make_site({"r": REPLACING}, profile="r")
        if not replacing:
            site = make_site()
        device = enrolled(site)
        with forgetting(site):
            site.send(signed(device, asks("kur"), **IMPLICIT))
        refused = site.send(signed(device, asks("kur"), **IMPLICIT))
        assert ("kup", "certRevoked", "signer-updated") == (
            refused.type,
            refused.failure,
            refused.code,
        )
        assert 2 == len(site.store.tables.certificates)

    def test_much_later(self) -> None:
        """Whoever has recorded it can have nothing issued with it."""
        site = make_site()
        device = enrolled(site)
        message = signed(device, asks("kur"), **IMPLICIT)
        with forgetting(site):
            site.send(message)
        site.clock.advance(3600)
        assert "signer-updated" == site.send(message).code
        assert 2 == len(site.store.tables.certificates)

    def test_what_has_replaced_it_was_revoked(self) -> None:
        """RFC 9483, section 3.6: certRevoked, also for the lost answer."""
        site = make_site()
        device = enrolled(site)
        message = signed(device, asks("kur"), **IMPLICIT)
        with forgetting(site):
            site.send(message)
        new = site.record(device.certificate).superseded_by
        result_of(site.ra.revoke(TENANT, new, "keyCompromise", "me"))
        for again in (message, signed(device, asks("kur"))):
            reply = site.send(again)
            assert ("certRevoked", "signer-updated") == (
                reply.failure,
                reply.code,
            )
        assert "notAuthorized" == site.send(signed(device, asks("cr"))).failure

    def test_a_lost_confirmation(self) -> None:
        """It is heard again (RFC 9810, section 5.3.18)."""
        site = make_site()
        device = enrolled(site)
        reply = site.send(signed(device, asks("kur")))
        confirmation = signed(
            device,
            cert_conf(reply.certificate),
            transaction_id=reply.header.transaction_id,
            recip_nonce=reply.header.sender_nonce,
        )
        with forgetting(site):
            assert "systemUnavail" == site.send(confirmation).failure
        assert "pkiconf" == site.send(confirmation).type
        assert site.record(device.certificate).superseded_by

    def test_a_lost_rejection(self) -> None:
        """Likewise: it has been revoked, and stays so."""
        site = make_site()
        device = enrolled(site)
        reply = site.send(signed(device, asks("kur")))
        rejection = signed(
            device,
            cert_conf(reply.certificate, status=der.sequence(der.integer(2))),
            transaction_id=reply.header.transaction_id,
            recip_nonce=reply.header.sender_nonce,
        )
        with forgetting(site):
            assert "systemUnavail" == site.send(rejection).failure
        assert "pkiconf" == site.send(rejection).type
        status = site.record(reply.certificate).status
        assert CertificateStatus.REVOKED is status
        assert not site.record(device.certificate).superseded_by


def enrolled(site: Site) -> Signer:
    """Return the certificate of a device."""
    key = new_key()
    profile = site.resource.endpoint.profile
    reply = site.send(
        protected_by_secret(
            site.secret(profile=profile), asks(key=key), **IMPLICIT
        )
    )
    return Signer(reply.certificate, key)
