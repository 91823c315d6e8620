# SPDX-License-Identifier: MIT
"""EST's bodies: RFC 7030 as RFC 8951 clarifies it, and what clients send."""

from __future__ import annotations

import base64
import binascii

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trstctl.errors import Malformed
from trstctl.pkix.cms import read_certs_only
from trstctl.protocols.est.codec import (
    decode_request_body,
    encode_base64,
    encode_certificates,
)
from trstctl.testing import make_authority, make_csr

CSR = make_csr("device.example", ("dns:device.example",))
B64 = base64.b64encode(CSR)


def wrapped(end: bytes, width: int = 64) -> bytes:
    """Return the request in lines."""
    return b"".join(
        B64[at : at + width] + end for at in range(0, len(B64), width)
    )


def pem(label: bytes = b"CERTIFICATE REQUEST", end: bytes = b"\n") -> bytes:
    """Return the request in PEM armour."""
    return (
        b"-----BEGIN %s-----" % label
        + end
        + (wrapped(end) if end else B64)
        + b"-----END %s-----" % label
        + end
    )


PLAIN = {
    "one line (strongSwan)": B64,
    "lines of 64 (libest)": wrapped(b"\n"),
    "lines of 64, CRLF": wrapped(b"\r\n"),
    "lines of 76, CRLF (MIME)": wrapped(b"\r\n", 76),
    "line end at the end": B64 + b"\r\n",
    "white space around": b" \t\r\n" + B64 + b" \t\r\n\r\n",
    "white space within": b"\t ".join(bytes((one,)) for one in B64),
}

LENIENT = {
    "PEM": pem(),
    "PEM, CRLF": pem(end=b"\r\n"),
    "PEM in one line (curl --data)": pem(end=b""),
    "PEM of Microsoft": pem(b"NEW CERTIFICATE REQUEST"),
    "PEM after text (openssl req -text)": b"Data:\n" * 200 + pem(),
    "DER": CSR,
}

WRONG = {
    "nothing": b"",
    "white space only": b" \r\n\t",
    "URL alphabet": b"-_" + B64[2:],
    "no padding": base64.b64encode(b"a").rstrip(b"="),
    "padding in the middle": b"TQ==" + B64,
    "padding first": b"=" + B64,
    "junk behind": B64 + b"!",
    "junk behind the padding": b"TQ==TQ==",
    "vertical tab": B64[:8] + b"\x0b" + B64[8:],
    "NUL": B64[:8] + b"\x00" + B64[8:],
    "eight bits": b"\xff" + B64,
    "quoted": b'"' + B64 + b'"',
    "form": b"csr=" + B64,
    "PEM without its end": pem().partition(b"-----END")[0],
    "two PEM requests": pem() + pem(),
    "PEM of a certificate": pem(b"CERTIFICATE"),
    "PEM of nothing in base64": pem().replace(b"M", b"*"),
}


class DecodeTests:
    """The request body."""

    @pytest.mark.parametrize("form", PLAIN)
    @pytest.mark.parametrize("lenient", [True, False])
    def test_base64_in_any_lines(self, form: str, lenient: bool) -> None:
        """RFC 8951, section 3.1: white space is tolerated."""
        assert CSR == decode_request_body(PLAIN[form], lenient=lenient)

    @pytest.mark.parametrize("form", LENIENT)
    def test_other_forms_when_lenient(self, form: str) -> None:
        """PEM and DER bodies pass by default, as with other CAs."""
        assert CSR == decode_request_body(LENIENT[form], lenient=True)

    @pytest.mark.parametrize("form", LENIENT)
    def test_other_forms_when_strict(self, form: str) -> None:
        """``lenient: false`` takes base64 only."""
        with pytest.raises(Malformed):
            decode_request_body(LENIENT[form], lenient=False)

    @pytest.mark.parametrize("form", WRONG)
    @pytest.mark.parametrize("lenient", [True, False])
    def test_what_is_none_of_them(self, form: str, lenient: bool) -> None:
        """What is not base64 is refused, not repaired (security, 3.3)."""
        with pytest.raises(Malformed):
            decode_request_body(WRONG[form], lenient=lenient)

    def test_text_that_begins_like_der(self) -> None:
        """A "0" is the octet of a SEQUENCE, but not in base64 of one."""
        with pytest.raises(Malformed):
            decode_request_body(b"0000", lenient=True)

    @settings(derandomize=True, deadline=None, max_examples=300)
    @given(body=st.binary(max_size=300), lenient=st.booleans())
    def test_any_octets(self, body: bytes, lenient: bool) -> None:
        """R-5: any body decodes or is malformed, and nothing else."""
        try:
            found = decode_request_body(body, lenient=lenient)
        except Malformed:
            return
        compact = body.translate(None, b" \t\r\n")
        assert found in (body, binascii.a2b_base64(compact))

    @settings(derandomize=True, deadline=None, max_examples=300)
    @given(
        der=st.binary(min_size=1, max_size=300),
        width=st.integers(1, 100),
        end=st.text(alphabet=" \t\r\n", max_size=3),
        lenient=st.booleans(),
    )
    def test_any_lines(
        self, der: bytes, width: int, end: str, lenient: bool
    ) -> None:
        """Whatever was encoded comes back, however it was wrapped."""
        text = base64.b64encode(der)
        lines = [text[at : at + width] for at in range(0, len(text), width)]
        body = end.encode().join(lines) + end.encode()
        if lenient and body.startswith(b"0"):
            with pytest.raises(Malformed):
                decode_request_body(body, lenient=lenient)
        else:
            assert der == decode_request_body(body, lenient=lenient)

    def test_corrupted_base64(self) -> None:
        """R-5: each single wrong octet decodes or is malformed."""
        for at in range(len(B64)):
            for octet in (0, 0x20, 0x3D, 0x41, 0xFF):
                body = B64[:at] + bytes((octet,)) + B64[at + 1 :]
                try:
                    decode_request_body(body, lenient=True)
                except Malformed:
                    continue


class EncodeTests:
    """The answer's base64."""

    def test_single_line(self) -> None:
        """strongSwan before 5.9.11 reads one unbroken line only."""
        text = encode_base64(CSR, single_line=True)
        assert B64 == text

    @pytest.mark.parametrize("octets", [0, 1, 47, 48, 49, 96, 1000])
    def test_wrapped(self, octets: int) -> None:
        """libest reads lines of at most 64 characters, each ended."""
        data = bytes(octets)
        text = encode_base64(data, single_line=False)
        lines = text.split(b"\n")
        assert b"" == lines.pop()
        assert all(len(line) == 64 for line in lines[:-1])
        assert all(0 < len(line) <= 64 for line in lines)
        assert data == base64.b64decode(text)

    @pytest.mark.parametrize("single_line", [True, False])
    def test_certificates(self, single_line: bool) -> None:
        """RFC 7030, section 4.1.3: a certs-only message, in order."""
        chain = make_authority().chain
        text = encode_certificates(chain, single_line=single_line)
        assert chain == read_certs_only(base64.b64decode(text))
