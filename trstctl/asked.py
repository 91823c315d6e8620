# SPDX-License-Identifier: MIT
"""
One request with all that was found out of it, and what the store answers.

Pure: nothing here waits.  The invariants are those of :mod:`trstctl.ra`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta

from attrs import evolve, field, frozen

from trstctl.errors import (
    Conflict,
    Internal,
    Malformed,
    NotAuthorized,
    PolicyViolation,
    Stale,
    Unavailable,
)
from trstctl.interfaces import IAuthority, IChallengeGate, IProfilePolicy
from trstctl.model import (
    CertificateRecord,
    CertificateRequest,
    CertificateStatus,
    Challenge,
    ClientCertificate,
    EnrollmentRequest,
    Issued,
    Operation,
    Pending,
    Principal,
    PublicKey,
    RequestKey,
    RequestState,
    StoredRequest,
)
from trstctl.pkix.crmf import certificate_request, read_cert_req_messages
from trstctl.pkix.csr import REVOCATION_CHALLENGE, read_csr, verify_proof
from trstctl.pkix.der import sequence
from trstctl.rules import Rules, Windows

#: What the key of a request begins with whose own key is made here: no row
#: of such a request answers another.
ANEW = "anew:"

#: Likewise of a request that is not begun anew by being sent again (I-18).
ONCE = "once:"


@frozen
class Asked:
    """
    One request with everything that was found out before judging it.

    :ivar authorities: all of this moment, for what an earlier one issued.
    :ivar key_life: for how long its idempotency key is remembered.
    :ivar gates: what has admitted it, and is to hear what comes of it.
    :ivar former: the certificate that a renewal is to replace.
    :ivar proven: whether it comes from the store, which keeps no request
        that was not proven.
    """

    request: EnrollmentRequest
    principal: Principal
    policy: IProfilePolicy
    authority: IAuthority
    authorities: Mapping[str, IAuthority] = field(repr=False)
    key: RequestKey
    key_life: timedelta
    fingerprint: str = field(repr=False)
    gates: tuple[IChallengeGate, ...] = ()
    former: CertificateRecord | None = None
    proven: bool = False

    @property
    def replaces(self) -> CertificateRecord | None:
        """What the new certificate replaces at once (I-14)."""
        if self.request.confirm_within is not None:
            return None
        return self.former


def ask(
    request: EnrollmentRequest,
    principal: Principal,
    rules: Rules,
    windows: Windows,
) -> Asked:
    """
    Pin the rules of this moment, and derive key and fingerprint.

    :raises NotAuthorized: a renewal of nothing.
    :raises PolicyViolation: a password that would revoke nothing.
    :raises Unavailable: a reload has taken profile or authority away.
    """
    endpoint = request.endpoint
    _refuse_password_to_revoke(request)
    renewing = request.operation is Operation.RENEW
    if renewing and principal.record is None:
        raise NotAuthorized(
            "a renewal needs the current certificate as TLS client certificate"
        )
    own, key_life = request.idempotency_key, windows.retention
    if request.anew:
        _refuse_repeatable(request)
        # The key is another each time, and so is all of the request.
        content = request.content or request.wanted.der
        fingerprint = fingerprint_of(
            request, content + request.wanted.public_key.spki
        )
        key_life = windows.retry
        key = f"{ANEW}{fingerprint}"
    elif principal.secret_id is not None:
        # The secret is an idempotency key already.  A device that lost
        # the answer may sign its request anew, which changes the bytes
        # (an ECDSA signature is random), and name any key of its own:
        # it still asks for the one certificate that the secret buys.
        fingerprint = fingerprint_of(
            request, request.content or request.wanted.content
        )
        key = f"csr:{fingerprint}"
    else:
        fingerprint = fingerprint_of(request, request.content)
        if own is not None:
            key = f"key:{own}"
        else:
            key_life = windows.retry
            key = f"csr:{fingerprint}"
            if request.transaction:  # I-11
                key = f"tid:{request.transaction}:{fingerprint}"
            if request.once:  # I-18
                key = f"{ONCE}{request.transaction}:{content_of(request)}"
    policy = rules.profiles.get(endpoint.profile)
    authority = rules.authorities.get(endpoint.authority)
    if policy is None or authority is None:
        # A reload took them away while this request was on its way in.
        raise Unavailable
    return Asked(
        request=request,
        principal=principal,
        policy=policy,
        authority=authority,
        authorities=rules.authorities,
        key=RequestKey(
            endpoint.tenant_id, endpoint.protocol, principal.id, key
        ),
        key_life=key_life,
        fingerprint=fingerprint,
        gates=gates_of(request),
        former=principal.record if renewing else None,
    )


def _refuse_password_to_revoke(request: EnrollmentRequest) -> None:
    """
    Refuse a revocationChallenge that the protocol does not keep (I-19).

    Whoever sends one relies on it, and it would be part of a digest.
    """
    if (
        REVOCATION_CHALLENGE in request.wanted.attributes
        and not request.revocation_verifier
    ):
        raise unkept_password(request.endpoint.profile)


def unkept_password(profile: str) -> PolicyViolation:
    """Return the refusal of a revocationChallenge that nobody keeps."""
    return PolicyViolation(
        profile,
        "revocation-challenge",
        "nothing can be revoked by a revocationChallenge here; leave it out",
    )


def fingerprint_of(
    request: EnrollmentRequest, content: bytes | None = None
) -> str:
    """
    Return what two requests must share to be the same request.

    SHA-256 over operation, endpoint and DER, so that a key that is reused
    for another operation or endpoint is a conflict, not an answer.

    :param content: takes the place of the DER.
    """
    digest = hashlib.sha256()
    endpoint = request.endpoint
    for part in (request.operation.value, endpoint.protocol, endpoint.name):
        digest.update(b"%d:%s" % (len(part), part.encode()))
    digest.update(request.wanted.der if content is None else content)
    return digest.hexdigest()


def content_of(request: EnrollmentRequest) -> str:
    """Return SHA-256 over operation and DER, wherever it was sent to."""
    digest = hashlib.sha256(request.operation.value.encode())
    digest.update(b":")
    digest.update(request.wanted.der)
    return digest.hexdigest()


def gates_of(request: EnrollmentRequest) -> tuple[IChallengeGate, ...]:
    """
    Return the gates that a request has to pass.

    If it renews by certificate, only those that judge renewals, too.
    """
    renewing = request.operation is Operation.RENEW and any(
        isinstance(each, ClientCertificate) for each in request.credentials
    )
    return tuple(
        each.gate
        for each in request.credentials
        if isinstance(each, Challenge) and (each.gate.renewals or not renewing)
    )


def settled(
    asked: Asked, stored: StoredRequest | None, now: datetime
) -> Issued | Pending | None:
    """Return the answer that the store already holds, if any (I-4)."""
    if stored is None:
        return None
    if asked.request.anew:
        return pending(asked, stored, in_flight=True)
    if stored.fingerprint != asked.fingerprint:
        raise Conflict
    if stored.csr != asked.request.wanted.der:
        # Signed anew; the key is the one that was judged before.
        verify_proof(asked.request.wanted)
    match stored.state:
        case RequestState.ISSUED:
            return replay(asked, stored, now)
        case RequestState.DENIED:
            raise NotAuthorized(
                f"request {stored.id} was denied: "
                f"{stored.reason or 'no reason given'}"
            )
        case RequestState.HELD:
            return pending(asked, stored)
        case RequestState.OPEN:
            return pending(asked, stored, in_flight=True)
    return None  # approved or abandoned: to be signed


def replay(asked: Asked, stored: StoredRequest, now: datetime) -> Issued:
    """Answer with the certificate of the earlier request, if it lives."""
    if stored.certificate is None or stored.serial is None:
        raise Internal
    if stored.revoked:
        raise Stale("the certificate of this request has been revoked")
    if stored.not_after is None or stored.not_after <= now:
        raise Stale("the certificate of this request has expired")
    # I-17: who issued it may be the generation before.
    issuer = asked.authorities.get(stored.authority, asked.authority)
    return Issued(
        certificate=stored.certificate,
        chain=tuple(issuer.chain),
        serial=stored.serial,
        profile=stored.profile,
        principal=asked.principal.id,
        replayed=True,
        former=asked.former.serial if asked.former else "",
    )


def has_lapsed(stored: StoredRequest, now: datetime) -> bool:
    """Tell whether a request was here too long ago to be answered again."""
    return stored.state is not RequestState.OPEN and stored.key_expires <= now


def refuse_ended(stored: StoredRequest) -> None:
    """
    Refuse what has had its answer (I-18).

    What came to nothing had none; what was approved, and never fetched, has
    to be approved again.
    """
    if stored.state not in {RequestState.ABANDONED, RequestState.APPROVED}:
        raise Conflict("this transaction has come to its end before")


def pending(
    asked: Asked, stored: StoredRequest, *, in_flight: bool = False
) -> Pending:
    """Ask the client to come back."""
    return Pending(
        retry_after=2 if in_flight else asked.policy.retry_after,
        reference=stored.id,
        principal=asked.principal.id,
        profile=stored.profile,
        in_flight=in_flight,
    )


def settled_in_flight(outcome: Issued | Pending) -> bool:
    """Tell whether the answer may still become a better one by waiting."""
    return isinstance(outcome, Pending) and outcome.in_flight


def is_approved(stored: StoredRequest | None) -> bool:
    """
    Tell whether a person has approved this very request.

    What came to nothing afterwards needs no second approval.
    """
    return stored is not None and (
        stored.state is RequestState.APPROVED
        or (stored.state is RequestState.ABANDONED and stored.decided_by != "")
    )


def refuse_revoked(former: CertificateRecord | None) -> None:
    """Let nothing new take the place of a revoked certificate."""
    if former is not None and former.status is CertificateStatus.REVOKED:
        raise NotAuthorized("the client certificate has been revoked")


def refuse_replaced(asked: Asked) -> None:
    """Let nothing new take the place of a replaced one, if so wished."""
    former = asked.former
    if asked.request.current_only and former and former.superseded_by:
        raise Stale("the certificate has been updated already")


def _refuse_repeatable(request: EnrollmentRequest) -> None:
    """Let nobody rely on the same answer where the key is new (I-15)."""
    if request.idempotency_key is not None:
        raise Malformed(
            "a key that is made here is handed out once, so that a repeated "
            "request gets another; leave the idempotency key out"
        )
    if not request.transaction:
        raise Internal("a request for a new key is without a transaction")


def wish(key: PublicKey) -> str:
    """Return what stands for a key that is yet to be made."""
    return "" if key.spki else key.fingerprint


def read_kept(der: bytes) -> CertificateRequest:
    """
    Read a request that the store has kept: PKCS#10 or CRMF.

    What was forgiven when it came in is forgiven now, and what proof was
    accepted then, which was before it was kept, is accepted now.

    :raises Malformed: it is neither.
    """
    try:
        return read_csr(der, lenient=True)
    except Malformed:
        (message,) = read_cert_req_messages(sequence(der))
        wanted = certificate_request(message, lenient=True)
        proof = evolve(wanted.proof, accepted=wanted.proof.kind != "signature")
        return evolve(wanted, proof=proof)
