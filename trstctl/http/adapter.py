# SPDX-License-Identifier: MIT
"""
Any resource of Twisted's, served within the site's limits.

For resources that know nothing of this package, such as a metrics page.  The
request they see is Twisted's own; what they write is kept and sent in one
piece when they finish, with a length and without a banner.  Streaming
producers are not supported.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import parse_qs
from twisted.web.resource import IResource, getChildForRequest
from twisted.web.server import NOT_DONE_YET, Request

from trstctl.errors import Internal
from trstctl.http.answer import HTTPResponse, refusal
from trstctl.http.exchange import (
    BoundedResource,
    HTTPExchange,
    Outcome,
)
from trstctl.http.head import METHODS

#: Headers that the site writes itself, or never writes.
_OWN_HEADERS = frozenset(
    (
        b"Connection",
        b"Content-Length",
        b"Content-Type",
        b"Date",
        b"Server",
        b"Transfer-Encoding",
    )
)

_log = Logger(namespace="trstctl.web")


class TwistedResource(BoundedResource):
    """
    Serves another resource, and what it has below it.

    :param resource: any resource of Twisted's.
    """

    def __init__(self, resource: IResource) -> None:
        super().__init__()
        self._resource = resource

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """Return all: the resource itself judges."""
        return tuple(sorted(METHODS))

    def render(self, request: HTTPExchange) -> int:
        """Let Twisted's own machinery render."""
        return BufferedRequest(request).serve(self._resource)


class BufferedRequest(Request):
    """
    A request of Twisted's that answers through an exchange.

    :param exchange: a whole request.
    """

    defaultContentType = None

    def __init__(self, exchange: HTTPExchange) -> None:
        Request.__init__(
            self, exchange.channel, False, parsePOSTFormSubmission=False
        )
        if exchange.client is not None:  # a proxy's
            kind = IPv6Address if ":" in exchange.peer else IPv4Address
            self.client = kind("TCP", exchange.peer, 0)
        self._exchange = exchange
        self._pieces: list[bytes] = []
        head = exchange.head
        for name, values in head.headers.raw.items():
            self.requestHeaders.setRawHeaders(name, values)
        # The body of an answer to HEAD is cut off at the end.
        method = "GET" if head.method == "HEAD" else head.method
        self.method = method.encode("ascii")
        self.uri = head.target
        self.clientproto = head.version.encode("ascii")
        self.path = head.target.partition(b"?")[0]
        self.args = parse_qs(exchange.query, 1)
        self.content = BytesIO(exchange.body)
        self.prepath = []
        self.postpath = [part.encode("ascii") for part in exchange.path]
        self.site = cast(Any, exchange.site)

    def serve(self, resource: IResource) -> int:
        """Render the resource for the path that is left."""
        left: Deferred[None] = Deferred(lambda _: self._left())
        left.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._exchange.running(left)
        try:
            Request.render(self, getChildForRequest(resource, self))
        except Exception:  # noqa: BLE001 (a resource's fault is not the peer's)
            self.processingFailed(Failure())
        return NOT_DONE_YET

    def _left(self) -> None:
        """Tell who asked to be told that the peer has left."""
        waiting, self.notifications = self.notifications, []
        self._disconnected = True
        for notification in waiting:
            notification.errback(connectionDone)

    def write(self, data: bytes) -> None:
        """Keep some of the body."""
        if not self.finished:
            self._pieces.append(data)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Refuse: the answer is sent in one piece."""
        raise NotImplementedError("streaming is not supported")

    def finish(self) -> None:
        """Answer with everything that was written."""
        if self.finished:
            return
        self.finished = 1
        types = self.responseHeaders.getRawHeaders(b"Content-Type") or [b""]
        headers = {
            name.decode("ascii"): tuple(v.decode("latin-1") for v in values)
            for name, values in self.responseHeaders.getAllRawHeaders()
            if name not in _OWN_HEADERS
        }
        self._exchange.answer(
            HTTPResponse(
                int(self.code),
                types[0].decode("latin-1"),
                b"".join(self._pieces),
                headers,
            ),
            Outcome(operation="/".join(self._exchange.path)),
        )
        waiting, self.notifications = self.notifications, []
        for notification in waiting:
            notification.callback(None)

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer 500, and keep the traceback for the log."""
        exchange = self._exchange
        _log.failure(
            "request failed",
            failure=reason,
            event="request.failed",
            request_id=exchange.id,
        )
        self.finished = 1
        exchange.answer(
            refusal(Internal(), exchange.id),
            Outcome(decision="failed", reason=Internal.detail),
        )
        return reason
