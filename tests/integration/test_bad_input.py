# SPDX-License-Identifier: MIT
"""Bad input, as its sender sees it: a clear answer, and nothing consumed."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Iterator
from typing import ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from running import TENANT, Answer, Device, Gateway

ENROLL = "/.well-known/est/simpleenroll"

PROTOCOLS = (
    f'est: {{enabled: true, tenant_id: "{TENANT}", labels: {{'
    f"strict: {{lenient: false}}, server: {{profile: tls-server}}}}}}"
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return one gateway; nothing here may leave a trace in its store."""
    found = Gateway(tmp_path_factory.mktemp("bad") / "state")
    # The default is ten wrong passwords a minute, which one test is about.
    found.configure(PROTOCOLS)
    found.start()
    found.add_password("device")
    found.add_password("target")
    found.add_password("bound", TENANT, "--name", "dns:*.lab.example")
    try:
        yield found
    finally:
        found.end()


def request(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    *names: str,
    extension: x509.ExtensionType | None = None,
) -> bytes:
    """Return a DER request."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bad")])
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([*map(x509.DNSName, names)]),
            critical=False,
        )
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a good key."""
    return ec.generate_private_key(ec.SECP256R1())


def badly_signed() -> bytes:
    """Return a request whose signature is another key's."""
    good, other = request(new_key()), request(new_key())
    return good[:-64] + other[-64:]


GOOD = base64.b64encode(request(new_key()))

#: Body, path below the prefix, and what comes back.
BODIES: dict[str, tuple[bytes, str, int, str]] = {
    "empty": (b"", "simpleenroll", 400, "empty"),
    "not base64": (b"!!!!", "simpleenroll", 400, "base64"),
    "base64 of nothing known": (b"aGVsbG8=", "simpleenroll", 400, ""),
    "cut short": (GOOD[:100], "simpleenroll", 400, ""),
    "badly signed": (
        base64.b64encode(badly_signed()),
        "simpleenroll",
        400,
        "signed",
    ),
    "der, where that is refused": (
        request(new_key()),
        "strict/simpleenroll",
        400,
        "base64",
    ),
    "deep nesting": (
        base64.b64encode(b"\x30\x80" * 20000),
        "simpleenroll",
        400,
        "DER",
    ),
    "four octets": (
        base64.b64encode(b"\x30\x02\x30\x00"),
        "simpleenroll",
        400,
        "",
    ),
    "many nulls": (
        base64.b64encode(b"\x30\x82\xbf\x00" + b"\x05\x00" * 24448),
        "simpleenroll",
        400,
        "DER",
    ),
    "one octet too many": (b"A" * 65537, "simpleenroll", 413, "large"),
    "ten thousand names": (
        base64.b64encode(
            request(new_key(), *(f"n{one}.example" for one in range(10000)))
        ),
        "simpleenroll",
        413,
        "large",
    ),
    "too many names": (
        base64.b64encode(
            request(new_key(), *(f"n{one}.example" for one in range(101)))
        ),
        "simpleenroll",
        403,
        "names-count",
    ),
    "a weak key": (
        base64.b64encode(request(rsa.generate_private_key(65537, 1024))),
        "simpleenroll",
        400,
        "1024",
    ),
    "an odd exponent": (
        base64.b64encode(request(rsa.generate_private_key(3, 2048))),
        "simpleenroll",
        400,
        "exponent",
    ),
    "an unlisted curve": (
        base64.b64encode(request(ec.generate_private_key(ec.SECP256K1()))),
        "simpleenroll",
        400,
        "",
    ),
    "a CA": (
        base64.b64encode(
            request(new_key(), extension=x509.BasicConstraints(True, 0))
        ),
        "simpleenroll",
        403,
        "request-extensions",
    ),
    "a hostile name": (
        base64.b64encode(request(new_key(), "ok.example", "-bad.example")),
        "simpleenroll",
        403,
        "names",
    ),
    "no name, where one must be": (
        GOOD,
        "server/simpleenroll",
        403,
        "profile tls-server",
    ),
    "an unknown label": (GOOD, "nobody/simpleenroll", 404, ""),
    "an operation that is not offered": (GOOD, "serverkeygen", 404, ""),
    "re-enrollment without a certificate": (
        GOOD,
        "simplereenroll",
        403,
        "certificate",
    ),
}


class RefusalTests:
    """Each refusal: status, one plain line with the request id, audit."""

    @pytest.mark.parametrize("case", BODIES)
    def test_says_why_and_consumes_nothing(
        self, gateway: Gateway, case: str
    ) -> None:
        """I-6: no serial, no row; one audit record, where a tenant is known."""
        body, place, status, word = BODIES[case]
        before = gateway.serials()
        answer = gateway.ask(
            "POST",
            f"/.well-known/est/{place}",
            body,
            user="device",
            password="device-password",
        )
        assert status == answer.status, answer
        assert word in answer.body.decode()
        self.check_form(answer)
        assert before == gateway.serials()
        self.check_audit(gateway, answer)

    def check_form(self, answer: Answer) -> None:
        """One line of text that names the request."""
        assert "Server" not in answer.headers
        assert answer.headers["Content-Length"] == str(len(answer.body))
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert answer.body.count(b"\n") == 1
        assert answer.headers["X-Request-Id"].encode() in answer.body

    def check_audit(self, gateway: Gateway, answer: Answer) -> None:
        """The refusal is in the tenant's chain, under its request id."""
        request_id = answer.headers["X-Request-Id"]
        found = [
            event
            for event in gateway.audit_events()
            if event["fields"].get("request_id") == request_id  # type: ignore[attr-defined]
        ]
        assert ["request.refused"] == [event["event"] for event in found]

    def test_wrong_verb(self, gateway: Gateway) -> None:
        """405 with ``Allow``."""
        answer = gateway.ask("GET", ENROLL)
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        answer = gateway.ask("POST", "/.well-known/est/cacerts", b"")
        assert answer.status == 405
        assert answer.headers["Allow"].startswith("GET")
        self.check_audit(gateway, answer)

    def test_wrong_media_type(self, gateway: Gateway) -> None:
        """415."""
        answer = gateway.ask(
            "POST",
            ENROLL,
            GOOD,
            user="device",
            password="device-password",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert answer.status == 415
        self.check_audit(gateway, answer)

    def test_names_of_somebody_else(self, gateway: Gateway) -> None:
        """403 naming the rule, for a credential that is bound to names."""
        body = Device("intruder").request("www.prod.example")
        answer = gateway.ask(
            "POST", ENROLL, body, user="bound", password="bound-password"
        )
        assert answer.status == 403
        assert b"principal-names" in answer.body
        self.check_audit(gateway, answer)

    def test_no_and_wrong_credentials_look_the_same(
        self, gateway: Gateway
    ) -> None:
        """401, an empty body, Basic first; unknown equals wrong (R-6)."""
        tries = [("", ""), ("device", "wrong"), ("nobody", "wrong")]
        answers = [
            gateway.ask("POST", ENROLL, GOOD, user=user, password=password)
            for user, password in tries
        ]
        for answer in answers:
            assert (answer.status, answer.body) == (401, b"")
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert answers[1].headers.keys() == answers[2].headers.keys()
        self.check_audit(gateway, answers[1])

    def test_too_many_wrong_passwords(self, gateway: Gateway) -> None:
        """A-3: 429 with ``Retry-After``; others are not locked out."""

        def guess(number: int) -> Answer:
            return gateway.ask(
                "POST",
                ENROLL,
                GOOD,
                user="target",
                password=f"guess-{number}",
                source="127.0.0.66",
            )

        home = "127.0.0.7"
        body = Device("known").request()
        assert gateway.enroll(body, "target", source=home).status == 200
        assert {guess(number).status for number in range(14)} == {401, 429}
        answer = guess(15)
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) >= 1
        self.check_audit(gateway, answer)
        body = Device("known-2").request()
        assert gateway.enroll(body, "target", source=home).status == 200


class FramingTests:
    """What is no proper HTTP gets one answer, and the connection ends."""

    CASES: ClassVar[dict[str, tuple[bytes, bytes]]] = {
        "no host": (b"GET /.well-known/est/cacerts HTTP/1.1\r\n\r\n", b"400"),
        "two hosts": (
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"400",
        ),
        "folded": (
            b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
            b"400",
        ),
        "length and chunks": (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
        ),
        "bare line feeds": (b"GET / HTTP/1.1\nHost: a\n\n", b"400"),
        "a huge body": (
            b"POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: a\r\n"
            b"Content-Type: application/pkcs10\r\n"
            b"Content-Length: 10000000000\r\n\r\n",
            b"413",
        ),
        "a gzipped body": (
            b"POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: a\r\n"
            b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
            b"415",
        ),
        "a huge header": (
            b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20000 + b"\r\n\r\n",
            b"431",
        ),
        "a huge target": (
            b"GET /" + b"y" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
            b"414",
        ),
    }

    @pytest.mark.parametrize("case", CASES)
    def test_one_answer_and_the_end(self, gateway: Gateway, case: str) -> None:
        """Exactly one status line, then the connection is closed."""
        octets, status = self.CASES[case]
        context = ssl.create_default_context(cafile=str(gateway.root))
        address = ("localhost", gateway.https_port)
        with (
            socket.create_connection(address, timeout=20) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as client,
        ):
            client.sendall(octets)
            received = b""
            while part := client.recv(65536):
                received += part
        assert received.split(b" ")[1] == status
        assert received.count(b"HTTP/1.1 ") == 1
        assert b"Server:" not in received

    def test_answers_in_kind(self, gateway: Gateway) -> None:
        """HTTP/1.0 is answered as HTTP/1.0, and closed."""
        context = ssl.create_default_context(cafile=str(gateway.root))
        address = ("localhost", gateway.https_port)
        with (
            socket.create_connection(address, timeout=20) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as client,
        ):
            client.sendall(b"GET /.well-known/est/cacerts HTTP/1.0\r\n\r\n")
            received = b""
            while part := client.recv(65536):
                received += part
        assert received.startswith(b"HTTP/1.0 200 OK\r\n")
        assert b"\r\nContent-Length: " in received
        assert b"chunked" not in received
