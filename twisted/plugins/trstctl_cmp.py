# SPDX-License-Identifier: MIT
"""Registers CMP with trstctl."""

from trstctl.plugin import ProtocolPlugin

cmp = ProtocolPlugin(
    "cmp",
    "trstctl.protocols.cmp.resource.CMPResource",
    "1",
)
