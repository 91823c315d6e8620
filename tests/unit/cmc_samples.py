# SPDX-License-Identifier: MIT
"""
A client of Full CMC for tests: it writes PKIData by hand, and reads answers
with pyasn1 and ``cryptography``, so that each is decoded by somebody else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from attrs import field, frozen
from cmp_client import ECDSA, NULL, Signer, cert_req, cn, spki
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from est_samples import ROOT, ESTBench, decoded, make_csr_with
from pyasn1.codec.der.encoder import encode
from pyasn1_alt_modules import rfc5652, rfc6402

from trstctl.model import Extension, MintedSecret, Purpose
from trstctl.pkix import algorithms, der
from trstctl.pkix.cmc import PKI_DATA
from trstctl.pkix.cmc_controls import CONTROLS
from trstctl.pkix.cms import content_info
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.pkix.digests import identifiers
from trstctl.pkix.signing import prepare_signed
from trstctl.testing import EPOCH, add_challenge, basic, exchange, result_of
from trstctl.web import HTTPResponse

SKI = "2.5.29.14"
SHA1 = der.sequence(der.oid("1.3.14.3.2.26"))
SHA256 = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"))
HMAC_SHA256 = der.sequence(der.oid("1.2.840.113549.2.9"), NULL)
MEDIA = "application/pkcs7-mime; smime-type=CMC-request"
_WHO = {"User-Agent": "test", "Accept": "*/*"}


# --- PKIData ----------------------------------------------------------------


def octets(value: bytes) -> bytes:
    """Return a control that is an OCTET STRING."""
    return der.octet_string(value)


def utf8(text: str) -> bytes:
    """Return a control that is a UTF8String."""
    return der.tlv(12, text.encode())


def control(number: int, name: str, *values: bytes) -> bytes:
    """Return a TaggedAttribute, by wire name or dotted type."""
    return der.sequence(
        der.integer(number),
        der.oid(CONTROLS.get(name, name)),
        der.set_of(*values),
    )


def tcr(csr: bytes, number: int = 1) -> bytes:
    """Return a PKCS#10 request."""
    return der.tlv(0xA0, der.integer(number) + csr)


def crm(message: bytes) -> bytes:
    """Return a CRMF request."""
    return der.tlv(0xA1, der.content(message, der.SEQUENCE))


def orm(number: int = 1) -> bytes:
    """Return a request of some other kind."""
    return der.tlv(0xA2, der.integer(number) + der.oid("1.2.3.4") + NULL)


def pki_data(
    controls: Iterable[bytes] = (),
    requests: Iterable[bytes] = (),
    infos: Iterable[bytes] = (),
    others: Iterable[bytes] = (),
) -> bytes:
    """Return a PKIData."""
    return der.sequence(
        *(
            der.sequence(*parts)
            for parts in (controls, requests, infos, others)
        )
    )


def key_id(key: Any) -> bytes:
    """Return a subjectKeyIdentifier."""
    return hashlib.sha1(spki(key), usedforsecurity=False).digest()


def csr_of(
    key: Any,
    name: str = "d.example",
    attributes: Mapping[str, Sequence[bytes]] | None = None,
    *,
    ski: bool = True,
) -> bytes:
    """Return a request that asks for its subjectKeyIdentifier."""
    wanted = ((SKI, der.octet_string(key_id(key))),) if ski else ()
    return make_csr_with(attributes or {}, name, key=key, extensions=wanted)


def crmf_of(key: Any, name: str = "d.example", **how: Any) -> bytes:
    """Return a CertReqMsg that asks for its subjectKeyIdentifier."""
    template = how.pop("template", None) or CertTemplate(
        subject=cn(name),
        public_key=spki(key),
        extensions=(ski_extension(key),),
    )
    return cert_req(template, key, **{"number": 1, **how})


def ski_extension(key: Any) -> Extension:
    """Return an extension that asks for a key's identifier."""
    return Extension(SKI, False, der.octet_string(key_id(key)))


def witness(
    secret: str,
    over: bytes,
    suffix: str = "",
    digest: bytes = SHA256,
    mac: bytes = HMAC_SHA256,
) -> bytes:
    """Return IdentityProofV2 or PopLinkWitnessV2."""
    key = hashlib.sha256((secret + suffix).encode()).digest()
    value = hmac.digest(key, over, "sha256")
    return der.sequence(digest, mac, der.octet_string(value))


def identity(secret: MintedSecret, requests: Sequence[bytes]) -> list[bytes]:
    """Return the controls that prove a shared secret."""
    over = der.sequence(*requests)
    return [
        control(101, "identification", utf8(secret.record.id)),
        control(
            102,
            "identityProofV2",
            witness(secret.secret, over, secret.record.id),
        ),
    ]


def revocation(
    certificate: bytes,
    *,
    issuer: bytes | None = None,
    serial: int | None = None,
    reason: int = 0,
    more: bytes = b"",
) -> bytes:
    """Return a RevokeRequest of a certificate."""
    loaded = x509.load_der_x509_certificate(certificate)
    return der.sequence(
        loaded.issuer.public_bytes() if issuer is None else issuer,
        der.integer(loaded.serial_number if serial is None else serial),
        bytes((0x0A, 1, reason)),
        more,
    )


# --- SignedData -------------------------------------------------------------


def signed_by(
    signer: Signer,
    data: bytes,
    *,
    at: datetime | None = EPOCH,
    content_type: str = PKI_DATA,
    more: Sequence[bytes] = (),
    bag: Sequence[bytes] | None = None,
) -> bytes:
    """Return a message that a certificate signs."""
    prepared = prepare_signed(
        data,
        certificate=signer.certificate,
        algorithm=ECDSA,
        attributes={},
        content_type=content_type,
        certificates=(
            (signer.certificate, *signer.chain, *more) if bag is None else bag
        ),
        signing_time=at,
    )
    return prepared.finish(
        algorithms.sign(signer.key, ECDSA, prepared.to_sign)
    )


def signed_by_key(key: Any, data: bytes, sid: bytes | None = None) -> bytes:
    """Return a message that the key to be certified signs."""
    _, digest, identifier = identifiers(ECDSA)
    attributes = der.set_of(
        der.sequence(
            der.oid("1.2.840.113549.1.9.3"), der.set_of(der.oid(PKI_DATA))
        ),
        der.sequence(
            der.oid("1.2.840.113549.1.9.4"),
            der.set_of(der.octet_string(hashlib.sha256(data).digest())),
        ),
    )
    signer = der.sequence(
        der.integer(3),
        der.tlv(0x80, key_id(key) if sid is None else sid),
        digest,
        b"\xa0" + attributes[1:],
        identifier,
        der.octet_string(algorithms.sign(key, ECDSA, attributes)),
    )
    return content_info(
        "1.2.840.113549.1.7.2",
        der.sequence(
            der.integer(3),
            der.set_of(digest),
            der.sequence(
                der.oid(PKI_DATA), der.explicit(0, der.octet_string(data))
            ),
            der.set_of(signer),
        ),
    )


def unsigned(data: bytes, content_type: str = PKI_DATA) -> bytes:
    """Return a message that nobody signs."""
    return content_info(
        "1.2.840.113549.1.7.2",
        der.sequence(
            der.integer(3),
            der.set_of(),
            der.sequence(
                der.oid(content_type), der.explicit(0, der.octet_string(data))
            ),
            der.set_of(),
        ),
    )


# --- answers ----------------------------------------------------------------


@frozen
class Answer:
    """A Full PKI Response, as pyasn1 reads it."""

    http: HTTPResponse = field(repr=False)

    @cached_property
    def octets(self) -> bytes:
        """The ContentInfo."""
        return base64.b64decode(self.http.body)

    @cached_property
    def _signed(self) -> Any:
        """The SignedData."""
        info = decoded(self.octets, rfc5652.ContentInfo())
        return decoded(bytes(info["content"]), rfc5652.SignedData())

    @cached_property
    def controls(self) -> dict[str, bytes]:
        """The one value of each control, by dotted type."""
        inner = self._signed["encapContentInfo"]
        assert rfc6402.id_cct_PKIResponse == inner["eContentType"]
        response = decoded(bytes(inner["eContent"]), rfc6402.PKIResponse())
        numbers = [int(one["bodyPartID"]) for one in response[0]]
        assert len(set(numbers)) == len(numbers)
        found = {}
        for one in response["controlSequence"]:
            (value,) = one["attrValues"]
            found[str(one["attrType"])] = bytes(value)
        return found

    def control(self, name: str) -> bytes | None:
        """Return the value of a control by its wire name."""
        return self.controls.get(CONTROLS[name])

    @cached_property
    def _info(self) -> Any:
        """The CMCStatusInfoV2."""
        value = self.control("statusInfoV2")
        return decoded(value or b"", rfc6402.CMCStatusInfoV2())

    @property
    def status(self) -> str:
        """The name of the CMCStatus."""
        number = int(self._info["cMCStatus"])
        return str(self._info["cMCStatus"].namedValues.getName(number))

    @property
    def failure(self) -> str:
        """The name of the CMCFailInfo, or empty."""
        other = self._info["otherInfo"]
        if not other.isValue or other.getName() != "failInfo":
            return ""
        info = other["failInfo"]
        return str(info.namedValues.getName(int(info)))

    @property
    def pending(self) -> tuple[bytes, str] | None:
        """The pendToken and pendTime, if they are there."""
        if not self._info["otherInfo"].isValue:
            return None
        info = self._info["otherInfo"]["pendInfo"]
        return bytes(info["pendToken"]), str(info["pendTime"])

    @property
    def parts(self) -> list[int]:
        """The bodyList."""
        return [int(one["bodyPartID"]) for one in self._info["bodyList"]]

    @property
    def text(self) -> str:
        """The statusString."""
        return str(self._info["statusString"])

    @cached_property
    def certificates(self) -> list[bytes]:
        """What came beside, in its order, cut out of the octets."""
        content = der.children(der.content(self.octets, der.SEQUENCE))[1][1]
        parts = der.children(der.content(content, der.SEQUENCE))
        (bag,) = (part[1] for part in parts if part[0] == 0xA0)
        return [part[2] for part in der.children(bag)]

    @property
    def certificate(self) -> bytes:
        """The new certificate."""
        return self.certificates[0]

    def check_signature(self) -> x509.Certificate:
        """Verify the signature; return the signer's certificate."""
        (info,) = self._signed["signerInfos"]
        serial = int(info["sid"]["issuerAndSerialNumber"]["serialNumber"])
        certificates = map(x509.load_der_x509_certificate, self.certificates)
        (signer,) = (
            one for one in certificates if one.serial_number == serial
        )
        key = signer.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        attributes = encode(info["signedAttrs"])
        key.verify(
            bytes(info["signature"]),
            b"\x31" + attributes[1:],
            ec.ECDSA(hashes.SHA256()),
        )
        digest = hashlib.sha256(
            bytes(self._signed["encapContentInfo"]["eContent"])
        ).digest()
        assert digest in attributes
        return signer


class CMCBench(ESTBench):
    """EST with /fullcmc."""

    def __init__(self, profiles: Any = None, **settings: Any) -> None:
        super().__init__(profiles, **{"fullcmc": True, **settings})
        # What answers are signed with is certified by the first.
        result_of(self.ra.credentials.get("issuing", Purpose.CMP))

    def secret(self, **wishes: Any) -> MintedSecret:
        """Return a shared secret."""
        return add_challenge(self.store, protocol="est", **wishes)

    def send(
        self,
        message: bytes,
        *,
        password: bool = False,
        certificate: bytes | None = None,
        binding: bytes | None = None,
        body: bytes | None = None,
        media: str = MEDIA,
        label: str = "",
        **headers: str,
    ) -> HTTPResponse:
        """Send a message."""
        place = f"{ROOT}/{label}" if label else ROOT
        return exchange(
            self.resource,
            "POST",
            f"{place}/fullcmc",
            base64.encodebytes(message) if body is None else body,
            {
                **_WHO,
                "Content-Type": media,
                **(basic("a", "pw") if password else {}),
                **{name.replace("_", "-"): v for name, v in headers.items()},
            },
            client_certificate=certificate,
            channel_binding=binding,
            clock=self.clock,
        )

    def ask(self, message: bytes, **how: Any) -> Answer:
        """Send a message; return the message that answers it."""
        answer = Answer(self.send(message, **how))
        assert (
            "application/pkcs7-mime; smime-type=CMC-response"
            == answer.http.content_type
        ), answer.http.body
        assert "base64" == answer.http.headers["Content-Transfer-Encoding"]
        return answer

    def told(self, message: bytes, **how: Any) -> tuple[int, str, list[int]]:
        """
        Send a message in vain: nothing is left.

        :returns: HTTP status, CMCFailInfo or CMCStatus, and the body parts.
        """
        before = self.census()
        answer = self.ask(message, **how)
        assert before == self.census()
        answer.check_signature()
        return (
            answer.http.status,
            answer.failure or answer.status,
            answer.parts,
        )

    def device(self, name: str = "d.example", **how: Any) -> Signer:
        """Return an enrolled device."""
        key = ec.generate_private_key(ec.SECP256R1())
        csr = make_csr_with({}, name, key=key)
        return Signer(self.issued(csr, **how), key)
