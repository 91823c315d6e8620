# SPDX-License-Identifier: MIT
"""
The OCSP responder of one authority.

The store is asked for each certificate of each request, so that what was
revoked is revoked at the very next one, whoever revoked it.  What costs
most, the signature, is saved where it can be: the response to a single
certificate, without a nonce, is kept and given again while

* the certificate's status is what it was,
* the responder's key and certificate are the same, and
* less than half of the response's life has gone by.

Nothing is kept of serials that were never promised: anybody can make up as
many as he likes.

A responder that cannot find out says so, and never ``good``: neither where
the store fails, nor for a serial that nobody knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import field, frozen

from trstctl.errors import Unavailable
from trstctl.interfaces import (
    ICredentials,
    IMessageCredential,
    IRevocation,
)
from trstctl.model import Purpose, SerialStatus
from trstctl.pkix.ocsp import (
    GOOD,
    UNKNOWN,
    CertID,
    OCSPRequest,
    RequestReader,
    ResponseForm,
    plain_request,
    revoked,
    single_response,
)

#: Responses that are kept for each authority.
MAX_KEPT = 4096


@frozen
class Signed:
    """
    A signed response.

    :ivar request: what it answers.
    :ivar der: the OCSPResponse.
    :ivar statuses: ``good``, ``revoked`` or ``unknown``, one for each CertID.
    :ivar fresh_until: when another is to take its place.
    """

    request: OCSPRequest
    der: bytes = field(repr=False)
    statuses: tuple[str, ...]
    this_update: datetime
    next_update: datetime
    fresh_until: datetime


@frozen
class _Kept:
    """A response, and what it was true of."""

    status: SerialStatus
    credential: IMessageCredential
    signed: Signed


class Responder:
    """
    Answers for one authority.

    :param certificate: DER of the CA certificate.
    :param validity: from ``thisUpdate`` to ``nextUpdate``, less the backdate.
    :param backdate: how far ``thisUpdate`` is in the past, for devices whose
        clocks are behind.
    """

    def __init__(
        self,
        authority: str,
        certificate: bytes,
        revocation: IRevocation,
        credentials: ICredentials,
        validity: timedelta,
        backdate: timedelta,
    ) -> None:
        self.certificate = certificate
        self._authority = authority
        self._revocation = revocation
        self._credentials = credentials
        self._validity = validity
        self._backdate = backdate
        self._reader = RequestReader(certificate)
        # By the plain request; the least recently used first.
        self._kept: dict[bytes, _Kept] = {}
        self._form: tuple[IMessageCredential, ResponseForm] | None = None

    async def respond(self, data: bytes, now: datetime) -> Signed:
        """
        Return the response to a request.

        :param data: what should be DER of an OCSPRequest.
        :raises Malformed: it is none.
        :raises TooLarge: it has too many octets.
        :raises NotAuthorized: it asks for another issuer's certificates.
        :raises Unavailable: the store or the key cannot be used now.
        """
        kept = self._kept.get(data)
        request = (
            self._reader.read(data) if kept is None else kept.signed.request
        )
        credential = await self._credentials.get(self._authority, Purpose.OCSP)
        found = [await self._status(one) for one in request.cert_ids]
        status = found[0]
        if request.nonce or len(found) > 1 or status is None:
            return await self._sign(request, found, credential, now)
        key = data
        if kept is None:
            # However it was asked; who asks in ever new forms fills nothing.
            key = plain_request(request.cert_ids[0])
        # What it was before the store was asked may not be what it is now.
        kept = self._kept.pop(key, None)
        if (
            kept is None
            or kept.status != status
            or kept.credential is not credential
            or kept.signed.fresh_until <= now
        ):
            signed = await self._sign(request, found, credential, now)
            kept = _Kept(status, credential, signed)
        self._kept[key] = kept
        if len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        return kept.signed

    async def _status(self, cert_id: CertID) -> SerialStatus | None:
        """Ask what is true of a certificate right now."""
        if not cert_id.serial:
            return None
        return await self._revocation.status(self._authority, cert_id.serial)

    async def _sign(
        self,
        request: OCSPRequest,
        found: Sequence[SerialStatus | None],
        credential: IMessageCredential,
        now: datetime,
    ) -> Signed:
        """Write a response and have it signed."""
        now = now.replace(microsecond=0)
        # No response outlives the certificate that it is verified by.
        next_update = min(now + self._validity, credential.not_after)
        if next_update <= now:
            raise Unavailable("the responder's certificate has expired")
        this_update = now - self._backdate
        form = self._form_of(credential)
        response_data = form.response_data(
            now,
            [
                single_response(
                    cert_id, _cert_status(status), this_update, next_update
                )
                for cert_id, status in zip(
                    request.cert_ids, found, strict=True
                )
            ],
            request.nonce,
        )
        signature = await credential.sign(response_data, form.algorithm)
        return Signed(
            request,
            form.response(response_data, signature),
            tuple(map(_name, found)),
            this_update,
            next_update,
            now + (next_update - now) / 2,
        )

    def _form_of(self, credential: IMessageCredential) -> ResponseForm:
        """Return the form of a credential's responses."""
        if self._form is None or self._form[0] is not credential:
            self._form = (
                credential,
                ResponseForm(credential.certificate, credential.algorithm),
            )
        return self._form[1]


def _cert_status(status: SerialStatus | None) -> bytes:
    """Return what the response says of a certificate."""
    if status is None:
        return UNKNOWN
    if status.revoked_at is None:
        return GOOD
    return revoked(status.revoked_at, status.reason)


def _name(status: SerialStatus | None) -> str:
    """Return it for the log."""
    if status is None:
        return "unknown"
    return "good" if status.revoked_at is None else "revoked"
