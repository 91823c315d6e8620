# SPDX-License-Identifier: MIT
"""
The name policy: which text may stand in a certificate, and in which form.

An allow-list of forms.  Each kind of subject alternative name has one
function that returns the canonical form of what it accepts, and refuses the
rest with a :class:`ValueError` whose text is fit for the peer:

- ``dns``: letters, digits and hyphens (RFC 1123, section 2.1), in lower
  case, without trailing dot.  No IP address in disguise, so the last label
  is no number.  ``xn--`` labels must survive the round trip of IDNA2008
  (RFC 5891, section 5.4); other labels with two hyphens in the third and
  fourth place are reserved (RFC 5890, section 2.3.1).  A wildcard is a whole
  leftmost label above at least two others, and only where it is opted in.
- ``ip``: four or sixteen octets; an IPv4 address written as IPv6 is refused.
- ``email`` and ``upn``: an ASCII local part without quoting, and a DNS host.
- ``uri``: visible ASCII without the characters that RFC 3986 excludes;
  scheme and authority in lower case; no user information, no dot segments,
  so that a prefix means what it says.

Attribute values of a distinguished name are UTF8String, PrintableString or
IA5String, in Unicode's form NFC, printable (no control, format, private-use
or unassigned characters, no space but U+0020), not longer than RFC 5280,
appendix A.1, says.

How profiles and principals name sets of such names: see
:mod:`trstctl.policy.patterns`.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache

from trstctl.model import NameAttribute
from trstctl.pkix.names import (
    COMMON_NAME,
    COUNTRY,
    DN_QUALIFIER,
    DOMAIN_COMPONENT,
    EMAIL_ADDRESS,
    IA5_STRING,
    LOCALITY,
    ORGANIZATION,
    ORGANIZATION_IDENTIFIER,
    ORGANIZATIONAL_UNIT,
    POSTAL_CODE,
    PRINTABLE_STRING,
    PSEUDONYM,
    SERIAL_NUMBER,
    STATE,
    STREET,
    TITLE,
    UNSTRUCTURED_ADDRESS,
    UNSTRUCTURED_NAME,
    USER_ID,
    UTF8_STRING,
    string_tag,
)

MAX_DNS = 253
MAX_EMAIL = 254
MAX_LOCAL_PART = 64
MAX_TEXT_OCTETS = 1024

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_RESERVED = re.compile(r"(?:.*\.)?[a-z0-9]{2}--", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_LOCAL_ATOM = r"[A-Za-z0-9!#$&'+/=_~-]+"
_LOCAL_PART = re.compile(rf"{_LOCAL_ATOM}(?:\.{_LOCAL_ATOM})*")

_URI = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]{0,31}):"
    r"((?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)"
)
_AUTHORITY = re.compile(
    r"//(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?=[/?#]|$)"
)
# Whoever decodes first, or cuts parameters off, sees more of them.
_SLASH = r"/|%2[fF]|%5[cC]"
_DOT_SEGMENT = re.compile(
    rf"(?:^|{_SLASH})(?:\.|%2[eE]){{1,2}}(?:{_SLASH}|;|%3[bB]|$)"
)

_PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,./:=?-]*")


def dns_name(value: str, *, wildcards: bool = False) -> str:
    """
    Return the canonical form of a dNSName.

    :param wildcards: whether a leftmost label ``*`` is allowed.
    :raises ValueError: it is not acceptable; the text says why.
    """
    if len(value) > MAX_DNS:
        raise ValueError("a DNS name is longer than 253 characters")
    name = value.lower() if value.isascii() else value
    host = name
    if name.startswith("*."):
        if not wildcards:
            raise ValueError("wildcard names are not allowed")
        host = name[2:]
        if "." not in host:
            raise ValueError("a wildcard needs two labels below it")
    if not _DNS.fullmatch(host):
        raise ValueError("a DNS name is not made of letters, digits, hyphens")
    if _NUMBER.fullmatch(host, host.rfind(".") + 1):
        raise ValueError("a DNS name ends in a number, as an IP address does")
    if "--" in host and _RESERVED.match(host):
        _check_idna(host)
    return name


@lru_cache(maxsize=1024)
def _check_idna(host: str) -> None:
    """Refuse reserved labels, and A-labels that IDNA2008 does not know."""
    import idna  # 10 ms to import, and most names do not need it

    for label in host.split("."):
        if label[2:4] != "--":
            continue
        if not label.startswith("xn--"):
            raise ValueError("a DNS name has a reserved label")
        try:
            same = idna.alabel(idna.ulabel(label)).decode("ascii") == label
        except UnicodeError:
            same = False
        if not same:
            raise ValueError("a DNS name has an invalid xn-- label")


def ip_address(value: str) -> str:
    """
    Return the canonical form of an iPAddress.

    :raises ValueError: it is not an address, or an IPv4 one in disguise.
    """
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("an IP address is malformed") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            raise ValueError("an IP address is IPv4 written as IPv6")
        if address.scope_id is not None:
            raise ValueError("an IP address has a zone")
    return str(address)


def email_address(value: str) -> str:
    """
    Return the canonical form of an rfc822Name: its host in lower case.

    :raises ValueError: it is not acceptable; the text says why.
    """
    return _mailbox(value, "an email address")


def user_principal_name(value: str) -> str:
    """
    Return the canonical form of a UPN: its realm in lower case.

    :raises ValueError: it is not acceptable; the text says why.
    """
    return _mailbox(value, "a UPN")


def _mailbox(value: str, what: str) -> str:
    """Return local part and lower-case host, or refuse."""
    local, at, host = value.rpartition("@")
    if not at or len(value) > MAX_EMAIL or len(local) > MAX_LOCAL_PART:
        raise ValueError(f"{what} is malformed or too long")
    if not _LOCAL_PART.fullmatch(local):
        raise ValueError(f"{what} has a local part that is not plain ASCII")
    try:
        return f"{local}@{dns_name(host)}"
    except ValueError:
        raise ValueError(f"{what} does not end in a DNS name") from None


def uri(value: str) -> str:
    """
    Return the canonical form of a uniformResourceIdentifier.

    :raises ValueError: it is not acceptable; the text says why.
    """
    if len(value) > MAX_TEXT_OCTETS:
        raise ValueError("a URI is longer than 1024 characters")
    match = _URI.fullmatch(value)
    if match is None:
        raise ValueError("a URI is malformed")
    scheme, rest = match.groups()
    path = rest
    if rest.startswith("//"):
        # RFC 5280, section 4.2.1.6: a URI with an authority names a host.
        found = _AUTHORITY.match(rest)
        if found is None:
            raise ValueError("a URI has no plain host")
        path = rest[found.end() :]
        rest = found[0].lower() + path
    # The query and the fragment are no path.
    if _DOT_SEGMENT.search(path.partition("#")[0].partition("?")[0]):
        raise ValueError("a URI has a dot segment")
    return f"{scheme.lower()}:{rest}"


#: The canonical form of each kind of name that a profile can allow.
FORMS: Mapping[str, Callable[[str], str]] = {
    "dns": dns_name,
    "ip": ip_address,
    "email": email_address,
    "uri": uri,
    "upn": user_principal_name,
}


# --- distinguished names ----------------------------------------------------

#: Upper bounds in characters: RFC 5280, appendix A.1, X.520 and RFC 4524;
#: what is not listed is bounded by :data:`MAX_TEXT_OCTETS` alone.
UPPER_BOUNDS: Mapping[str, int] = {
    COMMON_NAME: 64,
    SERIAL_NUMBER: 64,
    LOCALITY: 128,
    STATE: 128,
    STREET: 128,
    ORGANIZATION: 64,
    ORGANIZATIONAL_UNIT: 64,
    TITLE: 64,
    POSTAL_CODE: 40,
    DN_QUALIFIER: 64,
    PSEUDONYM: 128,
    ORGANIZATION_IDENTIFIER: 256,
    USER_ID: 256,
    EMAIL_ADDRESS: 255,
    UNSTRUCTURED_NAME: 255,
    UNSTRUCTURED_ADDRESS: 255,
}


def attribute_value(attribute: NameAttribute) -> NameAttribute:
    """
    Return a subject attribute as it may be issued.

    :returns: the attribute with its value in canonical form and the string
        type that its attribute type prescribes.
    :raises ValueError: it is not acceptable; the text says why.
    """
    value, tag, oid = attribute.value, attribute.tag, attribute.oid
    _check_text(value, tag)
    limit = UPPER_BOUNDS.get(oid)
    if limit is not None and len(value) > limit:
        raise ValueError(f"the value is longer than {limit} characters")
    issued = string_tag(oid)
    if issued == UTF8_STRING:
        return attribute if tag == issued else NameAttribute(oid, value)
    if oid == COUNTRY:
        if len(value) != 2 or not (value.isascii() and value.isalpha()):
            raise ValueError("a country is two letters")
        value = value.upper()
    elif oid == EMAIL_ADDRESS:
        value = email_address(value)
    elif oid == DOMAIN_COMPONENT:
        if "." in value:
            raise ValueError("a domain component is one label")
        value = _component(value)
    elif not _PRINTABLE.fullmatch(value):
        raise ValueError("the value is not a PrintableString")
    return NameAttribute(oid, value, issued)


def _component(value: str) -> str:
    """Return one label in lower case; it may be a number, unlike a host."""
    lower = value.lower()
    if not _DNS.fullmatch(lower):
        raise ValueError("a domain component is not letters, digits, hyphens")
    return lower


def _check_text(value: str, tag: int) -> None:
    """Refuse what no attribute may hold, whatever its type."""
    if not value:
        raise ValueError("the value is empty")
    # str.isprintable is exact here: it is false for the categories Cc, Cf,
    # Cs, Co, Cn, Zl, Zp and Zs, but for the ASCII space.
    if not value.isprintable():
        raise ValueError("the value has an unprintable character")
    if value[0] == " " or value[-1] == " ":
        raise ValueError("the value begins or ends with a space")
    if value.isascii():
        octets = len(value)
    else:
        octets = len(value.encode())
        if tag != UTF8_STRING or not unicodedata.is_normalized("NFC", value):
            raise ValueError("the value is not Unicode in normal form C")
    if octets > MAX_TEXT_OCTETS:
        raise ValueError("the value is longer than 1024 octets")
    if tag == PRINTABLE_STRING:
        if not _PRINTABLE.fullmatch(value):
            raise ValueError("the value is not a PrintableString")
    elif tag not in {UTF8_STRING, IA5_STRING}:
        raise ValueError(
            "the value is none of UTF8String, PrintableString, IA5String"
        )
