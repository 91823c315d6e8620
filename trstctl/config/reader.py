# SPDX-License-Identifier: MIT
"""
Reads the configuration, and tells everything that is wrong with it at once.

Three passes over one tree of values: its shape (each section against its
model, each protocol's against its plugin's), its profiles (which must
compile), and what spans sections (endpoints name profiles and authorities
that exist, listeners and protocols do not collide).  A section that fails one
pass is left out of the next; the others are not.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trstctl.config.model import Configuration, Document, Listeners
from trstctl.config.output import effective, json_schema
from trstctl.config.paths import resolved
from trstctl.config.profiles import ProfileSection
from trstctl.config.shapes import known_keys, without_gaps
from trstctl.config.tree import (
    ConfigurationError,
    Fault,
    Location,
    Tree,
    read_tree,
)
from trstctl.interfaces import IEnrollmentProtocol
from trstctl.key_maker import makeable
from trstctl.log import is_secret
from trstctl.model import Endpoint
from trstctl.policy.settings import (
    ProfileSettings,
    builtin_profiles,
    faults,
    gateway_profiles,
)
from trstctl.settings import ProtocolSettings

__all__ = [
    "ConfigurationError",
    "Fault",
    "effective",
    "json_schema",
    "load",
]

_Model = TypeVar("_Model", bound=BaseModel)

_TENANT_REMEDY = (
    "missing; an enabled protocol serves one tenant: add tenant_id: "
    '"11111111-1111-1111-1111-111111111111", or a UUID of your own'
)

_SECTION = "must be a section: keys with their values, indented below"

#: What pydantic's errors mean to an operator, by their type.
_MEANINGS: Mapping[str, str] = {
    "bool_type": "must be true or false",
    "dict_type": _SECTION,
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "list_type": "must be a list, such as [one, two]",
    "literal_error": "must be {expected}",
    "missing": "missing; add it",
    "model_attributes_type": _SECTION,
    "model_type": _SECTION,
    "path_type": "must be a path; put it in quotes",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_type": "must be text; put it in quotes",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entries",
    "tuple_type": "must be a list, such as [one, two]",
    "value_error": "{error}",
}


def load(
    path: Path, plugins: Mapping[str, IEnrollmentProtocol]
) -> Configuration:
    """
    Read, check and resolve the configuration.

    Opens no file but this one: whether the files that it names are there
    and fit together is for those who open them.

    :param plugins: the discovered protocols by name.
    :raises ConfigurationError: with every fault.
    """
    return _Reading(read_tree(path), path, plugins).configuration()


class _Reading:
    """One reading of one file."""

    def __init__(
        self,
        tree: Tree,
        path: Path,
        plugins: Mapping[str, IEnrollmentProtocol],
    ) -> None:
        self._tree = tree
        self._path = path
        self._plugins = plugins

    def configuration(self) -> Configuration:
        """Make all passes."""
        values = self._tree.values
        document = self._validated(Document, values, ())
        protocols = self._protocols(values.get("protocols"))
        profiles = self._profiles()
        endpoints = {
            name: self._endpoints(name, settings)
            for name, settings in protocols.items()
            if settings.enabled
        }
        for name, served in endpoints.items():
            self._check_endpoints(name, served)
            self._check_gates(name, served, profiles)
            self._check_keys(name, served, profiles)
            self._check_scopes(name, served, profiles)
        self._check_paths(protocols)
        listeners = _quietly(Listeners, values.get("listeners"))
        if listeners is not None:
            self._check_ports(listeners)
        if self._tree.faults or document is None:
            raise ConfigurationError(self._tree.faults)
        return Configuration(
            path=self._path.absolute(),
            document=resolved(
                document.model_copy(update={"protocols": protocols}),
                self._path.absolute().parent,
            ),
            profiles=profiles,
            endpoints=endpoints,
            names_authorities="authorities" in document.model_fields_set,
        )

    # shape ------------------------------------------------------------------

    def _validated(
        self, model: type[Any], values: object, location: Location
    ) -> Any:
        """Return an instance of the model, or ``None`` and its faults."""
        try:
            # From JSON, so that a list may become a tuple and a text an
            # address or a path; everything else stays strict.
            return model.model_validate_json(without_gaps(model, values))
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self._tell(model, detail, location)
            return None

    def _tell(
        self, model: type[Any], detail: ErrorDetails, section: Location
    ) -> None:
        """Turn one of pydantic's errors into a fault."""
        tree = self._tree
        kind = detail["type"]
        inner = self._location(detail["loc"], section, kind == "missing")
        location = (*section, *inner)
        if location in tree.refused:
            return  # told already
        if kind == "extra_forbidden":
            known = sorted(known_keys(model, inner[:-1]))
            tree.blame(location, _unknown("key", str(inner[-1]), known))
            return
        context = detail.get("ctx", {})
        if kind == "too_short" and len(detail["input"]) >= context.get(
            "min_length", 0
        ):
            return  # an entry has a fault, which is told by itself
        meaning = _MEANINGS.get(kind)
        text = meaning.format(**context) if meaning else detail["msg"]
        text += _shown(detail["input"], location, kind)
        if detail["loc"][-1:] == ("[key]",):
            tree.blame(location, text)
        else:
            tree.blame_value(location, text)

    def _location(
        self, found: Sequence[str | int], section: Location, missing: bool
    ) -> Location:
        """Return a location without pydantic's own marks, as of a union."""
        inner: Location = ()
        for number, step in enumerate(found, 1):
            here = (*section, *inner, step)
            last = missing and number == len(found)
            if last or here in self._tree.keys or here in self._tree.places:
                inner = (*inner, step)
        return inner

    def _protocols(self, sections: object) -> dict[str, ProtocolSettings]:
        """Validate each protocol's section against its plugin's schema."""
        valid: dict[str, ProtocolSettings] = {}
        if not isinstance(sections, dict):
            return valid  # the document's own pass has told it
        for name, section in sections.items():
            location = ("protocols", name)
            plugin = self._plugins.get(name)
            if plugin is None:
                text = _unknown("protocol", name, sorted(self._plugins))
                self._tree.blame(location, text)
                continue
            try:
                schema = plugin.settings_schema()
                serves_tenant = schema.serves_tenant  # type: ignore[attr-defined]
            except Exception as error:  # noqa: BLE001 - of a third party
                self._blame_plugin(location, error)
                continue
            if serves_tenant:
                self._check_tenant(section, location)
            settings = self._validated(schema, section, location)
            if settings is not None:
                valid[name] = settings
        for name, plugin in self._plugins.items():
            if name not in sections and getattr(plugin, "unasked", False):
                valid[name] = self._validated(
                    plugin.settings_schema(), {}, ("protocols", name)
                )
        return valid

    def _check_tenant(self, section: object, location: Location) -> None:
        """Refuse an enabled protocol without a tenant."""
        tenant = (*location, "tenant_id")
        if (
            isinstance(section, dict)
            and section.get("enabled") is True
            and section.get("tenant_id") is None
            and tenant not in self._tree.refused
        ):
            self._tree.blame(tenant, _TENANT_REMEDY)

    def _blame_plugin(self, location: Location, error: Exception) -> None:
        """Say that a plugin failed over its settings."""
        text = " ".join(str(error).split())
        if not isinstance(error, ValueError):
            text = f"the plugin failed: {type(error).__name__}: {text}"
        self._tree.blame(location, text)

    # profiles ---------------------------------------------------------------

    def _profiles(self) -> dict[str, ProfileSettings]:
        """Return all profiles, the file's own judged by their policy."""
        profiles = builtin_profiles()
        given = self._tree.values.get("profiles")
        for name, values in given.items() if isinstance(given, dict) else ():
            section = _quietly(ProfileSection, values)
            if section is None:
                continue  # the document's own pass has told it
            settings = profiles[name] = section.settings()
            for key, text in faults(settings):
                location = ("profiles", name, *key.split("."))
                self._tree.blame_value(location, text)
            if name in gateway_profiles():
                text = "this name is the gateway's own; choose another"
                self._tree.blame(("profiles", name), text)
        return profiles

    # what spans sections ----------------------------------------------------

    def _endpoints(
        self, name: str, settings: ProtocolSettings
    ) -> tuple[Endpoint, ...]:
        """Return the endpoints that a protocol makes of its settings."""
        if settings.serves_tenant and settings.tenant_id is None:
            return ()  # told already
        try:
            return tuple(self._plugins[name].endpoints(settings))
        except Exception as error:  # noqa: BLE001 - of a third party
            self._blame_plugin(("protocols", name), error)
            return ()

    def _check_endpoints(
        self, name: str, endpoints: Sequence[Endpoint]
    ) -> None:
        """Refuse an endpoint whose profile or authority does not exist."""
        for key, section, known in (
            ("profile", "profiles", self._named("profiles")),
            ("authority", "authorities", self._named("authorities")),
        ):
            for wanted in {getattr(each, key) for each in endpoints} - known:
                location = self._mention(name, key, wanted)
                hint = _unknown(key, wanted, sorted(known))
                self._tree.blame_value(
                    location, f"{hint}; or add it to {section}"
                )

    def _check_gates(
        self,
        name: str,
        endpoints: Sequence[Endpoint],
        profiles: Mapping[str, ProfileSettings],
    ) -> None:
        """
        Refuse an endpoint where anybody would get a certificate, and one
        where nobody would.
        """
        for endpoint in endpoints:
            profile = profiles.get(endpoint.profile)
            if (
                not endpoint.may_wait
                and profile
                and profile.approval != "none"
            ):
                where = f"labels.{endpoint.name}" if endpoint.name else "here"
                self._tree.blame(
                    ("protocols", name),
                    f"{where}, clients cannot wait for an approval: choose a "
                    f"profile without one (not {endpoint.profile})",
                )
            if not endpoint.gated and profile and profile.approval == "none":
                where = f"labels.{endpoint.name}" if endpoint.name else "here"
                self._tree.blame(
                    ("protocols", name),
                    f"{where}, nothing is asked of whoever enrolls: choose a "
                    f"challenge, or a profile with approval (not "
                    f"{endpoint.profile})",
                )

    def _check_keys(
        self,
        name: str,
        endpoints: Sequence[Endpoint],
        profiles: Mapping[str, ProfileSettings],
    ) -> None:
        """Refuse to make keys where each of them would be refused."""
        for endpoint in endpoints:
            profile = profiles.get(endpoint.profile)
            if not endpoint.makes_keys or profile is None:
                continue
            where = f"labels.{endpoint.name}" if endpoint.name else "here"
            if not profile.server_key_generation:
                self._tree.blame(
                    ("protocols", name),
                    f"{where}, keys are made for devices, which profile "
                    f"{endpoint.profile} does not allow: give it "
                    "server_key_generation: true, or choose another profile",
                )
            elif not makeable(
                profile.key_types,
                (profile.rsa_bits_min, profile.rsa_bits_max),
            ):
                self._tree.blame(
                    ("protocols", name),
                    f"{where}, keys are made for devices, but none of those "
                    f"that profile {endpoint.profile} allows can be: add a "
                    "type to its key_types, or choose another profile",
                )

    def _check_scopes(
        self,
        name: str,
        endpoints: Sequence[Endpoint],
        profiles: Mapping[str, ProfileSettings],
    ) -> None:
        """Refuse a registration authority that could never be one."""
        known = self._named("profiles")
        scopes = {scope for each in endpoints for scope in each.scopes}
        for scope in sorted(scopes, key=lambda each: each.name):
            where = f"registration_authorities.{scope.name}"
            own = scope.certificate_profile
            for wanted in sorted({own, *scope.profiles} - known - {""}):
                hint = _unknown("profile", wanted, sorted(known))
                self._tree.blame(
                    ("protocols", name),
                    f"{where}, {hint}; or add it to profiles",
                )
            profile = profiles.get(own)
            if profile and "cmcRA" not in profile.extended_key_usage:
                self._tree.blame(
                    ("protocols", name),
                    f"{where}, certificates of profile {own} are not for it: "
                    "add cmcRA to its extended_key_usage",
                )

    def _named(self, section: str) -> set[str]:
        """Return the names that exist, also of sections with faults."""
        given = self._tree.values.get(section)
        own = set(given) if isinstance(given, dict) else set()
        if section == "profiles":
            return own | set(builtin_profiles())
        return own or {"issuing"}

    def _mention(self, name: str, key: str, value: str) -> Location:
        """Return where a protocol's section says so, or the section."""
        section: Location = ("protocols", name)
        for location in self._tree.keys:
            if (
                location[:2] == section
                and location[-1] == key
                and _value_at(self._tree.values, location) == value
            ):
                return location
        return section

    def _check_paths(self, protocols: Mapping[str, ProtocolSettings]) -> None:
        """Refuse two enabled protocols that answer at one path."""
        owners: list[tuple[str, str]] = []
        for name, settings in protocols.items():
            if not settings.enabled:
                continue
            try:
                paths = self._plugins[name].paths(settings)
            except Exception as error:  # noqa: BLE001 - of a third party
                self._blame_plugin(("protocols", name), error)
                continue
            for path in paths:
                for other, taken in owners:
                    if other != name and _overlap(path, taken):
                        self._tree.blame(
                            ("protocols", name),
                            f"answers at {path}, and {other} at {taken}; "
                            "disable one of them",
                        )
                owners.append((name, path))

    def _check_ports(self, listeners: Listeners) -> None:
        """Refuse two listeners on one port; port 0 means any free one."""
        taken: list[tuple[str, str, int]] = []
        for name, listener in (
            ("https", listeners.https),
            ("http", listeners.http if listeners.http.enabled else None),
            ("ops", listeners.ops),
        ):
            if listener is None or not listener.port:
                continue
            for other, interface, port in taken:
                if port == listener.port and _same_interface(
                    interface, listener.interface
                ):
                    self._tree.blame_value(
                        ("listeners", name, "port"),
                        f"port {port} is listeners.{other}'s, too; "
                        "choose another",
                    )
            taken.append((name, listener.interface, listener.port))


def _quietly(model: type[_Model], values: object) -> _Model | None:
    """Return an instance of the model, unless the values have a fault."""
    try:
        return model.model_validate_json(without_gaps(model, values))
    except ValidationError:
        return None


# --- words ------------------------------------------------------------------


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    """Say that a name is unknown, and which one may be meant."""
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"unknown {what} (did you mean {close[0]}?)"
    names = ", ".join(known) or "none"
    return f"unknown {what}; known here: {names}"


def _shown(value: object, location: Location, kind: str) -> str:
    """Return what was found instead, unless it may be a secret or long."""
    if kind in ("missing", "value_error") or any(
        isinstance(step, str) and is_secret(step) for step in location
    ):
        return ""
    if value is None:
        return ", not empty"
    if isinstance(value, bool):
        return f", not {str(value).lower()}"
    if isinstance(value, int | float):
        return f", not {value}"
    if isinstance(value, str) and len(value) <= 40:
        return f", not the text {json.dumps(value)}"
    return ""


def _value_at(values: Any, location: Location) -> object:
    """Return the value at a key of the tree; ``None`` if it was refused."""
    for step in location:
        values = values.get(step) if isinstance(values, dict) else values[step]
    return values


def _overlap(one: str, other: str) -> bool:
    """Tell whether one of two paths is the other or above it."""
    first, second = sorted((one.rstrip("/") + "/", other.rstrip("/") + "/"))
    return second.startswith(first)


def _same_interface(one: str, other: str) -> bool:
    """Tell whether two listeners would meet; an empty name means all."""
    everything = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
    return one == other or one in everything or other in everything
