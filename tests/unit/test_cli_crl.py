# SPDX-License-Identifier: MIT
"""``trstctl crl``."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cli_state import State, state
from cryptography import x509
from test_ca_authority import ca_certificate

from trstctl.backends.keyfiles import write_private_key
from trstctl.ca.ceremony import generate_key
from trstctl.founding import write_certificates
from trstctl.interfaces import IStore
from trstctl.model import StoredCRL

__all__ = ["state"]


@pytest.fixture
def divided(state: State) -> State:
    """Return a state whose CRLs are of every kind."""
    text = state.config.read_text()
    crl = "    crl: {delta_interval: 1h, partitions: 2}\n"
    state.config.write_text(
        text.replace("authorities:\n  issuing:\n", f"{_HEAD}{crl}")
    )
    return state


_HEAD = "authorities:\n  issuing:\n    public_url: http://pki.example.com/\n"


def put_ca(state: State, name: str, *, crl_sign: bool) -> None:
    """Put a self-signed CA where the authority of this name has its own."""
    key = generate_key()
    directory = state.path / "ca"
    for suffix in ("key", "pem"):
        (directory / f"{name}.{suffix}").unlink(missing_ok=True)
    write_private_key(directory / f"{name}.key", key)
    write_certificates(
        directory / f"{name}.pem", [ca_certificate(key, crl_sign=crl_sign)]
    )


class PublishTests:
    """``trstctl crl publish``."""

    def test_signs_each(self, divided: State) -> None:
        """Full, delta and partitions; the store has them."""
        rows = divided.listed("crl", "publish")
        assert ["full", "delta", "2/0", "2/1"] == [
            row["scope"] for row in rows
        ]
        assert rows == sorted(
            divided.listed("crl", "show", "issuing"),
            key=lambda row: [each["scope"] for each in rows].index(
                row["scope"]
            ),
        )

    def test_lists_what_is_revoked(self, state: State) -> None:
        """A certificate that was revoked is on the CRL."""
        serial = state.issued().serial
        state.run("cert", "revoke", serial, "--yes")
        (row,) = state.listed("crl", "publish", "issuing")
        assert 1 == row["entries"]

        async def read(store: IStore) -> StoredCRL | None:
            return await store.find_crl("issuing", "", 0)

        crl = state.with_store(read)
        assert crl is not None
        assert row["octets"] == len(crl.der)
        (entry,) = x509.load_der_x509_crl(crl.der)
        assert serial == f"{entry.serial_number:x}"

    def test_is_audited_under_who_did_it(self, state: State) -> None:
        """The operator's name stands in the audit log."""
        state.run("crl", "publish")
        audit = state.path / "audit.jsonl"
        state.run("audit", "export", "--output", audit)
        assert "operator:test" in audit.read_text()

    def test_every_time_anew(self, state: State) -> None:
        """Due or not."""
        numbers = [
            state.listed("crl", "publish")[0]["number"] for _ in range(2)
        ]
        assert [1, 2] == numbers

    def test_needs_the_key_usage(self, state: State) -> None:
        """RFC 5280, section 4.2.1.3: cRLSign, or a plain refusal."""
        put_ca(state, "issuing", crl_sign=False)
        state.config.write_text(
            state.config.read_text().replace('["ca/root.pem"]', "[]")
        )
        result = state.run("crl", "publish", "issuing", status=1)
        assert "lacks cRLSign" in result.stderr
        result = state.run("crl", "publish", status=1)
        assert "no authority can sign a CRL" in result.stderr

    def test_of_all_those_that_can(self, state: State) -> None:
        """One that signs no CRL does not keep the others from it."""
        put_ca(state, "other", crl_sign=False)
        state.config.write_text(
            state.config.read_text().replace(
                "authorities:\n",
                "authorities:\n  other: {certificate: ca/other.pem, "
                "key: 'file:ca/other.key', chain: []}\n",
            )
        )
        result = state.run("crl", "publish")
        assert "left out: authority other" in result.stderr
        assert "issuing" in result.stdout

    def test_expired(self, state: State) -> None:
        """Nobody could verify its CRL."""
        state.now += timedelta(days=20 * 365)
        result = state.run("crl", "publish", "issuing", status=1)
        assert "its certificate has expired" in result.stderr
        assert [] == state.listed("crl", "show")

    @pytest.mark.parametrize("verb", ["publish", "show"])
    def test_unknown_authority(self, state: State, verb: str) -> None:
        """Those that exist are named."""
        result = state.run("crl", verb, "other", status=1)
        assert "use one of issuing" in result.stderr


class ShowTests:
    """``trstctl crl show``."""

    def test_nothing_yet(self, state: State) -> None:
        """Before the first one there is none."""
        assert [] == state.listed("crl", "show")

    def test_table(self, state: State) -> None:
        """Times, number, entries."""
        state.run("crl", "publish")
        heading, row = state.run("crl", "show").stdout.splitlines()
        assert heading.startswith("AUTHORITY  SCOPE  NUMBER  BASE")
        assert ["issuing", "full", "1"] == row.split()[:3]
