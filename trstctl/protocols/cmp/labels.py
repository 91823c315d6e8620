# SPDX-License-Identifier: MIT
"""The operations that a path can name (RFC 9483, section 6.1)."""

from __future__ import annotations

from collections.abc import Mapping

from trstctl.errors import TrstctlError
from trstctl.protocols.cmp.refusals import refuse

#: The labels of RFC 9811, section 3.4, and what they are for.
LABELS: Mapping[str, frozenset[str]] = {
    "initialization": frozenset({"ir"}),
    "certification": frozenset({"cr"}),
    "keyupdate": frozenset({"kur"}),
    "pkcs10": frozenset({"p10cr"}),
    "revocation": frozenset({"rr"}),
    "getcacerts": frozenset({"genm"}),
    "getrootupdate": frozenset({"genm"}),
    "getcertreqtemplate": frozenset({"genm"}),
    "getcrls": frozenset({"genm"}),
    "nested": frozenset({"nested"}),
}


def fits(kind: str, label: str) -> bool:
    """Tell whether a label of the path is for a type of message."""
    return kind in LABELS[label]


def other_label(kind: str) -> TrstctlError:
    """Return what is told of a message that came to the wrong path."""
    return refuse(
        "badRequest", "label", f"the path is not for a message of type {kind}"
    )
