# SPDX-License-Identifier: MIT
"""``trstctl crl``: the CRLs of the authorities."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import click

from trstctl.backends.signers import InlineSigner
from trstctl.ca.authority import Authority
from trstctl.ca.edition import Issuer
from trstctl.ca.publisher import Publisher
from trstctl.cli.context import Desk, at_desk, configuration_option
from trstctl.cli.faults import Refused
from trstctl.cli.main import Surroundings
from trstctl.cli.output import Row, output_option, print_listing
from trstctl.config.places import issuer_of, places_of
from trstctl.founding import load_chain, load_key
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
    names = _names(desk, authority)

    async def act(store: IStore) -> Sequence[StoredCRL]:
        found = [
            await store.find_crl(name, scope, 0)
            for name in names
            for scope in await store.crl_scopes(name)
        ]
        return [crl for crl in found if crl is not None]

    _print(desk.with_store(act), form)


def _names(desk: Desk, authority: str | None) -> Sequence[str]:
    """Return the authorities that are meant."""
    known = list(desk.config.authorities)
    if authority is None:
        return known
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
    for name in _names(desk, authority):
        issuer = _issuer(desk, name)
        problem = _problem(issuer.authority, now)
        if not problem:
            issuers[name] = issuer
        elif authority is not None:
            raise Refused(problem)
        else:
            click.echo(f"left out: {problem}", err=True)
    if not issuers:
        raise Refused("no authority can sign a CRL")
    return issuers


def _issuer(desk: Desk, name: str) -> Issuer:
    """Return an authority with its key."""
    config = desk.config
    settings = config.authorities[name]
    key = load_key(settings.key, settings.passphrase, os.environ)
    chain = load_chain(settings)
    authority: IAuthority = Authority(
        name,
        chain[0],
        chain,
        InlineSigner(key),
        places=places_of(config, name),
    )
    return issuer_of(config, authority)


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
