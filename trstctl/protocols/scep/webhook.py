# SPDX-License-Identifier: MIT
"""
The gate of whoever has a web server: it allows or denies each request.

What is posted is one JSON object, signed: ``Trstctl-Signature`` is
``sha256=`` and the hexadecimal HMAC-SHA-256 of the body as it is, under the
shared key that ``Trstctl-Key-Id`` names.  The moment is in it, so that an old
one can be told.  The answer comes over the same verified connection, and is
``{"allow": true, "device": "..."}`` with what it may bind the certificate
to, or ``{"allow": false, "reason": "..."}``; anything else lets nobody pass.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from datetime import datetime

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from trstctl.errors import (
    ChallengeRejected,
    Malformed,
    RequestError,
    Unavailable,
)
from trstctl.interfaces import IAttempts, IChallengeGate, IOutbound
from trstctl.model import (
    EnrollmentRequest,
    Issued,
    OutboundCall,
    OutboundReply,
    Principal,
)
from trstctl.pkix.names import name_text
from trstctl.policy.binding import subject_text
from trstctl.protocols.scep.gate_settings import WebhookSettings
from trstctl.protocols.scep.json_object import (
    Object,
    encode_object,
    read_object,
    text_of,
    texts_of,
)

#: Octets that a key has at least.
SHORTEST_KEY = 16

#: What an answer can say.
_KEYS = frozenset({"allow", "reason", "device", "subject", "names"})

_LONGEST_TEXT = 512
_LONGEST_DEVICE = 128
_MOST_NAMES = 32


@implementer(IChallengeGate)
class WebhookGate:
    """
    Asks a web server.

    :param key: secret; at least :data:`SHORTEST_KEY` octets.
    :param now: the wall clock, UTC.
    :param attempts: bounds how often it is asked.
    """

    renewals = False

    _log = Logger()

    def __init__(
        self,
        settings: WebhookSettings,
        key: bytes,
        outbound: IOutbound,
        now: Callable[[], datetime],
        attempts: IAttempts,
    ) -> None:
        self._settings = settings
        self._key = key
        self._outbound = outbound
        self._now = now
        self._attempts = attempts

    # --- before -------------------------------------------------------------

    def admit(
        self, request: EnrollmentRequest, challenge: str, now: datetime
    ) -> Deferred[Principal]:
        """Ask whether a request may pass; see the interface."""
        return Deferred.fromCoroutine(self._admit(request, challenge))

    async def _admit(
        self, request: EnrollmentRequest, challenge: str
    ) -> Principal:
        """Ask, and read the answer."""
        with self._attempts.judging(request, challenge):
            said = await self._judged(request, challenge)
        return Principal(
            kind="mdm",
            name=f"webhook:{said.device}",
            tenant_id=request.endpoint.tenant_id,
            profiles=(request.endpoint.profile,),
            subject=said.subject or None,
            alternative_names=said.names,
        )

    async def _judged(
        self, request: EnrollmentRequest, challenge: str
    ) -> Answer:
        """Return an answer that allows the request."""
        reply = await self._post("request", request, {"challenge": challenge})
        try:
            said = read_answer(reply.body)
        except Malformed as error:
            self._tell_unusable(request, error.detail)
            raise Unavailable from error
        if not said.allow:
            self._log.warn(
                "the webhook refused a request: {reason}",
                event="webhook.refused",
                request_id=request.request_id,
                tenant=request.endpoint.tenant_id,
                protocol=request.endpoint.protocol,
                transaction=request.transaction,
                reason=said.reason,
            )
            raise ChallengeRejected
        return said

    def _tell_unusable(self, request: EnrollmentRequest, reason: str) -> None:
        """Log an answer that cannot be used."""
        self._log.error(
            "the answer of the webhook cannot be used: {reason}",
            event="webhook.unusable",
            request_id=request.request_id,
            tenant=request.endpoint.tenant_id,
            protocol=request.endpoint.protocol,
            transaction=request.transaction,
            reason=reason,
        )

    # --- after --------------------------------------------------------------

    def issued(
        self, request: EnrollmentRequest, principal: Principal, outcome: Issued
    ) -> Deferred[None]:
        """Tell of a certificate; see the interface."""
        certificate = base64.b64encode(outcome.certificate).decode("ascii")
        return Deferred.fromCoroutine(
            self._notify(
                "issued",
                request,
                {
                    "device": principal.name.removeprefix("webhook:"),
                    "certificate": certificate,
                    "serial": outcome.serial,
                },
                required=self._settings.notify == "required",
            )
        )

    def refused(
        self, request: EnrollmentRequest, error: RequestError
    ) -> Deferred[None]:
        """Tell of a refusal, if that can be done."""
        return Deferred.fromCoroutine(
            self._notify(
                "refused", request, {"reason": error.detail}, required=False
            )
        )

    async def _notify(
        self,
        event: str,
        request: EnrollmentRequest,
        more: Object,
        *,
        required: bool,
    ) -> None:
        """Tell what came of a request, if anybody wants to know."""
        if self._settings.notify == "none":
            return
        try:
            await self._post(event, request, more)
        except Unavailable:
            if required:
                raise

    # --- the wire -----------------------------------------------------------

    async def _post(
        self, event: str, request: EnrollmentRequest, more: Object
    ) -> OutboundReply:
        """Post an event, signed, and return the answer to it."""
        settings, endpoint = self._settings, request.endpoint
        wanted = request.wanted
        body = encode_object(
            {
                "event": event,
                "timestamp": self._now().strftime("%Y-%m-%dT%H:%M:%SZ"),
                "tenant": endpoint.tenant_id,
                "endpoint": endpoint.name,
                "profile": endpoint.profile,
                "transaction_id": request.transaction,
                "csr": base64.b64encode(wanted.der).decode("ascii"),
                "subject": name_text(wanted.subject),
                "names": [str(name) for name in wanted.names],
                "peer": request.peer,
                "request_id": request.request_id,
                **more,
            }
        )
        mac = hmac.new(self._key, body, "sha256").hexdigest()
        reply = await self._outbound.call(
            OutboundCall(
                f"webhook.{event}",
                settings.url,
                body,
                {
                    "Content-Type": "application/json",
                    "Accept": "application/json",
                    "Trstctl-Key-Id": settings.key_id,
                    "Trstctl-Signature": f"sha256={mac}",
                },
                settings.timeout,
                trust=None if settings.trust is None else str(settings.trust),
            )
        )
        if reply.status not in {200, 204} or (
            event == "request" and reply.status != 200
        ):
            self._tell_unusable(request, f"HTTP {reply.status}")
            raise Unavailable
        return reply


@frozen
class Answer:
    """
    What the web server says of a request.

    :ivar device: its name for whoever asks.
    :ivar subject: if given, the only subject that may be certified; likewise
        ``names``.
    """

    allow: bool
    reason: str
    device: str
    subject: str
    names: tuple[str, ...] | None


def read_answer(body: bytes) -> Answer:
    """
    Read an answer.

    :raises Malformed: it is none; the text says why, for the log.
    """
    found = read_object(body)
    allow = found.get("allow")
    if not isinstance(allow, bool):
        raise Malformed('"allow" is neither true nor false')
    unknown = sorted(found.keys() - _KEYS)
    if unknown:
        raise Malformed(f"there is an unknown key {unknown[0][:40]!a}")
    subject = text_of(found, "subject", _LONGEST_TEXT)
    device = text_of(found, "device", _LONGEST_DEVICE)
    if allow and not device:
        raise Malformed("it allows a device without a name")
    try:
        subject = subject_text(subject) if subject else ""
    except ValueError as error:
        raise Malformed(f"the subject is none: {error}") from error
    return Answer(
        allow,
        text_of(found, "reason", _LONGEST_TEXT),
        device,
        subject,
        texts_of(found, "names", _LONGEST_TEXT, _MOST_NAMES),
    )
