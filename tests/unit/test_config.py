# SPDX-License-Identifier: MIT
"""The configuration: everything that is wrong, at its place, at once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from attrs import define, fields
from pydantic import Field
from ruamel.yaml import YAML

from trstctl.config.model import Configuration
from trstctl.config.profiles import ProfileSection
from trstctl.config.reader import (
    ConfigurationError,
    effective,
    json_schema,
    load,
)
from trstctl.config.secrets import (
    LIMIT,
    Secret,
    SecretError,
    SecretReference,
    check_reference,
    read_secret,
)
from trstctl.config.tree import LIMIT as FILE_LIMIT
from trstctl.model import Endpoint
from trstctl.policy.settings import (
    APPROVALS,
    COMMON_NAME_RULES,
    ProfileSettings,
)
from trstctl.settings import Label, ProtocolSettings, Section

_TENANT = "11111111-1111-1111-1111-111111111111"
_ENABLED = f"enabled: true, tenant_id: {_TENANT}"


class _LabelSettings(Section):
    """A section below a label."""

    profile: str | None = None


class _Settings(ProtocolSettings):
    """A protocol with settings of several kinds."""

    labels: dict[Label, _LabelSettings] = Field(default={})
    address: IPv4Address | None = None
    words: tuple[str, ...] = ()
    password: SecretReference | None = None
    api_key: str = ""


@define
class _Plugin:
    """A protocol that needs no drop-in."""

    name: str
    schema: type = _Settings
    served: Sequence[str] = ()
    version: str = "1"

    def settings_schema(self) -> type:
        """Return the schema."""
        return self.schema

    def paths(self, settings: Any) -> Sequence[str]:
        """Return the given paths, or the name."""
        return self.served or (f"/{self.name}",)

    def endpoints(self, settings: Any) -> Sequence[Endpoint]:
        """Return one endpoint for the section and for each label."""
        return [
            Endpoint(
                self.name,
                label,
                settings.tenant_id,
                profile or settings.profile,
                settings.authority,
            )
            for label, profile in (
                ("", None),
                *((k, v.profile) for k, v in settings.labels.items()),
            )
        ]


class _Failing(_Plugin):
    """A protocol whose methods raise."""

    def settings_schema(self) -> type:
        """Fail as an import does."""
        raise ImportError("no\nmodule")


Load = Callable[..., Configuration]


@pytest.fixture
def read(tmp_path: Path) -> Load:
    """Load a text as the configuration."""

    def _read(text: str | bytes, *plugins: Any) -> Configuration:
        path = tmp_path / "trstctl.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        chosen = plugins or (_Plugin("est"),)
        return load(path, {plugin.name: plugin for plugin in chosen})

    return _read


@pytest.fixture
def faults(read: Load, tmp_path: Path) -> Callable[..., list[str]]:
    """Load a text, and return its faults without the folder's name."""

    def _faults(text: str | bytes, *plugins: Any) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            read(text, *plugins)
        told = str(caught.value).splitlines()
        assert len(told) == len(caught.value.faults)
        return [line.removeprefix(f"{tmp_path}/") for line in told]

    return _faults


Faults = Callable[..., list[str]]


class DefaultTests:
    """What a short file means."""

    def test_smallest_file_is_complete(
        self, read: Load, tmp_path: Path
    ) -> None:
        """One enabled protocol with its tenant; the rest is default."""
        loaded = read(f"protocols: {{est: {{{_ENABLED}}}}}")

        assert tmp_path == loaded.state
        assert f"sqlite:{tmp_path}/trstctl.db" == loaded.store
        assert 8443 == loaded.listeners.https.port
        assert "127.0.0.1" == loaded.listeners.ops.interface
        assert loaded.listeners.http.enabled is False
        authority = loaded.authorities["issuing"]
        assert tmp_path / "ca/issuing.pem" == authority.certificate
        assert f"file:{tmp_path}/ca/issuing.key" == authority.key
        assert (tmp_path / "ca/root.pem",) == authority.chain
        assert loaded.names_authorities is False
        assert 900 == loaded.limits.retry_window
        assert loaded.log.file is None
        assert {"device", "tls-server", "tls-client"} == set(loaded.profiles)
        assert ["est"] == list(loaded.protocols)
        assert "device" == loaded.endpoints["est"][0].profile
        assert {_TENANT} == loaded.tenants

    def test_own_protocols_take_it(self, tmp_path: Path) -> None:
        """The fragment of the manual, with the real protocol."""
        from trstctl.discovery import discover

        path = tmp_path / "trstctl.yaml"
        path.write_text(
            "protocols: {est: {enabled: true, tenant_id: "
            '"11111111-1111-1111-1111-111111111111"}}\n'
        )

        assert _TENANT == (
            load(path, discover().protocols).endpoints["est"][0].tenant_id
        )

    def test_keys_without_values_are_defaults(self, read: Load) -> None:
        """Empty sections, empty keys, and empty sections with a name."""
        loaded = read(
            "listeners:\nlog: {file: , level: }\nlimits: ~\n"
            "authorities: {issuing: , other: }\nprofiles: {mine: }\n"
            f"protocols: {{est: {{{_ENABLED}, labels: {{a: }}}}, scep: }}",
            _Plugin("est"),
            _Plugin("scep"),
        )

        assert 9443 == loaded.listeners.ops.port
        assert {"issuing", "other"} == set(loaded.authorities)
        assert loaded.names_authorities is True
        assert ProfileSettings() == loaded.profiles["mine"]
        assert ["", "a"] == [each.name for each in loaded.endpoints["est"]]
        assert ["est"] == list(loaded.protocols)

    def test_paths_are_below_the_state(
        self, read: Load, tmp_path: Path
    ) -> None:
        """And the state is below the file's folder; absolute ones stay."""
        loaded = read(
            "state: var\n"
            "store: sqlite:x.db\n"
            "log: {file: log/gateway}\n"
            "listeners: {https: {certificate: {chain: a.pem, "
            "key: 'file:a.key'}}}\n"
            "authorities: {issuing: {certificate: /etc/ca.pem, "
            "key: 'cred:ca', passphrase: 'env:PASS', chain: []}}\n"
            f"tenants: {{{_TENANT}: {{name: Us}}}}"
        )

        state = tmp_path / "var"
        assert state == loaded.state
        assert f"sqlite:{state}/x.db" == loaded.store
        assert state / "log/gateway" == loaded.log.file
        certificate = loaded.listeners.https.certificate
        assert certificate != "auto"
        assert state / "a.pem" == certificate.chain
        assert f"file:{state}/a.key" == certificate.key
        authority = loaded.authorities["issuing"]
        assert Path("/etc/ca.pem") == authority.certificate
        assert ("cred:ca", "env:PASS") == (authority.key, authority.passphrase)
        assert {_TENANT} == loaded.tenants

    def test_other_stores_are_left_alone(self, read: Load) -> None:
        """Only SQLite has a path."""
        url = "postgresql://gateway@db.example/trstctl"

        assert url == read(f"store: {url}").store

    def test_plugin_may_use_any_type(self, read: Load) -> None:
        """A list becomes a tuple and a text an address, strictly."""
        loaded = read(
            f"protocols: {{est: {{{_ENABLED}, address: 192.0.2.1, "
            "words: [a, b]}}"
        )

        settings = loaded.protocols["est"]
        assert isinstance(settings, _Settings)
        assert IPv4Address("192.0.2.1") == settings.address
        assert ("a", "b") == settings.words

    def test_names_are_canonical(self, read: Load) -> None:
        """Host names in lower case, addresses in their shortest form."""
        loaded = read(
            "listeners: {https: {names: [CA.Example, '2001:DB8::0']}}"
        )

        assert ("ca.example", "2001:db8::") == loaded.listeners.https.names


class SyntaxTests:
    """What cannot be parsed is told with its place."""

    @pytest.mark.parametrize(
        ("text", "place", "words"),
        [
            ("", "1:1", "the file is empty; the least is a protocol"),
            ("# nothing\n", "1:1", "the file is empty"),
            ("- a\n", "1:1", "must consist of keys"),
            ("just text", "1:1", "must consist of keys"),
            ("log:\n\tlevel: info", "2:1", "indent with spaces"),
            ("log: {level: info", "1:18", "is not YAML: while parsing"),
            ("log: a: b", "1:7", "mapping values are not allowed here"),
            ("log: @x", "1:6", "cannot start any token"),
            ("a: 1\n--- \nb: 2", "2:1", "but found another document"),
            ("log: *x", "1:6", "undefined alias"),
            ("a: b\nc: \x01", "2:4", "control character"),
            (b"a: \xff", "1:4", "is not UTF-8"),
            ("[" * 101, "1:1", "has too many open brackets"),
            ("- " * 500 + "x", "1:1", "cannot be parsed (RecursionError)"),
            ("x" * (FILE_LIMIT + 1), "1:1", "is larger than"),
        ],
    )
    def test_unreadable_text_has_one_fault(
        self, faults: Faults, text: str | bytes, place: str, words: str
    ) -> None:
        """File, line, column, and what to do."""
        (fault,) = faults(text)

        assert fault.startswith(f"trstctl.yaml:{place}: ")
        assert words in fault

    def test_missing_file_is_told(self, tmp_path: Path) -> None:
        """With the reason of the operating system."""
        with pytest.raises(ConfigurationError, match="No such file") as caught:
            load(tmp_path / "none.yaml", {})

        assert f"{tmp_path}/none.yaml:1:1: cannot be read" in str(caught.value)

    def test_directory_is_told(self, tmp_path: Path) -> None:
        """What is no file cannot be read."""
        with pytest.raises(ConfigurationError, match="Is a directory"):
            load(tmp_path, {})

    def test_byte_order_mark_is_ignored(self, read: Load) -> None:
        """Some editors write one."""
        assert "debug" == read(b"\xef\xbb\xbflog: {level: debug}").log.level


class ValueTests:
    """YAML has surprises; a configuration has none."""

    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            (
                "log: {}\nlog: {}",
                (
                    "2:1: log: duplicate key (first in line 1); remove one of "
                    "the two"
                ),
            ),
            (
                "log: &a {level: info}",
                (
                    "1:6: log: anchors and aliases are not used here; write the "
                    "value out"
                ),
            ),
            (
                "log: !!python/object:os.system x",
                (
                    "1:6: log: has the tag !!python/object:os.system; remove the "
                    "tag"
                ),
            ),
            ("log: !x {}", "1:6: log: has the tag !x; remove the tag"),
            ("log: !x []", "1:6: log: has the tag !x; remove the tag"),
            ("? {a: 1}\n: b\n", "1:3: a key must be plain text"),
            ("? &a log\n: {}\n", "1:3: a key must be plain text"),
            ('"a\\nb": 1\n', "1:1: a key must be plain text"),
            ('"\\e[2J": 1\n', "1:1: a key must be plain text"),
            ('"\\ud800": 1\n', "1:1: a key must be plain text"),
            (
                f"limits: {{connections: 0x{'f' * 5000}}}",
                "1:23: limits.connections: is not a valid int; put it in "
                "quotes",
            ),
            (
                "log: {level: .nan}",
                "1:14: log.level: is not a valid float; put it in quotes",
            ),
            (
                "%YAML 1.1\n---\nlog: {level: yes}",
                "3:14: log.level: is not a valid bool; put it in quotes",
            ),
            (
                "limits: {idle_seconds: 1e999}",
                (
                    "1:24: limits.idle_seconds: is not a valid float; put it in "
                    "quotes"
                ),
            ),
            (
                "&a {log: {}}",
                "1:1: anchors and aliases are not used here; write the value out",
            ),
            (
                "limits: {running: 0x_}",
                "1:19: limits.running: is not a valid int; put it in quotes",
            ),
            (
                "limits: {running: " + "9" * 5000 + "}",
                "1:19: limits.running: is not a valid int; put it in quotes",
            ),
            (
                'log: {file: "\\ud800"}',
                "1:13: log.file: is not a valid str; put it in quotes",
            ),
            (
                "profiles: {a: {key_types: [rsa, !x p-256, 7]}}",
                "1:33: profiles.a.key_types.1: has the tag !x; remove the tag",
            ),
            (
                "<<: {log: {}}",
                (
                    "1:1: <<: unknown key; known here: authorities, limits, "
                    "listeners, log, profiles, protocols, state, store, tenants"
                ),
            ),
        ],
    )
    def test_surprise_is_refused(
        self, faults: Faults, text: str, fault: str
    ) -> None:
        """At its place, with the remedy; nothing else is told for it."""
        assert f"trstctl.yaml:{fault}" == faults(text)[0]

    def test_alias_bomb_is_not_expanded(self, faults: Faults) -> None:
        """A billion laughs are one fault a line."""
        lines = ["a0: &a0 [x]"] + [
            f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]"
            for n in range(1, 20)
        ]

        told = faults("\n".join(lines))

        assert 20 == sum("anchors" in fault for fault in told)

    def test_depth_is_bounded(self, faults: Faults) -> None:
        """Nobody needs 20 levels."""
        text = "".join(f"{' ' * n}a:\n" for n in range(22)) + " " * 22 + "b"

        assert any("nested too deeply" in fault for fault in faults(text))

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("010", 10),
            ("0x10", 16),
            ("0o10", 8),
            ("+12", 12),
        ],
    )
    def test_numbers_are_yaml_1_2(
        self, read: Load, text: str, value: int
    ) -> None:
        """A leading zero is no octal number."""
        assert value == read(f"limits: {{running: {text}}}").limits.running

    def test_words_stay_text(self, read: Load) -> None:
        """``on`` and dates are text, also as keys."""
        profile = "{names: {uri: ['urn:x']}, subject: {CN: {fixed: %s}}}"
        loaded = read(
            f"profiles: {{on: {profile % 'on'}, d: {profile % '2026-01-01'}}}"
        )

        assert "on" == loaded.profiles["on"].subject["CN"].fixed
        assert "2026-01-01" == loaded.profiles["d"].subject["CN"].fixed

    def test_fractions_are_numbers(self, read: Load) -> None:
        """And whole numbers serve as fractions."""
        limits = read("limits: {idle_seconds: 1.5, wait_seconds: 2}").limits

        assert (1.5, 2.0) == (limits.idle_seconds, limits.wait_seconds)


class ShapeTests:
    """Unknown keys and wrong types."""

    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            (
                "profiles:\n  tls-client:\n    key_typs: [rsa]",
                (
                    "3:5: profiles.tls-client.key_typs: unknown key "
                    "(did you mean key_types?)"
                ),
            ),
            (
                "listeners: {htps: }",
                "1:13: listeners.htps: unknown key (did you mean https?)",
            ),
            (
                (
                    "listeners: {https: {certificate: {chian: x, chain: x, "
                    "key: 'env:K'}}}"
                ),
                (
                    "1:35: listeners.https.certificate.chian: unknown key "
                    "(did you mean chain?)"
                ),
            ),
            (
                "protocols: {est: {labels: {a: {profle: x}}}}",
                (
                    "1:32: protocols.est.labels.a.profle: unknown key "
                    "(did you mean profile?)"
                ),
            ),
            (
                "protocols: {etc: {}}",
                "1:13: protocols.etc: unknown protocol (did you mean est?)",
            ),
            (
                "protocols: {cmp: {}}",
                "1:13: protocols.cmp: unknown protocol; known here: est",
            ),
            (
                "protocols: {est: {enabled: tru}}",
                (
                    "1:28: protocols.est.enabled: must be true or false, not "
                    'the text "tru"'
                ),
            ),
            (
                "listeners: {https: {port: '8443'}}",
                (
                    "1:27: listeners.https.port: must be a whole number, not "
                    'the text "8443"'
                ),
            ),
            (
                "listeners: {https: {port: 70000}}",
                "1:27: listeners.https.port: must be at most 65535, not 70000",
            ),
            (
                "listeners: {https: {port: true}}",
                "1:27: listeners.https.port: must be a whole number, not true",
            ),
            (
                "listeners: {https: {certificate: automatic}}",
                (
                    "1:34: listeners.https.certificate: must be 'auto', not the "
                    'text "automatic"'
                ),
            ),
            (
                "listeners: {https: {certificate: {chain: x}}}",
                "1:21: listeners.https.certificate.key: missing; add it",
            ),
            (
                "listeners: {https: {names: []}}",
                "1:28: listeners.https.names: must have at least 1 entries",
            ),
            (
                "listeners: {https: {names: [a, b_c]}}",
                (
                    "1:32: listeners.https.names.1: write a DNS name or an IP "
                    "address"
                ),
            ),
            (
                "listeners: {https: {names: [null]}}",
                (
                    "1:29: listeners.https.names.0: must be text; put it in "
                    "quotes, not empty"
                ),
            ),
            (
                "listeners: {ops: {interface: localhost}}",
                (
                    "1:30: listeners.ops.interface: an interface is an IP "
                    'address, such as 127.0.0.1 or ::1; leave it empty ("") for '
                    "all"
                ),
            ),
            (
                "log: [1]",
                (
                    "1:6: log: must be a section: keys with their values, "
                    "indented below"
                ),
            ),
            (
                "log: {level: loud}",
                (
                    "1:14: log.level: must be 'debug', 'info', 'warn', 'error' "
                    "or 'critical', not the text \"loud\""
                ),
            ),
            ("log: {file: ''}", "1:13: log.file: write the path of a file"),
            (
                "store: trstctl.db",
                (
                    "1:8: store: a store is backend:place, such as "
                    "sqlite:trstctl.db"
                ),
            ),
            (
                "limits: {retry_window: 5}",
                (
                    "1:24: limits.retry_window: a duration is a whole number and "
                    "a unit: 90d, 12h, 15m or 30s"
                ),
            ),
            (
                "limits: {idle_seconds: 0}",
                "1:24: limits.idle_seconds: must be greater than 0, not 0",
            ),
            (
                "authorities: {}",
                "1:14: authorities: must have at least 1 entries",
            ),
            (
                "authorities: {Foo: {}}",
                (
                    "1:15: authorities.Foo: use 1 to 63 lower-case letters, "
                    "digits and hyphens, and begin with a letter or digit"
                ),
            ),
            (
                "authorities: {issuing: {key: hunter2}}",
                (
                    "1:30: authorities.issuing.key: a secret must not stand "
                    "here; write file:PATH, env:NAME or cred:NAME, and put the "
                    "secret there"
                ),
            ),
            (
                "authorities: {issuing: {key: 31337}}",
                (
                    "1:30: authorities.issuing.key: must be text; put it in "
                    "quotes"
                ),
            ),
            (
                "tenants: {none: {name: x}}",
                (
                    "1:11: tenants.none: a tenant is a UUID, such as "
                    "11111111-1111-1111-1111-111111111111"
                ),
            ),
            (
                "protocols: [est]",
                (
                    "1:12: protocols: must be a section: keys with their "
                    "values, indented below"
                ),
            ),
            (
                "profiles: [device]",
                (
                    "1:11: profiles: must be a section: keys with their values, "
                    "indented below"
                ),
            ),
            (
                "protocols: {est: {address: 192.0.2.256}}",
                (
                    "1:28: protocols.est.address: Octet 256 (> 255) not "
                    "permitted in '192.0.2.256'"
                ),
            ),
        ],
    )
    def test_fault_is_told_at_its_place(
        self, faults: Faults, text: str, fault: str
    ) -> None:
        """Line, column, key, what is wrong and what to do."""
        assert [f"trstctl.yaml:{fault}"] == faults(text)

    def test_every_fault_is_told_at_once(self, faults: Faults) -> None:
        """Of the syntax tree, of shapes, of profiles and across sections."""
        told = faults(
            "log: {level: 1, level: 2}\n"
            "listeners: {ops: {port: 8443}, http: {port: x}}\n"
            "profiles: {a: {names: {dns: ['']}}, b: {key_type: x}}\n"
            f"protocols: {{est: {{{_ENABLED}, profile: divice}}, x: {{}}}}\n"
            "listners: {}\n"
        )

        keys = [fault.split(" ")[1] for fault in told]
        assert [
            "log.level:",
            "log.level:",
            "listeners.http.port:",
            "profiles.a.names.dns:",
            "profiles.b.key_type:",
            "protocols.est.profile:",
            "protocols.x:",
            "listners:",
        ] == keys

    def test_long_values_are_not_repeated(self, faults: Faults) -> None:
        """Nor is anything that may be a secret."""
        told = faults(
            f"log: {{level: {'x' * 99}}}\nprotocols: {{est: {{api_key: 1}}}}"
        )

        assert not any(", not" in fault for fault in told)


class ProfileTests:
    """Profiles are judged by their policy, at their keys."""

    def test_section_is_the_policy_key_by_key(self) -> None:
        """Same names, same defaults, but for what is the gateway's own."""
        names = {each.name for each in fields(ProfileSettings)}

        assert names - {"ocsp_no_check"} == set(ProfileSection.model_fields)
        assert ProfileSettings() == ProfileSection().settings()

    def test_choices_are_those_of_the_policy(self) -> None:
        """The schema offers what the policy takes."""
        properties = ProfileSection.model_json_schema()["properties"]

        assert [*COMMON_NAME_RULES] == properties["common_name"]["enum"]
        assert [*APPROVALS] == properties["approval"]["enum"]

    def test_values_reach_the_policy(self, read: Load) -> None:
        """Durations, nested rules and lists."""
        loaded = read(
            "profiles: {device: {validity_default: 12h, backdate: 30s, "
            "renewal_window: 15m, subject: {O: {fixed: Us}, CN: }, "
            "names: {dns: ['*']}, allow: {protocols: [est], "
            f"tenants: [{_TENANT}]}}}}}}"
        )

        device = loaded.profiles["device"]
        assert timedelta(hours=12) == device.validity_default
        assert timedelta(seconds=30) == device.backdate
        assert timedelta(minutes=15) == device.renewal_window
        assert ["O", "CN"] == list(device.subject)
        assert "Us" == device.subject["O"].fixed
        assert {"dns": ("*",)} == device.names
        assert ("est",) == device.allow.protocols
        assert (_TENANT,) == device.allow.tenants

    def test_fault_is_told_at_the_key(self, faults: Faults) -> None:
        """A pattern that does not compile, a duration that is too long."""
        told = faults(
            "profiles:\n"
            "  a:\n"
            "    validity_default: 9000d\n"
            "    subject: {CN: {pattern: 're:('}}\n"
        )

        assert told[0].startswith(
            "trstctl.yaml:3:23: profiles.a.validity_default: "
        )
        assert told[1].startswith(
            "trstctl.yaml:4:29: profiles.a.subject.CN.pattern: "
        )

    def test_longest_duration(self, read: Any, faults: Faults) -> None:
        """Nothing ends at a time that cannot be written."""
        assert (
            36500 * 86400
            == read("limits: {key_retention: 36500d}").limits.key_retention
        )
        (fault,) = faults("limits: {key_retention: 999999999d}")
        assert "a duration is at most 36500d" in fault

    def test_gateway_profile_is_reserved(self, faults: Faults) -> None:
        """The gateway's own server certificate has a profile of its own."""
        (fault,) = faults("profiles: {gateway-tls: {}}")

        assert "1:12: profiles.gateway-tls: this name is" in fault


class CrossTests:
    """What spans sections."""

    def test_enabled_protocol_needs_a_tenant(self, faults: Faults) -> None:
        """At the protocol's line, with the remedy."""
        (fault,) = faults("protocols:\n  est:\n    enabled: true\n")

        assert fault.startswith(
            "trstctl.yaml:2:3: protocols.est.tenant_id: missing; an enabled "
            "protocol serves one tenant: add tenant_id: "
        )

    def test_protocol_without_tenants(self, read: Load) -> None:
        """One that serves no tenant needs none, and has no endpoints."""

        class _Public(_Settings):
            serves_tenant = False

        class _PublicPlugin(_Plugin):
            def endpoints(self, settings: Any) -> Sequence[Endpoint]:
                return ()

        plugin = _PublicPlugin("crl", _Public)
        loaded = read("protocols: {crl: {enabled: true}}", plugin)
        assert {"crl": ()} == loaded.endpoints
        assert set() == loaded.tenants
        assert ["crl"] == list(loaded.protocols)

    def test_wrong_tenant_is_not_missing(self, faults: Faults) -> None:
        """One fault for one mistake."""
        (one,) = faults("protocols: {est: {enabled: true, tenant_id: x}}")
        (two,) = faults("protocols: {est: {enabled: true, tenant_id: !x y}}")

        assert "a tenant is a UUID" in one
        assert "has the tag !x" in two

    def test_disabled_protocol_needs_nothing(self, read: Load) -> None:
        """It is checked, and not served."""
        loaded = read("protocols: {est: {profile: none}}")

        assert {} == loaded.protocols
        assert {} == loaded.endpoints
        assert set() == loaded.tenants

    @pytest.mark.parametrize(
        ("section", "fault"),
        [
            (
                "profile: devise",
                (
                    "1:92: protocols.est.profile: unknown profile "
                    "(did you mean device?); or add it to profiles"
                ),
            ),
            (
                "labels: {a: {profile: none}}",
                (
                    "1:105: protocols.est.labels.a.profile: unknown profile; "
                    "known here: device, tls-client, tls-server; or add it to "
                    "profiles"
                ),
            ),
            (
                "authority: other",
                (
                    "1:94: protocols.est.authority: unknown authority; known "
                    "here: issuing; or add it to authorities"
                ),
            ),
        ],
    )
    def test_endpoints_name_what_exists(
        self, faults: Faults, section: str, fault: str
    ) -> None:
        """At the key that names it."""
        told = faults(f"protocols: {{est: {{{_ENABLED}, {section}}}}}")

        assert [f"trstctl.yaml:{fault}"] == told

    def test_missing_default_authority_is_told(self, faults: Faults) -> None:
        """At the protocol, where no key names it."""
        (fault,) = faults(
            "authorities: {other: {}}\n"
            f"protocols: {{est: {{{_ENABLED}, labels: {{a: {{}}}}}}}}"
        )

        assert fault.startswith(
            "trstctl.yaml:2:18: protocols.est: unknown authority"
        )

    def test_paths_must_not_collide(self, faults: Faults) -> None:
        """Neither equal nor one below the other."""
        text = f"protocols: {{a: {{{_ENABLED}}}, b: {{{_ENABLED}}}}}"
        one = _Plugin("a", served=("/x", "/x/y"))

        for path in ("/x", "/x/y/z", "/"):
            told = faults(text, one, _Plugin("b", served=(path,)))
            assert "protocols.b: answers at" in told[0]

    def test_refused_value_is_not_looked_for(self, faults: Faults) -> None:
        """A value that was left out leaves its default, and one fault."""
        (fault,) = faults(
            "authorities: {other: {}}\n"
            f"protocols: {{est: {{{_ENABLED}, authority: !x other}}}}"
        )[1:]

        assert "has the tag !x" in fault

    def test_neighbouring_paths_are_fine(self, read: Load) -> None:
        """A common beginning is no collision."""
        read(
            f"protocols: {{a: {{{_ENABLED}}}, b: {{{_ENABLED}}}, c: {{}}}}",
            _Plugin("a", served=("/x",)),
            _Plugin("b", served=("/xy",)),
            _Plugin("c", served=("/x",)),
        )

    @pytest.mark.parametrize(
        ("listeners", "key"),
        [
            ("ops: {port: 8443}", "ops"),
            ("http: {enabled: true, port: 8443}", "http"),
            ("http: {enabled: true, port: 9443, interface: '::'}", "ops"),
            (
                "https: {port: 9443, interface: 127.0.0.1}",
                "ops",
            ),
        ],
    )
    def test_ports_must_differ(
        self, faults: Faults, listeners: str, key: str
    ) -> None:
        """Where their interfaces meet."""
        (fault,) = faults(f"listeners: {{{listeners}}}")

        assert f"listeners.{key}.port: port " in fault
        assert "choose another" in fault

    @pytest.mark.parametrize(
        "listeners",
        [
            "http: {port: 8443}",
            "https: {port: 0}, ops: {port: 0}",
            "https: {port: 9443, interface: 192.0.2.1}",
        ],
    )
    def test_ports_that_do_not_meet_are_fine(
        self, read: Load, listeners: str
    ) -> None:
        """Disabled, any free port, or another interface."""
        read(f"listeners: {{{listeners}}}")

    @pytest.mark.parametrize("method", ["endpoints", "paths"])
    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (ValueError("not\nso"), "protocols.est: not so"),
            (KeyError("x"), "the plugin failed: KeyError: 'x'"),
        ],
    )
    def test_failing_plugin_is_told(
        self, faults: Faults, method: str, error: Exception, words: str
    ) -> None:
        """At its section, in one line."""

        class Failing(_Plugin):
            """Fails in one method."""

        def fail(self: object, settings: object) -> None:
            raise error

        setattr(Failing, method, fail)
        (fault,) = faults(
            f"protocols: {{est: {{{_ENABLED}}}}}", Failing("est")
        )

        assert fault.startswith("trstctl.yaml:1:13: ")
        assert words in fault

    def test_plugin_without_schema_is_told(self, faults: Faults) -> None:
        """A class that cannot be imported is no traceback."""
        (fault,) = faults("protocols: {est: {}}", _Failing("est"))

        assert "the plugin failed: ImportError: no module" in fault


class OutputTests:
    """``trstctl config schema|show``."""

    def test_schema_describes_every_section(self) -> None:
        """Plugins' sections included, unknown keys excluded."""
        schema = json_schema({"est": _Plugin("est")})

        assert schema["additionalProperties"] is False
        assert "est" in schema["$defs"]["Protocols"]["properties"]
        assert "api_key" in schema["$defs"]["_Settings"]["properties"]
        json.dumps(schema)

    def test_schema_has_defaults_that_can_be_written(self) -> None:
        """What an editor fills in as a duration is one."""
        definitions = json_schema({})["$defs"]
        limits = definitions["Limits"]["properties"]
        crl = definitions["CRLSettings"]["properties"]

        assert "15m" == limits["retry_window"]["default"]
        assert "0s" == crl["delta_interval"]["default"]
        assert 64 == limits["running"]["default"]
        for section in definitions.values():
            for key in section.get("properties", {}).values():
                if "pattern" in key and key.get("default") is not None:
                    assert re.match(key["pattern"], key["default"])

    def test_effective_can_be_loaded_again(self, read: Load) -> None:
        """All defaults are shown, and mean the same."""
        first = read(
            f"protocols: {{est: {{{_ENABLED}, words: [a]}}}}\n"
            "limits: {retry_window: 90s, hold_timeout: 0s, "
            "key_retention: 36h}\n"
            "profiles: {a: {renewal_window: 10d}}\n"
            "authorities: {issuing: }\n"
        )

        second = read(json.dumps(effective(first)))

        assert first == second

    def test_effective_masks_secrets(self, read: Load) -> None:
        """References are shown, secrets are not."""
        shown = effective(
            read(
                "store: postgresql://me:hunter2@db/x\n"
                "protocols: {est: {api_key: hunter2, password: 'env:P', "
                "words: [a]}}"
            )
        )

        assert "hunter2" not in json.dumps(shown)
        assert "postgresql://me:***@db/x" == shown["store"]
        assert "env:P" == shown["protocols"]["est"]["password"]

    def test_effective_is_plain_yaml(self, read: Load, tmp_path: Path) -> None:
        """It consists of values that any writer knows."""
        with (tmp_path / "out.yaml").open("w") as stream:
            YAML(typ="safe", pure=True).dump(
                effective(read("log: {}")), stream
            )


class SecretTests:
    """References to secrets."""

    def _file(self, tmp_path: Path, octets: bytes = b"hunter2\n") -> Path:
        path = tmp_path / "secret"
        path.write_bytes(octets)
        path.chmod(0o600)
        return path

    def test_secret_hides_itself(self) -> None:
        """Neither ``repr`` nor ``str`` shows it."""
        secret = Secret(b"hunter2")

        assert "hunter2" not in f"{secret!r} {secret}"

    def test_file_is_read(self, tmp_path: Path) -> None:
        """As octets, and as text without its last line feed."""
        secret = read_secret(f"file:{self._file(tmp_path)}", {})

        assert b"hunter2\n" == secret.octets
        assert "hunter2" == secret.text

    def test_windows_line_end_is_no_secret(self) -> None:
        """One line end is taken off, whatever its form; spaces are kept."""
        assert " a \n" == Secret(b" a \n\r\n").text

    def test_text_must_be_utf_8(self) -> None:
        """The error does not show the octets."""
        with pytest.raises(SecretError, match="not text in UTF-8"):
            _ = Secret(b"\xff").text

    def test_environment_is_read(self) -> None:
        """By the name of the variable."""
        assert "x" == read_secret("env:NAME", {"NAME": "x"}).text

    def test_credential_is_read(self, tmp_path: Path) -> None:
        """From systemd's directory; its mode tells nothing."""
        self._file(tmp_path).chmod(0o440)
        environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

        assert "hunter2" == read_secret("cred:secret", environment).text

    @pytest.mark.parametrize(
        ("reference", "words"),
        [
            ("env:NAME", "set the environment variable NAME"),
            ("env:BLANK", "set the environment variable BLANK"),
            ("cred:x", "add LoadCredential=x:PATH"),
            ("file:/nonexistent", "No such file"),
            ("file:/", "is not a regular file"),
        ],
    )
    def test_missing_secret_has_a_remedy(
        self, reference: str, words: str
    ) -> None:
        """One sentence that begins with the reference."""
        with pytest.raises(SecretError) as caught:
            read_secret(reference, {"BLANK": " \n"})

        assert str(caught.value).startswith(f"{reference}: ")
        assert words in str(caught.value)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o777])
    def test_open_file_is_refused(self, tmp_path: Path, mode: int) -> None:
        """With the command that closes it."""
        path = self._file(tmp_path)
        path.chmod(mode)

        with pytest.raises(SecretError, match=f"chmod 600 {path}"):
            read_secret(f"file:{path}", {})

    def test_target_of_a_link_is_judged(self, tmp_path: Path) -> None:
        """A link is followed, and does not hide an open file."""
        path = self._file(tmp_path)
        link = tmp_path / "link"
        link.symlink_to(path)

        assert "hunter2" == read_secret(f"file:{link}", {}).text
        path.chmod(0o644)
        with pytest.raises(SecretError, match="mode 0644"):
            read_secret(f"file:{link}", {})

    def test_file_of_another_user_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With the command that takes it over."""
        path = self._file(tmp_path)
        status = os.stat_result((0o100600, 1, 1, 1, 4242, 1, 7, 0, 0, 0))
        monkeypatch.setattr(os, "fstat", lambda _: status)

        with pytest.raises(SecretError, match=r"belongs to user 4242.*chown"):
            read_secret(f"file:{path}", {})

    def test_pipe_does_not_block(self, tmp_path: Path) -> None:
        """A named pipe is refused at once."""
        os.mkfifo(tmp_path / "pipe", 0o600)

        with pytest.raises(SecretError, match="regular"):
            read_secret(f"file:{tmp_path}/pipe", {})

    @pytest.mark.parametrize(
        ("octets", "words"), [(b"\n", "empty"), (b"x" * (LIMIT + 1), "larger")]
    )
    def test_size_is_bounded(
        self, tmp_path: Path, octets: bytes, words: str
    ) -> None:
        """Neither nothing nor a disk image."""
        with pytest.raises(SecretError, match=words):
            read_secret(f"file:{self._file(tmp_path, octets)}", {})

    def test_largest_secret_is_read(self, tmp_path: Path) -> None:
        """Exactly the limit passes."""
        path = self._file(tmp_path, b"x" * LIMIT)

        assert LIMIT == len(read_secret(f"file:{path}", {}).octets)

    @pytest.mark.parametrize(
        "text",
        ["hunter2", "", "FILE:x", "http://x", "file:", "env:", "file:\0"],
    )
    def test_bare_text_is_refused(self, text: str) -> None:
        """And not repeated, since it may be the secret."""
        with pytest.raises(
            ValueError, match=r"write file:PATH|needs"
        ) as caught:
            check_reference(text)

        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        "name", ["../x", "a/b", ".", "..", "a b", "x" * 256, "x\n"]
    )
    def test_credential_name_stays_in_its_directory(self, name: str) -> None:
        """A name is no path."""
        with pytest.raises(ValueError, match="needs a name"):
            check_reference(f"cred:{name}")
