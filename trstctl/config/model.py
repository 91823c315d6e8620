# SPDX-License-Identifier: MIT
"""
The shape of the configuration file, and what is made of it.

Every class here is a section of the file; its fields are the keys.  A key
that is left out, or has no value, takes its default, so that
``protocols: {est: {enabled: true, tenant_id: …}}`` is a complete file.
Relative paths are relative to the state directory, and that one to the
configuration file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from attrs import frozen
from pydantic import Discriminator, Field, Tag

from trstctl.config.profiles import ProfileSection
from trstctl.config.secrets import SecretReference
from trstctl.config.values import (
    Count,
    Duration,
    FilePath,
    Host,
    Interface,
    Port,
    Seconds,
    StoreURL,
)
from trstctl.model import Endpoint
from trstctl.policy.settings import ProfileSettings
from trstctl.settings import Label, ProtocolSettings, Section, TenantID

# --- sections ---------------------------------------------------------------


class ServerCertificate(Section):
    """
    A server certificate from elsewhere.

    :ivar chain: PEM file, the server's certificate first.
    :ivar key: reference to its private key.
    """

    chain: FilePath
    key: SecretReference


def _kind(value: object) -> str:
    """Tell ``auto`` from a section; a wrong text is judged as ``auto``."""
    return "auto" if isinstance(value, str) else "files"


class HTTPSListener(Section):
    """
    The TLS listener that all protocols share.

    :ivar names: what the automatic server certificate is for.
    :ivar certificate: ``auto``, or files.
    """

    port: Port = 8443
    interface: Interface = ""
    names: Annotated[tuple[Host, ...], Field(min_length=1, max_length=100)] = (
        "localhost",
    )
    certificate: Annotated[
        Annotated[Literal["auto"], Tag("auto")]
        | Annotated[ServerCertificate, Tag("files")],
        Discriminator(_kind),
    ] = "auto"


class HTTPListener(Section):
    """The plain listener, for the protocols that protect themselves."""

    enabled: bool = False
    port: Port = 8080
    interface: Interface = ""


class OpsListener(Section):
    """Health and metrics, for the operator's network only."""

    port: Port = 9443
    interface: Interface = "127.0.0.1"


class Listeners(Section):
    """Where the gateway listens."""

    https: HTTPSListener = HTTPSListener()
    http: HTTPListener = HTTPListener()
    ops: OpsListener = OpsListener()


class AuthoritySettings(Section):
    """
    One issuing CA.

    :ivar certificate: PEM file of the CA certificate.
    :ivar key: reference to its private key.
    :ivar passphrase: reference to the key's passphrase, if it has one.
    :ivar chain: PEM files of the CAs above it, in order, the root last.
    """

    certificate: FilePath = Path("ca/issuing.pem")
    key: SecretReference = "file:ca/issuing.key"
    passphrase: SecretReference | None = None
    chain: tuple[FilePath, ...] = (Path("ca/root.pem"),)


class Limits(Section):
    """
    What bounds a peer.

    :ivar body: octets of a request's body.
    :ivar header_seconds: until the header is complete, from its first byte.
    :ivar body_seconds: likewise for the body.
    :ivar handshake_seconds: until the TLS handshake is complete.
    :ivar idle_seconds: that a connection may wait for its next request.
    :ivar write_seconds: until the peer has taken the answer.
    :ivar connections: open at once.
    :ivar connections_per_address: likewise, from one address.
    :ivar running: requests of one protocol that are worked on at once.
    :ivar waiting: requests of one protocol that wait for that.
    :ivar wait_seconds: that one waits before it is sent away.
    :ivar retry_window: in which the same request gets its certificate again.
    :ivar key_retention: in which an ``Idempotency-Key`` is remembered.
    :ivar hold_timeout: in which a held request can be decided.
    :ivar password_failures: a minute, for one address and for one name.
    """

    body: Annotated[int, Field(ge=1024, le=16 * 1024 * 1024)] = 65536
    header_seconds: Seconds = 10.0
    body_seconds: Seconds = 20.0
    handshake_seconds: Seconds = 10.0
    idle_seconds: Seconds = 60.0
    write_seconds: Seconds = 60.0
    connections: Count = 20_000
    connections_per_address: Count = 1_000
    running: Count = 64
    waiting: Count = 512
    wait_seconds: Seconds = 10.0
    retry_window: Duration = 15 * 60
    key_retention: Duration = 7 * 86400
    hold_timeout: Duration = 7 * 86400
    password_failures: Count = 10


class LogSettings(Section):
    """
    The log.

    :ivar file: a file, or nothing for standard error.
    """

    file: FilePath | None = None
    level: Literal["debug", "info", "warn", "error", "critical"] = "info"


class TenantSettings(Section):
    """What listings call a tenant."""

    name: Annotated[str, Field(min_length=1, max_length=200)]


class Document(Section):
    """
    The whole file, but for ``protocols``, whose sections the plugins know.

    :ivar state: directory of everything that the gateway keeps.
    :ivar store: the store's URL.
    """

    state: FilePath = Path()
    store: StoreURL = "sqlite:trstctl.db"
    listeners: Listeners = Listeners()
    authorities: dict[Label, AuthoritySettings] = Field(
        default={"issuing": AuthoritySettings()}, min_length=1
    )
    profiles: dict[Label, ProfileSection] = Field(default={})
    limits: Limits = Limits()
    log: LogSettings = LogSettings()
    tenants: dict[TenantID, TenantSettings] = Field(default={})
    protocols: dict[str, Any] = Field(default={})


@frozen
class Configuration:
    """
    A configuration without a fault.

    :ivar path: the file.
    :ivar document: the file's content with its defaults, each path made
        absolute and each protocol's section an instance of its schema.
    :ivar profiles: all profiles by name, the built-in ones included.
    :ivar endpoints: of each enabled protocol, the default one first.
    :ivar names_authorities: whether the file has authorities of its own.
    """

    path: Path
    document: Document
    profiles: Mapping[str, ProfileSettings]
    endpoints: Mapping[str, tuple[Endpoint, ...]]
    names_authorities: bool

    @property
    def state(self) -> Path:
        """The directory of everything that the gateway keeps."""
        return self.document.state

    @property
    def store(self) -> str:
        """The store's URL, with an absolute path."""
        return self.document.store

    @property
    def listeners(self) -> Listeners:
        """Where to listen."""
        return self.document.listeners

    @property
    def authorities(self) -> Mapping[str, AuthoritySettings]:
        """The issuing CAs by name."""
        return self.document.authorities

    @property
    def protocols(self) -> Mapping[str, ProtocolSettings]:
        """The settings of the enabled protocols by name."""
        return {
            name: settings
            for name, settings in self.document.protocols.items()
            if settings.enabled
        }

    @property
    def limits(self) -> Limits:
        """What bounds a peer."""
        return self.document.limits

    @property
    def log(self) -> LogSettings:
        """Where the log goes."""
        return self.document.log

    @property
    def tenants(self) -> frozenset[str]:
        """Every tenant that has a name or an endpoint."""
        named = set(self.document.tenants)
        served = {
            endpoint.tenant_id
            for endpoints in self.endpoints.values()
            for endpoint in endpoints
        }
        return frozenset(named | served)
