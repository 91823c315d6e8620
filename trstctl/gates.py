# SPDX-License-Identifier: MIT
"""What the gates hear of the requests that they admitted: I-12."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from twisted.logger import Logger

from trstctl.asked import Asked
from trstctl.errors import RequestError, Unavailable
from trstctl.interfaces import IChallengeGate, IStore
from trstctl.model import EnrollmentRequest, Issued
from trstctl.renewals import WITHDRAWN


class Gates:
    """
    Tells the gates, and revokes what they could not hear of.

    :param now: the wall clock, UTC.
    """

    _log = Logger()

    def __init__(self, store: IStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    async def told(self, asked: Asked, issued: Issued) -> Issued:
        """Let each gate hear of the certificate, or revoke it (I-12)."""
        for gate in asked.gates:
            try:
                await gate.issued(asked.request, asked.principal, issued)
            except Exception as error:
                await self._withdraw(asked, issued, error)
                raise Unavailable from error
        return issued

    async def _withdraw(
        self, asked: Asked, issued: Issued, error: Exception
    ) -> None:
        """
        Revoke a certificate that may not be handed out.

        If that fails, too, the next try to hand it out comes here again.
        """
        tenant_id = asked.key.tenant_id
        self._log.error(
            "a gate could not be told of a certificate: {reason}",
            event="issuance.withdrawn",
            request_id=asked.request.request_id,
            tenant=tenant_id,
            principal=asked.principal.id,
            serial=issued.serial,
            reason=f"{type(error).__name__}: {error}",
        )
        await self._store.revoke_certificate(
            tenant_id, issued.serial, WITHDRAWN, "gateway", self._now()
        )

    async def tell_refused(
        self,
        gates: tuple[IChallengeGate, ...],
        request: EnrollmentRequest,
        error: RequestError,
    ) -> None:
        """Let each gate hear that the request was refused after all."""
        for gate in gates:
            try:
                await gate.refused(request, error)
            except Exception:  # noqa: BLE001 (the refusal stays what it is)
                self._log.failure(
                    "a gate could not be told of a refusal",
                    event="gate.failed",
                    request_id=request.request_id,
                    tenant=request.endpoint.tenant_id,
                )
