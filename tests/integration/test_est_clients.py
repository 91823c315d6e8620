# SPDX-License-Identifier: MIT
"""
EST as an operator types it, and what the configuration can add to it.

What each client can do with the default configuration is in
``test_est_matrix.py``.
"""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from est_clients import Factory, TLSClient, linked_csr, run, verify
from running import TENANT, Device, Gateway, require_client, trstctl

from trstctl.backends.keyfiles import to_pem

pytestmark = pytest.mark.interop


#: The default endpoint is as it comes; each label has one thing more.
LABELS = """\
    labels:
      linked: {pop: required}
      told: {profile: strict, csrattrs: enforce, csrattrs_form: template}
      controllers: {profile: registration}
      behind:
        registration_authorities:
          wlc: {subject: CN=wlc, names: ["cn:ap-*", "dns:*.ap.example"]}
      factory:
        idevid: {anchors: [ANCHORS], names: ["dns:*.dev.example"]}
profiles:
  registration: {extended_key_usage: [clientAuth, cmcRA]}
  strict:
    key_types: [p-256]
    digests: [sha256]
    names: {dns: ["*"]}
    names_required: true
"""


@pytest.fixture(scope="module")
def factory() -> Factory:
    """Return a manufacturer of devices."""
    return Factory()


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, factory: Factory
) -> Iterator[Gateway]:
    """Return one gateway for all clients."""
    folder = tmp_path_factory.mktemp("est")
    anchors = folder / "factory.pem"
    anchors.write_bytes(to_pem((factory.root,)))
    labels = LABELS.replace("ANCHORS", str(anchors))
    found = Gateway(folder / "state")
    found.configure("")
    text = found.config.read_text().replace("protocols: {}\n", "")
    found.config.write_text(
        f"{text}protocols:\n  est:\n    enabled: true\n"
        f"    tenant_id: {TENANT}\n{labels}"
    )
    found.start()
    try:
        found.add_password("device")
        yield found
    finally:
        found.end()


class CurlTests:
    """curl with openssl, as an operator types it."""

    def shell(self, gateway: Gateway, folder: Path, script: str) -> str:
        """Run a script with the gateway's address in ``$EST``."""
        require_client("curl", "openssl")
        prologue = (
            "set -euo pipefail\n"
            f"EST=https://localhost:{gateway.https_port}/.well-known/est\n"
            f"CURL='curl -fsS --cacert {gateway.root}'\n"
        )
        return run("bash", "-c", prologue + script, folder=folder)

    def test_fetches_the_chain(self, gateway: Gateway, tmp_path: Path) -> None:
        """``curl .../cacerts -o cacerts.p7`` works to the letter."""
        told = self.shell(
            gateway,
            tmp_path,
            "$CURL $EST/cacerts -o cacerts.p7\n"
            "openssl base64 -d -in cacerts.p7"
            " | openssl pkcs7 -inform DER -print_certs -noout",
        )
        assert told.count("subject=") == 2
        assert told.index("Issuing") < told.index("Root CA\n\n")

    def test_enrolls_and_re_enrolls(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """The issue's enrollment command works to the letter, twice."""
        told = self.shell(
            gateway,
            tmp_path,
            "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
            "-nodes -keyout device.key -subj /CN=curl-device "
            "-addext subjectAltName=DNS:curl.example -outform DER "
            "-out request.der 2>/dev/null\n"
            "openssl base64 -in request.der -out request.b64\n"
            'enroll() { $CURL -u device:device-password -H "Content-Type: '
            'application/pkcs10" -H "Idempotency-Key: curl-1" --data-binary '
            "@request.b64 $EST/simpleenroll -o $1; }\n"
            "enroll first.b64; enroll again.b64; cmp first.b64 again.b64\n"
            "openssl base64 -d -in first.b64 | openssl pkcs7 -inform DER "
            "-print_certs -out device.pem\n"
            '$CURL --cert device.pem --key device.key -H "Content-Type: '
            'application/pkcs10" --data-binary @request.b64 '
            "$EST/simplereenroll -o renewed.b64\n"
            "openssl base64 -d -in renewed.b64 | openssl pkcs7 -inform DER "
            "-print_certs -out renewed.pem\n"
            "openssl x509 -in device.pem -noout -serial\n"
            "openssl x509 -in renewed.pem -noout -serial\n",
        )
        first, second = told.split()
        assert first != second
        verify(gateway, tmp_path / "device.pem")
        verify(gateway, tmp_path / "renewed.pem")

    @pytest.mark.parametrize("version", ["1.2", "1.3"])
    def test_both_versions_of_tls(
        self, gateway: Gateway, tmp_path: Path, version: str
    ) -> None:
        """TLS 1.2 and 1.3 both serve (RFC 7030, section 3.3)."""
        self.shell(
            gateway,
            tmp_path,
            f"$CURL --tlsv{version} --tls-max {version} $EST/cacerts -o x",
        )
        assert (tmp_path / "x").stat().st_size > 500

    def test_chunked_pem_and_der_bodies(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """What curl's users send besides base64 is read, too."""
        self.shell(
            gateway,
            tmp_path,
            "openssl req -new -newkey rsa:2048 -nodes -keyout k -subj "
            "/CN=forms -out r.pem 2>/dev/null\n"
            "openssl req -in r.pem -outform DER -out r.der\n"
            "ask() { $CURL -u device:device-password -H 'Content-Type: "
            'application/pkcs10\' "$@" $EST/simpleenroll; }\n'
            "ask --data-binary @r.der > 1; ask --data @r.pem > 2\n"
            "ask --data-binary @r.pem -H 'Transfer-Encoding: chunked' > 3\n"
            "cmp 1 2; cmp 2 3\n",
        )


class TerseTests:
    """A client that sends no header but those that it must."""

    def test_azure_iot_edge(self, gateway: Gateway, tmp_path: Path) -> None:
        """It asks twice on one connection, and adds PEM armour itself."""
        head = (
            "{} /.well-known/est/{} HTTP/1.1\r\n"
            "authorization: Basic {}\r\n{}host: localhost\r\n\r\n"
        )
        login = base64.b64encode(b"device:device-password").decode()
        request = Device("edge").request()
        kinds = (
            "content-type: application/pkcs10\r\n"
            "content-transfer-encoding: base64\r\n"
            f"content-length: {len(request)}\r\n"
        )
        octets = head.format("GET", "cacerts", login, "").encode() + (
            head.format("POST", "simpleenroll", login, kinds).encode()
            + request
        )
        context = ssl.create_default_context(cafile=str(gateway.root))
        address = ("localhost", gateway.https_port)
        with (
            socket.create_connection(address, timeout=20) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as client,
            client.makefile("rwb") as stream,
        ):
            stream.write(octets)
            stream.flush()
            bodies = [self.body(stream) for _ in range(2)]
        for number, body in enumerate(bodies):
            (tmp_path / f"{number}.pem").write_bytes(
                b"-----BEGIN PKCS7-----\n%b-----END PKCS7-----\n" % body
            )
        for number, name in enumerate(("cas", "edge")):
            run(
                *("openssl", "pkcs7", "-in", f"{number}.pem"),
                *("-print_certs", "-out", f"{name}.pem"),
                folder=tmp_path,
            )
        assert b"BEGIN CERT" in (tmp_path / "cas.pem").read_bytes()
        verify(gateway, tmp_path / "edge.pem")

    def body(self, stream: IO[bytes]) -> bytes:
        """Read one answer, and return its body."""
        assert b"HTTP/1.1 200 OK\r\n" == stream.readline()
        headers = http.client.parse_headers(stream)  # type: ignore[arg-type]
        assert headers["Content-Type"].startswith("application/pkcs7-mime")
        return stream.read(int(headers["Content-Length"]))


class LinkingTests:
    """Requests that name their TLS session (RFC 7030, section 3.5)."""

    @pytest.mark.parametrize("version", ["1.2", "1.3"])
    def test_both_versions_of_tls(
        self, gateway: Gateway, version: str
    ) -> None:
        """tls-unique and tls-exporter, as the client's library has them."""
        key = Device("linked").key
        first, second = (
            TLSClient(gateway.https_port, gateway.root, version)
            for _ in range(2)
        )
        assert (12 if version == "1.2" else 32) == len(first.binding)
        csr = linked_csr(first.binding, f"linked-{version}", key)
        for label in ("", "linked"):
            refused = second.enroll(csr, label)
            assert 400 == refused.status
            assert b"channel binding" in refused.body
            issued = first.enroll(csr, label)
            assert 200 == issued.status, issued.body
        # Another session, the request built anew: the same certificate.
        again = second.enroll(
            linked_csr(second.binding, f"linked-{version}", key), "linked"
        )
        assert issued.certificate == again.certificate
        first.close()
        second.close()

    def test_announced(self, gateway: Gateway, tmp_path: Path) -> None:
        """/csrattrs names both attributes, and OpenSSL can read it."""
        require_client("openssl")
        answer = gateway.ask("GET", "/.well-known/est/linked/csrattrs")
        told = tmp_path / "csrattrs.b64"
        told.write_bytes(answer.body)
        text = run(
            *("bash", "-c"),
            "openssl base64 -d -in csrattrs.b64 | "
            "openssl asn1parse -inform DER",
            folder=tmp_path,
        )
        assert "challengePassword" in text
        assert "1.2.840.113549.1.9.16.2.58" in text
        refused = gateway.enroll(Device("plain").request(), label="linked")
        assert 400 == refused.status


class ToldTests:
    """CSR attributes that are enforced."""

    def test_curl(self, gateway: Gateway, tmp_path: Path) -> None:
        """A request without the names is refused; with them it is not."""
        device = Device("told")
        refused = gateway.enroll(device.request(), label="told")
        assert 403 == refused.status
        assert b"the extension subjectAltName" in refused.body
        template = gateway.ask("GET", "/.well-known/est/told/csrattrs")
        (tmp_path / "b64").write_bytes(template.body)
        text = run(
            *("bash", "-c"),
            "openssl base64 -d -in b64 | openssl asn1parse -inform DER",
            folder=tmp_path,
        )
        assert "1.2.840.113549.1.9.16.2.61" in text
        assert "1.2.840.113549.1.9.16.2.62" in text


class RegistrationTests:
    """A registration authority with a certificate of this gateway."""

    def test_enrolls_and_renews(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """Within its scope, over real TLS; the old one is superseded."""
        wlc = Device("wlc")
        answer = gateway.enroll(wlc.request(), label="controllers")
        proof = wlc.write(tmp_path, answer.certificate)
        place = "/.well-known/est/behind"

        def ask(operation: str, device: Device, *names: str) -> Any:
            return gateway.ask(
                "POST",
                f"{place}/{operation}",
                device.request(*names),
                certificate=proof,
            )

        device = Device("ap-1")
        first = ask("simpleenroll", device, "one.ap.example")
        assert 200 == first.status, first.body
        second = ask("simplereenroll", device, "one.ap.example")
        assert 200 == second.status, second.body
        assert first.certificate != second.certificate
        for operation in ("simpleenroll", "simplereenroll"):
            assert 403 == ask(operation, Device("server-1")).status
        listed = trstctl(
            *("cert", "list", "--status", "superseded", "--output", "csv"),
            config=gateway.config,
        )
        assert "CN=ap-1" in listed


class FactoryTests:
    """curl with a factory certificate."""

    def test_enrolls_and_re_enrolls(
        self, gateway: Gateway, factory: Factory, tmp_path: Path
    ) -> None:
        """The factory certificate buys one, and that one renews itself."""
        require_client("curl", "openssl")
        device = Device("SN-1")
        idevid = factory.device("SN-1", device.key)
        device.write(tmp_path, idevid)
        (tmp_path / "idevid.pem").write_bytes(to_pem((idevid, factory.ca)))
        (tmp_path / "b64").write_bytes(device.request("sn-1.dev.example"))
        run(
            *("bash", "-c"),
            "set -euo pipefail\n"
            f"E=https://localhost:{gateway.https_port}/.well-known/est/factory\n"
            "ask() { curl -fsS --cacert $ROOT --cert $1 --key SN-1.key -H "
            '"Content-Type: application/pkcs10" --data-binary @b64 $E/$2; }\n'
            f"ROOT={gateway.root}\n"
            "! ask idevid.pem simplereenroll 2>/dev/null\n"
            "ask idevid.pem simpleenroll | openssl base64 -d | openssl pkcs7 "
            "-inform DER -print_certs -out own.pem\n"
            "ask own.pem simplereenroll | openssl base64 -d | openssl pkcs7 "
            "-inform DER -print_certs -out next.pem\n",
            folder=tmp_path,
        )
        verify(gateway, tmp_path / "next.pem")
