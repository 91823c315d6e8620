# SPDX-License-Identifier: MIT
"""One-time-token bootstrap and renewal in JSON, for the smallest devices."""
