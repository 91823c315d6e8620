# SPDX-License-Identifier: MIT
"""
What a Full PKI Request asks for (RFC 5272, sections 3.2.1 and 6).

One message asks for one thing: a certificate, what became of an earlier
request (queryPending), or a revocation.  So nothing is ever half done.

Served: transactionId, senderNonce, recipientNonce and regInfo (which have no
effect of their own), dataReturn, identification, identityProofV2,
popLinkRandom, lraPOPWitness, queryPending, revokeRequest.  A control that
nobody knows makes the whole message fail with badRequest (section 3.2.1.1); one
that is known and not served with noSupport: batchRequests, getCert, getCRL,
modCertTemplate and addExtensions, encryptedPOP and decryptedPOP,
confirmCertAcceptance (nobody is asked for it), publishCert, trustedAnchors,
authData, controlProcessed, raIdentityWitness.  identityProof is by SHA-1, and
refused for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import evolve, field, frozen

from trstctl.errors import ProofOfPossessionFailed
from trstctl.model import CertificateRequest, Name
from trstctl.pkix import der
from trstctl.pkix.cmc import Control, PKIData, TaggedRequest
from trstctl.pkix.cmc_controls import (
    CONTROLS,
    NAMES,
    LraPopWitness,
    RevokeRequest,
    Witness,
    read_identification,
    read_lra_pop_witness,
    read_number,
    read_octets,
    read_revoke_request,
    read_witness,
    single,
)
from trstctl.pkix.crmf import (
    CertReqMsg,
    certificate_request,
    read_cert_req_messages,
)
from trstctl.pkix.csr import read_csr
from trstctl.pkix.names import names_match
from trstctl.protocols.est.cmc_refusals import (
    concerning,
    refuse,
    unsupported,
)

_SERVED = frozenset(
    {
        "transactionId",
        "senderNonce",
        "recipientNonce",
        "dataReturn",
        "regInfo",
        "identification",
        "identityProofV2",
        "popLinkRandom",
        "lraPOPWitness",
        "queryPending",
        "revokeRequest",
    }
)

#: Octets of what is sent back or remembered.
_TRANSACTION = 64
_NONCE = 256
_DATA_RETURN = 16384
_IDENTIFICATION = 128
_RANDOM = 1024
_TOKEN = 160

_POP_LINK_WITNESS = CONTROLS["popLinkWitness"]
_POP_LINK_WITNESS_V2 = CONTROLS["popLinkWitnessV2"]
_VERSION_3 = 2


@frozen
class Echo:
    """
    What an answer repeats (sections 6.4 and 6.6), whatever it says.

    :ivar transaction: content octets of the INTEGER.
    """

    transaction: bytes | None = None
    sender_nonce: bytes | None = None
    data_return: bytes | None = field(default=None, repr=False)


@frozen
class Proof:
    """
    How a message says by which shared secret it was made.

    :ivar body_part: of identityProofV2.
    :ivar over: what its MAC is over.
    """

    body_part: int
    identification: str
    witness: Witness
    over: bytes = field(repr=False)


@frozen
class Wish:
    """
    What a message asks for; exactly one of the first three is there.

    :ivar body_part: of whatever it asks for.
    :ivar pop_link: body part and value of popLinkRandom.
    :ivar vouched: body part and value of lraPOPWitness.
    """

    body_part: int
    request: TaggedRequest | None = None
    revocation: RevokeRequest | None = None
    pend_token: bytes | None = None
    proof: Proof | None = None
    pop_link: tuple[int, bytes] | None = None
    vouched: tuple[int, LraPopWitness] | None = None


# --- controls ---------------------------------------------------------------


def read_echo(data: PKIData) -> Echo:
    """
    Read what an answer repeats.

    :raises Refusal: it is malformed or too long.
    """
    found = _by_name(data)
    echo = Echo()
    control = found.get("transactionId")
    if control is not None:
        with concerning(control.body_part_id):
            number = read_number(single(control), _TRANSACTION)
            echo = evolve(echo, transaction=number)
    return evolve(
        echo,
        sender_nonce=_octets(found, "senderNonce", _NONCE),
        data_return=_octets(found, "dataReturn", _DATA_RETURN),
    )


def _by_name(data: PKIData) -> Mapping[str, Control]:
    """Return the controls that we know, by their names."""
    found: dict[str, Control] = {}
    for control in data.controls:
        name = NAMES.get(control.oid)
        if name in found:
            raise refuse(
                "badRequest",
                f"the control {name} occurs twice",
                control.body_part_id,
            )
        if name is not None:
            found[name] = control
    return found


def _octets(
    found: Mapping[str, Control], name: str, longest: int
) -> bytes | None:
    """Read a control that is an OCTET STRING, if it is there."""
    control = found.get(name)
    if control is None:
        return None
    with concerning(control.body_part_id):
        return read_octets(single(control), longest)


def read_wish(data: PKIData) -> Wish:
    """
    Read what a message asks for.

    :raises Refusal: it asks for nothing, for more than one thing, or for
        what is not served.
    """
    _check_known(data)
    found = _by_name(data)
    proof = _read_proof(found, data)
    link = _octets(found, "popLinkRandom", _RANDOM)
    for name in ("recipientNonce", "regInfo"):
        _octets(found, name, _DATA_RETURN)
    wish = evolve(
        _read_act(found, data),
        proof=proof,
        pop_link=(
            None
            if link is None
            else (found["popLinkRandom"].body_part_id, link)
        ),
        vouched=_read_vouched(found),
    )
    if wish.request is None:
        others = [
            found[name].body_part_id
            for name in ("identityProofV2", "popLinkRandom", "lraPOPWitness")
            if name in found
        ]
        if others:
            raise refuse(
                "badRequest",
                "proofs are for a request for a certificate",
                *others,
            )
    return wish


def _check_known(data: PKIData) -> None:
    """Refuse what is not known, then what is not served."""
    # Section 3.2.1.1: the whole fails, and bodyList names all of them.
    unknown = [
        each.body_part_id for each in data.controls if each.oid not in NAMES
    ]
    if unknown:
        raise refuse("badRequest", "there is no such control", *unknown)
    for control in data.controls:
        if NAMES[control.oid] == "identityProof":
            raise refuse(
                "badIdentity",
                "identityProof is by SHA-1; use identityProofV2",
                control.body_part_id,
            )
    refused = [
        each for each in data.controls if NAMES[each.oid] not in _SERVED
    ]
    if refused:
        names = ", ".join(NAMES[each.oid] for each in refused)
        raise unsupported(
            f"not served: {names}", *(each.body_part_id for each in refused)
        )
    others = (
        *data.content_infos,
        *data.others,
        *(each.body_part_id for each in data.requests if each.choice == "orm"),
    )
    if others:
        raise unsupported(
            "nested messages and other kinds of requests are not served",
            *others,
        )


def _read_act(found: Mapping[str, Control], data: PKIData) -> Wish:
    """Return the one thing that is asked for."""
    acts = [
        control
        for name, control in found.items()
        if name in {"queryPending", "revokeRequest"}
    ]
    parts = [each.body_part_id for each in data.requests]
    parts += [control.body_part_id for control in acts]
    if not parts:
        raise refuse("badRequest", "the message asks for nothing")
    if len(parts) > 1:
        raise refuse(
            "badRequest", "a message can ask for one thing only", *parts
        )
    (part,) = parts
    if data.requests:
        return Wish(part, request=data.requests[0])
    with concerning(part):
        value = single(acts[0])
        if "queryPending" in found:
            return Wish(part, pend_token=read_octets(value, _TOKEN))
        return Wish(part, revocation=read_revoke_request(value))


def _read_proof(found: Mapping[str, Control], data: PKIData) -> Proof | None:
    """Read identification and identityProofV2, which go together."""
    named, control = found.get("identification"), found.get("identityProofV2")
    if named is None and control is None:
        return None
    if named is None or control is None:
        part = control or named
        assert part is not None  # one of them is there
        raise refuse(
            "badIdentity",
            "identityProofV2 needs the id of the shared secret in "
            "identification, and the other way round",
            part.body_part_id,
        )
    with concerning(named.body_part_id):
        text = read_identification(single(named), _IDENTIFICATION)
    with concerning(control.body_part_id):
        witness = read_witness(single(control))
    return Proof(control.body_part_id, text, witness, data.req_sequence)


def _read_vouched(
    found: Mapping[str, Control],
) -> tuple[int, LraPopWitness] | None:
    """Read lraPOPWitness, if it is there."""
    control = found.get("lraPOPWitness")
    if control is None:
        return None
    part = control.body_part_id
    with concerning(part):
        return part, read_lra_pop_witness(single(control))


# --- requests ---------------------------------------------------------------


@frozen
class Wanted:
    """
    A certification request, and what beside it counts.

    :ivar link: DER of PopLinkWitnessV2, if there is one.
    """

    request: CertificateRequest
    link: bytes | None = field(default=None, repr=False)


def read_wanted(
    tagged: TaggedRequest, issuer: Callable[[], Name], *, lenient: bool
) -> Wanted:
    """
    Read a certification request.

    :param issuer: returns the subject of the endpoint's CA.
    :param lenient: the profile forgives small faults.
    :raises Refusal: it is malformed, or a CRMF that CMC does not allow.
    """
    part = tagged.body_part_id
    with concerning(part):
        if tagged.choice == "tcr":
            wanted = read_csr(tagged.der, lenient=lenient)
            return Wanted(wanted, _link(wanted.attributes, part))
        (message,) = read_cert_req_messages(der.sequence(tagged.der))
        _check_crmf(message, issuer, part)
        values = {
            oid: (value,) for oid, value in message.controls.values.items()
        }
        return Wanted(certificate_request(message), _link(values, part))


def _link(values: Mapping[str, tuple[bytes, ...]], part: int) -> bytes | None:
    """Return the one PopLinkWitnessV2 among attributes or controls."""
    if _POP_LINK_WITNESS in values:
        raise refuse(
            "popFailed",
            "popLinkWitness is by SHA-1; use popLinkWitnessV2",
            part,
        )
    found = values.get(_POP_LINK_WITNESS_V2)
    if found is None:
        return None
    if len(found) != 1:
        raise ProofOfPossessionFailed("there are two popLinkWitnessV2")
    return found[0]


def _check_crmf(
    message: CertReqMsg, issuer: Callable[[], Name], part: int
) -> None:
    """Judge a CRMF request (section 3.2.1.2.2)."""
    template = message.template
    if template.subject is None or template.public_key is None:
        raise refuse("badRequest", "subject and publicKey must be there", part)
    if message.reg_info:
        raise refuse("badRequest", "regInfo must not be there", part)
    if template.issuer and not names_match(template.issuer, issuer()):
        raise refuse(
            "badRequest", "the template names another CA as issuer", part
        )
    if (
        template.version not in {None, _VERSION_3}
        or template.serial is not None
        or template.unique_ids
    ):
        raise refuse(
            "badRequest",
            "the template has a field that only a CA sets",
            part,
        )
    others = set(message.controls.values) - {
        _POP_LINK_WITNESS,
        _POP_LINK_WITNESS_V2,
    }
    if others:
        raise refuse(
            "badRequest",
            "the only control that a request may have is popLinkWitnessV2",
            part,
        )
