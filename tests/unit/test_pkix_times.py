# SPDX-License-Identifier: MIT
"""UTCTime and GeneralizedTime (RFC 5280, section 4.1.2.5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trstctl.errors import Malformed
from trstctl.pkix import der
from trstctl.pkix.times import (
    GENERALIZED_TIME,
    UTC_TIME,
    generalized_time,
    read_generalized_time,
    read_time,
    time,
)


class TimesTests:
    """Reading and writing."""

    @pytest.mark.parametrize(
        ("when", "expected"),
        [
            (datetime(1949, 12, 31, tzinfo=UTC), b"\x18\x0f19491231000000Z"),
            (datetime(1950, 1, 1, tzinfo=UTC), b"\x17\x0d500101000000Z"),
            (datetime(2026, 7, 6, 5, 4, 3, 9, UTC), b"\x17\x0d260706050403Z"),
            (datetime(2050, 1, 1, tzinfo=UTC), b"\x18\x0f20500101000000Z"),
        ],
    )
    def test_choice(self, when: datetime, expected: bytes) -> None:
        """UTCTime through the year 2049, GeneralizedTime from then on."""
        assert expected == time(when)
        assert when.replace(microsecond=0) == read_time(
            expected[0], expected[2:]
        )

    def test_zones(self) -> None:
        """Times are written in UTC."""
        east = timezone(timedelta(hours=2))
        when = datetime(2026, 1, 1, 1, tzinfo=east)
        assert b"\x18\x0f20251231230000Z" == generalized_time(when)

    @pytest.mark.parametrize("fraction", [b".5", b".123", b".000000001"])
    def test_fractions(self, fraction: bytes) -> None:
        """Where they do not matter, they are cut off; else refused."""
        text = b"20260706050403" + fraction + b"Z"
        expected = datetime(2026, 7, 6, 5, 4, 3, tzinfo=UTC)
        assert expected == read_generalized_time(text, fractions=True)
        with pytest.raises(Malformed):
            read_generalized_time(text)

    @pytest.mark.parametrize(
        "text",
        [
            b"20260706050403.Z",
            b"20260706050403,5Z",
            b"20260706050403.5",
            b"20260706050403.5Z\n",
            b"20260706050403.5.5Z",
            b"20260706050403.1234567890Z",
            b"202607060504.5Z",
        ],
    )
    def test_malformed_fractions(self, text: bytes) -> None:
        """What is no fraction of a second in DER."""
        with pytest.raises(Malformed):
            read_generalized_time(text, fractions=True)

    @given(st.datetimes(timezones=st.just(UTC)))
    def test_round_trip(self, when: datetime) -> None:
        """Every time is read as it was written."""
        written = generalized_time(when)
        assert when.replace(microsecond=0) == read_generalized_time(
            der.content(written, GENERALIZED_TIME)
        )

    @pytest.mark.parametrize(
        ("tag", "text"),
        [
            (UTC_TIME, b"2601010000Z"),
            (UTC_TIME, b"260101000000"),
            (UTC_TIME, b"20260101000000Z"),
            (UTC_TIME, b""),
            (GENERALIZED_TIME, b"260101000000Z"),
            (GENERALIZED_TIME, b"20260101000000.0Z"),
            (GENERALIZED_TIME, b"20260101000000+0000"),
            (GENERALIZED_TIME, b"20260101000060Z"),
            (GENERALIZED_TIME, b"20260230000000Z"),
            (GENERALIZED_TIME, b"00000101000000Z"),
            (GENERALIZED_TIME, b"2026 101000000Z"),
            (GENERALIZED_TIME, b"20260101000000Z\n"),
            (0x0C, b"20260101000000Z"),
        ],
    )
    def test_malformed(self, tag: int, text: bytes) -> None:
        """Only the one form of each is read."""
        with pytest.raises(Malformed):
            read_time(tag, text)
