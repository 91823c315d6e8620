# SPDX-License-Identifier: MIT
"""``trstctl cert revoke`` and ``trstctl cert release``: one, or very many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import Deferred

from trstctl.cli.bulk import Change, change_many
from trstctl.cli.context import (
    configuration_option,
    tenant_option,
    yes_option,
)
from trstctl.cli.main import Surroundings
from trstctl.cli.output import output_option
from trstctl.cli.selection import (
    Selection,
    filter_options,
    is_held,
    selected,
    serial_number,
    status_option,
)
from trstctl.interfaces import IStore
from trstctl.model import (
    CERTIFICATE_HOLD,
    KEY_COMPROMISE,
    REVOCATION_REASONS,
    CertificateRecord,
    CertificateStatus,
)

#: cACompromise is for the certificates of CAs (X.509, section 9.5.3.1), and
#: those are not in the inventory.
REASONS = tuple(each for each in REVOCATION_REASONS if each != "cACompromise")

_PUBLISHED = (
    "OCSP says so at once; the CRL does with the next round of the running "
    "gateway, or now by: trstctl crl publish"
)


def revocation(reason: str, around: Surroundings) -> Change:
    """Return the change that revokes, or puts on hold."""

    def is_done(record: CertificateRecord) -> bool:
        if record.status is not CertificateStatus.REVOKED:
            return False
        if reason == KEY_COMPROMISE:
            return record.revocation_reason == KEY_COMPROMISE
        return reason == CERTIFICATE_HOLD or not is_held(record)

    def make(
        store: IStore, tenant_id: str, serial: str
    ) -> Deferred[CertificateRecord]:
        return store.revoke_certificate(
            tenant_id, serial, reason, around.actor, around.now()
        )

    warnings = []
    if reason == KEY_COMPROMISE:
        warnings.append("Their keys get no certificate of this tenant again.")
    held = reason == CERTIFICATE_HOLD
    if held:
        warnings.append("trstctl cert release takes them back.")
    return Change(
        question="Put {} on hold?" if held else "Revoke {} for good?",
        past="put on hold" if held else f"revoked ({reason})",
        warnings=warnings,
        follows=f"The gateway refuses them from now on.  {_PUBLISHED}",
        is_done=is_done,
        make=make,
    )


def releasing(around: Surroundings) -> Change:
    """Return the change that takes off hold."""

    def problem(record: CertificateRecord) -> str:
        if record.status is CertificateStatus.REVOKED and not is_held(record):
            return f"it is revoked for good ({record.revocation_reason})"
        return ""

    def make(
        store: IStore, tenant_id: str, serial: str
    ) -> Deferred[CertificateRecord]:
        return store.release_certificate(
            tenant_id, serial, around.actor, around.now()
        )

    return Change(
        question="Release {}?",
        past="released",
        warnings=(),
        follows=f"The gateway accepts them again.  {_PUBLISHED}",
        problem=problem,
        is_done=lambda record: not is_held(record),
        make=make,
    )


# --- the commands -----------------------------------------------------------


def _what(
    serials: Sequence[str],
    all_: bool,
    filters: dict[str, Any],
    status: str | None,
) -> Sequence[str] | Selection:
    """
    Return what is meant: serials, or filters.

    :param status: what is looked for if no filter says it.
    :raises click.UsageError: both, or nothing: it is never all by mistake.
    """
    ways = (bool(serials), all_, any(filters.values()))
    if sum(ways) != 1:
        raise click.UsageError(
            "name either serials, or filters, or --all: a whole tenant"
        )
    if serials:
        return [serial_number(serial) for serial in serials]
    return selected({"status": status, **filters})


_dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show what would be done, and stop."
)
_all_option = click.option(
    "--all", "all_", is_flag=True, help="The whole tenant."
)


@click.command("revoke")
@click.argument("serials", metavar="[SERIAL]...", nargs=-1)
@click.option(
    "--reason",
    type=click.Choice(REASONS),
    help="As in RFC 5280, section 5.3.1.  [default: unspecified]",
)
@click.option(
    "--hold",
    is_flag=True,
    help="Only for now: the same as --reason certificateHold.",
)
@filter_options
@status_option
@_all_option
@_dry_run_option
@tenant_option
@configuration_option
@yes_option
@output_option
@click.pass_obj
def revoke(
    around: Surroundings,
    /,
    serials: tuple[str, ...],
    reason: str | None,
    hold: bool,
    all_: bool,
    dry_run: bool,
    tenant: str | None,
    path: Path | None,
    yes: bool,
    form: str,
    **filters: Any,
) -> None:
    """
    Revoke certificates, for good or on hold.

    Name them by their serial numbers, or choose them by filters.  What would
    be done is shown first.  A certificate that is revoked stays as it is,
    but one on hold can be revoked for good.
    """
    if hold and reason not in {None, CERTIFICATE_HOLD}:
        raise click.UsageError("--hold is a reason of its own")
    if hold:
        reason = CERTIFICATE_HOLD
    what = _what(serials, all_, filters, None)
    change = revocation(reason or "unspecified", around)
    change_many(change, what, tenant, path, form, dry_run, yes)


@click.command("release")
@click.argument("serials", metavar="[SERIAL]...", nargs=-1)
@filter_options
@_all_option
@_dry_run_option
@tenant_option
@configuration_option
@yes_option
@output_option
@click.pass_obj
def release(
    around: Surroundings,
    /,
    serials: tuple[str, ...],
    all_: bool,
    dry_run: bool,
    tenant: str | None,
    path: Path | None,
    yes: bool,
    form: str,
    **filters: Any,
) -> None:
    """
    Take certificates off hold.

    Filters choose among those that are on hold.
    """
    what = _what(serials, all_, filters, "held")
    change = releasing(around)
    change_many(change, what, tenant, path, form, dry_run, yes)
