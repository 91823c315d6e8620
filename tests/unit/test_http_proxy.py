# SPDX-License-Identifier: MIT
"""Tests of a proxy that ends TLS: whose word counts, and for what."""

from __future__ import annotations

import base64
import hashlib
import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from est_samples import (
    PKCS10,
    ROOT,
    ESTBench,
    Factory,
    make_csr_with,
    pem_file,
    printable,
)
from twisted.internet.task import Clock
from web_samples import Bench, get, observed, parse, post

from trstctl.config.reader import ConfigurationError, load
from trstctl.discovery import discover
from trstctl.http.limits import Limits
from trstctl.http.proxy import ForwardedClient, TrustedProxy
from trstctl.model import ClientCertificate
from trstctl.pkix.csr import CHALLENGE_PASSWORD
from trstctl.plugin import ProtocolPlugin
from trstctl.protocols.est.codec import encode_base64
from trstctl.testing import (
    TENANT,
    Connection,
    basic,
    exchange,
    make_authority,
    make_ra,
    read_response,
    request_octets,
    settings_for,
)
from trstctl.web import HTTPResponse

CERTIFICATE = make_authority().chain[0]
PINNED = make_authority("proxy").chain[0]
PROXY = TrustedProxy(
    (ip_network("10.0.0.0/24"), ip_network("2001:db8::/64")),
    frozenset(),
    "rfc9440",
    "client-cert",
    "x-forwarded-for",
)
MUTUAL = evolve(
    PROXY, certificates=frozenset({hashlib.sha256(PINNED).hexdigest()})
)
ADDRESS = "10.0.0.5"
STRANGER = "192.0.2.1"


def field(certificate: bytes = CERTIFICATE) -> str:
    """Return a certificate as RFC 9440 writes it."""
    return f":{base64.b64encode(certificate).decode()}:"


class ConnectionTests:
    """P-1: whose connection is the proxy's."""

    @pytest.mark.parametrize(
        ("peer", "expected"),
        [
            ("10.0.0.5", True),
            ("10.0.1.5", False),
            ("::ffff:10.0.0.5", True),
            ("2001:db8::5", True),
            ("2001:db8:1::5", False),
            ("unix", False),
        ],
    )
    def test_address(self, peer: str, expected: bool) -> None:
        """By its address, also one of IPv4 that comes as IPv6."""
        assert expected is PROXY.is_near(peer)

    def test_exchange(self) -> None:
        """Its field is the client's certificate, its list the address."""
        bench = Bench()
        bench.site.proxy = PROXY
        fields = (
            f"Client-Cert: {field()}\r\n"
            f"Client-Cert-Chain: {field(PINNED)}\r\n"
            "X-Forwarded-For: 1.2.3.4, 192.0.2.77\r\n"
        )
        with observed() as events:
            answer = bench.client(ADDRESS).send(
                get(b"/sample", fields.encode())
            )
        assert 200 == parse(answer)[0]
        (request,) = bench.sample.requests
        assert "192.0.2.77" == request.peer
        # Without TLS to us, no client certificate counts at all.
        assert request.client_certificate is None
        assert ["192.0.2.77"] == [
            one["peer"] for one in events if one.get("event") == "request"
        ]

    def test_stranger(self) -> None:
        """From anybody else the same fields mean nothing, and are told."""
        bench = Bench()
        bench.site.proxy = PROXY
        fields = f"Client-Cert: {field()}\r\nX-Forwarded-For: 1.2.3.4\r\n"
        with observed() as events:
            client = bench.client(STRANGER)
            for _ in range(3):
                client.send(get(b"/sample", fields.encode()))
            client.send(get(b"/sample", b"Client-Cert-Chain: x\r\n"))
            client.send(get(b"/sample"))
            bench.pass_time(11)
            bench.client(STRANGER).send(get(b"/sample", fields.encode()))
        assert {STRANGER} == {one.peer for one in bench.sample.requests}
        told = [
            (one["ignored"], one["peer"])
            for one in events
            if one.get("event") == "proxy.imitated"
        ]
        # Once in ten seconds, with how many there were.
        assert [(1, STRANGER), (5, STRANGER)] == told

    def test_without_a_proxy(self) -> None:
        """Where none is configured, the fields are any others."""
        bench = Bench()
        with observed() as events:
            bench.client(ADDRESS).send(
                get(b"/sample", b"Client-Cert: x\r\nClient-Cert: y\r\n")
            )
        assert 1 == len(bench.sample.requests)
        assert not [e for e in events if e.get("event") == "proxy.imitated"]

    @pytest.mark.parametrize(
        ("fields", "word"),
        [
            (f"Client-Cert: {field()}\r\n" * 2, "twice"),
            (
                f"Client-Cert: {field()}\r\n"
                + f"Client-Cert-Chain: {field()}\r\n" * 2,
                "twice",
            ),
            ("Client-Cert: rubbish\r\n", "cannot be read"),
            ("X-Forwarded-For: rubbish\r\n", "cannot be read"),
            (f"Client-Cert-Chain: {field()}\r\n", "without"),
        ],
    )
    def test_what_cannot_be_read(self, fields: str, word: str) -> None:
        """P-4: 400, before any body is read or protocol asked."""
        bench = Bench()
        bench.site.proxy = PROXY
        answer = bench.client(ADDRESS).send(post(extra=fields.encode()))
        status, _, body = parse(answer)
        assert 400 == status
        assert word in body.decode()
        assert [] == bench.sample.requests

    def test_too_large(self) -> None:
        """A field beyond the limit of a head is refused as any other."""
        bench = Bench(Limits(header=4096))
        bench.site.proxy = PROXY
        long = f"Client-Cert: {':' + 'A' * 5000 + ':'}\r\n".encode()
        answer = bench.client(ADDRESS).send(get(b"/sample", long))
        assert 431 == parse(answer)[0]

    def test_places(self) -> None:
        """A proxy's connections are those of all of its clients."""
        bench = Bench(Limits(connections_per_address=1))
        bench.site.proxy = PROXY
        for _ in range(3):
            bench.client(ADDRESS)
        assert 3 == bench.site.connections()
        bench.client(STRANGER)
        assert bench.client(STRANGER).transport.aborted

    def test_no_address_told(self) -> None:
        """Else the address is the proxy's own."""
        bench = Bench()
        bench.site.proxy = evolve(PROXY, address="none")
        bench.client(ADDRESS).send(
            get(b"/sample", b"X-Forwarded-For: 192.0.2.77\r\n")
        )
        assert ADDRESS == bench.sample.requests[0].peer

    def test_secrets(self) -> None:
        """A certificate is in no repr."""
        client = ForwardedClient(ADDRESS, ClientCertificate(CERTIFICATE))
        assert "presented" not in repr(client)


class Fronted:
    """EST behind a proxy."""

    def __init__(self, proxy: TrustedProxy = PROXY, **settings: Any) -> None:
        self.proxy = proxy
        self.bench = ESTBench(**settings)

    def post(
        self,
        operation: str = "simplereenroll",
        *,
        peer: str = ADDRESS,
        own: bytes | None = None,
        told: bytes | None = None,
        chain: tuple[bytes, ...] = (),
        password: bool = False,
        attributes: Any = (),
        label: str = "",
        common_name: str = "d.example",
        extra: Any = (),
    ) -> HTTPResponse:
        """
        Send a request.

        :param own: what the handshake with the gateway has proven.
        :param told: what the field says.
        :param extra: more fields.
        """
        fields = {**PKCS10, **dict(extra)}
        if password:
            fields |= basic("a", "pw")
        if told is not None:
            fields["Client-Cert"] = field(told)
        if chain:
            fields["Client-Cert-Chain"] = ", ".join(map(field, chain))
        csr = make_csr_with(dict(attributes), common_name, key=self.bench.key)
        place = f"{ROOT}/{label}" if label else ROOT
        return exchange(
            self.bench.resource,
            "POST",
            f"{place}/{operation}",
            encode_base64(csr, single_line=False),
            fields,
            client_certificate=own,
            channel_binding=b"of the proxy",
            clock=self.bench.clock,
            proxy=self.proxy,
            peer=peer,
        )

    def enrolled(self) -> bytes:
        """Return a device's certificate."""
        csr = make_csr_with({}, key=self.bench.key)
        return self.bench.issued(csr)


class ESTTests:
    """P-2 and P-3: RFC 7030 over the proxy's session."""

    def test_renews(self) -> None:
        """The certificate in the field renews, as one of the handshake."""
        front = Fronted()
        assert 200 == front.post(told=front.enrolled()).status

    def test_spoofed(self) -> None:
        """Somebody else's field is no certificate."""
        front = Fronted()
        certificate = front.enrolled()
        assert 401 == front.post(told=certificate, peer=STRANGER).status
        # And does not get in the way of his own.
        told = front.post(told=PINNED, own=certificate, peer=STRANGER)
        assert 200 == told.status

    def test_proxy_speaks_for_nobody(self) -> None:
        """P-3: its own certificate never counts as its client's."""
        front = Fronted()
        certificate = front.enrolled()
        assert 401 == front.post(own=certificate).status
        assert 200 == front.post(told=certificate, own=PINNED).status

    def test_mutual(self) -> None:
        """P-1: with certificates listed, the address is not enough."""
        front = Fronted(MUTUAL)
        certificate = front.enrolled()
        assert 200 == front.post(told=certificate, own=PINNED).status
        assert 401 == front.post(told=certificate).status
        assert 401 == front.post(told=certificate, own=CERTIFICATE).status
        # Who has only the address is a client like others ...
        assert 200 == front.post(own=certificate).status

    @pytest.mark.parametrize(
        "fields", ["Client-Cert", "Client-Cert-Chain", "X-Forwarded-For"]
    )
    def test_unlisted(self, fields: str) -> None:
        """
        P-3: ... unless it writes what a proxy does: a proxy whose
        certificate is new, and ours, is none of its clients.
        """
        front = Fronted(MUTUAL)
        certificate = front.enrolled()
        with observed() as events:
            for text in (field(certificate), "192.0.2.7", ""):
                answer = front.post(own=certificate, extra={fields: text})
                assert 401 == answer.status
        assert "proxy.imitated" in {one.get("event") for one in events}
        # Its address is its own, and no text of anybody's.
        assert {ADDRESS} == {
            one["peer"] for one in events if one.get("event") == "request"
        }
        other = evolve(MUTUAL, address="none")
        front.proxy = other
        answer = front.post(
            own=certificate, extra={"X-Forwarded-For": "192.0.2.7"}
        )
        assert 200 == answer.status

    def test_shared_connection(self) -> None:
        """
        A connection that the proxy keeps for all of its clients has nobody's
        credentials, and a reload counts from the next request on.
        """
        front = Fronted()
        certificate = front.enrolled()
        connection = Connection(
            front.bench.resource,
            clock=front.bench.clock,
            client_certificate=PINNED,
            proxy=MUTUAL,
            peer=ADDRESS,
        )
        body = encode_base64(
            make_csr_with({}, key=front.bench.key), single_line=False
        )

        def ask(*, told: bool) -> int:
            fields = {"Client-Cert": field(certificate)} if told else {}
            connection.send(
                request_octets(
                    "POST", f"{ROOT}/simplereenroll", body, PKCS10 | fields
                )
            )
            front.bench.clock.advance(1)
            return read_response(connection.received()).status

        assert [200, 401, 200] == [
            ask(told=one) for one in (True, False, True)
        ]
        site: Any = connection._channel._site
        site.proxy = None
        assert 401 == ask(told=True)
        site.proxy = MUTUAL
        assert 200 == ask(told=True)

    def test_judged_as_any(self) -> None:
        """P-2: revoked is revoked, whoever presents it."""
        front = Fronted()
        certificate = front.enrolled()
        record = front.bench.record(certificate)
        front.bench.ra.revoke(TENANT, record.serial, "unspecified", "test")
        assert 403 == front.post(told=certificate).status

    def test_factory_certificate(self, tmp_path: Path) -> None:
        """The chain comes in its own field (RFC 9440, section 2.3)."""
        factory = Factory()
        anchors = (pem_file(tmp_path, "root.pem", factory.root),)
        front = Fronted(idevid={"anchors": anchors})
        options: Any = {
            "operation": "simpleenroll",
            "told": factory.device("SN-1"),
            "common_name": "SN-1",
        }
        assert 401 == front.post(**options).status
        assert 200 == front.post(chain=(factory.ca,), **options).status

    @pytest.mark.parametrize("pop", ["verified", "required"])
    def test_link(self, pop: str) -> None:
        """
        RFC 7030, section 3.5: a link that is there MUST be verified; the
        binding of the proxy's own session is not its client's.
        """
        front = Fronted(pop=pop)
        link = base64.b64encode(b"of the proxy").decode()
        answer = front.post(
            "simpleenroll",
            password=True,
            attributes={CHALLENGE_PASSWORD: [printable(link)]},
        )
        assert 400 == answer.status
        assert b"a proxy ends the TLS session" in answer.body

    def test_link_is_required(self) -> None:
        """Where it is required, nobody enrolls through the proxy."""
        front = Fronted(pop="required", labels={"front": {"pop": "verified"}})
        answer = front.post("simpleenroll", password=True)
        assert 400 == answer.status
        assert b"a proxy ends the TLS session" in answer.body
        labelled = front.post("simpleenroll", password=True, label="front")
        assert 200 == labelled.status

    def test_guesses_count_for_the_client(self) -> None:
        """One client's wrong passwords do not lock out the others."""
        front = Fronted()
        clock = front.bench.clock

        def guess(address: str, password: str) -> int:
            return exchange(
                front.bench.resource,
                "POST",
                ROOT + "/simpleenroll",
                encode_base64(make_csr_with({}), single_line=False),
                {
                    **PKCS10,
                    **basic(f"u{password}", password),
                    "X-Forwarded-For": address,
                },
                clock=clock,
                proxy=PROXY,
                peer=ADDRESS,
            ).status

        for number in range(10):
            assert 401 == guess("192.0.2.66", str(number))
        assert 429 == guess("192.0.2.66", "x")
        assert 401 == guess("192.0.2.67", "y")


class BootstrapTests:
    """The renewal of the bootstrap protocol takes the same certificate."""

    def test_renews(self) -> None:
        """One place reads the field for every protocol."""
        front = Fronted()
        certificate = front.enrolled()
        plugin: Any = ProtocolPlugin(
            "bootstrap",
            "trstctl.protocols.bootstrap.resource.BootstrapResource",
        )
        clock = Clock()
        ra = make_ra(
            front.bench.store,
            authorities=front.bench.authorities,
            clock=clock,
            now=front.bench.now,
        )
        resource: Any = plugin.make_resource(ra, settings_for(plugin))
        csr = base64.b64encode(make_csr_with({}, key=front.bench.key))
        answers = [
            exchange(
                resource,
                "POST",
                "/enroll/renewal",
                json.dumps({"csr": csr.decode()}).encode(),
                {"Client-Cert": field(certificate)},
                clock=clock,
                proxy=PROXY,
                peer=peer,
            ).status
            for peer in (STRANGER, ADDRESS)
        ]
        assert [401, 200] == answers


_FILE = """
listeners:
  https:
    proxy: {%s}
protocols: {est: {enabled: true, tenant_id: "%s"}}
"""


def configured(folder: Path, proxy: str) -> TrustedProxy | None:
    """Return the proxy of a configuration file."""
    path = folder / "trstctl.yaml"
    path.write_text(_FILE % (proxy, TENANT))
    config = load(path, discover().protocols)
    return config.listeners.https.trusted_proxy()


class SettingsTests:
    """The section ``listeners.https.proxy``."""

    def test_least(self, tmp_path: Path) -> None:
        """Networks are enough."""
        found = configured(tmp_path, "networks: [10.0.0.0/24, '::1']")
        assert (
            TrustedProxy(
                (ip_network("10.0.0.0/24"), ip_network("::1")),
                frozenset(),
                "rfc9440",
                "client-cert",
            )
            == found
        )
        assert "client-cert-chain" == found.chain_header

    def test_most(self, tmp_path: Path) -> None:
        """Everything, in any letter case."""
        found = configured(
            tmp_path,
            f"networks: [192.0.2.1], certificates: ['{'AB:' * 31}AB'], "
            "format: base64, header: X-Cert, client_address: forwarded",
        )
        assert (
            TrustedProxy(
                (ip_network("192.0.2.1"),),
                frozenset({"ab" * 32}),
                "base64",
                "x-cert",
                "forwarded",
            )
            == found
        )
        assert "" == found.chain_header

    @pytest.mark.parametrize(
        ("form", "header"),
        [
            ("pem", "x-ssl-client-cert"),
            ("base64", "x-ssl-client-cert"),
            ("xfcc", "x-forwarded-client-cert"),
        ],
    )
    def test_usual_header(
        self, tmp_path: Path, form: str, header: str
    ) -> None:
        """Each format has a field of its own."""
        found = configured(tmp_path, f"networks: ['::1'], format: {form}")
        assert found is not None
        assert header == found.header

    @pytest.mark.parametrize(
        ("proxy", "word"),
        [
            ("", "networks"),
            ("networks: []", "networks"),
            ("networks: [10.0.0.1/24]", "host bits"),
            ("networks: [0.0.0.0/0]", "everybody is the proxy"),
            ("networks: ['::/0']", "everybody is the proxy"),
            (
                f"networks: ['::/0'], certificates: [{'ab' * 32}]",
                "everybody is the proxy",
            ),
            ("networks: ['::ffff:10.0.0.0/104']", "as IPv4"),
            ("networks: ['::1'], certificates: [ab]", "SHA-256"),
            ("networks: ['::1'], format: pkcs12", "format"),
            ("networks: ['::1'], header: 'a b'", "header field"),
            ("networks: ['::1'], client_address: any", "client_address"),
        ],
    )
    def test_faults(self, tmp_path: Path, proxy: str, word: str) -> None:
        """Whoever would be believed by mistake is refused at the start."""
        with pytest.raises(ConfigurationError) as caught:
            configured(tmp_path, proxy)
        assert word in str(caught.value.faults[0])

    def test_none(self, tmp_path: Path) -> None:
        """Nobody is believed unless somebody is named."""
        path = tmp_path / "trstctl.yaml"
        path.write_text("listeners: {https: {port: 1}}\n")
        config = load(path, discover().protocols)
        assert config.listeners.https.trusted_proxy() is None
