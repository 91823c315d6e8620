# SPDX-License-Identifier: MIT
"""
What the gates of MDM platforms are told: the sections below ``challenge``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from trstctl.config.secrets import SecretReference, absolute
from trstctl.settings import Duration, Section

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _url(value: str) -> str:
    """Return the URL without a slash at its end, or refuse what is none."""
    parts = urlsplit(value)
    if (
        parts.scheme != "https"
        or not parts.hostname
        or parts.username is not None
        or parts.query
        or parts.fragment
        or not value.isascii()
        or not value.isprintable()
        or " " in value
    ):
        raise ValueError("write an https:// URL, without user and query")
    return value.rstrip("/")


def _matching(pattern: re.Pattern[str], meaning: str) -> AfterValidator:
    """Return what refuses a text that is not of a pattern."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(meaning)
        return value

    return AfterValidator(check)


def _path(value: object) -> object:
    """Return the path, or refuse what can be none."""
    if isinstance(value, str) and (not value or "\0" in value):
        raise ValueError("write the path of a file")
    return value


URL = Annotated[str, Field(max_length=1000), AfterValidator(_url)]
FilePath = Annotated[Path, BeforeValidator(_path)]
Text = Annotated[str, Field(min_length=1, max_length=255)]
Timeout = Annotated[float, Field(ge=1, le=60)]


class OutboundSection(Section):
    """
    What every gate that asks somebody else has.

    :ivar timeout: seconds for one question, tries included.
    :ivar trust: PEM file of the CAs to trust; nothing for the system's.
    """

    timeout: Timeout = 10.0
    trust: FilePath | None = None


class IntuneSettings(OutboundSection):
    """
    Microsoft Intune as it is online.

    :ivar tenant: the directory's name or id.
    :ivar client_id: of the application that Intune lets ask.
    :ivar secret: reference to the application's secret.
    :ivar caller: how we introduce ourselves.
    :ivar login_url: who hands out access tokens; likewise the other URLs
        and scopes, for clouds of their own.
    :ivar revocations: whether to revoke what Intune asks to be revoked.
    """

    tenant: Annotated[
        str, _matching(_TENANT, "write the directory's name or its id")
    ]
    client_id: Annotated[
        str, _matching(_GUID, "write the application's id, a GUID")
    ]
    secret: SecretReference
    caller: Text = "trstctl"
    login_url: URL = "https://login.microsoftonline.com"
    graph_url: URL = "https://graph.microsoft.com"
    graph_scope: Text = "https://graph.microsoft.com/.default"
    # Twice a slash: the resource ends with one.
    intune_scope: Text = "https://api.manage.microsoft.com//.default"
    revocations: bool = True

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        return self.model_copy(
            update={
                "secret": absolute(self.secret, folder),
                "trust": self.trust and folder / self.trust,
            }
        )


class JWSSettings(Section):
    """
    Challenges that somebody else has signed.

    :ivar keys: PEM files of certificates or public keys that may sign.
    :ivar issuer: what the claim ``iss`` must be.
    :ivar audience: what the claim ``aud`` must have in it.
    :ivar longest: how far ahead a challenge's end may be.
    :ivar device_limit: how many challenges of one device are taken ...
    :ivar device_window: ... in this time.
    """

    keys: Annotated[tuple[FilePath, ...], Field(min_length=1, max_length=16)]
    issuer: Text
    audience: Text
    longest: Duration = 86400
    device_limit: Annotated[int, Field(ge=1, le=100)] = 3
    device_window: Duration = 86400

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        return self.model_copy(
            update={"keys": tuple(folder / each for each in self.keys)}
        )


class WebhookSettings(OutboundSection):
    """
    Somebody who allows or denies each request.

    :ivar url: where to post.
    :ivar key: reference to the secret that requests are signed with.
    :ivar key_id: says which one it is.
    :ivar notify: whether to tell what came of a request: ``none``,
        ``best-effort``, or ``required``, which hands out no certificate
        whose notification failed.
    """

    url: URL
    key: SecretReference
    key_id: Annotated[
        str,
        _matching(_KEY_ID, "use letters, digits, '.', '_' and '-', up to 64"),
    ] = "1"
    notify: Literal["none", "best-effort", "required"] = "none"

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        return self.model_copy(
            update={
                "key": absolute(self.key, folder),
                "trust": self.trust and folder / self.trust,
            }
        )


class PlatformSection(Section):
    """Exactly one of the platforms that judge challenges."""

    intune: IntuneSettings | None = None
    jws: JWSSettings | None = None
    webhook: WebhookSettings | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        """Refuse none, and several."""
        if sum(one is not None for one in self._each()) != 1:
            raise ValueError("choose one of intune, jws and webhook")
        return self

    def _each(
        self,
    ) -> tuple[IntuneSettings | JWSSettings | WebhookSettings | None, ...]:
        """Return what may be here."""
        return (self.intune, self.jws, self.webhook)

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        return self.model_copy(
            update={
                "intune": self.intune and self.intune.located(folder),
                "jws": self.jws and self.jws.located(folder),
                "webhook": self.webhook and self.webhook.located(folder),
            }
        )


def _kind(value: object) -> str:
    """Tell a word from a section."""
    return "word" if isinstance(value, str) else "platform"


#: Who judges challenges: our own tokens, nobody, or a platform.
Gate = Annotated[
    Annotated[Literal["token", "none"], Tag("word")]
    | Annotated[PlatformSection, Tag("platform")],
    Discriminator(_kind),
]


def located(gate: Gate, folder: Path) -> Gate:
    """Return who judges, with absolute paths."""
    return gate if isinstance(gate, str) else gate.located(folder)
