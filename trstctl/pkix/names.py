# SPDX-License-Identifier: MIT
"""
Distinguished names and general names: reading, writing, text, matching.

Names are read as they are: a NUL, a T61String or an empty label reaches
policy unchanged, with its string type, so that policy can refuse it.  Only
what is not a character string of its type at all is malformed.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Mapping

from cryptography import x509
from cryptography.hazmat.asn1 import decode_der

from trstctl.errors import Malformed, TooLarge
from trstctl.model import GeneralName, Name, NameAttribute
from trstctl.pkix import der

COMMON_NAME = "2.5.4.3"
SURNAME = "2.5.4.4"
SERIAL_NUMBER = "2.5.4.5"
COUNTRY = "2.5.4.6"
LOCALITY = "2.5.4.7"
STATE = "2.5.4.8"
STREET = "2.5.4.9"
ORGANIZATION = "2.5.4.10"
ORGANIZATIONAL_UNIT = "2.5.4.11"
TITLE = "2.5.4.12"
POSTAL_CODE = "2.5.4.17"
NAME = "2.5.4.41"
GIVEN_NAME = "2.5.4.42"
INITIALS = "2.5.4.43"
GENERATION_QUALIFIER = "2.5.4.44"
DN_QUALIFIER = "2.5.4.46"
PSEUDONYM = "2.5.4.65"
ORGANIZATION_IDENTIFIER = "2.5.4.97"
USER_ID = "0.9.2342.19200300.100.1.1"
DOMAIN_COMPONENT = "0.9.2342.19200300.100.1.25"
EMAIL_ADDRESS = "1.2.840.113549.1.9.1"
UNSTRUCTURED_NAME = "1.2.840.113549.1.9.2"
UNSTRUCTURED_ADDRESS = "1.2.840.113549.1.9.8"

#: Short names by OID: RFC 4514, section 3, and what OpenSSL prints.
SHORT_NAMES: Mapping[str, str] = {
    COMMON_NAME: "CN",
    SURNAME: "surname",
    SERIAL_NUMBER: "serialNumber",
    COUNTRY: "C",
    LOCALITY: "L",
    STATE: "ST",
    STREET: "STREET",
    ORGANIZATION: "O",
    ORGANIZATIONAL_UNIT: "OU",
    TITLE: "title",
    POSTAL_CODE: "postalCode",
    NAME: "name",
    GIVEN_NAME: "givenName",
    INITIALS: "initials",
    GENERATION_QUALIFIER: "generationQualifier",
    DN_QUALIFIER: "dnQualifier",
    PSEUDONYM: "pseudonym",
    ORGANIZATION_IDENTIFIER: "organizationIdentifier",
    USER_ID: "UID",
    DOMAIN_COMPONENT: "DC",
    EMAIL_ADDRESS: "emailAddress",
    UNSTRUCTURED_NAME: "unstructuredName",
    UNSTRUCTURED_ADDRESS: "unstructuredAddress",
}

#: OIDs by short name.
ATTRIBUTE_OIDS: Mapping[str, str] = {
    short: oid for oid, short in SHORT_NAMES.items()
}

UTF8_STRING = 12
PRINTABLE_STRING = 19
IA5_STRING = 22

# RFC 5280, appendix A.1: the attributes that are not a DirectoryString.
_STRING_TAGS: Mapping[str, int] = {
    COUNTRY: PRINTABLE_STRING,
    SERIAL_NUMBER: PRINTABLE_STRING,
    DN_QUALIFIER: PRINTABLE_STRING,
    DOMAIN_COMPONENT: IA5_STRING,
    EMAIL_ADDRESS: IA5_STRING,
}

# Character strings by tag.  T61String is read as Latin-1, which keeps every
# octet and is what its few users meant (RFC 5280, section 4.1.2.4).
_CODECS: Mapping[int, str] = {
    UTF8_STRING: "utf-8",
    18: "ascii",  # NumericString
    PRINTABLE_STRING: "ascii",
    20: "latin-1",  # T61String
    IA5_STRING: "ascii",
    26: "ascii",  # VisibleString
    28: "utf-32-be",  # UniversalString
    30: "utf-16-be",  # BMPString
}


def string_tag(oid: str) -> int:
    """Return the tag of the string type that an attribute is issued with."""
    return _STRING_TAGS.get(oid, UTF8_STRING)


def read_text(tag: int, value: bytes) -> str:
    """
    Return the text of a character string's content octets.

    :raises Malformed: the tag is no character string's, or the octets are
        not text of this type.
    """
    codec = _CODECS.get(tag)
    if codec is None:
        raise Malformed("a value is not a character string")
    try:
        return value.decode(codec)
    except UnicodeDecodeError:
        raise Malformed("a character string is malformed") from None


# --- distinguished names ----------------------------------------------------


def read_name(name: bytes | x509.Name) -> Name:
    """
    Read a distinguished name, keeping the order and the string types.

    :param name: DER, already seen by :func:`trstctl.pkix.der.check`, or the
        library's object.
    :raises Malformed: it is no name, or has values other than strings.
    """
    if isinstance(name, x509.Name):
        name = name.public_bytes()
    children, oid_text = der.children, der.oid_text
    rdns = []
    for rdn_tag, rdn, _ in children(der.content(name, der.SEQUENCE)):
        attributes = []
        for tag, attribute, _ in children(rdn):
            parts = children(attribute)
            if (
                tag != der.SEQUENCE
                or len(parts) != 2
                or parts[0][0] != der.OBJECT_IDENTIFIER
            ):
                raise Malformed("a name is malformed")
            value_tag, value, _ = parts[1]
            attributes.append(
                NameAttribute(
                    oid_text(parts[0][1]),
                    read_text(value_tag, value),
                    value_tag,
                )
            )
        if rdn_tag != der.SET or not attributes:
            raise Malformed("a name is malformed")
        rdns.append(tuple(attributes))
    return tuple(rdns)


def encode_name(name: Name) -> bytes:
    """
    Return the DER of a name, with the string types that it carries.

    :raises ValueError: a value does not fit its string type.
    """
    return der.sequence(
        *(
            der.set_of(
                *(
                    der.sequence(
                        der.oid(attribute.oid),
                        der.tlv(
                            attribute.tag,
                            attribute.value.encode(_CODECS[attribute.tag]),
                        ),
                    )
                    for attribute in rdn
                )
            )
            for rdn in name
        )
    )


def to_x509_name(name: Name) -> x509.Name:
    """
    Return the library's object for a name.

    :raises ValueError: the library does not take a value.
    """
    return decode_der(x509.Name, encode_name(name))


def attribute_values(name: Name, oid: str) -> list[str]:
    """Return all values of one attribute type, in order."""
    return [
        attribute.value
        for rdn in name
        for attribute in rdn
        if attribute.oid == oid
    ]


# Nothing in here needs an escape, unless it begins or ends with a space.
_PLAIN = re.compile(r"[0-9A-Za-z.:_/@*()'=?&!%-][0-9A-Za-z .:_/@*()'=?&!%-]*")


def name_text(name: Name) -> str:
    """
    Return a name in the text form of RFC 4514, last RDN first.

    Characters that are not printable are written as hexadecimal pairs, so
    that the text is one line whatever the peer sent.  An attribute without
    a short name is written as OID and ``#`` with the value's DER.
    """
    return ",".join(
        "+".join(_attribute_text(attribute) for attribute in rdn)
        for rdn in reversed(name)
    )


def _attribute_text(attribute: NameAttribute) -> str:
    """Return one attribute in text form (RFC 4514, section 2.3)."""
    value = attribute.value
    short = SHORT_NAMES.get(attribute.oid)
    if short is None:
        encoded = der.tlv(attribute.tag, value.encode(_CODECS[attribute.tag]))
        return f"{attribute.oid}=#{encoded.hex()}"
    if _PLAIN.fullmatch(value) and value[-1] != " ":
        return f"{short}={value}"
    escaped = "".join(map(_escape, value))
    # RFC 4514, section 2.4: a leading space or number sign, a final space.
    if escaped[:1] in {" ", "#"}:
        escaped = "\\" + escaped
    if value[-1:] == " " and len(value) > 1:
        escaped = escaped[:-1] + "\\ "
    return f"{short}={escaped}"


def _escape(character: str) -> str:
    """Return one character as RFC 4514, section 2.4, writes it."""
    if character in '"+,;<>\\':
        return "\\" + character
    if character.isprintable():
        return character
    octets = character.encode("utf-8")
    return "".join(f"\\{octet:02x}" for octet in octets)


def names_match(a: Name, b: Name) -> bool:
    """
    Tell whether two names are the same name (RFC 5280, section 7.1).

    Letter case, string types, white space around and repeated inside a
    value, and the order within an RDN make no difference.  Characters that
    RFC 4518, section 2.2, would drop (controls, zero width) are compared:
    a name that hides one never passes for a name without it.  Values of more
    than 256 characters that are not all ASCII match only themselves.
    """
    if list(map(len, a)) != list(map(len, b)):
        return False
    return a == b or [_comparable(rdn) for rdn in a] == [
        _comparable(rdn) for rdn in b
    ]


def _comparable(rdn: tuple[NameAttribute, ...]) -> list[tuple[str, str]]:
    """Return an RDN prepared for comparison (RFC 4518, section 2)."""
    return sorted(
        (attribute.oid, _prepared(attribute.value)) for attribute in rdn
    )


# RFC 4518, section 2.2; NFKC has made spaces of the others.
_SPACES = re.compile("[\t-\r \x85\u1680\u2028\u2029]+")


#: Characters of a value that is normalized: what that takes grows with the
#: square of them, and strangers' names are compared, too.
_NORMALIZED = 256


def _prepared(value: str) -> str:
    """Fold case, compatibility forms and spaces."""
    if not value.isascii():
        if len(value) > _NORMALIZED:
            return value
        value = unicodedata.normalize("NFKC", value).casefold()
        value = unicodedata.normalize("NFKC", value)
    return _SPACES.sub(" ", value.casefold()).strip(" ")


# --- general names ----------------------------------------------------------

#: More than this is refused before any of them is looked at.
MAX_GENERAL_NAMES = 1000

_UPN = der.oid("1.3.6.1.4.1.311.20.2.3")
_MAPPED = bytes(10) + b"\xff\xff"

_TEXT_KINDS: Mapping[int, str] = {0x81: "email", 0x82: "dns", 0x86: "uri"}
_OPAQUE_KINDS: Mapping[int, str] = {
    0xA0: "other",
    0xA3: "x400",
    0xA4: "directory",
    0xA5: "edi",
    0x88: "rid",
}
_TEXT_TAGS: Mapping[str, int] = {
    kind: tag for tag, kind in _TEXT_KINDS.items()
}


def read_general_names(san_extension_value: bytes) -> tuple[GeneralName, ...]:
    """
    Read GeneralNames (RFC 5280, section 4.2.1.6), in order.

    :param san_extension_value: DER, already seen by
        :func:`trstctl.pkix.der.check`.
    :raises TooLarge: more than :data:`MAX_GENERAL_NAMES`.
    :raises Malformed: it is no GeneralNames, or is empty.
    """
    values = der.children(der.content(san_extension_value, der.SEQUENCE))
    if not values:
        raise Malformed("the alternative names are malformed")
    if len(values) > MAX_GENERAL_NAMES:
        raise TooLarge("too many alternative names")
    return tuple(_read_general_name(*value) for value in values)


def _read_general_name(tag: int, value: bytes, whole: bytes) -> GeneralName:
    """Read one GeneralName."""
    kind = _TEXT_KINDS.get(tag)
    if kind is not None:
        return GeneralName(kind, read_text(IA5_STRING, value))
    if tag == 0x87:
        return GeneralName("ip", _address_text(value))
    if tag == 0xA0:
        principal_name = _principal_name(value)
        if principal_name is not None:
            return GeneralName("upn", principal_name)
    kind = _OPAQUE_KINDS.get(tag)
    if kind is None:
        raise Malformed("the alternative names are malformed")
    return GeneralName(kind, whole.hex())


def _principal_name(value: bytes) -> str | None:
    """Return the text of an otherName that is a user principal name."""
    parts = der.children(value)
    if (
        len(parts) != 2
        or parts[0][0] != der.OBJECT_IDENTIFIER
        or parts[1][0] != 0xA0
    ):
        raise Malformed("the alternative names are malformed")
    inner = der.children(parts[1][1])
    if parts[0][2] != _UPN or len(inner) != 1 or inner[0][0] != UTF8_STRING:
        return None
    return read_text(UTF8_STRING, inner[0][1])


def _address_text(octets: bytes) -> str:
    """Return the canonical text (RFC 5952), the same on every Python."""
    if len(octets) == 16:
        if octets.startswith(_MAPPED):
            return f"::ffff:{ipaddress.IPv4Address(octets[12:])}"
        return ipaddress.IPv6Address(octets).compressed
    if len(octets) == 4:
        return str(ipaddress.IPv4Address(octets))
    return octets.hex()


def encode_general_names(names: Iterable[GeneralName]) -> bytes:
    """
    Return the DER of GeneralNames: the value of the extension.

    :raises ValueError: the text does not fit its kind.
    """
    return der.sequence(*map(_encode_general_name, names))


def _encode_general_name(name: GeneralName) -> bytes:
    """Return the DER of one GeneralName."""
    if name.kind in _TEXT_TAGS:
        return der.tlv(_TEXT_TAGS[name.kind], name.value.encode("ascii"))
    if name.kind == "ip":
        if "." in name.value or ":" in name.value:
            return der.tlv(0x87, ipaddress.ip_address(name.value).packed)
        return der.tlv(0x87, bytes.fromhex(name.value))
    if name.kind == "upn":
        text = der.tlv(UTF8_STRING, name.value.encode("utf-8"))
        return der.tlv(0xA0, _UPN + der.explicit(0, text))
    if name.kind in _OPAQUE_KINDS.values():
        return bytes.fromhex(name.value)
    raise ValueError("no such kind of general name")
