# SPDX-License-Identifier: MIT
"""
What PyScep 0.0.14 does in a rollover: enroll, GetNextCACert, and renew.

Usage: pyscep_rollover.py URL CHALLENGE

Prints a line for each step, and waits for a line of input after each: the
first is before a key is prepared, then it is, then it is active.

PyScep's own ``rollover_certificate`` verifies the answer with the RA
certificate; RFC 8894, section 4.7.1, has the CA sign it.
"""

from __future__ import annotations

import sys
from typing import Any

import requests
from pyscep_client import MendedClient, issued, request, self_signed, tell
from scep.Client.message import SCEPMessage


def next_certificates(client: MendedClient) -> Any:
    """Return the next certificates, verified with the CA's of now."""
    assert client.get_ca_capabilities().is_rollover_supported()
    answer = requests.get(
        client.url, params={"operation": "GetNextCACert"}, timeout=30
    )
    kind = answer.headers["Content-Type"]
    assert kind == "application/x-x509-next-ca-cert", kind
    issuer = client.get_ca_certs().issuer
    # Raises unless the issuer has signed it.
    told = SCEPMessage.parse(answer.content, signer_cert=issuer)
    return SCEPMessage.parse(told.encap_content_info.dump()).certificates


def main() -> None:
    """Take every step."""
    url, challenge = sys.argv[1:]
    client = MendedClient(url)
    capabilities = client.get_ca_capabilities()
    assert not capabilities.is_rollover_supported()
    csr, key = request("pyscep", challenge)
    certificate = issued(client.enrol(csr, self_signed("pyscep", key), key))
    tell("enrolled", certificate.serial_number)
    sys.stdin.readline()

    coming = [each.to_der().hex() for each in next_certificates(client)]
    tell("next", *coming)
    sys.stdin.readline()

    present = client.get_ca_certs()
    told = [one.to_der().hex() for one in (present.recipient, present.issuer)]
    assert set(told) < set(coming)
    renewal, _ = request("pyscep")
    renewed = issued(client.enrol(renewal, certificate, key))
    tell("renewed", renewed.to_der().hex())


if __name__ == "__main__":
    main()
