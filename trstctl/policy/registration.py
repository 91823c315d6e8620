# SPDX-License-Identifier: MIT
"""
Registration authorities: who may ask for others, and what their word is good
for (RFC 7030, section 3.7).

A certificate of ours with id-kp-cmcRA is a registration authority's where
the operator has given it a scope, and nothing otherwise.  It may ask for the
names of its scope, and for its own names as any certificate may.  What links
a request to a TLS session is the registration authority's to verify: the
session that reaches us is its own, not the device's.
"""

from __future__ import annotations

from trstctl.errors import ProofOfPossessionFailed
from trstctl.model import (
    CertificateFacts,
    CertificateRecord,
    CertificateRequest,
    EnrollmentRequest,
    GeneralName,
    Linking,
    Name,
    Operation,
    Principal,
    RegistrationScope,
)
from trstctl.pkix.names import (
    COMMON_NAME,
    EMAIL_ADDRESS,
    SERIAL_NUMBER,
    USER_ID,
    attribute_values,
    names_match,
)
from trstctl.policy.binding import canonical, own_names, shown
from trstctl.policy.extensions import EXTENDED_KEY_USAGES
from trstctl.policy.patterns import principal_allows

#: id-kp-cmcRA (RFC 6402, section 2.10).
CMC_RA = EXTENDED_KEY_USAGES["cmcRA"]

#: What in a subject says who somebody is, and the patterns that judge it.
_IDENTIFYING = (
    ("cn", COMMON_NAME),
    ("cn", SERIAL_NUMBER),
    ("cn", USER_ID),
    ("email", EMAIL_ADDRESS),
)


def scope_of(
    scopes: tuple[RegistrationScope, ...],
    certificate: CertificateFacts,
    record: CertificateRecord,
) -> RegistrationScope | None:
    """
    Return the first scope that a certificate meets; ``None``: it speaks for
    nobody else.

    :param certificate: one that this endpoint's authority has issued.
    """
    if CMC_RA not in certificate.extended_key_usage:
        return None
    for scope in scopes:
        if (
            scope.subject in {"", record.subject}
            and scope.serial in {"", record.serial}
            and scope.certificate_profile in {"", record.profile}
        ):
            return scope
    return None


def asks_for_itself(
    wanted: CertificateRequest, certificate: CertificateFacts
) -> bool:
    """Tell whether a request is for the very names of its requester."""
    return names_match(wanted.subject, certificate.subject) and (
        set(map(canonical, wanted.names)) == own_names(certificate)
    )


def scope_refusal(
    scope: RegistrationScope, wanted: CertificateRequest, operation: Operation
) -> str | None:
    """
    Say why a request is beyond a scope.

    Judged before anything is looked up, so that nobody learns whether
    another's device exists.  What will be issued, the profile judges.
    """
    if operation not in scope.operations:
        return f"this registration authority may not {operation.value}"
    texts = _who(wanted.subject, wanted.names)
    if not texts:
        return "a registration authority must name the device"
    for kind, value, told in texts:
        # No patterns at all would allow any name.
        if not scope.names or not principal_allows(scope.names, kind, value):
            return f"this registration authority is not for {told}"
    return None


def within_scope(
    scope: RegistrationScope | None,
    certificate: CertificateFacts,
    profile: str,
) -> bool:
    """
    Tell whether a registration authority could have enrolled a certificate,
    so that it may revoke it.

    :param scope: ``None``: nobody's.
    :param profile: that the certificate is of.
    """
    texts = _who(certificate.subject, certificate.names)
    return (
        scope is not None
        and bool(texts)
        # No patterns at all would allow any name.
        and bool(scope.names)
        and (not scope.profiles or profile in scope.profiles)
        and all(
            principal_allows(scope.names, kind, value)
            for kind, value, _ in texts
        )
    )


def _who(
    subject: Name, names: tuple[GeneralName, ...]
) -> list[tuple[str, str, str]]:
    """Return what says who somebody is: kind, value, and what to call it."""
    named = [canonical(name) for name in names]
    texts = [(name.kind, name.value, shown(name)) for name in named]
    for kind, oid in _IDENTIFYING:
        texts += [
            (kind, value, "this subject")
            for value in attribute_values(subject, oid)
        ]
    return texts


def check_linking(request: EnrollmentRequest, principal: Principal) -> None:
    """
    Refuse a request that is not bound to its TLS session as it should be.

    :raises ProofOfPossessionFailed: the text says what is expected.
    """
    linking = request.linking
    if linking in (Linking.UNASKED, Linking.PROVEN) or principal.kind == "ra":
        return
    # RFC 7030, section 3.5: a text that says that the link is required.
    if linking is Linking.MISSING:
        raise ProofOfPossessionFailed(
            "linking of identity and proof of possession is required: the "
            "base64 of tls-unique (TLS 1.2) or tls-exporter (TLS 1.3) as "
            "estIdentityLinking or challengePassword"
        )
    if linking is Linking.UNVERIFIABLE:
        raise ProofOfPossessionFailed(
            "linking of identity and proof of possession cannot be verified: "
            "a proxy ends the TLS session; connect to the server itself, or "
            "ask for a label with pop: verified (and, if challengePassword "
            "means something else, challenge_password: secret or ignore)"
        )
    raise ProofOfPossessionFailed(
        "linking of identity and proof of possession: challengePassword or "
        "estIdentityLinking is not the channel binding of this TLS session "
        "(the base64 of tls-unique in TLS 1.2, of tls-exporter in TLS 1.3); "
        "a challengePassword that means something else needs "
        "challenge_password: secret or ignore on the server"
    )
