# SPDX-License-Identifier: MIT
"""The commands of an operator's day: certificates, requests, credentials."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from cli_state import OTHER, TENANT, State, state
from cryptography import x509

from trstctl.backends.passwords import check_password, check_token
from trstctl.cli import selection
from trstctl.interfaces import IStore
from trstctl.model import CredentialRecord, RequestState, StoredRequest

__all__ = ["state"]


def two_tenants(state: State) -> None:
    """Add a second tenant to the configuration."""
    text = state.config.read_text().replace(
        "tenants:\n", f'tenants:\n  "{OTHER}": {{name: other}}\n'
    )
    state.config.write_text(text)


def found(state: State, kind: str, name: str) -> CredentialRecord:
    """Return a credential of the store."""

    async def find(store: IStore) -> CredentialRecord | None:
        return await store.find_credential(TENANT, kind, name)

    record = state.with_store(find)
    assert record is not None
    return record


class CertificateTests:
    """``trstctl cert``."""

    def test_list_pages(self, state: State) -> None:
        """The newest first, in pages that say how to go on."""
        serials = [state.issued(f"device-{n}").serial for n in range(3)]
        state.now += timedelta(hours=1)
        first = state.run("cert", "list", "--limit", "2", "-o", "csv")
        shown = [line.split(",")[0] for line in first.stdout.splitlines()]
        assert ["serial", serials[2], serials[1]] == shown
        assert f"--after {serials[1]}" in first.stderr
        rows = state.listed("cert", "list", "--after", serials[1])
        assert [serials[0]] == [row["serial"] for row in rows]
        assert 3 == len(state.listed("cert", "list", "--limit", "0"))

    @pytest.mark.parametrize(
        ("option", "value", "count"),
        [
            ("--name", "router.example", 1),
            ("--name", "example", 0),
            ("--profile", "device", 2),
            ("--profile", "tls-server", 0),
            ("--principal", "system:gateway", 2),
            ("--principal", "basic:nobody", 0),
            ("--status", "valid", 2),
            ("--status", "revoked", 0),
            ("--protocol", "est", 2),
            ("--protocol", "scep", 0),
        ],
    )
    def test_filters(
        self, state: State, option: str, value: str, count: int
    ) -> None:
        """Each filter leaves what has exactly this value."""
        state.issued("device-1")
        state.issued("router", names=("dns:router.example",))
        assert count == len(state.listed("cert", "list", option, value))

    def test_tenants(self, state: State) -> None:
        """A listing shows all tenants, or the one that is named."""
        two_tenants(state)
        mine = state.issued().serial
        other = state.issued("other", tenant_id=OTHER).serial
        rows = state.listed("cert", "list")
        assert {(mine, TENANT), (other, OTHER)} == {
            (row["serial"], row["tenant"]) for row in rows
        }
        rows = state.listed("cert", "list", "--tenant", OTHER)
        assert [other] == [row["serial"] for row in rows]
        refused = state.run("cert", "list", "--after", mine, status=1)
        assert "--tenant" in refused.stderr
        # Not found in a tenant that has it not.
        state.run("cert", "show", mine, "--tenant", OTHER, status=1)
        refused = state.run("cert", "revoke", mine, "--yes", status=1)
        assert f"{TENANT}, {OTHER}" in refused.stderr

    def test_expiring(self, state: State) -> None:
        """What is valid and ends soon, the soonest first, with its days."""
        late = state.issued("late").serial
        soon = state.issued("soon", profile="tls-client").serial
        state.now += timedelta(days=70)
        rows = state.listed("cert", "expiring", "--days", "30")
        assert [(soon, 19)] == [
            (row["serial"], row["days_left"]) for row in rows
        ]
        rows = state.listed("cert", "expiring", "--days", "300")
        assert [soon, late] == [row["serial"] for row in rows]
        state.now += timedelta(days=30)
        rows = state.listed("cert", "expiring", "--days", "300")
        assert [late] == [row["serial"] for row in rows]

    def test_show(self, state: State) -> None:
        """Every fact of one, whose serial may have colons and capitals."""
        serial = state.issued(names=("dns:a.example",)).serial
        shown = bytes.fromhex(serial).hex(":").upper()
        row = state.listed("cert", "show", shown)
        assert serial == row["serial"]
        assert ["dns:a.example"] == row["names"]
        assert "issuing" == row["authority"]
        assert row["revoked_at"] is None
        text = state.run("cert", "show", serial).stdout
        assert f"serial:            {serial}\n" in text
        assert "CN=device-1" in text
        table = state.run("cert", "show", serial, "-o", "csv").stdout
        assert 2 == len(table.splitlines())

    @pytest.mark.parametrize(("serial", "status"), [("abc", 1), ("xyz", 2)])
    def test_show_unknown(
        self, state: State, serial: str, status: int
    ) -> None:
        """One that does not exist: 1; what is no serial number: 2."""
        state.run("cert", "show", serial, status=status)

    def test_show_hold_and_release(self, state: State) -> None:
        """A hold, its time and reason; then when it was released."""
        serial = state.issued().serial
        held_at = "2026-06-01T13:00:00Z"
        state.run("cert", "revoke", serial, "--hold", "--yes")
        for row in (
            state.listed("cert", "show", serial),
            *state.listed("cert", "list"),
        ):
            assert ("held", held_at, "certificateHold") == (
                row["status"],
                row["revoked_at"],
                row["revocation_reason"],
            )
        assert state.listed("cert", "show", serial)["released_at"] is None
        state.now += timedelta(hours=1)
        state.run("cert", "release", serial, "--yes")
        row = state.listed("cert", "show", serial)
        assert ("valid", None, None, "2026-06-01T14:00:00Z") == (
            row["status"],
            row["revoked_at"],
            row["revocation_reason"],
            row["released_at"],
        )

    def test_status(self, state: State) -> None:
        """On hold is not revoked for good, and neither is valid."""
        serials = [state.issued(f"device-{n}").serial for n in range(3)]
        state.run("cert", "revoke", serials[0], "--hold", "--yes")
        state.run("cert", "revoke", serials[1], "--yes")
        for status, expected in (
            ("held", serials[:1]),
            ("revoked", serials[1:2]),
            ("valid", serials[2:]),
            ("superseded", []),
        ):
            rows = state.listed("cert", "list", "--status", status)
            assert expected == [row["serial"] for row in rows]

    def test_pages_of_what_the_store_cannot_tell(
        self, state: State, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A page is full however many the store returns in vain."""
        monkeypatch.setattr(selection, "PAGE", 2)
        serials = [state.issued(f"device-{n}").serial for n in range(5)]
        held = (serials[0], serials[3])
        state.run("cert", "revoke", *held, "--hold", "--yes")
        state.run("cert", "revoke", "--status", "valid", "--yes")
        result = state.run(
            *("cert", "list", "--status", "held", "--limit", "1"),
            *("-o", "json"),
        )
        assert [serials[3]] == [
            row["serial"] for row in json.loads(result.stdout)
        ]
        assert f"--after {serials[3]}" in result.stderr
        rows = state.listed(
            *("cert", "list", "--status", "held"), *("--after", serials[3])
        )
        assert [serials[0]] == [row["serial"] for row in rows]

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (("--issued-after", "2026-06-02"), (1, 2)),
            (("--issued-before", "2026-06-02"), (0,)),
            (
                (
                    *("--issued-after", "2026-06-02T13:00:00Z"),
                    *("--issued-before", "2026-06-03T15:00:00+02:00"),
                ),
                (1,),
            ),
            (("--issued-after", "2026-06-04"), ()),
        ],
    )
    def test_issued(
        self, state: State, options: tuple[str, ...], expected: tuple[int, ...]
    ) -> None:
        """From the first time on, up to the second; a date is in UTC."""
        serials = []
        for number in range(3):
            serials.append(state.issued(f"device-{number}").serial)
            state.now += timedelta(days=1)
        wanted = {serials[number] for number in expected}
        rows = state.listed("cert", "list", *options)
        assert wanted == {row["serial"] for row in rows}
        # Soonest to end first: a page must not end at the first old one.
        rows = state.listed("cert", "expiring", "--days", "365", *options)
        assert wanted == {row["serial"] for row in rows}

    def test_times_in_help(self, state: State) -> None:
        """The help says how to write a time, not how it is parsed."""
        text = state.invoke("cert", "list", "--help").stdout
        assert "--issued-after TIME" in text
        assert "2026-11-23T12:00:00Z" in text
        assert "%" not in text

    def test_key(self, state: State) -> None:
        """By the fingerprint of the public key, with colons or without."""
        serials = [state.issued(f"device-{n}").serial for n in range(2)]
        row = state.listed("cert", "show", serials[0])
        shown = bytes.fromhex(row["public_key_sha256"]).hex(":").upper()
        rows = state.listed("cert", "list", "--key", shown)
        assert serials[0] in {row["serial"] for row in rows}
        assert {row["public_key_sha256"]} == {
            state.listed("cert", "show", each["serial"])["public_key_sha256"]
            for each in rows
        }
        assert [] == state.listed("cert", "list", "--key", "ab" * 32)
        refused = state.run("cert", "list", "--key", "ab", status=2)
        assert "64 hexadecimal" in refused.stderr

    def test_export(self, state: State) -> None:
        """PEM of all or one, DER of one."""
        issued = [state.issued(f"device-{n}") for n in range(2)]
        pem = state.run("cert", "export").stdout_bytes
        assert 2 == len(x509.load_pem_x509_certificates(pem))
        der = state.run(
            *("cert", "export", "--serial", issued[0].serial),
            *("--format", "der"),
        ).stdout_bytes
        assert issued[0].certificate == der

    @pytest.mark.parametrize(
        "arguments",
        [("--format", "der"), ("--serial", "1", "--profile", "device")],
    )
    def test_export_usage(
        self, state: State, arguments: tuple[str, ...]
    ) -> None:
        """DER is one certificate, and a serial needs no filter."""
        state.run("cert", "export", *arguments, status=2)

    @pytest.mark.parametrize("form", ["table", "csv", "json"])
    def test_hostile_names_are_escaped(self, state: State, form: str) -> None:
        """Control characters of a name do not reach the terminal."""
        record = CredentialRecord(
            tenant_id=TENANT,
            kind="basic",
            name="a\x1b[31mred\u202e",
            verifier="scrypt$",
            names=(),
            profiles=(),
            created_at=state.now,
        )

        async def add(store: IStore) -> None:
            await store.add_credential(record, "test")

        state.with_store(add)
        text = state.run("credential", "list", "-o", form).stdout
        assert "red" in text
        assert text.replace("\n", "").isprintable()


class RequestTests:
    """``trstctl request``."""

    def stored(self, state: State, reference: str) -> StoredRequest:
        """Return a request of the store."""

        async def find(store: IStore) -> StoredRequest:
            rows = await store.list_requests(TENANT, None, 100)
            return next(row for row in rows if row.id == reference)

        return state.with_store(find)

    def test_approve(self, state: State) -> None:
        """An approved request is no longer held, and the log says who."""
        reference = state.held()
        rows = state.listed("request", "list")
        assert [reference] == [row["id"] for row in rows]
        result = state.run("request", "approve", reference)
        assert "CN=device-1" in result.stdout
        row = self.stored(state, reference)
        assert RequestState.APPROVED is row.state
        assert "operator:test" == row.decided_by
        assert [] == state.listed("request", "list")
        assert 1 == len(state.listed("request", "list", "--state", "all"))

    def test_deny(self, state: State) -> None:
        """A denied request keeps the reason for the client."""
        reference = state.held()
        state.run("request", "deny", reference, "--reason", "not ours")
        row = self.stored(state, reference)
        assert RequestState.DENIED is row.state
        assert "not ours" == row.reason

    def test_twice(self, state: State) -> None:
        """What is decided is decided."""
        reference = state.held()
        state.run("request", "approve", reference)
        state.run("request", "deny", reference, status=1)

    def test_unknown(self, state: State) -> None:
        """The error names the id and the tenant."""
        result = state.run("request", "approve", "nosuch", status=1)
        assert "nosuch" in result.stderr
        assert TENANT in result.stderr

    def test_reason_is_one_line(self, state: State) -> None:
        """The client is told the reason: printable and short."""
        state.run("request", "deny", "x", "--reason", "a\nb", status=2)


class CredentialTests:
    """``trstctl credential``."""

    def test_password_is_shown_once(self, state: State) -> None:
        """Only its verifier is kept, and no listing shows either."""
        row = state.listed("credential", "add", "router")
        record = found(state, "basic", "router")
        assert check_password(row["password"], record.verifier)
        listing = state.run("credential", "list", "-o", "json").stdout
        assert row["password"] not in listing
        assert "scrypt" not in listing
        log = state.run("audit", "export").stdout
        assert row["password"] not in log

    def test_token(self, state: State) -> None:
        """A bearer token begins with the name that the log shows."""
        row = state.listed("credential", "add", "ci", "--kind", "bearer")
        assert row["token"].startswith("ci.")
        record = found(state, "bearer", "ci")
        assert check_token(row["token"], record.verifier)

    def test_registrar(self, state: State) -> None:
        """A token with the one right to make tokens, and its limits."""
        row = state.listed(
            *("credential", "add", "mdm", "--kind", "registrar"),
            *("--name", "cn:router-*", "--profile", "device"),
        )
        assert row["token"].startswith("mdm.")
        record = found(state, "registrar", "mdm")
        assert check_token(row["token"], record.verifier)
        assert (("cn:router-*",), ("device",)) == (
            record.names,
            record.profiles,
        )
        (row,) = state.listed("credential", "list")
        assert ("registrar", "mdm") == (row["kind"], row["name"])
        state.run("credential", "revoke", "mdm", "--yes")
        assert found(state, "registrar", "mdm").revoked_at == state.now

    def test_limits(self, state: State) -> None:
        """Names, profiles and the end are kept."""
        state.run(
            *("credential", "add", "router", "--name", "dns:*.example.org"),
            *("--profile", "device", "--expires", "90d"),
        )
        record = found(state, "basic", "router")
        assert ("dns:*.example.org",) == record.names
        assert ("device",) == record.profiles
        assert state.now + timedelta(days=90) == record.expires_at

    def test_password_from_a_file(self, state: State, tmp_path: Path) -> None:
        """A password of one's own is not printed."""
        file = tmp_path / "password"
        file.write_text("correct horse\n")
        file.chmod(0o600)
        result = state.run(
            "credential", "add", "router", "--password-file", file
        )
        assert "correct horse" not in result.output
        record = found(state, "basic", "router")
        assert check_password("correct horse", record.verifier)
        file.chmod(0o644)
        refused = state.run(
            *("credential", "add", "other", "--password-file", file), status=1
        )
        assert "chmod 600" in refused.stderr

    def test_password_too_long(self, state: State, tmp_path: Path) -> None:
        """What the gateway would never look at is refused here."""
        file = tmp_path / "password"
        file.write_text("x" * 257)
        file.chmod(0o600)
        state.run(
            *("credential", "add", "router", "--password-file", file), status=1
        )

    @pytest.mark.parametrize(
        "arguments",
        [
            ["a:b"],
            ["a\x1bb"],
            ["a.b", "--kind", "bearer"],
            ["a.b", "--kind", "registrar"],
            ["a", "--name", "dns"],
            ["a", "--name", "nosuch:*"],
            ["a", "--profile", "nosuch"],
            ["a", "--expires", "soon"],
            ["a", "--kind", "bearer", "--password-file", __file__],
            ["a", "--kind", "registrar", "--password-file", __file__],
        ],
    )
    def test_usage(self, state: State, arguments: list[str]) -> None:
        """What could never work is refused before the store is opened."""
        state.run("credential", "add", *arguments, status=2)
        assert not (state.path / "trstctl.db").exists()

    def test_exists(self, state: State) -> None:
        """A live one of the name is not replaced."""
        state.run("credential", "add", "router")
        state.run("credential", "add", "router", status=1)

    def test_revoke(self, state: State) -> None:
        """Asks, revokes, and may be repeated."""
        state.run("credential", "add", "router")
        state.run("credential", "revoke", "router", status=1)
        assert found(state, "basic", "router").revoked_at is None
        state.run("credential", "revoke", "router", "--yes")
        assert state.now == found(state, "basic", "router").revoked_at
        state.run("credential", "revoke", "router")

    def test_revoke_which(self, state: State) -> None:
        """A name of both kinds needs --kind; an unknown one is told."""
        state.run("credential", "add", "both")
        state.run("credential", "add", "both", "--kind", "bearer")
        arguments = ("credential", "revoke", "both", "--yes")
        told = state.run(*arguments, status=1).stderr
        assert "both is basic and bearer; choose by --kind" in told
        state.run(*arguments, "--kind", "bearer")
        assert found(state, "basic", "both").revoked_at is None
        state.run("credential", "revoke", "nosuch", "--yes", status=1)

    def test_tenant_must_be_named(self, state: State) -> None:
        """Of several tenants one is named."""
        two_tenants(state)
        refused = state.run("credential", "add", "router", status=1)
        assert TENANT in refused.stderr
        state.run("credential", "add", "router", "--tenant", OTHER)
        rows = state.listed("credential", "list")
        assert [OTHER] == [row["tenant"] for row in rows]
