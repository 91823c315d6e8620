# SPDX-License-Identifier: MIT
"""``trstctl cert``: the inventory of certificates."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from trstctl.backends.keyfiles import to_pem
from trstctl.ca.ceremony import fingerprint
from trstctl.cli.context import (
    Desk,
    at_desk,
    configuration_option,
    tenant_option,
)
from trstctl.cli.faults import Refused
from trstctl.cli.main import Surroundings
from trstctl.cli.output import Listing, Row, output_option, print_one
from trstctl.cli.revoke import release, revoke
from trstctl.cli.selection import (
    filter_options,
    found,
    selected,
    serial_number,
    status_of,
    status_option,
)
from trstctl.errors import UnknownCertificate
from trstctl.interfaces import IStore
from trstctl.model import CertificateRecord, SerialStatus

_COLUMNS = (
    "serial",
    "subject",
    "names",
    "profile",
    "protocol",
    "principal",
    "not_after",
    "status",
    "revoked_at",
    "revocation_reason",
    "tenant",
)


@click.group("cert")
def command() -> None:
    """List, show, revoke and export certificates."""


command.add_command(revoke)
command.add_command(release)


@command.command("list")
@filter_options
@status_option
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    help="At most so many of a tenant; 0 means all.",
)
@click.option(
    "--after", metavar="SERIAL", help="Go on after the last one of a page."
)
@tenant_option
@configuration_option
@output_option
def list_(
    limit: int,
    after: str | None,
    tenant: str | None,
    path: Path | None,
    form: str,
    **filters: Any,
) -> None:
    """List certificates, the newest first."""
    desk = at_desk(path)
    selection = selected(filters)
    if after:
        query = evolve(selection.query, after=serial_number(after))
        selection = evolve(selection, query=query)
    if after and len(desk.tenants(tenant)) > 1:
        raise Refused("--after needs --tenant: a page is of one tenant")
    last: list[str] = []

    async def read(store: IStore) -> None:
        listing = Listing(_COLUMNS, form)
        for tenant_id in desk.tenants(tenant):
            count, serial = 0, ""
            async for record in found(store, selection, tenant_id, limit):
                listing.add(_row(record))
                count, serial = count + 1, record.serial
            if limit and count == limit:
                last.append(f"--tenant {tenant_id} --after {serial}")
        listing.close()

    desk.with_store(read)
    for each in last:
        click.echo(f"There may be more: add {each}, or --limit 0", err=True)


@command.command("expiring")
@click.option(
    "--days",
    type=click.IntRange(1, 36500),
    default=30,
    show_default=True,
    help="Within so many days.",
)
@filter_options
@status_option
@tenant_option
@configuration_option
@output_option
@click.pass_obj
def expiring(
    around: Surroundings,
    /,
    days: int,
    tenant: str | None,
    path: Path | None,
    form: str,
    **filters: Any,
) -> None:
    """List certificates that are valid and will soon end, soonest first."""
    desk = at_desk(path)
    now = around.now()
    selection = selected(filters)
    end = now + timedelta(days=days)
    query = evolve(selection.query, expiring_after=now, expiring_before=end)
    soon = evolve(selection, query=query)

    async def read(store: IStore) -> None:
        listing = Listing(("days_left", *_COLUMNS), form)
        for tenant_id in desk.tenants(tenant):
            async for record in found(store, soon, tenant_id):
                left = record.not_after - now
                listing.add({"days_left": left.days, **_row(record)})
        listing.close()

    desk.with_store(read)


def _row(record: CertificateRecord) -> Row:
    """Return a certificate as a row."""
    return {
        "serial": record.serial,
        "subject": record.subject,
        "names": [str(name) for name in record.names],
        "profile": record.profile,
        "protocol": record.protocol,
        "principal": record.principal,
        "not_after": record.not_after,
        "status": status_of(record),
        "revoked_at": record.revoked_at,
        "revocation_reason": record.revocation_reason or None,
        "tenant": record.tenant_id,
    }


async def _found(
    desk: Desk, store: IStore, tenant: str | None, serial: str
) -> CertificateRecord:
    """Return a certificate of the tenant, or of whichever has it."""
    number = serial_number(serial)
    for tenant_id in desk.tenants(tenant):
        record = await store.find_certificate(tenant_id, number)
        if record is not None:
            return record
    raise UnknownCertificate(f"no certificate has the serial {serial}")


@command.command("show")
@click.argument("serial")
@tenant_option
@configuration_option
@output_option
def show(
    serial: str, tenant: str | None, path: Path | None, form: str
) -> None:
    """Show all that is known of a certificate."""
    desk = at_desk(path)

    async def read(
        store: IStore,
    ) -> tuple[CertificateRecord, SerialStatus | None]:
        record = await _found(desk, store, tenant, serial)
        return record, await store.find_status(record.authority, record.serial)

    record, status = desk.with_store(read)
    assert status is not None
    print_one(
        {
            "authority": record.authority,
            **_row(record),
            "issued_at": record.issued_at,
            "not_before": record.not_before,
            "public_key_sha256": record.public_key_fingerprint,
            "sha256": fingerprint(record.der),
            "released_at": status.released_at,
        },
        form,
    )


@command.command("export")
@click.option("--serial", help="One certificate, instead of many.")
@filter_options
@status_option
@click.option(
    "--format",
    "encoding",
    type=click.Choice(("pem", "der")),
    default="pem",
    show_default=True,
    help="DER needs --serial.",
)
@tenant_option
@configuration_option
def export(
    serial: str | None,
    encoding: str,
    tenant: str | None,
    path: Path | None,
    **filters: Any,
) -> None:
    """Write certificates to standard output."""
    if encoding == "der" and serial is None:
        raise click.UsageError("--format der needs --serial")
    if serial is not None and any(filters.values()):
        raise click.UsageError("--serial names one certificate; no filters")
    desk = at_desk(path)
    selection = selected(filters)

    async def write(store: IStore) -> None:
        if serial is not None:
            record = await _found(desk, store, tenant, serial)
            _write(record.der, encoding)
            return
        for tenant_id in desk.tenants(tenant):
            async for each in found(store, selection, tenant_id):
                whole = await store.find_certificate(tenant_id, each.serial)
                assert whole is not None
                _write(whole.der, encoding)

    desk.with_store(write)


def _write(der: bytes, encoding: str) -> None:
    """Write one certificate."""
    sys.stdout.flush()
    sys.stdout.buffer.write(der if encoding == "der" else to_pem([der]))
    sys.stdout.buffer.flush()
