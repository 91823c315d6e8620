# SPDX-License-Identifier: MIT
"""Tests of what a protocol sees, and of how its answers and errors go out."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import pytest
from conftest import LoggedFailures
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from web_samples import (
    SETTINGS,
    TENANT,
    Bench,
    Recorder,
    Sample,
    get,
    observed,
    parse,
    post,
)

from trstctl import errors
from trstctl.http.exchange import (
    BoundedResource,
    HTTPExchange,
    Outcome,
    Root,
)
from trstctl.model import (
    SYSTEM_TENANT,
    BearerToken,
    ClientCertificate,
    Endpoint,
    Password,
)
from trstctl.settings import ProtocolSettings
from trstctl.web import (
    STATUS,
    Headers,
    HTTPRequest,
    HTTPResponse,
    Limits,
    ProtocolResource,
    make_root,
    make_site,
)


def raising(error: BaseException):
    """Return an ``answer`` that raises."""

    async def act(_request: HTTPRequest) -> HTTPResponse:
        raise error

    return act


def returning(response: object):
    """Return an ``answer`` that returns."""

    async def act(_request: HTTPRequest) -> object:
        return response

    return act


def basic(text: str | bytes) -> str:
    """Return an Authorization value."""
    octets = text.encode() if isinstance(text, str) else text
    return "Basic " + base64.b64encode(octets).decode()


class RequestTests:
    """The plain request."""

    def test_fields(self) -> None:
        """Everything that a protocol may want to know."""
        bench = Bench()
        bench.client().send(
            post(b"x+y", b"/sample/post?a=b+c", b"X-Y: z\r\n", b"HTTP/1.0")
        )
        (request,) = bench.sample.requests
        assert (
            HTTPRequest(
                "POST",
                ("post",),
                b"a=b+c",
                request.headers,
                b"x+y",
                "HTTP/1.0",
                "192.0.2.1",
                "id00000000000000",
            )
            == request
        )
        assert "z" == request.headers.get("x-y")

    def test_repr_tells_no_secret(self) -> None:
        """Neither body nor headers show."""
        request = HTTPRequest(
            "POST",
            headers=Headers.of([("Authorization", "s3cret")]),
            body=b"s3",
        )
        assert "s3" not in repr(request)

    def test_no_credentials(self) -> None:
        """Nothing was presented."""
        assert () == HTTPRequest("GET").credentials

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (basic("device:pass:word"), Password("device", "pass:word")),
            (basic(":pw"), Password("", "pw")),
            (basic("j\xfcrgen:\u20ac"), Password("j\xfcrgen", "\u20ac")),
            ("bASIC  " + basic("a:")[6:] + " ", Password("a", "")),
            ("Bearer abc-._~+/=", BearerToken("abc-._~+/=")),
            ("bearer x", BearerToken("x")),
        ],
    )
    def test_credentials(self, value: str, expected: object) -> None:
        """Basic (RFC 7617) and Bearer (RFC 6750)."""
        headers = Headers.of([("Authorization", value)])
        assert (expected,) == HTTPRequest("GET", headers=headers).credentials

    @pytest.mark.parametrize(
        "value",
        [
            "Basic",
            "Basic !",
            "Basic YTpi\xff",
            basic("no colon"),
            basic(b"\xff:x"),
            basic("a:b\x00"),
            basic("a\n:b"),
            "Bearer",
            "Bearer a b",
            "Bearer =",
        ],
    )
    def test_malformed_credentials(self, value: str) -> None:
        """What cannot be read is malformed, whatever it says."""
        headers = Headers.of([("Authorization", value)])
        with pytest.raises(errors.Malformed):
            _ = HTTPRequest("GET", headers=headers).credentials

    def test_two_authorizations(self) -> None:
        """Which one counts would be a guess."""
        headers = Headers.of([("Authorization", "Bearer a")] * 2)
        with pytest.raises(errors.Malformed):
            _ = HTTPRequest("GET", headers=headers).credentials

    def test_unknown_scheme(self) -> None:
        """A scheme that nobody asked for proves nothing."""
        headers = Headers.of([("Authorization", 'Digest username="a"')])
        with pytest.raises(errors.NotAuthenticated):
            _ = HTTPRequest("GET", headers=headers).credentials

    def test_certificate(self) -> None:
        """A proven certificate is a credential beside the others."""
        request = HTTPRequest(
            "GET",
            headers=Headers.of([("Authorization", "Bearer a")]),
            client_certificate=b"der",
        )
        expected = (BearerToken("a"), ClientCertificate(b"der"))
        assert expected == request.credentials


class ResponseTests:
    """The form of answers."""

    def test_form(self) -> None:
        """Length, id and no-store; no banner, no default type, no chunks."""
        bench = Bench()
        bench.sample.act = returning(
            HTTPResponse(
                200,
                "application/pkcs7-mime",
                b"MII",
                {"Content-Transfer-Encoding": "base64", "X": ("1", "2")},
            )
        )
        client = bench.client()
        client.transport.write = (pieces := []).append
        client.send(post())
        (message,) = pieces
        head = message.decode().split("\r\n")
        assert "HTTP/1.1 200 OK" == head[0]
        assert [
            "Content-Type: application/pkcs7-mime",
            "Content-Transfer-Encoding: base64",
            "X: 1",
            "X: 2",
            "Content-Length: 3",
            "X-Request-Id: id00000000000000",
            "Cache-Control: no-store",
            "",
            "MII",
        ] == head[2:]
        assert head[1].startswith("Date: ")
        assert len(message) < 900

    def test_get_may_be_kept(self) -> None:
        """Only answers to POST say no-store; an empty type is left out."""
        bench = Bench()
        bench.sample.act = returning(HTTPResponse(200))
        _, headers, body = parse(bench.client().send(get()))
        assert {"Date", "Content-Length", "X-Request-Id"} == set(headers)
        assert b"" == body

    def test_no_content(self) -> None:
        """RFC 9110, section 8.6: a 204 has neither body nor length."""
        bench = Bench()
        bench.sample.act = returning(HTTPResponse(204, body=b"x"))
        client = bench.client()
        status, headers, body = parse(client.send(get()))
        assert (204, b"") == (status, body)
        assert "Content-Length" not in headers
        assert 204 == parse(client.send(get()))[0]

    def test_not_modified(self) -> None:
        """RFC 9110, section 8.6: no length of what a 304 does not send."""
        bench = Bench()
        bench.sample.act = returning(HTTPResponse(304, body=b"x"))
        client = bench.client()
        status, headers, body = parse(client.send(get()))
        assert (304, b"") == (status, body)
        assert "Content-Length" not in headers
        assert 304 == parse(client.send(get()))[0]

    def test_head(self) -> None:
        """HEAD: as GET, the body cut off."""
        bench = Bench()
        answer = bench.client().send(get().replace(b"GET", b"HEAD", 1))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"Content-Length: 4" in head
        assert b"" == body
        assert "GET" == bench.sample.requests[0].method

    @pytest.mark.parametrize(
        ("version", "extra", "connection", "closed"),
        [
            (b"HTTP/1.1", b"", None, False),
            (b"HTTP/1.1", b"Connection: close\r\n", "close", True),
            (b"HTTP/1.0", b"", "close", True),
            (
                b"HTTP/1.0",
                b"Connection: Keep-Alive\r\n",
                "keep-alive",
                False,
            ),
        ],
    )
    def test_version(
        self, version: bytes, extra: bytes, connection: str, closed: bool
    ) -> None:
        """1.0 and 1.1 are answered in kind, and kept open in kind."""
        client = Bench().client()
        request = post(extra=extra, version=version)
        answer = client.send(request)
        assert answer.startswith(version + b" 200 OK\r\n")
        assert connection == parse(answer)[1].get("Connection")
        assert closed is client.closed
        if not closed:
            assert 200 == parse(client.send(request))[0]

    def test_date_is_cached(self) -> None:
        """The date is made once a second."""
        bench = Bench()
        dates = iter([b"one", b"two"])
        bench.site._http_date = lambda: next(dates)
        client = bench.client()
        assert "one" == parse(client.send(get()))[1]["Date"]
        bench.clock.advance(0.5)
        assert "one" == parse(client.send(get()))[1]["Date"]
        bench.clock.advance(0.5)
        assert "two" == parse(client.send(get()))[1]["Date"]

    @pytest.mark.parametrize(
        "response",
        [
            HTTPResponse(200, headers={"X": "a\r\nSet-Cookie: b"}),
            HTTPResponse(200, headers={"X": "a\nb"}),
            HTTPResponse(200, "text/\u20ac"),
            HTTPResponse(999),
            None,
            b"bytes",
        ],
    )
    def test_impossible_answers(
        self, response: object, logged: LoggedFailures
    ) -> None:
        """What cannot be sent is a fault of ours: 500, never two headers."""
        bench = Bench()
        bench.sample.act = returning(response)
        status, headers, _ = parse(bench.client().send(post()))
        assert 500 == status
        assert "Set-Cookie" not in headers
        assert 1 == len(logged.flush(Exception))


class RefusalTests:
    """Errors, told as HTTP tells them."""

    def test_table_is_total(self) -> None:
        """Every leaf of the tree has a row, and there is no other row."""
        assert set(errors.leaves()) == set(STATUS)

    @pytest.mark.parametrize("kind", STATUS, ids=lambda kind: kind.__name__)
    def test_rows(self, kind: type[errors.TrstctlError]) -> None:
        """Each: its status, one line with the id, recorded, logged."""
        made = {
            errors.PolicyViolation: lambda: kind("device", "key", "weak"),
            errors.Throttled: lambda: kind(7),
        }
        error = made.get(kind, kind)()
        bench = Bench()
        bench.sample.act = raising(error)
        client = bench.client()
        with observed() as events:
            status, _, body = parse(client.send(post()))
        assert STATUS[kind] == status
        if status == 401:
            assert b"" == body
        else:
            expected = f"{error.detail} (request id00000000000000)\n"
            assert expected == body.decode()
        (refusal,) = bench.ra.refusals
        assert (
            bench.sample.endpoint,
            "sample",
            error,
            "id00000000000000",
            "192.0.2.1",
        ) == refusal
        (line,) = [e for e in events if e.get("event") == "request"]
        decision = "refused" if status < 500 else "failed"
        assert (status, decision, error.detail) == (
            line["status"],
            line["decision"],
            line["reason"],
        )
        bench.sample.act = bench.sample.echo
        assert 200 == parse(client.send(post()))[0]

    def test_challenge(self) -> None:
        """Basic comes first, on a line of its own."""
        bench = Bench()
        bench.sample.act = raising(errors.NotAuthenticated())
        answer = bench.client().send(post())
        assert (
            b'WWW-Authenticate: Basic realm="sample"\r\n'
            b'WWW-Authenticate: Bearer realm="sample"\r\n'
        ) in answer

    def test_retry_after(self) -> None:
        """Throttled: as long as it says.  Unavailable: jittered."""
        bench = Bench()
        client = bench.client()
        bench.sample.act = raising(errors.Throttled(7))
        assert "7" == parse(client.send(post()))[1]["Retry-After"]
        bench.sample.act = raising(errors.Unavailable(retry_after=10))
        pauses = {
            int(parse(client.send(post()))[1]["Retry-After"])
            for _ in range(50)
        }
        assert len(pauses) > 5
        assert set(range(10, 21)) >= pauses

    def test_subclass_of_a_leaf(self) -> None:
        """A plugin's own error is told as what it is."""

        class Peculiar(errors.Replayed):
            pass

        try:
            bench = Bench()
            bench.sample.act = raising(Peculiar())
            assert 409 == parse(bench.client().send(post()))[0]
        finally:
            del Peculiar
            import gc

            gc.collect()

    def test_text_is_one_line(self) -> None:
        """A detail with the peer's text in it stays one line, and short."""
        bench = Bench()
        bench.sample.act = raising(
            errors.Malformed("a\r\nb\u202e" + "c" * 999)
        )
        body = parse(bench.client().send(post()))[2]
        assert body.startswith(b"a??b?ccc")
        assert len(body) < 500
        assert 1 == body.count(b"\n")

    def test_recorded_already(self) -> None:
        """A refusal that is in the audit log is not written again."""
        error = errors.NotAuthorized()
        error.recorded = True
        bench = Bench()
        bench.sample.act = raising(error)
        assert 403 == parse(bench.client().send(post()))[0]
        assert [] == bench.ra.refusals

    @pytest.mark.parametrize("path", [b"/sample", b"/sample/none"])
    def test_not_audited(self, path: bytes) -> None:
        """A protocol can keep what strangers cause out of the audit log."""
        bench = Bench()
        bench.sample.audits_refusals = False
        bench.sample.act = raising(errors.Malformed())
        assert 400 <= parse(bench.client().send(post(path=path)))[0] < 405
        assert [] == bench.ra.refusals

    @pytest.mark.parametrize(
        "error", [RecursionError(), MemoryError(), KeyError("s3cret")]
    )
    def test_faults(self, error: Exception, logged: LoggedFailures) -> None:
        """Any other exception: 500 with the id, and the next one is fine."""
        bench = Bench()
        bench.sample.act = raising(error)
        client = bench.client()
        status, _, body = parse(client.send(post()))
        assert 500 == status
        assert b"internal error (request id00000000000000)\n" == body
        assert 1 == len(logged.flush(type(error)))
        bench.sample.act = bench.sample.echo
        assert 200 == parse(client.send(post()))[0]

    def test_fault_in_explain(self, logged: LoggedFailures) -> None:
        """A protocol that cannot explain is stood in for."""
        bench = Bench()
        bench.sample.act = raising(errors.Malformed())
        bench.sample.explain = lambda *_: 1 / 0
        assert 500 == parse(bench.client().send(post()))[0]
        assert 1 == len(logged.flush(ZeroDivisionError))

    def test_fault_in_record(self, logged: LoggedFailures) -> None:
        """An answer is owed even if the refusal cannot be recorded."""
        bench = Bench()
        bench.sample.act = raising(errors.Malformed())
        bench.ra.result = lambda: 1 / 0
        assert 400 == parse(bench.client().send(post()))[0]
        assert 1 == len(logged.flush(ZeroDivisionError))
        bench.ra.result = lambda: fail(KeyError())
        assert 400 == parse(bench.client().send(post()))[0]

    def test_fault_in_early_record(self, logged: LoggedFailures) -> None:
        """The same for a request that its head ruled out."""
        bench = Bench()
        bench.ra.result = lambda: 1 / 0
        assert 405 == parse(bench.client().send(get(b"/sample/post")))[0]
        assert 1 == len(logged.flush(ZeroDivisionError))

    def test_fault_in_render(self, logged: LoggedFailures) -> None:
        """A resource that breaks the rules is answered for."""
        bench = Bench()
        bench.sample.render = lambda _: 1 / 0
        client = bench.client()
        assert 500 == parse(client.send(post()))[0]
        assert 500 == parse(client.send(post()))[0]
        assert 2 == len(logged.flush(ZeroDivisionError))

    def test_fault_in_request(self, logged: LoggedFailures) -> None:
        """So is one that cannot even be told as a plain request."""
        bench = Bench()
        bench.sample._request = lambda _: 1 / 0
        client = bench.client()
        assert 500 == parse(client.send(post()))[0]
        assert 1 == len(logged.flush(ZeroDivisionError))

    def test_fault_in_judging(self, logged: LoggedFailures) -> None:
        """A fault before the body is read is answered, too."""
        bench = Bench()
        bench.sample.allowed_methods = lambda _: 1 / 0
        client = bench.client()
        assert 500 == parse(client.send(post()))[0]
        assert client.closed
        assert 1 == len(logged.flush(ZeroDivisionError))

    def test_fault_in_admission_key(self, logged: LoggedFailures) -> None:
        """The endpoint cannot be told: the default one has the record."""
        bench = Bench()
        client = bench.client()
        assert 500 == parse(client.send(post(path=b"/sample/odd")))[0]
        assert 1 == len(logged.flush(KeyError))
        large = post(b"x" * 5000, path=b"/sample/odd")
        assert 413 == parse(client.send(large))[0]
        endpoints = {refusal[0] for refusal in bench.ra.refusals}
        assert {bench.sample.endpoint} == endpoints

    @pytest.mark.parametrize(
        ("request_", "status", "allow"),
        [
            (get(b"/sample/post"), 405, "POST"),
            (get().replace(b"GET", b"PUT"), 405, "GET, POST, HEAD"),
            (get(b"/sample/unknown"), 404, None),
            (post(extra=b"Content-Encoding: gzip\r\n"), 415, None),
            (post(extra=b"Content-Encoding: identity\r\n"), 415, None),
        ],
    )
    def test_by_the_head(
        self, request_: bytes, status: int, allow: str
    ) -> None:
        """Refused before the body is read; recorded; then closed."""
        bench = Bench()
        client = bench.client()
        found, headers, body = parse(client.send(request_))
        assert (status, allow) == (found, headers.get("Allow"))
        assert "close" == headers["Connection"]
        assert b"(request id00000000000000)\n" in body
        assert client.closed
        assert 1 == len(bench.ra.refusals)
        assert [] == bench.sample.requests

    def test_recording_is_awaited(self) -> None:
        """The refusal is durable before the peer hears of it."""
        bench = Bench()
        recording: Deferred[None] = Deferred()
        bench.ra.result = lambda: recording
        bench.sample.act = raising(errors.Malformed())
        client = bench.client()
        assert b"" == client.send(post())
        recording.callback(None)
        assert 400 == parse(client.read())[0]

    def test_peer_leaves_while_recording(self) -> None:
        """The record is made all the same, and the exchange logged."""
        bench = Bench()
        cancelled: list[object] = []
        recording: Deferred[None] = Deferred(cancelled.append)
        bench.ra.result = lambda: recording
        bench.sample.act = raising(errors.Malformed())
        client = bench.client()
        with observed() as events:
            client.send(post())
            client.protocol.connectionLost(Failure(ConnectionDone()))
        assert [] == cancelled
        assert ["request"] == [e["event"] for e in events if "event" in e]
        recording.callback(None)


class LogTests:
    """One line per exchange."""

    def test_line(self) -> None:
        """All fields, the answer's own facts among them; flat."""
        bench = Bench()
        facts = {"decision": "issued", "serial": "0a", "principal": "basic:d"}
        bench.sample.act = returning(HTTPResponse(200, facts=facts))
        with observed() as events:
            bench.client().send(
                post(path=b"/sample/post", extra=b"Authorization: s3cret\r\n")
            )
        (event,) = [e for e in events if e.get("event") == "request"]
        fields = {
            name: value
            for name, value in event.items()
            if not name.startswith("log_")
        }
        assert {
            "event": "request",
            "request_id": "id00000000000000",
            "tenant": TENANT,
            "protocol": "sample",
            "operation": "post",
            "status": 200,
            "decision": "issued",
            "reason": "",
            "duration_ms": 0.0,
            "peer": "192.0.2.1",
            "serial": "0a",
            "principal": "basic:d",
        } == fields
        assert "s3cret" not in json.dumps(fields)

    def test_duration(self) -> None:
        """Milliseconds on the clock that was passed in."""
        bench = Bench()
        answer: Deferred[HTTPResponse] = Deferred()

        async def act(_request: HTTPRequest) -> HTTPResponse:
            return await answer

        bench.sample.act = act
        with observed() as events:
            bench.client().send(post())
            bench.clock.advance(0.25)
            answer.callback(HTTPResponse(200))
        (event,) = [e for e in events if e.get("event") == "request"]
        assert (250.0, "answered") == (event["duration_ms"], event["decision"])

    @pytest.mark.parametrize("shielded", [False, True])
    def test_peer_leaves(self, shielded: bool) -> None:
        """
        One line, too, if the peer has left: that it did, or what came of it
        if the authority was past its point of no return.
        """
        bench = Bench()

        async def act(_request: HTTPRequest) -> HTTPResponse:
            try:
                return await Deferred()
            except Exception:
                if not shielded:
                    raise
                return HTTPResponse(200, facts={"decision": "issued"})

        bench.sample.act = act
        client = bench.client()
        with observed() as events:
            client.send(post())
            client.protocol.connectionLost(Failure(ConnectionDone()))
        (event,) = [e for e in events if e.get("event") == "request"]
        expected = "issued" if shielded else "failed"
        assert expected == event["decision"]
        assert b"" == client.read()

    def test_cancelled_without_cause(self, logged: LoggedFailures) -> None:
        """A cancellation that no peer has caused is a fault."""
        bench = Bench()
        answer: Deferred[HTTPResponse] = Deferred()

        async def act(_request: HTTPRequest) -> HTTPResponse:
            return await answer

        bench.sample.act = act
        client = bench.client()
        client.send(post())
        answer.cancel()
        assert 500 == parse(client.read())[0]
        assert 1 == len(logged.flush(Exception))

    def test_second_answer(self) -> None:
        """An exchange has one answer; a second one goes nowhere."""
        bench = Bench()
        exchanges: list[HTTPExchange] = []
        bench.sample.render = exchanges.append
        client = bench.client()
        client.send(post())
        for body in (b"1", b"2"):
            exchanges[0].answer(HTTPResponse(200, body=body), Outcome())
        assert b"1" == parse(client.read())[2]


class AdmissionTests:
    """Places for each protocol and tenant."""

    def test_saturated(self) -> None:
        """One runs, one waits, the third is told to come back."""
        bench = Bench(admission=True)
        answers: list[Deferred[HTTPResponse]] = []

        async def act(_request: HTTPRequest) -> HTTPResponse:
            answers.append(Deferred())
            return await answers[-1]

        bench.sample.act = act
        first, second, third = (bench.client() for _ in range(3))
        assert b"" == first.send(post())
        assert b"" == second.send(post())
        status, headers, _ = parse(third.send(post()))
        assert 503 == status
        # Jittered once: one to two times the five seconds.
        assert 5 <= int(headers["Retry-After"]) <= 10
        answers.pop().callback(HTTPResponse(200))
        assert 200 == parse(first.read())[0]
        assert b"" == second.read()
        answers.pop().callback(HTTPResponse(200))
        assert 200 == parse(second.read())[0]
        bench.sample.act = bench.sample.echo
        assert 200 == parse(third.send(post()))[0] if not third.closed else 1

    def test_places_are_given_back(self) -> None:
        """Also by an answer that fails, and by a peer that leaves."""
        bench = Bench(admission=True)
        bench.sample.act = raising(errors.Malformed())
        client = bench.client()
        for _ in range(3):
            assert 400 == parse(client.send(post()))[0]

        async def never(_request: HTTPRequest) -> HTTPResponse:
            return await Deferred()

        bench.sample.act = never
        clients = [bench.client(), bench.client()]
        for gone in clients:
            gone.send(post())
        for gone in clients:
            gone.protocol.connectionLost(Failure(ConnectionDone()))
        bench.sample.act = bench.sample.echo
        assert 200 == parse(client.send(post()))[0]


class TreeTests:
    """Which resource answers where."""

    def test_mounts(self) -> None:
        """The longest path below a mount reaches its resource."""
        bench = Bench(mounts={"/.well-known/est": Bench().sample})
        client = bench.client()
        assert 200 == parse(client.send(get(b"/.well-known/est")))[0]
        assert 200 == parse(client.send(get(b"/.well-known/est/")))[0]

    @pytest.mark.parametrize(
        "path",
        [
            b"/",
            b"/other",
            b"/.well-known",
            b"//sample",
            b"/./sample",
            b"/x/../sample",
            b"/sample/%2e%2e",
            b"/%2Fsample",
            b"/sample%00",
            b"/sample%2fpost",
            b"/sample;x",
            b"/sampl\xc3\xa9".replace(b"\xc3\xa9", b"%C3%A9"),
        ],
    )
    def test_nothing_there(self, path: bytes) -> None:
        """Everything else is a plain 404, and no resource is asked."""
        bench = Bench(mounts={"/.well-known/est": Bench().sample})
        client = bench.client()
        status, headers, body = parse(client.send(get(path)))
        assert 404 == status
        assert "text/plain; charset=utf-8" == headers["Content-Type"]
        assert b"there is nothing here (request id00000000000000)\n" == body
        assert [] == bench.sample.requests

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("/a", "/a"),
            ("/a", "/a/"),
            ("/a", "/a/b"),
            ("/a/b", "/a"),
            ("/", "/a"),
        ],
    )
    def test_conflicts(self, first: str, second: str) -> None:
        """Two resources for one path stop the start."""
        tree = make_root({first: Bench().sample})
        with pytest.raises(ValueError, match="overlap"):
            tree._mount(second, Bench().sample)

    @pytest.mark.parametrize("prefix", ["/a//b", "/..", "/\xe9", "/a b", ""])
    def test_bad_prefixes(self, prefix: str) -> None:
        """A prefix that no request could have stops the start."""
        with pytest.raises(ValueError, match="is not a path"):
            make_root({prefix: Bench().sample})

    def test_neighbours(self) -> None:
        """Paths that only begin alike do not overlap."""
        tree = make_root({"/a/b": Bench().sample, "/a/c": Bench().sample})
        assert isinstance(tree, Root)

    def test_one_resource_for_each_mount(self) -> None:
        """A protocol can have another resource below each of its mounts."""
        below = Bench().sample
        bench = Bench(mounts={"/a": _Split(below), "/b": _Split(below)})
        client = bench.client()
        assert 200 == parse(client.send(get(b"/b")))[0]
        assert [()] == [request.path for request in below.requests]
        assert 404 == parse(client.send(get(b"/a")))[0]

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            (b"/r", ()),
            (b"/r/", ()),
            (b"/r/%61b", ("ab",)),
            (b"/r/ab/", ("ab",)),
            (b"/r/%61b/c//+=%2F/", ("ab", "c//+=%2F/")),
            (b"/r/ab//", ("ab", "/")),
            (b"/%72/ab/c", ("ab", "c")),
        ],
    )
    def test_raw_rest(self, path: bytes, expected: tuple[str, ...]) -> None:
        """What follows the split segments stays as it was sent."""
        below = _Raw("raw", Recorder(), SETTINGS)
        client = Bench(mounts={"/r": below}).client()
        assert 200 == parse(client.send(get(path)))[0]
        assert [expected] == [request.path for request in below.requests]

    @pytest.mark.parametrize("path", [b"/r//x", b"/r/../x", b"/r/%2F/x"])
    def test_segments_before_a_raw_rest(self, path: bytes) -> None:
        """The rules for the others hold."""
        below = _Raw("raw", Recorder(), SETTINGS)
        client = Bench(mounts={"/r": below}).client()
        assert 404 == parse(client.send(get(path)))[0]

    def test_single_resource(self) -> None:
        """A site can be one resource, without a tree."""
        bench = Bench()
        site = make_site(
            bench.sample, Limits(), bench.clock, lambda: "id0000000000000x"
        )
        bench.site = site
        answer = bench.client().send(post(path=b"/post"))
        assert 200 == parse(answer)[0]


class _Split(Sample):
    """Answers below the second of its mounts only."""

    def __init__(self, below: Sample) -> None:
        super().__init__("split", Recorder(), SETTINGS)
        self.below = below

    def at(self, prefix: str) -> BoundedResource:
        """Return the resource of a mount."""
        return self.below if prefix == "/b" else self

    def allowed_methods(self, path: tuple[str, ...]) -> None:
        """Know no path."""


class _Raw(Sample):
    """Splits one segment."""

    raw_after = 1

    def allowed_methods(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """Know all paths."""
        return ("GET",)


class _NoEndpoint(ProtocolResource):
    """Enrolls nobody."""

    @classmethod
    def endpoints_for(
        cls, name: str, settings: ProtocolSettings
    ) -> Sequence[Endpoint]:
        """Return none."""
        return ()


class ProtocolResourceTests:
    """What a protocol gets without saying anything."""

    def test_defaults(self) -> None:
        """Path, endpoint and methods follow from name and settings."""
        resource = ProtocolResource("acme", Recorder(), SETTINGS)
        assert ("/acme",) == ProtocolResource.paths_for("acme", SETTINGS)
        endpoint = Endpoint("acme", "", TENANT, "device", "issuing")
        assert endpoint == resource.endpoint
        assert ("POST",) == resource.allowed_methods(())
        assert "acme" == resource.operation(HTTPRequest("POST"))

    def test_tenant_is_compulsory(self) -> None:
        """No protocol is served without a tenant."""
        with pytest.raises(ValueError, match="tenant_id"):
            ProtocolResource("acme", Recorder(), ProtocolSettings())

    def test_without_endpoints(self) -> None:
        """A protocol by which nobody enrolls is the gateway's own."""
        resource = _NoEndpoint("acme", Recorder(), ProtocolSettings())
        expected = Endpoint("acme", "", SYSTEM_TENANT, "", "")
        assert expected == resource.endpoint

    def test_answer_is_compulsory(self, logged: LoggedFailures) -> None:
        """A protocol that forgot its answer is found out."""
        bench = Bench()
        bench.site.resource = ProtocolResource("acme", bench.ra, SETTINGS)
        assert 500 == parse(bench.client().send(post()))[0]
        assert 1 == len(logged.flush(NotImplementedError))

    def test_abstract_resource(self) -> None:
        """The base class judges nothing by itself."""
        with pytest.raises(NotImplementedError):
            BoundedResource().allowed_methods(())
        with pytest.raises(NotImplementedError):
            BoundedResource().render(None)
