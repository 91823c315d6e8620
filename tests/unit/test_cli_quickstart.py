# SPDX-License-Identifier: MIT
"""What quickstart keeps from run to run."""

from __future__ import annotations

import stat
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve
from cli_state import TENANT, State, state

from trstctl.backends.passwords import check_password, check_token
from trstctl.cli import quickstart
from trstctl.cli.main import Surroundings
from trstctl.config.reader import load
from trstctl.config.secrets import SecretError
from trstctl.discovery import discover
from trstctl.interfaces import IStore
from trstctl.model import CredentialRecord

__all__ = ["state"]


def credentials(state: State) -> dict[str, str]:
    """See to the credentials, as a run does once it listens."""
    around = Surroundings(lambda: state.now, state._random, "operator:test")
    config = load(state.config, discover().protocols)

    async def act(store: IStore) -> dict[str, str]:
        gateway: Any = SimpleNamespace(store=store, config=config)
        return await quickstart._credentials(gateway, state.path, around)

    return state.with_store(act)


def stored(state: State, kind: str) -> CredentialRecord:
    """Return a credential of the store."""

    async def find(store: IStore) -> CredentialRecord | None:
        return await store.find_credential(TENANT, kind, "device")

    record = state.with_store(find)
    assert record is not None
    return record


class CredentialsTests:
    """Made once, used in every run."""

    def test_kept(self, state: State) -> None:
        """A second run finds them, and nobody else can read them."""
        first = credentials(state)
        assert first == credentials(state)
        assert check_password(
            first["password"], stored(state, "basic").verifier
        )
        assert check_token(first["token"], stored(state, "bearer").verifier)
        mode = (state.path / "quickstart.secrets").stat().st_mode
        assert 0o600 == stat.S_IMODE(mode)

    def test_lost(self, state: State) -> None:
        """When the file is gone, new ones replace the old."""
        first = credentials(state)
        (state.path / "quickstart.secrets").unlink()
        second = credentials(state)
        assert first["password"] != second["password"]
        assert check_password(
            second["password"], stored(state, "basic").verifier
        )
        assert check_token(second["token"], stored(state, "bearer").verifier)

    def test_revoked(self, state: State) -> None:
        """What an operator has revoked stays revoked."""
        credentials(state)
        revoke = ("credential", "revoke", "device", "--yes", "--kind")
        state.run(*revoke, "basic")
        credentials(state)
        assert stored(state, "basic").revoked_at is not None
        assert stored(state, "bearer").revoked_at is None

    def test_damaged(self, state: State) -> None:
        """A file that holds something else is told with the remedy."""
        path = state.path / "quickstart.secrets"
        path.write_text("{}")
        path.chmod(0o600)
        with pytest.raises(SecretError, match="remove it"):
            credentials(state)


class OneTimeTests:
    """A fresh token for each run."""

    def test_unused(self, state: State) -> None:
        """Two runs, two tokens; none where nothing would take it."""
        around = Surroundings(lambda: state.now, state._random, "operator:t")

        def once() -> dict[str, str]:
            config = load(state.config, discover().protocols)

            async def act(store: IStore) -> dict[str, str]:
                gateway: Any = SimpleNamespace(store=store, config=config)
                return await quickstart._once(gateway, around)

            return state.with_store(act)

        assert {} == once()
        head, _, tail = state.config.read_text().partition("  bootstrap:\n")
        state.config.write_text(
            f"{head}  bootstrap:\n{tail.replace('false', 'true')}"
        )
        assert once() != once()
        listed = state.listed("token", "list", "--state", "unused")
        assert 2 == len(listed)


class PortTests:
    """Ports of the command line count more than those of the file."""

    def test_adjust(self, state: State) -> None:
        """Only what is given changes; port 0 is given, too."""
        config = load(state.config, discover().protocols)
        wanted = quickstart._Wanted(https=0, http=None, ops=9999)
        listeners = wanted.adjust(config).listeners
        assert (0, 8080, 9999) == (
            listeners.https.port,
            listeners.http.port,
            listeners.ops.port,
        )
        assert (0, 8080, 9999) == tuple(
            wanted.port(name) for name in ("https", "http", "ops")
        )
        assert evolve(config) == quickstart._Wanted(None, None, None).adjust(
            config
        )

    def test_without_est(self, state: State) -> None:
        """A configuration that no longer has EST is not for quickstart."""
        text = state.config.read_text()
        state.config.write_text(
            text.replace("est:\n    enabled: true", "est:\n    enabled: false")
        )
        (state.path / "quickstart.json").write_text("{}")
        result = state.invoke("quickstart", "--state", state.path)
        assert 1 == result.exit_code
        assert "no longer enabled" in result.stderr
        assert not (state.path / "quickstart.json").exists()
