# SPDX-License-Identifier: MIT
"""
UTCTime and GeneralizedTime as RFC 5280, section 4.1.2.5, has them: in UTC,
with seconds, without fractions.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from trstctl.errors import Malformed

UTC_TIME = 0x17
GENERALIZED_TIME = 0x18

_FIELDS = re.compile(rb"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")
_FRACTION = re.compile(rb"\.\d{1,9}(?=Z\Z)")


def read_generalized_time(
    value: bytes, *, fractions: bool = False
) -> datetime:
    """
    Read the content octets of a GeneralizedTime (section 4.1.2.5.2).

    :param fractions: whether fractions of a second are cut off, rather than
        refused.
    :returns: aware, UTC.
    :raises Malformed: they are none, or of a form that is not allowed.
    """
    if fractions:
        value = _FRACTION.sub(b"", value)
    fields = _FIELDS.fullmatch(value)
    if fields is None:
        raise Malformed("a time is malformed")
    try:
        year, month, day, hour, minute, second = map(int, fields.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise Malformed("a time is malformed") from None


def read_time(tag: int, value: bytes) -> datetime:
    """
    Read a Time: the tag says of which kind.

    :returns: aware, UTC.
    :raises Malformed: it is neither kind, or of a form that is not allowed.
    """
    if tag == UTC_TIME:
        # Section 4.1.2.5.1: 50 and later is the last century.
        return read_generalized_time(
            (b"19" if value >= b"50" else b"20") + value
        )
    if tag != GENERALIZED_TIME:
        raise Malformed("a time is malformed")
    return read_generalized_time(value)


def _fields(when: datetime) -> tuple[int, int, int, int, int, int]:
    """Return an aware time in UTC; what is below a second is cut off."""
    if when.tzinfo is not UTC:
        when = when.astimezone(UTC)
    return (
        when.year,
        when.month,
        when.day,
        when.hour,
        when.minute,
        when.second,
    )


def generalized_time(when: datetime) -> bytes:
    """Return an aware time as GeneralizedTime, to the second."""
    return b"\x18\x0f%04d%02d%02d%02d%02d%02dZ" % _fields(when)


def time(when: datetime) -> bytes:
    """Return a Time: UTCTime through the year 2049 (section 4.1.2.5)."""
    year, *rest = fields = _fields(when)
    if 1950 <= year < 2050:
        return b"\x17\x0d%02d%02d%02d%02d%02d%02dZ" % (year % 100, *rest)
    return b"\x18\x0f%04d%02d%02d%02d%02d%02dZ" % fields
