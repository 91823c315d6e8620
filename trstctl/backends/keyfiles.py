# SPDX-License-Identifier: MIT
"""
Private keys and certificates in files.

A private key is written once, never over another file, with mode 0600 under
any umask, and is on the disk when the call returns.  It is read only if
nobody else could have read or replaced it: a regular file, no symbolic link,
mode 0600 or narrower, the reader's own, in a directory that only its owner
may change and that the rest of the world may not list.

Keys are PKCS#8 (RFC 5958) in PEM.  With a passphrase they are encrypted by
PBES2 (RFC 8018, section 6.2) with PBKDF2, HMAC-SHA-256 and AES-256-CBC.
``cryptography`` writes the same form with 2048 rounds only, and its PKCS#12
writer, which takes a number of rounds, knows no ML-DSA; hence the few lines
of DER here.  Reading knows plain and encrypted PKCS#8, the older PEM forms,
DER, and PKCS#12.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.asymmetric import (
    ec,
    ed448,
    ed25519,
    mldsa,
    rsa,
)
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
)
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from trstctl.pkix import der

#: Rounds of PBKDF2 for a passphrase: what OWASP asks for HMAC-SHA-256.
ROUNDS = 600_000

#: No key or chain file is larger, bytes.
_LARGEST = 1 << 20

_SIGNING_KEYS = (
    rsa.RSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
    mldsa.MLDSA44PrivateKey,
    mldsa.MLDSA65PrivateKey,
    mldsa.MLDSA87PrivateKey,
)

_PBES2 = der.oid("1.2.840.113549.1.5.13")
_PBKDF2 = der.oid("1.2.840.113549.1.5.12")
_HMAC_SHA256 = der.oid("1.2.840.113549.2.9")
_AES256_CBC = der.oid("2.16.840.1.101.3.4.1.42")
_NULL = b"\x05\x00"


class KeyFileError(Exception):
    """
    A key or certificate file that cannot be used.

    The text is one sentence for the operator, with the remedy; it holds
    nothing of the file's content.
    """


# --- writing ----------------------------------------------------------------


def write_private_key(
    path: str | Path,
    key: CertificateIssuerPrivateKeyTypes,
    passphrase: bytes | None = None,
    *,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> None:
    """
    Write a new private key file, durably, that only its owner can read.

    :param path: must not exist, not even as a symbolic link.
    :param passphrase: secret; encrypts the key unless it is ``None``.
    :param random_bytes: source of the salt and the IV.
    :raises KeyFileError: the file exists, or the directory is not safe.
    :raises OSError: the file cannot be written; nothing is left behind.
    """
    path = Path(path)
    if passphrase is None:
        content = key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    else:
        plain = key.private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
        )
        content = _pem(
            "ENCRYPTED PRIVATE KEY",
            _encrypted_key(plain, passphrase, random_bytes),
        )
    _check_directory(path.parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        descriptor = os.open(
            path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode=0o600
        )
    except FileExistsError:
        raise KeyFileError(
            f"{path}: a file with this name exists, and a key is never "
            "written over another; move it away or choose another name"
        ) from None
    try:
        _fill(descriptor, content, 0o600)
    except BaseException:
        # Half a key would stand in the way of the next try.
        path.unlink()
        raise
    sync_directory(path.parent)


def replace_file(path: str | Path, content: bytes, mode: int) -> None:
    """
    Replace a file, or create it: wholly or, whatever happens, not at all.

    :param mode: the permission bits, under any umask.
    :raises OSError: it cannot be written; the old file is untouched.
    """
    path = Path(path)
    descriptor, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=".new"
    )
    try:
        _fill(descriptor, content, mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
    sync_directory(path.parent)


def destroy_file(
    path: str | Path, random_bytes: Callable[[int], bytes] = os.urandom
) -> None:
    """
    Overwrite a file once, and remove it.

    What a file system or a disk keeps beside it, and every backup, it does
    not reach.

    :raises OSError: it cannot be written or removed.
    """
    path = Path(path)
    with path.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        stream.write(random_bytes(size))
        stream.flush()
        os.fsync(stream.fileno())
    path.unlink()
    sync_directory(path.parent)


def private_directory(path: str | Path) -> None:
    """
    Make a directory for private keys, or check the one that is there.

    :raises KeyFileError: it exists, and others could list or change it.
    """
    path = Path(path)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
        path.chmod(0o700)
        sync_directory(path.parent)
    _check_directory(path)


def _fill(descriptor: int, content: bytes, mode: int) -> None:
    """Write all, set the mode, sync and close."""
    with open(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Make the directory's new entry survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encrypted_key(
    plain: bytes, passphrase: bytes, random_bytes: Callable[[int], bytes]
) -> bytes:
    """Return EncryptedPrivateKeyInfo (RFC 5958, section 3) by PBES2."""
    salt, iv = random_bytes(16), random_bytes(16)
    derived = hashlib.pbkdf2_hmac("sha256", passphrase, salt, ROUNDS, 32)
    pad = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(derived), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(pad.update(plain) + pad.finalize())
    derivation = der.sequence(
        der.octet_string(salt),
        der.integer(ROUNDS),
        der.sequence(_HMAC_SHA256, _NULL),
    )
    parameters = der.sequence(
        der.sequence(_PBKDF2, derivation),
        der.sequence(_AES256_CBC, der.octet_string(iv)),
    )
    return der.sequence(
        der.sequence(_PBES2, parameters),
        der.octet_string(sealed + encryptor.finalize()),
    )


def _pem(label: str, content: bytes) -> bytes:
    """Return the textual encoding (RFC 7468, section 3)."""
    text = base64.b64encode(content)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join(
        (
            f"-----BEGIN {label}-----".encode("ascii"),
            *lines,
            f"-----END {label}-----\n".encode("ascii"),
        )
    )


# --- reading ----------------------------------------------------------------


def read_private_key(
    path: str | Path,
    passphrase: bytes | None = None,
    *,
    owner: int | None = None,
) -> CertificateIssuerPrivateKeyTypes:
    """
    Read a private key that nobody else could have read or replaced.

    :param passphrase: secret; ``None`` for a key that is not encrypted.
    :param owner: user id that must own the file; this process's by default.
    :raises KeyFileError: with the remedy.
    """
    path = Path(path)
    return load_private_key(_read_secret(path, owner), passphrase, str(path))


def read_secret_file(path: str | Path, *, owner: int | None = None) -> bytes:
    """
    Read a file that nobody else could have read or replaced.

    :param owner: user id that must own the file; this process's by default.
    :raises KeyFileError: with the remedy.
    """
    return _read_secret(Path(path), owner)


def load_private_key(
    content: bytes, passphrase: bytes | None, source: str
) -> CertificateIssuerPrivateKeyTypes:
    """
    Return the private key in PEM or DER octets.

    :param source: what an error calls the octets; such as a path.
    :raises KeyFileError: no key, no signing key, or a wrong passphrase.
    """
    load = (
        load_pem_private_key
        if content.lstrip().startswith(b"-----BEGIN ")
        else load_der_private_key
    )
    try:
        key = load(content, passphrase)
    except TypeError:
        # The library tells the two apart by its text only.
        raise KeyFileError(
            f"{source}: the key is encrypted; give its passphrase"
            if passphrase is None
            else f"{source}: the key is not encrypted; give no passphrase"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        if passphrase is None:
            raise KeyFileError(
                f"{source}: there is no private key in it, or one of a kind "
                "that is not supported; give a PEM file with PKCS#8"
            ) from None
        raise KeyFileError(
            f"{source}: the passphrase is wrong, or the file is damaged"
        ) from None
    return _signing_key(key, source)


def read_pkcs12(
    path: str | Path, passphrase: bytes | None, *, owner: int | None = None
) -> tuple[CertificateIssuerPrivateKeyTypes, bytes, tuple[bytes, ...]]:
    """
    Read a private key with its certificates from PKCS#12 (RFC 7292).

    :param passphrase: secret; ``None`` for a file without encryption.
    :returns: the key, its certificate, and the other certificates in the
        order of the file; DER.
    :raises KeyFileError: as :func:`read_private_key` does.
    """
    path = Path(path)
    content = _read_secret(path, owner)
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(
            content, passphrase
        )
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(
            f"{path}: the passphrase is wrong, or it is no PKCS#12 file"
        ) from None
    if key is None or certificate is None:
        raise KeyFileError(
            f"{path}: a private key with its certificate is missing; export "
            "both into one PKCS#12 file"
        )
    return (
        _signing_key(key, str(path)),
        certificate.public_bytes(Encoding.DER),
        tuple(other.public_bytes(Encoding.DER) for other in others),
    )


def read_certificates(path: str | Path) -> tuple[bytes, ...]:
    """
    Read certificates in the order of the file: any number in PEM, or one
    in DER.

    :returns: DER.
    :raises KeyFileError: none in it, or one that does not decode.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST)
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        if b"-----BEGIN " in content:
            found = x509.load_pem_x509_certificates(content)
        else:
            found = [x509.load_der_x509_certificate(content)]
    except ValueError:
        raise KeyFileError(
            f"{path}: there is no certificate in it, or a damaged one; give "
            "PEM certificates"
        ) from None
    return tuple(one.public_bytes(Encoding.DER) for one in found)


def to_pem(certificates: Sequence[bytes]) -> bytes:
    """Return certificates as PEM, in order."""
    return b"".join(
        x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
        for der in certificates
    )


def _signing_key(key: object, source: str) -> CertificateIssuerPrivateKeyTypes:
    """Refuse keys of other kinds, such as for key agreement."""
    if not isinstance(key, _SIGNING_KEYS):
        raise KeyFileError(
            f"{source}: the key is of a kind that cannot sign certificates; "
            "use EC, Ed25519, RSA or ML-DSA"
        )
    return key


def _read_secret(path: Path, owner: int | None) -> bytes:
    """Return the file's octets, once it is known to be safe."""
    wanted = os.geteuid() if owner is None else owner
    # Without O_NONBLOCK a named pipe would hold up the start for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise KeyFileError(
                f"{path}: a private key must not be a symbolic link; name "
                f"the file itself, {os.path.realpath(path)}"
            ) from None
        raise _unreadable(path, error) from None
    with open(descriptor, "rb") as stream:  # noqa: PTH123 (a descriptor)
        # The open file is judged, not its name: no gap to race through.
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(
                f"{path}: it is no regular file; name the key file itself"
            )
        if status.st_uid != wanted:
            raise KeyFileError(
                f"{path}: it belongs to user {status.st_uid}, not to the "
                f"service's user {wanted}; run: chown {wanted} {path}"
            )
        if status.st_mode & 0o177:
            raise KeyFileError(
                f"{path}: others may read it (mode "
                f"{stat.S_IMODE(status.st_mode):04o}); run: chmod 600 {path}"
            )
        _check_directory(path.parent)
        return stream.read(_LARGEST)


def _check_directory(path: Path) -> None:
    """
    Refuse a directory in which others could swap a key for theirs, or
    which the whole world may list.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(path, error) from None
    if mode & 0o026:
        raise KeyFileError(
            f"{path}: others may list or change this directory of private "
            f"keys (mode {stat.S_IMODE(mode):04o}); run: chmod 700 {path}"
        )


def _unreadable(path: Path, error: OSError) -> KeyFileError:
    """Return the error for a file that cannot be opened at all."""
    return KeyFileError(
        f"{path}: it cannot be read ({error.strerror}); check the path, and "
        "that the service's user may read it"
    )
