# SPDX-License-Identifier: MIT
"""
PKIHeader of CMP (RFC 9810, section 5.1.1), both ways.

Nothing is judged here: what is missing is ``None``, octets may be of any
length, versions of any number, so that whoever answers can say exactly what
is wrong.  Two kinds of faults are told apart.  A field of another type than
the schema has makes the message ``Malformed``.  A value in generalInfo that
is not of the type which its OID demands does not: the schema cannot know it,
and :attr:`GeneralInfo.malformed` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen

from trstctl.errors import Malformed, RequestError
from trstctl.model import Name
from trstctl.pkix import der
from trstctl.pkix.cmp_itav import (
    INFO_TYPES,
    InfoTypeAndValue,
    read_info_types_and_values,
)
from trstctl.pkix.cmp_status import free_text, read_free_text
from trstctl.pkix.crmf_template import directory_name, read_directory_name
from trstctl.pkix.times import (
    GENERALIZED_TIME,
    generalized_time,
    read_generalized_time,
)

_NULL = b"\x05\x00"

_MESSAGE_TIME = 0xA0
_PROTECTION_ALG = 0xA1
_SENDER_KID = 0xA2
_RECIP_KID = 0xA3
_TRANSACTION_ID = 0xA4
_SENDER_NONCE = 0xA5
_RECIP_NONCE = 0xA6
_FREE_TEXT = 0xA7
_GENERAL_INFO = 0xA8
_ORDER = bytes(range(_MESSAGE_TIME, _GENERAL_INFO + 1))


# --- generalInfo ------------------------------------------------------------


@frozen
class GeneralInfo:
    """
    generalInfo, as far as we know its types.

    :ivar implicit_confirm: whether it is asked for, or granted
        (section 5.1.1.1).
    :ivar confirm_wait_time: section 5.1.1.2.
    :ivar orig_messages: DER of the PKIMessages that an RA has changed
        (section 5.1.1.3).
    :ivar cert_profiles: names of profiles, one for each request; an empty
        one is none (section 5.1.1.4).
    :ivar others: what has another type, in order.
    :ivar malformed: the names of types whose value is not what it must be,
        or that occur twice, in order; reading them is left out.
    """

    implicit_confirm: bool = False
    confirm_wait_time: datetime | None = None
    orig_messages: tuple[bytes, ...] = field(default=(), repr=False)
    cert_profiles: tuple[str, ...] = ()
    others: tuple[InfoTypeAndValue, ...] = ()
    malformed: tuple[str, ...] = ()

    def der(self) -> bytes:
        """Return the SEQUENCE OF InfoTypeAndValue; empty if there is none."""
        known: list[tuple[str, bytes]] = []
        if self.implicit_confirm:
            known.append(("implicitConfirm", _NULL))
        if self.confirm_wait_time is not None:
            when = generalized_time(self.confirm_wait_time)
            known.append(("confirmWaitTime", when))
        if self.orig_messages:
            messages = der.sequence(*self.orig_messages)
            known.append(("origPKIMessage", messages))
        if self.cert_profiles:
            known.append(("certProfile", free_text(self.cert_profiles)))
        items = [
            *(
                InfoTypeAndValue(INFO_TYPES[name], value)
                for name, value in known
            ),
            *self.others,
        ]
        return der.sequence(*(item.der() for item in items)) if items else b""


def _read_null(value: bytes) -> bool:
    """Read an ImplicitConfirmValue."""
    if value != _NULL:
        raise Malformed
    return True


def _read_time(value: bytes) -> datetime:
    """
    Read a GeneralizedTime.

    RFC 9810, section 5.2.9, has no fractions of a second; some encoders write
    them all the same, and nothing depends on it.
    """
    return read_generalized_time(
        der.content(value, GENERALIZED_TIME), fractions=True
    )


def _read_messages(value: bytes) -> tuple[bytes, ...]:
    """Read PKIMessages; what is in them is not looked at."""
    messages = der.children(der.content(value, der.SEQUENCE))
    if not messages or any(message[0] != der.SEQUENCE for message in messages):
        raise Malformed
    return tuple(message[2] for message in messages)


_READERS: Mapping[str, tuple[str, Callable[[bytes], Any]]] = {
    "implicitConfirm": ("implicit_confirm", _read_null),
    "confirmWaitTime": (
        "confirm_wait_time",
        _read_time,
    ),
    "origPKIMessage": ("orig_messages", _read_messages),
    "certProfile": (
        "cert_profiles",
        lambda value: read_free_text(der.content(value, der.SEQUENCE)),
    ),
}


def _read_general_info(explicit: bytes) -> GeneralInfo:
    """Read the SEQUENCE OF InfoTypeAndValue under its explicit tag."""
    known: dict[str, Any] = {}
    others, malformed = [], []
    items = read_info_types_and_values(der.content(explicit, der.SEQUENCE))
    for item in items:
        if item.name not in _READERS:
            others.append(item)
            continue
        attribute, reader = _READERS[item.name]
        try:
            if attribute in known or item.value is None:
                raise Malformed
            known[attribute] = reader(item.value)
        except RequestError:
            malformed.append(item.name)
    return GeneralInfo(
        **known, others=tuple(others), malformed=tuple(malformed)
    )


_NOTHING = GeneralInfo()

# --- the header -------------------------------------------------------------


@frozen
class Party:
    """
    A sender or recipient.

    :ivar der: the GeneralName, as it was received.
    :ivar name: its directoryName, ``()`` for the NULL-DN; ``None`` if it is
        named otherwise.
    """

    der: bytes
    name: Name | None


def party(name: Name) -> Party:
    """Return the party of this name; ``()`` is the NULL-DN."""
    return Party(directory_name(name), name)


@frozen
class PKIHeader:
    """
    What every PKIMessage begins with; ``None`` and empty are absent.

    :ivar pvno: whatever number it has.
    :ivar message_time: aware, UTC.
    :ivar protection_alg: DER AlgorithmIdentifier, for
        :func:`trstctl.pkix.cmp_protection.read_protection`.
    """

    pvno: int
    sender: Party
    recipient: Party
    message_time: datetime | None = None
    protection_alg: bytes | None = None
    sender_kid: bytes | None = None
    recip_kid: bytes | None = None
    transaction_id: bytes | None = None
    sender_nonce: bytes | None = None
    recip_nonce: bytes | None = None
    free_text: tuple[str, ...] = ()
    general_info: GeneralInfo = _NOTHING

    def der(self) -> bytes:
        """Return the PKIHeader."""
        fields = [der.integer(self.pvno), self.sender.der, self.recipient.der]
        if self.message_time is not None:
            when = generalized_time(self.message_time)
            fields.append(der.tlv(_MESSAGE_TIME, when))
        if self.protection_alg is not None:
            fields.append(der.tlv(_PROTECTION_ALG, self.protection_alg))
        for tag, octets in (
            (_SENDER_KID, self.sender_kid),
            (_RECIP_KID, self.recip_kid),
            (_TRANSACTION_ID, self.transaction_id),
            (_SENDER_NONCE, self.sender_nonce),
            (_RECIP_NONCE, self.recip_nonce),
        ):
            if octets is not None:
                fields.append(der.tlv(tag, der.octet_string(octets)))
        if self.free_text:
            fields.append(der.tlv(_FREE_TEXT, free_text(self.free_text)))
        information = self.general_info.der()
        if information:
            fields.append(der.tlv(_GENERAL_INFO, information))
        return der.sequence(*fields)


def read_header(header: bytes) -> PKIHeader:
    """
    Read a PKIHeader.

    :param header: DER, already seen by :func:`trstctl.pkix.der.check`.
    :raises Malformed: it is none.
    """
    parts = der.children(der.content(header, der.SEQUENCE))
    if len(parts) < 3 or parts[0][0] != der.INTEGER:
        raise Malformed("the header is malformed")
    fields = der.fields(parts[3:], _ORDER)
    when = fields.get(_MESSAGE_TIME)
    algorithm = fields.get(_PROTECTION_ALG)
    if algorithm is not None:
        der.content(algorithm, der.SEQUENCE)
    texts = fields.get(_FREE_TEXT)
    information = fields.get(_GENERAL_INFO)
    return PKIHeader(
        pvno=int.from_bytes(parts[0][1], "big", signed=True),
        sender=Party(parts[1][2], read_directory_name(parts[1])),
        recipient=Party(parts[2][2], read_directory_name(parts[2])),
        message_time=None if when is None else _read_time(when),
        protection_alg=algorithm,
        sender_kid=_octets(fields.get(_SENDER_KID)),
        recip_kid=_octets(fields.get(_RECIP_KID)),
        transaction_id=_octets(fields.get(_TRANSACTION_ID)),
        sender_nonce=_octets(fields.get(_SENDER_NONCE)),
        recip_nonce=_octets(fields.get(_RECIP_NONCE)),
        free_text=(
            ()
            if texts is None
            else read_free_text(der.content(texts, der.SEQUENCE))
        ),
        general_info=(
            _NOTHING
            if information is None
            else _read_general_info(information)
        ),
    )


def _octets(explicit: bytes | None) -> bytes | None:
    """Read the OCTET STRING under an explicit tag."""
    if explicit is None:
        return None
    return der.content(explicit, der.OCTET_STRING)


# --- what can be read of what cannot be read --------------------------------


@frozen
class Recovered:
    """
    What an error answer needs of a message that does not decode.

    :ivar pvno: ``None`` if it cannot be read; likewise the others.
    """

    pvno: int | None
    transaction_id: bytes | None
    sender_nonce: bytes | None


#: Longer identifiers and nonces of undecodable messages are not repeated.
MAX_RECOVERED_OCTETS = 128


def recover(data: bytes) -> Recovered:
    """
    Find transactionID and senderNonce, as far as they can be read.

    Clients discard an error that does not repeat them.  Reads no more than
    the tags and lengths of the header, and never fails.
    """
    pvno, found = None, dict[int, bytes]()
    try:
        at, end = _enter(data, 0, len(data))
        at, end = _enter(data, at, end)
        for _ in range(16):
            if at >= end:
                break
            after = der.end_of(data, at)
            if data[at] == der.INTEGER and pvno is None and after - at == 3:
                pvno = data[at + 2]
            elif data[at] in {_TRANSACTION_ID, _SENDER_NONCE}:
                explicit = der.content(data[at:after], data[at])
                ((tag, octets, _),) = der.children(explicit)
                if tag == der.OCTET_STRING:
                    found.setdefault(data[at], octets[:MAX_RECOVERED_OCTETS])
            at = after
    except (RequestError, ValueError, IndexError):
        pass  # what has been found will do
    return Recovered(
        pvno, found.get(_TRANSACTION_ID), found.get(_SENDER_NONCE)
    )


def _enter(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return where the content of a SEQUENCE begins, and at most ends."""
    if data[at] != der.SEQUENCE:
        raise Malformed
    octets = data[at + 1]
    if octets <= 0x7F:
        return at + 2, min(at + 2 + octets, end)
    start = at + 2 + (octets & 0x7F)
    length = int.from_bytes(data[at + 2 : min(start, at + 6)], "big")
    return start, min(start + length, end)
