# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.backends.records`."""

from __future__ import annotations

import pytest

from trstctl.backends.records import common_names, search_terms
from trstctl.model import GeneralName


class CommonNameTests:
    """The common names in the text of a name (RFC 4514)."""

    @pytest.mark.parametrize(
        ("subject", "expected"),
        [
            ("", []),
            ("O=Example", []),
            ("CN=a.example.com", ["a.example.com"]),
            ("OU=x+CN=a,O=Example,CN=b", ["a", "b"]),
            ("CN=Doe\\, Jane\\+Co", ["Doe, Jane+Co"]),
            ("CN=J\\C3\\BCrgen\\20", ["J\u00fcrgen "]),
            ("CN=\\FF", ["\ufffd"]),
            ("O=x\\,CN=not", []),
            ("serialNumber=7,CN=p#1", ["p#1"]),
            ("DCN=x", []),
        ],
    )
    def test_common_names(self, subject: str, expected: list[str]) -> None:
        """RFC 4514, section 2.4: escapes are resolved, and split nothing."""
        assert expected == common_names(subject)

    def test_search_terms(self) -> None:
        """A name that is there twice is one term."""
        names = (GeneralName("dns", "a"), GeneralName("upn", "b"))
        assert search_terms("CN=a", names) == {"a", "b"}
