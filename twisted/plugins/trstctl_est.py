# SPDX-License-Identifier: MIT
"""Registers EST with trstctl."""

from trstctl.plugin import ProtocolPlugin

est = ProtocolPlugin(
    "est", "trstctl.protocols.est.resource.ESTResource", "RFC 7030, RFC 8951"
)
