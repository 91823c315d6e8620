# SPDX-License-Identifier: MIT
"""
PKIStatusInfo and PKIFreeText (RFC 9810, sections 5.1.1 and 5.2.3), both ways.
"""

from __future__ import annotations

from attrs import frozen

from trstctl.errors import Malformed
from trstctl.pkix import der
from trstctl.pkix.names import UTF8_STRING, read_text

#: PKIStatus by number.
STATUSES = (
    "accepted",
    "grantedWithMods",
    "rejection",
    "waiting",
    "revocationWarning",
    "revocationNotification",
    "keyUpdateWarning",
)

#: The bits of PKIFailureInfo, in order.
FAILURES = (
    "badAlg",
    "badMessageCheck",
    "badRequest",
    "badTime",
    "badCertId",
    "badDataFormat",
    "wrongAuthority",
    "incorrectData",
    "missingTimeStamp",
    "badPOP",
    "certRevoked",
    "certConfirmed",
    "wrongIntegrity",
    "badRecipientNonce",
    "timeNotAvailable",
    "unacceptedPolicy",
    "unacceptedExtension",
    "addInfoNotAvailable",
    "badSenderNonce",
    "badCertTemplate",
    "signerNotTrusted",
    "transactionIdInUse",
    "unsupportedVersion",
    "notAuthorized",
    "systemUnavail",
    "systemFailure",
    "duplicateCertReq",
)


@frozen
class PKIStatusInfo:
    """
    How a request fared.

    :ivar status: one of :data:`STATUSES`.
    :ivar text: statusString; empty if absent.
    :ivar failures: some of :data:`FAILURES`, in their order; a bit without
        a name has its number.  Empty if absent.
    """

    status: str
    text: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()

    def der(self) -> bytes:
        """
        Return the PKIStatusInfo.

        :raises ValueError: a status or failure without a name.
        """
        return der.sequence(
            der.integer(STATUSES.index(self.status)),
            free_text(self.text) if self.text else b"",
            _named_bits(self.failures) if self.failures else b"",
        )


def _named_bits(failures: tuple[str, ...]) -> bytes:
    """Return a PKIFailureInfo."""
    bits = [FAILURES.index(failure) for failure in failures]
    size = max(bits) + 1
    unused = -size % 8
    number = sum(1 << (size - 1 - bit) for bit in set(bits)) << unused
    # X.690, section 11.2.2: a named bit list has no trailing zero bits.
    return der.tlv(
        der.BIT_STRING,
        bytes((unused,)) + number.to_bytes((size + 7) // 8, "big"),
    )


def read_status(value: bytes) -> PKIStatusInfo:
    """
    Read a PKIStatusInfo.

    :param value: DER, already seen by :func:`trstctl.pkix.der.check`.
    :raises Malformed: it is none, or its status has no name.
    """
    parts = der.children(der.content(value, der.SEQUENCE))
    if not parts or parts[0][0] != der.INTEGER:
        raise Malformed("a status is malformed")
    number = int.from_bytes(parts.pop(0)[1], "big", signed=True)
    if not 0 <= number < len(STATUSES):
        raise Malformed("a status is malformed")
    optional = der.fields(parts, bytes((der.SEQUENCE, der.BIT_STRING)))
    text, bits = (
        optional.get(der.SEQUENCE),
        optional.get(der.BIT_STRING, b"\0"),
    )
    return PKIStatusInfo(
        STATUSES[number],
        () if text is None else read_free_text(text),
        tuple(
            FAILURES[bit] if bit < len(FAILURES) else f"{bit}"
            for bit in range(min(len(bits) - 1, 8) * 8)
            if bits[1 + bit // 8] & 0x80 >> bit % 8
        ),
    )


def free_text(texts: tuple[str, ...]) -> bytes:
    """Return a PKIFreeText, or another SEQUENCE OF UTF8String."""
    return der.sequence(
        *(der.tlv(UTF8_STRING, text.encode("utf-8")) for text in texts)
    )


def read_free_text(content: bytes) -> tuple[str, ...]:
    """
    Read the content octets of a PKIFreeText, or of another SEQUENCE
    SIZE (1..MAX) OF UTF8String.

    :raises Malformed: they are none, or empty.
    """
    parts = der.children(content)
    if not parts or any(part[0] != UTF8_STRING for part in parts):
        raise Malformed("a text is malformed")
    return tuple(read_text(UTF8_STRING, text) for _, text, _ in parts)
