# SPDX-License-Identifier: MIT
"""The TLS of a running gateway, as ``openssl s_client`` sees it (RFC 9325)."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from running import EST, Device, Gateway, require_client

pytestmark = pytest.mark.interop

CACERTS = (
    "GET /.well-known/est/cacerts HTTP/1.1\r\nHost: localhost\r\n"
    "Connection: close\r\n\r\n"
)
WEAK = "ALL:@SECLEVEL=0"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return one gateway, which four connections that leaked would close."""
    require_client("openssl")
    found = Gateway(tmp_path_factory.mktemp("tls") / "state")
    found.configure(EST, "limits: {connections_per_address: 4}\n")
    found.start()
    try:
        yield found
    finally:
        found.end()


def s_client(
    gateway: Gateway, *options: str, text: str = CACERTS, keep: bool = True
) -> str:
    """
    Connect, send the text, and return all that the client prints.

    :param keep: whether to wait for the end of the server's answer.
    """
    done = subprocess.run(
        [
            *("openssl", "s_client"),
            *("-connect", f"127.0.0.1:{gateway.https_port}"),
            *("-servername", "localhost"),
            *(("-ign_eof",) if keep else ()),
            *options,
        ],
        input=text.encode(),
        capture_output=True,
        timeout=30,
        check=False,
    )
    return (done.stdout + done.stderr).decode("latin-1")


def served(output: str) -> bool:
    """Tell whether the request was answered."""
    return "HTTP/1.1 200 OK" in output


def certificate(device: Device, issuer: str, end: int) -> bytes:
    """Return a certificate for the device that its own key has signed."""

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(name(device.name))
        .issuer_name(name(issuer))
        .public_key(device.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(end, 1, 1, tzinfo=UTC))
        .sign(device.key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


class NegotiationTests:
    """What is agreed on, and what is not."""

    @pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
    def test_old_versions(self, gateway: Gateway, version: str) -> None:
        """Below TLS 1.2 there is nothing (RFC 8996)."""
        output = s_client(gateway, version, "-cipher", WEAK)
        assert not served(output)
        assert "alert protocol version" in output

    @pytest.mark.parametrize(
        "suite",
        [
            "ECDHE-ECDSA-AES128-SHA256",
            "ECDHE-ECDSA-AES256-SHA384",
            "ECDHE-ECDSA-AES128-SHA",
            "ECDHE-ECDSA-AES128-CCM8",
            "ECDHE-ECDSA-CAMELLIA128-SHA256",
            "ECDHE-ECDSA-NULL-SHA",
            "DHE-RSA-AES128-GCM-SHA256",
            "AECDH-AES128-SHA",
            "AES128-GCM-SHA256",
            "AES256-SHA",
        ],
    )
    def test_weak_suites(self, gateway: Gateway, suite: str) -> None:
        """No CBC, no static keys, none without ECDHE (RFC 9325, 4.1)."""
        output = s_client(
            gateway, "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0"
        )
        assert not served(output)
        assert "handshake failure" in output

    @pytest.mark.parametrize(
        ("options", "agreed"),
        [
            (("-tls1_2",), "TLSv1.2, Cipher is ECDHE-ECDSA-AES256-GCM-SHA384"),
            (("-tls1_3",), "TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384"),
            (("-groups", "X25519"), "Server Temp Key: X25519"),
            (("-groups", "P-384"), "Server Temp Key: ECDH, "),
        ],
        ids=["1.2", "1.3", "x25519", "p-384"],
    )
    def test_agreed(
        self, gateway: Gateway, options: tuple[str, ...], agreed: str
    ) -> None:
        """Both versions are served, without compression."""
        output = s_client(gateway, *options)
        assert served(output)
        assert agreed in output
        assert "Compression: NONE" in output

    def test_extended_master_secret(self, gateway: Gateway) -> None:
        """RFC 9325, section 3.5: keys that belong to one handshake only."""
        output = s_client(gateway, "-tls1_2")
        assert "Extended master secret: yes" in output

    def test_hybrid_group(self, gateway: Gateway) -> None:
        """A client that offers a post-quantum group first is served."""
        output = s_client(gateway, "-groups", "X25519MLKEM768:X25519")
        if "Call to SSL_CONF_cmd" in output:
            pytest.skip("this OpenSSL does not know the group")
        assert served(output)

    def test_only_http_is_offered(self, gateway: Gateway) -> None:
        """RFC 7301: HTTP/1.1, and no protocol is no reason to refuse."""
        output = s_client(gateway, "-alpn", "h2,http/1.1")
        assert "ALPN protocol: http/1.1" in output
        assert served(s_client(gateway, "-alpn", "h2"))


class SessionTests:
    """One handshake, one proof of the client's key."""

    def test_renegotiation(self, gateway: Gateway) -> None:
        """A client that wants to renegotiate is refused."""
        output = s_client(gateway, "-tls1_2", text="R\n", keep=False)
        assert "RENEGOTIATING" in output
        assert "no renegotiation" in output

    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    def test_no_resumption(
        self, gateway: Gateway, version: str, tmp_path: Path
    ) -> None:
        """A session that the client kept is not taken up again."""
        session = tmp_path / "session"
        s_client(gateway, version, "-sess_out", str(session))
        # In TLS 1.2 there is not even a session to keep.
        assert (version == "-tls1_3") is session.exists()
        kept = ("-sess_in", str(session)) if session.exists() else ()
        output = s_client(gateway, version, *kept)
        assert served(output)
        assert "Reused, " not in output

    def test_no_tickets(self, gateway: Gateway) -> None:
        """There is no ticket whose key could leak."""
        output = s_client(gateway, "-tls1_2")
        assert "TLS session ticket:" not in output

    def test_reconnecting(self, gateway: Gateway) -> None:
        """The same within one client."""
        output = s_client(
            gateway, "-tls1_2", "-reconnect", text="", keep=False
        )
        assert "drop connection and then reconnect" in output
        assert "Reused, " not in output


class ClientCertificateTests:
    """What the handshake leaves to EST (RFC 7030, section 3.3.2)."""

    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    @pytest.mark.parametrize(
        ("issuer", "end"),
        [("dev", 2099), ("dev", 2021), ("nobody", 2099), ("nobody", 2021)],
        ids=["self-signed", "expired", "broken-chain", "both"],
    )
    def test_any_certificate(
        self,
        gateway: Gateway,
        version: str,
        issuer: str,
        end: int,
        tmp_path: Path,
    ) -> None:
        """Whoever proves a key may fetch the CA certificates."""
        device = Device("dev")
        chain, key = device.write(tmp_path, certificate(device, issuer, end))
        output = s_client(
            gateway, version, "-cert", str(chain), "-key", str(key)
        )
        assert served(output)

    def test_oversized_chain(self, gateway: Gateway, tmp_path: Path) -> None:
        """A chain beyond all measure costs its sender the handshake."""
        device = Device("dev")
        der = certificate(device, "dev", 2099)
        own, key = device.write(tmp_path, der)
        chain = tmp_path / "chain.pem"
        chain.write_bytes(own.read_bytes() * 400)
        output = s_client(
            gateway,
            *("-tls1_2", "-cert", str(own), "-key", str(key)),
            *("-cert_chain", str(chain)),
        )
        assert not served(output)
        assert served(s_client(gateway))


class AbortedTests:
    """Handshakes that never end."""

    def test_half_way(self, gateway: Gateway) -> None:
        """A hundred of them leave no connection, at any stage (R-12)."""
        for number in range(100):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            hello = context.wrap_bio(incoming, outgoing)
            with contextlib.suppress(ssl.SSLWantReadError):
                hello.do_handshake()
            octets = outgoing.read()
            with socket.create_connection(
                ("127.0.0.1", gateway.https_port)
            ) as plain:
                if number % 4:
                    plain.sendall(octets[: len(octets) * (number % 4) // 3])
                if number % 4 == 3:
                    plain.recv(100)
        assert served(s_client(gateway))
