# SPDX-License-Identifier: MIT
"""
What a CMP enrollment costs, as a multiple of the bare cryptography.

Runs a gateway with its defaults (P-256 CA and CMP credential, SQLite with
durable commits) that trusts a manufacturer, and loads it over keep-alive
plain HTTP with ir of new P-256 keys, each signed by a factory certificate of
its own and confirmed implicitly.  The bare cryptography is what no server can
do without, measured in this run on this machine with the same library: the
verification of the message, of the factory certificate, and of the proof of
possession, with the loading of the two keys that nobody has seen before; the
CA's signature, and that of the answer.  Prints CPU, not wall-clock, figures:
they hold on a busy machine, too.  The client is one thread that sends what was
made before, so that it takes little of the cache that it shares with the
gateway.

Usage: python benchmarks/cmp.py [--requests N] [--connections N]
"""

from __future__ import annotations

import argparse
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from est import cpu_us
from load import Gateway, exchange_all, request_octets, running_gateway

from trstctl.backends.factory_certificates import FactoryAnchors
from trstctl.model import (
    Approved,
    CertificateRequest,
    ClientCertificate,
    Endpoint,
    EnrollmentRequest,
    Extension,
    GeneralName,
    Name,
    NameAttribute,
    Operation,
    Principal,
)
from trstctl.pkix import algorithms, der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp import PKIBody, PKIMessage, prepare, read_message
from trstctl.pkix.cmp_header import GeneralInfo, PKIHeader, party
from trstctl.pkix.cmp_protection import SignatureProtection, read_protection
from trstctl.pkix.cmp_responses import CertResponse, cert_rep
from trstctl.pkix.cmp_status import PKIStatusInfo
from trstctl.pkix.cms import key_identifier
from trstctl.pkix.crmf import certificate_request, read_cert_req_messages
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.pkix.csr import verify_proof
from trstctl.pkix.names import encode_general_names
from trstctl.policy.profile import Profile
from trstctl.policy.settings import builtin_profiles
from trstctl.testing import make_authority

_ECDSA = ec.ECDSA(hashes.SHA256())
_NAME = "ecdsa-with-sha256"

_TENANT = "11111111-1111-1111-1111-111111111111"

#: Where to put the manufacturer's anchor in the configuration.
_SECTION = "  cmp:\n    enabled: true\n"


class Manufacturer:
    """Makes devices with factory certificates."""

    def __init__(self) -> None:
        self.key = _new_key()
        self.root = self._sign("manufacturer", self.key, is_ca=True)

    def device(self, name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
        """Return a device's factory certificate."""
        return self._sign(name, key, is_ca=False)

    def _sign(
        self, subject: str, key: ec.EllipticCurvePrivateKey, *, is_ca: bool
    ) -> bytes:
        """Return a certificate."""
        names = [
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)])
            for each in (subject, "manufacturer")
        ]
        public = key.public_key()
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[0])
            .issuer_name(names[1])
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=9000))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(public),
                critical=False,
            )
        )
        made = builder.sign(self.key, hashes.SHA256())
        return made.public_bytes(Encoding.DER)


def _new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


def _cn(text: str) -> Name:
    """Return a name of one common name."""
    return ((NameAttribute("2.5.4.3", text),),)


def _request(name: str) -> PKIBody:
    """Return an ir for a new key, which proves itself."""
    key = _new_key()
    wanted = GeneralName("dns", f"{name}.fleet.example")
    template = CertTemplate(
        subject=_cn(name),
        public_key=_public(key),
        extensions=(
            Extension("2.5.29.17", False, encode_general_names((wanted,))),
        ),
    )
    request = der.sequence(der.integer(0), template.der())
    proof = der.tlv(
        0xA1,
        algorithms.algorithm_identifier(_NAME)
        + der.bit_string(key.sign(request, _ECDSA)),
    )
    return PKIBody("ir", der.sequence(der.sequence(request, proof)))


def make_message(manufacturer: Manufacturer, number: int) -> bytes:
    """Return an ir for a new key, signed by a new device."""
    name = f"device-{number}"
    key = _new_key()
    certificate = manufacturer.device(name, key)
    header = PKIHeader(
        pvno=2,
        sender=party(_cn(name)),
        recipient=party(_cn("CA")),
        message_time=datetime.now(UTC).replace(microsecond=0),
        protection_alg=algorithms.algorithm_identifier(_NAME),
        sender_kid=key_identifier(certificate),
        transaction_id=os.urandom(16),
        sender_nonce=os.urandom(16),
        general_info=GeneralInfo(implicit_confirm=True),
    )
    prepared = prepare(header, _request(name))
    signature = key.sign(prepared.protected_part, _ECDSA)
    return prepared.finish(signature, (certificate,))


def bare_cryptography(message: bytes) -> list[tuple[str, float]]:
    """Return the microseconds of each operation."""
    ours, theirs = _new_key(), _new_key()
    public, loaded = _public(theirs), theirs.public_key()
    part = read_message(message).protected_part
    signature = theirs.sign(part, _ECDSA)

    def load_and_verify() -> None:
        key = load_der_public_key(public)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signature, part, _ECDSA)

    verify = cpu_us(load_and_verify)
    sign = cpu_us(lambda: ours.sign(part, _ECDSA))
    return [
        ("verify the message", verify),
        ("verify the factory certificate", cpu_us(
            lambda: loaded.verify(signature, part, _ECDSA))),
        ("verify the proof of possession", verify),
        ("sign the certificate", sign),
        ("sign the answer", sign),
    ]  # fmt: skip


def parts(
    messages: list[bytes], manufacturer: Manufacturer
) -> list[tuple[str, float]]:
    """
    Return what each step costs by itself, in microseconds.

    Each step meets many messages in turn, as what is new is not remembered.
    """
    read = [read_message(octets) for octets in messages]
    facts = [read_certificate(each.extra_certs[0]) for each in read]
    requests = [_wanted(each) for each in read]
    anchors = FactoryAnchors((manufacturer.root,))
    authority = make_authority()
    profile = Profile("device", builtin_profiles()["device"])
    now = datetime.now(UTC)
    key = _new_key()
    protection = read_protection(read[0].header.protection_alg or b"")
    assert isinstance(protection, SignatureProtection)

    def decide(at: int) -> Approved:
        found = profile.decide(
            EnrollmentRequest(
                Endpoint("cmp", "", _TENANT, "device", "issuing"),
                Operation.ENROLL, requests[at], (), "0" * 16, "127.0.0.1",
            ),
            Principal("basic", "device", _TENANT),
            now, authority.not_after, approved=False,
        )  # fmt: skip
        assert isinstance(found, Approved)
        return found

    approved = [decide(at) for at in range(len(messages))]
    tbs = [authority.prepare(each, "5" * 38) for each in approved]

    def judge(at: int) -> None:
        at %= 32  # what was read just before is remembered
        own = ClientCertificate(facts[at].der, ())
        anchors.judge(own, facts[at], now)

    def write(at: int) -> None:
        status = PKIStatusInfo("accepted")
        responses = (CertResponse(0, status, facts[at].der),)
        prepared = prepare(read[at].header, cert_rep("ip", responses))
        prepared.finish(
            key.sign(prepared.protected_part, _ECDSA), authority.chain
        )

    steps: list[tuple[str, Callable[[int], object]]] = [
        ("message read, bounds checked",
            lambda at: read_message(messages[at])),
        ("signer's certificate read",
            lambda at: read_certificate(facts[at].der)),
        ("signature of the message (bare cryptography)",
            lambda at: protection.verify(
                facts[at].public_key.spki,
                read[at].protected_part,
                read[at].protection or b"",
            )),
        ("path to the anchor (bare cryptography, mostly)", judge),
        ("request read", lambda at: _wanted(read[at])),
        ("profile decides", decide),
        ("proof of possession (bare cryptography)",
            lambda at: verify_proof(requests[at])),
        ("certificate prepared",
            lambda at: authority.prepare(approved[at], "5" * 38)),
        ("signed (bare cryptography) and verified",
            lambda at: authority.sign(tbs[at])),
        ("answer written and signed (bare cryptography)", write),
    ]  # fmt: skip
    turn = cycle(range(len(messages)))
    return [
        (name, cpu_us(lambda step=step: step(next(turn))))
        for name, step in steps
    ]


def _wanted(message: PKIMessage) -> CertificateRequest:
    """Return what a message asks for."""
    (request,) = read_cert_req_messages(message.body.value)
    return certificate_request(request)


def send_all(
    port: int, method: str, path: str, bodies: list[bytes], connections: int
) -> list[bytes]:
    """Send every body over that many keep-alive connections."""
    headers = {"Content-Type": "application/pkixcmp"}
    return exchange_all(
        lambda: socket.create_connection(("localhost", port), 60),
        [
            request_octets(method, path, body, headers if body else {})
            for body in bodies
        ],
        connections,
    )


def trust(manufacturer: Manufacturer, config: Path) -> None:
    """Let factory certificates enroll."""
    anchors = config.with_name("anchors.pem")
    root = x509.load_der_x509_certificate(manufacturer.root)
    anchors.write_bytes(root.public_bytes(Encoding.PEM))
    text = config.read_text()
    assert _SECTION in text
    config.write_text(
        text.replace(
            _SECTION,
            f"{_SECTION}    idevid:\n      anchors: [{anchors}]\n"
            '      names: ["dns:*.fleet.example"]\n',
        )
    )


def measured(
    gateway: Gateway, warm: list[bytes], bodies: list[bytes], connections: int
) -> tuple[float, float, float]:
    """Return CPU of all, of one HTTP exchange alone, and wall-clock."""
    url = gateway.facts["cmp"]["url"]
    port = int(url.rpartition(":")[2].partition("/")[0])
    authority = "/ca/issuing.cer"
    send_all(port, "POST", "/cmp", warm, connections)
    send_all(port, "GET", authority, [b""] * 500, connections)
    before = gateway.cpu_seconds()
    send_all(port, "GET", authority, [b""] * 2000, connections)
    transport = (gateway.cpu_seconds() - before) / 2000
    before, began = gateway.cpu_seconds(), time.monotonic()
    answers = send_all(port, "POST", "/cmp", bodies, connections)
    seconds = time.monotonic() - began
    used = gateway.cpu_seconds() - before
    for answer in answers:
        assert read_message(answer).body.type == "ip", answer
    assert len(set(answers)) == len(bodies), "not one certificate each"
    return used, transport, seconds


def main() -> None:
    """Run the benchmark and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=4000)
    options.add_argument("--connections", type=int, default=32)
    chosen = options.parse_args()

    print("making devices and messages ...")
    manufacturer = Manufacturer()
    bodies = [
        make_message(manufacturer, number)
        for number in range(chosen.requests + 300)
    ]
    warm, bodies = bodies[:300], bodies[300:]
    bare = bare_cryptography(bodies[0])
    with running_gateway(
        "--key-algorithm", "p-256", adjust=partial(trust, manufacturer)
    ) as gateway:
        used, transport, seconds = measured(
            gateway, warm, bodies, chosen.connections
        )
    again = bare_cryptography(bodies[0])
    total = min(sum(us for _, us in bare), sum(us for _, us in again))

    each = used / len(bodies) * 1e6
    print(
        f"enrollments                  {len(bodies)}"
        f" over {chosen.connections} keep-alive connections"
    )
    print(f"enrollments per CPU second   {len(bodies) / used:.0f}")
    print(
        f"enrollments per second       {len(bodies) / seconds:.0f}"
        " (the client shares the machine)"
    )
    print(f"CPU per enrollment           {each:.0f} us")
    print(f"bare cryptography            {total:.0f} us")
    print(f"multiple                     {each / total:.2f}")
    print("of the bare cryptography:")
    for name, us in again:
        print(f"  {us:7.1f}  {name}")
    print("where it goes, in us (each step by itself):")
    steps = parts(bodies[:200], manufacturer)
    steps.append(("HTTP, as a GET costs", transport * 1e6))
    for name, us in steps:
        print(f"  {us:7.1f}  {name}")
    rest = each - sum(us for _, us in steps)
    print(
        f"  {rest:7.1f}  the rest: durable intent, certificate and dialogue,"
        " audit chain, log"
    )


if __name__ == "__main__":
    main()
