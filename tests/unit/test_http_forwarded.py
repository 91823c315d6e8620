# SPDX-License-Identifier: MIT
"""Tests of what a proxy's fields say: certificates and addresses."""

from __future__ import annotations

import base64
from ipaddress import ip_network
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trstctl.errors import Malformed
from trstctl.http.forwarded import (
    FORMS,
    Address,
    forwarded,
    plain_address,
    read_client,
    x_forwarded_for,
)
from trstctl.model import ClientCertificate
from trstctl.pkix import der
from trstctl.testing import make_authority

CHAIN = make_authority().chain
OWN, ISSUER = CHAIN[0], CHAIN[-1]


def b64(octets: bytes) -> str:
    """Return base64 on one line."""
    return base64.b64encode(octets).decode()


def pem(*certificates: bytes) -> str:
    """Return PEM with lines of 64 characters."""
    found = ""
    for each in certificates:
        text = b64(each)
        lines = [text[at : at + 64] for at in range(0, len(text), 64)]
        found += "\n".join(
            (
                "-----BEGIN CERTIFICATE-----",
                *lines,
                "-----END CERTIFICATE-----",
                "",
            )
        )
    return found


def escaped(*certificates: bytes) -> str:
    """Return PEM as nginx writes $ssl_client_escaped_cert."""
    return quote(pem(*certificates), safe="")


#: Each form, with one certificate and with its chain.
WRITTEN = {
    "rfc9440": (f":{b64(OWN)}:", None),
    "pem": (escaped(OWN), escaped(OWN, ISSUER)),
    "base64": (b64(OWN), f"{b64(OWN)},{b64(ISSUER)}"),
    "xfcc": (
        f'By=spiffe://x/y;Hash=00;Cert="{escaped(OWN)}";Subject="CN=a,O=\\"b"',
        f'Cert="{escaped(OWN)}";Chain="{escaped(OWN, ISSUER)}"',
    ),
}


class CertificateTests:
    """RFC 9440, and what nginx, HAProxy, Traefik and Envoy write."""

    @pytest.mark.parametrize("form", FORMS)
    def test_one(self, form: str) -> None:
        """A client certificate alone."""
        found = read_client(form, WRITTEN[form][0], None)
        assert ClientCertificate(OWN) == found

    @pytest.mark.parametrize("form", ["pem", "base64", "xfcc"])
    def test_with_its_chain(self, form: str) -> None:
        """The client's own is the first."""
        value = WRITTEN[form][1]
        assert value is not None
        expected = ClientCertificate(OWN, (ISSUER,))
        assert expected == read_client(form, value, None)

    def test_client_cert_chain(self) -> None:
        """RFC 9440, section 2.3: a list in a field of its own."""
        chain = f":{b64(ISSUER)}:,\t:{b64(OWN)}:"
        found = read_client("rfc9440", f" :{b64(OWN)}: ", chain)
        assert ClientCertificate(OWN, (ISSUER, OWN)) == found
        assert ClientCertificate(OWN) == read_client(
            "rfc9440", f":{b64(OWN)}:", " "
        )

    def test_byte_sequence_without_padding(self) -> None:
        """RFC 8941, section 4.2.7: parsers should not insist on it."""
        padded = OWN + bytes(0)
        text = b64(padded).rstrip("=")
        assert ClientCertificate(OWN) == read_client(
            "rfc9440", f":{text}:", None
        )

    def test_long_chain(self) -> None:
        """Beyond eight, nothing is looked at, as in a handshake."""
        found = read_client("base64", ",".join([b64(OWN)] * 12), None)
        assert found is not None
        assert 8 == len(found.chain)

    def test_pem_on_one_line(self) -> None:
        """Apache puts a space for each end of a line."""
        value = pem(OWN).replace("\n", " ")
        assert ClientCertificate(OWN) == read_client("pem", value, None)

    def test_traefik_escapes(self) -> None:
        """Traefik 2 escapes the base64."""
        value = quote(b64(OWN), safe="")
        assert ClientCertificate(OWN) == read_client("base64", value, None)

    def test_envoy_chain_alone(self) -> None:
        """Chain has the client's own in front."""
        value = f'Chain="{escaped(OWN, ISSUER)}"'
        expected = ClientCertificate(OWN, (ISSUER,))
        assert expected == read_client("xfcc", value, None)

    def test_envoy_names(self) -> None:
        """Envoy writes a pair for each name of the certificate."""
        value = f'Cert="{escaped(OWN)}";URI=a;URI=b;DNS=c.example;DNS=d'
        assert ClientCertificate(OWN) == read_client("xfcc", value, None)

    def test_envoy_name_that_pretends(self) -> None:
        """Envoy quotes no names: one that brings pairs of its own fails."""
        for forged in ("Cert", "Chain"):
            value = (
                f'Cert="{escaped(OWN)}";Chain="{escaped(OWN)}";'
                f'DNS=x;{forged}="{escaped(ISSUER)}"'
            )
            with pytest.raises(Malformed):
                read_client("xfcc", value, None)

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("value", ["", "  "])
    def test_none(self, form: str, value: str) -> None:
        """An empty value: there was no certificate."""
        assert read_client(form, value, None) is None
        assert read_client(form, value, "") is None

    def test_chain_without_certificate(self) -> None:
        """RFC 9440, section 2.3: it MUST NOT be used then."""
        with pytest.raises(Malformed):
            read_client("rfc9440", "", f":{b64(OWN)}:")

    @pytest.mark.parametrize(
        ("form", "value"),
        [
            ("rfc9440", b64(OWN)),
            ("rfc9440", f":{b64(OWN)}"),
            ("rfc9440", f":{b64(OWN)}:;a=1"),
            ("rfc9440", f":{b64(OWN)}:, :{b64(OWN)}:"),
            ("rfc9440", "::"),
            ("rfc9440", ":A:"),
            ("rfc9440", f":{b64(b'rubbish')}:"),
            ("rfc9440", f":{b64(OWN[:-1])}:"),
            ("rfc9440", f":{b64(OWN + OWN)}:"),
            ("pem", b64(OWN)),
            ("pem", escaped(OWN)[:-9]),
            ("pem", escaped(OWN) + "x"),
            ("pem", "%zz" + escaped(OWN)),
            ("pem", escaped(OWN).replace("CERTIFICATE", "X509 CRL")),
            ("pem", "-----BEGIN CERTIFICATE-----A-----END CERTIFICATE-----"),
            ("base64", b64(OWN) + ","),
            ("base64", b64(OWN)[:-4] + "===="),
            ("base64", "not base64"),
            ("xfcc", "Hash=00"),
            ("xfcc", f'Cert="{escaped(OWN)}"x'),
            ("xfcc", f'Cert="{escaped(OWN)}'),
            ("xfcc", f'Cert="{escaped(OWN)}";Cert="{escaped(OWN)}"'),
            ("xfcc", f'Cert="{escaped(OWN, OWN)}"'),
            ("xfcc", f'Cert="{escaped(OWN)}";Chain="{escaped(ISSUER)}"'),
            # Two hops: whoever came first may have written the first.
            ("xfcc", f'Cert="{escaped(ISSUER)}",Cert="{escaped(OWN)}"'),
            ("xfcc", f'Hash=1,By=x;Cert="{escaped(OWN)}"'),
        ],
    )
    def test_malformed(self, form: str, value: str) -> None:
        """What is not exactly one certificate is refused."""
        with pytest.raises(Malformed) as caught:
            read_client(form, value, None)
        assert "cannot be read" in str(caught.value)

    def test_chain_that_is_malformed(self) -> None:
        """So is a chain of which one cannot be read."""
        with pytest.raises(Malformed):
            read_client(
                "rfc9440", f":{b64(OWN)}:", f":{b64(ISSUER)}:,:{b64(b'x')}:"
            )

    @pytest.mark.parametrize("form", FORMS)
    def test_every_prefix(self, form: str) -> None:
        """Whatever is cut off, it is refused or there is no certificate."""
        value = WRITTEN[form][0]
        for end in range(len(value)):
            try:
                found = read_client(form, value[:end], None)
            except Malformed:
                continue
            # XFCC's last pairs may be cut off, and padding may be missing.
            assert found is None or found.der == OWN

    @given(st.sampled_from(sorted(FORMS)), st.text(max_size=300))
    def test_anything(self, form: str, value: str) -> None:
        """Any text is a certificate, none, or Malformed."""
        try:
            found = read_client(form, value, None)
        except Malformed:
            return
        if found is not None:
            der.check(found.der)


def trusted(address: Address) -> bool:
    """Tell that 10.0.0.0/8 and one IPv6 address are proxies'."""
    return any(
        address in ip_network(one) for one in ("10.0.0.0/8", "2001:db8::1")
    )


class XForwardedForTests:
    """The last hop that is no proxy's."""

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (["192.0.2.7"], "192.0.2.7"),
            (["192.0.2.7, 10.0.0.2"], "192.0.2.7"),
            # What stands in front, the client may have written.
            (["rubbish, 1.2.3.4, 192.0.2.7"], "192.0.2.7"),
            (["1.2.3.4", "192.0.2.7,10.9.9.9"], "192.0.2.7"),
            (["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
            (["192.0.2.7:4711"], "192.0.2.7"),
            (["[2001:db8::7]:4711"], "2001:db8::7"),
            (["[2001:db8::7]"], "2001:db8::7"),
            (["2001:db8::7, 2001:DB8::1"], "2001:db8::7"),
            (["::ffff:192.0.2.7"], "192.0.2.7"),
            (["unknown"], None),
            (["192.0.2.7, unknown"], None),
            (["192.0.2.7, "], "192.0.2.7"),
            ([""], None),
            ([], None),
        ],
    )
    def test_nearest(self, values: list[str], expected: str | None) -> None:
        """From the end, the first that is not trusted."""
        assert expected == x_forwarded_for(values, trusted)

    @pytest.mark.parametrize(
        "value",
        ["x", "192.0.2.7, 10.0.0.300", "192.0.2.7;", "[10.0.0.1", "fe80::%1"],
    )
    def test_malformed(self, value: str) -> None:
        """What the proxy itself wrote must be an address."""
        with pytest.raises(Malformed):
            x_forwarded_for([value], trusted)

    def test_many_hops(self) -> None:
        """Of a long list the end is looked at."""
        value = "192.0.2.7" + ", 10.0.0.1" * 9999
        assert "10.0.0.1" == x_forwarded_for([value], trusted)


class ForwardedTests:
    """RFC 7239."""

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (["for=192.0.2.7"], "192.0.2.7"),
            (["For=192.0.2.7;proto=https;by=10.0.0.1"], "192.0.2.7"),
            (['for="[2001:db8::7]:4711"'], "2001:db8::7"),
            (["for=1.2.3.4, for=192.0.2.7 , for=10.1.1.1"], "192.0.2.7"),
            (["for=1.2.3.4", 'for="192.0.2.7:80"'], "192.0.2.7"),
            (['for=1.2.3.4;by="a,b;c\\"", for=192.0.2.7'], "192.0.2.7"),
            (["for=192.0.2.7, by=10.0.0.1"], None),
            (["for=unknown"], None),
            (["for=_hidden"], None),
            ([""], None),
            ([], None),
        ],
    )
    def test_nearest(self, values: list[str], expected: str | None) -> None:
        """Section 4: the last one is what our own proxy saw."""
        assert expected == forwarded(values, trusted)

    @pytest.mark.parametrize(
        "value",
        [
            # The client's open quote does not swallow the proxy's part.
            'for="1.2.3.4, for=192.0.2.7',
            "for=1.2.3.4;for=192.0.2.7",
            "for=192.0.2.7,",
            "192.0.2.7",
            "for=2001:db8::7",
            "for=x",
            "for",
            "for=192.0.2.7; x y=1",
        ],
    )
    def test_malformed(self, value: str) -> None:
        """Section 4: the whole field is of this grammar, or refused."""
        with pytest.raises(Malformed):
            forwarded([value], trusted)

    @given(st.text(max_size=200))
    def test_anything(self, value: str) -> None:
        """Any text is an address, none, or Malformed."""
        for read in (forwarded, x_forwarded_for):
            try:
                found = read([value], trusted)
            except Malformed:
                continue
            if found is not None:
                assert str(plain_address(found)) == found
