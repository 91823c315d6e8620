# SPDX-License-Identifier: MIT
"""The walk before every parser, the reader and the writers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pkix_samples import (
    corruptions,
    ed25519_csr,
    p256_csr,
    refusal,
    rsa_csr,
)
from pyasn1.codec.der import encoder
from pyasn1.type import univ

from trstctl.errors import Malformed, TooLarge
from trstctl.pkix import der

NULL = b"\x05\x00"

WELL_FORMED = {
    "null": NULL,
    "empty sequence": b"\x30\x00",
    "empty sequence in a sequence": b"\x30\x02\x30\x00",
    "true": b"\x01\x01\xff",
    "false": b"\x01\x01\x00",
    "zero": b"\x02\x01\x00",
    "128": b"\x02\x02\x00\x80",
    "-129": b"\x02\x02\xff\x7f",
    "enumerated": b"\x0a\x01\x05",
    "huge allowed integer": der.tlv(2, b"\x01" * 1100),
    "empty bit string": b"\x03\x01\x00",
    "three bits": b"\x03\x02\x05\xa0",
    "oid": b"\x06\x03\x55\x04\x03",
    "oid with an arc of five octets": b"\x06\x06\x2a\x8f\xff\xff\xff\x7f",
    "oid of 64 octets": der.tlv(6, b"\x2a" * 64),
    "utf8": b"\x0c\x01a",
    "bmp": b"\x1e\x02\x00a",
    "utctime": b"\x17\x00",
    "context primitive": b"\x82\x01a",
    "context constructed": b"\xa3\x02\x05\x00",
    "application": b"\x41\x01a",
    "private": b"\xc1\x01a",
    "length in one more octet": der.tlv(4, bytes(128)),
    "length in two more octets": der.tlv(4, bytes(256)),
    "octet string that holds no DER": b"\x04\x02\x30\x84",
}

MALFORMED = {
    "nothing": b"",
    "a tag only": b"\x30",
    "a truncated length": b"\x30\x82\x01",
    "a missing length": b"\x30\x84",
    "a missing content": b"\x04\x02a",
    "trailing octets": NULL + b"\x00",
    "trailing octets after a sequence": b"\x30\x02\x05\x00\x05\x00",
    "two values": NULL + NULL,
    "a value that ends after its container": b"\x30\x03\x04\x02a",
    "... though the next one has octets": (
        b"\x30\x07\x30\x02\x04\x02\x04\x01a"
    ),
    "a length cut by the container": b"\x30\x03\x30\x01\x04",
    "indefinite length": b"\x30\x80\x05\x00\x00\x00",
    "a length of five octets": b"\x04\x85\x01\x00\x00\x00\x00",
    "4 GiB": b"\x04\x84\xff\xff\xff\xff",
    "reserved length ff": b"\x04\xff",
    "long form of a short length": b"\x04\x81\x01a",
    "two octets for one": b"\x04\x82\x00\x80" + bytes(128),
    "three octets for two": b"\x04\x83\x00\x01\x00" + bytes(256),
    "a long tag": b"\x1f\x81\x01\x00",
    "a long context tag": b"\xbf\x81\x01\x00",
    "a long private tag": b"\xff\x01\x00",
    "end of contents": b"\x00\x00",
    "constructed boolean": b"\x21\x03\x01\x01\xff",
    "constructed integer": b"\x22\x03\x02\x01\x01",
    "constructed bit string": b"\x23\x03\x03\x01\x00",
    "constructed octet string": b"\x24\x03\x04\x01a",
    "constructed utf8": b"\x2c\x03\x0c\x01a",
    "primitive sequence": b"\x10\x00",
    "primitive set": b"\x11\x00",
    "object descriptor": b"\x07\x01a",
    "external": b"\x28\x00",
    "real": b"\x09\x01\x40",
    "embedded pdv": b"\x2b\x00",
    "relative oid": b"\x0d\x01\x01",
    "time": b"\x0e\x01a",
    "reserved 15": b"\x0f\x01a",
    "empty boolean": b"\x01\x00",
    "boolean 1": b"\x01\x01\x01",
    "boolean of two octets": b"\x01\x02\xff\xff",
    "empty integer": b"\x02\x00",
    "padded integer": b"\x02\x02\x00\x7f",
    "padded negative integer": b"\x02\x02\xff\x80",
    "huge integer": der.tlv(2, b"\x01" * 1101),
    "null with content": b"\x05\x01\x00",
    "bit string without octets": b"\x03\x00",
    "eight unused bits": b"\x03\x02\x08\x00",
    "unused bits of nothing": b"\x03\x01\x01",
    "unused bits that are set": b"\x03\x02\x01\x01",
    "empty oid": b"\x06\x00",
    "oid of 65 octets": der.tlv(6, b"\x2a" * 65),
    "oid of a megabyte": der.tlv(6, b"\x2a" * 60000),
    "oid without an end": b"\x06\x02\x2a\x86",
    "oid with a padded arc": b"\x06\x03\x2a\x80\x01",
    "oid with an arc of six octets": (b"\x06\x07\x2a\x8f\xff\xff\xff\xff\x7f"),
}


def nested(depth: int) -> bytes:
    """Return an empty value inside so many sequences."""
    value = NULL
    for _ in range(depth):
        value = der.sequence(value)
    return value


class WalkTests:
    """``check`` (X.690, sections 8 and 10)."""

    @pytest.mark.parametrize("name", WELL_FORMED)
    def test_accepts_der(self, name: str) -> None:
        """What is DER and moderate passes."""
        assert refusal(der.check, WELL_FORMED[name]) is None

    @pytest.mark.parametrize("name", MALFORMED)
    def test_refuses_what_is_not_der(self, name: str) -> None:
        """What is not DER, or no sane DER, is malformed (R-5)."""
        assert refusal(der.check, MALFORMED[name]) == "Malformed"

    @pytest.mark.parametrize("name", MALFORMED)
    def test_refuses_it_inside_other_values(self, name: str) -> None:
        """The same holds at any depth, where one value is expected."""
        inside = der.sequence(NULL, der.explicit(1, MALFORMED[name]))
        several = {"nothing", "two values", "trailing octets after a sequence"}
        expected = None if name in several else "Malformed"
        assert expected == refusal(der.check, inside)

    def test_every_truncated_length_at_every_offset(self) -> None:
        """No first length octet makes the walk read beyond the end."""
        for offset in range(8):
            for octet in range(0x80, 0x100):
                data = b"\x30" * offset + b"\x30" + bytes((octet,))
                assert refusal(der.check, data) == "Malformed"

    def test_depth_limit(self) -> None:
        """32 constructed values inside one another pass, 33 do not."""
        assert refusal(der.check, nested(32)) is None
        assert refusal(der.check, nested(33)) == "Malformed"
        assert refusal(der.check, nested(3), max_depth=2) == "Malformed"

    def test_deep_bomb_is_refused_at_the_limit(self) -> None:
        """100,000 levels end at the 33rd, without recursion."""
        bomb = nested(20000)
        with pytest.raises(Malformed) as caught:
            der.check(bomb, max_bytes=len(bomb))
        assert caught.value.detail == "not DER: nested too deeply"

    def test_node_limit(self) -> None:
        """4096 values pass, one more does not."""
        assert refusal(der.check, der.sequence(NULL * 4095)) is None
        assert refusal(der.check, der.sequence(NULL * 4096)) == "Malformed"
        small = der.sequence(NULL * 3)
        assert refusal(der.check, small, max_nodes=4) is None
        assert refusal(der.check, small, max_nodes=3) == "Malformed"

    def test_node_bomb_is_not_walked_to_its_end(self) -> None:
        """What comes after the 4096th value is not looked at."""
        bomb = der.sequence(NULL * 30000 + b"\xff\xff")
        assert refusal(der.check, bomb) == "Malformed"

    def test_size_limit(self) -> None:
        """One octet too many is refused before anything is read."""
        data = der.octet_string(bytes(65532))
        assert len(data) == 65536
        assert refusal(der.check, data) is None
        assert refusal(der.check, b"\xff" * 65537) == "TooLarge"
        assert refusal(der.check, NULL, max_bytes=1) == "TooLarge"

    def test_strings_are_opaque(self) -> None:
        """What is inside an OCTET STRING is the caller's to check."""
        bomb = nested(100)
        assert refusal(der.check, der.octet_string(bomb)) is None
        assert refusal(der.check, der.bit_string(bomb)) is None

    @pytest.mark.parametrize("make", [p256_csr, rsa_csr, ed25519_csr])
    def test_corrupted_requests(self, make: object) -> None:
        """Any corruption passes or is refused; nothing else happens."""
        data = make()  # type: ignore[operator]
        assert refusal(der.check, data) is None
        outcomes = {refusal(der.check, bad) for bad in corruptions(data)}
        assert outcomes <= {None, "Malformed", "TooLarge"}
        prefixes = {refusal(der.check, data[:n]) for n in range(len(data))}
        assert prefixes == {"Malformed"}

    @given(st.binary(max_size=300))
    @settings(derandomize=True, deadline=None)
    def test_random_octets(self, data: bytes) -> None:
        """Random octets pass or are refused."""
        refusal(der.check, data)


LEAVES = st.sampled_from([*WELL_FORMED.values(), *MALFORMED.values()])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda tag, parts: der.tlv(tag, b"".join(parts)),
        st.sampled_from([0x30, 0x31, 0xA0, 0xA3, 0x24, 0x04]),
        st.lists(inner, max_size=4),
    ),
    max_leaves=12,
)


def rebuild(data: bytes) -> bytes:
    """Take DER apart and write it anew."""
    return b"".join(
        der.tlv(tag, rebuild(value) if tag & 0x20 else value)
        for tag, value, _ in der.children(data)
    )


class ReaderTests:
    """``children``, ``content`` and ``oid_text``."""

    def test_children(self) -> None:
        """Each value comes with tag, content and whole."""
        data = NULL + der.octet_string(bytes(200))
        assert [
            (0x05, b"", NULL),
            (0x04, bytes(200), data[2:]),
        ] == der.children(data)
        assert der.children(b"") == []

    @pytest.mark.parametrize(
        "data",
        [b"\x30", b"\x04\x02a", b"\x04\x82\x01", b"\x30\x80\x00\x00"],
    )
    def test_children_of_what_was_not_checked(self, data: bytes) -> None:
        """Lengths that do not fit are refused even without the walk."""
        with pytest.raises(Malformed):
            der.children(data)

    def test_content(self) -> None:
        """Exactly one value, of the expected type."""
        assert der.content(b"\x30\x02\x05\x00", der.SEQUENCE) == NULL
        for data in (b"", NULL, b"\x30\x00\x30\x00"):
            with pytest.raises(Malformed):
                der.content(data, der.SEQUENCE)

    def test_end_of(self) -> None:
        """Values can be counted one by one."""
        data = NULL + der.octet_string(bytes(200)) + b"\x04\x05abc"
        assert 2 == der.end_of(data, 0)
        assert 2 + 203 == der.end_of(data, 2)
        for at in (205, len(data), len(data) - 1):
            with pytest.raises(Malformed):
                der.end_of(data, at)
        for broken in (b"", b"\x30", b"\x04\x82\x01", b"\x30\x80\x00\x00"):
            with pytest.raises(Malformed):
                der.end_of(broken, 0)

    def test_fields(self) -> None:
        """Optional fields come in their order, each once."""
        tags = bytes((0x80, 0x02, 0xA0))
        first, second = der.tlv(0x80, b"a"), der.integer(1)
        assert {} == der.fields([], tags)
        assert {0x80: b"a", 0x02: b"\x01"} == der.fields(
            der.children(first + second), tags
        )
        for wrong in (second + first, first + first, first + NULL):
            with pytest.raises(Malformed):
                der.fields(der.children(wrong), tags)

    @given(VALUES)
    @settings(derandomize=True, deadline=None)
    def test_what_passes_has_one_encoding(self, data: bytes) -> None:
        """Writing anew what was read gives the same octets: it was DER."""
        if refusal(der.check, data) is None:
            assert data == rebuild(data)

    @pytest.mark.parametrize(
        ("dotted", "octets"),
        [
            ("0.9.2342", "09 92 26"),
            ("1.2.840.113549", "2a 86 48 86 f7 0d"),
            ("2.5.4.3", "55 04 03"),
            ("2.999.1", "88 37 01"),
            ("2.39", "77"),
            ("1.39", "4f"),
        ],
    )
    def test_object_identifiers(self, dotted: str, octets: str) -> None:
        """Both ways, with the shared first number (section 8.19.4)."""
        value = bytes.fromhex(octets)
        assert dotted == der.oid_text(value)
        assert der.tlv(6, value) == der.oid(dotted)

    @pytest.mark.parametrize("octets", [b"", b"\x2a\x86"])
    def test_broken_object_identifiers(self, octets: bytes) -> None:
        """An arc that does not end is refused."""
        with pytest.raises(Malformed):
            der.oid_text(octets)


class WriterTests:
    """The writers, against pyasn1's encoder."""

    @given(st.integers(min_value=0, max_value=1 << 80))
    @settings(derandomize=True, deadline=None)
    def test_integer(self, number: int) -> None:
        """An INTEGER has the fewest octets (section 8.3.2)."""
        assert encoder.encode(univ.Integer(number)) == der.integer(number)
        der.check(der.integer(number))

    @pytest.mark.parametrize(
        ("number", "octets"),
        [
            (0, "00"),
            (127, "7f"),
            (128, "0080"),
            (255, "00ff"),
            (256, "0100"),
            (-1, "ff"),
            (-128, "80"),
            (-129, "ff7f"),
        ],
    )
    def test_integer_boundaries(self, number: int, octets: str) -> None:
        """The sign bit costs an octet exactly where it must."""
        assert der.tlv(2, bytes.fromhex(octets)) == der.integer(number)

    @given(
        st.integers(0, 2),
        st.integers(0, 39),
        st.lists(st.integers(0, 1 << 34), max_size=8),
    )
    @settings(derandomize=True, deadline=None)
    def test_oid(self, first: int, second: int, rest: list[int]) -> None:
        """An OBJECT IDENTIFIER of any arcs."""
        dotted = ".".join(map(str, (first, second, *rest)))
        encoded = der.oid(dotted)
        assert encoder.encode(univ.ObjectIdentifier(dotted)) == encoded
        assert dotted == der.oid_text(der.content(encoded, 6))

    @pytest.mark.parametrize(
        "dotted", ["", "1", "3.1", "1.40", "1.2.x", "1.2.-3", "1.2.03", "1..2"]
    )
    def test_no_oid(self, dotted: str) -> None:
        """Text that is no object identifier is refused."""
        with pytest.raises(ValueError):
            der.oid(dotted)

    @pytest.mark.parametrize("size", [0, 127, 128, 255, 256, 65535, 65536])
    def test_lengths(self, size: int) -> None:
        """The length is written in its shortest form (section 10.1)."""
        value = bytes(size)
        expected = encoder.encode(univ.OctetString(value))
        assert expected == der.octet_string(value)

    def test_simple_values(self) -> None:
        """BOOLEAN, BIT STRING, explicit tags, SEQUENCE."""
        assert encoder.encode(univ.Boolean(True)) == der.boolean(True)
        assert encoder.encode(univ.Boolean(False)) == der.boolean(False)
        bits = univ.BitString(hexValue="0102")
        assert encoder.encode(bits) == der.bit_string(b"\x01\x02")
        assert bytes.fromhex("a302 0500") == der.explicit(3, NULL)
        assert bytes.fromhex("3004 0500 0500") == der.sequence(NULL, NULL)

    def test_set_of_is_sorted(self) -> None:
        """A SET OF is in ascending order (section 11.6)."""
        one, two = der.integer(1), der.integer(2)
        assert der.tlv(0x31, one + two) == der.set_of(two, one)


def test_too_large_and_malformed_are_told_apart() -> None:
    """Sizes and counts are ``TooLarge``, the rest is ``Malformed``."""
    with pytest.raises(TooLarge):
        der.check(bytes(10), max_bytes=9)
    with pytest.raises(Malformed):
        der.check(bytes(10))
