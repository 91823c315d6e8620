# SPDX-License-Identifier: MIT
"""
Changes of many certificates: look, show, ask, do, tell.

What was shown is what is done: certificates that are issued meanwhile are
not touched.  Whatever stops a run half-way, the same command goes on where
it ended.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from attrs import define, field, frozen
from twisted.internet.defer import Deferred, gatherResults

from trstctl.cli.context import at_desk, confirm
from trstctl.cli.output import Listing, Row, escaped
from trstctl.cli.selection import Selection, found, status_of
from trstctl.errors import RequestError, ServiceError
from trstctl.interfaces import IStore
from trstctl.model import CertificateRecord

_COLUMNS = (
    "serial",
    "subject",
    "outcome",
    "status",
    "revoked_at",
    "revocation_reason",
    "problem",
)

#: Certificates that are changed at once: they share a commit.
_BATCH = 200

#: Certificates that a preview shows.
_SHOWN = 10

_DONE, _ALREADY, _FAILED, _WOULD = "done", "already", "failed", "would"


def _no_problem(_: CertificateRecord) -> str:
    """Every certificate can be changed."""
    return ""


@frozen
class Change:
    """
    What is done to each certificate.

    :ivar question: what to ask, with a place for how many.
    :ivar past: the word of the summary for what was done.
    :ivar warnings: what else it brings about.
    :ivar follows: what the operator should know once it is done.
    :ivar is_done: whether a certificate needs no change (any more).
    :ivar make: changes one, by tenant and serial.
    :ivar problem: why a certificate cannot be changed, or empty.
    """

    question: str
    past: str
    warnings: Sequence[str]
    follows: str
    is_done: Callable[[CertificateRecord], bool]
    make: Callable[[IStore, str, str], Deferred[CertificateRecord]]
    problem: Callable[[CertificateRecord], str] = _no_problem


# --- look -------------------------------------------------------------------


@define
class Plan:
    """
    What a command is about to do.

    :ivar serials: of the certificates to change, and nothing else of them:
        there may be a million.
    :ivar first: some of these certificates, to be shown.
    :ivar already: how many need no change.
    :ivar rows: what is known of the serials that were named and will not be
        changed.
    """

    serials: list[str] = field(factory=list)
    first: list[CertificateRecord] = field(factory=list)
    already: int = 0
    rows: list[Row] = field(factory=list)

    def take(
        self, record: CertificateRecord, change: Change, *, named: bool
    ) -> bool:
        """Place a certificate; return whether it is to be changed."""
        problem = change.problem(record)
        if problem:
            self.rows.append(_failure(record.serial, problem, record))
        elif change.is_done(record):
            self.already += 1
            if named:
                self.rows.append(_row(record, _ALREADY))
        else:
            self.serials.append(record.serial)
            if len(self.first) < _SHOWN:
                self.first.append(record)
            return True
        return False


async def planned(
    store: IStore,
    tenant_id: str,
    change: Change,
    what: Sequence[str] | Selection,
    tell: Callable[[Sequence[Row]], None] | None = None,
) -> Plan:
    """
    Look at every certificate that is meant; change nothing.

    :param what: serials, or filters.
    :param tell: takes a row for each that would be changed.
    """
    plan = Plan()

    def take(record: CertificateRecord, *, named: bool) -> None:
        if plan.take(record, change, named=named) and tell is not None:
            tell([_row(record, _WOULD)])

    if isinstance(what, Selection):
        async for record in found(store, what, tenant_id):
            take(record, named=False)
        return plan
    for serial in dict.fromkeys(what):
        one = await store.find_certificate(tenant_id, serial)
        if one is None:
            problem = "no such certificate in this tenant"
            plan.rows.append(_failure(serial, problem))
        else:
            take(one, named=True)
    return plan


def _preview(plan: Plan, change: Change, tenant_id: str) -> None:
    """Say on standard error what would be done, and to what."""
    count = len(plan.serials)
    if count:
        click.echo(
            f"{_many(count)} of tenant {tenant_id} would be {change.past}:",
            err=True,
        )
    for record in plan.first:
        texts = (record.subject, record.profile, record.principal)
        click.echo(
            "  ".join(("", record.serial, *map(escaped, texts))), err=True
        )
    if count > len(plan.first):
        click.echo(f"  and {count - len(plan.first)} more", err=True)
    for warning in change.warnings if count else ():
        click.echo(warning, err=True)


# --- do ---------------------------------------------------------------------


async def carry_out(
    store: IStore,
    tenant_id: str,
    change: Change,
    serials: Sequence[str],
    tell: Callable[[Sequence[Row]], None],
) -> None:
    """
    Change certificates, a batch at a time.

    :param tell: takes what became of a batch, once it is durable.
    :raises ServiceError: the store fails; what was told is done.
    """

    async def one(serial: str) -> Row | ServiceError:
        try:
            record = await change.make(store, tenant_id, serial)
        except RequestError as error:
            return _failure(serial, error.detail)
        except ServiceError as error:
            return error
        return _row(record, _DONE)

    for at in range(0, len(serials), _BATCH):
        outcomes = await gatherResults(
            [
                Deferred.fromCoroutine(one(serial))
                for serial in serials[at : at + _BATCH]
            ]
        )
        tell([each for each in outcomes if not isinstance(each, ServiceError)])
        for each in outcomes:
            if isinstance(each, ServiceError):
                raise each


def _row(record: CertificateRecord, outcome: str) -> Row:
    """Return what became of a certificate, as a row."""
    return {
        "serial": record.serial,
        "subject": record.subject,
        "outcome": outcome,
        "status": status_of(record),
        "revoked_at": record.revoked_at,
        "revocation_reason": record.revocation_reason or None,
        "problem": None,
    }


def _failure(
    serial: str, problem: str, record: CertificateRecord | None = None
) -> Row:
    """Return a serial that cannot be changed, as a row."""
    known = dict.fromkeys(_COLUMNS) if record is None else _row(record, "")
    return {
        **known,
        "serial": serial,
        "outcome": _FAILED,
        "problem": problem,
    }


def _many(count: int) -> str:
    """Return so many certificates in words."""
    return f"{count} certificate{'' if count == 1 else 's'}"


# --- tell -------------------------------------------------------------------


class Report:
    """
    Prints what became of each certificate, and counts.

    For people, only what they named and what failed has a row: nobody reads
    a table of a hundred thousand.

    :param every: whether people want every row.
    :ivar planned: whether anything was to be changed.
    """

    planned = False

    def __init__(self, form: str, *, every: bool) -> None:
        self.counts = dict.fromkeys((_DONE, _WOULD, _ALREADY, _FAILED), 0)
        self._table = form == "table"
        self._every = every
        self._form = form
        self._listing: Listing | None = None
        if not self._table:
            self._listing = Listing(_COLUMNS, form)

    def take(self, rows: Sequence[Row]) -> None:
        """Count, and print."""
        for row in rows:
            self.counts[str(row["outcome"])] += 1
            if self._table and not (self._every or row["outcome"] == _FAILED):
                continue
            if self._listing is None:
                self._listing = Listing(_COLUMNS, self._form)
            self._listing.add(row)

    def close(self, past: str) -> None:
        """Print what is left, and the summary."""
        if self._listing is not None:
            self._listing.close()
        words = {
            _DONE: past,
            _WOULD: f"would be {past}",
            _ALREADY: "needed no change",
            _FAILED: "failed",
        }
        parts = [
            f"{count} {words[outcome]}"
            for outcome, count in self.counts.items()
            if count
        ]
        told = ", ".join(parts) or "no certificate was found"
        if parts or not self.planned:
            click.echo(f"{told}.", err=not self._table)


# --- all of it -----------------------------------------------------------


def change_many(
    change: Change,
    what: Sequence[str] | Selection,
    tenant: str | None,
    path: Path | None,
    form: str,
    dry_run: bool,
    yes: bool,
) -> None:
    """Look, show, ask, do, tell."""
    desk = at_desk(path)
    tenant_id = desk.tenant(tenant)

    async def act(store: IStore) -> Report:
        report = Report(form, every=not isinstance(what, Selection))
        try:
            plan = await planned(
                store,
                tenant_id,
                change,
                what,
                report.take if dry_run else None,
            )
            report.take(plan.rows)
            report.counts[_ALREADY] = plan.already
            _preview(plan, change, tenant_id)
            report.planned = bool(plan.serials)
            if plan.serials and not dry_run:
                confirm(change.question.format(_many(len(plan.serials))), yes)
                await _watched(store, tenant_id, change, plan, report)
        finally:
            report.close(change.past)
        return report

    counts = desk.with_store(act).counts
    if counts[_DONE]:
        click.echo(change.follows, err=True)
    if counts[_FAILED]:
        raise click.exceptions.Exit(1)


async def _watched(
    store: IStore,
    tenant_id: str,
    change: Change,
    plan: Plan,
    report: Report,
) -> None:
    """Carry a plan out, with progress on standard error."""
    bar = click.progressbar(
        length=len(plan.serials),
        label="Changing certificates",
        file=sys.stderr,
        hidden=len(plan.serials) <= _BATCH,
    )

    def tell(rows: Sequence[Row]) -> None:
        report.take(rows)
        bar.update(len(rows))

    try:
        with bar:
            await carry_out(store, tenant_id, change, plan.serials, tell)
    except ServiceError:
        click.echo(
            "It ended half-way; the same command goes on from there.",
            err=True,
        )
        raise
