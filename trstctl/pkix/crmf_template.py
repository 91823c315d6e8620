# SPDX-License-Identifier: MIT
"""
CertTemplate and CertId of CRMF (RFC 4211, section 5), both ways.

A template says what its sender wants or knows of a certificate, and leaves
out the rest.  What is left out is ``None`` here: a subject that is absent
and a subject without any RDN (the NULL-DN) are not the same, and neither
are a key that is absent and an algorithm without a key, which asks for a
key of that algorithm (RFC 9483, section 4.1.6).

Every reader takes DER that :func:`trstctl.pkix.der.check` has seen.
"""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from trstctl.errors import Malformed
from trstctl.model import Extension, Name
from trstctl.pkix import der
from trstctl.pkix.extensions import read_extensions
from trstctl.pkix.names import encode_name, read_general_names, read_name
from trstctl.pkix.times import read_time, time

_VERSION = 0x80
_SERIAL_NUMBER = 0x81
_SIGNING_ALG = 0xA2
_ISSUER = 0xA3
_VALIDITY = 0xA4
_SUBJECT = 0xA5
_PUBLIC_KEY = 0xA6
_ISSUER_UID = 0x87
_SUBJECT_UID = 0x88
_EXTENSIONS = 0xA9
_ORDER = bytes(
    (
        _VERSION,
        _SERIAL_NUMBER,
        _SIGNING_ALG,
        _ISSUER,
        _VALIDITY,
        _SUBJECT,
        _PUBLIC_KEY,
        _ISSUER_UID,
        _SUBJECT_UID,
        _EXTENSIONS,
    )
)
_NOT_BEFORE = 0xA0
_NOT_AFTER = 0xA1
_DIRECTORY_NAME = 0xA4
_EMPTY_BITS = b"\x00"


@frozen
class CertTemplate:
    """
    Some fields of a certificate; ``None`` is what was left out.

    :ivar version: 2 stands for version 3 (RFC 5280, section 4.1.2.1).
    :ivar serial: hexadecimal, as everywhere; may be negative.
    :ivar signing_alg: DER AlgorithmIdentifier.
    :ivar subject: ``()`` is the NULL-DN.
    :ivar public_key: DER SubjectPublicKeyInfo.
    :ivar key_algorithm: DER AlgorithmIdentifier of the key that is to be
        generated, if the key itself is an empty BIT STRING.
    :ivar unique_ids: whether a deprecated unique identifier is there.
    """

    version: int | None = None
    serial: str | None = None
    signing_alg: bytes | None = None
    issuer: Name | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    subject: Name | None = None
    public_key: bytes | None = field(default=None, repr=False)
    key_algorithm: bytes | None = None
    unique_ids: bool = False
    extensions: tuple[Extension, ...] | None = None

    def der(self) -> bytes:
        """Return the CertTemplate; unique identifiers are never written."""
        fields = []
        if self.version is not None:
            fields.append(_implicit(_VERSION, der.integer(self.version)))
        if self.serial is not None:
            number = der.integer(int(self.serial, 16))
            fields.append(_implicit(_SERIAL_NUMBER, number))
        if self.signing_alg is not None:
            fields.append(_implicit(_SIGNING_ALG, self.signing_alg))
        if self.issuer is not None:
            fields.append(der.tlv(_ISSUER, encode_name(self.issuer)))
        validity = b"".join(
            der.tlv(tag, time(when))
            for tag, when in (
                (_NOT_BEFORE, self.not_before),
                (_NOT_AFTER, self.not_after),
            )
            if when is not None
        )
        if validity:
            fields.append(der.tlv(_VALIDITY, validity))
        if self.subject is not None:
            fields.append(der.tlv(_SUBJECT, encode_name(self.subject)))
        if self.public_key is not None:
            fields.append(_implicit(_PUBLIC_KEY, self.public_key))
        elif self.key_algorithm is not None:
            key = self.key_algorithm + der.bit_string(b"")
            fields.append(der.tlv(_PUBLIC_KEY, key))
        if self.extensions is not None:
            encoded = b"".join(map(_extension, self.extensions))
            fields.append(der.tlv(_EXTENSIONS, encoded))
        return der.sequence(*fields)


def _implicit(tag: int, value: bytes) -> bytes:
    """Return an encoded value of ours under another tag."""
    # The length follows the tag as it is, whatever its form.
    return bytes((tag,)) + value[1:]


def _extension(extension: Extension) -> bytes:
    """Return an Extension."""
    return der.sequence(
        der.oid(extension.oid),
        der.boolean(True) if extension.critical else b"",
        der.octet_string(extension.value),
    )


def read_template(template: bytes) -> CertTemplate:
    """
    Read a CertTemplate.

    :raises Malformed: it is none.
    """
    fields = der.fields(
        der.children(der.content(template, der.SEQUENCE)), _ORDER
    )
    issuer, subject = fields.get(_ISSUER), fields.get(_SUBJECT)
    public_key, key_algorithm = _read_key(fields.get(_PUBLIC_KEY))
    version = _integer(fields.get(_VERSION))
    serial = _integer(fields.get(_SERIAL_NUMBER))
    algorithm = fields.get(_SIGNING_ALG)
    extensions = fields.get(_EXTENSIONS)
    validity = der.fields(
        der.children(fields.get(_VALIDITY, b"")),
        bytes((_NOT_BEFORE, _NOT_AFTER)),
    )
    return CertTemplate(
        version=version,
        serial=None if serial is None else f"{serial:x}",
        signing_alg=(
            None if algorithm is None else der.tlv(der.SEQUENCE, algorithm)
        ),
        issuer=None if issuer is None else read_name(issuer),
        not_before=_read_time(validity.get(_NOT_BEFORE)),
        not_after=_read_time(validity.get(_NOT_AFTER)),
        subject=None if subject is None else read_name(subject),
        public_key=public_key,
        key_algorithm=key_algorithm,
        unique_ids=not fields.keys().isdisjoint({_ISSUER_UID, _SUBJECT_UID}),
        extensions=(
            None
            if extensions is None
            else read_extensions(der.tlv(der.SEQUENCE, extensions))
        ),
    )


def _integer(value: bytes | None) -> int | None:
    """Read the content octets of an INTEGER that has another tag."""
    if value is None:
        return None
    der.check(der.tlv(der.INTEGER, value))
    return int.from_bytes(value, "big", signed=True)


def _read_time(explicit: bytes | None) -> datetime | None:
    """Read the Time under an explicit tag."""
    if explicit is None:
        return None
    parts = der.children(explicit)
    if len(parts) != 1:
        raise Malformed("a time is malformed")
    return read_time(*parts[0][:2])


def _read_key(content: bytes | None) -> tuple[bytes | None, bytes | None]:
    """Return the key, or the algorithm of the key that is asked for."""
    if content is None:
        return None, None
    parts = der.children(content)
    if [part[0] for part in parts] != [der.SEQUENCE, der.BIT_STRING]:
        raise Malformed("the public key is malformed")
    if parts[1][1] == _EMPTY_BITS:
        return None, parts[0][2]
    return der.tlv(der.SEQUENCE, content), None


# --- names and certificates by name -----------------------------------------


def directory_name(name: Name) -> bytes:
    """Return a GeneralName that is a directoryName."""
    return der.tlv(_DIRECTORY_NAME, encode_name(name))


def read_directory_name(part: tuple[int, bytes, bytes]) -> Name | None:
    """
    Read a GeneralName.

    :param part: one of :func:`trstctl.pkix.der.children`.
    :returns: ``None`` if it is one, but no directoryName.
    :raises Malformed: it is none.
    """
    if part[0] == _DIRECTORY_NAME:
        return read_name(part[1])
    read_general_names(der.sequence(part[2]))
    return None


@frozen
class CertId:
    """
    What names a certificate in CMP (RFC 4211, section 6.5).

    :ivar issuer: ``None`` if the issuer is named by no directoryName.
    :ivar serial: hexadecimal, as everywhere; may be negative.
    """

    issuer: Name | None
    serial: str

    def der(self) -> bytes:
        """Return the CertId, of an issuer that has a name."""
        return der.sequence(
            directory_name(self.issuer or ()),
            der.integer(int(self.serial, 16)),
        )


def read_cert_id(value: bytes) -> CertId:
    """
    Read a CertId.

    :raises Malformed: it is none.
    """
    parts = der.children(der.content(value, der.SEQUENCE))
    if len(parts) != 2 or parts[1][0] != der.INTEGER:
        raise Malformed("a certificate is not named by issuer and serial")
    number = int.from_bytes(parts[1][1], "big", signed=True)
    return CertId(read_directory_name(parts[0]), f"{number:x}")
