# SPDX-License-Identifier: MIT
"""
The certificate that the HTTPS listener shows: from files, or our own.

``auto``: a P-256 key in the state directory, certified by the embedded CA
through the registration authority like any other, with the hidden profile
``gateway-tls``.  A new key and certificate are made when a third of the
certificate's life is left, or when the configured names have changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
)

from trstctl.backends.keyfiles import read_certificates
from trstctl.config.model import Configuration
from trstctl.config.model import ServerCertificate as Files
from trstctl.founding import TLS_DIRECTORY, load_key, server_request
from trstctl.model import CertificateFacts, GeneralName
from trstctl.own_keys import OwnKey, stamp_of
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.csr import read_csr
from trstctl.policy.settings import GATEWAY_PROFILE
from trstctl.ra import RegistrationAuthority
from trstctl.rules import Rules

#: What changes whenever a file is replaced, of each file.
_Stamps = tuple[tuple[int, int], ...]

_Served = tuple[tuple[bytes, ...], CertificateIssuerPrivateKeyTypes]


class ServerCertificate:
    """
    The server certificate of one configuration.

    :param rules: those of the same configuration, also while the registration
        authority still works by others.
    :ivar not_after: the end of the certificate in use, once known.
    """

    def __init__(
        self,
        ra: RegistrationAuthority,
        rules: Rules,
        config: Configuration,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._rules = rules
        self._issuer = rules.succession(next(iter(config.authorities)))
        self._https = config.listeners.https
        self._own = OwnKey(
            ra,
            config.state / TLS_DIRECTORY / "server.pem",
            GATEWAY_PROFILE,
            self._issuer.authority,
            self._request,
            self._fits,
            random_bytes,
        )
        self.not_after: datetime | None = None
        # What the operator brought, and which files it was in.
        self._brought: tuple[_Stamps, _Served] | None = None

    async def current(self) -> _Served:
        """
        Return chain and key for new connections; make them if need be.

        :returns: DER certificates without the root, the server's own first,
            and while a root takes over from another, what leads to the other
            one last; and its key.
        :raises KeyFileError: configured files cannot be used.
        :raises SecretError: the key's reference leads nowhere.
        """
        if isinstance(self._https.certificate, Files):
            served = self._from_files(self._https.certificate)
        else:
            pair = await self._own.current(self._rules)
            served = (pair.chain[:-1] + self._link(), pair.key)
        self.not_after = read_certificate(served[0][0]).not_after
        return served

    def _from_files(self, files: Files) -> _Served:
        """
        Return what the operator brought.

        Files are read once only, as long as nobody replaces them: a key of
        RSA-4096 takes 0.4 s, in which nobody is answered.
        """
        kind, _, place = files.key.partition(":")
        places = (
            (files.chain, Path(place)) if kind == "file" else (files.chain,)
        )
        try:
            stamps = tuple(map(stamp_of, places))
        except OSError:
            return read_files(files)  # it says what is wrong
        if self._brought is None or self._brought[0] != stamps:
            self._brought = stamps, read_files(files)
        return self._brought[1]

    def _link(self) -> tuple[bytes, ...]:
        """
        Return what leads from our root to the other one of a rollover.

        RFC 8446, section 4.4.2: each certificate should certify the one
        before it, and this one does: its key is that of our root.
        """
        if self._https.old_with_new:
            return self._issuer.links
        return self._issuer.bridge

    async def _request(
        self,
    ) -> tuple[CertificateIssuerPrivateKeyTypes, bytes]:
        """Return a fresh key and a request for it."""
        return server_request(self._https.names)

    def _fits(self, facts: CertificateFacts) -> bool:
        """Tell whether the certificate carries the configured names."""
        return set(facts.names) == set(self._names())

    def _names(self) -> tuple[GeneralName, ...]:
        """Return the names that the certificate should carry."""
        _, request = server_request(self._https.names)
        return read_csr(request).names


def read_files(files: Files) -> _Served:
    """
    Return the chain and the key that the operator brought.

    :raises KeyFileError: they cannot be used.
    :raises SecretError: the key's reference leads nowhere.
    """
    key = load_key(files.key, None, os.environ)
    return read_certificates(files.chain), key
