# SPDX-License-Identifier: MIT
"""
One-time-token bootstrap over HTTPS: connects codec and authority.

``POST /enroll[/<label>]/bootstrap`` buys a certificate with a single-use
token; ``POST /enroll[/<label>]/renewal`` renews it with the certificate that
the TLS handshake has proven, or the request's own signature.  Both take and
answer JSON, so that a device needs nothing but curl.

Registrars, who hand out tokens, make them at ``POST /enroll[/<label>]/tokens``,
list them by ``GET`` and revoke one by ``DELETE .../tokens/<id>``.

The answer's chain begins with the certificate and ends before the root, as a
TLS server sends it (RFC 8446, section 4.4.2): whoever trusts the root has it
already, and must not take it from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trstctl import errors
from trstctl.errors import (
    NotAuthorized,
    TrstctlError,
    UnsupportedMediaType,
)
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    Credential,
    Endpoint,
    EnrollmentRequest,
    Issued,
    OneTimeToken,
    Operation,
    Pending,
    RegistrarCall,
)
from trstctl.pkix.csr import read_csr
from trstctl.protocols.bootstrap.codec import (
    MAX_BODY,
    decode_bootstrap,
    decode_order,
    decode_page,
    decode_renewal,
    encode_object,
    encode_pem,
    minted_object,
    secret_object,
)
from trstctl.protocols.bootstrap.settings import METHODS, BootstrapSettings
from trstctl.protocols.bootstrap.signed import read_signed_request
from trstctl.settings import ProtocolSettings
from trstctl.web import (
    HTTPRequest,
    HTTPResponse,
    ProtocolResource,
    Refused,
)

#: What can be done with one token.
_TOKEN_METHODS = ("DELETE",)

#: How a body may be labelled: the second is what ``curl -d`` says, whatever
#: it sends; no label at all is taken, too.
_MEDIA_TYPES = {
    "",
    "application/json",
    "application/x-www-form-urlencoded",
    "text/plain",
}

#: Characters of a reason in an answer.
_MAX_REASON = 400

#: What the field ``error`` says: a row for every leaf of the tree.  All that
#: may be wrong with a credential has one word (and one text).
CODES: Mapping[type[TrstctlError], str] = {
    errors.Malformed: "malformed",
    errors.MessageCheckFailed: "message-check-failed",
    errors.UnsupportedAlgorithm: "unsupported-algorithm",
    errors.TooLarge: "too-large",
    errors.UnsupportedMediaType: "unsupported-media-type",
    errors.NotAuthenticated: "not-authenticated",
    errors.Throttled: "throttled",
    errors.NotAuthorized: "not-authorized",
    errors.ChallengeRejected: "not-authenticated",
    errors.ProofOfPossessionFailed: "proof-of-possession-failed",
    errors.PolicyViolation: "policy-violation",
    errors.UnknownCertificate: "unknown-certificate",
    errors.Replayed: "replayed",
    errors.Conflict: "conflict",
    errors.Stale: "stale",
    errors.Unavailable: "unavailable",
    errors.Internal: "internal",
}

#: Likewise for what HTTP itself rules out.
_HEAD_CODES = {404: "not-found", 405: "method-not-allowed"}


class BootstrapResource(ProtocolResource):
    """Everything below ``/enroll``."""

    Settings = BootstrapSettings
    max_body = MAX_BODY

    def __init__(
        self,
        name: str,
        ra: IRegistrationAuthority,
        settings: BootstrapSettings,
    ) -> None:
        super().__init__(name, ra, settings)
        self._endpoints = {
            endpoint.name: endpoint
            for endpoint in self.endpoints_for(name, settings)
        }
        self._signed = settings.signed_labels()
        # A token can be used where its tenant is offered its profile.
        self._offered: dict[str, set[str]] = {}
        for endpoint in self._endpoints.values():
            profiles = self._offered.setdefault(endpoint.tenant_id, set())
            profiles.add(endpoint.profile)
        self._issuers: dict[tuple[bytes, ...], str] = {}

    @classmethod
    def paths_for(cls, name: str, settings: ProtocolSettings) -> Sequence[str]:
        """Return the one path prefix."""
        return ("/enroll",)

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the methods of an operation, or of a token."""
        found = self._split(path)
        if found is None:
            return None
        _, operation, token_id = found
        return _TOKEN_METHODS if token_id else METHODS[operation]

    def admission_key(self, request: HTTPRequest) -> Endpoint:
        """Return the label's endpoint; each tenant has its own places."""
        found = self._split(request.path)
        return self.endpoint if found is None else found[0]

    def operation(self, request: HTTPRequest) -> str:
        """Return the operation; an id in a path is none."""
        found = self._split(request.path)
        return "" if found is None else found[1]

    def _split(
        self, path: tuple[str, ...]
    ) -> tuple[Endpoint, str, str] | None:
        """Return endpoint, operation and id of a token; ``None``: 404."""
        label = ""
        if path and path[0] not in METHODS:
            label, path = path[0], path[1:]
        endpoint = self._endpoints.get(label)
        match path:
            case (operation,) if endpoint and operation in METHODS:
                return endpoint, operation, ""
            case ("tokens", token_id) if endpoint and token_id:
                return endpoint, "tokens", token_id
        return None

    # --- the way of a request -----------------------------------------------

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Do what the path says."""
        found = self._split(request.path)
        assert found is not None  # allowed_methods() has seen to it
        endpoint, operation, token_id = found
        if request.method == "POST":
            _check_sender(request)
            _check_media_type(request)
        if operation == "tokens":
            return await self._tokens(request, endpoint, token_id)
        return await self._enroll(request, endpoint, operation)

    async def _enroll(
        self, request: HTTPRequest, endpoint: Endpoint, operation: str
    ) -> HTTPResponse:
        """Take a certification request to the registration authority."""
        credentials: tuple[Credential, ...] = request.credentials
        key = request.idempotency_key
        if operation == "bootstrap":
            purpose = Operation.ENROLL
            token, csr = decode_bootstrap(request.body)
            credentials = (OneTimeToken(token), *credentials)
        else:
            purpose = Operation.RENEW
            csr, is_signed = decode_renewal(request.body)
            if is_signed:
                if endpoint.name not in self._signed:
                    raise NotAuthorized(
                        "signed renewals are not accepted here"
                    )
                signed = read_signed_request(csr)
                csr = signed.csr
                # First, so that it speaks, and not the certificate of what
                # ends TLS in front of us.
                proven = await signed.prove(self.ra, endpoint)
                credentials = (proven, *credentials)
                key = signed.idempotency_key
        outcome = await self.ra.enroll(
            EnrollmentRequest(
                endpoint=endpoint,
                operation=purpose,
                wanted=read_csr(csr, lenient=self.ra.is_lenient(endpoint)),
                credentials=credentials,
                request_id=request.request_id,
                peer=request.peer,
                idempotency_key=key,
            )
        )
        if isinstance(outcome, Pending):
            return _come_back(outcome, request)
        return HTTPResponse(
            200,
            "application/json",
            encode_object({"certificate": self._pem(outcome)}),
            facts=outcome.facts,
        )

    def _pem(self, issued: Issued) -> str:
        """Return the certificate, and its issuers but for the root."""
        issuers = self._issuers.get(issued.chain)
        if issuers is None:
            issuers = encode_pem(issued.chain[:-1])
            self._issuers = {issued.chain: issuers}
        return encode_pem((issued.certificate,)) + issuers

    # --- registrars ---------------------------------------------------------

    async def _tokens(
        self, request: HTTPRequest, endpoint: Endpoint, token_id: str
    ) -> HTTPResponse:
        """Make, list or revoke tokens for a registrar."""
        call = RegistrarCall(endpoint, request.credentials, request.peer)
        if token_id:
            registrar = await self.ra.registrar(call)
            record = await registrar.revoke(token_id)
            content = secret_object(record, self.ra.now())
            return _kept_secret(request, 200, content, registrar.id)
        if request.method == "POST":
            order = decode_order(request.body, endpoint.profile)
            key = request.idempotency_key
            registrar = await self.ra.registrar(call)
            offered = self._offered[endpoint.tenant_id]
            made = await registrar.mint(order, offered, key)
            content = {"tokens": [minted_object(one) for one in made]}
            return _kept_secret(request, 201, content, registrar.id)
        page = decode_page(request.query)
        registrar = await self.ra.registrar(call)
        secrets, following = await registrar.find(*page)
        now = self.ra.now()
        content = {
            "tokens": [secret_object(one, now) for one in secrets],
            "next": following or None,
        }
        return _kept_secret(request, 200, content, registrar.id)

    # --- errors -------------------------------------------------------------

    def explain(
        self, error: TrstctlError, request: HTTPRequest
    ) -> HTTPResponse:
        """Return the answer to an error: HTTP's status, and JSON."""
        told = super().explain(error, request)
        headers = dict(told.headers)
        if told.status == 401:
            # RFC 9110, section 11.6.1: at least one challenge.
            headers["WWW-Authenticate"] = f'Bearer realm="{self.name}"'
        code = next(
            (CODES[kind] for kind in type(error).__mro__ if kind in CODES),
            "internal",
        )
        return _failure(told.status, code, error.detail, request, headers)

    def explain_refused(
        self, error: Refused, request: HTTPRequest
    ) -> HTTPResponse:
        """Return the answer to a wrong path or method, in JSON, too."""
        code = _HEAD_CODES.get(error.status, "malformed")
        return _failure(
            error.status, code, error.detail, request, error.headers
        )


def _kept_secret(
    request: HTTPRequest,
    status: int,
    content: Mapping[str, object],
    principal: str,
) -> HTTPResponse:
    """Return an answer that no cache keeps; that to a POST is such anyway."""
    headers = {}
    if request.method != "POST":
        headers["Cache-Control"] = "no-store"
    return HTTPResponse(
        status,
        "application/json",
        encode_object(content),
        headers,
        {"principal": principal},
    )


def _failure(
    status: int,
    code: str,
    reason: str,
    request: HTTPRequest,
    headers: Mapping[str, str | tuple[str, ...]],
    facts: Mapping[str, str] | None = None,
) -> HTTPResponse:
    """Return an error as JSON."""
    content = {
        "error": code,
        "reason": reason[:_MAX_REASON],
        "request_id": request.request_id,
    }
    return HTTPResponse(
        status,
        "application/json",
        encode_object(content),
        headers,
        facts or {},
    )


def _come_back(pending: Pending, request: HTTPRequest) -> HTTPResponse:
    """
    Return 202 for a held request, and 409 for one that is still being
    answered elsewhere.
    """
    headers = {"Retry-After": str(pending.retry_after)}
    if pending.in_flight:
        reason = "the same request is being answered; try again"
        return _failure(
            409, "in-flight", reason, request, headers, pending.facts
        )
    content = {
        "status": "pending",
        "reference": pending.reference,
        "request_id": request.request_id,
    }
    return HTTPResponse(
        202, "application/json", encode_object(content), headers, pending.facts
    )


def _check_sender(request: HTTPRequest) -> None:
    """
    Refuse what a page in a browser sends.

    A form, and text, may go to any site without asking, and the browser of
    somebody who has a client certificate presents it: that page would renew
    the certificate for a key of its own.  Browsers name the page's origin in
    every POST (Fetch standard, "Origin" header); nobody else does.
    """
    if request.headers.get("origin") is not None:
        raise NotAuthorized("this is not for pages in a browser")


def _check_media_type(request: HTTPRequest) -> None:
    """Refuse what says of itself that it is no JSON."""
    given = request.headers.get("content-type") or ""
    if given.partition(";")[0].strip().lower() not in _MEDIA_TYPES:
        raise UnsupportedMediaType(
            "the body's media type must be application/json"
        )
