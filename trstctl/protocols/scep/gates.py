# SPDX-License-Identifier: MIT
"""
Gates other than our own challenge tokens (:mod:`trstctl.challenges`).
"""

from __future__ import annotations

from datetime import datetime

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from trstctl.errors import RequestError
from trstctl.interfaces import IChallengeGate
from trstctl.model import EnrollmentRequest, Issued, Principal


@implementer(IChallengeGate)
class OpenGate:
    """
    Lets everybody pass, to wait for a person's approval.

    For profiles that demand one; nothing else issues to ``anonymous``.
    """

    def admit(
        self, request: EnrollmentRequest, challenge: str, now: datetime
    ) -> Deferred[Principal]:
        """Let it pass; nobody stands behind it but its key."""
        endpoint = request.endpoint
        return succeed(
            Principal(
                kind="anonymous",
                name=request.wanted.public_key.fingerprint,
                tenant_id=endpoint.tenant_id,
                profiles=(endpoint.profile,),
            )
        )

    def issued(
        self, request: EnrollmentRequest, principal: Principal, outcome: Issued
    ) -> Deferred[None]:
        """Tell nobody."""
        return succeed(None)

    def refused(
        self, request: EnrollmentRequest, error: RequestError
    ) -> Deferred[None]:
        """Tell nobody."""
        return succeed(None)
