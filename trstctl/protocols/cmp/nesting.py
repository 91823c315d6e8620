# SPDX-License-Identifier: MIT
"""
nested: messages that a registration authority passes on (RFC 9483, 5.2.2).

One message inside has protection added to it: the outer header repeats its
transactionID and senderNonce, and it is answered as if it had come by itself.
Several are a batch: each has a transactionID and nonce of its own, and they
are answered one by one, in their order, inside one message.  A batch is
refused whole for the header or protection of one of its messages, by what is
wrong with that; what is inside counts by its own protection, never by the
outer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trstctl.errors import Malformed, RequestError, TooLarge
from trstctl.interfaces import IRegistrationAuthority
from trstctl.pkix.cmp import PKIMessage, read_message
from trstctl.pkix.cmp_bodies import read_nested
from trstctl.pkix.cmp_responses import nested
from trstctl.protocols.cmp.exchange import Exchange, Reply
from trstctl.protocols.cmp.header import (
    ANNOUNCEMENTS,
    CARRYING,
    check_answers_nothing,
    check_header,
)
from trstctl.protocols.cmp.original import Originals
from trstctl.protocols.cmp.parties import prove_party
from trstctl.protocols.cmp.refusals import refuse, restate
from trstctl.protocols.cmp.settings import Served
from trstctl.web import Answered, HTTPRequest, HTTPResponse

#: Messages in a batch.
MAX_BATCH = 16


class Inner(Protocol):
    """Answers one message as if it had come by itself."""

    async def answer(
        self, request: HTTPRequest, body: bytes, label: str = ""
    ) -> HTTPResponse:
        """Answer it."""

    async def signer_before(self, message: PKIMessage) -> bytes:
        """Return DER of who signed in a message's transaction, if it goes on."""


class Nesting:
    """
    Answers nested messages, at one endpoint.

    :param inner: answers what is inside.
    :param originals: judges what is said to have been inside before.
    """

    def __init__(
        self,
        ra: IRegistrationAuthority,
        served: Served,
        inner: Inner,
        originals: Originals,
    ) -> None:
        self._ra = ra
        self._served = served
        self._inner = inner
        self._originals = originals

    async def one(self, asked: Exchange, label: str) -> HTTPResponse | None:
        """
        Answer the one message inside; ``None``: it is a batch.

        :param label: of the path, which is for what is inside; or empty.

        :raises Answered: the message inside was refused.
        """
        inside = read_nested(asked.message.body.value)
        if len(inside) > 1:
            return None
        message = _read(inside[0])
        outer, inner = asked.message.header, message.header
        # RFC 9483, section 5.2.2.1: both are copied.
        if inner.transaction_id != outer.transaction_id:
            raise refuse(
                "badRequest",
                "nested-transaction",
                "the transactionID must be that of the message inside",
            )
        if inner.sender_nonce != outer.sender_nonce:
            raise refuse(
                "badSenderNonce",
                "nested-nonce",
                "the senderNonce must be that of the message inside",
            )
        if outer.recip_nonce != inner.recip_nonce:
            check_answers_nothing(outer, strict=self._served.strict)
        await self._originals.check(asked, (message,))
        return await self._inner.answer(asked.request, inside[0], label)

    async def batch(self, asked: Exchange) -> Reply:
        """Answer every message inside, in order (section 5.2.2.2)."""
        check_answers_nothing(asked.message.header, strict=self._served.strict)
        inside = read_nested(asked.message.body.value)
        if len(inside) > MAX_BATCH:
            raise TooLarge(f"a batch has at most {MAX_BATCH} messages")
        await self._check_all(asked, inside)
        answers = [await self._one_of(asked, octets) for octets in inside]
        return Reply(
            nested(answers),
            facts={"decision": "relayed", "principal": asked.known.actor},
        )

    async def _check_all(
        self, asked: Exchange, inside: Sequence[bytes]
    ) -> None:
        """Refuse the whole for one of its parts, before any is acted on."""
        messages = [_read(octets) for octets in inside]
        headers = [message.header for message in messages]
        for name, values in (
            ("transactionIDs", {one.transaction_id for one in headers}),
            ("senderNonces", {one.sender_nonce for one in headers}),
        ):
            if len(values) < len(messages):
                raise refuse(
                    "badRequest"
                    if name == "transactionIDs"
                    else "badSenderNonce",
                    "nested-twice",
                    f"the {name} of a batch must differ",
                )
        for number, message in enumerate(messages, 1):
            try:
                check_header(
                    message, self._ra.now(), strict=self._served.strict
                )
                await prove_party(
                    self._ra,
                    self._served.endpoint,
                    message,
                    asked.request.peer,
                    await self._inner.signer_before(message),
                    strict=self._served.strict,
                )
            except RequestError as error:
                error.detail = f"message {number} inside: {error.detail}"
                raise
        await self._originals.check(asked, messages)

    async def _one_of(self, asked: Exchange, octets: bytes) -> bytes:
        """Answer one message of a batch; audit its refusal."""
        try:
            return (await self._inner.answer(asked.request, octets, "")).body
        except Answered as told:
            if not told.error.recorded:
                await self._ra.record_refusal(
                    self._served.endpoint,
                    "nested",
                    told.error,
                    asked.request.request_id,
                    asked.request.peer,
                )
            return told.response.body


def _read(octets: bytes) -> PKIMessage:
    """Read a message inside, which is itself no nested one."""
    try:
        message = read_message(octets)
    except (Malformed, TooLarge) as error:
        raise restate(error, "badDataFormat", "nested-malformed") from None
    kind = message.body.type
    if kind == CARRYING or kind in ANNOUNCEMENTS:
        raise refuse(
            "badRequest",
            "nested-type",
            f"a message of type {kind} is not nested",
        )
    return message
