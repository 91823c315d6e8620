# SPDX-License-Identifier: MIT
"""
Stands in for Microsoft's services, and for a webhook: HTTPS on this host.

It speaks the documented wire form and takes nothing else: whatever it does
not expect is answered 400, and kept as a complaint.
"""

from __future__ import annotations

import hmac
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

DIRECTORY = "contoso.onmicrosoft.com"
CLIENT = "6731de76-14a6-49ae-97bc-6eba6914391e"
SECRET = "what the application knows"
HOOK_KEY = "0123456789abcdef0123456789abcdef"

_VERSIONS = {
    "ScepActions": "2018-02-20",
    "CertificateAuthorityRequests": "5019-05-05",
}
_SCOPES = {
    "https://graph.microsoft.com/.default": "for-graph",
    "https://api.manage.microsoft.com//.default": "for-intune",
}


@define
class StandIn:
    """
    What the server is told to say, and what it was asked.

    :ivar folder: has ``ca.pem``, to be trusted.
    :ivar codes: what an action is answered with instead of ``Success``.
    :ivar to_revoke: serial numbers to be revoked.
    :ivar asked: every action that was in order, with its content.
    :ivar complaints: everything that was not.
    """

    folder: Path
    port: int = 0
    codes: dict[str, str] = field(factory=dict)
    to_revoke: list[str] = field(factory=list)
    asked: list[tuple[str, Any]] = field(factory=list)
    complaints: list[str] = field(factory=list)

    @property
    def url(self) -> str:
        """Where it is, by the name in its certificate."""
        return f"https://localhost:{self.port}"

    @property
    def trust(self) -> Path:
        """The CA that certified it."""
        return self.folder / "ca.pem"

    def actions(self) -> list[str]:
        """Return what was asked, in order."""
        return [action for action, _ in self.asked]


class _Wrong(Exception):
    """A request that is not as documented."""


def _expect(truth: object, what: str) -> None:
    """Complain unless it is true."""
    if not truth:
        raise _Wrong(what)


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    stand_in: StandIn

    def do_GET(self) -> None:
        """Answer what is read."""
        self._answer(b"")

    def do_POST(self) -> None:
        """Answer what is posted."""
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, body: bytes) -> None:
        """Answer, or complain."""
        try:
            status, content = self._found(body)
        except (_Wrong, KeyError, ValueError) as error:
            self.stand_in.complaints.append(f"{self.path}: {error!r}")
            status, content = 400, {"error": str(error)}
        octets = (
            content
            if isinstance(content, bytes)
            else json.dumps(content).encode()
        )
        self.send_response(status)
        if status == 307:
            self.send_header("Location", f"{self.stand_in.url}/elsewhere")
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        try:
            self.wfile.write(octets)
        except OSError:
            self.close_connection = True

    def _found(self, body: bytes) -> tuple[int, Any]:
        """Return status and content."""
        path = self.path
        if path == f"/{DIRECTORY}/oauth2/v2.0/token":
            return 200, self._token(body)
        if path.startswith("/v1.0/servicePrincipals/"):
            return 200, self._endpoints()
        if path.startswith("/Scep/ScepActions/"):
            return 200, self._scep(path.rpartition("/")[2], body)
        if path.startswith("/Pki/CertificateAuthorityRequests/"):
            return 200, self._revocation(path.rpartition("/")[2], body)
        if path == "/webhook":
            return 200, self._webhook(body)
        if path == "/large":
            return 200, b" " * (8 * 1024 * 1024)
        if path == "/moved":
            return 307, {}
        if path == "/slow":
            time.sleep(3)
            return 200, {}
        raise _Wrong("nothing is here")

    # --- Microsoft ----------------------------------------------------------

    def _token(self, body: bytes) -> Any:
        """Hand out an access token."""
        form = {
            key: value for key, (value,) in parse_qs(body.decode()).items()
        }
        scope = form.pop("scope")
        _expect(
            form
            == {
                "grant_type": "client_credentials",
                "client_id": CLIENT,
                "client_secret": SECRET,
            },
            "credentials",
        )
        self.stand_in.asked.append(("token", scope))
        return {
            "token_type": "Bearer",
            "expires_in": 3599,
            "access_token": _SCOPES[scope],
        }

    def _endpoints(self) -> Any:
        """Tell where the services are."""
        _expect(self.headers["Authorization"] == "Bearer for-graph", "token")
        _expect(
            "appId=0000000a-0000-0000-c000-000000000000/" in self.path, "app"
        )
        self.stand_in.asked.append(("discovery", None))
        url = self.stand_in.url
        return {
            "value": [
                {
                    "providerName": "ScepRequestValidationFEService",
                    "uri": f"{url}/Scep",
                },
                {"providerName": "PkiConnectorFEService", "uri": f"{url}/Pki"},
            ]
        }

    def _content(self, body: bytes, family: str) -> Any:
        """Return the content of a request to a service."""
        _expect(self.headers["Authorization"] == "Bearer for-intune", "token")
        _expect(self.headers["api-version"] == _VERSIONS[family], "version")
        _expect(
            self.headers["Content-Type"].startswith("application/json"), "type"
        )
        UUID(self.headers["client-request-id"])
        return json.loads(body)

    def _scep(self, action: str, body: bytes) -> Any:
        """Validate a request, or take a notification."""
        content = self._content(body, "ScepActions")
        inner = content[
            "request" if action == "validateRequest" else "notification"
        ]
        common = {"transactionId", "certificateRequest", "callerInfo"}
        more = {
            "validateRequest": set(),
            "successNotification": {
                "certificateThumbprint",
                "certificateSerialNumber",
                "certificateExpirationDateUtc",
                "issuingCertificateAuthority",
                "caConfiguration",
                "certificateAuthority",
            },
            "failureNotification": {"hResult", "errorDescription"},
        }[action]
        _expect(set(inner) == common | more, f"members {sorted(inner)}")
        self.stand_in.asked.append((action, inner))
        code = self.stand_in.codes.get(action, "Success")
        return {"code": code, "errorDescription": f"it is {code}"}

    def _revocation(self, action: str, body: bytes) -> Any:
        """Say what is to be revoked, or take what became of it."""
        content = self._content(body, "CertificateAuthorityRequests")
        self.stand_in.asked.append((action, content))
        if action == "uploadRevocationResults":
            for result in content["results"]:
                _expect(
                    set(result)
                    == {
                        "requestContext",
                        "succeeded",
                        "errorCode",
                        "errorMessage",
                    },
                    "members",
                )
            self.stand_in.to_revoke.clear()
            return {"value": True}
        _expect(content["downloadParameters"]["maxRequests"] <= 500, "many")
        return {
            "value": [
                {"requestContext": f"context {serial}", "serialNumber": serial}
                for serial in self.stand_in.to_revoke
            ]
        }

    # --- a webhook ----------------------------------------------------------

    def _webhook(self, body: bytes) -> Any:
        """Allow what is signed."""
        mac = hmac.new(HOOK_KEY.encode(), body, "sha256").hexdigest()
        _expect(self.headers["Trstctl-Key-Id"] == "1", "key id")
        _expect(self.headers["Trstctl-Signature"] == f"sha256={mac}", "MAC")
        content = json.loads(body)
        self.stand_in.asked.append((content["event"], content))
        return {"allow": True, "device": "phone-1", "subject": "CN=phone-1"}


# --- its certificate --------------------------------------------------------


def _certified(folder: Path) -> ssl.SSLContext:
    """Make a CA and a certificate for localhost, the name only."""
    now = datetime.now(UTC)  # noqa: TID251 (real sockets, real time)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = _name("stand-in CA")

    def certificate(subject: x509.Name, public: Any, *extensions: Any) -> Any:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(ca_key, hashes.SHA256())

    ca = certificate(
        issuer,
        ca_key.public_key(),
        x509.BasicConstraints(ca=True, path_length=0),
    )
    own = certificate(
        _name("localhost"),
        key.public_key(),
        x509.SubjectAlternativeName([x509.DNSName("localhost")]),
    )
    (folder / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    both = folder / "server.pem"
    both.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + own.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context


def _name(text: str) -> x509.Name:
    """Return a name of one common name."""
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


@contextmanager
def standing_in(folder: Path) -> Iterator[StandIn]:
    """Serve in a thread."""
    stand_in = StandIn(folder)
    handler = type("Handler", (_Handler,), {"stand_in": stand_in})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.socket = _certified(folder).wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    stand_in.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
