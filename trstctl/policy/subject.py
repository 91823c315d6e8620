# SPDX-License-Identifier: MIT
"""
The subject: which attributes a request may bring, and what is issued.

The issued subject has the requested attributes in their order, in canonical
form, those with a fixed value replaced.  A fixed attribute that the request
lacks is put in front.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from trstctl.model import Name, NameAttribute
from trstctl.pkix.names import (
    ATTRIBUTE_OIDS,
    COMMON_NAME,
    DOMAIN_COMPONENT,
    ORGANIZATIONAL_UNIT,
    SHORT_NAMES,
    STREET,
)
from trstctl.policy.names import attribute_value
from trstctl.policy.patterns import Predicate, compile_pattern
from trstctl.policy.settings import SubjectRule

#: More attributes are refused, before any of them is looked at.
MAX_ATTRIBUTES = 32

_REPEATABLE = frozenset({DOMAIN_COMPONENT, ORGANIZATIONAL_UNIT, STREET})


@frozen
class _Attribute:
    """One compiled rule."""

    short: str
    allowed: bool
    fixed: NameAttribute | None
    matches: Predicate | None


class SubjectPolicy:
    """
    The compiled rules of a subject.

    :param rules: by short name.
    """

    def __init__(self, rules: Mapping[str, SubjectRule]) -> None:
        self._rules = {
            ATTRIBUTE_OIDS[short]: _compiled(short, rule)
            for short, rule in rules.items()
        }
        self.required = tuple(
            ATTRIBUTE_OIDS[short]
            for short, rule in rules.items()
            if rule.required
        )
        self._fixed = tuple(
            rule.fixed for rule in self._rules.values() if rule.fixed
        )
        self.fixed = tuple((each.oid, each.value) for each in self._fixed)

    def attributes_refusal(self, subject: Name) -> str | None:
        """Say which attribute is refused, missing or double."""
        if sum(map(len, subject)) > MAX_ATTRIBUTES:
            return f"the subject has more than {MAX_ATTRIBUTES} attributes"
        rules = self._rules
        seen = set()
        for rdn in subject:
            for attribute in rdn:
                oid = attribute.oid
                rule = rules.get(oid)
                if rule is None or not _welcome(rule, attribute):
                    short = SHORT_NAMES.get(oid, oid)
                    return f"the subject may not contain {short}"
                if oid in seen and oid not in _REPEATABLE:
                    return f"the subject contains {rule.short} twice"
                seen.add(oid)
        for oid in self.required:
            if oid not in seen:
                return f"the subject lacks {SHORT_NAMES[oid]}"
        return None

    def issue(self, subject: Name) -> Name:
        """
        Return the subject that is issued for a requested one.

        :param subject: one that :meth:`attributes_refusal` accepts.
        :raises ValueError: a value is refused; the text says why.
        """
        rules = self._rules
        placed: set[str] = set()
        issued = []
        for rdn in subject:
            attributes = []
            for attribute in rdn:
                rule = rules.get(attribute.oid)
                if rule is None:
                    continue
                made = _issued(rule, attribute)
                if made is not rule.fixed or attribute.oid not in placed:
                    attributes.append(made)
                placed.add(attribute.oid)
            if attributes:
                issued.append(tuple(attributes))
        if self._fixed:
            issued[:0] = [
                (fixed,) for fixed in self._fixed if fixed.oid not in placed
            ]
        return tuple(issued)


def _compiled(short: str, rule: SubjectRule) -> _Attribute:
    """Compile one rule."""
    fixed = rule.fixed
    return _Attribute(
        short=short,
        allowed=rule.allowed,
        fixed=None
        if fixed is None
        else attribute_value(NameAttribute(ATTRIBUTE_OIDS[short], fixed)),
        matches=None
        if rule.pattern == "*"
        else compile_pattern("cn", rule.pattern),
    )


def _welcome(rule: _Attribute, attribute: NameAttribute) -> bool:
    """Tell whether a request may bring an attribute, whatever its form."""
    # Who renews a certificate copies what was fixed in it.
    return rule.allowed or (
        rule.fixed is not None and rule.fixed.value == attribute.value
    )


def _issued(rule: _Attribute, attribute: NameAttribute) -> NameAttribute:
    """Return one attribute as it is issued, or refuse it."""
    try:
        made = attribute_value(attribute)
    except ValueError as error:
        raise ValueError(f"{rule.short}: {error}") from None
    if rule.fixed is not None:
        return rule.fixed
    if rule.matches is not None and not rule.matches(made.value):
        raise ValueError(f"{rule.short}: the value does not match the pattern")
    return made


def common_name_of(subject: Name) -> str | None:
    """Return the common name, if there is one."""
    for rdn in subject:
        for attribute in rdn:
            if attribute.oid == COMMON_NAME:
                return attribute.value
    return None


def with_common_name(subject: Name, value: str) -> Name:
    """Return the subject with another common name in the same place."""
    return tuple(
        tuple(
            NameAttribute(COMMON_NAME, value)
            if attribute.oid == COMMON_NAME
            else attribute
            for attribute in rdn
        )
        for rdn in subject
    )
