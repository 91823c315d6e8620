# SPDX-License-Identifier: MIT
"""
Digest and signature algorithms as CMS names them (RFC 3370, RFC 5754).

CMS says twice what a signature is made with: the digest of the content,
and the algorithm over the signed attributes, which may be no more than
rsaEncryption.  This module brings the two together.

Digests: SHA-256, SHA-384, SHA-512, and SHA-1, which the caller must allow.
Signatures: those of :mod:`trstctl.pkix.algorithms`; rsaEncryption with the
digest algorithm (RFC 3370, section 3.2); Ed25519 (RFC 8419) and ML-DSA (RFC
9882) with SHA-512.  Ed448 would need SHAKE256.
"""

from __future__ import annotations

from collections.abc import Mapping

from trstctl.errors import UnsupportedAlgorithm
from trstctl.pkix import algorithms, der

_NULL = b"\x05\x00"
_DIGESTS: Mapping[str, bytes] = {
    "sha1": der.oid("1.3.14.3.2.26"),
    "sha256": der.oid("2.16.840.1.101.3.4.2.1"),
    "sha384": der.oid("2.16.840.1.101.3.4.2.2"),
    "sha512": der.oid("2.16.840.1.101.3.4.2.3"),
}
_REFUSED_DIGESTS: Mapping[str, str] = {
    "1.2.840.113549.2.2": "md2",
    "1.2.840.113549.2.4": "md4",
    "1.2.840.113549.2.5": "md5",
    "2.16.840.1.101.3.4.2.4": "sha224",
}
# RFC 5754, section 2: absent parameters and NULL MUST both be accepted.
_DIGEST_NAMES: Mapping[bytes, str] = {
    der.sequence(oid, parameters): name
    for name, oid in _DIGESTS.items()
    for parameters in (b"", _NULL)
}
_RSA_ENCRYPTION = der.oid("1.2.840.113549.1.1.1")
_RSA_IDENTIFIER = der.sequence(_RSA_ENCRYPTION, _NULL)
_RSA_IDENTIFIERS = frozenset((der.sequence(_RSA_ENCRYPTION), _RSA_IDENTIFIER))
# Those which sign without a digest, and the one that CMS wants with them.
_PURE_DIGESTS: Mapping[str, str] = dict.fromkeys(
    ("ed25519", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"), "sha512"
)


def digest_name(identifier: bytes) -> str:
    """
    Name a DER AlgorithmIdentifier of a digest.

    :returns: ``sha256`` and so on; a name or dotted OID of what is
        unsupported otherwise.
    :raises Malformed: it is none.
    """
    known = _DIGEST_NAMES.get(identifier)
    if known is not None:
        return known
    oid, _ = algorithms.split_identifier(identifier)
    return _REFUSED_DIGESTS.get(oid, oid)


def signature_name(identifier: bytes, digest: str) -> str:
    """
    Name a DER AlgorithmIdentifier of a signature.

    :param digest: what :func:`digest_name` said.
    :returns: a name of :mod:`trstctl.pkix.algorithms`, legacy ones included;
        something else for what is unsupported.
    :raises Malformed: it is none.
    """
    # RFC 3370, section 3.2: rsaEncryption goes with any digest.
    if identifier in _RSA_IDENTIFIERS:
        return f"{digest}-with-rsa"
    return algorithms.signature_name(identifier)


def go_together(algorithm: str, digest: str, *, legacy: bool) -> bool:
    """
    Tell whether we verify an algorithm, and with this digest.

    :param legacy: SHA-1 with RSA will do, too.
    """
    known = algorithms.ALGORITHMS.get(algorithm)
    if known is None and legacy:
        known = algorithms.LEGACY_ALGORITHMS.get(algorithm)
    return known is not None and digest == _PURE_DIGESTS.get(
        algorithm, known.digest
    )


def identifiers(algorithm: str) -> tuple[str, bytes, bytes]:
    """
    Return what to write for a signature algorithm.

    :param algorithm: a name of :mod:`trstctl.pkix.algorithms`, legacy ones
        included.
    :returns: the name of the digest and its AlgorithmIdentifier, without
        parameters (RFC 5754, section 2); the AlgorithmIdentifier of the
        signature, rsaEncryption with NULL for PKCS #1 v1.5, which the
        oldest clients read (RFC 3370, section 3.2).
    :raises UnsupportedAlgorithm: no such algorithm, or none that CMS knows
        a digest for.
    """
    known = algorithms.ALGORITHMS.get(
        algorithm
    ) or algorithms.LEGACY_ALGORITHMS.get(algorithm)
    if known is None:
        raise UnsupportedAlgorithm
    digest = _PURE_DIGESTS.get(algorithm, known.digest)
    if digest not in _DIGESTS:
        raise UnsupportedAlgorithm
    rsa = algorithm == f"{digest}-with-rsa"
    return (
        digest,
        der.sequence(_DIGESTS[digest]),
        _RSA_IDENTIFIER if rsa else known.identifier,
    )
