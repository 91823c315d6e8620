# SPDX-License-Identifier: MIT
"""
SCEP tells nobody what an encrypted message holds (RFC 3218).

The long form of :class:`CorruptionTests` changes every octet and cuts at
every one: set ``TRSTCTL_DRILL_ROUNDS`` to more than 1.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from scep_bench import BAD_CHECK, PATH, SUCCESS, Bench
from scep_samples import (
    DER,
    MESSAGE_DIGEST,
    SENDER_NONCE,
    Message,
    Reply,
    csr,
    issuer_and_serial,
    issuer_and_subject,
    name,
    read_reply,
    rsa_key,
    self_signed,
)

from trstctl.pkix import csr as csr_module
from trstctl.protocols.scep import opening

Change = Callable[[Message], Message]

_LONG = int(os.environ.get("TRSTCTL_DRILL_ROUNDS", "1")) > 1
_KEY = hashlib.sha256(b"key").digest()[:16]


def _numbers(message: Message) -> tuple[int, int]:
    """Return the recipient's modulus, and how many octets it has."""
    certificate = x509.load_der_x509_certificate(message.recipient)
    key: Any = certificate.public_key()
    return key.public_numbers().n, key.key_size // 8


def _transported(message: Message, block: bytes) -> Message:
    """Return the message with an encryption block of the sender's making."""
    modulus, size = _numbers(message)
    number = pow(int.from_bytes(block, "big"), 65537, modulus)
    return message.but(encrypted_key=number.to_bytes(size, "big"))


def wrong_length(message: Message) -> Message:
    """A key that is right but for its length."""
    certificate = x509.load_der_x509_certificate(message.recipient)
    key: Any = certificate.public_key()
    return message.but(
        encrypted_key=key.encrypt(_KEY[:15], padding.PKCS1v15())
    )


def bad_padding(message: Message) -> Message:
    """RFC 8017, section 7.2.2: a block that begins with other octets."""
    _, size = _numbers(message)
    block = b"\0\1" + b"\xff" * (size - 19) + b"\0" + _KEY
    return _transported(message, block)


def wrong_key(message: Message) -> Message:
    """Another key of the right length."""
    certificate = x509.load_der_x509_certificate(message.recipient)
    key: Any = certificate.public_key()
    return message.but(
        encrypted_key=key.encrypt(bytes(16), padding.PKCS1v15())
    )


def garbage_key(message: Message) -> Message:
    """A number that nobody has encrypted."""
    _, size = _numbers(message)
    return message.but(encrypted_key=b"\x17" * size)


def whole_key(message: Message) -> Message:
    """Nothing wrong with the key."""
    return message


RSA_FAULTS = (whole_key, wrong_length, bad_padding, wrong_key, garbage_key)


def _changed(octets: bytes, at: int, bits: int = 0x55) -> bytes:
    """Return the octets with one of them changed."""
    changed = bytearray(octets)
    changed[at] ^= bits
    return bytes(changed)


def cbc_padding(message: Message) -> Message:
    """A padding that is none."""
    content = message.content
    count = 16 - len(content) % 16
    padded = content + bytes(count - 1) + b"\x11"
    encrypted = message.but(padded=False).encrypt(padded)
    return message.but(encrypted_content=encrypted)


def cbc_garbage(message: Message) -> Message:
    """Blocks that decrypt to anything."""
    return message.but(
        encrypted_content=hashlib.shake_256(b"x").digest(
            len(message.encrypt(message.content))
        )
    )


def cbc_block(message: Message) -> Message:
    """One block changed somewhere in the middle."""
    encrypted = message.encrypt(message.content)
    return message.but(
        encrypted_content=_changed(encrypted, len(encrypted) // 32 * 16)
    )


def cbc_truncated(message: Message) -> Message:
    """Blocks missing at the end, and a part of one."""
    encrypted = message.encrypt(message.content)
    return message.but(encrypted_content=encrypted[:-21])


def whole_content(message: Message) -> Message:
    """Nothing wrong with the content."""
    return message


CBC_FAULTS = (
    whole_content,
    cbc_padding,
    cbc_garbage,
    cbc_block,
    cbc_truncated,
)


def wrong_recipient(message: Message) -> Message:
    """Encrypted to somebody else."""
    return message.but(recipient=self_signed(rsa_key(5), "somebody else"))


def truncated(message: Message) -> Message:
    """The request is cut off, and padded well."""
    return message.but(content=message.content[:-40])


def longer(message: Message) -> Message:
    """More than the request is encrypted, and padded well."""
    return message.but(content=message.content + b"\0")


def empty(message: Message) -> Message:
    """Nothing is encrypted."""
    return message.but(encrypted_content=b"")


def unproven(message: Message) -> Message:
    """A request that somebody else has signed."""
    return message.but(content=csr(signer=rsa_key(4)))


def other_type(message: Message) -> Message:
    """Something else that can be read."""
    return message.but(content=issuer_and_serial(name("issuing CA"), 1))


def _both(first: Change, second: Change) -> Change:
    """Return both faults at once."""
    return lambda message: first(second(message))


#: Every fault that must look like every other.
FAULTS: dict[str, Change] = {
    **{
        f"{rsa.__name__}, {cbc.__name__}": _both(rsa, cbc)
        for rsa, cbc in product(RSA_FAULTS, CBC_FAULTS)
        if (rsa, cbc) != (whole_key, whole_content)
    },
    **{
        fault.__name__: fault
        for fault in (
            wrong_recipient,
            truncated,
            longer,
            empty,
            unproven,
            other_type,
        )
    },
}


def without_chance(reply: Reply) -> bytes:
    """Return an answer without its nonce and its signature."""
    nonce = reply.octets(SENDER_NONCE)
    octets = reply.der[:-256]
    assert 1 == octets.count(nonce)
    return octets.replace(nonce, bytes(16))


class MatrixTests:
    """Faults of the key, of the padding and of what is encrypted."""

    def test_one_answer(self) -> None:
        """All of them get the same octets, but for nonce and signature."""
        bench = Bench()
        message = bench.message(content=csr(challenge=bench.challenge()))
        answers = {
            label: without_chance(bench.ask(fault(message)))
            for label, fault in FAULTS.items()
        }
        assert 30 == len(answers)
        assert 1 == len(set(answers.values())), answers
        assert BAD_CHECK == bench.ask(unproven(message)).status
        assert 0 == bench.count()
        assert SUCCESS == bench.ask(message).status

    @pytest.mark.parametrize("scheme", ["sha1", "sha256"])
    def test_oaep(self, scheme: str) -> None:
        """The same holds for the other key transport (Manger's attack)."""
        bench = Bench()
        message = bench.message(oaep=scheme)
        answers = {
            without_chance(bench.ask(fault(message)))
            for fault in (garbage_key, cbc_garbage, cbc_padding, unproven)
        }
        assert 1 == len(answers)

    @pytest.mark.parametrize("kind", ["21", "22"])
    def test_questions(self, kind: str) -> None:
        """The same holds where nothing is signed with the content."""
        bench = Bench()
        message = bench.message(
            content=issuer_and_serial(bench.issuer, 1), message_type=kind
        )
        faults = [*FAULTS.values(), _named_otherwise]
        faults.remove(other_type)
        answers = {without_chance(bench.ask(f(message))) for f in faults}
        assert 1 == len(answers)

    def test_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Each of them costs one decryption of a key and one verification of a
        request's signature.
        """
        bench = Bench()
        message = bench.message(content=csr(challenge=bench.challenge()))
        done: list[str] = []

        def counted(label: str, function: Any) -> Any:
            def count(*arguments: Any, **options: Any) -> Any:
                done.append(label)
                return function(*arguments, **options)

            return count

        credential = bench.credential()
        credential.decrypt = counted("decrypt", credential.decrypt)
        credential.sign = counted("sign", credential.sign)
        monkeypatch.setattr(
            opening, "verify_proof", counted("proof", csr_module.verify_proof)
        )
        for label, fault in FAULTS.items():
            done.clear()
            octets = fault(message).der()
            assert BAD_CHECK == read_reply(bench.post(octets).body).status
            assert ["decrypt", "proof", "sign"] == done, label

    @pytest.mark.parametrize("key", [rsa_key(2, 3072), "ec"])
    def test_decoy_of_the_same_kind(
        self, key: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is verified instead has the sender's kind of key."""
        from scep_samples import ec_key, spki

        key = ec_key() if key == "ec" else key
        bench = Bench()
        proven: list[bytes] = []

        def prove(request: Any) -> None:
            proven.append(request.public_key.spki)
            csr_module.verify_proof(request)

        monkeypatch.setattr(opening, "verify_proof", prove)
        message = bench.message(content=csr(key), key=key)
        for fault in (garbage_key, cbc_garbage, truncated):
            assert BAD_CHECK == bench.ask(fault(message)).status
        assert [spki(key)] * 3 == proven


def _named_otherwise(message: Message) -> Message:
    """Another CA is named."""
    return message.but(content=issuer_and_serial(name("other CA"), 1))


class ChosenBlockTests:
    """The first block of a message is its sender's to choose."""

    def test_forged_name(self) -> None:
        """
        Garbage made to parse is answered as garbage, right padding or not.

        The initialization vector makes any first block of a block whose
        plaintext is known; the rest is garbage inside an INTEGER.  If that
        told right from wrong padding, it would decrypt a block that somebody
        else has sent, an octet at 128 messages.
        """
        bench = Bench()
        victim = bench.message(content=csr(challenge="SECRETSECRETSECRET"))
        blocks = victim.encrypt(victim.content)
        known = victim.content[:16]
        iv = hashlib.sha256(b"iv").digest()[:16]
        # SEQUENCE { SEQUENCE {}, INTEGER of 41 octets } and one of padding.
        head = bytes.fromhex("302d30000229") + b"\x01" + bytes(9)
        chosen = bytes(
            a ^ b ^ c for a, b, c in zip(iv, known, head, strict=True)
        )
        answers = set()
        for guess in range(256):
            content = (
                blocks[:16] + bytes(15) + bytes((guess,)) + blocks[96:112]
            )
            message = victim.but(
                iv=chosen,
                content_key=_KEY,
                encrypted_content=content,
                key=rsa_key(1),
                message_type="22",
            )
            answers.add(without_chance(bench.ask(message)))
        assert 1 == len(answers)

    def test_poll_is_not_opened(self) -> None:
        """The content of a CertPoll is not even decrypted."""
        bench = Bench()
        credential = bench.credential()
        credential.decrypt = None  # would fail
        message = bench.message(
            content=issuer_and_subject(bench.issuer), message_type="20"
        )
        answers = {
            without_chance(bench.ask(fault(message)))
            for label, fault in FAULTS.items()
            if label != "wrong_recipient"
        }
        assert 1 == len(answers)


def _positions(size: int, step: int) -> Iterator[int]:
    """Yield all positions in the long form, else a few."""
    yield from range(0, size, 1 if _LONG else step)


class CorruptionTests:
    """No change of a message is a message."""

    def kinds(self, bench: Bench, messages: Iterator[bytes]) -> set[Any]:
        """Return the different answers to messages."""
        found: set[Any] = set()
        for octets in messages:
            answer = bench.http(
                "POST", f"{PATH}?operation=PKIOperation", octets
            )
            if answer.status == 200:
                reply = read_reply(answer.body)
                found.add((reply.status, reply.reason))
            else:
                found.add((answer.status, answer.body))
        return found

    def test_octets_of_the_message(self) -> None:
        """
        One octet changed never yields a certificate.

        (The signature algorithm has two names that mean the same, an octet
        apart: sha256WithRSAEncryption and rsaEncryption.)
        """
        bench = Bench()
        octets = bench.message(content=csr(challenge=bench.challenge())).der()
        changed = (
            _changed(octets, at, bits)
            for at in _positions(len(octets), 23)
            for bits in (0x01, 0x80)
        )
        kinds = self.kinds(bench, changed)
        assert 0 == bench.count()
        assert SUCCESS not in {status for status, _ in kinds}
        assert (BAD_CHECK, "the message's integrity check failed") in kinds
        assert (400, b"not a SCEP message\n") in kinds

    def test_prefixes(self) -> None:
        """Nothing that is cut off is a message."""
        bench = Bench()
        octets = bench.message().der()
        prefixes = (octets[:at] for at in _positions(len(octets), 37))
        assert {(400, b"not a SCEP message\n")} == self.kinds(bench, prefixes)

    def test_octets_of_the_content(self) -> None:
        """After decryption there is one kind of answer, wherever it was."""
        bench = Bench()
        message = bench.message(content=csr(challenge=bench.challenge()))
        encrypted = message.encrypt(message.content)
        changed = (
            message.but(encrypted_content=_changed(encrypted, at)).der()
            for at in _positions(len(encrypted), 13)
        )
        assert {
            (BAD_CHECK, "the message's integrity check failed")
        } == self.kinds(bench, changed)

    def test_lengths_of_the_content(self) -> None:
        """Likewise, wherever it was cut."""
        bench = Bench()
        message = bench.message()
        encrypted = message.encrypt(message.content)
        cut = (
            message.but(encrypted_content=encrypted[:at]).der()
            for at in _positions(len(encrypted), 31)
        )
        assert {
            (BAD_CHECK, "the message's integrity check failed")
        } == self.kinds(bench, cut)

    def test_encrypted_key(self) -> None:
        """Likewise, whatever is changed in the encrypted key."""
        bench = Bench()
        message = bench.message()
        certificate = x509.load_der_x509_certificate(message.recipient)
        key: Any = certificate.public_key()
        encrypted = key.encrypt(_KEY, padding.PKCS1v15())
        changed = (
            message.but(encrypted_key=_changed(encrypted, at)).der()
            for at in _positions(len(encrypted), 17)
        )
        assert {
            (BAD_CHECK, "the message's integrity check failed")
        } == self.kinds(bench, changed)

    def test_signed_digest(self) -> None:
        """A message whose digest is another's is refused before that."""
        bench = Bench()
        digest = {MESSAGE_DIGEST: DER.tlv(4, bytes(32))}
        reply = bench.ask(bench.message(attributes=digest))
        assert BAD_CHECK == reply.status
