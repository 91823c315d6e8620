# SPDX-License-Identifier: MIT
"""
What points from a certificate to its issuer, and from a CRL to its scope.

A CRL of very many certificates is divided by serial number: of ``n``
partitions (a power of two), the bits after the two fixed top bits of a
serial choose the one, so that each is a contiguous range (see
:func:`trstctl.ca.authority.new_serial`).  Its name, ``<n>/<i>``, stands in
its URL; a certificate names the URL of its partition, and that CRL names the
same one (RFC 5280, section 5.2.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

from attrs import frozen
from cryptography import x509

from trstctl.model import POINTERS
from trstctl.pkix import der

_AUTHORITY_INFORMATION_ACCESS = "1.3.6.1.5.5.7.1.1"
_AUTHORITY_KEY_IDENTIFIER = "2.5.29.35"
_CRL_DISTRIBUTION_POINTS = "2.5.29.31"
_OCSP = der.oid("1.3.6.1.5.5.7.48.1")
_CA_ISSUERS = der.oid("1.3.6.1.5.5.7.48.2")

#: What stands for ``<n>/<i>`` in the URL of a partition's CRL.
PLACEHOLDER = "{partition}"

#: How many partitions there can be: one octet of the serial decides.
MOST_PARTITIONS = 64


@frozen
class Places:
    """
    Where an authority's CRLs, responder and certificate are found.

    :ivar crl: URLs of the full CRL (RFC 5280, section 4.2.1.13).
    :ivar partition: likewise of a partition's, with :data:`PLACEHOLDER`.
    :ivar delta: likewise of the delta CRL (section 5.2.6).
    :ivar ocsp: where OCSP is asked (section 4.2.2.1).
    :ivar issuer: where the CA certificate is (section 4.2.2.1).
    :ivar partitions: into how many new certificates are divided.
    """

    crl: tuple[str, ...] = ()
    partition: tuple[str, ...] = ()
    delta: tuple[str, ...] = ()
    ocsp: tuple[str, ...] = ()
    issuer: tuple[str, ...] = ()
    partitions: int = 1

    def of_partition(self, scope: str) -> tuple[str, ...]:
        """Return the URLs of the CRL of ``<n>/<i>``."""
        return tuple(url.replace(PLACEHOLDER, scope) for url in self.partition)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The partitions of new certificates; none if they are undivided."""
        count = self.partitions
        if count == 1:
            return ()
        return tuple(f"{count}/{index}" for index in range(count))


#: No pointer leads anywhere.
NOWHERE = Places()


def bounds(scope: str) -> tuple[str, str]:
    """
    Return the least serial of a scope, and the first beyond it.

    :param scope: ``<n>/<i>``; anything else is all serials.
    """
    count, slash, index = scope.partition("/")
    if not slash:
        return "", "g"
    width = MOST_PARTITIONS // int(count)
    first = 0x40 + int(index) * width
    return f"{first:02x}", f"{first + width:02x}"


# --- in certificates --------------------------------------------------------


def issuer_extensions(
    certificate: bytes, places: Places
) -> Mapping[tuple[str, ...], Sequence[bytes]]:
    """
    Encode all that a certificate can say of its issuer.

    :param certificate: the issuer's, DER.
    :returns: by the pointers that are wanted, in any order: for each
        partition the extensions, one after another.
    """
    identifier = authority_key_identifier(certificate)
    points = [places.of_partition(scope) for scope in places.scopes] or [
        places.crl
    ]
    encoded = {}
    for wanted in _choices():
        access = _access(
            places.ocsp if "ocsp" in wanted else (),
            places.issuer if "issuer" in wanted else (),
        )
        encoded[wanted] = tuple(
            identifier
            + (
                plain(_CRL_DISTRIBUTION_POINTS, distribution_points(urls))
                if urls and "crl" in wanted
                else b""
            )
            + access
            for urls in points
        )
    return encoded


def _choices() -> Iterator[tuple[str, ...]]:
    """Yield each choice of pointers in each order."""
    for size in range(len(POINTERS) + 1):
        yield from permutations(POINTERS, size)


def authority_key_identifier(certificate: bytes) -> bytes:
    """
    Encode the extension that names the issuer's key.

    RFC 5280, section 4.2.1.1: the issuer's own identifier, never critical.
    """
    return plain(
        _AUTHORITY_KEY_IDENTIFIER,
        der.sequence(der.tlv(0x80, key_identifier(certificate))),
    )


def key_identifier(certificate: bytes) -> bytes:
    """
    Return what certificates of an issuer say of its key.

    :param certificate: the issuer's, DER.
    """
    issuer = x509.load_der_x509_certificate(certificate)
    try:
        return issuer.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        ).value.digest
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(
            issuer.public_key()
        ).digest


def _access(ocsp: Sequence[str], issuer: Sequence[str]) -> bytes:
    """Encode the authority information access, if there is any."""
    places = [
        der.sequence(method, _url(url))
        for method, urls in ((_OCSP, ocsp), (_CA_ISSUERS, issuer))
        for url in urls
    ]
    if not places:
        return b""
    return plain(_AUTHORITY_INFORMATION_ACCESS, der.sequence(*places))


# --- shared with CRLs -------------------------------------------------------


def distribution_points(urls: Sequence[str]) -> bytes:
    """
    Encode one distribution point as CRLDistributionPoints.

    RFC 5280, section 4.2.1.13: several names of one point are several ways
    to one CRL.
    """
    return der.sequence(der.sequence(point_name(urls)))


def point_name(urls: Sequence[str]) -> bytes:
    """Encode the distributionPoint of a point or of a CRL: its fullName."""
    # The second tag is the choice's own (RFC 5280, section 4.2.1.13).
    return der.tlv(0xA0, der.tlv(0xA0, b"".join(map(_url, urls))))


def _url(url: str) -> bytes:
    """Encode a uniformResourceIdentifier (RFC 5280, section 4.2.1.6)."""
    return der.tlv(0x86, url.encode("ascii"))


def plain(oid: str, value: bytes) -> bytes:
    """Encode an extension that is not critical."""
    return der.sequence(der.oid(oid), der.octet_string(value))


def critical(oid: str, value: bytes) -> bytes:
    """Encode an extension that is critical."""
    return der.sequence(
        der.oid(oid), der.boolean(True), der.octet_string(value)
    )
