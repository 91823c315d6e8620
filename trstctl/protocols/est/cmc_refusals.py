# SPDX-License-Identifier: MIT
"""
How CMC tells what went wrong (RFC 5272, sections 6.1.1 to 6.1.4).

Each refusal says which body parts it is about, 0 being the whole message, and
has a CMCFailInfo; a part that nobody here serves has the CMCStatus
``noSupport`` instead.  A check of this protocol's own says all that where it
is made, by :func:`refuse`; what others raise is looked up in
:data:`FAIL_INFO`, and :func:`concerning` says what it is about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from trstctl import errors
from trstctl.errors import Malformed, PolicyViolation, TrstctlError
from trstctl.pkix.cmc import WHOLE, StatusInfo

#: What CMCFailInfo says: a row for every leaf of the tree.
FAIL_INFO: Mapping[type[TrstctlError], str] = {
    errors.Malformed: "badRequest",
    errors.MessageCheckFailed: "badMessageCheck",
    errors.UnsupportedAlgorithm: "badAlg",
    errors.TooLarge: "badRequest",
    errors.UnsupportedMediaType: "badRequest",
    errors.NotAuthenticated: "badIdentity",
    errors.Throttled: "tryLater",
    errors.NotAuthorized: "badRequest",
    errors.ChallengeRejected: "badIdentity",
    errors.ProofOfPossessionFailed: "popFailed",
    errors.PolicyViolation: "badRequest",
    errors.UnknownCertificate: "badCertId",
    errors.Replayed: "badRequest",
    errors.Conflict: "badRequest",
    errors.Stale: "badRequest",
    errors.Unavailable: "tryLater",
    errors.Internal: "internalCAError",
}

#: The errors behind the refusals of this protocol's own, by CMCFailInfo.
_KINDS: Mapping[str, type[TrstctlError]] = {
    "badAlg": errors.UnsupportedAlgorithm,
    "badMessageCheck": errors.MessageCheckFailed,
    "badTime": errors.MessageCheckFailed,
    "badCertId": errors.UnknownCertificate,
    "badIdentity": errors.NotAuthenticated,
    "popRequired": errors.ProofOfPossessionFailed,
    "popFailed": errors.ProofOfPossessionFailed,
}

#: The rules of a profile whose refusals have a CMCFailInfo of their own;
#: section 3.1 demands the first.
_RULES: Mapping[str, str] = {
    "request-extensions": "unsupportedExt",
    "key-type": "badAlg",
    "key-strength": "badAlg",
    "signature-digest": "badAlg",
}

_LONGEST = 500


class Refusal(Exception):
    """
    A refusal, with what it is about.

    :ivar error: what the log, the audit and HTTP are told.
    :ivar fail_info: empty with ``noSupport``.
    """

    def __init__(
        self,
        error: TrstctlError,
        fail_info: str,
        body_parts: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.error = error
        self.fail_info = fail_info
        self.body_parts = body_parts
        error.facts["fail_info"] = fail_info or "noSupport"

    def status(self) -> StatusInfo:
        """Return what the answer says of it."""
        text = self.error.detail[:_LONGEST]
        return StatusInfo(
            "failed" if self.fail_info else "noSupport",
            self.body_parts,
            "".join(c if c.isprintable() else "?" for c in text),
            self.fail_info,
        )


def refuse(fail_info: str, detail: str, *body_parts: int) -> Refusal:
    """
    Return a refusal of this protocol's own, to be raised.

    :param fail_info: one of :data:`trstctl.pkix.cmc.FAILURES`.
    :param body_parts: none: the whole message.
    """
    kind = _KINDS.get(fail_info, Malformed)
    return Refusal(kind(detail), fail_info, body_parts or (WHOLE,))


def unsupported(detail: str, *body_parts: int) -> Refusal:
    """Return the refusal of what is known and not served."""
    return Refusal(Malformed(detail), "", body_parts)


@contextmanager
def concerning(*body_parts: int) -> Iterator[None]:
    """Say of the errors that are raised within what they are about."""
    try:
        yield
    except TrstctlError as error:
        kind = next(each for each in type(error).__mro__ if each in FAIL_INFO)
        fail_info = FAIL_INFO[kind]
        if isinstance(error, PolicyViolation):
            fail_info = _RULES.get(error.rule, fail_info)
        raise Refusal(error, fail_info, body_parts) from error
