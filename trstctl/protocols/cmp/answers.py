# SPDX-License-Identifier: MIT
"""
Writing answers: header, protection and the certificates beside them.

As the request is protected, so is the answer (RFC 9483, section 3.2): with
the same secret under a salt of our own, or signed by the endpoint's CMP
credential, which is never the CA's key.  What nobody's protection is known
of is signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from attrs import evolve, frozen

from trstctl.interfaces import IMessageCredential, IRegistrationAuthority
from trstctl.model import Endpoint
from trstctl.pkix import algorithms
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp import PKIBody, prepare
from trstctl.pkix.cmp_header import (
    GeneralInfo,
    PKIHeader,
    Recovered,
    party,
)
from trstctl.pkix.cmp_header import Party as Named
from trstctl.pkix.cms import key_identifier
from trstctl.protocols.cmp.header import answering_version
from trstctl.protocols.cmp.parties import Party, SecretParty

_NONCE = 16

#: No generalInfo.
NOTHING = GeneralInfo()


@frozen
class Envelope:
    """
    What an answer says around its body.

    :ivar nonce: our senderNonce.
    """

    pvno: int
    recipient: bytes
    transaction: bytes | None
    answers: bytes | None
    nonce: bytes
    now: datetime


def envelope_for(
    ra: IRegistrationAuthority, header: PKIHeader, transaction: bytes | None
) -> Envelope:
    """Return what the answer to a message begins with."""
    return Envelope(
        answering_version(header.pvno),
        header.sender.der,
        transaction,
        header.sender_nonce,
        ra.random_bytes(_NONCE),
        ra.now(),
    )


def envelope_for_unreadable(
    ra: IRegistrationAuthority, found: Recovered
) -> Envelope:
    """Likewise, for a message of which only this could be read."""
    return Envelope(
        answering_version(found.pvno or 0),
        party(()).der,
        found.transaction_id,
        found.sender_nonce,
        ra.random_bytes(_NONCE),
        ra.now(),
    )


class Writer:
    """
    Writes the answers of one endpoint.

    While one root takes over from another, what leads to the other one is in
    extraCerts, too (RFC 9810, section 4.4).

    :param include_root: whether extraCerts bring roots, too.
    """

    def __init__(
        self,
        ra: IRegistrationAuthority,
        endpoint: Endpoint,
        *,
        include_root: bool,
    ) -> None:
        self._ra = ra
        self._endpoint = endpoint
        self._include_root = include_root
        self._sender: tuple[bytes, PKIHeader] | None = None

    async def write(
        self,
        envelope: Envelope,
        body: PKIBody,
        to: Party | None,
        credential: IMessageCredential,
        chain: Sequence[bytes] = (),
        information: GeneralInfo = NOTHING,
    ) -> bytes:
        """
        Return a protected PKIMessage.

        :param to: who protected the message that is answered, if known.
        :param chain: DER of the issuers of a new certificate.
        """
        ours = self._ours(credential)
        # Not by evolve, which costs as much as all the rest of the header.
        header = PKIHeader(
            pvno=envelope.pvno,
            sender=ours.sender,
            recipient=Named(envelope.recipient, None),
            message_time=envelope.now.replace(microsecond=0),
            protection_alg=ours.protection_alg,
            sender_kid=ours.sender_kid,
            transaction_id=envelope.transaction,
            sender_nonce=envelope.nonce,
            recip_nonce=envelope.answers,
            general_info=information,
        )
        if isinstance(to, SecretParty):
            mac = to.mac.renewed(self._ra.random_bytes)
            key = await self._ra.elsewhere(mac.derive, to.text.encode("utf-8"))
            prepared = prepare(
                evolve(
                    header,
                    protection_alg=mac.der(),
                    sender_kid=to.record.id.encode("ascii"),
                ),
                body,
            )
            return prepared.finish(
                mac.compute(key, prepared.protected_part), self._shown(chain)
            )
        prepared = prepare(header, body)
        signature = await credential.sign(
            prepared.protected_part, credential.algorithm
        )
        return prepared.finish(
            signature, self._shown((*credential.chain, *chain))
        )

    def _ours(self, credential: IMessageCredential) -> PKIHeader:
        """Return a signed header's part that is always the same."""
        known = self._sender
        if known is None or known[0] != credential.certificate:
            facts = read_certificate(credential.certificate)
            sender = party(facts.subject)
            header = PKIHeader(
                pvno=2,
                sender=sender,
                recipient=sender,
                protection_alg=algorithms.algorithm_identifier(
                    credential.algorithm
                ),
                sender_kid=key_identifier(credential.certificate),
            )
            self._sender = known = (credential.certificate, header)
        return known[1]

    def _shown(self, chain: Sequence[bytes]) -> tuple[bytes, ...]:
        """Return certificates once each, in order, roots where wanted."""
        shown = [
            der
            for der in dict.fromkeys(chain)
            if self._include_root or not _is_root(der)
        ]
        if shown:
            shown += self._ra.succession(self._endpoint).links
        return tuple(shown)


@lru_cache(maxsize=64)
def _is_root(certificate: bytes) -> bool:
    """Tell whether a certificate names itself as its issuer."""
    facts = read_certificate(certificate)
    return facts.subject == facts.issuer
