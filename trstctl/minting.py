# SPDX-License-Identifier: MIT
"""
How single-use secrets are made: tokens now, challenges in the same way.

Theory of operation
===================

M-1  *Kept as a digest.*  A secret is known to whoever gets it; the store
     has its SHA-256.
M-2  *Nobody hands out more than he has.*  A registrar that is limited to
     profiles and names makes secrets within them only, and sees no others.
M-3  *A retry loses nothing.*  What is made under an idempotency key is not
     drawn but derived: by HMAC from the registrar's own secret, which each
     of its requests carries, and the key.  So the same order brings the same
     secrets, in any process, while nothing that could be used is stored.
     The ids come from the key alone, so that another order under the same
     key meets the first one's ids, and the store refuses it.

:func:`mint` has what all ways of making secrets share; a command and a
registrar differ in where the bits come from and in what they may ask.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta

from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface import implementer

from trstctl.backends.passwords import new_secret, secret_digest
from trstctl.errors import (
    Conflict,
    Malformed,
    NotAuthorized,
    UnknownCertificate,
)
from trstctl.interfaces import IRegistrar, IStore
from trstctl.model import (
    BearerToken,
    MintedSecret,
    OneTimeSecret,
    Principal,
    RegistrarCall,
    SecretOrder,
    SecretState,
)
from trstctl.policy.coverage import covers, takes_time
from trstctl.policy.patterns import split_pattern

RandomBytes = Callable[[int], bytes]

#: What a registrar may ask for at once.
MAX_COUNT = 100
MAX_LIFE = timedelta(days=30)

#: Expressions that take time among the names of what a registrar asks for.
#: Each request with the secret matches them, however often it is refused.
MAX_EXPRESSIONS = 1

#: Patterns that a secret may be bound to, and the characters of each.
MAX_NAMES = 32
MAX_PATTERN = 512

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")

#: Octets of an id, which is hexadecimal.
_ID_OCTETS = 8


# --- what all ways of making secrets share ----------------------------------


def check_order(order: SecretOrder, offered: Collection[str]) -> None:
    """
    Refuse an order whose secrets nobody could use.

    :param offered: the profiles that they could be used with.
    :raises Malformed: no such pattern or fingerprint; or no life, or none to
        make; the text says which.
    :raises NotAuthorized: the profile is not offered.
    """
    if order.profile not in offered:
        raise NotAuthorized("the profile is not offered here")
    if len(order.names) > MAX_NAMES:
        raise Malformed(f"there are more than {MAX_NAMES} names")
    for pattern in order.names:
        if len(pattern) > MAX_PATTERN:
            raise Malformed(f"a name has more than {MAX_PATTERN} characters")
        # No name that is issued has such; half a character of JSON's would
        # not even be text.
        if not pattern.isprintable():
            raise Malformed("a name has a character that does not print")
        try:
            split_pattern(pattern)
        except ValueError as error:
            raise Malformed(f"the name {pattern!a}: {error}") from None
    if order.key_fingerprint and not _FINGERPRINT.fullmatch(
        order.key_fingerprint
    ):
        raise Malformed("the key is not 64 hexadecimal digits of a SHA-256")
    if order.key_fingerprint and order.count > 1:
        raise Malformed("one key needs only one token")
    if order.count < 1:
        raise Malformed("there must be one or more")
    if order.life <= timedelta(0):
        raise Malformed("it must live for some time")


def mint(
    tenant_id: str,
    order: SecretOrder,
    now: datetime,
    random_bytes: RandomBytes,
    ids: RandomBytes | None = None,
    form: Callable[[OneTimeSecret], str] | None = None,
) -> Iterator[MintedSecret]:
    """
    Yield new secrets, to be added to the store before they are shown.

    :param order: checked.
    :param random_bytes: where the secrets come from.
    :param ids: where their ids come from; by default the same.
    :param form: returns the secret itself, given all that is known of it
        but its digest; by default it is a token of 192 random bits.
    """
    ids = ids or random_bytes
    for _ in range(order.count):
        record = OneTimeSecret(
            tenant_id=tenant_id,
            id=ids(_ID_OCTETS).hex(),
            digest="",
            profile=order.profile,
            names=order.names,
            created_at=now,
            expires_at=now + order.life,
            key_fingerprint=order.key_fingerprint,
        )
        secret = form(record) if form else new_secret(random_bytes)
        yield MintedSecret(
            evolve(record, digest=secret_digest(secret)), secret
        )


def derived(secret: str, *context: str) -> RandomBytes:
    """
    Return a source of octets that only who has the secret can tell (M-3).

    :param secret: random; at least 128 bits.
    :param context: whatever differs makes it another source.
    :returns: a function that gives up to 32 octets at a time, and others at
        each call.
    """
    octets = [part.encode("utf-8") for part in context]
    framed = b"".join(b"%d:%s" % (len(one), one) for one in octets)
    key = hmac.digest(secret.encode("utf-8"), framed, "sha256")
    calls = 0

    def next_octets(count: int) -> bytes:
        nonlocal calls
        calls += 1
        return hmac.digest(key, calls.to_bytes(8, "big"), "sha256")[:count]

    return next_octets


# --- a registrar ------------------------------------------------------------


@implementer(IRegistrar)
class Registrar:
    """
    One request of a proven registrar.

    :param principal: who it is, and its limits.
    :param now: the wall clock, UTC.
    """

    def __init__(
        self,
        principal: Principal,
        call: RegistrarCall,
        store: IStore,
        now: Callable[[], datetime],
        random_bytes: RandomBytes,
    ) -> None:
        self.id = principal.id
        self._principal = principal
        self._call = call
        self._store = store
        self._now = now
        self._random_bytes = random_bytes

    # --- make ---------------------------------------------------------------

    def mint(
        self, order: SecretOrder, offered: Collection[str], key: str | None
    ) -> Deferred[Sequence[MintedSecret]]:
        """Make secrets; see the interface."""
        return Deferred.fromCoroutine(self._mint(order, offered, key))

    async def _mint(
        self, order: SecretOrder, offered: Collection[str], key: str | None
    ) -> Sequence[MintedSecret]:
        """Check the order, make the secrets, and commit them."""
        try:
            check_order(order, offered)
            self._check_bounds(order)
            self._check_limits(order)
        except (Malformed, NotAuthorized) as error:
            error.facts["principal"] = self.id
            raise
        tenant_id = self._principal.tenant_id
        secrets = ids = self._random_bytes
        if key is not None:
            ids, secrets = self._sources(order, key)
        made = list(mint(tenant_id, order, self._now(), secrets, ids))
        try:
            await self._store.add_secrets([m.record for m in made], self.id)
        except Conflict as error:
            # The store knows of ids only, the registrar of his key.
            told = error if key is None else Conflict()
            told.facts["principal"] = self.id
            return await self._made_before(made, told)
        return made

    def _check_bounds(self, order: SecretOrder) -> None:
        """Refuse more than a request may ask for."""
        if order.count > MAX_COUNT:
            raise Malformed(f"at most {MAX_COUNT} can be made at once")
        if order.life > MAX_LIFE:
            raise Malformed(f"at most {MAX_LIFE.days} days are possible")
        if sum(map(takes_time, order.names)) > MAX_EXPRESSIONS:
            raise Malformed("at most one name can be a regular expression")

    def _check_limits(self, order: SecretOrder) -> None:
        """Refuse what the registrar is not for (M-2)."""
        if not self._may_use(order.profile):
            raise NotAuthorized("the credential is not for this profile")
        if self._principal.names and not order.names:
            raise NotAuthorized(
                "the credential is limited to names; the token must be, too"
            )
        for pattern in order.names:
            if not self._may_name(pattern):
                raise NotAuthorized(
                    f"the credential is not for the name {pattern!a}"
                )

    def _sources(
        self, order: SecretOrder, key: str
    ) -> tuple[RandomBytes, RandomBytes]:
        """Return where ids and secrets of an idempotency key come from."""
        own = next(
            credential.token
            for credential in self._call.credentials
            if isinstance(credential, BearerToken)
        )
        endpoint = self._call.endpoint
        place = (endpoint.tenant_id, endpoint.protocol, endpoint.name, key)
        content = (
            order.profile,
            order.key_fingerprint,
            str(order.life.total_seconds()),
            str(order.count),
            *order.names,
        )
        return (
            derived(own, "ids", *place),
            derived(own, "secrets", *place, *content),
        )

    async def _made_before(
        self, made: Sequence[MintedSecret], conflict: Conflict
    ) -> Sequence[MintedSecret]:
        """Return what the same order has made before, or refuse (M-3)."""
        found = []
        for one in made:
            record = await self._store.find_secret(
                one.record.tenant_id, one.record.digest
            )
            if record is None:
                raise conflict
            found.append(MintedSecret(record, one.secret))
        return found

    # --- find and revoke ----------------------------------------------------

    def find(
        self, state: SecretState | None, after: str, limit: int
    ) -> Deferred[tuple[Sequence[OneTimeSecret], str]]:
        """Return one page of secrets; see the interface."""

        async def find() -> tuple[Sequence[OneTimeSecret], str]:
            page = await self._store.list_secrets(
                self._principal.tenant_id, state, self._now(), after, limit
            )
            following = page[-1].id if len(page) == limit else ""
            return [one for one in page if self._may_see(one)], following

        return Deferred.fromCoroutine(find())

    def revoke(self, secret_id: str) -> Deferred[OneTimeSecret]:
        """Revoke a secret; see the interface."""

        async def revoke() -> OneTimeSecret:
            tenant_id, now = self._principal.tenant_id, self._now()
            # Ids have one length, so that what begins a page after all but
            # the last digit are those that differ in it.
            page = await self._store.list_secrets(
                tenant_id, None, now, secret_id[:-1], 16
            )
            if not any(s.id == secret_id and self._may_see(s) for s in page):
                unknown = UnknownCertificate("there is no such token")
                unknown.facts["principal"] = self.id
                raise unknown
            return await self._store.revoke_secret(
                tenant_id, secret_id, self.id, now
            )

        return Deferred.fromCoroutine(revoke())

    # --- its limits ---------------------------------------------------------

    def _may_see(self, secret: OneTimeSecret) -> bool:
        """Tell whether the registrar could have made a secret."""
        return (
            self._may_use(secret.profile)
            and bool(secret.names or not self._principal.names)
            and all(self._may_name(pattern) for pattern in secret.names)
        )

    def _may_use(self, profile: str) -> bool:
        """Tell whether a profile is within the limits."""
        profiles = self._principal.profiles
        return not profiles or profile in profiles

    def _may_name(self, pattern: str) -> bool:
        """Tell whether a pattern is within the limits."""
        try:
            return covers(self._principal.names, pattern)
        except ValueError:
            return False
