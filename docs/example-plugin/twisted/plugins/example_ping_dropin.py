# SPDX-License-Identifier: MIT
"""Registers ping with trstctl."""

from trstctl.plugin import ProtocolPlugin

ping = ProtocolPlugin("ping", "example_ping.PingResource", "1.0")
