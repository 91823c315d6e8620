# SPDX-License-Identifier: MIT
"""
``trstctl ca rollover``: another key for an authority, step by step.

The later steps are in :mod:`trstctl.cli.takeover`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from trstctl.authorities import is_at_hand, key_place
from trstctl.backends.keyfiles import read_certificates
from trstctl.ca.ceremony import KEY_ALGORITHMS, fingerprint
from trstctl.ca.succession import retired, under_way
from trstctl.cli.context import Desk, at_desk, configuration_option
from trstctl.cli.faults import Refused
from trstctl.cli.generation import Maker, find_key
from trstctl.cli.lineage import (
    authority_argument,
    chosen,
    known,
    print_generation,
    say_next,
)
from trstctl.cli.main import Surroundings
from trstctl.cli.output import Row, moment, output_option, print_listing
from trstctl.cli.takeover import FETCHED, activate, back, finish
from trstctl.config.model import AuthoritySettings
from trstctl.config.places import same_for_all
from trstctl.config.secrets import read_secret
from trstctl.founding import load_chain, load_key
from trstctl.interfaces import IStore
from trstctl.model import Generation, Phase
from trstctl.pkix.certificate import read_certificate

_COLUMNS = (
    "authority",
    "generation",
    "state",
    "valid",
    "last",
    "not_after",
    "key",
    "sha256",
)

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group("rollover")
def command() -> None:
    """
    Give an authority another key, while devices go on.

    prepare, activate, finish; back takes the last step back.
    """


for _step in (activate, finish, back):
    command.add_command(_step)


# --- status -----------------------------------------------------------------


@command.command("status")
@authority_argument
@configuration_option
@output_option
@click.pass_obj
def status(
    around: Surroundings, authority: str | None, path: Path | None, form: str
) -> None:
    """Show every key of the AUTHORITY, or of all, and what it is for now."""
    desk = at_desk(path)
    names = [authority] if authority else list(desk.config.authorities)
    for name in names:
        known(desk, name)

    async def act(store: IStore) -> list[Row]:
        generations = await store.list_generations()
        return [
            row
            for name in names
            for row in await _rows(desk, store, around, name, generations)
        ]

    print_listing(_COLUMNS, desk.with_store(act), form)


async def _rows(
    desk: Desk,
    store: IStore,
    around: Surroundings,
    authority: str,
    generations: Sequence[Generation],
) -> list[Row]:
    """Return a row for each generation of an authority."""
    settings = desk.config.authorities[authority]
    line = [one for one in generations if one.authority == authority]
    keys = [(authority, load_chain(settings)[0], settings.key)]
    keys += [
        (one.name, one.chain[0], key_place(one.key, desk.config.state))
        for one in line
    ]
    rows: list[Row] = []
    for name, certificate, reference in keys:
        left = await store.outstanding(name, around.now())
        rows.append(
            {
                "authority": authority,
                "generation": name,
                "state": _state(authority, name, line),
                "valid": left.valid,
                "last": left.last,
                "not_after": read_certificate(certificate).not_after,
                "key": "here" if is_at_hand(reference) else "not here",
                "sha256": fingerprint(certificate),
            }
        )
    return rows


def _state(authority: str, name: str, line: Sequence[Generation]) -> str:
    """Return what a generation is for now."""
    for one in line:
        if one.name == name and one.phase is Phase.DROPPED:
            return "dropped"
    if name in retired(authority, line):
        return "retired"
    coming = under_way(authority, line)
    if coming is None:
        return "issuing"
    if coming.phase is Phase.PREPARED:
        return "prepared" if name == coming.name else "issuing"
    return "issuing" if name == coming.name else "retiring"


# --- prepare ----------------------------------------------------------------


@frozen
class _Wanted:
    """How the new key is to be made."""

    key_type: str | None
    root_key: Path | None
    passphrase: Path | None
    new_root: bool
    request_out: Path | None
    certificate: Path | None
    chain: Path | None
    links: Path | None

    def check(self) -> None:
        """Refuse options that contradict each other."""
        ways = [
            name
            for name, given in (
                ("--new-root", self.new_root),
                ("--request-out", self.request_out),
                ("--certificate", self.certificate),
            )
            if given
        ]
        if len(ways) > 1:
            raise click.UsageError(f"{' and '.join(ways)} exclude each other")
        if self.certificate is None and (self.chain or self.links):
            raise click.UsageError("--chain and --links go with --certificate")


@command.command("prepare")
@authority_argument
@click.option(
    "--key-type",
    type=click.Choice(KEY_ALGORITHMS),
    help="The kind of the new key; else that of the present one.",
)
@click.option(
    "--root-key",
    type=_FILE,
    help="The key of the CA above; else it is looked for in the state "
    "directory.",
)
@click.option(
    "--root-passphrase-file",
    "passphrase",
    type=_FILE,
    help="The passphrase of that key, and of a new root's; only its owner "
    "may read the file.",
)
@click.option(
    "--new-root", is_flag=True, help="Make a new root, too, and link the two."
)
@click.option(
    "--request-out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Make a key, and write a request for an offline root; nothing else.",
)
@click.option(
    "--certificate",
    type=_FILE,
    help="What the offline root has signed for that request.",
)
@click.option(
    "--chain", type=_FILE, help="The CAs above it, PEM, if they have changed."
)
@click.option(
    "--links",
    type=_FILE,
    help="OldWithNew and NewWithOld, PEM, if the root has changed.",
)
@configuration_option
@output_option
@click.pass_obj
def prepare(
    around: Surroundings,
    /,
    authority: str | None,
    path: Path | None,
    form: str,
    **wanted: Any,
) -> None:
    """
    Make another key for the AUTHORITY, and tell clients of it.

    The present key goes on signing.  Running gateways notice within seconds.
    """
    how = _Wanted(**wanted)
    how.check()
    desk = at_desk(path)
    name = chosen(desk, authority)
    _require_places(name, desk.config.authorities[name])
    maker = _maker(desk, around, name, how)
    if how.request_out is not None:
        maker.require_new()
        maker.request(how.key_type, how.request_out)
        click.echo(f"Made the key {maker.files.key}.", err=True)
        click.echo(
            "Have the offline root sign this request as a CA:", err=True
        )
        click.echo(f"  {how.request_out}", err=True)
        say_next(desk, f"prepare {name} --certificate CERTIFICATE")
        return
    made = _make(desk, maker, how)

    async def add(store: IStore) -> None:
        await store.add_generation(made, around.actor)

    desk.with_store(add)
    print_generation(made, form)
    click.echo(
        "Copy its key file to every other host of this gateway.", err=True
    )
    click.echo(f"  {maker.files.key}", err=True)
    if how.new_root:
        click.echo("Move the root's key away from this host.", err=True)
        click.echo(f"  {maker.files.root_key}", err=True)
    click.echo(
        "Give devices the time to fetch the CA certificates, until "
        f"{moment(made.prepared_at + FETCHED)}.",
        err=True,
    )
    say_next(desk, f"activate {name}")


def _require_places(name: str, settings: AuthoritySettings) -> None:
    """Refuse URLs that would be those of every key."""
    fixed = same_for_all(settings)
    if fixed:
        raise Refused(
            f"authorities.{name}.urls.{fixed[0]} would lead to the CRLs and "
            "the responder of the present key; write {authority} where the "
            "name stands, such as /crl/{authority}.crl, and keep serving the "
            "present one's"
        )


def _maker(desk: Desk, around: Surroundings, name: str, how: _Wanted) -> Maker:
    """Return what makes the next generation, unless one is under way."""
    generations = desk.with_store(lambda store: store.list_generations())
    coming = under_way(name, generations)
    if coming is not None:
        raise Refused(
            f"{coming.name} is {coming.phase.value}; go on with that one, or "
            "take it back, first"
        )
    return Maker(
        desk.config,
        name,
        generations,
        around.now(),
        around.random_bytes,
        _secret(desk.config.authorities[name].passphrase),
        _secret(
            f"file:{how.passphrase.absolute()}" if how.passphrase else None
        ),
    )


def _make(desk: Desk, maker: Maker, how: _Wanted) -> Generation:
    """Make the generation in the way that was chosen."""
    if how.certificate is not None:
        return maker.signed_elsewhere(
            how.certificate, _certificates(how.chain), _certificates(how.links)
        )
    maker.require_new()
    chain = maker.present.chain
    settings = desk.config.authorities[maker.authority]
    if len(chain) == 1:
        own = load_key(maker.present.key, settings.passphrase, os.environ)
        return maker.self_signed(how.key_type, own)
    above = find_key(desk.config, chain[1], how.root_key, maker.passphrase)
    if how.new_root:
        return maker.below_new(how.key_type, above)
    return maker.below_same(how.key_type, above)


def _certificates(path: Path | None) -> tuple[bytes, ...]:
    """Return the certificates in a file, if one was given."""
    return () if path is None else read_certificates(path)


def _secret(reference: str | None) -> bytes | None:
    """Return a passphrase, if there is one."""
    if reference is None:
        return None
    return read_secret(reference, os.environ).text.encode()
