# SPDX-License-Identifier: MIT
"""
Bootstrap and renewal against a gateway in a process of its own.

``TRSTCTL_DRILL_ROUNDS`` makes the drills longer.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from running import (
    ENVIRONMENT,
    TENANT,
    Answer,
    Device,
    Gateway,
    require_client,
    trstctl,
)

ROUNDS = int(os.environ.get("TRSTCTL_DRILL_ROUNDS", "1"))
OTHER = "22222222-2222-2222-2222-222222222222"
PROTOCOLS = (
    f'bootstrap: {{enabled: true, tenant_id: "{TENANT}", labels: {{'
    f'second: {{tenant_id: "{OTHER}"}}}}}}'
)
DEVICES = 64

#: Where a process can die after the token is burnt.
POINTS = ("after-intent", "inside-sign", "after-sign", "after-commit")


def tokens(gateway: Gateway, *options: str, tenant: str = TENANT) -> list[str]:
    """Create tokens."""
    printed = trstctl(
        *("token", "create", "--tenant", tenant, "-o", "json", *options),
        config=gateway.config,
    )
    return [row["token"] for row in json.loads(printed)]


def bodies(token: str, device: Device) -> bytes:
    """Return what a device sends."""
    csr = device.request().decode()
    return json.dumps({"token": token, "csr": csr}).encode()


def post(
    gateway: Gateway,
    body: bytes,
    path: str = "/enroll/bootstrap",
    certificate: tuple[Path, Path] | None = None,
) -> Answer:
    """Send a request."""
    return gateway.ask(
        "POST",
        path,
        body,
        certificate=certificate,
        headers={"Content-Type": "application/json"},
    )


def leaf(answer: Answer) -> bytes:
    """Return the DER of the certificate in a good answer."""
    assert answer.status == 200, answer
    pem = json.loads(answer.body)["certificate"]
    first, *_ = x509.load_pem_x509_certificates(pem.encode())
    return first.public_bytes(Encoding.DER)


def events(gateway: Gateway) -> list[Any]:
    """Return the events of the tenant's audit log."""
    return [event["event"] for event in gateway.audit_events()]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return a gateway of two tenants."""
    found = Gateway(tmp_path_factory.mktemp("bootstrap") / "state")
    found.configure(PROTOCOLS)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def shell(command: str, folder: Path) -> str:
    """Run what a user would paste."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.interop
class CurlTests:
    """Plain curl, to the letter."""

    @pytest.mark.parametrize(
        "csr",
        [
            "openssl req -new -key k -subj /CN=d -outform DER | base64 -w0",
            "openssl req -new -key k -subj /CN=d -outform DER | base64",
            "openssl req -new -key k -subj /CN=d -outform DER | "
            "openssl base64 | sed -z 's/\\n/\\\\n/g'",
            "openssl req -new -key k -subj /CN=d",
        ],
        ids=["base64", "wrapped", "wrapped, escaped", "PEM"],
    )
    def test_bootstrap_and_renewal(
        self, gateway: Gateway, tmp_path: Path, csr: str
    ) -> None:
        """The token buys a certificate, and that one the next."""
        require_client("curl", "openssl")
        (token,) = tokens(gateway)
        url = f"https://localhost:{gateway.https_port}/enroll"
        curl = f"curl -s --cacert {gateway.root}"
        take = 'printf %b "$(cut -d\'"\' -f4 {0}.json)" > {0}.pem'
        verify = (
            f"openssl verify -CAfile {gateway.root} -untrusted {{0}} {{0}}"
        )
        # The shell puts token and request where a person would paste them.
        printed = shell(
            "openssl ecparam -name prime256v1 -genkey -noout -out k\n"
            f"CSR=$({csr})\n"
            f"{curl} -X POST {url}/bootstrap "
            f'-d \'{{"token":"{token}","csr":"\'"$CSR"\'"}}\' '
            "-o first.json\n"
            f"{take.format('first')}; {verify.format('first.pem')}\n"
            f"{curl} --cert first.pem --key k -X POST {url}/renewal "
            '-d \'{"csr":"\'"$CSR"\'"}\' -o second.json\n'
            f"{take.format('second')}; {verify.format('second.pem')}\n"
            "grep -c BEGIN first.pem second.pem\n",
            tmp_path,
        )
        assert printed.splitlines() == [
            "first.pem: OK",
            "second.pem: OK",
            # The certificate and the issuing CA; no root.
            "first.pem:2",
            "second.pem:2",
        ]
        first, second = (
            x509.load_pem_x509_certificate(
                (tmp_path / f"{name}.pem").read_bytes()
            )
            for name in ("first", "second")
        )
        assert first.serial_number != second.serial_number
        assert first.subject == second.subject

    def test_error(self, gateway: Gateway, tmp_path: Path) -> None:
        """JSON that a script can read, and the status."""
        require_client("curl")
        printed = shell(
            f"curl -s --cacert {gateway.root} -w '%{{http_code}}' -X POST "
            f"https://localhost:{gateway.https_port}/enroll/bootstrap "
            """-d '{"token":"guess","csr":"AAAA"}'""",
            tmp_path,
        )
        body, _, status = printed.rpartition("\n")
        assert status == "400"
        assert json.loads(body)["error"] == "malformed"

    def test_tokens_over_the_network(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """A registrar's tokens buy certificates; its credential does not."""
        require_client("curl")
        printed = trstctl(
            *("credential", "add", "mdm", "--kind", "registrar"),
            *("--name", "cn:phone-*", "--tenant", TENANT, "-o", "json"),
            config=gateway.config,
        )
        url = f"https://localhost:{gateway.https_port}/enroll"
        curl = (
            f"curl -s --cacert {gateway.root} -H 'Authorization: Bearer "
            f"{json.loads(printed)['token']}'"
        )
        order = """-d '{"names":["cn:phone-7"],"count":2}'"""
        once = f"{curl} -H 'Idempotency-Key: order-1' {url}/tokens {order}\n"
        minted, again, listed = shell(
            f"{once}{once}{curl} '{url}/tokens?state=unused'", tmp_path
        ).splitlines()
        assert minted == again
        made = json.loads(minted)["tokens"]
        ids = {token["id"] for token in made}
        assert ids == {t["id"] for t in json.loads(listed)["tokens"]}
        (phone, other) = (Device(name) for name in ("phone-7", "phone-8"))
        assert post(gateway, bodies(made[0]["token"], other)).status == 403
        leaf(post(gateway, bodies(made[0]["token"], phone)))
        shell(f"{curl} -X DELETE {url}/tokens/{made[1]['id']}", tmp_path)
        assert post(gateway, bodies(made[1]["token"], phone)).status == 401
        token = json.loads(printed)["token"]
        assert post(gateway, bodies(token, phone)).status == 401

    @pytest.mark.parametrize(
        ("key", "options"),
        [
            ("ec -pkeyopt ec_paramgen_curve:P-256", ""),
            ("rsa -pkeyopt rsa_keygen_bits:2048", ""),
            (
                "rsa -pkeyopt rsa_keygen_bits:2048",
                "-md sha384 -keyopt rsa_padding_mode:pss "
                "-keyopt rsa_pss_saltlen:digest",
            ),
        ],
        ids=["ECDSA", "RSA", "RSA-PSS"],
    )
    def test_signed_renewal(
        self, gateway: Gateway, tmp_path: Path, key: str, options: str
    ) -> None:
        """What plain ``openssl cms`` signs renews, in PEM and in DER."""
        require_client("curl", "openssl")
        (token,) = tokens(gateway)
        url = f"https://localhost:{gateway.https_port}/enroll"
        curl = f"curl -s --cacert {gateway.root} -X POST {url}"
        take = 'printf %b "$(cut -d\'"\' -f4 {0}.json)" > {0}.pem'
        sign = (
            "openssl cms -sign -binary -nodetach -in csr.der "
            f"-signer first.pem -inkey k {options}"
        )
        printed = shell(
            f"openssl genpkey -algorithm {key} -out k\n"
            "openssl req -new -key k -subj /CN=d -outform DER -out csr.der\n"
            f'{curl}/bootstrap -d \'{{"token":"{token}","csr":"\'"'
            "$(base64 -w0 csr.der)\"'\"}' -o first.json\n"
            f"{take.format('first')}\n"
            f"CMS=$({sign} -outform PEM)\n"
            f'{curl}/renewal -d \'{{"cms":"\'"$CMS"\'"}}\' -o second.json\n'
            f"{take.format('second')}\n"
            f"CMS=$({sign} -outform DER | base64)\n"
            f'{curl}/renewal -d \'{{"cms":"\'"$CMS"\'"}}\' -o third.json\n'
            f"openssl verify -CAfile {gateway.root} -untrusted second.pem "
            "second.pem\n"
            "cmp second.json third.json && cat second.json\n",
            tmp_path,
        )
        assert "second.pem: OK" in printed
        assert set(json.loads(printed.splitlines()[-1])) == {"certificate"}


class TenantTests:
    """R-10: tokens and certificates of one tenant have no effect in another."""

    def test_tokens_do_not_cross(self, gateway: Gateway) -> None:
        """401 at the other's endpoint; the token still serves its own."""
        for tenant, own, other in (
            (TENANT, "/enroll/bootstrap", "/enroll/second/bootstrap"),
            (OTHER, "/enroll/second/bootstrap", "/enroll/bootstrap"),
        ):
            (token,) = tokens(gateway, tenant=tenant)
            device = Device("crossing")
            body = bodies(token, device)
            before = gateway.serials(TENANT), gateway.serials(OTHER)
            assert post(gateway, body, other).status == 401
            assert before == (gateway.serials(TENANT), gateway.serials(OTHER))
            leaf(post(gateway, body, own))

    def test_certificates_do_not_cross(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """A renewal at the other's endpoint is 401."""
        device = Device("mine")
        (token,) = tokens(gateway)
        certificate = leaf(post(gateway, bodies(token, device)))
        pair = device.write(tmp_path, certificate)
        body = json.dumps({"csr": device.request().decode()}).encode()
        path = "/enroll/second/renewal"
        assert post(gateway, body, path, pair).status == 401
        assert leaf(post(gateway, body, "/enroll/renewal", pair))

    def test_listings_do_not_cross(self, gateway: Gateway) -> None:
        """Nor does a list show the other's tokens."""
        shown = []
        for tenant in (TENANT, OTHER):
            tokens(gateway, tenant=tenant)
            printed = trstctl(
                *("token", "list", "--tenant", tenant, "-o", "json"),
                config=gateway.config,
            )
            shown.append({row["id"] for row in json.loads(printed)})
        assert shown[0]
        assert shown[1]
        assert not shown[0] & shown[1]


@pytest.mark.drill
class RaceTests:
    """One token, many devices at once (R-3)."""

    def test_one_of_64_wins(self, gateway: Gateway) -> None:
        """One wins each round, and only the winner can repeat."""
        devices = [Device(f"racer-{number}") for number in range(DEVICES)]
        for token in tokens(gateway, "--count", str(ROUNDS)):
            known = set(gateway.serials())
            sent = [bodies(token, device) for device in devices]
            with ThreadPoolExecutor(DEVICES) as pool:
                answers = list(
                    pool.map(lambda body: post(gateway, body), sent)
                )
            statuses = [answer.status for answer in answers]
            assert sorted(statuses) == [200] + [401] * (DEVICES - 1)
            assert len(set(gateway.serials()) - known) == 1
            winner = statuses.index(200)
            anew = bodies(token, devices[winner])
            assert leaf(post(gateway, anew)) == leaf(answers[winner])
            assert post(gateway, sent[winner - 1]).status == 401
        gateway.verify_audit()
        # More than this at once is counted, and not written one by one.
        alarms = min(ROUNDS * DEVICES, 1000)
        assert events(gateway).count("secret.reused") >= alarms

    def test_64_times_the_same(self, gateway: Gateway) -> None:
        """One device that asks 64 times at once has one certificate."""
        (token,) = tokens(gateway)
        device = Device("impatient")
        body = bodies(token, device)
        with ThreadPoolExecutor(DEVICES) as pool:
            answers = list(
                pool.map(lambda _: post(gateway, body), range(DEVICES))
            )
        assert len({leaf(answer) for answer in answers}) == 1


@pytest.mark.drill
class KillTests:
    """``kill -9`` after the burn; the certificate is not lost (R-3)."""

    @pytest.mark.parametrize("point", POINTS)
    def test_winner_gets_its_certificate(
        self, point: str, tmp_path: Path
    ) -> None:
        """The winner's retry, signed anew, is answered; nobody else's."""
        gateway = Gateway(tmp_path / "state")
        gateway.configure(PROTOCOLS)
        gateway.start()
        try:
            made = tokens(gateway, "--count", str(ROUNDS))
            gateway.stop()
            for number, token in enumerate(made):
                self.one_round(gateway, point, token, f"device-{number}")
                assert len(gateway.serials()) == number + 1
            gateway.verify_audit()
        finally:
            gateway.end()

    def one_round(
        self, gateway: Gateway, point: str, token: str, name: str
    ) -> None:
        """Kill, restart, retry, kill, restart, repeat."""
        device, thief = Device(name), Device("thief")
        gateway.start(fail_at=point)
        with contextlib.suppress(OSError):
            answer = post(gateway, bodies(token, device))
            pytest.fail(f"answered {answer.status}, not killed")
        assert gateway.wait() == -signal.SIGKILL
        gateway.start()
        assert post(gateway, bodies(token, thief)).status == 401
        first = post(gateway, bodies(token, device))
        certificate = leaf(first)
        gateway.stop(signal.SIGKILL)
        gateway.start()
        again = post(gateway, bodies(token, device))
        assert (again.status, again.body) == (200, first.body)
        assert post(gateway, bodies(token, thief)).status == 401
        key = x509.load_der_x509_certificate(certificate).public_key()
        assert key == device.key.public_key()
        gateway.stop()


class SecrecyTests:
    """What is stored and written cannot be used."""

    def test_token_is_nowhere(self, gateway: Gateway) -> None:
        """Neither in the database nor in the log."""
        (token,) = tokens(gateway)
        post(gateway, bodies(token, Device("secret")))
        files = [
            file
            for file in (*gateway.folder.glob("trstctl.db*"), gateway.log)
            if file.is_file()
        ]
        assert len(files) > 1
        for file in files:
            content = file.read_bytes()
            assert token.encode() not in content
            assert base64.b64encode(token.encode()) not in content
