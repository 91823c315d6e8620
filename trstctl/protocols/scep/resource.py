# SPDX-License-Identifier: MIT
"""
SCEP over HTTP: connects the codec and the registration authority.

``/scep[/<name>][/pkiclient.exe]`` and ``/cgi-bin/pkiclient.exe`` (RFC 8894,
section 4.1), with and without TLS: messages protect themselves.

Theory of operation
===================

S-1  *A message that can be read is answered by a message*, signed, with HTTP
     200; what cannot be read is HTTP 400 with one fixed text.  Only a
     service that cannot answer at all says so in HTTP.
S-2  *Algorithms first.*  Nothing is verified or decrypted that the endpoint
     does not advertise; the signer's key is judged before its signature.
S-3  *No oracle.*  Whatever goes wrong from the private key on until the
     certification request is proven is the same badMessageCheck, after the
     same work (RFC 3218); a wrong content key becomes a random one.
S-4  *Encrypted to the signer only*, never to other certificates that the
     message carries.
S-5  *Default deny.*  A message type that is not listed is refused, and so is
     a content that is not what its type says (section 3.2.1.2).
S-6  *Who signs decides what it is*: the key to be certified, an enrollment,
     for which the gate is asked; a certificate of ours, a renewal, judged
     as everywhere.  Nobody else enrolls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from attrs import evolve, field, frozen
from twisted.logger import Logger

from trstctl import errors
from trstctl.errors import (
    Malformed,
    MessageCheckFailed,
    NotAuthorized,
    RequestError,
    Throttled,
    TooLarge,
    TrstctlError,
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
from trstctl.pkix.cms import IssuerAndSerial, certs_only
from trstctl.pkix.csr import read_csr, verify_proof
from trstctl.pkix.enveloped import Enveloped, decoy, read_enveloped
from trstctl.pkix.enveloping import envelope, envelope_for_password
from trstctl.policy.keys import KeyRules, check_key
from trstctl.protocols.scep import codec
from trstctl.protocols.scep.codec import Answer, PKIMessage
from trstctl.protocols.scep.gates import OpenGate
from trstctl.protocols.scep.settings import (
    SUFFIX,
    SCEPSettings,
    Served,
    all_served,
)
from trstctl.settings import ProtocolSettings
from trstctl.web import (
    Answered,
    HTTPRequest,
    HTTPResponse,
    ProtocolResource,
)

#: What failInfo says: a row for every refusal of the tree (RFC 8894,
#: section 3.2.1.4).  ``Throttled`` is told by HTTP.
FAIL_INFO: Mapping[type[RequestError], str] = {
    errors.Malformed: "badRequest",
    errors.MessageCheckFailed: "badMessageCheck",
    errors.UnsupportedAlgorithm: "badAlg",
    errors.TooLarge: "badRequest",
    errors.UnsupportedMediaType: "badRequest",
    errors.NotAuthenticated: "badRequest",
    errors.Throttled: "badRequest",
    errors.NotAuthorized: "badRequest",
    errors.ChallengeRejected: "badRequest",
    errors.ProofOfPossessionFailed: "badMessageCheck",
    errors.PolicyViolation: "badRequest",
    errors.UnknownCertificate: "badCertId",
    errors.Replayed: "badRequest",
    errors.Conflict: "badRequest",
    errors.Stale: "badRequest",
}

#: One text for all that may be wrong with a challenge or a signer.
_NOT_ADMITTED = "the request is not authorized"

_PKI_MESSAGE = "application/x-pki-message"

#: Iterations for an answer under a challenge, which is no password that
#: somebody could guess.
_ITERATIONS = 1000

_KEY_RULES = KeyRules()

T = TypeVar("T")


@frozen
class _Asked:
    """
    A message with what it is answered with.

    :ivar credential: signs the answer.
    :ivar endpoint: of the authority that issues.
    :ivar cipher: what the message is encrypted with; likewise ``scheme``.
    """

    served: Served
    message: PKIMessage
    request: HTTPRequest = field(repr=False)
    credential: IMessageCredential
    endpoint: Endpoint
    cipher: str = ""
    scheme: str = ""


class SCEPResource(ProtocolResource):
    """Everything below ``/scep``, and ``/cgi-bin/pkiclient.exe``."""

    Settings = SCEPSettings
    plain_http = True
    max_body = codec.MAX_MESSAGE
    methods = ("GET", "POST")
    _log = Logger()

    def __init__(
        self, name: str, ra: IRegistrationAuthority, settings: SCEPSettings
    ) -> None:
        super().__init__(name, ra, settings)
        self._served = all_served(name, settings)
        self._open_gate: Any = OpenGate()

    @classmethod
    def paths_for(cls, name: str, settings: ProtocolSettings) -> Sequence[str]:
        """Return where clients look (RFC 8894, section 4.1)."""
        return ("/scep", f"/cgi-bin/{SUFFIX}")

    @classmethod
    def endpoints_for(
        cls, name: str, settings: ProtocolSettings
    ) -> Sequence[Endpoint]:
        """Return the default endpoint and one for each label."""
        assert isinstance(settings, SCEPSettings)
        return tuple(
            one.endpoint for one in all_served(name, settings).values()
        )

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the methods at a path; ``None`` for no such endpoint."""
        if path[-1:] == (SUFFIX,):
            path = path[:-1]
        if len(path) > 1 or "".join(path) not in self._served:
            return None
        return self.methods

    def admission_key(self, request: HTTPRequest) -> Endpoint:
        """Return the endpoint; each tenant has its own places."""
        return self._of(request).endpoint

    def operation(self, request: HTTPRequest) -> str:
        """Return the operation's name; that of a message is in its facts."""
        operation, _ = codec.decode_query(request.query)
        return operation if operation in self._OPERATIONS else "PKIOperation"

    def _of(self, request: HTTPRequest) -> Served:
        """Return what is served at a path."""
        label = request.path[0] if request.path else ""
        return self._served.get(label, self._served[""])

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Answer one of the operations (RFC 8894, section 4)."""
        operation, message = codec.decode_query(request.query)
        served = self._of(request)
        if request.method == "POST":
            # Real clients leave the operation out.
            if operation not in ("PKIOperation", ""):
                raise Malformed("only PKIOperation is posted")
            return await self._pki_operation(served, request, request.body)
        match operation:
            case "GetCACaps":
                return self._capabilities(served)
            case "GetCACert":
                return await self._ca_certificates(served)
            case "GetNextCACert" if served.next_authority is not None:
                return await self._next_certificates(
                    served, served.next_authority
                )
            case "PKIOperation" if message:
                return await self._pki_operation(
                    served, request, codec.decode_get(message)
                )
        raise Malformed("no such operation")

    _OPERATIONS = frozenset(
        ("GetCACaps", "GetCACert", "GetNextCACert", "PKIOperation")
    )

    # --- about the authority ------------------------------------------------

    def _capabilities(self, served: Served) -> HTTPResponse:
        """Return what is advertised (section 3.5.2)."""
        lines = "".join(f"{each}\n" for each in served.capabilities)
        return HTTPResponse(200, "text/plain", lines.encode("ascii"))

    async def _ca_certificates(self, served: Served) -> HTTPResponse:
        """
        Return the RA certificate and the chain (section 4.2.1.2).

        The CA identifier in the query is ignored: everybody sends another.
        """
        credential = await self.ra.credentials.get(
            served.endpoint.authority, Purpose.SCEP
        )
        return HTTPResponse(
            200,
            "application/x-x509-ca-ra-cert",
            certs_only(credential.chain),
        )

    async def _next_certificates(
        self, served: Served, next_authority: str
    ) -> HTTPResponse:
        """Return the next CA's certificates, signed by ours (4.7.1)."""
        credential = await self.ra.credentials.get(
            next_authority, Purpose.SCEP
        )
        body = await self.ra.sign_message(
            served.endpoint, certs_only(credential.chain)
        )
        return HTTPResponse(200, "application/x-x509-next-ca-cert", body)

    # --- messages -----------------------------------------------------------

    async def _pki_operation(
        self, served: Served, request: HTTPRequest, body: bytes
    ) -> HTTPResponse:
        """Answer a pkiMessage by a CertRep, whatever comes of it (S-1)."""
        try:
            message = codec.read_message(body)
        except (Malformed, TooLarge) as error:
            raise Malformed("not a SCEP message") from error
        credential = await self.ra.credentials.get(
            served.endpoint.authority, Purpose.SCEP
        )
        asked = _Asked(served, message, request, credential, served.endpoint)
        facts = {"transaction": message.transaction}
        try:
            asked, enveloped = await self._addressed(asked)
            outcome = await self._answered(asked, enveloped)
        except Throttled:
            raise
        except RequestError as error:
            error.facts.update(facts)
            body = await self._signed(asked, _failure(error))
            raise Answered(
                error, HTTPResponse(200, _PKI_MESSAGE, body)
            ) from error
        answer, more = outcome
        return HTTPResponse(
            200,
            _PKI_MESSAGE,
            await self._signed(asked, answer),
            facts={**facts, **more},
        )

    async def _signed(self, asked: _Asked, answer: Answer) -> bytes:
        """Return the CertRep."""
        prepared = codec.prepare_answer(
            answer,
            asked.message,
            self.ra.random_bytes(16),
            asked.credential.certificate,
            asked.served.digests,
        )
        signature = await asked.credential.sign(
            prepared.to_sign, prepared.algorithm
        )
        return prepared.finish(signature)

    async def _addressed(self, asked: _Asked) -> tuple[_Asked, Enveloped]:
        """
        Judge everything that needs no private key (S-2), and find out to
        which of our certificates the message is encrypted.
        """
        message, served = asked.message, asked.served
        if message.message_type not in codec.MESSAGE_TYPES:
            raise Malformed("no such message type")
        if message.digest not in served.digests:
            raise UnsupportedAlgorithm(
                f"the message is signed with {message.digest}"
            )
        check_key(message.signer_key, _KEY_RULES)
        codec.check_message(message, served.digests)
        try:
            enveloped = read_enveloped(message.content)
        except (Malformed, TooLarge) as error:
            raise MessageCheckFailed from error
        if enveloped.cipher not in served.ciphers:
            raise UnsupportedAlgorithm(
                f"the message is encrypted with {enveloped.cipher}"
            )
        self._tell_legacy(asked, enveloped)
        for authority in (served.endpoint.authority, served.next_authority):
            if authority is None:
                continue
            for known in await self.ra.credentials.known(
                authority, Purpose.SCEP
            ):
                recipient = enveloped.recipient_for(known.certificate)
                if recipient is not None:
                    return (
                        evolve(
                            asked,
                            credential=known,
                            endpoint=evolve(
                                served.endpoint, authority=authority
                            ),
                            cipher=enveloped.cipher,
                            scheme=recipient.scheme,
                        ),
                        enveloped,
                    )
        return asked, enveloped  # S-3: nobody is told yet

    def _tell_legacy(self, asked: _Asked, enveloped: Enveloped) -> None:
        """Log who still uses what is weak."""
        for algorithm in (asked.message.digest, enveloped.cipher):
            if algorithm in {"sha1", "des-ede3-cbc"}:
                self._log.warn(
                    "a weak algorithm was used",
                    event="scep.legacy",
                    request_id=asked.request.request_id,
                    protocol=self.name,
                    transaction=asked.message.transaction,
                    algorithm=algorithm,
                )

    async def _open(
        self,
        asked: _Asked,
        enveloped: Enveloped,
        read: Callable[[bytes], T],
    ) -> T:
        """Decrypt the message and read what is in it (S-3)."""
        certificate = asked.credential.certificate
        recipient = enveloped.recipient_for(certificate)
        ours = recipient is not None
        chosen = recipient or decoy(certificate)
        key = await asked.credential.decrypt(
            chosen.encrypted_key, chosen.scheme
        )
        try:
            return enveloped.open(
                key if ours else None,
                read,
                random_bytes=self.ra.random_bytes,
            )
        except MessageCheckFailed as error:
            self._log.info(
                "a message could not be opened: {reason}",
                event="scep.unopened",
                request_id=asked.request.request_id,
                protocol=self.name,
                transaction=asked.message.transaction,
                reason=str(error.__cause__ or "wrong key or recipient"),
            )
            raise

    async def _answered(
        self, asked: _Asked, enveloped: Enveloped
    ) -> tuple[Answer, dict[str, str]]:
        """Do what the message type says; return answer and log facts."""
        match asked.message.message_type:
            case codec.PKCS_REQ | codec.RENEWAL_REQ:
                read = partial(
                    self._read_csr, lenient=self.ra.is_lenient(asked.endpoint)
                )
                wanted = await self._open(asked, enveloped, read)
                outcome = await self._enroll(asked, wanted)
                secret = wanted.challenge_password or ""
            case codec.CERT_POLL:
                await self._open(
                    asked, enveloped, codec.read_issuer_and_subject
                )
                outcome = await self._poll(asked)
                secret = ""
            case codec.GET_CERT:
                named = await self._open(asked, enveloped, codec.read_named)
                return await self._certificate(asked, named)
            case _:
                named = await self._open(asked, enveloped, codec.read_named)
                return await self._crl(asked, named)
        if isinstance(outcome, Pending):
            return Answer(codec.PENDING), outcome.facts
        chain = outcome.chain if asked.served.include_chain else ()
        content = certs_only((outcome.certificate, *chain))
        return self._success(asked, content, secret), outcome.facts

    def _success(
        self, asked: _Asked, content: bytes, secret: str = ""
    ) -> Answer:
        """Encrypt an answer to the signer of the request (S-4)."""
        return Answer(
            codec.SUCCESS, envelope=self._enveloped(asked, content, secret)
        )

    def _enveloped(self, asked: _Asked, content: bytes, secret: str) -> bytes:
        """Encrypt to the signer's key, or under what the signer knows."""
        if asked.message.signer_key.algorithm == "rsa":
            return envelope(
                content,
                asked.message.signer,
                cipher=asked.cipher,
                scheme=asked.scheme,
                random_bytes=self.ra.random_bytes,
            )
        if not secret:
            raise UnsupportedAlgorithm(
                "an answer can be encrypted to an RSA key, or under a "
                "challenge"
            )
        # RFC 8894, section 3.1.
        return envelope_for_password(
            content,
            secret.encode("utf-8"),
            cipher=asked.cipher,
            iterations=_ITERATIONS,
            random_bytes=self.ra.random_bytes,
        )

    # --- enrollment ---------------------------------------------------------

    @staticmethod
    def _read_csr(content: bytes, *, lenient: bool) -> CertificateRequest:
        """Read a request whose key is proven."""
        wanted = read_csr(content, lenient=lenient)
        check_key(wanted.public_key, _KEY_RULES)
        verify_proof(wanted)
        return wanted

    async def _enroll(
        self, asked: _Asked, wanted: CertificateRequest
    ) -> Issued | Pending:
        """Take a request to the registration authority (S-6)."""
        message = asked.message
        credential: Credential
        if self._is_ours(asked):
            operation = Operation.RENEW
            credential = ClientCertificate(message.signer)
        elif message.message_type == codec.RENEWAL_REQ:
            raise NotAuthorized(
                "a renewal is signed with the current certificate"
            )
        elif wanted.public_key.spki != message.signer_key.spki:
            # RFC 8894, section 2.3.
            raise NotAuthorized(
                "the message is signed with another key than the request"
            )
        else:
            operation = Operation.ENROLL
            credential = Challenge(
                wanted.challenge_password or "", self._gate(asked.served)
            )
        # What could not be handed out is not issued.
        self._enveloped(asked, b"", wanted.challenge_password or "")
        return await self.ra.enroll(
            EnrollmentRequest(
                endpoint=asked.endpoint,
                operation=operation,
                wanted=wanted,
                credentials=(credential,),
                request_id=asked.request.request_id,
                peer=asked.request.peer,
                transaction=message.transaction,
            )
        )

    def _is_ours(self, asked: _Asked) -> bool:
        """
        Tell whether the signer's certificate claims to be of this CA.

        Whether it really is, the authenticator finds out.
        """
        chain = self.ra.ca_certificates(asked.endpoint)
        return codec.is_issued_by(asked.message.signer, chain[0])

    def _gate(self, served: Served) -> IChallengeGate:
        """Return who judges the challenges of an endpoint."""
        gate: IChallengeGate = self.ra.challenges
        if served.challenge == "none":
            gate = self._open_gate
        return gate

    # --- the other message types --------------------------------------------

    async def _poll(self, asked: _Asked) -> Issued | Pending:
        """Tell what became of a request (sections 3.3.3 and 4.4)."""
        message = asked.message
        own = self._is_ours(asked)
        return await self.ra.poll(
            PollRequest(
                endpoint=asked.endpoint,
                transaction=message.transaction,
                public_key_fingerprint=message.signer_key.fingerprint,
                credentials=(ClientCertificate(message.signer),)
                if own
                else (),
                request_id=asked.request.request_id,
                peer=asked.request.peer,
            )
        )

    async def _certificate(
        self, asked: _Asked, named: IssuerAndSerial
    ) -> tuple[Answer, dict[str, str]]:
        """
        Return a certificate of the tenant (sections 3.3.4 and 4.5).

        To those only who have one themselves.
        """
        await self.ra.identify(
            asked.endpoint,
            (ClientCertificate(asked.message.signer),),
            asked.request.peer,
        )
        self._require_issuer(asked, named)
        record = await self.ra.find(asked.endpoint.tenant_id, named.serial)
        if record.authority != asked.endpoint.authority:
            raise UnknownCertificate
        answer = self._success(asked, certs_only((record.der,)))
        return answer, {"decision": "found", "serial": record.serial}

    async def _crl(
        self, asked: _Asked, named: IssuerAndSerial
    ) -> tuple[Answer, dict[str, str]]:
        """Return the authority's CRL, which is no secret (section 4.6)."""
        self._require_issuer(asked, named)
        crl = await self.ra.revocation.crl(asked.endpoint.authority, "")
        answer = self._success(asked, certs_only((), (crl.der,)))
        return answer, {"decision": "found"}

    def _require_issuer(self, asked: _Asked, named: IssuerAndSerial) -> None:
        """Refuse a certificate that another CA must have issued."""
        chain = self.ra.ca_certificates(asked.endpoint)
        if not codec.is_subject(named.issuer, chain[0]):
            raise UnknownCertificate

    def explain(
        self, error: TrstctlError, request: HTTPRequest
    ) -> HTTPResponse:
        """Return what HTTP says where no message can (S-1)."""
        if isinstance(error, Malformed):
            text = f"{error.detail}\n"
            return HTTPResponse(400, "text/plain", text.encode("utf-8"))
        return super().explain(error, request)


def _failure(error: RequestError) -> Answer:
    """Return what a CertRep says of a refusal."""
    kind = next(each for each in type(error).__mro__ if each in FAIL_INFO)
    text = error.detail
    if isinstance(error, errors.NotAuthenticated | errors.ChallengeRejected):
        # Neither may be told apart from the other.
        text = _NOT_ADMITTED
    return Answer(codec.FAILURE, FAIL_INFO[kind], text)
