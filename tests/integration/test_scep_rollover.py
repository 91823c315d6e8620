# SPDX-License-Identifier: MIT
"""
The rollover of a CA key with SCEP clients that others wrote.

Each has enrolled under the old key and renews under the new one.  The CA has
RSA keys, which is all that PyScep can verify.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from running import TENANT, Gateway, free_port, require_client, trstctl
from scep_clients import (
    CURL_PLUGIN,
    certmonger,
    enroll_by_pki,
    require_pyscep,
    run,
    wait_for,
)

CLIENT = Path(__file__).with_name("clients") / "pyscep_rollover.py"

pytestmark = pytest.mark.interop


@define
class Site:
    """A gateway, and what is known of its CA."""

    gateway: Gateway
    challenges: list[str]

    @property
    def url(self) -> str:
        """Where SCEP is."""
        return f"http://localhost:{self.gateway.http_port}/scep"

    def get(self, operation: str) -> bytes:
        """Ask for something that is no message."""
        url = f"{self.url}?operation={operation}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            told: bytes = answer.read()
            return told

    def step(self, *arguments: str) -> None:
        """Take a step of the rollover, which the gateway follows."""

        def followed() -> int:
            return self.gateway.log.read_text().count("rollover.followed")

        before = followed()
        trstctl(
            *("ca", "rollover", *arguments, "issuing"),
            config=self.gateway.config,
        )
        wait_for(lambda: followed() > before)

    def chain(self, generation: str) -> list[x509.Certificate]:
        """Return the certificates of a key, its own first."""
        ca = self.gateway.folder / "ca"
        found = x509.load_pem_x509_certificates(
            (ca / f"{generation}.pem").read_bytes()
        )
        if len(found) == 1:
            found += x509.load_pem_x509_certificates(
                self.gateway.root.read_bytes()
            )
        return found

    def is_of(self, certificate: x509.Certificate, generation: str) -> bool:
        """Tell whether a key has signed a certificate."""
        try:
            certificate.verify_directly_issued_by(self.chain(generation)[0])
        except Exception:  # noqa: BLE001 - of whatever kind
            return False
        return True


@define
class StrongSwan:
    """
    ``pki``, which keeps what it is told in files.

    :ivar held: the name of the last certificate.
    """

    site: Site
    folder: Path
    held: str = "first"

    def fetch(self, generation: str) -> None:
        """Fetch the certificates; they are two CAs', and the RA's."""
        run(
            *("pki", "--scepca", "--url", self.site.url, "--force"),
            *("--caout", "ca.pem", "--raout", "ra.pem", "--outform", "pem"),
            folder=self.folder,
        )
        names = sorted(each.name for each in self.folder.glob("ca*.pem"))
        assert ["ca-1.pem", "ca.pem"] == names
        found = [
            x509.load_pem_x509_certificate((self.folder / name).read_bytes())
            for name in names
        ]
        assert self.site.chain(generation) == found

    def ask(
        self, name: str, *options: str, label: str = "", status: int = 0
    ) -> str:
        """Ask for a certificate with what it has been told."""
        return enroll_by_pki(
            *(self.folder, name, "--url", f"{self.site.url}{label}"),
            *("--dn", "CN=moon", "--san", "moon.example"),
            *("--cacert-enc", "ra.pem", "--cacert-sig", "ra.pem"),
            *("--cacert", "ca.pem", "--cacert", "ca-1.pem"),
            *("--outform", "pem", *options),
            status=status,
        )

    def renew(self, name: str, generation: str, label: str = "") -> str:
        """Renew the certificate that it has; that is the last one then."""
        old = ("--cert", f"{self.held}.pem", "--key", f"{self.held}.key")
        told = self.ask(name, *old, label=label)
        certificate = x509.load_pem_x509_certificate(
            (self.folder / f"{name}.pem").read_bytes()
        )
        assert self.site.is_of(certificate, generation)
        self.held = name
        return told

    def before(self) -> None:
        """Enroll."""
        self.fetch("issuing")
        self.ask("first", "--password", self.site.challenges.pop())

    def prepared(self) -> None:
        """All is as before."""
        self.fetch("issuing")
        assert "is trusted" in self.renew("second", "issuing")

    def active(self) -> None:
        """What it was told before does; what it is told now, too."""
        # It cannot verify what it gets: it does not use what comes with it.
        assert "is not trusted" in self.renew("third", "issuing-2")
        assert "is not trusted" in self.renew("fourth", "issuing-2", "/chain")
        self.held = "second"
        self.fetch("issuing-2")
        assert "is trusted" in self.renew("fifth", "issuing-2")

    def finished(self) -> None:
        """A certificate of the new key renews; one of the old does not."""
        assert "is trusted" in self.renew("sixth", "issuing-2")
        old = ("--cert", "second.pem", "--key", "second.key")
        assert "badRequest" in self.ask("late", *old, status=1)


@define
class Certmonger:
    """certmonger, which looks after itself."""

    site: Site
    folder: Path
    command: Callable[..., str]
    certificate: Path = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Tell it where the gateway is."""
        self.certificate = self.folder / "cert.pem"
        self.command("add-scep-ca", "-c", "gateway", "-u", self.site.url)

    def renew(self, how: str, generation: str) -> None:
        """Renew, with the same key or another."""
        self.command(how, "-f", self.certificate, "-w", "-v")
        found = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        assert self.site.is_of(found, generation)

    def refresh(self) -> None:
        """Have it fetch the certificates anew."""

        def thumbprints() -> str:
            return self.command("list-cas", "-c", "gateway")

        before = thumbprints()
        self.command("refresh-ca", "-c", "gateway")
        wait_for(lambda: thumbprints() != before)

    def before(self) -> None:
        """Enroll."""
        self.command(
            *("request", "-c", "gateway", "-k", self.folder / "key.pem"),
            *("-f", self.certificate, "-N", "CN=cm", "-D", "cm.example"),
            *("-L", self.site.challenges.pop(), "-w", "-v"),
        )

    def prepared(self) -> None:
        """All is as before."""
        self.renew("resubmit", "issuing")

    def active(self) -> None:
        """What it was told before does; what it is told now, too."""
        self.renew("resubmit", "issuing-2")
        self.refresh()
        self.renew("rekey", "issuing-2")

    def finished(self) -> None:
        """Nothing is different."""
        self.renew("rekey", "issuing-2")


@define
class PyScep:
    """PyScep, which verifies what GetNextCACert brings."""

    site: Site
    client: subprocess.Popen[str]

    def says(self) -> list[str]:
        """Return what it says next."""
        assert self.client.stdout is not None
        line = self.client.stdout.readline()
        assert line, self.client.communicate(timeout=20)[1]
        return line.split()

    def go_on(self) -> list[str]:
        """Let it take the next step; return what it says."""
        assert self.client.stdin is not None
        self.client.stdin.write("\n")
        self.client.stdin.flush()
        return self.says()

    def before(self) -> None:
        """Enroll."""
        assert "enrolled" == self.says()[0]

    def prepared(self) -> None:
        """It is told the chain of the next key, after its RA's."""
        step, _, *certificates = self.go_on()
        assert "next" == step
        assert certificates == [
            each.public_bytes(Encoding.DER).hex()
            for each in self.site.chain("issuing-2")
        ]

    def active(self) -> None:
        """What it was told is what it is told now; it renews."""
        step, renewed = self.go_on()
        assert "renewed" == step
        certificate = x509.load_der_x509_certificate(bytes.fromhex(renewed))
        assert self.site.is_of(certificate, "issuing-2")

    def finished(self) -> None:
        """It has come to its end."""
        assert 0 == self.client.wait(20)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Return a gateway."""
    require_client("openssl")
    gateway = Gateway(tmp_path / "state", http_port=free_port())
    trstctl(
        *("init", "--state", str(gateway.folder)),
        *("--key-algorithm", "rsa-2048"),
        config=gateway.config,
    )
    gateway.configure(
        f'scep: {{enabled: true, tenant_id: "{TENANT}", '
        "labels: {chain: {include_chain: true}}}"
    )
    gateway.start()
    try:
        printed = trstctl(
            *("challenge", "create", "--any-name", "--profile", "device"),
            *("--count", "3", "--output", "json"),
            config=gateway.config,
        )
        yield Site(gateway, [row["challenge"] for row in json.loads(printed)])
    finally:
        gateway.end()


@contextlib.contextmanager
def devices(
    site: Site, folder: Path
) -> Iterator[list[StrongSwan | Certmonger | PyScep]]:
    """Yield every client that is here; in CI, all."""
    require_client("pki", CURL_PLUGIN)
    moon, cm = folder / "moon", folder / "cm"
    for each in (moon, cm):
        each.mkdir()
    with contextlib.ExitStack() as stack:
        command = stack.enter_context(certmonger(cm))
        found: list[StrongSwan | Certmonger | PyScep] = [
            StrongSwan(site, moon),
            Certmonger(site, cm, command),
        ]
        if {"TRSTCTL_PYSCEP", "TRSTCTL_REQUIRE_CLIENTS"} & set(os.environ):
            client = stack.enter_context(
                subprocess.Popen(
                    [require_pyscep(), CLIENT, site.url, site.challenges[0]],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(client.kill)
            found.append(PyScep(site, client))
        yield found


class RolloverTests:
    """Another root and another issuing key."""

    def test_devices_come_along(self, site: Site, tmp_path: Path) -> None:
        """All of them renew at every step, by what their users do."""
        with devices(site, tmp_path) as clients:
            for each in clients:
                each.before()
            site.step("prepare", "--new-root")
            self.check_next(site, tmp_path)
            for each in clients:
                each.prepared()
            site.step("activate", "--now", "--yes")
            for each in clients:
                each.active()
            site.step("finish", "--force", "--yes")
            for each in clients:
                each.finished()

    def check_next(self, site: Site, folder: Path) -> None:
        """The CA's own key signs the next certificates (section 4.7.1)."""
        next_file, signer = folder / "next.der", folder / "signer.pem"
        next_file.write_bytes(site.get("GetNextCACert"))
        ca = site.gateway.folder / "ca"
        run(
            *("openssl", "cms", "-verify", "-inform", "DER", "-in", next_file),
            *("-certfile", ca / "issuing.pem", "-CAfile", site.gateway.root),
            *("-purpose", "any", "-out", "told.der", "-signer", signer),
            folder=folder,
        )
        issuing, _ = site.chain("issuing")
        assert issuing == x509.load_pem_x509_certificate(signer.read_bytes())
