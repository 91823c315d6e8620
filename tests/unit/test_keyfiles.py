# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.backends.keyfiles`."""

from __future__ import annotations

import base64
import datetime as dt
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import (
    dsa,
    ec,
    ed25519,
    mldsa,
    x25519,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from trstctl.backends import keyfiles
from trstctl.backends.keyfiles import (
    KeyFileError,
    load_private_key,
    private_directory,
    read_certificates,
    read_pkcs12,
    read_private_key,
    replace_file,
    write_private_key,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory that only its owner may list."""
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture(params=[0o000, 0o022, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Each umask that could go wrong."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def plain(key) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def pkcs8(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def self_signed(key, name: str) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return x509.CertificateBuilder(
        subject,
        subject,
        key.public_key(),
        1,
        dt.datetime(2026, 1, 1),
        dt.datetime(2027, 1, 1),
    ).sign(key, hashes.SHA256())


def refusal(call: Callable[[], object]) -> str:
    """Return the text of the refusal."""
    with pytest.raises(KeyFileError) as caught:
        call()
    return str(caught.value)


class WritePrivateKeyTests:
    """A key is written once, durably, and for its owner only."""

    def test_mode_is_0600_under_any_umask(self, folder, umask) -> None:
        """Key files always have mode 0600, whatever the umask (R-14)."""
        path = folder / "ca.key"
        write_private_key(path, ec.generate_private_key(ec.SECP256R1()))
        assert 0o600 == mode_of(path)

    def test_round_trip(self, folder) -> None:
        """What is written is read back, as PKCS#8 in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        write_private_key(folder / "ca.key", key)
        assert pkcs8(key) == (folder / "ca.key").read_bytes()
        assert plain(key) == plain(read_private_key(folder / "ca.key"))

    @pytest.mark.parametrize(
        "generate",
        [
            lambda: ec.generate_private_key(ec.SECP384R1()),
            ed25519.Ed25519PrivateKey.generate,
            mldsa.MLDSA65PrivateKey.generate,
        ],
    )
    def test_round_trip_with_passphrase(self, folder, generate) -> None:
        """An encrypted key opens with its passphrase, and no other."""
        key = generate()
        path = folder / "ca.key"
        write_private_key(path, key, b"correct horse")
        content = path.read_bytes()
        assert content.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
        assert 65 == max(len(line) for line in content.splitlines(True))
        assert plain(key) == plain(read_private_key(path, b"correct horse"))
        assert "passphrase is wrong" in refusal(
            lambda: read_private_key(path, b"wrong horse")
        )
        assert "give its passphrase" in refusal(lambda: read_private_key(path))

    def test_randomness_is_salt_and_iv(self, folder) -> None:
        """Salt and IV are the source's, and the rounds are 600,000."""
        asked = []

        def random_bytes(count: int) -> bytes:
            asked.append(count)
            return bytes([len(asked)]) * count

        key = ec.generate_private_key(ec.SECP256R1())
        write_private_key(
            folder / "k", key, b"secret", random_bytes=random_bytes
        )
        sealed = b"".join(
            (folder / "k").read_bytes().strip().splitlines()[1:-1]
        )
        octets = base64.b64decode(sealed)
        assert [16, 16] == asked
        assert b"\x04\x10" + b"\x01" * 16 in octets
        assert b"\x04\x10" + b"\x02" * 16 in octets
        assert b"\x02\x03" + (600_000).to_bytes(3, "big") in octets

    def test_never_overwrites(self, folder) -> None:
        """A file that exists is left alone (O_EXCL)."""
        path = folder / "ca.key"
        path.write_bytes(b"precious")
        key = ec.generate_private_key(ec.SECP256R1())
        text = refusal(lambda: write_private_key(path, key))
        assert "never written over another" in text
        assert b"precious" == path.read_bytes()

    def test_never_follows_a_link(self, folder) -> None:
        """A symbolic link, dangling or not, is no place for a key."""
        (folder / "ca.key").symlink_to(folder / "elsewhere")
        key = ec.generate_private_key(ec.SECP256R1())
        refusal(lambda: write_private_key(folder / "ca.key", key))
        assert not (folder / "elsewhere").exists()

    def test_a_failure_leaves_nothing(self, folder, monkeypatch) -> None:
        """A key that could not be made durable is not there at all."""

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        key = ec.generate_private_key(ec.SECP256R1())
        with pytest.raises(OSError, match="No space"):
            write_private_key(folder / "ca.key", key)
        assert [] == list(folder.iterdir())

    def test_file_and_directory_are_synced(self, folder, monkeypatch) -> None:
        """Both are on the disk when the call returns, the file first."""
        synced = []
        fsync = os.fsync

        def record(descriptor: int) -> None:
            synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", record)
        key = ec.generate_private_key(ec.SECP256R1())
        write_private_key(folder / "ca.key", key)
        assert [False, True] == synced

    def test_refuses_an_open_directory(self, folder) -> None:
        """No key goes where it would be refused when read."""
        folder.chmod(0o755)
        key = ec.generate_private_key(ec.SECP256R1())
        text = refusal(lambda: write_private_key(folder / "ca.key", key))
        assert f"chmod 700 {folder}" in text
        assert [] == list(folder.iterdir())


class ReadPrivateKeyTests:
    """A key is read only if nobody else could have read or replaced it."""

    def written(self, folder: Path) -> Path:
        path = folder / "ca.key"
        write_private_key(path, ec.generate_private_key(ec.SECP256R1()))
        return path

    @pytest.mark.parametrize("mode", [0o400, 0o600])
    def test_narrow_modes_are_fine(self, folder, mode) -> None:
        """0600 and what is narrower pass."""
        path = self.written(folder)
        path.chmod(mode)
        read_private_key(path)

    @pytest.mark.parametrize(
        "mode", [0o640, 0o604, 0o660, 0o644, 0o700, 0o610, 0o601, 0o622]
    )
    def test_wide_modes_are_refused(self, folder, mode) -> None:
        """A mode wider than 0600 is refused with the remedy (R-14)."""
        path = self.written(folder)
        path.chmod(mode)
        text = refusal(lambda: read_private_key(path))
        assert f"{mode:04o}" in text
        assert f"run: chmod 600 {path}" in text
        assert 1 == len(text.splitlines())

    def test_foreign_owner_is_refused(self, folder) -> None:
        """Another user's file is refused with the remedy (R-14)."""
        path = self.written(folder)
        stranger = os.geteuid() + 1
        text = refusal(lambda: read_private_key(path, owner=stranger))
        assert f"run: chown {stranger} {path}" in text

    def test_link_is_refused(self, folder) -> None:
        """A symbolic link is refused, and the file named (R-14)."""
        path = self.written(folder)
        (folder / "link").symlink_to(path)
        text = refusal(lambda: read_private_key(folder / "link"))
        assert "symbolic link" in text
        assert str(path) in text

    @pytest.mark.parametrize("mode", [0o755, 0o702, 0o704, 0o720, 0o770])
    def test_open_directory_is_refused(self, folder, mode) -> None:
        """Others must not list or change the directory (R-14)."""
        path = self.written(folder)
        folder.chmod(mode)
        text = refusal(lambda: read_private_key(path))
        assert f"run: chmod 700 {folder}" in text

    @pytest.mark.parametrize("mode", [0o700, 0o500, 0o750, 0o710, 0o711])
    def test_safe_directory_is_fine(self, folder, mode) -> None:
        """The group may read, and others may pass through."""
        path = self.written(folder)
        folder.chmod(mode)
        read_private_key(path)

    def test_missing_file(self, folder) -> None:
        """A file that is not there is one sentence, not a traceback."""
        text = refusal(lambda: read_private_key(folder / "none.key"))
        assert "No such file" in text

    def test_missing_directory(self, folder) -> None:
        """Nor is a directory that is not there."""
        key = ec.generate_private_key(ec.SECP256R1())
        text = refusal(lambda: write_private_key(folder / "no/ca.key", key))
        assert "No such file" in text

    def test_pipe_is_refused(self, folder) -> None:
        """A named pipe is refused, and does not hold up the start."""
        os.mkfifo(folder / "pipe", 0o600)
        text = refusal(lambda: read_private_key(folder / "pipe"))
        assert "no regular file" in text

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"nonsense",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            x25519.X25519PrivateKey.generate().private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
            dsa.generate_private_key(1024).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
        ],
    )
    def test_other_content_is_refused(self, content) -> None:
        """What is no key that signs certificates is refused by source."""
        text = refusal(lambda: load_private_key(content, None, "cred:ca"))
        assert text.startswith("cred:ca: ")

    def test_needless_passphrase_is_refused(self) -> None:
        """A passphrase for a plain key shows a mistaken assumption."""
        key = ec.generate_private_key(ec.SECP256R1())
        text = refusal(lambda: load_private_key(pkcs8(key), b"x", "k"))
        assert "not encrypted" in text

    def test_der_is_read(self) -> None:
        """DER serves as well as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        assert plain(key) == plain(load_private_key(plain(key), None, "k"))


class PKCS12Tests:
    """An existing CA comes as PKCS#12."""

    def written(self, folder: Path, *args) -> Path:
        path = folder / "ca.p12"
        path.write_bytes(pkcs12.serialize_key_and_certificates(*args))
        path.chmod(0o600)
        return path

    def test_key_certificate_and_chain(self, folder) -> None:
        """Key, certificate and the others come out, in order."""
        key = ec.generate_private_key(ec.SECP256R1())
        own = self_signed(key, "own")
        others = [self_signed(key, "first"), self_signed(key, "second")]
        path = self.written(
            folder, None, key, own, others, BestAvailableEncryption(b"pw")
        )
        found, certificate, chain = read_pkcs12(path, b"pw")
        assert plain(key) == plain(found)
        assert own.public_bytes(Encoding.DER) == certificate
        assert {one.public_bytes(Encoding.DER) for one in others} == set(chain)

    def test_wrong_passphrase(self, folder) -> None:
        """A wrong passphrase is one clear sentence."""
        key = ec.generate_private_key(ec.SECP256R1())
        own = self_signed(key, "own")
        path = self.written(
            folder, None, key, own, None, BestAvailableEncryption(b"pw")
        )
        text = refusal(lambda: read_pkcs12(path, b"no"))
        assert "passphrase is wrong" in text

    def test_key_without_certificate(self, folder) -> None:
        """A key alone is no CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        path = self.written(folder, None, key, None, None, NoEncryption())
        text = refusal(lambda: read_pkcs12(path, None))
        assert "is missing" in text

    def test_unfit_key(self, folder) -> None:
        """A DSA key signs nothing here."""
        key = dsa.generate_private_key(1024)
        own = self_signed(key, "own")
        path = self.written(folder, None, key, own, None, NoEncryption())
        text = refusal(lambda: read_pkcs12(path, None))
        assert "cannot sign certificates" in text

    def test_wide_mode(self, folder) -> None:
        """It holds a key, and is judged as a key file."""
        key = ec.generate_private_key(ec.SECP256R1())
        path = self.written(folder, None, key, None, None, NoEncryption())
        path.chmod(0o644)
        assert "chmod 600" in refusal(lambda: read_pkcs12(path, None))


class ReadCertificatesTests:
    """Chains come as PEM, one after another, or as one in DER."""

    def test_pem_chain_in_order(self, folder) -> None:
        """Each certificate comes out, in the order of the file."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = [self_signed(key, name) for name in ("b", "a", "c")]
        path = folder / "chain.pem"
        path.write_bytes(
            b"subject=b\n"
            + b"\n".join(one.public_bytes(Encoding.PEM) for one in made)
        )
        path.chmod(0o644)
        assert tuple(
            one.public_bytes(Encoding.DER) for one in made
        ) == read_certificates(path)

    def test_one_in_der(self, folder) -> None:
        """A DER file is one certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        octets = self_signed(key, "a").public_bytes(Encoding.DER)
        (folder / "ca.cer").write_bytes(octets)
        assert (octets,) == read_certificates(folder / "ca.cer")

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"nonsense",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ],
    )
    def test_no_certificate(self, folder, content) -> None:
        """What holds none, or a damaged one, is refused."""
        (folder / "chain.pem").write_bytes(content)
        text = refusal(lambda: read_certificates(folder / "chain.pem"))
        assert "no certificate in it" in text

    def test_missing_file(self, folder) -> None:
        """A file that is not there is one sentence."""
        text = refusal(lambda: read_certificates(folder / "none.pem"))
        assert "No such file" in text


class ReplaceFileTests:
    """A file is replaced wholly or not at all."""

    def test_replaces_with_mode(self, folder, umask) -> None:
        """Content and mode are as asked, under any umask."""
        path = folder / "chain.pem"
        replace_file(path, b"old", 0o600)
        replace_file(path, b"new", 0o644)
        assert b"new" == path.read_bytes()
        assert 0o644 == mode_of(path)
        assert [path] == list(folder.iterdir())

    def test_failure_keeps_the_old(self, folder, monkeypatch) -> None:
        """The old file stands until the new one is on the disk."""
        path = folder / "chain.pem"
        replace_file(path, b"old", 0o644)

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            replace_file(path, b"new", 0o644)
        assert b"old" == path.read_bytes()
        assert [path] == list(folder.iterdir())

    def test_a_link_is_replaced_not_followed(self, folder) -> None:
        """The name is replaced; what it pointed to is not touched."""
        (folder / "target").write_bytes(b"target")
        (folder / "link").symlink_to(folder / "target")
        replace_file(folder / "link", b"new", 0o600)
        assert b"target" == (folder / "target").read_bytes()
        assert not (folder / "link").is_symlink()


class PrivateDirectoryTests:
    """A directory for keys is its owner's alone."""

    def test_made_with_0700_under_any_umask(self, folder, umask) -> None:
        """It is made, and its mode is 0700."""
        private_directory(folder / "keys")
        assert 0o700 == mode_of(folder / "keys")

    def test_an_existing_one_is_checked(self, folder) -> None:
        """One that is there is not changed, but judged."""
        (folder / "keys").mkdir()
        (folder / "keys").chmod(0o755)
        text = refusal(lambda: private_directory(folder / "keys"))
        assert "chmod 700" in text
        (folder / "keys").chmod(0o750)
        private_directory(folder / "keys")
        assert 0o750 == mode_of(folder / "keys")


class SecrecyTests:
    """No error text holds key material."""

    def test_error_texts_hold_no_content(self) -> None:
        """A damaged key does not end up in the log (R-14)."""
        key = ec.generate_private_key(ec.SECP256R1())
        damaged = pkcs8(key).replace(b"MIG", b"MIH", 1)
        text = refusal(lambda: load_private_key(damaged, None, "k"))
        assert damaged.splitlines()[1].decode()[:20] not in text
        assert 600_000 == keyfiles.ROUNDS
