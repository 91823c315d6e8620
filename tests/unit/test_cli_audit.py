# SPDX-License-Identifier: MIT
"""Verifying and exporting the audit log; the store's schema; plugins."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from cli_state import TENANT, State, state

from trstctl.cli import audit, plugin
from trstctl.discovery import Discovery, PluginReport

__all__ = ["state"]


def spoil(state: State, statement: str) -> None:
    """Do to the database what no program of ours would."""
    with closing(sqlite3.connect(state.path / "trstctl.db")) as database:
        names = database.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall()
        for (name,) in names:
            database.execute(f"DROP TRIGGER {name}")
        with database:
            changed = database.execute(statement)
        assert changed.rowcount > 0


class VerifyTests:
    """``trstctl audit verify``."""

    def test_whole_chains(self, state: State) -> None:
        """A good log is told tenant by tenant."""
        state.issued()
        result = state.run("audit", "verify")
        assert f"tenant {TENANT}: 2 records" in result.stdout

    def test_pages(
        self, state: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A chain goes on from page to page."""
        monkeypatch.setattr(audit, "_PAGE", 3)
        for number in range(4):
            state.issued(f"device-{number}")
        assert "8 records" in state.run("audit", "verify").stdout

    def test_edited(self, state: State) -> None:
        """An edited record is named by tenant and sequence."""
        state.issued()
        spoil(
            state,
            "UPDATE audit SET body = replace(body, 'device', 'editor') "
            "WHERE sequence = 2",
        )
        result = state.run("audit", "verify", status=1)
        assert TENANT in result.stderr
        assert "record 2" in result.stderr

    def test_cut_tail(self, state: State, tmp_path: Path) -> None:
        """A tail that was cut shows against an exported head only."""
        state.issued()
        state.run("audit", "export", "--output", tmp_path / "log")
        head = ("--head", tmp_path / "log.head")
        state.issued("device-2")
        state.run("audit", "verify", *head)
        spoil(state, "DELETE FROM audit WHERE sequence >= 2")
        state.run("audit", "verify")
        result = state.run("audit", "verify", *head, status=1)
        assert "record 2" in result.stderr
        assert "missing" in result.stderr
        spoil(state, "DELETE FROM audit")
        assert (
            "record 1" in state.run("audit", "verify", *head, status=1).stderr
        )

    def test_another_chain(self, state: State, tmp_path: Path) -> None:
        """A chain that was written anew is not the exported one."""
        state.issued()
        log = tmp_path / "log"
        state.run("audit", "export", "--output", log)
        head = tmp_path / "log.head"
        pinned = json.loads(head.read_text())
        pinned[TENANT]["hash"] = "f" * 64
        head.write_text(json.dumps(pinned))
        result = state.run("audit", "verify", "--head", head, status=1)
        assert "not the exported one" in result.stderr

    @pytest.mark.parametrize("text", ["[]", "{", '{"a": {}}', '{"a": 1}'])
    def test_no_head_file(
        self, state: State, tmp_path: Path, text: str
    ) -> None:
        """Anything else in its place is refused."""
        file = tmp_path / "head"
        file.write_text(text)
        result = state.run("audit", "verify", "--head", file, status=1)
        assert "no head file" in result.stderr


class ExportTests:
    """``trstctl audit export``."""

    def test_lines(self, state: State, tmp_path: Path) -> None:
        """Each record is a line, in order, with what its hash covers."""
        state.issued()
        log = tmp_path / "log"
        state.run("audit", "export", "--output", log)
        records = [json.loads(line) for line in log.read_text().splitlines()]
        assert [1, 2] == [record["sequence"] for record in records]
        bodies = [json.loads(record["body"]) for record in records]
        assert ["intent.opened", "certificate.issued"] == [
            body["event"] for body in bodies
        ]
        heads = json.loads((tmp_path / "log.head").read_text())
        assert {TENANT: {"sequence": 2, "hash": records[1]["hash"]}} == heads
        for path in (log, tmp_path / "log.head"):
            assert 0o600 == stat.S_IMODE(path.stat().st_mode)

    def test_standard_output(self, state: State, tmp_path: Path) -> None:
        """Without a file the records are printed; --head is still made."""
        state.issued()
        head = tmp_path / "head"
        result = state.run("audit", "export", "--head", head)
        assert 2 == len(result.stdout.splitlines())
        state.run("audit", "verify", "--head", head)
        assert 2 == len(state.run("audit", "export").stdout.splitlines())

    def test_broken_chain(self, state: State, tmp_path: Path) -> None:
        """A broken log is not exported, and the old file stays."""
        state.issued()
        log = tmp_path / "log"
        log.write_text("old")
        spoil(state, "UPDATE audit SET hash = '' WHERE sequence = 1")
        state.run("audit", "export", "--output", log, status=1)
        assert "old" == log.read_text()
        assert {"log", "state"} == {each.name for each in tmp_path.iterdir()}


class SchemaTests:
    """``trstctl db``."""

    def test_current(self, state: State) -> None:
        """A new store has every migration."""
        state.issued()
        rows = state.listed("db", "status")
        assert rows
        assert {"applied"} == {row["state"] for row in rows}
        assert "Applied 0" in state.run("db", "migrate").stdout

    def test_missing(self, state: State) -> None:
        """No database is made by asking for its state."""
        assert "no database" in state.run("db", "status", status=1).stderr
        assert not (state.path / "trstctl.db").exists()

    def test_empty(self, state: State) -> None:
        """A database without a schema is told, refused, and migrated."""
        (state.path / "trstctl.db").touch(mode=0o600)
        rows = state.listed("db", "status", status=1)
        assert {"pending"} == {row["state"] for row in rows}
        assert "db migrate" in state.run("cert", "list", status=1).stderr
        # The start, which this may stand before, migrates it.
        assert "older version" in state.run("config", "check").stdout
        state.run("db", "migrate")
        state.run("cert", "list")

    def test_damaged(self, state: State) -> None:
        """What cannot be opened is told with what to do about it."""
        database = state.path / "trstctl.db"
        database.write_bytes(b"no database at all" * 100)
        database.chmod(0o600)
        reason = state.run("cert", "list", status=1).stderr
        assert "put the backup back" in reason
        database.unlink()
        database.mkdir()
        reason = state.run("cert", "list", status=1).stderr
        assert "check the path" in reason

    def test_foreign(self, state: State) -> None:
        """What is no database, or another program's, is refused."""
        database = state.path / "trstctl.db"
        database.write_bytes(b"no database at all" * 100)
        state.run("db", "status", status=1)
        database.unlink()
        with closing(sqlite3.connect(database)) as other:
            other.execute("CREATE TABLE t (x)")
        result = state.run("db", "migrate", status=1)
        assert "another program" in result.stderr

    def test_other_backend(self, state: State) -> None:
        """The schema of another backend is its own affair."""
        text = state.config.read_text()
        state.config.write_text(
            text.replace("sqlite:trstctl.db", "nosuch:place")
        )
        assert "itself" in state.run("db", "status", status=1).stderr
        listing = state.run("cert", "list", status=1)
        assert "no backend is called nosuch" in listing.stderr


class PluginTests:
    """``trstctl plugin list``."""

    def test_all_sound(self, state: State) -> None:
        """Ours are there, and work."""
        result = state.invoke("plugin", "list", "-o", "json")
        assert 0 == result.exit_code
        rows = {row["name"]: row for row in json.loads(result.stdout)}
        assert {"ok"} == {row["state"] for row in rows.values()}
        assert {"est", "sqlite"} <= set(rows)

    @pytest.mark.parametrize(
        ("kind", "status"), [("drop-in", 1), ("foreign", 0)]
    )
    def test_broken(
        self,
        state: State,
        monkeypatch: pytest.MonkeyPatch,
        kind: str,
        status: int,
    ) -> None:
        """One that is broken is status 1, unless it is somebody else's."""
        report = PluginReport("bad", kind, "", "bad.py", "broken", "why")
        found = Discovery({}, {}, [report])
        monkeypatch.setattr(plugin, "discover", lambda: found)
        result = state.invoke("plugin", "list")
        assert status == result.exit_code
        assert "why" in result.stdout

    def test_class_that_is_missing(
        self, state: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A protocol whose class cannot be imported is broken."""
        from trstctl.plugin import ProtocolPlugin

        report = PluginReport("bad", "protocol", "", "bad.py", "ok")
        bad = ProtocolPlugin("bad", "trstctl.no.such.Class")
        found = Discovery({"bad": bad}, {}, [report])
        monkeypatch.setattr(plugin, "discover", lambda: found)
        result = state.invoke("plugin", "list", "-o", "json")
        assert 1 == result.exit_code
        (row,) = json.loads(result.stdout)
        assert "broken" == row["state"]
        assert "cannot be used" in row["reason"]
