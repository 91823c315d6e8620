# SPDX-License-Identifier: MIT
"""
CMS SignedData (RFC 5652, section 5): values to DER, in two steps.

The key may be anywhere, so that nothing signs here: :func:`prepare_signed`
returns what is to be signed and keeps the rest, and
:meth:`PreparedSignedData.finish` takes the signature.

The output is DER but for the certificates, which keep their order: clients
take the first for their own.  Identifiers are written as the RFCs say:
digest algorithms without parameters (RFC 5754, section 2), RSA PKCS #1 v1.5
as rsaEncryption with NULL, which the oldest clients read (RFC 3370, section
3.2), everything else as in X.509.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from attrs import field, frozen

from trstctl.errors import UnsupportedAlgorithm
from trstctl.pkix import algorithms, der
from trstctl.pkix.cms import (
    DATA,
    SIGNED_DATA,
    bags,
    content_info,
    issuer_and_serial,
)
from trstctl.pkix.signed import (
    CONTENT_TYPE,
    DIGESTS,
    MESSAGE_DIGEST,
    NULL,
    PURE_DIGESTS,
    RSA_ENCRYPTION,
    SIGNING_TIME,
)

_DIGEST_IDENTIFIERS: Mapping[str, bytes] = {
    name: der.sequence(der.oid(oid)) for name, oid in DIGESTS.items()
}
_RSA_IDENTIFIER = der.sequence(der.oid(RSA_ENCRYPTION), NULL)
_CONTENT_TYPE = der.oid(CONTENT_TYPE)
_MESSAGE_DIGEST = der.oid(MESSAGE_DIGEST)
_SIGNING_TIME = der.oid(SIGNING_TIME)
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
    :raises UnsupportedAlgorithm: no such algorithm, or none that CMS knows
        a digest for.
    """
    digest, identifier = _algorithm(algorithm)
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
        encoded.append(_attribute(_SIGNING_TIME, _time(signing_time)))
    signed = der.set_of(*encoded)
    encapsulated = kind
    if content is not None:
        encapsulated += der.explicit(0, der.octet_string(content))
    if certificates is None:
        certificates = (certificate,)
    digest_identifier = _DIGEST_IDENTIFIERS[digest]
    return PreparedSignedData(
        signed,
        algorithm,
        # Section 5.1: version 1, but 3 for content that is no data.
        der.integer(1 if content_type == DATA else 3)
        + der.set_of(digest_identifier)
        + der.sequence(encapsulated)
        + bags(certificates, crls),
        der.integer(1)
        + issuer_and_serial(certificate).der()
        + digest_identifier
        + bytes((_SIGNED_ATTRIBUTES_TAG,))
        + signed[1:]
        + identifier,
    )


def _algorithm(name: str) -> tuple[str, bytes]:
    """Return digest and AlgorithmIdentifier for a signature algorithm."""
    known = algorithms.ALGORITHMS.get(
        name
    ) or algorithms.LEGACY_ALGORITHMS.get(name)
    if known is None:
        raise UnsupportedAlgorithm
    digest = PURE_DIGESTS.get(name) or known.digest
    if digest not in DIGESTS:
        raise UnsupportedAlgorithm
    if name == f"{digest}-with-rsa":
        return digest, _RSA_IDENTIFIER
    return digest, known.identifier


def _attribute(oid: bytes, *values: bytes) -> bytes:
    """Return an Attribute (RFC 5652, section 5.3)."""
    return der.sequence(oid, der.set_of(*values))


def _time(when: datetime) -> bytes:
    """Return a Time (RFC 5652, section 11.3)."""
    # UTCTime through the year 2049, GeneralizedTime from then on.
    text = when.astimezone(UTC).strftime("%Y%m%d%H%M%SZ")
    if "1950" <= text < "2050":
        return der.tlv(0x17, text[2:].encode("ascii"))
    return der.tlv(0x18, text.encode("ascii"))
