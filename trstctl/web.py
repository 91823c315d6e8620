# SPDX-License-Identifier: MIT
"""
The face of HTTP that a protocol sees: a plain request, a plain response.

A protocol subclasses :class:`ProtocolResource` and writes ``answer``.  All
else is done here and below: bounds and deadlines, admission, one log line
per exchange, an audit record per refusal, and errors told as HTTP tells
them.  A protocol with another way to tell errors overrides ``explain``.

Secrets never reach the log: neither a request nor a credential shows them
in its ``repr``, and no field of a request but its path is logged.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET

from trstctl import errors
from trstctl.admission import Admission
from trstctl.errors import (
    Internal,
    PolicyViolation,
    RequestError,
    Throttled,
    TrstctlError,
    Unavailable,
)
from trstctl.http.adapter import TwistedResource
from trstctl.http.answer import HTTPResponse, plain, refusal
from trstctl.http.exchange import (
    BoundedResource,
    HTTPExchange,
    Outcome,
    Root,
)
from trstctl.http.head import Headers, Refused
from trstctl.http.limits import Limits
from trstctl.http.request import HTTPRequest
from trstctl.http.site import Site
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import SYSTEM_TENANT, Endpoint
from trstctl.settings import ProtocolSettings

__all__ = [
    "STATUS",
    "Answered",
    "HTTPRequest",
    "HTTPResponse",
    "Headers",
    "Limits",
    "ProtocolResource",
    "Refused",
    "make_root",
    "make_site",
]

#: How HTTP tells each error: a row for every leaf of the tree.
STATUS: Mapping[type[TrstctlError], int] = {
    errors.Malformed: 400,
    errors.MessageCheckFailed: 400,
    errors.ProofOfPossessionFailed: 400,
    errors.UnsupportedAlgorithm: 400,
    errors.NotAuthenticated: 401,
    errors.ChallengeRejected: 401,
    errors.NotAuthorized: 403,
    errors.PolicyViolation: 403,
    errors.UnknownCertificate: 404,
    errors.Replayed: 409,
    errors.Stale: 409,
    errors.TooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.Conflict: 422,
    errors.Throttled: 429,
    errors.Internal: 500,
    errors.Unavailable: 503,
}

_log = Logger(namespace="trstctl.web")


class Answered(Exception):
    """
    A refusal that the protocol has put into its own words already.

    Raised by ``answer`` where the answer is more than :meth:`explain` can
    make: a message that has to be signed, say.
    """

    def __init__(self, error: TrstctlError, response: HTTPResponse) -> None:
        super().__init__()
        self.error = error
        self.response = response


class ProtocolResource(BoundedResource):
    """
    Connects one protocol to the registration authority.

    :cvar Settings: the pydantic model of the protocol's section.
    :cvar plain_http: whether it is served without TLS, too: its messages
        protect themselves.
    :cvar max_body: octets that a body may have; ``None`` for the
        configured limit.
    :cvar methods: what :meth:`allowed_methods` returns for every path.
    :cvar audits_refusals: whether the audit log keeps what was refused.  Not
        where nobody asks for anything that could be granted: strangers would
        fill it.
    :ivar endpoint: the default endpoint; of a protocol without endpoints,
        one of the gateway's own tenant, for log and admission.
    """

    Settings: type[ProtocolSettings] = ProtocolSettings
    plain_http = False
    max_body: int | None = None
    methods: tuple[str, ...] = ("POST",)
    audits_refusals = True

    def __init__(
        self,
        name: str,
        ra: IRegistrationAuthority,
        settings: ProtocolSettings,
    ) -> None:
        super().__init__()
        self.name = name
        self.ra = ra
        self.settings = settings
        self.endpoint = next(
            iter(self.endpoints_for(name, settings)),
            Endpoint(name, "", SYSTEM_TENANT, "", ""),
        )

    # --- what a protocol may say about itself -------------------------------

    @classmethod
    def paths_for(cls, name: str, settings: ProtocolSettings) -> Sequence[str]:
        """Return the path prefixes that the protocol answers at."""
        return ("/" + name,)

    @classmethod
    def endpoints_for(
        cls, name: str, settings: ProtocolSettings
    ) -> Sequence[Endpoint]:
        """
        Return the endpoints of the settings, the default first.

        None if nobody enrolls by the protocol.
        """
        return settings.endpoints(name)

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...] | None:
        """
        Return the methods at a path below the mount; ``None``: 404.

        Asked before the body is read.  ``GET`` brings ``HEAD`` with it.
        """
        return self.methods

    def admission_key(self, request: HTTPRequest) -> Endpoint:
        """Return the endpoint whose places and tenant the request uses."""
        return self.endpoint

    def operation(self, request: HTTPRequest) -> str:
        """Return the operation's name for log and audit."""
        return request.path[-1] if request.path else self.name

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """
        Answer a request.

        Cancelled if the peer leaves.  Errors of :mod:`trstctl.errors` go
        through :meth:`explain`; any other is a fault of this program.
        """
        raise NotImplementedError

    async def tend(self) -> None:
        """
        Do what has to be done every few minutes; by default, nothing.

        Every process does it, at about the same time.  What it raises is
        logged, and nothing else.
        """

    def explain(
        self, error: TrstctlError, request: HTTPRequest
    ) -> HTTPResponse:
        """Return the answer that tells the error."""
        status = next(
            (STATUS[kind] for kind in type(error).__mro__ if kind in STATUS),
            500,
        )
        if status == 401:
            # Empty, and Basic first, each on a line of its own: some
            # clients cannot read a body here, and libest and BouncyCastle
            # look at the first challenge only.
            return HTTPResponse(
                401,
                headers={
                    "WWW-Authenticate": (
                        f'Basic realm="{self.name}"',
                        f'Bearer realm="{self.name}"',
                    )
                },
            )
        headers = {}
        if isinstance(error, Throttled) or (
            isinstance(error, PolicyViolation) and error.retry_after
        ):
            headers["Retry-After"] = str(error.retry_after)
        elif isinstance(error, Unavailable):
            headers["Retry-After"] = str(
                jittered(error.retry_after, request.request_id)
            )
        return plain(status, error.detail, request.request_id, headers)

    def explain_refused(
        self, error: Refused, request: HTTPRequest
    ) -> HTTPResponse:
        """Return the answer to what the rules of HTTP refuse."""
        return refusal(error, request.request_id)

    # --- the bridge ---------------------------------------------------------

    def render(self, request: HTTPExchange) -> int:
        """Answer an exchange, now or later."""
        # What fails here is answered by the exchange; in the coroutine it
        # would leave the peer waiting.
        plain_request = self._request(request)
        work = Deferred.fromCoroutine(self._serve(request, plain_request))
        if not request.answered:
            request.running(work)
        return NOT_DONE_YET

    def refuse(
        self, exchange: HTTPExchange, error: Refused | TrstctlError
    ) -> None:
        """Answer what head or framing ruled out; audit it."""
        request = self._request(exchange)
        try:
            endpoint = self.admission_key(request)
            operation = self.operation(request)
        except Exception:  # noqa: BLE001 (the path may be one that is unknown)
            endpoint, operation = self.endpoint, ""
        if isinstance(error, TrstctlError):
            response = self._explain(error, request)
        else:
            response = self.explain_refused(error, request)
        decision = "failed" if isinstance(error, Internal) else "refused"
        kind = {"error": type(error).__name__}
        exchange.answer(
            response, Outcome(endpoint, operation, decision, str(error), kind)
        )
        self._record(endpoint, operation, error, request)

    async def _serve(
        self, exchange: HTTPExchange, request: HTTPRequest
    ) -> None:
        """Run ``answer`` and tell its result, whatever it is."""
        outcome = Outcome(self.endpoint)
        try:
            outcome.operation = self.operation(request)
            outcome.endpoint = self.admission_key(request)
            response = _checked(
                await self._admitted(
                    exchange.site.admission, outcome.endpoint, request
                )
            )
        except Exception as error:  # noqa: BLE001 (the boundary: RecursionError, MemoryError)
            if exchange.channel is None and isinstance(error, CancelledError):
                outcome.decision, outcome.reason = "failed", "the peer left"
                exchange.answer(HTTPResponse(499), outcome)
                return
            response = await self._refused(error, request, outcome)
        exchange.answer(response, outcome)

    async def _refused(
        self, error: Exception, request: HTTPRequest, outcome: Outcome
    ) -> HTTPResponse:
        """Record an error, and return the answer that tells it."""
        answered = error if isinstance(error, Answered) else None
        if answered is not None:
            told = answered.error
        elif isinstance(error, TrstctlError):
            told = error
        else:
            told = Internal()
            self._log_failure(request)
        refused = isinstance(told, RequestError)
        outcome.decision = "refused" if refused else "failed"
        outcome.reason = told.detail
        outcome.facts = {"error": type(told).__name__, **told.facts}
        response = (
            answered.response if answered else self._explain(told, request)
        )
        if not told.recorded and outcome.endpoint is not None:
            try:
                await self._record(
                    outcome.endpoint, outcome.operation, told, request
                )
            except CancelledError:
                pass  # the peer has left; the record is made all the same
            except Exception:  # noqa: BLE001 (an answer is owed)
                self._log_failure(request)
        return response

    async def _admitted(
        self,
        admission: Admission | None,
        endpoint: Endpoint,
        request: HTTPRequest,
    ) -> HTTPResponse:
        """Answer in a place of the endpoint's protocol and tenant."""
        if admission is None:
            return await self.answer(request)
        key = (endpoint.protocol, endpoint.tenant_id)
        turn = admission.acquire(key)
        if turn is not None:
            await turn
        try:
            return await self.answer(request)
        finally:
            admission.release(key)

    def _request(self, exchange: HTTPExchange) -> HTTPRequest:
        """Return the plain request of an exchange."""
        head = exchange.head
        channel = exchange.channel
        secure = channel is not None and channel.secure
        # The proxy's client, and never the proxy itself.
        client = exchange.client or channel
        return HTTPRequest(
            "GET" if head.method == "HEAD" else head.method,
            exchange.path,
            exchange.query,
            head.headers,
            exchange.body,
            head.version,
            exchange.peer,
            exchange.id,
            secure,
            client.client_certificate() if client and secure else None,
            client if secure else None,
        )

    def _explain(
        self, error: TrstctlError, request: HTTPRequest
    ) -> HTTPResponse:
        """Let the protocol explain, and stand in for it if it cannot."""
        try:
            return self.explain(error, request)
        except Exception:  # noqa: BLE001 (the boundary)
            self._log_failure(request)
            return refusal(Internal(), request.request_id)

    def _log_failure(self, request: HTTPRequest) -> None:
        """Log the exception at hand; its text is not for the peer."""
        _log.failure(
            "request failed",
            event="request.failed",
            request_id=request.request_id,
            protocol=self.name,
        )

    def _record(
        self,
        endpoint: Endpoint,
        operation: str,
        error: Exception,
        request: HTTPRequest,
    ) -> Deferred[None]:
        """
        Audit a refusal.

        :returns: fires when it is recorded; a peer that leaves meanwhile
            cancels the waiting only.
        """
        done: Deferred[None] = Deferred(lambda _: None)
        if not self.audits_refusals:
            done.callback(None)
            return done
        self.ra.record_refusal(
            endpoint, operation, error, request.request_id, request.peer
        ).addBoth(lambda _: None if done.called else done.callback(None))
        return done


def _checked(response: object) -> HTTPResponse:
    """Return what ``answer`` returned, or raise if it forgot to."""
    if not isinstance(response, HTTPResponse):
        raise TypeError("answer() must return an HTTPResponse")
    return response


def jittered(seconds: int, request_id: str) -> int:
    """
    Return one to two times as many seconds.

    The chance is in the request's id, which is random already.
    """
    return seconds + zlib.crc32(request_id.encode("ascii")) % (seconds + 1)


def _bounded(resource: IResource) -> BoundedResource:
    """Return the resource as one that a site can serve."""
    if isinstance(resource, BoundedResource):
        return resource
    return TwistedResource(resource)


def make_root(mounts: Mapping[str, IResource]) -> Root:
    """
    Return the tree of resources by path prefix; all else in it is 404.

    :raises ValueError: two prefixes are equal or one contains another.
    """
    return Root({path: _bounded(found) for path, found in mounts.items()})


def make_site(
    root: IResource,
    limits: Limits,
    clock: IReactorTime,
    request_ids: Callable[[], str],
    admission: Admission | None = None,
) -> Site:
    """
    Return the factory of plain HTTP connections.

    For TLS, wrap it with :func:`trstctl.tls.wrap_site`.  To reload, assign
    another tree to its ``resource``.

    :param request_ids: returns 16 random characters, URL-safe.
    """
    tree = root if isinstance(root, Root) else _bounded(root)
    return Site(tree, limits, clock, request_ids, admission)
