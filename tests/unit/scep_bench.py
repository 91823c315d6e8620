# SPDX-License-Identifier: MIT
"""SCEP as tests hold it: a real registration authority, and a client."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from scep_samples import (
    Message,
    Reply,
    certificates_and_crls,
    ec_key,
    issuer_and_serial,
    read_reply,
    rsa_key,
    subject_of,
)
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from trstctl.model import Purpose, StoredCRL
from trstctl.plugin import ProtocolPlugin
from trstctl.testing import (
    EPOCH,
    TENANT,
    MemoryStore,
    add_challenge,
    exchange,
    make_authority,
    make_ra,
    result_of,
    settings_for,
)
from trstctl.web import HTTPResponse

PLUGIN: Any = ProtocolPlugin(
    "scep", "trstctl.protocols.scep.resource.SCEPResource"
)
PATH = "/scep"
PKI_MESSAGE = "application/x-pki-message"

#: Answers, as :attr:`scep_samples.Reply.status` has them.
SUCCESS, PENDING = "0", "3"
BAD_ALG, BAD_CHECK, BAD_REQUEST, BAD_CERT_ID = "2/0", "2/1", "2/2", "2/4"


def make_crl() -> bytes:
    """Return a CRL; whose it is, nobody here asks."""
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateRevocationListBuilder(issuer, EPOCH, EPOCH)
    signed = builder.sign(ec_key(), hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


class Revocation:
    """Has one CRL."""

    def __init__(self) -> None:
        self.der = make_crl()

    def crl(self, authority: str, scope: str) -> Deferred[StoredCRL]:
        """Return it."""
        found = StoredCRL(authority, scope, 1, 0, EPOCH, EPOCH, 0, self.der)
        return succeed(found)


class Bench:
    """
    A gateway with SCEP and one device.

    :param settings: of the section ``protocols.scep``.
    """

    def __init__(
        self,
        profiles: Mapping[str, Any] | None = None,
        authorities: tuple[str, ...] | Mapping[str, Any] = ("issuing",),
        store: Any = None,
        **settings: Any,
    ) -> None:
        self.store: Any = store or MemoryStore()
        self.clock = Clock()
        self.authorities: Any = authorities
        if isinstance(authorities, tuple):
            self.authorities = {
                name: make_authority(name) for name in authorities
            }
        self.ra: Any = make_ra(
            self.store,
            authorities=self.authorities,
            profiles=profiles,
            clock=self.clock,
        )
        revocation: Any = Revocation()
        self.ra.revocation = revocation
        self.resource = PLUGIN.make_resource(
            self.ra, settings_for(PLUGIN, **settings)
        )
        self.recipient = self.credential(next(iter(authorities))).certificate

    def credential(self, authority: str = "issuing") -> Any:
        """Return the newest message credential."""
        return result_of(self.ra.credentials.get(authority, Purpose.SCEP))

    @property
    def issuer(self) -> bytes:
        """The DER of the CA's name."""
        return subject_of(self.authorities["issuing"].certificate)

    def challenge(self, **wishes: Any) -> str:
        """Return a challenge that is good for one certificate."""
        return add_challenge(self.store, **wishes).secret

    def message(self, **changes: Any) -> Message:
        """Return a message to the default endpoint."""
        return Message(**{"recipient": self.recipient, **changes})

    def http(
        self, method: str, target: str, body: bytes = b"", **headers: str
    ) -> HTTPResponse:
        """Exchange HTTP."""
        return exchange(
            self.resource, method, target, body, headers, clock=self.clock
        )

    def post(
        self,
        message: Message | bytes,
        target: str = f"{PATH}?operation=PKIOperation",
    ) -> HTTPResponse:
        """Send a message."""
        octets = message.der() if isinstance(message, Message) else message
        return self.http("POST", target, octets)

    def ask(
        self,
        message: Message | bytes,
        target: str = f"{PATH}?operation=PKIOperation",
    ) -> Reply:
        """Send a message and read the CertRep."""
        answer = self.post(message, target)
        assert answer.status == 200, answer
        assert answer.content_type == PKI_MESSAGE
        return read_reply(answer.body)

    def enrolled(self, message: Message, key: Any = None) -> bytes:
        """Send a request and return the certificate."""
        reply = self.ask(message)
        assert reply.status == SUCCESS, reply
        certificates, _ = reply.opened(key or message.key)
        return certificates[0]

    def named(self, certificate: bytes) -> bytes:
        """Return what names a certificate of ours."""
        serial = x509.load_der_x509_certificate(certificate).serial_number
        return issuer_and_serial(self.issuer, serial)

    def certificates(self, operation: str = "GetCACert") -> list[bytes]:
        """Return what the endpoint tells of itself."""
        answer = self.http("GET", f"{PATH}?operation={operation}")
        assert answer.status == 200, answer
        return certificates_and_crls(answer.body)[0]

    def count(self) -> int:
        """Return how many certificates there are."""
        counted = result_of(
            self.store.count_certificates(TENANT, self.ra.now())
        )
        return int(counted["valid"])


def query(message: Message | bytes, form: str = "escaped") -> str:
    """Return the query of a GET, as one client or another writes it."""
    octets = message.der() if isinstance(message, Message) else message
    text = base64.b64encode(octets).decode()
    match form:
        case "raw":  # macOS and jscep escape neither + nor /
            text = text.replace("=", "%3D")
        case "spaces":
            text = text.replace("+", "%20")
        case "lines":  # sscep
            lines = base64.encodebytes(octets).decode()
            text = quote(lines, safe="")
        case "unpadded":
            text = quote(text.rstrip("="), safe="")
        case "url":  # micromdm
            text = base64.urlsafe_b64encode(octets).decode()
        case "twice":
            text = quote(quote(text, safe=""), safe="")
        case _:
            text = quote(text, safe="")
    return f"?operation=PKIOperation&message={text}"


__all__ = [
    "BAD_ALG",
    "BAD_CERT_ID",
    "BAD_CHECK",
    "BAD_REQUEST",
    "PATH",
    "PENDING",
    "PKI_MESSAGE",
    "PLUGIN",
    "SUCCESS",
    "Bench",
    "query",
    "rsa_key",
]
