# SPDX-License-Identifier: MIT
"""The section ``protocols.est``, and what each label inherits from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from attrs import frozen
from pydantic import AfterValidator, Field, field_validator, model_validator

from trstctl.backends.keyfiles import KeyFileError, read_certificates
from trstctl.errors import Unavailable
from trstctl.model import (
    Endpoint,
    FactoryTrust,
    Operation,
    RegistrationScope,
)
from trstctl.pkix.names import ATTRIBUTE_OIDS
from trstctl.policy.binding import subject_text
from trstctl.policy.patterns import compile_pattern, split_pattern
from trstctl.settings import Label, LabelSettings, ProtocolSettings, Section

#: Operations and their methods (RFC 7030, figure 5); GET implies HEAD.
METHODS: Mapping[str, tuple[str, ...]] = {
    "cacerts": ("GET",),
    "csrattrs": ("GET",),
    "simpleenroll": ("POST",),
    "simplereenroll": ("POST",),
}

#: What a label must not be called (RFC 7030, section 3.2.2), also for the
#: operations that this server does not offer.
OPERATIONS = {*METHODS, "serverkeygen", "fullcmc", "crls", "eecerts"}

LineMode = Literal["auto", "wrapped", "single"]
CSRAttributes = Literal["off", "advise", "enforce"]
CSRAttributesForm = Literal["classic", "extensions", "template"]
ChallengePassword = Literal["pop", "secret", "ignore"]
ProofOfPossession = Literal["verified", "required"]

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

    def trust(self) -> FactoryTrust | None:
        """
        Read the anchors.

        :raises Unavailable: a file cannot be used; the text says why.
        """
        try:
            anchors = tuple(
                der for path in self.anchors for der in read_certificates(path)
            )
        except (KeyFileError, OSError) as error:
            raise Unavailable(f"protocols.est.idevid: {error}") from error
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


class ESTLabelSettings(LabelSettings):
    """
    One label of EST.

    :ivar lenient: take PEM and bare DER bodies.
    :ivar line_mode: how answers are encoded: lines of 64 characters, one
        unbroken line, or what the client is known to read.
    :ivar csrattrs: whether CSR attributes are told, and demanded.
    :ivar csrattrs_form: how: RFC 8951, or the two forms of RFC 9908.
    :ivar challenge_password: what a challengePassword means here.
    :ivar pop: whether a request must be bound to its TLS session.
    :ivar registration_authorities: who may ask for others, by any name.
    :ivar idevid: whose factory certificates enroll.
    """

    lenient: bool | None = None
    line_mode: LineMode | None = None
    csrattrs: CSRAttributes | None = None
    csrattrs_form: CSRAttributesForm | None = None
    challenge_password: ChallengePassword | None = None
    pop: ProofOfPossession | None = None
    registration_authorities: (
        dict[Label, RegistrationAuthoritySettings] | None
    ) = None
    idevid: IDevIDSettings | None = None

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        if self.idevid is None:
            return self
        return self.model_copy(update={"idevid": self.idevid.located(folder)})


class ESTSettings(ProtocolSettings):
    """The section ``protocols.est``."""

    lenient: bool = True
    line_mode: LineMode = "auto"
    csrattrs: CSRAttributes = "advise"
    csrattrs_form: CSRAttributesForm = "classic"
    challenge_password: ChallengePassword = "pop"  # noqa: S105  a mode
    pop: ProofOfPossession = "verified"
    registration_authorities: dict[Label, RegistrationAuthoritySettings] = (
        Field(default={})
    )
    idevid: IDevIDSettings = IDevIDSettings()
    realm: str = "trstctl"
    labels: dict[Label, ESTLabelSettings] = Field(default_factory=dict)

    @field_validator("labels")
    @classmethod
    def _no_operation(
        cls, labels: dict[str, ESTLabelSettings]
    ) -> dict[str, ESTLabelSettings]:
        """Refuse a label that is the name of an operation."""
        for label in labels:
            if label in OPERATIONS:
                raise ValueError(
                    f"label {label} is the name of an EST operation; "
                    "choose another"
                )
        return labels

    @field_validator("realm")
    @classmethod
    def _plain_realm(cls, realm: str) -> str:
        """Refuse a realm that would need quoting."""
        if not re.fullmatch(r"[A-Za-z0-9 ._-]{1,64}", realm):
            raise ValueError("use up to 64 letters, digits and ' ._-'")
        return realm

    @model_validator(mode="after")
    def _says_what_it_requires(self) -> Self:
        """
        Refuse to demand a link of which no client would learn.

        RFC 8951, section 4: who requires it MUST say so in /csrattrs; and
        the template of RFC 9908 has no place for it.
        """
        for label, own in self.each_label().items():
            if self.chosen(own, "pop") == "required" and (
                self.chosen(own, "csrattrs") == "off"
                or self.chosen(own, "csrattrs_form") == "template"
            ):
                where = f"label {label}" if label else "the default label"
                raise ValueError(
                    f"pop: required, at {where}, needs csrattrs: advise or "
                    "enforce, and another csrattrs_form than template"
                )
        return self

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        return self.model_copy(
            update={
                "idevid": self.idevid.located(folder),
                "labels": {
                    label: own.located(folder)
                    for label, own in self.labels.items()
                },
            }
        )

    def each_label(self) -> dict[str, ESTLabelSettings]:
        """Return every label; the empty one is the default."""
        return {"": ESTLabelSettings(), **self.labels}

    def chosen(self, own: ESTLabelSettings, key: str) -> Any:
        """Return what a label says itself, or inherits."""
        found = getattr(own, key)
        return getattr(self, key) if found is None else found


@frozen
class Served:
    """One label, with everything that it inherits resolved."""

    endpoint: Endpoint
    lenient: bool
    line_mode: LineMode
    csrattrs: CSRAttributes
    csrattrs_form: CSRAttributesForm
    challenge_password: ChallengePassword
    pop_required: bool


def all_served(
    name: str, settings: ESTSettings, *, trusting: bool = False
) -> dict[str, Served]:
    """
    Return what is served at every label; the default is the empty one.

    :param trusting: also read the anchors of factory certificates.
    :raises Unavailable: one of their files cannot be used.
    """
    return {
        label: _served(name, settings, label, own, trusting=trusting)
        for label, own in settings.each_label().items()
    }


def _served(
    name: str,
    settings: ESTSettings,
    label: str,
    own: ESTLabelSettings,
    *,
    trusting: bool,
) -> Served:
    """Resolve what a label leaves out."""

    def chosen(key: str) -> Any:
        return settings.chosen(own, key)

    tenant_id = own.tenant_id or settings.tenant_id
    if tenant_id is None:
        raise ValueError("an enabled protocol needs a tenant_id")
    return Served(
        endpoint=Endpoint(
            protocol=name,
            name=label,
            tenant_id=tenant_id,
            profile=own.profile or settings.profile,
            authority=own.authority or settings.authority,
            scopes=tuple(
                each.scope(known_as)
                for known_as, each in chosen(
                    "registration_authorities"
                ).items()
            ),
            factory=chosen("idevid").trust() if trusting else None,
        ),
        lenient=chosen("lenient"),
        line_mode=chosen("line_mode"),
        csrattrs=chosen("csrattrs"),
        csrattrs_form=chosen("csrattrs_form"),
        challenge_password=chosen("challenge_password"),
        pop_required=chosen("pop") == "required",
    )
