# SPDX-License-Identifier: MIT
"""
CMS EnvelopedData (RFC 5652, section 6): values to DER, for one recipient.
"""

from __future__ import annotations

from collections.abc import Callable

from trstctl.pkix import der
from trstctl.pkix.cms import (
    DATA,
    ENVELOPED_DATA,
    content_info,
    issuer_and_serial,
    subject_public_key,
)
from trstctl.pkix.encryption import (
    PKCS1,
    content_cipher,
    encrypt_key,
    scheme_identifier,
)
from trstctl.pkix.password import wrap_for_password

_DATA = der.oid(DATA)


def envelope(
    content: bytes,
    certificate: bytes,
    *,
    cipher: str,
    random_bytes: Callable[[int], bytes],
    scheme: str = PKCS1,
) -> bytes:
    """
    Encrypt to the RSA key of a certificate.

    :param content: of the type id-data.
    :param certificate: DER, already seen by :func:`trstctl.pkix.der.check`.
    :param cipher: a name of :data:`trstctl.pkix.encryption.CIPHERS`.
    :param random_bytes: a cryptographically secure source.
    :param scheme: one of :data:`trstctl.pkix.encryption.SCHEMES`.
    :returns: a ContentInfo.
    :raises Malformed: it is no certificate.
    :raises UnsupportedAlgorithm: no such cipher or scheme, or no RSA key
        that is large enough.
    """
    key = random_bytes(content_cipher(cipher).key_size)
    encrypted_key = encrypt_key(subject_public_key(certificate), scheme, key)
    recipient = der.sequence(
        der.integer(0),
        issuer_and_serial(certificate).der(),
        scheme_identifier(scheme),
        der.octet_string(encrypted_key),
    )
    # RFC 5652, section 6.1: version 0 as all recipients are of version 0.
    return _enveloped(0, recipient, content, cipher, key, random_bytes)


def envelope_for_password(
    content: bytes,
    password: bytes,
    *,
    cipher: str,
    random_bytes: Callable[[int], bytes],
    iterations: int = 10_000,
) -> bytes:
    """
    Encrypt to whoever knows a password (RFC 8894, section 3.1).

    Takes as long as the iterations say: 10,000 about 4 ms.

    :param content: of the type id-data.
    :param password: secret; UTF-8.
    :param cipher: a name of :data:`trstctl.pkix.encryption.CIPHERS`, for the
        content and for its key.
    :param random_bytes: a cryptographically secure source.
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
    )
    # RFC 5652, section 6.1: version 3 with a password.
    return _enveloped(3, recipient, content, cipher, key, random_bytes)


def _enveloped(
    version: int,
    recipient: bytes,
    content: bytes,
    cipher: str,
    key: bytes,
    random_bytes: Callable[[int], bytes],
) -> bytes:
    """Encrypt the content and put everything together."""
    chosen = content_cipher(cipher)
    iv = random_bytes(chosen.block_size)
    encrypted = chosen.encrypt(key, iv, chosen.pad(content))
    return content_info(
        ENVELOPED_DATA,
        der.sequence(
            der.integer(version),
            der.set_of(recipient),
            der.sequence(
                _DATA, chosen.identifier(iv), der.tlv(0x80, encrypted)
            ),
        ),
    )
