# SPDX-License-Identifier: MIT
"""
OCSP messages (RFC 6960): requests to values, and values to responses.

Reading: the walk of :mod:`trstctl.pkix.der` first, then our own reader.  A
request may be signed; who signed it makes no difference to the answer, so
the signature is not looked at (RFC 6960, section 4.1.2: a MAY).

Writing: what all responses of one responder share is encoded once, by
:class:`ResponseForm`; the rest is a handful of concatenations.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache

from attrs import field, frozen

from trstctl.errors import Malformed, NotAuthorized, RequestError
from trstctl.model import REVOCATION_REASONS
from trstctl.pkix import der
from trstctl.pkix.algorithms import algorithm_identifier
from trstctl.pkix.certificate import split_signed
from trstctl.pkix.extensions import CRL_REASONS, read_extensions
from trstctl.pkix.times import generalized_time

#: Octets of a request, and certificates that it may ask for.
MAX_REQUEST = 65_536
MAX_CERT_IDS = 32

#: RFC 9654, section 2.1: Nonce ::= OCTET STRING (SIZE (1..128)).
MAX_NONCE = 128

#: RFC 5280, section 4.1.2.2.
_MAX_SERIAL = 20

NONCE = "1.3.6.1.5.5.7.48.1.2"
_BASIC = der.oid("1.3.6.1.5.5.7.48.1.1")

_VERSION_1 = der.integer(0)
_NULL = b"\x05\x00"
_ENUMERATED = 0x0A

# What stands where, as the tags of the parts in their order.
_REQUEST = re.compile(rb"\x30\xa0?")
_TBS_REQUEST = re.compile(rb"\xa0?\xa1?\x30\xa2?")
_CERT_ID = b"\x30\x04\x04\x02"


@frozen
class CertID:
    """
    One certificate that is asked for (RFC 6960, section 4.1.1).

    :ivar der: the whole CertID, which the response repeats.
    :ivar issuer: the octets of hashAlgorithm, issuerNameHash and
        issuerKeyHash, one after another.
    :ivar serial: lower-case hexadecimal, without sign or prefix; empty if it
        is none that a CA may give (RFC 5280, section 4.1.2.2).
    """

    der: bytes = field(repr=False)
    issuer: bytes = field(repr=False)
    serial: str


@frozen
class OCSPRequest:
    """
    A request.

    :ivar cert_ids: in their order.
    :ivar nonce: its octets, or nothing.
    """

    cert_ids: tuple[CertID, ...]
    nonce: bytes = b""


# --- reading ----------------------------------------------------------------


def read_request(data: bytes) -> OCSPRequest:
    """
    Read an OCSPRequest.

    :raises TooLarge: more octets than :data:`MAX_REQUEST`.
    :raises Malformed: anything else that is wrong with it.
    """
    try:
        return _read(data)
    except RequestError:
        raise
    except Exception as error:
        raise Malformed("not an OCSP request") from error


def _read(data: bytes) -> OCSPRequest:
    """Read an OCSPRequest; may fail with any exception."""
    der.check(data, max_bytes=MAX_REQUEST)
    request = der.children(der.content(data, der.SEQUENCE))
    tbs = der.children(request[0][1])
    if not (_fit(_REQUEST, request) and _fit(_TBS_REQUEST, tbs)):
        raise Malformed("not an OCSP request")
    # DER leaves the default out; a v1 that is written out means the same.
    if tbs[0][0] == 0xA0 and tbs.pop(0)[1] != _VERSION_1:
        raise Malformed("the request's version is not 1")
    nonce = b""
    if tbs[-1][0] == 0xA2:
        nonce = _read_nonce(tbs.pop()[1])
    asked = der.children(tbs[-1][1])
    if not 1 <= len(asked) <= MAX_CERT_IDS:
        raise Malformed(f"the request is not for 1 to {MAX_CERT_IDS}")
    return OCSPRequest(
        tuple(_read_cert_id(tag, content) for tag, content, _ in asked), nonce
    )


def _fit(
    tags: re.Pattern[bytes], parts: list[tuple[int, bytes, bytes]]
) -> bool:
    """Tell whether the tags of the parts are in their order."""
    return tags.fullmatch(bytes(part[0] for part in parts)) is not None


def _read_cert_id(tag: int, request: bytes) -> CertID:
    """Read the content of a Request."""
    parts = der.children(request)
    if tag != der.SEQUENCE or not _fit(_REQUEST, parts):
        raise Malformed("not an OCSP request")
    if len(parts) > 1:
        _known_extensions(parts[1][1])
    _, content, whole = parts[0]
    fields = der.children(content)
    if bytes(part[0] for part in fields) != _CERT_ID:
        raise Malformed("a CertID is malformed")
    _, octets, serial = fields[3]
    if len(octets) > _MAX_SERIAL:
        raise Malformed("a serial number has more than 20 octets")
    return CertID(
        whole,
        content[: len(content) - len(serial)],
        octets.hex().lstrip("0") if octets[0] < 0x80 else "",
    )


def _known_extensions(extensions: bytes) -> Mapping[str, bytes]:
    """Return extensions by type, all critical ones of which we know."""
    found = {}
    for extension in read_extensions(extensions, strict=False):
        # RFC 6960, section 4.4: unrecognized ones MUST be ignored, unless
        # they are critical.
        if extension.critical and extension.oid != NONCE:
            raise Malformed("a critical extension is unknown")
        found[extension.oid] = extension.value
    return found


def _read_nonce(extensions: bytes) -> bytes:
    """Return the nonce that is among the extensions, or nothing."""
    value = _known_extensions(extensions).get(NONCE)
    if value is None:
        return b""
    nonce = der.content(value, der.OCTET_STRING)
    # RFC 9654, section 2.1: any other MUST be rejected as malformed.
    if not 1 <= len(nonce) <= MAX_NONCE:
        raise Malformed(f"the nonce does not have 1 to {MAX_NONCE} octets")
    return nonce


# --- writing ----------------------------------------------------------------

_HASHES: Mapping[str, str] = {
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}

#: CRLReason of RFC 5280, section 5.3.1.  ``unspecified`` SHOULD be left out.
_REASONS: Mapping[str, bytes] = {
    name: der.explicit(0, der.tlv(_ENUMERATED, bytes((number,))))
    for name, number in CRL_REASONS.items()
    if name in REVOCATION_REASONS and number
}

#: CertStatus of RFC 6960, section 4.2.1.
GOOD = b"\x80\x00"
UNKNOWN = b"\x82\x00"


def _error(status: int) -> bytes:
    """Return an OCSPResponse that holds nothing but its status."""
    return der.sequence(der.tlv(_ENUMERATED, bytes((status,))))


MALFORMED_REQUEST = _error(1)
INTERNAL_ERROR = _error(2)
TRY_LATER = _error(3)
UNAUTHORIZED = _error(6)

_SUCCESSFUL = der.tlv(_ENUMERATED, b"\x00")


def revoked(at: datetime, reason: str) -> bytes:
    """
    Return the CertStatus of a revoked certificate.

    :param reason: a CRLReason name, or empty.
    """
    return der.tlv(0xA1, generalized_time(at) + _REASONS.get(reason, b""))


def single_response(
    cert_id: CertID,
    status: bytes,
    this_update: datetime,
    next_update: datetime,
) -> bytes:
    """Return a SingleResponse; ``status`` is a CertStatus."""
    return der.sequence(
        cert_id.der,
        status,
        generalized_time(this_update),
        der.explicit(0, generalized_time(next_update)),
    )


class ResponseForm:
    """
    What the responses of one responder share.

    :param certificate: DER of the responder's certificate, which goes with
        each response.
    :param algorithm: the signature's, a name of
        :mod:`trstctl.pkix.algorithms`.
    """

    def __init__(self, certificate: bytes, algorithm: str) -> None:
        self.algorithm = algorithm
        _, bits = _name_and_key(certificate)
        # RFC 6960, section 4.2.1: the hash of a KeyHash is SHA-1.
        key_hash = hashlib.sha1(bits, usedforsecurity=False).digest()
        self._responder = der.explicit(2, der.octet_string(key_hash))
        self._identifier = algorithm_identifier(algorithm)
        self._certs = der.explicit(0, der.sequence(certificate))

    def response_data(
        self, produced_at: datetime, singles: Sequence[bytes], nonce: bytes
    ) -> bytes:
        """Return the ResponseData, which is to be signed."""
        parts = [
            self._responder,
            generalized_time(produced_at),
            der.sequence(*singles),
        ]
        if nonce:
            parts.append(_nonce_extensions(1, nonce))
        return der.sequence(*parts)

    def response(self, response_data: bytes, signature: bytes) -> bytes:
        """Return the OCSPResponse."""
        basic = der.sequence(
            response_data,
            self._identifier,
            der.bit_string(signature),
            self._certs,
        )
        return _before_basic(len(basic)) + basic


# What stands before an inner value depends on its length only.


@lru_cache(maxsize=256)
def _before_basic(size: int) -> bytes:
    """Return what an OCSPResponse begins with, before its BasicOCSPResponse."""
    basic = der.octet_string(bytes(size))
    response_bytes = der.explicit(0, der.sequence(_BASIC, basic))
    whole = der.sequence(_SUCCESSFUL, response_bytes)
    return whole[: len(whole) - size]


def _nonce_extensions(number: int, nonce: bytes) -> bytes:
    """Return tagged Extensions with nothing but a nonce."""
    return _before_nonce(number, len(nonce)) + nonce


@lru_cache(maxsize=2 * MAX_NONCE)
def _before_nonce(number: int, size: int) -> bytes:
    """Return what such Extensions begin with, before the nonce's octets."""
    value = der.octet_string(der.octet_string(bytes(size)))
    extension = der.sequence(der.oid(NONCE), value)
    whole = der.explicit(number, der.sequence(extension))
    return whole[: len(whole) - size]


@lru_cache(maxsize=256)
# --- who is meant -----------------------------------------------------------


def issuer_forms(certificate: bytes) -> frozenset[bytes]:
    """
    Return each :attr:`CertID.issuer` that means this CA.

    :param certificate: DER of the CA certificate.
    """
    name, bits = _name_and_key(certificate)
    forms = set()
    for digest, oid in _HASHES.items():
        hashed = b"".join(
            der.octet_string(
                hashlib.new(digest, octets, usedforsecurity=False).digest()
            )
            for octets in (name, bits)
        )
        # RFC 4055, section 2.1: with NULL, or without parameters.
        for parameters in (_NULL, b""):
            forms.add(der.sequence(der.oid(oid), parameters) + hashed)
    return frozenset(forms)


def _name_and_key(certificate: bytes) -> tuple[bytes, bytes]:
    """Return DER of the subject, and the bits of the public key."""
    fields = der.children(
        der.content(split_signed(certificate)[0], der.SEQUENCE)
    )
    subject, spki = fields[5], fields[6]  # after the version of v3
    return subject[2], der.children(spki[1])[1][1][1:]


# --- what nearly all clients send -------------------------------------------


def plain_request(cert_id: CertID, nonce: bytes = b"") -> bytes:
    """Return the shortest request for a certificate."""
    asked = der.sequence(der.sequence(cert_id.der))
    extensions = _nonce_extensions(2, nonce) if nonce else b""
    return der.sequence(der.sequence(asked, extensions))


@frozen
class _Shape:
    """
    What the plain requests of one length have in common.

    :ivar head: the octets before the serial number's.
    :ivar cert_id: where the CertID begins.
    :ivar middle: the octets from the serial number to the nonce.
    """

    head: bytes
    cert_id: int
    issuer: bytes
    middle: bytes


class RequestReader:
    """
    Reads requests for the certificates of one CA.

    Nearly all clients send a plain request, whose octets are known but for
    serial number and nonce.  Where they are what they were in a request that
    was read in full, all is well with this one, too, and that takes a tenth
    of the time.

    :param certificate: DER of the CA certificate.
    """

    def __init__(self, certificate: bytes) -> None:
        self._forms = issuer_forms(certificate)
        # By length: there are no more than forms, and lengths of nonces.
        self._shapes: dict[int, _Shape] = {}

    def read(self, data: bytes) -> OCSPRequest:
        """
        Read an OCSPRequest.

        :raises TooLarge: more octets than :data:`MAX_REQUEST`.
        :raises Malformed: anything else that is wrong with it.
        :raises NotAuthorized: it asks for certificates of another CA.
        """
        request = self._recognized(data)
        if request is not None:
            return request
        request = read_request(data)
        for cert_id in request.cert_ids:
            # RFC 5019, section 2.2.3: unauthorized, if the server is not
            # capable of responding authoritatively.
            if cert_id.issuer not in self._forms:
                raise NotAuthorized("not a certificate of this authority")
        self._learn(data, request)
        return request

    def _recognized(self, data: bytes) -> OCSPRequest | None:
        """Return a plain request as another of its kind, or nothing."""
        shape = self._shapes.get(len(data))
        if shape is None:
            return None
        start = len(shape.head)
        end = start + _MAX_SERIAL
        after = end + len(shape.middle)
        # The first octet: neither negative nor one too many (DER).
        if (
            data[:start] != shape.head
            or data[end:after] != shape.middle
            or not 0x00 < data[start] < 0x80
        ):
            return None
        serial = data[start:end].hex().lstrip("0")
        asked = CertID(data[shape.cert_id : end], shape.issuer, serial)
        return OCSPRequest((asked,), data[after:])

    def _learn(self, data: bytes, request: OCSPRequest) -> None:
        """Remember what a plain request looks like."""
        asked, nonce = request.cert_ids[0], request.nonce
        serial_head = bytes((der.INTEGER, _MAX_SERIAL))
        if (
            asked.der[-_MAX_SERIAL - 2 : -_MAX_SERIAL] != serial_head
            or len(asked.serial) < 2 * _MAX_SERIAL - 1
            or plain_request(asked, nonce) != data
        ):
            return
        begin = data.index(asked.der)
        end = begin + len(asked.der)
        self._shapes[len(data)] = _Shape(
            data[: end - _MAX_SERIAL],
            begin,
            asked.issuer,
            data[end : len(data) - len(nonce)],
        )
