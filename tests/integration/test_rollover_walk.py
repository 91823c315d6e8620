# SPDX-License-Identifier: MIT
"""
What happens in the course of a rollover beside the straight path: a command
that is killed, restarts, a step back, and a second process on the same state.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, field
from cryptography import x509
from running import (
    ENVIRONMENT,
    EST,
    Device,
    Gateway,
    running,
    trstctl,
)

PATIENCE = 20.0


class Second(Gateway):
    """Another process on the state of a gateway, at ports of its own."""

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "second.yaml"

    @property
    def log(self) -> Path:
        """Everything that the process has written."""
        return self.folder.parent / "second.log"


@define
class Walk:
    """
    Two processes on one state, and the operator.

    :ivar enrolled: how many devices have enrolled.
    """

    gateways: tuple[Gateway, Gateway]
    enrolled: int = field(default=0, init=False)

    @property
    def config(self) -> Path:
        """The configuration that the operator names."""
        return self.gateways[0].config

    def step(self, *arguments: str) -> None:
        """Take a step, which both processes follow."""
        trstctl("ca", "rollover", *arguments, config=self.config)
        self.settle()

    def settle(self) -> None:
        """Wait until both processes sign with the key that the store says."""
        states = self.states()
        issuing = {name for name in states if states[name] == "issuing"}
        deadline = time.monotonic() + PATIENCE
        while self.signing() != issuing:
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def states(self) -> dict[str, str]:
        """Return what each key is for."""
        told = trstctl(
            *("ca", "rollover", "status", "--output", "json"),
            config=self.config,
        )
        return {row["generation"]: row["state"] for row in json.loads(told)}

    def signing(self) -> set[str]:
        """Return which keys the processes sign with, by enrolling."""
        return {self.signer_of(gateway) for gateway in self.gateways}

    def signer_of(self, gateway: Gateway) -> str:
        """Return the key that signs for a new device."""
        self.enrolled += 1
        answer = gateway.enroll(Device(f"device-{self.enrolled}").request())
        assert 200 == answer.status, answer.body
        signed = x509.load_der_x509_certificate(answer.certificate)
        for name in ("issuing", "issuing-2"):
            file = gateway.folder / "ca" / f"{name}.pem"
            issuer = x509.load_pem_x509_certificates(file.read_bytes())[0]
            own = issuer.extensions.get_extension_for_class(
                x509.SubjectKeyIdentifier
            )
            by = signed.extensions.get_extension_for_class(
                x509.AuthorityKeyIdentifier
            )
            if own.value.digest == by.value.key_identifier:
                return name
        raise AssertionError(signed)

    def restart(self) -> None:
        """Stop and start the first process; it comes back as it was."""
        first = self.gateways[0]
        before = self.signer_of(first)
        assert 0 == first.stop()
        first.start()
        assert before == self.signer_of(first)

    def killed(self, *arguments: str) -> None:
        """Kill a step while it waits for the processes, or soon after."""
        with subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "trstctl.cli.main"),
                *("ca", "rollover", *arguments),
            ],
            env={**ENVIRONMENT, "TRSTCTL_CONFIG": str(self.config)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as command:
            assert command.stderr is not None
            assert command.stderr.readline()
            command.kill()


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    """Return two processes, which trust the first root."""
    with running(tmp_path / "state") as first:
        second = Second(first.folder)
        second.configure(EST)
        second.start()
        try:
            yield Walk((first, second))
        finally:
            second.end()
        first.verify_audit()


class WalkTests:
    """Another root and another issuing key."""

    def test_every_state(self, walk: Walk) -> None:
        """Who knows the old root enrolls until the old key is finished."""
        walk.step("prepare", "--new-root")
        walk.killed("activate", "--now", "--yes")
        walk.settle()
        walk.restart()
        # It was taken whole, or not at all.
        if "prepared" == walk.states()["issuing-2"]:
            walk.step("activate", "--now", "--yes")
        walk.restart()
        walk.step("back", "--yes")
        walk.step("activate", "--now", "--yes")
        trstctl(
            *("ca", "rollover", "finish", "--force", "--yes"),
            config=walk.config,
        )
        # Who knows the old root only does not come back from here.
        first, _ = walk.gateways
        assert 0 == first.stop()
        first.start()
        assert {"issuing": "retired", "issuing-2": "issuing"} == walk.states()
