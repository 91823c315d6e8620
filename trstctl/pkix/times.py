# SPDX-License-Identifier: MIT
"""
UTCTime and GeneralizedTime as RFC 5280, section 4.1.2.5, has them: in UTC,
with seconds, without fractions.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from trstctl.errors import Malformed
from trstctl.pkix import der

UTC_TIME = 0x17
GENERALIZED_TIME = 0x18

_FIELDS = re.compile(rb"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")


def read_generalized_time(value: bytes) -> datetime:
    """
    Read the content octets of a GeneralizedTime (section 4.1.2.5.2).

    :returns: aware, UTC.
    :raises Malformed: they are none, or of a form that is not allowed.
    """
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


def generalized_time(when: datetime) -> bytes:
    """Return a GeneralizedTime; what is below a second is cut off."""
    text = when.astimezone(UTC).strftime("%Y%m%d%H%M%SZ")
    return der.tlv(GENERALIZED_TIME, text.rjust(15, "0").encode("ascii"))


def time(when: datetime) -> bytes:
    """Return a Time: UTCTime through the year 2049 (section 4.1.2.5)."""
    whole = generalized_time(when)
    if b"1950" <= whole[2:6] < b"2050":
        return der.tlv(UTC_TIME, whole[4:])
    return whole
