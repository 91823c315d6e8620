# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.backends.store_memory`."""

from __future__ import annotations

from typing import Any

from contracts.challenge_contract import ChallengeContract
from contracts.dialogue_contract import DialogueContract
from contracts.generation_contract import GenerationContract
from twisted.internet.defer import Deferred

from trstctl.backends.store_memory import MemoryStore


class MemoryStoreTests(
    DialogueContract, GenerationContract, ChallengeContract
):
    """The memory store keeps the contract of every store."""

    def make_store(self) -> MemoryStore:
        return MemoryStore()

    def wait(self, deferred: Deferred[Any]) -> Any:
        results: list[Any] = []
        errors: list[BaseException] = []
        deferred.addCallbacks(
            results.append, lambda failure: errors.append(failure.value)
        )
        if errors:
            raise errors[0]
        return results[0]
