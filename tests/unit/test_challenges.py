# SPDX-License-Identifier: MIT
"""Challenges of our own and their keys: C-1 to C-6."""

from __future__ import annotations

import json
import os
import string
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from zope.interface.verify import verifyObject

from trstctl import challenges
from trstctl.backends.keyfiles import KeyFileError
from trstctl.backends.passwords import secret_digest
from trstctl.challenges import (
    LENGTH,
    MAX_KEYS,
    ChallengeTokens,
    KeyRing,
    key_ring,
    texts_under,
)
from trstctl.errors import ChallengeRejected, Throttled, Unavailable
from trstctl.interfaces import IChallengeGate, IChallengeTokens
from trstctl.model import (
    Challenge,
    ClientCertificate,
    Endpoint,
    EnrollmentRequest,
    Issued,
    MintedSecret,
    Operation,
    Principal,
)
from trstctl.testing import (
    CHALLENGE_KEYS,
    EPOCH,
    OTHER_TENANT,
    TENANT,
    DeterministicBytes,
    MemoryStore,
    WallClock,
    add_challenge,
    make_ra,
    make_request,
    result_of,
)

ENDPOINT = Endpoint("scep", "", TENANT, "device", "issuing")


class _Bench:
    """A gate, and devices before it."""

    def __init__(self, failures: int = 10) -> None:
        self.clock = Clock()
        self.now = WallClock(self.clock)
        self.store: Any = MemoryStore()
        self.keys = dict(CHALLENGE_KEYS)
        self.gate: Any = ChallengeTokens(
            self.store, lambda: self.keys, self.clock, failures
        )
        self.wanted = make_request("router-1")

    def challenge(self, **wishes: Any) -> MintedSecret:
        """Return a new challenge, by default for the router."""
        if not {"device", "subject"} & set(wishes):
            wishes["device"] = "router-1"
        return add_challenge(self.store, **wishes)

    def request(self, **other: Any) -> EnrollmentRequest:
        """Return a request."""
        facts: dict[str, Any] = {
            "endpoint": ENDPOINT,
            "operation": Operation.ENROLL,
            "wanted": self.wanted,
            "credentials": (),
            "request_id": "rid",
            "peer": "192.0.2.1",
            **other,
        }
        return EnrollmentRequest(**facts)

    def admit(self, text: str, **other: Any) -> Principal:
        """Pass the gate."""
        principal: Principal = result_of(
            self.gate.admit(self.request(**other), text, self.now())
        )
        return principal

    def refuses(
        self,
        text: str,
        error: type[Exception] = ChallengeRejected,
        **other: Any,
    ) -> Any:
        """Do not pass it; whatever is wrong, nothing is told."""
        with pytest.raises(error) as caught:
            self.admit(text, **other)
        assert error is caught.type
        assert error.detail == str(caught.value)  # type: ignore[attr-defined]
        return caught.value

    def change(self, made: MintedSecret, **changes: Any) -> None:
        """Change the row of a challenge behind the gateway's back."""
        place = (TENANT, made.record.id)
        secrets = self.store.tables.secrets
        secrets[place] = evolve(secrets[place], **changes)


class TextTests:
    """What a challenge looks like."""

    def test_alphabet(self) -> None:
        """RFC 2985, 5.4.1: a PrintableString that any device can carry."""
        made = _Bench().challenge()
        assert 55 == LENGTH == len(made.secret)
        assert set(made.secret) <= set(string.ascii_uppercase + "234567")
        assert made.secret not in repr(made)
        assert secret_digest(made.secret) == made.record.digest

    def test_made_again_from_its_row(self) -> None:
        """The same row and key make the same challenge."""
        made = _Bench().challenge()
        record = evolve(made.record, digest="")
        assert [made.secret] == list(texts_under(CHALLENGE_KEYS, record))

    def test_newest_key_first(self) -> None:
        """C-5: the last one makes challenges, the others prove them."""
        bench = _Bench()
        made = bench.challenge()
        bench.keys[7] = bytes(32)
        newest, old = bench.gate.texts(made.record)
        assert made.secret == old != newest

    @pytest.mark.parametrize(
        "typed",
        [
            str.lower,
            lambda text: " ".join(text[at : at + 5] for at in range(0, 55, 5)),
            lambda text: "-".join((text[:11], text[11:])) + " ",
        ],
    )
    def test_typed_by_people(self, typed: Any) -> None:
        """Small letters, spaces and hyphens do no harm."""
        bench = _Bench()
        assert "token" == bench.admit(typed(bench.challenge().secret)).kind


class GateTests:
    """Who passes, as whom, and who does not."""

    def test_provides_the_interfaces(self) -> None:
        """A gate that also makes what it judges."""
        gate = _Bench().gate
        assert verifyObject(IChallengeGate, gate)
        assert verifyObject(IChallengeTokens, gate)

    def test_principal(self) -> None:
        """C-1: it speaks for what it is bound to."""
        bench = _Bench()
        made = bench.challenge(
            device="router-1",
            subject="CN=router-1, O=Example",
            alternative_names=("dns:B.example", "dns:a.example"),
        )
        assert Principal(
            "token",
            made.record.id,
            TENANT,
            profiles=("device",),
            secret_id=made.record.id,
            subject="CN=router-1,O=Example",
            alternative_names=("dns:a.example", "dns:b.example"),
            device="router-1",
        ) == bench.admit(made.secret)

    def test_unbound(self) -> None:
        """What it is not bound to is the profile's."""
        bench = _Bench()
        principal = bench.admit(bench.challenge(device="").secret)
        assert (None, None, None) == (
            principal.subject,
            principal.alternative_names,
            principal.device,
        )

    def test_nothing_to_hear(self) -> None:
        """C-2: the store has burnt it, or kept it."""
        bench = _Bench()
        request = bench.request()
        issued = Issued(b"", (), "1", "device", "token:a")
        principal = Principal("token", "a", TENANT)
        assert result_of(bench.gate.issued(request, principal, issued)) is None
        refused = bench.gate.refused(request, ChallengeRejected())
        assert result_of(refused) is None

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "guess",
            "A" * LENGTH,
            "A" * (LENGTH - 1),
            "A" * (LENGTH + 1),
            "1" * LENGTH,
            "\u0391" * LENGTH,
            " " * 10_000,
            "A" * (LENGTH - 1) + "B",
        ],
    )
    def test_malformed(self, text: str) -> None:
        """C-3: what is no challenge is refused as a wrong one is."""
        error = _Bench().refuses(text)
        assert not error.reused
        assert {} == error.facts

    def test_one_character_changed(self) -> None:
        """C-1: any character that is changed makes it worthless."""
        bench = _Bench(failures=1000)
        text = bench.challenge().secret
        for at, character in enumerate(text):
            other = "A" if character != "A" else "B"
            bench.refuses(text[:at] + other + text[at + 1 :])
        bench.admit(text)

    def test_elsewhere(self) -> None:
        """C-1, C-3: not for another tenant, protocol or profile."""
        bench = _Bench()
        made = bench.challenge()
        for change in (
            {"tenant_id": OTHER_TENANT},
            {"protocol": "cmp"},
            {"profile": "tls-client"},
        ):
            bench.refuses(made.secret, endpoint=evolve(ENDPOINT, **change))

    def test_named_for_the_log(self) -> None:
        """What is ours, and out of place, is named in the audit log."""
        bench = _Bench()
        made = bench.challenge()
        endpoint = evolve(ENDPOINT, profile="tls-client")
        error = bench.refuses(made.secret, endpoint=endpoint)
        assert {"principal": f"token:{made.record.id}"} == error.facts

    def test_token_is_no_challenge(self) -> None:
        """A row of the bootstrap's is none, whatever is made of it."""
        bench = _Bench()
        made = bench.challenge(protocol="bootstrap")
        bench.refuses(made.secret)

    @pytest.mark.parametrize(
        "change",
        [
            {"profile": "tls-client"},
            {"device": "router-2"},
            {"subject": "CN=router-2"},
            {"alternative_names": ("dns:b.example",)},
            {"alternative_names": ()},
            {"alternative_names": None},
            {"names": ("cn:*",)},
            {"key_fingerprint": "ab" * 32},
            {"uses": 2},
            {"expires_at": EPOCH + timedelta(days=9)},
            {"id": "00" * 12},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_row_that_was_changed(self, change: dict[str, Any]) -> None:
        """C-1: who can write to the store still has no challenge."""
        bench = _Bench()
        made = bench.challenge(
            subject="CN=router-1", alternative_names=("dns:a.example",)
        )
        bench.admit(made.secret)
        bench.change(made, **change)
        profile = change.get("profile", "device")
        bench.refuses(made.secret, endpoint=evolve(ENDPOINT, profile=profile))

    def test_row_of_another_end(self) -> None:
        """C-1: parts of a second belong to nobody."""
        bench = _Bench()
        made = bench.challenge(life=timedelta(seconds=1.5))
        bench.admit(made.secret)

    def test_key_that_is_gone(self) -> None:
        """C-5: who replaces a key and drops the old ends what is out."""
        bench = _Bench()
        made = bench.challenge()
        bench.keys[2] = bytes(32)
        bench.admit(made.secret)
        del bench.keys[1]
        bench.refuses(made.secret)

    def test_revoked(self) -> None:
        """It buys nothing any more."""
        bench = _Bench()
        made = bench.challenge()
        result_of(
            bench.store.revoke_secret(TENANT, made.record.id, "ann", EPOCH)
        )
        bench.refuses(made.secret)

    def test_expired(self) -> None:
        """To the second; the log names it."""
        bench = _Bench()
        made = bench.challenge(life=timedelta(minutes=1))
        bench.clock.advance(60)
        error = bench.refuses(made.secret)
        assert not error.reused
        assert {"principal": f"token:{made.record.id}"} == error.facts

    def test_keys_that_cannot_be_read(self) -> None:
        """Nobody passes, and the log says why."""
        bench = _Bench()
        made = bench.challenge()

        def broken() -> Any:
            raise KeyFileError("others may read it")

        bench.gate._read_keys = broken
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        try:
            bench.refuses(made.secret, Unavailable)
        finally:
            globalLogPublisher.removeObserver(events.append)
        (event,) = events
        assert "challenge.keys.failed" == event["event"]
        assert "others may read it" == event["reason"]


class ThrottleTests:
    """C-4: guessing is slowed down, and does not lock out who knows."""

    def test_by_address(self) -> None:
        """Ten wrong ones from an address, then none is looked at."""
        bench = _Bench()
        for number in range(10):
            bench.refuses("guess", wanted=make_request(f"d{number}"))
        error = bench.refuses("guess", Throttled, wanted=make_request("x"))
        assert error.retry_after
        bench.refuses("guess", peer="192.0.2.2")
        bench.admit(bench.challenge().secret)

    def test_by_device(self) -> None:
        """Ten wrong ones for a device, wherever they come from."""
        bench = _Bench()
        for number in range(10):
            bench.refuses("guess", peer=f"198.51.100.{number}")
        bench.refuses("guess", Throttled, peer="203.0.113.1")
        wanted = make_request("ROUTER-1")
        bench.refuses("guess", Throttled, peer="203.0.113.1", wanted=wanted)
        other = make_request("router-2")
        bench.refuses("guess", peer="203.0.113.1", wanted=other)
        bench.admit(bench.challenge().secret)

    def test_who_leaves_has_guessed_all_the_same(self) -> None:
        """To hang up before a costly key is derived is no way past it."""
        bench = _Bench()
        derived: list[Deferred[bool]] = []

        def knows(_: str) -> Deferred[bool]:
            derived.append(Deferred())
            return derived[-1]

        for number in range(10):
            proof = bench.gate.prove(
                ENDPOINT, f"{number}", "192.0.2.1", knows, costly=True
            )
            proof.addErrback(lambda _: None).cancel()
        for one in derived:
            one.callback(False)
        with pytest.raises(Throttled) as caught:
            result_of(
                bench.gate.prove(
                    ENDPOINT, "x", "192.0.2.1", knows, costly=True
                )
            )
        assert caught.value.retry_after
        assert 10 == len(derived)

    def test_nameless(self) -> None:
        """A request without a name counts for its address."""
        bench = _Bench(failures=1)
        wanted = make_request("", ("dns:a.example",))
        bench.refuses("guess", wanted=wanted)
        bench.refuses("guess", Throttled, wanted=wanted)


class EnrollmentTests:
    """All of the way: what a challenge buys."""

    def bench(self) -> tuple[_Bench, Any]:
        """Return a gate that is the registration authority's."""
        bench = _Bench()
        ra = make_ra(bench.store, clock=bench.clock, now=bench.now)
        bench.gate = ra.challenges
        return bench, ra

    def enroll(self, bench: _Bench, ra: Any, text: str, **other: Any) -> Any:
        """Enroll with a challenge."""
        credentials = (Challenge(text, bench.gate),)
        return result_of(
            ra.enroll(bench.request(credentials=credentials, **other))
        )

    def test_one_certificate(self) -> None:
        """C-2: the winner's retry gets its own; another key is an alarm."""
        bench, ra = self.bench()
        text = bench.challenge().secret
        first = self.enroll(bench, ra, text)
        again = self.enroll(bench, ra, text)
        assert (first.certificate, True) == (again.certificate, again.replayed)
        with pytest.raises(ChallengeRejected) as caught:
            self.enroll(bench, ra, text, wanted=make_request("router-1"))
        assert caught.value.reused

    def test_signed_anew(self) -> None:
        """The same key and wishes, signed again, get the same certificate."""
        bench, ra = self.bench()
        text = bench.challenge().secret
        key = ec.generate_private_key(ec.SECP256R1())
        first, again = (
            self.enroll(
                bench, ra, text, wanted=make_request("router-1", key=key)
            )
            for _ in range(2)
        )
        assert first.certificate == again.certificate

    @pytest.mark.parametrize("uses", [1, 3])
    def test_64_at_once(self, uses: int) -> None:
        """Of 64 devices with one challenge, so many get a certificate."""
        bench, ra = self.bench()
        text = bench.challenge(uses=uses).secret
        outcomes: list[Any] = []
        wanted = [make_request("router-1") for _ in range(64)]
        for one in wanted:
            ra.enroll(
                bench.request(
                    credentials=(Challenge(text, bench.gate),), wanted=one
                )
            ).addBoth(outcomes.append)
        issued = [one for one in outcomes if isinstance(one, Issued)]
        assert (64, uses) == (len(outcomes), len(issued))
        again = self.enroll(bench, ra, text, wanted=wanted[0])
        assert issued[0].certificate == again.certificate

    def test_whose_name_it_is(self) -> None:
        """
        CERT VU#971035: who has a challenge does not choose the name; and
        what the profile refuses burns nothing.
        """
        bench, ra = self.bench()
        text = bench.challenge(
            subject="CN=router-1", alternative_names=("dns:r1.example",)
        ).secret
        for name, names in (
            ("router-2", ("dns:r1.example",)),
            ("router-1", ()),
            ("router-1", ("dns:r1.example", "dns:r2.example")),
            ("router-1", ("dns:r2.example",)),
        ):
            with pytest.raises(Exception, match="principal-"):
                self.enroll(bench, ra, text, wanted=make_request(name, names))
        wanted = make_request("router-1", ("dns:r1.example",))
        assert isinstance(self.enroll(bench, ra, text, wanted=wanted), Issued)


class RenewalTests:
    """C-6: what a renewal brings, which needs no challenge."""

    def renew(self, text: str, *, profile: str = "device") -> Any:
        """Enroll a router, and renew with a challenge."""
        bench = self.bench = _Bench()
        self.ra: Any = make_ra(bench.store, clock=bench.clock, now=bench.now)
        bench.gate = self.ra.challenges
        own = bench.challenge(subject="CN=router-1").secret
        first = result_of(
            self.ra.enroll(
                bench.request(credentials=(Challenge(own, bench.gate),))
            )
        )
        others = {
            "own": own,
            "its key": bench.challenge(
                device="ROUTER-1", key_fingerprint="ab" * 32
            ).secret,
            "unknown": texts_of_nobody(),
            "device": bench.challenge(device="router-2").secret,
            "subject": bench.challenge(subject="CN=router-2").secret,
            "names": bench.challenge(
                device="router-1", alternative_names=("dns:a.example",)
            ).secret,
            "no names": bench.challenge(
                device="router-1", alternative_names=()
            ).secret,
            "profile": bench.challenge(
                device="router-1", profile="server"
            ).secret,
        }
        bench.clock.advance(3600 * 24 * 60)
        return result_of(
            self.ra.enroll(
                bench.request(
                    operation=Operation.RENEW,
                    wanted=make_request("router-1"),
                    credentials=(
                        ClientCertificate(first.certificate),
                        Challenge(others.get(text, text), bench.gate),
                    ),
                )
            )
        )

    @pytest.mark.parametrize(
        "text", ["", "hello", "unknown", "own", "its key", "no names"]
    )
    def test_that_says_nothing(self, text: str) -> None:
        """None, none of ours, and its own, however old."""
        assert isinstance(self.renew(text), Issued)

    @pytest.mark.parametrize("text", ["device", "subject", "names", "profile"])
    def test_of_another(self, text: str) -> None:
        """Refused, with an alarm that names it; the peer is told nothing."""
        with pytest.raises(ChallengeRejected) as caught:
            self.renew(text)
        assert ChallengeRejected.detail == str(caught.value)
        records = result_of(self.bench.store.audit_records(TENANT, 0, 1000))
        alarm = json.loads(records[-1].body)
        assert "secret.misused" == alarm["event"]
        assert alarm["actor"].startswith("token:")
        assert "renew" == alarm["fields"]["operation"]

    def test_keys_that_cannot_be_read(self) -> None:
        """Whoever has a certificate renews all the same."""

        def keys() -> Any:
            raise OSError("gone")

        bench = _Bench()
        text = bench.challenge(device="router-2").secret
        bench.gate = ChallengeTokens(bench.store, keys, bench.clock)
        looked = bench.gate.check_renewal(bench.request(), text)
        assert result_of(looked) is None


def texts_of_nobody() -> str:
    """Return a challenge of ours that is in no store."""
    return add_challenge(MemoryStore(), device="nobody").secret


class KeyRingTests:
    """C-5: the file of the keys."""

    def ring(self, tmp_path: Path, name: str = "ring") -> KeyRing:
        """Return a process's view of the file."""
        return key_ring(tmp_path / "state", DeterministicBytes(name))

    def file(self, tmp_path: Path) -> Path:
        """Return where the file is."""
        return tmp_path / "state" / "credentials" / "challenge-keys"

    def test_made_by_itself(self, tmp_path: Path) -> None:
        """For its owner only, and nothing is left beside it."""
        keys = self.ring(tmp_path).keys()
        assert [(1, 32)] == [(one, len(key)) for one, key in keys.items()]
        file = self.file(tmp_path)
        assert 0o600 == file.stat().st_mode & 0o777
        assert 0o700 == file.parent.stat().st_mode & 0o777
        assert [file] == list(file.parent.iterdir())

    def test_several_processes(self, tmp_path: Path) -> None:
        """They agree, also on a key that one of them has made."""
        one, two = self.ring(tmp_path, "1"), self.ring(tmp_path, "2")
        assert one.keys() == two.keys()
        assert 2 == two.rotate()
        assert [1, 2] == list(one.keys())
        assert one.keys() == two.keys()

    def test_two_make_it_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first one's key is everybody's."""
        link = os.link
        others: list[Any] = []

        def late(source: Path, target: Path) -> None:
            monkeypatch.setattr(os, "link", link)
            others.append(self.ring(tmp_path, "other").keys())
            link(source, target)

        monkeypatch.setattr(os, "link", late)
        assert [self.ring(tmp_path).keys()] == others

    def test_read_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that stays what it was is not read again."""
        ring = self.ring(tmp_path)
        keys = ring.keys()
        monkeypatch.setattr(challenges, "read_keys", None)
        assert keys is ring.keys()

    def test_rotation_is_bounded(self, tmp_path: Path) -> None:
        """The oldest goes, and a number that is in use is not used twice."""
        ring = self.ring(tmp_path)
        numbers = [ring.rotate() for _ in range(300)]
        assert [*range(2, 256), 0, 1] == numbers[:256]
        assert numbers[-MAX_KEYS:] == list(ring.keys())

    def test_drop(self, tmp_path: Path) -> None:
        """Only the new one is left."""
        ring = self.ring(tmp_path)
        old = ring.keys()[1]
        ring.rotate(drop=True)
        assert [2] == list(ring.keys())
        assert old not in ring.keys().values()

    @pytest.mark.parametrize(
        "text",
        ["", "1\n", "x " + "ab" * 32, "1 ab", "256 " + "ab" * 32, "\xff"],
    )
    def test_broken(self, tmp_path: Path, text: str) -> None:
        """A file that nobody can read is told, and left alone."""
        ring = self.ring(tmp_path)
        ring.keys()
        file = self.file(tmp_path)
        file.unlink()
        file.write_text(text, encoding="latin-1")
        file.chmod(0o600)
        with pytest.raises(KeyFileError, match="64 hexadecimal digits"):
            ring.keys()
        assert text == file.read_text(encoding="latin-1")

    def test_readable_by_others(self, tmp_path: Path) -> None:
        """A key that others have seen is none."""
        self.ring(tmp_path).keys()
        self.file(tmp_path).chmod(0o640)
        with pytest.raises(KeyFileError, match="chmod 600"):
            self.ring(tmp_path).keys()
