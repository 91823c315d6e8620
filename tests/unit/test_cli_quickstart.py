# SPDX-License-Identifier: MIT
"""What quickstart keeps from run to run."""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve
from cli_state import TENANT, State, state
from test_gateway import Host, host

from trstctl.backends.keyfiles import (
    read_certificates,
    write_private_key,
)
from trstctl.backends.passwords import check_password, check_token
from trstctl.ca.ceremony import generate_key, public_octets
from trstctl.ca.rollover import renew_issuing, renew_root
from trstctl.cli import quickstart
from trstctl.cli.main import Surroundings
from trstctl.config.reader import load
from trstctl.config.secrets import SecretError
from trstctl.discovery import discover
from trstctl.interfaces import IStore
from trstctl.model import CredentialRecord, Generation, Phase
from trstctl.pkix.certificate import read_certificate
from trstctl.rules import Rules
from trstctl.testing import (
    EPOCH,
    DeterministicBytes,
    make_authority,
    result_of,
)

__all__ = ["host", "state"]

RANDOM = DeterministicBytes("quickstart")

SECRETS = {"password": "p", "token": "t"}


def credentials(state: State) -> dict[str, str]:
    """See to the credentials, as a run does once it listens."""
    around = Surroundings(lambda: state.now, state._random, "operator:test")
    config = load(state.config, discover().protocols)

    async def act(store: IStore) -> dict[str, str]:
        gateway: Any = SimpleNamespace(store=store, config=config)
        return await quickstart._credentials(gateway, state.path, around)

    return state.with_store(act)


def stored(state: State, kind: str) -> CredentialRecord:
    """Return a credential of the store."""

    async def find(store: IStore) -> CredentialRecord | None:
        return await store.find_credential(TENANT, kind, "device")

    record = state.with_store(find)
    assert record is not None
    return record


class CredentialsTests:
    """Made once, used in every run."""

    def test_kept(self, state: State) -> None:
        """A second run finds them, and nobody else can read them."""
        first = credentials(state)
        assert first == credentials(state)
        assert check_password(
            first["password"], stored(state, "basic").verifier
        )
        assert check_token(first["token"], stored(state, "bearer").verifier)
        mode = (state.path / "quickstart.secrets").stat().st_mode
        assert 0o600 == stat.S_IMODE(mode)

    def test_lost(self, state: State) -> None:
        """When the file is gone, new ones replace the old."""
        first = credentials(state)
        (state.path / "quickstart.secrets").unlink()
        second = credentials(state)
        assert first["password"] != second["password"]
        assert check_password(
            second["password"], stored(state, "basic").verifier
        )
        assert check_token(second["token"], stored(state, "bearer").verifier)

    def test_revoked(self, state: State) -> None:
        """What an operator has revoked stays revoked."""
        credentials(state)
        revoke = ("credential", "revoke", "device", "--yes", "--kind")
        state.run(*revoke, "basic")
        credentials(state)
        assert stored(state, "basic").revoked_at is not None
        assert stored(state, "bearer").revoked_at is None

    def test_damaged(self, state: State) -> None:
        """A file that holds something else is told with the remedy."""
        path = state.path / "quickstart.secrets"
        path.write_text("{}")
        path.chmod(0o600)
        with pytest.raises(SecretError, match="remove it"):
            credentials(state)


class OneTimeTests:
    """A fresh token and a fresh challenge for each run."""

    def once(self, state: State) -> dict[str, str]:
        """Make them, as a run does once it listens."""
        around = Surroundings(lambda: state.now, state._random, "operator:t")
        config = load(state.config, discover().protocols)

        async def act(store: IStore) -> dict[str, str]:
            gateway: Any = SimpleNamespace(store=store, config=config)
            return await quickstart._once(gateway, around)

        return state.with_store(act)

    def enable(self, state: State, protocol: str, whether: str) -> None:
        """Switch a protocol on or off."""
        head, section, tail = state.config.read_text().partition(
            f"  {protocol}:\n    enabled: "
        )
        _, _, rest = tail.partition("\n")
        state.config.write_text(f"{head}{section}{whether}\n{rest}")

    def test_nothing_to_use_it(self, state: State) -> None:
        """None where nothing would take it."""
        self.enable(state, "scep", "false")
        self.enable(state, "cmp", "false")
        assert {} == self.once(state)
        assert [] == state.listed("token", "list")

    def test_token(self, state: State) -> None:
        """Two runs, two tokens."""
        self.enable(state, "bootstrap", "true")
        self.enable(state, "scep", "false")
        self.enable(state, "cmp", "false")
        first, second = self.once(state), self.once(state)
        assert {"once"} == first.keys() == second.keys()
        assert first != second
        assert 2 == len(state.listed("token", "list", "--state", "unused"))

    @pytest.mark.parametrize(
        ("protocol", "other"), [("scep", "cmp"), ("cmp", "scep")]
    )
    def test_challenge(self, state: State, protocol: str, other: str) -> None:
        """Two runs, two challenges, of the profile that is offered."""
        self.enable(state, other, "false")
        first, second = self.once(state), self.once(state)
        keys = {protocol, f"{protocol}_id"}
        assert keys == first.keys() == second.keys()
        assert first != second
        listed = state.listed("challenge", "list", "--state", "unused")
        assert 2 == len(listed)
        assert {"device"} == {row["profile"] for row in listed}
        assert {"1"} == {row["uses"] for row in listed}


class FactsTests:
    """What quickstart.json says of protocols that may be off."""

    def facts(
        self, state: State, ports: dict[str, int], **secrets: str
    ) -> dict[str, Any]:
        """Return them for a gateway that listens at these ports."""
        config = load(state.config, discover().protocols)
        gateway: Any = SimpleNamespace(
            config=config,
            listening=lambda: ports,
            ra=SimpleNamespace(rules=Rules({"issuing": make_authority()}, {})),
        )
        given = {"password": "p", "token": "t", **secrets}
        return quickstart._facts(gateway, state.path, given)

    def test_all(self, state: State) -> None:
        """Each has its address, and SCEP's is without TLS."""
        ports = {"https": 1, "http": 2, "ops": 3}
        facts = self.facts(
            state,
            ports,
            once="o",
            scep="c",
            cmp="s",
            cmp_id="r",
            cmp_certificate="/c.pem",
        )
        assert {
            "url": "http://localhost:2/scep",
            "challenge": "c",
        } == facts["scep"]
        assert {
            "url": "https://localhost:1/enroll/bootstrap",
            "token": "o",
        } == facts["bootstrap"]
        assert {
            "url": "http://localhost:2/cmp",
            "reference": "r",
            "secret": "s",
            "server_cert": "/c.pem",
        } == facts["cmp"]
        told = quickstart._told(facts, "")
        assert "--password c " in told
        assert "-ref r -secret pass:s " in told
        assert "SCEP" in told

    def test_off(self, state: State) -> None:
        """What is off is not told."""
        for facts in (
            self.facts(state, {"https": 1, "http": 2, "ops": 3}),
            self.facts(state, {"https": 1, "ops": 3}, scep="c", cmp="s"),
        ):
            assert not {"scep", "cmp"} & set(facts)
            assert "bootstrap" not in facts
            assert "SCEP" not in quickstart._told(facts, "")


class PortTests:
    """Ports of the command line count more than those of the file."""

    def test_adjust(self, state: State) -> None:
        """Only what is given changes; port 0 is given, too."""
        config = load(state.config, discover().protocols)
        wanted = quickstart._Wanted(https=0, http=None, ops=9999)
        listeners = wanted.adjust(config).listeners
        assert (0, 8080, 9999) == (
            listeners.https.port,
            listeners.http.port,
            listeners.ops.port,
        )
        assert (0, 8080, 9999) == tuple(
            wanted.port(name) for name in ("https", "http", "ops")
        )
        assert evolve(config) == quickstart._Wanted(None, None, None).adjust(
            config
        )

    def test_without_est(self, state: State) -> None:
        """A configuration that no longer has EST is not for quickstart."""
        text = state.config.read_text()
        state.config.write_text(
            text.replace("est:\n    enabled: true", "est:\n    enabled: false")
        )
        (state.path / "quickstart.json").write_text("{}")
        result = state.invoke("quickstart", "--state", state.path)
        assert 1 == result.exit_code
        assert "no longer enabled" in result.stderr
        assert not (state.path / "quickstart.json").exists()


def new_root(host: Host) -> Generation:
    """Make a second key below a new root, which has taken over for good."""
    ca = host.files.ca
    first, root = (
        read_certificates(ca / f"{name}.pem")[0]
        for name in ("issuing", "root")
    )
    key, root_key = generate_key(), generate_key()
    write_private_key(ca / "issuing-2.key", key)
    above = renew_root(root, root_key, EPOCH, RANDOM)
    return Generation(
        authority="issuing",
        number=2,
        name="issuing-2",
        phase=Phase.FINISHED,
        chain=(
            renew_issuing(
                first, public_octets(key), above, root_key, EPOCH, RANDOM
            ),
            above,
        ),
        old_with_new=b"",
        new_with_old=b"",
        key="file:ca/issuing-2.key",
        prepared_at=EPOCH,
    )


class TrustTests:
    """What is told leads to the CA that issues now."""

    def facts(self, host: Host) -> dict[str, Any]:
        """Return what a run would tell, and what its files hold."""
        gateway = host.build()
        host.start()
        told = quickstart._facts(gateway, host.files.ca.parent, SECRETS)
        return {
            key: read_certificates(told[key])
            for key in ("root_ca", "ca_chain")
        } | {"root": Path(told["root_ca"])}

    def test_as_configured(self, host: Host) -> None:
        """The root is where ``init`` has put it."""
        ca = host.files.ca
        found = self.facts(host)
        assert ca / "root.pem" == found["root"]
        assert read_certificates(ca / "root.pem") == found["root_ca"]
        chain = read_certificates(ca / "issuing.pem") + found["root_ca"]
        assert chain == found["ca_chain"]

    def test_root_that_is_away(self, host: Host) -> None:
        """Where the configuration has it elsewhere, it is written."""
        ca = host.files.ca
        (ca / "root.pem").rename(ca / "top.pem")
        host.files.configure("authorities: {issuing: {chain: [ca/top.pem]}}\n")
        found = self.facts(host)
        assert ca / "root.pem" == found["root"]
        assert read_certificates(ca / "top.pem") == found["root_ca"]

    def test_file_of_the_whole_chain(self, host: Host) -> None:
        """What the configuration names is never replaced."""
        ca = host.files.ca
        chain = read_certificates(ca / "root.pem")
        before = (ca / "root.pem").read_bytes() * 2
        (ca / "root.pem").write_bytes(before)
        host.files.configure("authorities: {issuing: {chain: [ca/top.pem]}}\n")
        (ca / "top.pem").write_bytes(before[: len(before) // 2])
        found = self.facts(host)
        assert before == (ca / "root.pem").read_bytes()
        assert chain == found["root_ca"]

    def test_new_root(self, host: Host) -> None:
        """After a rollover, what is told is the new one's."""
        made = new_root(host)
        host.stores.store.add_generation(made, "operator:test")
        before = (host.files.ca / "root.pem").read_bytes()
        found = self.facts(host)
        assert made.chain[-1:] == found["root_ca"]
        assert made.chain == found["ca_chain"]
        assert before == (host.files.ca / "root.pem").read_bytes()
        endpoint = quickstart._default_endpoint(host.gateway, "est")
        assert endpoint is not None
        issuing = quickstart._issuing(host.gateway, endpoint)
        assert "issuing-2" == issuing

    def test_cmp_after_the_old_key(self, host: Host) -> None:
        """CMP messages are signed below the CA that issues now."""
        text = host.files.file.read_text()
        host.files.file.write_text(
            text.replace(
                "}}\n",
                f"}}, cmp: {{enabled: true, tenant_id: {TENANT}}}}}\n",
                1,
            )
        )
        host.files.config = load(host.files.file, host.discovery.protocols)
        made = new_root(host)
        host.stores.store.add_generation(made, "operator:test")
        host.files.remove("issuing")
        gateway = host.build()
        host.start()
        path = result_of(
            quickstart._cmp_certificate(gateway, host.files.ca.parent)
        )
        (own,) = read_certificates(path)
        issuing = gateway.ra.rules.authorities["issuing-2"]
        assert issuing.issued(read_certificate(own))
