# SPDX-License-Identifier: MIT
"""
Challenges that somebody else has signed: compact JWS under pinned keys.

RFC 7515 and RFC 7519, as little of them as is needed: RS256 and ES256, one
signature, no unsigned parts.

Theory of operation
===================

J-1  *The key is ours to choose.*  A header says which algorithm, and nothing
     else that counts: no other algorithm, no key, certificate or place of a
     key in the header, nothing critical (RFC 8725, sections 3.1 and 3.2).
J-2  *Said, or refused.*  Audience, end, a name of its own, the device and its
     alternative names must be there; what is not said is not unlimited.
J-3  *Bound.*  The common name is the device, and the alternative names of
     the request are the claims', as a set.
J-4  *Once.*  The store has a row for it, which is burnt with the intent, as
     that of our own challenges; any process, any label, for ever.
J-5  *Wrong ones are throttled* by address, device and transaction; a right
     one, which nobody can guess, passes that.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import evolve, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.utils import (
    encode_dss_signature,
)
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from trstctl.errors import ChallengeRejected, Malformed, RequestError
from trstctl.interfaces import IAttempts, IChallengeGate, IDeviceSecrets
from trstctl.minting import check_secret, principal_of
from trstctl.model import (
    CertificateRequest,
    EnrollmentRequest,
    GeneralName,
    Issued,
    OneTimeSecret,
    Principal,
)
from trstctl.pkix.algorithms import describe_public_key, verify
from trstctl.pkix.names import COMMON_NAME, attribute_values
from trstctl.policy.binding import canonical_name
from trstctl.protocols.scep.gate_settings import JWSSettings
from trstctl.protocols.scep.json_object import (
    Object,
    read_object,
    text_of,
    texts_of,
)

#: Characters of a challenge.
MAX_LENGTH = 8192

#: What a clock may be wrong, of the time of issue only.
SKEW = timedelta(seconds=60)

#: The algorithms, by their names in the header (RFC 7518, section 3.1), with
#: the keys that they take.
_ALGORITHMS = {
    "RS256": ("rsa", "sha256-with-rsa"),
    "ES256": ("p-256", "ecdsa-with-sha256"),
}
_SMALLEST_RSA = 2048
_ES256_OCTETS = 64

#: What a header may have in it; all else could only mislead (J-1).
_HEADER = frozenset({"alg", "typ", "kid"})

#: The claims with alternative names, and their kinds.
_NAMES = {"san_dns": "dns", "san_rfc822": "email", "san_upn": "upn"}

_LONGEST_TEXT = 512
_LONGEST_DEVICE = 64
_MOST_NAMES = 32


class PinnedKeyError(ValueError):
    """A file has no key to pin.  The text says why, and the remedy."""


@frozen
class PinnedKey:
    """
    A key that may sign challenges.

    :ivar kind: ``rsa`` or ``p-256``.
    :ivar begins: when its certificate does; likewise ``ends``; ``None`` for
        a bare key.
    """

    spki: bytes = field(repr=False)
    kind: str
    begins: datetime | None = None
    ends: datetime | None = None

    def is_good(self, now: datetime) -> bool:
        """Tell whether its certificate is in date."""
        return (self.begins is None or self.begins <= now) and (
            self.ends is None or now <= self.ends
        )


@frozen
class Claims:
    """
    What a challenge says.

    :ivar id: its own name, which no other of the issuer has.
    :ivar names: the alternative names, canonical.
    """

    id: str
    device: str
    names: frozenset[GeneralName]
    ends: datetime


def read_pinned_key(path: Path) -> PinnedKey:
    """
    Read a certificate or a public key in PEM.

    :raises PinnedKeyError: there is none, or it could sign nothing here.
    :raises OSError: the file cannot be read.
    """
    pem = path.read_bytes()
    begins = ends = None
    try:
        if b"CERTIFICATE-----" in pem:
            certificate = x509.load_pem_x509_certificate(pem)
            begins = certificate.not_valid_before_utc
            ends = certificate.not_valid_after_utc
            key = certificate.public_key()
        else:
            key = serialization.load_pem_public_key(pem)  # type: ignore[assignment]
        spki = key.public_bytes(
            serialization.Encoding.DER,
            serialization.PublicFormat.SubjectPublicKeyInfo,
        )
        described = describe_public_key(spki)
    except Exception as error:
        raise PinnedKeyError(
            f"{path}: there is neither a certificate nor a public key in PEM"
        ) from error
    kinds = {kind for kind, _ in _ALGORITHMS.values()}
    if described.algorithm not in kinds or (
        described.algorithm == "rsa" and described.bits < _SMALLEST_RSA
    ):
        raise PinnedKeyError(
            f"{path}: RSA keys of {_SMALLEST_RSA} bits and more, and P-256 "
            "keys, can sign challenges"
        )
    return PinnedKey(spki, described.algorithm, begins, ends)


# --- one challenge ----------------------------------------------------------


def verified(text: str, keys: Sequence[PinnedKey], now: datetime) -> Object:
    """
    Return the claims of a challenge that one of the keys has signed (J-1).

    :raises Malformed: it is anything else; the text says what, for the log.
    """
    if len(text) > MAX_LENGTH:
        raise Malformed("it is too long")
    parts = text.split(".")
    if len(parts) != 3:
        raise Malformed("it is no compact JWS")
    header = read_object(_octets(parts[0]))
    if header.keys() - _HEADER:
        raise Malformed("its header has more than alg, typ and kid")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise Malformed("its algorithm is neither RS256 nor ES256")
    kind, name = _ALGORITHMS[algorithm]
    signature = _octets(parts[2])
    if algorithm == "ES256":
        signature = _as_der(signature)
    signed = f"{parts[0]}.{parts[1]}".encode("ascii")
    if not any(
        verify(key.spki, name, signature, signed)
        for key in keys
        if key.kind == kind and key.is_good(now)
    ):
        raise Malformed("none of the keys has signed it")
    return read_object(_octets(parts[1]))


def _octets(text: str) -> bytes:
    """Return base64url without padding, in its one form (section 2)."""
    try:
        octets = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        encoded = binascii.b2a_base64(octets, newline=False).rstrip(b"=")
        if encoded.translate(_URL_SAFE) == text.encode("ascii"):
            return octets
    except ValueError:  # binascii.Error and UnicodeEncodeError are such
        pass
    raise Malformed("it is not base64url")


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _as_der(signature: bytes) -> bytes:
    """Return an ECDSA signature as X.509 has it (RFC 7518, section 3.4)."""
    if len(signature) != _ES256_OCTETS:
        raise Malformed("its signature has not 64 octets")
    half = _ES256_OCTETS // 2
    return encode_dss_signature(
        int.from_bytes(signature[:half], "big"),
        int.from_bytes(signature[half:], "big"),
    )


def read_claims(found: Object, settings: JWSSettings, now: datetime) -> Claims:
    """
    Return what the claims say, once they are for us and now (J-2).

    :raises Malformed: they are not; the text says why, for the log.
    """
    if found.get("version", "v1") != "v1":
        raise Malformed("its version is not v1")
    if text_of(found, "iss", _LONGEST_TEXT) != settings.issuer:
        raise Malformed("it is of another issuer")
    audience = found.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if settings.audience not in audiences:
        raise Malformed("it is for another audience")
    ends = _moment(found, "exp")
    if ends is None:
        raise Malformed("it never ends")
    if ends <= now:
        raise Malformed("it has ended")
    if ends > now + timedelta(seconds=settings.longest):
        raise Malformed("it ends too late")
    for claim in ("iat", "nbf"):
        begins = _moment(found, claim)
        if begins is not None and begins > now + SKEW:
            raise Malformed("it is from the future")
    own = [
        f"{claim} {text}"
        for claim in ("jti", "nonce")
        if (text := text_of(found, claim, _LONGEST_TEXT))
    ]
    device = text_of(found, "device_name", _LONGEST_DEVICE)
    if not own or not device:
        raise Malformed("it has no jti or nonce, or no device_name")
    return Claims(own[0], device, _names_in(found), ends)


def _names_in(found: Object) -> frozenset[GeneralName]:
    """Return the alternative names, which must be said, if only as none."""
    lists = {
        kind: texts_of(found, claim, _LONGEST_TEXT, _MOST_NAMES)
        for claim, kind in _NAMES.items()
    }
    if all(texts is None for texts in lists.values()):
        raise Malformed("it does not say which alternative names")
    return frozenset(
        _canonical(GeneralName(kind, text))
        for kind, texts in lists.items()
        for text in texts or ()
    )


def _canonical(name: GeneralName) -> GeneralName:
    """Return a name as it is compared, or itself if it is none."""
    try:
        return canonical_name(name)
    except ValueError:
        return name


def _moment(found: Object, claim: str) -> datetime | None:
    """Return a NumericDate (RFC 7519, section 2); ``None``: not said."""
    value = found.get(claim)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(f"its {claim} is no date")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise Malformed(f"its {claim} is no date") from None


def check_names(wanted: CertificateRequest, claims: Claims) -> None:
    """
    Refuse a request for anybody but the device of the claims (J-3).

    :raises Malformed: it is for another; the text says which rule.
    """
    if attribute_values(wanted.subject, COMMON_NAME) != [claims.device]:
        raise Malformed("the common name is not the device")
    if {_canonical(name) for name in wanted.names} != claims.names:
        raise Malformed("the alternative names are others")


# --- the gate ---------------------------------------------------------------


@implementer(IChallengeGate)
class JWSGate:
    """
    Lets pass what a pinned key has signed, once.

    :param keys: any of which may sign.
    :param secrets: keeps what was used.
    :param attempts: counts what none of the keys has signed.
    """

    renewals = False

    _log = Logger()

    def __init__(
        self,
        settings: JWSSettings,
        keys: Sequence[PinnedKey],
        secrets: IDeviceSecrets,
        attempts: IAttempts,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._secrets = secrets
        self._attempts = attempts
        self._window = timedelta(seconds=settings.device_window)

    def admit(
        self, request: EnrollmentRequest, challenge: str, now: datetime
    ) -> Deferred[Principal]:
        """Judge a challenge; see the interface."""
        return Deferred.fromCoroutine(self._admit(request, challenge, now))

    async def _admit(
        self, request: EnrollmentRequest, challenge: str, now: datetime
    ) -> Principal:
        """Judge a challenge, and have it kept (J-4)."""
        try:
            found = verified(challenge, self._keys, now)
            claims = read_claims(found, self._settings, now)
            check_names(request.wanted, claims)
        except RequestError as error:
            self._attempts.failed(request)
            self._log.warn(
                "a signed challenge was refused: {reason}",
                event="jws.refused",
                request_id=request.request_id,
                tenant=request.endpoint.tenant_id,
                protocol=request.endpoint.protocol,
                transaction=request.transaction,
                reason=error.detail,
            )
            raise ChallengeRejected from error
        endpoint = request.endpoint
        kept = await self._secrets.keep(
            OneTimeSecret(
                tenant_id=endpoint.tenant_id,
                id=claims.id,
                digest="",
                profile=endpoint.profile,
                names=(),
                created_at=now,
                expires_at=claims.ends,
                protocol=endpoint.protocol,
                device=claims.device,
                alternative_names=tuple(sorted(map(str, claims.names))),
            ),
            f"jws:{self._settings.issuer}",
            self._settings.device_limit,
            now - self._window,
        )
        check_secret(kept, request.wanted.public_key.fingerprint, now)
        return evolve(principal_of(kept), kind="mdm", name=f"jws:{kept.id}")

    def issued(
        self, request: EnrollmentRequest, principal: Principal, outcome: Issued
    ) -> Deferred[None]:
        """Tell nobody: the store has burnt it."""
        return succeed(None)

    def refused(
        self, request: EnrollmentRequest, error: RequestError
    ) -> Deferred[None]:
        """Tell nobody: the store has kept it."""
        return succeed(None)
