# SPDX-License-Identifier: MIT
"""Gateways in processes of their own, and the clients that use them."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

import trstctl as trstctl_package
from trstctl.pkix.cms import read_certs_only

TENANT = "11111111-1111-1111-1111-111111111111"
#: Where subprocesses find the very trstctl that is tested.
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(trstctl_package.__file__).parents[1]),
}
FAULTY = Path(__file__).with_name("faulty_daemon.py")
START_SECONDS = 60.0


def require_client(*programs: str) -> None:
    """Skip without a client that others wrote; in CI, fail."""
    for program in programs:
        found = shutil.which(program) or Path(program).exists()
        if not found and os.environ.get("TRSTCTL_REQUIRE_CLIENTS"):
            pytest.fail(f"{program} is not installed, and must be in CI")
        if not found:
            pytest.skip(f"{program} is not installed")


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def trstctl(*arguments: str, config: Path, text: str = "") -> str:
    """Run the command line and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "trstctl.cli.main", *arguments],
        env={**ENVIRONMENT, "TRSTCTL_CONFIG": str(config)},
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@frozen
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def certificate(self) -> bytes:
        """The DER of the one certificate in an enrollment's answer."""
        (certificate,) = read_certs_only(base64.b64decode(self.body))
        return certificate


@define
class Device:
    """A key, and what it asks for."""

    name: str
    key: ec.EllipticCurvePrivateKey = field(
        factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def request(self, *names: str) -> bytes:
        """Return a base64 request for the common name and DNS names."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(
            x509.Name(
                [x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)]
            )
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([*map(x509.DNSName, names)]),
                critical=False,
            )
        der = builder.sign(self.key, hashes.SHA256()).public_bytes(
            Encoding.DER
        )
        return base64.encodebytes(der)

    def write(self, folder: Path, certificate: bytes) -> tuple[Path, Path]:
        """Write certificate and key as a TLS client wants them."""
        chain, key = folder / f"{self.name}.pem", folder / f"{self.name}.key"
        chain.write_bytes(
            x509.load_der_x509_certificate(certificate).public_bytes(
                Encoding.PEM
            )
        )
        key.write_bytes(
            self.key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
        )
        return chain, key


@define
class Gateway:
    """
    A state directory and, while it runs, the process that serves it.

    :ivar http_port: of the plain listener; 0: there is none.
    """

    folder: Path
    https_port: int = field(factory=free_port)
    ops_port: int = field(factory=free_port)
    http_port: int = 0
    process: subprocess.Popen[bytes] | None = None
    passwords: dict[tuple[str, str], str] = field(factory=dict)

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "trstctl.yaml"

    @property
    def root(self) -> Path:
        """The root certificate."""
        return self.folder / "ca" / "root.pem"

    @property
    def log(self) -> Path:
        """Everything that the process has written."""
        return self.folder.parent / f"{self.folder.name}.log"

    def configure(self, protocols: str, more: str = "") -> None:
        """Write the configuration: the protocols' sections in flow style."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        plain = ""
        if self.http_port:
            plain = f"  http: {{enabled: true, port: {self.http_port}}}\n"
        self.config.write_text(
            f"listeners:\n"
            f"{plain}"
            f"  https: {{port: {self.https_port}}}\n"
            f"  ops: {{port: {self.ops_port}}}\n"
            f"protocols: {{{protocols}}}\n{more}"
        )

    def start(self, fail_at: str = "") -> None:
        """Start the process and wait until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    str(FAULTY),
                    str(self.config),
                    *([fail_at] if fail_at else []),
                ],
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def ready(self) -> bool:
        """Tell whether the gateway says that it is ready."""
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{self.ops_port}/readyz"
            with urllib.request.urlopen(url, timeout=10) as answer:
                return bool(json.load(answer)["ready"])
        return False

    def end(self) -> None:
        """Make sure that no process is left."""
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.terminate()
                self.process.wait(40)
            self.process.kill()
            self.wait()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the process and return its status."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        """Wait until the process has ended and return its status."""
        assert self.process is not None
        status = self.process.wait(60)
        self.process = None
        return status

    def add_password(self, name: str, tenant: str = TENANT, *more: str) -> str:
        """Add a credential and return its password."""
        password = f"{name}-password"
        secret = self.folder / f"{name}.password"
        secret.touch(mode=0o600)
        secret.write_text(password)
        trstctl(
            *("credential", "add", name, "--tenant", tenant),
            *("--password-file", str(secret), *more),
            config=self.config,
        )
        self.passwords[tenant, name] = password
        return password

    def connection(
        self,
        certificate: tuple[Path, Path] | None = None,
        source: str = "127.0.0.1",
    ) -> http.client.HTTPSConnection:
        """Return a connection that trusts the gateway's root."""
        context = ssl.create_default_context(cafile=str(self.root))
        if certificate is not None:
            context.load_cert_chain(*certificate)
        return http.client.HTTPSConnection(
            "localhost",
            self.https_port,
            context=context,
            timeout=60,
            source_address=(source, 0),
        )

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        user: str = "",
        password: str = "",
        certificate: tuple[Path, Path] | None = None,
        headers: Mapping[str, str] | None = None,
        source: str = "127.0.0.1",
    ) -> Answer:
        """Send one request on a connection of its own."""
        sent = {"Connection": "close", **(headers or {})}
        if body is not None:
            sent.setdefault("Content-Type", "application/pkcs10")
        if user:
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            sent["Authorization"] = f"Basic {pair}"
        client = self.connection(certificate, source)
        try:
            client.request(method, path, body, sent)
            response = client.getresponse()
            return Answer(
                response.status, dict(response.headers), response.read()
            )
        finally:
            client.close()

    def enroll(
        self,
        body: bytes,
        user: str = "device",
        *,
        label: str = "",
        headers: Mapping[str, str] | None = None,
        source: str = "127.0.0.1",
    ) -> Answer:
        """Enroll with a password."""
        place = f"/{label}" if label else ""
        return self.ask(
            "POST",
            f"/.well-known/est{place}/simpleenroll",
            body,
            user=user,
            password=f"{user}-password",
            headers=headers,
            source=source,
        )

    def serials(self, tenant: str = TENANT) -> list[str]:
        """Return the serials of the tenant's inventory."""
        listed = trstctl(
            *("cert", "list", "--tenant", tenant, "--output", "json"),
            *("--limit", "10000"),
            config=self.config,
        )
        return [row["serial"] for row in json.loads(listed)]

    def verify_audit(self) -> None:
        """Verify every tenant's chain."""
        trstctl("audit", "verify", config=self.config)

    def audit_events(self, tenant: str = TENANT) -> list[dict[str, object]]:
        """Return the bodies of the tenant's audit records."""
        target = self.folder / "audit.jsonl"
        trstctl("audit", "export", "-o", str(target), config=self.config)
        lines = map(json.loads, target.read_text().splitlines())
        return [
            json.loads(line["body"])
            for line in lines
            if line["tenant"] == tenant
        ]


EST = f'est: {{enabled: true, tenant_id: "{TENANT}"}}'


@contextlib.contextmanager
def running(folder: Path, protocols: str = EST) -> Iterator[Gateway]:
    """Run a gateway with one credential, ``device``."""
    gateway = Gateway(folder)
    gateway.configure(protocols)
    gateway.start()
    try:
        gateway.add_password("device")
        yield gateway
    finally:
        if gateway.process is not None:
            gateway.stop()
