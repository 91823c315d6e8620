# SPDX-License-Identifier: MIT
"""Whom keys can be encrypted to, as the configuration names them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from trstctl.backends.keyfiles import KeyFileError, read_certificates
from trstctl.config.secrets import read_secret
from trstctl.errors import Unavailable
from trstctl.pkix.encryption import KEY_WRAPS
from trstctl.protocols.est.key_protection import Recipients

_HEXADECIMAL = "hex:"

#: Octets of an identifier.
_LONGEST = 64


def identifier_of(name: str) -> bytes:
    """
    Return the octets of an identifier: of the text, or after ``hex:`` those
    of the digits.

    :raises ValueError: they are no digits, or the length is not 1 to 64.
    """
    octets = name.encode("utf-8")
    if name.startswith(_HEXADECIMAL):
        try:
            octets = bytes.fromhex(name.removeprefix(_HEXADECIMAL))
        except ValueError:
            raise ValueError(
                "hex: is followed by an even number of hexadecimal digits"
            ) from None
    if not 1 <= len(octets) <= _LONGEST:
        raise ValueError(f"an identifier has 1 to {_LONGEST} octets")
    return octets


def _name(name: str) -> str:
    """Return the name of a key, or refuse what names none."""
    identifier_of(name)
    return name


#: The identifier of a symmetric key: text, or hexadecimal after ``hex:``.
KeyName = Annotated[str, AfterValidator(_name)]


def read_recipients(
    keys: Mapping[str, str],
    certificates: Sequence[Path],
    place: str,
    environment: Mapping[str, str],
    *,
    required: bool = False,
) -> Recipients:
    """
    Read everything that keys can be encrypted with.

    :param keys: references to secrets by identifier, with absolute paths.
    :param certificates: PEM files.
    :param place: the section, for the text of an error.
    :param environment: the process's environment variables.
    :param required: whether a request has to name one of them.
    :raises Unavailable: a file cannot be used; the text says why.
    :raises SecretError: a secret cannot be had.
    :raises ValueError: a secret is no key.
    """
    try:
        known = tuple(
            der for path in certificates for der in read_certificates(path)
        )
    except (KeyFileError, OSError) as error:
        raise Unavailable(f"{place}.decrypt_certificates: {error}") from error
    return Recipients(
        {
            identifier_of(name): _key(reference, environment)
            for name, reference in keys.items()
        },
        known,
        required=required,
    )


def _key(reference: str, environment: Mapping[str, str]) -> bytes:
    """Return an AES key, which is kept in hexadecimal."""
    text = read_secret(reference, environment).text.strip()
    key = (
        bytes.fromhex(text) if re.fullmatch("([0-9A-Fa-f]{2})+", text) else b""
    )
    if len(key) not in KEY_WRAPS:
        raise ValueError(
            f"{reference}: a key to encrypt with has 32, 48 or 64 hexadecimal "
            "digits; make one with: openssl rand -hex 32"
        )
    return key
