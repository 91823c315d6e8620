# SPDX-License-Identifier: MIT
"""
A whole request as a plain value, and the credentials that it carries.

Credentials are parsed on demand; ``repr`` shows neither them nor a body.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Protocol

from attrs import field, frozen

from trstctl.errors import Malformed, NotAuthenticated
from trstctl.http.head import Headers
from trstctl.model import (
    BearerToken,
    ClientCertificate,
    Credential,
    Password,
)

_B64TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
#: An Idempotency-Key: printable ASCII without quotes, or within them.
_KEY = re.compile(r'("?)([!#-\[\]-~]{1,255})\1')

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class TLSSession(Protocol):
    """
    What only some requests ask of the TLS session that brought them.

    :ivar proxied: whether it ends at a trusted proxy, so that nothing of it
        can be verified here.
    """

    @property
    def proxied(self) -> bool:
        """Whether it ends at a trusted proxy."""

    def client_chain(self) -> tuple[bytes, ...]:
        """
        Return what the client sent with its certificate, in DER, in order;
        nobody has judged it.
        """

    def channel_binding(self) -> bytes | None:
        """
        Return tls-unique in TLS 1.2 (RFC 5929), tls-exporter in TLS 1.3 (RFC
        9266); see :func:`trstctl.tls.channel_binding`.
        """


@frozen
class HTTPRequest:
    """
    A whole request.

    :ivar method: ``HEAD`` arrives as ``GET``; the answer's body is cut off.
    :ivar path: the decoded segments below the mount, each made of
        unreserved ASCII characters; a raw rest is one more, as it was sent.
    :ivar query: what follows the question mark, raw.
    :ivar peer: text of the network address.
    :ivar client_certificate: DER; the handshake has proven its key, or a
        trusted proxy says that its own has, and nobody has judged it yet.
    :ivar session: the TLS session; ``None`` without TLS.
    """

    method: str
    path: tuple[str, ...] = ()
    query: bytes = field(default=b"", repr=False)
    headers: Headers = field(factory=Headers, repr=False)
    body: bytes = field(default=b"", repr=False)
    version: str = "HTTP/1.1"
    peer: str = ""
    request_id: str = ""
    secure: bool = False
    client_certificate: bytes | None = field(default=None, repr=False)
    session: TLSSession | None = field(default=None, repr=False, eq=False)

    @property
    def credentials(self) -> tuple[Credential, ...]:
        """
        Everything that the peer presented.

        :raises Malformed: an Authorization field that cannot be read.
        :raises NotAuthenticated: one of an unknown scheme.
        """
        found: list[Credential] = []
        values = self.headers.all("Authorization")
        if len(values) > 1:
            raise Malformed("there are two Authorization fields")
        if values:
            found.append(_authorization(values[0]))
        if self.client_certificate is not None:
            found.append(ClientCertificate(self.client_certificate))
        return tuple(found)

    @property
    def idempotency_key(self) -> str | None:
        """
        The client's own key for this request, if it names one.

        :raises Malformed: two of them, or one that cannot be read.
        """
        given = self.headers.all("Idempotency-Key")
        if not given:
            return None
        found = _KEY.fullmatch(given[0].strip())
        if len(given) > 1 or found is None:
            raise Malformed(
                "an Idempotency-Key is 1 to 255 printable ASCII characters"
            )
        return found[2]


def _authorization(value: str) -> Credential:
    """Read an Authorization field (RFC 9110, section 11.6.2)."""
    scheme, _, rest = value.partition(" ")
    rest = rest.strip(" ")
    if scheme.lower() == "basic":
        return _basic(rest)
    if scheme.lower() == "bearer":
        # RFC 6750, section 2.1.
        if not _B64TOKEN.fullmatch(rest):
            raise Malformed("the Authorization field is malformed")
        return BearerToken(rest)
    raise NotAuthenticated


def _basic(encoded: str) -> Password:
    """Read a name and password; the name may be empty (RFC 7617)."""
    try:
        text = base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise Malformed("the Authorization field is malformed") from None
    name, colon, password = text.partition(":")
    # RFC 7617, section 2: neither may hold control characters.
    if not colon or _CONTROL.search(text):
        raise Malformed("the Authorization field is malformed")
    return Password(name, password)
