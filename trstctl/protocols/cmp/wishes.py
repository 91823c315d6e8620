# SPDX-License-Identifier: MIT
"""
What a client asks to have certified: ir, cr, kur and p10cr (RFC 9483, 4.1).

What the profile decides is left to it.  Judged here is what is CMP's own: how
many requests, their certReqId, what a template must and must not have, the
certificate that an update names, which proof of possession will do, and
whether the gateway makes the key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve, field, frozen

from trstctl.errors import Malformed, TooLarge
from trstctl.key_maker import as_asked
from trstctl.model import (
    CertificateFacts,
    CertificateRequest,
    CSRWishes,
    Name,
    PublicKey,
    SignatureProof,
)
from trstctl.pkix.cmp import PKIBody
from trstctl.pkix.crmf import (
    CertReqMsg,
    Controls,
    certificate_request,
    read_cert_req_messages,
)
from trstctl.pkix.crmf_faults import find_fault
from trstctl.pkix.crmf_proof import PrivateKey
from trstctl.pkix.csr import read_csr
from trstctl.pkix.extensions import (
    BASIC_CONSTRAINTS,
    EXTENDED_KEY_USAGE,
    SUBJECT_ALTERNATIVE_NAME,
    read_basic_constraints,
    read_extended_key_usage,
)
from trstctl.pkix.names import names_match
from trstctl.policy.extensions import EXTENDED_KEY_USAGES
from trstctl.protocols.cmp.delivery import USAGES, check_receiver
from trstctl.protocols.cmp.parties import Party, SignerParty
from trstctl.protocols.cmp.refusals import refuse, restate

#: What each request is answered with.
ANSWERS: Mapping[str, str] = {
    "ir": "ip",
    "cr": "cp",
    "p10cr": "cp",
    "kur": "kup",
}

#: certReqId where there is none (RFC 9483, section 4.1.4).
NO_ID = -1

#: What is said of a part of a request that cannot be read.
_MALFORMED: Mapping[str, tuple[str, str]] = {
    "template": ("badCertTemplate", "template-malformed"),
    "popo": ("badPOP", "pop-malformed"),
}

_VERSION_3 = 2
_V2021 = 3
_CMC = frozenset(
    {
        EXTENDED_KEY_USAGES["cmcCA"],
        EXTENDED_KEY_USAGES["cmcRA"],
        "1.3.6.1.5.5.7.3.32",  # cmKGA
    }
)


@frozen
class Wish:
    """
    One request for a certificate.

    :ivar modified: whether it asks for something that only the profile
        decides, such as a validity.
    :ivar controls: how it is to be served.
    """

    cert_req_id: int
    wanted: CertificateRequest
    modified: bool = False
    controls: Controls = field(factory=Controls)


def cert_req_id_of(body: PKIBody) -> int:
    """Return the certReqId that a refusal repeats, as far as one is there."""
    if body.type == "p10cr":
        return NO_ID
    return find_fault(body.value).cert_req_id


def read_wish(
    body: PKIBody,
    party: Party,
    issuer: Name,
    *,
    version: int,
    key_wishes: CSRWishes | None,
    strict: bool,
    lenient: bool,
) -> Wish:
    """
    Read the one request of a body.

    :param issuer: the subject of the endpoint's CA.
    :param version: the message's pvno.
    :param key_wishes: what the profile says of keys, if one is made where
        the template has none.
    :param lenient: the profile forgives small faults.
    :raises RequestError: with the failInfo of RFC 9483.
    """
    if body.type == "p10cr":
        return _read_p10cr(body, party, lenient=lenient)
    messages = _read_messages(body)
    if len(messages) != 1:
        raise refuse(
            "badRequest",
            "one-request",
            "a message must have exactly one certificate request",
        )
    (message,) = messages
    # RFC 9483, section 4.1.1; RFC 9810, section 5.3.4: -1 is p10cr's.
    if message.cert_req_id == NO_ID or (strict and message.cert_req_id):
        raise refuse("badRequest", "cert-req-id", "certReqId must be 0")
    issuers = [issuer]
    if not strict and isinstance(party, SignerParty):
        # OpenSSL copies the issuer of the certificate that it signs with,
        # which may be a manufacturer's.
        issuers.append(party.certificate.issuer)
    _check_template(message, issuers)
    _check_named(message, body.type, party, strict=strict)
    if message.template.public_key is None:
        _check_generation(message, party, version, key_wishes)
    try:
        wanted = certificate_request(message, lenient=not strict)
        _check_usages(wanted, party)
    except (Malformed, TooLarge) as error:
        raise restate(error, *_MALFORMED["template"]) from None
    if key_wishes is not None and message.template.public_key is None:
        key = as_asked(key_wishes, wanted.public_key)
        wanted = evolve(wanted, public_key=key)
    if body.type == "kur" and isinstance(party, SignerParty):
        wanted = _renewal(message, wanted, party)
    if isinstance(message.proof, PrivateKey):
        _check_encryption(message.proof, wanted.public_key, version)
    proof = _accepted(wanted.proof, party, body.type)
    return Wish(
        message.cert_req_id,
        wanted if proof is wanted.proof else evolve(wanted, proof=proof),
        modified=message.wanted.not_before is not None
        or message.wanted.not_after is not None,
        controls=message.controls,
    )


def _read_messages(body: PKIBody) -> tuple[CertReqMsg, ...]:
    """Read the requests, or say exactly what of them is malformed."""
    try:
        return read_cert_req_messages(body.value)
    except (Malformed, TooLarge) as error:
        part = find_fault(body.value).part
        if not part:
            raise
        raise restate(error, *_MALFORMED[part]) from None


def _read_p10cr(body: PKIBody, party: Party, *, lenient: bool) -> Wish:
    """Read a PKCS#10 request (RFC 9483, section 4.1.4)."""
    try:
        wanted = read_csr(body.value, lenient=lenient)
    except Malformed as error:
        raise restate(error, "badCertTemplate", "malformed-csr") from error
    if not wanted.subject and not wanted.names:
        raise refuse(
            "badCertTemplate",
            "no-subject",
            "the request has neither subject nor alternative names",
        )
    _check_usages(wanted, party)
    return Wish(NO_ID, wanted)


def _check_template(message: CertReqMsg, issuers: Sequence[Name]) -> None:
    """
    Judge a template's fields (RFC 9483, section 4.1.1).

    :param issuers: what may stand there as issuer.
    """
    template = message.wanted
    # RFC 4211, section 7.2: all data is copied; the key is what is proven.
    if (template.public_key, template.key_algorithm) != (
        message.template.public_key,
        message.template.key_algorithm,
    ):
        raise refuse(
            "badCertTemplate",
            "reg-info-key",
            "the template in regInfo has another key",
        )
    if template.version not in {None, _VERSION_3}:
        raise refuse(
            "badCertTemplate", "version", "only version 3 is certified"
        )
    if template.issuer and not any(
        names_match(template.issuer, each) for each in issuers
    ):
        raise refuse(
            "wrongAuthority",
            "issuer",
            "the template names another CA as issuer",
        )
    if template.serial is not None or template.unique_ids:
        raise refuse(
            "badCertTemplate",
            "template-field",
            "the template has a field that only a CA sets",
        )


def _check_generation(
    message: CertReqMsg,
    party: Party,
    version: int,
    key_wishes: CSRWishes | None,
) -> None:
    """Judge whether a key may be made for a request (RFC 9483, 4.1.6)."""
    if key_wishes is None:
        raise refuse(
            "badCertTemplate",
            "no-key",
            "the template has no public key; keys are not generated here",
        )
    if message.proof is not None:
        raise refuse(
            "badPOP",
            "pop-without-key",
            "nobody can prove to have a key that is yet to be made",
        )
    # RFC 9810, section 7: the key is in an EnvelopedData, which cmp2021 has
    # brought, and the answer is of the request's version.
    if version < _V2021:
        raise refuse(
            "unsupportedVersion",
            "key-needs-version-3",
            "a key is handed out in messages of version 3 only",
        )
    check_receiver(party)


def _check_encryption(proof: PrivateKey, key: PublicKey, version: int) -> None:
    """
    Judge a proof by decryption (RFC 9810, section 5.2.8.3).

    Of its methods the encrypted certificate is served.  It comes in an
    EnvelopedData, hence in version 3; EncryptedValue is deprecated.
    """
    if proof.method != "encrCert":
        raise refuse(
            "badPOP",
            "pop-unsupported",
            f"the method {proof.method} is not served; use encrCert, or a "
            "signature",
        )
    if version < _V2021:
        raise refuse(
            "badPOP",
            "pop-needs-version-3",
            "a certificate is encrypted in messages of version 3 only",
        )
    if proof.choice != USAGES.get(key.algorithm):
        raise refuse(
            "badPOP",
            "pop-not-of-this-key",
            f"{proof.choice} is no proof for a key of this kind",
        )


def _check_named(
    message: CertReqMsg, body_type: str, party: Party, *, strict: bool
) -> None:
    """Refuse a template for nobody, before its proof is looked at."""
    template = message.wanted
    if template.subject or any(
        each.oid == SUBJECT_ALTERNATIVE_NAME
        for each in template.extensions or ()
    ):
        return
    # RFC 9483, section 4.1.3, demands a subject in an update, too.  Older
    # clients leave it out, and mean that of the certificate.
    if (
        body_type == "kur"
        and not strict
        and isinstance(party, SignerParty)
        and (template.subject is None or not party.certificate.subject)
    ):
        return
    raise refuse(
        "badCertTemplate",
        "no-subject",
        "the template has neither subject nor alternative names",
    )


def _renewal(
    message: CertReqMsg, wanted: CertificateRequest, party: SignerParty
) -> CertificateRequest:
    """Judge which certificate is updated (RFC 9483, section 4.1.3)."""
    facts = party.certificate
    if party.kind == "ra":
        return wanted  # the newest of that subject: the RA's to find
    named = message.controls.old_cert_id
    if named is not None and not (
        named.issuer is not None
        and names_match(named.issuer, facts.issuer)
        and named.serial == _plain(facts)
    ):
        raise refuse(
            "badCertId",
            "old-cert-id",
            "oldCertId is not the certificate that signed the message",
        )
    if not wanted.subject:
        wanted = evolve(wanted, subject=facts.subject)
    return wanted


def _plain(facts: CertificateFacts) -> str:
    """Return a serial as a template's is written."""
    return f"{int(facts.serial, 16):x}"


def _accepted(
    proof: SignatureProof, party: Party, body_type: str
) -> SignatureProof:
    """
    Accept what is no signature.

    The word of a registration authority, and of nobody else (RFC 9483,
    section 5.2.3: raVerified is for an authorized RA, and never for kur); a
    proof that is yet to come; and none for a key that is yet to be made.
    """
    if proof.kind == "signature":
        return proof
    if proof.kind in {"encryption", "generated"}:
        return evolve(proof, accepted=True)
    if proof.kind == "ra-verified":
        if party.kind == "ra" and body_type != "kur":
            return evolve(proof, accepted=True)
        raise refuse(
            "notAuthorized",
            "ra-verified",
            "raVerified is for registration authorities",
        )
    raise refuse(
        "badPOP",
        "pop-missing",
        "the request must be signed with the key that it carries",
    )


def _check_usages(wanted: CertificateRequest, party: Party) -> None:
    """Refuse to make an RA or CA of anybody (RFC 9810, section 8.10)."""
    values = {each.oid: each.value for each in wanted.extensions}
    constraints = values.get(BASIC_CONSTRAINTS)
    if constraints is not None and read_basic_constraints(constraints)[0]:
        raise refuse(
            "notAuthorized", "privileged-ca", "nobody is made a CA here"
        )
    usages = values.get(EXTENDED_KEY_USAGE)
    if (
        usages is not None
        and party.kind != "ra"
        and not _CMC.isdisjoint(read_extended_key_usage(usages))
    ):
        raise refuse(
            "notAuthorized",
            "privileged-usage",
            "cmcCA, cmcRA and cmKGA are not for whoever asks",
        )
