# SPDX-License-Identifier: MIT
"""Certificate profiles: each rule, and what no rule may let through."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from trstctl.errors import Malformed, PolicyViolation, UnsupportedAlgorithm
from trstctl.interfaces import IProfilePolicy
from trstctl.model import (
    POINTERS,
    SYSTEM_TENANT,
    Approved,
    CertificateFacts,
    CertificateRecord,
    CertificateRequest,
    CertificateStatus,
    Endpoint,
    EnrollmentRequest,
    Extension,
    GeneralName,
    Held,
    Name,
    NameAttribute,
    Operation,
    Principal,
    PublicKey,
    SignatureProof,
)
from trstctl.pkix import der
from trstctl.pkix.extensions import (
    read_basic_constraints,
    read_extended_key_usage,
    read_key_usage,
)
from trstctl.pkix.names import ATTRIBUTE_OIDS, read_general_names
from trstctl.policy.binding import (
    certificate_names,
    certificate_profile,
    renewal_window,
    shown,
)
from trstctl.policy.case import Case
from trstctl.policy.profile import (
    GATEWAY_PROFILE,
    AllowSettings,
    Profile,
    ProfileSettings,
    SubjectRule,
    builtin_profiles,
    faults,
    gateway_profiles,
)
from trstctl.policy.settings import version_of

_fixed = settings(derandomize=True, deadline=None, max_examples=150)

_TENANT = "11111111-1111-1111-1111-111111111111"
_OTHER_TENANT = "22222222-2222-2222-2222-222222222222"
_NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)
_CA_END = datetime(2036, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)

_CURVE_PREFIX = "3059301306072a8648ce3d020106082a8648ce3d03010703420004"
_CURVE_KEY = PublicKey(
    bytes.fromhex(_CURVE_PREFIX) + bytes(64), "p-256", 256, "01" * 32
)
# Sound as far as the policy can see: rough, and of no known bad form.
_MODULUS = (1 << 2047) + 20001
while any(_MODULUS % prime == 0 for prime in range(3, 2000, 2)):
    _MODULUS += 2
_RSA_KEY = PublicKey(bytes(270), "rsa", 2048, "02" * 32, _MODULUS, 65537)
_EDWARDS_KEY = PublicKey(
    bytes.fromhex("302a300506032b6570032100") + bytes(32),
    "ed25519",
    0,
    "03" * 32,
)

_SAN = "2.5.29.17"
_OPEN = ProfileSettings(
    subject={"CN": SubjectRule(), "O": SubjectRule(), "OU": SubjectRule()},
    names=dict.fromkeys(("dns", "ip", "email", "uri", "upn"), ("*",)),
    extended_key_usage=("clientAuth", "1.2.3.4"),
)


def _subject(*attributes: tuple[str, str]) -> Name:
    """Return a name with one attribute an RDN."""
    return tuple(
        (NameAttribute(ATTRIBUTE_OIDS[short], value),)
        for short, value in attributes
    )


def _names(*texts: str) -> tuple[GeneralName, ...]:
    """Return names from their text form."""
    return tuple(GeneralName(*text.split(":", 1)) for text in texts)


def _proof(digest: str = "sha256") -> SignatureProof:
    """Return a proof that nothing checks here."""
    return SignatureProof("ecdsa-with-sha256", digest, b"", b"")


def _csr(**changes: Any) -> CertificateRequest:
    """Return a request that an open profile allows."""
    return evolve(
        CertificateRequest(
            der=b"",
            subject=_subject(("CN", "device-1")),
            public_key=_CURVE_KEY,
            names=_names("dns:device-1.example.com"),
            extensions=(),
            proof=_proof(),
        ),
        **changes,
    )


def _request(
    wanted: CertificateRequest | None = None,
    operation: Operation = Operation.ENROLL,
    **changes: Any,
) -> EnrollmentRequest:
    """Return one call on the registration authority."""
    endpoint = evolve(
        Endpoint("est", "", _TENANT, "test", "issuing"), **changes
    )
    return EnrollmentRequest(
        endpoint, operation, wanted or _csr(), (), "id", "192.0.2.1"
    )


_BASIC = Principal("basic", "device-1", _TENANT)


def _certified(
    subject: Name | None = None,
    names: tuple[GeneralName, ...] | None = None,
    record: dict[str, Any] | None = None,
    **changes: Any,
) -> Principal:
    """Return a principal whom a valid certificate stands for."""
    wanted = _csr()
    certificate = CertificateFacts(
        der=b"",
        subject=wanted.subject if subject is None else subject,
        issuer=_subject(("CN", "CA")),
        serial="0a",
        names=wanted.names if names is None else names,
        not_before=_NOW - 30 * _DAY,
        not_after=_NOW + 60 * _DAY,
        public_key=_CURVE_KEY,
        is_ca=False,
    )
    row = CertificateRecord(
        tenant_id=_TENANT,
        authority="issuing",
        serial="0a",
        subject="",
        names=(),
        profile="test",
        protocol="est",
        principal="basic:device-1",
        public_key_fingerprint="",
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        status=CertificateStatus.VALID,
        issued_at=certificate.not_before,
    )
    return Principal(
        "certificate",
        "0a",
        _TENANT,
        certificate=evolve(certificate, **changes),
        record=evolve(row, **(record or {})),
    )


def _decide(
    policy: ProfileSettings = _OPEN,
    wanted: CertificateRequest | None = None,
    principal: Principal = _BASIC,
    operation: Operation = Operation.ENROLL,
    now: datetime = _NOW,
    ca_not_after: datetime = _CA_END,
    approved: bool = False,
) -> Approved:
    """Decide, and expect an approval."""
    decision = Profile("test", policy).decide(
        _request(wanted, operation), principal, now, ca_not_after, approved
    )
    assert isinstance(decision, Approved)
    return decision


def _refusal(
    rule: str,
    policy: ProfileSettings = _OPEN,
    wanted: CertificateRequest | None = None,
    principal: Principal = _BASIC,
    operation: Operation = Operation.ENROLL,
    now: datetime = _NOW,
    ca_not_after: datetime = _CA_END,
    **changes: Any,
) -> str:
    """
    Expect a refusal by a rule, the same from ``explain``; return its text.
    """
    profile = Profile("test", policy)
    request = _request(wanted, operation, **changes)
    with pytest.raises(PolicyViolation) as caught:
        profile.decide(request, principal, now, ca_not_after, False)
    assert rule == caught.value.rule
    assert {"profile": "test", "rule": rule} == caught.value.facts
    verdicts = profile.explain(request, principal, now, ca_not_after)
    first = next(verdict for verdict in verdicts if not verdict.allowed)
    assert rule == first.rule
    assert first.detail in caught.value.detail
    return first.detail


def _allow(**changes: Any) -> ProfileSettings:
    """Return the open profile with restrictions on who may use it."""
    return evolve(_OPEN, allow=AllowSettings(**changes))


class WhoAsksTests:
    """Rules about tenant, protocol, principal and operation."""

    def test_the_open_profile_allows(self) -> None:
        """Empty lists allow any."""
        verifyObject(IProfilePolicy, Profile("test", _OPEN))
        decision = _decide()

        assert "test" == decision.profile
        assert version_of(_OPEN) == decision.profile_version

    def test_the_credential_is_of_the_endpoints_tenant(self) -> None:
        """R-10: a credential has no effect in another tenant."""
        _refusal("tenant-allowed", tenant_id=_OTHER_TENANT)

    def test_tenants_can_be_listed(self) -> None:
        """Rule tenant-allowed: others may not use the profile."""
        _decide(_allow(tenants=(_TENANT,)))
        _refusal("tenant-allowed", _allow(tenants=(_OTHER_TENANT,)))

    def test_protocols_can_be_listed(self) -> None:
        """Rule protocol-allowed."""
        _decide(_allow(protocols=("scep", "est")))
        _refusal("protocol-allowed", _allow(protocols=("scep",)))

    def test_kinds_of_principals_can_be_listed(self) -> None:
        """Rule principal-allowed, by the profile."""
        _decide(_allow(principals=("basic",)))
        _refusal("principal-allowed", _allow(principals=("token",)))

    def test_a_principal_may_be_bound_to_profiles(self) -> None:
        """Rule principal-allowed, by the credential."""
        _decide(principal=evolve(_BASIC, profiles=("x", "test")))
        _refusal(
            "principal-allowed", principal=evolve(_BASIC, profiles=("x",))
        )

    @pytest.mark.parametrize("usage", ["cmcRA", "cmcCA", "1.3.6.1.5.5.7.3.28"])
    def test_a_registration_authority_makes_no_other(self, usage: str) -> None:
        """Rule principal-allowed; unless its scope names the profile."""
        policy = evolve(_OPEN, extended_key_usage=(usage,))
        authority = evolve(_BASIC, kind="ra")
        _decide(policy)
        _decide(principal=authority)
        _decide(policy, principal=evolve(authority, profiles=("test",)))
        _refusal("principal-allowed", policy, principal=authority)

    def test_operations_can_be_listed(self) -> None:
        """Rule operation-allowed."""
        _decide(_allow(operations=("enroll",)))
        _refusal("operation-allowed", _allow(operations=("renew",)))

    def test_a_renewal_needs_a_certificate(self) -> None:
        """R-9: nobody renews with a password."""
        _refusal("operation-allowed", operation=Operation.RENEW)


class KeyRuleTests:
    """Rules about the key and the signature, before anything else costs."""

    def test_key_types_can_be_listed(self) -> None:
        """Rule key-type."""
        policy = evolve(_OPEN, key_types=("p-256",))

        _decide(policy)
        _refusal("key-type", policy, _csr(public_key=_EDWARDS_KEY))

    def test_rsa_sizes_can_be_narrowed(self) -> None:
        """Rule key-type: outside the profile's range."""
        wanted = _csr(public_key=_RSA_KEY)

        _decide(_OPEN, wanted)
        text = _refusal("key-type", evolve(_OPEN, rsa_bits_min=3072), wanted)
        assert "3072 to 8192" in text

    @pytest.mark.parametrize(
        "key",
        [
            evolve(_CURVE_KEY, algorithm="other:secp256k1"),
            evolve(_RSA_KEY, exponent=3),
            evolve(_RSA_KEY, modulus=_MODULUS * 3),
            evolve(_RSA_KEY, modulus=_MODULUS >> 1024 | 1, bits=1024),
            evolve(_EDWARDS_KEY, algorithm="ed448"),
        ],
    )
    def test_weak_keys_are_no_matter_of_profiles(self, key: PublicKey) -> None:
        """R-7: weak for everybody is UnsupportedAlgorithm, with its rule."""
        profile = Profile("test", _OPEN)
        with pytest.raises(UnsupportedAlgorithm) as caught:
            profile.decide(
                _request(_csr(public_key=key)), _BASIC, _NOW, _CA_END, False
            )

        assert "test" == caught.value.facts["profile"]
        assert caught.value.facts["rule"] in {"key-type", "key-strength"}

    def test_blocked_keys_are_refused(self) -> None:
        """R-7: the CA's own key is passed in, and refused."""
        profile = Profile("test", _OPEN, frozenset({_CURVE_KEY.fingerprint}))

        with pytest.raises(UnsupportedAlgorithm, match="blocked"):
            profile.decide(_request(), _BASIC, _NOW, _CA_END, False)

    @pytest.mark.parametrize("digest", ["sha1", "md5", "none", "sha3-256"])
    def test_weak_digests_are_refused(self, digest: str) -> None:
        """Rule signature-digest: SHA-1 and MD5 prove nothing."""
        with pytest.raises(UnsupportedAlgorithm, match=f"with {digest}"):
            _decide(_OPEN, _csr(proof=_proof(digest)))

    @pytest.mark.parametrize("kind", ["ra-verified", "generated", "none"])
    def test_no_signature_has_no_digest(self, kind: str) -> None:
        """Rule signature-digest: others judge proofs without a signature."""
        proof = SignatureProof("", "", b"", b"", kind=kind)
        policy = evolve(_OPEN, digests=("sha384",), server_key_generation=True)

        _decide(policy, _csr(proof=proof))
        verdicts = Profile("test", policy).explain(
            _request(_csr(proof=proof)), _BASIC, _NOW, _CA_END
        )
        notes = {verdict.rule: verdict.detail for verdict in verdicts}
        assert kind == notes["signature-digest"]

    def test_keys_are_made_where_the_profile_says_so(self) -> None:
        """Rule key-generation: off unless it is turned on."""
        wanted = _csr(proof=SignatureProof("", "", b"", b"", kind="generated"))
        with pytest.raises(PolicyViolation) as caught:
            _decide(_OPEN, wanted)
        assert "key-generation" == caught.value.rule
        _decide(evolve(_OPEN, server_key_generation=True), wanted)

    @pytest.mark.parametrize(
        ("usages", "allowed"),
        [
            (("digitalSignature",), False),
            (("digitalSignature", "keyEncipherment"), False),
            (("digitalSignature", "keyAgreement"), True),
        ],
    )
    def test_what_decrypts_must_be_certified_for_that(
        self, usages: tuple[str, ...], allowed: bool
    ) -> None:
        """Rule key-encryption, for a key that signs nothing (P-256)."""
        wanted = _csr(
            proof=SignatureProof("", "", b"", b"", kind="encryption")
        )
        policy = evolve(_OPEN, key_usage=usages)
        if allowed:
            _decide(policy, wanted)
            return
        with pytest.raises(PolicyViolation) as caught:
            _decide(policy, wanted)
        assert "key-encryption" == caught.value.rule

    def test_digests_can_be_listed(self) -> None:
        """Rule signature-digest."""
        policy = evolve(_OPEN, digests=("sha384",))

        _decide(policy, _csr(proof=_proof("sha384")))
        with pytest.raises(UnsupportedAlgorithm):
            _decide(policy, _csr(proof=_proof("sha256")))

    def test_edwards_curves_bring_their_digest(self) -> None:
        """RFC 8410: Ed25519 has no digest of its own to choose."""
        _decide(_OPEN, _csr(public_key=_EDWARDS_KEY, proof=_proof("none")))


def _bits(*octets: int) -> bytes:
    """Return a BIT STRING with unused bits in front."""
    return der.tlv(der.BIT_STRING, bytes(octets))


def _purposes(*oids: str) -> bytes:
    """Return an ExtKeyUsageSyntax."""
    return der.sequence(*map(der.oid, oids))


_CLIENT, _SERVER = "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1"

_EXTENSIONS = [
    ("basicConstraints, no CA", "2.5.29.19", der.sequence(), True),
    (
        "basicConstraints, no CA, written out",
        "2.5.29.19",
        der.sequence(der.boolean(False)),
        True,
    ),
    ("CA", "2.5.29.19", der.sequence(der.boolean(True)), False),
    ("path length", "2.5.29.19", der.sequence(der.integer(0)), False),
    ("digitalSignature", "2.5.29.15", _bits(7, 0x80), True),
    ("no usage", "2.5.29.15", _bits(0), True),
    ("keyEncipherment with a curve", "2.5.29.15", _bits(5, 0xA0), False),
    ("keyCertSign", "2.5.29.15", _bits(2, 0x84), False),
    ("cRLSign", "2.5.29.15", _bits(1, 0x82), False),
    ("decipherOnly", "2.5.29.15", _bits(7, 0, 0x80), False),
    ("clientAuth", "2.5.29.37", _purposes(_CLIENT), True),
    ("both", "2.5.29.37", _purposes("1.2.3.4", _CLIENT), True),
    ("serverAuth", "2.5.29.37", _purposes(_SERVER), False),
    ("one too many", "2.5.29.37", _purposes(_CLIENT, _SERVER), False),
    ("any purpose", "2.5.29.37", _purposes("2.5.29.37.0"), False),
    ("subjectKeyIdentifier", "2.5.29.14", der.octet_string(b"x"), True),
    ("authorityKeyIdentifier", "2.5.29.35", der.sequence(), True),
    ("cRLDistributionPoints", "2.5.29.31", der.sequence(), True),
    ("authorityInfoAccess", "1.3.6.1.5.5.7.1.1", der.sequence(), True),
    ("comment", "2.16.840.1.113730.1.13", der.tlv(22, b"x"), True),
    (
        "policies",
        "2.5.29.32",
        der.sequence(der.sequence(der.oid("1.2.3"))),
        False,
    ),
    ("nameConstraints", "2.5.29.30", der.sequence(), False),
    ("Microsoft template", "1.3.6.1.4.1.311.20.2", der.tlv(12, b"x"), False),
]

_FORTY_OIDS = [
    *(f"2.5.29.{arc}" for arc in (*range(1, 17), *range(18, 38), 46, 54)),
    "1.3.6.1.5.5.7.1.1",
    "1.3.6.1.5.5.7.1.3",
    "1.3.6.1.5.5.7.1.24",
    "1.3.6.1.5.5.7.48.1.5",
    "2.16.840.1.113730.1.1",
    "2.16.840.1.113730.1.13",
    "1.3.6.1.4.1.11129.2.4.2",
    "1.3.6.1.4.1.99999.1",
]


class RequestExtensionTests:
    """Rule request-extensions: asked for, never copied."""

    @pytest.mark.parametrize(
        ("oid", "value", "allowed"),
        [case[1:] for case in _EXTENSIONS],
        ids=[case[0] for case in _EXTENSIONS],
    )
    def test_a_requested_extension(
        self, oid: str, value: bytes, allowed: bool
    ) -> None:
        """Allowed within the profile, ignored by name, or refused."""
        wanted = _csr(extensions=(Extension(oid, False, value),))

        if allowed:
            assert _decide().extensions == _decide(wanted=wanted).extensions
        else:
            _refusal("request-extensions", wanted=wanted)

    def test_rsa_keys_may_ask_for_key_encipherment(self) -> None:
        """RFC 3279, section 2.3.1: only they can serve it."""
        usage = Extension("2.5.29.15", True, _bits(5, 0xA0))

        _decide(_OPEN, _csr(public_key=_RSA_KEY, extensions=(usage,)))

    @pytest.mark.parametrize("pointers", [(), ("ocsp",), POINTERS])
    def test_pointers_to_the_issuer(self, pointers: tuple[str, ...]) -> None:
        """The authority is told which; whatever the request says."""
        policy = evolve(_OPEN, pointers=pointers)
        assert pointers == _decide(policy).pointers

    def test_the_profiles_own_policies_may_be_asked_for(self) -> None:
        """Who renews with a copy of the certificate gets it."""
        policy = evolve(_OPEN, certificate_policies=("1.2.3",))
        issued = _decide(policy).extensions[-2]
        assert "2.5.29.32" == issued.oid

        _decide(policy, _csr(extensions=(issued,)))

    def test_a_copy_of_the_issued_extensions_is_accepted(self) -> None:
        """A client that copies all that its certificate has can renew."""
        issued = _decide().extensions
        copied = (*issued, Extension("2.5.29.35", False, der.sequence()))

        assert issued == _decide(wanted=_csr(extensions=copied)).extensions

    @pytest.mark.parametrize("oid", ["2.5.29.37", "2.5.29.15", "2.5.29.19"])
    def test_a_malformed_extension_is_malformed(self, oid: str) -> None:
        """An empty list where one must not be is no reason to fail."""
        empty = Extension(oid, False, der.sequence(der.sequence()))
        request = _request(_csr(extensions=(empty,)))
        profile = Profile("test", _OPEN)

        with pytest.raises(Malformed) as caught:
            profile.decide(request, _BASIC, _NOW, _CA_END, False)
        assert "request-extensions" == caught.value.facts["rule"]
        verdicts = profile.explain(request, _BASIC, _NOW, _CA_END)
        assert ["request-extensions"] == [
            verdict.rule for verdict in verdicts if not verdict.allowed
        ]

    @pytest.mark.parametrize("oid", _FORTY_OIDS)
    @pytest.mark.parametrize("critical", [False, True])
    def test_no_extension_is_copied(self, oid: str, critical: bool) -> None:
        """Each of more than 40 types: refused, or as if not requested."""
        assert 40 < len(_FORTY_OIDS)
        for value in (
            der.sequence(),
            der.sequence(der.boolean(True)),
            der.octet_string(b"\xaa" * 20),
        ):
            asked = Extension(oid, critical, value)
            try:
                decision = _decide(wanted=_csr(extensions=(asked,)))
            except (PolicyViolation, Malformed):
                continue
            assert _decide().extensions == decision.extensions

    def test_what_has_no_effect_is_explained(self) -> None:
        """Ignored extensions are named, not dropped in silence."""
        asked = Extension("2.5.29.14", False, der.octet_string(b"x"))
        verdicts = Profile("test", _OPEN).explain(
            _request(_csr(extensions=(asked,))), _BASIC, _NOW, _CA_END
        )

        notes = {verdict.rule: verdict.detail for verdict in verdicts}
        assert "without effect: 2.5.29.14" == notes["request-extensions"]


class SubjectTests:
    """Rules subject-attributes and subject-values."""

    def test_unlisted_attributes_are_refused(self) -> None:
        """What the profile does not name may not be in the subject."""
        text = _refusal(
            "subject-attributes",
            wanted=_csr(subject=_subject(("CN", "a"), ("L", "x"))),
        )
        assert "the subject may not contain L" == text
        unknown = ((NameAttribute("1.2.3.4", "x"),),)
        text = _refusal("subject-attributes", wanted=_csr(subject=unknown))
        assert "1.2.3.4" in text

    def test_attributes_occur_once(self) -> None:
        """Two common names are two identities; two units are usual."""
        twice = _subject(("CN", "a"), ("CN", "b"))
        units = _subject(("OU", "a"), ("OU", "b"), ("CN", "c"))

        _refusal("subject-attributes", wanted=_csr(subject=twice))
        assert units == _decide(wanted=_csr(subject=units)).subject

    def test_attributes_are_counted(self) -> None:
        """R-8: at most 32, before any of them is looked at."""
        many = _subject(*[("OU", "x")] * 33)

        _decide(wanted=_csr(subject=many[1:]))
        text = _refusal("subject-attributes", wanted=_csr(subject=many))
        assert "more than 32" in text

    def test_attributes_can_be_required(self) -> None:
        """A required attribute must be there."""
        policy = evolve(
            _OPEN, subject={**_OPEN.subject, "O": SubjectRule(required=True)}
        )
        wanted = _csr(subject=_subject(("CN", "a"), ("O", "b")))

        _decide(policy, wanted)
        assert "the subject lacks O" == _refusal("subject-attributes", policy)
        assert ("2.5.4.10",) == Profile(
            "t", policy
        ).wishes().subject_attributes

    def test_values_must_match_their_pattern(self) -> None:
        """Patterns are globs or regular expressions."""
        policy = evolve(_OPEN, subject={"CN": SubjectRule(pattern="device-*")})

        _decide(policy)
        _refusal(
            "subject-values", policy, _csr(subject=_subject(("CN", "root")))
        )

    def test_hostile_values_are_refused(self) -> None:
        """R-8: control characters, wrong string types."""
        _refusal(
            "subject-values", wanted=_csr(subject=_subject(("CN", "a\0")))
        )
        teletex = ((NameAttribute("2.5.4.3", "a", 20),),)
        text = _refusal("subject-values", wanted=_csr(subject=teletex))
        assert text.startswith("CN: ")

    def test_values_are_issued_in_canonical_form(self) -> None:
        """An RDN with two attributes keeps both."""
        pair = (
            (
                NameAttribute("2.5.4.3", "a", 19),
                NameAttribute("2.5.4.10", "b", 22),
            ),
        )
        issued = _decide(wanted=_csr(subject=pair)).subject

        expected = (
            (NameAttribute("2.5.4.3", "a"), NameAttribute("2.5.4.10", "b")),
        )
        assert expected == issued

    def test_fixed_values_are_set(self) -> None:
        """A fixed attribute that the request lacks is put in front."""
        policy = evolve(
            _OPEN, subject={**_OPEN.subject, "O": SubjectRule(fixed="Us")}
        )

        assert (
            _subject(("O", "Us"), ("CN", "device-1"))
            == _decide(policy).subject
        )

    def test_fixed_values_replace(self) -> None:
        """A fixed attribute is issued once, where it was requested."""
        policy = evolve(
            _OPEN, subject={**_OPEN.subject, "OU": SubjectRule(fixed="Us")}
        )
        wanted = _csr(subject=_subject(("OU", "A"), ("CN", "a"), ("OU", "B")))

        expected = _subject(("OU", "Us"), ("CN", "a"))
        assert expected == _decide(policy, wanted).subject

    def test_a_fixed_value_may_be_all_that_may_be_requested(self) -> None:
        """Who renews copies it; any other value is refused."""
        policy = evolve(
            _OPEN,
            subject={
                "CN": SubjectRule(),
                "O": SubjectRule(allowed=False, fixed="Us"),
            },
        )
        issued = _decide(policy).subject

        assert issued == _decide(policy, _csr(subject=issued)).subject
        other = _csr(subject=_subject(("O", "Them"), ("CN", "a")))
        _refusal("subject-attributes", policy, other)


class AlternativeNameTests:
    """Rules about subject alternative names, and the common name."""

    @pytest.mark.parametrize("kind", ["dns", "ip", "email", "uri", "upn"])
    def test_types_that_are_not_listed_are_refused(self, kind: str) -> None:
        """Rule names-types: refused, not dropped."""
        values = {
            "dns": "host.example",
            "ip": "192.0.2.1",
            "email": "a@host.example",
            "uri": "urn:a:b",
            "upn": "a@host.example",
        }
        wanted = _csr(names=(GeneralName(kind, values[kind]),))
        _decide(wanted=wanted)

        names = {**_OPEN.names}
        del names[kind]
        _refusal("names-types", evolve(_OPEN, names=names), wanted)

    @pytest.mark.parametrize(
        "kind", ["other", "directory", "rid", "x400", "edi"]
    )
    def test_types_that_nobody_can_allow_are_refused(self, kind: str) -> None:
        """Rule names-types; the later rules still judge the rest."""
        wanted = _csr(names=(GeneralName(kind, "00"),))

        _refusal("names-types", wanted=wanted)

    def test_every_name_is_judged(self) -> None:
        """N distinct names of which only the last is forbidden."""
        policy = evolve(_OPEN, names={"dns": ("*.example.com", "b.example")})
        good = [f"dns:host-{number}.example.com" for number in range(40)]

        _decide(policy, _csr(names=_names(*good, "dns:b.example")))
        for bad, rule in (
            ("dns:evil.example", "names-patterns"),
            ("dns:bad_.example.com", "names-forms"),
            ("ip:192.0.2.1", "names-types"),
        ):
            wanted = _csr(names=_names(*good, bad))
            _refusal(rule, policy, wanted)

    def test_names_are_counted(self) -> None:
        """Rule names-count: n passes, n + 1 does not."""
        many = _names(*(f"dns:h{number}.example" for number in range(101)))

        _decide(wanted=_csr(names=many[1:]))
        _refusal("names-count", wanted=_csr(names=many))

    def test_wildcards_are_opt_in(self) -> None:
        """Rule names-forms."""
        wanted = _csr(names=_names("dns:*.example.com"))

        _decide(evolve(_OPEN, wildcards=True), wanted)
        _refusal("names-forms", wanted=wanted)

    def test_names_are_issued_in_canonical_form_once(self) -> None:
        """Two spellings are one name; the extension has it once."""
        wanted = _csr(
            names=_names("dns:HOST.example", "dns:host.example", "ip:::1")
        )
        decision = _decide(wanted=wanted)

        assert _names("dns:host.example", "ip:::1") == decision.names
        assert decision.names == read_general_names(
            decision.extensions[-1].value
        )

    def test_names_can_be_required(self) -> None:
        """Rule names-required."""
        policy = evolve(_OPEN, names_required=True)

        _decide(policy)
        _refusal("names-required", policy, _csr(names=()))
        assert (_SAN,) == Profile("t", policy).wishes().extensions

    def test_somebody_must_be_named(self) -> None:
        """RFC 5280, section 4.1.2.6: no subject, then a critical SAN."""
        nameless = _csr(subject=())

        extension = _decide(wanted=nameless).extensions[-1]
        assert (_SAN, True) == (extension.oid, extension.critical)
        assert not _decide().extensions[-1].critical
        _refusal("names-required", wanted=_csr(subject=(), names=()))

    def test_without_names_there_is_no_extension(self) -> None:
        """GeneralNames is never empty."""
        issued = _decide(wanted=_csr(names=())).extensions

        assert _SAN not in {extension.oid for extension in issued}

    def test_the_common_name_must_be_one_of_the_names(self) -> None:
        """Rule common-name, in_names: in the spelling of the name."""
        policy = evolve(_OPEN, common_name="in_names")
        names = _names("dns:a.example", "dns:B.example")

        for asked, issued in (
            ("a.example", "a.example"),
            ("B.Example", "b.example"),
        ):
            subject = _subject(("O", "x"), ("CN", asked))
            wanted = _csr(subject=subject, names=names)
            expected = _subject(("O", "x"), ("CN", issued))
            assert expected == _decide(policy, wanted).subject
        _decide(policy, _csr(subject=(), names=names))
        _refusal("common-name", policy)

    def test_the_common_name_can_be_forbidden(self) -> None:
        """Rule common-name, forbidden."""
        policy = evolve(_OPEN, common_name="forbidden")

        _decide(policy, _csr(subject=_subject(("O", "x"))))
        _refusal("common-name", policy)


class PrincipalNamesTests:
    """R-9: a principal that is bound to names gets no others."""

    @pytest.mark.parametrize(
        ("patterns", "allowed"),
        [
            (("cn:device-1", "dns:*.example.com"), True),
            (("cn:*", "dns:*"), True),
            (("cn:device-2", "dns:*.example.com"), False),
            (("cn:device-1", "dns:device-2.example.com"), False),
            (("cn:device-1",), False),
            (("dns:*",), False),
            (("ip:*", "cn:*"), False),
            (("no pattern",), False),
        ],
    )
    def test_common_name_and_names_must_match(
        self, patterns: tuple[str, ...], allowed: bool
    ) -> None:
        """Rule principal-names."""
        principal = evolve(_BASIC, names=patterns)

        if allowed:
            _decide(principal=principal)
        else:
            _refusal("principal-names", principal=principal)

    def test_every_name_must_match(self) -> None:
        """The last one as well."""
        principal = evolve(_BASIC, names=("cn:*", "dns:*.example.com"))
        names = _names("dns:a.example.com", "dns:b.example.com", "dns:evil")

        _refusal(
            "principal-names", wanted=_csr(names=names), principal=principal
        )

    def test_a_bound_principal_must_ask_for_a_name(self) -> None:
        """No name at all would match no pattern at all."""
        principal = evolve(_BASIC, names=("cn:*",))
        wanted = _csr(subject=_subject(("O", "x")), names=())

        _refusal("principal-names", wanted=wanted, principal=principal)

    def test_an_address_in_the_subject_is_a_name(self) -> None:
        """RFC 5280, section 4.1.2.6: emailAddress names a mailbox."""
        policy = builtin_profiles()["device"]
        wanted = _csr(
            subject=_subject(("CN", "a"), ("emailAddress", "ceo@us.example")),
            names=(),
        )
        bound = evolve(_BASIC, names=("cn:*",))
        free = evolve(_BASIC, names=("cn:*", "email:@us.example"))

        _refusal("principal-names", policy, wanted, bound)
        _decide(policy, wanted, free)


_BAD_CERTIFICATES = {
    "unknown": evolve(_certified(), record=None),
    "missing": evolve(_certified(), certificate=None),
    "of another tenant": _certified(record={"tenant_id": _OTHER_TENANT}),
    "revoked": _certified(record={"status": CertificateStatus.REVOKED}),
    "from the future": _certified(not_before=_NOW + timedelta(seconds=1)),
    "expired": _certified(not_after=_NOW - timedelta(seconds=1)),
}


class CertificateTests:
    """R-9: what a client certificate stands for."""

    @pytest.mark.parametrize("operation", Operation)
    @pytest.mark.parametrize("what", _BAD_CERTIFICATES)
    def test_a_bad_certificate_stands_for_nobody(
        self, what: str, operation: Operation
    ) -> None:
        """Rule certificate-status."""
        _refusal(
            "certificate-status",
            principal=_BAD_CERTIFICATES[what],
            operation=operation,
        )

    def test_a_superseded_certificate_still_counts(self) -> None:
        """A client may lose the answer to its renewal."""
        superseded = {"status": CertificateStatus.SUPERSEDED}

        _decide(
            principal=_certified(record=superseded), operation=Operation.RENEW
        )

    def test_an_enrollment_gets_the_certificates_names(self) -> None:
        """Rule certificate-names: all or some of them."""
        both = _names("dns:DEVICE-1.example.com", "dns:b.example")
        principal = _certified(names=both)

        _decide(principal=principal)
        _decide(principal=principal, wanted=_csr(names=()))
        _decide(
            principal=principal,
            wanted=_csr(subject=_subject(("CN", "b.example"))),
        )

    @pytest.mark.parametrize(
        "changes",
        [
            {"names": _names("dns:device-1.example.com", "dns:evil.example")},
            {"names": _names("upn:device-1@example.com")},
            {"subject": _subject(("CN", "device-2"))},
            {"subject": _subject(("CN", "device-1"), ("serialNumber", "7"))},
            {"subject": _subject(("CN", "device-1"), ("UID", "root"))},
        ],
    )
    def test_an_enrollment_gets_no_other_name(
        self, changes: dict[str, Any]
    ) -> None:
        """Rule certificate-names."""
        policy = evolve(
            _OPEN,
            subject=dict.fromkeys(
                ("CN", "serialNumber", "UID"), SubjectRule()
            ),
        )

        _refusal(
            "certificate-names",
            policy,
            _csr(**changes),
            _certified(subject=_subject(("CN", "Device-1"), ("UID", "u"))),
        )

    def test_a_name_of_another_type_is_another_name(self) -> None:
        """Rule certificate-names: a mailbox is no user principal name."""
        principal = _certified(names=_names("email:a@host.example"))

        own = _csr(names=_names("email:a@host.example"))
        _decide(wanted=own, principal=principal)
        _refusal(
            "certificate-names",
            wanted=_csr(names=_names("upn:a@host.example")),
            principal=principal,
        )

    def test_identifying_attributes_of_the_certificate_pass(self) -> None:
        """Rule certificate-names: its own serial number is no other's."""
        policy = builtin_profiles()["device"]
        subject = _subject(("CN", "device-1"), ("serialNumber", "A7"))
        principal = _certified(subject=subject)
        allowed = evolve(
            policy, allow=AllowSettings(certificate_profiles=("test",))
        )

        _decide(allowed, _csr(subject=subject), principal)

    def test_certificates_of_other_profiles_do_not_count(self) -> None:
        """Rule certificate-profile."""
        other = _certified(record={"profile": "factory"})

        _refusal("certificate-profile", principal=other)
        _decide(_allow(certificate_profiles=("factory",)), principal=other)
        _refusal(
            "certificate-profile",
            _allow(certificate_profiles=("factory",)),
            principal=_certified(),
        )

    def test_rules_fail_closed_without_a_certificate(self) -> None:
        """Whatever the order of the rules: no certificate, no names."""
        for operation in Operation:
            case = Case(_request(None, operation), _BASIC, _NOW, _CA_END)
            assert certificate_names(case)
            assert certificate_profile(case, frozenset({"test"}))
            assert renewal_window(case, None)

    def test_long_names_are_cut_in_a_refusal(self) -> None:
        """Text of the peer is bounded and plain in an answer."""
        assert "dns:a" == shown(GeneralName("dns", "a"))
        assert r"dns:\n" == shown(GeneralName("dns", "\n"))
        assert 83 == len(shown(GeneralName("dns", "a" * 300)))


class RenewalTests:
    """RFC 7030, section 4.2.2: the very same names, in time."""

    def test_the_same_names_are_renewed(self) -> None:
        """Order, letter case and string type make no difference."""
        names = _names("dns:A.example", "dns:b.example", "rid:0801")
        same = _names("dns:b.example", "dns:a.example")
        subject = ((NameAttribute("2.5.4.3", "DEVICE-1", 19),),)

        _decide(
            wanted=_csr(subject=subject, names=same),
            principal=_certified(names=names[:2]),
            operation=Operation.RENEW,
        )
        _refusal(
            "renewal-names",
            wanted=_csr(names=same),
            principal=_certified(names=names),
            operation=Operation.RENEW,
        )

    @pytest.mark.parametrize(
        ("rule", "changes"),
        [
            ("renewal-subject", {"subject": _subject(("CN", "device-2"))}),
            ("renewal-subject", {"subject": ()}),
            (
                "renewal-subject",
                {"subject": _subject(("CN", "device-1"), ("O", "x"))},
            ),
            ("renewal-names", {"names": ()}),
            ("renewal-names", {"names": _names("dns:evil.example")}),
            (
                "renewal-names",
                {
                    "names": _names(
                        "dns:device-1.example.com", "dns:evil.example"
                    )
                },
            ),
        ],
    )
    def test_other_names_are_refused(
        self, rule: str, changes: dict[str, Any]
    ) -> None:
        """Subject and alternative names MUST be those of the certificate."""
        _refusal(
            rule,
            wanted=_csr(**changes),
            principal=_certified(),
            operation=Operation.RENEW,
        )

    def test_a_renewal_stays_in_its_profile(self) -> None:
        """Rule renewal-profile: whatever certificate_profiles allows."""
        _refusal(
            "renewal-profile",
            _allow(certificate_profiles=("factory",)),
            principal=_certified(record={"profile": "factory"}),
            operation=Operation.RENEW,
        )

    def test_a_renewal_may_come_too_early(self) -> None:
        """Rule renewal-window: the refusal says when to come back."""
        policy = evolve(_OPEN, renewal_window=30 * _DAY)
        end = datetime(2026, 5, 1, tzinfo=UTC)
        principal = _certified(not_after=end)

        text = _refusal(
            "renewal-window",
            policy,
            principal=principal,
            operation=Operation.RENEW,
            now=end - 30 * _DAY - timedelta(seconds=1),
        )
        assert "2026-04-01T00:00:00Z" in text
        _decide(
            policy,
            principal=principal,
            operation=Operation.RENEW,
            now=end - 30 * _DAY,
        )

    def test_a_grace_is_for_renewals_only(self) -> None:
        """Rule certificate-status: an expired certificate, bounded."""
        policy = evolve(_OPEN, renewal_grace=_DAY)
        principal = _certified()
        assert principal.certificate is not None
        end = principal.certificate.not_after

        _decide(
            policy,
            principal=principal,
            operation=Operation.RENEW,
            now=end + _DAY,
        )
        late = end + _DAY + timedelta(seconds=1)
        for operation, now in (
            (Operation.RENEW, late),
            (Operation.ENROLL, end + timedelta(seconds=1)),
        ):
            _refusal(
                "certificate-status",
                policy,
                principal=principal,
                operation=operation,
                now=now,
            )


class ValidityTests:
    """Rule validity."""

    def test_the_default_counts_from_the_backdated_start(self) -> None:
        """From notBefore to notAfter, in whole seconds."""
        decision = _decide()

        start = datetime(2026, 3, 1, 11, 59, 0, tzinfo=UTC)
        assert start == decision.not_before
        assert start + 90 * _DAY == decision.not_after

    def test_no_certificate_outlives_its_issuer(self) -> None:
        """Capped by the end of the authority's certificate."""
        end = _NOW + 2 * _DAY

        decision = _decide(ca_not_after=end)
        assert end.replace(microsecond=0) == decision.not_after

    def test_too_little_is_refused(self) -> None:
        """An hour before the authority ends, nothing sensible is left."""
        _decide(ca_not_after=_NOW + timedelta(hours=1))
        _refusal("validity", ca_not_after=_NOW + timedelta(minutes=59))
        _refusal("validity", ca_not_after=_NOW - _DAY)

    def test_short_certificates_are_sensible_if_wanted(self) -> None:
        """Ten minutes, if that is what the profile says."""
        policy = evolve(_OPEN, validity_default=timedelta(minutes=10))

        decision = _decide(policy)
        assert (
            timedelta(minutes=10) == decision.not_after - decision.not_before
        )


class DecisionTests:
    """What a decision consists of."""

    def test_extensions_are_the_profiles(self) -> None:
        """basicConstraints, usages, policies, names: in this order."""
        policy = evolve(
            _OPEN,
            key_usage=("digitalSignature", "keyEncipherment", "keyAgreement"),
            certificate_policies=("1.2.3",),
        )
        issued = _decide(policy).extensions

        assert [
            ("2.5.29.19", True),
            ("2.5.29.15", True),
            ("2.5.29.37", False),
            ("2.5.29.32", False),
            (_SAN, False),
        ] == [(extension.oid, extension.critical) for extension in issued]
        assert ("digitalSignature", "keyAgreement") == read_key_usage(
            issued[1].value
        )
        assert (_CLIENT, "1.2.3.4") == read_extended_key_usage(issued[2].value)

    @pytest.mark.parametrize(
        ("key", "encoded"),
        [
            (_RSA_KEY, "030205a0"),
            (_CURVE_KEY, "0303078880"),
            (_EDWARDS_KEY, "03020780"),
        ],
    )
    def test_a_key_gets_the_usages_it_can_serve(
        self, key: PublicKey, encoded: str
    ) -> None:
        """RFC 3279, 8813, 9295; in DER without trailing zero bits."""
        policy = evolve(
            _OPEN,
            key_usage=(
                "digitalSignature",
                "keyEncipherment",
                "keyAgreement",
                "decipherOnly",
            ),
        )

        issued = _decide(policy, _csr(public_key=key)).extensions
        assert bytes.fromhex(encoded) == issued[1].value

    def test_no_extended_usage_no_extension(self) -> None:
        """An empty list is not issued."""
        issued = _decide(evolve(_OPEN, extended_key_usage=())).extensions

        assert "2.5.29.37" not in {extension.oid for extension in issued}

    def test_approval_holds(self) -> None:
        """A person's approval turns the same decision loose."""
        policy = evolve(_OPEN, approval="always", approval_retry_after=7)
        profile = Profile("test", policy)

        held = profile.decide(_request(), _BASIC, _NOW, _CA_END, False)
        assert isinstance(held, Held)
        assert 7 == held.retry_after == profile.retry_after
        assert held.approved == _decide(policy, approved=True)

    def test_refusal_comes_before_approval(self) -> None:
        """Nobody is asked to approve what the profile refuses."""
        policy = evolve(_OPEN, approval="always")

        _refusal("names-forms", policy, _csr(names=_names("dns:_")))

    def test_explain_names_every_rule_once(self) -> None:
        """The names are those that the module documents."""
        import trstctl.policy.profile

        documented = trstctl.policy.profile.__doc__ or ""
        profile = Profile("test", _OPEN)
        for operation in Operation:
            for principal in (_BASIC, _certified()):
                verdicts = profile.explain(
                    _request(None, operation), principal, _NOW, _CA_END
                )
                rules = [verdict.rule for verdict in verdicts]
                assert len(rules) == len(set(rules))
                assert all(f"``{rule}``" in documented for rule in rules)

    def test_explain_says_what_will_be_issued(self) -> None:
        """The notes are for the operator who tests a request."""
        profile = Profile("test", _OPEN)
        for key, kind in (
            (_CURVE_KEY, "p-256 256"),
            (_EDWARDS_KEY, "ed25519"),
        ):
            verdicts = profile.explain(
                _request(_csr(public_key=key, subject=())),
                _BASIC,
                _NOW,
                _CA_END,
            )
            notes = {verdict.rule: verdict.detail for verdict in verdicts}
            assert kind == notes["key-type"]
            assert "sha256" == notes["signature-digest"]
            assert "issued: an empty subject" == notes["subject-values"]
            assert (
                "issued: dns:device-1.example.com" == notes["names-patterns"]
            )
            assert (
                "2026-03-01T11:59:00Z to 2026-05-30T11:59:00Z"
                == (notes["validity"])
            )
            assert "satisfied" == notes["names-count"]

    def test_explain_goes_on_after_a_refusal(self) -> None:
        """Every rule is judged, whatever failed before."""
        wanted = _csr(
            public_key=evolve(_RSA_KEY, exponent=3),
            proof=_proof("sha1"),
            subject=_subject(("L", "x"), ("CN", "\0")),
            names=_names("rid:00", "dns:_"),
            extensions=(Extension("2.5.29.30", True, b""),),
        )
        verdicts = Profile("test", _OPEN).explain(
            _request(wanted), _BASIC, _NOW, _CA_END
        )

        assert [
            "key-strength",
            "signature-digest",
            "request-extensions",
            "subject-attributes",
            "subject-values",
            "names-types",
            "names-forms",
            "names-patterns",
        ] == [verdict.rule for verdict in verdicts if not verdict.allowed]

    def test_wishes_are_the_profiles(self) -> None:
        """What a client should use."""
        wishes = Profile("test", _OPEN).wishes()

        assert _OPEN.key_types == wishes.algorithms
        assert _OPEN.digests == wishes.digests
        assert () == wishes.subject_attributes
        assert () == wishes.extensions


_WORDS = st.sampled_from(
    ["a", "device-1", "Host", "*.example.com", "x.example.com", "_", "", "\0"]
)
_SOME_NAMES = st.lists(
    st.builds(
        GeneralName,
        st.sampled_from(["dns", "ip", "email", "uri", "upn", "rid"]),
        st.one_of(
            _WORDS,
            st.builds("{}.example.com".format, _WORDS),
            st.builds("{}@Example.com".format, _WORDS),
            st.builds("https://a.example/{}".format, _WORDS),
            st.sampled_from(["192.0.2.1", "2001:DB8::1", "10.0.0.1"]),
        ),
    ),
    max_size=5,
).map(tuple)
_SOME_EXTENSIONS = st.lists(
    st.builds(
        Extension,
        st.sampled_from([case[1] for case in _EXTENSIONS]),
        st.booleans(),
        st.sampled_from([case[2] for case in _EXTENSIONS]),
    ),
    max_size=3,
    unique_by=lambda extension: extension.oid,
).map(tuple)
_NARROW = evolve(
    _OPEN,
    names={
        "dns": ("*.example.com",),
        "ip": ("192.0.2.0/24",),
        "email": ("@example.com",),
        "uri": ("https://a.example/*",),
    },
    max_names=3,
)


class InvariantTests:
    """Nothing in an approval is wider than the profile."""

    @given(
        names=_SOME_NAMES,
        extensions=_SOME_EXTENSIONS,
        subject=st.lists(
            st.tuples(st.sampled_from(["CN", "O", "OU", "L"]), _WORDS),
            max_size=4,
        ),
        key=st.sampled_from([_CURVE_KEY, _RSA_KEY, _EDWARDS_KEY]),
        end=st.timedeltas(-_DAY, 400 * _DAY),
    )
    @_fixed
    def test_an_approval_is_within_the_profile(
        self,
        names: tuple[GeneralName, ...],
        extensions: tuple[Extension, ...],
        subject: list[tuple[str, str]],
        key: PublicKey,
        end: timedelta,
    ) -> None:
        """R-4, R-8: whatever is asked for, in any combination."""
        wanted = _csr(
            names=names,
            extensions=extensions,
            subject=_subject(*subject),
            public_key=key,
        )
        try:
            decision = _decide(_NARROW, wanted, ca_not_after=_NOW + end)
        except (PolicyViolation, Malformed):
            return
        issued = {one.oid: one for one in decision.extensions}
        assert {"2.5.29.19", "2.5.29.15", "2.5.29.37"} == set(issued) - {_SAN}
        constraints = issued["2.5.29.19"]
        assert constraints.critical
        assert (False, None) == read_basic_constraints(constraints.value)
        assert set(read_key_usage(issued["2.5.29.15"].value)) <= set(
            _NARROW.key_usage
        )
        assert {name.kind for name in decision.names} <= set(_NARROW.names)
        assert len(decision.names) <= 3
        assert all(
            name.kind != "dns" or name.value.endswith(".example.com")
            for name in decision.names
        )
        assert {
            attribute.oid for rdn in decision.subject for attribute in rdn
        } <= {"2.5.4.3", "2.5.4.10", "2.5.4.11"}
        assert decision.subject or decision.names
        assert decision.not_after <= _NOW + end
        assert (
            decision.not_after - decision.not_before
            <= _NARROW.validity_maximum
        )

    @given(names=_SOME_NAMES)
    @_fixed
    def test_what_is_issued_would_be_issued_again(
        self, names: tuple[GeneralName, ...]
    ) -> None:
        """Canonical output is idempotent: a renewal changes nothing."""
        policy = evolve(_NARROW, common_name="in_names")
        cn = names[0].value if names else "a"
        wanted = _csr(names=names, subject=_subject(("CN", cn)))
        try:
            first = _decide(policy, wanted)
        except PolicyViolation:
            return
        again = _csr(
            names=first.names,
            subject=first.subject,
            extensions=first.extensions,
        )
        assert first == _decide(policy, again)


def _wrong(**changes: Any) -> list[str]:
    """Return the keys that have faults."""
    return [key for key, _ in faults(evolve(_OPEN, **changes))]


class SettingsTests:
    """The settings' faults, versions and built-in profiles."""

    @pytest.mark.parametrize(
        ("changes", "keys"),
        [
            ({}, []),
            ({"key_types": ()}, ["key_types"]),
            ({"key_types": ("p-256", "dsa")}, ["key_types"]),
            ({"rsa_bits_min": 1024}, ["rsa_bits_min"]),
            ({"rsa_bits_max": 9000}, ["rsa_bits_max"]),
            (
                {"rsa_bits_min": 4096, "rsa_bits_max": 2048},
                ["rsa_bits_max"],
            ),
            ({"digests": ("md5",)}, ["digests"]),
            ({"digests": ()}, ["digests"]),
            ({"common_name": "maybe"}, ["common_name"]),
            ({"subject": {"XX": SubjectRule()}}, ["subject.XX"]),
            (
                {"subject": {"O": SubjectRule(required=True, allowed=False)}},
                ["subject.O.required"],
            ),
            (
                {"subject": {"O": SubjectRule(pattern="re:(")}},
                ["subject.O.pattern"],
            ),
            (
                {"subject": {"C": SubjectRule(fixed="XXX")}},
                ["subject.C.fixed"],
            ),
            ({"names": {"rid": ("*",)}}, ["names.rid"]),
            ({"names": {"dns": ()}}, ["names.dns"]),
            ({"names": {"ip": ("*", "300.0.0.0/8")}}, ["names.ip"]),
            (
                {"names": {}, "names_required": True},
                ["names_required"],
            ),
            ({"max_names": 0}, ["max_names"]),
            ({"max_names": 1001}, ["max_names"]),
            (
                {"key_usage": ("digitalSignature", "keyCertSign")},
                ["key_usage"],
            ),
            (
                {"key_usage": ("keyEncipherment",), "key_types": ("p-256",)},
                ["key_usage"],
            ),
            ({"extended_key_usage": ("webAuth",)}, ["extended_key_usage"]),
            ({"extended_key_usage": ("2.5.29.37.0",)}, ["extended_key_usage"]),
            ({"certificate_policies": ("1",)}, ["certificate_policies"]),
            ({"extensions_ignored": ("x.y",)}, ["extensions_ignored"]),
            ({"pointers": ("crl", "ldap")}, ["pointers"]),
            ({"pointers": ("crl", "crl")}, ["pointers"]),
            ({"backdate": -_DAY}, ["backdate"]),
            ({"backdate": 2 * _DAY}, ["backdate"]),
            ({"validity_default": timedelta(0)}, ["validity_default"]),
            ({"validity_default": 400 * _DAY}, ["validity_default"]),
            ({"renewal_window": timedelta(0)}, ["renewal_window"]),
            ({"renewal_grace": -_DAY}, ["renewal_grace"]),
            ({"approval": "sometimes"}, ["approval"]),
            ({"approval_retry_after": 0}, ["approval_retry_after"]),
            (
                {"allow": AllowSettings(principals=("x",))},
                ["allow.principals"],
            ),
            (
                {"allow": AllowSettings(operations=("x",))},
                ["allow.operations"],
            ),
        ],
    )
    def test_faults_name_their_key(
        self, changes: dict[str, Any], keys: list[str]
    ) -> None:
        """The configuration can point at each of them."""
        assert keys == _wrong(**changes)

    def test_a_profile_takes_no_faults(self) -> None:
        """Every fault is in the text."""
        with pytest.raises(ValueError, match=r"digests: .*; max_names: "):
            Profile("test", evolve(_OPEN, digests=(), max_names=0))

    def test_the_version_is_of_the_settings(self) -> None:
        """The same settings have the same version, others another."""
        assert version_of(_OPEN) == version_of(evolve(_OPEN))
        assert 64 == len(version_of(_OPEN))
        changed: list[Callable[[], ProfileSettings]] = [
            lambda: evolve(_OPEN, backdate=timedelta(seconds=61)),
            lambda: evolve(_OPEN, names={}),
            lambda: _allow(protocols=("est",)),
        ]
        assert 4 == len(
            {version_of(_OPEN)} | {version_of(make()) for make in changed}
        )

    def test_the_built_in_profiles_have_no_faults(self) -> None:
        """``device``, ``tls-server`` and ``tls-client`` compile."""
        profiles = builtin_profiles()

        assert ["device", "tls-server", "tls-client"] == list(profiles)
        for name, policy in profiles.items():
            assert name == Profile(name, policy).name
        assert GATEWAY_PROFILE not in profiles

    def test_a_server_needs_names(self) -> None:
        """``tls-server``: DNS names or addresses, the CN among them."""
        policy = builtin_profiles()["tls-server"]
        name = "dns:device-1.example.com"
        cn = _subject(("CN", "device-1.example.com"))

        issued = _decide(policy, _csr(subject=cn, names=_names(name)))
        assert (_SERVER,) == read_extended_key_usage(
            issued.extensions[2].value
        )
        _refusal("names-required", policy, _csr(subject=cn, names=()))
        _refusal("common-name", policy)

    def test_the_gateways_profile_is_the_systems(self) -> None:
        """Nobody enrolls for the gateway's own server certificate."""
        policy = gateway_profiles()[GATEWAY_PROFILE]
        name = "device-1.example.com"
        wanted = _csr(subject=_subject(("CN", name)))

        _refusal("principal-allowed", policy, wanted)
        system = Principal("system", "gateway", SYSTEM_TENANT)
        decision = Profile(GATEWAY_PROFILE, policy).decide(
            _request(wanted, tenant_id=SYSTEM_TENANT),
            system,
            _NOW,
            _CA_END,
            False,
        )
        assert isinstance(decision, Approved)
