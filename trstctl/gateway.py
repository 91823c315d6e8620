# SPDX-License-Identifier: MIT
"""
The gateway as a service: puts the parts together, starts, reloads, drains.

Theory of operation
===================

G-1  *All or nothing.*  Everything that can be wrong is found before the
     first socket listens; a start that fails says so in one line.
G-2  *Reload is one swap.*  A reload builds authorities, profiles, resources
     and TLS context anew, and only when all of them stand are they put in
     place.  A bad file leaves the old ones at work.  Requests under way keep
     what they began with.  One change at a time: what was asked for last is
     what stays.  A step of a key's rollover, which the store tells of, is put
     in place in the same way.
G-3  *Drain.*  A stop closes the listeners first, lets what is under way
     finish within a bound, waits for every signature, and closes the store
     last.  A second signal ends the waiting for clients.  Whatever fails on
     the way, the process ends.
G-4  *The gateway's own certificates* go the way of every other and are
     renewed without a restart; see :mod:`trstctl.own_keys`.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import (
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
)
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from trstctl.admission import Admission
from trstctl.authorities import (
    AuthorityFault,
    AuthorityLoader,
    Loaded,
    key_place,
)
from trstctl.backends.authenticators import StoreAuthenticator
from trstctl.backends.credentials import KeyCredential
from trstctl.backends.keyfiles import KeyFileError
from trstctl.backends.signers import make_signer
from trstctl.ca.edition import Issuer
from trstctl.ca.publisher import Publisher
from trstctl.challenges import ChallengeTokens, key_ring
from trstctl.config.model import Configuration
from trstctl.config.places import (
    doubt_about,
    issuer_of,
    over_tls,
    places_of,
)
from trstctl.config.reader import ConfigurationError
from trstctl.config.secrets import SecretError
from trstctl.discovery import Discovery, DiscoveryError
from trstctl.errors import TrstctlError, Unavailable
from trstctl.founding import (
    CA_DIRECTORY,
    Founded,
    found_whole,
    is_untouched,
)
from trstctl.http.exchange import Root
from trstctl.http.site import Site, report_exchange
from trstctl.interfaces import IBackendFactory, IStore
from trstctl.key_maker import KeyMaker
from trstctl.log import JSONLogObserver, LogFile
from trstctl.metrics import Metrics
from trstctl.model import SYSTEM_TENANT, AuditEvent, Generation
from trstctl.ops import Readiness, make_ops_root
from trstctl.outbound import Connections, Outbound
from trstctl.own_keys import OwnCredentials
from trstctl.pkix.certificate import read_certificate
from trstctl.policy.profile import Profile
from trstctl.policy.settings import GATEWAY_PROFILE, gateway_profiles
from trstctl.ra import RegistrationAuthority, unmarked
from trstctl.rules import Rules, Windows
from trstctl.server_certificate import ServerCertificate, read_files
from trstctl.tls import ServerTLS, make_context, wrap_site
from trstctl.vouching import DeviceSecrets
from trstctl.web import Limits, make_root, make_site

#: Seconds that a stop waits for requests under way.
_DRAIN_SECONDS = 30.0

#: Threads for password hashes, and for slow signatures.
_HASHING_THREADS = 2
_SIGNING_THREADS = max(2, os.cpu_count() or 2)

#: How often the rounds are made in the life of a lease.
_ROUNDS = 4

#: How often the CRLs are looked at, in seconds.
_CRL_SECONDS = 5.0

#: How often the store is asked for steps of a rollover, in seconds.
_GENERATION_SECONDS = 2.0

#: How often the server certificate is looked at, in seconds.
_CERTIFICATE_SECONDS = 600.0

#: How often protocols do their rounds, in seconds.
_PROTOCOL_SECONDS = 300.0


class StartFault(Exception):
    """The gateway cannot start.  The text is one line with the remedy."""


#: What keeps a change from being put in place.
_REFUSALS = (
    ConfigurationError,
    DiscoveryError,
    KeyFileError,
    OSError,
    SecretError,
    StartFault,
    TrstctlError,
    ValueError,
)


class Gateway(Service):
    """
    Everything between the configuration file and the sockets.

    :param config: checked.
    :param read_again: reads the configuration file again, for a reload.
    :param now: the wall clock, UTC.
    :param reached: called with the name of each failure point.
    """

    name = "trstctl"
    _log = Logger()

    def __init__(
        self,
        config: Configuration,
        *,
        read_again: Callable[[], Configuration],
        discovery: Discovery,
        reactor: Any,
        now: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        reached: Callable[[str], None] = unmarked,
    ) -> None:
        self.config = config
        self._read_again = read_again
        self._discovery = discovery
        self._reactor = reactor
        self._now = now
        self._random_bytes = random_bytes
        self._reached = reached
        self._hashing = ThreadPool(0, _HASHING_THREADS, "hashing")
        self._signing_pool = ThreadPool(0, _SIGNING_THREADS, "signing")
        self._loops: list[LoopingCall] = []
        self._ports: list[IListeningPort] = []
        self._sites: list[Site] = []
        self._served: list[Any] = []
        self._log_file: LogFile | None = None
        self._lines: JSONLogObserver | None = None
        # Start, reloads and renewals of the certificate: one at a time.
        self._changing = DeferredLock()
        self._loader = AuthorityLoader(
            lambda key: make_signer(key, self._signing_pool, self._reactor),
            reached,
            self._run_slowly,
        )
        self._generations: tuple[Generation, ...] = ()
        self._loaded = Loaded()
        # Why the last step could not be followed: said once.
        self._unfollowed = ""
        self._ready = False
        self._stopping = False
        self._draining: Deferred[Any] | None = None
        self.metrics = Metrics()
        self.store: IStore
        self.ra: RegistrationAuthority
        self.founded: Founded | None = None

    # --- before the reactor runs --------------------------------------------

    def setServiceParent(self, parent: Any) -> None:
        """Attach, and make the JSON log the application's log."""
        parent.setComponent(ILogObserver, self.log_observer())
        super().setServiceParent(parent)

    def log_observer(self) -> ILogObserver:
        """Return what writes the log that the configuration asks for."""
        settings = self.config.log
        output: Any = sys.__stderr__
        if settings.file is not None:
            self._log_file = output = LogFile(settings.file)
        self._lines = JSONLogObserver(output, settings.level)
        return self._lines

    def _report(self, facts: Mapping[str, Any]) -> None:
        """
        Log one exchange, and count it.

        Straight into the JSON log, unless it is not the one in use:
        ``twistd --logger`` puts another in its place.
        """
        if self._lines is not None and self._lines.heard:
            self._lines.report(facts, self._now().timestamp())
        else:
            report_exchange(facts)
        self._measure(facts)

    def _measure(self, event: Mapping[str, Any]) -> None:
        """Count one exchange, from the facts of its log line."""
        protocol = event["protocol"] or "none"
        self.metrics.request(
            protocol,
            event["operation"] or "none",
            event["status"],
            event["duration_ms"] / 1000.0,
        )
        for algorithm in event.get("legacy", "").split():
            self.metrics.legacy(protocol, algorithm)
        if event["decision"] == "issued":
            self.metrics.issued(event["profile"])
        elif "error" in event:
            self.metrics.refused(protocol, event["error"])

    def check(self) -> None:
        """
        Open every file that the configuration names, and match them.

        :raises StartFault: a key or certificate is missing or does not fit.
        """
        if not self._may_found():
            # The store, which knows the generations, is not open yet.
            self._load_rules(self.config, self._load(self.config, None))
        for name, settings in self.config.protocols.items():
            try:
                settings.open_files(name)
            except (SecretError, TrstctlError, ValueError, OSError) as error:
                raise StartFault(f"{self.config.path}: {error}") from error
        files = self.config.listeners.https.certificate
        if not isinstance(files, str):
            with _server_certificate_faults():
                make_context(*read_files(files))

    def check_generations(self, generations: Sequence[Generation]) -> None:
        """
        Load the keys of a rollover that this host has to have.

        :raises StartFault: one is missing, or does not fit.
        """
        loaded = self._load(self.config, generations)
        for one in generations:
            if one.name in loaded.absent and one.name in loaded.needed:
                _, _, place = key_place(one.key, self.config.state).partition(
                    ":"
                )
                raise StartFault(
                    f"{place} is missing, and {one.name} is to sign; copy it "
                    "from the host that has prepared it"
                )

    # --- start --------------------------------------------------------------

    def startService(self) -> None:
        """Start everything; a failure stops the reactor, with one line."""
        super().startService()
        self._take_signals()
        self._reactor.callWhenRunning(self._start)

    def _start(self) -> None:
        """Begin, now that the reactor runs."""
        starting = Deferred.fromCoroutine(self.start())
        starting.addErrback(self._start_failed)

    def _start_failed(self, failure: Failure) -> None:
        """Say in one line why, and end the process with status 1."""
        if self._stopping:
            self._log.info("stopped while starting", event="start.stopped")
            return
        text = "see the log"
        if failure.check(StartFault, TrstctlError, OSError):
            text = failure.getErrorMessage()
            self._log.critical(
                "the gateway cannot start: {reason}",
                event="start.failed",
                reason=text,
            )
        else:
            self._log.failure(
                "the gateway cannot start",
                failure=failure,
                event="start.failed",
            )
        sys.__stderr__.write(f"trstctl cannot start: {text}\n")  # type: ignore[union-attr]
        sys.__stderr__.flush()  # type: ignore[union-attr]
        # twistd has no way to hand over an exit status; this comes after it
        # has removed its PID file.
        atexit.register(os._exit, 1)
        self._reactor.stop()

    async def start(self) -> None:
        """
        Open the store, take up what was left undone, and listen.

        :raises StartFault: something is missing or does not fit.
        """
        await self._changing.run(lambda: Deferred.fromCoroutine(self._begin()))

    async def _begin(self) -> None:
        """Start; a reload that comes meanwhile waits."""
        for pool in (self._hashing, self._signing_pool):
            pool.start()
        if self._may_found():
            self.founded = found_whole(
                self.config.state,
                now=self._now(),
                random_bytes=self._random_bytes,
            )
            self._log.warn(
                "a new root and issuing CA were made in {state}",
                event="authority.founded",
                state=str(self.config.state),
                root_sha256=self.founded.fingerprints[0],
            )
        # What is wrong with the files is said before a store is made.
        self._load(self.config, None)
        self.store = self._open_store()
        self._generations = tuple(await self.store.list_generations())
        self._loaded = self._load(self.config, self._generations)
        rules = self._load_rules(self.config, self._loaded)
        limits = self.config.limits
        self.ra = RegistrationAuthority(
            store=self.store,
            rules=rules,
            authenticator=StoreAuthenticator(
                self.store,
                lambda: self.ra.rules.authorities,
                self._reactor,
                self._hash_slowly,
                self._random_bytes,
                limits.password_failures,
            ),
            clock=self._reactor,
            now=self._now,
            random_bytes=self._random_bytes,
            owner=str(UUID(bytes=self._random_bytes(16), version=4)),
            windows=Windows(
                retry=timedelta(seconds=limits.retry_window),
                retention=timedelta(seconds=limits.key_retention),
                held=timedelta(seconds=limits.hold_timeout),
            ),
            reached=self._reached,
            elsewhere=self._run_slowly,
        )
        self.ra.outbound = outbound = Outbound(
            Connections(self._reactor),
            self._reactor,
            self._random_fraction,
            self.metrics.called,
        )
        self.metrics.observe(
            "trstctl_outbound_open_circuits",
            "Hosts that are left alone because they failed.",
            outbound.open_circuits,
        )
        self._credentials = OwnCredentials(
            self.ra,
            self.config.state,
            self._run_slowly,
            self._message_credential,
            self._random_bytes,
        )
        self.ra.credentials = self._credentials
        self.ra.challenges = ChallengeTokens(
            self.store,
            key_ring(self.config.state, self._random_bytes).keys,
            self._reactor,
            limits.password_failures,
        )
        self.ra.device_secrets = DeviceSecrets(
            self.store, self.ra.challenges, self._now, self._random_bytes
        )
        self.ra.key_maker = KeyMaker(self._run_slowly)
        self.publisher = Publisher(
            self.store,
            self._issuers(self.config, self._loaded),
            now=self._now,
            random_fraction=self._random_fraction,
            elsewhere=self._run_slowly,
            published=self.metrics.set_crl,
            failed=self.metrics.crl_failed,
        )
        self.ra.revocation = self.publisher
        # What was published is served from the first request on; what is
        # due is signed once everything listens.
        await self.publisher.load()
        await self.ra.tend()
        self.server_certificate = self._server_certificate(self.config, rules)
        with _server_certificate_faults():
            chain, key = await self.server_certificate.current()
            self._tls = ServerTLS(chain, key)
        await self._audit("gateway.started")
        if self._stopping:
            raise StartFault("it was stopped")
        self._listen()
        self.metrics.observe(
            "trstctl_requests_running",
            "Requests that are being answered now.",
            self._running,
        )
        self._keep_going()
        _spare_the_collector()
        self._ready = True
        self._log.info("the gateway is ready", event="gateway.ready")
        self._tell_generations(self._loaded)
        self._doubt_pointers(self.config)

    def _server_certificate(
        self, config: Configuration, rules: Rules
    ) -> ServerCertificate:
        """Return what finds or makes the server certificate."""
        return ServerCertificate(self.ra, rules, config, self._random_bytes)

    def _may_found(self) -> bool:
        """
        Tell whether a first authority may be made at this start.

        Only for a configuration that names none, on an empty state: else a
        volume that was not mounted would be answered with a new CA.
        """
        return not self.config.names_authorities and is_untouched(
            self.config.state, self.config.store
        )

    def _open_store(self) -> IStore:
        """Return the store that the configuration names, open."""
        prefix, _, _ = self.config.store.partition(":")
        factory: IBackendFactory | None = self._discovery.backends.get(prefix)
        if factory is None:
            known = ", ".join(sorted(self._discovery.backends)) or "none"
            raise StartFault(
                f"{self.config.path}: store: no backend is called {prefix}; "
                f"installed: {known}"
            )
        store: Any = factory.make(self.config.store, reactor=self._reactor)
        opened: IStore = store
        return opened

    def _load(
        self,
        config: Configuration,
        generations: Sequence[Generation] | None,
        former: Loaded | None = None,
    ) -> Loaded:
        """
        Load the authorities.

        :raises StartFault: naming the file and the remedy.
        """
        try:
            return self._loader.load(config, generations, former)
        except AuthorityFault as error:
            remedy = ""
            if not (self.config.state / CA_DIRECTORY).exists():
                # Not for a key that is merely unreadable: there is a CA.
                remedy = (
                    " (a new one is made by: trstctl init --state "
                    f"{self.config.state})"
                )
            raise StartFault(f"{error}{remedy}") from error

    def _load_rules(self, config: Configuration, loaded: Loaded) -> Rules:
        """Return authorities and profiles, as every request sees them."""
        blocked = frozenset(
            read_certificate(authority.certificate).public_key.fingerprint
            for authority in loaded.authorities.values()
        )
        own = gateway_profiles()
        # The first authority certifies the gateway.  RFC 5280, section 8:
        # the certificate of a server that pointers lead to over TLS MUST be
        # fit to be checked without them.
        if over_tls(places_of(config, next(iter(config.authorities)))):
            own[GATEWAY_PROFILE] = evolve(own[GATEWAY_PROFILE], pointers=())
        profiles = {
            name: Profile(name, settings, blocked)
            for name, settings in {**config.profiles, **own}.items()
        }
        return Rules(
            authorities=loaded.authorities,
            profiles=profiles,
            successions=loaded.successions,
        )

    def _issuers(
        self, config: Configuration, loaded: Loaded
    ) -> dict[str, Issuer]:
        """Return the authorities with what is published of them."""
        return {
            name: issuer_of(config, authority, loaded.configured[name])
            for name, authority in loaded.publishing.items()
        }

    def _run_slowly(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run what takes long in a signing thread."""
        return deferToThreadPool(
            self._reactor, self._signing_pool, function, *args
        )

    def _message_credential(
        self,
        key: CertificateIssuerPrivateKeyTypes,
        chain: tuple[bytes, ...],
    ) -> KeyCredential:
        """Return a key of the gateway's own, ready for use."""
        return KeyCredential(key, chain, self._signing_pool, self._reactor)

    def _hash_slowly(
        self, check: Callable[[str, str], bool], secret: str, verifier: str
    ) -> Awaitable[bool]:
        """Check a password off the reactor thread."""
        return deferToThreadPool(
            self._reactor, self._hashing, check, secret, verifier
        )

    # --- listening ----------------------------------------------------------

    def _listen(self) -> None:
        """Open all listeners, or none of them."""
        listeners = self.config.listeners
        try:
            secure, plain, self._served = self._roots(self.config)
        except (SecretError, ValueError, OSError) as error:
            raise StartFault(f"{self.config.path}: {error}") from error
        self._https = self._site(secure)
        self._https.proxy = listeners.https.trusted_proxy()
        self._listen_at(
            listeners.https.port,
            listeners.https.interface,
            wrap_site(self._tls, self._https, self._reactor),
        )
        self._http: Site | None = None
        if listeners.http.enabled:
            self._http = self._site(plain)
            self._listen_at(
                listeners.http.port, listeners.http.interface, self._http
            )
        self.readiness = Readiness(
            store=self.store,
            authorities=lambda: self._loaded.needed,
            server_not_after=lambda: self.server_certificate.not_after,
            crl_ends=self.publisher.ends,
            clock=self._reactor,
            now=self._now,
        )
        ops = make_ops_root(self.readiness, self.metrics, self._refresh)
        self._listen_at(
            listeners.ops.port,
            listeners.ops.interface,
            self._site(ops),
        )

    def _listen_at(self, port: int, interface: str, factory: Any) -> None:
        """Listen, or say which port is taken."""
        try:
            listening = self._reactor.listenTCP(
                port, factory, backlog=1024, interface=interface
            )
        except CannotListenError as error:
            reason = getattr(error.socketError, "strerror", None)
            raise StartFault(
                f"port {port} on {interface or 'all addresses'} cannot be "
                f"listened at: {reason or error.socketError}; choose another "
                "port, or stop who uses it"
            ) from error
        self._ports.append(listening)

    def listening(self) -> Mapping[str, int]:
        """Return the port of each listener that is open, by its name."""
        names = ["https", "ops"]
        if self._http is not None:
            names.insert(1, "http")
        found: dict[str, int] = {}
        for name, listener in zip(names, self._ports, strict=True):
            address: Any = listener.getHost()
            found[name] = address.port
        return found

    def _site(self, resource: Any) -> Site:
        """Return a site within the configured limits."""
        limits = self.config.limits
        site = make_site(
            resource,
            Limits(
                connections=limits.connections,
                connections_per_address=limits.connections_per_address,
                body=limits.body,
                handshake_seconds=limits.handshake_seconds,
                header_seconds=limits.header_seconds,
                body_seconds=limits.body_seconds,
                write_seconds=limits.write_seconds,
                idle_seconds=limits.idle_seconds,
            ),
            self._reactor,
            self._request_id,
            Admission(
                self._reactor,
                limits.running,
                limits.waiting,
                limits.wait_seconds,
            ),
        )
        site.report = self._report
        self._sites.append(site)
        return site

    def _roots(self, config: Configuration) -> tuple[Root, Root, list[Any]]:
        """
        Return what is served with TLS, what is served without, and each
        protocol's resource.
        """
        secure: dict[str, Any] = {}
        plain: dict[str, Any] = {}
        served = []
        for name, settings in config.protocols.items():
            plugin = self._discovery.protocols[name]
            made = plugin.make_resource(self.ra, settings)
            served.append(made)
            for path in plugin.paths(settings):
                secure[path] = made
                if plugin.plain_http():
                    plain[path] = made
        return make_root(secure), make_root(plain), served

    def _running(self) -> float:
        """Return how many requests hold a place now."""
        admissions = [site.admission for site in self._sites]
        return float(sum(one.running() for one in admissions if one))

    def _request_id(self) -> str:
        """Return 16 random characters."""
        return self._random_bytes(8).hex()

    def _random_fraction(self) -> float:
        """Return a float in [0, 1)."""
        return int.from_bytes(self._random_bytes(4), "big") / 2**32

    # --- running ------------------------------------------------------------

    def _keep_going(self) -> None:
        """Begin the rounds."""
        lease = self.ra.windows.lease.total_seconds()
        self._repeat(lease / _ROUNDS, self.ra.tend)
        self._repeat(_CERTIFICATE_SECONDS, self._renew_certificate)
        self._repeat(_CERTIFICATE_SECONDS, self._credentials.tend)
        self._repeat(_PROTOCOL_SECONDS, self._tend_protocols)
        self._repeat(_CRL_SECONDS, self.publisher.round, at_once=True)
        self._repeat(_GENERATION_SECONDS, self._follow)

    def _take_signals(self) -> None:
        """
        Take SIGHUP for a reload; while starting, for one thereafter.

        Left alone until then, it would end the process.
        """
        signal.signal(
            signal.SIGHUP,
            lambda *_: self._reactor.callFromThread(self.reload),
        )

    def _take_second_signal(self) -> None:
        """Let a second signal hurry the stop; Twisted's would only fail."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(
                number, lambda *_: self._reactor.callFromThread(self._hurry)
            )

    def _hurry(self) -> None:
        """Wait for no client any longer."""
        self._log.warn("the stop is hurried", event="stop.hurried")
        if self._draining is not None:
            self._draining.cancel()

    def _repeat(
        self,
        seconds: float,
        act: Callable[[], Awaitable[None]],
        *,
        at_once: bool = False,
    ) -> None:
        """Act every so many seconds; an error is logged, the next one runs."""

        async def safely() -> None:
            try:
                await act()
            except Exception:  # noqa: BLE001 - the rounds must go on
                self._log.failure("a round failed", event="round.failed")

        loop = LoopingCall(lambda: Deferred.fromCoroutine(safely()))
        loop.clock = self._reactor
        loop.start(seconds, now=at_once)
        self._loops.append(loop)

    async def _tend_protocols(self) -> None:
        """Let each protocol do what it does every few minutes."""
        for made in self._served:
            # A third party's resource may be any of twisted.web's.
            tend = getattr(made, "tend", None)
            if tend is None:
                continue
            try:
                await tend()
            except Unavailable as error:
                self._log.warn(
                    "a protocol could not do its rounds: {reason}",
                    event="round.unavailable",
                    protocol=getattr(made, "name", ""),
                    reason=str(error),
                )

    async def _renew_certificate(self) -> None:
        """Renew the server certificate in time, for new connections (G-4)."""
        await self._changing.run(
            lambda: Deferred.fromCoroutine(self._renew_if_due())
        )

    async def _renew_if_due(self) -> None:
        """Show another certificate, if there is a newer one."""
        chain, key = await self.server_certificate.current()
        if chain[0] != self._tls.certificate:
            self._tls.swap(chain, key)
            self._log.info(
                "the server certificate was renewed", event="tls.renewed"
            )

    async def _refresh(self) -> None:
        """Bring the gauges up to date."""
        for tenant_id in sorted(self.config.tenants):
            counts = await self.store.count_certificates(
                tenant_id, self._now()
            )
            self.metrics.set_inventory(tenant_id, counts)
        for name, authority in self._loaded.needed.items():
            self.metrics.set_authority_end(name, authority.not_after)
        if self.server_certificate.not_after is not None:
            self.metrics.set_tls_end(
                "https", self.server_certificate.not_after
            )

    # --- reload -------------------------------------------------------------

    def reload(self) -> Deferred[bool]:
        """
        Read the configuration again and put it in place (G-2).

        :returns: fires with whether the new one is in place; a bad one is
            logged, fault by fault, and changes nothing.
        """

        def begin() -> Deferred[bool]:
            return Deferred.fromCoroutine(self._reload())

        return self._changing.run(begin)

    async def _reload(self) -> bool:
        """Reopen the log, and reload, unless the gateway is stopping."""
        try:
            if self._log_file is not None:
                self._log_file.reopen()
            return self._ready and not self._stopping and await self._renewed()
        except Exception:  # noqa: BLE001 - nobody else would log it
            self._log.failure("a reload failed", event="reload.failed")
            return False

    async def _renewed(self) -> bool:
        """Build everything anew, and swap it in at the end."""
        old = self.config
        try:
            config = self._read_again()
            generations = tuple(await self.store.list_generations())
            loaded = self._load(config, generations)
            rules = self._load_rules(config, loaded)
            certificate = self._server_certificate(config, rules)
            roots = self._roots(config)
            chain, key = await certificate.current()
            make_context(chain, key)
            # The last that can fail: what nobody can record does not happen.
            await self._audit("gateway.reloaded")
        except _REFUSALS as error:
            for fault in getattr(error, "faults", None) or (error,):
                self._log.error(
                    "the configuration was not reloaded: {reason}",
                    event="reload.refused",
                    reason=str(fault),
                )
            return False
        self._tls.swap(chain, key)
        self._put_in_place(config, generations, loaded, rules, certificate)
        self._https.resource = roots[0]
        self._https.proxy = config.listeners.https.trusted_proxy()
        if self._http is not None:
            self._http.resource = roots[1]
        self._served = roots[2]
        self._say_what_needs_a_restart(old, config)
        self._log.info("the configuration was reloaded", event="reload.done")
        self._tell_absent(loaded)
        self._doubt_pointers(config)
        return True

    def _put_in_place(
        self,
        config: Configuration,
        generations: tuple[Generation, ...],
        loaded: Loaded,
        rules: Rules,
        certificate: ServerCertificate,
    ) -> None:
        """Work by these from now on."""
        self._generations, self._loaded = generations, loaded
        self.ra.rules = rules
        self.publisher.replace(self._issuers(config, loaded))
        self.metrics.keep_authorities(loaded.publishing)
        self.config, self.server_certificate = config, certificate

    # --- the rollover of a key ----------------------------------------------

    async def _follow(self) -> None:
        """Put in place what the store says of the authorities' keys (G-2)."""
        try:
            generations = tuple(await self.store.list_generations())
        except Unavailable:
            return  # the store is away, as the readiness report says
        if generations != self._generations or self._loaded.moved:
            await self._changing.run(
                lambda: Deferred.fromCoroutine(self._followed())
            )

    async def _followed(self) -> None:
        """Load the generations anew, and swap them in at the end."""
        if self._stopping:
            return
        config = self.config
        try:
            generations = tuple(await self.store.list_generations())
            loaded = self._load(config, generations, self._loaded)
            rules = self._load_rules(config, loaded)
            certificate = self._server_certificate(config, rules)
            chain, key = await certificate.current()
            make_context(chain, key)
        except _REFUSALS as error:
            if str(error) != self._unfollowed:
                self._log.error(
                    "a step of a rollover was not followed: {reason}",
                    event="rollover.unfollowed",
                    reason=str(error),
                )
            self._unfollowed = str(error)
            return
        self._unfollowed = ""
        self._tls.swap(chain, key)
        self._put_in_place(config, generations, loaded, rules, certificate)
        self._tell_generations(loaded)

    def _tell_generations(self, loaded: Loaded) -> None:
        """Say which generations issue, and which cannot be followed."""
        for name, now in loaded.successions.items():
            self._log.info(
                "{authority} issues with the key of {generation}",
                event="rollover.followed",
                authority=name,
                generation=now.authority,
                following=now.following,
            )
        self._tell_absent(loaded)

    def _tell_absent(self, loaded: Loaded) -> None:
        """Say whose key is not on this host."""
        for name in sorted(loaded.absent):
            self._log.error(
                "the key of {generation} is not on this host; copy its file",
                event="rollover.keyless",
                authority=loaded.configured[name],
                generation=name,
            )

    def _doubt_pointers(self, config: Configuration) -> None:
        """Warn of pointers that certificates would carry in vain."""
        for name in config.authorities:
            reason = doubt_about(config, name)
            if reason:
                self._log.warn(
                    "set authorities.{authority}.public_url: what it issues "
                    "points to where others may not look ({reason})",
                    event="pointers.doubtful",
                    authority=name,
                    reason=reason,
                )

    def _say_what_needs_a_restart(
        self, old: Configuration, new: Configuration
    ) -> None:
        """Warn of changes that a reload cannot put in place."""
        for key in ("state", "store", "limits", "log"):
            if getattr(old, key) != getattr(new, key):
                self._log.warn(
                    "a change of {section} needs a restart",
                    event="reload.partial",
                    section=key,
                )
        places = [
            [
                (each.port, each.interface)
                for each in (
                    config.listeners.https,
                    config.listeners.http,
                    config.listeners.ops,
                )
            ]
            for config in (old, new)
        ]
        if places[0] != places[1]:
            self._log.warn(
                "a change of {section} needs a restart",
                event="reload.partial",
                section="listeners",
            )

    # --- stop ---------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Drain and close; fires when nothing is left (G-3)."""
        super().stopService()
        self._take_second_signal()
        return Deferred.fromCoroutine(self.stop())

    async def stop(self) -> None:
        """Stop listening, finish what is under way, close the store."""
        self._stopping = True
        if hasattr(self, "readiness"):
            self.readiness.draining = True
        for loop in self._loops:
            loop.stop()
        for port in self._ports:
            await _settled(port.stopListening())
        self._draining = gatherResults([site.drain() for site in self._sites])
        self._draining.addTimeout(_DRAIN_SECONDS, self._reactor)
        await _settled(self._draining)
        if hasattr(self, "ra"):
            await self._in_any_case(self.ra.drain())
        if hasattr(self, "publisher"):
            await self._in_any_case(self.publisher.stop())
        if hasattr(self, "store"):
            await self._in_any_case(self._audit("gateway.stopped"))
            await self._in_any_case(self.store.close())
        for pool in (self._hashing, self._signing_pool):
            # A thread that is not told to end keeps the process alive.
            if pool.started:
                pool.stop()

    async def _in_any_case(self, step: Awaitable[None]) -> None:
        """Take a step of the stop; the next is taken, whatever comes of it."""
        try:
            await step
        except Exception:  # noqa: BLE001 - the process has to end
            self._log.failure("a step of the stop failed", event="stop.failed")

    async def _audit(self, event: str) -> None:
        """Write an act of the gateway itself into its own chain."""
        await self.store.append_audit(
            (
                AuditEvent(
                    tenant_id=SYSTEM_TENANT,
                    at=self._now(),
                    event=event,
                    actor="gateway",
                    fields={"configuration": str(self.config.path)},
                ),
            )
        )


def _spare_the_collector() -> None:
    """
    Keep the garbage collector from what lives as long as the process.

    A full collection of all modules and classes took 38 ms, in which nobody
    is answered; requests leave few cycles behind.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)


@contextmanager
def _server_certificate_faults() -> Iterator[None]:
    """Say where in the configuration the server certificate is named."""
    try:
        yield
    except (KeyFileError, SecretError, ValueError) as error:
        raise StartFault(f"listeners.https.certificate: {error}") from error


async def _settled(waiting: Any) -> None:
    """Wait for it, whatever comes of it."""
    done: Deferred[None] = Deferred()
    if waiting is None:
        return
    waiting.addBoth(lambda _: done.callback(None))
    await done
