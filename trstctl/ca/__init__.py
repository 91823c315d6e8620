# SPDX-License-Identifier: MIT
"""Authorities: to-be-signed structures, signers, ceremonies."""
