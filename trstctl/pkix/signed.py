# SPDX-License-Identifier: MIT
"""
CMS SignedData (RFC 5652, section 5): bytes to value, and verification.

Theory of operation.  There is one boundary, :func:`read_signed_data`: the
octets are capped and walked (in DER, or BER put into DER), every field is
read, and whatever goes wrong is one ``Malformed`` or ``TooLarge``.  Nothing
is verified there, so that the caller can judge algorithms and key first:
:func:`verify_signer` costs what the key makes it cost.

1. Signed attributes are demanded (RFC 8894, section 3.2), each type once,
   contentType and messageDigest with one value.
2. The signature is verified over the signed attributes *as received*, with
   the tag of SET OF in the place of [0] (RFC 5652, section 5.4).  A sender
   that did not sort them as DER demands must have signed them unsorted;
   OpenSSL sees it the same way.  They are never encoded again.
3. Only what the RFC demands is accepted where nothing protects a field:
   versions fit, the signer's digest algorithm is announced, algorithm
   identifiers are those that we know by heart.  What is left unprotected
   are unsigned attributes, which nobody reads, and the bags: of the
   certificates only the signer's matters, and whoever relies on it
   verifies it.

Algorithms are those of :mod:`trstctl.pkix.digests`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

from attrs import field, frozen

from trstctl.errors import (
    Malformed,
    MessageCheckFailed,
    RequestError,
    TooLarge,
    UnsupportedAlgorithm,
)
from trstctl.pkix import algorithms, ber, der
from trstctl.pkix.cms import (
    CERTIFICATES_TAG,
    CRLS_TAG,
    DATA,
    SIGNED_DATA,
    CertificateIdentifier,
    IssuerAndSerial,
    identifies,
    read_content_info,
    read_identifier,
)
from trstctl.pkix.digests import digest_name, go_together, signature_name

CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
SIGNING_TIME = "1.2.840.113549.1.9.5"
ALGORITHM_PROTECTION = "1.2.840.113549.1.9.52"

#: More in one message is refused before any is looked at.
MAX_CERTIFICATES = 64

_SIGNED_ATTRIBUTES_TAG = 0xA0
_UNSIGNED_ATTRIBUTES_TAG = 0xA1
_OTHER_CERTIFICATES = frozenset({0xA0, 0xA1, 0xA2, 0xA3})
_OTHER_REVOCATION = frozenset({0xA1})


@frozen
class SignerInfo:
    """
    One signer (RFC 5652, section 5.3).

    :ivar sid: what names the signer's certificate.
    :ivar certificate: DER of the one that it names, if it is in the bag.
    :ivar digest: ``sha256`` and so on; a name or dotted OID of what is
        unsupported otherwise.
    :ivar algorithm: a name of :mod:`trstctl.pkix.algorithms`, legacy ones
        included, or ``other:<oid>``.
    :ivar message_digest: what the signer says the content's digest is.
    :ivar attributes: DER of the values of each signed attribute, by OID.
    :ivar signed: what the signature is over.
    """

    sid: CertificateIdentifier
    certificate: bytes | None = field(repr=False)
    digest: str
    algorithm: str
    message_digest: bytes = field(repr=False)
    attributes: Mapping[str, tuple[bytes, ...]] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def attribute(self, oid: str) -> bytes | None:
        """
        Return the DER of the one value of a signed attribute, if present.

        :raises Malformed: it has not one value.
        """
        values = self.attributes.get(oid)
        if values is None:
            return None
        if len(values) != 1:
            raise Malformed("a signed attribute has not one value")
        return values[0]


@frozen
class SignedData:
    """
    A signed message of which nothing is verified.

    :ivar content_type: dotted.
    :ivar content: ``None`` if absent, which is not the same as empty.
    :ivar certificates: DER, in the order of the message; X.509 only.
    :ivar crls: DER, likewise.
    """

    version: int
    content_type: str
    content: bytes | None = field(repr=False)
    certificates: tuple[bytes, ...] = field(repr=False)
    crls: tuple[bytes, ...] = field(repr=False)
    signers: tuple[SignerInfo, ...]


def read_signed_data(
    data: bytes,
    *,
    signers: int = 1,
    unsigned: bool = False,
    max_bytes: int = 65536,
    max_nodes: int = 4096,
) -> SignedData:
    """
    Read a ContentInfo with a SignedData.  Nothing is verified.

    :param data: DER, or BER of the kind that :mod:`trstctl.pkix.ber` reads.
    :param signers: how many it must have.
    :param unsigned: none will do, too.
    :raises TooLarge: more than ``max_bytes``.
    :raises Malformed: anything else that is wrong with it.
    """
    try:
        data = ber.as_der(data, max_bytes=max_bytes, max_nodes=max_nodes)
        fields = read_content_info(data, SIGNED_DATA)
        return _read(fields, {signers, 0} if unsigned else {signers})
    except RequestError:
        raise
    except Exception as error:
        raise Malformed("not a signed message") from error


def _read(fields: bytes, signers: set[int]) -> SignedData:
    """Read the fields of a SignedData; may fail with any exception."""
    parts = der.children(fields)
    version, announced, encapsulated = parts[:3]
    _expect(version, der.INTEGER)
    _expect(announced, der.SET)
    _expect(encapsulated, der.SEQUENCE)
    _expect(parts[-1], der.SET)
    bags = {part[0]: part[1] for part in parts[3:-1]}
    if [part[0] for part in parts[3:-1]] not in (
        [],
        [CERTIFICATES_TAG],
        [CRLS_TAG],
        [CERTIFICATES_TAG, CRLS_TAG],
    ):
        raise Malformed("a signed message with unknown fields")
    content_type, content = _read_content(encapsulated[1])
    certificates, other_certificates = _read_bag(
        bags.get(CERTIFICATES_TAG, b""), _OTHER_CERTIFICATES
    )
    crls, other_crls = _read_bag(bags.get(CRLS_TAG, b""), _OTHER_REVOCATION)
    infos = der.children(parts[-1][1])
    if len(infos) not in signers:
        raise Malformed("a signed message with too many or too few signers")
    found = tuple(
        _read_signer(
            info,
            {part[2] for part in der.children(announced[1])},
            content_type,
            certificates,
        )
        for info in infos
    )
    message = SignedData(
        version[1][0] if len(version[1]) == 1 else -1,
        content_type,
        content,
        certificates,
        crls,
        found,
    )
    if message.version not in _versions(
        message, other_certificates, other_crls
    ):
        raise Malformed("a signed message of an unknown version")
    return message


def _expect(part: tuple[int, bytes, bytes], tag: int) -> bytes:
    """Return the content of a part that has this tag."""
    if part[0] != tag:
        raise Malformed("not a signed message")
    return part[1]


def _read_content(encapsulated: bytes) -> tuple[str, bytes | None]:
    """Read an EncapsulatedContentInfo (RFC 5652, section 5.2)."""
    parts = der.children(encapsulated)
    content_type = der.oid_text(_expect(parts[0], der.OBJECT_IDENTIFIER))
    if len(parts) == 1:
        return content_type, None
    _, explicit = parts
    return content_type, der.content(_expect(explicit, 0xA0), der.OCTET_STRING)


def _read_bag(
    bag: bytes, skipped: frozenset[int]
) -> tuple[tuple[bytes, ...], frozenset[int]]:
    """
    Read CertificateSet or RevocationInfoChoices (RFC 5652, section 10.2).

    :returns: those of X.509, and the tags of the other choices, which are
        skipped: section 5.1 wants them handled gracefully.
    """
    parts = der.children(bag)
    if len(parts) > MAX_CERTIFICATES:
        raise TooLarge("a signed message with too many certificates")
    others = frozenset(part[0] for part in parts) - {der.SEQUENCE}
    if not others <= skipped:
        raise Malformed("a signed message with an unknown certificate")
    return (
        tuple(part[2] for part in parts if part[0] == der.SEQUENCE),
        others,
    )


def _versions(
    message: SignedData,
    other_certificates: frozenset[int],
    other_crls: frozenset[int],
) -> set[int]:
    """Return the versions that a message may have (section 5.1)."""
    if 0xA3 in other_certificates or other_crls:
        return {5}
    if 0xA2 in other_certificates:
        return {4}
    if any(isinstance(signer.sid, bytes) for signer in message.signers):
        return {3}
    if 0xA1 in other_certificates or message.content_type != DATA:
        # PKCS #7 1.5 knows version 1 only, whatever the content.
        return {1, 3}
    return {1}


# --- the signer -------------------------------------------------------------


def _read_signer(
    info: tuple[int, bytes, bytes],
    announced: set[bytes],
    content_type: str,
    certificates: tuple[bytes, ...],
) -> SignerInfo:
    """Read a SignerInfo; may fail with any exception."""
    parts = der.children(_expect(info, der.SEQUENCE))
    # version, sid, digestAlgorithm, signedAttrs, signatureAlgorithm and
    # signature.  Nobody vouches for unsignedAttrs: whoever has the message
    # can add them, and nothing here reads them.
    if len(parts) > 6 and parts[6][0] == _UNSIGNED_ATTRIBUTES_TAG:
        del parts[6]
    version, sid, digest, signed, algorithm, signature = parts
    identifier = read_identifier(sid)
    # RFC 5652, section 5.3: 1 with issuer and serial, 3 with the key.
    expected = 1 if isinstance(identifier, IssuerAndSerial) else 3
    if version[2] != der.integer(expected):
        raise Malformed("a signer of an unknown version")
    # Section 5.1: each signer's digest algorithm is announced.
    name = digest_name(digest[2])
    if name not in map(digest_name, announced):
        raise Malformed("the signer's digest algorithm is not announced")
    attributes = _read_attributes(_expect(signed, _SIGNED_ATTRIBUTES_TAG))
    # Sections 5.3, 11.1 and 11.2: both MUST be there, with one value each.
    if attributes[CONTENT_TYPE] != (der.oid(content_type),):
        raise Malformed("the signed attributes are of another content type")
    (message_digest,) = attributes[MESSAGE_DIGEST]
    found = SignerInfo(
        identifier,
        _find(identifier, certificates),
        name,
        signature_name(algorithm[2], name),
        der.content(message_digest, der.OCTET_STRING),
        attributes,
        bytes((der.SET,)) + signed[2][1:],
        _expect(signature, der.OCTET_STRING),
    )
    _check_protection(found, digest[2], algorithm[2])
    return found


def _read_attributes(content: bytes) -> dict[str, tuple[bytes, ...]]:
    """Return the DER of the values of each attribute."""
    attributes: dict[str, tuple[bytes, ...]] = {}
    for attribute in der.children(content):
        kind, values = der.children(_expect(attribute, der.SEQUENCE))
        oid = der.oid_text(_expect(kind, der.OBJECT_IDENTIFIER))
        # RFC 5652, section 5.3: each type at most once.
        if oid in attributes or not values[1]:
            raise Malformed("a signed attribute occurs twice or is empty")
        attributes[oid] = tuple(
            value[2] for value in der.children(_expect(values, der.SET))
        )
    return attributes


def _find(
    sid: CertificateIdentifier, certificates: tuple[bytes, ...]
) -> bytes | None:
    """Return the certificate that a signer named."""
    found = {each for each in certificates if identifies(sid, each)}
    # Whoever relied on one would have to wonder why not on the other.
    if len(found) > 1:
        raise Malformed("two certificates have the signer's name")
    return found.pop() if found else None


def _check_protection(
    signer: SignerInfo, digest: bytes, algorithm: bytes
) -> None:
    """Compare what cmsAlgorithmProtection repeats (RFC 6211, section 3)."""
    value = signer.attribute(ALGORITHM_PROTECTION)
    if value is None:
        return
    parts = der.children(der.content(value, der.SEQUENCE))
    if [part[0] for part in parts] != [der.SEQUENCE, 0xA1] or (
        _without_null(parts[0][1])
        != _without_null(der.content(digest, der.SEQUENCE))
        or _without_null(parts[1][1])
        != _without_null(der.content(algorithm, der.SEQUENCE))
    ):
        raise Malformed("the algorithms are not those that were signed")


def _without_null(identifier: bytes) -> bytes:
    """Return an algorithm with absent parameters for NULL ones."""
    parts = der.children(identifier)
    return (
        parts[0][2]
        if parts[1:] == [(der.NULL, b"", b"\x05\x00")]
        else identifier
    )


def verify_signer(
    message: SignedData,
    signer: SignerInfo,
    spki: bytes,
    *,
    legacy: bool = False,
) -> None:
    """
    Verify digest and signature (RFC 5652, sections 5.4 to 5.6).

    Costs what the key makes it cost: judge the key first.

    :param signer: one of the message's.
    :param spki: DER SubjectPublicKeyInfo of the signer's key.
    :param legacy: SHA-1 with RSA will do, too.
    :raises UnsupportedAlgorithm: before any work; the detail names it.
    :raises MessageCheckFailed: it does not verify.
    """
    if not go_together(signer.algorithm, signer.digest, legacy=legacy):
        raise UnsupportedAlgorithm(
            f"the message is signed with {signer.algorithm} and "
            f"{signer.digest}"
        )
    digest = hashlib.new(signer.digest, message.content or b"").digest()
    if not (
        hmac.compare_digest(digest, signer.message_digest)
        and algorithms.verify(
            spki,
            signer.algorithm,
            signer.signature,
            signer.signed,
            legacy=legacy,
        )
    ):
        raise MessageCheckFailed


def signing_time(signer: SignerInfo) -> datetime | None:
    """
    Return when the signer says to have signed, UTC (section 11.3).

    :raises Malformed: the attribute is there and no time.
    """
    value = signer.attribute(SIGNING_TIME)
    if value is None:
        return None
    try:
        text = value[2:].decode("ascii")
        if value[0] == 0x17:
            # RFC 5280, section 4.1.2.5.1: 50 and later is the last century.
            text = ("19" if text >= "50" else "20") + text
        elif value[0] != 0x18:
            raise Malformed("the signing time is malformed")
        if len(text) != 15:  # RFC 5652, section 11.3: with seconds
            raise Malformed("the signing time is malformed")
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Malformed("the signing time is malformed") from None
