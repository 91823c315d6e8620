# SPDX-License-Identifier: MIT
"""Full CMC over EST (RFC 7030, section 4.3; RFC 5272; RFC 6402)."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from cmc_samples import (
    HMAC_SHA256,
    SHA1,
    SHA256,
    Answer,
    CMCBench,
    control,
    crm,
    crmf_of,
    csr_of,
    identity,
    key_id,
    octets,
    orm,
    pki_data,
    revocation,
    signed_by,
    signed_by_key,
    ski_extension,
    tcr,
    unsigned,
    utf8,
    witness,
)
from cmp_client import NULL, Signer, cn, new_key, self_signed, spki
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from est_samples import (
    Factory,
    make_csr_with,
    pem_file,
    printable,
)
from twisted.internet.defer import fail, succeed

from trstctl import errors
from trstctl.errors import PolicyViolation, TrstctlError, Unavailable, leaves
from trstctl.model import CertificateStatus, GeneralName, Pending
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmc import FAILURES
from trstctl.pkix.crmf_template import CertTemplate
from trstctl.pkix.names import encode_name
from trstctl.plugin import ProtocolPlugin
from trstctl.policy.profile import ProfileSettings, builtin_profiles
from trstctl.protocols.est.challenges import (
    EST_IDENTITY_LINKING,
    OTP_CHALLENGE,
)
from trstctl.protocols.est.cmc_refusals import (
    FAIL_INFO,
    Refusal,
    concerning,
    refuse,
)
from trstctl.testing import (
    EPOCH,
    TENANT,
    StubAuthority,
    add_challenge,
    add_password,
    basic,
    result_of,
    settings_for,
)

DEVICE = builtin_profiles()["device"]
KEY = new_key()
OWN = self_signed(KEY)
LINK_V1, LINK = "1.3.6.1.5.5.7.7.23", "1.3.6.1.5.5.7.7.33"
R = bytes(range(64))


@pytest.fixture(name="bench")
def _bench() -> CMCBench:
    """Return a gateway with /fullcmc."""
    return CMCBench()


def asks(*controls: bytes, key: Any = KEY, name: str = "d.example") -> bytes:
    """Return a PKIData with one PKCS#10 request."""
    return pki_data(controls, [tcr(csr_of(key, name))])


class EnrollmentTests:
    """A certificate, by each kind of request and signer."""

    def test_renewal(self, bench: CMCBench) -> None:
        """RFC 5272, section 3.2: an existing certificate signs, and stands
        for identity; RFC 7030, section 4.3.2: 200 and a full response."""
        device = bench.device()
        answer = bench.ask(signed_by(device, asks(key=new_key())))
        assert (200, "success", [1]) == (
            answer.http.status,
            answer.status,
            answer.parts,
        )
        bench_serial = read_certificate(answer.certificate).serial
        assert bench_serial == bench.record(device.certificate).superseded_by

    def test_answer_is_signed_and_complete(self, bench: CMCBench) -> None:
        """RFC 5272, section 4.2: all certificates up to the anchor; RFC
        6402, section 2.10: the signer has cmcCA, and is not the CA."""
        answer = bench.ask(signed_by(bench.device(), asks(key=new_key())))
        signer = answer.check_signature()
        usages = signer.extensions.get_extension_for_class(
            x509.ExtendedKeyUsage
        ).value
        assert "1.3.6.1.5.5.7.3.27" in {one.dotted_string for one in usages}
        chain = bench.authorities["issuing"].chain
        assert set(chain) < set(answer.certificates)
        assert len(set(answer.certificates)) == len(answer.certificates)

    def test_other_certificate_of_the_same_device(
        self, bench: CMCBench
    ) -> None:
        """RFC 6402, section 2.1: not limited to renewal; the names are the
        certificate's, and nothing is replaced."""
        key = new_key()
        csr = make_csr_with(
            {},
            "d.example",
            [GeneralName("dns", "d.example"), GeneralName("dns", "e.example")],
            key=key,
        )
        device = Signer(bench.issued(csr), key)
        other = csr_of(new_key())
        answer = bench.ask(signed_by(device, pki_data((), [tcr(other)])))
        assert "success" == answer.status
        assert "" == bench.record(device.certificate).superseded_by

    def test_names_of_another(self, bench: CMCBench) -> None:
        """A certificate enrolls nobody else."""
        message = signed_by(bench.device(), asks(name="else.example"))
        assert (403, "badRequest", [1]) == bench.told(message)

    @pytest.mark.parametrize("request_of", [csr_of, crmf_of])
    def test_signed_by_the_new_key(
        self, bench: CMCBench, request_of: Any
    ) -> None:
        """RFC 5272, section 3.2, a to c: the signer is named by the
        subjectKeyIdentifier of the request; a password says who asks."""
        made = request_of(KEY)
        part = tcr(made) if request_of is csr_of else crm(made)
        message = signed_by_key(KEY, pki_data((), [part]))
        answer = bench.ask(message, password=True)
        assert "success" == answer.status
        assert (
            spki(KEY) == read_certificate(answer.certificate).public_key.spki
        )

    def test_new_key_alone(self, bench: CMCBench) -> None:
        """A key is nobody's identity: 401 with a challenge and a message."""
        message = signed_by_key(KEY, asks())
        assert (401, "badIdentity", [1]) == bench.told(message)
        answer = bench.ask(message)
        assert (
            'Basic realm="trstctl"' in answer.http.headers["WWW-Authenticate"]
        )

    def test_new_key_with_tls_certificate(self, bench: CMCBench) -> None:
        """The TLS client certificate says who asks (RFC 7030, 3.3.2)."""
        device = bench.device()
        answer = bench.ask(
            signed_by_key(KEY, asks()), certificate=device.certificate
        )
        assert "success" == answer.status

    def test_wrong_password(self, bench: CMCBench) -> None:
        """Each credential that is there must be right."""
        message = signed_by(bench.device(), asks(key=new_key()))
        assert (401, "badIdentity", [1]) == bench.told(
            message, Authorization="Basic YTp3cm9uZw=="
        )
        assert (401, "badIdentity", [0]) == bench.told(
            message, Authorization="Digest x"
        )

    def test_repeated(self, bench: CMCBench) -> None:
        """The same request gets the same certificate, byte for byte."""
        device, data = bench.device(), asks(key=new_key())
        first = bench.ask(signed_by(device, data))
        again = bench.ask(signed_by(device, data))
        assert first.certificate == again.certificate

    @pytest.mark.parametrize("renewing", [True, False])
    def test_recorded(self, renewing: bool) -> None:
        """S-3: whoever has recorded a message gets nothing by it that its
        sender did not get, at another label or under a key of his own."""
        bench = CMCBench(labels={"b": {}})
        names = [GeneralName("dns", one) for one in ("d.example", "e.example")]
        key = new_key()
        csr = make_csr_with({}, "d.example", names, key=key)
        device = Signer(bench.issued(csr), key)
        wanted = csr_of(new_key())
        if renewing:
            wanted = make_csr_with({}, "d.example", names, key=new_key())
        message = signed_by(device, pki_data((), [tcr(wanted)]))
        first = bench.ask(message, Idempotency_Key="mine")
        assert "success" == first.status, first.text
        for how in (
            {"label": "b", "Idempotency_Key": "mine"},
            {"Idempotency_Key": "another"},
            {},
        ):
            told = bench.told(message, **how)
            assert (409, "badRequest", [1]) == told
        again = bench.ask(message, Idempotency_Key="mine")
        assert first.certificate == again.certificate

    def test_recorded_first_elsewhere(self) -> None:
        """It counts where it came first, also if nothing came of it."""
        bench = CMCBench(
            {"strict": evolve(DEVICE, names_required=True)},
            labels={"b": {"profile": "strict"}},
        )
        message = signed_by(bench.device(), asks(key=new_key()))
        assert 403 == bench.told(message, label="b")[0]
        assert (409, "badRequest", [1]) == bench.told(message)

    def test_in_the_session_of_the_signer(self) -> None:
        """Nobody else can send it: it may go to several labels."""
        bench = CMCBench(labels={"b": {}})
        device = bench.device()
        message = signed_by(device, asks(key=new_key()))
        for label in ("", "b"):
            answer = bench.ask(
                message, certificate=device.certificate, label=label
            )
            assert "success" == answer.status, answer.text

    def test_forgotten_meanwhile(self, bench: CMCBench) -> None:
        """What was remembered a moment ago, and is not now, was here."""
        device = bench.device()
        message = signed_by(device, asks(key=new_key()))
        assert "success" == bench.ask(message).status
        bench.ra.dialogues.find_dialogue = lambda *_: succeed(None)
        assert (409, "badRequest", [1]) == bench.told(message)

    def test_expired_signer(self) -> None:
        """The profile decides whether what has expired may be renewed."""
        bench = CMCBench()
        bench.change(renewal_grace=timedelta(days=30))
        device = bench.device()
        bench.clock.advance(86400 * 370)
        at = bench.now()
        answer = bench.ask(signed_by(device, asks(key=new_key()), at=at))
        assert "success" == answer.status, answer.text
        message = signed_by(device, asks(name="x.example"), at=at)
        assert (403, "badRequest", [1]) == bench.told(message)

    def test_revoked_signer(self, bench: CMCBench) -> None:
        """Nobody renews what was revoked."""
        device = bench.device()
        serial = read_certificate(device.certificate).serial
        result_of(bench.ra.revoke(TENANT, serial, "keyCompromise", "test"))
        message = signed_by(device, asks(key=new_key()))
        assert (403, "badRequest", [1]) == bench.told(message)

    def test_stranger(self, bench: CMCBench) -> None:
        """Nobody vouches for the signer: a password does not make up for
        it."""
        stranger = Signer(self_signed(KEY, "d.example"), KEY)
        message = signed_by(stranger, asks())
        assert (401, "badIdentity", [0]) == bench.told(message, password=True)

    def test_tls_certificate_of_the_signer(self, bench: CMCBench) -> None:
        """The same certificate by TLS and in the message counts once."""
        device = bench.device()
        answer = bench.ask(
            signed_by(device, asks(key=new_key())),
            certificate=device.certificate,
        )
        assert "success" == answer.status

    def test_in_flight(self) -> None:
        """The same request is being answered: 409, tryLater, Retry-After."""
        plugin: Any = ProtocolPlugin(
            "est", "trstctl.protocols.est.resource.ESTResource"
        )
        bench = CMCBench()
        stub: Any = StubAuthority(
            Pending(2, "r", "basic:a", "device", in_flight=True)
        )
        stub.credentials = bench.ra.credentials
        stub.now = bench.now
        stub.challenges = bench.ra.challenges
        bench.resource = plugin.make_resource(
            stub, settings_for(plugin, fullcmc=True)
        )
        answer = bench.ask(signed_by_key(KEY, asks()), password=True)
        assert (409, "failed", "tryLater", "2") == (
            answer.http.status,
            answer.status,
            answer.failure,
            answer.http.headers["Retry-After"],
        )

    def test_policy_names_profile_and_rule(self, bench: CMCBench) -> None:
        """The statusString says what to do about it."""
        message = signed_by(bench.device(), asks(name="else.example"))
        text = bench.ask(message).text
        assert text.startswith("profile device, rule ")

    def test_extension(self, bench: CMCBench) -> None:
        """RFC 5272, section 3.1: unsupportedExt for an extension."""
        csr = make_csr_with({}, key=KEY, extensions=[("1.2.3.4", NULL)])
        device = bench.device()
        message = signed_by(device, pki_data((), [tcr(csr)]))
        assert (403, "unsupportedExt", [1]) == bench.told(message)

    def test_weak_key(self, bench: CMCBench) -> None:
        """badAlg for keys that are refused."""
        bench.change(key_types=("rsa",))
        message = signed_by_key(KEY, asks())
        assert (403, "badAlg", [1]) == bench.told(message, password=True)

    def test_csrattrs_are_enforced(self) -> None:
        """A label that enforces /csrattrs does so here."""
        settings = evolve(builtin_profiles()["device"], names_required=True)
        bench = CMCBench(
            {"strict": settings}, csrattrs="enforce", profile="strict"
        )
        message = signed_by_key(KEY, asks())
        assert (403, "badRequest", [1]) == bench.told(message, password=True)


class TenantTests:
    """Tenants cannot meet."""

    def test_certificate_of_another(self) -> None:
        """A certificate is unknown at another tenant's label, for requests,
        questions and revocations."""
        other = "22222222-2222-2222-2222-222222222222"
        bench = CMCBench(labels={"b": {"tenant_id": other}})
        device = bench.device()
        for data in (
            asks(key=new_key()),
            pki_data(
                [control(4, "revokeRequest", revocation(device.certificate))]
            ),
        ):
            message = signed_by(device, data)
            told = bench.told(message, label="b")
            assert (401, "badIdentity", [0]) == told
        query = pki_data([control(8, "queryPending", octets(b"tid-77"))])
        told = bench.told(signed_by(device, query), label="b")
        assert (401, "badIdentity", [8]) == told

    def test_secret_of_another(self) -> None:
        """So is a shared secret."""
        other = "22222222-2222-2222-2222-222222222222"
        bench = CMCBench(labels={"b": {"tenant_id": other}})
        requests = [tcr(csr_of(KEY))]
        secret = bench.secret(device="d.example")
        data = pki_data(identity(secret, requests), requests)
        told = bench.told(signed_by_key(KEY, data), label="b")
        assert (401, "badIdentity", [102]) == told


class SignatureTests:
    """What is wrong with a signature (RFC 5272, section 3.2.1.3.4)."""

    @pytest.mark.parametrize(
        "data",
        [
            asks(),
            pki_data([control(4, "queryPending", octets(b"tid-77"))]),
            pki_data([control(4, "revokeRequest", revocation(OWN))]),
        ],
    )
    @pytest.mark.parametrize("mode", ["off", "accepted"])
    def test_none(self, data: bytes, mode: str) -> None:
        """Nothing but a shared secret takes its place."""
        bench = CMCBench(revocation_challenge=mode)
        told = bench.told(unsigned(data), password=True)
        assert (400, "badMessageCheck", [0]) == told

    def test_does_not_verify(self, bench: CMCBench) -> None:
        """badMessageCheck, and the body part 0."""
        device = bench.device()
        wrong = evolve(device, key=KEY)
        message = signed_by(wrong, asks())
        assert (400, "badMessageCheck", [0]) == bench.told(message)

    def test_by_another_key_than_the_named(self, bench: CMCBench) -> None:
        """The key of the request must have signed."""
        message = signed_by_key(new_key(), asks(), sid=key_id(KEY))
        assert (400, "badMessageCheck", [0]) == bench.told(
            message, password=True
        )

    @pytest.mark.parametrize(
        "csr",
        [
            csr_of(KEY, ski=False),
            csr_of(new_key()),
            make_csr_with({}, key=KEY),
        ],
    )
    def test_nobody_known(self, bench: CMCBench, csr: bytes) -> None:
        """The request MUST have the extension that names the signer."""
        message = signed_by_key(KEY, pki_data((), [tcr(csr)]))
        assert (400, "badMessageCheck", [0]) == bench.told(
            message, password=True
        )

    def test_every_corruption(self, bench: CMCBench) -> None:
        """Whatever octet is changed: no other certificate comes of it."""
        message = signed_by_key(KEY, asks())
        expected = bench.ask(message, password=True).certificate
        before = bench.census()
        for at in range(len(message)):
            broken = bytearray(message)
            broken[at] ^= 1 << at % 8
            answer = bench.ask(bytes(broken), password=True)
            if answer.http.status == 200:
                assert expected == answer.certificate
            else:
                assert 400 <= answer.http.status < 500
        assert before == bench.census()

    def test_certificate_is_not_there(self, bench: CMCBench) -> None:
        """A signer by issuer and serial brings the certificate."""
        message = signed_by(bench.device(), asks(), bag=())
        assert (400, "badMessageCheck", [0]) == bench.told(message)

    def test_expensive_key(self, bench: CMCBench) -> None:
        """A key that costs more than usual to verify with is refused."""
        key = rsa.generate_private_key(3, 2048)
        signer = Signer(self_signed(key), key)
        prepared = signed_by(evolve(signer, key=KEY), asks())
        assert (400, "badAlg", [0]) == bench.told(prepared)

    @pytest.mark.parametrize("off", [-601, 241, None])
    def test_not_fresh(self, bench: CMCBench, off: int | None) -> None:
        """badTime: who has got hold of a message cannot send it again."""
        at = None if off is None else EPOCH + timedelta(seconds=off)
        device = bench.device()
        message = signed_by(device, asks(key=KEY), at=at)
        assert (400, "badTime", [0]) == bench.told(message)
        answer = bench.ask(message, certificate=device.certificate)
        assert "success" == answer.status

    @pytest.mark.parametrize("off", [-600, 240])
    def test_fresh(self, bench: CMCBench, off: int) -> None:
        """Ten minutes behind and four ahead are allowed."""
        at = EPOCH + timedelta(seconds=off)
        message = signed_by(bench.device(), asks(key=KEY), at=at)
        assert "success" == bench.ask(message).status

    def test_malformed_certificate(self, bench: CMCBench) -> None:
        """What claims to be a certificate, and has no key."""
        device = bench.device()
        broken = der.sequence(
            der.children(der.content(device.certificate, der.SEQUENCE))[0][2],
            der.sequence(der.oid("1.2.3")),
            der.bit_string(b""),
        )
        tbs = der.children(der.content(broken, der.SEQUENCE))[0][1]
        parts = [part[2] for part in der.children(tbs)]
        parts[4] = der.sequence(NULL, NULL)  # the validity
        broken = der.sequence(
            der.sequence(*parts),
            der.sequence(der.oid("1.2.3")),
            der.bit_string(b""),
        )
        message = signed_by(device, asks(), bag=(broken,))
        assert (400, "badMessageCheck", [0]) == bench.told(message)


class FormTests:
    """What is no Full PKI Request (RFC 7030, section 4.3.1)."""

    @pytest.mark.parametrize(
        ("body", "failure"),
        [
            (b"", "badRequest"),
            (b"?", "badRequest"),
            (b"\x30\x00", "badRequest"),
            (base64.b64encode(b"\x30\x00"), "badRequest"),
            (base64.b64encode(csr_of(KEY)), "badRequest"),
        ],
    )
    def test_junk(self, bench: CMCBench, body: bytes, failure: str) -> None:
        """Rejected, with 4xx and a CMC response."""
        assert (400, failure, [0]) == bench.told(b"", body=body)

    def test_too_many_parts(self, bench: CMCBench) -> None:
        """413, as everywhere, and a CMC response."""
        controls = [control(n, "regInfo", NULL) for n in range(2, 67)]
        message = signed_by_key(KEY, asks(*controls))
        assert (413, "badRequest", [0]) == bench.told(message)

    def test_too_large(self, bench: CMCBench) -> None:
        """What HTTP refuses already is told in plain text."""
        assert 413 == bench.send(bytes(65536)).status

    def test_authenticated_data_is_told(self, bench: CMCBench) -> None:
        """RFC 5272, section 3.2, knows AuthenticatedData; we do not."""
        info = der.sequence(
            der.oid("1.2.840.113549.1.9.16.1.2"),
            der.explicit(0, der.sequence()),
        )
        answer = bench.ask(info)
        assert "badRequest" == answer.failure
        assert "AuthenticatedData is not served" in answer.text

    @pytest.mark.parametrize("content_type", ["1.2.840.113549.1.7.1", "1.2.3"])
    def test_other_content(self, bench: CMCBench, content_type: str) -> None:
        """The content must be an id-cct-PKIData."""
        device = bench.device()
        message = signed_by(device, asks(), content_type=content_type)
        assert (400, "badRequest", [0]) == bench.told(message)

    def test_no_pki_data(self, bench: CMCBench) -> None:
        """The content must be what it says."""
        message = signed_by(bench.device(), b"\x30\x00")
        assert (400, "badRequest", [0]) == bench.told(message)

    @pytest.mark.parametrize(
        "media",
        [
            "",
            "application/pkcs10",
            "application/pkcs7-mime; smime-type=certs-only",
            "application/pkcs7-mime; smime-type=CMC-response",
            "application/pkcs7-mime; smime-type",
        ],
    )
    def test_media_type(self, bench: CMCBench, media: str) -> None:
        """RFC 5273, section 3: the type says what it is."""
        answer = bench.send(signed_by_key(KEY, asks()), media=media)
        assert 415 == answer.status
        assert answer.content_type.startswith("text/plain")

    @pytest.mark.parametrize(
        ("lenient", "media", "status"),
        [
            (True, "application/pkcs7-mime", 401),
            (False, "application/pkcs7-mime", 415),
            (False, 'Application/PKCS7-MIME; smime-type="cmc-REQUEST"', 401),
        ],
    )
    def test_parameter(self, lenient: bool, media: str, status: int) -> None:
        """The parameter may be missing where the label is lenient; neither
        letter case nor quotes count."""
        bench = CMCBench(lenient=lenient)
        answer = bench.send(signed_by_key(KEY, asks()), media=media)
        assert status == answer.status

    @pytest.mark.parametrize(
        ("lenient", "status"), [(True, 401), (False, 400)]
    )
    def test_binary(self, lenient: bool, status: int) -> None:
        """RFC 5273 has the octets themselves; RFC 7030 has base64."""
        bench = CMCBench(lenient=lenient)
        message = signed_by_key(KEY, asks())
        assert status == bench.send(b"", body=message).status

    def test_off(self) -> None:
        """Off by default, and then 404 (RFC 7030, section 4.3.2)."""
        bench = CMCBench(fullcmc=False, labels={"on": {"fullcmc": True}})
        message = signed_by_key(KEY, asks())
        assert 404 == bench.send(message).status
        assert 401 == bench.send(message, label="on").status

    def test_wrong_method(self, bench: CMCBench) -> None:
        """RFC 7030, figure 5: POST."""
        answer = bench.get("/fullcmc")
        assert (405, "POST") == (answer.status, answer.headers["Allow"])

    def test_no_credential(self, bench: CMCBench) -> None:
        """Without a key to sign with, HTTP tells it, and nothing is done."""
        credentials: Any = bench.ra.credentials
        credentials.error = Unavailable()
        before = bench.census()
        answer = bench.send(signed_by_key(KEY, asks()), password=True)
        assert 503 == answer.status
        assert before == bench.census()


class ControlTests:
    """Controls (RFC 5272, section 6)."""

    def test_what_is_returned(self, bench: CMCBench) -> None:
        """Sections 6.4 and 6.6: dataReturn and transactionId as they are,
        the senderNonce as recipientNonce, and one of our own."""
        data = asks(
            control(11, "transactionId", der.integer(-5)),
            control(12, "senderNonce", octets(b"theirs")),
            control(13, "dataReturn", octets(b"mine")),
            control(14, "regInfo", octets(b"?")),
        )
        answer = bench.ask(signed_by_key(KEY, data), password=True)
        assert "success" == answer.status
        assert der.integer(-5) == answer.control("transactionId")
        assert octets(b"theirs") == answer.control("recipientNonce")
        assert octets(b"mine") == answer.control("dataReturn")
        own = answer.control("senderNonce")
        assert own is not None
        assert 16 == len(der.content(own, der.OCTET_STRING))
        again = bench.ask(signed_by_key(KEY, data), password=True)
        assert own != again.control("senderNonce")

    def test_nothing_is_returned(self, bench: CMCBench) -> None:
        """Without them there is the status alone."""
        answer = bench.ask(signed_by_key(KEY, asks()), password=True)
        assert 1 == len(answer.controls)

    def test_returned_with_a_refusal(self, bench: CMCBench) -> None:
        """A refusal, too, returns them."""
        data = asks(control(11, "dataReturn", octets(b"mine")))
        answer = bench.ask(signed_by_key(KEY, data))
        assert octets(b"mine") == answer.control("dataReturn")

    def test_unknown(self, bench: CMCBench) -> None:
        """Section 3.2.1.1: the whole fails with badRequest, and bodyList has
        every control that is not recognized."""
        data = asks(
            control(11, "1.2.3.4", NULL),
            control(12, "batchRequests", der.sequence(der.integer(1))),
            control(13, "1.3.6.1.5.5.7.7.36", NULL),
        )
        message = signed_by_key(KEY, data)
        assert (400, "badRequest", [11, 13]) == bench.told(
            message, password=True
        )

    @pytest.mark.parametrize(
        "name",
        [
            "statusInfo",
            "addExtensions",
            "encryptedPOP",
            "decryptedPOP",
            "getCert",
            "getCRL",
            "responseInfo",
            "popLinkWitness",
            "popLinkWitnessV2",
            "confirmCertAcceptance",
            "statusInfoV2",
            "trustedAnchors",
            "authData",
            "batchRequests",
            "batchResponses",
            "publishCert",
            "modCertTemplate",
            "controlProcessed",
            "raIdentityWitness",
            "responseBody",
        ],
    )
    def test_not_served(self, bench: CMCBench, name: str) -> None:
        """noSupport, and the control that is meant."""
        message = signed_by_key(KEY, asks(control(11, name, NULL)))
        answer = bench.ask(message, password=True)
        assert (400, "noSupport", "", [11]) == (
            answer.http.status,
            answer.status,
            answer.failure,
            answer.parts,
        )
        assert name in answer.text

    def test_identity_proof_by_sha1(self, bench: CMCBench) -> None:
        """identityProof is by SHA-1 alone: refused, with what to use."""
        data = asks(control(11, "identityProof", octets(bytes(20))))
        message = signed_by_key(KEY, data)
        assert (401, "badIdentity", [11]) == bench.told(message)

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("transactionId", (octets(b""),)),
            ("transactionId", ()),
            ("transactionId", (der.integer(1), der.integer(2))),
            ("transactionId", (der.integer(1 << 520),)),
            ("senderNonce", (der.integer(1),)),
            ("senderNonce", (octets(bytes(257)),)),
            ("dataReturn", (octets(bytes(16385)),)),
            ("recipientNonce", (NULL,)),
            ("regInfo", (NULL,)),
            ("popLinkRandom", (octets(bytes(1025)),)),
            ("lraPOPWitness", (NULL,)),
            ("lraPOPWitness", (der.sequence(der.integer(0)),)),
            (
                "lraPOPWitness",
                (der.sequence(der.integer(-1), der.sequence()),),
            ),
        ],
    )
    def test_malformed(
        self, bench: CMCBench, name: str, values: tuple[bytes, ...]
    ) -> None:
        """badRequest, and the control that is meant."""
        message = signed_by_key(KEY, asks(control(11, name, *values)))
        assert (400, "badRequest", [11]) == bench.told(message, password=True)

    def test_twice(self, bench: CMCBench) -> None:
        """Nobody could tell which counts."""
        data = asks(
            control(11, "dataReturn", octets(b"1")),
            control(12, "dataReturn", octets(b"2")),
        )
        message = signed_by_key(KEY, data)
        assert (400, "badRequest", [12]) == bench.told(message, password=True)

    def test_nothing_asked(self, bench: CMCBench) -> None:
        """A message that asks for nothing."""
        message = signed_by(bench.device(), pki_data())
        assert (400, "badRequest", [0]) == bench.told(message)

    def test_two_things_asked(self, bench: CMCBench) -> None:
        """One thing in a message; nothing is half done."""
        device = bench.device()
        revoke = control(9, "revokeRequest", revocation(device.certificate))
        for data, parts in (
            (
                pki_data((), [tcr(csr_of(KEY), 1), tcr(csr_of(KEY), 2)]),
                [1, 2],
            ),
            (asks(revoke), [1, 9]),
            (
                pki_data(
                    [revoke, control(8, "queryPending", octets(b"x"))], ()
                ),
                [9, 8],
            ),
        ):
            told = bench.told(signed_by(device, data))
            assert (400, "badRequest", parts) == told

    def test_proofs_without_a_request(self, bench: CMCBench) -> None:
        """What proves a request makes no sense without one."""
        query = control(8, "queryPending", octets(b"x"))
        link = control(9, "popLinkRandom", octets(R))
        message = signed_by(bench.device(), pki_data([query, link]))
        assert (400, "badRequest", [9]) == bench.told(message)

    def test_nested(self, bench: CMCBench) -> None:
        """Nested messages, other messages and other requests: noSupport
        (section 3.2 wants it for the last)."""
        info = der.sequence(
            der.integer(31),
            der.sequence(
                der.oid("1.2.840.113549.1.7.1"),
                der.explicit(0, der.octet_string(b"")),
            ),
        )
        other = der.sequence(der.integer(32), der.oid("1.2.3"), NULL)
        data = pki_data((), [tcr(csr_of(KEY)), orm(33)], [info], [other])
        message = signed_by_key(KEY, data)
        assert (400, "noSupport", [31, 32, 33]) == bench.told(message)


class RequestTests:
    """Certification requests (RFC 5272, section 3.2.1.2)."""

    @pytest.mark.parametrize(
        ("how", "failure"),
        [
            ({"template": CertTemplate(public_key=spki(KEY))}, "badRequest"),
            ({"template": CertTemplate(subject=cn("d"))}, "badRequest"),
            ({"serial": "1"}, "badRequest"),
            ({"version": 1}, "badRequest"),
            ({"issuer": cn("another CA")}, "badRequest"),
            (
                {
                    "controls": der.sequence(
                        der.sequence(
                            der.oid("1.3.6.1.5.5.7.5.1.1"), utf8("token")
                        )
                    )
                },
                "badRequest",
            ),
            ({"proof": b"\x80\x00"}, "popFailed"),
            ({"proof": b""}, "popRequired"),
            (
                {"proof": der.tlv(0xA2, der.tlv(0x81, b"\x00"))},
                "popRequired",
            ),
        ],
    )
    def test_refused_crmf(
        self, bench: CMCBench, how: dict[str, Any], failure: str
    ) -> None:
        """Subject and key are there, the proof is a signature, and nothing
        is asked that only CRMF has."""
        fields = {
            name: how.pop(name)
            for name in ("serial", "version", "issuer")
            if name in how
        }
        if fields:
            how["template"] = CertTemplate(
                subject=cn("d.example"),
                public_key=spki(KEY),
                extensions=(ski_extension(KEY),),
                **fields,
            )
        message = signed_by(
            bench.device(), pki_data((), [crm(crmf_of(KEY, **how))])
        )
        assert (400, failure, [1]) == bench.told(message)

    def test_issuer(self, bench: CMCBench) -> None:
        """The right issuer may be named."""
        issuer = bench.authorities["issuing"].certificate
        template = CertTemplate(
            version=2,
            issuer=read_certificate(issuer).subject,
            subject=cn("d.example"),
            public_key=spki(KEY),
        )
        data = pki_data((), [crm(crmf_of(KEY, template=template))])
        assert "success" == bench.ask(signed_by(bench.device(), data)).status

    def test_reg_info(self, bench: CMCBench) -> None:
        """regInfo MUST NOT be used."""
        (request, proof) = der.children(
            der.content(crmf_of(KEY), der.SEQUENCE)
        )
        more = der.sequence(der.sequence(der.oid("1.2.3"), NULL))
        message = der.sequence(request[2], proof[2], more)
        data = pki_data((), [crm(message)])
        told = bench.told(signed_by(bench.device(), data))
        assert (400, "badRequest", [1]) == told

    def test_wrong_proof(self, bench: CMCBench) -> None:
        """popFailed if the request's own signature does not verify."""
        csr = csr_of(KEY)[:-1] + bytes((csr_of(KEY)[-1] ^ 1,))
        device = bench.device()
        told = bench.told(signed_by(device, pki_data((), [tcr(csr)])))
        assert 400 == told[0]
        assert told[1] in {"popFailed", "badRequest"}
        other = crmf_of(
            KEY,
            template=CertTemplate(
                subject=cn("d.example"), public_key=spki(new_key())
            ),
        )
        told = bench.told(signed_by(device, pki_data((), [crm(other)])))
        assert (400, "popFailed", [1]) == told

    def test_malformed(self, bench: CMCBench) -> None:
        """badRequest, and the request that is meant."""
        data = pki_data((), [tcr(der.sequence(), 5)])
        told = bench.told(signed_by(bench.device(), data))
        assert (400, "badRequest", [5]) == told


class SecretTests:
    """identityProofV2 and POP link witness (RFC 5272, 6.2.1 and 6.3.1)."""

    def proven(self, bench: CMCBench, **how: Any) -> Answer:
        """Enroll with a shared secret."""
        return bench.ask(self.message(bench, **how))

    def message(self, bench: CMCBench, **how: Any) -> bytes:
        """Return a message that a shared secret proves."""
        secret = how.get("secret") or bench.secret(device="d.example")
        attributes = how.get("attributes", {})
        if callable(attributes):
            attributes = attributes(secret)
        requests = [tcr(csr_of(KEY, attributes=attributes))]
        if how.get("crmf"):
            requests = [crm(crmf_of(KEY, controls=how["crmf"](secret)))]
        controls = identity(secret, requests) + how.get("more", [])
        return signed_by_key(KEY, pki_data(controls, requests))

    def test_proven(self, bench: CMCBench) -> None:
        """Who knows the secret needs no other credential, and it buys one
        certificate."""
        secret = bench.secret(device="d.example")
        first = self.proven(bench, secret=secret)
        assert ("success", 200) == (first.status, first.http.status)
        again = self.proven(bench, secret=secret)
        assert first.certificate == again.certificate
        key = new_key()
        requests = [tcr(csr_of(key))]
        data = pki_data(identity(secret, requests), requests)
        told = bench.told(signed_by_key(key, data))
        assert (401, "badIdentity", [1]) == told

    def test_unknown_equals_wrong(self, bench: CMCBench) -> None:
        """badIdentity, and the same answer for both."""
        secret = bench.secret(device="d.example")
        wrong = evolve(secret, secret="A" * 55)
        unknown = evolve(wrong, record=evolve(secret.record, id="00" * 12))
        told = [
            (bench.told(message), bench.ask(message).text)
            for message in (
                self.message(bench, secret=wrong),
                self.message(bench, secret=unknown),
            )
        ]
        assert told[0] == told[1]
        assert (401, "badIdentity", [102]) == told[0][0]

    def test_over_other_requests(self, bench: CMCBench) -> None:
        """The proof is over reqSequence as it was sent."""
        secret = bench.secret(device="d.example")
        controls = identity(secret, [tcr(csr_of(new_key()))])
        data = pki_data(controls, [tcr(csr_of(KEY))])
        told = bench.told(signed_by_key(KEY, data))
        assert (401, "badIdentity", [102]) == told

    def test_names_are_the_secrets(self, bench: CMCBench) -> None:
        """The certificate is for whom the secret is for."""
        secret = bench.secret(device="other.example")
        told = bench.told(self.message(bench, secret=secret))
        assert (403, "badRequest", [1]) == told

    def test_protocol_of_the_secret(self, bench: CMCBench) -> None:
        """A secret of another protocol is unknown here."""
        secret = add_challenge(bench.store, device="d.example")
        told = bench.told(self.message(bench, secret=secret))
        assert (401, "badIdentity", [102]) == told

    @pytest.mark.parametrize("left_out", [0, 1])
    def test_half_a_proof(self, bench: CMCBench, left_out: int) -> None:
        """identification and identityProofV2 go together."""
        requests = [tcr(csr_of(KEY))]
        controls = identity(bench.secret(device="d.example"), requests)
        del controls[left_out]
        message = signed_by_key(KEY, pki_data(controls, requests))
        told = bench.told(message)
        assert (401, "badIdentity", [102 - left_out]) == told

    @pytest.mark.parametrize(
        ("digest", "mac"),
        [
            (SHA1, HMAC_SHA256),
            (SHA256, der.sequence(der.oid("1.2.3"))),
            (
                SHA256,
                der.sequence(
                    der.oid("2.16.840.1.101.3.4.1.9"),
                    der.sequence(octets(bytes(12))),
                ),
            ),
        ],
    )
    def test_algorithms(
        self, bench: CMCBench, digest: bytes, mac: bytes
    ) -> None:
        """badAlg for what cannot be computed, or is by SHA-1."""
        requests = [tcr(csr_of(KEY))]
        controls = [
            control(101, "identification", utf8("x")),
            control(
                102,
                "identityProofV2",
                witness("x", b"", digest=digest, mac=mac),
            ),
        ]
        message = signed_by_key(KEY, pki_data(controls, requests))
        assert (400, "badAlg", [102]) == bench.told(message)

    @pytest.mark.parametrize(
        ("name", "value", "part"),
        [
            ("identification", octets(b"x"), 101),
            ("identification", utf8(""), 101),
            ("identification", utf8("x" * 129), 101),
            ("identityProofV2", octets(b"x"), 102),
            ("identityProofV2", der.sequence(), 102),
        ],
    )
    def test_malformed(
        self, bench: CMCBench, name: str, value: bytes, part: int
    ) -> None:
        """badRequest, and the control that is meant."""
        controls = {
            "identification": utf8("x"),
            "identityProofV2": witness("x", b""),
            name: value,
        }
        data = asks(
            *(
                control(number, each, found)
                for number, (each, found) in enumerate(controls.items(), 101)
            )
        )
        told = bench.told(signed_by_key(KEY, data))
        assert (400, "badRequest", [part]) == told

    def test_signed_by_a_certificate(self, bench: CMCBench) -> None:
        """Nothing would link the secret to the key (RFC 5272, 6.3)."""
        requests = [tcr(csr_of(KEY))]
        data = pki_data(
            identity(bench.secret(device="d.example"), requests), requests
        )
        told = bench.told(signed_by(bench.device(), data))
        assert (400, "badRequest", [102]) == told

    def test_throttled(self, bench: CMCBench) -> None:
        """Guessing is throttled: 429, tryLater and Retry-After."""
        secret = evolve(bench.secret(device="d.example"), secret="A" * 55)
        for _ in range(10):
            bench.ask(self.message(bench, secret=secret))
        answer = self.proven(bench, secret=secret)
        assert (429, "tryLater") == (answer.http.status, answer.failure)
        assert int(str(answer.http.headers["Retry-After"])) > 0

    def test_two_secrets(self, bench: CMCBench) -> None:
        """A token beside it: nobody could tell which is to be used up."""
        attributes = {OTP_CHALLENGE: (printable("token"),)}
        told = bench.told(self.message(bench, attributes=attributes))
        assert (400, "badRequest", [1]) == told

    # popLinkWitnessV2

    def link(self, secret: Any) -> bytes:
        """Return a right popLinkWitnessV2."""
        return witness(secret.secret, R)

    RANDOM = control(103, "popLinkRandom", octets(R))

    def test_link(self, bench: CMCBench) -> None:
        """Section 6.3.1.1, in a PKCS#10 request and in a CRMF one."""
        answer = self.proven(
            bench,
            attributes=lambda secret: {LINK: (self.link(secret),)},
            more=[self.RANDOM],
        )
        assert "success" == answer.status, answer.text
        answer = self.proven(
            bench,
            secret=bench.secret(device="d.example", uses=2),
            crmf=lambda secret: der.sequence(
                der.sequence(der.oid(LINK), self.link(secret))
            ),
            more=[self.RANDOM],
        )
        assert "success" == answer.status, answer.text

    def test_link_as_dogtag_makes_it(self, bench: CMCBench) -> None:
        """Its key is made of the identification, too."""
        answer = self.proven(
            bench,
            attributes=lambda secret: {
                LINK: (witness(secret.secret, R, secret.record.id),)
            },
            more=[self.RANDOM],
        )
        assert "success" == answer.status, answer.text

    @pytest.mark.parametrize(
        ("attributes", "more"),
        [
            ({LINK: (witness("wrong", R),)}, [RANDOM]),
            ({LINK: (witness("wrong", R),)}, []),
            ({}, [RANDOM]),
            ({LINK_V1: (octets(bytes(20)),)}, [RANDOM]),
            ({LINK: (witness("a", R), witness("b", R))}, [RANDOM]),
        ],
    )
    def test_wrong_link(
        self, bench: CMCBench, attributes: Any, more: list[bytes]
    ) -> None:
        """popFailed: both ends are there and right, or neither is."""
        message = self.message(bench, attributes=attributes, more=more)
        assert (400, "popFailed", [1]) == bench.told(message)

    def test_link_by_sha1(self, bench: CMCBench) -> None:
        """badAlg, as for identityProofV2."""
        attributes = {LINK: (witness("a", R, digest=SHA1),)}
        message = self.message(
            bench, attributes=attributes, more=[self.RANDOM]
        )
        assert (400, "badAlg", [1]) == bench.told(message)

    def test_link_without_identity(self, bench: CMCBench) -> None:
        """A link to a secret that nobody has named."""
        data = asks(self.RANDOM)
        told = bench.told(signed_by_key(KEY, data), password=True)
        assert (400, "popFailed", [1]) == told
        csr = csr_of(KEY, attributes={LINK: (witness("a", R),)})
        message = signed_by_key(KEY, pki_data((), [tcr(csr)]))
        told = bench.told(message, password=True)
        assert (400, "popFailed", [1]) == told

    def test_session_is_verified(self, bench: CMCBench) -> None:
        """RFC 7030, section 3.5, holds here, too."""
        binding = bytes(range(12))
        link = printable(base64.b64encode(binding).decode())
        csr = csr_of(KEY, attributes={EST_IDENTITY_LINKING: (link,)})
        message = signed_by_key(KEY, pki_data((), [tcr(csr)]))
        assert (400, "popFailed", [1]) == bench.told(
            message, password=True, binding=b"another"
        )
        answer = bench.ask(message, password=True, binding=binding)
        assert "success" == answer.status


class PendingTests:
    """A request that a person decides (RFC 5272, section 6.13)."""

    def held(self, bench: CMCBench, message: bytes, **how: Any) -> bytes:
        """Send a request that has to wait; return its pendToken."""
        answer = bench.ask(message, **how)
        assert (202, "pending", [1]) == (
            answer.http.status,
            answer.status,
            answer.parts,
        )
        after = int(str(answer.http.headers["Retry-After"]))
        assert answer.pending is not None
        token, when = answer.pending
        expected = bench.now() + timedelta(seconds=after)
        assert expected.strftime("%Y%m%d%H%M%SZ") == when
        return token

    def approve(self, bench: CMCBench, approve: bool = True) -> None:
        """Decide the one request that waits."""
        (row,) = result_of(bench.store.list_requests(TENANT, None, 10))[-1:]
        result_of(
            bench.store.decide_request(
                TENANT,
                row.id,
                approve,
                "op",
                "",
                bench.now(),
                bench.now() + timedelta(days=1),
            )
        )

    def query(self, token: bytes, *more: bytes) -> bytes:
        """Return a PKIData that asks for a token."""
        return pki_data([control(8, "queryPending", octets(token)), *more])

    @staticmethod
    def own(key: Any = KEY) -> Signer:
        """Return a key with a certificate that says no more than the key."""
        return Signer(self_signed(key), key)

    def test_renewal(self) -> None:
        """202 with Retry-After, pendToken and pendTime; the certificate that
        signed asks with the token, and gets it once approved."""
        bench = CMCBench()
        device = bench.device()
        bench.change(approval="always")
        token = self.held(
            bench,
            signed_by(
                device,
                asks(control(7, "transactionId", der.integer(77)), key=KEY),
            ),
        )
        assert b"tid-4d" == token
        still = bench.ask(signed_by(device, self.query(token)))
        assert (202, "pending", [8]) == (
            still.http.status,
            still.status,
            still.parts,
        )
        assert still.pending is None
        self.approve(bench)
        more = control(9, "recipientNonce", octets(b"x"))
        answer = bench.ask(signed_by(device, self.query(token, more)))
        assert (200, "success", [8]) == (
            answer.http.status,
            answer.status,
            answer.parts,
        )
        assert (
            spki(KEY) == read_certificate(answer.certificate).public_key.spki
        )
        again = bench.ask(signed_by(device, self.query(token)))
        assert answer.certificate == again.certificate

    def test_password(self) -> None:
        """Whose password it was asks with it, and with the new key."""
        bench = CMCBench()
        bench.change(approval="always")
        token = self.held(bench, signed_by_key(KEY, asks()), password=True)
        self.approve(bench)
        query = signed_by(self.own(), self.query(token))
        assert (401, "badIdentity", [8]) == bench.told(query)
        answer = bench.ask(query, password=True)
        assert "success" == answer.status

    @pytest.mark.parametrize("waits", [True, False])
    def test_foreign_equals_unknown(self, waits: bool) -> None:
        """Whoever is not the owner is told the same, whether there is such a
        request or not."""
        bench = CMCBench()
        add_password(bench.store, "b", "pw")
        device = bench.device()
        bench.change(approval="always")
        token = self.held(bench, signed_by_key(KEY, asks()), password=True)
        if not waits:
            token = b"req-" + b"0" * 64
        own = signed_by(self.own(), self.query(token))
        other = signed_by(self.own(new_key()), self.query(token))
        theirs = signed_by(device, self.query(token))
        for message in (own, other):
            assert (401, "badIdentity", [8]) == bench.told(message)
            wrong = bench.told(message, **basic("b", "no"))
            assert (401, "badIdentity", [8]) == wrong
            found = bench.told(message, **basic("b", "pw"))
            assert (400, "badCertId", [8]) == found
        assert (400, "badCertId", [8]) == bench.told(theirs)

    def test_another_password(self) -> None:
        """A request is its principal's."""
        bench = CMCBench()
        add_password(bench.store, "b", "pw")
        bench.change(approval="always")
        token = self.held(bench, signed_by_key(KEY, asks()), password=True)
        self.approve(bench)
        query = signed_by(self.own(), self.query(token))
        told = bench.told(query, **basic("b", "pw"))
        assert (400, "badCertId", [8]) == told

    def test_secret(self) -> None:
        """Who enrolled by a shared secret asks with the new key alone."""
        bench = CMCBench()
        bench.change(approval="always")
        requests = [tcr(csr_of(KEY))]
        secret = bench.secret(device="d.example")
        data = pki_data(identity(secret, requests), requests)
        token = self.held(bench, signed_by_key(KEY, data))
        self.approve(bench)
        answer = bench.ask(signed_by(self.own(), self.query(token)))
        assert "success" == answer.status

    def test_crmf(self) -> None:
        """What the store has kept of a CRMF request is signed."""
        bench = CMCBench()
        device = bench.device()
        bench.change(approval="always")
        data = pki_data((), [crm(crmf_of(KEY))])
        token = self.held(bench, signed_by(device, data))
        self.approve(bench)
        answer = bench.ask(signed_by(device, self.query(token)))
        assert "success" == answer.status

    def test_factory_certificate(self, tmp_path: Any) -> None:
        """The factory certificate that asked collects what it asked for."""
        factory = Factory()
        anchors = (pem_file(tmp_path, "root.pem", factory.root),)
        bench = CMCBench(idevid={"anchors": anchors})
        bench.change(approval="always")
        own = new_key()
        device = Signer(
            factory.device("SN-1", common_name="d.example", key=own),
            own,
            (factory.ca,),
        )
        token = self.held(bench, signed_by(device, asks()))
        self.approve(bench)
        answer = bench.ask(signed_by(device, self.query(token)))
        assert "success" == answer.status, answer.text

    def test_repeated(self) -> None:
        """RFC 7030, section 4.2.3: whoever repeats the request gets it."""
        bench = CMCBench()
        device = bench.device()
        bench.change(approval="always")
        message = signed_by(device, asks(key=KEY))
        first = self.held(bench, message)
        assert first == self.held(bench, message)
        self.approve(bench)
        assert "success" == bench.ask(message).status

    def test_denied(self) -> None:
        """A person has said no."""
        bench = CMCBench()
        device = bench.device()
        bench.change(approval="always")
        token = self.held(bench, signed_by(device, asks(key=KEY)))
        self.approve(bench, approve=False)
        query = signed_by(device, self.query(token))
        assert (403, "badRequest", [8]) == bench.told(query)

    @pytest.mark.parametrize(
        "token", [b"", b"x", b"tid-77", b"tid-GG", b"\xff" * 20, b"x" * 161]
    )
    def test_no_such_token(self, bench: CMCBench, token: bytes) -> None:
        """badCertId, and never 404: that would be no such service."""
        query = signed_by(bench.device(), self.query(token))
        failure = "badRequest" if len(token) > 160 else "badCertId"
        assert (400, failure, [8]) == bench.told(query)

    def test_of_another(self) -> None:
        """Whoever has a token and no key learns nothing."""
        bench = CMCBench()
        bench.change(approval="always")
        token = self.held(bench, signed_by_key(KEY, asks()), password=True)
        query = signed_by(self.own(new_key()), self.query(token))
        told = bench.told(query, password=True)
        assert (400, "badCertId", [8]) == told

    def test_transaction_of_another_request(self) -> None:
        """Two requests under one transactionId: the second has to wait."""
        bench = CMCBench()
        device = bench.device()
        bench.change(approval="always")
        number = control(7, "transactionId", der.integer(77))
        self.held(bench, signed_by(device, asks(number, key=KEY)))
        told = bench.told(signed_by(device, asks(number, key=new_key())))
        assert (422, "badRequest", [1]) == told


REGISTRATION = ProfileSettings(
    subject=builtin_profiles()["device"].subject,
    extended_key_usage=("clientAuth", "cmcRA"),
)
SCOPES = {
    "ra": {
        "certificate_profile": "registration",
        "names": ("cn:*.dev.example",),
    }
}


def with_ra(**settings: Any) -> tuple[CMCBench, Signer]:
    """Return a gateway, and a registration authority that may use it."""
    bench = CMCBench(
        {"registration": REGISTRATION},
        registration_authorities=SCOPES,
        labels={"ras": {"profile": "registration"}},
        **settings,
    )
    return bench, bench.device("ra.example", label="ras")


class RegistrationTests:
    """Registration authorities (RFC 5272, section 6.8; RFC 7030, 3.7)."""

    def test_enrolls(self) -> None:
        """Within its scope it enrolls others, and nobody else."""
        bench, authority = with_ra()
        data = asks(name="a.dev.example")
        answer = bench.ask(signed_by(authority, data))
        assert "success" == answer.status
        told = bench.told(signed_by(authority, asks(name="else.example")))
        assert (403, "badRequest", [1]) == told

    @pytest.mark.parametrize("proof", [b"\x80\x00", b""])
    @pytest.mark.parametrize("named", [True, False])
    def test_vouches(self, proof: bytes, named: bool) -> None:
        """raVerified, or no proof and lraPOPWitness: its word counts."""
        bench, authority = with_ra()
        witness_value = der.sequence(
            der.integer(0), der.sequence(der.integer(1))
        )
        controls = [control(9, "lraPOPWitness", witness_value)]
        data = pki_data(
            controls if named else (),
            [crm(crmf_of(KEY, "a.dev.example", proof=proof))],
        )
        message = signed_by(authority, data)
        if named or proof:
            assert "success" == bench.ask(message).status
        else:
            assert (400, "popRequired", [1]) == bench.told(message)

    def test_vouched_request_that_waits(self) -> None:
        """What was accepted then is accepted when a person has approved."""
        bench, authority = with_ra()
        bench.change(approval="always")
        data = pki_data(
            (), [crm(crmf_of(KEY, "a.dev.example", proof=b"\x80\x00"))]
        )
        message = signed_by(authority, data)
        tests = PendingTests()
        token = tests.held(bench, message)
        tests.approve(bench)
        answer = bench.ask(signed_by(authority, tests.query(token)))
        assert "success" == answer.status, answer.text

    def test_vouches_for_a_signed_one(self) -> None:
        """A signature is verified all the same."""
        bench, authority = with_ra()
        value = der.sequence(der.integer(0), der.sequence(der.integer(1)))
        data = asks(control(9, "lraPOPWitness", value), name="a.dev.example")
        assert "success" == bench.ask(signed_by(authority, data)).status

    @pytest.mark.parametrize(
        "value",
        [
            der.sequence(der.integer(1), der.sequence(der.integer(1))),
            der.sequence(der.integer(0), der.sequence(der.integer(2))),
            der.sequence(der.integer(0), der.sequence()),
        ],
    )
    def test_vouches_for_nothing(self, value: bytes) -> None:
        """The control must be about the request."""
        bench, authority = with_ra()
        data = asks(control(9, "lraPOPWitness", value), name="a.dev.example")
        told = bench.told(signed_by(authority, data))
        assert (400, "badRequest", [9]) == told

    def test_device_cannot_vouch(self) -> None:
        """Section 6.8: popFailed to whom that is not allowed, also to an RA
        for itself."""
        bench, authority = with_ra()
        value = der.sequence(der.integer(0), der.sequence(der.integer(1)))
        witness_control = control(9, "lraPOPWitness", value)
        device = bench.device("a.dev.example")
        for signer, name in (
            (device, "a.dev.example"),
            (authority, "ra.example"),
        ):
            data = asks(witness_control, name=name)
            told = bench.told(signed_by(signer, data))
            assert (400, "popFailed", [9]) == told

    def test_factory_certificate(self, tmp_path: Any) -> None:
        """A factory certificate signs, and its names are not renewed."""
        factory = Factory()
        anchors = (pem_file(tmp_path, "root.pem", factory.root),)
        bench = CMCBench(idevid={"anchors": anchors})
        device = Signer(
            factory.device("SN-1", common_name="d.example", key=KEY),
            KEY,
            (factory.ca,),
        )
        answer = bench.ask(signed_by(device, asks()))
        assert "success" == answer.status, answer.text


class RevocationTests:
    """revokeRequest (RFC 5272, section 6.11)."""

    def ask(self, signer: Signer, certificate: bytes, **how: Any) -> bytes:
        """Return a message that asks for a revocation."""
        at = how.pop("at", EPOCH)
        value = revocation(certificate, **how)
        return signed_by(
            signer, pki_data([control(4, "revokeRequest", value)]), at=at
        )

    def status(self, bench: CMCBench, certificate: bytes) -> tuple[Any, str]:
        """Return what the inventory says."""
        record = bench.record(certificate)
        return record.status, record.revocation_reason

    def test_own(self, bench: CMCBench) -> None:
        """Who has a certificate may revoke it; dates and comments have no
        effect."""
        device = bench.device()
        answer = bench.ask(
            self.ask(
                device,
                device.certificate,
                reason=1,
                more=der.tlv(0x18, b"20250101000000Z") + utf8("lost"),
            )
        )
        assert (200, "success", [4]) == (
            answer.http.status,
            answer.status,
            answer.parts,
        )
        assert (CertificateStatus.REVOKED, "keyCompromise") == self.status(
            bench, device.certificate
        )
        (audited,) = bench.audited("certificate.revoked")
        assert audited["actor"].startswith("certificate:issuing:")

    def test_of_another(self, bench: CMCBench) -> None:
        """A device revokes nobody else's."""
        device, other = bench.device(), bench.device("e.example")
        message = self.ask(device, other.certificate)
        assert (403, "badRequest", [4]) == bench.told(message)

    def test_by_an_authority(self) -> None:
        """A registration authority revokes within its scope, holds and
        releases; once more is not wrong."""
        bench, authority = with_ra()
        device = bench.device("a.dev.example")
        for reason, expected in (
            (6, (CertificateStatus.REVOKED, "certificateHold")),
            (6, (CertificateStatus.REVOKED, "certificateHold")),
            (8, (CertificateStatus.VALID, "")),
            (4, (CertificateStatus.REVOKED, "superseded")),
            (1, (CertificateStatus.REVOKED, "keyCompromise")),
        ):
            message = self.ask(authority, device.certificate, reason=reason)
            assert "success" == bench.ask(message).status
            assert expected == self.status(bench, device.certificate)
        message = self.ask(authority, device.certificate, reason=8)
        assert 409 == bench.told(message)[0]
        other = bench.device("else.example")
        message = self.ask(authority, other.certificate)
        assert (403, "badRequest", [4]) == bench.told(message)

    def test_replaced_authority(self) -> None:
        """Who was revoked does not go on with the certificate of before."""
        bench, authority = with_ra()
        device = bench.device("a.dev.example")
        key = new_key()
        answer = bench.ask(
            signed_by(authority, asks(key=key, name="ra.example")),
            label="ras",
        )
        renewed = Signer(answer.certificate, key)
        # Both are good while the new one is.
        message = self.ask(authority, device.certificate, reason=6)
        assert "success" == bench.ask(message).status
        serial = read_certificate(renewed.certificate).serial
        assert serial == bench.record(authority.certificate).superseded_by
        result_of(bench.ra.revoke(TENANT, serial, "keyCompromise", "test"))
        for reason in (8, 1):
            message = self.ask(authority, device.certificate, reason=reason)
            assert (403, "badRequest", [4]) == bench.told(message)

    @pytest.mark.parametrize("reason", [6, 8])
    def test_repeated_message(self, reason: int) -> None:
        """What somebody has recorded does not put a certificate on hold
        once more, or take it off: a message acts once."""
        bench, authority = with_ra()
        device = bench.device("a.dev.example")

        def ask(reason: int) -> bytes:
            bench.clock.advance(1)
            return self.ask(
                authority, device.certificate, reason=reason, at=bench.now()
            )

        bench.ask(ask(6))
        if reason == 6:
            bench.ask(ask(8))
        recorded, other = ask(reason), ask(14 - reason)
        expected = self.status(bench, device.certificate)
        assert "success" == bench.ask(recorded).status
        assert expected != self.status(bench, device.certificate)
        # Whoever lost the answer gets it again.
        assert "success" == bench.ask(recorded).status
        bench.ask(other)
        assert expected == self.status(bench, device.certificate)
        assert (409, "badRequest", [4]) == bench.told(recorded)
        assert expected == self.status(bench, device.certificate)

    def test_repeated_in_vain(self) -> None:
        """What came to nothing is not said to be done."""
        bench, authority = with_ra()
        device = bench.device("a.dev.example")
        bench.ask(self.ask(authority, device.certificate, reason=6))
        message = self.ask(authority, device.certificate, reason=1)
        revoke = bench.ra.revoke
        bench.ra.revoke = lambda *_: fail(Unavailable())  # type: ignore[method-assign]
        assert (503, "tryLater") == bench.told(message)[:2]
        bench.ra.revoke = revoke  # type: ignore[method-assign]
        assert (409, "badRequest") == bench.told(message)[:2]
        message = self.ask(
            authority, device.certificate, reason=1, more=utf8("again")
        )
        assert "success" == bench.ask(message).status
        assert "success" == bench.ask(message).status

    def test_repeated_in_one_session(self) -> None:
        """The TLS client certificate says that it is fresh."""
        bench, authority = with_ra()
        device = bench.device("a.dev.example")
        for reason in (6, 8, 6, 8):
            message = self.ask(
                authority, device.certificate, reason=reason, at=None
            )
            answer = bench.ask(message, certificate=authority.certificate)
            assert "success" == answer.status

    def test_release(self) -> None:
        """Who is on hold cannot lift that; what is not, is not lifted."""
        bench, authority = with_ra()
        device = bench.device("a.dev.example")
        message = self.ask(device, device.certificate, reason=8)
        assert (403, "badRequest", [4]) == bench.told(message)
        message = self.ask(authority, device.certificate, reason=8)
        assert (409, "badRequest", [4]) == bench.told(message)

    def test_by_a_factory_certificate(self, tmp_path: Any) -> None:
        """It has a certificate of ours, and is not one."""
        factory = Factory()
        anchors = (pem_file(tmp_path, "root.pem", factory.root),)
        bench = CMCBench(idevid={"anchors": anchors})
        device = bench.device()
        signer = Signer(factory.device("SN-1", key=KEY), KEY, (factory.ca,))
        message = self.ask(signer, device.certificate)
        assert (403, "badRequest", [4]) == bench.told(message)

    @pytest.mark.parametrize("change", ["serial", "issuer", "negative"])
    def test_unknown(self, bench: CMCBench, change: str) -> None:
        """badCertId, and never 404."""
        device = bench.device()
        how: dict[str, Any] = {
            "serial": {"serial": 5},
            "negative": {"serial": -5},
            "issuer": {"issuer": encode_name(cn("another CA"))},
        }[change]
        message = self.ask(device, device.certificate, **how)
        assert (400, "badCertId", [4]) == bench.told(message)

    def test_of_another_authority(self) -> None:
        """The certificates of a label's own CA, and of no other."""
        bench = CMCBench(labels={"b": {"authority": "other", "fullcmc": True}})
        device = bench.device(label="b")
        message = self.ask(device, device.certificate)
        assert (401, "badIdentity", [0]) == bench.told(message)
        answer = bench.ask(message, label="b")
        assert "success" == answer.status

    def test_shared_secret(self, bench: CMCBench) -> None:
        """Where none is taken, nobody can have registered one: noSupport,
        signed or not."""
        device = bench.device()
        more = octets(b"passphrase")
        message = self.ask(device, device.certificate, more=more)
        assert (400, "noSupport", [4]) == bench.told(message)
        value = revocation(device.certificate, more=more)
        message = unsigned(pki_data([control(4, "revokeRequest", value)]))
        assert (400, "noSupport", [4]) == bench.told(message)

    @pytest.mark.parametrize(
        "how",
        [
            {"reason": 7},
            {"reason": 99},
            {"more": NULL},
            {"more": utf8("x") + octets(b"")},
            {"more": der.tlv(0x18, b"2025")},
            {"more": der.tlv(12, b"\xff")},
        ],
    )
    def test_malformed(self, bench: CMCBench, how: dict[str, Any]) -> None:
        """badRequest, and the control that is meant."""
        device = bench.device()
        message = self.ask(device, device.certificate, **how)
        assert (400, "badRequest", [4]) == bench.told(message)

    def test_not_a_sequence(self, bench: CMCBench) -> None:
        """Nor is anything else a RevokeRequest."""
        message = signed_by(
            bench.device(), pki_data([control(4, "revokeRequest", NULL)])
        )
        assert (400, "badRequest", [4]) == bench.told(message)

    def test_not_fresh(self, bench: CMCBench) -> None:
        """A message of another day revokes nothing."""
        device = bench.device()
        message = self.ask(
            device, device.certificate, at=EPOCH - timedelta(days=1)
        )
        assert (400, "badTime", [0]) == bench.told(message)


class RefusalTests:
    """How an error becomes a CMCFailInfo (RFC 5272, section 6.1.4)."""

    def test_total(self) -> None:
        """Every error has a row, and every row a name of the RFC."""
        assert set(leaves()) == set(FAIL_INFO)
        assert set(FAIL_INFO.values()) <= set(FAILURES)

    @pytest.mark.parametrize("kind", leaves())
    def test_each(self, kind: type[TrstctlError]) -> None:
        """Each is told, with what it is about."""
        error: TrstctlError
        if kind is PolicyViolation:
            error = PolicyViolation("p", "r", "d")
        elif kind is errors.Throttled:
            error = errors.Throttled(5)
        else:
            error = kind()
        with pytest.raises(Refusal) as caught, concerning(3, 4):
            raise error
        status = caught.value.status()
        assert ("failed", (3, 4), FAIL_INFO[kind], error.detail) == (
            status.status,
            status.body_parts,
            status.fail_info,
            status.text,
        )
        assert FAIL_INFO[kind] == error.facts["fail_info"]

    def test_text_is_bounded(self) -> None:
        """One line, and not longer than it needs to be."""
        told = refuse("badRequest", "a\nb" + "c" * 1000).status()
        assert "a?b" == told.text[:3]
        assert 500 == len(told.text)
        assert (0,) == told.body_parts

    def test_audited(self, bench: CMCBench) -> None:
        """A refusal is audited once, with the operation."""
        bench.ask(signed_by_key(KEY, asks()))
        (refused,) = bench.audited("request.refused")
        assert "unknown" == refused["actor"]
