# SPDX-License-Identifier: MIT
"""OCSP messages against pyasn1 and the library as oracles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from ocsp_samples import NONCE, cert_id, extension, octets, request
from pyasn1.codec.der.decoder import decode
from pyasn1.codec.der.encoder import encode
from pyasn1_modules import rfc6960

from trstctl.errors import Malformed, NotAuthorized, RequestError, TooLarge
from trstctl.model import REVOCATION_REASONS
from trstctl.pkix import algorithms, der
from trstctl.pkix.ocsp import (
    GOOD,
    INTERNAL_ERROR,
    MALFORMED_REQUEST,
    MAX_CERT_IDS,
    TRY_LATER,
    UNAUTHORIZED,
    UNKNOWN,
    OCSPRequest,
    RequestReader,
    ResponseForm,
    issuer_forms,
    read_request,
    revoked,
    single_response,
)
from trstctl.testing import EPOCH, FakeSigner, make_authority

CA = make_authority().certificate
SERIAL = 0x4152D9274A3B489D045C26DCE8D524D04C7A9E90
ONE = request([cert_id(CA, SERIAL)])


def first(data: bytes) -> Any:
    """Return the first CertID of a request."""
    return read_request(data).cert_ids[0]


def oracle_request(nonce: bytes | None = None) -> bytes:
    """Return what the library asks."""
    builder = oracle.OCSPRequestBuilder().add_certificate_by_hash(
        b"n" * 32, b"k" * 32, SERIAL, hashes.SHA256()
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(serialization.Encoding.DER)


class RequestTests:
    """What a request says."""

    def test_plain(self) -> None:
        """RFC 6960, section 4.1.1: one CertID, no extension."""
        read = read_request(ONE)
        assert [f"{SERIAL:x}"] == [one.serial for one in read.cert_ids]
        assert encode(cert_id(CA, SERIAL)) == read.cert_ids[0].der
        assert b"" == read.nonce

    def test_library(self) -> None:
        """What the library writes, with and without a nonce."""
        assert f"{SERIAL:x}" == first(oracle_request()).serial
        assert b"n" * 32 == read_request(oracle_request(b"n" * 32)).nonce

    def test_several_in_order(self) -> None:
        """RFC 6960, section 4.1.1: requestList is a sequence."""
        asked = [cert_id(CA, number) for number in range(1, 33)]
        read = read_request(request(asked))
        assert [f"{n:x}" for n in range(1, 33)] == [
            one.serial for one in read.cert_ids
        ]
        assert MAX_CERT_IDS == len(read.cert_ids)

    @pytest.mark.parametrize("count", [0, MAX_CERT_IDS + 1])
    def test_number_is_bounded(self, count: int) -> None:
        """None is no request, and more than 32 is too much."""
        asked = der.sequence(*[encode(_request(1))] * count)
        with pytest.raises(Malformed, match="1 to 32"):
            read_request(der.sequence(der.sequence(asked)))

    def test_size_is_bounded(self) -> None:
        """64 KiB."""
        with pytest.raises(TooLarge):
            read_request(b"\x30\x83\x01\x00\x00" + bytes(65536))

    @pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512"])
    @pytest.mark.parametrize("null", [True, False])
    def test_issuer(self, digest: str, null: bool) -> None:
        """RFC 6960, section 4.1.1; RFC 4055, section 2.1: NULL or nothing."""
        forms = issuer_forms(CA)
        asked = first(request([cert_id(CA, 1, digest, null=null)]))
        assert asked.issuer in forms
        other = make_authority("other").certificate
        asked = first(request([cert_id(other, 1, digest, null=null)]))
        assert asked.issuer not in forms

    def test_signed(self) -> None:
        """RFC 6960, section 4.1.2: who signed makes no difference."""
        data = request([cert_id(CA, 7)], b"n", requestor=True, signed=True)
        assert "7" == first(data).serial
        assert b"n" == read_request(data).nonce

    @pytest.mark.parametrize(
        ("number", "expected"),
        [
            (1, "1"),
            (0x10, "10"),
            (SERIAL, f"{SERIAL:x}"),
            (2**159 - 1, f"{2**159 - 1:x}"),
            (0, ""),
            (-1, ""),
            (-(2**158) - 1, ""),
        ],
    )
    def test_serial(self, number: int, expected: str) -> None:
        """RFC 5280, section 4.1.2.2: up to 20 octets; others are nobody's."""
        assert expected == first(request([cert_id(CA, number)])).serial

    def test_long_serial(self) -> None:
        """More than 20 octets are no serial number."""
        with pytest.raises(Malformed, match="20 octets"):
            read_request(request([cert_id(CA, 2**159)]))

    def test_version(self) -> None:
        """RFC 6960, section 4.1.1: v1, also if it is written out."""
        (asked,) = der.children(der.content(ONE, der.SEQUENCE))
        for number, good in ((0, True), (1, False)):
            version = der.explicit(0, der.integer(number))
            data = der.sequence(der.sequence(version, asked[1]))
            if good:
                assert read_request(ONE) == read_request(data)
            else:
                with pytest.raises(Malformed, match="version"):
                    read_request(data)


def _request(serial: int) -> Any:
    """Return a Request."""
    made = rfc6960.Request()
    made["reqCert"] = cert_id(CA, serial)
    return made


class ExtensionTests:
    """What a request demands beside."""

    @pytest.mark.parametrize("size", [1, 16, 32, 128])
    def test_nonce(self, size: int) -> None:
        """RFC 9654, section 2.1: 1 to 128 octets."""
        nonce = bytes(range(size))
        assert nonce == read_request(request([cert_id(CA, 1)], nonce)).nonce

    @pytest.mark.parametrize("size", [0, 129, 4000])
    def test_bad_nonce(self, size: int) -> None:
        """RFC 9654, section 2.1: others MUST be refused as malformed."""
        with pytest.raises(Malformed, match="nonce"):
            read_request(request([cert_id(CA, 1)], bytes(size)))

    @pytest.mark.parametrize("value", [b"", b"raw", b"\x02\x01\x05"])
    def test_nonce_of_another_type(self, value: bytes) -> None:
        """RFC 9654, section 2.1: an OCTET STRING."""
        bad = extension(NONCE, value)
        with pytest.raises(Malformed):
            read_request(request([cert_id(CA, 1)], extensions=[bad]))

    def test_critical_nonce(self) -> None:
        """It is understood, so it may be critical."""
        nonce = extension(NONCE, octets(b"n"), critical=True)
        data = request([cert_id(CA, 1)], extensions=[nonce])
        assert b"n" == read_request(data).nonce

    def test_two_nonces(self) -> None:
        """RFC 5280, section 4.2: not more than one of each type."""
        nonce = extension(NONCE, octets(b"n"))
        with pytest.raises(Malformed, match="twice"):
            read_request(request([cert_id(CA, 1)], extensions=[nonce, nonce]))

    @pytest.mark.parametrize("place", ["extensions", "single"])
    def test_unknown(self, place: str) -> None:
        """RFC 6960, section 4.4: ignored, unless it is critical."""
        good = extension("1.2.3", octets(b"x"))
        bad = extension("1.2.3", octets(b"x"), critical=True)
        read = read_request(request([cert_id(CA, 1)], **{place: [good]}))
        assert "1" == read.cert_ids[0].serial
        with pytest.raises(Malformed, match="critical"):
            read_request(request([cert_id(CA, 1)], **{place: [bad]}))


class HostileTests:
    """Whatever is sent is a request or an error."""

    FULL = request(
        [cert_id(CA, SERIAL), cert_id(CA, 5, "sha256")],
        b"n" * 16,
        [extension("1.2.3", octets(b"x"))],
        [extension("1.2.4", octets(b"x"))],
        requestor=True,
        signed=True,
    )

    def judge(self, data: bytes) -> bool:
        """Read it, and tell whether that worked."""
        try:
            assert isinstance(read_request(data), OCSPRequest)
        except RequestError:
            return False
        return True

    def test_prefixes(self) -> None:
        """No prefix of a request is one."""
        assert self.judge(self.FULL)
        for size in range(len(self.FULL)):
            assert not self.judge(self.FULL[:size])

    def test_trailing_octets(self) -> None:
        """Nothing follows a request."""
        assert not self.judge(self.FULL + b"\x00")

    @pytest.mark.parametrize("data", [ONE, FULL], ids=["one", "full"])
    def test_corruption(self, data: bytes) -> None:
        """Any octet may be another."""
        for place in range(len(data)):
            for flip in (0x01, 0x20, 0x80, 0xFF):
                changed = bytearray(data)
                changed[place] ^= flip
                self.judge(bytes(changed))

    @pytest.mark.parametrize(
        "data",
        [
            "3000",
            "30023000",
            "300430023000",
            "3006 3004 3002 3000",
            "3006 3004 3002 0500",
            "3008 3006 3004 3002 3000",
            "300a 3008 3006 3004 3002 0500",
            "0500",
            "3002 0500",
        ],
    )
    def test_hollow(self, data: str) -> None:
        """Sequences with nothing or something else in them are none."""
        with pytest.raises(Malformed):
            read_request(bytes.fromhex(data))

    @given(st.binary(max_size=200))
    @settings(deadline=None)
    def test_anything(self, data: bytes) -> None:
        """So is whatever chance brings about."""
        assert not self.judge(data)

    @given(
        st.lists(
            st.integers(min_value=0, max_value=2**159 - 1),
            min_size=1,
            max_size=MAX_CERT_IDS,
        ),
        st.binary(min_size=1, max_size=128) | st.none(),
        st.booleans(),
        st.booleans(),
    )
    @settings(deadline=None, max_examples=50)
    def test_pyasn1(
        self,
        serials: list[int],
        nonce: bytes | None,
        requestor: bool,
        signed: bool,
    ) -> None:
        """What pyasn1 writes is read as it was meant."""
        asked = [cert_id(CA, number) for number in serials]
        read = read_request(
            request(asked, nonce, requestor=requestor, signed=signed)
        )
        assert (nonce or b"") == read.nonce
        assert [*map(encode, asked)] == [one.der for one in read.cert_ids]
        expected = [f"{n:x}" if n > 0 else "" for n in serials]
        assert expected == [one.serial for one in read.cert_ids]


# --- responses --------------------------------------------------------------

SIGNER = FakeSigner(ec.generate_private_key(ec.SECP256R1()))
RESPONDER = make_authority("responder", signer=SIGNER).certificate
LATER = EPOCH + timedelta(hours=1)


def respond(*statuses: bytes, nonce: bytes = b"") -> bytes:
    """Return a response about the serials 1, 2 and so on."""
    form = ResponseForm(RESPONDER, "ecdsa-with-sha256")
    numbers = range(1, len(statuses) + 1)
    asked = read_request(request([cert_id(CA, number) for number in numbers]))
    data = form.response_data(
        EPOCH,
        [
            single_response(one, status, EPOCH, LATER)
            for one, status in zip(asked.cert_ids, statuses, strict=True)
        ],
        nonce,
    )
    signature = algorithms.sign(SIGNER.key, form.algorithm, data)
    return form.response(data, signature)


class ResponseTests:
    """What a response says, as others read it."""

    def test_good(self) -> None:
        """RFC 6960, section 4.2.1: all fields of a signed response."""
        read = oracle.load_der_ocsp_response(respond(GOOD))
        assert oracle.OCSPResponseStatus.SUCCESSFUL == read.response_status
        assert oracle.OCSPCertStatus.GOOD == read.certificate_status
        assert 1 == read.serial_number
        assert EPOCH == read.produced_at_utc == read.this_update_utc
        assert LATER == read.next_update_utc
        assert read.responder_name is None
        responder = x509.load_der_x509_certificate(RESPONDER)
        expected = x509.SubjectKeyIdentifier.from_public_key(
            responder.public_key()  # type: ignore[arg-type]
        )
        assert expected.key_identifier == read.responder_key_hash
        assert [responder] == read.certificates
        assert 0 == len(read.extensions) + len(read.single_extensions)
        SIGNER.key.public_key().verify(
            read.signature, read.tbs_response_bytes, ec.ECDSA(hashes.SHA256())
        )

    def test_unknown(self) -> None:
        """RFC 6960, section 2.2: a serial that nobody knows."""
        read = oracle.load_der_ocsp_response(respond(UNKNOWN))
        assert oracle.OCSPCertStatus.UNKNOWN == read.certificate_status

    @pytest.mark.parametrize("reason", [*REVOCATION_REASONS, ""])
    def test_revoked(self, reason: str) -> None:
        """RFC 6960, section 4.2.1: time, and reason unless unspecified."""
        at = EPOCH.replace(microsecond=999_999)
        read = oracle.load_der_ocsp_response(respond(revoked(at, reason)))
        assert oracle.OCSPCertStatus.REVOKED == read.certificate_status
        assert EPOCH == read.revocation_time_utc
        if reason in ("", "unspecified"):
            assert read.revocation_reason is None
        else:
            assert x509.ReasonFlags(reason) == read.revocation_reason

    def test_nonce(self) -> None:
        """RFC 9654, section 2.1: the nonce of the request."""
        read = oracle.load_der_ocsp_response(respond(GOOD, nonce=b"n" * 32))
        nonce = read.extensions.get_extension_for_class(x509.OCSPNonce)
        assert b"n" * 32 == nonce.value.nonce
        assert not nonce.critical

    def test_several(self) -> None:
        """RFC 6960, section 4.2.1: one answer for each, in order."""
        read = oracle.load_der_ocsp_response(
            respond(UNKNOWN, GOOD, revoked(EPOCH, "superseded"))
        )
        assert [
            (1, oracle.OCSPCertStatus.UNKNOWN),
            (2, oracle.OCSPCertStatus.GOOD),
            (3, oracle.OCSPCertStatus.REVOKED),
        ] == [
            (one.serial_number, one.certificate_status)
            for one in read.responses
        ]

    @pytest.mark.parametrize("nonce", [b"", b"n" * 128])
    def test_is_der(self, nonce: bytes) -> None:
        """pyasn1 reads it by the schema, and writes the same octets."""
        data = respond(GOOD, revoked(EPOCH, "keyCompromise"), nonce=nonce)
        read, rest = decode(data, asn1Spec=rfc6960.OCSPResponse())
        assert b"" == rest
        assert data == encode(read)
        basic = bytes(read["responseBytes"]["response"])
        found, rest = decode(basic, asn1Spec=rfc6960.BasicOCSPResponse())
        assert b"" == rest
        assert basic == encode(found)

    def test_time_zone(self) -> None:
        """RFC 5280, section 4.1.2.5.2: times are UTC."""
        elsewhere = datetime(
            2029, 6, 1, 4, tzinfo=timezone(timedelta(hours=5))
        )
        assert b"\xa1\x11\x18\x0f20290531230000Z" == revoked(elsewhere, "")
        assert b"\xa1\x11\x18\x0f20260601120000Z" == revoked(EPOCH, "")
        assert b"20510101000000Z" in revoked(
            datetime(2051, 1, 1, tzinfo=UTC), ""
        )

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (MALFORMED_REQUEST, oracle.OCSPResponseStatus.MALFORMED_REQUEST),
            (INTERNAL_ERROR, oracle.OCSPResponseStatus.INTERNAL_ERROR),
            (TRY_LATER, oracle.OCSPResponseStatus.TRY_LATER),
            (UNAUTHORIZED, oracle.OCSPResponseStatus.UNAUTHORIZED),
        ],
    )
    def test_errors(
        self, data: bytes, status: oracle.OCSPResponseStatus
    ) -> None:
        """RFC 6960, section 4.2.1: an error is a status and nothing else."""
        assert 5 == len(data)
        assert status == oracle.load_der_ocsp_response(data).response_status


class ReaderTests:
    """A reader that has learnt reads as one that has not."""

    SERIALS = (SERIAL, SERIAL + 1, 2**152, 2**158, 2**159 - 1)

    def learnt(self) -> RequestReader:
        """Return a reader that has seen most of what there is."""
        reader = RequestReader(CA)
        for nonce in (None, b"n" * 16, b"n" * 32, b"n" * 128):
            for digest in ("sha256", "sha1"):
                reader.read(request([cert_id(CA, SERIAL, digest)], nonce))
        return reader

    @pytest.mark.parametrize("nonce", [None, b"a" * 16, b"b" * 32, b"c" * 64])
    @pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
    @pytest.mark.parametrize("null", [True, False])
    def test_plain(self, nonce: bytes | None, digest: str, null: bool) -> None:
        """Whatever was seen before, the value is the same."""
        reader = self.learnt()
        for number in (*self.SERIALS, *self.SERIALS):
            data = request([cert_id(CA, number, digest, null=null)], nonce)
            assert read_request(data) == reader.read(data)

    @pytest.mark.parametrize(
        "number", [1, 0, -1, 2**151 - 1, 2**152 - 1, -(2**158) - 1]
    )
    def test_other_serials(self, number: int) -> None:
        """Those of another length, or that no CA gives."""
        data = request([cert_id(CA, number)])
        assert read_request(data) == self.learnt().read(data)

    def test_other_forms(self) -> None:
        """Signed, with a name, with other extensions, or for several."""
        reader = self.learnt()
        one = cert_id(CA, SERIAL)
        more = extension("1.2.3", octets(b"x"))
        for data in (
            request([one], signed=True),
            request([one], b"n" * 32, requestor=True),
            request([one], b"n" * 32, [more]),
            request([one], single=[more]),
            request([one, one], b"n" * 32),
            request([one], extensions=[extension(NONCE, octets(b"n"),
                                                 critical=True)]),
        ):  # fmt: skip
            for _ in range(2):
                assert read_request(data) == reader.read(data)

    @pytest.mark.parametrize("nonce", [None, b"n" * 32])
    def test_corruption(self, nonce: bytes | None) -> None:
        """Any changed octet: the same value, or the same error."""
        reader = self.learnt()
        data = request([cert_id(CA, SERIAL)], nonce)
        for place in range(len(data)):
            for flip in (0x01, 0x02, 0x10, 0x20, 0x80, 0xA0, 0xFF):
                changed = bytearray(data)
                changed[place] ^= flip
                self.compare(reader, bytes(changed))

    def compare(self, reader: RequestReader, data: bytes) -> None:
        """Hold a reader that has learnt against the full one."""
        expected, found = (
            self.outcome(read_request, data),
            self.outcome(reader.read, data),
        )
        if isinstance(expected, OCSPRequest) and found is NotAuthorized:
            assert expected.cert_ids[0].issuer not in issuer_forms(CA)
        else:
            assert expected == found

    def outcome(self, read: Any, data: bytes) -> Any:
        """Return what is read, or the kind of the error."""
        try:
            return read(data)
        except RequestError as error:
            return type(error)

    def test_other_issuer(self) -> None:
        """RFC 5019, section 2.2.3: nor is anything learnt from that."""
        other = make_authority("other").certificate
        reader = RequestReader(CA)
        data = request([cert_id(other, SERIAL)])
        for _ in range(2):
            with pytest.raises(NotAuthorized):
                reader.read(data)

    def test_is_bounded(self) -> None:
        """What is learnt is one shape for each length."""
        reader = self.learnt()
        for number in range(SERIAL, SERIAL + 50):
            reader.read(request([cert_id(CA, number)], b"n" * 32))
        assert len(reader._shapes) == 8
