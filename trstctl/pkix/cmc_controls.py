# SPDX-License-Identifier: MIT
"""
The controls of CMC that a gateway reads (RFC 5272, section 6; RFC 6402).

Every reader takes DER that :func:`trstctl.pkix.cmc.read_pki_data`, or
whoever read the certification request, has walked.  Nothing is judged here but
algorithms: a proof that we cannot compute is no proof.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from attrs import field, frozen

from trstctl.errors import Malformed, UnsupportedAlgorithm
from trstctl.model import Name
from trstctl.pkix import der
from trstctl.pkix.cmc import Control, read_body_part_id
from trstctl.pkix.cmp_mac import MAC, read_mac
from trstctl.pkix.digests import digest_name
from trstctl.pkix.extensions import CRL_REASONS
from trstctl.pkix.names import UTF8_STRING, read_name, read_text
from trstctl.pkix.times import GENERALIZED_TIME, read_generalized_time

_ID_CMC = "1.3.6.1.5.5.7.7."

#: Every control, by its wire name (RFC 5272, table 1; RFC 6402, section 2.2).
CONTROLS: Mapping[str, str] = {
    name: f"{_ID_CMC}{arc}"
    for name, arc in (
        ("statusInfo", 1),
        ("identification", 2),
        ("identityProof", 3),
        ("dataReturn", 4),
        ("transactionId", 5),
        ("senderNonce", 6),
        ("recipientNonce", 7),
        ("addExtensions", 8),
        ("encryptedPOP", 9),
        ("decryptedPOP", 10),
        ("lraPOPWitness", 11),
        ("getCert", 15),
        ("getCRL", 16),
        ("revokeRequest", 17),
        ("regInfo", 18),
        ("responseInfo", 19),
        ("queryPending", 21),
        ("popLinkRandom", 22),
        ("popLinkWitness", 23),
        ("confirmCertAcceptance", 24),
        ("statusInfoV2", 25),
        ("trustedAnchors", 26),
        ("authData", 27),
        ("batchRequests", 28),
        ("batchResponses", 29),
        ("publishCert", 30),
        ("modCertTemplate", 31),
        ("controlProcessed", 32),
        ("popLinkWitnessV2", 33),
        ("identityProofV2", 34),
        ("raIdentityWitness", 35),
        ("responseBody", 37),
    )
}

#: The same, by their dotted types.
NAMES: Mapping[str, str] = {oid: name for name, oid in CONTROLS.items()}

#: What turns a secret into a key.
_DIGESTS = frozenset({"sha256", "sha384", "sha512"})

#: CRLReason by number.
_REASONS = {number: name for name, number in CRL_REASONS.items()}

_ENUMERATED = 0x0A

#: Octets of a shared secret: 255 characters (RFC 7894, section 3) in UTF-8.
_SECRET = 1020
_REVOCATION_TAGS = bytes((GENERALIZED_TIME, der.OCTET_STRING, UTF8_STRING))


def single(control: Control) -> bytes:
    """
    Return the DER of a control's value; each that we read has one.

    :raises Malformed: it has none, or several.
    """
    if len(control.values) != 1:
        raise Malformed("a control has not exactly one value")
    return control.values[0]


def read_octets(value: bytes, longest: int) -> bytes:
    """
    Read a control that is an OCTET STRING.

    :raises Malformed: it is none, or is longer.
    """
    octets = der.content(value, der.OCTET_STRING)
    if len(octets) > longest:
        raise Malformed("a control is too long")
    return octets


def read_number(value: bytes, longest: int) -> bytes:
    """
    Return the content octets of a control that is an INTEGER.

    :raises Malformed: it is none, or has more octets.
    """
    octets = der.content(value, der.INTEGER)
    if len(octets) > longest:
        raise Malformed("a control is too long")
    return octets


def read_identification(value: bytes, longest: int) -> str:
    """
    Read Identification (section 6.2.3).

    :raises Malformed: it is no UTF8String, or is longer.
    """
    octets = der.content(value, UTF8_STRING)
    if not 0 < len(octets) <= longest:
        raise Malformed("an identification is empty or too long")
    return read_text(UTF8_STRING, octets)


# --- proofs -----------------------------------------------------------------


@frozen
class Witness:
    """
    A MAC by a shared secret: IdentityProofV2 (section 6.2.1) and
    PopLinkWitnessV2 (section 6.3.1.1), which have the same fields.

    :ivar digest: what makes a key of the secret.
    """

    digest: str
    mac: MAC
    value: bytes = field(repr=False)

    def verify(self, secret: bytes, octets: bytes) -> bool:
        """Tell whether whoever made it knew the secret."""
        key = hashlib.new(self.digest, secret).digest()
        return hmac.compare_digest(self.mac.compute(key, octets), self.value)


def read_witness(value: bytes) -> Witness:
    """
    Read IdentityProofV2 or PopLinkWitnessV2.

    :raises UnsupportedAlgorithm: the detail names it.
    :raises Malformed: it is neither.
    """
    parts = der.children(der.content(value, der.SEQUENCE))
    if [part[0] for part in parts] != [
        der.SEQUENCE,
        der.SEQUENCE,
        der.OCTET_STRING,
    ]:
        raise Malformed("a proof by a shared secret is malformed")
    digest, mac = digest_name(parts[0][2]), read_mac(parts[1][2])
    if digest not in _DIGESTS:
        raise UnsupportedAlgorithm(
            f"a key that {digest} makes of the shared secret is not supported"
        )
    # A GMAC takes a nonce and a key of its own length; HMAC is what RFC 5272
    # means.
    if mac is None or not mac.digest:
        raise UnsupportedAlgorithm(
            "the proof by a shared secret must be an HMAC"
        )
    return Witness(digest, mac, parts[2][1])


@frozen
class LraPopWitness:
    """
    Whose proof of possession an RA has seen (section 6.8).

    :ivar pki_data: the body part of the request; 0: this one.
    """

    pki_data: int
    body_ids: tuple[int, ...]


def read_lra_pop_witness(value: bytes) -> LraPopWitness:
    """
    Read LraPopWitness.

    :raises Malformed: it is none.
    """
    parts = der.children(der.content(value, der.SEQUENCE))
    if len(parts) != 2 or parts[1][0] != der.SEQUENCE:
        raise Malformed("an RA POP witness is malformed")
    return LraPopWitness(
        read_body_part_id(parts[0]),
        tuple(map(read_body_part_id, der.children(parts[1][1]))),
    )


# --- revocation -------------------------------------------------------------


@frozen
class RevokeRequest:
    """
    Which certificate to revoke, and why (section 6.11).

    :ivar serial: hexadecimal, as everywhere; may be negative.
    :ivar reason: a name of RFC 5280, section 5.3.1, ``removeFromCRL``
        included; a number that has no name as it is.
    :ivar secret: the sharedSecret, if it is there.
    """

    issuer: Name
    serial: str
    reason: str
    secret: bytes | None = field(default=None, repr=False)


def read_revoke_request(value: bytes) -> RevokeRequest:
    """
    Read RevokeRequest.

    :raises Malformed: it is none, or its secret is longer than any can be.
    """
    issuer, serial, reason, *rest = _revocation_parts(value)
    optional = der.fields(rest, _REVOCATION_TAGS)
    if GENERALIZED_TIME in optional:
        read_generalized_time(optional[GENERALIZED_TIME])
    if UTF8_STRING in optional:
        read_text(UTF8_STRING, optional[UTF8_STRING])
    secret = optional.get(der.OCTET_STRING)
    if secret is not None and len(secret) > _SECRET:
        raise Malformed("a shared secret is too long")
    code = int.from_bytes(reason[1], "big", signed=True)
    return RevokeRequest(
        read_name(issuer[2]),
        f"{int.from_bytes(serial[1], 'big', signed=True):x}",
        _REASONS.get(code, f"{code}"),
        secret,
    )


def _revocation_parts(value: bytes) -> list[tuple[int, bytes, bytes]]:
    """Return the fields of a RevokeRequest, three or more."""
    parts = der.children(der.content(value, der.SEQUENCE))
    if [part[0] for part in parts[:3]] != [
        der.SEQUENCE,
        der.INTEGER,
        _ENUMERATED,
    ]:
        raise Malformed("a revocation request is malformed")
    return parts
