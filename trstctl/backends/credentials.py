# SPDX-License-Identifier: MIT
"""
Message credentials over private keys in this process's memory.

An RSA decryption costs a millisecond and lets go of the interpreter's lock,
so it goes to the signing threads; see :mod:`trstctl.backends.signers` for
signatures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
)
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from trstctl.backends.signers import make_signer
from trstctl.errors import Unavailable
from trstctl.interfaces import IMessageCredential
from trstctl.pkix import algorithms
from trstctl.pkix.certificate import read_certificate

#: Key transport by name: RFC 8017, section 7.
SCHEMES: dict[str, padding.AsymmetricPadding] = {
    "rsaes-pkcs1-v1.5": padding.PKCS1v15(),
    **{
        f"rsaes-oaep-{digest}": padding.OAEP(
            padding.MGF1(algorithm), algorithm, None
        )
        for digest, algorithm in (
            ("sha1", hashes.SHA1()),  # noqa: S303 (no collision matters here)
            ("sha256", hashes.SHA256()),
            ("sha384", hashes.SHA384()),
            ("sha512", hashes.SHA512()),
        )
    },
}

T = TypeVar("T")

#: Decryptions that may wait for a thread, or be made, at once.
LIMIT = 256


@implementer(IMessageCredential)
class KeyCredential:
    """
    A private key with its certificate.

    :param chain: DER; the key's certificate first, the root last.
    :param pool: started, and used for signatures and decryptions only.
    """

    def __init__(
        self,
        private_key: CertificateIssuerPrivateKeyTypes,
        chain: tuple[bytes, ...],
        pool: ThreadPool,
        reactor: IReactorFromThreads,
    ) -> None:
        facts = read_certificate(chain[0])
        self.certificate = chain[0]
        self.chain = chain
        self.not_after = facts.not_after
        self.algorithm = algorithms.algorithm_for(facts.public_key)
        self._private_key = private_key
        self._signer = make_signer(private_key, pool, reactor)
        self._pool = pool
        self._reactor = reactor
        self._under_way = 0

    def sign(self, content: bytes, algorithm: str) -> Deferred[bytes]:
        """See :meth:`trstctl.interfaces.IMessageCredential.sign`."""
        if algorithm in algorithms.LEGACY_ALGORITHMS:
            return self._in_thread(
                partial(algorithms.sign, legacy=True),
                self._private_key,
                algorithm,
                content,
            )
        return self._signer.sign(content, algorithm)

    def decrypt(
        self, ciphertext: bytes, scheme: str
    ) -> Deferred[bytes | None]:
        """See :meth:`trstctl.interfaces.IMessageCredential.decrypt`."""
        return self._in_thread(decrypt, self._private_key, ciphertext, scheme)

    def _in_thread(
        self, function: Callable[..., T], *args: Any
    ) -> Deferred[T]:
        """Run a function in a thread, unless too many wait for one."""

        async def run() -> T:
            # A pool that was stopped takes work without a word and never
            # does it.
            if self._pool.joined or self._under_way >= LIMIT:
                raise Unavailable("the message key is busy")
            self._under_way += 1
            try:
                done: T = await deferToThreadPool(
                    self._reactor, self._pool, function, *args
                )
                return done
            finally:
                self._under_way -= 1

        return Deferred.fromCoroutine(run())


def decrypt(
    private_key: object, ciphertext: bytes, scheme: str
) -> bytes | None:
    """
    Decrypt with an RSA key.

    :param scheme: one of :data:`SCHEMES`.
    :returns: ``None``, whatever is wrong.
    """
    chosen = SCHEMES.get(scheme)
    if chosen is None or not isinstance(private_key, rsa.RSAPrivateKey):
        return None
    try:
        return private_key.decrypt(ciphertext, chosen)
    except ValueError:
        return None
