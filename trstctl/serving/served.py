# SPDX-License-Identifier: MIT
"""What the protocols of one configuration serve, and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen
from twisted.logger import Logger

from trstctl.config.model import Configuration
from trstctl.errors import Unavailable
from trstctl.http.exchange import Root
from trstctl.interfaces import IEnrollmentProtocol, IRegistrationAuthority
from trstctl.web import make_root

_log = Logger(namespace="trstctl.gateway")


@frozen
class Served:
    """
    The resources of all protocols.

    :ivar secure: what is served with TLS.
    :ivar plain: what is served without.
    :ivar resources: each protocol's own.
    """

    secure: Root
    plain: Root
    resources: tuple[Any, ...]

    @classmethod
    def made_of(
        cls,
        config: Configuration,
        plugins: Mapping[str, IEnrollmentProtocol],
        ra: IRegistrationAuthority,
    ) -> Served:
        """
        Make the resources that the configuration asks for.

        :param plugins: the protocols that are installed, by name.
        :raises SecretError: a reference of a protocol leads nowhere.
        :raises ValueError: what it leads to is unfit.
        :raises OSError: a file cannot be read.
        """
        secure: dict[str, Any] = {}
        plain: dict[str, Any] = {}
        made = []
        for name, settings in config.protocols.items():
            plugin: Any = plugins[name]
            resource = plugin.make_resource(ra, settings)
            made.append(resource)
            for path in plugin.paths(settings):
                secure[path] = resource
                if plugin.plain_http():
                    plain[path] = resource
        return cls(make_root(secure), make_root(plain), tuple(made))

    async def tend(self) -> None:
        """Let each protocol do what it does every few minutes."""
        for resource in self.resources:
            # A third party's resource may be any of twisted.web's.
            tend = getattr(resource, "tend", None)
            if tend is None:
                continue
            try:
                await tend()
            except Unavailable as error:
                _log.warn(
                    "a protocol could not do its rounds: {reason}",
                    event="round.unavailable",
                    protocol=getattr(resource, "name", ""),
                    reason=str(error),
                )
