# SPDX-License-Identifier: MIT
"""
The store in memory: for tests, and for trying things out.

It keeps the whole contract but durability, and passes the same contract
suite as the others.  Every Deferred has fired when it is returned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, execute, succeed
from zope.interface import implementer

from trstctl.backends import (
    memory_dialogues,
    memory_generations,
    memory_intents,
    memory_inventory,
    memory_listing,
    memory_requests,
    memory_revocation,
)
from trstctl.backends.memory_tables import Tables
from trstctl.interfaces import IStore

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _method(
    function: Callable[Concatenate[Tables, _P], _T],
) -> Callable[Concatenate[MemoryStore, _P], Deferred[_T]]:
    """Make a method of the store of a function of its tables."""

    @wraps(function)
    def method(
        self: MemoryStore, /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Deferred[_T]:
        return execute(function, self.tables, *args, **kwargs)

    return method


@implementer(IStore)
class MemoryStore:
    """
    The store in memory.

    :ivar tables: what it keeps.
    """

    def __init__(self) -> None:
        self.tables = Tables()

    # --- requests ------------------------------------------------------------

    find_request = _method(memory_requests.find_request)
    find_transactions = _method(memory_requests.find_transactions)
    hold = _method(memory_requests.hold)
    list_requests = _method(memory_requests.list_requests)
    decide_request = _method(memory_requests.decide_request)

    # --- intents -------------------------------------------------------------

    open_intent = _method(memory_intents.open_intent)
    record_certificate = _method(memory_intents.record_certificate)
    abandon_intent = _method(memory_intents.abandon_intent)
    retire_orphans = _method(memory_intents.retire_orphans)
    renew_lease = _method(memory_intents.renew_lease)
    release_lease = _method(memory_intents.release_lease)

    # --- certificates --------------------------------------------------------

    find_certificate = _method(memory_inventory.find_certificate)
    list_certificates = _method(memory_listing.list_certificates)
    count_certificates = _method(memory_listing.count_certificates)
    revoke_certificate = _method(memory_revocation.revoke_certificate)
    release_certificate = _method(memory_revocation.release_certificate)
    supersede_certificate = _method(memory_revocation.supersede_certificate)
    confirm_certificate = _method(memory_dialogues.confirm_certificate)
    list_unconfirmed = _method(memory_dialogues.list_unconfirmed)

    # --- transactions of several messages ------------------------------------

    find_dialogue = _method(memory_dialogues.find_dialogue)
    count_dialogues = _method(memory_dialogues.count_dialogues)
    open_dialogue = _method(memory_dialogues.open_dialogue)
    advance_dialogue = _method(memory_dialogues.advance_dialogue)
    purge_dialogues = _method(memory_dialogues.purge_dialogues)

    # --- an authority's revocations, in all tenants --------------------------

    find_status = _method(memory_revocation.find_status)
    list_revoked = _method(memory_revocation.list_revoked)
    last_revocation = _method(memory_revocation.last_revocation)
    next_crl_number = _method(memory_revocation.next_crl_number)
    save_crl = _method(memory_revocation.save_crl)
    find_crl = _method(memory_revocation.find_crl)
    crl_scopes = _method(memory_revocation.crl_scopes)

    # --- generations of an authority -----------------------------------------

    list_generations = _method(memory_generations.list_generations)
    add_generation = _method(memory_generations.add_generation)
    advance_generation = _method(memory_generations.advance_generation)
    outstanding = _method(memory_generations.outstanding)

    # --- credentials ---------------------------------------------------------

    find_credential = _method(memory_inventory.find_credential)
    add_credential = _method(memory_inventory.add_credential)
    list_credentials = _method(memory_inventory.list_credentials)
    revoke_credential = _method(memory_inventory.revoke_credential)
    find_secret = _method(memory_inventory.find_secret)
    find_secret_by_id = _method(memory_inventory.find_secret_by_id)
    add_secrets = _method(memory_inventory.add_secrets)
    list_secrets = _method(memory_inventory.list_secrets)
    revoke_secret = _method(memory_inventory.revoke_secret)

    # --- audit and life ------------------------------------------------------

    append_audit = _method(memory_inventory.append_audit)
    audit_records = _method(memory_inventory.audit_records)
    audit_tenants = _method(memory_inventory.audit_tenants)

    def check(self) -> Deferred[None]:
        """Memory can always be written."""
        return succeed(None)

    def close(self) -> Deferred[None]:
        """Nothing is left to be done."""
        return succeed(None)
