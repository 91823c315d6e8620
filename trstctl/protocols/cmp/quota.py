# SPDX-License-Identifier: MIT
"""
How many transactions are remembered for one party.

Each is kept for a day after its last message, so that nothing that was
recorded begins it again: M-4 of :mod:`trstctl.protocols.cmp.messages`.
Whoever could begin any number of them would fill the store; a shared secret
that is used up, but has not expired, is enough for that, as it goes on to
bring its certificate.

What counts is what asks for a certificate.  Revocations do not: there is a
certificate for each, and nobody must be kept from them.

It is judged twice: before anything is issued, and again by the store, in the
transaction that keeps the answer, so that no number of processes gets past
it.
"""

from __future__ import annotations

from collections.abc import Mapping

from trstctl.errors import Throttled
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import Endpoint
from trstctl.protocols.cmp.header import REQUESTING
from trstctl.protocols.cmp.parties import Party, SecretParty
from trstctl.protocols.cmp.refusals import restate

#: Seconds after which it makes sense to try again: most are kept for a day.
_WAIT = 3600


class Quota:
    """
    The quotas of one endpoint.

    :param limits: how many transactions, by :attr:`Party.kind`.
    """

    def __init__(
        self,
        ra: IRegistrationAuthority,
        endpoint: Endpoint,
        limits: Mapping[str, int],
    ) -> None:
        self._ra = ra
        self._endpoint = endpoint
        self._limits = limits

    def charged_to(self, party: Party, kind: str) -> str:
        """Return whose quota a first message counts towards, if any's."""
        return party.actor if kind in REQUESTING else ""

    def limit(self, party: Party) -> int:
        """Return how many a party may have."""
        limit = self._limits[party.kind]
        if isinstance(party, SecretParty):
            # One for each certificate that it buys, in any case.
            limit += party.record.uses
        return limit

    async def check(self, party: Party, kind: str) -> None:
        """
        Refuse to begin what could not be remembered.

        :raises Throttled: the party has too many transactions.
        """
        charged_to = self.charged_to(party, kind)
        if not charged_to:
            return
        count = await self._ra.dialogues.count_dialogues(
            self._endpoint.tenant_id, self._endpoint.protocol, charged_to
        )
        if count >= self.limit(party):
            raise restated(
                Throttled(
                    _WAIT,
                    "too many transactions of this party are remembered; "
                    "the first is forgotten a day after its last message",
                ),
                party,
            )


def restated(error: Throttled, party: Party) -> Throttled:
    """Return the error as CMP tells it, with whom it is about for the log."""
    restate(error, "systemUnavail", "too-many-transactions")
    error.facts.setdefault("principal", party.actor)
    return error
