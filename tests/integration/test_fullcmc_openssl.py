# SPDX-License-Identifier: MIT
"""
Full CMC with other people's tools: pyasn1 writes a PKIData, ``openssl cms``
signs it, curl sends it, and ``openssl cms`` verifies the answer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from pyasn1.codec.der.decoder import decode
from pyasn1.codec.der.encoder import encode
from pyasn1.type import char, univ
from pyasn1_alt_modules import (
    rfc2986,
    rfc4231,
    rfc5280,
    rfc5652,
    rfc6402,
    rfc8017,
)
from running import TENANT, Gateway, require_client, trstctl

pytestmark = pytest.mark.interop

DOCS = Path(__file__).parents[2] / "docs" / "est.rst"
PATH = "/.well-known/est/fullcmc"
MEDIA = "application/pkcs7-mime; smime-type=CMC-request"
PROTOCOLS = (
    f'est: {{enabled: true, tenant_id: "{TENANT}", fullcmc: true, '
    "revocation_challenge: announced, labels: {held: {profile: held}, "
    "off: {fullcmc: false, revocation_challenge: off}}}"
)
HELD = (
    "profiles: {held: {approval: always, approval_retry_after: 1, "
    "subject: {CN: {required: true}}}}\n"
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return one gateway."""
    require_client("openssl", "curl")
    found = Gateway(tmp_path_factory.mktemp("cmc") / "state")
    found.configure(PROTOCOLS, HELD)
    found.start()
    found.add_password("device")
    try:
        yield found
    finally:
        found.end()


@frozen
class Received:
    """An answer, verified and read by others."""

    status: int
    headers: str
    cmc_status: int
    fail_info: int | None
    pend_token: bytes | None
    certificates: tuple[x509.Certificate, ...]
    controls: dict[str, Any]

    def certificate(self, key: Any) -> x509.Certificate:
        """Return the one of a key."""
        (found,) = (
            each
            for each in self.certificates
            if each.public_key() == key.public_key()
        )
        return found


@define
class Client:
    """A device with a key, and a directory for what it passes on."""

    gateway: Gateway
    folder: Path
    name: str
    key: ec.EllipticCurvePrivateKey

    def csr(self) -> bytes:
        """Return a request that asks for its subjectKeyIdentifier."""
        subject = x509.Name(
            [x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)]
        )
        return (
            x509.CertificateSigningRequestBuilder(subject)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(
                    self.key.public_key()
                ),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )

    def own(self) -> x509.Certificate:
        """Return a certificate that the key has signed for itself."""
        name = x509.Name(
            [x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)]
        )
        root = x509.load_pem_x509_certificate(self.gateway.root.read_bytes())
        return (
            x509.CertificateBuilder(
                name,
                name,
                self.key.public_key(),
                1,
                root.not_valid_before_utc,
                root.not_valid_after_utc,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(
                    self.key.public_key()
                ),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )

    def sign(
        self, data: bytes, certificate: x509.Certificate, *options: str
    ) -> bytes:
        """Let OpenSSL sign a PKIData."""
        files = {
            "data": data,
            "signer.pem": certificate.public_bytes(Encoding.PEM),
            "key.pem": self.key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
        }
        for name, octets in files.items():
            (self.folder / name).write_bytes(octets)
        return run(
            self.folder,
            *[
                "openssl",
                "cms",
                "-sign",
                "-binary",
                "-nodetach",
                "-outform",
                "DER",
            ],
            *("-econtent_type", str(rfc6402.id_cct_PKIData)),
            *("-in", "data", "-signer", "signer.pem", "-inkey", "key.pem"),
            *options,
        )

    def send(self, message: bytes, *options: str, label: str = "") -> Received:
        """Let curl send it and OpenSSL verify the answer."""
        (self.folder / "body").write_bytes(base64.encodebytes(message))
        place = PATH.replace(
            "/fullcmc", f"/{label}/fullcmc" if label else "/fullcmc"
        )
        status = run(
            self.folder,
            *[
                "curl",
                "-s",
                "-o",
                "answer",
                "-D",
                "headers",
                "-w",
                "%{http_code}",
            ],
            *("--cacert", str(self.gateway.root), "--data-binary", "@body"),
            *("-H", f"Content-Type: {MEDIA}", *options),
            f"https://localhost:{self.gateway.https_port}{place}",
        )
        answer = base64.b64decode((self.folder / "answer").read_bytes())
        (self.folder / "answer.der").write_bytes(answer)
        content = run(
            self.folder,
            *["openssl", "cms", "-verify", "-binary", "-inform", "DER"],
            *("-purpose", "any", "-in", "answer.der"),
            *("-CAfile", str(self.gateway.root)),
        )
        headers = (self.folder / "headers").read_text()
        return received(int(status), headers, content, answer)


def run(folder: Path, *command: str, **environment: str) -> bytes:
    """Run a program, which must succeed, and return what it prints."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def received(
    status: int, headers: str, content: bytes, answer: bytes
) -> Received:
    """Read a PKIResponse and what came beside it, with pyasn1."""
    info, rest = decode(answer, asn1Spec=rfc5652.ContentInfo())
    assert b"" == rest
    signed, _ = decode(info["content"], asn1Spec=rfc5652.SignedData())
    inner = signed["encapContentInfo"]
    assert rfc6402.id_cct_PKIResponse == inner["eContentType"]
    assert content == bytes(inner["eContent"])
    response, rest = decode(content, asn1Spec=rfc6402.PKIResponse())
    assert b"" == rest
    controls = {
        str(one["attrType"]): bytes(one["attrValues"][0])
        for one in response["controlSequence"]
    }
    told, _ = decode(
        controls[str(rfc6402.id_cmc_statusInfoV2)],
        asn1Spec=rfc6402.CMCStatusInfoV2(),
    )
    other = told["otherInfo"]
    choice = other.getName() if other.isValue else ""
    return Received(
        status,
        headers,
        int(told["cMCStatus"]),
        int(other["failInfo"]) if choice == "failInfo" else None,
        bytes(other["pendInfo"]["pendToken"])
        if choice == "pendInfo"
        else None,
        tuple(
            x509.load_der_x509_certificate(encode(one["certificate"]))
            for one in signed["certificates"]
        ),
        controls,
    )


def pki_data(
    controls: Sequence[tuple[Any, Any]] = (), csr: bytes | None = None
) -> bytes:
    """Return a PKIData, as pyasn1 writes it."""
    data = rfc6402.PKIData()
    for name in (
        "controlSequence",
        "reqSequence",
        "cmsSequence",
        "otherMsgSequence",
    ):
        data[name].clear()
    for number, (oid, value) in enumerate(controls):
        made = data["controlSequence"][number]
        made["bodyPartID"] = 100 + number
        made["attrType"] = oid
        made["attrValues"][0] = univ.Any(encode(value))
    if csr is not None:
        tagged = data["reqSequence"][0]["tcr"]
        tagged["bodyPartID"] = 1
        tagged["certificationRequest"], _ = decode(
            csr, asn1Spec=rfc2986.CertificationRequest()
        )
    return bytes(encode(data))


@pytest.fixture
def client(gateway: Gateway, tmp_path: Path) -> Client:
    """Return a device of its own name."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Client(gateway, tmp_path, f"{tmp_path.name[:40]}.example", key)


def first(client: Client, label: str = "") -> x509.Certificate:
    """Return a certificate that was got by simpleenroll."""
    body = base64.encodebytes(client.csr())
    answer = client.gateway.enroll(body, label=label)
    return x509.load_der_x509_certificate(answer.certificate)


def documented(name: str) -> str:
    """Return a file that the documentation has one write."""
    text = DOCS.read_text(encoding="utf-8")
    lines = text.partition(f"{name} <<'END'\n")[2].partition("    END\n")[0]
    return textwrap.dedent(lines)


PASSWORD = ("-u", "device:device-password")
KEY_ID = ("-keyid", "-nocerts")


class FullCMCTests:
    def test_renewal_then_revocation(self, client: Client) -> None:
        """A certificate signs for its successor, by a new key, which then
        revokes itself."""
        old = first(client)
        before = client.key
        renewed = ec.generate_private_key(ec.SECP256R1())
        client.key = renewed
        csr = client.csr()
        client.key = before
        nonce = univ.OctetString(b"nonce")
        data = pki_data(
            [
                (rfc6402.id_cmc_transactionId, univ.Integer(4711)),
                (rfc6402.id_cmc_senderNonce, nonce),
                (rfc6402.id_cmc_dataReturn, univ.OctetString(b"mine")),
            ],
            csr,
        )
        answer = client.send(client.sign(data, old))
        assert (200, 0) == (answer.status, answer.cmc_status)
        assert "CMC-response" in answer.headers
        echo = answer.controls
        assert encode(nonce) == echo[str(rfc6402.id_cmc_recipientNonce)]
        assert (
            encode(univ.Integer(4711))
            == (echo[str(rfc6402.id_cmc_transactionId)])
        )
        again = client.send(client.sign(data, old))
        new = answer.certificate(renewed)
        assert new == again.certificate(renewed)
        client.key = renewed
        revoke = rfc6402.RevokeRequest()
        revoke["issuerName"], _ = decode(
            new.issuer.public_bytes(), asn1Spec=rfc5280.Name()
        )
        revoke["serialNumber"] = new.serial_number
        revoke["reason"] = 4
        data = pki_data([(rfc6402.id_cmc_revokeRequest, revoke)])
        assert 0 == client.send(client.sign(data, new)).cmc_status
        refused = client.send(client.sign(data, new))
        assert (403, 2, 2) == (
            refused.status,
            refused.cmc_status,
            refused.fail_info,
        )

    def test_new_key(self, client: Client) -> None:
        """The key to be certified signs, named by its identifier, and a
        password says who asks."""
        message = client.sign(
            pki_data((), client.csr()), client.own(), *KEY_ID
        )
        refused = client.send(message)
        assert (401, 2, 7) == (
            refused.status,
            refused.cmc_status,
            refused.fail_info,
        )
        answer = client.send(message, *PASSWORD)
        assert (200, 0) == (answer.status, answer.cmc_status)
        (client.folder / "new.pem").write_bytes(
            answer.certificate(client.key).public_bytes(Encoding.PEM)
        )
        (client.folder / "chain.pem").write_bytes(
            b"".join(
                one.public_bytes(Encoding.PEM) for one in answer.certificates
            )
        )
        run(
            client.folder,
            *("openssl", "verify", "-CAfile", str(client.gateway.root)),
            *("-untrusted", "chain.pem", "new.pem"),
        )

    def test_shared_secret(self, client: Client) -> None:
        """A challenge of the command line proves who asks, once."""
        made = trstctl(
            *("challenge", "create", "--for", "est", "--tenant", TENANT),
            *("--device", client.name, "--output", "json"),
            config=client.gateway.config,
        )
        (secret,) = json.loads(made)
        csr = client.csr()
        requests = encode(
            decode(pki_data((), csr), asn1Spec=rfc6402.PKIData())[0][
                "reqSequence"
            ]
        )
        proof = rfc6402.IdentifyProofV2()
        proof["proofAlgID"]["algorithm"] = rfc8017.id_sha256
        proof["macAlgId"]["algorithm"] = rfc4231.id_hmacWithSHA256
        key = hashlib.sha256((secret["challenge"] + secret["id"]).encode())
        proof["witness"] = hmac.digest(key.digest(), requests, "sha256")
        data = pki_data(
            [
                (
                    rfc6402.id_cmc_identification,
                    char.UTF8String(secret["id"]),
                ),
                (rfc6402.id_cmc_identityProofV2, proof),
            ],
            csr,
        )
        message = client.sign(data, client.own(), *KEY_ID)
        answer = client.send(message)
        assert (200, 0) == (answer.status, answer.cmc_status)
        assert answer.certificate(client.key)

    def test_revocation_by_password(self, client: Client) -> None:
        """Who has lost the key revokes by the password that the request came
        with, and by the lines of the documentation."""
        folder = client.folder
        (folder / "revoke.py").write_text(documented("revoke.py"))
        config = documented("request.cnf").replace("router-7", client.name)
        (folder / "request.cnf").write_text(config)
        csr = run(
            folder,
            *("openssl", "req", "-new", "-utf8", "-config", "request.cnf"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-noenc", "-keyout", "device.key", "-outform", "DER"),
            PASSWORD="correct horse",
        )
        issued = client.gateway.enroll(base64.encodebytes(csr)).certificate

        def message(password: str) -> bytes:
            return subprocess.run(
                [sys.executable, "revoke.py", "1"],
                cwd=folder,
                env={**os.environ, "PASSWORD": password},
                input=issued,
                capture_output=True,
                timeout=60,
                check=True,
            ).stdout

        refused = client.send(message("wrong horse"))
        assert (401, 2, 7) == (
            refused.status,
            refused.cmc_status,
            refused.fail_info,
        )
        for _ in range(2):
            answer = client.send(message("correct horse"))
            assert (200, 0) == (answer.status, answer.cmc_status)
        serial = f"{x509.load_der_x509_certificate(issued).serial_number:x}"
        shown = trstctl(
            *("cert", "show", serial, "--tenant", TENANT, "--output", "json"),
            config=client.gateway.config,
        )
        assert "keyCompromise" in shown
        assert "scrypt" not in shown

    def test_held(self, client: Client) -> None:
        """A person decides: 202 and a token; with the token, the new key and
        the password, the certificate."""
        message = client.sign(
            pki_data((), client.csr()), client.own(), *KEY_ID
        )
        held = client.send(message, *PASSWORD, label="held")
        assert (202, 3) == (held.status, held.cmc_status)
        assert "retry-after: 1" in held.headers.lower()
        assert held.pend_token is not None
        config = client.gateway.config
        listed = trstctl(
            *("request", "list", "--tenant", TENANT, "--output", "json"),
            config=config,
        )
        (row,) = json.loads(listed)
        trstctl(
            *("request", "approve", row["id"], "--tenant", TENANT),
            config=config,
        )
        query = pki_data(
            [
                (
                    rfc6402.id_cmc_queryPending,
                    univ.OctetString(held.pend_token),
                )
            ]
        )
        message = client.sign(query, client.own())
        answer = client.send(message, *PASSWORD, label="held")
        assert (200, 0) == (answer.status, answer.cmc_status)
        assert answer.certificate(client.key)

    @pytest.mark.parametrize(
        ("octets", "failure"),
        [(b"", 2), (b"\x30\x00", 2), (b"\x00" * 1000, 2)],
    )
    def test_junk(self, client: Client, octets: bytes, failure: int) -> None:
        """What is no request is refused by a message."""
        answer = client.send(octets)
        assert (400, 2, failure) == (
            answer.status,
            answer.cmc_status,
            answer.fail_info,
        )

    def test_altered(self, client: Client) -> None:
        """badMessageCheck."""
        message = client.sign(
            pki_data((), client.csr()), client.own(), *KEY_ID
        )
        altered = message[:-1] + bytes((message[-1] ^ 1,))
        answer = client.send(altered, *PASSWORD)
        assert (400, 1) == (answer.status, answer.fail_info)

    def test_off(self, client: Client) -> None:
        """Where it is off, it is not there."""
        answer = client.gateway.ask(
            "POST", PATH.replace("/fullcmc", "/off/fullcmc"), b"MAA="
        )
        assert 404 == answer.status
