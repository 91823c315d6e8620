# SPDX-License-Identifier: MIT
"""``trstctl credential``: passwords, and the tokens of devices and registrars."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path

import click
from attrs import evolve

from trstctl.backends.passwords import (
    new_secret,
    scrypt_verifier,
    token_verifier,
)
from trstctl.cli.context import (
    Checked,
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
    Row,
    output_option,
    print_listing,
    print_one,
)
from trstctl.config.secrets import read_secret
from trstctl.config.values import Duration
from trstctl.interfaces import IStore
from trstctl.model import CredentialRecord
from trstctl.policy.patterns import compile_pattern, split_pattern

KINDS = ("basic", "bearer", "registrar")

_COLUMNS = (
    "tenant",
    "kind",
    "name",
    "names",
    "profiles",
    "created",
    "expires",
    "revoked",
)

# RFC 7617, section 2: a user name has no colon.  A token's name ends at its
# first full stop.
_USER_NAME = re.compile(r"[^:]{1,256}")
_TOKEN_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

#: The longest secret that the gateway looks at, in characters.
_LONGEST = 256


@click.group("credential")
def command() -> None:
    """Add, list and revoke standing credentials."""


@command.command("add")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="basic",
    show_default=True,
    help="HTTP Basic (RFC 7617) or bearer token (RFC 6750) of devices, or "
    "the bearer token of a registrar, which makes tokens for devices and "
    "enrolls nothing.",
)
@click.option(
    "--name",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="What the certificates may be for, such as dns:*.example.org or "
    "cn:router-*; by default anything that the profile allows.  A "
    "registrar's tokens must be within it.",
)
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    help="Which profiles it may use; by default any.",
)
@click.option(
    "--expires",
    type=Checked("duration", Duration),
    help="When it ends, from now, such as 90d.",
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Take the password from this file, which only its owner may read.",
)
@tenant_option
@configuration_option
@output_option
@click.pass_obj
def add(
    around: Surroundings,
    /,
    name: str,
    kind: str,
    patterns: tuple[str, ...],
    profiles: tuple[str, ...],
    expires: int | None,
    password_file: Path | None,
    tenant: str | None,
    path: Path | None,
    form: str,
) -> None:
    """
    Add a credential, and print its secret once.

    NAME is the user name, or the public part of the token.
    """
    desk = at_desk(path)
    _check(desk, name, kind, patterns, profiles)
    if password_file is None:
        secret = new_secret(around.random_bytes)
    elif kind != "basic":
        raise click.UsageError("a bearer token's secret is always random")
    else:
        secret = _password(password_file)
    tenant_id = desk.tenant(tenant)
    record, shown = new_credential(around, tenant_id, kind, name, secret)
    record = evolve(record, names=patterns, profiles=profiles)
    if expires is not None:
        end = record.created_at + timedelta(seconds=expires)
        record = evolve(record, expires_at=end)

    async def put(store: IStore) -> None:
        await store.add_credential(record, around.actor)

    desk.with_store(put)
    told: dict[str, str] = {"kind": kind, "name": name}
    if password_file is None:
        told["password" if kind == "basic" else "token"] = shown
        click.echo("The secret is shown this once; keep it.", err=True)
    print_one(told, form)


def new_credential(
    around: Surroundings, tenant_id: str, kind: str, name: str, secret: str
) -> tuple[CredentialRecord, str]:
    """
    Return an unlimited credential, and what its owner presents.

    :param secret: the password, or the secret part of the token.
    """
    shown = secret if kind == "basic" else f"{name}.{secret}"
    record = CredentialRecord(
        tenant_id=tenant_id,
        kind=kind,
        name=name,
        verifier=scrypt_verifier(secret, around.random_bytes)
        if kind == "basic"
        else token_verifier(shown),
        names=(),
        profiles=(),
        created_at=around.now(),
    )
    return record, shown


def _check(
    desk: Desk,
    name: str,
    kind: str,
    patterns: tuple[str, ...],
    profiles: tuple[str, ...],
) -> None:
    """Refuse what the gateway would never accept."""
    form = _USER_NAME if kind == "basic" else _TOKEN_NAME
    if not (form.fullmatch(name) and name.isprintable()):
        raise click.UsageError(
            "a user name is 1 to 256 printable characters without a colon"
            if kind == "basic"
            else "a token's name is 1 to 64 letters, digits, '_' and '-'"
        )
    for pattern in patterns:
        try:
            compile_pattern(*split_pattern(pattern))
        except ValueError as error:
            raise click.UsageError(f"--name {pattern}: {error}") from None
    for profile in profiles:
        if profile not in desk.config.profiles:
            known = ", ".join(sorted(desk.config.profiles))
            raise click.UsageError(
                f"--profile {profile}: no such profile; there are {known}"
            )


def _password(path: Path) -> str:
    """Return the password in a file that only its owner may read."""
    password = read_secret(f"file:{path.absolute()}", os.environ).text
    if len(password) > _LONGEST:
        raise Refused(
            f"{path}: the password has more than {_LONGEST} characters"
        )
    return password


@command.command("list")
@tenant_option
@configuration_option
@output_option
def list_(tenant: str | None, path: Path | None, form: str) -> None:
    """List all credentials; a secret is never shown."""
    desk = at_desk(path)

    async def read(store: IStore) -> list[Row]:
        return [
            _row(record)
            for tenant_id in desk.tenants(tenant)
            for record in await store.list_credentials(tenant_id)
        ]

    print_listing(_COLUMNS, desk.with_store(read), form)


def _row(record: CredentialRecord) -> Row:
    """Return a credential as a row."""
    return {
        "tenant": record.tenant_id,
        "kind": record.kind,
        "name": record.name,
        "names": record.names,
        "profiles": record.profiles,
        "created": record.created_at,
        "expires": record.expires_at,
        "revoked": record.revoked_at,
    }


@command.command("revoke")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    help="Which one; needed if several kinds have the name.",
)
@tenant_option
@configuration_option
@yes_option
@click.pass_obj
def revoke(
    around: Surroundings,
    /,
    name: str,
    kind: str | None,
    tenant: str | None,
    path: Path | None,
    yes: bool,
) -> None:
    """Revoke a credential; it is refused from the next request on."""
    desk = at_desk(path)
    tenant_id = desk.tenant(tenant)

    async def act(store: IStore) -> None:
        found = [
            record
            for record in await store.list_credentials(tenant_id)
            if record.name == name and kind in (None, record.kind)
        ]
        if not found:
            raise Refused(f"no credential is called {name}")
        if len(found) > 1:
            kinds = " and ".join(record.kind for record in found)
            raise Refused(f"{name} is {kinds}; choose by --kind")
        (record,) = found
        click.echo(
            f"{record.kind} credential {name} of tenant {tenant_id}", err=True
        )
        if record.revoked_at is None:
            confirm("Refuse it from now on?", yes)
        await store.revoke_credential(
            tenant_id, record.kind, name, around.actor, around.now()
        )

    desk.with_store(act)
    click.echo(f"Revoked {name}.")
