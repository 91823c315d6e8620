# SPDX-License-Identifier: MIT
"""EST with clients that others wrote, against the default configuration."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Gateway, require_client, running

CLIENT = Path(__file__).with_name("clients") / "BouncyCastleClient.java"
JARS = [
    Path("/usr/share/java") / f"{name}.jar"
    for name in ("bcprov", "bcpkix", "bcutil")
]

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return one gateway for all clients."""
    with running(tmp_path_factory.mktemp("est") / "state") as found:
        yield found


def run(*command: str | Path, folder: Path, check: bool = True) -> str:
    """Run a client and return what it prints."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        capture_output=True,
        timeout=120,
        check=False,
    )
    told = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert not check or done.returncode == 0, told
    return told


def verify(gateway: Gateway, certificate: Path) -> None:
    """Let OpenSSL judge a certificate against the gateway's chain."""
    chain = gateway.folder / "chain.pem"
    chain.write_bytes(
        gateway.root.read_bytes()
        + (gateway.folder / "ca" / "issuing.pem").read_bytes()
    )
    told = run(
        *("openssl", "verify", "-x509_strict", "-CAfile", chain),
        certificate,
        folder=gateway.folder,
    )
    assert told.strip().endswith("OK")


class CurlTests:
    """curl with openssl, as an operator types it."""

    def shell(self, gateway: Gateway, folder: Path, script: str) -> str:
        """Run a script with the gateway's address in ``$EST``."""
        require_client("curl", "openssl")
        prologue = (
            "set -euo pipefail\n"
            f"EST=https://localhost:{gateway.https_port}/.well-known/est\n"
            f"CURL='curl -fsS --cacert {gateway.root}'\n"
        )
        return run("bash", "-c", prologue + script, folder=folder)

    def test_fetches_the_chain(self, gateway: Gateway, tmp_path: Path) -> None:
        """``curl .../cacerts -o cacerts.p7`` works to the letter."""
        told = self.shell(
            gateway,
            tmp_path,
            "$CURL $EST/cacerts -o cacerts.p7\n"
            "openssl base64 -d -in cacerts.p7"
            " | openssl pkcs7 -inform DER -print_certs -noout",
        )
        assert told.count("subject=") == 2
        assert told.index("Issuing") < told.index("Root CA\n\n")

    def test_enrolls_and_re_enrolls(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """The issue's enrollment command works to the letter, twice."""
        told = self.shell(
            gateway,
            tmp_path,
            "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
            "-nodes -keyout device.key -subj /CN=curl-device "
            "-addext subjectAltName=DNS:curl.example -outform DER "
            "-out request.der 2>/dev/null\n"
            "openssl base64 -in request.der -out request.b64\n"
            'enroll() { $CURL -u device:device-password -H "Content-Type: '
            'application/pkcs10" -H "Idempotency-Key: curl-1" --data-binary '
            "@request.b64 $EST/simpleenroll -o $1; }\n"
            "enroll first.b64; enroll again.b64; cmp first.b64 again.b64\n"
            "openssl base64 -d -in first.b64 | openssl pkcs7 -inform DER "
            "-print_certs -out device.pem\n"
            '$CURL --cert device.pem --key device.key -H "Content-Type: '
            'application/pkcs10" --data-binary @request.b64 '
            "$EST/simplereenroll -o renewed.b64\n"
            "openssl base64 -d -in renewed.b64 | openssl pkcs7 -inform DER "
            "-print_certs -out renewed.pem\n"
            "openssl x509 -in device.pem -noout -serial\n"
            "openssl x509 -in renewed.pem -noout -serial\n",
        )
        first, second = told.split()
        assert first != second
        verify(gateway, tmp_path / "device.pem")
        verify(gateway, tmp_path / "renewed.pem")

    @pytest.mark.parametrize("version", ["1.2", "1.3"])
    def test_both_versions_of_tls(
        self, gateway: Gateway, tmp_path: Path, version: str
    ) -> None:
        """TLS 1.2 and 1.3 both serve (RFC 7030, section 3.3)."""
        self.shell(
            gateway,
            tmp_path,
            f"$CURL --tlsv{version} --tls-max {version} $EST/cacerts -o x",
        )
        assert (tmp_path / "x").stat().st_size > 500

    def test_chunked_pem_and_der_bodies(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """What curl's users send besides base64 is read, too."""
        self.shell(
            gateway,
            tmp_path,
            "openssl req -new -newkey rsa:2048 -nodes -keyout k -subj "
            "/CN=forms -out r.pem 2>/dev/null\n"
            "openssl req -in r.pem -outform DER -out r.der\n"
            "ask() { $CURL -u device:device-password -H 'Content-Type: "
            'application/pkcs10\' "$@" $EST/simpleenroll; }\n'
            "ask --data-binary @r.der > 1; ask --data @r.pem > 2\n"
            "ask --data-binary @r.pem -H 'Transfer-Encoding: chunked' > 3\n"
            "cmp 1 2; cmp 2 3\n",
        )


class StrongSwanTests:
    """``pki`` of Debian 12's strongSwan 5.9.8."""

    def test_fetches_enrolls_and_re_enrolls(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """``--estca`` and ``--est``, by password and by certificate."""
        require_client("pki")
        url = f"https://localhost:{gateway.https_port}"
        trusted = [
            *("--cacert", gateway.root),
            *("--cacert", gateway.folder / "ca" / "issuing.pem"),
        ]
        run(
            *("pki", "--estca", "--url", url, *trusted),
            *("--caout", "ca", "--outform", "pem", "--force"),
            folder=tmp_path,
        )
        assert list(tmp_path.glob("ca*")), "no CA certificate was written"
        for number in (1, 2):
            run(
                *("bash", "-c"),
                f"pki --gen --type ecdsa --size 256 > k{number}.der && "
                f"pki --req --in k{number}.der --type ecdsa --dn "
                "'C=CH, O=Example, CN=moon' --san moon.example "
                f"> r{number}.der",
                folder=tmp_path,
            )
        (tmp_path / "enroll").write_text(
            'exec pki --est --url "$1" --in r1.der --cacert "$2" '
            '--cacert "$3" --userpass device:device-password > c1.der\n'
        )
        paths = (url, gateway.root, gateway.folder / "ca" / "issuing.pem")
        run("bash", "enroll", *paths, folder=tmp_path)
        (tmp_path / "renew").write_text(
            'exec pki --est --url "$1" --in r2.der --cacert "$2" '
            '--cacert "$3" --cert c1.der --key k1.der > c2.der\n'
        )
        run("bash", "renew", *paths, folder=tmp_path)
        for name in ("c1", "c2"):
            run(
                *("openssl", "x509", "-inform", "DER"),
                *("-in", f"{name}.der", "-out", f"{name}.pem"),
                folder=tmp_path,
            )
            verify(gateway, tmp_path / f"{name}.pem")


class BouncyCastleTests:
    """The Java client of Debian's libbcpkix-java 1.72."""

    def test_enrolls_re_enrolls_and_is_refused(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        """cacerts, csrattrs, both enrollments, and a readable 401."""
        require_client("java", "javac", *map(str, JARS))
        told = run(
            *("java", "-cp", ":".join(map(str, JARS)), CLIENT),
            f"localhost:{gateway.https_port}",
            *(gateway.root, "device", "device-password", tmp_path),
            folder=tmp_path,
        )
        assert "cacerts 2" in told
        assert "refused 401" in told
        verify(gateway, tmp_path / "bc-first.pem")
        verify(gateway, tmp_path / "bc-second.pem")
