# SPDX-License-Identifier: MIT
"""The gateway's own message keys, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from trstctl.backends.credentials import KeyCredential
from trstctl.ca.authority import new_serial
from trstctl.errors import UnknownCertificate
from trstctl.interfaces import (
    IAuthority,
    ICredentials,
    IMessageCredential,
)
from trstctl.model import (
    SYSTEM_TENANT,
    Approved,
    Endpoint,
    EnrollmentRequest,
    Operation,
    Principal,
    Purpose,
)
from trstctl.pkix.csr import read_csr
from trstctl.policy.profile import Profile
from trstctl.policy.settings import gateway_profiles
from trstctl.testing.time import EPOCH, DeterministicBytes, result_of

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class InlineThreads:
    """
    A thread pool and the reactor to go with it: everything runs at once.

    :ivar joined: whether the pool was stopped.
    """

    def __init__(self) -> None:
        self.joined = False

    def callInThreadWithCallback(
        self,
        onResult: Callable[[bool, Any], None],
        func: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Run it here and now; see ``twisted.python.threadpool``."""
        try:
            done = func(*args, **kwargs)
        except Exception:  # noqa: BLE001 (as the pool does)
            onResult(False, Failure())
        else:
            onResult(True, done)

    def callFromThread(
        self, call: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        """Call it here and now."""
        call(*args, **kwargs)


@lru_cache(maxsize=4)
def _rsa_key(_generation: int) -> rsa.RSAPrivateKey:
    """Return an RSA key; it takes long, so each is made once."""
    return rsa.generate_private_key(65537, 2048)


@implementer(ICredentials)
class FakeCredentials:
    """
    Message credentials that the test's authorities certify.

    :param authorities: by name.
    :ivar error: fail with this; ``None``: answer.
    """

    def __init__(
        self,
        authorities: Mapping[str, IAuthority],
        now: datetime = EPOCH,
    ) -> None:
        self.error: Exception | None = None
        self._authorities = authorities
        self._now = now
        self._random_bytes = DeterministicBytes("credentials")
        self._made: dict[tuple[str, Purpose], list[IMessageCredential]] = {}

    def get(
        self, authority: str, purpose: Purpose
    ) -> Deferred[IMessageCredential]:
        """Return the newest one."""
        return self.known(authority, purpose).addCallback(itemgetter(0))

    def known(
        self, authority: str, purpose: Purpose
    ) -> Deferred[Sequence[IMessageCredential]]:
        """Return all, the newest first."""
        if self.error is not None:
            return fail(self.error)
        if authority not in self._authorities:
            return fail(UnknownCertificate())
        made = self._made.setdefault((authority, purpose), [])
        if not made:
            self.renew(authority, purpose)
        return succeed(tuple(made))

    def renew(self, authority: str, purpose: Purpose) -> None:
        """Put a new credential before the others."""
        made = self._made.setdefault((authority, purpose), [])
        key: _Key = (
            _rsa_key(len(made))
            if purpose is Purpose.SCEP
            else ec.generate_private_key(ec.SECP256R1())
        )
        issuer = self._authorities[authority]
        certificate = self._certified(key, issuer, purpose)
        threads: Any = InlineThreads()
        credential: Any = KeyCredential(
            key, (certificate, *issuer.chain), threads, threads
        )
        made.insert(0, credential)

    def _certified(
        self, key: _Key, issuer: IAuthority, purpose: Purpose
    ) -> bytes:
        """Return a certificate, issued as the gateway issues its own."""
        name = f"gateway-{purpose.value}"
        subject = x509.Name(
            [x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]
        )
        wanted = x509.CertificateSigningRequestBuilder(subject).sign(
            key, hashes.SHA256()
        )
        decision = Profile(name, gateway_profiles()[name]).decide(
            EnrollmentRequest(
                Endpoint("gateway", "", SYSTEM_TENANT, name, issuer.name),
                Operation.ENROLL,
                read_csr(wanted.public_bytes(Encoding.DER)),
                (),
                "test",
                "",
            ),
            Principal("system", "gateway", SYSTEM_TENANT),
            self._now,
            issuer.not_after,
            approved=False,
        )
        assert isinstance(decision, Approved)
        tbs = issuer.prepare(decision, new_serial(self._random_bytes))
        certificate: bytes = result_of(issuer.sign(tbs))
        return certificate
