# SPDX-License-Identifier: MIT
"""
One HTTP connection: framing, order, deadlines; what it carries is another's.

Theory of operation.  A connection is in one :class:`State` at a time.  It
reads a head, then a body, then waits for the one answer, then reads on; it
never works on two requests at once, so answers cannot get out of order.  The
:class:`Exchange` that the site makes of each head calls :meth:`respond`
exactly once.

1. Every wait but the one for our own answer has an absolute deadline, which
   arriving bytes do not move.
2. There is one timer per connection.  It is armed lazily: a deadline that
   moves away leaves it alone, and it looks again when it fires.  A request
   that arrives whole therefore touches no timer.
3. What is buffered is bounded: the head and body by their limits, requests
   sent ahead by one head's limit and one read, our own answers by the
   transport, which pauses us.  Of a large answer it gets a slice at a time:
   a thousand peers who take a CRL of megabytes slowly, or not at all, share
   its octets.
4. After an error in framing nothing more is read from the connection: what
   follows could be another request only to somebody else.
5. Where a body is refused unread, reading goes on for a moment, thrown
   away; closing at once would make the kernel reset the connection and
   destroy the answer.

``twisted.web.http.HTTPChannel`` has none of 1, 4 and 5, and refuses in a
form of its own, which is why it is not used here.
"""

from __future__ import annotations

import enum
from typing import Any
from typing import Protocol as Structural

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IReactorTime,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from trstctl.errors import Malformed, TooLarge, TrstctlError
from trstctl.http.chunked import ChunkedBody
from trstctl.http.head import CHUNKED, Head, Refused, read_head
from trstctl.http.limits import Limits
from trstctl.tls import channel_binding, client_certificate, client_chain

#: Empty lines that are skipped before a request: some clients send CRLF
#: after a body, and libest 3.2.0 also after a GET (RFC 9112, section 2.2).
MAX_EMPTY_LINES = 2


class Exchange(Structural):
    """One request and its answer, as the connection sees them."""

    @property
    def limit(self) -> int:
        """Octets that the body may have."""

    def begin(self) -> None:
        """Judge the head; answer at once to refuse it."""

    def received(self, body: bytes) -> None:
        """Take the whole body and answer, now or later."""

    def refuse(self, error: Refused | TrstctlError) -> None:
        """Answer that the body cannot be taken."""

    def abandon(self) -> None:
        """The peer has left: no answer can be given."""


class Server(Structural):
    """What a connection needs of its site."""

    limits: Limits
    clock: IReactorTime
    draining: bool

    def exchange(self, channel: Channel, head: Head) -> Exchange:
        """Return a new exchange for the head."""

    def reject(self, peer: str, refused: Refused) -> bytes:
        """Return the answer to what is no request at all."""

    def closed(self, channel: Channel) -> None:
        """Forget a connection."""


class State(enum.Enum):
    """What a connection waits for."""

    HANDSHAKE = enum.auto()
    IDLE = enum.auto()  # the first octet of a request
    HEAD = enum.auto()
    BODY = enum.auto()
    ANSWER = enum.auto()  # ours
    SENDING = enum.auto()  # the peer must take a slice of our answer
    LINGER = enum.auto()  # throwing away a refused body
    CLOSING = enum.auto()  # the peer must take the rest of our octets
    CLOSED = enum.auto()


#: Octets of a large answer that the transport gets at once.
_SLICE = 65536

_READING = (State.IDLE, State.HEAD)
_ANSWERING = (State.ANSWER, State.SENDING)
_ENDING = (State.CLOSING, State.CLOSED)


@implementer(IHandshakeListener)
class Channel(Protocol):
    """
    One connection.

    :param site: makes the exchanges and counts the connections.
    :param peer: text of the network address.
    """

    transport: Any  # several interfaces at once
    secure = False
    proxied = False
    state = State.IDLE
    _buffer = b""
    _empty_lines = 0
    _head: Head | None = None
    _exchange: Exchange | None = None
    _chunks: ChunkedBody | None = None
    _deadline: float | None = None
    _timer: IDelayedCall | None = None
    _fires_at = 0.0
    _advancing = False
    _stalled = False
    _paused = False
    _certificate: bytes | None = None
    _certificate_known = False
    _rest = memoryview(b"")
    _last = False

    def __init__(self, site: Server, peer: str) -> None:
        self._site = site
        self.peer = peer

    # --- what the exchange uses ---------------------------------------------

    def client_certificate(self) -> bytes | None:
        """Return the DER certificate that the handshake proved, if any."""
        if not self._certificate_known:
            self._certificate_known = True
            self._certificate = client_certificate(self.transport)
        return self._certificate

    def client_chain(self) -> tuple[bytes, ...]:
        """Return what came with it, in DER; nobody has judged it."""
        return client_chain(self.transport)

    def channel_binding(self) -> bytes | None:
        """Return what is unique to this connection, if it is TLS."""
        return channel_binding(self.transport)

    def getPeer(self) -> IAddress:
        """Return the peer's address, as requests of Twisted's ask for it."""
        address: IAddress = self.transport.getPeer()
        return address

    def getHost(self) -> IAddress:
        """Return our address, likewise."""
        address: IAddress = self.transport.getHost()
        return address

    def isSecure(self) -> bool:
        """Tell whether this is TLS, likewise."""
        return self.secure

    def respond(
        self, message: bytes, rest: bytes = b"", *, keep_alive: bool
    ) -> None:
        """
        Write the answer, then read on or close.

        :param message: head and body.
        :param rest: what is left of a large body; it is not copied.
        """
        head, self._head = self._head, None
        self._exchange = self._chunks = None
        self.transport.write(message)
        if rest:
            self.state = State.SENDING
            self._rest, self._last = memoryview(rest), not keep_alive
            self._send()
        elif keep_alive:
            self._read_on()
        elif self.state is not State.ANSWER and self._awaits(head):
            self._buffer = b""
            self._wait(State.LINGER, self._site.limits.linger_seconds)
        else:
            self._close()

    def _send(self) -> None:
        """Write what the transport takes of a large answer."""
        while self._rest and not self._stalled:
            piece, self._rest = self._rest[:_SLICE], self._rest[_SLICE:]
            self.transport.write(bytes(piece))
        if self._rest or self.state is not State.SENDING:
            return
        if self._last or self._site.draining:
            self._close()
        else:
            self._read_on()

    def _read_on(self) -> None:
        """Wait for the next request."""
        self._wait(State.IDLE, self._site.limits.idle_seconds)
        self._advance()

    def drain(self) -> None:
        """Close at once if nothing is under way; else after the answer."""
        if self.state in (State.HANDSHAKE, State.IDLE):
            self._close()

    # --- the transport's calls ----------------------------------------------

    def connectionMade(self) -> None:
        """Start the first deadline."""
        transport = self.transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        self.secure = ISSLTransport.providedBy(transport)
        transport.registerProducer(self, True)
        limits = self._site.limits
        if self.secure:
            self._wait(State.HANDSHAKE, limits.handshake_seconds)
        else:
            self._wait(State.IDLE, limits.header_seconds)

    def handshakeCompleted(self) -> None:
        """Go on from the TLS handshake to the first head."""
        if self.state is State.HANDSHAKE:
            self._wait(State.IDLE, self._site.limits.header_seconds)

    def dataReceived(self, data: bytes) -> None:
        """Take octets in the way that the state demands."""
        state = self.state
        if state in _READING:
            self._buffer = self._buffer + data if self._buffer else data
            self._advance()
        elif state is State.BODY:
            self._read_body(data)
        elif state in _ANSWERING:
            self._buffer += data
            if len(self._buffer) > self._site.limits.header:
                self._pause_reading()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Stop the timer, and tell the exchange under way."""
        self.state = State.CLOSED
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._buffer = b""
        self._rest = memoryview(b"")
        self._site.closed(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()

    def pauseProducing(self) -> None:
        """Read nothing more until the peer takes what it asked for."""
        self._stalled = True
        self._pause_reading()
        self._expect(self._site.limits.write_seconds)

    def resumeProducing(self) -> None:
        """Go on: the peer has taken enough."""
        self._stalled = False
        limits = self._site.limits
        if self.state in _ANSWERING:
            self._deadline = None
            self._send()
        elif self.state is State.LINGER:
            self._expect(limits.linger_seconds)
        elif self.state is State.HEAD:
            self._expect(limits.header_seconds)
        elif self.state is State.BODY:
            self._expect(limits.body_seconds)
        else:
            self._expect(limits.idle_seconds)
        self._advance()

    def stopProducing(self) -> None:
        """Nothing: the transport says next that the connection is lost."""

    # --- reading ------------------------------------------------------------

    def _advance(self) -> None:
        """Read heads while there are whole ones, then more octets."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while (
                self._buffer
                and self.state in _READING
                and not self._stalled
                and self._read_head()
            ):
                pass
        finally:
            self._advancing = False
        # An answer makes room for one request, not for another read: what a
        # peer sends ahead must not grow while it is answered.
        if self.state in _ANSWERING and (
            len(self._buffer) > self._site.limits.header
        ):
            self._pause_reading()
        elif not self._stalled and self.state not in _ENDING:
            self._resume_reading()

    def _read_head(self) -> bool:
        """Read one head and what follows it; tell whether to go on."""
        limits = self._site.limits
        try:
            if not self._skip_empty_lines():
                return False
            found = read_head(self._buffer, limits.target, limits.header)
        except Refused as refused:
            self._reject(refused)
            return False
        if found is None:
            if self.state is State.IDLE:
                self._wait(State.HEAD, limits.header_seconds)
            return False
        self._empty_lines = 0
        self._head, self._buffer = found
        self.state = State.HEAD
        exchange = self._exchange = self._site.exchange(self, self._head)
        exchange.begin()
        if self._exchange is exchange:
            self._begin_body(self._head, exchange)
        return True

    def _skip_empty_lines(self) -> bool:
        """Drop empty lines before a request; tell if anything is left."""
        while self._buffer[:2] == b"\r\n":
            self._empty_lines += 1
            if self._empty_lines > MAX_EMPTY_LINES:
                raise Refused(400, "the request line is malformed")
            self._buffer = self._buffer[2:]
        return self._buffer not in (b"", b"\r")

    def _begin_body(self, head: Head, exchange: Exchange) -> None:
        """Deliver a body that is here already, or start to collect it."""
        received = self._buffer
        if 0 <= head.length <= len(received):
            self._buffer = received[head.length :]
            self._deliver(exchange, received[: head.length])
            return
        self._wait(State.BODY, self._site.limits.body_seconds)
        # RFC 9110, section 10.1.1: not if the client did not wait for it.
        if head.expects and not received:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if head.length == CHUNKED:
            self._chunks = ChunkedBody(
                exchange.limit, self._site.limits.header
            )
            self._buffer = b""
            if received:
                self._read_body(received)

    def _read_body(self, data: bytes) -> None:
        """Collect more of a body."""
        head, exchange = self._head, self._exchange
        assert head is not None
        assert exchange is not None
        if self._chunks is None:
            self._buffer += data
            if len(self._buffer) >= head.length:
                body = self._buffer[: head.length]
                self._buffer = self._buffer[head.length :]
                self._deliver(exchange, body)
            return
        try:
            rest = self._chunks.feed(data)
        except (Malformed, TooLarge) as error:
            exchange.refuse(error)
            return
        if rest is not None:
            self._buffer = rest
            self._deliver(exchange, self._chunks.body())

    def _awaits(self, head: Head | None) -> bool:
        """Tell whether more of the body is on its way."""
        return head is not None and (
            head.length == CHUNKED or head.length > len(self._buffer)
        )

    def _deliver(self, exchange: Exchange, body: bytes) -> None:
        """Hand over a whole request; from here on, we are waited for."""
        self.state = State.ANSWER
        if not self._stalled:
            self._deadline = None
        self._chunks = None
        exchange.received(body)

    def _reject(self, refused: Refused) -> None:
        """Answer what is no request, and close."""
        self.transport.write(self._site.reject(self.peer, refused))
        self._buffer = b""
        self._close()

    # --- closing ------------------------------------------------------------

    def _close(self) -> None:
        """Close once the peer has our octets, by force if it takes long."""
        self._buffer = b""
        self._wait(State.CLOSING, self._site.limits.write_seconds)
        # TLS waits for the peer's own close.
        self._resume_reading()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _expired(self) -> None:
        """Act on a deadline that has passed."""
        if self._stalled or self.state in (State.HANDSHAKE, State.CLOSING):
            self.transport.abortConnection()
        elif self.state is State.HEAD:
            self._reject(Refused(408, "the request took too long"))
        elif self.state is State.BODY and self._exchange is not None:
            self._exchange.refuse(Refused(408, "the request took too long"))
        else:
            self._close()

    # --- the one timer ------------------------------------------------------

    def _wait(self, state: State, seconds: float) -> None:
        """
        Go to a state that ends in so many seconds.

        A peer that does not take its octets keeps the deadline for that.
        """
        self.state = state
        if not self._stalled:
            self._expect(seconds)

    def _expect(self, seconds: float) -> None:
        """Set the deadline; touch the timer only if it would come late."""
        clock = self._site.clock
        deadline = self._deadline = clock.seconds() + seconds
        if self._timer is None:
            self._fires_at = deadline
            self._timer = clock.callLater(seconds, self._look)
        elif deadline < self._fires_at:
            self._fires_at = deadline
            self._timer.reset(seconds)

    def _look(self) -> None:
        """Look whether the deadline has passed, or when it will."""
        self._timer = None
        if self._deadline is None:
            return
        left = self._deadline - self._site.clock.seconds()
        if left > 0:
            self._expect(left)
        else:
            self._deadline = None
            self._expired()

    # --- flow of octets -----------------------------------------------------

    def _pause_reading(self) -> None:
        """Let the kernel hold what the peer sends."""
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()

    def _resume_reading(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()
