# SPDX-License-Identifier: MIT
"""
SCEP messages (RFC 8894): bytes to values, and back.  Sans-IO, no keys.

A pkiMessage is a SignedData around an EnvelopedData around what is asked
for.  This module reads the outer two and writes both; the certification
request within is for :mod:`trstctl.pkix.csr`.

Reading happens in two steps, because what fails in the first cannot be
answered by a message, and what fails in the second must be:
:func:`read_message` finds out who asks what under which transactionID;
:func:`check_message` judges algorithms and signature.
"""

from __future__ import annotations

import binascii
import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from attrs import field, frozen

from trstctl.errors import Malformed, RequestError, UnsupportedAlgorithm
from trstctl.model import PublicKey
from trstctl.pkix import algorithms, der
from trstctl.pkix.certificate import split_signed
from trstctl.pkix.cms import DATA, IssuerAndSerial, read_issuer_and_serial
from trstctl.pkix.names import (
    PRINTABLE_STRING,
    UTF8_STRING,
    names_match,
    read_name,
)
from trstctl.pkix.signed import (
    SignedData,
    SignerInfo,
    read_signed_data,
    verify_signer,
)
from trstctl.pkix.signing import PreparedSignedData, prepare_signed

#: More than any request needs, and certmonger's are the longest.
MAX_MESSAGE = 65536

#: What is said of every message that no message can answer.
UNREADABLE = "not a SCEP message"

# RFC 8894, section 3.2.1.
_MESSAGE_TYPE = "2.16.840.1.113733.1.9.2"
_PKI_STATUS = "2.16.840.1.113733.1.9.3"
_FAIL_INFO = "2.16.840.1.113733.1.9.4"
_SENDER_NONCE = "2.16.840.1.113733.1.9.5"
_RECIPIENT_NONCE = "2.16.840.1.113733.1.9.6"
_TRANSACTION_ID = "2.16.840.1.113733.1.9.7"
_FAIL_INFO_TEXT = "1.3.6.1.5.5.7.24.1"

#: messageType (section 3.2.1.2): those that a client may send.
RENEWAL_REQ = "17"
PKCS_REQ = "19"
CERT_POLL = "20"
GET_CERT = "21"
GET_CRL = "22"
_CERT_REP = "3"

#: Names of the message types, for the log.
MESSAGE_TYPES = {
    RENEWAL_REQ: "RenewalReq",
    PKCS_REQ: "PKCSReq",
    CERT_POLL: "CertPoll",
    GET_CERT: "GetCert",
    GET_CRL: "GetCRL",
}

#: Those that ask for a certificate.
ENROLLMENTS = frozenset({RENEWAL_REQ, PKCS_REQ})

#: pkiStatus (section 3.2.1.3).
SUCCESS, FAILURE, PENDING = "0", "2", "3"

#: failInfo (section 3.2.1.4).
FAIL_INFO = {
    "badAlg": "0",
    "badMessageCheck": "1",
    "badRequest": "2",
    "badTime": "3",
    "badCertId": "4",
}


_PRINTABLE = re.compile(rb"[A-Za-z0-9 '()+,\-./:=?]{1,255}")
_DECIMAL = re.compile(rb"[0-9]{1,3}")

#: The nonce has 16 octets (section 3.2.1.5); early iOS sends 8.
_NONCE = range(8, 33)

#: What becomes of base64 on its way: ``+`` a space, or another alphabet.
_BASE64_NOISE = bytes.maketrans(b" -_", b"++/")


@frozen
class PKIMessage:
    """
    A request of which nothing is verified yet.

    :ivar message_type: the digits of messageType.
    :ivar transaction: the transactionID.
    :ivar signer: DER of the certificate that signed.
    :ivar signer_key: its key.
    :ivar content: what the SignedData is around; empty if nothing is.
    """

    message_type: str
    transaction: str
    sender_nonce: bytes = field(repr=False)
    signer: bytes = field(repr=False)
    signer_key: PublicKey
    content: bytes = field(repr=False)
    _signed: SignedData = field(repr=False)

    @property
    def digest(self) -> str:
        """The digest that it is signed with."""
        return self._info.digest

    @property
    def algorithm(self) -> str:
        """The signature algorithm that it is signed with."""
        return self._info.algorithm

    @property
    def signature(self) -> bytes:
        """The signature."""
        return self._info.signature

    @property
    def _info(self) -> SignerInfo:
        """Its one signer."""
        return self._signed.signers[0]


def read_message(data: bytes) -> PKIMessage:
    """
    Read what a request must have to be answered by a message.

    :raises Malformed: it is no pkiMessage (RFC 8894, section 3), or has not
        what an answer repeats.
    :raises TooLarge: it is too long.
    """
    signed = read_signed_data(data, max_bytes=MAX_MESSAGE)
    info = signed.signers[0]
    # RFC 8894, section 3.2: the signer's certificate MUST be in it.
    if info.certificate is None or signed.content_type != DATA:
        raise Malformed
    try:
        return PKIMessage(
            _text(info, _MESSAGE_TYPE, _DECIMAL),
            _text(info, _TRANSACTION_ID, _PRINTABLE),
            _nonce(info),
            info.certificate,
            read_certificate_key(info.certificate),
            signed.content or b"",
            signed,
        )
    except (IndexError, ValueError):
        raise Malformed from None


def read_certificate_key(certificate: bytes) -> PublicKey:
    """
    Return the public key in a certificate, whatever else is wrong with it.

    A signer's self-signed certificate only carries its key: Windows puts
    extensions into it that X.509 forbids.

    :raises Malformed: it is no certificate.
    """
    spki = _fields(certificate)[6][2]
    return algorithms.describe_public_key(spki)


@lru_cache(maxsize=64)
def _fields(certificate: bytes) -> list[tuple[int, bytes, bytes]]:
    """Return the fields of a TBSCertificate, with its version."""
    signed, _, _ = split_signed(certificate)
    fields = der.children(der.content(signed, der.SEQUENCE))
    if fields[0][0] != 0xA0:  # version 1 has none
        fields = [(0xA0, b"", b""), *fields]
    if len(fields) < 7 or fields[6][0] != der.SEQUENCE:
        raise Malformed
    return fields


def _text(info: SignerInfo, oid: str, form: re.Pattern[bytes]) -> str:
    """Return a PrintableString attribute."""
    value = info.attribute(oid)
    if value is None:
        raise Malformed
    tag, text, _ = der.children(value)[0]
    if tag != PRINTABLE_STRING or not form.fullmatch(text):
        raise Malformed
    return text.decode("ascii")


def _nonce(info: SignerInfo) -> bytes:
    """Return the senderNonce."""
    value = info.attribute(_SENDER_NONCE)
    if value is None:
        raise Malformed
    nonce = der.content(value, der.OCTET_STRING)
    if len(nonce) not in _NONCE:
        raise Malformed
    return nonce


def check_message(message: PKIMessage, digests: frozenset[str]) -> None:
    """
    Verify that the signer signed the message.

    Costs what the signer's key makes it cost: judge the key first.

    :param digests: what may be signed with; ``sha1`` only if it is here.
    :raises UnsupportedAlgorithm: signed with anything else.
    :raises MessageCheckFailed: the signature does not verify.
    """
    if message.digest not in digests:
        raise UnsupportedAlgorithm(
            f"the message is signed with {message.digest}"
        )
    verify_signer(
        message._signed,  # noqa: SLF001 (ours)
        message._info,  # noqa: SLF001
        message.signer_key.spki,
        legacy="sha1" in digests,
    )


# --- how messages travel ----------------------------------------------------


def decode_query(query: bytes) -> tuple[str, bytes | None]:
    """
    Return operation and message of a query (RFC 8894, section 4.1).

    :returns: the message still in its text form; ``None`` if there is none.
    :raises Malformed: one of them occurs twice, or cannot be read.
    """
    found: dict[bytes, bytes] = {}
    for part in filter(None, query.split(b"&")):
        name, _, value = part.partition(b"=")
        name = name.lower()
        if name in found:
            raise Malformed
        found[name] = unquote_to_bytes(value)
    operation = found.get(b"operation", b"")
    try:
        return operation.decode("ascii"), found.get(b"message")
    except UnicodeDecodeError:
        raise Malformed from None


def decode_get(message: bytes) -> bytes:
    """
    Return the octets of a message that came in a query.

    Base64 whose ``+`` was not escaped may arrive as a space; lines, also at
    the end, and missing padding are what clients send, and so is the
    alphabet of base64url (micromdm/scep issue 249).  Proxies escape what is
    escaped already.

    :raises Malformed: it is no base64.
    """
    if b"%" in message:
        message = unquote_to_bytes(message)
    text = message.translate(_BASE64_NOISE, b"\r\n\t").rstrip(b"=")
    try:
        return binascii.a2b_base64(
            text + b"=" * (-len(text) % 4), strict_mode=True
        )
    except binascii.Error:
        raise Malformed(UNREADABLE) from None


# --- what is asked for ------------------------------------------------------


def read_named(data: bytes) -> IssuerAndSerial:
    """
    Read the content of a GetCert or GetCRL (RFC 8894, section 3.3.4).

    :raises Malformed: it is no IssuerAndSerialNumber.
    """
    der.check(data, max_bytes=MAX_MESSAGE)
    named = read_issuer_and_serial(data)
    read_name(named.issuer)
    return named


def is_issued_by(certificate: bytes, issuer: bytes) -> bool:
    """
    Tell whether a certificate names another's subject as its issuer.

    A self-signed one does not, whatever its name.
    """
    fields = _fields(certificate)
    issued_by = fields[3][2]
    return issued_by != fields[5][2] and is_subject(issued_by, issuer)


def is_subject(name: bytes, certificate: bytes) -> bool:
    """
    Tell whether a name is a certificate's subject.

    Clients write names anew, in other string types; what cannot be read as
    a name is none of ours.
    """
    own = _fields(certificate)[5][2]
    if name == own:
        return True
    try:
        return names_match(read_name(name), read_name(own))
    except RequestError:
        return False


# --- answers ----------------------------------------------------------------


@frozen
class Answer:
    """
    What a CertRep says (RFC 8894, section 3.3.2).

    :ivar status: :data:`SUCCESS`, :data:`FAILURE` or :data:`PENDING`.
    :ivar fail_info: a key of :data:`FAIL_INFO`, for a failure.
    :ivar text: failInfoText, or empty.
    :ivar envelope: DER of the EnvelopedData, for a success.
    """

    status: str
    fail_info: str = ""
    text: str = ""
    envelope: bytes = field(default=b"", repr=False)


def prepare_answer(
    answer: Answer,
    message: PKIMessage,
    nonce: bytes,
    certificate: bytes,
    digests: frozenset[str],
) -> PreparedSignedData:
    """
    Put a CertRep together, all but its signature.

    The content of a failure, and of a request that is held, is present and
    empty: certmonger reads no other.

    :param nonce: fresh; the senderNonce.
    :param certificate: DER of the signer's, which has an RSA key.
    :param digests: what the endpoint signs with; the request's own if it is
        here, else SHA-256.
    """
    attributes = {
        _MESSAGE_TYPE: [_printable(_CERT_REP)],
        _PKI_STATUS: [_printable(answer.status)],
        _TRANSACTION_ID: [_printable(message.transaction)],
        _RECIPIENT_NONCE: [der.octet_string(message.sender_nonce)],
        _SENDER_NONCE: [der.octet_string(nonce)],
    }
    if answer.status == FAILURE:
        attributes[_FAIL_INFO] = [_printable(FAIL_INFO[answer.fail_info])]
        if answer.text:
            attributes[_FAIL_INFO_TEXT] = [
                der.tlv(UTF8_STRING, answer.text[:255].encode("utf-8"))
            ]
    digest = message.digest if message.digest in digests else "sha256"
    return prepare_signed(
        answer.envelope,
        certificate=certificate,
        algorithm=f"{digest}-with-rsa",
        attributes=attributes,
    )


def _printable(text: str) -> bytes:
    """Return a PrintableString."""
    return der.tlv(PRINTABLE_STRING, text.encode("ascii"))
