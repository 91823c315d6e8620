# SPDX-License-Identifier: MIT
"""Registers the challenges for MDM platforms with trstctl."""

from trstctl.plugin import ProtocolPlugin

mdm = ProtocolPlugin(
    "mdm",
    "trstctl.protocols.scep.mdm.MDMResource",
    "1",
)
