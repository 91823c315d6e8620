# SPDX-License-Identifier: MIT
"""
HTTPS to others: what an MDM platform or a webhook is asked.

Theory of operation
===================

O-1  *Bounded.*  A call has one deadline for all of it, tries and body
     included; an answer has at most :data:`MAX_ANSWER` octets, as they came
     over the wire: nothing is decompressed.
O-2  *Verified.*  There is no way to a peer whose certificate does not stand.
O-3  *Where it was sent.*  Redirects are not followed, cookies not kept.
O-4  *Left alone.*  A host that fails several times in a row is not asked for
     a while; then one call tries it, while the others still fail at once.
     Who waits for a host that is down would keep everybody else waiting.
O-5  *Discreet.*  The log names service and host: paths and headers may hold
     secrets.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from attrs import define
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL.crypto import FILETYPE_ASN1
from treq.client import HTTPClient
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    gatherResults,
    maybeDeferred,
    succeed,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import (
    Certificate,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ResponseDone,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from trstctl.errors import Unavailable
from trstctl.interfaces import IOutbound
from trstctl.model import OutboundCall, OutboundReply

#: Octets of an answer.
MAX_ANSWER = 1024 * 1024

#: How many failures in a row a host is forgiven, and for how many seconds it
#: is left alone then.
FAILURES = 5
PAUSE = 30.0

#: Hosts whose failures are remembered.
_HOSTS = 256

#: Seconds before a second try, which double at each further one.
_FIRST_PAUSE = 0.2

#: Seconds until a connection stands.
_CONNECT = 5.0

#: What says that the host is in trouble, and not the request.
_TROUBLE = frozenset({429, 500, 502, 503, 504})

#: Returns the agent that trusts the CAs of a file, or the system's.
Agents = Callable[[str | None], Any]


class _Failed(Exception):
    """A try came to nothing.  The text is for the log."""


@define
class _Circuit:
    """
    What is known of a host.

    :ivar failures: in a row.
    :ivar opened: when the last of too many was, on the monotonic clock.
    :ivar trying: whether the one call that may try it is under way.
    """

    failures: int = 0
    opened: float | None = None
    trying: bool = False


@implementer(IOutbound)
class Outbound:
    """
    Makes calls through treq.

    :param agents: what makes connections; see :class:`Connections`.
    :param clock: the monotonic clock; schedules.
    :param fraction: returns a random number in [0, 1).
    :param report: told of each call: its service, and ``answered``,
        ``failed`` or ``skipped`` (O-4).
    """

    _log = Logger()

    def __init__(
        self,
        agents: Agents,
        clock: Any,
        fraction: Callable[[], float],
        report: Callable[[str, str], None],
    ) -> None:
        self._agents = agents
        self._clock = clock
        self._fraction = fraction
        self._report = report
        self._circuits: OrderedDict[str, _Circuit] = OrderedDict()

    def open_circuits(self) -> int:
        """Return how many hosts are left alone now."""
        return sum(one.opened is not None for one in self._circuits.values())

    def call(self, call: OutboundCall) -> Deferred[OutboundReply]:
        """Make a call; see the interface."""
        return Deferred.fromCoroutine(self._call(call))

    async def _call(self, call: OutboundCall) -> OutboundReply:
        """Make a call, unless its host is left alone."""
        host = _host_of(call.url)
        circuit = self._circuit(host)
        if not self._may_try(circuit):
            self._report(call.service, "skipped")
            raise Unavailable
        circuit.trying = circuit.opened is not None
        try:
            trying = Deferred.fromCoroutine(self._try(call))
            reply = await trying.addTimeout(
                call.timeout, self._clock, _out_of_time
            )
        except _Failed as error:
            self._failed(call, host, circuit, str(error))
            raise Unavailable from error
        finally:
            circuit.trying = False
        if reply.status in _TROUBLE:
            self._failed(call, host, circuit, f"HTTP {reply.status}")
        else:
            self._answered(call, host, circuit)
        return reply

    # --- tries --------------------------------------------------------------

    async def _try(self, call: OutboundCall) -> OutboundReply:
        """Try as often as the call allows."""
        pause = _FIRST_PAUSE
        for left in range(call.tries - 1, -1, -1):
            try:
                reply = await self._send(call)
                if reply.status not in _TROUBLE or not left:
                    return reply
            except _Failed:
                if not left:
                    raise
            await deferLater(self._clock, pause * (0.5 + self._fraction()))
            pause *= 2
        raise _Failed("it may not even be tried once")

    async def _send(self, call: OutboundCall) -> OutboundReply:
        """Send the request once, and read the answer."""
        try:
            # A client of its own, which keeps no cookies for others (O-3).
            client = HTTPClient(
                _Plain(self._agents(call.trust)),
                data_to_body_producer=_Octets,
            )
            response = await client.request(
                "GET" if call.body is None else "POST",
                call.url,
                data=call.body,
                headers=Headers(
                    {name: [text] for name, text in call.headers.items()}
                ),
                allow_redirects=False,
                unbuffered=True,
                reactor=self._clock,
            )
            return OutboundReply(response.code, await _read(response))
        except (_Failed, CancelledError):
            raise
        except Exception as error:
            raise _Failed(_reason(error)) from error

    # --- circuits -----------------------------------------------------------

    def _circuit(self, host: str) -> _Circuit:
        """Return what is known of a host, and forget the longest unasked."""
        circuit = self._circuits.setdefault(host, _Circuit())
        self._circuits.move_to_end(host)
        if len(self._circuits) > _HOSTS:
            self._circuits.popitem(last=False)
        return circuit

    def _may_try(self, circuit: _Circuit) -> bool:
        """Tell whether a host may be asked now (O-4)."""
        return circuit.opened is None or (
            not circuit.trying
            and self._clock.seconds() - circuit.opened >= PAUSE
        )

    def _failed(
        self, call: OutboundCall, host: str, circuit: _Circuit, reason: str
    ) -> None:
        """Count a failure."""
        self._report(call.service, "failed")
        self._log.warn(
            "a call of {service} to {host} failed: {reason}",
            event="outbound.failed",
            service=call.service,
            host=host,
            reason=reason,
        )
        circuit.failures += 1
        if circuit.failures >= FAILURES:
            if circuit.opened is None:
                self._log.error(
                    "{host} is left alone for a while",
                    event="outbound.opened",
                    host=host,
                )
            circuit.opened = self._clock.seconds()

    def _answered(
        self, call: OutboundCall, host: str, circuit: _Circuit
    ) -> None:
        """Forget the failures."""
        self._report(call.service, "answered")
        if circuit.opened is not None:
            self._log.info(
                "{host} answers again", event="outbound.closed", host=host
            )
        circuit.failures, circuit.opened = 0, None


def _host_of(url: str) -> str:
    """Return host and port; only HTTPS has one here (O-2)."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise Unavailable from error
    if parts.scheme != "https":
        raise Unavailable
    return parts.netloc.rpartition("@")[2].lower()


def _out_of_time(_result: object, timeout: float) -> NoReturn:
    """Say that it took too long."""
    raise _Failed(f"no answer within {timeout:g} s")


def _reason(error: BaseException | None) -> str:
    """Return what went wrong, in short."""
    # What the agent raises often has its cause in a list.
    inner = getattr(error, "reasons", None)
    if inner and isinstance(inner[0], Failure):
        return _reason(inner[0].value)
    return f"{type(error).__name__}: {error}"[:200]


# --- the wire ---------------------------------------------------------------


class _Body(Protocol):
    """Takes an answer's body, up to the limit (O-1)."""

    def __init__(self, done: Deferred[bytes]) -> None:
        self._done = done
        self._parts: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        """Keep a part, or hang up."""
        self._size += len(data)
        if self._size > MAX_ANSWER:
            self.abort()
            if not self._done.called:
                self._done.errback(_Failed("the answer is too large"))
            return
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Hand over what there is, if it is all."""
        if self._done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self._done.callback(b"".join(self._parts))
        else:
            self._done.errback(_Failed("the answer was cut short"))

    def abort(self) -> None:
        """Hang up."""
        self._parts.clear()
        transport: Any = self.transport
        transport.loseConnection()


def _read(response: Any) -> Deferred[bytes]:
    """Return the body; cancelled, it hangs up."""
    done: Deferred[bytes] = Deferred(lambda _: body.abort())
    body = _Body(done)
    response.deliverBody(body)
    return done


@implementer(IAgent)
class _Plain:
    """Asks for answers as they are, and takes no others (O-1)."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: Any = None,
    ) -> Deferred[IResponse]:
        """Pass a request on, without what treq would like to decode."""
        plain = (headers or Headers()).copy()
        plain.removeHeader(b"accept-encoding")
        asked = maybeDeferred(
            self._agent.request, method, uri, plain, bodyProducer
        )

        def undecoded(response: Any) -> Any:
            response.headers.removeHeader(b"content-encoding")
            return response

        return asked.addCallback(undecoded)


@implementer(IBodyProducer)
class _Octets:
    """A request's body, written at once: it is small."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.length = len(octets)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Write it."""
        consumer.write(self._octets)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: it is written."""

    def resumeProducing(self) -> None:
        """Do nothing: it is written."""

    def stopProducing(self) -> None:
        """Do nothing: it is written."""


class Connections:
    """
    Makes connections, and keeps them open for further calls.

    Call it with the PEM file of the CAs to trust, or with ``None`` for the
    system's, to get the agent that trusts them.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._made: dict[str | None, Agent] = {}
        self._pools: list[HTTPConnectionPool] = []

    def __call__(self, trust: str | None) -> Agent:
        """Return the agent that trusts these CAs."""
        agent = self._made.get(trust)
        if agent is None:
            pool = HTTPConnectionPool(self._reactor, persistent=True)
            # A request is sent again by us, or not at all.
            pool.retryAutomatically = False
            self._pools.append(pool)
            agent = self._made[trust] = Agent(
                self._reactor,
                BrowserLikePolicyForHTTPS(_trust_root(trust)),
                connectTimeout=_CONNECT,
                pool=pool,
            )
        return agent

    def close(self) -> Deferred[Any]:
        """Close what is open and idle."""
        return gatherResults(
            [pool.closeCachedConnections() for pool in self._pools]
        )


def _trust_root(trust: str | None) -> Any:
    """Return what decides which CAs are trusted (O-2)."""
    if trust is None:
        return platformTrust()
    certificates = x509.load_pem_x509_certificates(Path(trust).read_bytes())
    return trustRootFromCertificates(
        [
            Certificate.load(each.public_bytes(Encoding.DER), FILETYPE_ASN1)
            for each in certificates
        ]
    )
