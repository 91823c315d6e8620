# SPDX-License-Identifier: MIT
"""``trstctl token``."""

from __future__ import annotations

import csv
import json
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_state import OTHER, TENANT, State, state

from trstctl.backends.passwords import secret_digest
from trstctl.cli import token as token_module
from trstctl.interfaces import IStore
from trstctl.model import OneTimeSecret, SecretState

__all__ = ["state"]

KEY = "ab" * 32


def found(state: State, token: str) -> OneTimeSecret:
    """Return what the store keeps of a token."""

    async def find(store: IStore) -> OneTimeSecret | None:
        return await store.find_secret(TENANT, secret_digest(token))

    secret = state.with_store(find)
    assert secret is not None
    return secret


def created(state: State, *options: str | Path) -> list[Any]:
    """Create tokens and return the rows that were printed."""
    rows: list[Any] = state.listed("token", "create", *options)
    return rows


class CreateTests:
    """``trstctl token create``."""

    def test_defaults(self, state: State) -> None:
        """One token, for a day, for the profile that is offered."""
        result = state.run("token", "create", "-o", "json")
        assert "shown this once" in result.stderr
        (row,) = json.loads(result.stdout)
        secret = found(state, row["token"])
        # Security, 3.6: 128 bits at least; 192 are 32 characters.
        assert 32 == len(row["token"])
        assert row["id"] == secret.id
        assert ("device", (), "") == (
            secret.profile,
            secret.names,
            secret.key_fingerprint,
        )
        assert state.now + timedelta(days=1) == secret.expires_at
        assert SecretState.UNUSED is secret.state(state.now)

    def test_bindings(self, state: State) -> None:
        """Profile, names, key and end are kept."""
        pair = ":".join(KEY.upper()[at : at + 2] for at in range(0, 64, 2))
        (row,) = created(
            state,
            *("--profile", "tls-client", "--name", "cn:a", "--name", "dns:*"),
            *("--key-fingerprint", pair, "--expires", "15m"),
        )
        secret = found(state, row["token"])
        assert ("tls-client", ("cn:a", "dns:*"), KEY) == (
            secret.profile,
            secret.names,
            secret.key_fingerprint,
        )
        assert ["cn:a", "dns:*"] == row["names"]
        assert state.now + timedelta(minutes=15) == secret.expires_at

    def test_profile_that_is_not_offered(self, state: State) -> None:
        """It is created, with a note, while nothing takes it."""
        result = state.run("token", "create", "--profile", "tls-client")
        assert "does not offer profile tls-client" in result.stderr

    def test_profile_of_the_endpoint(self, state: State) -> None:
        """Where the bootstrap is enabled, its profile is the default."""
        text = state.config.read_text()
        head, _, tail = text.partition("  bootstrap:\n    enabled: false")
        assert tail
        tail = tail.replace("profile: device", "profile: tls-client")
        state.config.write_text(f"{head}  bootstrap:\n    enabled: true{tail}")
        result = state.run("token", "create", "-o", "json")
        assert "tls-client" == json.loads(result.stdout)[0]["profile"]
        assert "does not offer" not in result.stderr

    @pytest.mark.parametrize("form", ["table", "json", "csv"])
    def test_forms(self, state: State, form: str) -> None:
        """Each form shows each token."""
        result = state.run("token", "create", "--count", "3", "-o", form)
        if form == "json":
            tokens = [row["token"] for row in json.loads(result.stdout)]
        elif form == "csv":
            rows = csv.DictReader(result.stdout.splitlines())
            tokens = [row["token"] for row in rows]
        else:
            _, *lines = result.stdout.splitlines()
            tokens = [line.split()[1] for line in lines]
        assert 3 == len({found(state, token).id for token in tokens})

    def test_many(self, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        """A batch at a time, with progress on standard error."""
        monkeypatch.setattr(token_module, "_PAGE", 2)
        result = state.run("token", "create", "--count", "5", "-o", "json")
        assert "Creating tokens" in result.stderr
        assert 5 == len(json.loads(result.stdout))
        rows = state.listed("token", "list")
        assert 5 == len(rows)
        assert sorted(row["id"] for row in rows) == [row["id"] for row in rows]

    def test_from_file(self, state: State, tmp_path: Path) -> None:
        """One for each device, bound to its names."""
        file = tmp_path / "devices.csv"
        file.write_text(
            "\ufeffname,names\r\nrouter-1,dns:router-1.example,ip:192.0.2.1\r\n"
            "\r\n router-2 ,\r\nname\r\n",
            encoding="utf-8",
        )
        rows = created(state, "--from", file, "--name", "email:*")
        assert [
            ["cn:router-1", "dns:router-1.example", "ip:192.0.2.1", "email:*"],
            ["cn:router-2", "email:*"],
            ["cn:name", "email:*"],
        ] == [row["names"] for row in rows]
        assert 3 == len({row["token"] for row in rows})

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ("", "there is no device"),
            ("name,names\n", "there is no device"),
            ("a\na\n", "line 2: a occurs twice"),
            ("a\x1b[2J\n" * 2, "line 2: a\\x1b[2J occurs twice"),
            ("a\u202e\n", "cn:a\\u202e: a name has a character"),
            ("a*\n", "line 1: begin with the common name"),
            ("re:a\n", "line 1: begin with the common name"),
            (",dns:a.example\n", "line 1: begin with the common name"),
            ("a,b\n", "line 1: 'b' does not say the kind"),
            ("a\nb,dns:b..b\n", "line 2: "),
            ("a\nb" + ",cn:c" * 32 + "\n", "cn:b: there are more than 32"),
            ('a"b"\n"x" y\n', "not a CSV file"),
            ("\udcff\n", "not a CSV file"),
        ],
    )
    def test_bad_file(
        self, state: State, tmp_path: Path, content: str, told: str
    ) -> None:
        """Refused with file and line, and no token is made."""
        file = tmp_path / "devices.csv"
        file.write_bytes(content.encode("utf-8", "surrogateescape"))
        result = state.run("token", "create", "--from", file, status=2)
        assert told in " ".join(result.stderr.split())
        assert [] == state.listed("token", "list")

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (("--profile", "none"), "no such profile; there are device"),
            (("--name", "x"), "does not say the kind"),
            (
                (
                    "--name",
                    "cn:a",
                )
                * 33,
                "more than 32 names",
            ),
            (("--count", "0"), "0 is not in the range"),
            (("--expires", "1y"), "a duration is"),
            (("--expires", "0s"), "must live"),
            (("--key-fingerprint", "abc"), "64 hexadecimal"),
            (("--key-fingerprint", KEY, "--count", "2"), "only one token"),
        ],
    )
    def test_refused(
        self, state: State, options: tuple[str, ...], told: str
    ) -> None:
        """What could not be meant is said."""
        result = state.run("token", "create", *options, status=2)
        assert told in " ".join(result.stderr.split())

    def test_count_and_file(self, state: State, tmp_path: Path) -> None:
        """The file says how many."""
        file = tmp_path / "devices.csv"
        file.write_text("a\n")
        result = state.run(
            "token", "create", "--count", "1", "--from", file, status=2
        )
        assert "exclude each other" in result.stderr


class ListTests:
    """``trstctl token list``."""

    def test_states(self, state: State) -> None:
        """By state; the token itself is nowhere."""
        (fresh,) = created(state, "--name", "cn:x")
        (gone,) = created(state)
        (ended,) = created(state, "--expires", "1s")
        state.run("token", "revoke", gone["id"], "--yes")
        state.now += timedelta(seconds=1)
        rows = {row["id"]: row for row in state.listed("token", "list")}
        assert {
            fresh["id"]: "unused",
            gone["id"]: "revoked",
            ended["id"]: "expired",
        } == {name: row["state"] for name, row in rows.items()}
        assert ["cn:x"] == rows[fresh["id"]]["names"]
        shown = json.dumps(rows)
        for one in (fresh, gone, ended):
            assert one["token"] not in shown
            assert secret_digest(one["token"]) not in shown
        for name, expected in (
            ("unused", [fresh]),
            ("expired", [ended]),
            ("revoked", [gone]),
            ("burnt", []),
        ):
            listed = state.listed("token", "list", "--state", name)
            assert [one["id"] for one in expected] == [
                row["id"] for row in listed
            ]

    def test_tenants(self, state: State) -> None:
        """Each tenant has its own."""
        created(state)
        assert [] == state.listed("token", "list", "--tenant", OTHER)
        assert TENANT == state.listed("token", "list")[0]["tenant"]


class RevokeTests:
    """``trstctl token revoke``."""

    def test_asks(self, state: State) -> None:
        """Not without a yes."""
        (row,) = created(state)
        result = state.run("token", "revoke", row["id"], stdin="n\n", status=1)
        assert "nothing was done" in result.stderr
        state.run("token", "revoke", row["id"], stdin="y\n")
        assert found(state, row["token"]).revoked_at is not None

    def test_unknown(self, state: State) -> None:
        """Status 1, also for another tenant's."""
        (row,) = created(state)
        for words in (("none",), (row["id"], "--tenant", OTHER)):
            result = state.run("token", "revoke", *words, "--yes", status=1)
            assert "no such single-use secret" in result.stderr

    def test_used(self, state: State) -> None:
        """What it bought is not revoked with it, and that is said."""
        (row,) = created(state)
        database = sqlite3.connect(state.path / "trstctl.db")
        with database:
            database.execute(
                "UPDATE secrets SET burnt_at = created_at, burnt_for = ?",
                (KEY,),
            )
        database.close()
        (listed,) = state.listed("token", "list", "--state", "burnt")
        assert KEY == listed["key"]
        result = state.run("token", "revoke", row["id"], "--yes")
        assert f"--principal token:{row['id']}" in result.stderr
