# SPDX-License-Identifier: MIT
"""
Keeps floods of refusals out of the log: the first, then how many more.

What is told apart is who is refused (all of an IPv6 /64 is one), where, and
why; what he wrote himself is not.  At those who have a tenant so many are
written whole that a fleet in trouble can be told apart device by device.
Metrics do not come through here: they count every one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import define

from trstctl.http.site import holder
from trstctl.model import SYSTEM_TENANT

#: Seconds after which what was only counted is told.
SECONDS = 10.0

#: Lines in this time that are written whole: of what is nobody's, such as
#: OCSP and paths that are not there, and of a tenant's.
WHOLE_OF_NOBODY = 1
WHOLE_OF_TENANT = 100

#: Kinds that are told apart in this time; the rest is counted without its
#: address.
_KINDS = 1000

#: What is counted: neither what was granted, nor what is answered.
_DECISIONS = frozenset({"refused", "failed"})

_NOBODYS = frozenset({"", SYSTEM_TENANT})


@define
class _Kind:
    """
    Refusals of one kind.

    :ivar facts: what their lines have in common.
    """

    facts: Mapping[str, object]
    whole: int
    seen: int = 0


class Repeats:
    """Says which lines are written, and counts the others."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[object, ...], _Kind] = {}

    def admits(self, facts: Mapping[str, Any]) -> bool:
        """
        Tell whether a line is to be written.

        :param facts: with ``event``, ``tenant``, ``protocol`` and ``peer``;
            of an exchange also ``decision`` and ``status``.
        """
        if facts.get("decision", "refused") not in _DECISIONS:
            return True
        peer = holder(facts["peer"])
        key = self._key(facts, peer)
        kind = self._kinds.get(key)
        if kind is None and len(self._kinds) >= _KINDS:
            peer = ""
            key = self._key(facts, peer)
            kind = self._kinds.get(key)
        if kind is None:
            tenant = facts["tenant"]
            kind = self._kinds[key] = _Kind(
                {
                    "of": facts["event"],
                    "tenant": tenant,
                    "protocol": facts["protocol"],
                    "decision": facts.get("decision", "refused"),
                    "status": facts.get("status"),
                    "error": facts.get("error"),
                    "peer": peer,
                },
                WHOLE_OF_NOBODY if tenant in _NOBODYS else WHOLE_OF_TENANT,
            )
        kind.seen += 1
        return kind.seen <= kind.whole

    def counted(self) -> Iterator[Mapping[str, object]]:
        """Yield what was counted and not written, once; begin anew."""
        kinds, self._kinds = self._kinds, {}
        for kind in kinds.values():
            if kind.seen > kind.whole:
                yield {**kind.facts, "count": kind.seen - kind.whole}

    @staticmethod
    def _key(facts: Mapping[str, Any], peer: str) -> tuple[object, ...]:
        """Return what is told apart."""
        return (
            facts["event"],
            facts["tenant"],
            facts["protocol"],
            facts.get("status"),
            facts.get("error"),
            peer,
        )
