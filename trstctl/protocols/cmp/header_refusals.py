# SPDX-License-Identifier: MIT
"""
Who is told that a header will not do (RFC 9483, sections 3.2 and 3.6.2).

A header is judged before anybody is known, so that a refusal of it is signed.
Whoever has nothing but a shared secret cannot verify that, and would not
learn what is wrong: he is looked for, and told under his secret.
"""

from __future__ import annotations

from trstctl.errors import TrstctlError
from trstctl.interfaces import IRegistrationAuthority
from trstctl.model import Endpoint
from trstctl.pkix.cmp import PKIMessage
from trstctl.pkix.cmp_protection import SignatureProtection, read_protection
from trstctl.protocols.cmp.parties import Party, prove_party


async def party_to_tell(
    ra: IRegistrationAuthority,
    endpoint: Endpoint,
    message: PKIMessage,
    peer: str,
) -> Party | None:
    """
    Return who protected a message whose header will not do.

    :returns: ``None``: the refusal is signed; also for who signs himself.
    """
    algorithm = message.header.protection_alg
    if algorithm is None or message.protection is None:
        return None
    try:
        if isinstance(read_protection(algorithm), SignatureProtection):
            return None
        return await prove_party(
            ra, endpoint, message, peer, b"", strict=False
        )
    except TrstctlError:
        return None
