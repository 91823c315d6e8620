# SPDX-License-Identifier: MIT
"""How single-use secrets are made, and by whom: M-1 to M-3."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from trstctl.backends.passwords import secret_digest
from trstctl.challenges import ChallengeTokens
from trstctl.errors import (
    ChallengeRejected,
    Conflict,
    Malformed,
    NotAuthenticated,
    NotAuthorized,
    UnknownCertificate,
)
from trstctl.interfaces import IRegistrar
from trstctl.minting import (
    MAX_COUNT,
    MAX_LIFE,
    MAX_NAMES,
    MAX_PATTERN,
    MAX_USES,
    canonical_order,
    check_order,
    check_secret,
    derived,
    is_bound,
    mint,
    principal_of,
)
from trstctl.model import (
    BearerToken,
    Endpoint,
    MintedSecret,
    OneTimeSecret,
    Principal,
    RegistrarCall,
    SecretOrder,
    SecretState,
)
from trstctl.testing import (
    CHALLENGE_KEYS,
    EPOCH,
    OTHER_TENANT,
    TENANT,
    DeterministicBytes,
    MemoryStore,
    WallClock,
    add_one_time_token,
    add_token,
    make_ra,
    result_of,
)

ENDPOINT = Endpoint("bootstrap", "", TENANT, "device", "issuing")
ORDER = SecretOrder("device")
KEY = "ab" * 32


class OrderTests:
    """What can be ordered at all."""

    @pytest.mark.parametrize(
        "order",
        [
            ORDER,
            SecretOrder("device", count=10_000, life=timedelta(days=999)),
            SecretOrder("device", ("cn:a", "dns:*.example"), KEY),
            SecretOrder("device", ("cn:a",) * MAX_NAMES),
        ],
    )
    def test_good(self, order: SecretOrder) -> None:
        """Bounds of a request are not those of a command."""
        check_order(order, ("device",))

    @pytest.mark.parametrize(
        ("order", "told"),
        [
            (SecretOrder("device", ("a",)), "does not say the kind"),
            (SecretOrder("device", ("nosuch:a",)), "no kind of name"),
            (SecretOrder("device", ("cn:",)), "empty"),
            (SecretOrder("device", ("cn:a",) * (MAX_NAMES + 1)), "more than"),
            (SecretOrder("device", ("cn:" + "a" * MAX_PATTERN,)), "more than"),
            (SecretOrder("device", ("cn:\ud800",)), "does not print"),
            (SecretOrder("device", ("cn:a\0",)), "does not print"),
            (SecretOrder("device", ("cn:\u202ea",)), "does not print"),
            (SecretOrder("device", (), KEY[1:]), "64 hexadecimal"),
            (SecretOrder("device", (), KEY.upper()), "64 hexadecimal"),
            (SecretOrder("device", (), KEY, count=2), "one token"),
            (SecretOrder("device", count=0), "one or more"),
            (
                SecretOrder("device", life=timedelta(0)),
                "must live for some time",
            ),
        ],
    )
    def test_malformed(self, order: SecretOrder, told: str) -> None:
        """The text says what is wrong."""
        with pytest.raises(Malformed, match=told):
            check_order(order, ("device",))

    def test_profile_that_is_not_offered(self) -> None:
        """Nobody could use it."""
        with pytest.raises(NotAuthorized, match="not offered"):
            check_order(SecretOrder("other"), ("device",))


class MintTests:
    """What all ways of making secrets share."""

    def test_what_is_kept(self) -> None:
        """M-1: a digest; the secret has 192 random bits."""
        order = SecretOrder("device", ("cn:a",), KEY, timedelta(hours=1))
        random_bytes = DeterministicBytes("mint")
        (made,) = mint(TENANT, order, EPOCH, random_bytes)
        assert 32 == len(made.secret)
        assert made.secret not in repr(made)
        assert OneTimeSecret(
            TENANT,
            made.record.id,
            secret_digest(made.secret),
            "device",
            ("cn:a",),
            EPOCH,
            EPOCH + timedelta(hours=1),
            key_fingerprint=KEY,
        ) == (made.record)
        assert 16 == len(made.record.id)

    def test_each_is_another(self) -> None:
        """Neither ids nor secrets repeat."""
        order = SecretOrder("device", count=50)
        made = list(mint(TENANT, order, EPOCH, DeterministicBytes("mint")))
        assert 50 == len({one.record.id for one in made})
        assert 50 == len({one.secret for one in made})

    def test_form(self) -> None:
        """A challenge says in its own text what it is for."""

        def form(record: OneTimeSecret) -> str:
            return f"{record.id}/{record.profile}/{record.expires_at}"

        (made,) = mint(
            TENANT, ORDER, EPOCH, DeterministicBytes("mint"), form=form
        )
        assert form(made.record) == made.secret
        assert secret_digest(made.secret) == made.record.digest


class DerivedTests:
    """M-3: octets that only who knows the secret can tell."""

    def test_repeats(self) -> None:
        """The same secret and context bring the same octets, in order."""
        one, two = derived("s", "a", "b"), derived("s", "a", "b")
        drawn = [one(24), one(8), one(32)]
        assert drawn == [two(24), two(8), two(32)]
        assert [24, 8, 32] == [len(octets) for octets in drawn]
        assert drawn[0][:8] != drawn[1]

    def test_others(self) -> None:
        """Whatever differs makes others; parts cannot run together."""
        sources = [
            derived("s", "a", "b"),
            derived("t", "a", "b"),
            derived("s", "ab"),
            derived("s", "a", "b", ""),
            derived("s", "b", "a"),
            derived("s", "a1:b"),
        ]
        assert len(sources) == len({source(16) for source in sources})


# --- a registrar ------------------------------------------------------------


class _Bench:
    """A registration authority, and registrars at its door."""

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.now = WallClock(self.clock)
        self.protocol = "bootstrap"
        self.store: Any = MemoryStore()
        self.ra = self.another_process("first")
        self.token = add_token(self.store, "mdm", kind="registrar", **limits)

    def another_process(self, owner: str) -> Any:
        """Return a registration authority on the same store."""
        return make_ra(self.store, clock=self.clock, now=self.now, owner=owner)

    def registrar(
        self, token: str | None = None, ra: Any = None, name: str = ""
    ) -> Any:
        """Let a registrar in."""
        endpoint = Endpoint(self.protocol, name, TENANT, "device", "issuing")
        call = RegistrarCall(
            endpoint, (BearerToken(token or self.token),), "192.0.2.1"
        )
        return result_of((ra or self.ra).registrar(call))

    def mint(
        self,
        order: SecretOrder = ORDER,
        key: str | None = None,
        offered: Collection[str] = ("device", "tls-client"),
        **more: Any,
    ) -> Sequence[MintedSecret]:
        """Make secrets."""
        made: Sequence[MintedSecret] = result_of(
            self.registrar(**more).mint(order, offered, key)
        )
        return made

    def refuses(
        self, error: type[Exception], order: SecretOrder, **more: Any
    ) -> str:
        """Order in vain; nothing is kept."""
        before = len(self.store.tables.secrets)
        with pytest.raises(error) as caught:
            self.mint(order, **more)
        assert error is caught.type
        assert {"principal": "registrar:mdm"} == caught.value.facts  # type: ignore[attr-defined]
        assert before == len(self.store.tables.secrets)
        return str(caught.value)

    def found(self, *arguments: Any) -> tuple[list[str], str]:
        """Return the ids of a page, and where the next one begins."""
        secrets, following = result_of(self.registrar().find(*arguments))
        return [secret.id for secret in secrets], following


class MintingTests:
    """What a registrar can make."""

    def test_provides_the_interface(self) -> None:
        """Every method of IRegistrar, with its arguments."""
        registrar = _Bench().registrar()
        assert verifyObject(IRegistrar, registrar)
        assert "registrar:mdm" == registrar.id

    def test_nobody(self) -> None:
        """Who is not proven gets no registrar to work with."""
        bench = _Bench()
        with pytest.raises(NotAuthenticated):
            bench.registrar("mdm.guess")

    def test_tokens_are_committed(self) -> None:
        """They are in the store of the tenant; the audit log says whose."""
        bench = _Bench()
        made = bench.mint(SecretOrder("device", ("cn:a",), count=3))
        for one in made:
            kept = result_of(
                bench.store.find_secret(TENANT, secret_digest(one.secret))
            )
            assert one.record == kept
        records = result_of(bench.store.audit_records(TENANT, 0, 100))
        events = [json.loads(record.body) for record in records]
        added = [e for e in events if e["event"] == "secret.added"]
        assert ["registrar:mdm"] * 3 == [event["actor"] for event in added]

    @pytest.mark.parametrize(
        ("order", "told"),
        [
            (SecretOrder("device", count=MAX_COUNT + 1), "at once"),
            (
                SecretOrder("device", life=MAX_LIFE + timedelta(seconds=1)),
                "30 days",
            ),
            (SecretOrder("device", ("a",)), "kind"),
            (SecretOrder("device", ("cn:re:a.*", "cn:re:b.*")), "expression"),
        ],
    )
    def test_bounds(self, order: SecretOrder, told: str) -> None:
        """What one request may ask for is bounded."""
        assert told in _Bench().refuses(Malformed, order)

    def test_greatest(self) -> None:
        """As much as is allowed, for as long."""
        names = ("cn:re:a.*", *(f"cn:re:{n}" for n in range(1, MAX_NAMES)))
        order = SecretOrder("device", names, count=MAX_COUNT, life=MAX_LIFE)
        assert MAX_COUNT == len({m.secret for m in _Bench().mint(order)})

    def test_profile_that_is_not_offered(self) -> None:
        """Nobody could use its token."""
        order = SecretOrder("tls-server")
        assert "not offered" in _Bench().refuses(NotAuthorized, order)


class CanonicalTests:
    """M-1: what is ordered is kept as a certificate has it."""

    def test_canonical(self) -> None:
        """Subject and names, each once; the rest stays."""
        order = SecretOrder(
            "device",
            device="router-7",
            subject="CN=a, O=b",
            alternative_names=("ip:192.0.2.1", "dns:B.a", "dns:b.A"),
        )
        canonical = canonical_order(order)
        assert "CN=a,O=b" == canonical.subject
        assert ("dns:b.a", "ip:192.0.2.1") == canonical.alternative_names
        assert canonical == canonical_order(canonical)
        assert ORDER == canonical_order(ORDER)
        none = SecretOrder("device", alternative_names=())
        assert none == canonical_order(none)

    @pytest.mark.parametrize(
        ("wishes", "told"),
        [
            ({"device": "a" * (MAX_PATTERN + 1)}, "more than 512"),
            ({"subject": "a" * (MAX_PATTERN + 1)}, "more than 512"),
            ({"device": "a\n"}, "printable"),
            ({"device": " a"}, "spaces around"),
            ({"subject": "a"}, "the subject 'a': write it as"),
            ({"alternative_names": ("a",)}, "the name 'a': begin with"),
            ({"alternative_names": ("dns:a b",)}, "the name 'dns:a b': "),
            (
                {"alternative_names": ("dns:" + "a" * MAX_PATTERN,)},
                "a name has more than",
            ),
            ({"alternative_names": ("dns:a",) * 33}, "more than 32 names"),
        ],
    )
    def test_malformed(self, wishes: Any, told: str) -> None:
        """The text says what is wrong."""
        with pytest.raises(Malformed, match=told):
            canonical_order(SecretOrder("device", **wishes))

    @pytest.mark.parametrize(
        ("wishes", "told"),
        [
            ({"uses": 0}, "1 to 100"),
            ({"uses": MAX_USES + 1}, "1 to 100"),
            ({"uses": 2, "key_fingerprint": KEY}, "one certificate"),
        ],
    )
    def test_uses(self, wishes: Any, told: str) -> None:
        """As many as there can be, of keys as well."""
        with pytest.raises(Malformed, match=told):
            check_order(SecretOrder("device", **wishes), ("device",))
        check_order(SecretOrder("device", uses=MAX_USES), ("device",))

    def test_bound(self) -> None:
        """Whatever says for whom it is."""
        assert not is_bound(ORDER)
        for wishes in (
            {"names": ("cn:a",)},
            {"device": "a"},
            {"subject": "CN=a"},
            {"alternative_names": ()},
        ):
            assert is_bound(SecretOrder("device", **wishes))  # type: ignore[arg-type]

    def test_principal(self) -> None:
        """What is not bound is nothing, rather than empty."""
        (made,) = mint(
            TENANT,
            SecretOrder("device", ("cn:a",)),
            EPOCH,
            DeterministicBytes("mint"),
        )
        record = made.record
        principal = Principal(
            "token",
            record.id,
            TENANT,
            ("cn:a",),
            ("device",),
            secret_id=record.id,
        )
        assert principal == principal_of(record)
        bound = evolve(
            record, device="d", subject="CN=a", alternative_names=("dns:a",)
        )
        assert principal_of(bound) == evolve(
            principal, device="d", subject="CN=a", alternative_names=("dns:a",)
        )


class HopelessTests:
    """What need not come before the store."""

    @pytest.mark.parametrize(
        ("changes", "reused"),
        [
            ({}, None),
            ({"key_fingerprint": "k"}, None),
            ({"key_fingerprint": "l"}, False),
            ({"expires_at": EPOCH}, False),
            ({"expires_at": EPOCH, "burnt_keys": ("k",)}, None),
            ({"burnt_at": EPOCH, "burnt_keys": ("k",)}, None),
            ({"burnt_at": EPOCH, "burnt_keys": ("l",)}, True),
            (
                {
                    "burnt_at": EPOCH,
                    "burnt_keys": ("l",),
                    "reserved_until": EPOCH,
                },
                None,
            ),
            ({"revoked_at": EPOCH}, False),
            ({"revoked_at": EPOCH, "burnt_keys": ("k",)}, False),
        ],
    )
    def test_secret(
        self, changes: dict[str, Any], reused: bool | None
    ) -> None:
        """What was used by the key passes; used up by others: an alarm."""
        (made,) = mint(TENANT, ORDER, EPOCH, DeterministicBytes("mint"))
        secret = evolve(made.record, **changes)
        if reused is None:
            check_secret(secret, "k", EPOCH)
            return
        with pytest.raises(ChallengeRejected) as caught:
            check_secret(secret, "k", EPOCH)
        assert reused is caught.value.reused
        assert {"principal": f"token:{secret.id}"} == caught.value.facts


class ChallengeTests:
    """Registrars of other protocols get challenges."""

    ORDER = SecretOrder("device", device="router-7", life=timedelta(hours=1))

    def bench(self, **limits: Any) -> _Bench:
        """Return a bench at whose door SCEP's registrars stand."""
        bench = _Bench(**limits)
        bench.protocol = "scep"
        return bench

    def test_challenge(self) -> None:
        """M-1: kept as a digest; good at the gate."""
        bench = self.bench()
        (made,) = bench.mint(self.ORDER)
        assert ("scep", "router-7") == (
            made.record.protocol,
            made.record.device,
        )
        assert secret_digest(made.secret) == made.record.digest
        assert [made.secret] == list(bench.ra.challenges.texts(made.record))

    def test_unbound(self) -> None:
        """A registrar says for whom it is."""
        told = self.bench().refuses(Malformed, ORDER)
        assert "say what it is for" in told

    def test_malformed(self) -> None:
        """What no certificate could have is refused."""
        order = evolve(self.ORDER, subject="a")
        assert "subject" in self.bench().refuses(Malformed, order)

    def test_limits(self) -> None:
        """M-2: a limited one has to say so by names."""
        bench = self.bench(names=("cn:router-*",))
        bench.refuses(NotAuthorized, self.ORDER)
        bench.mint(evolve(self.ORDER, names=("cn:router-7",)))

    def test_same_order(self) -> None:
        """M-3: the same challenges again, later, after a rotation, and in
        another process."""
        bench = self.bench()
        order = evolve(self.ORDER, count=3)
        made = bench.mint(order, "key")
        bench.clock.advance(100)
        ra = bench.another_process("second")
        keys = {**CHALLENGE_KEYS, 9: bytes(32)}
        ra.challenges = ChallengeTokens(bench.store, lambda: keys, bench.clock)
        assert made == bench.mint(order, "key", ra=ra)
        # Without the key that has made it, it cannot be made again.
        del keys[1]
        with pytest.raises(Conflict):
            bench.mint(order, "key", ra=ra)

    @pytest.mark.parametrize(
        "change",
        [
            {"device": "router-8"},
            {"subject": "CN=a"},
            {"alternative_names": ()},
            {"names": ("cn:a",)},
            {"profile": "tls-client"},
            {"uses": 2},
            {"life": timedelta(hours=2)},
            {"key_fingerprint": KEY},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_other_order(self, change: dict[str, Any]) -> None:
        """M-3: another one under the same key is refused."""
        bench = self.bench()
        bench.mint(self.ORDER, "key")
        bench.refuses(Conflict, evolve(self.ORDER, **change), key="key")

    def test_more_of_the_same(self) -> None:
        """M-3: more than were made then is another order."""
        bench = self.bench()
        bench.mint(self.ORDER, "key")
        bench.refuses(Conflict, evolve(self.ORDER, count=2), key="key")

    def test_each_protocol_by_itself(self) -> None:
        """Tokens and challenges do not meet."""
        bench = self.bench()
        (challenge,) = bench.mint(self.ORDER)
        bench.protocol = "bootstrap"
        (token,) = bench.mint()
        assert [token.record.id] == bench.found(None, "", 10)[0]
        with pytest.raises(UnknownCertificate):
            result_of(bench.registrar().revoke(challenge.record.id))
        bench.protocol = "scep"
        assert [challenge.record.id] == bench.found(None, "", 10)[0]
        revoked = result_of(bench.registrar().revoke(challenge.record.id))
        assert challenge.record.id == revoked.id


class LimitTests:
    """M-2: nobody hands out more than he has."""

    def test_profiles(self) -> None:
        """Its own profiles only."""
        bench = _Bench(profiles=("device",))
        bench.mint()
        told = bench.refuses(NotAuthorized, SecretOrder("tls-client"))
        assert "not for this profile" in told

    def test_names(self) -> None:
        """Its own names only, and at least one of them."""
        bench = _Bench(names=("cn:router-*", "dns:*.a.example"))
        bench.mint(SecretOrder("device", ("cn:router-7", "dns:h.a.example")))
        for names, told in (
            ((), "limited to names"),
            (("cn:switch-1",), "switch-1"),
            (("cn:router-7", "dns:*"), "dns:*"),
            (("ip:192.0.2.1",), "ip:192.0.2.1"),
        ):
            order = SecretOrder("device", names)
            assert told in bench.refuses(NotAuthorized, order)

    def test_malformed_limit(self) -> None:
        """A limit that nobody can read allows nothing."""
        bench = _Bench(names=("cn",))
        bench.refuses(NotAuthorized, SecretOrder("device", ("cn:a",)))

    def test_sees_its_own_only(self) -> None:
        """What it could not have made is not there for it."""
        bench = _Bench(names=("cn:router-*",), profiles=("device",))
        for name, more in {
            "a": {"names": ("cn:router-1",)},
            "b": {"names": ("cn:switch-1",)},
            "c": {},
            "d": {"names": ("cn:router-2",), "profile": "tls-client"},
            "e": {"names": ("cn:router-3",), "tenant_id": OTHER_TENANT},
            "f": {"names": ("cn:router-4", "cn:switch-2")},
        }.items():
            add_one_time_token(bench.store, name, **more)  # type: ignore[arg-type]
        assert (["a"], "") == bench.found(None, "", 100)
        for name in "bcdef":
            with pytest.raises(UnknownCertificate) as caught:
                result_of(bench.registrar().revoke(name))
            assert {"principal": "registrar:mdm"} == caught.value.facts
        states = {
            s.id: s.state(EPOCH) for s in bench.store.tables.secrets.values()
        }
        assert {SecretState.UNUSED} == set(states.values())
        assert SecretState.REVOKED is result_of(
            bench.registrar().revoke("a")
        ).state(EPOCH)


class RetryTests:
    """M-3: a retry under an idempotency key loses no token."""

    ORDER = SecretOrder("device", ("cn:a",), count=3)

    def test_same_order(self) -> None:
        """The same tokens, later and in another process; made once."""
        bench = _Bench()
        first = bench.mint(self.ORDER, "k")
        bench.clock.advance(3600)
        again = bench.mint(self.ORDER, "k", ra=bench.another_process("second"))
        assert list(first) == list(again)
        assert 3 == len(bench.store.tables.secrets)

    def test_without_a_key(self) -> None:
        """Others each time."""
        bench = _Bench()
        assert not {m.secret for m in bench.mint(self.ORDER)} & {
            m.secret for m in bench.mint(self.ORDER)
        }

    @pytest.mark.parametrize(
        "order",
        [
            SecretOrder("device", ("cn:a",), count=2),
            SecretOrder("device", ("cn:a",), count=4),
            SecretOrder("device", ("cn:b",), count=3),
            SecretOrder("tls-client", ("cn:a",), count=3),
            SecretOrder("device", ("cn:a",), KEY),
            SecretOrder("device", ("cn:a",), count=3, life=timedelta(hours=1)),
        ],
    )
    def test_other_order(self, order: SecretOrder) -> None:
        """Conflict; and the first one's tokens stay."""
        bench = _Bench()
        bench.mint(self.ORDER, "k")
        told = bench.refuses(Conflict, order, key="k")
        assert "this idempotency key was used" in told

    def test_others_have_others(self) -> None:
        """Another key, endpoint or registrar: other tokens."""
        bench = _Bench()
        other = add_token(bench.store, "other", kind="registrar")
        made = [
            *bench.mint(self.ORDER, "k"),
            *bench.mint(self.ORDER, "l"),
            *bench.mint(self.ORDER, "k", name="label"),
            *bench.mint(self.ORDER, "k", token=other),
        ]
        assert 12 == len({m.secret for m in made})
        assert 12 == len({m.record.id for m in made})

    def test_what_became_of_it(self) -> None:
        """A token that was revoked since does not come back to life."""
        bench = _Bench()
        (first,) = bench.mint(key="k")
        result_of(bench.registrar().revoke(first.record.id))
        (again,) = bench.mint(key="k")
        assert first.secret == again.secret
        assert SecretState.REVOKED is again.record.state(EPOCH)


class ListingTests:
    """What is there, without the secrets."""

    def test_pages(self) -> None:
        """By id; each page says where the next one begins."""
        bench = _Bench()
        for name in "abcde":
            add_one_time_token(bench.store, name)
        assert (["a", "b"], "b") == bench.found(None, "", 2)
        assert (["c", "d"], "d") == bench.found(None, "b", 2)
        assert (["e"], "") == bench.found(None, "d", 2)

    def test_state(self) -> None:
        """Of one state."""
        bench = _Bench()
        for name in "ab":
            add_one_time_token(bench.store, name)
        result_of(bench.registrar().revoke("a"))
        assert (["a"], "") == bench.found(SecretState.REVOKED, "", 9)
        assert (["b"], "") == bench.found(SecretState.UNUSED, "", 9)

    def test_revoke(self) -> None:
        """By id; once more is no error; the audit log says who."""
        bench = _Bench()
        (made,) = bench.mint()
        for _ in range(2):
            secret = result_of(bench.registrar().revoke(made.record.id))
            assert SecretState.REVOKED is secret.state(EPOCH)
        for unknown in ("", "x", made.record.id[:-1], made.record.id + "0"):
            with pytest.raises(UnknownCertificate):
                result_of(bench.registrar().revoke(unknown))
        record = result_of(bench.store.audit_records(TENANT, 0, 100))[-1]
        event = json.loads(record.body)
        assert ("secret.revoked", "registrar:mdm") == (
            event["event"],
            event["actor"],
        )
