# SPDX-License-Identifier: MIT
"""What a gateway stands on is made whole, once, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trstctl.founding import found_whole, is_untouched
from trstctl.testing import EPOCH


class FoundWholeTests:
    """A CA in an untouched state directory."""

    def test_makes_all_of_it(self, tmp_path: Path) -> None:
        """Both keys, both certificates, and nothing beside."""
        state = tmp_path / "state"
        store = f"sqlite:{state}/trstctl.db"
        assert is_untouched(state, store)
        found_whole(state, now=EPOCH, random_bytes=os.urandom)
        assert not is_untouched(state, store)
        made = {
            path.name: path.stat().st_mode & 0o777
            for path in (state / "ca").iterdir()
        }
        assert {
            "root.key": 0o600,
            "root.pem": 0o644,
            "issuing.key": 0o600,
            "issuing.pem": 0o644,
        } == made
        assert ["ca"] == [path.name for path in state.iterdir()]
        assert 0o700 == (state / "ca").stat().st_mode & 0o777

    def test_leaves_nothing_if_it_fails(self, tmp_path: Path) -> None:
        """A start that failed half way does not stop the next one."""

        def dry(length: int) -> bytes:
            raise OSError("no randomness")

        with pytest.raises(OSError, match="randomness"):
            found_whole(tmp_path, now=EPOCH, random_bytes=dry)
        assert [] == list(tmp_path.iterdir())
        found_whole(tmp_path, now=EPOCH, random_bytes=os.urandom)

    def test_replaces_no_other(self, tmp_path: Path) -> None:
        """Who comes second keeps the first one's CA."""
        found_whole(tmp_path, now=EPOCH, random_bytes=os.urandom)
        before = (tmp_path / "ca" / "root.pem").read_bytes()
        with pytest.raises(OSError, match="not empty"):
            found_whole(tmp_path, now=EPOCH, random_bytes=os.urandom)
        assert before == (tmp_path / "ca" / "root.pem").read_bytes()
        assert ["ca"] == [path.name for path in tmp_path.iterdir()]
