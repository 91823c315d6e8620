# SPDX-License-Identifier: MIT
"""Which gate hears of which request."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred

from trstctl.asked import gates_of
from trstctl.errors import Unavailable
from trstctl.model import (
    Challenge,
    ClientCertificate,
    Endpoint,
    EnrollmentRequest,
    Operation,
)
from trstctl.protocols.scep.intune import IntuneGate
from trstctl.protocols.scep.resource import SCEPResource
from trstctl.protocols.scep.settings import SCEPSettings
from trstctl.testing import TENANT, make_ra, make_request, result_of


@define
class _Gate:
    """A gate of which only one word is asked."""

    renewals: bool


def _gates(operation: Operation, *credentials: Any) -> list[Any]:
    """Return the gates of a request."""
    return list(
        gates_of(
            EnrollmentRequest(
                Endpoint("scep", "", TENANT, "device", "issuing"),
                operation,
                make_request(),
                credentials,
                "r",
                "192.0.2.1",
            )
        )
    )


class GatesTests:
    """The gate of a request, by who signs it."""

    def test_enrollment(self) -> None:
        """Whoever enrolls passes the gate, also with a certificate."""
        gate = _Gate(renewals=False)
        challenge = Challenge("", gate)
        own = ClientCertificate(b"")
        assert [gate] == _gates(Operation.ENROLL, challenge)
        assert [gate] == _gates(Operation.ENROLL, own, challenge)

    @pytest.mark.parametrize("renewals", [False, True])
    def test_renewal(self, renewals: bool) -> None:
        """A renewal by certificate passes a gate that judges renewals."""
        gate = _Gate(renewals)
        found = _gates(
            Operation.RENEW, ClientCertificate(b""), Challenge("", gate)
        )
        assert ([gate] if renewals else []) == found

    def test_renewal_without_certificate(self) -> None:
        """No certificate, no exception."""
        gate = _Gate(renewals=False)
        assert [gate] == _gates(Operation.RENEW, Challenge("", gate))


@define
class _Service:
    """Intune's service, which may be away."""

    error: Exception | None = None
    asked: int = field(default=0)


class _Intune(IntuneGate):
    """Intune's gate without Intune."""

    def __init__(self, service: _Service) -> None:
        self._stub = service

    async def tend(self) -> None:
        """Count the round, or fail."""
        self._stub.asked += 1
        if self._stub.error is not None:
            raise self._stub.error


class TendTests:
    """The rounds of the platforms."""

    def test_each_gate_has_its_round(self) -> None:
        """One that fails keeps no other back, and is told."""
        settings = SCEPSettings(
            enabled=True, tenant_id=TENANT, labels={"a": {}, "b": {}}
        )
        resource = SCEPResource("scep", make_ra(), settings)
        result_of(Deferred.fromCoroutine(resource.tend()))
        bad, good = _Service(Unavailable()), _Service()
        resource._gates = {"a": _Intune(bad), "b": _Intune(good)}
        with pytest.raises(Unavailable):
            result_of(Deferred.fromCoroutine(resource.tend()))
        assert (1, 1) == (bad.asked, good.asked)
