# SPDX-License-Identifier: MIT
"""Signals at inconvenient moments, and stops that meet trouble."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import ENVIRONMENT, EST, TENANT, Device, Gateway
from test_life import CACERTS, TWISTD, logged, wait_until

#: Starts the gateway of ``sys.argv[1]`` as twistd does, and then acts.
DRIVER = """
import os, signal, sys
from pathlib import Path
from twisted.internet import reactor
from twisted.logger import globalLogBeginner
from trstctl.tap import build
gateway = build(Path(sys.argv[1]))
globalLogBeginner.beginLoggingTo(
    [gateway.log_observer()], redirectStandardIO=False
)
gateway.startService()
reactor.addSystemEventTrigger("before", "shutdown", gateway.stopService)

def send(number):
    os.kill(os.getpid(), number)

def when_ready(act):
    if hasattr(gateway, "readiness"):
        act()
    else:
        reactor.callLater(0.01, when_ready, act)
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """Return a gateway that does not run yet, and leave none behind."""
    found = Gateway(tmp_path / "state")
    found.configure(EST)
    yield found
    found.end()


def drive(gateway: Gateway, acts: str) -> int:
    """Run the gateway with a few acts of our own, and return its status."""
    with gateway.log.open("ab") as log:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"{DRIVER}\n{acts}\nreactor.run()\n",
                str(gateway.config),
            ],
            stdout=log,
            stderr=log,
            env=ENVIRONMENT,
            timeout=30,
            check=False,
        )
    return done.returncode


def half_a_request(gateway: Gateway) -> socket.socket:
    """Return a connection whose request never comes to its end."""
    context = ssl.create_default_context(cafile=str(gateway.root))
    plain = socket.create_connection(("127.0.0.1", gateway.https_port))
    secure = context.wrap_socket(plain, server_hostname="localhost")
    secure.sendall(
        b"POST /.well-known/est/simpleenroll HTTP/1.1\r\n"
        b"Host: localhost\r\nContent-Length: 50\r\n\r\nabc"
    )
    return secure


class SignalTests:
    """SIGHUP and SIGTERM when nobody expects them."""

    def test_reload_while_starting(self, gateway: Gateway) -> None:
        """A SIGHUP during the start does not end it; it comes after it."""
        status = drive(
            gateway,
            "reactor.callWhenRunning(send, signal.SIGHUP)\n"
            "when_ready(lambda: reactor.callLater(\n"
            "    0.5, send, signal.SIGTERM))",
        )
        text = gateway.log.read_text()
        assert status == 0, text
        assert text.index("gateway.ready") < text.index("reload.done")

    def test_stop_while_starting(self, gateway: Gateway) -> None:
        """A SIGTERM during the start is no failure of it."""
        status = drive(
            gateway, "reactor.callWhenRunning(send, signal.SIGTERM)"
        )
        text = gateway.log.read_text()
        assert status == 0, text
        assert "cannot start" not in text
        assert "Traceback" not in text

    def test_second_signal_hurries(self, gateway: Gateway) -> None:
        """G-3: a second SIGTERM waits for no client, and is no error."""
        gateway.start()
        with half_a_request(gateway):
            assert gateway.process is not None
            gateway.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "Closed" in gateway.log.read_text())
            began = time.monotonic()
            gateway.process.send_signal(signal.SIGHUP)
            gateway.process.send_signal(signal.SIGTERM)
            assert gateway.wait() == 0
        assert time.monotonic() - began < 5
        assert len(logged(gateway, "stop.hurried")) == 1
        assert logged(gateway, "reload.done") == []
        assert "Traceback" not in gateway.log.read_text()

    def test_stop_without_the_store(self, gateway: Gateway) -> None:
        """G-3: a store that fails at the stop does not keep the process."""
        status = drive(
            gateway,
            "def fail():\n"
            "    gateway._threads.hash_password(lambda *_: True, '', '')\n"
            "    gateway.store.close().addCallback(\n"
            "        lambda _: send(signal.SIGTERM))\n"
            "when_ready(lambda: reactor.callLater(0.1, fail))",
        )
        assert status == 0
        assert logged(gateway, "stop.failed") != []

    def test_many_reloads_end_with_the_last(self, gateway: Gateway) -> None:
        """G-2: of reloads that overlap, the last one's file stays."""
        gateway.start()
        assert gateway.process is not None
        for number in range(8):
            # Each needs a certificate of its own, and so takes its time.
            gateway.configure(
                f'est: {{enabled: true, tenant_id: "{TENANT}", '
                f"labels: {{l{number}: {{}}}}}}"
            )
            text = gateway.config.read_text()
            port = f"port: {gateway.https_port}"
            gateway.config.write_text(
                text.replace(
                    port, f"{port}, names: [localhost, n{number}.example]", 1
                )
            )
            gateway.process.send_signal(signal.SIGHUP)
            time.sleep(0.005)
        path = "/.well-known/est/l7/cacerts"
        wait_until(lambda: gateway.ask("GET", path).status == 200)
        time.sleep(0.3)
        assert gateway.ask("GET", path).status == 200
        shown = ssl.get_server_certificate(("localhost", gateway.https_port))
        assert b"n7.example" in ssl.PEM_cert_to_DER_cert(shown)


class ReloadTests:
    """What a reload must be able to change."""

    def test_without_its_audit_record(self, gateway: Gateway) -> None:
        """G-2: a reload that cannot be recorded changes nothing."""
        status = drive(
            gateway,
            "def reload(_):\n"
            "    before = gateway.ra.rules, gateway.config\n"
            "    gateway.reload().addCallback(tell, before)\n"
            "def tell(done, before):\n"
            "    kept = before == (gateway.ra.rules, gateway.config)\n"
            "    print('done', done, 'kept', kept, flush=True)\n"
            "    send(signal.SIGTERM)\n"
            "def act():\n"
            "    gateway.store.close().addCallback(reload)\n"
            "when_ready(lambda: reactor.callLater(0.1, act))",
        )
        assert status == 0
        assert "done False kept True" in gateway.log.read_text()
        assert "reload.refused" in gateway.log.read_text()

    def test_other_authority(self, gateway: Gateway, tmp_path: Path) -> None:
        """G-2: the server certificate comes from the new authority at once."""
        gateway.start()
        other = Gateway(tmp_path / "other")
        other.configure(EST)
        other.start()
        other.stop()
        ca = other.folder / "ca"
        gateway.configure(
            f'est: {{enabled: true, tenant_id: "{TENANT}", '
            "authority: second}",
            "authorities:\n  second:\n"
            f"    certificate: {ca}/issuing.pem\n"
            f"    key: file:{ca}/issuing.key\n"
            f"    chain: [{ca}/root.pem]\n",
        )
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reload." in gateway.log.read_text())
        assert logged(gateway, "reload.refused") == []
        other.https_port = gateway.https_port
        assert other.ask("GET", CACERTS).status == 200


class DaemonTests:
    """``twistd trstctl`` without ``-n``."""

    @staticmethod
    def daemonise(gateway: Gateway, pid: Path) -> str:
        """Start the daemon and return what the terminal shows."""
        with (pid.parent / "terminal").open("w+") as terminal:
            subprocess.run(
                [
                    *(sys.executable, "-c", TWISTD, f"--pidfile={pid}"),
                    *("trstctl", "--config", str(gateway.config)),
                ],
                env=ENVIRONMENT,
                stderr=terminal,
                timeout=60,
                check=True,
            )
            terminal.seek(0)
            return terminal.read()

    def test_log_that_nobody_would_see(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """A daemon has no standard error; whoever relies on it is told."""
        pid = tmp_path / "twistd.pid"
        told = self.daemonise(gateway, pid)
        wait_until(gateway.ready)
        subprocess.run(["/bin/kill", pid.read_text()], check=True)
        assert "log.file" in told.splitlines()[0]
        wait_until(lambda: not pid.exists())

    def test_enrolls_and_stops(self, gateway: Gateway, tmp_path: Path) -> None:
        """What was made before the fork works after it."""
        log, pid = tmp_path / "daemon.log", tmp_path / "twistd.pid"
        gateway.configure(EST, f"log: {{file: {log}}}\n")
        told = self.daemonise(gateway, pid)
        assert told == ""
        wait_until(gateway.ready)
        number = int(pid.read_text())
        try:
            gateway.add_password("device")
            answer = gateway.enroll(Device("d-1").request())
            assert answer.status == 200
            log.rename(tmp_path / "daemon.log.1")
            subprocess.run(["/bin/kill", "-HUP", str(number)], check=True)
            wait_until(
                lambda: log.exists() and "reload.done" in log.read_text()
            )
            assert log.stat().st_mode & 0o777 == 0o600
        finally:
            subprocess.run(["/bin/kill", str(number)], check=True)
        wait_until(lambda: not pid.exists())
        gateway.verify_audit()

    def test_failed_start_leaves_no_pid_file(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """Else the next start could take a namesake for itself."""
        pid = tmp_path / "twistd.pid"
        with socket.create_server(("127.0.0.1", gateway.ops_port)):
            done = subprocess.run(
                [
                    *(sys.executable, "-c", TWISTD, "-n", f"--pidfile={pid}"),
                    *("trstctl", "--config", str(gateway.config)),
                ],
                env=ENVIRONMENT,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        assert done.returncode == 1
        assert str(gateway.ops_port) in done.stderr
        assert not pid.exists()
        # Nothing is left half done: the next start works.
        gateway.start()
