# SPDX-License-Identifier: MIT
"""The management command line."""
