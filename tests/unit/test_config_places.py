# SPDX-License-Identifier: MIT
"""Tests for :mod:`trstctl.config.places`, and the keys that it reads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from trstctl.ca.edition import Schedule
from trstctl.ca.pointers import NOWHERE, Places
from trstctl.config.model import Configuration
from trstctl.config.places import (
    doubt_about,
    issuer_of,
    over_tls,
    places_of,
    same_for_all,
)
from trstctl.config.reader import ConfigurationError, load
from trstctl.discovery import discover
from trstctl.testing.authority import make_authority

_SERVED = "protocols: {revocation: {enabled: true}}\n"

Read = Callable[..., Configuration]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Load a text as the configuration."""
    plugins = discover().protocols

    def reading(authority: str = "", rest: str = _SERVED) -> Configuration:
        path = tmp_path / "trstctl.yaml"
        path.write_text(f"authorities: {{issuing: {{{authority}}}}}\n{rest}")
        return load(path, plugins)

    return reading


@pytest.fixture
def fault(read: Read) -> Callable[[str], str]:
    """Load a text, and return its only fault."""

    def reading(authority: str) -> str:
        with pytest.raises(ConfigurationError) as caught:
            read(authority)
        (told,) = caught.value.faults
        return str(told)

    return reading


def _below(base: str, partitions: int = 1) -> Places:
    """All places below a base."""
    return Places(
        crl=(f"{base}/crl/issuing.crl",),
        partition=(f"{base}/crl/issuing/{{partition}}.crl",),
        delta=(f"{base}/crl/issuing/delta.crl",),
        ocsp=(f"{base}/ocsp/issuing",),
        issuer=(f"{base}/ca/issuing.cer",),
        partitions=partitions,
    )


class PlaceTests:
    """What certificates point to."""

    @pytest.mark.parametrize(
        ("listeners", "base"),
        [
            ("http: {enabled: true}", "http://localhost:8080"),
            ("http: {enabled: true, port: 80}", "http://localhost"),
            (
                "http: {enabled: true}, https: {names: [b.example, a]}",
                "http://b.example:8080",
            ),
            (
                "http: {enabled: true}, https: {names: ['2001:db8::1']}",
                "http://[2001:db8::1]:8080",
            ),
            ("http: {enabled: false}", "https://localhost:8443"),
            ("http: {enabled: true, port: 0}", "https://localhost:8443"),
            ("https: {port: 443}", "https://localhost"),
        ],
    )
    def test_follow_the_listeners(
        self, read: Read, listeners: str, base: str
    ) -> None:
        """RFC 5280, section 8: not over TLS, if there is a choice."""
        config = read(rest=f"{_SERVED}listeners: {{{listeners}}}\n")
        assert _below(base) == places_of(config, "issuing")

    @pytest.mark.parametrize(
        ("authority", "listeners", "doubt"),
        [
            ("", "http: {enabled: true}", "http://localhost:8080 is this"),
            ("", "https: {names: ['::1']}", "https://[::1]:8443 is this"),
            ("", "https: {names: [a.example]}", "is over TLS"),
            ("", "http: {enabled: true}, https: {names: [a.example]}", ""),
            ("", "https: {port: 0}", ""),
            ("public_url: 'http://localhost'", "https: {port: 1}", ""),
            ("public_url: none", "https: {port: 1}", ""),
            (
                "urls: {crl: [], partition: [], ocsp: ['http://a.example/'], "
                "issuer: []}",
                "https: {port: 1}",
                "",
            ),
        ],
    )
    def test_doubt(
        self, read: Read, authority: str, listeners: str, doubt: str
    ) -> None:
        """What nobody has chosen may lead others nowhere."""
        rest = f"{_SERVED}listeners: {{{listeners}}}\n"
        told = doubt_about(read(authority, rest), "issuing")
        assert doubt in told
        assert bool(doubt) is bool(told)

    def test_without_being_asked_for(self, read: Read) -> None:
        """The status of certificates is served unless it is disabled."""
        config = read(rest="protocols: {est: {enabled: false}}\n")
        assert _below("https://localhost:8443") == places_of(config, "issuing")

    @pytest.mark.parametrize(
        ("authority", "rest"),
        [
            ("public_url: none", _SERVED),
            ("", "protocols: {revocation: {enabled: false}}\n"),
            ("", f"{_SERVED}listeners: {{https: {{port: 0}}}}\n"),
            ("", ""),
            ("public_url: none, crl: {partitions: 4}", _SERVED),
        ],
    )
    def test_nowhere(self, read: Read, authority: str, rest: str) -> None:
        """Nothing points to what is not served, or at an unknown port."""
        assert NOWHERE == places_of(read(authority, rest), "issuing")

    @pytest.mark.parametrize(
        "url", ["http://pki.example.com", "http://pki.example.com/"]
    )
    def test_public_url(self, read: Read, url: str) -> None:
        """What the operator says, whatever is served by whom."""
        config = read(
            f"public_url: {url}, crl: {{partitions: 8}}", "protocols: {}\n"
        )
        assert _below("http://pki.example.com", 8) == places_of(
            config, "issuing"
        )

    def test_urls_take_the_place_of_others(self, read: Read) -> None:
        """An empty list leaves a pointer out."""
        config = read(
            "public_url: http://a.example, urls: {ocsp: [], crl: "
            "[http://b.example/1.crl, 'http://c.example/2.crl']}"
        )
        places = places_of(config, "issuing")
        assert () == places.ocsp
        assert (
            "http://b.example/1.crl",
            "http://c.example/2.crl",
        ) == places.crl
        assert ("http://a.example/ca/issuing.cer",) == places.issuer

    def test_over_tls(self, read: Read) -> None:
        """One such URL is enough."""
        for url, found in (("https", True), ("http", False)):
            config = read(f"urls: {{ocsp: ['{url}://a.example/o']}}", "")
            assert found == over_tls(places_of(config, "issuing"))


class GenerationTests:
    """Each key of an authority has places of its own."""

    def test_below_the_public_url(self, read: Read) -> None:
        """By the name of the generation."""
        config = read("public_url: http://a.example")
        places = places_of(config, "issuing", "issuing-2")
        assert ("http://a.example/crl/issuing-2.crl",) == places.crl
        assert ("http://a.example/ocsp/issuing-2",) == places.ocsp
        second: Any = make_authority("issuing-2")
        assert places == issuer_of(config, second, "issuing").places

    def test_chosen_urls(self, read: Read) -> None:
        """The name stands where the file says so."""
        config = read(
            "urls: {crl: ['http://a.example/{authority}.crl'], partition: "
            "['http://a.example/{authority}/{partition}.crl']}"
        )
        places = places_of(config, "issuing", "issuing-2")
        assert ("http://a.example/issuing-2.crl",) == places.crl
        assert ("http://a.example/issuing-2/{partition}.crl",) == (
            places.partition
        )
        assert [] == same_for_all(config.authorities["issuing"])

    def test_urls_that_are_the_same(self, read: Read) -> None:
        """They would lead to what another key has signed."""
        config = read(
            "urls: {crl: ['http://a.example/a.crl'], issuer: [], ocsp: "
            "['http://a.example/{authority}', 'http://a.example/o']}"
        )
        assert ["crl", "ocsp"] == same_for_all(config.authorities["issuing"])


class ScheduleTests:
    """When CRLs are signed."""

    def test_issuer(self, read: Read) -> None:
        """The publisher gets what the file says."""
        config = read(
            "crl: {lifetime: 4d, interval: 12h, delta_interval: 1h, pause: 5s}"
        )
        authority: Any = make_authority()
        issuer = issuer_of(config, authority)
        assert authority is issuer.authority
        assert (
            Schedule(
                lifetime=timedelta(days=4),
                interval=timedelta(hours=12),
                delta_interval=timedelta(hours=1),
                pause=timedelta(seconds=5),
            )
            == issuer.schedule
        )
        assert places_of(config, "issuing") == issuer.places

    def test_defaults(self, read: Read) -> None:
        """Those of the publisher."""
        config = read()
        authority: Any = make_authority()
        assert Schedule() == issuer_of(config, authority).schedule


class FaultTests:
    """What makes no sense is refused, with the remedy."""

    @pytest.mark.parametrize(
        ("authority", "told"),
        [
            ("public_url: pki.example.com", "write auto, none, or a URL"),
            ("public_url: 'ldap://a.example'", "write auto, none, or a URL"),
            ("public_url: 'http://u@a.example'", "write auto, none"),
            ("public_url: 'http://a.example/?q'", "write auto, none"),
            ("public_url: http://a.example/\\u00e4", "write auto, none"),
            ("urls: {crl: [a.crl]}", "write a URL such as"),
            ("urls: {partition: ['http://a.example']}", "{partition} once"),
            (
                "urls: {partition: ['file:{partition}']}",
                "write a URL such as",
            ),
            ("crl: {partitions: 3}", "must be 1, 2, 4, 8, 16, 32 or 64"),
            ("crl: {interval: 30s}", "interval must be at least 1m"),
            ("crl: {interval: 4d}", "at least twice the interval"),
            ("crl: {delta_interval: 1d}", "less than interval"),
            ("crl: {delta_interval: 1s}", "at least 1m"),
            ("crl: {often: true}", "unknown key"),
        ],
    )
    def test_is_told(
        self, fault: Callable[[str], str], authority: str, told: str
    ) -> None:
        """One line."""
        assert told in fault(authority)
