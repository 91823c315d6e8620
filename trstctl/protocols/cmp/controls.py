# SPDX-License-Identifier: MIT
"""
Controls of a request that have secrets in them, or that nobody serves
(RFC 4211, section 6).

``regToken`` is good once, which is what our challenges are: an endpoint may
judge it by them, beside the certificate that signed the message.  Where
nobody judges it, whoever sent one would think that it counted; so it is
refused, unless the endpoint is told to ignore it.  ``authenticator`` is a
secret for long, of which we have none.  What asks to archive the private key
is never served: the key is none of our business.

``pkiPublicationInfo`` is advisory, ``oldCertID`` is for ``kur`` to look at,
and what is not known is ignored.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import Challenge, Credential
from trstctl.pkix.crmf import CONTROLS, Controls
from trstctl.protocols.cmp.parties import Party, SecretParty
from trstctl.protocols.cmp.refusals import refuse

#: What is never served, and why.
_REFUSED: Mapping[str, str] = {
    "pkiArchiveOptions": "private keys are not archived here",
    "altCertTemplate": "only X.509 certificates are issued here",
}


def credentials_for(
    ra: IRegistrationAuthority, reg_token: str, party: Party, found: Controls
) -> tuple[Credential, ...]:
    """
    Return what a request is made with: who signed it, and its token.

    :param reg_token: what becomes of tokens: ``refuse``, ``ignore`` or
        ``challenge``.
    :raises RequestError: a control that is not for this endpoint.
    """
    for name, text in _REFUSED.items():
        if CONTROLS[name] in found.values:
            raise refuse("badRequest", "control", f"{name}: {text}")
    own = party.credential(ra)
    if reg_token == "ignore":  # noqa: S105  a mode
        return (own,)
    if found.authenticator is not None:
        raise refuse(
            "badRequest", "authenticator", "authenticator is not served here"
        )
    if found.reg_token is None:
        return (own,)
    if reg_token == "refuse":  # noqa: S105  a mode
        raise refuse(
            "badRequest",
            "reg-token",
            "regToken is not served here; the server's reg_token says what "
            "becomes of it",
        )
    if isinstance(party, SecretParty):
        # It has one already, by which the message is protected.
        if hmac.compare_digest(
            found.reg_token.encode("utf-8"), party.text.encode("utf-8")
        ):
            return (own,)
        raise refuse(
            "badRequest",
            "reg-token",
            "a request under a shared secret has no other regToken",
        )
    return (own, Challenge(found.reg_token, ra.challenges))
