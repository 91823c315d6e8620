# SPDX-License-Identifier: MIT
"""
What a pydantic model says of its keys: for suggestions, and for keys that
stand in the file without a value.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from trstctl.config.tree import Location


def without_gaps(model: type[BaseModel], values: object) -> str:
    """
    Return values as JSON, once what was left empty is filled in.

    A known key without a value counts as left out; a section without
    content, of those that have a name of their own, as one of all defaults.
    """
    return json.dumps({} if values is None else _filled([model], values))


def _filled(kinds: list[Any], values: Any) -> Any:
    """Return the values that stand where one of these kinds is wanted."""
    if isinstance(values, list):
        return [
            _filled(_all_below(kinds, index), value)
            for index, value in enumerate(values)
        ]
    if not isinstance(values, dict):
        return values
    models = [kind for kind in kinds if _is_model(kind)]
    filled = {}
    for key, value in values.items():
        below = _all_below(kinds, key)
        if value is not None:
            filled[key] = _filled(below, value)
        elif any(key in model.model_fields for model in models):
            continue
        elif any(map(_is_model, below)):
            filled[key] = {}
        else:
            filled[key] = None
    return filled


def known_keys(model: object, location: Location) -> Iterator[str]:
    """Yield the keys that a section may have."""
    kinds = _sections(model)
    for step in location:
        kinds = _all_below(kinds, step)
    for kind in kinds:
        if _is_model(kind):
            yield from kind.model_fields


def _is_model(kind: Any) -> bool:
    """Tell whether a kind of value is a section with keys of its own."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _all_below(kinds: list[Any], step: str | int) -> list[Any]:
    """Return the kinds of value one step below any of these."""
    return [
        section
        for kind in kinds
        for inner in _below(kind, step)
        for section in _sections(inner)
    ]


def _sections(annotation: object) -> list[Any]:
    """Return the models, dictionaries and lists that an annotation admits."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _sections(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [
            section
            for inner in get_args(annotation)
            for section in _sections(inner)
        ]
    return [annotation]


def _below(kind: Any, step: str | int) -> list[object]:
    """Return the annotation of what is one step below."""
    if _is_model(kind):
        found = kind.model_fields.get(str(step))
        return [] if found is None else [found.annotation]
    return [inner for inner in get_args(kind)[-2:] if inner is not ...][-1:]
