# SPDX-License-Identifier: MIT
"""
CMP (RFC 9810): PKIMessage, bytes to value and back.

Theory of operation.

1. :func:`read_message` is the one boundary.  The octets are capped and cut
   into header, body, protection and extraCerts by hand; header and body are
   walked (:mod:`trstctl.pkix.der`) before anything reads them.  The extra
   certificates are counted and cut, but neither walked nor read: who wants
   one shows it to :func:`trstctl.pkix.certificate.read_certificate`.
2. The protection is over header and body *as received*
   (:attr:`PKIMessage.protected_part`).  They are never encoded again.
3. The header is read at once, the body by the reader of its type
   (:mod:`trstctl.pkix.cmp_bodies`), so that a message whose body does not
   decode can still be answered as its header demands; and what
   :func:`trstctl.pkix.cmp_header.recover` finds does for the rest.
4. Writing has two steps, as the key may be anywhere: :func:`prepare`
   returns what is to be protected, and :meth:`PreparedMessage.finish` takes
   the protection.

Implemented: versions cmp2000 and cmp2021, all bodies but announcements.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import field, frozen

from trstctl.errors import Malformed, RequestError, TooLarge
from trstctl.pkix import der
from trstctl.pkix.cmp_header import PKIHeader, read_header

#: The choices of PKIBody by their tag numbers (RFC 9810, section 5.1.2).
BODY_TYPES = (
    "ir",
    "ip",
    "cr",
    "cp",
    "p10cr",
    "popdecc",
    "popdecr",
    "kur",
    "kup",
    "krr",
    "krp",
    "rr",
    "rp",
    "ccr",
    "ccp",
    "ckuann",
    "cann",
    "rann",
    "crlann",
    "pkiconf",
    "nested",
    "genm",
    "genp",
    "error",
    "certConf",
    "pollReq",
    "pollRep",
)

#: More extra certificates are refused before any is looked at.
MAX_EXTRA_CERTS = 64
MAX_BYTES = 1 << 18
MAX_NODES = 8192

_FIRST_BODY = 0xA0
_PROTECTION = 0xA0
_EXTRA_CERTS = 0xA1
_OPTIONAL: tuple[list[int], ...] = (
    [],
    [_PROTECTION],
    [_EXTRA_CERTS],
    [_PROTECTION, _EXTRA_CERTS],
)


@frozen
class PKIBody:
    """
    The body of a message.

    :ivar type: one of :data:`BODY_TYPES`.
    :ivar value: DER of what the type stands for.
    """

    type: str
    value: bytes = field(repr=False)

    def der(self) -> bytes:
        """Return the PKIBody."""
        return der.explicit(BODY_TYPES.index(self.type), self.value)


@frozen
class PKIMessage:
    """
    A message of which nothing is verified.

    :ivar der: the whole, as it was received.
    :ivar protected_part: what the protection is over (RFC 9810, 5.1.3).
    :ivar protection: ``None`` if absent, which is not the same as empty.
    :ivar extra_certs: DER in the order of the message, not yet seen by
        :func:`trstctl.pkix.der.check`.
    """

    der: bytes = field(repr=False)
    header: PKIHeader
    body: PKIBody
    protected_part: bytes = field(repr=False)
    protection: bytes | None = field(repr=False)
    extra_certs: tuple[bytes, ...] = field(repr=False)


def read_message(data: bytes, *, max_bytes: int = MAX_BYTES) -> PKIMessage:
    """
    Read a PKIMessage.  Its body is walked, but not read.

    :param data: DER.
    :raises TooLarge: more than ``max_bytes``, or too many certificates.
    :raises Malformed: anything else that is wrong with it.
    """
    if len(data) > max_bytes:
        raise TooLarge
    try:
        return _read(data)
    except RequestError:
        raise
    except Exception as error:
        raise Malformed("not a PKIMessage") from error


def _read(data: bytes) -> PKIMessage:
    """Read a PKIMessage; may fail with any exception."""
    header, body, *rest = _cut(der.content(data, der.SEQUENCE), 4)
    for part in (header, body):
        der.check(part, max_bytes=MAX_BYTES, max_nodes=MAX_NODES)
    number = body[0] - _FIRST_BODY
    (value,) = der.children(der.content(body, body[0]))
    if not 0 <= number < len(BODY_TYPES):
        raise Malformed("not a PKIMessage")
    optional = {part[0]: der.content(part, part[0]) for part in rest}
    if list(optional) not in _OPTIONAL or len(optional) != len(rest):
        raise Malformed("not a PKIMessage")
    protection = optional.get(_PROTECTION)
    certificates = optional.get(_EXTRA_CERTS)
    return PKIMessage(
        der=data,
        header=read_header(header),
        body=PKIBody(BODY_TYPES[number], value[2]),
        protected_part=der.sequence(header, body),
        protection=None if protection is None else _read_bits(protection),
        extra_certs=(
            () if certificates is None else _read_certificates(certificates)
        ),
    )


def _cut(values: bytes, limit: int) -> list[bytes]:
    """Cut values apart that follow one another."""
    found: list[bytes] = []
    at = 0
    while at < len(values):
        if len(found) == limit:
            raise TooLarge("too many values in the message")
        end = der.end_of(values, at)
        found.append(values[at:end])
        at = end
    return found


def _read_bits(protection: bytes) -> bytes:
    """Read a PKIProtection."""
    bits = der.content(protection, der.BIT_STRING)
    if bits[:1] != b"\x00":  # no signature and no MAC ends inside an octet
        raise Malformed("the protection is malformed")
    return bits[1:]


def _read_certificates(explicit: bytes) -> tuple[bytes, ...]:
    """Cut extraCerts apart."""
    certificates = _cut(der.content(explicit, der.SEQUENCE), MAX_EXTRA_CERTS)
    # CMPCertificate has one choice so far, which has no tag of its own.
    if any(certificate[0] != der.SEQUENCE for certificate in certificates):
        raise Malformed("an extra certificate is malformed")
    return tuple(certificates)


# --- writing ----------------------------------------------------------------


@frozen
class PreparedMessage:
    """
    A message that waits for its protection.

    :ivar protected_part: the octets that are signed, or that the MAC is
        over; not a digest.
    """

    protected_part: bytes = field(repr=False)
    _header_and_body: bytes = field(repr=False)

    def finish(
        self, protection: bytes | None, extra_certs: Sequence[bytes] = ()
    ) -> bytes:
        """
        Return the PKIMessage in DER.

        :param protection: ``None`` leaves it out, as protectionAlg must be
            in the header then.
        :param extra_certs: DER, in this order.
        """
        message = [self._header_and_body]
        if protection is not None:
            message.append(der.explicit(0, der.bit_string(protection)))
        if extra_certs:
            message.append(der.explicit(1, der.sequence(*extra_certs)))
        return der.sequence(*message)


def prepare(header: PKIHeader, body: PKIBody) -> PreparedMessage:
    """
    Put a message together, all but its protection.

    :param header: its ``protection_alg`` says what the protection will be.
    """
    both = header.der() + body.der()
    return PreparedMessage(der.sequence(both), both)
