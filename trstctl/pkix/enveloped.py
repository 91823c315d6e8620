# SPDX-License-Identifier: MIT
"""
CMS EnvelopedData (RFC 5652, section 6): bytes to value, and opening it.

Theory of operation.  :func:`read_enveloped` is the one boundary, as in
:mod:`trstctl.pkix.signed`.  It needs no key: algorithms can be judged, and
refused by name, before any private-key operation.  What comes then gives a
peer who changes a message and watches the answer nothing to tell apart
(RFC 3218, section 2.3):

1. The caller decrypts ``Recipient.encrypted_key`` and hands over whatever
   came of it.  Nothing, or a key of the wrong length, becomes a random key
   of the right length, which is drawn in any case, and before.
2. The whole content is decrypted.  A content that is no whole number of
   blocks is cut, and fails in the end.
3. Padding and plaintext are judged at once, by one comparison each that
   both take place: the end is what its last octet demands, and the start is
   that of one DER SEQUENCE which ends where the padding begins.  All of
   SCEP's contents are one.  Bad padding, a wrong key, a cut content and
   garbage under good padding take the same steps from first to last.
4. Every failure is one ``MessageCheckFailed`` with one text, also that of
   reading: this is why :meth:`Enveloped.open` takes the reader.

Python cannot promise constant time.  What is left are the differences of
slicing and comparing at most 16 octets, and one that is inherent: a content
that a reader sees takes the reader's time.  A peer gets there with somebody
else's message by changing blocks that the reader does not look into (a
signature, say) until the padding fits.  So a reader should verify what it
can, a caller should answer what fails here, and what fails right behind it,
with the same words, and at a time that does not depend on how far it got.
Whether a *recipient* is ours is no secret; :func:`decoy` still lets the
caller spend the same time.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TypeVar

from attrs import field, frozen

from trstctl.errors import (
    Malformed,
    MessageCheckFailed,
    RequestError,
    TooLarge,
    UnsupportedAlgorithm,
)
from trstctl.pkix import ber, der
from trstctl.pkix.algorithms import describe_public_key
from trstctl.pkix.cms import (
    ENVELOPED_DATA,
    CertificateIdentifier,
    identifies,
    read_content_info,
    read_identifier,
    subject_public_key,
)
from trstctl.pkix.encryption import (
    PKCS1,
    SCHEMES,
    content_cipher,
    read_cipher,
    read_scheme,
)
from trstctl.pkix.password import PasswordRecipient, read_password_recipient

#: More in one message are refused before any is looked at.
MAX_RECIPIENTS = 8

_ORIGINATOR_TAG = 0xA0
_ATTRIBUTES_TAG = 0xA1
_PASSWORD_TAG = 0xA3
_OTHER_RECIPIENTS = frozenset({0xA1, 0xA2, 0xA4})

# RFC 5652, section 6.1, but for 1, which PyScep 0.0.14 writes; nothing
# depends on it.
_VERSIONS = frozenset({b"\x00", b"\x01", b"\x02", b"\x03", b"\x04"})

T = TypeVar("T")


@frozen
class Recipient:
    """
    A content-encryption key under an RSA key (RFC 5652, section 6.2.1).

    :ivar rid: what names the certificate.
    :ivar scheme: one of :data:`trstctl.pkix.encryption.SCHEMES`, or
        ``other:<oid>``.
    """

    rid: CertificateIdentifier
    scheme: str
    encrypted_key: bytes = field(repr=False)


@frozen
class Enveloped:
    """
    An encrypted message.

    :ivar content_type: of the plaintext, dotted.
    :ivar cipher: a name of :data:`trstctl.pkix.encryption.CIPHERS`, or
        ``des-cbc``, ``rc2-cbc``, ``other:<oid>``.
    :ivar encrypted_content: empty if absent.
    """

    content_type: str
    cipher: str
    iv: bytes
    encrypted_content: bytes = field(repr=False)
    recipients: tuple[Recipient, ...]
    password_recipients: tuple[PasswordRecipient, ...]

    def recipient_for(self, certificate: bytes) -> Recipient | None:
        """
        Return the recipient that a certificate is, or ``None``.

        The issuer need not be the same octets: clients write it anew.

        :param certificate: DER of one of ours.
        :raises UnsupportedAlgorithm: the scheme is none of ours.
        :raises Malformed: more than one recipient is meant.
        """
        found = [
            recipient
            for recipient in self.recipients
            if identifies(recipient.rid, certificate, lenient=True)
        ]
        if not found:
            return None
        if len(found) > 1:
            raise Malformed("an encrypted message names a recipient twice")
        if found[0].scheme not in SCHEMES:
            raise UnsupportedAlgorithm(
                "the message's key is encrypted with an unsupported algorithm"
            )
        return found[0]

    def open(
        self,
        key: bytes | None,
        read: Callable[[bytes], T],
        *,
        random_bytes: Callable[[int], bytes],
    ) -> T:
        """
        Decrypt the content, one DER SEQUENCE, and read it.

        Refuse unwanted ciphers before the key is decrypted, not here.

        :param key: whatever came of decrypting the encrypted key.
        :param read: makes a value of the plaintext, or raises a
            ``RequestError``.  Let it do all that can be done without
            looking elsewhere, such as verifying a request's signature and
            comparing its key with the signer's: what is refused later can
            be told apart.
        :param random_bytes: a cryptographically secure source.
        :raises UnsupportedAlgorithm: we do not have the cipher.
        :raises MessageCheckFailed: everything else, all alike.
        """
        cipher = content_cipher(self.cipher)
        spare = random_bytes(cipher.key_size)
        if key is None or len(key) != cipher.key_size:
            key = spare
        size = cipher.block_size
        blocks = len(self.encrypted_content) // size * size
        plain = cipher.decrypt(
            key, self.iv, self.encrypted_content[:blocks] or bytes(size)
        )
        padding = cipher.padding_of(plain)
        length = len(plain) - len(padding)
        head = _sequence_head(length)
        genuine = hmac.compare_digest(plain[length:], padding)
        genuine &= hmac.compare_digest(plain[: len(head)], head)
        genuine &= 0 < blocks == len(self.encrypted_content)
        cause = None
        if genuine:
            try:
                return read(plain[:length])
            except RequestError as error:
                cause = error
        raise MessageCheckFailed from cause


def _sequence_head(length: int) -> bytes:
    """Return how a DER SEQUENCE of so many octets in all begins."""
    inner, octets = max(length - 2, 0), 0
    while inner >= (0x80, 0x100, 0x10000, 0x1000000)[octets]:
        inner, octets = inner - 1, octets + 1
    if not octets:
        return bytes((der.SEQUENCE, inner))
    return bytes((der.SEQUENCE, 0x80 | octets)) + inner.to_bytes(octets, "big")


def decoy(certificate: bytes) -> Recipient:
    """
    Return what to decrypt when a message names no recipient that is ours.

    :param certificate: DER of one of ours, with an RSA key.
    """
    bits = describe_public_key(subject_public_key(certificate)).bits
    return Recipient(b"", PKCS1, (2).to_bytes((bits + 7) // 8, "big"))


def read_enveloped(
    data: bytes, *, max_bytes: int = 65536, max_nodes: int = 4096
) -> Enveloped:
    """
    Read a ContentInfo with an EnvelopedData.

    :param data: DER, or BER of the kind that :mod:`trstctl.pkix.ber` reads.
    :raises TooLarge: more than ``max_bytes``, or too many recipients.
    :raises Malformed: anything else that is wrong with it.
    """
    try:
        data = ber.as_der(data, max_bytes=max_bytes, max_nodes=max_nodes)
        return _read(read_content_info(data, ENVELOPED_DATA))
    except RequestError:
        raise
    except Exception as error:
        raise Malformed("not an encrypted message") from error


def _read(fields: bytes) -> Enveloped:
    """Read the fields of an EnvelopedData; may fail with any exception."""
    parts = der.children(fields)
    if parts[1][0] == _ORIGINATOR_TAG:  # certificates that nobody needs
        del parts[1]
    if parts[-1][0] == _ATTRIBUTES_TAG:  # unprotected, hence worthless
        del parts[-1]
    if [part[0] for part in parts] != [
        der.INTEGER,
        der.SET,
        der.SEQUENCE,
    ] or parts[0][1] not in _VERSIONS:
        raise Malformed("not an encrypted message")
    infos = der.children(parts[1][1])
    if len(infos) > MAX_RECIPIENTS:
        raise TooLarge("an encrypted message with too many recipients")
    recipients, passwords = [], []
    for info in infos:
        if info[0] == der.SEQUENCE:
            recipients.append(_read_recipient(info[1]))
        elif info[0] == _PASSWORD_TAG:
            passwords.append(read_password_recipient(info[1]))
        elif info[0] not in _OTHER_RECIPIENTS:
            raise Malformed("an encrypted message with an unknown recipient")
    content_type, algorithm, *content = der.children(parts[2][1])
    if content_type[0] != der.OBJECT_IDENTIFIER:
        raise Malformed("not an encrypted message")
    cipher, iv = read_cipher(algorithm[2])
    return Enveloped(
        der.oid_text(content_type[1]),
        cipher,
        iv,
        _join(content),
        tuple(recipients),
        tuple(passwords),
    )


def _read_recipient(info: bytes) -> Recipient:
    """Read the fields of a KeyTransRecipientInfo."""
    version, rid, algorithm, encrypted_key = der.children(info)
    # RFC 5652, section 6.2.1: 0 with issuer and serial, 2 with the key;
    # who mixes them up does no harm.
    if (
        version[0] != der.INTEGER
        or version[1] not in {b"\x00", b"\x02"}
        or encrypted_key[0] != der.OCTET_STRING
    ):
        raise Malformed("a recipient is malformed")
    return Recipient(
        read_identifier(rid), read_scheme(algorithm[2]), encrypted_key[1]
    )


def _join(content: list[tuple[int, bytes, bytes]]) -> bytes:
    """Return encryptedContent, which may come whole, in pieces or not."""
    if not content:
        return b""
    ((tag, octets, _),) = content
    if tag == 0x80:
        return octets
    pieces = der.children(octets)
    if tag != 0xA0 or any(piece[0] != der.OCTET_STRING for piece in pieces):
        raise Malformed("the encrypted content is malformed")
    return b"".join(piece[1] for piece in pieces)
