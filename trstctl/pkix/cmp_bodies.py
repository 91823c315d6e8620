# SPDX-License-Identifier: MIT
"""
The bodies of CMP that a gateway reads (RFC 9810, section 5.3).

Every reader takes the value of a :class:`trstctl.pkix.cmp.PKIBody`, which
has been walked.  The requests of ir, cr, kur, krr and ccr are read by
:func:`trstctl.pkix.crmf.read_cert_req_messages`, that of p10cr by
:func:`trstctl.pkix.csr.read_csr`, what is in genm by
:mod:`trstctl.pkix.cmp_general`.  Nothing is judged here: a certReqId may be
any number, a certConf may confirm any number of certificates.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from trstctl.errors import Malformed, RequestError, TooLarge
from trstctl.pkix import der
from trstctl.pkix.cmp_hash import read_hash_alg
from trstctl.pkix.cmp_itav import (
    InfoTypeAndValue,
    read_info_types_and_values,
)
from trstctl.pkix.cmp_status import (
    PKIStatusInfo,
    read_free_text,
    read_status,
)
from trstctl.pkix.crmf_template import CertTemplate, read_template
from trstctl.pkix.extensions import CRL_REASONS

#: More of anything in one body are refused before any is looked at.
MAX_ITEMS = 64

#: CRLReason by number (RFC 5280, section 5.3.1).
REASONS: Mapping[int, str] = {
    number: name for name, number in CRL_REASONS.items()
}

_NULL = b"\x05\x00"
_ENUMERATED = 0x0A
_HASH_ALG = 0xA0
_REASON_CODE = der.oid("2.5.29.21")
_EXTENSION_SHAPES = (
    [der.OBJECT_IDENTIFIER, der.OCTET_STRING],
    [der.OBJECT_IDENTIFIER, der.BOOLEAN, der.OCTET_STRING],
)


def _items(value: bytes, tag: int) -> list[tuple[int, bytes, bytes]]:
    """Return the parts of a SEQUENCE OF values of one type."""
    parts = der.children(der.content(value, der.SEQUENCE))
    if len(parts) > MAX_ITEMS:
        raise TooLarge("too many values in the message")
    if any(part[0] != tag for part in parts):
        raise Malformed("the message's body is malformed")
    return parts


def _integer(part: tuple[int, bytes, bytes]) -> int:
    """Read an INTEGER."""
    if part[0] != der.INTEGER:
        raise Malformed("the message's body is malformed")
    return int.from_bytes(part[1], "big", signed=True)


# --- p10cr ------------------------------------------------------------------


def p10cr_version(value: bytes) -> int | None:
    """
    Return the version that a certification request claims to be of.

    :func:`trstctl.pkix.csr.read_csr` reads version 0 only (RFC 2986, section
    4.1); this is for telling the client why it did not.

    :returns: ``None`` if there is none to be found.
    """
    try:
        request = der.children(der.content(value, der.SEQUENCE))
        part, *_ = der.children(request[0][1])
        return _integer(part)
    except (RequestError, LookupError, ValueError):
        return None


# --- certConf ---------------------------------------------------------------


@frozen
class CertStatus:
    """
    Whether the client takes a certificate (section 5.3.18).

    :ivar status: ``None`` means acceptance.
    :ivar hash_alg: ``sha256`` and so on, ``other:<oid>``, or ``None``.
    """

    cert_hash: bytes
    cert_req_id: int
    status: PKIStatusInfo | None
    hash_alg: str | None


def read_cert_conf(value: bytes) -> tuple[CertStatus, ...]:
    """
    Read CertConfirmContent; empty means that nothing is accepted.

    :raises TooLarge: more than :data:`MAX_ITEMS`.
    :raises Malformed: it is none.
    """
    return tuple(
        _read_cert_status(content)
        for _, content, _ in _items(value, der.SEQUENCE)
    )


def _read_cert_status(content: bytes) -> CertStatus:
    """Read a CertStatus."""
    parts = der.children(content)
    if len(parts) < 2 or parts[0][0] != der.OCTET_STRING:
        raise Malformed("a confirmation is malformed")
    optional = der.fields(parts[2:], bytes((der.SEQUENCE, _HASH_ALG)))
    status = optional.get(der.SEQUENCE)
    hash_alg = optional.get(_HASH_ALG)
    return CertStatus(
        parts[0][1],
        _integer(parts[1]),
        None if status is None else read_status(parts[2][2]),
        None if hash_alg is None else read_hash_alg(hash_alg),
    )


def read_pkiconf(value: bytes) -> None:
    """
    Read PKIConfirmContent, in which there is nothing (section 5.3.17).

    :raises Malformed: there is something.
    """
    if value != _NULL:
        raise Malformed("a confirmation is malformed")


# --- rr ---------------------------------------------------------------------


@frozen
class RevDetails:
    """
    Which certificate to revoke, and why (section 5.3.9).

    :ivar reasons: names of RFC 5280, section 5.3.1, ``removeFromCRL``
        included; a number that has no name as it is.  All that are there.
    :ivar extensions: dotted types of the other CRL entry extensions.
    """

    template: CertTemplate
    reasons: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()


def read_rev_req(value: bytes) -> tuple[RevDetails, ...]:
    """
    Read RevReqContent.

    :raises TooLarge: more than :data:`MAX_ITEMS`.
    :raises Malformed: it is none.
    """
    return tuple(
        _read_rev_details(content)
        for _, content, _ in _items(value, der.SEQUENCE)
    )


def _read_rev_details(content: bytes) -> RevDetails:
    """Read a RevDetails."""
    parts = der.children(content)
    if [part[0] for part in parts] not in (
        [der.SEQUENCE],
        [der.SEQUENCE, der.SEQUENCE],
    ):
        raise Malformed("a revocation request is malformed")
    reasons, others = [], []
    extensions = _items(parts[1][2], der.SEQUENCE) if parts[1:] else []
    # Not read_extensions: whoever gives two reasons is to be told so.
    for _, extension, _ in extensions:
        shape = der.children(extension)
        if [part[0] for part in shape] not in _EXTENSION_SHAPES:
            raise Malformed("a revocation request is malformed")
        oid, value = shape[0], shape[-1]
        if oid[2] == _REASON_CODE:
            reasons.append(_read_reason(value[1]))
        else:
            others.append(der.oid_text(oid[1]))
    return RevDetails(
        read_template(parts[0][2]), tuple(reasons), tuple(others)
    )


def _read_reason(value: bytes) -> str:
    """Read a CRLReason (RFC 5280, section 5.3.1)."""
    der.check(value)
    octets = der.content(value, _ENUMERATED)
    number = int.from_bytes(octets, "big", signed=True)
    return REASONS.get(number, f"{number}")


# --- the others -------------------------------------------------------------


def read_gen_msg(value: bytes) -> tuple[InfoTypeAndValue, ...]:
    """
    Read GenMsgContent (section 5.3.19); empty asks for whatever there is.

    :raises TooLarge: more than :data:`MAX_ITEMS`.
    :raises Malformed: it is none.
    """
    _items(value, der.SEQUENCE)
    return read_info_types_and_values(der.content(value, der.SEQUENCE))


def read_poll_req(value: bytes) -> tuple[int, ...]:
    """
    Read the certReqIds of PollReqContent (section 5.3.22).

    :raises TooLarge: more than :data:`MAX_ITEMS`.
    :raises Malformed: it is none.
    """
    found = []
    for _, content, _ in _items(value, der.SEQUENCE):
        parts = der.children(content)
        if len(parts) != 1:
            raise Malformed("a polling request is malformed")
        found.append(_integer(parts[0]))
    return tuple(found)


def read_nested(value: bytes) -> tuple[bytes, ...]:
    """
    Read NestedMessageContent: DER of each PKIMessage, unread.

    :raises TooLarge: more than :data:`MAX_ITEMS`.
    :raises Malformed: it is none, or is empty.
    """
    messages = _items(value, der.SEQUENCE)
    if not messages:
        raise Malformed("a nested message is malformed")
    return tuple(message[2] for message in messages)


def read_pop_responses(value: bytes) -> tuple[int, ...]:
    """
    Read POPODecKeyRespContent (section 5.2.8.3.3).

    :raises TooLarge: more than :data:`MAX_ITEMS`.
    :raises Malformed: it is none.
    """
    return tuple(_integer(part) for part in _items(value, der.INTEGER))


@frozen
class ErrorMsg:
    """
    What went wrong at the other end (section 5.3.21).

    :ivar code: errorCode, or ``None``.
    """

    status: PKIStatusInfo
    code: int | None = None
    details: tuple[str, ...] = ()


def read_error(value: bytes) -> ErrorMsg:
    """
    Read ErrorMsgContent.

    :raises Malformed: it is none.
    """
    parts = der.children(der.content(value, der.SEQUENCE))
    if not parts or parts[0][0] != der.SEQUENCE:
        raise Malformed("an error message is malformed")
    optional = der.fields(parts[1:], bytes((der.INTEGER, der.SEQUENCE)))
    code, details = optional.get(der.INTEGER), optional.get(der.SEQUENCE)
    return ErrorMsg(
        read_status(parts[0][2]),
        None if code is None else int.from_bytes(code, "big", signed=True),
        () if details is None else read_free_text(details),
    )
