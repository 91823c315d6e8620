# SPDX-License-Identifier: MIT
"""What a drop-in instantiates: lazy, and complete."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.plugin import IPlugin
from zope.interface.verify import verifyObject

from trstctl.interfaces import IBackendFactory, IEnrollmentProtocol
from trstctl.model import Endpoint
from trstctl.plugin import BackendPlugin, ProtocolPlugin
from trstctl.settings import ProtocolSettings
from trstctl.testing import TENANT, StubAuthority
from trstctl.web import ProtocolResource

SETTINGS = ProtocolSettings(enabled=True, tenant_id=TENANT)


class PingSettings(ProtocolSettings):
    """The settings of a protocol."""

    greeting: str = "hello"


class Ping(ProtocolResource):
    """A protocol."""

    Settings = PingSettings
    plain_http = True


def make_backend(url: str, **context: object) -> tuple[str, object]:
    """Return what a backend is made of."""
    return url, context


class ProtocolPluginTests:
    """A protocol, named by a string."""

    plugin = ProtocolPlugin("ping", f"{__name__}.Ping", "1.2")

    def test_provides_the_interfaces(self) -> None:
        """Twisted finds it, and it keeps the contract of protocols."""
        assert verifyObject(IEnrollmentProtocol, self.plugin)
        assert verifyObject(IPlugin, self.plugin)
        assert ("ping", "1.2") == (self.plugin.name, self.plugin.version)

    def test_asks_its_class(self) -> None:
        """Schema, paths, endpoints and transport are the class's."""
        assert PingSettings is self.plugin.settings_schema()
        assert ("/ping",) == self.plugin.paths(SETTINGS)
        assert (
            Endpoint("ping", "", TENANT, "device", "issuing"),
        ) == self.plugin.endpoints(SETTINGS)
        assert self.plugin.plain_http()

    def test_makes_the_resource(self) -> None:
        """The resource knows its name, authority and settings."""
        stub: Any = StubAuthority()
        made: Any = self.plugin.make_resource(stub, SETTINGS)
        assert isinstance(made, Ping)
        assert ("ping", stub, SETTINGS) == (made.name, made.ra, made.settings)

    def test_needs_tls_unless_it_says_otherwise(self) -> None:
        """A protocol is served over TLS only by default."""
        plain = ProtocolPlugin("p", "trstctl.web.ProtocolResource")
        assert not plain.plain_http()
        assert "" == plain.version

    def test_imports_nothing_before_it_is_used(self) -> None:
        """A drop-in is cheap: its class is imported when it is enabled."""
        plugin = ProtocolPlugin("x", "no_such_package.Protocol")
        assert verifyObject(IEnrollmentProtocol, plugin)
        assert "no_such_package" not in sys.modules
        with pytest.raises(Exception, match="no_such_package"):
            plugin.settings_schema()

    def test_cannot_be_changed(self) -> None:
        """What was discovered stays as it was verified."""
        plugin: Any = self.plugin
        with pytest.raises(AttributeError):
            plugin.resource = "other"


class BackendPluginTests:
    """A backend, named by a string."""

    plugin = BackendPlugin("thing", f"{__name__}.make_backend", "3")

    def test_provides_the_interfaces(self) -> None:
        """Twisted finds it, and it keeps the contract of backends."""
        assert verifyObject(IBackendFactory, self.plugin)
        assert verifyObject(IPlugin, self.plugin)
        assert ("thing", "3") == (self.plugin.prefix, self.plugin.version)

    def test_calls_its_factory(self) -> None:
        """The URL is handed on whole, the rest by name."""
        clock = Clock()
        assert ("thing:x", {"reactor": clock}) == self.plugin.make(
            "thing:x", reactor=clock
        )
