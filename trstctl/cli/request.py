# SPDX-License-Identifier: MIT
"""``trstctl request``: what waits for a person to decide."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from trstctl.cli.context import (
    at_desk,
    configuration_option,
    tenant_option,
)
from trstctl.cli.main import Surroundings
from trstctl.cli.output import Row, escaped, output_option, print_listing
from trstctl.errors import UnknownCertificate
from trstctl.interfaces import IStore
from trstctl.model import RequestState, StoredRequest

_COLUMNS = (
    "id",
    "state",
    "subject",
    "names",
    "profile",
    "operation",
    "protocol",
    "principal",
    "public_key",
    "created",
    "expires",
    "decided_by",
    "reason",
    "tenant",
)


@click.group("request")
def command() -> None:
    """List, approve and deny requests that wait for a person."""


@command.command("list")
@click.option(
    "--state",
    type=click.Choice([*(state.value for state in RequestState), "all"]),
    default=RequestState.HELD.value,
    show_default=True,
    help="Only in this state.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="At most so many of a tenant.",
)
@tenant_option
@configuration_option
@output_option
def list_(
    state: str,
    limit: int,
    tenant: str | None,
    path: Path | None,
    form: str,
) -> None:
    """List requests, the oldest first."""
    desk = at_desk(path)
    wanted = None if state == "all" else RequestState(state)

    async def read(store: IStore) -> list[Row]:
        return [
            _row(request)
            for tenant_id in desk.tenants(tenant)
            for request in await store.list_requests(tenant_id, wanted, limit)
        ]

    print_listing(_COLUMNS, desk.with_store(read), form)


def _row(request: StoredRequest) -> Row:
    """Return a request as a row."""
    return {
        "id": request.id,
        "state": request.state.value,
        "subject": request.subject,
        "names": [str(name) for name in request.names],
        "profile": request.profile,
        "operation": request.operation,
        "protocol": request.key.protocol,
        "principal": request.key.principal,
        "public_key": request.public_key_fingerprint,
        "created": request.created_at,
        "expires": request.key_expires,
        "decided_by": request.decided_by,
        "reason": request.reason,
        "tenant": request.key.tenant_id,
    }


@command.command("approve")
@click.argument("request_id", metavar="ID")
@tenant_option
@configuration_option
@click.pass_obj
def approve(
    around: Surroundings,
    /,
    request_id: str,
    tenant: str | None,
    path: Path | None,
) -> None:
    """Approve a request; the client's next try gets the certificate."""
    _decide(around, path, tenant, request_id, approve=True, reason="")


@command.command("deny")
@click.argument("request_id", metavar="ID")
@click.option("--reason", default="", help="What the client is told.")
@tenant_option
@configuration_option
@click.pass_obj
def deny(
    around: Surroundings,
    /,
    request_id: str,
    reason: str,
    tenant: str | None,
    path: Path | None,
) -> None:
    """Deny a request; the client's next try is refused with the reason."""
    if not reason.isprintable() or len(reason) > 200:
        raise click.UsageError(
            "the reason is at most 200 printable characters"
        )
    _decide(around, path, tenant, request_id, approve=False, reason=reason)


def _decide(
    around: Surroundings,
    path: Path | None,
    tenant: str | None,
    request_id: str,
    *,
    approve: bool,
    reason: str,
) -> None:
    """Approve or deny, and say what was decided."""
    desk = at_desk(path)
    tenant_id = desk.tenant(tenant)
    now = around.now()
    # The client has as long to come back as it had to wait.
    until = now + timedelta(seconds=desk.config.limits.hold_timeout)

    async def act(store: IStore) -> StoredRequest:
        try:
            return await store.decide_request(
                tenant_id,
                request_id,
                approve,
                around.actor,
                reason,
                now,
                until,
            )
        except UnknownCertificate:
            raise UnknownCertificate(
                f"tenant {tenant_id} has no request {request_id}"
            ) from None

    request = desk.with_store(act)
    verb = "Approved" if approve else "Denied"
    names = ", ".join(map(str, request.names))
    click.echo(
        f"{verb} {request.id}: {escaped(request.subject)}"
        + (f" ({escaped(names)})" if names else "")
        + f", profile {request.profile}, for {escaped(request.key.principal)}."
    )
