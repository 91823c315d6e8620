# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.backends.records`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from trstctl.backends.records import (
    common_names,
    released,
    revoked,
    search_terms,
)
from trstctl.errors import Stale
from trstctl.model import (
    CERTIFICATE_HOLD,
    CertificateRecord,
    CertificateStatus,
    GeneralName,
)

_NOW = datetime(2026, 3, 1, tzinfo=UTC)
_LATER = _NOW + timedelta(days=1)


def _superseded() -> CertificateRecord:
    """Return a certificate that a renewal has replaced."""
    return CertificateRecord(
        tenant_id="11111111-1111-1111-1111-111111111111",
        authority="issuing",
        serial="ab",
        subject="CN=a",
        names=(),
        profile="device",
        protocol="est",
        principal="basic:device",
        public_key_fingerprint="cd",
        not_before=_NOW,
        not_after=_LATER,
        status=CertificateStatus.SUPERSEDED,
        issued_at=_NOW,
        superseded_by="ac",
    )


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


class SupersededTests:
    """What was replaced is not revoked: it can be, and cannot be released."""

    def test_revoked(self) -> None:
        """RFC 5280, section 5.3.1: its key may still be compromised."""
        record = _superseded()
        assert revoked(record, "keyCompromise", _LATER) == evolve(
            record,
            status=CertificateStatus.REVOKED,
            revoked_at=_LATER,
            revocation_reason="keyCompromise",
        )

    def test_not_released(self) -> None:
        """There is no hold to take it off; on hold, there is."""
        record = _superseded()
        with pytest.raises(Stale):
            released(record)
        held = revoked(record, CERTIFICATE_HOLD, _NOW)
        assert released(held).status is CertificateStatus.SUPERSEDED
