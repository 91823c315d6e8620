# SPDX-License-Identifier: MIT
"""
origPKIMessage: what a registration authority got before it changed it
(RFC 9810, section 5.1.1.3; RFC 9483, section 5.2.3).

Theory of operation
===================

O-1  *Only from who may vouch.*  Anybody else has no business with the
     messages of others.
O-2  *What is brought along must verify*: the protection, by a secret of this
     endpoint or by the certificate in its extraCerts, and the proof of
     possession.  What cannot be verified proves nothing, and a registration
     authority whose devices have secrets of its own leaves it out.
O-3  *It must be the original of this message*: the same transactionID, the
     same kind of request, for the same key.  Names and extensions may have
     been changed: for them the registration authority answers, within its
     scope.
O-4  *It grants nothing.*  What may be had is what the registration authority
     may have, so a signer whom no trust anchor here leads to is no fault: the
     manufacturer may be known to the registration authority alone.  One who
     is known and revoked, expired or not confirmed yet is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from trstctl.errors import (
    Malformed,
    NotAuthenticated,
    RequestError,
    Throttled,
    TooLarge,
)
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import CertificateRequest
from trstctl.pkix.cmp import PKIMessage, read_message
from trstctl.pkix.cmp_bodies import read_rev_req
from trstctl.pkix.crmf import (
    CertReqMsg,
    certificate_request,
    read_cert_req_messages,
)
from trstctl.pkix.csr import read_csr, verify_proof
from trstctl.policy.keys import require_affordable
from trstctl.protocols.cmp.exchange import Exchange
from trstctl.protocols.cmp.header import check_version
from trstctl.protocols.cmp.parties import SignerParty, anchored, prove_party
from trstctl.protocols.cmp.refusals import refuse, restate
from trstctl.protocols.cmp.settings import Served

#: Requests for a certificate: one may have been made another.
_CERTIFIED = frozenset({"ir", "cr", "p10cr", "kur"})


class Originals:
    """Judges the original messages in headers, at one endpoint."""

    def __init__(self, ra: IRegistrationAuthority, served: Served) -> None:
        self._ra = ra
        self._served = served

    async def check(
        self, asked: Exchange, inside: Sequence[PKIMessage] = ()
    ) -> None:
        """
        Judge what a message brings along.

        :param inside: the messages in it, if it is a nested one.
        :raises RequestError: it is not what it must be.
        """
        originals = asked.message.header.general_info.orig_messages
        if not originals:
            return
        if asked.known.kind != "ra":
            raise refuse(
                "notAuthorized",
                "orig-message",
                "origPKIMessage is for registration authorities",
            )
        await self._check_each(asked, originals, inside or (asked.message,))

    async def _check_each(
        self,
        asked: Exchange,
        originals: Sequence[bytes],
        messages: Sequence[PKIMessage],
    ) -> None:
        """Judge each original beside what became of it."""
        # RFC 9810, section 5.1.1.3: exactly one, but of a nested message.
        if len(originals) != len(messages):
            raise refuse(
                "badRequest",
                "orig-message-count",
                "origPKIMessage must have one message for each that is sent",
            )
        for octets, message in zip(originals, messages, strict=True):
            original = _read(octets)
            _check_same(original, message)
            await self._check_protection(asked, original)

    async def _check_protection(
        self, asked: Exchange, original: PKIMessage
    ) -> None:
        """Verify who sent it in the first place (O-2, O-4)."""
        try:
            check_version(original.header.pvno)
            if original.header.protection_alg is None:
                raise Malformed("the original message is not protected")
            party = await prove_party(
                self._ra,
                self._served.endpoint,
                original,
                asked.request.peer,
                b"",
                strict=self._served.strict,
            )
        except Throttled:
            raise
        except RequestError as error:
            raise restate(
                error, "badMessageCheck", "orig-message-protection"
            ) from None
        if not isinstance(party, SignerParty):
            return
        # A manufacturer may be known to the registration authority alone.
        with suppress(NotAuthenticated):
            await anchored(
                self._ra,
                self._served.endpoint,
                party,
                renewing=original.body.type == "kur",
            )


def _read(octets: bytes) -> PKIMessage:
    """Read an original message."""
    try:
        return read_message(octets)
    except (Malformed, TooLarge) as error:
        raise restate(error, "badDataFormat", "orig-message-malformed") from (
            None
        )


def _check_same(original: PKIMessage, message: PKIMessage) -> None:
    """Refuse the original of another message (O-3)."""
    same = original.header.transaction_id == message.header.transaction_id
    kinds = {original.body.type, message.body.type}
    try:
        if kinds <= _CERTIFIED:
            before, now = _wanted(original), _wanted(message)
            same = same and _key_of(before) == _key_of(now)
            if same:
                _check_proof(before)
        elif kinds == {"rr"}:
            same = same and _named(original) == _named(message)
        else:
            same = same and original.body == message.body
    except (Malformed, TooLarge) as error:
        raise restate(error, "badDataFormat", "orig-message-malformed") from (
            None
        )
    if not same:
        raise refuse(
            "badMessageCheck",
            "orig-message-other",
            "origPKIMessage is not the original of this message",
        )


def _wanted(message: PKIMessage) -> CertReqMsg | CertificateRequest:
    """Return the one request of a message."""
    value = message.body.value
    if message.body.type == "p10cr":
        return read_csr(value, lenient=True)
    requests = read_cert_req_messages(value)
    if len(requests) != 1:
        raise Malformed("the message has more than one request")
    return requests[0]


def _key_of(wanted: CertReqMsg | CertificateRequest) -> bytes:
    """Return the key, or the algorithm of the one to be generated."""
    if isinstance(wanted, CertificateRequest):
        return wanted.public_key.spki
    template = wanted.template
    return template.public_key or template.key_algorithm or b""


def _check_proof(wanted: CertReqMsg | CertificateRequest) -> None:
    """Verify the original proof of possession, if it is a signature."""
    if isinstance(wanted, CertReqMsg):
        if wanted.template.public_key is None:
            return  # no key, no proof
        wanted = certificate_request(wanted, lenient=True)
    if wanted.proof.kind == "signature":
        # Key policy before any signature is verified.
        require_affordable(wanted.public_key)
        verify_proof(wanted)


def _named(message: PKIMessage) -> list[tuple[object, object]]:
    """Return which certificates are to be revoked."""
    return [
        (details.template.issuer, details.template.serial)
        for details in read_rev_req(message.body.value)
    ]
