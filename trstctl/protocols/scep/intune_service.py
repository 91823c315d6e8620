# SPDX-License-Identifier: MIT
"""
Microsoft Intune's services for certification authorities of third parties.

Who asks shows an access token, which the directory hands out for an
application's secret (OAuth 2.0, RFC 6749, section 4.4).  Where a service is,
Microsoft Graph tells.  Both are kept for a while: the token until shortly
before its end, the places until a call fails.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode
from uuid import UUID

from attrs import define, field, frozen
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from trstctl.errors import Malformed, Unavailable
from trstctl.interfaces import IOutbound
from trstctl.model import OutboundCall, OutboundReply
from trstctl.protocols.scep.gate_settings import IntuneSettings
from trstctl.protocols.scep.json_object import (
    Object,
    encode_object,
    read_object,
    text_of,
)

#: The application id of Intune itself, in every directory.
INTUNE = "0000000a-0000-0000-c000-000000000000"

#: A token is not used for so long before its end.
_MARGIN = timedelta(minutes=5)

#: The longest life of a token that is believed, in seconds.
_LONGEST_LIFE = 86_400

#: What says that place and token are good.  Devices decide what is in a
#: request: a bad one must not have us ask the directory again.
_AT_HOME = frozenset({400, 413, 422, 429})

#: Characters of a token, and of a place.
_LONGEST_TOKEN = 16_384
_LONGEST_PLACE = 1000


@frozen
class Service:
    """
    A service of Intune.

    :ivar name: as Graph lists it.
    :ivar version: of its interface.
    :ivar word: what log and metrics call it.
    """

    name: str
    version: str
    word: str


VALIDATION = Service(
    "ScepRequestValidationFEService", "2018-02-20", "intune.validation"
)
REVOCATION = Service(
    "PkiConnectorFEService", "5019-05-05", "intune.revocation"
)


@define
class _Token:
    """An access token, and until when it is used."""

    text: str = field(repr=False)
    until: datetime


class IntuneService:
    """
    Asks the services of one directory.

    :param secret: of the application.
    :param now: the wall clock, UTC.
    :param random_bytes: makes the ids by which Microsoft finds a call.
    """

    _log = Logger()

    def __init__(
        self,
        settings: IntuneSettings,
        secret: str,
        outbound: IOutbound,
        now: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._settings = settings
        self._secret = secret
        self._outbound = outbound
        self._now = now
        self._random_bytes = random_bytes
        self._tokens: dict[str, _Token] = {}
        self._places: dict[str, str] = {}
        # One of those who find nothing kept asks; the others wait for it.
        self._asking = DeferredLock()

    async def post(
        self, service: Service, path: str, content: Object, *, tries: int = 1
    ) -> Object:
        """
        Ask a service.

        :param path: below the service's place.
        :param tries: as for :class:`~trstctl.model.OutboundCall`.
        :raises Unavailable: there is no answer that could be trusted.
        """
        place, token = await self._whereabouts(service)
        call = self._call(
            service.word,
            f"{place}/{path}",
            encode_object(content),
            {
                "Content-Type": "application/json",
                "api-version": service.version,
                "Authorization": f"Bearer {token}",
            },
            tries,
        )
        status = 0
        try:
            reply = await self._outbound.call(call)
            status = reply.status
            return self._read(reply)
        except Unavailable:
            # It may have moved, or the token may have been withdrawn; unless
            # it says that this request is at fault, or that there are many.
            if status not in _AT_HOME:
                self._tokens.clear()
                self._places.clear()
            raise

    async def _whereabouts(self, service: Service) -> tuple[str, str]:
        """Return the place of a service, and a token for it."""
        await self._asking.acquire()
        try:
            if service.name not in self._places:
                await self._discover()
            place = self._places.get(service.name)
            if place is None:
                self._log.error(
                    "Graph knows no service {service}",
                    event="intune.unknown",
                    service=service.name,
                )
                raise Unavailable
            return place, await self._token(self._settings.intune_scope)
        finally:
            self._asking.release()

    async def _token(self, scope: str) -> str:
        """Return an access token, a kept one if it is good."""
        kept = self._tokens.get(scope)
        if kept is not None and self._now() < kept.until:
            return kept.text
        settings = self._settings
        form = {
            "grant_type": "client_credentials",
            "client_id": settings.client_id,
            "client_secret": self._secret,
            "scope": scope,
        }
        found = self._read(
            await self._outbound.call(
                self._call(
                    "intune.token",
                    f"{settings.login_url}/{quote(settings.tenant)}"
                    "/oauth2/v2.0/token",
                    urlencode(form).encode("ascii"),
                    {"Content-Type": "application/x-www-form-urlencoded"},
                    2,
                )
            )
        )
        try:
            text = text_of(found, "access_token", _LONGEST_TOKEN)
        except Malformed as error:
            raise Unavailable from error
        life = found.get("expires_in")
        # RFC 6750, section 2.1: b64token has none of these.
        if (
            not text
            or not text.isascii()
            or " " in text
            or type(life) is not int
            or life < 0
        ):
            raise Unavailable
        until = self._now() + timedelta(seconds=min(life, _LONGEST_LIFE))
        self._tokens[scope] = _Token(text, until - _MARGIN)
        return text

    async def _discover(self) -> None:
        """Ask Graph where the services are."""
        settings = self._settings
        token = await self._token(settings.graph_scope)
        call = self._call(
            "intune.discovery",
            f"{settings.graph_url}/v1.0/servicePrincipals/appId={INTUNE}"
            "/endpoints",
            None,
            {"Authorization": f"Bearer {token}"},
            2,
        )
        try:
            found = self._read(await self._outbound.call(call)).get("value")
        except Unavailable:
            self._tokens.clear()
            raise
        if not isinstance(found, list):
            raise Unavailable
        known = {
            one.name.lower(): one.name for one in (VALIDATION, REVOCATION)
        }
        for each in found:
            if not isinstance(each, dict):
                continue
            names = (each.get("providerName"), each.get("serviceName"))
            uri = each.get("uri")
            for name in names:
                if isinstance(name, str) and name.lower() in known:
                    self._places[known[name.lower()]] = _place(uri)

    def _call(
        self,
        word: str,
        url: str,
        body: bytes | None,
        headers: dict[str, str],
        tries: int,
    ) -> OutboundCall:
        """Return a call that Microsoft could find in its own logs."""
        call_id = UUID(bytes=self._random_bytes(16), version=4)
        trust = self._settings.trust
        return OutboundCall(
            word,
            url,
            body,
            {
                "Accept": "application/json",
                "client-request-id": str(call_id),
                **headers,
            },
            self._settings.timeout,
            tries,
            None if trust is None else str(trust),
        )

    @staticmethod
    def _read(reply: OutboundReply) -> Object:
        """Return the object in an answer that is none of a failure."""
        if reply.status != 200:
            raise Unavailable
        try:
            return read_object(reply.body)
        except Malformed as error:
            raise Unavailable from error


def _place(uri: object) -> str:
    """Return the place of a service, if it is one that can be asked."""
    if (
        not isinstance(uri, str)
        or len(uri) > _LONGEST_PLACE
        or not uri.isascii()
        or not uri.isprintable()
        or not uri.startswith("https://")
    ):
        raise Unavailable
    return uri.rstrip("/")


def base64_of(octets: bytes) -> str:
    """Return octets as Intune takes them."""
    return base64.b64encode(octets).decode("ascii")
