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

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from trstctl.backends.keyfiles import (
    KeyFileError,
    private_directory,
    read_certificates,
    read_private_key,
    replace_file,
)
from trstctl.config.model import Configuration
from trstctl.config.model import ServerCertificate as Files
from trstctl.errors import Internal
from trstctl.founding import (
    TLS_DIRECTORY,
    load_key,
    server_request,
    to_pem,
)
from trstctl.model import (
    SYSTEM_TENANT,
    Endpoint,
    EnrollmentRequest,
    GeneralName,
    Issued,
    Operation,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.csr import read_csr
from trstctl.ra import RegistrationAuthority, Rules

#: The profile under which the gateway certifies itself.
PROFILE = "gateway-tls"

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
        now: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._ra = ra
        self._rules = rules
        self._https = config.listeners.https
        self._authority = next(iter(config.authorities))
        self._path = config.state / TLS_DIRECTORY / "server.pem"
        self._now = now
        self._random_bytes = random_bytes
        self.not_after: datetime | None = None

    async def current(self) -> _Served:
        """
        Return chain and key for new connections; make them if need be.

        :returns: DER certificates without the root, the server's own first;
            and its key.
        :raises KeyFileError: configured files cannot be used.
        :raises SecretError: the key's reference leads nowhere.
        """
        if isinstance(self._https.certificate, Files):
            served = read_files(self._https.certificate)
        else:
            served = self._kept() or await self._made()
        self.not_after = read_certificate(served[0][0]).not_after
        return served

    def _kept(self) -> _Served | None:
        """Return the one made earlier, while it is good."""
        if not self._path.exists():
            return None
        try:
            chain = read_certificates(self._path)
            key = read_private_key(self._path)
        except KeyFileError:
            # Half of a restore, say: a new one is as good.
            return None
        facts = read_certificate(chain[0])
        life = facts.not_after - facts.not_before
        issuer = self._rules.authorities[self._authority]
        good = (
            self._now() < facts.not_after - life / 3
            and set(facts.names) == set(self._names())
            and issuer.issued(facts)
        )
        return (chain, key) if good else None

    async def _made(self) -> _Served:
        """Make a key, have it certified, and keep both in one file."""
        key, request = server_request(self._https.names)
        outcome = await self._ra.enroll_own(
            EnrollmentRequest(
                endpoint=Endpoint(
                    "gateway", "", SYSTEM_TENANT, PROFILE, self._authority
                ),
                operation=Operation.ENROLL,
                wanted=read_csr(request),
                credentials=(),
                request_id=self._random_bytes(8).hex(),
                peer="",
            ),
            self._rules,
        )
        if not isinstance(outcome, Issued):
            raise Internal("the server certificate was not issued")
        chain = (outcome.certificate, *outcome.chain[:-1])
        if len(outcome.chain) == 1:
            chain = (outcome.certificate,)
        private_directory(self._path.parent)
        # One file, replaced at once: key and certificate always fit.
        replace_file(self._path, _pem(key) + to_pem(chain), 0o600)
        return chain, key

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


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
