# SPDX-License-Identifier: MIT
"""
The site: makes connections within limits, and ends them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv6Address
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger
from twisted.web.http import datetimeToString

from trstctl.admission import Admission
from trstctl.http.answer import refusal, write_message
from trstctl.http.channel import Channel
from trstctl.http.exchange import BoundedResource, HTTPExchange, Root
from trstctl.http.head import Head, Refused, split_path
from trstctl.http.limits import Limits
from trstctl.http.proxy import TrustedProxy

#: Seconds between two log lines about refused connections, and between two
#: about fields that only a proxy may write.
SURPLUS_LOG_SECONDS = 10.0

_log = Logger(namespace="trstctl.web")


def report_exchange(facts: Mapping[str, object]) -> None:
    """Log an exchange in the way of all other events."""
    _log.info("request {request_id}: {status} {decision}", **facts)


def holder(peer: str) -> str:
    """
    Return whom a connection counts for: its address, or its IPv6 /64.

    Whoever has one IPv6 address has the 2**64 of its network, too.
    """
    if ":" not in peer:
        return peer
    address = IPv6Address(peer)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> 64 << 64))


class _Surplus(Protocol):
    """A connection beyond the limits: ended before it costs anything."""

    transport: Any  # also ITCPTransport

    def connectionMade(self) -> None:
        """End it; under TLS, before the handshake."""
        self.transport.abortConnection()


class Site(ServerFactory):
    """
    Makes the connections, within limits, and their exchanges.

    :ivar resource: the tree; replace it to reload, requests under way keep
        the resource that they have.
    :ivar draining: whether answers end their connections.
    :ivar proxy: who may speak for clients whose TLS it has ended; ``None``:
        nobody.
    :ivar report: called once for each exchange, with the facts of its line
        in the log; replace it to take a shorter way there.
    :param request_ids: returns a new random id.
    :param admission: who may run at once; ``None`` for no bound.
    :param http_date: returns the wall clock's time as an IMF-fixdate.
    """

    noisy = False

    def __init__(
        self,
        resource: Root | BoundedResource,
        limits: Limits,
        clock: IReactorTime,
        request_ids: Callable[[], str],
        admission: Admission | None = None,
        http_date: Callable[[], bytes] = datetimeToString,
    ) -> None:
        self.resource = resource
        self.limits = limits
        self.clock = clock
        self.request_ids = request_ids
        self.admission = admission
        self.draining = False
        self.proxy: TrustedProxy | None = None
        self.report: Callable[[Mapping[str, object]], None] = report_exchange
        self._http_date = http_date
        self._date = ""
        self._date_until = float("-inf")
        self._channels: set[Channel] = set()
        self._per_address: dict[str, int] = {}
        self._surplus = 0
        self._surplus_log_at = float("-inf")
        self._imitations = 0
        self._imitations_log_at = float("-inf")
        self._drained: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Return a connection, or one that ends at once."""
        peer = str(getattr(addr, "host", "unix"))
        held = self._per_address.get(holder(peer), 0)
        if (
            self.draining
            or len(self._channels) >= self.limits.connections
            or (
                held >= self.limits.connections_per_address
                # One address for all of its clients.
                and not (self.proxy and self.proxy.is_near(peer))
            )
        ):
            self._report_surplus(peer)
            return _Surplus()
        self._per_address[holder(peer)] = held + 1
        channel = Channel(self, peer)
        self._channels.add(channel)
        return channel

    def closed(self, channel: Channel) -> None:
        """Forget a connection."""
        self._channels.discard(channel)
        address = holder(channel.peer)
        held = self._per_address.pop(address, 1)
        if held > 1:
            self._per_address[address] = held - 1
        if self.draining and not self._channels:
            self._tell_drained()

    def connections(self) -> int:
        """Return how many connections are open."""
        return len(self._channels)

    def drain(self) -> Deferred[None]:
        """
        Finish what is under way and take nothing new.

        :returns: fires when the last connection has closed.
        """
        self.draining = True
        done: Deferred[None] = Deferred()
        self._drained.append(done)
        for channel in tuple(self._channels):
            channel.drain()
        if not self._channels:
            self._tell_drained()
        return done

    def _tell_drained(self) -> None:
        """Fire who waits for the drain."""
        waiting, self._drained = self._drained, []
        for done in waiting:
            done.callback(None)

    def find(self, path: bytes) -> tuple[BoundedResource, tuple[str, ...]]:
        """Return the resource for a path and the segments below it."""
        resource = self.resource
        if isinstance(resource, Root):
            return resource.find(resource.split(path))
        return resource, split_path(path)

    def exchange(self, channel: Channel, head: Head) -> HTTPExchange:
        """Return a new exchange for the head."""
        return HTTPExchange(self, channel, head)

    def date(self) -> str:
        """Return the date line's value, made once a second."""
        now = self.clock.seconds()
        if now >= self._date_until:
            self._date_until = now + 1
            self._date = self._http_date().decode("ascii")
        return self._date

    def reject(self, peer: str, refused: Refused) -> bytes:
        """Log what is no request at all, and return the answer."""
        request_id = self.request_ids()
        self.report(
            {
                "event": "request",
                "request_id": request_id,
                "tenant": "",
                "protocol": "",
                "operation": "",
                "status": refused.status,
                "decision": "refused",
                "reason": refused.detail,
                "duration_ms": 0.0,
                "peer": peer,
            }
        )
        # A refusal is short: nothing is left of it.
        return write_message(
            refusal(refused, request_id),
            None,
            refused.version,
            request_id,
            self.date(),
            False,
        )[0]

    def _report_surplus(self, peer: str) -> None:
        """Log refused connections, now and then."""
        self._surplus += 1
        now = self.clock.seconds()
        if now >= self._surplus_log_at:
            self._surplus_log_at = now + SURPLUS_LOG_SECONDS
            _log.warn(
                "{refused} connections refused, last from {peer}",
                event="connection.refused",
                refused=self._surplus,
                peer=peer,
            )

    def report_imitation(self, peer: str) -> None:
        """Log, now and then, that somebody writes what only a proxy may."""
        self._imitations += 1
        now = self.clock.seconds()
        if now >= self._imitations_log_at:
            self._imitations_log_at = now + SURPLUS_LOG_SECONDS
            _log.warn(
                "{ignored} requests had a proxy's fields and were not the "
                "proxy's, last from {peer}",
                event="proxy.imitated",
                ignored=self._imitations,
                peer=peer,
            )
