# SPDX-License-Identifier: MIT
"""
The gateway as a service: puts the parts together, starts, reloads, drains.

Theory of operation
===================

G-1  *All or nothing.*  Everything that can be wrong is found before the
     first socket listens; a start that fails says so in one line.
G-2  *Reload is one swap*, after everything has been built anew; see
     :mod:`trstctl.serving.changes`.
G-3  *Drain.*  A stop closes the listeners first, lets what is under way
     finish within a bound, waits for every signature, and closes the store
     last.  A second signal ends the waiting for clients.  Whatever fails on
     the way, the process ends.
G-4  *The gateway's own certificates* go the way of every other and are
     renewed without a restart; see :mod:`trstctl.own_keys`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from trstctl.authorities import AuthorityLoader
from trstctl.ca.publisher import Publisher
from trstctl.config.model import Configuration
from trstctl.config.secrets import SecretError
from trstctl.discovery import Discovery
from trstctl.errors import TrstctlError
from trstctl.founding import Founded, found_whole, is_untouched
from trstctl.interfaces import IBackendFactory, IStore
from trstctl.metrics import Metrics
from trstctl.model import SYSTEM_TENANT, AuditEvent, Generation
from trstctl.ops import Readiness, make_ops_root
from trstctl.own_keys import OwnCredentials
from trstctl.ra import RegistrationAuthority, unmarked
from trstctl.server_certificate import ServerCertificate
from trstctl.serving import process
from trstctl.serving.changes import Changes
from trstctl.serving.faults import StartFault, server_certificate_faults
from trstctl.serving.files import check_files, file_faults
from trstctl.serving.in_force import InForce
from trstctl.serving.listeners import Listeners, settled
from trstctl.serving.registration import fraction, make_ra
from trstctl.serving.repeats import SECONDS as REPEAT_SECONDS
from trstctl.serving.reports import Reports
from trstctl.serving.rounds import Rounds
from trstctl.serving.served import Served
from trstctl.serving.threads import Threads
from trstctl.tls import ServerTLS

#: Seconds that a stop waits for requests under way.
_DRAIN_SECONDS = 30.0

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


class Gateway(Service):
    """
    Everything between the configuration file and the sockets.

    :param config: checked.
    :param read_again: reads the configuration file again, for a reload.
    :param now: the wall clock, UTC.
    :param reached: called with the name of each failure point.
    :ivar store: there once it is open, as are ``ra``, ``publisher`` and
        ``readiness`` once they stand.
    :ivar founded: what was made at this start, if it is the first.
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
        self._config = config
        self._read_again = read_again
        self._discovery = discovery
        self._reactor = reactor
        self._now = now
        self._random_bytes = random_bytes
        self._reached = reached
        self._threads = Threads(reactor)
        self._loader = AuthorityLoader(
            self._threads.signer, reached, self._threads.run
        )
        self.metrics = Metrics()
        self._reports = Reports(config.log, self.metrics, now)
        self._rounds = Rounds(reactor)
        self._listeners = Listeners(
            reactor, config.limits, self._request_id, self._reports.exchange
        )
        # Start, reloads and renewals of the certificate: one at a time.
        self._changing = DeferredLock()
        self._changes: Changes | None = None
        self._stopping = False
        self._draining: Deferred[Any] | None = None
        self.store: IStore
        self.ra: RegistrationAuthority
        self.publisher: Publisher
        self.readiness: Readiness
        self.founded: Founded | None = None

    @property
    def config(self) -> Configuration:
        """What the gateway works by."""
        changes = self._changes
        return self._config if changes is None else changes.in_force.config

    # --- before the reactor runs --------------------------------------------

    def setServiceParent(self, parent: Any) -> None:
        """Attach, and make the JSON log the application's log."""
        parent.setComponent(ILogObserver, self.log_observer())
        super().setServiceParent(parent)

    def log_observer(self) -> ILogObserver:
        """Return what writes the log that the configuration asks for."""
        return self._reports.log_observer()

    def check(self) -> None:
        """
        Open every file that the configuration names, and match them.

        :raises StartFault: one is missing or does not fit, or cannot be
            written.
        """
        with file_faults(self.config, "state"):
            may_found = self._may_found()
        if not may_found:
            # The store, which knows the generations, is not open yet.
            self._load(None)
        check_files(self.config)

    def check_generations(self, generations: Sequence[Generation]) -> None:
        """
        Load the keys of a rollover that this host has to have.

        :raises StartFault: one is missing, or does not fit.
        """
        self._load(generations).require_keys()

    def _load(self, generations: Sequence[Generation] | None) -> InForce:
        """Load the authorities, or say which file cannot be used."""
        with file_faults(self.config, "authorities"):
            return InForce.made_of(self._loader, self.config, generations)

    # --- start --------------------------------------------------------------

    def startService(self) -> None:
        """Start everything; a failure stops the reactor, with one line."""
        super().startService()
        process.take_reload_signal(self._reactor, self.reload)
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
        process.fail(f"trstctl cannot start: {text}")
        self._reactor.stop()

    async def start(self) -> None:
        """
        Open the store, take up what was left undone, and listen.

        A reload that comes meanwhile waits.

        :raises StartFault: something is missing or does not fit.
        """
        await self._changing.run(lambda: Deferred.fromCoroutine(self._begin()))

    async def _begin(self) -> None:
        """Start, one part upon the other."""
        self._threads.start()
        if self._may_found():
            self._found()
        # What is wrong with the files is said before a store is made.
        InForce.made_of(self._loader, self.config, None)
        self.store = self._open_store()
        in_force = InForce.made_of(
            self._loader, self.config, await self.store.list_generations()
        )
        self.ra = make_ra(
            self.config,
            in_force.rules,
            store=self.store,
            threads=self._threads,
            metrics=self.metrics,
            reactor=self._reactor,
            now=self._now,
            random_bytes=self._random_bytes,
            reached=self._reached,
        )
        self.ra.credentials = credentials = OwnCredentials(
            self.ra,
            self.config.state,
            self._threads.run,
            self._threads.credential,
            self._random_bytes,
        )
        self.publisher = Publisher(
            self.store,
            in_force.issuers(),
            now=self._now,
            random_fraction=lambda: fraction(self._random_bytes),
            elsewhere=self._threads.run,
            published=self.metrics.set_crl,
            failed=self.metrics.crl_failed,
        )
        self.ra.revocation = self.publisher
        # What was published is served from the first request on; what is
        # due is signed once everything listens.
        await self.publisher.load()
        await self.ra.tend()
        certificate = self._server_certificate(in_force)
        with server_certificate_faults():
            tls = ServerTLS(*await certificate.current())
        await self._audit("gateway.started")
        if self._stopping:
            raise StartFault("it was stopped")
        changes = Changes(
            in_force=in_force,
            certificate=certificate,
            turn=self._changing,
            store=self.store,
            ra=self.ra,
            publisher=self.publisher,
            metrics=self.metrics,
            tls=tls,
            listeners=self._listeners,
            loader=self._loader,
            elsewhere=self._threads.run,
            read_again=self._read_again,
            certify=self._server_certificate,
            serve=self._serve,
            recorded=self._audit,
        )
        self._listen(changes)
        self._keep_going(changes, credentials)
        process.spare_the_collector()
        self._changes = changes
        self._log.info("the gateway is ready", event="gateway.ready")
        changes.tell()

    def _may_found(self) -> bool:
        """
        Tell whether a first authority may be made at this start.

        Only for a configuration that names none, on an empty state: else a
        volume that was not mounted would be answered with a new CA.
        """
        return not self.config.names_authorities and is_untouched(
            self.config.state, self.config.store
        )

    def _found(self) -> None:
        """Make a first authority."""
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

    def _server_certificate(self, in_force: InForce) -> ServerCertificate:
        """Return what finds or makes the server certificate."""
        return ServerCertificate(
            self.ra, in_force.rules, in_force.config, self._random_bytes
        )

    def _serve(self, config: Configuration) -> Served:
        """Make what the configuration's protocols serve."""
        return Served.made_of(config, self._discovery.protocols, self.ra)

    def _listen(self, changes: Changes) -> None:
        """Open all listeners, or none of them."""
        try:
            served = self._serve(self.config)
        except (SecretError, ValueError, OSError) as error:
            raise StartFault(f"{self.config.path}: {error}") from error
        self.readiness = Readiness(
            store=self.store,
            authorities=lambda: changes.in_force.loaded.needed,
            server_not_after=lambda: changes.certificate.not_after,
            crl_ends=self.publisher.ends,
            clock=self._reactor,
            now=self._now,
        )
        ops = make_ops_root(
            self.readiness,
            self.metrics,
            lambda: self._reports.refresh(
                self.store, changes.in_force, changes.certificate.not_after
            ),
        )
        self._listeners.open(self.config, served, changes.tls, ops)
        self.metrics.observe(
            "trstctl_requests_running",
            "Requests that are being answered now.",
            self._listeners.running,
        )

    def _keep_going(
        self, changes: Changes, credentials: OwnCredentials
    ) -> None:
        """Begin the rounds."""
        lease = self.ra.windows.lease.total_seconds()
        repeat = self._rounds.repeat
        repeat(lease / _ROUNDS, self.ra.tend)
        repeat(_CERTIFICATE_SECONDS, changes.renew_certificate)
        repeat(_CERTIFICATE_SECONDS, credentials.tend)
        repeat(_PROTOCOL_SECONDS, self._listeners.tend)
        repeat(_CRL_SECONDS, self.publisher.round, at_once=True)
        repeat(_GENERATION_SECONDS, changes.follow)
        repeat(REPEAT_SECONDS, self._tell_repeats)

    # --- while it runs ------------------------------------------------------

    def listening(self) -> Mapping[str, int]:
        """Return the port of each listener that is open, by its name."""
        return self._listeners.ports()

    def reload(self) -> Deferred[bool]:
        """
        Read the configuration again and put it in place (G-2).

        :returns: fires with whether the new one is in place; a bad one is
            logged, fault by fault, and changes nothing.
        """
        return self._changing.run(
            lambda: Deferred.fromCoroutine(self._reload())
        )

    async def _reload(self) -> bool:
        """Reopen the log, and reload, unless the gateway is stopping."""
        try:
            self._reports.reopen()
            if self._changes is None or self._stopping:
                return False
            return await self._changes.reload()
        except Exception:  # noqa: BLE001 - nobody else would log it
            self._log.failure("a reload failed", event="reload.failed")
            return False

    async def _tell_repeats(self) -> None:
        """Have the log say what was left out of it."""
        self._reports.tell_repeats()

    def _request_id(self) -> str:
        """Return 16 random characters."""
        return self._random_bytes(8).hex()

    # --- stop ---------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Drain and close; fires when nothing is left (G-3)."""
        super().stopService()
        process.take_stop_signals(self._reactor, self._hurry)
        return Deferred.fromCoroutine(self.stop())

    async def stop(self) -> None:
        """Stop listening, finish what is under way, close the store."""
        self._stopping = True
        if hasattr(self, "readiness"):
            self.readiness.draining = True
        if self._changes is not None:
            self._changes.over = True
        self._rounds.stop()
        await self._listeners.close()
        self._draining = self._listeners.drain()
        self._draining.addTimeout(_DRAIN_SECONDS, self._reactor)
        await settled(self._draining)
        if hasattr(self, "ra"):
            await self._in_any_case(self.ra.drain())
        if hasattr(self, "publisher"):
            await self._in_any_case(self.publisher.stop())
        if hasattr(self, "store"):
            await self._in_any_case(self._audit("gateway.stopped"))
            await self._in_any_case(self.store.close())
        self._threads.stop()
        self._reports.tell_repeats()

    def _hurry(self) -> None:
        """Wait for no client any longer."""
        self._log.warn("the stop is hurried", event="stop.hurried")
        if self._draining is not None:
            self._draining.cancel()

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
