# SPDX-License-Identifier: MIT
"""
What a PKIHeader must be (RFC 9810, section 5.1.1; RFC 9483, section 3.1).

Two modes.  ``strict`` is the letter of RFC 9483.  ``interop`` also takes what
older clients and devices without a clock send: a messageTime that is missing
or wrong, a transactionID of another length or none, a recipNonce of zeros in
the first message.  Nothing of this authenticates anybody; replays are found
by the transactionID in both.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from trstctl.pkix.cmp import PKIMessage
from trstctl.pkix.cmp_header import PKIHeader
from trstctl.protocols.cmp.refusals import refuse

#: The versions that are spoken (RFC 9810, section 7).
VERSIONS = (2, 3)

#: How far messageTime may be off.
TOLERANCE = timedelta(seconds=500)

#: Octets of a nonce: 128 bits (RFC 9810, section 5.1.1), and a bound.
MIN_NONCE = 16
MAX_NONCE = 64
_ID = 16
_MAX_ID = 64

#: Octets of a sender, whom every answer repeats, also those that are kept.
MAX_SENDER = 4096

#: What goes on with a transaction rather than beginning one.
CONTINUING = frozenset({"certConf", "pollReq", "pkiconf", "error"})

#: What asks for a certificate.
REQUESTING = frozenset({"ir", "cr", "kur", "p10cr"})

#: What a CA pushes to who wants to know (RFC 9811, section 3.5).
ANNOUNCEMENTS = frozenset({"ckuann", "cann", "rann", "crlann"})

#: What only carries other messages.
CARRYING = "nested"


def check_version(pvno: int) -> None:
    """
    Refuse a version that is not spoken (RFC 9810, section 7).

    :raises RequestError: unsupportedVersion.
    """
    if pvno not in VERSIONS:
        raise refuse(
            "unsupportedVersion",
            "pvno",
            "only the CMP versions 2 and 3 are spoken",
        )


def answering_version(pvno: int) -> int:
    """Return the version of an answer: the same, or the nearest."""
    return min(max(pvno, VERSIONS[0]), VERSIONS[-1])


def check_header(message: PKIMessage, now: datetime, *, strict: bool) -> None:
    """
    Judge what needs neither a key nor the store.

    :raises RequestError: with the failInfo of RFC 9483, section 3.5.
    """
    header, kind = message.header, message.body.type
    begins = kind not in CONTINUING
    check_version(header.pvno)
    # RFC 9810, section 5.1.1: present if and only if the other is.
    if (header.protection_alg is None) != (message.protection is None):
        raise refuse(
            "badMessageCheck",
            "protection-half",
            "protectionAlg and protection must come together",
        )
    if message.protection is None:
        raise refuse(
            "badMessageCheck", "unprotected", "the message is not protected"
        )
    if len(header.sender.der) > MAX_SENDER:
        raise refuse(
            "badRequest", "sender-length", "the sender's name is too long"
        )
    _check_transaction(header, begins=begins, strict=strict)
    _check_sender_nonce(header)
    # What is carried may be the answer to something.
    if begins and kind != CARRYING:
        check_answers_nothing(header, strict=strict)
    _check_time(header, now, strict=strict)
    _check_general_info(message)
    # Who adds protection may repeat the header of what is inside.
    if strict and kind != CARRYING:
        _check_places(message)


def _check_transaction(
    header: PKIHeader, *, begins: bool, strict: bool
) -> None:
    """Judge the transactionID."""
    transaction = header.transaction_id
    if transaction is None:
        if not begins:
            raise refuse(
                "badRequest",
                "transaction-id-missing",
                "the message has no transactionID, and needs one",
            )
        if strict:
            raise refuse(
                "badDataFormat",
                "transaction-id-missing",
                "the message has no transactionID",
            )
    elif (strict and len(transaction) != _ID) or not (
        0 < len(transaction) <= _MAX_ID
    ):
        raise refuse(
            "badRequest",
            "transaction-id-length",
            f"the transactionID must have {_ID} octets",
        )


def _check_sender_nonce(header: PKIHeader) -> None:
    """Judge the length of senderNonce."""
    nonce = header.sender_nonce
    if nonce is None or not MIN_NONCE <= len(nonce) <= MAX_NONCE:
        raise refuse(
            "badSenderNonce",
            "sender-nonce-length",
            f"a senderNonce of {MIN_NONCE} to {MAX_NONCE} octets is needed",
        )


def check_answers_nothing(header: PKIHeader, *, strict: bool) -> None:
    """
    Refuse a first message that answers another.

    :raises RequestError: badRecipientNonce.
    """
    answers = header.recip_nonce
    if answers is not None and (strict or any(answers)):
        raise refuse(
            "badRecipientNonce",
            "recip-nonce-first",
            "the first message of a transaction has no recipNonce",
        )


def _check_time(header: PKIHeader, now: datetime, *, strict: bool) -> None:
    """Judge messageTime, where it counts."""
    when = header.message_time
    if strict and (when is None or abs(when - now) > TOLERANCE):
        raise refuse(
            "badTime",
            "message-time",
            "messageTime is missing, or too far from the time here",
        )


def _check_general_info(message: PKIMessage) -> None:
    """Judge generalInfo; unknown types are ignored (RFC 9810, 5.1.1)."""
    info = message.header.general_info
    for name in info.malformed:
        raise refuse(
            "badRequest" if name == "implicitConfirm" else "badDataFormat",
            "general-info",
            f"the value of {name} in generalInfo is not of its type",
        )
    # RFC 9810, section 5.1.1.2: the server's to say, and only without the
    # other.
    if info.implicit_confirm and info.confirm_wait_time is not None:
        raise refuse(
            "badRequest",
            "general-info",
            "implicitConfirm and confirmWaitTime exclude each other",
        )
    # RFC 9810, section 5.1.1.4; one request is all that is served.
    if len(info.cert_profiles) > 1 and message.body.type != "genm":
        raise refuse(
            "badRequest",
            "cert-profile-count",
            "there are more certProfile names than requests",
        )


def _check_places(message: PKIMessage) -> None:
    """Refuse what belongs to other messages (RFC 9483, section 3.1)."""
    info, kind = message.header.general_info, message.body.type
    for name, present, allowed in (
        ("implicitConfirm", info.implicit_confirm, REQUESTING),
        ("certProfile", bool(info.cert_profiles), REQUESTING | {"genm"}),
        ("confirmWaitTime", info.confirm_wait_time is not None, ()),
    ):
        if present and kind not in allowed:
            raise refuse(
                "badRequest",
                "general-info",
                f"{name} has no place in a message of type {kind}",
            )
