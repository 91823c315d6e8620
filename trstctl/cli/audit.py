# SPDX-License-Identifier: MIT
"""``trstctl audit``: verify the audit log's chains, and export them."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import click

from trstctl.audit import ChainFault, ChainHead, verify_records
from trstctl.backends.keyfiles import replace_file
from trstctl.cli.context import at_desk, configuration_option
from trstctl.cli.faults import Refused
from trstctl.interfaces import IStore
from trstctl.model import AuditRecord

#: Records that are read at once.
_PAGE = 5000

Heads = Mapping[str, ChainHead]


@click.group("audit")
def command() -> None:
    """Verify and export the audit log."""


@command.command("verify")
@click.option(
    "--head",
    "head_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What an earlier export ended with; shows a tail that was cut.",
)
@configuration_option
def verify(head_file: Path | None, path: Path | None) -> None:
    """Verify every record of every tenant; status 1 at the first fault."""
    pinned = _read_heads(head_file) if head_file else {}
    desk = at_desk(path)

    async def check(store: IStore) -> dict[str, ChainHead]:
        return {
            tenant_id: await _verified(store, tenant_id, pinned)
            for tenant_id in await _tenants(store, pinned)
        }

    for tenant_id, head in desk.with_store(check).items():
        click.echo(
            f"tenant {tenant_id}: {head.sequence} records, head {head.hash}"
        )


@command.command("export")
@click.option(
    "--output",
    "-o",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file for the records; else standard output.",
)
@click.option(
    "--head",
    "head_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file for where the chains end; by default OUTPUT.head.",
)
@configuration_option
def export(
    target: Path | None, head_file: Path | None, path: Path | None
) -> None:
    """
    Write every record as a line of JSON, verifying it.

    Keep the head file where nobody who can change the store can change it:
    "audit verify --head" then shows a tail that was cut.
    """
    desk = at_desk(path)

    async def write(store: IStore, stream: TextIO) -> dict[str, ChainHead]:
        return {
            tenant_id: await _verified(store, tenant_id, {}, stream)
            for tenant_id in await _tenants(store, {})
        }

    if target is None:
        heads = desk.with_store(lambda store: write(store, sys.stdout))
    else:
        descriptor, name = tempfile.mkstemp(
            dir=target.absolute().parent, prefix=f".{target.name}."
        )
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                heads = desk.with_store(lambda store: write(store, stream))
                stream.flush()
                os.fsync(descriptor)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink()
            raise
    if head_file is None and target is not None:
        head_file = target.with_name(target.name + ".head")
    if head_file is not None:
        replace_file(head_file, _heads_text(heads).encode(), 0o600)


async def _tenants(store: IStore, pinned: Heads) -> Sequence[str]:
    """Return every tenant that has a chain, or once had one."""
    return sorted({*await store.audit_tenants(), *pinned})


async def _verified(
    store: IStore,
    tenant_id: str,
    pinned: Heads,
    stream: TextIO | None = None,
) -> ChainHead:
    """
    Verify one tenant's chain from its first record; write it to the stream.

    :param pinned: heads that the chains must go through.
    :raises Refused: naming tenant and sequence of the first fault.
    """
    head, pin = ChainHead(), pinned.get(tenant_id, ChainHead())
    async for page in _pages(store, tenant_id):
        for part in _split(page, pin.sequence):
            found = verify_records(tenant_id, part, head)
            if isinstance(found, ChainFault):
                raise _broken(tenant_id, found)
            head = found
            if head.sequence == pin.sequence and head.hash != pin.hash:
                raise _broken(
                    tenant_id,
                    ChainFault(pin.sequence, "it is not the exported one"),
                )
        if stream is not None:
            for record in page:
                stream.write(_line(record))
    if head.sequence < pin.sequence:
        raise _broken(
            tenant_id,
            ChainFault(
                head.sequence + 1,
                f"it is missing: the chain was exported up to {pin.sequence}",
            ),
        )
    return head


def _split(
    page: Sequence[AuditRecord], sequence: int
) -> Sequence[Sequence[AuditRecord]]:
    """Split a page after the record of a sequence, if it has that one."""
    at = next(
        (
            number
            for number, record in enumerate(page, 1)
            if record.sequence == sequence
        ),
        len(page),
    )
    return (page[:at], page[at:])


async def _pages(
    store: IStore, tenant_id: str
) -> AsyncIterator[Sequence[AuditRecord]]:
    """Yield a chain, page by page."""
    after = 0
    while page := await store.audit_records(tenant_id, after, _PAGE):
        yield page
        after = page[-1].sequence


def _broken(tenant_id: str, fault: ChainFault) -> Refused:
    """Return the error for a chain that is broken."""
    return Refused(
        f"the audit log is broken: tenant {tenant_id}, record "
        f"{fault.sequence}: {fault.problem}"
    )


def _line(record: AuditRecord) -> str:
    """Return a record as a line of JSON; its body is what was hashed."""
    return (
        json.dumps(
            {
                "tenant": record.tenant_id,
                "sequence": record.sequence,
                "previous": record.previous,
                "hash": record.hash,
                "body": record.body,
            }
        )
        + "\n"
    )


def _heads_text(heads: Heads) -> str:
    """Return where the chains end, as JSON."""
    return (
        json.dumps(
            {
                tenant_id: {"sequence": head.sequence, "hash": head.hash}
                for tenant_id, head in heads.items()
            },
            indent=2,
        )
        + "\n"
    )


def _read_heads(path: Path) -> Heads:
    """Read a head file."""
    try:
        read = json.loads(path.read_bytes())
        return {
            str(tenant_id): ChainHead(int(head["sequence"]), str(head["hash"]))
            for tenant_id, head in read.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Refused(
            f"{path}: it is no head file of trstctl audit export"
        ) from None
