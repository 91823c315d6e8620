# SPDX-License-Identifier: MIT
"""Tests of EST's /crls, /eecerts and /renewal-info, and what they say."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from est_samples import ROOT, ESTBench, make_csr_with
from hypothesis import given
from hypothesis import strategies as st
from pyasn1.codec.der.decoder import decode
from pyasn1.codec.der.encoder import encode
from pyasn1_modules import rfc5652
from twisted.internet.defer import Deferred, fail

from trstctl.ca.pointers import key_identifier
from trstctl.errors import Malformed, Unavailable
from trstctl.model import RenewalWindow, StoredCRL
from trstctl.pkix.certificate import read_certificate
from trstctl.protocols.est.renewal import (
    encode_window,
    read_certificate_name,
)
from trstctl.testing import (
    EPOCH,
    TENANT,
    FakeRevocation,
    exchange,
    make_authority,
    result_of,
)
from trstctl.web import HTTPRequest, HTTPResponse

MODES = ("wrapped", "single")
OTHER = "22222222-2222-2222-2222-222222222222"
KEY = ec.generate_private_key(ec.SECP256R1())


def b64url(octets: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def name_of(certificate: bytes, issuer: bytes) -> str:
    """Return a certificate's name, from what the library reads."""
    loaded = x509.load_der_x509_certificate(certificate)
    number = loaded.serial_number
    octets = number.to_bytes(number.bit_length() // 8 + 1, "big")
    found = loaded.extensions.get_extension_for_class(
        x509.AuthorityKeyIdentifier
    ).value.key_identifier
    assert found == key_identifier(issuer)
    return f"{b64url(found)}.{b64url(octets)}"


# --- the name and the window ------------------------------------------------


class NameTests:
    """RFC 9773, section 4.1: how a certificate is named in a path."""

    def test_example(self) -> None:
        """The RFC's own example."""
        identifier, serial = read_certificate_name(
            "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
        )
        assert "69885b6b87464041e1b37b847ba0ae2cde01c8d4" == identifier.hex()
        assert "87654321" == serial

    @given(
        st.binary(min_size=1, max_size=64),
        st.integers(min_value=1, max_value=2**160 - 1),
    )
    def test_round_trip(self, identifier: bytes, number: int) -> None:
        """Whatever is written by the rules is read."""
        octets = number.to_bytes(number.bit_length() // 8 + 1, "big")
        found = read_certificate_name(f"{b64url(identifier)}.{b64url(octets)}")
        assert (identifier, f"{number:x}") == found

    @pytest.mark.parametrize(
        "text",
        [
            "",
            ".",
            "AAAA",
            "AAAA.",
            ".AQ",
            "AAAA.AQ.AQ",
            "AAAA.AQ==",
            "AAAA=.AQ",
            "AA+A.AQ",
            "AA/A.AQ",
            "AAAA.AR",  # bits that mean nothing must be zero
            "AAAA.A",  # no number of octets has this length
            "AAAA.AA",  # zero
            "AAAA.gA",  # negative
            "AAAA.AAE",  # one, with a zero too many
            "AAAA." + b64url(b"\1" * 22),
            b64url(b"\1" * 65) + ".AQ",
            "A" * 200 + ".AQ",
            "cacerts",
        ],
    )
    def test_malformed(self, text: str) -> None:
        """One name for one certificate, and no other form of it."""
        with pytest.raises(Malformed):
            read_certificate_name(text)

    @given(st.text(max_size=120))
    def test_anything(self, text: str) -> None:
        """Any text is a name or Malformed."""
        try:
            identifier, serial = read_certificate_name(text)
        except Malformed:
            return
        octets = bytes.fromhex(serial.zfill(len(serial) + len(serial) % 2))
        if octets[0] >= 0x80:
            octets = b"\0" + octets
        assert text == f"{b64url(identifier)}.{b64url(octets)}"

    def test_window(self) -> None:
        """Times as RFC 3339 has them."""
        start = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        window = RenewalWindow(start, start + timedelta(hours=1))
        assert {
            "suggestedWindow": {
                "start": "2026-01-02T03:04:05Z",
                "end": "2026-01-02T04:04:05Z",
            }
        } == json.loads(encode_window(window))


class RenewalInformationTests:
    """``GET /renewal-info/<name>``."""

    def ask(self, bench: ESTBench, name: str, label: str = "") -> HTTPResponse:
        """Ask when to renew."""
        place = f"/{label}" if label else ""
        return bench.get(f"{place}/renewal-info/{name}")

    def test_told(self) -> None:
        """200, JSON that is not base64, and when to ask again."""
        bench = ESTBench(labels={"second": {}})
        certificate = bench.issued(make_csr_with({}))
        issuer = bench.authorities["issuing"].certificate
        name = name_of(certificate, issuer)
        answer = self.ask(bench, name)
        assert (200, "application/json") == (
            answer.status,
            answer.content_type,
        )
        assert "Content-Transfer-Encoding" not in answer.headers
        window = json.loads(answer.body)["suggestedWindow"]
        facts = read_certificate(certificate)
        first, last = (
            datetime.fromisoformat(window[key]) for key in ("start", "end")
        )
        assert facts.not_before < first < last < facts.not_after
        assert 43200 <= int(str(answer.headers["Retry-After"])) <= 86400
        # By the certificate alone: the same again, at each label.
        assert answer.body == self.ask(bench, name).body
        assert answer.body == self.ask(bench, name, "second").body

    def test_revoked(self) -> None:
        """A window in the past: now."""
        bench = ESTBench()
        certificate = bench.issued(make_csr_with({}))
        issuer = bench.authorities["issuing"].certificate
        row = bench.record(certificate)
        bench.ra.revoke(row.tenant_id, row.serial, "superseded", "test")
        answer = self.ask(bench, name_of(certificate, issuer))
        window = json.loads(answer.body)["suggestedWindow"]
        assert datetime.fromisoformat(window["end"]) < bench.now()

    def test_pause_of_the_short_lived(self) -> None:
        """It ends while there is still something to be told."""
        bench = ESTBench(renewal_retry="12h")
        bench.change(validity_default=timedelta(hours=1))
        certificate = bench.issued(make_csr_with({}))
        issuer = bench.authorities["issuing"].certificate
        name = name_of(certificate, issuer)
        answer = self.ask(bench, name)
        window = json.loads(answer.body)["suggestedWindow"]
        left = datetime.fromisoformat(window["end"]) - bench.now()
        pause = int(str(answer.headers["Retry-After"]))
        assert left.total_seconds() / 5 < pause < left.total_seconds() / 2
        # But never at once, and once it is over as ever.
        bench.now.step(left - timedelta(seconds=2))
        pause = int(str(self.ask(bench, name).headers["Retry-After"]))
        assert 60 <= pause <= 120
        bench.now.step(timedelta(seconds=2))
        pause = int(str(self.ask(bench, name).headers["Retry-After"]))
        assert 43200 <= pause <= 86400

    def test_pause_is_configured(self) -> None:
        """One to two times what the section says."""
        bench = ESTBench(renewal_retry="1h")
        certificate = bench.issued(make_csr_with({}))
        issuer = bench.authorities["issuing"].certificate
        answer = self.ask(bench, name_of(certificate, issuer))
        assert 3600 <= int(str(answer.headers["Retry-After"])) <= 7200

    @pytest.mark.parametrize(
        ("name", "status"),
        [
            ("AAAA.AQ", 404),
            ("AAAA.AQ==", 404),  # no path of ours has such a character
            ("AAAA.gA", 400),
            ("AAAA", 400),
            ("cacerts", 400),
        ],
    )
    def test_not_told(self, name: str, status: int) -> None:
        """404 for what is unknown, 400 for what is no name; none audited."""
        bench = ESTBench()
        before = len(result_of(bench.store.audit_records(TENANT, 0, 99)))
        assert status == self.ask(bench, name).status
        after = result_of(bench.store.audit_records(TENANT, 0, 99))
        assert (before if "=" not in name else len(after)) == len(after)

    def test_same_answer_for_another_tenant(self) -> None:
        """What others have is no other than what nobody has."""
        bench = ESTBench(labels={"theirs": {"tenant_id": OTHER}})
        certificate = bench.issued(make_csr_with({}))
        issuer = bench.authorities["issuing"].certificate
        name = name_of(certificate, issuer)
        known = self.ask(bench, name, "theirs")
        nobodys = self.ask(bench, name[:-4] + "AAAA", "theirs")
        assert 404 == known.status == nobodys.status
        assert known.body.split(b" (")[0] == nobodys.body.split(b" (")[0]

    def test_paths(self) -> None:
        """Only with a name, only there, and only by GET."""
        bench = ESTBench(labels={"silent": {"renewal_info": False}})
        for path in (
            "/renewal-info",
            "/renewal-info/",
            "/nobody/renewal-info/AAAA.AQ",
            "/silent/renewal-info/AAAA.AQ",
            "/renewal-info/AAAA.AQ/x",
            "/cacerts/AAAA.AQ",
        ):
            assert 404 == bench.get(path).status, path
        answer = exchange(
            bench.resource, "POST", ROOT + "/renewal-info/AAAA.AQ"
        )
        assert 405 == answer.status

    def test_operation(self) -> None:
        """Log and metrics name the operation, never the certificate."""
        bench = ESTBench()
        request = HTTPRequest("GET", ("renewal-info", "AAAA.AQ"))
        assert "renewal-info" == bench.resource.operation(request)
        labelled = HTTPRequest("GET", ("x", "cacerts"))
        assert "cacerts" == bench.resource.operation(labelled)


# --- CRLs -------------------------------------------------------------------


def crl_of(
    authority: str, der: bytes = b"\x30\x00", number: int = 1
) -> StoredCRL:
    """Return a CRL that a test has made up."""
    return StoredCRL(
        authority,
        "",
        number,
        0,
        EPOCH,
        EPOCH + timedelta(days=7),
        0,
        der,
    )


def publish(bench: ESTBench) -> None:
    """Let the authorities publish what is due."""
    publisher: Any = bench.ra.revocation
    result_of(Deferred.fromCoroutine(publisher.round()))


def crl_der(name: str) -> bytes:
    """Return a CRL that somebody has signed."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signed = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(subject)
        .last_update(EPOCH)
        .next_update(EPOCH + timedelta(days=7))
        .sign(KEY, hashes.SHA256())
    )
    return signed.public_bytes(Encoding.DER)


def crls_in(answer: HTTPResponse) -> list[bytes]:
    """Return the CRLs of an answer, as another decoder reads them."""
    message, rest = decode(
        base64.b64decode(answer.body), rfc5652.ContentInfo()
    )
    assert not rest
    content, rest = decode(
        bytes(message["content"]), rfc5652.SignedData(), decodeOpenTypes=False
    )
    assert not rest
    assert not content["certificates"].isValue
    assert 0 == len(content["signerInfos"])
    return [encode(one["crl"]) for one in content["crls"]]


class CRLTests:
    """``GET /crls`` (RFC 8295, section 4)."""

    def bench(self, **settings: Any) -> ESTBench:
        """Return a bench whose authorities publish CRLs."""
        bench = ESTBench(crls=True, **settings)
        publish(bench)
        return bench

    def test_published(self) -> None:
        """A crls-only message with the CRL in force, in base64."""
        bench = self.bench()
        answer = bench.get("/crls")
        assert 200 == answer.status
        kind = "application/pkcs7-mime; smime-type=crls-only"
        assert kind == answer.content_type
        assert "base64" == answer.headers["Content-Transfer-Encoding"]
        (found,) = crls_in(answer)
        stored = result_of(bench.ra.revocation.crl("issuing", ""))
        assert stored.der == found
        x509.load_der_x509_crl(found)

    def test_follows_a_revocation(self) -> None:
        """The next edition takes the place of the one before."""
        bench = self.bench()
        first = bench.get("/crls").body
        assert first == bench.get("/crls").body
        row = bench.record(bench.issued(make_csr_with({})))
        bench.ra.revoke(row.tenant_id, row.serial, "unspecified", "test")
        bench.clock.advance(120)
        publish(bench)
        (found,) = crls_in(bench.get("/crls"))
        listed = x509.load_der_x509_crl(found)
        number = int(row.serial, 16)
        assert listed.get_revoked_certificate_by_serial_number(number)

    def test_off_by_default(self) -> None:
        """404 where the label does not offer it."""
        bench = ESTBench(labels={"on": {"crls": True}})
        publish(bench)
        assert 404 == bench.get("/crls").status
        assert 200 == bench.get("/on/crls").status

    def test_of_the_chain(self) -> None:
        """
        Of the authority, of those that still count, and of our own CAs above
        (RFC 8295, section 1: they are needed to validate the path).
        """
        bench = ESTBench(crls=True)
        ours, above = b"ours", b"above"
        revocation = FakeRevocation(
            {
                "issuing": (ours, above),
                "root": (above,),
                "other": (b"other", b"its own root"),
            }
        )
        bench.ra.revocation = revocation
        revocation.publish(crl_of("other", crl_der("other")))
        # None is there yet; then one after another.
        assert 404 == bench.get("/crls").status
        own, roots = crl_der("issuing"), crl_der("root")
        revocation.publish(crl_of("root", roots))
        assert [roots] == crls_in(bench.get("/crls"))
        revocation.publish(crl_of("issuing", own))
        assert [own, roots] == crls_in(bench.get("/crls"))

    def test_unavailable(self) -> None:
        """One that has run out is no CRL: 503."""
        bench = ESTBench(crls=True)
        revocation = FakeRevocation({"issuing": make_authority().chain})
        revocation.error = Unavailable("none in force")
        bench.ra.revocation = revocation
        assert 503 == bench.get("/crls").status

    def test_generation_that_has_expired(self) -> None:
        """It signs no CRL any more, and the others' are handed out."""
        bench = ESTBench(crls=True)
        past = make_authority("past")

        class Revocation(FakeRevocation):
            """One authority cannot sign."""

            def crl(self, authority: str, scope: str) -> Deferred[StoredCRL]:
                """Return the CRL, or fail."""
                if authority == "past":
                    return fail(Unavailable("it cannot be signed now"))
                return super().crl(authority, scope)

        revocation = Revocation(
            {"issuing": (b"ours",), "past": (past.certificate,)}
        )
        bench.ra.revocation = revocation
        own = crl_der("issuing")
        revocation.publish(crl_of("issuing", own))
        distribution = bench.resource._distribution
        endpoint = evolve(bench.resource.endpoint, issuers=("past",))

        def ask() -> HTTPResponse:
            answer: HTTPResponse = result_of(
                Deferred.fromCoroutine(
                    distribution.crls(endpoint, single_line=False)
                )
            )
            return answer

        # While it counts, a part would pass for the whole.
        with pytest.raises(Unavailable):
            ask()
        bench.now.step(past.not_after - bench.now())
        assert [own] == crls_in(ask())

    def test_large(self) -> None:
        """Megabytes are encoded once, in a thread, however many ask."""
        bench = ESTBench(crls=True)
        revocation = FakeRevocation({"issuing": (b"",)})
        bench.ra.revocation = revocation
        padding = b"\x04\x83\x01\x11\x70" + bytes(70_000)
        revocation.publish(
            crl_of("issuing", b"\x30\x83\x01\x11\x75" + padding)
        )
        calls: list[Deferred[Any]] = []
        work: list[Any] = []

        def elsewhere(function: Any, *arguments: Any) -> Deferred[Any]:
            calls.append(Deferred())
            work.append((function, arguments))
            return calls[-1]

        bench.ra.elsewhere = elsewhere
        distribution = bench.resource._distribution
        asked = [
            Deferred.fromCoroutine(
                distribution.crls(bench.resource.endpoint, single_line=False)
            )
            for _ in range(3)
        ]
        assert 1 == len(calls)
        function, arguments = work[0]
        calls[0].callback(function(*arguments))
        bodies = {result_of(one).body for one in asked}
        assert 1 == len(bodies) == len(calls)
        # What runs anew is another edition.
        revocation.publish(
            crl_of("issuing", b"\x30\x83\x01\x11\x75" + padding, 2)
        )
        more = Deferred.fromCoroutine(
            distribution.crls(bench.resource.endpoint, single_line=False)
        )
        assert 2 == len(calls)
        calls[1].callback(b"x")
        assert b"x" == result_of(more).body

    def test_line_mode(self) -> None:
        """Lines as the label says, each encoded for itself."""
        bench = ESTBench(
            crls=True, labels={mode: {"line_mode": mode} for mode in MODES}
        )
        publish(bench)
        wrapped, single = (bench.get(f"/{mode}/crls").body for mode in MODES)
        assert single == wrapped.replace(b"\n", b"") != wrapped


# --- peers ------------------------------------------------------------------


class PeerTests:
    """``GET /eecerts`` (RFC 8295, section 3)."""

    def bench(self) -> tuple[ESTBench, bytes]:
        """Return a bench, and the certificate of a hub."""
        bench = ESTBench(labels={"spokes": {"eecerts": ("hub.example",)}})
        return bench, bench.issued(make_csr_with({}, "hub.example"))

    def ask(
        self, bench: ESTBench, certificate: bytes | None, label: str = "spokes"
    ) -> HTTPResponse:
        """Ask for the peers' certificates."""
        return exchange(
            bench.resource,
            "GET",
            f"{ROOT}/{label}/eecerts" if label else f"{ROOT}/eecerts",
            headers={"User-Agent": "test"},
            client_certificate=certificate,
        )

    def test_peers(self) -> None:
        """Section 3.2: not the client's own, but its peers'."""
        bench, hub = self.bench()
        spoke = bench.issued(make_csr_with({}, "spoke"))
        answer = self.ask(bench, spoke)
        assert 200 == answer.status
        kind = "application/pkcs7-mime; smime-type=certs-only"
        assert kind == answer.content_type
        (found,) = pkcs7.load_der_pkcs7_certificates(
            base64.b64decode(answer.body)
        )
        assert x509.load_der_x509_certificate(hub) == found

    def test_only_for_ours(self) -> None:
        """Who has no certificate of the label's, or a revoked one, has none."""
        bench, _ = self.bench()
        assert 401 == self.ask(bench, None).status
        stranger = make_authority("other").chain[0]
        assert 401 == self.ask(bench, stranger).status
        spoke = bench.issued(make_csr_with({}, "spoke"))
        row = bench.record(spoke)
        bench.ra.revoke(row.tenant_id, row.serial, "unspecified", "test")
        assert 403 == self.ask(bench, spoke).status

    def test_none(self) -> None:
        """404 where no peer is named, and where none has a certificate."""
        bench, hub = self.bench()
        assert 404 == self.ask(bench, hub, "").status
        row = bench.record(hub)
        spoke = bench.issued(make_csr_with({}, "spoke"))
        bench.ra.revoke(row.tenant_id, row.serial, "unspecified", "test")
        answer = self.ask(bench, spoke)
        assert 404 == answer.status
        assert b"no peer has a certificate" in answer.body
