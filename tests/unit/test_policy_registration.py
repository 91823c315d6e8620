# SPDX-License-Identifier: MIT
"""Registration authorities and factory certificates, rule by rule."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve

from trstctl.errors import ProofOfPossessionFailed
from trstctl.model import (
    CertificateFacts,
    CertificateRecord,
    CertificateStatus,
    Endpoint,
    EnrollmentRequest,
    FactoryTrust,
    Linking,
    NameAttribute,
    Operation,
    Principal,
    RegistrationScope,
)
from trstctl.policy.case import Case
from trstctl.policy.factory import factory_refusal, idevid_names
from trstctl.policy.profile import ProfileSettings, faults
from trstctl.policy.registration import (
    CMC_RA,
    asks_for_itself,
    check_linking,
    scope_of,
    scope_refusal,
    within_scope,
)
from trstctl.testing import EPOCH, TENANT, make_request

WANTED = make_request("ap-1", ("dns:1.ap.example",))
SUBJECT = ((NameAttribute("2.5.4.3", "ra-1"),),)
CERTIFICATE = CertificateFacts(
    der=b"",
    subject=SUBJECT,
    issuer=(),
    serial="ab",
    names=(),
    not_before=EPOCH,
    not_after=EPOCH + timedelta(days=1),
    public_key=WANTED.public_key,
    is_ca=False,
    extended_key_usage=(CMC_RA,),
)
RECORD = CertificateRecord(
    tenant_id=TENANT,
    authority="issuing",
    serial="ab",
    subject="CN=ra-1",
    names=(),
    profile="ra",
    protocol="est",
    principal="basic:a",
    public_key_fingerprint="",
    not_before=EPOCH,
    not_after=EPOCH + timedelta(days=1),
    status=CertificateStatus.VALID,
    issued_at=EPOCH,
)
SCOPE = RegistrationScope("one", "CN=ra-1", "", "", ("cn:ap-*", "dns:*"))
REQUEST = EnrollmentRequest(
    Endpoint("est", "", TENANT, "device", "issuing"),
    Operation.ENROLL,
    WANTED,
    (),
    "id",
    "192.0.2.1",
)


class ScopeTests:
    """Whose certificate is a registration authority's."""

    @pytest.mark.parametrize("subject", ["", "CN=ra-1", "CN=other"])
    @pytest.mark.parametrize("serial", ["", "ab", "cd"])
    @pytest.mark.parametrize("profile", ["", "ra", "device"])
    def test_each_condition(
        self, subject: str, serial: str, profile: str
    ) -> None:
        """All that are given must hold."""
        scope = evolve(
            SCOPE,
            subject=subject,
            serial=serial,
            certificate_profile=profile,
        )
        expected = (
            subject != "CN=other" and serial != "cd" and profile != "device"
        )
        found = scope_of((scope,), CERTIFICATE, RECORD)
        assert (scope if expected else None) == found

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({}, True),
            ({"subject": ((NameAttribute("2.5.4.3", "db-1"),),)}, False),
            ({"subject": ()}, False),
            # What it could not have enrolled, it does not revoke.
            ({"serial": "SN-7"}, False),
            ({"serial": "ap-7"}, True),
            ({"profile": "server"}, False),
            ({"scope": evolve(SCOPE, names=())}, False),
            ({"scope": None}, False),
        ],
    )
    def test_what_it_revokes(
        self, change: dict[str, Any], expected: bool
    ) -> None:
        """What it could have enrolled: every name that says who somebody is,
        and the profile."""
        subject = change.get("subject", ((NameAttribute("2.5.4.3", "ap-1"),),))
        if "serial" in change:
            subject += ((NameAttribute("2.5.4.5", change["serial"]),),)
        scope = change.get("scope", evolve(SCOPE, profiles=("device",)))
        assert expected is within_scope(
            scope,
            evolve(CERTIFICATE, subject=subject),
            change.get("profile", "device"),
        )

    def test_first_that_fits(self) -> None:
        """The order of the configuration decides."""
        other = evolve(SCOPE, name="two")
        wrong = evolve(SCOPE, subject="CN=x")
        assert other is scope_of((wrong, other, SCOPE), CERTIFICATE, RECORD)

    def test_without_the_usage(self) -> None:
        """RFC 7030, section 3.7: it includes id-kp-cmcRA."""
        for usages in ((), ("1.3.6.1.5.5.7.3.2",), ("2.5.29.37.0",)):
            plain = evolve(CERTIFICATE, extended_key_usage=usages)
            assert scope_of((SCOPE,), plain, RECORD) is None

    def test_for_itself(self) -> None:
        """Its own names, all of them, are its own affair."""
        own = make_request("RA-1")
        assert asks_for_itself(own, CERTIFICATE)
        assert not asks_for_itself(WANTED, CERTIFICATE)
        more = make_request("ra-1", ("dns:1.ap.example",))
        assert not asks_for_itself(more, CERTIFICATE)

    def test_names_and_operations(self) -> None:
        """Each name must be within it, and the operation, too."""
        enroll = Operation.ENROLL
        assert scope_refusal(SCOPE, WANTED, enroll) is None
        limited = evolve(SCOPE, operations=(Operation.RENEW,))
        assert scope_refusal(limited, WANTED, enroll) is not None
        assert scope_refusal(limited, WANTED, Operation.RENEW) is None
        outside = make_request("ap-1", ("dns:a", "ip:192.0.2.1"))
        told = scope_refusal(SCOPE, outside, enroll)
        assert told is not None
        assert "ip:192.0.2.1" in told

    def test_no_patterns(self) -> None:
        """Default deny: a scope without patterns is for nobody."""
        empty = evolve(SCOPE, names=())
        assert scope_refusal(empty, WANTED, Operation.ENROLL) is not None

    @pytest.mark.parametrize(
        ("oid", "value", "expected"),
        [
            ("2.5.4.5", "ap-2", True),
            ("2.5.4.5", "x-9", False),
            ("0.9.2342.19200300.100.1.1", "ap-2", True),
            ("0.9.2342.19200300.100.1.1", "x-9", False),
            ("1.2.840.113549.1.9.1", "ap-2@example.com", False),
            ("2.5.4.10", "Example", True),
        ],
    )
    def test_what_it_may_revoke(
        self, oid: str, value: str, expected: bool
    ) -> None:
        """What it may not ask for, it may not revoke: any part of the
        subject that says who somebody is must be within it."""
        subject = (
            (NameAttribute("2.5.4.3", "ap-1"),),
            (NameAttribute(oid, value),),
        )
        device = evolve(CERTIFICATE, subject=subject)
        assert expected == within_scope(SCOPE, device, "device")
        wanted = evolve(WANTED, subject=subject)
        refusal = scope_refusal(SCOPE, wanted, Operation.ENROLL)
        assert expected == (refusal is None)


class LinkingTests:
    """Who must link a request to its session."""

    @pytest.mark.parametrize("linking", Linking)
    @pytest.mark.parametrize("kind", ["basic", "certificate", "idevid", "ra"])
    def test_each(self, linking: Linking, kind: str) -> None:
        """RFC 7030, section 3.7: all but registration authorities."""
        request = evolve(REQUEST, linking=linking)
        principal = Principal(kind, "a", TENANT)
        good = linking in (Linking.UNASKED, Linking.PROVEN)
        if good or kind == "ra":
            check_linking(request, principal)
            return
        with pytest.raises(ProofOfPossessionFailed, match="linking of"):
            check_linking(request, principal)


class FactoryTests:
    """What a factory certificate is worth."""

    TRUST = FactoryTrust((b"",), (("2.5.4.10", "Acme*"),))

    def test_subject(self) -> None:
        """One of several values that matches is enough."""
        for values, good in (
            (("Acme Ltd",), True),
            (("Other", "acme"), True),
            (("Other",), False),
            ((), False),
        ):
            subject = tuple((NameAttribute("2.5.4.10", v),) for v in values)
            idevid = evolve(CERTIFICATE, subject=subject)
            assert good is (factory_refusal(self.TRUST, idevid) is None)

    def test_needs_both(self) -> None:
        """Without trust or certificate there is nothing to judge by."""
        for trust, certificate in (
            (None, CERTIFICATE),
            (self.TRUST, None),
        ):
            endpoint = evolve(REQUEST.endpoint, factory=trust)
            principal = Principal(
                "idevid", "a", TENANT, certificate=certificate
            )
            case = Case(
                evolve(REQUEST, endpoint=endpoint), principal, EPOCH, EPOCH
            )
            assert "there is no factory certificate" == idevid_names(case)

    def test_user_id_of_its_own(self) -> None:
        """What the factory certificate says may be said again."""
        user_id = (NameAttribute("0.9.2342.19200300.100.1.1", "u-1"),)
        subject = (*SUBJECT, user_id)
        endpoint = evolve(REQUEST.endpoint, factory=self.TRUST)
        wanted = evolve(WANTED, subject=subject, names=())
        principal = Principal(
            "idevid",
            "a",
            TENANT,
            certificate=evolve(CERTIFICATE, subject=subject),
        )
        request = evolve(REQUEST, endpoint=endpoint, wanted=wanted)
        assert idevid_names(Case(request, principal, EPOCH, EPOCH)) is None


class SettingsTests:
    """``renewal_changes`` of a profile."""

    @pytest.mark.parametrize(
        ("pattern", "good"),
        [("cn:a-*", True), ("dns:*.example", True), ("a-*", False),
         ("xx:a", False), ("cn:", False), ("cn:re:(", False)],
    )  # fmt: skip
    def test_patterns(self, pattern: str, good: bool) -> None:
        """What is no pattern is named."""
        found = faults(ProfileSettings(renewal_changes=(pattern,)))
        assert good == (not found)
        assert good or "renewal_changes" == found[0][0]
