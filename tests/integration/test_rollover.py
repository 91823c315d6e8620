# SPDX-License-Identifier: MIT
"""
The rollover of a CA key under a steady stream of enrollments.

Each device trusts what it last fetched from ``/cacerts`` and nothing else, as
RFC 7030, section 4.1.3, has it.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from running import (
    EST,
    TENANT,
    Device,
    Gateway,
    require_client,
    running,
    trstctl,
)

from trstctl.pkix.cms import read_certs_only

#: Seconds between two requests of one device.
PACE = 0.05
PATIENCE = 20.0


def pem(certificates: Sequence[bytes]) -> str:
    """Return certificates as PEM."""
    return "".join(
        x509.load_der_x509_certificate(each)
        .public_bytes(Encoding.PEM)
        .decode()
        for each in certificates
    )


def is_root(certificate: bytes) -> bool:
    """Tell whether a certificate is signed by its own key."""
    read = x509.load_der_x509_certificate(certificate)
    try:
        read.verify_directly_issued_by(read)
    except Exception:  # noqa: BLE001 - of whatever kind
        return False
    return True


@define
class Client:
    """
    A device that enrolls, or renews what it has, again and again.

    :ivar trusted: what it last fetched from ``/cacerts``.
    :ivar issued: each certificate, with what ``/cacerts`` said right before
        and right after.
    """

    gateway: Gateway
    folder: Path
    device: Device
    renewing: bool
    trusted: tuple[bytes, ...]
    issued: list[tuple[bytes, tuple[bytes, ...], tuple[bytes, ...]]] = field(
        factory=list
    )
    faults: list[str] = field(factory=list)
    own: tuple[Path, Path] | None = None

    def ask(
        self, path: str, body: bytes | None, *, certified: bool = False
    ) -> bytes:
        """Send one request; the answer must be 200."""
        context = ssl.create_default_context(
            cadata=pem([one for one in self.trusted if is_root(one)])
        )
        if certified and self.own is not None:
            context.load_cert_chain(*self.own)
        client = http.client.HTTPSConnection(
            "localhost", self.gateway.https_port, context=context, timeout=30
        )
        headers = {"Connection": "close"}
        if body is not None:
            headers["Content-Type"] = "application/pkcs10"
            pair = base64.b64encode(b"device:device-password").decode()
            if not certified:
                headers["Authorization"] = f"Basic {pair}"
        try:
            client.request(
                "GET" if body is None else "POST",
                f"/.well-known/est/{path}",
                body,
                headers,
            )
            response = client.getresponse()
            told = response.read()
            assert response.status == 200, (path, response.status, told)
            return base64.b64decode(told)
        finally:
            client.close()

    def fetch(self) -> tuple[bytes, ...]:
        """Fetch the CA certificates, and trust them."""
        self.trusted = read_certs_only(self.ask("cacerts", None))
        return self.trusted

    def once(self) -> bytes:
        """Enroll, or renew; keep what came of it."""
        before = self.fetch()
        renewing = self.renewing and self.own is not None
        (certificate,) = read_certs_only(
            self.ask(
                "simplereenroll" if renewing else "simpleenroll",
                self.device.request(),
                certified=renewing,
            )
        )
        self.issued.append((certificate, before, self.fetch()))
        self.own = self.device.write(self.folder, certificate)
        return certificate

    def run(self, ended: threading.Event) -> None:
        """Go on until told to end."""
        while not ended.is_set():
            try:
                self.once()
            except Exception as error:  # noqa: BLE001 - each is a failure
                self.faults.append(f"{self.device.name}: {error!r}")
            ended.wait(PACE)


@pytest.fixture(scope="class")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Run a gateway."""
    require_client("openssl", "curl", "gnutls-cli")
    folder = tmp_path_factory.mktemp("rollover")
    cmp = f'cmp: {{enabled: true, tenant_id: "{TENANT}"}}'
    with running(folder / "state", f"{EST}, {cmp}") as gateway:
        yield gateway


def rollover(gateway: Gateway, *arguments: str) -> dict[str, object]:
    """Take a step, and return what it says."""
    told = trstctl(
        *("ca", "rollover", *arguments, "--output", "json"),
        config=gateway.config,
    )
    found: dict[str, object] = json.loads(told)
    return found


def until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def verify(folder: Path, clients: Sequence[Client]) -> int:
    """Verify each certificate by what was told before and after it."""
    bundles: dict[tuple[bytes, ...], list[Path]] = {}
    count = 0
    for client in clients:
        for certificate, *told in client.issued:
            count += 1
            file = folder / f"issued-{count}.pem"
            file.write_text(pem([certificate]))
            for bundle in told:
                bundles.setdefault(bundle, []).append(file)
    for number, (bundle, files) in enumerate(bundles.items()):
        anchors = folder / f"anchors-{number}.pem"
        others = folder / f"others-{number}.pem"
        anchors.write_text(pem([one for one in bundle if is_root(one)]))
        others.write_text(pem([one for one in bundle if not is_root(one)]))
        done = subprocess.run(
            ["openssl", "verify", "-CAfile", anchors, "-untrusted", others]
            + [str(file) for file in files],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert len(files) == done.stdout.count(": OK")
    return count


def reaches(gateway: Gateway, anchors: Path) -> bool:
    """Tell whether TLS works for who trusts only these."""
    done = subprocess.run(
        [
            *("openssl", "s_client", "-connect"),
            f"localhost:{gateway.https_port}",
            *("-CAfile", anchors, "-verify_return_error", "-brief"),
        ],
        input=b"",
        capture_output=True,
        timeout=20,
        check=False,
    )
    url = f"https://localhost:{gateway.https_port}/.well-known/est/cacerts"
    fetched = subprocess.run(
        ["curl", "-fsS", "--cacert", anchors, "-o", "/dev/null", url],
        capture_output=True,
        timeout=20,
        check=False,
    )
    by_gnutls = subprocess.run(
        [
            *("gnutls-cli", "--x509cafile", anchors),
            *("-p", str(gateway.https_port), "localhost"),
        ],
        input=b"",
        capture_output=True,
        timeout=20,
        check=False,
    )
    found = done.returncode == 0 and b"Verification: OK" in done.stderr
    assert found == (0 == by_gnutls.returncode), by_gnutls.stdout
    # 60: the peer's certificate cannot be verified.
    assert (0 if found else 60) == fetched.returncode, fetched.stderr
    return found


def shown(gateway: Gateway) -> list[x509.Certificate]:
    """Return what the TLS listener shows, in its order."""
    done = subprocess.run(
        [
            *("openssl", "s_client", "-showcerts", "-connect"),
            f"localhost:{gateway.https_port}",
        ],
        input=b"",
        capture_output=True,
        timeout=20,
        check=False,
    )
    return x509.load_pem_x509_certificates(done.stdout)


def is_in_order(chain: Sequence[x509.Certificate]) -> bool:
    """Tell whether each certificate certifies the one before it."""
    for below, above in itertools.pairwise(chain):
        below.verify_directly_issued_by(above)
    return len(chain) == len(set(chain))


def understands(
    gateway: Gateway, client: Client, trusted: Path, anchors: Path
) -> bool:
    """
    Tell whether who trusts only these verifies the answers of CMP.

    :param anchors: for TLS, which is judged by itself.
    """
    assert client.own is not None
    certificate, key = client.own
    done = subprocess.run(
        [
            *("openssl", "cmp", "-cmd", "genm", "-infotype", "caCerts"),
            *("-server", f"https://localhost:{gateway.https_port}/cmp"),
            *("-tls_used", "-tls_trusted", anchors, "-trusted", trusted),
            *("-cert", certificate, "-key", key),
        ],
        capture_output=True,
        timeout=20,
        check=False,
    )
    return done.returncode == 0 and b"id-it-caCerts" in (
        done.stdout + done.stderr
    )


class RolloverTests:
    """Another root and another issuing key, while devices go on."""

    def test_nobody_notices(self, gateway: Gateway, tmp_path: Path) -> None:
        """No failure; each certificate verifies at its moment."""
        root = x509.load_pem_x509_certificate(gateway.root.read_bytes())
        old = root.public_bytes(Encoding.DER)

        def client(name: str, *, renewing: bool) -> Client:
            return Client(gateway, tmp_path, Device(name), renewing, (old,))

        idle = client("idle", renewing=True)
        idle.once()
        clients = [
            client(f"device-{number}", renewing=number > 0)
            for number in range(3)
        ]
        ended = threading.Event()
        threads = [
            threading.Thread(target=each.run, args=(ended,))
            for each in clients
        ]
        for thread in threads:
            thread.start()
        try:
            self.roll(gateway, tmp_path, idle, clients)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert [] == [fault for each in clients for fault in each.faults]
        assert verify(tmp_path, [idle, *clients]) > 50
        self.restart_without_the_first_key(gateway)

    def restart_without_the_first_key(self, gateway: Gateway) -> None:
        """Once it is destroyed, the gateway starts without it."""
        key = gateway.folder / "ca" / "issuing.key"
        assert key.exists()
        trstctl(
            *("ca", "rollover", "finish", "--destroy-key", "--force", "--yes"),
            config=gateway.config,
        )
        assert not key.exists()
        assert gateway.stop() == 0
        gateway.start()
        rows = json.loads(
            trstctl(
                *("ca", "rollover", "status", "--output", "json"),
                config=gateway.config,
            )
        )
        assert ["retired", "issuing"] == [row["state"] for row in rows]
        anchors = gateway.folder / "ca" / "issuing-2.pem"
        assert reaches(gateway, anchors)

    def roll(
        self,
        gateway: Gateway,
        folder: Path,
        idle: Client,
        clients: Sequence[Client],
    ) -> None:
        """Go through the steps, while the devices work."""
        old = folder / "old.pem"
        old.write_text(gateway.root.read_text())
        probe = Client(gateway, folder, Device("probe"), False, idle.trusted)
        assert 2 == len(probe.fetch())
        told = rollover(gateway, "prepare", "--new-root")
        assert ("issuing-2", True) == (told["generation"], told["new_root"])
        until(lambda: len(probe.fetch()) == 6)
        first_issuing, first_root, issuing, new_root, *links = probe.trusted
        new = folder / "new.pem"
        new.write_text(pem([new_root]))
        self.check_links(folder, first_root, new_root, links)
        both = folder / "both.pem"
        both.write_text(pem([first_root, new_root]))
        self.check_tls(gateway, old, new, links[0])
        assert understands(gateway, idle, old, both)
        assert understands(gateway, idle, new, both)
        rollover(gateway, "activate", "--now", "--yes")
        until(lambda: probe.fetch()[0] == issuing)
        assert {first_issuing, first_root} < set(probe.trusted)
        self.check_tls(gateway, old, new, links[1])
        assert understands(gateway, idle, old, both)
        assert understands(gateway, idle, new, both)
        # A certificate of the old key renews, and gets one of the new.
        renewed = x509.load_der_x509_certificate(idle.once())
        renewed.verify_directly_issued_by(
            x509.load_der_x509_certificate(issuing)
        )
        rollover(gateway, "finish", "--force", "--yes")
        until(lambda: probe.fetch() == (issuing, new_root))
        assert not reaches(gateway, old)
        assert reaches(gateway, new)
        assert 2 == len(shown(gateway))
        idle.fetch()
        idle.once()
        made = [len(each.issued) for each in clients]
        until(
            lambda: all(
                len(each.issued) > count + 3
                for each, count in zip(clients, made, strict=True)
            )
        )

    def check_tls(
        self, gateway: Gateway, old: Path, new: Path, link: bytes
    ) -> None:
        """
        RFC 8446, section 4.4.2: who knows one of the roots only reaches the
        gateway, also who takes chains that are in order only.
        """
        assert reaches(gateway, old)
        assert reaches(gateway, new)
        chain = shown(gateway)
        assert is_in_order(chain)
        assert 3 == len(chain)
        assert link == chain[-1].public_bytes(Encoding.DER)

    def check_links(
        self, folder: Path, old: bytes, new: bytes, links: Sequence[bytes]
    ) -> None:
        """RFC 9810, section 4.4: OldWithNew and NewWithOld."""
        for number, (anchor, link) in enumerate(
            zip((new, old), links, strict=True)
        ):
            file = folder / f"link-{number}.pem"
            file.write_text(pem([link]))
            trusted = folder / f"link-anchor-{number}.pem"
            trusted.write_text(pem([anchor]))
            done = subprocess.run(
                ["openssl", "verify", "-CAfile", trusted, file],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
