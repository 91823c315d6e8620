# SPDX-License-Identifier: MIT
"""
One PKIMessage in, one PKIMessage out (RFC 9483, section 3).

Theory of operation
===================

M-1  *A message that can be decoded is answered by a message*, protected, with
     HTTP 200, whatever comes of it: clients throw the body of any other
     status away.  What cannot be decoded at all is HTTP 400.  Announcements
     are answered by no message ever, and by HTTP 403 here.
M-2  *Header, protection, authorization, content*, in this order: who is not
     known learns nothing of what his content would be worth.
M-3  *Default deny.*  Each endpoint says who may begin what.
M-4  *A transaction is begun once*, at whichever of a tenant's endpoints.  Its
     transactionID is kept with what came of it, also beyond its end: the
     same octets get the same octets again, anything else is
     transactionIdInUse; and so are the same octets once that is forgotten,
     by I-18 of :mod:`trstctl.ra`.  How many are kept has a bound: see
     :mod:`trstctl.protocols.cmp.quota`.
M-5  *The store decides.*  What goes on with a transaction is found in the
     store, so that any process can answer, also after a crash.  Each step
     can be repeated: the certificate is the one of before, confirming and
     revoking are idempotent, and the dialogue moves on last.
M-6  *Nobody else goes on*: see :mod:`trstctl.protocols.cmp.continuing`, and
     P-1 of :mod:`trstctl.protocols.cmp.parties`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import get_args

from trstctl.errors import (
    Conflict,
    Malformed,
    NotAuthorized,
    Stale,
    Throttled,
    TooLarge,
    TrstctlError,
)
from trstctl.interfaces import IMessageCredential, IRegistrationAuthority
from trstctl.model import Dialogue, Purpose
from trstctl.pkix.cmp import PKIMessage, read_message
from trstctl.pkix.cmp_bodies import ErrorMsg
from trstctl.pkix.cmp_header import recover
from trstctl.pkix.cmp_responses import (
    CertResponse,
    cert_rep,
    error,
    rev_rep,
)
from trstctl.protocols.cmp.answers import (
    Writer,
    envelope_for,
    envelope_for_unreadable,
)
from trstctl.protocols.cmp.confirmation import NOT_TAKEN, Confirmation
from trstctl.protocols.cmp.continuing import check_continuing, remembered
from trstctl.protocols.cmp.enrollment import Enrollment
from trstctl.protocols.cmp.exchange import (
    FINISHED,
    WAITING,
    Exchange,
    Reply,
)
from trstctl.protocols.cmp.general import GeneralMessages
from trstctl.protocols.cmp.header import (
    ANNOUNCEMENTS,
    CARRYING,
    CONTINUING,
    VERSIONS,
    check_header,
)
from trstctl.protocols.cmp.header_refusals import party_to_tell
from trstctl.protocols.cmp.labels import fits, other_label
from trstctl.protocols.cmp.nesting import Nesting
from trstctl.protocols.cmp.original import Originals
from trstctl.protocols.cmp.parties import (
    Party,
    SignerParty,
    anchored,
    prove_party,
)
from trstctl.protocols.cmp.quota import Quota, restated
from trstctl.protocols.cmp.refusals import refuse, status_of
from trstctl.protocols.cmp.revocation import Revocation
from trstctl.protocols.cmp.settings import Request, Served
from trstctl.protocols.cmp.wishes import ANSWERS, cert_req_id_of
from trstctl.web import Answered, HTTPRequest, HTTPResponse

MEDIA_TYPE = "application/pkixcmp"

#: What can begin a transaction.  Nobody is allowed a ccr, which would make a
#: CA of him.
REQUESTS = frozenset({*get_args(Request), "ccr"})

#: A protection says nothing of the path: what is sent again at another
#: endpoint is the same message.
_EVERYWHERE = ""

#: For how long a transaction is remembered after its last message.
_MEMORY = timedelta(days=1)

#: Likewise, while it waits for a person.
_WAITING_MEMORY = timedelta(days=8)


class PKIMessages:
    """Answers the messages to one endpoint."""

    def __init__(self, ra: IRegistrationAuthority, served: Served) -> None:
        self._ra = ra
        self._served = served
        self._writer = Writer(
            ra, served.endpoint, include_root=served.include_root
        )
        self._quota = Quota(ra, served.endpoint, served.quota)
        self._enrollment = Enrollment(ra, served)
        self._confirmation = Confirmation(ra, served)
        self._revocation = Revocation(ra, served)
        self._general = GeneralMessages(ra, served)
        self._originals = Originals(ra, served)
        self._nesting = Nesting(ra, served, self, self._originals)

    async def answer(
        self, request: HTTPRequest, body: bytes, label: str = ""
    ) -> HTTPResponse:
        """
        Answer a PKIMessage by a PKIMessage, whatever comes of it (M-1).

        :param label: the operation of the path, or empty.
        :raises Malformed: nothing of it can be decoded.
        :raises NotAuthorized: it is an announcement.
        :raises Answered: it was refused, by a PKIMessage.
        """
        ra = self._ra
        credential = await ra.credentials.get(
            ra.serving(self._served.endpoint).authority, Purpose.CMP
        )
        try:
            message = read_message(body)
        except (Malformed, TooLarge) as told:
            raise await self._unreadable(body, told, credential) from told
        if message.body.type in ANNOUNCEMENTS:
            # RFC 9811, section 3.5: a status, and no PKIMessage.
            raise NotAuthorized("announcements are not taken here")
        transaction = message.header.transaction_id
        if transaction is None:
            # M-4, also where the client has named none.
            transaction = hashlib.sha256(body).digest()[:16]
        asked = Exchange(
            message,
            request,
            hashlib.sha256(body).hexdigest(),
            transaction,
            envelope_for(ra, message.header, transaction),
            credential,
        )
        # The path says little of what was asked for.
        facts = {
            "operation": message.body.type,
            "transaction": transaction.hex()[:128],
        }
        try:
            if message.body.type == CARRYING:
                return await self._carried(asked, label)
            octets, told_facts = await self._answered(asked, label)
        except TrstctlError as told:
            told.facts.update(facts)
            raise await self._refused(asked, told) from told
        return _response(octets, {**facts, **told_facts})

    async def _answered(
        self, asked: Exchange, label: str
    ) -> tuple[bytes, Mapping[str, str]]:
        """Judge, act, keep, and return the answer (M-2)."""
        message, ra, endpoint = asked.message, self._ra, self._served.endpoint
        try:
            check_header(message, ra.now(), strict=self._served.strict)
        except TrstctlError:
            asked.party = await party_to_tell(
                ra, endpoint, message, asked.request.peer
            )
            raise
        continuing = message.body.type in CONTINUING
        begun = await self._dialogue(asked.transaction)
        if begun is not None and self._is_here(begun):
            if begun.request == asked.digest:
                # M-4.  Whoever has these octets has seen the answer, too.
                return begun.answer, {"decision": "replayed"}
        elif continuing:
            begun = None  # begun elsewhere: unknown here
        asked.dialogue = begun
        party: Party = await prove_party(
            ra,
            endpoint,
            message,
            asked.request.peer,
            remembered(begun) if continuing else b"",
            strict=self._served.strict,
        )
        if continuing:
            asked.party = party
            check_continuing(asked)
        else:
            asked.party = await self._admitted(asked, party, label)
            await self._quota.check(asked.party, message.body.type)
            await self._originals.check(asked)
        asked.judged = True
        if not self._served.central_key_generation:
            return await self._finished(asked)
        # A key that is made here is nowhere but in the answer: it is kept,
        # whether or not the client still waits for it.
        octets, facts = await ra.shielded(self._finished(asked))
        return octets, facts

    async def _finished(
        self, asked: Exchange
    ) -> tuple[bytes, Mapping[str, str]]:
        """Act, and keep the answer."""
        reply = await self._acted(asked)
        return await self._kept(asked, reply), reply.facts

    async def _dialogue(self, transaction: bytes) -> Dialogue | None:
        """Return what has been said in a transaction before."""
        endpoint = self._served.endpoint
        found: Dialogue | None = await self._ra.dialogues.find_dialogue(
            endpoint.tenant_id,
            endpoint.protocol,
            _EVERYWHERE,
            transaction.hex(),
            self._ra.now(),
        )
        return found

    def _is_here(self, begun: Dialogue) -> bool:
        """Tell whether a transaction was begun at this endpoint."""
        return begun.notes["endpoint"] == self._served.endpoint.name

    async def signer_before(self, message: PKIMessage) -> bytes:
        """Return DER of who signed in a message's transaction, if it goes on."""
        transaction = message.header.transaction_id
        if message.body.type not in CONTINUING or transaction is None:
            return b""
        return remembered(await self._dialogue(transaction))

    async def _carried(self, asked: Exchange, label: str) -> HTTPResponse:
        """Answer what a nested message carries (RFC 9483, 5.2.2)."""
        message, strict = asked.message, self._served.strict
        check_header(message, self._ra.now(), strict=strict)
        party = await prove_party(
            self._ra,
            self._served.endpoint,
            message,
            asked.request.peer,
            b"",
            strict=strict,
        )
        asked.party = await self._admitted(asked, party, "")
        # RFC 9483, section 6.1: the label is that of what is inside; a batch
        # has its own.
        own = not label or fits(CARRYING, label)
        answer = await self._nesting.one(asked, "" if own else label)
        if answer is not None:
            return answer
        if not own:
            raise other_label(CARRYING)
        reply = await self._nesting.batch(asked)
        return _response(await self._kept(asked, reply), reply.facts)

    async def _admitted(
        self, asked: Exchange, party: Party, label: str
    ) -> Party:
        """Let somebody begin a transaction, who may (M-3)."""
        kind = asked.message.body.type
        if isinstance(party, SignerParty):
            party = await anchored(
                self._ra,
                self._served.endpoint,
                party,
                renewing=kind == "kur",
            )
        # Answers are protected as requests are, from here on.
        asked.party = party
        if asked.dialogue is not None:
            raise refuse(
                "transactionIdInUse",
                "transaction-id-used",
                "another message has begun this transaction",
            )
        if kind not in REQUESTS:
            raise refuse(
                "badRequest",
                "body-type",
                f"a message of type {kind} is not served here",
            )
        if kind not in self._served.allow[party.kind]:
            raise refuse(
                "notAuthorized",
                "body-not-allowed",
                f"a message of type {kind} is not allowed with this "
                "credential",
            )
        if label and not fits(kind, label):
            raise other_label(kind)
        return party

    async def _acted(self, asked: Exchange) -> Reply:
        """Do what the message asks for."""
        match asked.message.body.type:
            case "certConf":
                return await self._confirmation.confirm(asked)
            case "pollReq":
                return await self._enrollment.poll(asked)
            case "error":
                return await self._confirmation.give_up(asked)
            case "rr":
                return await self._revocation.revoke(asked)
            case "genm":
                return await self._general.answer(asked)
            case kind if kind in ANSWERS:
                return await self._enrollment.begin(asked)
        raise refuse(
            "badRequest", "body-type", "such a message is not served here"
        )

    # --- what is kept -------------------------------------------------------

    async def _kept(self, asked: Exchange, reply: Reply) -> bytes:
        """Write the answer, and keep it with the dialogue (M-5)."""
        octets = await self._writer.write(
            asked.envelope,
            reply.body,
            asked.party,
            asked.credential,
            reply.chain,
            reply.information,
        )
        if not reply.state:
            return octets
        ra, endpoint = self._ra, self._served.endpoint
        party, now = asked.known, self._ra.now()
        memory = _WAITING_MEMORY if reply.state == WAITING else _MEMORY
        if reply.has_key:
            memory = timedelta(0)
        begun = asked.dialogue.notes if asked.dialogue else {}
        notes = {
            "actor": party.actor,
            **reply.notes,
            "endpoint": endpoint.name,
            "begun": begun.get("begun", asked.digest),
            "nonce": asked.envelope.nonce.hex(),
            "theirs": (asked.message.header.sender_nonce or b"").hex(),
        }
        if isinstance(party, SignerParty) and reply.state != FINISHED:
            # Who goes on need not send it again.
            der = party.certificate.der
            notes["signer"] = base64.b64encode(der).decode("ascii")
        expires = now + max(memory, self._served.confirm_timeout)
        dialogue = Dialogue(
            endpoint.tenant_id,
            endpoint.protocol,
            _EVERYWHERE,
            asked.transaction.hex(),
            party.id,
            reply.state,
            asked.digest,
            octets,
            notes,
            max(expires, reply.until or expires),
            asked.dialogue.version if asked.dialogue else 1,
            self._quota.charged_to(party, asked.message.body.type),
        )
        try:
            if asked.dialogue is None:
                await ra.dialogues.open_dialogue(
                    dialogue, now, self._limit(dialogue, party)
                )
            else:
                await ra.dialogues.advance_dialogue(dialogue)
        except (Conflict, Stale, Throttled) as error:
            return await self._answered_elsewhere(asked, reply, error)
        return octets

    def _limit(self, dialogue: Dialogue, party: Party) -> int | None:
        """Return how many transactions a new one may be one of."""
        return self._quota.limit(party) if dialogue.charged_to else None

    async def _answered_elsewhere(
        self, asked: Exchange, reply: Reply, error: TrstctlError
    ) -> bytes:
        """Another process has answered in this transaction meanwhile."""
        found = await self._dialogue(asked.transaction)
        if (
            found is not None
            and found.request == asked.digest
            and self._is_here(found)
        ):
            answer: bytes = found.answer
            return answer
        # The same message may have been told to wait meanwhile, and whoever
        # polls for it will get what it has brought.
        own = found is not None and found.notes.get("begun") == asked.digest
        if (
            reply.serial
            and not own
            and (found is None or found.notes.get("serial") != reply.serial)
        ):
            # Nobody will ever get it.
            tenant_id = self._served.endpoint.tenant_id
            await self._ra.revoke(
                tenant_id, reply.serial, NOT_TAKEN, "gateway"
            )
        if isinstance(error, Throttled):
            raise restated(error, asked.known)
        raise refuse(
            "transactionIdInUse",
            "transaction-id-used",
            "another message has been answered in this transaction",
        )

    # --- what is refused ----------------------------------------------------

    async def _refused(self, asked: Exchange, told: TrstctlError) -> Answered:
        """Return the refusal, as a PKIMessage."""
        status = status_of(told)
        body, kind = asked.message.body, asked.message.body.type
        if kind == "pollReq" and asked.judged and asked.dialogue is not None:
            notes = asked.dialogue.notes
            rejected = CertResponse(int(notes.get("id", "0")), status)
            refusal = cert_rep(notes.get("answer", "ip"), (rejected,))
        elif kind in ANSWERS and asked.judged:
            rejected = CertResponse(cert_req_id_of(body), status)
            refusal = cert_rep(ANSWERS[kind], (rejected,))
        elif kind == "rr" and asked.message.header.pvno in VERSIONS:
            refusal = rev_rep((status,))
        else:
            refusal = error(ErrorMsg(status))
        octets = await self._writer.write(
            asked.envelope, refusal, asked.party, asked.credential
        )
        return Answered(told, _response(octets, {}))

    async def _unreadable(
        self,
        body: bytes,
        told: TrstctlError,
        credential: IMessageCredential,
    ) -> TrstctlError | Answered:
        """Answer what cannot be decoded, if it can be said whose it is."""
        found = recover(body)
        if found.pvno is None or found.transaction_id is None:
            return Malformed("the body is no PKIMessage")
        if found.pvno not in VERSIONS:
            told = refuse(
                "unsupportedVersion",
                "pvno",
                "only versions 2 and 3 are spoken",
            )
        octets = await self._writer.write(
            envelope_for_unreadable(self._ra, found),
            error(ErrorMsg(status_of(told))),
            None,
            credential,
        )
        return Answered(told, _response(octets, {}))


def _response(octets: bytes, facts: Mapping[str, str]) -> HTTPResponse:
    """Return a PKIMessage as HTTP carries it (RFC 9811, section 3.3)."""
    return HTTPResponse(200, MEDIA_TYPE, octets, facts=facts)
