# SPDX-License-Identifier: MIT
"""What protects a PKIMessage (RFC 9810, section 5.1.3; RFC 9481)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import pytest
from cmp_samples import NULL, captured, mutations
from cmp_vectors import SECRET
from cryptography.hazmat.primitives.asymmetric import ec, ed448, mldsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pkix_samples import ED25519, P256, corruptions, refusal, rsa_key, spki
from pyasn1.codec.der import decoder, encoder
from pyasn1_alt_modules import rfc8018, rfc9810

from trstctl.errors import Malformed
from trstctl.pkix import algorithms as signatures
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp import PKIMessage
from trstctl.pkix.cmp_mac import GMACS, HMAC_SHA1, HMACS
from trstctl.pkix.cmp_protection import (
    MAX_ITERATIONS,
    MIN_ITERATIONS,
    PBMAC1,
    PasswordBasedMac,
    SignatureProtection,
    Unsupported,
    read_protection,
)

DIGESTS = {
    "sha1": "1.3.14.3.2.26",
    "sha224": "2.16.840.1.101.3.4.2.4",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
SALT = bytes(range(16))
NONCE = bytes(range(12))


def identifier(oid: str, parameters: bytes = b"") -> bytes:
    """Return an AlgorithmIdentifier."""
    return der.sequence(der.oid(oid), parameters)


def gmac(bits: int = 256, nonce: bytes = NONCE, tail: bytes = b"") -> bytes:
    """Return the AlgorithmIdentifier of a GMAC."""
    (oid,) = [oid for oid, size in GMACS.items() if 8 * size == bits]
    return identifier(oid, der.sequence(der.octet_string(nonce), tail))


def password_based(
    *,
    owf: bytes = identifier(DIGESTS["sha256"]),
    mac: bytes = identifier(HMACS["sha256"], NULL),
    iterations: int = 500,
    salt: bytes = SALT,
) -> bytes:
    """Return a protectionAlg of PasswordBasedMac."""
    return identifier(
        "1.2.840.113533.7.66.13",
        der.sequence(
            der.octet_string(salt), owf, der.integer(iterations), mac
        ),
    )


def pbmac1(
    *,
    mac: bytes = identifier(HMACS["sha256"], NULL),
    prf: bytes = identifier(HMACS["sha512"], NULL),
    length: bytes = der.integer(32),
    iterations: int = 1000,
    salt: bytes = der.octet_string(SALT),
    kdf: str = "1.2.840.113549.1.5.12",
) -> bytes:
    """Return a protectionAlg of PBMAC1."""
    parameters = der.sequence(salt, der.integer(iterations), length, prf)
    return identifier(
        "1.2.840.113549.1.5.14",
        der.sequence(identifier(kdf, parameters), mac),
    )


def read_pbm(protection: bytes) -> PasswordBasedMac:
    """Read a PasswordBasedMac."""
    found = read_protection(protection)
    assert isinstance(found, PasswordBasedMac)
    return found


def read_pbmac1(protection: bytes) -> PBMAC1:
    """Read a PBMAC1."""
    found = read_protection(protection)
    assert isinstance(found, PBMAC1)
    return found


def verifies(message: PKIMessage, secret: bytes) -> bool:
    """Tell whether a MAC is right."""
    found = read_protection(message.header.protection_alg or b"")
    assert isinstance(found, PasswordBasedMac | PBMAC1)
    key = found.derive(secret)
    return found.verify(key, message.protected_part, message.protection or b"")


class CapturedTests:
    """What OpenSSL and BouncyCastle protect their messages with."""

    @pytest.mark.parametrize(
        ("name", "owf", "mac", "iterations"),
        [
            ("ir", "sha256", "hmac-sha1", 500),
            ("ir_sha512", "sha512", "hmac-sha512", 500),
            # The digest's 20 octets are the key for HMAC with SHA-512.
            ("ir_sha1", "sha1", "hmac-sha512", 500),
            ("bc_ir_sender", "sha1", "hmac-sha1", 1000),
        ],
    )
    def test_password_based_mac(
        self, name: str, owf: str, mac: str, iterations: int
    ) -> None:
        """The MAC of a client verifies, with its secret only."""
        message = captured(name)
        found = read_pbm(message.header.protection_alg or b"")
        assert (owf, mac, iterations) == (
            found.digest,
            found.mac.name,
            found.iterations,
        )
        assert message.header.protection_alg == found.der()
        assert verifies(message, SECRET)
        assert not verifies(message, b"PX")
        assert not verifies(message, b"")

    def test_bouncycastle_pbmac1(self) -> None:
        """BouncyCastle 1.72 names PBES2 where PBKDF2 belongs."""
        message = captured("bc_ir")
        found = read_pbmac1(message.header.protection_alg or b"")
        assert ("sha256", "hmac-sha256", 1000, 32) == (
            found.digest,
            found.mac.name,
            found.iterations,
            found.key_length,
        )
        assert "1.2.840.113549.1.5.13" == found.kdf
        assert message.header.protection_alg == found.der()
        assert verifies(message, SECRET)
        assert not verifies(message, b"PX")

    @pytest.mark.parametrize("name", ["ir_signed", "kur", "p10cr"])
    def test_signature(self, name: str) -> None:
        """The signature is over what was received."""
        message = captured(name)
        found = read_protection(message.header.protection_alg or b"")
        assert SignatureProtection("ecdsa-with-sha256") == found
        assert isinstance(found, SignatureProtection)
        signer = read_certificate(message.extra_certs[0]).public_key.spki
        part, signature = message.protected_part, message.protection or b""
        assert found.verify(signer, part, signature)
        assert not found.verify(spki(P256), part, signature)
        assert not found.verify(signer, part + b"\0", signature)
        assert message.header.protection_alg == found.der()


class PasswordBasedMacTests:
    """PasswordBasedMac (section 5.1.3.1; RFC 4211, section 4.4)."""

    @pytest.mark.parametrize("owf", DIGESTS)
    @pytest.mark.parametrize("mac", HMACS)
    def test_hmac(self, owf: str, mac: str) -> None:
        """The whole of BASEKEY is the key of an HMAC."""
        found = read_pbm(
            password_based(
                owf=identifier(DIGESTS[owf], NULL),
                mac=identifier(HMACS[mac]),
                iterations=100,
            )
        )
        key = b"secret" + SALT
        for _ in range(100):
            key = hashlib.new(owf, key).digest()
        assert key == found.derive(b"secret")
        assert hmac.digest(key, b"part", mac) == found.compute(key, b"part")
        assert len(found.compute(key, b"")) == found.mac.length

    def test_key_expansion(self) -> None:
        """A MAC that needs more than BASEKEY gets more (K > H)."""
        for bits, owf, sizes in (
            (256, "sha1", (20, 12)),
            (128, "sha1", (16,)),
        ):
            found = read_pbm(
                password_based(
                    owf=identifier(DIGESTS[owf]),
                    mac=gmac(bits),
                    iterations=100,
                )
            )
            base = b"secret" + SALT
            for _ in range(100):
                base = hashlib.new(owf, base).digest()
            expanded = base + hashlib.new(owf, b"1" + base).digest()
            assert expanded[: sum(sizes)] == found.derive(b"secret")

    def test_gmac(self) -> None:
        """GMAC is GCM without a plaintext (RFC 9044)."""
        for bits in (128, 192, 256):
            found = read_pbm(password_based(mac=gmac(bits)))
            assert f"aes-{bits}-gmac" == found.mac.name
            key = found.derive(b"secret")
            cipher = Cipher(algorithms.AES(key), modes.GCM(NONCE)).encryptor()
            cipher.authenticate_additional_data(b"part")
            cipher.finalize()
            code = found.compute(key, b"part")
            assert cipher.tag[:12] == code
            assert found.verify(key, b"part", code)
            assert not found.verify(key, b"part", code[:11])
            assert not found.verify(key, b"port", code)

    def test_gmac_length(self) -> None:
        """12 octets unless something else is said, up to 16."""
        for length in range(13, 17):
            protection = password_based(mac=gmac(tail=der.integer(length)))
            found = read_pbm(protection)
            assert protection == found.der()
            assert length == len(found.compute(bytes(32), b"part"))

    @pytest.mark.parametrize(
        "mac",
        [
            gmac(nonce=bytes(7)),
            gmac(nonce=bytes(65)),
            gmac(tail=der.integer(11)),
            gmac(tail=der.integer(17)),
            gmac(tail=NULL),
            gmac(tail=der.integer(12) * 2),
            identifier(next(iter(GMACS)), der.sequence()),
            identifier(next(iter(GMACS))),
            identifier(next(iter(GMACS)), der.sequence(der.integer(12))),
        ],
    )
    def test_bad_gmac(self, mac: bytes) -> None:
        """Parameters that a GMAC cannot have are refused."""
        with pytest.raises(Malformed):
            read_protection(password_based(mac=mac))

    def test_old_identifier(self) -> None:
        """HMAC with SHA-1 has two identifiers; we answer with the same."""
        for oid in (HMAC_SHA1, HMACS["sha1"]):
            protection = password_based(mac=identifier(oid, NULL))
            found = read_pbm(protection)
            assert "hmac-sha1" == found.mac.name
            assert protection == found.der()

    def test_another_decoder_agrees(self) -> None:
        """pyasn1 reads what we write."""
        found = read_pbm(password_based())
        theirs, _ = decoder.decode(
            der.children(der.content(found.der(), der.SEQUENCE))[1][2],
            rfc9810.PBMParameter(),
        )
        assert SALT == bytes(theirs["salt"])
        assert 500 == int(theirs["iterationCount"])

    @pytest.mark.parametrize(
        ("iterations", "fine"),
        [
            (-1, False),
            (0, False),
            (MIN_ITERATIONS - 1, False),
            (MIN_ITERATIONS, True),
            (MAX_ITERATIONS, True),
            (MAX_ITERATIONS + 1, False),
            (1 << 4000, False),
        ],
    )
    def test_iterations_are_bounded(self, iterations: int, fine: bool) -> None:
        """A hundred at least (RFC 4211, section 4.4), and not for ever."""
        for protection in (
            password_based(iterations=iterations),
            pbmac1(iterations=iterations),
        ):
            found = read_protection(protection)
            assert fine == (not isinstance(found, Unsupported))

    def test_salts_are_bounded(self) -> None:
        """No salt is as bad as a huge one."""
        for size, fine in ((0, False), (1, True), (128, True), (129, False)):
            salt = bytes(size)
            for protection in (
                password_based(salt=salt),
                pbmac1(salt=der.octet_string(salt)),
            ):
                found = read_protection(protection)
                assert fine == (not isinstance(found, Unsupported))


class PBMAC1Tests:
    """PBMAC1 (RFC 8018, section 7.1)."""

    @pytest.mark.parametrize("prf", HMACS)
    @pytest.mark.parametrize("mac", HMACS)
    def test_hmac(self, prf: str, mac: str) -> None:
        """PBKDF2 with the PRF and length that are named."""
        given = b"" if prf == "sha1" else identifier(HMACS[prf], NULL)
        protection = pbmac1(
            prf=given,
            mac=identifier(HMACS[mac], NULL),
            length=der.integer(48),
        )
        found = read_pbmac1(protection)
        assert protection == found.der()
        key = hashlib.pbkdf2_hmac(prf, b"secret", SALT, 1000, 48)
        assert key == found.derive(b"secret")
        assert hmac.digest(key, b"part", mac) == found.compute(key, b"part")

    def test_a_default_that_is_spelt_out(self) -> None:
        """hmacWithSHA1 is the default; writing it is not DER, but read."""
        found = read_pbmac1(pbmac1(prf=identifier(HMACS["sha1"], NULL)))
        assert "sha1" == found.digest

    def test_another_decoder_agrees(self) -> None:
        """pyasn1 reads what we write."""
        found = read_pbmac1(pbmac1())
        parameters = der.children(der.content(found.der(), der.SEQUENCE))[1][2]
        theirs, _ = decoder.decode(parameters, rfc8018.PBMAC1_params())
        inner, _ = decoder.decode(
            theirs["keyDerivationFunc"]["parameters"], rfc8018.PBKDF2_params()
        )
        assert 32 == int(inner["keyLength"])
        assert parameters == encoder.encode(theirs)

    def test_gmac(self) -> None:
        """The length is that of the MAC's key."""
        for length, fine in ((32, True), (16, False), (48, False)):
            found = read_protection(
                pbmac1(mac=gmac(), length=der.integer(length))
            )
            assert fine == isinstance(found, PBMAC1)

    @pytest.mark.parametrize(
        "protection",
        [
            pbmac1(length=b""),
            pbmac1(length=der.integer(15)),
            pbmac1(length=der.integer(129)),
            pbmac1(length=der.integer(-1)),
            pbmac1(prf=identifier("1.2.3")),
            pbmac1(mac=identifier("1.2.3")),
            pbmac1(kdf="1.3.6.1.4.1.11591.4.11"),  # scrypt
            pbmac1(salt=identifier("1.2.3")),
        ],
    )
    def test_unsupported(self, protection: bytes) -> None:
        """What we cannot compute is a MAC all the same."""
        found = read_protection(protection)
        assert isinstance(found, Unsupported)
        assert found.is_mac
        assert found.name.startswith("PBMAC1 with ")


class RenewedTests:
    """An answer's protection: the request's technique, a salt of ours."""

    @staticmethod
    def counted() -> Callable[[int], bytes]:
        """Return a source of octets that are never the same."""
        number = iter(range(100, 200))
        return lambda size: bytes((next(number),)) * size

    @pytest.mark.parametrize(
        "protection",
        [password_based(), pbmac1(), password_based(mac=gmac())],
    )
    def test_renewed(self, protection: bytes) -> None:
        """Salt and nonce are new, everything else stays."""
        found = read_protection(protection)
        assert isinstance(found, PasswordBasedMac | PBMAC1)
        ours = found.renewed(self.counted())
        assert type(found) is type(ours)
        assert b"\x64" * 16 == ours.salt
        assert found.iterations == ours.iterations
        assert found.mac.name == ours.mac.name
        assert ours == read_protection(ours.der())
        assert found.derive(b"x") != ours.derive(b"x")
        if found.mac.nonce:
            assert b"\x65" * 12 == ours.mac.nonce

    @pytest.mark.parametrize("null", [b"", NULL])
    def test_identifiers_stay_as_they_are(self, null: bytes) -> None:
        """With NULL or nothing as parameters: who writes it reads it."""
        own = identifier(HMACS["sha256"], null)
        for protection in (
            password_based(mac=own),
            pbmac1(prf=own, mac=own),
        ):
            found = read_protection(protection)
            assert isinstance(found, PasswordBasedMac | PBMAC1)
            ours = found.renewed(self.counted()).der()
            assert protection.count(own) == ours.count(own)

    def test_secrets_stay_out_of_logs(self) -> None:
        """Nothing of a key is kept in the value."""
        found = read_pbm(password_based())
        found.derive(b"correct horse")
        assert "horse" not in repr(found)


class SignatureTests:
    """Signatures (section 5.1.3.3; RFC 9481, section 3)."""

    @pytest.mark.parametrize(
        ("name", "key"),
        [
            ("ecdsa-with-sha256", P256),
            ("ecdsa-with-sha512", ec.derive_private_key(7, ec.SECP521R1())),
            ("sha384-with-rsa", None),
            ("rsassa-pss-with-sha256", None),
            ("ed25519", ED25519),
            (
                "ed448",
                ed448.Ed448PrivateKey.from_private_bytes(bytes(57)),
            ),
            ("ml-dsa-44", mldsa.MLDSA44PrivateKey.generate()),
        ],
    )
    def test_every_kind(self, name: str, key: object) -> None:
        """What we sign with verifies."""
        signer = key if key is not None else rsa_key()
        protection = SignatureProtection(name)
        assert protection == read_protection(protection.der())
        signature = signatures.sign(signer, name, b"part")
        assert protection.verify(spki(signer), b"part", signature)
        assert not protection.verify(spki(signer), b"port", signature)
        assert not protection.verify(spki(signer), b"part", b"")


class UnsupportedTests:
    """Algorithms that have a name only."""

    @pytest.mark.parametrize(
        ("oid", "name", "is_mac"),
        [
            ("1.2.840.113533.7.66.30", "DHBasedMac", True),
            ("1.2.840.113533.7.66.16", "KemBasedMac", True),
            (HMACS["sha256"], "hmac-sha256", True),
            (HMAC_SHA1, "hmac-sha1", True),
            ("2.16.840.1.101.3.4.2.19", "kmac128", True),
            ("2.16.840.1.101.3.4.1.49", "aes-256-gmac", True),
            ("1.2.840.113549.1.1.5", "sha1", False),
            ("1.2.840.113549.1.1.4", "md5", False),
            ("2.16.840.1.101.3.4.3.2", "dsa with sha256", False),
            ("1.2.3", "algorithm 1.2.3", False),
        ],
    )
    def test_names(self, oid: str, name: str, is_mac: bool) -> None:
        """Whoever refuses can say what, and whether it is a MAC."""
        found = read_protection(identifier(oid, NULL))
        assert Unsupported(name, is_mac) == found

    def test_inside_a_mac(self) -> None:
        """The algorithms inside PasswordBasedMac have names as well."""
        for protection in (
            password_based(owf=identifier("1.2.3")),
            password_based(mac=identifier("1.2.3")),
            password_based(owf=identifier("1.2.3", der.integer(1))),
        ):
            assert Unsupported(
                "PasswordBasedMac with algorithm 1.2.3", True
            ) == read_protection(protection)

    @pytest.mark.parametrize(
        "protection",
        [
            NULL,
            der.sequence(),
            der.sequence(NULL),
            identifier("1.2.840.113533.7.66.13"),
            identifier("1.2.840.113533.7.66.13", der.sequence()),
            identifier("1.2.840.113549.1.5.14", der.sequence()),
            identifier("1.2.840.113549.1.5.14", NULL),
            pbmac1(salt=NULL),
            pbmac1(length=der.integer(32) * 2),
            identifier(
                "1.2.840.113549.1.5.14",
                der.sequence(
                    identifier("1.2.840.113549.1.5.12", der.sequence()),
                    identifier(HMACS["sha256"]),
                ),
            ),
        ],
    )
    def test_malformed(self, protection: bytes) -> None:
        """Parameters of another type are malformed."""
        with pytest.raises(Malformed):
            read_protection(protection)

    @pytest.mark.parametrize(
        "protection",
        [
            password_based(),
            pbmac1(),
            password_based(mac=gmac(tail=der.integer(16))),
        ],
    )
    def test_mutation(self, protection: bytes) -> None:
        """Parameters of another shape are a peer's fault at most."""
        for mutated in mutations(protection):
            if refusal(der.check, mutated) is None:
                refusal(read_protection, mutated)

    @pytest.mark.parametrize("protection", [password_based(), pbmac1()])
    def test_corruption(self, protection: bytes) -> None:
        """Damaged octets are read, or refused as a peer's fault."""

        def read(data: bytes) -> None:
            der.check(data)
            read_protection(data)

        for damaged in corruptions(protection):
            refusal(read, damaged)
