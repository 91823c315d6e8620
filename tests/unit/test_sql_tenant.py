# SPDX-License-Identifier: MIT
"""
R-10: a tenant is in every SQL statement, and no statement is put together.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_PACKAGE = Path(__file__).parent.parent.parent / "trstctl"

#: What a text must look like to be a statement that touches rows.
_STATEMENT = re.compile(
    r"\s*(?:WITH\b.*\)\s*)?(?:"
    r"SELECT\b.+(?:\bFROM\b|\()|INSERT\s+(?:OR\s+\w+\s+)?INTO\s"
    r"|REPLACE\s+INTO\s|UPDATE\s+(?:OR\s+\w+\s+)?\w+\s+SET\s"
    r"|DELETE\s+FROM\s)",
    re.DOTALL,
)
_TABLE = re.compile(
    r"(?<!\bDO )\b(?:FROM|JOIN|INTO|UPDATE(?:\s+OR\s+\w+)?)\s+(\w+)"
)

#: Tables that belong to no tenant.
_NO_TENANT = {
    "schema_migrations",
    "sqlite_schema",
    "leases",
    # Of authorities, which may serve several tenants.
    "crls",
    "crl_numbers",
    "generations",
}

#: What looks into all tenants, each with its reason.
_ALL_TENANTS = {
    # What an ended process has left behind is retired in every tenant.
    ("sqlite_intents", "_OWNERS_OF_OPEN"),
    # What nobody finished, or needs any more, ends in every tenant.
    ("sqlite_dialogues", "_UNCONFIRMED"),
    ("sqlite_dialogues", "_EXPIRED"),
    ("sqlite_dialogues", "_PURGE"),
    # An authority answers for a serial, and lists the revoked ones, to
    # whoever asks, in whichever tenant it promised them.
    ("sqlite_revocation", "_STATUS"),
    ("sqlite_revocation", "_LIST_REVOKED"),
    ("sqlite_revocation", "_LIST_CHANGED"),
    # When something was last revoked; no tenant's facts.
    ("sqlite_revocation", "_LAST_CHANGE"),
}


def _is_statement(node: ast.AST) -> bool:
    """Tell whether the node is a literal that holds a statement."""
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and _STATEMENT.match(node.value) is not None
    )


def _literals(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield every statement in the module, with its name if it has one."""
    named: dict[int, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    named[id(node.value)] = target.id
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and _is_statement(node):
            yield named.get(id(node), ""), str(node.value)


def tenantless(module: str, source: str) -> list[str]:
    """Return the statements that lack the tenant and have no excuse."""
    return [
        text
        for name, text in _literals(ast.parse(source))
        if "tenant_id" not in text
        and (module, name) not in _ALL_TENANTS
        and not set(_TABLE.findall(text)) <= _NO_TENANT
    ]


def assembled(source: str) -> list[int]:
    """Return the lines where a statement is put together from parts."""
    tree = ast.parse(source)
    constants = {
        node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and _is_statement(node.value)
    }

    def is_sql(node: ast.AST) -> bool:
        return _is_statement(node) or (
            isinstance(node, ast.Name) and node.id in constants
        )

    lines: list[int] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            first = node.values[0] if node.values else node
            text = ast.unparse(node)
            if is_sql(first) or re.search(r"\b(SELECT|DELETE) .*FROM ", text):
                lines.append(node.lineno)
            if any(
                isinstance(part, ast.FormattedValue) and is_sql(part.value)
                for part in node.values
            ):
                lines.append(node.lineno)
        elif (
            isinstance(node, ast.BinOp)
            and (is_sql(node.left) or is_sql(node.right))
        ) or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"format", "format_map", "join", "replace"}
            and (is_sql(node.func.value) or any(map(is_sql, node.args)))
        ):
            lines.append(node.lineno)
    return lines


def _modules() -> list[Path]:
    return sorted(_PACKAGE.rglob("*.py"))


class SQLTests:
    """The statements of the whole package."""

    @pytest.mark.parametrize("path", _modules(), ids=lambda path: path.stem)
    def test_tenant(self, path: Path) -> None:
        """R-10: every statement names its tenant."""
        assert tenantless(path.stem, path.read_text()) == []

    @pytest.mark.parametrize("path", _modules(), ids=lambda path: path.stem)
    def test_literal(self, path: Path) -> None:
        """R-10: no statement is put together from parts."""
        assert assembled(path.read_text()) == []

    def test_there_are_statements(self) -> None:
        """The test sees the statements that it judges."""
        found = [
            text
            for path in _modules()
            for _, text in _literals(ast.parse(path.read_text()))
        ]
        assert len(found) >= 40

    def test_schema(self) -> None:
        """Every table but those of no tenant has a tenant in its rows."""
        for path in (_PACKAGE / "backends" / "migrations").glob("*.sql"):
            tables = re.findall(
                r"CREATE TABLE (\w+) \((.*?)\n\)", path.read_text(), re.DOTALL
            )
            assert tables
            for name, columns in tables:
                assert name in _NO_TENANT or "tenant_id TEXT" in columns

    @pytest.mark.parametrize(
        "source",
        [
            'X = "SELECT der FROM certificates WHERE serial = ?"',
            'execute("DELETE FROM secrets WHERE id = ?", (id,))',
            'X = """\nUPDATE requests SET state = ?\nWHERE id = ?\n"""',
            'X = "INSERT OR REPLACE INTO audit (sequence) VALUES (?)"',
            'X = "SELECT a FROM leases JOIN secrets ON b = c"',
            '_OWNERS_OF_OPEN = "SELECT owner FROM intents"',
        ],
    )
    def test_catches_a_missing_tenant(self, source: str) -> None:
        """A statement without its tenant is found."""
        assert len(tenantless("elsewhere", source)) == 1

    @pytest.mark.parametrize(
        "source",
        [
            'X = "SELECT until FROM leases WHERE owner = ?"',
            'X = "SELECT id FROM secrets WHERE tenant_id = ?"',
            'X = "Select a certificate from the list."',
            'X = "delete the file"',
        ],
    )
    def test_lets_good_ones_pass(self, source: str) -> None:
        """What is no statement, or has its tenant, is left alone."""
        assert tenantless("elsewhere", source) == []
        assert assembled(source) == []

    @pytest.mark.parametrize(
        "source",
        [
            'f"SELECT a FROM secrets WHERE tenant_id = {tenant}"',
            'f"{verb}: SELECT a FROM {table}"',
            '"SELECT a FROM secrets WHERE tenant_id = %s" % tenant',
            '"SELECT a FROM secrets WHERE tenant_id = {}".format(tenant)',
            '"SELECT a FROM secrets WHERE tenant_id = " + tenant',
            '"".join(["x"]) + "DELETE FROM secrets WHERE tenant_id = 1"',
            'X = "SELECT tenant_id FROM secrets"\nY = X + " LIMIT 1"',
            'X = "SELECT tenant_id FROM secrets"\nY = f"{X} LIMIT 1"',
            'X = "SELECT tenant_id FROM secrets"\nY = X.replace("a", b)',
        ],
    )
    def test_catches_an_assembled_one(self, source: str) -> None:
        """A statement that is put together from parts is found."""
        assert assembled(source)
