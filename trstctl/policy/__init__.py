# SPDX-License-Identifier: MIT
"""Certificate profiles: pure judgement."""
