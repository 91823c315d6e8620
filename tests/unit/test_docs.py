# SPDX-License-Identifier: MIT
"""The documentation says what is true, and what it shows works."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from trstctl.cli.main import main
from trstctl.config.reader import json_schema, load
from trstctl.discovery import discover
from trstctl.interfaces import IEnrollmentProtocol
from trstctl.log import FIELDS
from trstctl.metrics import Metrics
from trstctl.plugin import ProtocolPlugin
from trstctl.policy.profile import Profile, ProfileSettings

_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"
_EXAMPLE = _DOCS / "example-plugin"
_PAGES = [_ROOT / "README.rst", *sorted(_DOCS.glob("*.rst"))]
_NAMES = [page.name for page in _PAGES]

_BLOCK = re.compile(
    r"^\.\. code-block:: (\w+)\n\n((?:    .*\n|\n)+)", re.MULTILINE
)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language, without their indentation."""
    return [
        re.sub(r"^    ", "", body, flags=re.MULTILINE).strip("\n") + "\n"
        for found, body in _BLOCK.findall(text)
        if found == language
    ]


def _texts() -> list[str]:
    """Return the texts of all pages."""
    return [page.read_text() for page in _PAGES]


def _example() -> ModuleType:
    """Import the example plugin from its folder."""
    spec = importlib.util.spec_from_file_location(
        "example_ping", _EXAMPLE / "example_ping" / "__init__.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _protocols() -> dict[str, IEnrollmentProtocol]:
    """Return the discovered protocols, and the one of the example."""
    ping = ProtocolPlugin("ping", "trstctl.web.ProtocolResource")
    return {**discover().protocols, "ping": ping}


# --- form -------------------------------------------------------------------


class FormTests:
    """The pages are plain reStructuredText that every reader can parse."""

    @pytest.mark.parametrize("page", _PAGES, ids=_NAMES)
    def test_titles_are_underlined(self, page: Path) -> None:
        """A line below a title is as long as the title, or longer."""
        lines = page.read_text().splitlines()
        for above, line in pairwise(lines):
            if re.fullmatch(r"(=+|-+)", line) and re.match(r"\w", above):
                assert len(above) <= len(line), above

    @pytest.mark.parametrize("page", _PAGES, ids=_NAMES)
    def test_text_is_plain(self, page: Path) -> None:
        """ASCII, no tabs, no blanks at the end of a line."""
        for line in page.read_text().splitlines():
            assert line.isascii(), line
            assert "\t" not in line, line
            assert line == line.rstrip(), line

    @pytest.mark.parametrize("page", _PAGES, ids=_NAMES)
    def test_literals_are_closed(self, page: Path) -> None:
        """Each paragraph has an even number of literal marks."""
        for paragraph in page.read_text().split("\n\n"):
            if not paragraph.startswith("    "):
                assert not paragraph.count("``") % 2, paragraph

    @pytest.mark.parametrize("page", _PAGES, ids=_NAMES)
    def test_links_lead_somewhere(self, page: Path) -> None:
        """A link to a file names one that exists."""
        for target in re.findall(r"`[^`<]*<([^>`]+)>`_", page.read_text()):
            if not target.startswith(("https://", "mailto:")):
                assert (page.parent / target).exists(), target

    def test_every_page_is_linked(self) -> None:
        """Who begins at the README finds every page."""
        text = "\n".join(_texts())
        for page in _DOCS.glob("*.rst"):
            assert re.search(rf"<(docs/)?{page.name}>", text), page.name

    def test_readme_has_the_two_commands(self) -> None:
        """Set-up and tests are one line each, to the letter."""
        blocks = _blocks((_ROOT / "README.rst").read_text(), "console")
        assert "python3 -m pip install . && trstctl quickstart\n" in blocks
        assert "python3 -m pip install tox && tox\n" in blocks


# --- configuration ----------------------------------------------------------


def _keys(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the schema of every key by its dotted path."""
    found: dict[str, dict[str, Any]] = {}

    def variants(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            yield from variants(schema["$defs"][name])
        yield node
        for each in (*node.get("anyOf", ()), *node.get("oneOf", ())):
            yield from variants(each)

    def walk(node: dict[str, Any], path: tuple[str, ...]) -> None:
        for variant in variants(node):
            required = variant.get("required", ())
            for key, value in variant.get("properties", {}).items():
                here = (*path, key)
                found[".".join(here)] = {**value, "needed": key in required}
                walk(value, here)
            below = variant.get("additionalProperties")
            if isinstance(below, dict):
                walk(below, (*path, "<>"))

    walk(schema, ())
    return found


_TERM = re.compile(r"^``([^`]+)`` : (.+)$", re.MULTILINE)


def _documented() -> dict[str, str]:
    """Return what stands behind each documented key."""
    text = (_DOCS / "configuration.rst").read_text()
    return {
        re.sub(r"<\w+>", "<>", key): rest for key, rest in _TERM.findall(text)
    }


def _plain(default: Any) -> Any:
    """Return a default as the file would have it, durations in seconds."""
    if isinstance(default, str) and re.fullmatch(r"[0-9]+[smhd]", default):
        return int(default[:-1]) * _UNITS[default[-1]]
    return default


class ConfigurationTests:
    """The reference is complete, and the examples are good."""

    def test_every_key_is_documented(self) -> None:
        """The reference and the schema have the same keys."""
        schema = _keys(json_schema(discover().protocols))
        assert sorted(schema) == sorted(_documented())

    def test_every_default_is_documented(self) -> None:
        """The reference and the schema have the same defaults."""
        documented = _documented()
        yaml = YAML(typ="safe")
        for key, node in _keys(json_schema(discover().protocols)).items():
            rest = documented[key]
            found = re.search(r"default ``(.+)``$", rest)
            if found is None:
                assert rest.endswith(", required") == node["needed"], key
                told = "section" in rest or not node.get("default")
                assert told or node["needed"], key
                continue
            default = node.get("default", {})
            if key.endswith(".subject"):
                default = {name: {} for name in default}
            assert _plain(default) == _plain(yaml.load(found[1])), key

    @pytest.mark.parametrize("page", _PAGES, ids=_NAMES)
    def test_examples_load(self, page: Path, tmp_path: Path) -> None:
        """Every configuration that is shown is one without a fault."""
        for number, text in enumerate(_blocks(page.read_text(), "yaml")):
            file = tmp_path / f"{number}.yaml"
            file.write_text(text)
            assert load(file, _protocols()).protocols, text

    def test_annotated_example_loads(self) -> None:
        """So is the file that an operator copies."""
        found = load(_ROOT / "etc" / "trstctl.yaml", discover().protocols)
        labels = [endpoint.name for endpoint in found.endpoints["est"]]
        assert ["", "routers", "guests"] == labels


# --- commands ---------------------------------------------------------------


def _commands() -> dict[tuple[str, ...], click.Command]:
    """Return every command of ``trstctl`` by its words."""
    found: dict[tuple[str, ...], click.Command] = {}

    def walk(command: click.Command, words: tuple[str, ...]) -> None:
        if not isinstance(command, click.Group):
            found[words] = command
            return
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            walk(below, (*words, name))

    walk(main, ())
    return found


_COMMAND = re.compile(r"(?:\$ )?(?:runuser .+ -- )?(?:\S*/)?trstctl ([a-z].*)")


def _shown_commands() -> list[list[str]]:
    """Return the words of every ``trstctl`` command in a console block."""
    return [
        shlex.split(found[1].partition(" > ")[0])
        for text in _texts()
        for block in _blocks(text, "console")
        for line in block.splitlines()
        if (found := _COMMAND.fullmatch(line))
    ]


class CommandTests:
    """The commands are all there, and as they are written."""

    def test_every_command_is_mentioned(self) -> None:
        """The README's table has every command."""
        readme = (_ROOT / "README.rst").read_text()
        for words in _commands():
            assert f"``trstctl {' '.join(words)}``" in readme

    def test_no_other_command_is_mentioned(self) -> None:
        """What is mentioned exists."""
        commands = _commands()
        text = "\n".join(_texts())
        for phrase in re.findall(r"``trstctl ([a-z]+(?: [a-z-]+)?)", text):
            words = tuple(phrase.split())
            assert any(words == known[: len(words)] for known in commands)

    def test_options_exist(self) -> None:
        """A command that is shown has the options that it is shown with."""
        commands = _commands()
        shown = _shown_commands()
        assert len(shown) > 20
        for words in shown:
            size = max(
                each for each in (1, 2, 3) if tuple(words[:each]) in commands
            )
            command = commands[tuple(words[:size])]
            known = {name for each in command.params for name in each.opts} | {
                "--help"
            }
            used = {word for word in words if word.startswith("--")}
            assert used <= known, words


# --- what the program can say -----------------------------------------------


def _source() -> dict[Path, ast.Module]:
    """Return the syntax of every module."""
    return {
        path: ast.parse(path.read_text())
        for path in (_ROOT / "trstctl").rglob("*.py")
    }


def _log_events() -> set[str]:
    """Return the literal ``event=`` of every call in the program."""
    return {
        keyword.value.value
        for module in _source().values()
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
        and not (isinstance(node.func, ast.Name) and "Event" in node.func.id)
        for keyword in node.keywords
        if keyword.arg == "event" and isinstance(keyword.value, ast.Constant)
    } | {"request"}


_AUDITED = re.compile(
    r"\"((?:certificate|credential|crl|gateway|generation|intent|request"
    r"|secret)"
    r"\.[a-z]+(?:\.more)?)\""
)


def _audit_events() -> set[str]:
    """Return what the stores, the gateway and the refusals audit."""
    files = [
        *(_ROOT / "trstctl" / "backends").glob("s*.py"),
        _ROOT / "trstctl" / "backends" / "records.py",
        _ROOT / "trstctl" / "gateway.py",
        _ROOT / "trstctl" / "serving" / "changes.py",
        _ROOT / "trstctl" / "refusals.py",
        _ROOT / "trstctl" / "cli" / "challenge.py",
    ]
    found = {
        event for file in files for event in _AUDITED.findall(file.read_text())
    }
    return found - {"gateway.ready"}


def _table(page: str, heading: str) -> set[str]:
    """Return the literals in the first column of the table after a text."""
    _, _, rest = (_DOCS / page).read_text().partition(heading)
    border = re.compile(r"^( *)=+ =[= ]*$", re.MULTILINE)
    found = border.search(rest)
    assert found is not None
    _, _, rows, *_ = re.split(border.pattern, rest, flags=re.MULTILINE)[::2]
    return set(re.findall(rf"^{found[1]}``([^`]+)``", rows, re.MULTILINE))


class CompletenessTests:
    """What the program can say, the documentation explains."""

    def test_log_events(self) -> None:
        """Each event of the log has its row, and each row its event."""
        assert _log_events() == _table("operation.rst", "\nEvents:\n")

    def test_alarms(self) -> None:
        """Whatever is logged as a warning or worse says what to do."""
        wanted = {
            keyword.value.value
            for module in _source().values()
            for node in ast.walk(module)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"warn", "error", "critical", "failure"}
            for keyword in node.keywords
            if keyword.arg == "event"
            and isinstance(keyword.value, ast.Constant)
        }
        page = (_DOCS / "operation.rst").read_text()
        _, _, rest = page.partition("\nAlarms\n")
        rows = re.split(r"^=+ =+$", rest, flags=re.MULTILINE)[2]
        told = set(re.findall(r"^``([a-z.]+)``", rows, re.MULTILINE))
        assert wanted == told

    def test_audit_events(self) -> None:
        """So has each event of the audit log."""
        assert _audit_events() == _table("audit.rst", "\nEvents\n")

    def test_log_fields(self) -> None:
        """Each field of a line has its row, and is in the README."""
        fields = _table("operation.rst", "Fields that do not apply")
        own = {"ts", "level", "status", *FIELDS}
        assert own | {"error", "reference", "rule"} == fields
        readme = (_ROOT / "README.rst").read_text()
        assert all(f"``{name}``" in readme for name in own)

    def test_metrics(self) -> None:
        """Each metric has its row, and each row its metric."""
        exposed = Metrics().exposition().decode()
        names = set(re.findall(r"# TYPE (\w+) ", exposed))
        for path in (_ROOT / "trstctl" / "serving", _ROOT / "trstctl"):
            for file in path.glob("*.py"):
                names |= set(
                    re.findall(
                        r"metrics\.observe\(\s*\"(\w+)\"", file.read_text()
                    )
                )
        assert names == _table("operation.rst", "Prometheus text:")

    def test_alerts_use_metrics_that_exist(self) -> None:
        """An alert over a metric that is never exposed would be silent."""
        exposed = Metrics().exposition().decode()
        alerts = (_ROOT / "etc" / "prometheus-alerts.yaml").read_text()
        names = set(re.findall(r"\btrstctl_[a-z_]+", alerts))
        assert names
        for name in names:
            assert f"# TYPE {name.removesuffix('_bucket')} " in exposed
        assert YAML(typ="safe").load(alerts)["groups"]

    def test_profile_rules(self) -> None:
        """Each rule that can refuse is explained, in its order."""
        rules = Profile("documented", ProfileSettings())._rules
        text = (_DOCS / "profiles.rst").read_text()
        told = re.findall(r"^``([a-z]+-?[a-z-]*)``$", text, re.MULTILINE)
        explained = [rule for rule in told if rule not in _BUILT_IN]
        for chain in rules.values():
            names = [name for name, _ in chain]
            assert names == [rule for rule in explained if rule in names]
        every = {name for chain in rules.values() for name, _ in chain}
        assert every == set(explained)

    @pytest.mark.parametrize("page", ["standards.rst", "security.rst"])
    def test_tests_that_are_named_exist(self, page: str) -> None:
        """A rule that is said to be tested is tested."""
        text = (_DOCS / page).read_text()
        named = re.findall(r"``(\S+\.py)::(\w+)::(\w+)``", text)
        assert len(named) > 30
        assert len(named) == text.count(".py::")
        for file in {file for file, _, _ in named}:
            module = ast.parse((_ROOT / "tests" / file).read_text())
            tests = {
                (file, node.name, each.name)
                for node in module.body
                if isinstance(node, ast.ClassDef)
                for each in node.body
                if isinstance(each, ast.FunctionDef)
            }
            assert {each for each in named if each[0] == file} <= tests


_BUILT_IN = ("device", "tls-server", "tls-client")


# --- what is shown ----------------------------------------------------------


class ExampleTests:
    """The examples are the files, and work."""

    @pytest.mark.parametrize("page", _PAGES, ids=_NAMES)
    def test_doctests(self, page: Path) -> None:
        """What a session shows is what happens."""
        failed, _ = doctest.testfile(str(page), module_relative=False)
        assert 0 == failed

    @pytest.mark.parametrize(
        ("file", "language"),
        [
            ("example_ping/__init__.py", "python"),
            ("twisted/plugins/example_ping_dropin.py", "python"),
            ("tests/test_ping.py", "python"),
            ("pyproject.toml", "toml"),
        ],
    )
    def test_plugin_is_printed_as_it_is(
        self, file: str, language: str
    ) -> None:
        """The page shows the files of the package, to the letter."""
        page = (_DOCS / "writing-a-plugin.rst").read_text()
        assert (_EXAMPLE / file).read_text() in _blocks(page, language)

    def test_plugin_is_short(self) -> None:
        """A complete protocol takes about 25 lines."""
        text = (_EXAMPLE / "example_ping" / "__init__.py").read_text()
        lines = [line for line in text.splitlines() if line.strip()]
        assert len(lines) <= 28

    def test_plugin_keeps_the_contract(
        self, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        """The example passes the suite that it shows."""
        monkeypatch.setitem(sys.modules, "example_ping", _example())
        spec = importlib.util.spec_from_file_location(
            "test_ping", _EXAMPLE / "tests" / "test_ping.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        logged = request.getfixturevalue("logged")

        class Suite(module.TestPing):  # type: ignore[misc, name-defined]
            def forgive(self, kind: type[Exception]) -> None:
                logged.flush(kind)

        names = [name for name in dir(Suite) if name.startswith("test_")]
        assert len(names) > 10
        for name in names:
            getattr(Suite(), name)()
