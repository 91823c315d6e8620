# SPDX-License-Identifier: MIT
"""``trstctl ca rollover``."""

from __future__ import annotations

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_state import TENANT, State, state
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from test_ca_authority import ca_certificate

from trstctl.backends.keyfiles import (
    read_certificates,
    read_private_key,
    write_private_key,
)
from trstctl.ca.ceremony import (
    check_chain,
    generate_key,
    make_issuing,
    make_root,
    public_octets,
)
from trstctl.ca.rollover import (
    check_links,
    link_roots,
    renew_issuing,
    renew_root,
)
from trstctl.cli import takeover
from trstctl.cli.generation import Maker
from trstctl.cli.takeover import FETCHED, SETTLED
from trstctl.founding import write_certificates
from trstctl.interfaces import IStore
from trstctl.model import SYSTEM_TENANT, Generation, Phase
from trstctl.pkix.certificate import read_certificate
from trstctl.testing.time import EPOCH, DeterministicBytes

__all__ = ["state"]

RANDOM = DeterministicBytes("rollover")


class Bench:
    """A state directory in the course of a rollover."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.ca = state.path / "ca"

    def step(self, *arguments: str | Path, status: int = 0) -> Any:
        """Take a step."""
        return self.state.run("ca", "rollover", *arguments, status=status)

    def told(self, *arguments: str | Path) -> dict[str, Any]:
        """Take a step, and return what it says."""
        done = self.step(*arguments, "--output", "json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def refused(self, *arguments: str | Path, status: int = 1) -> str:
        """Try a step that is refused; return the reason."""
        said = self.step(*arguments, status=status).stderr
        return re.sub(r"\s+", " ", said)

    def states(self) -> dict[str, str]:
        """Return what each generation is for."""
        rows = self.state.listed("ca", "rollover", "status")
        return {row["generation"]: row["state"] for row in rows}

    def generations(self) -> list[Generation]:
        """Return what the store has."""

        async def act(store: IStore) -> list[Generation]:
            return list(await store.list_generations())

        return self.state.with_store(act)

    def wait(self, time: timedelta) -> None:
        """Let time go by."""
        self.state.now += time

    def active(self) -> None:
        """Prepare and activate."""
        self.step("prepare")
        self.wait(FETCHED)
        self.step("activate", "--yes")
        self.wait(SETTLED)

    def offline(self, key_type: str = "p-256") -> tuple[Path, bytes, Any]:
        """
        Write a request; sign it by another root; return what that signed,
        the root, and its key.
        """
        request = self.state.path / "request.pem"
        self.step("prepare", "--request-out", request, "--key-type", key_type)
        asked = x509.load_pem_x509_csr(request.read_bytes())
        root_key = generate_key()
        root = make_root(root_key, "Other Root", EPOCH, RANDOM)
        issuing = read_certificates(self.ca / "issuing.pem")[0]
        assert x509.load_der_x509_certificate(issuing).subject == asked.subject
        signed = renew_issuing(
            issuing,
            public_octets(read_private_key(self.ca / "issuing-2.key")),
            root,
            root_key,
            self.state.now,
            RANDOM,
        )
        file = self.state.path / "signed.pem"
        write_certificates(file, [signed])
        return file, root, root_key


@pytest.fixture
def bench(state: State) -> Bench:
    """Return a bench over a fresh state."""
    return Bench(state)


class PrepareTests:
    """``prepare`` makes keys and certificates, and writes the row last."""

    def test_below_the_same_root(self, bench: Bench) -> None:
        """The root's key is found where init has put it."""
        told = bench.told("prepare", "issuing")
        assert ("issuing-2", "prepared", False) == (
            told["generation"],
            told["phase"],
            told["new_root"],
        )
        (made,) = bench.generations()
        assert (b"", b"") == (made.old_with_new, made.new_with_old)
        assert "file:ca/issuing-2.key" == made.key
        key = read_private_key(bench.ca / "issuing-2.key")
        chain = read_certificates(bench.ca / "issuing-2.pem")
        assert chain == made.chain
        assert chain == check_chain(chain[0], chain[1:], key, bench.state.now)
        assert read_certificates(bench.ca / "root.pem")[0] == chain[-1]
        assert 0o600 == (bench.ca / "issuing-2.key").stat().st_mode & 0o777
        assert {"issuing": "issuing", "issuing-2": "prepared"} == (
            bench.states()
        )

    def test_new_root(self, bench: Bench) -> None:
        """Root, issuing key and both links."""
        told = bench.told("prepare", "--new-root", "--key-type", "p-384")
        assert told["new_root"]
        (made,) = bench.generations()
        (old,) = read_certificates(bench.ca / "root.pem")
        links = read_certificates(bench.ca / "issuing-2-links.pem")
        assert (made.old_with_new, made.new_with_old) == links
        assert made.chain[1:] == read_certificates(
            bench.ca / "issuing-2-root.pem"
        )
        check_links(old, made.chain[-1], *links)
        key = read_private_key(bench.ca / "issuing-2-root.key")
        assert public_octets(key) == (
            read_certificate(made.chain[-1]).public_key.spki
        )
        issuing = read_certificate(made.chain[0]).public_key
        assert "p-384" == issuing.algorithm

    def test_what_comes_next_is_said(self, bench: Bench) -> None:
        """Where the key is, and the next command; nothing of it in JSON."""
        said = bench.step("prepare", "--new-root").stderr
        assert "issuing-2.key" in said
        assert "issuing-2-root.key" in said
        assert "trstctl ca rollover activate issuing" in said
        assert "until 2026-06-08T13:00:00Z" in said

    def test_root_key_elsewhere(self, bench: Bench, tmp_path: Path) -> None:
        """It is named, and has a passphrase."""
        key = read_private_key(bench.ca / "root.key")
        (bench.ca / "root.key").unlink()
        reason = bench.refused("prepare")
        assert "--root-key" in reason
        assert "--request-out" in reason
        away = tmp_path / "away"
        away.mkdir(mode=0o700)
        write_private_key(away / "root.key", key, b"a passphrase")
        secret = away / "passphrase"
        secret.touch(mode=0o600)
        secret.write_text("a passphrase")
        bench.step(
            *("prepare", "--new-root", "--root-key", away / "root.key"),
            *("--root-passphrase-file", secret),
        )
        with pytest.raises(Exception, match="passphrase"):
            read_private_key(bench.ca / "issuing-2-root.key")
        read_private_key(bench.ca / "issuing-2-root.key", b"a passphrase")

    def test_wrong_root_key(self, bench: Bench) -> None:
        """A key that is another's makes nothing."""
        assert "not the key" in bench.refused(
            "prepare", "--root-key", bench.ca / "issuing.key"
        )
        assert [] == bench.generations()
        assert not (bench.ca / "issuing-2.key").exists()

    def test_self_signed(self, bench: Bench) -> None:
        """A CA that is its own root gets links of its own."""
        key = generate_key()
        for suffix in ("key", "pem"):
            (bench.ca / f"issuing.{suffix}").unlink()
        write_private_key(bench.ca / "issuing.key", key)
        own = ca_certificate(key, crl_sign=True)
        write_certificates(bench.ca / "issuing.pem", [own])
        text = bench.state.config.read_text()
        bench.state.config.write_text(
            text.replace('chain: ["ca/root.pem"]', "chain: []")
        )
        bench.step("prepare")
        (made,) = bench.generations()
        (new,) = made.chain
        check_links(own, new, made.old_with_new, made.new_with_old)

    def test_one_at_a_time(self, bench: Bench) -> None:
        """What is under way is finished or taken back first."""
        bench.step("prepare")
        assert "issuing-2 is prepared" in bench.refused("prepare")

    def test_offline_root(self, bench: Bench) -> None:
        """A request, then what the root has signed, with links."""
        file, root, root_key = bench.offline("ed25519")
        assert [] == bench.generations()
        assert "--certificate" in bench.refused("prepare")
        chain = bench.state.path / "chain.pem"
        write_certificates(chain, [root])
        given = ("prepare", "--certificate", file)
        assert "root, is missing" not in bench.refused(*given)
        assert "--links" in bench.refused(*given, "--chain", chain)
        old_key = read_private_key(bench.ca / "root.key")
        (old,) = read_certificates(bench.ca / "root.pem")
        links = link_roots(old, old_key, root, root_key, RANDOM)
        both = bench.state.path / "links.pem"
        write_certificates(both, [links[0], links[0]])
        reason = bench.refused(*given, "--chain", chain, "--links", both)
        assert "do not link" in reason
        # In whichever order.
        write_certificates(both, links[::-1])
        bench.step(*given, "--chain", chain, "--links", both)
        (made,) = bench.generations()
        assert links == (made.old_with_new, made.new_with_old)
        assert root == made.chain[-1]

    def test_offline_root_that_stays(self, bench: Bench) -> None:
        """Its chain is known."""
        request = bench.state.path / "request.pem"
        bench.step("prepare", "--request-out", request)
        issuing, root = (
            read_certificates(bench.ca / f"{name}.pem")[0]
            for name in ("issuing", "root")
        )
        signed = renew_issuing(
            issuing,
            public_octets(read_private_key(bench.ca / "issuing-2.key")),
            root,
            read_private_key(bench.ca / "root.key"),
            bench.state.now,
            RANDOM,
        )
        file = bench.state.path / "signed.pem"
        write_certificates(file, [signed])
        bench.step("prepare", "--certificate", file)
        (made,) = bench.generations()
        assert (signed, root) == made.chain
        assert b"" == made.new_with_old

    def test_root_renewed_over_its_key(self, bench: Bench) -> None:
        """Who knows one of the two can verify what is below the other."""
        bench.step("prepare", "--request-out", bench.state.path / "r.pem")
        (root,) = read_certificates(bench.ca / "root.pem")
        root_key = read_private_key(bench.ca / "root.key")
        renewed = renew_root(root, root_key, bench.state.now, RANDOM)
        signed = renew_issuing(
            read_certificates(bench.ca / "issuing.pem")[0],
            public_octets(read_private_key(bench.ca / "issuing-2.key")),
            renewed,
            root_key,
            bench.state.now,
            RANDOM,
        )
        file = bench.state.path / "signed.pem"
        write_certificates(file, [signed, renewed])
        told = bench.told("prepare", "--certificate", file)
        assert not told["new_root"]
        (made,) = bench.generations()
        assert (signed, renewed) == made.chain
        check_chain(
            signed,
            [root],
            read_private_key(bench.ca / "issuing-2.key"),
            bench.state.now,
        )

    def test_another_user(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A key that root makes could not be read by the gateway."""
        owner = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
        request = bench.state.path / "r.pem"
        reason = bench.refused("prepare", "--request-out", request)
        assert f"belongs to user {owner}" in reason
        assert not request.exists()
        assert not (bench.ca / "issuing-2.key").exists()
        # Of what is no file, nobody can tell whose it is.
        text = bench.state.config.read_text()
        bench.state.config.write_text(
            text.replace("file:ca/issuing.key", "env:CA_KEY")
        )
        bench.step("prepare", "--request-out", request)
        assert request.exists()

    def test_two_at_once(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who comes second leaves no root key behind."""
        key = bench.ca / "issuing-2.key"
        write_private_key(key, generate_key())
        # The other one has written it after this one has looked.
        monkeypatch.setattr(Maker, "require_new", lambda _: None)
        assert str(key) in bench.refused("prepare", "--new-root")
        assert not (bench.ca / "issuing-2-root.key").exists()

    def test_another_subject(self, bench: Bench) -> None:
        """The name stays."""
        bench.step("prepare", "--request-out", bench.state.path / "r.pem")
        (root,) = read_certificates(bench.ca / "root.pem")
        signed = make_issuing(
            read_private_key(bench.ca / "root.key"),
            root,
            public_octets(read_private_key(bench.ca / "issuing-2.key")),
            "Another CA",
            bench.state.now,
            RANDOM,
        )
        file = bench.state.path / "signed.pem"
        write_certificates(file, [signed])
        assert "subject" in bench.refused("prepare", "--certificate", file)

    def test_certificate_without_a_request(self, bench: Bench) -> None:
        """There is no key for it."""
        file = bench.ca / "issuing.pem"
        assert "--request-out" in bench.refused(
            "prepare", "--certificate", file
        )

    def test_chain_of_three(self, bench: Bench) -> None:
        """A new root above an intermediate one is a ceremony of its own."""
        keys = [read_private_key(bench.ca / "root.key"), generate_key()]
        (root,) = read_certificates(bench.ca / "root.pem")
        middle = x509.load_der_x509_certificate(
            make_issuing(
                keys[0],
                root,
                public_octets(keys[1]),
                "Middle CA",
                bench.state.now,
                RANDOM,
            )
        )
        # Of path length 1, as init does not make one.
        lifted = _lifted(middle, keys[0])
        own = read_private_key(bench.ca / "issuing.key")
        issuing = renew_issuing(
            read_certificates(bench.ca / "issuing.pem")[0],
            public_octets(own),
            lifted,
            keys[1],
            bench.state.now,
            RANDOM,
        )
        for name, chain in (("issuing", [issuing]), ("root", [lifted, root])):
            (bench.ca / f"{name}.pem").unlink()
            write_certificates(bench.ca / f"{name}.pem", chain)
        file = bench.state.path / "middle"
        file.mkdir(mode=0o700)
        write_private_key(file / "middle.key", keys[1])
        given = ("prepare", "--root-key", file / "middle.key")
        assert "between" in bench.refused(*given, "--new-root")
        bench.step(*given)
        (made,) = bench.generations()
        assert (lifted, root) == made.chain[1:]

    @pytest.mark.parametrize(
        "options",
        [
            ("--new-root", "--request-out", "r.pem"),
            ("--chain", "trstctl.yaml"),
            ("--links", "trstctl.yaml"),
        ],
    )
    def test_options_that_exclude(
        self, bench: Bench, options: tuple[str, ...]
    ) -> None:
        """Told as click tells of options."""
        given = [
            bench.state.path / one if "." in one else one for one in options
        ]
        bench.refused("prepare", *given, status=2)

    def test_urls_of_one_key(self, bench: Bench) -> None:
        """A URL that somebody has chosen would be of the wrong CRL."""
        text = bench.state.config.read_text()
        head = "authorities:\n  issuing:\n"
        urls = "    urls: {{crl: ['http://a.example.com/{}.crl']}}\n"
        bench.state.config.write_text(
            text.replace(head, head + urls.format("issuing"))
        )
        reason = bench.refused("prepare")
        assert "urls.crl" in reason
        assert "{authority}" in reason
        bench.state.config.write_text(
            text.replace(head, head + urls.format("{authority}"))
        )
        bench.step("prepare")

    def test_names(self, bench: Bench) -> None:
        """An authority is named, if there are several; a name is free."""
        assert "no authority is called other" in bench.refused(
            "prepare", "other"
        )
        text = bench.state.config.read_text()
        bench.state.config.write_text(
            text.replace("authorities:\n", "authorities:\n  issuing-2: {}\n")
        )
        assert "name the authority: one of" in bench.refused("prepare")
        assert "give that one another name" in bench.refused(
            "prepare", "issuing"
        )

    def test_kind_that_is_not_made(self, bench: Bench) -> None:
        """A key of an odd kind is followed by one that is chosen."""
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP521R1())
        (root,) = read_certificates(bench.ca / "root.pem")
        made = make_issuing(
            read_private_key(bench.ca / "root.key"),
            root,
            public_octets(key),
            "CA",
            bench.state.now,
            RANDOM,
        )
        for suffix in ("key", "pem"):
            (bench.ca / f"issuing.{suffix}").unlink()
        write_private_key(bench.ca / "issuing.key", key)
        write_certificates(bench.ca / "issuing.pem", [made])
        assert "--key-type" in bench.refused("prepare")
        bench.step("prepare", "--key-type", "p-256")


class ActivateTests:
    """``activate`` lets the new key sign."""

    def test_in_its_time(self, bench: Bench) -> None:
        """After devices have had the time to fetch the certificates."""
        bench.step("prepare")
        bench.wait(FETCHED - timedelta(seconds=1))
        assert "--now" in bench.refused("activate", "--yes")
        bench.wait(timedelta(seconds=1))
        assert "active" == bench.told("activate", "--yes")["phase"]
        assert {"issuing": "retiring", "issuing-2": "issuing"} == (
            bench.states()
        )

    def test_at_once(self, bench: Bench) -> None:
        """But not before every process has noticed that it is prepared."""
        bench.step("prepare")
        bench.wait(SETTLED - timedelta(milliseconds=20))
        said = bench.step("activate", "--now", "--yes")
        assert "waiting" in said.stderr
        assert ["active"] == [one.phase.value for one in bench.generations()]

    def test_asks(self, bench: Bench) -> None:
        """Nothing is done without a yes."""
        bench.step("prepare")
        assert "nobody answered" in bench.refused("activate", "--now")
        assert Phase.PREPARED is bench.generations()[0].phase

    def test_key_that_is_elsewhere(self, bench: Bench) -> None:
        """It is copied first."""
        bench.step("prepare")
        (bench.ca / "issuing-2.key").rename(bench.ca / "away")
        reason = bench.refused("activate", "--now", "--yes")
        assert "issuing-2.key is missing" in reason
        write_private_key(bench.ca / "issuing-2.key", generate_key())
        reason = bench.refused("activate", "--now", "--yes")
        assert "not this certificate's" in reason

    def test_nothing_prepared(self, bench: Bench) -> None:
        """There is nothing to activate, or it is active."""
        for step in ("activate", "finish"):
            reason = bench.refused(step, "--yes")
            assert "trstctl ca rollover prepare issuing" in reason
        bench.active()
        reason = bench.refused("activate", "--yes")
        assert "issuing-2 is active; the next step is: finish" in reason


class CheckTests:
    """``trstctl config check`` opens the keys of a rollover, too."""

    def test_missing_key(self, bench: Bench) -> None:
        """That of the generation that signs, and of no other."""
        bench.active()
        bench.state.run("config", "check")
        key = bench.state.path / "ca" / "issuing-2.key"
        away = key.rename(key.with_suffix(".away"))
        reason = bench.state.run("config", "check", status=78).stderr
        assert f"{key} is missing" in reason
        bench.step("back", "--yes")
        bench.state.run("config", "check")
        away.rename(key)


class FinishTests:
    """``finish`` ends what the key before has issued."""

    def test_valid_certificates(self, bench: Bench) -> None:
        """They are counted, and keep the old key on."""
        bench.state.issued()
        bench.active()
        reason = bench.refused("finish", "--yes")
        assert "1 certificates of issuing are still valid" in reason
        shown = re.search(r"trstctl (cert expiring .*\d)", reason)
        assert shown is not None
        assert 1 == len(bench.state.listed(*shown[1].split()))
        assert "finished" == bench.told("finish", "--force", "--yes")["phase"]
        assert {"issuing": "retired", "issuing-2": "issuing"} == (
            bench.states()
        )

    def test_certificate_that_comes_meanwhile(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It counts, although there was none when the question was asked."""
        bench.active()
        # A host that lacks the new key goes on with the old one.
        monkeypatch.setattr(
            "trstctl.cli.takeover.confirm", lambda *_: bench.state.issued()
        )
        reason = bench.refused("finish", "--yes")
        assert "1 certificates of issuing are valid" in reason
        assert Phase.ACTIVE is bench.generations()[0].phase

    def test_without_certificates(self, bench: Bench) -> None:
        """Nothing stands against it; the audit log has each step."""
        bench.active()
        said = bench.step("finish", "--yes").stderr
        assert "--destroy-key" in said
        done = bench.state.run(
            "audit", "export", "-o", bench.state.path / "audit.jsonl"
        )
        assert 0 == done.exit_code
        lines = (bench.state.path / "audit.jsonl").read_text().splitlines()
        events = [
            json.loads(json.loads(line)["body"])["event"]
            for line in lines
            if json.loads(line)["tenant"] == SYSTEM_TENANT
        ]
        assert [
            "generation.prepared",
            "generation.activated",
            "generation.finished",
        ] == events

    def test_asks(self, bench: Bench) -> None:
        """Nothing is done without a yes."""
        bench.active()
        assert "nobody answered" in bench.refused("finish")

    def test_before_it_is_active(self, bench: Bench) -> None:
        """There is nothing to finish."""
        bench.step("prepare")
        reason = bench.refused("finish", "--yes")
        assert "issuing-2 is prepared; the next step is: activate" in reason

    def test_key_is_destroyed_at_last(self, bench: Bench) -> None:
        """Once nothing that it has signed is left to be revoked."""
        issued = bench.state.issued()
        serial = issued.serial
        bench.active()
        bench.state.run("cert", "revoke", serial, "--yes", "--tenant", TENANT)
        key = bench.ca / "issuing.key"
        given = ("finish", "--destroy-key", "--yes")
        reason = bench.refused(*given)
        assert "has to be told" in reason
        assert key.exists()
        assert "has to be told" in bench.refused(*given)
        bench.wait(timedelta(days=400))
        assert "Destroyed" in bench.step(*given).stderr
        assert not key.exists()
        assert "No key file" in bench.step(*given).stderr
        rows = bench.state.listed("ca", "rollover", "status")
        assert ["not here", "here"] == [row["key"] for row in rows]

    def test_key_is_destroyed_at_once(self, bench: Bench) -> None:
        """If it is known to others."""
        bench.state.issued()
        bench.active()
        bench.step("finish", "--force", "--destroy-key", "--yes")
        assert not (bench.ca / "issuing.key").exists()

    def test_the_next_one(self, bench: Bench) -> None:
        """A second rollover follows the first."""
        bench.active()
        bench.step("finish", "--yes")
        told = bench.told("prepare", "--new-root")
        assert "issuing-3" == told["generation"]
        assert {
            "issuing": "retired",
            "issuing-2": "issuing",
            "issuing-3": "prepared",
        } == bench.states()


class SeveralOperatorsTests:
    """Whoever answers late takes no step that others have not noticed yet."""

    @pytest.mark.parametrize(
        ("late", "others"),
        [
            (
                ("finish", "--force"),
                (("back", "--yes"), ("activate", "--now", "--yes")),
            ),
            (
                ("back",),
                (("activate", "--now", "--yes"), ("back", "--yes")),
            ),
        ],
    )
    def test_steps_behind_a_question(
        self,
        bench: Bench,
        monkeypatch: pytest.MonkeyPatch,
        late: tuple[str, ...],
        others: tuple[tuple[str, ...], ...],
    ) -> None:
        """To the same phase again: but not every process is there again."""
        if late[0] == "finish":
            bench.active()
        else:
            bench.step("prepare")
            bench.wait(FETCHED)

        def answer(*_: object) -> None:
            monkeypatch.undo()
            for step in others:
                bench.wait(timedelta(seconds=1))
                bench.step(*step)

        monkeypatch.setattr(takeover, "confirm", answer)
        (before,) = bench.generations()
        assert "somebody else" in bench.refused(*late)
        (after,) = bench.generations()
        assert before.phase is after.phase


class BackTests:
    """``back`` takes the last step back."""

    def test_from_active(self, bench: Bench) -> None:
        """The key before signs again."""
        bench.active()
        assert "prepared" == bench.told("back", "--yes")["phase"]
        assert {"issuing": "issuing", "issuing-2": "prepared"} == (
            bench.states()
        )

    def test_from_prepared(self, bench: Bench) -> None:
        """It is given up; its name is not used again."""
        bench.step("prepare")
        bench.wait(SETTLED)
        assert "dropped" == bench.told("back", "--yes")["phase"]
        assert {"issuing": "issuing", "issuing-2": "dropped"} == (
            bench.states()
        )
        assert "issuing-3" == bench.told("prepare")["generation"]
        assert "dropped" == bench.states()["issuing-2"]

    def test_certificates_of_the_new_key(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They are not given up without a word."""
        bench.step("prepare")
        monkeypatch.setattr(
            "cli_state.Endpoint",
            lambda *given: _endpoint(*given[:4], "issuing-2"),
        )
        monkeypatch.setattr("cli_state.make_ra", _make_ra)
        bench.wait(SETTLED)
        issued = bench.state.issued()
        for name, expected in (
            ("issuing-2", [issued.serial]),
            ("issuing", []),
        ):
            rows = bench.state.listed("cert", "list", "--authority", name)
            assert expected == [row["serial"] for row in rows]
        assert "--force" in bench.refused("back", "--yes")
        bench.step("back", "--force", "--yes")
        assert "dropped" == bench.states()["issuing-2"]

    def test_twice_at_once(self, bench: Bench) -> None:
        """Not given up before every process has ceased to sign with it."""
        bench.active()
        bench.step("back", "--yes")
        bench.wait(SETTLED - timedelta(milliseconds=20))
        assert "waiting" in bench.step("back", "--yes").stderr
        assert "dropped" == bench.states()["issuing-2"]

    def test_nothing_under_way(self, bench: Bench) -> None:
        """There is nothing to take back."""
        assert "under way" in bench.refused("back", "--yes")
        bench.active()
        bench.step("finish", "--yes")
        assert "cannot be taken back" in bench.refused("back", "--yes")


class ShowTests:
    """What other commands say of generations."""

    def test_show(self, bench: Bench) -> None:
        """``ca show`` lists the chains of all."""
        bench.step("prepare", "--new-root")
        rows = bench.state.listed("ca", "show")
        assert ["issuing"] * 2 + ["issuing-2"] * 2 == [
            row["authority"] for row in rows
        ]

    def test_show_without_a_store(self, bench: Bench) -> None:
        """It makes none."""
        assert 2 == len(bench.state.listed("ca", "show"))
        assert not (bench.state.path / "trstctl.db").exists()

    def test_status_of_one(self, bench: Bench) -> None:
        """With what it has issued."""
        bench.state.issued()
        (row,) = bench.state.listed("ca", "rollover", "status", "issuing")
        assert (1, "here", "issuing") == (
            row["valid"],
            row["key"],
            row["state"],
        )
        assert row["last"]

    def test_crls(self, bench: Bench) -> None:
        """``crl publish`` signs those of each key that is here."""
        bench.active()
        rows = bench.state.listed("crl", "publish")
        assert ["issuing", "issuing-2"] == [row["authority"] for row in rows]
        rows = bench.state.listed("crl", "show", "issuing-2")
        assert ["issuing-2"] == [row["authority"] for row in rows]
        bench.step("finish", "--force", "--destroy-key", "--yes")
        rows = bench.state.listed("crl", "publish")
        assert ["issuing-2"] == [row["authority"] for row in rows]


def _endpoint(*given: Any) -> Any:
    """Return an endpoint."""
    from trstctl.model import Endpoint

    return Endpoint(*given)


def _make_ra(*given: Any, **more: Any) -> Any:
    """Return a registration authority whose authority is the second."""
    from trstctl.testing.authority import make_authority, make_ra

    second: Any = make_authority("issuing-2")
    return make_ra(*given, authorities={"issuing-2": second}, **more)


def _lifted(certificate: x509.Certificate, key: Any) -> bytes:
    """Return the certificate with a path length of 1."""
    from cryptography.hazmat.primitives import hashes

    builder = x509.CertificateBuilder(
        certificate.issuer,
        certificate.subject,
        certificate.public_key(),  # type: ignore[arg-type]
        certificate.serial_number,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )
    for extension in certificate.extensions:
        held = extension.value
        if isinstance(held, x509.BasicConstraints):
            held = x509.BasicConstraints(True, 1)
        builder = builder.add_extension(held, critical=extension.critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
