# SPDX-License-Identifier: MIT
"""
``trstctl quickstart``: from nothing to a running gateway in one command.

The first run makes everything that ``trstctl init`` makes, and credentials;
a later run finds them and uses them again.  ``quickstart.json`` is removed
at the start and written once the gateway listens: who waits for it may begin.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from trstctl.backends.keyfiles import (
    read_certificates,
    replace_file,
)
from trstctl.backends.passwords import (
    check_password,
    check_token,
    new_secret,
)
from trstctl.challenges import key_ring, texts_under
from trstctl.cli.context import FILE, STATE
from trstctl.cli.credential import new_credential
from trstctl.cli.faults import Refused
from trstctl.cli.init import make_state
from trstctl.cli.main import Surroundings
from trstctl.cli.recipes import (
    as_text,
    bootstrap_recipe,
    cmp_recipe,
    est_recipes,
    inventory_recipe,
    revocation_recipe,
    scep_recipes,
)
from trstctl.cli.scaffold import Plan
from trstctl.config.model import Configuration
from trstctl.config.secrets import SecretError, read_secret
from trstctl.founding import CA_DIRECTORY, write_certificates
from trstctl.gateway import Gateway
from trstctl.interfaces import IStore
from trstctl.minting import mint, mint_challenges
from trstctl.model import CredentialRecord, Endpoint, Purpose, SecretOrder
from trstctl.serving.faults import StartFault
from trstctl.tap import build, serve

TENANT = "11111111-1111-1111-1111-111111111111"

_FACTS = Path("quickstart.json")

# The secrets outlive a run here.
_SECRETS = Path("quickstart.secrets")

#: The name of both credentials.
_NAME = "device"

_PORTS = {"https": 8443, "http": 8080, "ops": 9443}


@frozen
class _Wanted:
    """Ports of the command line; ``None``: those of the configuration."""

    https: int | None
    http: int | None
    ops: int | None

    def port(self, name: str) -> int:
        """Return a port for a new configuration."""
        given: int | None = getattr(self, name)
        return _PORTS[name] if given is None else given

    def adjust(self, config: Configuration) -> Configuration:
        """Put the ports of the command line into a configuration."""
        from attrs import evolve

        listeners = config.listeners
        for name in _PORTS:
            port: int | None = getattr(self, name)
            if port is not None:
                changed = getattr(listeners, name).model_copy(
                    update={"port": port}
                )
                listeners = listeners.model_copy(update={name: changed})
        document = config.document.model_copy(update={"listeners": listeners})
        return evolve(config, document=document)


def _port_option(name: str) -> Callable[[Any], Any]:
    """Return the option for one listener's port."""
    return click.option(
        f"--{name}-port",
        name,
        type=click.IntRange(0, 65535),
        help=f"Default: {_PORTS[name]}, then as configured; 0 for any.",
    )


@click.command("quickstart")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=STATE,
    show_default=True,
    help="The state directory; made if it does not exist.",
)
@_port_option("https")
@_port_option("http")
@_port_option("ops")
@click.pass_obj
def command(
    around: Surroundings,
    /,
    state: Path,
    https: int | None,
    http: int | None,
    ops: int | None,
) -> None:
    """
    Make everything that is missing, serve, and print commands to paste.

    Serves in the foreground until Ctrl-C.  The log goes to standard error.
    """
    wanted = _Wanted(https, http, ops)
    state = state.absolute()
    (state / _FACTS).unlink(missing_ok=True)
    if not (state / FILE).exists():
        plan = Plan(
            tenant_id=TENANT,
            organization="trstctl",
            names=("localhost", "127.0.0.1", "::1"),
            https_port=wanted.port("https"),
            http_port=wanted.port("http"),
            ops_port=wanted.port("ops"),
            bootstrap=True,
        )
        make_state(state, plan, "p-256", None, around, say_next=False)
    gateway = build(state / FILE, adjust=wanted.adjust)
    if "est" not in gateway.config.protocols:
        raise Refused(f"{state / FILE}: protocols.est is no longer enabled")

    async def ready() -> None:
        secrets = await _credentials(gateway, state, around)
        secrets.update(await _once(gateway, around))
        if "cmp" in secrets:
            secrets["cmp_certificate"] = await _cmp_certificate(gateway, state)
        facts = _facts(gateway, state, secrets)
        text = json.dumps(facts, indent=2) + "\n"
        replace_file(state / _FACTS, text.encode(), 0o600)
        endpoint = _default_endpoint(gateway, "est")
        authority = ""
        if endpoint is not None and "revocation" in gateway.config.protocols:
            authority = _issuing(gateway, endpoint)
        click.echo(_told(facts, authority), nl=False)

    try:
        serve(gateway, ready)
    except StartFault as fault:
        raise Refused(str(fault)) from None


# --- credentials ------------------------------------------------------------


async def _credentials(
    gateway: Gateway, state: Path, around: Surroundings
) -> dict[str, str]:
    """
    Return the password and the bearer token; make them if need be.

    They are on the disk before the store knows them: a run that is killed
    in between leaves nothing that the next one could not use.
    """
    secrets = _kept(state)
    if secrets is None:
        secrets = {
            "password": new_secret(around.random_bytes),
            "token": new_secret(around.random_bytes),
        }
        text = json.dumps(secrets) + "\n"
        replace_file(state / _SECRETS, text.encode(), 0o600)
    store, tenant_id = gateway.store, _tenant(gateway)
    shown = {}
    for kind, key in (("basic", "password"), ("bearer", "token")):
        record, shown[key] = new_credential(
            around, tenant_id, kind, _NAME, secrets[key]
        )
        await _see_to(store, record, shown[key], around)
    return shown


async def _once(gateway: Gateway, around: Surroundings) -> dict[str, str]:
    """Return what is good for one certificate each, if something takes it."""
    shown, kept = {}, []
    bootstrap = _default_endpoint(gateway, "bootstrap")
    if bootstrap is not None:
        (token,) = mint(
            bootstrap.tenant_id,
            SecretOrder(bootstrap.profile),
            around.now(),
            around.random_bytes,
        )
        shown["once"] = token.secret
        kept.append(token.record)
    for protocol in ("scep", "cmp"):
        endpoint = _default_endpoint(gateway, protocol)
        if endpoint is None:
            continue
        (made,) = mint_challenges(
            endpoint.tenant_id,
            SecretOrder(profile=endpoint.profile, protocol=protocol),
            around.now(),
            around.random_bytes,
            partial(
                texts_under,
                key_ring(gateway.config.state, around.random_bytes).keys(),
            ),
        )
        shown[f"{protocol}_id"] = made.record.id
        shown[protocol] = made.secret
        kept.append(made.record)
    if kept:
        await gateway.store.add_secrets(kept, around.actor)
    return shown


async def _cmp_certificate(gateway: Gateway, state: Path) -> str:
    """Return the path of the certificate that signs CMP messages."""
    endpoint = _default_endpoint(gateway, "cmp")
    assert endpoint is not None
    credential = await gateway.ra.credentials.get(
        _issuing(gateway, endpoint), Purpose.CMP
    )
    path = state / "cmp-server.pem"
    write_certificates(path, credential.chain[:1])
    return str(path)


def _default_endpoint(gateway: Gateway, protocol: str) -> Endpoint | None:
    """Return the first endpoint of a protocol, if it is enabled."""
    return next(iter(gateway.config.endpoints.get(protocol, ())), None)


def _issuing(gateway: Gateway, endpoint: Endpoint) -> str:
    """Return who issues at an endpoint now, after whatever rollovers."""
    return gateway.ra.rules.serving(endpoint).authority


def _kept(state: Path) -> dict[str, str] | None:
    """Return the secrets of an earlier run."""
    path = state / _SECRETS
    if not path.exists():
        return None
    try:
        read = json.loads(read_secret(f"file:{path}", os.environ).text)
        return {key: str(read[key]) for key in ("password", "token")}
    except (KeyError, TypeError, ValueError):
        raise SecretError(
            f"{path}: it is damaged; remove it, and new secrets are made"
        ) from None


async def _see_to(
    store: IStore,
    record: CredentialRecord,
    secret: str,
    around: Surroundings,
) -> None:
    """
    Add a credential, unless it is there; replace one of another secret.

    One that an operator has revoked stays revoked.
    """
    kind, tenant_id = record.kind, record.tenant_id
    found = await store.find_credential(tenant_id, kind, record.name)
    if found is not None:
        check = check_password if kind == "basic" else check_token
        if found.revoked_at is not None or check(secret, found.verifier):
            return
        await store.revoke_credential(
            tenant_id, kind, record.name, around.actor, around.now()
        )
    await store.add_credential(record, around.actor)


def _tenant(gateway: Gateway) -> str:
    """Return the tenant that EST serves."""
    tenant_id = gateway.config.protocols["est"].tenant_id
    assert tenant_id is not None
    return tenant_id


# --- what is told -----------------------------------------------------------


def _facts(
    gateway: Gateway, state: Path, secrets: dict[str, str]
) -> dict[str, Any]:
    """Return the content of ``quickstart.json``."""
    config = gateway.config
    ports = gateway.listening()
    rules = gateway.ra.rules
    # The first one's server certificate is shown.
    first = rules.succession(next(iter(config.authorities))).authority
    chain = tuple(rules.authorities[first].chain)
    whole = state / CA_DIRECTORY / "ca-chain.pem"
    write_certificates(whole, chain)
    root = _root_file(state / CA_DIRECTORY, chain[-1:])
    http = ports.get("http")
    https = f"https://localhost:{ports['https']}"
    facts: dict[str, Any] = {
        "https_url": https,
        "http_url": http and f"http://localhost:{http}",
        "ops_url": f"http://127.0.0.1:{ports['ops']}",
        "config": str(config.path),
        "state": str(config.state),
        "tenant_id": _tenant(gateway),
        "root_ca": str(root),
        "ca_chain": str(whole),
        "est": {
            "username": _NAME,
            "password": secrets["password"],
            "bearer_token": secrets["token"],
        },
    }
    if "once" in secrets:
        facts["bootstrap"] = {
            "url": f"{https}/enroll/bootstrap",
            "token": secrets["once"],
        }
    # Few clients of SCEP can do TLS, and none needs it.
    if "scep" in secrets and http:
        facts["scep"] = {
            "url": f"http://localhost:{http}/scep",
            "challenge": secrets["scep"],
        }
    if "cmp" in secrets and http:
        facts["cmp"] = {
            "url": f"http://localhost:{http}/cmp",
            "reference": secrets["cmp_id"],
            "secret": secrets["cmp"],
            "server_cert": secrets["cmp_certificate"],
        }
    return facts


def _root_file(directory: Path, root: tuple[bytes, ...]) -> Path:
    """
    Return the file that holds a root alone; write it if there is none.

    The configuration may name a file of the usual name, with another root
    or a whole chain in it: that one stays what it is.
    """
    path = directory / "root.pem"
    if path.exists():
        if read_certificates(path) == root:
            return path
        path = directory / "quickstart-root.pem"
    write_certificates(path, root)
    return path


def _told(facts: dict[str, Any], authority: str) -> str:
    """
    Return what is printed once the gateway listens.

    :param authority: whose certificates can be asked for; empty: none's.
    """
    est, bootstrap = facts["est"], facts.get("bootstrap")
    scep, cmp = facts.get("scep"), facts.get("cmp")
    recipes = (
        *est_recipes(
            facts["https_url"],
            facts["root_ca"],
            facts["ca_chain"],
            est["username"],
            est["password"],
            est["bearer_token"],
        ),
        *(
            (
                bootstrap_recipe(
                    facts["https_url"], facts["root_ca"], bootstrap["token"]
                ),
            )
            if bootstrap
            else ()
        ),
        *(
            scep_recipes(scep["url"], facts["root_ca"], scep["challenge"])
            if scep
            else ()
        ),
        *(
            (
                cmp_recipe(
                    cmp["url"],
                    facts["root_ca"],
                    cmp["reference"],
                    cmp["secret"],
                ),
            )
            if cmp
            else ()
        ),
        *(
            (
                revocation_recipe(
                    facts["https_url"],
                    facts["http_url"],
                    authority,
                    facts["root_ca"],
                    facts["ca_chain"],
                    est["username"],
                    est["password"],
                    facts["config"],
                ),
            )
            if authority and facts["http_url"]
            else ()
        ),
        inventory_recipe(facts["config"], facts["ops_url"]),
    )
    return (
        f"\nThe gateway is running at {facts['https_url']}; Ctrl-C stops it."
        f"\nIts state is in {facts['state']}, and what is below is in "
        f"{_FACTS} there, too.\nPaste these into another shell:\n\n"
        f"{as_text(recipes)}\n"
    )
