# SPDX-License-Identifier: MIT
"""Factory certificates: which paths count, and for how long."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from est_samples import Factory

from trstctl.backends.factory_certificates import (
    FactoryAnchors,
    Stranger,
    Unfit,
)
from trstctl.model import ClientCertificate
from trstctl.pkix.certificate import read_certificate
from trstctl.testing import EPOCH


class MomentTests:
    """A request is judged twice; the path is validated once."""

    def setup_method(self) -> None:
        """Make a manufacturer, and a device whose certificate ends."""
        self.factory = Factory()
        self.anchors = FactoryAnchors((self.factory.root,))
        self.device = self.factory.device(days=1)
        self.end = EPOCH + timedelta(days=1)

    def judge(self, now: datetime, *chain: bytes) -> None:
        """Judge the device."""
        facts = read_certificate(self.device)
        self.anchors.judge(ClientCertificate(self.device, chain), facts, now)

    def test_it_lasts_less_than_a_second(self) -> None:
        """What ends meanwhile is not good any more."""
        self.judge(self.end - timedelta(seconds=0.5), self.factory.ca)
        self.judge(self.end + timedelta(seconds=0.4), self.factory.ca)
        with pytest.raises(Unfit, match="expired"):
            self.judge(self.end + timedelta(seconds=1), self.factory.ca)

    def test_a_clock_that_steps_back(self) -> None:
        """What is not yet good is not, although it was."""
        self.judge(EPOCH, self.factory.ca)
        with pytest.raises(Unfit, match="not yet valid"):
            self.judge(EPOCH - timedelta(days=2), self.factory.ca)

    def test_another_path(self) -> None:
        """The path of before is for who came with the same certificates."""
        self.judge(EPOCH, self.factory.ca)
        with pytest.raises(Stranger):
            self.judge(EPOCH)
        self.device = Factory().device()
        with pytest.raises(Stranger):
            self.judge(EPOCH, self.factory.ca)

    def test_what_failed(self) -> None:
        """A path that is not good is never remembered."""
        late = self.end + timedelta(days=1)
        for _ in range(2):
            with pytest.raises(Unfit, match="expired"):
                self.judge(late, self.factory.ca)
