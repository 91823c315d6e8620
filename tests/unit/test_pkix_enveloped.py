# SPDX-License-Identifier: MIT
"""EnvelopedData (RFC 5652, section 6): reading, opening, writing."""

from __future__ import annotations

from collections.abc import Callable

import cms_vectors
import pytest
from cms_vectors import CERTIFICATE, CONTENT, EC_CERTIFICATE, RSA_KEY
from pkix_samples import corruptions, refusal
from pyasn1.codec.der import decoder, encoder
from pyasn1_modules import rfc5652

from trstctl.errors import (
    Malformed,
    MessageCheckFailed,
    PolicyViolation,
    RequestError,
    TooLarge,
    UnsupportedAlgorithm,
)
from trstctl.pkix import der
from trstctl.pkix.cms import (
    DATA,
    ENVELOPED_DATA,
    content_info,
    issuer_and_serial,
)
from trstctl.pkix.encryption import CIPHERS, PKCS1, SCHEMES, scheme_padding
from trstctl.pkix.enveloped import (
    MAX_RECIPIENTS,
    Enveloped,
    decoy,
    read_enveloped,
)
from trstctl.pkix.enveloping import envelope, envelope_for_password

NULL = b"\x05\x00"
RSA_ENCRYPTION = der.sequence(der.oid("1.2.840.113549.1.1.1"), NULL)
AES_128 = CIPHERS["aes-128-cbc"]
KEY = bytes(range(16))
IV = bytes(16)


class Dice:
    """A source of randomness that counts, and remembers what it gave."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def __call__(self, octets: int) -> bytes:
        self.given.append(bytes((len(self.given) + 0x51,)) * octets)
        return self.given[-1]


def transported(message: Enveloped, certificate: bytes = CERTIFICATE) -> bytes:
    """Decrypt the key of a message as its recipient."""
    recipient = message.recipient_for(certificate)
    assert recipient is not None
    return RSA_KEY.decrypt(
        recipient.encrypted_key, scheme_padding(recipient.scheme)
    )


def opened(
    message: Enveloped,
    key: bytes | None = KEY,
    read: Callable[[bytes], object] = bytes,
) -> object:
    """Open a message."""
    return message.open(key, read, random_bytes=bytes)


def raw_recipient(
    *,
    version: bytes = der.integer(0),
    rid: bytes | None = None,
    algorithm: bytes = RSA_ENCRYPTION,
    key: bytes = der.octet_string(bytes(256)),
) -> bytes:
    """Return a KeyTransRecipientInfo of any content."""
    return der.sequence(
        version,
        issuer_and_serial(CERTIFICATE).der() if rid is None else rid,
        algorithm,
        key,
    )


def encrypted(plaintext: bytes = CONTENT) -> bytes:
    """Encrypt a content with :data:`KEY`."""
    return AES_128.encrypt(KEY, IV, AES_128.pad(plaintext))


def raw(
    *recipients: bytes,
    version: bytes = der.integer(0),
    before: bytes = b"",
    after: bytes = b"",
    content_type: bytes = der.oid(DATA),
    algorithm: bytes = AES_128.identifier(IV),
    content: bytes | None = None,
) -> bytes:
    """Return a message of any content; its key is :data:`KEY`."""
    return content_info(
        ENVELOPED_DATA,
        der.sequence(
            version,
            before,
            der.set_of(*(recipients or (raw_recipient(),))),
            der.sequence(
                content_type,
                algorithm,
                der.tlv(0x80, encrypted()) if content is None else content,
            ),
            after,
        ),
    )


class ReadTests:
    """``read_enveloped`` on others' messages."""

    @pytest.mark.parametrize(
        ("name", "cipher", "scheme"),
        [
            ("AES_128", "aes-128-cbc", PKCS1),
            ("AES_192", "aes-192-cbc", PKCS1),
            ("AES_256", "aes-256-cbc", PKCS1),
            ("TRIPLE_DES", "des-ede3-cbc", PKCS1),
            ("RECIPIENT_KEY_IDENTIFIER", "aes-128-cbc", PKCS1),
            ("STREAMED", "aes-128-cbc", PKCS1),
            ("OAEP_SHA1", "aes-128-cbc", "rsaes-oaep-sha1"),
            ("OAEP_SHA256", "aes-128-cbc", "rsaes-oaep-sha256"),
            ("OAEP_SHA384", "aes-128-cbc", "rsaes-oaep-sha384"),
            ("OAEP_SHA512", "aes-128-cbc", "rsaes-oaep-sha512"),
            ("BOUNCY_CASTLE_ENVELOPE", "aes-128-cbc", PKCS1),
            ("BOUNCY_CASTLE_STREAM", "des-ede3-cbc", PKCS1),
        ],
    )
    def test_vectors(self, name, cipher, scheme) -> None:
        """Messages of OpenSSL and of Bouncy Castle open."""
        message = read_enveloped(getattr(cms_vectors, name))
        assert (DATA, cipher) == (message.content_type, message.cipher)
        assert [scheme] == [each.scheme for each in message.recipients]
        assert CONTENT == opened(message, transported(message))

    def test_password(self) -> None:
        """A password opens, and a wrong one does not (RFC 3211)."""
        message = read_enveloped(cms_vectors.PASSWORD)
        assert message.recipients == ()
        (recipient,) = message.password_recipients
        key = recipient.unwrap(cms_vectors.PASSWORD_OF_IT)
        assert CONTENT == opened(message, key)
        key = recipient.unwrap(b"another")
        assert refusal(opened, message, key) == "MessageCheckFailed"

    def test_des_is_named(self) -> None:
        """RFC 8894, section 2.9: DES MUST NOT be used; it has a name."""
        message = read_enveloped(cms_vectors.DES)
        assert message.cipher == "des-cbc"
        with pytest.raises(UnsupportedAlgorithm, match="des-cbc"):
            opened(message, bytes(8))

    @pytest.mark.parametrize("name", ["MGF1_OF_SHA1", "OAEP_LABEL"])
    def test_unusual_schemes(self, name) -> None:
        """OAEP with two hashes or a label is not what a key can do."""
        message = read_enveloped(getattr(cms_vectors, name))
        assert message.recipients[0].scheme == "other:1.2.840.113549.1.1.7"
        with pytest.raises(UnsupportedAlgorithm):
            message.recipient_for(CERTIFICATE)

    def test_other_recipient(self) -> None:
        """A certificate that is not meant finds nothing."""
        message = read_enveloped(cms_vectors.AES_128)
        assert message.recipient_for(EC_CERTIFICATE) is None

    def test_issuer_anew(self) -> None:
        """Some clients write our issuer's name their own way."""
        name = der.sequence(
            der.set_of(der.sequence(der.oid("2.5.4.3"), der.tlv(19, b"D")))
        )
        rid = der.sequence(name, der.integer(0x5EED))
        message = read_enveloped(raw(raw_recipient(rid=rid)))
        assert message.recipient_for(CERTIFICATE) is message.recipients[0]

    def test_two_recipients(self) -> None:
        """The one that is ours is found; two of them are one too many."""
        other = raw_recipient(rid=der.tlv(0x80, b"other"))
        message = read_enveloped(raw(other, raw_recipient()))
        recipient = message.recipient_for(CERTIFICATE)
        assert recipient is not None
        assert recipient.rid == issuer_and_serial(CERTIFICATE)
        message = read_enveloped(raw(raw_recipient(), raw_recipient()))
        assert refusal(message.recipient_for, CERTIFICATE) == "Malformed"

    def test_other_kinds_of_recipient(self) -> None:
        """Recipients by key agreement and the like are skipped."""
        others = [der.tlv(tag, NULL) for tag in (0xA1, 0xA2, 0xA4)]
        message = read_enveloped(raw(*others, raw_recipient()))
        assert len(message.recipients) == 1

    def test_too_many_recipients(self) -> None:
        """CVE-2012-0884 needs many: the number is limited."""
        most = [raw_recipient()] * MAX_RECIPIENTS
        assert len(read_enveloped(raw(*most)).recipients) == MAX_RECIPIENTS
        with pytest.raises(TooLarge):
            read_enveloped(raw(*most, raw_recipient()))

    def test_size(self) -> None:
        """Octets are limited."""
        with pytest.raises(TooLarge):
            read_enveloped(cms_vectors.AES_128, max_bytes=100)

    @pytest.mark.parametrize(
        "pieces",
        [
            der.tlv(0x80, encrypted()),
            der.tlv(0xA0, der.octet_string(encrypted())),
            der.tlv(
                0xA0,
                der.octet_string(encrypted()[:5])
                + der.octet_string(b"")
                + der.octet_string(encrypted()[5:]),
            ),
            b"\xa0\x80\x24\x80"
            + der.octet_string(encrypted()[:5])
            + b"\0\0"
            + der.octet_string(encrypted()[5:])
            + b"\0\0",
        ],
    )
    def test_pieces(self, pieces) -> None:
        """Encrypted content comes whole or in pieces of any length form."""
        assert CONTENT == opened(read_enveloped(raw(content=pieces)))

    @pytest.mark.parametrize("version", range(5))
    def test_versions(self, version: int) -> None:
        """PyScep writes 1, which the standard does not have."""
        data = raw(version=der.integer(version))
        assert CONTENT == opened(read_enveloped(data))

    def test_what_nobody_needs(self) -> None:
        """originatorInfo and unprotectedAttrs are skipped."""
        data = raw(
            before=der.tlv(0xA0, NULL),
            after=der.tlv(0xA1, NULL),
            version=der.integer(2),
        )
        assert CONTENT == opened(read_enveloped(data))

    @pytest.mark.parametrize(
        "bad",
        [
            NULL,
            der.sequence(),
            content_info(DATA, der.sequence()),
            content_info(ENVELOPED_DATA, der.sequence()),
            content_info(ENVELOPED_DATA, der.sequence(NULL)),
            content_info(ENVELOPED_DATA, der.sequence(*3 * [NULL])),
            raw(version=der.integer(5)),
            raw(version=NULL),
            raw(after=NULL),
            raw(before=NULL),
            raw(content_type=NULL),
            raw(content=NULL),
            raw(content=der.tlv(0x80, b"") + der.tlv(0x80, b"")),
            raw(content=der.tlv(0xA0, NULL)),
            raw(content=der.tlv(0xA1, der.octet_string(b""))),
            raw(algorithm=NULL),
            raw(algorithm=der.sequence()),
            raw(algorithm=der.sequence(der.oid(AES_128.oid))),
            raw(algorithm=der.sequence(der.oid(AES_128.oid), NULL)),
            raw(algorithm=AES_128.identifier(bytes(15))),
            raw(algorithm=AES_128.identifier(bytes(17))),
            raw(NULL),
            raw(der.tlv(0xA5, NULL)),
            raw(der.sequence()),
            raw(raw_recipient(version=der.integer(1))),
            raw(raw_recipient(version=NULL)),
            raw(raw_recipient(rid=NULL)),
            raw(raw_recipient(algorithm=NULL)),
            raw(raw_recipient(algorithm=der.sequence())),
            raw(raw_recipient(key=NULL)),
        ],
    )
    def test_malformed(self, bad) -> None:
        """RFC 5652, section 6."""
        assert refusal(read_enveloped, bad) == "Malformed"

    @pytest.mark.parametrize("name", ["AES_128", "STREAMED", "PASSWORD"])
    def test_corruption(self, name) -> None:
        """
        Every prefix and changed octet is read or refused; what opens holds
        what was sent.
        """

        def only_the_content(plaintext: bytes) -> bytes:
            if plaintext != CONTENT:
                raise Malformed
            return plaintext

        data = getattr(cms_vectors, name)
        message = read_enveloped(data)
        key = (
            message.password_recipients[0].unwrap(cms_vectors.PASSWORD_OF_IT)
            if name == "PASSWORD"
            else transported(message)
        )
        assert opened(message, key, only_the_content)
        for corrupt in corruptions(data):
            try:
                found = read_enveloped(corrupt)
                found.recipient_for(CERTIFICATE)
            except (Malformed, TooLarge, UnsupportedAlgorithm):
                continue
            refused = refusal(opened, found, key, only_the_content)
            assert refused in {
                None,
                "MessageCheckFailed",
                "UnsupportedAlgorithm",
            }


WRONG_CONTENTS = [
    b"",
    encrypted()[:-1],
    encrypted()[:-16],
    encrypted() + b"\0",
    encrypted()[:15],
    encrypted(b""),
    encrypted(b"0"),
    encrypted(b"no request"),
    encrypted(CONTENT + b"\0"),
    encrypted(CONTENT[:-1]),
    encrypted(b"\x31" + CONTENT[1:]),
    encrypted(b"\x30\x80" + CONTENT[2:] + b"\0\0"),
    *(
        AES_128.encrypt(
            KEY, IV, der.sequence(bytes(46 - size)) + end.rjust(size, b"\0")
        )
        for size, end in (
            (0, b""),
            (1, b"\x00"),
            (1, b"\xff"),
            (2, b"\x01\x02"),
            (3, b"\x03\x02\x03"),
            (3, b"\x02\x03\x03"),
            (16, b"\x11" * 16),
            (16, b"\x0f" + b"\x10" * 15),
        )
    ),
]


class OracleTests:
    """Nothing tells one fault of an encrypted message from another."""

    @staticmethod
    def message(content: bytes) -> Enveloped:
        """Return a message of this ciphertext."""
        return read_enveloped(raw(content=der.tlv(0x80, content)))

    @staticmethod
    def fails(message: Enveloped, key: bytes | None) -> None:
        """
        Assert what a failure looks like: a key is drawn in any case, and
        nobody gets to read anything.
        """
        dice = Dice()
        seen: list[bytes] = []
        with pytest.raises(MessageCheckFailed) as caught:
            message.open(key, seen.append, random_bytes=dice)
        assert MessageCheckFailed.detail == caught.value.detail
        assert caught.value.facts == {}
        assert [len(drawn) for drawn in dice.given] == [16]
        assert seen == []

    @pytest.mark.parametrize(
        "key",
        [None, b"", KEY[:15], KEY + b"\0", bytes(32), bytes(16)],
        ids=["none", "empty", "short", "long", "other size", "wrong"],
    )
    def test_wrong_keys(self, key) -> None:
        """RFC 3218, section 2.3: go on with a random key."""
        for content in (encrypted(), *WRONG_CONTENTS):
            self.fails(self.message(content), key)

    @pytest.mark.parametrize(
        "content", WRONG_CONTENTS, ids=range(len(WRONG_CONTENTS))
    )
    def test_wrong_contents(self, content) -> None:
        """Bad padding, cut blocks and garbage are all alike."""
        self.fails(self.message(content), KEY)

    def test_absent_content(self) -> None:
        """No content is one more content that does not open."""
        message = read_enveloped(raw(content=b""))
        assert message.encrypted_content == b""
        self.fails(message, KEY)

    def test_failures_of_the_reader(self) -> None:
        """What the reader refuses looks like all the rest."""

        def read(plaintext: bytes) -> None:
            assert plaintext == CONTENT
            raise PolicyViolation("p", "r", "a telling detail")

        with pytest.raises(MessageCheckFailed) as caught:
            opened(self.message(encrypted()), KEY, read)
        assert MessageCheckFailed.detail == caught.value.detail
        assert caught.value.facts == {}

    @pytest.mark.parametrize(
        "lengths",
        [range(33), range(0x7C, 0x8C), range(0xFC, 0x10C), (0xFFFF, 0x10000)],
        ids=["short", "one octet", "two octets", "three octets"],
    )
    def test_every_length(self, lengths) -> None:
        """Contents of every length, with padding of every length."""
        for length in lengths:
            content = der.sequence(bytes(length))
            message = read_enveloped(
                raw(content=der.tlv(0x80, encrypted(content))),
                max_bytes=1 << 20,
            )
            assert content == opened(message)

    def test_spare_key(self) -> None:
        """The spare key is what decrypts, and not the one given."""
        dice = Dice()
        spare = Dice()(16)
        content = AES_128.encrypt(spare, IV, AES_128.pad(CONTENT))
        found = self.message(content).open(b"short", bytes, random_bytes=dice)
        assert found == CONTENT

    def test_faults_of_the_program_show(self) -> None:
        """What is no ``RequestError`` is no fault of the peer."""

        def read(plaintext: bytes) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            opened(self.message(encrypted()), KEY, read)

    def test_decoy(self) -> None:
        """What is decrypted for nobody is as long as a real key."""
        recipient = decoy(CERTIFICATE)
        assert recipient.scheme == PKCS1
        assert len(recipient.encrypted_key) == 256
        RSA_KEY.decrypt(
            recipient.encrypted_key, scheme_padding(recipient.scheme)
        )


class WriteTests:
    """``envelope`` and ``envelope_for_password``."""

    @pytest.mark.parametrize("scheme", SCHEMES)
    @pytest.mark.parametrize("cipher", CIPHERS)
    def test_round_trip(self, cipher, scheme) -> None:
        """What is written is read and opens."""
        dice = Dice()
        message = read_enveloped(
            envelope(
                CONTENT,
                CERTIFICATE,
                cipher=cipher,
                scheme=scheme,
                random_bytes=dice,
            )
        )
        assert (cipher, scheme) == (
            message.cipher,
            message.recipients[0].scheme,
        )
        key = transported(message)
        assert [key, message.iv] == dice.given
        assert CONTENT == opened(message, key)

    def test_pyasn1_reads_it(self) -> None:
        """An independent decoder finds DER and the same fields."""
        data = envelope(
            CONTENT, CERTIFICATE, cipher="aes-128-cbc", random_bytes=Dice()
        )
        outer, rest = decoder.decode(data, asn1Spec=rfc5652.ContentInfo())
        assert not rest
        assert outer["contentType"] == rfc5652.id_envelopedData
        message, rest = decoder.decode(
            outer["content"], asn1Spec=rfc5652.EnvelopedData()
        )
        assert not rest
        assert encoder.encode(message) == bytes(outer["content"])
        recipient = message["recipientInfos"][0]["ktri"]
        assert message["version"] == recipient["version"] == 0
        # RFC 3370, section 4.2.1.
        algorithm = recipient["keyEncryptionAlgorithm"]
        assert algorithm["parameters"] == NULL
        rid = recipient["rid"]["issuerAndSerialNumber"]
        assert rid["serialNumber"] == 0x5EED

    @pytest.mark.parametrize("cipher", CIPHERS)
    def test_password(self, cipher) -> None:
        """RFC 8894, section 3.1: to a client whose key cannot decrypt."""
        message = read_enveloped(
            envelope_for_password(
                CONTENT,
                b"secret",
                cipher=cipher,
                random_bytes=Dice(),
                iterations=7,
            )
        )
        (recipient,) = message.password_recipients
        assert (7, "sha256") == (recipient.iterations, recipient.digest)
        assert CONTENT == opened(message, recipient.unwrap(b"secret"))
        assert refusal(opened, message, recipient.unwrap(b"wrong")) == (
            "MessageCheckFailed"
        )

    def test_password_for_pyasn1(self) -> None:
        """An independent decoder finds DER and version 3."""
        data = envelope_for_password(
            CONTENT, b"secret", cipher="aes-256-cbc", random_bytes=Dice()
        )
        outer, _ = decoder.decode(data, asn1Spec=rfc5652.ContentInfo())
        message, rest = decoder.decode(
            outer["content"], asn1Spec=rfc5652.EnvelopedData()
        )
        assert not rest
        assert encoder.encode(message) == bytes(outer["content"])
        assert message["version"] == 3
        assert message["recipientInfos"][0]["pwri"]["version"] == 0

    @pytest.mark.parametrize(
        ("certificate", "options"),
        [
            (EC_CERTIFICATE, {}),
            (CERTIFICATE, {"cipher": "des-cbc"}),
            (CERTIFICATE, {"scheme": "rsaes-oaep-md5"}),
            (
                CERTIFICATE.replace(
                    der.oid("1.2.840.113549.1.1.1"),
                    der.oid("1.2.840.113549.1.1.2"),
                ),
                {},
            ),
        ],
    )
    def test_unsupported(self, certificate, options) -> None:
        """What we cannot encrypt with is refused."""
        settings = {"cipher": "aes-128-cbc", **options}
        with pytest.raises(UnsupportedAlgorithm):
            envelope(CONTENT, certificate, random_bytes=Dice(), **settings)

    def test_no_certificate(self) -> None:
        """Nor can we encrypt to what is no certificate."""
        with pytest.raises(RequestError):
            envelope(
                CONTENT,
                der.sequence(),
                cipher="aes-128-cbc",
                random_bytes=Dice(),
            )
