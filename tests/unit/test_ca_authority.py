# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.ca.authority`."""

from __future__ import annotations

import itertools
import os
import random
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_public_key,
)
from cryptography.x509.oid import AuthorityInformationAccessOID
from hypothesis import given, settings
from hypothesis import strategies as st
from pyasn1.codec.der import decoder, encoder
from pyasn1_modules import rfc5280
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface import implementer
from zope.interface.verify import verifyObject

from trstctl.backends.signers import InlineSigner
from trstctl.ca import authority as module
from trstctl.ca.authority import Authority, new_serial
from trstctl.ca.ceremony import (
    generate_key,
    make_issuing,
    make_root,
    public_octets,
)
from trstctl.ca.chain import UnfitAuthority
from trstctl.ca.pointers import NOWHERE, Places, bounds
from trstctl.errors import Internal, Unavailable
from trstctl.interfaces import IAuthority, ISigner
from trstctl.model import (
    POINTERS,
    Approved,
    Extension,
    GeneralName,
    NameAttribute,
)
from trstctl.pkix.algorithms import (
    algorithm_identifier,
    describe_public_key,
    sign,
    verify,
)
from trstctl.pkix.certificate import (
    assemble,
    read_certificate,
    split_signed,
)
from trstctl.pkix.names import encode_general_names, to_x509_name
from trstctl.testing.time import result_of

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

END_ENTITY = Extension("2.5.29.19", True, b"\x30\x00")
SIGNATURE_USAGE = Extension("2.5.29.15", True, b"\x03\x02\x07\x80")
CLIENT_AUTH = Extension(
    "2.5.29.37", False, bytes.fromhex("300a06082b06010505070302")
)
PLACES = Places(
    crl=("http://ca.example/a.crl", "ldap://ca.example/cn=a"),
    partition=("http://ca.example/a/{partition}.crl",),
    ocsp=("http://ocsp.example/a",),
    issuer=("http://ca.example/a.cer",),
)


@cache
def key_of(algorithm: str) -> Any:
    """One key of each kind for all tests."""
    return generate_key(algorithm)


@implementer(ISigner)
class RecordingSigner:
    """Signs with its key, counts, and can spoil what it signed."""

    def __init__(self, key: Any, spoil: Any = None) -> None:
        self.key = key
        self.spoil = spoil
        self.signed: list[tuple[bytes, str]] = []

    def public_key(self) -> bytes:
        return public_octets(self.key)

    def sign(self, tbs: bytes, algorithm: str) -> Deferred[bytes]:
        self.signed.append((tbs, algorithm))
        signature = sign(self.key, algorithm, tbs)
        return succeed(self.spoil(signature) if self.spoil else signature)


@cache
def chain_of(algorithm: str) -> tuple[bytes, bytes]:
    """An issuing CA's certificate and its root's, for the key of a kind."""
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = make_root(root_key, "Test Root", NOW, os.urandom, 30)
    issuing = make_issuing(
        root_key,
        root,
        public_octets(key_of(algorithm)),
        f"Test Issuing {algorithm}",
        NOW,
        os.urandom,
        30,
    )
    return issuing, root


def make_authority(
    algorithm: str = "p-256", signer: Any = None, **options: Any
) -> Authority:
    chain = chain_of(algorithm)
    return Authority(
        "device-ca",
        chain[0],
        chain,
        signer or InlineSigner(key_of(algorithm)),
        **options,
    )


def approved(algorithm: str = "p-256", **changes: Any) -> Approved:
    """What a profile approves, in its plainest form."""
    plain = Approved(
        profile="device",
        profile_version="00",
        subject=((NameAttribute("2.5.4.3", "printer-7.example.com"),),),
        names=(),
        public_key=describe_public_key(public_octets(key_of(algorithm))),
        not_before=NOW,
        not_after=NOW + timedelta(days=90),
        extensions=(END_ENTITY, SIGNATURE_USAGE, CLIENT_AUTH),
    )
    return evolve(plain, **changes)


def outcome(deferred: Deferred[bytes]) -> Any:
    """Return what a Deferred has fired with, and take its failure."""
    fired: list[Any] = []
    deferred.addBoth(fired.append)
    return fired[0]


def issue(authority: Authority, wanted: Approved) -> bytes:
    tbs = authority.prepare(wanted, new_serial(os.urandom))
    return outcome(authority.sign(tbs))


@pytest.fixture
def logged():
    """The events that were logged."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


# --- what the library builds from the same values ---------------------------


def built(
    issuer_certificate: bytes,
    wanted: Approved,
    serial: str,
    key: Any,
    places: Places,
) -> bytes:
    """Return the TBSCertificate that ``cryptography``'s builder makes."""
    issuer = x509.load_der_x509_certificate(issuer_certificate)
    public_key = load_der_public_key(wanted.public_key.spki)
    builder = x509.CertificateBuilder(
        issuer.subject,
        to_x509_name(wanted.subject),
        public_key,
        int(serial, 16),
        wanted.not_before,
        wanted.not_after,
    )
    for one in wanted.extensions:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(
                x509.ObjectIdentifier(one.oid), one.value
            ),
            one.critical,
        )
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(public_key), False
    ).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(
            issuer.public_key()
        ),
        False,
    )
    if places.crl:
        builder = builder.add_extension(
            x509.CRLDistributionPoints(
                [
                    x509.DistributionPoint(
                        [
                            x509.UniformResourceIdentifier(url)
                            for url in places.crl
                        ],
                        None,
                        None,
                        None,
                    )
                ]
            ),
            False,
        ).add_extension(
            x509.AuthorityInformationAccess(
                [
                    x509.AccessDescription(
                        AuthorityInformationAccessOID.OCSP,
                        x509.UniformResourceIdentifier(places.ocsp[0]),
                    ),
                    x509.AccessDescription(
                        AuthorityInformationAccessOID.CA_ISSUERS,
                        x509.UniformResourceIdentifier(places.issuer[0]),
                    ),
                ]
            ),
            False,
        )
    if isinstance(key, ec.EllipticCurvePrivateKey):
        digest = hashes.SHA384() if key.key_size == 384 else hashes.SHA256()
    else:
        digest = hashes.SHA256() if hasattr(key, "decrypt") else None
    return builder.sign(key, digest).tbs_certificate_bytes


texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")),
    min_size=1,
    max_size=40,
    # The library counts octets, and warns beyond 64.
).filter(lambda text: len(text.encode()) <= 64)
attributes = st.builds(
    NameAttribute,
    st.sampled_from(["2.5.4.3", "2.5.4.10", "2.5.4.11", "2.5.4.7"]),
    texts,
) | st.builds(
    NameAttribute,
    st.sampled_from(["2.5.4.6"]),
    st.from_regex("[A-Z]{2}", fullmatch=True),
    st.just(19),
)
subjects = st.lists(
    st.lists(
        attributes, min_size=1, max_size=2, unique_by=lambda one: one.oid
    ).map(tuple),
    max_size=4,
).map(tuple)
moments = st.datetimes(
    datetime(1950, 1, 1), datetime(2056, 1, 1), timezones=st.just(UTC)
)
serials = st.integers(1, (1 << 159) - 1).map("{:x}".format)
extension_lists = st.lists(
    st.one_of(
        st.just(END_ENTITY),
        st.just(SIGNATURE_USAGE),
        st.just(CLIENT_AUTH),
        st.builds(
            Extension,
            st.sampled_from(
                ["1.3.6.1.4.1.311.20.2", "2.999.1", "1.3.6.1.5.5.7.1.24"]
            ),
            st.booleans(),
            st.binary(min_size=2, max_size=300),
        ),
        st.lists(
            st.from_regex(r"[a-z]{1,20}\.example", fullmatch=True),
            min_size=1,
            max_size=20,
        ).map(
            lambda names: Extension(
                "2.5.29.17",
                False,
                encode_general_names(
                    [GeneralName("dns", name) for name in names]
                ),
            )
        ),
    ),
    unique_by=lambda one: one.oid,
    max_size=6,
).map(tuple)

ALGORITHMS = ["p-256", "p-384", "rsa-2048", "ed25519", "ml-dsa-65"]


class PrepareTests:
    """The TBSCertificate is what the library's builder makes of the same."""

    @given(
        issuer=st.sampled_from(ALGORITHMS),
        subject_key=st.sampled_from(ALGORITHMS),
        subject=subjects,
        begin=moments,
        length=st.timedeltas(timedelta(seconds=1), timedelta(days=3650)),
        serial=serials,
        extensions=extension_lists,
        places=st.sampled_from([NOWHERE, PLACES]),
    )
    @settings(derandomize=True, deadline=None, max_examples=300)
    def test_equals_the_library_octet_by_octet(
        self,
        issuer,
        subject_key,
        subject,
        begin,
        length,
        serial,
        extensions,
        places,
    ) -> None:
        """RFC 5280, section 4.1: every field, for many values and keys."""
        authority = make_authority(issuer, places=places)
        wanted = approved(
            subject_key,
            subject=subject,
            not_before=begin,
            not_after=min(
                (begin + length).replace(microsecond=0) + timedelta(seconds=1),
                authority.not_after,
            ),
            extensions=extensions,
        )
        if wanted.not_before >= wanted.not_after:
            return
        tbs = authority.prepare(wanted, serial)
        assert (
            built(chain_of(issuer)[0], wanted, serial, key_of(issuer), places)
            == tbs
        )
        # pyasn1 is the independent oracle: it reads all and writes the same.
        read, rest = decoder.decode(tbs, rfc5280.TBSCertificate())
        assert b"" == rest
        assert tbs == encoder.encode(read)

    def test_is_deterministic(self) -> None:
        """The same arguments give the same bytes."""
        authority = make_authority(places=PLACES)
        serial = new_serial(os.urandom)
        assert authority.prepare(approved(), serial) == authority.prepare(
            approved(), serial
        )

    def test_other_time_zones_are_turned_into_utc(self) -> None:
        """RFC 5280, section 4.1.2.5: times are in Greenwich Mean Time."""
        east = timezone(timedelta(hours=5, minutes=30))
        authority = make_authority()
        assert authority.prepare(approved(), "1") == authority.prepare(
            approved(not_before=NOW.astimezone(east)), "1"
        )

    def test_form_of_time_changes_in_2050(self) -> None:
        """RFC 5280, section 4.1.2.5: UTCTime through 2049, then the other."""
        authority = make_authority()
        tbs = authority.prepare(
            approved(
                not_before=datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC),
                not_after=datetime(2050, 1, 1, tzinfo=UTC),
            ),
            "1",
        )
        assert b"\x17\x0d491231235959Z\x18\x0f20500101000000Z" in tbs

    def test_issuer_is_the_subject_octet_by_octet(self) -> None:
        """RFC 5280, section 4.1.2.6: whatever string types the CA's has."""
        key = key_of("p-256")
        name = x509.Name(
            [
                x509.NameAttribute(
                    x509.NameOID.COMMON_NAME,
                    "Old CA",
                    _type=x509.name._ASN1Type.BMPString,
                )
            ]
        )
        certificate = ca_certificate(key, name)
        authority = Authority(
            "old", certificate, (certificate,), InlineSigner(key)
        )
        assert "Old CA".encode("utf-16-be") in authority.prepare(
            approved(), "1"
        )
        assert authority.issued(read_certificate(issue(authority, approved())))

    def test_key_identifier_is_the_issuers_own(self) -> None:
        """RFC 5280, section 4.2.1.1: as the CA's certificate has it."""
        key = key_of("p-256")
        certificate = ca_certificate(
            key, identifier=x509.SubjectKeyIdentifier(b"own way")
        )
        authority = Authority(
            "a", certificate, (certificate,), InlineSigner(key)
        )
        assert b"\x30\x09\x80\x07own way" in authority.prepare(approved(), "1")


class RefusalTests:
    """What no profile may approve is not written."""

    @pytest.mark.parametrize(
        "extension",
        [
            Extension("2.5.29.19", True, b"\x30\x03\x01\x01\xff"),
            Extension("2.5.29.19", False, b"\x30\x06\x01\x01\xff\x02\x01\x00"),
            Extension("2.5.29.15", True, b"\x03\x02\x02\x04"),
            Extension("2.5.29.15", True, b"\x03\x02\x01\x02"),
            Extension("2.5.29.15", True, b"\x03\x02\x01\x86"),
            Extension("2.5.29.15", True, b"\x03\x01\x00"),
            Extension("2.5.29.14", False, b"\x04\x01\x00"),
            Extension("2.5.29.35", False, b"\x30\x00"),
            Extension("2.5.29.31", False, b"\x30\x00"),
            Extension("1.3.6.1.5.5.7.1.1", False, b"\x30\x00"),
        ],
    )
    def test_extension(self, extension, logged) -> None:
        """No CA, no key usage of a CA, nothing that is the authority's."""
        with pytest.raises(Internal):
            make_authority().prepare(approved(extensions=(extension,)), "1")
        (event,) = logged
        assert extension.oid in event["reason"]

    def test_extension_twice(self, logged) -> None:
        """RFC 5280, section 4.2: no two instances of one extension."""
        with pytest.raises(Internal):
            make_authority().prepare(
                approved(extensions=(END_ENTITY, END_ENTITY)), "1"
            )
        assert "twice" in logged[0]["reason"]

    @pytest.mark.parametrize("serial", ["0", "-1", "8" + "0" * 39])
    def test_serial(self, serial, logged) -> None:
        """RFC 5280, section 4.1.2.2: positive, at most 20 octets."""
        with pytest.raises(Internal):
            make_authority().prepare(approved(), serial)
        assert "serial" in logged[0]["reason"]

    def test_validity(self, logged) -> None:
        """No certificate is empty, or outlives its authority."""
        authority = make_authority()
        for not_before, not_after in (
            (NOW, NOW),
            (NOW, NOW - timedelta(days=1)),
            (NOW, authority.not_after + timedelta(seconds=1)),
        ):
            with pytest.raises(Internal):
                authority.prepare(
                    approved(not_before=not_before, not_after=not_after), "1"
                )
        authority.prepare(approved(not_after=authority.not_after), "1")
        assert 3 == len(logged)


class SignTests:
    """One signature a call, and none that does not verify."""

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_certificate_of_each_algorithm(self, algorithm) -> None:
        """The certificate parses and verifies under the CA's key."""
        authority = make_authority(
            algorithm, RecordingSigner(key_of(algorithm))
        )
        verifyObject(IAuthority, authority)
        octets = issue(authority, approved())
        certificate = x509.load_der_x509_certificate(octets)
        certificate.verify_directly_issued_by(
            x509.load_der_x509_certificate(authority.certificate)
        )
        read, rest = decoder.decode(octets, rfc5280.Certificate())
        assert b"" == rest
        assert octets == encoder.encode(read)
        # RFC 5280, section 4.1.1.2: the same algorithm twice.
        assert (
            algorithm_identifier(authority.algorithm)
            == split_signed(octets)[1]
            == encoder.encode(read["tbsCertificate"]["signature"])
        )

    def test_signs_once(self) -> None:
        """One call, one signature over these bytes (R-1)."""
        signer = RecordingSigner(key_of("p-256"))
        authority = make_authority(signer=signer)
        tbs = authority.prepare(approved(), "1")
        certificate = outcome(authority.sign(tbs))
        assert [(tbs, "ecdsa-with-sha256")] == signer.signed
        assert tbs == split_signed(certificate)[0]

    def test_failure_point_is_between_signature_and_check(
        self, monkeypatch
    ) -> None:
        """``inside-sign`` is reached with the signature not yet verified."""
        order = []

        def checked(*args: Any) -> bool:
            order.append("verify")
            return verify(*args)

        monkeypatch.setattr(module.algorithms, "verify", checked)
        signer = RecordingSigner(
            key_of("p-256"), lambda one: order.append("sign") or one
        )
        authority = make_authority(signer=signer, reached=order.append)
        issue(authority, approved())
        assert ["sign", "inside-sign", "verify"] == order

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda one: one[:-1] + bytes([one[-1] ^ 1]),
            lambda one: one[:-1],
            lambda one: one + b"\x00",
            lambda _: b"",
            lambda _: sign(
                generate_key(), "ecdsa-with-sha256", b"something else"
            ),
        ],
    )
    def test_bad_signature_is_never_returned(self, spoil, logged) -> None:
        """The own signature is verified before anything is done (R-14)."""
        signer = RecordingSigner(key_of("p-256"), spoil)
        authority = make_authority(signer=signer)
        tbs = authority.prepare(approved(), "1")
        failure = outcome(authority.sign(tbs))
        assert Internal is failure.type
        assert 1 == len(signer.signed)
        (event,) = logged
        assert "does not verify" in event["reason"]

    def test_unavailable_signer_is_told_as_it_is(self) -> None:
        """The signer's error goes through."""

        class Absent(RecordingSigner):
            def sign(self, tbs: bytes, algorithm: str) -> Deferred[bytes]:
                answer: Deferred[bytes] = Deferred()
                answer.errback(Unavailable())
                return answer

        authority = make_authority(signer=Absent(key_of("p-256")))
        failure = outcome(authority.sign(b"0\x00"))
        assert Unavailable is failure.type


class CheckTests:
    """Readiness is proven by a signature that certifies nothing."""

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_ready(self, algorithm) -> None:
        """One signature, over octets that are no certificate's."""
        signer = RecordingSigner(key_of(algorithm))
        authority = make_authority(algorithm, signer)
        assert outcome(authority.check()) is None
        ((signed, name),) = signer.signed
        assert authority.algorithm == name
        # No TBSCertificate, CRL or OCSP response begins like this.
        assert b"\x30" != signed[:1]

    def test_signature_that_does_not_verify(self) -> None:
        """A signer that spoils its signatures is not ready."""
        signer = RecordingSigner(key_of("p-256"), lambda one: one[:-1])
        failure = outcome(make_authority(signer=signer).check())
        assert Unavailable is failure.type


class IssuedTests:
    """Issuer's name and signature decide, and nothing else."""

    def test_own_certificate(self) -> None:
        """What the authority signed is its own."""
        authority = make_authority()
        facts = read_certificate(issue(authority, approved()))
        assert authority.issued(facts)

    def test_same_name_other_key(self) -> None:
        """A certificate of a namesake is not its own."""
        authority = make_authority()
        namesake_key = generate_key()
        certificate = ca_certificate(
            namesake_key,
            x509.load_der_x509_certificate(authority.certificate).subject,
        )
        namesake = Authority(
            "n", certificate, (certificate,), InlineSigner(namesake_key)
        )
        facts = read_certificate(issue(namesake, approved()))
        assert read_certificate(authority.certificate).subject == facts.issuer
        assert not authority.issued(facts)
        assert not authority.issued(facts)

    def test_same_key_other_name(self) -> None:
        """Nor is that of another authority with the same key."""
        key = key_of("p-256")
        certificate = ca_certificate(key)
        other = Authority("o", certificate, (certificate,), InlineSigner(key))
        facts = read_certificate(issue(other, approved()))
        assert not make_authority().issued(facts)

    def test_altered_certificate(self) -> None:
        """One changed octet, and it is nobody's."""
        authority = make_authority()
        octets = issue(authority, approved())
        altered = octets.replace(b"printer-7", b"printer-8")
        assert not authority.issued(read_certificate(altered))

    def test_octets_that_are_no_certificate(self) -> None:
        """Facts whose octets are none are refused, not a crash."""
        authority = make_authority()
        facts = read_certificate(issue(authority, approved()))
        assert not authority.issued(evolve(facts, der=b"\x30\x00"))

    def test_a_second_look_costs_no_signature_check(self, monkeypatch) -> None:
        """Genuine ones are remembered; the oldest are forgotten; forgeries
        are neither."""
        checked = []

        def counting(*args: Any) -> bool:
            checked.append(args)
            return verify(*args)

        authority = make_authority()
        a, b, c = (
            read_certificate(issue(authority, approved())) for _ in range(3)
        )
        forged = read_certificate(a.der.replace(b"printer-7", b"printer-8"))
        monkeypatch.setattr(module, "_REMEMBERED", 2)
        monkeypatch.setattr(module.algorithms, "verify", counting)

        def looks(*certificates: Any) -> int:
            before = len(checked)
            for one in certificates:
                assert (one is not forged) == authority.issued(one)
            return len(checked) - before

        assert 2 == looks(a, a, b, a)
        assert 2 == looks(forged, forged)
        assert 0 == looks(a, b, a)
        # b was used longest ago and makes way for c.
        assert 1 == looks(c)
        assert 0 == looks(a, c)
        assert 1 == looks(b)


def ca_certificate(
    key: Any,
    name: x509.Name | None = None,
    *,
    ca: bool = True,
    cert_sign: bool = True,
    crl_sign: bool = True,
    identifier: x509.SubjectKeyIdentifier | None = None,
) -> bytes:
    """A self-signed certificate with one thing different."""
    name = name or x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, "Other CA")]
    )
    builder = (
        x509.CertificateBuilder(
            name,
            name,
            key.public_key(),
            1,
            NOW - timedelta(days=1),
            NOW + timedelta(days=3650),
        )
        .add_extension(x509.BasicConstraints(ca, None), True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=cert_sign,
                crl_sign=crl_sign,
                encipher_only=False,
                decipher_only=False,
            ),
            True,
        )
    )
    if identifier:
        builder = builder.add_extension(identifier, False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def points_of(tbs: bytes) -> dict[str, list[str]]:
    """What a certificate points to, by the kind of pointer."""
    certificate = x509.load_der_x509_certificate(
        assemble(tbs, "ecdsa-with-sha256", b"")
    )
    found: dict[str, list[str]] = {}
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.CRLDistributionPoints):
            (point,) = value
            found["crl"] = [name.value for name in point.full_name or ()]
        if isinstance(value, x509.AuthorityInformationAccess):
            for place in value:
                kind = (
                    "ocsp"
                    if place.access_method
                    == AuthorityInformationAccessOID.OCSP
                    else "issuer"
                )
                found[kind] = [place.access_location.value]
    return found


class PointerTests:
    """What a certificate says of its issuer."""

    @pytest.mark.parametrize(
        "wanted",
        [
            wanted
            for size in range(4)
            for wanted in itertools.permutations(POINTERS, size)
        ],
    )
    def test_exactly_what_the_profile_wants(
        self, wanted: tuple[str, ...]
    ) -> None:
        """RFC 5280, sections 4.2.1.13 and 4.2.2.1; in any order."""
        authority = make_authority(places=PLACES)
        tbs = authority.prepare(approved(pointers=wanted), "1")
        assert set(wanted) == set(points_of(tbs))

    def test_nothing_without_urls(self) -> None:
        """An authority without URLs writes no empty extension."""
        assert {} == points_of(make_authority().prepare(approved(), "1"))

    def test_unknown_pointers_are_refused(self) -> None:
        """A profile that asks for what is not known is a fault."""
        with pytest.raises(Internal):
            make_authority().prepare(approved(pointers=("ldap",)), "1")

    @pytest.mark.parametrize("count", [1, 2, 4, 8, 16, 32, 64])
    def test_certificate_and_crl_agree(self, count: int) -> None:
        """A certificate names the very CRL whose range has its serial."""
        places = evolve(PLACES, partitions=count)
        authority = make_authority(places=places)
        for _ in range(4 * count):
            serial = new_serial(os.urandom)
            urls = points_of(authority.prepare(approved(), serial))["crl"]
            scopes = [
                scope
                for scope in places.scopes
                if bounds(scope)[0] <= serial < bounds(scope)[1]
            ]
            if count == 1:
                assert [] == scopes
                assert [*PLACES.crl] == urls
            else:
                (scope,) = scopes
                assert [f"http://ca.example/a/{scope}.crl"] == urls


class CRLTests:
    """The signature of a CRL."""

    def test_is_verified(self) -> None:
        """A signature that does not verify is let out by nobody."""
        signer = RecordingSigner(key_of("p-256"), lambda made: made[:-1])
        with pytest.raises(Internal):
            result_of(make_authority(signer=signer).sign_crl(b"\x30\x00"))

    def test_is_verified_and_put_together_elsewhere(self) -> None:
        """The reactor's thread does not wait for megabytes."""
        called = []

        def elsewhere(function: Any, *args: Any) -> Deferred[Any]:
            called.append(function.__name__)
            return succeed(function(*args))

        authority = make_authority(elsewhere=elsewhere)
        crl = result_of(authority.sign_crl(b"\x30\x00"))
        assert b"\x30\x00" == split_signed(crl)[0]
        assert ["verify", "assemble"] == called

    def test_needs_the_key_usage(self) -> None:
        """RFC 5280, section 4.2.1.3: cRLSign, or none is signed."""
        assert make_authority().signs_crls
        key = generate_key()
        root = ca_certificate(key, crl_sign=False)
        authority = Authority("a", root, (root,), InlineSigner(key))
        assert not authority.signs_crls

    @pytest.mark.parametrize("crl_sign", [True, False])
    def test_nothing_points_to_a_crl_that_nobody_signs(
        self, crl_sign: bool
    ) -> None:
        """RFC 5280, section 4.2.1.13: who must see one would look in vain."""
        key = generate_key()
        root = ca_certificate(key, crl_sign=crl_sign)
        authority = Authority(
            "a",
            root,
            (root,),
            InlineSigner(key),
            places=Places(
                crl=("http://a.example/crl",),
                partition=("http://a.example/{partition}",),
                ocsp=("http://a.example/ocsp",),
                partitions=2,
            ),
        )
        tbs = authority.prepare(approved(), new_serial(os.urandom))
        assert crl_sign is (b"http://a.example/2/" in tbs)
        assert b"http://a.example/ocsp" in tbs


class ConstructionTests:
    """An authority that cannot issue is refused at the start."""

    def refusal(self, key: Any, *chain: bytes) -> str:
        with pytest.raises(UnfitAuthority) as caught:
            Authority("a", chain[0], chain, InlineSigner(key))
        return str(caught.value)

    def test_no_ca(self) -> None:
        """RFC 5280, section 4.2.1.9: cA must be set."""
        key = generate_key()
        assert "not a CA" in self.refusal(key, ca_certificate(key, ca=False))

    def test_no_key_cert_sign(self) -> None:
        """RFC 5280, section 4.2.1.3: keyCertSign must be set."""
        key = generate_key()
        certificate = ca_certificate(key, cert_sign=False)
        assert "keyCertSign" in self.refusal(key, certificate)

    def test_not_the_signers_key(self) -> None:
        """The signer's key is the certificate's."""
        assert "is not this certificate's" in self.refusal(
            generate_key(), *chain_of("p-256")
        )

    def test_incomplete_chain(self) -> None:
        """The chain ends with a self-signed root."""
        text = self.refusal(key_of("p-256"), chain_of("p-256")[0])
        assert "incomplete" in text

    def test_chain_does_not_link(self) -> None:
        """Each certificate is signed by the next."""
        key = key_of("p-256")
        text = self.refusal(
            key, chain_of("p-256")[0], make_root(key, "No", NOW, os.urandom)
        )
        assert "not signed by the next" in text

    def test_chain_of_another(self) -> None:
        """The chain begins with the certificate itself."""
        with pytest.raises(UnfitAuthority, match="must begin with"):
            Authority(
                "a",
                chain_of("p-256")[0],
                chain_of("p-256")[1:],
                InlineSigner(key_of("p-256")),
            )

    def test_what_others_read(self) -> None:
        """Name, certificate, chain and end are as given."""
        authority = make_authority()
        assert "device-ca" == authority.name
        assert chain_of("p-256")[0] == authority.certificate
        assert chain_of("p-256") == authority.chain
        assert (
            read_certificate(chain_of("p-256")[0]).not_after
            == authority.not_after
        )


class NewSerialTests:
    """Serials are unique, positive, and random in every free bit."""

    def test_unique_and_even_in_every_bit(self) -> None:
        """1e5 serials: none twice, each free bit within five sigma."""
        count = 100_000
        source = random.Random(20261123)
        found = {new_serial(source.randbytes) for _ in range(count)}
        assert count == len(found)
        numbers = [int(one, 16) for one in found]
        five_sigma = 5 * (count / 4) ** 0.5
        for bit in range(158):
            ones = sum(number >> bit & 1 for number in numbers)
            assert abs(ones - count / 2) < five_sigma, bit
        assert {1} == {number >> 158 for number in numbers}

    @pytest.mark.parametrize("octet", [b"\x00", b"\xff", b"\x80", b"\x3f"])
    def test_form(self, octet) -> None:
        """RFC 5280, section 4.1.2.2: positive, 20 octets, nothing to pad."""
        serial = new_serial(lambda count: octet * count)
        assert 40 == len(serial)
        assert serial == serial.lower()
        assert serial == f"{int(serial, 16):x}"
        assert 0 < int(serial, 16) < 1 << 159
        facts = read_certificate(
            outcome(
                make_authority().sign(
                    make_authority().prepare(approved(), serial)
                )
            )
        )
        assert serial == facts.serial

    def test_short_randomness(self) -> None:
        """Too few octets are no serial."""
        with pytest.raises(ValueError, match="ran dry"):
            new_serial(lambda count: b"\x01" * (count - 1))
