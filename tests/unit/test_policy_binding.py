# SPDX-License-Identifier: MIT
"""What a challenge binds a certificate to, and in which form."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve

from trstctl.errors import PolicyViolation
from trstctl.model import (
    Approved,
    Endpoint,
    EnrollmentRequest,
    GeneralName,
    Name,
    NameAttribute,
    Operation,
    Principal,
)
from trstctl.pkix.names import ATTRIBUTE_OIDS, name_text
from trstctl.policy.binding import canonical_name, subject_text
from trstctl.policy.profile import (
    Profile,
    ProfileSettings,
    SubjectRule,
    builtin_profiles,
)
from trstctl.testing import EPOCH, TENANT, make_request

_ENDPOINT = Endpoint("scep", "", TENANT, "device", "issuing")
_DEVICE = builtin_profiles()["device"]


def _subject(*attributes: tuple[str, str]) -> Name:
    """Return a subject, the most significant attribute first."""
    return tuple(
        (NameAttribute(ATTRIBUTE_OIDS[short], value),)
        for short, value in attributes
    )


_SUBJECT = _subject(("O", "Example, Inc."), ("CN", "router-7"))


def _decide(
    bound: dict[str, Any],
    subject: Name = _SUBJECT,
    names: tuple[str, ...] = (),
    settings: ProfileSettings = _DEVICE,
) -> Approved:
    """Let the profile decide a request of a principal so bound."""
    request = EnrollmentRequest(
        endpoint=_ENDPOINT,
        operation=Operation.ENROLL,
        wanted=evolve(make_request("x", names), subject=subject),
        credentials=(),
        request_id="r",
        peer="192.0.2.1",
    )
    decision = Profile("device", settings).decide(
        request,
        Principal("token", "a", TENANT, **bound),
        EPOCH,
        EPOCH + timedelta(days=3650),
        approved=False,
    )
    assert isinstance(decision, Approved)
    return decision


def _refusal(rule: str, *arguments: Any, **more: Any) -> str:
    """Return why the rule refuses."""
    with pytest.raises(PolicyViolation) as caught:
        _decide(*arguments, **more)
    assert rule == caught.value.rule
    return str(caught.value)


_BY_SUBJECT: Any = {"subject": "CN=router-7,O=Example\\, Inc."}
_BY_NAMES: Any = {"alternative_names": ("dns:B.example", "ip:192.0.2.1")}


class SubjectTests:
    """Rule principal-subject."""

    def test_same(self) -> None:
        """The text of what is issued is the text that it is bound to."""
        decision = _decide(_BY_SUBJECT)
        assert _BY_SUBJECT["subject"] == name_text(decision.subject)
        _decide({})

    def test_string_types_do_not_count(self) -> None:
        """A device may write a PrintableString."""
        tags = tuple((evolve(one, tag=19),) for (one,) in _SUBJECT[1:])
        _decide(_BY_SUBJECT, (*_SUBJECT[:1], *tags))

    @pytest.mark.parametrize(
        "subject",
        [
            _subject(("O", "Example, Inc."), ("CN", "router-8")),
            _subject(("O", "Example, Inc."), ("CN", "Router-7")),
            _subject(("CN", "router-7"), ("O", "Example, Inc.")),
            _subject(("CN", "router-7")),
            (*_SUBJECT, *_subject(("serialNumber", "1"))),
        ],
    )
    def test_other(self, subject: Name) -> None:
        """Attributes, order and letter case count; nothing may be added."""
        told = _refusal("principal-subject", _BY_SUBJECT, subject)
        assert name_text(subject).replace("\\", "\\\\") in told

    def test_empty(self) -> None:
        """No subject is another subject, too."""
        _refusal("principal-subject", _BY_SUBJECT, (), ("dns:a.example",))

    def test_what_the_profile_fixes_belongs_to_it(self) -> None:
        """Compared is what will be issued."""
        settings = evolve(
            _DEVICE,
            subject={
                "O": SubjectRule(allowed=False, fixed="Example, Inc."),
                "CN": SubjectRule(),
            },
        )
        alone = _subject(("CN", "router-7"))
        _decide(_BY_SUBJECT, alone, settings=settings)
        _refusal(
            "principal-subject",
            {"subject": "CN=router-7"},
            alone,
            settings=settings,
        )


class AlternativeNamesTests:
    """Rule principal-alternative-names."""

    def test_same_set(self) -> None:
        """In any order and spelling; both sides in canonical form."""
        _decide(_BY_NAMES, names=("ip:192.0.2.1", "dns:b.EXAMPLE"))
        _decide({}, names=("dns:other.example",))

    @pytest.mark.parametrize(
        ("names", "told"),
        [
            ((), "missing"),
            (("dns:b.example",), "missing"),
            (("dns:b.example", "ip:192.0.2.2"), "ip:192.0.2.2"),
            (("dns:b.example", "ip:192.0.2.1", "dns:c.example"), "dns:c"),
            (("email:a@b.example",), "email:a@b.example"),
        ],
    )
    def test_other_sets(self, names: tuple[str, ...], told: str) -> None:
        """All of them, and no others."""
        rule = "principal-alternative-names"
        assert told in _refusal(rule, _BY_NAMES, names=names)

    def test_none(self) -> None:
        """Bound to no alternative name at all."""
        bound: Any = {"alternative_names": ()}
        _decide(bound)
        rule = "principal-alternative-names"
        _refusal(rule, bound, names=("dns:a.example",))

    def test_what_is_no_name_matches_nothing(self) -> None:
        """A gate that says nonsense lets nobody in."""
        rule = "principal-alternative-names"
        for name in ("", "dns", "dns:a b", "nosuch:a"):
            bound = {"alternative_names": (name,)}
            _refusal(rule, bound, names=("dns:a.example",))
            _refusal(rule, bound)


class DeviceTests:
    """Rule principal-device."""

    @pytest.mark.parametrize(
        "subject",
        [
            _subject(("CN", "FTX1234")),
            _subject(("CN", "ftx1234"), ("O", "x")),
            _subject(("CN", "router-7"), ("serialNumber", "FTX1234")),
        ],
    )
    def test_device(self, subject: Name) -> None:
        """Common name or serialNumber, whatever the letter case."""
        _decide({"device": "FTX1234"}, subject)

    @pytest.mark.parametrize(
        "subject",
        [
            _subject(("CN", "FTX12345")),
            _subject(("CN", "FTX123")),
            _subject(("CN", "router-7"), ("O", "FTX1234")),
            _subject(("CN", "router-7"), ("serialNumber", "x")),
        ],
    )
    def test_another(self, subject: Name) -> None:
        """In whole, and in no other attribute."""
        _refusal("principal-device", {"device": "FTX1234"}, subject)

    def test_no_subject(self) -> None:
        """An alternative name is no device."""
        bound = {"device": "FTX1234"}
        _refusal("principal-device", bound, (), ("dns:ftx1234",))


class FormTests:
    """What people write, as a certificate has it."""

    @pytest.mark.parametrize(
        ("text", "canonical"),
        [
            ("CN=a", "CN=a"),
            ("CN=a, O=b", "CN=a,O=b"),
            ("CN=a\\, b,  O=c", "CN=a\\, b,O=c"),
            ("CN=a\\\\, O=c", "CN=a\\\\,O=c"),
            ("CN=a\\2c b", "CN=a\\, b"),
            ("serialNumber=1,emailAddress=a@b.example", None),
        ],
    )
    def test_subject(self, text: str, canonical: str | None) -> None:
        """RFC 4514, with the short names that the gateway prints."""
        assert (canonical or text) == subject_text(text)
        assert (canonical or text) == subject_text(subject_text(text))

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("router-7", "write it as"),
            ("/CN=router-7", "write it as"),
            ("CN=", "length"),
            ("CN=" + "a" * 65, "length"),
            ("NOSUCH=a", "write it as"),
        ],
    )
    def test_no_subject(self, text: str, told: str) -> None:
        """The text says why."""
        with pytest.raises(ValueError, match=told):
            subject_text(text)

    @pytest.mark.parametrize(
        ("kind", "value", "canonical"),
        [
            ("dns", "A.Example", "a.example"),
            ("dns", "*.A.example", "*.a.example"),
            ("ip", "2001:DB8::1", "2001:db8::1"),
            ("email", "Joe@A.Example", "Joe@a.example"),
        ],
    )
    def test_name(self, kind: str, value: str, canonical: str) -> None:
        """As it is issued."""
        name = canonical_name(GeneralName(kind, value))
        assert GeneralName(kind, canonical) == name

    @pytest.mark.parametrize(
        ("kind", "value"),
        [("", "a"), ("other", "a"), ("ip", "a"), ("dns", "")],
    )
    def test_no_name(self, kind: str, value: str) -> None:
        """What could not be issued is none."""
        with pytest.raises(ValueError, match=r".+"):
            canonical_name(GeneralName(kind, value))
