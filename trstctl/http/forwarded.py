# SPDX-License-Identifier: MIT
"""
What a proxy that ends TLS says of its client: header values to facts, without
I/O.

Implemented, for the client's certificate: ``rfc9440`` (Client-Cert and
Client-Cert-Chain, byte sequences of RFC 8941), ``pem`` (PEM, percent-encoded
as nginx has it in ``$ssl_client_escaped_cert``), ``base64`` (DER as HAProxy
and Traefik send it, the client's own first) and ``xfcc`` (``Cert`` and
``Chain`` of Envoy's X-Forwarded-Client-Cert).  For its address:
X-Forwarded-For, and Forwarded of RFC 7239.

Refused: whatever is not exactly one certificate with its chain, and an XFCC
field of more than one hop, of which anybody may have written the first.  An
empty value says that there was no certificate.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote_to_bytes

from trstctl.errors import Malformed
from trstctl.model import ClientCertificate
from trstctl.pkix import der

Address = IPv4Address | IPv6Address

#: More certificates of a chain are not looked at, as in a handshake.
_LONGEST_CHAIN = 8

#: Hops of which an address is looked for.
_HOPS = 32

_BYTE_SEQUENCE = re.compile(r":([A-Za-z0-9+/]+={0,2}):")
_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)"
    rb"-----END CERTIFICATE-----\s*"
)
_XFCC_PAIR = re.compile(r'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;]*)([;,]|$)')

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FORWARDED_PAIR = re.compile(
    rf'[ \t]*({_WORD})=("(?:[^"\\]|\\.)*"|{_WORD})[ \t]*([;,]|$)'
)
_ESCAPED = re.compile(r"\\(.)")
_NODE = re.compile(
    r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?"
    r"|([0-9.]+):[0-9]{1,5}"
    r"|([0-9A-Fa-f:.]+)"
)
#: RFC 7239, section 6: the proxy does not want to tell.
_UNTOLD = re.compile(r"(?i:unknown)|_[0-9A-Za-z._-]+")


# --- the certificate --------------------------------------------------------


def read_client(
    form: str, value: str, chain: str | None
) -> ClientCertificate | None:
    """
    Return the certificate that a field carries; ``None``: there is none.

    :param form: a key of :data:`FORMS`.
    :param chain: value of the chain's own field, if that is there.
    :raises Malformed: it cannot be read.
    """
    value = value.strip()
    if not value:
        # RFC 9440, section 2.3: never without the certificate itself.
        if chain is not None and chain.strip():
            raise Malformed("the proxy sent a chain without a certificate")
        return None
    try:
        found = FORMS[form](value)
        if chain is not None and chain.strip():
            found = (*found, *map(_byte_sequence, chain.split(",")))
        found = found[: 1 + _LONGEST_CHAIN]
        for each in found:
            der.check(each)
    except (Malformed, ValueError):  # binascii.Error is one
        raise Malformed(
            "the proxy's field with the client certificate cannot be read"
        ) from None
    return ClientCertificate(found[0], found[1:])


def _byte_sequence(text: str) -> bytes:
    """Read a byte sequence (RFC 8941, section 3.3.5)."""
    match = _BYTE_SEQUENCE.fullmatch(text.strip())
    if match is None:
        raise Malformed
    # A parser should not insist on the padding (RFC 8941, section 4.2.7).
    bare = match[1].rstrip("=")
    return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)


def _rfc9440(value: str) -> tuple[bytes, ...]:
    """Read Client-Cert (RFC 9440, section 2.2)."""
    return (_byte_sequence(value),)


def _pem(value: str) -> tuple[bytes, ...]:
    """Read PEM that is percent-encoded, or at least without line ends."""
    octets = unquote_to_bytes(value).strip()
    found, at = [], 0
    while at < len(octets):
        match = _PEM.match(octets, at)
        if match is None:
            raise Malformed
        compact = b"".join(match[1].split())
        found.append(binascii.a2b_base64(compact, strict_mode=True))
        at = match.end()
    return tuple(found)


def _base64(value: str) -> tuple[bytes, ...]:
    """Read DER in base64, with a comma between certificates."""
    # Traefik 2 percent-encodes it, too.
    return tuple(
        binascii.a2b_base64(part.strip(), strict_mode=True)
        for part in unquote_to_bytes(value).split(b",")
    )


def _xfcc(value: str) -> tuple[bytes, ...]:
    """Read the one element of X-Forwarded-Client-Cert."""
    pairs: dict[str, str] = {}
    for key, text, end in _pairs(_XFCC_PAIR, value):
        # Of names there are as many as the certificate has.
        if end == "," or (key in pairs and key not in {"dns", "uri"}):
            raise Malformed
        pairs[key] = text
    own = _pem(pairs["cert"]) if "cert" in pairs else ()
    chain = _pem(pairs["chain"]) if "chain" in pairs else own
    # Chain has the client's own in front; Hash and Subject alone say whose
    # it was, and nobody can judge that.
    if not chain or len(own) > 1 or own not in ((), chain[:1]):
        raise Malformed
    return chain


#: How a proxy may write the certificate.
FORMS: Mapping[str, Callable[[str], tuple[bytes, ...]]] = {
    "rfc9440": _rfc9440,
    "pem": _pem,
    "base64": _base64,
    "xfcc": _xfcc,
}


def _pairs(
    grammar: re.Pattern[str], text: str
) -> Iterator[tuple[str, str, str]]:
    """Yield key, value without its quotes, and what ends each pair."""
    at, end = 0, ";"
    while end:
        match = grammar.match(text, at)
        if match is None:
            raise Malformed
        key, value, end = match.groups()
        if value[:1] == '"':
            value = _ESCAPED.sub(r"\1", value[1:-1])
        yield key.lower(), value, end
        at = match.end()


# --- the address ------------------------------------------------------------


def plain_address(text: str) -> Address:
    """
    Return an address; one of IPv4 that is written as IPv6, as IPv4.

    :raises ValueError: it is none.
    """
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def x_forwarded_for(
    values: Sequence[str], trusted: Callable[[Address], bool]
) -> str | None:
    """
    Return the last address of X-Forwarded-For that is not a proxy's.

    What stands before it, anybody may have written.

    :param trusted: tells whether an address is a proxy's.
    :returns: ``None``: nothing is said.
    :raises Malformed: the proxy's own part cannot be read.
    """
    hops = [hop.strip() for value in values for hop in value.split(",")]
    return _nearest((hop for hop in reversed(hops[-_HOPS:]) if hop), trusted)


def forwarded(
    values: Sequence[str], trusted: Callable[[Address], bool]
) -> str | None:
    """
    Return the last address of Forwarded that is not a proxy's (RFC 7239).

    As :func:`x_forwarded_for`; the whole field must be as the RFC has it, so
    that an open quote of the client's cannot swallow the proxy's part.
    """
    hops: list[str] = []
    said: str | None = None
    for value in filter(None, values):
        for key, text, end in _pairs(_FORWARDED_PAIR, value):
            if key == "for":
                if said is not None:
                    raise Malformed("the field Forwarded cannot be read")
                said = text
            if end != ";":
                hops.append(said or "unknown")
                said = None
    return _nearest(reversed(hops[-_HOPS:]), trusted)


def _nearest(
    hops: Iterator[str], trusted: Callable[[Address], bool]
) -> str | None:
    """Return the first that is not trusted, or else the last of all."""
    found: Address | None = None
    for hop in hops:
        if _UNTOLD.fullmatch(hop):
            break
        match = _NODE.fullmatch(hop)
        try:
            found = plain_address(
                next(filter(None, match.groups())) if match else ""
            )
        except ValueError:
            raise Malformed(
                "the proxy's field with the client's address cannot be read"
            ) from None
        if not trusted(found):
            break
    return None if found is None else str(found)
