"""Small YAML files with fixed fields, such as kurtosis.yml, with the place of everything in them.

Every fault of a file is found in one pass: unknown and repeated keys, and values of the wrong shape. Scalars are
taken as they are written (`name: 010` is the text `010`), as Go does for fields that are strings; null is absent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import msgspec

from pytest_enclave.golang.yaml_nodes import YamlError, first_node
from pytest_enclave.golang.yaml_scalars import scalar

if TYPE_CHECKING:
    import yaml

__all__ = ["Position", "Problem", "StrictDocument", "StrictYamlError", "load_strict"]


class Position(msgspec.Struct, frozen=True):
    """A place in a text; `line` and `column` (in characters) count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong with the file. `text` is Go's, without line and type name."""

    text: str
    position: Position


class StrictYamlError(YamlError):
    """The file is YAML, but not what it should be. `problems` holds every fault, in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        lines = (f"\n  line {problem.position.line}: {problem.text}" for problem in problems)
        super().__init__("yaml: unmarshal errors:" + "".join(lines))
        self.problems = problems


class StrictDocument(msgspec.Struct, frozen=True):
    """What the file says. Fields that are absent or null are in neither mapping.

    `positions` has the place of each value by its path: `("name",)`, `("replace", "github.com/a/b")`.
    """

    texts: dict[str, str]
    maps: dict[str, dict[str, str]]
    positions: dict[tuple[str, ...], Position]


def load_strict(text: str, *, texts: Collection[str], maps: Collection[str] = ()) -> StrictDocument:
    """Read a file whose fields are `texts` (strings) and `maps` (string to string); there may be no others.

    Raises `StrictYamlError` with all problems, `YamlError` for what is no YAML at all.
    """
    node = first_node(text)
    reader = _Reader(texts, maps)
    if node is not None:
        reader.document(node)
    if reader.problems:
        raise StrictYamlError(tuple(reader.problems))
    return reader.result


class _Reader:
    def __init__(self, texts: Collection[str], maps: Collection[str]) -> None:
        self.problems: list[Problem] = []
        self.result = StrictDocument({}, {}, {})
        self._texts = texts
        self._maps = maps

    def document(self, node: yaml.Node) -> None:
        for name, key, value in self._pairs(node, "a mapping", "field {} already set"):
            if name in self._texts:
                text = self._text(value)
                if text is not None:
                    self.result.texts[name] = text
                    self.result.positions[(name,)] = _position(value)
            elif name in self._maps:
                self._map(name, value)
            else:
                self.problems.append(Problem(f"field {name} not found", _position(key)))

    def _map(self, field: str, node: yaml.Node) -> None:
        if _is_null(node):
            return
        self.result.positions[(field,)] = _position(node)
        content = self.result.maps.setdefault(field, {})
        for name, _, value in self._pairs(node, "map[string]string", 'key "{}" already set in map'):
            text = self._text(value)
            content[name] = text or ""
            self.result.positions[(field, name)] = _position(value)

    def _pairs(self, node: yaml.Node, target: str, repeated: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        import yaml

        if _is_null(node):
            return
        if not isinstance(node, yaml.MappingNode):
            self._wrong_shape(node, target)
            return
        seen: set[str] = set()
        for key, value in node.value:
            name = self._text(key)
            if name is None:
                continue
            if name in seen:
                self.problems.append(Problem(repeated.format(name), _position(key)))
                continue
            seen.add(name)
            yield name, key, value

    def _text(self, node: yaml.Node) -> str | None:
        """The text of a scalar, None for null or (with a problem noted) for anything that is no scalar."""
        import yaml

        if not isinstance(node, yaml.ScalarNode):
            self._wrong_shape(node, "string")
            return None
        value = scalar(node.tag, node.value)
        if value is None:
            return None
        return value if node.tag.endswith(":binary") and isinstance(value, str) else str(node.value)

    def _wrong_shape(self, node: yaml.Node, target: str) -> None:
        import yaml

        found = "!!map" if isinstance(node, yaml.MappingNode) else "!!seq"
        if isinstance(node, yaml.ScalarNode):
            found = f"!!{_kind(node)} `{node.value}`"
        self.problems.append(Problem(f"cannot unmarshal {found} into {target}", _position(node)))


def _is_null(node: yaml.Node) -> bool:
    import yaml

    return isinstance(node, yaml.ScalarNode) and scalar(node.tag, node.value) is None


def _kind(node: yaml.Node) -> str:
    names = {bool: "bool", int: "int", float: "float"}
    return names.get(type(scalar(node.tag, node.value)), "str")


def _position(node: yaml.Node) -> Position:
    mark = node.start_mark
    return Position(mark.line + 1, mark.column + 1)
