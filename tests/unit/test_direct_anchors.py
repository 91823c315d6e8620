# SPDX-License-Identifier: MIT
"""
The short way to an anchor: whom it vouches for, and that OpenSSL agrees.

Each refusal here means that OpenSSL is asked, not that it would refuse.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from trstctl.backends import factory_certificates
from trstctl.backends.direct_anchors import DirectAnchors
from trstctl.backends.factory_certificates import (
    FactoryAnchors,
    Stranger,
    Unfit,
)
from trstctl.errors import RequestError
from trstctl.model import ClientCertificate
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate, split_signed
from trstctl.testing import EPOCH

CA_KEY = ec.generate_private_key(ec.SECP256R1())
KEY = ec.generate_private_key(ec.SECP256R1())
CA = "a manufacturer"

#: Extensions as an ordinary CA and an ordinary device have them.
IS_CA = x509.BasicConstraints(True, None)
NO_CA = x509.BasicConstraints(False, None)
OF_CA = x509.SubjectKeyIdentifier.from_public_key(CA_KEY.public_key())
OF_DEVICE = x509.SubjectKeyIdentifier.from_public_key(KEY.public_key())
BY_CA = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(OF_CA)
NAMES = x509.SubjectAlternativeName([x509.DNSName("device-1.example")])
EXTENSIONS = (NO_CA, OF_DEVICE, BY_CA, NAMES)
CA_EXTENSIONS = (IS_CA, OF_CA, BY_CA)


def key_usage(*wanted: str) -> x509.KeyUsage:
    """Return a key usage."""
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{one: one in wanted for one in every})


def named(text: str) -> x509.Name:
    """Return a name of one common name."""
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def certificate(
    extensions: tuple[x509.ExtensionType, ...] = EXTENSIONS,
    *,
    subject: str = "device-1",
    issuer: str = CA,
    key: Any = KEY,
    signer: Any = CA_KEY,
    days: tuple[int, int] = (-1, 30),
) -> bytes:
    """Return a certificate; by default an ordinary device's."""
    builder = x509.CertificateBuilder(
        named(issuer),
        named(subject),
        key.public_key(),
        77,
        EPOCH + timedelta(days=days[0]),
        EPOCH + timedelta(days=days[1]),
    )
    for one in extensions:
        builder = builder.add_extension(one, critical=False)
    is_pure = isinstance(signer, ed25519.Ed25519PrivateKey)
    made = builder.sign(signer, None if is_pure else hashes.SHA256())
    return made.public_bytes(Encoding.DER)


def anchor(
    extensions: tuple[x509.ExtensionType, ...] = CA_EXTENSIONS, **how: Any
) -> bytes:
    """Return an anchor; by default an ordinary one."""
    how = {"subject": CA, "key": CA_KEY, **how}
    return certificate(extensions, **how)


def vouches(
    device: bytes, root: bytes | None = None, now: Any = EPOCH
) -> bool:
    """Tell whether the short way is enough."""
    anchors = DirectAnchors((root or anchor(),))
    return anchors.vouch(read_certificate(device), now)


def openssl_vouches(device: bytes, root: bytes, now: Any = EPOCH) -> bool:
    """Tell whether the long way leads to the anchor, too."""
    anchors = FactoryAnchors((root,))
    try:
        anchors._validate(ClientCertificate(device, ()), now)
    except (Stranger, Unfit):
        return False
    return True


class OrdinaryTests:
    """An anchor vouches for what it has signed (RFC 5280, section 6.1)."""

    @pytest.mark.parametrize(
        "extensions",
        [
            EXTENSIONS,
            (NO_CA,),
            (NO_CA, key_usage("digital_signature")),
            (
                NO_CA,
                x509.ExtendedKeyUsage([x509.OID_CLIENT_AUTH]),
                x509.SubjectAlternativeName(
                    [
                        x509.RFC822Name("a@device.example"),
                        x509.UniformResourceIdentifier("urn:device:1"),
                    ]
                ),
            ),
        ],
    )
    def test_a_device(
        self, extensions: tuple[x509.ExtensionType, ...]
    ) -> None:
        """What usual devices have in their certificates is understood."""
        assert vouches(certificate(extensions))
        assert openssl_vouches(certificate(extensions), anchor())

    @pytest.mark.parametrize(
        "extensions",
        [
            CA_EXTENSIONS,
            (IS_CA,),
            (x509.BasicConstraints(True, 0), key_usage("key_cert_sign")),
        ],
    )
    def test_an_anchor(
        self, extensions: tuple[x509.ExtensionType, ...]
    ) -> None:
        """What usual CAs have in their certificates is understood."""
        device = certificate((NO_CA,))
        assert vouches(device, anchor(extensions))
        assert openssl_vouches(device, anchor(extensions))

    def test_an_anchor_below_a_root(self) -> None:
        """An anchor need not have signed itself."""
        above = x509.AuthorityKeyIdentifier(b"above", None, None)
        root = anchor((IS_CA, OF_CA, above), issuer="a root", signer=KEY)
        assert vouches(certificate(), root)
        assert openssl_vouches(certificate(), root)

    def test_several_anchors(self) -> None:
        """Two anchors of one name are told apart by their keys."""
        other = anchor((IS_CA,), key=KEY, signer=KEY)
        anchors = DirectAnchors((other, anchor()))
        assert anchors.vouch(read_certificate(certificate()), EPOCH)

    def test_another_algorithm(self) -> None:
        """Whatever we verify elsewhere will do."""
        key = ed25519.Ed25519PrivateKey.generate()
        root = anchor((IS_CA,), key=key, signer=key)
        assert vouches(certificate((NO_CA,), signer=key), root)

    def test_openssl_is_not_asked(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The short way is what :class:`FactoryAnchors` goes first."""
        monkeypatch.setattr(factory_certificates, "_loaded", None)
        device = certificate()
        anchors = FactoryAnchors((anchor(),))
        facts = read_certificate(device)
        anchors.judge(ClientCertificate(device, ()), facts, EPOCH)


class NotOrdinaryTests:
    """Whatever is unusual is left to OpenSSL."""

    @pytest.mark.parametrize(
        "device",
        [
            certificate(signer=KEY),
            certificate(issuer="somebody else"),
            certificate(subject=CA),
            certificate((IS_CA,)),
            certificate((*EXTENSIONS, x509.OCSPNoCheck())),
            certificate((NO_CA, key_usage())),
            certificate(
                (x509.AuthorityKeyIdentifier(b"another", None, None), NO_CA)
            ),
            certificate(
                (
                    NO_CA,
                    x509.SubjectAlternativeName(
                        [x509.DirectoryName(named("device-1"))]
                    ),
                )
            ),
            certificate(()),
            certificate(key=ec.generate_private_key(ec.SECP224R1())),
            certificate(
                (NO_CA, x509.UnrecognizedExtension(OF_CA.oid, b"\x05\x00"))
            ),
            certificate(
                (
                    x509.UnrecognizedExtension(
                        IS_CA.oid, b"\x30\x03\x02\x01\x05"
                    ),
                )
            ),
        ],
    )
    def test_a_device(self, device: bytes) -> None:
        """A certificate that is not plainly the anchor's is not judged."""
        assert not vouches(device)

    @pytest.mark.parametrize(
        "root",
        [
            anchor((NO_CA,)),
            anchor((key_usage("key_cert_sign"),)),
            anchor((IS_CA, key_usage("crl_sign"))),
            anchor(
                (
                    IS_CA,
                    x509.NameConstraints([x509.DNSName("other")], None),
                )
            ),
            anchor(
                (
                    IS_CA,
                    x509.AuthorityKeyIdentifier(
                        b"x", [x509.DirectoryName(named("above"))], 7
                    ),
                )
            ),
            anchor((IS_CA, x509.UnrecognizedExtension(OF_CA.oid, b"\x05"))),
            anchor((IS_CA, x509.AuthorityKeyIdentifier(b"above", None, None))),
            anchor((), key=ec.generate_private_key(ec.SECP224R1())),
        ],
    )
    def test_an_anchor(self, root: bytes) -> None:
        """An anchor that restricts anything vouches for nobody here."""
        assert not vouches(certificate((NO_CA,)), root)

    def test_an_anchor_without_an_identifier(self) -> None:
        """A device that names the key of its anchor needs one that has it."""
        assert not vouches(certificate(), anchor((IS_CA,)))

    def test_another_algorithm_inside(self) -> None:
        """Both algorithms are one (RFC 5280, section 4.1.1.2)."""
        tbs, algorithm, signature = split_signed(certificate())
        other = algorithm.replace(b"\x04\x03\x02", b"\x04\x03\x03")
        assert other != algorithm
        forged = der.sequence(tbs, other, der.bit_string(signature))
        facts = read_certificate(certificate())
        anchors = DirectAnchors((anchor(),))
        assert not anchors.vouch(evolve(facts, der=forged), EPOCH)

    @pytest.mark.parametrize("days", [-2, 31])
    def test_the_time_of_a_device(self, days: int) -> None:
        """Before it begins, and when it has ended, nobody vouches."""
        now = EPOCH + timedelta(days=days)
        assert not vouches(certificate(), anchor(days=(-9, 99)), now)
        assert not openssl_vouches(certificate(), anchor(days=(-9, 99)), now)

    @pytest.mark.parametrize("days", [-2, 31])
    def test_the_time_of_an_anchor(self, days: int) -> None:
        """An anchor ends, too."""
        device = certificate(days=(-9, 99))
        now = EPOCH + timedelta(days=days)
        assert not vouches(device, anchor(), now)
        assert not openssl_vouches(device, anchor(), now)


class AgreementTests:
    """Whoever is vouched for here, OpenSSL would vouch for, too."""

    @pytest.mark.parametrize("value", [0x00, 0x01, 0x05, 0x30, 0x80, 0xFF])
    def test_each_octet_of_a_device(self, value: int) -> None:
        """No certificate with another octet passes that OpenSSL refuses."""
        root, device = anchor(), certificate()
        anchors = DirectAnchors((root,))
        for at in range(len(device)):
            other = device[:at] + bytes((value,)) + device[at + 1 :]
            try:
                facts = read_certificate(other)
            except RequestError:
                continue
            assert other == device or not anchors.vouch(facts, EPOCH)

    def test_each_octet_of_an_anchor(self) -> None:
        """An anchor with another octet vouches only where OpenSSL does."""
        root, device = anchor(), certificate()
        facts, passed = read_certificate(device), 0
        for at in range(len(root)):
            other = root[:at] + bytes((root[at] ^ 1,)) + root[at + 1 :]
            if DirectAnchors((other,)).vouch(facts, EPOCH):
                passed += 1
                assert openssl_vouches(device, other), at
        assert passed  # its own signature proves nothing
