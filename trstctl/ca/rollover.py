# SPDX-License-Identifier: MIT
"""
New keys for an authority that exists (RFC 9810, section 4.4).

The names stay; keys, serial numbers and validity are new.  What the new
certificates say beside that is what the old ones say.  As in
:mod:`trstctl.ca.ceremony`, everything here is pure.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificateIssuerPublicKeyTypes,
)

from trstctl.ca.authority import new_serial, subject_of
from trstctl.ca.ceremony import (
    BACKDATE,
    CA_USAGE,
    KEY_ALGORITHMS,
    authority_identifier,
    later,
    public_octets,
    read_public_key,
    request_pem,
    sign_certificate,
    whole,
)
from trstctl.ca.chain import UnfitAuthority, require_chain
from trstctl.pkix.certificate import read_certificate

#: What names a key, or leads to what its issuer publishes.
_OF_ONE_KEY = (
    x509.SubjectKeyIdentifier,
    x509.AuthorityKeyIdentifier,
    x509.CRLDistributionPoints,
    x509.FreshestCRL,
    x509.AuthorityInformationAccess,
)

#: Years for which new certificates are good, as a ceremony makes them.
ROOT_YEARS = 20
ISSUING_YEARS = 10


def key_kind(certificate: bytes) -> str:
    """
    Return the name that :func:`~trstctl.ca.ceremony.generate_key` knows a
    certificate's kind of key by; empty: it makes no such keys.
    """
    key = read_certificate(certificate).public_key
    kind = f"rsa-{key.bits}" if key.algorithm == "rsa" else key.algorithm
    return kind if kind in KEY_ALGORITHMS else ""


def is_same_subject(one: bytes, other: bytes) -> bool:
    """Tell whether two certificates are of one name, to the octet."""
    return subject_of(one) == subject_of(other)


def renew_root(
    old: bytes,
    key: CertificateIssuerPrivateKeyTypes,
    now: datetime,
    random_bytes: Callable[[int], bytes],
) -> bytes:
    """Return NewWithNew: the old root's name over a new key, DER."""
    before = x509.load_der_x509_certificate(old)
    start, end = whole(now - BACKDATE), later(now, ROOT_YEARS)
    builder = _builder(
        before.subject,
        before.subject,
        key.public_key(),
        start,
        end,
        random_bytes,
    )
    builder = _identified(builder, key.public_key())
    return sign_certificate(_as_before(builder, before), key)


def renew_issuing(
    old: bytes,
    spki: bytes,
    root: bytes,
    root_key: CertificateIssuerPrivateKeyTypes,
    now: datetime,
    random_bytes: Callable[[int], bytes],
) -> bytes:
    """
    Return the old issuing CA's name over a new key, below a root, DER.

    Whether it makes a chain up to a root, :func:`check_chain` tells.

    :param spki: DER SubjectPublicKeyInfo of the new key.
    :param root: DER; it may be below another one.
    :raises UnfitAuthority: root and its key do not fit.
    """
    if public_octets(root_key) != read_certificate(root).public_key.spki:
        raise UnfitAuthority("the key is not that of the CA above")
    before = x509.load_der_x509_certificate(old)
    above = x509.load_der_x509_certificate(root)
    public_key = read_public_key(spki)
    builder = _builder(
        before.subject,
        above.subject,
        public_key,
        max(whole(now - BACKDATE), above.not_valid_before_utc),
        min(later(now, ISSUING_YEARS), above.not_valid_after_utc),
        random_bytes,
    ).add_extension(authority_identifier(above), critical=False)
    builder = _identified(builder, public_key)
    return sign_certificate(_as_before(builder, before), root_key)


def renewal_csr(old: bytes, key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """Return a request for :func:`renew_issuing`, for an offline root; PEM."""
    subject = x509.load_der_x509_certificate(old).subject
    return request_pem(key, subject)


def link_roots(
    old: bytes,
    old_key: CertificateIssuerPrivateKeyTypes,
    new: bytes,
    new_key: CertificateIssuerPrivateKeyTypes,
    random_bytes: Callable[[int], bytes],
) -> tuple[bytes, bytes]:
    """
    Return OldWithNew and NewWithOld, DER (RFC 9810, section 4.4.1).

    Each is good while both roots are.

    :raises UnfitAuthority: a key is not its certificate's.
    """
    require_chain([old], public_octets(old_key))
    require_chain([new], public_octets(new_key))
    return (
        _link(old, new, new_key, random_bytes),
        _link(new, old, old_key, random_bytes),
    )


def check_links(
    old: bytes, new: bytes, old_with_new: bytes, new_with_old: bytes
) -> None:
    """
    Judge links that come from elsewhere.

    :raises UnfitAuthority: one does not link the two roots.
    """
    for link, below, above, name in (
        (old_with_new, old, new, "OldWithNew"),
        (new_with_old, new, old, "NewWithOld"),
    ):
        same_key = (
            read_certificate(link).public_key.spki
            == read_certificate(below).public_key.spki
        )
        try:
            x509.load_der_x509_certificate(link).verify_directly_issued_by(
                x509.load_der_x509_certificate(above)
            )
        except Exception:  # noqa: BLE001 - of whatever kind, it is no link
            same_key = False
        if not (same_key and is_same_subject(link, below)):
            raise UnfitAuthority(
                f"{name}: it does not link the old root and the new one"
            )


def _link(
    below: bytes,
    above: bytes,
    key: CertificateIssuerPrivateKeyTypes,
    random_bytes: Callable[[int], bytes],
) -> bytes:
    """Return one root, certified by the other."""
    subject = x509.load_der_x509_certificate(below)
    issuer = x509.load_der_x509_certificate(above)
    # RFC 9810, section 4.4.1: from when the certified key begins; and to
    # when the first of the two ends.
    public_key = read_public_key(read_certificate(below).public_key.spki)
    builder = _builder(
        subject.subject,
        issuer.subject,
        public_key,
        subject.not_valid_before_utc,
        min(subject.not_valid_after_utc, issuer.not_valid_after_utc),
        random_bytes,
    ).add_extension(authority_identifier(issuer), critical=False)
    own = _identifier(subject)
    if own is None:
        builder = _identified(builder, public_key)
    else:
        # What is below points to the key by this very name.
        builder = builder.add_extension(own, critical=False)
    return sign_certificate(_as_before(builder, subject), key)


def _identifier(
    certificate: x509.Certificate,
) -> x509.SubjectKeyIdentifier | None:
    """Return what a certificate calls its key, if anything."""
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectKeyIdentifier):
            return extension.value
    return None


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: CertificateIssuerPublicKeyTypes,
    not_before: datetime,
    not_after: datetime,
    random_bytes: Callable[[int], bytes],
) -> x509.CertificateBuilder:
    """Return a certificate's fields, under a fresh serial."""
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=public_key,
        serial_number=int(new_serial(random_bytes), 16),
        not_valid_before=not_before,
        not_valid_after=not_after,
    )


def _identified(
    builder: x509.CertificateBuilder,
    public_key: CertificateIssuerPublicKeyTypes,
) -> x509.CertificateBuilder:
    """Name a new key (RFC 5280, section 4.2.1.2)."""
    return builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False
    )


def _as_before(
    builder: x509.CertificateBuilder, before: x509.Certificate
) -> x509.CertificateBuilder:
    """Take over what another certificate says that its key may do."""
    lacking = {x509.BasicConstraints, x509.KeyUsage}
    for extension in before.extensions:
        if not isinstance(extension.value, _OF_ONE_KEY):
            builder = builder.add_extension(
                extension.value, critical=extension.critical
            )
            lacking.discard(type(extension.value))
    # Roots of the first hour have neither.
    if x509.BasicConstraints in lacking:
        builder = builder.add_extension(
            x509.BasicConstraints(True, None), critical=True
        )
    if x509.KeyUsage in lacking:
        builder = builder.add_extension(CA_USAGE, critical=True)
    return builder
