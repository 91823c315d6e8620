# SPDX-License-Identifier: MIT
"""
How CMP tells what went wrong (RFC 9810, section 5.2.3; RFC 9483, section 3.6).

Each refusal has a failInfo and a code.  A check of this protocol's own names
both where it is made, by :func:`refuse`; what others raise is looked up in
:data:`FAIL_INFO`, and its code is the name of its class.  The code stands in
brackets behind the text, and never changes: scripts may look for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from trstctl import errors
from trstctl.errors import (
    Malformed,
    MessageCheckFailed,
    NotAuthorized,
    TrstctlError,
)
from trstctl.pkix.cmp_status import PKIStatusInfo

#: What failInfo says: a row for every leaf of the tree.
FAIL_INFO: Mapping[type[TrstctlError], str] = {
    errors.Malformed: "badDataFormat",
    errors.MessageCheckFailed: "badMessageCheck",
    errors.UnsupportedAlgorithm: "badAlg",
    errors.TooLarge: "badRequest",
    errors.UnsupportedMediaType: "badRequest",
    errors.NotAuthenticated: "signerNotTrusted",
    errors.Throttled: "systemUnavail",
    errors.NotAuthorized: "notAuthorized",
    errors.ChallengeRejected: "badMessageCheck",
    errors.ProofOfPossessionFailed: "badPOP",
    errors.PolicyViolation: "badCertTemplate",
    errors.UnknownCertificate: "badCertId",
    errors.Replayed: "badSenderNonce",
    errors.Conflict: "transactionIdInUse",
    errors.Stale: "certRevoked",
    errors.Unavailable: "systemUnavail",
    errors.Internal: "systemFailure",
}

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")

#: One text for an unknown reference and a wrong MAC; the code, too.
WRONG_MAC = "the message's protection does not verify"

_KINDS: Mapping[str, type[TrstctlError]] = {
    "badMessageCheck": MessageCheckFailed,
    "wrongIntegrity": MessageCheckFailed,
    "badAlg": errors.UnsupportedAlgorithm,
    "notAuthorized": NotAuthorized,
    "certRevoked": NotAuthorized,
    "wrongAuthority": NotAuthorized,
    "signerNotTrusted": errors.NotAuthenticated,
    "badPOP": errors.ProofOfPossessionFailed,
    "badCertId": errors.UnknownCertificate,
    "transactionIdInUse": errors.Conflict,
    "certConfirmed": errors.Conflict,
}


def refuse(fail_info: str, code: str, detail: str) -> TrstctlError:
    """
    Return a refusal of this protocol's own, to be raised.

    :param fail_info: one of :data:`trstctl.pkix.cmp_status.FAILURES`.
    :param code: stable; lower-case words and hyphens.
    """
    error = _KINDS.get(fail_info, Malformed)(detail)
    error.facts["fail_info"] = fail_info
    error.facts["code"] = code
    return error


def restate(error: TrstctlError, fail_info: str, code: str) -> TrstctlError:
    """Return the error itself, to be told in another way."""
    error.facts["fail_info"] = fail_info
    error.facts["code"] = code
    return error


def status_of(error: TrstctlError) -> PKIStatusInfo:
    """Return what a PKIStatusInfo says of a refusal; log it likewise."""
    kind = next(each for each in type(error).__mro__ if each in FAIL_INFO)
    fail_info = error.facts.setdefault("fail_info", FAIL_INFO[kind])
    code = error.facts.setdefault(
        "code", _WORD.sub("-", kind.__name__).lower()
    )
    text = error.detail
    if isinstance(error, errors.ChallengeRejected):
        text = WRONG_MAC
    return PKIStatusInfo("rejection", (f"{text} [{code}]",), (fail_info,))
