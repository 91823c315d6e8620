# SPDX-License-Identifier: MIT
"""
The subject alternative names, and the common name's relation to them.

Every name is judged, not the first one only: what one loop forgot cost a
public authority three million certificates in 2020.
"""

from __future__ import annotations

from trstctl.model import GeneralName
from trstctl.policy.binding import shown
from trstctl.policy.case import Case
from trstctl.policy.names import FORMS, dns_name
from trstctl.policy.patterns import compile_pattern
from trstctl.policy.settings import ProfileSettings
from trstctl.policy.subject import common_name_of, with_common_name


class AlternativeNames:
    """
    The compiled rules of the alternative names of a profile.

    Each public method judges one rule.
    """

    def __init__(self, settings: ProfileSettings) -> None:
        self._settings = settings
        self._patterns = {
            kind: tuple(compile_pattern(kind, text) for text in patterns)
            for kind, patterns in settings.names.items()
        }

    def count(self, case: Case) -> str | None:
        """Judge how many there are, before any is looked at."""
        limit = self._settings.max_names
        if len(case.wanted.names) > limit:
            return f"more than {limit} alternative names"
        return None

    def types(self, case: Case) -> str | None:
        """Judge the type of each."""
        for name in case.wanted.names:
            if name.kind not in self._patterns:
                return f"alternative names of type {name.kind} are not allowed"
        return None

    def forms(self, case: Case) -> str | None:
        """Judge the text of each, and make the issued names."""
        try:
            case.names = self._canonical(case.wanted.names)
        except ValueError as error:
            return str(error)
        return None

    def _canonical(
        self, names: tuple[GeneralName, ...]
    ) -> tuple[GeneralName, ...]:
        """Return each name in canonical form, once; or refuse."""
        wildcards = self._settings.wildcards
        found: dict[GeneralName, None] = {}
        for name in names:
            kind, text = name.kind, name.value
            if kind == "dns":
                value = dns_name(text, wildcards=wildcards)
            elif kind in FORMS:
                value = FORMS[kind](text)
            else:
                raise ValueError(f"alternative names of type {kind} exist not")
            found[name if value == text else GeneralName(kind, value)] = None
        return tuple(found)

    def patterns(self, case: Case) -> str | None:
        """Judge each by the patterns of its type; one must match."""
        for name in case.names:
            value = name.value
            for matches in self._patterns.get(name.kind, ()):
                if matches(value):
                    break
            else:
                return f"{shown(name)} matches no pattern"
        return None

    def required(self, case: Case) -> str | None:
        """Judge whether the certificate would name anybody."""
        if case.names:
            return None
        if self._settings.names_required:
            return "the request has no alternative name"
        if not case.subject:
            return "the request has neither a subject nor a name"
        return None

    def common_name(self, case: Case) -> str | None:
        """Judge the common name's relation to the names."""
        rule = self._settings.common_name
        if rule == "any":
            return None
        common_name = common_name_of(case.subject)
        if common_name is None:
            return None
        if rule == "forbidden":
            return "the subject may not contain a common name"
        # The alternative name's own spelling is what will be issued.
        values = {name.value for name in case.names}
        if common_name not in values:
            common_name = common_name.lower()
            if common_name not in values:
                return "the common name is none of the alternative names"
            case.subject = with_common_name(case.subject, common_name)
        return None
