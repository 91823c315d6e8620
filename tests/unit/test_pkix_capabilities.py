# SPDX-License-Identifier: MIT
"""SMIMECapabilities, and EnvelopedData under a symmetric key."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from hypothesis import given
from hypothesis import strategies as st
from pyasn1.codec.der.decoder import decode
from pyasn1_modules import rfc5652

from trstctl.errors import (
    Malformed,
    RequestError,
    TooLarge,
    UnsupportedAlgorithm,
)
from trstctl.pkix import der
from trstctl.pkix.capabilities import Capabilities, read_capabilities
from trstctl.pkix.cms import SIGNED_DATA
from trstctl.pkix.encryption import SCHEMES, scheme_identifier
from trstctl.pkix.enveloping import envelope_for_key
from trstctl.testing import DeterministicBytes

#: What ``openssl cms -sign`` (3.0) writes: AES-256, -192, -128 CBC, triple
#: DES, RC2 with 128 and 64 bits, DES, RC2 with 40 bits.
OPENSSL = bytes.fromhex(
    "306a300b060960864801650304012a300b0609608648016503040116300b06096086"
    "48016503040102300a06082a864886f70d0307300e06082a864886f70d0302020200"
    "80300d06082a864886f70d0302020140300706052b0e030207300d06082a864886f7"
    "0d0302020128"
)
AES_128, AES_256 = "2.16.840.1.101.3.4.1.2", "2.16.840.1.101.3.4.1.42"
WRAP_128, WRAP_256 = "2.16.840.1.101.3.4.1.5", "2.16.840.1.101.3.4.1.45"


def capabilities(*oids: str) -> bytes:
    """Return a list of capabilities without parameters."""
    return der.sequence(*(der.sequence(der.oid(oid)) for oid in oids))


class ReadCapabilitiesTests:
    """RFC 8551, section 2.5.2: what somebody can decrypt, in order."""

    def test_openssl(self) -> None:
        """What OpenSSL says; what we have not is skipped."""
        assert Capabilities(
            ("aes-256-cbc", "aes-192-cbc", "aes-128-cbc", "des-ede3-cbc")
        ) == read_capabilities(OPENSSL)

    def test_each_kind(self) -> None:
        """Ciphers, wraps and schemes, each in the client's order."""
        value = der.sequence(
            der.sequence(der.oid(WRAP_256)),
            scheme_identifier("rsaes-oaep-sha256"),
            der.sequence(der.oid(AES_128)),
            der.sequence(der.oid(WRAP_128), b"\x05\x00"),
            der.sequence(der.oid(AES_256)),
            scheme_identifier("rsaes-pkcs1-v1.5"),
            der.sequence(der.oid("1.2.3"), der.integer(7)),
        )
        assert Capabilities(
            ("aes-128-cbc", "aes-256-cbc"),
            (32, 16),
            ("rsaes-oaep-sha256", "rsaes-pkcs1-v1.5"),
        ) == read_capabilities(value)

    def test_every_scheme(self) -> None:
        """Each key transport scheme that we have."""
        value = der.sequence(*map(scheme_identifier, SCHEMES))
        assert SCHEMES == read_capabilities(value).schemes

    def test_none(self) -> None:
        """An empty list is one."""
        assert Capabilities() == read_capabilities(der.sequence())

    def test_bounded(self) -> None:
        """No more entries than anybody has."""
        assert read_capabilities(capabilities(*[AES_128] * 64))
        with pytest.raises(TooLarge):
            read_capabilities(capabilities(*[AES_128] * 65))

    @pytest.mark.parametrize(
        "value",
        [
            der.set_of(),
            der.octet_string(b""),
            der.sequence(der.integer(1)),
            der.sequence(der.oid(AES_128)),
            der.sequence(der.sequence()),
            der.sequence(der.sequence(der.integer(1))),
            der.sequence(
                der.sequence(der.oid(AES_128), der.integer(1), der.integer(1))
            ),
            capabilities(AES_128) + b"\x05\x00",
        ],
    )
    def test_malformed(self, value: bytes) -> None:
        """What is no list of capabilities."""
        with pytest.raises(Malformed):
            read_capabilities(value)

    def test_every_corruption(self) -> None:
        """It is read, or refused as what it is, and nothing else."""
        for value in [
            *(OPENSSL[:length] for length in range(len(OPENSSL))),
            *(
                OPENSSL[:at] + bytes((other,)) + OPENSSL[at + 1 :]
                for at in range(len(OPENSSL))
                for other in (0x00, 0x01, 0x30, 0x7F, 0x80, 0xFF)
            ),
        ]:
            try:
                der.check(value)
                read_capabilities(value)
            except RequestError:
                continue

    @given(st.binary(max_size=64))
    def test_anything(self, value: bytes) -> None:
        """Whatever it is."""
        try:
            der.check(value)
            read_capabilities(value)
        except RequestError:
            return


class EnvelopeForKeyTests:
    """RFC 5652, section 6.2.3: to whoever has a symmetric key."""

    @pytest.mark.parametrize("size", [16, 24, 32])
    @pytest.mark.parametrize("cipher", ["aes-128-cbc", "aes-256-cbc"])
    def test_opened(self, size: int, cipher: str) -> None:
        """The independent decoder finds everything in its place."""
        own = bytes(range(size))
        message = envelope_for_key(
            b"content",
            own,
            b"line 7",
            cipher=cipher,
            random_bytes=DeterministicBytes("k"),
            content_type=SIGNED_DATA,
        )
        outer, rest = decode(message, asn1Spec=rfc5652.ContentInfo())
        assert b"" == rest
        found: Any
        found, rest = decode(
            bytes(outer["content"]), asn1Spec=rfc5652.EnvelopedData()
        )
        assert (b"", 2) == (rest, int(found["version"]))
        (recipient,) = found["recipientInfos"]
        kekri = recipient["kekri"]
        # RFC 7030, section 4.4.2: version 4, and the client's identifier.
        assert 4 == int(kekri["version"])
        assert b"line 7" == bytes(kekri["kekid"]["keyIdentifier"])
        assert {16: "5", 24: "25", 32: "45"}[size] == str(
            kekri["keyEncryptionAlgorithm"]["algorithm"]
        ).rpartition(".")[2]
        assert not kekri["keyEncryptionAlgorithm"]["parameters"].isValue
        key = aes_key_unwrap(own, bytes(kekri["encryptedKey"]))
        assert (16 if cipher == "aes-128-cbc" else 32) == len(key)
        content = found["encryptedContentInfo"]
        assert SIGNED_DATA == str(content["contentType"])
        iv, _ = decode(
            bytes(content["contentEncryptionAlgorithm"]["parameters"])
        )
        opener = Cipher(AES(key), modes.CBC(bytes(iv))).decryptor()
        opened = opener.update(bytes(content["encryptedContent"]))
        assert b"content" + b"\x09" * 9 == opened + opener.finalize()

    @pytest.mark.parametrize("size", [0, 8, 15, 17, 33])
    def test_no_such_key(self, size: int) -> None:
        """Only AES keys wrap."""
        with pytest.raises(UnsupportedAlgorithm):
            envelope_for_key(
                b"",
                bytes(size),
                b"id",
                cipher="aes-128-cbc",
                random_bytes=bytes,
            )

    def test_no_such_cipher(self) -> None:
        """Only ciphers that we have."""
        with pytest.raises(UnsupportedAlgorithm):
            envelope_for_key(
                b"", bytes(16), b"id", cipher="rc2-cbc", random_bytes=bytes
            )
