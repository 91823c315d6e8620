# SPDX-License-Identifier: MIT
"""Tests for CMP over HTTP (RFC 9811; RFC 9483, section 6.1)."""

from __future__ import annotations

import pytest
from cmp_client import (
    IMPLICIT,
    Site,
    asks,
    cert_conf,
    header_of,
    make_ra_site,
    make_site,
    pkcs10,
    protected_by_secret,
    rev_req,
    signed,
)
from twisted.logger import LogEvent, globalLogPublisher

from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp import MAX_BYTES, PKIBody, prepare, read_message
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.protocols.cmp.header import ANNOUNCEMENTS
from trstctl.protocols.cmp.labels import LABELS
from trstctl.testing import Connection, read_response, request_octets
from trstctl.web import HTTPResponse

MEDIA = {"Content-Type": "application/pkixcmp"}
GENM = PKIBody("genm", der.sequence())


@pytest.fixture
def site() -> Site:
    """A gateway."""
    return make_site()


def exchange(site: Site, octets: bytes) -> HTTPResponse:
    """Send a request as it stands, and return the answer."""
    connection = Connection(site.resource, clock=site.clock)
    connection.send(octets)
    answer = read_response(connection.received())
    connection.lose()
    return answer


class FormTests:
    """RFC 9811, sections 3.1 and 3.2."""

    @pytest.mark.parametrize(
        "media_type",
        [
            "application/pkixcmp",
            "Application/PKIXCMP",
            "application/pkixcmp; charset=binary",
            "application/pkixcmp-poll",
        ],
    )
    def test_media_types(self, site: Site, media_type: str) -> None:
        """Section 3.2, and what section 4 says of older clients."""
        octets = protected_by_secret(site.secret(), GENM)
        reply = site.send(octets, **{"Content-Type": media_type})
        assert (200, "application/pkixcmp") == (reply.status, reply.media_type)

    def test_without_a_media_type(self, site: Site) -> None:
        """It is taken for what it must be."""
        octets = protected_by_secret(site.secret(), GENM)
        answer = exchange(site, request_octets("POST", "/cmp", octets))
        assert 200 == answer.status

    @pytest.mark.parametrize(
        "media_type",
        ["text/plain", "application/pkixcmpx", "application/*", ""],
    )
    def test_other_media_types(self, site: Site, media_type: str) -> None:
        """415."""
        octets = protected_by_secret(site.secret(), GENM)
        reply = site.send(octets, **{"Content-Type": media_type})
        assert 415 == reply.status

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
    def test_other_methods(self, site: Site, method: str) -> None:
        """Section 3.1: POST; 405 says so."""
        answer = exchange(site, request_octets(method, "/cmp"))
        assert (405, "POST") == (answer.status, answer.headers["Allow"])

    def test_what_is_too_large(self, site: Site) -> None:
        """413, before it has been sent."""
        head = (
            "POST /cmp HTTP/1.1\r\nHost: a\r\n"
            f"Content-Length: {MAX_BYTES + 1}\r\n\r\n"
        )
        assert 413 == exchange(site, head.encode()).status

    @pytest.mark.parametrize(
        "octets", [b"", b"\x30\x00", b"nonsense", b"\x30\x80" + bytes(64)]
    )
    def test_what_is_no_message(self, site: Site, octets: bytes) -> None:
        """400, where no PKIMessage can be sent in return."""
        answer = exchange(site, request_octets("POST", "/cmp", octets, MEDIA))
        assert (400, "text/plain") == (
            answer.status,
            answer.content_type.partition(";")[0],
        )

    def test_a_refusal_is_200(self, site: Site) -> None:
        """A message that decodes is answered by one, which clients read."""
        octets = prepare(header_of(), GENM).finish(None)
        reply = site.send(octets)
        assert (200, "application/pkixcmp", "error") == (
            reply.status,
            reply.media_type,
            reply.type,
        )


class ConnectionTests:
    """HTTP/1.0, which OpenSSL speaks, and HTTP/1.1."""

    def request(self, site: Site, head: str) -> bytes:
        """Return a request with a message in it."""
        octets = protected_by_secret(site.secret(), GENM)
        lines = (
            f"POST /cmp {head}\r\nContent-Type: application/pkixcmp\r\n"
            f"Content-Length: {len(octets)}\r\n\r\n"
        )
        return lines.encode() + octets

    @pytest.mark.parametrize(
        ("head", "stays"),
        [
            ("HTTP/1.0", False),
            ("HTTP/1.0\r\nConnection: keep-alive", True),
            ("HTTP/1.0\r\nConnection: Keep-Alive", True),
            ("HTTP/1.1\r\nHost: a", True),
            ("HTTP/1.1\r\nHost: a\r\nConnection: close", False),
        ],
    )
    def test_a_connection_stays_open_if_it_is_asked_to(
        self, site: Site, head: str, stays: bool
    ) -> None:
        """RFC 9811, section 3: several requests over one connection."""
        connection = Connection(site.resource, clock=site.clock)
        connection.send(self.request(site, head))
        answer = read_response(connection.received())
        assert 200 == answer.status
        if "HTTP/1.0" in head:
            kept = answer.headers.get("Connection") == "keep-alive"
            assert stays == kept
        if stays:
            connection.send(self.request(site, head))
            assert 200 == read_response(connection.received()).status


class PathTests:
    """RFC 9811, section 3.4; RFC 9483, section 6.1."""

    @pytest.mark.parametrize("prefix", ["/cmp", "/.well-known/cmp"])
    @pytest.mark.parametrize("name", ["", "/p/branch"])
    @pytest.mark.parametrize("label", ["", *LABELS])
    def test_every_label(self, prefix: str, name: str, label: str) -> None:
        """Each that is registered, for its own messages and no others."""
        site = make_site(labels={"branch": {}})
        path = f"{prefix}{name}/{label}".rstrip("/")
        device, former = site.enrolled(), site.enrolled("former")
        facts = read_certificate(former.certificate)
        template = CertTemplate(issuer=facts.issuer, serial=facts.serial)
        bodies = {
            "ir": asks("ir"),
            "cr": asks("cr"),
            "p10cr": pkcs10(),
            "genm": GENM,
            "rr": rev_req(template, 1),
            "kur": asks("kur"),
        }
        for kind, body in bodies.items():
            if kind == "ir":
                octets = protected_by_secret(site.secret(), body, **IMPLICIT)
            else:
                signer = former if kind == "rr" else device
                octets = signed(signer, body, **IMPLICIT)
            reply = site.send(octets, path)
            fits = not label or kind in LABELS[label]
            if fits and kind != "genm":
                assert "accepted" == reply.pki_status, kind
            elif not fits:
                assert ("badRequest", "label") == (reply.failure, reply.code)

    def test_labels_are_those_of_the_registry(self) -> None:
        """IANA, CMP Well-Known URI Path Segments; p is for names."""
        assert {
            "initialization",
            "certification",
            "keyupdate",
            "pkcs10",
            "revocation",
            "getcacerts",
            "getrootupdate",
            "getcertreqtemplate",
            "getcrls",
            "nested",
        } == set(LABELS)

    def test_nested_has_a_label(self) -> None:
        """RFC 9483, section 6.1."""
        site, ra = make_ra_site()
        messages = [protected_by_secret(site.secret(), GENM) for _ in range(2)]
        body = PKIBody("nested", der.sequence(*messages))
        assert "nested" == site.send(signed(ra, body), "/cmp/nested").type
        reply = site.send(signed(ra, body), "/cmp/getcacerts")
        assert ("error", "badRequest", "label") == (
            reply.type,
            reply.failure,
            reply.code,
        )

    @pytest.mark.parametrize(
        ("label", "answer"),
        [("getcacerts", "genp"), ("nested", "genp"), ("revocation", "error")],
    )
    def test_one_message_inside_has_its_own_label(
        self, label: str, answer: str
    ) -> None:
        """It comes where it would have come by itself."""
        site, ra = make_ra_site()
        message = protected_by_secret(site.secret(), GENM)
        header = read_message(message).header
        reply = site.send(
            signed(
                ra,
                PKIBody("nested", der.sequence(message)),
                transaction_id=header.transaction_id,
                sender_nonce=header.sender_nonce,
            ),
            f"/cmp/{label}",
        )
        assert answer == reply.type

    def test_what_goes_on_comes_to_the_same_path(self, site: Site) -> None:
        """certConf has no label of its own."""
        secret, path = site.secret(), "/.well-known/cmp/initialization"
        reply = site.send(protected_by_secret(secret, asks()), path)
        done = site.send(
            protected_by_secret(
                secret,
                cert_conf(reply.certificate),
                transaction_id=reply.header.transaction_id,
                recip_nonce=reply.header.sender_nonce,
            ),
            path,
        )
        assert "pkiconf" == done.type

    @pytest.mark.parametrize(
        "path",
        [
            "/cmp/p",
            "/cmp/p/nobody",
            "/cmp/p/nobody/nested",
            "/cmp/Initialization",
            "/cmp/no",
            "/cmp/nested/p",
            "/.well-known/cmp/initialization/initialization",
            "/.well-known/cmp/p//initialization",
        ],
    )
    def test_no_other_path(self, site: Site, path: str) -> None:
        """404."""
        octets = protected_by_secret(site.secret(), GENM)
        answer = exchange(site, request_octets("POST", path, octets, MEDIA))
        assert 404 == answer.status


class LogTests:
    """One line for each exchange."""

    @pytest.mark.parametrize("kind", ["ir", "rr", "krr"])
    def test_it_has_the_type_of_the_message(
        self, site: Site, kind: str
    ) -> None:
        """Whatever the path is, also of what is refused."""
        events: list[LogEvent] = []
        body = asks() if kind == "ir" else PKIBody(kind, der.sequence())
        message = protected_by_secret(site.secret(), body, **IMPLICIT)
        globalLogPublisher.addObserver(events.append)
        site.send(message)
        globalLogPublisher.removeObserver(events.append)
        (line,) = [one for one in events if one.get("event") == "request"]
        assert ("cmp", kind) == (line["protocol"], line["operation"])


class AnnouncementTests:
    """RFC 9811, section 3.5."""

    @pytest.mark.parametrize("kind", sorted(ANNOUNCEMENTS))
    def test_a_status_and_no_message(self, site: Site, kind: str) -> None:
        """Who takes none says so by a 4xx, whoever announces."""
        for octets in (
            prepare(header_of(), PKIBody(kind, der.sequence())).finish(None),
            signed(site.enrolled(), PKIBody(kind, der.sequence())),
        ):
            reply = site.send(octets)
            assert (403, "text/plain") == (
                reply.status,
                reply.media_type.partition(";")[0],
            )
            assert b"announcements" in reply.octets
