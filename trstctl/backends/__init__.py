# SPDX-License-Identifier: MIT
"""Stores, signers and authenticators, each behind an interface."""
