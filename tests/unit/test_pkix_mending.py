# SPDX-License-Identifier: MIT
"""Small faults of certification requests: trstctl.pkix.mending."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from trstctl.errors import Malformed, RequestError
from trstctl.pkix import der
from trstctl.pkix.csr import (
    CHALLENGE_PASSWORD,
    EXTENSION_REQUEST,
    read_csr,
    verify_proof,
)
from trstctl.pkix.mending import mend
from trstctl.testing import make_csr

_KEY = ec.derive_private_key(7, ec.SECP256R1())
_COMMON_NAME = "2.5.4.3"


def _attribute(oid: str, *values: bytes) -> bytes:
    return der.sequence(der.oid(oid), der.set_of(*values))


_CHALLENGE = _attribute(CHALLENGE_PASSWORD, der.tlv(0x13, b"secret"))
_EXTENSIONS = _attribute(
    EXTENSION_REQUEST,
    der.sequence(
        der.sequence(
            der.oid("2.5.29.15"), der.octet_string(b"\x03\x02\x07\x80")
        )
    ),
)


def _request(
    *attributes: bytes,
    name: bytes = der.tlv(0x0C, b"device"),
    missing: bool = False,
) -> bytes:
    """Return a request that is signed as it is, faults and all."""
    good = der.children(der.content(make_csr(key=_KEY), der.SEQUENCE))
    spki = der.children(good[0][1])[2][2]
    subject = der.sequence(
        der.set_of(der.sequence(der.oid(_COMMON_NAME), name))
    )
    information = der.sequence(
        der.integer(0),
        subject,
        spki,
        b"" if missing else der.tlv(0xA0, b"".join(attributes)),
    )
    signature = _KEY.sign(information, ec.ECDSA(hashes.SHA256()))
    return der.sequence(information, good[1][2], der.bit_string(signature))


_UNSORTED = _request(_EXTENSIONS, _CHALLENGE)


class LenientTests:
    """Each fault is refused, and forgiven by name where that is asked for."""

    @pytest.mark.parametrize(
        ("request_", "fault"),
        [
            (_request(_EXTENSIONS, _CHALLENGE), "attributes-unsorted"),
            (_request(missing=True), "attributes-missing"),
            (_request(name=der.tlv(0x13, b"a_b@c")), "printable-string"),
        ],
    )
    def test_fault(self, request_: bytes, fault: str) -> None:
        """The original is what is verified and kept."""
        if fault == "attributes-unsorted":
            assert _EXTENSIONS < _CHALLENGE or _CHALLENGE < _EXTENSIONS
        with pytest.raises(Malformed):
            read_csr(request_)
        found = read_csr(request_, lenient=True)
        assert (fault,) == found.forgiven
        assert request_ == found.der
        verify_proof(found)

    def test_what_is_read(self) -> None:
        """The values are those of the original."""
        found = read_csr(
            _request(_EXTENSIONS, _CHALLENGE, name=der.tlv(0x13, b"device_1")),
            lenient=True,
        )
        assert "device_1" == found.subject[0][0].value
        assert "secret" == found.challenge_password
        assert 1 == len(found.extensions)
        assert ("attributes-unsorted", "printable-string") == found.forgiven

    def test_nothing_to_forgive(self) -> None:
        """A request without faults is none the worse for leniency."""
        csr = make_csr(key=_KEY)
        assert read_csr(csr) == read_csr(csr, lenient=True)
        assert (csr, ()) == mend(csr)

    @pytest.mark.parametrize(
        "broken",
        [
            _request(name=der.tlv(0x13, b"\xff")),
            _request(_CHALLENGE, _CHALLENGE),
            _request(_attribute(CHALLENGE_PASSWORD)),
            der.sequence(der.sequence(der.integer(0))),
            der.sequence(),
        ],
    )
    def test_other_faults(self, broken: bytes) -> None:
        """Nothing else is forgiven."""
        with pytest.raises(Malformed):
            read_csr(broken, lenient=True)

    @given(st.data())
    def test_corruption(self, data: st.DataObject) -> None:
        """Any octet changed: refused, or not proven."""
        request = bytearray(_UNSORTED)
        at = data.draw(st.integers(0, len(request) - 1))
        request[at] ^= data.draw(st.integers(1, 255))
        with pytest.raises(RequestError):
            verify_proof(read_csr(bytes(request), lenient=True))
