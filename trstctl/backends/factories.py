# SPDX-License-Identifier: MIT
"""What the drop-ins of the built-in backends name."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from trstctl.backends.migrate import SchemaError
from trstctl.backends.store_sqlite import SQLiteStore
from trstctl.errors import Unavailable
from trstctl.interfaces import IStore


def make_sqlite(
    url: str, *, reactor: Any, migrate_schema: bool = True
) -> IStore:
    """
    Return the open store of ``sqlite:PATH``.

    :param reactor: in whose thread the store is used.
    :param migrate_schema: bring an older schema up to date.
    :raises Unavailable: it cannot be opened; the text says why.
    """
    path = Path(url.partition(":")[2])
    store = SQLiteStore(path, deliver=reactor.callFromThread)
    try:
        store.open(migrate_schema=migrate_schema)
    except (OSError, SchemaError) as error:
        raise Unavailable(f"store {path}: {error}") from error
    except sqlite3.OperationalError as error:
        raise Unavailable(
            f"store {path}: {error}; check the path, that this user may "
            "write there, that the disk has space, and that nobody locks it"
        ) from error
    except sqlite3.Error as error:
        raise Unavailable(
            f"store {path}: {error}; stop the gateway and put the backup back"
        ) from error
    opened: IStore = store
    return opened
