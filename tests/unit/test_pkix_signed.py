# SPDX-License-Identifier: MIT
"""SignedData (RFC 5652, section 5): reading, verifying, writing."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from time import process_time

import cms_vectors
import pytest
from cms_vectors import (
    CERTIFICATE,
    CONTENT,
    EC_CERTIFICATE,
    RSA_KEY,
)
from cryptography.hazmat.primitives.asymmetric import ed448, mldsa
from pkix_samples import ED25519, P256, corruptions, refusal, spki
from pyasn1.codec.der import decoder, encoder
from pyasn1_modules import rfc5652

from trstctl.errors import (
    Malformed,
    MessageCheckFailed,
    TooLarge,
    UnsupportedAlgorithm,
)
from trstctl.pkix import algorithms, der
from trstctl.pkix.cms import (
    DATA,
    SIGNED_DATA,
    IssuerAndSerial,
    certs_only,
    content_info,
    issuer_and_serial,
    subject_public_key,
)
from trstctl.pkix.signed import (
    ALGORITHM_PROTECTION,
    CONTENT_TYPE,
    MAX_CERTIFICATES,
    MESSAGE_DIGEST,
    SIGNING_TIME,
    SignedData,
    read_signed_data,
    signing_time,
    verify_signer,
)
from trstctl.pkix.signing import prepare_signed

MESSAGE_TYPE = "2.16.840.1.113733.1.9.2"
NINETEEN = der.tlv(19, b"19")
NONCE = der.octet_string(bytes(16))
NULL = b"\x05\x00"
SHA256 = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"))
SHA384 = der.sequence(der.oid("2.16.840.1.101.3.4.2.2"))
MD5 = der.sequence(der.oid("1.2.840.113549.2.5"), NULL)
RSA_ENCRYPTION = der.sequence(der.oid("1.2.840.113549.1.1.1"), NULL)
SHA256_WITH_RSA = der.sequence(der.oid("1.2.840.113549.1.1.11"), NULL)
SHA1_WITH_RSA = der.sequence(der.oid("1.2.840.113549.1.1.5"), NULL)
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
RSA_SPKI = subject_public_key(CERTIFICATE)


def signed(
    content: bytes | None = CONTENT,
    *,
    key=RSA_KEY,
    certificate: bytes = CERTIFICATE,
    algorithm: str = "sha256-with-rsa",
    attributes=None,
    **options,
) -> bytes:
    """Return a message, signed at once."""
    prepared = prepare_signed(
        content,
        certificate=certificate,
        algorithm=algorithm,
        attributes={MESSAGE_TYPE: [NINETEEN]}
        if attributes is None
        else attributes,
        **options,
    )
    return prepared.finish(
        algorithms.sign(key, algorithm, prepared.to_sign, legacy=True)
    )


def verified(data: bytes, key: bytes = RSA_SPKI, **options) -> SignedData:
    """Read a message and verify it."""
    message = read_signed_data(data)
    verify_signer(message, message.signers[0], key, **options)
    return message


def raw_attributes(*more: bytes, content_type: str = DATA) -> list[bytes]:
    """Return what every signer has, and more."""
    return [
        attribute(CONTENT_TYPE, der.oid(content_type)),
        attribute(
            MESSAGE_DIGEST,
            der.octet_string(hashlib.sha256(CONTENT).digest()),
        ),
        *more,
    ]


def attribute(oid: str, *values: bytes) -> bytes:
    """Return an Attribute."""
    return der.sequence(der.oid(oid), der.set_of(*values))


def raw_signer(
    *,
    version: bytes = der.integer(1),
    sid: bytes | None = None,
    digest: bytes = SHA256,
    attributes: list[bytes] | None = None,
    algorithm: bytes = RSA_ENCRYPTION,
    more: bytes = b"",
) -> bytes:
    """Return a SignerInfo of any content whose signature is right."""
    octets = b"".join(raw_attributes() if attributes is None else attributes)
    signature = algorithms.sign(
        RSA_KEY, "sha256-with-rsa", der.tlv(der.SET, octets)
    )
    return der.sequence(
        version,
        issuer_and_serial(CERTIFICATE).der() if sid is None else sid,
        digest,
        der.tlv(0xA0, octets),
        algorithm,
        der.octet_string(signature),
        more,
    )


def raw(
    *signers: bytes,
    version: int = 1,
    announced: bytes = SHA256,
    content: bytes | None = None,
    bags: bytes | None = None,
) -> bytes:
    """Return a message of any content."""
    return content_info(
        SIGNED_DATA,
        der.sequence(
            der.integer(version),
            der.tlv(der.SET, announced),
            content
            or der.sequence(
                der.oid(DATA), der.explicit(0, der.octet_string(CONTENT))
            ),
            der.tlv(0xA0, CERTIFICATE) if bags is None else bags,
            der.tlv(der.SET, b"".join(signers)),
        ),
    )


class ReadTests:
    """``read_signed_data`` and ``verify_signer`` on others' messages."""

    @pytest.mark.parametrize(
        ("name", "digest", "algorithm"),
        [
            ("SHA256", "sha256", "sha256-with-rsa"),
            ("PKCS7", "sha512", "sha512-with-rsa"),
            ("PSS", "sha384", "rsassa-pss-with-sha384"),
            ("KEY_IDENTIFIER", "sha256", "sha256-with-rsa"),
            ("STREAM", "sha256", "sha256-with-rsa"),
        ],
    )
    def test_openssl(self, name, digest, algorithm) -> None:
        """Messages of OpenSSL verify."""
        message = verified(getattr(cms_vectors, name))
        (signer,) = message.signers
        assert message.content_type == DATA
        assert message.content == CONTENT
        assert (digest, algorithm) == (signer.digest, signer.algorithm)
        assert message.certificates in ((), (CERTIFICATE,))
        assert signer.certificate in (None, *message.certificates)
        assert message.crls == ()
        when = signing_time(signer)
        assert when is not None
        assert (2026, UTC) == (when.year, when.tzinfo)

    def test_signer_is_found(self) -> None:
        """The signer's certificate comes from the bag, by either name."""
        message = read_signed_data(cms_vectors.SHA256)
        name = IssuerAndSerial(
            bytes.fromhex("300c310a300806035504030c0164"), "5eed"
        )
        assert (1, name) == (message.version, message.signers[0].sid)
        assert message.signers[0].certificate == CERTIFICATE
        message = read_signed_data(cms_vectors.KEY_IDENTIFIER)
        assert message.version == 3
        assert isinstance(message.signers[0].sid, bytes)
        assert message.signers[0].certificate == CERTIFICATE
        assert (
            read_signed_data(cms_vectors.STREAM).signers[0].certificate is None
        )

    def test_ecdsa(self) -> None:
        """An EC key verifies."""
        message = verified(
            cms_vectors.ECDSA, subject_public_key(EC_CERTIFICATE)
        )
        assert message.signers[0].algorithm == "ecdsa-with-sha384"

    def test_bouncy_castle(self) -> None:
        """
        BER, sha512WithRSAEncryption as the signature algorithm, and
        cmsAlgorithmProtection (RFC 6211): jscep and Android.
        """
        message = verified(cms_vectors.BOUNCY_CASTLE)
        (signer,) = message.signers
        assert message.content == cms_vectors.BOUNCY_CASTLE_ENVELOPE
        assert signer.algorithm == "sha512-with-rsa"
        assert signer.attribute(MESSAGE_TYPE) == NINETEEN
        assert signer.attribute(ALGORITHM_PROTECTION) is not None
        assert signer.attribute("1.2.3") is None

    def test_sha1_is_legacy(self) -> None:
        """SHA-1 verifies where the caller allows it, and only there."""
        with pytest.raises(UnsupportedAlgorithm, match="sha1-with-rsa"):
            verified(cms_vectors.SHA1)
        message = verified(cms_vectors.SHA1, legacy=True)
        assert message.signers[0].digest == "sha1"

    def test_md5_never(self) -> None:
        """RFC 8894, section 2.9: MD5 MUST NOT be used."""
        with pytest.raises(UnsupportedAlgorithm, match="md5"):
            verified(cms_vectors.MD5, legacy=True)

    def test_signed_attributes_are_demanded(self) -> None:
        """RFC 8894, section 3.2: they MUST be there."""
        assert (
            refusal(read_signed_data, cms_vectors.UNATTRIBUTED) == "Malformed"
        )

    def test_detached(self) -> None:
        """Absent content is not the same as empty; the digest is."""
        message = read_signed_data(cms_vectors.DETACHED)
        assert message.content is None
        assert (
            refusal(verify_signer, message, message.signers[0], RSA_SPKI)
            == "MessageCheckFailed"
        )

    def test_other_key(self) -> None:
        """A signature by another key, or for another kind, fails."""
        for key in (P256, ED25519):
            assert (
                refusal(verified, cms_vectors.SHA256, spki(key))
                == "MessageCheckFailed"
            )

    def test_number_of_signers(self) -> None:
        """Exactly as many as the caller says."""
        two = raw(raw_signer(), raw_signer())
        assert refusal(read_signed_data, two) == "Malformed"
        assert len(read_signed_data(two, signers=2).signers) == 2
        empty = certs_only([CERTIFICATE])
        assert refusal(read_signed_data, empty) == "Malformed"
        message = read_signed_data(empty, signers=0)
        assert message == read_signed_data(empty, unsigned=True)
        assert message.certificates == (CERTIFICATE,)
        assert message.content is None

    def test_size(self) -> None:
        """Octets are limited."""
        with pytest.raises(TooLarge):
            read_signed_data(bytes(65537))
        with pytest.raises(TooLarge):
            read_signed_data(cms_vectors.SHA256, max_bytes=100)

    @pytest.mark.parametrize(
        ("name", "key", "legacy"),
        [
            ("SHA1", RSA_SPKI, True),
            ("ECDSA", subject_public_key(EC_CERTIFICATE), False),
            ("STREAM", RSA_SPKI, False),
            ("KEY_IDENTIFIER", RSA_SPKI, False),
        ],
        ids=["SHA1", "ECDSA", "STREAM", "KEY_IDENTIFIER"],
    )
    def test_corruption(self, name, key, legacy) -> None:
        """
        No prefix and no message with an octet changed verifies, unless in
        the certificate, which its user compares or verifies, in the name
        of one that is not there, in how BER says how long a value is, or
        from one identifier of the same signature algorithm to the other.
        """
        data = getattr(cms_vectors, name)
        original = verified(data, key, legacy=legacy)
        synonyms = [data.replace(RSA_ENCRYPTION, SHA1_WITH_RSA)]
        for corrupt in corruptions(data):
            try:
                found = verified(corrupt, key, legacy=legacy)
            except (Malformed, MessageCheckFailed, UnsupportedAlgorithm):
                continue
            if (
                found.certificates != original.certificates
                or found.signers[0].sid != original.signers[0].sid
            ):
                continue
            assert found == original
            assert name == "STREAM" or corrupt in synonyms


class SignerTests:
    """What makes a SignerInfo unacceptable, or not."""

    def test_the_sample_is_good(self) -> None:
        """What the tests below start from verifies."""
        verified(raw(raw_signer()))
        verified(raw(raw_signer(algorithm=SHA256_WITH_RSA)))

    def test_unsigned_attributes(self) -> None:
        """Section 5.3: they are optional; nobody vouches for them."""
        more = der.tlv(0xA1, attribute("1.2.3", NULL))
        verified(raw(raw_signer(more=more)))
        message = read_signed_data(raw(raw_signer(more=more)))
        assert "1.2.3" not in message.signers[0].attributes

    @pytest.mark.parametrize(
        "signer",
        [
            {"version": der.integer(3)},
            {"version": der.integer(0)},
            {"version": NULL},
            {"sid": NULL},
            {"sid": der.sequence()},
            {"sid": der.tlv(0x80, b"key")},  # with version 1
            {"digest": SHA384},  # not announced
            {"digest": NULL},
            {"algorithm": NULL},
            {"more": der.tlv(0xA2, attribute("1.2.3", NULL))},
            {"more": der.tlv(0xA1, attribute("1.2.3", NULL)) * 2},
            {"attributes": []},
            {"attributes": raw_attributes()[:1]},
            {"attributes": raw_attributes()[1:]},
            {"attributes": raw_attributes(content_type=SIGNED_DATA)},
            {"attributes": raw_attributes(*raw_attributes()[:1])},
            {"attributes": raw_attributes(*raw_attributes()[1:])},
            {"attributes": raw_attributes(attribute("1.2.3"))},
            {"attributes": raw_attributes(NULL)},
            {"attributes": raw_attributes(der.sequence(der.oid("1.2.3")))},
            {
                "attributes": [
                    *raw_attributes()[:1],
                    attribute(MESSAGE_DIGEST, NULL),
                ]
            },
            {
                "attributes": [
                    *raw_attributes()[:1],
                    attribute(MESSAGE_DIGEST, NONCE, der.octet_string(b"")),
                ]
            },
            {
                "attributes": [
                    attribute(CONTENT_TYPE, der.oid(DATA), NULL),
                    *raw_attributes()[1:],
                ]
            },
        ],
    )
    def test_malformed(self, signer) -> None:
        """RFC 5652, sections 5.3, 11.1 and 11.2."""
        assert refusal(verified, raw(raw_signer(**signer))) == "Malformed"

    def test_more_than_one_value(self) -> None:
        """Asking for the value of an attribute with two is refused."""
        two = attribute(MESSAGE_TYPE, NINETEEN, der.tlv(19, b"17"))
        message = verified(raw(raw_signer(attributes=raw_attributes(two))))
        (signer,) = message.signers
        assert len(signer.attributes[MESSAGE_TYPE]) == 2
        assert refusal(signer.attribute, MESSAGE_TYPE) == "Malformed"

    def test_unsorted_attributes(self) -> None:
        """What is verified are the octets received, in their order."""
        attributes = raw_attributes(attribute(MESSAGE_TYPE, NINETEEN))
        attributes.sort()
        backwards = attributes[::-1]
        verified(raw(raw_signer(attributes=backwards)))
        message = raw(raw_signer(attributes=attributes))
        swapped = message.replace(b"".join(attributes), b"".join(backwards))
        assert message != swapped
        assert refusal(verified, swapped) == "MessageCheckFailed"

    @pytest.mark.parametrize(
        ("digest", "algorithm"),
        [
            (MD5, RSA_ENCRYPTION),
            (SHA256, der.sequence(der.oid("1.2.840.113549.1.1.13"), NULL)),
            (SHA256, der.sequence(der.oid("1.2.840.113549.1.1.5"), NULL)),
            (SHA256, der.sequence(der.oid("1.3.101.112"))),
            (SHA256, der.sequence(der.oid("1.2.3"))),
            (SHA256, der.sequence(der.oid("1.2.840.113549.1.1.1"), NONCE)),
            (der.sequence(der.oid("1.2.3")), RSA_ENCRYPTION),
            (der.sequence(SHA256[2:], NONCE), RSA_ENCRYPTION),
        ],
    )
    def test_unsupported(self, digest, algorithm) -> None:
        """Algorithms that we do not have, or that do not go together."""
        message = raw(
            raw_signer(digest=digest, algorithm=algorithm), announced=digest
        )
        with pytest.raises(UnsupportedAlgorithm):
            verified(message, legacy=True)

    def test_null_makes_no_difference(self) -> None:
        """RFC 5754, section 2: absent parameters are as good as NULL."""
        with_null = der.sequence(SHA256[2:], NULL)
        for digest, announced in (
            (with_null, SHA256),
            (SHA256, with_null),
            (SHA256, MD5 + SHA256),
        ):
            verified(raw(raw_signer(digest=digest), announced=announced))
        verified(
            raw(
                raw_signer(
                    algorithm=der.sequence(der.oid("1.2.840.113549.1.1.1"))
                )
            )
        )

    @pytest.mark.parametrize("null", [b"", NULL])
    def test_protected_algorithms(self, null) -> None:
        """RFC 6211, section 3: the same algorithms, signed."""
        value = der.sequence(
            der.sequence(SHA256[2:], null),
            der.tlv(0xA1, der.oid("1.2.840.113549.1.1.1") + null),
        )
        protection = attribute(ALGORITHM_PROTECTION, value)
        verified(raw(raw_signer(attributes=raw_attributes(protection))))
        swapped = raw_signer(
            attributes=raw_attributes(protection), algorithm=SHA256_WITH_RSA
        )
        assert refusal(verified, raw(swapped)) == "Malformed"

    @pytest.mark.parametrize(
        "value",
        [
            NULL,
            der.sequence(),
            der.sequence(SHA256),
            der.sequence(SHA384, der.tlv(0xA1, RSA_ENCRYPTION[2:])),
            der.sequence(SHA256, der.tlv(0xA2, RSA_ENCRYPTION[2:])),
            der.sequence(SHA256, der.tlv(0xA1, b"")),
            der.sequence(der.sequence(), der.tlv(0xA1, RSA_ENCRYPTION[2:])),
        ],
    )
    def test_other_algorithms(self, value) -> None:
        """Other algorithms than those that are protected are refused."""
        protection = attribute(ALGORITHM_PROTECTION, value)
        signer = raw_signer(attributes=raw_attributes(protection))
        assert refusal(verified, raw(signer)) == "Malformed"

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (der.tlv(0x17, b"260501120000Z"), NOON),
            (der.tlv(0x18, b"20260501120000Z"), NOON),
            (
                der.tlv(0x17, b"500501120000Z"),
                datetime(1950, 5, 1, 12, tzinfo=UTC),
            ),
            (der.tlv(0x17, b"2605011200Z"), None),
            (der.tlv(0x17, b"260501120000+"), None),
            (der.tlv(0x17, b"261301120000Z"), None),
            (der.tlv(0x17, b"26050112000\xff\xff"), None),
            (der.tlv(0x04, b"20260501120000Z"), None),
            (NULL, None),
        ],
    )
    def test_signing_time(self, value, expected) -> None:
        """RFC 5652, section 11.3."""
        when = attribute(SIGNING_TIME, value)
        message = verified(raw(raw_signer(attributes=raw_attributes(when))))
        if expected is None:
            assert refusal(signing_time, message.signers[0]) == "Malformed"
        else:
            assert expected == signing_time(message.signers[0])

    def test_no_signing_time(self) -> None:
        """Not everybody says when."""
        assert signing_time(read_signed_data(signed()).signers[0]) is None


class MessageTests:
    """What is around the signer."""

    @pytest.mark.parametrize(
        "message",
        [
            {"version": 0},
            {"version": 3},
            {"version": 256},
            {"announced": b""},
            {"announced": SHA384},
            {"announced": NULL},
            {"content": der.sequence()},
            {"content": der.sequence(NULL)},
            {"content": der.sequence(der.oid(DATA), NULL)},
            {"content": der.sequence(der.oid(DATA), der.explicit(0, NULL))},
            {"content": der.sequence(der.oid(DATA), NULL, NULL)},
            {"content": der.set_of()},
            {"bags": der.tlv(0xA1, b"") + der.tlv(0xA0, CERTIFICATE)},
            {"bags": der.tlv(0xA2, b"")},
            {"bags": der.tlv(0xA0, NULL)},
            {"bags": der.tlv(0xA0, der.sequence())},
            {"bags": der.tlv(0xA1, der.tlv(0xA0, b""))},
        ],
    )
    def test_malformed(self, message) -> None:
        """RFC 5652, section 5.1 and 5.2."""
        assert refusal(verified, raw(raw_signer(), **message)) == "Malformed"

    @pytest.mark.parametrize(
        "bad",
        [
            NULL,
            der.sequence(),
            content_info(DATA, der.sequence()),
            content_info(SIGNED_DATA, NULL),
            content_info(SIGNED_DATA, der.sequence()),
            content_info(SIGNED_DATA, der.sequence(*4 * [NULL])),
            content_info(
                SIGNED_DATA,
                der.sequence(
                    der.integer(1), der.set_of(), der.sequence(), NULL
                ),
            ),
            der.sequence(der.oid(SIGNED_DATA), der.sequence()),
            der.sequence(der.oid(SIGNED_DATA)),
        ],
    )
    def test_no_signed_data(self, bad) -> None:
        """RFC 5652, section 3."""
        assert refusal(read_signed_data, bad) == "Malformed"
        assert refusal(read_signed_data, bad, signers=0) == "Malformed"

    @pytest.mark.parametrize(
        ("tag", "bag", "version"),
        [(0xA1, 0, 3), (0xA2, 0, 4), (0xA3, 0, 5), (0xA1, 1, 5)],
    )
    def test_other_choices_are_skipped(self, tag, bag, version) -> None:
        """RFC 5652, section 5.1: handled gracefully, with their version."""
        other = der.tlv(tag, NULL)
        bags = der.tlv(0xA0, CERTIFICATE + (b"" if bag else other))
        if bag:
            bags += der.tlv(0xA1, other)
        message = verified(raw(raw_signer(), bags=bags, version=version))
        assert (CERTIFICATE,) == message.certificates
        assert message.crls == ()
        for wrong in {1, 2, 3, 4, 5} - {version, 1 if version == 3 else 0}:
            assert (
                refusal(verified, raw(raw_signer(), bags=bags, version=wrong))
                == "Malformed"
            )

    def test_too_many_certificates(self) -> None:
        """Searching the bag is bounded."""
        for number, expected in (
            (MAX_CERTIFICATES, "Malformed"),
            (MAX_CERTIFICATES + 1, "TooLarge"),
        ):
            bags = der.tlv(0xA0, number * der.sequence())
            assert expected == refusal(verified, raw(raw_signer(), bags=bags))

    @pytest.mark.parametrize(
        "bomb",
        [
            lambda: raw(
                raw_signer(
                    attributes=raw_attributes(
                        *(attribute(f"1.2.{arc}", NULL) for arc in range(900))
                    )
                )
            ),
            lambda: raw(
                raw_signer(),
                announced=SHA256
                + b"".join(
                    der.sequence(der.oid(f"1.2.{arc}")) for arc in range(1900)
                ),
            ),
            lambda: raw(
                raw_signer(version=der.integer(3), sid=der.tlv(0x80, b"x")),
                bags=der.tlv(0xA0, 40 * CERTIFICATE),
                version=3,
            ),
        ],
        ids=["attributes", "digests", "certificates"],
    )
    def test_bombs(self, bomb) -> None:
        """What is just not too much takes less than 50 ms."""
        data = bomb()
        before = process_time()
        assert refusal(read_signed_data, data) is None
        assert process_time() - before < 0.05

    def test_ambiguous_signer(self) -> None:
        """Two certificates of the signer's name: which one was meant?"""
        other = CERTIFICATE[:-1] + bytes((CERTIFICATE[-1] ^ 1,))
        for bags, expected in (
            (CERTIFICATE + other, "Malformed"),
            (CERTIFICATE + CERTIFICATE, None),
            (EC_CERTIFICATE + CERTIFICATE, None),
        ):
            message = raw(raw_signer(), bags=der.tlv(0xA0, bags))
            assert expected == refusal(verified, message)

    def test_changed_name(self) -> None:
        """A signer's name is compared octet for octet."""
        shouted = CERTIFICATE.replace(b"\x0c\x01d", b"\x0c\x01D")
        message = raw(raw_signer(), bags=der.tlv(0xA0, shouted))
        assert read_signed_data(message).signers[0].certificate is None


@cache
def more_keys() -> dict[str, object]:
    """Return a key for each algorithm that is not RSA."""
    return {
        "ecdsa-with-sha256": P256,
        "ed25519": ED25519,
        "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate(),
    }


class WriteTests:
    """``prepare_signed``."""

    @pytest.mark.parametrize(
        "algorithm",
        [
            *(
                f"{name}{digest}{end}"
                for digest in ("sha256", "sha384", "sha512")
                for name, end in (("", "-with-rsa"), ("rsassa-pss-with-", ""))
            ),
            "sha1-with-rsa",
            "ecdsa-with-sha256",
            "ed25519",
            "ml-dsa-44",
        ],
    )
    def test_round_trip(self, algorithm) -> None:
        """What is written is read, and verifies."""
        key = more_keys().get(algorithm, RSA_KEY)
        data = signed(
            key=key,
            algorithm=algorithm,
            attributes={MESSAGE_TYPE: [NINETEEN], "1.2.3": [NONCE, NULL]},
            signing_time=NOON,
        )
        message = verified(data, spki(key), legacy=True)
        (signer,) = message.signers
        assert algorithm == signer.algorithm
        assert (1, DATA, CONTENT) == (
            message.version,
            message.content_type,
            message.content,
        )
        assert signer.certificate == CERTIFICATE
        assert signer.attribute(MESSAGE_TYPE) == NINETEEN
        assert signer.attributes["1.2.3"] == (NONCE, NULL)
        assert NOON == signing_time(signer)

    def test_pyasn1_reads_it(self) -> None:
        """An independent decoder finds DER and the same fields."""
        data = signed(signing_time=NOON)
        outer, rest = decoder.decode(data, asn1Spec=rfc5652.ContentInfo())
        assert not rest
        assert outer["contentType"] == rfc5652.id_signedData
        message, rest = decoder.decode(
            outer["content"], asn1Spec=rfc5652.SignedData()
        )
        assert not rest
        assert encoder.encode(message) == bytes(outer["content"])
        (signer,) = message["signerInfos"]
        assert message["version"] == signer["version"] == 1
        assert message["encapContentInfo"]["eContent"] == CONTENT
        assert [str(each["attrType"]) for each in signer["signedAttrs"]] == [
            MESSAGE_TYPE,
            CONTENT_TYPE,
            SIGNING_TIME,
            MESSAGE_DIGEST,
        ]
        # RFC 5754, section 2, and RFC 3370, section 3.2.
        assert not signer["digestAlgorithm"]["parameters"].hasValue()
        assert signer["signatureAlgorithm"]["parameters"] == NULL
        assert str(signer["signatureAlgorithm"]["algorithm"]) == (
            "1.2.840.113549.1.1.1"
        )

    def test_attributes_are_der(self) -> None:
        """RFC 5652, section 5.3: SignedAttributes MUST be DER."""
        prepared = prepare_signed(
            CONTENT,
            certificate=CERTIFICATE,
            algorithm="sha256-with-rsa",
            attributes={MESSAGE_TYPE: [NINETEEN], "1.2.3": [NULL, NONCE]},
        )
        parts = [
            part[2]
            for part in der.children(der.content(prepared.to_sign, der.SET))
        ]
        assert sorted(parts) == parts
        assert prepared.algorithm == "sha256-with-rsa"

    def test_certificates_and_crls(self) -> None:
        """The certificates keep their order; the leaf comes first."""
        for certificates in (
            [CERTIFICATE, EC_CERTIFICATE],
            [EC_CERTIFICATE, CERTIFICATE],
            [],
        ):
            crl = der.sequence(der.integer(1))
            message = verified(signed(certificates=certificates, crls=[crl]))
            assert tuple(certificates) == message.certificates
            assert (crl,) == message.crls

    @pytest.mark.parametrize("content", [None, b"", b"x"])
    def test_content(self, content) -> None:
        """Absent and empty content are written as such."""
        assert content == verified(signed(content)).content

    def test_content_type(self) -> None:
        """RFC 5652, section 5.1: other content than data has version 3."""
        message = verified(signed(content_type=SIGNED_DATA))
        assert (3, SIGNED_DATA) == (message.version, message.content_type)

    def test_time_has_a_zone(self) -> None:
        """RFC 5652, section 11.3: UTC, and two forms of it."""
        there = timezone(timedelta(hours=2))
        for when, tag in (
            (NOON.astimezone(there), 0x17),
            (datetime(2049, 12, 31, tzinfo=UTC), 0x17),
            (datetime(2050, 1, 1, tzinfo=UTC), 0x18),
            (datetime(1949, 1, 1, tzinfo=UTC), 0x18),
        ):
            (signer,) = verified(signed(signing_time=when)).signers
            assert when == signing_time(signer)
            assert tag == signer.attributes[SIGNING_TIME][0][0]

    @pytest.mark.parametrize("algorithm", ["md5-with-rsa", "ed448", ""])
    def test_unsupported(self, algorithm) -> None:
        """Algorithms that we do not write."""
        with pytest.raises(UnsupportedAlgorithm):
            signed(algorithm=algorithm, key=ed448.Ed448PrivateKey.generate())

    def test_no_certificate(self) -> None:
        """The signer needs a certificate, and the key a certificate's."""
        assert refusal(signed, certificate=der.sequence()) == "Malformed"
