# SPDX-License-Identifier: MIT
"""Requests, and the credentials that come with them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from trstctl.backends.passwords import (
    new_secret,
    scrypt_verifier,
    secret_digest,
    token_verifier,
)
from trstctl.challenges import texts_under
from trstctl.interfaces import IStore
from trstctl.minting import canonical_order, mint_challenges
from trstctl.model import (
    CertificateRequest,
    CredentialRecord,
    MintedSecret,
    OneTimeSecret,
    SecretOrder,
)
from trstctl.pkix.csr import read_csr
from trstctl.testing.time import (
    EPOCH,
    TENANT,
    DeterministicBytes,
    result_of,
)

Key = ec.EllipticCurvePrivateKey


_GENERAL_NAMES: Mapping[str, Callable[[str], x509.GeneralName]] = {
    "dns": x509.DNSName,
    "email": x509.RFC822Name,
    "uri": x509.UniformResourceIdentifier,
    "ip": lambda value: x509.IPAddress(ip_address(value)),
}


def make_csr(
    common_name: str = "device.example",
    names: Sequence[str] = (),
    key: Key | None = None,
) -> bytes:
    """
    Return a DER certification request, signed with SHA-256.

    :param common_name: empty for an empty subject.
    :param names: alternative names, as ``dns:host.example``,
        ``ip:192.0.2.1``, ``email:`` or ``uri:``.
    :param key: its key; a fresh P-256 key by default.
    """
    subject = []
    if common_name:
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    builder = x509.CertificateSigningRequestBuilder(x509.Name(subject))
    if names:
        made = []
        for name in names:
            kind, _, value = name.partition(":")
            made.append(_GENERAL_NAMES[kind](value))
        builder = builder.add_extension(
            x509.SubjectAlternativeName(made), critical=False
        )
    signed = builder.sign(
        key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    )
    return signed.public_bytes(Encoding.DER)


def make_request(
    common_name: str = "device.example",
    names: Sequence[str] = (),
    key: Key | None = None,
) -> CertificateRequest:
    """Return what :func:`make_csr` makes, read."""
    return read_csr(make_csr(common_name, names, key))


#: The keys of challenges where tests meet.
CHALLENGE_KEYS: Mapping[int, bytes] = {1: bytes(range(32))}

# --- credentials ------------------------------------------------------------


def add_password(
    store: IStore,
    username: str,
    password: str,
    *,
    tenant_id: str = TENANT,
    names: tuple[str, ...] = (),
    profiles: tuple[str, ...] = (),
    now: datetime = EPOCH,
    expires_at: datetime | None = None,
) -> None:
    """
    Let somebody enroll with a name and password (see :func:`basic`).

    :param names: patterns that the requested names must match.
    :param profiles: the profiles that it may use; any, if empty.
    """
    _add_credential(
        store,
        CredentialRecord(
            tenant_id,
            "basic",
            username,
            # The cheapest scrypt: what a test has to hide is not much.
            scrypt_verifier(password, DeterministicBytes(username), log2_n=1),
            names,
            profiles,
            now,
            expires_at,
        ),
    )


def add_token(
    store: IStore,
    name: str,
    *,
    kind: str = "bearer",
    tenant_id: str = TENANT,
    names: tuple[str, ...] = (),
    profiles: tuple[str, ...] = (),
    now: datetime = EPOCH,
    expires_at: datetime | None = None,
) -> str:
    """
    Let somebody enroll with a bearer token (see :func:`bearer`).

    :param kind: ``registrar`` for one that makes single-use secrets instead.
    :returns: the token.
    """
    secret = new_secret(DeterministicBytes(f"token {tenant_id} {name}"))
    token = f"{name}.{secret}"
    _add_credential(
        store,
        CredentialRecord(
            tenant_id,
            kind,
            name,
            token_verifier(token),
            names,
            profiles,
            now,
            expires_at,
        ),
    )
    return token


def _add_credential(store: IStore, record: CredentialRecord) -> None:
    """Add a standing credential."""
    result_of(store.add_credential(record, "test"))


def add_one_time_token(
    store: IStore,
    name: str,
    *,
    tenant_id: str = TENANT,
    profile: str = "device",
    names: tuple[str, ...] = (),
    key_fingerprint: str = "",
    protocol: str = "bootstrap",
    now: datetime = EPOCH,
    life: timedelta = timedelta(days=1),
) -> str:
    """
    Let somebody enroll once.

    :param name: the secret's public id.
    :param key_fingerprint: of the only public key that it is for.
    :param protocol: any but ``bootstrap`` makes it no token for anybody.
    :returns: the secret.
    """
    secret = new_secret(DeterministicBytes(f"once {tenant_id} {name}"))
    record = OneTimeSecret(
        tenant_id,
        name,
        secret_digest(secret),
        profile,
        names,
        now,
        now + life,
        key_fingerprint=key_fingerprint,
        protocol=protocol,
    )
    result_of(store.add_secrets((record,), "test"))
    return secret


def add_challenge(
    store: IStore,
    *,
    tenant_id: str = TENANT,
    now: datetime = EPOCH,
    **wishes: Any,
) -> MintedSecret:
    """
    Let a device enroll with a challenge of our own.

    :param wishes: of :class:`~trstctl.model.SecretOrder`; by default one
        certificate of the profile ``device`` over SCEP.
    :returns: the challenge, with what the store keeps of it.
    """
    wishes = {"profile": "device", "protocol": "scep", **wishes}
    (made,) = mint_challenges(
        tenant_id,
        canonical_order(SecretOrder(**wishes)),
        now,
        DeterministicBytes(f"challenge {tenant_id} {sorted(wishes.items())}"),
        partial(texts_under, CHALLENGE_KEYS),
    )
    result_of(store.add_secrets((made.record,), "test"))
    return made


def basic(username: str, password: str) -> dict[str, str]:
    """Return the header of a name and password (RFC 7617)."""
    pair = f"{username}:{password}".encode()
    return {"Authorization": "Basic " + base64.b64encode(pair).decode()}


def bearer(token: str) -> dict[str, str]:
    """Return the header of a bearer token (RFC 6750)."""
    return {"Authorization": f"Bearer {token}"}
