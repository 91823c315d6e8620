# SPDX-License-Identifier: MIT
"""Registers ``twistd trstctl``."""

from twisted.application.service import ServiceMaker

trstctl = ServiceMaker(
    "trstctl",
    "trstctl.tap",
    "A certificate-enrollment gateway with an embedded issuing CA",
    "trstctl",
)
