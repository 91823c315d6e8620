# SPDX-License-Identifier: MIT
"""The bodies of CMP (RFC 9810, section 5.3), read and written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cmp_samples import (
    ECDSA_WITH_SHA256,
    NULL,
    START,
    captured,
    certificate,
    cn,
    mutations,
    read_everything,
)
from cmp_vectors import MESSAGES
from cryptography.hazmat.primitives.asymmetric import ed448, mldsa
from hypothesis import given
from hypothesis import strategies as st
from pkix_samples import (
    ED25519,
    P256,
    corruptions,
    raw_csr,
    refusal,
    rsa_key,
)
from pyasn1.codec.der import decoder, encoder
from pyasn1_alt_modules import rfc9480, rfc9810

from trstctl.errors import Malformed, TooLarge, UnsupportedAlgorithm
from trstctl.model import GeneralName
from trstctl.pkix import cmp_general as general
from trstctl.pkix import cmp_responses as responses
from trstctl.pkix import der
from trstctl.pkix.cmp import PKIBody, prepare, read_message
from trstctl.pkix.cmp_bodies import (
    MAX_ITEMS,
    REASONS,
    CertStatus,
    ErrorMsg,
    p10cr_version,
    read_cert_conf,
    read_error,
    read_gen_msg,
    read_nested,
    read_pkiconf,
    read_poll_req,
    read_pop_responses,
    read_rev_req,
)
from trstctl.pkix.cmp_hash import (
    HASHES,
    cert_hash,
    read_hash_alg,
    signature_hash,
)
from trstctl.pkix.cmp_header import PKIHeader, party
from trstctl.pkix.cmp_itav import INFO_TYPES, InfoTypeAndValue
from trstctl.pkix.cmp_status import (
    FAILURES,
    STATUSES,
    PKIStatusInfo,
    read_status,
)
from trstctl.pkix.crmf_template import CertId, CertTemplate, directory_name
from trstctl.pkix.csr import read_csr
from trstctl.pkix.names import encode_general_names

CONSTRUCTED = st.lists(st.sampled_from(FAILURES), unique=True, min_size=1).map(
    lambda names: tuple(sorted(names, key=FAILURES.index))
)
ACCEPTED = PKIStatusInfo("accepted")
REJECTED = PKIStatusInfo(
    "rejection", ("no such profile", "E17"), ("badRequest", "badCertTemplate")
)
CRL = der.sequence(der.sequence(), der.sequence(), der.bit_string(b""))


def decode(body: PKIBody) -> object:
    """Return a body as pyasn1 reads it; it must write the same again."""
    theirs, rest = decoder.decode(body.der(), rfc9810.PKIBody())
    assert b"" == rest
    assert body.type == theirs.getName()
    assert body.der() == encoder.encode(theirs)
    header = PKIHeader(2, party(()), party(()))
    message = read_message(prepare(header, body).finish(None))
    assert body == message.body
    return theirs.getComponent()


class StatusTests:
    """PKIStatusInfo (section 5.2.3)."""

    @pytest.mark.parametrize("failure", FAILURES)
    def test_each_failure(self, failure: str) -> None:
        """Every failInfo has the bit that pyasn1 gives it."""
        status = PKIStatusInfo("rejection", failures=(failure,))
        theirs, _ = decoder.decode(status.der(), rfc9810.PKIStatusInfo())
        number = FAILURES.index(failure)
        assert number == rfc9810.PKIFailureInfo.namedValues[failure]
        assert number + 1 == len(theirs["failInfo"])  # no trailing zero bits
        assert 1 == sum(theirs["failInfo"])
        assert status == read_status(status.der())

    @pytest.mark.parametrize("status", STATUSES)
    def test_each_status(self, status: str) -> None:
        """Every status has its number."""
        written = PKIStatusInfo(status).der()
        theirs, _ = decoder.decode(written, rfc9810.PKIStatusInfo())
        assert status == theirs["status"].prettyPrint()
        assert PKIStatusInfo(status) == read_status(written)

    @given(CONSTRUCTED, st.lists(st.text(max_size=9), max_size=3))
    def test_round_trip(
        self, failures: tuple[str, ...], texts: list[str]
    ) -> None:
        """What is written is read, and as pyasn1 writes it."""
        status = PKIStatusInfo("rejection", tuple(texts), failures)
        assert status == read_status(status.der())
        theirs, _ = decoder.decode(status.der(), rfc9810.PKIStatusInfo())
        assert status.der() == encoder.encode(theirs)

    def test_bits_without_a_name(self) -> None:
        """A bit of the future has its number; endless ones are cut."""
        bits = der.tlv(3, b"\x00\x80" + bytes(3) + b"\x04" + bytes(500))
        found = read_status(der.sequence(der.integer(2), bits))
        assert ("badAlg", "37") == found.failures

    @pytest.mark.parametrize(
        "value",
        [
            NULL,
            der.sequence(),
            der.sequence(NULL),
            der.sequence(der.integer(7)),
            der.sequence(der.integer(-1)),
            der.sequence(der.integer(2), der.sequence()),
            der.sequence(der.integer(2), der.sequence(NULL)),
            der.sequence(der.integer(2), NULL),
        ],
    )
    def test_malformed(self, value: bytes) -> None:
        """What is no PKIStatusInfo is refused."""
        with pytest.raises(Malformed):
            read_status(value)

    def test_only_names(self) -> None:
        """What has no name is not written."""
        for status in (
            PKIStatusInfo("denied"),
            PKIStatusInfo("rejection", failures=("badLuck",)),
        ):
            with pytest.raises(ValueError, match="not in tuple"):
                status.der()


class CertificationRequestTests:
    """p10cr (section 5.3.3)."""

    def test_version(self) -> None:
        """A request of another version is told apart (RFC 2986, 4.1)."""
        assert 0 == p10cr_version(captured("p10cr").body.value)
        for number in (0, 1, -1):
            csr = raw_csr(version=der.integer(number))
            assert number == p10cr_version(csr)
            assert (number == 0) == (refusal(read_csr, csr) is None)

    def test_no_version(self) -> None:
        """What is no request has no version."""
        for value in (
            b"",
            NULL,
            der.sequence(),
            der.sequence(NULL),
            der.sequence(der.sequence(NULL)),
            der.sequence(b"\x02\x05"),
        ):
            assert p10cr_version(value) is None


class ConfirmationTests:
    """certConf and pkiConf (sections 5.3.17 and 5.3.18)."""

    def test_openssl(self) -> None:
        """OpenSSL says whether it takes the certificate."""
        (status,) = read_cert_conf(captured("cert_conf").body.value)
        assert 0 == status.cert_req_id
        assert ACCEPTED == status.status
        assert status.hash_alg is None
        issued = captured("ip").extra_certs
        assert 32 == len(status.cert_hash)
        assert issued == captured("ip").extra_certs
        (status,) = read_cert_conf(captured("cert_conf_rejecting").body.value)
        assert status.status is not None
        assert "rejection" == status.status.status
        assert ("incorrectData",) == status.status.failures

    def test_all_fields(self) -> None:
        """hashAlg is read, and so is a status that is not there."""
        algorithm = der.explicit(0, der.sequence(der.oid(_oid("sha512"))))
        value = der.sequence(
            der.sequence(
                der.octet_string(b"hash"),
                der.integer(-1),
                REJECTED.der(),
                algorithm,
            ),
            der.sequence(der.octet_string(b""), der.integer(3), algorithm),
        )
        assert (
            CertStatus(b"hash", -1, REJECTED, "sha512"),
            CertStatus(b"", 3, None, "sha512"),
        ) == read_cert_conf(value)
        theirs, rest = decoder.decode(value, rfc9480.CertConfirmContent())
        assert b"" == rest
        assert value == encoder.encode(theirs)
        for mutated in mutations(value):
            if refusal(der.check, mutated) is None:
                refusal(read_cert_conf, mutated)

    def test_empty(self) -> None:
        """An empty certConf accepts nothing."""
        assert () == read_cert_conf(der.sequence())

    @pytest.mark.parametrize(
        "status",
        [
            b"",
            der.octet_string(b""),
            der.integer(0) * 2,
            der.octet_string(b"") * 2,
            der.octet_string(b"") + der.integer(0) + NULL,
            der.octet_string(b"") + der.integer(0) + der.sequence(),
            der.octet_string(b"") + der.integer(0) + der.explicit(0, NULL),
            der.octet_string(b"")
            + der.integer(0)
            + der.explicit(0, der.sequence(NULL)),
        ],
    )
    def test_malformed(self, status: bytes) -> None:
        """What is no CertStatus is refused."""
        with pytest.raises(Malformed):
            read_cert_conf(der.sequence(der.sequence(status)))

    def test_no_list(self) -> None:
        """What is no list of them is refused."""
        for value in (NULL, der.sequence(NULL)):
            with pytest.raises(Malformed):
                read_cert_conf(value)

    def test_pkiconf(self) -> None:
        """There is nothing in a pkiConf."""
        body = responses.pkiconf()
        decode(body)
        read_pkiconf(body.value)
        with pytest.raises(Malformed):
            read_pkiconf(der.sequence())


def _oid(digest: str) -> str:
    """Return the dotted identifier of a digest."""
    return next(oid for oid, name in HASHES.items() if name == digest)


class CertHashTests:
    """certHash (section 5.3.18; RFC 9481, section 3.3)."""

    @pytest.mark.parametrize(
        ("digest", "expected"),
        [
            ("SHA256", "sha256"),
            ("SHA384", "sha384"),
            ("SHA512", "sha512"),
            ("SHA3_256", "sha3-256"),
            ("SHA224", "sha224"),
        ],
    )
    def test_follows_the_signature(self, digest: str, expected: str) -> None:
        """The digest is that of the certificate's signature."""
        for key in (P256, rsa_key()):
            issued = certificate(key, digest=digest)
            assert expected == signature_hash(issued)
            assert hashlib.new(expected, issued).digest() == cert_hash(
                issued, expected
            )

    def test_eddsa(self) -> None:
        """Ed25519 goes with SHA-512, Ed448 with SHAKE256 and 64 octets."""
        issued = certificate(ED25519, digest="")
        assert "sha512" == signature_hash(issued)
        issued = certificate(_ed448(), digest="")
        assert "shake256" == signature_hash(issued)
        expected = hashlib.shake_256(issued).digest(64)
        assert expected == cert_hash(issued, "shake256")

    def test_ml_dsa(self) -> None:
        """Nothing is implied: hashAlg has to say it."""
        key = mldsa.MLDSA65PrivateKey.generate()
        assert "" == signature_hash(certificate(key, digest=""))

    def test_openssl_confirms(self) -> None:
        """OpenSSL's hash is ours."""
        (answer, *_) = der.children(
            der.content(captured("ip").body.value, der.SEQUENCE)
        )
        (response,) = der.children(answer[1])
        pair = der.children(response[1])[2]
        ((_, _, choice),) = der.children(pair[1])
        issued = der.content(choice, 0xA0)
        (status,) = read_cert_conf(captured("cert_conf").body.value)
        assert status.cert_hash == cert_hash(issued, signature_hash(issued))

    def test_hash_alg(self) -> None:
        """hashAlg has a name, whether we compute it or not."""
        for oid, name in HASHES.items():
            assert name == read_hash_alg(der.sequence(der.oid(oid)))
            assert name == read_hash_alg(der.sequence(der.oid(oid), NULL))
        md5 = "1.2.840.113549.2.5"
        assert f"other:{md5}" == read_hash_alg(der.sequence(der.oid(md5)))
        odd = der.sequence(der.oid(_oid("sha256")), der.integer(1))
        assert f"other:{_oid('sha256')}" == read_hash_alg(odd)
        for value in (NULL, der.sequence(NULL), der.sequence()):
            with pytest.raises(Malformed):
                read_hash_alg(value)

    def test_unknown(self) -> None:
        """What we do not compute is refused."""
        for digest in ("", "md5", "other:1.2.3"):
            with pytest.raises(UnsupportedAlgorithm):
                cert_hash(b"", digest)


def _ed448() -> ed448.Ed448PrivateKey:
    """Return a key that is always the same."""
    return ed448.Ed448PrivateKey.from_private_bytes(bytes(range(57)))


def rev_details(*extensions: bytes) -> bytes:
    """Return RevReqContent with these CRL entry extensions."""
    template = CertTemplate(issuer=cn("CA"), serial="4d").der()
    entry = der.sequence(*extensions) if extensions else b""
    return der.sequence(der.sequence(template, entry))


def reason(number: int) -> bytes:
    """Return a reasonCode extension."""
    value = der.tlv(0x0A, der.integer(number)[2:])
    return der.sequence(der.oid("2.5.29.21"), der.octet_string(value))


class RevocationTests:
    """rr and rp (sections 5.3.9 and 5.3.10)."""

    def test_clients(self) -> None:
        """What clients ask for is read."""
        (details,) = read_rev_req(captured("rr").body.value)
        assert ("keyCompromise",) == details.reasons
        assert cn("CA") == details.template.issuer
        (details,) = read_rev_req(captured("bc_rr").body.value)
        assert ("removeFromCRL",) == details.reasons
        assert "1234" == details.template.serial

    def test_reasons(self) -> None:
        """Every reason has its name, what has none its number."""
        assert () == read_rev_req(rev_details())[0].reasons
        for number in range(-1, 12):
            (details,) = read_rev_req(rev_details(reason(number)))
            assert (REASONS.get(number, str(number)),) == details.reasons

    def test_all_that_are_there(self) -> None:
        """Two reasons are both there, so that they can be refused."""
        other = der.sequence(
            der.oid("2.5.29.24"), der.boolean(True), der.octet_string(NULL)
        )
        (details,) = read_rev_req(rev_details(reason(1), other, reason(4)))
        assert ("keyCompromise", "superseded") == details.reasons
        assert ("2.5.29.24",) == details.extensions

    @pytest.mark.parametrize(
        "value",
        [
            NULL,
            der.sequence(der.sequence()),
            der.sequence(der.sequence(NULL)),
            der.sequence(der.sequence(der.sequence(), NULL)),
            rev_details(NULL),
            rev_details(der.sequence()),
            rev_details(der.sequence(der.oid("2.5.29.21"))),
            rev_details(
                der.sequence(der.oid("2.5.29.21"), der.octet_string(b""))
            ),
            rev_details(
                der.sequence(der.oid("2.5.29.21"), der.octet_string(NULL))
            ),
        ],
    )
    def test_malformed(self, value: bytes) -> None:
        """What is no revocation request is refused."""
        with pytest.raises(Malformed):
            read_rev_req(value)

    def test_answers(self) -> None:
        """Status, names and CRLs come in the order of the request."""
        decode(responses.rev_rep([ACCEPTED]))
        body = responses.rev_rep(
            [ACCEPTED, REJECTED], [CertId(cn("CA"), "4d")], ()
        )
        theirs = decode(body)
        assert 2 == len(theirs["status"])  # type: ignore[index]
        assert 0x4D == int(
            theirs["revCerts"][0]["serialNumber"]  # type: ignore[index]
        )

    def test_crls(self) -> None:
        """CRLs come under their own tag."""
        body = responses.rev_rep([ACCEPTED], crls=[CRL])
        assert body.value.endswith(der.explicit(1, der.sequence(CRL)))


class EnrollmentTests:
    """ip, cp and kup (section 5.3.4)."""

    def test_a_certificate(self) -> None:
        """A certificate, and what the client shall trust."""
        response = responses.CertResponse(0, ACCEPTED, certificate())
        theirs = decode(responses.cert_rep("ip", [response], [certificate()]))
        assert 1 == len(theirs["caPubs"])  # type: ignore[index]
        pair = theirs["response"][0]["certifiedKeyPair"]  # type: ignore[index]
        issued = pair["certOrEncCert"]["certificate"]
        assert 77 == int(issued["tbsCertificate"]["serialNumber"])

    @pytest.mark.parametrize("kind", ["ip", "cp", "kup", "ccp"])
    def test_a_refusal(self, kind: str) -> None:
        """A refusal has no certificate, for p10cr with the id -1."""
        response = responses.CertResponse(-1, REJECTED)
        theirs = decode(responses.cert_rep(kind, [response]))
        answer = theirs["response"][0]  # type: ignore[index]
        assert -1 == int(answer["certReqId"])
        assert not answer["certifiedKeyPair"].isValue
        assert not theirs["caPubs"].isValue  # type: ignore[index]

    def test_a_key_without_certificate(self) -> None:
        """A private key never goes without its certificate."""
        response = responses.CertResponse(0, REJECTED, private_key=NULL)
        assert NULL not in response.der()

    def test_openssl_agrees(self) -> None:
        """OpenSSL writes a waiting answer as we do."""
        response = responses.CertResponse(0, PKIStatusInfo("waiting"))
        body = responses.cert_rep("ip", [response])
        assert captured("ip_waiting").body.type == body.type
        assert b"\x02\x01\x00\x30\x03\x02\x01\x03" in body.value


class PollingTests:
    """pollReq and pollRep (section 5.3.22)."""

    def test_requests(self) -> None:
        """OpenSSL asks for what it waits for."""
        assert (0,) == read_poll_req(captured("poll_req").body.value)
        both = der.sequence(
            der.sequence(der.integer(-1)), der.sequence(der.integer(2))
        )
        assert (-1, 2) == read_poll_req(both)
        for wrong in (
            NULL,
            der.sequence(NULL),
            der.sequence(der.sequence()),
            der.sequence(der.sequence(NULL)),
        ):
            with pytest.raises(Malformed):
                read_poll_req(wrong)

    def test_answers(self) -> None:
        """When to come back, and why."""
        body = responses.poll_rep(
            [
                responses.PollResponse(0, 60),
                responses.PollResponse(-1, 86400, ("waits for approval",)),
            ]
        )
        theirs = decode(body)
        assert 86400 == int(theirs[1]["checkAfter"])  # type: ignore[index]


class ErrorTests:
    """error (section 5.3.21)."""

    def test_openssl(self) -> None:
        """OpenSSL's own words are read."""
        found = read_error(captured("error").body.value)
        assert ("badRequest",) == found.status.failures
        assert ("CMP routines", "error processing message") == found.details
        assert 486539422 == found.code
        again = responses.error(found)
        assert captured("error").body == again

    def test_round_trip(self) -> None:
        """Code and details may be absent."""
        for message in (
            ErrorMsg(REJECTED),
            ErrorMsg(REJECTED, -5),
            ErrorMsg(REJECTED, None, ("see the manual",)),
            ErrorMsg(REJECTED, 0, ("a", "b")),
        ):
            body = responses.error(message)
            decode(body)
            assert message == read_error(body.value)

    @pytest.mark.parametrize(
        "value",
        [
            NULL,
            der.sequence(),
            der.sequence(NULL),
            der.sequence(ACCEPTED.der(), NULL),
            der.sequence(ACCEPTED.der(), der.sequence()),
            der.sequence(ACCEPTED.der(), der.sequence(), der.integer(1)),
        ],
    )
    def test_malformed(self, value: bytes) -> None:
        """What is no ErrorMsgContent is refused."""
        with pytest.raises(Malformed):
            read_error(value)


class NestedTests:
    """nested (section 5.1.3.5)."""

    def test_round_trip(self) -> None:
        """Whole messages inside one, octet for octet."""
        inner = (MESSAGES["ir"], MESSAGES["kur"])
        body = responses.nested(inner)
        assert inner == read_nested(body.value)
        for each in read_nested(body.value):
            read_message(each)

    def test_malformed(self) -> None:
        """At least one, and nothing else."""
        for value in (NULL, der.sequence(), der.sequence(NULL)):
            with pytest.raises(Malformed):
                read_nested(value)


class ChallengeTests:
    """popdecr (section 5.2.8.3.3)."""

    def test_reading(self) -> None:
        """Numbers of any size."""
        value = der.sequence(der.integer(-1), der.integer(1 << 200))
        assert (-1, 1 << 200) == read_pop_responses(value)
        with pytest.raises(Malformed):
            read_pop_responses(der.sequence(NULL))


class BoundTests:
    """What a peer can count on."""

    @pytest.mark.parametrize(
        ("reader", "each"),
        [
            (
                read_cert_conf,
                der.sequence(der.octet_string(b""), der.integer(0)),
            ),
            (read_rev_req, der.sequence(der.sequence())),
            (read_gen_msg, der.sequence(der.oid("1.2.3"))),
            (read_poll_req, der.sequence(der.integer(0))),
            (read_nested, der.sequence()),
            (read_pop_responses, der.integer(0)),
        ],
    )
    def test_items(
        self, reader: Callable[[bytes], tuple[object, ...]], each: bytes
    ) -> None:
        """More of anything than the limit are refused."""
        most = der.sequence(*[each] * MAX_ITEMS)
        assert MAX_ITEMS == len(reader(most))
        with pytest.raises(TooLarge):
            reader(der.sequence(*[each] * (MAX_ITEMS + 1)))

    @pytest.mark.parametrize("name", ["genm", "poll_req", "error", "bc_rr"])
    def test_corruption(self, name: str) -> None:
        """Damaged octets are read, or refused as a peer's fault."""
        for damaged in corruptions(MESSAGES[name]):
            refusal(read_everything, damaged)


def asked(name: str, value: bytes) -> InfoTypeAndValue:
    """Return what a genm with one type reads as."""
    item = InfoTypeAndValue(INFO_TYPES[name], value)
    (found,) = read_gen_msg(der.sequence(item.der()))
    return found


def crl_status(source: bytes, when: bytes = b"") -> bytes:
    """Return a CRLStatusListValue of one."""
    return der.sequence(der.sequence(source, when))


class GeneralMessageTests:
    """genm (section 5.3.19)."""

    def test_openssl(self) -> None:
        """OpenSSL asks for one type, or for whatever there is."""
        (found,) = read_gen_msg(captured("genm").body.value)
        assert ("signKeyPairTypes", None) == (found.name, found.value)
        assert general.REQUEST_VALUES[found.name] is False
        assert () == read_gen_msg(captured("genm_signed").body.value)

    def test_every_type_has_a_name(self) -> None:
        """What may be asked for is known by name."""
        assert set(general.REQUEST_VALUES) <= set(INFO_TYPES)

    @pytest.mark.parametrize(
        "value",
        [
            NULL,
            der.sequence(NULL),
            der.sequence(der.sequence()),
            der.sequence(der.sequence(NULL)),
            der.sequence(der.sequence(der.oid("1.2.3"), NULL, NULL)),
        ],
    )
    def test_malformed(self, value: bytes) -> None:
        """What is no list of InfoTypeAndValue is refused."""
        with pytest.raises(Malformed):
            read_gen_msg(value)

    def test_crl_status_by_point(self) -> None:
        """A CRL is named by its distribution point (section 5.3.19.17)."""
        names = (GeneralName("uri", "http://ca.example.com/x.crl"),)
        full = encode_general_names(names)
        point = der.tlv(0xA0, der.content(full, der.SEQUENCE))
        value = crl_status(
            der.explicit(0, point), der.tlv(0x17, b"260101000000Z")
        )
        expected = general.CRLStatus(names, (), START)
        found = asked("crlStatusList", value).value
        assert (expected,) == general.read_crl_status_list(found or b"")
        theirs, rest = decoder.decode(value, rfc9480.CRLStatusListValue())
        assert b"" == rest
        assert "dpn" == theirs[0]["source"].getName()

    def test_crl_status_by_issuer(self) -> None:
        """Or by who has issued it; other names of it are left out."""
        mail = der.tlv(0x81, b"ca@example.com")
        names = der.sequence(directory_name(cn("CA")), mail)
        value = crl_status(der.explicit(1, names))
        assert (
            general.CRLStatus((), (cn("CA"),), None),
        ) == general.read_crl_status_list(value)
        theirs, _ = decoder.decode(value, rfc9480.CRLStatusListValue())
        assert "issuer" == theirs[0]["source"].getName()

    def test_crl_status_by_relative_name(self) -> None:
        """A name relative to the issuer is read as none."""
        value = crl_status(der.explicit(0, der.tlv(0xA1, NULL)))
        assert (
            general.CRLStatus((), (), None),
        ) == general.read_crl_status_list(value)

    @pytest.mark.parametrize(
        "value",
        [
            NULL,
            der.sequence(),
            der.sequence(NULL),
            der.sequence(der.sequence()),
            crl_status(NULL),
            crl_status(der.explicit(0, b"")),
            crl_status(der.explicit(0, NULL)),
            crl_status(der.explicit(0, der.tlv(0xA0, b""))),
            crl_status(der.explicit(1, NULL)),
            crl_status(der.explicit(1, der.sequence(NULL))),
            crl_status(der.explicit(2, der.sequence())),
            crl_status(der.explicit(0, der.tlv(0xA1, NULL)), NULL),
            crl_status(
                der.explicit(0, der.tlv(0xA1, NULL)),
                2 * der.tlv(0x17, b"260101000000Z"),
            ),
        ],
    )
    def test_malformed_crl_status(self, value: bytes) -> None:
        """What is no list of CRLStatus is refused."""
        with pytest.raises(Malformed):
            general.read_crl_status_list(value)

    def test_mutation(self) -> None:
        """Values of another shape are a peer's fault at most."""
        point = der.tlv(0xA0, der.tlv(0x86, b"http://ca.example.com/"))
        by_point = crl_status(
            der.explicit(0, point), der.tlv(0x17, b"260101000000Z")
        )
        by_issuer = crl_status(
            der.explicit(1, der.sequence(directory_name(cn("CA"))))
        )
        for value in (by_point, by_issuer):
            assert refusal(general.read_crl_status_list, value) is None
            for mutated in mutations(value):
                if refusal(der.check, mutated) is None:
                    refusal(general.read_crl_status_list, mutated)

    def test_other_values(self) -> None:
        """Languages, roots and algorithms are read."""
        tags = der.sequence(der.tlv(0x0C, b"de-CH"), der.tlv(0x0C, b"en"))
        assert ("de-CH", "en") == general.read_language_tags(tags)
        assert certificate() == general.read_root_ca_cert(certificate())
        assert "1.2.3" == general.read_algorithm(der.oid("1.2.3"))
        for reader in (
            general.read_language_tags,
            general.read_root_ca_cert,
            general.read_algorithm,
        ):
            with pytest.raises(Malformed):
                reader(NULL)


class GeneralAnswerTests:
    """genp (section 5.3.20)."""

    AES = der.sequence(der.oid("2.16.840.1.101.3.4.1.42"))

    def answer(
        self, item: InfoTypeAndValue, name: str, spec: object
    ) -> object:
        """Return the value of an item as pyasn1 reads it."""
        assert name == item.name
        decode(responses.gen_rep([item]))
        theirs, rest = decoder.decode(item.value, spec)
        assert b"" == rest
        assert item.value == encoder.encode(theirs)
        return theirs

    def test_certificates(self) -> None:
        """caCerts, caProtEncCert and the next root."""
        item = general.ca_certs([certificate()] * 2)
        spec = rfc9480.CaCertsValue()
        assert 2 == len(self.answer(item, "caCerts", spec))  # type: ignore[arg-type]
        item = general.ca_prot_enc_cert(certificate())
        assert ("caProtEncCert", certificate()) == (item.name, item.value)
        item = general.root_ca_key_update(
            certificate(), certificate(), certificate()
        )
        spec = rfc9480.RootCaKeyUpdateValue()
        self.answer(item, "rootCaKeyUpdate", spec)
        item = general.root_ca_key_update(certificate())
        theirs = self.answer(item, "rootCaKeyUpdate", spec)
        assert not theirs["newWithOld"].isValue  # type: ignore[index]

    def test_algorithms(self) -> None:
        """Key types, the preferred cipher, parameters."""
        types = list(general.KEY_ALGORITHMS.values())
        for function, name in (
            (general.sign_key_pair_types, "signKeyPairTypes"),
            (general.enc_key_pair_types, "encKeyPairTypes"),
        ):
            item = function(types)
            assert (name, der.sequence(*types)) == (item.name, item.value)
            decode(responses.gen_rep([item]))
        item = general.preferred_symm_alg(self.AES)
        assert ("preferredSymmAlg", self.AES) == (item.name, item.value)
        item = general.key_pair_param_rep(self.AES)
        assert ("keyPairParamRep", self.AES) == (item.name, item.value)

    def test_crls(self) -> None:
        """currentCRL and those that are newer."""
        item = general.current_crl(CRL)
        assert ("currentCRL", CRL) == (item.name, item.value)
        item = general.crls([CRL, CRL])
        assert ("crls", der.sequence(CRL, CRL)) == (item.name, item.value)

    def test_texts(self) -> None:
        """The language that is used, and what is not served."""
        item = general.supp_lang_tags("en")
        spec = rfc9480.PKIFreeText()
        assert "en" == str(self.answer(item, "suppLangTags", spec)[0])  # type: ignore[index]
        item = general.unsupported_oids(["1.2.3", "1.2.4"])
        expected = der.sequence(der.oid("1.2.3"), der.oid("1.2.4"))
        assert ("unsupportedOIDs", expected) == (item.name, item.value)

    def test_template(self) -> None:
        """certReqTemplate and its keySpec (section 5.3.19.16)."""
        template = CertTemplate(
            subject=cn(""), not_after=datetime(2030, 1, 1, tzinfo=UTC)
        )
        item = general.cert_req_template(
            template, [ECDSA_WITH_SHA256], [2048, 3072]
        )
        spec = rfc9480.CertReqTemplateValue()
        theirs = self.answer(item, "certReqTemplate", spec)
        wishes = [str(each["type"]) for each in theirs["keySpec"]]  # type: ignore[index]
        assert [
            "1.3.6.1.5.5.7.5.1.11",
            "1.3.6.1.5.5.7.5.1.12",
            "1.3.6.1.5.5.7.5.1.12",
        ] == wishes
        item = general.cert_req_template(template)
        theirs = self.answer(item, "certReqTemplate", spec)
        assert not theirs["keySpec"].isValue  # type: ignore[index]

    def test_nothing(self) -> None:
        """Where there is nothing to tell, the value is absent."""
        for item in (
            general.ca_certs([]),
            general.ca_prot_enc_cert(None),
            general.current_crl(None),
            general.crls([]),
            general.key_pair_param_rep(None),
            general.root_ca_key_update(None),
            general.cert_req_template(None),
        ):
            assert item.value is None
            decode(responses.gen_rep([item]))

    def test_key_algorithms(self) -> None:
        """A key that is asked for has the name that its owner's has."""
        for name, identifier in general.KEY_ALGORITHMS.items():
            assert name == general.key_algorithm(identifier)
        assert general.key_algorithm(self.AES) is None
        assert {"rsa", "p-256", "p-384", "p-521"} < set(general.KEY_ALGORITHMS)
        assert {"ed25519", "ml-dsa-65"} < set(general.KEY_ALGORITHMS)
