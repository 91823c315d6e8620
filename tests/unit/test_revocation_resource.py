# SPDX-License-Identifier: MIT
"""OCSP, CRLs and CA certificates through the real web layer."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from attrs import evolve
from conftest import LoggedFailures
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp as oracle
from cryptography.x509.oid import ExtendedKeyUsageOID
from ocsp_samples import cert_id, extension, octets, request
from pydantic import ValidationError
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from trstctl import errors
from trstctl.errors import PolicyViolation, Throttled, TrstctlError, leaves
from trstctl.interfaces import IEnrollmentProtocol, IRevocation
from trstctl.model import SYSTEM_TENANT, Purpose, StoredCRL
from trstctl.protocols.revocation import responder
from trstctl.protocols.revocation.resource import (
    OCSP_ERRORS,
    RevocationSettings,
)
from trstctl.testing import (
    EPOCH,
    FakeCredentials,
    FakeRevocation,
    StubAuthority,
    exchange,
    make_authority,
    result_of,
    settings_for,
)
from trstctl.web import HTTPRequest, HTTPResponse
from twisted.plugins.trstctl_revocation import revocation

PLUGIN: Any = revocation
AUTHORITY: Any = make_authority()
OTHER: Any = make_authority("other")
SERIAL = "4152d9274a3b489d045c26dce8d524d04c7a9e90"
POST = {"Content-Type": "application/ocsp-request"}
HOUR = timedelta(hours=1)
Status = oracle.OCSPResponseStatus


def asking(
    serial: str = SERIAL, nonce: bytes | None = None, ca: Any = AUTHORITY
) -> bytes:
    """Return a request for one certificate."""
    return request([cert_id(ca.certificate, int(serial, 16))], nonce)


class Bench:
    """The service over fakes."""

    def __init__(self, **settings: object) -> None:
        self.now = EPOCH
        authorities = {"issuing": AUTHORITY, "other": OTHER}
        self.revocation = FakeRevocation(
            {name: one.chain for name, one in authorities.items()}
        )
        self.revocation.issue(SERIAL)
        self.credentials = FakeCredentials(authorities)
        self.ra = StubAuthority()
        ra: Any = self.ra
        ra.revocation, ra.credentials = self.revocation, self.credentials
        ra.now = lambda: self.now
        self.resource = PLUGIN.make_resource(
            ra, settings_for(PLUGIN, **settings)
        )

    def get(self, path: str, **headers: str) -> HTTPResponse:
        """Fetch something."""
        fields = {name.replace("_", "-"): v for name, v in headers.items()}
        return exchange(self.resource, "GET", path, headers=fields)

    def post(
        self,
        body: bytes,
        headers: Any = POST,
        path: str = "/ocsp/issuing",
    ) -> HTTPResponse:
        """Ask by POST."""
        return exchange(self.resource, "POST", path, body, headers)

    def get_ocsp(self, body: bytes, **headers: str) -> HTTPResponse:
        """Ask by GET."""
        encoded = base64.b64encode(body).decode()
        return self.get(f"/ocsp/issuing/{quote(encoded, safe='')}", **headers)

    def ask(self, body: bytes | None = None) -> oracle.OCSPResponse:
        """Ask by POST, and return what another reads, its signature good."""
        return self.judge(self.post(asking() if body is None else body))

    def judge(self, answer: HTTPResponse) -> oracle.OCSPResponse:
        """Return the successful response in an answer."""
        read = told(answer)
        assert Status.SUCCESSFUL == read.response_status
        (signer,) = read.certificates
        key: Any = signer.public_key()
        key.verify(
            read.signature, read.tbs_response_bytes, ec.ECDSA(hashes.SHA256())
        )
        return read


def told(answer: HTTPResponse) -> oracle.OCSPResponse:
    """Return what another reads of an answer of OCSP."""
    assert 200 == answer.status, answer.body
    assert "application/ocsp-response" == answer.content_type
    return oracle.load_der_ocsp_response(answer.body)


def status_of(answer: HTTPResponse) -> oracle.OCSPResponseStatus:
    """Return the status of a response that is nothing else."""
    assert 5 == len(answer.body)
    return told(answer).response_status


class FakeTests:
    """The fake says what it was told to."""

    def test_provides_the_interface(self) -> None:
        """It is as the real one."""
        assert verifyObject(IRevocation, FakeRevocation({}))

    def test_release(self) -> None:
        """Only what is on hold can be released."""
        bench = Bench()
        bench.revocation.revoke(SERIAL, "keyCompromise")
        with pytest.raises(AssertionError, match="not on hold"):
            bench.revocation.release(SERIAL)


class SettingsTests:
    """The section ``protocols.revocation``."""

    def test_enabled_is_enough(self) -> None:
        """It serves no tenant, and enrolls nobody."""
        settings = RevocationSettings(enabled=True)
        assert verifyObject(IEnrollmentProtocol, PLUGIN)
        assert RevocationSettings is PLUGIN.settings_schema()
        assert ("/crl", "/ca", "/ocsp") == PLUGIN.paths(settings)
        assert () == PLUGIN.endpoints(settings)
        resource = PLUGIN.make_resource(StubAuthority(), settings)
        assert SYSTEM_TENANT == resource.endpoint.tenant_id

    def test_plain_http(self) -> None:
        """RFC 5280, section 8: over TLS, who checks would go in circles."""
        assert PLUGIN.plain_http()

    @pytest.mark.parametrize("value", ["59s", "31d", 3600])
    def test_validity_is_bounded(self, value: object) -> None:
        """Neither useless nor for ever, and a duration."""
        with pytest.raises(ValidationError):
            RevocationSettings(enabled=True, ocsp_validity=value)

    def test_operations_are_a_short_list(self) -> None:
        """No text of a peer's becomes the label of a metric."""
        bench = Bench()
        kinds = {
            bench.resource.at(prefix).operation(HTTPRequest("GET", ("x",)))
            for prefix in ("/crl", "/ca", "/ocsp")
        }
        assert {"crl", "ca", "ocsp"} == kinds


# --- OCSP -------------------------------------------------------------------


class StatusTests:
    """What is said of a certificate."""

    def test_good(self) -> None:
        """RFC 6960, section 2.2: not revoked."""
        read = Bench().ask()
        assert oracle.OCSPCertStatus.GOOD == read.certificate_status
        assert int(SERIAL, 16) == read.serial_number
        assert EPOCH == read.produced_at_utc
        assert EPOCH - timedelta(minutes=5) == read.this_update_utc
        assert EPOCH + HOUR == read.next_update_utc

    @pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512"])
    def test_every_hash(self, digest: str) -> None:
        """RFC 5019, section 2.1.1, and what newer clients use."""
        asked = cert_id(AUTHORITY.certificate, int(SERIAL, 16), digest)
        read = Bench().ask(request([asked]))
        assert oracle.OCSPCertStatus.GOOD == read.certificate_status

    def test_revoked_hold_and_release(self) -> None:
        """Each change shows at the very next request."""
        bench = Bench()
        at = EPOCH - HOUR
        bench.ask()
        bench.revocation.revoke(SERIAL, "certificateHold", at=at)
        read = bench.ask()
        assert oracle.OCSPCertStatus.REVOKED == read.certificate_status
        assert x509.ReasonFlags.certificate_hold == read.revocation_reason
        assert at == read.revocation_time_utc
        bench.revocation.release(SERIAL)
        read = bench.ask()
        assert oracle.OCSPCertStatus.GOOD == read.certificate_status
        bench.revocation.revoke(SERIAL, "keyCompromise")
        read = bench.ask()
        assert x509.ReasonFlags.key_compromise == read.revocation_reason

    @pytest.mark.parametrize("serial", ["1", "0", "-1", "ff"])
    def test_never_promised(self, serial: str) -> None:
        """RFC 6960, section 2.2: a serial that nobody knows is unknown."""
        read = Bench().ask(asking(serial))
        assert oracle.OCSPCertStatus.UNKNOWN == read.certificate_status

    def test_store_is_asked_for_serials_only(self) -> None:
        """RFC 5280, section 4.1.2.2: what is no serial is not looked up."""
        bench = Bench()
        for serial in ("0", "-1", SERIAL):
            bench.ask(asking(serial))
        assert [SERIAL] == bench.revocation.asked

    def test_several(self) -> None:
        """RFC 6960, section 4.2.1: each has its answer, in order."""
        bench = Bench()
        bench.revocation.issue("2")
        bench.revocation.revoke("2", "superseded")
        numbers = [1, 2, int(SERIAL, 16)]
        asked = [cert_id(AUTHORITY.certificate, one) for one in numbers]
        read = bench.ask(request(asked))
        assert [
            (1, oracle.OCSPCertStatus.UNKNOWN),
            (2, oracle.OCSPCertStatus.REVOKED),
            (int(SERIAL, 16), oracle.OCSPCertStatus.GOOD),
        ] == [
            (one.serial_number, one.certificate_status)
            for one in read.responses
        ]

    def test_each_authority_for_itself(self) -> None:
        """One authority's serial is not another's."""
        bench = Bench()
        answer = bench.post(asking(ca=OTHER), path="/ocsp/other")
        read = bench.judge(answer)
        assert oracle.OCSPCertStatus.UNKNOWN == read.certificate_status

    def test_delegated_responder(self) -> None:
        """RFC 6960, section 4.2.2.2: certified by this CA, for OCSP only."""
        read = Bench().ask()
        (signer,) = read.certificates
        signer.verify_directly_issued_by(
            x509.load_der_x509_certificate(AUTHORITY.certificate)
        )
        usage = signer.extensions.get_extension_for_class(
            x509.ExtendedKeyUsage
        )
        assert [ExtendedKeyUsageOID.OCSP_SIGNING] == list(usage.value)
        assert signer.extensions.get_extension_for_class(x509.OCSPNoCheck)

    def test_settings(self) -> None:
        """Validity and backdate are the operator's."""
        read = Bench(ocsp_validity="1d", ocsp_backdate="0s").ask()
        assert EPOCH == read.this_update_utc
        assert EPOCH + timedelta(days=1) == read.next_update_utc

    def test_never_longer_than_the_responder(self) -> None:
        """No response outlives the certificate that it is verified by."""
        bench = Bench(ocsp_validity="30d")
        credential = result_of(bench.credentials.get("issuing", Purpose.OCSP))
        bench.now = credential.not_after - HOUR
        assert credential.not_after == bench.ask().next_update_utc
        bench.now = credential.not_after
        assert Status.TRY_LATER == status_of(bench.post(asking()))


class NonceTests:
    """A response for one request only (RFC 9654)."""

    def test_echoed(self) -> None:
        """RFC 9654, section 2.1: as it came, and never signed before."""
        bench = Bench()
        answers = set()
        for nonce in (b"n", b"n", b"m" * 32, b"x" * 128):
            answer = bench.post(asking(nonce=nonce))
            answers.add(answer.body)
            found = bench.judge(answer).extensions.get_extension_for_class(
                x509.OCSPNonce
            )
            assert nonce == found.value.nonce
        assert 4 == len(answers)

    def test_bad(self) -> None:
        """RFC 9654, section 2.1: 0, or more than 128 octets."""
        for size in (0, 129):
            answer = Bench().post(asking(nonce=bytes(size)))
            assert Status.MALFORMED_REQUEST == status_of(answer)

    def test_is_not_cached(self) -> None:
        """Nobody else can use it."""
        answer = Bench().get_ocsp(asking(nonce=b"n"))
        assert "no-store" == answer.headers["Cache-Control"]
        assert not {"ETag", "Expires"} & answer.headers.keys()


class SignedAheadTests:
    """A response is signed once, as long as it is true."""

    def test_again(self) -> None:
        """The same octets until half of their life is gone."""
        bench = Bench()
        first = bench.post(asking()).body
        bench.now += HOUR / 2 - timedelta(seconds=1)
        assert first == bench.post(asking()).body
        assert first == bench.get_ocsp(asking()).body
        bench.now += timedelta(seconds=1)
        second = bench.ask()
        assert bench.now == second.produced_at_utc

    def test_store_is_asked_each_time(self) -> None:
        """What is kept is a signature, not a status."""
        bench = Bench()
        bench.ask()
        bench.ask()
        assert [SERIAL] * 2 == bench.revocation.asked

    def test_store_that_fails(self) -> None:
        """Nothing is said that is not known at this moment."""
        bench = Bench()
        bench.ask()
        bench.revocation.error = errors.Unavailable()
        assert Status.TRY_LATER == status_of(bench.post(asking()))

    def test_renewed_credential(self) -> None:
        """A new responder signs anew."""
        bench = Bench()
        first = bench.ask().certificates
        bench.credentials.renew("issuing", Purpose.OCSP)
        assert first != bench.ask().certificates

    def test_renewed_authority(self) -> None:
        """So does one whose CA has another certificate."""
        bench = Bench()
        first = bench.post(asking()).body
        renewed = make_authority()
        bench.revocation._chains = {"issuing": renewed.chain}
        answer = bench.post(asking())
        assert Status.UNAUTHORIZED == status_of(answer)
        assert first != bench.post(asking(ca=renewed)).body

    def test_form_of_the_request_counts(self) -> None:
        """RFC 6960, section 3.2: the response repeats the very CertID."""
        bench = Bench()
        for digest in ("sha1", "sha256"):
            asked = cert_id(AUTHORITY.certificate, int(SERIAL, 16), digest)
            assert digest == bench.ask(request([asked])).hash_algorithm.name

    def test_unknown_is_not_kept(self) -> None:
        """Anybody can make up serials."""
        bench = Bench()
        first = bench.ask(asking("1")).produced_at_utc
        bench.now += timedelta(seconds=1)
        assert first != bench.ask(asking("1")).produced_at_utc

    def test_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The least recently used is the first to go."""
        monkeypatch.setattr(responder, "MAX_KEPT", 2)
        bench = Bench()
        for serial in ("1", "2", "3"):
            bench.revocation.issue(serial)

        def produced(serial: str) -> datetime:
            return bench.ask(asking(serial)).produced_at_utc

        assert EPOCH == produced("1") == produced("2")
        bench.now += timedelta(seconds=1)
        assert EPOCH == produced("1")
        assert EPOCH != produced("3")
        assert EPOCH == produced("1")
        assert EPOCH != produced("2")

    def test_together(self) -> None:
        """Two that ask at once both get an answer."""
        bench = Bench()
        credential: Any = result_of(
            bench.credentials.get("issuing", Purpose.OCSP)
        )
        waiting: list[Deferred[bytes]] = []
        sign = credential.sign
        credential.sign = lambda *_: waiting.append(Deferred()) or waiting[-1]
        service = bench.resource.at("/ocsp")
        asked = HTTPRequest(
            "GET", ("issuing", base64.b64encode(asking()).decode())
        )
        answers = [Deferred.fromCoroutine(service.answer(asked))
                   for _ in range(2)]  # fmt: skip
        assert 2 == len(waiting)
        signature = result_of(sign(b"", "ecdsa-with-sha256"))
        for one in waiting:
            one.callback(signature)
        assert 200 == result_of(answers[0]).status
        assert result_of(answers[0]).body == result_of(answers[1]).body

    def test_a_crowd_shares_one(self) -> None:
        """Those who ask while the store is being asked get the same, too."""
        bench = Bench()
        signed = bench.get_ocsp(asking()).body
        answers: list[Deferred[None]] = []
        status = bench.revocation.status

        def later(*asked: str) -> Any:
            answers.append(Deferred())
            return answers[-1].addCallback(lambda _: status(*asked))

        bench.revocation.status = later  # type: ignore[method-assign]
        bench.now += timedelta(seconds=1)
        asked = HTTPRequest(
            "GET", ("issuing", base64.b64encode(asking()).decode())
        )
        service = bench.resource.at("/ocsp")
        crowd = [
            Deferred.fromCoroutine(service.answer(asked)) for _ in range(3)
        ]
        for one in reversed(answers):
            one.callback(None)
        assert [signed] * 3 == [result_of(one).body for one in crowd]


class ErrorTests:
    """Errors are messages of OCSP with HTTP status 200."""

    def test_table_is_total(self) -> None:
        """Every leaf of the tree has its row."""
        assert set(leaves()) == set(OCSP_ERRORS)

    @pytest.mark.parametrize("leaf", leaves())
    def test_each(self, leaf: type[TrstctlError]) -> None:
        """Never a page of HTTP where a response of OCSP is due."""
        bench = Bench()
        arguments: tuple[Any, ...] = {
            PolicyViolation: ("device", "key-type", "no"),
            Throttled: (30,),
        }.get(leaf, ())
        bench.revocation.error = leaf(*arguments)
        answer = bench.post(asking())
        told = OCSP_ERRORS[leaf]
        if told is None:
            assert answer.status in (404, 415)
        else:
            assert 200 == answer.status
            assert told == answer.body

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"x",
            asking()[:-1],
            asking() + b"\x00",
            request([]),
            request([cert_id(AUTHORITY.certificate, 1)] * 33),
            request(
                [cert_id(AUTHORITY.certificate, 1)],
                extensions=[extension("1.2.3", octets(b""), critical=True)],
            ),
        ],
    )
    def test_malformed(self, body: bytes) -> None:
        """RFC 6960, section 2.3: malformedRequest."""
        bench = Bench()
        answer = bench.post(body)
        assert Status.MALFORMED_REQUEST == status_of(answer)
        assert "no-store" == answer.headers["Cache-Control"]

    def test_too_large(self) -> None:
        """A body beyond the limit is refused before it is read."""
        answer = Bench().post(bytes(65_537))
        assert Status.MALFORMED_REQUEST == status_of(answer)
        assert "close" == answer.headers["Connection"]

    def test_malformed_get(self) -> None:
        """Likewise in a path; and no cache keeps that."""
        bench = Bench()
        for path in ("x", "//", "%00", "AAAA", "-._~"):
            answer = bench.get(f"/ocsp/issuing/{path}")
            assert Status.MALFORMED_REQUEST == status_of(answer)
            assert "no-store" == answer.headers["Cache-Control"]

    def test_corrupt(self) -> None:
        """Any prefix and any changed octet gets an answer of OCSP."""
        bench = Bench()
        whole = asking(nonce=b"n" * 16)
        for place in range(len(whole)):
            told(bench.post(whole[:place]))
            changed = bytearray(whole)
            changed[place] ^= 0xFF
            told(bench.post(bytes(changed)))

    def test_other_issuer(self) -> None:
        """RFC 5019, section 2.2.3: unauthorized; also as one of several."""
        bench = Bench()
        assert Status.UNAUTHORIZED == status_of(bench.post(asking(ca=OTHER)))
        mixed = [cert_id(one.certificate, 1) for one in (AUTHORITY, OTHER)]
        answer = bench.post(request(mixed))
        assert Status.UNAUTHORIZED == status_of(answer)
        assert [] == bench.revocation.asked

    def test_no_credential(self) -> None:
        """RFC 6960, section 2.3: tryLater."""
        bench = Bench()
        bench.credentials.error = errors.Unavailable()
        assert Status.TRY_LATER == status_of(bench.post(asking()))

    def test_fault(self, logged: LoggedFailures) -> None:
        """RFC 6960, section 2.3: internalError; its text is for the log."""
        bench = Bench()
        bench.revocation.error = KeyError("secret")
        answer = bench.post(asking())
        assert Status.INTERNAL_ERROR == status_of(answer)
        assert 1 == len(logged.flush(KeyError))

    def test_unknown_authority(self) -> None:
        """There is no responder that could say anything: plain 404."""
        bench = Bench()
        for answer in (
            bench.post(asking(), path="/ocsp/none"),
            bench.get("/ocsp/none/AAAA"),
        ):
            assert 404 == answer.status
            assert b"there is no such authority (request " in answer.body
            assert answer.content_type.startswith("text/plain")

    @pytest.mark.parametrize("label", [None, "text/plain", "application/json"])
    def test_media_type(self, label: str | None) -> None:
        """RFC 6960, appendix A.1: application/ocsp-request."""
        headers = {} if label is None else {"Content-Type": label}
        assert 415 == Bench().post(asking(), headers).status

    def test_media_type_with_parameters(self) -> None:
        """RFC 9110, section 8.3.1: in any case, with parameters."""
        label = {"Content-Type": "Application/OCSP-Request; charset=binary"}
        assert (
            Status.SUCCESSFUL
            == told(Bench().post(asking(), label)).response_status
        )

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", "/ocsp/issuing", "POST"),
            ("PUT", "/ocsp/issuing", "POST"),
            ("POST", "/ocsp/issuing/AAAA", "GET, HEAD"),
            ("POST", "/crl/issuing.crl", "GET, HEAD"),
            ("DELETE", "/ca/issuing.cer", "GET, HEAD"),
        ],
    )
    def test_methods(self, method: str, path: str, allowed: str) -> None:
        """RFC 9110, section 15.5.6: 405 with Allow."""
        answer = exchange(Bench().resource, method, path)
        assert 405 == answer.status
        assert allowed == answer.headers["Allow"]

    @pytest.mark.parametrize(
        "path",
        [
            "/crl",
            "/crl/",
            "/crl/issuing",
            "/crl/issuing.cer",
            "/crl/issuing/x.crl",
            "/ca/issuing.crl",
            "/ca/x/issuing.cer",
            "/ocsp",
            "/ocsp/",
        ],
    )
    def test_nothing_there(self, path: str) -> None:
        """Each mount has its own paths, and no others."""
        assert 404 == Bench().get(path).status

    def test_strangers_write_nothing(self) -> None:
        """No refusal goes into the audit log: anybody could fill it."""
        bench = Bench()
        bench.post(b"x")
        bench.post(asking(), {})
        bench.get("/crl/none.crl")
        bench.get("/crl/none")
        exchange(bench.resource, "PUT", "/crl/issuing.crl")
        assert [] == bench.ra.refusals


class GetTests:
    """OCSP by GET, for caches (RFC 5019, sections 5 and 6)."""

    def test_escaped_and_not(self) -> None:
        """RFC 5019, section 5; many clients do not escape."""
        bench = Bench()
        for number in range(60):
            # Among so many there are slashes and plus signs.
            encoded = base64.b64encode(asking(f"{number * 7919:x}")).decode()
            for path in (encoded, quote(encoded, safe="")):
                read = bench.judge(bench.get(f"/ocsp/issuing/{path}"))
                assert number * 7919 == read.serial_number

    def test_fields(self) -> None:
        """RFC 5019, section 6.2."""
        bench = Bench()
        answer = bench.get_ocsp(asking())
        read = bench.judge(answer)
        assert EPOCH + HOUR == read.next_update_utc
        assert (
            "max-age=1800, public, no-transform, must-revalidate"
            == answer.headers["Cache-Control"]
        )
        assert "Mon, 01 Jun 2026 13:00:00 GMT" == answer.headers["Expires"]
        assert (
            "Mon, 01 Jun 2026 11:55:00 GMT" == answer.headers["Last-Modified"]
        )
        bench.now += timedelta(minutes=10)
        again = bench.get_ocsp(asking())
        assert answer.headers["ETag"] == again.headers["ETag"]
        assert str(again.headers["Cache-Control"]).startswith("max-age=1200,")

    def test_unchanged(self) -> None:
        """RFC 9110, section 15.4.5: 304, until the status changes."""
        bench = Bench()
        tag = str(bench.get_ocsp(asking()).headers["ETag"])
        answer = bench.get_ocsp(asking(), If_None_Match=tag)
        assert (304, b"") == (answer.status, answer.body)
        assert tag == answer.headers["ETag"]
        bench.revocation.revoke(SERIAL)
        answer = bench.get_ocsp(asking(), If_None_Match=tag)
        assert 200 == answer.status
        assert tag != answer.headers["ETag"]

    def test_no_date_hides_a_revocation(self) -> None:
        """A date is too coarse to tell two answers of one second apart."""
        bench = Bench()
        date = str(bench.get_ocsp(asking()).headers["Last-Modified"])
        bench.revocation.revoke(SERIAL)
        answer = bench.get_ocsp(asking(), If_Modified_Since=date)
        assert 200 == answer.status
        assert date == answer.headers["Last-Modified"]

    def test_head(self) -> None:
        """RFC 9110, section 9.3.2: as GET, without the content."""
        encoded = base64.b64encode(asking()).decode()
        answer = exchange(
            Bench().resource, "HEAD", f"/ocsp/issuing/{quote(encoded)}"
        )
        assert 200 == answer.status
        assert b"" == answer.body
        assert int(str(answer.headers["Content-Length"])) > 500

    def test_post_is_not_cached(self) -> None:
        """RFC 5019, section 6.2: only GET is."""
        answer = Bench().post(asking())
        assert "no-store" == answer.headers["Cache-Control"]
        assert not {"ETag", "Expires"} & answer.headers.keys()


class LogTests:
    """What the one line of an exchange says."""

    def facts(self, bench: Bench, body: bytes) -> Any:
        """Return the facts of an answer."""
        return result_of(
            bench.resource.at("/ocsp").answer(
                HTTPRequest(
                    "GET", ("issuing", base64.b64encode(body).decode())
                )
            )
        ).facts

    def test_single(self) -> None:
        """Serial and status."""
        bench = Bench()
        expected = {"serial": SERIAL, "decision": "good"}
        assert expected == self.facts(bench, asking())
        assert expected == self.facts(bench, asking(nonce=b"n"))
        bench.revocation.revoke(SERIAL)
        assert "revoked" == self.facts(bench, asking())["decision"]
        assert "unknown" == self.facts(bench, asking("1"))["decision"]

    def test_several(self) -> None:
        """No list of a peer's making."""
        asked = [cert_id(AUTHORITY.certificate, number) for number in (1, 2)]
        assert {} == self.facts(Bench(), request(asked))


# --- CRLs and CA certificates -----------------------------------------------


def crl(scope: str = "", **changes: object) -> StoredCRL:
    """Return a CRL; nobody here looks into it."""
    made = StoredCRL(
        "issuing",
        scope,
        26,
        0,
        EPOCH,
        EPOCH + timedelta(days=7),
        3,
        f"DER {scope}".encode(),
    )
    return evolve(made, **changes)


class CRLTests:
    """CRLs by HTTP (RFC 5280, section 4.2.1.13)."""

    @pytest.mark.parametrize(
        ("path", "scope"),
        [
            ("/crl/issuing.crl", ""),
            ("/crl/issuing/delta.crl", "delta"),
            ("/crl/issuing/4/3.crl", "4/3"),
        ],
    )
    def test_each_scope(self, path: str, scope: str) -> None:
        """RFC 2585, section 4.2: DER, as application/pkix-crl."""
        bench = Bench()
        assert 404 == bench.get(path).status
        bench.revocation.publish(crl(scope))
        answer = bench.get(path)
        assert 200 == answer.status
        assert "application/pkix-crl" == answer.content_type
        assert f"DER {scope}".encode() == answer.body
        assert 404 == bench.get(path.replace("issuing", "none")).status

    def test_fields(self) -> None:
        """A cache may keep it for an hour, and not beyond nextUpdate."""
        bench = Bench()
        bench.revocation.publish(crl())
        headers = bench.get("/crl/issuing.crl").headers
        assert "Mon, 08 Jun 2026 12:00:00 GMT" == headers["Expires"]
        assert "Mon, 01 Jun 2026 12:00:00 GMT" == headers["Last-Modified"]
        assert str(headers["Cache-Control"]).startswith("max-age=3600,")
        bench.now = EPOCH + timedelta(days=7) - timedelta(seconds=9)
        headers = bench.get("/crl/issuing.crl").headers
        assert str(headers["Cache-Control"]).startswith("max-age=9,")

    def test_unchanged(self) -> None:
        """RFC 9110, section 13: by tag or date, until the next is signed."""
        bench = Bench()
        bench.revocation.publish(crl())
        first = bench.get("/crl/issuing.crl").headers
        for field in (
            {"If_None_Match": str(first["ETag"])},
            {"If_Modified_Since": str(first["Last-Modified"])},
        ):
            bench.revocation.publish(crl())
            answer = bench.get("/crl/issuing.crl", **field)
            assert (304, b"") == (answer.status, answer.body)
            assert first["ETag"] == answer.headers["ETag"]
            newer = EPOCH + timedelta(seconds=1)
            bench.revocation.publish(crl(number=27, this_update=newer))
            answer = bench.get("/crl/issuing.crl", **field)
            assert 200 == answer.status
            assert first["ETag"] != answer.headers["ETag"]

    def test_tag_tells_a_number_that_was_used_twice(self) -> None:
        """A database from a backup may number anew."""
        bench = Bench()
        tags = set()
        for changes in (
            {},
            {"this_update": EPOCH + timedelta(seconds=1)},
            {"der": b"longer than before"},
        ):
            bench.revocation.publish(crl(**changes))
            tags.add(bench.get("/crl/issuing.crl").headers["ETag"])
        assert 3 == len(tags)

    def test_unavailable(self) -> None:
        """503, and when to come back."""
        bench = Bench()
        bench.revocation.error = errors.Unavailable()
        answer = bench.get("/crl/issuing.crl")
        assert 503 == answer.status
        assert int(str(answer.headers["Retry-After"])) >= 5

    def test_unknown(self) -> None:
        """Plain text with the request's id."""
        answer = Bench().get("/crl/issuing.crl")
        assert b"there is no such CRL (request " in answer.body


class CertificateTests:
    """The CA certificate (RFC 5280, section 4.2.2.1)."""

    def test_certificate(self) -> None:
        """RFC 2585, section 4.1: one, in DER, as application/pkix-cert."""
        answer = Bench().get("/ca/issuing.cer")
        assert 200 == answer.status
        assert "application/pkix-cert" == answer.content_type
        assert AUTHORITY.certificate == answer.body
        assert "max-age=86400" in str(answer.headers["Cache-Control"])

    def test_unchanged(self) -> None:
        """304 for who has it."""
        bench = Bench()
        tag = str(bench.get("/ca/issuing.cer").headers["ETag"])
        assert 304 == bench.get("/ca/issuing.cer", If_None_Match=tag).status
        assert 200 == bench.get("/ca/other.cer", If_None_Match=tag).status

    def test_unknown(self) -> None:
        """404."""
        answer = Bench().get("/ca/none.cer")
        assert 404 == answer.status
        assert b"there is no such authority" in answer.body
