# SPDX-License-Identifier: MIT
"""
CMS KeyAgreeRecipientInfo (RFC 5652, section 6.2.2; RFC 5753): to an EC key.

Ephemeral-static ECDH: a key made for this message agrees with the
recipient's on a secret (the standard primitive, not the cofactor one, which
is the same on these curves), from which the KDF of X9.63 makes a key that
wraps the content's key (AES key wrap, RFC 3394).  P-256 goes with SHA-256,
P-384 with SHA-384, P-521 with SHA-512.

Only writing: nobody sends such messages to a gateway.  X25519 and X448
(RFC 8418) are refused, as are content ciphers other than AES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)

from trstctl.errors import UnsupportedAlgorithm
from trstctl.pkix import der
from trstctl.pkix.cms import (
    DATA,
    issuer_and_serial,
    key_identifier,
    subject_public_key,
)
from trstctl.pkix.encryption import CIPHERS, KEY_WRAPS, content_cipher
from trstctl.pkix.enveloping import enveloped_data

_EC_PUBLIC_KEY = der.sequence(der.oid("1.2.840.10045.2.1"))

# RFC 5753, section 7.1.4: dhSinglePass-stdDH-sha*kdf-scheme.
_SCHEMES: Mapping[str, tuple[hashes.HashAlgorithm, bytes]] = {
    "secp256r1": (hashes.SHA256(), der.oid("1.3.132.1.11.1")),
    "secp384r1": (hashes.SHA384(), der.oid("1.3.132.1.11.2")),
    "secp521r1": (hashes.SHA512(), der.oid("1.3.132.1.11.3")),
}
_WRAPS: Mapping[str, bytes] = {
    name: KEY_WRAPS[cipher.key_size]
    for name, cipher in CIPHERS.items()
    if name.startswith("aes-")
}
_RECIPIENT_TAG = 0xA1
_ORIGINATOR_KEY_TAG = 0xA1
_KEY_IDENTIFIER_TAG = 0xA0


def envelope_by_agreement(
    content: bytes,
    certificate: bytes,
    *,
    cipher: str,
    random_bytes: Callable[[int], bytes],
    content_type: str = DATA,
    by_key: bool = False,
) -> bytes:
    """
    Encrypt to the EC key of a certificate.

    The ephemeral key comes from the library's own randomness.

    :param content: of the content type.
    :param certificate: DER, already seen by :func:`trstctl.pkix.der.check`.
    :param cipher: ``aes-128-cbc``, ``aes-192-cbc`` or ``aes-256-cbc``.
    :param random_bytes: a cryptographically secure source.
    :param content_type: dotted.
    :param by_key: name the recipient by its subjectKeyIdentifier, if it has
        one (RFC 9483, section 4.1.6.2).
    :returns: a ContentInfo.
    :raises Malformed: it is no certificate.
    :raises UnsupportedAlgorithm: no such cipher, or no EC key that we know.
    """
    wrap = _WRAPS.get(cipher)
    if wrap is None:
        raise UnsupportedAlgorithm("no cipher for key agreement")
    key = random_bytes(content_cipher(cipher).key_size)
    point, scheme, wrapping_key = _agree(
        subject_public_key(certificate), wrap, len(key)
    )
    originator = der.tlv(
        _ORIGINATOR_KEY_TAG, _EC_PUBLIC_KEY + der.bit_string(point)
    )
    rid = issuer_and_serial(certificate).der()
    identifier = key_identifier(certificate) if by_key else None
    if identifier is not None:
        rid = der.tlv(_KEY_IDENTIFIER_TAG, der.octet_string(identifier))
    wrapped = aes_key_wrap(wrapping_key, key)
    recipient = der.tlv(
        _RECIPIENT_TAG,
        der.integer(3)  # RFC 5652, section 6.2.2: always
        + der.explicit(0, originator)
        + der.sequence(scheme, wrap)
        + der.sequence(der.sequence(rid, der.octet_string(wrapped))),
    )
    # RFC 5652, section 6.1: version 2 without certificates and passwords.
    return enveloped_data(
        2,
        recipient,
        content,
        cipher=cipher,
        key=key,
        random_bytes=random_bytes,
        content_type=content_type,
    )


def _agree(spki: bytes, wrap: bytes, size: int) -> tuple[bytes, bytes, bytes]:
    """Return the ephemeral point, the scheme, and the key that wraps."""
    try:
        theirs = serialization.load_der_public_key(spki)
    except Exception as error:
        raise UnsupportedAlgorithm("the key agrees on nothing") from error
    if (
        not isinstance(theirs, ec.EllipticCurvePublicKey)
        or theirs.curve.name not in _SCHEMES
    ):
        raise UnsupportedAlgorithm("the key agrees on nothing")
    digest, scheme = _SCHEMES[theirs.curve.name]
    ephemeral = ec.generate_private_key(theirs.curve)
    point = ephemeral.public_key().public_bytes(
        Encoding.X962, PublicFormat.UncompressedPoint
    )
    # RFC 5753, section 7.2: ECC-CMS-SharedInfo, with the size in bits.
    shared = der.sequence(
        wrap, der.explicit(2, der.octet_string((8 * size).to_bytes(4, "big")))
    )
    wrapping_key = X963KDF(digest, size, shared).derive(
        ephemeral.exchange(ec.ECDH(), theirs)
    )
    return point, scheme, wrapping_key
