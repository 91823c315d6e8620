# SPDX-License-Identifier: MIT
"""
What is handed out beside certificates: CRLs, peers' certificates, and when to
renew.

``crls`` and ``eecerts`` of RFC 8295, sections 3 and 4, and ``renewal-info`` of
draft-ietf-lamps-est-renewal-info.

The CRLs are those that this gateway signs: of the endpoint's authority, of
those that its certificates still count of, and of any CA of ours above it.  A
root whose key is kept elsewhere is not among them.  Encoding megabytes takes
milliseconds, so each edition is encoded once, and not in the reactor's
thread.

The certificates of ``eecerts`` are not the client's own (RFC 8295, section
3.2), but those of the peers that the operator has named at its label.  The
RFC lets anybody have them; here they are for who has a certificate of the
label's authority, since they say who talks to whom.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, DeferredLock

from trstctl.errors import (
    Malformed,
    NotAuthenticated,
    RequestError,
    Unavailable,
    UnknownCertificate,
)
from trstctl.http.answer import LARGE, plain
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import Endpoint, RenewalWindow, StoredCRL
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cms import certs_only
from trstctl.protocols.est.codec import encode_base64, encode_certificates
from trstctl.protocols.est.renewal import encode_window, read_certificate_name
from trstctl.web import STATUS, HTTPRequest, HTTPResponse, jittered

_BASE64 = {"Content-Transfer-Encoding": "base64"}

#: What tells one edition of an authority's CRL from all others.
_Edition = tuple[str, int, float]


class Distribution:
    """
    Answers who asks for more than certificates of its own.

    :param retry: seconds; who has asked when to renew is to ask again after
        one to two times as many, or before half of what is left has passed.
    """

    def __init__(self, ra: IRegistrationAuthority, retry: int) -> None:
        self._ra = ra
        self._retry = retry
        self._bodies: dict[
            tuple[tuple[str, ...], bool], tuple[tuple[_Edition, ...], bytes]
        ] = {}
        self._encoding = DeferredLock()

    # --- CRLs ---------------------------------------------------------------

    async def crls(
        self, endpoint: Endpoint, *, single_line: bool
    ) -> HTTPResponse:
        """
        Return the CRLs in force (RFC 8295, section 4.2).

        :raises UnknownCertificate: none is published.
        """
        crls: list[StoredCRL] = []
        for authority in self._authorities(self._ra.serving(endpoint)):
            try:
                crls.append(await self._ra.revocation.crl(authority, ""))
            except UnknownCertificate:
                continue  # its certificate is not for CRLs
            except Unavailable:
                # Nor does who has expired sign one: it must not keep the
                # others' from whoever asks.
                if not self._is_over(authority):
                    raise
        if not crls:
            raise UnknownCertificate("there is no CRL")
        return HTTPResponse(
            200,
            "application/pkcs7-mime; smime-type=crls-only",
            await self._encoding.run(
                lambda: Deferred.fromCoroutine(
                    self._encoded(tuple(crls), single_line)
                )
            ),
            _BASE64,
        )

    def _authorities(self, endpoint: Endpoint) -> list[str]:
        """Return the authorities whose CRLs an endpoint's clients need."""
        chains = self._ra.revocation.chains()
        wanted = (endpoint.authority, *endpoint.issuers)
        above = {
            certificate
            for name in wanted
            for certificate in chains.get(name, ())[1:]
        }
        return [
            *(name for name in dict.fromkeys(wanted) if name in chains),
            *(
                name
                for name, chain in chains.items()
                if name not in wanted and chain[0] in above
            ),
        ]

    def _is_over(self, authority: str) -> bool:
        """Tell whether the certificate of an authority has expired."""
        chain = self._ra.revocation.chains()[authority]
        return read_certificate(chain[0]).not_after <= self._ra.now()

    async def _encoded(
        self, crls: tuple[StoredCRL, ...], single_line: bool
    ) -> bytes:
        """Return a crls-only message, encoded once for each edition."""
        key = (tuple(one.authority for one in crls), single_line)
        editions = tuple(
            (one.authority, one.number, one.this_update.timestamp())
            for one in crls
        )
        known = self._bodies.get(key)
        if known is not None and known[0] == editions:
            return known[1]
        octets = [one.der for one in crls]
        if sum(map(len, octets)) > LARGE:
            body: bytes = await self._ra.elsewhere(
                _encode_crls, octets, single_line
            )
        else:
            body = _encode_crls(octets, single_line)
        self._bodies[key] = editions, body
        return body

    # --- the certificates of peers ------------------------------------------

    async def peers(
        self,
        endpoint: Endpoint,
        names: tuple[str, ...],
        request: HTTPRequest,
        *,
        single_line: bool,
    ) -> HTTPResponse:
        """
        Return the certificates of a client's peers (RFC 8295, section 3.2).

        :param names: of the peers.
        :raises NotAuthenticated: the client has no certificate of ours.
        :raises UnknownCertificate: no peer has one.
        """
        own = request.client_certificate
        if own is None:
            raise NotAuthenticated
        client = await self._ra.identify(endpoint, own)
        found = await self._ra.enquiries.current(endpoint, names)
        if not found:
            raise UnknownCertificate("no peer has a certificate")
        return HTTPResponse(
            200,
            "application/pkcs7-mime; smime-type=certs-only",
            encode_certificates(found, single_line=single_line),
            _BASE64,
            {"principal": client.id},
        )

    # --- when to renew ------------------------------------------------------

    async def renewal(
        self, endpoint: Endpoint, name: str, request: HTTPRequest
    ) -> HTTPResponse:
        """
        Tell when a certificate should be renewed.

        Anybody may ask, so what is wrong with a name is answered and logged,
        and not audited: strangers would fill the audit log.
        """
        try:
            window = await self._ra.enquiries.renewal(
                endpoint, *read_certificate_name(name)
            )
        except (Malformed, UnknownCertificate) as error:
            return _told(error, request)
        return HTTPResponse(
            200,
            "application/json",
            encode_window(window),
            {"Retry-After": str(self._pause(window, request))},
        )

    def _pause(self, window: RenewalWindow, request: HTTPRequest) -> int:
        """Return after how many seconds to ask again."""
        # Who lives for an hour would never hear that it must not wait.
        left = int((window.end - self._ra.now()).total_seconds())
        quarter = max(60, left // 4) if left > 0 else self._retry
        return jittered(min(self._retry, quarter), request.request_id)


def _encode_crls(crls: list[bytes], single_line: bool) -> bytes:
    """Return a crls-only message in base64."""
    return encode_base64(certs_only((), crls), single_line=single_line)


def _told(error: RequestError, request: HTTPRequest) -> HTTPResponse:
    """Return the answer to an error that nobody records."""
    response = plain(STATUS[type(error)], error.detail, request.request_id)
    return HTTPResponse(
        response.status,
        response.content_type,
        response.body,
        facts={
            "decision": "refused",
            "reason": error.detail,
            "error": type(error).__name__,
        },
    )
