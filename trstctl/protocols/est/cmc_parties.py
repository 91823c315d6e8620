# SPDX-License-Identifier: MIT
"""
Who signed a Full PKI Request, and what that is good for (RFC 5272, 3.2).

Theory of operation
===================

S-1  *By a certificate*, which is in the message: one of this endpoint's CA,
     or a factory certificate.  A signer whom nobody vouches for gets nothing,
     whatever else he shows.
S-2  *By the key that is to be certified*: the signer is named by the
     subjectKeyIdentifier that the request asks for.  That proves the key and
     nobody's identity: a password, a client certificate or identityProofV2
     has to come with it.
S-3  *Fresh.*  A message that a certificate signs is a credential by itself, so
     that whoever has got hold of one could send it again.  Its signingTime
     must be of these minutes, or the same certificate must have opened the
     TLS session.  Within these minutes a repetition gets what the first got;
     whether a message is one, its signed attributes tell: all else of it can
     be changed by whoever has recorded it.
S-4  *Unknown equals wrong* for shared secrets:
     :meth:`~trstctl.interfaces.IChallengeTokens.prove`.
S-5  *Identity and key are linked* (RFC 5272, section 6.3): identityProofV2 is
     taken only where the key that is to be certified has signed it.  A
     popLinkWitnessV2 is verified beside that, if either end of it is there.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from attrs import field, frozen

from trstctl.errors import Malformed, TooLarge
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import (
    CertificateFacts,
    CertificateRequest,
    ClientCertificate,
    Credential,
    Endpoint,
    PublicKey,
)
from trstctl.pkix import der
from trstctl.pkix.certificate import read_certificate
from trstctl.pkix.cmc import WHOLE
from trstctl.pkix.cmc_controls import read_witness
from trstctl.pkix.signed import SignedData, signing_time, verify_signer
from trstctl.policy.keys import require_affordable
from trstctl.protocols.est.cmc_refusals import (
    Refusal,
    concerning,
    refuse,
)
from trstctl.protocols.est.cmc_wishes import Proof, Wanted, Wish

#: How old a signingTime may be, and how far ahead (S-3); together less than the
#: quarter of an hour in which a repeated request gets the same certificate.
_OLDEST = timedelta(minutes=10)
_AHEAD = timedelta(minutes=4)

#: For how long a message can be sent again.
REPEATABLE = _OLDEST + _AHEAD

_SUBJECT_KEY_IDENTIFIER = "2.5.29.14"


@frozen
class Signer:
    """
    Whose key has signed a message; nobody has judged the certificate.

    :ivar certificate: ``None``: the key is the one that is to be certified.
    :ivar chain: DER of what came with the certificate.
    :ivar message: SHA-256 of the signed attributes, in hexadecimal.
    """

    key: PublicKey
    signed_at: datetime | None = None
    certificate: CertificateFacts | None = None
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    message: str = ""

    @property
    def credentials(self) -> tuple[ClientCertificate, ...]:
        """What an enrollment is made with."""
        if self.certificate is None:
            return ()
        return (ClientCertificate(self.certificate.der, self.chain),)


def prove_signer(
    message: SignedData, wanted: CertificateRequest | None
) -> Signer:
    """
    Verify a message's signature.

    :param wanted: the request in it, if there is one.
    :raises Refusal: nobody is known to have signed it, or it does not verify.
    """
    (info,) = message.signers
    with concerning(WHOLE):
        if info.certificate is not None:
            facts = _read_signer(info.certificate)
            key, others = facts.public_key, message.certificates
            chain = tuple(each for each in others if each != facts.der)
        else:
            key, facts, chain = _requested_key(info.sid, wanted), None, ()
        require_affordable(key)
        verify_signer(message, info, key.spki)
        digest = hashlib.sha256(info.signed).hexdigest()
        return Signer(key, signing_time(info), facts, chain, digest)


def _read_signer(certificate: bytes) -> CertificateFacts:
    """Read the signer's certificate."""
    try:
        return read_certificate(certificate)
    except (Malformed, TooLarge) as error:
        raise refuse(
            "badMessageCheck", "the signer's certificate is malformed"
        ) from error


def _requested_key(
    sid: object, wanted: CertificateRequest | None
) -> PublicKey:
    """Return the key to be certified, if that is the signer (S-2)."""
    extensions = wanted.extensions if wanted is not None else ()
    for extension in extensions:
        # Section 3.2: the request MUST have the extension, and the signer
        # MUST be named by its value.
        if (
            wanted is not None
            and extension.oid == _SUBJECT_KEY_IDENTIFIER
            and isinstance(sid, bytes)
            and extension.value == der.octet_string(sid)
        ):
            return wanted.public_key
    raise refuse(
        "badMessageCheck",
        "the signer is neither a certificate in the message nor the key that "
        "is to be certified, by the subjectKeyIdentifier that the request "
        "asks for",
    )


def is_in_session(signer: Signer, presented: tuple[Credential, ...]) -> bool:
    """Tell whether the signer's certificate has opened the TLS session."""
    certificate = signer.certificate
    return certificate is not None and any(
        isinstance(each, ClientCertificate) and each.der == certificate.der
        for each in presented
    )


def check_fresh(
    signer: Signer, presented: tuple[Credential, ...], now: datetime
) -> None:
    """
    Refuse what a certificate signed at some other time (S-3).

    :param presented: what came by TLS and HTTP.
    :raises Refusal: it is not known to be fresh.
    """
    if signer.certificate is None or is_in_session(signer, presented):
        return
    signed_at = signer.signed_at
    if signed_at is None or not -_AHEAD <= now - signed_at <= _OLDEST:
        raise refuse(
            "badTime",
            "signingTime must be of the last ten minutes, or at most four "
            "minutes ahead, unless the signer's certificate is the TLS client "
            "certificate",
        )


# --- shared secrets ---------------------------------------------------------


async def prove_secret(
    ra: IRegistrationAuthority,
    endpoint: Endpoint,
    wish: Wish,
    wanted: Wanted,
    signer: Signer,
    peer: str,
) -> str | None:
    """
    Return the shared secret that a message was made with, if it was.

    :raises Refusal: it was not, or nothing links it to the request's key.
    """
    if wish.proof is None:
        if wish.pop_link is not None or wanted.link is not None:
            raise refuse(
                "popFailed",
                "popLinkRandom and popLinkWitnessV2 need identityProofV2",
                wish.body_part,
            )
        return None
    if signer.certificate is not None:
        raise refuse(
            "badRequest",
            "identityProofV2 is for messages that the new key signs; whom a "
            "certificate speaks for is known",
            wish.proof.body_part,
        )
    text = await _proven(ra, endpoint, wish.proof, peer)
    _check_link(wish, wanted, text, wish.proof.identification)
    return text


async def _proven(
    ra: IRegistrationAuthority, endpoint: Endpoint, proof: Proof, peer: str
) -> str:
    """Find the secret of identityProofV2 (section 6.2.1; S-4)."""
    # Section 6.2.3: the identification takes part in the key.
    suffix = proof.identification.encode("utf-8")

    async def knows(text: str) -> bool:
        return proof.witness.verify(text.encode("utf-8") + suffix, proof.over)

    text: str
    with concerning(proof.body_part):
        _, text = await ra.challenges.prove(
            endpoint, proof.identification, peer, knows, costly=False
        )
    return text


def _check_link(
    wish: Wish, wanted: Wanted, text: str, identification: str
) -> None:
    """Verify that the request names the secret, too (section 6.3.1.1)."""
    if wish.pop_link is None and wanted.link is None:
        return
    failed: Refusal = refuse(
        "popFailed",
        "popLinkWitnessV2 in the request does not go with popLinkRandom",
        wish.body_part,
    )
    if wish.pop_link is None or wanted.link is None:
        raise failed
    with concerning(wish.body_part):
        witness = read_witness(wanted.link)
    # The key is made of the secret alone; Dogtag makes it as that of
    # identityProofV2, which proves the same.
    if not any(
        witness.verify(secret.encode("utf-8"), wish.pop_link[1])
        for secret in (text, text + identification)
    ):
        raise failed
