# SPDX-License-Identifier: MIT
"""
What a SCEP enrollment costs, as a multiple of the bare cryptography.

Runs a gateway with its defaults (RSA-2048 registration authority, SQLite with
durable commits) and loads it over keep-alive plain HTTP with requests of
RSA-2048 keys, each with a challenge of its own.  The bare cryptography is
what no server can do without, measured in this run on this machine with the
same library: one decryption of a key, the verification of the message and of
the request in it, the CA's signature and its check, the encryption of a key
to the device, the signature of the answer.  Prints CPU, not wall-clock,
figures: they hold on a busy machine, too.

Usage: python benchmarks/scep.py [--requests N] [--connections N]
           [--ca p-256 rsa-2048]
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import cycle
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from est import cpu_us
from load import Gateway, running_gateway, trstctl

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

from scep_samples import (
    Message,
    certificates_and_crls,
    csr,
    read_reply,
    self_signed,
)

#: More keys than the gateway remembers, and fewer than would take hours.
KEYS = 128

_SHA256 = hashes.SHA256()
_PKCS1 = padding.PKCS1v15()


def bare_cryptography(ca: str) -> list[tuple[str, float]]:
    """Return the microseconds of each operation."""
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key()
    request = csr(key)
    signed = bytes(900)
    signature = key.sign(signed, _PKCS1, _SHA256)
    wrapped = public.encrypt(bytes(16), _PKCS1)

    def check_request() -> None:
        assert x509.load_der_x509_csr(request).is_signature_valid

    if ca == "p-256":
        ca_key = ec.generate_private_key(ec.SECP256R1())
        algorithm = ec.ECDSA(_SHA256)
        made = ca_key.sign(signed, algorithm)
        sign_certificate = cpu_us(lambda: ca_key.sign(signed, algorithm))
        ca_public = ca_key.public_key()
        check = cpu_us(lambda: ca_public.verify(made, signed, algorithm))
    else:
        sign_certificate = cpu_us(
            lambda: key.sign(signed, _PKCS1, _SHA256), 300
        )
        check = cpu_us(
            lambda: public.verify(signature, signed, _PKCS1, _SHA256)
        )
    return [
        ("decrypt the key", cpu_us(lambda: key.decrypt(wrapped, _PKCS1), 300)),
        ("verify the message", cpu_us(
            lambda: public.verify(signature, signed, _PKCS1, _SHA256))),
        ("verify the request", cpu_us(check_request)),
        ("sign the certificate", sign_certificate),
        ("check that signature", check),
        ("encrypt the answer's key", cpu_us(
            lambda: public.encrypt(bytes(16), _PKCS1))),
        ("sign the answer", cpu_us(
            lambda: key.sign(signed, _PKCS1, _SHA256), 300)),
    ]  # fmt: skip


def make_challenges(gateway: Gateway, count: int) -> list[str]:
    """Return that many challenges."""
    printed = trstctl(
        "challenge", "create", "--any-name", "--profile", "device",
        "--count", str(count), "--output", "json",
        "--config", gateway.facts["config"],
    )  # fmt: skip
    return [row["challenge"] for row in json.loads(printed)]


@lru_cache(maxsize=1)
def devices() -> list[tuple[rsa.RSAPrivateKey, bytes]]:
    """Return keys, each with its self-signed certificate."""
    keys = (rsa.generate_private_key(65537, 2048) for _ in range(KEYS))
    return [(key, self_signed(key)) for key in keys]


def make_messages(recipient: bytes, challenges: list[str]) -> list[bytes]:
    """Return a message for each challenge."""
    made = []
    for (key, certificate), challenge in zip(cycle(devices()), challenges):
        name = f"device-{challenge[-8:]}"
        message = Message(
            content=csr(key, name, challenge, names=(f"{name}.example",)),
            recipient=recipient,
            key=key,
            certificate=certificate,
            transaction=hashlib.sha256(name.encode()).hexdigest(),
            nonce=hashlib.sha256(name.encode()).digest()[:16],
        )
        made.append(message.der())
    return made


def send_all(
    port: int, method: str, bodies: list[bytes], connections: int
) -> tuple[float, list[bytes]]:
    """
    Send every body over that many keep-alive connections.

    :returns: wall-clock seconds, and every answer.
    """
    operation = "PKIOperation" if method == "POST" else "GetCACaps"

    def work(share: list[bytes]) -> list[bytes]:
        client = http.client.HTTPConnection("localhost", port, timeout=60)
        answers = []
        for body in share:
            client.request(
                method, f"/scep/pkiclient.exe?operation={operation}", body
            )
            response = client.getresponse()
            answer = response.read()
            if response.status != 200:
                raise RuntimeError(f"{response.status} {answer!r}")
            answers.append(answer)
        client.close()
        return answers

    shares = [bodies[start::connections] for start in range(connections)]
    began = time.monotonic()
    with ThreadPoolExecutor(connections) as pool:
        found = [one for part in pool.map(work, shares) for one in part]
    return time.monotonic() - began, found


def timed(gateway: Gateway, work: Callable[[], object]) -> float:
    """Return the CPU seconds that the gateway uses meanwhile."""
    before = gateway.cpu_seconds()
    work()
    return gateway.cpu_seconds() - before


def run(ca: str, requests: int, connections: int) -> None:
    """Measure with one kind of CA key, and print."""
    bare = bare_cryptography(ca)
    init = ("--key-algorithm", ca)
    with running_gateway(*init) as gateway:
        url = gateway.facts["scep"]["url"]
        port = int(url.rpartition(":")[2].partition("/")[0])
        client = http.client.HTTPConnection("localhost", port, timeout=60)
        client.request("GET", "/scep?operation=GetCACert")
        (recipient, *_), _ = certificates_and_crls(client.getresponse().read())
        client.close()
        messages = make_messages(
            recipient, make_challenges(gateway, requests + 200)
        )
        warm, messages = messages[:200], messages[200:]
        send_all(port, "POST", warm, connections)
        transport = (
            timed(
                gateway,
                lambda: send_all(port, "GET", [b""] * 2000, connections),
            )
            / 2000
        )
        answers: list[bytes] = []
        began = time.monotonic()
        used = timed(
            gateway,
            lambda: answers.extend(
                send_all(port, "POST", messages, connections)[1]
            ),
        )
        seconds = time.monotonic() - began
    for answer in answers[:: max(1, len(answers) // 50)]:
        reply = read_reply(answer)
        assert reply.status == "0", reply
    again = bare_cryptography(ca)
    total = min(sum(us for _, us in bare), sum(us for _, us in again))
    each = used / len(messages) * 1e6
    print(f"\n{ca} CA, RSA-2048 registration authority and devices")
    print(
        f"enrollments                  {len(messages)}"
        f" over {connections} keep-alive connections"
    )
    print(f"enrollments per CPU second   {len(messages) / used:.0f}")
    print(
        f"enrollments per second       {len(messages) / seconds:.0f}"
        " (the client shares the machine)"
    )
    print(f"CPU per enrollment           {each:.0f} us")
    print(f"bare cryptography            {total:.0f} us")
    print(f"multiple                     {each / total:.2f}")
    print(f"of it HTTP, as GetCACaps     {transport * 1e6:.0f} us")
    for name, us in again:
        print(f"  {us:7.1f}  {name}")


def main() -> None:
    """Run the benchmark and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=2000)
    options.add_argument("--connections", type=int, default=16)
    options.add_argument("--ca", nargs="*", default=["p-256", "rsa-2048"])
    chosen = options.parse_args()
    print("making keys and requests ...")
    for ca in chosen.ca:
        run(ca, chosen.requests, chosen.connections)


if __name__ == "__main__":
    main()
