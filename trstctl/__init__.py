# SPDX-License-Identifier: MIT
"""A certificate-enrollment gateway with an embedded issuing CA."""

__version__ = "26.11.0"
