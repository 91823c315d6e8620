# SPDX-License-Identifier: MIT
"""
The section ``protocols.scep``, and the endpoints that it makes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from attrs import evolve, frozen
from pydantic import Field, field_validator

from trstctl.model import Endpoint
from trstctl.protocols.scep.gate_settings import (
    Gate,
    PlatformSection,
    located,
)
from trstctl.protocols.scep.gates import open_files
from trstctl.settings import Label, LabelSettings, ProtocolSettings

#: What only old devices need: SHA-1 signatures, triple DES.
Legacy = Literal["sha1", "3des"]

#: RFC 8894, section 2.9, and what clients that know more offer.
_DIGESTS = frozenset({"sha256", "sha384", "sha512"})
_CIPHERS = frozenset({"aes-128-cbc", "aes-192-cbc", "aes-256-cbc"})

#: What device manufacturers append to every path.
SUFFIX = "pkiclient.exe"


class SCEPLabelSettings(LabelSettings):
    """
    One named endpoint of SCEP; what it leaves out is as in the section.

    :ivar challenge: who judges challenges.
    :ivar legacy: weak algorithms to take all the same.
    :ivar include_chain: whether answers bring the CA certificates, too.
    :ivar next_authority: the CA that will take over.
    """

    challenge: Gate | None = None
    legacy: tuple[Legacy, ...] | None = None
    include_chain: bool | None = None
    next_authority: str | None = None


class SCEPSettings(ProtocolSettings):
    """The section ``protocols.scep``."""

    challenge: Gate = "token"
    legacy: tuple[Legacy, ...] = ()
    include_chain: bool = False
    next_authority: str | None = None
    labels: dict[Label, SCEPLabelSettings] = Field(default_factory=dict)

    @field_validator("labels")
    @classmethod
    def _no_suffix(
        cls, labels: dict[str, SCEPLabelSettings]
    ) -> dict[str, SCEPLabelSettings]:
        """Refuse a label that clients append to paths."""
        if SUFFIX in labels:
            raise ValueError(f"clients append {SUFFIX}; choose another")
        return labels

    def endpoints(self, name: str) -> Sequence[Endpoint]:
        """Return the default endpoint and one for each label."""
        return tuple(one.endpoint for one in all_served(name, self).values())

    def open_files(self, name: str) -> None:
        """Read what those who judge challenges need."""
        for gate in (
            self.challenge,
            *(o.challenge for o in self.labels.values()),
        ):
            if gate is not None:
                open_files(gate, os.environ)

    def located(self, folder: Path) -> Self:
        """Return the same with absolute paths."""
        labels = {
            label: own.model_copy(
                update={
                    "challenge": own.challenge
                    and located(own.challenge, folder)
                }
            )
            for label, own in self.labels.items()
        }
        challenge = located(self.challenge, folder)
        return self.model_copy(
            update={"challenge": challenge, "labels": labels}
        )


@frozen
class Served:
    """
    One endpoint, with everything that it inherits resolved.

    :ivar digests: what messages may be signed with.
    :ivar ciphers: what they may be encrypted with.
    """

    endpoint: Endpoint
    challenge: Gate
    digests: frozenset[str]
    ciphers: frozenset[str]
    include_chain: bool
    next_authority: str | None

    @property
    def asks_others(self) -> bool:
        """Tell whether somebody else judges the challenges, over a wire."""
        gate = self.challenge
        return isinstance(gate, PlatformSection) and gate.jws is None

    def capabilities(self, *, following: bool = False) -> tuple[str, ...]:
        """
        Return the keywords of GetCACaps (RFC 8894, section 3.5.2).

        Each is enforced, and nothing else is accepted.

        :param following: whether another CA will take over.
        """
        found = ["AES", "POSTPKIOperation", "Renewal"]
        # SHA-384 has no keyword in the RFC, and is accepted; so it is told.
        found += ["SHA-256", "SHA-384", "SHA-512"]
        if "des-ede3-cbc" in self.ciphers:
            found.append("DES3")
        if "sha1" in self.digests:
            found.append("SHA-1")
        if following:
            found.append("GetNextCACert")
        return (*sorted(found), "SCEPStandard")


def all_served(name: str, settings: SCEPSettings) -> dict[str, Served]:
    """Return each label's endpoint; the default one has the empty label."""
    return {
        label: _served(name, settings, label, own)
        for label, own in {
            "": SCEPLabelSettings(),
            **settings.labels,
        }.items()
    }


def _served(
    name: str, settings: SCEPSettings, label: str, own: SCEPLabelSettings
) -> Served:
    """Resolve what a label leaves out."""
    legacy = settings.chosen(own, "legacy")
    challenge = own.challenge or settings.challenge
    return Served(
        endpoint=evolve(
            settings.endpoint_of(name, label, own),
            gated=challenge != "none",
            # Intune takes no answer but the certificate.
            may_wait=not isinstance(challenge, PlatformSection)
            or challenge.intune is None,
        ),
        challenge=challenge,
        digests=_DIGESTS | ({"sha1"} & set(legacy)),
        ciphers=_CIPHERS | ({"des-ede3-cbc"} if "3des" in legacy else set()),
        include_chain=settings.chosen(own, "include_chain"),
        next_authority=own.next_authority or settings.next_authority,
    )
