# SPDX-License-Identifier: MIT
"""Others, whom the gateway calls: played by the test."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from trstctl.errors import Unavailable
from trstctl.interfaces import IOutbound
from trstctl.model import OutboundCall, OutboundReply


def nobody(_call: OutboundCall) -> OutboundReply:
    """Be unavailable."""
    raise Unavailable


@implementer(IOutbound)
class FakeOutbound:
    """
    Answers calls as the test says, and never opens a connection.

    :ivar calls: what was called, in order.
    :ivar answer: returns the reply to a call, or raises ``Unavailable``, as
        :func:`nobody` does.
    """

    def __init__(
        self, answer: Callable[[OutboundCall], OutboundReply] = nobody
    ) -> None:
        self.answer = answer
        self.calls: list[OutboundCall] = []

    def call(self, call: OutboundCall) -> Deferred[OutboundReply]:
        """Answer a call."""
        self.calls.append(call)
        try:
            return succeed(self.answer(call))
        except Unavailable as error:
            return fail(error)
