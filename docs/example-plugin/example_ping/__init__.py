# SPDX-License-Identifier: MIT
"""Ping: POST a certification request to ``/ping``, get the certificate."""

from trstctl.model import EnrollmentRequest, Issued, Operation
from trstctl.pkix.csr import pem_or_der, read_csr
from trstctl.web import HTTPRequest, HTTPResponse, ProtocolResource


class PingResource(ProtocolResource):
    """Takes PEM or DER, with HTTP Basic; answers with DER."""

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Enroll for what the body asks for."""
        wanted = EnrollmentRequest(
            endpoint=self.endpoint,
            operation=Operation.ENROLL,
            wanted=read_csr(pem_or_der(request.body)),
            credentials=request.credentials,
            request_id=request.request_id,
            peer=request.peer,
        )
        match await self.ra.enroll(wanted):
            case Issued(certificate=der, facts=facts):
                return HTTPResponse(
                    200, "application/pkix-cert", der, facts=facts
                )
            case pending:
                wait = {"Retry-After": str(pending.retry_after)}
                return HTTPResponse(202, headers=wait, facts=pending.facts)
