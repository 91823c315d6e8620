# SPDX-License-Identifier: MIT
"""``trstctl quickstart`` as a user runs it, with every printed command."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

pytestmark = [pytest.mark.slow, pytest.mark.interop]

ROOT = Path(__file__).parents[2]
#: Without it, strongSwan speaks no SCEP.
CURL_PLUGIN = Path("/usr/lib/ipsec/plugins/libstrongswan-curl.so")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@define
class Quickstart:
    """A state directory, and the gateway that runs on it."""

    state: Path
    ports: list[int] = field(factory=lambda: free_ports(3))
    process: subprocess.Popen[str] | None = None

    def start(self, *options: str, stdin: int | None = None) -> None:
        """Start the program."""
        https, http, ops = map(str, self.ports)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "trstctl.cli.main", "quickstart"),
                *("--state", str(self.state), "--https-port", https),
                *("--http-port", http, "--ops-port", ops, *options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=stdin,
            text=True,
            cwd=self.state.parent,
            env=ENVIRONMENT,
        )

    def facts(self) -> dict[str, Any]:
        """Wait until the gateway listens."""
        path = self.state / "quickstart.json"
        for _ in range(600):
            if path.exists() and self._ready():
                found: dict[str, Any] = json.loads(path.read_text())
                return found
            assert self.process is not None
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)
        raise AssertionError("the gateway did not start")

    def _ready(self) -> bool:
        """Tell whether the gateway says that it is ready."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.ports[2]}/readyz", timeout=5
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> tuple[int, str, str]:
        """Send SIGTERM and return status, output and log."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        output, log = self.process.communicate(timeout=40)
        return self.process.returncode, output, log


@pytest.fixture
def quickstart(tmp_path: Path) -> Iterator[Quickstart]:
    """Stop whatever a test left running."""
    started = Quickstart(tmp_path / "state of mine")
    yield started
    if started.process is not None and started.process.poll() is None:
        started.process.kill()
        started.process.communicate()


def pasted(recipes: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Paste commands into a shell that stops at the first error."""
    return subprocess.run(
        ["bash", "-euo", "pipefail"],
        input=recipes,
        text=True,
        capture_output=True,
        cwd=directory,
        env=ENVIRONMENT,
        check=False,
        timeout=120,
    )


class QuickstartTests:
    """From nothing to enrolled devices."""

    def test_every_printed_command_works(
        self, quickstart: Quickstart, tmp_path: Path
    ) -> None:
        """
        Pasted as printed, the commands fetch the chain, enroll, re-enroll
        and show the certificate; a second run reuses everything.
        """
        quickstart.start()
        first = quickstart.facts()
        assert quickstart.process is not None
        assert quickstart.process.stdout is not None
        text = ""
        while "readyz" not in text:
            text += quickstart.process.stdout.readline()
        _, _, recipes = text.partition("\n# ")
        groups = [f"# {group}" for group in recipes.split("\n# ")]
        assert 9 == len(groups)
        strongswan = shutil.which("pki") is not None and CURL_PLUGIN.exists()
        if not strongswan and os.environ.get("TRSTCTL_REQUIRE_CLIENTS"):
            pytest.fail("strongSwan is not installed, and must be in CI")
        verifiable = 9 if strongswan else 7
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        verified = 0
        for group in groups:
            assert len(group.strip().splitlines()) < 10
            if "pki --" in group and not strongswan:
                continue
            done = pasted(group, elsewhere)
            assert 0 == done.returncode, (group, done.stderr)
            verified += done.stdout.count(".pem: OK\n")
            if "GetCACaps" in group:
                assert "SCEPStandard\n" in done.stdout
                assert 3 == done.stdout.count("BEGIN CERTIFICATE")
            if "ocsp" in group:
                good, revoked = done.stdout.split("device.pem: ")[1:]
                assert good.startswith("good")
                assert revoked.startswith("revoked")
            if "readyz" in group:
                told = done.stdout.count("CN=device-")
                # That which was revoked is not verified again.
                assert verifiable + 1 == told
                assert '"ready": true' in done.stdout
        assert verifiable == verified
        assert [] == list(elsewhere.iterdir())

        status, _, log = quickstart.stop()
        assert 0 == status
        events = [json.loads(line) for line in log.splitlines()]
        issued = [
            event["operation"]
            for event in events
            if event.get("decision") == "issued"
        ]
        assert [
            "simpleenroll",
            "simplereenroll",
            "simpleenroll",
            "bootstrap",
            "renewal",
            *(["PKIOperation", "PKIOperation"] if strongswan else []),
            "ir",
            "kur",
            "simpleenroll",
        ] == issued
        assert first["est"]["password"] not in log
        assert first["bootstrap"]["token"] not in log
        assert first["scep"]["challenge"] not in log
        assert first["cmp"]["secret"] not in log

        quickstart.start()
        second = quickstart.facts()
        # What the first run used up is made anew; everything else stays.
        assert first.pop("bootstrap") != second.pop("bootstrap")
        assert first.pop("scep") != second.pop("scep")
        assert first.pop("cmp") != second.pop("cmp")
        assert first == second
        done = pasted(groups[1], elsewhere)
        assert 0 == done.returncode, done.stderr
        assert 0 == quickstart.stop()[0]

    def test_facts(self, quickstart: Quickstart) -> None:
        """quickstart.json has the promised keys, for its owner only."""
        quickstart.start()
        facts = quickstart.facts()
        path = quickstart.state / "quickstart.json"
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        https, http, ops = quickstart.ports
        assert f"https://localhost:{https}" == facts["https_url"]
        assert f"http://localhost:{http}" == facts["http_url"]
        assert f"http://127.0.0.1:{ops}" == facts["ops_url"]
        assert "11111111-1111-1111-1111-111111111111" == facts["tenant_id"]
        assert str(quickstart.state) == facts["state"]
        for key in ("config", "root_ca", "ca_chain"):
            assert Path(facts[key]).is_file()
        assert {"username", "password", "bearer_token"} == set(facts["est"])
        assert {"url", "token"} == set(facts["bootstrap"])
        assert {"url", "reference", "secret", "server_cert"} == set(
            facts["cmp"]
        )
        assert Path(facts["cmp"]["server_cert"]).is_file()
        url = f"https://localhost:{https}/enroll/bootstrap"
        assert url == facts["bootstrap"]["url"]
        assert {"url", "challenge"} == set(facts["scep"])
        assert f"http://localhost:{http}/scep" == facts["scep"]["url"]

    def test_hang_up(self, quickstart: Quickstart) -> None:
        """SIGHUP reloads, as the configuration says; once the terminal is
        gone, it ends the gateway in order."""
        terminal, stdin = pty.openpty()
        quickstart.start(stdin=stdin)
        os.close(stdin)
        quickstart.facts()
        assert quickstart.process is not None
        assert quickstart.process.stderr is not None
        quickstart.process.send_signal(signal.SIGHUP)
        line = ""
        while "reload.done" not in line:
            line = quickstart.process.stderr.readline()
            assert line, "the gateway has ended"
        os.close(terminal)
        quickstart.process.send_signal(signal.SIGHUP)
        _, log = quickstart.process.communicate(timeout=40)
        assert 0 == quickstart.process.returncode, log
        assert "reload.done" not in log

    def test_taken_port(self, quickstart: Quickstart) -> None:
        """A port that is taken is one clear line and status 1."""
        with socket.create_server(("0.0.0.0", quickstart.ports[0])):
            quickstart.start()
            assert quickstart.process is not None
            _, log = quickstart.process.communicate(timeout=40)
        told = [line for line in log.splitlines() if line[:1] != "{"]
        assert 1 == quickstart.process.returncode
        assert 1 == len(told)
        assert f"port {quickstart.ports[0]} " in told[0]
        assert "Address already in use" in told[0]
        assert not (quickstart.state / "quickstart.json").exists()
