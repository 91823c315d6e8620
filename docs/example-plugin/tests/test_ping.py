# SPDX-License-Identifier: MIT
"""What every protocol owes its users holds for ping, too."""

from trstctl.plugin import ProtocolPlugin
from trstctl.testing import Example, ProtocolContract


class TestPing(ProtocolContract):
    """The contract suite, without a socket or a clock."""

    def make_plugin(self) -> ProtocolPlugin:
        """Return the plugin under test."""
        return ProtocolPlugin("ping", "example_ping.PingResource", "1.0")

    def make_example(self, csr: bytes) -> Example:
        """Return the request that carries this DER certification request."""
        return Example("/ping", csr)
