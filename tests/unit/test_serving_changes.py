# SPDX-License-Identifier: MIT
"""How a gateway follows the rollover of a key, without a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from test_authorities import Bench
from twisted.internet.defer import Deferred, DeferredLock, fail, maybeDeferred
from twisted.logger import globalLogPublisher

from trstctl.authorities import AuthorityLoader
from trstctl.backends.signers import InlineSigner
from trstctl.config.model import Configuration
from trstctl.discovery import discover
from trstctl.errors import Unavailable
from trstctl.metrics import Metrics
from trstctl.model import Generation, Phase
from trstctl.server_certificate import ServerCertificate
from trstctl.serving.changes import Changes
from trstctl.serving.in_force import InForce
from trstctl.serving.served import Served
from trstctl.testing import (
    EPOCH,
    DeterministicBytes,
    MemoryStore,
    make_ra,
    result_of,
)


class TLS:
    """Notes which chain is shown."""

    def __init__(self) -> None:
        self.chains: list[tuple[bytes, ...]] = []

    def swap(self, chain: tuple[bytes, ...], key: object) -> None:
        """Show another chain."""
        self.chains.append(tuple(chain))


class Publisher:
    """Notes whose CRLs are published."""

    def __init__(self) -> None:
        self.issuers: list[str] = []

    def replace(self, issuers: Any) -> None:
        """Publish for others."""
        self.issuers = list(issuers)


class Listeners:
    """Notes what is served."""

    def __init__(self) -> None:
        self.served: list[Any] = []

    def replace(self, config: Configuration, served: Any) -> None:
        """Serve something else."""
        self.served.append(served)


class Host:
    """What changes in a gateway, over a state directory."""

    def __init__(self, folder: Path) -> None:
        self.files = Bench(folder)
        self.store: Any = MemoryStore()
        random_bytes = DeterministicBytes("host")
        loader = AuthorityLoader(InlineSigner)
        first = InForce.made_of(loader, self.files.config, ())
        self.ra = make_ra(self.store, authorities=first.loaded.authorities)
        self.ra.rules = first.rules
        self.publisher: Any = Publisher()
        self.tls: Any = TLS()
        self.listeners: Any = Listeners()
        self.recorded: list[str] = []

        def certify(in_force: InForce) -> ServerCertificate:
            return ServerCertificate(
                self.ra, in_force.rules, in_force.config, random_bytes
            )

        async def record(event: str) -> None:
            self.recorded.append(event)

        self.changes = Changes(
            in_force=first,
            certificate=certify(first),
            turn=DeferredLock(),
            store=self.store,
            ra=self.ra,
            publisher=self.publisher,
            metrics=Metrics(),
            tls=self.tls,
            listeners=self.listeners,
            loader=loader,
            elsewhere=self.load,
            read_again=lambda: self.files.config,
            certify=certify,
            serve=lambda config: Served.made_of(
                config, discover().protocols, self.ra
            ),
            recorded=record,
        )
        self.events: list[dict[str, Any]] = []
        # What is being read in a thread, once it takes its time.
        self.loading: list[Callable[[], Any]] | None = None

    def load(self, function: Callable[..., Any], *args: Any) -> Any:
        """Read at once, or when the test says so."""
        if self.loading is None:
            return maybeDeferred(function, *args)
        done: Deferred[Any] = Deferred()
        self.loading.append(lambda: done.callback(function(*args)))
        return done

    def follow(self) -> None:
        """Make a round."""
        globalLogPublisher.addObserver(self.events.append)
        result_of(self.changes.follow())
        globalLogPublisher.removeObserver(self.events.append)

    def reload(self) -> bool:
        """Reload, and tell whether the configuration is in place."""
        globalLogPublisher.addObserver(self.events.append)
        done: bool = result_of(self.changes.reload())
        globalLogPublisher.removeObserver(self.events.append)
        return done

    def shown(self) -> tuple[bytes, ...]:
        """Return what would be shown with the server's own certificate."""
        coming = InForce.made_of(
            AuthorityLoader(InlineSigner),
            self.files.config,
            result_of(self.store.list_generations()),
        )
        chain, _ = result_of(self.changes.certify(coming).current())
        return chain[1:]

    def add(self, **changes: Any) -> Generation:
        """Prepare a generation."""
        made = evolve(self.files.generation(2, Phase.PREPARED), **changes)
        result_of(self.store.add_generation(made, "operator:ann"))
        return made

    def advance(self, expected: Phase, phase: Phase) -> None:
        """Take the next step."""
        result_of(
            self.store.advance_generation(
                "issuing-2", expected, phase, "operator:ann", EPOCH
            )
        )

    @property
    def issuing(self) -> str:
        """The generation that issues."""
        name: str = self.ra.rules.succession("issuing").authority
        return name

    def said(self) -> list[str]:
        """Return the events of the log since the last look."""
        events = [one["event"] for one in self.events if "event" in one]
        self.events.clear()
        return [each for each in events if each.startswith("rollover.")]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Return a gateway."""
    return Host(tmp_path / "state")


class FollowTests:
    """Each step is put in place in one piece."""

    def test_nothing_to_follow(self, host: Host) -> None:
        """A round without a change changes nothing."""
        rules = host.ra.rules
        host.follow()
        assert rules is host.ra.rules
        assert ([], []) == (host.tls.chains, host.said())

    def test_every_step(self, host: Host) -> None:
        """Rules, CRLs and server certificate follow."""
        first = host.ra.rules.authorities["issuing"]
        made = host.add()
        host.follow()
        assert "issuing" == host.issuing
        assert ["issuing", "issuing-2"] == host.publisher.issuers
        assert [first.chain[0]] == [host.tls.chains[-1][1]]
        host.advance(Phase.PREPARED, Phase.ACTIVE)
        host.follow()
        assert "issuing-2" == host.issuing
        assert made.chain[:1] == host.tls.chains[-1][1:]
        host.advance(Phase.ACTIVE, Phase.FINISHED)
        host.follow()
        found = host.ra.rules.succession("issuing")
        assert (made.chain, ()) == (found.certificates, found.accepted)
        assert {"issuing"} == host.changes.in_force.loaded.retired
        assert ["rollover.followed"] * 3 == host.said()
        # What has not changed was kept all the time.
        assert first is host.ra.rules.authorities["issuing"]

    def test_key_that_comes_later(self, host: Host) -> None:
        """An activation is followed once the key is on this host."""
        host.add()
        host.advance(Phase.PREPARED, Phase.ACTIVE)
        host.files.remove("issuing-2")
        host.follow()
        assert "issuing" == host.issuing
        assert "issuing-2" in host.changes.in_force.loaded.needed
        assert ["issuing"] == host.publisher.issuers
        assert ["rollover.followed", "rollover.keyless"] == host.said()
        host.follow()
        assert [] == host.said()
        away = host.files.ca / "issuing-2.away"
        away.rename(host.files.ca / "issuing-2.key")
        host.follow()
        assert "issuing-2" == host.issuing

    def test_key_that_is_destroyed(self, host: Host) -> None:
        """Nothing is published of a retired key once it has gone."""
        host.add()
        host.advance(Phase.PREPARED, Phase.ACTIVE)
        host.advance(Phase.ACTIVE, Phase.FINISHED)
        host.follow()
        assert ["issuing", "issuing-2"] == host.publisher.issuers
        host.said()
        host.files.remove("issuing")
        host.follow()
        assert ["issuing-2"] == host.publisher.issuers
        assert {"issuing-2"} == set(host.ra.rules.authorities)
        assert ["rollover.followed"] == host.said()
        host.follow()
        assert [] == host.said()

    def test_reload_without_the_key(self, host: Host) -> None:
        """A reload that goes back to the old key says why."""
        host.add()
        host.advance(Phase.PREPARED, Phase.ACTIVE)
        host.follow()
        host.said()
        host.files.remove("issuing-2")
        assert host.reload()
        assert "issuing" == host.issuing
        assert ["rollover.keyless"] == host.said()

    def test_key_that_is_another(self, host: Host) -> None:
        """The old rules stay; the reason is said once."""
        made = host.add()
        key = host.files.ca / "issuing-2.key"
        away = key.rename(host.files.ca / "away")
        key.symlink_to(host.files.ca / "issuing.key")
        rules = host.ra.rules
        for said in (["rollover.unfollowed"], []):
            host.follow()
            assert rules is host.ra.rules
            assert said == host.said()
        key.unlink()
        away.rename(key)
        host.follow()
        assert made.name in host.ra.rules.authorities
        assert ["rollover.followed"] == host.said()

    def test_store_that_is_away(self, host: Host) -> None:
        """The next round looks again; the log is not filled."""
        host.add()
        found = host.store.list_generations
        host.store.list_generations = lambda: fail(Unavailable())
        host.follow()
        assert [] == host.said()
        host.store.list_generations = found
        host.follow()
        assert ["rollover.followed"] == host.said()

    def test_stopping(self, host: Host) -> None:
        """A gateway that stops follows nothing any more."""
        host.add()
        host.changes.over = True
        rules = host.ra.rules
        host.follow()
        assert rules is host.ra.rules
        # Nor is it told of what the stop has closed.
        (host.files.ca / "issuing-2.key").write_text("")
        host.follow()
        assert [] == host.said()

    @pytest.mark.parametrize("change", ["follow", "reload"])
    def test_keys_are_read_elsewhere(self, host: Host, change: str) -> None:
        """RSA's take a while, passphrases longer: nobody waits for it."""
        host.add()
        rules, host.loading = host.ra.rules, []
        Deferred.fromCoroutine(getattr(host.changes, change)())
        (load,) = host.loading
        assert rules is host.ra.rules
        load()
        assert "issuing-2" in host.ra.rules.authorities

    @pytest.mark.parametrize("change", ["follow", "reload"])
    def test_stop_while_keys_are_read(self, host: Host, change: str) -> None:
        """What is read too late is put in place no more."""
        host.add()
        rules, host.loading = host.ra.rules, []
        outcome: list[object] = []
        changing = Deferred.fromCoroutine(getattr(host.changes, change)())
        changing.addCallback(outcome.append)
        host.changes.over = True
        (load,) = host.loading
        load()
        assert not outcome[0]
        assert rules is host.ra.rules
        assert [] == host.recorded

    def test_links_are_shown(self, host: Host) -> None:
        """Who knows only the other root can verify the server."""
        issuing = host.changes.in_force.loaded.authorities["issuing"].chain[0]
        made = host.add(
            old_with_new=b"old with new", new_with_old=b"new with old"
        )
        assert (issuing, b"old with new") == host.shown()
        host.advance(Phase.PREPARED, Phase.ACTIVE)
        assert (made.chain[0], b"new with old") == host.shown()
        host.advance(Phase.ACTIVE, Phase.PREPARED)
        assert (issuing, b"old with new") == host.shown()
        host.advance(Phase.PREPARED, Phase.ACTIVE)
        host.advance(Phase.ACTIVE, Phase.FINISHED)
        assert made.chain[:1] == host.shown()

    def test_strict_devices(self, host: Host) -> None:
        """Who verifies all that is sent is not shown the next root early."""
        host.files.configure("listeners: {https: {old_with_new: false}}\n")
        issuing = host.changes.in_force.loaded.authorities["issuing"].chain[0]
        made = host.add(
            old_with_new=b"old with new", new_with_old=b"new with old"
        )
        assert (issuing,) == host.shown()
        host.advance(Phase.PREPARED, Phase.ACTIVE)
        assert (made.chain[0], b"new with old") == host.shown()

    def test_own_credentials_go_on(self, host: Host) -> None:
        """Those of the old key are not made anew at each step."""
        host.add()
        host.follow()
        before = host.ra.rules.authorities
        host.advance(Phase.PREPARED, Phase.ACTIVE)
        host.follow()
        after = host.ra.rules.authorities
        assert all(before[name] is after[name] for name in before)
