# SPDX-License-Identifier: MIT
"""Requests that wait for a person: held, listed, approved, denied."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import TENANT, Device, Gateway, require_client, trstctl

PROTOCOLS = f'est: {{enabled: true, tenant_id: "{TENANT}", profile: guarded}}'
PROFILE = """\
profiles:
  guarded:
    approval: always
    approval_retry_after: 1
    subject: {CN: {}, C: {}, O: {}}
    names: {dns: ["*"]}
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """Return a gateway whose profile asks for approval."""
    found = Gateway(tmp_path / "state")
    found.configure(PROTOCOLS, PROFILE)
    found.start()
    found.add_password("device")
    yield found
    found.end()


def held(gateway: Gateway) -> list[str]:
    """Return the ids of the held requests."""
    listed = trstctl(
        *("request", "list", "--state", "held", "--output", "json"),
        config=gateway.config,
    )
    return [row["id"] for row in json.loads(listed)]


class HeldTests:
    """202 until somebody decides (RFC 7030, section 4.2.3)."""

    def test_waits_through_a_restart_and_is_approved(
        self, gateway: Gateway
    ) -> None:
        """The same POST, repeated, gets 202 and at last the certificate."""
        body = Device("patient").request("patient.example")
        for _ in range(2):
            answer = gateway.enroll(body)
            assert (answer.status, answer.body) == (202, b"")
            assert answer.headers["Retry-After"] == "1"
        assert gateway.serials() == []
        gateway.stop(signal.SIGKILL)
        gateway.start()
        assert gateway.enroll(body).status == 202
        (request_id,) = held(gateway)
        trstctl("request", "approve", request_id, config=gateway.config)
        answer = gateway.enroll(body)
        assert answer.status == 200
        assert gateway.enroll(body).body == answer.body
        assert len(gateway.serials()) == 1
        events = [event["event"] for event in gateway.audit_events()]
        assert events.count("request.held") == 1
        assert events.count("request.approved") == 1
        gateway.verify_audit()

    def test_request_built_anew_is_the_same(self, gateway: Gateway) -> None:
        """libest signs its request again at each try: still one row."""
        device = Device("rebuilding")
        assert gateway.enroll(device.request()).status == 202
        assert gateway.enroll(device.request()).status == 202
        (request_id,) = held(gateway)
        trstctl("request", "approve", request_id, config=gateway.config)
        assert gateway.enroll(device.request()).status == 200
        assert len(gateway.serials()) == 1

    def test_denied_is_told(self, gateway: Gateway) -> None:
        """403, with the reason that the operator gave."""
        body = Device("unwanted").request()
        assert gateway.enroll(body).status == 202
        (request_id,) = held(gateway)
        trstctl(
            *("request", "deny", request_id, "--reason", "not ours"),
            config=gateway.config,
        )
        answer = gateway.enroll(body)
        assert answer.status == 403
        assert b"not ours" in answer.body
        assert gateway.serials() == []

    @pytest.mark.interop
    def test_strongswan_polls(self, gateway: Gateway, tmp_path: Path) -> None:
        """``pki --est`` comes back by itself until it has it."""
        require_client("pki")
        script = (
            "set -e; pki --gen --type ecdsa --size 256 > k.der; "
            "pki --req --in k.der --type ecdsa --dn 'C=CH, O=E, CN=sun' "
            "--san sun.example > r.der; exec pki --est --url "
            f"https://localhost:{gateway.https_port} --in r.der --cacert "
            f"{gateway.root} --cacert {gateway.folder}/ca/issuing.pem "
            "--userpass device:device-password --interval 1 "
            "--maxpolltime 60 > c.der"
        )
        with subprocess.Popen(
            ["bash", "-c", script], cwd=tmp_path, stderr=subprocess.PIPE
        ) as client:
            deadline = time.monotonic() + 30
            while not (waiting := held(gateway)):
                assert time.monotonic() < deadline
                assert client.poll() is None
            trstctl("request", "approve", waiting[0], config=gateway.config)
            _, told = client.communicate(timeout=90)
        assert client.returncode == 0, told
        assert (tmp_path / "c.der").stat().st_size > 200
