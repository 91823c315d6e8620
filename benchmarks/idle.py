# SPDX-License-Identifier: MIT
"""
What an idle TLS connection costs in memory.

Opens connections that finish the handshake, ask once, and then stay.

Usage: python benchmarks/idle.py [--connections N]
"""

from __future__ import annotations

import argparse
import resource
import socket
import ssl
import time

from load import Gateway, running_gateway

_REQUEST = b"GET /.well-known/est/cacerts HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"


def connect(
    gateway: Gateway, context: ssl.SSLContext, address: str
) -> ssl.SSLSocket:
    """Return an open connection that has been answered once."""
    raw = socket.socket()
    raw.bind((address, 0))
    raw.connect(("127.0.0.1", gateway.port))
    client = context.wrap_socket(raw, server_hostname="localhost")
    client.sendall(_REQUEST)
    while not client.recv(65536).endswith(b"\n"):
        pass
    return client


def main() -> None:
    """Open the connections and print what each one costs."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--connections", type=int, default=10_000)
    count = options.parse_args().connections
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with running_gateway() as gateway:
        context = gateway.tls_context()
        clients = [connect(gateway, context, "127.0.0.1") for _ in range(100)]
        time.sleep(1)
        before = gateway.resident_bytes()
        for number in range(count):
            # Several addresses of the loopback network: one may only hold
            # so many connections.
            address = f"127.0.{1 + number // 200}.1"
            clients.append(connect(gateway, context, address))
        time.sleep(2)
        each = (gateway.resident_bytes() - before) / count / 1024
        print(f"idle TLS connections  {count}")
        print(f"memory of each        {each:.1f} KiB")


if __name__ == "__main__":
    main()
