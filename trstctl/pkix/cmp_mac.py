# SPDX-License-Identifier: MIT
"""
The message authentication codes that protect a PKIMessage (RFC 9481, 6.2).

HMAC of SHA-1 and SHA-2, which take keys of any length, and AES-GMAC (RFC
9044), whose keys have one.  Where the keys come from is for
:mod:`trstctl.pkix.cmp_protection` to say.  SHA-1 is no weakness in an HMAC,
and many clients have nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping

from attrs import evolve, frozen
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trstctl.errors import Malformed
from trstctl.pkix import der

_NULL = b"\x05\x00"

#: HMACs by the name of their digest.
HMACS: Mapping[str, str] = {
    "sha1": "1.2.840.113549.2.7",
    "sha224": "1.2.840.113549.2.8",
    "sha256": "1.2.840.113549.2.9",
    "sha384": "1.2.840.113549.2.10",
    "sha512": "1.2.840.113549.2.11",
}
HMAC_SHA1 = "1.3.6.1.5.5.8.1.2"  # as RFC 4211 calls the same
GMACS: Mapping[str, int] = {
    # RFC 9044, section 3: octets of the key
    "2.16.840.1.101.3.4.1.9": 16,
    "2.16.840.1.101.3.4.1.29": 24,
    "2.16.840.1.101.3.4.1.49": 32,
}
HMAC_NAMES = {HMAC_SHA1: "sha1", **{o: n for n, o in HMACS.items()}}
_GMAC_LENGTHS = range(12, 17)
_MAX_NONCE_OCTETS = 64


@frozen
class MAC:
    """
    One algorithm for message authentication codes.

    :ivar name: ``hmac-<digest>`` or ``aes-<bits>-gmac``.
    :ivar identifier: DER AlgorithmIdentifier.
    :ivar key_size: octets that it requires; 0 if it takes any number.
    :ivar digest: of an HMAC, else empty.
    :ivar nonce: of a GMAC, else empty.
    :ivar length: octets of what it makes.
    """

    name: str
    identifier: bytes
    key_size: int
    digest: str = ""
    nonce: bytes = b""
    length: int = 0

    def compute(self, key: bytes, octets: bytes) -> bytes:
        """Return the code."""
        if self.digest:
            return hmac.digest(key, octets, self.digest)
        return AESGCM(key).encrypt(self.nonce, b"", octets)[: self.length]

    def renewed(self, random_bytes: Callable[[int], bytes]) -> MAC:
        """Return the same for another message under the same secret."""
        if not self.nonce:
            return self
        nonce = random_bytes(len(self.nonce))
        oid, _ = split_identifier(self.identifier)
        return evolve(
            self, nonce=nonce, identifier=_gmac(oid, nonce, self.length)
        )


def _gmac(oid: str, nonce: bytes, length: int) -> bytes:
    """Return the AlgorithmIdentifier of a GMAC (RFC 9044, section 3)."""
    # DER leaves the default out.
    size = b"" if length == _GMAC_LENGTHS[0] else der.integer(length)
    parameters = der.sequence(der.octet_string(nonce), size)
    return der.sequence(der.oid(oid), parameters)


def split_identifier(identifier: bytes) -> tuple[str, bytes]:
    """
    Return an AlgorithmIdentifier's OID and the DER of its parameters.

    :raises Malformed: it is none.
    """
    parts = der.children(der.content(identifier, der.SEQUENCE))
    if not 1 <= len(parts) <= 2 or parts[0][0] != der.OBJECT_IDENTIFIER:
        raise Malformed("an algorithm identifier is malformed")
    return der.oid_text(parts[0][1]), parts[1][2] if len(parts) > 1 else b""


def digest_name(identifier: bytes, names: Mapping[str, str]) -> str | None:
    """
    Name the digest of an AlgorithmIdentifier without parameters.

    :param names: by dotted identifier.
    :returns: ``None`` if it is another, or has parameters.
    :raises Malformed: it is none.
    """
    oid, parameters = split_identifier(identifier)
    return names.get(oid) if parameters in {b"", _NULL} else None


def read_mac(identifier: bytes) -> MAC | None:
    """
    Read the AlgorithmIdentifier of a MAC.

    :returns: ``None`` if we do not have it.
    :raises Malformed: it is none, or its parameters are not of their type.
    """
    digest = digest_name(identifier, HMAC_NAMES)
    if digest is not None:
        size = hashlib.new(digest).digest_size
        return MAC(f"hmac-{digest}", identifier, 0, digest, length=size)
    oid, parameters = split_identifier(identifier)
    key_size = GMACS.get(oid)
    if key_size is None:
        return None
    nonce, *size_of = der.children(der.content(parameters, der.SEQUENCE))
    length = int.from_bytes(size_of[0][1], "big") if size_of else 12
    if (
        nonce[0] != der.OCTET_STRING
        or [each[0] for each in size_of] not in ([], [der.INTEGER])
        or length not in _GMAC_LENGTHS
        or not 8 <= len(nonce[1]) <= _MAX_NONCE_OCTETS
    ):
        raise Malformed("the protection's parameters are malformed")
    return MAC(
        f"aes-{8 * key_size}-gmac",
        identifier,
        key_size,
        nonce=nonce[1],
        length=length,
    )
