# SPDX-License-Identifier: MIT
"""Each kind of secret, at each place of EST where one can stand (R-4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cmc_samples import (
    CMCBench,
    control,
    csr_of,
    pki_data,
    signed_by_key,
    tcr,
    utf8,
    witness,
)
from cmp_client import new_key
from est_samples import make_csr_with, printable

from trstctl.http.answer import HTTPResponse
from trstctl.pkix import der
from trstctl.pkix.csr import CHALLENGE_PASSWORD
from trstctl.protocols.est.challenges import OTP_CHALLENGE
from trstctl.testing import (
    OTHER_TENANT,
    add_challenge,
    add_one_time_token,
    add_token,
    basic,
    bearer,
    exchange,
    make_csr,
)

NAME = "d.example"

#: A secret, and by what name the store knows it.
Known = tuple[str, str]

#: What somebody may have got hold of, and how the store comes to know it.
SECRETS: dict[str, Callable[[Any], Known]] = {
    "password": lambda _: ("pw", "a"),
    "bearer token": lambda store: (add_token(store, "t"), "t"),
    "registrar": lambda store: (add_token(store, "r", kind="registrar"), "r"),
    "token": lambda store: (add_one_time_token(store, "once"), "once"),
    **{
        f"challenge of {protocol}": lambda store, protocol=protocol: challenge(
            store, protocol
        )
        for protocol in ("est", "scep", "cmp")
    },
}


def challenge(store: Any, protocol: str) -> Known:
    """Return a challenge for a protocol."""
    made = add_challenge(store, protocol=protocol, device=NAME)
    return made.secret, made.record.id


def in_the_csr(oid: str, label: str) -> Callable[[CMCBench, Known], Any]:
    """Return who sends a secret in an attribute of the request."""

    def send(bench: CMCBench, known: Known) -> HTTPResponse:
        csr = make_csr_with({oid: [printable(known[0])]}, NAME)
        return bench.post(csr, label=label, password=False)

    return send


def in_the_header(
    field: Callable[[str], dict[str, str]],
) -> Callable[[CMCBench, Known], Any]:
    """Return who sends a secret in the Authorization field."""

    def send(bench: CMCBench, known: Known) -> HTTPResponse:
        return bench.post(
            make_csr_with({}, NAME), password=False, **field(known[0])
        )

    return send


def in_the_proof(
    bench: CMCBench, known: Known, label: str = ""
) -> HTTPResponse:
    """Send a secret as the key of an identity proof to /fullcmc."""
    secret, known_as = known
    key = new_key()
    requests = [tcr(csr_of(key, NAME))]
    controls = [
        control(101, "identification", utf8(known_as)),
        control(
            102,
            "identityProofV2",
            witness(secret, der.sequence(*requests), known_as),
        ),
    ]
    return bench.send(
        signed_by_key(key, pki_data(controls, requests)), label=label
    )


PLACES: dict[str, Callable[[CMCBench, Known], Any]] = {
    "Basic": in_the_header(lambda secret: basic("a", secret)),
    "Bearer": in_the_header(bearer),
    "otpChallenge": in_the_csr(OTP_CHALLENGE, ""),
    "challengePassword": in_the_csr(CHALLENGE_PASSWORD, "secret"),
    "challengePassword, pop": in_the_csr(CHALLENGE_PASSWORD, ""),
    "identityProofV2": in_the_proof,
}

#: Nothing else is granted.
GRANTED = {
    ("password", "Basic"),
    ("bearer token", "Bearer"),
    ("token", "otpChallenge"),
    ("token", "challengePassword"),
    ("challenge of est", "identityProofV2"),
}


class SecretTests:
    """CVE-2025-44005: what opens one door opens no other."""

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("secret", SECRETS)
    def test_only_where_it_belongs(self, secret: str, place: str) -> None:
        """Elsewhere nothing is issued, held or signed."""
        bench = CMCBench(labels={"secret": {"challenge_password": "secret"}})
        before = bench.census()
        answer = PLACES[place](bench, SECRETS[secret](bench.store))
        if (secret, place) in GRANTED:
            assert 200 == answer.status
            return
        assert 401 == answer.status
        assert before == bench.census()


class TenantTests:
    """R-10: what is one tenant's is nothing at another's Full CMC."""

    def bench(self) -> CMCBench:
        """Return a bench whose label ``theirs`` is of another tenant."""
        return CMCBench(
            labels={
                "theirs": {
                    "tenant_id": OTHER_TENANT,
                    "eecerts": (NAME,),
                }
            }
        )

    @pytest.mark.parametrize("kind", ["nothing", "password", "certificate"])
    def test_full_cmc(self, kind: str) -> None:
        """Neither password nor certificate enrolls there."""
        bench = self.bench()
        certificate = None
        if kind == "certificate":
            certificate = bench.issued(make_csr(NAME, key=bench.key))
        requests = [tcr(csr_of(bench.key, NAME))]
        message = signed_by_key(bench.key, pki_data((), requests))
        status, failure, _ = bench.told(
            message,
            label="theirs",
            password=kind == "password",
            certificate=certificate,
        )
        assert (401, "badIdentity") == (status, failure)

    def test_identity_proof(self) -> None:
        """Nor does a shared secret."""
        bench = self.bench()
        before = bench.census()
        known = challenge(bench.store, "est")
        answer = in_the_proof(bench, known, "theirs")
        assert 401 == answer.status
        assert before == bench.census()
        assert 200 == in_the_proof(bench, known).status

    def test_peers(self) -> None:
        """Its devices' certificates are for its devices only."""
        bench = self.bench()
        certificate = bench.issued(make_csr(NAME, key=bench.key))
        answer = exchange(
            bench.resource,
            "GET",
            "/.well-known/est/theirs/eecerts",
            client_certificate=certificate,
        )
        assert 401 == answer.status
