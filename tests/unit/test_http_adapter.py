# SPDX-License-Identifier: MIT
"""Tests of serving resources that know nothing of this package."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from conftest import LoggedFailures
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from web_samples import Bench, get, observed, parse, post

from trstctl.http.proxy import TrustedProxy
from trstctl.web import Limits, make_site


class Page(Resource):
    """A resource of Twisted's."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []
        self.events: list[object] = []

    def render_GET(self, request: Any) -> bytes:
        """Answer at once."""
        self.requests.append(request)
        request.setHeader(b"content-type", b"text/plain")
        request.setHeader(b"x-page", b"yes")
        request.setHeader(b"server", b"banner")
        return b"page"

    def render_POST(self, request: Any) -> int:
        """Answer later."""
        self.requests.append(request)
        request.notifyFinish().addCallbacks(
            self.events.append, lambda _: self.events.append("left")
        )
        return NOT_DONE_YET

    def render_PUT(self, request: Any) -> int:
        """Stream."""
        request.registerProducer(self, True)
        return NOT_DONE_YET

    def render_DELETE(self, request: Any) -> bytes:
        """Fail."""
        raise KeyError("s3cret")


class Tree(Resource):
    """A resource with a child."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.putChild(b"page", page)


def bench() -> tuple[Bench, Page]:
    """Return a site with a page below ``/ops``."""
    page = Page()
    return Bench(mounts={"/ops": Tree(page)}), page


class TwistedResourceTests:
    """Any resource of Twisted's is served within the same limits."""

    def test_answer_at_once(self) -> None:
        """Its headers are sent, but for those that are the site's."""
        site, _ = bench()
        client = site.client()
        with observed() as events:
            answer = client.send(get(b"/ops/page"))
        status, headers, body = parse(answer)
        assert (200, b"page") == (status, body)
        assert "yes" == headers["X-Page"]
        assert "text/plain" == headers["Content-Type"]
        assert "Server" not in headers
        assert 200 == parse(client.send(get(b"/ops/page")))[0]
        (line,) = [e for e in events if e.get("event") == "request"]
        assert ("page", "answered") == (line["operation"], line["decision"])

    def test_request(self) -> None:
        """It sees a request of Twisted's."""
        site, page = bench()
        client = site.client()
        client.send(post(b"x=1", b"/ops/page?a=b+c&a=d", b"X-Y: z\r\n"))
        (request,) = page.requests
        assert b"POST" == request.method
        assert {b"a": [b"b c", b"d"]} == request.args
        assert b"z" == request.getHeader(b"x-y")
        assert b"x=1" == request.content.read()
        assert b"HTTP/1.1" == request.clientproto
        assert b"/ops/page" == request.path
        assert "192.0.2.1" == request.getClientAddress().host
        assert request.getHost() is not None
        assert not request.isSecure()

    @pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8::7"])
    def test_behind_a_proxy(self, address: str) -> None:
        """The address is that of the proxy's client, as in the log."""
        site, page = bench()
        site.site.proxy = TrustedProxy(
            (ip_network("10.0.0.5"),),
            frozenset(),
            "rfc9440",
            "client-cert",
            "x-forwarded-for",
        )
        told = f"X-Forwarded-For: {address}\r\n".encode()
        site.client("10.0.0.5").send(get(b"/ops/page", told))
        (request,) = page.requests
        assert address == request.getClientAddress().host

    def test_answer_later(self) -> None:
        """What is written is sent in one piece, when it is finished."""
        site, page = bench()
        client = site.client()
        client.send(post(path=b"/ops/page"))
        (request,) = page.requests
        request.setResponseCode(202)
        request.write(b"one,")
        request.write(b"two")
        assert b"" == client.read()
        request.finish()
        request.finish()
        request.write(b"three")
        status, headers, body = parse(client.read())
        assert (202, b"one,two") == (status, body)
        assert "Content-Type" not in headers
        assert "Transfer-Encoding" not in headers
        assert [None] == page.events

    def test_peer_leaves(self) -> None:
        """It is told, and may finish all the same."""
        site, page = bench()
        client = site.client()
        client.send(post(path=b"/ops/page"))
        client.protocol.connectionLost(Failure(ConnectionDone()))
        assert ["left"] == page.events
        (request,) = page.requests
        request.write(b"x")
        request.finish()
        assert b"" == client.read()

    def test_faults(self, logged: LoggedFailures) -> None:
        """A fault is answered in plain text, without its reason."""
        site, _ = bench()
        client = site.client()
        request = get(b"/ops/page").replace(b"GET", b"DELETE", 1)
        status, _, body = parse(client.send(request))
        assert 500 == status
        assert b"s3cret" not in body
        assert 1 == len(logged.flush(KeyError))

    def test_no_streaming(self, logged: LoggedFailures) -> None:
        """A producer is refused, rather than kept waiting for ever."""
        site, _ = bench()
        request = get(b"/ops/page").replace(b"GET", b"PUT", 1)
        assert 500 == parse(site.client().send(request))[0]
        assert 1 == len(logged.flush(NotImplementedError))

    def test_head(self) -> None:
        """HEAD: as GET, the body cut off."""
        site, _ = bench()
        answer = site.client().send(b"HEAD" + get(b"/ops/page")[3:])
        head, _, body = answer.partition(b"\r\n\r\n")
        assert (b"", True) == (body, b"Content-Length: 4" in head)

    def test_limit(self) -> None:
        """The site's own limit holds."""
        site, page = bench()
        client = site.client()
        large = post(b"x" * 65_537, b"/ops/page")
        assert 413 == parse(client.send(large))[0]
        assert [] == page.requests

    def test_as_root(self) -> None:
        """A site can be one resource of Twisted's."""
        site = Bench()
        site.site = make_site(
            Tree(Page()), Limits(), site.clock, lambda: "id0000000000000x"
        )
        assert 200 == parse(site.client().send(get(b"/page")))[0]
