# SPDX-License-Identifier: MIT
"""PKIMessage and PKIHeader (RFC 9810, section 5.1)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from attrs import evolve
from cmp_samples import (
    NULL,
    START,
    captured,
    certificate,
    cn,
    mutations,
    read_everything,
)
from cmp_vectors import MESSAGES
from hypothesis import given, settings
from hypothesis import strategies as st
from pkix_samples import corruptions, refusal
from pyasn1.codec.der import decoder, encoder
from pyasn1_alt_modules import rfc9810
from pyasn1_modules import rfc4210

from trstctl.errors import Malformed, RequestError, TooLarge
from trstctl.pkix import der
from trstctl.pkix.cmp import (
    BODY_TYPES,
    MAX_EXTRA_CERTS,
    PKIBody,
    prepare,
    read_message,
)
from trstctl.pkix.cmp_header import (
    GeneralInfo,
    PKIHeader,
    Recovered,
    party,
    read_header,
    recover,
)
from trstctl.pkix.cmp_itav import INFO_TYPES, InfoTypeAndValue
from trstctl.pkix.cmp_responses import pkiconf
from trstctl.pkix.names import read_name

NOON = datetime(2026, 11, 23, 12, 0, 7, tzinfo=UTC)
PLAIN = PKIHeader(2, party(cn("device")), party(()))
FULL = PKIHeader(
    pvno=3,
    sender=party(()),
    recipient=party(cn("CA")),
    message_time=NOON,
    protection_alg=der.sequence(der.oid("1.2.3")),
    sender_kid=b"REF",
    recip_kid=b"",
    transaction_id=bytes(range(16)),
    sender_nonce=bytes(range(16, 32)),
    recip_nonce=bytes(8),
    free_text=("grüezi", ""),
    general_info=GeneralInfo(
        implicit_confirm=True,
        confirm_wait_time=START,
        orig_messages=(MESSAGES["ir"], MESSAGES["kur"]),
        cert_profiles=("tls", ""),
        others=(
            InfoTypeAndValue("1.2.3"),
            InfoTypeAndValue("1.2.4", der.integer(5)),
        ),
    ),
)


OCTETS = st.none() | st.binary(max_size=40)
TEXTS = st.lists(st.text(max_size=5), max_size=3).map(tuple)
TIMES = st.none() | st.datetimes(timezones=st.just(UTC)).map(
    lambda when: when.replace(microsecond=0)
)
PARTIES = st.text(max_size=5).map(lambda text: party(cn(text)))
HEADERS = st.builds(
    PKIHeader,
    st.integers(-300, 300),
    PARTIES | st.just(party(())),
    PARTIES,
    TIMES,
    st.none() | st.just(der.sequence(der.oid("1.2.3"), NULL)),
    OCTETS,
    OCTETS,
    OCTETS,
    OCTETS,
    OCTETS,
    TEXTS,
    st.builds(GeneralInfo, st.booleans(), TIMES, st.just(()), TEXTS),
)


def header_with(*fields: bytes) -> bytes:
    """Return a header with what may be there after the recipient."""
    plain = der.content(PLAIN.der(), der.SEQUENCE)
    return der.sequence(plain, *fields)


def general(*items: bytes) -> GeneralInfo:
    """Read a generalInfo of these items."""
    found = read_header(header_with(der.explicit(8, der.sequence(*items))))
    return found.general_info


def item(name: str, value: bytes = b"") -> bytes:
    """Return an InfoTypeAndValue by its name."""
    return der.sequence(der.oid(INFO_TYPES[name]), value)


class CapturedTests:
    """Messages that OpenSSL and BouncyCastle have sent."""

    @pytest.mark.parametrize("name", MESSAGES)
    def test_writing_gives_the_same_octets(self, name: str) -> None:
        """What was read and is written again is the same DER."""
        message = captured(name)
        again = prepare(message.header, message.body)
        assert message.protected_part == again.protected_part
        assert MESSAGES[name] == again.finish(
            message.protection, message.extra_certs
        )

    @pytest.mark.parametrize("name", MESSAGES)
    def test_another_decoder_agrees(self, name: str) -> None:
        """Every field of the header is what pyasn1 says it is."""
        theirs, rest = decoder.decode(
            MESSAGES[name], asn1Spec=rfc9810.PKIMessage()
        )
        ours = captured(name)
        header = theirs["header"]
        assert b"" == rest
        assert theirs["body"].getName() == ours.body.type
        assert int(header["pvno"]) == ours.header.pvno
        for field, value in (
            ("senderKID", ours.header.sender_kid),
            ("recipKID", ours.header.recip_kid),
            ("transactionID", ours.header.transaction_id),
            ("senderNonce", ours.header.sender_nonce),
            ("recipNonce", ours.header.recip_nonce),
        ):
            there = header[field]
            assert (bytes(there) if there.isValue else None) == value
        sender = encoder.encode(header["sender"]["directoryName"][0])
        assert read_name(sender) == ours.header.sender.name
        count = (
            len(theirs["extraCerts"]) if theirs["extraCerts"].isValue else 0
        )
        assert count == len(ours.extra_certs)
        assert theirs["protection"].isValue == (ours.protection is not None)

    def test_signed_request(self) -> None:
        """What a client says in its header is all there."""
        message = captured("ir_signed")
        assert "ir" == message.body.type
        assert message.header.general_info.implicit_confirm
        assert () == message.header.general_info.malformed
        assert 2026 == message.header.message_time.year  # type: ignore[union-attr]
        assert 2 == len(message.extra_certs)

    def test_null_dn(self) -> None:
        """A sender without a name has the name of no RDN (section 5.1.1)."""
        assert () == captured("p10cr_mac").header.sender.name

    def test_unknown_information_is_kept(self) -> None:
        """Types that we do not know are there, with their values."""
        found = captured("ir_geninfo").header.general_info
        assert (InfoTypeAndValue("1.2.3", der.integer(987)),) == found.others
        assert "1.2.3" == found.others[0].name

    @pytest.mark.parametrize("name", ["ir", "rr", "cert_conf"])
    def test_corruption(self, name: str) -> None:
        """Damaged octets are read, or refused as a peer's fault."""
        for damaged in corruptions(MESSAGES[name]):
            refusal(read_everything, damaged)

    @pytest.mark.parametrize("name", MESSAGES)
    def test_mutation(self, name: str) -> None:
        """Well-formed values of another shape are a peer's fault at most."""
        for mutated in mutations(MESSAGES[name]):
            refusal(read_everything, mutated)
            recover(mutated)

    @pytest.mark.parametrize("name", MESSAGES)
    def test_truncation(self, name: str) -> None:
        """No prefix of a message is a message."""
        data = MESSAGES[name]
        for length in range(len(data)):
            assert refusal(read_message, data[:length]) == "Malformed"


class MessageTests:
    """The four parts of a PKIMessage."""

    def test_every_body(self) -> None:
        """Each choice has its tag (section 5.1.2)."""
        for number, name in enumerate(BODY_TYPES):
            data = prepare(PLAIN, PKIBody(name, NULL)).finish(None)
            message = read_message(data)
            assert PKIBody(name, NULL) == message.body
            assert message.protection is None
            spec = rfc9810.PKIBody()
            assert name == spec.componentType[number].name

    def test_protection_is_kept(self) -> None:
        """Absent and empty protection are not the same."""
        prepared = prepare(PLAIN, pkiconf())
        assert b"" == read_message(prepared.finish(b"")).protection
        assert b"ab" == read_message(prepared.finish(b"ab")).protection

    def test_certificates_are_not_looked_at(self) -> None:
        """An undecodable certificate does not make a message unreadable."""
        odd = der.sequence(b"\x1f\xff")
        data = prepare(PLAIN, pkiconf()).finish(b"", [certificate(), odd])
        assert (certificate(), odd) == read_message(data).extra_certs

    def test_certificates_are_bounded(self) -> None:
        """More extra certificates than the limit are refused."""
        prepared = prepare(PLAIN, pkiconf())
        many = [der.sequence()] * MAX_EXTRA_CERTS
        assert len(many) == len(
            read_message(prepared.finish(None, many)).extra_certs
        )
        many.append(der.sequence())
        with pytest.raises(TooLarge):
            read_message(prepared.finish(None, many))

    def test_size_is_bounded(self) -> None:
        """More octets than the limit are refused."""
        data = MESSAGES["ir"]
        read_message(data, max_bytes=len(data))
        with pytest.raises(TooLarge):
            read_message(data, max_bytes=len(data) - 1)

    def test_bombs(self) -> None:
        """Nesting and numbers of values are bounded."""
        deep = NULL
        for _ in range(40):
            deep = der.sequence(deep)
        wide = der.sequence(NULL * 9000)
        for value in (deep, wide):
            data = prepare(PLAIN, PKIBody("genm", value)).finish(None)
            with pytest.raises(Malformed):
                read_message(data)

    @pytest.mark.parametrize(
        "tail",
        [
            der.explicit(2, NULL),
            NULL,
            der.explicit(0, NULL),
            der.explicit(0, b""),
            der.explicit(0, b"\x03\x02\x01\x80"),  # seven bits
            der.explicit(0, der.bit_string(b"")) * 2,
            der.explicit(1, der.sequence())
            + der.explicit(0, der.bit_string(b"")),
            der.explicit(1, der.sequence(NULL)),
            der.explicit(1, der.sequence(b"\x30\x05")),
            der.explicit(1, NULL),
        ],
    )
    def test_what_follows_the_body(self, tail: bytes) -> None:
        """Protection and certificates, in this order, and nothing else."""
        both = PLAIN.der() + pkiconf().der()
        read_message(der.sequence(both))
        with pytest.raises(Malformed):
            read_message(der.sequence(both, tail))

    def test_three_tails(self) -> None:
        """A fifth part is refused before it is looked at."""
        both = PLAIN.der() + pkiconf().der()
        with pytest.raises(RequestError):
            read_message(der.sequence(both, *[der.explicit(0, NULL)] * 3))

    @pytest.mark.parametrize(
        "body",
        [
            der.explicit(27, NULL),
            der.explicit(19, b""),
            der.explicit(19, NULL + NULL),
            der.sequence(NULL),
            b"\x80\x00",
            b"",
        ],
    )
    def test_no_body(self, body: bytes) -> None:
        """What is no choice of PKIBody is refused."""
        with pytest.raises(Malformed):
            read_message(der.sequence(PLAIN.der(), body))

    def test_nothing(self) -> None:
        """Something else altogether is refused."""
        for data in (b"", NULL, der.sequence(), b"\x30\x80\x00\x00", b"<html"):
            with pytest.raises(Malformed):
                read_message(data)

    def test_secrets_stay_out_of_logs(self) -> None:
        """The representation of a message has no octets of its body."""
        assert "value" not in repr(captured("ir").body)


class HeaderTests:
    """PKIHeader (section 5.1.1)."""

    def test_round_trip(self) -> None:
        """A header with all its fields is read as it was written."""
        assert FULL == read_header(FULL.der())
        assert PLAIN == read_header(PLAIN.der())

    @given(HEADERS)
    @settings(derandomize=True, deadline=None)
    def test_any_header(self, header: PKIHeader) -> None:
        """Whatever is written is read."""
        assert header == read_header(header.der())

    def test_mutation(self) -> None:
        """Fields of another shape are a peer's fault at most."""
        for mutated in mutations(FULL.der()):
            data = mutated + pkiconf().der()
            refusal(read_message, der.sequence(data))

    def test_another_encoder_agrees(self) -> None:
        """pyasn1 reads the fields, and writes the same DER."""
        theirs, rest = decoder.decode(FULL.der(), rfc9810.PKIHeader())
        assert b"" == rest
        assert FULL.der() == encoder.encode(theirs)
        assert "20261123120007Z" == str(theirs["messageTime"])

    def test_a_null_dn_survives(self) -> None:
        """The protected octets are not re-encoded: pyasn1 would lose some."""
        data = prepare(PLAIN, pkiconf()).finish(None)
        assert b"\xa4\x02\x30\x00" in read_message(data).protected_part

    def test_other_general_names(self) -> None:
        """A sender may be named by something else than a directoryName."""
        mail = der.tlv(0x81, b"x@example.com")
        header = der.sequence(der.integer(2), mail, party(()).der)
        found = read_header(header)
        assert found.sender.name is None
        assert mail == found.sender.der
        assert header == found.der()

    @pytest.mark.parametrize("pvno", [-1, 0, 1, 2, 3, 300])
    def test_any_version(self, pvno: int) -> None:
        """Whoever answers can say which version was there."""
        header = evolve(PLAIN, pvno=pvno)
        assert pvno == read_header(header.der()).pvno

    @pytest.mark.parametrize("size", [0, 8, 16, 100, 1000])
    def test_any_length(self, size: int) -> None:
        """Whoever answers can say that a nonce is too short or too long."""
        header = evolve(
            PLAIN, transaction_id=bytes(size), sender_nonce=bytes(size)
        )
        assert header == read_header(header.der())

    @pytest.mark.parametrize(
        "field",
        [
            der.explicit(0, der.tlv(0x17, b"261123120007Z")),
            der.explicit(0, der.tlv(0x18, b"20261123120007.Z")),
            der.explicit(0, der.tlv(0x18, b"20261123120007.5")),
            der.explicit(0, der.tlv(0x18, b"20261123120007,5Z")),
            der.explicit(0, der.tlv(0x18, b"20261123120007.0123456789Z")),
            der.explicit(0, der.tlv(0x18, b"20261323120007Z")),
            der.explicit(0, der.tlv(0x18, b"202611231200Z")),
            der.explicit(0, der.tlv(0x18, b"20261123120007+0000")),
            der.explicit(1, NULL),
            der.explicit(2, NULL),
            der.explicit(4, der.integer(1)),
            der.explicit(5, der.octet_string(b"") * 2),
            der.explicit(5, der.octet_string(b""))
            + der.explicit(4, der.octet_string(b"")),
            der.explicit(4, der.octet_string(b"")) * 2,
            der.explicit(7, der.sequence()),
            der.explicit(7, der.sequence(der.tlv(0x13, b"a"))),
            der.explicit(7, der.sequence(der.tlv(0x0C, b"\xff"))),
            der.explicit(8, NULL),
            der.explicit(8, der.sequence(NULL)),
            der.explicit(8, der.sequence(der.sequence())),
            der.explicit(8, der.sequence(der.sequence(NULL))),
            der.explicit(9, NULL),
            NULL,
        ],
    )
    def test_other_types(self, field: bytes) -> None:
        """A field of another type makes the header unreadable."""
        read_header(header_with())
        with pytest.raises(Malformed):
            read_header(header_with(field))

    def test_no_header(self) -> None:
        """Version, sender and recipient must be there."""
        name = party(()).der
        for header in (
            der.sequence(),
            der.sequence(der.integer(2), name),
            der.sequence(name, name, name),
            der.sequence(der.integer(2), NULL, name),
        ):
            with pytest.raises(Malformed):
                read_header(header)


class GeneralInfoTests:
    """generalInfo: known types are read, unknown ones kept."""

    def test_empty(self) -> None:
        """Nothing is written where nothing is said."""
        assert b"" == GeneralInfo().der()
        assert GeneralInfo() == general()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("implicitConfirm", b""),
            ("implicitConfirm", der.integer(1)),
            ("confirmWaitTime", der.tlv(0x17, b"261123120007Z")),
            ("confirmWaitTime", NULL),
            ("confirmWaitTime", b""),
            ("origPKIMessage", der.sequence()),
            ("origPKIMessage", der.sequence(NULL)),
            ("origPKIMessage", b""),
            ("certProfile", der.sequence()),
            ("certProfile", der.sequence(der.tlv(0x13, b"tls"))),
            ("certProfile", der.tlv(0x0C, b"tls")),
            ("certProfile", b""),
        ],
    )
    def test_malformed(self, name: str, value: bytes) -> None:
        """A value of another type is told apart from malformed octets."""
        found = general(item(name, value), item("caCerts"))
        assert (name,) == found.malformed
        assert ("caCerts",) == tuple(each.name for each in found.others)
        assert GeneralInfo() == evolve(found, others=(), malformed=())

    def test_twice(self) -> None:
        """A type that occurs twice is malformed, and the first is kept."""
        profile = item("certProfile", der.sequence(der.tlv(0x0C, b"tls")))
        found = general(profile, profile)
        assert ("certProfile",) == found.malformed
        assert ("tls",) == found.cert_profiles


class RecoverTests:
    """What an error answer needs (section 5.3.21)."""

    @pytest.mark.parametrize("name", MESSAGES)
    def test_readable(self, name: str) -> None:
        """What can be read is found."""
        header = captured(name).header
        assert Recovered(
            header.pvno, header.transaction_id, header.sender_nonce
        ) == recover(MESSAGES[name])

    def test_a_broken_body(self) -> None:
        """The header is enough."""
        data = der.sequence(FULL.der(), b"\x1f\xff\xff\xff")
        assert refusal(read_message, data) == "Malformed"
        assert Recovered(3, FULL.transaction_id, FULL.sender_nonce) == recover(
            data
        )

    def test_a_broken_header(self) -> None:
        """What stands before and after a bad field is found."""
        data = der.sequence(
            header_with(
                der.explicit(0, NULL),
                der.explicit(4, der.octet_string(b"id")),
                der.explicit(9, NULL),
                der.explicit(5, der.octet_string(b"nonce")),
            ),
            NULL,
        )
        assert refusal(read_message, data) == "Malformed"
        assert Recovered(2, b"id", b"nonce") == recover(data)

    def test_a_truncated_message(self) -> None:
        """A long message that is cut off in its body still has a header."""
        data = MESSAGES["ir_signed"]
        header = captured("ir_signed").header
        assert Recovered(
            2, header.transaction_id, header.sender_nonce
        ) == recover(data[:600])

    def test_nothing(self) -> None:
        """Where there is nothing, nothing is found, and nothing fails."""
        nothing = Recovered(None, None, None)
        assert nothing == recover(b"")
        assert nothing == recover(b"GET / HTTP/1.0\r\n")
        assert nothing == recover(b"\x30")
        assert nothing == recover(b"\x30\x80\x30\x80")
        assert nothing == recover(der.sequence(NULL))
        assert nothing == recover(der.sequence(der.sequence(NULL * 20)))
        strange = header_with(der.explicit(4, NULL))
        assert Recovered(2, None, None) == recover(der.sequence(strange))

    def test_lengths_are_bounded(self) -> None:
        """A peer does not get megabytes back."""
        header = evolve(FULL, transaction_id=bytes(100), sender_nonce=bytes(9))
        found = recover(der.sequence(header.der()))
        assert (bytes(100), bytes(9)) == (
            found.transaction_id,
            found.sender_nonce,
        )
        header = evolve(FULL, transaction_id=bytes(120))
        assert bytes(120) == recover(der.sequence(header.der())).transaction_id
        header = evolve(FULL, transaction_id=bytes(5000))
        assert 128 == len(
            recover(der.sequence(header.der())).transaction_id or b""
        )

    @given(st.binary(max_size=200))
    def test_never_fails(self, data: bytes) -> None:
        """Whatever comes, there is an answer."""
        recover(data)
        recover(der.sequence(data))
        recover(b"\x30\x82\xff\xff\x30\x82\xff\xff" + data)

    def test_corruption(self) -> None:
        """Damaged octets never fail."""
        for damaged in corruptions(MESSAGES["ir"][:120]):
            recover(damaged)


class OldDecoderTests:
    """Messages of version 2 in the eyes of an older decoder."""

    def test_answers(self) -> None:
        """pyasn1 with RFC 4210's module reads what we write."""
        data = prepare(evolve(FULL, pvno=2), pkiconf()).finish(
            b"mac", [certificate()]
        )
        message, rest = decoder.decode(data, rfc4210.PKIMessage())
        assert b"" == rest
        assert "pkiconf" == message["body"].getName()
        assert 1 == len(message["extraCerts"])
