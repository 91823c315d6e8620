# SPDX-License-Identifier: MIT
"""
The files of a configuration: opened to see that a start would succeed.

Nothing is made and nothing is changed.  What depends on who asks (what may be
read, and where something may be written) is judged for this process's user.
The authorities' files are not here: to load them is to check them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trstctl.backends.keyfiles import KeyFileError, private_directory
from trstctl.challenges import KEYS_FILE, read_keys
from trstctl.config.model import Configuration
from trstctl.config.secrets import SecretError
from trstctl.errors import TrstctlError
from trstctl.founding import TLS_DIRECTORY
from trstctl.own_keys import CREDENTIALS_DIRECTORY
from trstctl.server_certificate import read_files
from trstctl.serving.faults import StartFault, server_certificate_faults
from trstctl.tls import make_context


def check_files(config: Configuration) -> None:
    """
    Open what a start opens, beside the files of the authorities.

    :raises StartFault: naming the file, and what is wrong with it.
    """
    _check_places(config)
    for name, settings in config.protocols.items():
        with file_faults(config, f"protocols.{name}"):
            settings.open_files(name)
    files = config.listeners.https.certificate
    if not isinstance(files, str):
        with server_certificate_faults():
            make_context(*read_files(files))
    with file_faults(config, "state"):
        for directory in (TLS_DIRECTORY, CREDENTIALS_DIRECTORY):
            if (config.state / directory).exists():
                private_directory(config.state / directory)
        keys = config.state / CREDENTIALS_DIRECTORY / KEYS_FILE
        if keys.exists():
            read_keys(keys)


@contextmanager
def file_faults(config: Configuration, key: str) -> Iterator[None]:
    """
    Say where in the configuration a file is named.

    :raises StartFault: it cannot be used, or not even be looked at.
    """
    try:
        yield
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error)
        raise StartFault(
            f"{config.path}: {key}: {place}{reason}; correct the path, or let "
            "this user use it"
        ) from error
    except (KeyFileError, SecretError, TrstctlError, ValueError) as error:
        raise StartFault(f"{config.path}: {key}: {error}") from error


def _check_places(config: Configuration) -> None:
    """Refuse places where nothing could be kept."""
    with file_faults(config, "state"):
        _check_directory(config.state)
    kind, _, place = config.store.partition(":")
    if kind == "sqlite":
        with file_faults(config, "store"):
            # SQLite keeps files beside it.
            _check_directory(Path(place).parent)
            _check_file(Path(place), os.R_OK | os.W_OK)
    if config.log.file is not None:
        with file_faults(config, "log.file"):
            if not config.log.file.parent.exists():
                # Nobody makes it.
                raise FileNotFoundError(
                    errno.ENOENT,
                    os.strerror(errno.ENOENT),
                    str(config.log.file.parent),
                )
            if not config.log.file.exists():
                _check_directory(config.log.file.parent)
            _check_file(config.log.file, os.W_OK)


def _check_directory(path: Path) -> None:
    """Refuse a directory that is not, or cannot become, one to write to."""
    nearest = next(each for each in (path, *path.parents) if each.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(
            errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest)
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(
            errno.EACCES, os.strerror(errno.EACCES), str(nearest)
        )


def _check_file(path: Path, mode: int) -> None:
    """Refuse what is there and cannot be used as a file."""
    if path.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, os.strerror(errno.EISDIR), str(path)
        )
    if path.exists() and not os.access(path, mode):
        raise PermissionError(
            errno.EACCES, os.strerror(errno.EACCES), str(path)
        )
