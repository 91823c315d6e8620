# SPDX-License-Identifier: MIT
"""
The gate of Microsoft Intune: it validates each request, online.

Theory of operation
===================

N-1  *No answer is no.*  Only ``Success`` lets a request pass.  Every other
     code refuses it; anything that is no code at all, from a failed token to
     bad JSON, makes the gate unavailable, and nothing is issued.
N-2  *Told before it is handed out.*  Intune hears of a certificate before
     the device gets it; if it cannot, the certificate is revoked.
N-3  *Asked to revoke, and does.*  Intune's requests are fetched in rounds.
     Any process may fetch the same one: to revoke twice is to revoke once.
N-4  *Not at everybody's will.*  How often Intune is asked for one address, and
     by whom whose challenges it did not like, is bounded:
     :class:`~trstctl.interfaces.IAttempts`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from trstctl.errors import (
    ChallengeRejected,
    Malformed,
    NotAuthorized,
    PolicyViolation,
    RequestError,
    TrstctlError,
    Unavailable,
    UnknownCertificate,
    UnsupportedAlgorithm,
)
from trstctl.interfaces import IChallengeGate, IRegistrationAuthority
from trstctl.model import Endpoint, EnrollmentRequest, Issued, Principal
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.names import name_text
from trstctl.protocols.scep.intune_service import (
    REVOCATION,
    VALIDATION,
    IntuneService,
    base64_of,
)
from trstctl.protocols.scep.json_object import Object, text_of

SUCCESS = "Success"

#: What Intune can answer; another code is a refusal, too.
CODES = frozenset(
    {
        SUCCESS,
        "Unknown",
        "CertificateRequestDecodingFailed",
        "ChallengePasswordMissing",
        "ChallengeDeserializationError",
        "ChallengeDecryptionError",
        "ChallengeDecodingError",
        "ChallengeInvalidTimestamp",
        "ChallengeExpired",
        "SubjectNameMissing",
        "SubjectNameMismatch",
        "SubjectAltNameMissing",
        "SubjectAltNameMismatch",
        "KeyUsageMismatch",
        "KeyLengthMismatch",
        "EnhancedKeyUsageMissing",
        "EnhancedKeyUsageMismatch",
        "AadKeyIdentifierListMissing",
        "RegisteredKeyMismatch",
        "SigningCertThumbprintMismatch",
        "ScepProfileNoLongerTargetedToTheClient",
        "SignatureValidationFailed",
        "BadCertificateRequestIdInChallenge",
        "BadDeviceIdInChallenge",
        "BadUserIdInChallenge",
    }
)

#: What a refusal is called in Intune's console: HRESULTs, which are signed.
RESULTS: Mapping[type[RequestError], int] = {
    NotAuthorized: 0x80070005 - 2**32,  # E_ACCESSDENIED
    PolicyViolation: 0x80094014 - 2**32,  # CERTSRV_E_ADMIN_DENIED_REQUEST
    UnsupportedAlgorithm: 0x80090008 - 2**32,  # NTE_BAD_ALGID
}
_FAILED = 0x80004005 - 2**32  # E_FAIL

#: Characters of a description, and of a code.
_LONGEST_TEXT = 255
_LONGEST_CODE = 64

#: Requests to revoke that are fetched at once, and how often in a round.
MOST = 500
_FETCHES = 4

#: Characters of a serial number, and of what a request is told apart by.
_LONGEST_SERIAL = 64
_LONGEST_CONTEXT = 4096

#: Why Intune has a certificate revoked: the device has left.
REASON = "cessationOfOperation"

#: What becomes of a request to revoke: final from 4000 on, and to be asked
#: again from 4100 on.
DONE = 0
_INVALID = 4002  # ParameterDataInvalidError
_NOT_FOUND = 4004  # CertificateNotFoundError
_REFUSED = 4000  # NonRetryableServiceException
_AGAIN = 4100  # RetryableServiceException
_UNAVAILABLE = 4101  # ServiceUnavailableException

_NO_SUCH = "there is no such certificate"


@implementer(IChallengeGate)
class IntuneGate:
    """
    Lets pass what Intune lets pass.

    :param caller: how we introduce ourselves.
    :param revokes: whether to do what Intune asks to be revoked.
    """

    renewals = True

    _log = Logger()

    def __init__(
        self,
        endpoint: Endpoint,
        service: IntuneService,
        ra: IRegistrationAuthority,
        caller: str,
        *,
        revokes: bool,
    ) -> None:
        self._endpoint = endpoint
        self._service = service
        self._ra = ra
        self._caller = caller
        self._revokes = revokes

    # --- before -------------------------------------------------------------

    def admit(
        self, request: EnrollmentRequest, challenge: str, now: datetime
    ) -> Deferred[Principal]:
        """Let Intune validate a request; see the interface (N-1)."""
        return Deferred.fromCoroutine(self._admit(request, challenge))

    async def _admit(
        self, request: EnrollmentRequest, challenge: str
    ) -> Principal:
        """Ask Intune, which finds the challenge in the request."""
        if not challenge:
            self._ra.attempts.failed(request)
            raise ChallengeRejected
        with self._ra.attempts.judging(request, challenge):
            await self._validate(request)
        return Principal(
            kind="mdm",
            name=f"intune:{request.wanted.public_key.fingerprint}",
            tenant_id=request.endpoint.tenant_id,
            profiles=(request.endpoint.profile,),
        )

    async def _validate(self, request: EnrollmentRequest) -> None:
        """Let Intune judge a request."""
        code, description = await self._say(
            "validateRequest", {"request": self._about(request)}, tries=2
        )
        if code != SUCCESS:
            self._log.warn(
                "Intune refused a request: {code}",
                event="intune.refused",
                request_id=request.request_id,
                tenant=request.endpoint.tenant_id,
                protocol=request.endpoint.protocol,
                transaction=request.transaction,
                code=code,
                reason=description,
            )
            raise ChallengeRejected

    # --- after --------------------------------------------------------------

    def issued(
        self, request: EnrollmentRequest, principal: Principal, outcome: Issued
    ) -> Deferred[None]:
        """Tell Intune of a certificate; see the interface (N-2)."""

        async def tell() -> None:
            facts = read_certificate(outcome.certificate)
            issuer = name_text(facts.issuer)
            end = facts.not_after.strftime("%Y-%m-%dT%H:%M:%S.000Z")
            thumbprint = hashlib.sha1(
                outcome.certificate, usedforsecurity=False
            )
            code, description = await self._say(
                "successNotification",
                {
                    "notification": {
                        **self._about(request),
                        "certificateThumbprint": thumbprint.hexdigest().upper(),
                        "certificateSerialNumber": outcome.serial,
                        "certificateExpirationDateUtc": end,
                        "issuingCertificateAuthority": issuer,
                        "caConfiguration": request.endpoint.authority,
                        "certificateAuthority": issuer,
                    }
                },
                tries=3,
            )
            if code != SUCCESS:
                self._tell_unheard(request, code, description)
                raise Unavailable

        return Deferred.fromCoroutine(tell())

    def refused(
        self, request: EnrollmentRequest, error: RequestError
    ) -> Deferred[None]:
        """Tell Intune of a refusal, if that can be done."""

        async def tell() -> None:
            result = next(
                (
                    RESULTS[kind]
                    for kind in type(error).__mro__
                    if kind in RESULTS
                ),
                _FAILED,
            )
            notification = {
                **self._about(request),
                "hResult": result,
                "errorDescription": error.detail[:_LONGEST_TEXT],
            }
            try:
                code, description = await self._say(
                    "failureNotification", {"notification": notification}
                )
            except Unavailable:
                return  # the log has it
            if code != SUCCESS:
                self._tell_unheard(request, code, description)

        return Deferred.fromCoroutine(tell())

    def _tell_unheard(
        self, request: EnrollmentRequest, code: str, description: str
    ) -> None:
        """Log that Intune did not take a notification."""
        self._log.error(
            "Intune did not take a notification: {code}",
            event="intune.unheard",
            request_id=request.request_id,
            tenant=request.endpoint.tenant_id,
            protocol=request.endpoint.protocol,
            transaction=request.transaction,
            code=code,
            reason=description,
        )

    def _about(self, request: EnrollmentRequest) -> dict[str, object]:
        """Return what every message says of a request."""
        return {
            "transactionId": request.transaction,
            "certificateRequest": base64_of(request.wanted.der),
            "callerInfo": self._caller,
        }

    async def _say(
        self, action: str, content: Object, *, tries: int = 1
    ) -> tuple[str, str]:
        """Return the code of an action, and its description."""
        found = await self._service.post(
            VALIDATION, f"ScepActions/{action}", content, tries=tries
        )
        code = found.get("code")
        if not isinstance(code, str) or not code:
            raise Unavailable
        description = found.get("errorDescription")
        text = description if isinstance(description, str) else ""
        return code[:_LONGEST_CODE], text[:_LONGEST_TEXT]

    # --- what Intune wants revoked ------------------------------------------

    async def tend(self) -> None:
        """
        Revoke what Intune asks to be revoked (N-3).

        :raises Unavailable: Intune cannot be asked, or does not take what
            became of it; the next round does it again.
        """
        if not self._revokes:
            return
        for _ in range(_FETCHES):
            wanted = await self._fetch()
            if not wanted:
                return
            results = [await self._revoke(one) for one in wanted]
            taken = await self._service.post(
                REVOCATION,
                "CertificateAuthorityRequests/uploadRevocationResults",
                {"results": results},
                tries=2,
            )
            if taken.get("value") is not True:
                raise Unavailable
            if len(wanted) < MOST:
                return

    async def _fetch(self) -> list[tuple[str, object]]:
        """Return requests to revoke: their contexts and serial numbers."""
        issuer = self._ra.ca_certificates(self._endpoint)[0]
        found = await self._service.post(
            REVOCATION,
            "CertificateAuthorityRequests/downloadRevocationRequests",
            {
                "downloadParameters": {
                    "maxRequests": MOST,
                    "issuerName": name_text(read_certificate(issuer).subject),
                }
            },
            tries=2,
        )
        listed = found.get("value")
        if not isinstance(listed, list) or len(listed) > MOST:
            raise Unavailable
        wanted = []
        for each in listed:
            if not isinstance(each, dict):
                raise Unavailable
            try:
                context = text_of(each, "requestContext", _LONGEST_CONTEXT)
            except Malformed as error:
                raise Unavailable from error
            wanted.append((context, each.get("serialNumber")))
        return wanted

    async def _revoke(self, wanted: tuple[str, object]) -> Object:
        """Revoke one certificate, and return what became of it."""
        context, serial = wanted
        code, text = await self._revoked(serial)
        endpoint = self._endpoint
        self._log.info(
            "Intune asked for a revocation: {code}",
            event="intune.revocation",
            tenant=endpoint.tenant_id,
            protocol=endpoint.protocol,
            serial=str(serial)[:_LONGEST_SERIAL],
            code=str(code),
        )
        return {
            "requestContext": context,
            "succeeded": code == DONE,
            "errorCode": code,
            "errorMessage": text,
        }

    async def _revoked(self, serial: object) -> tuple[int, str]:
        """Revoke one certificate of this endpoint's; return code and text."""
        if not isinstance(serial, str) or len(serial) > _LONGEST_SERIAL:
            return _INVALID, "this is no serial number"
        endpoint = self._endpoint
        number = serial.replace(" ", "").replace(":", "").lower()
        try:
            record = await self._ra.find(endpoint.tenant_id, number)
            serving = self._ra.serving(endpoint)
            if (
                record.authority not in (serving.authority, *serving.issuers)
                or record.protocol != endpoint.protocol
            ):
                # Others' certificates are none of Intune's business.
                return _NOT_FOUND, _NO_SUCH
            await self._ra.revoke(
                endpoint.tenant_id, record.serial, REASON, "mdm:intune"
            )
        except UnknownCertificate:
            return _NOT_FOUND, _NO_SUCH
        except RequestError as error:
            return _REFUSED, error.detail[:_LONGEST_TEXT]
        except Unavailable:
            return _UNAVAILABLE, "try again"
        except TrstctlError:
            return _AGAIN, "try again"
        return DONE, ""
