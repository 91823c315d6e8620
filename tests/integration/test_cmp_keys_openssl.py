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
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
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
#: Where what is not confirmed soon is revoked.
HASTY = PROTOCOLS.replace("profile:", "confirm_timeout: 10s, profile:")

#: How many failure points of each kind; all of them in the long form.
LONG = int(os.environ.get("TRSTCTL_DRILL_ROUNDS", "1"))
PARTIES = ["secret", "certificate"][:LONG]

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
    name: str = "device"

    def protect(self, body: PKIBody, **header: Any) -> bytes:
        """Return a message."""
        is_rsa = isinstance(self.key, rsa.RSAPrivateKey)
        name = "sha256-with-rsa" if is_rsa else "ecdsa-with-sha256"
        prepared = prepare(
            PKIHeader(
                pvno=3,
                sender=party(named(self.name)),
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
    fail_at: str = ""

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

    def secret(self) -> Secret:
        """Return a secret that nobody has used."""
        if not self.secrets:
            self.secrets = make_secrets(self.gateway)
        return self.secrets.pop()

    def up(self, fail_at: str = "") -> None:
        """See that the gateway runs, and where it is to be killed."""
        if self.gateway.process is not None and self.fail_at != fail_at:
            self.gateway.stop()
        if self.gateway.process is None:
            self.fail_at = fail_at
            self.gateway.start(fail_at=fail_at)

    def lose(self, message: bytes) -> None:
        """Send a message that kills the gateway before it answers."""
        with pytest.raises((OSError, HTTPException)):
            self.send(message)
        self.gateway.wait()

    def abandoned(self) -> int:
        """Return how many promises have come to nothing."""
        events = [row["event"] for row in self.gateway.audit_events()]
        return events.count("intent.abandoned")

    def statuses(self, name: str) -> list[str]:
        """Return what has become of the certificates of a common name."""
        printed = trstctl(
            *("cert", "list", "--output", "json"), config=self.gateway.config
        )
        return sorted(
            row["status"]
            for row in json.loads(printed)
            if row["subject"] == f"CN={name}"
        )

    def first(self) -> dict[str, bytes]:
        """Return what the header of a first message says."""
        return {
            "transaction_id": os.urandom(16),
            "sender_nonce": os.urandom(16),
        }

    def confirmation(
        self, by: Any, answer: bytes, certificate: bytes
    ) -> bytes:
        """Return the certConf of a certificate."""
        header = read_message(answer).header
        message: bytes = by.protect(
            confirms(certificate),
            transaction_id=header.transaction_id,
            sender_nonce=os.urandom(16),
            recip_nonce=header.sender_nonce,
        )
        return message

    def confirm(self, by: Any, answer: bytes, certificate: bytes) -> None:
        """Confirm a certificate."""
        done = self.send(self.confirmation(by, answer, certificate))
        assert "pkiconf" == read_message(done).body.type

    def enroll(self, by: Any, name: str) -> None:
        """Get a key with its certificate, and confirm it."""
        kind = "ir" if isinstance(by, Secret) else "kur"
        answer = self.send(by.protect(asks(kind, name), **self.first()))
        key, certificate = (
            self.key(answer, owner_of(by)),
            certificate_of(answer),
        )
        assert is_of(certificate, key)
        self.confirm(by, answer, certificate)

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

    def enrolled(self, key: Any, name: str = "device") -> Device:
        """Return a certificate that came encrypted, and was confirmed."""
        secret = self.secret()
        answer = self.send(
            secret.protect(asks("ir", name, key), **self.first())
        )
        ((_, content, whole),) = pair_of(answer)
        del whole
        certificate = self.decrypted(enveloped((0, content, b"")), key)
        assert certificate not in answer
        self.confirm(secret, answer, certificate)
        return Device(certificate, key, name)

    def asking(self, kind: str, name: str) -> tuple[Any, bytes]:
        """Return who asks for a key, and the request."""
        self.up()
        asking: Any = self.secret()
        verb = "ir"
        if kind == "certificate":
            own = ec.generate_private_key(ec.SECP256R1())
            asking, verb = self.enrolled(own, name), "kur"
        return asking, asking.protect(asks(verb, name), **self.first())


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


def owner_of(party: Any) -> Any:
    """Return what decrypts what is meant for a party."""
    return party if isinstance(party, Secret) else party.key


def is_refused(answer: bytes) -> bool:
    """Tell whether a request was refused, and brought no certificate."""
    body = read_message(answer).body
    if body.type == "error":
        return True
    responses = der.children(der.content(body.value, der.SEQUENCE))[-1]
    (response,) = der.children(responses[1])
    return len(der.children(response[1])) == 2  # certReqId and status


def is_of(certificate: bytes, key: Any) -> bool:
    """Tell whether a certificate is of a key."""
    loaded = x509.load_der_x509_certificate(certificate)
    return bool(loaded.public_key() == key.public_key())


def make_secrets(gateway: Gateway) -> list[Secret]:
    """Return four secrets that nobody has used."""
    printed = trstctl(
        *("challenge", "create", "--for", "cmp", "--any-name"),
        *("--profile", "keys", "--count", "4", "--output", "json"),
        config=gateway.config,
    )
    return [Secret(row["id"], row["challenge"]) for row in json.loads(printed)]


@contextmanager
def serving(folder: Path, protocols: str = PROTOCOLS) -> Iterator[Site]:
    """Run a gateway that makes keys."""
    require_client("openssl")
    gateway = Gateway(folder / "state", http_port=free_port())
    gateway.configure(protocols, PROFILES)
    gateway.start()
    try:
        yield Site(gateway, folder, make_secrets(gateway))
        gateway.verify_audit()
    finally:
        gateway.end()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return one gateway for all."""
    with serving(tmp_path_factory.mktemp("keys")) as found:
        yield found


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


@pytest.fixture(scope="class")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return one gateway for all drills; its own certificates are made."""
    with serving(tmp_path_factory.mktemp("drills")) as found:
        found.enroll(found.secrets.pop(), "before")
        yield found


class DrillTests:
    """Killed with a key that is nowhere else: never two that are valid."""

    @pytest.mark.parametrize("kind", PARTIES)
    @pytest.mark.parametrize(
        "point", ["after-sign", "after-intent", "inside-sign"][:LONG]
    )
    def test_before_there_is_a_certificate(
        self, drilled: Site, point: str, kind: str
    ) -> None:
        """The same message gets another key, and the one certificate; what
        was promised to the first key is no certificate."""
        site, name = drilled, f"{kind}-{point}"
        asking, message = site.asking(kind, name)
        before = site.abandoned()
        site.up(fail_at=point)
        site.lose(message)
        site.up()
        answer = site.send(message)
        certificate = certificate_of(answer)
        assert is_of(certificate, site.key(answer, owner_of(asking)))
        assert answer == site.send(message)
        site.confirm(asking, answer, certificate)
        assert in_service(kind) == site.statuses(name)
        assert before + 1 == site.abandoned()

    @pytest.mark.parametrize("kind", PARTIES)
    def test_before_the_answer(self, drilled: Site, kind: str) -> None:
        """The key is gone with the process: nobody is given its certificate,
        which replaces nothing."""
        site, name = drilled, f"{kind}-lost"
        _, message = site.asking(kind, name)
        site.up(fail_at="after-commit")
        site.lose(message)
        site.up()
        for _ in range(2):
            assert is_refused(site.send(message))
        assert "superseded" not in site.statuses(name)
        if kind == "secret":
            site.enroll(site.secret(), name)

    @pytest.mark.skipif(LONG < 2, reason="it waits for ten seconds")
    @pytest.mark.parametrize("kind", PARTIES)
    def test_what_nobody_has_is_revoked(
        self, tmp_path: Path, kind: str
    ) -> None:
        """In time; who begins anew then gets another, which is the only one
        that is valid."""
        with serving(tmp_path, HASTY) as site:
            site.enroll(site.secret(), "before")
            asking, message = site.asking(kind, "lost")
            site.up(fail_at="after-commit")
            site.lose(message)
            late = time.monotonic() + 11
            site.up()
            assert is_refused(site.send(message))
            time.sleep(max(0.0, late - time.monotonic()))
            site.gateway.stop(signal.SIGKILL)
            site.up()
            assert site.statuses("lost")[0] == "revoked"
            assert is_refused(site.send(message))
            site.enroll(site.secret() if kind == "secret" else asking, "lost")
            assert 1 == site.statuses("lost").count("valid")

    @pytest.mark.parametrize("kind", PARTIES)
    @pytest.mark.parametrize(
        "point", ["before-confirm", "after-confirm"][:LONG]
    )
    def test_before_it_is_confirmed(
        self, drilled: Site, point: str, kind: str
    ) -> None:
        """Killed once the answer is out, and again while it is confirmed:
        the same answer, the same key, the same certificate."""
        site, name = drilled, f"{kind}-{point}"
        asking, message = site.asking(kind, name)
        answer = site.send(message)
        site.gateway.stop(signal.SIGKILL)
        site.up(fail_at=point)
        assert answer == site.send(message)
        certificate = certificate_of(answer)
        taken = site.confirmation(asking, answer, certificate)
        site.lose(taken)
        site.up()
        for _ in range(2):
            assert "pkiconf" == read_message(site.send(taken)).body.type
        assert is_of(certificate, site.key(answer, owner_of(asking)))
        assert in_service(kind) == site.statuses(name)


def in_service(kind: str) -> list[str]:
    """Return what becomes of a device's certificates, once all is well."""
    return ["valid"] if kind == "secret" else ["superseded", "valid"]
