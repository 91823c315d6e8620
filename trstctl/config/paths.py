# SPDX-License-Identifier: MIT
"""Makes every path of a configuration absolute."""

from __future__ import annotations

from pathlib import Path

from trstctl.config.model import (
    AuthoritySettings,
    Document,
    ServerCertificate,
)
from trstctl.config.secrets import absolute


def resolved(document: Document, folder: Path) -> Document:
    """
    Return the document with every path absolute.

    :param folder: the configuration file's, absolute.
    """
    state = folder / document.state
    https = document.listeners.https
    if isinstance(https.certificate, ServerCertificate):
        served = ServerCertificate(
            chain=state / https.certificate.chain,
            key=absolute(https.certificate.key, state),
        )
        https = https.model_copy(update={"certificate": served})
    log = document.log
    if log.file is not None:
        log = log.model_copy(update={"file": state / log.file})
    return document.model_copy(
        update={
            "state": state,
            "store": _absolute_store(document.store, state),
            "listeners": document.listeners.model_copy(
                update={"https": https}
            ),
            "authorities": {
                name: _absolute_authority(authority, state)
                for name, authority in document.authorities.items()
            },
            "log": log,
            "protocols": {
                name: settings.located(state)
                for name, settings in document.protocols.items()
            },
        }
    )


def _absolute_store(url: str, state: Path) -> str:
    """Return a SQLite URL with an absolute path; others as they are."""
    prefix, _, place = url.partition(":")
    return f"sqlite:{state / place}" if prefix == "sqlite" else url


def _absolute_authority(
    authority: AuthoritySettings, state: Path
) -> AuthoritySettings:
    """Return an authority with absolute paths."""
    return authority.model_copy(
        update={
            "certificate": state / authority.certificate,
            "key": absolute(authority.key, state),
            "passphrase": authority.passphrase
            and absolute(authority.passphrase, state),
            "chain": tuple(state / each for each in authority.chain),
        }
    )
