# SPDX-License-Identifier: MIT
"""A gateway behind a proxy that ends TLS, each in its own TLS sessions."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import signal
import ssl
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from running import EST, TENANT, Answer, Device, Gateway
from tls_proxy import OwnCertificate, TLSProxy, fronted

ROOT = "/.well-known/est"
PROTOCOLS = f'{EST}, bootstrap: {{enabled: true, tenant_id: "{TENANT}"}}'


@contextlib.contextmanager
def proxied(folder: Path) -> Iterator[TLSProxy]:
    """Run a gateway, and a proxy whose certificate it knows."""
    own = OwnCertificate.make(folder, "proxy")
    gateway = Gateway(folder / "state")
    gateway.configure(PROTOCOLS)
    text = gateway.config.read_text()
    proxy = (
        f"proxy: {{networks: [127.0.0.0/8], certificates: [{own.digest}], "
        "client_address: x-forwarded-for}"
    )
    port = f"https: {{port: {gateway.https_port}"
    assert port in text
    gateway.config.write_text(text.replace(port, f"{port}, {proxy}"))
    gateway.start()
    try:
        gateway.add_password("device")
        with fronted(TLSProxy(gateway, own)) as running:
            yield running
    finally:
        gateway.end()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TLSProxy]:
    """Run what no test of this module changes."""
    with proxied(tmp_path_factory.mktemp("proxy")) as running:
        yield running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[TLSProxy]:
    """Run what one test may change."""
    with proxied(tmp_path) as running:
        yield running


def ask(
    front: TLSProxy,
    path: str,
    body: bytes,
    certificate: tuple[Path, Path] | None = None,
    **fields: str,
) -> Answer:
    """Send a request through the proxy."""
    context = ssl.create_default_context(cafile=str(front.own.chain))
    if certificate is not None:
        context.load_cert_chain(*certificate)
    client = HTTPSConnection("localhost", front.port, context=context)
    fields.setdefault("Content_Type", "application/pkcs10")
    client.request(
        "POST",
        path,
        body,
        {name.replace("_", "-"): value for name, value in fields.items()},
    )
    found = client.getresponse()
    answer = Answer(found.status, dict(found.headers), found.read())
    client.close()
    return answer


class ReverseProxyTests:
    """RFC 7030 where TLS ends at a proxy (RFC 9440)."""

    def test_device(self, front: TLSProxy, tmp_path: Path) -> None:
        """It enrolls and renews through the proxy, and only through that."""
        gateway, device = front.gateway, Device("through")
        password = base64.b64encode(b"device:device-password").decode()
        first = ask(
            front,
            f"{ROOT}/simpleenroll",
            device.request(),
            Authorization=f"Basic {password}",
        )
        assert 200 == first.status, first.body
        pair = device.write(tmp_path, first.certificate)
        renewal = f"{ROOT}/simplereenroll"
        again = ask(front, renewal, device.request(), pair)
        assert 200 == again.status, again.body
        assert again.certificate != first.certificate

        # Without it, the proxy's own certificate opens nothing.
        assert 401 == ask(front, renewal, device.request()).status
        # A field of the device's own is replaced on the way ...
        written = f":{base64.b64encode(first.certificate).decode()}:"
        spoofed = ask(
            front, renewal, device.request(), None, Client_Cert=written
        )
        assert 401 == spoofed.status
        # ... and not believed on a connection that is not the proxy's.
        fields = {"Client-Cert": written, "X-Forwarded-For": "203.0.113.9"}
        direct = gateway.ask("POST", renewal, device.request(), headers=fields)
        assert 401 == direct.status
        log = gateway.log.read_text()
        assert '"proxy.imitated"' in log
        assert "203.0.113.9" not in log

    def test_bootstrap_renewal(self, front: TLSProxy, tmp_path: Path) -> None:
        """The other protocol takes the same certificate."""
        device = Device("bootstrapped")
        enrolled = front.gateway.enroll(device.request())
        pair = device.write(tmp_path, enrolled.certificate)
        answer = ask(
            front,
            "/enroll/renewal",
            json.dumps({"csr": device.request().decode()}).encode(),
            pair,
            Content_Type="application/json",
        )
        assert 200 == answer.status, answer.body
        pem = json.loads(answer.body)["certificate"].encode()
        renewed = x509.load_pem_x509_certificates(pem)[0]
        assert renewed.public_bytes(Encoding.DER) != enrolled.certificate

    def test_reload(self, fresh: TLSProxy, tmp_path: Path) -> None:
        """What is taken out of the file is believed no more."""
        gateway, device = fresh.gateway, Device("reloaded")
        enrolled = gateway.enroll(device.request())
        pair = device.write(tmp_path, enrolled.certificate)
        renewal = f"{ROOT}/simplereenroll"
        assert 200 == ask(fresh, renewal, device.request(), pair).status
        text = gateway.config.read_text()
        gateway.config.write_text(re.sub(r", proxy: \{.*\}\}", "}", text))
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 30
        while '"reload.done"' not in gateway.log.read_text():
            assert time.monotonic() < deadline, gateway.log.read_text()
            time.sleep(0.05)
        assert 401 == ask(fresh, renewal, device.request(), pair).status
