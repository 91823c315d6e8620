# SPDX-License-Identifier: MIT
"""
What protects a PKIMessage (RFC 9810, section 5.1.3; RFC 9481).

:func:`read_protection` names the algorithm in protectionAlg and bounds what
it can cost, before any work.  There are three outcomes: a
:class:`SignatureProtection`, a MAC that has a key to be derived
(:class:`PasswordBasedMac`, :class:`PBMAC1`), or :class:`Unsupported`, which
still says whether it is a MAC, so that a message which must be signed can be
refused for not being so.

Deriving a MAC key takes as long as its iterations say, up to 50 ms: call
``derive`` in a thread.  With the key, computing and verifying are cheap.

Implemented: PasswordBasedMac (RFC 4211, section 4.4; RFC 9045) with SHA-1,
SHA-2 and HMAC of them; PBMAC1 (RFC 8018, section 7.1) with PBKDF2 and HMAC
of the same; AES-GMAC (RFC 9044) as MAC of either; the signatures of
:mod:`trstctl.pkix.algorithms`.  SHA-1 is no weakness in either place, and
many clients have nothing else.  Named only: DHBasedMac, KemBasedMac, bare
HMACs, KMAC, and what else there may be.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Self

from attrs import evolve, field, frozen

from trstctl.errors import Malformed, RequestError
from trstctl.pkix import algorithms, der
from trstctl.pkix.cmp_mac import (
    GMACS,
    HMAC_NAMES,
    HMAC_SHA1,
    HMACS,
    MAC,
    digest_name,
    read_mac,
    split_identifier,
)

#: Fewer iterations are refused (RFC 4211, section 4.4), and so are more.
MIN_ITERATIONS = 100
MAX_ITERATIONS = 100_000
MAX_SALT_OCTETS = 128
SALT_OCTETS = 16
_MIN_KEY_OCTETS = 16
_MAX_KEY_OCTETS = 128

_NULL = b"\x05\x00"

_DIGESTS: Mapping[str, str] = {
    "sha1": "1.3.14.3.2.26",
    "sha224": "2.16.840.1.101.3.4.2.4",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
_PASSWORD_BASED_MAC = "1.2.840.113533.7.66.13"  # noqa: S105  an OID
_PBMAC1 = "1.2.840.113549.1.5.14"
_PBKDF2 = "1.2.840.113549.1.5.12"
# BouncyCastle 1.72 writes id-PBES2 where PBKDF2 belongs, with its parameters.
_PBKDF2_AS_WRITTEN = frozenset((_PBKDF2, "1.2.840.113549.1.5.13"))
_OTHER_MACS: Mapping[str, str] = {
    "1.2.840.113533.7.66.30": "DHBasedMac",
    "1.2.840.113533.7.66.16": "KemBasedMac",
    HMAC_SHA1: "hmac-sha1",
    **{oid: f"hmac-{digest}" for digest, oid in HMACS.items()},
    "2.16.840.1.101.3.4.2.19": "kmac128",
    "2.16.840.1.101.3.4.2.20": "kmac256",
    "2.16.840.1.101.3.4.2.13": "hmac-sha3-224",
    "2.16.840.1.101.3.4.2.14": "hmac-sha3-256",
    "2.16.840.1.101.3.4.2.15": "hmac-sha3-384",
    "2.16.840.1.101.3.4.2.16": "hmac-sha3-512",
    **{oid: f"aes-{8 * size}-gmac" for oid, size in GMACS.items()},
}
_DIGEST_NAMES = {oid: name for name, oid in _DIGESTS.items()}


@frozen
class _SharedSecret:
    """
    A MAC whose key comes from a shared secret.

    :ivar digest: name of the hash that the key is derived with.
    """

    digest: str
    salt: bytes
    iterations: int
    mac: MAC

    def compute(self, key: bytes, protected_part: bytes) -> bytes:
        """
        Return the protection.

        :param key: what :meth:`derive` returned; secret.
        """
        return self.mac.compute(key, protected_part)

    def verify(
        self, key: bytes, protected_part: bytes, protection: bytes
    ) -> bool:
        """Tell whether the protection is right, in constant time."""
        return hmac.compare_digest(
            self.mac.compute(key, protected_part), protection
        )

    def renewed(self, random_bytes: Callable[[int], bytes]) -> Self:
        """
        Return the same technique with a salt (and nonce) of our own.

        :param random_bytes: a cryptographically secure source.
        """
        return evolve(
            self,
            salt=random_bytes(SALT_OCTETS),
            mac=self.mac.renewed(random_bytes),
        )


@frozen
class PasswordBasedMac(_SharedSecret):
    """
    PasswordBasedMac (RFC 9810, section 5.1.3.1).

    :ivar owf: DER AlgorithmIdentifier of the digest.
    """

    owf: bytes = field(repr=False)

    def derive(self, secret: bytes) -> bytes:
        """
        Return the MAC key: up to 50 ms, holding the GIL all the time.

        :param secret: UTF-8.
        """
        digest = getattr(hashlib, self.digest)
        key: bytes = secret + self.salt
        for _ in range(self.iterations):
            key = digest(key).digest()
        size = self.mac.key_size
        if not size:  # HMAC takes the whole, whatever its length
            return key
        # RFC 9810, section 5.1.3.1: BASEKEY, then OWF("1" || BASEKEY), ...
        expanded, number = key, 1
        while len(expanded) < size:
            expanded += digest(b"%d" % number + key).digest()
            number += 1
        return expanded[:size]

    def der(self) -> bytes:
        """Return the AlgorithmIdentifier."""
        return der.sequence(
            der.oid(_PASSWORD_BASED_MAC),
            der.sequence(
                der.octet_string(self.salt),
                self.owf,
                der.integer(self.iterations),
                self.mac.identifier,
            ),
        )


@frozen
class PBMAC1(_SharedSecret):
    """
    PBMAC1 with PBKDF2 (RFC 8018, section 7.1 and appendix A.5).

    :ivar key_length: octets.
    :ivar kdf: dotted identifier of PBKDF2, as the other end writes it.
    :ivar prf: DER AlgorithmIdentifier of the HMAC that the key is derived
        with, likewise; empty: as RFC 8018 writes it.
    """

    key_length: int
    kdf: str = _PBKDF2
    prf: bytes = field(default=b"", repr=False)

    def derive(self, secret: bytes) -> bytes:
        """
        Return the MAC key: up to 50 ms, without the GIL.

        :param secret: UTF-8.
        """
        return hashlib.pbkdf2_hmac(
            self.digest, secret, self.salt, self.iterations, self.key_length
        )

    def der(self) -> bytes:
        """Return the AlgorithmIdentifier."""
        # The default PRF, hmacWithSHA1, is left out in DER.
        prf = self.prf or der.sequence(der.oid(HMACS[self.digest]), _NULL)
        derivation = der.sequence(
            der.octet_string(self.salt),
            der.integer(self.iterations),
            der.integer(self.key_length),
            b"" if self.digest == "sha1" else prf,
        )
        return der.sequence(
            der.oid(_PBMAC1),
            der.sequence(
                der.sequence(der.oid(self.kdf), derivation),
                self.mac.identifier,
            ),
        )


@frozen
class SignatureProtection:
    """
    A signature.

    :ivar algorithm: one of :data:`trstctl.pkix.algorithms.ALGORITHMS`.
    """

    algorithm: str

    def verify(
        self, spki: bytes, protected_part: bytes, protection: bytes
    ) -> bool:
        """
        Tell whether the signature verifies with a key.

        Costs what the key makes it cost: judge the key first.
        """
        return algorithms.verify(
            spki, self.algorithm, protection, protected_part
        )

    def der(self) -> bytes:
        """Return the AlgorithmIdentifier."""
        return algorithms.algorithm_identifier(self.algorithm)


@frozen
class Unsupported:
    """
    An algorithm that we do not have, or not with these parameters.

    :ivar name: what to call it; fit for the peer.
    :ivar is_mac: whether it is a MAC rather than a signature.
    """

    name: str
    is_mac: bool


Protection = PasswordBasedMac | PBMAC1 | SignatureProtection | Unsupported


def read_protection(identifier: bytes) -> Protection:
    """
    Name and bound what protects a message.

    :param identifier: DER AlgorithmIdentifier, already seen by
        :func:`trstctl.pkix.der.check`.
    :raises Malformed: it is none, or its parameters are not of their type.
    """
    try:
        return _read(identifier)
    except RequestError:
        raise
    except Exception as error:
        raise Malformed("the protection's parameters are malformed") from error


def _read(identifier: bytes) -> Protection:
    """Name what protects a message; may fail with any exception."""
    oid, parameters = split_identifier(identifier)
    if oid == _PASSWORD_BASED_MAC:
        return _read_password_based_mac(parameters)
    if oid == _PBMAC1:
        return _read_pbmac1(parameters)
    if oid in _OTHER_MACS:
        return Unsupported(_OTHER_MACS[oid], is_mac=True)
    name, digest, _ = algorithms.read_algorithm_identifier(identifier)
    if name in algorithms.ALGORITHMS:
        return SignatureProtection(name)
    return Unsupported(digest, is_mac=False)


def _read_fields(
    parameters: bytes, *tags: int
) -> list[tuple[int, bytes, bytes]]:
    """Return the parts of a SEQUENCE that must have these tags."""
    parts = der.children(der.content(parameters, der.SEQUENCE))
    if [part[0] for part in parts] != list(tags):
        raise Malformed("the protection's parameters are malformed")
    return parts


def _unsupported(name: str, fault: str) -> Unsupported:
    """Return a MAC that cannot be used like this."""
    return Unsupported(f"{name} with {fault}", is_mac=True)


def _bounded(name: str, salt: bytes, iterations: bytes) -> Unsupported | int:
    """Return the number of iterations, if it is within the bounds."""
    count = int.from_bytes(iterations, "big", signed=True)
    if not MIN_ITERATIONS <= count <= MAX_ITERATIONS:
        return _unsupported(name, "too few or too many iterations")
    if not 0 < len(salt) <= MAX_SALT_OCTETS:
        return _unsupported(name, "a salt that is empty or too long")
    return count


def _read_password_based_mac(parameters: bytes) -> Protection:
    """Read PBMParameter (RFC 4211, section 4.4)."""
    name = "PasswordBasedMac"
    salt, owf, iterations, identifier = _read_fields(
        parameters, der.OCTET_STRING, der.SEQUENCE, der.INTEGER, der.SEQUENCE
    )
    digest = digest_name(owf[2], _DIGEST_NAMES)
    if digest is None:
        return _unsupported(name, f"algorithm {split_identifier(owf[2])[0]}")
    mac = read_mac(identifier[2])
    if mac is None:
        return _unsupported(
            name, f"algorithm {split_identifier(identifier[2])[0]}"
        )
    count = _bounded(name, salt[1], iterations[1])
    if isinstance(count, Unsupported):
        return count
    return PasswordBasedMac(digest, salt[1], count, mac, owf[2])


def _read_pbmac1(parameters: bytes) -> Protection:
    """Read PBMAC1-params (RFC 8018, appendix A.5)."""
    derivation, identifier = _read_fields(
        parameters, der.SEQUENCE, der.SEQUENCE
    )
    oid, options = split_identifier(derivation[2])
    if oid not in _PBKDF2_AS_WRITTEN:
        return _unsupported("PBMAC1", f"algorithm {oid}")
    salt, iterations, *optional = der.children(
        der.content(options, der.SEQUENCE)
    )
    found = der.fields(optional, bytes((der.INTEGER, der.SEQUENCE)))
    if iterations[0] != der.INTEGER or salt[0] not in {
        der.OCTET_STRING,
        der.SEQUENCE,  # otherSource, which nobody has defined
    }:
        raise Malformed("the protection's parameters are malformed")
    if salt[0] != der.OCTET_STRING:
        return _unsupported("PBMAC1", "a salt from elsewhere")
    prf = found.get(der.SEQUENCE)
    written = b"" if prf is None else der.tlv(der.SEQUENCE, prf)
    # Appendix A.2 has the default.
    digest = digest_name(written, HMAC_NAMES) if written else "sha1"
    mac = read_mac(identifier[2])
    if digest is None or mac is None:
        return _unsupported("PBMAC1", "an unknown algorithm")
    # A MAC takes keys of many lengths: PBMAC1 has to say which.
    length = int.from_bytes(found.get(der.INTEGER, b""), "big", signed=True)
    if (mac.key_size and length != mac.key_size) or not (
        _MIN_KEY_OCTETS <= length <= _MAX_KEY_OCTETS
    ):
        return _unsupported("PBMAC1", "no suitable length of key")
    count = _bounded("PBMAC1", salt[1], iterations[1])
    if isinstance(count, Unsupported):
        return count
    if digest == "sha1":
        written = b""
    return PBMAC1(digest, salt[1], count, mac, length, oid, written)
