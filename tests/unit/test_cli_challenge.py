# SPDX-License-Identifier: MIT
"""``trstctl challenge``."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_state import OTHER, TENANT, State, state
from contracts.store_samples import new_request
from ruamel.yaml import YAML

from trstctl.backends.passwords import secret_digest
from trstctl.challenges import LENGTH
from trstctl.cli import challenge as challenge_module
from trstctl.cli import secrets as secrets_module
from trstctl.interfaces import IStore
from trstctl.model import SYSTEM_TENANT, OneTimeSecret

__all__ = ["state"]


def created(state: State, *options: str | Path) -> list[Any]:
    """Create challenges and return the rows that were printed."""
    rows: list[Any] = state.listed("challenge", "create", *options)
    return rows


def found(state: State, text: str) -> OneTimeSecret:
    """Return what the store keeps of a challenge."""

    async def find(store: IStore) -> OneTimeSecret | None:
        return await store.find_secret(TENANT, secret_digest(text))

    secret = state.with_store(find)
    assert secret is not None
    return secret


class CreateTests:
    """``trstctl challenge create``."""

    def test_defaults(self, state: State) -> None:
        """One certificate, within a day, for the device that is named."""
        result = state.run(
            "challenge", "create", "--device", "router-1", "-o", "json"
        )
        assert "shown this once" in result.stderr
        (row,) = json.loads(result.stdout)
        assert LENGTH == len(row["challenge"])
        secret = found(state, row["challenge"])
        assert ("scep", "device", "router-1", "", None, 1) == (
            secret.protocol,
            secret.profile,
            secret.device,
            secret.subject,
            secret.alternative_names,
            secret.uses,
        )
        assert (row["id"], 24) == (secret.id, len(secret.id))
        assert state.now + timedelta(days=1) == secret.expires_at
        keys = state.path / "credentials" / "challenge-keys"
        assert 0o600 == keys.stat().st_mode & 0o777

    def test_for_cmp(self, state: State) -> None:
        """The id is the reference, and the challenge the secret."""
        (row,) = created(state, "--for", "cmp", "--device", "router-1")
        secret = found(state, row["challenge"])
        assert ("cmp", row["id"]) == (secret.protocol, secret.id)

    def test_bindings(self, state: State) -> None:
        """Subject and names are kept as a certificate has them."""
        (row,) = created(
            state,
            *("--profile", "tls-client", "--expires", "15m", "--uses", "3"),
            *("--subject", "CN=Router\\2c 7, O=Example"),
            *("--san", "dns:B.example.COM", "--san", "dns:a.example.com"),
        )
        secret = found(state, row["challenge"])
        assert ("tls-client", "", "CN=Router\\, 7,O=Example", 3) == (
            secret.profile,
            secret.device,
            secret.subject,
            secret.uses,
        )
        names = ("dns:a.example.com", "dns:b.example.com")
        assert names == secret.alternative_names
        assert list(names) == row["names"]
        assert state.now + timedelta(minutes=15) == secret.expires_at

    def test_profile_that_is_not_offered(self, state: State) -> None:
        """It is created, with a note, while nothing takes it."""
        result = state.run(
            *("challenge", "create", "--device", "a"),
            *("--profile", "tls-client"),
        )
        assert "does not offer profile tls-client" in result.stderr

    def test_profile_of_the_endpoint(self, state: State) -> None:
        """Where SCEP is enabled, its profile is the default."""
        yaml = YAML()
        config = yaml.load(state.config.read_text())
        config["protocols"]["scep"] = {
            "enabled": True,
            "tenant_id": TENANT,
            "profile": "tls-client",
        }
        with state.config.open("w") as file:
            yaml.dump(config, file)
        result = state.run(
            "challenge", "create", "--device", "a", "-o", "json"
        )
        assert "tls-client" == json.loads(result.stdout)[0]["profile"]
        assert "does not offer" not in result.stderr

    def test_count(
        self, state: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Many alike, each once, a batch at a time."""
        monkeypatch.setattr(challenge_module, "_PAGE", 2)
        rows = created(state, "--any-name", "--count", "5")
        assert 5 == len({found(state, row["challenge"]).id for row in rows})
        assert 5 == len(state.listed("challenge", "list"))

    def test_from_file(self, state: State, tmp_path: Path) -> None:
        """One for each line; a heading and empty lines are none."""
        file = tmp_path / "devices.csv"
        file.write_text(
            "device,subject,names\n"
            "r1\n"
            ",,\n"
            'r2,"CN=r2,O=x",dns:r2.example.com,,ip:192.0.2.2\n'
        )
        one, two = created(state, "--from", file)
        assert ("r1", "", []) == (one["device"], one["subject"], one["names"])
        assert ("r2", "CN=r2,O=x") == (two["device"], two["subject"])
        assert ["dns:r2.example.com", "ip:192.0.2.2"] == two["names"]

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("", "no device"),
            ("device\n", "no device"),
            ("r1\nr1\n", "line 2: r1 occurs twice"),
            (",CN=x\n", "line 1: begin with the device"),
            ("r1,x\n", "line 1: the subject"),
            ("r1,,x\n", "line 1: the name"),
            ('"r1', "not a CSV"),
        ],
    )
    def test_bad_file(
        self, state: State, tmp_path: Path, text: str, told: str
    ) -> None:
        """The line is named, and nothing is created."""
        file = tmp_path / "devices.csv"
        file.write_text(text)
        result = state.run("challenge", "create", "--from", file, status=2)
        assert told in " ".join(result.stderr.split())
        assert [] == state.listed("challenge", "list")

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ((), "say what it is for"),
            (("--any-name", "--device", "a"), "say what it is for"),
            (("--device", "a", "--expires", "0s"), "for some time"),
            (("--subject", "router"), "the subject"),
            (("--san", "router"), "begin with the kind"),
            (("--san", "ip:router"), "the name"),
            (("--device", "a", "--profile", "none"), "no such profile"),
            (("--device", "a", "--uses", "101"), "--uses"),
        ],
    )
    def test_bad_options(
        self, state: State, options: tuple[str, ...], told: str
    ) -> None:
        """What could not be used, or says nothing, is refused."""
        result = state.run("challenge", "create", *options, status=2)
        assert told in " ".join(result.stderr.split())

    @pytest.mark.parametrize(
        "option", [("--count", "2"), ("--any-name",), ("--device", "a")]
    )
    def test_file_and_more(
        self, state: State, tmp_path: Path, option: tuple[str, ...]
    ) -> None:
        """A file says it all."""
        file = tmp_path / "devices.csv"
        file.write_text("r1\n")
        state.run("challenge", "create", "--from", file, *option, status=2)

    def test_keys_that_others_can_read(self, state: State) -> None:
        """Nothing is created with them; the remedy is told."""
        created(state, "--device", "a")
        (state.path / "credentials" / "challenge-keys").chmod(0o644)
        result = state.run("challenge", "create", "--device", "b", status=1)
        assert "chmod 600" in result.stderr


class ListTests:
    """``trstctl challenge list``."""

    def test_rows(self, state: State) -> None:
        """What they are for, and how much is left; tokens are no such."""
        state.run("token", "create")
        (made,) = created(state, "--device", "a", "--uses", "2")
        (row,) = state.listed("challenge", "list")
        assert made["id"] == row["id"]
        assert ("unused", "a", "2", "0") == (
            row["state"],
            row["device"],
            str(row["uses"]),
            str(row["used"]),
        )
        assert [made["id"]] != [one["id"] for one in self.tokens(state)]
        assert 1 == len(self.tokens(state))

    def test_protocols(self, state: State) -> None:
        """Whether it is a challenge of SCEP or a shared secret of CMP."""
        created(state, "--device", "a")
        created(state, "--device", "b", "--for", "cmp")
        rows = state.listed("challenge", "list")
        assert {("a", "scep"), ("b", "cmp")} == {
            (row["device"], row["protocol"]) for row in rows
        }
        table = state.run("challenge", "list").stdout
        assert "protocol" in table.splitlines()[0].lower()

    def tokens(self, state: State) -> list[Any]:
        """Return what the list of tokens shows."""
        rows: list[Any] = state.listed("token", "list")
        return rows

    def test_by_state_and_page(
        self, state: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only of a state, however many there are."""
        monkeypatch.setattr(secrets_module, "_PAGE", 2)
        created(state, "--any-name", "--count", "4")
        created(state, "--device", "a", "--expires", "1m")
        state.now += timedelta(minutes=1)
        assert 4 == len(state.listed("challenge", "list", "--state", "unused"))
        (row,) = state.listed("challenge", "list", "--state", "expired")
        assert "a" == row["device"]
        assert [] == state.listed("challenge", "list", "--tenant", OTHER)


class RevokeTests:
    """``trstctl challenge revoke``."""

    def test_revoked(self, state: State) -> None:
        """It is refused from then on."""
        (row,) = created(state, "--device", "a")
        result = state.run("challenge", "revoke", row["id"], "--yes")
        assert f"Revoked {row['id']}." in result.stdout
        assert "bought" not in result.stderr
        assert found(state, row["challenge"]).revoked_at == state.now

    def test_used(self, state: State) -> None:
        """What it has bought is said."""
        (row,) = created(state, "--device", "a", "--uses", "2")

        async def use(store: IStore) -> None:
            await store.hold(
                new_request(
                    tenant_id=TENANT,
                    secret_id=row["id"],
                    key_expires=state.now + timedelta(days=1),
                ),
                state.now,
            )

        state.with_store(use)
        result = state.run("challenge", "revoke", row["id"], "--yes")
        assert f"--principal token:{row['id']}" in result.stderr

    def test_unknown(self, state: State) -> None:
        """There is none, or nobody agreed."""
        state.run("challenge", "revoke", "none", "--yes", status=1)
        state.run("challenge", "revoke", "none", status=1)


class RotateTests:
    """``trstctl challenge rotate-key``."""

    def keys(self, state: State) -> list[str]:
        """Return the lines of the file."""
        file = state.path / "credentials" / "challenge-keys"
        return file.read_text().splitlines()

    def test_new_key(self, state: State) -> None:
        """The newest comes last; the old one stays."""
        created(state, "--device", "a")
        (old,) = self.keys(state)
        result = state.run("challenge", "rotate-key")
        assert "key 2" in result.stdout
        assert [old] == self.keys(state)[:1]
        assert 2 == len(self.keys(state))
        one, two = (
            created(state, "--device", name)[0]["challenge"]
            for name in ("b", "c")
        )
        assert one[0] == two[0]

    def test_drop(self, state: State) -> None:
        """Without the old ones, if somebody agrees."""
        state.run("challenge", "rotate-key")
        state.run("challenge", "rotate-key", "--drop-old", status=1)
        assert 2 == len(self.keys(state))
        state.run("challenge", "rotate-key", "--drop-old", "--yes")
        (line,) = self.keys(state)
        assert line.startswith("3 ")

    def test_audit(self, state: State) -> None:
        """The gateway's own chain says who did it; never the key."""
        state.run("challenge", "rotate-key")

        async def read(store: IStore) -> Any:
            return await store.audit_records(SYSTEM_TENANT, 0, 100)

        body = json.loads(state.with_store(read)[-1].body)
        assert ("secret.rekeyed", "operator:test") == (
            body["event"],
            body["actor"],
        )
        assert {"key": "2", "kept": "1 2"} == body["fields"]
