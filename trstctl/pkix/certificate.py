# SPDX-License-Identifier: MIT
"""
X.509 certificates (RFC 5280): bytes to facts, and the signed envelope.

Reading follows :mod:`trstctl.pkix.csr`: walk, the library's schema, our own
readers, one ``Malformed``.  Only the extensions that we act on are read; a
device's factory certificate may hold others that nobody understands.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509

from trstctl.errors import Malformed, RequestError
from trstctl.model import CertificateFacts, Extension, GeneralName
from trstctl.pkix import der
from trstctl.pkix.algorithms import algorithm_identifier, describe_public_key
from trstctl.pkix.extensions import (
    BASIC_CONSTRAINTS,
    EXTENDED_KEY_USAGE,
    KEY_USAGE,
    SUBJECT_ALTERNATIVE_NAME,
    read_basic_constraints,
    read_extended_key_usage,
    read_extensions,
    read_key_usage,
)
from trstctl.pkix.names import read_general_names, read_name

_VERSION_TAG = 0xA0
_EXTENSIONS_TAG = 0xA3
_UTC_TIME = 0x17


def read_certificate(
    data: bytes, *, max_bytes: int = 65536
) -> CertificateFacts:
    """
    Read a certificate.  Nothing is verified.

    :param data: DER.
    :raises TooLarge: more than ``max_bytes``, or too many names.
    :raises Malformed: anything else that is wrong with it.
    """
    try:
        return _read(data, max_bytes)
    except RequestError:
        raise
    except Exception as error:
        raise Malformed("not an X.509 certificate") from error


# One request may have the same certificate read several times.
@lru_cache(maxsize=64)
def _read(data: bytes, max_bytes: int) -> CertificateFacts:
    """Read a certificate; may fail with any exception."""
    der.check(data, max_bytes=max_bytes)
    fields = der.children(der.content(split_signed(data)[0], der.SEQUENCE))
    if fields[0][0] == _VERSION_TAG:
        del fields[0]
    serial, _, issuer, validity, subject, spki = fields[:6]
    number = int.from_bytes(serial[1], "big", signed=True)
    # RFC 5280, section 4.1.2.2: a positive integer.  The library would warn.
    if number <= 0:
        raise Malformed("the serial number is not positive")
    x509.load_der_x509_certificate(data)
    not_before, not_after = der.children(validity[1])
    extensions: tuple[Extension, ...] = ()
    if fields[-1][0] == _EXTENSIONS_TAG:
        extensions = read_extensions(fields[-1][1], strict=False)
    values = {extension.oid: extension.value for extension in extensions}
    return CertificateFacts(
        der=data,
        subject=read_name(subject[2]),
        issuer=read_name(issuer[2]),
        serial=f"{number:x}",
        names=_alternative_names(values),
        not_before=_read_time(*not_before[:2]),
        not_after=_read_time(*not_after[:2]),
        public_key=describe_public_key(spki[2]),
        is_ca=(
            BASIC_CONSTRAINTS in values
            and read_basic_constraints(values[BASIC_CONSTRAINTS])[0]
        ),
        extended_key_usage=(
            read_extended_key_usage(values[EXTENDED_KEY_USAGE])
            if EXTENDED_KEY_USAGE in values
            else ()
        ),
        extensions=extensions,
    )


def may_be_used_for(facts: CertificateFacts, usage: str) -> bool:
    """
    Tell whether a certificate's key usage has a name in it; a certificate
    without one limits nothing (RFC 5280, section 4.2.1.3).

    :param usage: such as ``keyEncipherment``.
    """
    return all(
        usage in read_key_usage(extension.value)
        for extension in facts.extensions
        if extension.oid == KEY_USAGE
    )


def _alternative_names(values: dict[str, bytes]) -> tuple[GeneralName, ...]:
    """Return the subject alternative names."""
    value = values.get(SUBJECT_ALTERNATIVE_NAME)
    return read_general_names(value) if value is not None else ()


def _read_time(tag: int, value: bytes) -> datetime:
    """Read a Time, whose form the library has checked."""
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        # RFC 5280, section 4.1.2.5.1: 50 and later is the last century.
        text = ("19" if text >= "50" else "20") + text
    month, day, hour, minute, second = (
        int(text[at : at + 2]) for at in range(4, 14, 2)
    )
    return datetime(
        int(text[:4]), month, day, hour, minute, second, tzinfo=UTC
    )


# --- the signed envelope ----------------------------------------------------


def split_signed(data: bytes) -> tuple[bytes, bytes, bytes]:
    """
    Take a signed structure (certificate, CRL, request) apart.

    :returns: DER of what is signed, DER of the AlgorithmIdentifier, and the
        signature.
    :raises Malformed: it is no such structure.
    """
    parts = der.children(der.content(data, der.SEQUENCE))
    if [part[0] for part in parts] != [
        der.SEQUENCE,
        der.SEQUENCE,
        der.BIT_STRING,
    ] or parts[2][1][:1] != b"\x00":
        raise Malformed("not a signed structure")
    return parts[0][2], parts[1][2], parts[2][1][1:]


def assemble(tbs: bytes, algorithm: str, signature: bytes) -> bytes:
    """
    Put a signed structure together.

    :param algorithm: a name of :mod:`trstctl.pkix.algorithms`.
    :raises UnsupportedAlgorithm: no such name.
    """
    return der.sequence(
        tbs, algorithm_identifier(algorithm), der.bit_string(signature)
    )
