# SPDX-License-Identifier: MIT
"""
CMS EnvelopedData (RFC 5652, section 6): values to DER, for one recipient.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from trstctl.errors import UnsupportedAlgorithm
from trstctl.pkix import der
from trstctl.pkix.cms import (
    DATA,
    ENVELOPED_DATA,
    content_info,
    issuer_and_serial,
    key_identifier,
    subject_public_key,
)
from trstctl.pkix.encryption import (
    KEY_WRAPS,
    PKCS1,
    content_cipher,
    encrypt_key,
    scheme_identifier,
)
from trstctl.pkix.password import wrap_for_password

_KEY_IDENTIFIER_TAG = 0x80
_KEK_RECIPIENT_TAG = 0xA2


def envelope(
    content: bytes,
    certificate: bytes,
    *,
    cipher: str,
    random_bytes: Callable[[int], bytes],
    scheme: str = PKCS1,
    content_type: str = DATA,
    by_key: bool = False,
) -> bytes:
    """
    Encrypt to the RSA key of a certificate.

    :param content: of the content type.
    :param certificate: DER, already seen by :func:`trstctl.pkix.der.check`.
    :param cipher: a name of :data:`trstctl.pkix.encryption.CIPHERS`.
    :param random_bytes: a cryptographically secure source.
    :param scheme: one of :data:`trstctl.pkix.encryption.SCHEMES`.
    :param content_type: dotted.
    :param by_key: name the recipient by its subjectKeyIdentifier, if it has
        one (RFC 9483, section 4.1.6.1).
    :returns: a ContentInfo.
    :raises Malformed: it is no certificate.
    :raises UnsupportedAlgorithm: no such cipher or scheme, or no RSA key
        that is large enough.
    """
    key = random_bytes(content_cipher(cipher).key_size)
    encrypted_key = encrypt_key(subject_public_key(certificate), scheme, key)
    # RFC 5652, section 6.2.1: version 0 with issuer and serial, 2 with the
    # key; and so is the whole, as all its recipients are.
    version, rid = 0, issuer_and_serial(certificate).der()
    identifier = key_identifier(certificate) if by_key else None
    if identifier is not None:
        version, rid = 2, der.tlv(_KEY_IDENTIFIER_TAG, identifier)
    recipient = der.sequence(
        der.integer(version),
        rid,
        scheme_identifier(scheme),
        der.octet_string(encrypted_key),
    )
    return enveloped_data(
        version,
        recipient,
        content,
        cipher=cipher,
        key=key,
        random_bytes=random_bytes,
        content_type=content_type,
    )


def envelope_for_key(
    content: bytes,
    key_encryption_key: bytes,
    identifier: bytes,
    *,
    cipher: str,
    random_bytes: Callable[[int], bytes],
    content_type: str = DATA,
) -> bytes:
    """
    Encrypt to whoever has a symmetric key (RFC 5652, section 6.2.3).

    :param content: of the content type.
    :param key_encryption_key: secret; of AES, 16, 24 or 32 octets.
    :param identifier: what the recipient knows it by.
    :param cipher: a name of :data:`trstctl.pkix.encryption.CIPHERS`.
    :param random_bytes: a cryptographically secure source.
    :param content_type: dotted.
    :returns: a ContentInfo.
    :raises UnsupportedAlgorithm: no such cipher, or a key of another length.
    """
    wrap = KEY_WRAPS.get(len(key_encryption_key))
    if wrap is None:
        raise UnsupportedAlgorithm("the key wraps nothing")
    key = random_bytes(content_cipher(cipher).key_size)
    recipient = der.tlv(
        _KEK_RECIPIENT_TAG,
        der.integer(4)  # always
        + der.sequence(der.octet_string(identifier))
        + wrap
        + der.octet_string(aes_key_wrap(key_encryption_key, key)),
    )
    # RFC 5652, section 6.1: version 2, as its recipient is not of version 0.
    return enveloped_data(
        2,
        recipient,
        content,
        cipher=cipher,
        key=key,
        random_bytes=random_bytes,
        content_type=content_type,
    )


def envelope_for_password(
    content: bytes,
    password: bytes,
    *,
    cipher: str,
    random_bytes: Callable[[int], bytes],
    iterations: int = 10_000,
    content_type: str = DATA,
    aes_wrap: bool = False,
) -> bytes:
    """
    Encrypt to whoever knows a password (RFC 8894, section 3.1).

    Takes as long as the iterations say: 10,000 about 4 ms.

    :param content: of the content type.
    :param password: secret; UTF-8.
    :param cipher: a name of :data:`trstctl.pkix.encryption.CIPHERS`, for the
        content and for its key.
    :param random_bytes: a cryptographically secure source.
    :param content_type: dotted.
    :param aes_wrap: as for :func:`trstctl.pkix.password.wrap_for_password`.
    :returns: a ContentInfo.
    :raises UnsupportedAlgorithm: no such cipher.
    """
    key = random_bytes(content_cipher(cipher).key_size)
    recipient = wrap_for_password(
        key,
        password,
        cipher=cipher,
        iterations=iterations,
        random_bytes=random_bytes,
        aes_wrap=aes_wrap,
    )
    # RFC 5652, section 6.1: version 3 with a password.
    return enveloped_data(
        3,
        recipient,
        content,
        cipher=cipher,
        key=key,
        random_bytes=random_bytes,
        content_type=content_type,
    )


def enveloped_data(
    version: int,
    recipient: bytes,
    content: bytes,
    *,
    cipher: str,
    key: bytes,
    random_bytes: Callable[[int], bytes],
    content_type: str = DATA,
) -> bytes:
    """
    Encrypt the content and put everything together.

    :param version: as section 6.1 says for this recipient.
    :param recipient: DER RecipientInfo that holds ``key``.
    :param key: the content-encryption key; secret.
    :returns: a ContentInfo.
    :raises UnsupportedAlgorithm: no such cipher.
    """
    chosen = content_cipher(cipher)
    iv = random_bytes(chosen.block_size)
    encrypted = chosen.encrypt(key, iv, chosen.pad(content))
    return content_info(
        ENVELOPED_DATA,
        der.sequence(
            der.integer(version),
            der.set_of(recipient),
            der.sequence(
                der.oid(content_type),
                chosen.identifier(iv),
                der.tlv(0x80, encrypted),
            ),
        ),
    )
