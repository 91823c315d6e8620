# SPDX-License-Identifier: MIT
"""Tests of what may be asked without enrolling."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from est_samples import ESTBench, make_csr_with
from hypothesis import given
from hypothesis import strategies as st
from rollover_samples import SPREAD, lineage
from twisted.internet.defer import fail
from zope.interface.verify import verifyObject

from trstctl.ca.pointers import key_identifier
from trstctl.enquiries import suggested_window, takeover_window
from trstctl.errors import UnknownCertificate
from trstctl.interfaces import IEnquiries
from trstctl.model import (
    CertificateRecord,
    CertificateStatus,
    Endpoint,
    Phase,
    RenewalWindow,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.testing import EPOCH, TENANT, FakeRevocation, result_of

OTHER = "22222222-2222-2222-2222-222222222222"
ENDPOINT = Endpoint("est", "", TENANT, "device", "issuing")
DAY = timedelta(days=1)


def record(life: timedelta = 90 * DAY) -> CertificateRecord:
    """Return a certificate's row."""
    return CertificateRecord(
        TENANT,
        "issuing",
        "a1",
        "CN=x",
        (),
        "device",
        "est",
        "basic:a",
        "00",
        EPOCH,
        EPOCH + life,
        CertificateStatus.VALID,
        EPOCH,
    )


class WindowTests:
    """When a certificate should be renewed, by its life and profile."""

    @given(
        st.integers(min_value=60, max_value=10**9),
        st.none() | st.integers(min_value=1, max_value=10**9),
        st.binary(max_size=40),
    )
    def test_within(
        self, life: int, before_end: int | None, seed: bytes
    ) -> None:
        """
        It begins when the profile allows a renewal, and leaves time to try
        again; its end is after its start (RFC 9773, section 4.2).
        """
        one = record(timedelta(seconds=life))
        allowed = None if before_end is None else timedelta(seconds=before_end)
        found = suggested_window(one, allowed, seed)
        assert found.start < found.end
        assert 0 == found.start.microsecond == found.end.microsecond
        if allowed is not None:
            opens = one.not_after - min(allowed, timedelta(seconds=life) / 2)
            assert opens - timedelta(seconds=1) < found.start
        assert found.start >= one.not_before
        assert found.end <= one.not_after + timedelta(seconds=2)
        assert found == suggested_window(one, allowed, seed)

    def test_without_a_window_of_the_profile(self) -> None:
        """The last third of its life, of which the last third stays free."""
        starts = [
            suggested_window(record(), None, b"%d" % n) for n in range(500)
        ]
        assert min(one.start for one in starts) >= EPOCH + 60 * DAY
        assert max(one.end for one in starts) <= EPOCH + 80 * DAY + (
            timedelta(seconds=1)
        )

    def test_spread(self) -> None:
        """Of a fleet of one hour, no tenth of the time gets a quarter."""
        fleet = [
            suggested_window(record(), 30 * DAY, b"%d" % n).start
            for n in range(2000)
        ]
        tenths = [0] * 10
        for start in fleet:
            tenths[int((start - (EPOCH + 60 * DAY)) / (1.5 * DAY))] += 1
        assert 2000 == sum(tenths)
        assert max(tenths) < 500
        assert min(tenths) > 50


class TakeoverTests:
    """When a certificate should be renewed whose key has a successor."""

    @given(
        st.integers(min_value=0, max_value=10**9),
        st.integers(min_value=-(10**9), max_value=10**9),
        st.binary(max_size=40),
    )
    def test_within(self, spread: int, since: int, seed: bytes) -> None:
        """
        From the takeover to the end of the time for that or the certificate's
        own, whichever comes first, with time left to try again.
        """
        one = record()
        opens = EPOCH + timedelta(seconds=since)
        closes = opens + timedelta(seconds=spread)
        found = takeover_window(one, RenewalWindow(opens, closes), seed)
        assert found.start < found.end
        assert 0 == found.start.microsecond == found.end.microsecond
        start = max(opens, one.not_before)
        assert start <= found.start
        second = timedelta(seconds=1)
        end = min(closes, one.not_after)
        usable = max(end - start, timedelta(0)) * 2 / 3
        assert found.end <= start + usable + second

    def test_spread(self) -> None:
        """Of a large fleet, no tenth of the time gets a quarter."""
        renewals = RenewalWindow(EPOCH, EPOCH + 30 * DAY)
        tenths = [0] * 10
        for number in range(2000):
            found = takeover_window(record(), renewals, b"%d" % number)
            tenths[int((found.start - EPOCH) / (1.5 * DAY))] += 1
        assert 2000 == sum(tenths)
        assert max(tenths) < 500
        assert min(tenths) > 50

    def test_without_a_spread(self) -> None:
        """The operator wants all of them now."""
        found = takeover_window(record(), RenewalWindow(EPOCH, EPOCH), b"x")
        assert RenewalWindow(EPOCH, EPOCH + timedelta(seconds=1)) == found


class EnquiryBench(ESTBench):
    """A gateway, and what it is asked."""

    def window(
        self, serial: str, endpoint: Endpoint = ENDPOINT, authority: str = ""
    ) -> Any:
        """Ask when to renew; return the Deferred."""
        issuer = self.authorities[authority or "issuing"].certificate
        return self.ra.enquiries.renewal(
            endpoint, key_identifier(issuer), serial
        )

    def names(self, *names: str, endpoint: Endpoint = ENDPOINT) -> Any:
        """Return the certificates that names have."""
        return result_of(self.ra.enquiries.current(endpoint, names))


def unknown(waiting: Any) -> None:
    """Expect that a certificate is unknown."""
    with pytest.raises(UnknownCertificate):
        result_of(waiting)


class RenewalTests:
    """Which certificates, and what may have happened to them."""

    def test_interface(self) -> None:
        """It provides what it promises."""
        verifyObject(IEnquiries, EnquiryBench().ra.enquiries)

    def test_of_the_profile(self) -> None:
        """The profile's renewal_window counts."""
        bench = EnquiryBench()
        bench.change(renewal_window=10 * DAY)
        row = bench.record(bench.issued(make_csr_with({})))
        found = result_of(bench.window(row.serial))
        assert row.not_after - 10 * DAY <= found.start
        assert found.end < row.not_after

    def test_key_identifier(self) -> None:
        """The name is that of the certificate's own extension."""
        bench = EnquiryBench()
        certificate = bench.issued(make_csr_with({}))
        issuer = bench.authorities["issuing"].certificate
        (extension,) = (
            one
            for one in read_certificate(certificate).extensions
            if one.oid == "2.5.29.35"
        )
        assert extension.value.endswith(key_identifier(issuer))

    def test_profile_is_gone(self) -> None:
        """Then it is told by its life alone."""
        bench = EnquiryBench()
        row = bench.record(bench.issued(make_csr_with({})))
        bench.ra.rules = evolve(bench.ra.rules, profiles={})
        found = result_of(bench.window(row.serial))
        assert row.not_before < found.start < found.end < row.not_after

    @pytest.mark.parametrize("what", ["revoked", "superseded", "replaced"])
    def test_at_once(self, what: str) -> None:
        """RFC 9773, section 4.2: a window in the past says now."""
        bench = EnquiryBench()
        row = bench.record(bench.issued(make_csr_with({})))
        endpoint = ENDPOINT
        if what == "revoked":
            bench.ra.revoke(TENANT, row.serial, "keyCompromise", "test")
        elif what == "superseded":
            other = bench.record(bench.issued(make_csr_with({}, "e")))
            result_of(
                bench.store.supersede_certificate(
                    TENANT, row.serial, other.serial, "test", bench.now()
                )
            )
        else:
            endpoint = evolve(
                ENDPOINT, authority="other", issuers=("issuing",)
            )
        found = result_of(bench.window(row.serial, endpoint))
        expected = RenewalWindow(
            row.not_before, row.not_before + timedelta(seconds=1)
        )
        assert expected == found
        assert found.end < bench.now()

    def test_unknown(self) -> None:
        """Another's is no other than one that nobody has."""
        bench = EnquiryBench()
        serial = bench.record(bench.issued(make_csr_with({}))).serial
        unknown(bench.window("abc"))
        unknown(bench.window(serial, evolve(ENDPOINT, tenant_id=OTHER)))
        unknown(bench.window(serial, evolve(ENDPOINT, authority="other")))
        unknown(bench.window(serial, authority="other"))
        unknown(bench.window(serial, evolve(ENDPOINT, authority="gone")))
        # One authority's identifier and a serial of another's.
        both = evolve(ENDPOINT, authority="other", issuers=("issuing",))
        unknown(bench.window(serial, both, authority="other"))

    def test_one_lookup(self) -> None:
        """A stranger costs one lookup by key, or none."""
        bench = EnquiryBench()
        asked: list[str] = []
        find = bench.store.find_certificate

        def counted(tenant_id: str, serial: str) -> Any:
            asked.append(serial)
            return find(tenant_id, serial)

        bench.store.find_certificate = counted
        unknown(bench.window("abc"))
        unknown(bench.window("abd", authority="other"))
        assert ["abc"] == asked


class CurrentTests:
    """What certificates some names have now."""

    def test_by_name(self) -> None:
        """In the order of the names, each once; the newest first."""
        bench = EnquiryBench()
        one = bench.issued(make_csr_with({}, "one"))
        bench.clock.advance(1)
        again = bench.issued(make_csr_with({}, "one"))
        two = bench.issued(make_csr_with({}, "two"))
        assert (two, again, one) == bench.names("two", "one", "two", "none")

    def test_what_is_good(self) -> None:
        """None that is revoked, replaced or expired, nor another's."""
        bench = EnquiryBench()
        row = bench.record(bench.issued(make_csr_with({}, "one")))
        for endpoint in (
            evolve(ENDPOINT, tenant_id=OTHER),
            evolve(ENDPOINT, authority="other"),
        ):
            assert () == bench.names("one", endpoint=endpoint)
        assert 1 == len(
            bench.names(
                "one",
                endpoint=evolve(
                    ENDPOINT, authority="other", issuers=("issuing",)
                ),
            )
        )
        bench.now.step(row.not_after - bench.now())
        assert () == bench.names("one")
        bench.now.step(-DAY)
        assert 1 == len(bench.names("one"))
        bench.ra.revoke(TENANT, row.serial, "unspecified", "test")
        assert () == bench.names("one")

    def test_nothing_that_is_not_confirmed(self) -> None:
        """RFC 9810, section 5.2.8.3.2: it may be its owner's proof."""
        bench = EnquiryBench()
        row = bench.record(bench.issued(make_csr_with({}, "one")))
        waiting = evolve(row, confirm_by=row.not_after)
        bench.store.tables.certificates[TENANT, row.serial] = waiting
        assert () == bench.names("one")
        result_of(bench.ra.confirm(TENANT, row.serial, "", "test"))
        assert (row.der,) == bench.names("one")

    def test_few_of_a_name(self) -> None:
        """A name that many have does not make the answer long."""
        bench = EnquiryBench()
        for _ in range(6):
            bench.issued(make_csr_with({}, "one"))
            bench.clock.advance(1)
        assert 4 == len(bench.names("one"))


class RolloverTests:
    """While an authority gets another key."""

    def test_whose_key_is_replaced(self) -> None:
        """
        Once the new key issues, what the old one has signed is to be renewed
        within the time for that; what the new one signs is not, and both
        names are known.
        """
        line, bench = lineage(), EnquiryBench()
        bench.authorities.update(line.authorities)
        bench.ra.rules = evolve(bench.ra.rules, authorities=bench.authorities)
        line.put(bench.ra, Phase.PREPARED)
        old = bench.record(bench.issued(make_csr_with({}, "one")))
        before = result_of(bench.window(old.serial))
        assert bench.now() < before.start
        line.put(bench.ra, Phase.ACTIVE)
        new = bench.record(bench.issued(make_csr_with({}, "two")))
        assert ("issuing", "issuing-2") == (old.authority, new.authority)
        found = result_of(bench.window(old.serial))
        assert EPOCH <= found.start < found.end < before.start
        assert found.end <= EPOCH + SPREAD
        assert found == result_of(bench.window(old.serial))
        window = result_of(bench.window(new.serial, authority="issuing-2"))
        assert bench.now() < window.start
        unknown(bench.window(old.serial, authority="issuing-2"))
        assert (old.der, new.der) == bench.names("one", "two")

    def test_whose_time_comes_first(self) -> None:
        """Who would renew earlier in any case goes on to do so."""
        line, bench = lineage(), EnquiryBench()
        bench.authorities.update(line.authorities)
        bench.ra.rules = evolve(bench.ra.rules, authorities=bench.authorities)
        row = bench.record(bench.issued(make_csr_with({}, "one")))
        before = result_of(bench.window(row.serial))
        succession = line.succession(Phase.ACTIVE)
        bench.ra.rules = evolve(
            bench.ra.rules,
            successions={
                "issuing": evolve(
                    succession,
                    renewals=RenewalWindow(before.start, EPOCH + 3650 * DAY),
                )
            },
        )
        assert before == result_of(bench.window(row.serial))

    def test_after_a_step_back(self) -> None:
        """What the new key has signed goes on as if nothing had happened."""
        line, bench = lineage(), EnquiryBench()
        bench.authorities.update(line.authorities)
        bench.ra.rules = evolve(bench.ra.rules, authorities=bench.authorities)
        line.put(bench.ra, Phase.ACTIVE)
        new = bench.record(bench.issued(make_csr_with({}, "one")))
        before = result_of(bench.window(new.serial, authority="issuing-2"))
        line.put(bench.ra, Phase.PREPARED)
        after = result_of(bench.window(new.serial, authority="issuing-2"))
        assert before == after
        assert bench.now() < after.start

    def test_crls_of_both(self) -> None:
        """Paths to either key are checked, so each CRL is there."""
        line, bench = lineage(), ESTBench(crls=True)
        bench.authorities.update(line.authorities)
        bench.ra.rules = evolve(bench.ra.rules, authorities=bench.authorities)
        line.put(bench.ra, Phase.ACTIVE)
        revocation: Any = FakeRevocation(
            {name: one.chain for name, one in line.authorities.items()}
        )
        bench.ra.revocation = revocation
        asked: list[str] = []

        def crl(authority: str, scope: str) -> Any:
            asked.append(authority)
            return fail(UnknownCertificate())

        revocation.crl = crl
        assert 404 == bench.get("/crls").status
        assert ["issuing-2", "issuing"] == asked
