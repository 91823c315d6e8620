# SPDX-License-Identifier: MIT
"""One Full PKI Request on its way, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from trstctl.errors import NotAuthenticated
from trstctl.http.request import HTTPRequest
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    ClientCertificate,
    Credential,
    Endpoint,
    Principal,
)
from trstctl.pkix.cmc import StatusInfo
from trstctl.protocols.est.cmc_parties import Signer
from trstctl.protocols.est.cmc_refusals import refuse
from trstctl.protocols.est.cmc_wishes import Echo, Wanted, Wish


@frozen
class Asked:
    """
    One message, read, and its signature verified.

    :ivar presented: what came by TLS and HTTP.
    :ivar wanted: the request in it, if there is one.
    """

    http: HTTPRequest
    wish: Wish
    echo: Echo
    signer: Signer
    presented: tuple[Credential, ...] = field(repr=False)
    wanted: Wanted | None = None

    @property
    def credentials(self) -> tuple[Credential, ...]:
        """What a request is made with, each certificate once."""
        own = self.signer.credentials
        ders = {each.der for each in own}
        return (
            *own,
            *(
                each
                for each in self.presented
                if not (
                    isinstance(each, ClientCertificate) and each.der in ders
                )
            ),
        )


@frozen
class Outcome:
    """
    What is told, before it is a message.

    :ivar facts: for the log.
    :ivar certificates: DER of what goes beside it, the new one first.
    :ivar http_status: 200, or what RFC 7030, section 4.2.3, has.
    :ivar retry_after: seconds; 0: nothing is said.
    """

    status: StatusInfo
    facts: Mapping[str, str]
    certificates: tuple[bytes, ...] = field(default=(), repr=False)
    http_status: int = 200
    retry_after: int = 0


async def identified(
    ra: IRegistrationAuthority, endpoint: Endpoint, signer: Signer
) -> Principal:
    """
    Return for whom the signer's certificate speaks.

    :raises Refusal: nobody vouches for it.
    :raises NotAuthorized: it has expired or was revoked.
    """
    facts = signer.certificate
    assert facts is not None  # the key of a request signs nothing else
    try:
        found: Principal = await ra.identify(endpoint, facts.der, signer.chain)
    except NotAuthenticated:
        raise refuse(
            "badIdentity",
            "no trust anchor of this endpoint leads to the signer",
        ) from None
    return found
