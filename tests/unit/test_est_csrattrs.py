# SPDX-License-Identifier: MIT
"""CSR attributes: RFC 7030, 8951 and 9908; what is told is what is meant."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from est_samples import (
    ExtensionTemplates,
    ObedientClient,
    RequestTemplate,
    decoded,
    make_csr_with,
    read_csr_attributes,
)
from pyasn1.codec.der.encoder import encode
from pyasn1_modules import rfc5280, rfc7030

from trstctl.model import (
    CSRWishes,
    Endpoint,
    EnrollmentRequest,
    Extension,
    GeneralName,
    Operation,
    Principal,
)
from trstctl.pkix import der
from trstctl.pkix.csr import read_csr
from trstctl.policy.profile import Profile, ProfileSettings, SubjectRule
from trstctl.protocols.est.csrattrs import (
    EXTENSION_TEMPLATE,
    TEMPLATE,
    CSRAttribute,
    advertised,
    encode_csr_attributes,
    missing,
)
from trstctl.testing import EPOCH, TENANT

CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
EC_KEY = "1.2.840.10045.2.1"
FORMS = ("classic", "extensions", "template")

#: As the RFCs print them, with what they hold.
VECTORS: dict[str, tuple[str, list[tuple[str, int]]]] = {
    "RFC 7030 and RFC 8951": (
        "MEEGCSqGSIb3DQEJBzASBgcqhkjOPQIBMQcGBSuBBAAiMBYGCSqGSIb3DQEJDjEJ"
        "BgcrBgEBAQEWBggqhkjOPQQDAw==",
        [
            (CHALLENGE_PASSWORD, 0),
            (EC_KEY, 1),
            (EXTENSION_REQUEST, 1),
            ("1.2.840.10045.4.3.3", 0),
        ],
    ),
    "RFC 9908, corrected": (
        "MDIGCSqGSIb3DQEJBzASBgcqhkjOPQIBMQcGBSuBBAAiBgcrBgEBAQEWBggqhkjO"
        "PQQDAw==",
        [
            (CHALLENGE_PASSWORD, 0),
            (EC_KEY, 1),
            ("1.3.6.1.1.1.1.22", 0),
            ("1.2.840.10045.4.3.3", 0),
        ],
    ),
    "RFC 9908, RSA 4096": (
        "MCkGCSqGSIb3DQEJBzARBgkqhkiG9w0BAQExBAICEAAGCSqGSIb3DQEBCw==",
        [
            (CHALLENGE_PASSWORD, 0),
            ("1.2.840.113549.1.1.1", 1),
            ("1.2.840.113549.1.1.11", 0),
        ],
    ),
    "RFC 9908, P-384 and serialNumber": (
        "MC4GCSqGSIb3DQEJBzASBgcqhkjOPQIBMQcGBSuBBAAiBgNVBAUGCCqGSM49BAMD",
        [
            (CHALLENGE_PASSWORD, 0),
            (EC_KEY, 1),
            ("2.5.4.5", 0),
            ("1.2.840.10045.4.3.3", 0),
        ],
    ),
    "nothing": ("MAA=", []),
    "RFC 9908, a name from the server": (
        "MGgwZgYJKoZIhvcNAQkOMVkwVzBVBgNVHREBAf8ESzBJoEcGCCsGAQUFBwgKoDsW"
        "OXJmYzg5OTQrZmQ3MzlmYzIzYzM0NDAxMTIyMzM0NDU1MDAwMDAwMDArQGFjcC5l"
        "eGFtcGxlLmNvbQ==",
        [(EXTENSION_REQUEST, 1)],
    ),
}


class StructureTests:
    """CsrAttrs, from and to octets (RFC 8951, section 4)."""

    @pytest.mark.parametrize("name", VECTORS)
    def test_vectors(self, name: str) -> None:
        """Each vector is read, and written again to the octet."""
        text, expected = VECTORS[name]
        data = base64.b64decode(text)
        items = read_csr_attributes(data)
        assert expected == [
            (item, 0)
            if isinstance(item, str)
            else (item.oid, len(item.values))
            for item in items
        ]
        # An empty SEQUENCE is as good as no answer, which is what we give.
        assert (data if items else b"") == encode_csr_attributes(items)

    @pytest.mark.parametrize("name", VECTORS)
    def test_second_decoder(self, name: str) -> None:
        """pyasn1 reads the same out of what we write."""
        data = base64.b64decode(VECTORS[name][0])
        items = read_csr_attributes(data)
        other = decoded(data, rfc7030.CsrAttrs())
        assert data == encode(other)
        for ours, theirs in zip(items, other, strict=True):
            if isinstance(ours, str):
                assert ours == str(theirs["oid"])
            else:
                attribute = theirs["attribute"]
                values = tuple(bytes(one) for one in attribute["attrValues"])
                assert ours.oid == str(attribute["attrType"])
                assert ours.values == values

    def test_name_of_the_server(self) -> None:
        """The vector with an otherName holds one Extensions."""
        data = base64.b64decode(VECTORS["RFC 9908, a name from the server"][0])
        (item,) = read_csr_attributes(data)
        assert isinstance(item, CSRAttribute)
        (extension,) = decoded(item.values[0], rfc5280.Extensions())
        assert "2.5.29.17" == str(extension["extnID"])


ADVERTISED: list[tuple[CSRWishes, list[tuple[str, list[str]]]]] = [
    (
        CSRWishes(subject_attributes=("2.5.4.5",)),
        [("2.5.4.5", [])],
    ),
    (
        CSRWishes(extensions=("2.5.29.17",)),
        [(EXTENSION_REQUEST, [])],
    ),
    (
        CSRWishes(algorithms=("p-384",), digests=("sha384",)),
        [(EC_KEY, ["06052b81040022"]), ("1.2.840.10045.4.3.3", [])],
    ),
    (
        CSRWishes(algorithms=("p-256",), digests=("sha256", "sha384")),
        [(EC_KEY, ["06082a8648ce3d030107"])],
    ),
    (
        CSRWishes(algorithms=("p-521",), digests=("sha1",)),
        [(EC_KEY, ["06052b81040023"])],
    ),
    (
        CSRWishes(algorithms=("rsa",), digests=("sha256",)),
        [("1.2.840.113549.1.1.1", []), ("1.2.840.113549.1.1.11", [])],
    ),
    (
        CSRWishes(algorithms=("rsa-4096",), digests=("sha512",)),
        [
            ("1.2.840.113549.1.1.1", ["02021000"]),
            ("1.2.840.113549.1.1.13", []),
        ],
    ),
    (
        CSRWishes(algorithms=("ed25519",), digests=("sha256",)),
        [("1.3.101.112", [])],
    ),
    (
        CSRWishes(algorithms=("ml-dsa-65",)),
        [("2.16.840.1.101.3.4.3.18", [])],
    ),
    (
        CSRWishes(issued=(Extension("2.5.29.37", False, b"\x30\x00"),)),
        [],
    ),
]


class AdvertisedTests:
    """What a profile wishes to see (RFC 7030, section 4.5.2)."""

    @pytest.mark.parametrize(("wishes", "expected"), ADVERTISED)
    def test_classic(
        self, wishes: CSRWishes, expected: list[tuple[str, list[str]]]
    ) -> None:
        """Each form decodes by the schema of RFC 7030."""
        items = advertised(wishes)
        assert expected == [
            (item, [])
            if isinstance(item, str)
            else (item.oid, [value.hex() for value in item.values])
            for item in items
        ]
        if items:
            decoded(encode_csr_attributes(items), rfc7030.CsrAttrs())

    def test_link_is_required(self) -> None:
        """RFC 8951, section 4: whoever requires the link MUST say so."""
        wishes = CSRWishes(algorithms=("rsa-4096",), digests=("sha256",))
        vector = base64.b64decode(VECTORS["RFC 9908, RSA 4096"][0])
        items = advertised(wishes, links=(CHALLENGE_PASSWORD,))
        assert vector == encode_csr_attributes(items)

    @pytest.mark.parametrize(
        "wishes",
        [
            CSRWishes(),
            CSRWishes(algorithms=("rsa", "p-256"), digests=("sha256",)),
            CSRWishes(algorithms=("other:1.2.3",)),
        ],
    )
    @pytest.mark.parametrize("form", FORMS)
    def test_no_wishes(self, wishes: CSRWishes, form: str) -> None:
        """Only what every request must have is asked for."""
        assert () == advertised(wishes, form)

    @pytest.mark.parametrize("form", ["extensions", "template"])
    def test_one_extension_request(self, form: str) -> None:
        """RFC 9908, section 3.2: exactly one, with exactly one Extensions."""
        wishes = Profile(
            "p",
            ProfileSettings(
                key_types=("p-256",),
                names={"dns": ("*",)},
                names_required=True,
                certificate_policies=("1.2.3.4",),
            ),
        ).wishes()
        items = advertised(wishes, form)
        (found,) = [
            item
            for item in items
            if isinstance(item, CSRAttribute) and item.oid == EXTENSION_REQUEST
        ]
        (value,) = found.values
        oids = [
            str(one["extnID"]) for one in decoded(value, rfc5280.Extensions())
        ]
        assert ["2.5.29.15", "2.5.29.37", "2.5.29.32"] == oids
        # What has no value to be told is asked for by its OID.
        assert "2.5.29.17" in items
        assert EXTENSION_REQUEST not in items

    @pytest.mark.parametrize(
        ("algorithm", "oid"),
        [
            ("rsa", "1.2.840.113549.1.1.1"),
            ("ed25519", "1.3.101.112"),
            ("ml-dsa-44", "2.16.840.1.101.3.4.3.17"),
        ],
    )
    def test_any_key_of_a_type(self, algorithm: str, oid: str) -> None:
        """RFC 9908, section 3.2: one attribute; no value, no demand."""
        wishes = CSRWishes(algorithms=(algorithm,), digests=("sha256",))
        for form in ("extensions", "template"):
            items = advertised(wishes, form)
            assert CSRAttribute(oid, ()) == items[0]
            assert oid not in items
            der_items = encode_csr_attributes(items)
            assert items == read_csr_attributes(der_items)
            first = decoded(der_items, rfc7030.CsrAttrs())[0]["attribute"]
            assert oid == str(first["attrType"])
            assert 0 == len(first["attrValues"])

    def test_usages_of_several_kinds_of_keys(self) -> None:
        """Only what every key gets is told: RSA keys get more usages."""
        wishes = Profile("p", ProfileSettings()).wishes()
        assert ["2.5.29.37"] == [each.oid for each in wishes.issued]

    def test_size_of_rsa_keys(self) -> None:
        """One size is told; a range cannot be."""
        for low, high, expected in (
            (3072, 3072, "rsa-3072"),
            (2048, 3072, "rsa"),
        ):
            profile = Profile(
                "p",
                ProfileSettings(
                    key_types=("rsa",), rsa_bits_min=low, rsa_bits_max=high
                ),
            )
            assert (expected,) == profile.wishes().algorithms


def template_of(wishes: CSRWishes) -> Any:
    """Return the template, read by pyasn1."""
    (value,) = [
        item.values[0]
        for item in advertised(wishes, "template")
        if isinstance(item, CSRAttribute) and item.oid == TEMPLATE
    ]
    found = decoded(value, RequestTemplate())
    assert value == encode(found)
    return found


class TemplateTests:
    """CertificationRequestInfoTemplate (RFC 9908, section 3.4)."""

    def test_whole(self) -> None:
        """Version 0, subject, key and attributes, in their places."""
        found = template_of(
            CSRWishes(
                algorithms=("p-384",),
                subject_attributes=("2.5.4.3", "2.5.4.10"),
                fixed=(("2.5.4.10", "Example Ltd"), ("2.5.4.6", "CH")),
                extensions=("2.5.29.17",),
                issued=(Extension("2.5.29.15", True, b"\x03\x01\x00"),),
            )
        )
        assert 0 == int(found["version"])
        subject = [
            (
                str(one["type"]),
                bytes(one["value"]) if one["value"].isValue else None,
            )
            for rdn in found["subject"]
            for one in rdn
        ]
        assert [
            ("2.5.4.3", None),
            ("2.5.4.10", b"\x0c\x0bExample Ltd"),
            ("2.5.4.6", b"\x13\x02CH"),
        ] == subject
        key = found["subjectPKInfo"]
        assert EC_KEY == str(key["algorithm"]["algorithm"])
        assert not key["subjectPublicKey"].isValue
        (attribute,) = found["attributes"]
        assert EXTENSION_TEMPLATE == str(attribute["type"])
        (value,) = attribute["values"]
        blank, given = decoded(bytes(value), ExtensionTemplates())
        assert not blank["extnValue"].isValue
        assert b"\x03\x01\x00" == bytes(given["extnValue"])
        assert bool(given["critical"])

    def test_only_values(self) -> None:
        """Where nothing is left blank, it is an id-ExtensionReq, not both."""
        found = template_of(
            CSRWishes(issued=(Extension("2.5.29.37", False, b"\x30\x00"),))
        )
        (attribute,) = found["attributes"]
        assert EXTENSION_REQUEST == str(attribute["type"])
        assert not found["subject"].isValue
        assert not found["subjectPKInfo"].isValue

    def test_rsa_of_a_size(self) -> None:
        """A placeholder of the wanted size stands for the size."""
        found = template_of(CSRWishes(algorithms=("rsa-3072",)))
        key = found["subjectPKInfo"]
        octets = key["subjectPublicKey"].asOctets()
        modulus = der.children(der.content(octets, der.SEQUENCE))[0][1]
        assert 3072 == int.from_bytes(modulus, "big").bit_length()
        assert b"\x05\x00" == bytes(key["algorithm"]["parameters"])

    @pytest.mark.parametrize(
        ("algorithm", "oid"),
        [("rsa", "1.2.840.113549.1.1.1"), ("ed25519", "1.3.101.112")],
    )
    def test_any_of_a_type(self, algorithm: str, oid: str) -> None:
        """Without a size there is no placeholder."""
        key = template_of(CSRWishes(algorithms=(algorithm,)))["subjectPKInfo"]
        assert oid == str(key["algorithm"]["algorithm"])
        assert not key["subjectPublicKey"].isValue
        assert (algorithm == "rsa") == key["algorithm"]["parameters"].isValue

    def test_key_of_a_plugin(self) -> None:
        """What has no OID is left out."""
        found = template_of(
            CSRWishes(
                algorithms=("other:1.2",), subject_attributes=("2.5.4.3",)
            )
        )
        assert not found["subjectPKInfo"].isValue


# --- what is told is what is meant ------------------------------------------

NAMES = (GeneralName("dns", "d.example"),)
FACTS = {"2.5.4.3": "d.example", "2.5.4.5": "SN-1", "2.5.4.10": "Mine"}
PROFILES = {
    "everything": ProfileSettings(
        key_types=("p-384",),
        digests=("sha384",),
        subject={
            "CN": SubjectRule(required=True),
            "serialNumber": SubjectRule(required=True),
            "O": SubjectRule(fixed="Example Ltd", allowed=False),
        },
        names={"dns": ("*",)},
        names_required=True,
        extended_key_usage=("clientAuth", "serverAuth"),
        certificate_policies=("1.2.3.4",),
    ),
    "P-521": ProfileSettings(key_types=("p-521",), digests=("sha512",)),
    "RSA": ProfileSettings(key_types=("rsa",), digests=("sha256",)),
    "RSA 2048": ProfileSettings(
        key_types=("rsa",), digests=("sha256",), rsa_bits_max=2048
    ),
    "Ed25519": ProfileSettings(
        key_types=("ed25519",), key_usage=("digitalSignature",)
    ),
    "defaults": ProfileSettings(),
}


class LiteralTests:
    """A request built literally from the answer has all that it asks for."""

    @pytest.mark.parametrize("knows_templates", [False, True])
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("profile", PROFILES)
    def test_nothing_is_missing(
        self, profile: str, form: str, knows_templates: bool
    ) -> None:
        """The answer alone is enough, for old and new clients."""
        wishes = Profile("p", PROFILES[profile]).wishes()
        answer = encode_csr_attributes(advertised(wishes, form))
        client = ObedientClient(
            answer or b"\x30\x00",
            FACTS,
            NAMES,
            knows_templates=knows_templates,
        )
        wanted = read_csr(client.csr())
        assert [] == missing(wishes, form, wanted)
        decide(PROFILES[profile], wanted)

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("profile", PROFILES)
    def test_what_is_left_out_is_named(self, profile: str, form: str) -> None:
        """Each single thing that a client ignores is named."""
        wishes = Profile("p", PROFILES[profile]).wishes()
        answer = encode_csr_attributes(advertised(wishes, form))
        seen = set()
        for ignored in ("subject", "extensions", "key", "digest"):
            client = ObedientClient(answer or b"\x30\x00", FACTS, NAMES)
            if ignored == "subject":
                client.subject = {"2.5.4.10": "Mine"}
            elif ignored == "extensions":
                client.extensions = {}
            elif ignored == "key":
                client.key = ec.generate_private_key(ec.SECP256R1())
                client.digest = None
            else:
                client.digest = hashes.SHA256
            wanted = read_csr(client.csr())
            seen.update(missing(wishes, form, wanted))
        assert seen == EXPECTED[profile, form], seen


def decide(profile: ProfileSettings, wanted: Any) -> None:
    """Let the profile itself judge the request."""
    Profile("p", profile).decide(
        EnrollmentRequest(
            Endpoint("est", "", TENANT, "p", "issuing"),
            Operation.ENROLL,
            wanted,
            (),
            "id",
            "192.0.2.1",
        ),
        Principal("basic", "a", TENANT),
        EPOCH,
        EPOCH + timedelta(days=4000),
        approved=False,
    )


_KEY_384 = {"a key of type p-384"}
_SUBJECT = {"the subject attribute CN", "the subject attribute serialNumber"}
_USAGES = {
    f"the extension {name} as it was told"
    for name in ("keyUsage", "extendedKeyUsage")
}
_EVERYTHING = {
    *_SUBJECT,
    *_KEY_384,
    "the extension subjectAltName",
    "a signature with sha384, as it was told",
}
_POLICIES = {"the extension certificatePolicies as it was told"}
_P521 = {"a key of type p-521", "a signature with sha512, as it was told"}
_EKU = {"the extension extendedKeyUsage as it was told"}
EXPECTED: dict[tuple[str, str], set[str]] = {
    ("everything", "classic"): _EVERYTHING,
    ("everything", "extensions"): _EVERYTHING | _USAGES | _POLICIES,
    ("everything", "template"): {
        *_EVERYTHING,
        *_USAGES,
        *_POLICIES,
        "the subject attribute O as it was told",
    },
    ("P-521", "classic"): _P521,
    ("RSA", "classic"): {"a key of type rsa"},
    ("RSA 2048", "classic"): {"a key of type rsa-2048"},
    ("Ed25519", "classic"): {"a key of type ed25519"},
    ("defaults", "classic"): set(),
    ("defaults", "extensions"): _EKU,
    ("defaults", "template"): _EKU,
}
for _name in ("P-521", "RSA", "RSA 2048", "Ed25519"):
    for _form in ("extensions", "template"):
        EXPECTED[_name, _form] = EXPECTED[_name, "classic"] | _USAGES


class MissingTests:
    """What counts as ignored."""

    def test_signature_of_another_kind(self) -> None:
        """RSA-PSS is not what was told, nor is what nobody knows."""
        wishes = CSRWishes(algorithms=("rsa",), digests=("sha256",))
        wanted = read_csr(
            make_csr_with({}, key=rsa.generate_private_key(65537, 2048))
        )
        assert [] == missing(wishes, "classic", wanted)
        for algorithm in ("rsassa-pss-sha256", "other:1.2.3"):
            proof = evolve(wanted.proof, algorithm=algorithm)
            assert ["a signature with sha256, as it was told"] == missing(
                wishes, "classic", evolve(wanted, proof=proof)
            )

    def test_extension_with_another_value(self) -> None:
        """An extension must be as it was told."""
        wishes = CSRWishes(
            issued=(Extension("1.2.3", False, b"\x05\x00"),),
            fixed=(("2.5.4.3", "d.example"),),
        )
        for value, expected in (
            (b"\x05\x00", []),
            (b"\x30\x00", ["the extension 1.2.3 as it was told"]),
        ):
            wanted = read_csr(make_csr_with({}, extensions=[("1.2.3", value)]))
            assert expected == missing(wishes, "template", wanted)

    def test_attribute_without_a_name(self) -> None:
        """What has no short name is named by its OID."""
        wanted = read_csr(make_csr_with({}))
        assert ["the subject attribute 1.2.3"] == missing(
            CSRWishes(subject_attributes=("1.2.3",)), "classic", wanted
        )
