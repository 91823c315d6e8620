# SPDX-License-Identifier: MIT
"""
Single-use secrets for devices that somebody else vouches for.

An MDM platform asks for a challenge of ours, or brings one that it has signed
itself.  Either way the store has a row for it, and the rule that a secret
buys one certificate is the store's, as for every other.

Theory of operation
===================

V-1  *A device's secrets lie together.*  An id begins with a digest of tenant,
     voucher and device, so that one short range of the store has them all:
     nothing has to be kept elsewhere, in any process.
V-2  *The voucher's name for a secret is its id.*  The rest of the id of a
     secret that is brought is its end and a digest of that name, so that one
     that comes twice meets itself.  The end comes first: whatever ended
     before the time that counts need not be looked at.
V-3  *What is counted is committed.*  A device's secrets are counted once more
     after its new one is in the store: of several that come at once too
     many may be refused, never too few.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime

from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface import implementer

from trstctl.errors import ChallengeRejected, Conflict
from trstctl.interfaces import IChallengeTokens, IDeviceSecrets, IStore
from trstctl.minting import RandomBytes, canonical_order, mint_challenges
from trstctl.model import (
    MintedSecret,
    OneTimeSecret,
    SecretOrder,
    SecretState,
)

#: Hexadecimal digits of an id that all secrets of a device share (V-1).
_SHARED = 8

#: Digits of what follows in the id of a secret that was brought (V-2).
_OWN = 32

#: Secrets that are asked for at once.
_PAGE = 100


@implementer(IDeviceSecrets)
class DeviceSecrets:
    """
    Makes and keeps them.

    :param challenges: makes the text of challenges.
    :param now: the wall clock, UTC.
    """

    def __init__(
        self,
        store: IStore,
        challenges: IChallengeTokens,
        now: Callable[[], datetime],
        random_bytes: RandomBytes,
    ) -> None:
        self._store = store
        self._challenges = challenges
        self._now = now
        self._random_bytes = random_bytes

    def mint(
        self, order: SecretOrder, tenant_id: str, voucher: str
    ) -> Deferred[MintedSecret]:
        """Make a challenge; see the interface."""
        return Deferred.fromCoroutine(self._mint(order, tenant_id, voucher))

    async def _mint(
        self, order: SecretOrder, tenant_id: str, voucher: str
    ) -> MintedSecret:
        """Make a challenge, once the device has no other."""
        order = canonical_order(order)
        now = self._now()
        shared = _digest(_SHARED, tenant_id, voucher, order.device)
        for older in await self._of_device(
            tenant_id, order.device, shared, shared, SecretState.UNUSED
        ):
            await self._store.revoke_secret(tenant_id, older.id, voucher, now)

        def ids(count: int) -> bytes:
            own = count - _SHARED // 2
            return bytes.fromhex(shared) + self._random_bytes(own)

        (made,) = mint_challenges(
            tenant_id, order, now, ids, self._challenges.texts
        )
        await self._store.add_secrets((made.record,), voucher)
        return made

    def keep(
        self, secret: OneTimeSecret, voucher: str, most: int, since: datetime
    ) -> Deferred[OneTimeSecret]:
        """Keep a secret that the voucher made; see the interface."""
        return Deferred.fromCoroutine(self._keep(secret, voucher, most, since))

    async def _keep(
        self, secret: OneTimeSecret, voucher: str, most: int, since: datetime
    ) -> OneTimeSecret:
        """Keep it, unless it is there, or there are too many."""
        tenant_id = secret.tenant_id
        shared = _digest(_SHARED, tenant_id, voucher, secret.device)
        own = (
            shared
            + _seconds(secret.expires_at)
            + _digest(_OWN, tenant_id, voucher, secret.id)
        )
        kept = await self._store.find_secret_by_id(tenant_id, own)
        if kept is not None:
            return kept
        # Nobody can know what has a random digest: it is found by its id.
        made = evolve(secret, id=own, digest=self._random_bytes(32).hex())

        async def count() -> int:
            lately = await self._of_device(
                tenant_id, secret.device, shared, shared + _seconds(since)
            )
            return sum(since <= one.created_at for one in lately)

        too_many = ChallengeRejected()
        too_many.facts["principal"] = f"mdm:{voucher}"
        if await count() >= most:
            raise too_many
        try:
            await self._store.add_secrets((made,), voucher)
        except Conflict:
            # The same one came at the same time.
            kept = await self._store.find_secret_by_id(tenant_id, own)
            if kept is None:
                raise too_many from None
            return kept
        if await count() > most:
            raise too_many
        return made

    async def _of_device(
        self,
        tenant_id: str,
        device: str,
        shared: str,
        after: str,
        state: SecretState | None = None,
    ) -> list[OneTimeSecret]:
        """Return the device's secrets, whose ids begin alike (V-1)."""
        found: list[OneTimeSecret] = []
        now = self._now()
        while after.startswith(shared):
            page = await self._store.list_secrets(
                tenant_id, state, now, after, _PAGE
            )
            found += [one for one in page if one.id.startswith(shared)]
            if len(page) < _PAGE:
                break
            after = page[-1].id
        return [one for one in found if one.device == device]


def _seconds(at: datetime) -> str:
    """Return a moment in ten hexadecimal digits, which sort as it does."""
    return f"{int(at.timestamp()):010x}"


def _digest(digits: int, *parts: str) -> str:
    """Return the first hexadecimal digits of a digest over texts."""
    octets = [part.encode("utf-8") for part in parts]
    framed = b"".join(b"%d:%s" % (len(one), one) for one in octets)
    return hashlib.sha256(framed).hexdigest()[:digits]
