# SPDX-License-Identifier: MIT
"""
Jamf Pro's webhook ``SCEPChallenge``: what it sends, and who may.

Jamf asks while it puts a profile together, for each device, and takes the
body of the answer as the challenge.  What it sends differs between versions:
read is the event's name and a device that can be named in a certificate;
anything else may be there.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from attrs import field, frozen
from pydantic import AfterValidator, Field, model_validator

from trstctl.config.secrets import SecretReference, absolute, read_secret
from trstctl.errors import Malformed, NotAuthenticated
from trstctl.model import Credential, Password
from trstctl.protocols.scep.json_object import Object, read_object, text_of
from trstctl.settings import Duration, LabelSettings, Section

#: The event that asks for a challenge.
EVENT = "SCEPChallenge"

#: Characters that a hook's secret has at least, so that nobody guesses it.
SHORTEST_SECRET = 16

#: What each setting of ``device`` is called in the event.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "serial": ("serialNumber", "serial_number", "serial"),
    "udid": ("udid", "UDID"),
    "name": ("deviceName", "device_name", "name"),
}
_LONGEST_DEVICE = 64
_LONGEST_TEXT = 512

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")


def _header(value: str) -> str:
    """Return the name of a header, or refuse what is none."""
    if not _TOKEN.fullmatch(value) or value.lower() == "authorization":
        raise ValueError(
            "write the name of a header of your own, such as X-Trstctl-Hook"
        )
    return value


def _username(value: str) -> str:
    """Return the user name, or refuse what HTTP cannot carry."""
    if not value.isprintable() or ":" in value or not 1 <= len(value) <= 64:
        raise ValueError("write 1 to 64 characters without a colon")
    return value


class BasicSettings(Section):
    """A name, and the reference to its password."""

    username: Annotated[str, AfterValidator(_username)]
    password: SecretReference


class HeaderSettings(Section):
    """A header, and the reference to what must be in it."""

    name: Annotated[str, AfterValidator(_header)]
    value: SecretReference


class AuthenticationSettings(Section):
    """Exactly one way to prove that it is Jamf who asks."""

    basic: BasicSettings | None = None
    header: HeaderSettings | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        """Refuse none, and both."""
        if (self.basic is None) == (self.header is None):
            raise ValueError("choose one of basic and header")
        return self

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        basic, header = self.basic, self.header
        if basic is not None:
            place = absolute(basic.password, folder)
            basic = basic.model_copy(update={"password": place})
        if header is not None:
            place = absolute(header.value, folder)
            header = header.model_copy(update={"value": place})
        return self.model_copy(update={"basic": basic, "header": header})


class JamfSettings(LabelSettings):
    """
    One webhook of Jamf Pro.

    :ivar authentication: how Jamf proves itself; there is no way without.
    :ivar device: what of the device a certificate must name.
    :ivar life: of a challenge.
    """

    authentication: AuthenticationSettings
    device: Literal["serial", "udid", "name"] = "serial"
    life: Annotated[Duration, Field(ge=60, le=7 * 86_400)] = 3600

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        own = self.authentication.located(folder)
        return self.model_copy(update={"authentication": own})


@frozen
class Caller:
    """
    Who may call a hook.

    :ivar header: the header that carries the secret; empty: HTTP Basic.
    """

    username: str
    header: str
    secret: str = field(repr=False)

    def check(
        self, credentials: tuple[Credential, ...], header: str | None
    ) -> None:
        """
        Refuse anybody else, in the same time.

        :param header: what the header has in it.
        :raises NotAuthenticated: it is somebody else.
        """
        username, secret = self.username, header or ""
        if not self.header:
            username = secret = ""
            for one in credentials:
                if isinstance(one, Password):
                    username, secret = one.username, one.password
        same_name = _is_same(username, self.username)
        if not (_is_same(secret, self.secret) and same_name):
            raise NotAuthenticated


def _is_same(one: str, other: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(one.encode("utf-8"), other.encode("utf-8"))


def read_caller(
    settings: AuthenticationSettings, environment: Mapping[str, str]
) -> Caller:
    """
    Return who may call a hook.

    :param settings: with absolute paths.
    :raises SecretError: the secret cannot be had.
    :raises ValueError: it is too short.
    """
    username = header = ""
    if settings.basic is not None:
        username, place = settings.basic.username, settings.basic.password
    else:
        assert settings.header is not None  # one of the two
        header, place = settings.header.name, settings.header.value
    secret = read_secret(place, environment).text
    if len(secret) < SHORTEST_SECRET:
        raise ValueError(
            f"{place}: a webhook's secret has at least {SHORTEST_SECRET} "
            "characters; make one with: openssl rand -hex 32"
        )
    return Caller(username, header, secret)


def read_device(body: bytes, kind: str) -> str:
    """
    Return the device for which a challenge is asked.

    :param kind: a key of :data:`_KEYS`.
    :raises Malformed: it is no such event, or names no such device.
    """
    found = read_object(body)
    webhook, event = _object(found, "webhook"), _object(found, "event")
    if webhook.get("webhookEvent") != EVENT:
        raise Malformed(f"the event is not {EVENT}")
    for place in (_object(event, "targetDevice"), event):
        for key in _KEYS[kind]:
            device = text_of(place, key, _LONGEST_TEXT).strip()
            if device and len(device) <= _LONGEST_DEVICE:
                return device
    raise Malformed(f"the event does not name a device ({kind})")


def _object(found: Object, key: str) -> Object:
    """Return a member that is an object; an empty one for any other."""
    value = found.get(key)
    return value if isinstance(value, dict) else {}
