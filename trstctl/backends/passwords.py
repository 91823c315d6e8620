# SPDX-License-Identifier: MIT
"""
How secrets are kept at rest: as verifiers, never as themselves.

A password gets ``scrypt$<log2 n>$<salt>$<hash>``; it may have been chosen by
a person.  A bearer token is 192 random bits, which no search can find, and
gets ``sha256$<hash>``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable

#: scrypt's cost: 2**15 * 8 * 128 bytes = 32 MiB, about 60 ms.
LOG2_N = 15
_MAXMEM = 64 * 1024 * 1024


def scrypt_verifier(
    password: str,
    random_bytes: Callable[[int], bytes],
    log2_n: int = LOG2_N,
) -> str:
    """
    Return what is kept of a password.

    :param log2_n: the cost; less than the default is for tests only.
    """
    salt = random_bytes(16)
    return f"scrypt${log2_n}${salt.hex()}${_scrypt(password, salt, log2_n)}"


def check_password(password: str, verifier: str) -> bool:
    """
    Tell whether the password is right, in constant time and slowly.

    Blocks for tens of milliseconds: run it in a thread.
    """
    _, log2_n, salt, expected = verifier.split("$")
    found = _scrypt(password, bytes.fromhex(salt), int(log2_n))
    return hmac.compare_digest(found, expected)


def token_verifier(token: str) -> str:
    """Return what is kept of a bearer token or a single-use secret."""
    return f"sha256${secret_digest(token)}"


def check_token(token: str, verifier: str) -> bool:
    """Tell whether the bearer token is right, in constant time."""
    return hmac.compare_digest(token_verifier(token), verifier)


def secret_digest(secret: str) -> str:
    """Return the hexadecimal SHA-256 of a random secret."""
    return hashlib.sha256(secret.encode("utf-8")).hexdigest()


def new_secret(random_bytes: Callable[[int], bytes], octets: int = 24) -> str:
    """Return a random secret in URL-safe text, 192 bits by default."""
    return base64.urlsafe_b64encode(random_bytes(octets)).decode().rstrip("=")


def _scrypt(password: str, salt: bytes, log2_n: int) -> str:
    """Return the hexadecimal scrypt hash (RFC 7914)."""
    return hashlib.scrypt(
        password.encode("utf-8"),
        salt=salt,
        n=1 << log2_n,
        r=8,
        p=1,
        maxmem=_MAXMEM,
        dklen=32,
    ).hex()


def decoy(log2_n: int) -> str:
    """Return what no password is right for, at the same cost."""
    return f"scrypt${log2_n}${'00' * 16}${'00' * 32}"


#: Checked when a name is unknown, so that unknown costs what wrong costs.
DECOY = decoy(LOG2_N)
TOKEN_DECOY = f"sha256${'00' * 32}"
