# SPDX-License-Identifier: MIT
"""
A SCEP client for tests, which shares no code with what it tests.

It writes messages with a few lines of its own, in DER or in BER, and reads
answers with pyasn1.  Every habit of the clients in the field is a field of
:class:`Message` or an argument of :func:`csr`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from attrs import define, evolve, field, frozen
from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from pyasn1.codec.der.decoder import decode
from pyasn1.codec.der.encoder import encode
from pyasn1.type import char, univ
from pyasn1_modules import rfc5652

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

MESSAGE_TYPE = "2.16.840.1.113733.1.9.2"
PKI_STATUS = "2.16.840.1.113733.1.9.3"
FAIL_INFO = "2.16.840.1.113733.1.9.4"
SENDER_NONCE = "2.16.840.1.113733.1.9.5"
RECIPIENT_NONCE = "2.16.840.1.113733.1.9.6"
TRANSACTION_ID = "2.16.840.1.113733.1.9.7"
FAIL_INFO_TEXT = "1.3.6.1.5.5.7.24.1"
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
SIGNING_TIME = "1.2.840.113549.1.9.5"
ALGORITHM_PROTECTION = "1.2.840.113549.1.9.52"
CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
DATA = "1.2.840.113549.1.7.1"
SIGNED_DATA = "1.2.840.113549.1.7.2"
ENVELOPED_DATA = "1.2.840.113549.1.7.3"
RSA = "1.2.840.113549.1.1.1"

PRINTABLE, UTF8, BMP = 0x13, 0x0C, 0x1E

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NONCE = bytes(range(100, 116))

DIGESTS: Mapping[str, tuple[str, hashes.HashAlgorithm, str]] = {
    "md5": ("1.2.840.113549.2.5", hashes.MD5(), "1.2.840.113549.1.1.4"),
    "sha1": ("1.3.14.3.2.26", hashes.SHA1(), "1.2.840.113549.1.1.5"),
    "sha256": (
        "2.16.840.1.101.3.4.2.1",
        hashes.SHA256(),
        "1.2.840.113549.1.1.11",
    ),
    "sha384": (
        "2.16.840.1.101.3.4.2.2",
        hashes.SHA384(),
        "1.2.840.113549.1.1.12",
    ),
    "sha512": (
        "2.16.840.1.101.3.4.2.3",
        hashes.SHA512(),
        "1.2.840.113549.1.1.13",
    ),
}
_ECDSA_SHA256 = "1.2.840.10045.4.3.2"

#: OID, octets of a key and of a block, the block cipher.
CIPHERS: Mapping[str, tuple[str, int, int, Any]] = {
    "des": ("1.3.14.3.2.7", 8, 8, lambda key: TripleDES(key * 3)),
    "3des": ("1.2.840.113549.3.7", 24, 8, TripleDES),
    "aes128": ("2.16.840.1.101.3.4.1.2", 16, 16, AES),
    "aes192": ("2.16.840.1.101.3.4.1.22", 24, 16, AES),
    "aes256": ("2.16.840.1.101.3.4.1.42", 32, 16, AES),
}


@lru_cache(maxsize=8)
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return a key; the same for the same number."""
    return rsa.generate_private_key(65537, bits)


@lru_cache(maxsize=2)
def ec_key() -> ec.EllipticCurvePrivateKey:
    """Return a P-256 key; always the same."""
    return ec.generate_private_key(ec.SECP256R1())


# --- writing DER and BER ----------------------------------------------------


@frozen
class Writer:
    """
    Writes ASN.1.

    :ivar ber: give what is constructed an indefinite length.
    """

    ber: bool = False

    def tlv(self, tag: int, *parts: bytes) -> bytes:
        """Return a value."""
        content = b"".join(parts)
        if self.ber and tag & 0x20:
            return bytes((tag, 0x80)) + content + b"\0\0"
        size = len(content)
        if size < 0x80:
            return bytes((tag, size)) + content
        octets = size.to_bytes(4, "big").lstrip(b"\0")
        return bytes((tag, 0x80 | len(octets))) + octets + content

    def octets(self, content: bytes, tag: int = 0x04) -> bytes:
        """Return an OCTET STRING; in BER in pieces."""
        if not self.ber:
            return self.tlv(tag, content)
        pieces = [content[at : at + 999] for at in range(0, len(content), 999)]
        return self.tlv(tag | 0x20, *(DER.tlv(4, piece) for piece in pieces))

    def algorithm(self, oid: str, *parameters: bytes) -> bytes:
        """Return an AlgorithmIdentifier."""
        return self.tlv(0x30, dotted(oid), *parameters)


DER = Writer()
NULL = b"\x05\x00"


def dotted(oid: str) -> bytes:
    """Return an OBJECT IDENTIFIER."""
    return bytes(encode(univ.ObjectIdentifier(oid)))


def number(value: int) -> bytes:
    """Return an INTEGER."""
    return bytes(encode(univ.Integer(value)))


def printable(text: str) -> bytes:
    """Return a PrintableString."""
    return bytes(encode(char.PrintableString(text)))


def spki(key: Key) -> bytes:
    """Return the public key."""
    return key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


def name(common_name: str, tag: int = UTF8) -> bytes:
    """Return a Name."""
    text = DER.tlv(tag, common_name.encode())
    return DER.tlv(0x30, DER.tlv(0x31, DER.tlv(0x30, dotted("2.5.4.3"), text)))


# --- what is asked for ------------------------------------------------------


def csr(
    key: Key | None = None,
    common_name: str = "device",
    challenge: str | None = "challenge",
    *,
    tag: int = PRINTABLE,
    names: Sequence[str] = (),
    unsorted: bool = False,
    digest: str = "sha256",
    signer: Key | None = None,
    ca: bool = False,
    extra: bytes = b"",
) -> bytes:
    """
    Return a certification request.

    :param challenge: its challengePassword, as a string of the type ``tag``.
    :param names: DNS names.
    :param unsorted: attributes in the wrong order, as strongSwan sends them.
    :param signer: who signs in the key's place.
    :param ca: ask for the certificate of a CA.
    :param extra: DER of another extension.
    """
    key = key or rsa_key()
    attributes = []
    if challenge is not None:
        text = challenge.encode("utf-16-be" if tag == BMP else "utf-8")
        value = DER.tlv(0x31, DER.tlv(tag, text))
        attributes.append(DER.tlv(0x30, dotted(CHALLENGE_PASSWORD), value))
    extensions = [extra] if extra else []
    if names:
        dns = DER.tlv(0x30, *(DER.tlv(0x82, n.encode()) for n in names))
        extensions.append(DER.tlv(0x30, dotted("2.5.29.17"), DER.tlv(4, dns)))
    if ca:
        yes = DER.tlv(0x30, b"\x01\x01\xff")
        extensions.append(DER.tlv(0x30, dotted("2.5.29.19"), DER.tlv(4, yes)))
    if extensions:
        value = DER.tlv(0x31, DER.tlv(0x30, *extensions))
        attributes.append(DER.tlv(0x30, dotted(EXTENSION_REQUEST), value))
    attributes.sort(reverse=unsorted)
    information = DER.tlv(
        0x30, number(0), name(common_name), spki(key),
        DER.tlv(0xA0, *attributes),
    )  # fmt: skip
    identifier, signature = signed_by(signer or key, information, digest)
    return DER.tlv(0x30, information, identifier, DER.tlv(3, b"\0", signature))


def issuer_and_subject(issuer: bytes, common_name: str = "device") -> bytes:
    """Return the content of a CertPoll."""
    return DER.tlv(0x30, issuer, name(common_name))


def issuer_and_serial(issuer: bytes, serial: int) -> bytes:
    """Return the content of a GetCert or a GetCRL."""
    return DER.tlv(0x30, issuer, number(serial))


def subject_of(certificate: bytes) -> bytes:
    """Return the DER of a certificate's subject."""
    return x509.load_der_x509_certificate(certificate).subject.public_bytes()


def self_signed(
    key: Key | None = None,
    common_name: str = "device",
    *,
    begins: datetime = NOW - timedelta(days=1),
    days: int = 6,
    critical_key_identifier: bool = False,
    digest: str = "sha256",
) -> bytes:
    """
    Return the certificate with which a device signs its first message.

    :param critical_key_identifier: an authority key identifier that is
        critical, which RFC 5280 forbids and Windows does.
    """
    key = key or rsa_key()
    subject = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
    )
    if critical_key_identifier:
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(
                key.public_key()
            ),
            critical=True,
        )
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    if digest == "sha256":
        return certificate
    # The library signs nothing with older hashes.
    tbs = x509.load_der_x509_certificate(certificate).tbs_certificate_bytes
    old, new = (
        DER.algorithm(DIGESTS[each][2], NULL) for each in ("sha256", digest)
    )
    assert len(old) == len(new)
    tbs = tbs.replace(old, new)
    _, signature = signed_by(key, tbs, digest)
    return DER.tlv(0x30, tbs, new, DER.tlv(3, b"\0", signature))


def signed_by(
    key: Key, content: bytes, digest: str = "sha256", *, pss: bool = False
) -> tuple[bytes, bytes]:
    """Return AlgorithmIdentifier and signature."""
    oid, algorithm, with_rsa = DIGESTS[digest]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return (
            DER.algorithm(_ECDSA_SHA256),
            key.sign(content, ec.ECDSA(algorithm)),
        )
    if not pss:
        return (
            DER.algorithm(with_rsa, NULL),
            key.sign(content, padding.PKCS1v15(), algorithm),
        )
    size = algorithm.digest_size
    hashed = DER.algorithm(oid, NULL)
    identifier = DER.algorithm(
        "1.2.840.113549.1.1.10",
        DER.tlv(
            0x30,
            DER.tlv(0xA0, hashed),
            DER.tlv(0xA1, DER.algorithm("1.2.840.113549.1.1.8", hashed)),
            DER.tlv(0xA2, number(size)),
        ),
    )
    return identifier, key.sign(
        content, padding.PSS(padding.MGF1(algorithm), size), algorithm
    )


# --- messages ---------------------------------------------------------------


@frozen
class Message:
    """
    A pkiMessage with every habit that clients have.

    :ivar content: what is encrypted.
    :ivar recipient: DER of the certificate to encrypt to.
    :ivar key: signs; likewise ``certificate``, by default self-signed.
    :ivar oaep: the hash of RSAES-OAEP; nothing for PKCS #1 v1.5.
    :ivar ber: indefinite lengths everywhere, as jscep and Apple send them.
    :ivar constructed: encryptedContent in pieces of definite lengths.
    :ivar rsa_encryption: name the signature algorithm rsaEncryption.
    :ivar protection: the attribute cmsAlgorithmProtection.
    :ivar extra: certificates besides the signer's, before it.
    :ivar without: types of attributes to leave out.
    :ivar attributes: DER of the values of others, or instead.
    :ivar unsigned: attributes that are not signed.
    :ivar envelope: the EnvelopedData to send instead of our own.
    :ivar encrypted_key: what to send instead of the encrypted key.
    :ivar tamper: changes the encrypted content.
    :ivar padded: whether to pad the content.
    """

    content: bytes = field(factory=csr)
    recipient: bytes = b""
    message_type: str = "19"
    transaction: str = "0123456789ABCDEF"
    nonce: bytes = NONCE
    key: Key = field(factory=rsa_key)
    certificate: bytes = b""
    digest: str = "sha256"
    pss: bool = False
    rsa_encryption: bool = False
    cipher: str = "aes128"
    content_key: bytes = b""
    iv: bytes = b""
    oaep: str = ""
    ber: bool = False
    constructed: bool = False
    signing_time: bool = True
    protection: bool = False
    extra: tuple[bytes, ...] = ()
    without: tuple[str, ...] = ()
    attributes: Mapping[str, bytes] = field(factory=dict)
    unsigned: bytes = b""
    envelope: bytes | None = None
    encrypted_key: bytes | None = None
    encrypted_content: bytes | None = None
    content_type: str = DATA
    inner_type: str = DATA
    padded: bool = True

    def but(self, **changes: Any) -> Message:
        """Return another one."""
        return evolve(self, **changes)

    def der(self) -> bytes:
        """Return its octets."""
        write = Writer(self.ber)
        certificate = self.certificate or self_signed(self.key)
        content = self.enveloped() if self.envelope is None else self.envelope
        signed = self._attributes(content)
        # RFC 5652, section 5.4: what is signed is in DER.
        identifier, signature = signed_by(
            self.key, DER.tlv(0x31, signed), self.digest, pss=self.pss
        )
        if self.rsa_encryption:
            identifier = DER.algorithm(RSA, NULL)
        loaded = x509.load_der_x509_certificate(certificate)
        digest = DER.algorithm(DIGESTS[self.digest][0], NULL)
        signer = write.tlv(
            0x30,
            number(1),
            DER.tlv(
                0x30,
                loaded.issuer.public_bytes(),
                number(loaded.serial_number),
            ),
            digest,
            DER.tlv(0xA0, signed),
            identifier,
            DER.tlv(4, signature),
            self.unsigned,
        )
        encapsulated = write.tlv(
            0x30,
            dotted(self.content_type),
            write.tlv(0xA0, write.octets(content)),
        )
        return write.tlv(
            0x30,
            dotted(SIGNED_DATA),
            write.tlv(
                0xA0,
                write.tlv(
                    0x30,
                    number(1),
                    write.tlv(0x31, digest),
                    encapsulated,
                    write.tlv(0xA0, *self.extra, certificate),
                    write.tlv(0x31, signer),
                ),
            ),
        )

    def _attributes(self, content: bytes) -> bytes:
        """Return the content of the signed attributes."""
        digest = hashlib.new(self.digest, content).digest()
        values = {
            CONTENT_TYPE: dotted(self.content_type),
            MESSAGE_DIGEST: DER.tlv(4, digest),
            MESSAGE_TYPE: printable(self.message_type),
            TRANSACTION_ID: printable(self.transaction),
            SENDER_NONCE: DER.tlv(4, self.nonce),
        }
        if self.signing_time:
            values[SIGNING_TIME] = DER.tlv(0x17, b"260101000000Z")
        if self.protection:
            identifier, _ = signed_by(self.key, b"", self.digest, pss=self.pss)
            values[ALGORITHM_PROTECTION] = DER.tlv(
                0x30,
                DER.algorithm(DIGESTS[self.digest][0], NULL),
                b"\xa1" + identifier[1:],
            )
        values.update(self.attributes)
        return b"".join(
            sorted(
                DER.tlv(0x30, dotted(oid), DER.tlv(0x31, value))
                for oid, value in values.items()
                if oid not in self.without
            )
        )

    def enveloped(self) -> bytes:
        """Return the EnvelopedData."""
        write = Writer(self.ber)
        oid, key_size, block, _ = CIPHERS[self.cipher]
        key = self.content_key or hashlib.sha256(b"key").digest()[:key_size]
        iv = self.iv or hashlib.sha256(b"iv").digest()[:block]
        encrypted = self.encrypted_content
        if encrypted is None:
            encrypted = self.encrypt(self.content)
        if self.constructed:
            half = len(encrypted) // 2
            octets = DER.tlv(
                0xA0,
                DER.tlv(4, encrypted[:half]),
                DER.tlv(4, encrypted[half:]),
            )
        else:
            octets = write.octets(encrypted, 0x80)
        loaded = x509.load_der_x509_certificate(self.recipient)
        scheme, encrypted_key = self._transport(loaded.public_key(), key)
        recipient = write.tlv(
            0x30,
            number(0),
            DER.tlv(
                0x30,
                loaded.issuer.public_bytes(),
                number(loaded.serial_number),
            ),
            scheme,
            DER.tlv(4, encrypted_key),
        )
        return write.tlv(
            0x30,
            dotted(ENVELOPED_DATA),
            write.tlv(
                0xA0,
                write.tlv(
                    0x30,
                    number(0),
                    write.tlv(0x31, recipient),
                    write.tlv(
                        0x30,
                        dotted(self.inner_type),
                        DER.algorithm(oid, DER.tlv(4, iv)),
                        octets,
                    ),
                ),
            ),
        )

    def encrypt(self, content: bytes) -> bytes:
        """Return a content, padded and encrypted."""
        _, key_size, block, algorithm = CIPHERS[self.cipher]
        key = self.content_key or hashlib.sha256(b"key").digest()[:key_size]
        iv = self.iv or hashlib.sha256(b"iv").digest()[:block]
        if self.padded:
            count = block - len(content) % block
            content += bytes((count,)) * count
        encryptor = Cipher(algorithm(key), modes.CBC(iv)).encryptor()
        return encryptor.update(content) + encryptor.finalize()

    def _transport(self, public_key: Any, key: bytes) -> tuple[bytes, bytes]:
        """Return the key transport's AlgorithmIdentifier, and the key."""
        scheme: Any = padding.PKCS1v15()
        identifier = DER.algorithm(RSA, NULL)
        if self.oaep:
            oid, algorithm, _ = DIGESTS[self.oaep]
            hashed = DER.algorithm(oid, NULL)
            mask = DER.algorithm("1.2.840.113549.1.1.8", hashed)
            identifier = DER.algorithm(
                "1.2.840.113549.1.1.7",
                DER.tlv(0x30)
                if self.oaep == "sha1"
                else DER.tlv(0x30, DER.tlv(0xA0, hashed), DER.tlv(0xA1, mask)),
            )
            scheme = padding.OAEP(padding.MGF1(algorithm), algorithm, None)
        if self.encrypted_key is not None:
            return identifier, self.encrypted_key
        return identifier, public_key.encrypt(key, scheme)


# --- answers ----------------------------------------------------------------


@define
class Reply:
    """
    A CertRep.

    :ivar attributes: its signed attributes: type, values in DER.
    :ivar content: ``None`` if there is none, which is not empty.
    :ivar digest: OID of the digest that it is signed with.
    """

    attributes: dict[str, bytes]
    content: bytes | None
    certificates: list[bytes]
    digest: str
    der: bytes = field(repr=False)

    def text(self, oid: str) -> str | None:
        """Return the text of an attribute."""
        value = self.attributes.get(oid)
        return None if value is None else str(decode(value)[0])

    def octets(self, oid: str) -> bytes:
        """Return the octets of an attribute."""
        return bytes(decode(self.attributes[oid])[0])

    @property
    def status(self) -> str | None:
        """Return pkiStatus, and failInfo behind it."""
        status, fail_info = self.text(PKI_STATUS), self.text(FAIL_INFO)
        return status if fail_info is None else f"{status}/{fail_info}"

    @property
    def reason(self) -> str | None:
        """Return failInfoText."""
        return self.text(FAIL_INFO_TEXT)

    def opened(self, key: Any) -> tuple[list[bytes], list[bytes]]:
        """Decrypt, and return certificates and CRLs."""
        assert self.content
        inner, _ = decode(self.content, asn1Spec=rfc5652.ContentInfo())
        enveloped, _ = decode(inner["content"], rfc5652.EnvelopedData())
        (recipient,) = enveloped["recipientInfos"]
        wrapped = bytes(recipient["ktri"]["encryptedKey"])
        scheme: Any = padding.PKCS1v15()
        identifier = recipient["ktri"]["keyEncryptionAlgorithm"]
        if str(identifier["algorithm"]) != RSA:
            scheme = padding.OAEP(
                padding.MGF1(hashes.SHA256()), hashes.SHA256(), None
            )
        content_key = key.decrypt(wrapped, scheme)
        return certificates_and_crls(self.decrypted(content_key))

    def decrypted(self, content_key: bytes) -> bytes:
        """Return the content under a content-encryption key."""
        info = self.encrypted()
        algorithm = info["contentEncryptionAlgorithm"]
        iv = bytes(decode(algorithm["parameters"])[0])
        (cipher,) = (
            each
            for oid, _, _, each in CIPHERS.values()
            if oid == str(algorithm["algorithm"])
        )
        decryptor = Cipher(cipher(content_key), modes.CBC(iv)).decryptor()
        plain = decryptor.update(bytes(info["encryptedContent"]))
        plain += decryptor.finalize()
        return plain[: -plain[-1]]

    def encrypted(self) -> Any:
        """Return the EncryptedContentInfo."""
        assert self.content
        inner, _ = decode(self.content, asn1Spec=rfc5652.ContentInfo())
        enveloped, _ = decode(inner["content"], rfc5652.EnvelopedData())
        return enveloped["encryptedContentInfo"]

    @property
    def recipients(self) -> list[int]:
        """Return the serials of those whom it is encrypted to."""
        assert self.content
        inner, _ = decode(self.content, asn1Spec=rfc5652.ContentInfo())
        enveloped, _ = decode(inner["content"], rfc5652.EnvelopedData())
        return [
            int(each["ktri"]["rid"]["issuerAndSerialNumber"]["serialNumber"])
            for each in enveloped["recipientInfos"]
        ]


def certificates_and_crls(data: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return what a degenerate SignedData holds (RFC 8894, section 3.4)."""
    inner, rest = decode(data, asn1Spec=rfc5652.ContentInfo())
    signed, _ = decode(inner["content"], asn1Spec=rfc5652.SignedData())
    assert not rest
    assert not signed["signerInfos"]
    assert not signed["encapContentInfo"]["eContent"].isValue
    certificates = signed["certificates"]
    crls = signed["crls"]
    return (
        [encode(each["certificate"]) for each in certificates]
        if certificates.isValue
        else [],
        [encode(each["crl"]) for each in crls] if crls.isValue else [],
    )


def read_reply(data: bytes) -> Reply:
    """Read a CertRep and verify its signature (RFC 5652, section 5.4)."""
    inner, rest = decode(data, asn1Spec=rfc5652.ContentInfo())
    assert not rest
    signed, _ = decode(inner["content"], asn1Spec=rfc5652.SignedData())
    encapsulated = signed["encapContentInfo"]
    assert str(encapsulated["eContentType"]) == DATA
    content = encapsulated["eContent"]
    octets = bytes(content) if content.isValue else None
    (signer,) = signed["signerInfos"]
    attributes: dict[str, bytes] = {}
    for attribute in signer["signedAttrs"]:
        (value,) = attribute["attrValues"]
        attributes[str(attribute["attrType"])] = bytes(value)
    certificates = [
        encode(each["certificate"]) for each in signed["certificates"]
    ]
    oid = str(signer["digestAlgorithm"]["algorithm"])
    ((label, algorithm),) = (
        (label, algorithm)
        for label, (each, algorithm, _) in DIGESTS.items()
        if each == oid
    )
    found = hashlib.new(label, octets or b"").digest()
    assert found == bytes(decode(attributes[MESSAGE_DIGEST])[0])
    signed_attributes = encode(signer["signedAttrs"])
    loaded: Any = x509.load_der_x509_certificate(certificates[0])
    loaded.public_key().verify(
        bytes(signer["signature"]),
        b"\x31" + signed_attributes[1:],
        padding.PKCS1v15(),
        algorithm,
    )
    return Reply(attributes, octets, certificates, label, data)


def load_public(data: bytes) -> Any:
    """Return a key of the library."""
    return serialization.load_der_public_key(data)
