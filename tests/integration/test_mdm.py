# SPDX-License-Identifier: MIT
"""MDM platforms over real sockets: a stand-in for them, and ``/mdm``."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import frozen
from mdm_stand_in import (
    CLIENT,
    DIRECTORY,
    HOOK_KEY,
    SECRET,
    StandIn,
    standing_in,
)
from running import TENANT, Gateway, free_port, trstctl
from twisted.internet import reactor  # noqa: TID251 (real sockets)

from trstctl.errors import ChallengeRejected, Unavailable
from trstctl.model import (
    CertificateStatus,
    Challenge,
    Endpoint,
    EnrollmentRequest,
    Issued,
    Operation,
    OutboundCall,
)
from trstctl.outbound import MAX_ANSWER, Connections, Outbound
from trstctl.protocols.scep.gates import make_gate
from trstctl.protocols.scep.settings import SCEPSettings
from trstctl.testing import MemoryStore, make_ra, make_request

ENDPOINT = Endpoint("scep", "", TENANT, "device", "issuing")


@pytest.fixture(scope="module")
def platforms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Stand in for all platforms."""
    with standing_in(tmp_path_factory.mktemp("platforms")) as stand_in:
        yield stand_in


@pytest.fixture
def stand_in(platforms: StandIn) -> StandIn:
    """Forget what was before."""
    platforms.asked.clear()
    platforms.complaints.clear()
    platforms.codes.clear()
    return platforms


@frozen
class Bench:
    """A registration authority that calls others over the network."""

    ra: Any
    store: Any

    def gate(self, stand_in: StandIn, challenge: dict[str, Any]) -> Any:
        """Return a gate that trusts the stand-in."""
        (section,) = challenge.values()
        section["trust"] = stand_in.trust
        settings = SCEPSettings.model_validate({"challenge": challenge})
        return make_gate(
            settings.challenge,
            ENDPOINT,
            self.ra,
            {"APPLICATION": SECRET, "HOOK": HOOK_KEY},
        )

    def intune(self, stand_in: StandIn) -> Any:
        """Return the gate of Intune."""
        return self.gate(
            stand_in,
            {
                "intune": {
                    "tenant": DIRECTORY,
                    "client_id": CLIENT,
                    "secret": "env:APPLICATION",
                    "login_url": stand_in.url,
                    "graph_url": stand_in.url,
                }
            },
        )

    async def enroll(self, gate: Any) -> Issued:
        """Take a request all the way."""
        issued = await self.ra.enroll(
            EnrollmentRequest(
                ENDPOINT,
                Operation.ENROLL,
                make_request("phone-1"),
                (Challenge("blob", gate),),
                "request",
                "192.0.2.1",
                transaction="T1",
            )
        )
        assert isinstance(issued, Issued)
        return issued

    async def status(self, serial: str) -> CertificateStatus:
        """Return what is true of a certificate."""
        record = await self.store.find_certificate(TENANT, serial)
        status: CertificateStatus = record.status
        return status


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Return a registration authority with connections of its own."""
    store: Any = MemoryStore()
    ra: Any = make_ra(store)
    connections = Connections(reactor)
    ra.outbound = Outbound(connections, reactor, lambda: 0.5, lambda *_: None)
    yield Bench(ra, store)
    pytest_twisted.blockon(connections.close())


class IntuneTests:
    """Intune, from the token to the revocation."""

    @pytest_twisted.ensureDeferred
    async def test_validated_issued_told_and_revoked(
        self, stand_in: StandIn, bench: Bench
    ) -> None:
        """Every message is as documented; the stand-in takes no other."""
        gate = bench.intune(stand_in)
        issued = await bench.enroll(gate)
        assert [
            "token",
            "discovery",
            "token",
            "validateRequest",
            "successNotification",
        ] == stand_in.actions()
        stand_in.to_revoke.append(issued.serial.upper())
        await gate.tend()
        assert CertificateStatus.REVOKED == await bench.status(issued.serial)
        assert [] == stand_in.to_revoke
        assert [] == stand_in.complaints

    @pytest_twisted.ensureDeferred
    async def test_refused_by_code(
        self, stand_in: StandIn, bench: Bench
    ) -> None:
        """A code is a refusal, and nothing is issued."""
        stand_in.codes["validateRequest"] = "ChallengeExpired"
        with pytest.raises(ChallengeRejected):
            await bench.enroll(bench.intune(stand_in))
        assert "successNotification" not in stand_in.actions()

    @pytest_twisted.ensureDeferred
    async def test_not_told_not_handed_out(
        self, stand_in: StandIn, bench: Bench
    ) -> None:
        """A certificate that Intune does not take is revoked."""
        stand_in.codes["successNotification"] = "Unknown"
        with pytest.raises(Unavailable):
            await bench.enroll(bench.intune(stand_in))
        (told,) = (c for a, c in stand_in.asked if a == "successNotification")
        serial = told["certificateSerialNumber"]
        assert CertificateStatus.REVOKED == await bench.status(serial)


class OutboundTests:
    """The wire, where others misbehave."""

    def call(
        self, bench: Bench, stand_in: StandIn, path: str, **more: Any
    ) -> Any:
        """Call a path."""
        found: Any = {"trust": str(stand_in.trust), **more}
        return bench.ra.outbound.call(
            OutboundCall("test", stand_in.url + path, **found)
        )

    @pytest_twisted.ensureDeferred
    async def test_webhook_is_signed(
        self, stand_in: StandIn, bench: Bench
    ) -> None:
        """The stand-in verifies the HMAC, as anybody could."""
        url = f"{stand_in.url}/webhook"
        gate = bench.gate(
            stand_in,
            {"webhook": {"url": url, "key": "env:HOOK", "notify": "required"}},
        )
        await bench.enroll(gate)
        assert ["request", "issued"] == stand_in.actions()
        assert [] == stand_in.complaints

    @pytest_twisted.ensureDeferred
    async def test_certificates_are_verified(
        self, stand_in: StandIn, bench: Bench
    ) -> None:
        """An unknown CA, or another name, is nobody to talk to (O-2)."""
        with pytest.raises(Unavailable):
            await self.call(bench, stand_in, "/webhook", trust=None)
        by_address = f"https://127.0.0.1:{stand_in.port}/webhook"
        with pytest.raises(Unavailable):
            await bench.ra.outbound.call(
                OutboundCall("test", by_address, trust=str(stand_in.trust))
            )
        assert [] == stand_in.asked
        assert [] == stand_in.complaints

    @pytest_twisted.ensureDeferred
    async def test_bounds(self, stand_in: StandIn, bench: Bench) -> None:
        """A large answer and a slow one are none; a redirect is no way."""
        assert MAX_ANSWER < 8 * 1024 * 1024
        with pytest.raises(Unavailable):
            await self.call(bench, stand_in, "/large")
        with pytest.raises(Unavailable):
            await self.call(bench, stand_in, "/slow", timeout=0.3)
        assert 307 == (await self.call(bench, stand_in, "/moved")).status
        assert [] == stand_in.complaints


EVENT = {
    "webhook": {"webhookEvent": "SCEPChallenge", "name": "SCEP"},
    "event": {"targetDevice": {"serialNumber": "C02XYZ"}},
}


class MDMTests:
    """``/mdm`` of a gateway in a process of its own."""

    def test_challenges(self, tmp_path: Path) -> None:
        """Jamf and a registrar get challenges, over TLS only."""
        gateway = Gateway(tmp_path / "state")
        http = free_port()
        tenant = f'enabled: true, tenant_id: "{TENANT}"'
        gateway.configure(
            f"scep: {{{tenant}}}, mdm: {{{tenant}, jamf: {{main: "
            "{authentication: {basic: {username: jamf, "
            'password: "file:jamf.password"}}}}}'
        )
        text = gateway.config.read_text()
        plain = f"  http: {{enabled: true, port: {http}}}\n"
        gateway.config.write_text(text.replace("  ops:", f"{plain}  ops:"))
        secret = gateway.folder / "jamf.password"
        secret.touch(mode=0o600)
        secret.write_text("a password of Jamf\n")
        gateway.start()
        try:
            answer = gateway.ask(
                "POST",
                "/mdm/jamf/main",
                json.dumps(EVENT).encode(),
                user="jamf",
                password="a password of Jamf",
            )
            assert (200, 55) == (answer.status, len(answer.body))
            assert "text/plain" in answer.headers["Content-Type"]
            listed = json.loads(
                trstctl(
                    *("challenge", "list", "--output", "json"),
                    config=gateway.config,
                )
            )
            assert ["C02XYZ"] == [row["device"] for row in listed]
            assert 401 == gateway.ask("POST", "/mdm/challenges", b"{}").status
            request = urllib.request.Request(
                f"http://127.0.0.1:{http}/mdm/challenges", b"{}"
            )
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=10)
            assert 404 == caught.value.code
            caught.value.close()
        finally:
            gateway.end()
        assert "a password of Jamf" not in gateway.log.read_text()
