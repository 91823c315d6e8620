# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.ca.crl` and :mod:`trstctl.ca.pointers`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from crl_samples import read_crl, reasons_of, serial_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given, settings
from hypothesis import strategies as st
from pyasn1.codec.der import decoder, encoder
from pyasn1_modules import rfc5280

from trstctl.ca.crl import Draft, ListWriter, encode_entries
from trstctl.ca.pointers import MOST_PARTITIONS, bounds
from trstctl.model import SerialStatus
from trstctl.testing.authority import FakeSigner, make_authority
from trstctl.testing.time import EPOCH, result_of

SIGNER = FakeSigner()
AUTHORITY = make_authority(signer=SIGNER)
WRITER = ListWriter(AUTHORITY.certificate, AUTHORITY.algorithm)
DAY = timedelta(days=1)

REASONS = (
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "certificateHold",
    "privilegeWithdrawn",
    "aACompromise",
)


def revoked(
    number: int, reason: str = "", at: datetime = EPOCH
) -> SerialStatus:
    """A serial that is revoked."""
    return SerialStatus(serial_of(number), EPOCH + DAY, at, reason)


def draft(**more: object) -> Draft:
    """What a CRL says of itself."""
    return Draft(7, EPOCH, EPOCH + DAY, **more)  # type: ignore[arg-type]


def signed(tbs: bytes) -> bytes:
    """The CRL."""
    return result_of(AUTHORITY.sign_crl(tbs))


class WriterTests:
    """RFC 5280, section 5.1: the TBSCertList."""

    @given(
        numbers=st.lists(st.integers(1, 1 << 100), max_size=5, unique=True),
        reason=st.sampled_from(("", "unspecified", *REASONS)),
        at=st.datetimes(
            datetime(1950, 1, 1),
            datetime(2060, 1, 1),
            timezones=st.just(UTC),
        ),
        base=st.sampled_from([0, 5]),
        urls=st.sampled_from([(), ("http://a.example/1.crl",)]),
        freshest=st.sampled_from([(), ("http://a.example/d.crl",)]),
    )
    @settings(derandomize=True, deadline=None, max_examples=100)
    def test_others_read_the_same(
        self, numbers, reason, at, base, urls, freshest
    ) -> None:
        """The library reads what was written; pyasn1 writes it again."""
        at = at.replace(microsecond=0)
        statuses = [revoked(number, reason, at) for number in numbers]
        tbs = WRITER.write(
            draft(base=base, urls=urls, freshest=freshest),
            [encode_entries(statuses[:2]), encode_entries(statuses[2:])],
        )

        read, rest = decoder.decode(tbs, rfc5280.TBSCertList())
        crl = read_crl(signed(tbs))

        assert b"" == rest
        assert tbs == encoder.encode(read)
        assert 1 == read["version"]
        assert EPOCH == crl.last_update_utc
        assert EPOCH + DAY == crl.next_update_utc
        assert [status.serial for status in statuses] == [
            f"{entry.serial_number:x}" for entry in crl
        ]
        assert all(at == entry.revocation_date_utc for entry in crl)
        told = "" if reason == "unspecified" else reason
        assert set(reasons_of(signed(tbs)).values()) <= {told}
        assert not (base and freshest) or not any(
            isinstance(one.value, x509.FreshestCRL) for one in crl.extensions
        )

    def test_equals_the_library_octet_by_octet(self) -> None:
        """The library's builder makes the same of the same values."""
        issuer = x509.load_der_x509_certificate(AUTHORITY.certificate)
        builder = (
            x509.CertificateRevocationListBuilder(
                issuer.subject, EPOCH, EPOCH + DAY
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    issuer.public_key()  # type: ignore[arg-type]
                ),
                False,
            )
            .add_extension(x509.CRLNumber(7), False)
            .add_extension(x509.DeltaCRLIndicator(5), True)
            .add_extension(
                x509.IssuingDistributionPoint(
                    [x509.UniformResourceIdentifier("http://a.example/1.crl")],
                    None,
                    *(False, False, None, False, False),
                ),
                True,
            )
        )
        for number, reason in enumerate(REASONS, 1):
            entry = x509.RevokedCertificateBuilder(
                int(serial_of(number), 16), EPOCH
            ).add_extension(x509.CRLReason(x509.ReasonFlags(reason)), False)
            builder = builder.add_revoked_certificate(entry.build())
        built = builder.sign(SIGNER.key, hashes.SHA256())

        written = WRITER.write(
            draft(base=5, urls=["http://a.example/1.crl"]),
            [
                encode_entries(
                    [revoked(n, reason) for n, reason in enumerate(REASONS, 1)]
                )
            ],
        )
        assert built.tbs_certlist_bytes == written

    def test_freshest(self) -> None:
        """RFC 5280, section 5.2.6: the base says where its delta is."""
        tbs = WRITER.write(draft(freshest=["http://a.example/d.crl"]), [])
        value = (
            read_crl(signed(tbs))
            .extensions.get_extension_for_class(x509.FreshestCRL)
            .value
        )
        (point,) = value
        (name,) = point.full_name or ()
        assert "http://a.example/d.crl" == name.value

    def test_criticality(self) -> None:
        """RFC 5280, sections 5.2.1 to 5.2.6."""
        tbs = WRITER.write(draft(base=1, urls=["http://a.example/1"]), [])
        found = {
            one.oid.dotted_string: one.critical
            for one in read_crl(signed(tbs)).extensions
        }
        assert {
            "2.5.29.35": False,
            "2.5.29.20": False,
            "2.5.29.27": True,
            "2.5.29.28": True,
        } == found

    def test_no_empty_list(self) -> None:
        """RFC 5280, section 5.1.2.6: without entries, no list."""
        tbs = WRITER.write(draft(), [])
        read, _ = decoder.decode(tbs, rfc5280.TBSCertList())
        assert not read["revokedCertificates"].isValue
        assert not list(read_crl(signed(tbs)))

    def test_signature(self) -> None:
        """What is signed verifies with the CA's key."""
        crl = read_crl(signed(WRITER.write(draft(), [])))
        key = load_der_public_key(SIGNER.public_key())
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert crl.is_signature_valid(key)


class EntryTests:
    """RFC 5280, section 5.3: the entries."""

    def test_a_released_serial_is_removed(self) -> None:
        """Section 5.3.1: removeFromCRL, with the time of the release."""
        status = SerialStatus(
            serial_of(1), EPOCH + DAY, released_at=EPOCH + DAY / 2
        )
        tbs = WRITER.write(draft(base=1), [encode_entries([status])])
        (entry,) = read_crl(signed(tbs))
        assert EPOCH + DAY / 2 == entry.revocation_date_utc
        assert ["removeFromCRL"] == [*reasons_of(signed(tbs)).values()]

    def test_a_serial_that_was_never_revoked_is_left_out(self) -> None:
        """Nothing is written of what is simply good."""
        status = SerialStatus(serial_of(1), EPOCH + DAY)
        assert b"" == encode_entries([status])

    def test_an_unknown_reason_is_left_out(self) -> None:
        """A reason that the RFC does not know is no reason to say nothing."""
        entries = encode_entries([revoked(1, "whim")])
        crl = signed(WRITER.write(draft(), [entries]))
        assert [""] == [*reasons_of(crl).values()]


class PartitionTests:
    """Where a serial belongs, and how that is called."""

    def test_ranges_are_complete(self) -> None:
        """Each partition begins where the last one ends."""
        ranges = [bounds(f"{MOST_PARTITIONS}/{i}") for i in range(64)]
        assert "40" == ranges[0][0]
        assert "80" == ranges[-1][1]
        assert all(one[1] == other[0] for one, other in pairwise(ranges))

    def test_everything_is_in_the_other_scopes(self) -> None:
        """Full and delta cover each serial."""
        for scope in ("", "delta"):
            first, end = bounds(scope)
            assert first <= "0" * 40 < "f" * 40 < end
