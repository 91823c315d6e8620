# SPDX-License-Identifier: MIT
"""
kur: which certificate is updated, and why none can be (RFC 9483, 4.1.3).

A device updates what it signs with.  A registration authority updates for
its device, whose newest certificate is found by its names.
"""

from __future__ import annotations

from contextlib import suppress
from typing import cast

from trstctl.errors import UnknownCertificate
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import CertificateStatus, Endpoint
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.names import names_match
from trstctl.protocols.cmp.parties import Party, SignerParty
from trstctl.protocols.cmp.refusals import refuse
from trstctl.protocols.cmp.wishes import Wish


async def check_old(
    ra: IRegistrationAuthority, endpoint: Endpoint, wish: Wish
) -> None:
    """
    Refuse an update for one device that names the certificate of another.

    :raises RequestError: badCertId.
    """
    named = wish.controls.old_cert_id
    if named is None:
        return
    with suppress(UnknownCertificate):
        record = await ra.find(endpoint.tenant_id, named.serial)
        facts = read_certificate(record.der)
        if (
            named.issuer is not None
            and names_match(named.issuer, facts.issuer)
            and names_match(wish.wanted.subject, facts.subject)
        ):
            return
    raise refuse(
        "badCertId",
        "old-cert-id",
        "oldCertId is not a certificate of this subject",
    )


async def why_over(
    ra: IRegistrationAuthority, endpoint: Endpoint, party: Party
) -> tuple[str, str]:
    """Return failInfo and code of an update that there is nothing for."""
    facts = cast("SignerParty", party).certificate  # a kur is signed
    own = await ra.find(endpoint.tenant_id, facts.serial)
    if own.superseded_by:
        return "certRevoked", "signer-updated"
    if own.status is CertificateStatus.REVOKED:
        return "certRevoked", "signer-revoked"
    # One update at a time; nothing has been revoked.
    return "badRequest", "update-unconfirmed"
