# SPDX-License-Identifier: MIT
"""
What of a certificate request cannot be read (RFC 4211, section 3).

The reader of :mod:`trstctl.pkix.crmf` says that something is malformed.  A
protocol that has one failure for a bad template and another for a bad proof
of possession asks here, once it has failed, which it was.
"""

from __future__ import annotations

from contextlib import suppress

from attrs import frozen

from trstctl.errors import RequestError
from trstctl.pkix import der
from trstctl.pkix.crmf_proof import read_proof
from trstctl.pkix.crmf_template import read_template


@frozen
class Fault:
    """
    How far the first request of a message can be read.

    :ivar cert_req_id: its certReqId; 0 if not even that is there.
    :ivar part: ``template`` or ``popo`` if that is what cannot be read; else
        empty.
    """

    cert_req_id: int = 0
    part: str = ""


def find_fault(value: bytes) -> Fault:
    """
    Say what is malformed.  Never fails.

    :param value: CertReqMessages, already seen by
        :func:`trstctl.pkix.der.check`.
    """
    number, part = 0, ""
    with suppress(RequestError, IndexError, ValueError):
        message = der.children(der.content(value, der.SEQUENCE))[0]
        request, *rest = der.children(message[1])
        fields = der.children(request[1])
        der.content(fields[0][2], der.INTEGER)
        number = int.from_bytes(fields[0][1], "big", signed=True)
        part = "template"
        read_template(fields[1][2])
        if rest and rest[0][0] != der.SEQUENCE:
            part = "popo"
            read_proof(*rest[0][:2])
        part = ""
    return Fault(number, part)
