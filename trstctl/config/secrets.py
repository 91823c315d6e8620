# SPDX-License-Identifier: MIT
"""
References to secrets: the configuration says where one is, never what it is.

``file:PATH``
    A file that only its owner may read; the owner is this user or root.  A
    symbolic link is followed, and its target judged.
``env:NAME``
    An environment variable.  Other processes of the user can read it.
``cred:NAME``
    A file in systemd's ``$CREDENTIALS_DIRECTORY``, which systemd protects
    (by an access control list, so the mode tells nothing).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from attrs import field, frozen
from pydantic import AfterValidator, WithJsonSchema

#: Octets of the largest secret: a key file with its certificates.
LIMIT = 64 * 1024

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
_REMEDY = "write file:PATH, env:NAME or cred:NAME, and put the secret there"


class SecretError(Exception):
    """A secret cannot be had.  The text is one sentence with the remedy."""


@frozen
class Secret:
    """
    The secret itself; nothing but its two properties shows it.

    :ivar octets: as stored.
    """

    octets: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """
        The secret as text, without the line feed that an editor adds.

        :raises SecretError: it is not UTF-8.
        """
        try:
            text = self.octets.decode("utf-8")
        except UnicodeDecodeError:
            raise SecretError(
                "the secret is not text in UTF-8; store it anew"
            ) from None
        return text.removesuffix("\n").removesuffix("\r")


def check_reference(reference: str) -> str:
    """
    Return the reference, if it is one.

    :raises ValueError: with the remedy, and without the text itself, which
        may be a secret that was written in the wrong place.
    """
    kind, _, place = reference.partition(":")
    if kind not in ("file", "env", "cred"):
        raise ValueError(f"a secret must not stand here; {_REMEDY}")
    if kind == "file" and (not place or "\0" in place):
        raise ValueError("file: needs a path; write file:PATH")
    if kind != "file" and not _NAME.fullmatch(place):
        raise ValueError(
            f"{kind}: needs a name of letters, digits, '_', '.' and '-'"
        )
    return reference


#: The type of a setting that refers to a secret.
SecretReference = Annotated[
    str,
    AfterValidator(check_reference),
    WithJsonSchema({"type": "string", "pattern": "^(file|env|cred):.+"}),
]


def absolute(reference: str, base: Path) -> str:
    """Return the reference with a ``file:`` path made absolute."""
    kind, _, place = reference.partition(":")
    return f"file:{base / place}" if kind == "file" else reference


def read_secret(reference: str, environment: Mapping[str, str]) -> Secret:
    """
    Fetch what a reference refers to.

    :param reference: checked, and with an absolute path.
    :param environment: the process's environment variables.
    :raises SecretError: it is missing, empty, too large or not protected.
    """
    kind, _, place = check_reference(reference).partition(":")
    if kind == "env":
        value = environment.get(place, "")
        octets = value.encode("utf-8", "surrogateescape")
        remedy = f"set the environment variable {place}"
    elif kind == "cred":
        directory = environment.get("CREDENTIALS_DIRECTORY", "")
        if not directory:
            raise SecretError(
                f"{reference}: systemd passed no credentials; add "
                f"LoadCredential={place}:PATH to the unit"
            )
        octets = _read(Path(directory) / place, reference, guarded=True)
        remedy = "store the secret in the credential"
    else:
        octets = _read(Path(place), reference, guarded=False)
        remedy = "write the secret into the file"
    if not octets.strip():
        raise SecretError(f"{reference}: the secret is empty; {remedy}")
    return Secret(octets)


def _read(path: Path, reference: str, *, guarded: bool) -> bytes:
    """Read a secret file, judging the very file that was opened."""
    try:
        # A FIFO must not stop the start: hence O_NONBLOCK.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SecretError(
            f"{reference}: cannot be opened: {error.strerror}; "
            "correct the path, or let this user read it"
        ) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SecretError(
                f"{reference}: is not a regular file; name a file"
            )
        if not guarded:
            _judge(status, path, reference)
        with os.fdopen(os.dup(descriptor), "rb") as stream:
            octets = stream.read(LIMIT + 1)
    finally:
        os.close(descriptor)
    if len(octets) > LIMIT:
        raise SecretError(
            f"{reference}: is larger than {LIMIT} bytes; name the right file"
        )
    return octets


def _judge(status: os.stat_result, path: Path, reference: str) -> None:
    """Refuse a file that somebody else can read, write or replace."""
    user = os.geteuid()
    if status.st_uid not in (user, 0):
        raise SecretError(
            f"{reference}: belongs to user {status.st_uid}; "
            f"run: chown {user} {path}"
        )
    if status.st_mode & 0o077:
        raise SecretError(
            f"{reference}: others may read or write it (mode "
            f"{stat.S_IMODE(status.st_mode):04o}); run: chmod 600 {path}"
        )
