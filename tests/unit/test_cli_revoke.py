# SPDX-License-Identifier: MIT
"""``trstctl cert revoke`` and ``trstctl cert release``."""

from __future__ import annotations

import csv
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import define, field
from cli_state import OTHER, TENANT, State, state
from click.testing import Result
from twisted.internet.defer import Deferred, fail, succeed

from trstctl.cli import bulk
from trstctl.cli.bulk import carry_out
from trstctl.cli.main import Surroundings
from trstctl.cli.revoke import REASONS, revocation
from trstctl.errors import Unavailable, UnknownCertificate
from trstctl.model import (
    CertificateRecord,
    CertificateStatus,
)
from trstctl.testing.time import EPOCH

__all__ = ["state"]


def status(state: State, serial: str) -> tuple[str, str | None]:
    """Return a certificate's status and reason."""
    row = state.listed("cert", "show", serial)
    return row["status"], row["revocation_reason"]


def three(state: State) -> list[str]:
    """Issue three certificates; return their serials."""
    return [state.issued(f"device-{n}").serial for n in range(3)]


def words(result: Result) -> str:
    """Return standard error on one line."""
    return " ".join(result.stderr.split())


def audited(state: State, event: str) -> int:
    """Return how many records of an event there are."""
    exported = state.run("audit", "export").stdout
    return sum(
        json.loads(json.loads(line)["body"])["event"] == event
        for line in exported.splitlines()
    )


class RevokeTests:
    """One or several, by their serial numbers."""

    def test_asks(self, state: State) -> None:
        """Shows what it is about; without an answer nothing happens."""
        serial = state.issued().serial
        silent = state.run("cert", "revoke", serial, status=1)
        assert f"1 certificate of tenant {TENANT} would be" in silent.stderr
        assert f"{serial}  CN=device-1  device  " in silent.stderr
        assert "--yes" in silent.stderr
        refused = state.run("cert", "revoke", serial, status=1, stdin="n\n")
        assert "Revoke 1 certificate for good?" in refused.stderr
        assert ("valid", None) == status(state, serial)
        result = state.run("cert", "revoke", serial, stdin="y\n")
        assert "1 revoked (unspecified).\n" in result.stdout
        assert ("revoked", "unspecified") == status(state, serial)

    def test_says_what_follows(self, state: State) -> None:
        """The gateway and OCSP know at once, a CRL needs a round."""
        serial = state.issued().serial
        result = state.run("cert", "revoke", serial, "--yes")
        told = words(result)
        assert "refuses them from now on" in told
        assert "OCSP says so at once" in told
        assert "trstctl crl publish" in told
        again = state.run("cert", "revoke", serial)
        assert "OCSP" not in again.stderr

    @pytest.mark.parametrize("reason", REASONS)
    def test_reasons(self, state: State, reason: str) -> None:
        """RFC 5280, section 5.3.1: every reason of an end entity."""
        serial = state.issued().serial
        state.run("cert", "revoke", serial, "--reason", reason, "--yes")
        expected = "held" if reason == "certificateHold" else "revoked"
        assert (expected, reason) == status(state, serial)

    @pytest.mark.parametrize("reason", ["cACompromise", "removeFromCRL"])
    def test_other_reasons(self, state: State, reason: str) -> None:
        """A device is no CA, and only a delta CRL removes."""
        state.run("cert", "revoke", "1", "--reason", reason, status=2)

    def test_compromised_key(self, state: State) -> None:
        """That the key is lost is said before."""
        serial = state.issued().serial
        result = state.run(
            *("cert", "revoke", serial, "--reason", "keyCompromise"),
            "--dry-run",
        )
        assert "keys get no certificate" in result.stderr

    def test_keeps_the_first_reason(self, state: State) -> None:
        """Again is no error, asks nothing, and changes nothing."""
        serial = state.issued().serial
        reason = ("--reason", "keyCompromise")
        state.run("cert", "revoke", serial, *reason, "--yes")
        again = state.run("cert", "revoke", serial)
        assert "already  revoked" in again.stdout
        assert "keyCompromise" in again.stdout
        assert "1 needed no change.\n" in again.stdout
        assert 1 == audited(state, "certificate.revoked")
        assert "operator:test" in state.run("audit", "export").stdout

    def test_raised_to_compromise(self, state: State) -> None:
        """What was revoked for another reason takes this one, once."""
        serial = state.issued().serial
        state.run("cert", "revoke", serial, "--yes")
        reason = ("--reason", "keyCompromise", "--yes")
        result = state.run("cert", "revoke", serial, *reason)
        assert "needed no change" not in result.stdout
        assert ("revoked", "keyCompromise") == status(state, serial)
        again = state.run("cert", "revoke", serial, *reason)
        assert "1 needed no change.\n" in again.stdout
        assert 2 == audited(state, "certificate.revoked")

    def test_several(self, state: State) -> None:
        """Each has its row; what failed does not stop the others."""
        serials = three(state)
        state.run("cert", "revoke", serials[0], "--yes")
        shown = bytes.fromhex(serials[2]).hex(":").upper()
        result = state.run(
            *("cert", "revoke", *serials[:2], "abc", shown, serials[2]),
            *("--yes", "--output", "json"),
            status=1,
        )
        rows = json.loads(result.stdout)
        assert {
            serials[0]: ("already", "revoked"),
            serials[1]: ("done", "revoked"),
            serials[2]: ("done", "revoked"),
            "abc": ("failed", None),
        } == {row["serial"]: (row["outcome"], row["status"]) for row in rows}
        assert 4 == len(rows)
        assert "2 revoked (unspecified), 1 needed no change, 1 failed" in (
            result.stderr
        )

    def test_csv(self, state: State) -> None:
        """As CSV, too, the summary apart from it."""
        serial = state.issued().serial
        result = state.run("cert", "revoke", serial, "--yes", "-o", "csv")
        (row,) = csv.DictReader(result.stdout.splitlines())
        assert (serial, "done", "CN=device-1") == (
            row["serial"],
            row["outcome"],
            row["subject"],
        )

    def test_another_tenants(self, state: State) -> None:
        """What belongs to another tenant does not exist."""
        serial = state.issued(tenant_id=OTHER).serial
        result = state.run("cert", "revoke", serial, "--yes", status=1)
        assert "no such certificate in this tenant" in result.stdout
        state.run("cert", "revoke", serial, "--yes", "--tenant", OTHER)

    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("1", "--all"),
            ("1", "--profile", "device"),
            ("--all", "--profile", "device"),
            ("xyz",),
            ("1", "--hold", "--reason", "superseded"),
        ],
    )
    def test_usage(self, state: State, arguments: tuple[str, ...]) -> None:
        """Never all by mistake."""
        state.run("cert", "revoke", *arguments, "--yes", status=2)


class HoldTests:
    """On hold, and off it."""

    def test_hold_and_release(self, state: State) -> None:
        """Both may be repeated; each is audited once."""
        serial = state.issued().serial
        hold = state.run("cert", "revoke", serial, "--hold", stdin="y\n")
        assert "Put 1 certificate on hold?" in hold.stderr
        assert "trstctl cert release takes them back" in hold.stderr
        state.run("cert", "revoke", serial, "--hold")
        assert ("held", "certificateHold") == status(state, serial)
        state.run("cert", "release", serial, status=1)
        result = state.run("cert", "release", serial, stdin="y\n")
        assert "Release 1 certificate?" in result.stderr
        assert "accepts them again" in result.stderr
        assert "1 released.\n" in result.stdout
        again = state.run("cert", "release", serial)
        assert "1 needed no change" in again.stdout
        assert ("valid", None) == status(state, serial)
        assert 1 == audited(state, "certificate.revoked")
        assert 1 == audited(state, "certificate.released")

    def test_for_good(self, state: State) -> None:
        """One on hold can be revoked for good, and is not released then."""
        serial = state.issued().serial
        state.run("cert", "revoke", serial, "--hold", "--yes")
        reason = ("--reason", "keyCompromise")
        state.run("cert", "revoke", serial, *reason, "--yes")
        assert ("revoked", "keyCompromise") == status(state, serial)
        state.run("cert", "revoke", serial, "--hold", "--yes")
        assert ("revoked", "keyCompromise") == status(state, serial)
        (row,) = state.listed("cert", "release", serial, status=1)
        assert "failed" == row["outcome"]
        assert "for good (keyCompromise)" in row["problem"]
        assert "CN=device-1" == row["subject"]

    def test_release_by_filter(self, state: State) -> None:
        """Filters choose among what is on hold."""
        serials = three(state)
        state.run("cert", "revoke", *serials[:2], "--hold", "--yes")
        state.run("cert", "revoke", serials[2], "--yes")
        result = state.run("cert", "release", "--name", "device-0", "--yes")
        assert "1 released.\n" == result.stdout
        result = state.run("cert", "release", "--all", "--yes")
        assert "1 released.\n" == result.stdout
        assert ["valid", "valid", "revoked"] == [
            status(state, serial)[0] for serial in serials
        ]


class FilterTests:
    """Many at once."""

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--profile", "tls-client"),
            ("--name", "other"),
            ("--issued-after", "2026-06-02"),
        ],
    )
    def test_filters(self, state: State, option: str, value: str) -> None:
        """What the filter finds, and nothing else."""
        serials = three(state)
        state.now += timedelta(days=1)
        other = state.issued("other", profile="tls-client").serial
        result = state.run("cert", "revoke", option, value, "--yes")
        assert "1 revoked (unspecified).\n" == result.stdout
        assert "revoked" == status(state, other)[0]
        assert {"valid"} == {status(state, each)[0] for each in serials}

    def test_dry_run(self, state: State) -> None:
        """Shows every one, asks nothing, changes nothing."""
        serials = three(state)
        state.run("cert", "revoke", serials[0], "--yes")
        result = state.run(
            "cert", "revoke", "--all", "--dry-run", "-o", "json"
        )
        rows = json.loads(result.stdout)
        assert [(serials[2], "would"), (serials[1], "would")] == [
            (row["serial"], row["outcome"]) for row in rows
        ]
        assert (
            "2 would be revoked (unspecified), 1 needed no change"
            in result.stderr
        )
        assert ("valid", None) == status(state, serials[1])
        people = state.run("cert", "revoke", "--all", "--dry-run")
        assert 1 == len(people.stdout.splitlines())

    def test_preview_is_short(
        self, state: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first rows, and how many more."""
        monkeypatch.setattr(bulk, "_SHOWN", 2)
        three(state)
        result = state.run("cert", "revoke", "--all", "--dry-run")
        assert "CN=device-2" in result.stderr
        assert "CN=device-0" not in result.stderr
        assert "  and 1 more\n" in result.stderr

    def test_nothing_found(self, state: State) -> None:
        """It is no error: it may be the second run."""
        result = state.run("cert", "revoke", "--name", "nobody")
        assert "no certificate was found.\n" == result.stdout

    @pytest.mark.parametrize(
        ("said", "told"), [("n\n", "nothing was done"), ("", "add --yes")]
    )
    def test_found_but_not_confirmed(
        self, state: State, said: str, told: str
    ) -> None:
        """What was found and left alone is not called missing."""
        three(state)
        result = state.run("cert", "revoke", "--all", status=1, stdin=said)
        assert told in result.stderr
        assert "" == result.stdout

    def test_batches(
        self, state: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A batch at a time, with progress on standard error."""
        monkeypatch.setattr(bulk, "_BATCH", 2)
        serials = three(state)
        result = state.run("cert", "revoke", "--all", "--yes", "-o", "json")
        assert "Changing certificates" in result.stderr
        assert set(serials) == {
            row["serial"] for row in json.loads(result.stdout)
        }

    def test_held_for_good(self, state: State) -> None:
        """What is on hold can be chosen and made final."""
        serials = three(state)
        state.run("cert", "revoke", serials[0], "--hold", "--yes")
        state.run(
            *("cert", "revoke", "--status", "held", "--yes"),
            *("--reason", "privilegeWithdrawn"),
        )
        assert ("revoked", "privilegeWithdrawn") == status(state, serials[0])
        assert ("valid", None) == status(state, serials[1])


@define
class FailingStore:
    """
    Revokes, until it cannot write any more.

    :ivar left: how often it still can.
    :ivar unknown: a serial that it does not know.
    """

    left: int
    unknown: str = ""
    revoked: list[str] = field(factory=list)

    def revoke_certificate(
        self,
        tenant_id: str,
        serial: str,
        reason: str,
        actor: str,
        now: datetime,
    ) -> Deferred[CertificateRecord]:
        """Revoke one more."""
        if serial == self.unknown:
            return fail(UnknownCertificate())
        if not self.left:
            return fail(Unavailable("the disk is full"))
        self.left -= 1
        self.revoked.append(serial)
        return succeed(
            CertificateRecord(
                tenant_id=tenant_id,
                authority="issuing",
                serial=serial,
                subject="CN=a",
                names=(),
                profile="device",
                protocol="est",
                principal="basic:a",
                public_key_fingerprint="",
                not_before=now,
                not_after=now,
                status=CertificateStatus.REVOKED,
                issued_at=now,
                revoked_at=now,
                revocation_reason=reason,
            )
        )


class FaultTests:
    """The store fails in between."""

    def carried(self, store: Any, serials: list[str]) -> Deferred[list[Any]]:
        """Revoke; the rows that were told, then what was raised."""
        around = Surroundings(lambda: EPOCH, bytes, "operator:test")
        told: list[Any] = []
        done = Deferred.fromCoroutine(
            carry_out(
                store,
                TENANT,
                revocation("unspecified", around),
                serials,
                told.extend,
            )
        )
        return done.addErrback(
            lambda reason: told.append(reason.value)
        ).addCallback(lambda _: told)

    def test_what_is_done_is_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A store that fails ends the run, behind what it has done."""
        monkeypatch.setattr(bulk, "_BATCH", 2)
        store = FailingStore(3)
        rows: list[Any] = []
        self.carried(store, ["1", "2", "3", "4", "5"]).addCallback(rows.extend)
        *done, error = rows
        assert ["1", "2", "3"] == [row["serial"] for row in done]
        assert isinstance(error, Unavailable)
        assert ["1", "2", "3"] == store.revoked

    def test_one_that_fails_stops_nothing(self) -> None:
        """It has gone in the meantime: the next one is still tried."""
        rows: list[Any] = []
        store = FailingStore(9, unknown="1")
        self.carried(store, ["1", "2"]).addCallback(rows.extend)
        assert [("failed", "no such certificate"), ("done", None)] == [
            (row["outcome"], row["problem"]) for row in rows
        ]

    def test_half_way(
        self, state: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is done is printed, and the second run does the rest."""
        monkeypatch.setattr(bulk, "_BATCH", 1)
        serials = three(state)

        async def broken(*arguments: Any) -> None:
            await carry_out(*arguments[:3], serials[:1], arguments[4])
            raise Unavailable("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(bulk, "carry_out", broken)
            result = state.run(
                *("cert", "revoke", "--all", "--yes", "-o", "json"), status=1
            )
        assert serials[:1] == [
            row["serial"] for row in json.loads(result.stdout)
        ]
        assert "the same command goes on" in result.stderr
        assert "the disk is full" in result.stderr
        again = state.run("cert", "revoke", "--all", "--yes")
        assert "2 revoked (unspecified), 1 needed no change.\n" == again.stdout
        assert 3 == audited(state, "certificate.revoked")
