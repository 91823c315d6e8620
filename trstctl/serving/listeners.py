# SPDX-License-Identifier: MIT
"""The sockets that a gateway listens at, and how they come to an end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.web.resource import IResource

from trstctl.admission import Admission
from trstctl.config.model import (
    Configuration,
    HTTPListener,
    HTTPSListener,
    OpsListener,
)
from trstctl.config.model import Limits as LimitSettings
from trstctl.http.site import Site
from trstctl.serving.faults import StartFault
from trstctl.serving.served import Served
from trstctl.tls import ServerTLS, wrap_site
from trstctl.web import Limits, make_site

#: Connections that the kernel holds until they are taken.
_BACKLOG = 1024


class Listeners:
    """
    The listeners of one process: with TLS, without it, and for operation.

    :param limits: of each listener.
    :param request_ids: returns a new random id.
    :param report: called once for each exchange, with its facts.
    :ivar served: what is served now.
    """

    served: Served

    def __init__(
        self,
        reactor: Any,
        limits: LimitSettings,
        request_ids: Callable[[], str],
        report: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._reactor = reactor
        self._limits = limits
        self._request_ids = request_ids
        self._report = report
        self._ports: dict[str, IListeningPort] = {}
        self._sites: list[Site] = []
        self._https: Site
        self._http: Site | None = None

    def open(
        self,
        config: Configuration,
        served: Served,
        tls: ServerTLS,
        ops: IResource,
    ) -> None:
        """
        Open all listeners.

        :param ops: what is served to those who operate the gateway.
        :raises StartFault: a port is taken; those before it are open.
        """
        settings = config.listeners
        self.served = served
        self._https = self._site(served.secure)
        self._https.proxy = settings.https.trusted_proxy()
        self._listen(
            "https",
            settings.https,
            wrap_site(tls, self._https, self._reactor),
        )
        if settings.http.enabled:
            self._http = self._site(served.plain)
            self._listen("http", settings.http, self._http)
        self._listen("ops", settings.ops, self._site(ops))

    def replace(self, config: Configuration, served: Served) -> None:
        """Serve something else, to requests that are yet to come."""
        self.served = served
        self._https.resource = served.secure
        self._https.proxy = config.listeners.https.trusted_proxy()
        if self._http is not None:
            self._http.resource = served.plain

    async def tend(self) -> None:
        """Let the protocols that are served now do their rounds."""
        await self.served.tend()

    def ports(self) -> Mapping[str, int]:
        """Return the port of each listener that is open, by its name."""
        found: dict[str, int] = {}
        for name, listener in self._ports.items():
            address: Any = listener.getHost()
            found[name] = address.port
        return found

    def running(self) -> float:
        """Return how many requests hold a place now."""
        admissions = [site.admission for site in self._sites]
        return float(sum(one.running() for one in admissions if one))

    async def close(self) -> None:
        """Take no connection any more; those that are open go on."""
        for port in self._ports.values():
            await settled(port.stopListening())

    def drain(self) -> Deferred[Any]:
        """
        Finish what is under way.

        :returns: fires when the last connection has closed.
        """
        return gatherResults([site.drain() for site in self._sites])

    def _listen(
        self,
        name: str,
        settings: HTTPSListener | HTTPListener | OpsListener,
        factory: Any,
    ) -> None:
        """Listen, or say which port is taken."""
        port, interface = settings.port, settings.interface
        try:
            self._ports[name] = self._reactor.listenTCP(
                port, factory, backlog=_BACKLOG, interface=interface
            )
        except CannotListenError as error:
            reason = getattr(error.socketError, "strerror", None)
            raise StartFault(
                f"port {port} on {interface or 'all addresses'} cannot be "
                f"listened at: {reason or error.socketError}; choose another "
                "port, or stop who uses it"
            ) from error

    def _site(self, resource: Any) -> Site:
        """Return a site within the configured limits."""
        limits = self._limits
        site = make_site(
            resource,
            Limits(
                connections=limits.connections,
                connections_per_address=limits.connections_per_address,
                body=limits.body,
                handshake_seconds=limits.handshake_seconds,
                header_seconds=limits.header_seconds,
                body_seconds=limits.body_seconds,
                write_seconds=limits.write_seconds,
                idle_seconds=limits.idle_seconds,
            ),
            self._reactor,
            self._request_ids,
            Admission(
                self._reactor,
                limits.running,
                limits.waiting,
                limits.wait_seconds,
            ),
        )
        site.report = self._report
        self._sites.append(site)
        return site


async def settled(waiting: Deferred[Any] | None) -> None:
    """Wait for it, whatever comes of it."""
    done: Deferred[None] = Deferred()
    if waiting is None:
        return
    waiting.addBoth(lambda _: done.callback(None))
    await done
