# SPDX-License-Identifier: MIT
"""
What is handed out encrypted (RFC 9810, sections 5.2.2 and 5.2.8.3.2; RFC
9483, section 4.1.6).

Theory of operation
===================

D-1  *For one recipient.*  A key that the gateway has made goes to whoever
     protected the request, by what he protected it with: to the RSA or EC
     key of his certificate, where its key usage lets it, or under the shared
     secret.  That is known before the key is made.
D-2  *Signed first*, by a credential with cmKGA as its purpose, so that the
     recipient knows who has made the key.
D-3  *Kept by nobody.*  The key is a value on its way into the answer.  Of
     the answer the store has what the recipient has: the encrypted form.
     The gateway could derive a shared secret again, so that the answer is
     kept until it is confirmed, or cannot be any more, and no longer.
D-4  *A certificate as the proof*: encrypted to the key that it certifies,
     it can be confirmed by that key's owner only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import evolve

from trstctl.interfaces import IMessageCredential, IRegistrationAuthority
from trstctl.model import CertificateRequest, MadeKey
from trstctl.pkix.agreement import envelope_by_agreement
from trstctl.pkix.certificate import may_be_used_for, read_certificate
from trstctl.pkix.cms import DATA, SIGNED_DATA
from trstctl.pkix.enveloping import envelope, envelope_for_password
from trstctl.pkix.key_package import (
    asymmetric_key_package,
    encrypted_key,
    prepare_key_package,
    signed_data,
)
from trstctl.protocols.cmp.parties import Party, SecretParty
from trstctl.protocols.cmp.refusals import refuse

#: Of content and, under a secret, of the key that encrypts it.
_CIPHER = "aes-256-cbc"

#: What a certificate's key must serve to have something encrypted to it.
USAGES: Mapping[str, str] = {
    "rsa": "keyEncipherment",
    "p-256": "keyAgreement",
    "p-384": "keyAgreement",
    "p-521": "keyAgreement",
}


def check_receiver(party: Party) -> None:
    """
    Refuse to make a key for whom it could not be encrypted to (D-1).

    :raises NotAuthorized: his certificate is not for that.
    """
    if isinstance(party, SecretParty):
        return
    if party.kind == "ra":
        raise refuse(
            "notAuthorized",
            "key-for-another",
            "a key is made for its owner, and for no registration authority",
        )
    facts = party.certificate
    usage = USAGES.get(facts.public_key.algorithm)
    if usage is None or not may_be_used_for(facts, usage):
        raise refuse(
            "notAuthorized",
            "signer-cannot-decrypt",
            "the new key cannot be encrypted to the signer's certificate: it "
            "must have an RSA key with keyEncipherment, or an EC key with "
            "keyAgreement",
        )


class Generation:
    """
    The key of one request, from the wish for it to its delivery.

    :param party: who will get it.
    :param signer: a credential with cmKGA as its purpose.
    :param links: what leads from its root to another.
    :param strict: wrap a key under a secret as RFC 9481, section 4.3.1, has
        it, and not as OpenSSL and BouncyCastle read it (RFC 3211).
    :param tenant_id: whose device it is for.
    """

    def __init__(
        self,
        ra: IRegistrationAuthority,
        party: Party,
        signer: IMessageCredential,
        links: tuple[bytes, ...] = (),
        *,
        strict: bool = False,
        tenant_id: str = "",
    ) -> None:
        self._ra = ra
        self._tenant_id = tenant_id
        self._party = party
        self._signer = signer
        self._links = links
        self._strict = strict
        self._made: MadeKey | None = None

    async def __call__(self, wanted: CertificateRequest) -> CertificateRequest:
        """Make the key that is wished for, and put it into the request."""
        wish = wanted.public_key
        self._made = await self._ra.key_maker.make(
            wish.algorithm, wish.bits, self._tenant_id
        )
        return evolve(wanted, public_key=self._made.public_key)

    async def delivered(self, certificate: bytes) -> bytes | None:
        """
        Return the key as an EncryptedKey (D-1, D-2).

        :param certificate: DER of the one that was issued.
        :returns: ``None`` if it is of another key: of one that was made for
            the same request before, and is nowhere any more.
        """
        made = self._made
        if (
            made is None
            or read_certificate(certificate).public_key.spki
            != made.public_key.spki
        ):
            return None
        signer, chain = self._signer, self._signer.chain
        prepared = prepare_key_package(
            asymmetric_key_package(made.private_key, made.public_key.spki),
            certificate=signer.certificate,
            algorithm=signer.algorithm,
            # Without the root.
            certificates=(chain[:-1] or chain) + self._links,
        )
        signature = await signer.sign(prepared.to_sign, prepared.algorithm)
        content = signed_data(prepared.finish(signature))
        return encrypted_key(await self._ra.elsewhere(self._wrap, content))

    def _wrap(self, content: bytes) -> bytes:
        """Encrypt to the one recipient; a password takes milliseconds."""
        party, random_bytes = self._party, self._ra.random_bytes
        if isinstance(party, SecretParty):
            return envelope_for_password(
                content,
                party.text.encode("utf-8"),
                cipher=_CIPHER,
                random_bytes=random_bytes,
                content_type=SIGNED_DATA,
                aes_wrap=self._strict,
            )
        return _to_key(
            content, party.certificate.der, SIGNED_DATA, random_bytes
        )


def encrypted_certificate(
    certificate: bytes, random_bytes: Callable[[int], bytes]
) -> bytes:
    """Return a certificate that its owner only can read (D-4)."""
    return encrypted_key(_to_key(certificate, certificate, DATA, random_bytes))


def _to_key(
    content: bytes,
    certificate: bytes,
    content_type: str,
    random_bytes: Callable[[int], bytes],
) -> bytes:
    """Encrypt to the key of a certificate."""
    algorithm = read_certificate(certificate).public_key.algorithm
    wrap = envelope if algorithm == "rsa" else envelope_by_agreement
    return wrap(
        content,
        certificate,
        cipher=_CIPHER,
        random_bytes=random_bytes,
        content_type=content_type,
        by_key=True,
    )
