# SPDX-License-Identifier: MIT
"""
Requests that somebody else has encoded: by pyasn1, with the schema of RFC
9810, and as loosely as such programs do.  Both modes take them.

Algorithm identifiers come without parameters where they may, names of other
kinds than directory names, times with fractions of a second.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
from cmp_client import Site, make_site
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from pyasn1.codec.der.decoder import decode
from pyasn1.codec.der.encoder import encode
from pyasn1.type import tag, univ, useful
from pyasn1_alt_modules import rfc4211, rfc5280, rfc6402, rfc8018, rfc9810

from trstctl.pkix.cms import key_identifier
from trstctl.testing import EPOCH, DeterministicBytes

MODES = ["interop", "strict"]
NULL = univ.Null("")
SHA256 = univ.ObjectIdentifier("2.16.840.1.101.3.4.2.1")
HMAC_SHA256 = univ.ObjectIdentifier("1.2.840.113549.2.9")
ITERATIONS = 600
SECONDS = EPOCH.strftime("%Y%m%d%H%M%S")

#: Algorithms of signatures, by the kind of key.
SIGNATURES = {
    rsa.RSAPrivateKey: "1.2.840.113549.1.1.11",
    ec.EllipticCurvePrivateKey: "1.2.840.10045.4.3.2",
    ed25519.Ed25519PrivateKey: "1.3.101.112",
}
_random = DeterministicBytes("another encoder")


@pytest.fixture(params=MODES)
def site(request: pytest.FixtureRequest) -> Site:
    """A gateway, in either mode."""
    return make_site(mode=request.param)


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """Return an RSA key: one for all, as it takes a while."""
    return rsa.generate_private_key(65537, 2048)


def context(number: int, *, simple: bool = True) -> tag.Tag:
    """Return a context tag."""
    form = tag.tagFormatSimple if simple else tag.tagFormatConstructed
    return tag.Tag(tag.tagClassContext, form, number)


def octets(value: bytes, number: int) -> Any:
    """Return an OCTET STRING under an explicit tag."""
    return univ.OctetString(value).subtype(explicitTag=context(number))


# --- names ------------------------------------------------------------------


def rdn_sequence(text: str) -> Any:
    """Return an RDNSequence of one common name, or the NULL-DN."""
    attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]
    name = x509.Name(attributes if text else [])
    return decode(name.public_bytes(), rfc5280.Name())[0]["rdnSequence"]


def directory_name(text: str) -> Any:
    """Return a GeneralName."""
    name = rfc5280.GeneralName()
    name["directoryName"]["rdnSequence"] = rdn_sequence(text)
    return name


def mail(text: str) -> Any:
    """Return an rfc822Name, whatever is in it."""
    name = rfc5280.GeneralName()
    name["rfc822Name"] = text
    return name


# --- keys and signatures ----------------------------------------------------


def algorithm(key: Any, *, null: bool) -> tuple[Any, Any]:
    """Return OID and parameters of a signature's algorithm."""
    (oid,) = (
        each for kind, each in SIGNATURES.items() if isinstance(key, kind)
    )
    return univ.ObjectIdentifier(oid), NULL if null else None


def sign(key: Any, data: bytes) -> bytes:
    """Sign with SHA-256, where there is a digest."""
    made: bytes
    if isinstance(key, rsa.RSAPrivateKey):
        made = key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        made = key.sign(data, ec.ECDSA(hashes.SHA256()))
    else:
        made = key.sign(data)
    return made


def fill_algorithm(target: Any, oid: Any, parameters: Any = None) -> None:
    """Fill an AlgorithmIdentifier."""
    target["algorithm"] = oid
    if parameters is not None:
        target["parameters"] = parameters


# --- bodies -----------------------------------------------------------------


def template(
    text: str | None, key: Any, extensions: Sequence[Any] = ()
) -> Any:
    """Return a CertTemplate."""
    made = rfc4211.CertTemplate()
    if text is not None:
        made["subject"]["rdnSequence"] = rdn_sequence(text)
    spki = decode(
        key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        ),
        rfc5280.SubjectPublicKeyInfo(),
    )[0]
    made["publicKey"]["algorithm"] = spki["algorithm"]
    made["publicKey"]["subjectPublicKey"] = spki["subjectPublicKey"]
    if extensions:
        made["extensions"].extend(extensions)
    return made


def extension(oid: str, value: bytes, *, critical: bool = True) -> Any:
    """Return an Extension."""
    made = rfc5280.Extension()
    made["extnID"] = univ.ObjectIdentifier(oid)
    made["critical"] = critical
    made["extnValue"] = univ.OctetString(value)
    return made


def request(
    kind: str,
    key: Any,
    text: str | None = "device",
    *,
    null: bool = False,
    extensions: Sequence[Any] = (),
    old: bytes = b"",
) -> Any:
    """
    Return an ir, cr or kur.

    :param null: whether algorithms that need no parameters have NULL.
    :param old: the certificate that oldCertID names.
    """
    message = rfc4211.CertReqMsg()
    message["certReq"]["certReqId"] = 0
    message["certReq"]["certTemplate"] = template(text, key, extensions)
    if old:
        named = decode(old, rfc5280.Certificate())[0]["tbsCertificate"]
        control = rfc4211.AttributeTypeAndValue()
        control["type"] = rfc4211.id_regCtrl_oldCertID
        identifier = rfc4211.CertId()
        issuer = identifier["issuer"]["directoryName"]
        issuer["rdnSequence"] = named["issuer"]["rdnSequence"]
        identifier["serialNumber"] = named["serialNumber"]
        control["value"] = identifier
        message["certReq"]["controls"].append(control)
    proof = message["popo"]["signature"]
    fill_algorithm(proof["algorithmIdentifier"], *algorithm(key, null=null))
    proof["signature"] = univ.BitString.fromOctetString(
        sign(key, encode(message["certReq"]))
    )
    body = rfc9810.PKIBody()
    body[kind].append(message)
    return body


def pkcs10(key: Any, text: str = "device") -> Any:
    """Return a p10cr."""
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
        )
        .sign(key, hashes.SHA256())
    )
    found = decode(
        csr.public_bytes(Encoding.DER), rfc6402.CertificationRequest()
    )[0]
    body = rfc9810.PKIBody()
    for name in found:
        body["p10cr"][name] = found[name]
    return body


def confirmation(certificate: bytes, *, algorithm: bool) -> Any:
    """Return a certConf, with hashAlg if wanted."""
    body = rfc9810.PKIBody()
    status = rfc9810.CertStatus()
    status["certHash"] = hashlib.sha256(certificate).digest()
    status["certReqId"] = 0
    if algorithm:
        status["hashAlg"]["algorithm"] = SHA256
    body["certConf"].append(status)
    return body


# --- messages ---------------------------------------------------------------


def header(
    sender: Any,
    kid: bytes,
    *,
    fraction: str = "",
    implicit: bool = True,
    pvno: int = 2,
    transaction: bytes = b"",
    answers: bytes = b"",
) -> Any:
    """Return a PKIHeader with all that may be there."""
    made = rfc9810.PKIHeader()
    made["pvno"] = pvno
    made["sender"] = sender
    made["recipient"] = mail("CN=somebody")
    made["messageTime"] = useful.GeneralizedTime(
        f"{SECONDS}{fraction}Z"
    ).subtype(explicitTag=context(0))
    made["senderKID"] = octets(kid, 2)
    made["recipKID"] = octets(b"CN=somebody", 3)
    made["transactionID"] = octets(transaction or _random(16), 4)
    made["senderNonce"] = octets(_random(16), 5)
    if answers:
        made["recipNonce"] = octets(answers, 6)
    if implicit:
        item = rfc9810.InfoTypeAndValue()
        item["infoType"] = univ.ObjectIdentifier("1.3.6.1.5.5.7.4.13")
        item["infoValue"] = NULL
        made["generalInfo"].append(item)
    return made


def whole(head: Any, body: Any, protect: Callable[[bytes], bytes]) -> Any:
    """Return a PKIMessage."""
    part = rfc9810.ProtectedPart()
    part["header"], part["body"] = head, body
    message = rfc9810.PKIMessage()
    message["header"], message["body"] = head, body
    message["protection"] = rfc9810.PKIProtection.fromOctetString(
        protect(encode(part))
    ).subtype(explicitTag=context(0))
    return message


def under_pbm(
    head: Any, body: Any, secret: str, *, null: bool = False
) -> bytes:
    """Return a message under a shared secret: PasswordBasedMac."""
    salt = _random(16)
    parameters = rfc9810.PBMParameter()
    parameters["salt"] = salt
    fill_algorithm(parameters["owf"], SHA256, NULL if null else None)
    parameters["iterationCount"] = ITERATIONS
    fill_algorithm(parameters["mac"], HMAC_SHA256, NULL if null else None)
    fill_algorithm(
        head["protectionAlg"], rfc9810.id_PasswordBasedMac, parameters
    )
    key = secret.encode() + salt
    for _ in range(ITERATIONS):
        key = hashlib.sha256(key).digest()
    encoded: bytes = encode(
        whole(head, body, lambda part: hmac.digest(key, part, "sha256"))
    )
    return encoded


def under_pbmac1(
    head: Any, body: Any, secret: str, *, null: bool = False
) -> bytes:
    """Likewise: PBMAC1."""
    salt = _random(16)
    derivation = rfc8018.PBKDF2_params()
    derivation["salt"]["specified"] = salt
    derivation["iterationCount"] = ITERATIONS
    derivation["keyLength"] = 32
    fill_algorithm(derivation["prf"], HMAC_SHA256, NULL)
    parameters = rfc8018.PBMAC1_params()
    fill_algorithm(
        parameters["keyDerivationFunc"], rfc8018.id_PBKDF2, derivation
    )
    fill_algorithm(
        parameters["messageAuthScheme"], HMAC_SHA256, NULL if null else None
    )
    fill_algorithm(head["protectionAlg"], rfc8018.id_PBMAC1, parameters)
    key = hashlib.pbkdf2_hmac("sha256", secret.encode(), salt, ITERATIONS, 32)
    encoded: bytes = encode(
        whole(head, body, lambda part: hmac.digest(key, part, "sha256"))
    )
    return encoded


def signed(
    head: Any, body: Any, key: Any, certificate: bytes, *, null: bool = False
) -> bytes:
    """Return a signed message."""
    fill_algorithm(head["protectionAlg"], *algorithm(key, null=null))
    message = whole(head, body, lambda part: sign(key, part))
    message["extraCerts"].append(
        decode(certificate, rfc9810.CMPCertificate())[0]
    )
    encoded: bytes = encode(message)
    return encoded


KEYS: dict[str, Callable[[], Any]] = {
    "rsa": rsa_key,
    "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


class SecretTests:
    """Messages under a shared secret (RFC 9483, section 4.1.5)."""

    @pytest.mark.parametrize("protect", [under_pbm, under_pbmac1])
    @pytest.mark.parametrize("null", [False, True])
    @pytest.mark.parametrize("kind", sorted(KEYS))
    def test_a_request(
        self, site: Site, protect: Any, null: bool, kind: str
    ) -> None:
        """RFC 4055, section 5: parameters may be absent, or NULL."""
        secret, key = site.secret(), KEYS[kind]()
        reference = secret.record.id
        reply = site.send(
            protect(
                header(directory_name(reference), reference.encode()),
                request("ir", key, null=null and kind == "rsa"),
                secret.secret,
                null=null,
            )
        )
        assert ("ip", "accepted") == (reply.type, reply.pki_status)
        assert reply.is_mac_of(secret)

    @pytest.mark.parametrize("fraction", [".5", ".123", ".000001"])
    def test_fractions_of_a_second(self, site: Site, fraction: str) -> None:
        """RFC 9810, section 5.2.9, has none; pyasn1 may write them."""
        secret = site.secret()
        reference = secret.record.id
        reply = site.send(
            under_pbm(
                header(
                    directory_name(reference),
                    reference.encode(),
                    fraction=fraction,
                ),
                request("cr", KEYS["ec"]()),
                secret.secret,
            )
        )
        assert ("cp", "accepted") == (reply.type, reply.pki_status)

    @pytest.mark.parametrize("version", [2, 3])
    def test_a_confirmation(self, site: Site, version: int) -> None:
        """RFC 9810, section 5.3.18: hashAlg is for version 3."""
        secret = site.secret()
        sender = directory_name(secret.record.id)
        kid = f"CN={secret.record.id}".encode()
        reply = site.send(
            under_pbm(
                header(sender, kid, implicit=False, pvno=version),
                request("ir", KEYS["ec"]()),
                secret.secret,
            )
        )
        assert ("accepted", version) == (reply.pki_status, reply.header.pvno)
        done = site.send(
            under_pbm(
                header(
                    sender,
                    kid,
                    implicit=False,
                    pvno=version,
                    transaction=reply.header.transaction_id or b"",
                    answers=reply.header.sender_nonce or b"",
                ),
                confirmation(reply.certificate, algorithm=version > 2),
                secret.secret,
            )
        )
        assert "pkiconf" == done.type
        assert done.is_mac_of(secret)

    @pytest.mark.parametrize(
        ("mode", "failure"), [("strict", "badMessageCheck"), ("interop", "")]
    )
    def test_a_sender_of_another_kind(self, mode: str, failure: str) -> None:
        """RFC 9483, section 3.1: by the letter it is a directoryName."""
        site = make_site(mode=mode)
        secret = site.secret()
        reply = site.send(
            under_pbm(
                header(mail("CN=device"), secret.record.id.encode()),
                pkcs10(KEYS["ec"]()),
                secret.secret,
            )
        )
        assert failure == reply.failure


class SignatureTests:
    """Signed messages (RFC 9483, sections 4.1.2 to 4.1.4)."""

    @pytest.mark.parametrize("null", [False, True])
    def test_all_kinds(self, site: Site, null: bool) -> None:
        """ir, cr, p10cr and kur, with the RSA key of a certificate."""
        secret, key = site.secret(), rsa_key()
        reference = secret.record.id
        usage = extension("2.5.29.15", b"\x03\x02\x05\xa0")
        first = site.send(
            under_pbm(
                header(directory_name(reference), reference.encode()),
                request("ir", key, null=null, extensions=(usage,)),
                secret.secret,
            )
        )
        assert "accepted" == first.pki_status
        certificate = first.certificate
        kid = key_identifier(certificate)
        assert kid is not None
        for kind, answer in (
            ("ir", "ip"),
            ("cr", "cp"),
            ("p10cr", "cp"),
            ("kur", "kup"),
        ):
            new = KEYS["ec"]()
            body = (
                pkcs10(new)
                if kind == "p10cr"
                else request(
                    kind, new, old=certificate if kind == "kur" else b""
                )
            )
            reply = site.send(
                signed(
                    header(directory_name("device"), kid),
                    body,
                    key,
                    certificate,
                    null=null,
                )
            )
            assert (answer, "accepted") == (reply.type, reply.pki_status)
            assert reply.is_signed()
