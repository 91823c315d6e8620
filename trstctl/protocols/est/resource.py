# SPDX-License-Identifier: MIT
"""
EST over HTTPS: connects the codec and the registration authority.

``/.well-known/est[/<label>]/<operation>`` (RFC 7030, section 3.2.2) with
``cacerts``, ``simpleenroll``, ``simplereenroll`` and ``csrattrs``; where the
label has them, ``serverkeygen``, ``fullcmc``, ``crls`` and ``eecerts`` (RFC
8295), and ``renewal-info``.  Every other operation is answered 404, which is
how a server says that it does not offer one (RFC 7030, section 4.3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from attrs import evolve

from trstctl.errors import (
    PolicyViolation,
    RequestError,
    TrstctlError,
    UnsupportedMediaType,
)
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    CertificateRequest,
    ClientCertificate,
    Credential,
    Endpoint,
    EnrollmentRequest,
    Operation,
    Pending,
)
from trstctl.pkix.csr import (
    CHALLENGE_PASSWORD,
    OTP_CHALLENGE,
    REVOCATION_CHALLENGE,
    read_csr,
)
from trstctl.protocols.est.challenges import (
    EST_IDENTITY_LINKING,
    read_challenges,
)
from trstctl.protocols.est.codec import (
    CERTS_ONLY,
    decode_request_body,
    encode_base64,
    encode_certificates,
    encode_generated_key,
)
from trstctl.protocols.est.csrattrs import (
    advertised,
    encode_csr_attributes,
    missing,
)
from trstctl.protocols.est.distribution import Distribution
from trstctl.protocols.est.fullcmc import FullCMC
from trstctl.protocols.est.key_generation import NewKey
from trstctl.protocols.est.settings import (
    METHODS,
    RENEWAL_INFO,
    ESTSettings,
    Served,
    all_served,
)
from trstctl.settings import ProtocolSettings
from trstctl.web import (
    Answered,
    HTTPRequest,
    HTTPResponse,
    ProtocolResource,
    Refused,
)

_CMC_RESPONSE = "application/pkcs7-mime; smime-type=CMC-response"

#: BouncyCastle decodes base64 only with this header, and RFC 8951 lets
#: everybody else ignore it.
_BASE64 = {"Content-Transfer-Encoding": "base64"}

#: Advertised where a request must be linked to its session, and who reads
#: which (RFC 7894, section 4): first what older clients know.
_LINKS = {
    "pop": (CHALLENGE_PASSWORD, EST_IDENTITY_LINKING),
    "secret": (EST_IDENTITY_LINKING,),
    "ignore": (EST_IDENTITY_LINKING,),
}


class ESTResource(ProtocolResource):
    """Everything below ``/.well-known/est``."""

    Settings = ESTSettings

    def __init__(
        self, name: str, ra: IRegistrationAuthority, settings: ESTSettings
    ) -> None:
        super().__init__(name, ra, settings)
        self._served = all_served(name, settings, trusting=True)
        self.realm = settings.realm
        self._distribution = Distribution(ra, settings.renewal_retry)
        self._ca_bodies: dict[tuple[tuple[bytes, ...], bool], bytes] = {}
        self._cmc = {
            label: FullCMC(ra, one, partial(self._enforce, one))
            for label, one in self._served.items()
            if one.fullcmc
        }

    @classmethod
    def paths_for(cls, name: str, settings: ProtocolSettings) -> Sequence[str]:
        """Return the path prefix of RFC 7030, section 3.2.2."""
        return ("/.well-known/est",)

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the operation's methods; ``None`` for no such path."""
        label, operation, name = _split(path)
        served = self._served.get("/".join(label))
        if served is None or (name is None) is (operation == RENEWAL_INFO):
            return None
        return METHODS.get(operation) if served.offers(operation) else None

    def admission_key(self, request: HTTPRequest) -> Endpoint:
        """Return the label's endpoint; each tenant has its own places."""
        label, _, _ = _split(request.path)
        return self._served.get("/".join(label), self._served[""]).endpoint

    def operation(self, request: HTTPRequest) -> str:
        """Return the operation; the name of a certificate is none."""
        return _split(request.path)[1]

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Answer one of the operations, in lines that the client reads."""
        label, operation, name = _split(request.path)
        served = self._served["/".join(label)]
        response = await self._answer(served, operation, name, request)
        if served.line_mode == "auto" and _is_terse(request):
            return _ended(response)
        return response

    async def _answer(
        self,
        served: Served,
        operation: str,
        name: str | None,
        request: HTTPRequest,
    ) -> HTTPResponse:
        """Answer one of the operations."""
        if name is not None:
            return await self._distribution.renewal(
                served.endpoint, name, request
            )
        match operation:
            case "crls":
                return await self._distribution.crls(
                    served.endpoint, single_line=_single_line(served, request)
                )
            case "eecerts":
                return await self._distribution.peers(
                    served.endpoint,
                    served.eecerts,
                    request,
                    single_line=_single_line(served, request),
                )
            case "cacerts":
                return self._ca_certificates(served, request)
            case "csrattrs":
                return self._csr_attributes(served, request)
            case "simpleenroll":
                return await self._enroll(served, request, Operation.ENROLL)
            case "fullcmc":
                return await self._full_cmc(served, request)
            case "serverkeygen":
                return await self._generate(served, request)
            case _:
                return await self._enroll(served, request, Operation.RENEW)

    # --- operations ---------------------------------------------------------

    def _ca_certificates(
        self, served: Served, request: HTTPRequest
    ) -> HTTPResponse:
        """
        Return the chain up to and with the root (RFC 7030, section 4.1.3).
        """
        chain = self.ra.ca_certificates(served.endpoint)
        single_line = _single_line(served, request)
        body = self._ca_bodies.get((chain, single_line))
        if body is None:
            body = encode_certificates(chain, single_line=single_line)
            self._ca_bodies = {(chain, single_line): body}
        # Exactly this type: older BouncyCastle compares it for equality.
        return HTTPResponse(200, "application/pkcs7-mime", body, _BASE64)

    def _csr_attributes(
        self, served: Served, request: HTTPRequest
    ) -> HTTPResponse:
        """Return what the profile asks of a request; 204: nothing."""
        der = b""
        if served.csrattrs != "off":
            announced = (
                _LINKS[served.challenge_password]
                if served.pop_required
                else ()
            )
            if served.otp == "required":
                announced = (*announced, OTP_CHALLENGE)
            if served.revocation_challenge == "announced":
                announced = (*announced, REVOCATION_CHALLENGE)
            der = encode_csr_attributes(
                advertised(
                    self.ra.csr_attributes(served.endpoint),
                    served.csrattrs_form,
                    announced,
                )
            )
        if not der:
            return HTTPResponse(204)
        body = encode_base64(der, single_line=_single_line(served, request))
        return HTTPResponse(200, "application/csrattrs", body, _BASE64)

    async def _enroll(
        self, served: Served, request: HTTPRequest, operation: Operation
    ) -> HTTPResponse:
        """Take a certification request to the registration authority."""
        wanted = self._read_request(served, request)
        outcome = await self.ra.enroll(
            self._call(served, request, operation, wanted)
        )
        if isinstance(outcome, Pending):
            return _come_back(outcome, request)
        return HTTPResponse(
            200,
            CERTS_ONLY,
            # Only the certificate itself (RFC 7030, section 4.2.3).
            encode_certificates(
                (outcome.certificate,),
                single_line=_single_line(served, request),
            ),
            _BASE64,
            facts=outcome.facts,
        )

    async def _full_cmc(
        self, served: Served, request: HTTPRequest
    ) -> HTTPResponse:
        """Answer a Full PKI Request by a Full PKI Response (section 4.3)."""
        _check_cmc_type(request, lenient=served.lenient)
        reply = await self._cmc[served.endpoint.name].answer(
            request, partial(_credentials, served, request)
        )
        headers: dict[str, str | tuple[str, ...]] = dict(_BASE64)
        status = reply.status
        if reply.error is not None:
            told = self.explain(reply.error, request)
            headers.update(told.headers)
            # 404 would say that there is no /fullcmc (section 4.3.2).
            status = 400 if told.status == 404 else told.status
        if reply.retry_after:
            headers["Retry-After"] = str(reply.retry_after)
        response = HTTPResponse(
            status,
            _CMC_RESPONSE,
            encode_base64(
                reply.message, single_line=_single_line(served, request)
            ),
            headers,
            reply.facts,
        )
        if reply.error is not None:
            raise Answered(reply.error, response)
        return response

    async def _generate(
        self, served: Served, request: HTTPRequest
    ) -> HTTPResponse:
        """Make a key, and have it certified (RFC 7030, section 4.4)."""
        assert served.recipients is not None  # else there is no such path
        new = NewKey(
            self.ra,
            served.endpoint,
            served.recipients,
            request.client_certificate,
            self._read_request(served, request, keyless=True),
        )
        outcome = await self.ra.enroll(
            evolve(
                self._call(served, request, Operation.ENROLL, new.wanted),
                transaction=new.transaction,
                anew=True,
                generate=new.make,
            )
        )
        if isinstance(outcome, Pending):
            return _come_back(outcome, request)
        boundary = self.ra.random_bytes(16).hex()
        return HTTPResponse(
            200,
            f"multipart/mixed; boundary={boundary}",
            encode_generated_key(
                new.octets,
                new.media_type,
                outcome.certificate,
                boundary,
                single_line=_single_line(served, request),
            ),
            facts=outcome.facts,
        )

    def _read_request(
        self, served: Served, request: HTTPRequest, *, keyless: bool = False
    ) -> CertificateRequest:
        """Return the certification request in a body."""
        _check_media_type(request)
        der = decode_request_body(request.body, lenient=served.lenient)
        return read_csr(
            der,
            lenient=self.ra.is_lenient(served.endpoint),
            keyless=keyless,
        )

    def _call(
        self,
        served: Served,
        request: HTTPRequest,
        operation: Operation,
        wanted: CertificateRequest,
    ) -> EnrollmentRequest:
        """Return a request as the registration authority takes it."""
        self._enforce(served, wanted)
        said = read_challenges(wanted, served, operation, request.session)
        return EnrollmentRequest(
            endpoint=served.endpoint,
            operation=operation,
            wanted=wanted,
            credentials=said.credentials + _credentials(served, request),
            request_id=request.request_id,
            peer=request.peer,
            idempotency_key=request.idempotency_key,
            linking=said.linking,
            content=said.content,
            revocation_challenge=said.revocation_challenge,
        )

    def _enforce(self, served: Served, wanted: CertificateRequest) -> None:
        """Refuse a request that ignores what /csrattrs says, if need be."""
        if served.csrattrs != "enforce":
            return
        lacking = missing(
            self.ra.csr_attributes(served.endpoint),
            served.csrattrs_form,
            wanted,
        )
        if lacking:
            raise PolicyViolation(
                served.endpoint.profile,
                "csr-attributes",
                f"the request lacks {', '.join(lacking)}; see /csrattrs",
            )

    def explain(
        self, error: TrstctlError, request: HTTPRequest
    ) -> HTTPResponse:
        """Return the answer to an error, as the statuses of EST have it."""
        response = super().explain(error, request)
        if response.status == 401:
            # Basic first: libest and BouncyCastle read no further.
            return HTTPResponse(
                401,
                headers={
                    "WWW-Authenticate": (
                        f'Basic realm="{self.realm}"',
                        f'Bearer realm="{self.realm}"',
                    )
                },
            )
        if isinstance(error, RequestError):
            return _readable(response, request)
        return response

    def explain_refused(
        self, error: Refused, request: HTTPRequest
    ) -> HTTPResponse:
        """Return the answer to an unknown label or a wrong method."""
        return _readable(super().explain_refused(error, request), request)


def _split(
    path: tuple[str, ...],
) -> tuple[tuple[str, ...], str, str | None]:
    """
    Return what stands before the operation, it, and what follows.

    ``None`` follows unless it is the operation that names a certificate.
    """
    if path[-2:-1] == (RENEWAL_INFO,):
        return path[:-2], RENEWAL_INFO, path[-1]
    return path[:-1], path[-1] if path else "", None


def _credentials(
    served: Served, request: HTTPRequest
) -> tuple[Credential, ...]:
    """Return what the peer presented, a factory certificate with its chain."""
    credentials = request.credentials
    if served.endpoint.factory is None or request.session is None:
        return credentials
    chain = request.session.client_chain()
    return tuple(
        evolve(each, chain=chain)
        if isinstance(each, ClientCertificate)
        else each
        for each in credentials
    )


def _readable(response: HTTPResponse, request: HTTPRequest) -> HTTPResponse:
    """Return a refusal; for csrattrs, as BouncyCastle reads it: empty."""
    if request.path[-1:] == ("csrattrs",):
        return HTTPResponse(response.status, headers=response.headers)
    return response


def _come_back(pending: Pending, request: HTTPRequest) -> HTTPResponse:
    """
    Return 202 for a held request (RFC 7030, section 4.2.3), and 409 for one
    that is still being answered elsewhere.

    The 202 has no body: BouncyCastle cannot read one.
    """
    headers = {"Retry-After": str(pending.retry_after)}
    if pending.in_flight:
        return HTTPResponse(
            409,
            "text/plain",
            b"the same request is being answered; try again "
            b"(request %s)\n" % request.request_id.encode("ascii"),
            headers,
            pending.facts,
        )
    return HTTPResponse(202, headers=headers, facts=pending.facts)


def _single_line(served: Served, request: HTTPRequest) -> bool:
    """Tell whether the client wants base64 without line breaks."""
    if served.line_mode != "auto":
        return served.line_mode == "single"
    return _is_terse(request)


def _is_terse(request: HTTPRequest) -> bool:
    """
    Tell whether the client says no more than it must.

    strongSwan's pki sends neither User-Agent, Accept nor Connection; nor
    does Azure IoT Edge.
    """
    return not any(
        request.headers.get(name)
        for name in ("user-agent", "accept", "connection")
    )


def _ended(response: HTTPResponse) -> HTTPResponse:
    """
    Return an answer whose one line of base64 has an end.

    strongSwan can read it, and Azure IoT Edge puts PEM armour around it.
    """
    if "Content-Transfer-Encoding" not in response.headers:
        return response
    return evolve(response, body=response.body + b"\n")


def _check_media_type(request: HTTPRequest) -> None:
    """Refuse what is not ``application/pkcs10``, in any letter case."""
    given = request.headers.get("content-type") or ""
    if given.partition(";")[0].strip().lower() != "application/pkcs10":
        raise UnsupportedMediaType(
            "the body's media type must be application/pkcs10"
        )


def _check_cmc_type(request: HTTPRequest, *, lenient: bool) -> None:
    """
    Refuse what is not ``application/pkcs7-mime; smime-type=CMC-request``
    (RFC 5273, section 3), in any letter case.

    :param lenient: the parameter need not be there.
    """
    given = request.headers.get("content-type") or ""
    media_type, *parameters = given.lower().split(";")
    kind = None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "smime-type":
            kind = value.strip().strip('"')
    if media_type.strip() != "application/pkcs7-mime" or not (
        kind == "cmc-request" or (kind is None and lenient)
    ):
        raise UnsupportedMediaType(
            "the body's media type must be application/pkcs7-mime; "
            "smime-type=CMC-request"
        )
