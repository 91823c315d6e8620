# SPDX-License-Identifier: MIT
"""EST clients of our own, where stock ones cannot do it; and a factory."""

from __future__ import annotations

import base64
import http.client
import io
import socket
import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID
from OpenSSL import SSL
from running import Answer, Gateway

_BASE = "/.well-known/est"


def run(*command: str | Path, folder: Path, check: bool = True) -> str:
    """Run a client and return what it prints."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        capture_output=True,
        timeout=120,
        check=False,
    )
    told = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert not check or done.returncode == 0, told
    return told


def verify(gateway: Gateway, certificate: Path) -> None:
    """Let OpenSSL judge a certificate against the gateway's chain."""
    chain = gateway.folder / "chain.pem"
    chain.write_bytes(
        gateway.root.read_bytes()
        + (gateway.folder / "ca" / "issuing.pem").read_bytes()
    )
    told = run(
        *("openssl", "verify", "-x509_strict", "-CAfile", chain),
        certificate,
        folder=gateway.folder,
    )
    assert told.strip().endswith("OK")


class TLSClient:
    """
    One TLS connection whose channel binding is known to the client.

    TLS 1.2 by Python's own module, TLS 1.3, whose exporter that one does not
    have, by pyOpenSSL.

    :param version: ``1.2`` or ``1.3``.
    """

    def __init__(self, port: int, root: Path, version: str) -> None:
        raw = socket.create_connection(("localhost", port), timeout=30)
        self._connection: Any
        if version == "1.2":
            context = ssl.create_default_context(cafile=str(root))
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            wrapped = context.wrap_socket(raw, server_hostname="localhost")
            self._connection = wrapped
            binding = wrapped.get_channel_binding("tls-unique")
            assert binding is not None
            self.binding = binding
            return
        raw.setblocking(True)
        tls = SSL.Context(SSL.TLS_CLIENT_METHOD)
        tls.set_min_proto_version(SSL.TLS1_3_VERSION)
        tls.load_verify_locations(str(root))
        tls.set_verify(SSL.VERIFY_PEER)
        self._connection = SSL.Connection(tls, raw)
        self._connection.set_connect_state()
        self._connection.do_handshake()
        self.binding = self._connection.export_keying_material(
            b"EXPORTER-Channel-Binding", 32, b""
        )

    def enroll(self, csr: bytes, label: str = "") -> Answer:
        """Send a request for a certificate; the connection stays open."""
        body = base64.encodebytes(csr)
        login = base64.b64encode(b"device:device-password").decode()
        place = f"{_BASE}/{label}" if label else _BASE
        self._connection.sendall(
            (
                f"POST {place}/simpleenroll HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Basic {login}\r\n"
                "Content-Type: application/pkcs10\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            ).encode()
            + body
        )
        response = http.client.HTTPResponse(_Readable(self._connection))  # type: ignore[arg-type]
        response.begin()
        return Answer(response.status, dict(response.headers), response.read())

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


class _Readable:
    """What ``http.client`` wants of a socket, over pyOpenSSL, too."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a file that reads from the connection."""
        return io.BufferedReader(_Raw(self._connection))


class _Raw(io.RawIOBase):
    """Reads from a connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read as much as there is room for."""
        data: bytes = self._connection.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def linked_csr(binding: bytes, common_name: str, key: Any) -> bytes:
    """Return a request with tls-unique in challengePassword (RFC 7030)."""
    name = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]
    )
    builder = x509.CertificateSigningRequestBuilder(name).add_attribute(
        AttributeOID.CHALLENGE_PASSWORD, base64.b64encode(binding)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


class Factory:
    """A manufacturer: a root, a CA below it, and its devices."""

    def __init__(self) -> None:
        self._keys = [ec.generate_private_key(ec.SECP256R1()) for _ in "12"]
        root, below = self._keys
        self.root = self._sign("Acme root", root, "Acme root", root, True)
        self.ca = self._sign("Acme CA", below, "Acme root", root, True)

    def device(self, name: str, key: Any) -> bytes:
        """Return a device's factory certificate."""
        return self._sign(name, key, "Acme CA", self._keys[1], False)

    @staticmethod
    def _sign(
        subject: str, key: Any, issuer: str, issuer_key: Any, is_ca: bool
    ) -> bytes:
        """Return a certificate."""
        names = [
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)])
            for one in (subject, issuer)
        ]
        builder = x509.CertificateBuilder(
            names[1],
            names[0],
            key.public_key(),
            x509.random_serial_number(),
            datetime(2020, 1, 1, tzinfo=UTC),
            # IEEE 802.1AR: for as long as the device lives.
            datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        ).add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        signed = builder.sign(issuer_key, hashes.SHA256())
        return signed.public_bytes(Encoding.DER)
