# SPDX-License-Identifier: MIT
"""
What an EST enrollment costs, as a multiple of the bare cryptography.

Runs a gateway with its defaults (P-256 CA, SQLite with durable commits) and
loads it over keep-alive TLS with requests of P-256 keys.  The bare
cryptography is what no server can do without: parsing and checking the
request's signature, and one signature of the CA, measured in this run on
this machine with the same library.  Prints CPU, not wall-clock, figures:
they hold on a busy machine, too.  The client is one thread that sends what was
made before, so that it takes little of the cache that it shares with the
gateway.

Usage: python benchmarks/est.py [--requests N] [--connections N]
"""

from __future__ import annotations

import argparse
import base64
import datetime
import time
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from load import get_all, make_requests, post_all, running_gateway


def cpu_us(work: Callable[[], object], rounds: int = 1500) -> float:
    """Return the CPU microseconds of one call: the best of five rounds."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(rounds):
            work()
        best = min(best, (time.process_time() - began) / rounds)
    return best * 1e6


def bare_cryptography(request: bytes) -> float:
    """Return the microseconds of request check and signature."""
    der = base64.b64decode(request)
    key = ec.generate_private_key(ec.SECP256R1())
    algorithm = ec.ECDSA(hashes.SHA256())

    def check() -> None:
        assert x509.load_der_x509_csr(der).is_signature_valid

    return cpu_us(check) + cpu_us(lambda: key.sign(der, algorithm))


def parts(request: bytes) -> list[tuple[str, float]]:
    """Return what each step costs by itself, in microseconds."""
    from trstctl.model import Endpoint, EnrollmentRequest, Operation, Principal
    from trstctl.pkix.csr import read_csr, verify_proof
    from trstctl.policy.profile import Profile
    from trstctl.policy.settings import builtin_profiles
    from trstctl.protocols.est.codec import (
        decode_request_body,
        encode_certificates,
    )
    from trstctl.testing import make_authority

    now = datetime.datetime.now(datetime.UTC)
    der = decode_request_body(request, lenient=True)
    wanted = read_csr(der)
    tenant = "11111111-1111-1111-1111-111111111111"
    asked = EnrollmentRequest(
        Endpoint("est", "", tenant, "device", "issuing"),
        Operation.ENROLL, wanted, (), "0" * 16, "127.0.0.1",
    )  # fmt: skip
    principal = Principal("basic", "device", tenant)
    profile = Profile("device", builtin_profiles()["device"])
    authority = make_authority()
    limit = authority.not_after
    approved = profile.decide(asked, principal, now, limit, approved=False)
    tbs = authority.prepare(approved, "5" * 38)
    signed: list[bytes] = []
    authority.sign(tbs).addCallback(signed.append)
    certificate = signed[0]
    return [
        ("body and request parsed, bounds checked", cpu_us(
            lambda: read_csr(decode_request_body(request, lenient=True)))),
        ("profile decides", cpu_us(lambda: profile.decide(
            asked, principal, now, limit, approved=False))),
        ("proof of possession (bare cryptography)", cpu_us(
            lambda: verify_proof(wanted))),
        ("certificate prepared", cpu_us(
            lambda: authority.prepare(approved, "5" * 38))),
        ("signed (bare cryptography) and verified", cpu_us(
            lambda: authority.sign(tbs))),
        ("answer encoded", cpu_us(
            lambda: encode_certificates((certificate,), single_line=False))),
    ]  # fmt: skip


def main() -> None:
    """Run the benchmark and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=6000)
    options.add_argument("--connections", type=int, default=32)
    chosen = options.parse_args()

    print("making requests ...")
    warm = make_requests(300)
    bodies = make_requests(chosen.requests)
    bare = bare_cryptography(bodies[0])
    with running_gateway() as gateway:
        post_all(gateway, warm, chosen.connections)
        get_all(gateway, 500, chosen.connections)
        before = gateway.cpu_seconds()
        count = max(2000, chosen.requests // 2)
        get_all(gateway, count, chosen.connections)
        transport = (gateway.cpu_seconds() - before) / count * 1e6
        before = gateway.cpu_seconds()
        seconds, answers = post_all(gateway, bodies, chosen.connections)
        used = gateway.cpu_seconds() - before
    bare = min(bare, bare_cryptography(bodies[0]))
    assert len(set(answers)) == len(bodies), "not one certificate each"

    each = used / len(bodies) * 1e6
    print(
        f"enrollments                  {len(bodies)}"
        f" over {chosen.connections} keep-alive TLS connections"
    )
    print(f"enrollments per CPU second   {len(bodies) / used:.0f}")
    print(
        f"enrollments per second       {len(bodies) / seconds:.0f}"
        " (the client shares the machine)"
    )
    print(f"CPU per enrollment           {each:.0f} us")
    print(
        f"bare cryptography            {bare:.0f} us"
        " (request check + signature)"
    )
    print(f"multiple                     {each / bare:.2f}")
    print("where it goes, in us (each step by itself):")
    steps = parts(bodies[0])
    steps.append(("TLS and HTTP, as a GET of the chain costs", transport))
    for name, us in steps:
        print(f"  {us:7.1f}  {name}")
    rest = each - sum(us for _, us in steps)
    print(
        f"  {rest:7.1f}  the rest: durable intent and certificate, audit"
        " chain, credentials, log"
    )


if __name__ == "__main__":
    main()
