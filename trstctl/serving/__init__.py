# SPDX-License-Identifier: MIT
"""
The parts of a gateway that is serving; :mod:`trstctl.gateway` joins them.
"""
