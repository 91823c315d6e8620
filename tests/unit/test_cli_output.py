# SPDX-License-Identifier: MIT
"""How the commands print, fail, and are called."""

from __future__ import annotations

import io
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from cli_state import State, state
from click.testing import CliRunner
from twisted.internet.defer import Deferred

from trstctl import __version__
from trstctl.cli import context, main, output, recipes
from trstctl.cli.faults import Refused, told
from trstctl.errors import Unavailable
from trstctl.tap import run

__all__ = ["state"]

ROWS = [
    {"name": "a\x00b\x9f", "at": datetime(2026, 1, 2, 3, 4, 5, 6, UTC)},
    {"name": "\u202e\U000e0001", "at": None},
]


class Terminal(io.StringIO):
    """A standard output that is a terminal."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


class OutputTests:
    """Tables, JSON and CSV."""

    def test_plain_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Columns are aligned, and what does not print is escaped."""
        output.print_listing(("name", "at"), ROWS, "table")
        lines = capsys.readouterr().out.splitlines()
        assert "a\\x00b\\x9f        2026-01-02T03:04:05Z" == lines[1]
        assert "\\u202e\\U000e0001" == lines[2]

    def test_rich_table(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a terminal, brackets in a name are no markup."""
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        rows = [{"name": "[red]x[/red]", "ok": True}]
        output.print_listing(("name", "ok"), rows, "table")
        assert "[red]x[/red]" in terminal.getvalue()
        assert "yes" in terminal.getvalue()

    def test_csv(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The keys are the first row."""
        output.print_listing(("at", "name"), ROWS[1:], "csv")
        assert "at,name\n,\\u202e\\U000e0001\n" == capsys.readouterr().out

    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        """An empty listing is an empty list; the rest is ASCII."""
        output.print_listing(("name",), [], "json")
        assert "[]\n" == capsys.readouterr().out
        output.print_listing(("name", "at"), ROWS, "json")
        assert capsys.readouterr().out.isascii()

    def test_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Facts are one a line."""
        output.print_one({"a_b": 1, "c": ["x", "y"], "d": False}, "table")
        assert "a b: 1\nc:   x, y\nd:   no\n" == capsys.readouterr().out


class CallTests:
    """The program itself."""

    def test_version(self) -> None:
        """--version prints it and nothing else."""
        result = CliRunner().invoke(main.main, ["--version"])
        assert f"trstctl {__version__}\n" == result.stdout

    def test_help_lists_every_command(self) -> None:
        """Each has a line of help."""
        result = CliRunner().invoke(main.main, ["--help"])
        assert 0 == result.exit_code
        assert {
            line.split()[0]
            for line in result.stdout.partition("Commands:")[2].splitlines()
            if line.strip()
        } == set(main._MODULES)

    def test_every_command_has_help(self) -> None:
        """No command and no option is without an explanation."""
        context = click.Context(main.main)

        def walk(command: click.Command) -> None:
            assert command.help, command.name
            for parameter in command.params:
                if isinstance(parameter, click.Option):
                    assert parameter.help, (command.name, parameter.name)
            if isinstance(command, click.Group):
                for name in command.list_commands(context):
                    below = command.get_command(context, name)
                    assert below is not None
                    walk(below)

        walk(main.main)

    @pytest.mark.parametrize(
        ("name", "hint"), [("certs", "'cert'"), ("zzz", ""), ("--zzz", "")]
    )
    def test_unknown_command(self, name: str, hint: str) -> None:
        """Status 2, and a suggestion if one is close."""
        result = CliRunner().invoke(main.main, [name])
        assert 2 == result.exit_code
        assert hint in result.stderr

    def test_actor(self) -> None:
        """The audit log calls a real user by name, or by number."""
        assert main._real().actor.startswith("operator:")

    def test_actor_without_a_name(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A user id that nobody has is told as a number."""
        monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
        assert "4000000000" == context.unix_user()

    def test_missing_file(self, state: State) -> None:
        """A file that is missing is one line that names it."""
        (state.path / "ca" / "root.pem").unlink()
        result = state.run("ca", "show", status=1)
        assert 1 == len(result.stderr.splitlines())
        assert "root.pem" in result.stderr

    def test_bug(self, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        """A fault of this program is not hidden."""
        from trstctl.cli import ca

        def fail(_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(ca, "load_chain", fail)
        result = state.invoke("ca", "show", "--config", state.config)
        assert isinstance(result.exception, ZeroDivisionError)

    @pytest.mark.parametrize(
        ("error", "line"),
        [
            (
                PermissionError(13, "Denied", "a\x1bb"),
                "trstctl: a\\x1bb: Denied",
            ),
            (OSError(28, "No space"), "trstctl: No space"),
            (Unavailable("busy"), "trstctl: busy"),
        ],
    )
    def test_told(self, error: Exception, line: str) -> None:
        """Errors are one line without control characters."""
        found = told(error)
        assert found is not None
        assert [line] == list(found.lines)
        assert 1 == found.status

    def test_not_told(self) -> None:
        """A closed pipe and errors without a text go on."""
        assert told(BrokenPipeError(32, "Broken pipe")) is None
        assert told(OSError("odd")) is None

    def test_refused_has_a_status(self) -> None:
        """The exit status goes with the refusal."""
        assert (1, 78) == (Refused("x").exit_code, Refused("x", 78).exit_code)


class ReactorTests:
    """:func:`trstctl.tap.run`."""

    def test_a_signal(self) -> None:
        """Ctrl-C ends a command that waits, and leaves signals as before."""

        async def wait(reactor: object) -> None:
            reactor.callLater(0, os.kill, os.getpid(), 2)  # type: ignore[attr-defined]
            await Deferred()

        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(wait)


class RecipeTests:
    """What quickstart prints."""

    @pytest.mark.parametrize(
        ("called", "found", "expected"),
        [
            ("/x/main.py", None, f"{sys.executable} -m trstctl.cli.main"),
            ("/opt/bin/trstctl", "/opt/bin/trstctl", "trstctl"),
            ("/opt/bin/trstctl", None, "/opt/bin/trstctl"),
            ("/o p/trstctl", "/usr/bin/trstctl", "'/o p/trstctl'"),
        ],
    )
    def test_program(
        self,
        monkeypatch: pytest.MonkeyPatch,
        called: str,
        found: str | None,
        expected: str,
    ) -> None:
        """The very program is called, by its short name if it is found."""
        monkeypatch.setattr(sys, "argv", [called])
        monkeypatch.setattr(recipes.shutil, "which", lambda _: found)
        assert expected == recipes.program()

    def test_form_of_the_issue(self, tmp_path: Path) -> None:
        """The enrollment is the very command that the manuals show."""
        found = recipes.est_recipes(
            "https://localhost:8443", "/r.pem", "/c.pem", "u", "p", "t.s"
        )
        text = recipes.as_text(found)
        assert "curl --cacert /r.pem -u u:p " in text
        assert (
            '-H "Content-Type: application/pkcs10" -H "Idempotency-Key: '
        ) in text
        assert (
            "--data-binary @request.b64 "
            "https://localhost:8443/.well-known/est/simpleenroll"
        ) in text
        assert all(len(each.commands) < 10 for each in found)
