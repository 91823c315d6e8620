# SPDX-License-Identifier: MIT
"""
Who of the processes that share a database file still lives.

Each owner holds a lock on a file of its own.  The kernel releases it when
the process ends, however it ends; so a successor sees at once what a lease
would tell it a minute later.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from urllib.parse import quote

from trstctl.errors import Unavailable


class OwnerLocks:
    """
    The lock files of the owners, in one directory.

    :param directory: made, with mode 0700, when it is first needed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}

    def __contains__(self, owner: str) -> bool:
        return owner in self._held

    def _path(self, owner: str) -> Path:
        """Return the owner's file; no name leads out of the directory."""
        return self._directory / f"{quote(owner, safe='')}.lock"

    def take(self, owner: str) -> None:
        """
        Take the owner's lock and keep it until :meth:`release`.

        :raises Unavailable: another process has this name, or the directory
            cannot be written.
        """
        if owner in self._held:
            return
        path = self._path(owner)
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Unavailable from error
        if not _lock(descriptor) or not _is_file(descriptor, path):
            os.close(descriptor)
            raise Unavailable
        self._held[owner] = descriptor

    def release(self, owner: str) -> None:
        """Remove the owner's file and lock, if they are ours."""
        descriptor = self._held.pop(owner, None)
        if descriptor is not None:
            self._path(owner).unlink(missing_ok=True)
            os.close(descriptor)

    def has_ended(self, owner: str) -> bool | None:
        """
        Tell whether the owner's process has ended.

        :returns: ``None`` if the owner has no file.
        """
        if owner in self._held:
            return False
        try:
            descriptor = os.open(self._path(owner), os.O_RDWR)
        except OSError:
            return None
        try:
            return _lock(descriptor)
        finally:
            os.close(descriptor)

    def sweep(self) -> None:
        """Remove the files of processes that have ended."""
        for path in self._directory.glob("*.lock"):
            try:
                descriptor = os.open(path, os.O_RDWR)
            except OSError:
                continue  # its owner has just removed it
            if _lock(descriptor):
                path.unlink(missing_ok=True)
            os.close(descriptor)

    def close(self) -> None:
        """
        Let go of every lock, as the end of the process would.

        The files stay, for a successor to see that their owners have ended.
        """
        while self._held:
            os.close(self._held.popitem()[1])


def _lock(descriptor: int) -> bool:
    """Try to lock the file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_file(descriptor: int, path: Path) -> bool:
    """Tell whether the open file is still the one at the path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
