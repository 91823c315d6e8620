# SPDX-License-Identifier: MIT
"""
PKIOperation: one pkiMessage in, one CertRep out (RFC 8894, section 4.3 on).

Theory of operation
===================

S-1  *A message that can be read is answered by a message*, signed, with HTTP
     200; what cannot be read is HTTP 400 with one fixed text.  Only a
     service that cannot answer at all says so in HTTP.
S-2  *Algorithms first.*  Nothing is verified or decrypted that the endpoint
     does not advertise; the signer's key is judged before its signature.
S-3  *No oracle.*  Whatever goes wrong from the private key on until what
     was encrypted is proven is the same badMessageCheck, after the same
     work (RFC 3218); see :mod:`trstctl.protocols.scep.opening`.
S-4  *Encrypted to the signer only*, never to other certificates that the
     message carries.
S-5  *Default deny.*  A message type that is not listed is refused, and so is
     a content that is not what its type says (section 3.2.1.2).
S-6  *Who signs decides what it is*: the key to be certified, an enrollment,
     for which the gate is asked; a certificate of ours, a renewal, judged
     as everywhere.  Nobody else enrolls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from attrs import evolve, field, frozen
from twisted.logger import Logger

from trstctl.errors import (
    Malformed,
    MessageCheckFailed,
    NotAuthorized,
    RequestError,
    Throttled,
    TooLarge,
    UnknownCertificate,
    UnsupportedAlgorithm,
)
from trstctl.interfaces import (
    IChallengeGate,
    IMessageCredential,
    IRegistrationAuthority,
)
from trstctl.model import (
    CertificateRequest,
    Challenge,
    ClientCertificate,
    Credential,
    Endpoint,
    EnrollmentRequest,
    Issued,
    Operation,
    Pending,
    PollRequest,
    Purpose,
)
from trstctl.pkix.cms import (
    DATA,
    IssuerAndSerial,
    certs_only,
    is_self_signed,
)
from trstctl.pkix.enveloped import Enveloped, decoy, read_enveloped
from trstctl.pkix.enveloping import envelope, envelope_for_password
from trstctl.policy.keys import require_affordable
from trstctl.protocols.scep import codec
from trstctl.protocols.scep.codec import Answer, PKIMessage
from trstctl.protocols.scep.opening import (
    Reader,
    certificate_reader,
    request_reader,
)
from trstctl.protocols.scep.refusals import failure
from trstctl.protocols.scep.settings import Served
from trstctl.web import Answered, HTTPRequest, HTTPResponse

_PKI_MESSAGE = "application/x-pki-message"

#: Iterations for an answer under a challenge, which is no password that
#: somebody could guess.
_ITERATIONS = 1000

#: What no answer can be encrypted to, or under.
_UNANSWERABLE = (
    "an answer can be encrypted to an RSA key, or under the challenge of the "
    "request"
)

#: Counted and logged where an endpoint takes them at all.
_LEGACY = frozenset({"sha1", "des-ede3-cbc"})

T = TypeVar("T")


@frozen
class _Asked:
    """
    A message with what it is answered with.

    :ivar ours: whether the signer's certificate claims to be of our CA, or
        of the one that follows it; the authenticator finds out.
    :ivar credential: signs the answer.
    :ivar endpoint: of the authority that issues.
    :ivar cipher: what the message is encrypted with; likewise ``scheme``.
    """

    message: PKIMessage
    ours: bool
    request: HTTPRequest = field(repr=False)
    credential: IMessageCredential
    endpoint: Endpoint
    cipher: str = ""
    scheme: str = ""


#: An answer, and what the log line says of it.
_Outcome = tuple[Answer, Mapping[str, str]]


class PKIOperation:
    """
    Answers the messages to one endpoint.

    :param gate: judges its challenges.
    :param ticks: a monotonic clock that is fine enough to compare the steps
        of one request.
    """

    _log = Logger()

    def __init__(
        self,
        ra: IRegistrationAuthority,
        served: Served,
        gate: IChallengeGate,
        ticks: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._ra = ra
        self._ticks = ticks
        self._served = served
        self._gate = gate
        present, following = served.endpoint, served.next_authority
        self._endpoints: tuple[Endpoint, ...] = (present,)
        if following is not None:
            # While one CA takes over from the other, a certificate of
            # either renews with either.
            self._endpoints = (
                evolve(present, issuers=(following,)),
                evolve(
                    present, authority=following, issuers=(present.authority,)
                ),
            )

    async def answer(self, request: HTTPRequest, body: bytes) -> HTTPResponse:
        """
        Answer a pkiMessage by a CertRep, whatever comes of it (S-1).

        :raises Malformed: no CertRep can answer it.
        :raises Answered: it was refused, by a CertRep.
        :raises Throttled: HTTP can say so better.
        """
        try:
            message = codec.read_message(body)
        except (Malformed, TooLarge) as error:
            raise Malformed(codec.UNREADABLE) from error
        endpoint = self._ra.serving(self._endpoints[0])
        credential = await self._ra.credentials.get(
            endpoint.authority, Purpose.SCEP
        )
        asked = _Asked(
            message, self._is_ours(message), request, credential, endpoint
        )
        facts = {"transaction": message.transaction}
        try:
            enveloped = self._judged(asked)
            weak = _LEGACY & {message.digest, enveloped.cipher}
            if weak:
                facts["legacy"] = " ".join(sorted(weak))
            asked = await self._addressed(asked, enveloped)
            answer, more = await self._answered(asked, enveloped)
        except Throttled:
            raise
        except RequestError as error:
            error.facts.update(facts)
            certrep = await self._signed(asked, failure(error))
            raise Answered(
                error, HTTPResponse(200, _PKI_MESSAGE, certrep)
            ) from error
        certrep = await self._signed(asked, answer)
        return HTTPResponse(
            200, _PKI_MESSAGE, certrep, facts={**facts, **more}
        )

    async def _signed(self, asked: _Asked, answer: Answer) -> bytes:
        """Return the CertRep."""
        prepared = codec.prepare_answer(
            answer,
            asked.message,
            self._ra.random_bytes(16),
            asked.credential.certificate,
            self._served.digests,
        )
        signature = await asked.credential.sign(
            prepared.to_sign, prepared.algorithm
        )
        return prepared.finish(signature)

    # --- before any private key ---------------------------------------------

    def _judged(self, asked: _Asked) -> Enveloped:
        """Judge everything that needs no private key (S-2, S-5)."""
        message, served = asked.message, self._served
        if message.message_type not in codec.MESSAGE_TYPES:
            raise Malformed("no such message type")
        require_affordable(message.signer_key)
        codec.check_message(message, served.digests)
        # RFC 8894, section 2.3: who has no certificate MUST sign with one
        # that is self-signed.  What the message's signature leaves open of
        # it, nobody may change on the way.
        if not asked.ours and not is_self_signed(message.signer, legacy=True):
            raise NotAuthorized(
                "the message is signed with a certificate that is neither "
                "self-signed nor of this CA"
            )
        if (
            message.signer_key.algorithm != "rsa"
            and message.message_type not in codec.ENROLLMENTS
        ):
            raise NotAuthorized(_UNANSWERABLE)
        try:
            enveloped = read_enveloped(message.content)
        except (Malformed, TooLarge) as error:
            raise MessageCheckFailed from error
        # RFC 8894, section 3.2.2: the content MUST be of the type data.
        if enveloped.content_type != DATA:
            raise MessageCheckFailed
        if enveloped.cipher not in served.ciphers:
            raise UnsupportedAlgorithm(
                f"the message is encrypted with {enveloped.cipher}"
            )
        for algorithm in _LEGACY & {message.digest, enveloped.cipher}:
            self._log.warn(
                "a weak algorithm was used",
                event="scep.legacy",
                request_id=asked.request.request_id,
                tenant=self._served.endpoint.tenant_id,
                protocol=self._served.endpoint.protocol,
                transaction=message.transaction,
                algorithm=algorithm,
                peer=asked.request.peer,
            )
        return enveloped

    async def _addressed(self, asked: _Asked, enveloped: Enveloped) -> _Asked:
        """Find out to which of our certificates the message is encrypted."""
        for endpoint in self._endpoints:
            now = self._ra.succession(endpoint)
            for authority in (now.authority, *now.keyed):
                for known in await self._ra.credentials.known(
                    authority, Purpose.SCEP
                ):
                    recipient = enveloped.recipient_for(known.certificate)
                    if recipient is not None:
                        return evolve(
                            asked,
                            # Whoever is asked, the key that issues does.
                            credential=known,
                            endpoint=self._ra.serving(endpoint),
                            cipher=enveloped.cipher,
                            scheme=recipient.scheme,
                        )
        return asked  # S-3: nobody is told yet

    # --- what was encrypted -------------------------------------------------

    async def _open(
        self, asked: _Asked, enveloped: Enveloped, read: Reader[T]
    ) -> T:
        """Decrypt the message and read what is in it (S-3)."""
        certificate = asked.credential.certificate
        recipient = enveloped.recipient_for(certificate)
        chosen = recipient or decoy(certificate)
        key = await asked.credential.decrypt(
            chosen.encrypted_key, chosen.scheme
        )
        read.begin(self._ticks())
        try:
            return enveloped.open(
                None if recipient is None else key,
                read,
                random_bytes=self._ra.random_bytes,
            )
        except MessageCheckFailed as error:
            reason = str(error.__cause__ or "wrong key or padding")
            if error.__cause__ is not None:
                # It would keep what was read, until some later time.
                error.__cause__.__traceback__ = None
        self._log.info(
            "a message could not be opened: {reason}",
            event="scep.unopened",
            request_id=asked.request.request_id,
            tenant=self._served.endpoint.tenant_id,
            protocol=self._served.endpoint.protocol,
            transaction=asked.message.transaction,
            reason=reason,
            peer=asked.request.peer,
        )
        # By now everything is done and forgotten that differs.
        read.make_up(self._ticks)
        raise MessageCheckFailed

    async def _answered(self, asked: _Asked, enveloped: Enveloped) -> _Outcome:
        """Do what the message type says."""
        match asked.message.message_type:
            case codec.PKCS_REQ | codec.RENEWAL_REQ:
                read = request_reader(
                    asked.message, lenient=self._ra.is_lenient(asked.endpoint)
                )
                wanted = await self._open(asked, enveloped, read)
                return self._told(
                    asked,
                    await self._enroll(asked, wanted),
                    wanted.challenge_password or "",
                )
            case codec.CERT_POLL:
                if not asked.cipher:
                    raise MessageCheckFailed
                return self._told(asked, await self._poll(asked))
            case kind:
                issuer = self._ra.ca_certificates(asked.endpoint)[0]
                named = await self._open(
                    asked, enveloped, certificate_reader(issuer)
                )
                if kind == codec.GET_CERT:
                    return await self._certificate(asked, named)
                return await self._crl(asked, named)

    def _told(
        self, asked: _Asked, outcome: Issued | Pending, secret: str = ""
    ) -> _Outcome:
        """Return the answer to a request for a certificate."""
        if isinstance(outcome, Pending):
            return Answer(codec.PENDING), outcome.facts
        # RFC 8894, section 3.4: the issued one is the leaf; clients take
        # the first.
        chain: tuple[bytes, ...] = ()
        if self._served.include_chain:
            bridge = self._ra.succession(self._endpoints[0]).bridge
            chain = (*outcome.chain, *bridge)
        content = certs_only((outcome.certificate, *chain))
        return self._success(asked, content, secret), outcome.facts

    def _success(
        self, asked: _Asked, content: bytes, secret: str = ""
    ) -> Answer:
        """Encrypt to the signer's key, or under what the signer knows."""
        if asked.message.signer_key.algorithm == "rsa":
            sealed = envelope(
                content,
                asked.message.signer,  # S-4
                cipher=asked.cipher,
                scheme=asked.scheme,
                random_bytes=self._ra.random_bytes,
            )
        else:
            # RFC 8894, section 3.1.
            sealed = envelope_for_password(
                content,
                secret.encode("utf-8"),
                cipher=asked.cipher,
                iterations=_ITERATIONS,
                random_bytes=self._ra.random_bytes,
            )
        return Answer(codec.SUCCESS, envelope=sealed)

    # --- enrollment ---------------------------------------------------------

    async def _enroll(
        self, asked: _Asked, wanted: CertificateRequest
    ) -> Issued | Pending:
        """Take a request to the registration authority (S-6)."""
        message = asked.message
        challenge = wanted.challenge_password or ""
        gated = Challenge(challenge, self._gate)
        credentials: tuple[Credential, ...] = (gated,)
        operation = Operation.ENROLL
        if asked.ours:
            operation = Operation.RENEW
            # The gate comes in only if it judges renewals, too.
            credentials = (ClientCertificate(message.signer), gated)
        elif message.message_type == codec.RENEWAL_REQ:
            raise NotAuthorized(
                "a renewal is signed with the current certificate"
            )
        elif wanted.public_key.spki != message.signer_key.spki:
            # RFC 8894, section 2.3.
            raise NotAuthorized(
                "the message is signed with another key than the request"
            )
        if message.signer_key.algorithm != "rsa" and not challenge:
            # What could not be handed out is not issued.
            raise NotAuthorized(_UNANSWERABLE)
        return await self._ra.enroll(
            EnrollmentRequest(
                endpoint=asked.endpoint,
                operation=operation,
                wanted=wanted,
                credentials=credentials,
                request_id=asked.request.request_id,
                peer=asked.request.peer,
                transaction=message.transaction,
            )
        )

    def _is_ours(self, message: PKIMessage) -> bool:
        """Tell whether the signer's certificate claims to be of our CA."""
        return any(
            codec.is_issued_by(
                message.signer, self._ra.ca_certificates(endpoint)[0]
            )
            for endpoint in self._endpoints
        )

    # --- the other message types --------------------------------------------

    async def _poll(self, asked: _Asked) -> Issued | Pending:
        """
        Tell what became of a request (sections 3.3.3 and 4.4).

        Its transactionID and the signer's key say which: the content is
        not even decrypted, since everything it could say is known.
        """
        message = asked.message
        if self._served.asks_others:
            # The gate is told of each time that a certificate is handed out.
            self._ra.attempts.ask(asked.request.peer)
        # It is to hear of a certificate before that is handed out.
        told: tuple[Credential, ...] = (Challenge("", self._gate),)
        if asked.ours:
            told = (ClientCertificate(message.signer), *told)
        return await self._ra.poll(
            PollRequest(
                endpoint=asked.endpoint,
                transaction=message.transaction,
                public_key_fingerprint=message.signer_key.fingerprint,
                credentials=told,
                request_id=asked.request.request_id,
                peer=asked.request.peer,
            )
        )

    async def _certificate(
        self, asked: _Asked, named: IssuerAndSerial
    ) -> _Outcome:
        """
        Return a certificate of the tenant (sections 3.3.4 and 4.5).

        To those only who have one themselves.
        """
        asker = await self._ra.identify(asked.endpoint, asked.message.signer)
        record = await self._ra.find(asked.endpoint.tenant_id, named.serial)
        if record.authority not in _authorities(asked.endpoint):
            raise UnknownCertificate
        answer = self._success(asked, certs_only((record.der,)))
        return answer, {
            "decision": "found",
            "principal": asker.id,
            "serial": record.serial,
        }

    async def _crl(self, asked: _Asked, named: IssuerAndSerial) -> _Outcome:
        """
        Return the authority's CRL, which is no secret (section 4.6).

        Of several generations, that of the one that issued what is named.
        """
        endpoint = asked.endpoint
        authority = endpoint.authority
        if endpoint.issuers:
            try:
                record = await self._ra.find(endpoint.tenant_id, named.serial)
            except UnknownCertificate:
                pass  # the CRL of now, as to everybody else
            else:
                if record.authority in endpoint.issuers:
                    authority = record.authority
        crl = await self._ra.revocation.crl(authority, "")
        answer = self._success(asked, certs_only((), (crl.der,)))
        return answer, {"decision": "found"}


def _authorities(endpoint: Endpoint) -> tuple[str, ...]:
    """Return all whose certificates count."""
    return (endpoint.authority, *endpoint.issuers)
