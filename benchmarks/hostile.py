# SPDX-License-Identifier: MIT
"""
What hostile requests cost: every one must be refused in under 50 ms.

Sends each of them many times over one keep-alive TLS connection to a gateway
with its defaults, and prints status, CPU and the slowest answer.

Usage: python benchmarks/hostile.py [--rounds N]
"""

from __future__ import annotations

import argparse
import base64
import http.client
import time
from collections.abc import Mapping

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from load import Gateway, make_requests, post_all, running_gateway

from trstctl.pkix.der import sequence, tlv

#: Octets of DER whose base64 just fits the default limit of a body.
_ROOM = 49_000

_LIMIT_MS = 50.0


def signed(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    names: list[str],
    common_name: str = "hostile",
) -> bytes:
    """Return a well-signed request."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(
            x509.Name(
                [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]
            )
        )
        .add_extension(
            x509.SubjectAlternativeName([*map(x509.DNSName, names)]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def bombs() -> Mapping[str, bytes]:
    """Return the hostile requests, in DER, each about as large as may be."""
    nested = b""
    while len(nested) < _ROOM - 8:
        nested = sequence(nested)
    curve = ec.generate_private_key(ec.SECP256R1())
    return {
        "nested 10,000 deep": nested,
        "indefinite lengths": b"\x30\x80" * (_ROOM // 2),
        "24,000 nulls": sequence(b"\x05\x00" * 24_000),
        "an identifier of 48 KB": sequence(tlv(6, b"\x81" * 48_000)),
        "a long tag": sequence(b"\x1f" + b"\x81" * 48_000 + b"\x01\x00"),
        "an integer of 48 KB": sequence(tlv(2, b"\x01" * 48_000)),
        "4 GiB claimed": b"\x30\x84\xff\xff\xff\xff",
        "empty sequence": b"\x30\x02\x30\x00",
        "900 names": signed(curve, [f"n{n}.example" for n in range(900)]),
        "2,000 names": signed(curve, [f"n{n}.example" for n in range(2000)]),
        "a name of 40 KB": signed(curve, ["a" * 40_000]),
        "control characters": signed(curve, ["ok.example"], "a\r\nb\x00c"),
        "RSA of 1024 bits": signed(
            rsa.generate_private_key(65537, 1024), ["a.example"]
        ),
        "RSA with exponent 3": signed(
            rsa.generate_private_key(3, 3072), ["a.example"]
        ),
        "secp256k1": signed(
            ec.generate_private_key(ec.SECP256K1()), ["a.example"]
        ),
    }


def attack(
    gateway: Gateway, body: bytes, rounds: int
) -> tuple[int, float, float]:
    """Return the status, the CPU and the slowest answer in milliseconds."""
    headers = {
        "Content-Type": "application/pkcs10",
        "Authorization": gateway.authorization(),
    }
    client = http.client.HTTPSConnection(
        "localhost", gateway.port, context=gateway.tls_context(), timeout=60
    )
    slowest, status = 0.0, 0
    before = gateway.cpu_seconds()
    for _ in range(rounds):
        began = time.perf_counter()
        client.request("POST", "/.well-known/est/simpleenroll", body, headers)
        response = client.getresponse()
        response.read()
        slowest = max(slowest, time.perf_counter() - began)
        status = response.status
    used = (gateway.cpu_seconds() - before) / rounds
    client.close()
    return status, used * 1000, slowest * 1000


def main() -> None:
    """Send them all and print what they cost."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=50)
    rounds = options.parse_args().rounds
    with running_gateway() as gateway:
        # The first right password costs a slow hash, once.
        post_all(gateway, make_requests(20), 1)
        worst = 0.0
        for name, der in bombs().items():
            status, cpu, slowest = attack(
                gateway, base64.b64encode(der), rounds
            )
            worst = max(worst, slowest)
            print(
                f"{status}  {cpu:6.2f} ms CPU  {slowest:6.2f} ms slowest  "
                f"{name}"
            )
        told = "all within" if worst < _LIMIT_MS else "NOT all within"
        print(f"{told} {_LIMIT_MS:.0f} ms; the slowest took {worst:.1f} ms")


if __name__ == "__main__":
    main()
