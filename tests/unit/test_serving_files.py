# SPDX-License-Identifier: MIT
"""A check opens all that a start opens, and says what is wrong with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from mdm_samples import EC_KEY, public_pem

from trstctl.backends.keyfiles import to_pem
from trstctl.config.reader import load
from trstctl.discovery import discover
from trstctl.serving.faults import StartFault
from trstctl.serving.files import check_files
from trstctl.testing import TENANT, make_authority

LONG = "0123456789abcdef0123456789abcdef"
CAS = to_pem(make_authority().chain)
JWS = {"issuer": "a", "audience": "b"}
INTUNE = {
    "tenant": "contoso.onmicrosoft.com",
    "client_id": "6731de76-14a6-49ae-97bc-6eba6914391e",
    "secret": "file:secret",
}
WEBHOOK = {"url": "https://hook.example", "key": "file:secret"}


class Site:
    """A configuration in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, **sections: Any) -> None:
        """Check a file with these sections."""
        path = self.folder / "trstctl.yaml"
        path.write_text(json.dumps(sections))
        check_files(load(path, discover().protocols))

    def protocol(self, name: str, **settings: Any) -> None:
        """Check a file with one protocol."""
        own = {"enabled": True, "tenant_id": TENANT, **settings}
        self.check(protocols={name: own})

    def fault(self, key: str, reason: str, **sections: Any) -> None:
        """See a file refused: by its own name, the key and the reason."""
        with pytest.raises(StartFault) as caught:
            self.check(**sections)
        told = str(caught.value)
        assert told.startswith(f"{self.folder}/trstctl.yaml: {key}: ")
        assert reason in told
        assert "\n" not in told

    def protocol_fault(self, name: str, reason: str, **settings: Any) -> None:
        """See a protocol's settings refused."""
        own = {"enabled": True, "tenant_id": TENANT, **settings}
        self.fault(f"protocols.{name}", reason, protocols={name: own})

    def put(self, name: str, content: bytes, mode: int = 0o600) -> Path:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a place for a configuration."""
    return Site(tmp_path)


def jamf(kind: str) -> dict[str, Any]:
    """Return the settings of a webhook of Jamf Pro."""
    ways = {
        "basic": {"username": "jamf", "password": "file:secret"},
        "header": {"name": "X-Hook", "value": "file:secret"},
    }
    return {"jamf": {"hook": {"authentication": {kind: ways[kind]}}}}


#: Settings with a secret, by what is wrong with one that is too short.
SECRETS: tuple[Any, ...] = (
    ("mdm", jamf("basic"), "at least 16 characters"),
    ("mdm", jamf("header"), "at least 16 characters"),
    ("scep", {"challenge": {"intune": INTUNE}}, ""),
    ("scep", {"challenge": {"webhook": WEBHOOK}}, "at least 16 octets"),
    (
        "scep",
        {"labels": {"a": {"challenge": {"webhook": WEBHOOK}}}},
        "at least 16 octets",
    ),
)


class SecretTests:
    """Secrets of MDM platforms, which devices' challenges depend on."""

    @pytest.mark.parametrize(("name", "settings", "short"), SECRETS)
    def test_secret(
        self, site: Site, name: str, settings: Any, short: str
    ) -> None:
        """It is there, guarded, and long enough."""
        site.protocol_fault(name, "secret: cannot be opened", **settings)
        path = site.put("secret", b"\n")
        site.protocol_fault(name, "the secret is empty", **settings)
        path.write_bytes(b"short")
        if short:
            site.protocol_fault(name, short, **settings)
        else:
            site.protocol(name, **settings)
        path.write_text(LONG)
        site.protocol(name, **settings)
        path.chmod(0o644)
        site.protocol_fault(name, "run: chmod 600", **settings)

    def test_secret_that_is_no_text(self, site: Site) -> None:
        """A platform takes text only."""
        site.put("secret", b"\xff" * 40)
        site.protocol_fault("mdm", "not text in UTF-8", **jamf("basic"))

    def test_variable(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An environment variable is looked for, too."""
        hook = {"challenge": {"webhook": {**WEBHOOK, "key": "env:A_HOOK"}}}
        monkeypatch.delenv("A_HOOK", raising=False)
        site.protocol_fault("scep", "environment variable A_HOOK", **hook)
        monkeypatch.setenv("A_HOOK", LONG)
        site.protocol("scep", **hook)

    def test_what_is_off_is_not_opened(self, site: Site) -> None:
        """As at a start."""
        site.protocol("mdm", **jamf("basic") | {"enabled": False})


class FileTests:
    """Keys and certificates of protocols."""

    @pytest.mark.parametrize("kind", ["intune", "webhook"])
    def test_trust(self, site: Site, kind: str) -> None:
        """Else the first device would find it out."""
        site.put("secret", LONG.encode())
        own = {"intune": INTUNE, "webhook": WEBHOOK}[kind]
        gate = {"challenge": {kind: {**own, "trust": "cas.pem"}}}
        site.protocol_fault("scep", "cas.pem: No such file", **gate)
        path = site.put("cas.pem", b"nothing")
        site.protocol_fault("scep", "no CA certificate in PEM", **gate)
        path.write_bytes(CAS.replace(b"MII", b"MIJ", 1))
        site.protocol_fault("scep", "no CA certificate in PEM", **gate)
        path.write_bytes(CAS)
        site.protocol("scep", **gate)

    def test_pinned_keys(self, site: Site) -> None:
        """Each of them."""
        gate = {"challenge": {"jws": {**JWS, "keys": ["a.pem", "b.pem"]}}}
        site.put("a.pem", public_pem(EC_KEY))
        site.protocol_fault("scep", "b.pem: No such file", **gate)
        path = site.put("b.pem", b"nothing")
        site.protocol_fault("scep", "neither a certificate nor", **gate)
        path.write_bytes(public_pem(EC_KEY))
        site.protocol("scep", **gate)

    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            ("est", {"idevid": {"anchors": ["x.pem"]}}),
            ("est", {"labels": {"a": {"idevid": {"anchors": ["x.pem"]}}}}),
            ("cmp", {"idevid": {"anchors": ["x.pem"]}}),
            ("cmp", {"labels": {"a": {"idevid": {"anchors": ["x.pem"]}}}}),
            ("cmp", {"root_update": {"new": "x.pem"}}),
        ],
    )
    def test_certificates(
        self, site: Site, name: str, settings: dict[str, Any]
    ) -> None:
        """Whom an endpoint trusts, and what it hands out."""
        site.protocol_fault(name, "x.pem: it cannot be read", **settings)
        path = site.put("x.pem", b"nothing")
        site.protocol_fault(name, "there is no certificate", **settings)
        path.write_bytes(to_pem(make_authority().chain[-1:]))
        site.protocol(name, **settings)

    def test_recipients(self, site: Site) -> None:
        """Whom keys are encrypted to, where keys are made."""
        made: dict[str, Any] = {
            "serverkeygen": True,
            "profile": "sensor",
            "decrypt_keys": {"line-7": "file:line-7"},
            "decrypt_certificates": ["x.pem"],
        }
        sections: dict[str, Any] = {
            "profiles": {"sensor": {"server_key_generation": True}},
            "protocols": {
                "est": {"enabled": True, "tenant_id": TENANT, **made}
            },
        }
        site.fault("protocols.est", "x.pem: it cannot be read", **sections)
        site.put("x.pem", CAS)
        site.fault("protocols.est", "line-7: cannot be opened", **sections)
        path = site.put("line-7", b"short")
        site.fault("protocols.est", "hexadecimal digits", **sections)
        path.write_text(LONG)
        site.check(**sections)

    def test_server_certificate(self, site: Site) -> None:
        """Chain and key, and whether they fit."""
        files = {"chain": "tls.pem", "key": "file:tls.key"}
        sections = {"listeners": {"https": {"certificate": files}}}
        with pytest.raises(StartFault, match=r"tls\.key: it cannot be read"):
            site.check(**sections)
        site.put(
            "tls.key",
            EC_KEY.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
        )
        with pytest.raises(StartFault, match=r"tls\.pem: it cannot be read"):
            site.check(**sections)
        site.put("tls.pem", CAS)
        with pytest.raises(
            StartFault, match=r"^listeners\.https\.certificate: "
        ):
            site.check(**sections)


class PlaceTests:
    """Where the gateway keeps things."""

    def test_what_is_not_there_yet(self, site: Site) -> None:
        """It is made at the start; a check makes nothing."""
        log = {"file": str(site.folder / "log")}
        site.check(state="a/b", store="sqlite:c/d.db", log=log)
        assert ["trstctl.yaml"] == [x.name for x in site.folder.iterdir()]

    def test_file_in_the_place_of_a_directory(self, site: Site) -> None:
        """Of the state, or of the store."""
        site.put("file", b"")
        site.fault("state", "file: Not a directory", state="file/below")
        site.fault("store", "file: Not a directory", store="sqlite:file/a.db")

    def test_directory_in_the_place_of_a_file(self, site: Site) -> None:
        """Of the store, or of the log."""
        (site.folder / "sub").mkdir()
        site.fault("store", "sub: Is a directory", store="sqlite:sub")
        site.fault("log.file", "sub: Is a directory", log={"file": "sub"})

    def test_log_without_its_directory(self, site: Site) -> None:
        """Nobody makes that."""
        site.fault(
            "log.file", "none: No such file", log={"file": "none/trstctl.log"}
        )

    @pytest.mark.parametrize(
        ("refused", "key"),
        [
            ("state", "state"),
            ("db", "store"),
            ("db/a.db", "store"),
            ("logs", "log.file"),
            ("logs/log", "log.file"),
        ],
    )
    def test_not_writable(
        self,
        site: Site,
        monkeypatch: pytest.MonkeyPatch,
        refused: str,
        key: str,
    ) -> None:
        """What this user cannot write to is told with its key."""
        for name in ("state", "db", "logs"):
            (site.folder / name).mkdir()
        site.put("db/a.db", b"")
        if refused == "logs/log":
            site.put("logs/log", b"")
        monkeypatch.setattr(
            os, "access", lambda path, _: Path(path) != site.folder / refused
        )
        site.fault(
            key,
            f"{refused}: Permission denied; correct the path",
            state="state",
            store=f"sqlite:{site.folder}/db/a.db",
            log={"file": f"{site.folder}/logs/log"},
        )

    def test_another_backend(self, site: Site) -> None:
        """What its place means is its own business."""
        site.check(store="postgresql:somewhere")


class OwnKeyTests:
    """What the gateway keeps in its state."""

    @pytest.mark.parametrize("name", ["tls", "credentials"])
    def test_open_directory(self, site: Site, name: str) -> None:
        """Keys lie in directories that are nobody else's."""
        path = site.folder / name
        path.mkdir(mode=0o700)
        site.check()
        path.chmod(0o777)
        site.fault("state", f"run: chmod 700 {path}")

    def test_challenge_keys(self, site: Site) -> None:
        """Without them nobody enrolls by challenge."""
        keys = site.put("credentials/challenge-keys", b"1 ff\n")
        site.fault("state", "each line must be a number")
        keys.write_text(f"1 {'0f' * 32}\n")
        site.check()
        keys.chmod(0o640)
        site.fault("state", "run: chmod 600")
