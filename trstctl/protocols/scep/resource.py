# SPDX-License-Identifier: MIT
"""
SCEP over HTTP: paths, forms and what is told of the authority.

``/scep[/<name>][/pkiclient.exe]`` and ``/cgi-bin/pkiclient.exe`` (RFC 8894,
section 4.1), with and without TLS: messages protect themselves.  What
becomes of a message is in :mod:`trstctl.protocols.scep.messages`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from trstctl.errors import Malformed, TrstctlError, Unavailable
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import Endpoint, Purpose, Succession
from trstctl.pkix.cms import certs_only
from trstctl.protocols.scep import codec
from trstctl.protocols.scep.gates import make_gate
from trstctl.protocols.scep.intune import IntuneGate
from trstctl.protocols.scep.messages import PKIOperation
from trstctl.protocols.scep.settings import (
    SUFFIX,
    SCEPSettings,
    Served,
    all_served,
)
from trstctl.settings import ProtocolSettings
from trstctl.web import HTTPRequest, HTTPResponse, ProtocolResource

_OPERATIONS = frozenset(
    ("GetCACaps", "GetCACert", "GetNextCACert", "PKIOperation")
)


class SCEPResource(ProtocolResource):
    """Everything below ``/scep``, and ``/cgi-bin/pkiclient.exe``."""

    Settings = SCEPSettings
    plain_http = True
    max_body = codec.MAX_MESSAGE
    methods = ("GET", "POST")

    def __init__(
        self, name: str, ra: IRegistrationAuthority, settings: SCEPSettings
    ) -> None:
        super().__init__(name, ra, settings)
        self._served = all_served(name, settings)
        self._gates = {
            label: make_gate(served.challenge, served.endpoint, ra, os.environ)
            for label, served in self._served.items()
        }
        self._messages = {
            label: PKIOperation(ra, served, self._gates[label])
            for label, served in self._served.items()
        }
        self._told_next: dict[str, tuple[tuple[bytes, ...], bytes]] = {}

    async def tend(self) -> None:
        """Let each gate do its rounds; one that cannot keeps none back."""
        failed: Unavailable | None = None
        for gate in self._gates.values():
            if isinstance(gate, IntuneGate):
                try:
                    await gate.tend()
                except Unavailable as error:
                    failed = error
        if failed is not None:
            raise failed

    @classmethod
    def paths_for(cls, name: str, settings: ProtocolSettings) -> Sequence[str]:
        """Return where clients look (RFC 8894, section 4.1)."""
        return ("/scep", f"/cgi-bin/{SUFFIX}")

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the methods at a path; ``None`` for no such endpoint."""
        if path[-1:] == (SUFFIX,):
            path = path[:-1]
        if len(path) > 1 or "".join(path) not in self._served:
            return None
        return self.methods

    def admission_key(self, request: HTTPRequest) -> Endpoint:
        """Return the endpoint; each tenant has its own places."""
        return self._served[self._label(request)].endpoint

    def operation(self, request: HTTPRequest) -> str:
        """Return the operation's name; that of a message is in its facts."""
        operation, _ = codec.decode_query(request.query)
        return operation if operation in _OPERATIONS else "PKIOperation"

    def _label(self, request: HTTPRequest) -> str:
        """Return the label in a path, which allowed_methods has seen."""
        label = request.path[0] if request.path else ""
        return label if label in self._served else ""

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Answer one of the operations (RFC 8894, section 4)."""
        operation, message = codec.decode_query(request.query)
        label = self._label(request)
        served, messages = self._served[label], self._messages[label]
        if request.method == "POST":
            # Real clients leave the operation out.
            if operation not in ("PKIOperation", ""):
                raise Malformed("only PKIOperation is posted")
            return await messages.answer(request, request.body)
        match operation:
            case "GetCACaps":
                return self._capabilities(served)
            case "GetCACert":
                return await self._ca_certificates(served)
            case "GetNextCACert" if following := self._following(served):
                return await self._next_certificates(served, following)
            case "PKIOperation" if message:
                return await messages.answer(
                    request, codec.decode_get(message)
                )
        raise Malformed("no such operation")

    # --- about the authority ------------------------------------------------

    def _following(self, served: Served) -> str:
        """
        Return the authority that will take over, or nothing: the one that
        is configured, or the next generation of the endpoint's own.
        """
        if served.next_authority is not None:
            return served.next_authority
        now: Succession = self.ra.succession(served.endpoint)
        return now.following

    def _capabilities(self, served: Served) -> HTTPResponse:
        """Return what is advertised (section 3.5.2)."""
        found = served.capabilities(following=bool(self._following(served)))
        lines = "".join(f"{each}\n" for each in found)
        return HTTPResponse(200, "text/plain", lines.encode("ascii"))

    async def _ca_certificates(self, served: Served) -> HTTPResponse:
        """
        Return the RA certificate and the chain (section 4.2.1.2).

        The CA identifier in the query is ignored: everybody sends another.
        Nothing else is in it while a root takes over from another:
        certmonger 0.79 would take what links them for the root, and verify
        no answer any more.
        """
        now = self.ra.succession(served.endpoint)
        credential = await self.ra.credentials.get(now.authority, Purpose.SCEP)
        return HTTPResponse(
            200,
            "application/x-x509-ca-ra-cert",
            certs_only(credential.chain),
        )

    async def _next_certificates(
        self, served: Served, next_authority: str
    ) -> HTTPResponse:
        """Return the next CA's certificates, signed by ours (4.7.1)."""
        endpoint = served.endpoint
        credential = await self.ra.credentials.get(
            next_authority, Purpose.SCEP
        )
        # Anybody can ask: the CA's key is used once for each answer.
        about = (*credential.chain, *self.ra.ca_certificates(endpoint))
        told, body = self._told_next.get(endpoint.name, ((), b""))
        if told != about:
            body = await self.ra.sign_message(
                endpoint, certs_only(credential.chain)
            )
            self._told_next[endpoint.name] = about, body
        return HTTPResponse(200, "application/x-x509-next-ca-cert", body)

    def explain(
        self, error: TrstctlError, request: HTTPRequest
    ) -> HTTPResponse:
        """Return what HTTP says where no message can (S-1)."""
        if isinstance(error, Malformed):
            text = f"{error.detail}\n"
            return HTTPResponse(400, "text/plain", text.encode("utf-8"))
        return super().explain(error, request)
