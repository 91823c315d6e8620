# SPDX-License-Identifier: MIT
"""Certificates, their extensions, and the signed envelope."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from pkix_samples import (
    ECDSA_WITH_SHA256,
    P256,
    common_name,
    corruptions,
    extension,
    p256_csr,
    refusal,
    spki,
)

from trstctl.errors import Malformed, TooLarge, UnsupportedAlgorithm
from trstctl.model import CertificateFacts, Extension, GeneralName
from trstctl.pkix import algorithms, der, extensions
from trstctl.pkix.certificate import assemble, read_certificate, split_signed
from trstctl.pkix.names import name_text

NULL = b"\x05\x00"
NOT_BEFORE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOT_AFTER = datetime(2055, 6, 7, 8, 9, 10, tzinfo=UTC)
BEGIN = der.tlv(0x17, b"260102030405Z")
END = der.tlv(0x18, b"20550607080910Z")


@cache
def certificate() -> bytes:
    """Return a CA certificate with every extension that we read."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "subject")])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    return (
        x509.CertificateBuilder(
            issuer,
            subject,
            P256.public_key(),
            0x0A0B0C,
            NOT_BEFORE,
            NOT_AFTER,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("a.example")]), False
        )
        .sign(P256, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def raw_certificate(
    *,
    serial: bytes = der.integer(5),
    begin: bytes = BEGIN,
    end: bytes = END,
    extensions: tuple[bytes, ...] = (),
    version: bytes = der.explicit(0, der.integer(2)),
) -> bytes:
    """Return a certificate of any content, with no signature."""
    tbs = der.sequence(
        version,
        serial,
        ECDSA_WITH_SHA256,
        common_name(12, b"issuer"),
        der.sequence(begin, end),
        common_name(12, b"subject"),
        spki(P256),
        der.explicit(3, der.sequence(*extensions)) if extensions else b"",
    )
    return der.sequence(tbs, ECDSA_WITH_SHA256, der.bit_string(b"\0"))


class ReadTests:
    """``read_certificate``."""

    def test_facts(self) -> None:
        """Everything that the gateway reads."""
        facts = read_certificate(certificate())
        assert (
            CertificateFacts(
                der=certificate(),
                subject=facts.subject,
                issuer=facts.issuer,
                serial="a0b0c",
                names=(GeneralName("dns", "a.example"),),
                not_before=NOT_BEFORE,
                not_after=NOT_AFTER,
                public_key=algorithms.describe_public_key(spki(P256)),
                is_ca=True,
                extended_key_usage=("1.3.6.1.5.5.7.3.2",),
            )
            == facts
        )
        assert name_text(facts.subject) == "CN=subject"
        assert name_text(facts.issuer) == "CN=issuer"

    def test_no_extensions(self) -> None:
        """A certificate of version 1 or 3 without extensions."""
        for version in (b"", der.explicit(0, der.integer(2))):
            facts = read_certificate(raw_certificate(version=version))
            assert not facts.is_ca
            assert facts.names == facts.extended_key_usage == ()
            assert facts.serial == "5"

    def test_end_entity(self) -> None:
        """Empty basic constraints are no CA."""
        facts = read_certificate(
            raw_certificate(
                extensions=(extension("2.5.29.19", der.sequence()),)
            )
        )
        assert not facts.is_ca

    def test_twentieth_century(self) -> None:
        """Two digits from 50 on mean 19.. (RFC 5280, 4.1.2.5.1)."""
        facts = read_certificate(
            raw_certificate(
                begin=der.tlv(0x17, b"500101000000Z"),
                end=der.tlv(0x17, b"491231235959Z"),
            )
        )
        assert datetime(1950, 1, 1, tzinfo=UTC) == facts.not_before
        end = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
        assert end == facts.not_after

    def test_extensions_that_nobody_understands(self) -> None:
        """A factory certificate may hold octets that are not DER."""
        facts = read_certificate(
            raw_certificate(
                extensions=(extension("1.3.6.1.4.1.41482.3.3", b"\5\4\3"),)
            )
        )
        assert facts.names == ()

    @pytest.mark.parametrize(
        "bad",
        [
            b"",
            NULL,
            p256_csr(),
            certificate() + b"\0",
            raw_certificate(serial=der.integer(0)),
            raw_certificate(serial=der.integer(-5)),
            raw_certificate(begin=der.tlv(0x17, b"2601020304Z")),
            raw_certificate(begin=der.tlv(0x17, b"260102030405+0000")),
            raw_certificate(begin=der.tlv(0x17, b"261302030405Z")),
            raw_certificate(end=der.tlv(0x18, b"20550607080910.5Z")),
            raw_certificate(end=NULL),
            raw_certificate(
                extensions=(
                    extension("2.5.29.17", b"\x30\x03\x82\x01a"),
                    extension("2.5.29.17", b"\x30\x03\x82\x01b"),
                )
            ),
            raw_certificate(extensions=(extension("2.5.29.17", b"junk"),)),
            raw_certificate(extensions=(extension("2.5.29.19", NULL),)),
            raw_certificate(extensions=(extension("2.5.29.37", NULL),)),
        ],
    )
    def test_malformed(self, bad: bytes) -> None:
        """One error, whatever is wrong."""
        with pytest.raises(Malformed):
            read_certificate(bad)

    def test_size(self) -> None:
        """The cap counts."""
        with pytest.raises(TooLarge):
            read_certificate(certificate(), max_bytes=100)

    def test_corruptions(self) -> None:
        """Every corruption decodes or is refused, and no more."""
        for bad in corruptions(certificate()):
            outcome = refusal(read_certificate, bad)
            assert outcome in {None, "Malformed", "TooLarge"}

    @given(st.binary(max_size=200))
    @settings(derandomize=True, deadline=None)
    def test_random_octets(self, data: bytes) -> None:
        """Random octets are no certificate."""
        assert refusal(read_certificate, data) == "Malformed"


class EnvelopeTests:
    """``split_signed`` and ``assemble``."""

    def test_the_library_agrees(self) -> None:
        """The parts are those that the library finds."""
        theirs = x509.load_der_x509_certificate(certificate())
        tbs, identifier, signature = split_signed(certificate())
        assert theirs.tbs_certificate_bytes == tbs
        assert theirs.signature == signature
        assert ECDSA_WITH_SHA256 == identifier

    def test_round_trip(self) -> None:
        """Putting together what was taken apart."""
        tbs, _, signature = split_signed(certificate())
        again = assemble(tbs, "ecdsa-with-sha256", signature)
        assert certificate() == again
        assert algorithms.verify(
            spki(P256), "ecdsa-with-sha256", signature, tbs
        )

    @pytest.mark.parametrize(
        "bad",
        [
            b"",
            NULL,
            der.sequence(),
            der.sequence(der.sequence(), der.sequence()),
            der.sequence(der.sequence(), NULL, der.bit_string(b"")),
            der.sequence(der.sequence(), der.sequence(), b"\x03\x00"),
            der.sequence(der.sequence(), der.sequence(), b"\x03\x02\x01\0"),
            der.sequence(
                der.sequence(), der.sequence(), der.bit_string(b""), NULL
            ),
        ],
    )
    def test_malformed(self, bad: bytes) -> None:
        """What is no signed structure is malformed."""
        with pytest.raises(Malformed):
            split_signed(bad)

    def test_unknown_algorithm(self) -> None:
        """Only names of the table."""
        with pytest.raises(UnsupportedAlgorithm):
            assemble(b"", "sha1-with-rsa", b"")


class ExtensionTests:
    """``trstctl.pkix.extensions``."""

    def test_critical(self) -> None:
        """The flag is read, also where DER would leave it out."""
        for flag, critical in ((None, False), (False, False), (True, True)):
            one = extension("1.2.3", NULL, critical=flag)
            read = extensions.read_extensions(der.sequence(one))
            assert (Extension("1.2.3", critical, NULL),) == read

    @pytest.mark.parametrize(
        "bad",
        [
            NULL,
            der.sequence(NULL),
            der.sequence(der.sequence()),
            der.sequence(der.sequence(der.oid("1.2.3"))),
            der.sequence(der.sequence(der.oid("1.2.3"), NULL)),
            der.sequence(der.tlv(0x31, extension("1.2.3", NULL)[2:])),
            der.sequence(extension("1.2.3", b"")),
            der.sequence(extension("1.2.3", NULL + NULL)),
        ],
    )
    def test_malformed(self, bad: bytes) -> None:
        """What is no Extensions is malformed."""
        with pytest.raises(Malformed):
            extensions.read_extensions(bad)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("3000", (False, None)),
            ("30030101ff", (True, None)),
            ("30060101ff020103", (True, 3)),
            ("3003020100", (False, 0)),
            ("3003010100", (False, None)),
        ],
    )
    def test_basic_constraints(
        self, value: str, expected: tuple[bool, int | None]
    ) -> None:
        """RFC 5280, section 4.2.1.9."""
        octets = bytes.fromhex(value)
        assert expected == extensions.read_basic_constraints(octets)

    @pytest.mark.parametrize(
        "bad",
        ["0500", "30020500", "30030201ff", "3006020100020100"],
    )
    def test_bad_basic_constraints(self, bad: str) -> None:
        """A negative length, a second one, another type."""
        with pytest.raises(Malformed):
            extensions.read_basic_constraints(bytes.fromhex(bad))

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("030100", ()),
            ("030205a0", ("digitalSignature", "keyEncipherment")),
            ("03020106", ("keyCertSign", "cRLSign")),
            ("0303070080", ("decipherOnly",)),
        ],
    )
    def test_key_usage(self, value: str, expected: tuple[str, ...]) -> None:
        """RFC 5280, section 4.2.1.3."""
        assert expected == extensions.read_key_usage(bytes.fromhex(value))

    @pytest.mark.parametrize("bad", ["0500", "0303000001"])
    def test_bad_key_usage(self, bad: str) -> None:
        """Another type, a bit without a name."""
        with pytest.raises(Malformed):
            extensions.read_key_usage(bytes.fromhex(bad))

    @pytest.mark.parametrize("bad", ["0500", "3000", "30020500"])
    def test_bad_extended_key_usage(self, bad: str) -> None:
        """Another type, no purpose, a purpose that is none."""
        with pytest.raises(Malformed):
            extensions.read_extended_key_usage(bytes.fromhex(bad))
