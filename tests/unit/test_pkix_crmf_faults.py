# SPDX-License-Identifier: MIT
"""Which part of a certificate request is malformed (RFC 4211, section 3)."""

from __future__ import annotations

import pytest
from cmp_samples import (
    NULL,
    PLAIN,
    RA_VERIFIED,
    cert_request,
    control,
    mutations,
    requests,
)

from trstctl.errors import Malformed, RequestError
from trstctl.model import Extension
from trstctl.pkix import der
from trstctl.pkix.crmf import read_cert_req_messages
from trstctl.pkix.crmf_faults import Fault, find_fault
from trstctl.pkix.crmf_template import CertTemplate

BAD_TEMPLATE = CertTemplate(
    extensions=(Extension("2.5.29.15", True, b"no DER"),)
).der()


class FaultTests:
    """What :func:`find_fault` says."""

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (
                requests(cert_request(BAD_TEMPLATE, number=-1)),
                Fault(-1, "template"),
            ),
            (
                requests(cert_request(BAD_TEMPLATE, number=3) + RA_VERIFIED),
                Fault(3, "template"),
            ),
            (
                requests(cert_request(b"", number=3)),
                Fault(3, "template"),
            ),
            (
                requests(cert_request(PLAIN.der(), number=7) + NULL),
                Fault(7, "popo"),
            ),
            (
                requests(
                    cert_request(PLAIN.der(), number=7) + b"\xa1\x02" + NULL
                ),
                Fault(7, "popo"),
            ),
            # Neither is at fault.
            (
                requests(
                    cert_request(
                        PLAIN.der(), der.sequence(control(5, NULL)), number=2
                    )
                ),
                Fault(2),
            ),
            (requests(der.sequence(NULL, PLAIN.der())), Fault()),
            (requests(b""), Fault()),
            (der.sequence(), Fault()),
            (NULL, Fault()),
        ],
    )
    def test_a_part(self, value: bytes, expected: Fault) -> None:
        """As exactly as can be said; what is fine is not blamed."""
        with pytest.raises(Malformed):
            read_cert_req_messages(value)
        assert expected == find_fault(value)

    def test_what_is_fine(self) -> None:
        """No part of it is malformed."""
        value = requests(cert_request(PLAIN.der(), number=5) + RA_VERIFIED)
        read_cert_req_messages(value)
        assert Fault(5) == find_fault(value)

    def test_it_never_fails(self) -> None:
        """Whatever it is shown, and however it is cut."""
        value = requests(cert_request(PLAIN.der()) + RA_VERIFIED)
        for data in (
            *mutations(value),
            *(value[:end] for end in range(len(value))),
        ):
            found = find_fault(data)
            assert found.part in {"", "template", "popo"}
            try:
                read_cert_req_messages(data)
            except RequestError:
                continue
            assert "" == found.part
