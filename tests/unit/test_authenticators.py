# SPDX-License-Identifier: MIT
"""
The built-in authenticator proves who asks; its invariants are A-1 to A-4.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from trstctl.backends import authenticators
from trstctl.backends.authenticators import StoreAuthenticator
from trstctl.backends.passwords import DECOY
from trstctl.errors import (
    ChallengeRejected,
    NotAuthenticated,
    NotAuthorized,
    Throttled,
)
from trstctl.interfaces import IAuthenticator
from trstctl.model import (
    BearerToken,
    Challenge,
    ClientCertificate,
    Credential,
    Endpoint,
    EnrollmentRequest,
    OneTimeToken,
    Operation,
    Password,
    Principal,
    RegistrarCall,
)
from trstctl.testing import (
    EPOCH,
    OTHER_TENANT,
    TENANT,
    DeterministicBytes,
    MemoryStore,
    WallClock,
    add_challenge,
    add_one_time_token,
    add_password,
    add_token,
    make_authority,
    make_ra,
    make_request,
    result_of,
)

WANTED = make_request()
ENDPOINT = Endpoint("est", "", TENANT, "device", "issuing")


class _Bench:
    """An authenticator with everything around it."""

    def __init__(self, failures: int = 10) -> None:
        self.clock = Clock()
        self.now = WallClock(self.clock)
        self.store: Any = MemoryStore()
        self.authority: Any = make_authority()
        self.authorities = {"issuing": self.authority}
        self.checked: list[tuple[str, str]] = []
        self.paused: list[Callable[[], None]] | None = None
        self.authenticator = StoreAuthenticator(
            self.store,
            lambda: self.authorities,
            self.clock,
            self.run_slowly,
            DeterministicBytes("authenticator"),
            failures,
        )

    def run_slowly(
        self, check: Callable[[str, str], bool], secret: str, verifier: str
    ) -> Deferred[bool]:
        """Check now, or when the test says so; a decoy is never right."""
        self.checked.append((secret, verifier))
        right = verifier != DECOY and check(secret, verifier)
        if self.paused is None:
            return succeed(right)
        waiting: Deferred[bool] = Deferred()
        self.paused.append(lambda: waiting.callback(right))
        return waiting

    def request(
        self, *credentials: Credential, **other: Any
    ) -> EnrollmentRequest:
        """Return a request with these credentials."""
        facts: dict[str, Any] = {
            "endpoint": ENDPOINT,
            "operation": Operation.ENROLL,
            "wanted": WANTED,
            "credentials": credentials,
            "request_id": "rid",
            "peer": "192.0.2.1",
            **other,
        }
        return EnrollmentRequest(**facts)

    def start(
        self, *credentials: Credential, **other: Any
    ) -> Deferred[Principal]:
        """Begin to authenticate."""
        return self.authenticator.authenticate(
            self.request(*credentials, **other), self.now()
        )

    def prove(self, *credentials: Credential, **other: Any) -> Principal:
        """Authenticate."""
        return result_of(self.start(*credentials, **other))

    def refuses(
        self, error: type[Exception], *credentials: Credential, **other: Any
    ) -> Exception:
        """Authenticate in vain, and return the error."""
        with pytest.raises(error) as caught:
            self.prove(*credentials, **other)
        assert error is caught.type
        return caught.value

    def certificate(self, tenant_id: str = TENANT) -> ClientCertificate:
        """Enroll, and return the certificate."""
        add_password(self.store, "enroller", "pw", tenant_id=tenant_id)
        ra = make_ra(
            self.store,
            authorities=self.authorities,
            clock=self.clock,
            now=self.now,
            owner=f"ra {len(self.checked)} {tenant_id}",
        )
        issued: Any = result_of(
            ra.enroll(
                self.request(
                    Password("enroller", "pw"),
                    endpoint=evolve(ENDPOINT, tenant_id=tenant_id),
                )
            )
        )
        return ClientCertificate(issued.certificate)


class InterfaceTests:
    """It is an authenticator."""

    def test_provides_the_interface(self) -> None:
        """Every method of IAuthenticator, with its arguments."""
        assert verifyObject(IAuthenticator, _Bench().authenticator)


class PasswordTests:
    """Names and passwords."""

    def test_right_password_is_a_principal(self) -> None:
        """The principal has the names and profiles of the credential."""
        bench = _Bench()
        add_password(
            bench.store, "a", "pw", names=("dns:*.x",), profiles=("device",)
        )
        assert Principal(
            "basic", "a", TENANT, ("dns:*.x",), ("device",)
        ) == bench.prove(Password("a", "pw"))

    def test_unknown_equals_wrong(self) -> None:
        """A-1: unknown and wrong: one error, one slow hash each."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        wrong = bench.refuses(NotAuthenticated, Password("a", "no"))
        unknown = bench.refuses(NotAuthenticated, Password("b", "no"))
        assert str(wrong) == str(unknown)
        assert 2 == len(bench.checked)
        assert ("no", DECOY) == bench.checked[1]

    def test_revoked_and_expired_equal_unknown(self) -> None:
        """A-1: what was a credential once is none, and costs as much."""
        bench = _Bench()
        add_password(
            bench.store, "old", "pw", expires_at=EPOCH + timedelta(seconds=1)
        )
        add_password(bench.store, "gone", "pw")
        bench.prove(Password("old", "pw"))
        bench.prove(Password("gone", "pw"))
        result_of(
            bench.store.revoke_credential(
                TENANT, "basic", "gone", "op", bench.now()
            )
        )
        bench.clock.advance(1)
        bench.refuses(NotAuthenticated, Password("old", "pw"))
        bench.refuses(NotAuthenticated, Password("gone", "pw"))
        assert [DECOY, DECOY] == [one[1] for one in bench.checked[2:]]

    def test_hostile_names_and_passwords_are_unknown(self) -> None:
        """A-1: neither control characters nor length reach the store."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        for name in ("a\x00", "a\n", "a\u202e", "x" * 257):
            bench.refuses(NotAuthenticated, Password(name, "pw"))
            assert ("pw", DECOY) == bench.checked[-1]
        slow = len(bench.checked)
        bench.refuses(NotAuthenticated, Password("a", "x" * 257))
        assert slow == len(bench.checked)

    def test_other_tenants_name_is_unknown(self) -> None:
        """R-10: a credential exists in its own tenant only."""
        bench = _Bench()
        add_password(bench.store, "a", "pw", tenant_id=OTHER_TENANT)
        bench.refuses(NotAuthenticated, Password("a", "pw"))

    def test_slow_only_once(self) -> None:
        """A-2: a right password is remembered for ten minutes."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        for _ in range(3):
            bench.prove(Password("a", "pw"))
        bench.prove(Password("a", "pw"), peer="192.0.2.2")
        assert 1 == len(bench.checked)
        bench.clock.advance(600)
        bench.prove(Password("a", "pw"))
        assert 2 == len(bench.checked)

    def test_memory_does_not_outlive_the_credential(self) -> None:
        """A-2: a revocation counts at the next request."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        bench.prove(Password("a", "pw"))
        result_of(
            bench.store.revoke_credential(
                TENANT, "basic", "a", "op", bench.now()
            )
        )
        bench.refuses(NotAuthenticated, Password("a", "pw"))
        add_password(bench.store, "a", "other")
        bench.refuses(NotAuthenticated, Password("a", "pw"))
        bench.prove(Password("a", "other"))

    def test_memory_is_bounded(self, monkeypatch: Any) -> None:
        """A-2: the longest unused of what is remembered is forgotten."""
        monkeypatch.setattr(authenticators, "_REMEMBERED", 4)
        bench = _Bench()
        for name in "abc":
            add_password(bench.store, name, "pw")
            bench.prove(Password(name, "pw"))
        bench.prove(Password("c", "pw"))
        assert 3 == len(bench.checked)
        bench.prove(Password("a", "pw"))
        assert 4 == len(bench.checked)

    def test_memory_holds_no_password(self) -> None:
        """A-2: what is remembered is an HMAC under a key of this process."""
        bench = _Bench()
        add_password(bench.store, "a", "hunter22")
        bench.prove(Password("a", "hunter22"))
        assert "hunter22" not in str(vars(bench.authenticator))


class RegistrarTests:
    """A-5: handing out secrets is a right of its own."""

    def call(self, *credentials: Credential) -> RegistrarCall:
        """Return what a registrar shows."""
        return RegistrarCall(ENDPOINT, credentials, "192.0.2.1")

    def prove(self, bench: _Bench, *credentials: Credential) -> Principal:
        """Authenticate a registrar."""
        return result_of(
            bench.authenticator.authenticate_registrar(
                self.call(*credentials), bench.now()
            )
        )

    def test_right_token(self) -> None:
        """It has the names and profiles of the credential."""
        bench = _Bench()
        token = add_token(
            bench.store,
            "mdm",
            kind="registrar",
            names=("cn:*",),
            profiles=("device",),
        )
        expected = Principal(
            "registrar", "mdm", TENANT, ("cn:*",), ("device",)
        )
        certificate = ClientCertificate(b"counts for nothing")
        assert expected == self.prove(bench, certificate, BearerToken(token))

    def test_devices_are_no_registrars(self) -> None:
        """A device's credential is unknown here, whatever it is."""
        bench = _Bench()
        add_password(bench.store, "mdm", "pw")
        device = add_token(bench.store, "mdm")
        certificate = bench.certificate()
        errors = set()
        for credentials in (
            (),
            (BearerToken(device),),
            (BearerToken("mdm.guess"),),
            (BearerToken("nobody.guess"),),
            (Password("mdm", "pw"),),
            (OneTimeToken(add_one_time_token(bench.store, "once")),),
            (certificate,),
        ):
            with pytest.raises(NotAuthenticated) as caught:
                self.prove(bench, *credentials)
            errors.add(str(caught.value))
        assert 1 == len(errors)

    def test_registrars_are_no_devices(self) -> None:
        """Nor is a registrar's token any good for an enrollment."""
        bench = _Bench()
        token = add_token(bench.store, "mdm", kind="registrar")
        bench.refuses(NotAuthenticated, BearerToken(token))
        bench.refuses(ChallengeRejected, OneTimeToken(token))

    def test_revoked_and_expired(self) -> None:
        """They are unknown from the next request on."""
        bench = _Bench()
        old = add_token(
            bench.store,
            "old",
            kind="registrar",
            expires_at=EPOCH + timedelta(seconds=1),
        )
        gone = add_token(bench.store, "gone", kind="registrar")
        result_of(
            bench.store.revoke_credential(
                TENANT, "registrar", "gone", "op", bench.now()
            )
        )
        bench.clock.advance(1)
        for token in (old, gone):
            with pytest.raises(NotAuthenticated):
                self.prove(bench, BearerToken(token))

    def test_guesses_are_throttled(self) -> None:
        """A-3: and a right token passes all the same."""
        bench = _Bench()
        token = add_token(bench.store, "mdm", kind="registrar")
        for number in range(10):
            with pytest.raises(NotAuthenticated):
                self.prove(bench, BearerToken(f"mdm.{number}"))
        with pytest.raises(Throttled):
            self.prove(bench, BearerToken("mdm.guess"))
        assert "mdm" == self.prove(bench, BearerToken(token)).name


class ThrottleTests:
    """Guessing is throttled (A-3)."""

    def guess(self, bench: _Bench, times: int, **other: Any) -> None:
        """Guess in vain."""
        for number in range(times):
            bench.refuses(
                NotAuthenticated, Password("a", f"no {number}"), **other
            )

    def test_guesses_from_one_address(self) -> None:
        """A-3: the eleventh guess from an address is not looked at."""
        bench = _Bench()
        for number in range(10):
            bench.refuses(NotAuthenticated, Password(f"n{number}", "no"))
        error: Any = bench.refuses(Throttled, Password("z", "no"))
        assert 6 == error.retry_after
        assert 10 == len(bench.checked)

    def test_guesses_at_one_name(self) -> None:
        """A-3: ten addresses have ten guesses at a name, not a hundred."""
        bench = _Bench()
        for number in range(10):
            self.guess(bench, 1, peer=f"192.0.2.{number}")
        bench.refuses(Throttled, Password("A ", "no"), peer="192.0.2.99")
        assert 10 == len(bench.checked)

    def test_names_of_two_tenants_are_two_names(self) -> None:
        """A-3, R-10: guesses in one tenant do not throttle another's."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        other = evolve(ENDPOINT, tenant_id=OTHER_TENANT)
        self.guess(bench, 10, endpoint=other, peer="198.51.100.1")
        bench.prove(Password("a", "pw"))

    def test_guesses_at_once_gain_nothing(self) -> None:
        """A-3: a hundred guesses in flight are ten guesses."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        bench.paused = []
        errors: list[type[BaseException]] = []
        secrets = [f"no {n}" for n in range(50)] + ["pw"]
        for secret in secrets:
            bench.start(Password("a", secret)).addErrback(
                lambda failure: errors.append(failure.type)
            )
        for go_on in bench.paused:
            go_on()
        assert [NotAuthenticated] * 10 + [Throttled] * 41 == errors

    def test_who_leaves_has_guessed_all_the_same(self) -> None:
        """A-3: to hang up before the answer is no way past the throttle."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        bench.paused = []
        for number in range(10):
            guess = bench.start(Password("a", f"no {number}"))
            guess.addErrback(lambda _: None).cancel()
        for go_on in bench.paused:
            go_on()
        bench.paused = None
        bench.refuses(Throttled, Password("a", "no"))
        assert 10 == len(bench.checked)

    def test_a_whole_ipv6_network_is_one_guesser(self) -> None:
        """A-3: another address of the same /64 has no guesses of its own."""
        bench = _Bench()
        for number in range(10):
            bench.refuses(
                NotAuthenticated,
                Password(f"n{number}", "no"),
                peer=f"2001:db8:1:2::{number:x}",
            )
        password = Password("m", "no")
        bench.refuses(Throttled, password, peer="2001:db8:1:2:ffff::1")
        bench.refuses(NotAuthenticated, password, peer="2001:db8:1:3::1")

    def test_the_same_at_once_is_hashed_once(self) -> None:
        """A-2: a fleet with one password costs one slow hash."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        bench.paused = []
        proofs = [bench.start(Password("a", "pw")) for _ in range(20)]
        assert 1 == len(bench.checked)
        proofs[0].addErrback(lambda _: None).cancel()
        bench.paused[0]()
        assert ["basic:a"] * 19 == [result_of(one).id for one in proofs[1:]]

    def test_a_hash_that_fails_fails_all_who_wait(self) -> None:
        """A-2: and the next one hashes again."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        waiting: list[Deferred[bool]] = []

        def later(*_: object) -> Deferred[bool]:
            waiting.append(Deferred())
            return waiting[-1]

        bench.authenticator._run_slowly = later
        errors: list[type[BaseException]] = []
        for _ in range(2):
            bench.start(Password("a", "pw")).addErrback(
                lambda failure: errors.append(failure.type)
            )
        waiting[0].errback(OSError())
        assert [OSError, OSError] == errors
        proof = bench.start(Password("a", "pw"))
        waiting[1].callback(True)
        assert "basic:a" == result_of(proof).id

    def test_who_proved_it_here_is_not_locked_out(self) -> None:
        """A-3: guessing at a name does not stop the device that knows."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        bench.prove(Password("a", "pw"))
        for number in range(10):
            self.guess(bench, 1, peer=f"198.51.100.{number}")
        bench.prove(Password("a", "pw"))

    def test_memory_is_no_way_past_the_throttle(self) -> None:
        """A-3: the right guess from elsewhere is not looked at either."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        bench.prove(Password("a", "pw"))
        for number in range(10):
            self.guess(bench, 1, peer=f"198.51.100.{number}")
        bench.refuses(Throttled, Password("a", "pw"), peer="203.0.113.1")

    def test_memory_is_no_way_past_the_address(self) -> None:
        """A-3: nor is it for who guesses from the device's own address."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        bench.prove(Password("a", "pw"))
        self.guess(bench, 10)
        bench.refuses(Throttled, Password("a", "pw"))

    def test_wrong_tokens_are_throttled_and_right_ones_are_not(self) -> None:
        """A-3: a token cannot be guessed, so its owner is never shut out."""
        bench = _Bench()
        token = add_token(bench.store, "t")
        once = add_one_time_token(bench.store, "once")
        for _ in range(10):
            bench.refuses(NotAuthenticated, BearerToken("t.guess"))
        bench.refuses(Throttled, BearerToken("t.guess"))
        bench.refuses(Throttled, OneTimeToken("guess"))
        bench.prove(BearerToken(token))
        bench.prove(OneTimeToken(once))


class TokenTests:
    """Bearer tokens and single-use secrets."""

    def test_right_token_is_a_principal(self) -> None:
        """The principal is named by the token's public id."""
        bench = _Bench()
        token = add_token(bench.store, "t", names=("cn:x",))
        assert Principal("bearer", "t", TENANT, ("cn:x",)) == bench.prove(
            BearerToken(token)
        )

    def test_token_in_base64(self) -> None:
        """libest sends the base64 of the token."""
        bench = _Bench()
        token = add_token(bench.store, "t")
        wrapped = base64.b64encode(token.encode()).decode()
        assert "t" == bench.prove(BearerToken(wrapped)).name

    @pytest.mark.parametrize(
        "token",
        ["", "t", "t.", "t.wrong", "u.x", "/w==", "AAAA", "t." + "x" * 300],
    )
    def test_wrong_token(self, token: str) -> None:
        """A-1: whatever is wrong with it, the error is the same."""
        bench = _Bench()
        add_token(bench.store, "t")
        error = bench.refuses(NotAuthenticated, BearerToken(token))
        assert NotAuthenticated.detail == str(error)

    def test_token_with_something_behind_it(self) -> None:
        """A right beginning is not a right token."""
        bench = _Bench()
        token = add_token(bench.store, "t")
        bench.refuses(NotAuthenticated, BearerToken(token + "x"))

    def test_one_time_token_is_a_principal(self) -> None:
        """It is bound to its profile and names, and to be burnt."""
        bench = _Bench()
        secret = add_one_time_token(bench.store, "once", names=("cn:x",))
        assert Principal(
            "token",
            "once",
            TENANT,
            ("cn:x",),
            ("device",),
            secret_id="once",
        ) == bench.prove(OneTimeToken(secret))

    def test_unknown_one_time_token(self) -> None:
        """An unknown secret and another tenant's are refused alike."""
        bench = _Bench()
        other = add_one_time_token(bench.store, "once", tenant_id=OTHER_TENANT)
        for secret in ("", "guess", other):
            bench.refuses(ChallengeRejected, OneTimeToken(secret))

    def test_hopeless_one_time_token(self) -> None:
        """Expired, for another key, or burnt for one: refused at once."""
        bench = _Bench()
        for name, changes, reused in (
            ("ended", {"expires_at": EPOCH}, False),
            ("bound", {"key_fingerprint": "ab" * 32}, False),
            ("burnt", {"burnt_at": EPOCH, "burnt_for": "ab" * 32}, True),
        ):
            secret = add_one_time_token(bench.store, name)
            place = (TENANT, name)
            bench.store.tables.secrets[place] = evolve(
                bench.store.tables.secrets[place], **changes
            )
            error = bench.refuses(ChallengeRejected, OneTimeToken(secret))
            assert reused is error.reused
            assert f"token:{name}" == error.facts["principal"]

    def test_revoked_one_time_token(self) -> None:
        """A secret that was withdrawn buys nothing."""
        bench = _Bench()
        secret = add_one_time_token(bench.store, "once")
        place = (TENANT, "once")
        bench.store.tables.secrets[place] = evolve(
            bench.store.tables.secrets[place], revoked_at=EPOCH
        )
        bench.refuses(ChallengeRejected, OneTimeToken(secret))


class CertificateTests:
    """Client certificates are judged here (A-4)."""

    def test_own_certificate_is_a_principal(self) -> None:
        """A-4: it is proven by its row in the inventory."""
        bench = _Bench()
        certificate = bench.certificate()
        principal = bench.prove(certificate, operation=Operation.RENEW)
        assert principal.certificate is not None
        assert "certificate" == principal.kind
        assert f"issuing:{principal.certificate.serial}" == principal.name
        assert principal.record is not None
        assert certificate.der == principal.record.der

    def test_strangers_certificate_counts_as_not_presented(self) -> None:
        """A factory certificate beside a password does no harm."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        for der in (
            b"",
            b"\x30\x00",
            b"\x30\x82\xff\xff" + bytes(0xFFFF),
            _Bench().certificate().der,
            _Bench().authority.certificate,
        ):
            stranger = ClientCertificate(der)
            bench.refuses(NotAuthenticated, stranger)
            assert "a" == bench.prove(stranger, Password("a", "pw")).name

    def test_no_such_authority(self) -> None:
        """A certificate cannot be judged where the authority is gone."""
        bench = _Bench()
        certificate = bench.certificate()
        bench.authorities.clear()
        bench.refuses(NotAuthenticated, certificate)

    def test_other_tenants_certificate(self) -> None:
        """A-4, R-10: it is not in this tenant's inventory."""
        bench = _Bench()
        certificate = bench.certificate(OTHER_TENANT)
        bench.refuses(NotAuthenticated, certificate)

    def test_certificate_that_is_not_the_recorded_one(self) -> None:
        """A-4: the same serial is not enough: byte for byte."""
        bench = _Bench()
        certificate = bench.certificate()
        ((place, record),) = bench.store.tables.certificates.items()
        for other in (
            evolve(record, der=record.der + b"\x00"),
            evolve(record, authority="another"),
        ):
            bench.store.tables.certificates[place] = other
            bench.refuses(NotAuthenticated, certificate)

    def test_revoked(self) -> None:
        """A-4: a revocation counts at the next request."""
        bench = _Bench()
        certificate = bench.certificate()
        serial = bench.prove(certificate).name.partition(":")[2]
        result_of(
            bench.store.revoke_certificate(
                TENANT, serial, "keyCompromise", "op", bench.now()
            )
        )
        for operation in Operation:
            with pytest.raises(NotAuthorized) as caught:
                bench.prove(certificate, operation=operation)
            # Log and audit name who it was.
            principal = f"certificate:issuing:{serial}"
            assert {"principal": principal} == caught.value.facts

    def test_from_the_future(self) -> None:
        """A-4: a certificate from the future proves nothing (Lamassu)."""
        bench = _Bench()
        certificate = bench.certificate()
        bench.now.step(timedelta(minutes=-5))
        for operation in Operation:
            bench.refuses(NotAuthenticated, certificate, operation=operation)

    def test_expired(self) -> None:
        """A-4: it enrolls nothing; a renewal is the profile's decision."""
        bench = _Bench()
        certificate = bench.certificate()
        end = x509.load_der_x509_certificate(
            certificate.der
        ).not_valid_after_utc
        bench.now.step(end - bench.now())
        bench.prove(certificate)
        bench.now.step(timedelta(seconds=1))
        bench.refuses(NotAuthorized, certificate)
        bench.prove(certificate, operation=Operation.RENEW)


class IdentifyTests:
    """A certificate that asks a question and wants no other."""

    def test_own_certificate(self) -> None:
        """It speaks for itself, while it is good."""
        bench = _Bench()
        certificate = bench.certificate()
        who = bench.prove(certificate)
        found = result_of(
            bench.authenticator.identify(
                ENDPOINT, certificate.der, bench.now()
            )
        )
        assert who == found

    def test_nobody_elses(self) -> None:
        """What this authority did not issue is not authenticated."""
        bench = _Bench()
        with pytest.raises(NotAuthenticated):
            result_of(
                bench.authenticator.identify(
                    ENDPOINT, b"\x30\x00", bench.now()
                )
            )

    def test_expired(self) -> None:
        """Only a renewal may be late."""
        bench = _Bench()
        certificate = bench.certificate()
        end = bench.prove(certificate).certificate.not_after
        with pytest.raises(NotAuthorized):
            result_of(
                bench.authenticator.identify(
                    ENDPOINT, certificate.der, end + timedelta(days=1)
                )
            )


class ChallengeTests:
    """Challenges are judged by the gate that comes with them."""

    def test_gate_is_asked(self) -> None:
        """With the text, the request and the time."""
        bench = _Bench()
        gate = _Gate(Principal("mdm", "phone-1", TENANT))
        challenge = Challenge("secret", gate)
        assert gate.answer == bench.prove(challenge)
        (asked,) = gate.asked
        assert (bench.request(challenge), "secret", bench.now()) == asked

    def test_none_was_sent(self) -> None:
        """The gate decides what an empty one means."""
        gate = _Gate(ChallengeRejected())
        _Bench().refuses(ChallengeRejected, Challenge("", gate))
        assert 1 == len(gate.asked)

    def test_own_certificate_renews_without(self) -> None:
        """The certificate speaks, and the gate is not asked."""
        bench = _Bench()
        certificate = bench.certificate()
        gate = _Gate(ChallengeRejected())
        credentials = (Challenge("old", gate), certificate)
        principal = bench.prove(*credentials, operation=Operation.RENEW)
        assert "certificate" == principal.kind
        assert [] == gate.asked

    def test_strangers_certificate_renews_nothing(self) -> None:
        """And leaves nobody to speak."""
        bench = _Bench()
        gate = _Gate(Principal("mdm", "phone-1", TENANT))
        stranger = ClientCertificate(b"")
        bench.refuses(
            NotAuthenticated,
            stranger,
            Challenge("secret", gate),
            operation=Operation.RENEW,
        )
        assert [] == gate.asked

    def test_each_must_be_right(self) -> None:
        """An enrollment with both: the challenge is judged, and speaks."""
        bench = _Bench()
        certificate = bench.certificate()
        gate = _Gate(Principal("mdm", "phone-1", TENANT))
        assert "mdm" == bench.prove(certificate, Challenge("x", gate)).kind
        gate = _Gate(ChallengeRejected())
        bench.refuses(ChallengeRejected, certificate, Challenge("x", gate))

    def test_token_of_another_protocol(self) -> None:
        """What is for one protocol only is no secret of another."""
        bench = _Bench()
        token = add_one_time_token(bench.store, "once", protocol="other")
        error = bench.refuses(ChallengeRejected, OneTimeToken(token))
        unknown = bench.refuses(ChallengeRejected, OneTimeToken("guess"))
        assert str(unknown) == str(error)
        assert unknown.__dict__ == error.__dict__
        # Nor of its own: it is a challenge, and its MAC would go unseen.
        endpoint = evolve(ENDPOINT, protocol="other")
        bench.refuses(
            ChallengeRejected, OneTimeToken(token), endpoint=endpoint
        )

    def test_token_is_for_whoever_takes_tokens(self) -> None:
        """EST takes one as RFC 7894's otpChallenge, say."""
        bench = _Bench()
        token = add_one_time_token(bench.store, "once")
        bench.prove(OneTimeToken(token))

    def test_challenge_is_no_token(self) -> None:
        """And a challenge is none of the bootstrap's."""
        bench = _Bench()
        made = add_challenge(bench.store, device="a")
        endpoint = evolve(ENDPOINT, protocol="bootstrap")
        bench.refuses(
            ChallengeRejected, OneTimeToken(made.secret), endpoint=endpoint
        )


class _Gate:
    """A gate with one answer for all."""

    renewals = False

    def __init__(self, answer: Principal | Exception) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def admit(self, *arguments: Any) -> Deferred[Any]:
        """Answer."""
        self.asked.append(arguments)
        if isinstance(self.answer, Exception):
            return fail(self.answer)
        return succeed(self.answer)


class ManyCredentialsTests:
    """Each credential present must be right, and one of them speaks."""

    def test_none(self) -> None:
        """Without a credential there is no principal."""
        _Bench().refuses(NotAuthenticated)

    def test_unknown_kind_is_a_fault(self) -> None:
        """R-4: what is not on the list of credentials proves nobody."""
        stranger: Any = object()
        _Bench().refuses(AssertionError, stranger)

    def test_one_wrong_spoils_all(self) -> None:
        """A right password does not cover for a wrong token."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        bench.refuses(
            NotAuthenticated, Password("a", "pw"), BearerToken("x.y")
        )

    def test_order_of_precedence(self) -> None:
        """Token, bearer, basic, certificate; a renewal's certificate."""
        bench = _Bench()
        add_password(bench.store, "a", "pw")
        credentials: list[Credential] = [
            bench.certificate(),
            Password("a", "pw"),
            BearerToken(add_token(bench.store, "t")),
            OneTimeToken(add_one_time_token(bench.store, "once")),
        ]
        spoke = []
        while credentials:
            spoke.append(bench.prove(*credentials).kind)
            renewing = bench.prove(*credentials, operation=Operation.RENEW)
            assert "certificate" == renewing.kind
            credentials.pop()
        assert ["token", "bearer", "basic", "certificate"] == spoke
