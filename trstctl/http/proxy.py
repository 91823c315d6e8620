# SPDX-License-Identifier: MIT
"""
A proxy that ends TLS in front of us: when its word counts, and for what.

Theory of operation
===================

P-1  *Only the configured proxy is believed*: its address is in one of the
     networks, and, if certificates are listed, it has proven one of them in
     the TLS handshake with us.  Fields of anybody else are no more than text,
     and are logged, since somebody tries or something is misconfigured.
P-2  *The proxy's word is the proof of the key.*  The handshake was with the
     proxy, so whatever certificate it names counts as proven, and is judged
     as any other: by the inventory, at the time of the request.
P-3  *The proxy is not its client.*  Its own certificate and its own session
     speak for nobody: without the field there is no client certificate, and
     a channel binding, which would be the proxy's, is never compared.  Nor
     does a certificate that is not listed, where a proxy may connect from
     and with a proxy's fields: a proxy that has got another certificate
     would be all of its clients.
P-4  *One field, or none.*  Two of a kind, or one that cannot be read, are
     refused with 400: a proxy that adds its field to the client's must be
     mended, not guessed at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from attrs import field, frozen

from trstctl.errors import Malformed
from trstctl.http.forwarded import (
    Address,
    forwarded,
    plain_address,
    read_client,
    x_forwarded_for,
)
from trstctl.http.head import Headers
from trstctl.model import ClientCertificate

#: How a client's address may be told.
_ADDRESSES = {
    "x-forwarded-for": x_forwarded_for,
    "forwarded": forwarded,
}


class ProxyConnection(Protocol):
    """A connection, as far as it tells who is at its other end."""

    peer: str

    def client_certificate(self) -> bytes | None:
        """Return the DER certificate that the handshake proved, if any."""


@frozen
class ForwardedClient:
    """
    The client of a proxy, in place of a TLS session of our own.

    :ivar peer: text of its address, or of the proxy's if that is not told.
    :ivar presented: its certificate, if it had one.
    """

    peer: str
    presented: ClientCertificate | None = field(default=None, repr=False)

    #: Its TLS session is with the proxy.
    proxied = True

    def client_certificate(self) -> bytes | None:
        """Return the DER certificate whose key the proxy has seen proven."""
        return None if self.presented is None else self.presented.der

    def client_chain(self) -> tuple[bytes, ...]:
        """Return what came with it, in DER; nobody has judged it."""
        return () if self.presented is None else self.presented.chain

    def channel_binding(self) -> None:
        """Return nothing: what both ends know, the proxy knows (P-3)."""


@frozen
class TrustedProxy:
    """
    Whose word counts, and how it is written.

    :ivar networks: where proxies connect from.
    :ivar certificates: hexadecimal SHA-256 of the certificates of which a
        proxy must have one; empty: its address is enough.
    :ivar form: a key of :data:`trstctl.http.forwarded.FORMS`.
    :ivar header: the field's name, in lower case.
    :ivar address: ``x-forwarded-for``, ``forwarded``, or ``none``: the
        client's address is not told.
    """

    networks: tuple[IPv4Network | IPv6Network, ...]
    certificates: frozenset[str]
    form: str
    header: str
    address: str = "none"

    @property
    def chain_header(self) -> str:
        """The field of the chain, if the form has one (RFC 9440, 2.3)."""
        return f"{self.header}-chain" if self.form == "rfc9440" else ""

    def speaks(self, connection: ProxyConnection) -> bool:
        """Tell whether a connection is the proxy's (P-1)."""
        if not self.is_near(connection.peer):
            return False
        if not self.certificates:
            return True
        own = connection.client_certificate()
        return own is not None and (
            hashlib.sha256(own).hexdigest() in self.certificates
        )

    def is_near(self, peer: str) -> bool:
        """Tell whether an address is in one of the networks."""
        return _is_within(self.networks, peer)

    def client(self, headers: Headers, peer: str) -> ForwardedClient:
        """
        Return whom a request of the proxy's is from.

        :param peer: the proxy's own address.
        :raises Malformed: a field occurs twice or cannot be read (P-4).
        """
        told = _ADDRESSES.get(self.address, _untold)(
            headers.all(self.address), self._is_proxy
        )
        own = self._one(headers, self.header)
        chain = self._one(headers, self.chain_header)
        presented = read_client(self.form, own or "", chain)
        return ForwardedClient(told or peer, presented)

    def is_imitated(self, headers: Headers) -> bool:
        """Tell whether a request has fields that only a proxy may write."""
        return bool(headers.all(self.header) or headers.all(self.chain_header))

    def is_unproven(self, headers: Headers, peer: str) -> bool:
        """
        Tell whether a request looks like a proxy's on a connection that has
        not proven to be one's (P-3).
        """
        return self.is_near(peer) and (
            self.is_imitated(headers) or bool(headers.all(self.address))
        )

    def _is_proxy(self, address: Address) -> bool:
        """Tell whether an address is in one of the networks."""
        return any(address in network for network in self.networks)

    @staticmethod
    def _one(headers: Headers, name: str) -> str | None:
        """Return the only value of a field; ``None``: it is not there."""
        values = headers.all(name)
        if len(values) > 1:
            raise Malformed(
                f"the proxy's field {name} occurs twice: it must replace what "
                "its client sent"
            )
        return values[0] if values else None


def _untold(_: object, __: Callable[[Address], bool]) -> None:
    """Return that no address is told."""


# Few proxies make many requests.
@lru_cache(maxsize=256)
def _is_within(
    networks: tuple[IPv4Network | IPv6Network, ...], peer: str
) -> bool:
    """Tell whether the text of an address is in one of the networks."""
    try:
        address = plain_address(peer)
    except ValueError:
        return False  # a UNIX socket has none
    return any(address in network for network in networks)
