# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.ca.ceremony` and :mod:`trstctl.ca.chain`."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import (
    dsa,
    ec,
    ed448,
    rsa,
    x25519,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from cryptography.x509.verification import (
    ExtensionPolicy,
    PolicyBuilder,
    Store,
)

from trstctl.backends.signers import InlineSigner
from trstctl.ca.authority import Authority
from trstctl.ca.ceremony import (
    KEY_ALGORITHMS,
    check_chain,
    fingerprint,
    generate_key,
    issuing_csr,
    make_issuing,
    make_root,
    public_octets,
)
from trstctl.ca.chain import UnfitAuthority, order_chain, require_chain
from trstctl.model import Approved, Extension, NameAttribute
from trstctl.pkix.algorithms import describe_public_key

NOW = datetime(2026, 11, 23, 12, 0, 0, 987654, tzinfo=UTC)


@cache
def key_of(algorithm: str, number: int = 0) -> Any:
    """A key of each kind, made once for all tests."""
    return generate_key(algorithm)


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def load(octets: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(octets)


def usage(*, cert_sign: bool = True) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=cert_sign,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


SIGNS = usage()
SHA256 = hashes.SHA256()


def certificate(
    name: str,
    key: Any,
    issuer_name: str | None = None,
    issuer_key: Any = None,
    *,
    ca: bool | None = True,
    path_length: int | None = None,
    key_usage: x509.KeyUsage | None = SIGNS,
    extra: x509.ExtensionType | None = None,
    not_before: datetime = NOW - timedelta(days=1),
    not_after: datetime = NOW + timedelta(days=1000),
    digest: Any = SHA256,
) -> bytes:
    """A certificate with anything about it chosen."""
    builder = x509.CertificateBuilder(
        named(issuer_name or name) if name else x509.Name([]),
        named(name) if name else x509.Name([]),
        key.public_key(),
        7,
        not_before,
        not_after,
    )
    if ca is not None:
        builder = builder.add_extension(
            x509.BasicConstraints(ca, path_length), True
        )
    if key_usage:
        builder = builder.add_extension(key_usage, True)
    if extra:
        builder = builder.add_extension(extra, False)
    return builder.sign(issuer_key or key, digest).public_bytes(Encoding.DER)


def refusal(call: Any, *args: Any) -> str:
    """Return the text of the refusal: one line."""
    with pytest.raises(UnfitAuthority) as caught:
        call(*args)
    text = str(caught.value)
    assert 1 == len(text.splitlines())
    return text


class EndToEndTests:
    """Every algorithm makes a root, an issuing CA and a leaf that verify."""

    @pytest.mark.parametrize(
        ("root_algorithm", "algorithm"),
        [
            *((one, one) for one in KEY_ALGORITHMS),
            ("p-384", "p-256"),
            ("rsa-4096", "p-256"),
            ("ml-dsa-65", "ed25519"),
            ("ed25519", "rsa-2048"),
        ],
    )
    def test_chain_of_each_algorithm(self, root_algorithm, algorithm) -> None:
        """Root, issuing CA and leaf verify, whatever mix of algorithms."""
        root_key, key = key_of(root_algorithm), key_of(algorithm, 1)
        root = make_root(root_key, "Root", NOW, os.urandom)
        issuing = make_issuing(
            root_key, root, public_octets(key), "Issuing", NOW, os.urandom
        )
        authority = Authority("a", issuing, (issuing, root), InlineSigner(key))
        device = describe_public_key(public_octets(key_of("p-256", 2)))
        tbs = authority.prepare(
            Approved(
                profile="device",
                profile_version="00",
                subject=((NameAttribute("2.5.4.3", "device"),),),
                names=(),
                public_key=device,
                not_before=NOW,
                not_after=NOW + timedelta(days=30),
                extensions=(Extension("2.5.29.19", True, b"\x30\x00"),),
            ),
            "1f",
        )
        leaf: list[bytes] = []
        authority.sign(tbs).addCallback(leaf.append)
        chain = [load(one) for one in (leaf[0], issuing, root)]
        for child, parent in zip(chain, [*chain[1:], chain[-1]], strict=True):
            child.verify_directly_issued_by(parent)
        # The library's path validation takes no Ed25519.
        if "ed25519" not in {root_algorithm, algorithm}:
            verified = (
                PolicyBuilder()
                .store(Store([chain[2]]))
                .time(NOW + timedelta(days=1))
                .extension_policies(
                    ee_policy=ExtensionPolicy.permit_all(),
                    ca_policy=ExtensionPolicy.webpki_defaults_ca(),
                )
                .build_client_verifier()
                .verify(chain[0], [chain[1]])
            )
            assert chain == verified.chain


class GenerateKeyTests:
    """A key is chosen by name."""

    def test_default_is_p256(self) -> None:
        """Without an option: P-256."""
        assert "p-256" == KEY_ALGORITHMS[0]
        assert isinstance(generate_key().curve, ec.SECP256R1)

    @pytest.mark.parametrize("algorithm", KEY_ALGORITHMS)
    def test_key_is_what_was_asked_for(self, algorithm) -> None:
        """The key is of the named kind and size."""
        read = describe_public_key(public_octets(key_of(algorithm)))
        expected = algorithm
        if algorithm.startswith("rsa-"):
            expected, bits = algorithm.split("-")
            assert (int(bits), 65537) == (read.bits, read.exponent)
        assert expected == read.algorithm

    def test_unknown_algorithm(self) -> None:
        """Another name is refused, and the known ones are listed."""
        with pytest.raises(ValueError, match=r"rsa-1024: .*p-256.*ml-dsa-65"):
            generate_key("rsa-1024")


class MakeRootTests:
    """The root is a self-signed CA."""

    def test_fields(self) -> None:
        """RFC 5280, section 4.2.1: what a CA's certificate must have."""
        key = key_of("p-256")
        root = load(make_root(key, "Example Root", NOW, os.urandom, 20))
        extensions = root.extensions
        assert named("Example Root") == root.subject == root.issuer
        constraints = extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert x509.BasicConstraints(True, None) == constraints.value
        used = extensions.get_extension_for_class(x509.KeyUsage)
        assert used.critical
        assert (True, True, False) == (
            used.value.key_cert_sign,
            used.value.crl_sign,
            used.value.digital_signature,
        )
        identifier = extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        )
        assert not identifier.critical
        assert (
            x509.SubjectKeyIdentifier.from_public_key(key.public_key())
            == identifier.value
        )
        assert 3 == len(list(extensions))
        assert datetime(2026, 11, 23, 11, tzinfo=UTC) == (
            root.not_valid_before_utc
        )
        assert datetime(2046, 11, 23, 12, tzinfo=UTC) == (
            root.not_valid_after_utc
        )
        assert 159 == root.serial_number.bit_length()

    def test_randomness_is_passed_in(self) -> None:
        """The serial is the source's and nobody else's."""
        root = make_root(
            key_of("p-256"), "R", NOW, lambda count: b"\x11" * count
        )
        assert int("51" + "11" * 19, 16) == load(root).serial_number

    def test_leap_day(self) -> None:
        """A root of the 29th of February ends on a 28th."""
        day = datetime(2028, 2, 29, 12, tzinfo=UTC)
        root = load(make_root(key_of("p-256"), "R", day, os.urandom, 1))
        assert datetime(2029, 2, 28, 12, tzinfo=UTC) == (
            root.not_valid_after_utc
        )


class MakeIssuingTests:
    """The issuing CA signs end entities, and no other CA."""

    def make(self, **changes: Any) -> x509.Certificate:
        root = make_root(key_of("p-256"), "Root", NOW, os.urandom, 20)
        values = {
            "root_key": key_of("p-256"),
            "root_certificate": root,
            "issuing_public_key": public_octets(key_of("p-256", 1)),
            "common_name": "Issuing",
            "now": NOW,
            "random_bytes": os.urandom,
            **changes,
        }
        return load(make_issuing(**values))

    def test_fields(self) -> None:
        """Path length 0, and the two usages of a CA."""
        issuing = self.make()
        extensions = issuing.extensions
        assert (named("Root"), named("Issuing")) == (
            issuing.issuer,
            issuing.subject,
        )
        constraints = extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert x509.BasicConstraints(True, 0) == constraints.value
        used = extensions.get_extension_for_class(x509.KeyUsage)
        assert used.critical
        assert (True, True, False) == (
            used.value.key_cert_sign,
            used.value.crl_sign,
            used.value.digital_signature,
        )
        assert x509.SubjectKeyIdentifier.from_public_key(
            key_of("p-256", 1).public_key()
        ) == (
            extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        )
        assert x509.AuthorityKeyIdentifier.from_issuer_public_key(
            key_of("p-256").public_key()
        ) == (
            extensions.get_extension_for_class(
                x509.AuthorityKeyIdentifier
            ).value
        )
        assert 4 == len(list(extensions))
        assert datetime(2036, 11, 23, 12, tzinfo=UTC) == (
            issuing.not_valid_after_utc
        )

    def test_points_to_the_roots_own_identifier(self) -> None:
        """RFC 5280, section 4.2.1.1: the identifier that the root has."""
        key = key_of("p-256")
        root = certificate(
            "Root", key, extra=x509.SubjectKeyIdentifier(b"own way")
        )
        issuing = self.make(root_certificate=root)
        assert b"own way" == (
            issuing.extensions.get_extension_for_class(
                x509.AuthorityKeyIdentifier
            ).value.key_identifier
        )

    def test_root_without_identifier(self) -> None:
        """A root without one is pointed to by its key's hash."""
        key = key_of("p-256")
        issuing = self.make(root_certificate=certificate("Root", key))
        assert x509.AuthorityKeyIdentifier.from_issuer_public_key(
            key.public_key()
        ) == (
            issuing.extensions.get_extension_for_class(
                x509.AuthorityKeyIdentifier
            ).value
        )

    def test_stays_within_the_root(self) -> None:
        """It neither begins before the root nor outlives it."""
        root = load(certificate("Root", key_of("p-256"), not_before=NOW))
        issuing = self.make(
            root_certificate=root.public_bytes(Encoding.DER), years=50
        )
        assert root.not_valid_before_utc == issuing.not_valid_before_utc
        assert root.not_valid_after_utc == issuing.not_valid_after_utc

    def test_needs_the_roots_key(self) -> None:
        """Another key is not the root's."""
        assert "is not this certificate's" in refusal(
            lambda: self.make(root_key=key_of("p-256", 1))
        )

    def test_needs_a_root_that_is_valid_now(self) -> None:
        """An expired root signs nothing."""
        later = NOW + timedelta(days=365 * 21)
        assert "expired" in refusal(lambda: self.make(now=later))

    def test_needs_a_name_of_its_own(self) -> None:
        """Two CAs of one name confuse whoever builds paths by name."""
        assert "root's name" in refusal(lambda: self.make(common_name="Root"))

    @pytest.mark.parametrize(
        "spki",
        [
            b"",
            b"\x30\x00",
            x25519.X25519PrivateKey.generate()
            .public_key()
            .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            ec.generate_private_key(ec.SECP256K1())
            .public_key()
            .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        ],
    )
    def test_needs_a_key_that_signs(self, spki) -> None:
        """A key that no authority can sign with gets no CA certificate."""
        assert "unsupported" in refusal(
            lambda: self.make(issuing_public_key=spki)
        )


class IssuingCSRTests:
    """An offline root is asked for an issuing certificate."""

    @pytest.mark.parametrize("algorithm", KEY_ALGORITHMS)
    def test_request_and_answer(self, algorithm) -> None:
        """The request verifies and asks for a CA; its answer is fit."""
        key = key_of(algorithm)
        request = x509.load_pem_x509_csr(issuing_csr(key, "Issuing"))
        assert request.is_signature_valid
        assert named("Issuing") == request.subject
        asked = request.extensions
        assert x509.BasicConstraints(True, 0) == (
            asked.get_extension_for_class(x509.BasicConstraints).value
        )
        assert asked.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
        root_key = key_of("p-384", 3)
        root = make_root(root_key, "Offline", NOW, os.urandom)
        answer = make_issuing(
            root_key,
            root,
            request.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            ),
            "Issuing",
            NOW,
            os.urandom,
        )
        assert (answer, root) == check_chain(answer, [root], key, NOW)

    @pytest.mark.parametrize(
        ("key", "digest"),
        [
            (ec.generate_private_key(ec.SECP521R1()), hashes.SHA512),
            (ed448.Ed448PrivateKey.generate(), type(None)),
        ],
    )
    def test_keys_that_are_brought_in(self, key, digest) -> None:
        """A key made elsewhere signs with the digest of its strength."""
        request = x509.load_pem_x509_csr(issuing_csr(key, "Issuing"))
        assert request.is_signature_valid
        assert digest is type(request.signature_hash_algorithm)


class CheckChainTests:
    """An existing CA is fit, or it is said what is wrong."""

    def test_any_order_with_strangers(self) -> None:
        """PKCS#12 bags have no order; the chain is found among them."""
        a, b, c = (key_of("p-256", number) for number in range(3))
        root = certificate("Root", a)
        middle = certificate("Middle", b, "Root", a)
        issuing = certificate("Issuing", c, "Middle", b)
        strangers = [
            certificate("Stranger", b),
            certificate("Middle", a),  # same name, another key
        ]
        assert (issuing, middle, root) == check_chain(
            issuing, [root, *strangers, issuing, middle], c, NOW
        )

    def test_self_signed(self) -> None:
        """A root may issue itself."""
        key = key_of("p-256")
        root = certificate("Root", key)
        assert (root,) == check_chain(root, [], key, NOW)

    def test_missing_issuer(self) -> None:
        """The missing certificate is named."""
        a, b = key_of("p-256", 0), key_of("p-256", 1)
        text = refusal(check_chain, certificate("I", b, "Root", a), [], b, NOW)
        assert "CN=Root" in text

    def test_cross_signed_ring(self) -> None:
        """Two CAs that signed each other lead to no root, nor for ever."""
        a, b = key_of("p-256", 0), key_of("p-256", 1)
        one = certificate("A", a, "B", b)
        other = certificate("B", b, "A", a)
        assert "is missing" in refusal(check_chain, one, [one, other], a, NOW)

    def test_other_key(self) -> None:
        """The key is the certificate's."""
        root = certificate("Root", key_of("p-256"))
        assert "private key" in refusal(
            check_chain, root, [], key_of("p-256", 1), NOW
        )

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"ca": False}, "not a CA's"),
            ({"ca": None}, "not a CA's"),
            ({"key_usage": None}, "no keyUsage"),
            ({"key_usage": usage(cert_sign=False)}, "keyCertSign"),
            ({"not_before": NOW + timedelta(days=1)}, "not valid before"),
            ({"not_after": NOW - timedelta(hours=1)}, "expired"),
        ],
    )
    def test_unfit(self, changes, text) -> None:
        """RFC 5280, sections 4.1.2.5, 4.2.1.3 and 4.2.1.9."""
        key = key_of("p-256")
        root = certificate("Root", key, **changes)
        assert text in refusal(check_chain, root, [], key, NOW)

    def test_ends_of_validity_belong_to_it(self) -> None:
        """RFC 5280, section 4.1.2.5: from and through, inclusive."""
        key = key_of("p-256")
        root = certificate("Root", key)
        read = load(root)
        for now in (read.not_valid_before_utc, read.not_valid_after_utc):
            check_chain(root, [], key, now)

    def test_unfit_above(self) -> None:
        """What is above is judged, too; only a root may lack a keyUsage."""
        a, b = key_of("p-256", 0), key_of("p-256", 1)
        issuing = certificate("Issuing", b, "Root", a)
        old = certificate("Root", a, key_usage=None)
        check_chain(issuing, [old], b, NOW)
        for changes in (
            {"not_after": NOW - timedelta(hours=1)},
            {"key_usage": usage(cert_sign=False)},
        ):
            root = certificate("Root", a, **changes)
            assert "CN=Root" in refusal(check_chain, issuing, [root], b, NOW)

    @pytest.mark.parametrize("length", [0, 1])
    def test_path_length(self, length) -> None:
        """RFC 5280, section 4.2.1.9: pathLen bounds the CAs below."""
        a, b, c = (key_of("p-256", number) for number in range(3))
        root = certificate("Root", a, path_length=length)
        middle = certificate("Middle", b, "Root", a)
        issuing = certificate("Issuing", c, "Middle", b)
        assert f"path length of {length}" in refusal(
            check_chain, issuing, [middle, root], c, NOW
        )
        if length:
            check_chain(middle, [root], b, NOW)

    def test_empty_subject(self) -> None:
        """RFC 5280, section 4.1.2.6: a CA has a name."""
        key = key_of("p-256")
        root = certificate("", key)
        assert "subject is empty" in refusal(check_chain, root, [], key, NOW)

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            (rsa.generate_private_key(65537, 1024), "1024 bits"),
            (dsa.generate_private_key(1024), "unsupported kind"),
            (ec.generate_private_key(ec.SECP256K1()), "unsupported kind"),
        ],
    )
    def test_weak_or_odd_key(self, key, text) -> None:
        """Keys that the gateway would refuse of a device do not issue."""
        root = certificate("Root", key)
        assert text in refusal(check_chain, root, [], key, NOW)

    @pytest.mark.parametrize("octets", [b"", b"nonsense", b"\x30\x00"])
    def test_octets_that_are_no_certificate(self, octets) -> None:
        """What does not decode is said so, in one sentence."""
        key = key_of("p-256")
        root = certificate("Root", key)
        assert "decode" in refusal(check_chain, octets, [], key, NOW)
        assert "decode" in refusal(
            order_chain, certificate("I", key, "Root", key), [root, octets]
        )

    def test_extensions_that_do_not_decode(self) -> None:
        """The library reads extensions late; we read them in time."""
        key = key_of("p-256")
        root = certificate(
            "Root",
            key,
            ca=None,
            key_usage=None,
            extra=x509.UnrecognizedExtension(
                x509.ObjectIdentifier("2.5.29.19"), b"\x30\x01"
            ),
        )
        assert "extensions do not decode" in refusal(
            check_chain, root, [], key, NOW
        )

    def test_key_that_does_not_decode(self) -> None:
        """Nor does a damaged key crash the command."""
        key = key_of("ed25519")
        root = certificate("Root", key, digest=None)
        damaged = root.replace(
            bytes.fromhex("300506032b6570032100"),
            bytes.fromhex("300506032b657f032100"),
        )
        assert damaged != root
        assert "unsupported kind" in refusal(
            require_chain, [damaged], public_octets(key), NOW
        )

    def test_chain_without_end(self) -> None:
        """No chain, and one of more than ten, are refused."""
        key = key_of("p-256")
        root = certificate("Root", key)
        for chain in ([], [root] * 11):
            assert f"has {len(chain)} certificates" in refusal(
                require_chain, chain, public_octets(key)
            )


class FingerprintTests:
    """Fingerprints are for comparison by eye."""

    def test_form(self) -> None:
        """SHA-256, upper-case pairs with colons, as ``openssl`` prints it."""
        digest = hashlib.sha256(b"der").hexdigest().upper()
        shown = fingerprint(b"der")
        assert 95 == len(shown)
        assert digest == shown.replace(":", "")
        assert digest[:2] + ":" + digest[2:4] == shown[:5]
