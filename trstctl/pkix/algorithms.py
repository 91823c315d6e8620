# SPDX-License-Identifier: MIT
"""
Signature algorithms and public keys: what we name, verify and sign with.

Implemented: ECDSA on P-256, P-384 and P-521; RSA PKCS #1 v1.5 and PSS
(RFC 4055: one hash for message and MGF1, salt as long as the hash), each
with SHA-256, SHA-384 or SHA-512; Ed25519 and Ed448 (RFC 8410); ML-DSA
(RFC 9881).  RSA PKCS #1 v1.5 with SHA-1 verifies and signs for callers who
ask for it by :data:`LEGACY_ALGORITHMS`: messages of old devices, never
certificates.  Anything else has a name only (``other:...``), so that policy
can refuse it by name: old hashes, other curves, explicit curve parameters,
compressed points.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from attrs import frozen
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import (
    ec,
    ed448,
    ed25519,
    mldsa,
    padding,
    rsa,
)

from trstctl.errors import Malformed, UnsupportedAlgorithm
from trstctl.model import PublicKey
from trstctl.pkix import der

_NULL = b"\x05\x00"
_RSASSA_PSS = "1.2.840.113549.1.1.10"


@frozen
class SignatureAlgorithm:
    """
    One signature algorithm that we verify and sign with.

    :ivar name: as :class:`trstctl.model.SignatureProof` carries it.
    :ivar oid: dotted.
    :ivar digest: the hash's name, or ``none`` where it is built in.
    :ivar identifier: DER AlgorithmIdentifier, as we write it.
    :ivar public_type: the type of public key that it takes.
    :ivar private_type: the type of private key that it takes.
    :ivar options: what the library's ``verify`` and ``sign`` take besides.
    """

    name: str
    oid: str
    digest: str
    identifier: bytes
    public_type: type[Any]
    private_type: type[Any]
    options: tuple[Any, ...] = ()


_HASHES: Mapping[str, tuple[hashes.HashAlgorithm, str]] = {
    "sha256": (hashes.SHA256(), "2.16.840.1.101.3.4.2.1"),
    "sha384": (hashes.SHA384(), "2.16.840.1.101.3.4.2.2"),
    "sha512": (hashes.SHA512(), "2.16.840.1.101.3.4.2.3"),
}
_ECDSA = {
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
    "sha512": "1.2.840.10045.4.3.4",
}
_RSA_PKCS1 = {
    "sha256": "1.2.840.113549.1.1.11",
    "sha384": "1.2.840.113549.1.1.12",
    "sha512": "1.2.840.113549.1.1.13",
}
_PURE: Mapping[str, tuple[str, type, type, int]] = {
    # name: OID, types, octets of a public key
    "ed25519": (
        "1.3.101.112",
        ed25519.Ed25519PublicKey,
        ed25519.Ed25519PrivateKey,
        32,
    ),
    "ed448": (
        "1.3.101.113",
        ed448.Ed448PublicKey,
        ed448.Ed448PrivateKey,
        57,
    ),
    "ml-dsa-44": (
        "2.16.840.1.101.3.4.3.17",
        mldsa.MLDSA44PublicKey,
        mldsa.MLDSA44PrivateKey,
        1312,
    ),
    "ml-dsa-65": (
        "2.16.840.1.101.3.4.3.18",
        mldsa.MLDSA65PublicKey,
        mldsa.MLDSA65PrivateKey,
        1952,
    ),
    "ml-dsa-87": (
        "2.16.840.1.101.3.4.3.19",
        mldsa.MLDSA87PublicKey,
        mldsa.MLDSA87PrivateKey,
        2592,
    ),
}


def _pss_parameters(digest: str, null: bytes, mgf_null: bytes) -> bytes:
    """Return RSASSA-PSS-params (RFC 4055, section 3.1)."""
    algorithm, oid = _HASHES[digest]
    mgf1 = der.sequence(
        der.oid("1.2.840.113549.1.1.8"),
        der.sequence(der.oid(oid), mgf_null),
    )
    return der.sequence(
        der.explicit(0, der.sequence(der.oid(oid), null)),
        der.explicit(1, mgf1),
        der.explicit(2, der.integer(algorithm.digest_size)),
    )


def _algorithms() -> list[SignatureAlgorithm]:
    """Return every algorithm of this module."""
    known = []
    for digest, (algorithm, _) in _HASHES.items():
        known += [
            SignatureAlgorithm(
                f"ecdsa-with-{digest}",
                _ECDSA[digest],
                digest,
                der.sequence(der.oid(_ECDSA[digest])),
                ec.EllipticCurvePublicKey,
                ec.EllipticCurvePrivateKey,
                (ec.ECDSA(algorithm),),
            ),
            SignatureAlgorithm(
                f"{digest}-with-rsa",
                _RSA_PKCS1[digest],
                digest,
                der.sequence(der.oid(_RSA_PKCS1[digest]), _NULL),
                rsa.RSAPublicKey,
                rsa.RSAPrivateKey,
                (padding.PKCS1v15(), algorithm),
            ),
            SignatureAlgorithm(
                f"rsassa-pss-with-{digest}",
                _RSASSA_PSS,
                digest,
                der.sequence(
                    der.oid(_RSASSA_PSS), _pss_parameters(digest, _NULL, _NULL)
                ),
                rsa.RSAPublicKey,
                rsa.RSAPrivateKey,
                (
                    padding.PSS(
                        padding.MGF1(algorithm), algorithm.digest_size
                    ),
                    algorithm,
                ),
            ),
        ]
    known += [
        SignatureAlgorithm(
            name, oid, "none", der.sequence(der.oid(oid)), public, private
        )
        for name, (oid, public, private, _) in _PURE.items()
    ]
    return known


#: Every signature algorithm that we verify and sign with, by its name.
ALGORITHMS: Mapping[str, SignatureAlgorithm] = {
    algorithm.name: algorithm for algorithm in _algorithms()
}

_SHA1_WITH_RSA = "1.2.840.113549.1.1.5"

#: What is verified and signed only where a caller asks for it, by its name.
LEGACY_ALGORITHMS: Mapping[str, SignatureAlgorithm] = {
    "sha1-with-rsa": SignatureAlgorithm(
        "sha1-with-rsa",
        _SHA1_WITH_RSA,
        "sha1",
        der.sequence(der.oid(_SHA1_WITH_RSA), _NULL),
        rsa.RSAPublicKey,
        rsa.RSAPrivateKey,
        (padding.PKCS1v15(), hashes.SHA1()),  # noqa: S303
    )
}


def _identifiers() -> dict[bytes, tuple[str, str, bytes]]:
    """Map each accepted AlgorithmIdentifier to what is said of it."""
    read = {
        algorithm.identifier: (algorithm.name, algorithm.digest)
        for algorithm in ALGORITHMS.values()
    }
    # RFC 4055, sections 2.1 and 5: absent parameters of a hash or of a
    # PKCS #1 v1.5 signature MUST be accepted as if they were NULL.
    for digest, oid in _RSA_PKCS1.items():
        read[der.sequence(der.oid(oid))] = (f"{digest}-with-rsa", digest)
        for null, mgf_null in ((b"", b""), (b"", _NULL), (_NULL, b"")):
            parameters = _pss_parameters(digest, null, mgf_null)
            identifier = der.sequence(der.oid(_RSASSA_PSS), parameters)
            read[identifier] = (f"rsassa-pss-with-{digest}", digest)
    return {
        identifier: (*named, split_identifier(identifier)[1])
        for identifier, named in read.items()
    }


#: What is left to say about a signature that we do not verify.
_UNSUPPORTED_DIGESTS: Mapping[str, str] = {
    "1.2.840.113549.1.1.2": "md2",
    "1.2.840.113549.1.1.3": "md4",
    "1.2.840.113549.1.1.4": "md5",
    "1.2.840.113549.1.1.5": "sha1",
    "1.3.14.3.2.29": "sha1",
    "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.10045.4.1": "sha1",
    "1.2.840.10045.4.3.1": "sha224",
    "1.2.840.10040.4.3": "dsa with sha1",
    "2.16.840.1.101.3.4.3.1": "dsa with sha224",
    "2.16.840.1.101.3.4.3.2": "dsa with sha256",
    "2.16.840.1.101.3.4.3.10": "sha3-256",
    "2.16.840.1.101.3.4.3.11": "sha3-384",
    "2.16.840.1.101.3.4.3.12": "sha3-512",
    "2.16.840.1.101.3.4.3.14": "sha3-256",
    "2.16.840.1.101.3.4.3.15": "sha3-384",
    "2.16.840.1.101.3.4.3.16": "sha3-512",
    _RSASSA_PSS: "rsassa-pss with unusual parameters",
}


def algorithm_identifier(name: str) -> bytes:
    """
    Return the DER AlgorithmIdentifier of a signature algorithm.

    :raises UnsupportedAlgorithm: the name is not in :data:`ALGORITHMS`.
    """
    return _named(name).identifier


def read_algorithm_identifier(identifier: bytes) -> tuple[str, str, bytes]:
    """
    Describe a DER AlgorithmIdentifier of a signature.

    :returns: name (``other:<oid>`` if unsupported), digest, and the DER of
        the parameters, as :class:`trstctl.model.SignatureProof` has them.
    :raises Malformed: it is not an AlgorithmIdentifier.
    """
    known = _IDENTIFIERS.get(identifier)
    if known is not None:
        return known
    oid, parameters = split_identifier(identifier)
    digest = _UNSUPPORTED_DIGESTS.get(oid, f"algorithm {oid}")
    return f"other:{oid}", digest, parameters


_LEGACY_IDENTIFIERS: Mapping[bytes, str] = {
    der.sequence(der.oid(algorithm.oid), parameters): name
    for name, algorithm in LEGACY_ALGORITHMS.items()
    for parameters in (b"", _NULL)
}


def signature_name(identifier: bytes) -> str:
    """
    Name a DER AlgorithmIdentifier of a signature, legacy ones included.

    :returns: a name of :data:`ALGORITHMS` or :data:`LEGACY_ALGORITHMS`, or
        ``other:<oid>``.
    :raises Malformed: it is not an AlgorithmIdentifier.
    """
    return (
        _LEGACY_IDENTIFIERS.get(identifier)
        or read_algorithm_identifier(identifier)[0]
    )


def _named(name: str, *, legacy: bool = False) -> SignatureAlgorithm:
    """Return the algorithm of this name."""
    known = ALGORITHMS.get(name)
    if known is None and legacy:
        known = LEGACY_ALGORITHMS.get(name)
    if known is None:
        raise UnsupportedAlgorithm
    return known


def split_identifier(identifier: bytes) -> tuple[str, bytes]:
    """
    Return an AlgorithmIdentifier's OID and the DER of its parameters.

    :returns: the OID dotted; no octets for absent parameters.
    :raises Malformed: it is not an AlgorithmIdentifier.
    """
    parts = der.children(der.content(identifier, der.SEQUENCE))
    if not 1 <= len(parts) <= 2 or parts[0][0] != der.OBJECT_IDENTIFIER:
        raise Malformed("an algorithm identifier is malformed")
    return der.oid_text(parts[0][1]), parts[1][2] if len(parts) > 1 else b""


_IDENTIFIERS = _identifiers()


# --- public keys ------------------------------------------------------------

_EC_PUBLIC_KEY = "1.2.840.10045.2.1"
_RSA_ENCRYPTION = "1.2.840.113549.1.1.1"

# RFC 5480, section 2.1.1.1; those that policy may allow come first.
_CURVES: Mapping[bytes, tuple[str, int]] = {
    der.oid(oid): (name, bits)
    for oid, name, bits in (
        ("1.2.840.10045.3.1.7", "p-256", 256),
        ("1.3.132.0.34", "p-384", 384),
        ("1.3.132.0.35", "p-521", 521),
        ("1.2.840.10045.3.1.1", "other:p-192", 192),
        ("1.3.132.0.33", "other:p-224", 224),
        ("1.3.132.0.10", "other:secp256k1", 256),
        ("1.3.36.3.3.2.8.1.1.7", "other:brainpoolP256r1", 256),
        ("1.3.36.3.3.2.8.1.1.11", "other:brainpoolP384r1", 384),
        ("1.3.36.3.3.2.8.1.1.13", "other:brainpoolP512r1", 512),
    )
}
_PURE_KEYS = {oid: (name, size) for name, (oid, _, _, size) in _PURE.items()}


def describe_public_key(spki: bytes) -> PublicKey:
    """
    Describe a DER SubjectPublicKeyInfo without judging it.

    An elliptic curve point is checked to be on its curve.  RSA numbers are
    only read: whether they are any good is for policy to say.

    :raises Malformed: it is not a SubjectPublicKeyInfo, or the key does not
        fit the algorithm.
    """
    parts = der.children(der.content(spki, der.SEQUENCE))
    if [part[0] for part in parts] != [der.SEQUENCE, der.BIT_STRING]:
        raise Malformed("the public key is malformed")
    oid, parameters = split_identifier(parts[0][2])
    bits = parts[1][1]
    if bits[:1] != b"\x00":  # every key is whole octets
        raise Malformed("the public key is malformed")
    fingerprint = hashlib.sha256(spki).hexdigest()
    if oid == _EC_PUBLIC_KEY:
        name, size = _describe_curve(spki, parameters, bits[1:])
        return PublicKey(spki, name, size, fingerprint)
    if oid == _RSA_ENCRYPTION:
        modulus, exponent = _read_rsa(parameters, bits[1:])
        return PublicKey(
            spki,
            "rsa",
            modulus.bit_length(),
            fingerprint,
            modulus,
            exponent,
        )
    if oid in _PURE_KEYS:
        name, size = _PURE_KEYS[oid]
        # RFC 8410, section 3, and RFC 9881, section 2: no parameters.
        if parameters or len(bits) != size + 1:
            raise Malformed("the public key is malformed")
        return PublicKey(spki, name, 0, fingerprint)
    return PublicKey(spki, f"other:{oid}", 0, fingerprint)


def describe_wish(identifier: bytes) -> tuple[str, int]:
    """
    Describe a key that somebody else is to make (RFC 9483, section 4.1.6).

    :param identifier: DER AlgorithmIdentifier of a key.
    :returns: algorithm and bits, as in :class:`~trstctl.model.PublicKey`;
        no bits for RSA, which the identifier does not say.
    :raises Malformed: it is none, or has parameters that it must not have.
    """
    oid, parameters = split_identifier(identifier)
    if oid == _EC_PUBLIC_KEY:
        if parameters[:1] != bytes((der.OBJECT_IDENTIFIER,)):
            raise Malformed("an algorithm identifier is malformed")
        other = der.oid_text(der.content(parameters, der.OBJECT_IDENTIFIER))
        return _CURVES.get(parameters, (f"other:{other}", 0))
    if oid == _RSA_ENCRYPTION and parameters in {_NULL, b""}:
        return "rsa", 0
    if oid in _PURE_KEYS and not parameters:
        return _PURE_KEYS[oid][0], 0
    return f"other:{oid}", 0


def describe_key_type(spki: bytes) -> PublicKey:
    """
    Describe a public key of which nothing but type and size counts.

    :returns: as :func:`describe_public_key`; where the value is none, what
        its algorithm says.
    :raises Malformed: it is no SubjectPublicKeyInfo.
    """
    try:
        return describe_public_key(spki)
    except Malformed:
        parts = der.children(der.content(spki, der.SEQUENCE))
        if len(parts) != 2:
            raise
    name, bits = describe_wish(parts[0][2])
    return PublicKey(spki, name, bits, hashlib.sha256(spki).hexdigest())


def _describe_curve(
    spki: bytes, parameters: bytes, point: bytes
) -> tuple[str, int]:
    """Return the name of the curve and the size of its field in bits."""
    if parameters[:1] == bytes((der.SEQUENCE,)):
        # RFC 5480, section 2.1.1: specifiedCurve MUST NOT be used.
        return "other:explicit-curve", 0
    if parameters[:1] != bytes((der.OBJECT_IDENTIFIER,)):
        raise Malformed("the public key is malformed")
    known = _CURVES.get(parameters)
    if known is None:
        oid = der.oid_text(der.content(parameters, der.OBJECT_IDENTIFIER))
        return f"other:{oid}", 0
    name, bits = known
    octets = (bits + 7) // 8
    if point[:1] in {b"\x02", b"\x03"} and len(point) == 1 + octets:
        # RFC 5480, section 2.2: compressed points MAY be supported.
        return f"other:{name.removeprefix('other:')}-compressed", bits
    if point[:1] != b"\x04" or len(point) != 1 + 2 * octets:
        raise Malformed("the public key is malformed")
    if not name.startswith("other:"):
        try:
            _load(spki)
        except Exception as error:
            raise Malformed("the public key is not on its curve") from error
    return name, bits


def _read_rsa(parameters: bytes, key: bytes) -> tuple[int, int]:
    """Return modulus and exponent (RFC 8017, appendix A.1.1)."""
    # RFC 3279, section 2.3.1, demands NULL; some devices leave it out.
    if parameters not in {_NULL, b""}:
        raise Malformed("the public key is malformed")
    der.check(key, max_nodes=3)
    numbers = der.children(der.content(key, der.SEQUENCE))
    if [number[0] for number in numbers] != [der.INTEGER, der.INTEGER]:
        raise Malformed("the public key is malformed")
    modulus, exponent = (
        int.from_bytes(number[1], "big", signed=True) for number in numbers
    )
    if modulus <= 0 or exponent <= 0:
        raise Malformed("the public key is malformed")
    return modulus, exponent


@lru_cache(maxsize=64)
def _load(spki: bytes) -> Any:
    """Load a key once for its description, proof and certificate."""
    return serialization.load_der_public_key(spki)


# --- verifying and signing --------------------------------------------------

_DEFAULTS: Mapping[str, str] = {
    "p-256": "ecdsa-with-sha256",
    "p-384": "ecdsa-with-sha384",
    "p-521": "ecdsa-with-sha512",
    "rsa": "sha256-with-rsa",
    **{name: name for name in _PURE},
}


def algorithm_for(public_key: PublicKey) -> str:
    """
    Return the algorithm that a CA with this key signs with by default.

    :raises UnsupportedAlgorithm: the key is of no supported kind.
    """
    try:
        return _DEFAULTS[public_key.algorithm]
    except KeyError:
        raise UnsupportedAlgorithm from None


def verify(
    spki: bytes,
    algorithm: str,
    signature: bytes,
    signed: bytes,
    *,
    legacy: bool = False,
) -> bool:
    """
    Tell whether ``signature`` over ``signed`` verifies with the key.

    Anything that is wrong with key, name or signature is ``False``.

    :param legacy: :data:`LEGACY_ALGORITHMS` will do, too.
    """
    try:
        known = _named(algorithm, legacy=legacy)
        key = _load(spki)
        if not isinstance(key, known.public_type):
            return False
        key.verify(signature, signed, *known.options)
    except Exception:  # noqa: BLE001  whatever the library says, it is a no
        return False
    return True


def sign(
    private_key: Any, algorithm: str, data: bytes, *, legacy: bool = False
) -> bytes:
    """
    Sign with a key of the ``cryptography`` library.

    :param legacy: :data:`LEGACY_ALGORITHMS` will do, too.
    :returns: the signature as X.509 carries it.
    :raises UnsupportedAlgorithm: the algorithm is unknown or not the key's.
    """
    known = _named(algorithm, legacy=legacy)
    if not isinstance(private_key, known.private_type):
        raise UnsupportedAlgorithm("the key does not fit the algorithm")
    signature: bytes = private_key.sign(data, *known.options)
    return signature
