# SPDX-License-Identifier: MIT
"""A state directory, and the commands that are run on it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import define, field
from click.testing import CliRunner, Result

from trstctl.backends.factories import make_sqlite
from trstctl.cli.main import Surroundings, main
from trstctl.interfaces import IStore
from trstctl.model import (
    Endpoint,
    EnrollmentRequest,
    Issued,
    Operation,
    Pending,
)
from trstctl.policy.settings import ProfileSettings
from trstctl.ra import RegistrationAuthority
from trstctl.tap import run
from trstctl.testing.authority import make_ra
from trstctl.testing.requests import make_request
from trstctl.testing.time import EPOCH, DeterministicBytes

TENANT = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"

_T = TypeVar("_T")


@define
class State:
    """
    A state directory.

    :ivar now: the wall clock of its commands.
    """

    path: Path
    now: datetime = EPOCH + timedelta(hours=1)
    _random: DeterministicBytes = field(
        factory=lambda: DeterministicBytes("state")
    )

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.path / "trstctl.yaml"

    def invoke(
        self, *arguments: str | Path, stdin: str | None = None
    ) -> Result:
        """Run a command as it stands."""
        around = Surroundings(lambda: self.now, self._random, "operator:test")
        return CliRunner().invoke(
            main, list(map(str, arguments)), input=stdin, obj=around
        )

    def run(
        self,
        *arguments: str | Path,
        status: int = 0,
        stdin: str | None = None,
    ) -> Result:
        """Run a command on this configuration; it must end as expected."""
        result = self.invoke(*arguments, "--config", self.config, stdin=stdin)
        assert status == result.exit_code, (result.output, result.exception)
        return result

    def listed(self, *arguments: str | Path, status: int = 0) -> Any:
        """Run a listing and return what it holds."""
        result = self.run(*arguments, "--output", "json", status=status)
        return json.loads(result.stdout)

    def with_store(self, act: Callable[[IStore], Awaitable[_T]]) -> _T:
        """Act on the store, as another process would."""

        async def opened(reactor: Any) -> _T:
            url = f"sqlite:{self.path / 'trstctl.db'}"
            store = make_sqlite(url, reactor=reactor)
            try:
                return await act(store)
            finally:
                await store.close()

        return run(opened)

    def enroll(
        self,
        common_name: str = "device-1",
        names: tuple[str, ...] = (),
        *,
        tenant_id: str = TENANT,
        profile: str = "device",
        approval: bool = False,
    ) -> Issued | Pending:
        """Issue a certificate into the inventory, or hold its request."""
        settings = {
            "held": ProfileSettings(names={"dns": ("*",)}, approval="always")
        }
        request = EnrollmentRequest(
            endpoint=Endpoint(
                "est",
                "",
                tenant_id,
                "held" if approval else profile,
                "issuing",
            ),
            operation=Operation.ENROLL,
            wanted=make_request(common_name, names),
            credentials=(),
            request_id="r",
            peer="192.0.2.1",
        )

        async def act(store: IStore) -> Issued | Pending:
            ra: RegistrationAuthority = make_ra(
                store,
                now=lambda: self.now,
                profiles=settings,
                random_bytes=self._random,
            )
            return await ra.enroll_own(request)

        return self.with_store(act)

    def issued(self, common_name: str = "device-1", **more: Any) -> Issued:
        """Issue a certificate into the inventory."""
        outcome = self.enroll(common_name, **more)
        assert isinstance(outcome, Issued)
        return outcome

    def held(self, common_name: str = "device-1") -> str:
        """Hold a request; return its id."""
        outcome = self.enroll(common_name, approval=True)
        assert isinstance(outcome, Pending)
        return outcome.reference


@pytest.fixture
def state(tmp_path: Path) -> State:
    """Return a state directory as ``trstctl init`` makes it."""
    made = State(tmp_path / "state")
    result = made.invoke("init", "--state", made.path, "--tenant", TENANT)
    assert 0 == result.exit_code, result.output
    return made
