# SPDX-License-Identifier: MIT
"""How a gateway follows the rollover of a key, without a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve
from test_authorities import Bench
from twisted.internet.defer import fail
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher

from trstctl.discovery import discover
from trstctl.errors import Unavailable
from trstctl.gateway import Gateway
from trstctl.model import Generation, Phase
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


class Host:
    """A gateway in memory, over a state directory."""

    def __init__(self, folder: Path) -> None:
        self.files = Bench(folder)
        self.store: Any = MemoryStore()
        random_bytes = DeterministicBytes("host")
        self.gateway: Any = Gateway(
            self.files.config,
            read_again=lambda: self.files.config,
            discovery=discover(),
            reactor=MemoryReactorClock(),
            now=lambda: EPOCH,
            random_bytes=random_bytes,
        )
        gateway = self.gateway
        gateway._loaded = gateway._load(self.files.config, ())
        gateway.store = self.store
        gateway.ra = make_ra(
            self.store, authorities=gateway._loaded.authorities
        )
        gateway.ra.rules = gateway._load_rules(
            self.files.config, gateway._loaded
        )
        gateway.publisher = self.publisher = Publisher()
        gateway._tls = self.tls = TLS()
        self.events: list[dict[str, Any]] = []

    def follow(self) -> None:
        """Make a round."""
        globalLogPublisher.addObserver(self.events.append)
        result_of(self.gateway._follow())
        globalLogPublisher.removeObserver(self.events.append)

    def reload(self) -> bool:
        """Reload, and tell whether the configuration is in place."""
        self.gateway._https, self.gateway._http = SimpleNamespace(), None
        self.gateway._ready = True
        globalLogPublisher.addObserver(self.events.append)
        done: bool = result_of(self.gateway.reload())
        globalLogPublisher.removeObserver(self.events.append)
        return done

    def shown(self) -> tuple[bytes, ...]:
        """Return what would be shown with the server's own certificate."""
        config = self.files.config
        rules = self.gateway._load_rules(
            config,
            self.gateway._load(
                config, result_of(self.store.list_generations())
            ),
        )
        certificate = self.gateway._server_certificate(config, rules)
        chain, _ = result_of(certificate.current())
        others: tuple[bytes, ...] = chain[1:]
        return others

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
        name: str = self.gateway.ra.rules.succession("issuing").authority
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
        rules = host.gateway.ra.rules
        host.follow()
        assert rules is host.gateway.ra.rules
        assert ([], []) == (host.tls.chains, host.said())

    def test_every_step(self, host: Host) -> None:
        """Rules, CRLs and server certificate follow."""
        first = host.gateway.ra.rules.authorities["issuing"]
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
        found = host.gateway.ra.rules.succession("issuing")
        assert (made.chain, ()) == (found.certificates, found.accepted)
        assert {"issuing"} == host.gateway._loaded.retired
        assert ["rollover.followed"] * 3 == host.said()
        # What has not changed was kept all the time.
        assert first is host.gateway.ra.rules.authorities["issuing"]

    def test_key_that_comes_later(self, host: Host) -> None:
        """An activation is followed once the key is on this host."""
        host.add()
        host.advance(Phase.PREPARED, Phase.ACTIVE)
        host.files.remove("issuing-2")
        host.follow()
        assert "issuing" == host.issuing
        assert "issuing-2" in host.gateway._loaded.needed
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
        assert {"issuing-2"} == set(host.gateway.ra.rules.authorities)
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
        rules = host.gateway.ra.rules
        for said in (["rollover.unfollowed"], []):
            host.follow()
            assert rules is host.gateway.ra.rules
            assert said == host.said()
        key.unlink()
        away.rename(key)
        host.follow()
        assert made.name in host.gateway.ra.rules.authorities
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
        host.gateway._stopping = True
        rules = host.gateway.ra.rules
        host.follow()
        assert rules is host.gateway.ra.rules

    def test_links_are_shown(self, host: Host) -> None:
        """Who knows only the other root can verify the server."""
        issuing = host.gateway._loaded.authorities["issuing"].chain[0]
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
        issuing = host.gateway._loaded.authorities["issuing"].chain[0]
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
        before = host.gateway.ra.rules.authorities
        host.advance(Phase.PREPARED, Phase.ACTIVE)
        host.follow()
        after = host.gateway.ra.rules.authorities
        assert all(before[name] is after[name] for name in before)
