# SPDX-License-Identifier: MIT
"""Paths, dates and tags of the revocation service."""

from __future__ import annotations

import base64
from datetime import timedelta
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trstctl.errors import Malformed
from trstctl.http.head import Headers
from trstctl.protocols.revocation.codec import (
    cache_fields,
    crl_address,
    decode_get,
    digest_tag,
    http_date,
    is_unchanged,
)
from trstctl.testing import EPOCH

SECOND = timedelta(seconds=1)


class GetTests:
    """A request in a path (RFC 6960, appendix A.1)."""

    @given(st.binary(min_size=1, max_size=200), st.sampled_from(["", "/+="]))
    @settings(deadline=None)
    def test_round_trip(self, data: bytes, safe: str) -> None:
        """With everything escaped, and with nothing."""
        encoded = base64.b64encode(data).decode()
        assert data == decode_get(quote(encoded, safe=safe))

    def test_lines(self) -> None:
        """Some clients break base64 into lines, and escape their ends."""
        encoded = base64.encodebytes(bytes(100)).decode()
        assert bytes(100) == decode_get(quote(encoded))
        assert bytes(3) == decode_get("AAAA%0D%0A%20%09")

    @pytest.mark.parametrize(
        "text", ["A", "AAA", "AA=", "AA_-", "AAAA?", "%FF%00", "a%g"]
    )
    def test_no_base64(self, text: str) -> None:
        """Anything else is malformed."""
        with pytest.raises(Malformed):
            decode_get(text)


class CRLAddressTests:
    """Where a CRL is."""

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            (("issuing.crl",), ("issuing", "")),
            (("issuing", "delta.crl"), ("issuing", "delta")),
            (("issuing", "16", "0.crl"), ("issuing", "16/0")),
            (("issuing", "16", "15.crl"), ("issuing", "16/15")),
        ],
    )
    def test_addresses(
        self, path: tuple[str, ...], expected: tuple[str, str]
    ) -> None:
        """Full, delta and partitions."""
        assert expected == crl_address(path)

    @pytest.mark.parametrize(
        "path",
        [
            (),
            ("issuing",),
            ("issuing.cer",),
            ("issuing", "full.crl"),
            ("issuing", "delta"),
            ("issuing", "1.crl"),
            ("issuing", "0", "0.crl"),
            ("issuing", "016", "1.crl"),
            ("issuing", "16", "01.crl"),
            ("issuing", "16", "-1.crl"),
            ("issuing", "16", ".crl"),
            ("issuing", "16", "1"),
            ("issuing", "9999999", "1.crl"),
            ("issuing", "16", "1", "1.crl"),
        ],
    )
    def test_others(self, path: tuple[str, ...]) -> None:
        """Each CRL has one address, and nothing else has one."""
        assert crl_address(path) is None


class CacheTests:
    """What caches are told, and what they ask."""

    def test_fields(self) -> None:
        """RFC 5019, section 6.2: all of them, by thisUpdate, nextUpdate."""
        found = cache_fields(
            EPOCH,
            '"tag"',
            EPOCH - 5 * SECOND,
            EPOCH + 90.7 * SECOND,
            EPOCH + 100 * SECOND,
        )
        assert {
            "ETag": '"tag"',
            "Last-Modified": "Mon, 01 Jun 2026 11:59:55 GMT",
            "Expires": "Mon, 01 Jun 2026 12:01:40 GMT",
            "Cache-Control": (
                "max-age=90, public, no-transform, must-revalidate"
            ),
        } == found

    def test_nothing_left(self) -> None:
        """RFC 9111, section 1.2.2: seconds are not negative."""
        found = cache_fields(EPOCH, "", EPOCH, EPOCH - SECOND, EPOCH)
        assert found["Cache-Control"].startswith("max-age=0,")

    def test_tag(self) -> None:
        """RFC 9110, section 8.8.3: quoted, strong, of these octets."""
        assert digest_tag(b"a") != digest_tag(b"b")
        assert digest_tag(b"a") == digest_tag(b"a")
        assert 42 == len(digest_tag(b"a"))
        assert digest_tag(b"a")[0] == digest_tag(b"a")[-1] == '"'

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ('"a"', True),
            ('W/"a"', True),
            ('"b", "a"', True),
            ('"b" ,W/"a" ', True),
            ("*", True),
            ('"b"', False),
            ("a", False),
            ('"a', False),
            ("", False),
        ],
    )
    def test_if_none_match(self, value: str, expected: bool) -> None:
        """RFC 9110, section 13.1.2: weak comparison with each."""
        headers = Headers.of([("If-None-Match", value)])
        assert expected is is_unchanged(headers, '"a"', EPOCH)

    def test_several_lines(self) -> None:
        """RFC 9110, section 5.3: a list may be on several lines."""
        pairs = [("If-None-Match", '"b"'), ("If-None-Match", '"a"')]
        assert is_unchanged(Headers.of(pairs), '"a"', None)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("Mon, 01 Jun 2026 12:00:00 GMT", True),
            ("Mon, 01 Jun 2026 12:00:01 GMT", False),
            ("Monday, 01-Jun-26 12:00:00 GMT", True),
            ("Mon, 01 Jun 2026 11:59:59 GMT", False),
            ("Mon Jun  1 12:00:00 2026", False),
            ("yesterday", False),
            ("Mon, 01 Jun 99999999999 12:00:00 GMT", False),
            ("", False),
        ],
    )
    def test_if_modified_since(self, value: str, expected: bool) -> None:
        """
        RFC 9110, section 13.1.3: only the very date that was given before.

        A later one may be from before the signature, with a revocation in
        between.  What is no date is ignored.
        """
        headers = Headers.of([("If-Modified-Since", value)])
        modified = EPOCH.replace(microsecond=700_000)
        assert expected is is_unchanged(headers, '"a"', modified)
        assert not is_unchanged(headers, '"a"', None)

    def test_tag_precedes_date(self) -> None:
        """RFC 9110, section 13.2.2: the date does not count beside a tag."""
        pairs = [
            ("If-None-Match", '"b"'),
            ("If-Modified-Since", http_date(EPOCH)),
        ]
        assert not is_unchanged(Headers.of(pairs), '"a"', EPOCH)

    def test_unconditional(self) -> None:
        """Who asks for nothing in particular gets all."""
        assert not is_unchanged(Headers(), '"a"', EPOCH)
