# SPDX-License-Identifier: MIT
"""
What CMS encrypts with: ciphers for contents, schemes for their keys.

Ciphers (RFC 3565, RFC 3370): AES-128, AES-192, AES-256 and triple DES in
CBC mode.  DES and RC2 have a name only, so that they can be refused by it.
Their keys are wrapped, where they are, by AES (RFC 3565, section 2.3).

Schemes (RFC 3370, RFC 3560, RFC 4055): RSAES-PKCS1-v1_5 and RSAES-OAEP with
SHA-1, SHA-256, SHA-384 or SHA-512, the same hash for MGF1, and an empty
label.  Other combinations have the name ``other:<oid>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from attrs import frozen
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from trstctl.errors import Malformed, UnsupportedAlgorithm
from trstctl.pkix import der
from trstctl.pkix.algorithms import split_identifier

_NULL = b"\x05\x00"


@frozen
class ContentCipher:
    """
    A block cipher in CBC mode with the padding of RFC 5652, section 6.3.

    :ivar key_size: octets.
    :ivar block_size: octets, of the initialization vector, too.
    """

    name: str
    oid: str
    key_size: int
    block_size: int
    _algorithm: Any

    def identifier(self, iv: bytes) -> bytes:
        """Return the AlgorithmIdentifier."""
        return der.sequence(der.oid(self.oid), der.octet_string(iv))

    def decrypt(self, key: bytes, iv: bytes, octets: bytes) -> bytes:
        """Decrypt whole blocks; the padding stays on."""
        cipher = Cipher(self._algorithm(key), modes.CBC(iv)).decryptor()
        return cipher.update(octets) + cipher.finalize()

    def encrypt(self, key: bytes, iv: bytes, octets: bytes) -> bytes:
        """Encrypt whole blocks."""
        cipher = Cipher(self._algorithm(key), modes.CBC(iv)).encryptor()
        return cipher.update(octets) + cipher.finalize()

    def pad(self, octets: bytes) -> bytes:
        """Add the padding (RFC 5652, section 6.3)."""
        count = self.block_size - len(octets) % self.block_size
        return octets + bytes((count,)) * count

    def padding_of(self, plaintext: bytes) -> bytes:
        """
        Return what the plaintext ends with if it is padded as its last
        octet says; something else if that is not possible.
        """
        return _PADDINGS[self.block_size][plaintext[-1]]


# For each last octet the whole padding.  For one that cannot be a last octet
# a block that ends otherwise, so that comparing costs no less.
_PADDINGS: Mapping[int, tuple[bytes, ...]] = {
    size: tuple(
        bytes((last,)) * last
        if 0 < last <= size
        else bytes((last ^ 0xFF,)) * size
        for last in range(256)
    )
    for size in (8, 16)
}

#: Every cipher that we use, by name.
CIPHERS: Mapping[str, ContentCipher] = {
    name: ContentCipher(name, oid, key_size, block_size, algorithm)
    for name, oid, key_size, block_size, algorithm in (
        ("aes-128-cbc", "2.16.840.1.101.3.4.1.2", 16, 16, AES),
        ("aes-192-cbc", "2.16.840.1.101.3.4.1.22", 24, 16, AES),
        ("aes-256-cbc", "2.16.840.1.101.3.4.1.42", 32, 16, AES),
        ("des-ede3-cbc", "1.2.840.113549.3.7", 24, 8, TripleDES),
    )
}
_NAMES: Mapping[str, str] = {
    "1.3.14.3.2.7": "des-cbc",
    "1.2.840.113549.3.2": "rc2-cbc",
    **{cipher.oid: name for name, cipher in CIPHERS.items()},
}


def content_cipher(name: str) -> ContentCipher:
    """
    Return the cipher of this name.

    :raises UnsupportedAlgorithm: we have none; the detail repeats the name.
    """
    try:
        return CIPHERS[name]
    except KeyError:
        raise UnsupportedAlgorithm(
            f"the message is encrypted with {name}"
        ) from None


def read_cipher(identifier: bytes) -> tuple[str, bytes]:
    """
    Read an AlgorithmIdentifier of a cipher.

    :returns: its name, ``des-cbc``, ``rc2-cbc`` or ``other:<oid>`` if we do
        not have it, and its initialization vector, if we do.
    :raises Malformed: it is none, or the vector is not a block.
    """
    oid, parameters = split_identifier(identifier)
    name = _NAMES.get(oid, f"other:{oid}")
    if name not in CIPHERS:
        return name, b""
    iv = der.content(parameters, der.OCTET_STRING)
    if len(iv) != CIPHERS[name].block_size:
        raise Malformed("an initialization vector is not one block")
    return name, iv


#: AES key wrap (RFC 3394), by the octets of the key that wraps: its
#: AlgorithmIdentifier, without parameters (RFC 3565, section 2.3.2).
KEY_WRAPS: Mapping[int, bytes] = {
    16: der.sequence(der.oid("2.16.840.1.101.3.4.1.5")),
    24: der.sequence(der.oid("2.16.840.1.101.3.4.1.25")),
    32: der.sequence(der.oid("2.16.840.1.101.3.4.1.45")),
}


# --- key transport ----------------------------------------------------------

PKCS1 = "rsaes-pkcs1-v1.5"
_OAEP = "1.2.840.113549.1.1.7"
_MGF1 = der.oid("1.2.840.113549.1.1.8")
_EMPTY_LABEL = der.sequence(
    der.oid("1.2.840.113549.1.1.9"), der.octet_string(b"")
)
_RSA_ENCRYPTION = der.oid("1.2.840.113549.1.1.1")
_HASHES: Mapping[str, tuple[hashes.HashAlgorithm, str]] = {
    "sha1": (hashes.SHA1(), "1.3.14.3.2.26"),  # noqa: S303  fine in OAEP
    "sha256": (hashes.SHA256(), "2.16.840.1.101.3.4.2.1"),
    "sha384": (hashes.SHA384(), "2.16.840.1.101.3.4.2.2"),
    "sha512": (hashes.SHA512(), "2.16.840.1.101.3.4.2.3"),
}


def _oaep_identifiers() -> dict[bytes, str]:
    """
    Map each accepted RSAES-OAEP identifier to its scheme.

    RFC 4055, section 4.1: the parameters MUST be there.  A hash may have
    NULL parameters or none, and defaults may be spelt out: BER is common.
    The first of each scheme is the one that we write.
    """
    found = {}
    for digest, (_, oid) in _HASHES.items():
        spelt = [der.sequence(der.oid(oid), null) for null in (_NULL, b"")]
        digests = [der.explicit(0, each) for each in spelt]
        masks = [der.explicit(1, der.sequence(_MGF1, each)) for each in spelt]
        if digest == "sha1":
            digests.insert(0, b"")
            masks.insert(0, b"")
        labels = (b"", der.explicit(2, _EMPTY_LABEL))
        for parameters in product(labels, digests, masks):
            label, hashed, mask = parameters
            identifier = der.sequence(
                der.oid(_OAEP), der.sequence(hashed, mask, label)
            )
            found[identifier] = f"rsaes-oaep-{digest}"
    return found


_SCHEMES: Mapping[bytes, str] = {
    # RFC 3370, section 4.2.1: NULL MUST be there; not everybody knows.
    der.sequence(_RSA_ENCRYPTION, _NULL): PKCS1,
    der.sequence(_RSA_ENCRYPTION): PKCS1,
    **_oaep_identifiers(),
}
_SCHEME_IDENTIFIERS: Mapping[str, bytes] = {
    scheme: identifier
    for identifier, scheme in reversed(list(_SCHEMES.items()))
}
_PADDING: Mapping[str, padding.AsymmetricPadding] = {
    PKCS1: padding.PKCS1v15(),
    **{
        f"rsaes-oaep-{digest}": padding.OAEP(
            padding.MGF1(algorithm), algorithm, None
        )
        for digest, (algorithm, _) in _HASHES.items()
    },
}

#: Every scheme that transports a key, by name.
SCHEMES: tuple[str, ...] = tuple(_PADDING)


def read_scheme(identifier: bytes) -> str:
    """
    Name an AlgorithmIdentifier of a key transport scheme.

    :returns: one of :data:`SCHEMES`, or ``other:<oid>``.
    :raises Malformed: it is none.
    """
    known = _SCHEMES.get(identifier)
    return (
        known
        if known is not None
        else f"other:{split_identifier(identifier)[0]}"
    )


def scheme_identifier(scheme: str) -> bytes:
    """
    Return the AlgorithmIdentifier of a scheme.

    :raises UnsupportedAlgorithm: no such scheme.
    """
    try:
        return _SCHEME_IDENTIFIERS[scheme]
    except KeyError:
        raise UnsupportedAlgorithm from None


def scheme_padding(scheme: str) -> padding.AsymmetricPadding:
    """
    Return a scheme as the library's RSA keys take it.

    :raises UnsupportedAlgorithm: no such scheme.
    """
    try:
        return _PADDING[scheme]
    except KeyError:
        raise UnsupportedAlgorithm(
            "the message's key is encrypted with an unsupported algorithm"
        ) from None


def encrypt_key(spki: bytes, scheme: str, key: bytes) -> bytes:
    """
    Encrypt a key to an RSA key, with the library's own randomness.

    :raises UnsupportedAlgorithm: no such scheme, or no RSA key that takes
        so much with it.
    """
    chosen = scheme_padding(scheme)
    try:
        public_key = serialization.load_der_public_key(spki)
        if isinstance(public_key, rsa.RSAPublicKey):
            return public_key.encrypt(key, chosen)
    except Exception as error:
        raise UnsupportedAlgorithm("the key cannot encrypt") from error
    raise UnsupportedAlgorithm("the key cannot encrypt")
