# SPDX-License-Identifier: MIT
"""
The sections below ``profiles:``, key by key what
:class:`trstctl.policy.settings.ProfileSettings` documents.

Only the shape is judged here; whether the values make sense, the policy
itself says.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from trstctl.config.values import Duration
from trstctl.policy.settings import (
    AllowSettings,
    ProfileSettings,
    SubjectRule,
)
from trstctl.settings import Section, TenantID

_DEFAULT = ProfileSettings()


def _seconds(duration: timedelta) -> int:
    """Return a default of the policy in whole seconds."""
    return int(duration.total_seconds())


class SubjectSection(Section):
    """The rule of one attribute of the subject."""

    required: bool = SubjectRule().required
    allowed: bool = SubjectRule().allowed
    fixed: str | None = None
    pattern: str = SubjectRule().pattern

    def settings(self) -> SubjectRule:
        """Return the section as the policy takes it."""
        return SubjectRule(
            self.required, self.allowed, self.fixed, self.pattern
        )


class AllowSection(Section):
    """Who may use a profile; an empty list allows any."""

    tenants: tuple[TenantID, ...] = ()
    protocols: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    certificate_profiles: tuple[str, ...] = ()

    def settings(self) -> AllowSettings:
        """Return the section as the policy takes it."""
        return AllowSettings(**self.model_dump())


class ProfileSection(Section):
    """One certificate profile."""

    key_types: tuple[str, ...] = _DEFAULT.key_types
    rsa_bits_min: int = _DEFAULT.rsa_bits_min
    rsa_bits_max: int = _DEFAULT.rsa_bits_max
    rsa_prime_test: bool = _DEFAULT.rsa_prime_test
    digests: tuple[str, ...] = _DEFAULT.digests
    lenient_requests: bool = _DEFAULT.lenient_requests
    subject: dict[str, SubjectSection] = Field(
        default={"CN": SubjectSection()}
    )
    common_name: Literal["any", "in_names", "forbidden"] = "any"
    names: dict[str, tuple[str, ...]] = Field(default={})
    names_required: bool = _DEFAULT.names_required
    wildcards: bool = _DEFAULT.wildcards
    max_names: int = _DEFAULT.max_names
    key_usage: tuple[str, ...] = _DEFAULT.key_usage
    extended_key_usage: tuple[str, ...] = _DEFAULT.extended_key_usage
    certificate_policies: tuple[str, ...] = _DEFAULT.certificate_policies
    pointers: tuple[str, ...] = _DEFAULT.pointers
    extensions_ignored: tuple[str, ...] = _DEFAULT.extensions_ignored
    validity_default: Duration = _seconds(_DEFAULT.validity_default)
    validity_maximum: Duration = _seconds(_DEFAULT.validity_maximum)
    backdate: Duration = _seconds(_DEFAULT.backdate)
    renewal_window: Duration | None = None
    renewal_grace: Duration = _seconds(_DEFAULT.renewal_grace)
    renewal_changes: tuple[str, ...] = _DEFAULT.renewal_changes
    revoke_on_reenroll: bool = _DEFAULT.revoke_on_reenroll
    approval: Literal["none", "always"] = "none"
    approval_retry_after: int = _DEFAULT.approval_retry_after
    server_key_generation: bool = _DEFAULT.server_key_generation
    allow: AllowSection = AllowSection()

    def settings(self) -> ProfileSettings:
        """Return the section as the policy takes it."""
        plain = {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name not in ("subject", "allow")
        }
        for name in (
            "validity_default",
            "validity_maximum",
            "backdate",
            "renewal_window",
            "renewal_grace",
        ):
            if plain[name] is not None:
                plain[name] = timedelta(seconds=plain[name])
        return ProfileSettings(
            subject={
                short: rule.settings() for short, rule in self.subject.items()
            },
            allow=self.allow.settings(),
            **plain,
        )
