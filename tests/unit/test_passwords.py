# SPDX-License-Identifier: MIT
"""Secrets at rest: verifiers that match, and tell nothing."""

from __future__ import annotations

import hashlib

import pytest

from trstctl.backends.passwords import (
    DECOY,
    TOKEN_DECOY,
    check_password,
    check_token,
    new_secret,
    scrypt_verifier,
    secret_digest,
    token_verifier,
)
from trstctl.testing import DeterministicBytes


class PasswordTests:
    """Passwords are kept as scrypt hashes (RFC 7914)."""

    def test_right_password_matches_only_its_verifier(self) -> None:
        """The password that was set is right, each other one is wrong."""
        verifier = scrypt_verifier("secret", DeterministicBytes(), log2_n=1)
        assert check_password("secret", verifier)
        for wrong in ("", "Secret", "secret ", "secre", "sécret"):
            assert not check_password(wrong, verifier)

    def test_default_cost_is_what_the_documentation_says(self) -> None:
        """n is 2**15, r 8, p 1, with 128 bits of salt."""
        verifier = scrypt_verifier("secret", lambda count: b"s" * count)
        kind, log2_n, salt, found = verifier.split("$")
        expected = hashlib.scrypt(
            b"secret",
            salt=b"s" * 16,
            n=1 << 15,
            r=8,
            p=1,
            maxmem=1 << 26,
            dklen=32,
        ).hex()
        assert ("scrypt", "15", (b"s" * 16).hex(), expected) == (
            kind,
            log2_n,
            salt,
            found,
        )

    def test_salt_is_fresh(self) -> None:
        """Two users with one password have two verifiers."""
        chance = DeterministicBytes()
        assert scrypt_verifier("a", chance, 1) != scrypt_verifier(
            "a", chance, 1
        )

    def test_password_is_not_in_its_verifier(self) -> None:
        """What is stored does not show the secret (security, 3.6)."""
        verifier = scrypt_verifier("hunter22", DeterministicBytes(), 1)
        assert "hunter22" not in verifier
        assert b"hunter22".hex() not in verifier

    def test_decoy_costs_the_same_and_never_matches(self) -> None:
        """A-1: unknown costs what wrong costs: same n, salt and length."""
        real = scrypt_verifier("x", DeterministicBytes())
        assert list(map(len, real.split("$"))) == list(
            map(len, DECOY.split("$"))
        )
        assert real.split("$")[:2] == DECOY.split("$")[:2]
        assert not check_password("", DECOY)


class TokenTests:
    """Tokens are random, so a plain hash keeps them."""

    def test_right_token_matches_only_its_verifier(self) -> None:
        """The token is right, each other one is wrong."""
        verifier = token_verifier("device.abc")
        assert check_token("device.abc", verifier)
        for wrong in ("", "device.abd", "device.ab", "device.abcd"):
            assert not check_token(wrong, verifier)

    def test_verifier_is_a_hash(self) -> None:
        """What is stored is the SHA-256, and serves no one as a token."""
        expected = hashlib.sha256(b"token").hexdigest()
        assert expected == secret_digest("token")
        assert f"sha256${expected}" == token_verifier("token")
        assert not check_token(expected, token_verifier("token"))

    def test_decoy_has_the_length_of_a_verifier(self) -> None:
        """A-1: the comparison with a decoy takes as long as a real one."""
        assert len(token_verifier("x")) == len(TOKEN_DECOY)
        assert not check_token("", TOKEN_DECOY)

    @pytest.mark.parametrize("octets", [16, 24, 32])
    def test_new_secret_is_url_safe(self, octets: int) -> None:
        """A secret can be pasted into a URL and a header, unquoted."""
        secret = new_secret(lambda count: b"\xfb\xff" * (count // 2), octets)
        assert set(secret) <= set("-_") | set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        )
        assert "=" not in secret
        assert len(secret) >= octets * 8 // 6

    def test_new_secret_has_192_bits(self) -> None:
        """By default no search can find it (security, 3.6: 128 at least)."""
        asked: list[int] = []

        def random_bytes(count: int) -> bytes:
            asked.append(count)
            return bytes(count)

        assert 32 == len(new_secret(random_bytes))
        assert [24] == asked
