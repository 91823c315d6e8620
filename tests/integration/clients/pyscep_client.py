# SPDX-License-Identifier: MIT
"""
What PyScep 0.0.14 does: enroll, renew, poll, GetCert, GetCRL, be refused.

Usage: pyscep_client.py URL GUARDED-URL CHALLENGE GUARDED-CHALLENGE

It has its own Python, since nothing of trstctl is needed here and PyScep's
libraries are old.  Prints a line for each step; a held request waits for a
line of input.

Two things of PyScep are mended, neither of which is on the wire.  oscrypto
1.3.0 does not know a version of OpenSSL with two digits at the end, as 3.0.19.
And PyScep takes an RA certificate only if it either signs or decrypts, and an
RSA CA only; so it is told here which certificate is which.
"""

from __future__ import annotations

import re
import sys
import warnings
from types import SimpleNamespace
from typing import Any

warnings.simplefilter("ignore")

_search = re.search


def _lenient(pattern: Any, text: Any, flags: int = 0) -> Any:
    """Search, for as many digits as there may be."""
    if isinstance(pattern, str):
        pattern = pattern.replace(r"\.\d[a-z]*", r"\.\d+[a-z]*")
    return _search(pattern, text, flags)


re.search = _lenient  # type: ignore[assignment]
import requests  # noqa: E402
from scep.Client import ScepCSRBuilder, SigningRequest  # noqa: E402
from scep.Client.client import Client  # noqa: E402
from scep.Client.message import SCEPMessage  # noqa: E402

re.search = _search

USAGE = {"digital_signature", "key_encipherment"}


class MendedClient(Client):  # type: ignore[misc]
    """A client that is content with an RA certificate for both purposes."""

    def get_ca_certs(self, identifier: Any = None) -> Any:
        """Fetch the certificates, and tell the RA's by what it is not."""
        answer = requests.get(
            self.url, params={"operation": "GetCACert"}, timeout=30
        )
        found = SCEPMessage.parse(answer.content).certificates
        (ra,) = (each for each in found if not each.is_ca)
        (issuer,) = (each for each in found if each.subject == ra.issuer)
        return SimpleNamespace(recipient=ra, signer=ra, issuer=issuer)


def request(name: str, challenge: str | None = None) -> tuple[Any, Any]:
    """
    Return a request and its new key.

    SigningRequest.generate_csr would ask for serverAuth, too.
    """
    key = SigningRequest.generate_pair()
    builder = ScepCSRBuilder(
        {"common_name": name}, key.public_key.to_asn1_public_key()
    )
    builder.key_usage = USAGE
    builder.extended_key_usage = {"client_auth"}
    builder.password = challenge
    built = builder.build(key.to_asn1_private_key())
    return SigningRequest(request=built), key


def self_signed(name: str, key: Any) -> Any:
    """Return the certificate that signs a first request."""
    certificate, _ = SigningRequest.generate_self_signed(
        cn=name, key_usage=USAGE, private_key=key
    )
    return certificate


def issued(outcome: Any) -> Any:
    """Return the certificate in an outcome."""
    assert outcome.status.name == "SUCCESS", vars(outcome)
    return outcome.certificates[0]


def tell(*words: object) -> None:
    """Write a line at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Take every step."""
    url, guarded_url, challenge, guarded_challenge = sys.argv[1:]
    client = MendedClient(url)
    capabilities = client.get_ca_capabilities()
    tell(
        "uses",
        capabilities.strongest_cipher(),
        capabilities.strongest_message_digest(),
    )

    csr, key = request("pyscep", challenge)
    first = issued(client.enrol(csr, self_signed("pyscep", key), key))
    tell("enrolled", first.serial_number)

    renewal, new_key = request("pyscep")
    second = issued(client.enrol(renewal, first, key))
    tell("renewed", second.serial_number)

    again = issued(client.get_cert(second, new_key, first.serial_number))
    tell("fetched", again.serial_number)

    thief, thief_key = request("thief", challenge)
    refused = client.enrol(thief, self_signed("thief", thief_key), thief_key)
    tell("refused", refused.status.name, refused.fail_info)

    guarded = MendedClient(guarded_url)
    csr, key = request("pyscep-held", guarded_challenge)
    identity = self_signed("pyscep-held", key)
    held = guarded.enrol(csr, identity, key)
    tell(held.status.name)
    subject = identity.subject

    def poll() -> Any:
        return guarded.poll(identity, key, subject, held.transaction_id)

    tell(poll().status.name)
    sys.stdin.readline()
    tell("approved", issued(poll()).serial_number)

    crl = client.get_crl(second, new_key, first.serial_number).crl
    tell("CRL", crl.version)


if __name__ == "__main__":
    main()
