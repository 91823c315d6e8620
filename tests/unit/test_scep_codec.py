# SPDX-License-Identifier: MIT
"""SCEP messages: bytes to values, and back."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import pytest
from pkix_samples import corruptions, refusal
from pyasn1.codec.der.decoder import decode
from scep_samples import (
    DER,
    FAIL_INFO,
    FAIL_INFO_TEXT,
    MESSAGE_TYPE,
    NONCE,
    PKI_STATUS,
    RECIPIENT_NONCE,
    SENDER_NONCE,
    TRANSACTION_ID,
    Message,
    ec_key,
    issuer_and_serial,
    name,
    number,
    printable,
    read_reply,
    rsa_key,
    self_signed,
    spki,
)

from trstctl.errors import Malformed, MessageCheckFailed, UnsupportedAlgorithm
from trstctl.pkix import algorithms
from trstctl.protocols.scep import codec
from trstctl.protocols.scep.codec import (
    Answer,
    check_message,
    decode_get,
    decode_query,
    is_issued_by,
    is_subject,
    prepare_answer,
    read_certificate_key,
    read_message,
    read_named,
)

SHA2 = frozenset({"sha256", "sha384", "sha512"})
MESSAGE = Message(recipient=self_signed(rsa_key(3), "ra"))


class ReadTests:
    """read_message."""

    @pytest.mark.parametrize(
        "habit",
        [
            {},
            {"ber": True},
            {"key": ec_key()},
            {"message_type": "22", "transaction": "a b", "nonce": bytes(8)},
            {"digest": "sha1"},
            {"digest": "sha512", "pss": True, "protection": True},
        ],
    )
    def test_fields(self, habit: dict[str, Any]) -> None:
        """What a message says of itself."""
        message = MESSAGE.but(**habit)
        found = read_message(message.der())
        assert message.message_type == found.message_type
        assert message.transaction == found.transaction
        assert message.nonce == found.sender_nonce
        # But for the length, which is that of the signature.
        assert self_signed(message.key)[4:200] == found.signer[4:200]
        assert spki(message.key) == found.signer_key.spki
        assert message.digest == found.digest
        assert found.algorithm in (
            *algorithms.ALGORITHMS,
            *algorithms.LEGACY_ALGORITHMS,
        )
        assert found.content

    def test_no_content(self) -> None:
        """A message without content can be answered, too."""
        assert b"" == read_message(MESSAGE.but(envelope=b"").der()).content

    def test_secrets_are_not_shown(self) -> None:
        """Neither nonce nor content is in the text of a message."""
        found = read_message(MESSAGE.der())
        assert repr(NONCE) not in repr(found)
        assert repr(found.content[:20])[2:-1] not in repr(found)

    def test_without_its_certificate(self) -> None:
        """Section 3.2: the signer's certificate MUST be in the message."""
        octets = MESSAGE.der()
        certificate = self_signed()
        other = self_signed(rsa_key(2), "other")
        stripped = MESSAGE.but(certificate=certificate, extra=(other,)).der()
        assert certificate in stripped
        # The serial in the signer's identifier is changed, not the bag.
        sid = DER.tlv(0x30, name("device"), number(1))
        changed = stripped.replace(sid, sid[:-1] + b"\x02")
        assert changed != stripped
        assert "Malformed" == refusal(read_message, changed)
        assert refusal(read_message, octets) is None

    @pytest.mark.parametrize(
        "kind",
        ["", "1234", "x", "-1", " 19", "１９"],  # noqa: RUF001
    )
    def test_message_type(self, kind: str) -> None:
        """One to three digits."""
        value = DER.tlv(0x13, kind.encode())
        message = MESSAGE.but(attributes={MESSAGE_TYPE: value})
        assert "Malformed" == refusal(read_message, message.der())

    def test_two_values(self) -> None:
        """Each attribute has one value."""
        value = printable("19") + printable("20")
        message = MESSAGE.but(attributes={MESSAGE_TYPE: value})
        assert "Malformed" == refusal(read_message, message.der())

    @pytest.mark.parametrize("size", [0, 7, 33, 64])
    def test_nonce(self, size: int) -> None:
        """8 to 32 octets."""
        message = MESSAGE.but(nonce=bytes(size))
        assert "Malformed" == refusal(read_message, message.der())

    def test_corruptions(self) -> None:
        """What is changed or cut is read or refused, and nothing else."""
        octets = MESSAGE.der()
        for changed in corruptions(octets)[::40]:
            assert refusal(read_message, changed) in (
                None,
                "Malformed",
                "TooLarge",
            )

    def test_size(self) -> None:
        """More than the limit is refused."""
        octets = bytes(codec.MAX_MESSAGE + 1)
        assert "TooLarge" == refusal(read_message, octets)


class CheckTests:
    """check_message."""

    def test_signature(self) -> None:
        """It verifies, and a changed one does not."""
        octets = MESSAGE.der()
        check_message(read_message(octets), SHA2)
        forged = read_message(octets[:-1] + bytes((octets[-1] ^ 1,)))
        with pytest.raises(MessageCheckFailed):
            check_message(forged, SHA2)

    @pytest.mark.parametrize("digest", ["md5", "sha1", "sha384"])
    def test_digest(self, digest: str) -> None:
        """What is not listed is named and refused."""
        message = read_message(MESSAGE.but(digest=digest).der())
        with pytest.raises(UnsupportedAlgorithm, match=digest):
            check_message(message, frozenset({"sha256"}))

    def test_sha1(self) -> None:
        """SHA-1 where it is listed."""
        message = read_message(MESSAGE.but(digest="sha1").der())
        check_message(message, SHA2 | {"sha1"})


class CertificateTests:
    """What is read from certificates that nobody has verified."""

    @pytest.mark.parametrize(
        "octets", [b"", b"\x30\x00", b"\x05\x00", DER.tlv(0x30, b"\x30\x00")]
    )
    def test_no_certificate(self, octets: bytes) -> None:
        """What is none is Malformed."""
        with pytest.raises((Malformed, IndexError)):
            read_certificate_key(octets)

    def test_version_1(self) -> None:
        """Version 1 has no version."""
        key = spki(rsa_key())
        algorithm = DER.algorithm("1.2.840.113549.1.1.11", b"\x05\x00")
        times = DER.tlv(0x30, *[DER.tlv(0x17, b"260101000000Z")] * 2)
        tbs = DER.tlv(
            0x30, number(1), algorithm, name("a"), times, name("b"), key
        )
        certificate = DER.tlv(0x30, tbs, algorithm, DER.tlv(3, b"\0x"))
        assert key == read_certificate_key(certificate).spki
        assert is_subject(name("b"), certificate)
        assert is_issued_by(certificate, self_signed(common_name="A"))
        short = DER.tlv(0x30, DER.tlv(0x30, number(1)), algorithm, b"\3\1\0")
        with pytest.raises(Malformed):
            read_certificate_key(short)

    def test_self_signed(self) -> None:
        """A self-signed certificate is nobody's, whatever its name."""
        same = self_signed(common_name="ca")
        assert not is_issued_by(same, self_signed(rsa_key(1), "ca"))

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            (name("ra"), True),
            (name(" RA", 0x13), True),
            (name("rb"), False),
            (b"\x30\x00", False),
            (b"\x02\x01\x00", False),
            (DER.tlv(0x30, b"\x31\x00"), False),
        ],
    )
    def test_names(self, written: bytes, expected: bool) -> None:
        """Names are what they mean; what is none is another."""
        assert expected is is_subject(written, MESSAGE.recipient)


class TransportTests:
    """decode_query and decode_get (RFC 8894, section 4.1)."""

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            (b"", ("", None)),
            (b"operation=GetCACaps", ("GetCACaps", None)),
            (b"operation=GetCACert&message=ca", ("GetCACert", b"ca")),
            (b"message=a%2Bb+c&operation=x&", ("x", b"a+b+c")),
            (b"Operation=a&MESSAGE=b", ("a", b"b")),
            (b"&&operation=a", ("a", None)),
            (b"message", ("", b"")),
            (b"message=a=b==", ("", b"a=b==")),
        ],
    )
    def test_query(
        self, query: bytes, expected: tuple[str, bytes | None]
    ) -> None:
        """Operation and message, in any order."""
        assert expected == decode_query(query)

    @pytest.mark.parametrize(
        "query", [b"a=1&a=2", b"operation=a&OPERATION=a", b"operation=%FF"]
    )
    def test_bad_query(self, query: bytes) -> None:
        """What is there twice, or no text, is refused."""
        with pytest.raises(Malformed):
            decode_query(query)

    @pytest.mark.parametrize("size", [1, 2, 3, 57, 58])
    def test_base64(self, size: int) -> None:
        """In lines, either alphabet, without padding, escaped once more."""
        octets = (b"\xfb\xef\xbf" * size)[:size]
        text = base64.b64encode(octets)
        for form in (
            text,
            text.replace(b"+", b" "),
            text.rstrip(b"="),
            base64.encodebytes(octets),
            text + b"\r\n",
            text[:1] + b"\n\t" + text[1:],
            base64.urlsafe_b64encode(octets),
            quote(text, safe="").encode(),
            quote(base64.encodebytes(octets), safe="").encode(),
        ):
            assert octets == decode_get(form)

    @pytest.mark.parametrize("text", [b"!", b"A", b"AAAAA", b"AA=A", b"%2521"])
    def test_no_base64(self, text: bytes) -> None:
        """What is none is refused, with the one text for that."""
        with pytest.raises(Malformed, match=codec.UNREADABLE):
            decode_get(text)


class NamedTests:
    """read_named (section 3.3.4)."""

    def test_serial(self) -> None:
        """Issuer and serial, also a negative one."""
        found = read_named(issuer_and_serial(name("ca"), 0xABCDEF))
        assert (name("ca"), "abcdef") == (found.issuer, found.serial)
        assert "-1" == read_named(issuer_and_serial(name("ca"), -1)).serial

    def test_corruptions(self) -> None:
        """What is changed or cut is read or refused, and nothing else."""
        octets = issuer_and_serial(name("ca"), 0xABCDEF)
        for changed in corruptions(octets):
            assert refusal(read_named, changed) in (
                None,
                "Malformed",
                "TooLarge",
            )


class AnswerTests:
    """prepare_answer (section 3.3.2)."""

    def written(self, answer: Answer, **habit: Any) -> Any:
        """Return an answer, read by another library."""
        message = read_message(MESSAGE.but(**habit).der())
        prepared = prepare_answer(
            answer, message, b"n" * 16, self_signed(), SHA2
        )
        signature = algorithms.sign(
            rsa_key(), prepared.algorithm, prepared.to_sign
        )
        return read_reply(prepared.finish(signature))

    def test_success(self) -> None:
        """The envelope is the content."""
        reply = self.written(Answer(codec.SUCCESS, envelope=b"\x30\x00"))
        assert b"\x30\x00" == reply.content
        assert {
            MESSAGE_TYPE: "3",
            PKI_STATUS: "0",
            TRANSACTION_ID: MESSAGE.transaction,
        } == {oid: reply.text(oid) for oid in reply.attributes if oid in (
            MESSAGE_TYPE, PKI_STATUS, TRANSACTION_ID, FAIL_INFO)}  # fmt: skip
        assert NONCE == reply.octets(RECIPIENT_NONCE)
        assert b"n" * 16 == reply.octets(SENDER_NONCE)

    @pytest.mark.parametrize(
        "answer", [Answer(codec.PENDING), Answer(codec.FAILURE, "badTime")]
    )
    def test_empty_content(self, answer: Answer) -> None:
        """FAILURE and PENDING have a content of no octets."""
        assert b"" == self.written(answer).content

    def test_failure(self) -> None:
        """failInfo, and failInfoText as UTF8String."""
        reply = self.written(Answer(codec.FAILURE, "badCertId", "né"))
        assert "4" == reply.text(FAIL_INFO)
        assert b"\x0c\x03n\xc3\xa9" == reply.attributes[FAIL_INFO_TEXT]
        assert "n" * 255 == str(
            decode(
                self.written(
                    Answer(codec.FAILURE, "badAlg", "n" * 999)
                ).attributes[FAIL_INFO_TEXT]
            )[0]
        )
        silent = self.written(Answer(codec.FAILURE, "badAlg"))
        assert FAIL_INFO_TEXT not in silent.attributes

    @pytest.mark.parametrize(
        ("digest", "expected"),
        [
            ("sha256", "sha256"),
            ("sha384", "sha384"),
            ("sha512", "sha512"),
            ("sha1", "sha256"),
            ("md5", "sha256"),
        ],
    )
    def test_digest(self, digest: str, expected: str) -> None:
        """Mirrored, unless the endpoint does not have it."""
        assert (
            expected
            == self.written(Answer(codec.PENDING), digest=digest).digest
        )
