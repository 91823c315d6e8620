# SPDX-License-Identifier: MIT
"""
SCEP with clients that others wrote: strongSwan, certmonger, PyScep, micromdm.

All of them talk to one gateway with the default configuration; beside the
default endpoint there are one where a person approves, and one for devices
that know nothing newer than SHA-1 and triple DES.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import define
from cryptography import x509
from running import TENANT, Gateway, free_port, require_client, trstctl
from scep_clients import (
    CERTMONGER,
    CURL_PLUGIN,
    certmonger,
    enroll_by_pki,
    require_pyscep,
    run,
    wait_for,
)

CLIENT = Path(__file__).with_name("clients") / "pyscep_client.py"
PROTOCOLS = (
    f'scep: {{enabled: true, tenant_id: "{TENANT}", '
    "labels: {guarded: {profile: guarded}, "
    "old: {profile: old, legacy: [sha1, 3des]}}}"
)
PROFILES = """\
profiles:
  guarded: {approval: always}
  old: {digests: [sha256, sha1]}
"""

pytestmark = pytest.mark.interop


@define
class Site:
    """
    A gateway, and what an operator hands to those who enroll.

    :ivar challenges: unused ones, by profile.
    """

    gateway: Gateway
    challenges: dict[str, list[str]]

    @property
    def url(self) -> str:
        """Where SCEP is."""
        return f"http://localhost:{self.gateway.http_port}/scep"

    @property
    def guarded(self) -> str:
        """Where a person approves."""
        return f"{self.url}/guarded"

    def challenge(self, profile: str = "device") -> str:
        """Return a challenge that nobody has used."""
        return self.challenges[profile].pop()

    def approve(self, subject: str) -> None:
        """Wait for a held request, and approve it."""
        config = self.gateway.config
        held: list[str] = []

        def is_held() -> bool:
            listed = trstctl(
                *("request", "list", "--state", "held", "--output", "json"),
                config=config,
            )
            rows = json.loads(listed)
            held[:] = [r["id"] for r in rows if r["subject"] == subject]
            return bool(held)

        wait_for(is_held)
        (request_id,) = held
        trstctl("request", "approve", request_id, config=config)

    def is_good(self, certificate: Path) -> x509.Certificate:
        """Let OpenSSL judge a certificate, and return it."""
        run(
            *("openssl", "verify", "-x509_strict", "-CAfile"),
            self.gateway.root,
            *("-untrusted", self.gateway.folder / "ca" / "issuing.pem"),
            certificate,
            folder=certificate.parent,
        )
        return x509.load_pem_x509_certificate(certificate.read_bytes())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return one gateway for all clients."""
    gateway = Gateway(
        tmp_path_factory.mktemp("scep") / "state", http_port=free_port()
    )
    gateway.configure(PROTOCOLS, PROFILES)
    gateway.start()
    try:
        challenges = {}
        for profile, count in (("device", 8), ("guarded", 3), ("old", 1)):
            printed = trstctl(
                *("challenge", "create", "--any-name", "--profile", profile),
                *("--count", str(count), "--output", "json"),
                config=gateway.config,
            )
            challenges[profile] = [
                row["challenge"] for row in json.loads(printed)
            ]
        yield Site(gateway, challenges)
        gateway.verify_audit()
    finally:
        gateway.end()


class CurlTests:
    """What curl can ask: everything that is not a message."""

    @pytest.mark.parametrize(
        "path",
        [
            "/scep",
            "/scep/",
            "/scep/pkiclient.exe",
            "/scep/guarded/pkiclient.exe",
            "/cgi-bin/pkiclient.exe",
        ],
    )
    def test_capabilities(self, site: Site, tmp_path: Path, path: str) -> None:
        """The same at every path, over HTTP/1.0 too (RFC 8894, 3.5)."""
        require_client("curl")
        url = f"http://localhost:{site.gateway.http_port}{path}"
        told = run(
            *("curl", "-fsS", "--http1.0", "-H", "Host:"),
            f"{url}?operation=GetCACaps&message=ca",
            folder=tmp_path,
        )
        assert "SCEPStandard" in told.splitlines()
        assert "DES3" not in told

    def test_certificates(self, site: Site, tmp_path: Path) -> None:
        """The RA's, the issuing CA's and the root's (section 4.2)."""
        require_client("curl", "openssl")
        told = run(
            *("bash", "-euo", "pipefail", "-c"),
            f"curl -fsS '{site.url}?operation=GetCACert' "
            "| openssl pkcs7 -inform DER -print_certs -noout",
            folder=tmp_path,
        )
        assert 3 == told.count("subject=")


class StrongSwanTests:
    """``pki`` of Debian 12's strongSwan 5.9.8, with its curl plugin."""

    @pytest.fixture
    def trusted(self, site: Site, tmp_path: Path) -> list[str | Path]:
        """Fetch the certificates, and return how to name them."""
        require_client("pki", CURL_PLUGIN)
        told = run(
            *("pki", "--scepca", "--url", site.url, "--caout", "ca.pem"),
            *("--raout", "ra.pem", "--outform", "pem"),
            folder=tmp_path,
        )
        assert "RA cert is trusted" in told
        assert site.gateway.root.read_bytes() == (
            (tmp_path / "ca.pem").read_bytes()
        )
        return [
            *("--cacert-enc", "ra.pem", "--cacert-sig", "ra.pem"),
            *("--cacert", site.gateway.root, "--cacert", "ca-1.pem"),
            *("--outform", "pem"),
        ]

    def test_enrolls_and_renews(
        self, site: Site, tmp_path: Path, trusted: list[str | Path]
    ) -> None:
        """With a challenge, then with the certificate (section 2.3)."""
        subject = ("--dn", "C=CH, O=Example, CN=moon", "--san", "moon.example")
        common = ("--url", site.url, *subject, *trusted)
        enroll_by_pki(
            tmp_path, "first", *common, "--password", site.challenge()
        )
        enroll_by_pki(
            *(tmp_path, "second", *common, "--digest", "sha512"),
            *("--cert", "first.pem", "--key", "first.key"),
        )
        first, second = (
            site.is_good(tmp_path / f"{name}.pem")
            for name in ("first", "second")
        )
        assert first.subject == second.subject
        assert first.serial_number != second.serial_number
        assert first.public_key() != second.public_key()

    def test_signs_with_pss(
        self, site: Site, tmp_path: Path, trusted: list[str | Path]
    ) -> None:
        """``--rsa-padding pss`` signs message and request so."""
        enroll_by_pki(
            *(tmp_path, "pss", "--url", site.url, "--dn", "CN=pss"),
            *(*trusted, "--rsa-padding", "pss"),
            *("--password", site.challenge()),
        )
        site.is_good(tmp_path / "pss.pem")

    def test_weak_algorithms(
        self, site: Site, tmp_path: Path, trusted: list[str | Path]
    ) -> None:
        """SHA-1 and triple DES, where the operator says so (section 2.9)."""
        enroll_by_pki(
            *(tmp_path, "old", "--url", f"{site.url}/old", "--dn", "CN=old"),
            *(*trusted, "--cipher", "des3", "--digest", "sha1"),
            *("--password", site.challenge("old")),
        )
        site.is_good(tmp_path / "old.pem")
        log = site.gateway.log.read_text()
        assert 2 == log.count('"event":"scep.legacy"')

    def test_polls(
        self, site: Site, tmp_path: Path, trusted: list[str | Path]
    ) -> None:
        """It comes back by itself until somebody approves (4.4)."""
        script = (
            "pki --gen --type rsa --size 2048 > sun.key 2>/dev/null; "
            'exec pki --scep --in sun.key --dn CN=sun "$@" > sun.pem'
        )
        with subprocess.Popen(
            [
                *("bash", "-c", script, "-", "--url", site.guarded),
                *map(str, trusted),
                *("--password", site.challenge("guarded")),
                *("--interval", "1", "--maxpolltime", "60"),
            ],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
        ) as client:
            site.approve("CN=sun")
            _, told = client.communicate(timeout=90)
        assert 0 == client.returncode, told
        site.is_good(tmp_path / "sun.pem")

    @pytest.mark.parametrize(
        ("options", "fail_info"),
        [
            (("--password", "guess"), "badRequest"),
            (("--cipher", "des3"), "badAlg"),
        ],
    )
    def test_is_refused(
        self,
        site: Site,
        tmp_path: Path,
        trusted: list[str | Path],
        options: tuple[str, ...],
        fail_info: str,
    ) -> None:
        """It reads why (section 3.2.1.4)."""
        told = enroll_by_pki(
            *(tmp_path, "bad", "--url", site.url, "--dn", "CN=bad"),
            *(*trusted, *options),
            status=1,
        )
        assert f" {fail_info} - " in told


@pytest.fixture
def getcert(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Run certmonger; return how to command it."""
    with certmonger(tmp_path) as command:
        yield command


class CertmongerTests:
    """certmonger 0.79.17 of Debian 12, as its daemon and by hand."""

    def state(self, getcert: Callable[..., str], certificate: Path) -> str:
        """Return where a request stands."""
        told = getcert("list", "-f", certificate)
        (status,) = (
            line.split()[1]
            for line in told.splitlines()
            if line.strip().startswith("status:")
        )
        return status

    def test_by_hand(self, site: Site, tmp_path: Path) -> None:
        """``scep-submit`` asks, whatever its CA identifier is."""
        program = CERTMONGER / "scep-submit"
        require_client(str(program))
        told = run(
            *(program, "-u", site.url, "-i", "any", "-c"), folder=tmp_path
        )
        assert "SCEPStandard" in told
        told = run(*(program, "-u", site.url, "-C"), folder=tmp_path)
        first, *others = x509.load_pem_x509_certificates(told.encode())
        assert 2 == len(others)
        assert "SCEP" in first.subject.rfc4514_string()

    def test_whole_life(
        self, site: Site, tmp_path: Path, getcert: Callable[..., str]
    ) -> None:
        """Enroll; renew with the same key; renew with another one."""
        key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
        getcert("add-scep-ca", "-c", "gateway", "-u", site.url)
        getcert(
            *("request", "-c", "gateway", "-k", key, "-f", certificate),
            *("-N", "CN=cm", "-D", "cm.example", "-L", site.challenge()),
            *("-w", "-v"),
        )
        found = [site.is_good(certificate)]
        for command in ("resubmit", "rekey"):
            getcert(command, "-f", certificate, "-w", "-v")
            assert "MONITORING" == self.state(getcert, certificate)
            found.append(site.is_good(certificate))
        assert 3 == len({each.serial_number for each in found})
        keys = [each.public_key() for each in found]
        assert keys[0] == keys[1] != keys[2]

    def test_held_and_refused(
        self, site: Site, tmp_path: Path, getcert: Callable[..., str]
    ) -> None:
        """It waits for a person, and gives up on a wrong challenge."""
        held, bad = tmp_path / "held.pem", tmp_path / "bad.pem"
        getcert("add-scep-ca", "-c", "gateway", "-u", site.url)
        getcert("add-scep-ca", "-c", "guarded", "-u", site.guarded)
        getcert(
            *("request", "-c", "guarded", "-k", tmp_path / "held.key"),
            *("-f", held, "-N", "CN=cm-held"),
            *("-L", site.challenge("guarded")),
        )
        getcert(
            *("request", "-c", "gateway", "-k", tmp_path / "bad.key"),
            *("-f", bad, "-N", "CN=cm-bad", "-L", "guess"),
        )
        site.approve("CN=cm-held")
        wait_for(lambda: "CA_WORKING" == self.state(getcert, held))
        getcert("refresh", "-f", held)
        wait_for(lambda: "MONITORING" == self.state(getcert, held))
        site.is_good(held)
        wait_for(lambda: "CA_REJECTED" == self.state(getcert, bad))


class PyScepTests:
    """PyScep 0.0.14, in a Python of its own."""

    def test_every_step(self, site: Site, tmp_path: Path) -> None:
        """PKCSReq, renewal, CertPoll, GetCert, GetCRL, and a failInfo."""
        python = require_pyscep()
        with subprocess.Popen(
            [
                *(python, CLIENT, site.url, site.guarded),
                *(site.challenge(), site.challenge("guarded")),
            ],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as client:
            site.approve("CN=pyscep-held")
            told, errors = client.communicate("\n", timeout=90)
        steps = [line.split() for line in told.splitlines()]
        assert [
            "uses",
            "enrolled",
            "renewed",
            "fetched",
            "refused",
            "PENDING",
            "PENDING",
            "approved",
            "CRL",
        ] == [step for step, *_ in steps], errors
        by_name = {step: values for step, *values in steps}
        assert ["aes256", "sha512"] == by_name["uses"]
        assert by_name["enrolled"] == by_name["fetched"]
        assert by_name["enrolled"] != by_name["renewed"]
        assert ["FAILURE", "2"] == by_name["refused"]
        assert ["v2"] == by_name["CRL"]


class MicromdmTests:
    """``scepclient`` of Debian 12, which knows SHA-1 and single DES only."""

    def test_is_refused(self, site: Site, tmp_path: Path) -> None:
        """
        It is told badAlg, by a message that it can read.

        Without a fingerprint it would encrypt to every certificate, and
        fail at the first that has no RSA key.
        """
        require_client("scepclient", "curl", "openssl")
        fingerprint = run(
            *("bash", "-euo", "pipefail", "-c"),
            f"curl -fsS '{site.url}?operation=GetCACert' "
            "| openssl pkcs7 -inform DER -print_certs "
            "| openssl x509 -outform DER | sha256sum | cut -d' ' -f1",
            folder=tmp_path,
        )
        told = run(
            *("scepclient", "-server-url", site.url, "-cn", "mdm"),
            *("-private-key", "key.pem", "-certificate", "cert.pem"),
            *("-ca-fingerprint", fingerprint.strip()),
            *("-challenge", site.challenge()),
            folder=tmp_path,
            status=1,
        )
        assert "badAlg" in told
