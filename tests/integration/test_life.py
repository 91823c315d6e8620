# SPDX-License-Identifier: MIT
"""Starting, reloading and stopping, as an operator does it."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import ENVIRONMENT, EST, TENANT, Device, Gateway

#: What the twistd script does; it need not be on the path.
TWISTD = "from twisted.scripts.twistd import run; run()"

CACERTS = "/.well-known/est/cacerts"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """Return a gateway that does not run yet, and leave none behind."""
    found = Gateway(tmp_path / "state")
    yield found
    found.end()


def twistd(config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ``twistd -n trstctl`` until it ends by itself."""
    return subprocess.run(
        [
            *(sys.executable, "-c", TWISTD, "-n", "--pidfile="),
            *("trstctl", "--config", str(config), *options),
        ],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def wait_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something holds, within a bound."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def logged(gateway: Gateway, event: str) -> list[dict[str, object]]:
    """Return the log lines with this event."""
    lines = map(json.loads, gateway.log.read_text().splitlines())
    return [line for line in lines if line.get("event") == event]


class StartTests:
    """What stops a start, and how it says so."""

    def test_the_smallest_configuration_works(self, gateway: Gateway) -> None:
        """The fragment of the contract, alone, makes a gateway."""
        gateway.configure(EST)
        gateway.start()
        assert gateway.ask("GET", CACERTS).status == 200
        modes = {
            path.name: path.stat().st_mode & 0o777
            for path in gateway.folder.rglob("*.key")
        }
        assert modes == {"root.key": 0o600, "issuing.key": 0o600}

    def test_bad_configuration_is_78(self, gateway: Gateway) -> None:
        """One line for each fault, with its place; exit 78."""
        gateway.configure("est: {enabled: true, lenint: yes}")
        done = twistd(gateway.config)
        assert done.returncode == 78, done
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 2
        for line in lines:
            place = line.removeprefix(str(gateway.config)).split(":")
            assert place[1].isdigit()
            assert place[2].isdigit()
        assert any("did you mean lenient" in line for line in lines)
        assert any("tenant_id" in line for line in lines)

    def test_missing_authority_is_not_made_again(
        self, gateway: Gateway
    ) -> None:
        """A store without its CA: something is lost, and a person decides."""
        gateway.configure(EST)
        gateway.start()
        gateway.stop()
        (gateway.folder / "ca").rename(gateway.folder / "lost")
        done = twistd(gateway.config)
        assert done.returncode == 78
        assert "authority issuing" in done.stderr
        assert done.stderr.count("\n") == 1

    def test_readable_key_is_refused(self, gateway: Gateway) -> None:
        """A key file that others can read stops the start (R-14)."""
        gateway.configure(EST)
        gateway.start()
        gateway.stop()
        (gateway.folder / "ca" / "issuing.key").chmod(0o640)
        done = twistd(gateway.config)
        assert done.returncode == 78
        assert "chmod 600" in done.stderr
        # Nobody should be led to make a new CA beside the one there is.
        assert "trstctl init" not in done.stderr

    @pytest.mark.parametrize(
        ("chain", "key", "told"),
        [
            ("lost.pem", "ca/issuing.key", "lost.pem"),
            ("ca/root.pem", "lost.key", "lost.key"),
            ("ca/root.pem", "ca/issuing.key", "does not belong"),
        ],
    )
    def test_server_certificate_files(
        self, gateway: Gateway, chain: str, key: str, told: str
    ) -> None:
        """G-1: what the listener is to show is checked with all the rest."""
        gateway.configure(EST)
        gateway.start()
        gateway.stop()
        text = gateway.config.read_text()
        port = f"port: {gateway.https_port}"
        files = f"{port}, certificate: {{chain: {chain}, key: 'file:{key}'}}"
        gateway.config.write_text(text.replace(port, files, 1))
        done = twistd(gateway.config)
        assert done.returncode == 78
        assert "listeners.https.certificate" in done.stderr
        assert told in done.stderr
        assert done.stderr.count("\n") == 1

    def test_unknown_protocol_is_refused(self, gateway: Gateway) -> None:
        """A protocol that no plugin provides stops the start."""
        gateway.configure(f'ets: {{enabled: true, tenant_id: "{TENANT}"}}')
        done = twistd(gateway.config)
        assert done.returncode == 78
        assert "ets" in done.stderr

    def test_taken_port_is_said(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """A port that is taken: one line, and a status that is not 0."""
        gateway.configure(EST)
        gateway.start()
        other = Gateway(tmp_path / "other", https_port=gateway.https_port)
        other.configure(EST)
        done = twistd(other.config)
        assert done.returncode == 1
        assert str(gateway.https_port) in done.stderr

    def test_check_only(self, gateway: Gateway) -> None:
        """``--check-config`` starts nothing."""
        gateway.configure(EST)
        done = twistd(gateway.config, "--check-config")
        assert (done.returncode, done.stderr) == (0, "")
        assert "the configuration is good" in done.stdout
        assert not (gateway.folder / "trstctl.db").exists()


class ReloadTests:
    """SIGHUP."""

    def reload(self, gateway: Gateway, event: str) -> None:
        """Send SIGHUP and wait for what comes of it."""
        assert gateway.process is not None
        before = len(logged(gateway, event))
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(logged(gateway, event)) > before)

    def test_new_label_appears_and_bad_file_changes_nothing(
        self, gateway: Gateway
    ) -> None:
        """G-2: a good file is put in place, a bad one is told and left."""
        gateway.configure(EST)
        gateway.start()
        path = "/.well-known/est/fresh/cacerts"
        assert gateway.ask("GET", path).status == 404
        gateway.configure(
            f'est: {{enabled: true, tenant_id: "{TENANT}", '
            "labels: {fresh: {}}}"
        )
        self.reload(gateway, "reload.done")
        assert gateway.ask("GET", path).status == 200
        gateway.configure("est: {enabled: maybe}")
        self.reload(gateway, "reload.refused")
        assert gateway.ask("GET", path).status == 200

    def test_nothing_is_dropped(self, gateway: Gateway) -> None:
        """G-2: enrollments on open and new connections go on throughout."""
        gateway.configure(EST)
        gateway.start()
        gateway.add_password("device")
        ended = threading.Event()
        failed: list[object] = []
        counted: list[int] = []

        def enroll_on(thread: int) -> None:
            number = 0
            while not ended.is_set():
                number += 1
                answer = gateway.enroll(
                    Device(f"d-{thread}-{number}").request()
                )
                if answer.status != 200:
                    failed.append(answer)
            counted.append(number)

        threads = [
            threading.Thread(target=enroll_on, args=(number,))
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                self.reload(gateway, "reload.done")
                done = len(logged(gateway, "request"))
                wait_until(
                    lambda done=done: (
                        len(logged(gateway, "request")) > done + 5
                    )
                )
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert failed == []
        assert sum(counted) >= 25
        assert len(gateway.serials()) == sum(counted)

    def test_server_certificate_follows_its_names(
        self, gateway: Gateway
    ) -> None:
        """G-4: new names, new certificate, no restart."""
        gateway.configure(EST)
        gateway.start()

        def shown() -> str:
            return ssl.get_server_certificate(
                ("localhost", gateway.https_port)
            )

        before = shown()
        text = gateway.config.read_text()
        port = f"port: {gateway.https_port}"
        gateway.config.write_text(
            text.replace(port, f"{port}, names: [localhost, gw.example]", 1)
        )
        self.reload(gateway, "reload.done")
        assert shown() != before
        assert gateway.ask("GET", CACERTS).status == 200
        system = gateway.audit_events("00000000-0000-0000-0000-000000000000")
        issued = [
            one for one in system if one["event"] == "certificate.issued"
        ]
        assert len(issued) == 2


class StopTests:
    """SIGTERM."""

    def test_requests_under_way_are_answered(self, gateway: Gateway) -> None:
        """G-3: what came in is answered, then the process ends with 0."""
        gateway.configure(EST)
        gateway.start()
        gateway.add_password("device")
        answers: list[int] = []

        def enroll(number: int) -> None:
            # Who is still shaking hands at the stop is turned away.
            with contextlib.suppress(OSError, http.client.HTTPException):
                answers.append(
                    gateway.enroll(Device(f"late-{number}").request()).status
                )

        threads = [
            threading.Thread(target=enroll, args=(number,))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        # The slow password hash keeps them under way for a while.
        wait_until(lambda: self.running(gateway) > 0)
        assert gateway.stop() == 0
        for thread in threads:
            thread.join()
        assert set(answers) == {200}
        assert answers.count(200) == len(gateway.serials())
        gateway.verify_audit()

    @staticmethod
    def running(gateway: Gateway) -> float:
        """Return how many requests the gateway is working on."""
        url = f"http://127.0.0.1:{gateway.ops_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("trstctl_requests_running "):
                    return float(line.split()[1])
        raise AssertionError("the metric is missing")
