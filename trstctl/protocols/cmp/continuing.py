# SPDX-License-Identifier: MIT
"""
Who may go on with a transaction that has been begun (RFC 9483, sections 3.1
and 3.2): M-6 of :mod:`trstctl.protocols.cmp.messages`.
"""

from __future__ import annotations

import base64

from trstctl.errors import TrstctlError
from trstctl.model import Dialogue
from trstctl.protocols.cmp.exchange import WAITING, Exchange
from trstctl.protocols.cmp.parties import Party
from trstctl.protocols.cmp.refusals import refuse


def remembered(begun: Dialogue | None) -> bytes:
    """Return the certificate that signed before, if one did."""
    if begun is None:
        return b""
    return base64.b64decode(begun.notes.get("signer", ""))


def check_continuing(asked: Exchange) -> None:
    """Let nobody but who began a transaction go on with it."""
    message, begun, party = asked.message, asked.dialogue, asked.known
    if begun is None or (party.id != begun.party and begun.state == WAITING):
        # What waits for a person is nobody's business but his who has asked.
        raise refuse(
            "badRequest",
            "transaction-unknown",
            "there is no such transaction",
        )
    if party.id != begun.party:
        raise _other_party(party, begun)
    # RFC 9483, section 3.1.
    if message.header.recip_nonce != bytes.fromhex(begun.notes["nonce"]):
        raise refuse(
            "badRecipientNonce",
            "recip-nonce",
            "recipNonce is not the senderNonce of the last answer",
        )
    if message.header.sender_nonce == bytes.fromhex(begun.notes["theirs"]):
        raise refuse(
            "badSenderNonce",
            "sender-nonce-used",
            "the senderNonce has been used before",
        )


def _other_party(party: Party, begun: Dialogue) -> TrstctlError:
    """Return what is wrong with who goes on with another's transaction."""
    technique, before = party.id.partition(":")[0], begun.party
    if technique == before.partition(":")[0]:
        return refuse(
            "wrongAuthority",
            "other-party",
            "somebody else has begun this transaction",
        )
    signed = "signature" in {technique, before.partition(":")[0]}
    return refuse(
        "wrongIntegrity" if signed else "badMessageCheck",
        "other-technique",
        "a transaction keeps to one kind of protection",
    )
