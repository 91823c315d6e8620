# SPDX-License-Identifier: MIT
"""
Certificates by Full CMC: requests, and what became of them (RFC 5272).

Theory of operation
===================

E-1  *Every request has a transaction*: its transactionId, or a digest of what
     it asks for.  It is the pendToken of a request that waits, so that any
     process can tell what became of it; whoever asks is known by his key.
E-2  *Renewed is what a certificate signs and what has that certificate's
     names*; everything else is a first certificate.
E-3  *One message, one certificate.*  Whoever has recorded a message that a
     certificate signs could send it to another label, or under another
     Idempotency-Key, for another certificate: within the time in which it is
     fresh it counts where it came first, and nowhere else of the tenant.
E-4  *A registration authority's word* for a proof of possession counts within
     its scope, and nobody else's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from attrs import evolve

from trstctl.errors import (
    Malformed,
    NotAuthorized,
    Replayed,
    UnknownCertificate,
)
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    BearerToken,
    CertificateRequest,
    Challenge,
    EnrollmentRequest,
    Issued,
    Operation,
    Password,
    Pending,
    PollRequest,
)
from trstctl.pkix.cmc import WHOLE, StatusInfo
from trstctl.policy.registration import asks_for_itself, scope_of
from trstctl.protocols.est.challenges import read_challenges
from trstctl.protocols.est.cmc_exchange import (
    Asked,
    Outcome,
    identified,
    seen_before,
)
from trstctl.protocols.est.cmc_parties import (
    Signer,
    check_fresh,
    prove_secret,
)
from trstctl.protocols.est.cmc_refusals import concerning, refuse
from trstctl.protocols.est.cmc_wishes import Echo, Wanted, Wish
from trstctl.protocols.est.settings import Served

_TOKEN = re.compile(rb"(?:tid|req)-[0-9a-f]{2,128}")

#: Proofs of possession that a registration authority can have seen.
_VOUCHED = frozenset({"ra-verified", "none"})


class Enrollment:
    """
    Answers what is about a new certificate, at one label.

    :param enforce: refuses a request that ignores /csrattrs, where the label
        says so.
    """

    def __init__(
        self,
        ra: IRegistrationAuthority,
        served: Served,
        enforce: Callable[[CertificateRequest], None],
    ) -> None:
        self._ra = ra
        self._served = served
        self._enforce = enforce

    async def enroll(self, asked: Asked, wanted: Wanted) -> Outcome:
        """
        Take a certification request to the registration authority.

        :raises Refusal: it was refused.
        """
        ra, served, wish = self._ra, self._served, asked.wish
        check_fresh(asked.signer, asked.presented, ra.now())
        secret = await prove_secret(
            ra, served.endpoint, wish, wanted, asked.signer, asked.http.peer
        )
        with concerning(wish.body_part):
            operation, is_ra = await self._purpose(
                asked.signer, wanted.request
            )
            request = _vouched_for(wanted.request, wish, is_ra)
            self._enforce(request)
            said = read_challenges(
                request, served, operation, asked.http.session
            )
            secrets = said.credentials
            if secret is not None:
                secrets += (Challenge(secret, ra.challenges),)
            if len(secrets) > 1:
                raise Malformed("there are two single-use secrets")
            await self._check_place(asked)
            transaction = _transaction(asked.echo, said.content or request.der)
            outcome = await ra.enroll(
                EnrollmentRequest(
                    endpoint=served.endpoint,
                    operation=operation,
                    wanted=request,
                    credentials=(*secrets, *asked.credentials),
                    request_id=asked.http.request_id,
                    peer=asked.http.peer,
                    idempotency_key=asked.http.idempotency_key,
                    transaction=transaction,
                    linking=said.linking,
                    content=said.content,
                    revocation_challenge=said.revocation_challenge,
                )
            )
        return self._told(outcome, wish.body_part, transaction)

    async def _check_place(self, asked: Asked) -> None:
        """Refuse a message that was for another label, or key (E-3)."""
        certificate = asked.signer.certificate
        if certificate is None:
            return
        notes = {
            "label": self._served.endpoint.name,
            "key": asked.http.idempotency_key or "",
        }
        seen = await seen_before(
            self._ra,
            self._served.endpoint,
            asked,
            f"certificate:{certificate.serial}",
            notes,
        )
        if seen is not None and seen != notes:
            raise Replayed(
                "this message was here before, at another label or under "
                "another Idempotency-Key; sign another"
            )

    async def _purpose(
        self, signer: Signer, wanted: CertificateRequest
    ) -> tuple[Operation, bool]:
        """
        Say what a request is for (E-2), and whether a registration authority
        makes it for somebody else.
        """
        facts, endpoint = signer.certificate, self._served.endpoint
        if facts is None:
            return Operation.ENROLL, False
        same = asks_for_itself(wanted, facts)
        try:
            own = await identified(self._ra, endpoint, signer)
        except NotAuthorized:
            # What has expired, or was replaced, may yet be renewed: the
            # profile decides.
            if not same:
                raise
            return Operation.RENEW, False
        if own.record is None:  # a factory certificate
            return Operation.ENROLL, False
        if same:
            return Operation.RENEW, False
        scope = scope_of(endpoint.scopes, facts, own.record)
        return Operation.ENROLL, scope is not None

    async def poll(self, asked: Asked, token: bytes) -> Outcome:
        """
        Tell what became of a request (section 6.13; E-1).

        :raises Refusal: there is none, or it was refused.
        """
        part = asked.wish.body_part
        with concerning(part):
            # What is no token of ours is looked for, too: as one of nobody.
            named = token if _TOKEN.fullmatch(token) else b"none"
            try:
                outcome = await self._ra.poll(
                    PollRequest(
                        endpoint=self._served.endpoint,
                        transaction=named.decode("ascii"),
                        public_key_fingerprint=asked.signer.key.fingerprint,
                        credentials=asked.credentials,
                        request_id=asked.http.request_id,
                        peer=asked.http.peer,
                    )
                )
            except UnknownCertificate:
                await self._check_shown(asked)
                raise
        # Section 6.13: pendInfo is left out, or what it was at first.
        return self._told(outcome, part, None)

    async def _check_shown(self, asked: Asked) -> None:
        """
        Ask who has shown nothing but a key to show a password.

        Whether there is such a request or not: whose it is, a password may
        have to tell, and clients wait for the 401 to send one.
        """
        if any(
            isinstance(each, Password | BearerToken)
            for each in asked.presented
        ):
            return
        signer = asked.signer
        assert signer.certificate is not None  # there is no request
        with suppress(NotAuthorized):
            await self._ra.identify(
                self._served.endpoint, signer.certificate.der, signer.chain
            )

    def _told(
        self, outcome: Issued | Pending, part: int, transaction: str | None
    ) -> Outcome:
        """
        Return what is told of a request for a certificate.

        :param transaction: to ask with; ``None``: who asks has it.
        """
        if isinstance(outcome, Issued):
            return Outcome(
                StatusInfo("success", (part,)),
                outcome.facts,
                (outcome.certificate, *outcome.chain),
            )
        later = outcome.retry_after
        if outcome.in_flight:
            status = StatusInfo(
                "failed",
                (part,),
                "the same request is being answered; try again",
                "tryLater",
            )
            return Outcome(
                status, outcome.facts, http_status=409, retry_after=later
            )
        status = StatusInfo(
            "pending", (part,), "the request waits for approval"
        )
        if transaction is not None:
            status = evolve(
                status,
                pend_token=transaction.encode("ascii"),
                pend_time=self._ra.now() + timedelta(seconds=later),
            )
        return Outcome(
            status, outcome.facts, http_status=202, retry_after=later
        )


def _vouched_for(
    wanted: CertificateRequest, wish: Wish, is_ra: bool
) -> CertificateRequest:
    """Accept the word for a proof of possession (section 6.8; E-4)."""
    proof, part, named = wanted.proof, wish.body_part, False
    if wish.vouched is not None:
        control, witness = wish.vouched
        # Section 6.8: popFailed to whom that is not allowed.
        if not is_ra:
            raise refuse(
                "popFailed",
                "lraPOPWitness is for registration authorities",
                control,
            )
        if (witness.pki_data, witness.body_ids) != (WHOLE, (part,)):
            raise refuse(
                "badRequest", "lraPOPWitness is about no request here", control
            )
        named = True
    if proof.kind == "signature":
        return wanted
    named = named or proof.kind == "ra-verified"
    if is_ra and named and proof.kind in _VOUCHED:
        return evolve(wanted, proof=evolve(proof, accepted=True))
    if proof.kind == "ra-verified":
        raise refuse(
            "popFailed", "raVerified is for registration authorities", part
        )
    raise refuse(
        "popRequired",
        "the request must be signed with the key that it carries",
        part,
    )


def _transaction(echo: Echo, content: bytes) -> str:
    """Return what a request is found by (E-1)."""
    if echo.transaction is not None:
        return f"tid-{echo.transaction.hex()}"
    return f"req-{hashlib.sha256(content).hexdigest()}"
