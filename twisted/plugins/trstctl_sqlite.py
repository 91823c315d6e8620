# SPDX-License-Identifier: MIT
"""Registers the SQLite store with trstctl."""

from trstctl.plugin import BackendPlugin

sqlite = BackendPlugin(
    "sqlite", "trstctl.backends.factories.make_sqlite", "SQLite 3"
)
