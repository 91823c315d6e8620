# SPDX-License-Identifier: MIT
"""
Certificate revocation lists (RFC 5280, section 5), written directly.

What is the same in each CRL of an authority is encoded once; an entry is a
few concatenations, so that a hundred thousand of them take a fraction of a
second.  Nothing here reads a store or signs: :mod:`trstctl.ca.publisher`
does.

Written: version 2, entries with reasonCode, authorityKeyIdentifier,
cRLNumber, a critical issuingDistributionPoint in a partition's, a critical
deltaCRLIndicator in a delta's, freshestCRL in what a delta is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from attrs import frozen

from trstctl.ca.authority import subject_of
from trstctl.ca.pointers import (
    authority_key_identifier,
    critical,
    distribution_points,
    plain,
    point_name,
)
from trstctl.model import SerialStatus
from trstctl.pkix import der
from trstctl.pkix.algorithms import algorithm_identifier
from trstctl.pkix.extensions import CRL_REASONS
from trstctl.pkix.times import time

_CRL_NUMBER = "2.5.29.20"
_REASON_CODE = "2.5.29.21"
_DELTA_CRL_INDICATOR = "2.5.29.27"
_ISSUING_DISTRIBUTION_POINT = "2.5.29.28"
_FRESHEST_CRL = "2.5.29.46"

# RFC 5280, section 5.1.2.1: with extensions, the version is v2.
_VERSION_2 = der.integer(1)

_ENUMERATED = 0x0A

#: crlEntryExtensions by reason.  Section 5.3.1: rather than unspecified(0),
#: the extension should be absent.
_ENTRY_EXTENSIONS = {
    name: der.sequence(
        plain(_REASON_CODE, der.tlv(_ENUMERATED, bytes((code,))))
    )
    for name, code in CRL_REASONS.items()
    if code
}

#: In as many octets at a CRL's end its extensions are found, and its head
#: in as many at its beginning.
_EXTENSIONS = 65536

#: Of a certificate that was released.
_REMOVE = _ENTRY_EXTENSIONS["removeFromCRL"]


@frozen
class Draft:
    """
    What a CRL says of itself.

    :ivar number: CRLNumber.
    :ivar base: BaseCRLNumber of a delta CRL, else 0.
    :ivar urls: of a partition: its distribution point, as the certificates
        name it; empty for what covers all certificates.
    :ivar freshest: where the delta CRL for it is.
    """

    number: int
    this_update: datetime
    next_update: datetime
    base: int = 0
    urls: Sequence[str] = ()
    freshest: Sequence[str] = ()


class ListWriter:
    """
    Writes the TBSCertList of one authority.

    :param certificate: the CA's, DER.
    :param algorithm: the name of the signature algorithm.
    """

    def __init__(self, certificate: bytes, algorithm: str) -> None:
        # Section 5.1.2.2: the algorithm within is the one without; 5.1.2.3:
        # the issuer, octet by octet as in its certificate.
        self._head = (
            _VERSION_2
            + algorithm_identifier(algorithm)
            + subject_of(certificate)
        )
        self._identifier = authority_key_identifier(certificate)

    def wrote(self, crl: bytes) -> bool:
        """
        Tell whether a CRL of our own is by this very issuer and key.

        An authority of the same name may have been another CA before.
        """
        # The entries between head and extensions may have megabytes.
        return (
            self._head in crl[:_EXTENSIONS]
            and self._identifier in crl[-_EXTENSIONS:]
        )

    def write(self, draft: Draft, entries: Iterable[bytes]) -> bytes:
        """
        Return the DER TBSCertList.

        :param entries: what :func:`encode_entries` returned, page by page.
        """
        listed = b"".join(entries)
        return der.sequence(
            self._head,
            time(draft.this_update),
            # Section 5.1.2.5: conforming issuers MUST include nextUpdate.
            time(draft.next_update),
            # Section 5.1.2.6: without entries, the list MUST be absent.
            der.sequence(listed) if listed else b"",
            der.explicit(0, der.sequence(*self._extensions(draft))),
        )

    def _extensions(self, draft: Draft) -> list[bytes]:
        """Encode the crlExtensions."""
        extensions = [
            self._identifier,
            plain(_CRL_NUMBER, der.integer(draft.number)),
        ]
        if draft.base:
            # Section 5.2.4: MUST be critical.
            extensions.append(
                critical(_DELTA_CRL_INDICATOR, der.integer(draft.base))
            )
        # Section 5.2.6: freshestCRL MUST NOT appear in delta CRLs.
        freshest = () if draft.base else draft.freshest
        return extensions + _pointers(draft.urls, freshest)


def _pointers(urls: Sequence[str], freshest: Sequence[str]) -> list[bytes]:
    """Encode the extensions that name places."""
    extensions = []
    if urls:
        # Section 5.2.5: MUST be critical, and have a name in common with the
        # certificates' distribution point.
        extensions.append(
            critical(
                _ISSUING_DISTRIBUTION_POINT, der.sequence(point_name(urls))
            )
        )
    if freshest:
        extensions.append(plain(_FRESHEST_CRL, distribution_points(freshest)))
    return extensions


def points_to(
    crl: bytes, urls: Sequence[str], freshest: Sequence[str]
) -> bool:
    """Tell whether a CRL of our own names these very places."""
    tail = crl[-_EXTENSIONS:]
    return all(extension in tail for extension in _pointers(urls, freshest))


def encode_entries(statuses: Sequence[SerialStatus]) -> bytes:
    """
    Encode a page of revokedCertificates.

    A serial that is good again becomes removeFromCRL, for delta CRLs only
    (RFC 5280, section 5.3.1); who reads for another asks for no such serial.
    """
    tlv = der.tlv
    entries = []
    for status in statuses:
        when, extensions = status.revoked_at, b""
        if when is None:
            when, extensions = status.released_at, _REMOVE
            if when is None:
                continue  # never revoked at all
        elif status.reason:
            extensions = _ENTRY_EXTENSIONS.get(status.reason, b"")
        entries.append(
            tlv(
                0x30,
                der.integer(int(status.serial, 16)) + time(when) + extensions,
            )
        )
    return b"".join(entries)
