# SPDX-License-Identifier: MIT
"""Nobody hands out more names than he has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trstctl.policy.coverage import covers, takes_time
from trstctl.policy.patterns import principal_allows


class CoverageTests:
    """Which patterns are within which."""

    @pytest.mark.parametrize(
        ("limit", "pattern"),
        [
            ("dns:*.a.example", "dns:*.a.example"),
            ("dns:*.a.example", "dns:h.a.example"),
            ("dns:*.a.example", "dns:H.A.EXAMPLE"),
            ("dns:*", "dns:*.a.example"),
            ("ip:192.0.2.0/24", "ip:192.0.2.7"),
            ("ip:192.0.2.0/24", "ip:192.0.2.7/32"),
            ("ip:*", "ip:192.0.2.0/24"),
            ("email:@a.example", "email:joe@A.example"),
            ("upn:@*.example", "upn:joe@a.example"),
            ("uri:urn:dev:*", "uri:urn:dev:os:1"),
            ("uri:https://h.example/a/*", "uri:HTTPS://H.example/a/b"),
            ("cn:router-*", "cn:Router-7"),
            ("cn:re:[0-9]+", "cn:0815"),
            ("cn:re:[0-9A-F]{12}", "cn:re:0011223344AA"),
            ("cn:00*", "cn:re:0011223344AA"),
            ("cn:re:a.*", "cn:re:a.*"),
            ("cn:*", "cn:re:a.*"),
        ],
    )
    def test_within(self, limit: str, pattern: str) -> None:
        """The same, any of the kind, or a single name that matches."""
        assert covers((limit,), pattern)
        assert covers(("dns:other.example", limit), pattern)

    @pytest.mark.parametrize(
        ("limit", "pattern"),
        [
            ("dns:*.a.example", "dns:a.example"),
            ("dns:*.a.example", "dns:b.example"),
            ("dns:*.a.example", "dns:*.example"),
            ("dns:*.a.example", "dns:*"),
            ("dns:*.a.example", "dns:*.b.a.example"),
            ("dns:*", "cn:a"),
            ("dns:a.example", "cn:a.example"),
            ("ip:192.0.2.0/24", "ip:192.0.3.1"),
            ("ip:192.0.2.0/24", "ip:192.0.2.0/25"),
            ("ip:192.0.2.7", "ip:192.0.2.0/24"),
            ("email:@a.example", "email:@b.example"),
            ("email:joe@a.example", "email:@a.example"),
            ("email:@a.example", "upn:joe@a.example"),
            ("uri:urn:dev:*", "uri:urn:*"),
            ("uri:urn:dev:*", "uri:urn:other:1"),
            ("cn:router-*", "cn:router-1*"),
            ("cn:router-*", "cn:re:router-.*"),
            ("cn:router-*", "cn:switch-1"),
            # It would match the text in lower case, too.
            ("cn:re:[0-9A-F]{12}", "cn:0011223344AA"),
            ("cn:re:[0-9A-F]{12}", "cn:re:0011223344aa"),
            ("cn:re:a.c", "cn:re:abc?"),
        ],
    )
    def test_beyond(self, limit: str, pattern: str) -> None:
        """What is wider, or may be, is not covered."""
        assert not covers((limit,), pattern)

    def test_case_of_a_common_name(self) -> None:
        """A glob has any case, as a name has; an expression has one."""
        assert covers(("cn:re:[A-Z]+", "cn:a*"), "cn:ABC")
        assert not covers(("cn:re:[A-Z]+", "cn:b*"), "cn:ABC")
        assert not covers(("cn:re:.",), "cn:\u212a")

    def test_no_limits(self) -> None:
        """Who is limited in nothing may hand out anything."""
        assert covers((), "dns:*")

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("cn:re:a.*", True),
            ("cn:re:[ab]", True),
            ("cn:re:0011AABB", False),
            ("cn:a*b*c*", False),
            ("dns:*", False),
            ("uri:re:*", False),
        ],
    )
    def test_takes_time(self, pattern: str, expected: bool) -> None:
        """Only an expression that leaves a choice."""
        assert expected == takes_time(pattern)

    @pytest.mark.parametrize("pattern", ["a", "nosuch:a", "dns:", "cn:re:("])
    def test_malformed(self, pattern: str) -> None:
        """What is no pattern is not covered by anything."""
        for limits in ((), ("cn:*",), (pattern,)):
            with pytest.raises(ValueError, match=r"\w"):
                covers(limits, pattern)

    @given(
        st.lists(st.from_regex(r"\A(re:)?[aAkK0*]{1,4}\Z"), min_size=1),
        st.from_regex(r"\A(re:)?[aAkK0*]{1,4}\Z"),
        st.text("aAkK0\u212a", max_size=5),
    )
    @settings(derandomize=True, deadline=None, max_examples=500)
    def test_nothing_wider(
        self, limits: list[str], pattern: str, name: str
    ) -> None:
        """Each name that a covered pattern allows, its limits allow."""
        bounds = tuple(f"cn:{one}" for one in limits)
        try:
            if covers(bounds, f"cn:{pattern}") and principal_allows(
                (f"cn:{pattern}",), "cn", name
            ):
                assert principal_allows(bounds, "cn", name)
        except ValueError:
            pass
