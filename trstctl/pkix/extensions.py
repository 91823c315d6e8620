# SPDX-License-Identifier: MIT
"""
X.509 extensions: reading the list, and the few values that we act on.

Every function takes DER that :func:`trstctl.pkix.der.check` has seen, but
for the extension values, which :func:`read_extensions` shows to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trstctl.errors import Malformed
from trstctl.model import Extension
from trstctl.pkix import der

SUBJECT_KEY_IDENTIFIER = "2.5.29.14"
KEY_USAGE = "2.5.29.15"
SUBJECT_ALTERNATIVE_NAME = "2.5.29.17"
BASIC_CONSTRAINTS = "2.5.29.19"
AUTHORITY_KEY_IDENTIFIER = "2.5.29.35"
EXTENDED_KEY_USAGE = "2.5.29.37"

#: The bits of KeyUsage, in order (RFC 5280, section 4.2.1.3).
KEY_USAGES = (
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
)

_SHAPES = (
    [der.OBJECT_IDENTIFIER, der.OCTET_STRING],
    [der.OBJECT_IDENTIFIER, der.BOOLEAN, der.OCTET_STRING],
)

#: CRLReason by name: RFC 5280, section 5.3.1; 7 is not used.
CRL_REASONS: Mapping[str, int] = {
    "unspecified": 0,
    "keyCompromise": 1,
    "cACompromise": 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "certificateHold": 6,
    "removeFromCRL": 8,
    "privilegeWithdrawn": 9,
    "aACompromise": 10,
}


def read_extensions(
    extensions: bytes, *, strict: bool = True
) -> tuple[Extension, ...]:
    """
    Read Extensions (RFC 5280, section 4.1), in order.

    A critical flag that is FALSE and written out is read, although DER
    leaves it out: it cannot be misunderstood.

    :param strict: whether the value of an extension that we do not know has
        to be DER, too.  Factory certificates break this rule (Yubico's
        attestation puts bare octets there).
    :raises Malformed: it is no Extensions, two are of one type, a value is
        not DER, or the value of an extension that we know is malformed.
    :raises TooLarge: a value has too many octets.
    """
    found: dict[str, Extension] = {}
    for tag, extension, _ in der.children(
        der.content(extensions, der.SEQUENCE)
    ):
        parts = der.children(extension)
        tags = [part[0] for part in parts]
        if tag != der.SEQUENCE or tags not in _SHAPES:
            raise Malformed("an extension is malformed")
        oid = der.oid_text(parts[0][1])
        # RFC 5280, section 4.2: not more than one instance of each.
        if oid in found:
            raise Malformed("an extension occurs twice")
        value = parts[-1][1]
        reader = _READERS.get(oid)
        if strict or reader is not None or oid == SUBJECT_ALTERNATIVE_NAME:
            der.check(value)
        if reader is not None:
            reader(value)
        critical = len(parts) > 2 and parts[1][1] != b"\x00"
        found[oid] = Extension(oid, critical, value)
    return tuple(found.values())


def read_basic_constraints(value: bytes) -> tuple[bool, int | None]:
    """
    Return ``cA`` and ``pathLenConstraint`` (RFC 5280, section 4.2.1.9).

    :raises Malformed: it is no BasicConstraints.
    """
    parts = der.children(der.content(value, der.SEQUENCE))
    is_ca = False
    if parts and parts[0][0] == der.BOOLEAN:
        is_ca = parts.pop(0)[1] != b"\x00"
    if not parts:
        return is_ca, None
    if len(parts) > 1 or parts[0][0] != der.INTEGER:
        raise Malformed("the basic constraints are malformed")
    length = int.from_bytes(parts[0][1], "big", signed=True)
    if length < 0:
        raise Malformed("the basic constraints are malformed")
    return is_ca, length


def read_key_usage(value: bytes) -> tuple[str, ...]:
    """
    Return the names of the bits that are set, in their order.

    :raises Malformed: it is no KeyUsage, or sets a bit that has no name.
    """
    octets = der.content(value, der.BIT_STRING)
    usages = tuple(
        f"{bit}" if bit >= len(KEY_USAGES) else KEY_USAGES[bit]
        for bit in range((len(octets) - 1) * 8)
        if octets[1 + bit // 8] & 0x80 >> bit % 8
    )
    if usages and usages[-1] not in KEY_USAGES:
        raise Malformed("the key usage is malformed")
    return usages


def read_extended_key_usage(value: bytes) -> tuple[str, ...]:
    """
    Return the dotted key purposes, in order (RFC 5280, section 4.2.1.12).

    :raises Malformed: it is no ExtKeyUsageSyntax, or is empty.
    """
    purposes = der.children(der.content(value, der.SEQUENCE))
    if not purposes or any(
        purpose[0] != der.OBJECT_IDENTIFIER for purpose in purposes
    ):
        raise Malformed("the extended key usage is malformed")
    return tuple(der.oid_text(purpose[1]) for purpose in purposes)


# The subject alternative name is not here: who wants extensions wants its
# names as well, and reads it once.
_READERS: Mapping[str, Callable[[bytes], object]] = {
    KEY_USAGE: read_key_usage,
    BASIC_CONSTRAINTS: read_basic_constraints,
    EXTENDED_KEY_USAGE: read_extended_key_usage,
}
