# SPDX-License-Identifier: MIT
"""A gateway in a process of its own, and a client that loads it."""

from __future__ import annotations

import base64
import json
import os
import re
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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


@dataclass
class _Client:
    """One keep-alive connection: what it still sends, and what came."""

    turn: Iterator[int]
    number: int = 0
    received: bytes = b""


def request_octets(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = {}
) -> bytes:
    """Return a request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode("ascii") + body


def exchange_all(
    connect: Callable[[], socket.socket],
    requests: Sequence[bytes],
    connections: int,
) -> list[bytes]:
    """
    Send every request over that many keep-alive connections.

    In one thread, and with as little work as it takes: what the client does
    on its core would show on the gateway's, in the cache that they share.

    :param requests: of :func:`request_octets`.
    :returns: the body of each answer.
    """
    answers = [b""] * len(requests)
    with selectors.DefaultSelector() as waiting:

        def send_next(sock: socket.socket, client: _Client) -> None:
            number = next(client.turn, None)
            if number is None:
                waiting.unregister(sock)
                sock.close()
                return
            client.number, client.received = number, b""
            sock.sendall(requests[number])

        for start in range(connections):
            sock = connect()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            client = _Client(iter(range(start, len(requests), connections)))
            waiting.register(sock, selectors.EVENT_READ, client)
            send_next(sock, client)
        while waiting.get_map():
            ready = waiting.select(60)
            if not ready:
                raise RuntimeError("the gateway does not answer")
            for key, _ in ready:
                sock, client = key.fileobj, key.data
                with suppress(ssl.SSLWantReadError):  # a session ticket, say
                    octets = sock.recv(65536)
                    if not octets:
                        raise RuntimeError("the gateway has hung up")
                    client.received += octets
                body = _body(client.received)
                if body is not None:
                    answers[client.number] = body
                    send_next(sock, client)
    return answers


_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")


def _body(octets: bytes) -> bytes | None:
    """Return the body of an answer, once it is whole."""
    end = octets.find(b"\r\n\r\n")
    if end < 0:
        return None
    length = _LENGTH.search(octets, 0, end + 2)
    if not octets.startswith(b"HTTP/1.1 200 ") or length is None:
        raise RuntimeError(octets.decode("latin-1"))
    body = octets[end + 4 :]
    return body if len(body) == int(length[1]) else None


def _tls_connection(gateway: Gateway) -> Callable[[], socket.socket]:
    """Return what connects to the gateway by TLS."""
    context = gateway.tls_context()

    def connect() -> socket.socket:
        plain = socket.create_connection(("localhost", gateway.port), 60)
        return context.wrap_socket(plain, server_hostname="localhost")

    return connect


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
    path = "/.well-known/est/simpleenroll"
    requests = [request_octets("POST", path, one, headers) for one in bodies]
    began = time.monotonic()
    answers = exchange_all(_tls_connection(gateway), requests, connections)
    return time.monotonic() - began, answers


def get_all(gateway: Gateway, count: int, connections: int) -> None:
    """Fetch the CA certificates that many times, keep-alive."""
    request = request_octets("GET", "/.well-known/est/cacerts")
    exchange_all(_tls_connection(gateway), [request] * count, connections)
