# SPDX-License-Identifier: MIT
"""
Challenges for MDM platforms: who puts devices' profiles together asks here.

``POST /mdm[/<label>]/challenges`` makes challenges for a registrar;
``POST /mdm/jamf/<hook>`` answers Jamf Pro's webhook.  A protocol of its own,
since SCEP is served without TLS, too, and this never is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from attrs import evolve, frozen
from pydantic import Field, field_validator

from trstctl.errors import ChallengeRejected, Malformed, TrstctlError
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    Endpoint,
    MintedSecret,
    RegistrarCall,
    SecretOrder,
)
from trstctl.protocols.scep.jamf import (
    Caller,
    JamfSettings,
    read_caller,
    read_device,
)
from trstctl.protocols.scep.json_object import (
    encode_object,
    number_of,
    read_object,
    text_of,
    texts_of,
)
from trstctl.settings import Label, LabelSettings, ProtocolSettings
from trstctl.web import (
    HTTPRequest,
    HTTPResponse,
    ProtocolResource,
    Refused,
)

#: Octets of a body.
MAX_BODY = 65_536

#: The protocol that takes the challenges.
CHALLENGED = "scep"

#: Seconds that a challenge lives if the registrar does not say.
DEFAULT_LIFE = 3600

_CHALLENGES, _JAMF = "challenges", "jamf"

_ORDER = (
    "profile",
    "device",
    "subject",
    "san",
    "expires_in",
    "uses",
    "count",
)

#: Characters of a text, names, and numbers, at most: what they mean is
#: judged later.
_LONGEST_TEXT = 1024
_MOST_NAMES = 100
_MOST = 2**31

#: Characters of a reason in an answer.
_MAX_REASON = 400

#: What the field ``error`` says where it is not the error's own name.
_CODES: Mapping[type[TrstctlError] | int, str] = {
    ChallengeRejected: "not-authenticated",
    404: "not-found",
    405: "method-not-allowed",
}


class MDMSettings(ProtocolSettings):
    """
    The section ``protocols.mdm``.

    :ivar jamf: the webhooks of Jamf Pro, by the end of their paths.
    """

    labels: dict[Label, LabelSettings] = Field(default_factory=dict)
    jamf: dict[Label, JamfSettings] = Field(default_factory=dict)

    @field_validator("labels")
    @classmethod
    def _no_path(
        cls, labels: dict[str, LabelSettings]
    ) -> dict[str, LabelSettings]:
        """Refuse a label that is part of a path already."""
        for label in (_CHALLENGES, _JAMF):
            if label in labels:
                raise ValueError(f"{label} is a path here; choose another")
        return labels

    def open_files(self, name: str) -> None:
        """Read the secrets of the webhooks."""
        for own in self.jamf.values():
            read_caller(own.authentication, os.environ)

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        hooks = {name: own.located(folder) for name, own in self.jamf.items()}
        return self.model_copy(update={"jamf": hooks})


@frozen
class _Hook:
    """
    One webhook of Jamf Pro.

    :ivar device: what of a device a certificate must name.
    """

    endpoint: Endpoint
    caller: Caller
    device: str
    life: timedelta


class MDMResource(ProtocolResource):
    """Everything below ``/mdm``."""

    Settings = MDMSettings
    max_body = MAX_BODY

    def __init__(
        self, name: str, ra: IRegistrationAuthority, settings: MDMSettings
    ) -> None:
        super().__init__(name, ra, settings)
        endpoints = {
            one.name: one for one in self.endpoints_for(name, settings)
        }
        self._hooks = {
            hook: _Hook(
                endpoints[f"{_JAMF}/{hook}"],
                read_caller(own.authentication, os.environ),
                own.device,
                timedelta(seconds=own.life),
            )
            for hook, own in settings.jamf.items()
        }
        self._endpoints = {
            label: endpoints[label] for label in ("", *settings.labels)
        }
        # As for tokens: what the tenant is offered somewhere.
        self._offered: dict[str, set[str]] = {}
        for endpoint in self._endpoints.values():
            profiles = self._offered.setdefault(endpoint.tenant_id, set())
            profiles.add(endpoint.profile)

    @classmethod
    def endpoints_for(
        cls, name: str, settings: ProtocolSettings
    ) -> Sequence[Endpoint]:
        """Return the default endpoint, each label's and each hook's."""
        assert isinstance(settings, MDMSettings)
        named: dict[str, LabelSettings] = {
            **settings.labels,
            **{f"{_JAMF}/{hook}": own for hook, own in settings.jamf.items()},
        }
        return (
            settings.endpoint_of(name),
            *(
                settings.endpoint_of(name, label, own)
                for label, own in named.items()
            ),
        )

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return ``POST`` where somebody can ask."""
        return None if self._at(path) is None else ("POST",)

    def admission_key(self, request: HTTPRequest) -> Endpoint:
        """Return the endpoint; each tenant has its own places."""
        found = self._at(request.path)
        if isinstance(found, _Hook):
            return found.endpoint
        return found or self.endpoint

    def operation(self, request: HTTPRequest) -> str:
        """Return the operation; a hook's name is none."""
        return _JAMF if request.path[:1] == (_JAMF,) else _CHALLENGES

    def _at(self, path: tuple[str, ...]) -> Endpoint | _Hook | None:
        """Return what is at a path; ``None``: 404."""
        match path:
            case ("jamf", hook):
                return self._hooks.get(hook)
            case ("challenges",):
                return self._endpoints[""]
            case (label, "challenges") if label:
                return self._endpoints.get(label)
        return None

    # --- the way of a request -----------------------------------------------

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Make challenges for whoever may ask."""
        found = self._at(request.path)
        assert found is not None  # allowed_methods() has seen to it
        if isinstance(found, _Hook):
            return await self._for_jamf(request, request.path[1], found)
        return await self._for_registrar(request, found)

    async def _for_jamf(
        self, request: HTTPRequest, name: str, hook: _Hook
    ) -> HTTPResponse:
        """Answer a webhook by nothing but the challenge."""
        header = hook.caller.header
        hook.caller.check(
            request.credentials,
            request.headers.get(header.lower()) if header else None,
        )
        order = SecretOrder(
            hook.endpoint.profile,
            life=hook.life,
            protocol=CHALLENGED,
            device=read_device(request.body, hook.device),
        )
        voucher = f"jamf:{name}"
        made = await self.ra.device_secrets.mint(
            order, hook.endpoint.tenant_id, voucher
        )
        return HTTPResponse(
            200,
            "text/plain",
            made.secret.encode("ascii"),
            facts={"principal": voucher},
        )

    async def _for_registrar(
        self, request: HTTPRequest, endpoint: Endpoint
    ) -> HTTPResponse:
        """Make what a registrar orders."""
        order = decode_order(request.body, endpoint.profile)
        registrar = await self.ra.registrar(
            RegistrarCall(
                evolve(endpoint, protocol=CHALLENGED),
                request.credentials,
                request.peer,
            )
        )
        made = await registrar.mint(
            order,
            self._offered[endpoint.tenant_id],
            request.idempotency_key,
        )
        content = {"challenges": [minted_object(one) for one in made]}
        return HTTPResponse(
            201,
            "application/json",
            encode_object(content) + b"\n",
            facts={"principal": registrar.id},
        )

    # --- errors -------------------------------------------------------------

    def explain(
        self, error: TrstctlError, request: HTTPRequest
    ) -> HTTPResponse:
        """Return the answer to an error: HTTP's status, and JSON."""
        told = super().explain(error, request)
        headers = dict(told.headers)
        if told.status == 401:
            # RFC 9110, section 11.6.1: at least one challenge.
            scheme = "Basic" if request.path[:1] == (_JAMF,) else "Bearer"
            headers["WWW-Authenticate"] = f'{scheme} realm="{self.name}"'
        kind = type(error)
        code = _CODES.get(kind) or _kebab(kind.__name__)
        return _failure(told.status, code, error.detail, request, headers)

    def explain_refused(
        self, error: Refused, request: HTTPRequest
    ) -> HTTPResponse:
        """Return the answer to a wrong path or method, in JSON, too."""
        code = _CODES.get(error.status, "malformed")
        return _failure(
            error.status, code, error.detail, request, error.headers
        )


def decode_order(body: bytes, profile: str) -> SecretOrder:
    """
    Read what a registrar orders: ``{"profile": "...", "device": "...",
    "subject": "...", "san": ["dns:..."], "expires_in": 3600, "uses": 1,
    "count": 1}``, of which each may be left out.

    :param profile: if the order names none.
    :raises Malformed: it is anything else.
    """
    found = read_object(body)
    if found.keys() - set(_ORDER):
        raise Malformed(
            "the body's keys can be " + ", ".join(f'"{k}"' for k in _ORDER)
        )
    life = number_of(found, "expires_in", DEFAULT_LIFE, _MOST)
    return SecretOrder(
        profile=text_of(found, "profile", _LONGEST_TEXT, profile),
        life=timedelta(seconds=life),
        count=number_of(found, "count", 1, _MOST),
        protocol=CHALLENGED,
        uses=number_of(found, "uses", 1, _MOST),
        device=text_of(found, "device", _LONGEST_TEXT),
        subject=text_of(found, "subject", _LONGEST_TEXT),
        alternative_names=texts_of(found, "san", _LONGEST_TEXT, _MOST_NAMES),
    )


def minted_object(made: MintedSecret) -> dict[str, object]:
    """Return a new challenge, with what it is bound to."""
    record = made.record
    names = record.alternative_names
    return {
        "id": record.id,
        "challenge": made.secret,
        "profile": record.profile,
        "device": record.device or None,
        "subject": record.subject or None,
        "san": None if names is None else list(names),
        "uses": record.uses,
        "expires_at": _moment(record.expires_at),
    }


def _moment(at: datetime) -> str:
    """Return a moment as RFC 3339 has it, in UTC."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _kebab(name: str) -> str:
    """Return ``NotAuthorized`` as ``not-authorized``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def _failure(
    status: int,
    code: str,
    reason: str,
    request: HTTPRequest,
    headers: Mapping[str, str | tuple[str, ...]],
) -> HTTPResponse:
    """Return an error as JSON."""
    content = {
        "error": code,
        "reason": reason[:_MAX_REASON],
        "request_id": request.request_id,
    }
    return HTTPResponse(
        status, "application/json", encode_object(content) + b"\n", headers
    )
