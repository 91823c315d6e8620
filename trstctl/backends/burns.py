# SPDX-License-Identifier: MIT
"""
What a single-use secret has bought, and what it still buys.

A secret buys as many certificates as it has uses, each for a key of its own.
A use is taken by the request that is signed with it (it is *burnt*), or by
one that a person has to decide first (it is *reserved*).  It is given back
only if the held request is denied, or if nobody decides it in time.  What was
burnt and came to nothing serves the same key and request again, nobody else.

Both stores judge by these functions, inside their transactions.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from attrs import evolve, frozen

from trstctl.errors import ChallengeRejected
from trstctl.model import OneTimeSecret


@frozen
class Burn:
    """
    One use of a secret.

    :ivar public_key: fingerprint of the key that it was taken for.
    :ivar request: fingerprint of the request.
    :ivar authority: with ``serial``, the last intent; empty while reserved.
    :ivar held: a held request took it: it is in date, whatever the time.
    :ivar until: when it is free again, while nobody has decided.
    """

    public_key: str
    request: str
    authority: str = ""
    serial: str = ""
    held: bool = False
    until: datetime | None = None


Burns = tuple[Burn, ...]


def burnt(
    secret: OneTimeSecret,
    burns: Burns,
    wanted: Burn,
    latest: datetime,
    is_buying: Callable[[Burn], bool],
    adopted: str = "",
) -> Burns:
    """
    Return the uses of a secret once another is taken, the last one last.

    :param latest: the time, or the latest that was ever seen.
    :param is_buying: tells whether the intent of a use is open or issued.
    :param adopted: fingerprint of the held request that this one replaces.
    :raises ChallengeRejected: the secret does not serve this request;
        ``reused``: it is used up, by other keys.
    """
    taken = [one for one in burns if one.until is None or latest < one.until]
    key = wanted.public_key
    former = next((one for one in taken if one.public_key == key), None)
    spent = former is None and len(taken) >= secret.uses
    same = former is not None and former.request in {wanted.request, adopted}
    if (
        spent
        or secret.revoked_at is not None
        or secret.key_fingerprint not in {"", key}
        or (former is not None and (not same or is_buying(former)))
    ):
        raise ChallengeRejected(reused=spent)
    held = former is not None and former.held
    if secret.expires_at <= latest and not held:
        raise ChallengeRejected
    others = [one for one in taken if one is not former]
    return (*others, evolve(wanted, held=held or wanted.held))


def decided(
    burns: Burns, public_key: str, request: str, approve: bool
) -> Burns:
    """Return the uses once a person has decided the request of one."""

    def is_it(one: Burn) -> bool:
        return (one.held, one.public_key, one.request) == (
            True,
            public_key,
            request,
        )

    if approve:
        return tuple(
            evolve(one, until=None) if is_it(one) else one for one in burns
        )
    return tuple(one for one in burns if not is_it(one))


def with_burns(
    secret: OneTimeSecret, burns: Burns, now: datetime
) -> OneTimeSecret:
    """Return the secret with these uses; all but the last is derived."""
    is_spent = len(burns) >= secret.uses
    free = [one.until for one in burns if one.until is not None]
    burnt_at = secret.burnt_at
    if burnt_at is None or (
        secret.reserved_until is not None and secret.reserved_until <= now
    ):
        burnt_at = now
    return evolve(
        secret,
        burnt_at=burnt_at if is_spent else None,
        reserved_until=min(free) if is_spent and free else None,
        burnt_for=burns[-1].public_key if burns else "",
        burnt_request=burns[-1].request if burns else "",
        burnt_keys=tuple(one.public_key for one in burns),
    )
