# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.authorities`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from trstctl.authorities import (
    AuthorityFault,
    AuthorityLoader,
    Loaded,
    is_at_hand,
    key_place,
)
from trstctl.backends.keyfiles import (
    read_certificates,
    read_private_key,
    write_private_key,
)
from trstctl.backends.signers import AbsentSigner, InlineSigner
from trstctl.ca.ceremony import generate_key, public_octets
from trstctl.ca.rollover import renew_issuing
from trstctl.config.reader import load
from trstctl.discovery import discover
from trstctl.errors import Unavailable
from trstctl.founding import found_authority
from trstctl.model import Generation, Phase
from trstctl.testing import EPOCH, DeterministicBytes, result_of

_RANDOM = DeterministicBytes("authorities")
_TEXT = """\
protocols: {est: {enabled: true, tenant_id: \
11111111-1111-1111-1111-111111111111}}
"""


class Bench:
    """A state directory, and what the store says of its authority."""

    def __init__(self, state: Path) -> None:
        state.mkdir(mode=0o700)
        self.ca = state / "ca"
        found_authority(state, now=EPOCH, random_bytes=_RANDOM)
        self.file = state / "trstctl.yaml"
        self.configure("")
        self.loader = AuthorityLoader(InlineSigner)

    def configure(self, more: str) -> None:
        """Write the configuration."""
        self.file.write_text(_TEXT + more)
        self.config = load(self.file, discover().protocols)

    def generation(self, number: int, phase: Phase) -> Generation:
        """Make a generation below the root, with its key on this host."""
        key = generate_key()
        name = f"issuing-{number}"
        write_private_key(self.ca / f"{name}.key", key)
        (first,), (root,) = (
            read_certificates(self.ca / f"{each}.pem")
            for each in ("issuing", "root")
        )
        made = renew_issuing(
            first,
            public_octets(key),
            root,
            read_private_key(self.ca / "root.key"),
            EPOCH,
            _RANDOM,
        )
        return Generation(
            authority="issuing",
            number=number,
            name=name,
            phase=phase,
            chain=(made, root),
            old_with_new=b"",
            new_with_old=b"",
            key=f"file:ca/{name}.key",
            prepared_at=EPOCH,
        )

    def load(self, *generations: Generation, **more: Any) -> Loaded:
        """Load."""
        return self.loader.load(self.config, generations, **more)

    def remove(self, name: str) -> None:
        """Have a key not on this host."""
        (self.ca / f"{name}.key").rename(self.ca / f"{name}.away")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a bench."""
    return Bench(tmp_path / "state")


class LoaderTests:
    """Which authorities there are, and what each is for."""

    def test_one_key(self, bench: Bench) -> None:
        """What the configuration has, and no succession."""
        loaded = bench.load()
        assert ["issuing"] == list(loaded.authorities)
        assert {"issuing": "issuing"} == loaded.configured
        assert {} == loaded.successions
        assert loaded.authorities == loaded.needed == loaded.publishing

    @pytest.mark.parametrize(
        ("phase", "issuing", "retired"),
        [
            (Phase.PREPARED, "issuing", set()),
            (Phase.ACTIVE, "issuing-2", set()),
            (Phase.FINISHED, "issuing-2", {"issuing"}),
            (Phase.DROPPED, "issuing", {"issuing-2"}),
        ],
    )
    def test_phases(
        self, bench: Bench, phase: Phase, issuing: str, retired: set[str]
    ) -> None:
        """Both are loaded; who is retired only says what is revoked."""
        loaded = bench.load(bench.generation(2, phase))
        assert {"issuing", "issuing-2"} == set(loaded.authorities)
        assert issuing == loaded.successions["issuing"].authority
        assert retired == loaded.retired
        assert {"issuing", "issuing-2"} == set(loaded.publishing)
        assert {"issuing", "issuing-2"} - retired == set(loaded.needed)
        assert "issuing" == loaded.configured["issuing-2"]

    def test_places(self, bench: Bench) -> None:
        """Each generation points to its own CRLs."""
        bench.configure(
            "authorities: {issuing: {public_url: http://pki.example.com}}\n"
        )
        loaded = bench.load(bench.generation(2, Phase.ACTIVE))
        for name, authority in loaded.authorities.items():
            made: Any = authority
            text = b"".join(made._last_extensions[("crl",)])
            assert f"/crl/{name}.crl".encode() in text

    def test_key_that_is_elsewhere(self, bench: Bench) -> None:
        """It counts for what it has signed, and signs nothing here."""
        made = bench.generation(2, Phase.PREPARED)
        bench.remove("issuing-2")
        loaded = bench.load(made)
        assert ({"issuing-2"}, set()) == (loaded.absent, loaded.refused)
        assert ["issuing"] == list(loaded.publishing)
        assert ["issuing"] == list(loaded.needed)
        succession = loaded.successions["issuing"]
        assert ("", ("issuing-2",), ()) == (
            succession.following,
            succession.accepted,
            succession.keyed,
        )
        with pytest.raises(Unavailable):
            result_of(loaded.authorities["issuing-2"].check())

    def test_activation_that_is_refused(self, bench: Bench) -> None:
        """The old key goes on, and the host is not ready."""
        made = bench.generation(2, Phase.ACTIVE)
        bench.remove("issuing-2")
        loaded = bench.load(made)
        assert {"issuing-2"} == loaded.refused
        assert "issuing" == loaded.successions["issuing"].authority
        assert {"issuing", "issuing-2"} == set(loaded.needed)

    def test_key_that_was_destroyed(self, bench: Bench) -> None:
        """The generation is forgotten, whichever it is."""
        second = bench.generation(2, Phase.FINISHED)
        third = bench.generation(3, Phase.FINISHED)
        for name in ("issuing", "issuing-2"):
            bench.remove(name)
        loaded = bench.load(second, third)
        assert ["issuing-3"] == list(loaded.authorities)
        assert (set(), set()) == (loaded.absent, loaded.retired)
        assert "issuing-3" == loaded.successions["issuing"].authority

    def test_before_the_store_is_open(self, bench: Bench) -> None:
        """A key may lack if there is that of a later generation."""
        bench.generation(2, Phase.FINISHED)
        assert ["issuing"] == list(
            bench.loader.load(bench.config, None).authorities
        )
        bench.remove("issuing")
        assert {} == bench.loader.load(bench.config, None).authorities
        bench.remove("issuing-2")
        with pytest.raises(AuthorityFault, match="issuing"):
            bench.loader.load(bench.config, None)

    def test_key_that_still_signs(self, bench: Bench) -> None:
        """It must be there, whatever else is."""
        made = bench.generation(2, Phase.PREPARED)
        bench.remove("issuing")
        with pytest.raises(AuthorityFault, match=r"issuing\.key"):
            bench.load(made)

    def test_certificate_that_is_missing(self, bench: Bench) -> None:
        """The fault names the authority and the file."""
        (bench.ca / "root.pem").unlink()
        with pytest.raises(AuthorityFault, match=r"issuing: .*root\.pem"):
            bench.load()

    def test_key_of_another(self, bench: Bench) -> None:
        """Key and certificate must fit."""
        made = bench.generation(2, Phase.PREPARED)
        (bench.ca / "issuing-2.key").unlink()
        write_private_key(bench.ca / "issuing-2.key", generate_key())
        with pytest.raises(AuthorityFault, match=r"issuing-2: .*not this"):
            bench.load(made)

    def test_name_that_is_taken(self, bench: Bench) -> None:
        """An authority of the file cannot be a generation, too."""
        made = bench.generation(2, Phase.PREPARED)
        bench.configure("authorities: {issuing: {}, issuing-2: {}}\n")
        with pytest.raises(AuthorityFault, match="another name"):
            bench.load(made)

    def test_what_has_not_changed_is_kept(self, bench: Bench) -> None:
        """So credentials, and what was verified, need not be made anew."""
        made = bench.generation(2, Phase.PREPARED)
        bench.remove("issuing-2")
        first = bench.load(made)
        (bench.ca / "issuing-2.away").rename(bench.ca / "issuing-2.key")
        again = bench.load(made, former=first)
        assert first.authorities["issuing"] is again.authorities["issuing"]
        # Its key is here by now.
        other = again.authorities["issuing-2"]
        assert first.authorities["issuing-2"] is not other
        third = bench.load(evolve(made, phase=Phase.ACTIVE), former=again)
        assert other is third.authorities["issuing-2"]


class PlaceTests:
    """Where keys are."""

    def test_below_the_state_directory(self) -> None:
        """A file's path is relative to it; other places are as they are."""
        state = Path("/var/lib/trstctl")
        assert "file:/var/lib/trstctl/ca/a.key" == key_place(
            "file:ca/a.key", state
        )
        assert "file:/keys/a.key" == key_place("file:/keys/a.key", state)
        assert "env:KEY" == key_place("env:KEY", state)

    def test_at_hand(self, tmp_path: Path) -> None:
        """A file must exist; of other places nobody knows."""
        assert not is_at_hand(f"file:{tmp_path / 'a.key'}")
        assert is_at_hand(f"file:{tmp_path}")
        assert is_at_hand("env:KEY")


class AbsentSignerTests:
    """A key that is elsewhere."""

    def test_signs_nothing(self) -> None:
        """It is unavailable."""
        signer = AbsentSigner(b"a key")
        assert b"a key" == signer.public_key()
        with pytest.raises(Unavailable, match="not on this host"):
            result_of(signer.sign(b"", ""))
