# SPDX-License-Identifier: MIT
"""
ProofOfPossession of CRMF (RFC 4211, section 4), bytes to values.

What is not served (thisMessage, dhMAC, agreeMAC and encryptedKey) has a name
only.  Every reader takes DER that :func:`trstctl.pkix.der.check` has seen.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from trstctl.errors import Malformed
from trstctl.model import Name
from trstctl.pkix import der
from trstctl.pkix.crmf_template import read_directory_name


@frozen
class RAVerified:
    """An RA says that it has verified the proof (section 4)."""


@frozen
class PKMACValue:
    """
    A MAC with the algorithm that made it (section 4.1).

    :ivar algorithm: DER AlgorithmIdentifier, for
        :func:`trstctl.pkix.cmp_protection.read_protection`.
    """

    algorithm: bytes
    value: bytes = field(repr=False)


@frozen
class SigningKeyInput:
    """
    POPOSigningKeyInput: what is signed if the template lacks something.

    :ivar der: what the signature is over.
    :ivar sender: DER of a GeneralName, which the message's sender must have
        proven to be, or ``None``.
    :ivar sender_name: its directoryName, if it is one.
    :ivar public_key_mac: over the DER of the public key, or ``None``.
    :ivar public_key: DER SubjectPublicKeyInfo.
    """

    der: bytes = field(repr=False)
    sender: bytes | None
    sender_name: Name | None
    public_key_mac: PKMACValue | None
    public_key: bytes = field(repr=False)


@frozen
class SigningKey:
    """
    POPOSigningKey: a signature (section 4.1).

    :ivar algorithm: DER AlgorithmIdentifier.
    :ivar input: what is signed instead of the CertRequest, or ``None``.
    """

    algorithm: bytes
    signature: bytes = field(repr=False)
    input: SigningKeyInput | None = None


@frozen
class PrivateKey:
    """
    POPOPrivKey: another proof than a signature (sections 4.2 and 4.3).

    :ivar choice: ``keyEncipherment`` or ``keyAgreement``.
    :ivar method: ``encrCert`` or ``challengeResp``; or the name of one that
        is not served: ``thisMessage``, ``dhMAC``, ``agreeMAC``,
        ``encryptedKey``.
    """

    choice: str
    method: str


ProofOfPossession = RAVerified | SigningKey | PrivateKey

_RA_VERIFIED = 0x80
_SIGNATURE = 0xA1
_PRIVATE_KEY: Mapping[int, str] = {
    0xA2: "keyEncipherment",
    0xA3: "keyAgreement",
}
_METHODS: Mapping[int, str] = {
    0x80: "thisMessage",
    0x82: "dhMAC",
    0xA3: "agreeMAC",
    0xA4: "encryptedKey",
}
_SUBSEQUENT_MESSAGE = 0x81
_SUBSEQUENT: Mapping[bytes, str] = {
    b"\x00": "encrCert",
    b"\x01": "challengeResp",
}
_INPUT = 0xA0
_SENDER = 0xA0


def read_proof(tag: int, content: bytes) -> ProofOfPossession:
    """
    Read a ProofOfPossession (section 4).

    :param tag: of the choice; its content octets follow.
    :raises Malformed: it is none.
    """
    if tag == _RA_VERIFIED and not content:
        return RAVerified()
    parts = der.children(content)
    if tag == _SIGNATURE:
        return _read_signing_key(parts)
    if tag not in _PRIVATE_KEY or len(parts) != 1:
        raise Malformed("a proof of possession is malformed")
    method, value, _ = parts[0]
    name = (
        _SUBSEQUENT.get(value)
        if method == _SUBSEQUENT_MESSAGE
        else _METHODS.get(method)
    )
    if name is None:
        raise Malformed("a proof of possession is malformed")
    return PrivateKey(_PRIVATE_KEY[tag], name)


def _read_signing_key(parts: list[tuple[int, bytes, bytes]]) -> SigningKey:
    """Read the fields of a POPOSigningKey."""
    signed = None
    if parts and parts[0][0] == _INPUT:
        signed = _read_input(parts.pop(0)[1])
    algorithm, signature = _read_algorithm_and_bits(parts)
    return SigningKey(algorithm, signature, signed)


def _read_algorithm_and_bits(
    parts: list[tuple[int, bytes, bytes]],
) -> tuple[bytes, bytes]:
    """Read an AlgorithmIdentifier and the BIT STRING that it has made."""
    if [part[0] for part in parts] != [
        der.SEQUENCE,
        der.BIT_STRING,
    ] or parts[1][1][0]:
        raise Malformed("a proof of possession is malformed")
    return parts[0][2], parts[1][1][1:]


def _read_input(content: bytes) -> SigningKeyInput:
    """Read the content octets of a POPOSigningKeyInput."""
    parts = der.children(content)
    if len(parts) != 2 or parts[1][0] != der.SEQUENCE:
        raise Malformed("a proof of possession is malformed")
    (tag, value, _), key = parts
    sender, name, mac = None, None, None
    if tag == _SENDER:
        names = der.children(value)
        if len(names) != 1:
            raise Malformed("a proof of possession is malformed")
        sender, name = names[0][2], read_directory_name(names[0])
    elif tag == der.SEQUENCE:
        mac = PKMACValue(*_read_algorithm_and_bits(der.children(value)))
    else:
        raise Malformed("a proof of possession is malformed")
    # Section 4.1: over the DER of the value, which has its own tag then.
    signed = der.tlv(der.SEQUENCE, content)
    return SigningKeyInput(signed, sender, name, mac, key[2])
