# SPDX-License-Identifier: MIT
"""
The settings of a certificate profile, as the configuration writes them.

Plain values only: text, numbers, durations, tuples and mappings.  Each has a
default; together the defaults are a client profile that allows a common name
and no alternative name.  :func:`faults` says all that is wrong with them at
once; :class:`trstctl.policy.profile.Profile` takes none that has a fault.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from attrs import asdict, field, frozen

from trstctl.model import POINTERS, NameAttribute
from trstctl.pkix import der
from trstctl.pkix.names import ATTRIBUTE_OIDS
from trstctl.policy.extensions import (
    EXTENDED_KEY_USAGES,
    KEY_USAGES,
    extended_key_usage_oid,
    usable,
)
from trstctl.policy.keys import ALGORITHMS, RSA_BITS_MAX, RSA_BITS_MIN
from trstctl.policy.names import FORMS, attribute_value
from trstctl.policy.patterns import compile_pattern, split_pattern

COMMON_NAME_RULES = ("any", "in_names", "forbidden")
APPROVALS = ("none", "always")
DIGESTS = ("sha256", "sha384", "sha512")
PRINCIPAL_KINDS = (
    "basic",
    "bearer",
    "token",
    "mdm",
    "certificate",
    "ra",
    "idevid",
    "system",
)
OPERATIONS = ("enroll", "renew")

#: Requested extensions that the authority sets by itself: the two key
#: identifiers, the CRL, delta CRL and OCSP pointers, and two that old Netscape and
#: OpenSSL configurations add.  Clients that renew copy them from the old
#: certificate.
EXTENSIONS_IGNORED = (
    "2.5.29.14",
    "2.5.29.35",
    "2.5.29.31",
    "2.5.29.46",
    "1.3.6.1.5.5.7.1.1",
    "2.16.840.1.113730.1.13",
    "2.16.840.1.113730.1.1",
)

_OCSP_SIGNING = EXTENDED_KEY_USAGES["OCSPSigning"]
_ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0"


@frozen
class SubjectRule:
    """
    One attribute of the subject.

    :ivar required: the request must contain it.
    :ivar allowed: the request may contain it; ``False`` makes sense with
        ``fixed`` only.
    :ivar fixed: what is issued whatever the request says; an attribute that
        the request lacks is put in front.
    :ivar pattern: what a requested value must match: a glob or ``re:``, as
        :mod:`trstctl.policy.patterns` says of ``cn``.
    """

    required: bool = False
    allowed: bool = True
    fixed: str | None = None
    pattern: str = "*"


@frozen
class AllowSettings:
    """
    Who may use a profile.  An empty list allows any, but for the last.

    :ivar tenants: tenants' UUIDs.
    :ivar protocols: names of protocols.
    :ivar principals: kinds of principals: ``basic``, ``bearer``, ``token``,
        ``mdm``, ``certificate``, ``ra``, ``idevid``, ``system``.
    :ivar operations: ``enroll``, ``renew``.
    :ivar certificate_profiles: the profiles whose certificates may
        authenticate an enrollment here; empty means this very profile.
    """

    tenants: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    certificate_profiles: tuple[str, ...] = ()


@frozen
class ProfileSettings:
    """
    What one profile allows and what it issues.

    :ivar key_types: ``rsa``, ``p-256``, ``p-384``, ``p-521``, ``ed25519``,
        ``ed448``, ``ml-dsa-44``, ``ml-dsa-65``, ``ml-dsa-87``.
    :ivar rsa_bits_min: smallest RSA modulus, in bits, 2048 to 8192.
    :ivar rsa_bits_max: largest RSA modulus, in bits, 2048 to 8192.
    :ivar rsa_prime_test: also test that an RSA modulus is no prime; see
        :class:`trstctl.policy.keys.KeyRules` for what that costs.
    :ivar digests: digests of requests' signatures, strongest wish first.
        Ed25519, Ed448 and ML-DSA bring their own.  ``sha1`` is known, too,
        for old devices, and not among the defaults.
    :ivar lenient_requests: whether to forgive requests the faults of
        :mod:`trstctl.pkix.mending`.
    :ivar subject: the rule of each allowed attribute, by its short name
        (``CN``, ``O``, ``serialNumber``); others are refused.
    :ivar common_name: ``any``; ``in_names``: the common name must equal one
        of the alternative names; ``forbidden``.
    :ivar names: patterns by kind (``dns``, ``ip``, ``email``, ``uri``,
        ``upn``); kinds that are not listed are refused.
    :ivar names_required: at least one alternative name.
    :ivar wildcards: whether DNS names may begin with ``*.``.
    :ivar max_names: largest number of alternative names.
    :ivar key_usage: names of RFC 5280, section 4.2.1.3.  A key gets those
        that it can serve: ``keyEncipherment`` is for RSA keys only.
    :ivar extended_key_usage: names or dotted OIDs.
    :ivar certificate_policies: dotted OIDs to issue.
    :ivar ocsp_no_check: whether to issue id-pkix-ocsp-nocheck (RFC 6960,
        section 4.2.2.2.1); for the gateway's own responder.
    :ivar pointers: which pointers to the issuer: some of ``crl``, ``ocsp``
        and ``issuer``.
    :ivar extensions_ignored: dotted OIDs of extensions that a request may
        contain without effect; they are never copied.
    :ivar validity_default: from notBefore to notAfter.
    :ivar validity_maximum: no certificate lives longer.
    :ivar backdate: how far before now a certificate begins, for clients
        whose clock is late.
    :ivar renewal_window: how long before its end a certificate can be
        renewed; ``None``: at any time.
    :ivar renewal_grace: how long after its end it can still be renewed.
    :ivar renewal_changes: patterns ``kind:pattern`` of names that a renewal
        may change to (RFC 6402, section 2.8); none: it keeps its names.
    :ivar revoke_on_reenroll: whether a renewal revokes the certificate that
        it replaces.
    :ivar approval: ``none``, or ``always``: a person approves each request.
    :ivar approval_retry_after: seconds that a client is asked to wait then.
    :ivar server_key_generation: whether the gateway may make the key.
    :ivar allow: who may use the profile.
    """

    key_types: tuple[str, ...] = (
        "p-256",
        "p-384",
        "p-521",
        "rsa",
        "ed25519",
        "ml-dsa-65",
    )
    rsa_bits_min: int = RSA_BITS_MIN
    rsa_bits_max: int = RSA_BITS_MAX
    rsa_prime_test: bool = False
    digests: tuple[str, ...] = DIGESTS
    lenient_requests: bool = False
    subject: Mapping[str, SubjectRule] = field(
        factory=lambda: {"CN": SubjectRule()}
    )
    common_name: str = "any"
    names: Mapping[str, tuple[str, ...]] = field(factory=dict)
    names_required: bool = False
    wildcards: bool = False
    max_names: int = 100
    key_usage: tuple[str, ...] = ("digitalSignature", "keyEncipherment")
    extended_key_usage: tuple[str, ...] = ("clientAuth",)
    certificate_policies: tuple[str, ...] = ()
    ocsp_no_check: bool = False
    pointers: tuple[str, ...] = POINTERS
    extensions_ignored: tuple[str, ...] = EXTENSIONS_IGNORED
    validity_default: timedelta = timedelta(days=90)
    validity_maximum: timedelta = timedelta(days=397)
    backdate: timedelta = timedelta(minutes=1)
    renewal_window: timedelta | None = None
    renewal_grace: timedelta = timedelta(0)
    renewal_changes: tuple[str, ...] = ()
    revoke_on_reenroll: bool = False
    approval: str = "none"
    approval_retry_after: int = 60
    server_key_generation: bool = False
    allow: AllowSettings = field(factory=AllowSettings)


def version_of(settings: ProfileSettings) -> str:
    """Return the SHA-256 of the settings' canonical JSON, hexadecimal."""

    def plain(value: object) -> float:
        assert isinstance(value, timedelta)
        return value.total_seconds()

    canonical = json.dumps(
        asdict(settings),
        sort_keys=True,
        separators=(",", ":"),
        default=plain,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


# --- what can be wrong ------------------------------------------------------

Faults = Iterator[tuple[str, str]]


def faults(settings: ProfileSettings) -> list[tuple[str, str]]:
    """
    Return all that is wrong with the settings.

    :returns: for each fault the key, dotted below the profile, and what is
        wrong, for the operator.
    """
    return [
        *_key_faults(settings),
        *_subject_faults(settings),
        *_name_faults(settings),
        *_extension_faults(settings),
        *_time_faults(settings),
        *_allow_faults(settings),
    ]


def _unlisted(
    key: str, values: tuple[str, ...], known: tuple[str, ...]
) -> Faults:
    """Name each value that is not on the list."""
    for value in values:
        if value not in known:
            choices = ", ".join(known)
            yield key, f"{value!r} is not known; use {choices}"


def _key_faults(settings: ProfileSettings) -> Faults:
    """Judge key types, sizes and digests."""
    yield from _unlisted("key_types", settings.key_types, ALGORITHMS)
    if not settings.key_types:
        yield "key_types", "list at least one key type"
    low, high = settings.rsa_bits_min, settings.rsa_bits_max
    if not RSA_BITS_MIN <= low <= RSA_BITS_MAX:
        yield "rsa_bits_min", f"use {RSA_BITS_MIN} to {RSA_BITS_MAX}"
    if not low <= high <= RSA_BITS_MAX:
        yield "rsa_bits_max", f"use rsa_bits_min to {RSA_BITS_MAX}"
    # SHA-1 is for whoever asks for it by name.
    yield from _unlisted("digests", settings.digests, (*DIGESTS, "sha1"))
    if not settings.digests:
        yield "digests", "list at least one digest"


def _subject_faults(settings: ProfileSettings) -> Faults:
    """Judge the subject's rules."""
    yield from _unlisted(
        "common_name", (settings.common_name,), COMMON_NAME_RULES
    )
    for short, rule in settings.subject.items():
        key = f"subject.{short}"
        oid = ATTRIBUTE_OIDS.get(short)
        if oid is None:
            known = ", ".join(ATTRIBUTE_OIDS)
            yield key, f"{short!r} is no attribute; use one of {known}"
            continue
        if rule.required and not rule.allowed:
            yield f"{key}.required", "a required attribute must be allowed"
        try:
            compile_pattern("cn", rule.pattern)
        except ValueError as error:
            yield f"{key}.pattern", str(error)
        if rule.fixed is not None:
            try:
                attribute_value(NameAttribute(oid, rule.fixed))
            except ValueError as error:
                yield f"{key}.fixed", str(error)


def _name_faults(settings: ProfileSettings) -> Faults:
    """Judge the alternative names' patterns."""
    for kind, patterns in settings.names.items():
        key = f"names.{kind}"
        if kind not in FORMS:
            yield key, f"no such kind of name; use one of {', '.join(FORMS)}"
            continue
        if not patterns:
            yield key, "list at least one pattern, or leave the kind out"
        for pattern in patterns:
            try:
                compile_pattern(kind, pattern)
            except ValueError as error:
                yield key, f"{pattern!r}: {error}"
    if settings.names_required and not settings.names:
        yield "names_required", "no kind of name is allowed by names"
    if not 1 <= settings.max_names <= 1000:
        yield "max_names", "use 1 to 1000"


def _extension_faults(settings: ProfileSettings) -> Faults:
    """Judge usages, policies and ignored extensions."""
    yield from _unlisted("key_usage", settings.key_usage, KEY_USAGES)
    for key_type in settings.key_types:
        if not usable(settings.key_usage, key_type):
            yield "key_usage", f"nothing in it is for {key_type} keys"
    for usage in settings.extended_key_usage:
        if extended_key_usage_oid(usage) == _OCSP_SIGNING and (
            settings.allow.principals != ("system",)
        ):
            # RFC 6960, section 4.2.2.2: whoever has it says which of the
            # authority's certificates are revoked.
            yield "extended_key_usage", f"{usage} is the gateway's own"
        if usage in EXTENDED_KEY_USAGES:
            continue
        if extended_key_usage_oid(usage) == _ANY_EXTENDED_KEY_USAGE:
            yield "extended_key_usage", "name the usages rather than any"
        elif not _is_oid(usage):
            known = ", ".join(EXTENDED_KEY_USAGES)
            yield (
                "extended_key_usage",
                f"{usage!r} is not known; use a dotted OID or {known}",
            )
    yield from _unlisted("pointers", settings.pointers, POINTERS)
    if len(set(settings.pointers)) < len(settings.pointers):
        yield "pointers", "name each one once"
    for key in ("certificate_policies", "extensions_ignored"):
        for oid in getattr(settings, key):
            if not _is_oid(oid):
                yield key, f"{oid!r} is no dotted OID"


def _is_oid(text: str) -> bool:
    """Tell whether a text is a dotted object identifier."""
    try:
        der.oid(text)
    except ValueError:
        return False
    return True


def _time_faults(settings: ProfileSettings) -> Faults:
    """Judge durations, and what a renewal may change."""
    zero = timedelta(0)
    if not zero <= settings.backdate <= timedelta(days=1):
        yield "backdate", "use zero to one day"
    if settings.validity_default <= settings.backdate:
        yield "validity_default", "it must be longer than backdate"
    if settings.validity_default > settings.validity_maximum:
        yield "validity_default", "it is longer than validity_maximum"
    if settings.renewal_window is not None and settings.renewal_window <= zero:
        yield "renewal_window", "it must be longer than zero"
    if settings.renewal_grace < zero:
        yield "renewal_grace", "it must not be negative"
    for pattern in settings.renewal_changes:
        try:
            split_pattern(pattern)
        except ValueError as error:
            yield "renewal_changes", str(error)


def _allow_faults(settings: ProfileSettings) -> Faults:
    """Judge approval and who may use the profile."""
    yield from _unlisted("approval", (settings.approval,), APPROVALS)
    if settings.approval_retry_after < 1:
        yield "approval_retry_after", "use at least one second"
    allow = settings.allow
    yield from _unlisted("allow.principals", allow.principals, PRINCIPAL_KINDS)
    yield from _unlisted("allow.operations", allow.operations, OPERATIONS)


# --- built in ---------------------------------------------------------------

_DEVICE_ATTRIBUTES = (
    "C ST L STREET postalCode O OU CN serialNumber emailAddress DC UID title "
    "name givenName surname initials pseudonym generationQualifier "
    "dnQualifier organizationIdentifier unstructuredName unstructuredAddress"
)
_ANY = ("*",)

#: The profile of the gateway's own server certificate; see
#: :func:`gateway_profiles`.
GATEWAY_PROFILE = "gateway-tls"


def _rules(shorts: str) -> dict[str, SubjectRule]:
    """Allow these attributes, with any value."""
    return dict.fromkeys(shorts.split(), SubjectRule())


def builtin_profiles() -> dict[str, ProfileSettings]:
    """
    Return the profiles that exist without any configuration.

    ``device``: routers, printers, phones: any usual subject and names,
    client authentication, one year.  ``tls-server``: DNS names and
    addresses, server authentication, 90 days.  ``tls-client``: people and
    programs, client authentication, 90 days.
    """
    return {
        "device": ProfileSettings(
            subject=_rules(_DEVICE_ATTRIBUTES),
            names={"dns": _ANY, "ip": _ANY, "email": _ANY, "uri": _ANY},
            validity_default=timedelta(days=365),
            validity_maximum=timedelta(days=825),
            lenient_requests=True,
        ),
        "tls-server": ProfileSettings(
            subject=_rules("C ST L O OU CN"),
            common_name="in_names",
            names={"dns": _ANY, "ip": _ANY},
            names_required=True,
            extended_key_usage=("serverAuth",),
        ),
        "tls-client": ProfileSettings(
            subject=_rules("C ST L O OU CN UID emailAddress DC"),
            names={"dns": _ANY, "email": _ANY, "uri": _ANY, "upn": _ANY},
        ),
    }


def gateway_profiles() -> dict[str, ProfileSettings]:
    """
    Return the profiles of the gateway's own certificates.

    No configuration may define one of these names.  A certificate that only
    the gateway's messages need is for one purpose, and says so.
    """
    common: dict[str, Any] = {
        "key_types": ("p-256", "p-384", "rsa"),
        "subject": _rules("CN"),
        "allow": AllowSettings(principals=("system",)),
    }
    return {
        GATEWAY_PROFILE: ProfileSettings(
            common_name="in_names",
            names={"dns": _ANY, "ip": _ANY},
            names_required=True,
            extended_key_usage=("serverAuth",),
            **common,
        ),
        # RFC 6960, section 4.2.2.2.1: without a way to revoke it, the
        # responder's certificate must be short-lived.
        "gateway-ocsp": ProfileSettings(
            key_usage=("digitalSignature",),
            extended_key_usage=("OCSPSigning",),
            ocsp_no_check=True,
            pointers=("issuer",),
            validity_default=timedelta(days=14),
            **common,
        ),
        # RFC 8894, section 2.1.2, and what Windows looks for.
        "gateway-scep": ProfileSettings(
            extended_key_usage=("certificateRequestAgent",),
            validity_default=timedelta(days=365),
            **common,
        ),
        # RFC 9483, section 1.5; RFC 6402, section 2.10.
        "gateway-cmp": ProfileSettings(
            key_usage=("digitalSignature",),
            extended_key_usage=("cmcCA", "cmcRA"),
            validity_default=timedelta(days=365),
            **common,
        ),
        # RFC 9810, section 8.3; RFC 9483, section 4.1.6.
        "gateway-kga": ProfileSettings(
            key_usage=("digitalSignature",),
            extended_key_usage=("cmKGA",),
            validity_default=timedelta(days=365),
            **common,
        ),
    }
