# SPDX-License-Identifier: MIT
"""
Renewal information: when a client should renew, as text, without I/O
(draft-ietf-lamps-est-renewal-info; RFC 9773, sections 4.1 and 4.2).

A certificate is named by the key identifier of its issuer and by its serial
number, each in base64url without padding, with a dot between them.  One name
for one certificate: octets and text that could be shorter are refused.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime

from trstctl.errors import Malformed
from trstctl.model import RenewalWindow

#: At most 64 octets of a key identifier, and 21 of a serial number's INTEGER
#: (RFC 5280, section 4.1.2.2: 20, and a zero in front).
_NAME = re.compile(r"([A-Za-z0-9_-]{1,86})\.([A-Za-z0-9_-]{1,28})")


def read_certificate_name(text: str) -> tuple[bytes, str]:
    """
    Return issuer's key identifier and serial, in hexadecimal.

    :raises Malformed: it is no such name.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise Malformed(
            "a certificate is named by its issuer's key identifier, a dot and "
            "its serial number, each in base64url without padding"
        )
    identifier, number = map(_octets, match.groups())
    # The content of a DER INTEGER that is positive.
    if number[0] >= 0x80 or (
        number[0] == 0 and (len(number) == 1 or number[1] < 0x80)
    ):
        raise Malformed("the serial number is not that of a DER INTEGER")
    return identifier, f"{int.from_bytes(number, 'big'):x}"


def _octets(text: str) -> bytes:
    """Read base64url without padding (RFC 4648, section 5)."""
    padded = text + "=" * (-len(text) % 4)
    try:
        octets = base64.urlsafe_b64decode(padded)
    except ValueError:  # binascii.Error is one
        octets = b""
    if base64.urlsafe_b64encode(octets).decode() != padded:
        raise Malformed("the name of the certificate is not base64url")
    return octets


def encode_window(window: RenewalWindow) -> bytes:
    """Return the answer (RFC 9773, section 4.2)."""
    content = {
        "suggestedWindow": {
            "start": _timestamp(window.start),
            "end": _timestamp(window.end),
        }
    }
    return json.dumps(content).encode("ascii") + b"\n"


def _timestamp(moment: datetime) -> str:
    """Return a time as RFC 3339 has it."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
