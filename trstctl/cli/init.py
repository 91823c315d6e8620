# SPDX-License-Identifier: MIT
"""``trstctl init``: a CA and a first configuration."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from attrs import define

from trstctl.backends.keyfiles import (
    private_directory,
    read_certificates,
    read_pkcs12,
    read_private_key,
    replace_file,
    write_private_key,
)
from trstctl.ca.ceremony import (
    KEY_ALGORITHMS,
    check_chain,
    fingerprint,
    generate_key,
    issuing_csr,
)
from trstctl.cli.context import FILE, STATE, TENANT, Checked
from trstctl.cli.main import Surroundings
from trstctl.cli.scaffold import Plan, new_state, write_configuration
from trstctl.config.secrets import read_secret
from trstctl.config.values import Host
from trstctl.founding import (
    CA_DIRECTORY,
    found_authority,
    write_certificates,
)

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@define
class _Wanted:
    """What the command line says about the CA."""

    organization: str
    algorithm: str
    root_passphrase: Path | None
    certificate: Path | None
    key: Path | None
    pkcs12: Path | None
    passphrase: Path | None
    chain: Path | None
    csr: bool

    def check(self) -> None:
        """Refuse options that contradict each other."""
        brings = self.certificate is not None or self.key is not None
        if brings and (self.certificate is None or self.key is None):
            raise click.UsageError(
                "--ca-certificate and --ca-key belong together"
            )
        if brings + (self.pkcs12 is not None) + self.csr > 1:
            raise click.UsageError(
                "choose one of --ca-certificate, --ca-pkcs12 and --csr"
            )
        if not (brings or self.pkcs12) and (self.passphrase or self.chain):
            raise click.UsageError(
                "--ca-passphrase-file and --ca-chain go with --ca-key or "
                "--ca-pkcs12"
            )
        if (brings or self.pkcs12 or self.csr) and self.root_passphrase:
            raise click.UsageError(
                "--root-passphrase-file goes with a root made here"
            )


@click.command("init")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=STATE,
    show_default=True,
    help="The new state directory.",
)
@click.option(
    "--organization",
    default="trstctl",
    show_default=True,
    help="Goes into the names of the CAs.",
)
@click.option(
    "--key-algorithm",
    "algorithm",
    type=click.Choice(KEY_ALGORITHMS),
    default=KEY_ALGORITHMS[0],
    show_default=True,
    help="Of the keys made here.",
)
@click.option("--tenant", type=TENANT, help="A UUID; by default a new one.")
@click.option(
    "--name",
    "names",
    type=Checked("name", Host),
    multiple=True,
    default=("localhost", "127.0.0.1", "::1"),
    show_default=True,
    help="What devices call this host; once for each name or address.",
)
@click.option(
    "--root-passphrase-file",
    "root_passphrase",
    type=_FILE,
    help="Encrypts the root's key; only its owner may read the file.",
)
@click.option(
    "--ca-certificate",
    "certificate",
    type=_FILE,
    help="An existing issuing CA, PEM or DER; what follows it in the file "
    "may be its chain.",
)
@click.option("--ca-key", "key", type=_FILE, help="Its private key.")
@click.option(
    "--ca-pkcs12", "pkcs12", type=_FILE, help="Both of them in PKCS#12."
)
@click.option(
    "--ca-passphrase-file",
    "passphrase",
    type=_FILE,
    help="The passphrase of the existing key, which keeps it.",
)
@click.option("--ca-chain", "chain", type=_FILE, help="The CAs above it, PEM.")
@click.option(
    "--csr",
    is_flag=True,
    help="Make a key and a request for an offline root to sign.",
)
@click.pass_obj
def command(
    around: Surroundings,
    /,
    state: Path,
    tenant: str | None,
    names: tuple[str, ...],
    **wanted: Any,
) -> None:
    """
    Make a CA and a first configuration.

    Makes a root and an issuing CA, takes an existing CA, or writes a
    request for an offline root.  Prints fingerprints and what to do next.
    """
    ca = _Wanted(**wanted)
    ca.check()
    path = state.absolute()
    plan = Plan(
        tenant_id=tenant
        or str(UUID(bytes=around.random_bytes(16), version=4)),
        organization=ca.organization,
        names=names,
    )
    if ca.csr:
        _await_root(path, plan, ca)
    elif ca.certificate or ca.pkcs12:
        _take(path, plan, ca, around)
    else:
        make_state(path, plan, ca.algorithm, ca.root_passphrase, around)


def make_state(
    state: Path,
    plan: Plan,
    algorithm: str,
    passphrase: Path | None,
    around: Surroundings,
    *,
    say_next: bool = True,
) -> None:
    """Make a root and an issuing CA, and say so."""
    secret = _passphrase(passphrase)
    with new_state(state) as staging:
        founded = found_authority(
            staging,
            now=around.now(),
            random_bytes=around.random_bytes,
            organization=plan.organization,
            algorithm=algorithm,
            passphrase=secret,
        )
        write_configuration(staging, plan)
    root, issuing = founded.fingerprints
    click.echo(f"Made a root and an issuing CA in {state}.")
    click.echo(f"  root     SHA-256 {root}")
    click.echo(f"  issuing  SHA-256 {issuing}")
    if say_next:
        _say_next(state, "")


def _take(state: Path, plan: Plan, ca: _Wanted, around: Surroundings) -> None:
    """Take an existing CA."""
    secret = _passphrase(ca.passphrase)
    others: tuple[bytes, ...]
    if ca.pkcs12 is not None:
        key, certificate, others = read_pkcs12(ca.pkcs12, secret)
    else:
        assert ca.key is not None
        assert ca.certificate is not None
        key = read_private_key(ca.key, secret)
        certificate, *rest = read_certificates(ca.certificate)
        others = tuple(rest)
    if ca.chain is not None:
        others += read_certificates(ca.chain)
    certificate, *above = check_chain(certificate, others, key, around.now())
    with new_state(state) as staging:
        directory = staging / CA_DIRECTORY
        private_directory(directory)
        write_private_key(directory / "issuing.key", key, secret)
        write_certificates(directory / "issuing.pem", [certificate])
        if above:
            write_certificates(directory / "chain.pem", above)
        plan = Plan(
            tenant_id=plan.tenant_id,
            organization=plan.organization,
            names=plan.names,
            chain=("ca/chain.pem",) if above else (),
            passphrase=ca.passphrase and ca.passphrase.absolute(),
        )
        write_configuration(staging, plan)
    click.echo(f"Took the CA into {state}.")
    click.echo(f"  issuing  SHA-256 {fingerprint(certificate)}")
    if above:
        click.echo(f"  root     SHA-256 {fingerprint(above[-1])}")
    _say_next(state, "")


def _await_root(state: Path, plan: Plan, ca: _Wanted) -> None:
    """Make an issuing key and a request for an offline root."""
    plan = Plan(
        tenant_id=plan.tenant_id,
        organization=plan.organization,
        names=plan.names,
        chain=("ca/chain.pem",),
    )
    key = generate_key(ca.algorithm)
    request = issuing_csr(key, f"{ca.organization} Issuing CA")
    with new_state(state) as staging:
        directory = staging / CA_DIRECTORY
        private_directory(directory)
        write_private_key(directory / "issuing.key", key)
        replace_file(directory / "issuing.csr", request, 0o644)
        write_configuration(staging, plan)
    click.echo(f"Made an issuing key in {state}.")
    click.echo("Have the offline root sign this request as a CA:")
    click.echo(f"  {state / CA_DIRECTORY / 'issuing.csr'}")
    _say_next(state, "trstctl ca import CERTIFICATE --chain ROOT")


def _passphrase(path: Path | None) -> bytes | None:
    """Return the passphrase in a file that only its owner may read."""
    if path is None:
        return None
    return read_secret(f"file:{path.absolute()}", os.environ).text.encode()


def _say_next(state: Path, first: str) -> None:
    """Print the next three commands."""
    config = f"--config {shlex.quote(str(state / FILE))}"
    steps = [
        f"{first or 'trstctl config check'} {config}",
        f"trstctl credential add device-1 {config}",
        f"twistd -n trstctl {config}",
    ]
    click.echo("Next:")
    for step in steps:
        click.echo(f"  {step}")
