# SPDX-License-Identifier: MIT
"""
CMP with ``openssl cmp``: every command that it has, and what it is refused.

All of them talk to one gateway.  The drill kills another one between the
signature and the answer, and between the answer and its confirmation.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, field
from cryptography import x509
from running import TENANT, Gateway, free_port, require_client, trstctl
from second_decoder import read_answer

PROTOCOLS = (
    f'cmp: {{enabled: true, tenant_id: "{TENANT}", '
    "labels: {guarded: {profile: guarded}, strict: {mode: strict}}}"
)
PROFILES = "profiles: {guarded: {approval: always, approval_retry_after: 1}}\n"
SECRETS = 24

#: How many failure points of each kind; all of them in the long form.
LONG = int(os.environ.get("TRSTCTL_DRILL_ROUNDS", "1"))
_FAILURE = re.compile(r"PKIFailureInfo: (\w+)")

pytestmark = pytest.mark.interop


@define
class Site:
    """A gateway, and what an operator hands to those who enroll."""

    gateway: Gateway
    http_port: int
    folder: Path
    secrets: dict[str, list[tuple[str, str]]] = field(factory=dict)

    def secret(self, profile: str = "device") -> tuple[str, ...]:
        """Return the options that name a secret which nobody has used."""
        if not self.secrets.get(profile):
            printed = trstctl(
                *("challenge", "create", "--for", "cmp", "--any-name"),
                *("--profile", profile, "--count", str(SECRETS)),
                *("--output", "json"),
                config=self.gateway.config,
            )
            self.secrets[profile] = [
                (row["id"], row["challenge"]) for row in json.loads(printed)
            ]
        reference, secret = self.secrets[profile].pop()
        return (
            *("-ref", reference, "-secret", f"pass:{secret}"),
            *("-recipient", "/CN=CA"),
        )

    @property
    def trusted(self) -> tuple[str, ...]:
        """The options that name the trust anchor."""
        return ("-trusted", str(self.gateway.root))

    def key(self, name: str, *how: str) -> str:
        """Make a key, and return its file."""
        made = how or (
            *("-algorithm", "EC"),
            *("-pkeyopt", "ec_paramgen_curve:P-256"),
        )
        run("openssl", "genpkey", *made, "-out", name, folder=self.folder)
        return name

    def cmp(self, *options: str, path: str = "/cmp", status: int = 0) -> str:
        """
        Run ``openssl cmp`` and return what it prints.

        Whatever it was answered, pyasn1 reads, too.
        """
        answers = () if "-rspout" in options else ("-rspout", "1.der 2.der")
        told = run(
            *("openssl", "cmp", "-config", "", "-batch"),
            *("-server", f"http://localhost:{self.http_port}{path}"),
            *("-msg_timeout", "20", "-total_timeout", "60"),
            *(*options, *answers),
            folder=self.folder,
            status=status,
        )
        files = list(self.folder.glob("[12].der"))
        assert files or status or "-rspout" in options
        for file in files:
            read_answer(file.read_bytes())
            file.unlink()
        return told

    def refused(self, *options: str, path: str = "/cmp") -> str:
        """Run ``openssl cmp``, and return the failInfo that it prints."""
        told = self.cmp(*options, path=path, status=1)
        found = _FAILURE.search(told)
        assert found, told
        return found[1]

    def certificate(self, name: str) -> x509.Certificate:
        """Return a certificate that was written."""
        return x509.load_pem_x509_certificate(
            (self.folder / name).read_bytes()
        )

    def enroll(self, name: str) -> tuple[str, ...]:
        """Enroll, and return the options that use the certificate."""
        key = self.key(f"{name}.key")
        self.cmp(
            *("-cmd", "ir", *self.secret(), "-newkey", key),
            *("-subject", f"/CN={name}", "-certout", f"{name}.pem"),
            "-implicit_confirm",
        )
        return ("-cert", f"{name}.pem", "-key", key, *self.trusted)

    def row(self, certificate: str) -> dict[str, str]:
        """Return a certificate's row of the inventory."""
        serial = f"{self.certificate(certificate).serial_number:x}"
        printed = trstctl(
            *("cert", "list", "--output", "json"), config=self.gateway.config
        )
        (row,) = [r for r in json.loads(printed) if r["serial"] == serial]
        found: dict[str, str] = row
        return found


def run(*command: str, folder: Path, status: int = 0) -> str:
    """Run a client and return what it prints."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ,
        capture_output=True,
        timeout=120,
        check=False,
    )
    told = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert status == done.returncode, told
    return told


def make_site(folder: Path) -> Site:
    """Return a gateway that is configured."""
    gateway = Gateway(folder / "state")
    http_port = free_port()
    gateway.configure(PROTOCOLS, PROFILES)
    text = gateway.config.read_text()
    plain = f"listeners:\n  http: {{enabled: true, port: {http_port}}}\n"
    gateway.config.write_text(text.replace("listeners:\n", plain))
    files = folder / "files"
    files.mkdir()
    return Site(gateway, http_port, files)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return one gateway for all commands."""
    require_client("openssl")
    site = make_site(tmp_path_factory.mktemp("cmp"))
    site.gateway.start()
    try:
        yield site
        site.gateway.verify_audit()
    finally:
        site.gateway.end()


class EnrollmentTests:
    """ir, cr, kur and p10cr."""

    @pytest.mark.parametrize(
        "options",
        [
            ("-implicit_confirm",),
            ("-keep_alive", "2"),
            ("-mac", "hmacWithSHA256", "-digest", "sha512"),
        ],
    )
    def test_ir_with_a_secret(
        self, site: Site, options: tuple[str, ...]
    ) -> None:
        """Confirmed implicitly or by certConf, on one connection or two."""
        told = site.cmp(
            *("-cmd", "ir", *site.secret(), "-newkey", site.key("new.key")),
            *("-subject", "/CN=dev1", "-certout", "c.pem"),
            *("-cacertsout", "ca.pem", "-chainout", "chain.pem"),
            *options,
        )
        confirmed = "-implicit_confirm" not in options
        assert confirmed == ("received PKICONF" in told)
        run(
            *("openssl", "verify", "-x509_strict", "-CAfile", "ca.pem"),
            *("-untrusted", "chain.pem", "c.pem"),
            folder=site.folder,
        )

    def test_kur_replaces_once_confirmed(self, site: Site) -> None:
        """With another key; the old certificate is superseded then."""
        own = site.enroll("kur")
        site.cmp(
            *("-cmd", "kur", *own, "-newkey", site.key("kur2.key")),
            *("-certout", "kur2.pem"),
        )
        assert "superseded" == site.row("kur.pem")["status"]
        assert "valid" == site.row("kur2.pem")["status"]

    def test_cr_with_a_certificate(self, site: Site) -> None:
        """For another key."""
        own = site.enroll("cr")
        site.cmp(
            *("-cmd", "cr", *own, "-newkey", site.key("cr2.key")),
            *("-subject", "/CN=cr", "-certout", "cr2.pem"),
        )

    @pytest.mark.parametrize("path", ["/cmp", "/.well-known/cmp/pkcs10"])
    def test_p10cr(self, site: Site, path: str) -> None:
        """With a secret, from the NULL-DN."""
        key = site.key("p10.key")
        run(
            *("openssl", "req", "-new", "-key", key, "-subj", "/CN=p10"),
            *("-out", "p10.csr"),
            folder=site.folder,
        )
        site.cmp(
            *("-cmd", "p10cr", *site.secret(), "-csr", "p10.csr"),
            *("-certout", "p10.pem"),
            path=path,
        )

    def test_days_and_names(self, site: Site) -> None:
        """A validity is the profile's: granted, with modifications."""
        key = site.key("rsa.key", "-algorithm", "RSA")
        told = site.cmp(
            *("-cmd", "ir", *site.secret(), "-newkey", key, "-days", "30"),
            *("-subject", "/CN=dev2", "-sans", "dev2.example 10.0.0.1"),
            *("-certout", "c.pem", "-implicit_confirm"),
        )
        assert "grantedWithMods" in told
        names = site.certificate("c.pem").extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        assert ["dev2.example"] == names.value.get_values_for_type(
            x509.DNSName
        )

    @pytest.mark.parametrize(
        ("options", "failure"),
        [
            (("-geninfo", "1.2.3:int:987"), ""),
            (("-subject", "/CN=odd+serialNumber=12"), ""),
            (("-subject", "/CN=ger\u00e4t"), ""),
            (("-subject", "/", "-sans", "odd.example"), ""),
            (("-issuer", "/"), ""),
            (("-certform", "DER", "-keep_alive", "0"), ""),
            (("-issuer", "/CN=Other"), "wrongAuthority"),
            (("-policy_oids", "1.2.3.4"), "badCertTemplate"),
            (("-reqexts", "ca"), "notAuthorized"),
            (("-reqexts", "usages"), ""),
        ],
    )
    def test_what_else_a_request_can_have(
        self, site: Site, options: tuple[str, ...], failure: str
    ) -> None:
        """It is granted, or refused by name."""
        (site.folder / "extensions.cnf").write_text(
            "[default]\n[ca]\nbasicConstraints=CA:TRUE\n[usages]\n"
            "keyUsage=digitalSignature\nbasicConstraints=CA:FALSE\n"
        )
        request = (
            *("-cmd", "ir", *site.secret(), "-newkey", site.key("odd.key")),
            *("-subject", "/CN=odd", "-certout", "odd.pem"),
            *("-config", "extensions.cnf", *options),
        )
        if failure:
            assert failure == site.refused(*request)
        else:
            site.cmp(*request)

    @pytest.mark.parametrize("options", [(), ("-san_nodefault",)])
    def test_kur_with_the_same_key(
        self, site: Site, options: tuple[str, ...]
    ) -> None:
        """It is another certificate all the same."""
        own = site.enroll("same")
        site.cmp("-cmd", "kur", *own, *options, "-certout", "same2.pem")
        assert "superseded" == site.row("same.pem")["status"]

    def test_kur_names_the_certificate_of_another(self, site: Site) -> None:
        """RFC 9483, section 4.1.3: badCertId."""
        site.enroll("old")
        own = site.enroll("own")
        assert "badCertId" == site.refused(
            *("-cmd", "kur", *own, "-oldcert", "old.pem"),
            *("-newkey", site.key("own2.key"), "-certout", "own2.pem"),
        )

    def test_without_confirmation(self, site: Site) -> None:
        """It is handed out, and waited for."""
        site.cmp(
            *("-cmd", "ir", *site.secret(), "-newkey", site.key("n.key")),
            *("-subject", "/CN=n", "-certout", "n.pem", "-disable_confirm"),
        )

    def test_polling(self, site: Site) -> None:
        """A person approves meanwhile."""
        config = site.gateway.config
        options = (
            *("-cmd", "ir", *site.secret("guarded")),
            *("-newkey", site.key("held.key"), "-subject", "/CN=held"),
            *("-certout", "held.pem"),
        )
        client = subprocess.Popen(
            [
                *("openssl", "cmp", "-config", "", "-batch", "-server"),
                f"http://localhost:{site.http_port}/cmp/p/guarded",
                *("-total_timeout", "100", "-msg_timeout", "20", *options),
            ],
            cwd=site.folder,
        )
        held: list[str] = []
        deadline = time.monotonic() + 30
        while not held:
            assert time.monotonic() < deadline
            printed = trstctl(
                *("request", "list", "--state", "held", "--output", "json"),
                config=config,
            )
            held = [row["id"] for row in json.loads(printed)]
        trstctl("request", "approve", held[0], config=config)
        assert 0 == client.wait(100)


class RevocationTests:
    """rr."""

    @pytest.mark.parametrize("reason", ["-1", "0", "1", "4", "5", "6", "10"])
    def test_a_device_revokes_its_own(self, site: Site, reason: str) -> None:
        """For a reason of RFC 5280, section 5.3.1."""
        own = site.enroll("rr")
        told = site.cmp(
            *("-cmd", "rr", *own, "-oldcert", "rr.pem", "-revreason", reason)
        )
        assert "revocation accepted" in told
        status = "held" if reason == "6" else "revoked"
        assert status == site.row("rr.pem")["status"]

    def test_it_is_refused(self, site: Site) -> None:
        """Another's, and what has been revoked."""
        own, _ = site.enroll("mine"), site.enroll("others")
        revoke = ("-cmd", "rr", *own, "-revreason", "1", "-oldcert")
        assert "notAuthorized" == site.refused(*revoke, "others.pem")
        site.cmp(*revoke, "mine.pem")
        assert "certRevoked" == site.refused(*revoke, "mine.pem")


class GeneralTests:
    """genm."""

    def test_every_type(self, site: Site) -> None:
        """Each that OpenSSL 3.0 knows, and none."""
        own = site.enroll("genm")
        told = site.cmp("-cmd", "genm", *own)
        assert "id-it-currentCRL" in told
        for name in (
            "signKeyPairTypes",
            "caProtEncCert",
            "encKeyPairTypes",
            "preferredSymmAlg",
            "currentCRL",
            "caCerts",
            "certReqTemplate",
            "suppLangTags",
        ):
            told = site.cmp("-cmd", "genm", *own, "-infotype", name)
            assert f"id-it-{name}" in told


class RefusalTests:
    """What OpenSSL is refused, as its user reads it."""

    @pytest.mark.parametrize(
        ("proof", "failure"),
        [("-1", "badPOP"), ("0", "notAuthorized"), ("2", "badPOP")],
    )
    def test_a_proof(self, site: Site, proof: str, failure: str) -> None:
        """None, raVerified by a device, and encryption."""
        key = site.key("rsa.key", "-algorithm", "RSA")
        assert failure == site.refused(
            *("-cmd", "ir", *site.secret(), "-popo", proof, "-newkey", key),
            *("-subject", "/CN=dev", "-certout", "x.pem"),
        )

    def test_a_proof_by_encryption(self, site: Site) -> None:
        """OpenSSL 3 asks for it in version 2, where nothing is encrypted."""
        key = site.key("rsa.key", "-algorithm", "RSA")
        told = site.cmp(
            *("-cmd", "ir", *site.secret(), "-popo", "2", "-newkey", key),
            *("-subject", "/CN=dev", "-certout", "x.pem"),
            status=1,
        )
        assert "[pop-needs-version-3]" in told

    def test_a_wrong_secret(self, site: Site) -> None:
        """As an unknown one; the answer is signed."""
        new = ("-newkey", site.key("w.key"), "-subject", "/CN=w")
        for reference in (site.secret()[1], "nobody"):
            assert "badMessageCheck" == site.refused(
                *("-cmd", "ir", "-ref", reference, "-secret", "pass:wrong"),
                *("-recipient", "/CN=CA", *new, "-certout", "x.pem"),
                *site.trusted,
            )

    def test_no_protection(self, site: Site) -> None:
        """Nobody enrolls unprotected."""
        assert "badMessageCheck" == site.refused(
            *("-cmd", "ir", "-unprotected_requests", "-recipient", "/CN=CA"),
            *("-newkey", site.key("u.key"), "-subject", "/CN=u"),
            *("-certout", "x.pem", *site.trusted),
        )

    def test_a_strict_endpoint(self, site: Site) -> None:
        """OpenSSL 3.0 has another sender than its reference."""
        assert "badMessageCheck" == site.refused(
            *("-cmd", "ir", *site.secret(), "-newkey", site.key("s.key")),
            *("-subject", "/CN=s", "-certout", "x.pem", *site.trusted),
            "-unprotected_errors",
            path="/.well-known/cmp/p/strict",
        )

    def test_a_stranger(self, site: Site) -> None:
        """A self-signed certificate with the right names."""
        key = site.key("evil.key")
        run(
            *("openssl", "req", "-x509", "-new", "-key", key),
            *("-subj", "/CN=evil", "-out", "evil.pem"),
            folder=site.folder,
        )
        assert site.refused(
            *("-cmd", "cr", "-cert", "evil.pem", "-key", key, *site.trusted),
            *("-extracerts", "evil.pem", "-newkey", site.key("e.key")),
            *("-subject", "/CN=evil", "-certout", "x.pem"),
        ) in {"badMessageCheck", "signerNotTrusted"}


class DrillTests:
    """Killed at a failure point: the same certificate, never a second."""

    @pytest.mark.parametrize("point", ["after-commit", "after-intent"][:LONG])
    def test_a_kill_before_the_answer(
        self, tmp_path: Path, point: str
    ) -> None:
        """The same message again, then its confirmation."""
        require_client("openssl")
        site = make_site(tmp_path)
        site.gateway.start()
        try:
            options = (
                *("-cmd", "ir", *site.secret(), "-newkey", site.key("d.key")),
                *("-subject", "/CN=drill", "-certout", "d.pem"),
                *("-reqout", "ir.der conf.der"),
            )
            # The gateway's own certificates are made before the drill.
            site.cmp(*("-cmd", "genm", *site.secret(), "-infotype", "caCerts"))
            site.gateway.stop()
            site.gateway.start(fail_at=point)
            site.cmp(*options, "-implicit_confirm", status=1)
            site.gateway.wait()
            site.gateway.start()
            again = (*options[:-2], "-reqin", "ir.der")
            site.cmp(*again, "-implicit_confirm")
            site.gateway.stop()
            site.gateway.start()
            assert "valid" == site.row("d.pem")["status"]
            site.gateway.verify_audit()
        finally:
            site.gateway.end()

    @pytest.mark.parametrize(
        "point", ["after-confirm", "before-confirm"][:LONG]
    )
    def test_a_kill_while_it_is_confirmed(
        self, tmp_path: Path, point: str
    ) -> None:
        """The same certConf again confirms the same certificate."""
        require_client("openssl", "curl")
        site = make_site(tmp_path)
        site.gateway.start(fail_at=point)
        try:
            site.cmp(
                *("-cmd", "ir", *site.secret(), "-newkey", site.key("d.key")),
                *("-subject", "/CN=drill", "-certout", "d.pem"),
                *("-reqout", "ir.der conf.der", "-rspout", "ip.der"),
                status=1,
            )
            site.gateway.wait()
            site.gateway.start()
            for _ in range(2):
                run(
                    *("curl", "-fsS", "--data-binary", "@conf.der"),
                    *("-H", "Content-Type: application/pkixcmp"),
                    *("-o", "again.der"),
                    f"http://localhost:{site.http_port}/cmp",
                    folder=site.folder,
                )
                # pkiconf: the body [19] with NULL in it.
                answer = (site.folder / "again.der").read_bytes()
                assert b"\xb3\x02\x05\x00" in answer
            printed = trstctl(
                *("cert", "list", "--output", "json"),
                config=site.gateway.config,
            )
            rows = [
                row
                for row in json.loads(printed)
                if row["subject"] == "CN=drill"
            ]
            assert ["valid"] == [row["status"] for row in rows]
            site.gateway.verify_audit()
        finally:
            site.gateway.end()
