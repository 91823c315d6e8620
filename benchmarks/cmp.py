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
they hold on a busy machine, too.

Usage: python benchmarks/cmp.py [--requests N] [--connections N]
"""

from __future__ import annotations

import argparse
import http.client
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_public_key,
)
from est import cpu_us
from load import Gateway, running_gateway

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

from cmp_client import IMPLICIT, Signer, cert_req, cn, new_key, signed, spki

from trstctl.model import Extension, GeneralName
from trstctl.pkix import der
from trstctl.pkix.cmp import PKIBody, read_message
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.pkix.names import encode_general_names

_ECDSA = ec.ECDSA(hashes.SHA256())

#: Where to put the manufacturer's anchor in the configuration.
_SECTION = "  cmp:\n    enabled: true\n"


class Manufacturer:
    """Makes devices with factory certificates."""

    def __init__(self) -> None:
        self.key = new_key()
        self.root = self._sign("manufacturer", self.key, is_ca=True)

    def device(self, name: str) -> Signer:
        """Return a device's factory certificate, with its key."""
        key = new_key()
        return Signer(self._sign(name, key, is_ca=False), key)

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


def make_message(manufacturer: Manufacturer, number: int) -> bytes:
    """Return an ir for a new key, signed by a new device."""
    name = f"device-{number}"
    key = new_key()
    wanted = GeneralName("dns", f"{name}.fleet.example")
    template = CertTemplate(
        subject=cn(name),
        public_key=spki(key),
        extensions=(
            Extension("2.5.29.17", False, encode_general_names((wanted,))),
        ),
    )
    body = PKIBody("ir", der.sequence(cert_req(template, key)))
    return signed(
        manufacturer.device(name),
        body,
        message_time=datetime.now(UTC).replace(microsecond=0),
        **IMPLICIT,
    )


def bare_cryptography(message: bytes) -> list[tuple[str, float]]:
    """Return the microseconds of each operation."""
    ours, theirs = new_key(), new_key()
    public, loaded = spki(theirs), theirs.public_key()
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


def send_all(
    port: int, method: str, path: str, bodies: list[bytes], connections: int
) -> list[bytes]:
    """Send every body over that many keep-alive connections."""

    def work(share: list[bytes]) -> list[bytes]:
        client = http.client.HTTPConnection("localhost", port, timeout=60)
        answers = []
        for body in share:
            client.request(
                method,
                path,
                body or None,
                {"Content-Type": "application/pkixcmp"} if body else {},
            )
            response = client.getresponse()
            answers.append(response.read())
            if response.status != 200:
                raise RuntimeError(f"{response.status} {answers[-1]!r}")
        client.close()
        return answers

    shares = [bodies[start::connections] for start in range(connections)]
    with ThreadPoolExecutor(connections) as pool:
        return [one for part in pool.map(work, shares) for one in part]


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
    options.add_argument("--connections", type=int, default=16)
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
    print(f"of it HTTP, as a GET costs   {transport * 1e6:.0f} us")
    for name, us in again:
        print(f"  {us:7.1f}  {name}")


if __name__ == "__main__":
    main()
