# SPDX-License-Identifier: MIT
"""What every protocol owes its users, as tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field, frozen
from pydantic import ValidationError
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from trstctl.backends.store_memory import MemoryStore
from trstctl.errors import (
    PolicyViolation,
    RequestError,
    Throttled,
    TrstctlError,
    leaves,
)
from trstctl.interfaces import IEnrollmentProtocol
from trstctl.model import Issued, Pending
from trstctl.settings import ProtocolSettings
from trstctl.testing.authority import StubAuthority, make_ra
from trstctl.testing.exchange import (
    Connection,
    exchange,
    read_response,
    request_octets,
    settings_for,
)
from trstctl.testing.requests import add_password, basic, make_csr
from trstctl.testing.time import TENANT, result_of
from trstctl.web import HTTPResponse, ProtocolResource


@frozen
class Example:
    """
    A request that a protocol takes to ``enroll``.

    :ivar path: whole, from the root.
    :ivar headers: without credentials.
    """

    path: str
    body: bytes = field(repr=False)
    method: str = "POST"
    headers: Mapping[str, str] = field(factory=dict)


@define
class _Secret(Exception):
    """An error that nobody has foreseen, with a text that nobody may see."""

    text: str = "SELECT secret FROM /etc/trstctl"


class ProtocolContract:
    """
    What every protocol owes its users, as tests.

    Subclass it in a test module, under a name that your pytest collects,
    and say what is yours::

        class PingContractTests(ProtocolContract):
            def make_plugin(self):
                return ProtocolPlugin("ping", "their_package.ping.Ping")

            def make_example(self, csr):
                return Example("/ping", csr)

    The example must reach ``enroll`` with its credentials, which the suite
    adds.  A protocol that tells errors in its own messages, with HTTP
    status 200, sets ``tells_errors_by_status`` to ``False``; a body that
    is too large to be read at all is answered 413 even then.
    """

    #: Whether a refusal shows in the HTTP status.
    tells_errors_by_status = True

    #: Paths below a mount where nothing is: each must be answered 404.
    unknown_paths: tuple[str, ...] = ()

    def make_plugin(self) -> IEnrollmentProtocol:
        """Return the plugin under test."""
        raise NotImplementedError

    def make_example(self, csr: bytes) -> Example:
        """Return the request that carries this DER certification request."""
        raise NotImplementedError

    def settings(self) -> Mapping[str, object]:
        """Return settings beyond ``enabled`` and ``tenant_id``."""
        return {}

    # --- what the tests share -----------------------------------------------

    def make_resource(self, ra: object) -> ProtocolResource:
        """Return the protocol's resource over a registration authority."""
        plugin = self.make_plugin()
        made: Any = plugin.make_resource(
            ra,  # type: ignore[arg-type]
            settings_for(plugin, **self.settings()),
        )
        assert isinstance(made, ProtocolResource)
        return made

    def send(
        self,
        resource: ProtocolResource,
        example: Example,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:
        """Send the example."""
        return exchange(
            resource,
            example.method,
            example.path,
            example.body,
            {**example.headers, **(headers or {})},
        )

    # --- the plugin ---------------------------------------------------------

    def test_plugin_provides_the_interface(self) -> None:
        """A plugin provides ``IEnrollmentProtocol``, method by method."""
        assert verifyObject(IEnrollmentProtocol, self.make_plugin())

    def test_is_off_by_default(self) -> None:
        """A protocol is off unless the operator turns it on."""
        schema: Any = self.make_plugin().settings_schema()
        assert issubclass(schema, ProtocolSettings)
        assert not schema().enabled

    def test_unknown_settings_are_refused(self) -> None:
        """A misspelt setting stops the start rather than being ignored."""
        schema: Any = self.make_plugin().settings_schema()
        try:
            schema.model_validate({"no_such_setting": True})
        except ValidationError:
            return
        raise AssertionError("an unknown setting was accepted")

    def test_paths_are_absolute(self) -> None:
        """There is at least one path, and each begins at the root."""
        plugin = self.make_plugin()
        paths = plugin.paths(settings_for(plugin, **self.settings()))
        assert paths
        assert len(set(paths)) == len(paths)
        assert all(path.startswith("/") for path in paths)

    def test_endpoints_belong_to_the_tenant_of_the_settings(self) -> None:
        """The configuration is the one source of an endpoint's tenant."""
        plugin = self.make_plugin()
        endpoints = plugin.endpoints(settings_for(plugin, **self.settings()))
        assert endpoints
        assert plugin.name == endpoints[0].protocol
        assert endpoints[0].tenant_id == TENANT

    # --- its answers --------------------------------------------------------

    def test_enrolls(self) -> None:
        """A good request with a right password brings a certificate."""
        store: Any = MemoryStore()
        add_password(store, "contract", "secret")
        resource = self.make_resource(make_ra(store))
        example = self.make_example(make_csr("contract.example"))
        answer = self.send(resource, example, basic("contract", "secret"))
        assert 200 <= answer.status < 300, answer.body
        records = result_of(store.audit_records(TENANT, 0, 100))
        assert any('"certificate.issued"' in one.body for one in records)

    def test_credentials_reach_the_authority(self) -> None:
        """What the peer presents is what the authority gets to judge."""
        ra = StubAuthority(Pending(1, "r", "p", "device"))
        example = self.make_example(make_csr())
        self.send(self.make_resource(ra), example, basic("a", "b"))
        (request,) = ra.requests
        assert request.credentials
        assert request.request_id
        assert request.peer == "192.0.2.1"
        assert request.endpoint.tenant_id == TENANT

    def test_pending_is_answered(self) -> None:
        """A request that a person has to approve is no error."""
        ra = StubAuthority(Pending(60, "r", "p", "device"))
        example = self.make_example(make_csr())
        answer = self.send(self.make_resource(ra), example)
        assert 200 <= answer.status < 300

    def test_every_error_is_answered(self) -> None:
        """Each leaf of the error tree has an answer of its own."""
        for leaf in leaves():
            error = _an_error(leaf)
            ra = StubAuthority(error)
            example = self.make_example(make_csr())
            answer = self.send(self.make_resource(ra), example)
            allowed = {200, *range(400, 600)}
            if self.tells_errors_by_status:
                fault = 400 if issubclass(leaf, RequestError) else 500
                allowed = set(range(fault, fault + 100))
            assert answer.status in allowed, leaf

    def test_unforeseen_errors_tell_nothing(self) -> None:
        """A fault of the program says no more than that it is one."""
        ra = StubAuthority(_Secret())
        example = self.make_example(make_csr())
        answer = self.send(self.make_resource(ra), example)
        assert _Secret().text.encode() not in answer.body
        if self.tells_errors_by_status:
            assert answer.status == 500
        self.forgive(_Secret)

    def forgive(self, kind: type[Exception]) -> None:
        """
        Take an error that was logged on purpose out of your test's log.

        Override it where tests fail for logged errors.
        """

    def test_garbage_is_refused_and_audited(self) -> None:
        """What does not decode is the peer's fault, and remembered."""
        ra = StubAuthority()
        example = self.make_example(b"\x00 this is no request")
        answer = self.send(self.make_resource(ra), example)
        assert not ra.requests
        if self.tells_errors_by_status:
            assert 400 <= answer.status < 500
            assert len(ra.refusals) == 1

    def test_unknown_paths(self) -> None:
        """Where nothing is, the answer is 404."""
        resource = self.make_resource(StubAuthority())
        for path in ("/", "/no/such/path", *self.unknown_paths):
            assert exchange(resource, "GET", path).status == 404, path

    def test_wrong_methods(self) -> None:
        """A method that is not offered is answered 405, with Allow."""
        example = self.make_example(make_csr())
        resource = self.make_resource(StubAuthority())
        answer = exchange(resource, "DELETE", example.path)
        assert answer.status == 405
        assert example.method in str(answer.headers["Allow"])

    def test_too_large(self) -> None:
        """A body beyond the limit is refused before it is read."""
        example = self.make_example(make_csr())
        ra = StubAuthority()
        connection = Connection(self.make_resource(ra))
        connection.send(
            request_octets(
                example.method,
                example.path,
                b"",
                {**example.headers, "Content-Length": "100000000"},
            ).replace(b"Content-Length: 0\r\n", b"")
        )
        answer = read_response(connection.received())
        connection.lose()
        assert answer.status == 413
        assert len(ra.refusals) == 1

    def test_a_peer_that_leaves_stops_the_waiting(self) -> None:
        """Who leaves is no longer waited for, and nothing breaks."""
        cancelled: list[object] = []
        waiting: Deferred[Issued | Pending] = Deferred(cancelled.append)
        example = self.make_example(make_csr())
        connection = Connection(self.make_resource(StubAuthority(waiting)))
        connection.send(
            request_octets(
                example.method, example.path, example.body, example.headers
            )
        )
        assert connection.received() == b""
        connection.lose()
        assert [waiting] == cancelled


def _an_error(leaf: type[TrstctlError]) -> TrstctlError:
    """Return an error of the class, whatever its arguments are."""
    arguments: Mapping[type[TrstctlError], tuple[Any, ...]] = {
        PolicyViolation: ("device", "key-type", "not allowed"),
        Throttled: (30,),
    }
    return leaf(*arguments.get(leaf, ()))
