# SPDX-License-Identifier: MIT
"""The section ``protocols.est``, and what each label inherits from it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

from attrs import evolve, frozen
from pydantic import Field, field_validator, model_validator

from trstctl.config.secrets import SecretReference, absolute
from trstctl.model import (
    Endpoint,
)
from trstctl.protocols.est.key_protection import Recipients
from trstctl.protocols.est.key_secrets import KeyName, read_recipients
from trstctl.settings import (
    Duration,
    Label,
    LabelSettings,
    ProtocolSettings,
)
from trstctl.trust_settings import (
    File,
    IDevIDSettings,
    RegistrationAuthoritySettings,
    trusted,
)

#: The operation whose path goes on: with the name of a certificate.
RENEWAL_INFO = "renewal-info"

#: Operations and their methods (RFC 7030, figure 5); GET implies HEAD.
METHODS: Mapping[str, tuple[str, ...]] = {
    "cacerts": ("GET",),
    "csrattrs": ("GET",),
    "simpleenroll": ("POST",),
    "simplereenroll": ("POST",),
    "fullcmc": ("POST",),
    "crls": ("GET",),
    "eecerts": ("GET",),
    RENEWAL_INFO: ("GET",),
    "serverkeygen": ("POST",),
}

#: What a label must not be called (RFC 7030, section 3.2.2), also where the
#: operation is not offered.
OPERATIONS = {*METHODS}

LineMode = Literal["auto", "wrapped", "single"]
CSRAttributes = Literal["off", "advise", "enforce"]
CSRAttributesForm = Literal["classic", "extensions", "template"]
ChallengePassword = Literal["pop", "secret", "ignore"]
ProofOfPossession = Literal["verified", "required"]
OneTimePassword = Literal["off", "accepted", "required"]
RevocationChallenge = Literal["off", "accepted", "announced"]
KeyEncryption = Literal["accepted", "required"]
PeerName = Annotated[str, Field(min_length=1, max_length=255)]
PeerNames = Annotated[tuple[PeerName, ...], Field(max_length=16)]


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
    :ivar fullcmc: whether Full PKI Requests are answered.
    :ivar otp: whether a single-use token in otpChallenge is taken, or
        demanded.
    :ivar revocation_challenge: whether a password that will revoke the
        certificate is taken, and announced.
    :ivar crls: whether CRLs are handed out (RFC 8295, section 4).
    :ivar eecerts: the peers whose certificates are (RFC 8295, section 3).
    :ivar renewal_info: whether it is told when to renew.
    :ivar registration_authorities: who may ask for others, by any name.
    :ivar idevid: whose factory certificates enroll.
    :ivar serverkeygen: whether keys are made for devices.
    :ivar key_encryption: whether they are encrypted if a request says to
        whom, or a request has to.
    :ivar decrypt_keys: symmetric keys that they can be encrypted with.
    :ivar decrypt_certificates: PEM files of certificates that they can be
        encrypted to, beside the client's own.
    """

    lenient: bool | None = None
    line_mode: LineMode | None = None
    csrattrs: CSRAttributes | None = None
    csrattrs_form: CSRAttributesForm | None = None
    challenge_password: ChallengePassword | None = None
    pop: ProofOfPossession | None = None
    fullcmc: bool | None = None
    otp: OneTimePassword | None = None
    revocation_challenge: RevocationChallenge | None = None
    crls: bool | None = None
    eecerts: PeerNames | None = None
    renewal_info: bool | None = None
    registration_authorities: (
        dict[Label, RegistrationAuthoritySettings] | None
    ) = None
    idevid: IDevIDSettings | None = None
    serverkeygen: bool | None = None
    key_encryption: KeyEncryption | None = None
    decrypt_keys: dict[KeyName, SecretReference] | None = None
    decrypt_certificates: tuple[File, ...] | None = None

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        found: dict[str, object] = {}
        if self.idevid is not None:
            found["idevid"] = self.idevid.located(folder)
        if self.decrypt_keys is not None:
            found["decrypt_keys"] = _located_keys(self.decrypt_keys, folder)
        if self.decrypt_certificates is not None:
            found["decrypt_certificates"] = tuple(
                folder / each for each in self.decrypt_certificates
            )
        return self.model_copy(update=found)


class ESTSettings(ProtocolSettings):
    """The section ``protocols.est``."""

    lenient: bool = True
    line_mode: LineMode = "auto"
    csrattrs: CSRAttributes = "advise"
    csrattrs_form: CSRAttributesForm = "classic"
    challenge_password: ChallengePassword = "pop"  # noqa: S105  a mode
    pop: ProofOfPossession = "verified"
    fullcmc: bool = False
    otp: OneTimePassword = "accepted"
    revocation_challenge: RevocationChallenge = "off"
    crls: bool = False
    eecerts: PeerNames = ()
    renewal_info: bool = True
    renewal_retry: Annotated[Duration, Field(ge=60, le=30 * 86400)] = 43200
    registration_authorities: dict[Label, RegistrationAuthoritySettings] = (
        Field(default={})
    )
    idevid: IDevIDSettings = IDevIDSettings()
    serverkeygen: bool = False
    key_encryption: KeyEncryption = "accepted"
    decrypt_keys: dict[KeyName, SecretReference] = Field(default={})
    decrypt_certificates: tuple[File, ...] = ()
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
        Refuse to demand what no client would learn of.

        RFC 8951, section 4, and RFC 7894, section 4: who requires a link or
        a one-time password MUST say so in /csrattrs; and the template of RFC
        9908 has no place for it.
        """
        for label, own in self.each_label().items():
            if (
                self.chosen(own, "csrattrs") != "off"
                and self.chosen(own, "csrattrs_form") != "template"
            ):
                continue
            for key, value in (
                ("pop", "required"),
                ("otp", "required"),
                ("revocation_challenge", "announced"),
            ):
                if self.chosen(own, key) != value:
                    continue
                where = f"label {label}" if label else "the default label"
                raise ValueError(
                    f"{key}: {value}, at {where}, needs csrattrs: advise or "
                    "enforce, and another csrattrs_form than template"
                )
        return self

    @model_validator(mode="after")
    def _keeps_what_can_revoke(self) -> Self:
        """Refuse to keep passwords where nobody could revoke by one."""
        for label, own in self.each_label().items():
            if self.chosen(
                own, "revocation_challenge"
            ) != "off" and not self.chosen(own, "fullcmc"):
                where = f"label {label}" if label else "the default label"
                raise ValueError(
                    f"revocation_challenge, at {where}, needs fullcmc: true, "
                    "which revokes by it"
                )
        return self

    @model_validator(mode="after")
    def _links_nothing_to_a_made_key(self) -> Self:
        """
        Refuse to demand a link that proves nothing.

        RFC 7030, section 3.5, has it signed with the key to be certified; of
        a request for a key the signature is ignored (section 4.4.1).
        """
        for label, own in self.each_label().items():
            if self.chosen(own, "pop") == "required" and self.chosen(
                own, "serverkeygen"
            ):
                where = f"label {label}" if label else "the default label"
                raise ValueError(
                    f"pop: required, at {where}, cannot be met where the "
                    "gateway makes the key: use another label for "
                    "serverkeygen"
                )
        return self

    def endpoints(self, name: str) -> Sequence[Endpoint]:
        """Return the default endpoint and one for each label."""
        return tuple(one.endpoint for one in all_served(name, self).values())

    def open_files(self, name: str) -> None:
        """Read whom the settings trust, and all else that they name."""
        all_served(name, self, trusting=True)

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        return self.model_copy(
            update={
                "idevid": self.idevid.located(folder),
                "decrypt_keys": _located_keys(self.decrypt_keys, folder),
                "decrypt_certificates": tuple(
                    folder / each for each in self.decrypt_certificates
                ),
                "labels": {
                    label: own.located(folder)
                    for label, own in self.labels.items()
                },
            }
        )

    def each_label(self) -> dict[str, ESTLabelSettings]:
        """Return every label; the empty one is the default."""
        return {"": ESTLabelSettings(), **self.labels}


@frozen
class Served:
    """
    One label, with everything that it inherits resolved.

    :ivar recipients: whom a key that is made here can be encrypted to;
        ``None``: none is made here.
    """

    endpoint: Endpoint
    lenient: bool
    line_mode: LineMode
    csrattrs: CSRAttributes
    csrattrs_form: CSRAttributesForm
    challenge_password: ChallengePassword
    pop_required: bool
    fullcmc: bool = False
    otp: OneTimePassword = "accepted"
    revocation_challenge: RevocationChallenge = "off"
    crls: bool = False
    eecerts: tuple[str, ...] = ()
    renewal_info: bool = True
    recipients: Recipients | None = None

    def offers(self, operation: str) -> bool:
        """Tell whether an operation is not turned off here."""
        optional = {
            "serverkeygen": self.recipients is not None,
            "fullcmc": self.fullcmc,
            "crls": self.crls,
            "eecerts": bool(self.eecerts),
            RENEWAL_INFO: self.renewal_info,
        }
        return optional.get(operation, True)


def all_served(
    name: str, settings: ESTSettings, *, trusting: bool = False
) -> dict[str, Served]:
    """
    Return what is served at every label; the default is the empty one.

    :param trusting: also read the anchors of factory certificates, and whom
        keys can be encrypted to.
    :raises Unavailable: one of their files cannot be used.
    :raises SecretError: a secret key cannot be had.
    :raises ValueError: it is none.
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
    chosen = partial(settings.chosen, own)

    return Served(
        endpoint=evolve(
            settings.endpoint_of(name, label, own),
            **trusted(name, chosen, trusting=trusting),
            # What a person approves is a key, and it is not kept.
            may_wait=not chosen("serverkeygen"),
            makes_keys=chosen("serverkeygen"),
        ),
        lenient=chosen("lenient"),
        line_mode=chosen("line_mode"),
        csrattrs=chosen("csrattrs"),
        csrattrs_form=chosen("csrattrs_form"),
        challenge_password=chosen("challenge_password"),
        pop_required=chosen("pop") == "required",
        fullcmc=chosen("fullcmc"),
        otp=chosen("otp"),
        revocation_challenge=chosen("revocation_challenge"),
        crls=chosen("crls"),
        eecerts=chosen("eecerts"),
        renewal_info=chosen("renewal_info"),
        recipients=(
            read_recipients(
                chosen("decrypt_keys"),
                chosen("decrypt_certificates"),
                f"protocols.{name}",
                os.environ,
                required=chosen("key_encryption") == "required",
            )
            if trusting and chosen("serverkeygen")
            else None
        ),
    )


def _located_keys(
    references: Mapping[str, str], folder: Path
) -> dict[str, str]:
    """Return the same with absolute paths."""
    return {
        name: absolute(reference, folder)
        for name, reference in references.items()
    }
