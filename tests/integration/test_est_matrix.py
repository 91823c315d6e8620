# SPDX-License-Identifier: MIT
"""
Every client, every operation that it has, each version of TLS that it speaks.

One gateway serves them all, with the configuration that ``trstctl init``
writes: ports apart, only labels are added, a profile that asks a person, and one whose
keys the gateway makes.
"""

from __future__ import annotations

import base64
import http.client
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_pem_private_key,
)
from est_clients import verify
from est_matrix import (
    CLIENTS,
    Client,
    Proof,
    RefusedError,
    approve_held,
)
from running import Device, Gateway, free_port, require_client, trstctl

from trstctl.cli.main import main
from trstctl.pkix.certificate import read_certificate

PAGE = Path(__file__).parents[2] / "docs" / "est.rst"

pytestmark = pytest.mark.interop

LABELS = """\
    labels:
      told: {profile: tls-server}
      keys: {profile: made, serverkeygen: true}
"""
PROFILES = """\
profiles:
  asking: {approval: always, approval_retry_after: 1, names: {dns: ["*"]}}
  made: {server_key_generation: true, key_types: [rsa], names: {dns: ["*"]}}
"""


# --- the gateway ------------------------------------------------------------


@define
class Served:
    """
    The gateway, and who may enroll.

    :ivar default: its configuration.
    """

    gateway: Gateway
    default: str
    password: Proof
    token: Proof

    def reload(self, profile: str) -> None:
        """Have another profile at the endpoint without a label."""
        config = self.gateway.config
        config.write_text(
            self.default.replace("profile: device", f"profile: {profile}", 1)
        )
        before = self.gateway.log.read_text().count("reload.done")
        assert self.gateway.process is not None
        self.gateway.process.send_signal(signal.SIGHUP)
        while before == self.gateway.log.read_text().count("reload.done"):
            assert self.gateway.process.poll() is None


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Start what ``trstctl init`` sets up."""
    folder = tmp_path_factory.mktemp("matrix")
    gateway = Gateway(folder / "state", http_port=free_port())
    done = CliRunner().invoke(main, ["init", "--state", str(gateway.folder)])
    assert done.exit_code == 0, done.output
    text = gateway.config.read_text()
    for old, new in (
        ("port: 8443", f"port: {gateway.https_port}"),
        ("port: 9443", f"port: {gateway.ops_port}"),
        ("port: 8080", f"port: {gateway.http_port}"),
        ("profiles: {}\n", PROFILES),
        ("authority: issuing\n", f"authority: issuing\n{LABELS}"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    gateway.config.write_text(text)
    gateway.start()
    try:
        (gateway.folder / "p").touch(mode=0o600)
        (gateway.folder / "p").write_text("device-password")
        trstctl(
            *("credential", "add", "device"),
            *("--password-file", str(gateway.folder / "p")),
            config=gateway.config,
        )
        told = trstctl(
            *("credential", "add", "t", "--kind", "bearer"),
            *("--output", "csv"),
            config=gateway.config,
        )
        token = told.split()[-1].rpartition(",")[2]
        yield Served(
            gateway,
            text,
            Proof(user="device", password="device-password"),
            Proof(token=token),
        )
    finally:
        gateway.end()


@pytest.fixture(scope="class")
def asking(served: Served) -> Iterator[None]:
    """Let the default endpoint ask a person."""
    served.reload("asking")
    yield
    served.reload("device")


Finder = Callable[[type[Client], str], Client]


@pytest.fixture(scope="module")
def client_of(
    served: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Finder]:
    """Return each client once for each version of TLS."""
    found: dict[tuple[type[Client], str], Client] = {}

    def find(kind: type[Client], version: str) -> Client:
        if (kind, version) not in found:
            found[kind, version] = kind(
                served.gateway,
                tmp_path_factory.mktemp(kind.__name__),
                version,
                served.password,
                served.token,
            )
        return found[kind, version]

    yield find
    for client in found.values():
        client.close()


# --- what each operation must give ------------------------------------------


def ca_certificates(client: Client) -> None:
    """The issuing CA and the root, whatever their order."""
    folder = client.gateway.folder / "ca"
    expected = {
        x509.load_pem_x509_certificate((folder / name).read_bytes())
        for name in ("issuing.pem", "root.pem")
    }
    assert expected == {
        x509.load_der_x509_certificate(each)
        for each in client.ca_certificates()
    }


def csr_attributes(client: Client) -> None:
    """Nothing from the default profile, something from another."""
    assert b"" == client.csr_attributes()
    # extensionRequest: names are required.
    assert bytes.fromhex("300b06092a864886f70d01090e") == (
        client.csr_attributes("told")
    )


def enroll_by_password(client: Client) -> None:
    """One certificate, for what was asked."""
    issued(client, "password", client.password)


def enroll_by_token(client: Client) -> None:
    """The same with a bearer token."""
    issued(client, "token", client.token)


def enroll_by_certificate(client: Client) -> None:
    """A certificate buys another one, by TLS client authentication."""
    name = issued(client, "certificate", client.password)
    first = client.enroll(name, name, Proof(certificate=name))
    second = client.enroll(name, f"{name}-new", Proof(certificate=name))
    assert first != second
    verify_one(client, second)


def re_enroll_same_key(client: Client) -> None:
    """A certificate renews itself."""
    name = issued(client, "renewing", client.password)
    renewed = client.enroll(name, name, Proof(certificate=name), renewing=True)
    verify_one(client, renewed)


def re_enroll_new_key(client: Client) -> None:
    """It renews itself for another key."""
    name = issued(client, "rekeying", client.password)
    renewed = client.enroll(
        name, f"{name}-new", Proof(certificate=name), renewing=True
    )
    verify_one(client, renewed)


def label(client: Client) -> None:
    """A label leads to its profile."""
    name = name_of(client, "label")
    verify_one(
        client, client.enroll(name, name, client.password, label="told")
    )


def linked(client: Client) -> None:
    """A request that names the session of TLS 1.2 (RFC 7030, 3.5)."""
    name = name_of(client, "linked")
    verify_one(client, client.enroll_linked(name, client.password))


def generated_key(client: Client) -> None:
    """A certificate, and the key of it (RFC 7030, section 4.4)."""
    made = client.generated(name_of(client, "made"), client.password, "keys")
    parsed = x509.load_der_x509_certificate(made.certificate)
    assert parsed.public_key() == made.key.public_key()
    verify_one(client, made.certificate)


def wrong_password(client: Client) -> None:
    """The client can tell that it is the password."""
    wrong = Proof(user="device", password="wrong")
    name = name_of(client, "wrong")
    with pytest.raises(RefusedError) as refused:
        client.enroll(name, name, wrong)
    assert refused.value.status == 401


def held(client: Client) -> None:
    """It waits, and gets the certificate once a person has agreed."""
    found = client.enroll_held(
        name_of(client, "held"),
        client.password,
        lambda: approve_held(client.gateway),
    )
    verify_one(client, found)


OPERATIONS: dict[str, Callable[[Client], None]] = {
    "/cacerts": ca_certificates,
    "/csrattrs": csr_attributes,
    "enroll, password": enroll_by_password,
    "enroll, bearer token": enroll_by_token,
    "enroll, certificate": enroll_by_certificate,
    "re-enroll, same key": re_enroll_same_key,
    "re-enroll, new key": re_enroll_new_key,
    "label": label,
    "tls-unique": linked,
    "/serverkeygen": generated_key,
    "wrong password": wrong_password,
    "202, then approved": held,
}
#: The one that needs another profile at the default endpoint: strongSwan has
#: no labels.
HELD = "202, then approved"


def name_of(client: Client, word: str) -> str:
    """Return a name that no other test asks for."""
    kind = type(client).__name__.lower()
    return f"{word}.{kind}{client.version.replace('.', '')}.example"


def issued(client: Client, word: str, proof: Proof) -> str:
    """Enroll; return the name, under which the client knows its key."""
    name = name_of(client, word)
    found = client.enroll(name, name, proof)
    verify_one(client, found)
    facts = read_certificate(found)
    assert [name] == [each.value for each in facts.names]
    return name


def verify_one(client: Client, certificate: bytes) -> None:
    """Let OpenSSL judge a certificate against the gateway's chain."""
    require_client("openssl")
    path = client.folder / "judged.pem"
    found = x509.load_der_x509_certificate(certificate)
    path.write_bytes(found.public_bytes(Encoding.PEM))
    verify(client.gateway, path)


# --- the matrix -------------------------------------------------------------


def cells() -> list[tuple[str, type[Client], str]]:
    """Return every operation of each client with each version of TLS."""
    return [
        (operation, client, version)
        for operation in OPERATIONS
        for client in CLIENTS
        if operation not in client.cannot
        for version in client.versions
    ]


def params(*, asking: bool) -> list[Any]:
    """Return the cells as parameters: those that ask a person, or not."""
    return [
        pytest.param(*cell, id=f"{cell[0]}-{cell[1].name}-{cell[2]}")
        for cell in cells()
        if asking == (cell[0] == HELD)
    ]


class MatrixTests:
    """RFC 7030 with the clients that there are."""

    @pytest.mark.parametrize(
        ("operation", "kind", "version"), params(asking=False)
    )
    def test_cell(
        self,
        client_of: Finder,
        operation: str,
        kind: type[Client],
        version: str,
    ) -> None:
        """What the documentation's table says of client and operation."""
        OPERATIONS[operation](client_of(kind, version))

    @pytest.mark.parametrize(
        "operation", ["cacerts", "csrattrs", "simpleenroll", "simplereenroll"]
    )
    def test_never_without_tls(self, served: Served, operation: str) -> None:
        """RFC 7030, 3.2.3 and 3.3: no answer, and no password asked for."""
        client = http.client.HTTPConnection(
            "localhost", served.gateway.http_port, timeout=30
        )
        method = "GET" if operation in ("cacerts", "csrattrs") else "POST"
        client.request(method, f"/.well-known/est/{operation}", body=b"")
        answer = client.getresponse()
        assert answer.status == 404
        assert "WWW-Authenticate" not in answer.headers
        client.close()

    def test_documented(self) -> None:
        """The table of the documentation is this matrix, cell by cell."""
        found = documented()
        assert cells() == [
            (operation, client, version)
            for operation in OPERATIONS
            for client in CLIENTS
            for version in found.pop((operation, client.name))
        ]
        assert {} == found


@pytest.mark.usefixtures("asking")
class HeldTests:
    """The same where a person decides (RFC 7030, section 4.2.3)."""

    @pytest.mark.parametrize(
        ("operation", "kind", "version"), params(asking=True)
    )
    def test_cell(
        self,
        client_of: Finder,
        operation: str,
        kind: type[Client],
        version: str,
    ) -> None:
        """Held, approved, and given at the next try."""
        OPERATIONS[operation](client_of(kind, version))


class SecrecyTests:
    """What the gateway leaves of secrets."""

    def test_secrets_are_nowhere(self, served: Served) -> None:
        """R-14: neither log nor database has a password, token or key."""
        gateway = served.gateway
        issued = gateway.enroll(Device("secrecy").request())
        assert issued.status == 200
        kept = [gateway.log.read_bytes()] + [
            path.read_bytes()
            for path in gateway.folder.glob("trstctl.db*")
            if path.is_file()
        ]
        assert any(b"secrecy" in text for text in kept)
        key = load_pem_private_key(
            (gateway.folder / "ca" / "issuing.key").read_bytes(), None
        )
        number = key.private_numbers().private_value.to_bytes(32)  # type: ignore[union-attr]
        secrets = [
            served.password.password.encode(),
            served.token.token.partition(".")[2].encode(),
            number,
            number.hex().encode(),
            base64.b64encode(number)[:40],
        ]
        assert all(len(secret) > 12 for secret in secrets)
        for text in kept:
            assert not [secret for secret in secrets if secret in text]


def documented() -> dict[tuple[str, str], list[str]]:
    """Return the versions in each cell of the documentation's table."""
    _, _, rest = PAGE.read_text().partition("\nWhich clients can do what\n")
    lines = rest.splitlines()
    border = next(
        line for line in lines if line.startswith("=") and " " in line
    )
    ends = [0, *(at for at, c in enumerate(border) if c == " "), None]
    spans = [slice(*pair) for pair in pairwise(ends)]

    def split(line: str) -> list[str]:
        return [line[span].strip() for span in spans]

    first, second, third = (
        at for at, line in enumerate(lines) if line == border
    )
    (head,) = lines[first + 1 : second]
    clients = split(head)[1:]
    return {
        (words[0].strip("`"), client): (
            [] if cell == "--" else cell.split(", ")
        )
        for words in map(split, lines[second + 1 : third])
        for client, cell in zip(clients, words[1:], strict=True)
    }
