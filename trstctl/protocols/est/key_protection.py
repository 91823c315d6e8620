# SPDX-License-Identifier: MIT
"""
How a key that the gateway has made travels to its device (RFC 7030, section
4.4): bare, within TLS alone, or encrypted to a key that the request names.

Implemented: DecryptKeyIdentifier (RFC 4108, section 2.2.5), answered with
AES key wrap under a key that the operator has configured;
AsymmetricDecryptKeyIdentifier (section 4.4.1.2), which names the key of the
TLS client certificate, or of one that the operator has configured, by its
subjectKeyIdentifier, or by the SHA-1 or SHA-256 of RFC 5280, section 4.2.1.2,
and RFC 7093, section 2; answered with key transport (RSA) or key agreement
(EC).  SMIMECapabilities choose the ciphers, in the client's order.

Refused: both identifiers at once, an identifier of no key, a key that must
not encrypt, the operator's certificate outside its dates, an identifier
without capabilities, and capabilities of which we have none; where the label
says so, also neither identifier.  Triple DES is not used, whoever asks for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from attrs import frozen

from trstctl.errors import Malformed, Stale, UnsupportedAlgorithm
from trstctl.model import CertificateFacts, CertificateRequest
from trstctl.pkix import der
from trstctl.pkix.agreement import envelope_by_agreement
from trstctl.pkix.capabilities import (
    SMIME_CAPABILITIES,
    Capabilities,
    read_capabilities,
)
from trstctl.pkix.certificate import may_be_used_for, read_certificate
from trstctl.pkix.cms import SIGNED_DATA, key_identifier
from trstctl.pkix.encryption import CIPHERS, PKCS1, content_cipher
from trstctl.pkix.enveloping import envelope, envelope_for_key
from trstctl.policy.keys import require_affordable

DECRYPT_KEY_IDENTIFIER = "1.2.840.113549.1.9.16.2.37"
ASYMMETRIC_DECRYPT_KEY_IDENTIFIER = "1.2.840.113549.1.9.16.2.54"

#: Content ciphers that a private key is entrusted to, by the octets of their
#: keys.
_CIPHERS = {
    cipher.key_size: name
    for name, cipher in CIPHERS.items()
    if name.startswith("aes-")
}


_TRANSPORT, _AGREEMENT = "keyEncipherment", "keyAgreement"


@frozen
class _Use:
    """
    How keys of a type encrypt.

    :ivar usage: what the key usage must have, if the certificate has one (RFC
        7030, section 4.4.1.2).
    :ivar least: octets of a symmetric key that is as strong (section 4.4.2:
        SHOULD), or of the weakest that there is.
    """

    usage: str
    least: int


_USES = {
    "rsa": _Use(_TRANSPORT, 16),
    "p-256": _Use(_AGREEMENT, 16),
    "p-384": _Use(_AGREEMENT, 24),
    "p-521": _Use(_AGREEMENT, 32),
}

#: Encrypts a SignedData; returns a ContentInfo with an EnvelopedData.
Seal = Callable[[bytes], bytes]


@frozen
class Protection:
    """
    What a request says of the encryption of its key.

    :ivar symmetric: whether it names a symmetric key.
    :ivar identifier: of the key that encrypts.
    """

    symmetric: bool
    identifier: bytes
    capabilities: Capabilities


def read_protection(wanted: CertificateRequest) -> Protection | None:
    """
    Return what a request says of the encryption of its key, if anything.

    :raises Malformed: it names two keys, or none of the capabilities that
        RFC 7030, section 4.4.1, demands, or an attribute is malformed.
    :raises TooLarge: too many capabilities.
    """
    symmetric = _value(wanted, DECRYPT_KEY_IDENTIFIER)
    asymmetric = _value(wanted, ASYMMETRIC_DECRYPT_KEY_IDENTIFIER)
    if symmetric is not None and asymmetric is not None:
        raise Malformed(
            "the request names two keys to encrypt with; leave out "
            "DecryptKeyIdentifier or AsymmetricDecryptKeyIdentifier"
        )
    named = asymmetric if symmetric is None else symmetric
    if named is None:
        return None
    capabilities = _value(wanted, SMIME_CAPABILITIES)
    # RFC 7030, section 4.4.1: the client MUST include them.
    if capabilities is None:
        raise Malformed(
            "a request for an encrypted key says in SMIMECapabilities what "
            "its sender can decrypt"
        )
    return Protection(
        symmetric is not None,
        der.content(named, der.OCTET_STRING),
        read_capabilities(capabilities),
    )


def _value(wanted: CertificateRequest, oid: str) -> bytes | None:
    """Return the one value of an attribute, if it is there."""
    values = wanted.attributes.get(oid)
    if values is None:
        return None
    if len(values) != 1:
        raise Malformed("an attribute of RFC 7030 has more than one value")
    return values[0]


class Recipients:
    """
    Whom keys can be encrypted to at a label.

    :param keys: symmetric keys by identifier; secret.
    :param certificates: DER, of those who may be named.
    :ivar required: whether a request has to name one.
    """

    def __init__(
        self,
        keys: Mapping[bytes, bytes],
        certificates: tuple[bytes, ...],
        *,
        required: bool = False,
    ) -> None:
        self.required = required
        self._keys = keys
        # Several where a certificate was renewed with its key.
        self._certificates: dict[bytes, list[CertificateFacts]] = {}
        for each in certificates:
            for identifier in set(identifiers_of(each)):
                self._certificates.setdefault(identifier, []).append(
                    read_certificate(each)
                )

    def certificate(
        self,
        protection: Protection,
        client_certificate: bytes | None,
        now: datetime,
    ) -> bytes | None:
        """
        Return the certificate that a request names; ``None``: a symmetric
        key is.

        :param client_certificate: of the TLS session, whose key is proven,
            and which has been judged, or is not ours to judge.
        :raises Malformed: the identifier is of no key (RFC 7030, section
            4.4.1.2: the request MUST be terminated).
        :raises Stale: its certificate is not, or no longer, valid.
        """
        if protection.symmetric:
            return None
        if client_certificate is not None and (
            protection.identifier in identifiers_of(client_certificate)
        ):
            return client_certificate
        known = self._certificates.get(protection.identifier)
        if known is None:
            raise Malformed(
                "the AsymmetricDecryptKeyIdentifier is neither of the TLS "
                "client certificate nor of one that is known here"
            )
        for facts in known:
            if facts.not_before <= now <= facts.not_after:
                return facts.der
        raise _out_of_date(max(known, key=_end), now)

    def seal(
        self,
        protection: Protection,
        certificate: bytes | None,
        random_bytes: Callable[[int], bytes],
    ) -> Seal:
        """
        Return what encrypts a key as a request wants it.

        :param certificate: from :meth:`certificate`.
        :param random_bytes: a cryptographically secure source.
        :raises Malformed: the identifier is of no key (RFC 7030, section
            4.4.1.1: the request MUST be terminated).
        :raises UnsupportedAlgorithm: the key must not, or cannot, encrypt; or
            its owner can decrypt nothing that we have.
        """
        if certificate is not None:
            return _for_certificate(certificate, protection, random_bytes)
        found = self._keys.get(protection.identifier)
        if found is None:
            raise Malformed(
                "the DecryptKeyIdentifier is of no key that is known here"
            )
        return _for_key(found, protection, random_bytes)


def _end(facts: CertificateFacts) -> datetime:
    """Return when a certificate ends."""
    return facts.not_after


def _out_of_date(facts: CertificateFacts, now: datetime) -> Stale:
    """Return the refusal of a recipient whose certificate is not valid."""
    what = "the certificate that the AsymmetricDecryptKeyIdentifier names"
    if facts.not_before > now:
        return Stale(
            f"{what} is not valid before {facts.not_before:%F %T} UTC"
        )
    return Stale(f"{what} has expired at {facts.not_after:%F %T} UTC")


def identifiers_of(certificate: bytes) -> Iterator[bytes]:
    """
    Yield what the key of a certificate may be called.

    :param certificate: DER, already read.
    """
    spki = read_certificate(certificate).public_key.spki
    own = key_identifier(certificate)
    if own is not None:
        yield own
    _, (_, bits, _) = der.children(der.content(spki, der.SEQUENCE))
    yield hashlib.sha1(bits[1:], usedforsecurity=False).digest()
    yield hashlib.sha256(bits[1:]).digest()[:20]
    yield hashlib.sha256(bits[1:]).digest()


def _for_key(
    key: bytes, protection: Protection, random_bytes: Callable[[int], bytes]
) -> Seal:
    """Return what encrypts under a symmetric key (kekri)."""
    able = protection.capabilities
    # Section 4.4.2: one of the key wrap algorithms that the client included.
    if able.wraps and len(key) not in able.wraps:
        raise UnsupportedAlgorithm(
            "the SMIMECapabilities are without the AES key wrap of the size "
            f"of this key, {8 * len(key)} bits"
        )
    cipher = _cipher(able, len(key))

    def seal(content: bytes) -> bytes:
        return envelope_for_key(
            content,
            key,
            protection.identifier,
            cipher=cipher,
            random_bytes=random_bytes,
            content_type=SIGNED_DATA,
        )

    return seal


def _for_certificate(
    certificate: bytes,
    protection: Protection,
    random_bytes: Callable[[int], bytes],
) -> Seal:
    """Return what encrypts to a certificate's key (ktri or kari)."""
    able = protection.capabilities
    facts = read_certificate(certificate)
    key = facts.public_key
    require_affordable(key)
    use = _USES.get(key.algorithm)
    if use is None:
        raise UnsupportedAlgorithm(
            f"nothing can be encrypted to a key of type {key.algorithm}; use "
            "RSA, P-256, P-384 or P-521"
        )
    _check_usage(facts, use.usage)
    # What is agreed on wraps a key of its own size.
    cipher = _cipher(able, use.least, alike=use.usage == _AGREEMENT)
    # Section 4.4.2: as the client named it, or by issuer and serial number.
    by_key = key_identifier(certificate) == protection.identifier

    def transport(content: bytes) -> bytes:
        return envelope(
            content,
            certificate,
            cipher=cipher,
            scheme=next(iter(able.schemes), PKCS1),
            random_bytes=random_bytes,
            content_type=SIGNED_DATA,
            by_key=by_key,
        )

    def agree(content: bytes) -> bytes:
        return envelope_by_agreement(
            content,
            certificate,
            cipher=cipher,
            random_bytes=random_bytes,
            content_type=SIGNED_DATA,
            by_key=by_key,
        )

    return agree if use.usage == _AGREEMENT else transport


def _cipher(able: Capabilities, least: int, *, alike: bool = False) -> str:
    """
    Return the content cipher: the first that the client lists and that is
    strong enough, or else the first that it lists.

    Who lists no cipher at all has AES, if it has AES key wrap.

    :param alike: the content's key is wrapped by one of its own size.
    """
    sizes = [
        content_cipher(name).key_size
        for name in able.ciphers
        if name in _CIPHERS.values()
    ]
    if not able.ciphers:
        sizes = list(able.wraps)
    if alike and able.wraps:
        sizes = [size for size in sizes if size in able.wraps]
    if not sizes:
        raise UnsupportedAlgorithm(
            "the SMIMECapabilities have no cipher that is used here; add AES "
            "in CBC mode"
        )
    strong = [size for size in sizes if size >= least]
    return _CIPHERS[(strong or sizes)[0]]


def _check_usage(facts: CertificateFacts, usage: str) -> None:
    """Refuse a certificate whose key must not be used like this."""
    if not may_be_used_for(facts, usage):
        raise UnsupportedAlgorithm(
            f"the key usage of the recipient's certificate is without "
            f"{usage}, so that nothing may be encrypted to it"
        )
