# SPDX-License-Identifier: MIT
"""
What went wrong in other SCEP servers, and does not here.

Each test is named after the advisory that it would have caught.
"""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from pyasn1.error import PyAsn1Error
from scep_bench import (
    BAD_ALG,
    BAD_CHECK,
    BAD_REQUEST,
    PATH,
    SUCCESS,
    Bench,
)
from scep_samples import (
    DER,
    csr,
    dotted,
    issuer_and_serial,
    issuer_and_subject,
    read_reply,
    rsa_key,
    self_signed,
    spki,
)
from test_scep_oracle import FAULTS, without_chance
from twisted.internet.defer import Deferred

from trstctl.testing import Connection, request_octets


@pytest.fixture
def bench() -> Bench:
    """A gateway with the defaults."""
    return Bench()


class AdvisoryTests:
    """CVEs and CERT notes."""

    @pytest.mark.parametrize(
        ("bound", "asked"),
        [
            ({"device": "printer"}, {"common_name": "ceo"}),
            ({"subject": "CN=printer"}, {"common_name": "ceo"}),
            (
                {"alternative_names": ("dns:printer.example",)},
                {"common_name": "printer", "names": ("vpn.example",)},
            ),
            (
                {"alternative_names": ("dns:printer.example",)},
                {
                    "common_name": "printer",
                    "names": ("printer.example", "vpn.example"),
                },
            ),
        ],
    )
    def test_cert_vu_971035(
        self, bench: Bench, bound: dict[str, Any], asked: dict[str, Any]
    ) -> None:
        """CERT VU#971035: a valid challenge does not buy any subject."""
        challenge = bench.challenge(**bound)
        reply = bench.ask(
            bench.message(content=csr(challenge=challenge, **asked))
        )
        assert BAD_REQUEST == reply.status
        assert 0 == bench.count()
        # Nor is it used up by the attempt.
        right = csr(
            common_name="printer",
            challenge=challenge,
            names=[
                name.removeprefix("dns:")
                for name in bound.get("alternative_names", ())
            ],
        )
        assert SUCCESS == bench.ask(bench.message(content=right)).status

    @pytest.mark.parametrize("kind", ["17", "19", "20", "21", "22"])
    def test_cve_2010_3868(self, bench: Bench, kind: str) -> None:
        """
        CVE-2010-3868: nobody learns a challenge by sending somebody else's
        encrypted request as his own, changed or not.
        """
        secret = bench.challenge()
        seen = bench.message(content=csr(challenge=secret)).enveloped()
        answers = [
            bench.post(
                bench.message(envelope=seen, key=rsa_key(1), message_type=kind)
            ).body
        ]
        own = bench.enrolled(
            bench.message(
                content=csr(
                    rsa_key(1), "thief", bench.challenge(device="thief")
                ),
                key=rsa_key(1),
                transaction="own",
            )
        )
        answers.append(
            bench.post(
                bench.message(
                    envelope=seen,
                    key=rsa_key(1),
                    certificate=own,
                    message_type=kind,
                )
            ).body
        )
        for answer in answers:
            assert SUCCESS != read_reply(answer).status
            assert secret.encode() not in answer
        assert 1 == bench.count()

    def test_cve_2010_3869(self, bench: Bench) -> None:
        """CVE-2010-3869: a challenge buys one certificate."""
        challenge = bench.challenge()
        first = bench.message(content=csr(challenge=challenge))
        assert SUCCESS == bench.ask(first).status
        again = bench.message(
            content=csr(rsa_key(1), challenge=challenge),
            key=rsa_key(1),
            transaction="another",
        )
        reply = bench.ask(again)
        assert BAD_REQUEST == reply.status
        assert "the request is not authorized" == reply.reason
        assert 1 == bench.count()

    @pytest.mark.parametrize("challenge", [None, ""])
    @pytest.mark.parametrize("kind", ["17", "19"])
    def test_cve_2025_44005(
        self, bench: Bench, kind: str, challenge: str | None
    ) -> None:
        """CVE-2025-44005: no certificate without authorization."""
        message = bench.message(
            content=csr(challenge=challenge), message_type=kind
        )
        assert BAD_REQUEST == bench.ask(message).status
        assert 0 == bench.count()

    @pytest.mark.parametrize("challenge", [None, "right"])
    def test_cve_2026_30836(self, bench: Bench, challenge: str | None) -> None:
        """CVE-2026-30836: there is no message type 18."""
        text = bench.challenge() if challenge else None
        message = bench.message(content=csr(challenge=text), message_type="18")
        reply = bench.ask(message)
        assert (BAD_REQUEST, "no such message type") == (
            reply.status,
            reply.reason,
        )
        assert 0 == bench.count()

    def test_cve_2024_43541(self, bench: Bench) -> None:
        """CVE-2024-43541: what is too large is refused before it is read."""
        connection = Connection(bench.resource)
        whole = request_octets("POST", PATH, bytes(65537))
        connection.send(whole[: whole.index(b"\r\n\r\n") + 4])
        assert b" 413 " in connection.received().split(b"\r\n")[0]

    @pytest.mark.parametrize(
        "octets",
        [
            b"\x30\x80" * 30000,
            b"\x30\x82\xff\xf0" + b"\x02\x01\x00" * 21000,
            b"\x30\x84\xff\xff\xff\xff",
        ],
    )
    def test_cve_2024_43544(self, bench: Bench, octets: bytes) -> None:
        """CVE-2024-43544: nested, numerous and huge values cost nothing."""
        assert 400 == bench.post(octets).status

    @pytest.mark.parametrize(
        ("bits", "exponent"), [(8200, 65537), (2048, 3), (1024, 65537)]
    )
    def test_cve_2024_43544_keys(
        self, bench: Bench, bits: int, exponent: int
    ) -> None:
        """Nor does a signature whose key makes it dear to verify."""
        public = rsa.RSAPublicNumbers(exponent, (1 << bits) - 1)
        certificate = self_signed()
        key = DER.tlv(
            0x30,
            DER.algorithm("1.2.840.113549.1.1.1", b"\x05\x00"),
            DER.tlv(
                3,
                b"\0"
                + DER.tlv(
                    0x30,
                    DER.tlv(2, b"\0" + public.n.to_bytes(bits // 8, "big")),
                    DER.tlv(2, exponent.to_bytes(3, "big").lstrip(b"\0")),
                ),
            ),
        )
        other = _with_key(certificate, key)
        octets = bench.message().der()
        assert 1 == octets.count(certificate)
        # The lengths around it change with it, so that it is written anew.
        message = bench.message(certificate=other)
        assert BAD_ALG == bench.ask(message).status

    def test_cve_2026_40097(self, bench: Bench) -> None:
        """CVE-2026-40097: a strange extended key usage crashes nothing."""
        for usage in ("2.23.133.8.3", "1.3.6.1.4.1.311.20.2.2"):
            value = DER.tlv(0x30, dotted(usage))
            extension = DER.tlv(0x30, dotted("2.5.29.37"), DER.tlv(4, value))
            challenge = bench.challenge(uses=len(usage))
            content = csr(challenge=challenge, extra=extension)
            status = bench.ask(bench.message(content=content)).status
            assert status in (SUCCESS, BAD_REQUEST)

    @pytest.mark.parametrize(
        "advisory",
        [
            "CVE-2012-0884",
            "CVE-2019-1563",
            "CVE-2020-25659",
            "CVE-2022-4304",
            "CVE-2023-50782",
        ],
    )
    def test_cve_2019_1563(self, bench: Bench, advisory: str) -> None:
        """
        CVE-2019-1563, CVE-2012-0884, CVE-2020-25659, CVE-2022-4304 and
        CVE-2023-50782: padding of key or content is no oracle.

        ``test_scep_oracle.py`` and ``benchmarks/scep_oracle.py`` hold the
        rest.
        """
        message = bench.message()
        rsa_only = [label for label in FAULTS if "whole_content" in label]
        cbc_only = [label for label in FAULTS if "whole_key" in label]
        labels = cbc_only if "2019" in advisory else rsa_only
        answers = {
            without_chance(bench.ask(FAULTS[label](message)))
            for label in labels
        }
        assert 1 == len(answers)

    def test_cve_2012_0884_many_recipients(self, bench: Bench) -> None:
        """CVE-2012-0884: a million recipients are not tried."""
        whole = bench.message().enveloped()
        recipient = _recipient(whole)
        for count, expected in ((2, BAD_REQUEST), (9, BAD_CHECK)):
            other = whole.replace(
                DER.tlv(0x31, recipient), DER.tlv(0x31, recipient * count)
            )
            assert other != whole
            reply = bench.post(bench.message(envelope=_resized(whole, other)))
            assert expected == read_reply(reply.body).status


def _with_key(certificate: bytes, key: bytes) -> bytes:
    """Return a certificate with another key, signed by nobody."""
    loaded = x509.load_der_x509_certificate(certificate)
    tbs = loaded.tbs_certificate_bytes
    old = spki(rsa_key())
    at = tbs.index(old)
    head = 4 if tbs[1] == 0x82 else 3
    inner = tbs[head:at] + key + tbs[at + len(old) :]
    identifier = DER.algorithm("1.2.840.113549.1.1.11", b"\x05\x00")
    return DER.tlv(
        0x30,
        DER.tlv(0x30, inner),
        identifier,
        DER.tlv(3, b"\0", loaded.signature),
    )


def _recipient(envelope: bytes) -> bytes:
    """Return the one RecipientInfo of an EnvelopedData."""
    from pyasn1.codec.der.decoder import decode
    from pyasn1.codec.der.encoder import encode
    from pyasn1_modules import rfc5652

    inner, _ = decode(envelope, asn1Spec=rfc5652.ContentInfo())
    enveloped, _ = decode(inner["content"], rfc5652.EnvelopedData())
    octets: bytes = encode(enveloped["recipientInfos"][0])
    return octets


def _resized(whole: bytes, other: bytes) -> bytes:
    """Return the changed EnvelopedData with the lengths that it has now."""
    inner = other[4 + 11 + 4 + 4 :]
    assert whole[:1] == b"\x30"
    return DER.tlv(
        0x30,
        other[4 : 4 + 11],
        DER.tlv(0xA0, DER.tlv(0x30, inner)),
    )


class LessonTests:
    """What other servers' code and threads tell."""

    @pytest.mark.parametrize(
        "octets",
        [
            b"\x30\x80\x06\x09",
            b"\x30\x80\x24\x80\x04",
            b"\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03",
            b"\x30\x80\x00\x00\x00",
            b"\x30\x85\x01\x00\x00\x00\x00",
        ],
    )
    def test_smallstep_pkcs7_62(self, bench: Bench, octets: bytes) -> None:
        """smallstep/pkcs7#62: broken BER is HTTP 400, no crash."""
        assert 400 == bench.post(octets).status
        reply = bench.ask(bench.message(envelope=octets))
        assert BAD_CHECK == reply.status

    def test_openssl_31682(self, bench: Bench) -> None:
        """openssl#31682: 13 octets that claim to be EnvelopedData."""
        octets = bytes.fromhex("300b06092a864886f70d010703")
        assert 13 == len(octets)
        assert BAD_CHECK == bench.ask(bench.message(envelope=octets)).status

    def test_certificate_of_a_ca(self, bench: Bench) -> None:
        """A request for the certificate of a CA gets none."""
        content = csr(challenge=bench.challenge(), ca=True)
        assert BAD_REQUEST == bench.ask(bench.message(content=content)).status
        assert 0 == bench.count()

    def test_same_transaction_other_request(self, bench: Bench) -> None:
        """A transactionID fetches nobody's certificate but its sender's."""
        first = bench.message(
            content=csr(challenge=bench.challenge(device="device"))
        )
        mine = bench.enrolled(first)
        stranger = first.but(
            content=csr(rsa_key(1), challenge=None), key=rsa_key(1)
        )
        assert BAD_REQUEST == bench.ask(stranger).status
        poll = stranger.but(
            content=issuer_and_subject(bench.issuer), message_type="20"
        )
        assert SUCCESS != bench.ask(poll).status
        assert mine == bench.enrolled(first)

    def test_micromdm_117(self, bench: Bench) -> None:
        """micromdm#117: a renewal's signer is verified."""
        forged = self_signed(common_name="issuing CA")
        message = bench.message(
            content=csr(challenge=None), certificate=forged, message_type="17"
        )
        assert BAD_REQUEST == bench.ask(message).status
        assert 0 == bench.count()

    def test_added_certificates(self, bench: Bench) -> None:
        """micromdm and step-ca: an answer is for the signer only."""
        thief = self_signed(rsa_key(2), "thief")
        message = bench.message(
            content=csr(challenge=bench.challenge()), extra=(thief,)
        )
        reply = bench.ask(message)
        assert SUCCESS == reply.status
        assert [1] == reply.recipients
        assert 1 == len(reply.opened(rsa_key())[0])
        # To another key it decrypts to nothing that could be read.
        with pytest.raises((ValueError, PyAsn1Error)):
            reply.opened(rsa_key(2))

    def test_failure_is_a_message(self, bench: Bench) -> None:
        """Refusals are CertReps: clients take HTTP errors for outages."""
        for changes in (
            {"message_type": "1"},
            {"digest": "md5"},
            {"cipher": "des"},
            {"content": csr(challenge="wrong")},
            {"content": issuer_and_serial(bench.issuer, 9), "key": rsa_key(1)},
        ):
            assert 200 == bench.post(bench.message(**changes)).status

    def test_disconnected(self, bench: Bench) -> None:
        """A device that leaves loses nothing: its retry is answered."""
        message = bench.message(content=csr(challenge=bench.challenge()))
        waiting: Deferred[bytes] = Deferred()
        credential = bench.credential()
        sign = credential.sign
        credential.sign = lambda *_: waiting
        connection = Connection(bench.resource, clock=bench.clock)
        connection.send(request_octets("POST", PATH, message.der()))
        connection.lose()
        credential.sign = sign
        assert SUCCESS == bench.ask(message).status
        assert 1 == bench.count()
