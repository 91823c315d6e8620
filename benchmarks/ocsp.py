# SPDX-License-Identifier: MIT
"""
What an OCSP answer costs, beside a bare signature.

Runs a gateway with its defaults (P-256 keys, SQLite) and asks it over
keep-alive plain HTTP, by POST: with a nonce, which takes a signature for each
answer, and without one, where the answer has been signed before.  The store
is asked each time.  Prints CPU, not wall-clock, figures: they hold on a busy
machine, too.

Usage: python benchmarks/ocsp.py [--requests N] [--connections N]
"""

from __future__ import annotations

import argparse
import base64
import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from load import Gateway, make_requests, post_all, running_gateway

from trstctl.pkix.cms import read_certs_only

_HEAD = (
    b"POST /ocsp/issuing HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/ocsp-request\r\nContent-Length: "
)


def signature_us(rounds: int = 3000) -> float:
    """Return the CPU microseconds of one P-256 signature, the best of five."""
    key = ec.generate_private_key(ec.SECP256R1())
    algorithm = ec.ECDSA(hashes.SHA256())
    content = bytes(200)
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(rounds):
            key.sign(content, algorithm)
        best = min(best, (time.process_time() - began) / rounds)
    return best * 1e6


def ocsp_request(
    certificate: x509.Certificate, issuer: x509.Certificate, nonce: bytes
) -> bytes:
    """Return a request for one certificate."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(
        certificate, issuer, hashes.SHA1()
    )
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def ask_all(
    gateway: Gateway, bodies: Sequence[bytes], connections: int
) -> float:
    """Ask every request over that many connections; return CPU seconds."""
    place = urlsplit(gateway.facts["http_url"])

    def work(share: Sequence[bytes]) -> None:
        address = (place.hostname or "", place.port or 80)
        with socket.create_connection(address, 60) as peer:
            for body in share:
                # In one piece, as curl sends it.
                peer.sendall(b"%s%d\r\n\r\n%s" % (_HEAD, len(body), body))
                _take(peer)

    shares = [bodies[start::connections] for start in range(connections)]
    before = gateway.cpu_seconds()
    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(work, shares))
    return gateway.cpu_seconds() - before


def _take(peer: socket.socket) -> None:
    """Take one answer, which must be a good one."""
    received = peer.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += peer.recv(65536)
    # An OCSPResponse of any length that is successful.
    if b"\x0a\x01\x00" not in body[:8]:
        raise RuntimeError(f"refused: {head!r} {body.hex()}")


def main() -> None:
    """Run the benchmark and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=10_000)
    options.add_argument("--connections", type=int, default=16)
    options.add_argument("--certificates", type=int, default=200)
    chosen = options.parse_args()

    bare = signature_us()
    with running_gateway() as gateway:
        _, answers = post_all(
            gateway, make_requests(chosen.certificates), chosen.connections
        )
        certificates = [
            x509.load_der_x509_certificate(
                read_certs_only(base64.b64decode(answer))[0]
            )
            for answer in answers
        ]
        chain = Path(gateway.facts["ca_chain"]).read_bytes()
        issuer = x509.load_pem_x509_certificates(chain)[0]

        def bodies(nonce: Callable[[], bytes]) -> list[bytes]:
            return [
                ocsp_request(
                    certificates[number % len(certificates)], issuer, nonce()
                )
                for number in range(chosen.requests)
            ]

        ask_all(gateway, bodies(bytes)[:1000], chosen.connections)
        used = {
            name: ask_all(gateway, made, chosen.connections)
            for name, made in (
                (
                    "with a nonce, a signature each",
                    bodies(lambda: os.urandom(32)),
                ),
                ("without, signed before", bodies(bytes)),
            )
        }
    bare = min(bare, signature_us())
    print(
        f"{chosen.requests} answers over {chosen.connections} keep-alive "
        "connections of plain HTTP, each"
    )
    print(
        f"bare P-256 signature             {bare:6.1f} us, "
        f"{1e6 / bare:7.0f} for each CPU second"
    )
    for name, seconds in used.items():
        each = seconds / chosen.requests * 1e6
        print(
            f"{name:32} {each:6.1f} us, {1e6 / each:7.0f} for each CPU "
            f"second; {each / bare:.1f} signatures"
        )


if __name__ == "__main__":
    main()
