# SPDX-License-Identifier: MIT
"""
Which certificate a device has now, by the names that somebody asks for it.
"""

from __future__ import annotations

from trstctl.errors import NotAuthorized, UnknownCertificate
from trstctl.interfaces import IStore
from trstctl.model import (
    CertificateQuery,
    CertificateRecord,
    CertificateRequest,
    CertificateStatus,
    EnrollmentRequest,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.names import COMMON_NAME, attribute_values, names_match
from trstctl.policy.binding import canonical

#: How many certificates of one name are looked at, the newest first.
_LOOKED_AT = 16

_UNKNOWN = "there is no certificate with this subject and these names"


async def current_certificate(
    store: IStore, request: EnrollmentRequest
) -> CertificateRecord:
    """
    Return the newest certificate with the requested subject and names.

    Of the endpoint's tenant, authority and profile: what another profile has
    issued cannot be renewed here.

    :raises UnknownCertificate: there is none.
    :raises NotAuthorized: it has been revoked, or replaced by one with other
        names.
    """
    endpoint, wanted = request.endpoint, request.wanted
    name = _search_term(wanted)
    if name is None:
        raise UnknownCertificate(_UNKNOWN)
    rows = await store.list_certificates(
        CertificateQuery(
            tenant_id=endpoint.tenant_id,
            profile=endpoint.profile,
            name=name,
            limit=_LOOKED_AT,
        )
    )
    names = set(map(canonical, wanted.names))
    authorities = (endpoint.authority, *endpoint.issuers)
    for row in rows:
        if row.authority not in authorities or set(row.names) != names:
            continue
        found = await store.find_certificate(endpoint.tenant_id, row.serial)
        assert found is not None  # none is ever removed
        subject = read_certificate(found.der).subject
        if names_match(subject, wanted.subject):
            return _usable(found)
    raise UnknownCertificate(_UNKNOWN)


def _usable(record: CertificateRecord) -> CertificateRecord:
    """Return a certificate, unless it is over with it."""
    if record.status is CertificateStatus.VALID:
        return record
    if record.status is CertificateStatus.REVOKED:
        raise NotAuthorized("the device's certificate has been revoked")
    raise NotAuthorized(
        "the device's certificate has been replaced by one with other names"
    )


def _search_term(wanted: CertificateRequest) -> str | None:
    """Return what the inventory finds the certificate by."""
    for name in wanted.names:
        return canonical(name).value
    for value in attribute_values(wanted.subject, COMMON_NAME):
        return value
    return None
