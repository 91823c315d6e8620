# SPDX-License-Identifier: MIT
"""Signature algorithms and the description of public keys."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import (
    ec,
    ed448,
    mldsa,
    padding,
)
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pkix_samples import ED25519, P256, corruptions, refusal, rsa_key, spki

from trstctl.errors import Malformed, UnsupportedAlgorithm
from trstctl.model import PublicKey
from trstctl.pkix import algorithms, der

P384 = ec.derive_private_key(0x5EED, ec.SECP384R1())
P521 = ec.derive_private_key(0x5EED, ec.SECP521R1())
ED448 = ed448.Ed448PrivateKey.from_private_bytes(bytes(range(57)))
MLDSA44 = mldsa.MLDSA44PrivateKey.from_seed_bytes(bytes(32))
MLDSA65 = mldsa.MLDSA65PrivateKey.from_seed_bytes(bytes(32))
MLDSA87 = mldsa.MLDSA87PrivateKey.from_seed_bytes(bytes(32))

EC_PUBLIC_KEY = der.oid("1.2.840.10045.2.1")
PRIME256V1 = der.oid("1.2.840.10045.3.1.7")
RSA_ENCRYPTION = der.oid("1.2.840.113549.1.1.1")
NULL = b"\x05\x00"

PSS_SHA256 = (
    "304106092a864886f70d01010a3034a00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120"
)

KEYS = {
    "ecdsa-with-sha256": P256,
    "ecdsa-with-sha384": P384,
    "ecdsa-with-sha512": P521,
    "sha256-with-rsa": rsa_key,
    "sha384-with-rsa": rsa_key,
    "sha512-with-rsa": rsa_key,
    "rsassa-pss-with-sha256": rsa_key,
    "rsassa-pss-with-sha384": rsa_key,
    "rsassa-pss-with-sha512": rsa_key,
    "ed25519": ED25519,
    "ed448": ED448,
    "ml-dsa-44": MLDSA44,
    "ml-dsa-65": MLDSA65,
    "ml-dsa-87": MLDSA87,
}


def key_for(name: str) -> Any:
    """Return a private key that signs with the algorithm."""
    key = KEYS[name]
    return key() if callable(key) else key


def make_spki(algorithm: bytes, parameters: bytes, key: bytes) -> bytes:
    """Return a SubjectPublicKeyInfo of any content."""
    return der.sequence(
        der.sequence(algorithm, parameters), der.bit_string(key)
    )


def rsa_spki(modulus: int, exponent: int, parameters: bytes = NULL) -> bytes:
    """Return an RSA key of any numbers."""
    numbers = der.sequence(der.integer(modulus), der.integer(exponent))
    return make_spki(RSA_ENCRYPTION, parameters, numbers)


def point(key: ec.EllipticCurvePrivateKey, *, compressed: bool) -> bytes:
    """Return the public point of a key."""
    return key.public_key().public_bytes(
        Encoding.X962,
        PublicFormat.CompressedPoint
        if compressed
        else PublicFormat.UncompressedPoint,
    )


class SigningTests:
    """``sign`` and ``verify``."""

    def test_every_algorithm_is_tried(self) -> None:
        """The table of these tests is complete."""
        assert set(KEYS) == set(algorithms.ALGORITHMS)

    @pytest.mark.parametrize("name", KEYS)
    def test_a_signature_verifies(self, name: str) -> None:
        """What was signed verifies, and nothing else does."""
        key = key_for(name)
        signature = algorithms.sign(key, name, b"signed")
        public = spki(key)
        assert algorithms.verify(public, name, signature, b"signed")
        assert not algorithms.verify(public, name, signature, b"other")
        assert not algorithms.verify(public, name, b"", b"signed")
        broken = signature[:-1] + bytes((signature[-1] ^ 1,))
        assert not algorithms.verify(public, name, broken, b"signed")

    @pytest.mark.parametrize("name", KEYS)
    def test_only_keys_that_fit(self, name: str) -> None:
        """A key of another kind neither signs nor verifies."""
        own = key_for(name)
        signature = algorithms.sign(own, name, b"signed")
        others = [
            key
            for key in (P256, rsa_key(), ED25519, ED448, MLDSA44, MLDSA65)
            if type(key) is not type(own)
        ]
        assert len(others) >= 5
        for key in others:
            assert not algorithms.verify(spki(key), name, signature, b"signed")
            with pytest.raises(UnsupportedAlgorithm):
                algorithms.sign(key, name, b"signed")

    def test_unknown_names(self) -> None:
        """A name that is not in the table is refused."""
        assert not algorithms.verify(spki(P256), "other:1.2.3", b"", b"")
        with pytest.raises(UnsupportedAlgorithm):
            algorithms.sign(P256, "ecdsa-with-sha1", b"")
        with pytest.raises(UnsupportedAlgorithm):
            algorithms.algorithm_identifier("sha1-with-rsa")

    @pytest.mark.parametrize("bad", [b"", b"\x30\x00", b"\x30\x02\x30\x00"])
    def test_a_broken_key_verifies_nothing(self, bad: bytes) -> None:
        """Whatever the library raises is a no."""
        assert not algorithms.verify(bad, "ed25519", bytes(64), b"")

    def test_pss_is_exact_about_the_salt(self) -> None:
        """A salt of another length than the hash's is refused (RFC 4055)."""
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 20)
        signature = rsa_key().sign(b"signed", pss, hashes.SHA256())
        assert not algorithms.verify(
            spki(rsa_key()), "rsassa-pss-with-sha256", signature, b"signed"
        )


def ecdsa_forms(r: int, s: int) -> dict[str, bytes]:
    """Return what stands for a good ECDSA signature only to the careless."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    good = der.sequence(der.integer(r), der.integer(s))
    pairs = {
        "r is 0": (0, s),
        "s is 0": (r, 0),
        "both are 0": (0, 0),
        "both are 1": (1, 1),
        "r is negative": (-r, s),
        "s is negative": (r, -s),
        "r and the order": (r + order, s),
        "s and the order": (r, s + order),
        "r less the order": (r - order, s),
        "s less the order": (r, s - order),
        "r is the order": (order, s),
        "s is the order": (r, order),
        "r is huge": (r + (order << 8000), s),
    }
    return {
        name: der.sequence(*map(der.integer, pair))
        for name, pair in pairs.items()
    } | {
        "empty": b"",
        "an empty sequence": der.sequence(),
        "a set": b"\x31" + good[1:],
        "only r": der.sequence(der.integer(r)),
        "three numbers": der.sequence(good[2:], der.integer(0)),
        "octets after it": good + b"\x00",
        "octets before it": b"\x00" + good,
        "cut off": good[:-1],
        "not DER": r.to_bytes(32, "big") + s.to_bytes(32, "big"),
        "a long length": b"\x30\x81" + good[1:],
        "a longer length": b"\x30\x82\x00" + good[1:],
        "no length": b"\x30\x80" + good[2:] + bytes(2),
        "a long length of r": der.sequence(
            b"\x02\x81" + der.integer(r)[1:], der.integer(s)
        ),
        "zeros before r": der.sequence(
            der.tlv(der.INTEGER, r.to_bytes(35, "big")), der.integer(s)
        ),
        "zeros before s": der.sequence(
            der.integer(r), der.tlv(der.INTEGER, s.to_bytes(35, "big"))
        ),
        "r of another type": der.sequence(der.boolean(True), der.integer(s)),
    }


class LegacyTests:
    """What only those get who ask for it."""

    NAME = "sha1-with-rsa"

    def test_only_on_demand(self) -> None:
        """SHA-1 signs and verifies for messages, by an explicit switch."""
        with pytest.raises(UnsupportedAlgorithm):
            algorithms.sign(rsa_key(), self.NAME, b"text")
        signature = algorithms.sign(rsa_key(), self.NAME, b"text", legacy=True)
        key = spki(rsa_key())
        assert algorithms.verify(
            key, self.NAME, signature, b"text", legacy=True
        )
        assert not algorithms.verify(key, self.NAME, signature, b"text")
        assert not algorithms.verify(
            key, self.NAME, signature, b"other", legacy=True
        )

    def test_no_algorithm_of_certificates(self) -> None:
        """Nothing else finds it, by name or by identifier."""
        assert not set(algorithms.LEGACY_ALGORITHMS) & set(
            algorithms.ALGORITHMS
        )
        with pytest.raises(UnsupportedAlgorithm):
            algorithms.algorithm_identifier(self.NAME)

    def test_unknown_stays_unknown(self) -> None:
        """The switch adds no more than what is listed."""
        with pytest.raises(UnsupportedAlgorithm):
            algorithms.sign(rsa_key(), "md5-with-rsa", b"text", legacy=True)

    def test_names(self) -> None:
        """Identifiers are named, the others as everywhere."""
        sha1 = der.oid("1.2.840.113549.1.1.5")
        for identifier in (
            der.sequence(sha1),
            der.sequence(sha1, b"\x05\x00"),
        ):
            assert algorithms.signature_name(identifier) == self.NAME
            name, digest, _ = algorithms.read_algorithm_identifier(identifier)
            assert (name, digest) == ("other:1.2.840.113549.1.1.5", "sha1")
        for name, algorithm in algorithms.ALGORITHMS.items():
            assert name == algorithms.signature_name(algorithm.identifier)


class MalleabilityTests:
    """A signature has one form; the cases are those of Project Wycheproof."""

    def test_ecdsa_forms(self) -> None:
        """Wrong ranges and lax DER verify nothing."""
        name = "ecdsa-with-sha256"
        signature = algorithms.sign(P256, name, b"signed")
        public = spki(P256)
        forms = ecdsa_forms(*decode_dss_signature(signature))
        verified = [
            form
            for form, octets in forms.items()
            if algorithms.verify(public, name, octets, b"signed")
        ]
        assert [] == verified
        assert algorithms.verify(public, name, signature, b"signed")

    @pytest.mark.parametrize("name", ["ecdsa-with-sha256", "sha256-with-rsa"])
    def test_any_bit_counts(self, name: str) -> None:
        """No bit of a signature can be another."""
        key = key_for(name)
        public = spki(key)
        signature = algorithms.sign(key, name, b"signed")
        number = int.from_bytes(signature, "big")
        for bit in range(8 * len(signature)):
            octets = (number ^ 1 << bit).to_bytes(len(signature), "big")
            assert not algorithms.verify(public, name, octets, b"signed")

    def test_rsa_forms(self) -> None:
        """RFC 8017, section 8.2.2: of the modulus' length, and less than it."""
        name = "sha256-with-rsa"
        signature = algorithms.sign(rsa_key(), name, b"signed")
        modulus = rsa_key().public_key().public_numbers().n
        number = int.from_bytes(signature, "big")
        size = len(signature)
        for octets in (
            b"\x00" + signature,
            signature + b"\x00",
            signature[1:],
            signature[:-1],
            bytes(size),
            b"\x01".rjust(size, b"\x00"),
            modulus.to_bytes(size, "big"),
            (modulus - number).to_bytes(size, "big"),
            (number + modulus).to_bytes(size + 1, "big"),
        ):
            assert not algorithms.verify(
                spki(rsa_key()), name, octets, b"signed"
            )


class IdentifierTests:
    """AlgorithmIdentifier, both ways."""

    @pytest.mark.parametrize("name", KEYS)
    def test_round_trip(self, name: str) -> None:
        """What we write, we read."""
        identifier = algorithms.algorithm_identifier(name)
        der.check(identifier)
        known = algorithms.ALGORITHMS[name]
        read = algorithms.read_algorithm_identifier(identifier)
        assert (name, known.digest) == read[:2]
        assert identifier == der.sequence(der.oid(known.oid), read[2])

    @pytest.mark.parametrize(
        ("name", "octets"),
        [
            ("ecdsa-with-sha256", "300a06082a8648ce3d040302"),
            ("sha256-with-rsa", "300d06092a864886f70d01010b0500"),
            ("ed25519", "300506032b6570"),
            ("ml-dsa-65", "300b0609608648016503040312"),
            (
                "rsassa-pss-with-sha256",
                PSS_SHA256,
            ),
        ],
    )
    def test_vectors(self, name: str, octets: str) -> None:
        """RFC 5758, RFC 4055, RFC 8410 and RFC 9881."""
        identifier = bytes.fromhex(octets)
        assert identifier == algorithms.algorithm_identifier(name)

    def test_absent_parameters(self) -> None:
        """Absent parameters mean NULL with RSA (RFC 4055, 2.1 and 5)."""
        plain = der.sequence(der.oid("1.2.840.113549.1.1.11"))
        assert algorithms.read_algorithm_identifier(plain) == (
            "sha256-with-rsa",
            "sha256",
            b"",
        )
        written = algorithms.algorithm_identifier("rsassa-pss-with-sha256")
        sparse = bytes.fromhex(
            "303d06092a864886f70d01010a3030a00d300b0609608648016503040201"
            "a11a301806092a864886f70d010108300b0609608648016503040201"
            "a203020120"
        )
        assert sparse != written
        der.check(sparse)
        read = algorithms.read_algorithm_identifier(sparse)
        assert read[:2] == ("rsassa-pss-with-sha256", "sha256")

    @pytest.mark.parametrize(
        ("oid", "parameters", "digest"),
        [
            ("1.2.840.113549.1.1.5", NULL, "sha1"),
            ("1.2.840.113549.1.1.4", NULL, "md5"),
            ("1.2.840.10045.4.1", b"", "sha1"),
            ("1.2.840.113549.1.1.14", NULL, "sha224"),
            (
                "1.2.840.113549.1.1.10",
                b"\x30\x00",
                "rsassa-pss with unusual parameters",
            ),
            ("1.2.3.4", b"", "algorithm 1.2.3.4"),
        ],
    )
    def test_unsupported(
        self, oid: str, parameters: bytes, digest: str
    ) -> None:
        """What we do not verify has a name to be refused by."""
        identifier = der.sequence(der.oid(oid), parameters)
        assert (
            f"other:{oid}",
            digest,
            parameters,
        ) == algorithms.read_algorithm_identifier(identifier)

    def test_parameters_where_none_belong(self) -> None:
        """ECDSA with NULL parameters is another algorithm (RFC 5758)."""
        odd = der.sequence(der.oid("1.2.840.10045.4.3.2"), NULL)
        name, _, _ = algorithms.read_algorithm_identifier(odd)
        assert name == "other:1.2.840.10045.4.3.2"

    @pytest.mark.parametrize(
        "bad",
        [
            b"",
            NULL,
            b"\x30\x00",
            b"\x30\x02\x05\x00",
            der.sequence(RSA_ENCRYPTION, NULL, NULL),
        ],
    )
    def test_malformed(self, bad: bytes) -> None:
        """What is no AlgorithmIdentifier is malformed."""
        with pytest.raises(Malformed):
            algorithms.read_algorithm_identifier(bad)


class PublicKeyTests:
    """``describe_public_key``."""

    @pytest.mark.parametrize(
        ("key", "name", "bits", "default"),
        [
            (P256, "p-256", 256, "ecdsa-with-sha256"),
            (P384, "p-384", 384, "ecdsa-with-sha384"),
            (P521, "p-521", 521, "ecdsa-with-sha512"),
            (ED25519, "ed25519", 0, "ed25519"),
            (ED448, "ed448", 0, "ed448"),
            (MLDSA44, "ml-dsa-44", 0, "ml-dsa-44"),
            (MLDSA65, "ml-dsa-65", 0, "ml-dsa-65"),
            (MLDSA87, "ml-dsa-87", 0, "ml-dsa-87"),
        ],
    )
    def test_supported(
        self, key: Any, name: str, bits: int, default: str
    ) -> None:
        """Each key that a profile may allow is described."""
        public = spki(key)
        expected = PublicKey(
            public, name, bits, hashlib.sha256(public).hexdigest()
        )
        assert expected == algorithms.describe_public_key(public)
        assert default == algorithms.algorithm_for(expected)

    def test_rsa(self) -> None:
        """An RSA key comes with its numbers."""
        numbers = rsa_key().public_key().public_numbers()
        described = algorithms.describe_public_key(spki(rsa_key()))
        assert ("rsa", 2048) == (described.algorithm, described.bits)
        assert numbers.n == described.modulus
        assert numbers.e == described.exponent
        assert algorithms.algorithm_for(described) == "sha256-with-rsa"

    @pytest.mark.parametrize(
        ("modulus", "exponent", "bits"),
        [
            (15, 3, 4),
            (16, 2, 5),
            (15, 1, 4),
            (1 << 8191, (1 << 256) + 1, 8192),
        ],
    )
    def test_weak_rsa_is_described_not_judged(
        self, modulus: int, exponent: int, bits: int
    ) -> None:
        """Numbers that policy will refuse reach policy (R-7)."""
        for parameters in (NULL, b""):
            described = algorithms.describe_public_key(
                rsa_spki(modulus, exponent, parameters)
            )
            assert ("rsa", bits, modulus, exponent) == (
                described.algorithm,
                described.bits,
                described.modulus,
                described.exponent,
            )

    @pytest.mark.parametrize(
        ("curve", "name"),
        [
            (ec.SECP192R1(), "other:p-192"),
            (ec.SECP224R1(), "other:p-224"),
            (ec.SECP256K1(), "other:secp256k1"),
            (ec.BrainpoolP256R1(), "other:brainpoolP256r1"),
        ],
    )
    def test_other_curves(self, curve: Any, name: str) -> None:
        """A curve that no profile can allow has a name."""
        key = ec.derive_private_key(7, curve)
        assert name == algorithms.describe_public_key(spki(key)).algorithm

    def test_unknown_curves(self) -> None:
        """A curve that the table lacks is named by OID."""
        key = make_spki(EC_PUBLIC_KEY, der.oid("1.3.132.0.1"), b"\x04")
        described = algorithms.describe_public_key(key)
        assert described.algorithm == "other:1.3.132.0.1"

    def test_explicit_curve_parameters(self) -> None:
        """Curve parameters in the key are refused by name (RFC 5480)."""
        key = make_spki(EC_PUBLIC_KEY, der.sequence(), b"\x04" + bytes(64))
        described = algorithms.describe_public_key(key)
        assert described.algorithm == "other:explicit-curve"

    def test_compressed_points(self) -> None:
        """Compressed points are no p-256 key (RFC 5480, section 2.2)."""
        key = make_spki(
            EC_PUBLIC_KEY, PRIME256V1, point(P256, compressed=True)
        )
        described = algorithms.describe_public_key(key)
        assert described.algorithm == "other:p-256-compressed"

    def test_other_algorithms(self) -> None:
        """A DSA key is named by OID."""
        dsa_key = make_spki(der.oid("1.2.840.10040.4.1"), b"", der.integer(5))
        described = algorithms.describe_public_key(dsa_key)
        assert described.algorithm == "other:1.2.840.10040.4.1"
        with pytest.raises(UnsupportedAlgorithm):
            algorithms.algorithm_for(described)

    @pytest.mark.parametrize(
        "bad",
        [
            b"",
            NULL,
            der.sequence(),
            der.sequence(der.sequence(RSA_ENCRYPTION)),
            der.sequence(NULL, der.bit_string(b"")),
            der.sequence(der.sequence(NULL), der.bit_string(b"")),
            # unused bits; an empty BIT STRING
            der.sequence(der.sequence(der.oid("1.2.3")), b"\x03\x02\x01\x02"),
            der.sequence(der.sequence(der.oid("1.2.3")), b"\x03\x00"),
            # no curve; NULL for a curve
            make_spki(EC_PUBLIC_KEY, b"", b"\x04" + bytes(64)),
            make_spki(EC_PUBLIC_KEY, NULL, b"\x04" + bytes(64)),
            # infinity, hybrid form, wrong lengths, off the curve
            make_spki(EC_PUBLIC_KEY, PRIME256V1, b"\x00"),
            make_spki(
                EC_PUBLIC_KEY,
                PRIME256V1,
                b"\x06" + point(P256, compressed=False)[1:],
            ),
            make_spki(EC_PUBLIC_KEY, PRIME256V1, b""),
            make_spki(EC_PUBLIC_KEY, PRIME256V1, b"\x04" + bytes(63)),
            make_spki(EC_PUBLIC_KEY, PRIME256V1, b"\x02" + bytes(31)),
            make_spki(EC_PUBLIC_KEY, PRIME256V1, b"\x04" + b"\x01" * 64),
            # RSA: parameters, zero, negative, three numbers, a NULL
            rsa_spki(15, 3, der.sequence()),
            rsa_spki(0, 3),
            rsa_spki(-15, 3),
            rsa_spki(15, -3),
            make_spki(
                RSA_ENCRYPTION,
                NULL,
                der.sequence(der.integer(15), NULL),
            ),
            make_spki(RSA_ENCRYPTION, NULL, der.sequence(der.integer(15))),
            make_spki(RSA_ENCRYPTION, NULL, b"junk"),
            rsa_spki(1 << 8800, 3),
            # Ed25519: parameters, wrong length
            make_spki(der.oid("1.3.101.112"), NULL, bytes(32)),
            make_spki(der.oid("1.3.101.112"), b"", bytes(31)),
        ],
    )
    def test_malformed(self, bad: bytes) -> None:
        """What is no key of its algorithm is malformed."""
        with pytest.raises(Malformed):
            algorithms.describe_public_key(bad)

    @pytest.mark.parametrize("key", [P256, ED25519])
    def test_corruptions(self, key: Any) -> None:
        """Any corruption is described or refused; nothing else happens."""
        for bad in corruptions(spki(key)):
            outcome = refusal(algorithms.describe_public_key, bad)
            assert outcome in {None, "Malformed"}

    @given(st.binary(max_size=120), st.binary(max_size=70))
    @settings(derandomize=True, deadline=None)
    def test_random_octets(self, whole: bytes, key: bytes) -> None:
        """Random octets are refused, or described as what they are."""
        assert refusal(algorithms.describe_public_key, whole) in {
            None,
            "Malformed",
        }
        for parameters in (PRIME256V1, NULL, b""):
            bad = make_spki(EC_PUBLIC_KEY, parameters, key)
            outcome = refusal(algorithms.describe_public_key, bad)
            assert outcome in {None, "Malformed"}


class KeyTypeTests:
    """A key of which nothing but type and size counts (RFC 7030, 4.4.1)."""

    def test_a_key(self) -> None:
        """What is a key is described as one."""
        octets = spki(P256)
        found = algorithms.describe_key_type(octets)
        assert algorithms.describe_public_key(octets) == found

    @pytest.mark.parametrize(
        ("oid", "parameters", "expected"),
        [
            (
                "1.2.840.10045.2.1",
                der.oid("1.3.132.0.34"),
                ("p-384", 384),
            ),
            (
                "1.2.840.10045.2.1",
                der.oid("1.3.132.0.10"),
                ("other:secp256k1", 256),
            ),
            ("1.2.840.113549.1.1.1", b"\x05\x00", ("rsa", 0)),
            ("1.3.101.112", b"", ("ed25519", 0)),
        ],
    )
    def test_no_value(
        self, oid: str, parameters: bytes, expected: tuple[str, int]
    ) -> None:
        """Where the value is none, the algorithm says type and size."""
        broken = der.sequence(
            der.sequence(der.oid(oid), parameters), der.bit_string(bytes(9))
        )
        with pytest.raises(Malformed):
            algorithms.describe_public_key(broken)
        found = algorithms.describe_key_type(broken)
        assert (broken, expected) == (
            found.spki,
            (found.algorithm, found.bits),
        )

    @pytest.mark.parametrize(
        "wrong",
        [
            der.sequence(),
            der.sequence(der.sequence(der.oid("1.2.3"))),
            der.sequence(der.integer(1), der.bit_string(b"")),
            der.octet_string(b""),
        ],
    )
    def test_no_structure(self, wrong: bytes) -> None:
        """What is no SubjectPublicKeyInfo at all is refused."""
        with pytest.raises(Malformed):
            algorithms.describe_key_type(wrong)
