# SPDX-License-Identifier: MIT
"""What ``trstctl config schema`` and ``trstctl config show`` print."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, create_model

from trstctl.config.model import Configuration, Document
from trstctl.config.secrets import check_reference
from trstctl.interfaces import IEnrollmentProtocol
from trstctl.log import MASK, is_secret
from trstctl.settings import write_duration


def json_schema(
    plugins: Mapping[str, IEnrollmentProtocol],
) -> dict[str, Any]:
    """
    Return the JSON schema of the file, for editors.

    :param plugins: the protocols whose sections are described.
    """
    sections: dict[str, Any] = {
        name: (plugin.settings_schema() | None, None)
        for name, plugin in sorted(plugins.items())
    }
    protocols = create_model(
        "Protocols", __config__=Document.model_config, **sections
    )
    whole = create_model(
        "Configuration", __base__=Document, protocols=(protocols | None, None)
    )
    schema: dict[str, Any] = whole.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    _write_durations(schema)
    return schema


def _write_durations(schema: dict[str, Any]) -> None:
    """Write the defaults of durations as the file would have them."""
    waiting: list[Any] = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            default = node.get("default")
            if node.get("type") == "string" and isinstance(default, int):
                node["default"] = write_duration(default)
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def effective(configuration: Configuration) -> dict[str, Any]:
    """
    Return the configuration with its defaults, as plain values.

    It can be loaded again.  References to secrets are shown; a text that
    stands where a secret may stand, and a password in the store's URL, are
    masked.
    """
    shown = configuration.document.model_dump(mode="json", exclude_none=True)
    shown["protocols"] = {
        name: _masked(
            section,
            frozenset(_choices(type(configuration.document.protocols[name]))),
        )
        for name, section in shown["protocols"].items()
    }
    shown["store"] = re.sub(
        r"(//[^/@:]*):[^/@]*@", rf"\1:{MASK}@", configuration.store
    )
    return shown


def _choices(model: type[BaseModel]) -> Iterator[str]:
    """Yield every text that a key of the model can be chosen from."""
    waiting: list[Any] = [model.model_json_schema()]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            chosen = node.get("enum", ())
            yield from (one for one in chosen if isinstance(one, str))
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _masked(value: Any, choices: frozenset[str], name: str = "") -> Any:
    """
    Return the value without what may be a secret.

    :param choices: what the schema itself offers is none.
    """
    if isinstance(value, dict):
        return {
            key: _masked(below, choices, key) for key, below in value.items()
        }
    if isinstance(value, list):
        return [_masked(below, choices, name) for below in value]
    if value in choices:
        return value
    if isinstance(value, str) and value and is_secret(name):
        try:
            return check_reference(value)
        except ValueError:
            return MASK
    return value
