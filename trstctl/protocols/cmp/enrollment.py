# SPDX-License-Identifier: MIT
"""
Enrollment and waiting for it: ir, cr, kur, p10cr and pollReq (RFC 9483,
sections 4.1 and 4.4).

Theory of operation
===================

E-1  *Implicit confirmation is granted*, where the endpoint allows it, to who
     asks for it and to nobody else.  All others confirm: see
     :mod:`trstctl.protocols.cmp.confirmation`.
E-2  *What is encrypted is always confirmed.*  Of an encrypted certificate
     certHash is the proof of possession (RFC 9810, section 5.2.8.3.2).  Where
     the gateway has made the key, nothing is replaced, and the encrypted key
     is kept, until it has arrived.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from trstctl.errors import (
    ChallengeRejected,
    Conflict,
    Stale,
    TrstctlError,
    Unavailable,
    UnsupportedAlgorithm,
)
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    EnrollmentRequest,
    Issued,
    Name,
    Operation,
    Pending,
    PollRequest,
    Purpose,
)
from trstctl.pkix.algorithms import ALGORITHMS
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp_bodies import read_poll_req
from trstctl.pkix.cmp_header import GeneralInfo
from trstctl.pkix.cmp_responses import (
    CertResponse,
    PollResponse,
    cert_rep,
    poll_rep,
)
from trstctl.pkix.cmp_status import PKIStatusInfo
from trstctl.protocols.cmp.confirmation import NOT_TAKEN
from trstctl.protocols.cmp.controls import credentials_for
from trstctl.protocols.cmp.delivery import Generation, encrypted_certificate
from trstctl.protocols.cmp.exchange import (
    FINISHED,
    UNCONFIRMED,
    WAITING,
    Exchange,
    Reply,
)
from trstctl.protocols.cmp.parties import (
    Party,
    SecretParty,
)
from trstctl.protocols.cmp.refusals import refuse, restate
from trstctl.protocols.cmp.settings import Served
from trstctl.protocols.cmp.updating import check_old, why_over
from trstctl.protocols.cmp.wishes import ANSWERS, NO_ID, read_wish

_V2021 = 3

#: Proofs of possession whose answer has something encrypted.
_ENCRYPTED = frozenset({"encryption", "generated"})

#: Within which whoever has made a key has written the answer.
_DELIVERY = timedelta(seconds=60)


class Enrollment:
    """Answers what is about a new certificate, at one endpoint."""

    def __init__(self, ra: IRegistrationAuthority, served: Served) -> None:
        self._ra = ra
        self._served = served
        self._issuer: tuple[bytes, Name] = (b"", ())

    # --- ir, cr, kur, p10cr -------------------------------------------------

    async def begin(self, asked: Exchange) -> Reply:
        """Take a request to the registration authority."""
        ra, endpoint = self._ra, self._served.endpoint
        message, party = asked.message, asked.known
        wish = read_wish(
            message.body,
            party,
            self._issuer_name(),
            version=message.header.pvno,
            key_wishes=(
                ra.csr_attributes(endpoint)
                if self._served.central_key_generation
                else None
            ),
            strict=self._served.strict,
            lenient=ra.is_lenient(endpoint),
        )
        self._check_profile(asked)
        proof = wish.wanted.proof.kind
        notes = {
            "answer": ANSWERS[message.body.type],
            "id": str(wish.cert_req_id),
            "key": wish.wanted.public_key.fingerprint,
            "implicit": "yes" if self._grants(asked, proof) else "",
            "modified": "yes" if wish.modified else "",
            "proof": proof,
        }
        generation = await self._generation(asked, proof)
        renewing = message.body.type == "kur"
        if renewing and party.kind == "ra":
            await check_old(ra, endpoint, wish)
        credentials = credentials_for(
            ra, self._served.reg_token, party, wish.controls
        )
        try:
            outcome = await ra.enroll(
                EnrollmentRequest(
                    endpoint=endpoint,
                    operation=(
                        Operation.RENEW if renewing else Operation.ENROLL
                    ),
                    wanted=wish.wanted,
                    credentials=credentials,
                    request_id=asked.request.request_id,
                    peer=asked.request.peer,
                    transaction=asked.transaction.hex(),
                    confirm_within=self._patience(notes),
                    generate=(
                        None
                        if generation is None
                        else partial(generation, wish.wanted)
                    ),
                    # RFC 9483, section 4.1.3: what was updated is not
                    # updated again.
                    current_only=renewing,
                    once=True,
                )
            )
        except ChallengeRejected as error:
            told = _rejected(party)
            told.facts = {**error.facts, **told.facts}
            told.recorded = error.recorded
            raise told from error
        except Conflict as error:
            raise restate(
                error, "transactionIdInUse", "transaction-id-used"
            ) from None
        except Stale as error:
            if not renewing:
                raise
            raise restate(error, *await why_over(ra, endpoint, party)) from (
                None
            )
        except UnsupportedAlgorithm as error:
            # With a signature that we know, it is the key that will not do.
            if proof in _ENCRYPTED or (
                wish.wanted.proof.algorithm in ALGORITHMS
            ):
                raise restate(error, "badCertTemplate", "key") from None
            raise
        return await self._told(asked, outcome, notes, generation)

    async def _generation(
        self, asked: Exchange, proof: str
    ) -> Generation | None:
        """Return who makes the key, if the gateway is to make it."""
        if proof != "generated":
            return None
        # Known before anything is issued, as it may be unavailable.
        now = self._ra.succession(self._served.endpoint)
        signer = await self._ra.credentials.get(now.authority, Purpose.KGA)
        return Generation(
            self._ra,
            asked.known,
            signer,
            now.links,
            strict=self._served.strict,
            tenant_id=self._served.endpoint.tenant_id,
        )

    def _issuer_name(self) -> Name:
        """Return the subject of the endpoint's CA."""
        der = self._ra.ca_certificates(self._served.endpoint)[0]
        if self._issuer[0] != der:
            self._issuer = (der, read_certificate(der).subject)
        return self._issuer[1]

    def _check_profile(self, asked: Exchange) -> None:
        """Refuse a profile that is not this endpoint's (RFC 9810, 5.1.1.4)."""
        for name in asked.message.header.general_info.cert_profiles:
            if not self._served.offers(name):
                raise refuse(
                    "badRequest",
                    "cert-profile",
                    "this endpoint does not offer the profile of certProfile",
                )

    def _grants(self, asked: Exchange, proof: str) -> bool:
        """Tell whether implicit confirmation is granted (E-1, E-2)."""
        wished = asked.message.header.general_info.implicit_confirm
        return (
            wished
            and self._served.implicit_confirm
            and proof not in _ENCRYPTED
        )

    def _patience(self, notes: dict[str, str]) -> timedelta | None:
        """Return for how long a confirmation is waited for."""
        return None if notes["implicit"] else self._served.confirm_timeout

    async def _told(
        self,
        asked: Exchange,
        outcome: Issued | Pending,
        notes: dict[str, str],
        generation: Generation | None,
    ) -> Reply:
        """Return the answer to a request for a certificate."""
        cert_req_id = int(notes["id"])
        if isinstance(outcome, Pending):
            text = "the request waits for approval [waiting]"
            if outcome.in_flight:
                text = "the request is being answered [in-flight]"
            waiting = CertResponse(
                cert_req_id, PKIStatusInfo("waiting", (text,))
            )
            return Reply(
                cert_rep(notes["answer"], (waiting,)),
                facts=outcome.facts,
                state=WAITING,
                notes={**notes, "principal": outcome.principal},
            )
        encrypted = notes["proof"] == "encryption"
        response = CertResponse(
            cert_req_id,
            PKIStatusInfo("grantedWithMods", ("the profile decides the rest",))
            if notes["modified"]
            else PKIStatusInfo("accepted"),
            certificate=None if encrypted else outcome.certificate,
            encrypted_cert=(
                encrypted_certificate(
                    outcome.certificate, self._ra.random_bytes
                )
                if encrypted
                else None
            ),
            private_key=(
                None
                if generation is None
                else await self._private_key(generation, outcome)
            ),
        )
        # RFC 9810, section 8.9: a trust anchor for those only who know a
        # secret, and are new here.
        is_new = notes["answer"] == "ip" and isinstance(
            asked.known, SecretParty
        )
        return Reply(
            cert_rep(
                notes["answer"],
                (response,),
                outcome.chain[-1:] if is_new else (),
            ),
            information=await self._information(asked, notes, outcome),
            chain=outcome.chain,
            facts=outcome.facts,
            state=FINISHED if notes["implicit"] else UNCONFIRMED,
            notes={
                **notes,
                "serial": outcome.serial,
                "renewed": outcome.former,
            },
            serial="" if outcome.replayed else outcome.serial,
            has_key=generation is not None,
        )

    async def _private_key(
        self, generation: Generation, outcome: Issued
    ) -> bytes:
        """Return the key that was made, or say that it is gone."""
        ra, tenant_id = self._ra, self._served.endpoint.tenant_id
        try:
            key = await generation.delivered(outcome.certificate)
        except Exception:
            # Nobody will ever have it.
            await ra.revoke(tenant_id, outcome.serial, NOT_TAKEN, "gateway")
            raise
        if key is None:
            record = await ra.find(tenant_id, outcome.serial)
            if ra.now() < record.issued_at + _DELIVERY:
                raise Unavailable("the request is being answered right now")
            raise refuse(
                "notAuthorized",
                "key-not-kept",
                "the key for this request was made before and is kept "
                "nowhere; begin anew, with another shared secret",
            )
        return key

    async def _information(
        self, asked: Exchange, notes: dict[str, str], outcome: Issued
    ) -> GeneralInfo:
        """Grant implicit confirmation, or say by when to confirm."""
        ra, tenant_id = self._ra, self._served.endpoint.tenant_id
        patience = self._patience(notes)
        until: datetime | None = None
        if outcome.replayed:
            # Another transaction may have begun to wait for it.
            until = (await ra.find(tenant_id, outcome.serial)).confirm_by
        if patience is None:
            if until is not None:
                actor = asked.known.actor
                await ra.confirm(
                    tenant_id, outcome.serial, outcome.former, actor
                )
            return GeneralInfo(implicit_confirm=True)
        until = until or ra.now() + patience
        return GeneralInfo(confirm_wait_time=until.replace(microsecond=0))

    # --- pollReq ------------------------------------------------------------

    async def poll(self, asked: Exchange) -> Reply:
        """Tell what became of a request (RFC 9483, section 4.4)."""
        dialogue, party = asked.begun, asked.known
        notes = dict(dialogue.notes)
        if dialogue.state != WAITING:
            raise refuse("badRequest", "not-waiting", "nothing is waited for")
        self._check_polled(asked, int(notes["id"]))
        # RFC 9810, section 7: an EnvelopedData is for version 3.
        if notes["proof"] in _ENCRYPTED and asked.message.header.pvno < _V2021:
            raise refuse(
                "unsupportedVersion",
                "answer-needs-version-3",
                "what is encrypted is handed out in messages of version 3",
            )
        credentials = (
            ()
            if isinstance(party, SecretParty)
            else (party.credential(self._ra),)
        )
        generation = await self._generation(asked, notes["proof"])
        outcome = await self._ra.poll(
            PollRequest(
                endpoint=self._served.endpoint,
                transaction=dialogue.transaction,
                public_key_fingerprint=notes["key"],
                credentials=credentials,
                request_id=asked.request.request_id,
                peer=asked.request.peer,
                confirm_within=self._patience(notes),
                generate=generation,
                # The key does not say it where it is yet to be made.
                principal=notes["principal"],
            )
        )
        if isinstance(outcome, Pending):
            later = PollResponse(int(notes["id"]), outcome.retry_after)
            return Reply(
                poll_rep((later,)),
                facts=outcome.facts,
                state=WAITING,
                notes=notes,
            )
        return await self._told(asked, outcome, notes, generation)

    def _check_polled(self, asked: Exchange, cert_req_id: int) -> None:
        """Refuse to tell of what nobody has asked for."""
        # RFC 9810, section 5.3.22: the request's, or -1 for the whole answer.
        expected = {cert_req_id, NO_ID}
        if not self._served.strict and cert_req_id == NO_ID:
            expected.add(0)  # older clients poll for p10cr like this
        found = read_poll_req(asked.message.body.value)
        if len(found) != 1 or not expected.issuperset(found):
            raise refuse(
                "badRequest",
                "cert-req-id",
                "certReqId is not that of the request",
            )


def _rejected(party: Party) -> TrstctlError:
    """Return what is told of a challenge that will not do."""
    if isinstance(party, SecretParty):
        # The secret is the right one: its owner may be told.
        return refuse(
            "notAuthorized",
            "secret-used-up",
            "the shared secret has been used up, has expired, or is for "
            "another key",
        )
    return refuse("notAuthorized", "reg-token", "regToken is not accepted")
