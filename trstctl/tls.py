# SPDX-License-Identifier: MIT
"""
TLS on the server's side: contexts that can be replaced, and who connects.

Settings follow RFC 9325: TLS 1.2 and 1.3, forward-secret AEAD suites only,
no compression, no renegotiation, no tickets and no session cache.  Without
resumption each handshake proves the client's key anew.  (In TLS 1.3 OpenSSL
still sends two session references of 32 octets, whose number pyOpenSSL 26.4
cannot set; nothing is kept that they refer to.)

A client certificate is asked for and its key is proven by the handshake, but
the certificate itself is not judged here: a client whose certificate has
expired must still be able to fetch the CA certificates and to be told what
is wrong with it (RFC 7030, section 3.3.2 leaves the answer to EST).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509 import Certificate, load_der_x509_certificate
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

#: RFC 9325, section 4.2; the suites of TLS 1.3 are all of this kind.
SUITES = b"ECDHE+AESGCM:ECDHE+CHACHA20"

_OPTIONS = (
    SSL.OP_NO_RENEGOTIATION
    | SSL.OP_NO_TICKET
    | SSL.OP_NO_COMPRESSION
    | SSL.OP_CIPHER_SERVER_PREFERENCE
)


#: More certificates of a client's chain are not looked at.
_LONGEST_CHAIN = 8


def _take_any(
    _connection: SSL.Connection,
    _certificate: crypto.X509,
    _error: int,
    _depth: int,
    _ok: int,
) -> bool:
    """Leave the judgement of the chain to the application."""
    return True


def _choose_http(_connection: SSL.Connection, offered: list[bytes]) -> Any:
    """Agree on HTTP/1.1, or on nothing (RFC 7301)."""
    if b"http/1.1" in offered:
        return b"http/1.1"
    return SSL.NO_OVERLAPPING_PROTOCOLS


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """
    Makes the server side of connections; its certificate can be replaced.

    :param chain: DER certificates, the server's own first.
    :param key: the private key of the first.
    :ivar chain: what is shown to new connections.
    :raises ValueError: they do not fit together, or OpenSSL refuses them.
    """

    def __init__(self, chain: Sequence[bytes], key: PrivateKeyTypes) -> None:
        self._context = make_context(chain, key)
        self.chain = tuple(chain)

    def swap(self, chain: Sequence[bytes], key: PrivateKeyTypes) -> None:
        """
        Use another certificate for new connections; open ones go on.

        :raises ValueError: as above; the old certificate stays in use.
        """
        self._context = make_context(chain, key)
        self.chain = tuple(chain)

    @property
    def certificate(self) -> bytes:
        """The server's own certificate."""
        return self.chain[0]

    def serverConnectionForTLS(
        self, protocol: TLSMemoryBIOProtocol
    ) -> SSL.Connection:
        """Return a connection that is ready to handshake."""
        return SSL.Connection(self._context, None)


def make_context(chain: Sequence[bytes], key: PrivateKeyTypes) -> SSL.Context:
    """
    Return a context that serves the chain.

    :raises ValueError: see :class:`ServerTLS`.
    """
    if not chain:
        raise ValueError("the server certificate is missing")
    own, *others = (load_der_x509_certificate(der) for der in chain)
    if not _fits(own, key):
        raise ValueError("the key does not belong to the server certificate")
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(SUITES)
    context.set_options(_OPTIONS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # An idle connection gives its two record buffers (34 KiB) back.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # An exception in the callback fails the handshake.
    context.set_verify(SSL.VERIFY_PEER, _take_any)
    context.set_alpn_select_callback(_choose_http)
    try:
        context.use_certificate(own)
        for other in others:
            context.add_extra_chain_cert(other)
        _use_key(context, key)
        context.check_privatekey()
    except (SSL.Error, crypto.Error) as error:
        raise ValueError("OpenSSL does not accept the server key") from error
    return context


def _fits(certificate: Certificate, key: PrivateKeyTypes) -> bool:
    """Tell whether the certificate certifies the key."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    certified = certificate.public_key().public_bytes(*form)
    return key.public_key().public_bytes(*form) == certified


def _use_key(context: SSL.Context, key: PrivateKeyTypes) -> None:
    """Hand over the key, also of a kind that pyOpenSSL does not know."""
    if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        context.use_privatekey(key)
        return
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with warnings.catch_warnings():
        # pyOpenSSL 26.4 knows no ML-DSA and deprecates the way around that.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.use_privatekey(
            crypto.load_privatekey(crypto.FILETYPE_ASN1, der)
        )


class TLSFactory(TLSMemoryBIOFactory):
    """
    Adds TLS to a site's connections, without a second layer of buffers.

    Twisted's default protocol gathers small writes until the next turn of
    the reactor; a site writes each answer in one piece.
    """

    protocol = TLSMemoryBIOProtocol


def wrap_site(
    creator: ServerTLS, site: IProtocolFactory, clock: IReactorTime
) -> TLSFactory:
    """Return the factory that serves ``site`` over TLS."""
    return TLSFactory(creator, False, site, clock)


def _connection(transport: object) -> SSL.Connection | None:
    """Return OpenSSL's side of a transport, if it is TLS."""
    handle = getattr(transport, "getHandle", lambda: None)()
    return handle if isinstance(handle, SSL.Connection) else None


def client_certificate(transport: object) -> bytes | None:
    """
    Return the certificate that the client has proven to own, in DER.

    :param transport: what ``Protocol.transport`` is under TLS.
    """
    handle = _connection(transport)
    if handle is None:
        return None
    # As OpenSSL has it: another library may refuse to read what the handshake
    # took, and that must become the answer of who judges it.
    certificate = handle.get_peer_certificate()
    if certificate is None:
        return None
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)


def client_chain(transport: object) -> tuple[bytes, ...]:
    """
    Return what the client sent with its certificate, in DER, in order.

    Nobody has judged it.

    :param transport: what ``Protocol.transport`` is under TLS.
    """
    handle = _connection(transport)
    sent = None if handle is None else handle.get_peer_cert_chain()
    return tuple(
        crypto.dump_certificate(crypto.FILETYPE_ASN1, each)
        # On the server's side, OpenSSL leaves the client's own out.
        for each in (sent or ())[:_LONGEST_CHAIN]
    )


def channel_binding(transport: object) -> bytes | None:
    """
    Return what both ends of a TLS connection know, and no other connection.

    In TLS 1.3, tls-exporter (RFC 9266, section 2): tls-unique is not defined
    there.  In TLS 1.2, tls-unique (RFC 5929, section 3): the first Finished
    message, which is the client's, because no session is ever resumed or
    renegotiated here.

    :param transport: what ``Protocol.transport`` is under TLS; its handshake
        is complete.
    """
    handle = _connection(transport)
    if handle is None:
        return None
    if handle.get_protocol_version() >= SSL.TLS1_3_VERSION:
        return handle.export_keying_material(
            b"EXPORTER-Channel-Binding", 32, b""
        )
    return handle.get_peer_finished()
