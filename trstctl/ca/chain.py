# SPDX-License-Identifier: MIT
"""
Whether certificates make a chain that an authority can issue under.

Read once, at start or by the operator's command; so the library's own
checks serve, whatever they cost.  A chain is complete here: the issuing
certificate first, each one signed by the next, a self-signed root last.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.exceptions import UnsupportedAlgorithm as NotSupported
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)

from trstctl.errors import RequestError
from trstctl.pkix.algorithms import algorithm_for, describe_public_key

#: No chain is longer.
_LONGEST = 10

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class UnfitAuthority(Exception):
    """
    Certificates or keys under which nothing can be issued.

    The text is one sentence for the operator.
    """


def require_chain(
    chain: Sequence[bytes], public_key: bytes, now: datetime | None = None
) -> None:
    """
    Refuse what is no complete chain of CA certificates over this key.

    :param chain: DER; the issuing certificate first, the root last.
    :param public_key: DER SubjectPublicKeyInfo of the key that will sign.
    :param now: if given, each certificate must be valid at this time.
    :raises UnfitAuthority: naming the certificate and what is wrong.
    """
    if not 0 < len(chain) <= _LONGEST:
        raise UnfitAuthority(
            f"the chain has {len(chain)} certificates; it must begin with "
            "the CA's own and end with the root"
        )
    read = [_read(one) for one in chain]
    if public_key != _spki(read[0]):
        raise UnfitAuthority(
            f"{_named(read[0])}: the private key is not this certificate's"
        )
    for below, certificate in enumerate(read):
        _require_authority(certificate, below)
        if now is not None:
            _require_valid(certificate, now)
    for certificate, issuer in zip(read, [*read[1:], read[-1]], strict=True):
        if _signed_by(certificate, issuer):
            continue
        if certificate is issuer:
            raise UnfitAuthority(
                f"{_named(certificate)}: the chain is incomplete, it does "
                "not end with a self-signed root"
            )
        raise UnfitAuthority(
            f"{_named(certificate)}: not signed by the next in the chain, "
            f"{_named(issuer)}"
        )


def order_chain(
    certificate: bytes, others: Sequence[bytes]
) -> tuple[bytes, ...]:
    """
    Find the certificate's chain up to a self-signed root among others.

    :param others: DER, in any order, with strangers among them.
    :returns: the certificate first, the root last.
    :raises UnfitAuthority: an issuer is missing.
    """
    chain = [_read(certificate)]
    pool = [_read(one) for one in others]
    while not _signed_by(chain[-1], chain[-1]):
        above = [
            one
            for one in pool
            if one not in chain and _signed_by(chain[-1], one)
        ]
        if not above:
            raise UnfitAuthority(
                f"{_named(chain[-1])}: the certificate of its issuer, "
                f"{chain[-1].issuer.rfc4514_string()}, is missing; give the "
                "whole chain up to the root"
            )
        chain.append(above[0])
    return tuple(one.public_bytes(Encoding.DER) for one in chain)


def _require_authority(certificate: x509.Certificate, below: int) -> None:
    """Refuse a certificate that may not sign with ``below`` CAs below it."""
    try:
        extensions = certificate.extensions
        constraints = _value(extensions, x509.BasicConstraints)
        usage = _value(extensions, x509.KeyUsage)
        key = describe_public_key(_spki(certificate))
        algorithm_for(key)
    except (ValueError, x509.DuplicateExtension):
        raise UnfitAuthority(
            f"{_named(certificate)}: its extensions do not decode"
        ) from None
    except RequestError:
        raise UnfitAuthority(
            f"{_named(certificate)}: its key is of an unsupported kind"
        ) from None
    # RFC 5280, section 4.2.1.9: without cA, the key must not be used to
    # verify certificate signatures.
    if constraints is None or not constraints.ca:
        raise UnfitAuthority(f"{_named(certificate)}: it is not a CA's")
    # RFC 5280, section 4.2.1.3: a CA's certificate must have a key usage,
    # with keyCertSign.  Roots of the first hour have none at all.
    if usage is None and below == 0:
        raise UnfitAuthority(f"{_named(certificate)}: it has no keyUsage")
    if usage is not None and not usage.key_cert_sign:
        raise UnfitAuthority(
            f"{_named(certificate)}: its keyUsage lacks keyCertSign"
        )
    # RFC 5280, section 4.2.1.9: pathLenConstraint counts the CAs between
    # this one and the end entity.
    length = constraints.path_length
    if length is not None and length < below:
        raise UnfitAuthority(
            f"{_named(certificate)}: its path length of {length} does not "
            f"allow {below} CAs below it"
        )
    # RFC 5280, section 4.1.2.6: a CA's subject must not be empty.
    if not list(certificate.subject):
        raise UnfitAuthority("a CA certificate's subject is empty")
    if key.algorithm == "rsa" and key.bits < 2048:
        raise UnfitAuthority(
            f"{_named(certificate)}: its RSA key has {key.bits} bits; at "
            "least 2048 are needed"
        )


def _require_valid(certificate: x509.Certificate, now: datetime) -> None:
    """Refuse a certificate outside its validity."""
    if now < certificate.not_valid_before_utc:
        raise UnfitAuthority(
            f"{_named(certificate)}: it is not valid before "
            f"{certificate.not_valid_before_utc.isoformat()}; check the clock"
        )
    if now > certificate.not_valid_after_utc:
        raise UnfitAuthority(
            f"{_named(certificate)}: it expired at "
            f"{certificate.not_valid_after_utc.isoformat()}"
        )


def _read(der: bytes) -> x509.Certificate:
    """Decode, names included: the library reads those late."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.subject, certificate.issuer  # noqa: B018
    except (ValueError, TypeError, x509.InvalidVersion):
        raise UnfitAuthority("a certificate does not decode") from None
    return certificate


def _spki(certificate: x509.Certificate) -> bytes:
    """Return the DER SubjectPublicKeyInfo."""
    try:
        return certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, NotSupported):
        raise UnfitAuthority(
            f"{_named(certificate)}: its key is of an unsupported kind"
        ) from None


def _value(
    extensions: x509.Extensions, kind: type[_Extension]
) -> _Extension | None:
    """Return the value of an extension, if it is there."""
    for extension in extensions:
        if isinstance(extension.value, kind):
            return extension.value
    return None


def _signed_by(
    certificate: x509.Certificate, issuer: x509.Certificate
) -> bool:
    """Tell whether names and signature agree."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, NotSupported):
        return False
    return True


def _named(certificate: x509.Certificate) -> str:
    """Return what the operator knows the certificate by."""
    return certificate.subject.rfc4514_string() or "a nameless certificate"
