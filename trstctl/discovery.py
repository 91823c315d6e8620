# SPDX-License-Identifier: MIT
"""
Finds the plugins in ``twisted/plugins/``, and refuses what is not sound.

Twisted logs and skips a drop-in that does not import, returns two plugins of
one name without a word, never checks that a plugin keeps its interface, and
trusts a cache (a pickle beside the drop-ins) by its modification time.  A
gateway must not start without a protocol that its operator believes to be
there.  So this module walks the same directories itself, imports each
drop-in, and tells for each plugin whether it is sound.  It reads no cache and
writes nothing: a read-only installation is as good as any.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from attrs import define, evolve, frozen
from twisted.plugin import IPlugin
from zope.interface import Interface
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from trstctl.interfaces import IBackendFactory, IEnrollmentProtocol
from twisted import plugins

#: The kinds of plugin, and which attribute is the unique name of each.
_KINDS: tuple[tuple[str, type[Interface], str], ...] = (
    ("protocol", IEnrollmentProtocol, "name"),
    ("backend", IBackendFactory, "prefix"),
)

#: What a drop-in of ours names somewhere in its text.
_MARK = b"trstctl"


class DiscoveryError(Exception):
    """The plugins are not sound: no start.  The text is one line."""


@frozen
class PluginReport:
    """
    One row of ``trstctl plugin list``.

    :ivar name: of the plugin; of the module for a drop-in that fails.
    :ivar kind: ``protocol``, ``backend``, ``drop-in`` (one that fails to
        import) or ``foreign`` (one that fails, and does not name trstctl).
    :ivar version: as the plugin tells it.
    :ivar origin: the file.
    :ivar state: ``ok``, ``broken`` or ``duplicate``.
    :ivar reason: why it is not ``ok``; one line.
    """

    name: str
    kind: str
    version: str
    origin: str
    state: str
    reason: str = ""


@frozen
class Discovery:
    """
    What was found.

    :ivar protocols: the sound ones, by name.
    :ivar backends: the sound ones, by prefix.
    :ivar listing: everything, sound or not, by kind and name.
    """

    protocols: Mapping[str, IEnrollmentProtocol]
    backends: Mapping[str, IBackendFactory]
    listing: Sequence[PluginReport]


@define
class _Found:
    """A plugin, and what is to be reported of it."""

    plugin: object
    report: PluginReport


def discover() -> Discovery:
    """
    Import every drop-in and judge its plugins.

    :returns: the sound plugins, and a report of all.
    """
    found: list[_Found] = []
    for stem, file in _drop_ins(list(plugins.__path__)):
        found.extend(_examine(stem, file))
    _refuse_duplicates(found)
    sound: dict[str, dict[str, object]] = {"protocol": {}, "backend": {}}
    for each in found:
        if each.report.state == "ok":
            sound[each.report.kind][each.report.name] = each.plugin
    return Discovery(
        protocols=sound["protocol"],  # type: ignore[arg-type] # by its kind
        backends=sound["backend"],  # type: ignore[arg-type] # by its kind
        listing=sorted(
            (each.report for each in found),
            key=lambda report: (report.kind, report.name, report.origin),
        ),
    )


def require(discovery: Discovery, names: Collection[str]) -> None:
    """
    Refuse a start without each of these protocols, or with an unsound plugin.

    A plugin is unsound whether it is enabled or not; a drop-in that fails
    but does not name trstctl is somebody else's, and is only mentioned where
    a protocol is missing.

    :raises DiscoveryError: with all that is wrong, in one line.
    """
    problems = [
        f"plugin {report.name} ({report.origin}): {report.reason}"
        for report in discovery.listing
        if report.state != "ok" and report.kind != "foreign"
    ]
    reported = {
        report.name for report in discovery.listing if report.state != "ok"
    }
    for name in sorted(names):
        plugin = discovery.protocols.get(name)
        if plugin is not None:
            problems.extend(_unusable(name, plugin))
        elif name not in reported:
            problems.append(_missing(name, discovery))
    if problems:
        raise DiscoveryError("; ".join(problems))


def _missing(name: str, discovery: Discovery) -> str:
    """Say that a protocol is missing, and what may be the cause."""
    installed = ", ".join(sorted(discovery.protocols)) or "none"
    text = f"no plugin provides the protocol {name} (installed: {installed})"
    for report in discovery.listing:
        if report.kind == "foreign":
            text += f"; {report.origin} may: {report.reason}"
    return text


def _unusable(name: str, plugin: IEnrollmentProtocol) -> Iterator[str]:
    """Say that the class that a plugin names cannot be imported."""
    try:
        plugin.settings_schema()
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        yield f"plugin {name} cannot be used: {_told(error)}"


def _drop_ins(directories: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """
    Yield module name and file of each drop-in, the first of a name only.

    A second file of one name is shadowed, as everywhere in Python.
    """
    seen = {"__init__"}
    for directory in directories:
        for file in sorted(Path(directory).glob("*.py")):
            if file.stem.isidentifier() and file.stem not in seen:
                seen.add(file.stem)
                yield file.stem, file


def _examine(stem: str, file: Path) -> Iterator[_Found]:
    """Import a drop-in and yield what it offers to us."""
    try:
        module = importlib.import_module(f"twisted.plugins.{stem}")
        offered = list(_plugins(module))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - or anything
        kind = "drop-in" if _MARK in _content(file) else "foreign"
        reason = f"cannot be imported: {_told(error)}"
        yield _Found(
            None, PluginReport(stem, kind, "", str(file), "broken", reason)
        )
        return
    for plugin, kind, interface, key in offered:
        yield _Found(plugin, _judge(plugin, kind, interface, key, str(file)))


def _plugins(
    module: ModuleType,
) -> Iterator[tuple[object, str, type[Interface], str]]:
    """Yield each plugin of a module once, with its kind."""
    seen: set[int] = set()
    for value in list(vars(module).values()):
        for kind, interface, key in _KINDS:
            if interface.providedBy(value) and id(value) not in seen:
                seen.add(id(value))
                yield value, kind, interface, key


def _judge(
    plugin: object, kind: str, interface: type[Interface], key: str, file: str
) -> PluginReport:
    """Return the report of one plugin, names not yet compared."""
    reason = ""
    try:
        verifyObject(interface, plugin)
    except Invalid as error:
        reason = f"does not keep {interface.__name__}: {_told(error)}"
    name = getattr(plugin, key, None)
    if not (isinstance(name, str) and name):
        reason = reason or f"its {key} is not a text"
        name = type(plugin).__name__
    if not (reason or IPlugin.providedBy(plugin)):
        reason = "does not provide twisted.plugin.IPlugin"
    version = str(getattr(plugin, "version", ""))
    state = "broken" if reason else "ok"
    return PluginReport(name, kind, version, file, state, reason)


def _refuse_duplicates(found: list[_Found]) -> None:
    """Mark every plugin whose name another of its kind has, too."""
    owners: dict[tuple[str, str], list[_Found]] = {}
    for each in found:
        if each.report.state == "ok":
            key = (each.report.kind, each.report.name)
            owners.setdefault(key, []).append(each)
    for (kind, _), rivals in owners.items():
        if len(rivals) == 1:
            continue
        for each in rivals:
            others = ", ".join(
                other.report.origin for other in rivals if other is not each
            )
            each.report = evolve(
                each.report,
                state="duplicate",
                reason=f"another {kind} has this name: {others}",
            )


def _content(file: Path) -> bytes:
    """Return the file's bytes; nothing if it cannot be read."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _told(error: BaseException) -> str:
    """Return an exception as one line of bounded length."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300]
