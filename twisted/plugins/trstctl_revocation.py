# SPDX-License-Identifier: MIT
"""Registers the status of certificates (OCSP, CRLs) with trstctl."""

from trstctl.plugin import ProtocolPlugin

revocation = ProtocolPlugin(
    "revocation",
    "trstctl.protocols.revocation.resource.RevocationResource",
    "RFC 5280, RFC 6960, RFC 9654",
    unasked=True,
)
