# SPDX-License-Identifier: MIT
"""
Fakes and a contract suite, for those who write a plugin.

Nothing here opens a socket, sleeps, or looks at a clock.  Only what a test
cannot have is replaced: time, chance and the network.  Everything between
them is the real thing, so that a request which :func:`exchange` answers
takes the way that it takes in production: HTTP's rules, the protocol, the
registration authority, profiles, the CA and a store (in memory).

A test of a protocol needs four lines::

    ra = make_ra(store := MemoryStore())
    add_password(store, "router", "secret")
    resource = plugin.make_resource(ra, settings_for(plugin))
    answer = exchange(resource, "POST", "/ping", body, basic("router", "secret"))

and :class:`ProtocolContract` checks what every protocol owes its users.
"""

from trstctl.backends.store_memory import MemoryStore
from trstctl.testing.authority import (
    FakeSigner,
    StubAuthority,
    make_authority,
    make_ra,
)
from trstctl.testing.contract import Example, ProtocolContract
from trstctl.testing.credentials import FakeCredentials, InlineThreads
from trstctl.testing.exchange import (
    Connection,
    exchange,
    read_response,
    request_octets,
    settings_for,
)
from trstctl.testing.outbound import FakeOutbound
from trstctl.testing.requests import (
    CHALLENGE_KEYS,
    add_challenge,
    add_one_time_token,
    add_password,
    add_token,
    basic,
    bearer,
    make_csr,
    make_request,
)
from trstctl.testing.revocation import FakeRevocation
from trstctl.testing.time import (
    EPOCH,
    OTHER_TENANT,
    TENANT,
    DeterministicBytes,
    WallClock,
    result_of,
)

__all__ = [
    "CHALLENGE_KEYS",
    "EPOCH",
    "OTHER_TENANT",
    "TENANT",
    "Connection",
    "DeterministicBytes",
    "Example",
    "FakeCredentials",
    "FakeOutbound",
    "FakeRevocation",
    "FakeSigner",
    "InlineThreads",
    "MemoryStore",
    "ProtocolContract",
    "StubAuthority",
    "WallClock",
    "add_challenge",
    "add_one_time_token",
    "add_password",
    "add_token",
    "basic",
    "bearer",
    "exchange",
    "make_authority",
    "make_csr",
    "make_ra",
    "make_request",
    "read_response",
    "request_octets",
    "result_of",
    "settings_for",
]
