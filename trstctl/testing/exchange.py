# SPDX-License-Identifier: MIT
"""HTTP without a network: requests through the real web layer."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from trstctl.http.channel import Channel
from trstctl.http.proxy import TrustedProxy
from trstctl.interfaces import IEnrollmentProtocol
from trstctl.settings import ProtocolSettings
from trstctl.testing.time import TENANT, DeterministicBytes
from trstctl.web import (
    HTTPResponse,
    Limits,
    ProtocolResource,
    make_root,
    make_site,
)


class _Known(Channel):
    """A connection of which the test says whose it is, and how."""

    certificate: bytes | None = None
    chain: tuple[bytes, ...] = ()
    binding: bytes | None = None

    def client_certificate(self) -> bytes | None:
        """Return what the handshake would have proven."""
        return self.certificate

    def client_chain(self) -> tuple[bytes, ...]:
        """Return what would have come with it."""
        return self.chain

    def channel_binding(self) -> bytes | None:
        """Return what would be unique to the session."""
        return self.binding


class Connection:
    """
    One connection to a protocol, through the real web layer.

    :param resource: the protocol; it is mounted at all of its paths.
    :param clock: drives the deadlines.
    :param client_certificate: DER of the certificate whose key the TLS
        handshake would have proven.
    :param secure: whether it is TLS.
    :param client_chain: DER of what came with the client's certificate.
    :param channel_binding: what is unique to the TLS session.
    :param proxy: who may speak for clients.
    :param peer: text of the network address.
    """

    def __init__(
        self,
        resource: ProtocolResource,
        *,
        clock: Clock | None = None,
        client_certificate: bytes | None = None,
        client_chain: tuple[bytes, ...] = (),
        channel_binding: bytes | None = None,
        secure: bool = True,
        limits: Limits | None = None,
        proxy: TrustedProxy | None = None,
        peer: str = "192.0.2.1",
    ) -> None:
        mounts = type(resource).paths_for(resource.name, resource.settings)
        random_bytes = DeterministicBytes("request ids")
        site = make_site(
            make_root(dict.fromkeys(mounts, resource)),
            limits or Limits(),
            clock or Clock(),
            lambda: base64.urlsafe_b64encode(random_bytes(12)).decode(),
        )
        site.proxy = proxy
        self._transport = StringTransport()
        self._channel = cast(Any, _Known(site, peer))
        self._channel.makeConnection(self._transport)
        self._channel.secure = secure
        self._channel.certificate = client_certificate
        self._channel.chain = client_chain
        self._channel.binding = channel_binding

    def send(self, octets: bytes) -> None:
        """Let the peer send something."""
        self._channel.dataReceived(octets)

    def received(self) -> bytes:
        """Return what the peer has got since the last call."""
        octets: bytes = self._transport.value()
        self._transport.clear()
        return octets

    def lose(self) -> None:
        """Let the peer leave."""
        self._channel.connectionLost()


def request_octets(
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
) -> bytes:
    """Return an HTTP/1.1 request, with a Host and a Content-Length."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in pairs]
    if body or method not in {"GET", "HEAD"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def read_response(octets: bytes) -> HTTPResponse:
    """
    Return an HTTP answer as a value; a repeated header is a tuple.

    :raises AssertionError: there is no whole answer.
    """
    head, end, body = octets.partition(b"\r\n\r\n")
    if not end:
        raise AssertionError(f"no whole answer: {octets!r}")
    status, *lines = head.decode("latin-1").split("\r\n")
    found: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        name, _, value = line.partition(": ")
        found[name].append(value)
    return HTTPResponse(
        int(status.split(" ")[1]),
        found.get("Content-Type", [""])[0],
        body,
        {
            name: values[0] if len(values) == 1 else tuple(values)
            for name, values in found.items()
        },
    )


def exchange(
    resource: ProtocolResource,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    *,
    client_certificate: bytes | None = None,
    client_chain: tuple[bytes, ...] = (),
    channel_binding: bytes | None = None,
    clock: Clock | None = None,
    proxy: TrustedProxy | None = None,
    peer: str = "192.0.2.1",
) -> HTTPResponse:
    """
    Send one request to a protocol, and return the answer.

    :param path: whole, from the root: ``/.well-known/est/cacerts``.
    :param clock: what the registration authority's timers run on; it is
        advanced, by at most a minute, until there is an answer.
    :raises AssertionError: there is none.
    """
    clock = clock or Clock()
    connection = Connection(
        resource,
        clock=clock,
        client_certificate=client_certificate,
        client_chain=client_chain,
        channel_binding=channel_binding,
        proxy=proxy,
        peer=peer,
    )
    connection.send(request_octets(method, path, body, headers))
    octets = connection.received()
    for _ in range(600):
        if octets:
            break
        clock.advance(0.1)
        octets = connection.received()
    connection.lose()
    return read_response(octets)


def settings_for(
    plugin: IEnrollmentProtocol, **settings: object
) -> ProtocolSettings:
    """Return the plugin's settings, enabled for :data:`TENANT`."""
    schema: Any = plugin.settings_schema()
    made: ProtocolSettings = schema.model_validate(
        {"enabled": True, "tenant_id": TENANT, **settings}
    )
    return made
