# SPDX-License-Identifier: MIT
"""
The status of certificates over HTTP: connects codec, responder and CRLs.

``/crl/<authority>.crl`` and its kin, ``/ca/<authority>.cer`` (RFC 5280,
sections 4.2.1.13 and 4.2.2.1), and ``/ocsp/<authority>`` (RFC 6960,
appendix A; RFC 5019, section 5).  Nobody is authenticated, and whoever can
reach a listener may ask as often as he likes.  So nothing that is asked here
writes anything but its line in the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated

from pydantic import Field

from trstctl import errors
from trstctl.errors import (
    TrstctlError,
    UnknownCertificate,
    UnsupportedMediaType,
)
from trstctl.http.exchange import BoundedResource
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import Endpoint
from trstctl.pkix import ocsp
from trstctl.protocols.revocation.codec import (
    cache_fields,
    crl_address,
    decode_get,
    digest_tag,
    is_unchanged,
)
from trstctl.protocols.revocation.responder import Responder, Signed
from trstctl.settings import Duration, ProtocolSettings
from trstctl.web import HTTPRequest, HTTPResponse, ProtocolResource

_CRL_TYPE = "application/pkix-crl"
_CERTIFICATE_TYPE = "application/pkix-cert"
_REQUEST_TYPE = "application/ocsp-request"
_RESPONSE_TYPE = "application/ocsp-response"

#: For how long a cache may keep a CRL without asking.  Not to its end: it
#: is signed anew when something is revoked, and asking costs a 304.
_CRL_CACHING = timedelta(hours=1)

#: For how long a CA certificate may be kept.
_CERTIFICATE_CACHING = "max-age=86400, public, no-transform"

#: What OCSP says of each error: a row for every leaf of the tree.  ``None``:
#: there is no responder to say anything, and HTTP tells it.
OCSP_ERRORS: Mapping[type[TrstctlError], bytes | None] = {
    errors.Malformed: ocsp.MALFORMED_REQUEST,
    errors.MessageCheckFailed: ocsp.MALFORMED_REQUEST,
    errors.UnsupportedAlgorithm: ocsp.MALFORMED_REQUEST,
    errors.TooLarge: ocsp.MALFORMED_REQUEST,
    errors.UnsupportedMediaType: None,
    errors.NotAuthenticated: ocsp.UNAUTHORIZED,
    errors.Throttled: ocsp.TRY_LATER,
    errors.NotAuthorized: ocsp.UNAUTHORIZED,
    errors.ChallengeRejected: ocsp.UNAUTHORIZED,
    errors.ProofOfPossessionFailed: ocsp.MALFORMED_REQUEST,
    errors.PolicyViolation: ocsp.UNAUTHORIZED,
    errors.UnknownCertificate: None,
    errors.Replayed: ocsp.UNAUTHORIZED,
    errors.Conflict: ocsp.UNAUTHORIZED,
    errors.Stale: ocsp.UNAUTHORIZED,
    errors.Unavailable: ocsp.TRY_LATER,
    errors.Internal: ocsp.INTERNAL_ERROR,
}


class RevocationSettings(ProtocolSettings):
    """
    The section ``protocols.revocation``.

    It speaks for every authority and serves no tenant: ``tenant_id``,
    ``profile`` and ``authority`` mean nothing here.

    :ivar enabled: on, since certificates point to it.
    :ivar ocsp_validity: seconds for which an OCSP response is good.
    :ivar ocsp_backdate: seconds by which it begins in the past.
    """

    serves_tenant = False

    enabled: bool = True
    ocsp_validity: Annotated[Duration, Field(ge=60, le=30 * 86400)] = 3600
    ocsp_backdate: Annotated[Duration, Field(ge=0, le=7 * 86400)] = 300


class _Public(ProtocolResource):
    """
    What the resources share: all is public, and nobody enrolls.

    :cvar kind: the operation in log and metrics; never text of the peer's.
    """

    kind = ""
    Settings = RevocationSettings
    plain_http = True
    audits_refusals = False

    @classmethod
    def endpoints_for(
        cls, name: str, settings: ProtocolSettings
    ) -> Sequence[Endpoint]:
        """Return none."""
        return ()

    def operation(self, request: HTTPRequest) -> str:
        """Return the kind of what is asked for."""
        return self.kind

    def chain(self, authority: str) -> tuple[bytes, ...]:
        """
        Return the chain of an authority.

        :raises UnknownCertificate: there is no such authority.
        """
        chains: Mapping[str, tuple[bytes, ...]] = self.ra.revocation.chains()
        chain = chains.get(authority)
        if chain is None:
            raise UnknownCertificate("there is no such authority")
        return chain


class RevocationResource(_Public):
    """The protocol: a resource for each of its mounts."""

    def __init__(
        self,
        name: str,
        ra: IRegistrationAuthority,
        settings: RevocationSettings,
    ) -> None:
        super().__init__(name, ra, settings)
        self._below = {
            "/crl": CRLResource(name, ra, settings),
            "/ca": CertificateResource(name, ra, settings),
            "/ocsp": OCSPResource(name, ra, settings),
        }

    @classmethod
    def paths_for(cls, name: str, settings: ProtocolSettings) -> Sequence[str]:
        """Return the three path prefixes."""
        return ("/crl", "/ca", "/ocsp")

    def at(self, prefix: str) -> BoundedResource:
        """Return the resource of a mount."""
        return self._below[prefix]


# --- CRLs and CA certificates -----------------------------------------------


class CRLResource(_Public):
    """Everything below ``/crl``."""

    kind = "crl"

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return ``GET`` for what may be a CRL's path."""
        return ("GET",) if crl_address(path) is not None else None

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Return the CRL that is in force."""
        address = crl_address(request.path)
        assert address is not None
        try:
            crl = await self.ra.revocation.crl(*address)
        except UnknownCertificate:
            raise UnknownCertificate("there is no such CRL") from None
        # One sequence numbers all CRLs of an authority; the time tells those
        # of a database that was set back from those before.
        now = self.ra.now()
        seconds = int(crl.this_update.timestamp())
        tag = f'"{crl.number:x}-{seconds:x}-{len(crl.der):x}"'
        return _or_unchanged(
            HTTPResponse(
                200,
                _CRL_TYPE,
                crl.der,
                cache_fields(
                    now,
                    tag,
                    crl.this_update,
                    min(crl.next_update, now + _CRL_CACHING),
                    crl.next_update,
                ),
            ),
            is_unchanged(request.headers, tag, crl.this_update),
        )


class CertificateResource(_Public):
    """Everything below ``/ca``."""

    kind = "ca"

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return ``GET`` for what may be a CA certificate's path."""
        return ("GET",) if len(path) == 1 and path[0][-4:] == ".cer" else None

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Return the CA certificate."""
        certificate = self.chain(request.path[0].removesuffix(".cer"))[0]
        tag = digest_tag(certificate)
        return _or_unchanged(
            HTTPResponse(
                200,
                _CERTIFICATE_TYPE,
                certificate,
                {"ETag": tag, "Cache-Control": _CERTIFICATE_CACHING},
            ),
            is_unchanged(request.headers, tag, None),
        )


def _or_unchanged(response: HTTPResponse, unchanged: bool) -> HTTPResponse:
    """Return the response, or that the client has it already."""
    if not unchanged:
        return response
    return HTTPResponse(304, headers=response.headers, facts=response.facts)


# --- OCSP -------------------------------------------------------------------


class OCSPResource(_Public):
    """Everything below ``/ocsp``."""

    kind = "ocsp"
    max_body = ocsp.MAX_REQUEST
    raw_after = 1

    def __init__(
        self,
        name: str,
        ra: IRegistrationAuthority,
        settings: RevocationSettings,
    ) -> None:
        super().__init__(name, ra, settings)
        self._validity = timedelta(seconds=settings.ocsp_validity)
        self._backdate = timedelta(seconds=settings.ocsp_backdate)
        self._responders: dict[str, Responder] = {}

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return ``POST``, or ``GET`` with a request in the path."""
        return {1: ("POST",), 2: ("GET",)}.get(len(path))

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Let the authority's responder answer."""
        responder = self._responder(request.path[0])
        is_post = request.method == "POST"
        if is_post:
            _check_media_type(request)
            asked = request.body
        else:
            asked = decode_get(request.path[1])
        now = self.ra.now()
        signed = await responder.respond(asked, now)
        facts = _facts(signed)
        if is_post or signed.request.nonce:
            return _uncached(request, signed.der, facts)
        tag = digest_tag(signed.der)
        return _or_unchanged(
            HTTPResponse(
                200,
                _RESPONSE_TYPE,
                signed.der,
                cache_fields(
                    now,
                    tag,
                    signed.this_update,
                    signed.fresh_until,
                    signed.next_update,
                ),
                facts,
            ),
            # Not by date: within one second there may be an answer before a
            # revocation and one after it.
            is_unchanged(request.headers, tag, None),
        )

    def _responder(self, authority: str) -> Responder:
        """Return the responder of an authority, as it is now."""
        certificate = self.chain(authority)[0]
        responder = self._responders.get(authority)
        if responder is None or responder.certificate != certificate:
            responder = self._responders[authority] = Responder(
                authority,
                certificate,
                self.ra.revocation,
                self.ra.credentials,
                self._validity,
                self._backdate,
            )
        return responder

    def explain(
        self, error: TrstctlError, request: HTTPRequest
    ) -> HTTPResponse:
        """Return the error as OCSP tells it: in a message, with status 200."""
        told = next(
            (
                OCSP_ERRORS[kind]
                for kind in type(error).__mro__
                if kind in OCSP_ERRORS
            ),
            ocsp.INTERNAL_ERROR,
        )
        if told is None:
            return super().explain(error, request)
        return _uncached(request, told, {})


def _uncached(
    request: HTTPRequest, der: bytes, facts: Mapping[str, str]
) -> HTTPResponse:
    """Return an OCSPResponse that no cache may keep."""
    # No cache keeps what answers a POST; the server says so already.
    headers = {} if request.method == "POST" else {"Cache-Control": "no-store"}
    return HTTPResponse(200, _RESPONSE_TYPE, der, headers, facts)


def _facts(signed: Signed) -> Mapping[str, str]:
    """Return what the log says of an answer for one certificate."""
    if len(signed.statuses) > 1:
        return {}
    return {
        "serial": signed.request.cert_ids[0].serial,
        "decision": signed.statuses[0],
    }


def _check_media_type(request: HTTPRequest) -> None:
    """Refuse what does not say that it is an OCSP request."""
    given = request.headers.get("content-type") or ""
    if given.partition(";")[0].strip().lower() != _REQUEST_TYPE:
        raise UnsupportedMediaType(
            f"the body's media type must be {_REQUEST_TYPE}"
        )
