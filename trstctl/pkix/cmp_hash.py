# SPDX-License-Identifier: MIT
"""
certHash and hashAlg of CertStatus (RFC 9810, section 5.3.18).

A client confirms a certificate by its digest.  Which one is said by the
algorithm of the certificate's signature, by RFC 9481, section 3.3, for
Ed25519 and Ed448, and by hashAlg for the others (ML-DSA).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from trstctl.errors import UnsupportedAlgorithm
from trstctl.pkix import algorithms
from trstctl.pkix.certificate import split_signed
from trstctl.pkix.cmp_mac import split_identifier

_NULL = b"\x05\x00"
_EDDSA_DIGESTS: Mapping[str, str] = {
    "ed25519": "sha512",
    "ed448": "shake256",
}

#: Digests that are computed, by dotted identifier.
HASHES: Mapping[str, str] = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.12": "shake256",
    "2.16.840.1.101.3.4.2.7": "sha3-224",
    "2.16.840.1.101.3.4.2.8": "sha3-256",
    "2.16.840.1.101.3.4.2.9": "sha3-384",
    "2.16.840.1.101.3.4.2.10": "sha3-512",
}
_NAMES = frozenset(HASHES.values())


def read_hash_alg(identifier: bytes) -> str:
    """
    Name the digest of a hashAlg.

    :param identifier: DER AlgorithmIdentifier.
    :returns: ``sha256`` and so on, or ``other:<oid>``.
    :raises Malformed: it is none.
    """
    oid, parameters = split_identifier(identifier)
    if parameters not in {b"", _NULL}:
        return f"other:{oid}"
    return HASHES.get(oid, f"other:{oid}")


def signature_hash(certificate: bytes) -> str:
    """
    Name the digest that goes with a certificate's signature.

    :param certificate: DER, already seen by :func:`trstctl.pkix.der.check`.
    :returns: ``sha256`` and so on; empty if the signature's algorithm says
        none, so that hashAlg must.
    :raises Malformed: it is no certificate.
    """
    _, identifier, _ = split_signed(certificate)
    name, digest, _ = algorithms.read_algorithm_identifier(identifier)
    digest = _EDDSA_DIGESTS.get(name, digest)
    return digest if digest in _NAMES else ""


def cert_hash(certificate: bytes, digest: str) -> bytes:
    """
    Return the certHash of a certificate.

    :param digest: what :func:`signature_hash` or :func:`read_hash_alg` said.
    :raises UnsupportedAlgorithm: it is none that we compute.
    """
    if digest not in _NAMES:
        raise UnsupportedAlgorithm(
            "the certificate's hash is of an unsupported kind"
        )
    if digest == "shake256":
        return hashlib.shake_256(certificate).digest(64)
    return hashlib.new(digest.replace("-", "_"), certificate).digest()
