# SPDX-License-Identifier: MIT
"""
Factory certificates: what an IDevID (IEEE 802.1AR) may ask for.

A manufacturer vouches for a device's serial number, not for the names that
its owner gives it.  So a request must name the device as the factory
certificate does, by common name or serialNumber; whatever else it names is
in the factory certificate, too, or matches a pattern of the operator's.
"""

from __future__ import annotations

from trstctl.model import CertificateFacts, FactoryTrust, GeneralName
from trstctl.pkix.names import (
    COMMON_NAME,
    EMAIL_ADDRESS,
    SERIAL_NUMBER,
    SHORT_NAMES,
    USER_ID,
    attribute_values,
)
from trstctl.policy.binding import folded, own_names, shown
from trstctl.policy.case import Case
from trstctl.policy.patterns import compile_pattern, principal_allows


def factory_refusal(
    trust: FactoryTrust, certificate: CertificateFacts
) -> str | None:
    """Say why the subject of a factory certificate does not count here."""
    for oid, pattern in trust.subject:
        matches = compile_pattern("cn", pattern)
        values = attribute_values(certificate.subject, oid)
        if not any(map(matches, values)):
            short = SHORT_NAMES[oid]
            return f"the factory certificate's {short} is not accepted here"
    return None


def idevid_names(case: Case) -> str | None:
    """Judge each requested name by the factory certificate and patterns."""
    certificate = case.principal.certificate
    trust = case.request.endpoint.factory
    if certificate is None or trust is None:
        return "there is no factory certificate"
    device = folded(certificate, SERIAL_NUMBER)
    device |= folded(certificate, COMMON_NAME)
    values = {
        oid: attribute_values(case.subject, oid)
        for oid in (COMMON_NAME, SERIAL_NUMBER)
    }
    if not any(
        one.lower() in device for found in values.values() for one in found
    ):
        return (
            "neither common name nor serialNumber is that of the factory "
            "certificate"
        )
    for value in values[SERIAL_NUMBER]:
        if value.lower() not in device:
            return "the serialNumber is not that of the factory certificate"
    for value in attribute_values(case.subject, USER_ID):
        if value.lower() not in folded(certificate, USER_ID):
            return "the subject names somebody else"
    own = own_names(certificate)
    wanted = [name for name in case.names if name not in own]
    wanted += [
        GeneralName("cn", value)
        for value in values[COMMON_NAME]
        if value.lower() not in device
    ]
    wanted += [
        GeneralName("email", value)
        for value in attribute_values(case.subject, EMAIL_ADDRESS)
    ]
    for name in wanted:
        # No patterns at all would allow any name.
        if not trust.names or not principal_allows(
            trust.names, name.kind, name.value
        ):
            return f"{shown(name)} is not for this device"
    return None
