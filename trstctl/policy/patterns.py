# SPDX-License-Identifier: MIT
"""
Patterns: how profiles, credentials and tokens name sets of names.

===== ==================== ===============================================
kind  pattern              matches
===== ==================== ===============================================
any   ``*``                every acceptable name of the kind
dns   ``host.example``     that name
dns   ``*.example.com``    every name below ``example.com``, at any depth,
                           but not ``example.com`` itself
ip    ``192.0.2.0/24``     every address in the network; or one address
email ``joe@host.example`` that mailbox
email ``@host.example``    every mailbox at that host
email ``@*.example.com``   every mailbox at a host below ``example.com``
upn                        as ``email``
uri   ``urn:dev:os:32473`` that URI
uri   ``https://h.tld/a/*`` every URI that begins with what is before the
                           asterisk; which must end in ``/`` or ``:``, and
                           after the whole of an authority, so that
                           ``https://good.example*`` cannot be written
cn    ``device-*``         a glob: ``*`` stands for any run of characters
cn    ``re:[0-9A-F]{12}``  a regular expression that matches the whole
===== ==================== ===============================================

Host names and common names compare without regard to case, as RFC 5280,
section 7, wants; regular expressions as they are written.  Those have at
most 200 characters, and repeats (``*``, ``+``, ``{}``) and choices (``?``,
``|``) of which each takes its share of a budget: 4 repeats and 2 choices, or
2 and 12.  A repeated group that itself repeats or branches, a back-reference
and a look-around are refused, because their time could grow exponentially
with the length of a name.  For the same reason they match no text of more
than 64 characters, the length of the longest common name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from trstctl.policy.names import dns_name, email_address, uri

Predicate = Callable[[str], bool]

#: A longer regular expression is refused.
MAX_EXPRESSION = 200
#: What repeats and choices may cost together.  On 64 characters a repeat
#: makes the worst case about 20 times as long, and a choice doubles it; this
#: much takes 7 ms.
MAX_COST = 22
REPEAT_COST = 5
MAX_CHOICES = 16
#: A longer text is matched by no regular expression.
MAX_MATCHED = 64


def compile_pattern(kind: str, text: str) -> Predicate:
    """
    Return a predicate that tells whether a canonical name matches.

    :param kind: ``cn``, ``dns``, ``ip``, ``email``, ``uri`` or ``upn``.
    :raises ValueError: no such kind, or no such pattern; the text is for
        the operator who wrote it.
    """
    try:
        compiler = _COMPILERS[kind]
    except KeyError:
        kinds = ", ".join(_COMPILERS)
        raise ValueError(
            f"{kind!r} is no kind of name; use one of {kinds}"
        ) from None
    if not text:
        raise ValueError("a pattern is empty; use * for any name")
    if text == "*":
        return _anything
    return compiler(text)


def split_pattern(pattern: str) -> tuple[str, str]:
    """
    Split ``kind:pattern``, as credentials and tokens carry it.

    :raises ValueError: there is no kind in front, or no such pattern.
    """
    kind, colon, text = pattern.partition(":")
    if not colon:
        raise ValueError(
            f"{pattern!r} does not say the kind of name; write dns:{pattern}"
        )
    compile_pattern(kind, text)
    return kind, text


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> tuple[str, Predicate]:
    """Return the kind and the predicate of ``kind:pattern``."""
    kind, text = split_pattern(pattern)
    return kind, compile_pattern(kind, text)


def principal_allows(patterns: tuple[str, ...], kind: str, value: str) -> bool:
    """
    Tell whether a principal bound to ``patterns`` may have a name.

    :param patterns: ``kind:pattern``; none at all bind to nothing, that is,
        every name is allowed.
    :raises ValueError: a pattern is malformed.
    """
    if not patterns:
        return True
    for pattern in patterns:
        own, matches = _compiled(pattern)
        if own == kind and matches(value):
            return True
    return False


# --- the kinds --------------------------------------------------------------


def _anything(_value: str) -> bool:
    """Match every name."""
    return True


def _dns(text: str) -> Predicate:
    """Match one name, or every name below a suffix."""
    if text.startswith("*."):
        suffix = "." + dns_name(text[2:])
        return lambda value: value.lower().endswith(suffix)
    host = dns_name(text)
    return lambda value: value.lower() == host


def _ip(text: str) -> Predicate:
    """Match the addresses of a network."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"not an IP network: {error}") from None

    def matches(value: str) -> bool:
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return matches


def _mailbox(text: str) -> Predicate:
    """Match one mailbox, or every one at a host or below a domain."""
    if text.startswith("@"):
        host = _dns(text[1:])
        return lambda value: host(value.rpartition("@")[2])
    local, _, host_text = email_address(text).rpartition("@")

    def matches(value: str) -> bool:
        own, _, own_host = value.rpartition("@")
        return own == local and own_host.lower() == host_text

    return matches


_SCHEME_ONLY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}:(?://)?")


def _uri(text: str) -> Predicate:
    """Match one URI, or every one below a prefix that ends at a boundary."""
    if not text.endswith("*"):
        exact = uri(text)
        return lambda value: value == exact
    prefix = text[:-1]
    if _SCHEME_ONLY.fullmatch(prefix):
        prefix = prefix.lower()
    else:
        scheme, _, rest = prefix.partition(":")
        inside_authority = rest.startswith("//") and "/" not in rest[2:]
        if prefix[-1:] not in {"/", ":"} or inside_authority:
            raise ValueError(
                "what is before the * of a URI must end in / or :, after the "
                "whole host, as in https://host.example/path/*"
            )
        # Any acceptable ending shows what the canonical prefix is.
        prefix = uri(f"{scheme}:{rest}x")[:-1]
    return lambda value: value.startswith(prefix)


def _common_name(text: str) -> Predicate:
    """Match a glob or a regular expression."""
    if text.startswith("re:"):
        expression = compile_expression(text[3:])
        return lambda value: (
            len(value) <= MAX_MATCHED
            and expression.fullmatch(value) is not None
        )
    return _glob(text)


def _glob(text: str) -> Predicate:
    """Match a glob in linear time: each part at its first place."""
    first, *rest = text.lower().split("*")
    if not rest:
        return lambda value: value.lower() == first
    *middle, last = rest
    least = len(first) + len(last)

    def matches(value: str) -> bool:
        folded = value.lower()
        if not folded.startswith(first) or not folded.endswith(last):
            return False
        at, end = len(first), len(folded) - len(last)
        if len(folded) < least:
            return False
        for part in middle:
            at = folded.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return matches


_COMPILERS: Mapping[str, Callable[[str], Predicate]] = {
    "cn": _common_name,
    "dns": _dns,
    "ip": _ip,
    "email": _mailbox,
    "uri": _uri,
    "upn": _mailbox,
}

#: The kinds of names that patterns exist for.
KINDS = tuple(_COMPILERS)


# --- regular expressions ----------------------------------------------------

_PIECE = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?:|\{\d+\}|\{\d*,\d*\}|.", re.DOTALL
)
_BACK_REFERENCE = re.compile(r"\\[1-9]")


def compile_expression(text: str) -> re.Pattern[str]:
    """
    Compile a regular expression that cannot take exponential time.

    :raises ValueError: it is malformed, too long or not of that sort.
    """
    if not text:
        raise ValueError("a regular expression is empty")
    if len(text) > MAX_EXPRESSION:
        raise ValueError(
            f"a regular expression has more than {MAX_EXPRESSION} characters"
        )
    try:
        compiled = re.compile(text)
    except (re.error, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    _check_expression(_PIECE.findall(text))
    return compiled


def _check_expression(pieces: list[str]) -> None:
    """Refuse a well-formed expression whose time could explode."""
    # For each open group: whether something in it repeats or branches.
    unsteady = [False]
    closed = False  # whether the piece before closed an unsteady group
    cost = choices = 0
    for piece, following in zip(pieces, [*pieces[1:], ""], strict=True):
        repeat = piece in {"*", "+"} or (piece[0] == "{" and len(piece) > 2)
        if repeat and closed:
            raise ValueError(
                "in a regular expression a group that repeats or branches "
                "may not be repeated"
            )
        closed = False
        if (piece == "(" and following == "?") or _BACK_REFERENCE.match(piece):
            raise ValueError(
                "a regular expression may not use look-arounds, flags, named "
                "groups or back-references"
            )
        if piece in {"(", "(?:"}:
            unsteady.append(False)
        elif piece == ")":
            closed = unsteady.pop()
            unsteady[-1] = unsteady[-1] or closed
        elif repeat or piece in {"?", "|"}:
            unsteady[-1] = True
            cost += REPEAT_COST if repeat else 1
            choices += not repeat
    if cost > MAX_COST or choices > MAX_CHOICES:
        raise ValueError(
            "a regular expression has too many repeats and choices: each "
            f"repeat counts {REPEAT_COST}, each choice 1, and {MAX_COST} are "
            f"the most, {MAX_CHOICES} of choices alone"
        )
