# SPDX-License-Identifier: MIT
"""
The SQLite store's single-use secrets as they are used up.

See :mod:`trstctl.backends.burns` for the rules, and
:mod:`trstctl.backends.sqlite_requests` for how the functions work.
"""

from __future__ import annotations

from trstctl.backends.burns import Burn, Burns, burnt, decided, with_burns
from trstctl.backends.sqlite_rows import (
    burns_from,
    burns_text,
    micros_or_none,
    moment,
    one_time_secret,
)
from trstctl.backends.sqlite_transaction import Transaction
from trstctl.errors import ChallengeRejected
from trstctl.model import OneTimeSecret

# The usual case in one statement: one use, which nobody has had.
_BURN_FRESH = """
UPDATE secrets SET burnt_at = :now, burns = :burns
WHERE tenant_id = :tenant_id AND id = :id AND uses = 1 AND burns = ''
    AND revoked_at IS NULL AND expires_at > :latest
    AND (key_fingerprint = '' OR key_fingerprint = :public_key)
"""

_FIND_BURNS = """
SELECT tenant_id, id, digest, profile, names, created_at, expires_at,
    burnt_at, burns, reserved_until, revoked_at, key_fingerprint, protocol,
    uses, device, subject, alternative_names
FROM secrets WHERE tenant_id = ? AND id = ?
"""

_KEEP_BURNS = """
UPDATE secrets SET burnt_at = ?, reserved_until = ?, burns = ?
WHERE tenant_id = ? AND id = ?
"""

_IS_BUYING = """
SELECT 1 FROM requests
WHERE serial = ? AND authority = ? AND tenant_id = ?
    AND state IN ('open', 'issued')
"""


def burn(
    transaction: Transaction,
    tenant_id: str,
    secret_id: str,
    wanted: Burn,
    now: int,
    adopted: str = "",
) -> None:
    """
    Take a use of the secret.

    Its expiry is judged by the latest time ever seen, so that a clock set
    back revives nothing.

    :param adopted: fingerprint of the held request that this one replaces.
    :raises ChallengeRejected: it does not serve this request.
    """
    latest = max(now, transaction.latest(tenant_id))
    if not wanted.held:
        fresh = transaction.execute(
            _BURN_FRESH,
            {
                "now": now,
                "latest": latest,
                "burns": burns_text((wanted,)),
                "public_key": wanted.public_key,
                "tenant_id": tenant_id,
                "id": secret_id,
            },
        )
        if fresh.rowcount == 1:
            return
    found = _find(transaction, tenant_id, secret_id)
    if found is None:
        raise ChallengeRejected

    def is_buying(one: Burn) -> bool:
        place = (one.serial, one.authority, tenant_id)
        return transaction.execute(_IS_BUYING, place).fetchone() is not None

    secret, burns = found
    burns = burnt(secret, burns, wanted, moment(latest), is_buying, adopted)
    _keep(transaction, secret, burns, now)


def decide_burn(
    transaction: Transaction,
    tenant_id: str,
    secret_id: str,
    of: tuple[str, str],
    approve: bool,
    now: int,
) -> None:
    """
    Keep what a held request has reserved for good, or give it back.

    :param of: fingerprints of the request's public key and of itself.
    """
    found = _find(transaction, tenant_id, secret_id)
    if found is not None:
        secret, burns = found
        _keep(transaction, secret, decided(burns, *of, approve), now)


def _find(
    transaction: Transaction, tenant_id: str, secret_id: str
) -> tuple[OneTimeSecret, Burns] | None:
    """Return a secret with its uses."""
    row = transaction.execute(_FIND_BURNS, (tenant_id, secret_id)).fetchone()
    return None if row is None else (one_time_secret(row), burns_from(row[8]))


def _keep(
    transaction: Transaction, secret: OneTimeSecret, burns: Burns, now: int
) -> None:
    """Write what was taken of a secret."""
    kept = with_burns(secret, burns, moment(now))
    transaction.execute(
        _KEEP_BURNS,
        (
            micros_or_none(kept.burnt_at),
            micros_or_none(kept.reserved_until),
            burns_text(burns),
            secret.tenant_id,
            secret.id,
        ),
    )
