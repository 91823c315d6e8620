# SPDX-License-Identifier: MIT
"""The built-in protocols."""
