# SPDX-License-Identifier: MIT
"""The owner of a key, who opens what was encrypted to it, by pyasn1."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from pyasn1.codec.der import decoder, encoder
from pyasn1_alt_modules import rfc5652, rfc5753


def enveloped(message: bytes) -> Any:
    """Return the EnvelopedData of a ContentInfo, as pyasn1 reads it."""
    outer, rest = decoder.decode(message, rfc5652.ContentInfo())
    assert b"" == rest
    found, rest = decoder.decode(outer["content"], rfc5652.EnvelopedData())
    assert b"" == rest
    return found


def decrypt(found: Any, key: bytes) -> bytes:
    """Decrypt the content with its key."""
    inner = found["encryptedContentInfo"]
    iv, _ = decoder.decode(inner["contentEncryptionAlgorithm"]["parameters"])
    cipher = Cipher(algorithms.AES(key), modes.CBC(bytes(iv))).decryptor()
    plain = cipher.update(bytes(inner["encryptedContent"]))
    plain += cipher.finalize()
    return plain[: -plain[-1]]


def agreed_key(recipient: Any, owner: Any, digest: Any, size: int) -> bytes:
    """Do what the owner of an EC key does (RFC 5753, section 3.1.3)."""
    public = recipient["originator"]["originatorKey"]["publicKey"].asOctets()
    point = ec.EllipticCurvePublicKey.from_encoded_point(owner.curve, public)
    shared = rfc5753.ECC_CMS_SharedInfo()
    wrap = recipient["keyEncryptionAlgorithm"]["parameters"]
    shared["keyInfo"], _ = decoder.decode(
        wrap, rfc5753.ECC_CMS_SharedInfo()["keyInfo"]
    )
    shared["suppPubInfo"] = (8 * size).to_bytes(4, "big")
    kek = X963KDF(digest, size, encoder.encode(shared)).derive(
        owner.exchange(ec.ECDH(), point)
    )
    (each,) = recipient["recipientEncryptedKeys"]
    return aes_key_unwrap(kek, bytes(each["encryptedKey"]))
