# SPDX-License-Identifier: MIT
"""
The rules of the source that no tool checks, each with a proof that it bites.
"""

from __future__ import annotations

import ast
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent.parent
_PACKAGE = _ROOT / "trstctl"

#: The layer of each module and package; the longest prefix counts.
LAYERS = {
    "trstctl": 0,
    "trstctl.errors": 0,
    "trstctl.model": 0,
    "trstctl.interfaces": 1,
    "trstctl.audit": 1,
    "trstctl.plugin": 1,
    "trstctl.settings": 1,
    "trstctl.pkix": 1,
    "trstctl.policy": 2,
    "trstctl.ra": 2,
    "trstctl.asked": 2,
    "trstctl.gates": 2,
    "trstctl.polls": 2,
    "trstctl.renewals": 2,
    "trstctl.rules": 2,
    "trstctl.refusals": 2,
    "trstctl.shield": 2,
    "trstctl.minting": 2,
    "trstctl.enquiries": 2,
    "trstctl.key_maker": 2,
    "trstctl.vouching": 2,
    "trstctl.outbound": 2,
    "trstctl.ca": 2,
    "trstctl.web": 2,
    "trstctl.admission": 2,
    "trstctl.http": 2,
    "trstctl.tls": 2,
    "trstctl.protocols": 3,
    "trstctl.backends": 3,
    "trstctl.backends.passwords": 0,  # imports nothing of ours
    "trstctl.testing": 3,
    "trstctl.config": 4,
    "trstctl.config.secrets": 1,  # imports nothing of ours
    "trstctl.discovery": 4,
    "trstctl.log": 4,
    "trstctl.metrics": 4,
    "trstctl.ops": 4,
    "trstctl.own_keys": 3,
    "trstctl.challenges": 3,
    "trstctl.revocation_challenges": 3,
    "trstctl.trust_settings": 3,
    "trstctl.server_certificate": 5,
    "trstctl.authorities": 5,
    "trstctl.founding": 5,
    "trstctl.gateway": 5,
    "trstctl.serving": 5,
    "trstctl.tap": 5,
    "trstctl.workers": 5,
    "trstctl.cli": 5,
}

#: What nobody may call: the clocks are passed in.
_CLOCKS = {
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "time.time",
    "time.time_ns",
    "uuid.uuid1",
    "uuid1",
}
_LOG_METHODS = {
    "debug",
    "info",
    "warn",
    "error",
    "critical",
    "failure",
    "emit",
}

Faults = Iterator[str]


def _modules() -> list[Path]:
    """Return every source file of the package."""
    return sorted(_PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(_ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def _layer(module: str) -> int | None:
    """Return the layer of a module, or ``None`` if nobody has placed it."""
    if module == "trstctl" or module.startswith("trstctl.__"):
        return 0  # the package itself, and its version
    while module != "trstctl":
        if module in LAYERS:
            return LAYERS[module]
        module = module.rpartition(".")[0]
    return None


def _imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything that is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


# --- the rules --------------------------------------------------------------


def imports_go_down(module: str, tree: ast.Module) -> Faults:
    """An import goes to its own layer or below, never across protocols."""
    own = _layer(module)
    if own is None:
        yield f"{module} has no layer; give it one in LAYERS"
        return
    for line, name in _imports(tree):
        if not f"{name}.".startswith("trstctl."):
            continue
        layer = _layer(name)
        if layer is None:
            yield f"{module}:{line}: {name} has no layer"
        elif layer > own:
            yield f"{module}:{line}: {name} is above"
        here, there = module.split(".")[:3], name.split(".")[:3]
        if here[:2] == there[:2] == ["trstctl", "protocols"] and (
            here[2:] != there[2:]
        ):
            yield f"{module}:{line}: {name} is another protocol's"


def pkix_does_no_io(module: str, tree: ast.Module) -> Faults:
    """Wire structures are read and written without Twisted."""
    if module.startswith("trstctl.pkix"):
        for line, name in _imports(tree):
            if name.split(".")[0] in ("twisted", "socket", "asyncio"):
                yield f"{module}:{line}: {name}"


def only_tap_names_the_reactor(module: str, tree: ast.Module) -> Faults:
    """The reactor is passed in, everywhere but in the composition root."""
    if module == "trstctl.tap":
        return
    for line, name in _imports(tree):
        if f"{name}.".startswith("twisted.internet.reactor."):
            yield f"{module}:{line}: {name}"
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and ast.unparse(node) == "twisted.internet.reactor"
        ):
            yield f"{module}:{node.lineno}: {ast.unparse(node)}"


def clocks_are_passed_in(module: str, tree: ast.Module) -> Faults:
    """Nobody but the composition root reads the time of day."""
    if module == "trstctl.tap":
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            text = ast.unparse(node)
            if any(f".{text}".endswith(f".{clock}") for clock in _CLOCKS):
                yield f"{module}:{node.lineno}: {text}"
    for line, name in _imports(tree):
        if name in ("time.time", "time.time_ns", "uuid.uuid1"):
            yield f"{module}:{line}: {name}"


def no_mocks(module: str, tree: ast.Module) -> Faults:
    """Fakes, not mocks."""
    for line, name in _imports(tree):
        if f"{name}.".startswith(("unittest.mock.", "mock.")):
            yield f"{module}:{line}: {name}"


def log_formats_are_literal(module: str, tree: ast.Module) -> Faults:
    """
    A log format is a literal whose fields are plain names: one that a peer
    could shape might read any attribute of what is logged.
    """
    for node in ast.walk(tree):
        if not (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _LOG_METHODS
            and _is_log(node.func.value)
        ):
            continue
        place = 1 if node.func.attr == "emit" else 0
        argument = node.args[place] if len(node.args) > place else None
        if not (
            isinstance(argument, ast.Constant)
            and isinstance(argument.value, str)
        ):
            yield f"{module}:{node.lineno}: the format is not a literal"
            continue
        for _, name, _, _ in string.Formatter().parse(argument.value):
            if name is not None and not name.isidentifier():
                yield f"{module}:{node.lineno}: {{{name}}} is no plain name"


def _is_log(node: ast.expr) -> bool:
    """Tell whether an expression is a logger."""
    name = ast.unparse(node).split("(")[0].rpartition(".")[2].lower()
    return name.lstrip("_") in ("log", "logger")


def everything_is_documented(module: str, tree: ast.Module) -> Faults:
    """Each module, class and function that has a name says what it is."""
    if not ast.get_docstring(tree):
        yield f"{module}: no docstring"
    for node in ast.walk(tree):
        if isinstance(
            node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and not (
            ast.get_docstring(node)
            or (node.name.startswith("__") and node.name.endswith("__"))
            or _has_contract(tree, node)
        ):
            yield f"{module}:{node.lineno}: {node.name} has no docstring"


def _has_contract(tree: ast.Module, node: ast.AST) -> bool:
    """
    Tell whether a function is defined inside another one, or is declared
    once more for types alone.
    """
    for outer in ast.walk(tree):
        if (
            isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
            and outer is not node
            and any(inner is node for inner in ast.walk(outer))
        ):
            return True
    return any(
        ast.unparse(decorator).endswith("overload")
        for decorator in getattr(node, "decorator_list", ())
    )


RULES = (
    imports_go_down,
    pkix_does_no_io,
    only_tap_names_the_reactor,
    clocks_are_passed_in,
    no_mocks,
    log_formats_are_literal,
    everything_is_documented,
)


# --- the tests --------------------------------------------------------------


class SourceTests:
    """The package keeps the rules."""

    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
    def test_package_keeps(
        self, rule: Callable[[str, ast.Module], Faults]
    ) -> None:
        """Every source file keeps the rule."""
        faults = [
            fault
            for path in _modules()
            for fault in rule(_name(path), ast.parse(path.read_bytes()))
        ]

        assert [] == faults

    def test_every_file_names_its_licence(self) -> None:
        """The first line of each Python file is the SPDX line."""
        folders = ("trstctl", "tests", "twisted", "benchmarks", "docs")
        without = [
            path
            for folder in folders
            for path in (_ROOT / folder).rglob("*.py")
            if not path.read_text("utf-8").startswith(
                "# SPDX-License-Identifier: MIT\n"
            )
        ]

        assert [] == without

    def test_tests_use_no_mocks(self) -> None:
        """The rule holds for the tests, too."""
        faults = [
            fault
            for path in (_ROOT / "tests").rglob("*.py")
            for fault in no_mocks(path.stem, ast.parse(path.read_bytes()))
        ]

        assert [] == faults

    @pytest.mark.parametrize("folder", ["twisted", "twisted/plugins"])
    def test_drop_ins_are_no_package(self, folder: str) -> None:
        """An ``__init__.py`` there would hide Twisted itself."""
        assert not (_ROOT / folder / "__init__.py").exists()

    def test_no_drop_in_hides_the_package(self) -> None:
        """A drop-in must not be called like what it imports."""
        assert not (_ROOT / "twisted/plugins/trstctl.py").exists()


class RuleTests:
    """Each rule refuses what it is there for, and nothing else."""

    @pytest.mark.parametrize(
        ("rule", "module", "source"),
        [
            (imports_go_down, "trstctl.model", "import trstctl.ra"),
            (imports_go_down, "trstctl.ra", "from trstctl import backends"),
            (imports_go_down, "trstctl.ra", "def f():\n import trstctl.tap"),
            (
                imports_go_down,
                "trstctl.pkix.der",
                "from trstctl.policy.keys import x",
            ),
            (
                imports_go_down,
                "trstctl.protocols.est.codec",
                "from trstctl.protocols.scep import codec",
            ),
            (imports_go_down, "trstctl.unplaced", ""),
            (imports_go_down, "trstctl.tap", "import trstctl.unplaced"),
            (
                imports_go_down,
                "trstctl.model",
                "if TYPE_CHECKING:\n from trstctl.interfaces import x",
            ),
            (
                pkix_does_no_io,
                "trstctl.pkix.der",
                "from twisted.internet import defer",
            ),
            (
                only_tap_names_the_reactor,
                "trstctl.ra",
                "from twisted.internet import reactor",
            ),
            (
                only_tap_names_the_reactor,
                "trstctl.ra",
                "from twisted.internet.reactor import callLater",
            ),
            (
                only_tap_names_the_reactor,
                "trstctl.ra",
                "twisted.internet.reactor.run()",
            ),
            (clocks_are_passed_in, "trstctl.ra", "datetime.now(UTC)"),
            (clocks_are_passed_in, "trstctl.ra", "now = dt.datetime.now"),
            (clocks_are_passed_in, "trstctl.ra", "time.time()"),
            (clocks_are_passed_in, "trstctl.ra", "from time import time"),
            (clocks_are_passed_in, "trstctl.ra", "uuid1()"),
            (no_mocks, "test_x", "from unittest.mock import Mock"),
            (no_mocks, "test_x", "from unittest import mock"),
            (no_mocks, "test_x", "import mock"),
            (log_formats_are_literal, "m", "self._log.info(text)"),
            (log_formats_are_literal, "m", "log.info(f'a {b}', b=1)"),
            (log_formats_are_literal, "m", "self.log.warn('a' + b)"),
            (log_formats_are_literal, "m", "Logger().emit(level, text)"),
            (log_formats_are_literal, "m", "_log.failure()"),
            (log_formats_are_literal, "m", "log.info('{a.password}', a=a)"),
            (log_formats_are_literal, "m", "log.info('{a[b]}', a=a)"),
            (log_formats_are_literal, "m", "log.info('{}')"),
            (everything_is_documented, "m", ""),
            (everything_is_documented, "m", "'''M.'''\nclass A: pass"),
            (everything_is_documented, "m", "'''M.'''\ndef _f(): pass"),
            (
                everything_is_documented,
                "m",
                "'''M.'''\nclass A:\n '''A.'''\n async def f(self): pass",
            ),
        ],
    )
    def test_bad_source_is_refused(
        self,
        rule: Callable[[str, ast.Module], Faults],
        module: str,
        source: str,
    ) -> None:
        """Exactly one fault, found by the rule."""
        assert 1 == len(list(rule(module, ast.parse(source))))

    @pytest.mark.parametrize(
        ("rule", "module", "source"),
        [
            (imports_go_down, "trstctl.ra", "from trstctl import model"),
            (imports_go_down, "trstctl.model", "import trstctl"),
            (
                imports_go_down,
                "trstctl.model",
                "from trstctl import __version__",
            ),
            (imports_go_down, "trstctl.ra", "import trstctl, os, trstctlx"),
            (
                imports_go_down,
                "trstctl.protocols.est.resource",
                "from trstctl.protocols.est import codec",
            ),
            (pkix_does_no_io, "trstctl.ra", "import twisted"),
            (
                only_tap_names_the_reactor,
                "trstctl.tap",
                "from twisted.internet import reactor",
            ),
            (clocks_are_passed_in, "trstctl.ra", "self.now(); x.now"),
            (clocks_are_passed_in, "trstctl.tap", "datetime.now(UTC)"),
            (log_formats_are_literal, "m", "log.info('got {a} {{b}}', a=1)"),
            (log_formats_are_literal, "m", "math.log.info2(x); f.info(x)"),
            (
                everything_is_documented,
                "m",
                "'''M.'''\ndef f():\n '''F.'''\n def g(): pass",
            ),
            (
                everything_is_documented,
                "m",
                "'''M.'''\nclass A:\n '''A.'''\n def __len__(self): pass",
            ),
            (
                everything_is_documented,
                "m",
                "'''M.'''\n@overload\ndef f(): ...",
            ),
        ],
    )
    def test_good_source_is_kept(
        self,
        rule: Callable[[str, ast.Module], Faults],
        module: str,
        source: str,
    ) -> None:
        """No false alarm."""
        assert [] == list(rule(module, ast.parse(source)))
