# SPDX-License-Identifier: MIT
"""
Lints many documents in one process of pkilint's own Python.

Each argument is ``KIND:FILE``, the file in DER; the kinds are ``certificate``,
``crl`` and ``ocsp``.  Prints a JSON object with the findings of each file.
"""

import contextlib
import io
import json
import sys

from pkilint.bin import lint_crl, lint_ocsp_response, lint_pkix_cert

LINTERS = {
    "certificate": (lint_pkix_cert, []),
    "crl": (lint_crl, ["-t", "CRL", "-p", "PKIX"]),
    "ocsp": (lint_ocsp_response, []),
}


def findings(kind: str, file: str) -> object:
    """Return what one linter says of one file, notices included."""
    linter, more = LINTERS[kind]
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        linter.main(["lint", "-f", "JSON", "-s", "NOTICE", *more, file])
    return json.loads(told.getvalue())


if __name__ == "__main__":
    pairs = [each.partition(":")[::2] for each in sys.argv[1:]]
    json.dump({file: findings(kind, file) for kind, file in pairs}, sys.stdout)
