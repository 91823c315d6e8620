# SPDX-License-Identifier: MIT
"""
What a certification request proves beside its key: that it was made for this
TLS session, or that its sender has a secret.

Implemented: the link of identity and proof of possession (RFC 7030, section
3.5), by ``tls-unique`` in TLS 1.2 and ``tls-exporter`` in TLS 1.3 (RFC
9266), read from challengePassword and from estIdentityLinking (RFC 7894,
section 3.3); single-use tokens in otpChallenge (RFC 7894, section 3.1) and,
where the label says so, in challengePassword.  Every value that is there is
verified (RFC 7894, section 4).

A revocationChallenge (RFC 7894, section 3.2) is kept where the label says
so: then /fullcmc revokes by it.  Elsewhere it is refused, since whoever sends
one would rely on it.
"""

from __future__ import annotations

import base64
import hmac

from attrs import field, frozen

from trstctl.asked import unkept_password
from trstctl.errors import Malformed, PolicyViolation
from trstctl.http.request import TLSSession
from trstctl.model import (
    CertificateRequest,
    Credential,
    Linking,
    OneTimeToken,
    Operation,
)
from trstctl.pkix import der
from trstctl.pkix.csr import (
    CHALLENGE_PASSWORD,
    OTP_CHALLENGE,
    REVOCATION_CHALLENGE,
)
from trstctl.pkix.names import read_text
from trstctl.protocols.est.settings import Served

EST_IDENTITY_LINKING = "1.2.840.113549.1.9.16.2.58"

#: The string types of DirectoryString (X.520).
_DIRECTORY_STRING = frozenset({12, 19, 20, 28, 30})

#: Characters of any of the attributes (RFC 7894, section 3).
_LONGEST = 255

#: Attributes that are others in each TLS session.
_OF_A_SESSION = frozenset({CHALLENGE_PASSWORD, EST_IDENTITY_LINKING})


@frozen
class Said:
    """
    What a request says of session and secrets.

    :ivar credentials: the secrets.
    :ivar content: what of the request would be the same in another session,
        without the revocation challenge; ``None``: all of it.
    :ivar revocation_challenge: secret; empty: there is none.
    """

    linking: Linking
    credentials: tuple[Credential, ...] = field(default=(), repr=False)
    content: bytes | None = field(default=None, repr=False)
    revocation_challenge: str = field(default="", repr=False)


_NOTHING = Said(Linking.UNASKED)
_MISSING = Said(Linking.MISSING)
_UNVERIFIABLE = Said(Linking.UNVERIFIABLE)


def read_challenges(
    wanted: CertificateRequest,
    served: Served,
    operation: Operation,
    session: TLSSession | None,
) -> Said:
    """
    Return what a request says of session and secrets.

    :param session: that brought it; asked only if the request names one.
    :raises Malformed: an attribute has not the form that it must have, or
        there is more than one single-use token.
    :raises PolicyViolation: an attribute that cannot be served.
    """
    silent = _NOTHING
    if served.pop_required:
        proxied = session is not None and session.proxied
        silent = _UNVERIFIABLE if proxied else _MISSING
    if (
        operation is not Operation.RENEW
        and served.otp == "required"
        and OTP_CHALLENGE not in wanted.attributes
    ):
        raise PolicyViolation(
            served.endpoint.profile,
            "otp-challenge",
            "an otpChallenge with a single-use token is required",
        )
    if wanted.challenge_password is None and not wanted.attributes:
        return silent
    revocation = _revocation_challenge(wanted, served)
    links, secrets = _sorted_out(wanted, served, operation)
    if len(secrets) > 1:
        raise Malformed("there are two single-use tokens in the request")
    credentials = tuple(map(OneTimeToken, secrets))
    if not links and not revocation:
        return Said(silent.linking, credentials)
    return Said(
        _compared(links, session) if links else silent.linking,
        credentials,
        _lasting(wanted.proof.signed),
        revocation,
    )


def _revocation_challenge(wanted: CertificateRequest, served: Served) -> str:
    """
    Return the password that is to revoke the certificate, or nothing.

    :raises PolicyViolation: nobody could revoke anything by it.
    """
    text = _text(wanted, REVOCATION_CHALLENGE)
    if text is None:
        return ""
    if served.revocation_challenge == "off":
        # RFC 7894, section 4: never taken and ignored.
        raise unkept_password(served.endpoint.profile)
    return text


def _sorted_out(
    wanted: CertificateRequest, served: Served, operation: Operation
) -> tuple[list[str], list[str]]:
    """Return the values that name a session, and the secrets."""
    links: list[str] = []
    secrets: list[str] = []
    password = wanted.challenge_password
    if password is not None and served.challenge_password == "pop":  # noqa: S105  a mode
        links.append(password)
    link = _text(wanted, EST_IDENTITY_LINKING)
    if link is not None:
        links.append(link)
    token = _text(wanted, OTP_CHALLENGE)
    if operation is Operation.RENEW:
        # The certificate speaks, so that no token would be used up.
        if token is not None:
            raise PolicyViolation(
                served.endpoint.profile,
                "otp-challenge",
                "a renewal takes no otpChallenge; leave it out",
            )
        return links, secrets
    if token is not None:
        if served.otp == "off":
            # RFC 7894, section 4: never taken and ignored.
            raise PolicyViolation(
                served.endpoint.profile,
                "otp-challenge",
                "no otpChallenge is taken here; leave it out",
            )
        secrets.append(token)
    if password is not None and served.challenge_password == "secret":  # noqa: S105  a mode
        secrets.append(password)
    return links, secrets


def _text(wanted: CertificateRequest, oid: str) -> str | None:
    """Return the one value of an attribute of RFC 7894, if it is there."""
    values = wanted.attributes.get(oid)
    if values is None:
        return None
    parts = [der.children(value)[0] for value in values]
    if len(parts) != 1 or parts[0][0] not in _DIRECTORY_STRING:
        raise Malformed("an attribute of RFC 7894 is no single string")
    text = read_text(*parts[0][:2])
    if not 1 <= len(text) <= _LONGEST:
        raise Malformed("an attribute of RFC 7894 has 1 to 255 characters")
    return text


def _compared(links: list[str], session: TLSSession | None) -> Linking:
    """Tell whether each value is the base64 of this session's binding."""
    if session is not None and session.proxied:
        # RFC 7030, section 3.5: what is there MUST be verified.
        return Linking.UNVERIFIABLE
    binding = None if session is None else session.channel_binding()
    if not binding:
        return Linking.WRONG
    expected = base64.b64encode(binding)
    right = [
        hmac.compare_digest(expected, "".join(link.split()).encode())
        for link in links
    ]
    return Linking.PROVEN if all(right) else Linking.WRONG


def _lasting(signed: bytes) -> bytes:
    """
    Return a CertificationRequestInfo without what is of one session.

    A client that comes back, because the answer was lost or a person had to
    approve, has to build its request anew (RFC 7030, section 4.2.3); it is
    the same request all the same.
    """
    fields = der.children(der.content(signed, der.SEQUENCE))[:3]
    return b"".join(
        (*(field[2] for field in fields), *lasting_attributes(signed))
    )


def lasting_attributes(signed: bytes) -> list[bytes]:
    """
    Return the attributes that are the same in each session, in DER, sorted.

    Of a revocation challenge only that it is there: a digest of it would let
    somebody try guesses fast.

    :param signed: the CertificationRequestInfo of a request that was read.
    """
    lasting = []
    for _, each, _ in der.children(der.content(signed, der.SEQUENCE))[3:]:
        for _, content, attribute in der.children(each):
            kind = der.children(content)[0]
            oid = der.oid_text(kind[1])
            if oid == REVOCATION_CHALLENGE:
                lasting.append(der.sequence(kind[2]))
            elif oid not in _OF_A_SESSION:
                lasting.append(attribute)
    return sorted(lasting)
