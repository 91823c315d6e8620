# SPDX-License-Identifier: MIT
"""Registers the one-time-token scep with trstctl."""

from trstctl.plugin import ProtocolPlugin

scep = ProtocolPlugin(
    "scep",
    "trstctl.protocols.scep.resource.SCEPResource",
    "1",
)
