# SPDX-License-Identifier: MIT
"""
The steps of ``trstctl ca rollover`` from one key to the other: activate,
finish and back.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
from twisted.internet.task import deferLater

from trstctl.authorities import is_at_hand, key_place
from trstctl.backends.keyfiles import destroy_file
from trstctl.ca.ceremony import check_chain
from trstctl.ca.succession import base_of, retired, under_way
from trstctl.cli.context import (
    Desk,
    at_desk,
    configuration_option,
    confirm,
    yes_option,
)
from trstctl.cli.faults import Refused
from trstctl.cli.lineage import (
    authority_argument,
    chosen,
    print_generation,
    say_next,
)
from trstctl.cli.main import Surroundings
from trstctl.cli.output import moment, output_option
from trstctl.errors import Stale
from trstctl.founding import load_key
from trstctl.interfaces import IStore
from trstctl.model import Generation, Outstanding, Phase
from trstctl.tap import run

#: By when every process has noticed a step; each looks every two seconds.
SETTLED = timedelta(seconds=6)

#: By when devices should have fetched the CA certificates.
FETCHED = timedelta(days=7)


@click.command("activate")
@authority_argument
@click.option(
    "--now",
    "at_once",
    is_flag=True,
    help="Without waiting for devices to fetch the CA certificates.",
)
@configuration_option
@output_option
@yes_option
@click.pass_obj
def activate(
    around: Surroundings,
    authority: str | None,
    at_once: bool,
    path: Path | None,
    form: str,
    yes: bool,
) -> None:
    """
    Let the new key of the AUTHORITY sign from now on.

    Certificates of both keys count.
    """
    desk = at_desk(path)
    name = chosen(desk, authority)
    coming = _coming(desk, name, Phase.PREPARED)
    ready = coming.prepared_at + FETCHED
    if around.now() < ready and not at_once:
        raise Refused(
            f"{coming.name} was prepared less than {FETCHED.days} days ago; "
            f"give devices until {moment(ready)} to fetch the CA "
            "certificates, or add --now"
        )
    _require_key(desk, coming, around)
    confirm(f"Let {coming.name} sign from now on?", yes)
    _advance(
        desk,
        around,
        coming,
        Phase.ACTIVE,
        coming.prepared_at + SETTLED,
        form,
    )
    say_next(desk, f"status {name}", f"finish {name}")


@click.command("finish")
@authority_argument
@click.option(
    "--force",
    is_flag=True,
    help="Although certificates of the key before are still valid.",
)
@click.option(
    "--destroy-key",
    is_flag=True,
    help="Destroy the key files of retired keys whose certificates have "
    "all expired; with --force, of all retired ones.",
)
@configuration_option
@output_option
@yes_option
@click.pass_obj
def finish(
    around: Surroundings,
    authority: str | None,
    force: bool,
    destroy_key: bool,
    path: Path | None,
    form: str,
    yes: bool,
) -> None:
    """
    Let certificates of the key before count no more.

    Its CRL and its OCSP responder go on until its last certificate has
    expired.
    """
    desk = at_desk(path)
    name = chosen(desk, authority)
    generations = desk.with_store(lambda store: store.list_generations())
    coming = under_way(name, generations)
    if coming is not None or not destroy_key:
        coming = _coming(desk, name, Phase.ACTIVE)
        before = base_of(name, generations)
        left = _outstanding(desk, around, before)
        if left.valid and not force:
            raise Refused(
                f"{left.valid} certificates of {before} are still valid; wait "
                "until they are renewed, or add --force.  Whose they are: "
                f"trstctl cert expiring --authority {before} --days 3650"
            )
        confirm(f"Let certificates of {before} count no more?", yes)
        _advance(
            desk,
            around,
            coming,
            Phase.FINISHED,
            (coming.activated_at or coming.prepared_at) + SETTLED,
            form,
            "" if force else before,
        )
    if destroy_key:
        _destroy(desk, around, name, force=force, yes=yes)
    else:
        say_next(desk, f"status {name}", f"finish {name} --destroy-key")


@click.command("back")
@authority_argument
@click.option(
    "--force",
    is_flag=True,
    help="Although certificates of the new key are valid.",
)
@configuration_option
@output_option
@yes_option
@click.pass_obj
def back(
    around: Surroundings,
    authority: str | None,
    force: bool,
    path: Path | None,
    form: str,
    yes: bool,
) -> None:
    """
    Take the last step back, before it is finished.

    From active to prepared: the key before signs again.  From prepared: the
    new key is given up.
    """
    desk = at_desk(path)
    name = chosen(desk, authority)
    generations = desk.with_store(lambda store: store.list_generations())
    coming = under_way(name, generations)
    if coming is None:
        raise Refused(
            f"no other key of {name} is under way; what is finished cannot be "
            "taken back"
        )
    if coming.phase is Phase.ACTIVE:
        before = base_of(name, generations)
        confirm(f"Let {before} sign again?", yes)
        _advance(desk, around, coming, Phase.PREPARED, None, form)
        say_next(desk, f"activate {name}", f"back {name}")
        return
    left = _outstanding(desk, around, coming.name)
    if left.valid and not force:
        raise Refused(
            f"{left.valid} certificates of {coming.name} are valid, and "
            "would count no more; add --force to give them up"
        )
    confirm(f"Give {coming.name} up for good?", yes)
    _advance(
        desk,
        around,
        coming,
        Phase.DROPPED,
        # Who has not noticed yet that it was deactivated still signs with it.
        (coming.stepped_at or coming.prepared_at) + SETTLED,
        form,
        "" if force else coming.name,
    )
    say_next(desk, f"prepare {name}")


#: What can be done in each phase.
_STEPS = {Phase.PREPARED: "activate, or back", Phase.ACTIVE: "finish, or back"}


def _coming(desk: Desk, authority: str, expected: Phase) -> Generation:
    """Return the generation that is in the phase for a step."""
    generations = desk.with_store(lambda store: store.list_generations())
    coming = under_way(authority, generations)
    if coming is None:
        raise Refused(
            f"no other key of {authority} is under way; the first step is: "
            f"trstctl ca rollover prepare {authority}"
        )
    if coming.phase is not expected:
        raise Refused(
            f"{coming.name} is {coming.phase.value}; the next step is: "
            f"{_STEPS[coming.phase]}"
        )
    return coming


def _require_key(desk: Desk, coming: Generation, around: Surroundings) -> None:
    """Refuse to activate a key that is not here, or not its own."""
    settings = desk.config.authorities[coming.authority]
    reference = key_place(coming.key, desk.config.state)
    if not is_at_hand(reference):
        raise Refused(
            f"{reference.partition(':')[2]} is missing; copy it from the "
            "host that has prepared it"
        )
    key = load_key(reference, settings.passphrase, os.environ)
    check_chain(coming.chain[0], coming.chain[1:], key, around.now())


def _advance(
    desk: Desk,
    around: Surroundings,
    coming: Generation,
    phase: Phase,
    settled: datetime | None,
    form: str,
    vacated: str = "",
) -> None:
    """
    Take a step, once every process has noticed the one before.

    :param vacated: the generation that must have nothing valid by then: what
        was counted before the question may have become more.
    """
    now = around.now()
    if settled is not None and now < settled:
        rest = (settled - now).total_seconds()
        click.echo(
            f"waiting {rest:.0f} s until every process has noticed the last "
            "step",
            err=True,
        )

        async def wait(reactor: Any) -> None:
            await deferLater(reactor, rest)

        run(wait)

    async def act(store: IStore) -> Generation:
        # What was waited for is a step that may have been taken back, and
        # taken again, behind the question.
        for one in await store.list_generations():
            if one.name == coming.name and one.stepped_at != coming.stepped_at:
                raise Stale(
                    f"somebody else has taken {one.name} through steps "
                    "meanwhile; look at its status, and decide anew"
                )
        return await store.advance_generation(
            coming.name,
            coming.phase,
            phase,
            around.actor,
            around.now(),
            vacated,
        )

    print_generation(desk.with_store(act), form)


def _outstanding(desk: Desk, around: Surroundings, name: str) -> Outstanding:
    """Return what a generation has issued that has not expired."""

    async def act(store: IStore) -> Outstanding:
        return await store.outstanding(name, around.now())

    return desk.with_store(act)


def _destroy(
    desk: Desk, around: Surroundings, authority: str, *, force: bool, yes: bool
) -> None:
    """Destroy the key files of what is retired, and said its last."""
    generations = desk.with_store(lambda store: store.list_generations())
    line = [one for one in generations if one.authority == authority]
    places = {authority: desk.config.authorities[authority].key} | {
        one.name: key_place(one.key, desk.config.state) for one in line
    }
    destroyed = False
    for name in retired(authority, line):
        kind, _, place = places[name].partition(":")
        if kind != "file" or not is_at_hand(places[name]):
            continue
        left = _outstanding(desk, around, name)
        if left.last is not None and not force:
            raise Refused(
                f"a certificate of {name} is good until {moment(left.last)}, "
                "and its revocation has to be told until then"
            )
        confirm(f"Destroy {place}?", yes)
        destroy_file(place, around.random_bytes)
        click.echo(f"Destroyed {place}.", err=True)
        destroyed = True
    if not destroyed:
        click.echo("No key file of a retired key is here.", err=True)
