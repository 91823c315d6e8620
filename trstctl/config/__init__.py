# SPDX-License-Identifier: MIT
"""The configuration file."""
