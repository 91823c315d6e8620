# SPDX-License-Identifier: MIT
"""
How an authority comes to be: keys, root, issuing certificate, fingerprints.

Everything here is pure: it takes the time and the randomness, and returns
keys and DER or PEM octets; the command that calls it writes the files.  Root
and issuing key may be of different algorithms.  Whether a certificate that
comes from elsewhere (an offline root's answer to :func:`issuing_csr`, or an
existing CA) is fit, :func:`check_chain` tells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import (
    ec,
    ed25519,
    mldsa,
    rsa,
)
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificateIssuerPublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from cryptography.x509.oid import NameOID

from trstctl.ca.authority import new_serial
from trstctl.ca.chain import UnfitAuthority, order_chain, require_chain
from trstctl.errors import RequestError
from trstctl.pkix.algorithms import algorithm_for, describe_public_key

#: Clocks of devices run late: new CA certificates begin this much earlier.
BACKDATE = timedelta(hours=1)

_GENERATORS: dict[str, Callable[[], CertificateIssuerPrivateKeyTypes]] = {
    "p-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa-3072": lambda: rsa.generate_private_key(65537, 3072),
    "rsa-4096": lambda: rsa.generate_private_key(65537, 4096),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
}

#: What :func:`generate_key` knows, the default first.
KEY_ALGORITHMS = tuple(_GENERATORS)


def generate_key(
    algorithm: str = "p-256",
) -> CertificateIssuerPrivateKeyTypes:
    """
    Return a new private key from the library's own source of randomness.

    :param algorithm: one of :data:`KEY_ALGORITHMS`.
    :raises ValueError: another one; the text lists those that are known.
    """
    try:
        generate = _GENERATORS[algorithm]
    except KeyError:
        raise ValueError(
            f"{algorithm}: unknown key algorithm; choose one of "
            + ", ".join(KEY_ALGORITHMS)
        ) from None
    return generate()


def make_root(
    key: CertificateIssuerPrivateKeyTypes,
    common_name: str,
    now: datetime,
    random_bytes: Callable[[int], bytes],
    years: int = 20,
) -> bytes:
    """
    Return a self-signed root certificate, DER.

    :param now: aware UTC time.
    """
    public_key = key.public_key()
    name = _name(common_name)
    identifier = x509.SubjectKeyIdentifier.from_public_key(public_key)
    return sign_certificate(
        x509.CertificateBuilder(
            issuer_name=name,
            subject_name=name,
            public_key=public_key,
            serial_number=int(new_serial(random_bytes), 16),
            not_valid_before=whole(now - BACKDATE),
            not_valid_after=later(now, years),
        )
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(CA_USAGE, critical=True)
        .add_extension(identifier, critical=False),
        key,
    )


def make_issuing(
    root_key: CertificateIssuerPrivateKeyTypes,
    root_certificate: bytes,
    issuing_public_key: bytes,
    common_name: str,
    now: datetime,
    random_bytes: Callable[[int], bytes],
    years: int = 10,
) -> bytes:
    """
    Return an issuing CA's certificate, signed by the root, DER.

    Its path length is 0: it signs end entities only.  It ends with the root
    at the latest.

    :param root_certificate: DER.
    :param issuing_public_key: DER SubjectPublicKeyInfo.
    :param now: aware UTC time.
    :raises UnfitAuthority: root key and root certificate do not fit
        together, the root is not valid now, or it has the same name.
    """
    require_chain([root_certificate], public_octets(root_key), now)
    root = x509.load_der_x509_certificate(root_certificate)
    name = _name(common_name)
    if name == root.subject:
        # Clients build paths by name: CA and root would look like one.
        raise UnfitAuthority(
            f"the issuing CA must not have the root's name, {common_name}"
        )
    public_key = read_public_key(issuing_public_key)
    return sign_certificate(
        x509.CertificateBuilder(
            issuer_name=root.subject,
            subject_name=name,
            public_key=public_key,
            serial_number=int(new_serial(random_bytes), 16),
            not_valid_before=max(
                whole(now - BACKDATE), root.not_valid_before_utc
            ),
            not_valid_after=min(later(now, years), root.not_valid_after_utc),
        )
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(CA_USAGE, critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(public_key),
            critical=False,
        )
        .add_extension(authority_identifier(root), critical=False),
        root_key,
    )


def issuing_csr(
    key: CertificateIssuerPrivateKeyTypes, common_name: str
) -> bytes:
    """
    Return a request for an issuing certificate from an offline root, PEM.

    It asks for what :func:`make_issuing` would certify.
    """
    return request_pem(key, _name(common_name))


def request_pem(
    key: CertificateIssuerPrivateKeyTypes, subject: x509.Name
) -> bytes:
    """Return a request for an issuing certificate of any name, PEM."""
    builder = (
        x509.CertificateSigningRequestBuilder(subject)
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(CA_USAGE, critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
            critical=False,
        )
    )
    return builder.sign(key, _digest(key)).public_bytes(Encoding.PEM)


def check_chain(
    certificate: bytes,
    chain: Sequence[bytes],
    key: CertificateIssuerPrivateKeyTypes,
    now: datetime,
) -> tuple[bytes, ...]:
    """
    Judge a CA certificate that comes from elsewhere.

    It must be a CA's, be this key's, be valid now, and lead, by signatures,
    within each path length, to a self-signed root.

    :param chain: DER of the certificates above it, in any order; others in
        between do not matter.
    :returns: the complete chain: this certificate first, the root last.
    :raises UnfitAuthority: naming the certificate and what is wrong.
    """
    ordered = order_chain(certificate, chain)
    require_chain(ordered, public_octets(key), now)
    return ordered


def fingerprint(certificate: bytes) -> str:
    """Return the SHA-256 of the DER, as ``AB:CD:…``, for comparison by eye."""
    return hashlib.sha256(certificate).digest().hex(":").upper()


def public_octets(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """Return a private key's DER SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


#: RFC 5280, section 4.2.1.3: for certificates and CRLs, and for no more.
CA_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _name(common_name: str) -> x509.Name:
    """Return a name of one common name; the library checks its length."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def read_public_key(spki: bytes) -> CertificateIssuerPublicKeyTypes:
    """Decode a key that an authority could sign with."""
    try:
        algorithm_for(describe_public_key(spki))
        key = load_der_public_key(spki)
    except (RequestError, ValueError):
        raise UnfitAuthority(
            "the issuing key is damaged or of an unsupported kind"
        ) from None
    return cast(CertificateIssuerPublicKeyTypes, key)


def authority_identifier(
    issuer: x509.Certificate,
) -> x509.AuthorityKeyIdentifier:
    """Point to the issuer's key as its own certificate names it."""
    try:
        own = issuer.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        )
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(
            issuer.public_key()  # type: ignore[arg-type]
        )
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        own.value
    )


def sign_certificate(
    builder: x509.CertificateBuilder, key: CertificateIssuerPrivateKeyTypes
) -> bytes:
    """Sign with the digest that suits the key."""
    return builder.sign(key, _digest(key)).public_bytes(Encoding.DER)


def _digest(
    key: CertificateIssuerPrivateKeyTypes,
) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    """Return the digest of about the key's strength, or none to choose."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if key.key_size > 384:
            return hashes.SHA512()
        return hashes.SHA384() if key.key_size > 256 else hashes.SHA256()
    return hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else None


def whole(moment: datetime) -> datetime:
    """Cut to the second: certificates know no fraction."""
    return moment.replace(microsecond=0)


def later(moment: datetime, years: int) -> datetime:
    """Return the same day so many years later, or the day before it."""
    year = moment.year + years
    try:
        return whole(moment).replace(year=year)
    except ValueError:  # the 29th of February
        return whole(moment).replace(year=year, day=28)
