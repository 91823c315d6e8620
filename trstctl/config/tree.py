# SPDX-License-Identifier: MIT
"""
YAML to plain values, each with its place in the file.

Reads the small part of YAML 1.2 that a configuration needs: mappings,
sequences, scalars.  Anchors, aliases, merges and tags are refused: they would
give one value two places, and a small file a huge content.  What is wrong is
collected, so that one reading tells everything; only what cannot be parsed
ends it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

#: Octets of the largest file.
LIMIT = 1024 * 1024

#: Levels of nesting.
DEPTH = 20

#: Brackets that are open at once, before anything is parsed.
FLOW_DEPTH = 100

#: Of the largest number that can be meant.
INTEGER_BITS = 1024

#: Where a value is in the file: keys and indices from the top.
Location = tuple[str | int, ...]

_BRACKET = re.compile(r"[\[\]{}]")
_YAML = "tag:yaml.org,2002:"
_TRUE = ("true", "True", "TRUE")
_FALSE = ("false", "False", "FALSE")

#: What a value becomes that is refused: it is left out.
_REFUSED = object()


@frozen(order=True)
class Place:
    """A place in the file; both numbers begin at 1."""

    line: int = 1
    column: int = 1


@frozen(order=True)
class Fault:
    """
    One thing that is wrong.

    :ivar key: dotted; empty if the fault is no key's.
    :ivar text: what is wrong, and the remedy.
    """

    file: str
    place: Place
    key: str
    text: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return (
            f"{self.file}:{self.place.line}:{self.place.column}: "
            f"{key}{self.text}"
        )


class ConfigurationError(Exception):
    """
    The configuration cannot be used.

    :ivar faults: everything that is wrong, in the order of the file.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = sorted(set(faults))
        super().__init__("\n".join(map(str, self.faults)))


@define
class Tree:
    """
    The content of a file.

    :ivar values: dictionaries, lists, text, numbers, booleans, ``None``.
    :ivar keys: where each key stands.
    :ivar places: where each value stands.
    :ivar refused: where a value was left out of the values.
    :ivar faults: everything that is wrong so far.
    """

    file: str
    values: dict[str, Any] = field(factory=dict)
    keys: dict[Location, Place] = field(factory=dict)
    places: dict[Location, Place] = field(factory=dict)
    refused: set[Location] = field(factory=set)
    faults: list[Fault] = field(factory=list)

    def blame(self, location: Location, text: str) -> None:
        """Add a fault at the key, or at the nearest one that exists."""
        near = location
        while near and near not in self.keys and near not in self.places:
            near = near[:-1]
        place = self.keys.get(near) or self.places.get(near, Place())
        self.add(place, location, text)

    def blame_value(self, location: Location, text: str) -> None:
        """Add a fault at the value."""
        if location in self.places:
            self.add(self.places[location], location, text)
        else:
            self.blame(location, text)

    def add(self, place: Place, location: Location, text: str) -> None:
        """Add a fault."""
        key = ".".join(map(str, location))
        self.faults.append(Fault(self.file, place, key, text))


def read_tree(path: Path) -> Tree:
    """
    Read a file.

    :raises ConfigurationError: the file cannot be read or is not YAML.
    """
    tree = Tree(str(path))
    node = _compose(tree, _text(tree, path))
    if node is None:
        raise _end(
            tree,
            Place(),
            "the file is empty; the least is a protocol, such as "
            "protocols: {est: {enabled: true, tenant_id: "
            '"11111111-1111-1111-1111-111111111111"}}',
        )
    values = _Builder(tree).build(node, ())
    if isinstance(values, dict):
        tree.values = values
    elif values is not _REFUSED:
        raise _end(
            tree, _place(node), "the file must consist of keys, such as log:"
        )
    return tree


def _end(tree: Tree, place: Place, text: str) -> ConfigurationError:
    """Return the error for a file that ends the reading."""
    tree.add(place, (), text)
    return ConfigurationError(tree.faults)


def _text(tree: Tree, path: Path) -> str:
    """Return the content of the file."""
    try:
        with path.open("rb") as stream:
            octets = stream.read(LIMIT + 1)
    except OSError as error:
        raise _end(
            tree,
            Place(),
            f"cannot be read: {error.strerror}; correct the path, let this "
            "user read it, or make one with trstctl init",
        ) from None
    if len(octets) > LIMIT:
        raise _end(
            tree, Place(), f"is larger than {LIMIT} bytes; name another file"
        )
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = octets[: error.start].decode("utf-8-sig")
        raise _end(
            tree, _after(before), "is not UTF-8; save it as UTF-8"
        ) from None


def _after(text: str) -> Place:
    """Return the place that follows the text."""
    lines = text.split("\n")
    return Place(len(lines), len(lines[-1]) + 1)


def _compose(tree: Tree, text: str) -> Any:
    """Parse the text into nodes."""
    if _brackets(text) > FLOW_DEPTH:
        raise _end(tree, Place(), "has too many open brackets; close them")
    try:
        return YAML(typ="rt", pure=True).compose(text)
    except MarkedYAMLError as error:
        place = _marked(error.problem_mark or error.context_mark)
        problem = " ".join(
            part for part in (error.context, error.problem) if part
        )
        remedy = "correct the indentation, the quotes or the brackets here"
        if "'\\t'" in problem:
            remedy = "indent with spaces"
        raise _end(tree, place, f"is not YAML: {problem}; {remedy}") from None
    except ReaderError as error:
        raise _end(
            tree,
            _after(text[: error.position]),
            "holds a control character; remove it",
        ) from None
    except (YAMLError, RecursionError, ValueError) as error:
        problem = type(error).__name__
        raise _end(
            tree, Place(), f"cannot be parsed ({problem}); make it simpler"
        ) from None


def _brackets(text: str) -> int:
    """
    Return how many brackets are open at most, those in quotes included.

    The parser's time grows with the square of this number.
    """
    depth = deepest = 0
    for bracket in _BRACKET.findall(text):
        depth = depth + 1 if bracket in "[{" else max(depth - 1, 0)
        deepest = max(deepest, depth)
    return deepest


def _marked(mark: Any) -> Place:
    """Return the place of a parser's mark."""
    return Place() if mark is None else Place(mark.line + 1, mark.column + 1)


def _place(node: Any) -> Place:
    """Return where a node begins."""
    return _marked(node.start_mark)


class _Builder:
    """Makes plain values of nodes, and notes where they stand."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def build(self, node: Any, location: Location) -> Any:
        """Return the value of a node, or ``_REFUSED``."""
        tree = self._tree
        place = tree.places[location] = _place(node)
        # An alias is the node of its anchor, so refusing these is enough.
        if node.anchor:
            tree.add(
                place,
                location,
                "anchors and aliases are not used here; write the value out",
            )
        elif len(location) > DEPTH:
            tree.add(place, location, "is nested too deeply; make it simpler")
        elif isinstance(node, MappingNode) and node.tag == _YAML + "map":
            return self._mapping(node, location)
        elif isinstance(node, SequenceNode) and node.tag == _YAML + "seq":
            values = [
                self.build(item, (*location, index))
                for index, item in enumerate(node.value)
            ]
            # The others keep their index.
            return [None if value is _REFUSED else value for value in values]
        elif isinstance(node, ScalarNode):
            return self._scalar(node, location, place)
        else:
            self._refuse_tag(node, location, place)
        tree.refused.add(location)
        return _REFUSED

    def _refuse_tag(self, node: Any, location: Location, place: Place) -> None:
        """Note a tag that a configuration has no use for."""
        tag = str(node.tag).replace(_YAML, "!!")
        self._tree.add(place, location, f"has the tag {tag}; remove the tag")

    def _mapping(self, node: Any, location: Location) -> dict[str, Any]:
        """Return a dictionary; every key is taken as text."""
        tree = self._tree
        values: dict[str, Any] = {}
        for key, value in node.value:
            # A fault shows the key, on one line of a terminal.
            if (
                not isinstance(key, ScalarNode)
                or key.anchor
                or not key.value.isprintable()
            ):
                tree.add(_place(key), location, "a key must be plain text")
                continue
            below = (*location, key.value)
            if below in tree.keys:
                tree.add(
                    _place(key),
                    below,
                    f"duplicate key (first in line {tree.keys[below].line}); "
                    "remove one of the two",
                )
                continue
            tree.keys[below] = _place(key)
            built = self.build(value, below)
            if built is not _REFUSED:
                values[key.value] = built
        return values

    def _scalar(self, node: Any, location: Location, place: Place) -> Any:
        """Return the value of a scalar, or ``_REFUSED``."""
        kind = node.tag.removeprefix(_YAML)
        read = _SCALARS.get(kind)
        if read is None:
            self._refuse_tag(node, location, place)
        else:
            try:
                return read(node.value)
            except ValueError:
                text = f"is not a valid {kind}; put it in quotes"
                self._tree.add(place, location, text)
        self._tree.refused.add(location)
        return _REFUSED


# --- scalars (YAML 1.2, section 10.3) ---------------------------------------


def _boolean(text: str) -> bool:
    """Return a boolean; YAML 1.1's other words for it are refused."""
    if text not in (*_TRUE, *_FALSE):
        raise ValueError
    return text in _TRUE


def _integer(text: str) -> int:
    """Return an integer; a leading zero does not make it octal."""
    number = int(text, 0 if text.lstrip("+-")[:2] in ("0x", "0o") else 10)
    # Python does not write integers of any length in decimal.
    if number.bit_length() > INTEGER_BITS:
        raise ValueError
    return number


def _float(text: str) -> float:
    """Return a finite number: JSON has no other."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _string(text: str) -> str:
    """Return text; half a surrogate pair is none."""
    text.encode("utf-8")
    return text


_SCALARS: Mapping[str, Callable[[str], Any]] = {
    "null": lambda _: None,
    "bool": _boolean,
    "int": _integer,
    "float": _float,
    "str": _string,
    "timestamp": _string,
}
