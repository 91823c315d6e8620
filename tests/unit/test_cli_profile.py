# SPDX-License-Identifier: MIT
"""Profiles and the configuration, as the commands show and try them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_state import TENANT, State, state
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from ruamel.yaml import YAML

from trstctl.config.reader import load
from trstctl.discovery import discover
from trstctl.founding import write_certificates
from trstctl.testing.requests import make_csr

__all__ = ["state"]


@pytest.fixture
def csr(tmp_path: Path) -> Path:
    """Return a file with a request."""
    path = tmp_path / "request.der"
    path.write_bytes(make_csr("device-1"))
    return path


class ProfileTests:
    """``trstctl profile``."""

    def test_list(self, state: State) -> None:
        """Built-in ones are listed with the endpoints that use them."""
        rows = {row["name"]: row for row in state.listed("profile", "list")}
        assert {"device", "tls-server", "tls-client"} == set(rows)
        assert ["est", "scep", "cmp"] == rows["device"]["endpoints"]
        assert [] == rows["tls-client"]["endpoints"]

    @pytest.mark.parametrize("name", ["device", "tls-server", "tls-client"])
    def test_show_is_a_configuration(self, state: State, name: str) -> None:
        """What is shown, put into the file, is the same profile."""
        before = load(state.config, discover().protocols).profiles[name]
        shown = YAML(typ="safe").load(
            state.run("profile", "show", name).stdout
        )
        shown["profiles"]["copy"] = shown["profiles"].pop(name)
        text = state.config.read_text()
        state.config.write_text(
            text.replace("profiles: {}", json.dumps(shown)[1:-1])
        )
        after = load(state.config, discover().protocols).profiles["copy"]
        assert before == after

    def test_show_json(self, state: State) -> None:
        """JSON has the version that the inventory and the log cite."""
        result = state.run("profile", "show", "device", "-o", "json")
        assert 64 == len(json.loads(result.stdout)["version"])

    def test_show_unknown(self, state: State) -> None:
        """One that does not exist is refused with those that do."""
        result = state.run("profile", "show", "nosuch", status=1)
        assert "tls-server" in result.stderr


class TryingTests:
    """``trstctl profile test``."""

    def test_allowed(self, state: State, csr: Path) -> None:
        """Every rule has its verdict; status 0; nothing is issued."""
        result = state.run("profile", "test", csr, "-o", "json")
        rows = json.loads(result.stdout)
        assert {"allowed"} == {row["verdict"] for row in rows}
        assert "tenant-allowed" == rows[0]["rule"]
        assert "proof-of-possession" == rows[-1]["rule"]
        assert "device: granted" in result.stderr
        assert [] == state.listed("cert", "list")

    def test_refused(self, state: State, csr: Path) -> None:
        """Status 1, and the first rule that refused."""
        result = state.run(
            *("profile", "test", csr, "--profile", "tls-server"), status=1
        )
        assert "refused by names-required" in result.stderr
        assert "validity " in result.stdout

    def test_weak_key(self, state: State, tmp_path: Path) -> None:
        """The signature of a refused key is not looked at."""
        path = tmp_path / "weak.der"
        path.write_bytes(make_csr(key=rsa.generate_private_key(65537, 1024)))
        rows = state.listed("profile", "test", path, status=1)
        assert "not looked at: the key is refused" == rows[-1]["detail"]

    def test_bad_signature(self, state: State, tmp_path: Path) -> None:
        """A request that its key has not signed is refused."""
        path = tmp_path / "bad.der"
        content = make_csr("device-1").replace(b"device-1", b"device-2")
        path.write_bytes(content)
        rows = state.listed("profile", "test", path, status=1)
        refused = [row["rule"] for row in rows if row["verdict"] == "refused"]
        assert ["proof-of-possession"] == refused

    def test_limits_of_the_credential(self, state: State, csr: Path) -> None:
        """A credential of the store is held to its names."""
        state.run("credential", "add", "router", "--name", "cn:router-*")
        rows = state.listed(
            *("profile", "test", csr, "--principal", "basic:router"), status=1
        )
        refused = [row["rule"] for row in rows if row["verdict"] == "refused"]
        assert ["principal-names"] == refused
        state.run("profile", "test", csr, "--principal", "token:one")

    @pytest.mark.parametrize("text", ["router", "system:x", "basic:"])
    def test_principal_usage(self, state: State, csr: Path, text: str) -> None:
        """A principal is a kind that can be had, and a name."""
        state.run("profile", "test", csr, "--principal", text, status=2)

    def test_held(self, state: State, csr: Path) -> None:
        """A profile with approval says that a person decides."""
        text = state.config.read_text()
        state.config.write_text(
            text.replace(
                "profiles: {}", "profiles: {mine: {approval: always}}"
            )
        )
        result = state.run("profile", "test", csr, "--profile", "mine")
        assert "held" in result.stderr

    def test_renewal(self, state: State, tmp_path: Path) -> None:
        """A renewal is judged against the certificate and its row."""
        issued = state.issued("device-1")
        state.now += timedelta(days=1)
        certificate = tmp_path / "own.pem"
        write_certificates(certificate, [issued.certificate])
        path = tmp_path / "renewal.der"
        path.write_bytes(make_csr("device-1"))
        state.run("profile", "test", path, "--renew", certificate)
        path.write_bytes(make_csr("device-2"))
        rows = state.listed(
            *("profile", "test", path, "--renew", certificate), status=1
        )
        refused = [row["rule"] for row in rows if row["verdict"] == "refused"]
        assert ["renewal-subject"] == refused

    def test_renewal_of_a_stranger(
        self, state: State, tmp_path: Path, csr: Path
    ) -> None:
        """A certificate that is not in the inventory renews nothing."""
        rows = state.listed(
            *("profile", "test", csr),
            *("--renew", state.path / "ca" / "root.pem"),
            status=1,
        )
        refused = [row["rule"] for row in rows if row["verdict"] == "refused"]
        assert "certificate-status" in refused

    def test_no_request(self, state: State, tmp_path: Path) -> None:
        """A file that holds no request is one line."""
        path = tmp_path / "none"
        path.write_text("hello")
        result = state.run("profile", "test", path, status=1)
        assert 1 == len(result.stderr.splitlines())

    def test_no_endpoint(self, state: State, csr: Path) -> None:
        """A tenant without an endpoint needs the profile's name."""
        other = ("--tenant", "22222222-2222-2222-2222-222222222222")
        result = state.run("profile", "test", csr, *other, status=1)
        assert "--profile" in result.stderr
        state.run("profile", "test", csr, *other, "--profile", "device")


class ConfigurationTests:
    """``trstctl config``, and how each command finds the file."""

    def test_check_tells_every_fault(self, state: State) -> None:
        """One line for each fault, with its place; status 78."""
        with state.config.open("a") as file:
            file.write("nosuch: 1\nlimits: {body: many}\n")
        result = state.run("config", "check", status=78)
        lines = result.stderr.splitlines()
        assert 2 == len(lines)
        assert all(line.startswith(f"{state.config}:") for line in lines)

    def test_check_matches_the_keys(self, state: State) -> None:
        """A key of another certificate is found before any start."""
        ca = state.path / "ca"
        (ca / "root.key").replace(ca / "issuing.key")
        result = state.run("config", "check", status=78)
        assert "private key" in result.stderr

    @pytest.mark.parametrize(
        ("protocol", "section", "told"),
        [
            ("est", {"idevid": {"anchors": ["none.pem"]}}, "none.pem"),
            (
                "est",
                {"serverkeygen": True, "decrypt_keys": {"a": "file:none"}},
                "none",
            ),
            ("cmp", {"idevid": {"anchors": ["none.pem"]}}, "none.pem"),
            ("cmp", {"root_update": {"new": "none.pem"}}, "none.pem"),
            (
                "scep",
                {
                    "challenge": {
                        "jws": {
                            "keys": ["none.pem"],
                            "issuer": "a",
                            "audience": "b",
                        }
                    }
                },
                "none.pem",
            ),
            (
                "scep",
                {
                    "labels": {
                        "a": {
                            "challenge": {
                                "webhook": {
                                    "url": "https://hook.example/",
                                    "key": "env:NONE_SUCH",
                                }
                            }
                        }
                    }
                },
                "NONE_SUCH",
            ),
            (
                "scep",
                {
                    "challenge": {
                        "intune": {
                            "tenant": "example.com",
                            "client_id": "11111111-1111-1111-1111-"
                            "111111111111",
                            "secret": "env:HOME",
                            "trust": "none.pem",
                        }
                    }
                },
                "none.pem",
            ),
        ],
    )
    def test_check_opens_what_protocols_name(
        self,
        state: State,
        protocol: str,
        section: dict[str, Any],
        told: str,
    ) -> None:
        """What a start or a reload would stumble over is told before."""
        yaml = YAML()
        document = yaml.load(state.config.read_text())
        document["profiles"] = {"device": {"server_key_generation": True}}
        document["protocols"][protocol].update(section)
        with state.config.open("w") as file:
            yaml.dump(document, file)
        result = state.run("config", "check", status=78)
        assert 1 == len(result.stderr.splitlines())
        assert told in result.stderr

    def test_check_opens_the_keys(self, state: State) -> None:
        """A key that others may read is refused."""
        (state.path / "ca" / "issuing.key").chmod(0o644)
        result = state.run("config", "check", status=78)
        assert "chmod 600" in result.stderr

    def test_show(self, state: State) -> None:
        """What the file says, or with --effective what it means."""
        plain = YAML(typ="safe").load(state.run("config", "show").stdout)
        assert "limits" not in plain
        result = state.run("config", "show", "--effective", "-o", "json")
        whole = json.loads(result.stdout)
        assert 65536 == whole["limits"]["body"]
        assert str(state.path) == whole["state"]

    def test_schema(self, state: State) -> None:
        """The schema names every section, the protocols' own included."""
        schema = json.loads(state.invoke("config", "schema").stdout)
        assert {"state", "protocols", "listeners"} <= set(schema["properties"])
        assert "ESTSettings" in schema["$defs"]

    def test_found_by_environment(
        self, state: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """$TRSTCTL_CONFIG names the file."""
        monkeypatch.setenv("TRSTCTL_CONFIG", str(state.config))
        assert 0 == state.invoke("config", "check").exit_code

    @pytest.mark.parametrize("place", ["state", "."])
    def test_found_in_its_place(
        self,
        state: State,
        monkeypatch: pytest.MonkeyPatch,
        place: str,
    ) -> None:
        """./trstctl.yaml, then ./trstctl-state/trstctl.yaml."""
        monkeypatch.delenv("TRSTCTL_CONFIG", raising=False)
        if place == "state":
            state.path.rename(state.path.with_name("trstctl-state"))
            monkeypatch.chdir(state.path.parent)
        else:
            monkeypatch.chdir(state.path)
        assert 0 == state.invoke("config", "check").exit_code

    def test_not_found(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nowhere: status 78, and what to do."""
        monkeypatch.delenv("TRSTCTL_CONFIG", raising=False)
        monkeypatch.chdir(tmp_path)
        result = State(tmp_path).invoke("cert", "list")
        assert 78 == result.exit_code
        assert "trstctl init" in result.stderr

    def test_never_hides_the_founding(self, tmp_path: Path) -> None:
        """
        On an empty state whose first start makes the CA, no command makes a
        database, which would keep it from that.
        """
        state = State(tmp_path)
        state.config.write_text(
            f'protocols: {{est: {{enabled: true, tenant_id: "{TENANT}"}}}}\n'
        )
        result = state.run("credential", "add", "router", status=1)
        assert "start the gateway once" in result.stderr
        assert ["trstctl.yaml"] == [each.name for each in tmp_path.iterdir()]

    def test_without_a_tenant(self, state: State) -> None:
        """A configuration that serves nobody says so."""
        text = state.config.read_text()
        state.config.write_text(text[: text.index("# What listings call")])
        result = state.run("credential", "add", "router", status=1)
        assert "has no tenant" in result.stderr


def test_elliptic_keys_are_fine(state: State, tmp_path: Path) -> None:
    """PEM is read as well as DER, P-384 as well as P-256."""
    import base64

    path = tmp_path / "request.pem"
    text = base64.encodebytes(
        make_csr(key=ec.generate_private_key(ec.SECP384R1()))
    ).decode()
    path.write_text(
        "-----BEGIN CERTIFICATE REQUEST-----\n"
        f"{text}-----END CERTIFICATE REQUEST-----\n"
    )
    state.run("profile", "test", path)
