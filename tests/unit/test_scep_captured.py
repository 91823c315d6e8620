# SPDX-License-Identifier: MIT
"""Requests that real clients have sent, octet by octet."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_pem_private_key,
)
from pkix_samples import refusal

from trstctl.errors import UnsupportedAlgorithm
from trstctl.pkix.cms import IssuerAndSerial
from trstctl.pkix.enveloped import Enveloped, read_enveloped
from trstctl.pkix.names import COMMON_NAME
from trstctl.protocols.scep import codec
from trstctl.protocols.scep.codec import PKIMessage
from trstctl.protocols.scep.opening import certificate_reader, request_reader

DATA = Path(__file__).with_name("data") / "scep"

#: What an endpoint takes by default.
DIGESTS = frozenset({"sha256", "sha384", "sha512"})

#: How a challenge of ours begins.
CHALLENGE = "AEAG"


@frozen
class Request:
    """
    What a message is known to be.

    :ivar signature: the algorithm that it is signed with.
    :ivar common_name: of the request, if it is one.
    :ivar challenge: whether there is one in it.
    :ivar names: the DNS names in it.
    """

    file: str
    message_type: str
    transaction: str
    signature: str
    cipher: str
    common_name: str = ""
    challenge: bool = False
    names: tuple[str, ...] = ()


_CERTMONGER = (
    "76895095871631054498193867628999167279005373696182851119357187975636168"
    "584945"
)

REQUESTS = (
    Request(
        *("strongswan-pkcsreq.der", codec.PKCS_REQ),
        "158772220974AE9F2EA18C5975BA874BBF174045",
        *("sha256-with-rsa", "aes-128-cbc", "moon", True, ("moon.example",)),
    ),
    Request(
        *("strongswan-renewalreq.der", codec.RENEWAL_REQ),
        "B6F948BEFFBA910401983B954BAE83443C0CEB19",
        *("sha512-with-rsa", "aes-128-cbc", "moon", False),
        names=("moon.example",),
    ),
    Request(
        *("strongswan-pss.der", codec.PKCS_REQ),
        "48E42A0AEBC2ED7EC7BFB75B5502A93EFF6A07F2",
        *("rsassa-pss-with-sha256", "aes-128-cbc", "pss", True),
    ),
    Request(
        *("strongswan-certpoll.der", codec.CERT_POLL),
        "2CD65A4850AB427391897CF35E943339E5914333",
        *("sha256-with-rsa", "aes-128-cbc"),
    ),
    Request(
        *("certmonger-pkcsreq.query", codec.PKCS_REQ, _CERTMONGER),
        *("sha256-with-rsa", "aes-256-cbc", "cm", True, ("cm.example",)),
    ),
    # A renewal with the same key has the same transactionID, and still the
    # first challenge.
    Request(
        *("certmonger-resubmit.query", codec.PKCS_REQ, _CERTMONGER),
        *("sha256-with-rsa", "aes-256-cbc", "cm", True, ("cm.example",)),
    ),
    Request(
        *("certmonger-rekey.query", codec.PKCS_REQ),
        "1070318094604567296438617973840106684131297600305552383233578529575120"
        "04968713",
        *("sha256-with-rsa", "aes-256-cbc", "cm", True, ("cm.example",)),
    ),
    Request(
        *("pyscep-pkcsreq.der", codec.PKCS_REQ),
        "fd097ae908c587d1cedf39a1fd1be791a2dc732a",
        *("sha512-with-rsa", "aes-256-cbc", "pyscep", True),
    ),
    Request(
        *("pyscep-renewal.der", codec.PKCS_REQ),
        "9dbce92e1eb466c51676977208cc41516fe1cb61",
        *("sha512-with-rsa", "aes-256-cbc", "pyscep"),
    ),
    Request(
        *("pyscep-certpoll.der", codec.CERT_POLL),
        "d93a47214eb0aee2b8c4a62bce4c56eba443e9a1",
        *("sha512-with-rsa", "aes-256-cbc"),
    ),
    Request(
        *("pyscep-getcert.der", codec.GET_CERT),
        "d12923a7-4473-4104-bb98-80c7b6401cf3",
        *("sha512-with-rsa", "aes-256-cbc"),
    ),
    Request(
        *("pyscep-getcrl.der", codec.GET_CRL),
        "f5a3cea7-b96b-4bd8-bf53-5d8aaaa409d4",
        *("sha512-with-rsa", "aes-256-cbc"),
    ),
    Request(
        *("scepclient-pkcsreq.der", codec.PKCS_REQ),
        "iTW5vbaOgSlsgcfWUl+6u+GscuE=",
        *("sha1-with-rsa", "des-cbc", "mdm", True),
    ),
)
GOOD = REQUESTS[:-1]
OLD = REQUESTS[-1]


def named(request: Request) -> str:
    """Return a test's name."""
    return request.file.partition(".")[0]


@cache
def octets(file: str) -> bytes:
    """Return the message in a file, as HTTP would hand it on."""
    content = (DATA / file).read_bytes()
    if not file.endswith(".query"):
        return content
    operation, message = codec.decode_query(content)
    assert "PKIOperation" == operation
    assert message
    return codec.decode_get(message)


@cache
def gateway() -> tuple[Any, bytes, bytes]:
    """Return the RA's key, its certificate and its issuer's."""
    pem = (DATA / "gateway.pem").read_bytes()
    ra, issuer, _ = x509.load_pem_x509_certificates(pem)
    return (
        load_pem_private_key(pem, None),
        ra.public_bytes(Encoding.DER),
        issuer.public_bytes(Encoding.DER),
    )


def content_key(enveloped: Enveloped) -> bytes:
    """Decrypt the content-encryption key, without any code of ours."""
    key, certificate, _ = gateway()
    recipient = enveloped.recipient_for(certificate)
    assert recipient is not None
    found: bytes = key.decrypt(recipient.encrypted_key, padding.PKCS1v15())
    return found


def opened(request: Request) -> tuple[PKIMessage, Enveloped]:
    """Read a message up to what is encrypted."""
    message = codec.read_message(octets(request.file))
    codec.check_message(message, DIGESTS)
    return message, read_enveloped(message.content)


class MessageTests:
    """What is around what is encrypted (RFC 8894, section 3.2)."""

    @pytest.mark.parametrize("request_", REQUESTS, ids=named)
    def test_attributes(self, request_: Request) -> None:
        """Type, transactionID, nonce and algorithm are as they were."""
        message = codec.read_message(octets(request_.file))
        assert request_.message_type == message.message_type
        assert request_.transaction == message.transaction
        assert request_.signature == message.algorithm
        assert 16 == len(message.sender_nonce)

    @pytest.mark.parametrize("request_", GOOD, ids=named)
    def test_signature(self, request_: Request) -> None:
        """It verifies, and the cipher is one that we take."""
        _, enveloped = opened(request_)
        assert request_.cipher == enveloped.cipher

    def test_old_one(self) -> None:
        """SHA-1 is refused, and then single DES would be."""
        message = codec.read_message(octets(OLD.file))
        with pytest.raises(UnsupportedAlgorithm):
            codec.check_message(message, DIGESTS)
        codec.check_message(message, DIGESTS | {"sha1"})
        assert OLD.cipher == read_enveloped(message.content).cipher


class ContentTests:
    """What is encrypted (sections 3.3 and 4)."""

    @pytest.mark.parametrize(
        "request_", [one for one in GOOD if one.common_name], ids=named
    )
    def test_certification_request(self, request_: Request) -> None:
        """It is decrypted, proves its key, and says what it said."""
        message, enveloped = opened(request_)
        wanted = enveloped.open(
            content_key(enveloped),
            request_reader(message, lenient=False),
            random_bytes=bytes,
        )
        *_, ((oid, value, _),) = (
            [(one.oid, one.value, one.tag) for one in rdn]
            for rdn in wanted.subject
        )
        assert (COMMON_NAME, request_.common_name) == (oid, value)
        assert request_.names == tuple(one.value for one in wanted.names)
        challenge = wanted.challenge_password or ""
        assert request_.challenge == challenge.startswith(CHALLENGE)

    @pytest.mark.parametrize(
        "request_",
        [
            one
            for one in GOOD
            if one.message_type in {codec.GET_CERT, codec.GET_CRL}
        ],
        ids=named,
    )
    def test_named_certificate(self, request_: Request) -> None:
        """It names a certificate of our CA (section 3.3.4)."""
        _, enveloped = opened(request_)
        _, _, issuer = gateway()
        found = enveloped.open(
            content_key(enveloped),
            certificate_reader(issuer),
            random_bytes=bytes,
        )
        assert isinstance(found, IssuerAndSerial)

    def test_renewals(self) -> None:
        """A renewal is signed with what our CA has issued (section 2.3)."""
        _, _, issuer = gateway()
        ours = {
            named(one)
            for one in REQUESTS
            if codec.is_issued_by(
                codec.read_message(octets(one.file)).signer, issuer
            )
        }
        assert {
            "strongswan-renewalreq",
            "certmonger-resubmit",
            "certmonger-rekey",
            "pyscep-renewal",
            "pyscep-getcert",
            "pyscep-getcrl",
        } == ours


class DamageTests:
    """What arrives damaged is read, or refused as what it is."""

    @pytest.mark.parametrize("request_", REQUESTS, ids=named)
    def test_damage(self, request_: Request) -> None:
        """No prefix and no wrong octet makes anything else of it."""
        data = octets(request_.file)
        known = {None, "Malformed", "TooLarge"}
        steps = range(0, len(data), 7)
        for position, following in pairwise(steps):
            damaged = bytearray(data)
            damaged[position] ^= 0xFF - position % 0xFF
            for each in (bytes(damaged), data[:following]):
                assert refusal(codec.read_message, each) in known
