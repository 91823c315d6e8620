# SPDX-License-Identifier: MIT
"""
Reading what was encrypted, so that nobody learns anything from a failure.

Theory of operation
===================

The content of a message is encrypted in CBC mode and not authenticated (RFC
8894, section 3.2.2): the signature around it is the sender's, and a sender
can put his own around what he has seen somebody else send.  So whoever can
tell what a changed content decrypts to, by answer or by time, can decrypt
what others sent: challenges.

R-1  *Proof before answer.*  A certification request counts once its own
     signature is verified.  Nobody can change the encrypted request of
     another without breaking that.
R-2  *The name of our CA, else nothing.*  What names a certificate proves
     nothing, and its first block is the sender's to choose, by way of the
     initialization vector: sixteen octets around garbage could be made to
     parse.  A whole issuer name is more than that, so it is compared here.
R-3  *What says nothing is not opened.*  A CertPoll is about its transactionID
     and its key (section 3.3.3); its content is never decrypted.
R-4  *What is not read takes as long.*  If reading was never begun, or ended
     early, a decoy is read then, with a signature of the sender's own kind
     of key to verify.
R-5  *How far reading got does not show.*  No failure is told before a fixed
     time has passed since the key was decrypted: more than all that Python
     might do in it.  So short a time is waited for where we are; a timer
     would be too coarse.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from trstctl.errors import (
    Malformed,
    ProofOfPossessionFailed,
    RequestError,
)
from trstctl.model import CertificateRequest
from trstctl.pkix import algorithms, der
from trstctl.pkix.cms import IssuerAndSerial
from trstctl.pkix.csr import read_csr, verify_proof
from trstctl.policy.keys import require_affordable
from trstctl.protocols.scep.codec import (
    PKIMessage,
    is_subject,
    read_named,
)

T = TypeVar("T")

#: Seconds before which no failure is told (R-5): about four times what the
#: longest way takes with an RSA key of 2048 bits.
FLOOR = 0.0004


class Reader(Generic[T]):
    """
    Reads one plaintext.

    :param read: makes a value of it.  Whatever but ``ProofOfPossessionFailed``
        it raises, it has not done all its work.
    :param decoy: what takes it as long.
    """

    def __init__(self, read: Callable[[bytes], T], decoy: bytes) -> None:
        self._read = read
        self._decoy = decoy
        self._done = False
        self._until = 0.0

    def begin(self, ticks: float) -> None:
        """Hear that the key has been decrypted at this time, in seconds."""
        self._until = ticks + FLOOR

    def __call__(self, plaintext: bytes) -> T:
        """
        Read it.

        :raises RequestError: it is not what it should be.
        """
        try:
            value = self._read(plaintext)
        except ProofOfPossessionFailed:
            self._done = True
            raise
        self._done = True
        return value

    def make_up(self, ticks: Callable[[], float]) -> None:
        """Take as long to fail as every other failure takes (R-4, R-5)."""
        if not self._done:
            with suppress(RequestError):
                self._read(self._decoy)
        while ticks() < self._until:
            pass


def request_reader(
    message: PKIMessage, *, lenient: bool
) -> Reader[CertificateRequest]:
    """
    Return a reader of certification requests that prove their key (R-1).

    :param message: whose signature is verified.
    :param lenient: see :func:`trstctl.pkix.csr.read_csr`.
    """
    return Reader(
        partial(_read_proven, lenient=lenient), _decoy_request(message)
    )


def certificate_reader(issuer: bytes) -> Reader[IssuerAndSerial]:
    """
    Return a reader of what names a certificate of ours (R-2).

    :param issuer: DER of the CA certificate.
    """
    return Reader(partial(_read_ours, issuer=issuer), _DECOY_NAME)


def _read_proven(content: bytes, *, lenient: bool) -> CertificateRequest:
    """Read a certification request and verify its signature."""
    wanted = read_csr(content, lenient=lenient)
    require_affordable(wanted.public_key)
    verify_proof(wanted)
    return wanted


def _read_ours(content: bytes, *, issuer: bytes) -> IssuerAndSerial:
    """Read what names a certificate that the CA must have issued."""
    named = read_named(content)
    if not is_subject(named.issuer, issuer):
        raise Malformed("a certificate of another CA is named")
    return named


# --- decoys -----------------------------------------------------------------

# What devices ask for: a common name, a challenge, an alternative name.
_NAME = der.sequence(
    der.set_of(
        der.sequence(
            der.oid("2.5.4.3"), der.tlv(0x0C, b"device-0123456789.example")
        )
    )
)
_CHALLENGE = der.sequence(
    der.oid("1.2.840.113549.1.9.7"), der.set_of(der.tlv(0x13, 55 * b"A"))
)
_ALTERNATIVE_NAME = der.sequence(
    der.oid("2.5.29.17"),
    der.octet_string(
        der.sequence(der.tlv(0x82, b"device-0123456789.example"))
    ),
)
_EXTENSIONS = der.sequence(
    der.oid("1.2.840.113549.1.9.14"),
    der.set_of(der.sequence(_ALTERNATIVE_NAME)),
)
_ATTRIBUTES = der.tlv(0xA0, b"".join(sorted((_CHALLENGE, _EXTENSIONS))))
_DECOY_NAME = der.sequence(_NAME, der.integer(1 << 126))
_VERSION = der.integer(0)


def _decoy_request(message: PKIMessage) -> bytes:
    """Return a request that costs what the sender's costs, and is none."""
    signature = algorithms.ALGORITHMS.get(message.algorithm)
    if signature is None:
        signature = algorithms.LEGACY_ALGORITHMS[message.algorithm]
    return der.sequence(
        der.sequence(_VERSION, _NAME, message.signer_key.spki, _ATTRIBUTES),
        signature.identifier,
        der.tlv(der.BIT_STRING, b"\0" + message.signature),
    )
