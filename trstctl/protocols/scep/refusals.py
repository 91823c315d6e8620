# SPDX-License-Identifier: MIT
"""
How SCEP tells what went wrong (RFC 8894, section 3.2.1.4).
"""

from __future__ import annotations

from collections.abc import Mapping

from trstctl import errors
from trstctl.errors import RequestError
from trstctl.protocols.scep.codec import FAILURE, Answer

#: What failInfo says: a row for every refusal of the tree (RFC 8894,
#: section 3.2.1.4).  ``Throttled`` is told by HTTP.
FAIL_INFO: Mapping[type[RequestError], str] = {
    errors.Malformed: "badRequest",
    errors.MessageCheckFailed: "badMessageCheck",
    errors.UnsupportedAlgorithm: "badAlg",
    errors.TooLarge: "badRequest",
    errors.UnsupportedMediaType: "badRequest",
    errors.NotAuthenticated: "badRequest",
    errors.Throttled: "badRequest",
    errors.NotAuthorized: "badRequest",
    errors.ChallengeRejected: "badRequest",
    errors.ProofOfPossessionFailed: "badMessageCheck",
    errors.PolicyViolation: "badRequest",
    errors.UnknownCertificate: "badCertId",
    errors.Replayed: "badRequest",
    errors.Conflict: "badRequest",
    errors.Stale: "badRequest",
}

#: One text for all that may be wrong with a challenge or a signer.
_NOT_ADMITTED = "the request is not authorized"


def failure(error: RequestError) -> Answer:
    """Return what a CertRep says of a refusal."""
    kind = next(each for each in type(error).__mro__ if each in FAIL_INFO)
    text = error.detail
    if isinstance(error, errors.NotAuthenticated | errors.ChallengeRejected):
        # Neither may be told apart from the other.
        text = _NOT_ADMITTED
    return Answer(FAILURE, FAIL_INFO[kind], text)
