# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.ca.publisher` and :mod:`trstctl.ca.edition`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import define, evolve, field
from crl_samples import YEAR, Ledger, read_crl, reasons_of, serial_of
from cryptography import x509
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from trstctl.ca.authority import Authority
from trstctl.ca.edition import PAGE, Issuer, Schedule
from trstctl.ca.pointers import Places
from trstctl.ca.publisher import SMALL, Publisher
from trstctl.errors import TrstctlError, Unavailable, UnknownCertificate
from trstctl.interfaces import IRevocation
from trstctl.model import StoredCRL
from trstctl.testing.authority import FakeSigner, make_authority
from trstctl.testing.time import EPOCH, WallClock, result_of

SIGNER = FakeSigner()
AUTHORITY = make_authority(signer=SIGNER)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

PLACES = Places(
    crl=("http://a.example/full.crl",),
    partition=("http://a.example/{partition}.crl",),
    delta=("http://a.example/delta.crl",),
)


@define
class Process:
    """
    A publisher in a process of its own.

    :ivar published: the CRLs that came into force, in order.
    :ivar failures: the authorities that failed.
    :ivar random: what chance gives.
    """

    ledger: Ledger
    clock: Clock
    now: WallClock
    issuer: Issuer
    random: float = 0.0
    published: list[StoredCRL] = field(factory=list)
    failures: list[str] = field(factory=list)
    publisher: Publisher = field(init=False)
    elsewhere: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        store: Any = self.ledger
        self.publisher = Publisher(
            store,
            {"issuing": self.issuer},
            now=self.now,
            random_fraction=lambda: self.random,
            elsewhere=self.call,
            published=self.published.append,
            failed=self.failures.append,
        )

    def call(self, function: Any, *args: Any) -> Deferred[Any]:
        """Call, and note what."""
        self.elsewhere.append(function.__name__)
        return succeed(function(*args))

    def round(self, after: timedelta = timedelta(0)) -> list[str]:
        """Make a round some time later; return the scopes it published."""
        self.clock.advance(after.total_seconds())
        before = len(self.ledger.calls)
        result_of(self.publisher.round())
        return [
            call.removeprefix("save_crl ")
            for call in self.ledger.calls[before:]
            if call.startswith("save_crl")
        ]

    def crl(self, scope: str = "") -> StoredCRL:
        """Return the CRL in force."""
        return result_of(self.publisher.crl("issuing", scope))

    def listed(self, scope: str = "") -> dict[str, str]:
        """Return what the CRL in force lists, with the reasons."""
        return reasons_of(self.crl(scope).der)


Start = Callable[..., Process]


@pytest.fixture
def start() -> Start:
    """Return what starts a process; all share one store and one clock."""
    ledger, clock = Ledger(), Clock()
    now = WallClock(clock)

    def started(
        partitions: int = 1,
        places: Places = PLACES,
        authority: Authority = AUTHORITY,
        **schedule: timedelta,
    ) -> Process:
        issuer: Any = Issuer(
            authority,  # type: ignore[arg-type]
            Schedule(**schedule),
            evolve(places, partitions=partitions),
        )
        return Process(ledger, clock, now, issuer)

    return started


class ServingTests:
    """What :class:`IRevocation` promises."""

    def test_interface(self, start: Start) -> None:
        """It keeps its interface."""
        assert verifyObject(IRevocation, start().publisher)

    def test_chains_and_status(self, start: Start) -> None:
        """Chains by name; a status straight from the store."""
        process = start()
        process.ledger.revoke(serial_of(1))
        assert {"issuing": AUTHORITY.chain} == process.publisher.chains()
        status = result_of(process.publisher.status("issuing", serial_of(1)))
        assert status is not None
        assert "keyCompromise" == status.reason
        assert None is result_of(process.publisher.status("issuing", "1"))

    def test_the_first_request_need_not_wait_for_a_round(
        self, start: Start
    ) -> None:
        """Without any CRL yet, one is signed for who asks."""
        process = start()
        process.ledger.revoke(serial_of(1))
        assert {serial_of(1): "keyCompromise"} == process.listed()

    @pytest.mark.parametrize(
        ("authority", "scope"),
        [("other", ""), ("issuing", "delta"), ("issuing", "2/0")],
    )
    def test_unknown(self, start: Start, authority: str, scope: str) -> None:
        """What is not published is not looked for in the store."""
        process = start()
        with pytest.raises(UnknownCertificate):
            result_of(process.publisher.crl(authority, scope))
        assert [] == process.ledger.calls

    def test_it_is_served_from_memory(self, start: Start) -> None:
        """A request costs no access to the store."""
        process = start()
        process.round()
        process.ledger.calls.clear()
        process.ledger.error = Unavailable()
        process.crl()
        assert [] == process.ledger.calls

    def test_what_was_stored_is_served_after_a_start(
        self, start: Start
    ) -> None:
        """A start signs nothing that is good."""
        number = start().crl().number
        process = start()
        result_of(process.publisher.load())
        process.ledger.error = Unavailable()
        assert number == process.crl().number

    def test_when_the_first_runs_out(self, start: Start) -> None:
        """Of those that are kept up to date; for the readiness report."""
        process = start(partitions=2, delta_interval=HOUR)
        assert {"issuing": None} == process.publisher.ends()
        process.round()
        end = process.crl("delta").next_update
        assert {"issuing": end} == process.publisher.ends()
        process = start(partitions=2)
        process.round()
        bare = start(places=Places(), interval=DAY)
        result_of(bare.publisher.load())
        bare.round(8 * DAY)
        assert {"issuing": bare.crl("delta").next_update} == (
            bare.publisher.ends()
        )
        bare.publisher.replace({})
        assert {} == bare.publisher.ends()

    def test_an_authority_that_must_not_sign_crls(self, start: Start) -> None:
        """RFC 5280, section 4.2.1.3: without cRLSign there is no CRL."""
        authority: Any = SimpleNamespace(
            name="issuing", signs_crls=False, not_after=EPOCH + YEAR
        )
        process = start(authority=authority)
        assert [] == process.round()
        for asked in (
            process.publisher.crl("issuing", ""),
            process.publisher.publish("issuing"),
        ):
            with pytest.raises(UnknownCertificate):
                result_of(asked)

    def test_reload(self, start: Start) -> None:
        """Another configuration is worked by from the next request on."""
        process = start()
        process.round()
        process.publisher.replace({})
        result_of(process.publisher._take_over("issuing", [""]))
        assert {} == process.publisher.chains()
        with pytest.raises(UnknownCertificate):
            process.crl()
        assert [] == process.round()

    def test_reload_with_another_ca(self, start: Start) -> None:
        """What the CA before has signed is not served any more."""
        process, renewed = start(), start(authority=make_authority())
        process.round()
        process.publisher.replace({"issuing": renewed.issuer})
        crl = process.crl()
        assert 2 == crl.number
        assert renewed.publisher._is_own(crl)
        assert [] == process.round()

    def test_reload_while_it_signs(self, start: Start) -> None:
        """Likewise what the CA before was just signing."""
        process, renewed = start(), start(authority=make_authority())
        process.ledger.meanwhile = lambda: process.publisher.replace(
            {"issuing": renewed.issuer}
        )
        with pytest.raises(Unavailable):
            process.crl()
        assert renewed.publisher._is_own(process.crl())

    def test_reload_without_crl_sign(self, start: Start) -> None:
        """RFC 5280, section 6.3.3: nobody may accept it any more."""
        process = start()
        process.round()
        authority: Any = SimpleNamespace(
            name="issuing", signs_crls=False, not_after=EPOCH + YEAR
        )
        process.publisher.replace(
            {"issuing": start(authority=authority).issuer}
        )
        with pytest.raises(UnknownCertificate):
            process.crl()

    def test_reload_while_it_looks(self, start: Start) -> None:
        """What a round learns of a CRL that has gone is forgotten."""
        process = start(partitions=2)
        process.round()
        process.ledger.revoke(serial_of(1), EPOCH + HOUR)
        process.ledger.meanwhile = lambda: process.publisher.replace({})
        process.round(HOUR)
        with pytest.raises(UnknownCertificate):
            process.crl("2/1")


class ScheduleTests:
    """P-2: when a CRL is signed anew."""

    def test_after_the_interval(self, start: Start) -> None:
        """Not before it has passed; the number grows."""
        process = start(interval=DAY, lifetime=7 * DAY)
        assert ["full"] == process.round()
        assert [] == process.round(DAY - MINUTE)
        assert ["full"] == process.round(MINUTE)
        assert 2 == process.crl().number

    def test_when_a_third_is_left(self, start: Start) -> None:
        """However long the interval is."""
        process = start(interval=20 * HOUR, lifetime=24 * HOUR)
        process.round()
        assert [] == process.round(15 * HOUR)
        assert ["full"] == process.round(HOUR)

    def test_after_a_revocation(self, start: Start) -> None:
        """At the next round, once."""
        process = start()
        process.round()
        process.ledger.revoke(serial_of(1), EPOCH + HOUR)
        assert ["full"] == process.round(HOUR)
        assert serial_of(1) in process.listed()
        assert [] == process.round(HOUR)

    def test_after_a_release(self, start: Start) -> None:
        """A certificate that is good again leaves the full CRL."""
        process = start()
        process.ledger.revoke(serial_of(1), reason="certificateHold")
        process.round()
        process.ledger.release(serial_of(1), EPOCH + HOUR)
        assert ["full"] == process.round(HOUR)
        assert {} == process.listed()

    @pytest.mark.parametrize("restarts", [True, False])
    def test_when_it_is_configured_otherwise(
        self, start: Start, restarts: bool
    ) -> None:
        """What certificates point to from now on must be named soon."""
        process = start(partitions=2)
        process.round()
        moved = Places(
            partition=("http://b.example/{partition}.crl",),
            delta=("http://b.example/delta.crl",),
        )
        other = start(partitions=2, places=moved, delta_interval=HOUR)
        if restarts:
            process, former = other, process
            result_of(process.publisher.load())
        else:
            former = start(partitions=2)
            process.publisher.replace({"issuing": other.issuer})
        assert ["full", "delta", "2/0", "2/1"] == process.round()
        assert b"http://b.example/delta.crl" in process.crl().der
        assert b"http://b.example/2/1.crl" in process.crl("2/1").der
        # Once: two that differ do not sign against each other.
        former.round()
        assert [] == process.round()
        assert [] == former.round()

    def test_a_pause_lies_between_two(self, start: Start) -> None:
        """A stream of revocations is not a stream of CRLs."""
        process = start(pause=10 * MINUTE)
        process.round()
        process.ledger.revoke(serial_of(1), EPOCH + MINUTE)
        assert [] == process.round(9 * MINUTE)
        assert ["full"] == process.round(MINUTE)

    def test_a_clock_that_was_set_back(self, start: Start) -> None:
        """A CRL from the future is of no use to anybody."""
        process = start()
        process.round()
        process.now.step(-HOUR)
        assert ["full"] == process.round()
        assert process.crl().this_update <= process.now()

    def test_begins_a_minute_earlier(self, start: Start) -> None:
        """For clients whose clock is late."""
        process = start()
        assert EPOCH - MINUTE == process.crl().this_update
        assert EPOCH - MINUTE == read_crl(process.crl().der).last_update_utc

    @pytest.mark.parametrize(("random", "share"), [(0.0, 1.0), (0.5, 0.95)])
    def test_end_varies(
        self, start: Start, random: float, share: float
    ) -> None:
        """P-9: clients do not all come back in one moment."""
        process = start(lifetime=10 * DAY)
        process.random = random
        crl = process.crl()
        assert 10 * DAY * share == crl.next_update - crl.this_update

    def test_does_not_outlive_its_issuer(self, start: Start) -> None:
        """Nobody could verify it after that."""
        process = start()
        left = AUTHORITY.not_after - EPOCH - DAY
        process.clock.advance(left.total_seconds())
        assert AUTHORITY.not_after == process.crl().next_update
        assert [] == process.round(2 * DAY)

    def test_asking_does_not_revive_an_issuer(self, start: Start) -> None:
        """Once it has ended, nothing is signed, whoever asks."""
        process = start()
        process.round()
        left = AUTHORITY.not_after - EPOCH
        process.clock.advance(left.total_seconds())
        process.ledger.calls.clear()
        for asked in (
            lambda: process.publisher.crl("issuing", ""),
            lambda: process.publisher.publish("issuing"),
        ):
            with pytest.raises(Unavailable):
                result_of(asked())
        assert [] == process.ledger.calls
        assert [] == process.failures

    def test_a_large_one_waits_longer(self, start: Start) -> None:
        """The pause grows with the entries."""
        process = start(pause=MINUTE)
        for number in range(2 * SMALL):
            process.ledger.rows[serial_of(number)] = _row(number)
        process.round()
        _row_later(process.ledger, 2 * SMALL, EPOCH + 10 * MINUTE)
        assert [] == process.round(MINUTE)
        assert ["full"] == process.round(10 * MINUTE)
        assert 2 * SMALL + 1 == process.crl().entries


def _row(number: int, at: datetime = EPOCH - DAY) -> Any:
    """A revoked serial, as the ledger keeps it."""
    from trstctl.model import SerialStatus

    status = SerialStatus(serial_of(number), EPOCH + YEAR, at, "superseded")
    return at, status


def _row_later(ledger: Ledger, number: int, at: datetime) -> None:
    """Revoke one more among many."""
    ledger.rows[serial_of(number)] = _row(number, at)


class CompletenessTests:
    """P-3 and P-4: what is on a CRL."""

    @pytest.mark.parametrize(
        "count", [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE]
    )
    def test_every_page(self, start: Start, count: int) -> None:
        """Each serial once, wherever the pages end."""
        process = start()
        for number in range(count):
            process.ledger.rows[serial_of(number)] = _row(number)
        assert count == process.crl().entries
        assert [serial_of(number) for number in range(count)] == [
            *process.listed()
        ]

    def test_revoked_while_it_was_read(self, start: Start) -> None:
        """What the reading may have missed brings the next one."""
        process = start()
        process.ledger.revoke(serial_of(2))
        process.round()
        process.clock.advance(3600)
        process.ledger.revoke(serial_of(3), EPOCH + HOUR)
        process.ledger.meanwhile = lambda: process.ledger.revoke(
            serial_of(1), EPOCH + HOUR
        )
        process.round()
        assert ["full"] == process.round(2 * MINUTE)
        assert [] == process.round(2 * MINUTE)
        assert 3 == process.crl().entries

    def test_dated_before_it_was_committed(self, start: Start) -> None:
        """Another node's clock may be late."""
        first = start()
        first.round()
        process = start()
        process.ledger.revoke(serial_of(1), EPOCH - MINUTE / 2)
        assert ["full"] == process.round(2 * MINUTE)
        assert serial_of(1) in process.listed()

    @pytest.mark.parametrize("before", [[], [EPOCH - DAY]])
    def test_dated_by_a_clock_that_is_behind(
        self, start: Start, before: list[datetime]
    ) -> None:
        """However early a change says that it was: it came after the CRL."""
        process = start(delta_interval=HOUR)
        for at in before:
            process.ledger.revoke(serial_of(9), at)
        process.round()
        process.ledger.revoke(serial_of(1), EPOCH - HOUR)
        assert ["full", "delta"] == process.round(10 * MINUTE)
        assert 1 == process.crl("delta").base
        assert serial_of(1) in process.listed("delta")

    def test_the_first_of_all(self, start: Start) -> None:
        """Likewise if nothing was revoked before."""
        process = start()
        process.round()
        process.ledger.revoke(serial_of(1), EPOCH - HOUR)
        assert ["full"] == process.round(2 * MINUTE)

    def test_expired_ones_are_on_one_more(self, start: Start) -> None:
        """RFC 5280, section 3.3: on one CRL issued beyond the validity."""
        process = start(interval=DAY)
        process.ledger.revoke(serial_of(1), not_after=EPOCH + HOUR)
        process.round()
        assert ["full"] == process.round(DAY)
        assert serial_of(1) in process.listed()
        assert ["full"] == process.round(DAY)
        assert {} == process.listed()

    def test_what_ends_before_one_from_the_future(self, start: Start) -> None:
        """A clock that was set back takes nothing off before its end."""
        process = start()
        process.ledger.revoke(serial_of(1), not_after=EPOCH + HOUR)
        process.clock.advance(DAY.total_seconds())
        process.ledger.revoke(serial_of(2), EPOCH + DAY)
        process.round()
        process.now.step(-DAY)
        assert ["full"] == process.round()
        assert [serial_of(1), serial_of(2)] == [*process.listed()]


class DeltaTests:
    """P-5: the delta CRL."""

    def test_first(self, start: Start) -> None:
        """With the first full one: no entries, the same number."""
        process = start(delta_interval=HOUR)
        process.ledger.revoke(serial_of(1))
        assert ["full", "delta"] == process.round()
        full, delta = process.crl(), process.crl("delta")
        assert full.number == delta.number == delta.base
        assert {} == process.listed("delta")
        assert full.this_update == delta.this_update

    def test_between_two_full_ones(self, start: Start) -> None:
        """What has changed since the base, and its number."""
        process = start(delta_interval=HOUR)
        process.ledger.revoke(serial_of(1), EPOCH - DAY, "certificateHold")
        process.ledger.revoke(serial_of(2), EPOCH - DAY)
        process.round()
        process.ledger.revoke(serial_of(3), EPOCH + HOUR / 2)
        process.ledger.release(serial_of(1), EPOCH + HOUR / 2)
        process.clock.advance(3600)
        result_of(process.publisher._signed(process.issuer, "delta"))
        assert {
            serial_of(1): "removeFromCRL",
            serial_of(3): "keyCompromise",
        } == process.listed("delta")
        crl = process.crl("delta")
        assert 1 == crl.base
        assert 2 == crl.number
        extensions = read_crl(crl.der).extensions
        indicator = extensions.get_extension_for_class(x509.DeltaCRLIndicator)
        assert indicator.critical
        assert 1 == indicator.value.crl_number
        with pytest.raises(x509.ExtensionNotFound):
            extensions.get_extension_for_class(x509.IssuingDistributionPoint)

    def test_reason_that_is_raised(self, start: Start) -> None:
        """
        RFC 5280, section 5.2.4: base and delta together say what a full CRL
        would, though the date of a revocation is before the base.
        """
        process = start(delta_interval=HOUR)
        process.ledger.revoke(serial_of(1), EPOCH - DAY, "superseded")
        process.round()
        assert {serial_of(1): "superseded"} == process.listed()
        _, former = process.ledger.rows[serial_of(1)]
        process.ledger._change(
            EPOCH + HOUR / 2, evolve(former, reason="keyCompromise")
        )
        process.clock.advance(3600)
        result_of(process.publisher._signed(process.issuer, "delta"))
        assert {serial_of(1): "keyCompromise"} == process.listed("delta")
        process.round(DAY)
        assert {serial_of(1): "keyCompromise"} == process.listed()

    def test_every_delta_interval(self, start: Start) -> None:
        """More often than the full one; its life is in proportion."""
        process = start(delta_interval=HOUR, interval=DAY, lifetime=7 * DAY)
        process.round()
        assert ["delta"] == process.round(HOUR)
        crl = process.crl("delta")
        assert 7 * HOUR == crl.next_update - crl.this_update

    def test_with_a_full_one(self, start: Start) -> None:
        """RFC 5280, section 5.2.3: one number, and the same to say."""
        process = start(delta_interval=HOUR)
        process.ledger.revoke(serial_of(1), EPOCH - DAY, "certificateHold")
        process.ledger.revoke(serial_of(2), EPOCH - DAY)
        process.round()
        old = process.listed()
        process.ledger.revoke(serial_of(3), EPOCH + HOUR)
        process.ledger.release(serial_of(1), EPOCH + HOUR)
        assert ["full", "delta"] == process.round(HOUR)

        full, delta = process.crl(), process.crl("delta")
        assert 2 == full.number == delta.number
        assert 1 == delta.base
        changes = process.listed("delta")
        combined = {
            serial: reason
            for serial, reason in {**old, **changes}.items()
            if reason != "removeFromCRL"
        }
        assert process.listed() == combined

    def test_with_a_full_one_that_is_behind(self, start: Start) -> None:
        """What is revoked meanwhile is in neither, rather than in one."""
        process = start(delta_interval=HOUR)
        process.ledger.revoke(serial_of(5))
        process.round()
        process.clock.advance(24 * 3600)
        process.ledger.meanwhile = lambda: process.ledger.revoke(
            serial_of(1), EPOCH + DAY
        )
        process.round()
        delta = process.crl("delta")
        assert process.crl().number == delta.number == delta.base
        assert {} == process.listed("delta")
        process.round(2 * MINUTE)
        assert serial_of(1) in process.listed("delta")

    def test_spares_a_large_full_one(self, start: Start) -> None:
        """After a revocation, the delta alone is signed."""
        process = start(delta_interval=HOUR)
        for number in range(SMALL + 1):
            process.ledger.rows[serial_of(number)] = _row(number)
        process.round()
        _row_later(process.ledger, SMALL + 1, EPOCH + 10 * MINUTE)
        assert ["delta"] == process.round(10 * MINUTE)
        assert [serial_of(SMALL + 1)] == [*process.listed("delta")]

    def test_only_a_base_names_it(self, start: Start) -> None:
        """RFC 5280, section 5.2.6: freshestCRL, while there are deltas."""
        process = start(delta_interval=HOUR)
        process.round()
        for scope, named in (("", True), ("delta", False)):
            found = any(
                isinstance(one.value, x509.FreshestCRL)
                for one in read_crl(process.crl(scope).der).extensions
            )
            assert named == found

    def test_after_a_process_died_in_between(self, start: Start) -> None:
        """A delta that is older than its full CRL is made up for."""
        process = start(delta_interval=HOUR)
        process.round()
        plain = start()
        plain.publisher._press, kept = plain.publisher._press, plain
        result_of(
            kept.publisher._press.complete(plain.issuer, "", process.crl())
        )
        assert ["delta"] == process.round(MINUTE)
        assert 2 == process.crl("delta").base

    def test_asked_for_before_any_round(self, start: Start) -> None:
        """It brings its base with it."""
        process = start(delta_interval=HOUR)
        assert process.crl("delta").base == process.crl().number

    def test_stays_when_it_is_turned_off(self, start: Start) -> None:
        """P-1: who knows it goes on asking for it."""
        start(delta_interval=HOUR).round()
        process = start(interval=DAY)
        assert ["full", "delta"] == process.round(DAY)
        crl = process.crl("delta")
        assert 7 * DAY == crl.next_update - crl.this_update


class PartitionTests:
    """CRLs of certificates that are divided."""

    def test_each_has_its_own(self, start: Start) -> None:
        """Its range of serials, and the URL that its certificates name."""
        process = start(partitions=2)
        for top in (0x40, 0x5F, 0x60, 0x7F):
            process.ledger.revoke(serial_of(1, top))
        assert ["full", "2/0", "2/1"] == process.round()
        assert [serial_of(1, 0x40), serial_of(1, 0x5F)] == [
            *process.listed("2/0")
        ]
        assert [serial_of(1, 0x60), serial_of(1, 0x7F)] == [
            *process.listed("2/1")
        ]
        point = read_crl(
            process.crl("2/1").der
        ).extensions.get_extension_for_class(x509.IssuingDistributionPoint)
        assert point.critical
        (name,) = point.value.full_name or ()
        assert "http://a.example/2/1.crl" == name.value

    def test_the_full_one_has_no_distribution_point(
        self, start: Start
    ) -> None:
        """RFC 5280, section 5.2.5: it is for every certificate."""
        process = start(partitions=2)
        with pytest.raises(x509.ExtensionNotFound):
            read_crl(process.crl().der).extensions.get_extension_for_class(
                x509.IssuingDistributionPoint
            )

    def test_only_the_one_concerned_is_signed_anew(self, start: Start) -> None:
        """And the full one, since it is small."""
        process = start(partitions=4)
        process.round()
        process.ledger.revoke(serial_of(1, 0x7F), EPOCH + HOUR)
        assert ["full", "4/3"] == process.round(HOUR)
        assert [] == process.round(HOUR)
        process.ledger.revoke(serial_of(2, 0x40), EPOCH + 2 * HOUR)
        assert ["full", "4/0"] == process.round(HOUR)

    def test_all_after_very_many_revocations(self, start: Start) -> None:
        """A page that is full does not tell which are concerned."""
        process = start(partitions=2)
        process.round()
        for number in range(PAGE):
            process.ledger.rows[serial_of(number)] = _row(number, EPOCH + HOUR)
        assert ["full", "2/0", "2/1"] == process.round(HOUR)

    def test_published_for_ever(self, start: Start) -> None:
        """P-1: certificates go on pointing to a division of before."""
        start(partitions=2).round()
        process = start(partitions=4, interval=DAY)
        assert {"2/0", "2/1"} <= set(process.round(DAY))
        assert ["full", "4/0", "4/1", "4/2", "4/3"] == [
            scope
            for scope in ("full", "4/0", "4/1", "4/2", "4/3")
            if process.crl("" if scope == "full" else scope)
        ]

    def test_never_without_a_url(self, start: Start) -> None:
        """Without one it would claim to be of every certificate."""
        start(partitions=2).round()
        process = start(places=Places(), interval=DAY)
        result_of(process.publisher.load())
        assert ["full"] == process.round(DAY)
        process.clock.advance(7 * 86400)
        with pytest.raises(Unavailable):
            process.crl("2/0")
        # Who asks for it does not keep the others from being signed.
        assert [] == process.failures
        assert ["full"] == process.round()
        asked = process.publisher._press.complete(process.issuer, "2/0", None)
        with pytest.raises(Unavailable):
            result_of(Deferred.fromCoroutine(asked))


class SeveralTests:
    """P-6: several processes on one store."""

    def test_takes_over(self, start: Start) -> None:
        """Who finds another's CRL signs none."""
        first, second = start(), start()
        first.round()
        assert [] == second.round(HOUR)
        assert first.crl() == second.crl()
        assert [first.crl()] == second.published

    def test_not_of_another_ca(self, start: Start) -> None:
        """Of the same name, but with another key: it is signed anew."""
        first, second = start(), start(authority=make_authority())
        first.round()
        result_of(second.publisher.load())
        assert [] == second.published
        assert ["full"] == second.round()
        assert 2 == second.crl().number

    def test_who_is_too_late_takes_over(self, start: Start) -> None:
        """An older number is refused by the store, and that is no error."""
        first, second = start(), start()

        def overtake() -> None:
            second.round()

        first.ledger.meanwhile = overtake
        assert ["full", "full"] == first.round()
        assert 2 == first.crl().number == second.crl().number
        assert [] == first.failures

    def test_too_late_for_a_new_division(self, start: Start) -> None:
        """Likewise of each scope."""
        first, second = start(delta_interval=HOUR), start(delta_interval=HOUR)
        first.ledger.meanwhile = second.round
        assert first.crl("delta") == second.crl("delta")
        assert 2 == first.crl("delta").number

    def test_looks_into_the_store_before_it_signs(self, start: Start) -> None:
        """Who has nothing yet serves what another has published."""
        first, second = start(), start()
        crl = first.crl()
        first.ledger.calls.clear()
        assert crl == second.crl()
        assert [] == first.ledger.calls


class FailureTests:
    """P-7: what fails changes nothing."""

    @pytest.fixture(autouse=True)
    def mended(self) -> Any:
        """Leave the signer as it was."""
        yield
        SIGNER.error = None
        SIGNER.forging = False

    def test_the_signer(self, start: Start) -> None:
        """The old one is served until it runs out; then the next is tried."""
        process = start(interval=DAY, lifetime=4 * DAY)
        process.round()
        SIGNER.error = Unavailable("the signer failed")
        assert [] == process.round(DAY)
        assert ["issuing"] == process.failures
        assert 1 == process.crl().number
        process.clock.advance(4 * 86400)
        for _ in range(2):
            with pytest.raises(Unavailable):
                process.crl()
        assert 2 == len(process.failures)
        SIGNER.error = None
        assert ["full"] == process.round(MINUTE)

    def test_rests_after_a_failure(self, start: Start) -> None:
        """A signer that fails is not asked again at once."""
        process = start()
        SIGNER.error = Unavailable()
        process.round()
        signed = len(SIGNER.signed)
        process.round(timedelta(seconds=5))
        assert signed == len(SIGNER.signed)
        process.round(timedelta(seconds=5))
        assert signed + 1 == len(SIGNER.signed)

    def test_the_store(self, start: Start) -> None:
        """What is in memory is served."""
        process = start()
        process.round()
        process.ledger.error = Unavailable()
        process.round(2 * DAY)
        assert ["issuing"] == process.failures
        assert 1 == process.crl().number

    def test_a_signature_that_does_not_verify(self, start: Start) -> None:
        """Nothing is saved."""
        process = start()
        SIGNER.forging = True
        assert [] == process.round()
        assert ["issuing"] == process.failures

    def test_stop(self, start: Start) -> None:
        """A stop gives up between two pages, and blames nobody."""
        process = start()
        result_of(process.publisher.stop())
        assert [] == process.round()
        with pytest.raises(Unavailable):
            process.crl()
        assert [] == process.failures


class PublishTests:
    """What the command does."""

    def test_everything(self, start: Start) -> None:
        """Each scope, due or not, in the order of the listing."""
        process = start(partitions=2, delta_interval=HOUR)
        process.round()
        made: Sequence[StoredCRL] = result_of(
            process.publisher.publish("issuing")
        )
        assert ["", "delta", "2/0", "2/1"] == [crl.scope for crl in made]
        assert all(crl.number > 3 for crl in made)

    def test_unknown(self, start: Start) -> None:
        """There is nothing to publish for an unknown authority."""
        with pytest.raises(UnknownCertificate):
            result_of(start().publisher.publish("other"))

    def test_fails(self, start: Start) -> None:
        """Who asks for it is told what is wrong."""
        process = start()
        process.ledger.error = Unavailable()
        with pytest.raises(TrstctlError):
            result_of(process.publisher.publish("issuing"))


class ReactorTests:
    """P-8: the reactor never waits."""

    def test_what_is_large_happens_elsewhere(self, start: Start) -> None:
        """Each page, and the whole."""
        process = start()
        for number in range(PAGE + 1):
            process.ledger.rows[serial_of(number)] = _row(number)
        process.round()
        assert [
            "encode_entries",
            "encode_entries",
            "write",
        ] == process.elsewhere
