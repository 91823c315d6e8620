# SPDX-License-Identifier: MIT
"""CMP messages that the tests make up, next to those of real clients."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cmp_vectors import MESSAGES
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from pkix_samples import P256, spki

from trstctl.model import Name, NameAttribute
from trstctl.pkix import algorithms, der
from trstctl.pkix.cmp import PKIMessage, read_message
from trstctl.pkix.cmp_bodies import (
    read_cert_conf,
    read_error,
    read_gen_msg,
    read_nested,
    read_pkiconf,
    read_poll_req,
    read_pop_responses,
    read_rev_req,
)
from trstctl.pkix.crmf import certificate_request, read_cert_req_messages
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.pkix.csr import read_csr

NULL = b"\x05\x00"
START = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2036, 1, 1, tzinfo=UTC)


def cn(text: str) -> Name:
    """Return a name of one common name."""
    return ((NameAttribute("2.5.4.3", text),),)


@cache
def certificate(
    key: Any = P256,
    *,
    serial: int = 77,
    key_identifier: bool = True,
    digest: str = "SHA256",
) -> bytes:
    """
    Return a self-signed certificate, always the same.

    :param digest: a name that the library's module has, or empty.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "owner")])
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), serial, START, END
    )
    if key_identifier:
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
            critical=False,
        )
    algorithm = getattr(hashes, digest)() if digest else None
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


# --- CRMF -------------------------------------------------------------------

#: What most requests ask for: a subject and a key.
PLAIN = CertTemplate(subject=cn("device"), public_key=spki(P256))
ECDSA_WITH_SHA256 = algorithms.algorithm_identifier("ecdsa-with-sha256")
RA_VERIFIED = b"\x80\x00"
ENCR_CERT = b"\xa2\x03\x81\x01\x00"


def cert_request(
    template: bytes, controls: bytes = b"", *, number: int = 0
) -> bytes:
    """Return a CertRequest."""
    return der.sequence(der.integer(number), template, controls)


def signing_key(
    signed: bytes, *, choice: bytes = b"", signer: Any = P256
) -> bytes:
    """Return a proof of possession that is a signature."""
    signature = algorithms.sign(signer, "ecdsa-with-sha256", signed)
    return der.tlv(
        0xA1, choice + ECDSA_WITH_SHA256 + der.bit_string(signature)
    )


def requests(*messages: bytes) -> bytes:
    """Return CertReqMessages."""
    return der.sequence(*map(der.sequence, messages))


def control(number: int, value: bytes) -> bytes:
    """Return a control, which is an AttributeTypeAndValue."""
    return der.sequence(der.oid(f"1.3.6.1.5.5.7.5.1.{number}"), value)


# --- reading whatever there is ----------------------------------------------


def _read_requests(value: bytes) -> None:
    """Read requests as far as they can be read."""
    for message in read_cert_req_messages(value):
        certificate_request(message, lenient=True)


READERS: dict[str, Any] = {
    "ir": _read_requests,
    "cr": _read_requests,
    "kur": _read_requests,
    "p10cr": read_csr,
    "rr": read_rev_req,
    "genm": read_gen_msg,
    "certConf": read_cert_conf,
    "pkiconf": read_pkiconf,
    "pollReq": read_poll_req,
    "nested": read_nested,
    "popdecr": read_pop_responses,
    "error": read_error,
}


def read_everything(data: bytes) -> PKIMessage:
    """Read a message and its body."""
    message = read_message(data)
    reader = READERS.get(message.body.type)
    if reader is not None:
        reader(message.body.value)
    return message


_REPLACEMENTS = (
    b"",
    NULL,
    der.sequence(),
    der.integer(0),
    der.octet_string(b""),
    der.bit_string(b""),
    b"\x80\x00",
    b"\xa0\x00",
    der.sequence(der.sequence()),
    der.explicit(0, NULL),
)


def mutations(data: bytes) -> Iterator[bytes]:
    """
    Yield DER with each value, at any depth, left out, doubled, emptied,
    under another tag, or replaced; all lengths are right.
    """
    parts = der.children(data)
    for place, (tag, content, whole) in enumerate(parts):
        before = b"".join(part[2] for part in parts[:place])
        after = b"".join(part[2] for part in parts[place + 1 :])
        for other in (
            *_REPLACEMENTS,
            whole + whole,
            der.tlv(tag, b""),
            der.tlv(tag, content + NULL),
            der.tlv(tag ^ 0x01, content),
        ):
            yield before + other + after
        if tag & 0x20:
            for inner in mutations(content):
                yield before + der.tlv(tag, inner) + after


def captured(name: str) -> PKIMessage:
    """Return one of the messages of real clients."""
    return read_message(MESSAGES[name])
