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
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from attrs import frozen
from pydantic import Discriminator, Field, Tag, model_validator

from trstctl.ca.edition import Schedule
from trstctl.config.profiles import ProfileSection
from trstctl.config.secrets import SecretReference
from trstctl.config.values import (
    Count,
    Digest,
    Duration,
    FieldName,
    FilePath,
    Host,
    Interface,
    Network,
    PartitionURL,
    PointerURL,
    Port,
    PublicURL,
    Seconds,
    StoreURL,
)
from trstctl.http.proxy import TrustedProxy
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


class ProxySettings(Section):
    """
    A reverse proxy that ends TLS in front of this listener.

    :ivar networks: where it connects from.
    :ivar certificates: SHA-256 of the certificates of which it must prove
        one; empty: its address is enough.
    :ivar format: how it writes its client's certificate.
    :ivar header: where; ``None``: as is usual for the format.
    :ivar client_address: how it tells its client's address.
    """

    networks: Annotated[
        tuple[Network, ...], Field(min_length=1, max_length=100)
    ]
    certificates: Annotated[tuple[Digest, ...], Field(max_length=100)] = ()
    format: Literal["rfc9440", "pem", "base64", "xfcc"] = "rfc9440"
    header: FieldName | None = None
    client_address: Literal["none", "x-forwarded-for", "forwarded"] = "none"

    @model_validator(mode="after")
    def _names_somebody(self) -> ProxySettings:
        """Refuse to take every address for the proxy's."""
        # With certificates, too: no hop would be a client's, and nobody's
        # connections would be counted.
        if any(one.endswith("/0") for one in self.networks):
            raise ValueError(
                "in a network of all addresses, everybody is the proxy"
            )
        return self

    def trusted(self) -> TrustedProxy:
        """Return the proxy as the listener knows it."""
        return TrustedProxy(
            networks=tuple(map(ip_network, self.networks)),
            certificates=frozenset(self.certificates),
            form=self.format,
            header=self.header or _PROXY_HEADERS[self.format],
            address=self.client_address,
        )


#: Where proxies write the certificate if nothing else is said.
_PROXY_HEADERS = {
    "rfc9440": "client-cert",
    "pem": "x-ssl-client-cert",
    "base64": "x-ssl-client-cert",
    "xfcc": "x-forwarded-client-cert",
}


class HTTPSListener(Section):
    """
    The TLS listener that all protocols share.

    :ivar names: what the automatic server certificate is for.
    :ivar certificate: ``auto``, or files.
    :ivar old_with_new: whether the automatic one comes with OldWithNew while
        a CA with another root is prepared.
    :ivar proxy: who may speak for clients; nobody if it is left out.
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
    old_with_new: bool = True
    proxy: ProxySettings | None = None

    def trusted_proxy(self) -> TrustedProxy | None:
        """Return who may speak for clients."""
        return None if self.proxy is None else self.proxy.trusted()


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


class CRLSettings(Section):
    """
    When an authority's CRLs are signed.

    :ivar lifetime: of a CRL, at most.
    :ivar interval: after which another is signed in any case.
    :ivar delta_interval: likewise of the delta CRL; zero: there is none.
    :ivar pause: at least so long between two of one scope.
    :ivar partitions: into how many new certificates are divided.
    """

    lifetime: Duration = 7 * 86400
    interval: Duration = 86400
    delta_interval: Duration = 0
    pause: Duration = 60
    partitions: Literal[1, 2, 4, 8, 16, 32, 64] = 1

    @model_validator(mode="after")
    def _fits(self) -> CRLSettings:
        """Refuse times that leave a moment without a CRL."""
        if self.interval < 60:
            raise ValueError("interval must be at least 1m")
        if self.lifetime < 2 * self.interval:
            raise ValueError(
                "lifetime must be at least twice the interval, so that there "
                "is time to mend what fails"
            )
        if self.delta_interval and not (
            60 <= self.delta_interval < self.interval
        ):
            raise ValueError(
                "delta_interval must be at least 1m and less than interval; "
                "0s for no delta CRL"
            )
        return self

    def schedule(self) -> Schedule:
        """Return the times as the publisher takes them."""
        return Schedule(
            lifetime=timedelta(seconds=self.lifetime),
            interval=timedelta(seconds=self.interval),
            delta_interval=timedelta(seconds=self.delta_interval),
            pause=timedelta(seconds=self.pause),
        )


class URLSettings(Section):
    """
    What certificates point to, where that does not follow from the public
    URL; an empty list leaves a pointer out.

    :ivar crl: of the full CRL.
    :ivar partition: of a partition's; ``{partition}`` stands for it.
    :ivar delta: of the delta CRL.
    :ivar ocsp: of the OCSP responder.
    :ivar issuer: of the CA certificate.
    """

    crl: tuple[PointerURL, ...] | None = None
    partition: tuple[PartitionURL, ...] | None = None
    delta: tuple[PointerURL, ...] | None = None
    ocsp: tuple[PointerURL, ...] | None = None
    issuer: tuple[PointerURL, ...] | None = None


class AuthoritySettings(Section):
    """
    One issuing CA.

    :ivar certificate: PEM file of the CA certificate.
    :ivar key: reference to its private key.
    :ivar passphrase: reference to the key's passphrase, if it has one.
    :ivar chain: PEM files of the CAs above it, in order, the root last.
    :ivar public_url: what the URLs in certificates begin with; ``auto``: as
        the gateway listens; ``none``: there are none.
    :ivar urls: those that are others.
    :ivar crl: when its CRLs are signed.
    :ivar renewal_spread: for how long after another key has taken over the
        renewals of what the one before has signed are spread.
    """

    certificate: FilePath = Path("ca/issuing.pem")
    key: SecretReference = "file:ca/issuing.key"
    passphrase: SecretReference | None = None
    chain: tuple[FilePath, ...] = (Path("ca/root.pem"),)
    public_url: PublicURL = "auto"
    urls: URLSettings = URLSettings()
    crl: CRLSettings = CRLSettings()
    renewal_spread: Annotated[Duration, Field(le=3650 * 86400)] = 30 * 86400


class Limits(Section):
    """
    What bounds a peer.

    :ivar body: octets of a request's body.
    :ivar header_seconds: until the header is complete, from its first byte.
    :ivar body_seconds: likewise for the body.
    :ivar handshake_seconds: until the TLS handshake is complete.
    :ivar idle_seconds: that a connection may wait for its next request.
    :ivar write_seconds: until the peer has taken the answer, or 64 KiB of it.
    :ivar connections: open at once.
    :ivar connections_per_address: likewise, from one address.
    :ivar running: requests of one protocol that are worked on at once.
    :ivar waiting: requests of one protocol that wait for that.
    :ivar wait_seconds: that one waits before it is sent away.
    :ivar retry_window: in which the same request gets its certificate again.
    :ivar key_retention: in which an ``Idempotency-Key`` is remembered.
    :ivar hold_timeout: in which a held request can be decided.
    :ivar held_requests: that wait for a person, of one principal.
    :ivar password_failures: a minute, for one address and for one name.
    :ivar outbound_calls: a minute, for one address: questions to who judges
        its challenges elsewhere.
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
    held_requests: Count = 1000
    password_failures: Count = 10
    outbound_calls: Count = 600


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
