# SPDX-License-Identifier: MIT
"""CMP with BouncyCastle, as Debian packages it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from running import TENANT, Gateway, free_port, require_client, trstctl

CLIENT = Path(__file__).with_name("clients") / "BouncyCastleCMPClient.java"
JARS = [
    Path("/usr/share/java") / f"{name}.jar"
    for name in ("bcprov", "bcpkix", "bcutil")
]

#: What the client prints, line by line, followed by numbers.
STEPS = (
    "ir PBMAC1 ",
    "ir PasswordBasedMac ",
    "kur ",
    "rr ",
    "genm caCerts 2",
    "refused badMessageCheck",
)

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return a gateway that speaks CMP over plain HTTP."""
    require_client("java", "javac", *map(str, JARS))
    folder = tmp_path_factory.mktemp("cmp") / "state"
    gateway = Gateway(folder, http_port=free_port())
    gateway.configure(f'cmp: {{enabled: true, tenant_id: "{TENANT}"}}')
    gateway.start()
    try:
        yield gateway
        gateway.verify_audit()
    finally:
        gateway.end()


def listed(gateway: Gateway) -> dict[str, str]:
    """Return the status of every certificate by its serial."""
    printed = trstctl(
        *("cert", "list", "--output", "json"), config=gateway.config
    )
    return {row["serial"]: row["status"] for row in json.loads(printed)}


class BouncyCastleTests:
    """The classes ``org.bouncycastle.cert.cmp`` of libbcpkix-java 1.72."""

    def test_enrolls_updates_and_revokes(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """
        ir under PBMAC1 and PasswordBasedMac, kur, rr, genm, and a refusal.

        The client verifies the protection of each answer, and every
        certificate up to the root.
        """
        printed = trstctl(
            *("challenge", "create", "--for", "cmp", "--any-name"),
            *("--count", "2", "--output", "json"),
            config=gateway.config,
        )
        secrets = [
            part
            for row in json.loads(printed)
            for part in (row["id"], row["challenge"])
        ]
        done = subprocess.run(
            [
                *("java", "-XX:TieredStopAtLevel=1", "-cp"),
                ":".join(map(str, JARS)),
                str(CLIENT),
                f"http://localhost:{gateway.http_port}/cmp",
                *(str(gateway.root), str(tmp_path), *secrets),
            ],
            capture_output=True,
            timeout=120,
            check=False,
        )
        told = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert 0 == done.returncode, told
        lines = told.splitlines()
        for line, step in zip(lines, STEPS, strict=True):
            assert line.startswith(step)
        states = listed(gateway)
        for name, status in (
            ("first", "superseded"),
            ("other", "valid"),
            ("next", "revoked"),
        ):
            made = x509.load_pem_x509_certificate(
                (tmp_path / f"bc-cmp-{name}.pem").read_bytes()
            )
            assert status == states[f"{made.serial_number:x}"]
