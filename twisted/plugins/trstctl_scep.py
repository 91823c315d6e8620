# SPDX-License-Identifier: MIT
"""Registers SCEP with trstctl."""

from trstctl.plugin import ProtocolPlugin

scep = ProtocolPlugin(
    "scep",
    "trstctl.protocols.scep.resource.SCEPResource",
    "1",
)
