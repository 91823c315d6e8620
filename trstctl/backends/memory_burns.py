# SPDX-License-Identifier: MIT
"""
The memory store's single-use secrets as they are used up.

See :mod:`trstctl.backends.burns` for the rules, and
:mod:`trstctl.backends.memory_tables` for how the functions work.
"""

from __future__ import annotations

from datetime import datetime

from trstctl.backends.burns import Burn, Burns, burnt, decided, with_burns
from trstctl.backends.memory_tables import Tables
from trstctl.errors import (
    ChallengeRejected,
)
from trstctl.model import (
    OneTimeSecret,
)


def burn(
    tables: Tables,
    tenant_id: str,
    secret_id: str,
    wanted: Burn,
    now: datetime,
    adopted: str = "",
) -> None:
    """
    Take a use of the secret.

    :param adopted: fingerprint of the held request that this one replaces.
    :raises ChallengeRejected: it does not serve this request.
    """
    place = (tenant_id, secret_id)
    secret = tables.secrets.get(place)
    if secret is None:
        raise ChallengeRejected

    def is_buying(one: Burn) -> bool:
        promise = tables.promises.get((one.authority, one.serial))
        return promise is not None and promise.state != "abandoned"

    burns = burnt(
        secret,
        tables.burns.get(place, ()),
        wanted,
        max(now, tables.latest.get(tenant_id, now)),
        is_buying,
        adopted,
    )
    _keep(tables, secret, burns, now)


def decide_burn(
    tables: Tables,
    tenant_id: str,
    secret_id: str,
    of: tuple[str, str],
    approve: bool,
    now: datetime,
) -> None:
    """
    Keep what a held request has reserved for good, or give it back.

    :param of: fingerprints of the request's public key and of itself.
    """
    place = (tenant_id, secret_id)
    secret = tables.secrets.get(place)
    if secret is not None:
        burns = decided(tables.burns.get(place, ()), *of, approve)
        _keep(tables, secret, burns, now)


def _keep(
    tables: Tables, secret: OneTimeSecret, burns: Burns, now: datetime
) -> None:
    """Write what was taken of a secret."""
    place = (secret.tenant_id, secret.id)
    tables.burns[place] = burns
    tables.secrets[place] = with_burns(secret, burns, now)
