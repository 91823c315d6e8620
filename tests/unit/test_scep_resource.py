# SPDX-License-Identifier: MIT
"""SCEP through the real web layer and registration authority."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from scep_bench import (
    BAD_ALG,
    BAD_CERT_ID,
    BAD_CHECK,
    BAD_REQUEST,
    PATH,
    PENDING,
    PKI_MESSAGE,
    PLUGIN,
    SUCCESS,
    Bench,
    query,
)
from scep_samples import (
    BMP,
    DER,
    FAIL_INFO,
    MESSAGE_TYPE,
    NONCE,
    NOW,
    PRINTABLE,
    RECIPIENT_NONCE,
    SENDER_NONCE,
    TRANSACTION_ID,
    UTF8,
    certificates_and_crls,
    csr,
    ec_key,
    issuer_and_serial,
    issuer_and_subject,
    name,
    number,
    printable,
    read_reply,
    rsa_key,
    self_signed,
    subject_of,
)
from twisted.logger import globalLogPublisher

from trstctl import errors
from trstctl.errors import RequestError, Throttled, Unavailable, leaves
from trstctl.interfaces import IEnrollmentProtocol
from trstctl.model import (
    Challenge,
    ClientCertificate,
    Issued,
    Operation,
    Pending,
    PollRequest,
    Purpose,
)
from trstctl.pkix.cms import certs_only
from trstctl.policy.profile import ProfileSettings
from trstctl.protocols.scep.refusals import FAIL_INFO as TABLE
from trstctl.protocols.scep.refusals import failure
from trstctl.testing import (
    OTHER_TENANT,
    TENANT,
    Connection,
    StubAuthority,
    read_response,
    result_of,
    settings_for,
)

OPERATION = f"{PATH}?operation=PKIOperation"
APPROVED = ProfileSettings(
    subject={"CN": ProfileSettings().subject["CN"]}, approval="always"
)


@pytest.fixture
def bench() -> Bench:
    """A gateway with the defaults."""
    return Bench()


def approve(bench: Bench) -> None:
    """Approve the one request that is held."""
    now = bench.ra.now()
    (row,) = result_of(bench.store.list_requests(TENANT, None, 10))
    result_of(
        bench.store.decide_request(
            TENANT, row.id, True, "admin", "", now, now + timedelta(days=1)
        )
    )


def renewal(bench: Bench, **changes: Any) -> tuple[bytes, Any]:
    """Enroll, and return the certificate and a message that it signs."""
    old = bench.enrolled(
        bench.message(content=csr(challenge=bench.challenge()))
    )
    # Renewals are early before a third of the life is left.
    bench.clock.advance(300 * 86400)
    content = csr(rsa_key(1), challenge=None)
    message = bench.message(
        **{
            "content": content,
            "certificate": old,
            "message_type": "17",
            "transaction": "renewal",
            **changes,
        }
    )
    return old, message


# --- enrollment -------------------------------------------------------------


class EnrollmentTests:
    """PKCSReq (RFC 8894, sections 3.3.1 and 4.3)."""

    def test_certificate(self, bench: Bench) -> None:
        """A request with a challenge gets its certificate, encrypted."""
        reply = bench.ask(
            bench.message(content=csr(challenge=bench.challenge()))
        )
        assert SUCCESS == reply.status
        certificates, crls = reply.opened(rsa_key())
        assert [] == crls
        (certificate,) = map(x509.load_der_x509_certificate, certificates)
        assert rsa_key().public_key() == certificate.public_key()
        assert [1] == reply.recipients  # the signer's own certificate

    def test_chain_behind_the_leaf(self) -> None:
        """Section 3.4: the issued one is the first, its issuers follow."""
        bench = Bench(include_chain=True)
        reply = bench.ask(
            bench.message(content=csr(challenge=bench.challenge()))
        )
        certificates, _ = reply.opened(rsa_key())
        assert list(bench.authorities["issuing"].chain) == certificates[1:]
        leaf = x509.load_der_x509_certificate(certificates[0])
        assert rsa_key().public_key() == leaf.public_key()

    def test_signed_attributes(self, bench: Bench) -> None:
        """Section 3.2.1: what each CertRep has, and nothing encrypted twice."""
        reply = bench.ask(
            bench.message(content=csr(challenge=bench.challenge()))
        )
        assert "3" == reply.text(MESSAGE_TYPE)
        assert "0123456789ABCDEF" == reply.text(TRANSACTION_ID)
        assert NONCE == reply.octets(RECIPIENT_NONCE)
        assert 16 == len(reply.octets(SENDER_NONCE))
        assert FAIL_INFO not in reply.attributes
        assert [bench.recipient] == reply.certificates

    def test_fresh_nonce(self, bench: Bench) -> None:
        """Section 3.2.1.5: each message has a fresh senderNonce."""
        message = bench.message().der()
        first, second = bench.ask(message), bench.ask(message)
        assert first.octets(SENDER_NONCE) != second.octets(SENDER_NONCE)
        assert NONCE != first.octets(SENDER_NONCE)

    @pytest.mark.parametrize(
        "habit",
        [
            {"ber": True},
            {"ber": True, "signing_time": False, "protection": True},
            {"constructed": True},
            {"rsa_encryption": True},
            {"rsa_encryption": True, "digest": "sha512"},
            {"digest": "sha384"},
            {"digest": "sha512", "cipher": "aes256", "signing_time": False},
            {"cipher": "aes192"},
            {"pss": True},
            {"pss": True, "digest": "sha512"},
            {"oaep": "sha256"},
            {"oaep": "sha1"},
            {"protection": True},
            {"protection": True, "pss": True},
            {"signing_time": False},
            {"nonce": bytes(8)},
            {"nonce": bytes(32)},
            {"transaction": "12345678901234567890" * 3},
            {"transaction": "aGVsbG8gd29ybGQgaGVsbG8+/w=="},
            {"transaction": "SSCEP transactionId"},
            {"transaction": "a" * 255},
            {"certificate": self_signed(common_name="SCEP SIGNER")},
            {
                "certificate": self_signed(
                    common_name="SCEP Protocol Certificate",
                    critical_key_identifier=True,
                )
            },
            {"certificate": self_signed(days=36500)},
            {"certificate": self_signed(begins=NOW - timedelta(days=9999))},
            {"certificate": self_signed(begins=NOW + timedelta(days=999))},
            {"extra": (self_signed(rsa_key(2), "other"),)},
            {"unsigned": DER.tlv(0xA1, DER.tlv(0x30, b"\x06\x01\x2a\x31\0"))},
        ],
        ids=lambda habit: ",".join(habit) if isinstance(habit, dict) else "",
    )
    def test_habits(self, bench: Bench, habit: dict[str, Any]) -> None:
        """What clients in the field send is a request like any other."""
        message = bench.message(
            content=csr(challenge=bench.challenge()), **habit
        )
        reply = bench.ask(message)
        assert SUCCESS == reply.status
        assert message.transaction == reply.text(TRANSACTION_ID)
        assert message.nonce == reply.octets(RECIPIENT_NONCE)
        assert message.digest == reply.digest
        if not message.oaep or message.oaep == "sha256":
            certificates, _ = reply.opened(rsa_key())
            assert 1 == len(certificates)

    @pytest.mark.parametrize(
        ("cipher", "oid"),
        [
            ("aes128", "2.16.840.1.101.3.4.1.2"),
            ("aes192", "2.16.840.1.101.3.4.1.22"),
            ("aes256", "2.16.840.1.101.3.4.1.42"),
            ("3des", "1.2.840.113549.3.7"),
        ],
    )
    def test_cipher_is_mirrored(self, cipher: str, oid: str) -> None:
        """The answer is encrypted with the cipher of the request."""
        bench = Bench(legacy=("3des",))
        content = csr(challenge=bench.challenge())
        reply = bench.ask(bench.message(content=content, cipher=cipher))
        algorithm = reply.encrypted()["contentEncryptionAlgorithm"]
        assert oid == str(algorithm["algorithm"])
        assert 1 == len(reply.opened(rsa_key())[0])

    @pytest.mark.parametrize("tag", [PRINTABLE, UTF8, BMP, 0x16])
    def test_challenge_in_any_string(self, bench: Bench, tag: int) -> None:
        """RFC 2985, section 5.4.1: challenges are strings of many types."""
        content = csr(challenge=bench.challenge(), tag=tag)
        assert SUCCESS == bench.ask(bench.message(content=content)).status

    def test_unsorted_attributes(self, bench: Bench) -> None:
        """A lenient profile takes attributes in the order of strongSwan."""
        content = csr(
            challenge=bench.challenge(), names=("a.example",), unsorted=True
        )
        assert SUCCESS == bench.ask(bench.message(content=content)).status

    def test_unsorted_attributes_and_a_strict_profile(self) -> None:
        """Another profile does not."""
        bench = Bench({"strict": ProfileSettings()}, profile="strict")
        content = csr(
            challenge=bench.challenge(profile="strict"),
            names=("a.example",),
            unsorted=True,
        )
        assert BAD_CHECK == bench.ask(bench.message(content=content)).status

    def test_repeated(self, bench: Bench) -> None:
        """The same request again gets the same certificate."""
        message = bench.message(content=csr(challenge=bench.challenge()))
        first = bench.enrolled(message)
        again = message.but(nonce=bytes(16), certificate=self_signed(days=7))
        assert first == bench.enrolled(again)
        assert 1 == bench.count()

    def test_another_key_signs(self, bench: Bench) -> None:
        """Section 2.3: the message is signed with the key of the request."""
        reply = bench.ask(
            bench.message(
                content=csr(challenge=bench.challenge()), key=rsa_key(1)
            )
        )
        assert BAD_REQUEST == reply.status
        assert (
            "the message is signed with another key than the request"
            == reply.reason
        )
        assert 0 == bench.count()

    @pytest.mark.parametrize("challenge", [None, "", "wrong", "A" * 55])
    def test_challenge(self, bench: Bench, challenge: str | None) -> None:
        """Absent, wrong and unknown challenges are refused alike."""
        reply = bench.ask(bench.message(content=csr(challenge=challenge)))
        assert BAD_REQUEST == reply.status
        assert "the request is not authorized" == reply.reason
        assert b"" == reply.content

    def test_policy(self, bench: Bench) -> None:
        """The profile and the rule that refused are named."""
        content = csr(challenge=bench.challenge(), ca=True)
        reply = bench.ask(bench.message(content=content))
        assert BAD_REQUEST == reply.status
        assert (reply.reason or "").startswith("profile device, rule ")

    def test_in_flight(self) -> None:
        """A request that is being answered elsewhere is PENDING."""
        bench = Bench()
        pending = Pending(2, "1", "p", "device", in_flight=True)
        bench.ra.enroll = lambda _: result(pending)
        assert PENDING == bench.ask(bench.message()).status

    def test_other_tenant(self) -> None:
        """A label has its own tenant; its challenges are not the others'."""
        bench = Bench(labels={"other": {"tenant_id": OTHER_TENANT}})
        content = csr(challenge=bench.challenge())
        message = bench.message(content=content)
        other = f"{PATH}/other?operation=PKIOperation"
        assert BAD_REQUEST == bench.ask(message, other).status
        assert SUCCESS == bench.ask(message).status


def result(value: Any) -> Any:
    """Return a Deferred that has fired."""
    stub = StubAuthority(value)
    return stub.find("", "")


class EllipticCurveTests:
    """Section 3.1: keys that nothing can be encrypted to."""

    def test_under_the_challenge(self, bench: Bench) -> None:
        """The answer is encrypted under the challenge of the request."""
        from pyasn1.codec.der.decoder import decode
        from pyasn1_modules import rfc5652

        challenge = bench.challenge()
        reply = bench.ask(
            bench.message(
                content=csr(ec_key(), challenge=challenge), key=ec_key()
            )
        )
        assert SUCCESS == reply.status
        assert reply.content
        inner, _ = decode(reply.content, asn1Spec=rfc5652.ContentInfo())
        enveloped, _ = decode(inner["content"], rfc5652.EnvelopedData())
        (recipient,) = enveloped["recipientInfos"]
        assert "pwri" == recipient.getName()
        assert 3 == int(enveloped["version"])

    def test_without_a_challenge(self) -> None:
        """What could not be handed out is not issued."""
        bench = Bench({"device": APPROVED}, challenge="none")
        reply = bench.ask(
            bench.message(content=csr(ec_key(), challenge=None), key=ec_key())
        )
        assert BAD_REQUEST == reply.status
        assert "RSA key" in (reply.reason or "")
        assert () == tuple(
            result_of(bench.store.list_requests(TENANT, None, 10))
        )

    @pytest.mark.parametrize("kind", ["20", "21", "22"])
    def test_questions(self, bench: Bench, kind: str) -> None:
        """Questions of such a key are refused before anything is opened."""
        message = bench.message(key=ec_key(), message_type=kind)
        assert BAD_REQUEST == bench.ask(message).status


# --- renewal ----------------------------------------------------------------


class RenewalTests:
    """Renewals (section 2.5) are signed with the current certificate."""

    @pytest.mark.parametrize("kind", ["17", "19"])
    def test_both_forms(self, bench: Bench, kind: str) -> None:
        """RenewalReq, and PKCSReq signed with the old certificate."""
        old, message = renewal(bench, message_type=kind)
        new = bench.enrolled(message)
        assert old != new
        loaded = x509.load_der_x509_certificate(new)
        assert rsa_key(1).public_key() == loaded.public_key()

    def test_same_key(self, bench: Bench) -> None:
        """A renewal of the same key is a new certificate, too."""
        old, message = renewal(bench, content=csr(challenge=None))
        assert old != bench.enrolled(message)

    def test_challenge_is_ignored(self, bench: Bench) -> None:
        """Section 2.4: certmonger repeats the challenge of its enrollment."""
        _, message = renewal(
            bench, content=csr(rsa_key(1), challenge="long used up")
        )
        assert SUCCESS == bench.ask(message).status

    def test_self_signed(self, bench: Bench) -> None:
        """A RenewalReq of a stranger is refused."""
        reply = bench.ask(
            bench.message(
                content=csr(challenge=bench.challenge()), message_type="17"
            )
        )
        assert BAD_REQUEST == reply.status
        assert 0 == bench.count()

    def test_other_ca(self, bench: Bench) -> None:
        """So is that of somebody whose certificate another CA issued."""
        other = Bench()  # of the same name
        stranger = other.enrolled(
            other.message(content=csr(challenge=other.challenge()))
        )
        message = bench.message(
            content=csr(challenge=None),
            certificate=stranger,
            message_type="17",
        )
        reply = bench.ask(message)
        assert BAD_REQUEST == reply.status
        assert "the request is not authorized" == reply.reason

    def test_other_subject(self, bench: Bench) -> None:
        """A renewal keeps the subject."""
        _, message = renewal(
            bench, content=csr(rsa_key(1), "another", challenge=None)
        )
        assert BAD_REQUEST == bench.ask(message).status

    def test_revoked(self, bench: Bench) -> None:
        """A revoked certificate renews nothing."""
        old, message = renewal(bench)
        serial = x509.load_der_x509_certificate(old).serial_number
        result_of(
            bench.ra.revoke(TENANT, f"{serial:x}", "superseded", "admin")
        )
        assert BAD_REQUEST == bench.ask(message).status

    def test_forged_signer(self, bench: Bench) -> None:
        """Whose key is not that of the certificate, proves nothing."""
        _, message = renewal(bench)
        assert BAD_CHECK == bench.ask(message.but(key=rsa_key(2))).status


# --- requests that wait -----------------------------------------------------


class PollTests:
    """CertPoll (sections 3.3.3 and 4.4)."""

    def held(self, **settings: Any) -> tuple[Bench, Any, Any]:
        """Return a gateway with a held request, it, and its poll."""
        bench = Bench({"device": APPROVED}, **settings)
        challenge = None if settings else bench.challenge()
        request = bench.message(content=csr(challenge=challenge))
        reply = bench.ask(request)
        assert PENDING == reply.status
        assert b"" == reply.content
        poll = request.but(
            content=issuer_and_subject(bench.issuer), message_type="20"
        )
        return bench, request, poll

    @pytest.mark.parametrize("settings", [{}, {"challenge": "none"}])
    def test_until_approved(self, settings: dict[str, Any]) -> None:
        """PENDING until somebody approves, and the certificate then."""
        bench, request, poll = self.held(**settings)
        assert PENDING == bench.ask(poll).status
        approve(bench)
        certificate = bench.enrolled(poll)
        assert certificate == bench.enrolled(poll)
        assert certificate == bench.enrolled(request)
        assert 1 == bench.count()

    def test_content_does_not_matter(self) -> None:
        """Section 3.3.3: what is polled is not what the content says."""
        bench, _, poll = self.held()
        for content in (b"", issuer_and_subject(name("x"), "other")):
            assert PENDING == bench.ask(poll.but(content=content)).status
        garbage = poll.but(encrypted_key=bytes(256))
        assert PENDING == bench.ask(garbage).status

    def test_other_transaction(self) -> None:
        """A poll without a request MUST be rejected."""
        bench, _, poll = self.held()
        reply = bench.ask(poll.but(transaction="another"))
        assert BAD_CERT_ID == reply.status

    def test_other_key(self) -> None:
        """The key that the request is signed with must sign the poll."""
        bench, _, poll = self.held()
        approve(bench)
        reply = bench.ask(poll.but(key=rsa_key(1)))
        assert BAD_CERT_ID == reply.status
        assert 0 == bench.count()

    def test_not_for_us(self) -> None:
        """The recipient says which CA is polled (section 3.3.3)."""
        bench, _, poll = self.held()
        other = poll.but(recipient=self_signed(rsa_key(3), "other"))
        assert BAD_CHECK == bench.ask(other).status

    def test_renewal(self) -> None:
        """A held renewal is polled with the certificate that signed it."""
        stub = StubAuthority(chain=())
        bench = Bench()
        old, message = renewal(bench)
        asked: list[PollRequest] = []

        def poll(request: PollRequest) -> Any:
            asked.append(request)
            return result(Pending(60, "1", "p", "device"))

        bench.ra.poll = poll
        assert PENDING == bench.ask(message.but(message_type="20")).status
        own, gated = asked[0].credentials
        assert ClientCertificate(old) == own
        # I-12: it hears of the certificate before that is handed out.
        assert isinstance(gated, Challenge)
        assert "renewal" == asked[0].transaction
        assert [] == stub.requests


# --- certificates and CRLs --------------------------------------------------


class GetTests:
    """GetCert and GetCRL (sections 3.3.4, 4.5 and 4.6)."""

    def question(self, bench: Bench, kind: str) -> tuple[bytes, Any]:
        """Return a certificate and a message that it signs."""
        own = bench.enrolled(
            bench.message(content=csr(challenge=bench.challenge()))
        )
        return own, bench.message(
            content=bench.named(own), certificate=own, message_type=kind
        )

    def test_certificate(self, bench: Bench) -> None:
        """Whoever has a certificate of ours may see others."""
        own, message = self.question(bench, "21")
        reply = bench.ask(message)
        assert SUCCESS == reply.status
        assert ([own], []) == reply.opened(rsa_key())

    def test_unknown_certificate(self, bench: Bench) -> None:
        """One that we do not have is badCertId."""
        _, message = self.question(bench, "21")
        content = issuer_and_serial(bench.issuer, 4711)
        assert BAD_CERT_ID == bench.ask(message.but(content=content)).status

    def test_certificate_of_another_ca_of_ours(self) -> None:
        """A serial of another authority is unknown here."""
        bench = Bench(
            authorities=("issuing", "other"),
            labels={"other": {"authority": "other"}},
        )
        target = f"{PATH}/other?operation=PKIOperation"
        recipient = bench.credential("other").certificate
        reply = bench.ask(
            bench.message(
                content=csr(challenge=bench.challenge(device="device")),
                recipient=recipient,
            ),
            target,
        )
        (there,), _ = reply.opened(rsa_key())
        _, message = self.question(bench, "21")
        content = bench.named(there)
        assert BAD_CERT_ID == bench.ask(message.but(content=content)).status

    def test_stranger(self, bench: Bench) -> None:
        """Who has no certificate of ours sees none."""
        _own, message = self.question(bench, "21")
        reply = bench.ask(message.but(certificate=self_signed()))
        assert BAD_REQUEST == reply.status
        assert "the request is not authorized" == reply.reason

    def test_revoked(self, bench: Bench) -> None:
        """Nor does somebody whose certificate was revoked."""
        own, message = self.question(bench, "21")
        serial = x509.load_der_x509_certificate(own).serial_number
        result_of(
            bench.ra.revoke(TENANT, f"{serial:x}", "keyCompromise", "admin")
        )
        assert BAD_REQUEST == bench.ask(message).status

    @pytest.mark.parametrize("own", [True, False])
    def test_crl(self, bench: Bench, own: bool) -> None:
        """The CRL is for everybody; it comes alone."""
        _certificate, message = self.question(bench, "22")
        if not own:
            message = message.but(certificate=self_signed())
        reply = bench.ask(message)
        assert SUCCESS == reply.status
        certificates, crls = reply.opened(rsa_key())
        assert ([], [bench.ra.revocation.der]) == (certificates, crls)

    @pytest.mark.parametrize("kind", ["21", "22"])
    @pytest.mark.parametrize(
        "content",
        [
            issuer_and_serial(name("another CA"), 1),
            issuer_and_serial(DER.tlv(0x30), 1),
            issuer_and_serial(DER.tlv(0x30, b"\x31\0"), 1),
            csr(),
            b"",
            number(1),
        ],
    )
    def test_no_certificate_of_ours(
        self, bench: Bench, kind: str, content: bytes
    ) -> None:
        """
        What does not name our CA is as good as what cannot be decrypted:
        else anybody could ask whether something decrypts to what he guessed.
        """
        _, message = self.question(bench, kind)
        assert BAD_CHECK == bench.ask(message.but(content=content)).status

    def test_issuer_written_anew(self, bench: Bench) -> None:
        """Names are compared by what they mean."""
        _, message = self.question(bench, "22")
        assert name("issuing CA") == bench.issuer
        issuer = name(" Issuing   ca", PRINTABLE)
        content = issuer_and_serial(issuer, 1)
        assert SUCCESS == bench.ask(message.but(content=content)).status


# --- refusals ---------------------------------------------------------------


class MessageTypeTests:
    """RFC 8894, section 3.2.1.2: undefined types MUST be errors."""

    def test_only_five(self, bench: Bench) -> None:
        """Of 0 to 255, five do something."""
        alive = []
        for kind in range(256):
            reply = bench.ask(bench.message(message_type=str(kind)))
            if reply.reason != "no such message type":
                alive.append(kind)
            else:
                assert BAD_REQUEST == reply.status
        assert [17, 19, 20, 21, 22] == alive
        assert 0 == bench.count()

    @pytest.mark.parametrize("kind", ["019", "+19", "19 ", "", "nineteen"])
    def test_other_forms(self, bench: Bench, kind: str) -> None:
        """Nothing else is a number of a message type."""
        answer = bench.post(bench.message(message_type=kind))
        if answer.status == 200:
            assert BAD_REQUEST == read_reply(answer.body).status
        else:
            assert (400, b"not a SCEP message\n") == (
                answer.status,
                answer.body,
            )

    @pytest.mark.parametrize("kind", ["17", "19"])
    def test_content_of_another_type(self, bench: Bench, kind: str) -> None:
        """Section 3.2.2: the content MUST match the type."""
        message = bench.message(
            content=issuer_and_serial(bench.issuer, 1), message_type=kind
        )
        assert BAD_CHECK == bench.ask(message).status


class AlgorithmTests:
    """Section 2.9: algorithms are judged before any private key is used."""

    @pytest.mark.parametrize(
        ("habit", "legacy"),
        [
            ({"digest": "sha1"}, ()),
            ({"digest": "sha1"}, ("3des",)),
            ({"cipher": "3des"}, ()),
            ({"cipher": "3des"}, ("sha1",)),
            ({"digest": "md5"}, ("sha1", "3des")),
            ({"cipher": "des"}, ("sha1", "3des")),
            ({"cipher": "des", "digest": "sha1"}, ("sha1", "3des")),
        ],
    )
    def test_not_listed(
        self, habit: dict[str, str], legacy: tuple[str, ...]
    ) -> None:
        """DES and MD5 never; triple DES and SHA-1 where they are switched."""
        bench = Bench(legacy=legacy)
        content = csr(challenge=bench.challenge())
        credential = bench.credential()
        credential.decrypt = None  # would fail
        reply = bench.ask(bench.message(content=content, **habit))
        assert BAD_ALG == reply.status

    @pytest.mark.parametrize("habit", [{"digest": "sha1"}, {"cipher": "3des"}])
    def test_legacy(self, habit: dict[str, str]) -> None:
        """What is switched on works, and is logged, with whose it was."""
        bench, events = Bench(legacy=("sha1", "3des")), list[Any]()
        content = csr(challenge=bench.challenge())
        globalLogPublisher.addObserver(events.append)
        try:
            reply = bench.ask(bench.message(content=content, **habit))
        finally:
            globalLogPublisher.removeObserver(events.append)
        assert SUCCESS == reply.status
        assert habit.get("digest", "sha256") == reply.digest
        (event,) = [one for one in events if one.get("event") == "scep.legacy"]
        assert TENANT == event["tenant"]
        assert event["algorithm"] in {"sha1", "des-ede3-cbc"}
        assert event["peer"]

    def test_key_transport(self, bench: Bench) -> None:
        """An unknown key transport is badAlg."""
        whole = bench.message(oaep="sha1").enveloped()
        oid = bytes.fromhex("2a864886f70d010107")
        assert whole.count(oid) == 1
        other = whole.replace(oid, oid[:-1] + b"\x63")
        reply = bench.ask(bench.message(envelope=other))
        assert BAD_ALG == reply.status

    @pytest.mark.parametrize("bits", [1024, 1536])
    def test_small_key(self, bench: Bench, bits: int) -> None:
        """A signer's key that is too short is badAlg."""
        key = rsa_key(9, bits)
        reply = bench.ask(bench.message(content=csr(key), key=key))
        assert BAD_ALG == reply.status
        assert f"an RSA key of {bits} bits" in (reply.reason or "")

    def test_odd_exponent(self, bench: Bench) -> None:
        """So is one whose exponent is not the usual one."""
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(3, 2048)
        reply = bench.ask(bench.message(content=csr(key), key=key))
        assert BAD_ALG == reply.status
        assert "exponent" in (reply.reason or "")

    def test_curve(self, bench: Bench) -> None:
        """So is a curve that is not on the list."""
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256K1())
        reply = bench.ask(bench.message(content=csr(key), key=key))
        assert BAD_ALG == reply.status


class MessageTests:
    """What is wrong with a message (sections 3.2 and 3.2.1)."""

    def unreadable(self, bench: Bench, octets: bytes) -> None:
        """Check that it is answered by HTTP, and always alike."""
        answer = bench.post(octets)
        assert (400, "text/plain", b"not a SCEP message\n") == (
            answer.status,
            answer.content_type,
            answer.body,
        )

    @pytest.mark.parametrize(
        "octets", [b"", b"\x30", b"\x30\x80" * 99, b"hello", bytes(9000)]
    )
    def test_garbage(self, bench: Bench, octets: bytes) -> None:
        """What is no CMS is HTTP 400."""
        self.unreadable(bench, octets)

    @pytest.mark.parametrize(
        "habit",
        [
            {"without": (TRANSACTION_ID,)},
            {"without": (MESSAGE_TYPE,)},
            {"without": (SENDER_NONCE,)},
            {"transaction": ""},
            {"transaction": "a" * 256},
            {"attributes": {TRANSACTION_ID: DER.tlv(UTF8, b"text")}},
            {"attributes": {TRANSACTION_ID: DER.tlv(PRINTABLE, b"a\nb")}},
            {"attributes": {TRANSACTION_ID: DER.tlv(PRINTABLE, b"a_b")}},
            {"attributes": {TRANSACTION_ID: printable("a") * 2}},
            {"attributes": {SENDER_NONCE: printable("a" * 16)}},
            {"nonce": bytes(7)},
            {"nonce": bytes(33)},
            {"content_type": "1.2.840.113549.1.7.5"},
        ],
    )
    def test_unanswerable(self, bench: Bench, habit: dict[str, Any]) -> None:
        """Without what an answer repeats there is none."""
        self.unreadable(bench, bench.message(**habit).der())

    def test_signature(self, bench: Bench) -> None:
        """One bit changed in a signature is badMessageCheck."""
        octets = bytearray(bench.message().der())
        octets[-1] ^= 1
        assert BAD_CHECK == bench.ask(bytes(octets)).status

    def test_content(self, bench: Bench) -> None:
        """So is a content that is not the one that was signed."""
        message = bench.message()
        octets = message.der()
        encrypted = message.encrypt(message.content)
        changed = bytearray(encrypted)
        changed[0] ^= 1
        assert 1 == octets.count(encrypted)
        other = octets.replace(encrypted, bytes(changed))
        assert BAD_CHECK == bench.ask(other).status

    @pytest.mark.parametrize(
        "habit",
        [
            {"envelope": b""},
            {"envelope": b"\x30\x00"},
            {"inner_type": "1.2.840.113549.1.7.2"},
        ],
    )
    def test_no_envelope(self, bench: Bench, habit: dict[str, Any]) -> None:
        """Section 3.2: what is signed MUST be a pkcsPKIEnvelope of data."""
        assert BAD_CHECK == bench.ask(bench.message(**habit)).status

    def test_size(self, bench: Bench) -> None:
        """More than the limit is refused before it is read."""
        assert 413 == bench.post(bytes(65537)).status

    def test_many_certificates(self, bench: Bench) -> None:
        """More certificates than anybody needs are HTTP 400."""
        extra = (self_signed(rsa_key(2)),) * 65
        self.unreadable(bench, bench.message(extra=extra).der())

    def test_request_of_another_key(self, bench: Bench) -> None:
        """A request that does not prove its key is badMessageCheck."""
        content = csr(challenge=bench.challenge(), signer=rsa_key(1))
        assert BAD_CHECK == bench.ask(bench.message(content=content)).status

    def test_earlier_credential(self, bench: Bench) -> None:
        """A device may encrypt to the RA certificate before this one."""
        content = csr(challenge=bench.challenge())
        message = bench.message(content=content)
        bench.ra.credentials.renew("issuing", Purpose.SCEP)
        assert bench.credential().certificate != bench.recipient
        reply = bench.ask(message)
        assert SUCCESS == reply.status
        assert [bench.recipient] == reply.certificates


class SignerTests:
    """Whose certificate signs (section 2.3)."""

    def test_of_another_ca(self, bench: Bench) -> None:
        """Neither self-signed nor ours: a stranger's."""
        other = Bench(authorities=("elsewhere",), authority="elsewhere")
        stranger = other.enrolled(
            other.message(content=csr(challenge=other.challenge()))
        )
        content = csr(challenge=bench.challenge())
        message = bench.message(content=content, certificate=stranger)
        reply = bench.ask(message)
        assert BAD_REQUEST == reply.status
        assert "neither self-signed" in (reply.reason or "")

    def test_signed_with_sha1(self, bench: Bench) -> None:
        """What a device signs its own certificate with does not matter."""
        certificate = self_signed(digest="sha1")
        message = bench.message(
            content=csr(challenge=bench.challenge()), certificate=certificate
        )
        assert SUCCESS == bench.ask(message).status

    def test_changed(self, bench: Bench) -> None:
        """A certificate that was changed on the way is refused."""
        certificate = bytearray(self_signed())
        certificate[-1] ^= 1
        message = bench.message(
            content=csr(challenge=bench.challenge()),
            certificate=bytes(certificate),
        )
        assert BAD_REQUEST == bench.ask(message).status


class RefusalTests:
    """The table of failInfo (section 3.2.1.4)."""

    def test_total(self) -> None:
        """Every refusal has a row."""
        assert set(leaves(RequestError)) == set(TABLE)

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (errors.Malformed(), "badRequest"),
            (errors.MessageCheckFailed(), "badMessageCheck"),
            (errors.UnsupportedAlgorithm(), "badAlg"),
            (errors.TooLarge(), "badRequest"),
            (errors.UnsupportedMediaType(), "badRequest"),
            (errors.NotAuthenticated(), "badRequest"),
            (errors.Throttled(1), "badRequest"),
            (errors.NotAuthorized(), "badRequest"),
            (errors.ChallengeRejected(), "badRequest"),
            (errors.ProofOfPossessionFailed(), "badMessageCheck"),
            (errors.PolicyViolation("p", "r", "d"), "badRequest"),
            (errors.UnknownCertificate(), "badCertId"),
            (errors.Replayed(), "badRequest"),
            (errors.Conflict(), "badRequest"),
            (errors.Stale(), "badRequest"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_rows(
        self, bench: Bench, error: RequestError, expected: str
    ) -> None:
        """Each is told by its code, in a CertRep."""
        assert expected == failure(error).fail_info
        bench.ra.enroll = lambda _: result(error)
        answer = bench.post(bench.message())
        if isinstance(error, Throttled):
            assert 429 == answer.status
            return
        codes = ["badAlg", "badMessageCheck", "badRequest", "", "badCertId"]
        reply = read_reply(answer.body)
        assert f"2/{codes.index(expected)}" == reply.status
        assert b"" == reply.content
        assert NONCE == reply.octets(RECIPIENT_NONCE)

    def test_one_text(self) -> None:
        """No challenge, a wrong one and a stranger are told alike."""
        texts = {
            failure(error).text
            for error in (
                errors.NotAuthenticated(),
                errors.NotAuthenticated("the certificate is unknown"),
                errors.ChallengeRejected(),
                errors.ChallengeRejected(reused=True),
            )
        }
        assert {"the request is not authorized"} == texts

    def test_unavailable(self, bench: Bench) -> None:
        """SCEP has no word for it: HTTP 503 with Retry-After."""
        bench.ra.enroll = lambda _: result(Unavailable(retry_after=5))
        answer = bench.post(bench.message())
        assert 503 == answer.status
        assert 5 <= int(str(answer.headers["Retry-After"])) <= 10

    def test_throttled(self, bench: Bench) -> None:
        """HTTP 429 with Retry-After, for somebody who guesses challenges."""
        message = bench.message(content=csr(challenge="wrong")).der()
        statuses = {bench.post(message).status for _ in range(30)}
        assert {200, 429} == statuses
        answer = bench.post(message)
        assert 0 < int(str(answer.headers["Retry-After"]))

    def test_refusals_are_audited(self, bench: Bench) -> None:
        """Each is in the audit log once, with its transactionID at hand."""
        bench.ask(bench.message(content=csr(challenge="wrong")))
        bench.ask(bench.message(message_type="18"))
        records = result_of(bench.store.audit_records(TENANT, 0, 10))
        assert ["request.refused"] * 2 == [
            json.loads(each.body)["event"] for each in records
        ]


class TransactionTests:
    """transactionIDs (section 3.2.1.1)."""

    def held(self) -> tuple[Bench, Any]:
        """Return a gateway with a held request."""
        bench = Bench({"device": APPROVED}, challenge="none")
        message = bench.message(content=csr(challenge=None))
        assert PENDING == bench.ask(message).status
        return bench, message

    def test_another_request(self) -> None:
        """While a request is open, its transactionID is not for another."""
        bench, message = self.held()
        other = message.but(content=csr(common_name="other", challenge=None))
        assert BAD_REQUEST == bench.ask(other).status

    def test_constant(self, bench: Bench) -> None:
        """Once it is finished, a constant transactionID serves again."""
        for device in ("one", "two"):
            content = csr(
                common_name=device, challenge=bench.challenge(device=device)
            )
            message = bench.message(
                content=content, transaction="SSCEP transactionId"
            )
            assert SUCCESS == bench.ask(message).status
        assert 2 == bench.count()

    def test_never_anothers(self, bench: Bench) -> None:
        """The transactionID of another device gets nothing of his."""
        first = bench.message(
            content=csr(challenge=bench.challenge(device="device"))
        )
        mine = bench.enrolled(first)
        content = csr(rsa_key(1), "other", bench.challenge(device="other"))
        second = bench.message(content=content, key=rsa_key(1))
        assert mine != bench.enrolled(second)


# --- about the authority ----------------------------------------------------


class CapabilityTests:
    """GetCACaps (section 3.5): what is listed works, nothing else does."""

    def lines(self, **settings: Any) -> list[str]:
        """Return the keywords."""
        bench = Bench(authorities=("issuing", "next"), **settings)
        answer = bench.http("GET", f"{PATH}?operation=GetCACaps")
        assert (200, "text/plain") == (answer.status, answer.content_type)
        text = answer.body.decode("ascii")
        assert text.endswith("\n")
        return text.splitlines()

    def test_default(self) -> None:
        """Neither SHA-1 nor triple DES, unless somebody wants them."""
        assert [
            "AES",
            "POSTPKIOperation",
            "Renewal",
            "SHA-256",
            "SHA-384",
            "SHA-512",
            "SCEPStandard",
        ] == self.lines()

    def test_all(self) -> None:
        """Each switch adds its keyword."""
        assert {"DES3", "SHA-1", "GetNextCACert"} == set(
            self.lines(legacy=("sha1", "3des"), next_authority="next")
        ) - set(self.lines())

    @pytest.mark.parametrize("legacy", [(), ("sha1",), ("3des",)])
    @pytest.mark.parametrize(
        ("keyword", "habit"),
        [
            ("AES", {"cipher": "aes128"}),
            ("DES3", {"cipher": "3des"}),
            ("SHA-1", {"digest": "sha1"}),
            ("SHA-256", {"digest": "sha256"}),
            ("SHA-384", {"digest": "sha384"}),
            ("SHA-512", {"digest": "sha512"}),
            ("MD5", {"digest": "md5"}),
            ("DES", {"cipher": "des"}),
        ],
    )
    def test_enforced(
        self, keyword: str, habit: dict[str, str], legacy: tuple[str, ...]
    ) -> None:
        """A keyword is listed if and only if it works."""
        bench = Bench(legacy=legacy)
        content = csr(challenge=bench.challenge())
        status = bench.ask(bench.message(content=content, **habit)).status
        listed = keyword in self.lines(legacy=legacy)
        assert (SUCCESS if listed else BAD_ALG) == status

    def test_labels(self) -> None:
        """Each endpoint has its own."""
        bench = Bench(labels={"old": {"legacy": ("sha1",)}})
        old = bench.http("GET", f"{PATH}/old?operation=GetCACaps").body
        assert b"SHA-1\n" in old
        assert (
            b"SHA-1\n"
            not in bench.http("GET", f"{PATH}?operation=GetCACaps").body
        )


class CertificateTests:
    """GetCACert (section 4.2) and GetNextCACert (section 4.7)."""

    @pytest.mark.parametrize(
        "rest", ["", "&message=", "&message=default", "&message=0", "&message"]
    )
    def test_chain(self, bench: Bench, rest: str) -> None:
        """The RA first, then its CA, up to the root; for any identifier."""
        answer = bench.http("GET", f"{PATH}?operation=GetCACert{rest}")
        assert (200, "application/x-x509-ca-ra-cert") == (
            answer.status,
            answer.content_type,
        )
        assert [
            bench.recipient,
            *bench.authorities["issuing"].chain,
        ] == certificates_and_crls(answer.body)[0]

    def test_use_of_the_key(self, bench: Bench) -> None:
        """Clients look for a certificate that signs and enciphers."""
        certificate = x509.load_der_x509_certificate(bench.certificates()[0])
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.value.digital_signature
        assert usage.value.key_encipherment

    def test_next(self) -> None:
        """Section 4.7.1: the next CA's, signed by the present CA itself."""
        from pyasn1.codec.der.decoder import decode
        from pyasn1_modules import rfc5652

        bench = Bench(authorities=("issuing", "next"), next_authority="next")
        answer = bench.http("GET", f"{PATH}?operation=GetNextCACert")
        assert (200, "application/x-x509-next-ca-cert") == (
            answer.status,
            answer.content_type,
        )
        inner, _ = decode(answer.body, asn1Spec=rfc5652.ContentInfo())
        signed, _ = decode(inner["content"], rfc5652.SignedData())
        content = bytes(signed["encapContentInfo"]["eContent"])
        certificates, _ = certificates_and_crls(content)
        assert [
            bench.credential("next").certificate,
            *bench.authorities["next"].chain,
        ] == certificates
        (signer,) = signed["signerInfos"]
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from pyasn1.codec.der.encoder import encode

        ca: Any = x509.load_der_x509_certificate(
            bench.authorities["issuing"].certificate
        )
        ca.public_key().verify(
            bytes(signer["signature"]),
            b"\x31" + encode(signer["signedAttrs"])[1:],
            ec.ECDSA(hashes.SHA256()),
        )

    def test_next_is_signed_once(self) -> None:
        """Anybody can ask: that does not make the CA's key work."""
        bench = Bench(authorities=("issuing", "next"), next_authority="next")
        signed: list[Any] = []
        sign = bench.ra.sign_message

        def counted(*of: Any) -> Any:
            signed.append(of)
            return sign(*of)

        bench.ra.sign_message = counted
        url = f"{PATH}?operation=GetNextCACert"
        first, again = bench.http("GET", url), bench.http("GET", url)
        assert (first.body, 1) == (again.body, len(signed))
        chain = bench.ra.ca_certificates
        bench.ra.ca_certificates = lambda of: (*chain(of), b"another")
        bench.http("GET", url)
        assert 2 == len(signed)

    def test_no_next(self, bench: Bench) -> None:
        """Without a next CA there is no such operation."""
        answer = bench.http("GET", f"{PATH}?operation=GetNextCACert")
        assert 400 == answer.status

    def test_next_ca_issues(self) -> None:
        """What is encrypted to the next CA is issued by it."""
        bench = Bench(authorities=("issuing", "next"), next_authority="next")
        recipient = bench.credential("next").certificate
        reply = bench.ask(
            bench.message(
                content=csr(challenge=bench.challenge()), recipient=recipient
            )
        )
        assert SUCCESS == reply.status
        assert [recipient] == reply.certificates
        (certificate,), _ = reply.opened(rsa_key())
        issuer = x509.load_der_x509_certificate(
            bench.authorities["next"].certificate
        )
        x509.load_der_x509_certificate(certificate).verify_directly_issued_by(
            issuer
        )

    def test_renewal_while_one_takes_over(self) -> None:
        """A certificate of the present CA renews with the next one."""
        bench = Bench(authorities=("issuing", "next"), next_authority="next")
        _, message = renewal(
            bench, recipient=bench.credential("next").certificate
        )
        reply = bench.ask(message)
        assert SUCCESS == reply.status
        (certificate,), _ = reply.opened(rsa_key())
        x509.load_der_x509_certificate(certificate).verify_directly_issued_by(
            x509.load_der_x509_certificate(
                bench.authorities["next"].certificate
            )
        )

    def test_present_ca_without_a_next_one(self) -> None:
        """Another CA of ours is nobody's next one by itself."""
        bench = Bench(authorities=("issuing", "next"))
        recipient = bench.credential("next").certificate
        message = bench.message(
            content=csr(challenge=bench.challenge()), recipient=recipient
        )
        assert BAD_CHECK == bench.ask(message).status


# --- HTTP -------------------------------------------------------------------


class TransportTests:
    """Section 4.1: POST and GET, and paths."""

    @pytest.mark.parametrize(
        "form",
        ["escaped", "raw", "spaces", "lines", "unpadded", "url", "twice"],
    )
    def test_get(self, bench: Bench, form: str) -> None:
        """A message in a query is base64, as each client writes it."""
        message = bench.message(content=csr(challenge=bench.challenge()))
        answer = bench.http("GET", PATH + query(message, form))
        assert SUCCESS == read_reply(answer.body).status

    @pytest.mark.parametrize(
        "target",
        [
            "/scep?operation=PKIOperation",
            "/scep/?operation=PKIOperation",
            "/scep?operation=PKIOperation&message=",
            "/scep?OPERATION=PKIOperation",
            "/scep?operation=PKIOperation&",
            "/scep",
            "/scep?",
            "/scep/pkiclient.exe?operation=PKIOperation",
            "/scep/phones?operation=PKIOperation",
            "/scep/phones/pkiclient.exe?operation=PKIOperation",
            "/cgi-bin/pkiclient.exe?operation=PKIOperation",
            "http://ca.example/scep?operation=PKIOperation",
        ],
    )
    def test_paths(self, target: str) -> None:
        """Every form of the path that device manufacturers know."""
        bench = Bench(labels={"phones": {}})
        content = csr(challenge=bench.challenge())
        assert (
            SUCCESS == bench.ask(bench.message(content=content), target).status
        )

    @pytest.mark.parametrize(
        "path",
        [
            "/scep/nowhere",
            "/scep/nowhere/pkiclient.exe",
            "/scep/phones/x",
            "/scep/phones/pkiclient.exe/x",
            "/scep/PHONES",
            "/cgi-bin",
            "/cgi-bin/other.exe",
        ],
    )
    def test_other_paths(self, path: str) -> None:
        """Nothing else is there."""
        bench = Bench(labels={"phones": {}})
        answer = bench.http("GET", f"{path}?operation=GetCACaps")
        assert 404 == answer.status

    @pytest.mark.parametrize(
        "media_type",
        [
            None,
            "application/x-pki-message",
            "application/octet-stream",
            "application/x-www-form-urlencoded",
            "text/html; charset=utf-8",
        ],
    )
    def test_media_type(self, bench: Bench, media_type: str | None) -> None:
        """Whatever the body is called, it is a message."""
        headers = {"Content-Type": media_type} if media_type else {}
        octets = bench.message().der()
        answer = bench.http("POST", OPERATION, octets, **headers)
        assert (200, PKI_MESSAGE) == (answer.status, answer.content_type)

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
    def test_methods(self, bench: Bench, method: str) -> None:
        """A wrong verb is 405 with Allow."""
        answer = bench.http(method, PATH)
        assert 405 == answer.status
        assert "GET, POST, HEAD" == answer.headers["Allow"]

    def test_head(self, bench: Bench) -> None:
        """HEAD is GET without the body."""
        answer = bench.http("HEAD", f"{PATH}?operation=GetCACaps")
        assert (200, b"") == (answer.status, answer.body)

    def test_http_1_0(self, bench: Bench) -> None:
        """Cisco IOS speaks HTTP/1.0, and names no host."""
        connection = Connection(bench.resource, secure=False)
        line = f"GET {PATH}/pkiclient.exe?operation=GetCACaps HTTP/1.0"
        agent = "User-Agent: Mozilla/4.0 (compatible; MSIE 5.0; Cisco PKI)"
        connection.send(f"{line}\r\n{agent}\r\n\r\n".encode())
        answer = read_response(connection.received())
        assert 200 == answer.status
        assert b"AES\n" in answer.body

    def test_http_1_0_message(self, bench: Bench) -> None:
        """A message by GET, in one line of 3 KiB and more."""
        message = bench.message(content=csr(challenge=bench.challenge()))
        connection = Connection(bench.resource, secure=False)
        target = f"/cgi-bin/pkiclient.exe{query(message, 'lines')}"
        assert len(target) > 3000
        connection.send(f"GET {target} HTTP/1.0\r\n\r\n".encode())
        answer = read_response(connection.received())
        assert SUCCESS == read_reply(answer.body).status

    @pytest.mark.parametrize(
        ("method", "query_string"),
        [
            ("GET", ""),
            ("GET", "?operation="),
            ("GET", "?operation=PKIOperation"),
            ("GET", "?operation=PKIOperation&message="),
            ("GET", "?operation=PKIOperation&message=%21"),
            ("GET", "?operation=PKIOperation&message=AAAA"),
            ("GET", "?operation=getcacaps"),
            ("GET", "?operation=GetCRL"),
            ("GET", "?operation=%FF"),
            ("GET", "?operation=GetCACaps&operation=GetCACert"),
            ("POST", "?operation=GetCACaps"),
            ("POST", "?operation=PKIOperation"),
            ("POST", "?operation=PKIOperation&operation=PKIOperation"),
        ],
    )
    def test_bad_query(
        self, bench: Bench, method: str, query_string: str
    ) -> None:
        """What is no operation is HTTP 400."""
        answer = bench.http(method, PATH + query_string)
        assert (400, "text/plain") == (answer.status, answer.content_type)

    def test_log(self, bench: Bench) -> None:
        """The operation's name in the log is one of ours."""
        answer = bench.http("GET", f"{PATH}?operation=GetCACaps%0Aevil")
        assert 400 == answer.status

    def test_not_listed_elsewhere(self) -> None:
        """The plugin keeps its interface, and serves plain HTTP."""
        assert IEnrollmentProtocol.providedBy(PLUGIN)
        assert PLUGIN.plain_http()
        settings = settings_for(PLUGIN, labels={"a": {}})
        assert ("/scep", "/cgi-bin/pkiclient.exe") == PLUGIN.paths(settings)
        assert ["", "a"] == [each.name for each in PLUGIN.endpoints(settings)]


class RequestTests:
    """What the registration authority is asked."""

    def test_enrollment(self, bench: Bench) -> None:
        """An enrollment carries its challenge and its transactionID."""
        asked: list[Any] = []

        def enroll(request: Any) -> Any:
            asked.append(request)
            return result(Issued(self_signed(), (), "1", "device", "p"))

        bench.ra.enroll = enroll
        reply = bench.ask(bench.message())
        assert SUCCESS == reply.status
        (request,) = asked
        assert Operation.ENROLL is request.operation
        assert "0123456789ABCDEF" == request.transaction
        (challenge,) = request.credentials
        assert ("challenge", bench.ra.challenges) == (
            challenge.text,
            challenge.gate,
        )

    def test_degenerate(self) -> None:
        """Section 3.4: the content of a degenerate SignedData is omitted."""
        certificate = self_signed()
        assert ([certificate], []) == certificates_and_crls(
            certs_only((certificate,))
        )
        assert subject_of(certificate) == name("device")
