# SPDX-License-Identifier: MIT
"""How CMS (RFC 5652) names certificates, and certs-only messages."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

import pytest
from cms_vectors import CERTIFICATE, EC_CERTIFICATE, RSA_KEY
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID
from pkix_samples import P256, corruptions, refusal, rsa_key, spki
from pyasn1.codec.ber import decoder as ber_decoder
from pyasn1.codec.der import decoder, encoder
from pyasn1_modules import rfc5652

from trstctl.errors import Malformed, TooLarge
from trstctl.pkix import algorithms, der
from trstctl.pkix.certificate import split_signed
from trstctl.pkix.cms import (
    IssuerAndSerial,
    certs_only,
    identifies,
    is_self_signed,
    issuer_and_serial,
    read_certs_only,
    read_issuer_and_serial,
    subject_public_key,
)

NULL = b"\x05\x00"
START = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)
CN = NameOID.COMMON_NAME


@cache
def chain() -> tuple[bytes, ...]:
    """Return certificates that DER's order for sets would turn around."""
    made = []
    for serial, key in ((3, rsa_key()), (2, P256), (1, P256)):
        name = x509.Name([x509.NameAttribute(CN, f"number {serial}")])
        made.append(
            x509.CertificateBuilder(
                name, name, key.public_key(), serial, START, END
            )
            .sign(key, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )
    return tuple(made)


@cache
def crl() -> bytes:
    """Return an empty CRL."""
    name = x509.Name([x509.NameAttribute(CN, "number 1")])
    return (
        x509.CertificateRevocationListBuilder(name, START, END)
        .sign(P256, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def signed_data(*fields: bytes) -> bytes:
    """Return a ContentInfo of a SignedData of any content."""
    return der.sequence(
        der.oid("1.2.840.113549.1.7.2"),
        der.explicit(0, der.sequence(*fields)),
    )


class CertsOnlyTests:
    """``certs_only`` and ``read_certs_only``."""

    def test_order_is_kept(self) -> None:
        """The leaf comes first, though DER would sort."""
        assert list(chain()) != sorted(chain())
        assert chain() == read_certs_only(certs_only(chain()))
        backwards = chain()[::-1]
        assert backwards == read_certs_only(certs_only(backwards))

    def test_the_library_reads_it(self) -> None:
        """The library finds the certificates, in order, and warns."""
        with pytest.warns(UserWarning, match="InvalidSetOrdering"):
            read = pkcs7.load_der_pkcs7_certificates(certs_only(chain()))
        assert chain() == tuple(
            each.public_bytes(Encoding.DER) for each in read
        )

    def test_the_library_writes_the_same(self) -> None:
        """For one certificate there is one encoding."""
        one = x509.load_der_x509_certificate(chain()[0])
        theirs = pkcs7.serialize_certificates([one], Encoding.DER)
        assert theirs == certs_only(chain()[:1])

    def test_pyasn1_reads_it(self) -> None:
        """pyasn1 finds version 1, no signers, the certificates, the CRL."""
        message, rest = ber_decoder.decode(
            certs_only(chain(), [crl()]), asn1Spec=rfc5652.ContentInfo()
        )
        assert not rest
        assert message["contentType"] == rfc5652.id_signedData
        content, rest = ber_decoder.decode(
            message["content"], asn1Spec=rfc5652.SignedData()
        )
        assert not rest
        assert content["version"] == 1
        assert len(content["digestAlgorithms"]) == 0
        assert len(content["signerInfos"]) == 0
        assert not content["encapContentInfo"]["eContent"].hasValue()
        assert chain() == tuple(
            encoder.encode(each["certificate"])
            for each in content["certificates"]
        )
        assert [crl()] == [
            encoder.encode(each["crl"]) for each in content["crls"]
        ]

    def test_vector(self) -> None:
        """The octets of an empty one."""
        empty = (
            "3023 06092a864886f70d010702 a016 3014 020101 3100"
            "300b 06092a864886f70d010701 3100"
        )
        message = bytes.fromhex(empty)
        assert message == certs_only([])
        assert read_certs_only(message) == ()

    def test_crls(self) -> None:
        """CRLs come after the certificates, or alone."""
        assert chain() == read_certs_only(certs_only(chain(), [crl()]))
        assert read_certs_only(certs_only((), [crl()])) == ()
        assert crl() in certs_only((), [crl()])

    @pytest.mark.parametrize(
        "bad",
        [
            NULL,
            der.sequence(),
            der.sequence(der.oid("1.2.840.113549.1.7.2")),
            der.sequence(
                der.oid("1.2.840.113549.1.7.1"), der.explicit(0, b"")
            ),
            der.sequence(der.oid("1.2.840.113549.1.7.2"), der.sequence()),
            signed_data(),
            signed_data(der.integer(1)),
            signed_data(
                der.integer(3),
                der.set_of(),
                der.sequence(der.oid("1.2.840.113549.1.7.1")),
                der.set_of(),
            ),
            # a signer; content
            signed_data(
                der.integer(1),
                der.set_of(),
                der.sequence(der.oid("1.2.840.113549.1.7.1")),
                der.set_of(der.sequence()),
            ),
            signed_data(
                der.integer(1),
                der.set_of(),
                der.sequence(
                    der.oid("1.2.840.113549.1.7.1"),
                    der.explicit(0, der.octet_string(b"x")),
                ),
                der.set_of(),
            ),
            # CRLs before certificates; another field; no certificate
            signed_data(
                der.integer(1),
                der.set_of(),
                der.sequence(der.oid("1.2.840.113549.1.7.1")),
                der.tlv(0xA1, b""),
                der.tlv(0xA0, b""),
                der.set_of(),
            ),
            signed_data(
                der.integer(1),
                der.set_of(),
                der.sequence(der.oid("1.2.840.113549.1.7.1")),
                der.tlv(0xA2, b""),
                der.set_of(),
            ),
            certs_only([NULL]),
        ],
    )
    def test_malformed(self, bad: bytes) -> None:
        """What is no certs-only message is malformed."""
        with pytest.raises(Malformed):
            read_certs_only(bad)

    def test_size(self) -> None:
        """The cap counts."""
        with pytest.raises(TooLarge):
            read_certs_only(certs_only(chain()), max_bytes=100)

    def test_corruptions(self) -> None:
        """Every corruption decodes or is refused."""
        for bad in corruptions(certs_only(chain()[1:2])):
            outcome = refusal(read_certs_only, bad)
            assert outcome in {None, "Malformed", "TooLarge"}


NO_KEY_IDENTIFIER = chain()[0]


def renamed(common_name: bytes) -> bytes:
    """Return an issuer of one common name."""
    kind = der.oid("2.5.4.3")
    return der.sequence(der.set_of(der.sequence(kind, common_name)))


class IdentifierTests:
    """How certificates are named (RFC 5652, sections 5.3 and 6.2.1)."""

    def test_issuer_and_serial(self) -> None:
        """Issuer and serial number as the certificate has them."""
        name = issuer_and_serial(CERTIFICATE)
        certificate = x509.load_der_x509_certificate(CERTIFICATE)
        assert name.issuer == certificate.issuer.public_bytes()
        assert int(name.serial, 16) == certificate.serial_number
        assert name == read_issuer_and_serial(name.der())
        decoded, rest = decoder.decode(
            name.der(), asn1Spec=rfc5652.IssuerAndSerialNumber()
        )
        assert not rest
        assert decoded["serialNumber"] == certificate.serial_number

    @pytest.mark.parametrize("serial", [0, 1, -1, 0x80, 1 << 159])
    def test_serial_numbers(self, serial) -> None:
        """Clients' own certificates have any serial number."""
        value = der.sequence(der.sequence(), der.integer(serial))
        name = read_issuer_and_serial(value)
        assert serial == int(name.serial, 16)
        assert value == name.der()

    @pytest.mark.parametrize(
        "bad",
        [
            NULL,
            der.sequence(),
            der.sequence(der.sequence()),
            der.sequence(der.sequence(), NULL),
            der.sequence(der.set_of(), der.integer(1)),
            der.sequence(der.sequence(), der.integer(1), NULL),
        ],
    )
    def test_no_issuer_and_serial(self, bad) -> None:
        """Anything else is refused."""
        assert refusal(read_issuer_and_serial, bad) == "Malformed"

    def test_subject_public_key(self) -> None:
        """The key of a certificate of either version."""
        assert subject_public_key(CERTIFICATE) == spki(RSA_KEY)
        assert subject_public_key(NO_KEY_IDENTIFIER) == spki(rsa_key())
        tbs, algorithm, _ = split_signed(CERTIFICATE)
        fields = der.children(der.content(tbs, der.SEQUENCE))
        version_1 = der.sequence(
            der.sequence(*(field[2] for field in fields[1:7])),
            algorithm,
            der.bit_string(b""),
        )
        assert subject_public_key(version_1) == spki(RSA_KEY)
        assert issuer_and_serial(version_1) == issuer_and_serial(CERTIFICATE)
        assert not identifies(b"", version_1)

    @pytest.mark.parametrize(
        "bad",
        [
            NULL,
            der.sequence(),
            der.sequence(der.sequence(), der.sequence(), der.bit_string(b"")),
            der.sequence(
                der.sequence(der.integer(1), *4 * [der.sequence()]),
                der.sequence(),
                der.bit_string(b""),
            ),
        ],
    )
    def test_no_certificate(self, bad) -> None:
        """Anything else is refused."""
        assert refusal(issuer_and_serial, bad) == "Malformed"
        assert refusal(subject_public_key, bad) == "Malformed"
        assert refusal(identifies, b"", bad) == "Malformed"

    def test_key_identifier(self) -> None:
        """The subjectKeyIdentifier names a certificate that has one."""
        extension = x509.load_der_x509_certificate(
            CERTIFICATE
        ).extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        assert identifies(extension.value.digest, CERTIFICATE)
        assert not identifies(b"another", CERTIFICATE)
        assert not identifies(extension.value.digest, NO_KEY_IDENTIFIER)
        name = x509.Name([x509.NameAttribute(CN, "constrained")])
        other = (
            x509.CertificateBuilder(
                name, name, P256.public_key(), 1, START, END
            )
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .sign(P256, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )
        assert not identifies(extension.value.digest, other)

    @pytest.mark.parametrize(
        ("issuer", "lenient"),
        [
            (renamed(der.tlv(12, b"d")), False),
            (renamed(der.tlv(19, b"d")), True),
            (renamed(der.tlv(30, b"\0d")), True),
            (renamed(der.tlv(12, b" D ")), True),
            (renamed(der.tlv(12, b"e")), None),
            (renamed(der.tlv(12, b"d" + b" " * 200)), None),
            (der.sequence(), None),
            (renamed(NULL), None),
        ],
    )
    def test_issuer_anew(self, issuer, lenient) -> None:
        """Some clients write the issuer's name their own way."""
        name = IssuerAndSerial(issuer, "5eed")
        assert identifies(name, CERTIFICATE, lenient=True) == (
            lenient is not None
        )
        assert identifies(name, CERTIFICATE) == (lenient is False)
        other = IssuerAndSerial(issuer, "5eee")
        assert not identifies(other, CERTIFICATE, lenient=True)


class SelfSignedTests:
    """``is_self_signed``."""

    def test_by_its_own_key(self) -> None:
        """The signature decides, not the names."""
        assert is_self_signed(CERTIFICATE)
        assert is_self_signed(EC_CERTIFICATE)
        for corrupt in (
            CERTIFICATE[:-1] + bytes((CERTIFICATE[-1] ^ 1,)),
            CERTIFICATE.replace(b"\x0c\x01d", b"\x0c\x01e"),
        ):
            assert not is_self_signed(corrupt)

    def test_sha1(self) -> None:
        """Old clients sign their own certificate with SHA-1."""
        sha1 = der.sequence(der.oid("1.2.840.113549.1.1.5"), NULL)
        tbs, sha256, _ = split_signed(CERTIFICATE)
        tbs = tbs.replace(sha256, sha1)
        signature = algorithms.sign(RSA_KEY, "sha1-with-rsa", tbs, legacy=True)
        old = der.sequence(tbs, sha1, der.bit_string(signature))
        assert is_self_signed(old, legacy=True)
        assert not is_self_signed(old)

    def test_two_algorithms(self) -> None:
        """RFC 5280, section 4.1.1.2: both MUST be the same."""
        tbs, sha256, signature = split_signed(CERTIFICATE)
        without_null = der.sequence(der.content(sha256, der.SEQUENCE)[:-2])
        odd = der.sequence(tbs, without_null, der.bit_string(signature))
        assert not is_self_signed(odd)
