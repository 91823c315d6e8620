# SPDX-License-Identifier: MIT
"""What the commands of tokens and of challenges share: list and revoke."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click

from trstctl.cli.context import at_desk, confirm
from trstctl.cli.main import Surroundings
from trstctl.cli.output import Listing, Row
from trstctl.interfaces import IStore
from trstctl.model import OneTimeSecret, SecretState

#: The option that narrows a listing to one state.
state_option = click.option(
    "--state",
    type=click.Choice([state.value for state in SecretState]),
    help="Only of this state.",
)

_PAGE = 500


def list_secrets(
    around: Surroundings,
    path: Path | None,
    tenant: str | None,
    state: str | None,
    listing: Listing,
    row: Callable[[OneTimeSecret], Row | None],
) -> None:
    """
    List single-use secrets by their ids.

    :param row: returns a secret as a row, but for its state; ``None``: it
        is not for this listing.
    """
    desk = at_desk(path)
    only = SecretState(state) if state else None
    now = around.now()

    async def read(store: IStore) -> None:
        for tenant_id in desk.tenants(tenant):
            page: Sequence[OneTimeSecret] = ()
            while True:
                after = page[-1].id if page else ""
                page = await store.list_secrets(
                    tenant_id, only, now, after, _PAGE
                )
                for secret in page:
                    found = row(secret)
                    if found is not None:
                        listing.add(
                            {**found, "state": secret.state(now).value}
                        )
                if len(page) < _PAGE:
                    break
        listing.close()

    desk.with_store(read)


def revoke_secret(
    around: Surroundings,
    path: Path | None,
    tenant: str | None,
    secret_id: str,
    question: str,
    used: Callable[[OneTimeSecret], str],
) -> None:
    """
    Revoke a single-use secret; it is refused from the next request on.

    :param question: to ask before, or empty.
    :param used: what to say of what it has bought; empty: nothing.
    """
    desk = at_desk(path)
    tenant_id = desk.tenant(tenant)
    now = around.now()

    async def act(store: IStore) -> None:
        confirm(question, not question)
        secret = await store.revoke_secret(
            tenant_id, secret_id, around.actor, now
        )
        told = used(secret)
        if told:
            click.echo(told, err=True)

    desk.with_store(act)
    click.echo(f"Revoked {secret_id}.")
