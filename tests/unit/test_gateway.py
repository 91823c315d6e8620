# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.gateway`."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve
from conftest import LoggedFailures
from test_authorities import Bench
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.python.failure import Failure

from trstctl.backends.keyfiles import read_certificates
from trstctl.backends.signers import InlineSigner
from trstctl.config.reader import load
from trstctl.config.secrets import SecretError
from trstctl.discovery import discover
from trstctl.errors import Unavailable
from trstctl.founding import load_key
from trstctl.gateway import Gateway
from trstctl.model import SYSTEM_TENANT, Phase
from trstctl.serving import process
from trstctl.serving.faults import StartFault
from trstctl.serving.threads import Threads
from trstctl.testing import (
    EPOCH,
    DeterministicBytes,
    MemoryStore,
    WallClock,
    result_of,
)


class Reactor(MemoryReactorClock):
    """A reactor in memory, whose only thread is this one."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: int | None = None

    def listenTCP(self, port: int, *args: Any, **kwargs: Any) -> Any:
        """Listen, unless somebody else does."""
        if port == self.taken:
            raise CannotListenError("", port, OSError(98, "in use"))
        return super().listenTCP(port, *args, **kwargs)

    def callFromThread(self, function: Any, *args: Any, **kw: Any) -> None:
        """Call at once."""
        function(*args, **kw)


class Here(Threads):
    """No threads: everything is done at once."""

    started = False

    def start(self) -> None:
        """Begin."""
        self.started = True

    def stop(self) -> None:
        """End."""
        self.started = False

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Do it."""
        return maybeDeferred(function, *args)

    def signer(self, key: Any) -> Any:
        """Sign at once."""
        return InlineSigner(key)


class Stores:
    """Makes the store of a test, instead of one on the disk."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.made: list[str] = []

    def make(self, url: str, *, reactor: object) -> MemoryStore:
        """Return it."""
        self.made.append(url)
        return self.store


class Host:
    """A gateway in memory, over a state directory."""

    def __init__(self, files: Bench) -> None:
        self.files = files
        self.reactor = Reactor()
        self.now = WallClock()
        self.stores = Stores()
        self.discovery = evolve(discover(), backends={"sqlite": self.stores})
        self.read: Callable[[], Any] = lambda: self.files.config
        self.events: list[dict[str, Any]] = []
        self.gateway = self.build()

    def build(self) -> Any:
        """Return a gateway by what the file says now."""
        self.gateway = Gateway(
            self.files.config,
            read_again=self._read_again,
            discovery=self.discovery,
            reactor=self.reactor,
            now=self.now,
            random_bytes=DeterministicBytes("gateway"),
        )
        return self.gateway

    def _read_again(self) -> Any:
        """Read the file, in the way of this moment."""
        return self.read()

    def start(self) -> Any:
        """Start it."""
        result_of(self.gateway.start())
        return self.gateway

    def refusal(self) -> str:
        """Return why it does not start."""
        with pytest.raises(StartFault) as caught:
            self.start()
        return str(caught.value)

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return what the log has of an event."""
        return [one for one in self.events if one.get("event") == event]

    def audited(self) -> list[str]:
        """Return the beginnings and the end, as the audit log has them."""
        records = result_of(
            self.stores.store.audit_records(SYSTEM_TENANT, 0, 100)
        )
        events = [json.loads(one.body) for one in records]
        names = [one["event"] for one in events]
        return [name for name in names if name.startswith("gateway.")]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Return a gateway that is not started, with its log."""
    monkeypatch.setattr("trstctl.gateway.Threads", Here)
    monkeypatch.setattr(process, "spare_the_collector", lambda: None)
    made = Host(Bench(tmp_path / "state"))
    globalLogPublisher.addObserver(made.events.append)
    yield made
    globalLogPublisher.removeObserver(made.events.append)


class StartTests:
    """G-1: all or nothing."""

    def test_everything_serves(self, host: Host) -> None:
        """All listen, the start is audited, and the log says so."""
        gateway = host.start()
        assert {"https", "ops"} == set(gateway.listening())
        assert 2 == len(host.reactor.tcpServers)
        assert ["gateway.started"] == host.audited()
        assert 1 == len(host.said("gateway.ready"))
        assert gateway.founded is None
        told = gateway.metrics.exposition().decode()
        assert "trstctl_requests_running 0.0" in told
        assert "trstctl_outbound_open_circuits 0.0" in told

    def test_request_ids(self, host: Host) -> None:
        """Each exchange has a random name."""
        gateway = host.start()
        made = {gateway._listeners._request_ids() for _ in range(10)}
        assert (10, {16}) == (len(made), {len(each) for each in made})

    def test_plain_http(self, host: Host) -> None:
        """Without TLS only on demand."""
        host.files.configure("listeners: {http: {enabled: true}}\n")
        host.build()
        assert {"https", "http", "ops"} == set(host.start().listening())

    def test_first_authority(self, host: Host, tmp_path: Path) -> None:
        """An empty state that names no authority gets one, and the log."""
        empty = tmp_path / "empty"
        empty.mkdir(mode=0o700)
        file = empty / "trstctl.yaml"
        file.write_text(host.files.file.read_text())
        host.files.config = load(file, host.discovery.protocols)
        host.build().check()
        founded = host.start().founded
        assert founded is not None
        (said,) = host.said("authority.founded")
        assert founded.fingerprints[0] == said["root_sha256"]

    def test_authority_that_is_missing(self, host: Host) -> None:
        """Nobody gets another CA for one that is gone; the remedy is told."""
        host.files.ca.rename(host.files.ca.with_name("away"))
        (host.files.file.parent / "trstctl.db").touch()
        with pytest.raises(StartFault, match="trstctl init --state"):
            host.gateway.check()
        assert "authority issuing" in host.refusal()
        assert [] == host.stores.made

    def test_key_that_is_missing(self, host: Host) -> None:
        """Where there is a CA, another one is no remedy."""
        (host.files.ca / "issuing.key").unlink()
        assert "trstctl init" not in host.refusal()

    def test_server_certificate_that_cannot_be_looked_at(
        self, host: Host
    ) -> None:
        """It is named where the configuration names it."""
        host.files.configure(
            "listeners: {https: {certificate: "
            "{chain: ca/issuing.pem/x, key: file:ca/issuing.key}}}\n"
        )
        host.build()
        assert host.refusal().startswith("listeners.https.certificate: ")

    def test_store_that_nobody_knows(self, host: Host) -> None:
        """The line names what is installed."""
        for backends, known in (({}, "none"), ({"other": 1}, "other")):
            host.discovery = evolve(host.discovery, backends=backends)
            host.build()
            assert host.refusal().endswith(
                f"no backend is called sqlite; installed: {known}"
            )

    def test_port_that_is_taken(self, host: Host) -> None:
        """The line names the port, and what can be done."""
        host.reactor.taken = host.files.config.listeners.ops.port
        text = host.refusal()
        assert text.startswith(f"port {host.reactor.taken} on 127.0.0.1")
        assert "in use; choose another port" in text
        assert ["https"] == list(host.gateway.listening())
        result_of(host.gateway.stop())

    @pytest.mark.parametrize(
        "error",
        [
            SecretError("env:A: the secret is empty"),
            ValueError("env:A: too short"),
            FileNotFoundError(2, "No such file", "key.pem"),
        ],
    )
    def test_protocol_that_cannot_be_made(
        self, host: Host, error: Exception
    ) -> None:
        """The line names the file of the configuration and the reason."""

        def make_resource(*_: object) -> Any:
            raise error

        plugin: Any = SimpleNamespace(make_resource=make_resource)
        host.discovery = evolve(host.discovery, protocols={"est": plugin})
        host.build()
        assert f"{host.files.file}: {error}" == host.refusal()

    def test_stop_while_starting(self, host: Host) -> None:
        """G-3: who is stopped does not begin to listen."""
        waiting: Deferred[Any] = Deferred()
        listed = host.stores.store.list_generations
        store: Any = host.stores.store
        store.list_generations = lambda: waiting
        host.gateway._start()
        result_of(host.gateway.stop())
        listed().chainDeferred(waiting)
        assert [] == host.reactor.tcpServers
        assert 1 == len(host.said("start.stopped"))

    @pytest.mark.parametrize(
        ("error", "text"),
        [(StartFault("no key"), "no key"), (KeyError("k"), "see the log")],
    )
    def test_start_that_fails(
        self,
        host: Host,
        monkeypatch: pytest.MonkeyPatch,
        logged: LoggedFailures,
        error: Exception,
        text: str,
    ) -> None:
        """One line for the operator; a fault of our own is in the log."""
        told: list[str] = []
        monkeypatch.setattr(process, "fail", told.append)
        host.gateway._start_failed(Failure(error))
        assert [f"trstctl cannot start: {text}"] == told
        assert host.reactor.hasStopped
        logged.flush(KeyError)
        assert 1 == len(host.said("start.failed"))


class ServiceTests:
    """What twistd does with a gateway."""

    def test_life(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        """It starts with the reactor, heeds signals, and drains."""
        caught: dict[int, Any] = {}
        monkeypatch.setattr(signal, "signal", caught.__setitem__)
        parent: Any = MultiService()
        components: dict[Any, Any] = {}
        parent.setComponent = components.__setitem__
        host.gateway.setServiceParent(parent)
        assert ILogObserver in components
        parent.startService()
        assert [] == host.reactor.tcpServers
        for begin, args, kwargs in host.reactor.whenRunningHooks:
            begin(*args, **kwargs)
        assert 1 == len(host.said("gateway.ready"))
        caught[signal.SIGHUP](signal.SIGHUP, None)
        assert 1 == len(host.said("reload.done"))
        ended = parent.stopService()
        result_of(ended)
        caught[signal.SIGTERM](signal.SIGTERM, None)
        assert 1 == len(host.said("stop.hurried"))
        assert ["gateway.started", "gateway.reloaded", "gateway.stopped"] == (
            host.audited()
        )
        assert not host.gateway._threads.started

    def test_hurry_before_the_drain(self, host: Host) -> None:
        """A second signal may come before there is anything to wait for."""
        host.gateway._hurry()
        assert 1 == len(host.said("stop.hurried"))

    def test_stop_that_was_never_started(self, host: Host) -> None:
        """Nothing is left to close."""
        result_of(host.gateway.stop())
        assert [] == host.said("stop.failed")

    def test_stop_goes_on(self, host: Host, logged: LoggedFailures) -> None:
        """G-3: a store that fails does not keep the process."""
        gateway = host.start()
        store: Any = gateway.store
        store.append_audit = lambda _: fail(Unavailable())
        result_of(gateway.stop())
        assert 1 == len(host.said("stop.failed"))
        assert 1 == len(logged.flush(Unavailable))
        assert not gateway._threads.started


class CheckTests:
    """What ``trstctl config check`` finds."""

    def test_good_one(self, host: Host) -> None:
        """All that is named is there and fits."""
        host.gateway.check()
        host.gateway.check_generations(())

    @pytest.mark.parametrize(
        "error", [SecretError("env:A"), Unavailable(), OSError(), ValueError()]
    )
    def test_file_of_a_protocol(
        self, host: Host, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        """The line names the configuration."""

        def open_files(*_: object) -> None:
            raise error

        kind = type(host.files.config.protocols["est"])
        monkeypatch.setattr(kind, "open_files", open_files)
        with pytest.raises(StartFault, match=r"trstctl\.yaml: "):
            host.gateway.check()

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            ("state", f"state: {'s' * 300}\n"),
            (
                "authorities",
                f"authorities: {{issuing: {{key: 'file:{'k' * 300}'}}}}\n",
            ),
        ],
    )
    def test_place_that_cannot_be_looked_at(
        self, host: Host, key: str, text: str
    ) -> None:
        """As below a directory of another user's: told in a line, too."""
        host.files.configure(text)
        with pytest.raises(StartFault, match=rf"trstctl\.yaml: {key}: "):
            host.build().check()

    def test_key_of_a_generation_that_cannot_be_looked_at(
        self, host: Host
    ) -> None:
        """Likewise."""
        made = host.files.generation(2, Phase.PREPARED)
        with pytest.raises(StartFault, match=r"trstctl\.yaml: authorities: "):
            host.gateway.check_generations(
                [evolve(made, key=f"file:{'k' * 300}")]
            )

    def test_server_certificate(self, host: Host) -> None:
        """One that the operator brings is opened, and has to be there."""
        text = "listeners: {https: {certificate: {chain: %s, key: %s}}}\n"
        chain, key = host.files.ca / "issuing.pem", "file:ca/issuing.key"
        host.files.configure(text % (chain, key))
        host.build().check()
        (host.files.ca / "other.pem").write_text("nothing")
        host.files.configure(text % (host.files.ca / "other.pem", key))
        with pytest.raises(StartFault) as caught:
            host.build().check()
        assert str(caught.value).startswith("listeners.https.certificate: ")

    def test_key_of_a_generation(self, host: Host) -> None:
        """Who is to sign has its key; who is only prepared may wait."""
        made = host.files.generation(2, Phase.PREPARED)
        host.files.remove("issuing-2")
        host.gateway.check_generations([made])
        with pytest.raises(StartFault, match=r"issuing-2 is to sign"):
            host.gateway.check_generations([evolve(made, phase=Phase.ACTIVE)])


class ReloadTests:
    """G-2: one swap."""

    def test_before_the_start(self, host: Host) -> None:
        """There is nothing to replace yet."""
        assert not result_of(host.gateway.reload())

    def test_while_stopping(self, host: Host) -> None:
        """There will be nothing to replace."""
        gateway = host.start()
        result_of(gateway.stop())
        assert not result_of(gateway.reload())

    def test_another_configuration(self, host: Host) -> None:
        """It is in force; the log names what needs a restart."""
        host.files.configure("listeners: {http: {enabled: true}}\n")
        gateway = host.build()
        host.start()
        resources = gateway._listeners.served
        host.files.configure(
            "listeners: {http: {enabled: true, port: 8181}}\n"
            "limits: {running: 3}\n"
        )
        assert result_of(gateway.reload())
        assert host.files.config is gateway.config
        assert resources is not gateway._listeners.served
        assert ["limits", "listeners"] == [
            one["section"] for one in host.said("reload.partial")
        ]

    @pytest.mark.parametrize(
        ("before", "after"), [(True, False), (False, True)]
    )
    def test_listener_that_comes_or_goes(
        self, host: Host, before: bool, after: bool
    ) -> None:
        """Without a restart it would stay, or lack, unsaid."""
        text = "listeners: {http: {enabled: %s}}\n"
        host.files.configure(text % before)
        gateway = host.build()
        host.start()
        host.files.configure(text % after)
        assert result_of(gateway.reload())
        assert ["listeners"] == [
            one["section"] for one in host.said("reload.partial")
        ]

    def test_place_of_a_listener_that_is_off(self, host: Host) -> None:
        """Nothing is different."""
        gateway = host.start()
        host.files.configure("listeners: {http: {port: 8181}}\n")
        assert result_of(gateway.reload())
        assert [] == host.said("reload.partial")

    def test_doubtful_pointers(self, host: Host) -> None:
        """Pointers that lead to this host only are told."""
        host.files.configure("listeners: {https: {names: [localhost]}}\n")
        text = host.files.file.read_text()
        host.files.file.write_text(
            text.replace("}}\n", "}, revocation: {enabled: true}}\n", 1)
        )
        host.files.config = load(host.files.file, host.discovery.protocols)
        host.build()
        host.start()
        (said,) = host.said("pointers.doubtful")
        assert "issuing" == said["authority"]

    def test_bad_one(self, host: Host) -> None:
        """Each fault has its line; the old one stays."""
        gateway = host.start()
        rules = gateway.ra.rules

        def read() -> Any:
            error = ValueError("all")
            error.faults = ("one", "other")  # type: ignore[attr-defined]
            raise error

        host.read = read
        assert not result_of(gateway.reload())
        assert ["one", "other"] == [
            one["reason"] for one in host.said("reload.refused")
        ]
        assert rules is gateway.ra.rules

    def test_fault_of_our_own(
        self, host: Host, logged: LoggedFailures
    ) -> None:
        """It is logged: nobody waits for a signal's outcome."""
        gateway = host.start()

        def read() -> Any:
            raise KeyError

        host.read = read
        assert not result_of(gateway.reload())
        assert 1 == len(host.said("reload.failed"))
        assert 1 == len(logged.flush(KeyError))


class RoundsTests:
    """What goes on while it serves."""

    def test_server_certificate(self, host: Host) -> None:
        """G-4: it is renewed in time, for new connections."""
        gateway = host.start()
        tls = gateway._changes.tls
        first = tls.certificate
        host.now.step(gateway._changes.certificate.not_after - EPOCH)
        host.reactor.advance(600)
        assert first != tls.certificate
        assert 1 == len(host.said("tls.renewed"))

    def test_certificate_that_is_in_force(self, host: Host) -> None:
        """It is kept while it lasts."""
        host.start()
        host.reactor.advance(600)
        assert [] == host.said("tls.renewed")

    def test_certificate_of_the_operator(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its key, which takes a while, is read once for each file."""
        ca, read = host.files.ca, []
        host.files.configure(
            "listeners: {https: {certificate: "
            "{chain: ca/issuing.pem, key: file:ca/issuing.key}}}\n"
        )
        host.build()

        def load(reference: str, *more: Any) -> Any:
            read.append(reference)
            return load_key(reference, *more)

        monkeypatch.setattr("trstctl.server_certificate.load_key", load)
        gateway = host.start()
        host.reactor.advance(600)
        assert 1 == len(read)
        for each in ("pem", "key"):
            (ca / f"root.{each}").rename(ca / f"issuing.{each}")
        host.reactor.advance(600)
        assert 2 == len(read)
        (root,) = read_certificates(ca / "issuing.pem")
        assert root == gateway._changes.tls.certificate

    def test_chain_of_the_operator(self, host: Host) -> None:
        """What is above the same certificate is shown once it is another."""
        ca = host.files.ca
        host.files.configure(
            "listeners: {https: {certificate: "
            "{chain: ca/shown.pem, key: file:ca/issuing.key}}}\n"
        )
        own = (ca / "issuing.pem").read_bytes()
        (ca / "shown.pem").write_bytes(own)
        host.build()
        gateway = host.start()
        (ca / "shown.pem").write_bytes(own + (ca / "root.pem").read_bytes())
        host.reactor.advance(600)
        shown = gateway._changes.tls.chain
        assert read_certificates(ca / "shown.pem") == shown
        assert 1 == len(host.said("tls.renewed"))

    def test_gauges(self, host: Host) -> None:
        """They are as the store, the authorities and the TLS key are."""
        gateway = host.start()
        changes = gateway._changes
        for not_after in (None, changes.certificate.not_after):
            result_of(
                gateway._reports.refresh(
                    gateway.store, changes.in_force, not_after
                )
            )
        told = gateway.metrics.exposition().decode()
        assert 'authority="issuing"' in told
        assert 'tenant="11111111-1111-1111-1111-111111111111"' in told
