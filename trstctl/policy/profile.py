# SPDX-License-Identifier: MIT
"""
One certificate profile: the rules, in the order in which they are judged.

The first rule that fails refuses the request and is named in the refusal;
:meth:`Profile.explain` judges all of them.  Who asks comes first, then the
key, because judging it is cheap and using it may not be, then what is asked.

Of every request:

``tenant-allowed``, ``protocol-allowed``, ``principal-allowed``,
``operation-allowed``
    who may use the profile, over what, for what;
``certificate-status``
    a client certificate is this tenant's, in the inventory, unrevoked and,
    within the grace of renewals, in date;
``key-generation``, ``key-type``, ``key-strength``, ``signature-digest``,
``key-encryption``
    the key, whether the gateway may make it, and how the request is signed,
    or that the certificate can be encrypted to the key instead;
``request-extensions``
    what is requested beyond names: :mod:`trstctl.policy.extensions`;
``subject-attributes``, ``subject-values``
    the subject: :mod:`trstctl.policy.subject`;
``names-count``, ``names-types``, ``names-forms``, ``names-patterns``,
``names-required``
    each subject alternative name, not only the first;
``common-name``
    its relation to the alternative names;
``principal-names``, ``principal-subject``, ``principal-alternative-names``,
``principal-device``
    what the principal is bound to;
``name-change``
    the names that a renewal wants in place of its own.

Of an enrollment by a client certificate: ``certificate-profile`` (whose
certificates may enroll here) and ``certificate-names`` (no names but the
certificate's own); by a factory certificate: ``idevid-names``.  Of a renewal: ``renewal-profile``, ``renewal-window``,
``renewal-subject``, ``renewal-names`` (RFC 7030, section 4.2.2).

Last: ``validity``.

Weak keys, unknown algorithms and unlisted digests are refused as
:class:`UnsupportedAlgorithm`, all else as :class:`PolicyViolation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from zope.interface import implementer

from trstctl.errors import (
    PolicyViolation,
    RequestError,
    UnsupportedAlgorithm,
)
from trstctl.interfaces import IProfilePolicy
from trstctl.model import (
    Approved,
    CSRWishes,
    EnrollmentRequest,
    Held,
    Operation,
    Principal,
    PublicKey,
    Verdict,
)
from trstctl.pkix.extensions import SUBJECT_ALTERNATIVE_NAME
from trstctl.pkix.names import (
    name_text,
)
from trstctl.policy import binding
from trstctl.policy.alternative import AlternativeNames
from trstctl.policy.binding import as_text
from trstctl.policy.case import Case, Judge
from trstctl.policy.extensions import (
    EXTENDED_KEY_USAGES,
    IssuedExtensions,
    extended_key_usage_oid,
    without_copies,
)
from trstctl.policy.factory import idevid_names
from trstctl.policy.keys import KeyRules, check_key
from trstctl.policy.settings import (
    GATEWAY_PROFILE,
    AllowSettings,
    ProfileSettings,
    SubjectRule,
    builtin_profiles,
    faults,
    gateway_profiles,
    version_of,
)
from trstctl.policy.subject import (
    SubjectPolicy,
)

__all__ = [
    "GATEWAY_PROFILE",
    "AllowSettings",
    "Profile",
    "ProfileSettings",
    "SubjectRule",
    "builtin_profiles",
    "faults",
    "gateway_profiles",
]

#: A certificate that would end sooner is not worth issuing.
LEAST_VALIDITY = timedelta(hours=1)

# Their digest is their own: Ed25519, Ed448 and ML-DSA.
_DIGEST_INSIDE = ("ed", "ml-dsa-")

_SECOND = timedelta(seconds=1)

#: What makes a registration authority of whoever has it (RFC 6402, 2.10).
_AUTHORITIES = frozenset(
    (EXTENDED_KEY_USAGES["cmcCA"], EXTENDED_KEY_USAGES["cmcRA"])
)

#: Who renews: the certificate's owner, and a registration authority for him.
RENEWING = (
    (Operation.RENEW, "certificate"),
    (Operation.RENEW, "ra"),
)
#: For whom there are rules beside those of every request.
_OWN_CHAINS = (
    *RENEWING,
    (Operation.ENROLL, "certificate"),
    (Operation.ENROLL, "idevid"),
)


@implementer(IProfilePolicy)
class Profile:
    """
    A compiled profile.

    :param name: the profile's name.
    :param settings: what it allows and issues.
    :param blocked_keys: see :class:`trstctl.policy.keys.KeyRules`.
    :ivar version: digest of the settings.
    :ivar retry_after: seconds that a held request is asked to wait.
    :ivar lenient: whether small faults of requests are forgiven.
    :ivar renewal_window: how long before its end a certificate can be
        renewed; ``None``: at any time.
    :ivar revoke_on_reenroll: whether a renewal revokes what it replaces.
    :raises ValueError: the settings have faults; the text names them.
    """

    def __init__(
        self,
        name: str,
        settings: ProfileSettings,
        blocked_keys: frozenset[str] = frozenset(),
    ) -> None:
        wrong = faults(settings)
        if wrong:
            raise ValueError(
                "; ".join(f"{key}: {what}" for key, what in wrong)
            )
        self.name = name
        self.settings = settings
        self.version = version_of(settings)
        self.retry_after = settings.approval_retry_after
        self.lenient = settings.lenient_requests
        self.renewal_window = settings.renewal_window
        self.revoke_on_reenroll = settings.revoke_on_reenroll
        self._held = settings.approval == "always"
        self._key_types = frozenset(settings.key_types)
        self._key_rules = KeyRules(blocked_keys, settings.rsa_prime_test)
        self._digests = frozenset(settings.digests)
        usages = tuple(
            map(extended_key_usage_oid, settings.extended_key_usage)
        )
        self._makes_authorities = not _AUTHORITIES.isdisjoint(usages)
        self._extensions = IssuedExtensions(
            settings.key_types,
            settings.key_usage,
            usages,
            settings.certificate_policies,
            settings.extensions_ignored,
            no_check=settings.ocsp_no_check,
        )
        self._subject = SubjectPolicy(settings.subject)
        self._certificate_profiles = frozenset(
            settings.allow.certificate_profiles or (name,)
        )
        self._least = min(
            LEAST_VALIDITY, settings.validity_default - settings.backdate
        )
        self._rules = {
            whose: self._chain(*whose)
            for whose in (*((each, "") for each in Operation), *_OWN_CHAINS)
        }

    def _chain(
        self, operation: Operation, kind: str
    ) -> tuple[tuple[str, Judge], ...]:
        """Return the rules in order: the invariants that tests name."""
        renewing = (operation, kind) in RENEWING
        certified = renewing or kind == "certificate"
        names = AlternativeNames(self.settings)
        rules: list[tuple[str, Judge]] = [
            ("tenant-allowed", self._tenant_allowed),
            ("protocol-allowed", self._protocol_allowed),
            ("principal-allowed", self._principal_allowed),
            ("operation-allowed", self._operation_allowed),
        ]
        if certified:
            rules.append(("certificate-status", self._certificate_status))
        rules += [
            ("key-generation", self._key_generation),
            ("key-type", self._key_type),
            ("key-strength", self._key_strength),
            ("signature-digest", self._signature_digest),
            ("key-encryption", self._key_encryption),
            ("request-extensions", self._request_extensions),
            ("subject-attributes", self._subject_attributes),
            ("subject-values", self._subject_values),
            ("names-count", names.count),
            ("names-types", names.types),
            ("names-forms", names.forms),
            ("names-patterns", names.patterns),
            ("names-required", names.required),
            ("common-name", names.common_name),
            ("principal-names", binding.principal_names),
            ("principal-subject", binding.principal_subject),
            (
                "principal-alternative-names",
                binding.principal_alternative_names,
            ),
            ("principal-device", binding.principal_device),
            ("name-change", self._name_change),
        ]
        if renewing:
            rules += [
                ("renewal-profile", self._renewal_profile),
                ("renewal-window", self._renewal_window),
                ("renewal-subject", binding.renewal_subject),
                ("renewal-names", binding.renewal_names),
            ]
        elif certified:
            rules += [
                ("certificate-profile", self._certificate_profile),
                ("certificate-names", binding.certificate_names),
            ]
        elif kind == "idevid":
            rules.append(("idevid-names", idevid_names))
        return (*rules, ("validity", self._validity))

    # --- IProfilePolicy -----------------------------------------------------

    def decide(
        self,
        request: EnrollmentRequest,
        principal: Principal,
        now: datetime,
        ca_not_after: datetime,
        approved: bool,
    ) -> Approved | Held:
        """Judge every rule; the first that fails refuses."""
        case = Case(request, principal, now, ca_not_after)
        rule = ""
        try:
            for rule, judge in self._rules_for(request, principal):
                refusal = judge(case)
                if refusal is not None:
                    raise PolicyViolation(
                        self.name, rule, refusal, case.retry_after
                    )
        except RequestError as error:
            error.facts = {"profile": self.name, "rule": rule}
            raise
        decision = Approved(
            self.name,
            self.version,
            case.subject,
            case.names,
            case.wanted.public_key,
            case.not_before,
            case.not_after,
            self._extensions.issue(
                case.wanted.public_key.algorithm,
                case.names,
                nameless=not case.subject,
            ),
            self.settings.pointers,
        )
        if self._held and not approved:
            return Held(decision, self.retry_after)
        return decision

    def explain(
        self,
        request: EnrollmentRequest,
        principal: Principal,
        now: datetime,
        ca_not_after: datetime,
    ) -> Sequence[Verdict]:
        """Judge every rule and return all verdicts, in order."""
        case = Case(request, principal, now, ca_not_after)
        verdicts = []
        for rule, judge in self._rules_for(request, principal):
            try:
                refusal = judge(case)
            except RequestError as error:
                refusal = error.detail
            if refusal is None:
                verdicts.append(Verdict(rule, True, self._note(rule, case)))
            else:
                verdicts.append(Verdict(rule, False, refusal))
        return verdicts

    def wishes(self) -> CSRWishes:
        """Return what a request should contain."""
        settings = self.settings
        low, high = settings.rsa_bits_min, settings.rsa_bits_max
        rsa = f"rsa-{low}" if low == high else "rsa"
        return CSRWishes(
            algorithms=tuple(
                rsa if key_type == "rsa" else key_type
                for key_type in settings.key_types
            ),
            digests=settings.digests,
            subject_attributes=self._subject.required,
            extensions=(SUBJECT_ALTERNATIVE_NAME,)
            if settings.names_required
            else (),
            fixed=self._subject.fixed,
            issued=self._extensions.wished(),
            rsa_bits=(low, high),
        )

    def _rules_for(
        self, request: EnrollmentRequest, principal: Principal
    ) -> tuple[tuple[str, Judge], ...]:
        """Return the rules that this request is judged by."""
        operation = request.operation
        own = self._rules.get((operation, principal.kind))
        return own or self._rules[operation, ""]

    def _note(self, rule: str, case: Case) -> str:
        """Say what a satisfied rule has found, for explanation."""
        key = case.wanted.public_key
        if rule == "key-type":
            return f"{key.algorithm} {key.bits}" if key.bits else key.algorithm
        if rule == "signature-digest":
            return case.wanted.proof.digest or case.wanted.proof.kind
        if rule == "request-extensions":
            ignored = self._extensions.without_effect(case.wanted.extensions)
            if ignored:
                return f"without effect: {', '.join(ignored)}"
        if rule == "subject-values":
            return f"issued: {name_text(case.subject) or 'an empty subject'}"
        if rule == "names-patterns" and case.names:
            return f"issued: {', '.join(map(str, case.names))}"
        if rule == "validity":
            return f"{as_text(case.not_before)} to {as_text(case.not_after)}"
        return "satisfied"

    # --- who asks -----------------------------------------------------------

    def _tenant_allowed(self, case: Case) -> str | None:
        """Judge the endpoint's tenant, and the credential's."""
        tenant = case.request.endpoint.tenant_id
        # One source of the tenant; the credential must be of the same.
        if case.principal.tenant_id != tenant:
            return "the credential belongs to another tenant"
        tenants = self.settings.allow.tenants
        if tenants and tenant not in tenants:
            return "this tenant may not use the profile"
        return None

    def _protocol_allowed(self, case: Case) -> str | None:
        """Judge what the request came over."""
        protocols = self.settings.allow.protocols
        protocol = case.request.endpoint.protocol
        if protocols and protocol not in protocols:
            return f"the profile is not offered over {protocol}"
        return None

    def _principal_allowed(self, case: Case) -> str | None:
        """Judge who asks, by kind and by what the credential is for."""
        principal = case.principal
        kinds = self.settings.allow.principals
        if kinds and principal.kind not in kinds:
            return f"a {principal.kind} credential may not use the profile"
        if principal.profiles and self.name not in principal.profiles:
            return "this credential may not use the profile"
        # It would outlive the revocation of the one that asked for it.
        if (
            principal.kind == "ra"
            and not principal.profiles
            and self._makes_authorities
        ):
            return (
                "a registration authority makes no other, unless its scope "
                "names the profile"
            )
        return None

    def _operation_allowed(self, case: Case) -> str | None:
        """Judge what the request is for."""
        operation = case.request.operation
        operations = self.settings.allow.operations
        if operations and operation.value not in operations:
            return f"the profile does not allow to {operation.value}"
        if operation is Operation.RENEW and (
            (operation, case.principal.kind) not in RENEWING
        ):
            return "a renewal needs the current certificate"
        return None

    def _certificate_status(self, case: Case) -> str | None:
        """Judge the client certificate's state and dates."""
        return binding.certificate_status(case, self.settings.renewal_grace)

    def _certificate_profile(self, case: Case) -> str | None:
        """Judge whether the client certificate may enroll here."""
        return binding.certificate_profile(case, self._certificate_profiles)

    def _renewal_profile(self, case: Case) -> str | None:
        """Judge whether the certificate is of this very profile."""
        return binding.certificate_profile(case, frozenset({self.name}))

    def _renewal_window(self, case: Case) -> str | None:
        """Judge whether it is time to renew."""
        return binding.renewal_window(case, self.settings.renewal_window)

    def _name_change(self, case: Case) -> str | None:
        """Judge the names that a renewal wants in place of its own."""
        return binding.name_change(case, self.settings.renewal_changes)

    # --- the key ------------------------------------------------------------

    def _key_generation(self, case: Case) -> str | None:
        """Judge whether the gateway may make the key."""
        if (
            case.wanted.proof.kind != "generated"
            or self.settings.server_key_generation
        ):
            return None
        return "keys are not made for this profile"

    def _key_type(self, case: Case) -> str | None:
        """Judge the key's algorithm and size."""
        key = case.wanted.public_key
        algorithm = key.algorithm
        if algorithm not in self._key_types:
            # What is weak for everybody is refused as such.
            self._check_key(key)
            return f"{algorithm} keys are not allowed"
        if algorithm == "rsa":
            low, high = self.settings.rsa_bits_min, self.settings.rsa_bits_max
            if not low <= key.bits <= high:
                self._check_key(key)
                return f"an RSA key has {low} to {high} bits, not {key.bits}"
        return None

    def _key_strength(self, case: Case) -> str | None:
        """Judge the key's numbers and form."""
        self._check_key(case.wanted.public_key)
        return None

    def _check_key(self, key: PublicKey) -> None:
        """Refuse a key that is weak for everybody, if it is made already."""
        if key.spki:
            check_key(key, self._key_rules)

    def _signature_digest(self, case: Case) -> str | None:
        """Judge the digest of the request's signature."""
        if case.wanted.proof.kind != "signature":
            return None  # whether it may do without one, others decide
        digest = case.wanted.proof.digest
        if digest in self._digests:
            return None
        if digest == "none":
            algorithm = case.wanted.public_key.algorithm
            if algorithm.startswith(_DIGEST_INSIDE):
                return None
        raise UnsupportedAlgorithm(f"the request is signed with {digest}")

    def _key_encryption(self, case: Case) -> str | None:
        """Judge whether a key may decrypt that proves itself by doing so."""
        if case.wanted.proof.kind != "encryption":
            return None
        algorithm = case.wanted.public_key.algorithm
        if self._extensions.encrypts(algorithm):
            return None
        return f"{algorithm} keys are not certified for encryption"

    # --- what is asked ------------------------------------------------------

    def _request_extensions(self, case: Case) -> str | None:
        """Judge what is requested beyond names."""
        algorithm = case.wanted.public_key.algorithm
        why = self._extensions.refusal(case.wanted.extensions, algorithm)
        certificate = case.principal.certificate
        if (
            why is None
            or certificate is None
            or case.request.operation is not Operation.RENEW
        ):
            return why
        # Who renews may copy all that the old certificate says (libest does,
        # and would never get over a change of the profile).
        return self._extensions.refusal(
            without_copies(case.wanted.extensions, certificate), algorithm
        )

    def _subject_attributes(self, case: Case) -> str | None:
        """Judge which attributes the subject has."""
        return self._subject.attributes_refusal(case.wanted.subject)

    def _subject_values(self, case: Case) -> str | None:
        """Judge their values, and make the issued subject."""
        try:
            case.subject = self._subject.issue(case.wanted.subject)
        except ValueError as error:
            return str(error)
        return None

    def _validity(self, case: Case) -> str | None:
        """Fit the validity below the authority's end."""
        settings = self.settings
        start = (case.now - settings.backdate).replace(microsecond=0)
        end = min(start + settings.validity_default, case.ca_not_after)
        end = end.replace(microsecond=0)
        case.not_before, case.not_after = start, end
        # A whole second is lost to rounding.
        if end - case.now < self._least - _SECOND:
            return f"the authority's certificate ends {as_text(end)}"
        return None
