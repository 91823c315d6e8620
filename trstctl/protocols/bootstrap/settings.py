# SPDX-License-Identifier: MIT
"""The section ``protocols.bootstrap``."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, field_validator

from trstctl.model import Endpoint
from trstctl.settings import Label, LabelSettings, ProtocolSettings

#: What a path ends with, and the methods there; below the tokens are ids.
METHODS = {
    "bootstrap": ("POST",),
    "renewal": ("POST",),
    "tokens": ("GET", "POST"),
}


class BootstrapLabel(LabelSettings):
    """
    One label of ``protocols.bootstrap``.

    :ivar signed_renewal: as in the protocol's own section.
    """

    signed_renewal: bool | None = None


class BootstrapSettings(ProtocolSettings):
    """
    The section ``protocols.bootstrap``.

    :ivar signed_renewal: whether a renewal may be signed, in place of a TLS
        client certificate.
    """

    signed_renewal: bool = True
    labels: dict[Label, BootstrapLabel] = Field(default_factory=dict)

    @field_validator("labels")
    @classmethod
    def _no_operation(
        cls, labels: dict[str, BootstrapLabel]
    ) -> dict[str, BootstrapLabel]:
        """Refuse a label that is the name of an operation."""
        for label in labels:
            if label in METHODS:
                raise ValueError(
                    f"label {label} is the name of an operation; choose "
                    "another"
                )
        return labels

    def endpoints(self, name: str) -> Sequence[Endpoint]:
        """Return the default endpoint and one for each label."""
        return (
            self.endpoint_of(name),
            *(
                self.endpoint_of(name, label, own)
                for label, own in self.labels.items()
            ),
        )

    def signed_labels(self) -> frozenset[str]:
        """Return the endpoints, by label, whose renewals may be signed."""
        given = {"": self.signed_renewal}
        for label, own in self.labels.items():
            allowed = own.signed_renewal
            given[label] = self.signed_renewal if allowed is None else allowed
        return frozenset(label for label, yes in given.items() if yes)
