# SPDX-License-Identifier: MIT
"""A reverse proxy that ends TLS, in a thread: one request a connection."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from running import Gateway


@frozen
class OwnCertificate:
    """A self-signed certificate with its key, as files."""

    chain: Path
    key: Path
    digest: str

    @classmethod
    def make(cls, folder: Path, name: str) -> OwnCertificate:
        """Make one for localhost."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]
        )
        now = datetime.now(UTC)  # noqa: TID251 (a certificate of today)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName("localhost")]),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        chain, file = folder / f"{name}.pem", folder / f"{name}.key"
        chain.write_bytes(certificate.public_bytes(Encoding.PEM))
        file.write_bytes(
            key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
        )
        digest = sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
        return cls(chain, file, digest)


@define
class TLSProxy:
    """
    Asks for a client certificate, and forwards it as RFC 9440 says.

    :param own: what it shows to its clients and to the gateway.
    """

    gateway: Gateway
    own: OwnCertificate
    listener: socket.socket = field(
        factory=lambda: socket.create_server(("127.0.0.1", 0))
    )

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self.listener.getsockname()[1]
        return port

    def serve(self) -> None:
        """Serve until the listener is closed."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.own.chain, self.own.key)
        context.verify_mode = ssl.CERT_OPTIONAL
        for name in ("root.pem", "issuing.pem"):
            context.load_verify_locations(self.gateway.root.with_name(name))
        while True:
            try:
                plain, (address, _) = self.listener.accept()
            except OSError:
                return
            with (
                contextlib.suppress(OSError),
                context.wrap_socket(plain, server_side=True) as secure,
            ):
                self._forward(secure, address)

    def _forward(self, client: ssl.SSLSocket, address: str) -> None:
        """Take one request to the gateway, and the answer back."""
        stream = client.makefile("rb")
        method, path, _ = stream.readline().decode().split(" ")
        fields = http.client.parse_headers(stream)
        body = stream.read(int(fields.get("Content-Length", "0")))
        for name in ("Client-Cert", "X-Forwarded-For", "Connection"):
            del fields[name]
        certificate = client.getpeercert(binary_form=True)
        if certificate:
            text = base64.b64encode(certificate).decode()
            fields["Client-Cert"] = f":{text}:"
        fields["X-Forwarded-For"] = address
        fields["Connection"] = "close"
        onward = self.gateway.connection((self.own.chain, self.own.key))
        onward.request(method, path, body, dict(fields))
        answer = onward.getresponse()
        content = answer.read()
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        lines += [f"{name}: {value}" for name, value in answer.getheaders()]
        client.sendall("\r\n".join((*lines, "", "")).encode() + content)
        onward.close()


@contextlib.contextmanager
def fronted(proxy: TLSProxy) -> Iterator[TLSProxy]:
    """Run a proxy."""
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        # A close alone does not wake who waits in accept().
        proxy.listener.shutdown(socket.SHUT_RDWR)
        proxy.listener.close()
        thread.join(10)
