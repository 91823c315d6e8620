# SPDX-License-Identifier: MIT
"""The name policy, R-8: forms of names and values, and patterns."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trstctl.model import NameAttribute
from trstctl.pkix.names import (
    ATTRIBUTE_OIDS,
    IA5_STRING,
    PRINTABLE_STRING,
    UTF8_STRING,
)
from trstctl.policy.names import (
    FORMS,
    UPPER_BOUNDS,
    attribute_value,
    dns_name,
    email_address,
    ip_address,
    uri,
    user_principal_name,
)
from trstctl.policy.patterns import (
    compile_expression,
    compile_pattern,
    principal_allows,
    split_pattern,
)

_fixed = settings(derandomize=True, deadline=None, max_examples=200)
_LONGEST = ".".join(["a" * 63] * 3 + ["b" * 61])


def _refused(form: Callable[[str], str], value: str) -> None:
    """Expect a refusal that says something."""
    with pytest.raises(ValueError, match=r"\w"):
        form(value)


class DNSNameTests:
    """dNSName: letters, digits, hyphens."""

    @pytest.mark.parametrize(
        ("value", "issued"),
        [
            ("host.example.com", "host.example.com"),
            ("HOST.Example.COM", "host.example.com"),
            ("printer", "printer"),
            ("3com.example", "3com.example"),
            ("a-b.example", "a-b.example"),
            ("1.2.3.4.example", "1.2.3.4.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            (_LONGEST, _LONGEST),
        ],
    )
    def test_acceptable_names_are_issued_in_lower_case(
        self, value: str, issued: str
    ) -> None:
        """R-8: LDH names, lower-cased."""
        assert 253 == len(_LONGEST)
        assert issued == dns_name(value)

    @pytest.mark.parametrize(
        "value",
        [
            "",
            ".",
            "a..b",
            ".example",
            "example.",
            "-a.com",
            "a-.com",
            "a b.com",
            "a_b.com",
            "a\0.com",
            "a\n.com",
            "a.com\n",
            "a" * 64 + ".com",
            _LONGEST + "b",
            "1.2.3.4",
            "1.2.3",
            "12",
            "a.0x7f",
            "0x7f000001",
            "::1",
            "b\u00fccher.example",
            "\u212aelvin.example",
            "ab--cd.example",
            "xn--.example",
            "xn--a.example",
            "xn--bcher-kva-.example",
            "a.xn--zzzzzzzz99999",
            "xn--example-.com",
            "*",
            "*.com",
            "*.example.com",
            "a*.example.com",
            "a.*.example.com",
        ],
    )
    def test_other_text_is_refused(self, value: str) -> None:
        """R-8: what is not on the allow-list has no canonical form."""
        _refused(dns_name, value)

    @pytest.mark.parametrize(
        ("value", "allowed"),
        [
            ("*.example.com", True),
            ("*.a.example.com", True),
            ("*", False),
            ("*.", False),
            ("*.com", False),
            ("*.*.example.com", False),
            ("a*.example.com", False),
            ("a.*.example.com", False),
            ("*.1.2", False),
        ],
    )
    def test_wildcards_are_whole_leftmost_labels(
        self, value: str, allowed: bool
    ) -> None:
        """R-8: the wildcard is the leftmost label, above two others."""
        if allowed:
            assert value == dns_name(value, wildcards=True)
        else:
            _refused(lambda text: dns_name(text, wildcards=True), value)

    @given(st.text("aB1-.*x_\u00fc\0 ", max_size=30))
    @_fixed
    def test_the_canonical_form_is_a_fixed_point(self, text: str) -> None:
        """R-8: canonical output is LDH and its own canonical form."""
        try:
            issued = dns_name(text, wildcards=True)
        except ValueError:
            return
        assert set(issued) <= set("ab1x-.*")
        assert issued == dns_name(issued, wildcards=True)


class OtherNameTests:
    """Addresses, mailboxes and URIs."""

    @pytest.mark.parametrize(
        ("value", "issued"),
        [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8::0:1", "2001:db8::1"),
            ("::1", "::1"),
        ],
    )
    def test_addresses_are_issued_in_canonical_form(
        self, value: str, issued: str
    ) -> None:
        """R-8: four or sixteen octets."""
        assert issued == ip_address(value)

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "0102030405",
            "01020304",
            "192.0.2.1/32",
            "192.0.2.01",
            "192.0.2",
            "::ffff:192.0.2.1",
            "fe80::1%eth0",
            " 192.0.2.1",
        ],
    )
    def test_other_octets_are_refused(self, value: str) -> None:
        """R-8: other lengths, masks, zones and IPv4-mapped addresses."""
        _refused(ip_address, value)

    @pytest.mark.parametrize("form", [email_address, user_principal_name])
    def test_mailboxes_are_a_plain_local_part_and_a_host(
        self, form: Callable[[str], str]
    ) -> None:
        """R-8: the host is lower-cased, the local part kept."""
        assert "Joe.Doe+x@host.example" == form("Joe.Doe+x@HOST.Example")
        assert "HOST$@example.com" == form("HOST$@EXAMPLE.COM")
        for value in (
            "",
            "joe",
            "@host.example",
            "joe@",
            ".joe@host.example",
            "joe.@host.example",
            "j..d@host.example",
            '"joe"@host.example',
            "joe doe@host.example",
            "j\u00f6e@host.example",
            "joe\r\n@host.example",
            "a@b@host.example",
            "joe@[192.0.2.1]",
            "joe@192.0.2.1",
            "joe@*.example.com",
            "j" * 65 + "@host.example",
            "joe@" + "a." * 125 + "example",
            "joe@host.example\0",
        ):
            _refused(form, value)

    @pytest.mark.parametrize(
        ("value", "issued"),
        [
            ("HTTPS://Host.Example/Path?Q#F", "https://host.example/Path?Q#F"),
            ("https://host.example", "https://host.example"),
            ("https://host.example?q=/../", "https://host.example?q=/../"),
            ("https://[2001:DB8::1]:8443/", "https://[2001:db8::1]:8443/"),
            ("urn:dev:os:32473-1", "urn:dev:os:32473-1"),
            ("spiffe://td.example/ns/a", "spiffe://td.example/ns/a"),
            ("sip:joe@host.example", "sip:joe@host.example"),
        ],
    )
    def test_uris_are_issued_with_lower_case_authority(
        self, value: str, issued: str
    ) -> None:
        """R-8: scheme and host are canonical, the rest is kept."""
        assert issued == uri(value)

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "host.example",
            "https:",
            "https://",
            "https:///path",
            "https://joe@host.example/",
            "https://a:b@host.example/",
            "https://host.example\\@evil.example/",
            "https://host.example/\r\nX: y",
            "https://host.example/a b",
            "https://host.example/\u00e9",
            "https://host.example/%zz",
            "https://host.example/<script>",
            "https://host.example/a/../b",
            "https://host.example/a/..",
            "https://host.example/%2E%2e/b",
            "https://host.example/a/..%2Fb",
            "https://host.example/a%2f../b",
            "https://host.example/a/%2e%2e%5cb",
            "https://host.example/a/..;x/b",
            "https://host.example/./b",
            "urn:a/../b",
            "https://host.example:123456/",
            "https://host.example/" + "a" * 1010,
            "1http://host.example/",
        ],
    )
    def test_other_uris_are_refused(self, value: str) -> None:
        """R-8: nothing that two readers could read differently."""
        _refused(uri, value)

    @given(kind=st.sampled_from(sorted(FORMS)), text=st.text(max_size=40))
    @_fixed
    def test_whatever_is_issued_is_printable_ascii(
        self, kind: str, text: str
    ) -> None:
        """R-8: the canonical form is ASCII, and its own canonical form."""
        for value in (text, f"{text}@host.example", f"urn:{text}"):
            try:
                issued = FORMS[kind](value)
            except ValueError:
                continue
            assert issued.isascii()
            assert issued.isprintable()
            assert " " not in issued
            assert issued == FORMS[kind](issued)


def _attribute(
    short: str, value: str, tag: int = UTF8_STRING
) -> NameAttribute:
    """Return an attribute of a distinguished name."""
    return NameAttribute(ATTRIBUTE_OIDS[short], value, tag)


class AttributeValueTests:
    """Values of a distinguished name."""

    @pytest.mark.parametrize(
        ("short", "tag", "value", "issued_tag", "issued"),
        [
            ("CN", 12, "device 1", 12, "device 1"),
            ("CN", 19, "device 1", 12, "device 1"),
            ("CN", 22, "device_1", 12, "device_1"),
            ("O", 12, "B\u00fccher", 12, "B\u00fccher"),
            ("C", 19, "de", 19, "DE"),
            ("C", 12, "DE", 19, "DE"),
            ("serialNumber", 12, "PID:A SN:1", 19, "PID:A SN:1"),
            ("emailAddress", 22, "Joe@HOST.example", 22, "Joe@host.example"),
            ("DC", 22, "Example", 22, "example"),
            ("DC", 12, "42", 22, "42"),
        ],
    )
    def test_values_are_issued_in_their_type(
        self, short: str, tag: int, value: str, issued_tag: int, issued: str
    ) -> None:
        """RFC 5280, appendix A.1: each attribute has its string type."""
        made = attribute_value(_attribute(short, value, tag))

        assert _attribute(short, issued, issued_tag) == made
        assert made == attribute_value(made)

    @pytest.mark.parametrize(
        "value",
        [
            "",
            " a",
            "a ",
            "a\0b",
            "a\r\nb",
            "a\x7f",
            "a\x85b",
            "\u202egpj.exe",
            "a\u200bb",
            "a\u00adb",
            "a\ue000",
            "a\u0378",
            "a\ud800",
            "a\u2028b",
            "a\u00a0b",
            "a\ufeff",
            "u\u0308",
            "\u212b",
            "\u00fc" * 513,
        ],
    )
    def test_hostile_text_is_refused(self, value: str) -> None:
        """R-8: no Cc, Cf, Cs, Co, Cn, no strange spaces, NFC only."""
        for short in ("givenName", "O", "serialNumber"):
            with pytest.raises(ValueError, match="the value"):
                attribute_value(_attribute(short, value))

    @pytest.mark.parametrize("tag", [18, 20, 26, 28, 30])
    def test_other_string_types_are_refused(self, tag: int) -> None:
        """R-8: UTF8String, PrintableString and IA5String only."""
        with pytest.raises(ValueError, match="none of UTF8String"):
            attribute_value(_attribute("CN", "device", tag))

    @pytest.mark.parametrize(
        ("short", "tag", "value"),
        [
            ("CN", PRINTABLE_STRING, "device_1"),
            ("CN", PRINTABLE_STRING, "joe@host"),
            ("CN", IA5_STRING, "B\u00fccher"),
            ("C", UTF8_STRING, "D"),
            ("C", UTF8_STRING, "DEU"),
            ("C", UTF8_STRING, "D1"),
            ("C", UTF8_STRING, "\u00c4\u00d6"),
            ("serialNumber", UTF8_STRING, "a_b"),
            ("emailAddress", IA5_STRING, "joe"),
            ("DC", IA5_STRING, "a.b"),
            ("DC", IA5_STRING, "-a"),
        ],
    )
    def test_text_outside_its_type_is_refused(
        self, short: str, tag: int, value: str
    ) -> None:
        """X.680, section 41.4, and RFC 5280, appendix A.1."""
        with pytest.raises(ValueError, match=r"\w"):
            attribute_value(_attribute(short, value, tag))

    @pytest.mark.parametrize(
        "oid", sorted(set(UPPER_BOUNDS) - {ATTRIBUTE_OIDS["emailAddress"]})
    )
    def test_upper_bounds_hold(self, oid: str) -> None:
        """RFC 5280, appendix A.1: the bound passes, one more does not."""
        limit = UPPER_BOUNDS[oid]
        value = "a" * limit
        assert value == attribute_value(NameAttribute(oid, value)).value

        with pytest.raises(ValueError, match=f"longer than {limit}"):
            attribute_value(NameAttribute(oid, value + "a"))

    def test_unbounded_attributes_have_1024_octets(self) -> None:
        """R-8: at most 1 KiB."""
        attribute_value(_attribute("name", "a" * 1024))

        with pytest.raises(ValueError, match="longer than 1024"):
            attribute_value(_attribute("name", "a" * 1025))

    @given(st.text(max_size=70), st.sampled_from(list(ATTRIBUTE_OIDS)))
    @_fixed
    def test_what_is_issued_is_clean(self, text: str, short: str) -> None:
        """R-8: the allowed set is closed, and canonical forms are fixed."""
        try:
            made = attribute_value(_attribute(short, text))
        except ValueError:
            return
        categories = {unicodedata.category(letter) for letter in made.value}
        assert not categories & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        assert made.value == unicodedata.normalize("NFC", made.value)
        assert made == attribute_value(made)


class PatternTests:
    """The pattern language of profiles and principals."""

    @pytest.mark.parametrize(
        ("kind", "pattern", "value", "matches"),
        [
            ("dns", "*", "any.example", True),
            ("dns", "Host.example", "host.example", True),
            ("dns", "host.example", "HOST.example", True),
            ("dns", "host.example", "xhost.example", False),
            ("dns", "*.example.com", "a.example.com", True),
            ("dns", "*.example.com", "a.b.example.com", True),
            ("dns", "*.example.com", "*.example.com", True),
            ("dns", "*.example.com", "example.com", False),
            ("dns", "*.example.com", "evilexample.com", False),
            ("dns", "*.example.com", "example.com.evil", False),
            ("dns", "*.com", "a.com", True),
            ("ip", "*", "192.0.2.1", True),
            ("ip", "192.0.2.0/24", "192.0.2.255", True),
            ("ip", "192.0.2.0/24", "192.0.3.0", False),
            ("ip", "192.0.2.1", "192.0.2.1", True),
            ("ip", "192.0.2.1", "192.0.2.2", False),
            ("ip", "2001:db8::/32", "2001:db8:1::1", True),
            ("ip", "2001:db8::/32", "192.0.2.1", False),
            ("ip", "192.0.2.0/24", "no address", False),
            ("email", "*", "joe@host.example", True),
            ("email", "Joe@Host.example", "Joe@host.example", True),
            ("email", "Joe@host.example", "joe@host.example", False),
            ("email", "joe@host.example", "joe@other.example", False),
            ("email", "@host.example", "joe@host.example", True),
            ("email", "@host.example", "joe@a.host.example", False),
            ("email", "@host.example", "joe@evilhost.example", False),
            ("email", "@*.example.com", "joe@a.b.example.com", True),
            ("email", "@*.example.com", "joe@example.com", False),
            ("upn", "@EXAMPLE.com", "HOST$@example.com", True),
            ("upn", "joe@example.com", "jim@example.com", False),
            ("uri", "*", "urn:a:b", True),
            ("uri", "urn:a:b", "urn:a:b", True),
            ("uri", "urn:a:b", "urn:a:bc", False),
            ("uri", "urn:a:*", "urn:a:b", True),
            ("uri", "urn:a:*", "urn:ab", False),
            ("uri", "https:*", "https://any.example/", True),
            ("uri", "HTTPS://*", "https://any.example/", True),
            ("uri", "https://*", "http://any.example/", False),
            ("uri", "https://Good.example/*", "https://good.example/a", True),
            (
                "uri",
                "https://good.example/*",
                "https://good.example.evil/",
                False,
            ),
            ("uri", "https://good.example/*", "https://good.example", False),
            ("uri", "https://h.example/a/*", "https://h.example/ab", False),
            ("uri", "https://h.example/a:*", "https://h.example/a:b", True),
            ("cn", "*", "any thing", True),
            ("cn", "device-1", "Device-1", True),
            ("cn", "device-1", "device-12", False),
            ("cn", "device-*", "DEVICE-12", True),
            ("cn", "device-*", "xdevice-12", False),
            ("cn", "*-device", "my-device", True),
            ("cn", "a*b*c*d", "a-b-c-d", True),
            ("cn", "a*b*c*d", "a-c-b-d", False),
            ("cn", "a*b*c*d", "abcd", True),
            ("cn", "ab*ba", "aba", False),
            ("cn", "ab*b*ba", "abba", False),
            ("cn", "alias", "alia\u017f", False),
            ("cn", "a.c", "abc", False),
            ("cn", "re:[0-9A-F]{12}", "0123456789AB", True),
            ("cn", "re:[0-9A-F]{12}", "0123456789ab", False),
            ("cn", "re:[0-9A-F]{12}", "x0123456789AB", False),
            ("cn", "re:[0-9A-F]{12}", "0123456789AB\n", False),
            ("cn", r"re:(?:ap|sw)-\d{1,4}\.site[12]?", "ap-12.site2", True),
            ("cn", "re:(ab)+", "abab", True),
            ("cn", "re:a*b*c*d*e?f?", "abcdef", True),
            ("cn", "re:a+", "a" * 64, True),
            ("cn", "re:a+", "a" * 65, False),
        ],
    )
    def test_a_pattern_matches(
        self, kind: str, pattern: str, value: str, matches: bool
    ) -> None:
        """R-8: each kind of pattern means what its table says."""
        assert matches is compile_pattern(kind, pattern)(value)

    @pytest.mark.parametrize(
        ("kind", "pattern"),
        [
            ("directory", "*"),
            ("dns", ""),
            ("dns", "a*.example"),
            ("dns", "*.*.example"),
            ("dns", "host.*"),
            ("dns", "re:.*"),
            ("dns", "192.0.2.1"),
            ("ip", "192.0.2.1/24"),
            ("ip", "192.0.2.*"),
            ("ip", "host.example"),
            ("email", "host.example"),
            ("email", "*@host.example"),
            ("email", "@"),
            ("uri", "https://good.example*"),
            ("uri", "https://good.example:*"),
            ("uri", "https://good.example/a*"),
            ("uri", "https://good.example/?*"),
            ("uri", "https://u@good.example/*"),
            ("uri", "https://*.example/*"),
            ("uri", "good.example/*"),
            ("uri", "/*"),
            ("cn", "re:("),
            ("cn", "re:" + "a" * 201),
            ("cn", "re:a{99999999999999999999}"),
            ("cn", "re:(a+)+"),
            ("cn", "re:(a|a)*"),
            ("cn", "re:((a|b)c){2}"),
            ("cn", "re:(?:a?){30}"),
            ("cn", "re:([)]a*)+"),
            ("cn", r"re:(\)a*)+"),
            ("cn", "re:" + "a?" * 17),
            ("cn", "re:a*b*c*d*e*"),
            ("cn", "re:" + "a?" * 16 + "a*" * 4 + "b"),
            ("cn", "re:a*b*c*d*e?f?g?"),
            ("cn", "re:"),
            ("cn", r"re:(a)\1"),
            ("cn", "re:(?i)a"),
            ("cn", "re:(?=a)a"),
            ("cn", "re:(?P<x>a)"),
        ],
    )
    def test_a_wrong_pattern_is_refused(self, kind: str, pattern: str) -> None:
        """The operator is told; a pattern is never guessed."""
        with pytest.raises(ValueError, match=r"\w"):
            compile_pattern(kind, pattern)

    def test_brackets_and_escapes_are_no_groups(self) -> None:
        """A parenthesis in a set or behind a backslash opens nothing."""
        for text in ("[(+]*", r"\(a+", "[^]()]+", "x{2}", "x{1,2}", "a{"):
            assert text == compile_expression(text).pattern


class PrincipalPatternTests:
    """R-9: what a principal is bound to."""

    def test_a_pattern_says_its_kind(self) -> None:
        """Patterns of principals are written with their kind."""
        assert ("dns", "*.example") == split_pattern("dns:*.example")
        assert ("uri", "urn:a:*") == split_pattern("uri:urn:a:*")
        for pattern in ("host.example", "rid:*", "ip:host", ""):
            with pytest.raises(ValueError, match=r"\w"):
                split_pattern(pattern)

    def test_any_pattern_of_the_kind_allows(self) -> None:
        """One match is enough; other kinds do not count."""
        patterns = ("cn:device-*", "dns:a.example", "dns:*.b.example")

        assert principal_allows(patterns, "dns", "x.b.example")
        assert principal_allows(patterns, "cn", "device-7")
        assert not principal_allows(patterns, "dns", "device-7")
        assert not principal_allows(patterns, "ip", "192.0.2.1")

    def test_no_patterns_bind_to_nothing(self) -> None:
        """A principal without patterns is not restricted."""
        assert principal_allows((), "dns", "any.example")

    def test_a_malformed_pattern_is_no_permission(self) -> None:
        """Fail closed."""
        with pytest.raises(ValueError, match="kind"):
            principal_allows(("*",), "dns", "any.example")
