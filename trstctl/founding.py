# SPDX-License-Identifier: MIT
"""
Makes what a gateway stands on: CA keys and certificates, and its TLS key.

Everything here is done once, at ``trstctl init``, at ``trstctl quickstart``,
or when the gateway first starts on an empty state directory whose
configuration names no authority.  A file that is there is never replaced.
"""

from __future__ import annotations

import ipaddress
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
)
from cryptography.hazmat.primitives.serialization import Encoding

from trstctl.backends.keyfiles import (
    load_private_key,
    private_directory,
    read_certificates,
    read_private_key,
    replace_file,
    sync_directory,
    to_pem,
    write_private_key,
)
from trstctl.ca.ceremony import (
    fingerprint,
    generate_key,
    make_issuing,
    make_root,
    public_octets,
)
from trstctl.config.model import AuthoritySettings
from trstctl.config.secrets import Secret, read_secret

#: Where the files of the first authority are, below the state directory.
CA_DIRECTORY = "ca"
TLS_DIRECTORY = "tls"

#: What a certificate of a public kind may be read by.
_PUBLIC = 0o644


@frozen
class Founded:
    """
    What was made, for the operator's eyes.

    :ivar root: DER of the root certificate.
    :ivar issuing: DER of the issuing CA's certificate.
    """

    root: bytes
    issuing: bytes

    @property
    def fingerprints(self) -> tuple[str, str]:
        """SHA-256 of root and issuing certificate, for comparison by eye."""
        return fingerprint(self.root), fingerprint(self.issuing)


def found_authority(
    state: Path,
    *,
    now: datetime,
    random_bytes: Callable[[int], bytes],
    organization: str = "trstctl",
    algorithm: str = "p-256",
    passphrase: bytes | None = None,
) -> Founded:
    """
    Make a root and an issuing CA and write their files.

    :param state: the state directory; its ``ca`` directory is made.
    :param organization: goes into the CAs' common names.
    :param algorithm: of both keys; see ``KEY_ALGORITHMS``.
    :param passphrase: secret; encrypts the root key only, since the gateway
        needs the issuing key unattended.
    :raises KeyFileError: a file of this name exists already.
    """
    directory = state / CA_DIRECTORY
    private_directory(state)
    private_directory(directory)
    root_key = generate_key(algorithm)
    issuing_key = generate_key(algorithm)
    root = make_root(root_key, f"{organization} Root CA", now, random_bytes)
    issuing = make_issuing(
        root_key,
        root,
        public_octets(issuing_key),
        f"{organization} Issuing CA",
        now,
        random_bytes,
    )
    write_private_key(directory / "root.key", root_key, passphrase)
    write_private_key(directory / "issuing.key", issuing_key)
    write_certificates(directory / "root.pem", [root])
    write_certificates(directory / "issuing.pem", [issuing])
    return Founded(root, issuing)


def found_whole(
    state: Path,
    *,
    now: datetime,
    random_bytes: Callable[[int], bytes],
) -> Founded:
    """
    Make a root and an issuing CA in a state directory, or nothing at all.

    Half a CA, left by a full disk, would keep every later start from making
    a whole one.

    :raises OSError: there is a CA directory by now, or it cannot be made.
    """
    private_directory(state)
    staging = Path(tempfile.mkdtemp(prefix=f".{CA_DIRECTORY}-", dir=state))
    try:
        founded = found_authority(staging, now=now, random_bytes=random_bytes)
        (staging / CA_DIRECTORY).rename(state / CA_DIRECTORY)
    finally:
        shutil.rmtree(staging)
    sync_directory(state)
    return founded


def is_untouched(state: Path, store: str) -> bool:
    """
    Tell whether nothing of a gateway is in the state directory yet.

    A directory that holds a database but no CA is not: something is missing
    there, and making a new CA would hide it.
    """
    kind, _, place = store.partition(":")
    database = Path(place) if kind == "sqlite" else None
    return not (
        (state / CA_DIRECTORY).exists()
        or database is None
        or database.exists()
    )


def write_certificates(path: Path, certificates: Sequence[bytes]) -> None:
    """Write certificates as PEM, in order, atomically."""
    replace_file(path, to_pem(certificates), _PUBLIC)


def load_key(
    reference: str,
    passphrase: str | None,
    environment: Mapping[str, str],
) -> CertificateIssuerPrivateKeyTypes:
    """
    Return the private key that a configuration refers to.

    :param passphrase: reference to its passphrase, or ``None``.
    :raises KeyFileError: no usable key there, or not well guarded.
    :raises SecretError: the reference leads nowhere.
    """
    secret: Secret | None = None
    if passphrase is not None:
        secret = read_secret(passphrase, environment)
    octets = secret.text.encode("utf-8") if secret else None
    kind, _, place = reference.partition(":")
    if kind == "file":
        return read_private_key(place, octets)
    found = read_secret(reference, environment)
    return load_private_key(found.octets, octets, reference)


def load_chain(settings: AuthoritySettings) -> tuple[bytes, ...]:
    """
    Return the DER chain of an authority: its own certificate first.

    :raises KeyFileError: a file has no certificate.
    """
    chain = read_certificates(settings.certificate)[:1]
    for path in settings.chain:
        chain += read_certificates(path)
    return chain


# --- the gateway's own TLS key ----------------------------------------------


def server_request(
    names: Sequence[str],
) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """
    Return a fresh P-256 key and a request for the server's certificate.

    P-256, whatever the CA's key: every TLS client of a device knows it.

    :param names: DNS names and IP addresses, the common name first.
    :returns: the key and the DER certification request.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    common_name = x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0][:64])
    builder = x509.CertificateSigningRequestBuilder(
        x509.Name([common_name])
    ).add_extension(
        x509.SubjectAlternativeName([_general_name(name) for name in names]),
        critical=False,
    )
    request = builder.sign(key, hashes.SHA256())
    return key, request.public_bytes(Encoding.DER)


def _general_name(name: str) -> x509.GeneralName:
    """Return an address as an address, and anything else as a DNS name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
