# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.ca.rollover`."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from trstctl.ca.authority import subject_of
from trstctl.ca.ceremony import (
    BACKDATE,
    check_chain,
    generate_key,
    make_issuing,
    make_root,
    public_octets,
)
from trstctl.ca.chain import UnfitAuthority
from trstctl.ca.rollover import (
    check_links,
    is_same_subject,
    key_kind,
    link_roots,
    renew_issuing,
    renew_root,
    renewal_csr,
)
from trstctl.testing.time import EPOCH, DeterministicBytes

LATER = EPOCH + timedelta(days=3650)
RANDOM = DeterministicBytes("rollover")

OLD_KEY = generate_key("p-384")
OLD = make_root(OLD_KEY, "Example Root", EPOCH, RANDOM)
ISSUING_KEY = generate_key()
ISSUING = make_issuing(
    OLD_KEY, OLD, public_octets(ISSUING_KEY), "Example CA", EPOCH, RANDOM
)
NEW_KEY = generate_key()
NEW = renew_root(OLD, NEW_KEY, LATER, RANDOM)
LINKS = link_roots(OLD, OLD_KEY, NEW, NEW_KEY, RANDOM)


def read(der: bytes) -> x509.Certificate:
    """Decode."""
    return x509.load_der_x509_certificate(der)


def value(der: bytes, kind: type[x509.ExtensionType]) -> x509.ExtensionType:
    """Return the value of an extension."""
    return read(der).extensions.get_extension_for_class(kind).value


def odd_root(*extensions: tuple[x509.ExtensionType, bool]) -> bytes:
    """Return a self-signed certificate over the old root's key."""
    name = x509.Name(
        [
            x509.RelativeDistinguishedName(
                [
                    x509.NameAttribute(x509.NameOID.COMMON_NAME, "Old"),
                    x509.NameAttribute(
                        x509.NameOID.ORGANIZATION_NAME,
                        "Example",
                        x509.name._ASN1Type.PrintableString,
                    ),
                ]
            )
        ]
    )
    builder = x509.CertificateBuilder(
        name,
        name,
        OLD_KEY.public_key(),  # type: ignore[arg-type]
        7,
        EPOCH,
        EPOCH + timedelta(days=7300),
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    from cryptography.hazmat.primitives import hashes

    assert isinstance(OLD_KEY, ec.EllipticCurvePrivateKey)
    return builder.sign(OLD_KEY, hashes.SHA384()).public_bytes(Encoding.DER)


class RootTests:
    """NewWithNew."""

    def test_same_name_another_key(self) -> None:
        """Subject to the octet; key, serial and validity are new."""
        assert subject_of(OLD) == subject_of(NEW)
        assert is_same_subject(OLD, NEW)
        assert (NEW,) == check_chain(NEW, (), NEW_KEY, LATER)
        old, new = read(OLD), read(NEW)
        assert old.serial_number != new.serial_number
        assert LATER - BACKDATE == new.not_valid_before_utc
        assert old.not_valid_after_utc < new.not_valid_after_utc
        assert value(OLD, x509.KeyUsage) == value(NEW, x509.KeyUsage)
        assert value(OLD, x509.SubjectKeyIdentifier) != value(
            NEW, x509.SubjectKeyIdentifier
        )

    def test_what_it_may_do_is_as_before(self) -> None:
        """Constraints and policies; nothing that leads to the old key's."""
        constraints = x509.BasicConstraints(True, 1)
        names = x509.NameConstraints([x509.DNSName("example.com")], None)
        old = odd_root(
            (constraints, True),
            (names, True),
            (x509.SubjectKeyIdentifier(b"old"), False),
            (
                x509.CRLDistributionPoints(
                    [
                        x509.DistributionPoint(
                            [x509.UniformResourceIdentifier("http://a/b")],
                            None,
                            None,
                            None,
                        )
                    ]
                ),
                False,
            ),
        )
        new = renew_root(old, NEW_KEY, LATER, RANDOM)
        assert subject_of(old) == subject_of(new)
        assert constraints == value(new, x509.BasicConstraints)
        assert names == value(new, x509.NameConstraints)
        with pytest.raises(x509.ExtensionNotFound):
            value(new, x509.CRLDistributionPoints)
        # RFC 5280, section 4.2.1.3: a CA's has a key usage.
        assert value(OLD, x509.KeyUsage) == value(new, x509.KeyUsage)

    def test_root_of_the_first_hour(self) -> None:
        """What it does not say is said of the new one."""
        new = renew_root(odd_root(), NEW_KEY, LATER, RANDOM)
        assert x509.BasicConstraints(True, None) == value(
            new, x509.BasicConstraints
        )


class IssuingTests:
    """The next issuing key."""

    @pytest.mark.parametrize(("root", "key"), [(OLD, OLD_KEY), (NEW, NEW_KEY)])
    def test_below_a_root(self, root: bytes, key: object) -> None:
        """Same subject and path length; ends with the root at the latest."""
        own = generate_key("ed25519")
        made = renew_issuing(
            ISSUING,
            public_octets(own),
            root,
            key,  # type: ignore[arg-type]
            LATER,
            RANDOM,
        )
        assert is_same_subject(ISSUING, made)
        assert (made, root) == check_chain(made, (root,), own, LATER)
        assert x509.BasicConstraints(True, 0) == value(
            made, x509.BasicConstraints
        )
        end = read(root).not_valid_after_utc
        assert read(made).not_valid_after_utc <= end
        identifier = value(made, x509.AuthorityKeyIdentifier)
        assert isinstance(identifier, x509.AuthorityKeyIdentifier)
        own_name = value(root, x509.SubjectKeyIdentifier)
        assert isinstance(own_name, x509.SubjectKeyIdentifier)
        assert own_name.digest == identifier.key_identifier

    def test_root_that_is_another(self) -> None:
        """Root and key must fit."""
        with pytest.raises(UnfitAuthority):
            renew_issuing(
                ISSUING, public_octets(NEW_KEY), OLD, NEW_KEY, LATER, RANDOM
            )

    def test_request(self) -> None:
        """For an offline root: the subject of the certificate before."""
        request = x509.load_pem_x509_csr(renewal_csr(ISSUING, NEW_KEY))
        assert read(ISSUING).subject == request.subject
        assert request.is_signature_valid

    @pytest.mark.parametrize(
        "kind", ["p-256", "p-384", "rsa-2048", "ed25519", "ml-dsa-65"]
    )
    def test_kind_of_key(self, kind: str) -> None:
        """By the name that a ceremony knows it by."""
        key = generate_key(kind)
        assert kind == key_kind(make_root(key, "Root", EPOCH, RANDOM))

    def test_kind_that_is_not_made(self) -> None:
        """No such name."""
        key = ec.generate_private_key(ec.SECP521R1())
        assert "" == key_kind(make_root(key, "Root", EPOCH, RANDOM))


class LinkTests:
    """OldWithNew and NewWithOld (RFC 9810, section 4.4)."""

    def test_links_join_the_roots(self) -> None:
        """Each has the key of one root and the signature of the other."""
        old_with_new, new_with_old = LINKS
        read(old_with_new).verify_directly_issued_by(read(NEW))
        read(new_with_old).verify_directly_issued_by(read(OLD))
        for link, root in ((old_with_new, OLD), (new_with_old, NEW)):
            assert read(root).public_key() == read(link).public_key()
            assert value(root, x509.SubjectKeyIdentifier) == value(
                link, x509.SubjectKeyIdentifier
            )
            assert value(root, x509.KeyUsage) == value(link, x509.KeyUsage)
        check_links(OLD, NEW, *LINKS)

    def test_validity(self) -> None:
        """From when the certified key begins, while both roots are good."""
        end = read(OLD).not_valid_after_utc
        for link, root in zip(LINKS, (OLD, NEW), strict=True):
            assert read(root).not_valid_before_utc == (
                read(link).not_valid_before_utc
            )
            assert end == read(link).not_valid_after_utc

    def test_root_without_a_key_identifier(self) -> None:
        """The link gets the one that everybody computes."""
        old = odd_root(
            (x509.BasicConstraints(True, None), True),
            (value(OLD, x509.KeyUsage), True),
        )
        link, _ = link_roots(old, OLD_KEY, NEW, NEW_KEY, RANDOM)
        assert x509.SubjectKeyIdentifier.from_public_key(
            OLD_KEY.public_key()  # type: ignore[arg-type]
        ) == value(link, x509.SubjectKeyIdentifier)

    def test_key_of_another(self) -> None:
        """Both keys must be those of the certificates."""
        for keys in ((NEW_KEY, NEW_KEY), (OLD_KEY, OLD_KEY)):
            with pytest.raises(UnfitAuthority):
                link_roots(OLD, keys[0], NEW, keys[1], RANDOM)

    @pytest.mark.parametrize(
        "links",
        [
            LINKS[::-1],
            (OLD, NEW),
            (LINKS[0], LINKS[0]),
            (ISSUING, LINKS[1]),
        ],
    )
    def test_no_links(self, links: tuple[bytes, bytes]) -> None:
        """What does not join the two is refused by its name."""
        with pytest.raises(UnfitAuthority, match="With"):
            check_links(OLD, NEW, *links)

    def test_link_of_another_name(self) -> None:
        """The subject is that of the root whose key it has."""
        other = make_root(OLD_KEY, "Other Root", EPOCH, RANDOM)
        link, _ = link_roots(other, OLD_KEY, NEW, NEW_KEY, RANDOM)
        with pytest.raises(UnfitAuthority, match="OldWithNew"):
            check_links(OLD, NEW, link, LINKS[1])
