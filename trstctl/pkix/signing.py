# SPDX-License-Identifier: MIT
"""
CMS SignedData (RFC 5652, section 5): values to DER, in two steps.

The key may be anywhere, so that nothing signs here: :func:`prepare_signed`
returns what is to be signed and keeps the rest, and
:meth:`PreparedSignedData.finish` takes the signature.

The output is DER but for the certificates, which keep their order: clients
take the first for their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import field, frozen

from trstctl.pkix import der, times
from trstctl.pkix.cms import (
    DATA,
    SIGNED_DATA,
    bags,
    content_info,
    issuer_and_serial,
    key_identifier,
)
from trstctl.pkix.digests import identifiers
from trstctl.pkix.signed import CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_TIME

_CONTENT_TYPE = der.oid(CONTENT_TYPE)
_MESSAGE_DIGEST = der.oid(MESSAGE_DIGEST)
_SIGNING_TIME = der.oid(SIGNING_TIME)
_KEY_IDENTIFIER_TAG = 0x80
_SIGNED_ATTRIBUTES_TAG = 0xA0


@frozen
class PreparedSignedData:
    """
    A message that waits for its signature.

    :ivar to_sign: the octets that the key signs, not a digest.
    :ivar algorithm: a name of :mod:`trstctl.pkix.algorithms`.
    """

    to_sign: bytes
    algorithm: str
    _head: bytes = field(repr=False)
    _signer: bytes = field(repr=False)

    def finish(self, signature: bytes) -> bytes:
        """Return the ContentInfo in DER."""
        signer = der.sequence(self._signer, der.octet_string(signature))
        return content_info(
            SIGNED_DATA, der.sequence(self._head, der.set_of(signer))
        )


def prepare_signed(
    content: bytes | None,
    *,
    certificate: bytes,
    algorithm: str,
    attributes: Mapping[str, Sequence[bytes]],
    content_type: str = DATA,
    certificates: Sequence[bytes] | None = None,
    crls: Sequence[bytes] = (),
    signing_time: datetime | None = None,
    by_key: bool = False,
) -> PreparedSignedData:
    """
    Put a SignedData with one signer together, all but its signature.

    :param content: ``None`` leaves eContent out; ``b""`` writes it empty.
    :param certificate: DER of the signer's.
    :param algorithm: a name of :mod:`trstctl.pkix.algorithms` that fits the
        signer's key, legacy ones included; the digest follows from it.
    :param attributes: DER of the values of signed attributes, by OID.
        contentType and messageDigest are added.
    :param certificates: what the message carries, in this order; without
        it the signer's alone.
    :param signing_time: aware; added as an attribute.
    :param by_key: name the signer by its subjectKeyIdentifier, if it has
        one (RFC 9483, section 4.1.6).
    :raises UnsupportedAlgorithm: no such algorithm, or none that CMS knows
        a digest for.
    """
    digest, digest_identifier, identifier = identifiers(algorithm)
    kind = der.oid(content_type)
    octets = hashlib.new(digest, content or b"").digest()
    encoded = [
        _attribute(_CONTENT_TYPE, kind),
        _attribute(_MESSAGE_DIGEST, der.octet_string(octets)),
        *(
            _attribute(der.oid(oid), *values)
            for oid, values in attributes.items()
        ),
    ]
    if signing_time is not None:
        encoded.append(_attribute(_SIGNING_TIME, times.time(signing_time)))
    signed = der.set_of(*encoded)
    encapsulated = kind
    if content is not None:
        encapsulated += der.explicit(0, der.octet_string(content))
    if certificates is None:
        certificates = (certificate,)
    # Section 5.3: version 1 with issuer and serial, 3 with the key.
    version, sid = 1, issuer_and_serial(certificate).der()
    key = key_identifier(certificate) if by_key else None
    if key is not None:
        version, sid = 3, der.tlv(_KEY_IDENTIFIER_TAG, key)
    return PreparedSignedData(
        signed,
        algorithm,
        # Section 5.1: version 1, but 3 for content that is no data and for
        # a signer of version 3.
        der.integer(version if content_type == DATA else 3)
        + der.set_of(digest_identifier)
        + der.sequence(encapsulated)
        + bags(certificates, crls),
        der.integer(version)
        + sid
        + digest_identifier
        + bytes((_SIGNED_ATTRIBUTES_TAG,))
        + signed[1:]
        + identifier,
    )


def _attribute(oid: bytes, *values: bytes) -> bytes:
    """Return an Attribute (RFC 5652, section 5.3)."""
    return der.sequence(oid, der.set_of(*values))
