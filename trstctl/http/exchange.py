# SPDX-License-Identifier: MIT
"""
One exchange, and the tree of resources that it finds its own in.

The tree is a dictionary of path prefixes made once from the configuration;
nothing a peer sends creates or looks up anything else.  A
:class:`BoundedResource` judges a request by its head, before a body is read;
:mod:`trstctl.http.adapter` makes one of any other resource of Twisted's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.resource import Resource

from trstctl.errors import (
    Internal,
    RequestError,
    TooLarge,
    TrstctlError,
    UnsupportedMediaType,
)
from trstctl.http.answer import HTTPResponse, refusal, write_message
from trstctl.http.channel import Channel
from trstctl.http.head import Head, Refused, split_path
from trstctl.http.proxy import ForwardedClient, TrustedProxy
from trstctl.model import Endpoint

if TYPE_CHECKING:
    from trstctl.http.site import Site

_NOTHING_HERE = "there is nothing here"

_log = Logger(namespace="trstctl.web")


@define(slots=False)
class Outcome:
    """
    What the log line of an exchange says beside the answer's own facts.

    :ivar decision: ``issued``, ``pending``, ``refused``, ``answered`` or
        ``failed``.
    :ivar facts: more flat facts, such as those of the error.
    """

    endpoint: Endpoint | None = None
    operation: str = ""
    decision: str = "answered"
    reason: str = ""
    facts: Mapping[str, str] = field(factory=dict)


class BoundedResource(Resource):
    """
    A leaf that judges a request by its head.

    :cvar max_body: octets; ``None`` for the site's limit.
    :cvar raw_after: how many segments below the mount are split and decoded
        if the rest of the path is to be left alone, as one segment: for what
        may hold any character.  ``None``: all of them.
    """

    isLeaf = True
    max_body: int | None = None
    raw_after: int | None = None

    def __init__(self) -> None:
        Resource.__init__(self)

    def at(self, prefix: str) -> BoundedResource:
        """Return what answers below a mount: itself, or one for each."""
        return self

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return the methods at a path below the mount; ``None``: 404."""
        raise NotImplementedError

    def refuse(
        self, exchange: HTTPExchange, error: Refused | TrstctlError
    ) -> None:
        """Answer a request that its head, or reading its body, ruled out."""
        exchange.answer(
            refusal(error, exchange.id),
            Outcome(decision="refused", reason=str(error)),
        )

    def render(self, request: HTTPExchange) -> int:
        """Take a whole request; answer it now or later."""
        raise NotImplementedError


#: Where an exchange is until its resource is found: it can only refuse.
_NOWHERE = BoundedResource()


class Root(Resource):
    """
    The tree of mounted resources.

    :param mounts: resources by path prefix, such as ``/.well-known/est``.
    :raises ValueError: two prefixes are equal or one contains another.
    """

    def __init__(self, mounts: Mapping[str, BoundedResource]) -> None:
        Resource.__init__(self)
        self._mounts: dict[tuple[str, ...], BoundedResource] = {}
        self._raw: list[tuple[bytes, int]] = []
        for prefix, mounted in mounts.items():
            self._mount(prefix, mounted.at(prefix))
        self._depths = sorted({len(path) for path in self._mounts})

    def _mount(self, prefix: str, mounted: BoundedResource) -> None:
        """Add one resource."""
        try:
            path = split_path(prefix.encode("ascii"))
        except (Refused, UnicodeEncodeError):
            raise ValueError(f"{prefix!r} is not a path") from None
        for other in self._mounts:
            depth = min(len(other), len(path))
            if other[:depth] == path[:depth]:
                raise ValueError(
                    f"the paths {prefix} and /{'/'.join(other)} overlap"
                )
        self._mounts[path] = mounted
        if mounted.raw_after is not None:
            start = "".join(f"/{segment}" for segment in path) + "/"
            self._raw.append((start.encode("ascii"), mounted.raw_after))

    def split(self, path: bytes) -> tuple[str, ...]:
        """
        Return the decoded segments of a path, but for a raw rest.

        :raises Refused: 404, as :func:`trstctl.http.head.split_path`.
        """
        for start, count in self._raw:
            if path.startswith(start):
                parts = path[len(start) :].split(b"/", count)
                if len(parts) > count and all(parts):
                    rest = parts.pop().decode("ascii")
                    return (*split_path(start + b"/".join(parts)), rest)
        return split_path(path)

    def find(
        self, path: tuple[str, ...]
    ) -> tuple[BoundedResource, tuple[str, ...]]:
        """
        Return the resource for a path, and the path below its mount.

        :raises Refused: 404.
        """
        for depth in self._depths:
            found = self._mounts.get(path[:depth])
            if found is not None:
                return found, path[depth:]
        raise Refused(404, _NOTHING_HERE)


class HTTPExchange:
    """
    One request and its one answer.

    :ivar id: identifies the exchange in answer, log and audit.
    :ivar path: the decoded segments below the mount.
    :ivar query: what follows the question mark, raw.
    :ivar limit: octets that the body may have.
    :ivar peer: text of the network address; of the client's, if a trusted
        proxy tells it.
    :ivar client: the proxy's client; ``None``: there is no proxy.
    :ivar channel: ``None`` once the peer has left or has its answer.
    """

    __slots__ = (
        "_closing",
        "_running",
        "_started",
        "answered",
        "body",
        "channel",
        "client",
        "head",
        "id",
        "limit",
        "path",
        "peer",
        "query",
        "resource",
        "site",
    )

    def __init__(self, site: Site, channel: Channel, head: Head) -> None:
        self.site = site
        self.channel: Channel | None = channel
        self.peer = channel.peer
        self.client: ForwardedClient | None = None
        self.head = head
        self.id = site.request_ids()
        self.path: tuple[str, ...] = ()
        self.query = b""
        self.body = b""
        self.limit = site.limits.body
        self.resource = _NOWHERE
        self.answered = False
        self._closing = False
        self._running: Deferred[None] | None = None
        self._started = site.clock.seconds()

    def begin(self) -> None:
        """Find the resource and judge the head, before any body is read."""
        try:
            self._judge()
        except (Refused, RequestError) as error:
            self.refuse(error)
        except Exception:  # noqa: BLE001 (a plugin's fault is not the peer's)
            _log.failure(
                "request failed", event="request.failed", request_id=self.id
            )
            self.refuse(Internal())

    def _judge(self) -> None:
        """Raise what the head alone rules out."""
        head = self.head
        if self.site.proxy is not None and self.channel is not None:
            self._meet(self.site.proxy, self.channel)
        path, _, self.query = head.target.partition(b"?")
        resource, self.path = self.site.find(path)
        self.resource = resource
        if resource.max_body is not None:
            self.limit = resource.max_body
        allowed = resource.allowed_methods(self.path)
        if allowed is None:
            raise Refused(404, _NOTHING_HERE)
        if head.method not in allowed:
            if "GET" in allowed and "HEAD" not in allowed:
                allowed = (*allowed, "HEAD")
            if head.method not in allowed:
                raise Refused(
                    405,
                    "the method is not allowed here",
                    {"Allow": ", ".join(allowed)},
                )
        # A compressed body is a way past every limit on its size.
        if b"content-encoding" in head.headers.raw:
            raise UnsupportedMediaType("content codings are not supported")
        if head.length > self.limit:
            raise TooLarge

    def _meet(self, proxy: TrustedProxy, channel: Channel) -> None:
        """Find out whose request it is, if it may be a proxy's."""
        if proxy.speaks(channel):
            self.client = proxy.client(self.head.headers, channel.peer)
            self.peer = self.client.peer
            return
        if proxy.is_unproven(self.head.headers, channel.peer):
            self.client = ForwardedClient(channel.peer)
        elif not proxy.is_imitated(self.head.headers):
            return
        self.site.report_imitation(channel.peer)

    def received(self, body: bytes) -> None:
        """Hand the whole request to the resource."""
        self.body = body
        try:
            self.resource.render(self)
        except Exception:  # noqa: BLE001 (an answer is owed)
            self._fail()

    def refuse(self, error: Refused | TrstctlError) -> None:
        """Answer that the request is ruled out, and close."""
        self._closing = True
        try:
            self.resource.refuse(self, error)
        except Exception:  # noqa: BLE001 (an answer is owed)
            self._fail()

    def _fail(self) -> None:
        """Log the exception at hand, and answer if nobody has yet."""
        _log.failure(
            "request failed", event="request.failed", request_id=self.id
        )
        self.answer(
            refusal(Internal(), self.id),
            Outcome(decision="failed", reason=Internal.detail),
        )

    def running(self, work: Deferred[None]) -> None:
        """Remember what to cancel if the peer leaves."""
        self._running = work

    def abandon(self) -> None:
        """The peer has left: stop what works for it."""
        self.channel = None
        work, self._running = self._running, None
        if work is not None:
            work.cancel()

    def answer(self, response: HTTPResponse, outcome: Outcome) -> None:
        """Log the exchange, and answer if the peer is still there."""
        if self.answered:
            return
        self.answered = True
        self._running = None
        channel, self.channel = self.channel, None
        if channel is None:
            self._report(response, outcome)
            return
        keep_alive = (
            self.head.keep_alive
            and not self._closing
            and not self.site.draining
        )
        try:
            message = self._message(response, keep_alive)
        except (ValueError, KeyError):
            _log.failure(
                "request failed", event="request.failed", request_id=self.id
            )
            response = refusal(Internal(), self.id)
            message = self._message(response, keep_alive)
            outcome = Outcome(
                outcome.endpoint, outcome.operation, "failed", Internal.detail
            )
        self._report(response, outcome)
        channel.respond(*message, keep_alive=keep_alive)

    def _message(
        self, response: HTTPResponse, keep_alive: bool
    ) -> tuple[bytes, bytes]:
        """Return the octets of an answer, and what is left of them."""
        return write_message(
            response,
            self.head,
            self.head.version,
            self.id,
            self.site.date(),
            keep_alive,
        )

    def _report(self, response: HTTPResponse, outcome: Outcome) -> None:
        """Write the one log line of the exchange."""
        endpoint = outcome.endpoint
        elapsed = self.site.clock.seconds() - self._started
        fields: dict[str, object] = {
            "event": "request",
            "request_id": self.id,
            "tenant": endpoint.tenant_id if endpoint else "",
            "protocol": endpoint.protocol if endpoint else "",
            "operation": outcome.operation,
            "status": response.status,
            "decision": outcome.decision,
            "reason": outcome.reason,
            "duration_ms": round(elapsed * 1000, 3),
            "peer": self.peer,
        }
        fields.update(outcome.facts)
        fields.update(response.facts)
        self.site.report(fields)
