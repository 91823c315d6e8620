# SPDX-License-Identifier: MIT
"""
Who protected a message, and how the answer is protected in turn.

Theory of operation
===================

P-1  *One party for a transaction.*  What a party is called says secret or
     certificate, and technique: whoever goes on with a transaction has the
     same name, or is refused (RFC 9483, section 3.2).
P-2  *Always anchored.*  A signature counts by a certificate of this
     endpoint's CA, or one that a manufacturer's anchor leads to.  A signer
     whom nobody vouches for never gets anything.
P-3  *Unknown equals wrong*: :meth:`IChallengeTokens.prove` does the same
     work for a reference that nobody knows.
P-4  *Slow keys elsewhere*: the key of a MAC is derived in a thread.
"""

from __future__ import annotations

import hashlib

from attrs import frozen

from trstctl.errors import (
    Malformed,
    NotAuthenticated,
    NotAuthorized,
    RequestError,
    TooLarge,
)
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    SUPERSEDED,
    CertificateFacts,
    CertificateRecord,
    CertificateStatus,
    Challenge,
    ClientCertificate,
    Credential,
    Endpoint,
    OneTimeSecret,
    Principal,
)
from trstctl.pkix.certificate import may_be_used_for, read_certificate
from trstctl.pkix.cmp import PKIMessage
from trstctl.pkix.cmp_header import PKIHeader
from trstctl.pkix.cmp_protection import (
    PBMAC1,
    PasswordBasedMac,
    SignatureProtection,
    Unsupported,
    read_protection,
)
from trstctl.pkix.cms import key_identifier
from trstctl.pkix.names import COMMON_NAME, attribute_values, names_match
from trstctl.policy.keys import require_affordable
from trstctl.policy.registration import scope_of
from trstctl.protocols.cmp.refusals import WRONG_MAC, refuse, restate

#: Bodies that a MAC cannot protect (RFC 9483, sections 4.1.3, 4.2 and 5.2).
SIGNED_ONLY = frozenset({"kur", "rr", "ccr", "nested"})

_MAX_REFERENCE = 128

#: Iterations from which deriving a key costs more than a signature.
_COSTLY = 5_000


@frozen
class SecretParty:
    """
    Somebody who knows a shared secret.

    :ivar text: the secret.
    :ivar mac: how the message was protected.
    """

    record: OneTimeSecret
    text: str
    mac: PasswordBasedMac | PBMAC1
    kind = "secret"

    @property
    def id(self) -> str:
        """What the party is called (P-1)."""
        return f"{type(self.mac).__name__}:{self.record.id}"

    @property
    def actor(self) -> str:
        """The principal, as the audit log names it."""
        return f"token:{self.record.id}"

    def credential(self, ra: IRegistrationAuthority) -> Credential:
        """Return what an enrollment is made with."""
        return Challenge(self.text, ra.challenges)


@frozen
class SignerParty:
    """
    Somebody who has the key of a certificate.

    :ivar chain: DER of what came with it.
    :ivar principal: for whom it speaks; ``None``: nobody has asked.
    :ivar kind: what it may begin, by :attr:`Served.allow`.
    """

    certificate: CertificateFacts
    chain: tuple[bytes, ...]
    principal: Principal | None = None
    kind: str = "certificate"

    @property
    def id(self) -> str:
        """What the party is called (P-1)."""
        return f"signature:{hashlib.sha256(self.certificate.der).hexdigest()}"

    @property
    def actor(self) -> str:
        """The principal, as the audit log names it."""
        return self.principal.id if self.principal else self.id

    def credential(self, ra: IRegistrationAuthority) -> Credential:
        """Return what an enrollment is made with."""
        return ClientCertificate(self.certificate.der, self.chain)


Party = SecretParty | SignerParty


# --- who protected it -------------------------------------------------------


async def prove_party(
    ra: IRegistrationAuthority,
    endpoint: Endpoint,
    message: PKIMessage,
    peer: str,
    remembered: bytes,
    *,
    strict: bool,
) -> Party:
    """
    Verify a message's protection.

    Whether a signer's certificate counts is not judged yet: see
    :func:`anchored`.

    :param remembered: DER of the certificate that signed before in the same
        transaction, for who does not send it again; or empty.
    :raises RequestError: the protection is not right.
    """
    header = message.header
    assert header.protection_alg is not None
    try:
        protection = read_protection(header.protection_alg)
    except Malformed as error:
        raise restate(error, "badMessageCheck", "protection-malformed") from (
            None
        )
    if isinstance(protection, Unsupported) and not protection.is_mac:
        raise refuse(
            "badAlg",
            "protection-algorithm",
            f"protection with {protection.name} is not supported",
        )
    if isinstance(protection, SignatureProtection):
        return _signer(message, protection, remembered, strict=strict)
    if message.body.type in SIGNED_ONLY:
        raise refuse(
            "wrongIntegrity",
            "must-be-signed",
            f"a message of type {message.body.type} must be signed",
        )
    if isinstance(protection, Unsupported):
        raise refuse(
            "badAlg",
            "protection-algorithm",
            f"protection with {protection.name} is not supported",
        )
    return await _secret(ra, endpoint, message, protection, peer, strict)


async def _secret(
    ra: IRegistrationAuthority,
    endpoint: Endpoint,
    message: PKIMessage,
    mac: PasswordBasedMac | PBMAC1,
    peer: str,
    strict: bool,
) -> SecretParty:
    """Find the secret that a message was protected with (P-3)."""
    protection = message.protection or b""

    async def knows(text: str) -> bool:
        key = await ra.elsewhere(mac.derive, text.encode("utf-8"))
        return mac.verify(key, message.protected_part, protection)

    reference = _reference(message.header, strict=strict)
    record, text = await ra.challenges.prove(
        endpoint,
        reference,
        peer,
        knows,
        costly=mac.iterations > _COSTLY,
    )
    return SecretParty(record, text, mac)


def _reference(header: PKIHeader, *, strict: bool) -> str:
    """
    Return the reference of a shared secret.

    RFC 9483, section 3.1: senderKID, and the sender's common name is the
    same.  OpenSSL up to 3.5 has the requested subject as sender, and some
    clients name the reference there only.
    """
    octets, name = header.sender_kid, header.sender.name
    named = attribute_values(name, COMMON_NAME) if name else []
    if octets is None and not strict and len(named) == 1:
        octets = named[0].encode("utf-8")
    if octets is None or len(octets) > _MAX_REFERENCE:
        raise refuse(
            "badMessageCheck",
            "reference-missing",
            "senderKID must be the reference of the shared secret",
        )
    reference = octets.decode("utf-8", "replace")
    # Some clients put the whole name there, in which the reference is all.
    if named == [reference.removeprefix("CN=")]:
        reference = named[0]
    if strict and named != [reference]:
        raise refuse(
            "badMessageCheck",
            "sender-not-reference",
            "the sender's common name must be the reference in senderKID",
        )
    return reference


def _signer(
    message: PKIMessage,
    protection: SignatureProtection,
    remembered: bytes,
    *,
    strict: bool,
) -> SignerParty:
    """Verify a signature with the certificate that comes first."""
    header, chain = message.header, message.extra_certs[1:]
    first = message.extra_certs[0] if message.extra_certs else remembered
    if not first:
        raise refuse(
            "badMessageCheck",
            "signer-missing",
            "extraCerts must begin with the signer's certificate",
        )
    try:
        facts = read_certificate(first)
    except (Malformed, TooLarge) as error:
        raise restate(error, "badMessageCheck", "signer-malformed") from None
    require_affordable(facts.public_key)
    # An encryption key may be in other hands, too, such as an archive's.
    if not may_be_used_for(facts, "digitalSignature"):
        raise refuse(
            "badMessageCheck",
            "signer-usage",
            "the signer's certificate is not for digital signatures",
        )
    _check_sender(header, facts, strict=strict)
    if not protection.verify(
        facts.public_key.spki,
        message.protected_part,
        message.protection or b"",
    ):
        raise refuse("badMessageCheck", "signature-wrong", WRONG_MAC)
    return SignerParty(facts, chain)


def _check_sender(
    header: PKIHeader, facts: CertificateFacts, *, strict: bool
) -> None:
    """Let nobody sign in another's name (RFC 9483, section 3.1)."""
    name = header.sender.name
    if not (name == () and not strict) and (
        name is None or not names_match(name, facts.subject)
    ):
        raise refuse(
            "badMessageCheck",
            "sender-not-signer",
            "the sender is not the subject of the signer's certificate",
        )
    known = key_identifier(facts.der) if strict else None
    if known is not None and header.sender_kid != known:
        raise refuse(
            "badMessageCheck",
            "sender-kid",
            "senderKID is not the signer's subject key identifier",
        )


# --- whether it counts ------------------------------------------------------


async def anchored(
    ra: IRegistrationAuthority,
    endpoint: Endpoint,
    signer: SignerParty,
    *,
    renewing: bool,
) -> SignerParty:
    """
    Return the signer with whom it speaks for (P-2).

    :param renewing: an expired certificate may pass: the profile decides; and
        one that was revoked for being renewed, whose renewal may be repeated.
    :raises RequestError: nobody vouches for it, or it is over with it.
    """
    facts = signer.certificate
    try:
        principal = await ra.identify(endpoint, facts.der, signer.chain)
    except NotAuthenticated as error:
        raise refuse(
            "signerNotTrusted",
            "signer-not-trusted",
            "no trust anchor of this endpoint leads to the signer",
        ) from error
    except NotAuthorized as error:
        own = await _record_of(ra, endpoint, facts)
        if renewing and (facts.not_after < ra.now() or _was_replaced(own)):
            return signer
        if facts.not_after < ra.now():
            raise restate(error, "signerNotTrusted", "signer-expired") from (
                None
            )
        if own is not None and own.status is CertificateStatus.REVOKED:
            raise restate(error, "certRevoked", "signer-revoked") from None
        if renewing and own is not None and own.superseded_by:
            # What has replaced it has been revoked.
            raise restate(error, "certRevoked", "signer-updated") from None
        raise
    kind, record = "idevid", principal.record
    if record is not None:
        is_ra = scope_of(endpoint.scopes, facts, record) is not None
        kind = "ra" if is_ra else "certificate"
        # What may yet be revoked for nobody's taking it, speaks for nobody.
        if record.confirm_by is not None:
            raise refuse(
                "badRequest",
                "signer-unconfirmed",
                "the signer's certificate has not been confirmed yet",
            )
    return SignerParty(facts, signer.chain, principal, kind)


async def check_unrevoked(
    ra: IRegistrationAuthority, endpoint: Endpoint, party: Party
) -> None:
    """
    Refuse a signer whose certificate has been revoked meanwhile.

    What was revoked for being renewed may have been so by this transaction.

    :raises RequestError: certRevoked.
    """
    if isinstance(party, SecretParty):
        return
    own = await _record_of(ra, endpoint, party.certificate)
    if (
        own is not None
        and own.status is CertificateStatus.REVOKED
        and not _was_replaced(own)
    ):
        raise refuse(
            "certRevoked",
            "signer-revoked",
            "the signer's certificate has been revoked",
        )


async def _record_of(
    ra: IRegistrationAuthority, endpoint: Endpoint, facts: CertificateFacts
) -> CertificateRecord | None:
    """Return what the inventory has of a certificate, if it is ours."""
    try:
        record = await ra.find(endpoint.tenant_id, facts.serial)
    except RequestError:
        return None
    return record if record.der == facts.der else None


def _was_replaced(record: CertificateRecord | None) -> bool:
    """Tell whether a certificate was revoked for being renewed."""
    return (
        record is not None
        and record.revocation_reason == SUPERSEDED
        and bool(record.superseded_by)
    )
