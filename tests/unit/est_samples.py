# SPDX-License-Identifier: MIT
"""EST for tests: requests with attributes, and a client that obeys."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from pyasn1.codec.der.decoder import decode
from pyasn1.type import char, constraint, namedtype, tag, univ
from pyasn1_modules import rfc2986, rfc5280, rfc7030
from twisted.internet.task import Clock

from trstctl.backends.keyfiles import to_pem
from trstctl.model import (
    CertificateQuery,
    CertificateRecord,
    GeneralName,
    Name,
    NameAttribute,
)
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cms import read_certs_only
from trstctl.pkix.names import encode_general_names, encode_name
from trstctl.plugin import ProtocolPlugin
from trstctl.policy.profile import Profile, builtin_profiles
from trstctl.protocols.est.codec import encode_base64
from trstctl.protocols.est.csrattrs import CSRAttribute, Item
from trstctl.testing import (
    EPOCH,
    TENANT,
    FakeSigner,
    MemoryStore,
    WallClock,
    add_password,
    basic,
    exchange,
    make_authority,
    make_ra,
    result_of,
    settings_for,
)
from trstctl.web import HTTPResponse

PRINTABLE, UTF8, IA5, BMP = 19, 12, 22, 30


def printable(text: str, tag_number: int = PRINTABLE) -> bytes:
    """Return a string's DER."""
    return der.tlv(tag_number, text.encode())


def subject_of(*pairs: tuple[str, str]) -> Name:
    """Return a name of one attribute in each RDN, by OID."""
    return tuple((NameAttribute(oid, value),) for oid, value in pairs)


def extension_request(
    extensions: Sequence[tuple[str, bytes]] = (),
    names: Sequence[GeneralName] = (),
) -> bytes:
    """Return the value of an extensionRequest attribute."""
    every = list(extensions)
    if names:
        every.append(("2.5.29.17", encode_general_names(names)))
    return der.sequence(
        *(der.sequence(der.oid(o), der.octet_string(v)) for o, v in every)
    )


def build_csr(
    key: Any,
    subject: bytes,
    attributes: Mapping[str, Sequence[bytes]],
    digest: Any = None,
) -> bytes:
    """
    Return a request, signed, of what RFC 2986 has in it and no library.

    :param attributes: the DER of the values of each, by OID.
    """
    spki = key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    information = der.sequence(
        der.integer(0),
        subject,
        spki,
        der.tlv(
            0xA0,
            b"".join(
                sorted(
                    der.sequence(der.oid(oid), der.set_of(*values))
                    for oid, values in attributes.items()
                )
            ),
        ),
    )
    digest = digest or hashes.SHA256()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        oid, signature = "1.3.101.112", key.sign(information)
        identifier = der.sequence(der.oid(oid))
    elif isinstance(key, rsa.RSAPrivateKey):
        oid = {"sha256": "1.2.840.113549.1.1.11"}[digest.name]
        signature = key.sign(information, padding.PKCS1v15(), digest)
        identifier = der.sequence(der.oid(oid), b"\x05\x00")
    else:
        oid = {
            "sha256": "1.2.840.10045.4.3.2",
            "sha384": "1.2.840.10045.4.3.3",
            "sha512": "1.2.840.10045.4.3.4",
        }[digest.name]
        signature = key.sign(information, ec.ECDSA(digest))
        identifier = der.sequence(der.oid(oid))
    return der.sequence(information, identifier, der.bit_string(signature))


def make_csr_with(
    attributes: Mapping[str, Sequence[bytes]],
    common_name: str = "d.example",
    names: Sequence[GeneralName] = (),
    key: Any = None,
    extensions: Sequence[tuple[str, bytes]] = (),
) -> bytes:
    """Return a request with these attributes beside names and extensions."""
    every = dict(attributes)
    if names or extensions:
        value = extension_request(extensions, names)
        every["1.2.840.113549.1.9.14"] = (value,)
    return build_csr(
        key or ec.generate_private_key(ec.SECP256R1()),
        encode_name(subject_of(("2.5.4.3", common_name))),
        every,
    )


# --- the template of RFC 9908, for pyasn1 -----------------------------------


class SingleAttributeTemplate(univ.Sequence):
    """``SEQUENCE { type, value OPTIONAL }``."""

    componentType = namedtype.NamedTypes(
        namedtype.NamedType("type", univ.ObjectIdentifier()),
        namedtype.OptionalNamedType("value", univ.Any()),
    )


class RDNTemplate(univ.SetOf):
    """``SET SIZE (1..MAX) OF``."""

    componentType = SingleAttributeTemplate()
    sizeSpec = constraint.ValueSizeConstraint(1, 64)


class NameTemplate(univ.SequenceOf):
    """``SEQUENCE OF``."""

    componentType = RDNTemplate()


class KeyTemplate(univ.Sequence):
    """``SEQUENCE { algorithm, subjectPublicKey OPTIONAL }``."""

    componentType = namedtype.NamedTypes(
        namedtype.NamedType("algorithm", rfc5280.AlgorithmIdentifier()),
        namedtype.OptionalNamedType("subjectPublicKey", univ.BitString()),
    )


class RequestTemplate(univ.Sequence):
    """``CertificationRequestInfoTemplate`` (RFC 9908, section 3.4)."""

    componentType = namedtype.NamedTypes(
        namedtype.NamedType("version", univ.Integer()),
        namedtype.OptionalNamedType("subject", NameTemplate()),
        namedtype.OptionalNamedType(
            "subjectPKInfo",
            KeyTemplate().subtype(
                implicitTag=tag.Tag(
                    tag.tagClassContext, tag.tagFormatConstructed, 0
                )
            ),
        ),
        namedtype.NamedType(
            "attributes",
            rfc2986.Attributes().subtype(
                implicitTag=tag.Tag(
                    tag.tagClassContext, tag.tagFormatConstructed, 1
                )
            ),
        ),
    )


class ExtensionTemplate(univ.Sequence):
    """``SEQUENCE { extnID, critical DEFAULT FALSE, extnValue OPTIONAL }``."""

    componentType = namedtype.NamedTypes(
        namedtype.NamedType("extnID", univ.ObjectIdentifier()),
        namedtype.DefaultedNamedType("critical", univ.Boolean(False)),
        namedtype.OptionalNamedType("extnValue", univ.OctetString()),
    )


class ExtensionTemplates(univ.SequenceOf):
    """``SEQUENCE OF ExtensionTemplate``."""

    componentType = ExtensionTemplate()


def decoded(data: bytes, schema: Any) -> Any:
    """Decode all of it with pyasn1."""
    found, rest = decode(data, asn1Spec=schema)
    assert b"" == rest
    return found


# --- the client that obeys --------------------------------------------------

_CURVES: Mapping[str, Callable[[], Any]] = {
    "1.2.840.10045.3.1.7": ec.SECP256R1,
    "1.3.132.0.34": ec.SECP384R1,
    "1.3.132.0.35": ec.SECP521R1,
}
_DIGESTS: Mapping[str, Callable[[], Any]] = {
    "1.2.840.10045.4.3.2": hashes.SHA256,
    "1.2.840.10045.4.3.3": hashes.SHA384,
    "1.2.840.10045.4.3.4": hashes.SHA512,
    "1.2.840.113549.1.1.11": hashes.SHA256,
}
_RSA_KEYS: dict[int, Any] = {}


def _usual_digest(key: Any) -> Callable[[], Any]:
    """Return the digest of a curve's strength (RFC 5480, section 4)."""
    bits = getattr(key, "key_size", 0)
    if isinstance(key, ec.EllipticCurvePrivateKey) and bits > 256:
        return hashes.SHA384 if bits == 384 else hashes.SHA512
    return hashes.SHA256


def read_csr_attributes(data: bytes) -> tuple[Item, ...]:
    """Return what a DER CsrAttrs holds, in order, as a client would."""

    def read(item: tuple[int, bytes, bytes]) -> Item:
        if item[0] == der.OBJECT_IDENTIFIER:
            return der.oid_text(item[1])
        kind, values = der.children(item[1])
        return CSRAttribute(
            der.oid_text(kind[1]),
            tuple(value[2] for value in der.children(values[1])),
        )

    der.check(data, max_bytes=len(data))
    return tuple(map(read, der.children(der.content(data, der.SEQUENCE))))


class ObedientClient:
    """
    Builds a request from nothing but a /csrattrs answer and its own facts.

    :param facts: values for subject attributes, by OID.
    :param names: its alternative names.
    :param binding: what it puts where its session is to be named.
    :param knows_templates: ignores all else, if there is one (RFC 9908).
    """

    def __init__(
        self,
        answer: bytes,
        facts: Mapping[str, str],
        names: Sequence[GeneralName],
        binding: str = "",
        *,
        knows_templates: bool = False,
    ) -> None:
        self.facts, self.names = facts, names
        self.subject: dict[str, str] = {}
        self.extensions: dict[str, bytes] = {}
        self.attributes: dict[str, tuple[bytes, ...]] = {}
        self.key: Any = None
        self.digest: Any = None
        items = list(decoded(answer, rfc7030.CsrAttrs()))
        templates = [
            bytes(item["attribute"]["attrValues"][0])
            for item in items
            if item.getName() == "attribute"
            and str(item["attribute"]["attrType"]).endswith(".16.2.61")
        ]
        if templates and knows_templates:
            self._obey_template(templates[0])
            return
        for item in items:
            if item.getName() == "oid":
                self._obey(str(item["oid"]), binding)
            else:
                attribute = item["attribute"]
                values = [bytes(one) for one in attribute["attrValues"]]
                self._obey_attribute(str(attribute["attrType"]), values)

    def csr(self) -> bytes:
        """Return the request."""
        subject = self.subject or {"2.5.4.3": self.facts["2.5.4.3"]}
        attributes = dict(self.attributes)
        if self.extensions:
            attributes["1.2.840.113549.1.9.14"] = (
                extension_request(tuple(self.extensions.items())),
            )
        return build_csr(
            self.key or ec.generate_private_key(ec.SECP256R1()),
            encode_name(subject_of(*subject.items())),
            attributes,
            (self.digest or _usual_digest(self.key))(),
        )

    def _obey(self, oid: str, binding: str) -> None:
        """Do what an OID by itself says."""
        if oid in _DIGESTS:
            self.digest = _DIGESTS[oid]
        elif oid in ("1.2.840.113549.1.9.14", "2.5.29.17"):
            self.extensions["2.5.29.17"] = encode_general_names(self.names)
        elif oid in ("1.2.840.113549.1.9.7", "1.2.840.113549.1.9.16.2.58"):
            self.attributes[oid] = (printable(binding),)
        elif oid == "1.2.840.113549.1.1.1":
            self._take_rsa(2048)
        elif oid == "1.3.101.112":
            self.key = ed25519.Ed25519PrivateKey.generate()
        else:
            self.subject[oid] = self.facts[oid]

    def _obey_attribute(self, oid: str, values: list[bytes]) -> None:
        """Do what an attribute says."""
        if oid == "1.2.840.10045.2.1":
            curve = str(decoded(values[0], univ.ObjectIdentifier()))
            self.key = ec.generate_private_key(_CURVES[curve]())
        elif not values:
            self._obey(oid, "")
        elif oid == "1.2.840.113549.1.1.1":
            self._take_rsa(int(decoded(values[0], univ.Integer())))
        elif oid == "1.2.840.113549.1.9.14":
            for one in decoded(values[0], rfc5280.Extensions()):
                self.extensions[str(one["extnID"])] = bytes(one["extnValue"])

    def _take_rsa(self, bits: int) -> None:
        """Take an RSA key of a size; they take long to make."""
        if bits not in _RSA_KEYS:
            _RSA_KEYS[bits] = rsa.generate_private_key(65537, bits)
        self.key = _RSA_KEYS[bits]

    def _obey_template(self, template: bytes) -> None:
        """Fill in a template."""
        found = decoded(template, RequestTemplate())
        assert 0 == int(found["version"])
        if found["subject"].isValue:
            for rdn in found["subject"]:
                for one in rdn:
                    oid = str(one["type"])
                    self.subject[oid] = self.facts.get(oid, "")
                    if one["value"].isValue:
                        text, _ = decode(bytes(one["value"]))
                        assert isinstance(text, char.AbstractCharacterString)
                        self.subject[oid] = str(text)
        if found["subjectPKInfo"].isValue:
            self._take_key(found["subjectPKInfo"])
        for attribute in found["attributes"]:
            (value,) = attribute["values"]
            schema: Any = ExtensionTemplates()
            if str(attribute["type"]) == "1.2.840.113549.1.9.14":
                schema = rfc5280.Extensions()
            for one in decoded(bytes(value), schema):
                oid = str(one["extnID"])
                self.extensions[oid] = (
                    bytes(one["extnValue"])
                    if one["extnValue"].isValue
                    else encode_general_names(self.names)
                )

    def _take_key(self, template: Any) -> None:
        """Make a key of the template's kind and size."""
        oid = str(template["algorithm"]["algorithm"])
        if oid == "1.2.840.10045.2.1":
            parameters = bytes(template["algorithm"]["parameters"])
            curve = str(decoded(parameters, univ.ObjectIdentifier()))
            self.key = ec.generate_private_key(_CURVES[curve]())
        elif oid == "1.3.101.112":
            self.key = ed25519.Ed25519PrivateKey.generate()
        else:
            bits = 2048
            if template["subjectPublicKey"].isValue:
                octets = template["subjectPublicKey"].asOctets()
                modulus = der.children(der.content(octets, der.SEQUENCE))[0]
                bits = int.from_bytes(modulus[1], "big").bit_length()
            self._take_rsa(bits)


# --- a gateway and a factory ------------------------------------------------

ROOT = "/.well-known/est"
PKCS10 = {
    "Content-Type": "application/pkcs10",
    "User-Agent": "test",
    "Accept": "*/*",
}


class ESTBench:
    """
    EST over the real registration authority, with one password.

    :param profiles: beside ``device``, whose settings may be changed here.
    :param settings: of ``protocols.est``.
    """

    def __init__(
        self,
        profiles: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.clock = Clock()
        self.now = WallClock(self.clock)
        self.store: Any = MemoryStore()
        self.signer = FakeSigner()
        self.authorities: Any = {
            "issuing": make_authority(signer=self.signer),
            "other": make_authority("other"),
        }
        self.ra = make_ra(
            self.store,
            authorities=self.authorities,
            profiles=profiles,
            clock=self.clock,
            now=self.now,
        )
        plugin: Any = ProtocolPlugin(
            "est", "trstctl.protocols.est.resource.ESTResource"
        )
        self.resource: Any = plugin.make_resource(
            self.ra, settings_for(plugin, **settings)
        )
        self.key = ec.generate_private_key(ec.SECP256R1())
        add_password(self.store, "a", "pw")

    def change(self, **profile: Any) -> None:
        """Reload with other settings of ``device``."""
        settings = evolve(builtin_profiles()["device"], **profile)
        changed: Any = Profile("device", settings)
        rules = self.ra.rules
        self.ra.rules = evolve(
            rules, profiles={**rules.profiles, "device": changed}
        )

    def get(self, path: str) -> HTTPResponse:
        """Fetch something."""
        return exchange(self.resource, "GET", ROOT + path)

    def post(
        self,
        csr: bytes,
        operation: str = "simpleenroll",
        label: str = "",
        *,
        certificate: bytes | None = None,
        chain: tuple[bytes, ...] = (),
        binding: bytes | None = None,
        password: bool | None = None,
        **headers: str,
    ) -> HTTPResponse:
        """
        Send a request for a certificate.

        :param password: whether to present it; if there is no certificate,
            by default.
        """
        if password is None:
            password = certificate is None
        return exchange(
            self.resource,
            "POST",
            f"{ROOT}/{label}/{operation}" if label else f"{ROOT}/{operation}",
            encode_base64(csr, single_line=False),
            {
                **PKCS10,
                **(basic("a", "pw") if password else {}),
                **{name.replace("_", "-"): v for name, v in headers.items()},
            },
            client_certificate=certificate,
            client_chain=chain,
            channel_binding=binding,
            clock=self.clock,
        )

    def issued(self, *arguments: Any, **options: Any) -> bytes:
        """Send a request, and return the certificate."""
        answer = self.post(*arguments, **options)
        assert 200 == answer.status, answer.body
        (certificate,) = read_certs_only(base64.b64decode(answer.body))
        return certificate

    def refused(self, status: int, *arguments: Any, **options: Any) -> str:
        """Send a request in vain: nothing is left; return the text."""
        before = self.census()
        answer = self.post(*arguments, **options)
        assert status == answer.status, answer.body
        assert before == self.census()
        return answer.body.decode()

    def census(self) -> list[Any]:
        """Return everything that an enrollment would leave behind."""
        query = CertificateQuery(TENANT)
        return [
            *result_of(self.store.list_certificates(query)),
            *result_of(self.store.list_requests(TENANT, None, 10_000)),
            len(self.signer.signed),
        ]

    def record(self, certificate: bytes) -> CertificateRecord:
        """Return a certificate's row of the inventory."""
        serial = read_certificate(certificate).serial
        found: CertificateRecord = result_of(
            self.store.find_certificate(TENANT, serial)
        )
        return found

    def audited(self, event: str) -> list[dict[str, Any]]:
        """Return the audit records of an event."""
        records = result_of(self.store.audit_records(TENANT, 0, 10_000))
        bodies = [json.loads(record.body) for record in records]
        return [body for body in bodies if body["event"] == event]


class Factory:
    """A manufacturer: a root, a CA below it, and its devices."""

    def __init__(
        self,
        name: str = "Acme",
        ca_key: Any = None,
        digest: hashes.HashAlgorithm | None = None,
    ) -> None:
        self.digest = digest or hashes.SHA256()
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.ca_key = ca_key or ec.generate_private_key(ec.SECP256R1())
        self.root_name = x509.Name(
            [x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} root")]
        )
        self.ca_name = x509.Name(
            [x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} CA")]
        )
        self.root = self._sign(
            self.root_name, self.root_key, self.root_name, self.root_key, True
        )
        self.ca = self._sign(
            self.ca_name, self.ca_key, self.root_name, self.root_key, True
        )

    def device(
        self,
        serial_number: str = "SN-1",
        organization: str = "Acme",
        common_name: str = "",
        names: Sequence[str] = (),
        usages: Sequence[x509.ObjectIdentifier] = (),
        days: int = 36500,
        *,
        is_ca: bool = False,
        key: Any = None,
    ) -> bytes:
        """Return a device's IDevID."""
        pairs = [
            (x509.NameOID.SERIAL_NUMBER, serial_number),
            (x509.NameOID.ORGANIZATION_NAME, organization),
            (x509.NameOID.COMMON_NAME, common_name),
        ]
        subject = x509.Name(
            [x509.NameAttribute(oid, text) for oid, text in pairs if text]
        )
        return self._sign(
            subject,
            key or ec.generate_private_key(ec.SECP256R1()),
            self.ca_name,
            self.ca_key,
            is_ca,
            names,
            usages,
            days,
        )

    def _sign(
        self,
        subject: x509.Name,
        key: Any,
        issuer: x509.Name,
        issuer_key: Any,
        is_ca: bool,
        names: Sequence[str] = (),
        usages: Sequence[x509.ObjectIdentifier] = (),
        days: int = 36500,
    ) -> bytes:
        """Return a certificate."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(EPOCH - timedelta(days=1))
            .not_valid_after(EPOCH + timedelta(days=days))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([*map(x509.DNSName, names)]),
                critical=False,
            )
        if usages:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage(usages), critical=False
            )
        digest = self.digest if issuer_key is self.ca_key else hashes.SHA256()
        signed = builder.sign(issuer_key, digest)
        return signed.public_bytes(Encoding.DER)


def pem_file(folder: Path, name: str, *certificates: bytes) -> Path:
    """Write certificates into a file, and return its path."""
    path = folder / name
    path.write_bytes(to_pem(certificates))
    return path
