# SPDX-License-Identifier: MIT
"""What keeps a gateway from starting, or a change from being put in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trstctl.backends.keyfiles import KeyFileError
from trstctl.config.reader import ConfigurationError
from trstctl.config.secrets import SecretError
from trstctl.discovery import DiscoveryError
from trstctl.errors import TrstctlError


class StartFault(Exception):
    """The gateway cannot start.  The text is one line with the remedy."""


#: What keeps a change from being put in place.
REFUSALS = (
    ConfigurationError,
    DiscoveryError,
    KeyFileError,
    OSError,
    SecretError,
    StartFault,
    TrstctlError,
    ValueError,
)


@contextmanager
def server_certificate_faults() -> Iterator[None]:
    """Say where in the configuration the server certificate is named."""
    try:
        yield
    except (KeyFileError, SecretError, ValueError) as error:
        raise StartFault(f"listeners.https.certificate: {error}") from error
