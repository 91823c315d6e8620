# SPDX-License-Identifier: MIT
"""The bootstrap's bodies: one flat object, and nothing else."""

from __future__ import annotations

import base64
import json
import time
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from trstctl.errors import Malformed
from trstctl.model import (
    MintedSecret,
    OneTimeSecret,
    SecretOrder,
    SecretState,
)
from trstctl.protocols.bootstrap.codec import (
    MAX_BODY,
    MAX_PAGE,
    MAX_TOKEN,
    decode_bootstrap,
    decode_order,
    decode_page,
    decode_renewal,
    encode_object,
    encode_pem,
    minted_object,
    secret_object,
)
from trstctl.testing import EPOCH, TENANT, make_authority, make_csr

CSR = make_csr("device.example")
B64 = base64.b64encode(CSR).decode()
PEM = x509.load_der_x509_csr(CSR).public_bytes(Encoding.PEM).decode()


def body(**fields: object) -> bytes:
    """Return a good body, but for what is given."""
    return json.dumps({"token": "t", "csr": B64, **fields}).encode()


def raw(csr: str) -> bytes:
    """Return what a shell makes: the text as it is, between quotes."""
    return f'{{"token":"t","csr":"{csr}"}}'.encode()


class RequestTests:
    """What devices send."""

    @pytest.mark.parametrize(
        "csr",
        [
            B64,
            base64.encodebytes(CSR).decode(),
            base64.encodebytes(CSR).decode().replace("\n", "\r\n"),
            PEM,
            PEM.replace("\n", "\r\n"),
            PEM.replace("\n", ""),
            "a line before\n" + PEM,
        ],
    )
    def test_forms(self, csr: str) -> None:
        """Base64, in lines or not, and PEM; escaped or as it is."""
        assert ("t", CSR) == decode_bootstrap(body(csr=csr))
        assert ("t", CSR) == decode_bootstrap(raw(csr))
        renewal = json.dumps({"csr": csr}).encode()
        assert (CSR, False) == decode_renewal(renewal)

    def test_white_space_and_order(self) -> None:
        """JSON's own freedom stays."""
        text = f' {{\n "csr" : "{B64}" ,\t"token":"t" }}\r\n'
        assert ("t", CSR) == decode_bootstrap(text.encode())

    def test_content_is_not_looked_into(self) -> None:
        """Whether it is a request is for the reader of requests to say."""
        assert ("t", b"\0\0\0") == decode_bootstrap(body(csr="AAAA"))

    @pytest.mark.parametrize(
        "cms",
        [
            "AAEC",
            " AA\nEC\r\n",
            "-----BEGIN CMS-----\nAAEC\n-----END CMS-----\n",
            "\n-----BEGIN PKCS7-----AAEC-----END PKCS7----- ",
        ],
    )
    def test_signed_renewal(self, cms: str) -> None:
        """The same forms; RFC 7468, section 9, and the older label."""
        expected = (b"\0\1\2", True)
        assert expected == decode_renewal(json.dumps({"cms": cms}).encode())
        assert expected == decode_renewal(f'{{"cms":"{cms}"}}'.encode())

    @pytest.mark.parametrize("token", ["x", "~ !", "x" * MAX_TOKEN])
    def test_tokens(self, token: str) -> None:
        """Any printable ASCII."""
        assert token == decode_bootstrap(body(token=token))[0]


BAD = {
    "nothing": b"",
    "no JSON": b"token=t&csr=x",
    "cut off": body()[:-1],
    "two objects": body() + body(),
    "something behind": body() + b"x",
    "a text": b'"token"',
    "a number": b"7",
    "a list": b"[]",
    "a list of it": b"[" + body() + b"]",
    "null": b"null",
    "no object": b"{}",
    "no csr": b'{"token": "t"}',
    "no token": json.dumps({"csr": B64}).encode(),
    "unknown key": body(more="x"),
    "key in capitals": json.dumps({"Token": "t", "csr": B64}).encode(),
    "token twice": b'{"token":"a",' + body()[1:],
    "csr twice": b'{"csr":"AAAA",' + body()[1:],
    "token is null": body(token=None),
    "token is a number": body(token=7),
    "token is true": body(token=True),
    "token is a list": body(token=["t"]),
    "token is an object": body(token={"t": "t"}),
    "token is empty": body(token=""),
    "token is long": body(token="x" * (MAX_TOKEN + 1)),
    "token is not ASCII": body(token="\xe4"),
    "token is half a character": body(token="\ud800"),
    "token has a line break": body(token="t\n"),
    "NaN": b'{"token":NaN,"csr":"AAAA"}',
    "Infinity": b'{"token":-Infinity,"csr":"AAAA"}',
    "a long number": b'{"token":%s,"csr":"AAAA"}' % (b"9" * 60_000),
    "csr is a number": body(csr=1e3),
    "csr is empty": body(csr=""),
    "csr is white space": body(csr=" \n"),
    "csr is not base64": body(csr="!!!!"),
    "csr lacks padding": body(csr="AAA"),
    "csr is URL-safe base64": body(csr="-_-_"),
    "csr is not ASCII": body(csr="\xe4" * 4),
    "csr is half a character": body(csr="\ud800"),
    "PEM of something else": body(
        csr=PEM.replace("CERTIFICATE REQUEST", "CERTIFICATE")
    ),
    "PEM twice": body(csr=PEM + PEM),
    "not UTF-8": body() + b"\xff",
    "UTF-16": body().decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + body(),
    "NUL": body() + b"\0",
    "deep lists": b"[" * 60_000,
    "deep objects": b'{"token":' * 6_000,
    "deep in a value": b'{"token":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "too large": body(csr=B64 + " " * MAX_BODY),
}


class RefusalTests:
    """What is refused, always in the same way."""

    @pytest.mark.parametrize("octets", BAD.values(), ids=BAD)
    def test_malformed(self, octets: bytes) -> None:
        """Each is Malformed, before anything long or deep is done."""
        before = time.process_time()
        with pytest.raises(Malformed) as refused:
            decode_bootstrap(octets)
        assert time.process_time() - before < 0.25
        assert "xxxx" not in str(refused.value)

    def test_renewal_has_no_token(self) -> None:
        """A key that has no meaning here is unknown."""
        with pytest.raises(Malformed, match='"csr"'):
            decode_renewal(body())

    @pytest.mark.parametrize(
        "cms",
        [
            "",
            " ",
            "AAE",
            "-_-_",
            "\xe4",
            "\ud800",
            PEM,
            "-----BEGIN CMS-----AAEC-----END PKCS7-----",
            "-----BEGIN CMS-----AAEC",
            "x-----BEGIN CMS-----AAEC-----END CMS-----",
            2 * "-----BEGIN CMS-----AAEC-----END CMS-----",
            "-----BEGIN CMS----------END CMS-----",
            "-----BEGIN X-----AAEC-----END X-----",
            7,
            None,
        ],
    )
    def test_no_signed_renewal(self, cms: object) -> None:
        """What is neither base64 nor one message in PEM."""
        with pytest.raises(Malformed, match="cms"):
            decode_renewal(json.dumps({"cms": cms}).encode())

    def test_signed_or_not(self) -> None:
        """One of the two, and nothing else."""
        for fields in ({"cms": "AAEC", "csr": B64}, {"cms": "AA", "x": ""}):
            with pytest.raises(Malformed, match='"csr", or "cms"'):
                decode_renewal(json.dumps(fields).encode())
        with pytest.raises(Malformed):
            decode_bootstrap(json.dumps({"token": "t", "cms": B64}).encode())

    @given(st.binary(max_size=300))
    @settings(deadline=None, derandomize=True)
    def test_any_octets(self, octets: bytes) -> None:
        """Whatever comes, it is Malformed and no other error."""
        for decode in (decode_bootstrap, decode_renewal):
            with pytest.raises(Malformed):
                decode(octets)

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.floats()
            | st.text()
            | st.integers(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.text() | st.sampled_from(["token", "csr"]), inner
                )
            ),
        )
    )
    @settings(deadline=None, derandomize=True)
    def test_any_json(self, value: Any) -> None:
        """Only two texts pass; a csr of them is base64."""
        try:
            token, csr = decode_bootstrap(json.dumps(value).encode())
        except Malformed:
            return
        assert {"token": token, "csr": value["csr"]} == value
        assert csr

    @given(st.integers(0, len(body()) - 1), st.integers(0, 255))
    @settings(deadline=None, derandomize=True)
    def test_one_octet_changed(self, place: int, octet: int) -> None:
        """A damaged body decodes or is Malformed."""
        damaged = bytearray(body())
        damaged[place] = octet
        try:
            token, _ = decode_bootstrap(bytes(damaged))
        except Malformed:
            return
        assert token

    @pytest.mark.parametrize("end", range(0, len(body()), 7))
    def test_prefixes(self, end: int) -> None:
        """No beginning of a body is one."""
        with pytest.raises(Malformed):
            decode_bootstrap(body()[:end])


class OrderTests:
    """What registrars send."""

    def test_empty(self) -> None:
        """One token of the endpoint's profile, for a day."""
        expected = SecretOrder("device", (), "", timedelta(days=1), 1)
        for octets in (b"{}", b' {"key": null}\n'):
            assert expected == decode_order(octets, "device")

    def test_whole(self) -> None:
        """Every key; a fingerprint as openssl prints it, too."""
        pairs = ":".join(["AB"] * 32)
        octets = json.dumps(
            {
                "profile": "p",
                "names": ["cn:re:[0-9]{3}", "dns:*"],
                "key": pairs,
                "expires_in": 60,
                "count": 3,
            }
        ).encode()
        assert SecretOrder(
            "p",
            ("cn:re:[0-9]{3}", "dns:*"),
            "ab" * 32,
            timedelta(seconds=60),
            3,
        ) == decode_order(octets, "device")

    @pytest.mark.parametrize(
        "octets",
        [
            b"",
            b"[]",
            b"null",
            b'"count"',
            b"count=1",
            b'{"count":1,"count":2}',
            b'{"Count":1}',
            b'{"count":0}',
            b'{"count":-1}',
            b'{"count":1.0}',
            b'{"count":1e2}',
            b'{"count":"1"}',
            b'{"count":true}',
            b'{"count":null}',
            b'{"count":NaN}',
            b'{"count":2147483649}',
            b'{"count":%s}' % (b"9" * 60_000),
            b'{"expires_in":0}',
            b'{"expires_in":"1d"}',
            b'{"profile":null}',
            b'{"profile":7}',
            b'{"names":"cn:a"}',
            b'{"names":{"cn":"a"}}',
            b'{"names":["cn:a",7]}',
            b'{"names":[["cn:a"]]}',
            b'{"names":null}',
            b'{"key":7}',
            b'{"key":["a"]}',
            b'{"names":' + b"[" * 60_000,
            b'{"count":1}\xff',
            b"{}" + b" " * MAX_BODY,
        ],
    )
    def test_malformed(self, octets: bytes) -> None:
        """Each is Malformed, before anything long or deep is done."""
        before = time.process_time()
        with pytest.raises(Malformed):
            decode_order(octets, "device")
        assert time.process_time() - before < 0.25

    @given(
        st.dictionaries(
            st.sampled_from(
                ["profile", "names", "key", "expires_in", "count", "x"]
            ),
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text()
            | st.lists(st.text() | st.integers()),
        )
    )
    @settings(deadline=None, derandomize=True)
    def test_any_object(self, value: Any) -> None:
        """It is an order, or Malformed."""
        try:
            order = decode_order(json.dumps(value).encode(), "device")
        except Malformed:
            return
        assert value.get("profile", "device") == order.profile
        assert value.get("names", []) == [*order.names]
        assert value.get("count", 1) == order.count >= 1
        assert order.life > timedelta(0)


class PageTests:
    """Which page of a listing is asked for."""

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            (b"", (None, "", MAX_PAGE)),
            (b"state=unused", (SecretState.UNUSED, "", MAX_PAGE)),
            (b"state=&after=", (None, "", MAX_PAGE)),
            (b"limit=1&after=a%2Fb", (None, "a/b", 1)),
            (
                b"after=0f&limit=100&state=burnt",
                (SecretState.BURNT, "0f", 100),
            ),
        ],
    )
    def test_good(self, query: bytes, expected: object) -> None:
        """Each part may be left out."""
        assert expected == decode_page(query)

    @pytest.mark.parametrize(
        "query",
        [
            b"&",
            b"state",
            b"state=nosuch",
            b"state=UNUSED",
            b"state=unused&state=unused",
            b"limit=0",
            b"limit=101",
            b"limit=-1",
            b"limit=x",
            b"limit=",
            b"limit=" + b"9" * 5_000,
            b"after=" + b"a" * 65,
            b"after=%00",
            b"after=%C3%A4",
            b"after=\xe4",
            b"x=1",
            b"state=unused&after=a&limit=1&x=1",
        ],
    )
    def test_malformed(self, query: bytes) -> None:
        """What is not understood is not ignored."""
        with pytest.raises(Malformed, match="the query can have"):
            decode_page(query)


class AnswerTests:
    """What devices get."""

    def test_pem(self) -> None:
        """RFC 7468, section 5: as openssl writes it, in order."""
        chain = make_authority().chain
        expected = "".join(
            x509.load_der_x509_certificate(der)
            .public_bytes(Encoding.PEM)
            .decode()
            for der in chain
        )
        assert expected == encode_pem(chain)
        assert "" == encode_pem(())

    def test_object(self) -> None:
        """One line of ASCII."""
        octets = encode_object({"reason": "\xe4\n"})
        assert b'{"reason": "\\u00e4\\n"}\n' == octets

    def test_tokens(self) -> None:
        """A new one has its secret; a known one has its state."""
        record = OneTimeSecret(
            *(TENANT, "id", "digest", "p", ("cn:a",)),
            EPOCH,
            EPOCH + timedelta(hours=1),
        )
        assert {
            "id": "id",
            "token": "t",
            "profile": "p",
            "names": ("cn:a",),
            "expires_at": "2026-06-01T13:00:00Z",
        } == minted_object(MintedSecret(record, "t"))
        known = {
            "id": "id",
            "state": "unused",
            "profile": "p",
            "names": ("cn:a",),
            "key": None,
            "created_at": "2026-06-01T12:00:00Z",
            "expires_at": "2026-06-01T13:00:00Z",
            "used_at": None,
        }
        assert known == secret_object(record, EPOCH)
        bound = evolve(record, key_fingerprint="ab")
        assert {**known, "key": "ab"} == secret_object(bound, EPOCH)
        burnt = evolve(record, burnt_at=EPOCH, burnt_for="cd")
        assert {
            **known,
            "state": "burnt",
            "key": "cd",
            "used_at": "2026-06-01T12:00:00Z",
        } == secret_object(burnt, EPOCH)
