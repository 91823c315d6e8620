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
     key meets the first one's ids, and the store refuses it.  A challenge
     need not be derived: its text can be made again from its row.

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
    ChallengeRejected,
    Conflict,
    Malformed,
    NotAuthorized,
    UnknownCertificate,
)
from trstctl.interfaces import IChallengeTokens, IRegistrar, IStore
from trstctl.model import (
    BearerToken,
    GeneralName,
    MintedSecret,
    OneTimeSecret,
    Principal,
    RegistrarCall,
    SecretOrder,
    SecretState,
)
from trstctl.policy.binding import canonical_name, subject_text
from trstctl.policy.coverage import covers, takes_time
from trstctl.policy.patterns import split_pattern

RandomBytes = Callable[[int], bytes]

#: What a registrar may ask for at once.
MAX_COUNT = 100
MAX_LIFE = timedelta(days=30)

#: How many certificates one secret may buy.
MAX_USES = 100

#: Expressions that take time among the names of what a registrar asks for.
#: Each request with the secret matches them, however often it is refused.
MAX_EXPRESSIONS = 1

#: Patterns and names that a secret may be bound to, and the characters of
#: each, and of a device and a subject.
MAX_NAMES = 32
MAX_PATTERN = 512

#: The protocol whose secrets are plain tokens; all others take challenges.
BOOTSTRAP = "bootstrap"

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")

#: Octets of an id, which is hexadecimal; of a challenge, it is part of the
#: text.
_ID_OCTETS = 8
CHALLENGE_ID_OCTETS = 12


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
    if not 1 <= order.uses <= MAX_USES:
        raise Malformed(f"it can buy 1 to {MAX_USES} certificates")
    if order.key_fingerprint and order.uses > 1:
        raise Malformed("one key needs only one certificate")


def canonical_order(order: SecretOrder) -> SecretOrder:
    """
    Return the order with subject and names as a certificate has them.

    :raises Malformed: no such subject, name or device; the text says which.
    """
    for text in (order.device, order.subject):
        if len(text) > MAX_PATTERN:
            raise Malformed(f"more than {MAX_PATTERN} characters")
    if not order.device.isprintable() or order.device != order.device.strip():
        raise Malformed("a device is printable text, without spaces around")
    names = order.alternative_names
    if names is not None:
        if len(names) > MAX_NAMES:
            raise Malformed(f"there are more than {MAX_NAMES} names")
        names = tuple(sorted({_alternative_name(name) for name in names}))
    try:
        subject = subject_text(order.subject) if order.subject else ""
    except ValueError as error:
        raise Malformed(f"the subject {order.subject!a}: {error}") from None
    return evolve(order, subject=subject, alternative_names=names)


def _alternative_name(text: str) -> str:
    """Return one alternative name in canonical form."""
    kind, _, value = text.partition(":")
    if len(text) > MAX_PATTERN:
        raise Malformed(f"a name has more than {MAX_PATTERN} characters")
    try:
        return str(canonical_name(GeneralName(kind, value)))
    except ValueError as error:
        raise Malformed(f"the name {text!a}: {error}") from None


def is_bound(order: SecretOrder) -> bool:
    """Tell whether an order says for whom its secrets are."""
    return bool(
        order.names
        or order.device
        or order.subject
        or order.alternative_names is not None
    )


def principal_of(secret: OneTimeSecret) -> Principal:
    """Return who a single-use secret stands for."""
    return Principal(
        kind="token",
        name=secret.id,
        tenant_id=secret.tenant_id,
        names=secret.names,
        profiles=(secret.profile,),
        secret_id=secret.id,
        subject=secret.subject or None,
        alternative_names=secret.alternative_names,
        device=secret.device or None,
    )


def check_secret(
    secret: OneTimeSecret, key_fingerprint: str, now: datetime
) -> None:
    """
    Refuse a secret that is hopeless for a key.

    One that the key has used, or has reserved, passes, whatever its date:
    the store decides, in its transaction.  A revoked one never does.

    :raises ChallengeRejected: ``reused`` if others have used it up.
    """
    state = secret.state(now)
    known = key_fingerprint in secret.burnt_keys
    good = state is SecretState.UNUSED or (
        known and state is not SecretState.REVOKED
    )
    if good and secret.key_fingerprint in {"", key_fingerprint}:
        return
    error = ChallengeRejected(reused=state is SecretState.BURNT and not known)
    error.facts["principal"] = f"token:{secret.id}"
    raise error


def mint(
    tenant_id: str,
    order: SecretOrder,
    now: datetime,
    random_bytes: RandomBytes,
    ids: RandomBytes | None = None,
    form: Callable[[OneTimeSecret], str] | None = None,
    id_octets: int = _ID_OCTETS,
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
            id=ids(id_octets).hex(),
            digest="",
            profile=order.profile,
            names=order.names,
            created_at=now,
            expires_at=now + order.life,
            key_fingerprint=order.key_fingerprint,
            protocol=order.protocol,
            uses=order.uses,
            device=order.device,
            subject=order.subject,
            alternative_names=order.alternative_names,
        )
        secret = form(record) if form else new_secret(random_bytes)
        yield MintedSecret(
            evolve(record, digest=secret_digest(secret)), secret
        )


def mint_challenges(
    tenant_id: str,
    order: SecretOrder,
    now: datetime,
    ids: RandomBytes,
    texts: Callable[[OneTimeSecret], Iterator[str]],
) -> Iterator[MintedSecret]:
    """
    Yield new challenges, to be added to the store before they are shown.

    :param order: checked, and canonical.
    :param texts: as :meth:`~trstctl.interfaces.IChallengeTokens.texts`.
    :raises Unavailable: the keys cannot be read or made.
    """

    def text(record: OneTimeSecret) -> str:
        return next(texts(record))

    return mint(tenant_id, order, now, ids, None, text, CHALLENGE_ID_OCTETS)


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
    :param call: its endpoint says whose protocol's secrets these are.
    :param now: the wall clock, UTC.
    :param challenges: makes the text of challenges.
    """

    def __init__(
        self,
        principal: Principal,
        call: RegistrarCall,
        store: IStore,
        now: Callable[[], datetime],
        random_bytes: RandomBytes,
        challenges: IChallengeTokens,
    ) -> None:
        self.id = principal.id
        self._principal = principal
        self._call = call
        self._store = store
        self._now = now
        self._random_bytes = random_bytes
        self._challenges = challenges

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
        protocol = self._call.endpoint.protocol
        try:
            order = canonical_order(evolve(order, protocol=protocol))
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
        if protocol == BOOTSTRAP:
            made = list(mint(tenant_id, order, self._now(), secrets, ids))
        else:
            made = list(
                mint_challenges(
                    tenant_id, order, self._now(), ids, self._challenges.texts
                )
            )
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
        if order.protocol != BOOTSTRAP and not is_bound(order):
            raise Malformed("say what it is for: a device, subject or names")
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
            str(order.uses),
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
            record = await self._store.find_secret_by_id(
                one.record.tenant_id, one.record.id
            )
            secret = None if record is None else self._again(one, record)
            if record is None or secret is None:
                raise conflict
            found.append(MintedSecret(record, secret))
        return found

    def _again(self, one: MintedSecret, record: OneTimeSecret) -> str | None:
        """Return the secret of a row, if the same order has made it."""
        if record.protocol == BOOTSTRAP:
            return one.secret if record.digest == one.record.digest else None
        ordered = evolve(
            one.record,
            created_at=record.created_at,
            expires_at=record.created_at
            + (one.record.expires_at - one.record.created_at),
        )
        if _wishes(ordered) != _wishes(record):
            return None
        for secret in self._challenges.texts(record):
            if secret_digest(secret) == record.digest:
                return secret
        return None

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
            tenant_id = self._principal.tenant_id
            secret = await self._store.find_secret_by_id(tenant_id, secret_id)
            if secret is None or not self._may_see(secret):
                unknown = UnknownCertificate("there is no such token")
                unknown.facts["principal"] = self.id
                raise unknown
            return await self._store.revoke_secret(
                tenant_id, secret_id, self.id, self._now()
            )

        return Deferred.fromCoroutine(revoke())

    # --- its limits ---------------------------------------------------------

    def _may_see(self, secret: OneTimeSecret) -> bool:
        """Tell whether the registrar could have made a secret."""
        return (
            secret.protocol == self._call.endpoint.protocol
            and self._may_use(secret.profile)
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


def _wishes(record: OneTimeSecret) -> tuple[object, ...]:
    """Return what an order decides of a record."""
    return (
        record.profile,
        record.names,
        record.expires_at,
        record.key_fingerprint,
        record.protocol,
        record.uses,
        record.device,
        record.subject,
        record.alternative_names,
    )
