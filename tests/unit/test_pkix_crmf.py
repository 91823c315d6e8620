# SPDX-License-Identifier: MIT
"""Certificate request messages (RFC 4211)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from attrs import evolve
from cmp_samples import (
    ECDSA_WITH_SHA256,
    ENCR_CERT,
    NULL,
    PLAIN,
    RA_VERIFIED,
    captured,
    cert_request,
    certificate,
    cn,
    control,
    mutations,
    requests,
    signing_key,
)
from cmp_vectors import SECRET
from pkix_samples import ED25519, P256, corruptions, refusal, spki
from pyasn1.codec.der import decoder, encoder
from pyasn1_alt_modules import rfc9810
from pyasn1_modules import rfc4211

from trstctl.errors import (
    Malformed,
    ProofOfPossessionFailed,
    RequestError,
    TooLarge,
)
from trstctl.model import Extension, GeneralName, Name
from trstctl.pkix import der
from trstctl.pkix.algorithms import describe_public_key
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmp_protection import PasswordBasedMac, read_protection
from trstctl.pkix.cms import issuer_and_serial
from trstctl.pkix.crmf import (
    MAX_REQUESTS,
    CertReqMsg,
    certificate_request,
    read_cert_req_messages,
)
from trstctl.pkix.crmf_proof import PrivateKey, RAVerified, SigningKey
from trstctl.pkix.crmf_template import (
    CertId,
    CertTemplate,
    directory_name,
    read_cert_id,
    read_directory_name,
    read_template,
)
from trstctl.pkix.csr import verify_proof
from trstctl.pkix.names import encode_general_names

KEY = spki(P256)
RSA_ENCRYPTION = der.sequence(der.oid("1.2.840.113549.1.1.1"), NULL)
SAN = Extension(
    "2.5.29.17",
    False,
    encode_general_names([GeneralName("dns", "device.example.com")]),
)
CONSTRAINTS = Extension("2.5.29.19", True, der.sequence())
FULL = CertTemplate(
    version=2,
    serial="-81",
    signing_alg=ECDSA_WITH_SHA256,
    issuer=cn("CA"),
    not_before=datetime(2026, 1, 1, tzinfo=UTC),
    not_after=datetime(2050, 1, 1, tzinfo=UTC),
    subject=cn("device"),
    public_key=KEY,
    extensions=(SAN, CONSTRAINTS),
)


def only(name: str) -> CertReqMsg:
    """Return the one request of a captured message."""
    (message,) = read_cert_req_messages(captured(name).body.value)
    return message


def reg_info(value: bytes) -> bytes:
    """Return id-regInfo-certReq."""
    return der.sequence(der.oid("1.3.6.1.5.5.7.5.2.2"), value)


def read_one(*parts: bytes) -> CertReqMsg:
    """Read a CertReqMsg of these parts."""
    (message,) = read_cert_req_messages(requests(b"".join(parts)))
    return message


def with_control(*controls: bytes) -> CertReqMsg:
    """Read a request that has these controls."""
    return read_one(cert_request(PLAIN.der(), der.sequence(*controls)))


class TemplateTests:
    """CertTemplate (RFC 4211, section 5)."""

    @pytest.mark.parametrize(
        "template",
        [
            CertTemplate(),
            FULL,
            PLAIN,
            CertTemplate(subject=()),
            CertTemplate(issuer=(), not_before=FULL.not_before),
            CertTemplate(not_after=FULL.not_after),
            CertTemplate(version=0, serial="0", extensions=()),
            CertTemplate(key_algorithm=der.sequence(der.oid("1.3.101.112"))),
        ],
    )
    def test_round_trip(self, template: CertTemplate) -> None:
        """What is written is read, and what is left out stays out."""
        assert template == read_template(template.der())

    def test_another_decoder_agrees(self) -> None:
        """pyasn1 reads each field where we write it."""
        theirs, rest = decoder.decode(FULL.der(), rfc4211.CertTemplate())
        assert b"" == rest
        assert FULL.der() == encoder.encode(theirs)
        assert 2 == int(theirs["version"])
        assert -0x81 == int(theirs["serialNumber"])
        assert "20500101000000Z" == str(
            theirs["validity"]["notAfter"]["generalTime"]
        )
        assert 2 == len(theirs["extensions"])

    def test_null_dn(self) -> None:
        """A subject without RDNs is not an absent one."""
        assert b"\x30\x04\xa5\x02\x30\x00" == CertTemplate(subject=()).der()
        assert () == read_template(b"\x30\x04\xa5\x02\x30\x00").subject
        assert read_template(b"\x30\x00").subject is None

    def test_central_key_generation(self) -> None:
        """An empty key asks for one (RFC 9483, section 4.1.6)."""
        algorithm = der.sequence(der.oid("1.3.101.112"))
        template = CertTemplate(key_algorithm=algorithm)
        assert template.der().endswith(algorithm + b"\x03\x01\x00")
        found = read_template(template.der())
        assert found.public_key is None
        assert algorithm == found.key_algorithm

    def test_unique_identifiers(self) -> None:
        """What is deprecated is seen, and never written."""
        for tag in (0x87, 0x88):
            found = read_template(der.sequence(der.tlv(tag, b"\x00\x01")))
            assert found.unique_ids
            assert b"\x30\x00" == found.der()

    @pytest.mark.parametrize(
        "content",
        [
            NULL,
            der.tlv(0x80, b""),
            der.tlv(0x81, b"\x00\x01"),
            der.tlv(0x81, b"\x01") + der.tlv(0x80, b"\x02"),
            der.tlv(0x80, b"\x02") * 2,
            der.tlv(0xA3, NULL),
            der.tlv(0xA3, b""),
            der.tlv(0xA4, NULL),
            der.tlv(0xA4, der.tlv(0xA0, b"")),
            der.tlv(0xA4, der.tlv(0xA0, NULL)),
            der.tlv(0xA4, der.tlv(0xA0, der.tlv(0x17, b"2601010000Z"))),
            der.tlv(0xA4, der.tlv(0xA0, der.tlv(0x18, b"") * 2)),
            der.tlv(0xA5, der.sequence() * 2),
            der.tlv(0xA6, der.sequence()),
            der.tlv(0xA6, NULL),
            der.tlv(0xA9, NULL),
            der.tlv(0xAA, NULL),
        ],
    )
    def test_malformed(self, content: bytes) -> None:
        """Fields are of their types, in their order, and known."""
        with pytest.raises(Malformed):
            read_template(der.sequence(content))

    def test_names_of_certificates(self) -> None:
        """CertId names a certificate (section 6.5)."""
        named = issuer_and_serial(certificate())
        value = der.sequence(
            der.tlv(0xA4, named.issuer), der.integer(int(named.serial, 16))
        )
        found = read_cert_id(value)
        assert CertId(cn_of_owner(), "4d") == found
        mail = der.tlv(0x81, b"ca@example.com")
        other = read_cert_id(der.sequence(mail, der.integer(-1)))
        assert CertId(None, "-1") == other
        assert CertId(cn("CA"), "1f") == read_cert_id(
            CertId(cn("CA"), "1f").der()
        )
        for wrong in (der.sequence(), der.sequence(mail, NULL), NULL):
            with pytest.raises(Malformed):
                read_cert_id(wrong)

    def test_directory_names(self) -> None:
        """Only a general name is one."""
        ((*part,),) = der.children(directory_name(cn("x")))
        assert cn("x") == read_directory_name((part[0], part[1], part[2]))
        with pytest.raises(Malformed):
            read_directory_name((0x05, b"", NULL))


def cn_of_owner() -> Name:
    """Return the name in our certificates, as its issuer wrote it."""
    return read_certificate(certificate()).subject


class MessageTests:
    """CertReqMessages (sections 3 and 5)."""

    def test_openssl(self) -> None:
        """What OpenSSL asks for is all there."""
        message = only("ir_signed")
        assert cn("dev1") == message.template.subject
        assert message.template.public_key is not None
        assert message.template.not_after is not None
        assert 0 == message.cert_req_id
        request = certificate_request(message)
        assert request.names == (
            GeneralName("dns", "dev1.example"),
            GeneralName("ip", "10.0.0.1"),
        )
        assert message.der == request.der
        assert message.cert_request == request.proof.signed
        verify_proof(request)

    def test_key_update(self) -> None:
        """The certificate to be updated is named in a control."""
        named = only("kur").controls.old_cert_id
        assert named is not None
        assert cn("CA") == named.issuer

    @pytest.mark.parametrize(
        "name", ["ir", "ir_signed", "ir_no_subject", "ir_encryption", "kur"]
    )
    def test_another_decoder_agrees(self, name: str) -> None:
        """pyasn1 finds the same CertRequest and the same template."""
        value = captured(name).body.value
        theirs, rest = decoder.decode(value, rfc9810.CertReqMessages())
        assert b"" == rest
        message = only(name)
        assert encoder.encode(theirs[0]["certReq"]) == message.cert_request
        template = encoder.encode(theirs[0]["certReq"]["certTemplate"])
        assert template == message.template.der()

    def test_several(self) -> None:
        """Any number of any ids, up to the limit."""
        each = cert_request(PLAIN.der(), number=-1)
        found = read_cert_req_messages(requests(*[each] * MAX_REQUESTS))
        assert [-1] * MAX_REQUESTS == [one.cert_req_id for one in found]
        with pytest.raises(TooLarge):
            read_cert_req_messages(requests(*[each] * (MAX_REQUESTS + 1)))

    def test_registration_information(self) -> None:
        """regInfo is kept, with and without a proof."""
        request = cert_request(PLAIN.der())
        pairs = der.sequence(der.oid("1.2.3"), der.tlv(0x0C, b"a?b%"))
        expected = (("1.2.3", der.tlv(0x0C, b"a?b%")),)
        plain = read_one(request, der.sequence(pairs))
        assert expected == plain.reg_info
        proven = read_one(request, RA_VERIFIED, der.sequence(pairs))
        assert expected == proven.reg_info
        assert RAVerified() == proven.proof

    def test_a_template_beside_the_other(self) -> None:
        """Section 7.2: it counts; the proof is over the other."""
        other = evolve(PLAIN, subject=cn("changed"))
        signed = cert_request(PLAIN.der())
        message = read_one(
            signed,
            signing_key(signed),
            der.sequence(reg_info(cert_request(other.der()))),
        )
        assert (PLAIN, other) == (message.template, message.wanted)
        wanted = certificate_request(message)
        assert (cn("changed"), signed) == (wanted.subject, wanted.proof.signed)
        assert PLAIN == read_one(signed, signing_key(signed)).wanted

    @pytest.mark.parametrize(
        "values",
        [
            (NULL,),
            (der.sequence(),),
            (cert_request(PLAIN.der()),) * 2,
            (cert_request(PLAIN.der(), number=1),),
            (
                cert_request(
                    PLAIN.der(), der.sequence(control(99, der.integer(1)))
                ),
            ),
        ],
    )
    def test_it_must_not_contradict(self, values: tuple[bytes, ...]) -> None:
        """One, with the same certReqId and controls."""
        information = der.sequence(*map(reg_info, values))
        with pytest.raises(Malformed):
            read_one(cert_request(PLAIN.der()), information)

    def test_its_controls_may_be_copied(self) -> None:
        """Section 7.2: all data is copied."""
        controls = der.sequence(control(1, der.tlv(0x0C, b"token")))
        request = cert_request(PLAIN.der(), controls)
        message = read_one(request, der.sequence(reg_info(request)))
        assert PLAIN == message.alternate
        kept = certificate_request(message).kept
        assert kept is not None
        assert b"token" not in kept

    @pytest.mark.parametrize(
        "value",
        [
            der.sequence(),
            der.sequence(NULL),
            der.sequence(der.sequence()),
            requests(der.sequence()),
            requests(NULL),
            requests(RA_VERIFIED),
            requests(der.sequence(PLAIN.der())),
            requests(der.sequence(der.integer(0))),
            requests(der.sequence(der.integer(0), NULL)),
            requests(cert_request(PLAIN.der(), der.sequence())),
            requests(cert_request(PLAIN.der(), NULL)),
            requests(cert_request(PLAIN.der()) + der.sequence()),
            requests(cert_request(PLAIN.der()) + RA_VERIFIED + RA_VERIFIED),
            requests(cert_request(PLAIN.der()) + 2 * der.sequence(NULL)),
            requests(cert_request(PLAIN.der()) + der.sequence(NULL)),
            requests(
                cert_request(PLAIN.der())
                + der.sequence(der.sequence(der.oid("1.2.3")))
            ),
        ],
    )
    def test_malformed(self, value: bytes) -> None:
        """What is no request is refused."""
        with pytest.raises(Malformed):
            read_cert_req_messages(value)

    @pytest.mark.parametrize("name", ["ir", "bc_ir_sender", "bc_ir_mac"])
    def test_corruption(self, name: str) -> None:
        """Damaged octets are read, or refused as a peer's fault."""

        def read(data: bytes) -> None:
            der.check(data)
            for message in read_cert_req_messages(data):
                certificate_request(message, lenient=True)

        for damaged in corruptions(captured(name).body.value):
            refusal(read, damaged)


class ControlTests:
    """Controls (section 6)."""

    def test_all(self) -> None:
        """Every control has its place."""
        cert_id = CertId(cn("CA"), "4d")
        controls = with_control(
            control(1, der.tlv(0x0C, b"token")),
            control(2, der.tlv(0x0C, b"maiden name")),
            control(3, der.sequence(der.integer(0))),
            control(5, cert_id.der()),
            control(6, KEY),
            control(11, ECDSA_WITH_SHA256),
        ).controls
        assert "token" == controls.reg_token
        assert "maiden name" == controls.authenticator
        assert controls.publish is False
        assert cert_id == controls.old_cert_id
        assert KEY == controls.protocol_encr_key
        assert ECDSA_WITH_SHA256 == controls.values["1.3.6.1.5.5.7.5.1.11"]
        assert "token" not in repr(controls)

    def test_publication(self) -> None:
        """pleasePublish may say where (section 6.3)."""
        place = der.sequence(der.sequence(der.integer(0)))
        for value in (
            der.sequence(der.integer(1)),
            der.sequence(der.integer(1), place),
        ):
            assert with_control(control(3, value)).controls.publish is True

    @pytest.mark.parametrize(
        "place",
        [
            NULL,
            der.sequence(),
            der.sequence(NULL),
            der.sequence(der.integer(4)),
            der.sequence(der.integer(1), NULL, NULL),
        ],
    )
    def test_a_place_that_is_none(self, place: bytes) -> None:
        """A method that there is, and where (section 6.3)."""
        value = der.sequence(der.integer(1), der.sequence(place))
        with pytest.raises(Malformed):
            with_control(control(3, value))

    def test_mutation(self) -> None:
        """Requests of another shape are a peer's fault at most."""
        controls = der.sequence(
            control(1, der.tlv(0x0C, b"token")),
            control(
                3,
                der.sequence(
                    der.integer(1),
                    der.sequence(der.sequence(der.integer(0))),
                ),
            ),
            control(5, CertId(cn("CA"), "4d").der()),
            control(6, KEY),
        )
        request = cert_request(FULL.der(), controls)
        information = der.sequence(control(1, NULL))
        value = requests(request + RA_VERIFIED + information)

        def read(data: bytes) -> None:
            der.check(data)
            for message in read_cert_req_messages(data):
                certificate_request(message)

        assert refusal(read, value) is None
        for mutated in mutations(value):
            refusal(read, mutated)

    @pytest.mark.parametrize(
        "wrong",
        [
            control(1, der.tlv(0x13, b"token")),
            control(1, der.tlv(0x0C, b"\xff")),
            control(1, der.tlv(0x0C, b"a")) + control(1, der.tlv(0x0C, b"a")),
            control(3, der.sequence()),
            control(3, der.sequence(der.integer(2))),
            control(3, der.sequence(der.integer(0), der.sequence())),
            control(5, NULL),
            control(6, NULL),
            NULL,
        ],
    )
    def test_malformed(self, wrong: bytes) -> None:
        """A control whose value is of another type is refused."""
        with pytest.raises(Malformed):
            with_control(wrong)


class ProofTests:
    """Proof of possession (section 4)."""

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("ir_ra_verified", "ra-verified"),
            ("ir_no_proof", "none"),
            ("ir_encryption", "encryption"),
        ],
    )
    def test_without_a_signature(self, name: str, kind: str) -> None:
        """What is no signature proves nothing unless somebody says so."""
        message = only(name)
        request = certificate_request(message)
        assert kind == request.proof.kind
        assert message.cert_request == request.proof.signed
        with pytest.raises(ProofOfPossessionFailed):
            verify_proof(request)
        accepted = evolve(request.proof, accepted=True)
        verify_proof(evolve(request, proof=accepted))

    def test_a_signature_is_never_accepted_unverified(self) -> None:
        """Acceptance does not stand in for a signature."""
        request = certificate_request(only("ir"))
        for change in ({"accepted": True}, {"signature": b"", "accepted": 1}):
            proof = evolve(request.proof, signed=b"other", **change)
            with pytest.raises(ProofOfPossessionFailed):
                verify_proof(evolve(request, proof=proof))

    @pytest.mark.parametrize(
        ("popo", "expected"),
        [
            (RA_VERIFIED, RAVerified()),
            (ENCR_CERT, PrivateKey("keyEncipherment", "encrCert")),
            (
                b"\xa3\x03\x81\x01\x01",
                PrivateKey("keyAgreement", "challengeResp"),
            ),
            (b"\xa3\x03\x81\x01\x00", PrivateKey("keyAgreement", "encrCert")),
            (
                b"\xa2\x03\x80\x01\x00",
                PrivateKey("keyEncipherment", "thisMessage"),
            ),
            (b"\xa3\x03\x82\x01\x00", PrivateKey("keyAgreement", "dhMAC")),
            (b"\xa3\x02\xa3\x00", PrivateKey("keyAgreement", "agreeMAC")),
            (
                b"\xa2\x02\xa4\x00",
                PrivateKey("keyEncipherment", "encryptedKey"),
            ),
        ],
    )
    def test_choices(self, popo: bytes, expected: object) -> None:
        """Every choice has its name."""
        assert expected == read_one(cert_request(PLAIN.der()), popo).proof

    def test_kinds_that_are_not_served(self) -> None:
        """What cannot be proven here is of no kind that anybody accepts."""
        popo = b"\xa3\x03\x81\x01\x01"
        message = read_one(cert_request(PLAIN.der()), popo)
        assert "other" == certificate_request(message).proof.kind

    @pytest.mark.parametrize(
        "popo",
        [
            b"\x80\x01\x00",
            b"\x81\x00",
            b"\xa1\x00",
            b"\xa1\x02\x05\x00",
            b"\xa1\x02\xa0\x00",
            b"\xa2\x00",
            b"\xa2\x03\x81\x01\x02",
            b"\xa2\x02\x83\x00",
            b"\xa2\x06\x81\x01\x00\x81\x01\x00",
            b"\xa4\x02\x05\x00",
            der.tlv(0xA1, ECDSA_WITH_SHA256 + b"\x03\x02\x01\x80"),
        ],
    )
    def test_malformed(self, popo: bytes) -> None:
        """What is no choice is refused."""
        with pytest.raises(Malformed):
            read_one(cert_request(PLAIN.der()), popo)

    def test_over_what_was_received(self) -> None:
        """The signature is over octets that pyasn1 would not write again."""
        template = CertTemplate(subject=(), public_key=KEY)
        request = cert_request(template.der())
        message = read_one(request, signing_key(request))
        verify_proof(certificate_request(message))

    def test_another_key(self) -> None:
        """A signature by another key proves nothing."""
        template = evolve(PLAIN, public_key=spki(ED25519))
        request = cert_request(template.der())
        message = read_one(request, signing_key(request))
        with pytest.raises(ProofOfPossessionFailed):
            verify_proof(certificate_request(message))

    def test_bouncycastle_sender(self) -> None:
        """poposkInput is signed with its own tag (section 4.1)."""
        message = only("bc_ir_sender")
        assert isinstance(message.proof, SigningKey)
        signed = message.proof.input
        assert signed is not None
        assert cn("REF") == signed.sender_name
        assert directory_name(cn("REF")) == signed.sender
        assert signed.public_key_mac is None
        request = certificate_request(message)
        assert signed.der == request.proof.signed
        assert () == request.subject
        verify_proof(request)

    def test_bouncycastle_mac(self) -> None:
        """publicKeyMAC is over the public key (section 4.1)."""
        message = only("bc_ir_mac")
        assert isinstance(message.proof, SigningKey)
        signed = message.proof.input
        assert signed is not None
        assert signed.sender is None
        mac = signed.public_key_mac
        assert mac is not None
        algorithm = read_protection(mac.algorithm)
        assert isinstance(algorithm, PasswordBasedMac)
        key = algorithm.derive(SECRET)
        assert algorithm.verify(key, signed.public_key, mac.value)
        verify_proof(certificate_request(message))

    def test_openssl_without_subject(self) -> None:
        """OpenSSL signs the CertRequest where poposkInput is demanded."""
        message = only("ir_no_subject")
        assert message.template.subject is None
        with pytest.raises(ProofOfPossessionFailed):
            certificate_request(message)
        verify_proof(certificate_request(message, lenient=True))

    def test_needless_input(self) -> None:
        """poposkInput MUST be omitted where the template is complete."""
        choice = self.input_for(KEY)
        request = cert_request(PLAIN.der())
        message = read_one(request, signing_key(request, choice=choice))
        for lenient in (False, True):
            with pytest.raises(ProofOfPossessionFailed):
                certificate_request(message, lenient=lenient)

    def test_input_with_another_key(self) -> None:
        """The key in poposkInput is that of the template (section 4.1)."""
        request = cert_request(CertTemplate(public_key=KEY).der())
        for key, expected in (
            (KEY, None),
            (spki(ED25519), "ProofOfPossessionFailed"),
        ):
            choice = self.input_for(key)
            signed = b"\x30" + choice[1:]
            message = read_one(request, signing_key(signed, choice=choice))
            outcome = refusal(
                lambda one: verify_proof(certificate_request(one)), message
            )
            assert expected == outcome

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            KEY,
            NULL + KEY,
            der.explicit(0, b"") + KEY,
            der.explicit(0, NULL) + KEY,
            der.explicit(0, directory_name(())) + NULL,
            der.sequence() + KEY,
        ],
    )
    def test_malformed_input(self, content: bytes) -> None:
        """What is no POPOSigningKeyInput is refused."""
        request = cert_request(CertTemplate(public_key=KEY).der())
        popo = signing_key(request, choice=der.explicit(0, content))
        with pytest.raises(Malformed):
            read_one(request, popo)

    @staticmethod
    def input_for(key: bytes) -> bytes:
        """Return a POPOSigningKeyInput under its tag."""
        sender = der.explicit(0, directory_name(cn("device")))
        return der.explicit(0, sender + key)


def ec_algorithm(curve: str) -> bytes:
    """Return the AlgorithmIdentifier of keys on a curve."""
    return der.sequence(der.oid("1.2.840.10045.2.1"), der.oid(curve))


class RequestTests:
    """What the registration authority gets."""

    def test_extensions(self) -> None:
        """Names and extensions of the template are those of the request."""
        message = read_one(cert_request(FULL.der()))
        request = certificate_request(message)
        assert (SAN, CONSTRAINTS) == request.extensions
        assert (GeneralName("dns", "device.example.com"),) == request.names
        assert cn("device") == request.subject
        assert describe_public_key(KEY) == request.public_key

    @pytest.mark.parametrize(
        ("algorithm", "expected"),
        [
            (None, ("", 0)),
            (RSA_ENCRYPTION, ("rsa", 0)),
            (der.sequence(der.oid("1.2.840.113549.1.1.1")), ("rsa", 0)),
            (ec_algorithm("1.3.132.0.34"), ("p-384", 384)),
            (ec_algorithm("1.3.132.0.10"), ("other:secp256k1", 256)),
            (ec_algorithm("1.2.3"), ("other:1.2.3", 0)),
            (der.sequence(der.oid("1.3.101.112")), ("ed25519", 0)),
            (
                der.sequence(der.oid("1.3.101.112"), NULL),
                ("other:1.3.101.112", 0),
            ),
            (ECDSA_WITH_SHA256, ("other:1.2.840.10045.4.3.2", 0)),
        ],
    )
    def test_keys_to_be_made(
        self, algorithm: bytes | None, expected: tuple[str, int]
    ) -> None:
        """RFC 9483, section 4.1.6: no key, or an algorithm without one."""
        template = CertTemplate(subject=cn("device"), key_algorithm=algorithm)
        request = certificate_request(read_one(cert_request(template.der())))
        key = request.public_key
        assert (b"", *expected) == (key.spki, key.algorithm, key.bits)
        assert "generated" == request.proof.kind
        assert not request.proof.accepted

    def test_wishes_for_keys_are_told_apart(self) -> None:
        """Each stands for its own request."""
        found = {
            certificate_request(
                read_one(cert_request(CertTemplate(subject=cn(name)).der()))
            ).public_key.fingerprint
            for name in ("one", "two", "two")
        }
        assert 2 == len(found)

    def test_a_wish_that_is_none(self) -> None:
        """RFC 5480, section 2.1.1: a curve by its name."""
        algorithm = der.sequence(der.oid("1.2.840.10045.2.1"), NULL)
        template = CertTemplate(key_algorithm=algorithm)
        with pytest.raises(Malformed):
            certificate_request(read_one(cert_request(template.der())))

    def test_bad_names(self) -> None:
        """Names that are none are refused."""
        template = evolve(PLAIN, extensions=(evolve(SAN, value=NULL),))
        with pytest.raises(RequestError):
            certificate_request(read_one(cert_request(template.der())))
