# SPDX-License-Identifier: MIT
"""
Enrollment and what follows it: certConf, pollReq and error (RFC 9483,
sections 4.1 and 4.4; RFC 9810, section 5.3.21).

Theory of operation
===================

E-1  *Implicit confirmation is granted*, where the endpoint allows it, to who
     asks for it and to nobody else.
E-2  *All others confirm.*  Until they do, the certificate replaces no other;
     what is rejected, or not confirmed in time, is revoked.
E-3  *Confirming can be repeated* until the answer to it is kept.
E-4  *What is encrypted is always confirmed.*  Of an encrypted certificate
     certHash is the proof of possession (RFC 9810, section 5.2.8.3.2).  Where
     the gateway has made the key, nothing is replaced, and the encrypted key
     is kept, until it has arrived.
E-5  *What is in service is not rejected any more.*  Who asks again in another
     transaction gets the same certificate, for which a secret that has been
     used up is enough; it must not be enough to revoke it.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import cast

from trstctl.errors import (
    ChallengeRejected,
    Stale,
    TrstctlError,
    Unavailable,
    UnknownCertificate,
    UnsupportedAlgorithm,
)
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    CertificateRecord,
    CertificateStatus,
    Dialogue,
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
from trstctl.pkix.cmp_bodies import (
    CertStatus,
    read_cert_conf,
    read_error,
    read_poll_req,
)
from trstctl.pkix.cmp_hash import cert_hash, signature_hash
from trstctl.pkix.cmp_header import GeneralInfo
from trstctl.pkix.cmp_responses import (
    CertResponse,
    PollResponse,
    cert_rep,
    pkiconf,
    poll_rep,
)
from trstctl.pkix.cmp_status import PKIStatusInfo
from trstctl.pkix.names import names_match
from trstctl.protocols.cmp.controls import credentials_for
from trstctl.protocols.cmp.delivery import Generation, encrypted_certificate
from trstctl.protocols.cmp.exchange import (
    CONFIRMED,
    FINISHED,
    UNCONFIRMED,
    WAITING,
    Exchange,
    Reply,
)
from trstctl.protocols.cmp.parties import (
    Party,
    SecretParty,
    SignerParty,
    check_unrevoked,
)
from trstctl.protocols.cmp.refusals import refuse, restate
from trstctl.protocols.cmp.settings import Served
from trstctl.protocols.cmp.wishes import ANSWERS, NO_ID, Wish, read_wish

#: Why what nobody takes is revoked: nothing is known against its key.
NOT_TAKEN = "cessationOfOperation"

_ACCEPTED = frozenset({"accepted", "grantedWithMods"})
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
            await self._check_old(wish)
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
                )
            )
        except ChallengeRejected as error:
            told = _rejected(party)
            told.facts = {**error.facts, **told.facts}
            told.recorded = error.recorded
            raise told from error
        except Stale as error:
            if renewing and await self._is_updated(party):
                raise restate(error, "certRevoked", "signer-updated") from None
            raise
        except UnsupportedAlgorithm as error:
            # With a signature that we know, it is the key that will not do.
            if proof in _ENCRYPTED or (
                wish.wanted.proof.algorithm in ALGORITHMS
            ):
                raise restate(error, "badCertTemplate", "key") from None
            raise
        return await self._told(asked, outcome, notes, generation)

    async def _check_old(self, wish: Wish) -> None:
        """
        Refuse an update for one device that names the certificate of another.

        Which one of the device's is updated is found by its names.
        """
        named = wish.controls.old_cert_id
        if named is None:
            return
        with suppress(UnknownCertificate):
            record = await self._ra.find(
                self._served.endpoint.tenant_id, named.serial
            )
            facts = read_certificate(record.der)
            if (
                named.issuer is not None
                and names_match(named.issuer, facts.issuer)
                and names_match(wish.wanted.subject, facts.subject)
            ):
                return
        raise refuse(
            "badCertId",
            "old-cert-id",
            "oldCertId is not a certificate of this subject",
        )

    async def _is_updated(self, party: Party) -> bool:
        """Tell whether the signer's certificate has been updated."""
        facts = cast("SignerParty", party).certificate  # SIGNED_ONLY
        own = await self._ra.find(
            self._served.endpoint.tenant_id, facts.serial
        )
        return bool(own.superseded_by)

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
        )

    def _issuer_name(self) -> Name:
        """Return the subject of the endpoint's CA."""
        der = self._ra.ca_certificates(self._served.endpoint)[0]
        if self._issuer[0] != der:
            self._issuer = (der, read_certificate(der).subject)
        return self._issuer[1]

    def _check_profile(self, asked: Exchange) -> None:
        """Refuse a profile that is not this endpoint's (RFC 9810, 5.1.1.4)."""
        endpoint = self._served.endpoint
        for name in asked.message.header.general_info.cert_profiles:
            if name not in {"", endpoint.profile, endpoint.name}:
                raise refuse(
                    "badRequest",
                    "cert-profile",
                    "this endpoint does not offer the profile of certProfile",
                )

    def _grants(self, asked: Exchange, proof: str) -> bool:
        """Tell whether implicit confirmation is granted (E-1, E-4)."""
        wished = asked.message.header.general_info.implicit_confirm
        return (
            wished
            and self._served.implicit_confirm
            and proof not in _ENCRYPTED
        )

    def _patience(self, notes: dict[str, str]) -> timedelta | None:
        """Return for how long a confirmation is waited for (E-2)."""
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
            information=self._information(notes),
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

    def _information(self, notes: dict[str, str]) -> GeneralInfo:
        """Grant implicit confirmation, or say by when to confirm."""
        patience = self._patience(notes)
        if patience is None:
            return GeneralInfo(implicit_confirm=True)
        until: datetime = (self._ra.now() + patience).replace(microsecond=0)
        return GeneralInfo(confirm_wait_time=until)

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

    # --- certConf -----------------------------------------------------------

    async def confirm(self, asked: Exchange) -> Reply:
        """Hear whether the client takes its certificate (4.1.1)."""
        dialogue = asked.begun
        if dialogue.state == CONFIRMED:
            raise refuse(
                "certConfirmed",
                "confirmed-before",
                "the certificate has been confirmed before",
            )
        if dialogue.state != UNCONFIRMED:
            raise refuse(
                "badRequest",
                "nothing-to-confirm",
                "nothing is to be confirmed",
            )
        tenant_id, serial = dialogue.tenant_id, dialogue.notes["serial"]
        record = await self._ra.find(tenant_id, serial)
        statuses = read_cert_conf(asked.message.body.value)
        taken = bool(statuses) and self._takes(asked, statuses, record)
        actor = dialogue.notes["actor"]
        if taken:
            await check_unrevoked(self._ra, self._served.endpoint, asked.known)
            try:
                await self._ra.confirm(
                    tenant_id, serial, dialogue.notes["renewed"], actor
                )
            except Stale as error:
                raise restate(error, "certRevoked", "revoked-since") from None
        elif not await self._withdrawn(dialogue):
            raise refuse(
                "certConfirmed",
                "confirmed-before",
                "the certificate has been confirmed before",
            )
        return Reply(
            pkiconf(),
            facts={
                "decision": "confirmed" if taken else "rejected",
                "principal": actor,
                "serial": serial,
            },
            state=CONFIRMED if taken else FINISHED,
            notes=dialogue.notes,
        )

    async def _withdrawn(self, dialogue: Dialogue) -> bool:
        """Revoke what is not taken, if that can still be said (E-5)."""
        tenant_id, serial = dialogue.tenant_id, dialogue.notes["serial"]
        record = await self._ra.find(tenant_id, serial)
        if record.status is CertificateStatus.REVOKED:
            return True
        if record.confirm_by is None:
            return False
        await self._ra.revoke(
            tenant_id, serial, NOT_TAKEN, dialogue.notes["actor"]
        )
        return True

    def _takes(
        self,
        asked: Exchange,
        statuses: tuple[CertStatus, ...],
        record: CertificateRecord,
    ) -> bool:
        """Judge a CertStatus; tell whether it accepts."""
        if len(statuses) != 1:
            raise refuse(
                "badRequest",
                "one-status",
                "one certificate is to be confirmed",
            )
        (status,) = statuses
        expected = {int(asked.begun.notes["id"])}
        if not self._served.strict and NO_ID in expected:
            expected.add(0)  # older OpenSSL confirms p10cr like this
        if status.cert_req_id not in expected:
            raise refuse(
                "badRequest",
                "cert-req-id",
                "certReqId is not that of the request",
            )
        self._check_hash(asked, status, record)
        told = status.status
        if told is None:
            return True
        if told.status in _ACCEPTED and told.failures:
            raise refuse(
                "badRequest",
                "accepted-and-failed",
                "failInfo is for what is rejected",
            )
        if told.status not in {*_ACCEPTED, "rejection"}:
            raise refuse(
                "badRequest",
                "status",
                "a certificate is accepted or rejected",
            )
        return told.status in _ACCEPTED

    def _check_hash(
        self, asked: Exchange, status: CertStatus, record: CertificateRecord
    ) -> None:
        """Refuse the hash of another certificate (RFC 9810, 5.3.18)."""
        digest = signature_hash(record.der)
        if status.hash_alg is not None:
            # hashAlg came with cmp2021.
            if asked.message.header.pvno < _V2021:
                raise refuse(
                    "badCertId", "hash-alg", "hashAlg needs version 3"
                )
            digest = status.hash_alg
        if not digest or not hmac.compare_digest(
            cert_hash(record.der, digest), status.cert_hash
        ):
            raise refuse(
                "badCertId",
                "cert-hash",
                "certHash is not that of the certificate",
            )

    # --- error --------------------------------------------------------------

    async def give_up(self, asked: Exchange) -> Reply:
        """Hear that the client has given up (RFC 9810, section 5.3.21)."""
        told, dialogue = read_error(asked.message.body.value), asked.begun
        if dialogue.state == UNCONFIRMED:
            await self._withdrawn(dialogue)
        return Reply(
            pkiconf(),
            facts={
                "decision": "rejected",
                "principal": dialogue.notes["actor"],
                "reason": " ".join((*told.status.text, *told.details))[:200],
            },
            state=FINISHED,
            notes=dialogue.notes,
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
