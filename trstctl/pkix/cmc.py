# SPDX-License-Identifier: MIT
"""
CMC (RFC 5272): the contents of Full PKI Requests and Full PKI Responses.

Both are carried by a SignedData, which :mod:`trstctl.pkix.signed` reads and
:mod:`trstctl.pkix.signing` writes.  :func:`read_pki_data` is the boundary for
what is inside a request: the octets are capped and walked, every field is
read, and whatever goes wrong is one ``Malformed`` or ``TooLarge``.  The values
of controls are read by :mod:`trstctl.pkix.cmc_controls`, the certification
requests by :func:`trstctl.pkix.csr.read_csr` and
:func:`trstctl.pkix.crmf.read_cert_req_messages`; so that who reads them can
say which part of the message was at fault.

The module of RFC 5272 has implicit tags: what is in [0], [1] and [2] of a
TaggedRequest are the fields themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attrs import field, frozen

from trstctl.errors import Malformed, RequestError, TooLarge
from trstctl.pkix import der
from trstctl.pkix.names import UTF8_STRING
from trstctl.pkix.times import generalized_time

PKI_DATA = "1.3.6.1.5.5.7.12.2"
PKI_RESPONSE = "1.3.6.1.5.5.7.12.3"

#: More in one of the four sequences are refused before any is looked at.
MAX_PARTS = 64

#: The body part that stands for the message itself (section 3.2.2).
WHOLE = 0

_MAX_ID = 4294967295
_EMPTY = der.sequence()

#: CMCStatus (section 6.1.3).
STATUSES = {
    "success": 0,
    "failed": 2,
    "pending": 3,
    "noSupport": 4,
    "confirmRequired": 5,
    "popRequired": 6,
    "partial": 7,
}

#: CMCFailInfo (section 6.1.4).
FAILURES = (
    "badAlg",
    "badMessageCheck",
    "badRequest",
    "badTime",
    "badCertId",
    "unsupportedExt",
    "mustArchiveKeys",
    "badIdentity",
    "popRequired",
    "popFailed",
    "noKeyReuse",
    "internalCAError",
    "tryLater",
    "authDataFail",
)


# --- PKIData ----------------------------------------------------------------


@frozen
class Control:
    """
    A TaggedAttribute (section 3.2.1.1).

    :ivar oid: dotted attrType.
    :ivar values: DER of each.
    """

    body_part_id: int
    oid: str
    values: tuple[bytes, ...] = field(repr=False)


@frozen
class TaggedRequest:
    """
    A certification request (section 3.2.1.2).

    :ivar choice: ``tcr`` (PKCS #10), ``crm`` (CRMF) or ``orm`` (another).
    :ivar der: of the CertificationRequest or the CertReqMsg; of another one,
        its type.
    """

    body_part_id: int
    choice: str
    der: bytes = field(repr=False)


@frozen
class PKIData:
    """
    What a Full PKI Request asks for (section 3.2.1).

    :ivar content_infos: the body parts of cmsSequence, which nobody reads.
    :ivar others: likewise, of otherMsgSequence.
    :ivar req_sequence: DER of reqSequence, as it was received.
    """

    controls: tuple[Control, ...]
    requests: tuple[TaggedRequest, ...]
    content_infos: tuple[int, ...]
    others: tuple[int, ...]
    req_sequence: bytes = field(repr=False)


def read_pki_data(data: bytes, *, max_bytes: int = 65536) -> PKIData:
    """
    Read a PKIData.

    :param data: DER.
    :raises TooLarge: more than ``max_bytes``, or too many parts.
    :raises Malformed: anything else that is wrong with it.
    """
    der.check(data, max_bytes=max_bytes)
    try:
        return _read(data)
    except RequestError:
        raise
    except Exception as error:
        raise Malformed("not a PKIData") from error


def _read(data: bytes) -> PKIData:
    """Read the four sequences; may fail with any exception."""
    parts = der.children(der.content(data, der.SEQUENCE))
    if [part[0] for part in parts] != 4 * [der.SEQUENCE]:
        raise Malformed("not a PKIData")
    controls, requests, infos, others = (
        der.children(part[1]) for part in parts
    )
    if max(map(len, (controls, requests, infos, others))) > MAX_PARTS:
        raise TooLarge("too many parts in the message")
    found = PKIData(
        tuple(map(_read_control, controls)),
        tuple(map(_read_request, requests)),
        tuple(map(_read_content_info, infos)),
        tuple(map(_read_other, others)),
        parts[1][2],
    )
    ids = [
        *(each.body_part_id for each in found.controls),
        *(each.body_part_id for each in found.requests),
        *found.content_infos,
        *found.others,
    ]
    # Section 3.2.2: unique in a PKIData, and 0 is the PKIData itself.
    if len(set(ids)) != len(ids) or WHOLE in ids:
        raise Malformed("a bodyPartID is 0 or occurs twice")
    return found


def read_body_part_id(part: tuple[int, bytes, bytes]) -> int:
    """
    Read a BodyPartID.

    :param part: one of :func:`trstctl.pkix.der.children`.
    :raises Malformed: it is none.
    """
    number = int.from_bytes(part[1], "big", signed=True)
    if part[0] != der.INTEGER or not 0 <= number <= _MAX_ID:
        raise Malformed("a bodyPartID is malformed")
    return number


def _fields(
    part: tuple[int, bytes, bytes], *tags: int
) -> list[tuple[int, bytes, bytes]]:
    """Return the fields of a SEQUENCE, which begins with these tags."""
    fields = der.children(part[1])
    if part[0] != der.SEQUENCE or [each[0] for each in fields] != list(tags):
        raise Malformed("a part of the message is malformed")
    return fields


def _read_control(part: tuple[int, bytes, bytes]) -> Control:
    """Read a TaggedAttribute."""
    number, oid, values = _fields(
        part, der.INTEGER, der.OBJECT_IDENTIFIER, der.SET
    )
    return Control(
        read_body_part_id(number),
        der.oid_text(oid[1]),
        tuple(value[2] for value in der.children(values[1])),
    )


def _read_request(part: tuple[int, bytes, bytes]) -> TaggedRequest:
    """Read a TaggedRequest."""
    tag, content, _ = part
    fields = der.children(content)
    shape = [each[0] for each in fields]
    if tag == 0xA0 and shape == [der.INTEGER, der.SEQUENCE]:
        return TaggedRequest(read_body_part_id(fields[0]), "tcr", fields[1][2])
    if tag == 0xA1 and shape[:1] == [der.SEQUENCE]:
        # Section 3.2.2: its certReqId takes the place of a bodyPartID.
        number = der.children(fields[0][1])[0]
        return TaggedRequest(
            read_body_part_id(number), "crm", der.sequence(content)
        )
    if tag == 0xA2 and shape[:2] == [der.INTEGER, der.OBJECT_IDENTIFIER]:
        return TaggedRequest(read_body_part_id(fields[0]), "orm", fields[1][2])
    raise Malformed("a certification request is malformed")


def _read_content_info(part: tuple[int, bytes, bytes]) -> int:
    """Read a TaggedContentInfo; return its body part."""
    return read_body_part_id(_fields(part, der.INTEGER, der.SEQUENCE)[0])


def _read_other(part: tuple[int, bytes, bytes]) -> int:
    """Read an OtherMsg; return its body part."""
    number, kind, _ = der.children(part[1])
    if part[0] != der.SEQUENCE or kind[0] != der.OBJECT_IDENTIFIER:
        raise Malformed("a part of the message is malformed")
    return read_body_part_id(number)


# --- PKIResponse ------------------------------------------------------------


@frozen
class StatusInfo:
    """
    What became of some body parts: CMCStatusInfoV2 (section 6.1.1).

    :ivar status: a name of :data:`STATUSES`.
    :ivar body_parts: of the request; one or more.
    :ivar fail_info: one of :data:`FAILURES`; only with ``failed``.
    :ivar pend_token: with ``pending``: what to ask with, at ``pend_time``.
    """

    status: str
    body_parts: tuple[int, ...]
    text: str = ""
    fail_info: str = ""
    pend_token: bytes = b""
    pend_time: datetime | None = None

    def der(self) -> bytes:
        """Return the CMCStatusInfoV2."""
        text = self.text.encode("utf-8")
        other = b""
        if self.fail_info:
            other = der.integer(FAILURES.index(self.fail_info))
        elif self.pend_time is not None:
            other = der.sequence(
                der.octet_string(self.pend_token),
                generalized_time(self.pend_time),
            )
        return der.sequence(
            der.integer(STATUSES[self.status]),
            der.sequence(*map(der.integer, self.body_parts)),
            der.tlv(UTF8_STRING, text) if text else b"",
            other,
        )


def pki_response(controls: Sequence[tuple[str, bytes]]) -> bytes:
    """
    Return a PKIResponse (section 4.2.1) of nothing but controls.

    :param controls: dotted type and DER value of each; their body parts are
        numbered from 1 on.
    """
    return der.sequence(
        der.sequence(
            *(
                der.sequence(
                    der.integer(number), der.oid(oid), der.set_of(value)
                )
                for number, (oid, value) in enumerate(controls, 1)
            )
        ),
        _EMPTY,
        _EMPTY,
    )
