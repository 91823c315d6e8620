# SPDX-License-Identifier: MIT
"""The commands that make a CA and look after it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cli_state import TENANT, State, state
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    pkcs12,
)

from trstctl.backends.keyfiles import (
    read_certificates,
    read_private_key,
    write_private_key,
)
from trstctl.ca.ceremony import (
    generate_key,
    make_issuing,
    make_root,
    public_octets,
)
from trstctl.config.reader import load
from trstctl.discovery import discover
from trstctl.founding import write_certificates
from trstctl.testing.time import EPOCH, DeterministicBytes

__all__ = ["state"]


class Offline:
    """A root and an issuing CA that others made."""

    def __init__(self, directory: Path) -> None:
        random = DeterministicBytes("offline")
        directory.mkdir(mode=0o700)
        self.directory = directory
        self.root_key = generate_key()
        self.key = generate_key()
        self.root = make_root(self.root_key, "Offline Root", EPOCH, random)
        self.certificate = self.sign(self.key)
        self.key_file = directory / "their.key"
        self.certificate_file = directory / "their.pem"
        self.root_file = directory / "root.pem"
        write_private_key(self.key_file, self.key)
        write_certificates(self.certificate_file, [self.certificate])
        write_certificates(self.root_file, [self.root])

    def sign(self, key: object) -> bytes:
        """Return an issuing certificate for a key."""
        spki = key if isinstance(key, bytes) else public_octets(key)
        return make_issuing(
            self.root_key,
            self.root,
            spki,
            "Their Issuing",
            EPOCH,
            DeterministicBytes("sign"),
        )

    def secret(self, text: str) -> Path:
        """Return a file that holds a passphrase."""
        path = self.directory / "passphrase"
        path.write_text(text + "\n")
        path.chmod(0o600)
        return path


@pytest.fixture
def offline(tmp_path: Path) -> Offline:
    """Return a CA from elsewhere."""
    return Offline(tmp_path / "offline")


class InitTests:
    """``trstctl init``."""

    def test_makes_a_good_state(self, state: State) -> None:
        """Keys of mode 0600, EST for the tenant, and a clean check."""
        for name in ("root.key", "issuing.key"):
            mode = (state.path / "ca" / name).stat().st_mode
            assert 0o600 == stat.S_IMODE(mode)
        config = load(state.config, discover().protocols)
        assert TENANT == config.protocols["est"].tenant_id
        assert (
            "the configuration is good" in state.run("config", "check").stdout
        )

    def test_serves_scep(self, state: State) -> None:
        """SCEP without TLS, since its clients want it, and by challenge."""
        config = load(state.config, discover().protocols)
        (endpoint,) = config.endpoints["scep"]
        assert TENANT == endpoint.tenant_id
        assert endpoint.gated
        assert config.listeners.http.enabled
        assert "challenge: none" not in state.config.read_text()

    def test_names_the_schema(self, state: State) -> None:
        """The first line is what editors look for, and the file is there."""
        first = state.config.read_text().splitlines()[0]
        assert "# yaml-language-server: $schema=trstctl.schema.json" == first
        assert (state.path / "trstctl.schema.json").exists()

    def test_prints_fingerprints_and_three_commands(
        self, tmp_path: Path
    ) -> None:
        """Fingerprints of both CAs, and what to do next."""
        made = State(tmp_path / "a b")
        result = made.invoke("init", "--state", made.path)
        lines = result.stdout.splitlines()
        assert 2 == sum("SHA-256" in line for line in lines)
        after = lines[lines.index("Next:") + 1 :]
        assert 3 == len(after)
        assert all(f"--config '{made.config}'" in line for line in after)

    def test_refuses_a_second_time(self, state: State) -> None:
        """A state that is in use is left as it is, with one line."""
        before = state.config.read_bytes()
        result = state.invoke("init", "--state", state.path)
        assert 1 == result.exit_code
        assert 1 == len(result.stderr.splitlines())
        assert "in use" in result.stderr
        assert before == state.config.read_bytes()

    def test_leaves_nothing_after_a_failure(self, tmp_path: Path) -> None:
        """A name that no CA can have leaves no directory behind."""
        made = State(tmp_path / "state")
        result = made.invoke(
            "init", "--state", made.path, "--organization", "x" * 100
        )
        assert result.exit_code != 0
        assert not made.path.exists()

    def test_keeps_a_directory_that_was_there(self, tmp_path: Path) -> None:
        """After a failure, an existing directory is as it was."""
        made = State(tmp_path / "state")
        made.path.mkdir(mode=0o700)
        (made.path / "mine").write_text("")
        made.invoke("init", "--state", made.path, "--organization", "x" * 100)
        assert ["mine"] == [each.name for each in made.path.iterdir()]

    def test_refuses_an_open_directory(self, tmp_path: Path) -> None:
        """Others must not list the directory of the keys."""
        made = State(tmp_path / "state")
        made.path.mkdir()
        made.path.chmod(0o755)
        result = made.invoke("init", "--state", made.path)
        assert 1 == result.exit_code
        assert "chmod 700" in result.stderr

    def test_encrypts_the_root_key(
        self, tmp_path: Path, offline: Offline
    ) -> None:
        """--root-passphrase-file: for the root's key only."""
        made = State(tmp_path / "state")
        result = made.invoke(
            *("init", "--state", made.path, "--root-passphrase-file"),
            offline.secret("correct horse"),
        )
        assert 0 == result.exit_code, result.output
        read_private_key(made.path / "ca" / "root.key", b"correct horse")
        read_private_key(made.path / "ca" / "issuing.key")

    @pytest.mark.parametrize(
        "algorithm", ["p-384", "rsa-2048", "ed25519", "ml-dsa-65"]
    )
    def test_algorithms(self, tmp_path: Path, algorithm: str) -> None:
        """Every algorithm that is offered makes a CA that can be used."""
        made = State(tmp_path / "state")
        made.invoke("init", "--state", made.path, "--key-algorithm", algorithm)
        rows = made.listed("ca", "show")
        assert [algorithm] * 2 == [row["key"] for row in rows]
        made.run("config", "check")

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--ca-certificate", "C"],
            ["--ca-key", "K"],
            ["--ca-certificate", "C", "--ca-key", "K", "--csr"],
            ["--ca-chain", "C"],
            ["--csr", "--root-passphrase-file", "C"],
            ["--tenant", "nonsense"],
            ["--name", "not a host"],
            ["--key-algorithm", "rsa-1024"],
        ],
    )
    def test_contradictions(
        self, tmp_path: Path, offline: Offline, arguments: list[str]
    ) -> None:
        """What makes no sense together is a usage error, and does nothing."""
        files = {"C": offline.certificate_file, "K": offline.key_file}
        made = State(tmp_path / "state")
        result = made.invoke(
            "init",
            "--state",
            made.path,
            *(files.get(each, each) for each in arguments),
        )
        assert 2 == result.exit_code
        assert not made.path.exists()


class ExistingAuthorityTests:
    """``trstctl init`` with a CA from elsewhere."""

    def test_pem(self, tmp_path: Path, offline: Offline) -> None:
        """Certificate, key and chain are taken, and fit."""
        made = State(tmp_path / "state")
        result = made.invoke(
            *("init", "--state", made.path),
            *("--ca-certificate", offline.certificate_file),
            *("--ca-key", offline.key_file, "--ca-chain", offline.root_file),
        )
        assert 0 == result.exit_code, result.output
        made.run("config", "check")
        assert ["CN=Their Issuing", "CN=Offline Root"] == [
            row["subject"] for row in made.listed("ca", "show")
        ]

    def test_missing_chain(self, tmp_path: Path, offline: Offline) -> None:
        """A chain without its root is refused, and nothing is left."""
        made = State(tmp_path / "state")
        result = made.invoke(
            *("init", "--state", made.path),
            *("--ca-certificate", offline.certificate_file),
            *("--ca-key", offline.key_file),
        )
        assert 1 == result.exit_code
        assert "is missing" in result.stderr
        assert not made.path.exists()

    def test_pkcs12_keeps_its_passphrase(
        self, tmp_path: Path, offline: Offline
    ) -> None:
        """The key stays encrypted, and the configuration says how."""
        secret = offline.secret("correct horse")
        bundle = offline.directory / "ca.p12"
        bundle.write_bytes(
            pkcs12.serialize_key_and_certificates(
                b"ca",
                offline.key,
                x509.load_der_x509_certificate(offline.certificate),
                [x509.load_der_x509_certificate(offline.root)],
                BestAvailableEncryption(b"correct horse"),
            )
        )
        bundle.chmod(0o600)
        made = State(tmp_path / "state")
        result = made.invoke(
            *("init", "--state", made.path, "--ca-pkcs12", bundle),
            *("--ca-passphrase-file", secret),
        )
        assert 0 == result.exit_code, result.output
        content = (made.path / "ca" / "issuing.key").read_bytes()
        assert b"ENCRYPTED PRIVATE KEY" in content
        made.run("config", "check")

    def test_self_signed(self, tmp_path: Path, offline: Offline) -> None:
        """A CA without one above it has no chain."""
        key_file = offline.directory / "root.key"
        write_private_key(key_file, offline.root_key)
        made = State(tmp_path / "state")
        result = made.invoke(
            *("init", "--state", made.path),
            *("--ca-certificate", offline.root_file, "--ca-key", key_file),
        )
        assert 0 == result.exit_code, result.output
        assert 1 == len(made.listed("ca", "show"))
        made.run("config", "check")


class OfflineRootTests:
    """``trstctl init --csr`` and ``trstctl ca import``."""

    @pytest.fixture
    def waiting(self, tmp_path: Path) -> State:
        """Return a state that waits for its certificate."""
        made = State(tmp_path / "state")
        result = made.invoke("init", "--state", made.path, "--csr")
        assert 0 == result.exit_code, result.output
        assert "ca import" in result.stdout
        return made

    def signed(self, made: State, offline: Offline) -> Path:
        """Return what the root makes of the request."""
        pem = (made.path / "ca" / "issuing.csr").read_bytes()
        request = x509.load_pem_x509_csr(pem)
        from cryptography.hazmat.primitives import serialization

        spki = request.public_key().public_bytes(
            serialization.Encoding.DER,
            serialization.PublicFormat.SubjectPublicKeyInfo,
        )
        path = offline.directory / "signed.pem"
        write_certificates(path, [offline.sign(spki)])
        return path

    def test_cannot_start_before(self, waiting: State) -> None:
        """Without its certificate the configuration is not good: 78."""
        result = waiting.run("config", "check", status=78)
        assert "issuing.pem" in result.stderr

    def test_import(self, waiting: State, offline: Offline) -> None:
        """What the root has signed is installed with its chain."""
        signed = self.signed(waiting, offline)
        waiting.run("ca", "import", signed, "--chain", offline.root_file)
        waiting.run("config", "check")
        assert (offline.root,) == read_certificates(
            waiting.path / "ca" / "chain.pem"
        )

    def test_refuses_another_key(
        self, waiting: State, offline: Offline
    ) -> None:
        """A certificate for another key is not installed."""
        result = waiting.run(
            *("ca", "import", offline.certificate_file),
            *("--chain", offline.root_file),
            status=1,
        )
        assert "private key" in result.stderr
        assert not (waiting.path / "ca" / "issuing.pem").exists()

    def test_asks_before_it_replaces(
        self, waiting: State, offline: Offline
    ) -> None:
        """A certificate that is there is replaced only on purpose."""
        signed = self.signed(waiting, offline)
        arguments = ("ca", "import", signed, "--chain", offline.root_file)
        waiting.run(*arguments)
        assert "--yes" in waiting.run(*arguments, status=1).stderr
        assert (
            "nothing" in waiting.run(*arguments, status=1, stdin="n\n").stderr
        )
        waiting.run(*arguments, stdin="y\n")
        waiting.run(*arguments, "--yes")

    def test_needs_a_place_for_the_chain(
        self, waiting: State, offline: Offline
    ) -> None:
        """Without a file for the chain nothing is installed."""
        text = waiting.config.read_text()
        waiting.config.write_text(
            text.replace('chain: ["ca/chain.pem"]', "chain: []")
        )
        result = waiting.run(
            *("ca", "import", self.signed(waiting, offline)),
            *("--chain", offline.root_file),
            status=1,
        )
        assert "chain: [ca/chain.pem]" in result.stderr

    def test_unknown_authority(self, waiting: State, offline: Offline) -> None:
        """A name that is not configured is refused with those that are."""
        result = waiting.run(
            *("ca", "import", offline.root_file, "--authority", "other"),
            status=1,
        )
        assert "issuing" in result.stderr
