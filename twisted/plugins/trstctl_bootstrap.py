# SPDX-License-Identifier: MIT
"""Registers the one-time-token bootstrap with trstctl."""

from trstctl.plugin import ProtocolPlugin

bootstrap = ProtocolPlugin(
    "bootstrap",
    "trstctl.protocols.bootstrap.resource.BootstrapResource",
    "1",
)
