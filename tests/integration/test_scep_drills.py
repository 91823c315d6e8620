# SPDX-License-Identifier: MIT
"""
SCEP when many race for one challenge, and when the gateway is killed.

``TRSTCTL_DRILL_ROUNDS`` makes the drills longer.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from running import TENANT, Gateway, free_port, require_client, trstctl
from unit.scep_samples import (
    Key,
    Message,
    Reply,
    certificates_and_crls,
    csr,
    read_reply,
    self_signed,
)

ROUNDS = int(os.environ.get("TRSTCTL_DRILL_ROUNDS", "1"))
DEVICES = 64
PROTOCOLS = f'scep: {{enabled: true, tenant_id: "{TENANT}"}}'

#: pkiStatus, and failInfo behind it (RFC 8894, sections 3.2.1.3 and 3.2.1.4).
SUCCESS, BAD_REQUEST = "0", "2/2"

#: Where a process can die after the challenge is used up.
POINTS = ("after-intent", "inside-sign", "after-sign", "after-commit")

pytestmark = pytest.mark.drill


@define
class Racer:
    """
    A device: its key, and how it signs and reads messages.

    Each message is built anew, as every client does: other self-signed
    certificate, other signatures, other content-encryption key.
    """

    name: str
    key: Key = field(factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def request(self, ra: bytes, challenge: str) -> bytes:
        """Return a PKCSReq."""
        return Message(
            content=csr(self.key, self.name, challenge),
            recipient=ra,
            key=self.key,
            certificate=self_signed(self.key, self.name),
            transaction=f"transaction of {self.name}",
            nonce=os.urandom(16),
            content_key=os.urandom(16),
            iv=os.urandom(16),
        ).der()

    def certificate(self, reply: Reply, challenge: str) -> bytes:
        """Decrypt what was issued; it must be for this key."""
        assert SUCCESS == reply.status, reply.reason
        assert reply.content
        if isinstance(self.key, rsa.RSAPrivateKey):
            (found,), _ = reply.opened(self.key)
        else:
            # RFC 8894, section 3.1: encrypted under the challenge.
            plain = subprocess.run(
                [
                    *("openssl", "cms", "-decrypt", "-inform", "DER"),
                    *("-pwri_password", challenge),
                ],
                input=reply.content,
                capture_output=True,
                timeout=60,
                check=True,
            )
            (found,), _ = certificates_and_crls(plain.stdout)
        loaded = x509.load_der_x509_certificate(found)
        assert self.key.public_key() == loaded.public_key()
        return found


@frozen
class Site:
    """A gateway that speaks SCEP without TLS."""

    gateway: Gateway

    def challenges(self, count: int) -> list[str]:
        """Mint challenges."""
        printed = trstctl(
            *("challenge", "create", "--any-name", "--count", str(count)),
            *("--output", "json"),
            config=self.gateway.config,
        )
        return [row["challenge"] for row in json.loads(printed)]

    def recipient(self) -> bytes:
        """Return the RA's certificate."""
        _, body = self._exchange("GET", "GetCACert", b"")
        (ra, *_), _ = certificates_and_crls(body)
        return ra

    def post(self, message: bytes) -> Reply:
        """Send a message and read the CertRep."""
        status, body = self._exchange("POST", "PKIOperation", message)
        assert 200 == status
        return read_reply(body)

    def _exchange(
        self, method: str, operation: str, body: bytes
    ) -> tuple[int, bytes]:
        """Speak HTTP on a connection of its own."""
        client = http.client.HTTPConnection(
            "localhost", self.gateway.http_port, timeout=60
        )
        try:
            client.request(method, f"/scep?operation={operation}", body)
            answer = client.getresponse()
            return answer.status, answer.read()
        finally:
            client.close()

    def count(self, event: str) -> int:
        """Count the audit records of an event."""
        events: list[Any] = [
            each["event"] for each in self.gateway.audit_events()
        ]
        return events.count(event)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Site]:
    """Run a gateway."""
    gateway = Gateway(folder / "state", http_port=free_port())
    gateway.configure(PROTOCOLS)
    gateway.start()
    try:
        yield Site(gateway)
    finally:
        gateway.end()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a gateway that nobody kills."""
    with served(tmp_path_factory.mktemp("scep")) as found:
        yield found


class RaceTests:
    """One challenge, many devices at once (RFC 8894, section 7.3)."""

    def test_one_of_64_wins(self, site: Site) -> None:
        """One wins each round, and only the winner can repeat."""
        require_client("openssl")
        devices = [Racer(f"racer-{number}") for number in range(DEVICES)]
        ra, known = site.recipient(), len(site.gateway.serials())
        challenges = site.challenges(ROUNDS)
        for challenge in challenges:
            sent = [device.request(ra, challenge) for device in devices]
            with ThreadPoolExecutor(DEVICES) as pool:
                replies = list(pool.map(site.post, sent))
            statuses = [reply.status for reply in replies]
            wanted = [SUCCESS] + [BAD_REQUEST] * (DEVICES - 1)
            assert wanted == sorted(map(str, statuses))
            assert 1 == len({reply.reason for reply in replies} - {None})
            winner = statuses.index(SUCCESS)
            device, loser = devices[winner], sent[winner - 1]
            first = device.certificate(replies[winner], challenge)
            again = site.post(device.request(ra, challenge))
            assert first == device.certificate(again, challenge)
            assert BAD_REQUEST == site.post(loser).status
        assert known + ROUNDS == len(site.gateway.serials())
        site.gateway.verify_audit()
        # Refusals are recorded one by one until there are too many.
        refused = min(ROUNDS * DEVICES, 1000)
        assert site.count("secret.reused") >= refused

    def test_64_times_the_same(self, site: Site) -> None:
        """One device that asks 64 times at once has one certificate."""
        (challenge,) = site.challenges(1)
        device = Racer("impatient", rsa.generate_private_key(65537, 2048))
        ra = site.recipient()
        sent = [device.request(ra, challenge) for _ in range(DEVICES)]
        with ThreadPoolExecutor(DEVICES) as pool:
            replies = list(pool.map(site.post, sent))
        found = {device.certificate(reply, challenge) for reply in replies}
        assert 1 == len(found)


class KillTests:
    """``kill -9`` once the challenge is used up (RFC 8894, section 3.2.1.1)."""

    def test_winners_get_their_certificates(self, tmp_path: Path) -> None:
        """The winner's retry, built anew, is answered; nobody else's."""
        key = rsa.generate_private_key(65537, 2048)
        points = [point for point in POINTS for _ in range(ROUNDS)]
        with served(tmp_path) as site:
            gateway, ra = site.gateway, site.recipient()
            challenges = site.challenges(len(points))
            won = []
            for point, challenge in zip(points, challenges, strict=True):
                device = Racer(f"device {len(won)}, killed {point}", key)
                gateway.stop()
                gateway.start(fail_at=point)
                with contextlib.suppress(OSError, http.client.HTTPException):
                    site.post(device.request(ra, challenge))
                    pytest.fail(f"answered, not killed {point}")
                assert -signal.SIGKILL == gateway.wait()
                gateway.start()
                won.append(self.certificate(site, device, ra, challenge))
            gateway.stop(signal.SIGKILL)
            gateway.start()
            for number, challenge in enumerate(challenges):
                name = f"device {number}, killed {points[number]}"
                again = self.certificate(site, Racer(name, key), ra, challenge)
                assert won[number] == again
            assert len(points) == len(gateway.serials())
            gateway.verify_audit()

    def certificate(
        self, site: Site, device: Racer, ra: bytes, challenge: str
    ) -> bytes:
        """Return the winner's certificate, which a thief does not get."""
        stolen = Racer("thief").request(ra, challenge)
        assert BAD_REQUEST == site.post(stolen).status
        reply = site.post(device.request(ra, challenge))
        return device.certificate(reply, challenge)


class SecrecyTests:
    """What is stored and written cannot be used."""

    def test_challenge_is_nowhere(self, site: Site) -> None:
        """
        One that is still good is nowhere; none is ever in the log.

        A request is kept as the device sent it, so one that was used up is
        in the database.
        """
        good, used = site.challenges(2)
        ra = site.recipient()
        for name in ("first", "second"):
            site.post(Racer(name).request(ra, used))
        log = site.gateway.log.read_bytes()
        assert used.encode() not in log
        files = [*site.gateway.folder.rglob("*"), site.gateway.log]
        read = [file.read_bytes() for file in files if file.is_file()]
        assert len(read) > 3
        assert not any(good.encode() in content for content in read)
