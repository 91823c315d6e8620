# SPDX-License-Identifier: MIT
"""
The pages about base stations and registration authorities: each command that
they show is run as it stands there, against a gateway that is configured as
they say.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define
from cryptography import x509
from ruamel.yaml import YAML
from running import Gateway, free_port, require_client, trstctl
from second_decoder import read_answer

DOCS = Path(__file__).parents[2] / "docs"

pytestmark = pytest.mark.interop


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page."""
    text = (DOCS / page).read_text()
    return [
        re.sub(r"^    ", "", found, flags=re.MULTILINE).strip("\n")
        for found in re.findall(
            rf"^\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)",
            text,
            re.MULTILINE,
        )
    ]


@define
class Reader:
    """Somebody who does what a page says."""

    page: str
    gateway: Gateway
    folder: Path

    def configure(self) -> None:
        """Configure the gateway as the page shows it."""
        (text,) = blocks(self.page, "yaml")
        shown = YAML(typ="safe").load(text)
        self.gateway.configure(
            json.dumps(shown["protocols"])[1:-1],
            f"profiles: {json.dumps(shown['profiles'])}\n",
        )

    def run(self, *commands: str, **words: str) -> str:
        """Run commands of the page, one after the other."""
        script = "\n".join(["set -e", *commands])
        for word, value in words.items():
            script = script.replace(word, value)
        script = script.replace("8080", str(self.gateway.http_port))
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=self.folder,
            capture_output=True,
            timeout=120,
            check=False,
        )
        told = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert done.returncode == 0, told
        return told

    def commands(self, *needles: str) -> list[str]:
        """Return the commands of the page with one of these texts."""
        found = [
            line.removeprefix("$ ")
            for block in blocks(self.page, "console")
            for line in block.splitlines()
        ]
        return [one for one in found if any(word in one for word in needles)]

    def certificate(self, name: str) -> x509.Certificate:
        """Return a certificate that was written."""
        return x509.load_pem_x509_certificate(
            (self.folder / name).read_bytes()
        )

    def statuses(self) -> list[tuple[str, str]]:
        """Return subject and status of what was issued, in order."""
        printed = trstctl(
            *("cert", "list", "--output", "json"), config=self.gateway.config
        )
        return sorted(
            (row["subject"], row["status"])
            for row in json.loads(printed)
            if row["subject"].startswith(("CN=unit", "CN=plant", "O=Vendor"))
        )


@pytest.fixture
def reader(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Reader]:
    """Return who reads the page that the test class is about."""
    require_client("openssl")
    gateway = Gateway(tmp_path / "state", http_port=free_port())
    folder = tmp_path / "files"
    folder.mkdir()
    reader = Reader(request.cls.page, gateway, folder)
    try:
        yield reader
        gateway.verify_audit()
    finally:
        gateway.end()


class BaseStationTests:
    """docs/clients-3gpp.rst (3GPP TS 33.310, clause 9)."""

    page = "clients-3gpp.rst"

    def test_the_page_works(self, reader: Reader) -> None:
        """ir with a factory certificate, certConf, kur and rr."""
        reader.configure()
        vendor = reader.commands("openssl req")
        assert len(vendor) == 2
        reader.run(*vendor)
        shutil.copy(reader.folder / "vendor-root.pem", reader.gateway.folder)
        reader.gateway.start()
        shutil.copy(reader.gateway.root, reader.folder)
        setting, *rest = reader.commands("C=", "genpkey", "$C")
        answers = " -rspout 'a.der b.der'"
        told = ""
        for number, command in enumerate(rest):
            more = answers if command.startswith("$C -cmd kur") else ""
            told = reader.run(setting, command + more)
            if "-cmd ir" in command:
                assert "received PKICONF" in told
                assert [("valid",)] == [row[1:] for row in reader.statuses()]
            assert number < 9
        assert "revocation accepted" in told
        for name in ("a.der", "b.der"):
            read_answer((reader.folder / name).read_bytes())
        names = reader.certificate("unit.pem").extensions
        found = names.get_extension_for_class(x509.SubjectAlternativeName)
        assert ["unit-7.ran.example.com"] == (
            found.value.get_values_for_type(x509.DNSName)
        )
        brought = x509.load_pem_x509_certificates(
            (reader.folder / "extra.pem").read_bytes()
        )
        assert reader.certificate("root.pem") in brought
        assert ["revoked", "superseded"] == sorted(
            status for _, status in reader.statuses()
        )


class RegistrationAuthorityTests:
    """docs/clients-cmp-ra.rst (RFC 9483, section 5)."""

    page = "clients-cmp-ra.rst"

    def test_the_page_works(self, reader: Reader) -> None:
        """Its own certificate, raVerified, p10cr, hold and release."""
        reader.configure()
        reader.gateway.start()
        (create,) = reader.commands("trstctl")
        (made,) = json.loads(
            trstctl(
                *create.split()[1:],
                *("--output", "json"),
                config=reader.gateway.config,
            )
        )
        own = reader.commands("genpkey", "/cmp/p/ra")
        reader.run(*own, ID=made["id"], CHALLENGE=made["challenge"])
        reader.run(*reader.commands("req -new", "C=", "$C"))
        assert [
            ("CN=plant-7", "revoked"),
            ("CN=plant-7", "valid"),
            ("CN=plant-ra", "valid"),
        ] == reader.statuses()
        refused = reader.commands("C=", "-popo 0")
        assert len(refused) == 2
        script = "\n".join(refused).replace("plant-7", "router-7")
        with pytest.raises(AssertionError, match="notAuthorized"):
            reader.run(script)
