# SPDX-License-Identifier: MIT
"""
Signers over private keys in this process's memory.

A signature of an elliptic curve costs some 20 microseconds: less than the
way to a thread and back, so it is made at once, in the reactor's thread.
RSA and ML-DSA cost milliseconds and let go of the interpreter's lock, so
they go to a thread pool of their own.  So does what is long, as a CRL of
many entries is: its digest alone takes milliseconds.

Whatever goes wrong below becomes one ``Unavailable``; the log names the kind
of the fault and nothing that came with it, for a fault's text could hold
key material.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.reflect import qual
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from trstctl.errors import Unavailable
from trstctl.interfaces import ISigner
from trstctl.pkix import algorithms

#: Signatures that may wait for a thread, or be made, at once.
LIMIT = 256

#: Octets up to which a signature is made in the reactor's thread.
LARGE = 65536

_QUICK = (
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
)


def make_signer(
    private_key: CertificateIssuerPrivateKeyTypes,
    pool: ThreadPool,
    reactor: IReactorFromThreads,
    *,
    limit: int = LIMIT,
) -> ISigner:
    """
    Return the signer that suits the key.

    :param pool: started, and used for signing only.
    :param reactor: whose thread calls the signer and gets the answers.
    :param limit: signatures that may be waited for at once.
    """
    threaded = ThreadSigner(private_key, pool, reactor, limit=limit)
    if isinstance(private_key, _QUICK):
        return InlineSigner(private_key, threaded)
    return threaded


@implementer(ISigner)
class InlineSigner:
    """
    Signs at once, in the caller's thread.

    :param large: signs with the same key what is longer than :data:`LARGE`;
        ``None``: that, too, is signed at once.
    """

    log = Logger()

    def __init__(
        self,
        private_key: CertificateIssuerPrivateKeyTypes,
        large: ISigner | None = None,
    ) -> None:
        self._private_key = private_key
        self._public_key = _public_key(private_key)
        self._large = large

    def public_key(self) -> bytes:
        """See :meth:`trstctl.interfaces.ISigner.public_key`."""
        return self._public_key

    def sign(self, tbs: bytes, algorithm: str) -> Deferred[bytes]:
        """See :meth:`trstctl.interfaces.ISigner.sign`."""
        if len(tbs) > LARGE and self._large is not None:
            return self._large.sign(tbs, algorithm)
        try:
            return succeed(algorithms.sign(self._private_key, algorithm, tbs))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as fault:  # noqa: BLE001
            # A panic in the library's Rust is no Exception; it must not
            # unwind the reactor.
            return fail(_unavailable(self.log, fault))


@implementer(ISigner)
class ThreadSigner:
    """Signs in a thread pool, and takes on no more than it can hold."""

    log = Logger()

    def __init__(
        self,
        private_key: CertificateIssuerPrivateKeyTypes,
        pool: ThreadPool,
        reactor: IReactorFromThreads,
        *,
        limit: int = LIMIT,
    ) -> None:
        self._private_key = private_key
        self._public_key = _public_key(private_key)
        self._pool = pool
        self._reactor = reactor
        self._limit = limit
        self._under_way = 0

    def public_key(self) -> bytes:
        """See :meth:`trstctl.interfaces.ISigner.public_key`."""
        return self._public_key

    def sign(self, tbs: bytes, algorithm: str) -> Deferred[bytes]:
        """
        See :meth:`trstctl.interfaces.ISigner.sign`.

        Cancelling only stops the waiting: the thread goes on, and counts
        against the limit until it is done.
        """
        # A pool that was stopped takes work without a word and never does
        # it.
        if self._pool.joined or self._under_way >= self._limit:
            return fail(Unavailable("the signer is busy"))
        self._under_way += 1
        answer: Deferred[bytes] = Deferred()
        work = deferToThreadPool(
            self._reactor,
            self._pool,
            algorithms.sign,
            self._private_key,
            algorithm,
            tbs,
        )
        work.addCallbacks(self._succeeded, self._failed)
        work.chainDeferred(answer)
        return answer

    def _succeeded(self, signature: bytes) -> bytes:
        """Make room for the next one."""
        self._under_way -= 1
        return signature

    def _failed(self, failure: Failure) -> Failure:
        """Make room, log, and hide what happened."""
        self._under_way -= 1
        assert failure.value is not None
        return Failure(_unavailable(self.log, failure.value))


@implementer(ISigner)
class AbsentSigner:
    """
    Stands for a key that is elsewhere: what it has signed can be verified.

    :param public_key: DER SubjectPublicKeyInfo.
    """

    def __init__(self, public_key: bytes) -> None:
        self._public_key = public_key

    def public_key(self) -> bytes:
        """See :meth:`trstctl.interfaces.ISigner.public_key`."""
        return self._public_key

    def sign(self, tbs: bytes, algorithm: str) -> Deferred[bytes]:
        """Fail."""
        return fail(Unavailable("the key is not on this host"))


def _public_key(private_key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """Return the DER SubjectPublicKeyInfo."""
    return private_key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


def _unavailable(log: Logger, fault: BaseException) -> Unavailable:
    """Log the kind of a fault, and return what the caller is told."""
    log.error("Signing failed: {fault}.", fault=qual(type(fault)))
    return Unavailable("the signer failed")
