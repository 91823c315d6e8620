# SPDX-License-Identifier: MIT
"""Wire structures: bytes to values and back, without I/O."""
