# SPDX-License-Identifier: MIT
"""
A CMP client for tests: it writes with the codec, and reads with pyasn1, so
that every answer that comes is decoded by somebody else, too.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import count
from typing import Any

from attrs import define, evolve, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from second_decoder import read_answer
from twisted.internet.task import Clock

from trstctl.interfaces import IEnrollmentProtocol
from trstctl.model import MintedSecret, Name, NameAttribute
from trstctl.pkix import algorithms, der
from trstctl.pkix.cmp import PKIBody, prepare, read_message
from trstctl.pkix.cmp_header import PKIHeader, party
from trstctl.pkix.cmp_mac import HMACS, read_mac
from trstctl.pkix.cmp_protection import (
    PBMAC1,
    PasswordBasedMac,
    read_protection,
)
from trstctl.pkix.cmp_status import FAILURES, STATUSES
from trstctl.pkix.cms import key_identifier
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.policy.profile import ProfileSettings
from trstctl.ra import RegistrationAuthority
from trstctl.testing import (
    EPOCH,
    Connection,
    DeterministicBytes,
    MemoryStore,
    add_challenge,
    make_authority,
    make_csr,
    make_ra,
    read_response,
    request_octets,
    settings_for,
)
from twisted.plugins.trstctl_cmp import cmp

ECDSA = "ecdsa-with-sha256"
NULL = b"\x05\x00"
Key = ec.EllipticCurvePrivateKey
_random = DeterministicBytes("cmp client")
_numbers = count(1)

#: As OpenSSL 3.0 writes it: SHA-256, 500 iterations, HMAC-SHA1.
_OWF = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"))
_HMAC_SHA1 = der.sequence(der.oid("1.3.6.1.5.5.8.1.2"), NULL)
_HMAC_SHA256 = der.sequence(der.oid(HMACS["sha256"]), NULL)


def new_key() -> Key:
    """Return a fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def cn(text: str) -> Name:
    """Return a name of one common name."""
    return ((NameAttribute("2.5.4.3", text),),)


def spki(key: Any) -> bytes:
    """Return the SubjectPublicKeyInfo."""
    octets: bytes = key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return octets


def pbm(iterations: int = 500) -> PasswordBasedMac:
    """Return PasswordBasedMac with a fresh salt."""
    mac = read_mac(_HMAC_SHA1)
    assert mac is not None
    return PasswordBasedMac("sha256", _random(16), iterations, mac, _OWF)


def pbmac1() -> PBMAC1:
    """Return PBMAC1 with a fresh salt."""
    mac = read_mac(_HMAC_SHA256)
    assert mac is not None
    return PBMAC1("sha256", _random(16), 500, mac, 32)


# --- bodies -----------------------------------------------------------------


def cert_req(
    template: CertTemplate,
    key: Any,
    *,
    number: int = 0,
    controls: bytes = b"",
    proof: bytes | None = None,
) -> bytes:
    """Return a CertReqMsg, signed with the key."""
    request = der.sequence(der.integer(number), template.der(), controls)
    if proof is None:
        signature = algorithms.sign(key, ECDSA, request)
        proof = der.tlv(
            0xA1,
            algorithms.algorithm_identifier(ECDSA) + der.bit_string(signature),
        )
    return der.sequence(request, proof)


def asks(
    kind: str = "ir", name: str = "device", key: Any = None, **how: Any
) -> PKIBody:
    """Return an ir, cr or kur for a common name."""
    key = key or new_key()
    template = CertTemplate(subject=cn(name), public_key=spki(key))
    return PKIBody(kind, der.sequence(cert_req(template, key, **how)))


def pkcs10(name: str = "device", key: Any = None) -> PKIBody:
    """Return a p10cr."""
    return PKIBody("p10cr", make_csr(name, key=key))


def cert_conf(
    certificate: bytes,
    *,
    number: int = 0,
    status: bytes = b"",
    digest: bytes | None = None,
    more: bytes = b"",
) -> PKIBody:
    """Return a certConf of one certificate."""
    digest = digest or hashlib.sha256(certificate).digest()
    return PKIBody(
        "certConf",
        der.sequence(
            der.sequence(
                der.octet_string(digest), der.integer(number), status, more
            )
        ),
    )


def poll_req(number: int = 0) -> PKIBody:
    """Return a pollReq."""
    return PKIBody("pollReq", der.sequence(der.sequence(der.integer(number))))


def rev_req(template: CertTemplate, *reasons: int) -> PKIBody:
    """Return an rr."""
    extensions = [
        der.sequence(
            der.oid("2.5.29.21"), der.octet_string(bytes((0x0A, 1, reason)))
        )
        for reason in reasons
    ]
    return PKIBody(
        "rr",
        der.sequence(
            der.sequence(
                template.der(), der.sequence(*extensions) if reasons else b""
            )
        ),
    )


# --- messages ---------------------------------------------------------------


@frozen
class Signer:
    """A certificate with its key, and what is sent beside it."""

    certificate: bytes
    key: Any
    chain: tuple[bytes, ...] = ()


def header_of(**changes: Any) -> PKIHeader:
    """Return the header of a first message, as RFC 9483 wants it."""
    return evolve(
        PKIHeader(
            pvno=2,
            sender=party(()),
            recipient=party(cn("CA")),
            message_time=EPOCH,
            transaction_id=_random(16),
            sender_nonce=_random(16),
        ),
        **changes,
    )


def protected_by_secret(
    secret: MintedSecret,
    body: PKIBody,
    *,
    text: str | None = None,
    mac: Any = None,
    extra: Sequence[bytes] = (),
    **changes: Any,
) -> bytes:
    """Return a message under a shared secret."""
    mac = mac or pbm()
    header = header_of(
        **{
            "sender": party(cn(secret.record.id)),
            "sender_kid": secret.record.id.encode(),
            "protection_alg": mac.der(),
            **changes,
        }
    )
    prepared = prepare(header, body)
    key = mac.derive((text or secret.secret).encode())
    return prepared.finish(mac.compute(key, prepared.protected_part), extra)


def signed(
    signer: Signer,
    body: PKIBody,
    *,
    extra: Sequence[bytes] | None = None,
    **changes: Any,
) -> bytes:
    """Return a signed message."""
    is_rsa = isinstance(signer.key, rsa.RSAPrivateKey)
    algorithm = "sha256-with-rsa" if is_rsa else ECDSA
    certificate = x509.load_der_x509_certificate(signer.certificate)
    name = tuple(
        (NameAttribute(each.oid.dotted_string, str(each.value)),)
        for each in certificate.subject
    )
    header = header_of(
        **{
            "sender": party(name),
            "sender_kid": key_identifier(signer.certificate),
            "protection_alg": algorithms.algorithm_identifier(algorithm),
            **changes,
        }
    )
    prepared = prepare(header, body)
    if extra is None:
        extra = (signer.certificate, *signer.chain)
    return prepared.finish(
        algorithms.sign(signer.key, algorithm, prepared.protected_part), extra
    )


def self_signed(key: Any, name: str = "stranger") -> bytes:
    """Return a certificate that nobody vouches for."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder(
        subject,
        subject,
        key.public_key(),
        7,
        EPOCH.replace(year=2020),
        EPOCH.replace(year=2040),
    ).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.DER)


# --- answers ----------------------------------------------------------------


@frozen
class Reply:
    """An answer, as pyasn1 reads it."""

    status: int
    media_type: str
    octets: bytes = field(repr=False)

    @cached_property
    def _decoded(self) -> Any:
        return read_answer(self.octets)

    @property
    def header(self) -> PKIHeader:
        """The header, as our own codec reads it."""
        return read_message(self.octets).header

    @property
    def type(self) -> str:
        """The type of the body."""
        found: str = self._decoded["body"].getName()
        return found

    @property
    def _response(self) -> Any:
        """The one CertResponse."""
        (response,) = self._decoded["body"][self.type]["response"]
        return response

    @property
    def _info(self) -> Any:
        """The one PKIStatusInfo."""
        body = self._decoded["body"]
        if self.type == "error":
            return body["error"]["pKIStatusInfo"]
        if self.type == "rp":
            (info,) = body["rp"]["status"]
            return info
        return self._response["status"]

    @property
    def pki_status(self) -> str:
        """The name of the PKIStatus."""
        return STATUSES[int(self._info["status"])]

    @property
    def failure(self) -> str:
        """The names of the failInfo's bits; empty if there are none."""
        bits = self._info["failInfo"]
        if not bits.isValue:
            return ""
        return " ".join(FAILURES[i] for i, bit in enumerate(bits) if bit)

    @property
    def code(self) -> str:
        """The stable code behind the text."""
        (text,) = self._info["statusString"]
        return str(text).rpartition("[")[2].removesuffix("]")

    @property
    def cert_req_id(self) -> int:
        """The certReqId."""
        return int(self._response["certReqId"])

    @property
    def certificate(self) -> bytes:
        """The new certificate, cut out of the octets as they are."""
        ca_pubs, body = b"", read_message(self.octets).body.value
        *first, responses = der.children(der.content(body, der.SEQUENCE))
        del ca_pubs, first
        (response,) = der.children(der.content(responses[2], der.SEQUENCE))
        pair = der.children(response[1])[2]
        chosen = der.children(pair[1])[0]
        (certificate,) = der.children(chosen[1])
        return certificate[2]

    @property
    def extra_certs(self) -> tuple[bytes, ...]:
        """What came beside the body."""
        return read_message(self.octets).extra_certs

    def is_mac_of(self, secret: MintedSecret) -> bool:
        """Tell whether the answer is protected with a secret."""
        message = read_message(self.octets)
        mac: Any = read_protection(message.header.protection_alg or b"")
        key = mac.derive(secret.secret.encode())
        return hmac.compare_digest(
            mac.compute(key, message.protected_part), message.protection or b""
        )

    def is_signed(self) -> bool:
        """Tell whether the first extra certificate's key has signed it."""
        message = read_message(self.octets)
        certificate = x509.load_der_x509_certificate(message.extra_certs[0])
        algorithm: Any = read_protection(message.header.protection_alg or b"")
        return bool(
            algorithm.verify(
                certificate.public_key().public_bytes(
                    Encoding.DER, PublicFormat.SubjectPublicKeyInfo
                ),
                message.protected_part,
                message.protection or b"",
            )
        )


# --- the gateway ------------------------------------------------------------


@define
class Site:
    """A gateway in memory, and who may use it."""

    store: Any
    clock: Clock
    ra: RegistrationAuthority
    resource: Any
    profiles: Mapping[str, ProfileSettings]

    def secret(self, **wishes: Any) -> MintedSecret:
        """Return a shared secret that nobody has used."""
        wishes.setdefault("device", "")
        # The number makes the id another.
        patterns = (f"dns:*.{next(_numbers)}.example", "cn:*", "dns:*")
        return add_challenge(
            self.store, protocol="cmp", names=patterns, **wishes
        )

    def send(self, octets: bytes, path: str = "/cmp", **headers: str) -> Reply:
        """Send a message and return what came back."""
        connection = Connection(self.resource, clock=self.clock)
        media = {"Content-Type": "application/pkixcmp", **headers}
        connection.send(request_octets("POST", path, octets, media))
        answer = read_response(connection.received())
        connection.lose()
        reply = Reply(answer.status, answer.content_type, answer.body)
        if reply.media_type == "application/pkixcmp":
            assert reply.type  # it decodes, whatever the test looks at
        return reply

    def enrolled(self, name: str = "device", **how: Any) -> Signer:
        """Return a certificate that was got by ir, confirmed implicitly."""
        key = new_key()
        reply = self.send(
            protected_by_secret(
                self.secret(), asks("ir", name, key), **{**IMPLICIT, **how}
            )
        )
        return Signer(reply.certificate, key)

    def record(self, certificate: bytes) -> Any:
        """Return a certificate's row of the inventory."""
        serial = x509.load_der_x509_certificate(certificate).serial_number
        return self.store.tables.certificates[
            self.resource.endpoint.tenant_id, f"{serial:x}"
        ]


def make_site(
    profiles: Mapping[str, Any] | None = None,
    authorities: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Site:
    """Return a gateway with CMP."""
    clock, store = Clock(), MemoryStore()
    store_: Any = store
    ra = make_ra(
        store_,
        clock=clock,
        authorities=authorities or {"issuing": make_authority()},
        profiles=profiles or {},
    )
    plugin: IEnrollmentProtocol = cmp
    resource = plugin.make_resource(ra, settings_for(plugin, **settings))
    return Site(store, clock, ra, resource, profiles or {})


def _implicit() -> dict[str, Any]:
    from trstctl.pkix.cmp_header import GeneralInfo

    return {"general_info": GeneralInfo(implicit_confirm=True)}


IMPLICIT = _implicit()


def make_ra_site(**settings: Any) -> tuple[Site, Signer]:
    """Return a gateway, and a registration authority for branch-*."""
    rules = ProfileSettings(
        subject={"CN": ProfileSettings().subject["CN"]},
        extended_key_usage=("cmcRA",),
    )
    site = make_site(
        {"ra": rules},
        registration_authorities={
            "branch": {
                "certificate_profile": "ra",
                "names": ("cn:branch-*",),
            }
        },
        labels={"ra": {"profile": "ra"}},
        **settings,
    )
    key = new_key()
    reply = site.send(
        protected_by_secret(
            site.secret(profile="ra"), asks(name="RA", key=key), **IMPLICIT
        ),
        "/cmp/p/ra",
    )
    return site, Signer(reply.certificate, key)
