# SPDX-License-Identifier: MIT
"""The section ``protocols.cmp``, and the endpoints that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

from attrs import evolve, frozen
from pydantic import AfterValidator, Field

from trstctl.backends.keyfiles import KeyFileError, read_certificates
from trstctl.errors import RequestError, Unavailable
from trstctl.model import Endpoint
from trstctl.pkix.certificate import read_certificate
from trstctl.settings import (
    Duration,
    Label,
    LabelSettings,
    ProtocolSettings,
    Section,
)
from trstctl.trust_settings import (
    IDevIDSettings,
    RegistrationAuthoritySettings,
    trusted,
)

#: What a transaction can begin with.
Request = Literal["ir", "cr", "p10cr", "kur", "rr", "genm", "nested"]


def _timeout(seconds: int) -> int:
    """Refuse a time in which nobody can answer."""
    if not 10 <= seconds <= 7 * 86400:
        raise ValueError("use 10s to 7d")
    return seconds


File = Annotated[Path, Field(strict=False)]
Timeout = Annotated[Duration, AfterValidator(_timeout)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]

#: How closely messages must follow RFC 9483.
Mode = Literal["interop", "strict"]

#: What becomes of a regToken (RFC 4211, section 6.1).
RegToken = Literal["refuse", "ignore", "challenge"]


class AllowSettings(Section):
    """
    Who may begin what; what is not listed is refused.

    :ivar secret: who knows a shared secret.
    :ivar certificate: who has a certificate of this CA.
    :ivar idevid: who has a factory certificate of a trusted manufacturer.
    :ivar ra: one of the registration authorities, beside what any
        certificate may.
    """

    secret: tuple[Request, ...] = ("ir", "cr", "p10cr", "genm")
    certificate: tuple[Request, ...] = (
        "ir",
        "cr",
        "p10cr",
        "kur",
        "rr",
        "genm",
    )
    idevid: tuple[Request, ...] = ("ir", "cr", "p10cr", "genm")
    ra: tuple[Request, ...] = (
        "ir",
        "cr",
        "p10cr",
        "kur",
        "rr",
        "genm",
        "nested",
    )


class QuotaSettings(Section):
    """
    How many transactions are remembered at a time for each of a kind; one
    more is refused.

    :ivar secret: for a shared secret, beside one for each of its uses.
    :ivar certificate: for a certificate of this CA.
    :ivar idevid: for a factory certificate.
    :ivar ra: for a registration authority.
    """

    secret: Count = 100
    certificate: Count = 1000
    idevid: Count = 100
    ra: Count = 100_000


class RootUpdateSettings(Section):
    """
    The root that will take over (RFC 9810, section 5.3.19.15): PEM files, of
    one certificate each.

    :ivar new: the next root, signed by itself.
    :ivar new_with_old: the same, signed by the root of now.
    :ivar old_with_new: the root of now, signed by the next.
    """

    new: File
    new_with_old: File | None = None
    old_with_new: File | None = None

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        return self.model_copy(
            update={
                name: path and folder / path
                for name, path in (
                    ("new", self.new),
                    ("new_with_old", self.new_with_old),
                    ("old_with_new", self.old_with_new),
                )
            }
        )

    def read(self, place: str) -> RootUpdate:
        """
        Read the certificates, and see that they are links of one chain.

        :param place: the section, for the text of an error.
        :raises Unavailable: a file cannot be used; the text says why.
        """
        try:
            made = RootUpdate(
                _one_certificate(self.new),
                _optional(self.new_with_old),
                _optional(self.old_with_new),
            )
            link = made.new_with_old
            fits = link is None or _key_of(link) == _key_of(made.new)
        except (KeyFileError, OSError, RequestError) as error:
            raise Unavailable(f"{place}: {error}") from error
        if not fits:
            raise Unavailable(
                f"{place}.new_with_old: it has not the key of {self.new}"
            )
        return made


@frozen
class RootUpdate:
    """The root that will take over: DER of it, and of what links it."""

    new: bytes
    new_with_old: bytes | None = None
    old_with_new: bytes | None = None


def _one_certificate(path: Path) -> bytes:
    """Read the one certificate in a file."""
    certificates = read_certificates(path)
    if len(certificates) != 1:
        raise KeyFileError(f"{path}: it must have one certificate")
    return certificates[0]


def _optional(path: Path | None) -> bytes | None:
    """Read the one certificate in a file, if there is one."""
    return None if path is None else _one_certificate(path)


def _key_of(certificate: bytes) -> bytes:
    """Return a certificate's SubjectPublicKeyInfo."""
    return read_certificate(certificate).public_key.spki


class CMPLabelSettings(LabelSettings):
    """
    One named endpoint of CMP; what it leaves out is as in the section.

    :ivar mode: ``strict`` for the letter of RFC 9483; ``interop`` also takes
        what older clients send.
    :ivar allow: who may begin what.
    :ivar quota: how many transactions each may have.
    :ivar implicit_confirm: whether a client may do without certConf.
    :ivar confirm_timeout: after which an unconfirmed certificate is revoked.
    :ivar include_root: whether extraCerts bring the root, too.
    :ivar reg_token: what becomes of a regToken; ``challenge``: it is one of
        ours.
    :ivar central_key_generation: whether a key is made for who has none.
    :ivar registration_authorities: who may ask for others, by any name.
    :ivar idevid: whose factory certificates enroll.
    :ivar root_update: the root that will take over.
    """

    mode: Mode | None = None
    allow: AllowSettings | None = None
    quota: QuotaSettings | None = None
    implicit_confirm: bool | None = None
    confirm_timeout: Timeout | None = None
    include_root: bool | None = None
    reg_token: RegToken | None = None
    central_key_generation: bool | None = None
    registration_authorities: (
        dict[Label, RegistrationAuthoritySettings] | None
    ) = None
    idevid: IDevIDSettings | None = None
    root_update: RootUpdateSettings | None = None

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        return self.model_copy(
            update={
                "idevid": self.idevid and self.idevid.located(folder),
                "root_update": self.root_update
                and self.root_update.located(folder),
            }
        )


class CMPSettings(ProtocolSettings):
    """The section ``protocols.cmp``."""

    mode: Mode = "interop"
    allow: AllowSettings = AllowSettings()
    quota: QuotaSettings = QuotaSettings()
    implicit_confirm: bool = True
    confirm_timeout: Timeout = 300
    include_root: bool = False
    reg_token: RegToken = "refuse"  # noqa: S105  a mode
    central_key_generation: bool = False
    registration_authorities: dict[Label, RegistrationAuthoritySettings] = (
        Field(default={})
    )
    idevid: IDevIDSettings = IDevIDSettings()
    root_update: RootUpdateSettings | None = None
    labels: dict[Label, CMPLabelSettings] = Field(default_factory=dict)

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
                "root_update": self.root_update
                and self.root_update.located(folder),
                "labels": {
                    label: own.located(folder)
                    for label, own in self.labels.items()
                },
            }
        )


@frozen
class Served:
    """
    One endpoint, with everything that it inherits resolved.

    :ivar allow: what each kind of peer may begin.
    :ivar quota: how many transactions each kind of peer may have.
    :ivar reg_token: ``refuse``, ``ignore`` or ``challenge``.
    :ivar root_update: the root that will take over, if there is one.
    """

    endpoint: Endpoint
    strict: bool
    allow: Mapping[str, frozenset[str]]
    quota: Mapping[str, int]
    implicit_confirm: bool
    confirm_timeout: timedelta
    include_root: bool
    reg_token: str
    central_key_generation: bool
    root_update: RootUpdate | None = None

    def offers(self, profile: str) -> bool:
        """Tell whether a name in certProfile can be served; "" is none."""
        return profile in {"", self.endpoint.profile, self.endpoint.name}


def all_served(
    name: str, settings: CMPSettings, *, trusting: bool = False
) -> dict[str, Served]:
    """
    Return what is served at every label; the default is the empty one.

    :param trusting: also read the certificates that the settings name.
    :raises Unavailable: one of their files cannot be used.
    """
    return {
        label: _served(name, settings, label, own, trusting=trusting)
        for label, own in {"": CMPLabelSettings(), **settings.labels}.items()
    }


def _served(
    name: str,
    settings: CMPSettings,
    label: str,
    own: CMPLabelSettings,
    *,
    trusting: bool,
) -> Served:
    """Resolve what a label leaves out."""
    chosen = partial(settings.chosen, own)

    allow: AllowSettings = chosen("allow")
    update: RootUpdateSettings | None = chosen("root_update")
    return Served(
        endpoint=evolve(
            settings.endpoint_of(name, label, own),
            **trusted(name, chosen, trusting=trusting),
            makes_keys=chosen("central_key_generation"),
        ),
        strict=chosen("mode") == "strict",
        allow={
            "secret": frozenset(allow.secret),
            "certificate": frozenset(allow.certificate),
            "idevid": frozenset(allow.idevid),
            "ra": frozenset(allow.certificate + allow.ra),
        },
        quota=chosen("quota").model_dump(),
        implicit_confirm=chosen("implicit_confirm"),
        confirm_timeout=timedelta(seconds=chosen("confirm_timeout")),
        include_root=chosen("include_root"),
        reg_token=chosen("reg_token"),
        central_key_generation=chosen("central_key_generation"),
        root_update=(
            update.read(f"protocols.{name}.root_update")
            if trusting and update is not None
            else None
        ),
    )
