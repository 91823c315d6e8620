# SPDX-License-Identifier: MIT
"""
The exception tree: what can go wrong, without saying how a protocol tells it.

Each protocol owns one total table from the leaves of this tree to its wire
form; a test fails when a leaf has no row.  The ``detail`` of every error is
fit for an attacker's eyes: it is sent to the peer as it stands.  What an
operator needs beyond it goes into the log.
"""

from __future__ import annotations


class TrstctlError(Exception):
    """
    The base of all errors that a protocol may have to tell a peer.

    :ivar detail: one line of plain text that may be sent to the peer.
    :ivar facts: flat facts for the log and the audit record, never sent.
    :ivar recorded: whether the audit log already holds this refusal.
    """

    detail = "the request failed"

    def __init__(self, detail: str | None = None) -> None:
        if detail is not None:
            self.detail = detail
        self.facts: dict[str, str] = {}
        self.recorded = False
        super().__init__(self.detail)


class RequestError(TrstctlError):
    """The peer's fault: the same request will be refused again."""


class Malformed(RequestError):
    """The bytes do not decode as what they claim to be."""

    detail = "the request is malformed"


class MessageCheckFailed(RequestError):
    """The message's own protection (signature or MAC) does not verify."""

    detail = "the message's integrity check failed"


class UnsupportedAlgorithm(RequestError):
    """An algorithm, curve or key type that is not on the list."""

    detail = "the request uses an unsupported algorithm"


class TooLarge(RequestError):
    """The request, or a counted part of it, is larger than the limit."""

    detail = "the request is too large"


class UnsupportedMediaType(RequestError):
    """The body is labelled as something that is not accepted here."""

    detail = "the body's media type is not accepted here"


class NotAuthenticated(RequestError):
    """
    No credential, or a wrong one.  Unknown equals wrong: one text for all.
    """

    detail = "authentication is required"


class Throttled(RequestError):
    """
    Too many wrong credentials from this peer or for this name.

    :ivar retry_after: seconds until another try is looked at.
    """

    detail = "too many failed attempts"

    def __init__(self, retry_after: int, detail: str | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class NotAuthorized(RequestError):
    """The principal is known, and may not do this."""

    detail = "not authorized"


class ChallengeRejected(RequestError):
    """
    A single-use secret that is unknown, expired, burnt or for another.

    :ivar reused: the peer has the secret, but it was burnt for another key:
        somebody may have copied it.  Not told to the peer.
    :ivar misused: a renewal has the secret of somebody else in it.  Neither
        is that.
    """

    detail = "authentication is required"

    def __init__(
        self,
        detail: str | None = None,
        *,
        reused: bool = False,
        misused: bool = False,
    ) -> None:
        super().__init__(detail)
        self.reused = reused
        self.misused = misused


class ProofOfPossessionFailed(RequestError):
    """The requester did not prove that it holds the private key."""

    detail = "the request is not signed by the key that it carries"


class PolicyViolation(RequestError):
    """
    The certificate profile does not allow the request.

    :ivar profile: the name of the profile.
    :ivar rule: the name of the rule that refused.
    :ivar retry_after: seconds after which the same request will be allowed;
        0: never, as things are.
    """

    def __init__(
        self, profile: str, rule: str, detail: str, retry_after: int = 0
    ) -> None:
        super().__init__(f"profile {profile}, rule {rule}: {detail}")
        self.profile = profile
        self.rule = rule
        self.retry_after = retry_after
        self.facts = {"profile": profile, "rule": rule}


class UnknownCertificate(RequestError):
    """No such certificate in this tenant."""

    detail = "no such certificate"


class Replayed(RequestError):
    """A message that was answered before and may not be repeated."""

    detail = "the message was seen before"


class Conflict(RequestError):
    """The idempotency key or transaction belongs to another request."""

    detail = "this idempotency key was used for another request"


class Stale(RequestError):
    """What the request refers to is over: expired, revoked or withdrawn."""

    detail = "what the request refers to is no longer valid"


class ServiceError(TrstctlError):
    """The service's fault: the same request may succeed later."""

    detail = "the service failed"


class Unavailable(ServiceError):
    """
    The service cannot answer now.

    :ivar retry_after: seconds after which a retry makes sense.
    """

    detail = "the service is temporarily unavailable"

    def __init__(
        self, detail: str | None = None, retry_after: int = 5
    ) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Internal(ServiceError):
    """A fault of this program.  The log holds the rest."""

    detail = "internal error"


class SerialTaken(Exception):
    """
    The store has this serial already; choose another.

    Between the store and the registration authority only: never told to a
    peer, hence not in the tree.
    """


def leaves(
    root: type[TrstctlError] = TrstctlError,
) -> list[type[TrstctlError]]:
    """
    Return the classes below ``root`` that a protocol's table must map.

    :returns: all leaf classes of the tree, in the order of their definition.
    """
    children = root.__subclasses__()
    if not children:
        return [root]
    return [leaf for child in children for leaf in leaves(child)]
