# SPDX-License-Identifier: MIT
"""
CMS (RFC 5652): the outer shell, how certificates are named, certs-only.

The other modules of CMS build upon this one: :mod:`trstctl.pkix.signed` and
:mod:`trstctl.pkix.signing` read and write SignedData,
:mod:`trstctl.pkix.enveloped` and :mod:`trstctl.pkix.enveloping` EnvelopedData.

All of them read with :mod:`trstctl.pkix.der` and declare no schema with the
``cryptography`` library: that refuses every SET OF which is not sorted, and
CMS is full of sets that clients do not sort and that we must not sort
(certificates, signed attributes).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from attrs import frozen

from trstctl.errors import Malformed, RequestError
from trstctl.pkix import algorithms, der
from trstctl.pkix.certificate import split_signed
from trstctl.pkix.extensions import read_extensions
from trstctl.pkix.names import names_match, read_name

DATA = "1.2.840.113549.1.7.1"
SIGNED_DATA = "1.2.840.113549.1.7.2"
ENVELOPED_DATA = "1.2.840.113549.1.7.3"

_EXPLICIT_TAG = 0xA0
_KEY_IDENTIFIER_TAG = 0x80
_SUBJECT_KEY_IDENTIFIER = "2.5.29.14"


def content_info(content_type: str, content: bytes) -> bytes:
    """Return a ContentInfo (RFC 5652, section 3) around DER."""
    return der.sequence(der.oid(content_type), der.explicit(0, content))


def read_content_info(data: bytes, content_type: str) -> bytes:
    """
    Return the content octets of the SEQUENCE that a ContentInfo holds.

    :param data: already seen by :func:`trstctl.pkix.der.check`.
    :raises Malformed: it is no ContentInfo, or of another type.
    """
    parts = der.children(der.content(data, der.SEQUENCE))
    if (
        len(parts) != 2
        or parts[0][2] != der.oid(content_type)
        or parts[1][0] != _EXPLICIT_TAG
    ):
        raise Malformed("not a message of the expected type")
    return der.content(parts[1][1], der.SEQUENCE)


# --- how certificates are named ---------------------------------------------


@frozen
class IssuerAndSerial:
    """
    What names a certificate (RFC 5652, section 10.2.4).

    :ivar issuer: DER of the Name.
    :ivar serial: hexadecimal, as everywhere; may be negative.
    """

    issuer: bytes
    serial: str

    def der(self) -> bytes:
        """Return the IssuerAndSerialNumber."""
        return der.sequence(self.issuer, der.integer(int(self.serial, 16)))


#: What names a signer or a recipient; octets are a subjectKeyIdentifier.
CertificateIdentifier = IssuerAndSerial | bytes


def read_issuer_and_serial(value: bytes) -> IssuerAndSerial:
    """
    Read an IssuerAndSerialNumber.

    :param value: DER, already seen by :func:`trstctl.pkix.der.check`.
    :raises Malformed: it is none.
    """
    return _read_issuer_and_serial(der.content(value, der.SEQUENCE))


def _read_issuer_and_serial(content: bytes) -> IssuerAndSerial:
    """Read the content octets of an IssuerAndSerialNumber."""
    parts = der.children(content)
    if [part[0] for part in parts] != [der.SEQUENCE, der.INTEGER]:
        raise Malformed("a certificate is not named by issuer and serial")
    return IssuerAndSerial(parts[0][2], _hexadecimal(parts[1][1]))


def read_identifier(part: tuple[int, bytes, bytes]) -> CertificateIdentifier:
    """
    Read a SignerIdentifier or RecipientIdentifier.

    :param part: one of :func:`trstctl.pkix.der.children`.
    :raises Malformed: it is neither choice.
    """
    if part[0] == der.SEQUENCE:
        return _read_issuer_and_serial(part[1])
    if part[0] == _KEY_IDENTIFIER_TAG:
        return part[1]
    raise Malformed("a certificate is named by neither issuer nor key")


def issuer_and_serial(certificate: bytes) -> IssuerAndSerial:
    """
    Return what names a certificate.

    :param certificate: DER, already seen by :func:`trstctl.pkix.der.check`.
    :raises Malformed: it is no certificate.
    """
    fields = _tbs_fields(certificate)
    return IssuerAndSerial(fields[2][2], _hexadecimal(fields[0][1]))


def subject_public_key(certificate: bytes) -> bytes:
    """
    Return the DER SubjectPublicKeyInfo of a certificate.

    :param certificate: DER, already seen by :func:`trstctl.pkix.der.check`.
    :raises Malformed: it is no certificate.
    """
    return _tbs_fields(certificate)[5][2]


def key_identifier(certificate: bytes) -> bytes | None:
    """
    Return the subjectKeyIdentifier of a certificate, if it has one.

    :param certificate: DER, already seen by :func:`trstctl.pkix.der.check`.
    :raises Malformed: it is no certificate.
    """
    last = _tbs_fields(certificate)[-1]
    if last[0] == 0xA3:
        for extension in read_extensions(last[1], strict=False):
            if extension.oid == _SUBJECT_KEY_IDENTIFIER:
                return der.content(extension.value, der.OCTET_STRING)
    return None


def identifies(
    identifier: CertificateIdentifier,
    certificate: bytes,
    *,
    lenient: bool = False,
) -> bool:
    """
    Tell whether an identifier names a certificate.

    :param certificate: DER, already seen by :func:`trstctl.pkix.der.check`.
    :param lenient: the issuer need not be the same octets.  Clients write
        names anew: other string types, other case, other spaces.
    :raises Malformed: it is no certificate.
    """
    if isinstance(identifier, bytes):
        return identifier == key_identifier(certificate)
    own = issuer_and_serial(certificate)
    if own.serial != identifier.serial:
        return False
    return own.issuer == identifier.issuer or (
        lenient and _same_name(own.issuer, identifier.issuer)
    )


def is_self_signed(certificate: bytes, *, legacy: bool = False) -> bool:
    """
    Tell whether a certificate's own key signed it, whatever its names say.

    Costs what the key makes it cost: judge the key first.

    :param certificate: DER, already seen by :func:`trstctl.pkix.der.check`.
    :param legacy: SHA-1 with RSA will do, too.
    :raises Malformed: it is no certificate.
    """
    fields = _tbs_fields(certificate)
    tbs, identifier, signature = split_signed(certificate)
    # RFC 5280, section 4.1.1.2: signed and unsigned identifier are the same.
    return fields[1][2] == identifier and algorithms.verify(
        fields[5][2],
        algorithms.signature_name(identifier),
        signature,
        tbs,
        legacy=legacy,
    )


def _hexadecimal(octets: bytes) -> str:
    """Return the content octets of a serial number as text."""
    return f"{int.from_bytes(octets, 'big', signed=True):x}"


# A message is answered with one or two certificates at hand, which are asked
# for one field after the other.
@lru_cache(maxsize=64)
def _tbs_fields(certificate: bytes) -> tuple[tuple[int, bytes, bytes], ...]:
    """
    Return the fields of a TBSCertificate from the serial number on:
    signature, issuer, validity, subject and key follow it.
    """
    tbs, _, _ = split_signed(certificate)
    fields = der.children(der.content(tbs, der.SEQUENCE))
    if fields and fields[0][0] == _EXPLICIT_TAG:  # the version
        del fields[0]
    if [field[0] for field in fields[:6]] != [der.INTEGER] + 5 * [
        der.SEQUENCE
    ]:
        raise Malformed("not an X.509 certificate")
    return tuple(fields)


def _same_name(own: bytes, theirs: bytes) -> bool:
    """Tell whether two Names in DER mean the same."""
    # No string type takes more than four octets for one of another's, and
    # a peer's name is not to be folded for ever.
    if len(theirs) > 4 * len(own) + 64:
        return False
    try:
        return names_match(read_name(own), read_name(theirs))
    except RequestError:
        return False


# --- certs-only -------------------------------------------------------------

_DATA_CONTENT = der.sequence(der.oid(DATA))
_EMPTY_SET = der.set_of()
_VERSION_1 = der.integer(1)
CERTIFICATES_TAG = 0xA0
CRLS_TAG = 0xA1


def certs_only(
    certificates: Sequence[bytes], crls: Sequence[bytes] = ()
) -> bytes:
    """
    Return a certs-only message in DER (RFC 5652, section 5; RFC 8551, 3.8).

    The certificates stay in the order given: clients take the first for
    their own.  CertificateSet is a SET OF, which DER would sort; RFC 5652
    asks for DER only where something is signed.  OpenSSL and pyasn1 keep
    this order; ``cryptography`` keeps it, too, with a warning.
    """
    return content_info(
        SIGNED_DATA,
        der.sequence(
            _VERSION_1,
            _EMPTY_SET,
            _DATA_CONTENT,
            bags(certificates, crls),
            _EMPTY_SET,
        ),
    )


def bags(certificates: Sequence[bytes], crls: Sequence[bytes]) -> bytes:
    """Return the fields certificates and crls of a SignedData, if any."""
    return b"".join(
        der.tlv(tag, b"".join(values))
        for tag, values in ((CERTIFICATES_TAG, certificates), (CRLS_TAG, crls))
        if values
    )


def read_certs_only(
    data: bytes, *, max_bytes: int = 1 << 20, max_nodes: int = 16384
) -> tuple[bytes, ...]:
    """
    Return the certificates of a certs-only message, in their order.

    :raises TooLarge: more octets than the limit.
    :raises Malformed: it is no certs-only message in DER.
    """
    der.check(data, max_bytes=max_bytes, max_nodes=max_nodes)
    fields = der.children(read_content_info(data, SIGNED_DATA))
    # Version 1, no digest algorithms, no content and no signers.
    if [part[2] for part in (*fields[:3], *fields[-1:])] != [
        _VERSION_1,
        _EMPTY_SET,
        _DATA_CONTENT,
        _EMPTY_SET,
    ]:
        raise Malformed("not a certs-only message")
    optional = [part[0] for part in fields[3:-1]]
    if optional not in (
        [],
        [CERTIFICATES_TAG],
        [CRLS_TAG],
        [CERTIFICATES_TAG, CRLS_TAG],
    ):
        raise Malformed("not a certs-only message")
    if CERTIFICATES_TAG not in optional:
        return ()
    certificates = der.children(fields[3][1])
    if any(certificate[0] != der.SEQUENCE for certificate in certificates):
        raise Malformed("not a certs-only message")
    return tuple(certificate[2] for certificate in certificates)
