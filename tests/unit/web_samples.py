# SPDX-License-Identifier: MIT
"""What the tests of the web layer share: a site, a client, a protocol."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, globalLogPublisher
from twisted.web.resource import IResource

from trstctl.admission import Admission
from trstctl.http.site import Site
from trstctl.model import Endpoint
from trstctl.settings import ProtocolSettings
from trstctl.web import (
    HTTPRequest,
    HTTPResponse,
    Limits,
    ProtocolResource,
    make_root,
    make_site,
)

TENANT = "11111111-1111-1111-1111-111111111111"
SETTINGS = ProtocolSettings(enabled=True, tenant_id=TENANT)


class Recorder:
    """The part of a registration authority that refusals reach."""

    def __init__(self) -> None:
        self.refusals: list[tuple[Any, ...]] = []
        self.result: Callable[[], Deferred[None]] = lambda: succeed(None)

    def record_refusal(self, *refusal: Any) -> Deferred[None]:
        """Remember a refusal."""
        self.refusals.append(refusal)
        return self.result()


class Sample(ProtocolResource):
    """A protocol that does what a test tells it to."""

    max_body = 1000
    requests: list[HTTPRequest]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.requests = []
        self.act: Callable[[HTTPRequest], Awaitable[HTTPResponse]] = self.echo

    @staticmethod
    async def echo(request: HTTPRequest) -> HTTPResponse:
        """Answer with the request's body."""
        return HTTPResponse(
            200,
            "text/plain",
            b"/".join((request.method.encode(), request.body)),
        )

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Know two paths."""
        return {
            (): ("GET", "POST"),
            ("post",): ("POST",),
            ("odd",): ("GET", "POST"),
        }.get(path)

    def admission_key(self, request: HTTPRequest) -> Endpoint:
        """Fail for one path, as a protocol's own mistake would."""
        if request.path == ("odd",):
            raise KeyError("odd")
        return self.endpoint

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Do as told."""
        self.requests.append(request)
        return await self.act(request)


class Transport(StringTransport):
    """A transport that can be aborted, and tells so."""

    aborted = False

    def abortConnection(self) -> None:
        """Close at once."""
        self.aborted = True
        self.disconnecting = True


class Client:
    """One connection to a site, in memory."""

    def __init__(self, site: Any, host: str = "192.0.2.1") -> None:
        address = IPv4Address("TCP", host, 50000)
        self.transport = Transport(peerAddress=address)
        self.protocol = site.buildProtocol(address)
        self.protocol.makeConnection(self.transport)

    def send(self, *pieces: bytes) -> bytes:
        """Send the pieces and return what has been answered since."""
        for piece in pieces:
            self.protocol.dataReceived(piece)
        return self.read()

    def read(self) -> bytes:
        """Return what has been answered since the last time."""
        answered = self.transport.value()
        self.transport.clear()
        return answered

    @property
    def closed(self) -> bool:
        """Whether the server has closed or is closing."""
        return bool(self.transport.disconnecting)


class Bench:
    """A site with one sample protocol below ``/sample``."""

    def __init__(
        self,
        limits: Limits | None = None,
        admission: bool = False,
        mounts: dict[str, IResource] | None = None,
    ) -> None:
        self.clock = Clock()
        self.ra = Recorder()
        self.sample = Sample("sample", self.ra, SETTINGS)
        numbers = itertools.count()
        self.site: Site = make_site(
            make_root({"/sample": self.sample, **(mounts or {})}),
            limits or Limits(),
            self.clock,
            lambda: f"id{next(numbers):014}",
            Admission(self.clock, 1, 1, 5.0) if admission else None,
        )

    def client(self, host: str = "192.0.2.1") -> Client:
        """Return a new connection."""
        return Client(self.site, host)

    def pass_time(self, seconds: float) -> None:
        """Let time pass in small steps, as it does."""
        self.clock.pump([0.25] * int(seconds * 4))


@contextmanager
def observed() -> Iterator[list[LogEvent]]:
    """Collect the log's events."""
    events: list[LogEvent] = []
    keep = events.append
    globalLogPublisher.addObserver(keep)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(keep)


def post(
    body: bytes = b"body",
    path: bytes = b"/sample",
    extra: bytes = b"",
    version: bytes = b"HTTP/1.1",
) -> bytes:
    """Return a POST."""
    return (
        b"POST %b %b\r\nHost: ca.example\r\n%bContent-Length: %d\r\n\r\n%b"
        % (path, version, extra, len(body), body)
    )


def get(
    path: bytes = b"/sample", extra: bytes = b"", version: bytes = b"HTTP/1.1"
) -> bytes:
    """Return a GET."""
    return b"GET %b %b\r\nHost: ca.example\r\n%b\r\n" % (path, version, extra)


def parse(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of exactly one answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("ascii").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert int(headers.get("Content-Length", "0")) == len(body)
    return int(status_line.split(" ")[1]), headers, body
