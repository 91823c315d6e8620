# SPDX-License-Identifier: MIT
"""
Keys that a gateway in a process of its own has made for CMP clients, and
certificates encrypted to their keys: opened by ``openssl cms``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from pyasn1.codec.der import decoder, encoder
from pyasn1_alt_modules import rfc5958
from running import TENANT, Gateway, free_port, require_client, trstctl
from second_decoder import read_answer

from trstctl.model import NameAttribute
from trstctl.pkix import algorithms, der
from trstctl.pkix.cmp import PKIBody, prepare, read_message
from trstctl.pkix.cmp_header import PKIHeader, party
from trstctl.pkix.cmp_mac import HMACS, read_mac
from trstctl.pkix.cmp_protection import PBMAC1
from trstctl.pkix.cms import (
    ENVELOPED_DATA,
    SIGNED_DATA,
    content_info,
    key_identifier,
)
from trstctl.pkix.crmf_template import CertTemplate

PROTOCOLS = (
    f'cmp: {{enabled: true, tenant_id: "{TENANT}", profile: keys, '
    "central_key_generation: true}"
)
PROFILES = (
    "profiles: {keys: {server_key_generation: true, "
    "key_usage: [digitalSignature, keyEncipherment, keyAgreement]}}\n"
)
ENCIPHERMENT, AGREEMENT = b"\xa2\x03\x81\x01\x00", b"\xa3\x03\x81\x01\x00"

pytestmark = pytest.mark.interop


def named(text: str) -> Any:
    """Return a name of one common name."""
    return ((NameAttribute("2.5.4.3", text),),)


def spki(key: Any) -> bytes:
    """Return the SubjectPublicKeyInfo."""
    octets: bytes = key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return octets


def asks(kind: str, name: str, key: Any = None) -> PKIBody:
    """Return a request for a certificate of a key, or for both."""
    template, proof = CertTemplate(subject=named(name)), b""
    if key is not None:
        template = CertTemplate(subject=named(name), public_key=spki(key))
        is_rsa = isinstance(key, rsa.RSAPrivateKey)
        proof = ENCIPHERMENT if is_rsa else AGREEMENT
    request = der.sequence(der.integer(0), template.der())
    return PKIBody(kind, der.sequence(der.sequence(request, proof)))


def confirms(certificate: bytes) -> PKIBody:
    """Return a certConf."""
    digest = hashlib.sha256(certificate).digest()
    status = der.sequence(der.octet_string(digest), der.integer(0))
    return PKIBody("certConf", der.sequence(status))


@frozen
class Secret:
    """A shared secret, and what protects by it."""

    reference: str
    text: str

    def protect(self, body: PKIBody, **header: Any) -> bytes:
        """Return a message."""
        hmac = read_mac(der.sequence(der.oid(HMACS["sha256"]), b"\x05\x00"))
        assert hmac is not None
        mac = PBMAC1("sha256", os.urandom(16), 1000, hmac, 32)
        prepared = prepare(
            PKIHeader(
                pvno=3,
                sender=party(named(self.reference)),
                recipient=party(named("CA")),
                protection_alg=mac.der(),
                sender_kid=self.reference.encode(),
                **header,
            ),
            body,
        )
        key = mac.derive(self.text.encode())
        return prepared.finish(mac.compute(key, prepared.protected_part))


@frozen
class Device:
    """A certificate with its key, and what protects by it."""

    certificate: bytes
    key: Any

    def protect(self, body: PKIBody, **header: Any) -> bytes:
        """Return a message."""
        is_rsa = isinstance(self.key, rsa.RSAPrivateKey)
        name = "sha256-with-rsa" if is_rsa else "ecdsa-with-sha256"
        prepared = prepare(
            PKIHeader(
                pvno=3,
                sender=party(named("device")),
                recipient=party(named("CA")),
                protection_alg=algorithms.algorithm_identifier(name),
                sender_kid=key_identifier(self.certificate),
                **header,
            ),
            body,
        )
        signature = algorithms.sign(self.key, name, prepared.protected_part)
        return prepared.finish(signature, (self.certificate,))


@define
class Site:
    """A gateway, and what an operator hands to those who enroll."""

    gateway: Gateway
    folder: Path
    secrets: list[Secret] = field(factory=list)

    def send(self, message: bytes) -> bytes:
        """Send a message, and return the answer."""
        request = urllib.request.Request(
            f"http://localhost:{self.gateway.http_port}/cmp",
            message,
            {"Content-Type": "application/pkixcmp"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            octets: bytes = answer.read()
        read_answer(octets)
        return octets

    def first(self) -> dict[str, bytes]:
        """Return what the header of a first message says."""
        return {
            "transaction_id": os.urandom(16),
            "sender_nonce": os.urandom(16),
        }

    def confirm(self, by: Any, answer: bytes, certificate: bytes) -> None:
        """Confirm a certificate."""
        header = read_message(answer).header
        done = self.send(
            by.protect(
                confirms(certificate),
                transaction_id=header.transaction_id,
                sender_nonce=os.urandom(16),
                recip_nonce=header.sender_nonce,
            )
        )
        assert "pkiconf" == read_message(done).body.type

    def cms(self, message: bytes, *options: str | Path) -> bytes:
        """Return what ``openssl cms`` makes of a message."""
        source, target = self.folder / "message", self.folder / "content"
        source.write_bytes(message)
        done = subprocess.run(
            [
                *("openssl", "cms", "-inform", "DER", "-binary"),
                *("-in", source, "-out", target, *options),
            ],
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert 0 == done.returncode, done.stderr
        return target.read_bytes()

    def decrypted(self, message: bytes, owner: Any) -> bytes:
        """Return what an owner's key, or a secret, decrypts."""
        if isinstance(owner, Secret):
            return self.cms(message, "-decrypt", "-pwri_password", owner.text)
        secret = self.folder / "owner.key"
        secret.write_bytes(
            owner.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
        )
        return self.cms(message, "-decrypt", "-inkey", secret)

    def key(self, answer: bytes, owner: Any) -> Any:
        """Return the key in an answer, once OpenSSL has verified it."""
        _, field_ = pair_of(answer)
        content = self.decrypted(enveloped(field_), owner)
        package = self.cms(
            content_info(SIGNED_DATA, content),
            *("-verify", "-purpose", "any"),
            *("-CAfile", self.gateway.root),
        )
        (one,), rest = decoder.decode(package, rfc5958.AsymmetricKeyPackage())
        assert b"" == rest
        plain = rfc5958.OneAsymmetricKey()
        plain["version"] = 0
        for name in ("privateKeyAlgorithm", "privateKey"):
            plain[name] = one[name]
        return load_der_private_key(encoder.encode(plain), None)

    def enrolled(self, key: Any) -> Device:
        """Return a certificate that came encrypted, and was confirmed."""
        secret = self.secrets.pop()
        answer = self.send(
            secret.protect(asks("ir", "device", key), **self.first())
        )
        ((_, content, whole),) = pair_of(answer)
        del whole
        certificate = self.decrypted(enveloped((0, content, b"")), key)
        assert certificate not in answer
        self.confirm(secret, answer, certificate)
        return Device(certificate, key)


def pair_of(answer: bytes) -> list[tuple[int, bytes, bytes]]:
    """Return the fields of the one CertifiedKeyPair."""
    body = read_message(answer).body
    responses = der.children(der.content(body.value, der.SEQUENCE))[-1]
    (response,) = der.children(responses[1])
    return der.children(der.children(response[1])[2][1])


def enveloped(field_: tuple[int, bytes, bytes]) -> bytes:
    """Return the EnvelopedData of an EncryptedKey as a ContentInfo."""
    ((_, fields, _),) = der.children(field_[1])
    return content_info(ENVELOPED_DATA, der.tlv(der.SEQUENCE, fields))


def certificate_of(answer: bytes) -> bytes:
    """Return the certificate beside a new key."""
    ((_, _, certificate),) = der.children(pair_of(answer)[0][1])
    return certificate


def is_of(certificate: bytes, key: Any) -> bool:
    """Tell whether a certificate is of a key."""
    loaded = x509.load_der_x509_certificate(certificate)
    return bool(loaded.public_key() == key.public_key())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return one gateway for all."""
    require_client("openssl")
    folder = tmp_path_factory.mktemp("keys")
    gateway = Gateway(folder / "state", http_port=free_port())
    gateway.configure(PROTOCOLS, PROFILES)
    gateway.start()
    try:
        printed = trstctl(
            *("challenge", "create", "--for", "cmp", "--any-name"),
            *("--profile", "keys", "--count", "4", "--output", "json"),
            config=gateway.config,
        )
        secrets = [
            Secret(row["id"], row["challenge"]) for row in json.loads(printed)
        ]
        yield Site(gateway, folder, secrets)
        gateway.verify_audit()
    finally:
        gateway.end()


class KeyTests:
    """RFC 9483, section 4.1.6."""

    def test_under_a_secret_across_a_restart(self, site: Site) -> None:
        """The answer outlives the process, and the key is kept nowhere."""
        secret, gateway = site.secrets.pop(), site.gateway
        message = secret.protect(asks("ir", "device"), **site.first())
        answer = site.send(message)
        key = site.key(answer, secret)
        certificate = certificate_of(answer)
        assert is_of(certificate, key)
        gateway.stop()
        gateway.start()
        assert answer == site.send(message)
        site.confirm(secret, answer, certificate)
        number = key.private_numbers().private_value.to_bytes(32, "big")
        forms = (number, number.hex().encode(), base64.b64encode(number))
        files = [path for path in gateway.folder.rglob("*") if path.is_file()]
        assert len(files) > 1
        for path in (*files, gateway.log):
            octets = path.read_bytes()
            assert not any(form in octets for form in forms), path

    @pytest.mark.parametrize(
        "make",
        [
            lambda: rsa.generate_private_key(65537, 2048),
            lambda: ec.generate_private_key(ec.SECP384R1()),
        ],
        ids=["transport", "agreement"],
    )
    def test_to_a_certificate(self, site: Site, make: Any) -> None:
        """By key transport and by key agreement, after the proof by both."""
        device = site.enrolled(make())
        answer = site.send(
            device.protect(asks("kur", "device"), **site.first())
        )
        key, certificate = site.key(answer, device.key), certificate_of(answer)
        assert is_of(certificate, key)
        site.confirm(device, answer, certificate)
