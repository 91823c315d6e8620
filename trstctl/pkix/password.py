# SPDX-License-Identifier: MIT
"""
CMS PasswordRecipientInfo (RFC 5652, section 6.2.4; RFC 3211).

A key-encryption key comes from the password by PBKDF2 (RFC 8018, section
5.2, with HMAC of SHA-1, SHA-256, SHA-384 or SHA-512) and wraps the content's
key with one of the ciphers of :mod:`trstctl.pkix.encryption`, twice over.
Refused: other derivations, keys from outside (no derivation), a salt of
less than 8 octets (RFC 8018, section 4.1), huge iteration counts.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping

from attrs import field, frozen
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from trstctl.errors import Malformed, TooLarge, UnsupportedAlgorithm
from trstctl.pkix import der
from trstctl.pkix.encryption import (
    KEY_WRAPS,
    ContentCipher,
    content_cipher,
    read_cipher,
)

#: More PBKDF2 iterations are refused before any: this many take 50 ms.
MAX_ITERATIONS = 100_000
MAX_SALT_OCTETS = 64
MIN_SALT_OCTETS = 8
_MAX_WRAPPED_OCTETS = 64

_PBKDF2 = der.oid("1.2.840.113549.1.5.12")
_PWRI_KEK = der.oid("1.2.840.113549.1.9.16.3.9")
_PRFS: Mapping[str, bytes] = {
    "sha1": der.oid("1.2.840.113549.2.7"),
    "sha256": der.oid("1.2.840.113549.2.9"),
    "sha384": der.oid("1.2.840.113549.2.10"),
    "sha512": der.oid("1.2.840.113549.2.11"),
}
_NULL = b"\x05\x00"
_PRF_DIGESTS: Mapping[bytes, str] = {
    der.sequence(prf, null): digest
    for digest, prf in _PRFS.items()
    for null in (_NULL, b"")
}
_DERIVATION_TAG = 0xA0


@frozen
class PasswordRecipient:
    """
    A content-encryption key under a password.

    :ivar digest: of the HMAC in PBKDF2.
    :ivar cipher: a name of :mod:`trstctl.pkix.encryption` that we have.
    """

    digest: str
    salt: bytes
    iterations: int
    cipher: str
    iv: bytes
    encrypted_key: bytes = field(repr=False)

    def unwrap(self, password: bytes) -> bytes | None:
        """
        Return the content-encryption key (RFC 3211, section 2.3.2).

        Takes as long as the iterations say, up to 50 ms, without the GIL:
        call it in a thread.

        :param password: secret; UTF-8.
        :returns: ``None`` if it does not unwrap.  Whoever asked must go on
            with a random key then (RFC 3218, section 2.3.2).
        """
        cipher = content_cipher(self.cipher)
        key = hashlib.pbkdf2_hmac(
            self.digest, password, self.salt, self.iterations, cipher.key_size
        )
        wrapped, size = self.encrypted_key, cipher.block_size
        # The second pass began with the last block of the first one.
        last = cipher.decrypt(key, wrapped[-2 * size : -size], wrapped[-size:])
        once = cipher.decrypt(key, last, wrapped)
        plain = cipher.decrypt(key, self.iv, once)
        length = plain[0]
        check = bytes(octet ^ 0xFF for octet in plain[4:7])
        if not hmac.compare_digest(check, plain[1:4]):
            return None
        return plain[4 : 4 + length] if length <= len(plain) - 4 else None


def read_password_recipient(content: bytes) -> PasswordRecipient:
    """
    Read the content octets of a PasswordRecipientInfo.

    :raises Malformed: they are none.
    :raises TooLarge: too many iterations.
    :raises UnsupportedAlgorithm: one that we do not have.
    """
    parts = der.children(content)
    if [part[0] for part in parts] != [
        der.INTEGER,
        _DERIVATION_TAG,
        der.SEQUENCE,
        der.OCTET_STRING,
    ] or parts[0][2] != der.integer(0):
        raise Malformed("a recipient with a password is malformed")
    kek, parameters = der.children(parts[2][1])
    if kek[2] != _PWRI_KEK:
        raise UnsupportedAlgorithm
    name, iv = read_cipher(parameters[2])
    cipher = content_cipher(name)
    wrapped = parts[3][1]
    # RFC 3211, section 2.3.1: at least two blocks.
    if (
        not 2 * cipher.block_size <= len(wrapped) <= _MAX_WRAPPED_OCTETS
        or len(wrapped) % cipher.block_size
    ):
        raise Malformed("a recipient with a password is malformed")
    digest, salt, iterations = _read_derivation(parts[1][1], cipher.key_size)
    return PasswordRecipient(digest, salt, iterations, name, iv, wrapped)


def _read_derivation(
    identifier: bytes, key_size: int
) -> tuple[str, bytes, int]:
    """Read PBKDF2-params (RFC 8018, appendix A.2)."""
    kind, parameters = der.children(identifier)
    if kind[2] != _PBKDF2:
        raise UnsupportedAlgorithm
    salt, iterations, *optional = der.children(
        der.content(parameters[2], der.SEQUENCE)
    )
    if salt[0] != der.OCTET_STRING or iterations[0] != der.INTEGER:
        raise Malformed("a recipient with a password is malformed")
    if optional and optional[0][2] == der.integer(key_size):
        del optional[0]
    digest = "sha1"
    if optional:
        (prf,) = optional
        if prf[2] not in _PRF_DIGESTS:
            raise UnsupportedAlgorithm
        digest = _PRF_DIGESTS[prf[2]]
    count = int.from_bytes(iterations[1], "big", signed=True)
    if count > MAX_ITERATIONS:
        raise TooLarge("a password with too many iterations")
    if count < 1 or not MIN_SALT_OCTETS <= len(salt[1]) <= MAX_SALT_OCTETS:
        raise Malformed("a recipient with a password is malformed")
    return digest, salt[1], count


def wrap_for_password(
    key: bytes,
    password: bytes,
    *,
    cipher: str,
    iterations: int,
    random_bytes: Callable[[int], bytes],
    aes_wrap: bool = False,
) -> bytes:
    """
    Return a PasswordRecipientInfo that holds ``key``.

    PBKDF2 with HMAC of SHA-256 and a salt of 16 octets; see
    :meth:`PasswordRecipient.unwrap` for what it costs.

    :param cipher: a name of :mod:`trstctl.pkix.encryption`.
    :param aes_wrap: wrap the key by RFC 3394 (RFC 9481, section 4.3.1), with
        a key as long as the cipher's; else by RFC 3211 with the cipher.
    :raises UnsupportedAlgorithm: no such cipher.
    """
    chosen = content_cipher(cipher)
    salt = random_bytes(16)
    kek = hashlib.pbkdf2_hmac(
        "sha256", password, salt, iterations, chosen.key_size
    )
    if aes_wrap:
        algorithm, wrapped = KEY_WRAPS[len(kek)], aes_key_wrap(kek, key)
    else:
        algorithm, wrapped = _wrap(key, kek, chosen, random_bytes)
    derivation = _PBKDF2 + der.sequence(
        der.octet_string(salt),
        der.integer(iterations),
        der.sequence(_PRFS["sha256"], _NULL),
    )
    return der.tlv(
        0xA3,
        der.integer(0)
        + der.tlv(_DERIVATION_TAG, derivation)
        + algorithm
        + der.octet_string(wrapped),
    )


def _wrap(
    key: bytes,
    kek: bytes,
    chosen: ContentCipher,
    random_bytes: Callable[[int], bytes],
) -> tuple[bytes, bytes]:
    """Return id-alg-PWRI-KEK with its cipher, and the wrapped key."""
    size = chosen.block_size
    iv = random_bytes(size)
    # RFC 3211, section 2.3.1: length, check value, key, random padding to
    # at least two whole blocks; encrypted twice in one chain.
    check = bytes(octet ^ 0xFF for octet in key[:3])
    plain = bytes((len(key),)) + check + key
    plain += random_bytes(max(2 * size - len(plain), -len(plain) % size))
    once = chosen.encrypt(kek, iv, plain)
    wrapped = chosen.encrypt(kek, once[-size:], once)
    return der.sequence(_PWRI_KEK, chosen.identifier(iv)), wrapped
