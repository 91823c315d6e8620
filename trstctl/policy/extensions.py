# SPDX-License-Identifier: MIT
"""
Extensions: what a profile issues, and what a request may ask for.

Requested extensions are never copied.  What the profile issues is built once
from its settings; only the subject alternative name is built for each
certificate.  A request may contain:

- subjectAltName, which the name rules judge;
- keyUsage and extKeyUsage within what the profile issues;
- basicConstraints, saying that the certificate is no CA's;
- certificatePolicies exactly as the profile issues it;
- what the profile ignores, because the authority sets it by itself.

Anything else is refused, critical or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trstctl.model import CertificateFacts, Extension, GeneralName
from trstctl.pkix import der
from trstctl.pkix import extensions as pkix
from trstctl.pkix.names import encode_general_names

CERTIFICATE_POLICIES = "2.5.29.32"

_SIGNING = frozenset({"digitalSignature", "nonRepudiation"})
#: What each kind of key can serve: RFC 3279, section 2.3.1; RFC 8813,
#: section 3; RFC 9295, section 3; RFC 9881, section 5.
_SERVES: Mapping[str, frozenset[str]] = {
    "rsa": _SIGNING | {"keyEncipherment", "dataEncipherment"},
    "ec": _SIGNING | {"keyAgreement", "encipherOnly", "decipherOnly"},
    "signing": _SIGNING,
}
#: What a key must serve to which something is encrypted (RFC 9810, 5.2.2).
_ENCRYPTING = frozenset({"keyEncipherment", "keyAgreement"})
_KEY_CLASSES: Mapping[str, str] = {
    "rsa": "rsa",
    "p-256": "ec",
    "p-384": "ec",
    "p-521": "ec",
}

#: Key usages that a profile may list.  keyCertSign and cRLSign, which are
#: for authorities, are not among them.
KEY_USAGES = tuple(
    usage
    for usage in pkix.KEY_USAGES
    if any(usage in served for served in _SERVES.values())
)

#: Extended key usages by name.
EXTENDED_KEY_USAGES: Mapping[str, str] = {
    "serverAuth": "1.3.6.1.5.5.7.3.1",
    "clientAuth": "1.3.6.1.5.5.7.3.2",
    "codeSigning": "1.3.6.1.5.5.7.3.3",
    "emailProtection": "1.3.6.1.5.5.7.3.4",
    "ipsecEndSystem": "1.3.6.1.5.5.7.3.5",
    "ipsecTunnel": "1.3.6.1.5.5.7.3.6",
    "ipsecUser": "1.3.6.1.5.5.7.3.7",
    "timeStamping": "1.3.6.1.5.5.7.3.8",
    "OCSPSigning": "1.3.6.1.5.5.7.3.9",
    "eapOverLAN": "1.3.6.1.5.5.7.3.14",
    "ipsecIKE": "1.3.6.1.5.5.7.3.17",
    "cmcCA": "1.3.6.1.5.5.7.3.27",
    "cmKGA": "1.3.6.1.5.5.7.3.32",
    "cmcRA": "1.3.6.1.5.5.7.3.28",
    "certificateRequestAgent": "1.3.6.1.4.1.311.20.2.1",
    "smartcardLogon": "1.3.6.1.4.1.311.20.2.2",
}

_NOT_A_CA = der.sequence()
_OCSP_NO_CHECK = "1.3.6.1.5.5.7.48.1.5"
_NULL = b"\x05\x00"


def extended_key_usage_oid(usage: str) -> str:
    """Return the dotted OID of a name; anything else as it is."""
    return EXTENDED_KEY_USAGES.get(usage, usage)


def usable(usages: tuple[str, ...], algorithm: str) -> frozenset[str]:
    """Return those of the key usages that a key can serve."""
    return _SERVES[_KEY_CLASSES.get(algorithm, "signing")].intersection(usages)


class IssuedExtensions:
    """
    What a profile issues, encoded once, and what may be requested of it.

    :param algorithms: the key algorithms that the profile allows.
    :param usages: names of :data:`KEY_USAGES`.
    :param extended: dotted OIDs.
    :param policies: dotted OIDs.
    :param ignored: dotted OIDs of requested extensions without effect.
    :param no_check: whether to issue id-pkix-ocsp-nocheck.
    """

    def __init__(
        self,
        algorithms: tuple[str, ...],
        usages: tuple[str, ...],
        extended: tuple[str, ...],
        policies: tuple[str, ...],
        ignored: tuple[str, ...],
        *,
        no_check: bool = False,
    ) -> None:
        self._extended = frozenset(extended)
        self._ignored = frozenset(ignored)
        self._policies = der.sequence(
            *(der.sequence(der.oid(policy)) for policy in policies)
        )
        always = []
        if extended:
            value = der.sequence(*map(der.oid, extended))
            always.append(Extension(pkix.EXTENDED_KEY_USAGE, False, value))
        if policies:
            always.append(
                Extension(CERTIFICATE_POLICIES, False, self._policies)
            )
        if no_check:
            always.append(Extension(_OCSP_NO_CHECK, False, _NULL))
        self._usages = {name: usable(usages, name) for name in algorithms}
        self._issued = {
            name: (
                Extension(pkix.BASIC_CONSTRAINTS, True, _NOT_A_CA),
                Extension(pkix.KEY_USAGE, True, encode_key_usage(served)),
                *always,
            )
            for name, served in self._usages.items()
        }

    def issue(
        self, algorithm: str, names: tuple[GeneralName, ...], *, nameless: bool
    ) -> tuple[Extension, ...]:
        """
        Return the extensions of one certificate.

        :param algorithm: one of the profile's key algorithms.
        :param nameless: whether the subject is empty, which makes the
            alternative name critical (RFC 5280, section 4.2.1.6).
        """
        issued = self._issued[algorithm]
        if not names:
            return issued
        value = encode_general_names(names)
        return (
            *issued,
            Extension(pkix.SUBJECT_ALTERNATIVE_NAME, nameless, value),
        )

    def encrypts(self, algorithm: str) -> bool:
        """Tell whether what is issued for such a key lets it encrypt."""
        return not _ENCRYPTING.isdisjoint(self._usages.get(algorithm, ()))

    def refusal(
        self, requested: tuple[Extension, ...], algorithm: str
    ) -> str | None:
        """
        Say why a requested extension is refused, or return ``None``.

        :raises Malformed: one of them cannot be read.
        """
        for extension in requested:
            oid = extension.oid
            if oid == pkix.SUBJECT_ALTERNATIVE_NAME or oid in self._ignored:
                continue
            judge = self._JUDGES.get(oid)
            if judge is None:
                return f"the extension {oid} may not be requested"
            why = judge(self, extension.value, algorithm)
            if why is not None:
                return why
        return None

    def wished(self) -> tuple[Extension, ...]:
        """Return what every certificate gets that a request may state."""
        first, *others = self._issued.values()
        return tuple(
            extension
            for extension in first
            if extension.oid != pkix.BASIC_CONSTRAINTS
            and extension.oid in self._JUDGES
            and all(extension in each for each in others)
        )

    def without_effect(self, requested: tuple[Extension, ...]) -> list[str]:
        """Return the OIDs that were requested in vain, for explanation."""
        return [
            extension.oid
            for extension in requested
            if extension.oid in self._ignored
        ]

    def _basic_constraints(self, value: bytes, _algorithm: str) -> str | None:
        """Allow the statement that the certificate is no CA's."""
        if pkix.read_basic_constraints(value) == (False, None):
            return None
        return "no certificate of an authority is issued here"

    def _key_usage(self, value: bytes, algorithm: str) -> str | None:
        """Allow what the profile issues for this kind of key."""
        offered = self._usages.get(algorithm, frozenset())
        for usage in pkix.read_key_usage(value):
            if usage not in offered:
                return f"the key usage {usage} is not issued for {algorithm}"
        return None

    def _extended_key_usage(self, value: bytes, _algorithm: str) -> str | None:
        """Allow what the profile issues."""
        for usage in pkix.read_extended_key_usage(value):
            if usage not in self._extended:
                return f"the extended key usage {usage} is not issued"
        return None

    def _certificate_policies(
        self, value: bytes, _algorithm: str
    ) -> str | None:
        """Allow what the profile issues, to the letter."""
        if value == self._policies:
            return None
        return "other certificate policies are issued"

    _JUDGES = MappingProxyType(
        {
            pkix.BASIC_CONSTRAINTS: _basic_constraints,
            pkix.KEY_USAGE: _key_usage,
            pkix.EXTENDED_KEY_USAGE: _extended_key_usage,
            CERTIFICATE_POLICIES: _certificate_policies,
        }
    )


def without_copies(
    requested: tuple[Extension, ...], certificate: CertificateFacts
) -> tuple[Extension, ...]:
    """
    Return the requested extensions that a certificate does not have.

    :param certificate: one of our own.
    """
    own = {
        (extension.oid, extension.value)
        for extension in certificate.extensions
    }
    return tuple(
        extension
        for extension in requested
        if (extension.oid, extension.value) not in own
    )


def encode_key_usage(usages: frozenset[str]) -> bytes:
    """Return KeyUsage without trailing zero bits (X.690, section 11.2.2)."""
    bits = 0
    for usage in usages:
        bits |= 0x8000 >> pkix.KEY_USAGES.index(usage)
    octets = bits.to_bytes(2, "big").rstrip(b"\0")
    unused = (bits & -bits).bit_length() - 1 - 8 * (2 - len(octets))
    return der.tlv(der.BIT_STRING, bytes((unused,)) + octets)
