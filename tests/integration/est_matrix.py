# SPDX-License-Identifier: MIT
"""
The stock clients of EST, each behind the same few methods.

strongSwan, BouncyCastle and curl are the programs themselves.  libest is in
no Debian that CI has, so it is written here from what was observed of it: what
it sends, to the octet, and what it cannot read.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from attrs import define, field, frozen
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_private_key,
    load_pem_private_key,
)
from est_clients import linked_csr
from running import Device, Gateway, require_client

from trstctl.cli.main import main
from trstctl.pkix.cms import read_certs_only

PROGRAM = Path(__file__).with_name("clients") / "BouncyCastleClient.java"
JARS = [
    Path("/usr/share/java") / f"{name}.jar"
    for name in ("bcprov", "bcpkix", "bcutil")
]
_CLASS_PATH = ":".join(map(str, JARS))

_DER, _PEM = Encoding.DER, Encoding.PEM

#: Seconds that a client may take for anything.
_LONG = 60.0

#: What a client tells of an enrollment that waits for a person.
HELD = b""


class RefusedError(Exception):
    """What a client tells of a refusal; the status, if it tells it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@frozen
class Proof:
    """
    Who asks: a password's user, a bearer token, or a certificate.

    :ivar certificate: the name of the key that it certifies.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    certificate: str = ""


@define
class Made:
    """What ``/serverkeygen`` gave: a certificate and its key."""

    certificate: bytes
    key: Any


@define
class Client:
    """
    A client of one version of TLS.

    :cvar name: its column in the documentation.
    :cvar versions: that it speaks.
    :cvar cannot: operations that it does not have.
    :ivar folder: where it may leave files.
    """

    name: ClassVar[str]
    versions: ClassVar[Sequence[str]] = ("1.2", "1.3")
    cannot: ClassVar[frozenset[str]] = frozenset()

    gateway: Gateway
    folder: Path
    version: str
    password: Proof
    token: Proof

    @property
    def server(self) -> str:
        """The gateway's host and port."""
        return f"localhost:{self.gateway.https_port}"

    def ca_certificates(self, label: str = "") -> list[bytes]:
        """Return what ``/cacerts`` gives."""
        raise NotImplementedError

    def csr_attributes(self, label: str = "") -> bytes:
        """Return what ``/csrattrs`` gives; empty for nothing."""
        raise NotImplementedError

    def enroll(
        self,
        name: str,
        key: str,
        proof: Proof,
        *,
        label: str = "",
        renewing: bool = False,
    ) -> bytes:
        """
        Return the DER certificate, or ``HELD``.

        :param key: a name; a new one stands for a new key.
        :raises RefusedError: it was refused.
        """
        raise NotImplementedError

    def enroll_held(
        self, name: str, proof: Proof, approve: Callable[[], None]
    ) -> bytes:
        """Ask, let it be approved, ask again; return the certificate."""
        assert HELD == self.enroll(name, name, proof)
        approve()
        return self.enroll(name, name, proof)

    def enroll_linked(self, name: str, proof: Proof) -> bytes:
        """Enroll with a request that names its session."""
        raise NotImplementedError

    def generated(self, name: str, proof: Proof, label: str) -> Made:
        """Return what ``/serverkeygen`` gives."""
        raise NotImplementedError

    def close(self) -> None:
        """End what still runs."""


def approve_held(gateway: Gateway) -> None:
    """Approve the one request that is held, as soon as it is."""
    deadline = time.monotonic() + _LONG
    while not (
        waiting := json.loads(_command(gateway, "list", "--output", "json"))
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (request,) = waiting
    _command(gateway, "approve", request["id"])


def _command(gateway: Gateway, *words: str) -> str:
    """Run ``trstctl request`` in this process, for speed."""
    done = CliRunner().invoke(
        main, ["request", *words, "--config", str(gateway.config)]
    )
    assert done.exit_code == 0, done.output
    return done.stdout


def _run(*command: str | Path, folder: Path, **environment: str) -> bytes:
    """Run a program and return what it prints."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        timeout=_LONG,
        check=False,
    )
    if done.returncode:
        raise AssertionError(
            (done.stdout + done.stderr).decode("utf-8", "replace")
        )
    return done.stdout


# --- strongSwan -------------------------------------------------------------


@define
class StrongSwan(Client):
    """``pki`` of Debian 12; it has no labels, and says a status in words."""

    name = "strongSwan"
    cannot = frozenset(
        {
            "/csrattrs",
            "enroll, bearer token",
            "enroll, certificate",
            "label",
            "tls-unique",
            "/serverkeygen",
        }
    )

    def ca_certificates(self, label: str = "") -> list[bytes]:
        """Let ``pki --estca`` write them, each into a file of its own."""
        require_client("pki")
        self._pki("--estca", "--caout", "ca.pem", "--outform", "pem")
        return [
            x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(
                _DER
            )
            for path in sorted(self.folder.glob("ca*.pem"))
        ]

    def enroll(
        self,
        name: str,
        key: str,
        proof: Proof,
        *,
        label: str = "",
        renewing: bool = False,
    ) -> bytes:
        """Run ``pki --est``; with a certificate it re-enrolls."""
        require_client("pki")
        assert not label
        assert renewing == bool(proof.certificate)
        try:
            der = self._pki(*self._words(name, key, proof))
        except AssertionError as told:
            found = re.search(r"HTTP (\d+)", str(told))
            if found is None:
                raise
            raise RefusedError(int(found[1])) from None
        (self.folder / f"{key}.crt").write_bytes(der)
        return der

    def enroll_held(
        self, name: str, proof: Proof, approve: Callable[[], None]
    ) -> bytes:
        """``pki`` comes back by itself."""
        require_client("pki")
        words = self._words(name, name, proof)
        with subprocess.Popen(
            self._line(*words, "--interval", "1", "--maxpolltime", "30"),
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running:
            try:
                approve()
                der, told = running.communicate(timeout=_LONG)
            finally:
                running.kill()
        assert running.returncode == 0, told
        return der

    def _words(self, name: str, key: str, proof: Proof) -> list[str]:
        """Make key and request; return the rest of the command."""
        if not (self.folder / key).exists():
            made = self._tool("--gen", "--type", "ecdsa", "--size", "256")
            (self.folder / key).write_bytes(made)
        request = self._tool(
            *("--req", "--in", key, "--type", "ecdsa"),
            *("--dn", f"CN={name}", "--san", name),
        )
        (self.folder / "request").write_bytes(request)
        words = ["--est", "--in", "request"]
        if proof.certificate:
            mine = proof.certificate
            return [*words, "--cert", f"{mine}.crt", "--key", mine]
        return [*words, "--userpass", f"{proof.user}:{proof.password}"]

    def _pki(self, *words: str) -> bytes:
        """Run ``pki`` against the gateway."""
        line = self._line(*words)
        return _run(*line, folder=self.folder, **self._environment())

    def _tool(self, *words: str) -> bytes:
        """Run ``pki`` on files."""
        return _run("pki", *words, folder=self.folder, **self._environment())

    def _line(self, *words: str) -> list[str]:
        """Return a command that reaches the gateway."""
        root, ca = self.gateway.root, self.gateway.root.parent
        return [
            *("pki", *words, "--url", f"https://{self.server}"),
            *("--cacert", str(root), "--cacert", str(ca / "issuing.pem")),
        ]

    def _environment(self) -> dict[str, str]:
        """Return an environment that chooses the version of TLS."""
        settings = self.folder / "strongswan.conf"
        settings.write_text(
            f"libtls {{\n  version_min = {self.version}\n"
            f"  version_max = {self.version}\n}}\n"
        )
        return {"PATH": "/usr/bin:/bin", "STRONGSWAN_CONF": str(settings)}


# --- BouncyCastle -----------------------------------------------------------


@define
class BouncyCastle(Client):
    """One Java process that does step by step what it is told."""

    name = "BouncyCastle"
    cannot = frozenset({"tls-unique"})

    _process: subprocess.Popen[str] | None = field(default=None, init=False)

    def ca_certificates(self, label: str = "") -> list[bytes]:
        """Fetch them."""
        self._step("cacerts", label or "-", str(self.folder / "ca.pem"))
        return _from_pem((self.folder / "ca.pem").read_bytes())

    def csr_attributes(self, label: str = "") -> bytes:
        """Fetch them."""
        answer = self._step("csrattrs", label or "-")
        return base64.b64decode(answer[1]) if answer[1:] else b""

    def enroll(
        self,
        name: str,
        key: str,
        proof: Proof,
        *,
        label: str = "",
        renewing: bool = False,
    ) -> bytes:
        """Let it enroll or re-enroll."""
        operation = "simplereenroll" if renewing else "simpleenroll"
        file = self._ask(operation, name, key, proof, label)
        if not file.exists():
            return HELD
        return _from_pem(file.read_bytes())[0]

    def enroll_held(
        self, name: str, proof: Proof, approve: Callable[[], None]
    ) -> bytes:
        """Let it send its own request again."""
        assert HELD == self.enroll(name, name, proof)
        approve()
        file = self.folder / "retried"
        assert ["done"] == self._step("retry", str(file))
        return _from_pem(file.read_bytes())[0]

    def generated(self, name: str, proof: Proof, label: str) -> Made:
        """Let it ask for a key, which it finds in its part."""
        file = self._ask("serverkeygen", name, name, proof, label)
        certificate, _, key = file.read_bytes().partition(
            b"-----END CERTIFICATE-----\n"
        )
        whole = certificate + b"-----END CERTIFICATE-----\n"
        return Made(_from_pem(whole)[0], load_pem_private_key(key, None))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def _ask(
        self, operation: str, name: str, key: str, proof: Proof, label: str
    ) -> Path:
        """Let it ask; return the file that it writes if it gets it."""
        shown = f"password:{proof.user}:{proof.password}"
        if proof.token:
            shown = f"token:{proof.token}"
        elif proof.certificate:
            shown = f"certificate:{proof.certificate}"
        file = self.folder / f"{operation}-{key}"
        self._step(operation, label or "-", name, key, shown, str(file))
        return file

    def _step(self, *words: str) -> list[str]:
        """Let it do a step; return what it says."""
        if self._process is None:
            self._process = self._start()
        streams = self._process.stdin, self._process.stdout
        assert streams[0] is not None
        assert streams[1] is not None
        streams[0].write(" ".join(words) + "\n")
        streams[0].flush()
        answer = streams[1].readline().split()
        if answer[:1] == ["refused"]:
            raise RefusedError(int(answer[1]))
        assert answer[:1] in (["done"], ["none"], ["held"]), answer
        return answer

    def _start(self) -> subprocess.Popen[str]:
        """Start it."""
        require_client("java", "javac", *map(str, JARS))
        return subprocess.Popen(
            [
                *("java", "-XX:TieredStopAtLevel=1", "-cp", _CLASS_PATH),
                *(str(PROGRAM), self.server),
                *(str(self.gateway.root), self.version),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


# --- libest -----------------------------------------------------------------


@define
class Libest(Client):
    """
    libest 3.2.0, as it was observed.

    It never negotiates TLS 1.3, can renew the same key only, and makes no
    use of a bearer token where Basic is offered first.
    """

    name = "libest"
    versions = ("1.2",)
    cannot = frozenset({"enroll, bearer token", "re-enroll, new key"})

    #: The version that it speaks, and the only one that it reads.
    protocol: ClassVar[str] = "HTTP/1.1"
    more: ClassVar[str] = ""

    #: What else it says "Unhandled HTTP response" of.
    known: ClassVar[frozenset[int]] = frozenset(
        {200, 202, 204, 400, 401, 404, 423, 500, 502, 504}
    )

    _keys: dict[str, tuple[Device, bytes]] = field(
        factory=dict, init=False, repr=False
    )

    def ca_certificates(self, label: str = "") -> list[bytes]:
        """Read lines of base64; one long line would be nothing to it."""
        headers, body = self._exchange("GET", "cacerts", label)
        assert "application/pkcs7-mime" == headers["Content-Type"]
        return list(read_certs_only(_lines(body)))

    def csr_attributes(self, label: str = "") -> bytes:
        """Ask for them, which it does only if it is told to."""
        headers, body = self._exchange("GET", "csrattrs", label)
        if not body:
            return b""
        assert "application/csrattrs" == headers["Content-Type"]
        return _lines(body)

    def enroll(
        self,
        name: str,
        key: str,
        proof: Proof,
        *,
        label: str = "",
        renewing: bool = False,
    ) -> bytes:
        """Sign a request anew at each try; a renewal copies extensions."""
        device, old = self._keys.setdefault(key, (Device(name), b""))
        operation = "simplereenroll" if renewing else "simpleenroll"
        headers, body = self._post(
            operation,
            label,
            lambda _: (
                _copying(device, old) if renewing else device.request(name)
            ),
            proof,
        )
        if headers["status"] == "202":
            assert int(headers["Retry-After"]) >= 0
            return HELD
        kind = "application/pkcs7-mime; smime-type=certs-only"
        assert kind == headers["Content-Type"]
        (certificate,) = read_certs_only(_lines(body))
        self._keys[key] = device, certificate
        return certificate

    def enroll_linked(self, name: str, proof: Proof) -> bytes:
        """``estclient -e -z``: a request for each connection."""
        key = Device(name).key
        _, body = self._post(
            "simpleenroll",
            "",
            lambda binding: base64.b64encode(linked_csr(binding, name, key)),
            proof,
        )
        (certificate,) = read_certs_only(_lines(body))
        return certificate

    def generated(self, name: str, proof: Proof, label: str) -> Made:
        """Read two parts, each with its Content-Transfer-Encoding."""
        headers, body = self._post(
            *("serverkeygen", label),
            lambda _: Device(name).request(name),
            proof,
        )
        kind, _, rest = headers["Content-Type"].partition("; boundary=")
        assert "multipart/mixed" == kind
        parts = {}
        for part in body.split(b"--" + rest.strip('"').encode())[1:-1]:
            head, _, content = part.strip(b"\r\n").partition(b"\r\n\r\n")
            fields = _fields(head.decode().split("\r\n"))
            assert "base64" == fields["Content-Transfer-Encoding"]
            # "data too short", as it says of a key of P-256.
            assert len(content) >= 256
            parts[fields["Content-Type"]] = _lines(content + b"\n")
        (certificate,) = read_certs_only(
            parts["application/pkcs7-mime; smime-type=certs-only"]
        )
        key = load_der_private_key(parts["application/pkcs8"], None)
        return Made(certificate, key)

    def _post(
        self,
        operation: str,
        label: str,
        request: Callable[[bytes], bytes],
        proof: Proof,
    ) -> tuple[dict[str, str], bytes]:
        """Send it without credentials first, and then with them."""
        sent = (operation, label, request)
        if proof.certificate:
            return self._exchange("POST", *sent, proof.certificate)
        with pytest.raises(RefusedError) as refused:
            self._exchange("POST", *sent)
        assert refused.value.status == 401
        login = f"{proof.user}:{proof.password}".encode()
        return self._exchange(
            *("POST", *sent, ""),
            f"Authorization: Basic {base64.b64encode(login).decode()}\r\n",
        )

    def _exchange(
        self,
        method: str,
        operation: str,
        label: str,
        request: Callable[[bytes], bytes] | None = None,
        certificate: str = "",
        authorization: str = "",
    ) -> tuple[dict[str, str], bytes]:
        """
        Send octets, and read to the end of the connection.

        :param request: makes one in base64 for a connection's tls-unique.
        :raises RefusedError: by a status that is none of success.
        """
        place = f"/{label}" if label else ""
        head = (
            f"{method} /.well-known/est{place}/{operation} {self.protocol}\r\n"
            "User-Agent: libest\r\nConnection: close\r\n"
            f"Host: {self.server}\r\nAccept: */*\r\n{authorization}"
        )
        received = b""
        with self._connected(certificate) as tls:
            body = b""
            if request is not None:
                body = _wrapped(
                    request(tls.get_channel_binding("tls-unique") or b"")
                )
                head += (
                    f"Content-Type: application/pkcs10\r\n{self.more}"
                    f"Content-Length: {len(body)}\r\n"
                )
            # Two octets more than it has said, after a GET, too.
            tls.sendall(f"{head}\r\n".encode() + body + b"\r\n")
            while chunk := tls.recv(65536):
                received += chunk
        return self._judged(received)

    def _judged(self, received: bytes) -> tuple[dict[str, str], bytes]:
        """Return fields and content of a success."""
        assert self.protocol == received.partition(b" ")[0].decode()
        status, headers, content = _read(received)
        if status not in (200, 202, 204):
            assert status in self.known
            if status == 401:
                # It looks at no other challenge.
                assert headers["WWW-Authenticate"].startswith("Basic realm=")
            raise RefusedError(status)
        return {**headers, "status": str(status)}, content

    @contextlib.contextmanager
    def _connected(self, certificate: str) -> Iterator[ssl.SSLSocket]:
        """Yield a connection of TLS 1.2."""
        context = ssl.create_default_context(cafile=str(self.gateway.root))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        if certificate:
            device, mine = self._keys[certificate]
            context.load_cert_chain(*device.write(self.folder, mine))
        with (
            socket.create_connection(
                ("localhost", self.gateway.https_port), timeout=10
            ) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            yield tls


@define
class DebianLibest(Libest):
    """The one of Debian 13, which speaks HTTP/1.0."""

    name = "libest (Debian)"
    protocol = "HTTP/1.0"
    more = "Content-Transfer-Encoding: base64\r\n"


def _read(received: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return status, fields and content; names are compared as they are."""
    head, _, content = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = _fields(lines)
    assert "Transfer-Encoding" not in headers
    status = int(first.split()[1])
    if status != 204:
        assert len(content) == int(headers["Content-Length"])
    return status, headers, content


def _fields(lines: Sequence[str]) -> dict[str, str]:
    """Return header fields; of several of one name, the first."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        found.setdefault(name, value)
    return found


def _wrapped(request: bytes) -> bytes:
    """Return base64 in lines of 64 characters."""
    text = base64.b64encode(base64.b64decode(request))
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join(lines) + b"\n"


def _lines(body: bytes) -> bytes:
    """Decode base64 as OpenSSL's BIO does for libest: in short lines."""
    assert body.endswith(b"\n")
    assert all(len(line) <= 76 for line in body.splitlines())
    return base64.b64decode(body)


def _copying(device: Device, old: bytes) -> bytes:
    """Return a request with every extension of the old certificate."""
    certificate = x509.load_der_x509_certificate(old)
    builder = x509.CertificateSigningRequestBuilder(certificate.subject)
    for each in certificate.extensions:
        builder = builder.add_extension(each.value, each.critical)
    signed = builder.sign(device.key, hashes.SHA256())
    return base64.encodebytes(signed.public_bytes(_DER))


# --- curl -------------------------------------------------------------------


@define
class Curl(Client):
    """curl, with openssl for keys, requests and answers."""

    name = "curl"
    cannot = frozenset({"tls-unique"})

    def ca_certificates(self, label: str = "") -> list[bytes]:
        """``curl .../cacerts``."""
        return list(read_certs_only(self._get("cacerts", label)))

    def csr_attributes(self, label: str = "") -> bytes:
        """``curl .../csrattrs``."""
        return self._get("csrattrs", label)

    def enroll(
        self,
        name: str,
        key: str,
        proof: Proof,
        *,
        label: str = "",
        renewing: bool = False,
    ) -> bytes:
        """``curl --data-binary @request.b64``."""
        operation = "simplereenroll" if renewing else "simpleenroll"
        status, body = self._post(operation, name, key, proof, label)
        if status == 202:
            assert body == b""
            return HELD
        (certificate,) = read_certs_only(base64.b64decode(body))
        pem = x509.load_der_x509_certificate(certificate)
        (self.folder / f"{key}.pem").write_bytes(pem.public_bytes(_PEM))
        return certificate

    def generated(self, name: str, proof: Proof, label: str) -> Made:
        """Take the parts by a reader of MIME."""
        _, body = self._post("serverkeygen", name, name, proof, label)
        key, certificates = re.findall(rb"\r\n\r\n([^-]+)\r\n--", body)
        (certificate,) = read_certs_only(base64.b64decode(certificates))
        made = load_der_private_key(base64.b64decode(key), None)
        return Made(certificate, made)

    def _get(self, operation: str, label: str) -> bytes:
        """Fetch something."""
        _, body = self._curl(operation, label)
        return base64.b64decode(body)

    def _post(
        self, operation: str, name: str, key: str, proof: Proof, label: str
    ) -> tuple[int, bytes]:
        """Make a request as an operator does, and send it."""
        require_client("openssl")
        if not (self.folder / f"{key}.key").exists():
            self._openssl(
                *("genpkey", "-algorithm", "EC", "-out", f"{key}.key"),
                *("-pkeyopt", "ec_paramgen_curve:P-256"),
            )
        if not (self.folder / f"{name}-{key}.b64").exists():
            self._openssl(
                *("req", "-new", "-key", f"{key}.key", "-subj", f"/CN={name}"),
                *("-addext", f"subjectAltName=DNS:{name}"),
                *("-outform", "DER", "-out", "request.der"),
            )
            self._openssl(
                *("base64", "-in", "request.der"),
                *("-out", f"{name}-{key}.b64"),
            )
        shown = ["-u", f"{proof.user}:{proof.password}"]
        if proof.token:
            shown = ["-H", f"Authorization: Bearer {proof.token}"]
        elif proof.certificate:
            mine = proof.certificate
            shown = ["--cert", f"{mine}.pem", "--key", f"{mine}.key"]
        return self._curl(
            *(operation, label, *shown),
            *("-H", "Content-Type: application/pkcs10"),
            *("--data-binary", f"@{name}-{key}.b64"),
        )

    def _curl(
        self, operation: str, label: str, *more: str
    ) -> tuple[int, bytes]:
        """Run curl; return status and body."""
        require_client("curl")
        place = f"/{label}" if label else ""
        told = _run(
            *("curl", "-sS", "--cacert", self.gateway.root),
            *(f"--tlsv{self.version}", "--tls-max", self.version),
            *("-o", "answer", "-w", "%{http_code}", *more),
            f"https://{self.server}/.well-known/est{place}/{operation}",
            folder=self.folder,
        )
        status = int(told)
        if status >= 400:
            raise RefusedError(status)
        answer = self.folder / "answer"
        body = answer.read_bytes() if answer.exists() else b""
        answer.unlink(missing_ok=True)
        return status, body

    def _openssl(self, *words: str) -> None:
        """Run openssl on files."""
        _run("openssl", *words, folder=self.folder)


def _from_pem(data: bytes) -> list[bytes]:
    """Return the certificates of a file."""
    return [
        each.public_bytes(_DER)
        for each in x509.load_pem_x509_certificates(data)
    ]


CLIENTS: tuple[type[Client], ...] = (
    StrongSwan,
    BouncyCastle,
    Libest,
    DebianLibest,
    Curl,
)
