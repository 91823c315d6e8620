# SPDX-License-Identifier: MIT
"""BER in, DER out (X.690)."""

from __future__ import annotations

from time import process_time

import cms_vectors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pkix_samples import corruptions, ed25519_csr, p256_csr, refusal, rsa_csr

from trstctl.errors import Malformed, RequestError, TooLarge
from trstctl.pkix import der
from trstctl.pkix.ber import as_der, to_der

# A value: a tag and content octets, or a tag and values.
PRIMITIVE = st.tuples(
    st.sampled_from([0x04, 0x0C, 0x13, 0x80, 0x81]), st.binary(max_size=300)
)
VALUES = st.recursive(
    PRIMITIVE,
    lambda inner: st.tuples(
        st.sampled_from([0x30, 0x31, 0xA0, 0xA3]),
        st.lists(inner, max_size=4),
    ),
    max_leaves=20,
)


def encode(value) -> bytes:
    """Return the DER of a value."""
    tag, content = value
    if isinstance(content, bytes):
        return der.tlv(tag, content)
    return der.tlv(tag, b"".join(map(encode, content)))


def length(octets: int, draw) -> bytes:
    """Return a definite length in some form, not always the shortest."""
    needed = (octets.bit_length() + 7) // 8 or 1
    form = draw(st.integers(0 if octets < 0x80 else needed, 4))
    if form == 0:
        return bytes((octets,))
    form = max(form, needed)
    return bytes((0x80 | form,)) + octets.to_bytes(form, "big")


def encode_sloppily(value, draw, pieces=2) -> bytes:
    """Return some BER of a value."""
    tag, content = value
    if isinstance(content, list):
        octets = b"".join(
            encode_sloppily(each, draw, pieces) for each in content
        )
    elif tag == 0x04 and pieces and draw(st.booleans()):
        cut = draw(st.integers(0, len(content)))
        octets = b"".join(
            encode_sloppily((0x04, piece), draw, pieces - 1)
            for piece in (content[:cut], content[cut:])
        )
        tag = 0x24
    else:
        return bytes((tag,)) + length(len(content), draw) + content
    if draw(st.booleans()):
        return bytes((tag, 0x80)) + octets + b"\0\0"
    return bytes((tag,)) + length(len(octets), draw) + octets


@st.composite
def sloppy(draw) -> tuple[bytes, bytes]:
    """Return the DER and some BER of one value."""
    value = draw(VALUES)
    return encode(value), encode_sloppily(value, draw)


class ToDERTests:
    """``to_der`` and ``as_der``."""

    @given(VALUES)
    def test_der_is_left_alone(self, value) -> None:
        """DER comes back octet for octet."""
        data = encode(value)
        assert data == to_der(data)

    @pytest.mark.parametrize("make", [rsa_csr, p256_csr, ed25519_csr])
    def test_requests_are_left_alone(self, make) -> None:
        """So do requests with everything in them."""
        data = make()
        assert data == to_der(data)
        assert data is as_der(data)

    @given(sloppy())
    def test_forms(self, pair) -> None:
        """Every form of a value becomes its one DER encoding."""
        data, sloppily = pair
        assert data == to_der(sloppily)

    def test_vector(self) -> None:
        """Indefinite lengths, pieces of pieces, an explicit tag."""
        data = bytes.fromhex(
            "3080 020105 2480 0401aa 2404 0402bbcc 0000a080 0401dd 0000 0000"
        )
        expected = bytes.fromhex("300d 020105 0403aabbcc a003 0401dd")
        assert expected == to_der(data) == as_der(data)

    def test_sets_stay_as_they_are(self) -> None:
        """The order in a SET OF is what the signer signed."""
        data = bytes.fromhex("3180 020102 020101 0000")
        assert bytes.fromhex("3106 020102 020101") == to_der(data)

    @pytest.mark.parametrize(
        "name",
        [
            "STREAM",
            "STREAMED",
            "BOUNCY_CASTLE",
            "BOUNCY_CASTLE_ENVELOPE",
            "BOUNCY_CASTLE_STREAM",
        ],
    )
    def test_clients(self, name) -> None:
        """What toolkits send is no DER, and then it is."""
        data = getattr(cms_vectors, name)
        assert refusal(der.check, data) == "Malformed"
        assert refusal(der.check, as_der(data)) is None

    @pytest.mark.parametrize(
        "bad",
        [
            "",
            "30",
            "3080",
            "3080 00",
            "0000",  # an end of nothing
            "3000 00",  # trailing octets
            "3000 3000",
            "3080 0000 0000",
            "0480 0000",  # primitive and indefinite
            "3002 0000",  # an end of a definite one
            "3080 0001 00 0000",  # an end with content
            "3003 3080 00 00",  # an end beyond its container
            "3002 0481",
            "3003 048205",
            "3081",
            "3084 00000001",
            "3085 0000000000",
            "30ff",
            "3002 0401",
            "3080 0405 0000",
            "1f01 00",  # a tag of two octets
            "3f1f 00",
            "2480 0c0100 0000",  # a piece that is no octet string
            "2480 3000 0000",
        ],
    )
    def test_refused(self, bad) -> None:
        """What is no BER, or none that anybody sends."""
        assert refusal(to_der, bytes.fromhex(bad)) == "Malformed"
        assert refusal(as_der, bytes.fromhex(bad)) == "Malformed"

    @pytest.mark.parametrize(
        "bad",
        [
            "2380 03020000 0000",  # a bit string in pieces
            "2c80 0c0141 0000",  # text in pieces
            "3080 02020001 0000",  # an integer not in its shortest form
        ],
    )
    def test_result_is_checked(self, bad) -> None:
        """What only the lengths of are put right is refused."""
        to_der(bytes.fromhex(bad))
        assert refusal(as_der, bytes.fromhex(bad)) == "Malformed"

    @pytest.mark.parametrize("function", [to_der, as_der])
    def test_bounds(self, function) -> None:
        """Octets, depth and values are limited, each to the last one."""
        data = bytes.fromhex("3080 0500 3080 0500 0000 0000")
        limits = {"max_bytes": 12, "max_depth": 2, "max_nodes": 6}
        assert function(data, **limits) == bytes.fromhex("3006 0500 3002 0500")
        with pytest.raises(TooLarge):
            function(data, **{**limits, "max_bytes": 11})
        for limit in ("max_depth", "max_nodes"):
            with pytest.raises(Malformed):
                function(data, **{**limits, limit: limits[limit] - 1})

    @pytest.mark.parametrize(
        "bomb",
        [
            b"\x30\x80" * 32768,
            b"\x24\x80" * 32768,
            (b"\x24\x80" * 31 + b"\x04\x00" + b"\0\0" * 31) * 500,
            b"\x30\x80" + b"\x05\x00" * 32000,
            b"\x24\x80" + b"\x04\x84\0\0\0\0" * 10000,
        ],
    )
    def test_bombs(self, bomb) -> None:
        """No 64 KiB take more than 50 ms."""
        before = process_time()
        assert refusal(as_der, bomb) in {"Malformed", "TooLarge"}
        assert process_time() - before < 0.05

    def test_corruption(self) -> None:
        """Every prefix and changed octet is read or refused."""
        for data in corruptions(cms_vectors.BOUNCY_CASTLE_STREAM):
            refusal(as_der, data)

    @settings(max_examples=500)
    @given(st.binary(max_size=64))
    def test_noise(self, data) -> None:
        """Whatever comes is read or refused, and the result is DER."""
        try:
            found = as_der(data)
        except RequestError:
            return
        der.check(found)
        assert found == to_der(found)
