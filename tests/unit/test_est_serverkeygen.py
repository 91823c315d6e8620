# SPDX-License-Identifier: MIT
"""``/serverkeygen``: keys that the gateway makes (RFC 7030, section 4.4)."""

from __future__ import annotations

import base64
import email
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict
from cmp_envelopes import agreed_key, decrypt, enveloped
from cmp_samples import certificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from cryptography.x509 import NameOID
from est_samples import (
    PKCS10,
    ROOT,
    ESTBench,
    make_csr_with,
    pem_file,
)
from pkix_samples import rsa_key
from pyasn1.codec.der import decoder, encoder
from pyasn1_alt_modules import rfc5958
from pydantic import ValidationError
from twisted.logger import globalLogPublisher

from trstctl.asked import read_kept
from trstctl.config.reader import ConfigurationError, load
from trstctl.config.secrets import SecretError
from trstctl.discovery import discover
from trstctl.errors import Unavailable
from trstctl.model import CertificateQuery, CertificateStatus, Purpose
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cms import (
    SIGNED_DATA,
    certs_only,
    content_info,
    key_identifier,
    read_certs_only,
)
from trstctl.pkix.encryption import scheme_identifier
from trstctl.pkix.signed import read_signed_data, verify_signer
from trstctl.protocols.est.codec import encode_base64
from trstctl.protocols.est.key_secrets import identifier_of
from trstctl.protocols.est.settings import ESTSettings
from trstctl.testing import (
    EPOCH,
    TENANT,
    Connection,
    add_one_time_token,
    basic,
    exchange,
    make_csr,
    request_octets,
    result_of,
)

DECRYPT = "1.2.840.113549.1.9.16.2.37"
ASYMMETRIC = "1.2.840.113549.1.9.16.2.54"
CAPABILITIES = "1.2.840.113549.1.9.15"
AES_128, AES_192, AES_256 = (
    f"2.16.840.1.101.3.4.1.{arc}" for arc in (2, 22, 42)
)
WRAP_128, WRAP_256 = "2.16.840.1.101.3.4.1.5", "2.16.840.1.101.3.4.1.45"
TRIPLE_DES = "1.2.840.113549.3.7"
DAY = timedelta(days=1)
OTP = "1.2.840.113549.1.9.16.2.56"

Attributes = Mapping[str, Sequence[bytes]]


def able(*oids: str) -> tuple[bytes, ...]:
    """Return the value of SMIMECapabilities."""
    return (der.sequence(*(der.sequence(der.oid(oid)) for oid in oids)),)


def symmetric(
    identifier: bytes = b"line-7", *oids: str
) -> dict[str, tuple[bytes, ...]]:
    """Return what asks for a key under a symmetric one."""
    return {
        DECRYPT: (der.octet_string(identifier),),
        CAPABILITIES: able(*(oids or (AES_128,))),
    }


def asymmetric(identifier: bytes, *oids: str) -> dict[str, tuple[bytes, ...]]:
    """Return what asks for a key under one of a certificate."""
    return {
        ASYMMETRIC: (der.octet_string(identifier),),
        CAPABILITIES: able(*(oids or (AES_128,))),
    }


class _Made:
    """An answer: key and certificate, each with the head of its part."""

    def __init__(self, answer: Any) -> None:
        assert 200 == answer.status, answer.body
        head = f"Content-Type: {answer.content_type}\r\n\r\n"
        message = email.message_from_bytes(head.encode() + answer.body)
        assert message.is_multipart()
        first, second = message.get_payload()
        self.key_type = first["Content-Type"]
        self.certificate_type = second["Content-Type"]
        self.codings = [
            one["Content-Transfer-Encoding"] for one in (first, second)
        ]
        self.octets: bytes = first.get_payload(decode=True)
        (self.certificate,) = read_certs_only(second.get_payload(decode=True))
        self.facts = read_certificate(self.certificate)

    @property
    def key(self) -> Any:
        """The private key of a part that is not encrypted."""
        return serialization.load_der_private_key(self.octets, None)

    def fits(self, key: Any) -> bool:
        """Tell whether a private key is the certificate's."""
        spki = key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        return bool(spki == self.facts.public_key.spki)


class _Bench(ESTBench):
    """EST with a label that makes keys by default."""

    def __init__(self, profiles: Any = None, **settings: Any) -> None:
        super().__init__(profiles, **{"serverkeygen": True, **settings})
        self.change()

    def change(self, **profile: Any) -> None:
        """Reload with other settings of ``device``, which has keys made."""
        super().change(**{"server_key_generation": True, **profile})

    def encrypting_to(self, path: Path) -> None:
        """Reload with other ``decrypt_certificates``."""
        settings = self.resource.settings.model_copy(
            update={"decrypt_certificates": (path,)}
        )
        self.resource = type(self.resource)("est", self.ra, settings)

    def made(self, csr: bytes, **options: Any) -> _Made:
        """Have a key made."""
        return _Made(self.post(csr, "serverkeygen", **options))

    def refuses(self, csr: bytes, status: int, **options: Any) -> str:
        """Ask for a key in vain; nothing is left behind."""
        making = self.ra.key_maker.make
        asked: list[Any] = []

        def make(*args: Any) -> Any:
            asked.append(args)
            return making(*args)

        maker: Any = self.ra.key_maker
        maker.make = make
        text = self.refused(status, csr, "serverkeygen", **options)
        maker.make = making
        assert [] == asked
        return text

    def revoked(self) -> dict[str, str]:
        """Return the reasons of what is revoked, by serial."""
        query = CertificateQuery(TENANT)
        return {
            one.serial: one.revocation_reason
            for one in result_of(self.store.list_certificates(query))
            if one.status is CertificateStatus.REVOKED
        }


def opened(bench: ESTBench, content: bytes) -> Any:
    """
    Return the private key in a SignedData, as its signer has sent it.

    RFC 7030, section 4.4.2: signed by the party that generated it.
    """
    message = read_signed_data(content_info(SIGNED_DATA, content))
    (signer,) = message.signers
    credential = result_of(bench.ra.credentials.get("issuing", Purpose.KGA))
    assert credential.certificate == signer.certificate
    verify_signer(
        message, signer, read_certificate(signer.certificate).public_key.spki
    )
    # The chain is there, so that it verifies.
    assert credential.chain == message.certificates
    assert "2.16.840.1.101.2.1.2.78.5" == message.content_type
    (one,), rest = decoder.decode(
        message.content, rfc5958.AsymmetricKeyPackage()
    )
    assert b"" == rest
    old = rfc5958.OneAsymmetricKey()
    old["version"] = 0
    for name in ("privateKeyAlgorithm", "privateKey"):
        old[name] = one[name]
    return serialization.load_der_private_key(encoder.encode(old), None)


def content_of(made: _Made, key: bytes) -> bytes:
    """Return the SignedData in an answer."""
    assert (
        "application/pkcs7-mime; smime-type=server-generated-key"
        == made.key_type
    )
    found = enveloped(made.octets)
    assert SIGNED_DATA == str(found["encryptedContentInfo"]["contentType"])
    return decrypt(found, key)


class AnswerTests:
    """What comes back (RFC 7030, section 4.4.2)."""

    def test_bare(self) -> None:
        """Two parts: PrivateKeyInfo, and the certificate of that key."""
        bench = _Bench()
        made = bench.made(make_csr(names=("dns:d.example",)))
        assert "application/pkcs8" == made.key_type
        # Exactly matches the response to /simpleenroll.
        assert (
            "application/pkcs7-mime; smime-type=certs-only"
            == made.certificate_type
        )
        # RFC 8951 has it ignored; libest and BouncyCastle do not.
        assert ["base64", "base64"] == made.codings
        assert made.fits(made.key)
        assert "CN=device.example" in bench.record(made.certificate).subject

    def test_head(self) -> None:
        """One answer, with its length, that nobody keeps."""
        answer = _Bench().post(make_csr(), "serverkeygen")
        assert str(len(answer.body)) == answer.headers["Content-Length"]
        assert "no-store" == answer.headers["Cache-Control"]
        kind, _, boundary = answer.content_type.partition("; boundary=")
        assert ("multipart/mixed", 32) == (kind, len(boundary))
        assert answer.body.startswith(b"--" + boundary.encode() + b"\r\n")
        assert answer.body.endswith(b"\r\n--" + boundary.encode() + b"--\r\n")

    def test_boundary_is_another_each_time(self) -> None:
        """RFC 2046, section 5.1.1: it must not occur in a part."""
        bench = _Bench()
        kinds = {
            bench.post(make_csr(), "serverkeygen").content_type
            for _ in range(3)
        }
        assert 3 == len(kinds)

    @pytest.mark.parametrize("mode", ["wrapped", "single"])
    def test_lines(self, mode: str) -> None:
        """Lines as the client reads them, as in every other answer."""
        answer = _Bench(line_mode=mode).post(make_csr(), "serverkeygen")
        made = _Made(answer)
        single = mode == "single"
        for octets in (made.octets, certs_only((made.certificate,))):
            body = encode_base64(octets, single_line=single)
            assert b"\r\n\r\n" + body + b"\r\n--" in answer.body

    def test_nothing_is_kept(self) -> None:
        """The private key is in the answer, and nowhere else."""
        bench = _Bench()
        seen: list[Any] = []
        globalLogPublisher.addObserver(seen.append)
        made = bench.made(make_csr())
        globalLogPublisher.removeObserver(seen.append)
        number = made.key.private_numbers().private_value
        octets = number.to_bytes(32, "big")
        rows = result_of(bench.store.list_requests(TENANT, None, 10))
        kept = [asdict(row) for row in (*rows, bench.record(made.certificate))]
        values = [value for one in kept for value in one.values()]
        assert octets not in b"".join(
            v for v in values if isinstance(v, bytes)
        )
        audited = result_of(bench.store.audit_records(TENANT, 0, 100))
        for shown in (values, audited, seen):
            assert repr(octets)[2:-1] not in repr(shown)
            assert octets.hex() not in repr(shown)
        (row,) = rows
        assert made.facts.public_key.fingerprint == row.public_key_fingerprint

    def test_what_is_kept_reads_back(self) -> None:
        """The device's request, without its password."""
        bench = _Bench(challenge_password="ignore")
        csr = make_csr_with(
            {"1.2.840.113549.1.9.7": (der.tlv(19, b"hidden"),)}
        )
        bench.made(csr)
        (row,) = result_of(bench.store.list_requests(TENANT, None, 10))
        assert b"hidden" not in row.csr
        assert read_kept(row.csr).names == ()


class RequestTests:
    """What is asked (RFC 7030, section 4.4.1)."""

    def test_off(self) -> None:
        """Off unless the operator turns it on: 404 (section 4.3.2)."""
        bench = ESTBench()
        assert 404 == bench.post(make_csr(), "serverkeygen").status

    def test_per_label(self) -> None:
        """Of a label, and of no other."""
        bench = _Bench(
            serverkeygen=False,
            labels={"keys": {"serverkeygen": True}, "no": {}},
        )
        assert 200 == bench.post(make_csr(), "serverkeygen", "keys").status
        assert 404 == bench.post(make_csr(), "serverkeygen", "no").status
        bench = _Bench(labels={"no": {"serverkeygen": False}})
        assert 404 == bench.post(make_csr(), "serverkeygen", "no").status

    def test_profile_without(self) -> None:
        """The profile has to allow it, too."""
        bench = _Bench()
        bench.change(server_key_generation=False)
        assert "key-generation" in bench.refuses(make_csr(), 403)

    @pytest.mark.parametrize("method", ["GET", "PUT"])
    def test_methods(self, method: str) -> None:
        """HTTPS POST (section 4.4), and nothing else."""
        bench = _Bench()
        answer = exchange(bench.resource, method, f"{ROOT}/serverkeygen")
        assert (405, "POST") == (answer.status, answer.headers["Allow"])

    def test_wrong_signature(self) -> None:
        """The server MUST ignore the signature (section 4.4.1)."""
        csr = make_csr()
        wrong = csr[:-8] + bytes(octet ^ 0x55 for octet in csr[-8:])
        bench = _Bench()
        assert 400 == bench.post(wrong).status
        made = bench.made(wrong)
        assert made.fits(made.key)

    def test_key_is_ignored(self) -> None:
        """And the public key's value: also of one that is no point."""
        csr = make_csr()
        at = csr.index(b"\x03\x42\x00\x04") + 4
        wrong = csr[:at] + b"\x01" * 64 + csr[at + 64 :]
        made = _Bench().made(wrong)
        assert made.fits(made.key)
        assert "p-256" == made.facts.public_key.algorithm

    @pytest.mark.parametrize(
        ("asked", "algorithm"),
        [
            (ec.generate_private_key(ec.SECP384R1()), "p-384"),
            (ec.generate_private_key(ec.SECP256K1()), "p-256"),
            (ed25519.Ed25519PrivateKey.generate(), "p-256"),
        ],
    )
    def test_type(self, asked: Any, algorithm: str) -> None:
        """Type and size as the request has them, if the profile has them."""
        bench = _Bench()
        bench.change(key_types=("p-256", "p-384"))
        csr = make_csr_with({}, key=asked if hasattr(asked, "sign") else None)
        made = bench.made(csr)
        assert algorithm == made.facts.public_key.algorithm
        assert made.fits(made.key)

    @pytest.mark.parametrize(("least", "bits"), [(2048, 2048), (2500, 3072)])
    def test_rsa(self, least: int, bits: int) -> None:
        """As large as the profile wants, where the request has another."""
        bench = _Bench()
        bench.change(key_types=("rsa",), rsa_bits_min=least)
        made = bench.made(make_csr())
        assert bits == made.facts.public_key.bits
        assert made.fits(made.key)

    def test_no_key_of_the_profile(self) -> None:
        """A profile whose keys are not made here."""
        bench = _Bench()
        bench.change(key_types=("ml-dsa-44",))
        assert "made here" in bench.refuses(make_csr(), 400)

    def test_client_certificate(self) -> None:
        """
        Section 4.4: who has a certificate asks for another with it, within
        the names of his own.
        """
        bench = _Bench()
        own = bench.issued(make_csr(names=("dns:d.example",)))
        made = bench.made(make_csr(names=("dns:d.example",)), certificate=own)
        assert bench.record(made.certificate).principal.startswith(
            "certificate:"
        )
        # It replaces nothing, as it is no renewal.
        assert CertificateStatus.VALID is bench.record(own).status
        other = make_csr(names=("dns:other.example",))
        assert "certificate-names" in bench.refuses(
            other, 403, certificate=own
        )


class RefusedTests:
    """No key is made for who gets no certificate."""

    def test_who_asks(self) -> None:
        """The server MUST authenticate the client (section 4.4)."""
        assert "" == _Bench().refuses(make_csr(), 401, password=False)

    def test_profile(self) -> None:
        """The profile's rules, named."""
        bench = _Bench()
        bench.change(names={"dns": ("*.good.example",)})
        text = bench.refuses(make_csr(names=("dns:bad.example",)), 403)
        assert "names-patterns" in text

    def test_idempotency_key(self) -> None:
        """I-15: no stored certificate without its key."""
        text = _Bench().refuses(make_csr(), 400, Idempotency_Key="k")
        assert "idempotency key" in text

    def test_media_type(self) -> None:
        """As for /simpleenroll (section 4.4.1)."""
        _Bench().refuses(make_csr(), 415, Content_Type="text/plain")

    def test_malformed(self) -> None:
        """As for /simpleenroll (section 4.4.1)."""
        _Bench().refuses(b"\x30\x00", 400)

    def test_enforced_attributes(self) -> None:
        """What /csrattrs demands holds here, too, but for key and digest."""
        bench = _Bench(csrattrs="enforce")
        bench.change(key_types=("p-384",), names_required=True)
        assert "csr-attributes" in bench.refuses(make_csr(), 403)
        made = bench.made(make_csr(names=("dns:d.example",)))
        assert "p-384" == made.facts.public_key.algorithm

    def test_link_to_another_session(self) -> None:
        """RFC 7030, section 3.5: what is there is verified."""
        csr = make_csr_with(
            {"1.2.840.113549.1.9.7": (der.tlv(19, b"bm90IGl0"),)}
        )
        _Bench().refuses(csr, 400, binding=b"session")

    def test_approval(self) -> None:
        """A profile that was reloaded to ask a person makes no key."""
        bench = _Bench()
        bench.change(approval="always")
        assert "approval" in bench.refuses(make_csr(), 403)

    def test_key_maker_is_busy(self) -> None:
        """503, and nothing was promised."""
        bench = _Bench()
        maker: Any = bench.ra.key_maker

        def make(*_: Any) -> Any:
            raise Unavailable

        maker.make = make
        bench.refused(503, make_csr(), "serverkeygen")

    def test_signer_of_keys_is_away(self) -> None:
        """What the answer needs is there before anything is promised."""
        bench = _Bench()
        own = bench.issued(make_csr())
        credentials: Any = bench.ra.credentials
        credentials.error = Unavailable()
        csr = make_csr_with(
            asymmetric(key_identifier(own) or b""), "device.example"
        )
        bench.refuses(csr, 400)
        bench.change(
            key_types=("p-256",),
            key_usage=("digitalSignature", "keyAgreement"),
        )
        own = bench.issued(make_csr(key=bench.key))
        csr = make_csr_with(
            asymmetric(key_identifier(own) or b""), "device.example"
        )
        assert "" != bench.refuses(csr, 503, certificate=own)


class RetryTests:
    """What somebody gets who lost the answer (I-15)."""

    def test_again(self) -> None:
        """Another key and another certificate; the first is revoked."""
        bench = _Bench()
        csr = make_csr()
        first, second = bench.made(csr), bench.made(csr)
        assert first.octets != second.octets
        assert {first.facts.serial: "superseded"} == bench.revoked()

    def test_built_anew(self) -> None:
        """Key and signature of the request count for nothing."""
        bench = _Bench()
        first = bench.made(make_csr(names=("dns:d.example",)))
        bench.made(make_csr(names=("dns:d.example",)))
        assert {first.facts.serial: "superseded"} == bench.revoked()

    def test_in_another_session(self) -> None:
        """And what names its session."""
        bench = _Bench()
        for session in (b"one", b"two"):
            link = base64.b64encode(session)
            made = bench.made(
                make_csr_with({"1.2.840.113549.1.9.7": (der.tlv(19, link),)}),
                binding=session,
            )
        assert 1 == len(bench.revoked())
        assert made.facts.serial not in bench.revoked()

    @pytest.mark.parametrize(
        "other",
        [
            make_csr("other.example"),
            make_csr(names=("dns:d.example",)),
            make_csr_with({}, "device.example", key=rsa_key()),
            make_csr_with({"1.2.3": (der.integer(1),)}, "device.example"),
        ],
    )
    def test_another_request(self, other: bytes) -> None:
        """Another name, extension, type of key or attribute."""
        bench = _Bench()
        bench.made(make_csr())
        bench.made(other)
        assert {} == bench.revoked()

    def test_one_time_token(self) -> None:
        """A single-use token is used up by the first key."""
        bench = _Bench()
        token = add_one_time_token(bench.store, "tok")
        csr = make_csr_with(
            {OTP: (der.tlv(12, token.encode()),)}, "device.example"
        )
        made = bench.made(csr, password=False)
        bench.refuses(csr, 401, password=False)
        assert {} == bench.revoked()
        assert bench.record(made.certificate).principal == "token:tok"

    def test_in_flight(self) -> None:
        """409 and Retry-After while the first is being answered."""
        bench = _Bench()
        bench.signer.paused = True
        first = Connection(bench.resource, clock=bench.clock)
        octets = encode_base64(make_csr(), single_line=False)
        first.send(
            request_octets(
                "POST",
                f"{ROOT}/serverkeygen",
                octets,
                {**PKCS10, **basic("a", "pw")},
            )
        )
        answer = bench.post(make_csr(), "serverkeygen")
        assert (409, "2") == (answer.status, answer.headers["Retry-After"])


class SymmetricTests:
    """DecryptKeyIdentifier (section 4.4.1.1), answered by kekri."""

    KEYS = ("00" * 16, "11" * 24, "22" * 32)

    @pytest.fixture
    def bench(self, tmp_path: Path) -> _Bench:
        """Return a bench with a key of each length."""
        references = {}
        for name, key in zip(
            ("line-7", "hex:00ff", "longest"), self.KEYS, strict=True
        ):
            path = tmp_path / f"{len(key)}.key"
            path.write_text(f"{key}\n")
            path.chmod(0o600)
            references[name] = f"file:{path}"
        return _Bench(decrypt_keys=references)

    @pytest.mark.parametrize("index", range(3))
    def test_opened(self, bench: _Bench, index: int) -> None:
        """Version 4, the client's identifier, and our signature inside."""
        name = (b"line-7", b"\x00\xff", b"longest")[index]
        made = bench.made(make_csr_with(symmetric(name, AES_256)))
        found = enveloped(made.octets)
        (info,) = found["recipientInfos"]
        assert (4, name) == (
            int(info["kekri"]["version"]),
            bytes(info["kekri"]["kekid"]["keyIdentifier"]),
        )
        key = aes_key_unwrap(
            bytes.fromhex(self.KEYS[index]),
            bytes(info["kekri"]["encryptedKey"]),
        )
        assert 32 == len(key)
        assert made.fits(opened(bench, content_of(made, key)))

    def test_unknown(self, bench: _Bench) -> None:
        """Of no key of ours: the request MUST be terminated."""
        text = bench.refuses(make_csr_with(symmetric(b"line-8")), 400)
        assert "DecryptKeyIdentifier is of no key" in text

    def test_unknown_to_nobody(self, bench: _Bench) -> None:
        """Who has not said who he is does not learn which keys there are."""
        for name in (b"line-7", b"line-8"):
            csr = make_csr_with(symmetric(name))
            assert "" == bench.refuses(csr, 401, password=False)

    @pytest.mark.parametrize(
        ("oids", "size"),
        [
            # Section 4.4.2 SHOULD: as strong as the key that protects it.
            ((AES_128, AES_256), 16),
            ((AES_256, AES_128), 32),
            ((TRIPLE_DES, AES_192), 24),
            ((WRAP_128, AES_128), 16),
            # Who lists key wrap only has AES.
            ((WRAP_256, WRAP_128), 32),
        ],
    )
    def test_ciphers(
        self, bench: _Bench, oids: tuple[str, ...], size: int
    ) -> None:
        """The first of the client's that is strong enough."""
        made = bench.made(make_csr_with(symmetric(b"line-7", *oids)))
        (info,) = enveloped(made.octets)["recipientInfos"]
        key = aes_key_unwrap(bytes(16), bytes(info["kekri"]["encryptedKey"]))
        assert size == len(key)

    @pytest.mark.parametrize(
        "oids",
        [
            (TRIPLE_DES,),
            ("1.2.3",),
            # GCM, which is not used here.
            ("2.16.840.1.101.3.4.1.46",),
            # Section 4.4.2: the wrap is one of those that were included.
            (AES_128, WRAP_256),
        ],
    )
    def test_no_common_cipher(
        self, bench: _Bench, oids: tuple[str, ...]
    ) -> None:
        """Refused, with what to add."""
        text = bench.refuses(make_csr_with(symmetric(b"line-7", *oids)), 400)
        assert "SMIMECapabilities" in text

    def test_no_capabilities(self, bench: _Bench) -> None:
        """The client MUST include them (section 4.4.1)."""
        asked = {DECRYPT: symmetric()[DECRYPT]}
        text = bench.refuses(make_csr_with(asked), 400)
        assert "SMIMECapabilities" in text

    def test_both(self, bench: _Bench) -> None:
        """One key protects it, not two."""
        asked = {**symmetric(), **asymmetric(b"x")}
        assert "two keys" in bench.refuses(make_csr_with(asked), 400)

    @pytest.mark.parametrize(
        "wrong",
        [
            {DECRYPT: (der.integer(1),)},
            {DECRYPT: (der.octet_string(b"a"), der.octet_string(b"b"))},
            {CAPABILITIES: (der.octet_string(b""),)},
            {CAPABILITIES: (der.sequence(), der.sequence(der.sequence()))},
        ],
    )
    def test_malformed(self, bench: _Bench, wrong: Attributes) -> None:
        """Attributes that are none."""
        asked = {**symmetric(), **wrong}
        bench.refuses(make_csr_with(asked), 400, password=False)

    def test_capabilities_alone(self, bench: _Bench) -> None:
        """Who names no key gets it within TLS alone."""
        made = bench.made(make_csr_with({CAPABILITIES: able(AES_128)}))
        assert "application/pkcs8" == made.key_type


class AsymmetricTests:
    """AsymmetricDecryptKeyIdentifier (section 4.4.1.2): ktri or kari."""

    def bench(self, tmp_path: Path, *owners: Any, **settings: Any) -> _Bench:
        """Return a bench that knows the owners' certificates."""
        path = pem_file(tmp_path, "owners.pem", *map(owned, owners))
        return _Bench(decrypt_certificates=(path,), **settings)

    @pytest.mark.parametrize("scheme", ["", "rsaes-oaep-sha256"])
    def test_transport(self, tmp_path: Path, scheme: str) -> None:
        """RSA: ktri, by the scheme that the client lists first."""
        bench = self.bench(tmp_path, rsa_key())
        asked: Any = asymmetric(identifier_by(rsa_key()))
        pad: Any = padding.PKCS1v15()
        if scheme:
            pad = padding.OAEP(
                padding.MGF1(hashes.SHA256()), hashes.SHA256(), None
            )
            asked[CAPABILITIES] = (
                der.sequence(
                    der.sequence(der.oid(AES_128)),
                    scheme_identifier(scheme),
                    scheme_identifier("rsaes-pkcs1-v1.5"),
                ),
            )
        made = bench.made(make_csr_with(asked))
        (info,) = enveloped(made.octets)["recipientInfos"]
        ktri = info["ktri"]
        assert identifier_by(rsa_key()) == bytes(
            ktri["rid"]["subjectKeyIdentifier"]
        )
        key = rsa_key().decrypt(bytes(ktri["encryptedKey"]), pad)
        assert made.fits(opened(bench, content_of(made, key)))

    @pytest.mark.parametrize(
        ("curve", "digest", "size"),
        [
            (ec.SECP256R1, hashes.SHA256(), 16),
            (ec.SECP384R1, hashes.SHA384(), 32),
            (ec.SECP521R1, hashes.SHA512(), 32),
        ],
    )
    def test_agreement(
        self, tmp_path: Path, curve: Any, digest: Any, size: int
    ) -> None:
        """EC: kari, with a cipher as strong as the curve, if there is one."""
        owner = ec.generate_private_key(curve())
        bench = self.bench(tmp_path, owner)
        asked = asymmetric(identifier_by(owner), AES_128, AES_256)
        made = bench.made(make_csr_with(asked))
        (info,) = enveloped(made.octets)["recipientInfos"]
        (each,) = info["kari"]["recipientEncryptedKeys"]
        assert identifier_by(owner) == bytes(
            each["rid"]["rKeyId"]["subjectKeyIdentifier"]
        )
        key = agreed_key(info["kari"], owner, digest, size)
        assert made.fits(opened(bench, content_of(made, key)))

    @pytest.mark.parametrize(
        ("oids", "size"),
        [
            ((AES_256, WRAP_128, AES_128), 16),
            ((WRAP_256,), 32),
            ((AES_128,), 16),
        ],
    )
    def test_wraps(
        self, tmp_path: Path, oids: tuple[str, ...], size: int
    ) -> None:
        """Section 4.4.2: by a key wrap of those that were included."""
        owner = ec.generate_private_key(ec.SECP256R1())
        bench = self.bench(tmp_path, owner)
        asked = asymmetric(identifier_by(owner), *oids)
        made = bench.made(make_csr_with(asked))
        (info,) = enveloped(made.octets)["recipientInfos"]
        key = agreed_key(info["kari"], owner, hashes.SHA256(), size)
        assert size == len(key)

    def test_weaker_than_the_curve(self, tmp_path: Path) -> None:
        """Section 4.4.2 SHOULD: what the client has not cannot be."""
        owner = ec.generate_private_key(ec.SECP521R1())
        bench = self.bench(tmp_path, owner)
        made = bench.made(make_csr_with(asymmetric(identifier_by(owner))))
        (info,) = enveloped(made.octets)["recipientInfos"]
        key = agreed_key(info["kari"], owner, hashes.SHA512(), 16)
        assert made.fits(opened(bench, content_of(made, key)))

    def test_wrap_of_another_size(self, tmp_path: Path) -> None:
        """No wrap for any of the ciphers: refused."""
        owner = ec.generate_private_key(ec.SECP256R1())
        bench = self.bench(tmp_path, owner)
        asked = asymmetric(identifier_by(owner), AES_128, WRAP_256)
        bench.refuses(make_csr_with(asked), 400)

    @pytest.mark.parametrize("form", ["sha1", "sha256", "short"])
    def test_other_names_of_a_key(self, tmp_path: Path, form: str) -> None:
        """By a hash of it (RFC 5280, 4.2.1.2; RFC 7093, section 2)."""
        owner = rsa_key()
        bits = owner.public_key().public_bytes(
            Encoding.DER, PublicFormat.PKCS1
        )
        name = {
            "sha1": hashlib.sha1(bits).digest(),
            "sha256": hashlib.sha256(bits).digest(),
            "short": hashlib.sha256(bits).digest()[:20],
        }[form]
        bare = certificate(owner, key_identifier=False)
        path = pem_file(tmp_path, "bare.pem", bare)
        bench = _Bench(decrypt_certificates=(path,))
        made = bench.made(make_csr_with(asymmetric(name)))
        (info,) = enveloped(made.octets)["recipientInfos"]
        # Else the server determines an issuerAndSerialNumber.
        rid = info["ktri"]["rid"]
        assert "issuerAndSerialNumber" == rid.getName()

    def test_client_certificate(self) -> None:
        """The key of this very TLS session, if it may."""
        bench = _Bench()
        bench.change(key_usage=("digitalSignature", "keyAgreement"))
        own = bench.issued(make_csr(key=bench.key))
        csr = make_csr_with(
            asymmetric(key_identifier(own) or b""), "device.example"
        )
        made = bench.made(csr, certificate=own)
        (info,) = enveloped(made.octets)["recipientInfos"]
        key = agreed_key(info["kari"], bench.key, hashes.SHA256(), 16)
        assert made.fits(opened(bench, content_of(made, key)))

    def test_not_in_this_session(self) -> None:
        """A certificate of ours that is not proven now is nobody's."""
        bench = _Bench()
        bench.change(key_usage=("digitalSignature", "keyAgreement"))
        own = bench.issued(make_csr(key=bench.key))
        asked = asymmetric(key_identifier(own) or b"")
        bench.refuses(make_csr_with(asked, "device.example"), 400)
        # Nor is another's key this one's.
        other = asymmetric(b"another")
        text = bench.refuses(
            make_csr_with(other, "device.example"), 400, certificate=own
        )
        assert "AsymmetricDecryptKeyIdentifier is neither" in text

    def test_key_usage(self) -> None:
        """
        Section 4.4.1.2: it MUST support key transport or agreement, or be
        unrestricted; and the refusal says why.
        """
        bench = _Bench()
        own = bench.issued(make_csr(key=bench.key))
        asked = asymmetric(key_identifier(own) or b"")
        text = bench.refuses(
            make_csr_with(asked, "device.example"), 400, certificate=own
        )
        assert "without keyAgreement" in text

    @pytest.mark.parametrize(
        ("owner", "told"),
        [
            (ed25519.Ed25519PrivateKey.generate(), "ed25519"),
            (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        ],
    )
    def test_keys_that_cannot(
        self, tmp_path: Path, owner: Any, told: str
    ) -> None:
        """Keys to which nothing can be encrypted here."""
        bench = self.bench(tmp_path, owner)
        text = bench.refuses(
            make_csr_with(asymmetric(identifier_by(owner))), 400
        )
        assert told in text


class DateTests:
    """Whether the operator's certificates are valid when they are used."""

    @staticmethod
    def dated(begin: datetime, end: datetime) -> bytes:
        """Return a certificate of the usual key with these dates."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "owner")])
        key = rsa_key()
        return (
            x509.CertificateBuilder(
                name, name, key.public_key(), 77, begin, end
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
                critical=False,
            )
            .sign(key, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )

    def ask(self, tmp_path: Path, *certificates: bytes) -> Any:
        """Ask for a key that is encrypted to the usual one."""
        path = pem_file(tmp_path, "owners.pem", *certificates)
        bench = _Bench(decrypt_certificates=(path,))
        csr = make_csr_with(asymmetric(identifier_by(rsa_key())))
        return bench, csr

    def test_expired(self, tmp_path: Path) -> None:
        """Refused, and it says since when."""
        old = self.dated(EPOCH - 9 * DAY, EPOCH - DAY)
        bench, csr = self.ask(tmp_path, old)
        text = bench.refuses(csr, 409)
        assert (
            "the certificate that the AsymmetricDecryptKeyIdentifier names "
            "has expired at 2026-05-31 12:00:00 UTC"
        ) in text

    def test_expires_while_the_gateway_runs(self, tmp_path: Path) -> None:
        """It is looked at each time."""
        bench, csr = self.ask(tmp_path, self.dated(EPOCH - DAY, EPOCH + DAY))
        bench.made(csr)
        bench.clock.advance(2 * DAY.total_seconds())
        assert "has expired at 2026-06-02" in bench.refuses(csr, 409)

    def test_not_yet(self, tmp_path: Path) -> None:
        """Nor before it begins."""
        bench, csr = self.ask(
            tmp_path, self.dated(EPOCH + DAY, EPOCH + 2 * DAY)
        )
        text = bench.refuses(csr, 409)
        assert "is not valid before 2026-06-02 12:00:00 UTC" in text

    def test_renewed_with_its_key(self, tmp_path: Path) -> None:
        """Of several with one key, one that is valid is taken."""
        old = self.dated(EPOCH - 9 * DAY, EPOCH - DAY)
        new = self.dated(EPOCH - DAY, EPOCH + DAY)
        for order in ((old, new), (new, old)):
            bench, csr = self.ask(tmp_path, *order)
            bench.made(csr)

    def test_revoked(self, tmp_path: Path) -> None:
        """One of our own that the tenant has revoked, or put on hold."""
        bench = _Bench()
        key = ec.generate_private_key(ec.SECP256R1())
        bench.change(key_usage=("digitalSignature", "keyAgreement"))
        own = bench.issued(make_csr(key=key))
        path = pem_file(tmp_path, "own.pem", own)
        bench.encrypting_to(path)
        csr = make_csr_with(asymmetric(key_identifier(own) or b""))
        bench.made(csr)
        serial = read_certificate(own).serial
        result_of(bench.ra.revoke(TENANT, serial, "certificateHold", "me"))
        assert "has been revoked" in bench.refuses(csr, 409)

    def test_same_serial_number(self, tmp_path: Path) -> None:
        """A certificate from elsewhere is not ours of that number."""
        bench = _Bench()
        serial = read_certificate(bench.issued(make_csr())).serial
        result_of(bench.ra.revoke(TENANT, serial, "superseded", "me"))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "owner")])
        key = rsa_key()
        other = x509.CertificateBuilder(
            name,
            name,
            key.public_key(),
            int(serial, 16),
            EPOCH - DAY,
            EPOCH + DAY,
        ).sign(key, hashes.SHA256())
        der_of_it = other.public_bytes(Encoding.DER)
        path = pem_file(tmp_path, "other.pem", der_of_it)
        bench.encrypting_to(path)
        bench.made(make_csr_with(asymmetric(identifier_by(key))))


class RequiredTests:
    """``key_encryption: required``: none travels bare."""

    def test_bare(self, tmp_path: Path) -> None:
        """Whoever names no key is told so, before any key is made."""
        path = pem_file(tmp_path, "owners.pem", owned(rsa_key()))
        bench = _Bench(decrypt_certificates=(path,), key_encryption="required")
        text = bench.refuses(make_csr(), 403)
        assert (
            "profile device, rule key-encryption: a key that is made here is "
            "sent encrypted only: add a DecryptKeyIdentifier or an "
            "AsymmetricDecryptKeyIdentifier, and SMIMECapabilities, to the "
            "request"
        ) in text
        alone = make_csr_with({CAPABILITIES: able(AES_128)})
        assert "key-encryption" in bench.refuses(alone, 403)
        asked = asymmetric(identifier_by(rsa_key()))
        made = bench.made(make_csr_with(asked))
        assert made.key_type.startswith("application/pkcs7-mime")

    def test_per_label(self) -> None:
        """A label may do without, or be the only one that wants it."""
        bench = _Bench(
            labels={
                "a": {"key_encryption": "required"},
                "b": {"key_encryption": "accepted"},
            }
        )
        assert 200 == bench.post(make_csr(), "serverkeygen").status
        assert 403 == bench.post(make_csr(), "serverkeygen", "a").status
        bench = _Bench(
            key_encryption="required",
            labels={"b": {"key_encryption": "accepted"}},
        )
        assert 403 == bench.post(make_csr(), "serverkeygen").status
        assert 200 == bench.post(make_csr(), "serverkeygen", "b").status


def owned(owner: Any) -> bytes:
    """Return a certificate of a key, without a key usage."""
    own = isinstance(owner, ed25519.Ed25519PrivateKey)
    return certificate(owner, digest="" if own else "SHA256")


def identifier_by(owner: Any) -> bytes:
    """Return the subjectKeyIdentifier of that certificate."""
    return key_identifier(owned(owner)) or b""


class SettingsTests:
    """What the configuration refuses."""

    def test_off_by_default(self) -> None:
        """Nobody makes keys unasked."""
        assert not ESTSettings().serverkeygen

    @pytest.mark.parametrize(
        "settings",
        [
            {"serverkeygen": True, "pop": "required"},
            {"pop": "required", "labels": {"a": {"serverkeygen": True}}},
            {"serverkeygen": True, "labels": {"a": {"pop": "required"}}},
        ],
    )
    def test_link(self, settings: dict[str, Any]) -> None:
        """RFC 7030, section 3.5, needs a signature that counts."""
        with pytest.raises(ValidationError, match="another label"):
            ESTSettings(**settings)

    def test_apart(self) -> None:
        """Two labels can have one each."""
        ESTSettings(
            pop="required",
            labels={"a": {"serverkeygen": True, "pop": "verified"}},  # type: ignore[dict-item]
        )

    @pytest.mark.parametrize(
        ("profile", "refused"),
        [("held", True), ("free", False)],
    )
    def test_approval(
        self, tmp_path: Path, profile: str, refused: bool
    ) -> None:
        """A label that makes keys has no profile that asks a person."""
        file = tmp_path / "trstctl.yaml"
        file.write_text(
            "profiles: {held: {approval: always, "
            "server_key_generation: true},\n"
            "  free: {server_key_generation: true}}\n"
            f'protocols: {{est: {{enabled: true, tenant_id: "{TENANT}",\n'
            f"  labels: {{keys: {{serverkeygen: true, profile: {profile}}},\n"
            "    waits: {profile: held}}}}\n"
        )
        if not refused:
            assert load(file, discover().protocols)
            return
        with pytest.raises(ConfigurationError) as caught:
            load(file, discover().protocols)
        (told,) = map(str, caught.value.faults)
        assert "labels.keys, clients cannot wait for an approval" in told

    @pytest.mark.parametrize(
        ("section", "told"),
        [
            (
                "est: {%s, serverkeygen: true}",
                "protocols.est: here, keys are made for devices, which "
                "profile device does not allow: give it "
                "server_key_generation: true",
            ),
            (
                "est: {%s, labels: {k: {serverkeygen: true}}}",
                "labels.k, keys are made for devices, which profile device",
            ),
            (
                "est: {%s, labels: {k: {serverkeygen: true, profile: none}}}",
                "none of those that profile none allows can be: add a type",
            ),
            (
                "cmp: {%s, central_key_generation: true}",
                "protocols.cmp: here, keys are made for devices, which",
            ),
            ("est: {%s, serverkeygen: true, profile: free}", ""),
            ("cmp: {%s, central_key_generation: true, profile: free}", ""),
            ("est: {%s, labels: {k: {profile: none}}}", ""),
        ],
    )
    def test_profile_of_keys(
        self, tmp_path: Path, section: str, told: str
    ) -> None:
        """A label that makes keys has a profile that lets it: a fault of the
        configuration, and not a refusal for each device."""
        file = tmp_path / "trstctl.yaml"
        enabled = f'enabled: true, tenant_id: "{TENANT}"'
        file.write_text(
            "profiles: {free: {server_key_generation: true},\n"
            "  none: {server_key_generation: true, key_types: [ml-dsa-44]}}\n"
            f"protocols: {{{section.replace('%s', enabled)}}}\n"
        )
        faults: tuple[Any, ...] = ()
        try:
            load(file, discover().protocols)
        except ConfigurationError as error:
            faults = tuple(error.faults)
        assert bool(told) == bool(faults)
        assert all(told in str(one) for one in faults)

    @pytest.mark.parametrize(
        ("name", "octets"),
        [
            ("line-7", b"line-7"),
            ("Stra\u00dfe", "Stra\u00dfe".encode()),
            ("hex:00fF", b"\x00\xff"),
            ("hex", b"hex"),
            ("a" * 64, b"a" * 64),
        ],
    )
    def test_identifiers(self, name: str, octets: bytes) -> None:
        """Text, or hexadecimal where it is none."""
        assert octets == identifier_of(name)
        settings = ESTSettings(decrypt_keys={name: "env:KEY"})
        assert [name] == list(settings.decrypt_keys)

    @pytest.mark.parametrize("name", ["", "hex:", "hex:0", "hex:xy", "a" * 65])
    def test_no_identifier(self, name: str) -> None:
        """What no client could name."""
        with pytest.raises(ValidationError):
            ESTSettings(decrypt_keys={name: "env:KEY"})

    def test_located(self, tmp_path: Path) -> None:
        """Paths are relative to the configuration."""
        settings = ESTSettings(
            decrypt_keys={"a": "file:a.key", "b": "env:KEY"},
            decrypt_certificates=("c.pem",),  # type: ignore[arg-type]
            labels={
                "x": {  # type: ignore[dict-item]
                    "decrypt_keys": {"a": "file:b.key"},
                    "decrypt_certificates": ("d.pem",),
                },
                "y": {},  # type: ignore[dict-item]
            },
        ).located(tmp_path)
        assert {
            "a": f"file:{tmp_path}/a.key",
            "b": "env:KEY",
        } == settings.decrypt_keys
        assert (tmp_path / "c.pem",) == settings.decrypt_certificates
        own = settings.labels["x"]
        assert {"a": f"file:{tmp_path}/b.key"} == own.decrypt_keys
        assert (tmp_path / "d.pem",) == own.decrypt_certificates
        assert settings.labels["y"].decrypt_keys is None

    @pytest.mark.parametrize("text", ["", "00", "zz" * 16, "0" * 33, "0" * 31])
    def test_no_key(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A secret that is no AES key in hexadecimal; it is not shown."""
        monkeypatch.setenv("KEY", text)
        with pytest.raises((ValueError, SecretError)) as caught:
            _Bench(decrypt_keys={"a": "env:KEY"})
        assert "env:KEY" in str(caught.value)
        assert not text or text not in str(caught.value)

    def test_no_certificate(self, tmp_path: Path) -> None:
        """The text names the setting."""
        with pytest.raises(Unavailable, match="decrypt_certificates"):
            _Bench(decrypt_certificates=(tmp_path / "none.pem",))

    def test_unread_where_it_is_off(self) -> None:
        """What is not used need not be there."""
        assert ESTBench(decrypt_keys={"a": "env:NOWHERE"})
