# SPDX-License-Identifier: MIT
"""A gateway in a process of its own, and a client that loads it with TLS."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

_TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Gateway:
    """A running gateway and how to reach it."""

    process: subprocess.Popen[bytes]
    facts: dict
    port: int

    def cpu_seconds(self) -> float:
        """Return the CPU time that the gateway has used, all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text()
        parts = fields.rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / _TICKS

    def resident_bytes(self) -> int:
        """Return the memory that the gateway holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        for line in status.splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")

    def tls_context(self) -> ssl.SSLContext:
        """Return a client context that trusts the gateway's root."""
        return ssl.create_default_context(cafile=self.facts["root_ca"])

    def authorization(self) -> str:
        """Return the HTTP Basic credentials of the quickstart."""
        est = self.facts["est"]
        pair = f"{est['username']}:{est['password']}".encode()
        return "Basic " + base64.b64encode(pair).decode()


def _program() -> list[str]:
    """Return the command ``trstctl``, installed or not."""
    program = Path(sys.executable).with_name("trstctl")
    if program.exists():
        return [str(program)]
    return [sys.executable, "-m", "trstctl.cli.main"]


def trstctl(*arguments: str) -> str:
    """Run a command of ``trstctl``, and return what it prints."""
    done = subprocess.run(
        [*_program(), *arguments], check=True, capture_output=True
    )
    return done.stdout.decode()


@contextmanager
def running_gateway(
    *init: str, adjust: Callable[[Path], object] | None = None
) -> Iterator[Gateway]:
    """
    Run ``trstctl quickstart`` in a fresh directory.

    :param init: options of ``trstctl init``, to be run before.
    :param adjust: called with the configuration that ``init`` wrote.
    """
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        port, ops = free_port(), free_port()
        if init:
            trstctl("init", "--state", str(state), *init)
        if adjust is not None:
            adjust(state / "trstctl.yaml")
        command = [
            *_program(),
            "quickstart",
            "--state", state,
            "--https-port", str(port),
            "--http-port", str(free_port()),
            "--ops-port", str(ops),
        ]  # fmt: skip
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(
                list(map(str, command)), stdout=log, stderr=log
            )
            try:
                facts = _wait(state / "quickstart.json", ops, process)
                yield Gateway(process, facts, port)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(40)


def _wait(facts: Path, ops: int, process: subprocess.Popen[bytes]) -> dict:
    """Return the quickstart's facts once the gateway is ready."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError("the gateway did not start")
        try:
            url = f"http://127.0.0.1:{ops}/readyz"
            with urllib.request.urlopen(url, timeout=5):
                return json.loads(facts.read_text())
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the gateway is not ready")


def make_requests(count: int) -> list[bytes]:
    """Return that many base64 requests, each with a P-256 key of its own."""
    requests = []
    for number in range(count):
        key = ec.generate_private_key(ec.SECP256R1())
        name = f"device-{number}"
        builder = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(
                x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
            )
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName(f"{name}.fleet.example")]
                ),
                critical=False,
            )
        )
        der = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
        requests.append(base64.encodebytes(der))
    return requests


def post_all(
    gateway: Gateway, bodies: list[bytes], connections: int
) -> tuple[float, list[bytes]]:
    """
    Enroll every request over that many keep-alive TLS connections.

    :returns: wall-clock seconds, and every answer.
    """
    headers = {
        "Content-Type": "application/pkcs10",
        "Authorization": gateway.authorization(),
    }
    context = gateway.tls_context()

    def work(share: list[bytes]) -> list[bytes]:
        client = http.client.HTTPSConnection(
            "localhost", gateway.port, context=context, timeout=60
        )
        answers = []
        for body in share:
            client.request(
                "POST", "/.well-known/est/simpleenroll", body, headers
            )
            response = client.getresponse()
            answer = response.read()
            if response.status != 200:
                raise RuntimeError(f"{response.status} {answer!r}")
            answers.append(answer)
        client.close()
        return answers

    shares = [bodies[start::connections] for start in range(connections)]
    began = time.monotonic()
    with ThreadPoolExecutor(connections) as pool:
        found = [one for part in pool.map(work, shares) for one in part]
    return time.monotonic() - began, found


def get_all(gateway: Gateway, count: int, connections: int) -> None:
    """Fetch the CA certificates that many times, keep-alive."""
    context = gateway.tls_context()

    def work(share: int) -> None:
        client = http.client.HTTPSConnection(
            "localhost", gateway.port, context=context, timeout=60
        )
        for _ in range(share):
            client.request("GET", "/.well-known/est/cacerts")
            client.getresponse().read()
        client.close()

    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(work, [count // connections] * connections))
