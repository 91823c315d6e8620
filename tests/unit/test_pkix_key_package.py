# SPDX-License-Identifier: MIT
"""Keys and certificates for their owners (RFC 9810, section 5.2.2)."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cmp_envelopes import agreed_key, decrypt, enveloped
from cmp_samples import NULL, START, certificate
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from pkix_samples import ED25519, P256, rsa_key, spki
from pyasn1.codec.der import decoder, encoder
from pyasn1.type import univ
from pyasn1_alt_modules import rfc5652, rfc5958, rfc9810

from trstctl.errors import Malformed, UnsupportedAlgorithm
from trstctl.pkix import algorithms as signatures
from trstctl.pkix import der
from trstctl.pkix.agreement import envelope_by_agreement
from trstctl.pkix.cmp_responses import CertResponse, cert_rep
from trstctl.pkix.cmp_status import PKIStatusInfo
from trstctl.pkix.cms import SIGNED_DATA, IssuerAndSerial, key_identifier
from trstctl.pkix.enveloped import read_enveloped
from trstctl.pkix.enveloping import envelope, envelope_for_password
from trstctl.pkix.key_package import (
    KEY_PACKAGE,
    asymmetric_key_package,
    encrypted_key,
    prepare_key_package,
    signed_data,
)
from trstctl.pkix.signed import read_signed_data, verify_signer
from trstctl.pkix.signing import prepare_signed

CONTENT = b"a content of more than one block"
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


def zeros(size: int) -> bytes:
    """Return octets that are as good as random for a test."""
    return bytes(size)


def pkcs8(key: Any) -> bytes:
    """Return the DER PrivateKeyInfo of a key."""
    octets: bytes = key.private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    return octets


class AgreementTests:
    """KeyAgreeRecipientInfo (RFC 5753)."""

    @pytest.mark.parametrize(
        ("curve", "digest", "arc"),
        [
            (ec.SECP256R1, hashes.SHA256(), 1),
            (ec.SECP384R1, hashes.SHA384(), 2),
            (ec.SECP521R1, hashes.SHA512(), 3),
        ],
    )
    @pytest.mark.parametrize("size", [16, 24, 32])
    def test_owner_can_read(
        self, curve: Any, digest: Any, arc: int, size: int
    ) -> None:
        """The owner of the key, and a decoder of others, can open it."""
        owner = ec.derive_private_key(0xC0FFEE, curve())
        message = envelope_by_agreement(
            CONTENT,
            certificate(owner),
            cipher=f"aes-{8 * size}-cbc",
            random_bytes=zeros,
        )
        found = enveloped(message)
        assert 2 == int(found["version"])
        (info,) = found["recipientInfos"]
        recipient = info["kari"]
        assert 3 == int(recipient["version"])
        scheme = recipient["keyEncryptionAlgorithm"]["algorithm"]
        assert f"1.3.132.1.11.{arc}" == str(scheme)
        key = agreed_key(recipient, owner, digest, size)
        assert CONTENT == decrypt(found, key)

    def test_recipient_by_issuer(self) -> None:
        """The recipient is named by issuer and serial number."""
        rid = self.rid(certificate(), by_key=False)
        assert "issuerAndSerialNumber" == rid.getName()
        assert 77 == int(rid.getComponent()["serialNumber"])

    def test_recipient_by_key(self) -> None:
        """Or by its key, if the certificate has an identifier."""
        rid = self.rid(certificate(), by_key=True)
        assert "rKeyId" == rid.getName()
        expected = key_identifier(certificate())
        assert expected == bytes(rid.getComponent()["subjectKeyIdentifier"])
        bare = certificate(key_identifier=False)
        assert "issuerAndSerialNumber" == self.rid(bare, by_key=True).getName()

    @staticmethod
    def rid(recipient: bytes, *, by_key: bool) -> Any:
        """Return how a message names its recipient."""
        message = envelope_by_agreement(
            CONTENT,
            recipient,
            cipher="aes-128-cbc",
            random_bytes=zeros,
            by_key=by_key,
        )
        (info,) = enveloped(message)["recipientInfos"]
        (each,) = info["kari"]["recipientEncryptedKeys"]
        return each["rid"]

    def test_ephemeral(self) -> None:
        """No two messages have the same key of ours."""
        messages = {
            envelope_by_agreement(
                b"", certificate(), cipher="aes-128-cbc", random_bytes=zeros
            )
            for _ in range(3)
        }
        assert 3 == len(messages)

    def test_refused(self) -> None:
        """Other ciphers and other keys agree on nothing."""
        for owner, cipher in (
            (P256, "des-ede3-cbc"),
            (P256, "des-cbc"),
            (rsa_key(), "aes-128-cbc"),
            (ec.derive_private_key(7, ec.SECP256K1()), "aes-128-cbc"),
        ):
            with pytest.raises(UnsupportedAlgorithm):
                envelope_by_agreement(
                    b"",
                    certificate(owner),
                    cipher=cipher,
                    random_bytes=zeros,
                )

    def test_unknown_key(self) -> None:
        """A key that the library does not know is refused, too."""
        unknown = certificate().replace(
            der.oid("1.2.840.10045.3.1.7"), der.oid("1.2.840.10045.3.1.99")
        )
        with pytest.raises(UnsupportedAlgorithm):
            envelope_by_agreement(
                b"", unknown, cipher="aes-128-cbc", random_bytes=zeros
            )


class TransportTests:
    """KeyTransRecipientInfo that names the recipient's key."""

    def test_by_key(self) -> None:
        """Version 2 with the key (RFC 5652, section 6.2.1)."""
        owner = certificate(rsa_key())
        message = envelope(
            CONTENT,
            owner,
            cipher="aes-256-cbc",
            random_bytes=zeros,
            content_type=SIGNED_DATA,
            by_key=True,
        )
        theirs = enveloped(message)
        assert 2 == int(theirs["version"])
        assert 2 == int(theirs["recipientInfos"][0]["ktri"]["version"])
        found = read_enveloped(message)
        assert SIGNED_DATA == found.content_type
        recipient = found.recipient_for(owner)
        assert recipient is not None
        assert key_identifier(owner) == recipient.rid

    def test_without_identifier(self) -> None:
        """Issuer and serial number, if there is no other name."""
        owner = certificate(rsa_key(), key_identifier=False)
        message = envelope(
            CONTENT,
            owner,
            cipher="aes-256-cbc",
            random_bytes=zeros,
            by_key=True,
        )
        assert 0 == int(enveloped(message)["version"])
        (recipient,) = read_enveloped(message).recipients
        assert isinstance(recipient.rid, IssuerAndSerial)


class PackageTests:
    """AsymmetricKeyPackage (RFC 5958), signed (RFC 9483, 4.1.6)."""

    @pytest.mark.parametrize("index", range(3))
    def test_one_key(self, index: int) -> None:
        """One key of version 2, with its public key."""
        key = (P256, ED25519, rsa_key())[index]
        package = asymmetric_key_package(pkcs8(key), spki(key))
        theirs, rest = decoder.decode(package, rfc5958.AsymmetricKeyPackage())
        assert b"" == rest
        assert package == encoder.encode(theirs)
        (one,) = theirs
        assert 1 == int(one["version"])
        public = der.children(der.content(spki(key), der.SEQUENCE))[1][1]
        assert public[1:] == one["publicKey"].asOctets()
        old = rfc5958.OneAsymmetricKey()
        old["version"] = 0
        for name in ("privateKeyAlgorithm", "privateKey"):
            old[name] = one[name]
        loaded = serialization.load_der_private_key(encoder.encode(old), None)
        assert spki(loaded) == spki(key)

    def test_no_key(self) -> None:
        """What is no key pair is refused."""
        for private, public in (
            (NULL, spki(P256)),
            (der.sequence(), spki(P256)),
            (pkcs8(P256), NULL),
            (pkcs8(P256), der.sequence()),
        ):
            with pytest.raises(Malformed):
                asymmetric_key_package(private, public)

    def signed(self) -> bytes:
        """Return a signed package."""
        package = asymmetric_key_package(pkcs8(ED25519), spki(ED25519))
        prepared = prepare_key_package(
            package,
            certificate=certificate(),
            algorithm="ecdsa-with-sha256",
            certificates=[certificate(), certificate(rsa_key())],
            signing_time=START,
        )
        return prepared.finish(
            signatures.sign(P256, prepared.algorithm, prepared.to_sign)
        )

    def test_signature(self) -> None:
        """The signer is named by its key, and sends its chain."""
        message = read_signed_data(self.signed())
        (signer,) = message.signers
        verify_signer(message, signer, spki(P256))
        assert KEY_PACKAGE == message.content_type
        assert 3 == message.version
        assert key_identifier(certificate()) == signer.sid
        assert certificate() == signer.certificate
        assert 2 == len(message.certificates)

    def test_version_of_data(self) -> None:
        """A signer that is named by its key makes it version 3."""
        for by_key, expected in ((True, 3), (False, 1)):
            prepared = prepare_signed(
                b"",
                certificate=certificate(),
                algorithm="ecdsa-with-sha256",
                attributes={},
                by_key=by_key,
            )
            message = read_signed_data(prepared.finish(b""))
            assert expected == message.version

    def test_through_all_layers(self) -> None:
        """The owner of an EC key gets its new key (CertifiedKeyPair)."""
        content = signed_data(self.signed())
        message = envelope_by_agreement(
            content,
            certificate(),
            cipher="aes-256-cbc",
            random_bytes=zeros,
            content_type=SIGNED_DATA,
            by_key=True,
        )
        response = CertResponse(
            0,
            PKIStatusInfo("accepted"),
            certificate(),
            private_key=encrypted_key(message),
        )
        body = cert_rep("ip", [response])
        theirs, rest = decoder.decode(body.der(), rfc9810.PKIBody())
        assert b"" == rest
        pair = theirs["ip"]["response"][0]["certifiedKeyPair"]
        found = pair["privateKey"]["envelopedData"]
        inner = found["encryptedContentInfo"]
        assert SIGNED_DATA == str(inner["contentType"])
        key = agreed_key(
            found["recipientInfos"][0]["kari"], P256, hashes.SHA256(), 32
        )
        assert content == decrypt(found, key)
        signed, rest = decoder.decode(content, rfc5652.SignedData())
        assert b"" == rest
        econtent = signed["encapContentInfo"]
        assert KEY_PACKAGE == str(econtent["eContentType"])
        package, _ = decoder.decode(
            bytes(econtent["eContent"]), rfc5958.AsymmetricKeyPackage()
        )
        assert 1 == len(package)

    def test_encrypted_certificate(self) -> None:
        """A certificate comes encrypted where its key cannot sign."""
        issued = certificate(rsa_key())
        message = envelope(
            issued, issued, cipher="aes-128-cbc", random_bytes=zeros
        )
        response = CertResponse(
            0,
            PKIStatusInfo("accepted"),
            encrypted_cert=encrypted_key(message),
        )
        body = cert_rep("cp", [response])
        theirs, _ = decoder.decode(body.der(), rfc9810.PKIBody())
        pair = theirs["cp"]["response"][0]["certifiedKeyPair"]
        choice = pair["certOrEncCert"]["encryptedCert"]["envelopedData"]
        assert 0 == int(choice["version"])
        (recipient,) = read_enveloped(message).recipients
        assert issued not in body.der()
        assert recipient == read_enveloped(message).recipient_for(issued)

    def test_for_a_password(self) -> None:
        """Who shares a secret only gets its key under it."""
        message = envelope_for_password(
            signed_data(self.signed()),
            b"secret",
            cipher="aes-256-cbc",
            random_bytes=zeros,
            iterations=1000,
            content_type=SIGNED_DATA,
        )
        found = read_enveloped(message)
        (recipient,) = found.password_recipients
        opened = found.open(
            recipient.unwrap(b"secret"),
            lambda plain: hashlib.sha256(plain).digest(),
            random_bytes=zeros,
        )
        assert 32 == len(opened)
        assert SIGNED_DATA == found.content_type
        value, _ = decoder.decode(encrypted_key(message), univ.Any())
        assert b"\xa0" == bytes(value)[:1]

    def test_of_another_type(self) -> None:
        """Only what is signed or encrypted goes on."""
        with pytest.raises(Malformed):
            signed_data(NULL)
        with pytest.raises(Malformed):
            encrypted_key(self.signed())
