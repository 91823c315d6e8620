# SPDX-License-Identifier: MIT
"""``trstctl crl``: the CRLs of the authorities."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import click

from trstctl.authorities import AuthorityLoader, Loaded
from trstctl.backends.signers import InlineSigner
from trstctl.ca.edition import Issuer
from trstctl.ca.publisher import Publisher
from trstctl.cli.context import Desk, at_desk, configuration_option
from trstctl.cli.faults import Refused
from trstctl.cli.main import Surroundings
from trstctl.cli.output import Row, output_option, print_listing
from trstctl.config.places import issuer_of
from trstctl.interfaces import IAuthority, IStore
from trstctl.model import StoredCRL

_COLUMNS = (
    "authority",
    "scope",
    "number",
    "base",
    "this_update",
    "next_update",
    "entries",
    "octets",
)


@click.group("crl")
def command() -> None:
    """Sign the CRLs anew, and show what is published."""


@command.command("publish")
@click.argument("authority", required=False)
@configuration_option
@output_option
@click.pass_obj
def publish(
    around: Surroundings, authority: str | None, path: Path | None, form: str
) -> None:
    """
    Sign every CRL of the AUTHORITY now, or of all.

    A gateway does so by itself; this is for when it does not run, or must
    not wait.  It takes over what was signed here within seconds.
    """
    desk = at_desk(path)
    issuers = _issuers(desk, authority, around.now())

    async def act(store: IStore) -> Sequence[StoredCRL]:
        publisher = _publisher(store, issuers, around)
        return [
            crl for name in issuers for crl in await publisher.publish(name)
        ]

    _print(desk.with_store(act), form)


@command.command("show")
@click.argument("authority", required=False)
@configuration_option
@output_option
def show(authority: str | None, path: Path | None, form: str) -> None:
    """Show what is published of the AUTHORITY, or of all."""
    desk = at_desk(path)

    async def act(store: IStore) -> Sequence[StoredCRL]:
        known = [*desk.config.authorities]
        known += [one.name for one in await store.list_generations()]
        names = _names(known, authority)
        found = [
            await store.find_crl(name, scope, 0)
            for name in names
            for scope in await store.crl_scopes(name)
        ]
        return [crl for crl in found if crl is not None]

    _print(desk.with_store(act), form)


def _loaded(desk: Desk) -> Loaded:
    """Return the authorities, with the keys of all their generations."""
    generations = desk.with_store(lambda store: store.list_generations())
    return AuthorityLoader(InlineSigner).load(desk.config, generations)


def _names(known: Collection[str], authority: str | None) -> Sequence[str]:
    """Return the authorities that are meant."""
    if authority is None:
        return list(known)
    if authority not in known:
        raise Refused(
            f"no authority is called {authority}; use one of "
            f"{', '.join(known)}"
        )
    return [authority]


def _issuers(
    desk: Desk, authority: str | None, now: datetime
) -> Mapping[str, Issuer]:
    """Return those that are meant; of all, those that can sign CRLs."""
    issuers = {}
    loaded = _loaded(desk)
    for name in _names(loaded.publishing, authority):
        one = loaded.publishing[name]
        problem = _problem(one, now)
        if not problem:
            configured = loaded.configured[name]
            issuers[name] = issuer_of(desk.config, one, configured)
        elif authority is not None:
            raise Refused(problem)
        else:
            click.echo(f"left out: {problem}", err=True)
    if not issuers:
        raise Refused("no authority can sign a CRL")
    return issuers


def _problem(authority: IAuthority, now: datetime) -> str:
    """Return why it can sign no CRL, or nothing."""
    if not authority.signs_crls:
        return (
            f"authority {authority.name}: its certificate's key usage lacks "
            "cRLSign"
        )
    if authority.not_after <= now:
        return f"authority {authority.name}: its certificate has expired"
    return ""


def _publisher(
    store: IStore, issuers: Mapping[str, Issuer], around: Surroundings
) -> Publisher:
    """Return what signs and saves."""
    return Publisher(
        store,
        issuers,
        now=around.now,
        random_fraction=lambda: (
            int.from_bytes(around.random_bytes(4), "big") / 2**32
        ),
        actor=around.actor,
    )


def _print(crls: Sequence[StoredCRL], form: str) -> None:
    """Print CRLs as a listing."""
    rows: list[Row] = [
        {
            "authority": crl.authority,
            "scope": crl.scope or "full",
            "number": crl.number,
            "base": crl.base or None,
            "this_update": crl.this_update,
            "next_update": crl.next_update,
            "entries": crl.entries,
            "octets": len(crl.der),
        }
        for crl in crls
    ]
    print_listing(_COLUMNS, rows, form)
