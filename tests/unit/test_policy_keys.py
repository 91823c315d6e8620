# SPDX-License-Identifier: MIT
"""The key policy, R-7: weak keys are refused before they are used."""

from __future__ import annotations

import math
import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric import (
    ec,
    ed448,
    ed25519,
    mldsa,
    rsa,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)

from trstctl.errors import UnsupportedAlgorithm
from trstctl.model import PublicKey
from trstctl.pkix import der
from trstctl.pkix.algorithms import describe_public_key
from trstctl.policy.keys import (
    _PRIMORIAL,
    _ROCA_PRODUCT,
    ALGORITHMS,
    KeyRules,
    check_key,
    has_close_factors,
    has_roca_fingerprint,
    is_power,
    is_prime,
    read_blocked_keys,
)

_RULES = KeyRules()
_NULL = "300d06092a864886f70d0101010500"

#: Two primes of Mersenne's form, below and above OpenSSL's limit.
_PRIME = 2**2203 - 1
_LARGE_PRIME = 2**3217 - 1


def _rsa(modulus: int, exponent: int = 65537, head: str = _NULL) -> PublicKey:
    """Describe an RSA key, however bad."""
    numbers = der.sequence(der.integer(modulus), der.integer(exponent))
    return describe_public_key(
        der.sequence(bytes.fromhex(head), der.bit_string(numbers))
    )


def _rough(bits: int) -> int:
    """Return a number of that size without small factors."""
    while True:
        number = secrets.randbits(bits) | 3 << bits - 2 | 1
        if math.gcd(number, _PRIMORIAL) == 1:
            return number


def _next_rough(number: int) -> int:
    """Return the next larger number without small factors."""
    number += 2
    while math.gcd(number, _PRIMORIAL) != 1:
        number += 2
    return number


def _roca() -> int:
    """Return a modulus of the form that the broken generator made."""
    residue = pow(65537, 1234567, _ROCA_PRODUCT)
    while True:
        factor = secrets.randbits(2048 - _ROCA_PRODUCT.bit_length()) | 1 << (
            2047 - _ROCA_PRODUCT.bit_length()
        )
        number = residue + factor * _ROCA_PRODUCT
        if number.bit_length() == 2048 and math.gcd(number, _PRIMORIAL) == 1:
            return number


def _spki(key: object) -> bytes:
    """Return the SubjectPublicKeyInfo of a private key."""
    return key.public_key().public_bytes(  # type: ignore[attr-defined]
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


def _close(distance: int = 1) -> int:
    """Return a product of two near factors, rounds of Fermat apart."""
    first = _rough(1024)
    second = first
    for _ in range(distance):
        second = _next_rough(second)
    return first * second


_CURVE_KEY = _spki(ec.generate_private_key(ec.SECP256R1()))
_COMPRESSED = ec.generate_private_key(ec.SECP384R1()).public_key()


def _curve(curve: ec.EllipticCurve) -> PublicKey:
    """Describe a key on a curve."""
    return describe_public_key(_spki(ec.generate_private_key(curve)))


_BAD_KEYS = {
    "512 bits": (lambda: _rsa(_rough(512)), "512 bits"),
    "1024 bits": (lambda: _rsa(_rough(1024)), "1024 bits"),
    "2047 bits": (lambda: _rsa(_rough(2047)), "2047 bits"),
    "8193 bits": (lambda: _rsa(_rough(8193)), "8193 bits"),
    "e = 1": (lambda: _rsa(_rough(2048), 1), "exponent"),
    "e = 2": (lambda: _rsa(_rough(2048), 2), "exponent"),
    "e = 3": (lambda: _rsa(_rough(2048), 3), "exponent"),
    "e = 65535": (lambda: _rsa(_rough(2048), 65535), "exponent"),
    "e = 2**256 + 1": (lambda: _rsa(_rough(2048), 2**256 + 1), "exponent"),
    "e of the modulus' size": (
        lambda: _rsa(_rough(3072), _rough(3071)),
        "exponent",
    ),
    "even": (lambda: _rsa(_rough(2048) - 1), "small factor"),
    "3 divides": (lambda: _rsa(3 * _rough(2047)), "small factor"),
    "751 divides": (lambda: _rsa(751 * _rough(2040)), "small factor"),
    "1999 divides": (lambda: _rsa(1999 * _rough(2039)), "small factor"),
    "ROCA": (lambda: _rsa(_roca()), "ROCA"),
    "square": (lambda: _rsa(_rough(1024) ** 2), "too close"),
    "near": (lambda: _rsa(_close()), "too close"),
    "less near": (lambda: _rsa(_close(50)), "too close"),
    "cube": (lambda: _rsa(_rough(700) ** 3), "a power"),
    "fifth power": (lambda: _rsa(_rough(420) ** 5), "a power"),
    "power of a small prime": (lambda: _rsa(2003**187), "a power"),
    "P-192": (
        lambda: PublicKey(b"", "other:p-192", 192, "00"),
        "type p-192",
    ),
    "P-224": (lambda: _curve(ec.SECP224R1()), "type p-224"),
    "secp256k1": (lambda: _curve(ec.SECP256K1()), "type secp256k1"),
    "brainpool": (lambda: _curve(ec.BrainpoolP256R1()), "brainpoolP256r1"),
    "compressed point": (
        lambda: describe_public_key(
            der.sequence(
                bytes.fromhex("301006072a8648ce3d020106052b81040022"),
                der.bit_string(
                    _COMPRESSED.public_bytes(
                        Encoding.X962, PublicFormat.CompressedPoint
                    )
                ),
            )
        ),
        "compressed",
    ),
    "explicit curve": (
        lambda: PublicKey(_CURVE_KEY, "other:explicit-curve", 0, "00"),
        "explicit-curve",
    ),
    "another form of P-256": (
        lambda: PublicKey(_CURVE_KEY + b"\0", "p-256", 256, "00"),
        "standard form",
    ),
    "point of P-256 named P-384": (
        lambda: PublicKey(_CURVE_KEY, "p-384", 384, "00"),
        "standard form",
    ),
    "point without its mark": (
        lambda: PublicKey(
            _CURVE_KEY[:26] + b"\x02" + _CURVE_KEY[27:], "p-256", 256, "00"
        ),
        "standard form",
    ),
}

_GOOD_KEYS = {
    "2048 bits": lambda: _rsa(_rough(2048)),
    "3072 bits": lambda: _rsa(_rough(3072)),
    "4096 bits": lambda: _rsa(_rough(4096)),
    "8192 bits": lambda: _rsa(_rough(8192)),
    "generated": lambda: describe_public_key(
        _spki(rsa.generate_private_key(65537, 2048))
    ),
    "P-256": lambda: _curve(ec.SECP256R1()),
    "P-384": lambda: _curve(ec.SECP384R1()),
    "P-521": lambda: _curve(ec.SECP521R1()),
    "Ed25519": lambda: describe_public_key(
        _spki(ed25519.Ed25519PrivateKey.generate())
    ),
    "Ed448": lambda: describe_public_key(
        _spki(ed448.Ed448PrivateKey.generate())
    ),
    "ML-DSA-44": lambda: describe_public_key(
        _spki(mldsa.MLDSA44PrivateKey.generate())
    ),
    "ML-DSA-65": lambda: describe_public_key(
        _spki(mldsa.MLDSA65PrivateKey.generate())
    ),
    "ML-DSA-87": lambda: describe_public_key(
        _spki(mldsa.MLDSA87PrivateKey.generate())
    ),
}


class KeyPolicyTests:
    """R-7: what :func:`check_key` refuses, and what it lets pass."""

    @pytest.mark.parametrize("name", _BAD_KEYS)
    def test_a_bad_key_is_refused(self, name: str) -> None:
        """R-7: each kind of weak key is refused, saying why."""
        make, why = _BAD_KEYS[name]

        with pytest.raises(UnsupportedAlgorithm) as caught:
            check_key(make(), _RULES)

        assert why in caught.value.detail

    @pytest.mark.parametrize("name", _GOOD_KEYS)
    def test_a_good_key_is_accepted(self, name: str) -> None:
        """R-7: sound keys of every listed algorithm pass."""
        key = _GOOD_KEYS[name]()

        check_key(key, _RULES)

        assert key.algorithm in ALGORITHMS

    def test_a_blocked_key_is_refused(self) -> None:
        """R-7: known-compromised keys and the CA's own are refused."""
        key = describe_public_key(_CURVE_KEY)
        check_key(key, KeyRules(frozenset({"ab" * 32})))

        with pytest.raises(UnsupportedAlgorithm, match="blocked"):
            check_key(key, KeyRules(frozenset({key.fingerprint})))

    def test_a_blocked_key_is_refused_in_another_form(self) -> None:
        """R-7: leaving NULL out does not make a blocked RSA key another."""
        modulus = _rough(2048)
        blocked = frozenset({_rsa(modulus).fingerprint})
        bare = _rsa(modulus, head="300b06092a864886f70d010101")
        assert bare.fingerprint not in blocked

        with pytest.raises(UnsupportedAlgorithm, match="blocked"):
            check_key(bare, KeyRules(blocked))

    def test_a_prime_modulus_is_refused_where_that_is_tested(self) -> None:
        """R-7: a prime modulus hides nothing; the test is opt-in."""
        for prime in (_PRIME, _LARGE_PRIME):
            key = _rsa(prime)
            check_key(key, _RULES)

            with pytest.raises(UnsupportedAlgorithm, match="is a prime"):
                check_key(key, KeyRules(prime_test=True))

    def test_a_composite_modulus_passes_the_prime_test(self) -> None:
        """R-7: the test for primes lets sound keys pass."""
        key = _GOOD_KEYS["generated"]()

        check_key(key, KeyRules(prime_test=True))

        assert not is_prime(_rough(1600) * _rough(1700))


class BlockedKeysTests:
    """The file of blocked keys."""

    def test_fingerprints_are_read(self) -> None:
        """Comments, blank lines, colons and letter case do not matter."""
        lines = [
            "# compromised",
            "",
            "AB" * 32 + "  # one",
            ":".join(["cd"] * 32),
        ]

        assert {"ab" * 32, "cd" * 32} == read_blocked_keys(lines)

    @pytest.mark.parametrize("line", ["abcd", "g" * 64])
    def test_anything_else_is_refused(self, line: str) -> None:
        """A line that is no fingerprint is named, not skipped."""
        with pytest.raises(ValueError, match="line 2"):
            read_blocked_keys(["#", line])


class ArithmeticTests:
    """The number theory under the key policy."""

    def test_close_factors_are_found_within_the_rounds(self) -> None:
        """Fermat's method meets the middle in the round that it is in."""
        # (a - b)(a + b) with a exactly n rounds above the root.
        root = _rough(1024)
        for rounds in (1, 2, 110):
            near = math.isqrt(2 * root * (rounds - 1) + 1) + 2
            near += (near + root + 1) % 2
            product = (root - near) * (root + near)
            needed = root - math.isqrt(product)
            assert has_close_factors(product, needed)
            assert not has_close_factors(product, needed - 1)

    def test_distant_factors_are_not_found(self) -> None:
        """Factors of different length are out of reach."""
        assert not has_close_factors(_rough(1000) * _rough(1048))

    @pytest.mark.parametrize("exponent", [3, 5, 7, 11, 13, 101, 149])
    def test_powers_are_found(self, exponent: int) -> None:
        """Every odd prime exponent that fits is tried."""
        base = _rough(2048 // exponent + 1)
        power = base**exponent

        assert is_power(power)
        assert not is_power(power + 2)

    def test_a_root_that_passes_every_sieve_is_still_checked(self) -> None:
        """One more than a power is none, whatever the sieves say."""
        product = math.prod(prime for prime in range(7, 60))
        near = _rough(800) ** 3 + product

        assert not is_power(near)

    def test_a_random_modulus_has_no_roca_fingerprint(self) -> None:
        """The fingerprint does not accuse the innocent."""
        assert not any(has_roca_fingerprint(_rough(512)) for _ in range(100))
        assert has_roca_fingerprint(65537**200)
