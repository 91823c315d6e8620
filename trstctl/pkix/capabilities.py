# SPDX-License-Identifier: MIT
"""
SMIMECapabilities (RFC 8551, section 2.5.2): what somebody can decrypt.

Read: the ciphers of :data:`trstctl.pkix.encryption.CIPHERS`, AES key wrap,
and the key transport schemes of :data:`trstctl.pkix.encryption.SCHEMES`, each
kind in the order in which it is preferred.  Whatever else is listed is
skipped, as the standard wants it.  Vectors: what OpenSSL writes into a signed
message.
"""

from __future__ import annotations

from attrs import frozen

from trstctl.errors import TooLarge
from trstctl.pkix import der
from trstctl.pkix.algorithms import split_identifier
from trstctl.pkix.encryption import (
    CIPHERS,
    KEY_WRAPS,
    SCHEMES,
    read_scheme,
)

SMIME_CAPABILITIES = "1.2.840.113549.1.9.15"

#: Entries of one list.
_MOST = 64

_CIPHERS = {cipher.oid: name for name, cipher in CIPHERS.items()}
_WRAPS = {
    split_identifier(identifier)[0]: size
    for size, identifier in KEY_WRAPS.items()
}


@frozen
class Capabilities:
    """
    What somebody can decrypt, of what we can encrypt.

    :ivar ciphers: names of content ciphers.
    :ivar wraps: octets of the AES keys that wrap others.
    :ivar schemes: names of key transport schemes.
    """

    ciphers: tuple[str, ...] = ()
    wraps: tuple[int, ...] = ()
    schemes: tuple[str, ...] = ()


def read_capabilities(value: bytes) -> Capabilities:
    """
    Read an SMIMECapabilities.

    :param value: DER, already seen by :func:`trstctl.pkix.der.check`.
    :raises TooLarge: more than 64 entries.
    :raises Malformed: it is none.
    """
    entries = der.children(der.content(value, der.SEQUENCE))
    if len(entries) > _MOST:
        raise TooLarge("there are too many S/MIME capabilities")
    ciphers, wraps, schemes = [], [], []
    for _, _, entry in entries:
        oid, _ = split_identifier(entry)
        if oid in _CIPHERS:
            ciphers.append(_CIPHERS[oid])
        elif oid in _WRAPS:
            wraps.append(_WRAPS[oid])
        elif (scheme := read_scheme(entry)) in SCHEMES:
            schemes.append(scheme)
    return Capabilities(tuple(ciphers), tuple(wraps), tuple(schemes))
