# SPDX-License-Identifier: MIT
"""Each kind of secret, at each place of EST where one can stand (R-4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from est_samples import ESTBench, make_csr_with, printable

from trstctl.http.answer import HTTPResponse
from trstctl.pkix.csr import CHALLENGE_PASSWORD
from trstctl.protocols.est.challenges import OTP_CHALLENGE
from trstctl.testing import (
    add_challenge,
    add_one_time_token,
    add_token,
    basic,
    bearer,
)

NAME = "d.example"

#: What somebody may have got hold of, and how the store comes to know it.
SECRETS: dict[str, Callable[[Any], str]] = {
    "password": lambda _: "pw",
    "bearer token": lambda store: add_token(store, "t"),
    "registrar": lambda store: add_token(store, "r", kind="registrar"),
    **{
        f"token of {protocol}": lambda store, protocol=protocol: (
            add_one_time_token(store, "once", protocol=protocol)
        )
        for protocol in ("bootstrap", "est", "scep", "cmp")
    },
    **{
        f"challenge of {protocol}": lambda store, protocol=protocol: (
            add_challenge(store, protocol=protocol, device=NAME).secret
        )
        for protocol in ("scep", "cmp")
    },
}


def in_the_csr(oid: str, label: str) -> Callable[[ESTBench, str], Any]:
    """Return who sends a secret in an attribute of the request."""

    def send(bench: ESTBench, secret: str) -> HTTPResponse:
        csr = make_csr_with({oid: [printable(secret)]}, NAME)
        return bench.post(csr, label=label, password=False)

    return send


def in_the_header(
    field: Callable[[str], dict[str, str]],
) -> Callable[[ESTBench, str], Any]:
    """Return who sends a secret in the Authorization field."""

    def send(bench: ESTBench, secret: str) -> HTTPResponse:
        return bench.post(
            make_csr_with({}, NAME), password=False, **field(secret)
        )

    return send


PLACES: dict[str, Callable[[ESTBench, str], Any]] = {
    "Basic": in_the_header(lambda secret: basic("a", secret)),
    "Bearer": in_the_header(bearer),
    "otpChallenge": in_the_csr(OTP_CHALLENGE, ""),
    "challengePassword": in_the_csr(CHALLENGE_PASSWORD, "secret"),
    "challengePassword, pop": in_the_csr(CHALLENGE_PASSWORD, ""),
}

#: Nothing else is granted.
GRANTED = {
    ("password", "Basic"),
    ("bearer token", "Bearer"),
    ("token of bootstrap", "otpChallenge"),
    ("token of est", "otpChallenge"),
    ("token of bootstrap", "challengePassword"),
    ("token of est", "challengePassword"),
}


class SecretTests:
    """CVE-2025-44005: what opens one door opens no other."""

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("secret", SECRETS)
    def test_only_where_it_belongs(self, secret: str, place: str) -> None:
        """Elsewhere nothing is issued, held or signed."""
        bench = ESTBench(labels={"secret": {"challenge_password": "secret"}})
        before = bench.census()
        answer = PLACES[place](bench, SECRETS[secret](bench.store))
        if (secret, place) in GRANTED:
            assert 200 == answer.status
            return
        assert 401 == answer.status
        assert before == bench.census()
