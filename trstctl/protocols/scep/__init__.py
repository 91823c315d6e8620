# SPDX-License-Identifier: MIT
"""SCEP (RFC 8894)."""
