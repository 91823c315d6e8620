# SPDX-License-Identifier: MIT
"""
Messages of CMP as pyasn1 reads them, by the schema of RFC 9810.

Whoever reads an answer in a test reads it by this, so that each answer is one
to somebody else, too: it decodes without a rest, and is the same octets when
it is encoded again.
"""

from __future__ import annotations

from typing import Any

from pyasn1.codec.der.decoder import decode
from pyasn1.codec.der.encoder import encode
from pyasn1_alt_modules import rfc9810


def read_answer(octets: bytes) -> Any:
    """
    Return a PKIMessage as pyasn1 has it.

    :raises AssertionError: there is a rest, or it would be written otherwise;
        also of a message inside.
    """
    decoded, rest = decode(octets, asn1Spec=rfc9810.PKIMessage())
    assert rest == b""
    assert octets.hex() == encode(decoded).hex()
    if decoded["body"].getName() == "nested":
        for message in decoded["body"]["nested"]:
            read_answer(bytes(message))
    return decoded
