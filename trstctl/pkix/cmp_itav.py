# SPDX-License-Identifier: MIT
"""
InfoTypeAndValue of CMP (RFC 9810, section 5.3.19): the envelope and its types.

It is what generalInfo of a header (:mod:`trstctl.pkix.cmp_header`) and
general messages (:mod:`trstctl.pkix.cmp_general`) consist of.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from trstctl.errors import Malformed
from trstctl.pkix import der

_ID_IT = "1.3.6.1.5.5.7.4."

#: The types of InfoTypeAndValue by their names (RFC 9810, section 5.3.19).
INFO_TYPES: Mapping[str, str] = {
    name: f"{_ID_IT}{arc}"
    for name, arc in (
        ("caProtEncCert", 1),
        ("signKeyPairTypes", 2),
        ("encKeyPairTypes", 3),
        ("preferredSymmAlg", 4),
        ("caKeyUpdateInfo", 5),
        ("currentCRL", 6),
        ("unsupportedOIDs", 7),
        ("keyPairParamReq", 10),
        ("keyPairParamRep", 11),
        ("revPassphrase", 12),
        ("implicitConfirm", 13),
        ("confirmWaitTime", 14),
        ("origPKIMessage", 15),
        ("suppLangTags", 16),
        ("caCerts", 17),
        ("rootCaKeyUpdate", 18),
        ("certReqTemplate", 19),
        ("rootCaCert", 20),
        ("certProfile", 21),
        ("crlStatusList", 22),
        ("crls", 23),
        ("KemCiphertextInfo", 24),
    )
}
_INFO_NAMES = {oid: name for name, oid in INFO_TYPES.items()}


@frozen
class InfoTypeAndValue:
    """
    One piece of general information (RFC 9810, section 5.3.19).

    :ivar oid: dotted type.
    :ivar value: DER, or ``None`` if absent.
    """

    oid: str
    value: bytes | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The name of the type, or its dotted form if we know none."""
        return _INFO_NAMES.get(self.oid, self.oid)

    def der(self) -> bytes:
        """Return the InfoTypeAndValue."""
        return der.sequence(der.oid(self.oid), self.value or b"")


def read_info_types_and_values(
    content: bytes,
) -> tuple[InfoTypeAndValue, ...]:
    """
    Read the content octets of a SEQUENCE OF InfoTypeAndValue.

    :raises Malformed: they are none.
    """
    found = []
    for tag, item, _ in der.children(content):
        parts = der.children(item)
        if (
            tag != der.SEQUENCE
            or not 1 <= len(parts) <= 2
            or parts[0][0] != der.OBJECT_IDENTIFIER
        ):
            raise Malformed("general information is malformed")
        value = parts[1][2] if len(parts) > 1 else None
        found.append(InfoTypeAndValue(der.oid_text(parts[0][1]), value))
    return tuple(found)
