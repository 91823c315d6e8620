# SPDX-License-Identifier: MIT
"""One Full PKI Request on its way, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from trstctl.errors import Conflict, NotAuthenticated
from trstctl.http.request import HTTPRequest
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    ClientCertificate,
    Credential,
    Dialogue,
    Endpoint,
    Principal,
)
from trstctl.pkix.cmc import StatusInfo
from trstctl.protocols.est.cmc_parties import (
    REPEATABLE,
    Signer,
    is_in_session,
)
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


async def seen_before(
    ra: IRegistrationAuthority,
    endpoint: Endpoint,
    asked: Asked,
    party: str,
    notes: Mapping[str, str],
) -> Mapping[str, str] | None:
    """
    Remember a message that is a credential by itself, in all of the tenant.

    A message whose signer has opened the TLS session is not remembered:
    nobody else can send it.

    :param party: who has signed it.
    :param notes: what it was used for.
    :returns: what it was used for before; ``None``: it is new.
    """
    signer, now = asked.signer, ra.now()
    if signer.certificate is None or is_in_session(signer, asked.presented):
        return None
    transaction = f"message-{signer.message}"
    try:
        await ra.dialogues.open_dialogue(
            Dialogue(
                tenant_id=endpoint.tenant_id,
                protocol=endpoint.protocol,
                endpoint="",
                transaction=transaction,
                party=party,
                state="acted",
                request=signer.message,
                answer=b"",
                notes=notes,
                expires_at=now + REPEATABLE,
            ),
            now,
        )
    except Conflict:
        found = await ra.dialogues.find_dialogue(
            endpoint.tenant_id, endpoint.protocol, "", transaction, now
        )
        # What was just forgotten was of some other time.
        return {} if found is None else found.notes
    return None
