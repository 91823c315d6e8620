# SPDX-License-Identifier: MIT
"""
What a reload replaces, and for how long things are remembered.

An endpoint is of an authority, and an authority may have had several keys, of
which one issues: :meth:`Rules.serving` is the one place that knows which.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from attrs import evolve, field, frozen

from trstctl.interfaces import IAuthority, IProfilePolicy
from trstctl.model import Endpoint, Succession

#: Endpoints whose present form is kept.
_SERVING = 256


@frozen
class Windows:
    """
    For how long things are remembered or waited for.

    :ivar retry: life of a derived idempotency key; a renewal with the same
        CSR after it is a new certificate.
    :ivar retention: life of a client's own idempotency key.
    :ivar held: life of a request that waits for a person.
    :ivar waiting: how many requests of one principal may wait for a person.
    :ivar in_flight: seconds that a repeated request waits for the first.
    :ivar sign: seconds that a signature may take.
    :ivar lease: life of a silent owner's claim on its open intents.
    """

    retry: timedelta = timedelta(minutes=15)
    retention: timedelta = timedelta(days=7)
    held: timedelta = timedelta(days=7)
    waiting: int = 1000
    in_flight: float = 10.0
    sign: float = 30.0
    lease: timedelta = timedelta(seconds=60)


@frozen
class Rules:
    """
    What a reload replaces, as one value: no request sees half of it.

    :ivar authorities: by name; each generation is one.
    :ivar profiles: by name.
    :ivar successions: of those authorities that have had several keys.
    """

    authorities: Mapping[str, IAuthority]
    profiles: Mapping[str, IProfilePolicy]
    successions: Mapping[str, Succession] = field(factory=dict)
    # By identity: endpoints are made once, with the resources.
    _serving: dict[int, tuple[Endpoint, Endpoint]] = field(
        factory=dict, init=False, repr=False, eq=False
    )

    def succession(self, authority: str) -> Succession:
        """Return what an authority is now."""
        found = self.successions.get(authority)
        if found is not None:
            return found
        return Succession(authority, tuple(self.authorities[authority].chain))

    def serving(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint as it is now; itself, if nothing changes."""
        if not self.successions:
            return endpoint
        known = self._serving.get(id(endpoint))
        if known is not None and known[0] is endpoint:
            return known[1]
        found = self._as_now(endpoint)
        if len(self._serving) >= _SERVING:
            self._serving.clear()
        self._serving[id(endpoint)] = endpoint, found
        return found

    def _as_now(self, endpoint: Endpoint) -> Endpoint:
        """Put the generations in the places of the authorities."""
        names = [
            name
            for authority in (endpoint.authority, *endpoint.issuers)
            for name in self._generations(authority)
        ]
        issuing, *others = dict.fromkeys(names)
        if (issuing, *others) == (endpoint.authority, *endpoint.issuers):
            return endpoint
        return evolve(endpoint, authority=issuing, issuers=tuple(others))

    def _generations(self, authority: str) -> tuple[str, ...]:
        """Return the generation that issues, and the others that count."""
        found = self.successions.get(authority)
        if found is None:
            return (authority,)
        return (found.authority, *found.accepted)
