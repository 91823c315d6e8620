# SPDX-License-Identifier: MIT
"""Challenges that others have signed: the header, the claims, once."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from mdm_samples import (
    AUDIENCE,
    DEVICE,
    EC_KEY,
    ENDPOINT,
    ISSUER,
    RSA_KEY,
    asking,
    claims,
    encoded,
    issued_as,
    jws,
    public_pem,
)
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from zope.interface.verify import verifyObject

from trstctl.backends.attempts import Attempts
from trstctl.backends.store_memory import MemoryStore
from trstctl.ca.ceremony import make_root
from trstctl.errors import ChallengeRejected, Conflict, Malformed, Throttled
from trstctl.interfaces import IChallengeGate, IDeviceSecrets
from trstctl.model import (
    Challenge,
    EnrollmentRequest,
    Issued,
    OneTimeSecret,
    Principal,
)
from trstctl.protocols.scep.gate_settings import JWSSettings
from trstctl.protocols.scep.jws import (
    MAX_LENGTH,
    JWSGate,
    PinnedKeyError,
    read_pinned_key,
    verified,
)
from trstctl.testing import (
    EPOCH,
    TENANT,
    DeterministicBytes,
    make_ra,
    result_of,
)
from trstctl.vouching import DeviceSecrets

HOUR = timedelta(hours=1)
CSR_KEY = ec.generate_private_key(ec.SECP256R1())


def settings(**changes: Any) -> JWSSettings:
    """Return settings."""
    return JWSSettings.model_validate(
        {
            "keys": (Path("key.pem"),),
            "issuer": ISSUER,
            "audience": AUDIENCE,
            **changes,
        }
    )


@pytest.fixture
def keys(tmp_path: Path) -> Any:
    """Pin both keys."""
    found = []
    for number, key in enumerate((RSA_KEY, EC_KEY)):
        path = tmp_path / f"{number}.pem"
        path.write_bytes(public_pem(key))
        found.append(read_pinned_key(path))
    return found


class Bench:
    """A gate over a store."""

    def __init__(self, keys: Any, failures: int = 0, **changes: Any) -> None:
        self.store: Any = MemoryStore()
        self.ra = make_ra(self.store)
        # Most tests here are of what is wrong, however often.
        self.ra.attempts = Attempts(Clock(), failures or 100_000)
        self.gate: Any = JWSGate(
            settings(**changes),
            keys,
            self.ra.device_secrets,
            self.ra.attempts,
        )

    def admit(
        self,
        text: str,
        request: EnrollmentRequest | None = None,
        now: Any = EPOCH,
    ) -> Principal:
        """Judge a challenge."""
        principal: Principal = result_of(
            self.gate.admit(request or asking(), text, now)
        )
        return principal

    def refuses(
        self, text: str, request: Any = None, now: Any = EPOCH
    ) -> None:
        """See a challenge refused, and nothing kept."""
        before = self.kept()
        with pytest.raises(ChallengeRejected) as caught:
            self.admit(text, request, now)
        assert ChallengeRejected.detail == caught.value.detail
        assert before == self.kept()

    def kept(self) -> int:
        """Return how many rows there are."""
        return len(
            result_of(self.store.list_secrets(TENANT, None, EPOCH, "", 1000))
        )


@pytest.fixture
def bench(keys: Any) -> Bench:
    """Return a gate over a store."""
    return Bench(keys)


class HeaderTests:
    """The key is ours to choose (J-1)."""

    @pytest.mark.parametrize("key", [RSA_KEY, EC_KEY])
    def test_both_algorithms_pass(self, bench: Bench, key: Any) -> None:
        """RS256 and ES256 are verified (RFC 7518, section 3.1)."""
        principal = bench.admit(jws(claims(), key))
        assert "mdm" == principal.kind
        assert DEVICE == principal.device
        assert () == principal.alternative_names

    @pytest.mark.parametrize(
        "algorithm",
        [
            "none",
            "None",
            "HS256",
            "HS512",
            "RS512",
            "PS256",
            "ES384",
            "",
            7,
            None,
        ],
    )
    def test_no_other_algorithm(self, bench: Bench, algorithm: object) -> None:
        """Nothing unsigned, nothing symmetric (RFC 8725, section 3.1)."""
        bench.refuses(jws(claims(), header={"alg": algorithm}))

    def test_key_of_another_kind_is_no_key(self, bench: Bench) -> None:
        """ES256 is not verified with an RSA key, nor RS256 with EC."""
        bench.refuses(jws(claims(), RSA_KEY, {"alg": "ES256"}))
        bench.refuses(jws(claims(), EC_KEY, {"alg": "RS256"}))

    def test_hmac_under_the_public_key(self, bench: Bench) -> None:
        """The public key is no shared secret (RFC 8725, section 2.1)."""
        import hmac

        head = encoded(json.dumps({"alg": "HS256"}).encode())
        signed = f"{head}.{encoded(json.dumps(claims()).encode())}"
        mac = hmac.digest(public_pem(RSA_KEY), signed.encode(), "sha256")
        bench.refuses(f"{signed}.{encoded(mac)}")

    @pytest.mark.parametrize(
        "extra",
        [
            "jku",
            "jwk",
            "x5c",
            "x5u",
            "x5t",
            "crit",
            "b64",
            "zip",
            "cty",
            "own",
        ],
    )
    def test_header_brings_no_key(self, bench: Bench, extra: str) -> None:
        """Whatever else is in a header, it is refused."""
        bench.refuses(jws(claims(), header={"alg": "ES256", extra: ["x"]}))

    def test_key_id_chooses_nothing(self, bench: Bench) -> None:
        """A ``kid`` may be there; all pinned keys are tried."""
        header = {"alg": "ES256", "typ": "JWT", "kid": "../../etc/passwd"}
        bench.admit(jws(claims(), header=header))

    def test_other_keys_sign_nothing(self, bench: Bench) -> None:
        """A signature of a key that is not pinned is none."""
        bench.refuses(jws(claims(), ec.generate_private_key(ec.SECP256R1())))

    def test_every_character_counts(self, bench: Bench) -> None:
        """One character changed anywhere is refused."""
        text = jws(claims())
        for at in range(len(text)):
            other = "A" if text[at] != "A" else "B"
            bench.refuses(text[:at] + other + text[at + 1 :])

    @pytest.mark.parametrize(
        "text",
        [
            "",
            ".",
            "..",
            "a.b",
            "a.b.c.d",
            "\u00e9.b.c",
            "a" * (MAX_LENGTH + 1),
            "e30.e30.",
            "bnVsbA.e30.AA",
        ],
    )
    def test_what_is_no_jws(self, bench: Bench, text: str) -> None:
        """Anything else is refused."""
        bench.refuses(text)

    def test_padding_is_no_base64url(self, bench: Bench) -> None:
        """RFC 7515, section 2: no padding, no white space, one form."""
        head, body, signature = jws(claims()).split(".")
        for text in (
            f"{head}=.{body}.{signature}",
            f"{head}.{body}.{signature}==",
            f"{head}.{body}.{signature} ",
            f"{head}.{body}.{signature}A",
        ):
            bench.refuses(text)

    def test_payload_is_an_object(self, bench: Bench) -> None:
        """Claims are an object, each once (RFC 7519, section 4)."""
        bench.refuses(jws(b"[]"))
        bench.refuses(jws(b"not JSON"))
        bench.refuses(jws(b'{"exp": NaN}'))
        whole = json.dumps(claims())[:-1].encode()
        bench.refuses(jws(whole + b', "aud": "trstctl"}'))
        bench.refuses(jws(b'{"a":' * 5000 + b"1" + b"}" * 5000))


class ClaimsTests:
    """What is not said is not unlimited (J-2)."""

    @pytest.mark.parametrize(
        "claim", ["iss", "aud", "exp", "jti", "device_name", "san_dns"]
    )
    def test_is_mandatory(self, bench: Bench, claim: str) -> None:
        """Each of these must be there."""
        bench.refuses(jws(claims(**{claim: None})))

    @pytest.mark.parametrize(
        ("claim", "value"),
        [
            ("version", "v2"),
            ("version", 1),
            ("iss", "https://other.example"),
            ("iss", ["https://mdm.example"]),
            ("aud", "other"),
            ("aud", ""),
            ("aud", []),
            ("aud", ["other"]),
            ("aud", {"trstctl": 1}),
            ("jti", ""),
            ("jti", 5),
            ("jti", "a\nb"),
            ("jti", "x" * 513),
            ("device_name", ""),
            ("device_name", "phone-2"),
            ("device_name", "Phone-1"),
            ("device_name", ["phone-1"]),
            ("exp", "2026"),
            ("exp", True),
            ("exp", 1e300),
            ("iat", "now"),
            ("san_dns", "phone-1.example"),
            ("san_dns", [None]),
            ("san_dns", [1]),
            ("san_dns", ["a"] * 33),
            ("san_dns", ["phone-1.example"]),
            ("san_upn", ["a@b.example"]),
        ],
    )
    def test_wrong_value(
        self, bench: Bench, claim: str, value: object
    ) -> None:
        """A value that is another, or no such value, is refused."""
        bench.refuses(jws(claims(**{claim: value})))

    @pytest.mark.parametrize(
        "changes",
        [
            {"version": "v1"},
            {"aud": ["other", AUDIENCE]},
            {"iat": None},
            {"jti": None, "nonce": "two"},
            {"san_dns": None, "san_upn": []},
            {"sub": "whoever", "own": {"a": 1}},
            {"exp": EPOCH.timestamp() + 0.5},
        ],
    )
    def test_right_value(self, bench: Bench, changes: Any) -> None:
        """What is said otherwise, and means the same, passes."""
        bench.admit(jws(claims(**changes)))

    def test_end_has_no_skew(self, bench: Bench) -> None:
        """A challenge is over when it says so."""
        text = jws(claims())
        bench.refuses(text, now=EPOCH + HOUR)
        bench.admit(text, now=EPOCH + HOUR - timedelta(seconds=1))

    def test_end_is_bounded(self, keys: Any) -> None:
        """Nobody signs for ever."""
        bench = Bench(keys, longest="3599s")
        bench.refuses(jws(claims()))
        bench.admit(jws(claims()), now=EPOCH + timedelta(seconds=1))

    @pytest.mark.parametrize("claim", ["iat", "nbf"])
    def test_beginning_may_be_a_minute_off(
        self, bench: Bench, claim: str
    ) -> None:
        """Clocks differ by a minute, no more."""
        now = int(EPOCH.timestamp())
        bench.admit(jws(claims(**{claim: now + 60})))
        bench.refuses(jws(claims(**{claim: now + 61, "jti": "later"})))


class NamesTests:
    """The request asks for what the claims say, as a set (J-3)."""

    NAMES = ("dns:b.example", "dns:a.example", "email:me@a.example")

    def signed(self, **changes: object) -> str:
        """Return claims with three kinds of names."""
        return jws(
            claims(
                san_dns=["A.example", "b.example"],
                san_rfc822=["me@a.example"],
                san_upn=["me@corp.example"],
                **changes,
            )
        )

    def test_set_is_equal(self, bench: Bench) -> None:
        """Order and letter case of DNS names do not count."""
        request = asking(names=self.NAMES, upn="me@corp.example")
        principal = bench.admit(self.signed(), request)
        assert (
            "dns:a.example",
            "dns:b.example",
            "email:me@a.example",
            "upn:me@corp.example",
        ) == principal.alternative_names

    def test_none_may_be_missing(self, bench: Bench) -> None:
        """A subset is another set."""
        bench.refuses(self.signed(), asking(names=self.NAMES))

    @pytest.mark.parametrize(
        "extra", ["dns:c.example", "ip:192.0.2.1", "uri:https://a.example"]
    )
    def test_none_may_be_more(self, bench: Bench, extra: str) -> None:
        """So is a superset, of whatever kind."""
        request = asking(names=(*self.NAMES, extra), upn="me@corp.example")
        bench.refuses(self.signed(), request)

    def test_empty_means_none(self, bench: Bench) -> None:
        """An empty list lets no name pass."""
        bench.refuses(jws(claims()), asking(names=("dns:a.example",)))

    def test_name_that_is_none_matches_nothing(self, bench: Bench) -> None:
        """A claim that can be no name is no way to any other."""
        bench.refuses(jws(claims(san_dns=["not a name"])))

    def test_common_name_is_the_only_one(self, bench: Bench) -> None:
        """A request without a common name is for no device."""
        bench.refuses(jws(claims()), asking(device=""))


class OnceTests:
    """One challenge, one key (J-4)."""

    def test_same_again_is_the_same(self, bench: Bench) -> None:
        """A device that asks again is who it was."""
        text = jws(claims())
        request = asking()
        first = bench.admit(text, request)
        assert first == bench.admit(text, request)
        assert 1 == bench.kept()
        assert first.secret_id is not None
        assert first.name == f"jws:{first.secret_id}"

    def test_row_is_bound(self, bench: Bench) -> None:
        """What the store keeps has an end, and is for one profile."""
        principal = bench.admit(jws(claims()))
        record = result_of(
            bench.store.find_secret_by_id(TENANT, principal.secret_id)
        )
        assert EPOCH + HOUR == record.expires_at
        assert ("device", "scep", DEVICE, 1) == (
            record.profile,
            record.protocol,
            record.device,
            record.uses,
        )
        assert 64 == len(record.digest)

    def test_other_issuers_names_are_others(self, keys: Any) -> None:
        """Two issuers may use one name for a challenge."""
        bench = Bench(keys)
        bench.admit(jws(claims()))
        bench.gate = JWSGate(
            settings(issuer="other"),
            keys,
            bench.ra.device_secrets,
            bench.ra.attempts,
        )
        bench.admit(jws(claims(iss="other")))
        assert 2 == bench.kept()

    def test_buys_one_certificate(self, bench: Bench) -> None:
        """The store burns it; another key is refused, and is an alarm."""
        text = jws(claims())

        def enroll(key: Any) -> Issued:
            request = asking(key=key)
            credential = Challenge(text, bench.gate)
            outcome = result_of(
                bench.ra.enroll(
                    EnrollmentRequest(
                        ENDPOINT,
                        request.operation,
                        request.wanted,
                        (credential,),
                        "r",
                        "192.0.2.1",
                        transaction="T1",
                    )
                )
            )
            assert isinstance(outcome, Issued)
            return outcome

        first = enroll(CSR_KEY)
        assert first.principal.startswith("mdm:jws:")
        with pytest.raises(ChallengeRejected) as caught:
            enroll(ec.generate_private_key(ec.SECP256R1()))
        assert caught.value.reused

    def test_device_is_limited(self, keys: Any) -> None:
        """A device gets so many challenges in a time, and no more."""
        bench = Bench(keys, device_limit=2, device_window="1h")
        for jti in ("1", "2"):
            bench.admit(jws(claims(jti=jti)))
        bench.refuses(jws(claims(jti="3")))
        bench.admit(jws(claims(jti="2")))  # the same again
        other = asking("phone-2")
        bench.admit(jws(claims(device_name="phone-2")), other)

    def test_limit_is_of_a_window(self, keys: Any) -> None:
        """After the window a device may come again."""
        bench = Bench(keys, device_limit=1, device_window="60s")
        bench.admit(jws(claims()))
        later = EPOCH + timedelta(seconds=61)
        bench.admit(jws(claims(jti="2")), now=later)

    def test_limit_counts_among_many(self, keys: Any) -> None:
        """However many a device has had, those of the window are found."""
        bench = Bench(keys, device_limit=2, device_window="10m")
        begin = int(EPOCH.timestamp())

        def text(jti: str, at: int) -> str:
            return jws(claims(jti=jti, iat=at, exp=at + 3600))

        for number in range(230):
            # Each ends an hour after it was made, far ahead of the window.
            at = number * 301
            now = EPOCH + timedelta(seconds=at)
            bench.admit(text(str(number), begin + at), now=now)
        bench.refuses(text("more", begin + at), now=now)

    def test_limit_counts_beyond_a_page(self, keys: Any) -> None:
        """Those of the window may be more than the store lists at once."""
        bench = Bench(keys, device_limit=100, device_window="1h")
        for number in range(100):
            bench.admit(jws(claims(jti=str(number))))
        bench.refuses(jws(claims(jti="more")))
        later = EPOCH + timedelta(seconds=3599)
        bench.refuses(jws(claims(jti="later")), now=later)

    def test_others_beyond_a_page_do_not_count(self, keys: Any) -> None:
        """The search ends where the device's secrets do."""
        bench = Bench(keys, device_limit=1)
        others = tuple(
            OneTimeSecret(
                TENANT,
                f"z{number:03}",
                f"{number:064}",
                "device",
                (),
                EPOCH,
                EPOCH + HOUR,
                device=DEVICE,
            )
            for number in range(120)
        )
        result_of(bench.store.add_secrets(others, "test"))
        bench.admit(jws(claims()))

    def test_device_secrets_provide_the_interface(self, bench: Bench) -> None:
        """What keeps them is what the interface says."""
        assert verifyObject(IDeviceSecrets, bench.ra.device_secrets)

    def test_nobody_is_told(self, bench: Bench) -> None:
        """What becomes of it, the store knows; the gate is done."""
        assert verifyObject(IChallengeGate, bench.gate)
        principal = bench.admit(jws(claims()))
        outcome = issued_as(b"")
        assert None is result_of(
            bench.gate.issued(asking(), principal, outcome)
        )
        assert None is result_of(
            bench.gate.refused(asking(), ChallengeRejected())
        )


class PinnedKeyTests:
    """Keys come from files."""

    def certificate(self, tmp_path: Path) -> Path:
        """Write a certificate of the EC key."""
        der = make_root(EC_KEY, "signer", EPOCH, DeterministicBytes("x"))
        path = tmp_path / "signer.pem"
        pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
        path.write_bytes(pem)
        return path

    def test_certificate_has_an_end(self, tmp_path: Path) -> None:
        """A pinned certificate is good while it is in date."""
        key = read_pinned_key(self.certificate(tmp_path))
        assert key.begins is not None
        assert key.ends is not None
        text = jws(claims())
        assert DEVICE == verified(text, [key], EPOCH)["device_name"]
        for moment in (key.begins - HOUR, key.ends + HOUR):
            with pytest.raises(Malformed):
                verified(text, [key], moment)

    @pytest.mark.parametrize(
        "key",
        [
            rsa.generate_private_key(65537, 1024),
            ec.generate_private_key(ec.SECP384R1()),
            ed25519.Ed25519PrivateKey.generate(),
        ],
    )
    def test_key_that_could_not_sign(self, tmp_path: Path, key: Any) -> None:
        """A weak key, or one of another kind, is a fault at once."""
        path = tmp_path / "key.pem"
        path.write_bytes(public_pem(key))
        with pytest.raises(PinnedKeyError, match="can sign challenges"):
            read_pinned_key(path)

    @pytest.mark.parametrize(
        "content", [b"", b"-----BEGIN CERTIFICATE-----\nAA\n", b"x"]
    )
    def test_no_key(self, tmp_path: Path, content: bytes) -> None:
        """What is no key is a fault at once."""
        path = tmp_path / "key.pem"
        path.write_bytes(content)
        with pytest.raises(PinnedKeyError, match="neither"):
            read_pinned_key(path)


# --- what keeps them --------------------------------------------------------


class _Racing(MemoryStore):
    """A store in which somebody is always a moment faster."""

    def __init__(self, *, vanish: bool = False, crowd: int = 0) -> None:
        super().__init__()
        self.vanish, self.crowd = vanish, crowd

    def add_secrets(self, secrets: Any, actor: str) -> Any:
        """Let others add theirs first."""
        from attrs import evolve

        (secret,) = secrets
        if self.vanish:
            raise Conflict
        if self.crowd:
            for number in range(self.crowd):
                other = evolve(
                    secret,
                    id=f"{secret.id}{number}",
                    digest=f"{number:064}",
                )
                super().add_secrets((other,), actor)
        elif secret.id not in {one for _, one in self.tables.secrets}:
            super().add_secrets((evolve(secret, digest="1" * 64),), actor)
        return super().add_secrets(secrets, actor)


class RaceTests:
    """Several at once."""

    def gate(self, keys: Any, store: Any) -> Any:
        """Return a gate over a store."""
        ra = make_ra(store)
        secrets: Any = DeviceSecrets(
            store, ra.challenges, ra.now, DeterministicBytes("x")
        )
        attempts: Any = Attempts(Clock())
        return JWSGate(settings(), keys, secrets, attempts)

    def test_same_one_twice_at_once(self, keys: Any) -> None:
        """Both are who it is, and the store has one row."""
        store: Any = _Racing()
        gate = self.gate(keys, store)
        principal = result_of(gate.admit(asking(), jws(claims()), EPOCH))
        assert principal.secret_id is not None

    def test_conflict_without_a_row(self, keys: Any) -> None:
        """What meets something else is refused."""
        gate = self.gate(keys, _Racing(vanish=True))
        with pytest.raises(ChallengeRejected):
            result_of(gate.admit(asking(), jws(claims()), EPOCH))

    def test_too_many_at_once(self, keys: Any) -> None:
        """The limit is kept by whoever comes last (V-3)."""
        gate = self.gate(keys, _Racing(crowd=3))
        with pytest.raises(ChallengeRejected):
            result_of(gate.admit(asking(), jws(claims()), EPOCH))


class ThrottleTests:
    """Wrong ones are throttled, right ones never (J-5)."""

    def test_wrong_ones_wait(self, keys: Any) -> None:
        """After ten a minute from one address, without a line in the log."""
        bench = Bench(keys, failures=10)
        for _ in range(10):
            bench.refuses("x")
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        with pytest.raises(Throttled):
            bench.admit("x")
        globalLogPublisher.removeObserver(events.append)
        assert [] == events

    def test_a_right_one_passes(self, keys: Any) -> None:
        """Nobody can guess it, so it says enough."""
        bench = Bench(keys, failures=1)
        bench.refuses("x")
        assert DEVICE == bench.admit(jws(claims())).device
