# SPDX-License-Identifier: MIT
"""``trstctl profile``: what profiles allow, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from trstctl.backends.keyfiles import read_certificates
from trstctl.cli.context import (
    Desk,
    at_desk,
    configuration_option,
    tenant_option,
)
from trstctl.cli.faults import Refused
from trstctl.cli.main import Surroundings
from trstctl.cli.output import (
    Row,
    escaped,
    output_option,
    print_listing,
)
from trstctl.config.model import AuthoritySettings
from trstctl.errors import RequestError
from trstctl.founding import load_chain
from trstctl.interfaces import IStore
from trstctl.model import (
    CertificateRequest,
    Endpoint,
    EnrollmentRequest,
    Operation,
    Principal,
    Verdict,
)
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.csr import pem_or_der, read_csr, verify_proof
from trstctl.policy.profile import Profile
from trstctl.policy.settings import ProfileSettings, version_of

_COLUMNS = (
    "name",
    "key_types",
    "names",
    "extended_key_usage",
    "validity_days",
    "approval",
    "endpoints",
)

#: No request is larger, octets.
_LARGEST = 1 << 20

#: What has to hold before the proof of possession is looked at.
_KEY_RULES = ("key-type", "key-strength", "signature-digest")


@click.group("profile")
def command() -> None:
    """List, show and try the certificate profiles."""


@command.command("list")
@configuration_option
@output_option
def list_(path: Path | None, form: str) -> None:
    """List all profiles, the built-in ones included."""
    config = at_desk(path).config
    rows: list[Row] = []
    for name, settings in sorted(config.profiles.items()):
        used = [
            f"{each.protocol}/{each.name}".rstrip("/")
            for endpoints in config.endpoints.values()
            for each in endpoints
            if each.profile == name
        ]
        rows.append(
            {
                "name": name,
                "key_types": settings.key_types,
                "names": list(settings.names),
                "extended_key_usage": settings.extended_key_usage,
                "validity_days": settings.validity_default.days,
                "approval": settings.approval,
                "endpoints": used,
            }
        )
    print_listing(_COLUMNS, rows, form)


@command.command("show")
@click.argument("name")
@click.option(
    "--output",
    "-o",
    "form",
    type=click.Choice(("yaml", "json")),
    default="yaml",
    show_default=True,
    help="How to print.",
)
@configuration_option
def show(name: str, form: str, path: Path | None) -> None:
    """Show a profile as the configuration would have it."""
    settings = _settings(at_desk(path), name)
    shown = _as_section(settings)
    if form == "json":
        shown["version"] = version_of(settings)
        click.echo(json.dumps(shown, indent=2))
        return
    click.echo(f"# version {version_of(settings)}")
    click.echo(_yaml({"profiles": {name: shown}}), nl=False)


def _settings(desk: Desk, name: str) -> ProfileSettings:
    """Return a profile's settings."""
    try:
        return desk.config.profiles[name]
    except KeyError:
        known = ", ".join(sorted(desk.config.profiles))
        raise Refused(
            f"no profile is called {name}; there are {known}"
        ) from None


def _as_section(settings: ProfileSettings) -> dict[str, Any]:
    """Return settings as a section of the configuration file."""
    import attrs
    from pydantic import TypeAdapter

    from trstctl.config.profiles import ProfileSection

    # No file may say what only the gateway's own profiles do.
    plain = attrs.asdict(
        settings, filter=lambda field, _: field.name != "ocsp_no_check"
    )
    for key, value in plain.items():
        if hasattr(value, "total_seconds"):
            plain[key] = f"{int(value.total_seconds())}s"
    section = ProfileSection.model_validate_json(
        TypeAdapter(dict[str, Any]).dump_json(plain)
    )
    return section.model_dump(mode="json", exclude_none=True)


def _yaml(value: object) -> str:
    """Return plain values as YAML."""
    from io import StringIO

    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    text = StringIO()
    yaml.dump(value, text)
    return text.getvalue()


# --- trying a request -------------------------------------------------------


@command.command("test")
@click.argument(
    "csr", type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option(
    "--profile",
    "name",
    help="The profile; by default the first enabled endpoint's.",
)
@click.option(
    "--principal",
    default="basic:anybody",
    show_default=True,
    metavar="KIND:NAME",
    help="Who asks; a credential of the store keeps its limits.",
)
@click.option(
    "--renew",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The certificate that would be renewed.",
)
@click.option("--protocol", help="What it would come over.")
@tenant_option
@configuration_option
@output_option
@click.pass_context
def test(
    ctx: click.Context,
    csr: Path,
    name: str | None,
    principal: str,
    renew: Path | None,
    protocol: str | None,
    tenant: str | None,
    path: Path | None,
    form: str,
) -> None:
    """
    Judge a request (PEM or DER) by every rule, without issuing anything.

    Status 0 if it would be granted, 1 if not.
    """
    around: Surroundings = ctx.obj
    desk = at_desk(path)
    endpoint = _endpoint(desk, desk.tenant(tenant), name, protocol)
    profile = Profile(endpoint.profile, _settings(desk, endpoint.profile))
    wanted = _read_request(csr)

    async def ask(store: IStore) -> Principal:
        if renew is not None:
            return await _certified(store, endpoint, renew)
        return await _principal(store, endpoint.tenant_id, principal)

    request = EnrollmentRequest(
        endpoint=endpoint,
        operation=Operation.RENEW if renew else Operation.ENROLL,
        wanted=wanted,
        credentials=(),
        request_id="",
        peer="",
    )
    verdicts = [
        *profile.explain(
            request,
            desk.with_store(ask),
            around.now(),
            read_certificate(_issuer(desk, endpoint)).not_after,
        )
    ]
    verdicts.append(_proof(wanted, verdicts))
    _print(verdicts, profile, form)
    if not all(verdict.allowed for verdict in verdicts):
        ctx.exit(1)


def _print(verdicts: list[Verdict], profile: Profile, form: str) -> None:
    """Print every verdict, and what comes of them."""
    print_listing(
        ("rule", "verdict", "detail"),
        [
            {
                "rule": verdict.rule,
                "verdict": "allowed" if verdict.allowed else "refused",
                "detail": verdict.detail,
            }
            for verdict in verdicts
        ],
        form,
    )
    refused = [each for each in verdicts if not each.allowed]
    if refused:
        result = f"refused by {refused[0].rule}: {escaped(refused[0].detail)}"
    elif profile.settings.approval == "always":
        result = "held, until a person approves it"
    else:
        result = "granted"
    click.echo(f"profile {profile.name}: {result}", err=True)


def _read_request(path: Path) -> CertificateRequest:
    """Read a certification request in PEM or DER."""
    with path.open("rb") as stream:
        content = stream.read(_LARGEST)
    try:
        return read_csr(pem_or_der(content))
    except RequestError as error:
        raise Refused(f"{path}: {error.detail}") from None


def _endpoint(
    desk: Desk, tenant_id: str, name: str | None, protocol: str | None
) -> Endpoint:
    """Return where the request would come in."""
    served = [
        endpoint
        for endpoints in desk.config.endpoints.values()
        for endpoint in endpoints
        if endpoint.tenant_id == tenant_id
        and protocol in (None, endpoint.protocol)
        and name in (None, endpoint.profile)
    ]
    if served:
        return served[0]
    if name is None:
        raise Refused("no endpoint serves this tenant; add --profile")
    authority = next(iter(desk.config.authorities))
    return Endpoint(protocol or "est", "", tenant_id, name, authority)


def _issuer(desk: Desk, endpoint: Endpoint) -> bytes:
    """Return the certificate of the endpoint's authority."""
    settings: AuthoritySettings = desk.config.authorities[endpoint.authority]
    return load_chain(settings)[0]


async def _principal(store: IStore, tenant_id: str, text: str) -> Principal:
    """Return who asks, with the limits of the credential, if it exists."""
    kind, colon, name = text.partition(":")
    if not colon or kind not in ("basic", "bearer", "token") or not name:
        raise click.UsageError(
            "--principal is basic:NAME, bearer:NAME or token:NAME"
        )
    record = None
    if kind != "token":
        record = await store.find_credential(tenant_id, kind, name)
    if record is None:
        return Principal(kind, name, tenant_id)
    return Principal(kind, name, tenant_id, record.names, record.profiles)


async def _certified(
    store: IStore, endpoint: Endpoint, path: Path
) -> Principal:
    """Return the owner of the certificate that would be renewed."""
    facts = read_certificate(read_certificates(path)[0])
    tenant_id = endpoint.tenant_id
    record = await store.find_certificate(tenant_id, facts.serial)
    if record is not None and record.der != facts.der:
        record = None
    return Principal(
        "certificate",
        f"{endpoint.authority}:{facts.serial}",
        tenant_id,
        certificate=facts,
        record=record,
    )


def _proof(wanted: CertificateRequest, verdicts: list[Verdict]) -> Verdict:
    """Judge the proof of possession, if the key may be used at all."""
    rule = "proof-of-possession"
    if any(
        verdict.rule in _KEY_RULES and not verdict.allowed
        for verdict in verdicts
    ):
        return Verdict(rule, False, "not looked at: the key is refused")
    try:
        verify_proof(wanted)
    except RequestError as error:
        return Verdict(rule, False, error.detail)
    return Verdict(rule, True, "satisfied")
