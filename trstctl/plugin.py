# SPDX-License-Identifier: MIT
"""
What a drop-in of ``twisted/plugins/`` instantiates.

A drop-in must be cheap and must not fail: Twisted imports every one of them
whenever any plugin is looked for, and skips one that raises.  So it names
its class by a string, which is imported only when the protocol is enabled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.plugin import IPlugin
from twisted.python.reflect import namedAny
from zope.interface import implementer

from trstctl.interfaces import (
    IBackendFactory,
    IEnrollmentProtocol,
    IRegistrationAuthority,
)
from trstctl.model import Endpoint

if TYPE_CHECKING:
    from twisted.web.resource import IResource


@implementer(IPlugin, IEnrollmentProtocol)
@frozen
class ProtocolPlugin:
    """
    A protocol, named by a string.

    :ivar name: unique; the key under ``protocols:`` in the configuration.
    :ivar resource: the dotted name of a subclass of
        :class:`trstctl.web.ProtocolResource`.
    :ivar version: text for ``trstctl plugin list``.
    :ivar unasked: served, too, by a configuration that does not name it;
        its settings' ``enabled`` is true by default then.
    """

    name: str
    resource: str
    version: str = ""
    unasked: bool = False

    def _class(self) -> Any:
        """Import the class."""
        return namedAny(self.resource)

    def settings_schema(self) -> type:
        """Return the resource class's ``Settings``."""
        schema: type = self._class().Settings
        return schema

    def paths(self, settings: object) -> Sequence[str]:
        """Return the resource class's ``paths``, or ``/<name>``."""
        found: Sequence[str] = self._class().paths_for(self.name, settings)
        return found

    def endpoints(self, settings: object) -> Sequence[Endpoint]:
        """Return what the resource class makes of the settings."""
        found: Sequence[Endpoint] = self._class().endpoints_for(
            self.name, settings
        )
        return found

    def plain_http(self) -> bool:
        """Return whether messages protect themselves and need no TLS."""
        return bool(self._class().plain_http)

    def make_resource(
        self, ra: IRegistrationAuthority, settings: object
    ) -> IResource:
        """Import the resource class and instantiate it."""
        made: IResource = self._class()(self.name, ra, settings)
        return made


@implementer(IPlugin, IBackendFactory)
@frozen
class BackendPlugin:
    """
    A backend, named by a string.

    :ivar prefix: what its URLs begin with.
    :ivar factory: the dotted name of a function of the URL and, by name,
        the reactor, which returns an open store.
    :ivar version: text for ``trstctl plugin list``.
    """

    prefix: str
    factory: str
    version: str = ""

    def make(self, url: str, **context: object) -> object:
        """Import the factory and call it."""
        made: object = namedAny(self.factory)(url, **context)
        return made
