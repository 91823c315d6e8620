# SPDX-License-Identifier: MIT
"""CMP over HTTP (RFC 9810, RFC 9811): the Lightweight CMP Profile."""
