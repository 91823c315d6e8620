# SPDX-License-Identifier: MIT
"""Opening what is encrypted to a client, with pyasn1 and the library."""

from __future__ import annotations

import hashlib
from typing import Any

from cmp_client import Reply
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from pyasn1.codec.der import decoder, encoder
from pyasn1_alt_modules import rfc5652, rfc5753, rfc5958, rfc8018
from second_decoder import read_answer

from trstctl.pkix import der
from trstctl.pkix.cmp import read_message
from trstctl.pkix.cms import ENVELOPED_DATA, SIGNED_DATA, content_info
from trstctl.pkix.enveloped import read_enveloped
from trstctl.pkix.key_package import KEY_PACKAGE
from trstctl.pkix.signed import read_signed_data, verify_signer

AES256_WRAP = "2.16.840.1.101.3.4.1.45"
CM_KGA = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.32")

_DIGESTS: dict[str, Any] = {
    "1.3.132.1.11.1": hashes.SHA256(),
    "1.3.132.1.11.2": hashes.SHA384(),
    "1.3.132.1.11.3": hashes.SHA512(),
}


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


def _with_password(message: bytes, info: Any, password: bytes) -> bytes | None:
    """Return the content's key, wrapped by RFC 3394 or by RFC 3211."""
    wrap = str(info["keyEncryptionAlgorithm"]["algorithm"])
    if wrap != AES256_WRAP:
        (recipient,) = read_enveloped(message).password_recipients
        return recipient.unwrap(password)
    parameters, _ = decoder.decode(
        info["keyDerivationAlgorithm"]["parameters"], rfc8018.PBKDF2_params()
    )
    assert "1.2.840.113549.2.9" == str(parameters["prf"]["algorithm"])
    salt = bytes(parameters["salt"]["specified"])
    count = int(parameters["iterationCount"])
    kek = hashlib.pbkdf2_hmac("sha256", password, salt, count, 32)
    return aes_key_unwrap(kek, bytes(info["encryptedKey"]))


def opened(message: bytes, owner: Any) -> bytes:
    """
    Return the content of an EnvelopedData with one recipient.

    :param owner: the recipient's private key, or the shared secret.
    """
    found = enveloped(message)
    (info,) = found["recipientInfos"]
    if isinstance(owner, str):
        assert "pwri" == info.getName()
        key = _with_password(message, info["pwri"], owner.encode())
    elif isinstance(owner, rsa.RSAPrivateKey):
        ciphertext = bytes(info["ktri"]["encryptedKey"])
        key = owner.decrypt(ciphertext, padding.PKCS1v15())
    else:
        kari = info["kari"]
        scheme = str(kari["keyEncryptionAlgorithm"]["algorithm"])
        key = agreed_key(kari, owner, _DIGESTS[scheme], 32)
    assert key is not None
    return decrypt(found, key)


def _pair(reply: Reply) -> list[tuple[int, bytes, bytes]]:
    """Return the fields of the one CertifiedKeyPair."""
    read_answer(reply.octets)
    body = read_message(reply.octets).body.value
    responses = der.children(der.content(body, der.SEQUENCE))[-1]
    (response,) = der.children(responses[1])
    return der.children(der.children(response[1])[2][1])


def _message(field: tuple[int, bytes, bytes]) -> bytes:
    """Return the EnvelopedData of an EncryptedKey as a ContentInfo."""
    ((tag, fields, _),) = der.children(field[1])
    assert 0xA0 == tag
    return content_info(ENVELOPED_DATA, der.tlv(der.SEQUENCE, fields))


def private_key_message(reply: Reply) -> bytes:
    """Return the ContentInfo in the field privateKey."""
    _, key = _pair(reply)
    return _message(key)


def new_private_key(reply: Reply, owner: Any) -> Any:
    """
    Return the key that was made, after a look at who vouches for it.

    :param owner: as of :func:`opened`.
    """
    message = private_key_message(reply)
    inner = enveloped(message)["encryptedContentInfo"]
    assert SIGNED_DATA == str(inner["contentType"])
    signed = read_signed_data(
        content_info(SIGNED_DATA, opened(message, owner))
    )
    assert KEY_PACKAGE == signed.content_type
    (signer,) = signed.signers
    assert signer.certificate is not None
    kga = x509.load_der_x509_certificate(signer.certificate)
    public = kga.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    verify_signer(signed, signer, public)
    usages = kga.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert [CM_KGA] == list(usages.value)
    issuers = map(x509.load_der_x509_certificate, signed.certificates)
    kga.verify_directly_issued_by(
        next(each for each in issuers if each.subject == kga.issuer)
    )
    (one,), rest = decoder.decode(
        signed.content, rfc5958.AsymmetricKeyPackage()
    )
    assert b"" == rest
    plain = rfc5958.OneAsymmetricKey()
    plain["version"] = 0
    for name in ("privateKeyAlgorithm", "privateKey"):
        plain[name] = one[name]
    return serialization.load_der_private_key(encoder.encode(plain), None)


def encrypted_certificate(reply: Reply, owner: Any) -> bytes:
    """Return the certificate that came encrypted to the owner's key."""
    ((tag, content, whole),) = _pair(reply)
    assert 0xA1 == tag
    message = _message((tag, content, whole))
    inner = enveloped(message)["encryptedContentInfo"]
    assert "1.2.840.113549.1.7.1" == str(inner["contentType"])
    return opened(message, owner)
