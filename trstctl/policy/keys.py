# SPDX-License-Identifier: MIT
"""
The key policy: which public keys are too weak for any certificate.

The library underneath reads keys that nobody should certify: RSA with an
exponent of 3 or of the modulus' size, with even, prime or smooth moduli,
and with points in forms that other software reads differently.  So each key
is judged here, before any signature is checked with it: an exponent of the
modulus' size would make that check a hundred times dearer.

RSA, cheapest test first: size, public exponent, parity and small factors,
ROCA (the moduli of CVE-2017-15361, which 65537 generates modulo every small
prime), two factors close to each other (Fermat's method), and powers.
Elliptic curves: the named curve and the uncompressed point of RFC 5480,
section 2.2, and no other form of the same key.

A prime modulus cannot be told from a good one for less than a whole modular
exponentiation (1.7 ms at 2048 bits, ten times everything else together), so
that test is made only where :class:`KeyRules` asks for it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from itertools import islice

from attrs import frozen
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from trstctl.errors import UnsupportedAlgorithm
from trstctl.model import PublicKey
from trstctl.pkix import der

#: RSA moduli outside these sizes are refused whatever a profile says.
RSA_BITS_MIN = 2048
RSA_BITS_MAX = 8192

#: The one public exponent; the others only break things or cost time.
RSA_EXPONENT = 65537

#: How many rounds of Fermat's factorization a modulus must withstand.
FERMAT_ROUNDS = 110

#: What the SubjectPublicKeyInfo of each algorithm but RSA begins with, and
#: its length: RFC 5480, RFC 8410 and RFC 9881 leave no freedom.
_FIXED_FORMS = {
    "p-256": ("3059301306072a8648ce3d020106082a8648ce3d03010703420004", 91),
    "p-384": ("3076301006072a8648ce3d020106052b8104002203620004", 120),
    "p-521": ("30819b301006072a8648ce3d020106052b810400230381860004", 158),
    "ed25519": ("302a300506032b6570032100", 44),
    "ed448": ("3043300506032b6571033a00", 69),
    "ml-dsa-44": ("30820532300b06096086480165030403110382052100", 1334),
    "ml-dsa-65": ("308207b2300b0609608648016503040312038207a100", 1974),
    "ml-dsa-87": ("30820a32300b060960864801650304031303820a2100", 2614),
}
_FORMS = {
    name: (bytes.fromhex(prefix), length)
    for name, (prefix, length) in _FIXED_FORMS.items()
}

#: Every algorithm that a profile may list.
ALGORITHMS = ("rsa", *_FIXED_FORMS)


@frozen
class KeyRules:
    """
    What a key is judged by, beyond what is weak for everybody.

    :ivar blocked: hexadecimal SHA-256 of each SubjectPublicKeyInfo that must
        never be certified: known-compromised keys, and the gateway's own.
    :ivar prime_test: whether to test that an RSA modulus is not itself a
        prime.  It costs 1.7 ms at 2048 bits, 5.5 ms at 3072, and above that
        0.1 s and more.
    """

    blocked: frozenset[str] = frozenset()
    prime_test: bool = False


def read_blocked_keys(lines: Iterable[str]) -> frozenset[str]:
    """
    Read a list of blocked keys: one fingerprint a line, ``#`` for comments.

    :returns: the fingerprints, in lower case.
    :raises ValueError: a line is neither 64 hexadecimal digits nor a
        comment; the text names the line.
    """
    found = set()
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip().replace(":", "").lower()
        if not text:
            continue
        if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
            raise ValueError(
                f"line {number}: expected the SHA-256 of a public key in "
                "hexadecimal"
            )
        found.add(text)
    return frozenset(found)


def check_key(key: PublicKey, rules: KeyRules) -> None:
    """
    Refuse a key that is weak, blocked or in a form that is not on the list.

    :raises UnsupportedAlgorithm: saying what is wrong with the key.
    """
    form = _FORMS.get(key.algorithm)
    if form is not None:
        prefix, length = form
        if len(key.spki) != length or not key.spki.startswith(prefix):
            raise UnsupportedAlgorithm(
                f"the {key.algorithm} key is not in its standard form (named "
                "curve, uncompressed point)"
            )
    elif key.algorithm == "rsa":
        problem = _rsa_problem(key, rules)
        if problem:
            raise UnsupportedAlgorithm(problem)
    else:
        kind = key.algorithm.removeprefix("other:")
        raise UnsupportedAlgorithm(f"keys of type {kind} are refused")
    if _fingerprint(key) in rules.blocked:
        raise UnsupportedAlgorithm("this public key is blocked")


#: rsaEncryption with NULL, as RFC 3279, section 2.3.1, demands; and without.
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")
_BARE_RSA = bytes.fromhex("300b06092a864886f70d010101")


def _fingerprint(key: PublicKey) -> str:
    """Return the fingerprint by which a key is blocked, however written."""
    # At 2048 bits and more the header of the outer SEQUENCE has four octets.
    if key.spki[4:17] != _BARE_RSA:
        return key.fingerprint
    return hashlib.sha256(der.sequence(_RSA, key.spki[17:])).hexdigest()


def _rsa_problem(key: PublicKey, rules: KeyRules) -> str:
    """Say what is wrong with an RSA key, or return nothing."""
    modulus = key.modulus
    bits = modulus.bit_length()
    if not RSA_BITS_MIN <= bits <= RSA_BITS_MAX:
        return (
            f"an RSA key of {bits} bits is refused; use {RSA_BITS_MIN} to "
            f"{RSA_BITS_MAX}"
        )
    if key.exponent != RSA_EXPONENT:
        return f"the RSA public exponent must be {RSA_EXPONENT}"
    if math.gcd(modulus, _PRIMORIAL) != 1:
        return "the RSA modulus has a small factor"
    if has_roca_fingerprint(modulus):
        return "the RSA key was made by a generator known to be broken (ROCA)"
    if has_close_factors(modulus):
        return "the two factors of the RSA modulus are too close"
    if is_power(modulus):
        return "the RSA modulus is a power"
    if rules.prime_test and is_prime(modulus):
        return "the RSA modulus is a prime"
    return ""


# --- arithmetic -------------------------------------------------------------


def _primes_below(limit: int) -> list[int]:
    """Return the primes below ``limit`` (the sieve of Eratosthenes)."""
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for number in range(2, math.isqrt(limit) + 1):
        if sieve[number]:
            step = range(number * number, limit, number)
            sieve[number * number :: number] = bytes(len(step))
    return [number for number in range(limit) if sieve[number]]


_PRIMES = _primes_below(2000)

#: The product of the small primes, 2 among them: one gcd tests for all.
#: EJBCA and Boulder stop below 752; the rest costs 5 microseconds.
_PRIMORIAL = math.prod(_PRIMES)


def _generated(prime: int) -> frozenset[int]:
    """Return the residues that 65537 generates modulo a prime."""
    residues = {1}
    power = RSA_EXPONENT % prime
    while power not in residues:
        residues.add(power)
        power = power * RSA_EXPONENT % prime
    return frozenset(residues)


#: The primes for which 65537 generates a proper subgroup only, and that
#: subgroup.  A random modulus lies in all of them once in 2**27 times.
_ROCA_MARKS = tuple(
    (prime, residues)
    for prime in _PRIMES[2:39]  # 5 to 167
    if len(residues := _generated(prime)) < prime - 1
)
_ROCA_PRODUCT = math.prod(prime for prime, _ in _ROCA_MARKS)


def has_roca_fingerprint(modulus: int) -> bool:
    """Tell whether a modulus is of the form that CVE-2017-15361 describes."""
    rest = modulus % _ROCA_PRODUCT
    return all(rest % prime in residues for prime, residues in _ROCA_MARKS)


def _squares(modulus: int) -> bytes:
    """Return a table: 1 where an index is a square modulo ``modulus``."""
    table = bytearray(modulus)
    for number in range(modulus):
        table[number * number % modulus] = 1
    return bytes(table)


# Two sieves for squares, 64 * 9 and 5 * 7 * 11 * 13: of random numbers one
# in 120 passes both, so that hardly any round needs a square root.
_SIEVE_A, _SIEVE_B = 576, 5005
_SQUARES_A, _SQUARES_B = _squares(_SIEVE_A), _squares(_SIEVE_B)


def has_close_factors(modulus: int, rounds: int = FERMAT_ROUNDS) -> bool:
    """
    Tell whether Fermat's method factors an odd modulus within ``rounds``.

    It looks for the middle ``a`` of the two factors, from the square root
    upwards, at which ``a * a - modulus`` is a square.  A square modulus is
    found in the first round.
    """
    middle = math.isqrt(modulus)
    if middle * middle == modulus:
        return True
    middle += 1
    rest = middle * middle - modulus
    rest_a, rest_b = rest % _SIEVE_A, rest % _SIEVE_B
    step_a = (2 * middle + 1) % _SIEVE_A
    step_b = (2 * middle + 1) % _SIEVE_B
    for turn in range(rounds):
        if _SQUARES_A[rest_a] and _SQUARES_B[rest_b]:
            candidate = (middle + turn) ** 2 - modulus
            if math.isqrt(candidate) ** 2 == candidate:
                return True
        rest_a = (rest_a + step_a) % _SIEVE_A
        rest_b = (rest_b + step_b) % _SIEVE_B
        step_a += 2
        step_b += 2
    return False


def _exponent_sieves() -> tuple[tuple[int, tuple[tuple[int, int], ...]], ...]:
    """
    Return, for each odd prime exponent, two tests that its powers pass.

    Modulo a prime ``q`` with ``q = 1 (mod k)``, a number is a k-th power
    only if its power ``(q - 1) / k`` is 1; of others one in ``k`` passes.
    """
    # Without factors below 2000 a modulus of 8192 bits is at most a 747th
    # power.  More tests for the small exponents, whose powers are denser.
    sieve = _primes_below(30000)
    found = []
    for exponent in _PRIMES[1:133]:
        suited = (prime for prime in sieve if prime % exponent == 1)
        tests = islice(suited, 6 if exponent < 8 else 2)
        found.append(
            (exponent, tuple((q, (q - 1) // exponent) for q in tests))
        )
    return tuple(found)


_POWER_SIEVES = _exponent_sieves()


def is_power(modulus: int) -> bool:
    """
    Tell whether a modulus is a perfect power with an odd exponent.

    Squares are found by :func:`has_close_factors`.  Presumes that there is
    no prime factor below 2000.
    """
    longest = modulus.bit_length() // 10
    for exponent, sieve in _POWER_SIEVES:
        if exponent > longest:
            return False
        for prime, power in sieve:
            if pow(modulus % prime, power, prime) > 1:
                break
        else:
            if _root(modulus, exponent) ** exponent == modulus:
                return True
    return False


def _root(number: int, exponent: int) -> int:
    """Return the integer root, rounded down (Newton's method)."""
    guess = 1 << -(-number.bit_length() // exponent)
    while True:
        better = (
            (exponent - 1) * guess + number // guess ** (exponent - 1)
        ) // exponent
        if better >= guess:
            return guess
        guess = better


#: OpenSSL takes a public exponent of any length up to this modulus size.
_LONG_EXPONENT_BITS = 3072


def is_prime(modulus: int) -> bool:
    """
    Tell whether an odd modulus is (very probably) a prime.

    By Fermat's little theorem: for a prime ``n`` and any ``x``, ``x`` to the
    power ``n - 2`` is the inverse of ``x``.  So the inverse of a padded
    message would be its signature under the exponent ``n - 2``; OpenSSL
    checks that nine times faster than :func:`pow` can.
    """
    bits = modulus.bit_length()
    if bits > _LONG_EXPONENT_BITS:
        return pow(2, modulus - 1, modulus) == 1
    octets = (bits + 7) // 8
    signature = pow(_padded(octets), -1, modulus).to_bytes(octets, "big")
    key = rsa.RSAPublicNumbers(modulus - 2, modulus).public_key()
    try:
        key.verify(
            signature,
            bytes(32),
            padding.PKCS1v15(),
            Prehashed(hashes.SHA256()),
        )
    except InvalidSignature:
        return False
    return True


def _padded(octets: int) -> int:
    """Return a digest of zeros, encoded as RFC 8017, section 9.2, says."""
    digest = bytes.fromhex("3031300d060960864801650304020105000420")
    tail = b"\0" + digest + bytes(32)
    filling = b"\xff" * (octets - len(tail) - 2)
    return int.from_bytes(b"\0\1" + filling + tail, "big")


def require_affordable(key: PublicKey) -> None:
    """
    Refuse a key with which a signature costs more to verify than usual.

    Whether a key is too weak to be certified is for the profile to say.

    :raises UnsupportedAlgorithm: saying what is wrong with it.
    """
    if key.algorithm == "rsa":
        if not RSA_BITS_MIN <= key.bits <= RSA_BITS_MAX:
            raise UnsupportedAlgorithm(
                f"an RSA key of {key.bits} bits is refused; use "
                f"{RSA_BITS_MIN} to {RSA_BITS_MAX}"
            )
        if key.exponent != RSA_EXPONENT:
            raise UnsupportedAlgorithm(
                f"the RSA public exponent must be {RSA_EXPONENT}"
            )
    elif key.algorithm not in ALGORITHMS:
        kind = key.algorithm.removeprefix("other:")
        raise UnsupportedAlgorithm(f"keys of type {kind} are refused")
