# SPDX-License-Identifier: MIT
"""
Who judges the challenges of an endpoint: the gate that its settings name.

Our own tokens are the registration authority's (``ra.challenges``); the
others are here and in the modules of the platforms.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography import x509
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from trstctl.config.secrets import read_secret
from trstctl.errors import RequestError
from trstctl.interfaces import IChallengeGate, IRegistrationAuthority
from trstctl.model import Endpoint, EnrollmentRequest, Issued, Principal
from trstctl.protocols.scep.gate_settings import (
    Gate,
    IntuneSettings,
    JWSSettings,
    OutboundSection,
    WebhookSettings,
)
from trstctl.protocols.scep.intune import IntuneGate
from trstctl.protocols.scep.intune_service import IntuneService
from trstctl.protocols.scep.jws import (
    JWSGate,
    PinnedKey,
    read_pinned_key,
)
from trstctl.protocols.scep.webhook import SHORTEST_KEY, WebhookGate


@implementer(IChallengeGate)
class OpenGate:
    """
    Lets everybody pass, to wait for a person's approval.

    For profiles that demand one; nothing else issues to ``anonymous``.
    """

    renewals = False

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


def make_gate(
    gate: Gate,
    endpoint: Endpoint,
    ra: IRegistrationAuthority,
    environment: Mapping[str, str],
) -> Any:
    """
    Return the gate of an endpoint.

    :param gate: as the settings name it, with absolute paths.
    :param environment: the process's environment variables, where secrets
        may be.
    :raises SecretError: a secret cannot be had.
    :raises ValueError: a secret or key is not fit for it; the text says why.
    :raises OSError: a file cannot be read.
    """
    if gate == "token":
        return ra.challenges
    if isinstance(gate, str):
        return OpenGate()
    for one in (gate.intune, gate.webhook):
        _check_trust(one)
    if gate.intune is not None:
        return _intune(gate.intune, endpoint, ra, environment)
    if gate.webhook is not None:
        return _webhook(gate.webhook, ra, environment)
    assert gate.jws is not None  # one of the three, say the settings
    return JWSGate(
        gate.jws,
        _pinned_keys(gate.jws),
        ra.device_secrets,
        ra.attempts,
    )


def _intune(
    settings: IntuneSettings,
    endpoint: Endpoint,
    ra: IRegistrationAuthority,
    environment: Mapping[str, str],
) -> IntuneGate:
    """Return the gate of Intune."""
    service = IntuneService(
        settings,
        _intune_secret(settings, environment),
        ra.outbound,
        ra.now,
        ra.random_bytes,
    )
    return IntuneGate(
        endpoint, service, ra, settings.caller, revokes=settings.revocations
    )


def _webhook(
    settings: WebhookSettings,
    ra: IRegistrationAuthority,
    environment: Mapping[str, str],
) -> WebhookGate:
    """Return the gate of a webhook."""
    key = _webhook_key(settings, environment)
    return WebhookGate(settings, key, ra.outbound, ra.now, ra.attempts)


# --- their files ------------------------------------------------------------


def open_files(gate: Gate, environment: Mapping[str, str]) -> None:
    """
    Read each file and secret that a gate needs, as :func:`make_gate` does.

    :raises SecretError: a secret cannot be had.
    :raises ValueError: what is in one is not fit for it.
    :raises OSError: a file cannot be read.
    """
    if isinstance(gate, str):
        return
    for one in (gate.intune, gate.webhook):
        _check_trust(one)
    if gate.intune is not None:
        _intune_secret(gate.intune, environment)
    if gate.webhook is not None:
        _webhook_key(gate.webhook, environment)
    if gate.jws is not None:
        _pinned_keys(gate.jws)


def _check_trust(settings: OutboundSection | None) -> None:
    """Refuse a file without CAs to trust: it is opened for each call."""
    if settings is None or settings.trust is None:
        return
    pem = settings.trust.read_bytes()
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ValueError(
            f"{settings.trust}: there is no CA certificate in PEM in it, or a "
            "damaged one"
        ) from error


def _intune_secret(
    settings: IntuneSettings, environment: Mapping[str, str]
) -> str:
    """Return the application's secret."""
    return read_secret(settings.secret, environment).text


def _webhook_key(
    settings: WebhookSettings, environment: Mapping[str, str]
) -> bytes:
    """Return what requests are signed with."""
    key = read_secret(settings.key, environment).text.encode("utf-8")
    if len(key) < SHORTEST_KEY:
        raise ValueError(
            f"{settings.key}: a webhook's key has at least {SHORTEST_KEY} "
            "octets; make one with: openssl rand -hex 32"
        )
    return key


def _pinned_keys(settings: JWSSettings) -> list[PinnedKey]:
    """Return the keys that may sign challenges."""
    return [read_pinned_key(path) for path in settings.keys]
