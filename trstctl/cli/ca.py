# SPDX-License-Identifier: MIT
"""``trstctl ca``: the authorities of the configuration."""

from __future__ import annotations

import os
from pathlib import Path

import click

from trstctl.backends.keyfiles import read_certificates
from trstctl.ca.ceremony import check_chain, fingerprint
from trstctl.cli.context import (
    Desk,
    at_desk,
    configuration_option,
    confirm,
    yes_option,
)
from trstctl.cli.faults import Refused
from trstctl.cli.main import Surroundings
from trstctl.cli.output import Row, output_option, print_listing
from trstctl.cli.rollover import command as rollover
from trstctl.config.model import AuthoritySettings
from trstctl.founding import load_chain, load_key, write_certificates
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.names import name_text

_COLUMNS = (
    "authority",
    "subject",
    "serial",
    "key",
    "not_before",
    "not_after",
    "sha256",
)


@click.group("ca")
def command() -> None:
    """Show the CAs, install what an offline root has signed, change keys."""


command.add_command(rollover)


@command.command("show")
@configuration_option
@output_option
def show(path: Path | None, form: str) -> None:
    """Show each authority's chain: its own certificate first, the root last."""
    desk = at_desk(path)
    rows: list[Row] = []
    for name, settings in desk.config.authorities.items():
        rows += [_row(name, der) for der in load_chain(settings)]
    kind, _, place = desk.config.store.partition(":")
    if kind != "sqlite" or Path(place).exists():
        generations = desk.with_store(lambda store: store.list_generations())
        rows += [
            _row(one.name, der) for one in generations for der in one.chain
        ]
    print_listing(_COLUMNS, rows, form)


def _row(authority: str, der: bytes) -> Row:
    """Return a CA certificate as a row."""
    facts = read_certificate(der)
    key = facts.public_key
    return {
        "authority": authority,
        "subject": name_text(facts.subject),
        "serial": facts.serial,
        "key": f"rsa-{key.bits}" if key.algorithm == "rsa" else key.algorithm,
        "not_before": facts.not_before,
        "not_after": facts.not_after,
        "sha256": fingerprint(der),
    }


@command.command("import")
@click.argument(
    "certificate", type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option(
    "--chain",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The CAs above it, PEM; they may also follow in CERTIFICATE.",
)
@click.option("--authority", help="Which one; needed if there are several.")
@configuration_option
@yes_option
@click.pass_obj
def import_(
    around: Surroundings,
    certificate: Path,
    chain: Path | None,
    authority: str | None,
    path: Path | None,
    yes: bool,
) -> None:
    """
    Install the CERTIFICATE that the root has signed for the issuing key.

    Also replaces it by a renewed one for the same key.
    """
    settings = _authority(at_desk(path), authority)
    own, *others = read_certificates(certificate)
    if chain is not None:
        others += read_certificates(chain)
    key = load_key(settings.key, settings.passphrase, os.environ)
    own, *above = check_chain(own, others, key, around.now())
    if above and len(settings.chain) != 1:
        raise Refused(
            "the configuration must name one file for the authority's "
            "chain; write: chain: [ca/chain.pem]"
        )
    if settings.certificate.exists():
        old = read_certificates(settings.certificate)[0]
        click.echo(f"installed  SHA-256 {fingerprint(old)}", err=True)
        click.echo(f"new        SHA-256 {fingerprint(own)}", err=True)
        confirm(f"Replace {settings.certificate}?", yes)
    if above:
        write_certificates(settings.chain[0], above)
    # Last: until it is there, the gateway does not start.
    write_certificates(settings.certificate, [own])
    click.echo(f"Installed {settings.certificate}.")
    click.echo(f"  issuing  SHA-256 {fingerprint(own)}")
    if above:
        click.echo(f"  root     SHA-256 {fingerprint(above[-1])}")


def _authority(desk: Desk, name: str | None) -> AuthoritySettings:
    """Return the settings of the authority that is meant."""
    authorities = desk.config.authorities
    if name is None and len(authorities) == 1:
        return next(iter(authorities.values()))
    if name is None or name not in authorities:
        raise Refused(
            f"name the authority by --authority: one of "
            f"{', '.join(authorities)}"
        )
    return authorities[name]
