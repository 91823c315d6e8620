# SPDX-License-Identifier: MIT
"""
Small faults of certification requests that devices in the field make.

What they sign is wrong by a rule of encoding, and yet cannot be misread.
:func:`mend` returns a request without these faults, for a strict reader to
judge everything else by, and the names of the faults.  It is the original
that is verified, kept, and read field by field.

``attributes-missing``
    The attributes' [0] is left out (RFC 2986, section 4.1, has it always).
``attributes-unsorted``
    A SET OF is not in DER's order (X.690, section 11.6): strongSwan.
``printable-string``
    A PrintableString holds ``_``, ``@`` or another character of ASCII that
    is not in its alphabet (X.680, section 41.4): Intune, printers.
"""

from __future__ import annotations

import re

from trstctl.pkix import der
from trstctl.pkix.names import PRINTABLE_STRING, UTF8_STRING

_ATTRIBUTES = 0xA0
_CONSTRUCTED = 0x20

_PRINTABLE = re.compile(rb"[A-Za-z0-9 '()+,\-./:=?]*")


def mend(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """
    Return a request without the faults, and the names of those it had.

    :param data: DER, already seen by :func:`trstctl.pkix.der.check`.
    :raises ValueError: it is not even shaped like a request.
    """
    information, *rest = der.children(der.content(data, der.SEQUENCE))
    fields = der.children(information[1])
    faults: set[str] = set()
    parts = [_mended(part, faults) for part in fields]
    if len(fields) == 3:
        faults.add("attributes-missing")
        parts.append(der.tlv(_ATTRIBUTES, b""))
    return (
        der.sequence(der.sequence(*parts), *(part[2] for part in rest)),
        tuple(sorted(faults)),
    )


def _mended(part: tuple[int, bytes, bytes], faults: set[str]) -> bytes:
    """Return a value with everything in it mended."""
    tag, value, whole = part
    if tag & _CONSTRUCTED:
        inner = [_mended(each, faults) for each in der.children(value)]
        if tag in {der.SET, _ATTRIBUTES} and inner != sorted(inner):
            faults.add("attributes-unsorted")
            inner.sort()
        return der.tlv(tag, b"".join(inner))
    if tag == PRINTABLE_STRING and not _PRINTABLE.fullmatch(value):
        faults.add("printable-string")
        return der.tlv(UTF8_STRING, value.decode("ascii").encode("utf-8"))
    return whole
