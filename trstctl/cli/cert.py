# SPDX-License-Identifier: MIT
"""``trstctl cert``: the inventory of certificates."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from attrs import evolve

from trstctl.ca.ceremony import fingerprint
from trstctl.cli.context import (
    Desk,
    at_desk,
    configuration_option,
    confirm,
    tenant_option,
    yes_option,
)
from trstctl.cli.faults import Refused
from trstctl.cli.main import Surroundings
from trstctl.cli.output import (
    Listing,
    Row,
    escaped,
    output_option,
    print_one,
)
from trstctl.errors import UnknownCertificate
from trstctl.founding import to_pem
from trstctl.interfaces import IStore
from trstctl.model import (
    CertificateQuery,
    CertificateRecord,
    CertificateStatus,
)

_COLUMNS = (
    "serial",
    "subject",
    "names",
    "profile",
    "protocol",
    "principal",
    "not_after",
    "status",
    "tenant",
)

#: RFC 5280, section 5.3.1, but for what only a CRL can say.
REASONS = (
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
    "aACompromise",
)

#: Certificates that are fetched at once.
_PAGE = 1000

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _filters(command: _Command) -> _Command:
    """Give a command the options that choose certificates."""
    for option in (
        click.option("--profile", help="Only of this profile."),
        click.option(
            "--status",
            type=click.Choice([each.value for each in CertificateStatus]),
            help="Only of this status.",
        ),
        click.option(
            "--principal", help="Only whose requester this is: KIND:NAME."
        ),
        click.option(
            "--name", help="Only with exactly this common or other name."
        ),
    ):
        command = option(command)
    return command


def _query(filters: dict[str, str | None]) -> CertificateQuery:
    """Return the query that the filters ask for; its tenant is open."""
    status = filters["status"]
    return CertificateQuery(
        tenant_id="",
        status=CertificateStatus(status) if status else None,
        profile=filters["profile"],
        principal=filters["principal"],
        name=filters["name"],
    )


async def _pages(
    store: IStore, query: CertificateQuery, limit: int
) -> AsyncIterator[CertificateRecord]:
    """Yield what the query finds, up to a limit; 0 means no limit."""
    left = limit
    while True:
        size = min(_PAGE, left) if limit else _PAGE
        page = await store.list_certificates(evolve(query, limit=size))
        for record in page:
            yield record
        left -= len(page)
        if len(page) < size or (limit and not left):
            return
        query = evolve(query, after=page[-1].serial)


@click.group("cert")
def command() -> None:
    """List, show, revoke and export certificates."""


@command.command("list")
@_filters
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
    **filters: str | None,
) -> None:
    """List certificates, the newest first."""
    desk = at_desk(path)
    query = evolve(_query(filters), after=after and _serial(after))
    if after and len(desk.tenants(tenant)) > 1:
        raise Refused("--after needs --tenant: a page is of one tenant")
    last: list[str] = []

    async def read(store: IStore) -> None:
        listing = Listing(_COLUMNS, form)
        for tenant_id in desk.tenants(tenant):
            here = evolve(query, tenant_id=tenant_id)
            count, serial = 0, ""
            async for record in _pages(store, here, limit):
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
@_filters
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
    **filters: str | None,
) -> None:
    """List certificates that are valid and will soon end, soonest first."""
    desk = at_desk(path)
    now = around.now()
    query = evolve(_query(filters), expiring_before=now + timedelta(days=days))

    async def read(store: IStore) -> None:
        listing = Listing(("days_left", *_COLUMNS), form)
        for tenant_id in desk.tenants(tenant):
            here = evolve(query, tenant_id=tenant_id)
            async for record in _pages(store, here, 0):
                left = record.not_after - now
                if left > timedelta():
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
        "status": record.status.value,
        "tenant": record.tenant_id,
    }


def _serial(text: str) -> str:
    """Return a serial number as the inventory has it: ``AB:CD`` is fine."""
    plain = text.replace(":", "").lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{1,40}", plain):
        raise click.UsageError(f"{text!r} is no serial number")
    return plain.lstrip("0") or "0"


async def _found(
    desk: Desk, store: IStore, tenant: str | None, serial: str
) -> CertificateRecord:
    """Return a certificate of the tenant, or of whichever has it."""
    for tenant_id in desk.tenants(tenant):
        record = await store.find_certificate(tenant_id, _serial(serial))
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

    async def read(store: IStore) -> CertificateRecord:
        return await _found(desk, store, tenant, serial)

    record = desk.with_store(read)
    print_one(
        {
            "authority": record.authority,
            **_row(record),
            "issued_at": record.issued_at,
            "not_before": record.not_before,
            "public_key_sha256": record.public_key_fingerprint,
            "sha256": fingerprint(record.der),
            "revoked_at": record.revoked_at,
            "revocation_reason": record.revocation_reason or None,
        },
        form,
    )


@command.command("revoke")
@click.argument("serial")
@click.option(
    "--reason",
    type=click.Choice(REASONS),
    default="unspecified",
    show_default=True,
    help="As in RFC 5280, section 5.3.1.",
)
@tenant_option
@configuration_option
@yes_option
@click.pass_obj
def revoke(
    around: Surroundings,
    /,
    serial: str,
    reason: str,
    tenant: str | None,
    path: Path | None,
    yes: bool,
) -> None:
    """Revoke a certificate, for good."""
    desk = at_desk(path)
    tenant_id = desk.tenant(tenant)

    async def act(store: IStore) -> CertificateRecord:
        record = await _found(desk, store, tenant_id, serial)
        for key in ("serial", "subject", "profile", "principal"):
            text = escaped(getattr(record, key))
            click.echo(f"{key:11}{text}", err=True)
        if record.status is not CertificateStatus.REVOKED:
            confirm("Revoke it for good?", yes)
        return await store.revoke_certificate(
            tenant_id, record.serial, reason, around.actor, around.now()
        )

    record = desk.with_store(act)
    click.echo(f"Revoked {record.serial} ({record.revocation_reason}).")


@command.command("export")
@click.option("--serial", help="One certificate, instead of many.")
@_filters
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
    **filters: str | None,
) -> None:
    """Write certificates to standard output."""
    if encoding == "der" and serial is None:
        raise click.UsageError("--format der needs --serial")
    if serial is not None and any(filters.values()):
        raise click.UsageError("--serial names one certificate; no filters")
    desk = at_desk(path)

    async def write(store: IStore) -> None:
        if serial is not None:
            record = await _found(desk, store, tenant, serial)
            _write(record.der, encoding)
            return
        for tenant_id in desk.tenants(tenant):
            query = evolve(_query(filters), tenant_id=tenant_id)
            async for found in _pages(store, query, 0):
                whole = await store.find_certificate(tenant_id, found.serial)
                assert whole is not None
                _write(whole.der, encoding)

    desk.with_store(write)


def _write(der: bytes, encoding: str) -> None:
    """Write one certificate."""
    sys.stdout.flush()
    sys.stdout.buffer.write(der if encoding == "der" else to_pem([der]))
    sys.stdout.buffer.flush()
