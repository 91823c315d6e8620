# SPDX-License-Identifier: MIT
"""
Whom an endpoint trusts beside its own CA: sections that protocols share.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from trstctl.backends.keyfiles import KeyFileError, read_certificates
from trstctl.errors import Unavailable
from trstctl.model import FactoryTrust, Operation, RegistrationScope
from trstctl.pkix.names import ATTRIBUTE_OIDS
from trstctl.policy.binding import subject_text
from trstctl.policy.patterns import compile_pattern, split_pattern
from trstctl.settings import Section

_SERIAL = re.compile(r"[0-9a-f]{1,40}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def _pattern(value: str) -> str:
    """Return ``kind:pattern``, or refuse what is none."""
    split_pattern(value)
    return value


def _serial(value: str) -> str:
    """Return a serial as the inventory has it, or refuse what is none."""
    found = value.lower().replace(":", "").lstrip("0")
    if value and not _SERIAL.fullmatch(found):
        raise ValueError("write the serial number in hexadecimal")
    return found


def _subject(value: str) -> str:
    """Return a subject as the inventory has it, or refuse what is none."""
    return subject_text(value) if value else value


def _digest(value: str) -> str:
    """Return what identifies a factory certificate, or refuse what is none."""
    found = value.lower().removeprefix("idevid:").replace(":", "")
    if not _DIGEST.fullmatch(found):
        raise ValueError(
            "write the SHA-256 of the certificate in hexadecimal, or the "
            "principal idevid:... as the inventory has it"
        )
    return found


NamePattern = Annotated[str, AfterValidator(_pattern)]
Serial = Annotated[str, AfterValidator(_serial)]
Subject = Annotated[str, AfterValidator(_subject)]
Digest = Annotated[str, AfterValidator(_digest)]
File = Annotated[Path, Field(strict=False)]


class RegistrationAuthoritySettings(Section):
    """
    One registration authority: whose certificate, and for whom it asks.

    :ivar subject: of its certificate, as ``trstctl cert list`` shows it.
    :ivar serial: of its certificate.
    :ivar certificate_profile: the profile that its certificate is of.
    :ivar names: patterns of the names that it asks for.
    :ivar profiles: the profiles that it may use; empty: any.
    :ivar operations: what it may do.
    """

    subject: Subject = ""
    serial: Serial = ""
    certificate_profile: str = ""
    names: Annotated[tuple[NamePattern, ...], Field(min_length=1)]
    profiles: tuple[str, ...] = ()
    operations: Annotated[
        tuple[Literal["enroll", "renew"], ...], Field(min_length=1)
    ] = ("enroll", "renew")

    @model_validator(mode="after")
    def _is_somebody(self) -> Self:
        """Refuse one that every certificate with id-kp-cmcRA would be."""
        if not (self.subject or self.serial or self.certificate_profile):
            raise ValueError(
                "say whose certificate it is: subject, serial or "
                "certificate_profile"
            )
        return self

    def scope(self, name: str) -> RegistrationScope:
        """Return the section as the policy takes it."""
        return RegistrationScope(
            name,
            self.subject,
            self.serial,
            self.certificate_profile,
            self.names,
            self.profiles,
            tuple(map(Operation, self.operations)),
        )


class IDevIDSettings(Section):
    """
    Whose factory certificates enroll.

    :ivar anchors: PEM files of the manufacturers' CAs; none: nobody's.
    :ivar subject: patterns that the certificate's subject must match.
    :ivar names: patterns of names beside those of the certificate.
    :ivar refused: SHA-256 of factory certificates that do not count.
    """

    anchors: tuple[File, ...] = ()
    subject: dict[str, str] = Field(default={})
    names: tuple[NamePattern, ...] = ()
    refused: tuple[Digest, ...] = ()

    @field_validator("subject")
    @classmethod
    def _known(cls, subject: dict[str, str]) -> dict[str, str]:
        """Refuse what is no attribute, or no pattern."""
        for short, pattern in subject.items():
            if short not in ATTRIBUTE_OIDS:
                known = ", ".join(ATTRIBUTE_OIDS)
                raise ValueError(
                    f"{short} is no attribute; use one of {known}"
                )
            compile_pattern("cn", pattern)
        return subject

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        anchors = tuple(folder / each for each in self.anchors)
        return self.model_copy(update={"anchors": anchors})

    def trust(self, place: str) -> FactoryTrust | None:
        """
        Read the anchors.

        :param place: the section, for the text of an error.
        :raises Unavailable: a file cannot be used; the text says why.
        """
        try:
            anchors = tuple(
                der for path in self.anchors for der in read_certificates(path)
            )
        except (KeyFileError, OSError) as error:
            raise Unavailable(f"{place}: {error}") from error
        if not anchors:
            return None
        return FactoryTrust(
            anchors,
            tuple(
                (ATTRIBUTE_OIDS[short], pattern)
                for short, pattern in self.subject.items()
            ),
            self.names,
            frozenset(self.refused),
        )


def trusted(
    name: str, chosen: Callable[[str], Any], *, trusting: bool
) -> dict[str, Any]:
    """
    Return whom a label trusts, as fields of its endpoint.

    :param name: the protocol's.
    :param chosen: what the label says, or inherits, of a key.
    :param trusting: also read the anchors of factory certificates.
    :raises Unavailable: one of their files cannot be used.
    """
    return {
        "scopes": tuple(
            each.scope(known_as)
            for known_as, each in chosen("registration_authorities").items()
        ),
        "factory": (
            chosen("idevid").trust(f"protocols.{name}.idevid")
            if trusting
            else None
        ),
    }
