# SPDX-License-Identifier: MIT
"""
Full CMC (RFC 7030, section 4.3; RFC 5272; RFC 6402).

Theory of operation
===================

F-1  *A message is answered by a message*: whatever comes of a body that was
     labelled as one, there is a signed PKIResponse (RFC 7030, section 4.3.2).
F-2  *One message, one thing*: see :mod:`trstctl.protocols.est.cmc_wishes`.
F-3  *Controls, signature, identity, then what is asked for.*  What is wrong
     with a signature is told before anything that the registration authority
     knows.
     Nothing but a revocation by a shared secret needs no signature (RFC 5272,
     section 6.11).
F-4  *Signed by a key of the gateway's own*, which has id-kp-cmcCA (RFC 6402,
     section 2.10), never by the CA's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import field, frozen

from trstctl.errors import Malformed, TrstctlError
from trstctl.http.request import HTTPRequest
from trstctl.interfaces import IMessageCredential, IRegistrationAuthority
from trstctl.model import CertificateRequest, Credential, Name, Purpose
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmc import (
    PKI_DATA,
    PKI_RESPONSE,
    WHOLE,
    StatusInfo,
    pki_response,
    read_pki_data,
)
from trstctl.pkix.cmc_controls import CONTROLS
from trstctl.pkix.signed import SignedData, read_signed_data
from trstctl.pkix.signing import prepare_signed
from trstctl.protocols.est.cmc_enrollment import Enrollment
from trstctl.protocols.est.cmc_exchange import Asked, Outcome
from trstctl.protocols.est.cmc_parties import prove_signer
from trstctl.protocols.est.cmc_refusals import Refusal, concerning, refuse
from trstctl.protocols.est.cmc_revocation import Revocation
from trstctl.protocols.est.cmc_wishes import (
    Echo,
    Wish,
    read_echo,
    read_wanted,
    read_wish,
)
from trstctl.protocols.est.codec import decode_message_body
from trstctl.protocols.est.settings import Served

_NONCE = 16


@frozen
class Reply:
    """
    A Full PKI Response, and what HTTP says of it.

    :ivar message: DER.
    :ivar status: 200, or what RFC 7030, section 4.2.3, has for one that
        waits; an ``error`` has its own.
    :ivar retry_after: seconds; 0: nothing is said.
    :ivar facts: for the log.
    """

    message: bytes = field(repr=False)
    status: int = 200
    retry_after: int = 0
    facts: Mapping[str, str] = field(factory=dict)
    error: TrstctlError | None = None


class FullCMC:
    """
    Answers Full PKI Requests at one label.

    :param enforce: refuses a request that ignores /csrattrs, where the label
        says so.
    """

    def __init__(
        self,
        ra: IRegistrationAuthority,
        served: Served,
        enforce: Callable[[CertificateRequest], None],
    ) -> None:
        self._ra = ra
        self._served = served
        self._enrollment = Enrollment(ra, served, enforce)
        self._revocation = Revocation(ra, served)

    async def answer(
        self,
        http: HTTPRequest,
        presented: Callable[[], tuple[Credential, ...]],
    ) -> Reply:
        """
        Answer a Full PKI Request (F-1).

        :param presented: returns what came by TLS and HTTP.
        """
        # First: nothing is done that could not be told.
        now = self._ra.succession(self._served.endpoint)
        credential = await self._ra.credentials.get(now.authority, Purpose.CMP)
        echo = Echo()
        try:
            message = self._read_message(http.body)
            with concerning(WHOLE):
                data = read_pki_data(message.content or b"")
            echo = read_echo(data)
            wish = read_wish(data)
            if message.signers:
                outcome = await self._signed(
                    http, presented, message, echo, wish
                )
            else:
                outcome = await self._unsigned(http, wish)
        except Refusal as refusal:
            told = refusal.status()
            return Reply(
                await self._written(credential, told, echo),
                error=refusal.error,
            )
        return Reply(
            await self._written(
                credential, outcome.status, echo, outcome.certificates
            ),
            outcome.http_status,
            outcome.retry_after,
            outcome.facts,
        )

    def _read_message(self, body: bytes) -> SignedData:
        """Read the SignedData around a PKIData (section 3.2)."""
        with concerning(WHOLE):
            octets = decode_message_body(body, lenient=self._served.lenient)
            try:
                message = read_signed_data(octets, unsigned=True)
            except Malformed as error:
                raise Malformed(
                    f"{error.detail}: a Full PKI Request is a SignedData with "
                    "one signer and signed attributes (AuthenticatedData is "
                    "not served)"
                ) from error
        if message.content_type != PKI_DATA or message.content is None:
            raise refuse(
                "badRequest", "the signed content must be an id-cct-PKIData"
            )
        return message

    async def _signed(
        self,
        http: HTTPRequest,
        presented: Callable[[], tuple[Credential, ...]],
        message: SignedData,
        echo: Echo,
        wish: Wish,
    ) -> Outcome:
        """Verify the signature, then do what the message asks for (F-3)."""
        wanted = None
        if wish.request is not None:
            wanted = read_wanted(
                wish.request,
                self._issuer,
                lenient=self._ra.is_lenient(self._served.endpoint),
            )
        signer = prove_signer(
            message, None if wanted is None else wanted.request
        )
        with concerning(WHOLE):
            own = presented()
        return await self._acted(Asked(http, wish, echo, signer, own, wanted))

    async def _unsigned(self, http: HTTPRequest, wish: Wish) -> Outcome:
        """Revoke by a shared secret (section 6.11)."""
        wanted = wish.revocation
        if wanted is None or wanted.secret is None:
            raise refuse(
                "badMessageCheck",
                "only a revokeRequest with a shared secret needs no signature",
            )
        return await self._revocation.revoke_by_secret(
            http, wish.body_part, wanted, wanted.secret
        )

    def _issuer(self) -> Name:
        """Return the subject of the endpoint's CA."""
        chain = self._ra.ca_certificates(self._served.endpoint)
        return read_certificate(chain[0]).subject

    async def _acted(self, asked: Asked) -> Outcome:
        """Do what the message asks for (F-2)."""
        wish = asked.wish
        if asked.wanted is not None:
            return await self._enrollment.enroll(asked, asked.wanted)
        if wish.revocation is not None:
            return await self._revocation.revoke(asked, wish.revocation)
        return await self._enrollment.poll(asked, wish.pend_token or b"")

    async def _written(
        self,
        credential: IMessageCredential,
        status: StatusInfo,
        echo: Echo,
        certificates: tuple[bytes, ...] = (),
    ) -> bytes:
        """Return a Full PKI Response (sections 4.2 and 6.6; F-4)."""
        ra = self._ra
        links = ra.succession(self._served.endpoint).links
        controls = [(CONTROLS["statusInfoV2"], status.der())]
        if echo.transaction is not None:
            number = der.tlv(der.INTEGER, echo.transaction)
            controls.append((CONTROLS["transactionId"], number))
        answered = echo.sender_nonce is not None
        for name, octets in (
            ("recipientNonce", echo.sender_nonce),
            ("dataReturn", echo.data_return),
            ("senderNonce", ra.random_bytes(_NONCE) if answered else None),
        ):
            if octets is not None:
                controls.append((CONTROLS[name], der.octet_string(octets)))
        prepared = prepare_signed(
            pki_response(controls),
            certificate=credential.certificate,
            algorithm=credential.algorithm,
            attributes={},
            content_type=PKI_RESPONSE,
            certificates=tuple(
                dict.fromkeys((*certificates, *credential.chain, *links))
            ),
            signing_time=ra.now(),
        )
        signature = await credential.sign(
            prepared.to_sign, credential.algorithm
        )
        return prepared.finish(signature)
