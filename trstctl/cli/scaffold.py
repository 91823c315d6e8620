# SPDX-License-Identifier: MIT
"""
The files of a new state directory.

They are made in a directory inside it and moved into place when all of them
are good, the configuration file last: a state directory has either all of
them or none.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from trstctl.backends.keyfiles import private_directory, replace_file
from trstctl.cli.context import FILE
from trstctl.cli.faults import Refused
from trstctl.config.reader import json_schema, load
from trstctl.discovery import discover
from trstctl.founding import CA_DIRECTORY

#: Beside the configuration file, for editors.
SCHEMA = Path("trstctl.schema.json")

#: What a new state consists of, in the order in which it is put in place.
_PARTS = (Path(CA_DIRECTORY), SCHEMA, FILE)

#: What else tells that a state directory is in use.
_TRACES = (Path("trstctl.db"), Path("tls"))


@frozen
class Plan:
    """
    What the first configuration says.

    :ivar names: what the server certificate is for.
    :ivar http_port: of the plain listener; ``None``: there is none.
    :ivar chain: files of the CAs above the issuing one.
    :ivar passphrase: absolute path of the issuing key's passphrase.
    :ivar bootstrap: whether devices may enroll with single-use tokens.
    """

    tenant_id: str
    organization: str
    names: Sequence[str]
    https_port: int = 8443
    http_port: int | None = 8080
    ops_port: int = 9443
    chain: Sequence[str] = ("ca/root.pem",)
    passphrase: Path | None = None
    bootstrap: bool = False


@contextlib.contextmanager
def new_state(state: Path) -> Iterator[Path]:
    """
    Yield a directory to make the files in; then put them into place.

    If anything fails, nothing is left.

    :raises Refused: the state directory is in use.
    :raises KeyFileError: others may list or change it.
    """
    for part in (*_PARTS, *_TRACES):
        if (state / part).exists():
            raise Refused(
                f"{state / part} exists, so this state is in use; choose "
                "another directory by --state"
            )
    existed = state.exists()
    private_directory(state)
    moved: list[Path] = []
    staging = Path(tempfile.mkdtemp(prefix=".init-", dir=state))
    try:
        yield staging
        for part in _PARTS:
            (staging / part).rename(state / part)
            moved.append(state / part)
    except BaseException:
        for path in moved:
            _remove(path)
        _remove(staging)
        if not existed:
            state.rmdir()
        raise
    _remove(staging)


def _remove(path: Path) -> None:
    """Remove a file or a directory with its content."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def write_configuration(directory: Path, plan: Plan) -> None:
    """
    Write the configuration file and its schema, and read it back.

    :raises ConfigurationError: it is not good after all.
    """
    plugins = discover().protocols
    schema = json.dumps(json_schema(plugins), indent=1) + "\n"
    replace_file(directory / SCHEMA, schema.encode(), 0o600)
    text = configuration_text(plan)
    replace_file(directory / FILE, text.encode(), 0o600)
    load(directory / FILE, plugins)


def configuration_text(plan: Plan) -> str:
    """Return the first configuration; what explains it is in comments."""
    passphrase = ""
    if plan.passphrase is not None:
        reference = json.dumps(f"file:{plan.passphrase}")
        passphrase = f"\n    passphrase: {reference}"
    return _TEMPLATE.format(
        schema=SCHEMA,
        https_port=plan.https_port,
        names=json.dumps(list(plan.names)),
        http_enabled="false" if plan.http_port is None else "true",
        http_port=plan.http_port or 8080,
        ops_port=plan.ops_port,
        passphrase=passphrase,
        chain=json.dumps(list(plan.chain)),
        tenant=json.dumps(plan.tenant_id),
        bootstrap=json.dumps(plan.bootstrap),
        organization=json.dumps(plan.organization),
    )


# JSON's texts and lists are YAML's, too.
_TEMPLATE = """\
# yaml-language-server: $schema={schema}
#
# The configuration of a trstctl gateway.  After a change:
#   trstctl config check      tells everything that is wrong with it
#   kill -HUP <process id>    puts it into place without dropping a request
# Every key and its default: trstctl config show --effective

# Where the gateway keeps what it needs.  This directory is relative to this
# file, and every other path is relative to this directory.
state: .
store: sqlite:trstctl.db

listeners:
  # For devices, with TLS.  The certificate is issued by the CA below for
  # these names, and renewed in time; or name one: {{chain: FILE, key: file:FILE}}.
  https:
    port: {https_port}
    names: {names}
    certificate: auto
  # For what protects itself: SCEP, CMP, CRLs, OCSP; never for EST.
  http:
    enabled: {http_enabled}
    port: {http_port}
  # /healthz, /readyz and /metrics, for the operator only.
  ops:
    port: {ops_port}
    interface: 127.0.0.1

# The CA that signs.  Its chain ends with the root, whose key the gateway
# never needs: keep that one offline.
authorities:
  issuing:
    # Certificates say where their CRL and OCSP are; what others call this
    # host, if not as above: public_url: http://pki.example.com
    certificate: ca/issuing.pem
    key: file:ca/issuing.key{passphrase}
    chain: {chain}

# Certificate profiles of your own stand here, beside the built-in ones
# (device, tls-server, tls-client); "trstctl profile show NAME" prints one.
profiles: {{}}

# What listings call a tenant.
tenants:
  {tenant}: {{name: {organization}}}

# Each protocol is off unless it is enabled.  Those that enroll serve one
# tenant.
protocols:
  est:
    enabled: true
    tenant_id: {tenant}
    profile: device
    authority: issuing
  # For single-use tokens: trstctl token create.
  bootstrap:
    enabled: {bootstrap}
    tenant_id: {tenant}
    profile: device
    authority: issuing
  # Nobody enrolls without a challenge: trstctl challenge create.
  scep:
    enabled: true
    tenant_id: {tenant}
    profile: device
    authority: issuing
  # Nobody enrolls without a secret: trstctl challenge create --for cmp.
  cmp:
    enabled: true
    tenant_id: {tenant}
    profile: device
    authority: issuing
  # OCSP, CRLs and CA certificates, for everybody; over http, too.
  revocation:
    enabled: true
"""
