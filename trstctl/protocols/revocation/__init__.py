# SPDX-License-Identifier: MIT
"""The status of certificates over HTTP: OCSP, CRLs, CA certificates."""
