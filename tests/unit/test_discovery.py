# SPDX-License-Identifier: MIT
"""Plugins are found, judged, and refused where they are not sound."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trstctl.discovery import (
    Discovery,
    DiscoveryError,
    PluginReport,
    discover,
    require,
)
from twisted import plugins

_SOUND = """
from trstctl.plugin import ProtocolPlugin
ping = ProtocolPlugin("ping", "ping_protocol.Ping", "1.0")
"""

_CLASS = """
from trstctl.settings import ProtocolSettings
class Ping:
    Settings = ProtocolSettings
"""

_BACKEND = """
from twisted.plugin import IPlugin
from zope.interface import implementer
from trstctl.interfaces import IBackendFactory
@implementer(IPlugin, IBackendFactory)
class Factory:
    prefix = "memory"
    version = "2"
    def make(self, url, **context):
        return self
memory = again = Factory()
"""

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def unload() -> Iterator[None]:
    """Forget what a test imported."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("twisted.plugins.", "ping_")):
            del sys.modules[name]
            vars(plugins).pop(name.rpartition(".")[2], None)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write drop-ins into the only directory that is looked at."""
    folder = tmp_path / "twisted" / "plugins"
    folder.mkdir(parents=True)
    monkeypatch.setattr(plugins, "__path__", [str(folder)])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def _write(name: str, text: str) -> Path:
        path = folder / f"{name}.py"
        path.write_text(text, "utf-8")
        importlib.invalidate_caches()
        return path

    return _write


def _report(discovery: Discovery) -> PluginReport:
    """Return the only report."""
    (report,) = discovery.listing
    return report


class SoundTests:
    """What is as it should be."""

    def test_protocol_is_found(self, write: Write) -> None:
        """With its name, version and file."""
        path = write("ping_drop_in", _SOUND)

        discovery = discover()

        assert ["ping"] == list(discovery.protocols)
        assert PluginReport(
            "ping", "protocol", "1.0", str(path), "ok"
        ) == _report(discovery)

    def test_backend_is_found_once(self, write: Write) -> None:
        """Two names for one object are no duplicate."""
        write("memory_drop_in", _BACKEND)

        discovery = discover()

        assert ["memory"] == list(discovery.backends)
        assert "backend" == _report(discovery).kind

    def test_required_protocol_is_there(
        self, write: Write, tmp_path: Path
    ) -> None:
        """A sound plugin whose class can be imported passes."""
        write("ping_drop_in", _SOUND)
        (tmp_path / "ping_protocol.py").write_text(_CLASS, "utf-8")

        require(discover(), ["ping"])

    def test_other_plugins_are_ignored(self, write: Write) -> None:
        """Twisted's own plugins, other files and packages are not ours."""
        path = write("unrelated", "from twisted.plugin import IPlugin\n")
        path.with_name("not-a-module.py").write_text("raise OSError")
        path.with_name("__init__.py").write_text("raise OSError")
        path.with_name("notes.txt").write_text("x")

        assert [] == list(discover().listing)

    def test_missing_directory_is_empty(
        self, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A directory of the path need not exist."""
        monkeypatch.setattr(plugins, "__path__", ["/nonexistent"])

        assert [] == list(discover().listing)

    def test_nothing_is_written_or_logged(
        self, write: Write, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """A read-only directory works, without a cache and without noise."""
        path = write("ping_drop_in", _SOUND)
        path.parent.chmod(0o500)
        try:
            discovery = discover()
        finally:
            path.parent.chmod(0o700)

        assert ["ping"] == list(discovery.protocols)
        assert [path] == list(path.parent.iterdir())
        assert ("", "") == capfd.readouterr()

    def test_stale_cache_is_not_read(self, write: Write) -> None:
        """What lies in Twisted's cache file has no effect."""
        path = write("ping_drop_in", _SOUND)
        path.with_name("dropin.cache").write_bytes(b"not a pickle")

        assert ["ping"] == list(discover().protocols)

    def test_second_file_of_a_name_is_shadowed(
        self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A checkout before an installed copy is no duplicate."""
        path = write("ping_drop_in", _SOUND)
        other = tmp_path / "other"
        other.mkdir()
        (other / path.name).write_text(_SOUND, "utf-8")
        monkeypatch.setattr(
            plugins, "__path__", [str(path.parent), str(other)]
        )

        assert str(path) == _report(discover()).origin


class UnsoundTests:
    """What stops the start, each with one clear line."""

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("import trstctl, nonexistent_module", "ModuleNotFoundError: No"),
            ("trstctl = (", "SyntaxError: "),
            ("raise SystemExit('trstctl')", "SystemExit: trstctl"),
            ("# trstctl\nraise OSError('a\\nb')", "OSError: a b"),
        ],
    )
    def test_failing_drop_in_is_broken(
        self, write: Write, text: str, reason: str
    ) -> None:
        """It is reported with file and exception, in one line."""
        path = write("ping_drop_in", text)
        discovery = discover()

        report = _report(discovery)
        assert "broken" == report.state
        assert "drop-in" == report.kind
        assert f"cannot be imported: {reason}" in report.reason
        with pytest.raises(DiscoveryError) as caught:
            require(discovery, [])
        line = str(caught.value)
        assert "\n" not in line
        assert str(path) in line
        assert reason in line

    def test_foreign_drop_in_stops_nothing(self, write: Write) -> None:
        """Somebody else's failure is listed, and named only as a cause."""
        path = write("other_drop_in", "raise OSError('disk')")
        discovery = discover()

        require(discovery, [])
        assert "foreign" == _report(discovery).kind
        with pytest.raises(DiscoveryError, match="disk") as caught:
            require(discovery, ["ping"])
        assert str(path) in str(caught.value)

    def test_unreadable_drop_in_is_foreign(self, write: Write) -> None:
        """A dangling link names nothing."""
        path = write("ping_drop_in", "")
        path.unlink()
        path.symlink_to("nowhere")

        assert "foreign" == _report(discover()).kind

    def test_duplicates_are_both_refused(self, write: Write) -> None:
        """Neither of two plugins of one name is chosen."""
        first = write("ping_one", _SOUND)
        second = write("ping_two", _SOUND)
        discovery = discover()

        assert {} == discovery.protocols
        assert ["duplicate"] * 2 == [each.state for each in discovery.listing]
        assert str(second) in discovery.listing[0].reason
        with pytest.raises(DiscoveryError) as caught:
            require(discovery, ["ping"])
        line = str(caught.value)
        assert str(first) in line
        assert "no plugin provides" not in line

    def test_missing_protocol_is_named(self, write: Write) -> None:
        """With what is installed instead."""
        write("ping_drop_in", _SOUND)

        with pytest.raises(DiscoveryError) as caught:
            require(discover(), ["pong"])

        assert "no plugin provides the protocol pong (installed: ping)" == str(
            caught.value
        )

    def test_nothing_installed_is_said(self, write: Write) -> None:
        """An empty directory has a message, too."""
        with pytest.raises(DiscoveryError, match=r"installed: none"):
            require(discover(), ["est"])

    def test_incomplete_plugin_is_broken(self, write: Write) -> None:
        """``verifyObject`` judges, which Twisted does not do."""
        write(
            "memory_drop_in",
            _BACKEND.replace("def make(self, url, **context)", "def m(self)"),
        )

        report = _report(discover())
        assert "broken" == report.state
        assert "does not keep IBackendFactory" in report.reason

    @pytest.mark.parametrize("name", ['""', "7"])
    def test_name_must_be_text(self, write: Write, name: str) -> None:
        """A plugin without a usable name is reported under its class."""
        write("memory_drop_in", _BACKEND.replace('"memory"', name))

        report = _report(discover())
        assert ("Factory", "its prefix is not a text") == (
            report.name,
            report.reason,
        )

    def test_plugin_must_be_a_plugin(self, write: Write) -> None:
        """Twisted would not find what does not provide ``IPlugin``."""
        write(
            "memory_drop_in",
            _BACKEND.replace("IPlugin, IBackendFactory)", "IBackendFactory)"),
        )

        assert (
            "does not provide twisted.plugin.IPlugin"
            == _report(discover()).reason
        )

    def test_class_must_be_importable(self, write: Write) -> None:
        """A sound drop-in with a missing class stops the start."""
        write("ping_drop_in", _SOUND)

        with pytest.raises(
            DiscoveryError, match="plugin ping cannot be used: "
        ):
            require(discover(), ["ping"])

    def test_disabled_broken_plugin_stops_the_start(
        self, write: Write
    ) -> None:
        """All that is installed must be sound, whether enabled or not."""
        write("memory_drop_in", _BACKEND.replace('"memory"', "7"))

        with pytest.raises(DiscoveryError, match="Factory"):
            require(discover(), [])


class BuiltInTests:
    """The protocols that come with the gateway."""

    def test_own_plugins_are_sound(self) -> None:
        """They are found, and their classes can be imported."""
        require(discover(), ["bootstrap", "est"])
