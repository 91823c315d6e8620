# SPDX-License-Identifier: MIT
"""``trstctl token``: single-use tokens, one or thousands at a time."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from datetime import timedelta
from pathlib import Path

import click
from attrs import evolve

from trstctl.cli.context import (
    Checked,
    Desk,
    at_desk,
    configuration_option,
    tenant_option,
    yes_option,
)
from trstctl.cli.devices import read_devices
from trstctl.cli.handout import Handout, check_codes, code_url
from trstctl.cli.main import Surroundings
from trstctl.cli.output import Listing, Row, escaped, moment, output_option
from trstctl.cli.secrets import list_secrets, revoke_secret, state_option
from trstctl.cli.selection import key_fingerprint
from trstctl.config.values import Duration
from trstctl.errors import Malformed
from trstctl.interfaces import IStore
from trstctl.minting import BOOTSTRAP, check_order, mint
from trstctl.model import OneTimeSecret, SecretOrder

#: How many are made in one transaction.
_PAGE = 500

_COLUMNS = (
    "tenant",
    "id",
    "state",
    "profile",
    "names",
    "key",
    "created",
    "expires",
    "used",
)

#: Tokens that are added in one transaction, or listed at once.


@click.group("token")
def command() -> None:
    """Create, list and revoke tokens that buy one certificate each."""


# --- create -----------------------------------------------------------------


@command.command("create")
@click.option(
    "--profile",
    help="The only profile that it may use; by default the one that the "
    "bootstrap offers.",
)
@click.option(
    "--name",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="What the certificate may be for, such as cn:router-7 or "
    "dns:*.example.org; by default anything that the profile allows.",
)
@click.option(
    "--key-fingerprint",
    "fingerprint",
    metavar="HEX",
    default="",
    help="Only for this public key: SHA-256 of its DER SubjectPublicKeyInfo.",
)
@click.option(
    "--expires",
    type=Checked("duration", Duration),
    default="24h",
    show_default=True,
    help="When it ends, from now.",
)
@click.option(
    "--count",
    type=click.IntRange(1, 1_000_000),
    help="How many.  [default: 1]",
)
@click.option(
    "--from",
    "devices",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="One for each line of this CSV file: the device's common name, "
    "then patterns of other names.",
)
@click.option(
    "--sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write labels with QR codes into this new HTML file, for printing; "
    "no table is shown.",
)
@click.option(
    "--qr", is_flag=True, help="Draw QR codes below the table, for a few."
)
@click.option(
    "--url",
    metavar="URL",
    help="The bootstrap URL that QR codes hold; by default that of the "
    "configuration.",
)
@tenant_option
@configuration_option
@output_option
@click.pass_obj
def create(
    around: Surroundings,
    /,
    profile: str | None,
    patterns: tuple[str, ...],
    fingerprint: str,
    expires: int,
    count: int | None,
    devices: Path | None,
    sheet: Path | None,
    qr: bool,
    url: str | None,
    tenant: str | None,
    path: Path | None,
    form: str,
) -> None:
    """Create tokens, and print each once: only a digest is kept."""
    desk = at_desk(path)
    tenant_id = desk.tenant(tenant)
    profile = _profile(desk, tenant_id, profile)
    orders = _orders(
        SecretOrder(
            profile,
            patterns,
            key_fingerprint(fingerprint, "--key-fingerprint")
            if fingerprint
            else "",
            timedelta(seconds=expires),
        ),
        count,
        devices,
        desk.config.profiles,
    )
    if qr and form != "table":
        raise click.UsageError("--qr draws for people; leave out --output")
    codes = ""
    if sheet is not None or qr:
        check_codes(len(orders), qr)
        codes = code_url(desk, tenant_id, profile, url)
    elif url is not None:
        raise click.UsageError("--url is for --sheet and --qr")

    async def put(store: IStore) -> None:
        # What is printed is committed, even if it ends half-way.
        handout = Handout(form, sheet, codes, qr)
        bar = click.progressbar(
            length=len(orders),
            label="Creating tokens",
            file=sys.stderr,
            hidden=len(orders) <= _PAGE,
        )
        try:
            with bar:
                for at in range(0, len(orders), _PAGE):
                    now = around.now()
                    made = [
                        one
                        for order in orders[at : at + _PAGE]
                        for one in mint(
                            tenant_id, order, now, around.random_bytes
                        )
                    ]
                    await store.add_secrets(
                        [one.record for one in made], around.actor
                    )
                    handout.add(made)
                    bar.update(len(made))
        finally:
            handout.close()

    desk.with_store(put)
    told = "The token is" if len(orders) == 1 else "The tokens are"
    if sheet is None:
        click.echo(f"{told} shown this once; keep them safe.", err=True)
    else:
        click.echo(
            f"{told} in {sheet}, in the clear: print it, then remove it.",
            err=True,
        )


def _orders(
    all_alike: SecretOrder,
    count: int | None,
    devices: Path | None,
    profiles: Collection[str],
) -> Sequence[SecretOrder]:
    """Return an order for each token; refuse what nobody could use."""
    if devices is None:
        _check(evolve(all_alike, count=count or 1), profiles)
        return [all_alike] * (count or 1)
    if count is not None:
        raise click.UsageError("--count and --from exclude each other")
    bound = read_devices(devices)
    _check(evolve(all_alike, count=len(bound)), profiles)
    orders = [
        evolve(all_alike, names=names + all_alike.names) for names in bound
    ]
    for order in orders:
        _check(order, profiles, f"{devices}, {escaped(order.names[0])}: ")
    return orders


def _check(
    order: SecretOrder, profiles: Collection[str], place: str = ""
) -> None:
    """Refuse a command line that makes no good order."""
    try:
        check_order(order, profiles)
    except Malformed as error:
        raise click.UsageError(f"{place}{error}") from None


def _profile(desk: Desk, tenant_id: str, given: str | None) -> str:
    """Return the profile; say so if the token could be used nowhere."""
    offered = [
        endpoint.profile
        for endpoint in desk.config.endpoints.get("bootstrap", ())
        if endpoint.tenant_id == tenant_id
    ]
    profile = given or (offered[0] if offered else "device")
    if profile not in desk.config.profiles:
        known = ", ".join(sorted(desk.config.profiles))
        raise click.UsageError(
            f"--profile {profile}: no such profile; there are {known}"
        )
    if profile not in offered:
        click.echo(
            f"Note: protocols.bootstrap does not offer profile {profile} to "
            f"tenant {tenant_id} yet.",
            err=True,
        )
    return profile


# --- list and revoke --------------------------------------------------------


@command.command("list")
@state_option
@tenant_option
@configuration_option
@output_option
@click.pass_obj
def list_(
    around: Surroundings,
    /,
    state: str | None,
    tenant: str | None,
    path: Path | None,
    form: str,
) -> None:
    """List tokens by their ids; a token itself is never shown again."""
    listing = Listing(_COLUMNS, form)
    list_secrets(around, path, tenant, state, listing, _row)


def _row(secret: OneTimeSecret) -> Row | None:
    """Return a token as a row, but for its state."""
    if secret.protocol != BOOTSTRAP:
        return None
    return {
        "tenant": secret.tenant_id,
        "id": secret.id,
        "profile": secret.profile,
        "names": secret.names,
        "key": secret.burnt_for or secret.key_fingerprint,
        "created": secret.created_at,
        "expires": secret.expires_at,
        "used": secret.burnt_at,
    }


@command.command("revoke")
@click.argument("token_id", metavar="ID")
@tenant_option
@configuration_option
@yes_option
@click.pass_obj
def revoke(
    around: Surroundings,
    /,
    token_id: str,
    tenant: str | None,
    path: Path | None,
    yes: bool,
) -> None:
    """
    Revoke a token; it is refused from the next request on.

    ID is what "trstctl token list" shows.  The certificate of a token that
    has been used stays valid.
    """
    question = "" if yes else f"Refuse token {token_id} from now on?"
    revoke_secret(around, path, tenant, token_id, question, _bought)


def _bought(secret: OneTimeSecret) -> str:
    """Say what becomes of what a token has bought."""
    if secret.burnt_at is None:
        return ""
    return (
        f"It was used at {moment(secret.burnt_at)}, and its certificate stays "
        "valid; see: trstctl cert list --principal "
        f"token:{secret.id}"
    )
