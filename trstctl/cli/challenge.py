# SPDX-License-Identifier: MIT
"""
``trstctl challenge``: what devices put into a challengePassword (SCEP), or
protect their messages with (CMP).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import click
from attrs import evolve

from trstctl.challenges import key_ring, texts_under
from trstctl.cli.context import (
    Checked,
    Desk,
    at_desk,
    configuration_option,
    confirm,
    tenant_option,
    yes_option,
)
from trstctl.cli.main import Surroundings
from trstctl.cli.output import Listing, Row, output_option
from trstctl.cli.secrets import list_secrets, revoke_secret, state_option
from trstctl.config.values import Duration
from trstctl.errors import Malformed
from trstctl.interfaces import IStore
from trstctl.minting import (
    BOOTSTRAP,
    MAX_USES,
    canonical_order,
    check_order,
    is_bound,
    mint_challenges,
)
from trstctl.model import (
    SYSTEM_TENANT,
    AuditEvent,
    MintedSecret,
    OneTimeSecret,
    SecretOrder,
)

#: The protocols that ask for challenges.
PROTOCOLS = ("scep", "cmp", "est")

#: How many are made in one transaction.
_PAGE = 500

_COLUMNS = (
    "tenant",
    "id",
    "state",
    "protocol",
    "profile",
    "device",
    "subject",
    "names",
    "uses",
    "used",
    "created",
    "expires",
)

_CREATED = (
    "id",
    "challenge",
    "profile",
    "device",
    "subject",
    "names",
    "expires",
)


@click.group("challenge")
def command() -> None:
    """Create, list and revoke the challenges that devices enroll with."""


# --- create -----------------------------------------------------------------


@command.command("create")
@click.option(
    "--for",
    "protocol",
    type=click.Choice(PROTOCOLS),
    default=PROTOCOLS[0],
    show_default=True,
    help="The protocol that takes it.  For CMP, its id is the reference "
    "(openssl cmp -ref), and the challenge the secret.",
)
@click.option(
    "--profile",
    help="The only profile that it may use; by default the one that the "
    "protocol offers.",
)
@click.option(
    "--device",
    default="",
    help="Common name or serialNumber of the only device that it is for.",
)
@click.option(
    "--subject",
    default="",
    metavar="NAME",
    help="The only subject to certify, as 'CN=router-7,O=Example'.",
)
@click.option(
    "--san",
    "names",
    multiple=True,
    metavar="KIND:VALUE",
    help="An alternative name, such as dns:router-7.example.com; all that "
    "are given must be requested, and no others.",
)
@click.option(
    "--any-name",
    is_flag=True,
    help="For whatever the profile allows: not with the options above.",
)
@click.option(
    "--expires",
    type=Checked("duration", Duration),
    default="24h",
    show_default=True,
    help="When it ends, from now.",
)
@click.option(
    "--uses",
    type=click.IntRange(1, MAX_USES),
    default=1,
    show_default=True,
    help="How many certificates it buys, each for a key of its own.",
)
@click.option(
    "--count",
    type=click.IntRange(1, 100_000),
    default=1,
    show_default=True,
    help="How many, all alike.",
)
@click.option(
    "--from",
    "devices",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="One for each line of this CSV file: the device, its subject or "
    "nothing, then alternative names.",
)
@tenant_option
@configuration_option
@output_option
@click.pass_obj
def create(
    around: Surroundings,
    /,
    protocol: str,
    profile: str | None,
    device: str,
    subject: str,
    names: tuple[str, ...],
    any_name: bool,
    expires: int,
    uses: int,
    count: int,
    devices: Path | None,
    tenant: str | None,
    path: Path | None,
    form: str,
) -> None:
    """Create challenges, and print each once: only a digest is kept."""
    desk = at_desk(path)
    tenant_id = desk.tenant(tenant)
    order = SecretOrder(
        profile=_profile(desk, tenant_id, protocol, profile),
        life=timedelta(seconds=expires),
        count=count,
        protocol=protocol,
        uses=uses,
        device=device,
        subject=subject,
        alternative_names=names or None,
    )
    if is_bound(order) == (any_name or devices is not None):
        raise click.UsageError(
            "say what it is for: --device, --subject or --san, or a file of "
            "devices; or --any-name"
        )
    if devices is None:
        orders = [_checked(desk, order, "")]
    elif count == 1 and not any_name:
        orders = list(_from_file(desk, order, devices))
    else:
        raise click.UsageError("--from excludes --count and --any-name")
    keys = key_ring(desk.config.state, around.random_bytes).keys()

    async def put(store: IStore) -> None:
        # What is printed is committed, even if it ends half-way.
        listing = Listing(_CREATED, form)
        try:
            for page in _pages(around, tenant_id, orders, keys):
                await store.add_secrets(
                    [one.record for one in page], around.actor
                )
                for one in page:
                    listing.add(_created(one))
        finally:
            listing.close()

    desk.with_store(put)
    click.echo("A challenge is shown this once; keep it safe.", err=True)


def _pages(
    around: Surroundings,
    tenant_id: str,
    orders: Sequence[SecretOrder],
    keys: Mapping[int, bytes],
) -> Iterator[Sequence[MintedSecret]]:
    """Yield the new challenges, so many at a time."""
    page = []
    texts = partial(texts_under, keys)
    for order in orders:
        for one in mint_challenges(
            tenant_id, order, around.now(), around.random_bytes, texts
        ):
            page.append(one)
            if len(page) == _PAGE:
                yield page
                page = []
    yield page


def _created(made: MintedSecret) -> Row:
    """Return a new challenge as a row."""
    record = made.record
    return {
        "id": record.id,
        "challenge": made.secret,
        "profile": record.profile,
        "device": record.device,
        "subject": record.subject,
        "names": record.alternative_names or (),
        "expires": record.expires_at,
    }


def _profile(
    desk: Desk, tenant_id: str, protocol: str, given: str | None
) -> str:
    """Return the profile; say so if the challenge could be used nowhere."""
    offered = [
        endpoint.profile
        for endpoint in desk.config.endpoints.get(protocol, ())
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
            f"Note: protocols.{protocol} does not offer profile {profile} to "
            f"tenant {tenant_id} yet.",
            err=True,
        )
    return profile


def _checked(desk: Desk, order: SecretOrder, place: str) -> SecretOrder:
    """Return the order in canonical form, or refuse the command line."""
    try:
        order = canonical_order(order)
        check_order(order, desk.config.profiles)
    except Malformed as error:
        raise click.UsageError(f"{place}{error.detail}") from None
    return order


def _from_file(
    desk: Desk, order: SecretOrder, path: Path
) -> Iterator[SecretOrder]:
    """Yield an order for each device in a CSV file."""
    found = set()
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            for cells in lines:
                device, subject, *names = [
                    *(cell.strip() for cell in cells),
                    "",
                    "",
                ]
                place = f"{path}, line {lines.line_num}: "
                names = [name for name in names if name]
                if not any((device, subject, *names)) or (
                    device == "device" and lines.line_num == 1
                ):
                    continue
                if not device:
                    raise click.UsageError(f"{place}begin with the device")
                if device in found:
                    raise click.UsageError(f"{place}{device} occurs twice")
                found.add(device)
                wanted = evolve(
                    order,
                    device=device,
                    subject=subject,
                    alternative_names=tuple(names) or None,
                )
                yield _checked(desk, wanted, place)
        except (csv.Error, UnicodeDecodeError) as error:
            raise click.UsageError(
                f"{path}: it is not a CSV file in UTF-8: {error}"
            ) from None
    if not found:
        raise click.UsageError(f"{path}: there is no device in it")


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
    """List challenges by their ids; one itself is never shown again."""
    listing = Listing(_COLUMNS, form)
    list_secrets(around, path, tenant, state, listing, _row)


def _row(secret: OneTimeSecret) -> Row | None:
    """Return a challenge as a row, but for its state."""
    if secret.protocol == BOOTSTRAP:
        return None
    return {
        "tenant": secret.tenant_id,
        "id": secret.id,
        "protocol": secret.protocol,
        "profile": secret.profile,
        "device": secret.device,
        "subject": secret.subject,
        "names": secret.alternative_names or (),
        "uses": str(secret.uses),
        "used": str(len(secret.burnt_keys)),
        "created": secret.created_at,
        "expires": secret.expires_at,
    }


@command.command("revoke")
@click.argument("challenge_id", metavar="ID")
@tenant_option
@configuration_option
@yes_option
@click.pass_obj
def revoke(
    around: Surroundings,
    /,
    challenge_id: str,
    tenant: str | None,
    path: Path | None,
    yes: bool,
) -> None:
    """
    Revoke a challenge; it is refused from the next request on.

    ID is what "trstctl challenge list" shows.  What it has bought stays
    valid.
    """
    question = "" if yes else f"Refuse challenge {challenge_id} from now on?"
    revoke_secret(around, path, tenant, challenge_id, question, _bought)


def _bought(secret: OneTimeSecret) -> str:
    """Say what becomes of what a challenge has bought."""
    if not secret.burnt_keys:
        return ""
    return (
        "It was used, and what it has bought stays valid; see: trstctl cert "
        f"list --principal token:{secret.id}"
    )


# --- keys -------------------------------------------------------------------


@command.command("rotate-key")
@click.option(
    "--drop-old",
    is_flag=True,
    help="Remove the old keys: every challenge that is out is worthless.",
)
@configuration_option
@yes_option
@click.pass_obj
def rotate_key(
    around: Surroundings,
    /,
    drop_old: bool,
    path: Path | None,
    yes: bool,
) -> None:
    """
    Make a new key, with which challenges are made from now on.

    Those that are out stay good: the old keys prove them.
    """
    desk = at_desk(path)
    if drop_old:
        confirm("Refuse every challenge that is out?", yes)
    ring = key_ring(desk.config.state, around.random_bytes)

    async def rotate(store: IStore) -> int:
        number = ring.rotate(drop=drop_old)
        kept = " ".join(map(str, ring.keys()))
        event = AuditEvent(
            SYSTEM_TENANT,
            around.now(),
            "secret.rekeyed",
            around.actor,
            {"key": str(number), "kept": kept},
        )
        await store.append_audit((event,))
        return number

    number = desk.with_store(rotate)
    click.echo(f"Challenges are made with key {number} from now on.")
