# SPDX-License-Identifier: MIT
"""Revocation as others see it: OpenSSL, GnuTLS, curl and the store agree."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID
from running import (
    TENANT,
    Device,
    Gateway,
    free_port,
    require_client,
    trstctl,
)

pytestmark = pytest.mark.interop

_PROTOCOLS = (
    f'est: {{enabled: true, tenant_id: "{TENANT}"}}, '
    f'bootstrap: {{enabled: true, tenant_id: "{TENANT}"}}, '
    "revocation: {enabled: true}"
)

#: How long a revocation may take until it is in the CRL.
_CRL_SECONDS = 30.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return a gateway that speaks plain HTTP, too, and signs CRLs soon."""
    found = Gateway(tmp_path_factory.mktemp("revocation") / "state")
    # The key files are not there yet, so the CA is that of a first start.
    found.configure(_PROTOCOLS)
    text = found.config.read_text()
    listener = f"  http: {{enabled: true, port: {free_port()}}}\n"
    found.config.write_text(
        text.replace("listeners:\n", f"listeners:\n{listener}")
    )
    found.start()
    assert found.stop() == 0
    found.config.write_text(
        found.config.read_text() + "authorities:\n  issuing: {crl: "
        "{pause: 1s, delta_interval: 1m, partitions: 4}}\n"
    )
    found.start()
    try:
        found.add_password("device")
        yield found
    finally:
        found.end()


def run(*command: str | Path, check: bool = True) -> str:
    """Run a client and return what it prints."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        timeout=60,
        check=False,
    )
    told = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert not check or done.returncode == 0, told
    return told


@frozen
class Witnesses:
    """Everybody who can be asked about one certificate."""

    gateway: Gateway
    folder: Path
    certificate: Path
    parsed: x509.Certificate

    @property
    def serial(self) -> str:
        """The serial, as the command line takes it."""
        return f"{self.parsed.serial_number:x}"

    @property
    def issuer(self) -> Path:
        """The issuing CA's certificate."""
        return self.gateway.folder / "ca" / "issuing.pem"

    @property
    def chain(self) -> Path:
        """Root and issuing CA in one file."""
        chain = self.folder / "chain.pem"
        chain.write_bytes(
            self.gateway.root.read_bytes() + self.issuer.read_bytes()
        )
        return chain

    def pointer(self, method: x509.ObjectIdentifier) -> str:
        """Return a URL of the certificate's authority information access."""
        access = self.parsed.extensions.get_extension_for_class(
            x509.AuthorityInformationAccess
        ).value
        (found,) = (
            one.access_location.value
            for one in access
            if one.access_method == method
        )
        return str(found)

    @property
    def ocsp_url(self) -> str:
        """Where the certificate says that OCSP is asked."""
        return self.pointer(AuthorityInformationAccessOID.OCSP)

    @property
    def crl_url(self) -> str:
        """Where the certificate says that its CRL is."""
        points = self.parsed.extensions.get_extension_for_class(
            x509.CRLDistributionPoints
        ).value
        ((name,),) = (point.full_name for point in points)
        return str(name.value)

    # --- what each of them says ---------------------------------------------

    def store(self) -> str:
        """Return the inventory's status."""
        told = trstctl(
            *("cert", "show", self.serial, "--output", "json"),
            config=self.gateway.config,
        )
        return str(json.loads(told)["status"])

    def openssl_ocsp(self, *more: str | Path) -> str:
        """Return what ``openssl ocsp`` says, its checks all passed."""
        told = run(
            *("openssl", "ocsp", "-issuer", self.issuer),
            *("-cert", self.certificate, "-CAfile", self.chain, *more),
        )
        assert "Response verify OK" in told, told
        assert "WARNING" not in told, told
        return _word(told, f"{self.certificate}: ")

    def openssl_post(self) -> str:
        """Return what it says by POST with a nonce."""
        return self.openssl_ocsp("-url", self.ocsp_url)

    def openssl_without_nonce(self) -> str:
        """Return what it says by POST without one."""
        return self.openssl_ocsp("-url", self.ocsp_url, "-no_nonce")

    def openssl_get(self) -> str:
        """Return what it says of an answer that was fetched by GET."""
        asked, answer = self.folder / "asked.der", self.folder / "answer.der"
        run(
            *("openssl", "ocsp", "-issuer", self.issuer, "-no_nonce"),
            *("-cert", self.certificate, "-reqout", asked),
        )
        encoded = quote(base64.b64encode(asked.read_bytes()).decode(), "/+=")
        answer.write_bytes(fetch(f"{self.ocsp_url}/{encoded}"))
        return self.openssl_ocsp("-respin", answer, "-no_nonce")

    def gnutls(self) -> str:
        """Return what ``ocsptool`` says."""
        told = run(
            *("ocsptool", f"--ask={self.ocsp_url}"),
            *("--load-cert", self.certificate, "--load-issuer", self.issuer),
        )
        assert "Verifying OCSP Response: Success" in told, told
        return _word(told, "Certificate Status: ")

    def crl(self) -> str:
        """Return what ``openssl verify`` says with the certificate's CRL."""
        assert "/crl/issuing/4/" in self.crl_url
        return self.verify(self.fetch_crl(self.crl_url, "crl.pem"))

    def full(self) -> str:
        """Return what it says with the full CRL."""
        return self.verify(self.fetch_crl(self.full_url, "full.pem"))

    def delta(self) -> str:
        """Return what it says with a full CRL of before and the delta."""
        full = x509.load_pem_x509_crl(self.former.read_bytes())
        (point,) = full.extensions.get_extension_for_class(
            x509.FreshestCRL
        ).value
        assert point.full_name is not None
        url = str(point.full_name[0].value)
        delta = self.fetch_crl(url, "delta.pem")
        both = self.folder / "both.pem"
        both.write_bytes(self.former.read_bytes() + delta.read_bytes())
        return self.verify(both, "-use_deltas", "-extended_crl")

    @property
    def full_url(self) -> str:
        """Where the full CRL is."""
        return self.crl_url.partition("/issuing/")[0] + "/issuing.crl"

    @property
    def former(self) -> Path:
        """The full CRL of before the last change."""
        return self.folder / "former.pem"

    def fetch_crl(self, url: str, name: str) -> Path:
        """Fetch a CRL into a PEM file."""
        path = self.folder / name
        fetched = x509.load_der_x509_crl(fetch(url))
        path.write_bytes(fetched.public_bytes(Encoding.PEM))
        return path

    def verify(self, crl: Path, *more: str) -> str:
        """Return what ``openssl verify`` says with a file of CRLs."""
        told = run(
            *("openssl", "verify", "-crl_check", *more),
            *("-CAfile", self.chain, "-CRLfile", crl, self.certificate),
            check=False,
        )
        if "certificate revoked" in told:
            return "revoked"
        assert f"{self.certificate}: OK" in told, told
        return "good"

    def all_say(self, expected: str, stored: str) -> None:
        """Hear all of them; the CRL alone may take a moment."""
        assert stored == self.store()
        assert expected == self.openssl_post()
        assert expected == self.openssl_without_nonce()
        assert expected == self.openssl_get()
        assert expected == self.gnutls()
        deadline = time.monotonic() + _CRL_SECONDS
        while self.crl() != expected:
            assert time.monotonic() < deadline, f"no CRL says {expected}"
            time.sleep(0.2)
        # They are signed in one round, a partition's last.
        assert expected == self.full()
        if self.former.exists():
            assert expected == self.delta()
        self.fetch_crl(self.full_url, self.former.name)

    def do(self, *command: str) -> None:
        """Let the operator do something with the certificate."""
        trstctl(
            "cert", *command, "--yes", self.serial, config=self.gateway.config
        )


def _word(told: str, before: str) -> str:
    """Return the word after a text."""
    return told.partition(before)[2].split()[0]


def fetch(url: str) -> bytes:
    """Fetch something over plain HTTP."""
    assert url.startswith("http://")
    with urllib.request.urlopen(url, timeout=30) as answer:
        found: bytes = answer.read()
        return found


class RevocationTests:
    """After each change, everybody says the same."""

    def test_all_agree(self, gateway: Gateway, tmp_path: Path) -> None:
        """Issue, hold, release, revoke: OCSP at once, the CRL soon after."""
        require_client("openssl", "ocsptool")
        device = Device("revoked-device")
        answer = gateway.enroll(device.request())
        assert answer.status == 200
        pair = device.write(tmp_path, answer.certificate)
        parsed = x509.load_der_x509_certificate(answer.certificate)
        witnesses = Witnesses(gateway, tmp_path, pair[0], parsed)
        witnesses.all_say("good", "valid")
        witnesses.do("revoke", "--hold")
        witnesses.all_say("revoked", "held")
        witnesses.do("release")
        witnesses.all_say("good", "valid")
        witnesses.do("revoke", "--reason", "keyCompromise")
        witnesses.all_say("revoked", "revoked")
        self.judge_issuer(witnesses)
        self.judge_renewals(gateway, device, pair)
        # CVE-2022-41316: also at the first request after a start.
        assert gateway.stop() == 0
        gateway.start()
        self.judge_renewals(gateway, device, pair)

    def judge_issuer(self, witnesses: Witnesses) -> None:
        """The pointer to the issuer leads to the issuer."""
        url = witnesses.pointer(AuthorityInformationAccessOID.CA_ISSUERS)
        expected = x509.load_pem_x509_certificate(
            witnesses.issuer.read_bytes()
        )
        assert expected == x509.load_der_x509_certificate(fetch(url))

    def judge_renewals(
        self, gateway: Gateway, device: Device, pair: tuple[Path, Path]
    ) -> None:
        """A revoked certificate is refused wherever it could renew."""
        request = device.request()
        refused = gateway.ask(
            "POST",
            "/.well-known/est/simplereenroll",
            request,
            certificate=pair,
        )
        assert refused.status == 403
        refused = gateway.ask(
            "POST",
            "/enroll/renewal",
            json.dumps({"csr": request.decode()}).encode(),
            certificate=pair,
            headers={"Content-Type": "application/json"},
        )
        assert refused.status == 403
