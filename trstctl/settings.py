# SPDX-License-Identifier: MIT
"""
What every section of the configuration shares: strict, frozen, no extras.

A protocol plugin subclasses :class:`ProtocolSettings` for its own section.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    WithJsonSchema,
)

from trstctl.model import Endpoint

_TENANT = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)
_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_LONGEST = 36500 * 86400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _tenant(value: str) -> str:
    """Return the tenant in lower case, or refuse what is no UUID."""
    lower = value.lower()
    if not _TENANT.fullmatch(lower):
        raise ValueError(
            "a tenant is a UUID, such as 11111111-1111-1111-1111-111111111111"
        )
    if lower == "00000000-0000-0000-0000-000000000000":
        raise ValueError("this tenant belongs to the gateway itself")
    return lower


def _label(value: str) -> str:
    """Return the label, or refuse what could not be a path segment."""
    if not _LABEL.fullmatch(value):
        raise ValueError(
            "use 1 to 63 lower-case letters, digits and hyphens, and begin "
            "with a letter or digit"
        )
    return value


def _seconds(value: object) -> object:
    """Return the seconds of a duration such as ``90d``."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            "a duration is a whole number and a unit: 90d, 12h, 15m or 30s"
        )
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > _LONGEST:
        # Beyond the year 9999 there is no time that it could end at.
        raise ValueError("a duration is at most 36500d")
    return seconds


def write_duration(seconds: int) -> str:
    """Return the shortest way to write a duration."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and not seconds % length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


TenantID = Annotated[str, AfterValidator(_tenant)]
Label = Annotated[str, AfterValidator(_label)]

#: Seconds, written with a unit.
Duration = Annotated[
    int,
    BeforeValidator(_seconds),
    PlainSerializer(write_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,9}[smhd]$"}),
]


class Section(BaseModel):
    """A section of the configuration: unknown keys and coercion refused."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True
    )


class ProtocolSettings(Section):
    """
    What every protocol has in its section.

    :cvar serves_tenant: whether an enabled protocol needs a tenant.
    :ivar enabled: off unless the operator turns it on.
    :ivar tenant_id: the tenant that the protocol serves; compulsory once
        it is enabled.
    :ivar profile: the certificate profile of its default endpoint.
    :ivar authority: the CA that signs for its default endpoint.
    """

    serves_tenant: ClassVar[bool] = True

    enabled: bool = False
    tenant_id: TenantID | None = None
    profile: str = "device"
    authority: str = "issuing"

    def located(self, folder: Path) -> Self:
        """
        Return the same with each path and secret's place made absolute.

        :param folder: what a relative one is relative to.
        """
        return self

    def open_files(self, name: str) -> None:
        """
        Read each file that the settings name, so that what is wrong with one
        is known before a start or a reload.

        :param name: the protocol's.
        :raises Unavailable: one cannot be used; the text says why.
        :raises SecretError: a secret cannot be had.
        :raises ValueError: what is in one is not fit for it.
        :raises OSError: one cannot be read.
        """

    def chosen(self, own: LabelSettings, key: str) -> Any:
        """Return what a label says itself, or inherits from the section."""
        found = getattr(own, key)
        return getattr(self, key) if found is None else found

    def endpoints(self, name: str) -> Sequence[Endpoint]:
        """
        Return the endpoints of the protocol, the default first.

        None if nobody enrolls by it.

        :param name: the protocol's.
        :raises ValueError: one has no tenant.
        """
        return (self.endpoint_of(name),)

    def endpoint_of(
        self, name: str, label: str = "", own: LabelSettings | None = None
    ) -> Endpoint:
        """
        Return the endpoint of a label, or the default one.

        :param name: the protocol's.
        :raises ValueError: it has no tenant.
        """
        own = own or LabelSettings()
        tenant_id = own.tenant_id or self.tenant_id
        if tenant_id is None:
            raise ValueError(
                f"protocol {name} has no tenant_id; an enabled protocol "
                "needs a tenant_id"
            )
        return Endpoint(
            name,
            label,
            tenant_id,
            own.profile or self.profile,
            own.authority or self.authority,
        )


class LabelSettings(Section):
    """
    One label of a protocol: an endpoint beside the default one.

    What it leaves out is as in the protocol's own section.
    """

    tenant_id: TenantID | None = None
    profile: str | None = None
    authority: str | None = None
