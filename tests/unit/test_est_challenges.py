# SPDX-License-Identifier: MIT
"""What a request proves of its session (RFC 7030, 3.5) and of secrets."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import ec
from est_samples import BMP, IA5, PRINTABLE, UTF8, make_csr_with, printable

from trstctl.errors import Malformed, PolicyViolation
from trstctl.model import Endpoint, Linking, OneTimeToken, Operation
from trstctl.pkix import der
from trstctl.pkix.csr import (
    CHALLENGE_PASSWORD,
    OTP_CHALLENGE,
    REVOCATION_CHALLENGE,
    read_csr,
)
from trstctl.protocols.est.challenges import (
    EST_IDENTITY_LINKING,
    Said,
    read_challenges,
)
from trstctl.protocols.est.settings import Served
from trstctl.testing import TENANT

BINDING = bytes(range(12))
LINK = base64.b64encode(BINDING).decode()
SERVED = Served(
    Endpoint("est", "", TENANT, "device", "issuing"),
    True,
    "auto",
    "advise",
    "classic",
    "pop",
    False,
)
LINKING = (CHALLENGE_PASSWORD, EST_IDENTITY_LINKING)
KEY = ec.generate_private_key(ec.SECP256R1())


class Session:
    """A TLS session that counts how often it is asked."""

    def __init__(
        self, binding: bytes | None = BINDING, *, proxied: bool = False
    ) -> None:
        self.binding = binding
        self.proxied = proxied
        self.asked = 0

    def channel_binding(self) -> bytes | None:
        """Return what is unique to it."""
        self.asked += 1
        return self.binding

    def client_chain(self) -> tuple[bytes, ...]:
        """Return nothing."""
        raise AssertionError("nobody asks for it here")


def said(
    attributes: Any,
    session: Session | None = None,
    operation: Operation = Operation.ENROLL,
    **changes: Any,
) -> Said:
    """Read the challenges of a request with these attributes."""
    return read_challenges(
        read_csr(make_csr_with(attributes, key=KEY)),
        evolve(SERVED, **changes),
        operation,
        session,
    )


class LinkingTests:
    """The link of identity and proof of possession."""

    @pytest.mark.parametrize("oid", LINKING)
    @pytest.mark.parametrize("form", [PRINTABLE, UTF8])
    def test_right(self, oid: str, form: int) -> None:
        """RFC 7894, section 3: both string types, in both attributes."""
        found = said({oid: [printable(LINK, form)]}, Session())
        assert Linking.PROVEN is found.linking
        assert () == found.credentials

    @pytest.mark.parametrize("oid", LINKING)
    @pytest.mark.parametrize(
        "text",
        ["x", LINK[:-4], LINK + "AAAA", LINK.lower(), "====", "A" * 255],
    )
    @pytest.mark.parametrize("required", [True, False])
    def test_wrong(self, oid: str, text: str, required: bool) -> None:
        """RFC 7030, section 3.5: one that is there MUST be verified."""
        found = said(
            {oid: [printable(text)]}, Session(), pop_required=required
        )
        assert Linking.WRONG is found.linking

    @pytest.mark.parametrize("session", [None, Session(None), Session(b"")])
    def test_nothing_to_compare(self, session: Session | None) -> None:
        """Without a session, or a binding of it, none is right."""
        found = said({CHALLENGE_PASSWORD: [printable(LINK)]}, session)
        assert Linking.WRONG is found.linking

    @pytest.mark.parametrize("required", [False, True])
    @pytest.mark.parametrize("oid", LINKING)
    def test_behind_a_proxy(self, oid: str, required: bool) -> None:
        """
        What names a session that a proxy ends MUST be verified and cannot be
        (RFC 7030, section 3.5).
        """
        session = Session(proxied=True)
        found = said({oid: [printable(LINK)]}, session, pop_required=required)
        assert Linking.UNVERIFIABLE is found.linking
        assert 0 == session.asked

    def test_behind_a_proxy_without_a_link(self) -> None:
        """Where it is required, nothing can satisfy it; else, it is unasked."""
        session = Session(proxied=True)
        assert Linking.UNASKED is said({}, session).linking
        found = said({}, session, pop_required=True)
        assert Linking.UNVERIFIABLE is found.linking

    def test_both(self) -> None:
        """RFC 7894, section 4: each is evaluated, and must be right."""
        other = printable("AAAA")
        for first, second, expected in (
            (printable(LINK), printable(LINK), Linking.PROVEN),
            (printable(LINK), other, Linking.WRONG),
            (other, printable(LINK), Linking.WRONG),
        ):
            found = said(
                {LINKING[0]: [first], LINKING[1]: [second]}, Session()
            )
            assert expected is found.linking

    def test_white_space(self) -> None:
        """Base64 in lines is base64 (RFC 8951, section 3.1)."""
        text = printable(LINK[:8] + "\n" + LINK[8:] + "\n", UTF8)
        found = said({CHALLENGE_PASSWORD: [text]}, Session())
        assert Linking.PROVEN is found.linking

    @pytest.mark.parametrize("attributes", [{}, {"1.2.3": [b"\x05\x00"]}])
    def test_absent(self, attributes: Any) -> None:
        """Without one it depends on the label; the session is not asked."""
        session = Session()
        found = said(attributes, session)
        assert Linking.UNASKED is found.linking
        found = said(attributes, session, pop_required=True)
        assert Linking.MISSING is found.linking
        assert 0 == session.asked
        assert found.content is None

    @pytest.mark.parametrize("mode", ["secret", "ignore"])
    def test_challenge_password_with_another_meaning(self, mode: str) -> None:
        """The other attribute still links; the password does not."""
        session = Session()
        found = said(
            {CHALLENGE_PASSWORD: [printable("x")]},
            session,
            challenge_password=mode,
            pop_required=True,
        )
        assert Linking.MISSING is found.linking
        assert 0 == session.asked
        found = said(
            {
                CHALLENGE_PASSWORD: [printable("x")],
                EST_IDENTITY_LINKING: [printable(LINK)],
            },
            session,
            challenge_password=mode,
        )
        assert Linking.PROVEN is found.linking


class ContentTests:
    """What of a request is the same in every session."""

    def content(self, attributes: Any, **changes: Any) -> bytes | None:
        """Return it."""
        return said(attributes, Session(), **changes).content

    @pytest.mark.parametrize("oid", LINKING)
    def test_without_the_link(self, oid: str) -> None:
        """RFC 7030, section 4.2.3: built anew, it is the same request."""
        rest = {"1.2.3": [b"\x05\x00"]}
        one = self.content({oid: [printable(LINK)], **rest})
        other = self.content({**rest, oid: [printable("another")]})
        assert one is not None
        assert one == other
        assert one != self.content({oid: [printable(LINK)]})
        assert one != self.content(
            {oid: [printable(LINK)], "1.2.3": [b"\x30\x00"]}
        )

    def test_names_and_key_count(self) -> None:
        """Another subject, name or key is another request."""
        link = {EST_IDENTITY_LINKING: [printable(LINK)]}
        found = {
            read_challenges(
                read_csr(make_csr_with(link, name, key=key)),
                SERVED,
                Operation.ENROLL,
                Session(),
            ).content
            for name in ("a", "b")
            for key in (KEY, ec.generate_private_key(ec.SECP256R1()))
        }
        assert 4 == len(found)

    def test_revocation_challenge(self) -> None:
        """That there is one counts, and nothing of what it is: a digest of
        it would let somebody try guesses."""
        taken = {"revocation_challenge": "accepted"}
        found = {
            said(attributes, **taken).content
            for attributes in (
                {REVOCATION_CHALLENGE: [printable("s3cret")]},
                {REVOCATION_CHALLENGE: [printable("another one", UTF8)]},
            )
        }
        (content,) = found
        assert content is not None
        assert der.oid(REVOCATION_CHALLENGE) in content
        assert b"s3cret" not in content
        link = {EST_IDENTITY_LINKING: [printable(LINK)]}
        without = said(link, Session(), **taken).content
        both = {**link, REVOCATION_CHALLENGE: [printable("x")]}
        assert without != said(both, Session(), **taken).content == content

    def test_all_of_it(self) -> None:
        """What is of no session counts as it stands."""
        assert self.content({OTP_CHALLENGE: [printable("x")]}) is None


class SecretTests:
    """Single-use tokens in a request."""

    def test_otp_challenge(self) -> None:
        """RFC 7894, section 3.1: it is a credential wherever it is."""
        for mode in ("pop", "secret", "ignore"):
            found = said(
                {OTP_CHALLENGE: [printable("tok")]}, challenge_password=mode
            )
            assert (OneTimeToken("tok"),) == found.credentials
            assert Linking.UNASKED is found.linking

    def test_challenge_password(self) -> None:
        """It is a credential where the label says so."""
        attributes = {CHALLENGE_PASSWORD: [printable("tok")]}
        found = said(attributes, challenge_password="secret")
        assert (OneTimeToken("tok"),) == found.credentials
        for mode in ("pop", "ignore"):
            found = said(attributes, Session(), challenge_password=mode)
            assert () == found.credentials

    def test_with_a_link(self) -> None:
        """A token and a link go together."""
        found = said(
            {
                OTP_CHALLENGE: [printable("tok")],
                EST_IDENTITY_LINKING: [printable(LINK)],
            },
            Session(),
            pop_required=True,
        )
        assert Linking.PROVEN is found.linking
        assert (OneTimeToken("tok"),) == found.credentials
        assert found.content is not None

    def test_two(self) -> None:
        """Only one of two could be used up."""
        with pytest.raises(Malformed, match="two single-use"):
            said(
                {
                    OTP_CHALLENGE: [printable("a")],
                    CHALLENGE_PASSWORD: [printable("b")],
                },
                challenge_password="secret",
            )

    def test_renewal(self) -> None:
        """A certificate speaks there, so that no token is used up."""
        renewing = Operation.RENEW
        with pytest.raises(PolicyViolation, match="no otpChallenge"):
            said({OTP_CHALLENGE: [printable("a")]}, operation=renewing)
        # Clients that copy their last request get through.
        found = said(
            {CHALLENGE_PASSWORD: [printable("b")]},
            operation=renewing,
            challenge_password="secret",
        )
        assert () == found.credentials

    def test_revocation(self) -> None:
        """RFC 7894, section 4: what cannot be processed is refused."""
        with pytest.raises(PolicyViolation, match="revocationChallenge"):
            said({REVOCATION_CHALLENGE: [printable("x")]})

    @pytest.mark.parametrize("mode", ["accepted", "announced"])
    @pytest.mark.parametrize("operation", Operation)
    def test_revocation_challenge(
        self, mode: str, operation: Operation
    ) -> None:
        """RFC 7894, section 3.2: where it is taken, in renewals, too; it is
        no credential and names no session."""
        found = said(
            {REVOCATION_CHALLENGE: [printable("s3cret")]},
            operation=operation,
            revocation_challenge=mode,
        )
        assert ("s3cret", ()) == (
            found.revocation_challenge,
            found.credentials,
        )
        assert Linking.UNASKED is found.linking
        assert "s3cret" not in repr(found)
        linked = said(
            {REVOCATION_CHALLENGE: [printable("s3cret")]},
            Session(),
            pop_required=True,
            revocation_challenge=mode,
        )
        assert Linking.MISSING is linked.linking

    def test_secrets_are_not_shown(self) -> None:
        """No token is in a text that a log could get."""
        found = said({OTP_CHALLENGE: [printable("tok-7")]})
        assert "tok-7" not in repr(found)


class FormTests:
    """DirectoryString of 1 to 255 characters, once (RFC 7894, section 3)."""

    @pytest.mark.parametrize(
        "oid", [OTP_CHALLENGE, EST_IDENTITY_LINKING, REVOCATION_CHALLENGE]
    )
    @pytest.mark.parametrize("mode", ["off", "accepted"])
    @pytest.mark.parametrize(
        "values",
        [
            [printable("a"), printable("b")],
            [printable("")],
            [printable("a" * 256)],
            [printable("a", IA5)],
            [b"\x04\x01a"],
            [b"\x30\x00"],
            [printable("\x00" * 3, BMP)],
        ],
    )
    def test_malformed(self, oid: str, mode: str, values: list[bytes]) -> None:
        """Anything else is malformed."""
        with pytest.raises(Malformed):
            said({oid: values}, Session(), revocation_challenge=mode)

    def test_longest(self) -> None:
        """255 characters are fine."""
        found = said({OTP_CHALLENGE: [printable("a" * 255)]})
        assert (OneTimeToken("a" * 255),) == found.credentials
        found = said(
            {REVOCATION_CHALLENGE: [printable("\xfc" * 255, UTF8)]},
            revocation_challenge="accepted",
        )
        assert "\xfc" * 255 == found.revocation_challenge
