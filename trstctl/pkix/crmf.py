# SPDX-License-Identifier: MIT
"""
CRMF (RFC 4211): certificate request messages, bytes to values.

Theory of operation.  The octets come out of a PKIMessage that
:mod:`trstctl.pkix.cmp` has capped and walked.  What a signature or a MAC may
be over is kept as it was received, and never encoded again: a decoder that
drops what it thinks is empty (a NULL-DN) would make a valid proof of
possession invalid.

Nothing is judged here but what makes a message unreadable.  Whoever has read
the protection around it decides which proof of possession will do:
:func:`certificate_request` says what kind it is, and
:func:`trstctl.pkix.csr.verify_proof` accepts no kind but a signature unless
that decision is recorded in the request.

Implemented: all of CertTemplate; the controls of sections 6.1 to 6.6 and
those of RFC 9810; all choices of proof of possession, of which thisMessage,
dhMAC, agreeMAC and encryptedKey have a name only.  Refused: more than 16
requests in a message, controls that occur twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from attrs import field, frozen

from trstctl.errors import Malformed, ProofOfPossessionFailed, TooLarge
from trstctl.model import (
    CertificateRequest,
    GeneralName,
    PublicKey,
    SignatureProof,
)
from trstctl.pkix import der
from trstctl.pkix.algorithms import (
    describe_public_key,
    describe_wish,
    read_algorithm_identifier,
)
from trstctl.pkix.crmf_proof import (
    PrivateKey,
    ProofOfPossession,
    RAVerified,
    read_proof,
)
from trstctl.pkix.crmf_template import (
    CertId,
    CertTemplate,
    read_cert_id,
    read_template,
)
from trstctl.pkix.extensions import SUBJECT_ALTERNATIVE_NAME
from trstctl.pkix.names import UTF8_STRING, read_general_names, read_text

#: More in one message are refused before any is looked at.
MAX_REQUESTS = 16

_ID_REG_CTRL = "1.3.6.1.5.5.7.5.1."
_REG_INFO_CERT_REQ = "1.3.6.1.5.5.7.5.2.2"
_PUBLICATION_METHODS = frozenset({b"\x00", b"\x01", b"\x02", b"\x03"})

#: Controls by their wire names (RFC 4211, section 6; RFC 9810, 5.3.19.16).
CONTROLS: Mapping[str, str] = {
    name: f"{_ID_REG_CTRL}{arc}"
    for name, arc in (
        ("regToken", 1),
        ("authenticator", 2),
        ("pkiPublicationInfo", 3),
        ("pkiArchiveOptions", 4),
        ("oldCertID", 5),
        ("protocolEncrKey", 6),
        ("altCertTemplate", 7),
        ("algId", 11),
        ("rsaKeyLen", 12),
    )
}


@frozen
class Controls:
    """
    What a request says about how it is to be served.

    :ivar values: DER of every value, by dotted type.
    :ivar reg_token: a secret that is good once (section 6.1); secret.
    :ivar authenticator: a secret that is good for long (section 6.2);
        secret.
    :ivar publish: whether the certificate may be published (section 6.3);
        ``None`` if nothing is said.
    :ivar old_cert_id: the certificate to update (section 6.5).
    :ivar protocol_encr_key: DER SubjectPublicKeyInfo (section 6.6).
    """

    values: Mapping[str, bytes] = field(factory=dict, repr=False)
    reg_token: str | None = field(default=None, repr=False)
    authenticator: str | None = field(default=None, repr=False)
    publish: bool | None = None
    old_cert_id: CertId | None = None
    protocol_encr_key: bytes | None = field(default=None, repr=False)


# --- requests ---------------------------------------------------------------


@frozen
class CertReqMsg:
    """
    One request for a certificate.

    :ivar der: the whole, as it was received.
    :ivar cert_request: DER of the CertRequest, as it was received.
    :ivar proof: ``None`` if there is none.
    :ivar information: DER of regInfo; empty if there is none.
    :ivar reg_info: dotted type and DER value of each (section 7).
    :ivar alternate: what counts instead of the template, which the proof of
        possession is over all the same (section 7.2).
    """

    der: bytes = field(repr=False)
    cert_request: bytes = field(repr=False)
    cert_req_id: int
    template: CertTemplate
    controls: Controls
    proof: ProofOfPossession | None
    information: bytes = field(default=b"", repr=False)
    reg_info: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    alternate: CertTemplate | None = None

    @property
    def wanted(self) -> CertTemplate:
        """The template that counts."""
        return self.alternate or self.template


def read_cert_req_messages(value: bytes) -> tuple[CertReqMsg, ...]:
    """
    Read CertReqMessages (section 3).

    :param value: DER, already seen by :func:`trstctl.pkix.der.check`.
    :raises TooLarge: more than :data:`MAX_REQUESTS`.
    :raises Malformed: anything else that is wrong with it.
    """
    messages = der.children(der.content(value, der.SEQUENCE))
    if len(messages) > MAX_REQUESTS:
        raise TooLarge("too many certificate requests in one message")
    if not messages:
        raise Malformed("no certificate request")
    return tuple(_read_message(tag, *rest) for tag, *rest in messages)


def _read_message(tag: int, content: bytes, whole: bytes) -> CertReqMsg:
    """Read a CertReqMsg."""
    parts = der.children(content)
    if tag != der.SEQUENCE or not parts or parts[0][0] != der.SEQUENCE:
        raise Malformed("a certificate request is malformed")
    _, fields, request = parts.pop(0)
    proof = None
    if parts and parts[0][0] != der.SEQUENCE:
        proof = read_proof(*parts.pop(0)[:2])
    if len(parts) > 1:
        raise Malformed("a certificate request is malformed")
    cert_req_id, template, controls = _read_request(fields)
    information = parts[0][2] if parts else b""
    reg_info = read_types_and_values(information) if parts else ()
    return CertReqMsg(
        der=whole,
        cert_request=request,
        cert_req_id=cert_req_id,
        template=template,
        controls=controls,
        proof=proof,
        information=information,
        reg_info=reg_info,
        alternate=_read_alternate(reg_info, cert_req_id, controls),
    )


def _read_alternate(
    reg_info: tuple[tuple[str, bytes], ...],
    cert_req_id: int,
    controls: Controls,
) -> CertTemplate | None:
    """Read the request that somebody has put beside the other (7.2)."""
    found = [value for oid, value in reg_info if oid == _REG_INFO_CERT_REQ]
    if not found:
        return None
    number, template, others = _read_request(
        der.content(found[0], der.SEQUENCE)
    )
    if (
        len(found) > 1
        or number != cert_req_id
        or (others.values and others != controls)
    ):
        raise Malformed("the request in regInfo contradicts the other")
    return template


def _read_request(content: bytes) -> tuple[int, CertTemplate, Controls]:
    """Read the fields of a CertRequest (section 5)."""
    parts = der.children(content)
    if [part[0] for part in parts] not in (
        [der.INTEGER, der.SEQUENCE],
        [der.INTEGER, der.SEQUENCE, der.SEQUENCE],
    ):
        raise Malformed("a certificate request is malformed")
    return (
        int.from_bytes(parts[0][1], "big", signed=True),
        read_template(parts[1][2]),
        _read_controls(parts[2][2]) if len(parts) > 2 else Controls(),
    )


def read_types_and_values(value: bytes) -> tuple[tuple[str, bytes], ...]:
    """
    Read a SEQUENCE OF AttributeTypeAndValue.

    :returns: dotted type and DER value of each, in order.
    :raises Malformed: it is none, or is empty.
    """
    found = []
    for tag, attribute, _ in der.children(der.content(value, der.SEQUENCE)):
        parts = der.children(attribute)
        if (
            tag != der.SEQUENCE
            or len(parts) != 2
            or parts[0][0] != der.OBJECT_IDENTIFIER
        ):
            raise Malformed("a certificate request is malformed")
        found.append((der.oid_text(parts[0][1]), parts[1][2]))
    if not found:  # SIZE(1..MAX)
        raise Malformed("a certificate request is malformed")
    return tuple(found)


def _read_controls(value: bytes) -> Controls:
    """Read Controls (section 6)."""
    found = read_types_and_values(value)
    values = dict(found)
    # Whoever relied on one would have to wonder why not on the other.
    if len(values) != len(found):
        raise Malformed("a control occurs twice")
    old_cert_id = values.get(CONTROLS["oldCertID"])
    encryption_key = values.get(CONTROLS["protocolEncrKey"])
    if encryption_key is not None:
        describe_public_key(encryption_key)
    return Controls(
        values=values,
        reg_token=_read_utf8(values.get(CONTROLS["regToken"])),
        authenticator=_read_utf8(values.get(CONTROLS["authenticator"])),
        publish=_read_publication(values.get(CONTROLS["pkiPublicationInfo"])),
        old_cert_id=None if old_cert_id is None else read_cert_id(old_cert_id),
        protocol_encr_key=encryption_key,
    )


def _read_utf8(value: bytes | None) -> str | None:
    """Read the text of a control."""
    if value is None:
        return None
    return read_text(UTF8_STRING, der.content(value, UTF8_STRING))


def _read_publication(value: bytes | None) -> bool | None:
    """Read the action of a PKIPublicationInfo (section 6.3)."""
    if value is None:
        return None
    parts = der.children(der.content(value, der.SEQUENCE))
    # dontPublish names no places; pleasePublish may.
    if [part[0] for part in parts] == [der.INTEGER] and parts[0][1] == b"\x00":
        return False
    if [part[0] for part in parts] not in (
        [der.INTEGER],
        [der.INTEGER, der.SEQUENCE],
    ) or parts[0][1] != b"\x01":
        raise Malformed("the publication information is malformed")
    for tag, content, _ in der.children(parts[1][1] if parts[1:] else b""):
        place = der.children(content) if tag == der.SEQUENCE else []
        # What the place is called is the server's to make sense of.
        if (
            not 1 <= len(place) <= 2
            or place[0][0] != der.INTEGER
            or place[0][1] not in _PUBLICATION_METHODS
        ):
            raise Malformed("the publication information is malformed")
    return True


# --- to the registration authority ------------------------------------------


def certificate_request(
    message: CertReqMsg, *, lenient: bool = False
) -> CertificateRequest:
    """
    Return a request as the registration authority takes it.

    Whoever has authorized a proof of another kind than a signature sets
    ``accepted`` in it; nobody signs for the request otherwise.

    A template without a key asks for one: the request's key has no octets
    then, and stands for the wish.

    :param lenient: a signature over the CertRequest will do even if the
        template has no subject, and poposkInput is missing for it: OpenSSL
        signs like this without ``-subject``.
    :raises Malformed: its key or its names are none.
    :raises TooLarge: too many names.
    :raises ProofOfPossessionFailed: what was signed is not what section 4.1
        says.
    """
    template = message.wanted
    extensions = template.extensions or ()
    names: tuple[GeneralName, ...] = ()
    for extension in extensions:
        if extension.oid == SUBJECT_ALTERNATIVE_NAME:
            names = read_general_names(extension.value)
    return CertificateRequest(
        der=message.der,
        subject=template.subject or (),
        public_key=_key(message),
        names=names,
        extensions=extensions,
        proof=_possession(message, lenient=lenient),
        kept=_without_secrets(message),
        # A signature over poposkInput is over the key only, and none is over
        # regInfo.
        unproven=message.cert_request + message.information,
    )


def _without_secrets(message: CertReqMsg) -> bytes | None:
    """
    Return a request as it may be kept; ``None``: as it is.

    Each octet of a secret is replaced by ``x``, so that the signature does
    not verify any more.
    """
    kept = message.der
    for name in ("regToken", "authenticator"):
        value = message.controls.values.get(CONTROLS[name])
        if value is not None:
            oid = der.oid(CONTROLS[name])
            octets = len(der.content(value, UTF8_STRING))
            blank = der.tlv(UTF8_STRING, b"x" * octets)
            kept = kept.replace(oid + value, oid + blank)
    return None if kept == message.der else kept


def _key(message: CertReqMsg) -> PublicKey:
    """Return the template's key, or what stands for one to be made."""
    template = message.template
    if template.public_key is not None:
        return describe_public_key(template.public_key)
    algorithm, bits = "", 0
    if template.key_algorithm is not None:
        algorithm, bits = describe_wish(template.key_algorithm)
    # A secret that pays for the key has to be burnt for something: for the
    # template, as what is kept of the controls may not be all of them.
    parts = der.children(der.content(message.cert_request, der.SEQUENCE))
    wish = hashlib.sha256(parts[1][2]).hexdigest()
    return PublicKey(b"", algorithm, bits, wish)


def _possession(message: CertReqMsg, *, lenient: bool) -> SignatureProof:
    """Say how the requester proves to hold the private key."""
    proof, template = message.proof, message.template
    signed = message.cert_request
    if isinstance(proof, RAVerified):
        return SignatureProof("", "", signed, b"", kind="ra-verified")
    if isinstance(proof, PrivateKey):
        kind = "encryption" if proof.method == "encrCert" else "other"
        return SignatureProof("", "", signed, b"", kind=kind)
    if proof is None:
        kind = "none" if template.public_key is not None else "generated"
        return SignatureProof("", "", signed, b"", kind=kind)
    complete = template.subject is not None and template.public_key is not None
    # RFC 4211, section 4.1: poposkInput MUST be omitted if the template has
    # both subject and key, and MUST be present and signed otherwise.
    if complete != (proof.input is None) and not (
        lenient and proof.input is None
    ):
        raise ProofOfPossessionFailed(
            "the proof of possession is not over what it must be over"
        )
    if proof.input is not None:
        # Section 4.1: exactly the key of the template.
        if template.public_key != proof.input.public_key:
            raise ProofOfPossessionFailed
        signed = proof.input.der
    algorithm, digest, parameters = read_algorithm_identifier(proof.algorithm)
    return SignatureProof(
        algorithm, digest, signed, proof.signature, parameters
    )
