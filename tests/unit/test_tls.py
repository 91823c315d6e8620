# SPDX-License-Identifier: MIT
"""Tests of the TLS server, against a client in memory (RFC 9325)."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from OpenSSL import SSL, crypto
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test.iosim import FakeTransport, IOPump
from web_samples import Bench, get, parse, post
from web_samples import Client as WebClient
from zope.interface import implementer
from zope.interface.verify import verifyObject

from trstctl import tls
from trstctl.http.channel import State
from trstctl.pkix import der
from trstctl.pkix.algorithms import sign
from trstctl.pkix.certificate import assemble, split_signed
from trstctl.tls import (
    ServerTLS,
    channel_binding,
    client_certificate,
    client_chain,
    wrap_site,
)
from trstctl.web import Limits

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
P256 = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


def certificate(key: Any, name: str = "localhost", days: int = 3650) -> bytes:
    """Return a self-signed certificate."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    hashed = isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(EPOCH)
        .not_valid_after(EPOCH + timedelta(days=days))
        .sign(key, hashes.SHA256() if hashed else None)
        .public_bytes(serialization.Encoding.DER)
    )


SERVER = certificate(P256)
CLIENT = certificate(OTHER, "client")
EXPIRED = certificate(OTHER, "client", days=1)


def of_version(number: int) -> bytes:
    """Return the client's certificate with another version."""
    fields = der.children(der.content(split_signed(CLIENT)[0], der.SEQUENCE))
    tbs = der.sequence(
        der.explicit(0, der.integer(number)), *(part[2] for part in fields[1:])
    )
    return assemble(
        tbs, "ecdsa-with-sha256", sign(OTHER, "ecdsa-with-sha256", tbs)
    )


class Collector(Protocol):
    """A client that keeps what it receives."""

    def connectionMade(self) -> None:
        """Begin."""
        self.received = b""
        self.lost: object = None

    def dataReceived(self, data: bytes) -> None:
        """Keep."""
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        """Remember why."""
        self.lost = reason.value


@implementer(IOpenSSLClientConnectionCreator)
class Creator:
    """Makes the client side of a connection."""

    def __init__(
        self,
        version: int = SSL.TLS1_3_VERSION,
        own: bytes | None = None,
        ciphers: bytes = b"",
        alpn: list[bytes] | None = None,
        others: tuple[bytes, ...] = (),
    ) -> None:
        self.session: SSL.Session | None = None
        self.context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self.context.set_max_proto_version(version)
        if version < SSL.TLS1_2_VERSION:
            self.context.set_min_proto_version(version)
            ciphers = b"ALL:@SECLEVEL=0"
        if ciphers:
            self.context.set_cipher_list(ciphers)
        if alpn:
            self.context.set_alpn_protos(alpn)
        if own is not None:
            self.context.use_certificate(x509.load_der_x509_certificate(own))
            self.context.use_privatekey(OTHER)
        for each in others:
            self.context.add_extra_chain_cert(
                x509.load_der_x509_certificate(each)
            )

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """Return a connection."""
        self.connection = SSL.Connection(self.context, None)
        self.connection.set_connect_state()
        if self.session is not None:
            self.connection.set_session(self.session)
        return self.connection


class AbortableTransport(FakeTransport):
    """A transport in memory that can be aborted."""

    def abortConnection(self) -> None:
        """Close at once."""
        self.disconnect_done = True
        self.loseConnection()


class Pair:
    """A TLS client and a site, connected in memory."""

    def __init__(
        self, bench: Bench, server: ServerTLS, creator: Creator | None = None
    ) -> None:
        self.bench = bench
        self.creator = creator or Creator()
        address = IPv4Address("TCP", "192.0.2.1", 50000)
        self.server = wrap_site(server, bench.site, bench.clock).buildProtocol(
            address
        )
        factory = TLSMemoryBIOFactory(
            self.creator, True, Factory.forProtocol(Collector), bench.clock
        )
        self.client = factory.buildProtocol(address)
        # Both forget each other when the connection ends.
        self.channel: Any = self.server.wrappedProtocol
        self.collector: Any = self.client.wrappedProtocol
        server_end = AbortableTransport(
            self.server, isServer=True, peerAddress=address
        )
        client_end = AbortableTransport(self.client, isServer=False)
        self.pump = IOPump(
            self.client, self.server, client_end, server_end, False
        )
        self.server.makeConnection(server_end)
        self.client.makeConnection(client_end)
        self.handshake_octets = 0
        taking = self.client.dataReceived

        def counting(data: bytes) -> None:
            self.handshake_octets += len(data)
            taking(data)

        self.client.dataReceived = counting
        self.flush()
        self.client.dataReceived = taking

    def flush(self) -> None:
        """Let everything arrive."""
        moved = True
        while moved:
            moved = self.pump.pump()
            self.bench.clock.advance(0)
            moved = self.pump.pump() or moved

    def send(self, data: bytes) -> bytes:
        """Send, and return what has been answered."""
        self.collector.received = b""
        self.client.write(data)
        self.flush()
        received: bytes = self.collector.received
        return received


BOTH = pytest.mark.parametrize(
    "version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION], ids=["1.2", "1.3"]
)


class HandshakeTests:
    """What is agreed on."""

    def test_interface(self) -> None:
        """It is what Twisted asks for."""
        server = ServerTLS([SERVER], P256)
        assert verifyObject(IOpenSSLServerConnectionCreator, server)

    @BOTH
    def test_without_certificate(self, version: int) -> None:
        """A client certificate is optional."""
        bench = Bench()
        pair = Pair(bench, ServerTLS([SERVER], P256), Creator(version))
        assert 200 == parse(pair.send(post()))[0]
        (request,) = bench.sample.requests
        assert request.secure
        assert request.client_certificate is None
        assert "192.0.2.1" == request.peer

    @BOTH
    @pytest.mark.parametrize("own", [CLIENT, EXPIRED], ids=["new", "expired"])
    def test_with_certificate(self, version: int, own: bytes) -> None:
        """Its key is proven; its chain and dates are judged elsewhere."""
        bench = Bench()
        creator = Creator(version, own)
        pair = Pair(bench, ServerTLS([SERVER], P256), creator)
        for _ in range(2):
            assert 200 == parse(pair.send(post()))[0]
        found = {r.client_certificate for r in bench.sample.requests}
        assert {own} == found

    @BOTH
    def test_certificate_of_unknown_version(self, version: int) -> None:
        """What only OpenSSL can read is answered, too (R-5)."""
        bench = Bench()
        creator = Creator(version)
        own = of_version(3)
        creator.context.use_certificate(
            crypto.load_certificate(crypto.FILETYPE_ASN1, own)
        )
        creator.context.use_privatekey(OTHER)
        pair = Pair(bench, ServerTLS([SERVER], P256), creator)
        assert 200 == parse(pair.send(post()))[0]
        assert [own] == [r.client_certificate for r in bench.sample.requests]

    @BOTH
    def test_one_record(self, version: int) -> None:
        """
        Head and body are in one record: strongSwan 5.9.8 wants the status
        and headers together.
        """
        pair = Pair(Bench(), ServerTLS([SERVER], P256), Creator(version))
        pieces: list[bytes] = []
        pair.collector.dataReceived = pieces.append
        pair.send(post())
        assert 1 == len(pieces)

    @BOTH
    def test_callback_that_raises(
        self, version: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A judgement that fails is a refusal (CVE-2026-27448's lesson)."""

        def broken(*_: object) -> bool:
            raise KeyError("broken")

        monkeypatch.setattr(tls, "_take_any", broken)
        bench = Bench()
        creator = Creator(version, CLIENT)
        with pytest.raises(KeyError):
            Pair(bench, ServerTLS([SERVER], P256), creator).send(post())
        assert [] == bench.sample.requests

    @pytest.mark.parametrize(
        "version", [SSL.TLS1_VERSION, SSL.TLS1_1_VERSION], ids=["1.0", "1.1"]
    )
    def test_old_versions(self, version: int) -> None:
        """Below TLS 1.2 there is nothing."""
        bench = Bench()
        pair = Pair(bench, ServerTLS([SERVER], P256), Creator(version))
        pair.send(post())
        assert [] == bench.sample.requests

    @pytest.mark.parametrize(
        "ciphers",
        [
            b"ECDHE-ECDSA-AES128-SHA256",
            b"ECDHE-ECDSA-AES256-SHA",
            b"ECDHE-ECDSA-AES128-CCM8",
            b"AES128-GCM-SHA256",
            b"AES256-SHA",
        ],
    )
    def test_weak_suites(self, ciphers: bytes) -> None:
        """No CBC, no short tags, no static RSA."""
        bench = Bench()
        creator = Creator(SSL.TLS1_2_VERSION, ciphers=ciphers)
        pair = Pair(bench, ServerTLS([SERVER], P256), creator)
        pair.send(post())
        assert [] == bench.sample.requests

    @pytest.mark.parametrize(
        "ciphers",
        [
            b"ECDHE-ECDSA-AES128-GCM-SHA256",
            b"ECDHE-ECDSA-AES256-GCM-SHA384",
            b"ECDHE-ECDSA-CHACHA20-POLY1305",
        ],
    )
    def test_good_suites(self, ciphers: bytes) -> None:
        """What RFC 9325, section 4.2 recommends."""
        creator = Creator(SSL.TLS1_2_VERSION, ciphers=ciphers)
        pair = Pair(Bench(), ServerTLS([SERVER], P256), creator)
        assert 200 == parse(pair.send(post()))[0]

    @pytest.mark.parametrize(
        ("offered", "expected"),
        [
            ([b"h2", b"http/1.1"], b"http/1.1"),
            ([b"h2"], b""),
            (None, b""),
        ],
    )
    def test_alpn(self, offered: list[bytes], expected: bytes) -> None:
        """HTTP/1.1, or nothing; never a refusal."""
        creator = Creator(alpn=offered)
        pair = Pair(Bench(), ServerTLS([SERVER], P256), creator)
        assert 200 == parse(pair.send(get()))[0]
        assert expected == creator.connection.get_alpn_proto_negotiated()

    def test_renegotiation(self) -> None:
        """A client cannot ask for another handshake."""
        creator = Creator(SSL.TLS1_2_VERSION)
        pair = Pair(Bench(), ServerTLS([SERVER], P256), creator)
        assert 200 == parse(pair.send(get()))[0]
        creator.connection.renegotiate()
        with contextlib.suppress(SSL.Error):
            creator.connection.do_handshake()
        pair.client._flushSendBIO()
        pair.flush()
        assert "no renegotiation" in str(pair.collector.lost)

    @BOTH
    def test_no_resumption(self, version: int) -> None:
        """No session is taken up again: each handshake is a full one."""
        bench = Bench()
        server = ServerTLS([SERVER], P256)
        first = Creator(version)
        Pair(bench, server, first).send(get())
        session = first.connection.get_session()
        assert session is not None
        second = Creator(version)
        second.context, second.session = first.context, session
        pair = Pair(bench, server, second)
        assert 200 == parse(pair.send(get()))[0]
        # Only a full handshake sends the certificate.
        assert pair.handshake_octets > len(SERVER)


class SessionTests:
    """What only some requests ask of their TLS session."""

    def session(self, version: int, **options: Any) -> tuple[Pair, Any]:
        """Return a connection, and the session that its request has."""
        bench = Bench()
        pair = Pair(
            bench, ServerTLS([SERVER], P256), Creator(version, **options)
        )
        pair.send(post())
        (request,) = bench.sample.requests
        assert request.session is not None
        return pair, request.session

    def test_tls_unique(self) -> None:
        """RFC 5929, section 3.1: the client's Finished message."""
        pair, session = self.session(SSL.TLS1_2_VERSION)
        finished = pair.creator.connection.get_finished()
        assert finished == session.channel_binding()
        assert 12 == len(finished)

    def test_tls_exporter(self) -> None:
        """RFC 9266, section 2: 32 octets, and no Finished message."""
        pair, session = self.session(SSL.TLS1_3_VERSION)
        connection = pair.creator.connection
        exported = connection.export_keying_material(
            b"EXPORTER-Channel-Binding", 32, b""
        )
        assert exported == session.channel_binding()
        assert 32 == len(exported)
        assert exported != connection.get_finished()

    @BOTH
    def test_unique(self, version: int) -> None:
        """No two sessions have one, and one session has one."""
        found = [self.session(version)[1].channel_binding() for _ in range(3)]
        assert 3 == len(set(found))
        pair, session = self.session(version)
        first = session.channel_binding()
        pair.send(post())
        assert [first] * 2 == [
            one.session.channel_binding() for one in pair.bench.sample.requests
        ]

    @BOTH
    def test_chain(self, version: int) -> None:
        """What the client sends with its certificate, without that one."""
        others = tuple(certificate(P256, f"CA {n}") for n in range(2))
        _, session = self.session(version, own=CLIENT, others=others)
        assert others == session.client_chain()

    def test_long_chain(self) -> None:
        """More than eight are not looked at."""
        others = tuple(certificate(P256, f"CA {n}") for n in range(12))
        _, session = self.session(
            SSL.TLS1_3_VERSION, own=CLIENT, others=others
        )
        assert others[:8] == session.client_chain()

    def test_no_chain(self) -> None:
        """Without a certificate, or without TLS, there is none."""
        _, session = self.session(SSL.TLS1_3_VERSION)
        assert () == session.client_chain()
        assert () == client_chain(object())
        assert channel_binding(object()) is None

    def test_not_asked(self) -> None:
        """Only who asks pays; without TLS there is nobody to ask."""
        bench = Bench()
        WebClient(bench.site).send(post())
        (request,) = bench.sample.requests
        assert request.session is None


class CertificateTests:
    """The server's own certificate."""

    def test_chain(self) -> None:
        """The whole chain is sent, the server's own first."""
        other = certificate(OTHER, "issuer")
        creator = Creator()
        Pair(Bench(), ServerTLS([SERVER, other], P256), creator)
        chain = creator.connection.get_peer_cert_chain(as_cryptography=True)
        assert chain is not None
        encoding = serialization.Encoding.DER
        assert [SERVER, other] == [c.public_bytes(encoding) for c in chain]

    @pytest.mark.parametrize(
        "key",
        [
            ec.generate_private_key(ec.SECP384R1()),
            rsa.generate_private_key(65537, 2048),
            ed25519.Ed25519PrivateKey.generate(),
            mldsa.MLDSA65PrivateKey.generate(),
        ],
        ids=["P-384", "RSA", "Ed25519", "ML-DSA-65"],
    )
    def test_kinds_of_keys(self, key: Any) -> None:
        """Every kind of key that OpenSSL can serve."""
        own = certificate(key)
        pair = Pair(Bench(), ServerTLS([own], key))
        assert 200 == parse(pair.send(get()))[0]

    def test_swap(self) -> None:
        """New connections get the new certificate; open ones go on."""
        bench = Bench()
        server = ServerTLS([SERVER], P256)
        before = Pair(bench, server)
        renewed = certificate(OTHER)
        server.swap([renewed], OTHER)
        assert renewed == server.certificate
        creator = Creator()
        after = Pair(bench, server, creator)
        assert 200 == parse(before.send(get()))[0]
        assert 200 == parse(after.send(get()))[0]
        found = creator.connection.get_peer_certificate(as_cryptography=True)
        assert found is not None
        der = found.public_bytes(serialization.Encoding.DER)
        assert renewed == der

    @pytest.mark.parametrize(
        ("chain", "reason"),
        [
            ([], "missing"),
            ([CLIENT], "does not belong"),
            ([b"not a certificate"], "asn1"),
        ],
    )
    def test_bad_swap(self, chain: list[bytes], reason: str) -> None:
        """A bad certificate is refused; the old one stays in use."""
        server = ServerTLS([SERVER], P256)
        with pytest.raises(ValueError, match=reason):
            server.swap(chain, P256)
        assert SERVER == server.certificate
        assert 200 == parse(Pair(Bench(), server).send(get()))[0]

    def test_key_that_openssl_refuses(self) -> None:
        """A key that is too weak for OpenSSL is a plain refusal."""
        key = rsa.generate_private_key(65537, 1024)
        with pytest.raises(ValueError, match="OpenSSL does not accept"):
            ServerTLS([certificate(key)], key)


class ChannelTests:
    """Connections under TLS."""

    def test_slow_handshake(self) -> None:
        """10 seconds for a handshake, whatever trickles in (R-12)."""
        bench = Bench()
        server = ServerTLS([SERVER], P256)
        factory = wrap_site(server, bench.site, bench.clock)
        protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        transport = AbortableTransport(protocol, isServer=True)
        protocol.makeConnection(transport)
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        for at in range(9):
            protocol.dataReceived(hello[at : at + 1])
            bench.pass_time(1)
        assert State.HANDSHAKE is protocol.wrappedProtocol.state
        assert not transport.disconnecting
        bench.pass_time(1.25)
        assert transport.disconnecting

    def test_deadline_after_the_handshake(self) -> None:
        """The first head has its own 10 seconds."""
        bench = Bench()
        pair = Pair(bench, ServerTLS([SERVER], P256))
        bench.pass_time(9.75)
        assert State.IDLE is pair.channel.state
        bench.pass_time(0.5)
        pair.flush()
        assert pair.collector.lost is not None

    def test_caps(self) -> None:
        """A connection too many ends before its handshake."""
        bench = Bench(Limits(connections=0))
        pair = Pair(bench, ServerTLS([SERVER], P256))
        pair.flush()
        assert 0 == pair.handshake_octets
        assert pair.collector.lost is not None

    def test_close(self) -> None:
        """``Connection: close`` ends with TLS's own close."""
        bench = Bench()
        pair = Pair(bench, ServerTLS([SERVER], P256))
        answer = pair.send(get(extra=b"Connection: close\r\n"))
        assert 200 == parse(answer)[0]
        assert pair.collector.lost is not None
        assert 0 == bench.site.connections()
        assert [] == bench.clock.getDelayedCalls()

    def test_drain_in_a_handshake(self) -> None:
        """A drain does not wait for handshakes."""
        bench = Bench()
        server = ServerTLS([SERVER], P256)
        factory = wrap_site(server, bench.site, bench.clock)
        protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        transport = AbortableTransport(protocol, isServer=True)
        protocol.makeConnection(transport)
        bench.site.drain()
        assert transport.disconnecting
        protocol.wrappedProtocol.handshakeCompleted()
        assert State.CLOSING is protocol.wrappedProtocol.state

    def test_certificate_of_nothing(self) -> None:
        """Without TLS there is no client certificate."""
        assert client_certificate(object()) is None
