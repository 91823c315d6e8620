# SPDX-License-Identifier: MIT
"""
Tests for waiting in CMP (RFC 9810, section 5.3.22; RFC 9483, section 4.4).
"""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from cmp_client import (
    IMPLICIT,
    Reply,
    Site,
    asks,
    cert_req,
    make_site,
    new_key,
    pkcs10,
    poll_req,
    protected_by_secret,
    signed,
    spki,
)

from trstctl.model import CertificateStatus, RequestState
from trstctl.pkix import der
from trstctl.pkix.cmp import PKIBody
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.policy.profile import Profile, ProfileSettings
from trstctl.testing import (
    TENANT,
    Connection,
    read_response,
    request_octets,
    result_of,
)

GUARDED = ProfileSettings(
    subject={"CN": ProfileSettings().subject["CN"]}, approval="always"
)
MEDIA = {"Content-Type": "application/pkixcmp"}


def going_on(reply: Reply) -> dict[str, Any]:
    """Return what the header of the next message says."""
    return {
        "transaction_id": reply.header.transaction_id,
        "recip_nonce": reply.header.sender_nonce,
    }


def guarded(**settings: Any) -> Site:
    """Return a gateway where a person approves."""
    return make_site({"guarded": GUARDED}, profile="guarded", **settings)


def approve(site: Site) -> None:
    """Approve the one held request."""
    (held,) = result_of(site.store.list_requests(TENANT, RequestState.HELD, 9))
    now = site.ra.now()
    result_of(
        site.store.decide_request(
            TENANT, held.id, True, "me", "", now, now.replace(year=2030)
        )
    )


class CertReqIdTests:
    """Which certReqId a pollReq may have."""

    @pytest.mark.parametrize("number", [-1, 0])
    def test_the_whole_answer(self, number: int) -> None:
        """RFC 9810, section 5.3.22: the request's own, or -1."""
        site = guarded()
        secret = site.secret(profile="guarded")
        waiting = site.send(protected_by_secret(secret, asks()))
        assert ("ip", "waiting") == (waiting.type, waiting.pki_status)
        later = site.send(
            protected_by_secret(secret, poll_req(number), **going_on(waiting))
        )
        assert "pollRep" == later.type
        approve(site)
        done = site.send(
            protected_by_secret(secret, poll_req(number), **going_on(later))
        )
        assert ("ip", "accepted", 0) == (
            done.type,
            done.pki_status,
            done.cert_req_id,
        )

    @pytest.mark.parametrize(
        ("mode", "number", "answer"),
        [
            ("interop", -1, "pollRep"),
            ("interop", 0, "pollRep"),
            ("interop", 1, "cp"),
            ("strict", -1, "pollRep"),
            ("strict", 0, "cp"),
        ],
    )
    def test_p10cr_has_none(self, mode: str, number: int, answer: str) -> None:
        """RFC 9483, section 4.1.4: -1; older clients say 0."""
        site = guarded(mode=mode)
        secret = site.secret(profile="guarded")
        waiting = site.send(protected_by_secret(secret, pkcs10()))
        assert ("cp", "waiting", -1) == (
            waiting.type,
            waiting.pki_status,
            waiting.cert_req_id,
        )
        later = site.send(
            protected_by_secret(secret, poll_req(number), **going_on(waiting))
        )
        assert answer == later.type
        if answer == "cp":
            assert ("badRequest", "cert-req-id") == (
                later.failure,
                later.code,
            )

    @pytest.mark.parametrize("count", [0, 2])
    def test_one_at_a_time(self, count: int) -> None:
        """There is one request in a transaction."""
        site = guarded()
        secret = site.secret(profile="guarded")
        waiting = site.send(protected_by_secret(secret, asks()))
        one = der.sequence(der.integer(0))
        body = PKIBody("pollReq", der.sequence(*count * [one]))
        reply = site.send(
            protected_by_secret(secret, body, **going_on(waiting))
        )
        assert ("ip", "badRequest") == (reply.type, reply.failure)

    def test_nothing_else_is_waited_for(self) -> None:
        """genm and rr are answered at once: badRequest."""
        site = make_site()
        secret = site.secret()
        genm = PKIBody("genm", der.sequence())
        told = site.send(protected_by_secret(secret, genm))
        reply = site.send(
            protected_by_secret(secret, poll_req(-1), **going_on(told))
        )
        assert ("error", "badRequest") == (reply.type, reply.failure)


class UpdateTests:
    """An update that a person has to approve."""

    def test_one_without_a_subject(self) -> None:
        """It is for that of the certificate, as it is without approval."""
        site = make_site({"device": ProfileSettings()})
        device = site.enrolled("printer")
        rules = site.ra.rules
        guarded = Profile("device", GUARDED)
        site.ra.rules = evolve(rules, profiles={"device": guarded})
        key = new_key()
        template = CertTemplate(public_key=spki(key))
        body = PKIBody("kur", der.sequence(cert_req(template, key)))
        waiting = site.send(signed(device, body, **IMPLICIT))
        assert ("kup", "waiting") == (waiting.type, waiting.pki_status)
        approve(site)
        done = site.send(signed(device, poll_req(), **going_on(waiting)))
        assert ("kup", "accepted") == (done.type, done.pki_status)
        assert "CN=printer" == site.record(done.certificate).subject


class InFlightTests:
    """What another process, or this one, is just answering."""

    def begun(self) -> tuple[Site, Any, Any, list[Connection], Reply]:
        """
        Return a gateway whose authority is busy, its signer, a secret, two
        clients that have sent the same message, and what the second got.
        """
        site = make_site()
        secret = site.secret()
        # The gateway's own credential is there before.
        genm = PKIBody("genm", der.sequence())
        site.send(protected_by_secret(secret, genm))
        authority: Any = site.ra.rules.authorities["issuing"]
        signer = authority._signer
        signer.paused = True
        octets = request_octets(
            "POST",
            "/cmp",
            protected_by_secret(secret, asks(), **IMPLICIT),
            MEDIA,
        )
        clients = [Connection(site.resource, clock=site.clock) for _ in "ab"]
        for client in clients:
            client.send(octets)
        site.clock.pump([0.25] * 42)
        waiting = self.answer(clients[1])
        assert ("ip", "waiting", "in-flight") == (
            waiting.type,
            waiting.pki_status,
            waiting.code,
        )
        return site, signer, secret, clients, waiting

    def answer(self, client: Connection) -> Reply:
        """Return what a client has got."""
        return Reply(200, "", read_response(client.received()).body)

    def test_the_same_message_meanwhile(self) -> None:
        """It waits, then polls, and gets the one certificate."""
        site, signer, secret, clients, waiting = self.begun()
        signer.release()
        # Whoever asked first hears the same: one answer to one message.
        assert waiting.octets == self.answer(clients[0]).octets
        done = site.send(
            protected_by_secret(secret, poll_req(-1), **going_on(waiting))
        )
        assert ("ip", "accepted") == (done.type, done.pki_status)
        assert done.header.general_info.implicit_confirm
        assert 1 == len(site.store.tables.certificates)

    def test_who_polls_gets_what_the_first_has_brought(self) -> None:
        """It is not revoked as what nobody will get."""
        site, signer, secret, clients, waiting = self.begun()
        poll = protected_by_secret(secret, poll_req(), **going_on(waiting))
        clients[1].send(request_octets("POST", "/cmp", poll, MEDIA))
        site.clock.pump([0.25] * 42)
        later = self.answer(clients[1])
        assert "pollRep" == later.type
        signer.release()
        assert "transactionIdInUse" == self.answer(clients[0]).failure
        done = site.send(
            protected_by_secret(secret, poll_req(), **going_on(later))
        )
        assert "accepted" == done.pki_status
        status = site.record(done.certificate).status
        assert CertificateStatus.VALID is status

    def test_what_cannot_be_answered_now(self) -> None:
        """systemUnavail: nothing is kept of a question, so no polling."""
        from trstctl.errors import Unavailable

        site = make_site()
        device = site.enrolled()
        revocation: Any = site.ra.revocation

        def unavailable(*_: Any) -> Any:
            raise Unavailable

        revocation.crl = unavailable
        item = der.sequence(der.oid("1.3.6.1.5.5.7.4.6"))
        reply = site.send(signed(device, PKIBody("genm", der.sequence(item))))
        assert ("error", "systemUnavail") == (reply.type, reply.failure)
