# SPDX-License-Identifier: MIT
"""
Identity binding: nobody gets names but his own.

Each function judges one rule: it says why it refuses, or returns ``None``.
A principal that is bound to patterns gets names that match them; one that is
bound to a subject, alternative names or a device gets these.  One that
a certificate stands for gets the names of that certificate: the very same
for a renewal (RFC 7030, section 4.2.2), none but them for an enrollment.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

from cryptography import x509

from trstctl.model import (
    CertificateFacts,
    CertificateStatus,
    GeneralName,
    Operation,
)
from trstctl.pkix.names import (
    ATTRIBUTE_OIDS,
    COMMON_NAME,
    EMAIL_ADDRESS,
    SERIAL_NUMBER,
    USER_ID,
    attribute_values,
    name_text,
    names_match,
    read_name,
)
from trstctl.policy.case import Case
from trstctl.policy.names import FORMS, dns_name
from trstctl.policy.patterns import principal_allows

# Subject attributes that say who somebody is, beside the common name.
_IDENTIFYING = (SERIAL_NUMBER, USER_ID, EMAIL_ADDRESS)

# A comma that ends an RDN, and the spaces that people put behind it.
_COMMA = re.compile(r"(\\.)|, +")

_TYPES = {
    short: x509.ObjectIdentifier(oid) for short, oid in ATTRIBUTE_OIDS.items()
}

#: Longest name that a refusal quotes, in characters.
_QUOTED = 80


def shown(name: GeneralName) -> str:
    """Return a name for a refusal: one line of ASCII, bounded."""
    return _quoted(str(name))


def _quoted(text: str) -> str:
    """Return a text for a refusal: one line of ASCII, bounded."""
    text = ascii(text)[1:-1]
    return text if len(text) <= _QUOTED else text[:_QUOTED] + "..."


def as_text(moment: datetime) -> str:
    """Return a moment for a refusal."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def principal_names(case: Case) -> str | None:
    """Judge each requested name by the patterns the principal is bound to."""
    patterns = case.principal.names
    if not patterns:
        return None
    common_names = attribute_values(case.subject, COMMON_NAME)
    if not case.names and not common_names:
        return "a name that the credential is bound to must be requested"
    try:
        for value in common_names:
            if not principal_allows(patterns, "cn", value):
                return "the credential is not for this common name"
        for name in case.names:
            if not principal_allows(patterns, name.kind, name.value):
                return f"the credential is not for {shown(name)}"
        for value in attribute_values(case.subject, EMAIL_ADDRESS):
            if not principal_allows(patterns, "email", value):
                return "the credential is not for this emailAddress"
    except ValueError:
        return "the credential is bound to a malformed pattern"
    return None


# --- what a challenge says --------------------------------------------------


def principal_subject(case: Case) -> str | None:
    """
    Judge the subject by the one that the principal is bound to.

    What counts is the text of what will be issued, with what the profile
    fixes in it: attributes, order and letter case.  String types do not.
    """
    bound = case.principal.subject
    if bound is None or name_text(case.subject) == bound:
        return None
    return f"the credential is not for {_quoted(name_text(case.subject))}"


def principal_alternative_names(case: Case) -> str | None:
    """Judge the alternative names, as a set, by those bound to."""
    bound = case.principal.alternative_names
    if bound is None:
        return None
    wanted = set()
    for text in bound:
        kind, _, value = text.partition(":")
        wanted.add(canonical(GeneralName(kind, value)))
    for name in case.names:
        if name not in wanted:
            return f"the credential is not for {shown(name)}"
    if len(wanted) > len(case.names):
        return "an alternative name that the credential is for is missing"
    return None


def principal_device(case: Case) -> str | None:
    """
    Judge common name and serialNumber by the device: one must be it.

    Both match whatever the letter case (X.520, sections 6.2.2 and 6.2.9).
    """
    device = case.principal.device
    if device is None:
        return None
    device = device.casefold()
    for oid in (COMMON_NAME, SERIAL_NUMBER):
        for value in attribute_values(case.subject, oid):
            if value.casefold() == device:
                return None
    return "neither common name nor serialNumber is the credential's device"


def subject_text(text: str) -> str:
    """
    Return a distinguished name as :func:`principal_subject` compares it.

    :param text: RFC 4514, last RDN first; spaces may follow a comma.
    :raises ValueError: it is no such name; the text says why.
    """
    text = _COMMA.sub(lambda found: found[1] or ",", text)
    try:
        name = x509.Name.from_rfc4514_string(text, _TYPES)
    except ValueError as error:
        raise ValueError(
            str(error) or "write it as CN=router-7,O=Example (RFC 4514)"
        ) from None
    return name_text(read_name(name))


def canonical_name(name: GeneralName) -> GeneralName:
    """
    Return an alternative name as it is issued.

    :raises ValueError: it is none that could be; the text says why.
    """
    if name.kind == "dns":
        value = dns_name(name.value, wildcards=True)
    elif name.kind in FORMS:
        value = FORMS[name.kind](name.value)
    else:
        kinds = ", ".join(FORMS)
        raise ValueError(f"begin with the kind and a colon: one of {kinds}")
    return GeneralName(name.kind, value)


def name_change(case: Case, patterns: tuple[str, ...]) -> str | None:
    """
    Judge the names that a renewal wants in place of its own.

    RFC 7030, section 4.2.2, lets a renewal ask for that by the attribute
    ChangeSubjectName.  What it keeps, it may have.

    :param patterns: what new names must match; none: there are no new ones.
    """
    certificate = case.principal.certificate
    if case.stated is case.wanted:
        return None
    if case.request.operation is not Operation.RENEW or certificate is None:
        return "only a renewal can change its names"
    if not patterns:
        return "a renewal cannot change its names"
    own = own_names(certificate)
    wanted = [name for name in case.names if name not in own]
    for kind, oid in (("cn", COMMON_NAME), ("email", EMAIL_ADDRESS)):
        kept = folded(certificate, oid)
        wanted += [
            GeneralName(kind, value)
            for value in attribute_values(case.subject, oid)
            if value.lower() not in kept
        ]
    for name in wanted:
        if not principal_allows(patterns, name.kind, name.value):
            return f"a renewal cannot change to {shown(name)}"
    for oid in (SERIAL_NUMBER, USER_ID):
        values = attribute_values(case.subject, oid)
        if not {one.lower() for one in values} <= folded(certificate, oid):
            return "the subject names somebody else"
    return None


# --- a client certificate ---------------------------------------------------


def certificate_status(case: Case, grace: timedelta) -> str | None:
    """Judge whether the client certificate is still good for anything."""
    principal = case.principal
    certificate, record = principal.certificate, principal.record
    if certificate is None or record is None:
        return "the client certificate is not in the inventory"
    if record.tenant_id != principal.tenant_id:
        return "the client certificate belongs to another tenant"
    if record.status is CertificateStatus.REVOKED:
        return "the client certificate is revoked"
    if case.now < certificate.not_before:
        return "the client certificate is not yet valid"
    end = certificate.not_after
    if case.request.operation is Operation.RENEW:
        end += grace
    if case.now > end:
        return "the client certificate has expired"
    return None


def certificate_profile(case: Case, profiles: frozenset[str]) -> str | None:
    """Judge whether a certificate of this profile counts here."""
    record = case.principal.record
    if record is None or record.profile not in profiles:
        return "the client certificate is of another profile"
    return None


def certificate_names(case: Case) -> str | None:
    """Judge whether each requested name is in the client certificate."""
    certificate = case.principal.certificate
    if certificate is None:
        return "there is no client certificate"
    own = own_names(certificate)
    for name in case.names:
        if name not in own:
            return f"{shown(name)} is not in the client certificate"
    spelled = {name.value for name in own}
    spelled |= folded(certificate, COMMON_NAME)
    for value in attribute_values(case.subject, COMMON_NAME):
        if value.lower() not in spelled and value not in spelled:
            return "the common name is not in the client certificate"
    for oid in _IDENTIFYING:
        wanted = attribute_values(case.subject, oid)
        if wanted and not (
            {value.lower() for value in wanted} <= folded(certificate, oid)
        ):
            return "the subject names somebody else"
    return None


def renewal_window(case: Case, window: timedelta | None) -> str | None:
    """Judge whether it is time to renew."""
    certificate = case.principal.certificate
    if certificate is None:
        return "there is no client certificate"
    record = case.principal.record
    if window is None or (
        # Whose authority another key has taken over from need not wait.
        record is not None
        and record.authority != case.request.endpoint.authority
    ):
        return None
    opens = certificate.not_after - window
    if case.now < opens:
        case.retry_after = math.ceil((opens - case.now).total_seconds())
        return (
            f"the certificate can be renewed from {as_text(opens)} on; it "
            f"ends {as_text(certificate.not_after)}"
        )
    return None


def renewal_subject(case: Case) -> str | None:
    """RFC 7030, section 4.2.2: the subject MUST be the certificate's."""
    certificate = case.principal.certificate
    if certificate is None or not names_match(
        case.stated.subject, certificate.subject
    ):
        return "the subject is not the one of the client certificate"
    return None


def renewal_names(case: Case) -> str | None:
    """RFC 7030, section 4.2.2: so MUST the alternative names, as a set."""
    certificate = case.principal.certificate
    stated = set(case.names)
    if case.stated is not case.wanted:
        stated = {canonical(name) for name in case.stated.names}
    if certificate is None or own_names(certificate) != stated:
        return "the alternative names are not those of the client certificate"
    return None


def own_names(certificate: CertificateFacts) -> set[GeneralName]:
    """Return a certificate's alternative names in canonical form."""
    return {canonical(name) for name in certificate.names}


def canonical(name: GeneralName) -> GeneralName:
    """Return the canonical form, or the name itself if it has none."""
    try:
        return canonical_name(name)
    except ValueError:
        return name


def folded(certificate: CertificateFacts, oid: str) -> set[str]:
    """Return the values of one attribute of the subject in lower case."""
    return {
        value.lower() for value in attribute_values(certificate.subject, oid)
    }
