# SPDX-License-Identifier: MIT
"""Ciphers, key transport and passwords of CMS."""

from __future__ import annotations

import hashlib
from time import process_time

import pytest
from pkix_samples import P256, refusal, rsa_key, spki
from pyasn1.codec.der import encoder
from pyasn1.type import univ
from pyasn1_modules import rfc4055

from trstctl.errors import Malformed, TooLarge, UnsupportedAlgorithm
from trstctl.pkix import der
from trstctl.pkix.encryption import (
    CIPHERS,
    PKCS1,
    SCHEMES,
    content_cipher,
    encrypt_key,
    read_cipher,
    read_scheme,
    scheme_identifier,
    scheme_padding,
)
from trstctl.pkix.password import (
    MAX_ITERATIONS,
    PasswordRecipient,
    read_password_recipient,
    wrap_for_password,
)

NULL = b"\x05\x00"
OAEP = der.oid("1.2.840.113549.1.1.7")
SHA1 = der.oid("1.3.14.3.2.26")
SHA256 = der.oid("2.16.840.1.101.3.4.2.1")
MGF1 = der.oid("1.2.840.113549.1.1.8")
SPECIFIED = der.oid("1.2.840.113549.1.1.9")


class CipherTests:
    """``read_cipher`` and ``ContentCipher``."""

    @pytest.mark.parametrize("name", CIPHERS)
    def test_names(self, name) -> None:
        """What is written is read."""
        cipher = content_cipher(name)
        iv = bytes(range(cipher.block_size))
        assert (name, iv) == read_cipher(cipher.identifier(iv))

    @pytest.mark.parametrize(
        ("oid", "name"),
        [
            ("1.3.14.3.2.7", "des-cbc"),
            ("1.2.840.113549.3.2", "rc2-cbc"),
            ("2.16.840.1.101.3.4.1.6", "other:2.16.840.1.101.3.4.1.6"),
        ],
    )
    def test_others_are_named(self, oid, name) -> None:
        """What we do not have is named, whatever its parameters."""
        for parameters in (b"", NULL, der.sequence()):
            identifier = der.sequence(der.oid(oid), parameters)
            assert (name, b"") == read_cipher(identifier)
        with pytest.raises(UnsupportedAlgorithm, match=name):
            content_cipher(name)

    @pytest.mark.parametrize("size", [8, 16])
    def test_padding(self, size) -> None:
        """RFC 5652, section 6.3: k - (l mod k) octets of that value."""
        name = "des-ede3-cbc" if size == 8 else "aes-128-cbc"
        cipher = content_cipher(name)
        for length in range(2 * size + 1):
            padded = cipher.pad(b"\xff" * length)
            count = size - length % size
            assert padded == b"\xff" * length + bytes((count,)) * count
            assert padded.endswith(cipher.padding_of(padded))
        for last in (0, *range(size + 1, 256)):
            block = bytes((last,)) * size
            assert not block.endswith(cipher.padding_of(block))


class SchemeTests:
    """``read_scheme`` and its inverse."""

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_round_trip(self, scheme) -> None:
        """What is written is read, and the library's key takes it."""
        assert scheme == read_scheme(scheme_identifier(scheme))
        encrypted_key = encrypt_key(spki(rsa_key()), scheme, b"secret")
        assert rsa_key().decrypt(encrypted_key, scheme_padding(scheme)) == (
            b"secret"
        )

    @pytest.mark.parametrize("digest", ["sha1", "sha256"])
    def test_oaep_is_der(self, digest) -> None:
        """RFC 4055, section 4.1: defaults are left out."""
        parameters = rfc4055.RSAES_OAEP_params()
        if digest == "sha256":
            hashed = rfc4055.sha256Identifier
            parameters["hashFunc"]["algorithm"] = hashed["algorithm"]
            parameters["hashFunc"]["parameters"] = univ.Any(NULL)
            parameters["maskGenFunc"]["algorithm"] = rfc4055.id_mgf1
            parameters["maskGenFunc"]["parameters"] = univ.Any(
                der.sequence(SHA256, NULL)
            )
        expected = der.sequence(OAEP, encoder.encode(parameters))
        assert expected == scheme_identifier(f"rsaes-oaep-{digest}")

    @pytest.mark.parametrize(
        ("parameters", "scheme"),
        [
            (der.sequence(), "rsaes-oaep-sha1"),
            (
                der.sequence(der.explicit(0, der.sequence(SHA1, NULL))),
                "rsaes-oaep-sha1",
            ),
            (
                der.sequence(
                    der.explicit(0, der.sequence(SHA256)),
                    der.explicit(
                        1, der.sequence(MGF1, der.sequence(SHA256, NULL))
                    ),
                    der.explicit(
                        2, der.sequence(SPECIFIED, der.octet_string(b""))
                    ),
                ),
                "rsaes-oaep-sha256",
            ),
            (der.sequence(der.explicit(0, der.sequence(SHA256))), None),
            (
                der.sequence(
                    der.explicit(1, der.sequence(MGF1, der.sequence(SHA256)))
                ),
                None,
            ),
            (
                der.sequence(
                    der.explicit(
                        2, der.sequence(SPECIFIED, der.octet_string(b"x"))
                    )
                ),
                None,
            ),
            (NULL, None),
            (b"", None),
        ],
    )
    def test_oaep_parameters(self, parameters, scheme) -> None:
        """One hash for both, and an empty label; spelt out or not."""
        expected = scheme or "other:1.2.840.113549.1.1.7"
        assert expected == read_scheme(der.sequence(OAEP, parameters))

    def test_pkcs1_without_parameters(self) -> None:
        """RFC 3370, section 4.2.1, wants NULL; some leave it out."""
        oid = der.oid("1.2.840.113549.1.1.1")
        assert read_scheme(der.sequence(oid)) == PKCS1
        other = read_scheme(der.sequence(oid, der.sequence()))
        assert other == "other:1.2.840.113549.1.1.1"

    def test_unsupported(self) -> None:
        """Schemes and keys that we cannot encrypt with."""
        for call in (
            lambda: scheme_identifier("other:1.2"),
            lambda: scheme_padding("other:1.2"),
            lambda: encrypt_key(spki(P256), PKCS1, b"key"),
            lambda: encrypt_key(b"no key", PKCS1, b"key"),
            lambda: encrypt_key(spki(rsa_key()), PKCS1, bytes(246)),
            lambda: encrypt_key(spki(rsa_key()), "other:1.2", b"key"),
        ):
            with pytest.raises(UnsupportedAlgorithm):
                call()


HMAC_SHA1 = der.oid("1.2.840.113549.2.7")
HMAC_SHA512 = der.oid("1.2.840.113549.2.11")
PBKDF2 = der.oid("1.2.840.113549.1.5.12")
SALT = der.octet_string(bytes(8))
IV = bytes(16)


def pbkdf2(*parameters: bytes) -> bytes:
    """Return a keyDerivationAlgorithm."""
    return der.tlv(0xA0, PBKDF2 + der.sequence(*parameters))


def recipient(
    *,
    version: bytes = der.integer(0),
    derivation: bytes = pbkdf2(SALT, der.integer(1)),
    algorithm: bytes = der.sequence(
        der.oid("1.2.840.113549.1.9.16.3.9"),
        CIPHERS["aes-128-cbc"].identifier(IV),
    ),
    key: bytes = der.octet_string(bytes(32)),
) -> bytes:
    """Return the content of a PasswordRecipientInfo."""
    return version + derivation + algorithm + key


class PasswordTests:
    """PasswordRecipientInfo (RFC 3211)."""

    def test_vector(self) -> None:
        """RFC 3211, section 3, on AES instead of DES: both passes by hand."""
        cipher = content_cipher("aes-128-cbc")
        kek = hashlib.pbkdf2_hmac("sha512", b"pw", b"saltsalt", 3, 16)
        key = bytes(range(0xA0, 0xB0))
        block = bytes.fromhex("10 5f5e5d") + key + bytes(12)
        once = cipher.encrypt(kek, IV, block)
        twice = cipher.encrypt(kek, once[-16:], once)
        found = PasswordRecipient(
            "sha512", b"saltsalt", 3, "aes-128-cbc", IV, twice
        )
        assert key == found.unwrap(b"pw")
        assert found.unwrap(b"PW") is None

    @pytest.mark.parametrize("cipher", CIPHERS)
    @pytest.mark.parametrize("size", [5, 8, 16, 24, 28, 29, 32])
    def test_round_trip(self, cipher, size) -> None:
        """What is wrapped unwraps, whatever the length of the key."""
        key = bytes(range(size))
        made = wrap_for_password(
            key, b"pw", cipher=cipher, iterations=2, random_bytes=bytes
        )
        found = read_password_recipient(der.content(made, 0xA3))
        assert key == found.unwrap(b"pw")
        assert (cipher, 2, "sha256") == (
            found.cipher,
            found.iterations,
            found.digest,
        )

    def test_impossible_length(self) -> None:
        """A length beyond the blocks is a wrong password."""
        cipher = content_cipher("aes-128-cbc")
        kek = hashlib.pbkdf2_hmac("sha1", b"pw", bytes(8), 1, 16)
        for length, expected in ((28, bytes(28)), (29, None)):
            block = bytes((length,)) + b"\xff" * 3 + bytes(28)
            once = cipher.encrypt(kek, IV, block)
            twice = cipher.encrypt(kek, once[-16:], once)
            found = PasswordRecipient(
                "sha1", bytes(8), 1, "aes-128-cbc", IV, twice
            )
            assert expected == found.unwrap(b"pw")

    @pytest.mark.parametrize(
        ("parameters", "digest"),
        [
            ((), "sha1"),
            ((der.integer(16),), "sha1"),
            ((der.sequence(HMAC_SHA1, NULL),), "sha1"),
            ((der.integer(16), der.sequence(HMAC_SHA512)), "sha512"),
        ],
    )
    def test_derivation(self, parameters, digest) -> None:
        """RFC 8018, appendix A.2: keyLength and prf are optional."""
        derivation = pbkdf2(SALT, der.integer(1), *parameters)
        found = read_password_recipient(recipient(derivation=derivation))
        assert (digest, bytes(8), 1) == (
            found.digest,
            found.salt,
            found.iterations,
        )

    @pytest.mark.parametrize(
        "bad",
        [
            {"version": der.integer(1)},
            {"version": NULL},
            {"derivation": b""},
            {"derivation": pbkdf2(NULL, der.integer(1))},
            {"derivation": pbkdf2(SALT, NULL)},
            {"derivation": pbkdf2(SALT, der.integer(0))},
            {"derivation": pbkdf2(SALT, der.integer(-1))},
            {"derivation": pbkdf2(der.octet_string(bytes(7)), der.integer(1))},
            {
                "derivation": pbkdf2(
                    der.octet_string(bytes(65)), der.integer(1)
                )
            },
            {"key": NULL},
            {"key": der.octet_string(bytes(16))},
            {"key": der.octet_string(bytes(33))},
            {"key": der.octet_string(bytes(80))},
        ],
    )
    def test_malformed(self, bad) -> None:
        """RFC 5652, section 6.2.4, and RFC 8018, section 4.1."""
        with pytest.raises(Malformed):
            read_password_recipient(recipient(**bad))

    @pytest.mark.parametrize(
        "bad",
        [
            {"algorithm": der.sequence(der.oid("1.2.3"), NULL)},
            {
                "algorithm": der.sequence(
                    der.oid("1.2.840.113549.1.9.16.3.9"),
                    der.sequence(der.oid("1.3.14.3.2.7")),
                )
            },
            {"derivation": der.tlv(0xA0, der.oid("1.2.3") + der.sequence())},
            {
                "derivation": pbkdf2(
                    SALT, der.integer(1), der.sequence(der.oid("1.2.3"))
                )
            },
            {"derivation": pbkdf2(SALT, der.integer(1), der.integer(24))},
        ],
    )
    def test_unsupported(self, bad) -> None:
        """Another derivation, wrapping, cipher or key length."""
        with pytest.raises(UnsupportedAlgorithm):
            read_password_recipient(recipient(**bad))

    def test_iterations_are_limited(self) -> None:
        """A peer's number of iterations is bounded before any is done."""
        most = pbkdf2(SALT, der.integer(MAX_ITERATIONS))
        read_password_recipient(recipient(derivation=most))
        for number in (MAX_ITERATIONS + 1, 2**31, 2**8000):
            before = process_time()
            derivation = pbkdf2(SALT, der.integer(number))
            with pytest.raises(TooLarge):
                read_password_recipient(recipient(derivation=derivation))
            assert process_time() - before < 0.005

    def test_unsupported_cipher_writes_nothing(self) -> None:
        """Wrapping takes the ciphers that we have."""
        assert (
            refusal(
                wrap_for_password,
                b"key",
                b"pw",
                cipher="des-cbc",
                iterations=1,
                random_bytes=bytes,
            )
            == "UnsupportedAlgorithm"
        )
