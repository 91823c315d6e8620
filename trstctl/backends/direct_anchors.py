# SPDX-License-Identifier: MIT
"""
Anchors that have signed a factory certificate themselves: the short way.

Where the anchor itself has signed the certificate, and neither has anything
out of the ordinary in it, the rules of a path (RFC 5280, section 6.1) come
down to a few comparisons and one signature, with a key that is loaded
already.  OpenSSL would read everything anew, which costs more than the
signature.

Whoever is vouched for here, OpenSSL would vouch for, too.  The reverse is not
so: wherever anything is unusual the answer is no, and that means no more than
that OpenSSL has to look.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime

from attrs import frozen

from trstctl.errors import RequestError
from trstctl.model import CertificateFacts
from trstctl.pkix import der
from trstctl.pkix.algorithms import (
    ALGORITHMS,
    read_algorithm_identifier,
    verify,
)
from trstctl.pkix.certificate import read_certificate, split_signed
from trstctl.pkix.extensions import (
    AUTHORITY_KEY_IDENTIFIER,
    BASIC_CONSTRAINTS,
    EXTENDED_KEY_USAGE,
    KEY_USAGE,
    SUBJECT_ALTERNATIVE_NAME,
    SUBJECT_KEY_IDENTIFIER,
    read_basic_constraints,
    read_key_usage,
)
from trstctl.policy.keys import KeyRules, check_key

#: What an anchor may have: nothing that restricts names or policies.
_OF_ANCHOR = frozenset(
    {
        AUTHORITY_KEY_IDENTIFIER,
        BASIC_CONSTRAINTS,
        KEY_USAGE,
        SUBJECT_KEY_IDENTIFIER,
    }
)

#: What a device's certificate may have, and how it may be named there.
_OF_DEVICE = _OF_ANCHOR | {EXTENDED_KEY_USAGE, SUBJECT_ALTERNATIVE_NAME}
_NAMES = frozenset({"dns", "email", "ip", "uri"})

_KEY_RULES = KeyRules()
_KNOWN = frozenset(one.identifier for one in ALGORITHMS.values())
_VERSION_3 = b"\xa0\x03\x02\x01\x02"
_KEY_IDENTIFIER = 0x80


@frozen
class _Anchor:
    """
    An ordinary CA.

    :ivar subject: DER.
    :ivar named: the authorityKeyIdentifier of what it has signed; ``None``
        if its key has no identifier.
    """

    facts: CertificateFacts
    subject: bytes
    named: bytes | None


class DirectAnchors:
    """
    Those of an endpoint's anchors that are ordinary CAs.

    :param anchors: DER.
    """

    def __init__(self, anchors: Sequence[bytes]) -> None:
        self._anchors = []
        for certificate in anchors:
            try:
                self._anchors.append(_anchor(read_certificate(certificate)))
            except (RequestError, _UnusualError):
                continue

    def vouch(self, facts: CertificateFacts, now: datetime) -> bool:
        """
        Tell whether one of the anchors has signed an ordinary certificate.

        :param facts: of the certificate.
        """
        try:
            tbs, algorithm, signature = split_signed(facts.der)
            fields = _fields(tbs)
            # Section 7.1 of RFC 5280 knows other ways to write the same name.
            above = [
                one
                for one in self._anchors
                if fields[3] == one.subject and _is_valid(one.facts, now)
            ]
            if not above:
                return False
            named = _named(facts, fields, algorithm, now)
            name, _, _ = read_algorithm_identifier(algorithm)
            return any(
                named in {None, one.named}
                and verify(one.facts.public_key.spki, name, signature, tbs)
                for one in above
            )
        except (RequestError, _UnusualError):
            return False


class _UnusualError(Exception):
    """Somebody else has to look at a certificate."""


def _anchor(facts: CertificateFacts) -> _Anchor:
    """Return what an anchor is judged by."""
    check_key(facts.public_key, _KEY_RULES)
    values = _values(facts, _OF_ANCHOR)
    if not facts.is_ca or (
        KEY_USAGE in values
        and "keyCertSign" not in read_key_usage(values[KEY_USAGE])
    ):
        raise _UnusualError
    identifier, named = values.get(SUBJECT_KEY_IDENTIFIER), None
    if identifier is not None:
        octets = der.content(identifier, der.OCTET_STRING)
        named = der.sequence(der.tlv(_KEY_IDENTIFIER, octets))
    tbs, algorithm, _ = split_signed(facts.der)
    fields = _fields(tbs)
    # Its own signature proves nothing, but must be one.
    if fields[2] != algorithm or algorithm not in _KNOWN:
        raise _UnusualError
    above = values.get(AUTHORITY_KEY_IDENTIFIER)
    if above is not None:
        parts = der.children(der.content(above, der.SEQUENCE))
        itself = fields[3] == fields[5]
        if [part[0] for part in parts] != [_KEY_IDENTIFIER] or (
            itself and above != named
        ):
            raise _UnusualError
    return _Anchor(facts, fields[5], named)


def _is_valid(facts: CertificateFacts, now: datetime) -> bool:
    """Tell whether a certificate is within its dates."""
    return facts.not_before <= now < facts.not_after


def _named(
    facts: CertificateFacts,
    fields: Sequence[bytes],
    algorithm: bytes,
    now: datetime,
) -> bytes | None:
    """Judge a device's certificate; return its authorityKeyIdentifier."""
    # Section 4.1.1.2: the algorithm is the one that is signed.  And what
    # looks as if it had signed itself is a matter of its own.
    if fields[2] != algorithm or fields[5] == fields[3]:
        raise _UnusualError
    check_key(facts.public_key, _KEY_RULES)
    values = _values(facts, _OF_DEVICE)
    if facts.is_ca or not _is_valid(facts, now):
        raise _UnusualError
    if not _NAMES.issuperset(name.kind for name in facts.names):
        raise _UnusualError
    return values.get(AUTHORITY_KEY_IDENTIFIER)


def _fields(tbs: bytes) -> list[bytes]:
    """Return the fields of a TBSCertificate, each in DER."""
    fields = [
        field for _, _, field in der.children(der.content(tbs, der.SEQUENCE))
    ]
    # Version 3: serial, signature, issuer, validity, subject, key, extensions.
    if fields[0] != _VERSION_3 or len(fields) != 8:
        raise _UnusualError
    return fields


def _values(
    facts: CertificateFacts, allowed: AbstractSet[str]
) -> dict[str, bytes]:
    """Return the values of the extensions, all of which must be ordinary."""
    values = {one.oid: one.value for one in facts.extensions}
    if not values.keys() <= allowed:
        raise _UnusualError
    constraints, usage = values.get(BASIC_CONSTRAINTS), values.get(KEY_USAGE)
    if constraints is not None:
        is_ca, length = read_basic_constraints(constraints)
        if length is not None and not is_ca:
            raise _UnusualError
    # RFC 5280, section 4.2.1.3: at least one bit.
    if usage is not None and not read_key_usage(usage):
        raise _UnusualError
    if SUBJECT_KEY_IDENTIFIER in values:
        der.content(values[SUBJECT_KEY_IDENTIFIER], der.OCTET_STRING)
    return values
