# SPDX-License-Identifier: MIT
"""
One issuing CA: from what a profile approved to a signed certificate.

The TBSCertificate (RFC 5280, section 4.1) is written directly: everything
that is the same in each certificate is encoded once, at construction, and
the rest is a handful of concatenations.  The tests hold its every octet
against what ``cryptography`` builds from the same values.

The profile decides what is certified, and the registration authority when.
This module still refuses to write what no profile may approve: a CA, a key
usage of a CA, two extensions of one type, a validity beyond the authority's
own.  And it lets no signature out that it has not verified.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn

from attrs import evolve
from cryptography import x509
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from trstctl.ca.chain import UnfitAuthority, require_chain
from trstctl.ca.pointers import NOWHERE, Places, issuer_extensions
from trstctl.errors import Internal, RequestError, Unavailable
from trstctl.interfaces import IAuthority, ISigner
from trstctl.model import Approved, CertificateFacts
from trstctl.pkix import algorithms, der
from trstctl.pkix.certificate import assemble, split_signed
from trstctl.pkix.names import encode_name, read_name
from trstctl.pkix.times import time

_SUBJECT_KEY_IDENTIFIER = "2.5.29.14"
_KEY_USAGE = "2.5.29.15"
_BASIC_CONSTRAINTS = "2.5.29.19"
_CRL_DISTRIBUTION_POINTS = "2.5.29.31"
_AUTHORITY_KEY_IDENTIFIER = "2.5.29.35"
_AUTHORITY_INFORMATION_ACCESS = "1.3.6.1.5.5.7.1.1"

#: What the authority adds, and no profile may.
_OWN = frozenset(
    (
        _SUBJECT_KEY_IDENTIFIER,
        _AUTHORITY_KEY_IDENTIFIER,
        _CRL_DISTRIBUTION_POINTS,
        _AUTHORITY_INFORMATION_ACCESS,
    )
)

# RFC 5280, section 4.1.2.1: with extensions, the version is v3.
_VERSION_3 = der.explicit(0, der.integer(2))

# A subjectKeyIdentifier up to its twenty octets of SHA-1.
_SUBJECT_KEY_HEAD = bytes.fromhex("301d 0603551d0e 0416 0414")

#: Certificates that :meth:`Authority.issued` remembers.
_REMEMBERED = 4096


def new_serial(random_bytes: Callable[[int], bytes]) -> str:
    """
    Return a serial number: 158 random bits in 20 octets.

    RFC 5280, section 4.1.2.2: positive, and at most 20 octets.  The two top
    bits are fixed to 01, so that every serial has 20 octets, and its
    hexadecimal text 40 digits, with nothing to strip or to pad anywhere.

    :param random_bytes: a cryptographically secure source.
    :returns: lower-case hexadecimal.
    """
    octets = random_bytes(20)
    if len(octets) != 20:
        raise ValueError("the source of randomness ran dry")
    return (bytes((octets[0] & 0x3F | 0x40,)) + octets[1:]).hex()


def _unmarked(point: str) -> None:
    """Pass a failure point by."""


#: What :meth:`Authority.check` signs: nothing that parses as a certificate.
_PROBE = b"trstctl readiness probe; this is not a certificate"


@implementer(IAuthority)
class Authority:
    """
    An issuing CA over a signer.

    :ivar name: the name that endpoints refer to.
    :ivar certificate: DER of the CA certificate.
    :ivar chain: DER; the CA certificate first, the root last.
    :ivar not_after: the CA certificate's end.
    :ivar signs_crls: whether its key usage says so.
    :ivar algorithm: the signature algorithm's name.
    """

    log = Logger()

    def __init__(
        self,
        name: str,
        certificate: bytes,
        chain: tuple[bytes, ...],
        signer: ISigner,
        *,
        reached: Callable[[str], None] = _unmarked,
        places: Places = NOWHERE,
        elsewhere: Callable[..., Deferred[Any]] = maybeDeferred,
    ) -> None:
        """
        Refuse what cannot issue, and encode what each certificate shares.

        :param chain: begins with ``certificate`` and ends with the root.
        :param reached: called with ``inside-sign`` between a signature and
            its verification.
        :param places: what its certificates point to.
        :param elsewhere: calls a function with its arguments outside of the
            reactor's thread.
        :raises UnfitAuthority: no CA, not the signer's key, or no chain.
        """
        if chain[:1] != (certificate,):
            raise UnfitAuthority(
                "the chain must begin with the CA certificate itself"
            )
        self.name = name
        self.certificate = certificate
        self.chain = chain
        self._signer = signer
        self._reached = reached
        self._elsewhere = elsewhere
        self._public_key = signer.public_key()
        require_chain(chain, self._public_key)
        read = x509.load_der_x509_certificate(certificate)
        self.not_after = read.not_valid_after_utc
        # RFC 5280, section 4.2.1.3: cRLSign; the chain was checked to have
        # a key usage.
        self.signs_crls = read.extensions.get_extension_for_class(
            x509.KeyUsage
        ).value.crl_sign
        self.algorithm = algorithms.algorithm_for(
            algorithms.describe_public_key(self._public_key)
        )
        issuer = subject_of(certificate)
        self._subject = read_name(issuer)
        # RFC 5280, section 4.1.1.2: the algorithm within is the one without.
        self._after_serial = (
            algorithms.algorithm_identifier(self.algorithm) + issuer
        )
        if not self.signs_crls:
            # Who must see a CRL would look for one that nobody signs.
            places = evolve(places, crl=(), partition=(), partitions=1)
        self._last_extensions = issuer_extensions(certificate, places)
        # Of 160 bits, the two top ones are fixed; the next ones choose the
        # partition.
        self._shift = 159 - places.partitions.bit_length()
        self._mask = places.partitions - 1
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def prepare(self, approved: Approved, serial: str) -> bytes:
        """See :meth:`trstctl.interfaces.IAuthority.prepare`."""
        number = int(serial, 16)
        # RFC 5280, section 4.1.2.2: positive, at most 20 octets.
        if not 0 < number < 1 << 159:
            self._refuse("the serial number is out of range")
        not_before, not_after = approved.not_before, approved.not_after
        if not not_before < not_after <= self.not_after:
            self._refuse("the validity is empty, or outlives the authority")
        seen = set()
        parts = []
        for one in approved.extensions:
            seen.add(one.oid)
            encoded = _extension(one.oid, one.critical, one.value)
            if not encoded:
                self._refuse(f"extension {one.oid} is not for a profile")
            parts.append(encoded)
        # RFC 5280, section 4.2: no two instances of an extension.
        if len(seen) != len(parts):
            self._refuse("an extension occurs twice")
        parts.append(_SUBJECT_KEY_HEAD)
        parts.append(_key_identifier(approved.public_key.spki))
        last = self._last_extensions.get(approved.pointers)
        if last is None:
            self._refuse("a pointer to the issuer is unknown")
        parts.append(last[number >> self._shift & self._mask])
        tlv = der.tlv
        return tlv(
            0x30,
            b"".join(
                (
                    _VERSION_3,
                    der.integer(number),
                    self._after_serial,
                    tlv(0x30, time(not_before) + time(not_after)),
                    encode_name(approved.subject),
                    approved.public_key.spki,
                    tlv(0xA3, tlv(0x30, b"".join(parts))),
                )
            ),
        )

    def sign(self, tbs: bytes) -> Deferred[bytes]:
        """See :meth:`trstctl.interfaces.IAuthority.sign`."""
        return self._signer.sign(tbs, self.algorithm).addCallback(
            self._verified, tbs
        )

    def _verified(self, signature: bytes, tbs: bytes) -> bytes:
        """Return the certificate, if its signature is right."""
        self._reached("inside-sign")
        if not algorithms.verify(
            self._public_key, self.algorithm, signature, tbs
        ):
            self._refuse("a signature just made does not verify")
        return assemble(tbs, self.algorithm, signature)

    async def sign_crl(self, tbs: bytes) -> bytes:
        """See :meth:`trstctl.interfaces.IAuthority.sign_crl`."""
        signature = await self._signer.sign(tbs, self.algorithm)
        # The digest of megabytes takes longer than the reactor can wait.
        if not await self._elsewhere(
            algorithms.verify, self._public_key, self.algorithm, signature, tbs
        ):
            self._refuse("the signature of a CRL does not verify")
        crl: bytes = await self._elsewhere(
            assemble, tbs, self.algorithm, signature
        )
        return crl

    def sign_message(self, attributes: bytes) -> Deferred[bytes]:
        """See :meth:`trstctl.interfaces.IAuthority.sign_message`."""
        if attributes[:1] != bytes((der.SET,)):
            self._refuse("what it is to sign is no message")

        def judge(signature: bytes) -> bytes:
            if not algorithms.verify(
                self._public_key, self.algorithm, signature, attributes
            ):
                self._refuse("a signature just made does not verify")
            return signature

        return self._signer.sign(attributes, self.algorithm).addCallback(judge)

    def check(self) -> Deferred[None]:
        """See :meth:`trstctl.interfaces.IAuthority.check`."""

        def judge(signature: bytes) -> None:
            if not algorithms.verify(
                self._public_key, self.algorithm, signature, _PROBE
            ):
                raise Unavailable

        return self._signer.sign(_PROBE, self.algorithm).addCallback(judge)

    def issued(self, certificate: CertificateFacts) -> bool:
        """See :meth:`trstctl.interfaces.IAuthority.issued`."""
        if certificate.issuer != self._subject:
            return False
        digest = hashlib.sha256(certificate.der).digest()
        known = self._known
        if digest in known:
            known.move_to_end(digest)
            return True
        try:
            signed, identifier, signature = split_signed(certificate.der)
            algorithm = algorithms.read_algorithm_identifier(identifier)[0]
            genuine = algorithms.verify(
                self._public_key, algorithm, signature, signed
            )
        except RequestError:
            return False
        # Only genuine ones are remembered: a flood of forgeries must not
        # push them out.
        if genuine:
            known[digest] = None
            if len(known) > _REMEMBERED:
                known.popitem(last=False)
        return genuine

    def _refuse(self, reason: str) -> NoReturn:
        """Log what must not happen, and stop."""
        self.log.critical(
            "Authority {authority} refuses to issue: {reason}.",
            authority=self.name,
            reason=reason,
        )
        raise Internal


@lru_cache(maxsize=256)
def _extension(oid: str, critical: bool, value: bytes) -> bytes:
    """
    Encode an extension (RFC 5280, section 4.1), or return nothing for one
    that no profile may approve.

    Cached, since all but the names are the same in each certificate.
    """
    if (
        oid in _OWN
        # RFC 5280, section 4.2.1.9: an empty sequence is not a CA.
        or (oid == _BASIC_CONSTRAINTS and value != b"\x30\x00")
        # RFC 5280, section 4.2.1.3: bits 5 and 6 sign certificates, CRLs.
        or (oid == _KEY_USAGE and (len(value) < 4 or value[3] & 0x06))
    ):
        return b""
    return der.sequence(
        der.oid(oid),
        # X.690, section 11.5: a default value is not encoded.
        der.boolean(True) if critical else b"",
        der.octet_string(value),
    )


def _key_identifier(spki: bytes) -> bytes:
    """
    Return the SHA-1 of the key's bits: method 1 of RFC 5280, section
    4.2.1.2.
    """
    bits = der.children(der.content(spki, der.SEQUENCE))[1][1]
    return hashlib.sha1(bits[1:], usedforsecurity=False).digest()


def subject_of(certificate: bytes) -> bytes:
    """
    Return the subject's very octets.

    RFC 5280, section 4.1.2.6: the issuer field of what a CA issues is its
    subject; encoded anew, it might differ in a string type.
    """
    signed = der.children(der.content(certificate, der.SEQUENCE))[0][1]
    # version, serialNumber, signature, issuer, validity, subject
    return der.children(signed)[5][2]
