# SPDX-License-Identifier: MIT
"""PKCS #10 requests: one boundary, one kind of failure."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, padding
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from est_samples import make_csr_with
from hypothesis import given, settings
from hypothesis import strategies as st
from pkix_samples import (
    ECDSA_WITH_SHA256,
    ED25519,
    P256,
    attribute,
    common_name,
    corruptions,
    ed25519_csr,
    extension,
    p256_csr,
    raw_csr,
    refusal,
    rsa_csr,
    rsa_key,
    spki,
)
from pyasn1.codec.der import decoder, encoder
from pyasn1_modules import rfc2986, rfc5280

from trstctl.errors import (
    Malformed,
    ProofOfPossessionFailed,
    TooLarge,
    UnsupportedAlgorithm,
)
from trstctl.model import (
    CertificateRequest,
    GeneralName,
    NameAttribute,
    NameChange,
)
from trstctl.pkix import csr, der
from trstctl.pkix.certificate import split_signed
from trstctl.pkix.csr import (
    CHANGE_SUBJECT_NAME,
    pem_or_der,
    read_csr,
    verify_proof,
)
from trstctl.pkix.names import encode_general_names, encode_name, name_text

SAN = "2.5.29.17"
NULL = b"\x05\x00"
ONE_NAME = der.sequence(der.tlv(0x82, b"a.example"))
TWO_KINDS = "two kinds of extension request"
ANOTHER_NAME = der.sequence(der.tlv(0x82, b"b.example"))


def requested(*extensions: bytes, oid: str = csr.EXTENSION_REQUEST) -> bytes:
    """Return an extension request."""
    return attribute(oid, der.sequence(*extensions))


def in_order(*attributes: bytes) -> bytes:
    """Return attributes as DER orders them."""
    return b"".join(sorted(attributes))


def nested(depth: int) -> bytes:
    """Return so many sequences inside one another."""
    value = NULL
    for _ in range(depth):
        value = der.sequence(value)
    return value


class ReadTests:
    """``read_csr`` on good requests."""

    def test_p256(self) -> None:
        """Subject, key, names and proof of a plain request."""
        request = read_csr(p256_csr())
        assert p256_csr() == request.der
        assert name_text(request.subject) == "CN=device-1,O=Example"
        assert request.public_key.algorithm == "p-256"
        assert spki(P256) == request.public_key.spki
        name = GeneralName("dns", "device-1.example.com")
        assert (name,) == request.names
        assert [SAN] == [each.oid for each in request.extensions]
        assert request.proof.algorithm == "ecdsa-with-sha256"
        assert request.proof.digest == "sha256"
        assert request.challenge_password is None
        assert request.attributes == {}
        verify_proof(request)

    def test_rsa(self) -> None:
        """Every extension and attribute is read."""
        request = read_csr(rsa_csr())
        text = "CN=printer-2,serialNumber=0815,ST=Zürich,C=CH"
        assert text == name_text(request.subject)
        assert [rdn[0].tag for rdn in request.subject] == [19, 12, 19, 12]
        assert [
            ("2.5.29.19", True),
            ("2.5.29.15", True),
            ("2.5.29.37", False),
            (SAN, False),
            ("2.5.29.14", False),
        ] == [(each.oid, each.critical) for each in request.extensions]
        kinds = ["dns", "email", "uri", "ip", "ip", "directory", "rid", "upn"]
        assert kinds == [each.kind for each in request.names]
        assert request.challenge_password == "correct horse"
        floor = der.tlv(12, b"2nd floor")
        assert {"1.2.840.113549.1.9.2": (floor,)} == request.attributes
        verify_proof(request)

    def test_ed25519(self) -> None:
        """An empty subject and no attributes."""
        request = read_csr(ed25519_csr())
        assert request.subject == ()
        assert request.extensions == request.names == ()
        assert request.proof.algorithm == "ed25519"
        assert request.proof.digest == "none"
        verify_proof(request)

    def test_secrets_are_not_shown(self) -> None:
        """The challenge password is not in the text of the value."""
        assert "correct horse" not in repr(read_csr(rsa_csr()))

    @pytest.mark.parametrize("make", [p256_csr, rsa_csr, ed25519_csr])
    def test_the_library_agrees(self, make: Callable[[], bytes]) -> None:
        """The library's lazy fields say the same."""
        theirs = x509.load_der_x509_csr(make())
        ours = read_csr(make())
        text = theirs.subject.rfc4514_string(
            {NameOID.SERIAL_NUMBER: "serialNumber"}
        )
        assert text == name_text(ours.subject)
        assert theirs.tbs_certrequest_bytes == ours.proof.signed
        assert theirs.signature == ours.proof.signature
        assert [
            (each.oid.dotted_string, each.critical, each.value.public_bytes())
            for each in theirs.extensions
        ] == [
            (each.oid, each.critical, each.value) for each in ours.extensions
        ]

    @pytest.mark.parametrize("make", [p256_csr, rsa_csr, ed25519_csr])
    def test_pyasn1_agrees(self, make: Callable[[], bytes]) -> None:
        """A decoder that others wrote finds the same fields."""
        theirs, rest = decoder.decode(
            make(), asn1Spec=rfc2986.CertificationRequest()
        )
        assert not rest
        ours = read_csr(make())
        information = theirs["certificationRequestInfo"]
        assert encoder.encode(information) == ours.proof.signed
        key = encoder.encode(information["subjectPKInfo"])
        assert key == ours.public_key.spki
        assert theirs["signature"].asOctets() == ours.proof.signature
        found = {
            str(each["type"]): each["values"]
            for each in information["attributes"]
        }
        extensions = ()
        if csr.EXTENSION_REQUEST in found:
            extensions, rest = decoder.decode(
                found[csr.EXTENSION_REQUEST][0], asn1Spec=rfc5280.Extensions()
            )
            assert not rest
        assert [
            (str(each["extnID"]), bool(each["critical"]))
            for each in extensions
        ] == [(each.oid, each.critical) for each in ours.extensions]

    @pytest.mark.parametrize(
        ("tag", "octets", "text"),
        [
            (12, "c3a9", "é"),
            (19, "61", "a"),
            (20, "e9", "é"),
            (22, "61", "a"),
            (28, "00000061", "a"),
            (30, "00610062", "ab"),
            (12, "", ""),
        ],
    )
    def test_challenge_password(
        self, tag: int, octets: str, text: str
    ) -> None:
        """Every string type of every device is read (RFC 2985, 5.4.1)."""
        value = der.tlv(tag, bytes.fromhex(octets))
        wanted = raw_csr(attributes=attribute(csr.CHALLENGE_PASSWORD, value))
        assert text == read_csr(wanted).challenge_password

    def test_microsoft_extension_request(self) -> None:
        """Microsoft's attribute means the same as PKCS #9's."""
        wanted = raw_csr(
            attributes=requested(
                extension(SAN, ONE_NAME), oid=csr.MICROSOFT_EXTENSION_REQUEST
            )
        )
        name = GeneralName("dns", "a.example")
        assert (name,) == read_csr(wanted).names

    def test_empty_extension_request(self) -> None:
        """Asking for no extension is asking for none."""
        assert read_csr(raw_csr(attributes=requested())).extensions == ()

    def test_attributes_with_several_values(self) -> None:
        """Other attributes are sets, as RFC 2986 says."""
        values = (der.integer(1), der.integer(2))
        wanted = raw_csr(attributes=attribute("1.2.3", *values))
        assert {"1.2.3": values} == read_csr(wanted).attributes

    def test_hostile_names_reach_policy(self) -> None:
        """Strange text is read as it is, for policy to refuse (R-8)."""
        san = der.sequence(der.tlv(0x82, b"a\0b"), der.tlv(0x87, b"\1\2\3"))
        request = read_csr(
            raw_csr(
                subject=common_name(20, b"a\0\xe9"),
                attributes=requested(extension(SAN, san)),
            )
        )
        assert (request.subject[0][0].value, 20) == (
            "a\0é",
            request.subject[0][0].tag,
        )
        assert [each.value for each in request.names] == ["a\0b", "010203"]


MALFORMED: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "not a sequence": lambda: NULL,
    "an empty sequence": der.sequence,
    "a sequence in a sequence": lambda: bytes.fromhex("30023000"),
    "a certificate's shape": lambda: der.sequence(
        der.sequence(), der.sequence(), der.bit_string(b"")
    ),
    "version 2": lambda: raw_csr(version=der.integer(1)),
    "no attributes": lambda: der.sequence(
        der.sequence(der.integer(0), der.sequence(), spki(P256)),
        ECDSA_WITH_SHA256,
        der.bit_string(b""),
    ),
    "trailing octets": lambda: raw_csr() + b"\0",
    "a broken signature algorithm": lambda: raw_csr(identifier=NULL),
    "a signature of 7 bits": lambda: der.sequence(
        split_signed(raw_csr())[0], ECDSA_WITH_SHA256, b"\x03\x02\x01\x80"
    ),
    "a common name that is a bit string": lambda: raw_csr(
        subject=common_name(3, b"\0a")
    ),
    "a common name that is no UTF-8": lambda: raw_csr(
        subject=common_name(12, b"\xff")
    ),
    "a key that is no key": lambda: raw_csr(key=der.sequence()),
    "a point that is off the curve": lambda: raw_csr(
        key=spki(P256)[:-1] + b"\0"
    ),
    "unsorted attributes": lambda: raw_csr(
        attributes=attribute("1.2.4", NULL) + attribute("1.2.3", NULL)
    ),
    "an attribute without a value": lambda: raw_csr(
        attributes=attribute("1.2.3")
    ),
    "an extension request without a value": lambda: raw_csr(
        attributes=attribute(csr.EXTENSION_REQUEST)
    ),
    "an extension request of two values": lambda: raw_csr(
        attributes=attribute(
            csr.EXTENSION_REQUEST,
            der.sequence(),
            der.sequence(extension(SAN, ONE_NAME)),
        )
    ),
    "two extension requests": lambda: raw_csr(
        attributes=in_order(
            requested(extension(SAN, ONE_NAME)),
            requested(extension(SAN, ANOTHER_NAME)),
        )
    ),
    "both kinds of extension request": lambda: raw_csr(
        attributes=in_order(
            requested(extension(SAN, ONE_NAME)),
            requested(
                extension(SAN, ANOTHER_NAME),
                oid=csr.MICROSOFT_EXTENSION_REQUEST,
            ),
        )
    ),
    "both kinds, empty": lambda: raw_csr(
        attributes=in_order(
            requested(), requested(oid=csr.MICROSOFT_EXTENSION_REQUEST)
        )
    ),
    "an extension request that is none": lambda: raw_csr(
        attributes=attribute(csr.EXTENSION_REQUEST, NULL)
    ),
    "an extension twice": lambda: raw_csr(
        attributes=requested(
            extension(SAN, ONE_NAME), extension(SAN, ANOTHER_NAME)
        )
    ),
    "an unknown extension twice": lambda: raw_csr(
        attributes=requested(
            extension("1.2.3", NULL), extension("1.2.3", NULL)
        )
    ),
    "an extension that is not DER": lambda: raw_csr(
        attributes=requested(extension("1.2.3", b"junk"))
    ),
    "an extension that is deep": lambda: raw_csr(
        attributes=requested(extension("1.2.3", nested(5000)))
    ),
    "names that are none": lambda: raw_csr(
        attributes=requested(extension(SAN, NULL))
    ),
    "two challenge passwords": lambda: raw_csr(
        attributes=attribute(csr.CHALLENGE_PASSWORD, der.tlv(19, b"a"))
        + attribute(csr.CHALLENGE_PASSWORD, der.tlv(19, b"b"))
    ),
    "a challenge password of two values": lambda: raw_csr(
        attributes=attribute(
            csr.CHALLENGE_PASSWORD, der.tlv(19, b"a"), der.tlv(19, b"b")
        )
    ),
    "a challenge password that is a number": lambda: raw_csr(
        attributes=attribute(csr.CHALLENGE_PASSWORD, der.integer(1))
    ),
}

BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "100,000 levels": (lambda: b"\x30\x84" * 30000, "Malformed"),
    "definite levels": (lambda: nested(16000), "Malformed"),
    "indefinite levels": (lambda: b"\x30\x80" * 32768, "Malformed"),
    "a long tag": (lambda: b"\x1f" + b"\x81" * 65000, "Malformed"),
    "a huge identifier": (
        lambda: der.sequence(der.tlv(6, b"\x81" * 65000)),
        "Malformed",
    ),
    "a huge relative identifier": (
        lambda: der.sequence(der.tlv(13, b"\x81" * 65000)),
        "Malformed",
    ),
    "32,000 nulls": (lambda: der.sequence(NULL * 32000), "Malformed"),
    "4 GiB": (lambda: b"\x30\x84\xff\xff\xff\xff", "Malformed"),
    "a huge integer": (lambda: der.sequence(b"\x02\x82\xff\xff"), "Malformed"),
    "a real number": (lambda: der.sequence(b"\x09\x01\x40"), "Malformed"),
    "one octet too many": (lambda: bytes(65537), "TooLarge"),
    "1001 names": (
        lambda: raw_csr(
            attributes=requested(
                extension(SAN, der.sequence(der.tlv(0x82, b"a") * 1001))
            )
        ),
        "TooLarge",
    ),
    "10,000 names": (
        lambda: raw_csr(
            attributes=requested(
                extension(SAN, der.sequence(der.tlv(0x82, b"a") * 10000))
            )
        ),
        "Malformed",
    ),
    "5,000 RDNs": (
        lambda: raw_csr(
            subject=der.sequence(*[common_name(12, b"")[2:]] * 5000)
        ),
        "Malformed",
    ),
}


class RefusalTests:
    """``read_csr`` on bad requests (R-5)."""

    @pytest.mark.parametrize("name", MALFORMED)
    def test_malformed(self, name: str) -> None:
        """One error, whatever is wrong."""
        assert refusal(read_csr, MALFORMED[name]()) == "Malformed"

    @pytest.mark.parametrize(
        ("name", "detail"),
        [
            ("a signature of 7 bits", "the signature is not whole octets"),
            (
                "a common name that is a bit string",
                "a value is not a character string",
            ),
            (
                "a point that is off the curve",
                "the public key is not on its curve",
            ),
            ("an attribute without a value", "an attribute without a value"),
            ("two extension requests", "an attribute occurs twice"),
            ("both kinds of extension request", TWO_KINDS),
            ("both kinds, empty", TWO_KINDS),
            (
                "an extension request of two values",
                "an extension request with more than one value",
            ),
            ("an extension twice", "an extension occurs twice"),
            ("an unknown extension twice", "an extension occurs twice"),
            ("an extension that is not DER", "not DER: a value ends after"),
            ("an extension that is deep", "not DER: nested too deeply"),
            ("two challenge passwords", "an attribute occurs twice"),
            (
                "a challenge password of two values",
                "a challenge password with more than one value",
            ),
            (
                "a challenge password that is a number",
                "a value is not a character string",
            ),
        ],
    )
    def test_details(self, name: str, detail: str) -> None:
        """Each is refused for its own reason, not by accident."""
        with pytest.raises(Malformed) as caught:
            read_csr(MALFORMED[name]())
        assert caught.value.detail.startswith(detail)

    @pytest.mark.parametrize("name", BOMBS)
    def test_bombs(self, name: str) -> None:
        """No bomb gets as far as a parser."""
        make, expected = BOMBS[name]
        assert expected == refusal(read_csr, make())

    def test_limit_of_the_caller(self) -> None:
        """The caller's cap counts."""
        size = len(p256_csr())
        assert refusal(read_csr, p256_csr(), max_bytes=size) is None
        with pytest.raises(TooLarge):
            read_csr(p256_csr(), max_bytes=size - 1)

    def test_the_librarys_text_is_not_shown(self) -> None:
        """The detail is a fixed text; the cause is kept for the log."""
        with pytest.raises(Malformed) as caught:
            read_csr(MALFORMED["version 2"]())
        assert caught.value.detail == "not a PKCS #10 certification request"
        assert isinstance(caught.value.__cause__, x509.InvalidVersion)

    @pytest.mark.parametrize(
        "error", [RecursionError, MemoryError, TypeError, OverflowError]
    )
    def test_any_exception_is_malformed(
        self, error: type[Exception], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever a parser raises is the peer's fault."""

        def fail(data: bytes) -> Any:
            raise error

        monkeypatch.setattr(x509, "load_der_x509_csr", fail)
        assert refusal(read_csr, p256_csr()) == "Malformed"

    @pytest.mark.parametrize(
        "make",
        [
            p256_csr,
            pytest.param(rsa_csr, marks=pytest.mark.slow),
            ed25519_csr,
        ],
    )
    def test_corruptions(self, make: Callable[[], bytes]) -> None:
        """
        Every prefix and single-octet corruption decodes or is refused, and
        never proves possession of the key.
        """
        for bad in corruptions(make()):
            try:
                request = read_csr(bad)
            except (Malformed, TooLarge):
                continue
            assert isinstance(request, CertificateRequest)
            outcome = refusal(verify_proof, request)
            assert outcome in {
                "ProofOfPossessionFailed",
                "UnsupportedAlgorithm",
            }

    @given(st.binary(max_size=200))
    @settings(derandomize=True, deadline=None)
    def test_random_octets(self, data: bytes) -> None:
        """Random octets are no request."""
        assert refusal(read_csr, data) in {"Malformed", "TooLarge"}

    @given(
        st.recursive(
            st.sampled_from(
                [
                    NULL,
                    der.integer(0),
                    der.sequence(),
                    der.set_of(),
                    der.bit_string(b"\0"),
                    der.tlv(12, b"a"),
                    der.oid(csr.EXTENSION_REQUEST),
                    der.oid(SAN),
                    ECDSA_WITH_SHA256,
                    extension(SAN, ONE_NAME),
                    common_name(12, b"a"),
                ]
            ),
            lambda inner: st.builds(
                lambda tag, parts: der.tlv(tag, b"".join(parts)),
                st.sampled_from([0x30, 0x31, 0xA0, 0x04]),
                st.lists(inner, max_size=4),
            ),
            max_leaves=10,
        )
    )
    @settings(derandomize=True, deadline=None)
    def test_random_structures(self, data: bytes) -> None:
        """Random DER, at every place of a request, decodes or is refused."""
        for wanted in (
            data,
            raw_csr(subject=data),
            raw_csr(attributes=data),
            raw_csr(attributes=attribute(csr.EXTENSION_REQUEST, data)),
            raw_csr(attributes=requested(extension(SAN, data))),
            raw_csr(attributes=requested(extension("2.5.29.37", data))),
            raw_csr(attributes=attribute(csr.CHALLENGE_PASSWORD, data)),
            raw_csr(key=data),
            raw_csr(identifier=data),
        ):
            assert refusal(read_csr, wanted) in {
                None,
                "Malformed",
                "TooLarge",
            }


class WithoutChallengeTests:
    """What is kept of a request has no secret in it."""

    @pytest.mark.parametrize(
        ("tag", "codec"),
        [
            (0x0C, "utf-8"),
            (0x13, "ascii"),
            (0x14, "latin-1"),
            (0x16, "ascii"),
            (0x1C, "utf-32-be"),
            (0x1E, "utf-16-be"),
        ],
    )
    def test_blanked(self, tag: int, codec: str) -> None:
        """The password's characters are gone; everything else stays."""
        secret, blank = "s3cret".encode(codec), "xxxxxx".encode(codec)
        request = read_csr(
            raw_csr(
                attributes=attribute(
                    csr.CHALLENGE_PASSWORD, der.tlv(tag, secret)
                )
            )
        )
        kept = csr.without_challenge(request)
        assert secret in request.der
        assert request.der.replace(secret, blank) == kept
        assert "xxxxxx" == read_csr(kept).challenge_password

    def test_one_time_password(self) -> None:
        """RFC 7894, section 3.1: otpChallenge is a password, too."""
        secret, other = der.tlv(0x13, b"s3cret"), der.tlv(0x0C, b"t0ken")
        request = read_csr(
            raw_csr(
                attributes=attribute(csr.CHALLENGE_PASSWORD, secret)
                + attribute(csr.OTP_CHALLENGE, other)
            )
        )
        kept = csr.without_challenge(request)
        assert b"s3cret" not in kept
        assert b"t0ken" not in kept
        assert len(kept) == len(request.der)
        again = read_csr(kept)
        assert "xxxxxx" == again.challenge_password
        expected = (der.tlv(0x0C, b"xxxxx"),)
        assert expected == again.attributes[csr.OTP_CHALLENGE]

    def test_one_time_password_that_is_none(self) -> None:
        """Whatever somebody put there is blanked, and can be read."""
        inside = der.sequence(der.tlv(0x0C, b"t0ken"))
        request = read_csr(
            raw_csr(attributes=attribute(csr.OTP_CHALLENGE, inside))
        )
        kept = csr.without_challenge(request)
        assert b"t0ken" not in kept
        assert len(kept) == len(request.der)
        read_csr(kept)

    @pytest.mark.parametrize("signature", [b"", b"\x5a" * 70])
    def test_revocation_challenge(self, signature: bytes) -> None:
        """RFC 7894, section 3.2: revocationChallenge is a password that
        somebody may have thought up; the signature, too, would tell a right
        guess."""
        secret = der.tlv(0x13, b"s3cret")
        request = read_csr(
            raw_csr(
                attributes=attribute(csr.REVOCATION_CHALLENGE, secret),
                signature=signature,
            )
        )
        assert signature == request.proof.signature
        kept = csr.without_challenge(request)
        expected = request.der.replace(b"s3cret", b"xxxxxx")
        end = len(expected) - len(signature)
        assert expected[:end] + bytes(len(signature)) == kept
        again = read_csr(kept)
        assert request.public_key == again.public_key

    def test_nothing_to_blank(self) -> None:
        """A request without a password is kept as it is."""
        request = read_csr(raw_csr())
        assert request.der == csr.without_challenge(request)


class ProofTests:
    """``verify_proof`` (RFC 2986, section 3)."""

    def test_another_key_signed(self) -> None:
        """A request for one key, signed by another."""
        other = ec.derive_private_key(7, ec.SECP256R1())
        request = read_csr(raw_csr(key=spki(other)))
        with pytest.raises(ProofOfPossessionFailed):
            verify_proof(request)

    def test_another_kind_of_key(self) -> None:
        """A key that does not fit the signature's algorithm."""
        for key in (spki(rsa_key()), spki(ED25519)):
            with pytest.raises(ProofOfPossessionFailed):
                verify_proof(read_csr(raw_csr(key=key)))

    def test_sha1(self) -> None:
        """SHA-1 proves the key; that it will not do is for the profile."""
        key = rsa_key()
        oid = "1.2.840.113549.1.1.5"
        identifier = der.sequence(der.oid(oid), NULL)
        unsigned = raw_csr(key=spki(key), identifier=identifier)
        information = read_csr(unsigned).proof.signed
        signature = key.sign(information, padding.PKCS1v15(), hashes.SHA1())
        request = read_csr(
            der.sequence(information, identifier, der.bit_string(signature))
        )
        assert "sha1" == request.proof.digest
        verify_proof(request)
        with pytest.raises(ProofOfPossessionFailed):
            verify_proof(read_csr(unsigned))

    @pytest.mark.parametrize(
        ("oid", "digest"), [("1.2.840.113549.1.1.4", "md5")]
    )
    def test_old_digests(self, oid: str, digest: str) -> None:
        """MD5 is named, not called a bad signature."""
        identifier = der.sequence(der.oid(oid), NULL)
        request = read_csr(raw_csr(key=spki(rsa_key()), identifier=identifier))
        assert digest == request.proof.digest
        assert f"other:{oid}" == request.proof.algorithm
        assert NULL == request.proof.parameters
        with pytest.raises(UnsupportedAlgorithm) as caught:
            verify_proof(request)
        assert caught.value.detail == f"the request is signed with {digest}"

    def test_other_keys(self) -> None:
        """A curve that is not on the list proves nothing."""
        key = ec.derive_private_key(7, ec.SECP256K1())
        request = read_csr(
            x509.CertificateSigningRequestBuilder(x509.Name([]))
            .sign(key, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )
        with pytest.raises(UnsupportedAlgorithm):
            verify_proof(request)

    def test_pss_and_ml_dsa(self) -> None:
        """Other kinds of signature, as the library makes them."""
        builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
        pss = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
        signed = builder.sign(rsa_key(), hashes.SHA384(), rsa_padding=pss)
        request = read_csr(signed.public_bytes(Encoding.DER))
        assert request.proof.algorithm == "rsassa-pss-with-sha384"
        verify_proof(request)
        key = mldsa.MLDSA65PrivateKey.from_seed_bytes(bytes(32))
        request = read_csr(builder.sign(key, None).public_bytes(Encoding.DER))
        assert request.proof.algorithm == "ml-dsa-65"
        verify_proof(request)


def armour(
    data: bytes,
    *,
    label: bytes = b"CERTIFICATE REQUEST",
    width: int = 64,
    end: bytes = b"\n",
) -> bytes:
    """Return PEM."""
    text = base64.b64encode(data)
    lines = [text[i : i + width] for i in range(0, len(text), width)]
    return end.join(
        [b"-----BEGIN %s-----" % label, *lines, b"-----END %s-----" % label]
    )


class PemTests:
    """``pem_or_der`` (RFC 7468)."""

    @pytest.mark.parametrize("make", [p256_csr, rsa_csr, ed25519_csr])
    def test_der(self, make: Callable[[], bytes]) -> None:
        """DER is returned as it is."""
        assert make() == pem_or_der(make())

    @pytest.mark.parametrize(
        "text",
        [
            armour(p256_csr()),
            armour(p256_csr()) + b"\n",
            armour(p256_csr(), end=b"\r\n") + b"\r\n",
            armour(p256_csr(), end=b""),
            armour(p256_csr(), end=b" "),
            armour(p256_csr(), width=10000),
            armour(p256_csr(), label=b"NEW CERTIFICATE REQUEST"),
            b"\n\n  " + armour(p256_csr()),
            b"Certificate Request:\n  Data: 0\n" + armour(p256_csr()),
            b"0 text first\n" + armour(p256_csr()) + b"\nlast",
        ],
    )
    def test_pem(self, text: bytes) -> None:
        """Any lines, both labels, text around."""
        assert p256_csr() == pem_or_der(text)

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"0",
            b"\x30",
            b"\x30\x03abc",
            b"MIIB",
            base64.b64encode(p256_csr()),
            armour(p256_csr(), label=b"CERTIFICATE"),
            armour(p256_csr(), label=b"PRIVATE KEY"),
            armour(p256_csr())[:-1],
            armour(p256_csr()) + armour(p256_csr()),
            armour(p256_csr(), label=b"CERTIFICATE") + armour(p256_csr()),
            armour(p256_csr()).replace(b"\n", b"\n!", 1),
            armour(p256_csr()).replace(b"\n", b"\nProc-Type: 4\n\n", 1),
            armour(b"x").replace(b"=", b""),
            b"-" * 65536,
        ],
    )
    def test_neither(self, text: bytes) -> None:
        """Anything else is malformed."""
        with pytest.raises(Malformed):
            pem_or_der(text)

    @given(st.binary(max_size=100))
    @settings(derandomize=True, deadline=None)
    def test_random_octets(self, data: bytes) -> None:
        """PEM gives back what it holds, and random octets hold nothing."""
        assert data == pem_or_der(armour(data))
        assert refusal(pem_or_der, data) in {None, "Malformed"}


class NameChangeTests:
    """ChangeSubjectName (RFC 6402, section 2.8)."""

    SUBJECT = (
        (NameAttribute("2.5.4.6", "CH", 19),),
        (NameAttribute("2.5.4.3", "new"),),
    )
    NAMES = (GeneralName("dns", "a.example"), GeneralName("ip", "192.0.2.1"))

    def read(self, *values: bytes) -> CertificateRequest:
        """Read a request with such an attribute."""
        return read_csr(make_csr_with({CHANGE_SUBJECT_NAME: values}))

    @pytest.mark.parametrize("subject", [True, False])
    @pytest.mark.parametrize("names", [True, False])
    def test_fields(self, subject: bool, names: bool) -> None:
        """Each may be absent, and is told by what is in it."""
        fields = [encode_name(self.SUBJECT)] if subject else []
        if names:
            fields.append(encode_general_names(self.NAMES))
        if not fields:
            with pytest.raises(Malformed, match="without a name"):
                self.read(der.sequence())
            return
        found = self.read(der.sequence(*fields))
        assert (
            NameChange(
                self.SUBJECT if subject else (), self.NAMES if names else ()
            )
            == found.change
        )
        assert CHANGE_SUBJECT_NAME not in found.attributes

    def test_empty_subject(self) -> None:
        """An empty SEQUENCE is the empty name: there are no empty lists."""
        found = self.read(der.sequence(der.sequence()))
        assert NameChange() == found.change

    def test_absent(self) -> None:
        """Most requests have none."""
        assert read_csr(make_csr_with({})).change is None

    @pytest.mark.parametrize(
        "values",
        [
            (der.sequence(der.sequence()), der.sequence(der.set_of())),
            (der.set_of(),),
            (b"\x05\x00",),
            (der.sequence(der.sequence(), der.sequence()),),
            (der.sequence(*[der.sequence()] * 3),),
            (der.sequence(der.integer(1)),),
            (der.sequence(der.sequence(der.integer(1))),),
            (der.sequence(der.sequence(b"\x9f\x7f\x00")),),
        ],
    )
    def test_malformed(self, values: tuple[bytes, ...]) -> None:
        """Anything else is malformed."""
        with pytest.raises(Malformed):
            self.read(*values)
