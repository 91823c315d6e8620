# SPDX-License-Identifier: MIT
"""Registers the SQLite store with trstctl."""

from trstctl.plugin import BackendPlugin

sqlite = BackendPlugin(
    "sqlite", "trstctl.backends.store_sqlite.make", "SQLite 3"
)
