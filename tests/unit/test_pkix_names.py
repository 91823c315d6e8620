# SPDX-License-Identifier: MIT
"""Distinguished names and general names."""

from __future__ import annotations

import ipaddress
import unicodedata
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from pkix_samples import common_name, corruptions, refusal
from pyasn1.codec.der import decoder
from pyasn1_modules import rfc5280

from trstctl.errors import Malformed, TooLarge
from trstctl.model import GeneralName, Name, NameAttribute
from trstctl.pkix import der, names

NULL = b"\x05\x00"


def name(*attributes: tuple[str, str]) -> Name:
    """Return a name of one attribute per RDN, in the usual string types."""
    return tuple(
        (
            NameAttribute(
                names.ATTRIBUTE_OIDS[short],
                value,
                names.string_tag(names.ATTRIBUTE_OIDS[short]),
            ),
        )
        for short, value in attributes
    )


DEVICE = name(
    ("C", "CH"), ("O", "Example"), ("OU", "Büro"), ("CN", "device-1")
)
TEXTS = st.text(
    st.characters(exclude_categories=("Cs",)), min_size=0, max_size=20
)
NAMES = st.lists(
    st.lists(
        st.builds(
            NameAttribute,
            st.sampled_from([*names.SHORT_NAMES, "1.2.3.4"]),
            TEXTS,
            st.sampled_from([12, 28, 30]),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    max_size=4,
).map(tuple)


class NameTests:
    """``read_name``, ``encode_name`` and ``to_x509_name``."""

    def test_round_trip(self) -> None:
        """Order and string types are kept."""
        encoded = names.encode_name(DEVICE)
        assert DEVICE == names.read_name(encoded)
        tags = [rdn[0].tag for rdn in names.read_name(encoded)]
        assert tags == [19, 12, 12, 12]

    def test_the_library_agrees(self) -> None:
        """The library writes and reads the same name."""
        theirs = names.to_x509_name(DEVICE)
        assert names.encode_name(DEVICE) == theirs.public_bytes()
        assert DEVICE == names.read_name(theirs)
        assert names.name_text(DEVICE) == theirs.rfc4514_string()

    def test_pyasn1_agrees(self) -> None:
        """pyasn1 reads what we write."""
        read, rest = decoder.decode(
            names.encode_name(DEVICE), asn1Spec=rfc5280.Name()
        )
        assert not rest
        types = [str(rdn[0]["type"]) for rdn in read["rdnSequence"]]
        assert types == [rdn[0].oid for rdn in DEVICE]

    @given(NAMES)
    @settings(derandomize=True, deadline=None)
    def test_any_name(self, any_name: Name) -> None:
        """Reading inverts writing, up to the order inside an RDN."""
        encoded = names.encode_name(any_name)
        der.check(encoded)
        read = names.read_name(encoded)
        assert encoded == names.encode_name(read)
        assert [frozenset(rdn) for rdn in any_name] == [
            frozenset(rdn) for rdn in read
        ]
        assert names.names_match(any_name, read)
        assert names.name_text(any_name).isprintable()

    @pytest.mark.parametrize(
        ("tag", "octets", "text"),
        [
            (12, "61 00 62", "a\0b"),
            (12, "61 0d 0a", "a\r\n"),
            (12, "e2 80 ae", "\u202e"),
            (12, "", ""),
            (18, "31", "1"),
            (19, "61 40", "a@"),
            (20, "e9", "é"),
            (22, "61", "a"),
            (26, "61", "a"),
            (28, "00 00 00 61", "a"),
            (30, "00 61 01 53", "aœ"),
        ],
    )
    def test_strings_are_kept_as_they_are(
        self, tag: int, octets: str, text: str
    ) -> None:
        """Policy sees every character and the string type."""
        encoded = common_name(tag, bytes.fromhex(octets))
        read = names.read_name(encoded)
        assert ((NameAttribute("2.5.4.3", text, tag),),) == read
        assert encoded == names.encode_name(read)

    @pytest.mark.parametrize(
        "bad",
        [
            b"",
            NULL,
            der.sequence(NULL),
            der.sequence(der.tlv(0x31, b"")),
            der.sequence(der.set_of(NULL)),
            der.sequence(der.set_of(der.sequence(NULL, NULL))),
            der.sequence(der.set_of(der.sequence(der.oid("2.5.4.3")))),
            der.sequence(
                der.set_of(
                    der.tlv(0x31, der.oid("2.5.4.3") + der.tlv(12, b"a"))
                )
            ),
            der.sequence(
                der.sequence(
                    der.sequence(der.oid("2.5.4.3"), der.tlv(12, b"a"))
                )
            ),
            common_name(3, b"\0a"),
            common_name(4, b"a"),
            common_name(23, b"250101000000Z"),
            common_name(12, b"\xff"),
            common_name(12, b"\xed\xa0\x80"),
            common_name(19, b"\xe9"),
            common_name(30, b"\0"),
            common_name(30, b"\xd8\x00"),
            common_name(28, b"\0\0\0"),
        ],
    )
    def test_malformed(self, bad: bytes) -> None:
        """What is no name, or no string of its type, is malformed."""
        with pytest.raises(Malformed):
            names.read_name(bad)

    def test_corruptions(self) -> None:
        """Any corruption is read or refused; nothing else happens."""
        for bad in corruptions(names.encode_name(DEVICE)):
            assert refusal(names.read_name, bad) in {None, "Malformed"}

    def test_values(self) -> None:
        """All values of one type, in order."""
        both = name(("CN", "a"), ("O", "x"), ("CN", "b"))
        assert names.attribute_values(both, names.COMMON_NAME) == ["a", "b"]
        assert names.attribute_values(both, names.EMAIL_ADDRESS) == []

    def test_a_value_that_does_not_fit_its_type(self) -> None:
        """Writing never changes a value in silence."""
        bad = ((NameAttribute("2.5.4.3", "é", 19),),)
        with pytest.raises(ValueError):
            names.encode_name(bad)


class NameTextTests:
    """``name_text`` (RFC 4514)."""

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("plain", "plain"),
            ("two words", "two words"),
            ("", ""),
            (" ", "\\ "),
            (" lead", "\\ lead"),
            ("trail ", "trail\\ "),
            ("  ", "\\ \\ "),
            ("#x", "\\#x"),
            ("a#", "a#"),
            ('James "Jim" Smith, III', 'James \\"Jim\\" Smith\\, III'),
            ("a+b;c<d>e\\f", "a\\+b\\;c\\<d\\>e\\\\f"),
            ("Before\rAfter", "Before\\0dAfter"),
            ("a\0", "a\\00"),
            ("Lučić", "Lučić"),
            ("a\u202eb", "a\\e2\\80\\aeb"),
        ],
    )
    def test_escapes(self, value: str, text: str) -> None:
        """Sections 2.4 and 4, and no character that ends a line."""
        assert f"CN={text}" == names.name_text(name(("CN", value)))

    def test_order(self) -> None:
        """The last RDN comes first; the RDN's values are joined by +."""
        both = (
            *name(("DC", "net"), ("DC", "example")),
            (
                NameAttribute(names.ORGANIZATIONAL_UNIT, "Sales"),
                NameAttribute(names.COMMON_NAME, "J. Smith"),
            ),
        )
        text = "OU=Sales+CN=J. Smith,DC=example,DC=net"
        assert text == names.name_text(both)
        assert names.name_text(()) == ""

    def test_unknown_types(self) -> None:
        """An OID comes with the value's DER (section 2.4)."""
        odd = ((NameAttribute("1.3.6.1.4.1.1466.0", "H", 4 + 8),),)
        text = "1.3.6.1.4.1.1466.0=#0c0148"
        assert text == names.name_text(odd)


class NameMatchTests:
    """``names_match`` (RFC 5280, section 7.1)."""

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Device", "dEVICE"),
            ("a b", "  a \t  b "),
            ("Straße", "STRASSE"),
            ("Büro", "BU\u0308RO"),
            ("a\u3000b", "a b"),
            ("a\u2028b", "a b"),
            ("", " "),
        ],
    )
    def test_the_same(self, one: str, other: str) -> None:
        """Case, composition and white space make no difference."""
        first = ((NameAttribute("2.5.4.3", one, 12),),)
        second = ((NameAttribute("2.5.4.3", other, 30),),)
        assert names.names_match(first, second)
        assert names.names_match(second, first)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("a", "b"),
            ("ab", "a b"),
            ("device", "devic\0e"),
            ("device", "device\u200b"),
            ("a", ""),
        ],
    )
    def test_others(self, one: str, other: str) -> None:
        """Hidden characters are not dropped."""
        first, second = name(("CN", one)), name(("CN", other))
        assert not names.names_match(first, second)

    def test_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Normalizing takes the square of the combining characters: a
        stranger's name of 40 KB would hold up everything for half a second.
        """
        longest, normalize = [0], unicodedata.normalize

        def counted(form: Any, text: str) -> str:
            longest.append(len(text))
            return normalize(form, text)

        monkeypatch.setattr(names.unicodedata, "normalize", counted)
        mine = name(("CN", "issuing"))
        for value in ("a" + "\u0315\u0300" * 11_000, "\ufdfa" * 15_000):
            assert not names.names_match(name(("CN", value)), mine)
        many = tuple(
            NameAttribute(names.COMMON_NAME, f"\xfc{number}")
            for number in range(2000)
        )
        assert not names.names_match((many,), mine)
        assert 0 == max(longest)
        short, long = "B\xfcro" * 64, "B\xfcro" * 64 + "s"
        assert names.names_match(
            name(("CN", short)), name(("CN", short.upper()))
        )
        assert names.names_match(name(("CN", long)), name(("CN", long)))
        assert not names.names_match(
            name(("CN", long)), name(("CN", long.upper()))
        )

    def test_structure(self) -> None:
        """RDNs are a sequence of sets; types count."""
        a = NameAttribute(names.COMMON_NAME, "a")
        b = NameAttribute(names.ORGANIZATION, "b")
        assert names.names_match(((a, b),), ((b, a),))
        assert not names.names_match(((a,), (b,)), ((b,), (a,)))
        assert not names.names_match(((a, b),), ((a,), (b,)))
        assert not names.names_match(((a,), (b,)), ((a,),))
        assert not names.names_match(((a, a),), ((a,),))
        unlike = NameAttribute(names.ORGANIZATION, "a")
        assert not names.names_match(((a,),), ((unlike,),))
        assert names.names_match((), ())


UPN = GeneralName("upn", "jürg@example.com")
KINDS = {
    "8203612e62": GeneralName("dns", "a.b"),
    "8200": GeneralName("dns", ""),
    "820361002a": GeneralName("dns", "a\0*"),
    "8103614062": GeneralName("email", "a@b"),
    "860475726e3a": GeneralName("uri", "urn:"),
    "8704c0000207": GeneralName("ip", "192.0.2.7"),
    "871020010db8000000000000000000000001": GeneralName("ip", "2001:db8::1"),
    "871000000000000000000000ffffc0000207": GeneralName(
        "ip", "::ffff:192.0.2.7"
    ),
    "871000000000000000000000000000000000": GeneralName("ip", "::"),
    "8700": GeneralName("ip", ""),
    "8703c00002": GeneralName("ip", "c00002"),
    "8708c0000200ffffff00": GeneralName("ip", "c0000200ffffff00"),
    "88032a0304": GeneralName("rid", "88032a0304"),
    "a4023000": GeneralName("directory", "a4023000"),
    "a302a000": GeneralName("x400", "a302a000"),
    "a504a1020c00": GeneralName("edi", "a504a1020c00"),
}


class GeneralNameTests:
    """``read_general_names`` and ``encode_general_names``."""

    @pytest.mark.parametrize(
        ("octets", "expected"),
        list(KINDS.items()),
    )
    def test_kinds(self, octets: str, expected: GeneralName) -> None:
        """Each kind is read as it is, and written back the same."""
        encoded = der.sequence(bytes.fromhex(octets))
        assert (expected,) == names.read_general_names(encoded)
        assert encoded == names.encode_general_names([expected])

    def test_user_principal_name(self) -> None:
        """Microsoft's otherName, as the library writes it."""
        theirs = x509.SubjectAlternativeName(
            [
                x509.OtherName(
                    x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"),
                    der.tlv(12, "jürg@example.com".encode()),
                )
            ]
        ).public_bytes()
        assert (UPN,) == names.read_general_names(theirs)
        assert theirs == names.encode_general_names([UPN])

    @pytest.mark.parametrize(
        "other",
        [
            der.oid("1.2.3.4") + der.explicit(0, der.tlv(12, b"a")),
            der.oid("1.3.6.1.4.1.311.20.2.3")
            + der.explicit(0, der.tlv(19, b"a")),
            der.oid("1.3.6.1.4.1.311.20.2.3") + der.explicit(0, b""),
        ],
    )
    def test_other_names(self, other: bytes) -> None:
        """Any other otherName is opaque."""
        whole = der.tlv(0xA0, other)
        expected = GeneralName("other", whole.hex())
        read = names.read_general_names(der.sequence(whole))
        assert (expected,) == read
        assert der.sequence(whole) == names.encode_general_names(read)

    def test_the_library_agrees(self) -> None:
        """The library reads what we write, in order."""
        ours = [
            GeneralName("dns", "a.example"),
            GeneralName("email", "a@example.com"),
            GeneralName("uri", "urn:a"),
            GeneralName("ip", "2001:db8::7"),
        ]
        theirs = x509.SubjectAlternativeName(
            [
                x509.DNSName("a.example"),
                x509.RFC822Name("a@example.com"),
                x509.UniformResourceIdentifier("urn:a"),
                x509.IPAddress(ipaddress.ip_address("2001:db8::7")),
            ]
        )
        assert theirs.public_bytes() == names.encode_general_names(ours)

    @pytest.mark.parametrize(
        "bad",
        [
            b"",
            NULL,
            der.sequence(),
            der.sequence(NULL),
            der.sequence(der.tlv(0x82, b"\xff")),
            der.sequence(der.tlv(0x81, "ü@example".encode())),
            der.sequence(der.tlv(0xA2, b"")),
            der.sequence(der.tlv(0x80, b"")),
            der.sequence(der.tlv(0x89, b"")),
            der.sequence(der.tlv(0xA0, b"")),
            der.sequence(der.tlv(0xA0, NULL + der.explicit(0, NULL))),
            der.sequence(der.tlv(0xA0, der.oid("1.2.3") + NULL)),
            der.sequence(
                der.tlv(
                    0xA0,
                    der.oid("1.3.6.1.4.1.311.20.2.3")
                    + der.explicit(0, der.tlv(12, b"\xff")),
                )
            ),
        ],
    )
    def test_malformed(self, bad: bytes) -> None:
        """What is no GeneralNames is malformed."""
        with pytest.raises(Malformed):
            names.read_general_names(bad)

    def test_limit(self) -> None:
        """1000 names pass, 1001 and 10,000 do not."""
        one = der.tlv(0x82, b"a")
        read = names.read_general_names(der.sequence(one * 1000))
        assert len(read) == 1000
        for count in (1001, 10000):
            with pytest.raises(TooLarge):
                names.read_general_names(der.sequence(one * count))

    @pytest.mark.parametrize(
        "bad",
        [
            GeneralName("dns", "ü.example"),
            GeneralName("ip", "1.2.3"),
            GeneralName("ip", "xyz"),
            GeneralName("nonsense", "a"),
        ],
    )
    def test_names_that_cannot_be_written(self, bad: GeneralName) -> None:
        """Text that does not fit its kind is an error, never a guess."""
        with pytest.raises(ValueError):
            names.encode_general_names([bad])

    @given(st.binary(max_size=64))
    @settings(derandomize=True, deadline=None)
    def test_random_octets(self, octets: bytes) -> None:
        """Random octets are read or refused."""
        outcome = refusal(names.read_general_names, der.sequence(octets))
        assert outcome in {None, "Malformed"}

    @given(
        st.lists(
            st.one_of(
                st.builds(
                    GeneralName,
                    st.sampled_from(["dns", "email", "uri"]),
                    st.text(st.characters(codec="ascii"), max_size=30),
                ),
                st.builds(GeneralName, st.just("upn"), TEXTS),
                st.ip_addresses().map(
                    lambda address: GeneralName(
                        "ip", names._address_text(address.packed)
                    )
                ),
            ),
            min_size=1,
            max_size=5,
        ).map(tuple)
    )
    @settings(derandomize=True, deadline=None)
    def test_round_trip(self, some: tuple[GeneralName, ...]) -> None:
        """Reading inverts writing."""
        encoded = names.encode_general_names(some)
        der.check(encoded)
        assert some == names.read_general_names(encoded)
