# SPDX-License-Identifier: MIT
"""The degenerate SignedData (RFC 5652, section 5)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID
from pkix_samples import P256, corruptions, refusal, rsa_key
from pyasn1.codec.ber import decoder as ber_decoder
from pyasn1.codec.der import encoder
from pyasn1_modules import rfc5652

from trstctl.errors import Malformed, TooLarge
from trstctl.pkix import der
from trstctl.pkix.cms import certs_only, read_certs_only

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
