# SPDX-License-Identifier: MIT
"""How much of the gateway one peer, and all peers together, may take."""

from __future__ import annotations

from attrs import frozen


@frozen
class Limits:
    """
    What a peer may take.

    :ivar connections: open at once, in all.
    :ivar connections_per_address: open at once from one address, or from
        one IPv6 network of 64 bits.
    :ivar target: octets of a request line.
    :ivar header: octets of all header fields of a request.
    :ivar body: octets of a body, where the resource sets no own limit.
    :ivar handshake_seconds: for the TLS handshake.
    :ivar header_seconds: from a connection's start or a head's first octet
        to its last.
    :ivar body_seconds: from the end of the head to the end of the body.
    :ivar write_seconds: for the peer to take what it asked for.
    :ivar idle_seconds: between two requests.
    :ivar linger_seconds: for a refused body to be thrown away.
    """

    connections: int = 10_000
    connections_per_address: int = 256
    target: int = 16_384
    header: int = 16_384
    body: int = 65_536
    handshake_seconds: float = 10.0
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    write_seconds: float = 30.0
    idle_seconds: float = 60.0
    linger_seconds: float = 2.0
