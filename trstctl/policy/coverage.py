# SPDX-License-Identifier: MIT
"""
Whether one pattern stays within others.

Whoever may hand out rights to names must not hand out more than he has.  In
general that is a hard question; here it has an answer that errs on the safe
side.  A pattern is covered by

- the same pattern;
- ``*`` of its kind;
- a pattern of its kind that matches it, if it stands for a single name.

All else is not covered: nobody gets more, and somebody may have to write
his patterns the other way.
"""

from __future__ import annotations

import ipaddress
import re

from trstctl.policy.names import dns_name, email_address, uri
from trstctl.policy.patterns import principal_allows, split_pattern

#: What a regular expression of it means itself and nothing else.
_PLAIN = re.compile(r"[A-Za-z0-9 _-]+")

_LETTER = re.compile(r"[A-Za-z]")


def covers(limits: tuple[str, ...], pattern: str) -> bool:
    """
    Tell whether each name that a pattern matches is within limits.

    :param limits: patterns; none at all limit nothing.
    :param pattern: ``kind:pattern``.
    :raises ValueError: the pattern, or a limit, is malformed.
    """
    kind, text = split_pattern(pattern)
    if not limits or pattern in limits or f"{kind}:*" in limits:
        return True
    name = _only_name(kind, text)
    if name is None:
        return False
    if kind == "cn" and not text.startswith("re:") and not _caseless(text):
        # It stands for its text in any letter case, and an expression for
        # one: what matches the text as it is written may not match the rest.
        limits = tuple(one for one in limits if not one.startswith("cn:re:"))
        if not limits:
            return False
    return principal_allows(limits, kind, name)


def takes_time(pattern: str) -> bool:
    """
    Tell whether a pattern is an expression that stands for several names.

    Those are what it can take milliseconds to match.

    :raises ValueError: it is malformed.
    """
    kind, text = split_pattern(pattern)
    return pattern.startswith("cn:re:") and _only_name(kind, text) is None


def _caseless(text: str) -> bool:
    """Tell whether a text is the only one that differs in no letter."""
    return text.isascii() and not _LETTER.search(text)


def _only_name(kind: str, text: str) -> str | None:
    """Return the name that a pattern stands for; ``None``: for several."""
    if text == "*":
        return None
    match kind:
        case "cn":
            if text.startswith("re:"):
                return text[3:] if _PLAIN.fullmatch(text[3:]) else None
            return None if "*" in text else text
        case "dns":
            return None if text.startswith("*.") else dns_name(text)
        case "ip":
            network = ipaddress.ip_network(text)
            single = network.num_addresses == 1
            return str(network.network_address) if single else None
        case "uri":
            return None if text.endswith("*") else uri(text)
        case _:  # email, upn
            return None if text.startswith("@") else email_address(text)
