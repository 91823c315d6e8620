# SPDX-License-Identifier: MIT
"""
One-time-token bootstrap over HTTPS: connects codec and authority.

``POST /enroll[/<label>]/bootstrap`` buys a certificate with a single-use
token; ``POST /enroll[/<label>]/renewal`` renews it with the certificate that
the TLS handshake has proven.  Both take and answer JSON, so that a device
needs nothing but curl.

The answer's chain begins with the certificate and ends before the root, as a
TLS server sends it (RFC 8446, section 4.4.2): whoever trusts the root has it
already, and must not take it from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field, field_validator

from trstctl import errors
from trstctl.errors import TrstctlError, UnsupportedMediaType
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    Credential,
    Endpoint,
    EnrollmentRequest,
    Issued,
    OneTimeToken,
    Operation,
    Pending,
)
from trstctl.pkix.csr import read_csr
from trstctl.protocols.bootstrap.codec import (
    MAX_BODY,
    decode_bootstrap,
    decode_renewal,
    encode_object,
    encode_pem,
)
from trstctl.settings import Label, LabelSettings, ProtocolSettings
from trstctl.web import (
    HTTPRequest,
    HTTPResponse,
    ProtocolResource,
    Refused,
)

_OPERATIONS = ("bootstrap", "renewal")

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


class BootstrapSettings(ProtocolSettings):
    """The section ``protocols.bootstrap``."""

    labels: dict[Label, LabelSettings] = Field(default_factory=dict)

    @field_validator("labels")
    @classmethod
    def _no_operation(
        cls, labels: dict[str, LabelSettings]
    ) -> dict[str, LabelSettings]:
        """Refuse a label that is the name of an operation."""
        for label in labels:
            if label in _OPERATIONS:
                raise ValueError(
                    f"label {label} is the name of an operation; choose "
                    "another"
                )
        return labels


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
        self._issuers: dict[tuple[bytes, ...], str] = {}

    @classmethod
    def paths_for(cls, name: str, settings: ProtocolSettings) -> Sequence[str]:
        """Return the one path prefix."""
        return ("/enroll",)

    @classmethod
    def endpoints_for(
        cls, name: str, settings: ProtocolSettings
    ) -> Sequence[Endpoint]:
        """Return the default endpoint and one for each label."""
        assert isinstance(settings, BootstrapSettings)
        (default,) = super().endpoints_for(name, settings)
        return (
            default,
            *(
                Endpoint(
                    name,
                    label,
                    own.tenant_id or default.tenant_id,
                    own.profile or default.profile,
                    own.authority or default.authority,
                )
                for label, own in settings.labels.items()
            ),
        )

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return ``POST`` for the two operations of a known label."""
        if (
            not 1 <= len(path) <= 2
            or path[-1] not in _OPERATIONS
            or self._label(path) not in self._endpoints
        ):
            return None
        return ("POST",)

    def admission_key(self, request: HTTPRequest) -> Endpoint:
        """Return the label's endpoint; each tenant has its own places."""
        return self._endpoints.get(self._label(request.path), self.endpoint)

    @staticmethod
    def _label(path: tuple[str, ...]) -> str:
        """Return the label in a path, or the empty one."""
        return path[0] if len(path) > 1 else ""

    # --- the way of a request -----------------------------------------------

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Take a certification request to the registration authority."""
        _check_media_type(request)
        credentials: tuple[Credential, ...] = request.credentials
        if request.path[-1] == "bootstrap":
            operation = Operation.ENROLL
            token, csr = decode_bootstrap(request.body)
            credentials = (OneTimeToken(token), *credentials)
        else:
            operation = Operation.RENEW
            csr = decode_renewal(request.body)
        endpoint = self._endpoints[self._label(request.path)]
        outcome = await self.ra.enroll(
            EnrollmentRequest(
                endpoint=endpoint,
                operation=operation,
                wanted=read_csr(csr, lenient=self.ra.is_lenient(endpoint)),
                credentials=credentials,
                request_id=request.request_id,
                peer=request.peer,
                idempotency_key=request.idempotency_key,
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


def _check_media_type(request: HTTPRequest) -> None:
    """Refuse what says of itself that it is no JSON."""
    given = request.headers.get("content-type") or ""
    if given.partition(";")[0].strip().lower() not in _MEDIA_TYPES:
        raise UnsupportedMediaType(
            "the body's media type must be application/json"
        )
