# SPDX-License-Identifier: MIT
"""One message and its answer, as the parts of CMP hand them to one another."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from attrs import define, field, frozen

from trstctl.interfaces import IMessageCredential
from trstctl.model import Dialogue
from trstctl.pkix.cmp import PKIBody, PKIMessage
from trstctl.pkix.cmp_header import GeneralInfo
from trstctl.protocols.cmp.answers import NOTHING, Envelope
from trstctl.protocols.cmp.parties import Party
from trstctl.web import HTTPRequest

#: What becomes of a dialogue.
WAITING = "waiting"  # for a person's approval
UNCONFIRMED = "unconfirmed"  # until certConf
CONFIRMED = "confirmed"
FINISHED = "finished"


@define
class Exchange:
    """
    One message with what was found out about it so far.

    :ivar digest: hexadecimal SHA-256 of the message.
    :ivar transaction: the transactionID, also where we made it.
    :ivar party: who protected it, once that is proven.
    :ivar dialogue: what has been said in this transaction before.
    :ivar judged: whether its content is what is being judged (M-2).
    """

    message: PKIMessage
    request: HTTPRequest = field(repr=False)
    digest: str
    transaction: bytes
    envelope: Envelope
    credential: IMessageCredential
    party: Party | None = None
    dialogue: Dialogue | None = None
    judged: bool = False

    @property
    def known(self) -> Party:
        """Who protected the message."""
        assert self.party is not None
        return self.party

    @property
    def begun(self) -> Dialogue:
        """What has been said before."""
        assert self.dialogue is not None
        return self.dialogue


@frozen
class Reply:
    """
    What a message is answered with.

    :ivar chain: DER of the issuers of a new certificate.
    :ivar facts: for the log line.
    :ivar state: what becomes of the dialogue; empty: it is not kept.
    :ivar notes: what the dialogue remembers from now on.
    :ivar serial: of a certificate that was issued just now, or empty.
    :ivar until: the dialogue is kept until then at least.
    :ivar has_key: whether a private key is in it, encrypted: it is forgotten
        once it cannot be confirmed any more.
    """

    body: PKIBody
    information: GeneralInfo = NOTHING
    chain: tuple[bytes, ...] = ()
    facts: Mapping[str, str] = field(factory=dict)
    state: str = ""
    notes: Mapping[str, str] = field(factory=dict)
    serial: str = ""
    until: datetime | None = None
    has_key: bool = False
